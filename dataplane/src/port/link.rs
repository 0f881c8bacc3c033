//! Whether ports' links are up.

use dpdk::PortHandle;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::{InterfaceFlags, if_indextoname};

/// Watches one port's link.
///
/// A driver that sits on a kernel interface does not notice when that one goes
/// down; the kernel is asked as well.
#[derive(Debug)]
pub(crate) struct LinkWatch {
    handle: PortHandle,
    interface: Option<String>,
}

impl LinkWatch {
    pub(crate) fn new(handle: PortHandle) -> Self {
        let index = handle.info().ok().and_then(|info| info.interface_index);
        let name = index.and_then(|index| if_indextoname(index).ok());
        let interface = name.and_then(|name| name.into_string().ok());
        Self { handle, interface }
    }

    fn is_up(&self, kernel: &[(String, InterfaceFlags)]) -> bool {
        let driver = self.handle.link().is_ok_and(|link| link.up);
        let Some(interface) = &self.interface else {
            return driver;
        };
        let running = InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING;
        driver
            && kernel
                .iter()
                .any(|(name, flags)| name == interface && flags.contains(running))
    }
}

/// The links of all ports, in their order.
pub(crate) fn links(watches: &[LinkWatch]) -> Vec<bool> {
    let kernel: Vec<(String, InterfaceFlags)> = if watches.iter().any(|watch| watch.interface.is_some()) {
        let all = getifaddrs().into_iter().flatten();
        all.map(|interface| (interface.interface_name, interface.flags))
            .collect()
    } else {
        Vec::new()
    };
    watches.iter().map(|watch| watch.is_up(&kernel)).collect()
}
