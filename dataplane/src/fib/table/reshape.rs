//! Nodes that grow, merge and go.

use std::collections::BTreeMap;

use super::super::NO_MATCH;
use super::super::descriptor::{BUCKET, Descriptor, Kind};
use super::super::fan::{self, Entry};
use super::super::prefix::Prefix;
use super::Table;
use super::edit::{Node, Slot};
use super::fans::{are_dense, fan_of};

/// Nodes do not reach across this bit, nor across every ninth one behind it: so a node grows to its full
/// width, and meets others that did, instead of stopping where some of those below have grown first.
const TOP: u32 = 28;
/// Bits of the widest nodes.
const WIDEST: u32 = 9;
/// Of those above [`TOP`]. A change copies the nodes that it is in, so that only these few are that wide.
const WIDEST_AT_TOP: u32 = 12;

/// Bits that a node which begins at `depth` may have.
fn most(depth: u32) -> u32 {
    match depth.checked_sub(TOP) {
        Some(behind) => WIDEST - behind % WIDEST,
        None => (TOP - depth).min(WIDEST_AT_TOP),
    }
}
/// A sparse node with no more prefixes below it than this is made anew.
const FEW: usize = 48;

/// Those of these prefixes that are longer than `bits`, by the first `bits`, and what they are behind them.
fn by_slot(entries: Vec<Entry>, bits: u32) -> BTreeMap<usize, Vec<Entry>> {
    let mut slots: BTreeMap<usize, Vec<Entry>> = BTreeMap::new();
    for (key, length, result) in entries {
        if length > bits {
            let below = (key << bits, length - bits, result);
            slots
                .entry((key >> (64 - bits)) as usize)
                .or_default()
                .push(below);
        }
    }
    slots
}

impl Table {
    /// An empty node of this change.
    pub(super) fn node(&mut self, bits: u32, narrow: bool) -> Node {
        let lines = Descriptor::node(0, bits, narrow).lines();
        let line = self.take(lines);
        Node {
            line,
            bits,
            narrow,
            packed: false,
        }
    }

    /// The same node (of this change) with room for children.
    pub(super) fn widen(&mut self, node: Node) -> Node {
        if !node.narrow {
            return node;
        }
        let wide = self.node(node.bits, false);
        for index in 0..node.slots() {
            let slot = self.slot(node, index);
            self.put(wide, index, slot);
        }
        self.arena.note_mut(wide.line).interior = self.arena.note(node.line).interior;
        self.give_up(node.line, node.descriptor().lines());
        wide
    }

    /// The best shape for these prefixes, all different, all longer than `depth`, the same up to there.
    pub(super) fn build(&mut self, entries: Vec<(Prefix, u32)>, depth: u32) -> Descriptor {
        let Some((first, _)) = entries.first().copied() else {
            return Descriptor::NONE;
        };
        let end = if depth < 64 { 64 } else { 130 };
        // A node of three bits takes as much room as a bucket, and is read in fewer steps.
        let short = entries.len() > 1 && entries.iter().all(|(it, _)| it.rest(depth) <= 3);
        // In a bucket there is no room for all 64 bits of a half, and only for the one half.
        let fits = |it: &Prefix| it.rest(depth) < 64 && (depth >= 64 || it.length <= 64);
        if entries.len() <= BUCKET && !short && entries.iter().all(|(it, _)| fits(it)) {
            let entries = entries
                .iter()
                .map(|(it, result)| (it.key(depth), it.rest(depth), *result))
                .collect();
            let bucket = self.bucket(entries);
            return self.at(bucket, depth);
        }
        if !short && entries.len() <= fan::MOST && depth < 64 && entries.iter().all(|(it, _)| fits(it)) {
            let mut relative: Vec<Entry> = entries
                .iter()
                .map(|(it, result)| (it.key(depth), it.rest(depth), *result))
                .collect();
            if !are_dense(&relative)
                && let Some(plan) = fan_of(&mut relative)
            {
                return self.fan(plan);
            }
        }
        let key = first.key(depth);
        let differ = entries
            .iter()
            .fold(0, |differ, (it, _)| differ | (it.key(depth) ^ key));
        let shortest = entries.iter().map(|(it, _)| it.rest(depth)).min().unwrap_or(1);
        let same = differ.leading_zeros().min(shortest - 1).min(end - depth).min(63) / 3 * 3;
        if same > 0 {
            let child = self.build(entries, depth + same);
            let lead = self.lead(depth, key, same, child);
            return self.at(lead, depth);
        }
        let narrow = entries.iter().all(|(it, _)| it.rest(depth) <= 3);
        let node = self.node(3, narrow);
        let (within, below): (Vec<_>, Vec<_>) = entries.into_iter().partition(|(it, _)| it.rest(depth) <= 3);
        for (prefix, result) in within {
            self.cover(node, depth, prefix, result);
        }
        let mut groups: [Vec<(Prefix, u32)>; 8] = Default::default();
        for (prefix, result) in below {
            groups[(prefix.key(depth) >> 61) as usize].push((prefix, result));
        }
        for (index, group) in (0..).zip(groups) {
            if !group.is_empty() {
                let child = self.build(group, depth + 3);
                let slot = self.slot(node, index);
                self.put(node, index, Slot { child, ..slot });
            }
        }
        let merged = self.merge(node, depth);
        self.at(merged, depth)
    }

    /// `child` behind the first `length` of `bits`, from `depth` on. Near the root nodes lead there: they are
    /// few, and read in one step where there are others beside.
    pub(super) fn lead(&mut self, depth: u32, bits: u64, length: u32, child: Descriptor) -> Descriptor {
        if length == 0 || child.is_none() || depth + length >= TOP {
            return self.skip(bits, length, child);
        }
        let child = self.lead(depth + 3, bits << 3, length - 3, child);
        let node = self.node(3, false);
        let slot = Slot {
            child,
            ..Slot::default()
        };
        self.put(node, (bits >> 61) as u32, slot);
        self.merge(node, depth)
    }

    /// Swallows the children of `node` (of this change) where one slot in eight leads to nodes of one width and none is wider.
    pub(super) fn merge(&mut self, mut node: Node, depth: u32) -> Descriptor {
        let most = most(depth);
        while let Some(bits) = self.mergeable(node, most) {
            node = self.swallow(node, bits);
        }
        self.pack(node).unwrap_or(node).descriptor()
    }

    /// The width to swallow.
    fn mergeable(&self, node: Node, most: u32) -> Option<u32> {
        if node.narrow || node.bits >= most {
            return None;
        }
        let mut of = [0u32; 5];
        for index in 0..node.slots() {
            let child = self.slot(node, index).child;
            if let Kind::Node { bits, .. } = child.kind() {
                of[bits as usize / 3] += 1;
            }
        }
        let widest = (1..=4).rev().find(|width| of[*width as usize] > 0)?;
        let enough = of[widest as usize] * 8 >= node.slots();
        let fits = || (0..node.slots()).all(|index| self.fits(self.slot(node, index).child, 3 * widest));
        (enough && node.bits + 3 * widest <= most && fits()).then_some(3 * widest)
    }

    /// Whether what is below can be made into slots of so many bits: no node there goes beyond them.
    fn fits(&self, at: Descriptor, bits: u32) -> bool {
        match at.kind() {
            Kind::None | Kind::Bucket => true,
            Kind::Fan { .. } | Kind::ShortBucket => by_slot(self.entries(at), bits)
                .into_values()
                .all(|mut below| below.len() <= BUCKET || fan_of(&mut below).is_some()),
            Kind::Skip => {
                let (_, length, child) = self.skipped(at);
                length >= bits || self.fits(child, bits - length)
            }
            Kind::Node { bits: own, .. } if own >= bits => own == bits,
            Kind::Node { bits: own, .. } => Node::of(at).is_none_or(|node| {
                node.narrow
                    || (0..node.slots()).all(|index| self.fits(self.slot(node, index).child, bits - own))
            }),
        }
    }

    fn swallow(&mut self, node: Node, bits: u32) -> Node {
        let mut interior = self.arena.note(node.line).interior;
        let mut slots = Vec::with_capacity(1 << (node.bits + bits));
        let mut children = false;
        for index in 0..node.slots() {
            let above = self.slot(node, index);
            interior |= above.result != NO_MATCH;
            for below in self.push(above.child, bits, &mut interior) {
                children |= !below.child.is_none();
                slots.push(if below.result == NO_MATCH {
                    Slot {
                        child: below.child,
                        ..above
                    }
                } else {
                    Slot {
                        length: below.length + node.bits as u8,
                        ..below
                    }
                });
            }
        }
        let wide = self.node(node.bits + bits, !children);
        for (index, slot) in (0..).zip(slots) {
            self.put(wide, index, slot);
        }
        self.arena.note_mut(wide.line).interior = interior;
        self.give_up(node.line, node.descriptor().lines());
        wide
    }

    /// What is below, as 2^bits slots; it is given up.
    fn push(&mut self, at: Descriptor, bits: u32, interior: &mut bool) -> Vec<Slot> {
        let mut slots = vec![Slot::default(); 1 << bits];
        match at.kind() {
            Kind::None => {}
            Kind::Bucket | Kind::Fan { .. } | Kind::ShortBucket => {
                let mut entries = self.entries(at);
                self.give_up_leaf(at);
                // The shortest first, so that longer ones are put over them.
                entries.sort_by_key(|(_, length, _)| *length);
                for (key, length, result) in entries.iter().filter(|(_, length, _)| *length <= bits) {
                    let index = (key >> (64 - bits)) as usize;
                    *interior |= *length < bits;
                    for slot in &mut slots[index..index + (1 << (bits - length))] {
                        slot.result = *result;
                        slot.length = *length as u8;
                    }
                }
                for (index, mut below) in by_slot(entries, bits) {
                    slots[index].child = if below.len() <= BUCKET {
                        self.bucket(below)
                    } else {
                        // There is one: see `fits`.
                        fan_of(&mut below).map_or(Descriptor::NONE, |plan| self.fan(plan))
                    };
                }
            }
            Kind::Skip => {
                let (key, length, child) = self.skipped(at);
                self.give_up(at.line(), 1);
                if length >= bits {
                    slots[(key >> (64 - bits)) as usize].child = self.skip(key << bits, length - bits, child);
                } else {
                    let rest = bits - length;
                    let start = ((key >> (64 - length)) as usize) << rest;
                    for (slot, below) in slots[start..].iter_mut().zip(self.push(child, rest, interior)) {
                        *slot = Slot {
                            length: below.length + if below.result == 0 { 0 } else { length as u8 },
                            ..below
                        };
                    }
                }
            }
            Kind::Node { bits: own, .. } => {
                let Some(node) = Node::of(at) else { return slots };
                *interior |= self.arena.note(node.line).interior;
                let rest = bits - own;
                for index in 0..node.slots() {
                    let above = self.slot(node, index);
                    *interior |= rest > 0 && above.result != NO_MATCH;
                    let start = (index as usize) << rest;
                    if rest == 0 {
                        slots[start] = above;
                        continue;
                    }
                    for (slot, below) in slots[start..]
                        .iter_mut()
                        .zip(self.push(above.child, rest, interior))
                    {
                        *slot = if below.result == NO_MATCH {
                            Slot {
                                child: below.child,
                                ..above
                            }
                        } else {
                            Slot {
                                length: below.length + own as u8,
                                ..below
                            }
                        };
                    }
                }
                self.give_up(node.line, at.lines());
            }
        }
        slots
    }

    /// What a node (of this change) becomes of which a slot has become empty; `within` is a prefix in it.
    pub(super) fn shrink(&mut self, node: Node, depth: u32, within: Prefix) -> Descriptor {
        let at = node.descriptor();
        let taken = (0..node.slots())
            .map(|index| self.slot(node, index))
            .filter(|slot| slot.result != NO_MATCH || !slot.child.is_none())
            .take(node.slots() as usize / 8 + 3)
            .count();
        if taken >= node.slots() as usize / 8 + 3 {
            return at;
        }
        let few = if node.bits == 3 { BUCKET - 2 } else { FEW };
        let mut entries = Vec::with_capacity(few);
        if !self.below(at, depth, within.cut(depth), few, &mut entries) {
            return at;
        }
        self.give_up_all(at);
        self.build(entries, depth)
    }

    /// All prefixes at and below `at`, which begin with `within`; whether they are no more than `most`.
    fn below(
        &self,
        at: Descriptor,
        depth: u32,
        within: Prefix,
        most: usize,
        found: &mut Vec<(Prefix, u32)>,
    ) -> bool {
        match at.kind() {
            Kind::None => {}
            Kind::Bucket | Kind::Fan { .. } | Kind::ShortBucket => {
                let entries = self.entries(at).into_iter();
                found.extend(
                    entries.map(|(bits, length, result)| (within.extend(depth, bits, length), result)),
                );
            }
            Kind::Skip => {
                let (bits, length, child) = self.skipped(at);
                let within = within.extend(depth, bits, length);
                return self.below(child, depth + length, within, most, found);
            }
            Kind::Node { .. } => {
                let Some(node) = Node::of(at) else { return false };
                let interior = self.arena.note(node.line).interior;
                // The last node of all may reach beyond the address.
                let bits = node.bits.min(128 - depth);
                for index in 0..node.slots() {
                    let slot = self.slot(node, index);
                    let here = within.extend(depth, u64::from(index) << (64 - node.bits), bits);
                    let length = u32::from(slot.length) * u32::from(slot.result != NO_MATCH);
                    // What a longer one hides here it may hide everywhere. Most nodes hide nothing.
                    let shortest = if interior { 1 } else { node.bits };
                    for length in shortest..=length {
                        let prefix = here.cut(depth + length);
                        let known = found.iter().any(|(it, _)| *it == prefix);
                        found.extend(
                            self.prefixes
                                .get(&prefix)
                                .filter(|_| !known)
                                .map(|it| (prefix, it)),
                        );
                    }
                    if found.len() > most || !self.below(slot.child, depth + node.bits, here, most, found) {
                        return false;
                    }
                }
            }
        }
        found.len() <= most
    }

    fn give_up_all(&mut self, at: Descriptor) {
        match at.kind() {
            Kind::None => return,
            Kind::Bucket | Kind::Fan { .. } | Kind::ShortBucket => return self.give_up_leaf(at),
            Kind::Skip => {
                let (_, _, child) = self.skipped(at);
                self.give_up_all(child);
            }
            Kind::Node { .. } => {
                let Some(node) = Node::of(at) else { return };
                if !node.narrow {
                    for index in 0..node.slots() {
                        let child = self.slot(node, index).child;
                        self.give_up_all(child);
                    }
                }
            }
        }
        self.give_up(at.line(), at.lines());
    }
}
