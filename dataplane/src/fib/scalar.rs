//! Lookup, one key after the other.

use super::arena::{Memory, WORDS};
use super::descriptor::{BUCKET, Descriptor, Kind};
use super::fan::{self, SHORT_BUCKET};
use super::jumps::Jumps;
use super::packed;
use super::{LANES, NO_MATCH, ROOT_BITS};

/// A key on its way down.
#[derive(Clone, Copy, Default)]
struct Lane {
    /// What is left of the present half of the address, the next bit uppermost.
    key: u64,
    /// The lower half.
    low: u64,
    at: Descriptor,
    best: u32,
}

impl Lane {
    #[inline]
    fn start(memory: &Memory, root: u32, jumps: Jumps, key: u128) -> Self {
        let high = (key >> 64) as u64;
        if let Some((slot, length)) = jumps.find(memory, high) {
            return Self {
                key: high << (length & 63),
                low: key as u64,
                at: Descriptor(slot as u32),
                best: (slot >> 32) as u32,
            };
        }
        let slot = memory.word(root as usize * WORDS + (high >> (64 - ROOT_BITS)) as usize);
        let slot = slot.load(std::sync::atomic::Ordering::Relaxed);
        Self {
            key: high << ROOT_BITS,
            low: key as u64,
            at: Descriptor(slot as u32),
            best: (slot >> 32) as u32,
        }
    }

    /// Goes one step down; not called at the end.
    #[inline]
    fn step(&mut self, memory: &Memory) {
        // Most steps are through nodes, which are asked no more than they have to be.
        let Some(bits) = self.at.node_bits() else {
            return self.other_step(memory);
        };
        let line = self.at.line();
        let index = (self.key >> (64 - bits)) as usize;
        let load = |at: usize| {
            let word = memory.word(line as usize * WORDS + at);
            word.load(std::sync::atomic::Ordering::Relaxed)
        };
        let result = if !self.at.is_narrow() {
            let slot = load(index);
            self.at = Descriptor(slot as u32);
            (slot >> 32) as u32
        } else if self.at.is_packed() {
            self.at = Descriptor::NONE;
            packed::result(memory, line, index as u32)
        } else {
            self.at = Descriptor::NONE;
            (load(index / 2) >> (32 * (index & 1))) as u32
        };
        self.take(result);
        self.key <<= bits;
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
        let line = self.at.line();
        match self.at.kind() {
            Kind::Fan { short } => {
                let child = fan::child(memory, line, self.key, short);
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
                    let bits = fan::half(memory, line, entry);
                    same | u32::from(key ^ bits <= bits ^ bits.wrapping_sub(1)) << entry
                });
                if same != 0 {
                    let entry = same.trailing_zeros() as usize;
                    self.take(fan::half(memory, line, SHORT_BUCKET + entry));
                }
                self.at = Descriptor::NONE;
            }
            Kind::Bucket => {
                if self.at.is_low() {
                    self.key = self.low;
                }
                let same = (0..BUCKET).fold(0u32, |same, entry| {
                    let bits = memory.load(line, entry);
                    same | u32::from(self.key ^ bits <= bits ^ bits.wrapping_sub(1)) << entry
                });
                if same != 0 {
                    let entry = same.trailing_zeros() as usize;
                    self.take(fan::half(memory, line, 2 * BUCKET + entry));
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

    /// Asks for the line that the next step reads.
    #[inline]
    fn prefetch(&self, memory: &Memory) {
        let line = self.at.line();
        let Some(bits) = self.at.node_bits() else {
            return memory.prefetch(line);
        };
        let index = (self.key >> (64 - bits)) as u32;
        if !self.at.is_narrow() {
            memory.prefetch(line + index / 8);
        } else if self.at.is_packed() {
            memory.prefetch(line + index / packed::SLOTS);
            memory.prefetch(line + packed::DATA);
        } else {
            memory.prefetch(line + index / 16);
        }
    }
}

/// One key.
pub(super) fn one(memory: &Memory, root: u32, jumps: Jumps, key: u128) -> u32 {
    let mut lane = Lane::start(memory, root, jumps, key);
    while !lane.at.is_none() {
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
            lane.prefetch(memory);
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
                lane.prefetch(memory);
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
