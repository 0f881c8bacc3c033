//! Finding a port by its device.

use std::ffi::{CStr, CString};
use std::sync::{Arc, OnceLock};

use crate::eal::Eal;
use crate::errno::Errno;
use crate::port::handle::{self, ControlError};
use crate::port::info::{self, PortInfo};
use crate::port::{PortHandle, Shared};

/// A port that DPDK drives, not configured yet. Closed when dropped.
#[derive(Debug)]
pub struct Port {
    pub(super) shared: Arc<Shared>,
}

/// Why a device gives no port.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// The device string is empty or contains a NUL.
    #[error("{0:?} cannot be a device")]
    Device(String),
    /// No driver takes the device, or the one that does refuses it.
    #[error("no driver takes the device {device:?}: {reason}")]
    Refused {
        /// The device string.
        device: String,
        /// What DPDK answered; its messages on standard error say more.
        reason: Errno,
    },
    /// The device has no Ethernet port.
    #[error("the device {device:?} has no Ethernet port: {reason}")]
    NoPort {
        /// The device string.
        device: String,
        /// What DPDK answered.
        reason: Errno,
    },
    /// The port is in use in this process.
    #[error("the port of {0:?} is in use already")]
    InUse(String),
}

impl Port {
    /// Adds a device to DPDK and takes its port; the device leaves when the port is dropped.
    ///
    /// `device` is what DPDK calls a device argument: a virtual device by its
    /// driver's name and a number, with the driver's options after commas
    /// (`net_af_packet0,iface=eth1`), or a PCI address.
    ///
    /// # Errors
    /// See [`ProbeError`].
    pub fn probe(eal: &Eal, device: &str) -> Result<Self, ProbeError> {
        let argument = c_device(device, device)?;
        let name = port_name(device)?;
        let mut control = eal.control();
        // SAFETY: EAL is initialised (`eal`), the lock keeps other control operations
        // out, and the string is copied.
        Errno::check(unsafe { dpdk_sys::rte_dev_probe(argument.as_ptr()) }).map_err(
            |reason| match reason {
                Errno::EXISTS => ProbeError::InUse(device.to_owned()),
                _ => ProbeError::Refused {
                    device: device.to_owned(),
                    reason,
                },
            },
        )?;
        Self::take(eal, &mut control.open_ports, device, &name, true)
    }

    /// Takes the port of a PCI device that DPDK found when it started, because
    /// [`crate::PciDevices`] allowed it. The device stays when the port is dropped.
    ///
    /// # Errors
    /// [`ProbeError::NoPort`] if DPDK did not take the device: it is not allowed,
    /// or still bound to a driver of the kernel. [`ProbeError::InUse`].
    pub fn by_pci(eal: &Eal, address: &str) -> Result<Self, ProbeError> {
        let name = port_name(address)?;
        let mut control = eal.control();
        Self::take(eal, &mut control.open_ports, address, &name, false)
    }

    fn take(
        eal: &Eal,
        open_ports: &mut Vec<u16>,
        device: &str,
        name: &CStr,
        detach: bool,
    ) -> Result<Self, ProbeError> {
        let mut number = 0;
        // SAFETY: EAL is initialised, the string is only read, `number` outlives the call.
        Errno::check(unsafe { dpdk_sys::dpdk_port_find(name.as_ptr(), &raw mut number) }).map_err(
            |reason| ProbeError::NoPort {
                device: device.to_owned(),
                reason,
            },
        )?;
        if open_ports.contains(&number) {
            return Err(ProbeError::InUse(device.to_owned()));
        }
        open_ports.push(number);
        let shared = Shared {
            number,
            device: device.to_owned(),
            detach,
            pool: OnceLock::new(),
            eal: eal.clone(),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// What its driver says of it.
    ///
    /// # Errors
    /// The driver does not say.
    pub fn info(&self) -> Result<PortInfo, ControlError> {
        let _control = self.shared.eal.control();
        info::read(&self.shared)
    }

    /// Its link-layer address.
    ///
    /// # Errors
    /// The driver does not say.
    pub fn mac_address(&self) -> Result<[u8; 6], ControlError> {
        let _control = self.shared.eal.control();
        handle::mac_address(&self.shared)
    }

    /// The string it was probed with.
    #[must_use]
    pub fn device(&self) -> &str {
        &self.shared.device
    }

    /// A handle for a control thread, valid before the port is configured too.
    #[must_use]
    pub fn handle(&self) -> PortHandle {
        PortHandle::new(Arc::clone(&self.shared))
    }
}

/// Ports are named after the device, without its options.
fn port_name(device: &str) -> Result<CString, ProbeError> {
    c_device(device, device.split(',').next().unwrap_or_default())
}

fn c_device(device: &str, part: &str) -> Result<CString, ProbeError> {
    if part.is_empty() {
        return Err(ProbeError::Device(device.to_owned()));
    }
    CString::new(part).map_err(|_| ProbeError::Device(device.to_owned()))
}
