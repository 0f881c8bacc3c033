//! The kernel's side of this node, by netlink: the exception interfaces of the
//! data plane's ports, their addresses and routes, and the neighbours that the
//! kernel resolves on them.

mod interface;
mod neighbour;
mod route;
mod watch;

pub use interface::{InterfaceSettings, interface_settings};
pub use neighbour::{NeighbourChange, neighbour_change};
pub use route::OwnRoutes;
pub use watch::{Change, Link};

use std::net::Ipv6Addr;

use rtnetlink::Handle;

/// Why the kernel did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// A netlink request failed.
    #[error("{action} {subject}: {source}")]
    Netlink {
        /// What was tried.
        action: &'static str,
        /// With what.
        subject: String,
        /// Why not.
        source: rtnetlink::Error,
    },
    /// A file below /proc/sys could not be written.
    #[error("{path} = {value}: {source}")]
    Sysctl {
        /// The file.
        path: String,
        /// What was to be written.
        value: &'static str,
        /// Why not.
        source: std::io::Error,
    },
}

impl KernelError {
    /// Whether what was to be removed is not there.
    #[must_use]
    pub fn is_not_there(&self) -> bool {
        self.errno() == Some(nix::errno::Errno::ESRCH)
    }

    /// Whether it is the connection to the kernel that failed, not what it was asked.
    #[must_use]
    pub fn is_end(&self) -> bool {
        matches!(
            self,
            Self::Netlink {
                source: rtnetlink::Error::RequestFailed,
                ..
            }
        )
    }

    fn errno(&self) -> Option<nix::errno::Errno> {
        let Self::Netlink {
            source: rtnetlink::Error::NetlinkError(error),
            ..
        } = self
        else {
            return None;
        };
        error.to_io().raw_os_error().map(nix::errno::Errno::from_raw)
    }

    /// Whether the interface has gone: no failure, but the data plane's end.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        match self {
            Self::Sysctl { source, .. } => source.kind() == std::io::ErrorKind::NotFound,
            Self::Netlink { .. } => self.errno() == Some(nix::errno::Errno::ENODEV),
        }
    }
}

/// A connection to the kernel's routing netlink. Clones share it.
#[derive(Clone, Debug)]
pub struct Kernel {
    handle: Handle,
}

fn netlink(action: &'static str, subject: impl ToString) -> impl FnOnce(rtnetlink::Error) -> KernelError {
    let subject = subject.to_string();
    move |source| KernelError::Netlink {
        action,
        subject,
        source,
    }
}

/// As [`Ipv6Addr::is_unicast_link_local`], of an address as netlink has it.
fn ipv6(address: std::net::IpAddr) -> Option<Ipv6Addr> {
    match address {
        std::net::IpAddr::V6(address) => Some(address),
        std::net::IpAddr::V4(_) => None,
    }
}
