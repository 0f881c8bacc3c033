//! The data plane's protocols between threads, as models that loom runs in every order.
//!
//! `publish.rs` and `versions.rs` are the data plane's own files, compiled with loom's
//! primitives ([`sync`]; crossbeam-epoch has loom's inside). Loom runs a model once for each order
//! of its threads' steps, and each value that a load may see, and says where two accesses race.
//! `build.rs` makes broken variants, and `tests/model.rs` says that loom finds what is wrong with them.
//!
//! It is unsafe for two things only: loom's cells give addresses, whose accesses loom itself checks, that being what they are
//! for; and an allocator, which keeps what a broken variant frees too early from being given to somebody else. None of it
//! is in what Kedge runs.
#![cfg(crossbeam_loom)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

mod sync;

/// Changes of thread where none was due, at most, in one order. With two, the reader that unpins early is not
/// found; with three, everything is, and in seconds. `LOOM_MAX_PREEMPTIONS` asks for more.
const PREEMPTIONS: usize = 3;

/// Keeps the blocks of versions that were freed: a broken variant reads them, and it is loom that has to say so.
struct Quarantine;

/// Only versions are aligned like this.
const OF_A_VERSION: usize = 1024;

// SAFETY: every block is one of the system's allocator, of the layout asked for; not to free is always allowed.
unsafe impl GlobalAlloc for Quarantine {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller promises what the system's allocator asks: a layout that has a size.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if layout.align() != OF_A_VERSION {
            // SAFETY: the caller promises that the block is from `alloc` with this layout, which is the system's.
            unsafe { System.dealloc(block, layout) }
        }
    }
}

#[global_allocator]
static ALLOCATOR: Quarantine = Quarantine;

/// Runs under loom, within bounds.
fn check(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    if let Some(bound) = std::env::var("LOOM_MAX_PREEMPTIONS")
        .ok()
        .and_then(|bound| bound.parse().ok())
    {
        builder.preemption_bound = Some(bound);
    }
    builder.max_branches = 10_000;
    let orders = Arc::new(AtomicUsize::new(0));
    let counted = orders.clone();
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        model();
    });
    println!("{} orders", orders.load(Ordering::Relaxed));
}

macro_rules! publication {
    () => {
        /// One word in two accesses, so that loom sees a version that is freed while it is read.
        #[repr(align(1024))]
        struct Version {
            number: loom::cell::UnsafeCell<usize>,
            home: loom::thread::ThreadId,
            alive: crate::Arc<crate::AtomicUsize>,
        }

        // SAFETY: what is not shared by itself is the cell, and loom says where two accesses to one race, before they are
        // made: it runs one thread at a time.
        unsafe impl Sync for Version {}

        impl Version {
            fn new(number: usize, alive: &crate::Arc<crate::AtomicUsize>) -> Self {
                alive.fetch_add(1, crate::Ordering::SeqCst);
                Self {
                    number: loom::cell::UnsafeCell::new(number),
                    home: loom::thread::current().id(),
                    alive: alive.clone(),
                }
            }

            fn get(&self) -> usize {
                // SAFETY: loom gives an address of the cell's own value, and stops the model where that is being written.
                self.number.with(|number| unsafe { *number })
            }
        }

        impl Drop for Version {
            fn drop(&mut self) {
                // SAFETY: the same, where it is being read or written; a version that was freed before is in quarantine.
                self.number.with_mut(|number| unsafe { *number = 0 });
                assert_eq!(
                    self.home,
                    loom::thread::current().id(),
                    "freed off the control thread"
                );
                self.alive.fetch_sub(1, crate::Ordering::SeqCst);
            }
        }

        /// A reader of two bursts, while versions come and go.
        pub fn publication(versions: usize, bound: usize, bursts: usize) {
            crate::check(move || {
                let alive = crate::Arc::default();
                let mut publisher = publish::Publisher::bounded(Version::new(1, &alive), bound);
                let factory = publisher.factory();
                let reader = loom::thread::spawn(move || {
                    let mut subscriber = factory.subscribe();
                    drop(factory);
                    let mut last = 0;
                    for _ in 0..bursts {
                        let version = subscriber.read();
                        let number = version.get();
                        assert!(
                            number >= 1 && number >= last,
                            "version {number} after {last}"
                        );
                        // What was read first is still there when the burst ends.
                        assert_eq!(version.get(), number);
                        version.end();
                        last = number;
                    }
                });
                for number in 2..=versions + 1 {
                    publisher.publish(Version::new(number, &alive));
                    let alive = alive.load(crate::Ordering::SeqCst);
                    if alive > bound + 1 {
                        // It would wait forever for an address that did not fit into the queue.
                        std::mem::forget(publisher);
                        reader.join().unwrap();
                        panic!("{alive} versions");
                    }
                }
                // While the reader goes on: to the last moment at which something could be freed too early.
                while publisher.collect() > 0 {
                    loom::thread::yield_now();
                }
                reader.join().unwrap();
                drop(publisher);
                assert_eq!(alive.load(crate::Ordering::SeqCst), 0, "leaked");
            });
        }
    };
}

macro_rules! reuse {
    () => {
        /// Each version refers to two lines, of which the next one replaces one. Two versions have readers.
        pub fn reuse() {
            crate::check(|| {
                use loom::cell::UnsafeCell;
                let lines: loom::sync::Arc<[UnsafeCell<usize>; 6]> =
                    loom::sync::Arc::new(std::array::from_fn(|_| UnsafeCell::new(0)));
                let mut versions = versions::Versions::default();
                let (mut free, mut next) = (Vec::new(), 2);
                let (mut current, mut content) = ([0, 1], [0, 0]);
                let mut readers = Vec::new();
                for number in 1..=4 {
                    let line = free.pop().unwrap_or_else(|| {
                        next += 1;
                        next - 1
                    });
                    // SAFETY: an address of the cell's own value; loom stops the model if anybody reads it now.
                    lines[line].with_mut(|line: *mut usize| unsafe { *line = number });
                    versions.retire(std::mem::replace(&mut current[number % 2], line));
                    content[number % 2] = number;
                    let token = versions.commit(|line| free.push(line));
                    if number <= 2 {
                        let lines = lines.clone();
                        readers.push(loom::thread::spawn(move || {
                            let copy = token.clone();
                            drop(token);
                            for (line, content) in current.into_iter().zip(content) {
                                // SAFETY: an address of the cell's own value; loom stops the model if it is being written.
                                assert_eq!(lines[line].with(|line| unsafe { *line }), content);
                            }
                            drop(copy);
                        }));
                    }
                }
                for reader in readers {
                    reader.join().unwrap();
                }
                // With nobody left, everything but the last version's lines comes back.
                let _last = versions.commit(|line| free.push(line));
                assert_eq!((versions.held(), versions.waiting().count()), (0, 0));
                assert_eq!(free.len() + 2, next);
            });
        }
    };
}

/// What Kedge runs.
#[path = "."]
pub mod shipped {
    #[allow(dead_code, unreachable_pub)]
    #[path = "../../../dataplane/src/snapshot/publish.rs"]
    mod publish;
    #[allow(dead_code)]
    #[path = "../../../dataplane/src/versions.rs"]
    mod versions;
    publication!();
    reuse!();
}

macro_rules! broken {
    ($($name:ident $file:ident $model:ident)*) => {$(
        pub mod $name {
            #[allow(unused, clippy::all)]
            mod $file {
                include!(concat!(env!("OUT_DIR"), "/", stringify!($name), ".rs"));
            }
            $model!();
        }
    )*};
}

broken! {
    frees_at_once publish publication
    forgets_the_bound publish publication
    unpins_early publish publication
    reads_relaxed publish publication
    ignores_tokens versions reuse
    youngest_first versions reuse
    hands_out_another_token versions reuse
}
