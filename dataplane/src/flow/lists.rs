//! The filters of each prefix: runs of cache lines that are written once.
//!
//! As a route, a list never changes in place: a prefix whose filters change gets
//! another one, and the lines of the old one are used again when no version that
//! leads to them is held any more.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::MOST_OF_A_PREFIX;
use super::compiled::{Compiled, LINE};
use crate::fib::{Memory, prefetch};
use crate::versions::{Token, Versions};

/// Lines that are reserved: 4 GiB of addresses, 64 million filters. Only what is used takes memory.
const LINES: usize = if cfg!(miri) { 1 << 10 } else { 1 << 26 };
/// Lines that are asked for beforehand; behind them the processor sees where it goes.
const FETCHED: usize = 4;
/// Runs have 1, 2, 4 ... lines.
const SIZES: usize = MOST_OF_A_PREFIX.ilog2() as usize + 1;

/// Where the filters of a prefix are; the default is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct List {
    first: u32,
    count: u8,
}

impl List {
    /// There are none.
    #[inline]
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.count == 0
    }

    pub(crate) fn pack(self) -> u64 {
        u64::from(self.count) << 32 | u64::from(self.first)
    }

    #[inline]
    pub(crate) fn unpack(word: u64) -> Self {
        Self {
            first: word as u32,
            count: (word >> 32) as u8,
        }
    }
}

/// What the lists of one version mean. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Lists {
    memory: Arc<Memory>,
    _held: Token,
}

impl Lists {
    /// Asks the processor for the filters that come first.
    #[inline]
    pub fn prefetch(&self, list: List) {
        for line in 0..usize::from(list.count).min(FETCHED) {
            prefetch(self.memory.word((list.first as usize + line) * LINE));
        }
    }

    /// The filters, in their order.
    #[inline]
    pub fn filters(&self, list: List) -> impl Iterator<Item = Compiled> + '_ {
        let line = |line: usize| {
            let word = |at: usize| self.memory.word(line * LINE + at).load(Ordering::Relaxed);
            Compiled::unpack(std::array::from_fn(word))
        };
        let first = list.first as usize;
        (first..first + usize::from(list.count)).map(line)
    }
}

/// The writer's end.
#[derive(Debug)]
pub(crate) struct ListWriter {
    memory: Arc<Memory>,
    /// First lines of runs, by size.
    free: [Vec<u32>; SIZES],
    /// The next line that was never used.
    next: u32,
    versions: Versions<List>,
}

fn size(count: usize) -> usize {
    count.max(1).next_power_of_two().ilog2() as usize
}

impl ListWriter {
    pub(crate) fn new() -> Self {
        Self {
            memory: Arc::new(Memory::of(LINES)),
            free: std::array::from_fn(|_| Vec::new()),
            next: 0,
            versions: Versions::default(),
        }
    }

    /// Whether so many filters can change, of so many that there are then.
    pub(crate) fn room_for(&self, changes: usize, filters: usize) -> bool {
        // A list that changes is written whole, into a run that is at most twice as long.
        let lines = changes
            .saturating_mul(MOST_OF_A_PREFIX)
            .min(filters.saturating_mul(2));
        self.memory.lines() > (self.next as usize).saturating_add(lines)
    }

    /// A list of these, at most [`MOST_OF_A_PREFIX`]. Whoever adds has asked for room before.
    pub(crate) fn add(&mut self, filters: &[Compiled]) -> List {
        if filters.is_empty() {
            return List::default();
        }
        let size = size(filters.len());
        let first = self.free.get_mut(size).and_then(Vec::pop).unwrap_or_else(|| {
            let first = self.next;
            self.next += 1 << size;
            first
        });
        for (line, filter) in filters.iter().enumerate() {
            for (at, value) in filter.pack().into_iter().enumerate() {
                let word = (first as usize + line) * LINE + at;
                self.memory.word(word).store(value, Ordering::Relaxed);
            }
        }
        List {
            first,
            // There are no more.
            count: filters.len().min(MOST_OF_A_PREFIX) as u8,
        }
    }

    /// The next version does not lead to it any more.
    pub(crate) fn retire(&mut self, list: List) {
        if !list.is_empty() {
            self.versions.retire(list);
        }
    }

    /// For the next version.
    pub(crate) fn commit(&mut self) -> Lists {
        let free = &mut self.free;
        let held = self.versions.commit(|list| {
            if let Some(free) = free.get_mut(size(usize::from(list.count))) {
                free.push(list.first);
            }
        });
        Lists {
            memory: self.memory.clone(),
            _held: held,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Act;

    fn filter(counter: u32) -> Compiled {
        let mut filter = Compiled::default();
        (filter.counter, filter.priority, filter.scope) = (counter, 7, 64);
        (filter.flow_label, filter.except) = (0xf_ffff, 0xfff_ffff - counter);
        filter.act = Act::Tunnel(u32::MAX);
        filter
    }

    #[test]
    fn a_list_is_read_as_it_was_written_and_its_lines_are_used_again_when_nobody_reads_them() {
        let mut writer = ListWriter::new();
        let five: Vec<_> = (1..=5).map(filter).collect();
        let list = writer.add(&five);
        let held = writer.commit();
        assert_eq!(held.filters(list).collect::<Vec<_>>(), five);
        assert_eq!(held.filters(List::default()).count(), 0);
        assert_eq!(List::unpack(list.pack()), list);
        writer.retire(list);
        let other = writer.add(&five[..3]);
        writer.commit();
        assert_ne!(other.first, list.first);
        assert_eq!(held.filters(list).collect::<Vec<_>>(), five, "still held");
        drop(held);
        writer.commit();
        assert_eq!(writer.add(&five).first, list.first, "of the same size");
    }
}
