//! The writer's end: changes, and versions made of them.

mod edit;
mod reshape;

use std::collections::BTreeMap;

use ipnet::Ipv6Net;

use super::arena::Arena;
use super::descriptor::Descriptor;
use super::prefix::Prefix;
use crate::versions::Versions;

use super::{Fib, Method, NO_MATCH, ROOT_BITS, scalar};

/// Lines that one change may need at most: a path of nodes, and the widest merge at each of its steps.
const LINES_PER_CHANGE: usize = 16_384;
/// Lines that each of very many changes needs at most, taken together.
const LINES_PER_CHANGE_OF_MANY: usize = 32;
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
    /// Every prefix, in order: what was hidden by a longer one has to be found again when that goes.
    prefixes: BTreeMap<Prefix, u32>,
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
            prefixes: BTreeMap::new(),
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
        self.prefixes.is_empty()
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
        let needed = LINES_PER_CHANGE.saturating_add(changes.saturating_mul(LINES_PER_CHANGE_OF_MANY));
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
        self.prefixes.get(&Prefix::of(prefix)).copied()
    }

    /// As [`Fib::lookup`], changes since the last [`Table::commit`] included.
    #[must_use]
    pub fn lookup(&self, key: u128) -> u32 {
        scalar::one(&self.arena.memory, self.root, key)
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
                self.own_root();
                self.remove(prefix);
            }
            return Ok(before);
        }
        self.room_for(0)?;
        let before = self.prefixes.insert(prefix, result);
        if before != Some(result) {
            self.own_root();
            self.insert(prefix, result);
        }
        Ok(before)
    }

    /// A version with all changes so far. Lines that nobody can read any more are free again.
    pub fn commit(&mut self) -> Fib {
        self.stamp += 1;
        let arena = &mut self.arena;
        let held = self.versions.commit(|(line, lines)| arena.release(line, lines));
        Fib {
            memory: self.arena.memory.clone(),
            root: self.root,
            prefixes: self.len(),
            method: self.method,
            _held: held,
        }
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

    /// A copy that may be written; the same if it already may.
    fn own(&mut self, of: Descriptor) -> Descriptor {
        if self.arena.note(of.line()).stamp == self.stamp {
            return of;
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
        let to = self.take(lines);
        self.arena.copy(from, to, lines, self.stamp);
        self.give_up(from, lines);
        to
    }
}
