//! What routers between two gateways say of packets in tunnels: the path's MTU, and what the source is told.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod core_support;

use std::time::{Duration, Instant};

use core_support::*;
use kedge_dataplane::counters::Stage;
use kedge_dataplane::drops::DropReason;
use proptest::prelude::*;

/// Whoever on the path it is.
const ROUTER: &str = "2001:db8:ca::1";

/// The outer packet that the gateway makes of a packet from the correspondent, or from the node.
fn outer(gateway: &mut Gateway, inner: &[u8]) -> Vec<u8> {
    let access = inner[8..24] == octets(OLD) || inner[8..24] == octets(GTPU_OLD);
    let out = match access {
        true => gateway.one_from(ACCESS, NODE_MAC, inner),
        false => gateway.one(CORE, inner),
    };
    let [(CORE, frame)] = &out.transmit[..] else {
        panic!("{out:?}")
    };
    frame[14..].to_vec()
}

/// As much of a packet as an error has room for.
fn quoted(packet: &[u8]) -> &[u8] {
    &packet[..packet.len().min(1280 - 48)]
}

fn too_big(mtu: u32, outer: &[u8]) -> Vec<u8> {
    let [a, b, c, d] = mtu.to_be_bytes();
    icmpv6(ROUTER, OWN, [2, 0, 0, 0, a, b, c, d], quoted(outer))
}

/// The only packet sent, which has to be an ICMPv6 error with a right checksum: where, to whom, its header, what it quotes.
fn told(out: &Outcome) -> (usize, [u8; 16], [u8; 8], Vec<u8>) {
    let [(port, frame)] = &out.transmit[..] else {
        panic!("{out:?}")
    };
    let packet = &frame[14..];
    assert!(packet.len() <= 1280);
    assert_eq!((packet[6], checksum(packet)), (58, 0), "{packet:02x?}");
    assert_eq!(packet[8..24], octets(OWN));
    (
        *port,
        packet[24..40].try_into().unwrap(),
        packet[40..48].try_into().unwrap(),
        packet[48..].to_vec(),
    )
}

#[test]
fn a_narrow_path_is_learned_and_the_source_told_what_fits_it() {
    // Into either kind of tunnel, from either side: headers that the tunnel adds, source, its port.
    let cases = [
        (ANCHORED, REMOTE, 40, CORE),
        (GTPU_ANCHORED, REMOTE, 56, CORE),
        (REMOTE, OLD, 40, ACCESS),
        (REMOTE, GTPU_OLD, 56, ACCESS),
    ];
    for (destination, source, overhead, port) in cases {
        let mut gateway = Gateway::new();
        let inner = sized(source, destination, 1440);
        let outer = outer(&mut gateway, &inner);
        assert_eq!(outer.len(), 1440 + overhead);
        let out = gateway.one(CORE, &too_big(1400, &outer));
        assert_eq!(out.too_big, [(PEER.parse().unwrap(), 1400)], "{destination}");
        let (at, to, header, quotes) = told(&out);
        assert_eq!((at, to), (port, octets(source)));
        assert_eq!(header[..2], [2, 0]);
        let mtu = u32::from_be_bytes(header[4..].try_into().unwrap());
        assert_eq!(mtu as usize, 1400 - overhead);
        // What the router quoted of the inner packet: all of an error is quoted by an error, but for its headers.
        assert_eq!(quotes, hop(&inner)[..1280 - 48 - overhead]);
        assert_eq!(gateway.pipeline.counters.stages(Stage::TunnelErrorTranslated), 1);

        // The control thread's part: from now on the gateway itself says so.
        let now = Instant::now();
        let generation = gateway.compiler.generation();
        gateway.snapshot = gateway
            .compiler
            .learn_path_mtu(PEER.parse().unwrap(), 1400, now)
            .unwrap();
        assert_eq!(gateway.compiler.generation(), generation, "no table has changed");
        let out = match port {
            CORE => gateway.one(CORE, &inner),
            _ => gateway.one_from(ACCESS, NODE_MAC, &inner),
        };
        assert_eq!(out.drops, [(DropReason::PacketTooBig, 1)]);
        assert_eq!(
            told(&out).2[4..],
            u32::try_from(1400 - overhead).unwrap().to_be_bytes()
        );
        // Another Packet Too Big for what was on the way: told, but no news.
        let out = gateway.one(CORE, &too_big(1400, &outer));
        assert!(out.too_big.is_empty() && out.transmit.len() == 1);
        let peer = PEER.parse().unwrap();
        assert!(gateway.compiler.learn_path_mtu(peer, 1400, now).is_none());
        assert!(gateway.compiler.learn_path_mtu(peer, 1500, now).is_none());
        // Ten minutes later larger ones are tried again.
        assert!(
            gateway
                .compiler
                .forget_path_mtus(now + Duration::from_secs(599))
                .is_none()
        );
        let later = now + Duration::from_secs(600);
        let (forgotten, snapshot) = gateway.compiler.forget_path_mtus(later).unwrap();
        assert_eq!(forgotten, [(peer, Some(1500))]);
        gateway.snapshot = snapshot;
        let out = match port {
            CORE => gateway.one(CORE, &inner),
            _ => gateway.one_from(ACCESS, NODE_MAC, &inner),
        };
        assert!(out.drops.is_empty());
    }
}

#[test]
fn what_is_known_of_a_path_outlives_its_tunnels() {
    use kedge_dataplane_api::Transaction;
    let mut gateway = Gateway::new();
    let peer = PEER.parse().unwrap();
    let unknown = "2001:db8:77::1".parse().unwrap();
    let now = Instant::now();
    assert!(
        gateway.compiler.learn_path_mtu(unknown, 1400, now).is_none(),
        "no peer of ours"
    );
    gateway.compiler.learn_path_mtu(peer, 1350, now).unwrap();
    let mtu = |gateway: &Gateway| {
        let mut paths = gateway.compiler.paths();
        paths
            .find(|(remote, ..)| *remote == peer)
            .map(|(_, mtu, until)| (mtu, until.is_some()))
    };
    assert_eq!(mtu(&gateway), Some((1350, true)));
    assert_eq!(gateway.compiler.tunnel_mtu(1), 1310);
    assert_eq!(gateway.compiler.tunnel_mtu(3), 1294);
    assert_eq!(gateway.compiler.tunnel_mtu(2), 1260, "as the contract says");
    gateway
        .compiler
        .apply(&Transaction::replacing(
            &kedge_dataplane_api::model::Tables::default(),
        ))
        .unwrap();
    assert_eq!(mtu(&gateway), None);
    gateway
        .compiler
        .apply(&Transaction::replacing(&tables()))
        .unwrap();
    assert_eq!(mtu(&gateway), Some((1350, true)));
}

#[test]
fn what_happens_inside_becomes_unreachable_outside() {
    let limit = |pointer: u8| [4, 0, 0, 0, 0, 0, 0, pointer];
    let cases: [(&str, [u8; 8], bool); 9] = [
        (ANCHORED, [1, 0, 0, 0, 0, 0, 0, 0], true),
        (ANCHORED, [1, 3, 0, 0, 0, 0, 0, 0], true),
        (ANCHORED, [3, 0, 0, 0, 0, 0, 0, 0], true),
        (GTPU_ANCHORED, [1, 4, 0, 0, 0, 0, 0, 0], true),
        (GTPU_ANCHORED, [3, 0, 0, 0, 0, 0, 0, 0], true),
        // Reassembly at the exit, and headers of our own, are nothing that the source could change.
        (ANCHORED, [3, 1, 0, 0, 0, 0, 0, 0], false),
        (ANCHORED, [4, 0, 0, 0, 0, 0, 0, 6], false),
        (ANCHORED, limit(44), false),
        (GTPU_ANCHORED, [4, 1, 0, 0, 0, 0, 0, 6], false),
    ];
    for (destination, header, tells) in cases {
        let mut gateway = Gateway::new();
        let inner = udp(REMOTE, destination, 64);
        let outer = outer(&mut gateway, &inner);
        let out = gateway.one(CORE, &icmpv6(ROUTER, OWN, header, &outer));
        assert!(
            out.drops.is_empty() && out.too_big.is_empty() && out.punt.is_empty(),
            "{out:?}"
        );
        if tells {
            let expected = (CORE, octets(REMOTE), [1, 3], hop(&inner));
            let (port, to, header, quotes) = told(&out);
            assert_eq!((port, to, [header[0], header[1]], quotes), expected);
        } else {
            assert!(out.transmit.is_empty(), "{header:?}");
            assert_eq!(gateway.pipeline.counters.stages(Stage::TunnelErrorTaken), 1);
        }
    }
    // Where the packet quoted has the option, and the pointer is to its value (RFC 2473 section 8.2).
    let mut gateway = Gateway::new();
    let inner = udp(REMOTE, ANCHORED, 64);
    let outer = with_options(&outer(&mut gateway, &inner));
    let out = gateway.one(CORE, &icmpv6(ROUTER, OWN, limit(44), &outer));
    assert_eq!(told(&out).2[..2], [1, 3]);
    assert_eq!(told(&out).3, hop(&inner));
}

#[test]
fn a_source_is_told_no_mtu_below_1280_and_none_for_what_is_that_small() {
    let mut gateway = Gateway::new();
    let outer_of_1300 = outer(&mut gateway, &sized(REMOTE, ANCHORED, 1300));
    let out = gateway.one(CORE, &too_big(1310, &outer_of_1300));
    assert_eq!(told(&out).2, [2, 0, told(&out).2[2], told(&out).2[3], 0, 0, 5, 0]);
    let outer_of_1280 = outer(&mut gateway, &sized(REMOTE, ANCHORED, 1280));
    let out = gateway.one(CORE, &too_big(1300, &outer_of_1280));
    assert!(out.transmit.is_empty(), "it may be that small");
    assert_eq!(
        out.too_big,
        [(PEER.parse().unwrap(), 1300)],
        "but the path is as it is"
    );
}

#[test]
fn what_cannot_be_about_a_packet_of_ours_is_dropped_and_counted() {
    let mut gateway = Gateway::new();
    let anchored = outer(&mut gateway, &sized(REMOTE, ANCHORED, 1440));
    let gtpu = outer(&mut gateway, &sized(REMOTE, GTPU_ANCHORED, 1440));
    let with = |packet: &[u8], at: usize, value: &[u8]| {
        let mut packet = packet.to_vec();
        packet[at..at + value.len()].copy_from_slice(value);
        packet
    };
    let cases = [
        ("less than any link takes", too_big(1279, &anchored)),
        ("no MTU at all", too_big(0, &anchored)),
        ("an MTU of more than 65,535", too_big(0x1_0580, &anchored)),
        ("the packet is not larger", too_big(1480, &anchored)),
        ("not from us", too_big(1400, &with(&anchored, 8, &octets(REMOTE)))),
        ("to no peer", too_big(1400, &with(&anchored, 24, &octets(REMOTE)))),
        (
            "from another end of ours",
            too_big(1400, &with(&anchored, 8, &octets(OTHER_OWN))),
        ),
        ("another TEID", too_big(1400, &with(&gtpu, 55, &[0]))),
        ("another source port", too_big(1400, &with(&gtpu, 40, &[0xc0, 0]))),
        (
            "an inner packet that does not go there",
            too_big(1400, &with(&gtpu, 56 + 24, &octets(NODE))),
        ),
        ("too little of the inner packet", too_big(1400, &gtpu[..90])),
    ];
    for (what, packet) in cases {
        let mut gateway = Gateway::new();
        let out = gateway.one(CORE, &packet);
        assert_eq!(out.drops, [(DropReason::TunnelErrorInvalid, 1)], "{what}");
        assert!(
            out.too_big.is_empty() && out.transmit.is_empty() && out.punt.is_empty(),
            "{what}"
        );
    }
    let error = icmpv6(NODE, OWN, [2, 0, 0, 0, 0, 0, 5, 120], quoted(&anchored));
    let out = Gateway::new().one_from(ACCESS, NODE_MAC, &error);
    assert_eq!(
        out.drops,
        [(DropReason::TunnelErrorInvalid, 1)],
        "no router of ours is there"
    );
    let wrong = with(&too_big(1400, &anchored), 42, &[0, 0]);
    assert_eq!(
        Gateway::new().one(CORE, &wrong).drops,
        [(DropReason::Icmpv6ChecksumWrong, 1)]
    );
    // Who quotes no inner packet is taken for somebody who knows none: routers quote 1,232 octets (RFC 4443 section 2.4).
    let out = Gateway::new().one(CORE, &too_big(1400, &anchored[..60]));
    assert!(out.drops.is_empty() && out.transmit.is_empty() && out.too_big.is_empty());
}

#[test]
fn nobody_is_told_of_a_packet_that_does_not_go_into_the_tunnel() {
    // All by the tunnel to the peer that has IPv6 in IPv6; a correspondent that never sent it would be told.
    let mut gateway = Gateway::carrying_ipv4();
    let unreachable = |inner: &[u8]| {
        icmpv6(
            ROUTER,
            OWN,
            [1, 3, 0, 0, 0, 0, 0, 0],
            &tunnelled(OWN, PEER, inner),
        )
    };
    let unreachable4 = |inner: &[u8]| {
        let quoted = ipv6(OWN, PEER, 4, 64, inner);
        icmpv6(ROUTER, OWN, [1, 3, 0, 0, 0, 0, 0, 0], &quoted)
    };
    let to4 = |to: &str| ipv4(REMOTE4, to, 17, &[], &[0, 1, 0, 2, 0, 8, 0, 0]);
    let cases = [
        (
            "to who is behind it",
            unreachable(&udp(REMOTE, ANCHORED, 64)),
            true,
        ),
        (
            "from who is anchored behind it",
            unreachable(&udp(OLD, REMOTE, 64)),
            true,
        ),
        (
            "to nobody's prefix",
            unreachable(&udp(REMOTE, "2001:db8:ffff::1", 64)),
            false,
        ),
        ("to a node here", unreachable(&udp(REMOTE, NODE, 64)), false),
        ("to us", unreachable(&udp(REMOTE, OWN, 64)), false),
        (
            "to who is behind another tunnel",
            unreachable(&udp(REMOTE, GTPU_ANCHORED, 64)),
            false,
        ),
        (
            "from who is anchored behind another",
            unreachable(&udp(GTPU_OLD, ANCHORED, 64)),
            false,
        ),
        ("from a node here", unreachable(&udp(NODE, REMOTE, 64)), false),
        (
            "nothing of it",
            unreachable(&udp(REMOTE, ANCHORED, 64)[..39]),
            false,
        ),
        ("IPv4 to who is behind it", unreachable4(&to4(CARRIED[0])), true),
        (
            "IPv4 to who is behind another",
            unreachable4(&to4(CARRIED[2])),
            false,
        ),
        ("IPv4 to nobody", unreachable4(&to4(REMOTE4)), false),
    ];
    for (what, packet, tells) in cases {
        let before = gateway.pipeline.counters.stages(Stage::TunnelErrorTaken);
        let out = gateway.one(CORE, &packet);
        assert_eq!((out.drops.len(), out.punt.len()), (0, 0), "{what}: {out:?}");
        assert_eq!(out.transmit.len(), usize::from(tells), "{what}");
        let taken = gateway.pipeline.counters.stages(Stage::TunnelErrorTaken) - before;
        assert_eq!(taken, u64::from(!tells), "{what}");
    }
    // Nor does the path become narrow by it: the two ends of a tunnel are no secret.
    let other = tunnelled(OWN, PEER, &sized(REMOTE, NODE, 1440));
    let out = gateway.one(CORE, &too_big(1400, &other));
    assert_eq!((out.too_big.len(), out.transmit.len()), (0, 0));
}

#[test]
fn who_is_sent_into_a_tunnel_by_a_filter_is_told_too() {
    use kedge_dataplane_api::Transaction;
    use kedge_dataplane_api::model::{Filter, FilterAction, Selector};
    // Of the prefix of the destination, and of the whole domain; into a tunnel of either kind.
    let scope = "2001:db8:100:4::/64".parse().unwrap();
    for (scope, tunnel) in [(Some(scope), 1), (Some(scope), 3), (None, 1), (None, 3)] {
        let mut gateway = Gateway::new();
        let filter = Filter {
            name: String::new(),
            scope,
            priority: 1,
            selector: Selector {
                protocol: Some(17),
                ..Selector::default()
            },
            action: FilterAction::Tunnel(tunnel),
            idle_timeout: 0,
            lifetime: 0,
            except_tunnel: None,
        };
        gateway.apply(&Transaction {
            put_filters: vec![(1, filter)],
            ..Transaction::default()
        });
        let inner = udp(REMOTE, NARROW, 64);
        let outer = outer(&mut gateway, &inner);
        let out = gateway.one(CORE, &icmpv6(ROUTER, OWN, [1, 3, 0, 0, 0, 0, 0, 0], &outer));
        assert_eq!(
            (told(&out).1, told(&out).3),
            (octets(REMOTE), hop(&inner)),
            "{tunnel}"
        );
    }
}

#[test]
fn errors_about_the_kernels_packets_are_the_kernels() {
    let mut gateway = Gateway::new();
    let echo = [0x32, 1, 0, 4, 0, 0, 0, 0, 0, 7, 0, 0];
    for quotes in [
        udp(OWN, PEER, 64),
        gtpu(OWN, PEER, &echo),
        ipv6(OWN, PEER, 135, 64, &[59; 8]),
    ] {
        for header in [[2, 0, 0, 0, 0, 0, 5, 0], [1, 0, 0, 0, 0, 0, 0, 0]] {
            let packet = icmpv6(ROUTER, OWN, header, &quotes);
            let out = gateway.one(CORE, &packet);
            assert_eq!(out.punt, [(CORE, ethernet(CORE_MAC, ROUTER_MAC, &packet))]);
        }
    }
    let reply = icmpv6(ROUTER, OWN, [129, 0, 0, 0, 0, 0, 0, 0], &[]);
    assert_eq!(gateway.one(CORE, &reply).punt.len(), 1);
}

#[test]
fn no_error_is_told_about_an_error_and_no_more_than_may_be() {
    let mut gateway = Gateway::new();
    let quotes = outer(&mut gateway, &icmpv6_error(REMOTE, ANCHORED));
    let out = gateway.one(CORE, &icmpv6(ROUTER, OWN, [3, 0, 0, 0, 0, 0, 0, 0], &quotes));
    assert!(out.transmit.is_empty() && out.drops.is_empty());
    let quotes = outer(&mut gateway, &udp(REMOTE, ANCHORED, 64));
    let error = icmpv6(ROUTER, OWN, [3, 0, 0, 0, 0, 0, 0, 0], &quotes);
    let sent = (0..100)
        .filter(|_| !gateway.one(CORE, &error).transmit.is_empty())
        .count();
    assert_eq!(sent, ERRORS_PER_SECOND as usize / 10);
    let suppressed = gateway.pipeline.counters.stages(Stage::Icmpv6ErrorSuppressed);
    assert_eq!(suppressed, 100 - sent as u64);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever is quoted: one packet in, one thing counted; what is told is whole and right.
    #[test]
    fn each_error_ends_in_one_counter(
        mutations in prop::collection::vec((40usize..200, any::<u8>()), 0..4),
        cut in 0usize..160,
        which in 0usize..3,
        kind in 0u8..6,
        right in any::<bool>(),
    ) {
        let mut gateway = Gateway::new();
        let destination = [ANCHORED, GTPU_ANCHORED, NARROW][which];
        let quotes = outer(&mut gateway, &sized(REMOTE, destination, 1250));
        let mut packet = icmpv6(ROUTER, OWN, [kind, 0, 0, 0, 0, 0, 5, 2], quoted(&quotes));
        for (at, value) in mutations {
            packet[at] = value;
        }
        packet.truncate(packet.len() - cut.min(cut * 8 % 1000));
        let length = u16::try_from(packet.len() - 40).unwrap().to_be_bytes();
        packet[4..6].copy_from_slice(&length);
        if right {
            packet[42..44].fill(0);
            let sum = checksum(&packet).to_be_bytes();
            packet[42..44].copy_from_slice(&sum);
        }
        let stages = |gateway: &Gateway| {
            let stage = |stage| gateway.pipeline.counters.stages(stage);
            stage(Stage::TunnelErrorTaken) + stage(Stage::TunnelErrorTranslated) + stage(Stage::Icmpv6ErrorSuppressed)
        };
        let out = gateway.one(CORE, &packet);
        let dropped: u64 = out.drops.iter().map(|(_, count)| count).sum();
        // An error that was told may have found no way to its source, and is dropped then: counted as both.
        let told = gateway.pipeline.counters.stages(Stage::TunnelErrorTranslated);
        prop_assert_eq!(out.transmit.len() as u64 + out.punt.len() as u64 + dropped + stages(&gateway) - told, 1);
    }
}
