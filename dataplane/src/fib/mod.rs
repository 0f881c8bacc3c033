//! Longest-prefix match over IPv6.
//!
//! [`Table`] is the writer's end: a change at a time, then [`Table::commit`]
//! gives a [`Fib`], a version that any thread may read for as long as it keeps
//! it. A version is made by copying the path to what changed; all else is
//! shared, so that it costs the same with ten prefixes or a million, and a
//! reader of an older version is never disturbed. Lines that no version refers
//! to any more are used again: the writer finds out when it commits.
//!
//! # Structure
//!
//! A trie whose shape follows its content, in cache lines of 64 octets
//! (`descriptor` says how one refers to another):
//!
//! - the root: 1,024 slots, for the first ten bits;
//! - nodes of 3, 6, 9 or 12 bits. A slot of 8 octets has the result of the longest
//!   prefix that ends within the node there, and what is below. Where nothing is
//!   below any slot, slots have 4 octets, and 1 where results next to each other are close to each other (`packed`): a full
//!   pool of /64s costs 4 octets a prefix, and 1.2 if it was handed out in order;
//! - buckets: a line with up to five prefixes, compared at once;
//! - fans: up to 33 full buckets in order, behind a line that says which one (`fan`): a hundred prefixes far
//!   apart from each other, in two steps and few octets each;
//! - skips: a line for bits that all below have in common, where they reach to bit 28 or beyond;
//!   nearer the root nodes lead there.
//!
//! A bucket that overflows becomes a fan, or a node where its prefixes lie close
//! together, and a fan that overflows a node with fans below; a node of which one
//! slot in eight leads to nodes of one width swallows them (3 + 3 = 6, 6 + 3 = 9),
//! as long as together they have no more than nine bits, twelve near the root. So
//! dense parts get wide nodes, sparse ones fans, and one pool has the same few
//! steps wherever it lies. Nodes begin at bit 1 + 3n in the upper half of an
//! address, and none reaches across bits 28, 37, 46, 55 and 64: so a /64 ends where
//! a node ends, and wide nodes lie one above the other.
//!
//! No result is pushed down below its node: a change of `::/0` over a million
//! prefixes changes one node, the root (and what is said of up to eight `jumps`,
//! by which keys of the largest pools come past the upper steps).
//!
//! A lookup remembers the last result on its way and stops where nothing is
//! below. Keys go in bursts, one step of all before the next step of any, so
//! that their cache misses overlap: with AVX-512 eight keys in a register
//! (`vector`), elsewhere one after the other (`scalar`); which one is chosen
//! when the table is made.
//!
//! What was tried and lost is told in `perf/README.md`.
//!
//! [`Reference`] is the slow, obvious table that judges this one in tests.

mod arena;
mod descriptor;
mod exact;
mod fan;
mod jumps;
mod packed;
mod prefix;
mod reference;
mod scalar;
mod table;
#[cfg(all(target_arch = "x86_64", not(miri)))]
mod vector;

#[cfg(test)]
mod tests;

use std::sync::Arc;

pub(crate) use arena::{Memory, WORDS, prefetch};
pub use reference::Reference;
pub use table::{Full, Table};

use crate::versions::Token;

/// What a lookup gives when no prefix matches.
pub const NO_MATCH: u32 = 0;

/// Most keys that are stepped down together; longer bursts are cut.
const LANES: usize = 64;

/// Bits of an address that the root decides on.
const ROOT_BITS: u32 = 10;

/// How a burst is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// One key after the other, with prefetches: runs anywhere.
    Scalar,
    /// Eight keys in a register.
    Avx512,
}

impl Method {
    /// The best that this processor can do.
    #[must_use]
    pub fn best() -> Self {
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        if vector::is_available() {
            return Self::Avx512;
        }
        Self::Scalar
    }

    /// Its name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Scalar => "scalar",
            Self::Avx512 => "avx512",
        }
    }
}

/// One version of a table. Cheap to clone; reads are wait-free.
#[derive(Clone, Debug)]
pub struct Fib {
    memory: Arc<Memory>,
    /// First line of the root.
    root: u32,
    jumps: jumps::Jumps,
    prefixes: usize,
    method: Method,
    /// As long as this is held, nothing that this version refers to is used again.
    _held: Token,
}

impl Fib {
    /// How many prefixes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.prefixes
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.prefixes == 0
    }

    /// The result of the longest prefix that `key` is in, or [`NO_MATCH`].
    #[must_use]
    pub fn lookup(&self, key: u128) -> u32 {
        scalar::one(&self.memory, self.root, self.jumps, key)
    }

    /// [`Fib::lookup`] of each of `keys`, into `results`; as many as the shorter of the two has.
    #[inline]
    pub fn lookup_burst(&self, keys: &[u128], results: &mut [u32]) {
        self.lookup_burst_by(self.method, keys, results);
    }

    /// As [`Fib::lookup_burst`], by this method; [`Method::Avx512`] only has an effect where there is AVX-512.
    pub fn lookup_burst_by(&self, method: Method, keys: &[u128], results: &mut [u32]) {
        for (keys, results) in keys.chunks(LANES).zip(results.chunks_mut(LANES)) {
            let count = keys.len().min(results.len());
            let (keys, results) = (&keys[..count], &mut results[..count]);
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            if method == Method::Avx512 && vector::burst(&self.memory, self.root, self.jumps, keys, results) {
                continue;
            }
            let _ = method;
            scalar::burst(&self.memory, self.root, self.jumps, keys, results);
        }
    }
}
