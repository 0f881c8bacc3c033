//! IPv4 carried in tunnels of every type: in, out, between two, cut, refused, and what its senders are told.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod core_support;
#[path = "core_support/moving.rs"]
mod moving;

use std::net::Ipv4Addr;

use arrayvec::ArrayVec;
use core_support::*;
use kedge_dataplane::counters::Stage;
use kedge_dataplane::drops::DropReason;
use kedge_dataplane::frame::{Frame, HeapFrame};
use kedge_dataplane::pipeline::{BURST, Output};
use kedge_dataplane::reassembly;
use kedge_dataplane::stage::checksum::Sum;
use kedge_dataplane_api::Transaction;
use kedge_dataplane_api::model::{
    Filter, FilterAction, Meter, MeterRates, NextHop, PortRange, PrefixEntry, Selector, Yellow,
};

/// Octets in front of an inner packet, by tunnel; the second takes 1,260 octets, whatever the path.
const OVERHEADS: [usize; 6] = [40, 40, 56, 36, 48, 44];

/// A UDP packet.
fn udp4(source: &str, destination: &str) -> Vec<u8> {
    let payload = [0x30, 0x39, 0, 9, 0, 12, 0, 0, b'k', b'e', b'd', b'g'];
    ipv4(source, destination, 17, &[], &payload)
}

/// One of so many octets, which may be cut or not.
fn sized4(source: &str, destination: &str, length: usize, dont_fragment: bool) -> Vec<u8> {
    let payload: Vec<u8> = (0..length - 20).map(|at| (at * 5 / 3) as u8).collect();
    let packet = ipv4(source, destination, 17, &[], &payload);
    ipv4_changed(&packet, 6, &[if dont_fragment { 0x40 } else { 0 }])
}

/// After one hop.
fn hop4(packet: &[u8]) -> Vec<u8> {
    ipv4_changed(packet, 8, &[packet[8] - 1])
}

/// As the peer of tunnel `tunnel` sends it, 1 to 6: a frame.
fn from_peer(tunnel: usize, inner: &[u8]) -> Vec<u8> {
    let gre_header = |key: Option<u32>| match key {
        Some(key) => [&[0x20, 0, 8, 0][..], &key.to_be_bytes()].concat(),
        None => vec![0, 0, 8, 0],
    };
    let packet = match tunnel {
        1 => ipv6(PEER, OWN, 4, 64, inner),
        2 => ipv6(NARROW_PEER, OWN, 4, 64, inner),
        3 => g_pdu(PEER, OWN, LOCAL_TEID, inner),
        4 => return to_core4(&g_pdu4(PEER4, OWN4, IPV4_LOCAL_TEID, inner)),
        5 => gre(PEER, OWN, &gre_header(Some(LOCAL_KEY)), inner),
        _ => gre(PEER, OWN, &gre_header(None), inner),
    };
    ethernet(CORE_MAC, ROUTER_MAC, &packet)
}

fn to_core4(packet: &[u8]) -> Vec<u8> {
    ethernet4(CORE_MAC, ROUTER_MAC, packet)
}

/// The frame in which a packet goes to the router.
fn to_router4(packet: &[u8]) -> Vec<u8> {
    ethernet4(ROUTER_MAC, CORE_MAC, packet)
}

/// What is inside of a frame that went into tunnel `tunnel`, whose outer headers are looked at; with the outer ECN bits.
fn inside(tunnel: usize, frame: &[u8]) -> (Vec<u8>, u8) {
    let overhead = OVERHEADS[tunnel - 1];
    let (outer, inner) = frame[14..].split_at(overhead);
    if tunnel == 4 {
        assert_eq!(frame[..14], to_router4(&[])[..]);
        assert!(Sum::default().octets(&outer[..20]).is_right());
        assert_eq!((outer[9], &outer[6..8]), (17, &[0x40, 0][..]));
        assert_eq!(outer[22..24], 2152u16.to_be_bytes());
        return (inner.to_vec(), outer[1] & 3);
    }
    assert_eq!(frame[..14], ethernet(ROUTER_MAC, CORE_MAC, &[])[..]);
    let remote = if tunnel == 2 { NARROW_PEER } else { PEER };
    assert_eq!(
        (&outer[8..24], &outer[24..40]),
        (&octets(OWN)[..], &octets(remote)[..])
    );
    let length = usize::from(u16::from_be_bytes([outer[4], outer[5]]));
    assert_eq!(length, overhead - 40 + inner.len());
    assert_ne!(u32::from_be_bytes(outer[..4].try_into().unwrap()) & 0xf_ffff, 0);
    match tunnel {
        1 | 2 => assert_eq!(outer[6], 4),
        3 => {
            assert_eq!((outer[6], &outer[48..50]), (17, &[0x30, 255][..]));
            assert_eq!(outer[52..56], REMOTE_TEID.to_be_bytes());
            let sum = Sum::default().octets(&frame[22..]).number(length as u64 + 17);
            assert!(sum.is_right());
        }
        5 => assert_eq!(
            outer[40..],
            [&[0x20, 0, 8, 0][..], &REMOTE_KEY.to_be_bytes()].concat()
        ),
        _ => assert_eq!(outer[40..], [0, 0, 8, 0]),
    }
    (inner.to_vec(), outer[1] >> 4 & 3)
}

/// An ICMPv4 error that went out plainly or into a tunnel: its type, code, MTU, and what it quotes.
fn told4(packet: &[u8], to: &str) -> ([u8; 2], u16, Vec<u8>) {
    assert!(packet.len() <= 576);
    assert_eq!((packet[0], packet[1], packet[9]), (0x45, 0xc0, 1));
    assert_eq!(packet[12..16], [192, 0, 2, 1], "the gateway's own IPv4 address");
    assert_eq!(packet[16..20], to.parse::<Ipv4Addr>().unwrap().octets());
    assert!(Sum::default().octets(&packet[..20]).is_right());
    assert!(Sum::default().octets(&packet[20..]).is_right());
    let mtu = u16::from_be_bytes([packet[26], packet[27]]);
    ([packet[20], packet[21]], mtu, packet[28..].to_vec())
}

#[test]
fn what_comes_from_the_core_goes_into_the_tunnel_of_its_prefix() {
    let mut gateway = Gateway::carrying_ipv4();
    for (tunnel, to) in (1..).zip(CARRIED) {
        for (length, options) in [(0, &[][..]), (7, &[148, 4, 0, 0][..])] {
            let packet = ipv4(REMOTE4, to, 6, options, &vec![7; 20 + length]);
            let packet = ipv4_changed(&packet, 1, &[0b1011_1011]);
            let out = gateway.frame(CORE, &to_core4(&packet));
            let [(CORE, frame)] = &out.transmit[..] else {
                panic!("{tunnel}: {out:?}")
            };
            let (inner, ecn) = inside(tunnel, frame);
            assert_eq!(inner, hop4(&packet));
            assert_eq!(ecn, 0b11, "congestion goes outside (RFC 6040), DSCP does not");
        }
    }
    assert_eq!(gateway.pipeline.counters.stages(Stage::Encapsulated), 12);
    // It is counted for its prefix.
    let passed = |address: &str| {
        let route = gateway
            .snapshot
            .routes
            .get(gateway.snapshot.fib.lookup(mapped(address).into()));
        gateway.snapshot.passing_traffic.read(route.counter())
    };
    assert_eq!(
        (passed(CARRIED[0]).to_packets, passed(CARRIED[0]).to_bytes),
        (2, 40 + 51)
    );
    // Ports tell flows apart outside, as they do of IPv6.
    let mut label = |port| {
        let packet = ipv4(REMOTE4, CARRIED[0], 17, &[], &[0, port, 0, 9, 0, 8, 0, 0]);
        gateway.frame(CORE, &to_core4(&packet)).transmit[0].1[15..18].to_vec()
    };
    assert_eq!(label(1), label(1));
    assert_ne!(label(1), label(2));
}

#[test]
fn what_comes_out_of_a_tunnel_goes_to_a_router_of_ipv4_or_into_another_tunnel() {
    for (tunnel, from) in (1..).zip(CARRIED) {
        let mut gateway = Gateway::carrying_ipv4();
        let packet = udp4(from, REMOTE4);
        let out = gateway.frame(CORE, &from_peer(tunnel, &packet));
        assert_eq!(
            out.transmit,
            [(CORE, to_router4(&hop4(&packet)))],
            "{tunnel}: {out:?}"
        );
        let route = gateway
            .snapshot
            .routes
            .get(gateway.snapshot.fib.lookup(mapped(from).into()));
        let passed = gateway.snapshot.passing_traffic.read(route.counter());
        assert_eq!((passed.from_packets, passed.from_bytes), (1, 32));
        // To a node behind another tunnel, or the same.
        for (other, to) in (1..).zip(CARRIED) {
            let packet = udp4(from, to);
            let out = gateway.frame(CORE, &from_peer(tunnel, &packet));
            let [(CORE, frame)] = &out.transmit[..] else {
                panic!("{tunnel} to {other}: {out:?}")
            };
            assert_eq!(inside(other, frame).0, hop4(&packet));
        }
        assert_eq!(gateway.pipeline.counters.stages(Stage::Decapsulated), 7);
        assert_eq!(gateway.pipeline.counters.stages(Stage::Routed), 1);
    }
}

#[test]
fn behind_extension_headers_and_in_outer_fragments_it_is_found_too() {
    let mut gateway = Gateway::carrying_ipv4();
    let packet = udp4(CARRIED[0], REMOTE4);
    let options = [&[4, 0, 4, 1, 4, 1, 1, 0][..], &packet].concat();
    let out = gateway.one(CORE, &ipv6(PEER, OWN, 60, 64, &options));
    assert_eq!(out.transmit, [(CORE, to_router4(&hop4(&packet)))]);
    // Fragments of the outer packet.
    let packet = sized4(CARRIED[0], REMOTE4, 1400, true);
    let mut output: Output<HeapFrame> = Output::default().reassembling(reassembly::Bounds {
        fragments: 8,
        cycles_per_second: CYCLES,
        seed: 1,
    });
    for (header, part) in [([4, 0, 0, 1], &packet[..800]), ([4, 0, 3, 32], &packet[800..])] {
        let payload = [&header[..], &[0, 0, 0, 9], part].concat();
        let frame = ethernet(CORE_MAC, ROUTER_MAC, &ipv6(PEER, OWN, 44, 64, &payload));
        let mut burst: ArrayVec<HeapFrame, BURST> = ArrayVec::new();
        burst.push(HeapFrame::new(&frame));
        gateway
            .pipeline
            .process(&gateway.snapshot, CORE, 1, &mut burst, &mut output);
    }
    let sent: Vec<_> = output.transmit[CORE]
        .iter()
        .map(|it| it.bytes().to_vec())
        .collect();
    assert_eq!(sent, [to_router4(&hop4(&packet))]);
}

#[test]
fn a_node_between_two_gateways_is_passed_on_both_ways() {
    let mut gateway = Gateway::carrying_ipv4();
    let packet = udp4(CARRIED_BETWEEN, REMOTE4);
    let out = gateway.frame(CORE, &from_peer(3, &packet));
    assert_eq!(inside(1, &out.transmit[0].1).0, hop4(&packet));
    let packet = udp4(REMOTE4, CARRIED_BETWEEN);
    let out = gateway.frame(CORE, &from_peer(1, &packet));
    assert_eq!(inside(3, &out.transmit[0].1).0, hop4(&packet));
}

#[test]
fn congestion_marks_come_in_and_the_checksum_stays_right() {
    let mark = |ecn: u8, outer: u8| {
        let packet = ipv4_changed(&udp4(CARRIED[0], REMOTE4), 1, &[0xb8 | ecn]);
        let mut frame = from_peer(1, &packet);
        frame[15] = outer << 4;
        let out = Gateway::carrying_ipv4().frame(CORE, &frame);
        match &out.transmit[..] {
            [(CORE, sent)] => {
                assert!(Sum::default().octets(&sent[14..34]).is_right());
                Ok(sent[15])
            }
            _ => Err(out.drops),
        }
    };
    assert_eq!(mark(0b10, 0b11), Ok(0xbb));
    assert_eq!(mark(0b10, 0b01), Ok(0xb9));
    assert_eq!(mark(0b10, 0b00), Ok(0xba));
    assert_eq!(
        mark(0b00, 0b11),
        Err(vec![(DropReason::TunnelCongestionExperienced, 1)])
    );
}

#[test]
fn what_does_not_fit_and_may_be_cut_goes_in_fragments() {
    let mut gateway = Gateway::carrying_ipv4();
    for (tunnel, to) in (1..).zip(CARRIED) {
        let room = if tunnel == 2 {
            1260
        } else {
            1500 - OVERHEADS[tunnel - 1]
        };
        let whole = sized4(REMOTE4, to, room, false);
        assert_eq!(
            gateway.frame(CORE, &to_core4(&whole)).transmit.len(),
            1,
            "{tunnel}"
        );
        let packet = sized4(REMOTE4, to, 1500, false);
        let before = gateway.pipeline.counters.stages(Stage::Encapsulated);
        let out = gateway.frame(CORE, &to_core4(&packet));
        assert_eq!(out.drops, [], "{tunnel}");
        let mut payload = Vec::new();
        for (at, (_, frame)) in out.transmit.iter().enumerate() {
            assert!(frame.len() <= 14 + 1500);
            let (inner, _) = inside(tunnel, frame);
            assert!(inner.len() <= room);
            assert!(Sum::default().octets(&inner[..20]).is_right());
            let word = u16::from_be_bytes([inner[6], inner[7]]);
            let more = if at == 0 { 0x2000 } else { 0 };
            assert_eq!(word, more | (payload.len() / 8) as u16);
            assert_eq!((inner[8], &inner[4..6]), (60, &[0x12, 0x34][..]));
            payload.extend_from_slice(&inner[20..]);
        }
        assert_eq!(payload, packet[20..]);
        assert_eq!(gateway.pipeline.counters.stages(Stage::Encapsulated), before + 2);
    }
    assert_eq!(gateway.pipeline.counters.stages(Stage::Fragmented), 6);
    // A fragment is carried as it is, and cut again.
    let packet = ipv4_changed(&sized4(REMOTE4, CARRIED[1], 1300, false), 6, &[0x20, 100]);
    let out = gateway.frame(CORE, &to_core4(&packet));
    let words: Vec<_> = out
        .transmit
        .iter()
        .map(|it| inside(2, &it.1).0[6..8].to_vec())
        .collect();
    assert_eq!(words, [vec![0x20, 100], vec![0x20, 100 + 155]]);
    // Out of a port that takes less.
    let mut ports = ports();
    ports[CORE].mtu = 600;
    gateway.snapshot.ports = ports.into();
    let packet = sized4(CARRIED[0], REMOTE4, 1400, false);
    let out = gateway.frame(CORE, &from_peer(1, &packet));
    assert_eq!(
        out.transmit.iter().map(|it| it.1.len() - 14).collect::<Vec<_>>(),
        [596, 596, 248]
    );
    // In a tunnel that has no room for eight octets.
    let entry = gateway.compiler.tables().tunnels[&2].clone();
    gateway.apply(&Transaction {
        put_tunnels: vec![(2, kedge_dataplane_api::model::Tunnel { mtu: 27, ..entry })],
        ..Transaction::default()
    });
    let out = gateway.frame(CORE, &to_core4(&sized4(REMOTE4, CARRIED[1], 60, false)));
    assert_eq!(out.drops, [(DropReason::TunnelMtuTooSmall, 1)]);
}

#[test]
fn a_neighbour_that_says_it_has_a_nodes_address_does_not_get_its_packets() {
    let mut gateway = Gateway::carrying_ipv4();
    let of_nodes = [CARRIED[0].parse::<Ipv4Addr>().unwrap().to_ipv6_mapped()];
    let of_nodes = of_nodes
        .into_iter()
        .chain([ANCHORED, NODE].map(|it| it.parse().unwrap()));
    gateway.apply(&Transaction {
        put_neighbours: of_nodes
            .map(|it| (("core".to_owned(), it), NEIGHBOUR_MAC))
            .collect(),
        ..Transaction::default()
    });
    let packet = udp4(REMOTE4, CARRIED[0]);
    let out = gateway.frame(CORE, &to_core4(&packet));
    assert_eq!(inside(1, &out.transmit[0].1).0, hop4(&packet));
    let packet = udp(REMOTE, ANCHORED, 64);
    let out = gateway.one(CORE, &packet);
    assert_eq!(out.transmit[0].1[14 + 40..], hop(&packet)[..]);
    let packet = udp(REMOTE, NODE, 64);
    let out = gateway.one(CORE, &packet);
    assert_eq!(
        out.transmit,
        [(ACCESS, ethernet(NODE_MAC, ACCESS_MAC, &hop(&packet)))]
    );
}

/// A whole burst of one packet: what goes out by the core port.
fn burst_of(gateway: &mut Gateway, packet: &[u8]) -> Vec<Vec<u8>> {
    let mut output: Box<Output<HeapFrame>> = Box::default();
    let mut burst: ArrayVec<HeapFrame, BURST> =
        std::iter::repeat_n(HeapFrame::new(&to_core4(packet)), BURST).collect();
    gateway
        .pipeline
        .process(&gateway.snapshot, CORE, 0, &mut burst, &mut output);
    let frames = output.transmit[CORE].iter();
    frames.map(|frame| frame.bytes().to_vec()).collect()
}

#[test]
fn a_burst_that_is_cut_into_as_many_fragments_as_may_be_is_not_lost() {
    let mut gateway = Gateway::carrying_ipv4();
    let path = (PEER.parse().unwrap(), 1280, std::time::Instant::now());
    gateway.snapshot = gateway.compiler.learn_path_mtu(path.0, path.1, path.2).unwrap();
    // What a jumbo port brings, with the longest header there is, all of which goes into each fragment.
    let options = [&[148, 40][..], &[0; 38]].concat();
    for (options, length, each) in [(&options[..], 9600, 9), (&[][..], 9600, 8), (&[][..], 2500, 3)] {
        let payload: Vec<u8> = (0..length - 20 - options.len())
            .map(|at| (at * 5 / 3) as u8)
            .collect();
        let packet = ipv4(REMOTE4, CARRIED[2], 17, options, &payload);
        let frames = burst_of(&mut gateway, &packet);
        assert_eq!(gateway.drops(DropReason::OutputFull), 0);
        assert_eq!(frames.len(), each * BURST);
        for fragments in frames.chunks(each) {
            let inner = fragments.iter().map(|frame| inside(3, frame).0);
            let joined: Vec<u8> = inner.flat_map(|it| it[20 + options.len()..].to_vec()).collect();
            assert_eq!(joined, payload);
        }
    }
    assert!(DropReason::ALL.iter().all(|reason| gateway.drops(*reason) == 0));
    // A tunnel that is made to take so little that it would be more: all of a packet goes, or nothing.
    let entry = gateway.compiler.tables().tunnels[&3].clone();
    gateway.apply(&Transaction {
        put_tunnels: vec![(3, kedge_dataplane_api::model::Tunnel { mtu: 600, ..entry })],
        ..Transaction::default()
    });
    let frames = burst_of(&mut gateway, &sized4(REMOTE4, CARRIED[2], 1500, false));
    assert_eq!(frames.len(), 3 * BURST);
    let frames = burst_of(&mut gateway, &sized4(REMOTE4, CARRIED[2], 9600, false));
    assert_eq!(frames.len(), 0);
    assert_eq!(gateway.drops(DropReason::TunnelMtuTooSmall), BURST as u64);
}

/// Who makes up the MTU of a path over IPv4 makes packets smaller, and stops none, not the largest either.
#[test]
fn on_a_path_that_somebody_says_is_narrow_the_largest_is_cut_too() {
    let mut gateway = Gateway::carrying_ipv4();
    let peer = PEER4.parse::<Ipv4Addr>().unwrap().to_ipv6_mapped();
    let heard = gateway
        .compiler
        .learn_unproven_path_mtu(peer, 620, std::time::Instant::now());
    gateway.snapshot = heard.unwrap();
    for (length, each, most) in [(1500, 3, 620), (5000, 9, 620), (6000, 5, 1324), (9600, 8, 1324)] {
        let out = gateway.frame(CORE, &to_core4(&sized4(REMOTE4, CARRIED[3], length, false)));
        assert_eq!((out.drops.len(), out.transmit.len()), (0, each), "{length}");
        assert!(
            out.transmit.iter().all(|(_, frame)| frame.len() <= 14 + most),
            "{length}"
        );
    }
    let out = gateway.frame(CORE, &to_core4(&sized4(REMOTE4, CARRIED[3], 1500, true)));
    assert_eq!(out.drops, [(DropReason::PacketTooBig, 1)]);
    assert_eq!(
        out.transmit[0].1[34..42],
        [&[3, 4], &out.transmit[0].1[36..40], &584u16.to_be_bytes()[..]].concat()
    );
}

#[test]
fn what_does_not_fit_and_may_not_be_cut_is_told_what_fits() {
    let mut gateway = Gateway::carrying_ipv4();
    for (tunnel, to) in (1..).zip(CARRIED) {
        let room = if tunnel == 2 {
            1260
        } else {
            1500 - OVERHEADS[tunnel - 1]
        };
        let packet = sized4(REMOTE4, to, room + 1, true);
        let out = gateway.frame(CORE, &to_core4(&packet));
        assert_eq!(out.drops, [(DropReason::PacketTooBig, 1)], "{tunnel}");
        let [(CORE, frame)] = &out.transmit[..] else {
            panic!("{out:?}")
        };
        let (kind, mtu, quoted) = told4(&frame[14..], REMOTE4);
        assert_eq!((kind, usize::from(mtu)), ([3, 4], room));
        assert_eq!(quoted, hop4(&packet)[..548]);
        assert_eq!(
            gateway
                .frame(CORE, &to_core4(&sized4(REMOTE4, to, room, true)))
                .drops,
            []
        );
    }
    assert_eq!(gateway.pipeline.counters.stages(Stage::Icmpv4ErrorSent), 6);
    // Out of a tunnel, toward a port that takes less: the error goes back into the tunnel.
    let mut ports = ports();
    ports[CORE].mtu = 1000;
    gateway.snapshot.ports = ports.into();
    let packet = sized4(CARRIED[4], REMOTE4, 1001, true);
    let out = gateway.frame(CORE, &from_peer(5, &packet));
    let (inner, _) = inside(5, &out.transmit[0].1);
    assert_eq!(told4(&inner, CARRIED[4]).0, [3, 4]);
}

#[test]
fn each_refusal_is_told_and_errors_are_limited_and_never_about_errors() {
    let mut gateway = Gateway::carrying_ipv4();
    use DropReason as D;
    let cases = [
        (
            ipv4_changed(&udp4(REMOTE4, CARRIED[0]), 8, &[1]),
            D::HopLimitExceeded,
            Some([11, 0]),
        ),
        (
            ipv4_changed(&udp4(REMOTE4, CARRIED[0]), 8, &[0]),
            D::HopLimitExceeded,
            Some([11, 0]),
        ),
        (udp4(REMOTE4, "203.0.113.99"), D::PrefixUnallocated, Some([3, 0])),
        (udp4(REMOTE4, "203.0.113.41"), D::NodeAbsent, None),
        (udp4(REMOTE4, "203.0.113.42"), D::Prohibited, Some([3, 13])),
    ];
    for (packet, reason, kind) in cases {
        let out = gateway.frame(CORE, &to_core4(&packet));
        assert_eq!(out.drops, [(reason, 1)]);
        let sent = out
            .transmit
            .first()
            .map(|(_, frame)| told4(&frame[14..], REMOTE4));
        assert_eq!(sent.as_ref().map(|it| it.0), kind, "{reason:?}");
        if let Some((_, _, quoted)) = sent {
            assert_eq!(quoted, packet);
        }
        // The same about what comes out of a tunnel.
        let packet = ipv4_changed(&packet, 12, &CARRIED[2].parse::<Ipv4Addr>().unwrap().octets());
        let out = gateway.frame(CORE, &from_peer(3, &packet));
        assert_eq!(out.drops, [(reason, 1)]);
        let sent = out
            .transmit
            .first()
            .map(|(_, frame)| told4(&inside(3, frame).0, CARRIED[2]).0);
        assert_eq!(sent, kind, "{reason:?}");
    }
    let error = ipv4(REMOTE4, "203.0.113.99", 1, &[], &[3, 1, 0, 0, 0, 0, 0, 0]);
    assert!(gateway.frame(CORE, &to_core4(&error)).transmit.is_empty());
    let later = ipv4_changed(&udp4(REMOTE4, "203.0.113.99"), 6, &[0, 9]);
    assert!(gateway.frame(CORE, &to_core4(&later)).transmit.is_empty());
    let sent = gateway.pipeline.counters.stages(Stage::Icmpv4ErrorSent);
    assert_eq!(gateway.pipeline.counters.stages(Stage::Icmpv6ErrorSent), 0);
    let unallocated = to_core4(&udp4(REMOTE4, "203.0.113.99"));
    for _ in 0..300 {
        gateway.frame(CORE, &unallocated);
    }
    let counters = &gateway.pipeline.counters;
    // The clock stands: a tenth of a second's may come at once, and of those some had gone.
    assert!(counters.stages(Stage::Icmpv4ErrorSent) <= u64::from(ERRORS_PER_SECOND / 10));
    assert!(sent > 0 && counters.stages(Stage::Icmpv4ErrorSuppressed) >= 290);
    let told = counters.stages(Stage::Icmpv4ErrorSent) + counters.stages(Stage::Icmpv4ErrorSuppressed);
    assert_eq!(told, sent + 300);
}

#[test]
fn without_an_address_of_its_own_the_gateway_uses_the_dummy_one() {
    let mut gateway = Gateway::carrying_ipv4();
    gateway.apply(&Transaction {
        delete_tunnels: vec![4],
        delete_prefixes: vec![
            mapped_net(&format!("{}/32", CARRIED[3])),
            "2001:db8:100:6::/64".parse().unwrap(),
            "2001:db8:200:6::/64".parse().unwrap(),
        ],
        delete_local_addresses: vec![mapped(OWN4)],
        ..Transaction::default()
    });
    let out = gateway.frame(CORE, &to_core4(&udp4(REMOTE4, "203.0.113.99")));
    assert_eq!(out.transmit[0].1[26..30], [192, 0, 0, 8]);
}

#[test]
fn each_drop_has_its_name() {
    use DropReason as D;
    let good = udp4(CARRIED[0], REMOTE4);
    let changed = |at: usize, to: u8| {
        let mut packet = good.clone();
        packet[at] = to;
        packet
    };
    let claims_ipv6 = |inner: &[u8]| ethernet(CORE_MAC, ROUTER_MAC, &tunnelled(PEER, OWN, inner));
    let nested = |protocol, payload: &[u8]| {
        let inner = ipv4(CARRIED[0], OWN4, protocol, &[], payload);
        from_peer(1, &inner)
    };
    let cases = [
        (
            "another's address",
            from_peer(1, &udp4(CARRIED[1], REMOTE4)),
            D::TunnelInnerSourceInvalid,
        ),
        (
            "nobody's address",
            from_peer(1, &udp4("203.0.113.99", REMOTE4)),
            D::TunnelInnerSourceInvalid,
        ),
        (
            "a remote address",
            from_peer(1, &udp4(REMOTE4, "198.51.100.78")),
            D::TunnelInnerSourceInvalid,
        ),
        (
            "from 0.0.0.0",
            from_peer(1, &udp4("0.0.0.0", REMOTE4)),
            D::TunnelInnerSourceInvalid,
        ),
        (
            "from a link-local address",
            from_peer(1, &udp4("169.254.1.1", REMOTE4)),
            D::TunnelInnerSourceInvalid,
        ),
        (
            "to a group",
            from_peer(1, &udp4(CARRIED[0], "239.0.0.1")),
            D::TunnelInnerSourceInvalid,
        ),
        (
            "to all",
            from_peer(1, &udp4(CARRIED[0], "255.255.255.255")),
            D::TunnelInnerSourceInvalid,
        ),
        (
            "to 127.0.0.1",
            from_peer(1, &udp4(CARRIED[0], "127.0.0.1")),
            D::TunnelInnerSourceInvalid,
        ),
        (
            "a wrong header checksum",
            from_peer(1, &changed(8, 1)),
            D::Ipv4ChecksumWrong,
        ),
        (
            "a header of 16 octets",
            from_peer(1, &changed(0, 0x44)),
            D::TunnelInnerMalformed,
        ),
        (
            "longer than it is",
            from_peer(1, &changed(3, 33)),
            D::TunnelInnerMalformed,
        ),
        (
            "half a header",
            from_peer(1, &good[..19]),
            D::TunnelInnerMalformed,
        ),
        (
            "half a header in GRE",
            from_peer(5, &good[..19]),
            D::TunnelInnerMalformed,
        ),
        (
            "half a header in a G-PDU",
            from_peer(3, &good[..19]),
            D::TunnelInnerMalformed,
        ),
        ("nothing", from_peer(1, &[]), D::TunnelInnerMalformed),
        (
            "IPv6 that is called IPv4",
            from_peer(1, &udp(REMOTE, OLD, 64)),
            D::TunnelInnerMalformed,
        ),
        (
            "IPv6 that GRE calls IPv4",
            from_peer(5, &udp(REMOTE, OLD, 64)),
            D::TunnelInnerMalformed,
        ),
        (
            "IPv4 that is called IPv6",
            claims_ipv6(&good),
            D::TunnelInnerMalformed,
        ),
        (
            "IPv4 that GRE calls IPv6",
            ethernet(CORE_MAC, ROUTER_MAC, &keyed(PEER, OWN, LOCAL_KEY, &good)),
            D::TunnelInnerMalformed,
        ),
        (
            "from a stranger",
            ethernet(CORE_MAC, ROUTER_MAC, &ipv6(REMOTE, OWN, 4, 64, &good)),
            D::TunnelUnknownPeer,
        ),
        (
            "from a node on a link",
            ethernet(ACCESS_MAC, NODE_MAC, &ipv6(NODE, OWN, 4, 64, &good)),
            D::TunnelUnknownPeer,
        ),
        ("IPv4 in it", nested(4, &good), D::TunnelNested),
        ("IPv6 in it", nested(41, &udp(REMOTE, OLD, 64)), D::TunnelNested),
        ("GRE in it", nested(47, &[0; 8]), D::TunnelNested),
        (
            "GTP-U in it",
            nested(17, &[0, 9, 8, 0x68, 0, 8, 0, 0]),
            D::TunnelNested,
        ),
        (
            "from a link-local address",
            to_core4(&udp4("169.254.1.1", CARRIED[0])),
            D::SourceInvalid,
        ),
        (
            "to who has no IPv4 here",
            to_core4(&udp4(REMOTE4, "198.51.100.99")),
            D::Ipv4NotForUs,
        ),
        (
            "IPv4 of a node on a link",
            ethernet4(ACCESS_MAC, NODE_MAC, &good),
            D::EthertypeUnsupported,
        ),
    ];
    for (what, frame, reason) in cases {
        let port = if frame[..6] == ACCESS_MAC { ACCESS } else { CORE };
        let out = Gateway::carrying_ipv4().frame(port, &frame);
        assert_eq!(out.drops, [(reason, 1)], "{what}");
        assert!(out.transmit.is_empty() && out.punt.is_empty(), "{what}: {out:?}");
    }
    let cramped = Gateway::carrying_ipv4().cramped(CORE, &to_core4(&udp4(REMOTE4, CARRIED[0])), 39);
    assert_eq!(cramped.drops, [(D::NoHeadroom, 1)]);
    // What is for the gateway itself is the kernel's.
    let ping = ipv4(CARRIED[0], OWN4, 1, &[], &[8, 0, 0, 0, 0, 0, 0, 0]);
    let out = Gateway::carrying_ipv4().frame(CORE, &from_peer(1, &ping));
    assert_eq!(out.punt, [(CORE, to_core4(&ping))]);
}

#[test]
fn where_it_is_not_carried_it_is_refused_by_name_whatever_the_tunnel() {
    for (tunnel, from) in (1..).zip(CARRIED) {
        let out = Gateway::new().frame(CORE, &from_peer(tunnel, &udp4(from, REMOTE4)));
        assert_eq!(out.drops, [(DropReason::TunnelInnerIpv4, 1)], "{tunnel}");
        assert!(out.transmit.is_empty() && out.punt.is_empty());
    }
    let out = Gateway::new().frame(CORE, &to_core4(&udp4(REMOTE4, CARRIED[0])));
    assert_eq!(out.drops, [(DropReason::Ipv4NotForUs, 1)]);
    // Nor is a tunnel for everything one for it.
    let mut gateway = Gateway::new();
    let entry = PrefixEntry {
        next_hop: NextHop::Tunnel(1),
        source: None,
    };
    gateway.apply(&Transaction {
        put_prefixes: vec![("::/0".parse().unwrap(), entry)],
        ..Transaction::default()
    });
    let out = gateway.frame(CORE, &to_core4(&udp4(REMOTE4, "198.51.100.99")));
    assert_eq!(out.drops, [(DropReason::Ipv4NotForUs, 1)]);
    assert!(out.transmit.is_empty() && out.punt.is_empty());
}

#[test]
fn a_packet_of_ipv6_that_names_addresses_of_ipv4_is_from_no_peer() {
    let inner = udp4(CARRIED[3], REMOTE4);
    let mapped = |address: &str| format!("::ffff:{address}");
    let packet = g_pdu(&mapped(PEER4), &mapped(OWN4), IPV4_LOCAL_TEID, &inner);
    let out = Gateway::carrying_ipv4().frame(CORE, &ethernet(CORE_MAC, ROUTER_MAC, &packet));
    assert!(out.transmit.is_empty(), "{:?}", out.drops);
}

#[test]
fn a_fragment_that_ends_beyond_the_longest_packet_does_not_begin_another() {
    // Cut, its second half would be at 0, with the ports of somebody's choice.
    let packet = sized4(REMOTE4, CARRIED[2], 1500, false);
    let packet = ipv4_changed(&packet, 6, &[0x1f, 0x4e]);
    let out = Gateway::carrying_ipv4().frame(CORE, &to_core4(&packet));
    assert_eq!(out.drops, [(DropReason::Ipv4Malformed, 1)]);
    assert!(out.transmit.is_empty());
}

#[test]
fn no_route_of_ipv6_is_one_for_ipv4() {
    // A tunnel and a router for everything, and no route of IPv4.
    for next_hop in [
        NextHop::Tunnel(1),
        NextHop::Gateway {
            port: "core".to_owned(),
            address: "2001:db8:ca::1".parse().unwrap(),
        },
    ] {
        let mut gateway = Gateway::carrying_ipv4();
        let entry = PrefixEntry {
            next_hop,
            source: None,
        };
        gateway.apply(&Transaction {
            put_prefixes: vec![("::/0".parse().unwrap(), entry)],
            delete_prefixes: vec![mapped_net("0.0.0.0/0")],
            ..Transaction::default()
        });
        let out = gateway.frame(CORE, &from_peer(1, &udp4(CARRIED[0], REMOTE4)));
        assert_eq!(out.drops, [(DropReason::NoRoute, 1)]);
        assert_eq!(told4(&inside(1, &out.transmit[0].1).0, CARRIED[0]).0, [3, 0]);
        // Nor may anybody use an address for it.
        let out = gateway.frame(CORE, &from_peer(1, &udp4(REMOTE4, CARRIED[0])));
        assert_eq!(out.drops, [(DropReason::TunnelInnerSourceInvalid, 1)]);
        let out = gateway.frame(CORE, &to_core4(&udp4(REMOTE4, "198.51.100.99")));
        assert_eq!(out.drops, [(DropReason::Ipv4NotForUs, 1)]);
        // With everything else replaced it is the same.
        gateway.apply(&Transaction::replacing(&tables_with_ipv4()));
        let out = gateway.frame(CORE, &from_peer(1, &udp4(CARRIED[0], REMOTE4)));
        assert_eq!(out.transmit.len(), 1);
    }
}

#[test]
fn a_neighbour_that_is_not_known_is_asked_for() {
    let mut gateway = Gateway::carrying_ipv4();
    let out = gateway.frame(CORE, &from_peer(1, &udp4(CARRIED[0], "192.0.2.77")));
    assert_eq!(out.drops, [(DropReason::NeighbourUnresolved, 1)]);
    assert_eq!(out.missing, [(CORE, mapped("192.0.2.77"))]);
    let key = ("core".to_owned(), mapped("192.0.2.77"));
    gateway.apply(&Transaction {
        put_neighbours: vec![(key, NEIGHBOUR_MAC)],
        ..Transaction::default()
    });
    let packet = udp4(CARRIED[0], "192.0.2.77");
    let out = gateway.frame(CORE, &from_peer(1, &packet));
    assert_eq!(
        out.transmit,
        [(CORE, ethernet4(NEIGHBOUR_MAC, CORE_MAC, &hop4(&packet)))]
    );
}

#[test]
fn what_is_for_a_prefix_on_hold_waits_and_goes_on_in_order() {
    let mut gateway = moving::Moving::new(moving::BOUNDS);
    gateway.compiler = compiler_with_ipv4();
    gateway.snapshot = gateway.compiler.snapshot();
    let packet = |number: u8| ipv4(REMOTE4, CARRIED_HELD, 17, &[], &[number; 12]);
    let arrive = |gateway: &mut moving::Moving, frame: &[u8]| {
        let mut burst: ArrayVec<HeapFrame, BURST> = ArrayVec::new();
        burst.push(HeapFrame::new(frame));
        let (now, snapshot) = (gateway.now, gateway.snapshot.clone());
        gateway
            .pipeline
            .process(&snapshot, CORE, now, &mut burst, &mut gateway.output);
    };
    for number in 0..3 {
        arrive(&mut gateway, &to_core4(&packet(number)));
    }
    // Out of a tunnel too.
    let last = ipv4(CARRIED[0], CARRIED_HELD, 17, &[], &[3; 12]);
    arrive(&mut gateway, &from_peer(1, &last));
    assert_eq!(gateway.output.held().0, 4);
    let entry = PrefixEntry {
        next_hop: NextHop::Tunnel(5),
        source: None,
    };
    let put = Transaction {
        put_prefixes: vec![(mapped_net(&format!("{CARRIED_HELD}/32")), entry)],
        ..Transaction::default()
    };
    gateway.snapshot = gateway.compiler.apply(&put).unwrap();
    for _ in 0..100 {
        gateway.now += 1000;
        gateway.tend();
    }
    let sent = &gateway.output.transmit[CORE];
    let numbers: Vec<u8> = sent.iter().map(|it| inside(5, it.bytes()).0[20]).collect();
    assert_eq!(numbers, [0, 1, 2, 3]);
    assert_eq!(gateway.all_drops(), 0);
}

#[test]
fn filters_and_meters_see_it() {
    let to_port = |port| Selector {
        protocol: Some(17),
        destination_ports: Some(PortRange {
            first: port,
            last: port,
        }),
        ..Selector::default()
    };
    let filter = |scope: Option<&str>, selector, action| Filter {
        name: String::new(),
        scope: scope.map(mapped_net),
        priority: 1,
        selector,
        action,
        idle_timeout: 0,
        lifetime: 0,
        except_tunnel: None,
    };
    let meter = Meter {
        rates: MeterRates::Rfc2698 {
            cir: 1,
            cbs: 1280,
            pir: 1000,
            pbs: 10_000,
        },
        colour_aware: false,
        yellow: Yellow::Mark(10),
        fill: None,
    };
    let by_source = Selector {
        source: mapped_net("198.51.100.0/24"),
        ..to_port(53)
    };
    let gateway = |filters: Vec<Filter>| {
        let mut gateway = Gateway::carrying_ipv4();
        gateway.apply(&Transaction {
            put_filters: (1..).zip(filters).collect(),
            put_meters: vec![(1, meter)],
            ..Transaction::default()
        });
        gateway
    };
    let packet = |port: u8| {
        ipv4(
            REMOTE4,
            CARRIED[0],
            17,
            &[148, 4, 0, 0],
            &[0x30, 0x39, 0, port, 0, 9, 0, 0, 7],
        )
    };
    // Of the whole domain, and of one prefix; by port and by address.
    let prefix = format!("{}/32", CARRIED[0]);
    for scope in [None, Some(prefix.as_str())] {
        let mut gateway = gateway(vec![
            filter(scope, to_port(9), FilterAction::Drop),
            filter(scope, by_source.clone(), FilterAction::Tunnel(5)),
        ]);
        let out = gateway.frame(CORE, &to_core4(&packet(9)));
        assert_eq!(out.drops, [(DropReason::FlowFiltered, 1)], "{scope:?}");
        let out = gateway.frame(CORE, &to_core4(&packet(10)));
        assert_eq!(inside(1, &out.transmit[0].1).0, hop4(&packet(10)));
        let out = gateway.frame(CORE, &to_core4(&packet(53)));
        assert_eq!(inside(5, &out.transmit[0].1).0, hop4(&packet(53)));
        // A node may answer by the way of its own filters.
        let answer = ipv4(CARRIED[0], REMOTE4, 1, &[], &[8, 0, 0, 0, 0, 0, 0, 0]);
        let answered = gateway.frame(CORE, &from_peer(5, &answer)).transmit.len();
        assert_eq!(answered, usize::from(scope.is_some()));
    }
    let mut gateway = gateway(vec![filter(None, to_port(9), FilterAction::Meter(1))]);
    let large = sized4(REMOTE4, CARRIED[0], 1400, true);
    let large = [&large[..20], &[0x30, 0x39, 0, 9], &large[24..]].concat();
    let out = gateway.frame(CORE, &to_core4(&large));
    assert_eq!(
        inside(1, &out.transmit[0].1).0,
        ipv4_changed(&hop4(&large), 1, &[10 << 2])
    );
    assert_eq!(gateway.pipeline.counters.stages(Stage::Remarked), 1);
}

#[test]
fn tcp_is_told_what_fits_where_that_is_wanted() {
    let syn = |source, destination| {
        let tcp = [
            0, 80, 0, 81, 0, 0, 0, 1, 0, 0, 0, 0, 0x60, 2, 9, 9, 0, 0, 0, 0, 2, 4, 5, 180,
        ];
        ipv4(source, destination, 6, &[], &tcp)
    };
    let mut gateway = Gateway::carrying_and_clamping();
    let out = gateway.frame(CORE, &to_core4(&syn(REMOTE4, CARRIED[0])));
    assert_eq!(inside(1, &out.transmit[0].1).0[42..44], 1420u16.to_be_bytes());
    let out = gateway.frame(CORE, &from_peer(5, &syn(CARRIED[4], REMOTE4)));
    assert_eq!(out.transmit[0].1[56..58], 1412u16.to_be_bytes());
}

#[test]
fn what_routers_say_of_packets_in_tunnels_is_told_in_the_words_of_ipv4() {
    const ROUTER: &str = "2001:db8:ca::1";
    for tunnel in [1, 3, 5] {
        let mut gateway = Gateway::carrying_ipv4();
        let to = CARRIED[tunnel - 1];
        let overhead = OVERHEADS[tunnel - 1];
        let packet = sized4(REMOTE4, to, 1400, true);
        let outer = gateway.frame(CORE, &to_core4(&packet)).transmit[0].1[14..].to_vec();
        let quoted = &outer[..outer.len().min(1232)];
        let out = gateway.one(CORE, &icmpv6(ROUTER, OWN, [2, 0, 0, 0, 0, 0, 0x05, 0x14], quoted));
        assert_eq!(out.too_big, [(PEER.parse().unwrap(), 1300)]);
        let [(CORE, frame)] = &out.transmit[..] else {
            panic!("{tunnel}: {out:?}")
        };
        let (kind, mtu, quotes) = told4(&frame[14..], REMOTE4);
        assert_eq!((kind, usize::from(mtu)), ([3, 4], 1300 - overhead), "{tunnel}");
        assert_eq!(quotes, hop4(&packet)[..548]);
        for header in [[1, 3, 0, 0, 0, 0, 0, 0], [3, 0, 0, 0, 0, 0, 0, 0]] {
            let out = gateway.one(CORE, &icmpv6(ROUTER, OWN, header, quoted));
            assert_eq!(told4(&out.transmit[0].1[14..], REMOTE4).0, [3, 1]);
        }
        assert_eq!(gateway.pipeline.counters.stages(Stage::TunnelErrorTranslated), 3);
        // What may be cut is not told.
        let packet = sized4(REMOTE4, to, 1400, false);
        let outer = gateway.frame(CORE, &to_core4(&packet)).transmit[0].1[14..].to_vec();
        let quoted = &outer[..outer.len().min(1232)];
        let out = gateway.one(CORE, &icmpv6(ROUTER, OWN, [2, 0, 0, 0, 0, 0, 0x05, 0x14], quoted));
        assert_eq!((out.transmit.len(), out.too_big.len()), (0, 1));
        assert_eq!(gateway.pipeline.counters.stages(Stage::TunnelErrorTaken), 1);
        // Somebody who does not know what was sent is not believed.
        let mut wrong = quoted.to_vec();
        let at = if tunnel == 1 { 39 } else { overhead + 19 };
        wrong[at] ^= 0x55;
        let out = gateway.one(CORE, &icmpv6(ROUTER, OWN, [2, 0, 0, 0, 0, 0, 0x05, 0x14], &wrong));
        assert_eq!(out.drops, [(DropReason::TunnelErrorInvalid, 1)], "{tunnel}");
    }
}
