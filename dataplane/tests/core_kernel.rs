//! What a gateway itself is sent: which of it a tunnel may bring, and that too much of one kind takes nothing from the others.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod core_support;

use core_support::*;
use kedge_dataplane::counters::Stage;
use kedge_dataplane::drops::DropReason;

/// A burst of a kind that may not go on for a second.
const BURST_OF_PUNTS: usize = PUNTS_PER_SECOND as usize / 10;

/// What comes by the tunnels of each type, as the peer sends it: from a node that it serves, whose prefix we anchor, to us.
fn by_each_tunnel(next_header: u8, hop_limit: u8, payload: &[u8]) -> [(Vec<u8>, Vec<u8>); 4] {
    let inner = |source| ipv6(source, OWN, next_header, hop_limit, payload);
    let core = |packet: &[u8]| ethernet(CORE_MAC, ROUTER_MAC, packet);
    [
        {
            let it = inner(ANCHORED);
            (core(&tunnelled(PEER, OWN, &it)), it)
        },
        {
            let it = inner(GTPU_ANCHORED);
            (core(&g_pdu(PEER, OWN, LOCAL_TEID, &it)), it)
        },
        {
            let it = inner(GRE_ANCHORED);
            (core(&keyed(PEER, OWN, LOCAL_KEY, &it)), it)
        },
        {
            let it = inner(IPV4_ANCHORED);
            let packet = g_pdu4(PEER4, OWN4, IPV4_LOCAL_TEID, &it);
            (ethernet4(CORE_MAC, ROUTER_MAC, &packet), it)
        },
    ]
}

/// A UDP packet, or the begin of a TCP segment, from one port to another.
fn ports(from: u16, to: u16, rest: &[u8]) -> Vec<u8> {
    [&from.to_be_bytes()[..], &to.to_be_bytes(), rest].concat()
}

/// A UDP packet to this port with this in it.
fn to_port(port: u16, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len() + 8).unwrap().to_be_bytes();
    ports(40_000, port, &[&length[..], &[0, 0], payload].concat())
}

/// Of ICMPv6, with this type.
fn icmpv6_of(kind: u8) -> Vec<u8> {
    [&[kind][..], &[0; 23]].concat()
}

/// A GTP-U message of this type.
fn message(kind: u8) -> Vec<u8> {
    to_port(2152, &[0x32, kind, 0, 4, 0, 0, 0, 0, 0, 1, 0, 0])
}

/// What is between gateways, routers, servers and neighbours: what it is, next header, hop limit, and what follows.
fn control() -> Vec<(String, u8, u8, Vec<u8>)> {
    let segment = |from, to| ports(from, to, &[0; 16]);
    let mut all = vec![
        // A Proxy Binding Update, an acknowledgement.
        (
            "Mobility Header 5".to_owned(),
            135,
            64,
            vec![59, 1, 5, 0, 0, 0, 0, 1, 0x82, 0, 0, 60, 0, 0, 0, 0],
        ),
        (
            "Mobility Header 6".to_owned(),
            135,
            64,
            vec![59, 1, 6, 0, 0, 0, 0, 1, 0, 0, 0, 60, 0, 0, 0, 0],
        ),
        (
            "DHCPv6 to a client".to_owned(),
            17,
            64,
            to_port(546, &[7, 1, 2, 3]),
        ),
        (
            "DHCPv6 to a server".to_owned(),
            17,
            64,
            to_port(547, &[12, 1, 2, 3]),
        ),
        ("BGP".to_owned(), 6, 64, segment(40_000, 179)),
        (
            "BGP, from who was called".to_owned(),
            6,
            255,
            segment(179, 40_000),
        ),
        (
            "UDP that does not say its port".to_owned(),
            17,
            64,
            vec![0x30, 0x39, 2],
        ),
        ("TCP that does not".to_owned(), 6, 64, vec![0x30]),
        ("ICMPv6 of no type".to_owned(), 58, 255, vec![]),
    ];
    for kind in [1, 2, 26, 31, 253, 254] {
        all.push((format!("GTP-U message {kind}"), 17, 64, message(kind)));
    }
    // Multicast listeners, neighbours and routers, inverse discovery, agents, certificates, multicast routers.
    for kind in (130..=149).chain(151..=153) {
        for hop_limit in [255, 64] {
            all.push((format!("ICMPv6 {kind}"), 58, hop_limit, icmpv6_of(kind)));
        }
    }
    all
}

/// What may come so: what it is, next header, and what follows.
fn welcome() -> Vec<(&'static str, u8, Vec<u8>)> {
    vec![
        ("an Echo Request", 58, icmpv6_of(128)),
        ("an Echo Reply", 58, icmpv6_of(129)),
        ("Destination Unreachable", 58, icmpv6_of(1)),
        ("Packet Too Big", 58, icmpv6_of(2)),
        ("Time Exceeded", 58, icmpv6_of(3)),
        ("Parameter Problem", 58, icmpv6_of(4)),
        ("TCP", 6, ports(40_000, 22, &[0; 16])),
        ("UDP", 17, to_port(53, &[0; 12])),
        (
            "an answer from a DHCPv6 port",
            17,
            ports(547, 40_000, &[0, 8, 0, 0]),
        ),
        ("what the kernel says it does not know", 132, vec![0; 12]),
    ]
}

#[test]
fn signalling_in_a_tunnel_does_not_come_to_the_gateway() {
    let mut gateway = Gateway::new();
    for (what, next_header, hop_limit, payload) in control() {
        for (frame, _) in by_each_tunnel(next_header, hop_limit, &payload) {
            let out = gateway.frame(CORE, &frame);
            assert_eq!(out.drops, [(DropReason::TunnelInnerControl, 1)], "{what}");
            assert!(out.punt.is_empty() && out.transmit.is_empty(), "{what}: {out:?}");
        }
    }
}

#[test]
fn nor_does_it_behind_extension_headers_or_in_fragments() {
    let mut gateway = Gateway::new();
    for (what, next_header, hop_limit, payload) in control() {
        let options = [&[next_header, 0, 1, 4, 0, 0, 0, 0][..], &payload].concat();
        let routing = [&[60, 0, 4, 0, 0, 0, 0, 0][..], &options].concat();
        let whole = [&[next_header, 0, 0, 0, 0, 0, 0, 9][..], &payload].concat();
        let first = [&[next_header, 0, 0, 1, 0, 0, 0, 9][..], &payload].concat();
        for (header, payload) in [
            (60, options),
            (0, routing.clone()),
            (43, routing),
            (44, whole),
            (44, first),
        ] {
            for (frame, _) in by_each_tunnel(header, hop_limit, &payload) {
                let out = gateway.frame(CORE, &frame);
                assert_eq!(out.drops, [(DropReason::TunnelInnerControl, 1)], "{what}");
            }
        }
    }
    // A first fragment that keeps its upper-layer header for the second one (RFC 7112).
    for next_header in [6, 17, 58] {
        let payload = [
            &[60, 0, 0, 1, 0, 0, 0, 9][..],
            &[next_header, 0, 1, 4, 0, 0, 0, 0],
        ]
        .concat();
        for (frame, _) in by_each_tunnel(44, 64, &payload) {
            let out = gateway.frame(CORE, &frame);
            assert_eq!(out.drops, [(DropReason::TunnelInnerControl, 1)], "{next_header}");
        }
    }
}

#[test]
fn what_else_a_node_sends_to_its_gateway_still_does() {
    let mut gateway = Gateway::new();
    for (what, next_header, payload) in welcome() {
        for (frame, inner) in by_each_tunnel(next_header, 64, &payload) {
            gateway.now += CYCLES;
            let out = gateway.frame(CORE, &frame);
            let expected = ethernet(CORE_MAC, ROUTER_MAC, &inner);
            assert_eq!(out.punt, [(CORE, expected)], "{what}: {out:?}");
        }
    }
    // The second part of a large Echo Request, whatever it looks like.
    for next_header in [6, 17, 58] {
        let payload = [&[next_header, 0, 4, 0, 0, 0, 0, 9][..], &[135; 64]].concat();
        for (frame, _) in by_each_tunnel(44, 64, &payload) {
            assert_eq!(gateway.frame(CORE, &frame).punt.len(), 1, "{next_header}");
        }
    }
}

#[test]
fn nobody_looks_into_what_is_for_others() {
    let mut gateway = Gateway::new();
    for (what, next_header, _, payload) in control() {
        let inner = ipv6(ANCHORED, REMOTE, next_header, 64, &payload);
        let out = gateway.one(CORE, &tunnelled(PEER, OWN, &inner));
        let expected = ethernet(ROUTER_MAC, CORE_MAC, &hop(&inner));
        assert_eq!(out.transmit, [(CORE, expected)], "{what}: {out:?}");
        let inner = ipv6(REMOTE, OLD, next_header, 64, &payload);
        let out = gateway.one(CORE, &tunnelled(PEER, OWN, &inner));
        let expected = ethernet(NODE_MAC, ACCESS_MAC, &hop(&inner));
        assert_eq!(out.transmit, [(ACCESS, expected)], "{what}: {out:?}");
    }
}

#[test]
fn off_the_wire_it_is_the_kernels() {
    let mut gateway = Gateway::new();
    for (what, next_header, hop_limit, payload) in control() {
        if next_header == 17 && payload.get(2..4) == Some(&[0x08, 0x68]) {
            // Of those core_gtpu has the rules.
            continue;
        }
        let packet = ipv6(REMOTE, OWN, next_header, hop_limit, &payload);
        gateway.now += CYCLES;
        assert_eq!(gateway.one(CORE, &packet).punt.len(), 1, "{what}");
    }
}

#[test]
fn it_is_the_same_with_ipv4_in_the_tunnel() {
    let inner = |protocol, payload: &[u8]| ipv4(CARRIED[0], OWN4, protocol, &[0; 4], payload);
    let from_peer = |inner: &[u8]| ipv6(PEER, OWN, 4, 64, inner);
    for (what, protocol, payload) in [
        ("GTP-U", 17, message(2)),
        ("BGP", 6, ports(40_000, 179, &[0; 16])),
        ("BGP, from who was called", 6, ports(179, 40_000, &[0; 16])),
        ("a Mobility Header", 135, vec![59, 0, 0, 0, 0, 0, 0, 0]),
    ] {
        let out = Gateway::carrying_ipv4().one(CORE, &from_peer(&inner(protocol, &payload)));
        assert_eq!(out.drops, [(DropReason::TunnelInnerControl, 1)], "{what}");
        assert!(out.punt.is_empty(), "{what}");
    }
    for (what, protocol, payload) in [
        ("an Echo Request", 1, vec![8, 0, 0, 0, 0, 0, 0, 0]),
        ("Destination Unreachable", 1, vec![3, 4, 0, 0, 0, 0, 0, 0]),
        ("TCP", 6, ports(40_000, 22, &[0; 16])),
        ("UDP", 17, to_port(53, &[0; 12])),
    ] {
        let inner = inner(protocol, &payload);
        let out = Gateway::carrying_ipv4().one(CORE, &from_peer(&inner));
        assert_eq!(
            out.punt,
            [(CORE, ethernet4(CORE_MAC, ROUTER_MAC, &inner))],
            "{what}: {out:?}"
        );
    }
    // A later fragment has no ports.
    let later = ipv4_changed(&inner(17, &message(2)), 6, &[0, 1]);
    assert_eq!(
        Gateway::carrying_ipv4().one(CORE, &from_peer(&later)).punt.len(),
        1
    );
}

/// One of each kind that has a limit of its own: what it is, the port by which it comes, and the frame.
fn kinds() -> Vec<(&'static str, usize, Vec<Vec<u8>>)> {
    let core = |packet: &[u8]| ethernet(CORE_MAC, ROUTER_MAC, packet);
    let access = |packet: &[u8]| ethernet(ACCESS_MAC, NODE_MAC, packet);
    let core4 = |packet: &[u8]| ethernet4(CORE_MAC, ROUTER_MAC, packet);
    let arp = [
        &CORE_MAC[..],
        &ROUTER_MAC[..],
        &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1],
        &ROUTER_MAC,
        &[192, 0, 2, 254],
        &[0; 6],
        &[192, 0, 2, 1],
    ]
    .concat();
    let solicitation = icmpv6_of(135);
    vec![
        (
            "of the access link",
            ACCESS,
            vec![
                access(&ipv6("fe80::a01", "ff02::2", 58, 255, &icmpv6_of(133))),
                access(&ipv6("fe80::a01", "fe80::1", 58, 255, &solicitation)),
                access(&ipv6(
                    "fe80::a01",
                    "ff02::1:2",
                    17,
                    1,
                    &to_port(547, &[1, 0, 0, 1]),
                )),
                access(&ipv6(NODE, OWN, 58, 255, &solicitation)),
                access(&ipv6("fe80::a01", OWN, 58, 255, &solicitation)),
            ],
        ),
        (
            "else from a node",
            ACCESS,
            vec![
                access(&udp(NODE, OWN, 64)),
                access(&ipv6(NODE, OWN, 58, 64, &solicitation)),
                access(&ipv6(NODE, OWN, 135, 64, &[59, 0, 5, 0, 0, 0, 0, 0])),
                access(&echo_request(NODE, OWN)),
            ],
        ),
        (
            "of the core link",
            CORE,
            vec![
                core(&ipv6("2001:db8:ca::1", OTHER_OWN, 58, 255, &solicitation)),
                core(&ipv6("fe80::9", "ff02::1:ff00:1", 58, 255, &solicitation)),
                core(&ipv6("::", "ff02::1:ff00:1", 58, 255, &solicitation)),
                arp,
                core4(&ipv4(ROUTER4, "224.0.0.5", 89, &[], &[0; 8])),
            ],
        ),
        (
            "signalling",
            CORE,
            vec![
                core(&ipv6(PEER, OWN, 135, 64, &[59, 0, 5, 0, 0, 0, 0, 0])),
                core(&gtpu(PEER, OWN, &[0x32, 2, 0, 6, 0, 0, 0, 0, 0, 1, 0, 0, 14, 0])),
                core(&ipv6(REMOTE, OWN, 6, 64, &ports(179, 40_000, &[0; 16]))),
                core(&ipv6(REMOTE, OWN, 6, 64, &ports(40_000, 179, &[0; 16]))),
                core(&ipv6(REMOTE, OWN, 17, 64, &to_port(546, &[7, 0, 0, 1]))),
                core(&ipv6(
                    REMOTE,
                    OWN,
                    60,
                    64,
                    &[135, 0, 1, 4, 0, 0, 0, 0, 59, 0, 5, 0, 0, 0, 0, 0],
                )),
                core4(&ipv4(ROUTER4, OWN4, 6, &[], &ports(40_000, 179, &[0; 16]))),
            ],
        ),
        (
            "else from the core",
            CORE,
            vec![
                core(&udp(REMOTE, OWN, 64)),
                core(&echo_request(REMOTE, OWN)),
                // Who is far away, and says otherwise.
                core(&ipv6(REMOTE, OWN, 58, 64, &solicitation)),
                core4(&ipv4(REMOTE4, OWN4, 1, &[], &[8, 0, 0, 0, 0, 0, 0, 0])),
                core(&tunnelled(PEER, OWN, &echo_request(ANCHORED, OWN))),
            ],
        ),
        (
            "GTP-U Echo Requests",
            CORE,
            vec![
                core(&gtpu(REMOTE, OWN, &[0x32, 1, 0, 4, 0, 0, 0, 0, 0, 9, 0, 0])),
                core4(&gtpu4(
                    PEER4,
                    OWN4,
                    &[],
                    &[0x32, 1, 0, 4, 0, 0, 0, 0, 0, 9, 0, 0],
                    true,
                )),
            ],
        ),
    ]
}

/// How many of so many are taken, one after the other.
fn taken(gateway: &mut Gateway, port: usize, frames: &[Vec<u8>], count: usize) -> usize {
    frames
        .iter()
        .cycle()
        .take(count)
        .filter(|frame| {
            let out = gateway.frame(port, frame);
            let taken = out.punt.len() + out.transmit.len();
            assert!(
                taken == 1 || out.drops == [(DropReason::PuntRateLimited, 1)],
                "{out:?}"
            );
            taken == 1
        })
        .count()
}

#[test]
fn a_flood_of_one_kind_takes_nothing_from_another() {
    for (flood, port, frames) in kinds() {
        let mut gateway = Gateway::new();
        assert_eq!(
            taken(&mut gateway, port, &frames, 1000),
            BURST_OF_PUNTS,
            "{flood}"
        );
        for (other, port, frames) in kinds() {
            if other == flood {
                continue;
            }
            let count = taken(&mut gateway, port, &frames, 1000);
            assert_eq!(count, BURST_OF_PUNTS, "{other}, when too much comes {flood}");
        }
        // All of it is counted, and the flood goes on as it may.
        let dropped = gateway.drops(DropReason::PuntRateLimited);
        assert_eq!(dropped, 6 * (1000 - BURST_OF_PUNTS as u64));
        assert_eq!(taken(&mut gateway, port, &frames, 10), 0, "{flood}");
        gateway.now += CYCLES / u64::from(PUNTS_PER_SECOND);
        assert_eq!(taken(&mut gateway, port, &frames, 10), 1, "{flood}");
    }
}

#[test]
fn who_tries_many_addresses_does_not_keep_others_from_being_told_what_fits() {
    let burst = ERRORS_PER_SECOND as usize / 10;
    let told = |gateway: &mut Gateway, port: usize, frame: &[u8]| {
        (0..100)
            .filter(|_| !gateway.frame(port, frame).transmit.is_empty())
            .count()
    };
    let core = |packet: &[u8]| ethernet(CORE_MAC, ROUTER_MAC, packet);
    let from_router = |header: [u8; 8]| {
        let outer = tunnelled(OWN, PEER, &sized(REMOTE, ANCHORED, 1400));
        core(&icmpv6("2001:db8:ca::1", OWN, header, &outer[..1200]))
    };
    let too_big = [
        core(&sized(REMOTE, ANCHORED, 1461)),
        core(&sized(REMOTE, OWN, 1501)),
        from_router([2, 0, 0, 0, 0, 0, 0x05, 0x14]),
    ];
    let others = [
        core(&udp(REMOTE, "2001:db8:100:77::1", 64)),
        core(&udp(REMOTE, NODE, 1)),
        core(&g_pdu(PEER, OWN, 0x0102_0304, &udp(REMOTE, GTPU_OLD, 64))),
        from_router([3, 0, 0, 0, 0, 0, 0, 0]),
    ];
    for flood in &others {
        for victim in &too_big {
            let mut gateway = Gateway::new();
            assert_eq!(told(&mut gateway, CORE, flood), burst);
            assert_eq!(told(&mut gateway, CORE, victim), burst);
            // The other way round neither.
            let mut gateway = Gateway::new();
            assert_eq!(told(&mut gateway, CORE, victim), burst);
            assert_eq!(told(&mut gateway, CORE, flood), burst);
            // All of one kind have one limit.
            for frame in others.iter().chain(&too_big) {
                assert_eq!(told(&mut gateway, CORE, frame), 0);
            }
        }
    }
    // Of IPv4 the same, in its own words.
    let mut gateway = Gateway::carrying_ipv4();
    let unallocated = ethernet4(
        CORE_MAC,
        ROUTER_MAC,
        &ipv4(REMOTE4, "203.0.113.99", 17, &[], &[0; 8]),
    );
    let large = ipv4_changed(&ipv4(REMOTE4, CARRIED[0], 17, &[], &[0; 1450]), 6, &[0x40]);
    assert_eq!(told(&mut gateway, CORE, &unallocated), burst);
    assert_eq!(told(&mut gateway, CORE, &core(&udp(REMOTE, NODE, 1))), 0);
    assert_eq!(
        told(&mut gateway, CORE, &ethernet4(CORE_MAC, ROUTER_MAC, &large)),
        burst
    );
    assert_eq!(told(&mut gateway, CORE, &too_big[0]), 0);
    let counters = &gateway.pipeline.counters;
    assert_eq!(
        counters.stages(Stage::Icmpv4ErrorSuppressed),
        2 * (100 - burst as u64)
    );
    assert_eq!(counters.stages(Stage::Icmpv6ErrorSuppressed), 200);
}
