//! From a port that is there to one that runs.

use std::fmt;
use std::sync::Arc;

use crate::errno::Errno;
use crate::mempool::Mempool;
use crate::port::info::{self, rss_fields};
use crate::port::{Port, PortHandle, RxQueue, Shared, StartedPort, TxQueue, handle};

/// How a port is to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortConfig {
    /// Receive queues, at least one: one per worker that polls it.
    pub rx_queues: u16,
    /// Transmit queues, at least one: one per worker that sends on it.
    pub tx_queues: u16,
    /// Packets a receive queue holds; adjusted to what the device can.
    pub rx_descriptors: u16,
    /// Packets a transmit queue holds; adjusted to what the device can.
    pub tx_descriptors: u16,
    /// Octets of packet after the Ethernet header; `None`: the device's own.
    pub mtu: Option<u16>,
    /// The link-layer address to take; `None`: the device's own.
    pub mac: Option<[u8; 6]>,
    /// Take packets for other link-layer addresses, too. All multicast is taken anyway.
    pub promiscuous: bool,
    /// Spread flows over the receive queues, where there are several.
    pub rss: bool,
}

impl Default for PortConfig {
    /// One queue of 512 packets in each direction, all else as the device has it.
    fn default() -> Self {
        Self {
            rx_queues: 1,
            tx_queues: 1,
            rx_descriptors: 512,
            tx_descriptors: 512,
            mtu: None,
            mac: None,
            promiscuous: false,
            rss: true,
        }
    }
}

/// Something asked for that the device does without. The port runs all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortNote {
    /// The driver cannot set the MTU; the device's own holds.
    #[error("the driver cannot set an MTU of {0}")]
    MtuNotSet(u16),
    /// The driver cannot take packets for other link-layer addresses.
    #[error("the driver has no promiscuous mode")]
    NotPromiscuous,
    /// The driver cannot be told to take all multicast.
    #[error("the driver cannot be told to take all multicast")]
    NotAllMulticast,
    /// The device cannot spread flows by their addresses over its receive queues.
    #[error("the device cannot spread flows over its receive queues by a hash")]
    NoRss,
    /// The device takes another number of descriptors.
    #[error("descriptors: {receive} to receive, {transmit} to transmit")]
    Descriptors {
        /// Per receive queue, as it is.
        receive: u16,
        /// Per transmit queue, as it is.
        transmit: u16,
    },
}

/// What was being done when a port could not be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Reading what the driver says of it.
    Information,
    /// Setting the number of queues.
    Configure,
    /// Setting up this receive queue.
    RxQueue(u16),
    /// Setting up this transmit queue.
    TxQueue(u16),
    /// Setting this MTU.
    Mtu(u16),
    /// Setting this link-layer address.
    Mac([u8; 6]),
    /// Starting.
    Start,
    /// Taking packets for other link-layer addresses.
    Promiscuous,
    /// Taking all multicast.
    AllMulticast,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Information => write!(f, "device information"),
            Self::Configure => write!(f, "configuration"),
            Self::RxQueue(queue) => write!(f, "receive queue {queue}"),
            Self::TxQueue(queue) => write!(f, "transmit queue {queue}"),
            Self::Mtu(mtu) => write!(f, "MTU {mtu}"),
            Self::Mac([a, b, c, d, e, g]) => {
                write!(
                    f,
                    "link-layer address {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}"
                )
            }
            Self::Start => write!(f, "start"),
            Self::Promiscuous => write!(f, "promiscuous mode"),
            Self::AllMulticast => write!(f, "all multicast"),
        }
    }
}

/// Why a port does not run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// More receive queues than the device has, or none.
    #[error("{device}: {asked} receive queues asked for, the device has 1 to {available}")]
    RxQueues {
        /// The port's device string.
        device: String,
        /// Queues asked for.
        asked: u16,
        /// Queues it can have.
        available: u16,
    },
    /// More transmit queues than the device has, or none.
    #[error("{device}: {asked} transmit queues asked for, the device has 1 to {available}")]
    TxQueues {
        /// The port's device string.
        device: String,
        /// Queues asked for.
        asked: u16,
        /// Queues it can have.
        available: u16,
    },
    /// A packet of that MTU would need more than one buffer of the pool.
    #[error("{device}: packets of MTU {mtu} do not fit the pool's buffers of {data_room} octets")]
    Buffers {
        /// The port's device string.
        device: String,
        /// The MTU asked for.
        mtu: u16,
        /// Octets of packet that a buffer holds.
        data_room: u16,
    },
    /// The port was configured before.
    #[error("{0}: configured already")]
    Configured(String),
    /// The driver refused a step.
    #[error("{device}: {step}: {reason}")]
    Refused {
        /// The port's device string.
        device: String,
        /// What was asked of it.
        step: Step,
        /// What it answered.
        reason: Errno,
    },
}

/// An Ethernet header and two VLAN tags: what a frame has beyond the MTU.
const LINK_OVERHEAD: u16 = 14 + 4 + 4;

impl Port {
    /// Configures and starts the port. Received packets are put into buffers of `pool`.
    ///
    /// Queues come in the order of their numbers. On an error the port is closed.
    ///
    /// # Errors
    /// See [`PortError`]. What a driver does not offer, but the port can do without,
    /// is no error: see [`StartedPort::notes`].
    pub fn configure(
        self,
        config: &PortConfig,
        pool: &Mempool,
    ) -> Result<(StartedPort, Vec<RxQueue>, Vec<TxQueue>), PortError> {
        let shared = self.shared;
        let control = shared.eal.control();
        let notes = start(&shared, config, pool);
        drop(control);
        let notes = notes?;
        let rx = (0..config.rx_queues)
            .map(|queue| RxQueue::new(&shared, queue))
            .collect();
        let tx = (0..config.tx_queues)
            .map(|queue| TxQueue::new(&shared, queue))
            .collect();
        Ok((StartedPort::new(PortHandle::new(shared), notes), rx, tx))
    }
}

/// Call under the control lock.
fn start(shared: &Arc<Shared>, config: &PortConfig, pool: &Mempool) -> Result<Vec<PortNote>, PortError> {
    let mut notes = Vec::new();
    let number = shared.number;
    let device = || shared.device.clone();
    let refused = |step| {
        move |reason| PortError::Refused {
            device: device(),
            step,
            reason,
        }
    };

    let info = info::raw(shared).map_err(refused(Step::Information))?;
    let (asked, available) = (config.rx_queues, info.max_rx_queues);
    if !(1..=available).contains(&asked) {
        return Err(PortError::RxQueues {
            device: device(),
            asked,
            available,
        });
    }
    let (asked, available) = (config.tx_queues, info.max_tx_queues);
    if !(1..=available).contains(&asked) {
        return Err(PortError::TxQueues {
            device: device(),
            asked,
            available,
        });
    }
    if let Some(mtu) = config.mtu
        && mtu
            .checked_add(LINK_OVERHEAD)
            .is_none_or(|frame| frame > pool.data_room())
    {
        return Err(PortError::Buffers {
            device: device(),
            mtu,
            data_room: pool.data_room(),
        });
    }
    // Before a driver learns of the pool: it keeps the pool as long as the port.
    if shared.pool.set(pool.clone()).is_err() {
        return Err(PortError::Configured(device()));
    }

    let mut fields = 0;
    if config.rss && config.rx_queues > 1 {
        fields = info.rss_fields & rss_fields();
        if fields == 0 {
            notes.push(PortNote::NoRss);
        }
    }
    // SAFETY: (all calls below) the port is open and not started; the control lock
    // keeps other operations out; no queue of it has been given to anybody yet; the
    // pool lives in `shared` until the port is closed.
    unsafe {
        Errno::check(dpdk_sys::dpdk_port_configure(
            number,
            config.rx_queues,
            config.tx_queues,
            fields,
        ))
        .map_err(refused(Step::Configure))?;
    }
    if let Some(mtu) = config.mtu {
        // SAFETY: see above.
        let status = Errno::check(unsafe { dpdk_sys::rte_eth_dev_set_mtu(number, mtu) });
        tolerate(status, &mut notes, PortNote::MtuNotSet(mtu)).map_err(refused(Step::Mtu(mtu)))?;
    }
    let (mut receive, mut transmit) = (config.rx_descriptors, config.tx_descriptors);
    // SAFETY: see above; both numbers outlive the call.
    Errno::check(unsafe {
        dpdk_sys::rte_eth_dev_adjust_nb_rx_tx_desc(number, &raw mut receive, &raw mut transmit)
    })
    .map_err(refused(Step::Configure))?;
    if (receive, transmit) != (config.rx_descriptors, config.tx_descriptors) {
        notes.push(PortNote::Descriptors { receive, transmit });
    }
    for queue in 0..config.rx_queues {
        // SAFETY: see above.
        Errno::check(unsafe { dpdk_sys::dpdk_port_rx_queue(number, queue, receive, pool.as_ptr()) })
            .map_err(refused(Step::RxQueue(queue)))?;
    }
    for queue in 0..config.tx_queues {
        // SAFETY: see above.
        Errno::check(unsafe { dpdk_sys::dpdk_port_tx_queue(number, queue, transmit) })
            .map_err(refused(Step::TxQueue(queue)))?;
    }
    if let Some(mac) = config.mac
        && handle::mac_address(shared).ok() != Some(mac)
    {
        // SAFETY: see above; the shim reads six octets.
        Errno::check(unsafe { dpdk_sys::dpdk_port_set_mac(number, mac.as_ptr()) })
            .map_err(refused(Step::Mac(mac)))?;
    }
    // SAFETY: see above; every queue is set up.
    Errno::check(unsafe { dpdk_sys::rte_eth_dev_start(number) }).map_err(refused(Step::Start))?;
    if config.promiscuous {
        // SAFETY: the port is open; the control lock keeps other operations out.
        let status = Errno::check(unsafe { dpdk_sys::rte_eth_promiscuous_enable(number) });
        tolerate(status, &mut notes, PortNote::NotPromiscuous).map_err(refused(Step::Promiscuous))?;
    }
    // Neighbour discovery depends on multicast groups that nobody tells the device of.
    // SAFETY: as above.
    let status = Errno::check(unsafe { dpdk_sys::rte_eth_allmulticast_enable(number) });
    tolerate(status, &mut notes, PortNote::NotAllMulticast).map_err(refused(Step::AllMulticast))?;
    Ok(notes)
}

/// A driver without the operation is noted; one that fails in it is an error.
fn tolerate(status: Result<i32, Errno>, notes: &mut Vec<PortNote>, note: PortNote) -> Result<(), Errno> {
    match status {
        Ok(_) => Ok(()),
        Err(reason) if reason.is_unsupported() => {
            notes.push(note);
            Ok(())
        }
        Err(reason) => Err(reason),
    }
}
