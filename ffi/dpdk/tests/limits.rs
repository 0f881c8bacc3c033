//! What cannot be done is refused by name, and changes nothing.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{config, eal, packet, pool};
use dpdk::{
    Eal, EalConfig, EalError, HEADROOM, Mempool, MempoolConfig, MempoolError, NoHeadroom, NoTailroom, Port,
    PortConfig, PortError, PortNote, ProbeError, TooShort, cycles, cycles_per_second,
};

#[test]
fn what_cannot_be_done_is_refused_by_name() {
    let nul = EalConfig {
        extra: vec!["\0".to_owned()],
        ..config()
    };
    assert_eq!(Eal::init(&nul).unwrap_err(), EalError::Argument("\0".to_owned()));
    let before = allowed_cores();
    let eal = eal();
    assert_eq!(allowed_cores(), before, "EAL did not pin the thread");
    assert_eq!(Eal::init(&config()).unwrap_err(), EalError::AlreadyInitialised);
    the_front_of_a_packet_moves_within_the_headroom(&eal);
    the_end_of_a_packet_moves_within_the_buffer(&eal);
    pools(&eal);
    devices(&eal);
    ports(&eal);
    the_clock_runs(&eal);
}

/// The cores that this thread may run on.
fn allowed_cores() -> String {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    status
        .lines()
        .find(|line| line.starts_with("Cpus_allowed_list:"))
        .unwrap()
        .to_owned()
}

fn the_front_of_a_packet_moves_within_the_headroom(eal: &Eal) {
    let pool = pool(eal, "front", 63);
    let mut packet = packet(&pool, b"payload");
    assert_eq!(
        (packet.headroom(), packet.tailroom(), packet.len()),
        (HEADROOM, 2048 - 7, 7)
    );
    packet.prepend(0).unwrap();
    packet.prepend(4).unwrap().copy_from_slice(b"head");
    assert_eq!(packet.data(), b"headpayload");
    let refused = NoHeadroom {
        asked: HEADROOM - 3,
        available: HEADROOM - 4,
    };
    assert_eq!(packet.prepend(HEADROOM - 3).unwrap_err(), refused);
    assert_eq!(packet.prepend(usize::MAX).unwrap_err().available, HEADROOM - 4);
    assert_eq!(packet.data(), b"headpayload");
    assert_eq!(
        packet.prepend(HEADROOM - 4).unwrap().len(),
        HEADROOM - 4,
        "the whole headroom can be used"
    );
    assert_eq!((packet.headroom(), packet.len()), (0, HEADROOM + 7));

    packet.strip(HEADROOM).unwrap();
    assert_eq!(packet.data(), b"payload");
    assert_eq!(packet.strip(8), Err(TooShort { asked: 8, length: 7 }));
    assert_eq!(
        packet.strip(usize::MAX),
        Err(TooShort {
            asked: usize::MAX,
            length: 7
        })
    );
    assert_eq!(packet.data(), b"payload");
    packet.strip(7).unwrap();
    assert!(packet.is_empty());
    assert_eq!(packet.headroom(), HEADROOM + 7);
    packet.prefetch();
}

fn the_end_of_a_packet_moves_within_the_buffer(eal: &Eal) {
    let pool = pool(eal, "end", 63);
    let mut packet = packet(&pool, b"payload");
    packet.data_mut()[0] = b'P';
    packet.trim(4).unwrap();
    assert_eq!(packet.data(), b"Pay");
    assert_eq!(packet.trim(4), Err(TooShort { asked: 4, length: 3 }));
    packet.truncate(5);
    packet.truncate(usize::MAX);
    assert_eq!(packet.data(), b"Pay");
    packet.truncate(1);
    assert_eq!(packet.data(), b"P");
    let refused = NoTailroom {
        asked: 2048,
        available: 2047,
    };
    assert_eq!(packet.append(2048).unwrap_err(), refused);
    assert_eq!(packet.append(usize::MAX).unwrap_err().available, 2047);
    assert_eq!(packet.data(), b"P");
    packet.append(2047).unwrap().fill(7);
    assert_eq!(
        (packet.len(), packet.tailroom(), packet.data()[2047]),
        (2048, 0, 7)
    );
    assert!(packet.is_single_segment());
}

fn pools(eal: &Eal) {
    let fits = MempoolConfig {
        name: "pool".to_owned(),
        count: 63,
        cache: 0,
        ..MempoolConfig::default()
    };
    let made = Mempool::new(eal, &fits).unwrap();
    assert_eq!(made.data_room(), 2048);
    let refused = |config: MempoolConfig| Mempool::new(eal, &config).unwrap_err();
    assert_eq!(refused(fits.clone()), MempoolError::Exists("pool".to_owned()));
    for name in ["", "a name that is far too long for it", "nul\0"] {
        let config = MempoolConfig {
            name: name.to_owned(),
            ..fits.clone()
        };
        assert_eq!(refused(config), MempoolError::Name(name.to_owned()));
    }
    let longest = MempoolConfig {
        name: "x".repeat(25),
        ..fits.clone()
    };
    Mempool::new(eal, &longest).unwrap();
    let room = MempoolConfig {
        name: "room".to_owned(),
        data_room: u16::MAX,
        ..fits.clone()
    };
    assert_eq!(refused(room), MempoolError::DataRoom(u16::MAX));
    let cache = MempoolConfig {
        name: "cache".to_owned(),
        cache: 43,
        ..fits.clone()
    };
    assert_eq!(refused(cache), MempoolError::Cache { count: 63, cache: 43 });
    // EAL has 256 MiB.
    let large = MempoolConfig {
        name: "large".to_owned(),
        count: 1 << 20,
        ..fits
    };
    let error = refused(large);
    assert!(matches!(error, MempoolError::NoMemory { count, .. } if count == 1 << 20));
    assert_eq!(
        error.to_string(),
        "no memory for 1048576 buffers of 2176 octets (pool \"large\")"
    );
}

fn devices(eal: &Eal) {
    for device in ["", ",iface=x", "net_null0\0"] {
        assert_eq!(
            Port::probe(eal, device).unwrap_err(),
            ProbeError::Device(device.to_owned())
        );
    }
    for device in [
        "net_nosuch0",
        "net_af_packet0,iface=nosuch0",
        "net_null9,nosuch=1",
    ] {
        let error = Port::probe(eal, device).unwrap_err();
        assert!(
            matches!(&error, ProbeError::Refused { device: named, .. } if named == device),
            "{error:?}"
        );
        assert!(error.to_string().contains(device), "{error}");
    }
    let error = Port::by_pci(eal, "0000:ff:1f.7").unwrap_err();
    assert!(
        matches!(&error, ProbeError::NoPort { device, .. } if device == "0000:ff:1f.7"),
        "{error:?}"
    );

    let port = Port::probe(eal, "net_null_once").unwrap();
    assert_eq!(port.device(), "net_null_once");
    assert_eq!(
        Port::probe(eal, "net_null_once").unwrap_err(),
        ProbeError::InUse("net_null_once".to_owned())
    );
    drop(port);
    let again = Port::probe(eal, "net_null_once");
    assert!(again.is_ok(), "its device left with the port");
}

fn ports(eal: &Eal) {
    let pool = pool(eal, "ports", 1023);
    let start =
        |device: &str, config: PortConfig| Port::probe(eal, device).unwrap().configure(&config, &pool);
    let info = Port::probe(eal, "net_ring_info").unwrap().info().unwrap();
    assert_eq!(info.driver, "net_ring");
    assert!(!info.rss);
    let asked = info.max_rx_queues + 1;
    let config = PortConfig {
        rx_queues: asked,
        ..PortConfig::default()
    };
    assert_eq!(
        start("net_ring_q", config).unwrap_err(),
        PortError::RxQueues {
            device: "net_ring_q".to_owned(),
            asked,
            available: info.max_rx_queues
        }
    );
    for asked in [0, info.max_tx_queues + 1] {
        let config = PortConfig {
            tx_queues: asked,
            ..PortConfig::default()
        };
        let error = start("net_ring_q", config).unwrap_err();
        assert!(
            matches!(error, PortError::TxQueues { asked: named, .. } if named == asked),
            "{error:?}"
        );
    }
    for mtu in [2048, u16::MAX] {
        let config = PortConfig {
            mtu: Some(mtu),
            ..PortConfig::default()
        };
        let error = start("net_null_mtu", config).unwrap_err();
        assert_eq!(
            error,
            PortError::Buffers {
                device: "net_null_mtu".to_owned(),
                mtu,
                data_room: 2048
            }
        );
    }

    // The null driver has several queues, and no hash or MTU of its own.
    let mac = [2, 0, 0, 0, 0, 9];
    let config = PortConfig {
        rx_queues: 2,
        tx_queues: 3,
        mtu: Some(1500),
        mac: Some(mac),
        ..PortConfig::default()
    };
    let (port, rx, tx) = start("net_null_queues", config).unwrap();
    assert!(rx.iter().map(dpdk::RxQueue::number).eq([0, 1]));
    assert!(tx.iter().map(dpdk::TxQueue::number).eq([0, 1, 2]));
    assert_eq!(port.mac_address().unwrap(), mac);
    assert!(port.link().unwrap().up);
    assert_eq!(port.handle().device(), "net_null_queues");
    assert!(
        port.notes()
            .iter()
            .all(|note| !matches!(note, PortNote::Descriptors { .. }))
    );
    let error = port.set_mtu(1).unwrap_err();
    assert_eq!(error.operation, "MTU 1");
    assert!(error.to_string().starts_with("net_null_queues: MTU 1: "));
}

fn the_clock_runs(eal: &Eal) {
    let before = cycles();
    std::thread::sleep(std::time::Duration::from_millis(20));
    let elapsed = cycles() - before;
    let rate = cycles_per_second(eal);
    assert!(
        elapsed >= rate / 60 && elapsed < rate * 10,
        "{elapsed} cycles in 20 ms at {rate} Hz"
    );
}
