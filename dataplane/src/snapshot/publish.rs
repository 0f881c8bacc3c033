//! Publication: one pointer, swapped; readers never wait; old versions die where they were made.
//!
//! A [`Subscriber`] pins crossbeam's epoch for the length of a burst and reads
//! the pointer once; `&mut self` in [`Subscriber::read`] makes a second read in
//! the same burst a compile error. [`Publisher::publish`] swaps the pointer and
//! defers, for the old version, a function that only hands its address back
//! through a bounded queue: whichever thread happens to run it frees nothing.
//! [`Publisher::collect`] takes the addresses out and frees the versions, on the
//! control thread.
//!
//! # What is bounded
//!
//! A reader that stays in one burst (a stalled worker) holds back every version
//! retired since that burst began, its own and the younger ones: an epoch does not
//! know which of them is held. Publication goes on until [`OUTSTANDING`] of them
//! wait, then waits itself until the reader moves on, so that a worker that
//! hangs for good stops the transactions, not the machine. So at most
//! [`OUTSTANDING`] values of `T` wait at any time, beside the newest and the one
//! about to be published, and each costs what it does not share with the others: of a snapshot, the tables that its transaction changed
//! and, by the tokens of [`crate::versions`], the lines and indexes that it replaced.
//! Nothing is said about a reader that lives but does not read: it holds nothing.
//!
//! What waits besides are crossbeam's own blocks: one bag (about 2 KiB) for each
//! version that waits. A participant, a worker included, opens bags that are due in
//! every 128th read; it hands addresses back and frees no version, but it does free
//! and, more rarely, make blocks of crossbeam's queue: with publications back to
//! back, a reader frees about one block for every two of them and makes one for
//! every hundred. That is crossbeam's way, and cannot be turned off.
//!
//! # Why it is unsafe
//!
//! Crossbeam hands versions out as addresses. That an address is of a version that is still there is what this file is for:
//! a reader's by its pin, the publisher's by being handed back once after the last of those, the last one's by there being
//! nobody left. `Send` and `Sync` have to be argued because an address has neither.
//!
//! # How it is checked
//!
//! `ci/model` runs this very file under loom, and breaks it on purpose to see
//! that loom would notice; `ci/lib/miri` runs the tests below.
//!
//! What would go wrong without each part: without the pin, a version could be
//! freed under a reader; without the hand-back, a worker would run destructors
//! (crossbeam lets any participant run deferred functions); without the bound,
//! a worker could have to allocate.

use std::sync::atomic::Ordering;

use crate::sync::epoch::{Atomic, Collector, Guard, LocalHandle, Owned};
use crate::sync::{Arc, ArrayQueue, pause};

/// Versions that may be out at once: retired, but not yet freed.
const OUTSTANDING: usize = 4096;

struct Slot<T> {
    current: Atomic<T>,
    collector: Collector,
    /// Addresses of versions that no reader can hold any more.
    retired: Arc<ArrayQueue<usize>>,
}

// SAFETY: `current` owns a T that any thread may read (T: Sync) and that the publisher's thread,
// whichever that is, frees (T: Send). The rest is Send and Sync by itself.
#[allow(unsafe_code)]
unsafe impl<T: Send + Sync> Send for Slot<T> {}
// SAFETY: a shared slot gives the T to readers of any thread (T: Sync), and whoever has the last share of it frees the last
// version (T: Send). The rest is Send and Sync by itself.
#[allow(unsafe_code)]
unsafe impl<T: Send + Sync> Sync for Slot<T> {}

/// The publisher's own entry in the list of those whom the epoch waits for.
///
/// Kept, not made anew for each publication: an entry is more than 2 KiB, leaving the list costs another
/// such block, and both are unlinked and freed by whoever next looks for garbage, which may be a worker.
struct Participant(LocalHandle);

// SAFETY: crossbeam makes a `LocalHandle` stay on its thread because its counts and its bag are plain cells
// that a copy of it, or a guard of it, on another thread would touch at the same time. Here there is neither:
// the handle is private to a `Publisher` and used under `&mut`, and no guard outlives the method that made it,
// so the thread it arrives on is the only one that has it. Nothing in it refers to a thread: an entry of an
// explicit `Collector` is a block on the heap, and what waits in its bag may run anywhere already.
#[allow(unsafe_code)]
unsafe impl Send for Participant {}

/// The writing end. There is one; it may move between threads.
pub struct Publisher<T: Send + Sync + 'static> {
    participant: Participant,
    slot: Arc<Slot<T>>,
    /// Versions swapped out whose address has not come back yet.
    outstanding: usize,
}

/// Makes readers; for any thread.
pub struct SubscriberFactory<T: Send + Sync + 'static> {
    slot: Arc<Slot<T>>,
}

/// A reading end; stays on the thread that made it.
pub struct Subscriber<T: Send + Sync + 'static> {
    slot: Arc<Slot<T>>,
    handle: LocalHandle,
}

/// A version, held for a burst.
pub struct Reading<'a, T> {
    guard: Guard,
    value: &'a T,
}

impl<T: Send + Sync + 'static> Publisher<T> {
    /// Publishes a first version.
    pub fn new(first: T) -> Self {
        Self::bounded(first, OUTSTANDING)
    }

    /// As [`Publisher::new`], with a bound other than [`OUTSTANDING`]: what is checked with few would take
    /// long to check with many.
    pub(crate) fn bounded(first: T, outstanding: usize) -> Self {
        let slot = Slot {
            current: Atomic::new(first),
            collector: Collector::new(),
            retired: Arc::new(ArrayQueue::new(outstanding)),
        };
        Self {
            participant: Participant(slot.collector.register()),
            slot: Arc::new(slot),
            outstanding: 0,
        }
    }

    /// What makes readers.
    #[must_use]
    pub fn factory(&self) -> SubscriberFactory<T> {
        SubscriberFactory {
            slot: self.slot.clone(),
        }
    }

    /// Versions that were replaced and not freed yet.
    #[must_use]
    pub fn retired(&self) -> usize {
        self.outstanding
    }

    /// Makes `next` the version that every later read gives. Costs the same however many versions and
    /// readers there are, but for freeing what came back. Waits only when [`OUTSTANDING`] older versions
    /// are held back by a reader that does not end its burst.
    pub fn publish(&mut self, next: T) {
        self.collect();
        while self.outstanding >= self.slot.retired.capacity() {
            pause();
            self.collect();
        }
        let guard = self.participant.0.pin();
        let old = self.slot.current.swap(Owned::new(next), Ordering::AcqRel, &guard);
        self.outstanding += 1;
        let retired = self.slot.retired.clone();
        let address = old.as_raw() as usize;
        // SAFETY: the function may run on any thread at any later time: it owns what it uses (an
        // address and a shared queue). It cannot find the queue full, for there are at most
        // as many addresses not collected as it has places. It runs only after every reader that was pinned at
        // the swap has unpinned, so that the address it hands back is of a version nobody holds.
        #[allow(unsafe_code)]
        unsafe {
            guard.defer_unchecked(move || retired.push(address));
        }
        guard.flush();
    }

    /// Frees the versions that no reader holds any more; says how many are still held.
    pub fn collect(&mut self) -> usize {
        if self.outstanding > 0 {
            // Pinning and flushing is what moves the epoch on.
            self.participant.0.pin().flush();
        }
        while let Some(address) = self.slot.retired.pop() {
            self.outstanding -= 1;
            // SAFETY: the address is of a `T` that `Owned::new` put on the heap and `publish` swapped
            // out; each comes back once, after its last reader (see there).
            #[allow(unsafe_code)]
            drop(unsafe { Owned::<T>::from_raw(address as *mut T) });
        }
        self.outstanding
    }
}

impl<T: Send + Sync + 'static> Drop for Publisher<T> {
    /// Waits for the readers to let go of what was retired. The last version stays as long as there
    /// are readers, and is freed with the last of them.
    fn drop(&mut self) {
        while self.collect() > 0 {
            pause();
        }
    }
}

impl<T> Drop for Slot<T> {
    fn drop(&mut self) {
        let current = std::mem::replace(&mut self.current, Atomic::null());
        // SAFETY: the last of publisher, factories and subscribers is gone, so nobody reads; the
        // pointer is of a `T` from `Owned::new`, never null before this.
        #[allow(unsafe_code)]
        drop(unsafe { current.into_owned() });
    }
}

impl<T: Send + Sync + 'static> Clone for SubscriberFactory<T> {
    fn clone(&self) -> Self {
        Self {
            slot: self.slot.clone(),
        }
    }
}

impl<T: Send + Sync + 'static> SubscriberFactory<T> {
    /// A reader for the calling thread.
    #[must_use]
    pub fn subscribe(&self) -> Subscriber<T> {
        Subscriber {
            handle: self.slot.collector.register(),
            slot: self.slot.clone(),
        }
    }
}

impl<T: Send + Sync + 'static> Subscriber<T> {
    /// The newest version, for one burst.
    #[inline]
    pub fn read(&mut self) -> Reading<'_, T> {
        let guard = self.handle.pin();
        let current = self.slot.current.load(Ordering::Acquire, &guard);
        // SAFETY: never null while a slot lives. The version stays for as long as `guard` is pinned,
        // which is as long as `Reading` lives: it owns the guard, and gives the reference out only
        // under a borrow of itself.
        #[allow(unsafe_code)]
        let value = unsafe { &*current.as_raw() };
        Reading { guard, value }
    }
}

impl<T> Reading<'_, T> {
    /// Ends the reading. (So does dropping it.)
    pub fn end(self) {
        drop(self.guard);
    }
}

impl<T> std::ops::Deref for Reading<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        self.value
    }
}

// With its path, for rustfmt to find it from `ci/model` too.
#[cfg(test)]
#[path = "publish/tests.rs"]
mod tests;
