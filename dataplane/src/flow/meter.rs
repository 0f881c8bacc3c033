//! Meters: the two-rate three-colour markers of RFC 2698 and RFC 4115.
//!
//! Each worker has buckets of its own for every meter, for a bucket that all
//! share would be a cache line that all write. What that means for a rate is the
//! configuration's to say (`dataplane.meter_rates`): each worker gets its part of
//! it, so that all together never exceed it, but one flow, which is one worker's, gets no more than a
//! part; or each gets all of it. With one worker there is no difference.
//!
//! Buckets belong to a meter's index and are of the last version of its
//! parameters: a change of rates or bursts does not fill them. Neither does a move of a prefix from one gateway to another: what a
//! meter has in its buckets is read ([`Bank::fill`]), and the buckets of the other one are lowered to it ([`MeterFill`]).
//!
//! What was of which colour is counted by filter, not by meter ([`ColourBank`]), for it goes with the prefix of the filter.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dpdk::meter::{Algorithm, Bucket, Buckets, Colour, Profile};
use kedge_dataplane_api::model::{Meter, MeterFill, MeterRates, Yellow};

use crate::fib::{Memory, prefetch};

/// Words of a meter's cell, and of a filter's colours: one line.
const CELL: usize = 8;
/// Lines that are reserved for the cells of one worker: 32 million. Only what is used takes memory.
const LINES: usize = if cfg!(miri) { 1 << 10 } else { 1 << 25 };

/// Words of a meter's cell: which meter's it is, four of buckets, and the number of the last fill.
const INCARNATION: usize = 0;
const BUCKETS: usize = 1;
const FILLED: usize = 5;

/// A meter as a worker reads it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Compiled {
    profile: Option<Profile>,
    colour_aware: bool,
    /// DSCP of yellow packets.
    pub yellow: Option<u8>,
    /// Grows whenever the index gets another meter, whose buckets begin full.
    incarnation: u64,
    /// What the buckets of each worker are lowered to.
    fill: MeterFill,
    /// At this time of the cycle counter.
    filled_at: u64,
}

impl Compiled {
    /// Rates are divided by `parts`. Its fill, if it has one, is that of `now`.
    #[must_use]
    pub fn new(meter: &Meter, incarnation: u64, parts: u64, cycles_per_second: u64, now: u64) -> Self {
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
            fill: meter.fill.unwrap_or_default(),
            filled_at: now,
        }
    }

    /// When the fill that it has, with this number, was put.
    pub(crate) fn filled_at(&self, number: u64) -> Option<u64> {
        (self.fill.number == number).then_some(self.filled_at)
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
    /// The sum.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let none = Self::default();
        self.since(none.since(other))
    }

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

/// Buckets by index, for each worker, which alone writes its own. Cheap to clone: clones are the same.
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
        }
    }

    /// The colour of a packet, which takes its tokens.
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
        let mut buckets = if word(INCARNATION).load(Ordering::Relaxed) == meter.incarnation {
            self::buckets(memory, index)
        } else {
            word(INCARNATION).store(meter.incarnation, Ordering::Relaxed);
            word(FILLED).store(0, Ordering::Relaxed);
            profile.full(now)
        };
        if word(FILLED).load(Ordering::Relaxed) != meter.fill.number {
            word(FILLED).store(meter.fill.number, Ordering::Relaxed);
            buckets = lowered(profile, buckets, meter, now);
        }
        let came = if meter.colour_aware {
            colour_of(traffic_class)
        } else {
            Colour::Green
        };
        // No packet is longer than 65,575 octets.
        let colour = profile.check(&mut buckets, now, octets as u32, came);
        for (at, value) in buckets.words().into_iter().enumerate() {
            word(BUCKETS + at).store(value, Ordering::Relaxed);
        }
        colour
    }

    /// What is in the buckets of a meter: of the workers that have metered with it, in the emptiest ones. `None`: none has, so
    /// that they are full, or as full as they were put.
    ///
    /// A worker may be at it meanwhile: what is read is off by no more than the packet that it has.
    #[must_use]
    pub fn fill(&self, index: u32, meter: &Compiled, now: u64) -> Option<MeterFill> {
        let profile = meter.profile.as_ref()?;
        let of = |memory: &Memory| {
            let word = |at: usize| memory.word(index as usize * CELL + at).load(Ordering::Relaxed);
            let known = word(INCARNATION) == meter.incarnation;
            let mut buckets = known.then(|| buckets(memory, index));
            if meter.fill.number != 0 && (!known || word(FILLED) != meter.fill.number) {
                // It has not seen it yet.
                let before = buckets.unwrap_or_else(|| profile.full(now));
                buckets = Some(lowered(profile, before, meter, now));
            }
            buckets.map(|it| profile.tokens(it, now))
        };
        let emptiest = |[one, other]: [u64; 2], it: [u64; 2]| [one.min(it[0]), other.min(it[1])];
        let [committed, other] = self.workers.iter().filter_map(of).reduce(emptiest)?;
        Some(MeterFill {
            number: 0,
            committed,
            other,
        })
    }
}

fn buckets(memory: &Memory, index: u32) -> Buckets {
    let word = |at: usize| memory.word(index as usize * CELL + BUCKETS + at);
    Buckets::from_words(std::array::from_fn(|at| word(at).load(Ordering::Relaxed)))
}

/// Buckets with no more in them than those of the fill of a meter would have by now.
fn lowered(profile: &Profile, buckets: Buckets, meter: &Compiled, now: u64) -> Buckets {
    let MeterFill {
        number,
        committed,
        other,
    } = meter.fill;
    if number == 0 {
        return buckets;
    }
    let filled = profile.with([committed, other], meter.filled_at.min(now));
    profile.lower(buckets, filled, now)
}

/// Packets and octets by colour and filter, for each worker, which alone counts in its own. Cheap to clone: clones are the same.
#[derive(Clone, Debug)]
pub struct ColourBank {
    workers: Arc<[Memory]>,
}

impl ColourBank {
    /// A bank for so many workers.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        Self {
            workers: (0..workers).map(|_| Memory::of(LINES)).collect(),
        }
    }

    /// How many filters each has room for.
    #[must_use]
    pub fn cells(&self) -> usize {
        self.workers
            .first()
            .map_or(0, |memory| memory.lines() * crate::fib::WORDS / CELL)
    }

    /// Asks the processor for where a packet will be counted.
    #[inline]
    pub fn prefetch(&self, worker: usize, index: u32) {
        if let Some(memory) = self.workers.get(worker) {
            prefetch(memory.word(index as usize * CELL));
        }
    }

    /// Counts a packet of this colour.
    #[inline]
    pub fn count(&self, worker: usize, index: u32, colour: Colour, octets: usize) {
        if let Some(memory) = self.workers.get(worker) {
            let word = |at: usize| memory.word(index as usize * CELL + at);
            let counter = 2 * colour as usize;
            add(word(counter), 1);
            add(word(counter + 1), octets as u64);
        }
    }

    /// What was counted, the sum over all workers.
    #[must_use]
    pub fn read(&self, index: u32) -> Colours {
        let mut sum = Colours::default();
        for memory in self.workers.iter() {
            let load = |at: usize| memory.word(index as usize * CELL + at).load(Ordering::Relaxed);
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
