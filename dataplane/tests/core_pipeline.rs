//! Packets in, packets out: one table for each rule, on octets and a snapshot, with no DPDK.
//!
//! The gateway of these tests has a core port (0), an access port (1) and a tagged core port (2). It
//! serves one node, anchors the prefix of another one that is elsewhere, and knows one peer.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod core_support;

use core_support::*;
use kedge_dataplane::drops::DropReason;
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
