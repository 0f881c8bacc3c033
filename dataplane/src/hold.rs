//! Packets that wait while an anchor moves (RFC 8818 FM:6).
//!
//! A prefix whose next hop is *hold* has a queue on every worker that receives
//! packets for it. When the next hop becomes another one, each worker sends what
//! it has, oldest first; what arrives meanwhile joins the tail until the queue is
//! empty, so no flow is reordered. Nothing crosses threads: a flow stays on one
//! worker, and so do its held packets.
//!
//! ```text
//!             next hop: hold                next hop: anything else
//!  (no queue) ──────────────► HOLDING ───────────────────────────► RELEASING ──► (no queue)
//!                first packet    ▲  │ age, bounds: dropped, named     │    ▲ arrivals join the tail
//!                                └──┼──────── hold again ─────────────┘    │ oldest out, paced
//!                                   └ hold expired: all dropped, named
//! ```
//!
//! A queue remembers no decision. It knows the number of its prefix's counters,
//! which stays the same while the prefix is known, and every packet is looked up
//! again on its way out: whatever the tables say then is done with it. So
//! publications that have nothing to do with a hold cannot disturb it, a prefix
//! that is deleted meanwhile loses nothing that its covering route can carry, and
//! the restart of a control plane needs no procedure.
//!
//! A filter can hold single flows of a prefix (RFC 8818 FM:6-1 with FM:3). A flow is what has the same addresses,
//! protocol and ports; each that some filter holds has a queue of its own, all those of one filter together the
//! bounds of one prefix. What comes of a flow that has a queue joins it, whatever became of the filter, so that no
//! change of filters reorders a flow; what leaves asks the filters again, but is not counted or metered twice.
//! A flow that goes by its prefix waits while that is on hold, and until the queue of the prefix is empty: what is
//! there came before.
//!
//! All memory is taken at the start: one slot for each packet that may be held,
//! and as many queues, since each has at least one packet. Where nothing is held
//! a burst costs one comparison.
//!
//! A worker looks at a few queues in each of its rounds: whether their oldest
//! packets are too old, and whether a newer snapshot still holds them. The work
//! of a round is bounded whatever the number of queues, and each queue's turn
//! comes within `queues / LOOKS` rounds.

mod index;
mod queues;
mod shares;

pub use queues::{Bounds, Full, Pushed, Queues, State};

/// Queues looked at in one round of a worker.
pub const LOOKS: usize = 32;

/// Which packet goes where there is no room for another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// The one that has just come: what is held stays without gaps.
    #[default]
    DropNewest,
    /// The one that has waited longest in the same queue: what is held stays fresh.
    DropOldest,
}
