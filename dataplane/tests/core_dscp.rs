//! Differentiated services code points of outer packets (RFC 2474, RFC 2983).

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod core_support;

use core_support::*;
use kedge_dataplane::stage::checksum::Sum;
use kedge_dataplane_api::Transaction;
use kedge_dataplane_api::model::{Dscp, Encapsulation};

/// Expedited forwarding (RFC 3246).
const EF: u8 = 46;
const CONGESTION_EXPERIENCED: u8 = 3;

/// A gateway whose tunnels all have this code point; those of IPv6 in IPv6 an encapsulation limit too, if `limit`.
fn gateway(dscp: Dscp, limit: Option<u8>) -> Gateway {
    let mut gateway = Gateway::carrying_ipv4();
    let mut tables = tables_with_ipv4();
    for tunnel in tables.tunnels.values_mut() {
        tunnel.dscp = dscp;
        if tunnel.encapsulation == Encapsulation::Ipv6InIpv6 {
            tunnel.encapsulation_limit = limit;
        }
    }
    gateway.apply(&Transaction::replacing(&tables));
    gateway
}

/// With this traffic class.
fn marked(mut packet: Vec<u8>, traffic_class: u8) -> Vec<u8> {
    packet[0] |= traffic_class >> 4;
    packet[1] |= traffic_class << 4;
    packet
}

/// With this type of service, and a checksum that is right.
fn marked4(packet: &[u8], type_of_service: u8) -> Vec<u8> {
    ipv4_changed(packet, 1, &[type_of_service])
}

fn traffic_class(packet: &[u8]) -> u8 {
    match packet[0] >> 4 {
        6 => packet[0] << 4 | packet[1] >> 4,
        _ => {
            assert!(Sum::default().octets(&packet[..20]).is_right());
            packet[1]
        }
    }
}

const CASES: [(Dscp, u8); 4] = [
    (Dscp::Is(0), 0),
    (Dscp::Is(10), 10),
    (Dscp::Is(63), 63),
    (Dscp::Copied, EF),
];

#[test]
fn outer_packets_have_that_of_their_tunnel_or_of_the_packet_within() {
    let inner = EF << 2 | CONGESTION_EXPERIENCED;
    for (dscp, outside) in CASES {
        for limit in [None, Some(4)] {
            let mut gateway = gateway(dscp, limit);
            for to in [
                ANCHORED,
                GTPU_ANCHORED,
                IPV4_ANCHORED,
                GRE_ANCHORED,
                KEYLESS_ANCHORED,
            ] {
                let packet = marked(udp(REMOTE, to, 64), inner);
                let out = gateway.one(CORE, &packet);
                let [(CORE, frame)] = &out.transmit[..] else {
                    panic!("{to}: {out:?}")
                };
                let outer = traffic_class(&frame[14..]);
                assert_eq!(outer, outside << 2 | CONGESTION_EXPERIENCED, "{dscp:?} {to}");
                // The packet within has what it had.
                assert!(frame.ends_with(&hop(&packet)), "{to}");
            }
            let ipv4 = marked4(
                &ipv4(REMOTE4, CARRIED[0], 17, &[], &[0, 1, 0, 2, 0, 8, 0, 0]),
                inner,
            );
            let out = gateway.frame(CORE, &ethernet4(CORE_MAC, ROUTER_MAC, &ipv4));
            let outer = traffic_class(&out.transmit[0].1[14..]);
            assert_eq!(outer, outside << 2 | CONGESTION_EXPERIENCED, "{dscp:?} IPv4");
        }
    }
}

#[test]
fn all_fragments_of_an_outer_packet_have_it() {
    for (dscp, outside) in CASES {
        let mut gateway = gateway(dscp, None);
        let learned = gateway
            .compiler
            .learn_path_mtu(PEER.parse().unwrap(), 1280, std::time::Instant::now());
        gateway.snapshot = learned.unwrap();
        let out = gateway.one(CORE, &marked(sized(REMOTE, ANCHORED, 1270), EF << 2));
        assert_eq!(out.transmit.len(), 2);
        for (_, frame) in &out.transmit {
            assert_eq!(traffic_class(&frame[14..]), outside << 2, "{dscp:?}");
        }
    }
}
