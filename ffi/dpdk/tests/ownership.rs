//! Every buffer is freed once: after each case its pool is whole again.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::sync::mpsc;

use common::{BURST, Burst, eal, frame, packet, pool};
use dpdk::{Eal, Mbuf, Mempool, MempoolConfig, MempoolError, Port, PortConfig, ThreadError, register_thread};

#[test]
fn every_buffer_is_freed_once() {
    let eal = eal();
    a_dropped_packet_goes_back(&eal);
    a_burst_is_filled_whole_or_not_at_all(&eal);
    a_null_port_receives_and_sends(&eal);
    what_does_not_fit_its_buffer_is_dropped_and_counted(&eal);
    what_a_ring_takes_comes_out_in_order(&eal);
    a_full_ring_leaves_the_rest(&eal);
    a_burst_that_has_packets_is_appended_to(&eal);
    queues_work_on_a_registered_thread(&eal);
    a_pool_outlives_its_handles_as_long_as_its_packets(&eal);
    a_packet_outlives_the_port_it_came_from(&eal);
    packets_in_a_closed_port_do_not_hurt(&eal);
}

fn a_dropped_packet_goes_back(eal: &Eal) {
    let pool = pool(eal, "dropped", 63);
    assert_eq!((pool.size(), pool.in_use()), (63, 0));
    let packets: Vec<Mbuf> = std::iter::from_fn(|| pool.alloc()).collect();
    assert_eq!(packets.len(), 63, "the pool gives all it has, then none");
    assert_eq!(pool.in_use(), 63);
    drop(packets);
    assert_eq!(pool.in_use(), 0);
}

fn a_burst_is_filled_whole_or_not_at_all(eal: &Eal) {
    let pool = pool(eal, "filled", 63);
    let mut first = Burst::new();
    let mut second = Burst::new();
    assert_eq!(pool.alloc_burst(&mut first), BURST);
    assert_eq!(pool.alloc_burst(&mut first), 0, "no room is no request");
    assert_eq!(pool.alloc_burst(&mut second), 0, "31 are left, 32 were asked for");
    assert_eq!((first.len(), second.len()), (BURST, 0));
    second.push(pool.alloc().unwrap());
    assert_eq!(pool.alloc_burst(&mut second), 0);
    assert_eq!(second.len(), 1);
    drop(first.pop());
    drop(first.pop());
    assert_eq!(pool.alloc_burst(&mut second), BURST - 1);
    Mbuf::free_burst(&mut second);
    assert!(second.is_empty());
    Mbuf::free_burst(&mut second);
    drop(first);
    assert_eq!(pool.in_use(), 0);
}

fn a_null_port_receives_and_sends(eal: &Eal) {
    let pool = pool(eal, "null", 1023);
    let port = Port::probe(eal, "net_null_own,size=80").unwrap();
    let (port, mut rx, mut tx) = port.configure(&PortConfig::default(), &pool).unwrap();
    let mut burst = Burst::new();
    assert_eq!(rx[0].receive(&mut burst), BURST);
    assert_eq!(
        rx[0].receive(&mut burst),
        0,
        "no room, so nothing is taken from the device"
    );
    assert_eq!(pool.in_use() as usize, BURST);
    assert!(
        burst
            .iter()
            .all(|packet| packet.len() == 80 && packet.is_single_segment())
    );
    assert!(burst.iter().all(|packet| packet.port() == port.number()));
    assert_eq!(burst.iter().find_map(Mbuf::rss_hash), None);
    assert_eq!(tx[0].transmit(&mut burst), BURST);
    assert!(burst.is_empty());
    assert_eq!(tx[0].transmit(&mut burst), 0);
    assert_eq!(pool.in_use(), 0, "the null device frees what it is given");
    let stats = port.stats().unwrap();
    assert_eq!((stats.rx_packets, stats.tx_packets), (BURST as u64, BURST as u64));
    assert_eq!(rx[0].refused(), 0);
}

fn what_does_not_fit_its_buffer_is_dropped_and_counted(eal: &Eal) {
    let pool = pool(eal, "oversize", 255);
    // The null driver does not look at the buffer's size. The others write what fits.
    let port = Port::probe(eal, "net_null_over,size=2049,copy=0").unwrap();
    let (_port, mut rx, _tx) = port.configure(&PortConfig::default(), &pool).unwrap();
    let mut burst = Burst::new();
    assert_eq!(rx[0].receive(&mut burst), 0);
    assert!(burst.is_empty());
    assert_eq!(rx[0].refused(), BURST as u64);
    assert_eq!(pool.in_use(), 0);
}

fn ring(eal: &Eal, name: &str, pool: &Mempool) -> (dpdk::RxQueue, dpdk::TxQueue) {
    let port = Port::probe(eal, name).unwrap();
    let (_, mut rx, mut tx) = port.configure(&PortConfig::default(), pool).unwrap();
    (rx.pop().unwrap(), tx.pop().unwrap())
}

fn what_a_ring_takes_comes_out_in_order(eal: &Eal) {
    let pool = pool(eal, "order", 127);
    let (mut rx, mut tx) = ring(eal, "net_ring_order", &pool);
    let mut burst: Burst = (0..8).map(|mark| packet(&pool, &frame(mark))).collect();
    assert_eq!(tx.transmit(&mut burst), 8);
    assert_eq!(pool.in_use(), 8, "given away, not freed: the ring holds them");
    assert_eq!(rx.receive(&mut burst), 8);
    for (mark, packet) in (0..).zip(&burst) {
        assert_eq!(packet.data(), frame(mark));
    }
    drop(burst);
    assert_eq!(pool.in_use(), 0);
}

fn a_full_ring_leaves_the_rest(eal: &Eal) {
    let pool = pool(eal, "full", 2047);
    let (mut rx, mut tx) = ring(eal, "net_ring_full", &pool);
    let mut sent = 0;
    let mut burst = Burst::new();
    loop {
        while let Some(mark) = u8::try_from(burst.len()).ok().filter(|_| !burst.is_full()) {
            burst.push(packet(&pool, &frame(mark)));
        }
        let taken = tx.transmit(&mut burst);
        sent += taken;
        assert_eq!(burst.len(), BURST - taken);
        if taken < BURST {
            // Those left are the last ones, in order, and still whole.
            for (mark, packet) in (u8::try_from(taken).unwrap()..).zip(&burst) {
                assert_eq!(packet.data(), frame(mark));
            }
            break;
        }
    }
    assert!(
        !burst.is_empty(),
        "the ring was to fill up in the middle of a burst"
    );
    let left = burst.len();
    assert_eq!(tx.transmit(&mut burst), 0, "it is full");
    assert_eq!(burst.len(), left);
    assert_eq!(pool.in_use() as usize, sent + left);
    drop(burst);
    assert_eq!(pool.in_use() as usize, sent);

    let mut received = 0;
    let mut burst = Burst::new();
    while rx.receive(&mut burst) > 0 {
        received += burst.len();
        Mbuf::free_burst(&mut burst);
    }
    assert_eq!(received, sent);
    assert_eq!(pool.in_use(), 0);
}

fn a_burst_that_has_packets_is_appended_to(eal: &Eal) {
    let pool = pool(eal, "append", 127);
    let (mut rx, mut tx) = ring(eal, "net_ring_append", &pool);
    let mut burst: Burst = (0..30).map(|mark| packet(&pool, &frame(mark))).collect();
    tx.transmit(&mut burst);
    burst.extend((100..110).map(|mark| packet(&pool, &frame(mark))));
    assert_eq!(rx.receive(&mut burst), 22, "32 less the 10 already there");
    let marks: Vec<u8> = burst.iter().map(|packet| packet.data()[63]).collect();
    let expected: Vec<u8> = (100..110).chain(0..22).collect();
    assert_eq!(marks, expected);
    burst.clear();
    assert_eq!(rx.receive(&mut burst), 8);
    drop(burst);
    assert_eq!(pool.in_use(), 0);
}

fn queues_work_on_a_registered_thread(eal: &Eal) {
    assert_eq!(register_thread(eal).unwrap_err(), ThreadError::AlreadyRegistered);
    // With a cache per thread, as in production.
    let config = MempoolConfig {
        name: "threads".to_owned(),
        count: 1023,
        ..MempoolConfig::default()
    };
    let pool = Mempool::new(eal, &config).unwrap();
    let (mut rx, mut tx) = ring(eal, "net_ring_threads", &pool);
    let (give, take) = mpsc::channel();
    std::thread::scope(|scope| {
        let (sender_eal, sender_pool) = (eal.clone(), pool.clone());
        scope.spawn(move || {
            let _registration = register_thread(&sender_eal).unwrap();
            assert!(register_thread(&sender_eal).is_err());
            let mut sent = 0;
            while sent < 10_000 {
                let mut burst = Burst::new();
                sender_pool.alloc_burst(&mut burst);
                for packet in &mut burst {
                    packet.extend_from_slice(&frame(1)).unwrap();
                }
                sent += tx.transmit(&mut burst);
            }
            give.send((sent, tx)).unwrap();
        });
        let receiver_eal = eal.clone();
        scope.spawn(move || {
            let _registration = register_thread(&receiver_eal).unwrap();
            let mut received = 0;
            let mut expected = None;
            let mut burst = Burst::new();
            while expected.as_ref().is_none_or(|(sent, _)| received < *sent) {
                received += rx.receive(&mut burst);
                burst.clear();
                expected = expected.or_else(|| take.try_recv().ok());
            }
            assert_eq!(expected.map(|(sent, _)| sent), Some(received));
        });
    });
    assert_eq!(pool.in_use(), 0, "buffers in threads' caches are not in use");
}

/// A pool's name is free again when DPDK has freed the pool.
fn exists(eal: &Eal, name: &str) -> bool {
    let config = MempoolConfig {
        name: name.to_owned(),
        count: 7,
        cache: 0,
        ..MempoolConfig::default()
    };
    match Mempool::new(eal, &config) {
        Ok(_) => false,
        Err(error) => {
            assert_eq!(error, MempoolError::Exists(name.to_owned()));
            true
        }
    }
}

fn a_pool_outlives_its_handles_as_long_as_its_packets(eal: &Eal) {
    let first = pool(eal, "outlives", 63);
    let second = first.clone();
    let mut kept = packet(&first, b"still here");
    drop(first);
    drop(second);
    assert!(exists(eal, "outlives"));
    kept.prepend(4).unwrap().copy_from_slice(b"yes:");
    assert_eq!(kept.data(), b"yes:still here");
    drop(kept);
    // The next pool to go takes the waiting ones with it.
    drop(pool(eal, "next", 7));
    assert!(!exists(eal, "outlives"));
}

fn a_packet_outlives_the_port_it_came_from(eal: &Eal) {
    let pool = pool(eal, "from-port", 1023);
    let (mut rx, tx) = ring(eal, "net_ring_from", &pool);
    let mut tx = tx;
    let mut burst: Burst = std::iter::once(packet(&pool, &frame(9))).collect();
    tx.transmit(&mut burst);
    assert_eq!(rx.receive(&mut burst), 1);
    drop((rx, tx, pool));
    assert!(exists(eal, "from-port"));
    assert_eq!(burst[0].data(), frame(9));
    drop(burst);
    drop(self::pool(eal, "next", 7));
    assert!(!exists(eal, "from-port"));
}

fn packets_in_a_closed_port_do_not_hurt(eal: &Eal) {
    let pool = pool(eal, "closed", 63);
    let (rx, mut tx) = ring(eal, "net_ring_closed", &pool);
    let mut burst: Burst = (0..8).map(|mark| packet(&pool, &frame(mark))).collect();
    tx.transmit(&mut burst);
    // The pool's handles go first; the port still holds eight of its buffers.
    drop(pool);
    assert!(exists(eal, "closed"));
    drop((rx, tx));
    assert!(!exists(eal, "closed"));
}
