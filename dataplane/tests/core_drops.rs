//! What goes no further, by name.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod core_support;

use core_support::*;
use kedge_dataplane::drops::DropReason;
use kedge_dataplane::pipeline::FRAMES;

/// Every reason to drop that a packet alone can lead to.
#[test]
fn each_drop_has_its_name() {
    use DropReason::*;
    let good = udp(REMOTE, NODE, 64);
    let cut = |packet: &[u8], length: usize| packet[..length].to_vec();
    let with = |at: usize, value: u8| {
        let mut packet = good.clone();
        packet[at] = value;
        packet
    };
    let plain = |packet: &[u8]| ethernet(CORE_MAC, ROUTER_MAC, packet);
    let nested = tunnelled(PEER, OWN, &tunnelled(ANCHORED, OWN, &udp(REMOTE, NODE, 64)));
    let mut marked = tunnelled(PEER, OWN, &udp(ANCHORED, REMOTE, 64));
    marked[1] |= 0x30;
    let cases: Vec<(usize, Vec<u8>, DropReason)> = vec![
        (CORE, cut(&plain(&good), 13), FrameTooShort),
        (CORE, ethernet([2, 9, 9, 9, 9, 9], ROUTER_MAC, &good), NotForUs),
        (CORE, ethernet([0xff; 6], ROUTER_MAC, &good), LinkLayerBroadcast),
        (
            CORE,
            ethernet([0x33, 0x33, 0, 0, 0, 1], ROUTER_MAC, &good),
            LinkLayerBroadcast,
        ),
        (TAGGED, plain(&good), VlanMismatch),
        (
            CORE,
            [
                &CORE_MAC[..],
                &ROUTER_MAC[..],
                &[0x81, 0, 0, 100, 0x86, 0xdd],
                &good,
            ]
            .concat(),
            VlanMismatch,
        ),
        (
            CORE,
            [&CORE_MAC[..], &ROUTER_MAC[..], &[0x88, 0xcc], &good].concat(),
            EthertypeUnsupported,
        ),
        (CORE, plain(&with(0, 0x40)), Ipv6Malformed),
        (CORE, plain(&cut(&good, 39)), Ipv6Malformed),
        (CORE, plain(&cut(&good, good.len() - 1)), Ipv6Malformed),
        (CORE, plain(&bad_options(OWN)), ExtensionHeaderMalformed),
        (CORE, plain(&many_options(OWN)), ExtensionHeadersTooMany),
        (CORE, plain(&udp("ff02::1", NODE, 64)), SourceInvalid),
        (CORE, plain(&udp("::1", NODE, 64)), SourceInvalid),
        (CORE, plain(&udp("::", NODE, 64)), SourceInvalid),
        (CORE, plain(&udp(REMOTE, "::1", 64)), SourceInvalid),
        (CORE, plain(&udp("fe80::9", NODE, 64)), SourceLinkLocal),
        (
            ACCESS,
            ethernet(ACCESS_MAC, NODE_MAC, &udp(REMOTE, NODE, 64)),
            SourceNotBound,
        ),
        (
            ACCESS,
            ethernet(ACCESS_MAC, [2, 0, 0, 0, 10, 99], &udp(NODE, REMOTE, 64)),
            SourceNotBound,
        ),
        (
            ACCESS,
            ethernet(ACCESS_MAC, NODE_MAC, &udp(ANCHORED, REMOTE, 64)),
            SourceNotBound,
        ),
        (CORE, plain(&udp(REMOTE, "ff05::1", 64)), MulticastUnsupported),
        (CORE, plain(&udp(REMOTE, NODE, 1)), HopLimitExceeded),
        (CORE, plain(&udp(REMOTE, "2001:db8:ffff::1", 64)), NoRoute),
        (CORE, plain(&udp(REMOTE, "2001:db8:100:2::1", 64)), NodeAbsent),
        (
            CORE,
            plain(&udp(REMOTE, "2001:db8:100:77::1", 64)),
            PrefixUnallocated,
        ),
        (CORE, plain(&udp(REMOTE, "2001:db8:bad::1", 64)), Prohibited),
        (
            CORE,
            plain(&udp(REMOTE, "2001:db8:ca::77", 64)),
            NeighbourUnresolved,
        ),
        (
            CORE,
            plain(&udp(REMOTE, "2001:db8:dead::1", 64)),
            NeighbourUnresolved,
        ),
        (
            CORE,
            plain(&tunnelled(REMOTE, OWN, &udp(ANCHORED, REMOTE, 64))),
            TunnelUnknownPeer,
        ),
        (
            CORE,
            plain(&tunnelled(PEER, OTHER_OWN, &udp(ANCHORED, REMOTE, 64))),
            TunnelUnknownPeer,
        ),
        (
            ACCESS,
            ethernet(
                ACCESS_MAC,
                NODE_MAC,
                &tunnelled(NODE, OWN, &udp(ANCHORED, REMOTE, 64)),
            ),
            TunnelUnknownPeer,
        ),
        (CORE, plain(&nested), TunnelNested),
        (
            CORE,
            plain(&tunnelled(PEER, OWN, &ipv6(ANCHORED, OWN, 135, 64, &[59; 8]))),
            TunnelInnerControl,
        ),
        (
            CORE,
            plain(&tunnelled(PEER, OWN, &[0x45; 40])),
            TunnelInnerMalformed,
        ),
        (
            CORE,
            plain(&tunnelled(PEER, OWN, &cut(&good, 30))),
            TunnelInnerMalformed,
        ),
        (
            CORE,
            plain(&tunnelled(PEER, OWN, &udp(REMOTE, NODE, 64))),
            TunnelInnerSourceInvalid,
        ),
        (
            CORE,
            plain(&tunnelled(PEER, OWN, &udp(NODE, REMOTE, 64))),
            TunnelInnerSourceInvalid,
        ),
        (
            CORE,
            plain(&tunnelled(PEER, OWN, &udp("fe80::1", OLD, 64))),
            TunnelInnerSourceInvalid,
        ),
        (CORE, plain(&marked), TunnelCongestionExperienced),
        (CORE, plain(&sized(REMOTE, NODE, 1501)), PacketTooBig),
        (CORE, plain(&sized(REMOTE, ANCHORED, 1461)), PacketTooBig),
        (QUIET, plain(&udp(REMOTE, OWN, 64)), NoExceptionInterface),
    ];
    let mut seen: Vec<DropReason> = Vec::new();
    for (port, frame, reason) in cases {
        let mut gateway = Gateway::new();
        let out = gateway.frame(port, &frame);
        assert_eq!(out.drops, [(reason, 1)], "port {port}, {frame:02x?}");
        assert!(out.punt.is_empty());
        seen.push(reason);
    }
    // The others need more than one packet, or a device: tested below and with DPDK.
    let elsewhere = [
        NoHeadroom,
        PuntRateLimited,
        OutputFull,
        TransmitQueueFull,
        MultiSegment,
        HandoverRingFull,
        TunnelErrorInvalid,
        TunnelEncapsulationLimit,
        TunnelMtuTooSmall,
    ];
    for reason in DropReason::ALL {
        // Those of GTP-U are in core_gtpu, those of what waits in core_hold and core_early, those of errors
        // in core_tunnel_errors and core_tunnel_errors_ipv4, those of IPv4 in core_ipv4 and core_inner_ipv4, of GRE in core_gre, those of filters and meters in core_flows and core_meters,
        // those of fragments in core_fragments, core_buffers and reassembly/tests.rs.
        let name = reason.name();
        if [
            "gtpu_",
            "udp_",
            "hold_",
            "unknown_",
            "path_end_",
            "icmpv6_",
            "icmpv4_",
            "ipv4_",
            "tunnel_inner_ipv4",
            "arp_",
            "gre_",
            "tunnel_fragment",
            "flow_",
            "metered_",
            "fragment",
            "reassembly_",
        ]
        .iter()
        .any(|prefix| name.starts_with(prefix))
        {
            continue;
        }
        assert!(
            seen.contains(&reason) != elsewhere.contains(&reason),
            "{reason:?} has no test"
        );
    }
}

#[test]
fn what_comes_in_a_frame_to_a_group_is_for_a_group_or_dropped() {
    let tag =
        |to: [u8; 6], vlan: u8, rest: &[u8]| [&to[..], &ROUTER_MAC[..], &[0x81, 0, 0, vlan], rest].concat();
    let ipv6_in = |packet: &[u8]| [&[0x86, 0xdd][..], packet].concat();
    for to in [[0xff; 6], [0x33, 0x33, 0xff, 0, 0, 1], [1, 0, 0x5e, 0, 0, 5]] {
        // To nodes, into tunnels, out of tunnels, to ourselves, by either version of IP, from either side.
        for (port, from, packet) in [
            (CORE, ROUTER_MAC, udp(REMOTE, NODE, 64)),
            (CORE, ROUTER_MAC, udp(REMOTE, ANCHORED, 64)),
            (CORE, ROUTER_MAC, udp(REMOTE, BEHIND_TAGGED, 64)),
            (CORE, ROUTER_MAC, tunnelled(PEER, OWN, &udp(ANCHORED, REMOTE, 64))),
            (CORE, ROUTER_MAC, udp(REMOTE, OWN, 64)),
            (ACCESS, NODE_MAC, udp(NODE, REMOTE, 64)),
        ] {
            let mut gateway = Gateway::new();
            let out = gateway.frame(port, &ethernet(to, from, &packet));
            assert_eq!(out.drops, [(DropReason::LinkLayerBroadcast, 1)], "{to:02x?}");
            assert!(out.transmit.is_empty() && out.punt.is_empty());
        }
        let packet = ipv4(REMOTE4, CARRIED[0], 17, &[], &[0; 8]);
        let mut gateway = Gateway::carrying_ipv4();
        assert_eq!(
            gateway.frame(CORE, &ethernet4(to, ROUTER_MAC, &packet)).drops,
            [(DropReason::LinkLayerBroadcast, 1)]
        );
        assert_eq!(
            gateway
                .frame(CORE, &ethernet4(CORE_MAC, ROUTER_MAC, &packet))
                .drops,
            []
        );
        // Behind a tag; that of another link is not looked behind.
        for (vlan, reason) in [
            (100, DropReason::LinkLayerBroadcast),
            (101, DropReason::VlanMismatch),
        ] {
            let frame = tag(to, vlan, &ipv6_in(&udp(REMOTE, NODE, 64)));
            assert_eq!(gateway.frame(TAGGED, &frame).drops, [(reason, 1)]);
        }
        // What neighbour discovery, DHCPv6 and routing daemons send.
        for (source, destination) in [
            ("fe80::9", "ff02::1"),
            ("fe80::9", "ff02::2"),
            ("::", "ff02::1:ff00:1"),
            ("fe80::9", "ff02::1:2"),
        ] {
            for (port, from) in [(CORE, ROUTER_MAC), (ACCESS, NODE_MAC)] {
                let frame = ethernet(to, from, &ipv6(source, destination, 58, 255, &[135; 24]));
                assert_eq!(gateway.frame(port, &frame).punt, [(port, frame)]);
            }
        }
        let frame = ethernet4(to, ROUTER_MAC, &ipv4(REMOTE4, "224.0.0.5", 89, &[], &[0; 8]));
        assert_eq!(gateway.frame(CORE, &frame).punt, [(CORE, frame)]);
        let arp = [
            &to[..],
            &ROUTER_MAC[..],
            &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1],
            &ROUTER_MAC,
            &[192, 0, 2, 254],
            &[0; 6],
            &[192, 0, 2, 1],
        ]
        .concat();
        assert_eq!(gateway.frame(CORE, &arp).punt, [(CORE, arp)]);
        // No more is read of it than there is.
        for length in 0..56 {
            let frame = &ethernet(to, ROUTER_MAC, &udp(REMOTE, NODE, 64))[..length];
            assert_eq!(gateway.frame(CORE, frame).drops.len(), 1);
        }
    }
}

#[test]
fn frames_without_room_in_front_are_dropped() {
    let mut gateway = Gateway::new();
    let out = gateway.cramped(
        CORE,
        &ethernet(CORE_MAC, ROUTER_MAC, &udp(REMOTE, ANCHORED, 64)),
        20,
    );
    assert_eq!(out.drops, [(DropReason::NoHeadroom, 1)]);
}

#[test]
fn an_output_that_is_full_drops_the_rest() {
    let mut gateway = Gateway::new();
    let frame = ethernet(ROUTER_MAC, CORE_MAC, &udp(OWN, REMOTE, 64));
    assert_eq!(
        gateway.fill_from_kernel(CORE, &frame, FRAMES + 1),
        [(DropReason::OutputFull, 1)]
    );
}
