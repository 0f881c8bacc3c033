//! Lookup, one key after the other.
//!
//! Where a step will read is found out when its line is asked for, and kept: the step itself is one load.

use std::sync::atomic::{AtomicU64, Ordering};

use super::arena::{Memory, WORDS, prefetch};
use super::descriptor::{BUCKET, Descriptor, Kind};
use super::fan::{self, SHORT_BUCKET};
use super::jumps::Jumps;
use super::packed;
use super::{LANES, NO_MATCH, ROOT_BITS};

/// A key on its way down.
#[derive(Clone, Copy, Default)]
struct Lane {
    /// What is left of the present half of the address, the next bit uppermost; behind the bits of the node that it is at.
    key: u64,
    /// The lower half.
    low: u64,
    at: Descriptor,
    best: u32,
    /// Of a node that it is at: which slot, in units of four octets from the beginning of all memory; of a packed one, of the node.
    slot: u32,
}

impl Lane {
    /// At the first step.
    #[inline]
    fn start(memory: &Memory, root: u32, jumps: Jumps, key: u128) -> Self {
        let high = (key >> 64) as u64;
        let (slot, length) = jumps.find(memory, high).unwrap_or_else(|| {
            let at = root as usize * WORDS + (high >> (64 - ROOT_BITS)) as usize;
            (load(memory.words(), at), ROOT_BITS)
        });
        Self {
            key: high << (length & 63),
            low: key as u64,
            at: Descriptor(slot as u32),
            best: (slot >> 32) as u32,
            slot: 0,
        }
    }

    /// Asks for the line that the next step reads; not called at the end.
    #[inline]
    fn aim(&mut self, memory: &Memory) {
        // Most steps are through nodes, which are asked no more than they have to be.
        let Some(bits) = self.at.node_bits() else {
            return memory.prefetch(self.at.line());
        };
        let index = (self.key >> (64 - bits)) as u32;
        self.key <<= bits;
        if !self.at.is_narrow() {
            self.slot = self.at.start() + 2 * index;
        } else if self.at.is_packed() {
            self.slot = index;
            memory.prefetch(self.at.line() + index / packed::SLOTS);
            return memory.prefetch(self.at.line() + packed::DATA);
        } else {
            self.slot = self.at.start() + index;
        }
        if let Some(word) = memory.words().get(self.slot as usize / 2) {
            prefetch(word);
        }
    }

    /// Goes one step down, after [`Lane::aim`].
    #[inline]
    fn step(&mut self, memory: &Memory) {
        if !self.at.is_node() {
            return self.other_step(memory);
        }
        let word = || load(memory.words(), self.slot as usize / 2);
        let (at, result) = if !self.at.is_narrow() {
            let slot = word();
            (Descriptor(slot as u32), (slot >> 32) as u32)
        } else if self.at.is_packed() {
            (
                Descriptor::NONE,
                packed::result(memory, self.at.line(), self.slot),
            )
        } else {
            (Descriptor::NONE, (word() >> (32 * (self.slot & 1))) as u32)
        };
        self.at = at;
        self.take(result);
    }

    /// A step through what is no node.
    #[inline]
    fn other_step(&mut self, memory: &Memory) {
        let line = self.at.line();
        match self.at.kind() {
            Kind::None | Kind::Node { .. } => {}
            Kind::Skip => {
                if self.at.is_low() {
                    self.key = self.low;
                }
                let behind = memory.load(line, 1);
                let length = (behind >> 32) as u32 & 63;
                // In two shifts: there may be no bits to skip.
                let differ = (self.key ^ memory.load(line, 0)) >> 1 >> (63 - length) != 0;
                self.key <<= length;
                self.at = Descriptor(if differ { 0 } else { behind as u32 });
            }
            Kind::Fan { .. } | Kind::ShortBucket | Kind::Bucket => self.leaf(memory),
        }
    }

    /// A step through what has no slots. By itself, so that the steps through nodes stay short.
    #[inline(never)]
    fn leaf(&mut self, memory: &Memory) {
        let line = memory.group::<WORDS>(self.at.line() as usize);
        match self.at.kind() {
            Kind::Fan { short } => {
                let child = self.at.line() + 1 + fan::bucket_of(line, self.key, short);
                self.at = if short {
                    Descriptor::short_bucket(child)
                } else {
                    Descriptor::bucket(child)
                };
            }
            // What is behind the lowest bit of an entry that is set may differ, and that bit itself. The longest is first.
            // All are compared: where it ends is different each time.
            Kind::ShortBucket => {
                let key = (self.key >> 32) as u32;
                let same = (0..SHORT_BUCKET).fold(0u32, |same, entry| {
                    let bits = fan::half(line, entry);
                    same | u32::from(key ^ bits <= bits ^ bits.wrapping_sub(1)) << entry
                });
                if same != 0 {
                    let entry = same.trailing_zeros() as usize;
                    self.take(fan::half(line, SHORT_BUCKET + entry));
                }
                self.at = Descriptor::NONE;
            }
            Kind::Bucket => {
                if self.at.is_low() {
                    self.key = self.low;
                }
                let same = (0..BUCKET).fold(0u32, |same, entry| {
                    let bits = line[entry].load(Ordering::Relaxed);
                    same | u32::from(self.key ^ bits <= bits ^ bits.wrapping_sub(1)) << entry
                });
                if same != 0 {
                    let entry = same.trailing_zeros() as usize;
                    self.take(fan::half(line, 2 * BUCKET + entry));
                }
                self.at = Descriptor::NONE;
            }
            Kind::None | Kind::Skip | Kind::Node { .. } => {}
        }
    }

    /// The result of a longer prefix than any before, if there is one.
    #[inline]
    fn take(&mut self, result: u32) {
        if result != NO_MATCH {
            self.best = result;
        }
    }
}

#[inline]
fn load(words: &[AtomicU64], at: usize) -> u64 {
    words.get(at).map_or(0, |word| word.load(Ordering::Relaxed))
}

/// One key.
pub(super) fn one(memory: &Memory, root: u32, jumps: Jumps, key: u128) -> u32 {
    let mut lane = Lane::start(memory, root, jumps, key);
    while !lane.at.is_none() {
        lane.aim(memory);
        lane.step(memory);
    }
    lane.best
}

/// Up to [`LANES`] keys, as many as there are results.
#[inline(never)]
pub(super) fn burst(memory: &Memory, root: u32, jumps: Jumps, keys: &[u128], results: &mut [u32]) {
    let mut lanes = [Lane::default(); LANES];
    let mut left = [0u8; LANES];
    let mut count = 0;
    for (at, (lane, key)) in lanes.iter_mut().zip(keys).enumerate() {
        *lane = Lane::start(memory, root, jumps, *key);
        if !lane.at.is_none() {
            lane.aim(memory);
            left[count] = at as u8;
            count += 1;
        }
    }
    while count > 0 {
        let mut still = 0;
        for at in 0..count {
            let index = left[at];
            let lane = &mut lanes[usize::from(index) % LANES];
            lane.step(memory);
            if !lane.at.is_none() {
                lane.aim(memory);
                left[still] = index;
                still += 1;
            }
        }
        count = still;
    }
    for (result, lane) in results.iter_mut().zip(&lanes) {
        *result = lane.best;
    }
}
