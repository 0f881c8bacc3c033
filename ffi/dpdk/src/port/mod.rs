//! Ethernet ports: found, configured, watched, and polled through their queues.

mod configure;
mod handle;
mod info;
mod probe;
mod queue;

pub use configure::{PortConfig, PortError, PortNote, Step as PortStep};
pub use handle::{ControlError, Link, PortHandle, PortStats, StartedPort};
pub use info::PortInfo;
pub use probe::{Port, ProbeError};
pub use queue::{RxQueue, TxQueue};

use std::sync::OnceLock;

use crate::eal::Eal;
use crate::mempool::Mempool;

/// A port in somebody's hands; stopped and closed when the last lets go.
#[derive(Debug)]
struct Shared {
    number: u16,
    /// The string it was probed with, or its PCI address: what messages call it.
    device: String,
    /// Probed here, so taken off its bus here.
    detach: bool,
    /// The pool that its receive queues fill from. Kept until the port is closed.
    pool: OnceLock<Mempool>,
    eal: Eal,
}

impl Drop for Shared {
    fn drop(&mut self) {
        let mut control = self.eal.control();
        // SAFETY: the port is open: its number is in `open_ports`, and leaves that
        // list only here. This was its last owner, so no thread is in a burst of it.
        // What cannot be stopped or removed cleanly stays with DPDK until it ends;
        // there is nobody left to tell.
        let _ = unsafe { dpdk_sys::dpdk_port_close(self.number, self.detach) };
        control.open_ports.retain(|port| *port != self.number);
        control.free_retired();
    }
}
