//! DPDK ports: from the configuration to queues in workers' hands.

mod device;
mod layout;
mod link;

use dpdk::{
    ControlError, Eal, Mempool, Port, PortConfig, PortError, PortHandle, PortInfo, PortNote, ProbeError,
    RxQueue, StartedPort, TxQueue,
};
use kedge_config::{Config, Side};
use kedge_dataplane_api::model::LinkLayerAddress;

pub use device::DeviceError;
pub(crate) use device::{pci_devices, room};
pub use layout::QueueError;
use layout::{Offer, layout};
pub(crate) use link::{LinkWatch, links};

use crate::snapshot::EXCEPTION_MTU;
use crate::worker::Handover;

/// Descriptors of one queue of a port.
const DESCRIPTORS: u16 = 512;
/// Descriptors of one queue of an exception interface: it carries little.
const EXCEPTION_DESCRIPTORS: u16 = 128;
/// What every Ethernet device takes.
const ETHERNET_MTU: u16 = 1500;

/// The ports cannot be opened as configured.
#[derive(Debug, thiserror::Error)]
pub enum PortsError {
    /// A key's value cannot be used.
    #[error("{0}")]
    Device(#[from] DeviceError),
    /// The device is not there.
    #[error("port {port}: {error}")]
    Probe {
        /// Port name.
        port: String,
        /// What DPDK said.
        error: ProbeError,
    },
    /// The device does not say what it is.
    #[error("port {port}: {error}")]
    Control {
        /// Port name.
        port: String,
        /// What DPDK said.
        error: ControlError,
    },
    /// More queues than the device has.
    #[error("{0}")]
    Queues(#[from] QueueError),
    /// The device does not start as configured.
    #[error("port {port}: {error}")]
    Start {
        /// Port name.
        port: String,
        /// What DPDK said.
        error: PortError,
    },
}

/// One port as the control thread knows it.
#[derive(Debug)]
pub(crate) struct OpenPort {
    /// As configured.
    pub(crate) name: String,
    /// As configured.
    pub(crate) side: Side,
    /// As configured.
    pub(crate) device: String,
    /// The name of DPDK's driver.
    pub(crate) driver: String,
    /// As configured.
    pub(crate) exception: Option<String>,
    /// What frames to this port are addressed to.
    pub(crate) link_layer_address: LinkLayerAddress,
    /// Octets.
    pub(crate) mtu: u16,
    /// As configured.
    pub(crate) vlan: Option<u16>,
    /// Receive queues.
    pub(crate) queues: u16,
    /// The device; keeps it running.
    pub(crate) handle: PortHandle,
    /// The exception interface's device; keeps it running.
    _exception_handle: Option<PortHandle>,
}

/// What one worker has of one port.
#[derive(Debug)]
pub(crate) struct WorkerPort {
    /// In the order of the configuration.
    pub(crate) index: usize,
    /// None, if the device has fewer queues than there are workers.
    pub(crate) receive: Vec<RxQueue>,
    /// This worker's own.
    pub(crate) transmit: TxQueue,
    /// To and from the other workers, where they share tunnelled packets out.
    pub(crate) handover: Option<Handover>,
    /// To and from the kernel.
    pub(crate) exception: Option<(RxQueue, TxQueue)>,
}

/// All ports, open.
#[derive(Debug)]
pub(crate) struct Opened {
    /// In the order of the configuration.
    pub(crate) ports: Vec<OpenPort>,
    /// For each worker that runs, its queues of every port.
    pub(crate) workers: Vec<Vec<WorkerPort>>,
}

/// Opens every port and its exception interface, and shares the queues out to at most `workers` workers.
pub(crate) fn open(eal: &Eal, pool: &Mempool, config: &Config, workers: usize) -> Result<Opened, PortsError> {
    let mut devices = Vec::new();
    let mut offers = Vec::new();
    for port in &config.ports {
        let (device, info) = probe(eal, &port.name, &device::with_room(&port.device, port.mtu))?;
        offers.push(Offer {
            port: port.name.clone(),
            queues: port.queues,
            maximum_rx: info.max_rx_queues,
            maximum_tx: info.max_tx_queues,
        });
        devices.push((device, driver_mtu(port, &info), info.driver));
    }
    let layout = layout(workers, &offers)?;
    for warning in &layout.warnings {
        tracing::warn!("{warning}");
    }
    let mut opened = Opened {
        ports: Vec::new(),
        workers: (0..layout.workers).map(|_| Vec::new()).collect(),
    };
    for (index, ((port, (device, mtu, driver)), rx_queues)) in config
        .ports
        .iter()
        .zip(devices)
        .zip(&layout.rx_queues)
        .enumerate()
    {
        let name = &port.name;
        let control = |error| PortsError::Control {
            port: name.clone(),
            error,
        };
        let wanted = device::link_layer_address(config, index)?;
        let tx_queues = u16::try_from(layout.workers).unwrap_or(u16::MAX);
        let settings = PortConfig {
            rx_queues: *rx_queues,
            tx_queues,
            rx_descriptors: DESCRIPTORS,
            tx_descriptors: DESCRIPTORS,
            mtu,
            mac: wanted,
            // Only frames for this port's address are taken; a device that cannot set it has to pass all.
            promiscuous: true,
            rss: true,
        };
        let (started, receive, transmit) = start(name, device, &settings, pool)?;
        let link_layer_address = match wanted {
            Some(address) => address,
            None => started.mac_address().map_err(control)?,
        };
        let mut exception = match &port.exception {
            Some(interface) => Some(open_exception(
                eal,
                pool,
                port,
                interface,
                index,
                link_layer_address,
                tx_queues,
            )?),
            None => None,
        };
        let mut transmit = transmit.into_iter();
        let mut receive: Vec<Option<RxQueue>> = receive.into_iter().map(Some).collect();
        for (worker, queues) in opened.workers.iter_mut().enumerate() {
            let Some(transmit) = transmit.next() else { continue };
            let mine = receive.iter_mut().skip(worker).step_by(layout.workers);
            queues.push(WorkerPort {
                index,
                receive: mine.filter_map(Option::take).collect(),
                transmit,
                handover: None,
                exception: exception.as_mut().and_then(|(_, queues)| queues.next()),
            });
        }
        tracing::info!(
            port = name,
            device = port.device,
            address = %device::Shown(link_layer_address),
            mtu = port.mtu,
            queues = rx_queues,
            "port open"
        );
        opened.ports.push(OpenPort {
            name: name.clone(),
            side: port.side,
            device: port.device.clone(),
            driver,
            exception: port.exception.clone(),
            link_layer_address,
            mtu: port.mtu,
            vlan: port.vlan,
            queues: *rx_queues,
            handle: started.handle(),
            _exception_handle: exception.map(|(handle, _)| handle),
        });
    }
    Ok(opened)
}

/// Whether the ports can be as configured, as far as can be told without their devices.
pub(crate) fn check(config: &Config) -> Result<(), DeviceError> {
    (0..config.ports.len()).try_for_each(|index| device::link_layer_address(config, index).map(|_| ()))
}

fn probe(eal: &Eal, name: &str, device: &str) -> Result<(Port, PortInfo), PortsError> {
    let probed = if device::is_pci(device) {
        Port::by_pci(eal, device)
    } else {
        Port::probe(eal, device)
    };
    let probed = probed.map_err(|error| PortsError::Probe {
        port: name.to_owned(),
        error,
    })?;
    let info = probed.info().map_err(|error| PortsError::Control {
        port: name.to_owned(),
        error,
    })?;
    Ok((probed, info))
}

/// The MTU that the driver is told; `None`: its own.
///
/// DPDK's af_packet driver says that it takes frames of 1518 octets at most, though what it takes is
/// what its ring (`framesz=`) and the interface take: there the interface's own MTU counts.
fn driver_mtu(port: &kedge_config::Port, info: &PortInfo) -> Option<u16> {
    let takes = info.driver != "net_af_packet" || port.mtu <= ETHERNET_MTU;
    if !takes {
        tracing::info!(
            port = port.name,
            mtu = port.mtu,
            "the interface must have this MTU; the driver cannot set it"
        );
    }
    takes.then_some(port.mtu)
}

fn start(
    name: &str,
    device: Port,
    settings: &PortConfig,
    pool: &Mempool,
) -> Result<(StartedPort, Vec<RxQueue>, Vec<TxQueue>), PortsError> {
    let started = device
        .configure(settings, pool)
        .map_err(|error| PortsError::Start {
            port: name.to_owned(),
            error,
        })?;
    for note in started.0.notes() {
        match note {
            // Nothing that an operator asked for.
            PortNote::Descriptors { .. } | PortNote::NotPromiscuous | PortNote::NotAllMulticast => {
                tracing::debug!(port = name, "{note}");
            }
            // Virtual devices with several queues spread flows in ways of their own.
            PortNote::NoRss => tracing::info!(port = name, "{note}"),
            PortNote::MtuNotSet(_) => tracing::warn!(port = name, "{note}"),
        }
    }
    Ok(started)
}

type ExceptionQueues = std::iter::Zip<std::vec::IntoIter<RxQueue>, std::vec::IntoIter<TxQueue>>;

/// Makes the TAP interface by which the kernel sees `port`: same address, same MTU but at most [`EXCEPTION_MTU`], a queue pair for
/// each worker.
fn open_exception(
    eal: &Eal,
    pool: &Mempool,
    port: &kedge_config::Port,
    interface: &str,
    index: usize,
    address: LinkLayerAddress,
    queues: u16,
) -> Result<(PortHandle, ExceptionQueues), PortsError> {
    let device = format!(
        "net_tap_exception{index},iface={interface},mac={}",
        device::Shown(address)
    );
    let probed = Port::probe(eal, &device).map_err(|error| PortsError::Probe {
        port: port.name.clone(),
        error,
    })?;
    let settings = PortConfig {
        rx_queues: queues,
        tx_queues: queues,
        rx_descriptors: EXCEPTION_DESCRIPTORS,
        tx_descriptors: EXCEPTION_DESCRIPTORS,
        // What is larger, and for the kernel, is answered with Packet Too Big; so the kernel's own packets are small enough.
        mtu: Some(port.mtu.min(EXCEPTION_MTU)),
        mac: None,
        promiscuous: false,
        rss: false,
    };
    let (started, receive, transmit) = start(&port.name, probed, &settings, pool)?;
    Ok((started.handle(), receive.into_iter().zip(transmit)))
}
