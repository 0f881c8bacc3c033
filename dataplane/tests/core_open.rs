//! Packets are taken out of tunnels before anything is looked up: nothing else may become of them for that.
//!
//! The reference is the same pipeline that knows none of its own addresses beforehand, and so finds every way by
//! its tables; one whose tunnels are not known by their numbers; and one whose tunnels do not say themselves whose packets they bring.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod core_support;

use std::net::Ipv6Addr;

use arrayvec::ArrayVec;
use core_support::inner_ipv4::udp4;
use core_support::*;
use kedge_dataplane::drops::DropReason;
use kedge_dataplane::frame::{Frame, HeapFrame};
use kedge_dataplane::pipeline::{BURST, Output};
use kedge_dataplane::snapshot::{Exits, Slab};
use kedge_dataplane_api::Transaction;
use kedge_dataplane_api::model::{Encapsulation, NextHop, PrefixEntry, Tunnel};
use proptest::prelude::*;

/// Frames of all kinds, as they come from the core.
fn frames() -> Vec<Vec<u8>> {
    let (down, up) = (udp(REMOTE, OLD, 64), udp(ANCHORED, REMOTE, 64));
    let mut packets = vec![
        udp(REMOTE, NODE, 64),
        udp(REMOTE, OWN, 64),
        tunnelled(PEER, OWN, &down),
        tunnelled(PEER, OWN, &up),
        tunnelled(PEER, OTHER_OWN, &up),
        tunnelled(NARROW_PEER, OWN, &udp(NARROW, REMOTE, 64)),
        tunnelled(REMOTE, OWN, &up),
        with_options(&tunnelled(PEER, OWN, &up)),
        tunnelled(PEER, OWN, &udp(REMOTE, "2001:db8:bad::1", 64)),
        // Tunnelled twice, to the kernel, and from nobody.
        tunnelled(PEER, OWN, &tunnelled(ANCHORED, OWN, &up)),
        tunnelled(PEER, OWN, &udp(ANCHORED, OTHER_OWN, 64)),
        tunnelled(PEER, OWN, &udp("::1", NODE, 64)),
        // What is only for IPv4, in IPv6.
        tunnelled("::ffff:198.51.100.2", "::ffff:192.0.2.1", &up),
    ];
    for teid in [LOCAL_TEID, REMOTE_TEID] {
        packets.push(g_pdu(PEER, OWN, teid, &udp(GTPU_ANCHORED, REMOTE, 64)));
    }
    packets.push(keyed(PEER, OWN, LOCAL_KEY, &udp(GRE_ANCHORED, REMOTE, 64)));
    // By a number, and not as most are: from the node of the tunnel, from another one, of IPv4; from who is not its peer, and not to its end.
    let within = |anchored| {
        [
            udp(anchored, REMOTE, 64),
            udp(ANCHORED, REMOTE, 64),
            udp4("203.0.113.1", "203.0.113.2"),
        ]
    };
    for (from, to) in [(PEER, OWN), (NARROW_PEER, OWN), (PEER, OTHER_OWN)] {
        for inner in within(GTPU_ANCHORED) {
            packets.push(numbered_g_pdu(from, to, &inner));
        }
        for inner in within(GRE_ANCHORED) {
            packets.push(summed_gre(from, to, &inner));
        }
    }
    let frames = packets
        .iter()
        .map(|packet| ethernet(CORE_MAC, ROUTER_MAC, packet));
    let mut over_ipv4 = vec![g_pdu4(
        PEER4,
        OWN4,
        IPV4_LOCAL_TEID,
        &udp(IPV4_ANCHORED, REMOTE, 64),
    )];
    for (from, to) in [(PEER4, OWN4), (OWN4, OWN4), (PEER4, PEER4)] {
        let message = |inner: Vec<u8>| {
            let length = (inner.len() as u16).to_be_bytes();
            let head = [&[0x30, 255][..], &length, &IPV4_LOCAL_TEID.to_be_bytes()].concat();
            [head, inner].concat()
        };
        let all = within(IPV4_ANCHORED).map(|inner| gtpu4(from, to, &[], &message(inner), true));
        over_ipv4.extend(all);
    }
    let over_ipv4 = over_ipv4
        .iter()
        .map(|packet| ethernet4(CORE_MAC, ROUTER_MAC, packet));
    frames.chain(over_ipv4).collect()
}

/// A G-PDU with a sequence number.
fn numbered_g_pdu(from: &str, to: &str, inner: &[u8]) -> Vec<u8> {
    let length = (inner.len() as u16 + 4).to_be_bytes();
    let head = [
        &[0x32, 255][..],
        &length,
        &LOCAL_TEID.to_be_bytes(),
        &[0, 9, 0, 0],
    ]
    .concat();
    gtpu(from, to, &[&head, inner].concat())
}

/// A GRE packet with a checksum and a key.
fn summed_gre(from: &str, to: &str, inner: &[u8]) -> Vec<u8> {
    let protocol = if inner[0] >> 4 == 4 { [8, 0] } else { [0x86, 0xdd] };
    let header = [&[0xa0, 0][..], &protocol, &[0; 4], &LOCAL_KEY.to_be_bytes()].concat();
    gre(from, to, &header, inner)
}

/// What comes by its number goes the short way to its node's prefix, however its headers are: what it is counted for says so.
#[test]
fn what_has_more_headers_is_known_by_its_number_too() {
    let odd = [
        ethernet(
            CORE_MAC,
            ROUTER_MAC,
            &numbered_g_pdu(PEER, OWN, &udp(GTPU_ANCHORED, REMOTE, 64)),
        ),
        ethernet(
            CORE_MAC,
            ROUTER_MAC,
            &summed_gre(PEER, OWN, &udp(GRE_ANCHORED, REMOTE, 64)),
        ),
    ];
    for frame in odd {
        let mut gateway = Gateway::new();
        // Who asks the tunnel for its ends, or for whose packets it brings, finds nothing.
        gateway.snapshot.source_prefixes = Slab::default();
        gateway.snapshot.tunnels = Slab::default();
        let out = gateway.frame(CORE, &frame);
        assert_eq!(out.transmit.len(), 1, "{out:?}");
    }
}

/// What becomes of each of these, one after the other, and of all in one burst.
fn outcomes(mut gateway: Gateway, frames: &[Vec<u8>]) -> String {
    let mut text = String::new();
    for frame in frames {
        text += &format!("{:?}\n", gateway.frame(CORE, frame));
    }
    let mut output = Output::default();
    let mut burst: ArrayVec<HeapFrame, BURST> = ArrayVec::new();
    for frame in frames {
        burst.push(HeapFrame::new(frame));
    }
    let Gateway {
        pipeline, snapshot, ..
    } = &mut gateway;
    pipeline.process(snapshot, CORE, 0, &mut burst, &mut output);
    // Of those in tunnels the reference decides later.
    for port in output.transmit.iter_mut().chain(&mut output.punt) {
        let mut frames: Vec<Vec<u8>> = port.drain(..).map(|frame| frame.bytes().to_vec()).collect();
        frames.sort();
        text += &format!("{frames:?}\n");
    }
    // And for whom it is counted.
    for id in tables().tunnels.into_keys() {
        let of = gateway.compiler.tunnel_traffic().find(|(it, _)| *it == id);
        text += &format!("{of:?}\n");
    }
    for prefix in tables().prefixes.keys().copied() {
        text += &format!(
            "{prefix}: {:?}\n",
            gateway
                .compiler
                .prefix_total(prefix)
                .map(|it| (it.here, it.through))
        );
    }
    text
}

proptest! {
    // So few that there may be an error about each, twice: who is told of one depends on the order where not all may.
    #[test]
    fn the_way_through_the_tables_leads_to_the_same(
        chosen in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>(), 0..4u8), 1..5),
    ) {
        let all = frames();
        let frames: Vec<Vec<u8>> = chosen
            .into_iter()
            .map(|(which, place, value, change)| {
                let mut frame = which.get(&all).clone();
                // Most are as they should be, some are not.
                match change {
                    0 => {
                        let at = place.index(frame.len().min(124));
                        frame[at] = value;
                    }
                    1 => frame.truncate(place.index(frame.len()).max(1)),
                    _ => {}
                }
                frame
            })
            .collect();
        let mut reference = Gateway::new();
        prop_assert!(!reference.snapshot.endpoints.is_empty());
        reference.snapshot.endpoints.clear();
        let outcome = outcomes(Gateway::new(), &frames);
        prop_assert_eq!(&outcome, &outcomes(reference, &frames));
        // Nor is a tunnel known by its number.
        let mut reference = Gateway::new();
        reference.snapshot.exits = Exits::default();
        prop_assert_eq!(&outcome, &outcomes(reference, &frames));
        // Nor is one known to be from the node of its tunnel.
        let mut reference = Gateway::new();
        reference.snapshot.exits = Exits::default();
        reference.snapshot.source_prefixes = Slab::default();
        prop_assert_eq!(&outcome, &outcomes(reference, &frames));
    }
}

#[test]
fn a_tunnel_may_end_at_any_address_of_ours() {
    let mut gateway = Gateway::new();
    let address = |last: u16| Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0, 0, 0, 0xff, last);
    let entry = |id| PrefixEntry {
        next_hop: NextHop::Tunnel(id),
        source: None,
    };
    let prefix = |at: u16| format!("2001:db8:100:f{at:x}::/64").parse().unwrap();
    gateway.apply(&Transaction {
        put_local_addresses: (1..9).map(address).collect(),
        put_tunnels: (1..9)
            .map(|at| {
                let tunnel = Tunnel {
                    encapsulation: Encapsulation::Ipv6InIpv6,
                    local: address(at),
                    remote: Ipv6Addr::new(0x2001, 0xdb8, 0xb, 0, 0, 0, 0xff, at),
                    hop_limit: 64,
                    mtu: 0,
                    encapsulation_limit: None,
                    dscp: kedge_dataplane_api::model::Dscp::default(),
                };
                (u32::from(at) + 100, tunnel)
            })
            .collect(),
        put_prefixes: (1..9)
            .map(|at| (prefix(at), entry(u32::from(at) + 100)))
            .collect(),
        ..Transaction::default()
    });
    for at in 1..9u16 {
        let packet = udp(&format!("2001:db8:100:f{at:x}::1"), REMOTE, 64);
        let (from, to) = (format!("2001:db8:b::ff:{at}"), format!("2001:db8:a::ff:{at}"));
        let out = gateway.one(CORE, &tunnelled(&from, &to, &packet));
        assert_eq!(out.transmit.len(), 1, "{at}: {out:?}");
    }
}

#[test]
fn what_was_tunnelled_keeps_its_place_in_the_burst() {
    let mut gateway = Gateway::new();
    let packets = [
        udp(REMOTE, NODE, 64),
        tunnelled(PEER, OWN, &udp(REMOTE, OLD, 64)),
        tunnelled(PEER, OWN, &udp("::1", OLD, 64)),
        udp(REMOTE, NODE, 63),
        tunnelled(PEER, OWN, &udp(REMOTE, OLD, 63)),
    ];
    let mut burst: ArrayVec<HeapFrame, BURST> = ArrayVec::new();
    for packet in &packets {
        burst.push(HeapFrame::new(&ethernet(CORE_MAC, ROUTER_MAC, packet)));
    }
    let mut output = Output::default();
    gateway
        .pipeline
        .process(&gateway.snapshot, CORE, 0, &mut burst, &mut output);
    let expected = [
        udp(REMOTE, NODE, 64),
        udp(REMOTE, OLD, 64),
        udp(REMOTE, NODE, 63),
        udp(REMOTE, OLD, 63),
    ]
    .map(|packet| HeapFrame::new(&ethernet(NODE_MAC, ACCESS_MAC, &hop(&packet))));
    let bytes = |frames: &[HeapFrame]| -> Vec<Vec<u8>> {
        frames.iter().map(|frame| frame.bytes().to_vec()).collect()
    };
    assert_eq!(bytes(&output.transmit[ACCESS]), bytes(&expected));
}

#[test]
fn of_a_full_burst_those_go_on_that_can() {
    let mut gateway = Gateway::new();
    // By their lengths they are told apart.
    let packet = |at: usize| sized(REMOTE, if at.is_multiple_of(2) { OLD } else { NODE }, 100 + at);
    let wrong = [0, 2, 32, 34, 62];
    let mut burst: ArrayVec<HeapFrame, BURST> = ArrayVec::new();
    let mut expected = Vec::new();
    for at in 0..BURST {
        let inner = packet(at);
        let outer = if wrong.contains(&at) {
            tunnelled(PEER, OWN, &inner[..60])
        } else {
            expected.push(ethernet(NODE_MAC, ACCESS_MAC, &hop(&inner)));
            if at.is_multiple_of(2) {
                tunnelled(PEER, OWN, &inner)
            } else {
                inner
            }
        };
        burst.push(HeapFrame::new(&ethernet(CORE_MAC, ROUTER_MAC, &outer)));
    }
    let mut output = Output::default();
    gateway
        .pipeline
        .process(&gateway.snapshot, CORE, 0, &mut burst, &mut output);
    let sent: Vec<Vec<u8>> = output.transmit[ACCESS]
        .iter()
        .map(|frame| frame.bytes().to_vec())
        .collect();
    assert_eq!(sent, expected);
    let dropped = gateway.drops(DropReason::TunnelInnerMalformed);
    assert_eq!(dropped, wrong.len() as u64);
}
