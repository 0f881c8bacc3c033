//! Every driver that needs no hardware works with EAL as it is started here: the
//! plugins are found, and packets go through.
//!
//! Drivers that touch the kernel run in a network namespace of their own, which
//! ends with the process, so the test starts itself again in one.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::process::Command;
use std::time::{Duration, Instant};

use common::{Burst, eal, frame, packet, pool};
use dpdk::{Eal, Mempool, MempoolConfig, Port, PortConfig, PortHandle, RxQueue, TxQueue};

/// Set in the process that has a namespace of its own.
const INSIDE: &str = "KEDGE_TEST_DEVICES_INSIDE";

#[test]
fn drivers_without_hardware_carry_packets() {
    if std::env::var_os(INSIDE).is_some() {
        return inside();
    }
    let status = Command::new("unshare")
        .arg("--net")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "drivers_without_hardware_carry_packets", "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .unwrap();
    assert!(
        status.success(),
        "in a network namespace of its own (this needs root): {status}"
    );
}

fn inside() {
    let eal = eal();
    let pool = pool(&eal, "devices", 4095);
    plugins_are_loaded(&eal);
    packet_sockets_at_both_ends_of_a_pair(&eal, &pool);
    the_kernel_hears_a_tap(&eal, &pool);
    virtio_user_to_vhost_user(&eal, &pool);
    drop(pool);
    drop(eal);
    assert!(!common::running());
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().unwrap();
    assert!(status.success(), "ip {arguments}: {status}");
}

fn start(eal: &Eal, pool: &Mempool, device: &str) -> (PortHandle, RxQueue, TxQueue) {
    let config = PortConfig {
        promiscuous: true,
        ..PortConfig::default()
    };
    let (port, mut rx, mut tx) = Port::probe(eal, device)
        .unwrap()
        .configure(&config, pool)
        .unwrap();
    (port.handle(), rx.pop().unwrap(), tx.pop().unwrap())
}

/// Sends frames until one comes out at the other end, for five seconds at most.
fn carries(pool: &Mempool, tx: &mut TxQueue, rx: &mut RxQueue, mark: u8) {
    let end = Instant::now() + Duration::from_secs(5);
    while Instant::now() < end {
        let mut burst = Burst::new();
        burst.push(packet(pool, &frame(mark)));
        tx.transmit(&mut burst);
        burst.clear();
        std::thread::sleep(Duration::from_millis(5));
        rx.receive(&mut burst);
        if burst.iter().any(|packet| packet.data() == frame(mark)) {
            return;
        }
    }
    panic!("frame {mark} did not arrive");
}

fn plugins_are_loaded(eal: &Eal) {
    for (device, driver) in [
        ("net_null0", "net_null"),
        ("net_ring0", "net_ring"),
        ("net_memif0", "net_memif"),
    ] {
        let port = Port::probe(eal, device).unwrap();
        assert_eq!(port.info().unwrap().driver, driver, "{device}");
    }
}

fn packet_sockets_at_both_ends_of_a_pair(eal: &Eal, pool: &Mempool) {
    ip("link add left type veth peer name right");
    ip("link set left up");
    ip("link set right up");
    {
        let (left, mut left_rx, mut left_tx) = start(eal, pool, "net_af_packet_left,iface=left");
        let (right, mut right_rx, mut right_tx) = start(eal, pool, "net_af_packet_right,iface=right");
        assert_eq!(left.info().unwrap().driver, "net_af_packet");
        assert!(left.info().unwrap().interface_index.is_some());
        assert_ne!(left.mac_address().unwrap(), right.mac_address().unwrap());
        carries(pool, &mut left_tx, &mut right_rx, 1);
        carries(pool, &mut right_tx, &mut left_rx, 2);
        assert!(left.stats().unwrap().tx_packets > 0);
        assert!(left.stats().unwrap().rx_packets > 0);
        left.set_mtu(1400).unwrap();
        assert_eq!(left.mtu().unwrap(), 1400);
    }
    ip("link del left");
    assert_eq!(pool.in_use(), 0);
}

fn the_kernel_hears_a_tap(eal: &Eal, pool: &Mempool) {
    {
        let (tap, mut tap_rx, mut tap_tx) = start(eal, pool, "net_tap0,iface=exception");
        assert_eq!(tap.info().unwrap().driver, "net_tap");
        ip("link set exception up");
        // A packet socket on the kernel's side of it.
        let (_, mut kernel_rx, mut kernel_tx) = start(eal, pool, "net_af_packet_tap,iface=exception");
        carries(pool, &mut tap_tx, &mut kernel_rx, 3);
        carries(pool, &mut kernel_tx, &mut tap_rx, 4);
    }
    let interfaces = std::fs::read_to_string("/proc/self/net/dev").unwrap();
    assert!(
        !interfaces.contains("exception"),
        "the interface left with the port"
    );
    assert_eq!(pool.in_use(), 0);
}

fn virtio_user_to_vhost_user(eal: &Eal, pool: &Mempool) {
    let socket = std::env::temp_dir().join(format!("kedge-test-{}.sock", std::process::id()));
    let socket = socket.to_str().unwrap();
    // The vhost driver chains buffers where one is too small for a packet.
    let config = MempoolConfig {
        name: "small".to_owned(),
        count: 4095,
        data_room: 256,
        ..MempoolConfig::default()
    };
    let small = Mempool::new(eal, &config).unwrap();
    {
        let (host, mut host_rx, mut host_tx) = start(eal, &small, &format!("net_vhost0,iface={socket}"));
        assert_eq!(host.info().unwrap().driver, "net_vhost");
        let (guest, mut guest_rx, mut guest_tx) =
            start(eal, pool, &format!("net_virtio_user0,path={socket}"));
        assert_eq!(guest.info().unwrap().driver, "net_virtio_user");
        carries(pool, &mut guest_tx, &mut host_rx, 5);
        carries(pool, &mut host_tx, &mut guest_rx, 6);

        let mut large = frame(7);
        large.resize(1000, 7);
        let mut burst: Burst = (0..3).map(|_| packet(pool, &large)).collect();
        burst.push(packet(pool, &frame(8)));
        assert_eq!(guest_tx.transmit(&mut burst), 4);
        let end = Instant::now() + Duration::from_secs(5);
        while burst.is_empty() && Instant::now() < end {
            host_rx.receive(&mut burst);
            burst.retain(|packet| packet.data()[63] != 5);
        }
        assert_eq!(
            burst.len(),
            1,
            "what follows the packets in several buffers is kept"
        );
        assert_eq!(burst[0].data(), frame(8));
        assert_eq!(
            host_rx.refused(),
            3,
            "packets in several buffers are dropped and counted"
        );
    }
    assert!(!std::path::Path::new(socket).exists());
    assert_eq!((pool.in_use(), small.in_use()), (0, 0));
}
