//! Packed nodes, as the writer makes and changes them.

use super::super::NO_MATCH;
use super::super::packed::{self, BITS, GROUP, GROUPS};
use super::Table;
use super::edit::Node;

/// How far above its base a result may be.
const MOST: u32 = u8::MAX as u32;

/// The least and the most of these results, of which [`NO_MATCH`] is none.
fn bounds(results: impl Iterator<Item = u32>) -> Option<(u32, u32)> {
    results
        .filter(|it| *it != NO_MATCH)
        .fold(None, |bounds, it| match bounds {
            None => Some((it, it)),
            Some((least, most)) => Some((least.min(it), most.max(it))),
        })
}

/// The base of results between these two, if there is one: such that as many fit below them as above.
fn base_of(least: u32, most: u32) -> Option<u32> {
    let spare = (MOST - 1).checked_sub(most - least)?;
    // No result is 0, so there is a number below each.
    Some((least - 1).saturating_sub(spare / 2))
}

impl Table {
    /// A node with slots of four octets in one, if they fit; it is given up then. It need not be of this change.
    pub(super) fn pack(&mut self, node: Node) -> Option<Node> {
        if !node.narrow || node.packed || node.bits != BITS || self.arena.note(node.line).interior {
            return None;
        }
        let mut bases = [0; GROUPS as usize];
        for (base, group) in bases.iter_mut().zip(0..GROUPS) {
            let results = (group * GROUP..(group + 1) * GROUP).map(|index| self.slot(node, index).result);
            if let Some((least, most)) = bounds(results) {
                *base = base_of(least, most)?;
            }
        }
        let packed = Node {
            line: self.take(packed::LINES),
            packed: true,
            ..node
        };
        for (group, base) in (0..).zip(bases) {
            self.put_base(packed, group, base);
        }
        for index in 0..node.slots() {
            let result = self.slot(node, index).result;
            if result != NO_MATCH {
                self.put_above(packed, index, result - bases[(index / GROUP) as usize]);
            }
        }
        self.give_up(node.line, node.descriptor().lines());
        Some(packed)
    }

    /// The same node (of this change) with slots of four octets.
    pub(super) fn unpack(&mut self, node: Node) -> Node {
        if !node.packed {
            return node;
        }
        let narrow = self.node(node.bits, true);
        for index in 0..node.slots() {
            let slot = self.slot(node, index);
            if slot.result != NO_MATCH {
                self.put(narrow, index, slot);
            }
        }
        self.give_up(node.line, node.descriptor().lines());
        narrow
    }

    /// Whether a prefix of so many bits of a packed node, whose first slot is this, can have this result there.
    pub(super) fn fits_packed(&self, node: Node, index: u32, length: u32, result: u32) -> bool {
        length == node.bits && self.rebased(node, index, result).is_some()
    }

    /// The base by which `result` can be put into a slot.
    fn rebased(&self, node: Node, index: u32, result: u32) -> Option<u32> {
        let group = index / GROUP;
        let base = packed::base(&self.arena.memory, node.line, group);
        if result > base && result - base <= MOST {
            return Some(base);
        }
        let others = (group * GROUP..(group + 1) * GROUP).filter(|it| *it != index);
        let others = others.map(|index| packed::result(&self.arena.memory, node.line, index));
        let (least, most) = bounds(others.chain([result]))?;
        base_of(least, most)
    }

    /// Puts a result into a slot of a packed node (of this change): none, or one that fits.
    pub(super) fn put_packed(&mut self, node: Node, index: u32, result: u32) {
        if result == NO_MATCH {
            return self.put_above(node, index, 0);
        }
        let group = index / GROUP;
        let before = packed::base(&self.arena.memory, node.line, group);
        let Some(base) = self.rebased(node, index, result) else {
            // Who puts has asked; a result that is lost would be found by the property tests.
            debug_assert!(false, "{result} does not fit slot {index} of {node:?}");
            return;
        };
        if base != before {
            for index in group * GROUP..(group + 1) * GROUP {
                let result = packed::result(&self.arena.memory, node.line, index);
                if result != NO_MATCH {
                    // That of this slot may not fit, and is overwritten.
                    self.put_above(node, index, result.wrapping_sub(base) & MOST);
                }
            }
            self.put_base(node, group, base);
        }
        self.put_above(node, index, result - base);
    }

    fn put_above(&mut self, node: Node, index: u32, above: u32) {
        let (word, shift) = packed::place(index);
        self.put_bits(node.line, word, u64::from(MOST), shift, above);
    }

    fn put_base(&mut self, node: Node, group: u32, base: u32) {
        let (word, shift) = packed::place_of_base(group);
        self.put_bits(node.line, word, u64::from(u32::MAX), shift, base);
    }

    fn put_bits(&mut self, line: u32, word: usize, mask: u64, shift: u32, bits: u32) {
        let memory = &self.arena.memory;
        let others = memory.load(line, word) & !(mask << shift);
        memory.store(line, word, others | u64::from(bits) << shift);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bases_are_found_where_there_are_any() {
        for (least, most) in [
            (1, 1),
            (1, 255),
            (7, 7),
            (u32::MAX, u32::MAX),
            (u32::MAX - 254, u32::MAX),
        ] {
            let base = base_of(least, most).unwrap();
            assert!(least > base && most - base <= MOST, "{least} {most}: {base}");
        }
        assert_eq!(base_of(1, 256), None);
        assert_eq!(base_of(100_000, 100_000), Some(100_000 - 1 - 127));
        assert_eq!(bounds([0, 5, 0, 3, 9].into_iter()), Some((3, 9)));
        assert_eq!(bounds([0, 0].into_iter()), None);
    }
}
