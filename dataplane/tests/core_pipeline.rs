//! Packets in, packets out: one table for each rule, on octets and a snapshot, with no DPDK.
//!
//! The gateway of these tests has a core port (0), an access port (1) and a tagged core port (2). It
//! serves one node, anchors the prefix of another one that is elsewhere, and knows one peer.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod core_support;

use core_support::*;
use kedge_dataplane::drops::DropReason;
use kedge_dataplane::pipeline::FRAMES;
use kedge_dataplane::stage::icmpv6_error::Icmpv6Error;
use proptest::prelude::*;

#[test]
fn a_packet_to_the_node_is_delivered_on_its_link() {
    let mut gateway = Gateway::new();
    let packet = udp(REMOTE, NODE, 64);
    let out = gateway.one(CORE, &packet);
    assert_eq!(
        out.transmit,
        [(ACCESS, ethernet(NODE_MAC, ACCESS_MAC, &hop(&packet)))]
    );
}

#[test]
fn a_packet_of_the_node_is_routed_by_its_destination() {
    let mut gateway = Gateway::new();
    let packet = udp(NODE, REMOTE, 64);
    let out = gateway.one_from(ACCESS, NODE_MAC, &packet);
    assert_eq!(
        out.transmit,
        [(CORE, ethernet(ROUTER_MAC, CORE_MAC, &hop(&packet)))]
    );
}

#[test]
fn a_neighbour_on_the_core_link_gets_its_packets_itself() {
    let mut gateway = Gateway::new();
    let packet = udp(REMOTE, NEIGHBOUR, 64);
    let out = gateway.one(CORE, &packet);
    assert_eq!(
        out.transmit,
        [(CORE, ethernet(NEIGHBOUR_MAC, CORE_MAC, &hop(&packet)))]
    );
}

#[test]
fn a_packet_to_an_anchored_prefix_goes_into_the_tunnel() {
    let mut gateway = Gateway::new();
    let packet = udp(REMOTE, ANCHORED, 64);
    let out = gateway.one(CORE, &packet);
    let [(port, frame)] = &out.transmit[..] else {
        panic!("{out:?}")
    };
    assert_eq!(*port, CORE);
    assert_eq!(frame[..14], ethernet(ROUTER_MAC, CORE_MAC, &[])[..]);
    let outer = &frame[14..54];
    assert_eq!((outer[0] >> 4, outer[6], outer[7]), (6, 41, 64));
    assert_eq!(u16::from_be_bytes([outer[4], outer[5]]) as usize, packet.len());
    assert_eq!(
        (&outer[8..24], &outer[24..40]),
        (&octets(OWN)[..], &octets(PEER)[..])
    );
    assert_eq!(frame[54..], hop(&packet)[..]);
}

#[test]
fn a_packet_of_the_node_from_an_older_prefix_leaves_through_its_anchor() {
    let mut gateway = Gateway::new();
    let packet = udp(OLD, REMOTE, 64);
    let out = gateway.one_from(ACCESS, NODE_MAC, &packet);
    let [(CORE, frame)] = &out.transmit[..] else {
        panic!("{out:?}")
    };
    assert_eq!(frame[38..54], octets(PEER)[..]);
    assert_eq!(frame[54..], hop(&packet)[..]);
}

#[test]
fn what_comes_out_of_the_tunnel_is_delivered_or_routed() {
    let mut gateway = Gateway::new();
    // To the node that we serve, from the anchor of its older prefix.
    let packet = udp(REMOTE, OLD, 64);
    let out = gateway.one(CORE, &tunnelled(PEER, OWN, &packet));
    assert_eq!(
        out.transmit,
        [(ACCESS, ethernet(NODE_MAC, ACCESS_MAC, &hop(&packet)))]
    );
    // From the node that the peer serves, out of the prefix that we anchor; Linux puts options in front.
    let packet = udp(ANCHORED, REMOTE, 64);
    let out = gateway.one(CORE, &with_options(&tunnelled(PEER, OWN, &packet)));
    assert_eq!(
        out.transmit,
        [(CORE, ethernet(ROUTER_MAC, CORE_MAC, &hop(&packet)))]
    );
}

#[test]
fn the_kernel_gets_what_is_for_it_as_it_came() {
    let mut gateway = Gateway::new();
    let to_kernel = [
        udp(REMOTE, OWN, 64),
        udp("fe80::9", "fe80::1", 255),
        udp("::", "ff02::1:ff00:1", 255),
        udp("fe80::9", "ff02::2", 255),
        udp("fe80::9", OWN, 255),
        udp(PEER, OWN, 1),
    ];
    for packet in to_kernel {
        let out = gateway.one(CORE, &packet);
        assert_eq!(out.punt, [(CORE, ethernet(CORE_MAC, ROUTER_MAC, &packet))]);
        assert!(out.transmit.is_empty() && out.drops.is_empty());
    }
    // Out of a tunnel too: the node that the peer serves talks to its anchor.
    let packet = udp(ANCHORED, OWN, 64);
    let out = gateway.one(CORE, &tunnelled(PEER, OWN, &packet));
    assert_eq!(out.punt, [(CORE, ethernet(CORE_MAC, ROUTER_MAC, &packet))]);
}

#[test]
fn the_kernels_frames_leave_by_the_port() {
    let mut gateway = Gateway::new();
    let frame = ethernet(ROUTER_MAC, CORE_MAC, &udp(OWN, REMOTE, 64));
    assert_eq!(
        gateway.kernel_sends(CORE, &frame).transmit,
        [(CORE, frame.clone())]
    );
    let mut tagged = frame[..12].to_vec();
    tagged.extend_from_slice(&[0x81, 0, 0, 100]);
    tagged.extend_from_slice(&frame[12..]);
    assert_eq!(gateway.kernel_sends(TAGGED, &frame).transmit, [(TAGGED, tagged)]);
}

#[test]
fn tags_come_off_and_go_on() {
    let mut gateway = Gateway::new();
    let packet = udp(REMOTE, NODE, 64);
    let mut frame = [&CORE_MAC[..], &ROUTER_MAC[..], &[0x81, 0, 0x20, 100, 0x86, 0xdd]].concat();
    frame.extend_from_slice(&packet);
    let out = gateway.frame(TAGGED, &frame);
    assert_eq!(
        out.transmit,
        [(ACCESS, ethernet(NODE_MAC, ACCESS_MAC, &hop(&packet)))]
    );
    let packet = udp(NODE, BEHIND_TAGGED, 64);
    let out = gateway.one_from(ACCESS, NODE_MAC, &packet);
    let mut expected = [&ROUTER_MAC[..], &CORE_MAC[..], &[0x81, 0, 0, 100, 0x86, 0xdd]].concat();
    expected.extend_from_slice(&hop(&packet));
    assert_eq!(out.transmit, [(TAGGED, expected)]);
}

#[test]
fn padding_of_short_frames_is_cut() {
    let mut gateway = Gateway::new();
    let packet = udp(REMOTE, NODE, 64);
    let mut frame = ethernet(CORE_MAC, ROUTER_MAC, &packet);
    frame.extend_from_slice(&[0; 20]);
    assert_eq!(gateway.frame(CORE, &frame).transmit[0].1.len(), 14 + packet.len());
}

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
fn missing_neighbours_are_reported() {
    let mut gateway = Gateway::new();
    let out = gateway.one(CORE, &udp(REMOTE, "2001:db8:ca::77", 64));
    assert_eq!(out.missing, [(CORE, "2001:db8:ca::77".parse().unwrap())]);
    let out = gateway.one(CORE, &udp(REMOTE, "2001:db8:dead::1", 64));
    assert_eq!(
        out.missing,
        [(CORE, "2001:db8:ca::99".parse().unwrap())],
        "the gateway of the route"
    );
}

#[test]
fn the_kernel_is_not_flooded() {
    let mut gateway = Gateway::new();
    let packet = udp(REMOTE, OWN, 64);
    let taken = (0..100)
        .filter(|_| !gateway.one(CORE, &packet).punt.is_empty())
        .count();
    assert_eq!(taken, PUNTS_PER_SECOND as usize / 10);
    assert_eq!(gateway.drops(DropReason::PuntRateLimited), 100 - taken as u64);
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

#[test]
fn errors_are_told_to_the_source_with_a_right_checksum() {
    let cases = [
        (udp(REMOTE, NODE, 1), Icmpv6Error::HopLimitExceeded, [3, 0, 0, 0]),
        (
            udp(REMOTE, "2001:db8:100:77::1", 64),
            Icmpv6Error::NoRoute,
            [1, 0, 0, 0],
        ),
        (
            udp(REMOTE, "2001:db8:bad::1", 64),
            Icmpv6Error::AdministrativelyProhibited,
            [1, 1, 0, 0],
        ),
        (
            sized(REMOTE, ANCHORED, 1461),
            Icmpv6Error::PacketTooBig(1460),
            [2, 0, 0x05, 0xb4],
        ),
        (
            sized(REMOTE, NODE, 1501),
            Icmpv6Error::PacketTooBig(1500),
            [2, 0, 0x05, 0xdc],
        ),
        // The interface to the kernel takes no more, whatever the port does.
        (
            sized(REMOTE, OWN, 1501),
            Icmpv6Error::PacketTooBig(1500),
            [2, 0, 0x05, 0xdc],
        ),
        (
            sized(REMOTE, NARROW, 1290),
            Icmpv6Error::PacketTooBig(1280),
            [2, 0, 0x05, 0x00],
        ),
    ];
    for (packet, error, [kind, code, high, low]) in cases {
        let mut gateway = Gateway::new();
        let out = gateway.one(CORE, &packet);
        let [(CORE, frame)] = &out.transmit[..] else {
            panic!("{error:?}: {out:?}")
        };
        assert_eq!(frame[..12], [ROUTER_MAC, CORE_MAC].concat()[..], "{error:?}");
        let answer = &frame[14..];
        assert!(answer.len() <= 1280, "{error:?}");
        assert_eq!(
            (&answer[8..24], &answer[24..40]),
            (&octets(OWN)[..], &octets(REMOTE)[..]),
            "{error:?}"
        );
        assert_eq!(
            [answer[40], answer[41], answer[46], answer[47]],
            [kind, code, high, low],
            "{error:?}"
        );
        assert_eq!(checksum(answer), 0, "{error:?}");
        let quoted = &answer[48..];
        // The hop limit is what it was when the packet was refused.
        assert_eq!(quoted[..7], packet[..7], "{error:?}");
        assert_eq!(quoted[8..], packet[8..quoted.len()], "{error:?}");
    }
}

#[test]
fn a_node_is_told_the_mtu_of_the_tunnel_on_its_own_link() {
    let mut gateway = Gateway::new();
    let out = gateway.one_from(ACCESS, NODE_MAC, &sized(OLD, REMOTE, 1500));
    // To the older prefix of the node, which is delivered here.
    let [(ACCESS, frame)] = &out.transmit[..] else {
        panic!("{out:?}")
    };
    assert_eq!(frame[..6], NODE_MAC);
    assert_eq!(frame[54..56], [2, 0]);
}

#[test]
fn no_error_is_sent_about_errors_groups_and_nobodies() {
    for packet in [
        icmpv6_error(REMOTE, "2001:db8:ffff::1"),
        udp("::", "2001:db8:ffff::1", 64),
        udp(REMOTE, "ff05::1", 64),
    ] {
        assert!(Gateway::new().one(CORE, &packet).transmit.is_empty());
    }
    // An echo request is no error.
    assert_eq!(
        Gateway::new()
            .one(CORE, &echo_request(REMOTE, "2001:db8:ffff::1"))
            .transmit
            .len(),
        1
    );
}

#[test]
fn errors_are_limited() {
    let mut gateway = Gateway::new();
    let packet = udp(REMOTE, "2001:db8:ffff::1", 64);
    let sent = (0..100)
        .filter(|_| !gateway.one(CORE, &packet).transmit.is_empty())
        .count();
    assert_eq!(sent, ERRORS_PER_SECOND as usize / 10);
    assert_eq!(gateway.drops(DropReason::NoRoute), 100);
}

#[test]
fn congestion_marks_go_in_and_come_out() {
    let mut gateway = Gateway::new();
    let mut packet = udp(REMOTE, ANCHORED, 64);
    packet[1] |= 0b11 << 4;
    let out = gateway.one(CORE, &packet);
    assert_eq!(out.transmit[0].1[15] >> 4 & 0b11, 0b11);
    // Inner, outer, and what goes on (RFC 6040 figure 4).
    for (inside, outside, expected) in [
        (0b10, 0b11, 0b11),
        (0b10, 0b01, 0b01),
        (0b10, 0b00, 0b10),
        (0b11, 0b00, 0b11),
        (0b00, 0b01, 0b00),
    ] {
        let mut inner = udp(REMOTE, OLD, 64);
        inner[1] |= inside << 4;
        let mut outer = tunnelled(PEER, OWN, &inner);
        outer[1] |= outside << 4;
        let out = gateway.one(CORE, &outer);
        let ecn = out.transmit[0].1[15] >> 4 & 0b11;
        assert_eq!(ecn, expected, "{inside:02b} in {outside:02b}");
    }
    // What is no packet is that first.
    let mut outer = tunnelled(PEER, OWN, &udp(REMOTE, OLD, 64)[..44]);
    outer[1] |= 0b11 << 4;
    let drops = gateway.one(CORE, &outer).drops;
    assert_eq!(drops, [(DropReason::TunnelInnerMalformed, 1)]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever comes in, each frame is sent, handed to the kernel, or counted as dropped; an error
    /// takes the frame of the packet that it is about.
    #[test]
    fn no_frame_is_lost_and_none_is_made(
        port in 0usize..4,
        mutations in prop::collection::vec((0usize..160, any::<u8>()), 0..6),
        cut in 0usize..160,
        which in 0usize..8,
    ) {
        let packets = [
            udp(REMOTE, NODE, 64), udp(NODE, REMOTE, 2), tunnelled(PEER, OWN, &udp(ANCHORED, REMOTE, 64)),
            with_options(&tunnelled(PEER, OWN, &udp(REMOTE, OLD, 64))), udp(OLD, REMOTE, 64), udp(REMOTE, ANCHORED, 64),
            tunnelled(PEER, OWN, &tunnelled(PEER, OWN, &udp(ANCHORED, REMOTE, 64))), icmpv6_error(REMOTE, "2001:db8:ffff::1"),
        ];
        let (to, from) = if port == ACCESS { (ACCESS_MAC, NODE_MAC) } else { (CORE_MAC, ROUTER_MAC) };
        let mut frame = ethernet(to, from, &packets[which]);
        for (at, value) in mutations {
            if let Some(octet) = frame.get_mut(at) {
                *octet = value;
            }
        }
        frame.truncate(frame.len().saturating_sub(cut % 40));
        let mut gateway = Gateway::new();
        let out = gateway.frame(port, &frame);
        let dropped: u64 = out.drops.iter().map(|(_, count)| count).sum();
        let out_again = out.errors_sent;
        prop_assert_eq!(1 + out_again, out.transmit.len() as u64 + out.punt.len() as u64 + dropped);
    }
}
