//! Every prefix of a table, to be found as it is: what was hidden by a longer one has to be found again when that goes.
//!
//! An ordered map costs a way through five or six of its nodes for each change, most of them out of the caches when there are
//! a million prefixes; a hash costs one or two lines. It is in parts, so that none of the changes of a growing table waits for
//! all of it to be laid out anew: a part that is doubled has some thousands.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::prefix::Prefix;

/// A power of two.
const PARTS: usize = if cfg!(miri) { 4 } else { 256 };

/// Prefixes and their results.
#[derive(Debug)]
pub(super) struct Exact {
    parts: Vec<HashMap<Prefix, u32, RandomState>>,
    count: usize,
}

impl Exact {
    pub(super) fn new() -> Self {
        let hasher = RandomState::default();
        let part = || HashMap::with_hasher(hasher);
        Self {
            parts: std::iter::repeat_with(part).take(PARTS).collect(),
            count: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn get(&self, prefix: &Prefix) -> Option<u32> {
        self.parts.get(part(prefix))?.get(prefix).copied()
    }

    /// Gives what it was before.
    pub(super) fn insert(&mut self, prefix: Prefix, result: u32) -> Option<u32> {
        let before = self.parts.get_mut(part(&prefix))?.insert(prefix, result);
        self.count += usize::from(before.is_none());
        before
    }

    /// Gives what it was.
    pub(super) fn remove(&mut self, prefix: &Prefix) -> Option<u32> {
        let before = self.parts.get_mut(part(prefix))?.remove(prefix);
        self.count -= usize::from(before.is_some());
        before
    }
}

/// Which part, by all bits of the address: those of neighbours differ in few. The hash within a part is another one, and
/// keyed: who chooses prefixes can fill one part, and is no worse off than with one map.
fn part(prefix: &Prefix) -> usize {
    let mixed = (prefix.high ^ prefix.low.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 56) as usize % PARTS
}
