//! Counters of one worker: plain memory that it alone writes and anyone reads.
//!
//! A relaxed load and a relaxed store are ordinary instructions, without a lock
//! prefix; a reader may see a value a moment old, never a torn one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::drops::DropReason;
use crate::fib::{Memory, WORDS, prefetch};

/// What a worker did with a packet, beside dropping it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
#[allow(missing_docs, reason = "the name of each says it")]
pub enum Stage {
    Parsed,
    Decapsulated,
    SourceChecked,
    Encapsulated,
    Delivered,
    Routed,
    Punted,
    FromKernel,
    Icmpv6ErrorSent,
    Icmpv6ErrorSuppressed,
    GtpuEchoResponseSent,
    GtpuErrorIndicationSent,
    GtpuSupportedExtensionHeadersNotificationSent,
    GtpuErrorSuppressed,
    Held,
    Released,
    TunnelErrorTaken,
    TunnelErrorTranslated,
    /// A filter said where it goes.
    Filtered,
    /// It met filters, without ports for them.
    FilteredLaterFragment,
    /// It met filters, and its extension headers could not be read.
    FilteredUnreadable,
    MeteredGreen,
    MeteredYellow,
    /// It was yellow, and got another DSCP.
    Remarked,
    Fragmented,
    FragmentReceived,
    Reassembled,
    PathEnded,
    Icmpv4ErrorSent,
    Icmpv4ErrorSuppressed,
}

impl Stage {
    /// All of them, in the order of their numbers.
    pub const ALL: [Stage; 30] = [
        Stage::Parsed,
        Stage::Decapsulated,
        Stage::SourceChecked,
        Stage::Encapsulated,
        Stage::Delivered,
        Stage::Routed,
        Stage::Punted,
        Stage::FromKernel,
        Stage::Icmpv6ErrorSent,
        Stage::Icmpv6ErrorSuppressed,
        Stage::GtpuEchoResponseSent,
        Stage::GtpuErrorIndicationSent,
        Stage::GtpuSupportedExtensionHeadersNotificationSent,
        Stage::GtpuErrorSuppressed,
        Stage::Held,
        Stage::Released,
        Stage::TunnelErrorTaken,
        Stage::TunnelErrorTranslated,
        Stage::Filtered,
        Stage::FilteredLaterFragment,
        Stage::FilteredUnreadable,
        Stage::MeteredGreen,
        Stage::MeteredYellow,
        Stage::Remarked,
        Stage::Fragmented,
        Stage::FragmentReceived,
        Stage::Reassembled,
        Stage::PathEnded,
        Stage::Icmpv4ErrorSent,
        Stage::Icmpv4ErrorSuppressed,
    ];

    /// Its name in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Stage::Parsed => "parsed",
            Stage::Decapsulated => "decapsulated",
            Stage::SourceChecked => "source_checked",
            Stage::Encapsulated => "encapsulated",
            Stage::Delivered => "delivered",
            Stage::Routed => "routed",
            Stage::Punted => "punted",
            Stage::FromKernel => "from_kernel",
            Stage::Icmpv6ErrorSent => "icmpv6_error_sent",
            Stage::Icmpv6ErrorSuppressed => "icmpv6_error_suppressed",
            Stage::GtpuEchoResponseSent => "gtpu_echo_response_sent",
            Stage::GtpuErrorIndicationSent => "gtpu_error_indication_sent",
            Stage::GtpuSupportedExtensionHeadersNotificationSent => {
                "gtpu_supported_extension_headers_notification_sent"
            }
            Stage::GtpuErrorSuppressed => "gtpu_error_suppressed",
            Stage::Held => "held",
            Stage::Released => "released",
            Stage::TunnelErrorTaken => "tunnel_error_taken",
            Stage::TunnelErrorTranslated => "tunnel_error_translated",
            Stage::Filtered => "filtered",
            Stage::FilteredLaterFragment => "filtered_later_fragment",
            Stage::FilteredUnreadable => "filtered_unreadable",
            Stage::MeteredGreen => "metered_green",
            Stage::MeteredYellow => "metered_yellow",
            Stage::Remarked => "remarked",
            Stage::Fragmented => "fragmented",
            Stage::FragmentReceived => "fragment_received",
            Stage::Reassembled => "reassembled",
            Stage::PathEnded => "path_ended",
            Stage::Icmpv4ErrorSent => "icmpv4_error_sent",
            Stage::Icmpv4ErrorSuppressed => "icmpv4_error_suppressed",
        }
    }
}

#[derive(Debug)]
#[repr(align(128))]
struct Block {
    drops: [AtomicU64; DropReason::COUNT],
    stages: [AtomicU64; Stage::ALL.len()],
}

/// The counters of one worker. Clones are the same counters; only the worker writes.
#[derive(Clone, Debug)]
pub struct Counters {
    block: Arc<Block>,
}

impl Default for Counters {
    fn default() -> Self {
        let zero = || AtomicU64::new(0);
        let block = Block {
            drops: std::array::from_fn(|_| zero()),
            stages: std::array::from_fn(|_| zero()),
        };
        Self {
            block: Arc::new(block),
        }
    }
}

impl Counters {
    /// Counts `count` dropped packets.
    #[inline]
    pub fn add_drops(&self, reason: DropReason, count: u64) {
        if let Some(counter) = self.block.drops.get(reason as usize) {
            add(counter, count);
        }
    }

    /// Counts `count` packets through a stage.
    #[inline]
    pub fn stage(&self, stage: Stage, count: u64) {
        if let Some(counter) = self.block.stages.get(stage as usize) {
            add(counter, count);
        }
    }

    /// Packets dropped so far.
    #[must_use]
    pub fn drops(&self, reason: DropReason) -> u64 {
        self.block
            .drops
            .get(reason as usize)
            .map_or(0, |it| it.load(Ordering::Relaxed))
    }

    /// Packets through a stage so far.
    #[must_use]
    pub fn stages(&self, stage: Stage) -> u64 {
        self.block
            .stages
            .get(stage as usize)
            .map_or(0, |it| it.load(Ordering::Relaxed))
    }
}

/// Adds without a locked instruction: there is one writer.
#[inline]
fn add(counter: &AtomicU64, count: u64) {
    counter.store(
        counter.load(Ordering::Relaxed).wrapping_add(count),
        Ordering::Relaxed,
    );
}

/// Packets and octets in both directions: into a tunnel and out of it, to a prefix and from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Packets into the tunnel, or to the prefix.
    pub to_packets: u64,
    /// Octets of those, IPv6 header included.
    pub to_bytes: u64,
    /// Packets out of the tunnel, or from the prefix.
    pub from_packets: u64,
    /// Octets of those, IPv6 header included.
    pub from_bytes: u64,
}

impl Traffic {
    /// The sum.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            to_packets: self.to_packets.wrapping_add(other.to_packets),
            to_bytes: self.to_bytes.wrapping_add(other.to_bytes),
            from_packets: self.from_packets.wrapping_add(other.from_packets),
            from_bytes: self.from_bytes.wrapping_add(other.from_bytes),
        }
    }

    /// What came after `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            to_packets: self.to_packets.wrapping_sub(earlier.to_packets),
            to_bytes: self.to_bytes.wrapping_sub(earlier.to_bytes),
            from_packets: self.from_packets.wrapping_sub(earlier.from_packets),
            from_bytes: self.from_bytes.wrapping_sub(earlier.from_bytes),
        }
    }
}

/// Words of a cell: packets and octets, one way and the other.
const CELL: usize = 4;
/// Words of a cell with times behind them: of the first packet, of the last one; a line.
const TIMED_CELL: usize = 8;
/// Lines that are reserved for the cells of one worker: 2 GiB of addresses, 64 million cells, 32 million with
/// times. Only what is used takes memory.
const LINES: usize = if cfg!(miri) { 1 << 10 } else { 1 << 25 };

/// Traffic counters by index, for each worker, which alone writes its own. Cheap to clone: clones are
/// the same counters.
#[derive(Clone, Debug)]
pub struct Bank {
    workers: Arc<[Memory]>,
}

impl Bank {
    /// A bank for so many workers, all zero.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        Self {
            workers: memories(workers),
        }
    }

    /// Asks the processor for the cell that a packet will be counted in.
    #[inline]
    pub fn prefetch(&self, worker: usize, index: u32) {
        if let Some(memory) = self.workers.get(worker) {
            prefetch(memory.group::<CELL>(index as usize));
        }
    }

    /// Counts a packet toward a prefix or into a tunnel.
    #[inline]
    pub fn to(&self, worker: usize, index: u32, octets: usize) {
        if let Some(memory) = self.workers.get(worker) {
            let [packets, bytes, ..] = memory.group::<CELL>(index as usize);
            count(packets, bytes, octets);
        }
    }

    /// Counts a packet from a prefix or out of a tunnel.
    #[inline]
    pub fn from(&self, worker: usize, index: u32, octets: usize) {
        if let Some(memory) = self.workers.get(worker) {
            let [_, _, packets, bytes] = memory.group::<CELL>(index as usize);
            count(packets, bytes, octets);
        }
    }

    /// Packets that this worker has counted toward a prefix or into a tunnel, ever.
    #[inline]
    #[must_use]
    pub fn counted_to(&self, worker: usize, index: u32) -> u64 {
        self.workers.get(worker).map_or(0, |memory| {
            memory.word(index as usize * CELL).load(Ordering::Relaxed)
        })
    }

    /// The sum over all workers.
    #[must_use]
    pub fn read(&self, index: u32) -> Traffic {
        let of = |memory: &Memory| traffic(memory, index as usize * CELL);
        self.workers
            .iter()
            .fold(Traffic::default(), |sum, memory| sum.plus(of(memory)))
    }
}

/// As [`Bank`], with the times of the first and of the last packet: for charging.
#[derive(Clone, Debug)]
pub struct TimedBank {
    workers: Arc<[Memory]>,
}

/// Traffic, and when it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Charge {
    /// How much.
    pub traffic: Traffic,
    /// Of the first packet, by the cycle counter; 0: there was none.
    pub first: u64,
    /// Of the last one.
    pub last: u64,
}

impl Charge {
    /// What came after `earlier`; the times are of packets that did.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        let traffic = self.traffic.since(earlier.traffic);
        if traffic == Traffic::default() {
            return Self::default();
        }
        Self { traffic, ..self }
    }
}

impl TimedBank {
    /// A bank for so many workers, all zero.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        Self {
            workers: memories(workers),
        }
    }

    /// How many cells each worker has.
    #[must_use]
    pub fn cells(&self) -> usize {
        self.workers
            .first()
            .map_or(0, |memory| memory.lines() * WORDS / TIMED_CELL)
    }

    /// Asks the processor for the cell that a packet will be counted in.
    #[inline]
    pub fn prefetch(&self, worker: usize, index: u32) {
        if let Some(memory) = self.workers.get(worker) {
            prefetch(memory.group::<TIMED_CELL>(index as usize));
        }
    }

    /// Counts a packet toward a prefix, at this time of the cycle counter, never 0.
    #[inline]
    pub fn to(&self, worker: usize, index: u32, octets: usize, now: u64) {
        if let Some(memory) = self.workers.get(worker) {
            let [packets, bytes, _, _, first, last, ..] = memory.group::<TIMED_CELL>(index as usize);
            count(packets, bytes, octets);
            note_time(first, last, now);
        }
    }

    /// Counts a packet from a prefix.
    #[inline]
    pub fn from(&self, worker: usize, index: u32, octets: usize, now: u64) {
        if let Some(memory) = self.workers.get(worker) {
            let [_, _, packets, bytes, first, last, ..] = memory.group::<TIMED_CELL>(index as usize);
            count(packets, bytes, octets);
            note_time(first, last, now);
        }
    }

    /// Has the next packet be the first. Not the worker's, and yet safe: the worker writes that word only
    /// when it finds 0, so one of the two writes counts and both are right.
    pub fn forget_first(&self, index: u32) {
        for memory in self.workers.iter() {
            memory
                .word(index as usize * TIMED_CELL + FIRST)
                .store(0, Ordering::Relaxed);
        }
    }

    /// The sum over all workers.
    #[must_use]
    pub fn read(&self, index: u32) -> Charge {
        let cell = index as usize * TIMED_CELL;
        let mut sum = Charge::default();
        for memory in self.workers.iter() {
            sum.traffic = sum.traffic.plus(traffic(memory, cell));
            let load = |at: usize| memory.word(cell + at).load(Ordering::Relaxed);
            let first = load(FIRST);
            if first != 0 && (sum.first == 0 || first < sum.first) {
                sum.first = first;
            }
            sum.last = sum.last.max(load(LAST));
        }
        sum
    }
}

#[inline]
fn count(packets: &AtomicU64, bytes: &AtomicU64, octets: usize) {
    add(packets, 1);
    add(bytes, octets as u64);
}

#[inline]
fn note_time(first: &AtomicU64, last: &AtomicU64, now: u64) {
    if first.load(Ordering::Relaxed) == 0 {
        first.store(now, Ordering::Relaxed);
    }
    last.store(now, Ordering::Relaxed);
}

/// Words of a timed cell.
const FIRST: usize = 4;
const LAST: usize = 5;

fn memories(workers: usize) -> Arc<[Memory]> {
    (0..workers).map(|_| Memory::of(LINES)).collect()
}

fn traffic(memory: &Memory, cell: usize) -> Traffic {
    let load = |at: usize| memory.word(cell + at).load(Ordering::Relaxed);
    Traffic {
        to_packets: load(0),
        to_bytes: load(1),
        from_packets: load(2),
        from_bytes: load(3),
    }
}
