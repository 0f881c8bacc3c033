//! One change: down the path, copying it, and up again.

use super::super::arena::WORDS;
use super::super::descriptor::{BUCKET, Descriptor, Kind};
use super::super::fan::{self, Entry};
use super::super::packed;
use super::super::prefix::Prefix;
use super::super::{NO_MATCH, ROOT_BITS};
use super::Table;

/// A slot of a node, taken out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) result: u32,
    /// Bits, from the start of the node, of the prefix that the result is of.
    pub(super) length: u8,
    pub(super) child: Descriptor,
}

/// A node to be worked on: the root is one too.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    pub(super) line: u32,
    pub(super) bits: u32,
    pub(super) narrow: bool,
    pub(super) packed: bool,
}

impl Node {
    pub(super) fn of(at: Descriptor) -> Option<Self> {
        match at.kind() {
            Kind::Node { bits, narrow, packed } => Some(Self {
                line: at.line(),
                bits,
                narrow,
                packed,
            }),
            _ => None,
        }
    }

    pub(super) fn descriptor(self) -> Descriptor {
        if self.packed {
            return Descriptor::packed(self.line);
        }
        Descriptor::node(self.line, self.bits, self.narrow)
    }

    pub(super) fn slots(self) -> u32 {
        1 << self.bits
    }

    fn index(self, key: u64) -> u32 {
        (key >> (64 - self.bits)) as u32
    }

    /// The slots that the first `length` bits of `key` cover.
    fn range(self, key: u64, length: u32) -> std::ops::Range<u32> {
        let behind = self.bits - length;
        let first = self.index(key) >> behind << behind;
        first..first + (1 << behind)
    }
}

impl Table {
    pub(super) fn root_node(&self) -> Node {
        Node {
            line: self.root,
            bits: ROOT_BITS,
            narrow: false,
            packed: false,
        }
    }

    pub(super) fn slot(&self, node: Node, index: u32) -> Slot {
        let memory = &self.arena.memory;
        if node.packed {
            let result = packed::result(memory, node.line, index);
            // No prefix ends within such a node but at its end.
            let length = if result == NO_MATCH { 0 } else { node.bits as u8 };
            return Slot {
                result,
                length,
                child: Descriptor::NONE,
            };
        }
        if node.narrow {
            let pair = memory.load(node.line + index / 16, index as usize / 2 % 8);
            let length = self.arena.note(node.line + index / 16).lengths[index as usize % 16];
            return Slot {
                result: (pair >> (32 * (index & 1))) as u32,
                length,
                child: Descriptor::NONE,
            };
        }
        let word = memory.load(node.line + index / 8, index as usize % 8);
        let length = self.arena.note(node.line + index / 8).lengths[index as usize % 8];
        Slot {
            result: (word >> 32) as u32,
            length,
            child: Descriptor(word as u32),
        }
    }

    /// Writes a slot of a node that is of this change. A child into a narrow node is lost: see [`Table::widen`]; and a result
    /// into a packed one that does not fit: see [`Table::fits_packed`].
    pub(super) fn put(&mut self, node: Node, index: u32, slot: Slot) {
        if node.packed {
            return self.put_packed(node, index, slot.result);
        }
        let memory = &self.arena.memory;
        if node.narrow {
            let (line, word) = (node.line + index / 16, index as usize / 2 % 8);
            let shift = 32 * (index & 1);
            let pair = memory.load(line, word) & !(0xffff_ffff << shift) | u64::from(slot.result) << shift;
            memory.store(line, word, pair);
            self.arena.note_mut(line).lengths[index as usize % 16] = slot.length;
            return;
        }
        let line = node.line + index / 8;
        memory.store(
            line,
            index as usize % 8,
            u64::from(slot.result) << 32 | u64::from(slot.child.0),
        );
        self.arena.note_mut(line).lengths[index as usize % 8] = slot.length;
    }

    /// The entries of a bucket or a fan, in no order: bits behind its beginning, how many, result.
    pub(super) fn entries(&self, at: Descriptor) -> Vec<Entry> {
        if let Kind::Fan { short } = at.kind() {
            return self.fan_entries(at, short);
        }
        self.bucket_entries(at.line()).collect()
    }

    pub(super) fn bucket_entries(&self, line: u32) -> impl Iterator<Item = Entry> + '_ {
        let entry = move |entry: usize| {
            let result = fan::half(
                self.arena.memory.group::<WORDS>(line as usize),
                2 * BUCKET + entry,
            );
            let bits = self.arena.memory.load(line, entry);
            (
                bits & bits.wrapping_sub(1),
                63 - bits.trailing_zeros().min(63),
                result,
            )
        };
        (0..BUCKET)
            .map(entry)
            .take_while(|(_, _, result)| *result != NO_MATCH)
    }

    /// A bucket or a fan that no version will have any more.
    pub(super) fn give_up_leaf(&mut self, at: Descriptor) {
        let lines = match at.kind() {
            Kind::Fan { .. } => self.fan_lines(at),
            _ => 1,
        };
        self.give_up(at.line(), lines);
    }

    /// A bucket of this change with these entries; nothing for none.
    pub(super) fn bucket(&mut self, entries: Vec<Entry>) -> Descriptor {
        if entries.is_empty() {
            return Descriptor::NONE;
        }
        let line = self.take(1);
        self.fill_bucket(line, entries);
        Descriptor::bucket(line)
    }

    pub(super) fn fill_bucket(&mut self, line: u32, mut entries: Vec<Entry>) {
        debug_assert!(entries.len() <= BUCKET, "{entries:?}");
        entries.sort_by_key(|(_, length, _)| std::cmp::Reverse(*length));
        let mut words = [0u64; 8];
        for (at, (bits, length, result)) in entries.into_iter().enumerate().take(BUCKET) {
            words[at] = bits | 1 << (63 - length.min(63));
            words[5 + at / 2] |= u64::from(result) << (32 * (at & 1));
        }
        for (at, word) in words.into_iter().enumerate() {
            self.arena.memory.store(line, at, word);
        }
    }

    /// Bits to skip, how many, and what is behind them.
    pub(super) fn skipped(&self, at: Descriptor) -> (u64, u32, Descriptor) {
        let behind = self.arena.memory.load(at.line(), 1);
        (
            self.arena.memory.load(at.line(), 0),
            (behind >> 32) as u32,
            Descriptor(behind as u32),
        )
    }

    /// `child` behind the first `length` of `bits`; itself if there are none.
    pub(super) fn skip(&mut self, bits: u64, length: u32, child: Descriptor) -> Descriptor {
        if length == 0 || child.is_none() {
            return child;
        }
        self.skip_line(bits >> (64 - length) << (64 - length), length, child)
    }

    fn skip_line(&mut self, bits: u64, length: u32, child: Descriptor) -> Descriptor {
        let line = self.take(1);
        self.arena.memory.store(line, 0, bits);
        self.arena
            .memory
            .store(line, 1, u64::from(length) << 32 | u64::from(child.0));
        Descriptor::skip(line)
    }

    /// `at`, which begins at `depth`: marked if the lower half of the address begins there.
    pub(super) fn at(&mut self, at: Descriptor, depth: u32) -> Descriptor {
        if depth != 64 || at.is_low() {
            return at;
        }
        match at.kind() {
            Kind::None => at,
            Kind::Skip | Kind::Bucket => at.low(),
            // A fan is in the upper half.
            Kind::Fan { .. } | Kind::ShortBucket => at,
            Kind::Node { .. } => self.skip_line(0, 0, at).low(),
        }
    }

    pub(super) fn insert(&mut self, prefix: Prefix, result: u32) {
        let root = self.root_node();
        if u32::from(prefix.length) <= ROOT_BITS {
            return self.cover(root, 0, prefix, result);
        }
        let index = root.index(prefix.key(0));
        let slot = self.slot(root, index);
        let child = self.insert_below(slot.child, ROOT_BITS, prefix, result);
        self.put(root, index, Slot { child, ..slot });
    }

    /// Puts the result of a prefix that ends within `node` into the slots that it covers.
    pub(super) fn cover(&mut self, node: Node, depth: u32, prefix: Prefix, result: u32) {
        let length = prefix.rest(depth);
        if length < node.bits {
            self.arena.note_mut(node.line).interior = true;
        }
        for index in node.range(prefix.key(depth), length) {
            let slot = self.slot(node, index);
            if slot.result == NO_MATCH || u32::from(slot.length) <= length {
                self.put(
                    node,
                    index,
                    Slot {
                        result,
                        length: length as u8,
                        ..slot
                    },
                );
            }
        }
    }

    /// What `at`, which begins at `depth`, is with a prefix that is longer than that.
    fn insert_below(&mut self, at: Descriptor, depth: u32, prefix: Prefix, result: u32) -> Descriptor {
        let key = prefix.key(depth);
        let new = match at.kind() {
            Kind::None => self.build(vec![(prefix, result)], depth),
            Kind::Bucket | Kind::Fan { .. } | Kind::ShortBucket => {
                let mut all = self.without(at, depth, prefix);
                all.push((prefix, result));
                self.build(all, depth)
            }
            Kind::Skip => {
                let (bits, length, child) = self.skipped(at);
                let same = (key ^ bits)
                    .leading_zeros()
                    .min(length)
                    .min(prefix.rest(depth) - 1)
                    / 3
                    * 3;
                self.give_up(at.line(), 1);
                if same == length {
                    let child = self.insert_below(child, depth + length, prefix, result);
                    self.skip(bits, length, child)
                } else {
                    let node = self.node(3, false);
                    let index = node.index(bits << same);
                    let old = self.lead(depth + same + 3, bits << same << 3, length - same - 3, child);
                    self.put(
                        node,
                        index,
                        Slot {
                            child: old,
                            ..Slot::default()
                        },
                    );
                    let new = self.insert_below(node.descriptor(), depth + same, prefix, result);
                    self.lead(depth, bits, same, new)
                }
            }
            Kind::Node { bits, .. } => {
                let at = self.own(at);
                let Some(mut node) = Node::of(at) else { return at };
                let length = prefix.rest(depth);
                if length <= bits {
                    if node.packed && !self.fits_packed(node, node.index(key), length, result) {
                        node = self.unpack(node);
                    }
                    self.cover(node, depth, prefix, result);
                    return node.descriptor();
                }
                node = self.widen(node);
                let index = node.index(key);
                let slot = self.slot(node, index);
                let child = self.insert_below(slot.child, depth + bits, prefix, result);
                self.put(node, index, Slot { child, ..slot });
                if child.0 & 15 != slot.child.0 & 15 {
                    self.merge(node, depth)
                } else {
                    node.descriptor()
                }
            }
        };
        self.at(new, depth)
    }

    /// The prefixes of a bucket or a fan, which is given up, except `prefix`, which is or could be among them.
    fn without(&mut self, at: Descriptor, depth: u32, prefix: Prefix) -> Vec<(Prefix, u32)> {
        let entries = self.entries(at);
        self.give_up_leaf(at);
        let own = (prefix.key(depth), prefix.rest(depth));
        entries
            .into_iter()
            .filter(|(bits, length, _)| (*bits, *length) != own)
            .map(|(bits, length, result)| (prefix.extend(depth, bits, length), result))
            .collect()
    }

    pub(super) fn remove(&mut self, prefix: Prefix) {
        let root = self.root_node();
        if u32::from(prefix.length) <= ROOT_BITS {
            return self.uncover(root, 0, prefix);
        }
        let index = root.index(prefix.key(0));
        let slot = self.slot(root, index);
        let child = self.remove_below(slot.child, ROOT_BITS, prefix);
        self.put(root, index, Slot { child, ..slot });
    }

    /// Gives the slots of a prefix that ends within `node` to the next shorter one there.
    fn uncover(&mut self, node: Node, depth: u32, prefix: Prefix) {
        let length = prefix.rest(depth);
        let interior = self.arena.note(node.line).interior;
        // Only the root can hold a prefix of no bits.
        let shortest = u32::from(depth > 0);
        let next = (shortest..length)
            .rev()
            .take_while(|_| interior)
            .find_map(|shorter| {
                let result = self.prefixes.get(&prefix.cut(depth + shorter))?;
                Some((result, shorter as u8))
            });
        let (result, now) = next.unwrap_or((NO_MATCH, 0));
        for index in node.range(prefix.key(depth), length) {
            let slot = self.slot(node, index);
            if slot.result != NO_MATCH && u32::from(slot.length) == length {
                self.put(
                    node,
                    index,
                    Slot {
                        result,
                        length: now,
                        ..slot
                    },
                );
            }
        }
    }

    /// What `at`, which begins at `depth`, is without a prefix that is in it.
    fn remove_below(&mut self, at: Descriptor, depth: u32, prefix: Prefix) -> Descriptor {
        let key = prefix.key(depth);
        let new = match at.kind() {
            Kind::None => at,
            Kind::Bucket | Kind::Fan { .. } | Kind::ShortBucket => {
                let left = self.without(at, depth, prefix);
                self.build(left, depth)
            }
            Kind::Skip => {
                let (bits, length, child) = self.skipped(at);
                self.give_up(at.line(), 1);
                let child = self.remove_below(child, depth + length, prefix);
                if child.kind() == Kind::Skip && !child.is_low() {
                    let (more, further, child_below) = self.skipped(child);
                    self.give_up(child.line(), 1);
                    let bits = bits >> (64 - length) << (64 - length) | more >> length;
                    self.skip(bits, length + further, child_below)
                } else {
                    self.skip(bits, length, child)
                }
            }
            Kind::Node { bits, .. } => {
                let at = self.own(at);
                let Some(node) = Node::of(at) else { return at };
                let index = node.index(key);
                if prefix.rest(depth) <= bits {
                    self.uncover(node, depth, prefix);
                } else {
                    let slot = self.slot(node, index);
                    let child = self.remove_below(slot.child, depth + bits, prefix);
                    self.put(node, index, Slot { child, ..slot });
                }
                let slot = self.slot(node, index);
                if slot.result == NO_MATCH && slot.child.is_none() {
                    self.shrink(node, depth, prefix)
                } else {
                    at
                }
            }
        };
        self.at(new, depth)
    }
}
