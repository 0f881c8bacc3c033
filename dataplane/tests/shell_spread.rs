//! Two workers, one tunnel: its packets arrive on one receive queue, or on two, and both workers
//! process them, each flow in order. Needs root.
//!
//! ```text
//!  peer ──veth── [core  gateway  inner] ──veth── correspondent
//!    one outer address pair, many flows within
//! ```
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "a test")]

mod shell_support;

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use kedge_dataplane_api::model::{Encapsulation, NextHop, PrefixEntry, Tables, Transaction, Tunnel};
use kedge_dataplane_api::proto;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::sockopt::{RcvBufForce, ReceiveTimeout};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt, socket,
};
use nix::sys::time::TimeVal;
use shell_support::namespace::{Namespace, need_root, octets, veth};
use shell_support::{Daemon, block_on, node};

const PEER: &str = "02:00:00:00:00:01";
const CORE: &str = "02:00:00:00:00:02";
const INNER: &str = "02:00:00:00:00:03";
const CORRESPONDENT: &str = "02:00:00:00:00:04";

const FLOWS: u32 = 24;
const EACH: u32 = 500;

fn address(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

fn tables() -> Tables {
    let mut tables = Tables::default();
    tables.local_addresses.insert(address("2001:db8:c::3"));
    let on_link = |port: &str| PrefixEntry {
        next_hop: NextHop::OnLink {
            port: port.to_owned(),
        },
        source: None,
    };
    tables
        .prefixes
        .insert("2001:db8:c::/64".parse().unwrap(), on_link("core"));
    tables
        .prefixes
        .insert("2001:db8:e::/64".parse().unwrap(), on_link("inner"));
    tables
        .neighbours
        .insert(("core".to_owned(), address("2001:db8:c::4")), octets(PEER));
    tables.neighbours.insert(
        ("inner".to_owned(), address("2001:db8:e::2")),
        octets(CORRESPONDENT),
    );
    tables.tunnels.insert(
        1,
        Tunnel {
            encapsulation: Encapsulation::Ipv6InIpv6,
            local: address("2001:db8:c::3"),
            remote: address("2001:db8:c::4"),
            hop_limit: 64,
            mtu: 0,
            encapsulation_limit: None,
            dscp: kedge_dataplane_api::model::Dscp::default(),
        },
    );
    // The prefix that is anchored here; its nodes are where the peer is.
    tables.prefixes.insert(
        "2001:db8:100::/48".parse().unwrap(),
        PrefixEntry {
            next_hop: NextHop::Tunnel(1),
            source: None,
        },
    );
    tables
}

/// A socket for whole frames of one interface.
fn raw(space: &Namespace, interface: &str) -> OwnedFd {
    space.enter(|| {
        let socket = socket(
            AddressFamily::Packet,
            SockType::Raw,
            SockFlag::empty(),
            SockProtocol::EthAll,
        )
        .unwrap();
        let place = getifaddrs()
            .unwrap()
            .find(|it| {
                it.interface_name == interface
                    && it.address.is_some_and(|address| address.as_link_addr().is_some())
            })
            .unwrap();
        bind(socket.as_raw_fd(), place.address.unwrap().as_link_addr().unwrap()).unwrap();
        setsockopt(&socket, RcvBufForce, &(64 << 20)).unwrap();
        setsockopt(&socket, ReceiveTimeout, &TimeVal::new(0, 200_000)).unwrap();
        socket
    })
}

fn ipv6(label: u32, next_header: u8, source: &str, destination: &str, payload: &[u8]) -> Vec<u8> {
    let mut packet = (0x6000_0000 | label).to_be_bytes().to_vec();
    packet.extend_from_slice(&u16::try_from(payload.len()).unwrap().to_be_bytes());
    packet.extend_from_slice(&[next_header, 64]);
    packet.extend_from_slice(&address(source).octets());
    packet.extend_from_slice(&address(destination).octets());
    packet.extend_from_slice(payload);
    packet
}

/// A frame of the tunnel; the outer header is the same for all flows.
fn frame(gateway: &[u8], flow: u32, number: u32) -> Vec<u8> {
    // Its checksum says that there is none: nobody looks.
    let mut udp = vec![0x30, flow as u8, 0, 9, 0, 16, 0, 0];
    udp.extend_from_slice(&flow.to_be_bytes());
    udp.extend_from_slice(&number.to_be_bytes());
    let inner = ipv6(0x100 + flow, 17, "2001:db8:100::1", "2001:db8:e::2", &udp);
    let mut frame = [gateway, &octets(PEER)].concat();
    frame.extend_from_slice(&[0x86, 0xdd]);
    frame.extend_from_slice(&ipv6(0, 41, "2001:db8:c::4", "2001:db8:c::3", &inner));
    frame
}

/// Sends every flow's packets, the flows in turn, and takes what comes out: flow and number.
///
/// No more than `underway` and one of each flow are between the two, which the device has to hold: on
/// a machine that does other things too, a worker may not run for a while.
fn pass_through(gateway: &[u8], sending: &OwnedFd, receiving: &OwnedFd, underway: usize) -> Vec<(u32, u32)> {
    let mut seen = Vec::new();
    let (arrived, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Each processor has a queue of its own for what goes through a veth: a sender that
            // moved from one to another would reorder what it sends.
            core_affinity::set_for_current(core_affinity::CoreId { id: 1 });
            for number in 0..EACH {
                while (FLOWS * number) as usize > arrived.load(Ordering::Relaxed) + underway {
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                    std::thread::sleep(Duration::from_micros(50));
                }
                for flow in 0..FLOWS {
                    let frame = frame(gateway, flow, number);
                    send(sending.as_raw_fd(), &frame, MsgFlags::empty()).unwrap();
                }
            }
        });
        let mut buffer = [0; 2000];
        let (start, mut last) = (Instant::now(), Instant::now());
        while seen.len() < (FLOWS * EACH) as usize
            && last.elapsed() < Duration::from_secs(3)
            && start.elapsed() < Duration::from_secs(30)
        {
            let Ok(length) = recv(receiving.as_raw_fd(), &mut buffer, MsgFlags::empty()) else {
                continue;
            };
            last = Instant::now();
            // Ethernet, IPv6 and UDP headers, then both numbers.
            if length == 14 + 40 + 16 && buffer[20] == 17 && buffer[..6] == octets(CORRESPONDENT) {
                let word = |at: usize| u32::from_be_bytes(buffer[at..at + 4].try_into().unwrap());
                seen.push((word(62), word(66)));
                arrived.store(seen.len(), Ordering::Relaxed);
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    seen
}

/// Runs a gateway whose core port is this device, which holds more than `underway` packets, and gives what each worker says at the end.
fn run(device: &str, underway: usize, redistribute: &str) -> Vec<proto::WorkerStatus> {
    need_root();
    let spaces = ["peer", "gw", "cn"].map(Namespace::new);
    let [peer, gateway, correspondent] = &spaces;
    veth((peer, "eth0", PEER, true), (gateway, "core0", CORE, true));
    veth(
        (gateway, "inner0", INNER, true),
        (correspondent, "eth0", CORRESPONDENT, true),
    );
    let mut daemon = Daemon::start(Some(gateway.name()), |directory| {
        let more = format!("redistribute = \"{redistribute}\"");
        let mut text = node(directory, "spread", "2001:db8:c::3", &more)
            .replace("workers = [0]", "workers = [0, 1]")
            .replace("memory_mib = 64", "memory_mib = 128")
            .replace("packet_buffers = 4096", "packet_buffers = 16384");
        for (name, device) in [
            ("core", device),
            ("inner", "net_af_packet_inner,iface=inner0,qpairs=2"),
        ] {
            text += &format!("[[port]]\nname = \"{name}\"\nside = \"core\"\ndevice = \"{device}\"\n\n");
        }
        text
    });
    let before = block_on(async {
        let client = daemon.client().await;
        client.apply(&Transaction::replacing(&tables())).await.unwrap();
        client.status().await.unwrap()
    });
    let (sending, receiving) = (raw(peer, "eth0"), raw(correspondent, "eth0"));
    let seen = pass_through(
        &before.ports[0].link_layer_address,
        &sending,
        &receiving,
        underway,
    );
    let status = block_on(async { daemon.client().await.status().await.unwrap() });

    let mut next: BTreeMap<u32, u32> = BTreeMap::new();
    for (flow, number) in &seen {
        let next = next.entry(*flow).or_default();
        assert!(number >= next, "flow {flow}: {number} came after {next}");
        *next = number + 1;
    }
    let drops: Vec<_> = status.drops.iter().filter(|drop| drop.packets > 0).collect();
    assert_eq!(
        seen.len(),
        (FLOWS * EACH) as usize,
        "{drops:?} {:?} {:?}",
        status.workers,
        status.ports
    );
    let decapsulated = status
        .tunnels
        .iter()
        .map(|tunnel| tunnel.decapsulated_packets)
        .sum::<u64>();
    assert_eq!(decapsulated, u64::from(FLOWS * EACH));
    assert_eq!(daemon.terminate(), Some(0), "{}", daemon.log());
    for worker in &status.workers {
        println!(
            "{device} {redistribute}: worker {} rx {} handed over {} taken over {} tx {}",
            worker.index,
            worker.rx_packets,
            worker.handed_over_packets,
            worker.taken_over_packets,
            worker.tx_packets
        );
    }
    status.workers
}

/// One receive queue for two workers: the first receives, both process. It holds 32 packets.
const ONE_QUEUE: &str = "net_pcap_core,rx_iface_in=core0,tx_iface=core0,tx_iface=core0";
/// A queue for each worker, of 512 packets.
const TWO_QUEUES: &str = "net_af_packet_core,iface=core0,qpairs=2";

#[test]
fn a_tunnel_on_one_queue_is_two_workers_work() {
    let [first, second] = &run(ONE_QUEUE, 0, "auto")[..] else {
        panic!("two workers were to run")
    };
    let all = u64::from(FLOWS * EACH);
    assert_eq!(second.rx_packets, 0);
    assert_eq!(first.handed_over_packets, second.taken_over_packets);
    assert_eq!((first.taken_over_packets, second.handed_over_packets), (0, 0));
    // Each of the flows is one's or the other's.
    for worker in [first, second] {
        assert!(worker.tx_packets > 0, "{worker:?}");
        assert_eq!(worker.tx_packets % u64::from(EACH), 0, "{worker:?}");
    }
    assert_eq!(first.tx_packets + second.tx_packets, all);
    assert_eq!(second.tx_packets, second.taken_over_packets);
}

#[test]
fn without_redistribution_it_is_one_workers() {
    let [first, second] = &run(ONE_QUEUE, 0, "never")[..] else {
        panic!("two workers were to run")
    };
    assert_eq!(first.tx_packets, u64::from(FLOWS * EACH));
    assert_eq!((first.handed_over_packets, second.tx_packets), (0, 0));
}

/// Linux spreads by the flows within, so each worker receives some of the other's.
#[test]
fn both_workers_receive_and_hand_over() {
    for worker in run(TWO_QUEUES, 256, "always") {
        assert!(
            worker.rx_packets > 0 && worker.handed_over_packets > 0 && worker.taken_over_packets > 0,
            "{worker:?}"
        );
    }
    for worker in run(TWO_QUEUES, 256, "auto") {
        assert!(
            worker.rx_packets > 0 && worker.tx_packets > 0 && worker.handed_over_packets == 0,
            "{worker:?}"
        );
    }
}
