//! Jumps: from the start to deep inside, where many prefixes are.
//!
//! Nearly all keys of a gateway are in a few pools, and all that is known of a
//! pool's beginning is said by one comparison. A jump is a node, the bits that
//! lead to it, and the result of the longest prefix passed on the way: what the
//! root would have led to, sooner. The writer finds it anew with each version, so
//! that a change above or on the way is in it.
//!
//! Up to eight are read from four lines, of which each has a word of each jump:
//! bits, mask of bits, slot (result and node, as in a node), how many bits. Which
//! jump a key may take is said by three bits of the key: those, the same for all
//! keys, by which most of the heaviest pools differ.

use super::arena::{Memory, WORDS};

/// Lines of jumps.
pub(super) const LINES: u32 = 4;
/// Bits of an address by which pools are told apart: a /43 has 2^21 prefixes of 64 bits.
pub(super) const POOL_BITS: u32 = 43;
/// Pools with fewer prefixes than this get no jump.
const HEAVY: u32 = if cfg!(test) { 6 } else { 256 };

/// Where the jumps of a version are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Jumps {
    /// First line; 0 if there are none.
    pub(super) line: u32,
    /// How far right the bits are that say which one.
    pub(super) shift: u32,
}

impl Jumps {
    /// Slot and bits behind the jump that `high` takes.
    #[inline]
    pub(super) fn find(self, memory: &Memory, high: u64) -> Option<(u64, u32)> {
        if self.line == 0 {
            return None;
        }
        let which = (high >> self.shift) as usize % WORDS;
        let differ = (high ^ memory.load(self.line, which)) & memory.load(self.line + 1, which);
        (differ == 0).then(|| {
            (
                memory.load(self.line + 2, which),
                memory.load(self.line + 3, which) as u32,
            )
        })
    }
}

/// A jump, made out by the writer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Jump {
    pub(super) bits: u64,
    pub(super) length: u32,
    pub(super) slot: u64,
}

impl Jump {
    fn mask(self) -> u64 {
        !(u64::MAX >> self.length)
    }
}

/// Which of these each place gets: the first that has the place's three bits.
fn places(jumps: &[Jump], shift: u32) -> [Option<usize>; WORDS] {
    let mut places = [None; WORDS];
    for (rank, jump) in jumps.iter().enumerate() {
        places[(jump.bits >> shift) as usize % WORDS].get_or_insert(rank);
    }
    places
}

/// The shift by which most of these have a place, the first ones counting most.
pub(super) fn arrange(jumps: &[Jump]) -> u32 {
    // Only bits that every jump has.
    let least = 64 - jumps.iter().map(|jump| jump.length).min().unwrap_or(0);
    let score = |shift: &u32| -> u32 {
        let placed = places(jumps, *shift).into_iter().flatten();
        placed.map(|rank| 1 << (WORDS - rank.min(WORDS))).sum()
    };
    (least.min(61)..=61).max_by_key(score).unwrap_or(61)
}

/// The words of the four lines.
pub(super) fn words(jumps: &[Jump], shift: u32) -> [[u64; WORDS]; LINES as usize] {
    let mut words = [[0; WORDS]; LINES as usize];
    for (at, place) in places(jumps, shift).into_iter().enumerate() {
        let [bits, mask, slot, length] = place.and_then(|rank| jumps.get(rank)).map_or(
            // No key takes this: the bits belong to another place.
            [(at as u64 ^ 1) << shift, u64::MAX, 0, 0],
            |jump| [jump.bits, jump.mask(), jump.slot, u64::from(jump.length)],
        );
        words[0][at] = bits;
        words[1][at] = mask;
        words[2][at] = slot;
        words[3][at] = length;
    }
    words
}

/// Which pools have many prefixes: at least one of each that has more than a ninth of all that came
/// (counters of Misra and Gries). They never say more than there is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Heavy {
    pools: [(u64, u32); WORDS],
}

impl Heavy {
    /// A prefix has come.
    pub(super) fn add(&mut self, high: u64) {
        let pool = high >> (64 - POOL_BITS);
        if let Some((_, count)) = self
            .pools
            .iter_mut()
            .find(|(it, count)| *it == pool && *count > 0)
        {
            *count += 1;
        } else if let Some(free) = self.pools.iter_mut().find(|(_, count)| *count == 0) {
            *free = (pool, 1);
        } else {
            for (_, count) in &mut self.pools {
                *count -= 1;
            }
        }
    }

    /// A prefix has gone.
    pub(super) fn remove(&mut self, high: u64) {
        let pool = high >> (64 - POOL_BITS);
        if let Some((_, count)) = self.pools.iter_mut().find(|(it, _)| *it == pool) {
            *count = count.saturating_sub(1);
        }
    }

    /// The bits of the pools that are worth a jump, the heaviest first.
    pub(super) fn pools(&self) -> impl Iterator<Item = u64> + use<> {
        let mut pools = self.pools;
        // By orders of magnitude, so that their order is mostly as it was.
        pools.sort_by_key(|(_, count)| std::cmp::Reverse(count.checked_ilog2()));
        pools
            .into_iter()
            .filter(|(_, count)| *count >= HEAVY)
            .map(|(pool, _)| pool << (64 - POOL_BITS))
    }
}
