//! A port as a control thread sees it: counters, link, addresses, MTU.

use std::mem::MaybeUninit;
use std::ops::Deref;
use std::sync::Arc;

use crate::errno::Errno;
use crate::port::Shared;
use crate::port::configure::PortNote;
use crate::port::info::{self, PortInfo};

/// A port, to watch and adjust from any thread while workers poll its queues.
///
/// Keeps the port open. Operations exclude each other, not the workers.
#[derive(Clone, Debug)]
pub struct PortHandle {
    shared: Arc<Shared>,
}

/// A port that runs. Its queues may outlive it.
#[derive(Debug)]
pub struct StartedPort {
    handle: PortHandle,
    notes: Vec<PortNote>,
}

/// A control operation that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{device}: {operation}: {reason}")]
pub struct ControlError {
    /// The device string of the port.
    pub device: String,
    /// What was asked, with its value.
    pub operation: String,
    /// What the driver answered.
    pub reason: Errno,
}

impl ControlError {
    pub(super) fn new(shared: &Shared, operation: impl Into<String>, reason: Errno) -> Self {
        Self {
            device: shared.device.clone(),
            operation: operation.into(),
            reason,
        }
    }
}

/// What a port has counted since it started. Not every driver counts all of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortStats {
    /// Packets received.
    pub rx_packets: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Octets received.
    pub rx_octets: u64,
    /// Octets sent.
    pub tx_octets: u64,
    /// Packets lost because no worker took them in time.
    pub rx_missed: u64,
    /// Packets received damaged.
    pub rx_errors: u64,
    /// Packets that could not be sent.
    pub tx_errors: u64,
    /// Packets lost because the pool had no buffer.
    pub rx_no_mbuf: u64,
}

/// The state of a port's link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// The link is up.
    pub up: bool,
    /// Mbit/s, if known.
    pub speed_mbps: Option<u32>,
    /// Both directions at once.
    pub full_duplex: bool,
}

impl PortHandle {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The device string it was probed with.
    #[must_use]
    pub fn device(&self) -> &str {
        &self.shared.device
    }

    /// DPDK's number for it, as [`crate::Mbuf::port`] says it.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.shared.number
    }

    /// What its driver says of it.
    ///
    /// # Errors
    /// The driver does not say.
    pub fn info(&self) -> Result<PortInfo, ControlError> {
        let _control = self.shared.eal.control();
        info::read(&self.shared)
    }

    /// What it has counted.
    ///
    /// # Errors
    /// The driver does not count.
    pub fn stats(&self) -> Result<PortStats, ControlError> {
        let _control = self.shared.eal.control();
        let mut stats = MaybeUninit::<dpdk_sys::dpdk_port_stats>::uninit();
        // SAFETY: the port is open; the shim writes the whole structure if it returns zero.
        let stats = unsafe {
            let status = dpdk_sys::dpdk_port_stats(self.shared.number, stats.as_mut_ptr());
            self.check(status, || "statistics".to_owned())?;
            stats.assume_init()
        };
        Ok(PortStats {
            rx_packets: stats.rx_packets,
            tx_packets: stats.tx_packets,
            rx_octets: stats.rx_octets,
            tx_octets: stats.tx_octets,
            rx_missed: stats.rx_missed,
            rx_errors: stats.rx_errors,
            tx_errors: stats.tx_errors,
            rx_no_mbuf: stats.rx_no_mbuf,
        })
    }

    /// The state of its link now; does not wait for negotiation.
    ///
    /// # Errors
    /// The driver does not say.
    pub fn link(&self) -> Result<Link, ControlError> {
        let _control = self.shared.eal.control();
        let mut link = MaybeUninit::<dpdk_sys::dpdk_link>::uninit();
        // SAFETY: the port is open; the shim writes the whole structure if it returns zero.
        let link = unsafe {
            let status = dpdk_sys::dpdk_port_link(self.shared.number, link.as_mut_ptr());
            self.check(status, || "link state".to_owned())?;
            link.assume_init()
        };
        Ok(Link {
            up: link.up,
            // DPDK says 0 for none and all ones for unknown.
            speed_mbps: Some(link.speed_mbps).filter(|speed| ![0, u32::MAX].contains(speed)),
            full_duplex: link.full_duplex,
        })
    }

    /// Its link-layer address.
    ///
    /// # Errors
    /// The driver does not say.
    pub fn mac_address(&self) -> Result<[u8; 6], ControlError> {
        let _control = self.shared.eal.control();
        mac_address(&self.shared)
    }

    /// Octets of packet after the Ethernet header that it takes.
    ///
    /// # Errors
    /// The driver does not say.
    pub fn mtu(&self) -> Result<u16, ControlError> {
        let _control = self.shared.eal.control();
        let mut mtu = 0;
        // SAFETY: the port is open, `mtu` outlives the call.
        let status = unsafe { dpdk_sys::rte_eth_dev_get_mtu(self.shared.number, &raw mut mtu) };
        self.check(status, || "MTU".to_owned())?;
        Ok(mtu)
    }

    /// Sets how many octets of packet after the Ethernet header it takes.
    ///
    /// # Errors
    /// The driver cannot set it ([`Errno::is_unsupported`]), not while the port
    /// runs ([`Errno::BUSY`]), or not to that value.
    pub fn set_mtu(&self, mtu: u16) -> Result<(), ControlError> {
        let _control = self.shared.eal.control();
        // SAFETY: the port is open; the lock keeps other control operations out.
        let status = unsafe { dpdk_sys::rte_eth_dev_set_mtu(self.shared.number, mtu) };
        self.check(status, || format!("MTU {mtu}"))
    }

    fn check(&self, status: i32, operation: impl FnOnce() -> String) -> Result<(), ControlError> {
        match Errno::check(status) {
            Ok(_) => Ok(()),
            Err(reason) => Err(ControlError::new(&self.shared, operation(), reason)),
        }
    }
}

impl StartedPort {
    pub(super) fn new(handle: PortHandle, notes: Vec<PortNote>) -> Self {
        Self { handle, notes }
    }

    /// A handle for a control thread.
    #[must_use]
    pub fn handle(&self) -> PortHandle {
        self.handle.clone()
    }

    /// What was asked for and the device does without.
    #[must_use]
    pub fn notes(&self) -> &[PortNote] {
        &self.notes
    }
}

impl Deref for StartedPort {
    type Target = PortHandle;

    fn deref(&self) -> &PortHandle {
        &self.handle
    }
}

/// Call under the control lock.
pub(super) fn mac_address(shared: &Shared) -> Result<[u8; 6], ControlError> {
    let mut mac = [0; 6];
    // SAFETY: the port is open; the shim writes six octets.
    let status = unsafe { dpdk_sys::dpdk_port_mac(shared.number, mac.as_mut_ptr()) };
    match Errno::check(status) {
        Ok(_) => Ok(mac),
        Err(reason) => Err(ControlError::new(shared, "link-layer address", reason)),
    }
}
