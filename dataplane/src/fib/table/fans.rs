//! Fans as the writer makes and reads them.

use super::super::NO_MATCH;
use super::super::arena::WORDS;
use super::super::descriptor::{Descriptor, Kind};
use super::super::fan::{self, Entry, Plan, SHORT_BUCKET};
use super::Table;

/// Prefixes so close together are for a node: of the keys that they tell apart, one in so many has one.
const DENSE: usize = 8;
/// Bits of the widest node that a few prefixes are worth.
const WIDEST: u32 = 9;

/// Whether a node is better for these prefixes, one behind the bits that all have in common.
pub(super) fn are_dense(entries: &[Entry]) -> bool {
    let Some((first, ..)) = entries.first() else {
        return false;
    };
    let differ = entries.iter().fold(0, |differ, (key, ..)| differ | (key ^ first));
    let longest = entries.iter().map(|(_, length, _)| *length).max().unwrap_or(0);
    let told_apart_by = longest.saturating_sub(differ.leading_zeros());
    told_apart_by <= WIDEST && entries.len() * DENSE >= 1 << told_apart_by
}

/// A fan for these prefixes of the upper half of the address, in any order; `None` where there is no room
/// for them.
pub(super) fn fan_of(entries: &mut [Entry]) -> Option<Plan> {
    entries.sort_unstable_by_key(|(bits, length, _)| (*bits, *length));
    fan::plan(entries)
}

impl Table {
    /// A fan of this change.
    pub(super) fn fan(&mut self, plan: Plan) -> Descriptor {
        let lines = 1 + plan.buckets.len() as u32;
        let first = self.take(lines);
        // Only the writer has to know.
        self.arena.note_mut(first).lengths[0] = lines as u8;
        let bits = fan::cut_bits(plan.short) as usize;
        let mut cuts = [u64::MAX; WORDS];
        for (at, bucket) in plan.buckets.into_iter().enumerate() {
            let line = first + 1 + at as u32;
            if let Some(cut) = at.checked_sub(1) {
                let (word, shift) = (cut * bits / 64, cut * bits % 64);
                let ones = u64::MAX >> (64 - bits);
                cuts[word] = cuts[word] & !(ones << shift) | (bucket.from - 1) << shift;
            }
            if plan.short {
                self.fill_short_bucket(line, bucket.entries);
            } else {
                self.fill_bucket(line, bucket.entries);
            }
        }
        for (at, word) in cuts.into_iter().enumerate() {
            self.arena.memory.store(first, at, word);
        }
        Descriptor::fan(first, plan.short)
    }

    fn fill_short_bucket(&mut self, line: u32, mut entries: Vec<Entry>) {
        debug_assert!(entries.len() <= SHORT_BUCKET, "{entries:?}");
        entries.sort_by_key(|(_, length, _)| std::cmp::Reverse(*length));
        let mut halves = [0; 16];
        for (at, (bits, length, result)) in entries.into_iter().enumerate().take(SHORT_BUCKET) {
            halves[at] = (bits >> 32) as u32 | 1 << (31 - length.min(31));
            halves[SHORT_BUCKET + at] = result;
        }
        for (at, pair) in halves.chunks_exact(2).enumerate() {
            let word = u64::from(pair[0]) | u64::from(pair[1]) << 32;
            self.arena.memory.store(line, at, word);
        }
    }

    /// Lines of a fan.
    pub(super) fn fan_lines(&self, at: Descriptor) -> u32 {
        debug_assert!(matches!(at.kind(), Kind::Fan { .. }), "{at:?}");
        u32::from(self.arena.note(at.line()).lengths[0])
    }

    /// The prefixes of a fan, each once.
    pub(super) fn fan_entries(&self, at: Descriptor, short: bool) -> Vec<Entry> {
        let first = at.line();
        let mut entries = Vec::with_capacity(fan::MOST);
        for line in first + 1..first + self.fan_lines(at) {
            if short {
                entries.extend(self.short_bucket_entries(line));
            } else {
                entries.extend(self.bucket_entries(line));
            }
        }
        entries.sort_unstable();
        entries.dedup();
        entries
    }

    fn short_bucket_entries(&self, line: u32) -> impl Iterator<Item = Entry> + '_ {
        let half = move |at: usize| fan::half(self.arena.memory.group::<WORDS>(line as usize), at);
        let entry = move |entry: usize| {
            let bits = half(entry);
            (
                u64::from(bits & bits.wrapping_sub(1)) << 32,
                31 - bits.trailing_zeros().min(31),
                half(SHORT_BUCKET + entry),
            )
        };
        (0..SHORT_BUCKET)
            .map(entry)
            .take_while(|(_, _, result)| *result != NO_MATCH)
    }
}
