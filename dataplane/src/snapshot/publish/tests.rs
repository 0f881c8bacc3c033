use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::mpsc;
use std::thread::{self, ThreadId};
use std::time::Duration;

use super::*;

/// Two halves that always agree, and a note of the thread on which it must die.
struct Version {
    left: u64,
    right: u64,
    home: ThreadId,
    alive: Arc<AtomicUsize>,
}

impl Version {
    fn new(number: u64, alive: &Arc<AtomicUsize>) -> Self {
        alive.fetch_add(1, Ordering::SeqCst);
        Self {
            left: number,
            right: !number,
            home: thread::current().id(),
            alive: alive.clone(),
        }
    }
}

impl Drop for Version {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::SeqCst);
        assert_eq!(self.home, thread::current().id(), "freed off the control thread");
        // A reader that still held it would now see halves that disagree.
        self.left = 0;
        self.right = 0;
    }
}

#[test]
fn readers_see_whole_versions_in_order_and_free_none() {
    let versions = if cfg!(miri) { 10 } else { 20_000 };
    let alive = Arc::default();
    let mut publisher = Publisher::new(Version::new(1, &alive));
    let stop = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..if cfg!(miri) { 1 } else { 3 })
        .map(|_| {
            let (factory, stop) = (publisher.factory(), stop.clone());
            thread::spawn(move || {
                let mut subscriber = factory.subscribe();
                let mut last = 0;
                while !stop.load(Ordering::Relaxed) {
                    let version = subscriber.read();
                    assert_eq!(version.left, !version.right, "a torn or freed version");
                    assert!(version.left >= last, "time ran backward");
                    last = version.left;
                }
            })
        })
        .collect();
    for number in 2..=versions {
        publisher.publish(Version::new(number, &alive));
    }
    stop.store(true, Ordering::Relaxed);
    for reader in readers {
        reader.join().unwrap();
    }
    drop(publisher);
    assert_eq!(alive.load(Ordering::SeqCst), 0);
}

/// One worker hangs in a burst, another goes on and, reading far more than 128 times, runs what crossbeam defers.
#[test]
fn a_stalled_reader_holds_back_no_more_than_the_bound() {
    let bound: usize = if cfg!(miri) { 6 } else { 200 };
    let alive = Arc::default();
    let mut publisher = Publisher::bounded(Version::new(0, &alive), bound);
    let (stop, moves_on) = (AtomicBool::new(false), AtomicBool::new(false));
    let (stalls, stalled) = mpsc::channel();
    let (wake, woken) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let (stop, moves_on) = (&stop, &moves_on);
        let factory = publisher.factory();
        scope.spawn(move || {
            let mut subscriber = factory.subscribe();
            let version = subscriber.read();
            stalls.send(()).unwrap();
            woken.recv().unwrap();
            thread::sleep(Duration::from_millis(30));
            assert_eq!((version.left, version.right), (0, !0), "freed under a reader");
            moves_on.store(true, Ordering::SeqCst);
            version.end();
        });
        let factory = publisher.factory();
        scope.spawn(move || {
            let mut subscriber = factory.subscribe();
            while !stop.load(Ordering::SeqCst) {
                let version = subscriber.read();
                assert_eq!(version.left, !version.right, "a torn or freed version");
            }
        });
        stalled.recv().unwrap();
        for number in 1..=bound {
            publisher.publish(Version::new(number as u64, &alive));
            // All of them wait, the stalled one's own and the younger ones, and no other.
            assert_eq!(publisher.retired(), number);
            assert_eq!(alive.load(Ordering::SeqCst), number + 1);
            assert_eq!(publisher.factory().subscribe().read().left, number as u64);
        }
        assert!(
            !moves_on.load(Ordering::SeqCst),
            "no publication so far had to wait"
        );
        // This one has to.
        wake.send(()).unwrap();
        publisher.publish(Version::new(1 + bound as u64, &alive));
        assert!(moves_on.load(Ordering::SeqCst), "published beyond the bound");
        while publisher.collect() > 0 {
            pause();
        }
        assert_eq!(alive.load(Ordering::SeqCst), 1);
        stop.store(true, Ordering::SeqCst);
    });
}

/// The control plane's server may publish from any thread; what waits goes along.
#[test]
fn a_publisher_moves_between_threads() {
    let mut publisher = Publisher::new(0);
    for number in 1..=if cfg!(miri) { 5 } else { 20 } {
        publisher = thread::spawn(move || {
            publisher.publish(number);
            publisher
        })
        .join()
        .unwrap();
        assert_eq!(*publisher.factory().subscribe().read(), number);
    }
    while publisher.collect() > 0 {}
}
