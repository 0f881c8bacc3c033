//! What a driver says of its port.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::ops::RangeInclusive;

use crate::errno::Errno;
use crate::port::Shared;
use crate::port::handle::ControlError;

/// What a driver says of its port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortInfo {
    /// The driver's name, such as `net_af_packet`.
    pub driver: String,
    /// Most receive queues.
    pub max_rx_queues: u16,
    /// Most transmit queues.
    pub max_tx_queues: u16,
    /// Octets of packet after the Ethernet header that it can be told to take.
    pub mtu: RangeInclusive<u16>,
    /// Receive descriptors per queue.
    pub rx_descriptors: RangeInclusive<u16>,
    /// Transmit descriptors per queue.
    pub tx_descriptors: RangeInclusive<u16>,
    /// It can spread flows over several receive queues.
    pub rss: bool,
    /// The kernel's index of the interface it sits on, if it sits on one.
    pub interface_index: Option<u32>,
    /// The NUMA node it is attached to, if it is to one.
    pub numa_node: Option<u32>,
}

/// As the shim fills it in. Call under the control lock.
pub(super) fn raw(shared: &Shared) -> Result<dpdk_sys::dpdk_port_info, Errno> {
    let mut info = MaybeUninit::uninit();
    // SAFETY: the port is open; the shim writes the whole structure if it returns zero.
    unsafe {
        Errno::check(dpdk_sys::dpdk_port_info(shared.number, info.as_mut_ptr()))?;
        Ok(info.assume_init())
    }
}

/// Call under the control lock.
pub(super) fn read(shared: &Shared) -> Result<PortInfo, ControlError> {
    let info = raw(shared).map_err(|reason| ControlError::new(shared, "device information", reason))?;
    let driver = if info.driver_name.is_null() {
        String::new()
    } else {
        // SAFETY: NUL-terminated, and kept by the driver while the port is open.
        unsafe { CStr::from_ptr(info.driver_name) }
            .to_string_lossy()
            .into_owned()
    };
    Ok(PortInfo {
        driver,
        max_rx_queues: info.max_rx_queues,
        max_tx_queues: info.max_tx_queues,
        mtu: info.min_mtu..=info.max_mtu,
        rx_descriptors: info.min_rx_descriptors..=info.max_rx_descriptors,
        tx_descriptors: info.min_tx_descriptors..=info.max_tx_descriptors,
        rss: info.rss_fields & rss_fields() != 0,
        interface_index: (info.if_index != 0).then_some(info.if_index),
        numa_node: u32::try_from(info.numa_node).ok(),
    })
}

/// The hash fields that a port with several receive queues is asked for.
pub(super) fn rss_fields() -> u64 {
    // SAFETY: returns a constant.
    unsafe { dpdk_sys::dpdk_rss_fields() }
}
