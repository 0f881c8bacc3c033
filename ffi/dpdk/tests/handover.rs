//! Packets that change threads: in order, freed once, none left behind.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};

use common::{BURST, Burst, eal, packet, pool};
use dpdk::{Eal, HandoverReceiver, Mbuf, Mempool, MempoolConfig, MempoolError, handover, register_thread};
use proptest::prelude::*;

#[test]
fn packets_change_threads_in_order_and_are_freed_once() {
    let eal = eal();
    sizes_are_powers_of_two(&eal);
    a_ring_is_a_bounded_queue(&eal);
    what_is_left_is_freed_with_the_ring(&eal);
    a_ring_keeps_its_packets_pool(&eal);
    a_packet_handed_over_keeps_its_pool(&eal);
    several_senders_each_keep_their_order(&eal);
}

fn numbered(pool: &Mempool, number: u64) -> Mbuf {
    packet(pool, &number.to_be_bytes())
}

fn number(packet: &Mbuf) -> u64 {
    u64::from_be_bytes(packet.data().try_into().unwrap())
}

fn sizes_are_powers_of_two(eal: &Eal) {
    for (asked, capacity) in [(0, 1), (1, 1), (3, 4), (1000, 1024), (usize::MAX, 65_536)] {
        assert_eq!(handover(eal, asked).0.capacity(), capacity);
    }
}

/// Against a queue of the standard library, with bursts of any size on both sides.
fn a_ring_is_a_bounded_queue(eal: &Eal) {
    let pool = pool(eal, "model", 255);
    proptest!(|(capacity in 1usize..64, steps in prop::collection::vec((any::<bool>(), 0..=BURST), 0..60))| {
        let (mut sender, mut receiver) = handover(eal, capacity);
        let mut model: VecDeque<u64> = VecDeque::new();
        let mut next = 0;
        for (sends, size) in steps {
            if sends {
                let mut burst: Burst = (0..).take(size).map(|index| numbered(&pool, next + index)).collect();
                let free = sender.capacity() - model.len();
                let sent = sender.send(&mut burst);
                prop_assert_eq!(sent, size.min(free));
                prop_assert_eq!(burst.len(), size - sent);
                // Those left are the last ones, in order.
                for (index, packet) in (sent as u64..).zip(&burst) {
                    prop_assert_eq!(number(packet), next + index);
                }
                model.extend(next..next + sent as u64);
                next += sent as u64;
            } else {
                let mut burst: Burst = (0..).take(BURST - size).map(|_| numbered(&pool, u64::MAX)).collect();
                let received = receiver.receive(&mut burst);
                prop_assert_eq!(received, size.min(model.len()));
                for packet in burst.iter().skip(BURST - size) {
                    prop_assert_eq!(Some(number(packet)), model.pop_front());
                }
            }
            prop_assert_eq!(pool.in_use() as usize, model.len());
        }
    });
    assert_eq!(pool.in_use(), 0, "and what was left in each has been freed");
}

fn what_is_left_is_freed_with_the_ring(eal: &Eal) {
    let pool = pool(eal, "left", 63);
    for sender_first in [true, false] {
        let (mut sender, mut receiver) = handover(eal, 16);
        let mut burst: Burst = (0..20).map(|index| numbered(&pool, index)).collect();
        assert_eq!(sender.send(&mut burst), 16);
        burst.clear();
        let mut three: arrayvec::ArrayVec<Mbuf, 3> = arrayvec::ArrayVec::new();
        assert_eq!(receiver.receive(&mut three), 3);
        drop(three);
        assert_eq!(pool.in_use(), 13);
        if sender_first {
            drop(sender);
            assert_eq!(
                receiver.receive(&mut burst),
                13,
                "the other end can still take all"
            );
            burst.truncate(5);
            drop(receiver);
        } else {
            drop(receiver);
            burst.extend((0..8).map(|index| numbered(&pool, index)));
            assert_eq!(sender.send(&mut burst), 3, "nobody is there to take them");
            assert_eq!(pool.in_use(), 16 + 5);
            drop(sender);
        }
        assert_eq!(pool.in_use() as usize, burst.len());
        burst.clear();
        assert_eq!(pool.in_use(), 0);
    }
}

/// A pool's name is free again when DPDK has freed the pool.
fn exists(eal: &Eal, name: &str) -> bool {
    let config = MempoolConfig {
        name: name.to_owned(),
        count: 7,
        cache: 0,
        ..MempoolConfig::default()
    };
    matches!(Mempool::new(eal, &config), Err(MempoolError::Exists(_)))
}

fn a_ring_keeps_its_packets_pool(eal: &Eal) {
    let first = pool(eal, "in-ring", 63);
    let (mut sender, receiver) = handover(eal, 8);
    let mut burst: Burst = std::iter::once(numbered(&first, 7)).collect();
    sender.send(&mut burst);
    drop(first);
    drop(pool(eal, "next", 7));
    assert!(
        exists(eal, "in-ring"),
        "no thread owns the packet, but the ring does"
    );
    drop(sender);
    assert!(exists(eal, "in-ring"));
    drop(receiver);
    assert!(
        !exists(eal, "in-ring"),
        "it goes with the ring, and needs nothing else"
    );
}

fn a_packet_handed_over_keeps_its_pool(eal: &Eal) {
    let first = pool(eal, "moved", 63);
    let (mut sender, mut receiver) = handover(eal, 8);
    let mut burst: Burst = std::iter::once(numbered(&first, 7)).collect();
    sender.send(&mut burst);
    drop((sender, first));
    let (taken, wait_taken) = std::sync::mpsc::channel();
    let (release, wait_release) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut burst = Burst::new();
            assert_eq!(receiver.receive(&mut burst), 1);
            drop(receiver);
            taken.send(()).unwrap();
            wait_release.recv().unwrap();
            assert_eq!(number(&burst[0]), 7);
        });
        wait_taken.recv().unwrap();
        assert!(
            exists(eal, "moved"),
            "the other thread owns it, and there is no ring"
        );
        release.send(()).unwrap();
    });
    drop(pool(eal, "next", 7));
    assert!(!exists(eal, "moved"));
}

/// Two senders, one receiver, a ring from each: as between workers.
fn several_senders_each_keep_their_order(eal: &Eal) {
    const EACH: u64 = 200_000;
    const SENDERS: u64 = 2;
    let config = MempoolConfig {
        name: "senders".to_owned(),
        count: 1023,
        ..MempoolConfig::default()
    };
    let pool = Mempool::new(eal, &config).unwrap();
    let failed = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let mut receivers: Vec<HandoverReceiver> = Vec::new();
        for sender in 0..SENDERS {
            let (mut ring, receiver) = handover(eal, 128);
            receivers.push(receiver);
            let (eal, pool, failed) = (eal.clone(), pool.clone(), &failed);
            scope.spawn(move || {
                let _registration = register_thread(&eal).unwrap();
                let mut burst = Burst::new();
                let mut next = 0;
                while (next < EACH || !burst.is_empty()) && !failed.load(Ordering::Relaxed) {
                    while next < EACH
                        && !burst.is_full()
                        && let Some(mut packet) = pool.alloc()
                    {
                        packet
                            .extend_from_slice(&(sender << 32 | next).to_be_bytes())
                            .unwrap();
                        burst.push(packet);
                        next += 1;
                    }
                    if ring.send(&mut burst) == 0 {
                        std::thread::yield_now();
                    }
                }
            });
        }
        let mut expected = [0; SENDERS as usize];
        let mut burst = Burst::new();
        while expected.iter().any(|next| *next < EACH) {
            for (sender, receiver) in (0..).zip(&mut receivers) {
                if receiver.receive(&mut burst) == 0 {
                    std::thread::yield_now();
                }
                for packet in burst.drain(..) {
                    let next = &mut expected[sender as usize];
                    if number(&packet) != sender << 32 | *next {
                        failed.store(true, Ordering::Relaxed);
                        assert_eq!(number(&packet), sender << 32 | *next, "sender {sender}");
                    }
                    *next += 1;
                }
            }
        }
    });
    assert_eq!(pool.in_use(), 0);
}
