//! Nodes whose results have one octet.
//!
//! Prefixes handed out of a pool in order are numbered in order, nearly. So the results of 32 neighbours are close together, and
//! are told by how much each is above a base that the 32 have in common; 0 is none. A million prefixes in a quarter of the memory
//! stay in the cache of a core.
//!
//! ```text
//! line 0: slots 0 to 63      8 lines of 64 slots
//!  ...
//! line 8: 16 bases           of 4 octets, each for half of one of the lines above
//! ```
//!
//! Where results are not close together, or a prefix ends before the node does, slots have four octets (`table::packed`).

use std::sync::atomic::Ordering;

use super::NO_MATCH;
use super::arena::{Memory, WORDS};

/// Bits of an address that such a node takes.
pub(super) const BITS: u32 = 9;
/// Slots of a line.
pub(super) const SLOTS: u32 = 64;
/// Slots that have a base in common.
pub(super) const GROUP: u32 = 32;
/// Groups of a node.
pub(super) const GROUPS: u32 = (1 << BITS) / GROUP;
/// Lines with slots.
pub(super) const DATA: u32 = (1 << BITS) / SLOTS;
/// All lines: the bases of all groups have one.
pub(super) const LINES: u32 = DATA + 1;

/// Word and shift of a slot, in its line.
pub(super) fn place(index: u32) -> (usize, u32) {
    ((index % SLOTS / 8) as usize, 8 * (index % 8))
}

/// Word and shift of the base of group number `group`, in the last line.
#[inline]
pub(super) fn place_of_base(group: u32) -> (usize, u32) {
    ((group / 2) as usize, 32 * (group % 2))
}

/// The base of group number `group` of the node that begins at `line`.
#[inline]
pub(super) fn base(memory: &Memory, line: u32, group: u32) -> u32 {
    let (word, shift) = place_of_base(group);
    (memory.load(line + DATA, word) >> shift) as u32
}

/// The result in a slot. Both words are asked for at once, so that nobody waits for one after the other.
#[inline]
pub(super) fn result(memory: &Memory, line: u32, index: u32) -> u32 {
    let start = line as usize * WORDS;
    let load = |at: usize| memory.word(start + at).load(Ordering::Relaxed);
    let above = (load(index as usize / 8) >> (8 * (index % 8))) as u8;
    let (word, shift) = place_of_base(index / GROUP);
    let base = (load(DATA as usize * WORDS + word) >> shift) as u32;
    if above == 0 {
        NO_MATCH
    } else {
        base.wrapping_add(u32::from(above))
    }
}
