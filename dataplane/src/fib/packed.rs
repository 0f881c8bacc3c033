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

/// Word and shift of a slot, from the beginning of the node.
#[inline]
pub(super) fn place(index: u32) -> (usize, u32) {
    ((index / 8) as usize, 8 * (index % 8))
}

/// The same of the base of group number `group`.
#[inline]
pub(super) fn place_of_base(group: u32) -> (usize, u32) {
    (DATA as usize * WORDS + (group / 2) as usize, 32 * (group % 2))
}

/// The base of group number `group` of the node that begins at `line`.
#[inline]
pub(super) fn base(memory: &Memory, line: u32, group: u32) -> u32 {
    let (word, shift) = place_of_base(group);
    (memory.load(line, word) >> shift) as u32
}

/// The result in a slot. Both words are asked for at once, so that nobody waits for one after the other.
#[inline]
pub(super) fn result(memory: &Memory, line: u32, index: u32) -> u32 {
    let (word, shift) = place(index);
    let above = (memory.load(line, word) >> shift) as u8;
    let base = base(memory, line, index / GROUP);
    if above == 0 {
        NO_MATCH
    } else {
        base.wrapping_add(u32::from(above))
    }
}
