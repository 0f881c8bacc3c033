//! GTP-U over IPv4 in and out of a gateway, and what of IPv4 is the kernel's, on octets and a snapshot.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod core_support;

use core_support::*;
use kedge_dataplane::counters::Stage;
use kedge_dataplane::drops::DropReason;
use kedge_dataplane::snapshot::Compiler;
use kedge_dataplane::stage::checksum::Sum;
use kedge_dataplane_api::Transaction;
use kedge_dataplane_api::model::{NextHop, PrefixEntry, Tables};

/// The GTP-U message of a frame that was sent by `OWN4` to `PEER4`, with the port it went to; its header is checked.
fn message(frame: &[u8]) -> (u16, &[u8]) {
    assert_eq!(frame[..14], ethernet4(ROUTER_MAC, CORE_MAC, &[])[..]);
    let packet = &frame[14..];
    assert_eq!((packet[0], packet[6..8].to_vec()), (0x45, vec![0x40, 0]), "DF");
    assert_eq!((packet[8], packet[9]), (64, 17));
    assert_eq!(packet[12..20], [192, 0, 2, 1, 198, 51, 100, 2]);
    assert!(Sum::default().octets(&packet[..20]).is_right());
    let length = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
    assert_eq!(length, packet.len());
    assert_eq!(
        usize::from(u16::from_be_bytes([packet[24], packet[25]])),
        length - 20
    );
    (u16::from_be_bytes([packet[22], packet[23]]), &packet[28..])
}

fn arp(operation: u8, sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4, 0, operation];
    let packet = [&head[..], &ROUTER_MAC, &sender, &[0; 6], &target].concat();
    // Padded, as Ethernet has it.
    [&CORE_MAC[..], &ROUTER_MAC[..], &[8, 6], &packet, &[0; 18]].concat()
}

fn to_core(packet: &[u8]) -> Vec<u8> {
    ethernet4(CORE_MAC, ROUTER_MAC, packet)
}

#[test]
fn a_packet_to_an_anchored_prefix_goes_out_as_a_g_pdu_over_ipv4() {
    let mut packet = udp(REMOTE, IPV4_ANCHORED, 64);
    packet[1] = 0b11 << 4;
    let out = Gateway::new().one(CORE, &packet);
    let [(CORE, frame)] = &out.transmit[..] else {
        panic!("{out:?}")
    };
    let (port, gtpu) = message(frame);
    assert_eq!(port, 2152);
    assert_eq!(
        frame[15], 0b11,
        "congestion goes outside (RFC 6040), DSCP does not"
    );
    assert_eq!(frame[14 + 26..14 + 28], [0, 0], "no checksum");
    assert_eq!(gtpu[..2], [0x30, 255]);
    assert_eq!(gtpu[4..8], REMOTE_TEID.to_be_bytes());
    assert_eq!(gtpu[8..], hop(&packet));
    // Another flow has another port.
    let mut other = packet.clone();
    other[41] ^= 1;
    let other = Gateway::new().one(CORE, &other);
    assert_ne!(other.transmit[0].1[34..36], frame[34..36]);
    assert_eq!(
        Gateway::new()
            .one_from(ACCESS, NODE_MAC, &udp(IPV4_OLD, REMOTE, 64))
            .drops,
        []
    );
}

#[test]
fn what_a_g_pdu_over_ipv4_carries_is_delivered_or_routed() {
    let mut gateway = Gateway::new();
    let inner = udp(REMOTE, IPV4_OLD, 64);
    let plain = g_pdu4(PEER4, OWN4, IPV4_LOCAL_TEID, &inner);
    let message = plain[28..].to_vec();
    let packets = [
        plain.clone(),
        gtpu4(PEER4, OWN4, &[], &message, true),
        // Router alert and the end of the options.
        gtpu4(PEER4, OWN4, &[148, 4, 0, 0, 0, 0, 0, 0], &message, true),
    ];
    for packet in packets {
        // With the padding of a short frame.
        let out = gateway.frame(CORE, &to_core(&[&packet[..], &[0; 7]].concat()));
        let expected = ethernet(NODE_MAC, ACCESS_MAC, &hop(&inner));
        assert_eq!(out.transmit, [(ACCESS, expected)], "{out:?}");
    }
    let inner = udp(IPV4_ANCHORED, REMOTE, 64);
    let out = gateway.frame(CORE, &to_core(&g_pdu4(PEER4, OWN4, IPV4_LOCAL_TEID, &inner)));
    assert_eq!(
        out.transmit,
        [(CORE, ethernet(ROUTER_MAC, CORE_MAC, &hop(&inner)))]
    );
    assert_eq!(gateway.pipeline.counters.stages(Stage::Decapsulated), 4);
    // Tagged frames too.
    let frame = to_core(&plain);
    let tagged = [&frame[..12], &[0x81, 0, 0, 100], &frame[12..]].concat();
    assert_eq!(gateway.frame(TAGGED, &tagged).drops, []);
}

#[test]
fn congestion_marks_come_in() {
    let mut inner = udp(REMOTE, IPV4_OLD, 64);
    inner[1] = 0b10 << 4;
    for (outside, expected) in [(0b11, 0b11), (0b01, 0b01), (0b00, 0b10)] {
        let packet = ipv4_changed(&g_pdu4(PEER4, OWN4, IPV4_LOCAL_TEID, &inner), 1, &[outside]);
        let out = Gateway::new().frame(CORE, &to_core(&packet));
        assert_eq!(out.transmit[0].1[15] >> 4, expected, "{outside:02b}");
    }
    inner[1] = 0;
    let packet = ipv4_changed(&g_pdu4(PEER4, OWN4, IPV4_LOCAL_TEID, &inner), 1, &[0b11]);
    let out = Gateway::new().frame(CORE, &to_core(&packet));
    assert_eq!(out.drops, [(DropReason::TunnelCongestionExperienced, 1)]);
}

#[test]
fn questions_and_errors_are_answered_over_ipv4() {
    let mut gateway = Gateway::new();
    let request = [0x32, 1, 0, 4, 0, 0, 0, 0, 0x12, 0x34, 0, 0];
    for options in [&[][..], &[148, 4, 0, 0]] {
        let out = gateway.frame(CORE, &to_core(&gtpu4(PEER4, OWN4, options, &request, true)));
        let frame = &out.transmit[0].1;
        let (port, gtpu) = message(frame);
        assert_eq!(port, 0xc123);
        assert_eq!(gtpu, [0x32, 2, 0, 6, 0, 0, 0, 0, 0x12, 0x34, 0, 0, 14, 0]);
        let sum = Sum::default().octets(&frame[26..]).number(17 + 22);
        assert!(sum.is_right(), "the answers have a checksum");
    }
    let packet = g_pdu4(PEER4, OWN4, 0x0102_0304, &udp(REMOTE, IPV4_OLD, 64));
    let out = gateway.frame(CORE, &to_core(&packet));
    assert_eq!(out.drops, [(DropReason::GtpuTeidUnknown, 1)]);
    let (port, gtpu) = message(&out.transmit[0].1);
    assert_eq!((port, &gtpu[..4]), (2152, &[0x36, 26, 0, 20][..]));
    assert_eq!(
        gtpu[12..],
        [1, 0xc1, 0x23, 0, 16, 1, 2, 3, 4, 133, 0, 4, 192, 0, 2, 1]
    );
    let octets = [
        &[0x34, 255, 0, 8][..],
        &IPV4_LOCAL_TEID.to_be_bytes(),
        &[0, 0, 0, 0xc0, 1, 0, 0, 0],
    ]
    .concat();
    let out = gateway.frame(CORE, &to_core(&gtpu4(PEER4, OWN4, &[], &octets, false)));
    assert_eq!(out.drops, [(DropReason::GtpuExtensionUnsupported, 1)]);
    assert_eq!(message(&out.transmit[0].1).1[1], 31);
}

#[test]
fn what_is_too_large_for_the_kernel_is_cut_or_told_of() {
    let sized = |length: usize, flags: u8| {
        let payload: Vec<u8> = (0..length - 20).map(|at| (at * 5 / 3) as u8).collect();
        ipv4_changed(&ipv4(PEER4, OWN4, 17, &[], &payload), 6, &[flags])
    };
    for (mtu, takes) in [(1500, 1500), (9000, 1500), (1280, 1280)] {
        let mut gateway = Gateway::new();
        let mut ports = ports();
        ports[CORE].mtu = mtu;
        gateway.snapshot.ports = ports.into();
        for flags in [0, 0x40] {
            let whole = to_core(&sized(takes, flags));
            assert_eq!(gateway.frame(CORE, &whole).punt, [(CORE, whole)]);
        }
        let packet = sized(8000, 0);
        let out = gateway.frame(CORE, &to_core(&packet));
        assert_eq!((out.drops.len(), out.punt.len()), (0, 8000usize.div_ceil(takes)));
        let mut payload = Vec::new();
        for (at, (port, frame)) in out.punt.iter().enumerate() {
            assert_eq!((*port, &frame[..14]), (CORE, &to_core(&[])[..]));
            let fragment = &frame[14..];
            assert!(fragment.len() <= takes && Sum::default().octets(&fragment[..20]).is_right());
            let more = if at + 1 < out.punt.len() { 0x2000 } else { 0 };
            let word = u16::from_be_bytes([fragment[6], fragment[7]]);
            assert_eq!(word, more | (payload.len() / 8) as u16);
            payload.extend_from_slice(&fragment[20..]);
        }
        assert_eq!(payload, packet[20..]);
        // One that may not be cut is told of, to its sender; not where it was for a group.
        let packet = sized(takes + 1, 0x40);
        let out = gateway.frame(CORE, &to_core(&packet));
        assert_eq!(
            (out.drops, out.punt.len()),
            (vec![(DropReason::PacketTooBig, 1)], 0)
        );
        let [(CORE, frame)] = &out.transmit[..] else {
            panic!("nothing was told")
        };
        let [high, low] = u16::try_from(takes).unwrap().to_be_bytes();
        assert_eq!(frame[..14], ethernet4(ROUTER_MAC, CORE_MAC, &[])[..]);
        assert_eq!(frame[14 + 12..14 + 20], [192, 0, 2, 1, 198, 51, 100, 2]);
        assert_eq!(frame[34..36], [3, 4]);
        assert_eq!(frame[38..42], [0, 0, high, low]);
        assert_eq!(frame[42..62], packet[..20]);
        let group = ipv4_changed(&packet, 16, &[224, 0, 0, 5]);
        let out = gateway.frame(CORE, &to_core(&group));
        assert_eq!(
            (out.drops, out.transmit.len()),
            (vec![(DropReason::PacketTooBig, 1)], 0)
        );
        let stages = |stage| gateway.pipeline.counters.stages(stage);
        assert_eq!(stages(Stage::Icmpv4ErrorSent), 1);
        assert_eq!(stages(Stage::Fragmented), 8000u64.div_ceil(takes as u64) - 1);
    }
}

#[test]
fn what_the_kernel_needs_is_the_kernels() {
    let own = [192, 0, 2, 1];
    let router = [192, 0, 2, 254];
    let mut gateway = Gateway::new();
    let padded = |frame: &[u8]| frame[..42].to_vec();
    for frame in [arp(1, router, own), arp(2, router, own), arp(1, router, router)] {
        assert_eq!(gateway.frame(CORE, &frame).punt, [(CORE, padded(&frame))]);
    }
    let mut broadcast = arp(1, router, own);
    broadcast[..6].copy_from_slice(&[0xff; 6]);
    assert_eq!(gateway.frame(CORE, &broadcast).punt.len(), 1);
    let ping = ipv4(PEER4, OWN4, 1, &[], &[8, 0, 0, 0, 0, 0, 0, 0]);
    let first = ipv4_changed(
        &ipv4(PEER4, OWN4, 17, &[], &[0, 53, 0, 53, 0, 99, 0, 0]),
        6,
        &[0x20, 0],
    );
    let later = |from| ipv4_changed(&g_pdu4(from, OWN4, IPV4_LOCAL_TEID, &[0x60]), 6, &[0, 9]);
    // Of a tunnel's packet, the first of which is dropped too.
    let out = gateway.frame(CORE, &to_core(&later(PEER4)));
    assert_eq!(
        (out.punt.len(), out.drops),
        (0, vec![(DropReason::TunnelFragment, 1)])
    );
    let later = later("192.0.2.7");
    let group = ipv4("192.0.2.9", "224.0.0.5", 89, &[], &[0; 20]);
    // Messages about paths.
    let answer = gtpu4(
        PEER4,
        OWN4,
        &[],
        &[0x32, 2, 0, 6, 0, 0, 0, 0, 0, 1, 0, 0, 14, 0],
        true,
    );
    for packet in [ping, first, later, group, answer] {
        let out = gateway.frame(CORE, &to_core(&packet));
        assert_eq!(out.punt, [(CORE, to_core(&packet))], "{out:?}");
    }
}

#[test]
fn each_drop_has_its_name() {
    let inner = udp(REMOTE, IPV4_OLD, 64);
    let good = g_pdu4(PEER4, OWN4, IPV4_LOCAL_TEID, &inner);
    let checked = gtpu4(PEER4, OWN4, &[], &good[28..], true);
    let changed = |packet: &[u8], at: usize, to: &[u8]| {
        let mut packet = packet.to_vec();
        packet[at..at + to.len()].copy_from_slice(to);
        packet
    };
    use DropReason as D;
    let access = ethernet4(ACCESS_MAC, NODE_MAC, &good);
    let mut access_arp = arp(1, [192, 0, 2, 9], [192, 0, 2, 1]);
    access_arp[..6].copy_from_slice(&ACCESS_MAC);
    let mut token_ring = arp(1, [192, 0, 2, 9], [192, 0, 2, 1]);
    token_ring[15] = 6;
    let core = |packet: &[u8]| (CORE, to_core(packet));
    type Case = (&'static str, (usize, Vec<u8>), DropReason);
    let cases: [Case; 20] = [
        ("IPv4 of a node", (ACCESS, access), D::EthertypeUnsupported),
        ("ARP of a node", (ACCESS, access_arp), D::EthertypeUnsupported),
        ("ARP of another link", (CORE, token_ring), D::EthertypeUnsupported),
        (
            "ARP about others",
            (CORE, arp(1, [192, 0, 2, 9], [192, 0, 2, 8])),
            D::ArpNotForUs,
        ),
        (
            "half an ARP packet",
            (CORE, arp(1, [1; 4], [2; 4])[..40].to_vec()),
            D::FrameTooShort,
        ),
        ("half a header", core(&good[..19]), D::Ipv4Malformed),
        ("IPv6 by another ethertype", core(&inner), D::Ipv4Malformed),
        (
            "a wrong header checksum",
            core(&changed(&good, 10, &[1])),
            D::Ipv4ChecksumWrong,
        ),
        (
            "to another",
            core(&g_pdu4(PEER4, "198.51.100.9", IPV4_LOCAL_TEID, &inner)),
            D::Ipv4NotForUs,
        ),
        (
            "to all",
            core(&ipv4(PEER4, "255.255.255.255", 17, &[], &[0; 8])),
            D::Ipv4NotForUs,
        ),
        (
            "to a group",
            core(&ipv4(PEER4, "239.0.0.1", 17, &[], &[0; 8])),
            D::MulticastUnsupported,
        ),
        (
            "from a group",
            core(&g_pdu4("224.0.0.1", OWN4, IPV4_LOCAL_TEID, &inner)),
            D::SourceInvalid,
        ),
        (
            "a fragment",
            core(&ipv4_changed(&good, 6, &[0x20])),
            D::TunnelFragment,
        ),
        (
            "a wrong UDP checksum",
            core(&changed(&checked, 60, &[9])),
            D::UdpChecksumWrong,
        ),
        (
            "a UDP header that is cut",
            core(&ipv4(PEER4, OWN4, 17, &[], &[0xc1, 0x23, 8, 0x68, 0, 9])),
            D::UdpMalformed,
        ),
        (
            "longer than the packet",
            core(&changed(&checked, 24, &[9, 9])),
            D::UdpMalformed,
        ),
        (
            "another's TEID",
            core(&g_pdu4("198.51.100.3", OWN4, IPV4_LOCAL_TEID, &inner)),
            D::GtpuPeerMismatch,
        ),
        (
            "the TEID of a tunnel over IPv6",
            core(&g_pdu4(PEER4, OWN4, LOCAL_TEID, &inner)),
            D::GtpuPeerMismatch,
        ),
        (
            "IPv4 within",
            core(&g_pdu4(PEER4, OWN4, IPV4_LOCAL_TEID, &[0x45; 40])),
            D::TunnelInnerIpv4,
        ),
        (
            "GTP'",
            core(&changed(&good, 28, &[0x20])),
            D::GtpuVersionUnsupported,
        ),
    ];
    let mut seen = Vec::new();
    for (what, (port, frame), reason) in cases {
        seen.push(reason);
        let out = Gateway::new().frame(port, &frame);
        assert_eq!(out.drops, [(reason, 1)], "{what}");
        assert!(out.transmit.is_empty() && out.punt.is_empty(), "{what}: {out:?}");
    }
    assert_eq!(Gateway::new().frame(CORE, &to_core(&good)).drops, []);
    for reason in [
        D::Ipv4Malformed,
        D::Ipv4ChecksumWrong,
        D::Ipv4NotForUs,
        D::ArpNotForUs,
        D::TunnelFragment,
    ] {
        assert!(seen.contains(&reason), "{reason:?} has no test");
    }
}

#[test]
fn the_two_versions_of_ip_do_not_meet() {
    // An IPv6 packet with an IPv4 address in it, either way, outside and within a tunnel.
    let target = format!("::ffff:{PEER4}");
    for packet in [
        udp(REMOTE, &target, 64),
        udp(&target, NODE, 64),
        udp(REMOTE, &format!("::ffff:{OWN4}"), 64),
    ] {
        let out = Gateway::new().one(CORE, &packet);
        assert_eq!(out.drops, [(DropReason::SourceInvalid, 1)]);
    }
    let inner = udp(IPV4_ANCHORED, &target, 64);
    let out = Gateway::new().frame(CORE, &to_core(&g_pdu4(PEER4, OWN4, IPV4_LOCAL_TEID, &inner)));
    assert_eq!(out.drops, [(DropReason::TunnelInnerSourceInvalid, 1)]);
}

/// Changed tables for the gateway.
fn with(change: impl FnOnce(&mut Tables)) -> Gateway {
    let mut gateway = Gateway::new();
    let mut tables = tables();
    change(&mut tables);
    let mut compiler = Compiler::new(gateway.snapshot.ports.to_vec(), OWN.parse().unwrap(), 1);
    gateway.snapshot = compiler.apply(&Transaction::replacing(&tables)).unwrap();
    gateway
}

#[test]
fn the_default_route_of_ipv6_is_none_for_ipv4() {
    let mut gateway = with(|tables| {
        let next_hop = NextHop::Gateway {
            port: "core".to_owned(),
            address: "2001:db8:ca::1".parse().unwrap(),
        };
        let entry = PrefixEntry {
            next_hop,
            source: None,
        };
        tables.prefixes.insert("::/0".parse().unwrap(), entry);
        tables.prefixes.remove(&"::ffff:0:0/96".parse().unwrap());
    });
    let out = gateway.one(CORE, &udp(REMOTE, IPV4_ANCHORED, 64));
    assert_eq!(out.drops, [(DropReason::NoRoute, 1)]);
    let request = gtpu4(PEER4, OWN4, &[], &[0x32, 1, 0, 4, 0, 0, 0, 0, 0, 1, 0, 0], false);
    let out = gateway.frame(CORE, &to_core(&request));
    assert_eq!(out.drops, [(DropReason::NoRoute, 1)]);
}

#[test]
fn a_neighbour_that_is_not_known_is_asked_for() {
    let mut gateway = with(|tables| {
        tables.prefixes.remove(&"::ffff:0:0/96".parse().unwrap());
        let tunnel = tables.tunnels.get_mut(&4).unwrap();
        tunnel.remote = mapped("192.0.2.77");
    });
    let out = gateway.one(CORE, &udp(REMOTE, IPV4_ANCHORED, 64));
    assert_eq!(out.drops, [(DropReason::NeighbourUnresolved, 1)]);
    assert_eq!(out.missing, [(CORE, mapped("192.0.2.77"))]);
}

#[test]
fn what_does_not_fit_is_told_the_room_that_is_left() {
    let mut gateway = Gateway::new();
    // 1500 less IPv4, UDP and GTP-U headers: 20 + 8 + 8.
    assert_eq!(gateway.one(CORE, &sized(REMOTE, IPV4_ANCHORED, 1464)).drops, []);
    let out = gateway.one(CORE, &sized(REMOTE, IPV4_ANCHORED, 1465));
    assert_eq!(out.drops, [(DropReason::PacketTooBig, 1)]);
    assert_eq!(out.transmit[0].1[58..62], 1464u32.to_be_bytes());
}
