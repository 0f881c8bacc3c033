//! Tunnel Endpoint Identifiers of this MAAR: one for each node, which nobody can guess.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

/// More than the four from which on a Feistel network cannot be told from chance.
const ROUNDS: u64 = 8;
/// 2^64 divided by the golden ratio, odd: its bits follow no pattern.
const MIXER: u64 = 0x9e37_79b9_7f4a_7c15;
/// Numbers left out at each restart. A crash forgets what was given out since the last save, which
/// peers may still use; no more nodes than this attach between two saves.
const FORGOTTEN_AT_MOST: u32 = 1 << 16;

/// TEIDs in an order that only the key tells: number n is a keyed permutation of n, so that none comes
/// again before all 2^32 - 1 have been given out. Who is not on the path cannot guess which are in use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TeidSequence {
    /// Made once, from the randomness of the operating system.
    key: Option<u64>,
    /// The next number.
    next: u32,
}

impl TeidSequence {
    /// Starts a sequence with `key`; one that was stored goes on with its own.
    pub(crate) fn resume(&mut self, key: u64) {
        if self.key.is_some() {
            self.next = self.next.wrapping_add(FORGOTTEN_AT_MOST);
        } else {
            self.key = Some(key);
        }
    }

    /// The next one that is not `in_use`. `None` where all are, or before [`TeidSequence::resume`].
    pub(crate) fn allocate<T>(&mut self, in_use: &BTreeMap<NonZeroU32, T>) -> Option<NonZeroU32> {
        let key = self.key?;
        // One of the numbers gives 0, which is no TEID of a tunnel (3GPP TS 29.281 section 5.1).
        for _ in 0..in_use.len().saturating_add(2) {
            let number = self.next;
            self.next = number.wrapping_add(1);
            if let Some(teid) = NonZeroU32::new(permute(key, number))
                && !in_use.contains_key(&teid)
            {
                return Some(teid);
            }
        }
        None
    }
}

/// A permutation of all 32-bit numbers: a Feistel network over halves of 16 bits, whatever the key.
fn permute(key: u64, number: u32) -> u32 {
    let (mut left, mut right) = ((number >> 16) as u16, number as u16);
    for round in 0..ROUNDS {
        (left, right) = (right, left ^ scramble(key, round, right));
    }
    u32::from(left) << 16 | u32::from(right)
}

/// Sixteen bits that depend on every bit of the key, on the round and on the half.
fn scramble(key: u64, round: u64, half: u16) -> u16 {
    let mut mixed = key ^ (round << 16 | u64::from(half)).wrapping_mul(MIXER);
    for _ in 0..3 {
        mixed = (mixed ^ mixed >> 29).wrapping_mul(MIXER);
    }
    (mixed >> 48) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none() -> BTreeMap<NonZeroU32, ()> {
        BTreeMap::new()
    }

    fn sequence(key: u64) -> TeidSequence {
        let mut sequence = TeidSequence::default();
        sequence.resume(key);
        sequence
    }

    fn first(key: u64, count: usize) -> Vec<NonZeroU32> {
        let mut sequence = sequence(key);
        (0..count).map(|_| sequence.allocate(&none()).unwrap()).collect()
    }

    /// Every round is undone by itself, so no two numbers give one TEID; here on a sample.
    #[test]
    fn no_teid_comes_twice() {
        for key in [0, 1, u64::MAX, 0x0123_4567_89ab_cdef] {
            let mut teids = first(key, 100_000);
            teids.sort_unstable();
            teids.dedup();
            assert_eq!(teids.len(), 100_000, "{key:#x}");
        }
    }

    #[test]
    fn the_permutation_can_be_undone() {
        let undo = |key, teid: u32| {
            let (mut left, mut right) = ((teid >> 16) as u16, teid as u16);
            for round in (0..ROUNDS).rev() {
                (left, right) = (right ^ scramble(key, round, left), left);
            }
            u32::from(left) << 16 | u32::from(right)
        };
        for key in [0, 7, u64::MAX] {
            for number in (0..=u32::MAX).step_by(65_521) {
                assert_eq!(undo(key, permute(key, number)), number);
            }
            // The one number that gives 0 is left out.
            let mut sequence = sequence(key);
            sequence.next = undo(key, 0);
            let after = sequence.next.wrapping_add(1);
            assert_eq!(sequence.allocate(&none()).unwrap().get(), permute(key, after));
            assert_eq!(sequence.next, after.wrapping_add(1));
        }
    }

    #[test]
    fn another_key_gives_others() {
        let (one, other) = (first(1, 10_000), first(2, 10_000));
        let equal = one.iter().zip(&other).filter(|(one, other)| one == other).count();
        assert!(equal < 3, "{equal} of 10000 are the same");
        // Nor are they near each other, nor in the order of their numbers.
        let rising = one.windows(2).filter(|pair| pair[0] < pair[1]).count();
        assert!((4700..5300).contains(&rising), "{rising}");
        // Each bit is set in half of them.
        for bit in 0..32 {
            let set = one.iter().filter(|teid| teid.get() >> bit & 1 == 1).count();
            assert!((4700..5300).contains(&set), "bit {bit}: {set}");
        }
    }

    #[test]
    fn one_in_use_is_left_out_when_all_have_been_given_out() {
        let mut sequence = sequence(5);
        let taken: BTreeMap<_, _> = first(5, 3).into_iter().map(|it| (it, ())).collect();
        let teid = sequence.allocate(&taken).unwrap();
        assert!(!taken.contains_key(&teid));
        assert_eq!(teid, first(5, 4)[3]);
    }

    #[test]
    fn a_restart_leaves_out_what_may_have_been_forgotten() {
        let mut sequence = sequence(5);
        let stored = sequence.clone();
        let forgotten = sequence.allocate(&none()).unwrap();
        let mut restarted = stored;
        restarted.resume(99);
        assert_eq!(restarted.key, Some(5));
        let teids: Vec<_> = (0..10).map(|_| restarted.allocate(&none()).unwrap()).collect();
        assert!(!teids.contains(&forgotten));
    }

    #[test]
    fn without_a_key_there_is_none() {
        assert_eq!(TeidSequence::default().allocate(&none()), None);
    }
}
