//! IPv4 in tunnels that goes no further, by name, and what its senders are told.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod core_support;

use std::net::Ipv4Addr;

use core_support::inner_ipv4::*;
use core_support::*;
use kedge_dataplane::counters::Stage;
use kedge_dataplane::drops::DropReason;
use kedge_dataplane_api::Transaction;
use kedge_dataplane_api::model::{NextHop, PrefixEntry};

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
    let mapped = |address: &str| format!("::ffff:{address}");
    // IPv4 within takes the long way, IPv6 the short one.
    for inner in [udp4(CARRIED[3], REMOTE4), udp(IPV4_ANCHORED, REMOTE, 64)] {
        let packet = g_pdu(&mapped(PEER4), &mapped(OWN4), IPV4_LOCAL_TEID, &inner);
        let out = Gateway::carrying_ipv4().frame(CORE, &ethernet(CORE_MAC, ROUTER_MAC, &packet));
        assert!(out.transmit.is_empty(), "{:?}", out.drops);
        let packet = g_pdu4(PEER4, OWN4, IPV4_LOCAL_TEID, &inner);
        let out = Gateway::carrying_ipv4().frame(CORE, &to_core4(&packet));
        assert_eq!((out.transmit.len(), out.drops), (1, vec![]), "as it has to be");
    }
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
