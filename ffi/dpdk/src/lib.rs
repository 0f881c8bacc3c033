//! A safe, small face of DPDK.
//!
//! ```text
//! Eal ──► Mempool ──► Mbuf ◄──► RxQueue / TxQueue ◄── Port::configure ◄── Port::probe
//!                      │                                    │
//!              one owner, freed once              StartedPort, PortHandle (statistics, link, MTU)
//!                      │
//!        handover: from one thread to another
//! ```
//!
//! What the types promise:
//!
//! - An [`Mbuf`] is one whole packet in one buffer with one owner. Dropping it
//!   frees it; transmitting it gives it away; nothing else does either.
//! - An `Mbuf` stays on its thread, or passes to another by [`handover()`], in order.
//! - [`RxQueue`] and [`TxQueue`] belong to one thread at a time. A port is
//!   stopped and closed when the last queue and the last handle are gone, never
//!   while one is in use.
//! - A buffer pool is returned to DPDK only when no thread, no ring and no driver can
//!   hold a buffer of it any more; the environment ends after the last pool and
//!   port. None of that depends on the order in which values are dropped.
//!
//! [`acl`] tells flows apart and [`meter`] measures them. [`peers`] is apart from all that: DPDK's own tables, to measure ours against.
//!
//! Sizes are in octets. Nothing here logs; errors carry what was asked and what
//! DPDK answered.

pub mod acl;
mod arguments;
mod clock;
mod eal;
mod errno;
mod handover;
mod live;
mod mbuf;
mod mempool;
pub mod meter;
pub mod peers;
mod port;
mod thread;

pub use clock::{cycles, cycles_per_second};
pub use eal::{Eal, EalConfig, EalError, HugePages, LogLevel, PciDevices, huge_pages_available, version};
pub use errno::Errno;
pub use handover::{HandoverReceiver, HandoverSender, handover};
pub use mbuf::{HEADROOM, Mbuf, NoHeadroom, NoTailroom, TooShort};
pub use mempool::{Mempool, MempoolConfig, MempoolError};
pub use port::{
    ControlError, Link, Port, PortConfig, PortError, PortHandle, PortInfo, PortNote, PortStats, PortStep,
    ProbeError, RxQueue, StartedPort, TxQueue,
};
pub use thread::{ThreadError, ThreadRegistration, register_thread};
