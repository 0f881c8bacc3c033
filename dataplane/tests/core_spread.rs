//! Which worker a tunnelled packet goes to, and that no flow is reordered on the way.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod core_support;

use std::collections::{BTreeMap, VecDeque};

use arrayvec::ArrayVec;
use core_support::*;
use kedge_dataplane::frame::{Frame, HeapFrame};
use kedge_dataplane::pipeline::BURST;
use kedge_dataplane::snapshot::Snapshot;
use kedge_dataplane::spread::{Spreader, flow_hash};
use proptest::prelude::*;

const WORKERS: usize = 4;
const UDP: u8 = 17;
const TCP: u8 = 6;
const FRAGMENT: u8 = 44;

fn labelled(mut packet: Vec<u8>, label: u32) -> Vec<u8> {
    let [_, high, middle, low] = label.to_be_bytes();
    (packet[1], packet[2], packet[3]) = (packet[1] & 0xf0 | high, middle, low);
    packet
}

/// The worker that a frame goes to from worker `from`.
fn owner(snapshot: &Snapshot, from: usize, port: usize, frame: &[u8]) -> usize {
    let mut burst: ArrayVec<HeapFrame, BURST> = std::iter::once(HeapFrame::new(frame)).collect();
    let mut owner = from;
    Spreader::new(from, WORKERS, 7).split(snapshot, port, &mut burst, |worker, given| {
        assert_ne!(worker, from);
        assert_eq!(given.bytes(), frame, "as it came in");
        owner = worker;
    });
    assert_eq!(burst.len(), usize::from(owner == from));
    owner
}

/// The worker of a tunnelled packet, the same whichever worker receives it.
fn of(snapshot: &Snapshot, packet: &[u8]) -> usize {
    let frame = ethernet(CORE_MAC, ROUTER_MAC, packet);
    let first = owner(snapshot, 0, CORE, &frame);
    for from in 1..WORKERS {
        assert_eq!(owner(snapshot, from, CORE, &frame), first);
    }
    first
}

/// An inner packet of flow number `flow`.
fn inner(flow: u16) -> Vec<u8> {
    labelled(udp(ANCHORED, REMOTE, 64), 0x1000 + u32::from(flow))
}

#[test]
fn the_flows_of_one_tunnel_are_shared_out_evenly() {
    let snapshot = snapshot();
    let mut counts = [0u32; WORKERS];
    for flow in 0..4000 {
        counts[of(&snapshot, &tunnelled(PEER, OWN, &inner(flow)))] += 1;
    }
    for count in counts {
        assert!((900..1100).contains(&count), "{counts:?}");
    }
    // By their nodes alone, too, with neither label nor ports to tell.
    let mut counts = [0u32; WORKERS];
    for node in 1..4001 {
        let inner = udp(&format!("2001:db8:100:{node:x}::1"), REMOTE, 64);
        counts[of(&snapshot, &tunnelled(PEER, OWN, &inner))] += 1;
    }
    for count in counts {
        assert!((900..1100).contains(&count), "{counts:?}");
    }
}

#[test]
fn a_g_pdu_goes_where_what_it_carries_would_go() {
    let snapshot = snapshot();
    for flow in 0..100 {
        let expected = of(&snapshot, &tunnelled(PEER, OWN, &inner(flow)));
        let packet = g_pdu(PEER, OWN, LOCAL_TEID, &inner(flow));
        assert_eq!(of(&snapshot, &packet), expected);
    }
    // Messages about paths stay.
    let echo = gtpu(PEER, OWN, &[0x32, 1, 0, 4, 0, 0, 0, 0, 0, 1, 0, 0]);
    for from in 0..WORKERS {
        let frame = ethernet(CORE_MAC, ROUTER_MAC, &echo);
        assert_eq!(owner(&snapshot, from, CORE, &frame), from);
    }
}

#[test]
fn what_is_not_tunnelled_to_this_node_stays_where_it_came_in() {
    let snapshot = snapshot();
    let packets = [
        udp(REMOTE, NODE, 64),
        udp(REMOTE, OWN, 64),
        // Somebody else's tunnel, on its way through.
        tunnelled(PEER, NODE, &inner(1)),
        bad_options(OWN),
        // A fragment of what is in no tunnel. Those of tunnelled packets are in core_fragments.
        ipv6(
            PEER,
            OWN,
            FRAGMENT,
            64,
            &[&[135, 0, 0, 8, 0, 0, 0, 1], &inner(1)[..]].concat(),
        ),
        // No IP within.
        tunnelled(PEER, OWN, &[0x55; 40]),
        tunnelled(PEER, OWN, &inner(1)[..39]),
    ];
    for packet in packets {
        for from in 0..WORKERS {
            let frame = ethernet(CORE_MAC, ROUTER_MAC, &packet);
            assert_eq!(owner(&snapshot, from, CORE, &frame), from, "{packet:02x?}");
        }
    }
}

#[test]
fn options_and_tags_in_front_change_nothing() {
    let snapshot = snapshot();
    for flow in 0..100 {
        let packet = tunnelled(PEER, OWN, &inner(flow));
        let expected = of(&snapshot, &packet);
        assert_eq!(of(&snapshot, &with_options(&packet)), expected);
        let mut tagged = [&CORE_MAC[..], &ROUTER_MAC[..], &[0x81, 0, 0, 100, 0x86, 0xdd]].concat();
        tagged.extend_from_slice(&packet);
        assert_eq!(owner(&snapshot, 0, TAGGED, &tagged), expected);
        // Neither do the tunnel's ends, and what of the inner packet changes underway.
        let mut late = inner(flow);
        late[7] = 3;
        late[1] |= 0x30;
        assert_eq!(of(&snapshot, &tunnelled(PEER, OTHER_OWN, &late)), expected);
    }
}

#[test]
fn a_datagram_and_its_fragments_are_one_flow() {
    let snapshot = snapshot();
    for node in 1..200 {
        let node = format!("2001:db8:100:{node:x}::1");
        for label in [0, 0x54321] {
            let whole = labelled(
                ipv6(&node, REMOTE, UDP, 64, &[0x30, 0x39, 0, 9, 0, 8, 0, 0]),
                label,
            );
            let expected = of(&snapshot, &tunnelled(PEER, OWN, &whole));
            for (offset, more) in [(0u16, 1), (8, 1), (16, 0)] {
                let [high, low] = (offset << 3 | more).to_be_bytes();
                let payload = [&[UDP, 0, high, low, 1, 2, 3, 4][..], &[offset as u8 ^ 0x5a; 64]].concat();
                let fragment = labelled(ipv6(&node, REMOTE, FRAGMENT, 64, &payload), label);
                assert_eq!(of(&snapshot, &tunnelled(PEER, OWN, &fragment)), expected);
            }
        }
    }
}

#[test]
fn ports_tell_flows_apart_only_for_tcp_without_a_label() {
    let hash = |next_header, label, port: u8| {
        let packet = ipv6(NODE, REMOTE, next_header, 64, &[port; 20]);
        flow_hash(&labelled(packet, label), 7).unwrap()
    };
    assert_ne!(hash(TCP, 0, 1), hash(TCP, 0, 2));
    assert_eq!(hash(TCP, 5, 1), hash(TCP, 5, 2));
    assert_eq!(hash(UDP, 0, 1), hash(UDP, 0, 2));
    assert_ne!(hash(UDP, 5, 1), hash(UDP, 6, 1));
    assert_ne!(
        flow_hash(&inner(1), 7),
        flow_hash(&inner(1), 8),
        "another seed, another choice"
    );
}

/// Workers, their receive queues and the rings between them, without threads: each step is one round
/// of one worker, as the loop makes it.
struct Workers {
    snapshot: Snapshot,
    spreaders: Vec<Spreader>,
    queues: Vec<VecDeque<HeapFrame>>,
    /// By receiving worker, then by sending one.
    rings: Vec<Vec<VecDeque<HeapFrame>>>,
    /// What each worker has processed: flow and number.
    processed: Vec<Vec<(u16, u32)>>,
}

#[test]
fn flows_of_ipv4_are_shared_out_too_and_their_fragments_stay_together() {
    let snapshot = snapshot();
    let packet = |protocol, host: u8, port: u8, word: [u8; 2]| {
        let to = format!("198.51.100.{host}");
        let packet = ipv4("203.0.113.1", &to, protocol, &[], &[0, 80, 0, port, 0, 0, 0, 0]);
        ipv4_changed(&packet, 6, &word)
    };
    // By addresses, whatever the tunnel.
    let mut counts = [0u32; WORKERS];
    for host in 0..=255 {
        let inner = packet(UDP, host, 9, [0, 0]);
        let worker = of(&snapshot, &ipv6(PEER, OWN, 4, 64, &inner));
        assert_eq!(of(&snapshot, &g_pdu(PEER, OWN, LOCAL_TEID, &inner)), worker);
        assert_eq!(of(&snapshot, &gre(PEER, OWN, &[0, 0, 8, 0], &inner)), worker);
        counts[worker] += 1;
    }
    assert!(counts.iter().all(|count| (32..=96).contains(count)), "{counts:?}");
    // By nothing else that may differ within a flow: whether it is a fragment or may become one, what it is a fragment of,
    // lengths, marks, options, hops, and what is in a fragment instead of ports.
    for protocol in [TCP, UDP, 47] {
        let whole = packet(protocol, 1, 9, [0, 0]);
        let hash = flow_hash(&whole, 7);
        for at in (1..9).chain(10..12).chain(20..whole.len()) {
            for bit in 0..8 {
                let mut other = whole.clone();
                other[at] ^= 1 << bit;
                assert_eq!(flow_hash(&other, 7), hash, "octet {at}");
            }
        }
        let options = ipv4("203.0.113.1", "198.51.100.1", protocol, &[148, 4, 0, 0], &[0; 8]);
        assert_eq!(flow_hash(&options, 7), hash);
        for at in (12..20).chain([9]) {
            let mut other = whole.clone();
            other[at] ^= 1;
            assert_ne!(flow_hash(&other, 7), hash, "octet {at}");
        }
    }
    assert_eq!(flow_hash(&packet(UDP, 1, 9, [0, 0])[..19], 7), None);
}

#[test]
fn all_fragments_of_a_g_pdu_over_ipv4_are_one_workers() {
    let snapshot = snapshot();
    let mut seen = [0; WORKERS];
    for host in 0..=255 {
        let peer = format!("198.51.100.{host}");
        let whole = g_pdu4(&peer, OWN4, IPV4_LOCAL_TEID, &udp(REMOTE, IPV4_OLD, 64));
        let first = of(&snapshot, &ipv4_changed(&whole, 6, &[0x20, 0]));
        seen[first] += 1;
        for (word, number) in [([0x20, 3], 7), ([0, 60], 7), ([0x20, 0], 8)] {
            let content = ipv4(&peer, OWN4, UDP, &[], &[number; 40]);
            assert_eq!(of(&snapshot, &ipv4_changed(&content, 6, &word)), first);
        }
    }
    assert!(seen.iter().all(|count| (32..=96).contains(count)), "{seen:?}");
}

fn mark(frame: &HeapFrame) -> (u16, u32) {
    let bytes = frame.bytes();
    let octet = |at: usize| u32::from(bytes[at]);
    let label = octet(14 + 40 + 1) << 16 | octet(14 + 40 + 2) << 8 | octet(14 + 40 + 3);
    let number = u32::from_be_bytes(*bytes.last_chunk().unwrap());
    ((label & 0xfffff) as u16 - 0x1000, number)
}

impl Workers {
    fn round(&mut self, worker: usize, size: usize) {
        for ring in &mut self.rings[worker] {
            let taken = ring.drain(..size.min(ring.len()));
            self.processed[worker].extend(taken.map(|frame| mark(&frame)));
        }
        let queue = &mut self.queues[worker];
        let mut burst: ArrayVec<HeapFrame, BURST> = queue.drain(..size.min(queue.len())).collect();
        let rings = &mut self.rings;
        self.spreaders[worker].split(&self.snapshot, CORE, &mut burst, |to, frame| {
            rings[to][worker].push_back(frame);
        });
        self.processed[worker].extend(burst.iter().map(mark));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Flows arrive each on one queue, several queues have some, workers run in any order and take
    /// bursts of any size: every packet is processed once, each flow by one worker and in order.
    #[test]
    fn no_flow_is_reordered(
        arrivals in prop::collection::vec(0u16..40, 0..600),
        queue_of in prop::collection::vec(0..WORKERS, 40),
        rounds in prop::collection::vec((0..WORKERS, 1..=BURST), 0..120),
        seed in any::<u64>(),
    ) {
        let mut workers = Workers {
            snapshot: snapshot(),
            spreaders: (0..WORKERS).map(|worker| Spreader::new(worker, WORKERS, seed)).collect(),
            queues: vec![VecDeque::new(); WORKERS],
            rings: vec![vec![VecDeque::new(); WORKERS]; WORKERS],
            processed: vec![Vec::new(); WORKERS],
        };
        let mut sent: BTreeMap<u16, u32> = BTreeMap::new();
        for flow in &arrivals {
            let next = sent.entry(*flow).or_default();
            let mut packet = inner(*flow);
            let end = packet.len() - 4;
            packet[end..].copy_from_slice(&next.to_be_bytes());
            *next += 1;
            let frame = ethernet(CORE_MAC, ROUTER_MAC, &tunnelled(PEER, OWN, &packet));
            workers.queues[queue_of[usize::from(*flow)]].push_back(HeapFrame::new(&frame));
        }
        for (worker, size) in rounds {
            workers.round(worker, size);
        }
        // Whatever is left, in the order of the workers; what the last ones hand over, once more.
        for worker in (0..WORKERS).chain(0..WORKERS) {
            while workers.queues[worker].len() + workers.rings[worker].iter().map(VecDeque::len).sum::<usize>() > 0 {
                workers.round(worker, BURST);
            }
        }
        let mut seen: BTreeMap<u16, (usize, u32)> = BTreeMap::new();
        for (worker, processed) in workers.processed.iter().enumerate() {
            for (flow, number) in processed {
                let (by, next) = seen.entry(*flow).or_insert((worker, 0));
                prop_assert_eq!((*by, *next), (worker, *number), "flow {}", flow);
                *next += 1;
            }
        }
        let seen: BTreeMap<u16, u32> = seen.into_iter().map(|(flow, (_, count))| (flow, count)).collect();
        prop_assert_eq!(seen, sent);
    }

    /// No octets make it fail, and it neither loses nor makes frames.
    #[test]
    fn any_frames_are_all_still_there(frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..=BURST)) {
        let snapshot = snapshot();
        let mut burst: ArrayVec<HeapFrame, BURST> = frames.iter().map(|frame| HeapFrame::new(frame)).collect();
        let mut given = 0;
        Spreader::new(1, WORKERS, 7).split(&snapshot, CORE, &mut burst, |_, _| given += 1);
        prop_assert_eq!(burst.len() + given, frames.len());
    }
}
