//! The queues of one worker: lists through one array of slots.

use super::index::Index;
use super::shares::Shares;
use super::{LOOKS, Overflow};

/// The end of a list.
const END: u32 = u32::MAX;

/// How much may be held, by one worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Packets in all queues together.
    pub packets: usize,
    /// Packets of one prefix, or of all flows that one filter holds.
    pub packets_per_prefix: usize,
    /// Octets of these, counted from the IPv6 header on.
    pub octets_per_prefix: usize,
    /// Cycles that a packet may wait while its prefix or its flow is on hold.
    pub age: u64,
    /// Which packet goes when one is too many.
    pub overflow: Overflow,
    /// Cycles for each packet released, arrivals in between aside.
    pub cycles_per_release: u64,
}

impl Default for Bounds {
    /// Nothing is held.
    fn default() -> Self {
        Self {
            packets: 0,
            packets_per_prefix: 0,
            octets_per_prefix: 0,
            age: u64::MAX,
            overflow: Overflow::default(),
            cycles_per_release: 1,
        }
    }
}

/// Which bound a packet was too much for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// Those of its prefix.
    Prefix,
    /// Those of the filter that holds its flow.
    Flow,
    /// That of all queues together.
    All,
}

/// What became of a packet that was to be held.
#[derive(Debug, PartialEq, Eq)]
pub enum Pushed<T> {
    /// It is held.
    Held,
    /// It is held, and this one went for it.
    Instead(T, Full),
    /// It is not.
    Refused(T, Full),
}

/// What a queue does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It waits.
    Holding,
    /// It is emptied.
    Releasing,
}

#[derive(Debug)]
struct Slot<T> {
    item: Option<T>,
    since: u64,
    octets: usize,
    next: u32,
}

#[derive(Clone, Copy, Debug)]
struct Queue {
    key: u64,
    /// What it counts toward together with others; if nothing, it has the bounds of a prefix by itself.
    share: Option<u64>,
    head: u32,
    tail: u32,
    packets: usize,
    octets: usize,
    state: State,
    /// The generation of the snapshot by which its state was last decided.
    decided: u64,
    /// Its place among the queues in use.
    place: usize,
    /// Its place among those that are emptied, if it is.
    release_place: usize,
}

const UNUSED: Queue = Queue {
    key: 0,
    share: None,
    head: END,
    tail: END,
    packets: 0,
    octets: 0,
    state: State::Holding,
    decided: 0,
    place: 0,
    release_place: 0,
};

/// All that one worker holds. `T` is a packet with what its worker knows of it.
#[derive(Debug)]
pub struct Queues<T> {
    bounds: Bounds,
    slots: Box<[Slot<T>]>,
    free_slot: u32,
    queues: Box<[Queue]>,
    free_queues: Vec<u32>,
    /// Those in use, in no order.
    used: Vec<u32>,
    index: Index,
    shares: Shares,
    /// Queues with a share.
    shared: usize,
    packets: usize,
    octets: usize,
    /// Those that are emptied, in no order.
    releasing: Vec<u32>,
    /// Where the next look begins, and the next release.
    look_at: usize,
    release_at: usize,
    credit: u64,
    credited_at: u64,
}

impl<T> Default for Queues<T> {
    fn default() -> Self {
        Self::new(Bounds::default())
    }
}

impl<T> Queues<T> {
    /// Empty queues; all memory that they will ever use is taken here.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        let count = bounds.packets.min(END as usize - 1);
        let number = |at: usize| u32::try_from(at).unwrap_or(END);
        Self {
            bounds,
            slots: (1..=count)
                .map(|next| Slot {
                    item: None,
                    since: 0,
                    octets: 0,
                    next: if next == count { END } else { number(next) },
                })
                .collect(),
            free_slot: if count == 0 { END } else { 0 },
            queues: vec![UNUSED; count].into(),
            free_queues: (0..count).rev().map(number).collect(),
            used: Vec::with_capacity(count),
            index: Index::for_entries(count),
            shares: Shares::new(count),
            shared: 0,
            packets: 0,
            octets: 0,
            releasing: Vec::with_capacity(count),
            look_at: 0,
            release_at: 0,
            credit: 0,
            credited_at: 0,
        }
    }

    /// Whether nothing is held.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.packets == 0
    }

    /// Packets held, in all.
    #[must_use]
    pub fn packets(&self) -> usize {
        self.packets
    }

    /// Octets held, in all.
    #[must_use]
    pub fn octets(&self) -> usize {
        self.octets
    }

    /// Queues that there are.
    #[must_use]
    pub fn queues(&self) -> usize {
        self.used.len()
    }

    /// Whether some queue is being emptied.
    #[must_use]
    pub fn is_releasing(&self) -> bool {
        !self.releasing.is_empty()
    }

    /// Whether packets of this key are held, so that no other may overtake them.
    #[inline]
    #[must_use]
    pub fn contains(&self, key: u64) -> bool {
        !self.is_empty() && self.index.get(key).is_some()
    }

    /// Whether some queue has a share: see [`Queues::push`].
    #[inline]
    #[must_use]
    pub fn has_shares(&self) -> bool {
        self.shared > 0
    }

    /// Whether half of all that may be held has a share.
    #[must_use]
    pub fn half_is_shared(&self) -> bool {
        2 * self.shares.packets() >= self.bounds.packets
    }

    /// Whether this queue has a share.
    #[must_use]
    pub fn is_shared(&self, number: u32) -> bool {
        self.queues
            .get(number as usize)
            .is_some_and(|it| it.share.is_some())
    }

    /// Puts a packet behind those of its key; a first one founds a queue that holds, as of `generation`.
    ///
    /// A queue that is founded with a share has the bounds of one prefix together with all others of the same
    /// share; one without has them by itself.
    pub fn push(
        &mut self,
        key: u64,
        share: Option<u64>,
        item: T,
        octets: usize,
        now: u64,
        generation: u64,
    ) -> Pushed<T> {
        let known = self.index.get(key);
        let queue = known.and_then(|queue| self.queues.get(queue as usize));
        let share = queue.map_or(share, |it| it.share);
        let (packets, held_octets) = self.counted(queue, share);
        let Bounds {
            packets_per_prefix,
            octets_per_prefix,
            ..
        } = self.bounds;
        let beyond = packets >= packets_per_prefix || held_octets.saturating_add(octets) > octets_per_prefix;
        let its_own = beyond.then_some(if share.is_some() { Full::Flow } else { Full::Prefix });
        // A bound that the first packet already breaks comes last.
        let full = its_own
            .filter(|_| packets > 0)
            .or_else(|| (self.free_slot == END).then_some(Full::All))
            .or(its_own);
        let Some(full) = full else {
            self.append(known, key, share, item, octets, now, generation);
            return Pushed::Held;
        };
        let oldest = match self.bounds.overflow {
            Overflow::DropNewest => None,
            // One that is larger than what goes for it may still be too much.
            Overflow::DropOldest => known.filter(|queue| self.fits_instead(*queue, octets)),
        };
        let Some(queue) = oldest else {
            return Pushed::Refused(item, full);
        };
        // The queue may be gone with its only packet; the new one then founds it again.
        let state = self.queues.get(queue as usize).map(|it| (it.state, it.decided));
        let Some(gone) = self.pop(queue) else {
            return Pushed::Refused(item, full);
        };
        self.append(self.index.get(key), key, share, item, octets, now, generation);
        if let (Some(queue), Some((state, decided))) = (self.index.get(key), state) {
            self.decide(queue, state, decided);
        }
        Pushed::Instead(gone, full)
    }

    /// Packets and octets that count toward the same bounds.
    fn counted(&self, queue: Option<&Queue>, share: Option<u64>) -> (usize, usize) {
        match share {
            None => queue.map_or((0, 0), |it| (it.packets, it.octets)),
            Some(share) => {
                let share = self.shares.get(share);
                (share.packets, share.octets)
            }
        }
    }

    fn fits_instead(&self, queue: u32, octets: usize) -> bool {
        let Some(it) = self.queues.get(queue as usize) else {
            return false;
        };
        let oldest = self.slots.get(it.head as usize).map_or(0, |slot| slot.octets);
        let (_, counted) = self.counted(Some(it), it.share);
        counted - oldest + octets <= self.bounds.octets_per_prefix
    }

    #[allow(clippy::too_many_arguments, reason = "it is one line of `push`, twice")]
    fn append(
        &mut self,
        known: Option<u32>,
        key: u64,
        share: Option<u64>,
        item: T,
        octets: usize,
        now: u64,
        generation: u64,
    ) {
        let slot = self.free_slot;
        let Some(place) = self.slots.get_mut(slot as usize) else {
            return;
        };
        self.free_slot = place.next;
        *place = Slot {
            item: Some(item),
            since: now,
            octets,
            next: END,
        };
        self.packets += 1;
        self.octets += octets;
        if let Some(share) = share {
            self.shares.add(share, octets);
        }
        let Some(number) = known.or_else(|| self.found(key, share, generation)) else {
            return;
        };
        let Some(queue) = self.queues.get_mut(number as usize) else {
            return;
        };
        let last = std::mem::replace(&mut queue.tail, slot);
        if queue.packets == 0 {
            queue.head = slot;
        }
        queue.packets += 1;
        queue.octets += octets;
        if queue.state == State::Releasing {
            // Two leave for each that joins: a queue that is emptied gets empty, however fast they come.
            self.credit = self.credit.saturating_add(2);
        }
        if let Some(last) = self.slots.get_mut(last as usize) {
            last.next = slot;
        }
    }

    /// A queue of this key, empty.
    fn found(&mut self, key: u64, share: Option<u64>, generation: u64) -> Option<u32> {
        // There are as many queues as slots.
        let number = self.free_queues.pop()?;
        let place = self.used.len();
        self.used.push(number);
        self.index.insert(key, number);
        self.shared += usize::from(share.is_some());
        *self.queues.get_mut(number as usize)? = Queue {
            key,
            share,
            decided: generation,
            place,
            ..UNUSED
        };
        Some(number)
    }

    /// The oldest packet of a queue; a queue without packets is no more.
    pub fn pop(&mut self, number: u32) -> Option<T> {
        let queue = self.queues.get_mut(number as usize)?;
        let at = queue.head;
        let slot = self.slots.get_mut(at as usize)?;
        let item = slot.item.take()?;
        queue.head = slot.next;
        slot.next = self.free_slot;
        self.free_slot = at;
        queue.packets -= 1;
        queue.octets -= slot.octets;
        self.packets -= 1;
        self.octets -= slot.octets;
        if let Some(share) = queue.share {
            self.shares.take(share, slot.octets);
        }
        if queue.packets == 0 {
            self.close(number);
        }
        Some(item)
    }

    fn close(&mut self, number: u32) {
        let Some(queue) = self.queues.get(number as usize) else {
            return;
        };
        let (key, place, shared) = (queue.key, queue.place, queue.share.is_some());
        if queue.state == State::Releasing {
            self.no_longer_releasing(number);
        }
        self.shared -= usize::from(shared);
        if let Some(queue) = self.queues.get_mut(number as usize) {
            *queue = UNUSED;
        }
        self.index.remove(key);
        self.free_queues.push(number);
        if place < self.used.len() {
            self.used.swap_remove(place);
        }
        if let Some(moved) = self.used.get(place)
            && let Some(queue) = self.queues.get_mut(*moved as usize)
        {
            queue.place = place;
        }
    }

    fn no_longer_releasing(&mut self, number: u32) {
        let Some(place) = self.queues.get(number as usize).map(|it| it.release_place) else {
            return;
        };
        if place < self.releasing.len() {
            self.releasing.swap_remove(place);
        }
        if let Some(moved) = self.releasing.get(place)
            && let Some(queue) = self.queues.get_mut(*moved as usize)
        {
            queue.release_place = place;
        }
    }

    /// The oldest packet of a queue, and whether it has waited too long.
    #[must_use]
    pub fn oldest(&self, number: u32, now: u64) -> Option<(&T, bool)> {
        let queue = self.queues.get(number as usize)?;
        let slot = self.slots.get(queue.head as usize)?;
        let old = queue.state == State::Holding && now.saturating_sub(slot.since) > self.bounds.age;
        Some((slot.item.as_ref()?, old))
    }

    /// The next queues to look at: all in turn, at most [`LOOKS`] at once.
    pub fn looks(&mut self, out: &mut arrayvec::ArrayVec<u32, LOOKS>) {
        for _ in 0..self.used.len().min(LOOKS) {
            if self.look_at >= self.used.len() {
                self.look_at = 0;
            }
            if let Some(number) = self.used.get(self.look_at) {
                let _ = out.try_push(*number);
            }
            self.look_at += 1;
        }
    }

    /// Whether the state of a queue is of an older snapshot than this.
    #[must_use]
    pub fn is_undecided(&self, number: u32, generation: u64) -> bool {
        self.queues
            .get(number as usize)
            .is_some_and(|it| it.packets > 0 && it.decided != generation)
    }

    /// Says what a queue does, as of `generation`.
    pub fn decide(&mut self, number: u32, state: State, generation: u64) {
        let Some(queue) = self.queues.get_mut(number as usize).filter(|it| it.packets > 0) else {
            return;
        };
        queue.decided = generation;
        if std::mem::replace(&mut queue.state, state) != state {
            match state {
                State::Releasing => {
                    queue.release_place = self.releasing.len();
                    self.releasing.push(number);
                }
                State::Holding => self.no_longer_releasing(number),
            }
        }
    }

    /// How many packets may be released now: what the pace has earned, and two for each that has joined.
    pub fn allowance(&mut self, now: u64, most: usize) -> usize {
        let cycles = self.bounds.cycles_per_release.max(1);
        let earned = now.saturating_sub(self.credited_at) / cycles;
        if earned > 0 {
            self.credited_at += earned * cycles;
            self.credit = self.credit.saturating_add(earned);
        }
        // What was not used is not saved up: that would be a burst.
        self.credit = self.credit.min(most as u64);
        usize::try_from(self.credit).unwrap_or(most)
    }

    /// The queue that is to release a packet next: those that are emptied, in turn.
    pub fn next_to_release(&mut self) -> Option<u32> {
        if self.release_at >= self.releasing.len() {
            self.release_at = 0;
        }
        let number = self.releasing.get(self.release_at).copied()?;
        self.release_at += 1;
        Some(number)
    }

    /// The oldest packet of a queue that is emptied, at the cost of one of the allowance.
    pub fn release(&mut self, number: u32) -> Option<T> {
        self.credit = self.credit.saturating_sub(1);
        self.pop(number)
    }
}

#[cfg(test)]
mod tests;
