//! The writer's end: changes, and versions made of them.

mod edit;
mod fans;
mod packed;
mod reshape;

use ipnet::Ipv6Net;

use super::arena::{Arena, WORDS};
use super::descriptor::{Descriptor, Kind};
use super::exact::Exact;
use super::jumps::{self, Heavy, Jump, Jumps, POOL_BITS};
use super::prefix::Prefix;
use crate::versions::Versions;
use edit::Node;

use super::{Fib, Method, NO_MATCH, ROOT_BITS, scalar};

/// Lines that one change may need at most: a path of nodes, and the widest merge at each of its steps: 448 slots of 512 may
/// lead to fans, of each of which it makes eight, some 50 lines in all.
const LINES_PER_CHANGE: usize = if cfg!(miri) { 16_384 } else { 32_768 };
/// Lines that each of some changes needs at most, taken together.
const LINES_PER_CHANGE_OF_SOME: usize = 64;
/// How many these are.
const SOME: usize = 1 << 16;
/// The same of each beyond them: the more there are, the more share the nodes on their ways. The worst that was measured, single
/// addresses below random /48s, took 3, lines that were free again included.
const LINES_PER_CHANGE_OF_MANY: usize = 16;
/// Lengths of prefixes that count for a jump: below a pool, and in the upper half.
const POOLED: std::ops::RangeInclusive<u8> = POOL_BITS as u8 + 3..=64;
/// Lines of the root.
const ROOT_LINES: u32 = (1 << ROOT_BITS) / 8;

/// The table has no room for more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the forwarding table is full: it has {prefixes} prefixes in {octets} octets")]
pub struct Full {
    /// How many there are.
    pub prefixes: usize,
    /// How much they take.
    pub octets: usize,
}

/// The table as its one writer has it. Readers have versions of it ([`Fib`]).
#[derive(Debug)]
pub struct Table {
    arena: Arena,
    /// First line of the root.
    root: u32,
    /// Those of the last version.
    jumps: Jumps,
    /// The last jumps, and the shift that was best for them.
    arranged: Vec<Jump>,
    jump_shift: u32,
    /// Where jumps may lead.
    heavy: Heavy,
    prefixes: Exact,
    /// The present change, counted: lines of its own may be written.
    stamp: u64,
    /// Lines that the next version will not refer to: the first, and how many.
    versions: Versions<(u32, u32)>,
    method: Method,
}

impl Default for Table {
    fn default() -> Self {
        Self::new()
    }
}

impl Table {
    /// An empty table; its versions are read by the best method there is.
    #[must_use]
    pub fn new() -> Self {
        let mut arena = Arena::new();
        let stamp = 1;
        let root = arena.take(ROOT_LINES, stamp);
        Self {
            arena,
            root,
            jumps: Jumps::default(),
            arranged: Vec::new(),
            jump_shift: 0,
            heavy: Heavy::default(),
            prefixes: Exact::new(),
            stamp,
            versions: Versions::default(),
            method: Method::best(),
        }
    }

    /// How many prefixes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.prefixes.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Octets that readers read from, in the newest version.
    #[must_use]
    pub fn octets(&self) -> usize {
        let waiting: u32 = self.versions.waiting().map(|(_, lines)| lines).sum();
        self.arena.used_octets() - waiting as usize * 64
    }

    /// Octets of memory behind the table, those of older versions and free ones included.
    #[must_use]
    pub fn touched_octets(&self) -> usize {
        self.arena.touched_octets()
    }

    /// Older versions that are still held.
    #[must_use]
    pub fn held_versions(&self) -> usize {
        self.versions.held()
    }

    /// Whether there is room for so many changes.
    ///
    /// # Errors
    /// There may not be.
    pub fn room_for(&self, changes: usize) -> Result<(), Full> {
        let many = changes.saturating_sub(SOME);
        let needed = LINES_PER_CHANGE
            .saturating_add((changes - many).saturating_mul(LINES_PER_CHANGE_OF_SOME))
            .saturating_add(many.saturating_mul(LINES_PER_CHANGE_OF_MANY));
        if self.arena.room() < needed {
            return Err(Full {
                prefixes: self.len(),
                octets: self.octets(),
            });
        }
        Ok(())
    }

    /// The result of exactly this prefix (host bits ignored).
    #[must_use]
    pub fn get(&self, prefix: Ipv6Net) -> Option<u32> {
        self.prefixes.get(&Prefix::of(prefix))
    }

    /// As [`Fib::lookup`], changes since the last [`Table::commit`] included.
    #[must_use]
    pub fn lookup(&self, key: u128) -> u32 {
        scalar::one(&self.arena.memory, self.root, Jumps::default(), key)
    }

    /// Lets `prefix` (host bits ignored) give `result`; [`NO_MATCH`] removes it. Gives what it gave before.
    ///
    /// # Errors
    /// There is no room; nothing has changed.
    pub fn set(&mut self, prefix: Ipv6Net, result: u32) -> Result<Option<u32>, Full> {
        let prefix = Prefix::of(prefix);
        if result == NO_MATCH {
            let before = self.prefixes.remove(&prefix);
            if before.is_some() {
                if POOLED.contains(&prefix.length) {
                    self.heavy.remove(prefix.high);
                }
                self.own_root();
                self.remove(prefix);
            }
            return Ok(before);
        }
        self.room_for(0)?;
        let before = self.prefixes.insert(prefix, result);
        if before != Some(result) {
            if before.is_none() && POOLED.contains(&prefix.length) {
                self.heavy.add(prefix.high);
            }
            self.own_root();
            self.insert(prefix, result);
        }
        Ok(before)
    }

    /// A version with all changes so far. Lines that nobody can read any more are free again.
    pub fn commit(&mut self) -> Fib {
        // Whoever changed anything has made the root its own.
        if self.arena.note(self.root).stamp == self.stamp {
            self.find_jumps();
        }
        self.stamp += 1;
        let arena = &mut self.arena;
        let held = self.versions.commit(|(line, lines)| arena.release(line, lines));
        Fib {
            memory: self.arena.memory.clone(),
            root: self.root,
            jumps: self.jumps,
            prefixes: self.len(),
            method: self.method,
            _held: held,
        }
    }

    /// The jumps of the next version.
    fn find_jumps(&mut self) {
        let mut found: Vec<Jump> = Vec::with_capacity(WORDS);
        for pool in self.heavy.pools() {
            let Some(jump) = self.jump(pool) else { continue };
            // A node may have more than one pool.
            if found
                .iter()
                .all(|it| (it.bits, it.length) != (jump.bits, jump.length))
            {
                found.push(jump);
            }
        }
        if self.jumps.line != 0 {
            self.give_up(self.jumps.line, jumps::LINES);
            self.jumps = Jumps::default();
        }
        if found.is_empty() {
            return;
        }
        let known = |it: &Jump| (it.bits, it.length);
        if !found.iter().map(known).eq(self.arranged.iter().map(known)) {
            self.jump_shift = jumps::arrange(&found);
        }
        let shift = self.jump_shift;
        let lines = jumps::words(&found, shift);
        self.arranged = found;
        let line = self.take(jumps::LINES);
        for (line, words) in (line..).zip(lines) {
            for (at, word) in words.into_iter().enumerate() {
                self.arena.memory.store(line, at, word);
            }
        }
        self.jumps = Jumps { line, shift };
    }

    /// The first node that a pool, or a part of it, has for itself.
    fn jump(&self, mut bits: u64) -> Option<Jump> {
        let root = self.root_node();
        let mut slot = self.slot(root, (bits >> (64 - ROOT_BITS)) as u32);
        let mut depth = ROOT_BITS;
        let mut result = slot.result;
        loop {
            match slot.child.kind() {
                Kind::Node { bits: more, .. } if depth + more > POOL_BITS => break,
                Kind::Node { bits: more, .. } => {
                    let node = Node::of(slot.child)?;
                    slot = self.slot(node, (bits << depth >> (64 - more)) as u32);
                    depth += more;
                    if slot.result != NO_MATCH {
                        result = slot.result;
                    }
                }
                Kind::Skip if !slot.child.is_low() => {
                    let (skipped, length, child) = self.skipped(slot.child);
                    let known = POOL_BITS.saturating_sub(depth).min(length);
                    let differ = (bits << depth) ^ skipped;
                    if known > 0 && differ >> (64 - known) != 0 {
                        return None;
                    }
                    // All below have these bits: from here on they are those of the pool.
                    bits |= skipped >> depth;
                    depth += length;
                    slot.child = child;
                    if depth > POOL_BITS && !matches!(child.kind(), Kind::Node { .. }) {
                        return None;
                    }
                }
                Kind::None | Kind::Bucket | Kind::Fan { .. } | Kind::ShortBucket | Kind::Skip => return None,
            }
        }
        // Nothing is gained where the root leads there.
        (depth > ROOT_BITS).then(|| Jump {
            bits: bits & !(u64::MAX >> depth),
            length: depth,
            slot: u64::from(result) << 32 | u64::from(slot.child.0),
        })
    }

    /// Lines of this change.
    fn take(&mut self, lines: u32) -> u32 {
        self.arena.take(lines, self.stamp)
    }

    /// Gives lines up: at once if no version has them, else with the last one that has.
    fn give_up(&mut self, line: u32, lines: u32) {
        if self.arena.note(line).stamp == self.stamp {
            self.arena.release(line, lines);
        } else {
            self.versions.retire((line, lines));
        }
    }

    /// A copy that may be written; the same if it already may. It is packed where it can be: results may fit that did not before.
    fn own(&mut self, of: Descriptor) -> Descriptor {
        if self.arena.note(of.line()).stamp == self.stamp {
            return of;
        }
        if let Some(packed) = Node::of(of).and_then(|node| self.pack(node)) {
            return packed.descriptor();
        }
        let line = self.copy(of.line(), of.lines());
        of.with_line(line)
    }

    fn own_root(&mut self) {
        if self.arena.note(self.root).stamp != self.stamp {
            self.root = self.copy(self.root, ROOT_LINES);
        }
    }

    fn copy(&mut self, from: u32, lines: u32) -> u32 {
        let to = self.arena.take_unwritten(lines);
        self.arena.copy(from, to, lines, self.stamp);
        self.give_up(from, lines);
        to
    }
}
