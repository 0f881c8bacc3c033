//! Fans: prefixes that lie far apart, in order, in full buckets.
//!
//! Where prefixes are neither few enough for one bucket nor close enough for a node, a node would be mostly empty and
//! each of its slots would lead to a bucket that is mostly empty too. A fan is a line and buckets behind it, one after
//! the other. What is below it is cut at some keys into as many ranges, so that each bucket is full:
//!
//! ```text
//!               short: no prefix has more than 31 bits     long
//!   first line  16 cuts of 32 bits                         32 cuts of 16 bits
//!   a bucket    8 prefixes of 32 bits, 8 results           as anywhere: 5 of 64 bits, 5 results
//! ```
//!
//! A cut is the first bits of the first key behind it, less one; all ones where there is none. So as many buckets are
//! passed over as there are cuts that the key is above.
//!
//! A prefix is in every bucket whose range it meets. A fan has all the bits of its prefixes that are behind its
//! beginning, all of them in the upper half of the address. A change makes it anew: it is small.

use std::sync::atomic::{AtomicU64, Ordering};

use super::arena::WORDS;
use super::descriptor::BUCKET;

/// Most prefixes of a bucket of short ones.
pub(super) const SHORT_BUCKET: usize = 8;
/// Most bits of these.
const SHORT: u32 = 31;
/// Most prefixes of a fan.
pub(super) const MOST: usize = 33 * BUCKET;

/// A prefix behind the beginning of what it is in: bits, the first one uppermost; how many; result.
pub(super) type Entry = (u64, u32, u32);

/// Half number `at` of the words of a line, of which it has 16.
#[inline]
pub(super) fn half(line: &[AtomicU64; WORDS], at: usize) -> u32 {
    (line[at / 2 % WORDS].load(Ordering::Relaxed) >> (32 * (at & 1))) as u32
}

/// Bits of a cut.
#[inline]
pub(super) fn cut_bits(short: bool) -> u32 {
    if short { 32 } else { 16 }
}

/// Cuts in a line.
#[inline]
fn cuts(short: bool) -> usize {
    WORDS * 64 / cut_bits(short) as usize
}

/// How many buckets there are before the one for `key`, in the fan that begins with this line.
#[inline]
pub(super) fn bucket_of(line: &[AtomicU64; WORDS], key: u64, short: bool) -> u32 {
    let word = |at: usize| line[at % WORDS].load(Ordering::Relaxed);
    // Cuts are in order: by halves.
    let passed = if short {
        let key = (key >> 32) as u32;
        let cut = |at: usize| word(at / 2) >> (32 * (at % 2)) & 0xffff_ffff;
        passed(cuts(short), |at| u64::from(key) > cut(at))
    } else {
        let key = key >> 48;
        let cut = |at: usize| word(at / 4) >> (16 * (at % 4)) & 0xffff;
        passed(cuts(short), |at| key > cut(at))
    };
    passed as u32
}

/// How many of `count`, a power of two, it is above, if it is above all before one that it is above.
#[inline]
fn passed(count: usize, is_above: impl Fn(usize) -> bool) -> usize {
    let mut passed = 0;
    let mut step = count / 2;
    while step > 0 {
        // Without a branch, which would be wrong every other time.
        passed += step * usize::from(is_above(passed + step - 1));
        step /= 2;
    }
    passed + usize::from(is_above(passed))
}

/// A fan to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) short: bool,
    pub(super) buckets: Vec<Bucket>,
}

/// One bucket of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bucket {
    /// First bits of the first key that goes here.
    pub(super) from: u64,
    pub(super) entries: Vec<Entry>,
}

/// A fan for these prefixes, in order of their keys and then the shorter first; `None` where there is no room
/// for them. No length is 0.
pub(super) fn plan(entries: &[Entry]) -> Option<Plan> {
    let short = entries.iter().all(|(_, length, _)| *length <= SHORT);
    let size = if short { SHORT_BUCKET } else { BUCKET };
    let behind = 64 - cut_bits(short);
    let first = |entry: &Entry| entry.0 >> behind;
    let last = |entry: &Entry| (entry.0 | u64::MAX >> entry.1) >> behind;
    let empty = |from: u64| Bucket {
        from,
        entries: Vec::with_capacity(size + 1),
    };
    let mut buckets = Vec::with_capacity(entries.len() / size + 2);
    buckets.push(empty(0));
    for entry in entries {
        let bucket = buckets.last_mut()?;
        bucket.entries.push(*entry);
        if bucket.entries.len() <= size {
            continue;
        }
        let mut next = empty(first(entry));
        // What begins before the cut and ends behind it is on both sides.
        next.entries
            .extend(bucket.entries.iter().filter(|it| last(it) >= next.from));
        bucket.entries.retain(|it| first(it) < next.from);
        if next.entries.len() > size || buckets.len() > cuts(short) {
            return None;
        }
        buckets.push(next);
    }
    Some(Plan { short, buckets })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(bits: u64, length: u32) -> Entry {
        (bits, length, 1)
    }

    fn sizes(entries: &[Entry]) -> (bool, Vec<usize>) {
        let plan = plan(entries).unwrap();
        (
            plan.short,
            plan.buckets.iter().map(|it| it.entries.len()).collect(),
        )
    }

    #[test]
    fn buckets_are_full_and_a_prefix_is_in_each_that_it_meets() {
        let mut entries = vec![entry(0, 1)];
        entries.extend((0..12).map(|at| entry(at << 58, 16)));
        let plan = plan(&entries).unwrap();
        assert_eq!(sizes(&entries), (true, vec![8, 6]));
        assert_eq!(plan.buckets[1].from, 7u64 << 58 >> 32);
        assert!(plan.buckets.iter().all(|it| it.entries[0] == entry(0, 1)));
    }

    #[test]
    fn long_prefixes_are_five_to_a_bucket() {
        let entries: Vec<Entry> = (0..11).map(|at| entry(at << 58, 50)).collect();
        assert_eq!(sizes(&entries), (false, vec![5, 5, 1]));
    }

    #[test]
    fn cuts_are_found_by_halves() {
        for count in 0..=32 {
            assert_eq!(passed(32, |at| at < count), count);
        }
    }

    #[test]
    fn what_does_not_fit_is_said_so() {
        // Nine within each other.
        let nested: Vec<Entry> = (1..10).map(|length| entry(0, length)).collect();
        assert_eq!(plan(&nested), None);
        // Six that only differ behind the bits of a cut.
        let close: Vec<Entry> = (0..6).map(|at| entry(at << 8, 60)).collect();
        assert_eq!(plan(&close), None);
        for (length, most, buckets) in [(31, 17 * 8, 17), (40, 33 * 5, 33)] {
            let many: Vec<Entry> = (0..=most).map(|at| entry(at << 50, length)).collect();
            assert_eq!(plan(&many), None);
            assert_eq!(plan(&many[..most as usize]).unwrap().buckets.len(), buckets);
        }
    }
}
