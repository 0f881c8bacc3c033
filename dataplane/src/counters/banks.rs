//! What was carried, by prefix, tunnel and filter: cells of plain counters, that each worker has for itself.
//!
//! The two ways of a cell are in two places. With a million of them a packet's cell is in no cache, and how long that takes to come
//! hangs on how much memory all of them are: a packet goes one way, and half as much is asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::add;
use crate::fib::{Memory, WORDS, prefetch};

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

/// Words of a cell, one way: packets and octets.
const CELL: usize = 2;
/// Words of a cell with times, one way: packets and octets, the times of the last packet and of the first.
const TIMED_CELL: usize = 4;
/// Lines that are reserved for the cells of one worker, one way: 1 GiB of addresses, 64 million cells, 32 million with
/// times. Only what is used takes memory.
const LINES: usize = if cfg!(miri) { 1 << 10 } else { 1 << 24 };

/// The cells of one worker.
#[derive(Debug)]
struct Ways {
    /// Toward a prefix, into a tunnel.
    to: Memory,
    /// From a prefix, out of a tunnel.
    from: Memory,
}

fn ways(workers: usize) -> Arc<[Ways]> {
    let ways = |_| Ways {
        to: Memory::of(LINES),
        from: Memory::of(LINES),
    };
    (0..workers).map(ways).collect()
}

impl Ways {
    /// What is in the cells that begin at this word.
    fn traffic(&self, cell: usize) -> Traffic {
        let load = |memory: &Memory, at: usize| memory.word(cell + at).load(Ordering::Relaxed);
        Traffic {
            to_packets: load(&self.to, 0),
            to_bytes: load(&self.to, 1),
            from_packets: load(&self.from, 0),
            from_bytes: load(&self.from, 1),
        }
    }
}

/// Traffic counters by index, for each worker, which alone writes its own. Cheap to clone: clones are
/// the same counters.
#[derive(Clone, Debug)]
pub struct Bank {
    workers: Arc<[Ways]>,
}

impl Bank {
    /// A bank for so many workers, all zero.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        Self {
            workers: ways(workers),
        }
    }

    /// Asks the processor for the cell that [`Bank::to`] will count in.
    #[inline]
    pub fn prefetch_to(&self, worker: usize, index: u32) {
        if let Some(ways) = self.workers.get(worker) {
            prefetch(ways.to.group::<CELL>(index as usize));
        }
    }

    /// The same of [`Bank::from`].
    #[inline]
    pub fn prefetch_from(&self, worker: usize, index: u32) {
        if let Some(ways) = self.workers.get(worker) {
            prefetch(ways.from.group::<CELL>(index as usize));
        }
    }

    /// Counts a packet toward a prefix or into a tunnel.
    #[inline]
    pub fn to(&self, worker: usize, index: u32, octets: usize) {
        if let Some(ways) = self.workers.get(worker) {
            let [packets, bytes] = ways.to.group::<CELL>(index as usize);
            count(packets, bytes, octets);
        }
    }

    /// Counts a packet from a prefix or out of a tunnel.
    #[inline]
    pub fn from(&self, worker: usize, index: u32, octets: usize) {
        if let Some(ways) = self.workers.get(worker) {
            let [packets, bytes] = ways.from.group::<CELL>(index as usize);
            count(packets, bytes, octets);
        }
    }

    /// Packets that this worker has counted toward a prefix or into a tunnel, ever.
    #[inline]
    #[must_use]
    pub fn counted_to(&self, worker: usize, index: u32) -> u64 {
        let ways = self.workers.get(worker);
        ways.map_or(0, |ways| ways.traffic(index as usize * CELL).to_packets)
    }

    /// The sum over all workers.
    #[must_use]
    pub fn read(&self, index: u32) -> Traffic {
        let all = self
            .workers
            .iter()
            .map(|ways| ways.traffic(index as usize * CELL));
        all.fold(Traffic::default(), Traffic::plus)
    }
}

/// As [`Bank`], with the times of the first and of the last packet: for charging.
#[derive(Clone, Debug)]
pub struct TimedBank {
    workers: Arc<[Ways]>,
}

impl TimedBank {
    /// A bank for so many workers, all zero.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        Self {
            workers: ways(workers),
        }
    }

    /// How many cells each worker has.
    #[must_use]
    pub fn cells(&self) -> usize {
        let ways = self.workers.first();
        let lines = ways.map_or(0, |ways| ways.to.lines().min(ways.from.lines()));
        lines * WORDS / TIMED_CELL
    }

    /// Asks the processor for the cell that [`TimedBank::to`] will count in.
    #[inline]
    pub fn prefetch_to(&self, worker: usize, index: u32) {
        if let Some(ways) = self.workers.get(worker) {
            prefetch(ways.to.group::<TIMED_CELL>(index as usize));
        }
    }

    /// The same of [`TimedBank::from`].
    #[inline]
    pub fn prefetch_from(&self, worker: usize, index: u32) {
        if let Some(ways) = self.workers.get(worker) {
            prefetch(ways.from.group::<TIMED_CELL>(index as usize));
        }
    }

    /// Counts a packet toward a prefix, at this time of the cycle counter, never 0.
    #[inline]
    pub fn to(&self, worker: usize, index: u32, octets: usize, now: u64) {
        if let Some(ways) = self.workers.get(worker) {
            count_at(ways.to.group::<TIMED_CELL>(index as usize), octets, now);
        }
    }

    /// Counts a packet from a prefix.
    #[inline]
    pub fn from(&self, worker: usize, index: u32, octets: usize, now: u64) {
        if let Some(ways) = self.workers.get(worker) {
            count_at(ways.from.group::<TIMED_CELL>(index as usize), octets, now);
        }
    }

    /// Has the next packet be the first. Not the worker's, and yet safe: the worker writes that word only
    /// when it finds 0, so one of the two writes counts and both are right.
    pub fn forget_first(&self, index: u32) {
        let first = index as usize * TIMED_CELL + FIRST;
        for ways in self.workers.iter() {
            ways.to.word(first).store(0, Ordering::Relaxed);
            ways.from.word(first).store(0, Ordering::Relaxed);
        }
    }

    /// The sum over all workers.
    #[must_use]
    pub fn read(&self, index: u32) -> Charge {
        let cell = index as usize * TIMED_CELL;
        let mut sum = Charge::default();
        for ways in self.workers.iter() {
            sum.traffic = sum.traffic.plus(ways.traffic(cell));
            for memory in [&ways.to, &ways.from] {
                let load = |at: usize| memory.word(cell + at).load(Ordering::Relaxed);
                let first = load(FIRST);
                if first != 0 && (sum.first == 0 || first < sum.first) {
                    sum.first = first;
                }
                sum.last = sum.last.max(load(LAST));
            }
        }
        sum
    }
}

/// Words of a timed cell.
const LAST: usize = 2;
const FIRST: usize = 3;

#[inline]
fn count(packets: &AtomicU64, bytes: &AtomicU64, octets: usize) {
    add(packets, 1);
    add(bytes, octets as u64);
}

#[inline]
fn count_at([packets, bytes, last, first]: &[AtomicU64; TIMED_CELL], octets: usize, now: u64) {
    count(packets, bytes, octets);
    last.store(now, Ordering::Relaxed);
    if first.load(Ordering::Relaxed) == 0 {
        first.store(now, Ordering::Relaxed);
    }
}
