//! Where the tables of exits are made.
//!
//! What finds its bucket full is in a second table of the same kind, a tenth of the size; what finds its bucket full there too is in
//! neither, and is found among the peers: of a million some hundred.

use std::collections::HashMap;

use super::{Bucket, Buckets, Exit, Exits, SLOTS, Slot, SourcePrefix, hash, tag};

/// There is a bucket more in the first table when there are so many for each: of twenty one finds its bucket full, and is found in the second.
/// With one for each it takes as long, in twice the memory.
const FIRST_LOAD: usize = 2;
/// The same of the second: of a hundred one finds its bucket full. To find one among the peers takes its burst as long as ten packets.
const SECOND_LOAD: usize = 1;

/// The writer's end.
#[derive(Clone, Debug)]
pub(in crate::snapshot) struct ExitWriter {
    first: Table,
    second: Table,
}

impl Default for ExitWriter {
    fn default() -> Self {
        Self {
            first: Table::of(FIRST_LOAD),
            second: Table::of(SECOND_LOAD),
        }
    }
}

/// One of both.
#[derive(Clone, Debug)]
struct Table {
    buckets: Buckets,
    /// How many there are for each bucket, at most.
    load: usize,
    /// How many there are, those in full buckets included.
    count: usize,
    /// What full buckets have no slot for.
    more: HashMap<u32, Vec<Slot>>,
    /// What has become of those since it was last asked, by hash and in order: what is known of it, or that there is room for it now.
    spilled: Vec<(u64, Option<Slot>)>,
}

impl ExitWriter {
    /// The next version.
    pub(in crate::snapshot) fn commit(&self) -> Exits {
        Exits {
            first: self.first.buckets.clone(),
            second: self.second.buckets.clone(),
        }
    }

    /// Puts what is known of a number, instead of what was.
    pub(in crate::snapshot) fn put(&mut self, number: u64, exit: Exit) {
        let hash = hash(number);
        match Slot::of(hash, exit) {
            Some(slot) => self.first.put(hash, slot),
            None => self.first.remove(hash),
        }
        self.spill();
    }

    /// The same for as much as it is known, and of this tunnel.
    pub(in crate::snapshot) fn set_source(&mut self, number: u64, tunnel: u32, source: SourcePrefix) {
        let hash = hash(number);
        if let Some(known) = self.first.find(hash)
            && known.exit().tunnel() == tunnel
        {
            self.first.put(hash, Slot { source, ..known });
            self.spill();
        }
    }

    /// Nothing is known of a number any more.
    pub(in crate::snapshot) fn remove(&mut self, number: u64) {
        self.first.remove(hash(number));
        self.spill();
    }

    /// Has the second table follow the first.
    fn spill(&mut self) {
        for (first, slot) in self.first.spilled.drain(..) {
            let hash = hash(first);
            match slot {
                Some(slot) => self.second.put(hash, slot.by(hash)),
                None => self.second.remove(hash),
            }
        }
        self.second.spilled.clear();
    }
}

impl Table {
    fn of(load: usize) -> Self {
        Self {
            buckets: Buckets::default(),
            load,
            count: 0,
            more: HashMap::new(),
            spilled: Vec::new(),
        }
    }

    fn put(&mut self, hash: u64, slot: Slot) {
        let at = self.buckets.number(hash);
        if self.set(at, hash, slot) {
            return;
        }
        self.add(at, slot);
        self.count += 1;
        while self.count > self.load * self.buckets.count as usize {
            self.grow();
        }
    }

    fn remove(&mut self, hash: u64) {
        let (at, tag) = (self.buckets.number(hash), tag(hash));
        let mut bucket = self.buckets.all.get(at);
        let mut more = self.more.remove(&at).unwrap_or_default();
        let is_gone = match bucket.position(tag) {
            Some(place) => {
                bucket.0[place] = Slot::default();
                bucket.0[place..].rotate_left(1);
                if let Some(slot) = more.pop() {
                    bucket.0[SLOTS - 1] = slot;
                    self.spilled.push((slot.hash(at), None));
                }
                self.buckets.all.set(at, bucket);
                true
            }
            None => match more.iter().position(|slot| slot.has(tag)) {
                Some(place) => {
                    more.swap_remove(place);
                    self.spilled.push((hash, None));
                    true
                }
                None => false,
            },
        };
        self.count -= usize::from(is_gone);
        if !more.is_empty() {
            self.more.insert(at, more);
        }
    }

    fn find(&self, hash: u64) -> Option<Slot> {
        let (at, tag) = (self.buckets.number(hash), tag(hash));
        let bucket = self.buckets.all.get(at);
        match bucket.position(tag) {
            Some(place) => bucket.0.get(place).copied(),
            None => self.more.get(&at)?.iter().find(|slot| slot.has(tag)).copied(),
        }
    }

    /// Puts it where it is already; `false`: it is nowhere.
    fn set(&mut self, at: u32, hash: u64, slot: Slot) -> bool {
        let tag = tag(hash);
        if let Some(place) = self.buckets.all.get(at).position(tag) {
            if let Some(known) = self.buckets.all.at_mut(at).and_then(|it| it.0.get_mut(place)) {
                *known = slot;
            }
            return true;
        }
        let more = self.more.get_mut(&at).map(Vec::as_mut_slice).unwrap_or_default();
        let Some(known) = more.iter_mut().find(|slot| slot.has(tag)) else {
            return false;
        };
        *known = slot;
        self.spilled.push((hash, Some(slot)));
        true
    }

    fn add(&mut self, at: u32, slot: Slot) {
        let mut bucket = self.buckets.all.get(at);
        match bucket.0.iter_mut().find(|slot| slot.is_empty()) {
            Some(place) => {
                *place = slot;
                self.buckets.all.set(at, bucket);
            }
            None => {
                self.more.entry(at).or_default().push(slot);
                self.spilled.push((slot.hash(at), Some(slot)));
            }
        }
    }

    /// One bucket more, with what of another one now belongs there.
    fn grow(&mut self) {
        let new = self.buckets.count;
        self.buckets.count += 1;
        self.buckets.mask = self.buckets.count.next_power_of_two() - 1;
        let old = new & self.buckets.mask >> 1;
        let bucket = self.buckets.all.get(old);
        let more = self.more.remove(&old).unwrap_or_default();
        // Each is put where there is room for it now.
        self.spilled
            .extend(more.iter().map(|slot| (slot.hash(old), None)));
        self.buckets.all.set(old, Bucket::default());
        for slot in bucket.0.into_iter().filter(|slot| !slot.is_empty()).chain(more) {
            // The last bits of both are the same.
            self.add(self.buckets.number(slot.hash(old)), slot);
        }
    }
}

#[cfg(test)]
impl ExitWriter {
    /// How many there are; of these, how many have no room in the first table, and in neither.
    pub(super) fn counts(&self) -> [usize; 3] {
        let without = |table: &Table| table.more.values().map(Vec::len).sum::<usize>();
        assert_eq!(self.second.count, without(&self.first));
        [self.first.count, without(&self.first), without(&self.second)]
    }
}
