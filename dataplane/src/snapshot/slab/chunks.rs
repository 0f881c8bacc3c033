//! The memory of a slab: chunks of entries, in one region that the kernel backs with huge pages where it has them.
//!
//! A chunk belongs to whoever holds its [`Lease`], of which there may be several; it is written only while there is one.
//! When the last goes, its place is used again. All other memory management is the standard library's.

use std::fmt;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

use crate::fib::Memory;

/// Entries in one chunk, and chunks in one block.
pub(super) const WIDTH: usize = 64;

/// Octets of a line of the region.
const LINE: usize = 64;
/// Lines that are reserved: 2 GiB of addresses, of which only what is used has memory behind it. Beyond that, which is
/// hundreds of versions of a million entries, chunks are in ordinary memory.
const LINES: usize = if cfg!(miri) { 1 << 10 } else { 1 << 25 };

/// Chunks that are in ordinary memory at first: where there are no more, no huge page is taken for them.
const FEW: usize = 64;

/// Where chunks come from.
#[derive(Debug)]
pub(super) struct Pool {
    memory: Memory,
    places: Mutex<Places>,
}

#[derive(Debug, Default)]
struct Places {
    /// Given back.
    free: Vec<usize>,
    /// The first one that was never given out.
    next: usize,
    /// Chunks that were not given a place.
    without: usize,
}

impl Pool {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            memory: Memory::of(LINES),
            places: Mutex::default(),
        })
    }

    /// Nobody panics who holds it, and it is right at any time.
    fn places(&self) -> std::sync::MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place of so many octets; all of a pool have the same number.
    fn take(&self, octets: usize) -> Option<usize> {
        let mut places = self.places();
        if let Some(place) = places.free.pop() {
            return Some(place);
        }
        if places.without < FEW {
            places.without += 1;
            return None;
        }
        let place = places.next;
        if (place + 1) * octets > self.memory.lines() * LINE {
            return None;
        }
        places.next += 1;
        Some(place)
    }
}

/// A chunk, or a share in it.
struct Lease<T> {
    items: NonNull<[T; WIDTH]>,
    /// Where it is in the pool; `None`: it is a box of its own.
    place: Option<usize>,
    pool: Arc<Pool>,
}

// SAFETY: it owns the entries that it points to, as a box would, and gives no access to them itself; the pool is locked.
#[allow(unsafe_code)]
unsafe impl<T: Send> Send for Lease<T> {}
// SAFETY: through a shared reference it gives nobody the entries, and what else it has, the lock of the pool guards.
#[allow(unsafe_code)]
unsafe impl<T: Sync> Sync for Lease<T> {}

impl<T: Copy> Lease<T> {
    /// Octets from one chunk to the next: whole lines, so that entries of a line begin where a line does.
    const OCTETS: usize = size_of::<[T; WIDTH]>().next_multiple_of(LINE);

    /// A chunk of these entries.
    fn new(pool: &Arc<Pool>, items: &[T; WIDTH]) -> Self {
        const { assert!(align_of::<T>() <= LINE && size_of::<T>() > 0) };
        let place = pool.take(Self::OCTETS);
        let to = match place {
            // SAFETY: the pool gives out places that are within the region, each once until it is given back. The
            // region begins at a page, so that a multiple of lines from there is aligned for T.
            #[allow(unsafe_code)]
            Some(place) => unsafe {
                let to = pool.memory.start().byte_add(place * Self::OCTETS).cast();
                to.write(*items);
                to
            },
            None => NonNull::from(Box::leak(Box::new(*items))),
        };
        Self {
            items: to,
            place,
            pool: pool.clone(),
        }
    }
}

impl<T> Drop for Lease<T> {
    fn drop(&mut self) {
        match self.place {
            // T is `Copy`: nothing is to be dropped.
            Some(place) => self.pool.places().free.push(place),
            // SAFETY: it came from a box, and nobody has it but the one whose last lease this is.
            #[allow(unsafe_code)]
            None => drop(unsafe { Box::from_raw(self.items.as_ptr()) }),
        }
    }
}

/// [`WIDTH`] chunks; what is cloned shares them until one is changed.
pub(super) struct Chunks<T> {
    /// Where each is: all that a reader needs, close together.
    items: [NonNull<[T; WIDTH]>; WIDTH],
    /// Of each the one that keeps it.
    leases: [Arc<Lease<T>>; WIDTH],
}

// SAFETY: the entries are reached as if they were in `leases`, which are `Send` and `Sync` where T is both.
#[allow(unsafe_code)]
unsafe impl<T: Send + Sync> Send for Chunks<T> {}
// SAFETY: a shared reference only reads the entries, which nobody writes meanwhile: `chunk_mut` needs `self` alone, and T is `Sync`.
#[allow(unsafe_code)]
unsafe impl<T: Send + Sync> Sync for Chunks<T> {}

impl<T> Clone for Chunks<T> {
    fn clone(&self) -> Self {
        Self {
            items: self.items,
            leases: self.leases.clone(),
        }
    }
}

impl<T> fmt::Debug for Chunks<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Chunks").finish_non_exhaustive()
    }
}

impl<T: Copy> Chunks<T> {
    /// All entries are this one.
    pub(super) fn new(pool: &Arc<Pool>, entry: T) -> Self {
        let lease = Arc::new(Lease::new(pool, &[entry; WIDTH]));
        Self {
            items: [lease.items; WIDTH],
            leases: std::array::from_fn(|_| lease.clone()),
        }
    }

    /// The entries of chunk number `at`, below [`WIDTH`].
    #[inline]
    pub(super) fn chunk(&self, at: usize) -> &[T; WIDTH] {
        // SAFETY: the lease at the same place keeps what this points to, as long as `self` is borrowed; it was written
        // when it was made, and is written again only by `chunk_mut`, which has `self`, and the lease, alone.
        #[allow(unsafe_code)]
        unsafe {
            self.items[at % WIDTH].as_ref()
        }
    }

    /// The same to write; it is copied before if others share it.
    pub(super) fn chunk_mut(&mut self, at: usize) -> &mut [T; WIDTH] {
        let at = at % WIDTH;
        if Arc::get_mut(&mut self.leases[at]).is_none() {
            let copy = Lease::new(&self.leases[at].pool, self.chunk(at));
            self.items[at] = copy.items;
            self.leases[at] = Arc::new(copy);
        }
        // SAFETY: nobody else has the lease, so nobody else reads or writes the entries, until this borrow of `self` ends.
        #[allow(unsafe_code)]
        unsafe {
            self.items[at].as_mut()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_used_again_when_nobody_has_them() {
        let pool = Pool::new();
        pool.places().without = FEW;
        let first = Chunks::new(&pool, 7u64);
        let mut second = first.clone();
        second.chunk_mut(3)[5] = 8;
        let place = std::ptr::from_ref(second.chunk(3));
        assert_eq!(
            (second.chunk(3)[5], second.chunk(3)[4], first.chunk(3)[5]),
            (8, 7, 7)
        );
        // Alone: written where it is.
        second.chunk_mut(3)[6] = 9;
        assert_eq!(std::ptr::from_ref(second.chunk(3)), place);
        drop(second);
        let mut third = first.clone();
        third.chunk_mut(60)[0] = 1;
        assert_eq!(std::ptr::from_ref(third.chunk(60)), place);
        assert_eq!(
            (third.chunk(60)[0], third.chunk(60)[5]),
            (1, 7),
            "it is written whole"
        );
        drop((first, third));
        assert_eq!(pool.places().free.len(), 2);
    }

    #[test]
    fn without_places_chunks_are_boxes() {
        let pool = Pool::new();
        let mut chunks = Chunks::new(&pool, [1u8; 40]);
        let before = chunks.clone();
        for at in 1..WIDTH {
            chunks.chunk_mut(at)[1] = [2; 40];
            assert_eq!((chunks.chunk(at)[1], chunks.chunk(at)[2]), ([2; 40], [1; 40]));
        }
        assert_eq!(before.chunk(1)[1], [1; 40]);
        let is_box = |chunks: &Chunks<_>, at: usize| chunks.leases[at].place.is_none();
        assert!((0..WIDTH).all(|at| is_box(&chunks, at)), "few need no huge page");
        let mut more = chunks.clone();
        more.chunk_mut(1)[1] = [3; 40];
        assert!(!is_box(&more, 1));
        pool.places().next = usize::MAX / (1 << 20);
        more.chunk_mut(2)[1] = [3; 40];
        assert!(
            is_box(&more, 2),
            "and where there is no more room, they do without"
        );
    }
}
