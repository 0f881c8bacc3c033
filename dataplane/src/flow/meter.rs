//! Meters: the two-rate three-colour markers of RFC 2698 and RFC 4115.
//!
//! Each worker has buckets of its own for every meter, for a bucket that all
//! share would be a cache line that all write. What that means for a rate is the
//! configuration's to say (`dataplane.meter_rates`): each worker gets its part of
//! it, so that all together never exceed it, but one flow, which is one worker's, gets no more than a
//! part; or each gets all of it. With one worker there is no difference.
//!
//! Buckets belong to a meter's index and are of the last version of its
//! parameters: a change of rates or bursts does not fill them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dpdk::meter::{Algorithm, Bucket, Buckets, Colour, Profile};
use kedge_dataplane_api::model::{Meter, MeterRates, Yellow};

use crate::fib::{Memory, prefetch};

/// Words of a meter's cell: a line of state, a line of counters.
const CELL: usize = 16;
/// Lines that are reserved for the cells of one worker: 16 million meters. Only what is used takes memory.
const LINES: usize = if cfg!(miri) { 1 << 10 } else { 1 << 25 };

/// A meter as a worker reads it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Compiled {
    profile: Option<Profile>,
    colour_aware: bool,
    /// DSCP of yellow packets.
    pub yellow: Option<u8>,
    /// Grows whenever the index gets another meter, whose buckets begin full.
    incarnation: u64,
}

impl Compiled {
    /// Rates are divided by `parts`.
    #[must_use]
    pub fn new(meter: &Meter, incarnation: u64, parts: u64, cycles_per_second: u64) -> Self {
        let bucket = |rate: u64, burst: u64| Bucket {
            rate: if rate == 0 {
                0
            } else {
                (rate / parts.max(1)).max(1)
            },
            burst,
        };
        let profile = match meter.rates {
            MeterRates::Rfc2698 { cir, cbs, pir, pbs } => Profile::new(
                Algorithm::Rfc2698,
                bucket(cir, cbs),
                bucket(pir, pbs),
                cycles_per_second,
            ),
            MeterRates::Rfc4115 { cir, cbs, eir, ebs } => Profile::new(
                Algorithm::Rfc4115,
                bucket(cir, cbs),
                bucket(eir, ebs),
                cycles_per_second,
            ),
        };
        Self {
            profile: Some(profile),
            colour_aware: meter.colour_aware,
            yellow: match meter.yellow {
                Yellow::Pass => None,
                Yellow::Mark(dscp) => Some(dscp),
            },
            incarnation,
        }
    }
}

/// The colour that a packet comes with: the drop precedence of an assured forwarding DSCP (RFC 2597
/// section 6); what has none is green.
#[inline]
#[must_use]
pub fn colour_of(traffic_class: u8) -> Colour {
    let dscp = traffic_class >> 2;
    let (class, precedence) = (dscp >> 3, dscp & 7);
    match (class, precedence) {
        (1..=4, 4) => Colour::Yellow,
        (1..=4, 6) => Colour::Red,
        _ => Colour::Green,
    }
}

/// Packets and octets by colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Colours {
    /// Packets: green, yellow, red.
    pub packets: [u64; 3],
    /// Octets of those.
    pub bytes: [u64; 3],
}

impl Colours {
    /// What came after `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        let minus = |now: [u64; 3], then: [u64; 3]| {
            let mut rest = now;
            for (rest, then) in rest.iter_mut().zip(then) {
                *rest = rest.wrapping_sub(then);
            }
            rest
        };
        Self {
            packets: minus(self.packets, earlier.packets),
            bytes: minus(self.bytes, earlier.bytes),
        }
    }
}

/// Buckets and counters by index, for each worker, which alone reads and writes its buckets. Cheap to clone:
/// clones are the same.
#[derive(Clone, Debug)]
pub struct Bank {
    workers: Arc<[Memory]>,
}

impl Bank {
    /// A bank for so many workers.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        Self {
            workers: (0..workers).map(|_| Memory::of(LINES)).collect(),
        }
    }

    /// How many workers share a rate.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    /// How many meters each has room for.
    #[must_use]
    pub fn cells(&self) -> usize {
        self.workers
            .first()
            .map_or(0, |memory| memory.lines() * crate::fib::WORDS / CELL)
    }

    /// Asks the processor for what a packet will be metered with.
    #[inline]
    pub fn prefetch(&self, worker: usize, index: u32) {
        if let Some(memory) = self.workers.get(worker) {
            prefetch(memory.word(index as usize * CELL));
            prefetch(memory.word(index as usize * CELL + CELL / 2));
        }
    }

    /// The colour of a packet, which takes its tokens and is counted.
    #[inline]
    #[must_use]
    pub fn meter(
        &self,
        worker: usize,
        index: u32,
        meter: &Compiled,
        now: u64,
        octets: usize,
        traffic_class: u8,
    ) -> Colour {
        let (Some(memory), Some(profile)) = (self.workers.get(worker), &meter.profile) else {
            return Colour::Green;
        };
        let word = |at: usize| memory.word(index as usize * CELL + at);
        let mut buckets = if word(0).load(Ordering::Relaxed) == meter.incarnation {
            Buckets::from_words(std::array::from_fn(|at| word(at + 1).load(Ordering::Relaxed)))
        } else {
            word(0).store(meter.incarnation, Ordering::Relaxed);
            profile.full(now)
        };
        let came = if meter.colour_aware {
            colour_of(traffic_class)
        } else {
            Colour::Green
        };
        // No packet is longer than 65,575 octets.
        let colour = profile.check(&mut buckets, now, octets as u32, came);
        for (at, value) in buckets.words().into_iter().enumerate() {
            word(at + 1).store(value, Ordering::Relaxed);
        }
        let counter = CELL / 2 + 2 * colour as usize;
        add(word(counter), 1);
        add(word(counter + 1), octets as u64);
        colour
    }

    /// What was counted, the sum over all workers.
    #[must_use]
    pub fn read(&self, index: u32) -> Colours {
        let mut sum = Colours::default();
        for memory in self.workers.iter() {
            let load = |at: usize| {
                memory
                    .word(index as usize * CELL + CELL / 2 + at)
                    .load(Ordering::Relaxed)
            };
            for (colour, (packets, bytes)) in sum.packets.iter_mut().zip(&mut sum.bytes).enumerate() {
                *packets = packets.wrapping_add(load(2 * colour));
                *bytes = bytes.wrapping_add(load(2 * colour + 1));
            }
        }
        sum
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
