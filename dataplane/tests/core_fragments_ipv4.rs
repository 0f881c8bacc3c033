//! Outer packets over IPv4 in fragments: those that a gateway sends, and those that it puts together.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod core_support;

use std::collections::HashSet;
use std::time::Instant;

use arrayvec::ArrayVec;
use core_support::*;
use kedge_dataplane::counters::Stage;
use kedge_dataplane::drops::DropReason;
use kedge_dataplane::frame::{Frame, HeapFrame};
use kedge_dataplane::hold;
use kedge_dataplane::pipeline::{BURST, Ipv4Fragments, Output};
use kedge_dataplane::reassembly::Bounds;
use kedge_dataplane::snapshot::Compiler;
use kedge_dataplane::stage::checksum::Sum;
use kedge_dataplane::stage::ipv4_fragment;
use proptest::prelude::*;

fn reassembling() -> Output<HeapFrame> {
    with_room(Output::default())
}

fn with_room(output: Output<HeapFrame>) -> Output<HeapFrame> {
    output.reassembling(Bounds {
        fragments: 100,
        cycles_per_second: CYCLES,
        seed: 1,
    })
}

/// Packets that come in by the core port one after the other; what goes out.
fn run(gateway: &mut Gateway, output: &mut Output<HeapFrame>, packets: &[Vec<u8>]) -> Vec<(usize, Vec<u8>)> {
    for packet in packets {
        let mut burst: ArrayVec<HeapFrame, BURST> = ArrayVec::new();
        burst.push(HeapFrame::new(&ethernet4(CORE_MAC, ROUTER_MAC, packet)));
        gateway
            .pipeline
            .process(&gateway.snapshot, CORE, 0, &mut burst, output);
    }
    let sent = output.transmit.iter_mut().enumerate();
    sent.flat_map(|(port, burst)| burst.drain(..).map(move |frame| (port, frame.bytes().to_vec())))
        .collect()
}

/// In fragments of so many octets at most, as a router makes them.
fn cut(packet: &[u8], size: usize) -> Vec<Vec<u8>> {
    let mut rest = HeapFrame::new(&[&[0; 14][..], packet].concat());
    let mut pieces = Vec::new();
    while rest.bytes().len() > 14 + size {
        let next = ipv4_fragment::split(&mut rest, size).unwrap();
        pieces.push(rest.bytes()[14..].to_vec());
        rest = next;
    }
    pieces.push(rest.bytes()[14..].to_vec());
    pieces
}

fn inner() -> Vec<u8> {
    let mut packet = sized(REMOTE, IPV4_OLD, 1400);
    for (at, octet) in packet.iter_mut().enumerate().skip(40) {
        *octet = ((at * 31) >> 3) as u8;
    }
    packet
}

fn with_checksum(inner: &[u8]) -> Vec<u8> {
    let plain = g_pdu4(PEER4, OWN4, IPV4_LOCAL_TEID, inner);
    gtpu4(PEER4, OWN4, &[], &plain[28..], true)
}

#[test]
fn what_a_peer_sends_in_fragments_is_put_together_where_that_is_asked_for() {
    let inner = inner();
    let delivered = (ACCESS, ethernet(NODE_MAC, ACCESS_MAC, &hop(&inner)));
    let unchecked = g_pdu4(PEER4, OWN4, IPV4_LOCAL_TEID, &inner);
    use Ipv4Fragments as How;
    let cases = [
        (How::Taken, unchecked.clone(), true),
        (How::Taken, with_checksum(&inner), true),
        (How::Checked, with_checksum(&inner), true),
        (How::Checked, unchecked.clone(), false),
    ];
    for (how, packet, goes) in cases {
        for size in [1280, 576] {
            for turned in [false, true] {
                let mut packets = cut(&packet, size);
                assert_eq!(packets.len(), if size == 576 { 3 } else { 2 });
                if turned {
                    packets.reverse();
                }
                let mut gateway = Gateway::of_fragments(how);
                let mut output = reassembling();
                let sent = run(&mut gateway, &mut output, &packets);
                let expected = if goes { vec![delivered.clone()] } else { vec![] };
                assert_eq!(sent, expected, "{how:?}");
                assert_eq!(gateway.drops(DropReason::UdpChecksumZero), u64::from(!goes));
                let stage = |stage| gateway.pipeline.counters.stages(stage);
                let received = stage(Stage::FragmentReceived);
                assert_eq!((received, stage(Stage::Reassembled)), (packets.len() as u64, 1));
                assert_eq!(output.fragments(), 0);
            }
        }
    }
    // Where it is not asked for, none is taken.
    let mut gateway = Gateway::new();
    assert!(
        run(
            &mut gateway,
            &mut reassembling(),
            &cut(&with_checksum(&inner), 1280)
        )
        .is_empty()
    );
    assert_eq!(gateway.drops(DropReason::TunnelFragment), 2);
}

#[test]
fn what_is_of_two_packets_is_found_out_by_its_checksum() {
    let (one, mut other) = (inner(), inner());
    other[1399] ^= 1;
    let mixed = [
        cut(&with_checksum(&one), 1280)[0].clone(),
        cut(&with_checksum(&other), 1280)[1].clone(),
    ];
    let mut gateway = Gateway::of_fragments(Ipv4Fragments::Checked);
    assert!(run(&mut gateway, &mut reassembling(), &mixed).is_empty());
    assert_eq!(gateway.drops(DropReason::UdpChecksumWrong), 1);
}

#[test]
fn fragments_of_strangers_and_of_other_protocols_are_not_put_together() {
    let mut gateway = Gateway::of_fragments(Ipv4Fragments::Taken);
    let mut output = reassembling();
    // Of a stranger's G-PDU the first is dropped; whose the second is nobody knows, and the kernel has but that.
    let stranger = g_pdu4("203.0.113.9", OWN4, IPV4_LOCAL_TEID, &inner());
    run(&mut gateway, &mut output, &cut(&stranger, 1280));
    assert_eq!(gateway.drops(DropReason::TunnelFragment), 1);
    assert_eq!(output.punt[CORE].len(), 1);
    // ICMP of a peer.
    let ping = ipv4(PEER4, OWN4, 1, &[], &[8; 1300]);
    run(&mut gateway, &mut output, &cut(&ping, 1280));
    assert_eq!((output.punt[CORE].len(), output.fragments()), (3, 0));
    // UDP of a peer to another port is put together first, for a later fragment does not say.
    let other = ipv4(PEER4, OWN4, 17, &[], &[7; 1400]);
    run(&mut gateway, &mut output, &cut(&other, 1280));
    assert_eq!((output.punt[CORE].len(), output.fragments()), (4, 0));
    assert_eq!(output.punt[CORE][3].bytes()[14..], other);
}

#[test]
fn a_first_fragment_does_not_wait_for_its_tunnel_to_become_known() {
    let room = hold::Bounds {
        packets: 10,
        packets_per_prefix: 10,
        octets_per_prefix: 1 << 16,
        age: CYCLES,
        ..hold::Bounds::default()
    };
    let mut gateway = Gateway::of_fragments(Ipv4Fragments::Taken);
    let mut output = with_room(Output::holding(room, room));
    let packet = g_pdu4(PEER4, OWN4, 9, &inner());
    run(&mut gateway, &mut output, std::slice::from_ref(&packet));
    assert_eq!(output.held().0, 1, "nothing is known of its tunnel");
    // Those behind it do not say which tunnel it is, and would be alone.
    run(&mut gateway, &mut output, &cut(&packet, 1280));
    assert_eq!(gateway.pipeline.counters.stages(Stage::Reassembled), 1);
    assert_eq!(
        (output.held().0, output.fragments()),
        (2, 0),
        "the whole one waits"
    );
}

/// A gateway whose path to the peer takes so many octets.
fn narrow(mtu: u16) -> Gateway {
    let mut gateway = Gateway::new();
    make_narrow(&mut gateway, mtu);
    gateway
}

fn make_narrow(gateway: &mut Gateway, mtu: u16) {
    let peer = std::net::Ipv6Addr::from(octets(&format!("::ffff:{PEER4}")));
    gateway.snapshot = gateway
        .compiler
        .learn_path_mtu(peer, mtu, Instant::now())
        .unwrap();
}

/// Any octets, so many of them, to what is behind the tunnel.
fn patterned(length: usize) -> Vec<u8> {
    let payload: Vec<u8> = (0..length - 40).map(|at| ((at * 7) >> 2) as u8).collect();
    ipv6(REMOTE, IPV4_ANCHORED, 17, 64, &payload)
}

/// What a host makes of fragments in this order: the packet, as it would have been in one.
fn joined(fragments: &[Vec<u8>]) -> Vec<u8> {
    let mut whole = fragments[0][..20].to_vec();
    for (at, fragment) in fragments.iter().enumerate() {
        assert!(Sum::default().octets(&fragment[..20]).is_right());
        assert_eq!(
            usize::from(u16::from_be_bytes([fragment[2], fragment[3]])),
            fragment.len()
        );
        let more = if at + 1 < fragments.len() { 0x2000 } else { 0 };
        let word = more | ((whole.len() - 20) / 8) as u16;
        assert_eq!(fragment[6..8], word.to_be_bytes());
        assert_eq!([&fragment[..2], &fragment[4..6]], [&whole[..2], &whole[4..6]]);
        whole.extend_from_slice(&fragment[20..]);
    }
    let length = (whole.len() as u16).to_be_bytes();
    whole[2..4].copy_from_slice(&length);
    whole
}

/// The octets that the gateway sends for a packet off the core.
fn sent(gateway: &mut Gateway, packet: &[u8]) -> Vec<Vec<u8>> {
    let out = gateway.one(CORE, packet);
    assert!(out.drops.is_empty(), "{out:?}");
    let frames = out.transmit.iter();
    frames
        .map(|(port, frame)| {
            assert_eq!((*port, &frame[12..14]), (CORE, &[8, 0][..]));
            frame[14..].to_vec()
        })
        .collect()
}

#[test]
fn what_may_be_as_large_as_it_is_goes_out_in_as_many_fragments_as_the_path_needs() {
    for (mtu, count) in [
        (1323, 1),
        (1315, 2),
        (1300, 2),
        (1000, 2),
        (680, 2),
        (676, 2),
        (576, 3),
    ] {
        let mut gateway = narrow(mtu);
        // With 36 octets of headers 1,280 fit 1,316.
        for length in [1280, 1279, 1250] {
            let inner = patterned(length);
            let fragments = sent(&mut gateway, &inner);
            let fits = length + 36 <= usize::from(mtu);
            assert_eq!(fragments.len(), if fits { 1 } else { count }, "{mtu} {length}");
            assert!(fragments.iter().all(|it| it.len() <= usize::from(mtu)));
            let mut whole = joined_or_whole(&fragments);
            // But for what says that it may come in parts, it is what goes where the path takes it.
            let in_one = sent(&mut Gateway::new(), &inner).remove(0);
            if !fits {
                let udp = [&whole[12..20], &[0, 17], &whole[24..26], &whole[20..]].concat();
                assert!(whole[26..28] != [0, 0] && Sum::default().octets(&udp).is_right());
                whole[26..28].fill(0);
                assert_eq!(
                    (&in_one[4..8], &in_one[26..28]),
                    (&[0, 0, 0x40, 0][..], &[0, 0][..])
                );
            }
            assert_eq!(
                (&whole[..4], &whole[8..10], &whole[12..]),
                (&in_one[..4], &in_one[8..10], &in_one[12..])
            );
        }
        // What is larger is its sender's to make smaller.
        let out = gateway.one(CORE, &patterned(1300));
        if mtu < 1300 + 36 {
            assert_eq!(out.drops, [(DropReason::PacketTooBig, 1)]);
            let told = u32::from_be_bytes(out.transmit[0].1[58..62].try_into().unwrap());
            assert_eq!(told, u32::from(mtu).saturating_sub(36).max(1280));
        }
    }
}

fn joined_or_whole(fragments: &[Vec<u8>]) -> Vec<u8> {
    match fragments {
        [one] => one.clone(),
        more => joined(more),
    }
}

#[test]
fn each_packet_in_fragments_has_an_identification_of_its_own_and_is_counted() {
    let mut gateway = narrow(576);
    let mut seen = HashSet::new();
    for _ in 0..100 {
        let fragments = sent(&mut gateway, &patterned(1280));
        assert!(seen.insert([fragments[0][4], fragments[0][5]]));
    }
    let stage = |stage| gateway.pipeline.counters.stages(stage);
    assert_eq!((stage(Stage::Encapsulated), stage(Stage::Fragmented)), (100, 200));
}

/// The code point, and what congestion says, are those of every fragment.
#[test]
fn every_fragment_has_the_code_point_and_the_congestion_mark() {
    let mut tables = tables();
    for tunnel in tables.tunnels.values_mut() {
        tunnel.dscp = kedge_dataplane_api::model::Dscp::Is(46);
    }
    let mut gateway = Gateway::new();
    gateway.apply(&kedge_dataplane_api::Transaction::replacing(&tables));
    make_narrow(&mut gateway, 576);
    let mut inner = patterned(1280);
    inner[1] |= 0x30;
    let fragments = sent(&mut gateway, &inner);
    assert_eq!(fragments.len(), 3);
    assert!(fragments.iter().all(|it| it[1] == 46 << 2 | 3), "{fragments:?}");
}

#[test]
fn a_tunnel_that_takes_hardly_anything_drops_by_name() {
    // Of 1,316 octets, nine fragments have room for no more than 1,296 behind their headers.
    for (mtu, goes) in [(500, true), (128, true), (120, false), (68, false), (1, false)] {
        let mut tables = tables();
        for tunnel in tables.tunnels.values_mut() {
            tunnel.mtu = mtu;
        }
        let mut gateway = Gateway::new();
        gateway.apply(&kedge_dataplane_api::Transaction::replacing(&tables));
        let out = gateway.one(CORE, &patterned(1280));
        if goes {
            let fragments: Vec<Vec<u8>> = out
                .transmit
                .iter()
                .map(|(_, frame)| frame[14..].to_vec())
                .collect();
            assert!(fragments.len() > 2 && fragments.len() <= ipv4_fragment::MOST_FRAGMENTS);
            assert_eq!(joined(&fragments).len(), 1316);
        } else {
            assert_eq!(out.drops, [(DropReason::TunnelMtuTooSmall, 1)]);
            assert!(out.transmit.is_empty());
        }
    }
}

#[test]
fn a_burst_in_fragments_is_not_lost() {
    let mut tables = tables();
    for tunnel in tables.tunnels.values_mut() {
        tunnel.mtu = 128;
    }
    let mut gateway = Gateway::new();
    gateway.apply(&kedge_dataplane_api::Transaction::replacing(&tables));
    let mut burst: ArrayVec<HeapFrame, BURST> = ArrayVec::new();
    for _ in 0..BURST {
        burst.push(HeapFrame::new(&ethernet(CORE_MAC, ROUTER_MAC, &patterned(1280))));
    }
    let mut output = Output::default();
    gateway
        .pipeline
        .process(&gateway.snapshot, CORE, 0, &mut burst, &mut output);
    assert_eq!(output.transmit[CORE].len(), BURST * ipv4_fragment::MOST_FRAGMENTS);
}

/// Whoever makes up an MTU: what nobody makes smaller for it comes whole to a peer that takes no fragments. A router that told the truth
/// may cut it.
#[test]
fn on_a_path_that_somebody_says_is_narrow_it_goes_whole_and_may_be_cut() {
    let peer = std::net::Ipv6Addr::from(octets(&format!("::ffff:{PEER4}")));
    let mut gateway = Gateway::new();
    let heard = gateway
        .compiler
        .learn_unproven_path_mtu(peer, 620, Instant::now());
    gateway.snapshot = heard.unwrap();
    for length in [1280, 900, 585] {
        let inner = patterned(length);
        let [packet] = &sent(&mut gateway, &inner)[..] else {
            panic!("{length}: not in one piece")
        };
        let mut plain = sent(&mut Gateway::new(), &inner).remove(0);
        assert_eq!(
            (packet.len(), packet[6..8].to_vec(), plain[6]),
            (length + 36, vec![0, 0], 0x40)
        );
        let udp = [&packet[12..20], &[0, 17], &packet[24..26], &packet[20..]].concat();
        assert!(Sum::default().octets(&udp).is_right() && packet[26..28] != [0, 0]);
        assert!(Sum::default().octets(&packet[..20]).is_right());
        plain[26..28].copy_from_slice(&packet[26..28]);
        assert_eq!(packet[20..], plain[20..]);
    }
    let stages = [Stage::Encapsulated, Stage::Fragmented].map(|it| gateway.pipeline.counters.stages(it));
    assert_eq!(stages, [3, 0]);
    // What fits goes as ever, and what need not be so large is told so.
    assert_eq!(sent(&mut gateway, &patterned(584))[0][4..8], [0, 0, 0x40, 0]);
    assert_eq!(
        gateway.one(CORE, &patterned(1281)).drops,
        [(DropReason::PacketTooBig, 1)]
    );
    // Who proves that it is narrower still is believed: then it is cut here.
    make_narrow(&mut gateway, 600);
    assert_eq!(sent(&mut gateway, &patterned(1280)).len(), 3);
    // And what is no proof does not undo it.
    let heard = gateway
        .compiler
        .learn_unproven_path_mtu(peer, 620, Instant::now());
    assert!(heard.is_none());
}

/// What the port does not take cannot be left to others to cut.
#[test]
fn a_port_that_is_narrow_has_it_cut_whatever_is_said_of_the_path() {
    let mut ports = ports();
    ports[CORE].mtu = 1300;
    let mut compiler = Compiler::new(ports, OWN.parse().unwrap(), 1);
    compiler
        .apply(&kedge_dataplane_api::Transaction::replacing(&tables()))
        .unwrap();
    let mut gateway = Gateway {
        snapshot: compiler.snapshot(),
        compiler,
        ..Gateway::new()
    };
    let peer = std::net::Ipv6Addr::from(octets(&format!("::ffff:{PEER4}")));
    let mut lengths = || {
        let fragments = sent(&mut gateway, &patterned(1280));
        let lengths: Vec<usize> = fragments.iter().map(Vec::len).collect();
        let heard = gateway
            .compiler
            .learn_unproven_path_mtu(peer, 700, Instant::now());
        gateway.snapshot = heard.unwrap_or_else(|| gateway.compiler.snapshot());
        lengths
    };
    // 1,296 octets behind the header, of which 1,280 fit.
    assert_eq!([lengths(), lengths()], [[1300, 36], [1300, 36]]);
}

/// One gateway's fragments are another one's packets, where that one is asked to check what it puts together.
#[test]
fn what_a_gateway_sends_in_fragments_a_gateway_puts_together_if_it_checks() {
    for mtu in [1300, 1000, 576] {
        for turned in [false, true] {
            let answer = {
                let mut packet = sized(REMOTE, IPV4_OLD, 1280);
                for (at, octet) in packet.iter_mut().enumerate().skip(40) {
                    *octet = ((at * 31) >> 3) as u8;
                }
                packet
            };
            // As the peer makes it of an answer: from its address and with our TEID.
            let mut tables = tables();
            for tunnel in tables.tunnels.values_mut() {
                if let kedge_dataplane_api::model::Encapsulation::GtpU(it) = &mut tunnel.encapsulation
                    && tunnel.remote.to_ipv4_mapped().is_some()
                {
                    it.remote_teid = IPV4_LOCAL_TEID.try_into().unwrap();
                }
            }
            let mut sender = Gateway::new();
            sender.apply(&kedge_dataplane_api::Transaction::replacing(&tables));
            make_narrow(&mut sender, mtu);
            let mut inner = answer.clone();
            inner[24..40].copy_from_slice(&octets(IPV4_ANCHORED));
            let mut fragments = sent(&mut sender, &inner);
            assert!(fragments.len() >= 2);
            // Turned round on the way: the two addresses change places, and no checksum changes by that; nor does it by
            // what the inner destination gets, once UDP's is told.
            let sum_before = joined(&fragments);
            for fragment in &mut fragments {
                let ends: Vec<u8> = [&fragment[16..20], &fragment[12..16]].concat();
                fragment[12..20].copy_from_slice(&ends);
            }
            let at = 20 + 16 + 24;
            fragments[0][at..at + 16].copy_from_slice(&octets(IPV4_OLD));
            let mut whole = joined(&fragments);
            whole[26..28].fill(0);
            let udp = [&whole[12..20], &[0, 17], &whole[24..26], &whole[20..]].concat();
            let checksum = Sum::default().octets(&udp).udp_checksum().to_be_bytes();
            assert_ne!(sum_before[26..28], [0, 0]);
            fragments[0][26..28].copy_from_slice(&checksum);
            if turned {
                fragments.reverse();
            }
            for (how, goes) in [
                (Ipv4Fragments::Checked, true),
                (Ipv4Fragments::Taken, true),
                (Ipv4Fragments::Refused, false),
            ] {
                let mut gateway = Gateway::of_fragments(how);
                let out = run(&mut gateway, &mut reassembling(), &fragments);
                let delivered = (ACCESS, ethernet(NODE_MAC, ACCESS_MAC, &hop(&hop(&answer))));
                assert_eq!(out, if goes { vec![delivered] } else { vec![] }, "{mtu} {how:?}");
                let refused = if goes { 0 } else { fragments.len() as u64 };
                assert_eq!(gateway.drops(DropReason::TunnelFragment), refused);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Of any size, over any path: it comes whole, once, or in fragments that are the same packet.
    #[test]
    fn over_any_path_it_is_the_same_packet(length in 48usize..=1280, mtu in 576u16..1500) {
        let inner = patterned(length);
        let fragments = sent(&mut narrow(mtu), &inner);
        prop_assert_eq!(fragments.len() > 1, length + 36 > usize::from(mtu));
        prop_assert!(fragments.iter().all(|it| it.len() <= usize::from(mtu)));
        let flag = if fragments.len() > 1 { 0 } else { 0x40 };
        prop_assert!(fragments.iter().all(|it| it[6] & 0x40 == flag));
        prop_assert_eq!(&joined_or_whole(&fragments)[36..], &hop(&inner)[..]);
    }
}
