//! GTP-U packets in and out of a gateway: what each rule of TS 29.281 asks of it, on octets and a snapshot.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod core_support;

use core_support::*;
use kedge_dataplane::counters::Stage;
use kedge_dataplane::drops::DropReason;
use kedge_dataplane::snapshot::{Compiler, Snapshot};
use kedge_dataplane_api::Transaction;
use kedge_dataplane_api::model::Encapsulation;

/// The GTP-U message of a frame that was sent by `OWN` to `PEER`, with the port it went to.
fn message(frame: &[u8]) -> (u16, &[u8]) {
    assert_eq!(frame[..14], ethernet(ROUTER_MAC, CORE_MAC, &[])[..]);
    assert_eq!((frame[14] >> 4, frame[20]), (6, 17));
    assert_eq!(
        (&frame[22..38], &frame[38..54]),
        (&octets(OWN)[..], &octets(PEER)[..])
    );
    (u16::from_be_bytes([frame[56], frame[57]]), &frame[62..])
}

#[test]
fn a_packet_to_an_anchored_prefix_goes_out_as_a_g_pdu() {
    let packet = udp(REMOTE, GTPU_ANCHORED, 64);
    let out = Gateway::new().one(CORE, &packet);
    let [(CORE, frame)] = &out.transmit[..] else {
        panic!("{out:?}")
    };
    let (port, gtpu) = message(frame);
    assert_eq!(port, 2152);
    assert_eq!(gtpu[..2], [0x30, 255]);
    assert_eq!(gtpu[4..8], REMOTE_TEID.to_be_bytes());
    assert_eq!(gtpu[8..], hop(&packet));
}

#[test]
fn a_packet_of_the_node_from_an_older_prefix_leaves_as_a_g_pdu() {
    let packet = udp(GTPU_OLD, REMOTE, 64);
    let out = Gateway::new().one_from(ACCESS, NODE_MAC, &packet);
    let (_, gtpu) = message(&out.transmit[0].1);
    assert_eq!(gtpu[8..], hop(&packet));
}

#[test]
fn what_a_g_pdu_carries_is_delivered_or_routed() {
    let mut gateway = Gateway::new();
    let inner = udp(REMOTE, GTPU_OLD, 64);
    let container = [
        &[0x34, 255, 0, inner.len() as u8 + 8][..],
        &LOCAL_TEID.to_be_bytes(),
        &[0, 0, 0, 0x85, 1, 0, 9, 0],
        &inner,
    ]
    .concat();
    // With trailing octets, which belong to nothing.
    let trailing = [
        &[0x30, 255, 0, inner.len() as u8][..],
        &LOCAL_TEID.to_be_bytes(),
        &inner,
        &[1, 2, 3],
    ]
    .concat();
    let packets = [
        g_pdu(PEER, OWN, LOCAL_TEID, &inner),
        gtpu(PEER, OWN, &container),
        gtpu(PEER, OWN, &trailing),
    ];
    for packet in packets {
        let out = gateway.one(CORE, &packet);
        assert_eq!(
            out.transmit,
            [(ACCESS, ethernet(NODE_MAC, ACCESS_MAC, &hop(&inner)))],
            "{out:?}"
        );
    }
    let inner = udp(GTPU_ANCHORED, REMOTE, 64);
    let out = gateway.one(CORE, &g_pdu(PEER, OWN, LOCAL_TEID, &inner));
    assert_eq!(
        out.transmit,
        [(CORE, ethernet(ROUTER_MAC, CORE_MAC, &hop(&inner)))]
    );
    assert_eq!(gateway.pipeline.counters.stages(Stage::Decapsulated), 4);
}

#[test]
fn extension_headers_of_ipv6_may_stand_in_front() {
    let inner = udp(REMOTE, GTPU_OLD, 64);
    let plain = g_pdu(PEER, OWN, LOCAL_TEID, &inner);
    let mut packet = plain[..40].to_vec();
    let length = u16::from_be_bytes([packet[4], packet[5]]) + 8;
    packet[4..6].copy_from_slice(&length.to_be_bytes());
    packet[6] = 60;
    packet.extend_from_slice(&[17, 0, 1, 4, 0, 0, 0, 0]);
    packet.extend_from_slice(&plain[40..]);
    let out = Gateway::new().one(CORE, &packet);
    assert_eq!(
        out.transmit,
        [(ACCESS, ethernet(NODE_MAC, ACCESS_MAC, &hop(&inner)))],
        "{out:?}"
    );
}

#[test]
fn an_echo_request_is_answered_to_its_port_with_its_number() {
    let mut gateway = Gateway::new();
    let request = gtpu(PEER, OWN, &[0x32, 1, 0, 4, 0, 0, 0, 0, 0x12, 0x34, 0, 0]);
    let out = gateway.one(CORE, &request);
    let (port, gtpu) = message(&out.transmit[0].1);
    assert_eq!(port, 0xc123);
    assert_eq!(gtpu, [0x32, 2, 0, 6, 0, 0, 0, 0, 0x12, 0x34, 0, 0, 14, 0]);
    // From whoever asks, not from peers only (section 7.2.1), but not without end.
    let stranger = core_support::gtpu(REMOTE, OWN, &[0x32, 1, 0, 4, 0, 0, 0, 0, 0, 9, 0, 0]);
    let mut answered = 1;
    loop {
        let out = gateway.one(CORE, &stranger);
        if out.transmit.is_empty() {
            assert_eq!(out.drops, [(DropReason::PuntRateLimited, 1)]);
            break;
        }
        answered += 1;
    }
    assert_eq!(
        gateway.pipeline.counters.stages(Stage::GtpuEchoResponseSent),
        answered
    );
    assert!(answered <= u64::from(PUNTS_PER_SECOND) + 1, "{answered}");
}

#[test]
fn a_teid_that_nobody_has_is_told_to_who_used_it() {
    let mut gateway = Gateway::new();
    let packet = g_pdu(PEER, OWN, 0x0102_0304, &udp(REMOTE, GTPU_OLD, 64));
    let out = gateway.one(CORE, &packet);
    assert_eq!(out.drops, [(DropReason::GtpuTeidUnknown, 1)]);
    let (port, gtpu) = message(&out.transmit[0].1);
    assert_eq!((port, gtpu[1]), (2152, 26));
    assert_eq!(gtpu[12..17], [1, 0xc1, 0x23, 0, 16]);
    assert_eq!(gtpu[17..21], [1, 2, 3, 4]);
    // Limited, as all errors are; the packets are counted all the same.
    let sent: usize = (0..500).map(|_| gateway.one(CORE, &packet).transmit.len()).sum();
    assert!(sent <= ERRORS_PER_SECOND as usize, "{sent}");
    assert_eq!(gateway.drops(DropReason::GtpuTeidUnknown), 501);
    let counters = &gateway.pipeline.counters;
    assert_eq!(counters.stages(Stage::GtpuErrorSuppressed), 500 - sent as u64);
}

#[test]
fn an_extension_header_that_must_be_understood_is_answered_with_those_that_are() {
    let mut octets = vec![0x34, 255, 0, 8];
    octets.extend_from_slice(&LOCAL_TEID.to_be_bytes());
    octets.extend_from_slice(&[0, 0, 0, 0xc0, 1, 0, 0, 0]);
    let out = Gateway::new().one(CORE, &gtpu(PEER, OWN, &octets));
    assert_eq!(out.drops, [(DropReason::GtpuExtensionUnsupported, 1)]);
    let (port, gtpu) = message(&out.transmit[0].1);
    assert_eq!(port, 2152);
    assert_eq!(gtpu, [0x32, 31, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 141, 1, 0x85]);
}

#[test]
fn messages_about_paths_and_tunnels_are_the_control_planes() {
    for kind in [2, 26, 31, 253, 254] {
        let packet = gtpu(PEER, OWN, &[0x30, kind, 0, 0, 0, 0, 0, 0]);
        let out = Gateway::new().one(CORE, &packet);
        assert_eq!(
            out.punt,
            [(CORE, ethernet(CORE_MAC, ROUTER_MAC, &packet))],
            "{kind}"
        );
    }
    // So is UDP to any other port.
    let other = udp(PEER, OWN, 64);
    assert_eq!(Gateway::new().one(CORE, &other).punt.len(), 1);
}

#[test]
fn each_drop_has_its_name() {
    let inner = udp(REMOTE, GTPU_OLD, 64);
    let good = g_pdu(PEER, OWN, LOCAL_TEID, &inner);
    let changed = |at: usize, to: &[u8]| {
        let mut packet = good.clone();
        packet[at..at + to.len()].copy_from_slice(to);
        packet
    };
    let with = |message: &[u8]| gtpu(PEER, OWN, message);
    let own = |inner: &[u8]| g_pdu(PEER, OWN, LOCAL_TEID, inner);
    let teid = LOCAL_TEID.to_be_bytes();
    use DropReason as D;
    let cases: [(&str, usize, Vec<u8>, DropReason); 17] = [
        ("a wrong checksum", CORE, changed(60, &[9]), D::UdpChecksumWrong),
        ("none", CORE, changed(46, &[0, 0]), D::UdpChecksumZero),
        (
            "a UDP header that is cut",
            CORE,
            ipv6(PEER, OWN, 17, 64, &[0xc1, 0x23, 8, 0x68, 0, 9]),
            D::UdpMalformed,
        ),
        (
            "longer than the packet",
            CORE,
            changed(44, &[9, 9]),
            D::UdpMalformed,
        ),
        ("no GTP-U header", CORE, with(&[0x30]), D::GtpuMalformed),
        (
            "GTP'",
            CORE,
            with(&[0x20, 255, 0, 0, 0, 0, 0, 1]),
            D::GtpuVersionUnsupported,
        ),
        (
            "an unknown message",
            CORE,
            with(&[0x30, 99, 0, 0, 0, 0, 0, 0]),
            D::GtpuMessageUnknown,
        ),
        ("TEID 0", CORE, g_pdu(PEER, OWN, 0, &inner), D::GtpuTeidUnknown),
        (
            "another's TEID",
            CORE,
            g_pdu(REMOTE, OWN, LOCAL_TEID, &inner),
            D::GtpuPeerMismatch,
        ),
        (
            "to another address of ours",
            CORE,
            g_pdu(PEER, OTHER_OWN, LOCAL_TEID, &inner),
            D::GtpuPeerMismatch,
        ),
        ("IPv4 within", CORE, own(&[0x45; 40]), D::TunnelInnerIpv4),
        (
            "nothing within",
            CORE,
            with(&[&[0x30, 255, 0, 0][..], &teid].concat()),
            D::TunnelInnerMalformed,
        ),
        (
            "from a node",
            ACCESS,
            g_pdu(NODE, OWN, LOCAL_TEID, &inner),
            D::TunnelUnknownPeer,
        ),
        (
            "for a node that is the peer's no more",
            CORE,
            own(&udp(REMOTE, NODE, 64)),
            D::TunnelInnerSourceInvalid,
        ),
        (
            "GTP-U in GTP-U",
            CORE,
            own(&g_pdu(GTPU_ANCHORED, OWN, LOCAL_TEID, &inner)),
            D::TunnelNested,
        ),
        (
            "IPv6 in IPv6 in GTP-U",
            CORE,
            own(&tunnelled(GTPU_ANCHORED, OWN, &inner)),
            D::TunnelNested,
        ),
        (
            "GTP-U in IPv6",
            CORE,
            tunnelled(PEER, OWN, &g_pdu(ANCHORED, OWN, LOCAL_TEID, &inner)),
            D::TunnelNested,
        ),
    ];
    let mut seen = vec![DropReason::GtpuExtensionUnsupported];
    for (what, port, packet, reason) in cases {
        seen.push(reason);
        let from = if port == ACCESS { NODE_MAC } else { ROUTER_MAC };
        let out = Gateway::new().one_from(port, from, &packet);
        assert_eq!(out.drops, [(reason, 1)], "{what}");
        assert!(out.transmit.is_empty() && out.punt.is_empty(), "{what}: {out:?}");
    }
    assert_eq!(Gateway::new().one(CORE, &good).drops, []);
    for reason in DropReason::ALL {
        let name = reason.name();
        let ours = name.starts_with("gtpu_") || name.starts_with("udp_");
        assert!(!ours || seen.contains(&reason), "{reason:?} has no test");
    }
}

#[test]
fn what_does_not_fit_is_told_the_room_that_is_left() {
    let mut gateway = Gateway::new();
    // 1500 less IPv6, UDP and GTP-U headers: 40 + 8 + 8.
    assert!(
        gateway
            .one(CORE, &sized(REMOTE, GTPU_ANCHORED, 1444))
            .drops
            .is_empty()
    );
    let out = gateway.one(CORE, &sized(REMOTE, GTPU_ANCHORED, 1445));
    assert_eq!(out.drops, [(DropReason::PacketTooBig, 1)]);
    assert_eq!(out.transmit[0].1[58..62], 1444u32.to_be_bytes());
}

#[test]
fn a_checksum_may_be_missing_where_the_operator_says_so() {
    let mut packet = g_pdu(PEER, OWN, LOCAL_TEID, &udp(REMOTE, GTPU_OLD, 64));
    packet[46..48].copy_from_slice(&[0, 0]);
    let mut gateway = Gateway::accepting_zero_checksums();
    assert_eq!(gateway.one(CORE, &packet).transmit.len(), 1);
    // A wrong one is wrong all the same.
    packet[46..48].copy_from_slice(&[0, 1]);
    assert_eq!(
        gateway.one(CORE, &packet).drops,
        [(DropReason::UdpChecksumWrong, 1)]
    );
}

/// Tunnel 3 with sequence numbers, for so many workers.
fn numbered(workers: usize) -> Result<Snapshot, String> {
    let mut tables = tables();
    let tunnel = tables.tunnels.get_mut(&3).unwrap();
    let Encapsulation::GtpU(it) = &mut tunnel.encapsulation else {
        panic!("{tunnel:?}")
    };
    it.sequence_numbers = true;
    let ports = Gateway::new().snapshot.ports.to_vec();
    let mut compiler = Compiler::new(ports, OWN.parse().unwrap(), workers);
    compiler
        .apply(&Transaction::replacing(&tables))
        .map_err(|error| error.to_string())
}

#[test]
fn packets_are_numbered_where_asked() {
    let mut gateway = Gateway::new();
    gateway.snapshot = numbered(1).unwrap();
    for number in 0..70u16 {
        let packet = udp(REMOTE, GTPU_ANCHORED, 64);
        let out = gateway.one(CORE, &packet);
        let (_, gtpu) = message(&out.transmit[0].1);
        assert_eq!(gtpu[0], 0x32);
        assert_eq!(gtpu[8..12], [&number.to_be_bytes()[..], &[0, 0]].concat());
        assert_eq!(gtpu[12..], hop(&packet));
    }
    // Four octets less room.
    assert_eq!(gateway.one(CORE, &sized(REMOTE, GTPU_ANCHORED, 1440)).drops, []);
    let out = gateway.one(CORE, &sized(REMOTE, GTPU_ANCHORED, 1441));
    assert_eq!(out.transmit[0].1[58..62], 1440u32.to_be_bytes());
    // Each tunnel has numbers of its own, and others have none.
    let out = gateway.frame(
        CORE,
        &ethernet(CORE_MAC, ROUTER_MAC, &udp(REMOTE, IPV4_ANCHORED, 64)),
    );
    assert_eq!(out.transmit[0].1[42], 0x30);
    // Several workers would number the same tunnel each for itself.
    let refused = numbered(2).unwrap_err();
    let expected = "tunnel 3: sequence numbers need dataplane.workers to be one, and there are 2";
    assert_eq!(refused, expected);
}

#[test]
fn numbers_that_come_in_are_skipped() {
    let inner = udp(REMOTE, GTPU_OLD, 64);
    let [high, low] = (inner.len() as u16 + 4).to_be_bytes();
    let mut gateway = Gateway::new();
    // In any order: nothing is held back or dropped for its number.
    for number in [7u16, 3, 65_535, 3] {
        let head = [&[0x32, 255, high, low][..], &LOCAL_TEID.to_be_bytes()].concat();
        let octets = [&head[..], &number.to_be_bytes(), &[0, 0], &inner].concat();
        let out = gateway.one(CORE, &gtpu(PEER, OWN, &octets));
        let expected = ethernet(NODE_MAC, ACCESS_MAC, &hop(&inner));
        assert_eq!(out.transmit, [(ACCESS, expected)]);
    }
}
