//! Tunnels with less room than a packet may need: fragments of outer packets, and the tunnel encapsulation limit.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod core_support;

use std::collections::HashSet;
use std::time::Instant;

use arrayvec::ArrayVec;
use core_support::*;
use kedge_dataplane::counters::Stage;
use kedge_dataplane::drops::DropReason;
use kedge_dataplane::frame::{Frame, HeapFrame};
use kedge_dataplane::pipeline::{BURST, Output};
use kedge_dataplane::reassembly::{Bounds, WAIT_MS};
use kedge_dataplane::snapshot::Snapshot;
use kedge_dataplane::spread::Spreader;
use kedge_dataplane::stage::fragment;
use kedge_dataplane_api::Transaction;
use kedge_dataplane_api::model::Encapsulation;
use proptest::prelude::*;

fn bounds() -> Bounds {
    Bounds {
        fragments: 100,
        cycles_per_second: CYCLES,
        seed: 1,
    }
}

/// Packets that come in by a port one after the other; what goes out.
fn run(gateway: &mut Gateway, output: &mut Output<HeapFrame>, packets: &[Vec<u8>]) -> Vec<(usize, Vec<u8>)> {
    for packet in packets {
        let mut burst: ArrayVec<HeapFrame, BURST> = ArrayVec::new();
        burst.push(HeapFrame::new(&ethernet(CORE_MAC, ROUTER_MAC, packet)));
        gateway
            .pipeline
            .process(&gateway.snapshot, CORE, 0, &mut burst, output);
    }
    let sent = output.transmit.iter_mut().enumerate();
    sent.flat_map(|(port, burst)| burst.drain(..).map(move |frame| (port, frame.bytes().to_vec())))
        .collect()
}

/// A gateway whose path to the peer takes so many octets.
fn narrow(mtu: u16) -> Gateway {
    let mut gateway = Gateway::new();
    let learned = gateway
        .compiler
        .learn_path_mtu(PEER.parse().unwrap(), mtu, Instant::now());
    gateway.snapshot = learned.unwrap();
    gateway
}

/// The tunnels of the gateway with this limit.
fn limited(limit: Option<u8>) -> Gateway {
    let mut gateway = Gateway::new();
    let mut tables = tables();
    for tunnel in tables.tunnels.values_mut() {
        if tunnel.encapsulation == Encapsulation::Ipv6InIpv6 {
            tunnel.encapsulation_limit = limit;
        }
    }
    gateway.snapshot = gateway.compiler.apply(&Transaction::replacing(&tables)).unwrap();
    gateway
}

fn patterned(source: &str, destination: &str, length: usize) -> Vec<u8> {
    let payload: Vec<u8> = (0..length - 40).map(|at| ((at * 7) >> 2) as u8).collect();
    ipv6(source, destination, 17, 64, &payload)
}

/// A packet as the peer would have sent it to us: from its address, to ours.
fn returned(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    packet[8..24].copy_from_slice(&octets(PEER));
    packet[24..40].copy_from_slice(&octets(OWN));
    packet
}

#[test]
fn what_may_be_as_large_as_it_is_goes_out_in_two_fragments() {
    for (destination, next_header) in [(ANCHORED, 41), (GTPU_ANCHORED, 17)] {
        let mut gateway = narrow(1280);
        for length in [1280, 1279, 1241] {
            let inner = patterned(REMOTE, destination, length);
            let out = gateway.one(CORE, &inner);
            assert!(out.drops.is_empty(), "{out:?}");
            let [(CORE, first), (CORE, second)] = &out.transmit[..] else {
                panic!("{length}: {out:?}")
            };
            let (first, second) = (&first[14..], &second[14..]);
            let [one, two] = [first, second].map(|packet| fragment::read(packet).unwrap());
            assert!(first.len() <= 1280 && first.len() > 1272 && first.len() % 8 == 0);
            for packet in [first, second] {
                let told = usize::from(u16::from_be_bytes([packet[4], packet[5]])) + 40;
                assert_eq!(told, packet.len());
            }
            assert_eq!((one.offset, one.more, one.next_header), (0, true, next_header));
            assert_eq!(
                (two.offset, two.more, two.next_header),
                (first.len() - 48, false, next_header)
            );
            assert_eq!(one.identification, two.identification);
            let mut whole = [&first[..40], &first[48..], &second[48..]].concat();
            assert_eq!(whole[whole.len() - length..], hop(&inner));
            // What it would have been in one: the same headers.
            let length = u16::try_from(whole.len() - 40).unwrap().to_be_bytes();
            whole[4..6].copy_from_slice(&length);
            whole[6] = next_header;
            assert_eq!(Gateway::new().one(CORE, &inner).transmit[0].1[14..], whole);
        }
        assert_eq!(gateway.pipeline.counters.stages(Stage::Fragmented), 3);
        assert_eq!(gateway.pipeline.counters.stages(Stage::Encapsulated), 3);
        let out = gateway.one(CORE, &sized(REMOTE, destination, 1281));
        assert_eq!(out.drops, [(DropReason::PacketTooBig, 1)]);
        let fits = 1280 - if next_header == 41 { 40 } else { 56 };
        assert_eq!(
            gateway
                .one(CORE, &sized(REMOTE, destination, fits))
                .transmit
                .len(),
            1
        );
    }
}

#[test]
fn a_tunnel_that_is_told_to_take_less_fragments_too() {
    // It takes inner packets of 1,260 octets, so outer ones of 1,300.
    let out = Gateway::new().one(CORE, &sized(REMOTE, NARROW, 1270));
    let lengths: Vec<usize> = out.transmit.iter().map(|(_, frame)| frame.len() - 14).collect();
    assert_eq!(lengths, [48 + 1248, 48 + 1270 - 1248]);
}

/// A tunnel may be told to take less than any path does; then what the path takes goes whole.
#[test]
fn what_every_link_takes_is_never_cut() {
    let mut tables = tables();
    for tunnel in tables.tunnels.values_mut() {
        tunnel.mtu = 1000;
    }
    let mut gateway = Gateway::new();
    gateway.snapshot = gateway.compiler.apply(&Transaction::replacing(&tables)).unwrap();
    for (destination, overhead) in [(ANCHORED, 40), (GTPU_ANCHORED, 56)] {
        for (length, count) in [(1001, 1), (1280 - overhead, 1), (1281 - overhead, 2), (1280, 2)] {
            let out = gateway.one(CORE, &sized(REMOTE, destination, length));
            assert_eq!(
                (out.drops.len(), out.transmit.len()),
                (0, count),
                "{destination} {length}"
            );
        }
    }
}

#[test]
fn each_fragmented_packet_has_an_identification_of_its_own() {
    let mut gateway = narrow(1280);
    let mut seen = HashSet::new();
    for _ in 0..100 {
        let out = gateway.one(CORE, &sized(REMOTE, ANCHORED, 1280));
        let frame = &out.transmit[0].1[14..];
        assert!(seen.insert(fragment::read(frame).unwrap().identification));
    }
}

#[test]
fn fragments_without_room_in_front_are_dropped() {
    let mut gateway = narrow(1280);
    let frame = ethernet(CORE_MAC, ROUTER_MAC, &sized(REMOTE, ANCHORED, 1280));
    let out = gateway.cramped(CORE, &frame, 40);
    assert_eq!(out.drops, [(DropReason::NoHeadroom, 1)]);
    assert!(out.transmit.is_empty());
}

/// One gateway's fragments are another one's packets, in any order, by either tunnel.
#[test]
fn what_a_gateway_fragments_a_gateway_puts_together() {
    for (old, overhead) in [(OLD, 40), (GTPU_OLD, 56)] {
        for turned in [false, true] {
            let mut sender = narrow(1280);
            let inner = patterned(old, REMOTE, 1270);
            let out = sender.one_from(ACCESS, NODE_MAC, &inner);
            assert_eq!(out.transmit.len(), 2);
            // As from the anchor: what our node sent is in a tunnel from us; turn it round.
            let answer = patterned(REMOTE, old, 1270);
            let mut whole = match overhead {
                40 => tunnelled(PEER, OWN, &answer),
                _ => g_pdu(PEER, OWN, LOCAL_TEID, &answer),
            };
            let mut packets = cut(&mut whole, 1280);
            if turned {
                packets.reverse();
            }
            let mut gateway = Gateway::new();
            let mut output = Output::default().reassembling(bounds());
            let sent = run(&mut gateway, &mut output, &packets);
            assert_eq!(sent, [(ACCESS, ethernet(NODE_MAC, ACCESS_MAC, &hop(&answer)))]);
            let stage = |stage| gateway.pipeline.counters.stages(stage);
            assert_eq!(
                (stage(Stage::FragmentReceived), stage(Stage::Reassembled)),
                (2, 1)
            );
            assert_eq!(output.fragments(), 0);
        }
    }
}

#[test]
fn options_behind_the_fragment_header_are_put_together_too() {
    // What is fragmented begins with Destination Options, which only the first fragment shows to be in front of a packet.
    let answer = patterned(REMOTE, OLD, 1270);
    let options = [41, 0, 1, 4, 0, 0, 0, 0];
    let mut whole = ipv6(PEER, OWN, 60, 64, &[&options[..], &answer].concat());
    let mut first = whole.split_off(40);
    let second = first.split_off(800);
    let header = |field: u16| [&[60, 0][..], &field.to_be_bytes(), &[0, 0, 0, 7]].concat();
    let packets = [
        ipv6(PEER, OWN, 44, 64, &[header(1), first].concat()),
        ipv6(PEER, OWN, 44, 64, &[header(800), second].concat()),
    ];
    for order in [[0, 1], [1, 0]] {
        let mut gateway = Gateway::new();
        let mut output = Output::default().reassembling(bounds());
        let sent = run(&mut gateway, &mut output, &order.map(|at| packets[at].clone()));
        assert_eq!(sent, [(ACCESS, ethernet(NODE_MAC, ACCESS_MAC, &hop(&answer)))]);
        assert_eq!((output.punt[CORE].len(), output.fragments()), (0, 0));
    }
}

/// In fragments of so many octets at most.
fn cut(packet: &mut [u8], size: usize) -> Vec<Vec<u8>> {
    let mut first = HeapFrame::new(&[&[0; 14][..], packet].concat());
    let second = fragment::split(&mut first, size, 0x0bad_cafe).unwrap();
    [first, second].map(|frame| frame.bytes()[14..].to_vec()).into()
}

#[test]
fn an_error_about_what_came_in_fragments_is_told() {
    let answer = patterned(REMOTE, OLD, 1270);
    let mut hopless = answer.clone();
    hopless[7] = 1;
    let mut gateway = Gateway::new();
    let mut output = Output::default().reassembling(bounds());
    let packets = cut(&mut tunnelled(PEER, OWN, &hopless), 1280);
    let sent = run(&mut gateway, &mut output, &packets);
    assert_eq!(gateway.drops(DropReason::HopLimitExceeded), 1);
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].1[54..56], [3, 0]);
}

#[test]
fn fragments_of_strangers_and_of_other_protocols_are_not_ours() {
    let mut output = Output::default().reassembling(bounds());
    let stranger = cut(&mut tunnelled(REMOTE, OWN, &sized(ANCHORED, REMOTE, 1270)), 1280);
    let mut gateway = Gateway::new();
    assert!(run(&mut gateway, &mut output, &stranger).is_empty());
    assert_eq!(gateway.drops(DropReason::TunnelUnknownPeer), 2);
    // UDP of strangers, and other protocols of anyone, are the kernel's.
    let mut gateway = Gateway::new();
    for mut packet in [sized(REMOTE, OWN, 1290), ipv6(PEER, OWN, 135, 64, &[0; 1290])] {
        run(&mut gateway, &mut output, &cut(&mut packet, 1280));
    }
    assert_eq!(output.punt[CORE].len(), 4);
    assert_eq!(output.fragments(), 0);
    // From the access side nothing is tunnelled.
    for packet in cut(&mut tunnelled(NODE, OWN, &sized(ANCHORED, REMOTE, 1270)), 1280) {
        let out = Gateway::new().one_from(ACCESS, NODE_MAC, &packet);
        assert_eq!(out.drops, [(DropReason::TunnelUnknownPeer, 1)]);
    }
    // A packet that is its own only fragment is no fragment (RFC 6946).
    let inner = udp(REMOTE, OLD, 64);
    let atomic = ipv6(
        PEER,
        OWN,
        44,
        64,
        &[&[41, 0, 0, 0, 1, 2, 3, 4][..], &inner].concat(),
    );
    let out = Gateway::new().one(CORE, &atomic);
    assert_eq!(
        out.transmit,
        [(ACCESS, ethernet(NODE_MAC, ACCESS_MAC, &hop(&inner)))]
    );
}

#[test]
fn a_peer_of_gtpu_only_is_known_by_its_address_until_its_last_tunnel_is_gone() {
    let mut gateway = Gateway::new();
    let mut tables = tables();
    let other = tables.tunnels[&3].clone();
    tables.tunnels.get_mut(&3).unwrap().remote = REMOTE.parse().unwrap();
    let reassembles = |gateway: &mut Gateway| {
        let mut output = Output::default().reassembling(bounds());
        let inner = patterned(REMOTE, GTPU_OLD, 1270);
        let packets = cut(&mut g_pdu(REMOTE, OWN, LOCAL_TEID, &inner), 1280);
        run(gateway, &mut output, &packets).len() == 1
    };
    let apply = |gateway: &mut Gateway, tables| {
        gateway.snapshot = gateway.compiler.apply(&Transaction::replacing(tables)).unwrap();
    };
    assert!(!reassembles(&mut gateway));
    apply(&mut gateway, &tables);
    assert!(reassembles(&mut gateway));
    // It gets an IPv6-in-IPv6 tunnel too, and loses it.
    let mut both = tables.clone();
    let mut plain = other.clone();
    plain.encapsulation = Encapsulation::Ipv6InIpv6;
    plain.remote = REMOTE.parse().unwrap();
    both.tunnels.insert(9, plain);
    apply(&mut gateway, &both);
    assert!(reassembles(&mut gateway));
    let between = Transaction::between(&both, &tables);
    gateway.snapshot = gateway.compiler.apply(&between).unwrap();
    assert!(reassembles(&mut gateway));
    apply(&mut gateway, &core_support::tables());
    assert!(!reassembles(&mut gateway));
}

#[test]
fn bad_fragments_are_counted_by_name_and_forgotten_when_they_are_old() {
    let mut gateway = Gateway::new();
    let mut output = Output::default().reassembling(bounds());
    let packets = cut(&mut tunnelled(PEER, OWN, &sized(REMOTE, OLD, 1270)), 1280);
    let [first, second] = [&packets[0], &packets[1]];
    run(&mut gateway, &mut output, &[first.clone(), first.clone()]);
    assert_eq!(gateway.drops(DropReason::FragmentDuplicate), 1);
    let mut overlapping = second.clone();
    overlapping[43] -= 8;
    run(&mut gateway, &mut output, &[overlapping, second.clone()]);
    assert_eq!(gateway.drops(DropReason::FragmentOverlap), 3);
    let mut odd = first.clone();
    odd[5] -= 1;
    run(&mut gateway, &mut output, &[odd]);
    assert_eq!(gateway.drops(DropReason::FragmentMalformed), 1);
    let mut other = first.clone();
    other[47] ^= 1;
    run(&mut gateway, &mut output, &[other]);
    assert_eq!(output.fragments(), 1);
    gateway
        .pipeline
        .forget_fragments(CYCLES * WAIT_MS / 1000, &mut output);
    assert_eq!(
        (output.fragments(), gateway.drops(DropReason::ReassemblyTimeout)),
        (0, 1)
    );
}

/// Fragments of a flow, and those of a packet, belong to one worker, whatever queue they came by.
#[test]
fn all_fragments_of_a_flow_are_one_workers() {
    let snapshot: Snapshot = snapshot();
    let mut spreaders: Vec<Spreader> = (0..4).map(|worker| Spreader::new(worker, 4, 99)).collect();
    let mut used = HashSet::new();
    for label in 1..40u8 {
        let mut owners = HashSet::new();
        for length in [1270, 1280] {
            let mut packet = tunnelled(PEER, OWN, &sized(REMOTE, OLD, length));
            packet[3] = label;
            for fragment in cut(&mut packet, 1280) {
                for (worker, spreader) in spreaders.iter_mut().enumerate() {
                    let mut burst: ArrayVec<HeapFrame, BURST> = ArrayVec::new();
                    burst.push(HeapFrame::new(&ethernet(CORE_MAC, ROUTER_MAC, &fragment)));
                    let mut owner = worker;
                    spreader.split(&snapshot, CORE, &mut burst, |other, _| owner = other);
                    owners.insert(owner);
                }
            }
        }
        assert_eq!(owners.len(), 1, "{label}");
        used.extend(owners);
    }
    assert_eq!(used.len(), 4, "flows are shared out");
}

// The tunnel encapsulation limit (RFC 2473 section 4.1.1)

#[test]
fn the_limit_is_sent_where_it_is_configured_and_leaves_less_room() {
    let mut gateway = limited(Some(4));
    let inner = udp(REMOTE, ANCHORED, 64);
    let out = gateway.one(CORE, &inner);
    let outer = &out.transmit[0].1[14..];
    assert_eq!((outer[6], &outer[40..48]), (60, &[41, 0, 4, 1, 4, 1, 1, 0][..]));
    assert_eq!(outer[48..], hop(&inner));
    assert_eq!(
        usize::from(u16::from_be_bytes([outer[4], outer[5]])),
        8 + inner.len()
    );
    assert_eq!(gateway.compiler.tunnel_mtu(1), 1452);
    let out = gateway.one(CORE, &sized(REMOTE, ANCHORED, 1453));
    assert_eq!(
        out.transmit[0].1[54..62],
        [2, 0, out.transmit[0].1[56], out.transmit[0].1[57], 0, 0, 5, 172]
    );
    assert_eq!(
        gateway.one(CORE, &sized(REMOTE, ANCHORED, 1452)).transmit.len(),
        1
    );
    let out = gateway.one(CORE, &udp(REMOTE, GTPU_ANCHORED, 64));
    assert_eq!(out.transmit[0].1[20], 17, "not in GTP-U");
    assert_eq!(limited(None).one(CORE, &inner).transmit[0].1[20], 41);
}

#[test]
fn the_limit_of_an_inner_packet_is_heeded() {
    let nested = |limit: u8| {
        let mut packet = with_options(&tunnelled(REMOTE, ANCHORED, &udp(REMOTE, "2001:db8:77::1", 64)));
        packet[44] = limit;
        packet
    };
    for configured in [None, Some(9)] {
        let mut gateway = limited(configured);
        let out = gateway.one(CORE, &nested(3));
        let outer = &out.transmit[0].1[14..];
        assert_eq!((outer[6], outer[44]), (60, 2), "one less, whatever is configured");
        assert_eq!(outer[48..], hop(&nested(3)));
    }
    for destination in [ANCHORED, GTPU_ANCHORED] {
        let mut gateway = Gateway::new();
        let mut packet = nested(0);
        packet[24..40].copy_from_slice(&octets(destination));
        let out = gateway.one(CORE, &packet);
        assert_eq!(out.drops, [(DropReason::TunnelEncapsulationLimit, 1)]);
        let error = &out.transmit[0].1[14..];
        assert_eq!((&error[24..40], checksum(error)), (&octets(REMOTE)[..], 0));
        assert_eq!(
            (&error[40..42], &error[44..48]),
            (&[4, 0][..], &[0, 0, 0, 44][..])
        );
    }
    let mut through_gtpu = nested(3);
    through_gtpu[24..40].copy_from_slice(&octets(GTPU_ANCHORED));
    assert_eq!(Gateway::new().one(CORE, &through_gtpu).transmit[0].1[20], 17);
}

#[test]
fn every_fragment_has_the_limit() {
    let mut gateway = limited(Some(4));
    let learned = gateway
        .compiler
        .learn_path_mtu(PEER.parse().unwrap(), 1280, Instant::now());
    gateway.snapshot = learned.unwrap();
    let inner = patterned(REMOTE, ANCHORED, 1280);
    let out = gateway.one(CORE, &inner);
    assert_eq!(out.transmit.len(), 2);
    let mut content = Vec::new();
    for (_, frame) in &out.transmit {
        let packet = &frame[14..];
        assert!(packet.len() <= 1280);
        assert_eq!((packet[6], &packet[40..48]), (60, &[44, 0, 4, 1, 4, 1, 1, 0][..]));
        assert_eq!(packet[48], 41);
        content.extend_from_slice(&packet[56..]);
    }
    assert_eq!(content, hop(&inner));
    // And they are put together.
    let turned: Vec<Vec<u8>> = out
        .transmit
        .iter()
        .map(|(_, frame)| returned(&frame[14..]))
        .collect();
    let mut output = Output::default().reassembling(bounds());
    let mut exit = Gateway::new();
    run(&mut exit, &mut output, &turned);
    assert_eq!(exit.pipeline.counters.stages(Stage::Reassembled), 1);
    assert_eq!(exit.pipeline.counters.stages(Stage::Decapsulated), 1);
}

#[test]
fn gre_is_fragmented_and_put_together_like_the_others() {
    let mut gateway = narrow(1280);
    let out = gateway.one(CORE, &patterned(REMOTE, GRE_ANCHORED, 1280));
    assert_eq!(out.transmit.len(), 2, "{out:?}");
    let turned: Vec<Vec<u8>> = out
        .transmit
        .iter()
        .map(|(_, frame)| returned(&frame[14..]))
        .collect();
    let mut output = Output::default().reassembling(bounds());
    let mut exit = Gateway::new();
    run(&mut exit, &mut output, &turned);
    assert_eq!(exit.pipeline.counters.stages(Stage::Reassembled), 1);
    assert_eq!(output.fragments(), 0);
}

/// A tunnel whose peer would be reached through a tunnel leads nowhere: nothing goes round (RFC 2473 section 4.1.2).
#[test]
fn no_tunnel_goes_through_another_one_of_ours() {
    let mut gateway = Gateway::new();
    let mut tables = tables();
    let through = tables.prefixes[&"2001:db8:100:3::/64".parse().unwrap()].clone();
    tables
        .prefixes
        .insert(format!("{PEER}/128").parse().unwrap(), through);
    gateway.snapshot = gateway.compiler.apply(&Transaction::replacing(&tables)).unwrap();
    for packet in [
        udp(REMOTE, ANCHORED, 64),
        udp(REMOTE, PEER, 64),
        udp(OWN, PEER, 64),
    ] {
        let out = gateway.one(CORE, &packet);
        assert_eq!(out.drops, [(DropReason::NoRoute, 1)]);
        assert!(out.transmit.is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Each fragment that comes in is waiting, in a packet that was taken, or counted as dropped.
    #[test]
    fn no_fragment_is_lost(
        mutations in prop::collection::vec((0usize..4, 0usize..60, any::<u8>()), 0..4),
        order in prop::collection::vec(0usize..4, 1..8),
    ) {
        let mut pieces = cut(&mut tunnelled(PEER, OWN, &sized(REMOTE, OLD, 1270)), 1280);
        pieces.extend(cut(&mut g_pdu(PEER, OWN, LOCAL_TEID, &sized(REMOTE, GTPU_OLD, 1270)), 1280));
        for (which, at, value) in mutations {
            pieces[which][at] = value;
        }
        let mut gateway = Gateway::new();
        let mut output = Output::default().reassembling(bounds());
        let packets: Vec<Vec<u8>> = order.iter().map(|which| pieces[*which].clone()).collect();
        let sent = run(&mut gateway, &mut output, &packets);
        let dropped: u64 = DropReason::ALL.iter().map(|reason| gateway.drops(*reason)).sum();
        let counters = &gateway.pipeline.counters;
        let (taken, whole) = (counters.stages(Stage::FragmentReceived), counters.stages(Stage::Reassembled));
        let told = counters.stages(Stage::Icmpv6ErrorSent) + counters.stages(Stage::GtpuErrorIndicationSent);
        // Here each packet is of two fragments: those count twice as taken, and once as a packet. An error is a
        // packet more, and may have no way to where it should go.
        let ends = sent.len() as u64 + output.punt[CORE].len() as u64 + dropped;
        prop_assert_eq!(packets.len() as u64 + told - whole, ends + output.fragments() as u64);
        prop_assert!(taken >= 2 * whole);
    }
}
