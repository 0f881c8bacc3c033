//! How many mbufs this process owns, so that no pool is freed under one.
//!
//! An `Mbuf` is one pointer and cannot keep its pool alive. Instead every thread
//! counts the mbufs it owns: those received or allocated, less those dropped or
//! transmitted. An `Mbuf` is not `Send`, so a thread's count is written by that
//! thread alone, and costs a plain store per burst.
//!
//! A pool that nobody can take from any more (its last handle is gone) can be
//! freed when, with ports and rings between threads kept from appearing, there is
//! none of either and the total is zero: no driver and no ring holds a buffer of
//! it, and no thread owns one. A ring counts for a second reason: by it a buffer
//! could get past whoever reads one count after the other. Other pools'
//! mbufs count too, so a pool may stay longer than it must, never shorter. An
//! `Mbuf` that is leaked on purpose keeps the total above zero, and the pools stay.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// On its own cache line: its owner writes it on every burst.
#[repr(align(64))]
struct Count(AtomicUsize);

/// One count per thread that ever owned an mbuf. Never shortened: a thread that
/// ended may have leaked mbufs, and threads here are few and live long.
static COUNTS: Mutex<Vec<&'static Count>> = Mutex::new(Vec::new());

thread_local! {
    static MINE: &'static Count = {
        let count: &'static Count = Box::leak(Box::new(Count(AtomicUsize::new(0))));
        COUNTS.lock().unwrap_or_else(PoisonError::into_inner).push(count);
        count
    };
}

/// This thread now owns `count` more mbufs.
#[inline]
pub(crate) fn add(count: usize) {
    MINE.with(|mine| {
        mine.0.store(
            mine.0.load(Ordering::Relaxed).wrapping_add(count),
            Ordering::Relaxed,
        );
    });
}

/// This thread has given `count` mbufs away, to their pool or to a driver.
///
/// To be called after that is done: whoever reads the lower count then sees the
/// buffers where they went.
#[inline]
pub(crate) fn sub(count: usize) {
    MINE.with(|mine| {
        mine.0.store(
            mine.0.load(Ordering::Relaxed).wrapping_sub(count),
            Ordering::Release,
        );
    });
}

/// No thread owns an mbuf. Exact for a pool that nobody can take from any more,
/// while no port is open and no ring is between threads: its mbufs can then only
/// become fewer, each where it is.
pub(crate) fn none() -> bool {
    let counts = COUNTS.lock().unwrap_or_else(PoisonError::into_inner);
    counts.iter().all(|count| count.0.load(Ordering::Acquire) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_of_all_threads_together() {
        assert!(none());
        let (taken, wait_taken) = std::sync::mpsc::channel();
        let (release, wait_release) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            add(3);
            sub(1);
            taken.send(()).unwrap();
            wait_release.recv().unwrap();
            sub(2);
        });
        wait_taken.recv().unwrap();
        assert!(!none());
        release.send(()).unwrap();
        thread.join().unwrap();
        assert!(none());
    }
}
