#![allow(clippy::unwrap_used, reason = "a test")]

use std::num::NonZeroU32;

use kedge_dataplane_api::model::PduSession;
use proptest::prelude::*;

use super::*;
use crate::frame::{Frame, HeapFrame};

const LOCAL: [u8; 16] = [0x20; 16];
const REMOTE: [u8; 16] = [0x30; 16];

fn tunnel(pdu_session: Option<PduSession>) -> GtpU {
    let teid = |teid| NonZeroU32::new(teid).unwrap();
    GtpU {
        local_teid: teid(0x1111_2222),
        remote_teid: teid(0xdead_beef),
        pdu_session,
        sequence_numbers: false,
    }
}

/// An IPv6 packet with so many octets behind its header.
fn inner(payload: usize) -> Vec<u8> {
    let mut packet = vec![0x60, 0x10, 0, 0, 0, payload as u8, 59, 64];
    packet.extend_from_slice(&[0x77; 32]);
    packet.extend((0..payload).map(|at| at as u8));
    packet
}

fn encapsulated(tunnel: &GtpU, inner: &[u8]) -> Vec<u8> {
    let mut packet = vec![0xa5; overhead(tunnel)];
    packet.extend_from_slice(inner);
    assert!(encapsulate(&mut packet, &LOCAL, &REMOTE, 64, tunnel, 0));
    packet
}

/// A UDP packet for the GTP-U port, header and all.
fn udp(gtpu: &[u8]) -> Vec<u8> {
    let length = (gtpu.len() + 8) as u16;
    let mut octets = vec![0xc0, 0x01, 0x08, 0x68, 0, 0, 0, 0];
    octets[4..6].copy_from_slice(&length.to_be_bytes());
    octets.extend_from_slice(gtpu);
    octets
}

#[test]
fn a_g_pdu_octet_by_octet() {
    let packet = encapsulated(&tunnel(None), &inner(3));
    let flow = outer::flow(&inner(3)).unwrap();
    assert_eq!(
        packet[..8],
        [
            0x60,
            0x10 | (flow >> 16) as u8,
            (flow >> 8) as u8,
            flow as u8,
            0,
            59,
            17,
            64
        ]
    );
    assert_eq!((&packet[8..24], &packet[24..40]), (&LOCAL[..], &REMOTE[..]));
    assert_eq!(packet[40..42], outer::source_port(flow).to_be_bytes());
    assert_eq!(packet[42..46], [0x08, 0x68, 0, 59]);
    assert_eq!(packet[48..56], [0x30, 0xff, 0, 43, 0xde, 0xad, 0xbe, 0xef]);
    assert_eq!(packet[56..], inner(3));
    let container = PduSession {
        uplink: false,
        qfi: 9,
    };
    let packet = encapsulated(&tunnel(Some(container)), &inner(3));
    assert_eq!(packet[48..56], [0x34, 0xff, 0, 51, 0xde, 0xad, 0xbe, 0xef]);
    assert_eq!(packet[56..64], [0, 0, 0, 0x85, 1, 0x00, 9, 0]);
    let container = PduSession {
        uplink: true,
        qfi: 63,
    };
    let packet = encapsulated(&tunnel(Some(container)), &inner(3));
    assert_eq!(packet[56..64], [0, 0, 0, 0x85, 1, 0x10, 63, 0]);
    assert_eq!(packet[64..], inner(3));
}

#[test]
fn what_is_too_long_or_too_short_is_not_encapsulated() {
    let tunnel = tunnel(None);
    for length in [0, 39, 65_535 - 15] {
        let mut packet = vec![0x60; overhead(&tunnel) + length];
        assert!(
            !encapsulate(&mut packet, &LOCAL, &REMOTE, 64, &tunnel, 0),
            "{length}"
        );
    }
    let mut packet = vec![0x60; overhead(&tunnel) + 65_535 - 16];
    assert!(encapsulate(&mut packet, &LOCAL, &REMOTE, 64, &tunnel, 0));
    assert!(!encapsulate(&mut [0; 20], &LOCAL, &REMOTE, 64, &tunnel, 0));
    let into_ipv4 = |octets: usize| {
        let mut packet = vec![0x60; octets];
        encapsulate_in_ipv4(&mut packet, &LOCAL, &REMOTE, 64, &tunnel, 0)
    };
    assert!(into_ipv4(65_535));
    assert!(!into_ipv4(65_536) && !into_ipv4(20) && !into_ipv4(overhead_in_ipv4(&tunnel) + 39));
}

#[test]
fn messages_are_read() {
    let read = |gtpu: &[u8]| read(&udp(gtpu));
    let message = read(&[0x32, 1, 0, 4, 0, 0, 0, 0, 0x12, 0x34, 0, 0]).unwrap();
    assert_eq!(
        (message.kind, message.teid, message.sequence),
        (1, 0, Some(0x1234))
    );
    assert_eq!(
        (message.offset, message.end, message.source_port),
        (20, 20, 0xc001)
    );
    // With PN alone, the four octets are there, and none of the others means anything.
    let message = read(&[0x31, 255, 0, 5, 0, 0, 0, 7, 0xff, 0xff, 9, 0x85, 0x60]).unwrap();
    assert_eq!(
        (message.teid, message.sequence, message.offset, message.end),
        (7, None, 20, 21)
    );
    // Two containers, and one that nobody has to understand.
    let octets = [
        0x34, 255, 0, 17, 0, 0, 0, 7, 0, 0, 0, 0x85, 1, 0, 9, 0x20, 1, 1, 2, 0x85, 1, 16, 9, 0, 0x60,
    ];
    assert_eq!(read(&octets).unwrap().offset, 32);
    // What is behind the message in the UDP packet is no part of it.
    let message = read(&[0x30, 254, 0, 0, 0, 0, 0, 7, 1, 2, 3]).unwrap();
    assert_eq!((message.kind, message.offset, message.end), (254, 16, 16));
}

#[test]
fn what_is_wrong_with_a_message_is_said() {
    let said = |gtpu: &[u8]| read(&udp(gtpu)).unwrap_err();
    assert_eq!(said(&[]), Problem::Malformed);
    assert_eq!(said(&[0x30, 255, 0, 0, 0, 0, 0]), Problem::Malformed);
    assert_eq!(
        said(&[0x30, 255, 0, 1, 0, 0, 0, 1]),
        Problem::Malformed,
        "longer than it is"
    );
    assert_eq!(
        said(&[0x20, 255, 0, 0, 0, 0, 0, 1]),
        Problem::VersionUnsupported,
        "GTP'"
    );
    assert_eq!(said(&[0x50, 255, 0, 0, 0, 0, 0, 1]), Problem::VersionUnsupported);
    assert_eq!(
        said(&[0x32, 255, 0, 3, 0, 0, 0, 1, 0, 0, 0]),
        Problem::Malformed,
        "optional part cut"
    );
    // No length, a length of zero, one that runs past the end: none of them is walked for ever.
    assert_eq!(
        said(&[0x36, 0xff, 0, 0x34, 0, 0, 0, 1, 0, 0, 0, 0xff, 0]),
        Problem::Malformed
    );
    let zero = [0x34, 255, 0, 8, 0, 0, 0, 1, 0, 0, 0, 0x20, 0, 0, 0, 0x20];
    assert_eq!(said(&zero), Problem::Malformed);
    let long = [0x34, 255, 0, 8, 0, 0, 0, 1, 0, 0, 0, 0x20, 2, 0, 0, 0];
    assert_eq!(said(&long), Problem::Malformed);
    assert_eq!(
        said(&[0x34, 255, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0x20]),
        Problem::Malformed
    );
    for kind in [0x81, 0x84, 0xc0, 0xc1] {
        let octets = [0x34, 255, 0, 8, 0, 0, 0, 1, 0, 0, 0, kind, 1, 0, 0, 0];
        assert!(matches!(said(&octets), Problem::ExtensionUnsupported(it) if it.teid == 1));
    }
    for kind in [0x01, 0x03, 0x20, 0x40, 0x7f] {
        let octets = [0x34, 255, 0, 8, 0, 0, 0, 1, 0, 0, 0, kind, 1, 0, 0, 0];
        assert_eq!(read(&udp(&octets)).unwrap().offset, 24, "{kind:#x}");
    }
    let mut short = udp(&[0x30, 255, 0, 0, 0, 0, 0, 1]);
    assert_eq!(read(&short[..7]), Err(Problem::UdpMalformed));
    short[5] = 7;
    assert_eq!(
        read(&short),
        Err(Problem::UdpMalformed),
        "shorter than its own header"
    );
    short[5] = 17;
    assert_eq!(read(&short), Err(Problem::UdpMalformed), "longer than the packet");
}

/// The answer to a message in a frame, from its UDP header on.
fn answered(what: Answer, sequence: Option<u16>) -> Vec<u8> {
    let mut frame = HeapFrame::new(&[0xa5; 70]);
    let message = Message {
        kind: 1,
        teid: 0xdead_beef,
        sequence,
        source_port: 0xc001,
        offset: 0,
        end: 0,
    };
    let (source, destination) = (u128::from_be_bytes(REMOTE), u128::from_be_bytes(LOCAL));
    assert!(answer(&mut frame, what, &message, source, destination));
    let packet = &frame.bytes()[14..];
    assert_eq!((&packet[8..24], &packet[24..40]), (&LOCAL[..], &REMOTE[..]));
    let length = u16::from_be_bytes([packet[4], packet[5]]);
    assert_eq!((usize::from(length), packet[6]), (packet.len() - 40, 17));
    assert_eq!(packet[44..46], packet[4..6], "UDP's length is IPv6's");
    let sum = Sum::default()
        .octets(&packet[8..])
        .number(length.into())
        .number(17);
    assert!(sum.is_right());
    packet[40..].to_vec()
}

#[test]
fn answers_octet_by_octet() {
    let echo = answered(Answer::EchoResponse, Some(0x1234));
    assert_eq!(
        echo[..4],
        [0x08, 0x68, 0xc0, 0x01],
        "back to the port of the request"
    );
    assert_eq!(echo[8..], [0x32, 2, 0, 6, 0, 0, 0, 0, 0x12, 0x34, 0, 0, 14, 0]);
    let error = answered(Answer::ErrorIndication, None);
    assert_eq!(error[..4], [0x08, 0x68, 0x08, 0x68]);
    assert_eq!(error[8..20], [0x36, 26, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0x40]);
    assert_eq!(error[20..29], [1, 0xc0, 0x01, 0, 16, 0xde, 0xad, 0xbe, 0xef]);
    assert_eq!(error[29..32], [133, 0, 16]);
    assert_eq!(error[32..], LOCAL, "where the G-PDU was sent to");
    let list = answered(Answer::SupportedExtensionHeadersNotification, None);
    assert_eq!(list[8..], [0x32, 31, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 141, 1, 0x85]);
}

#[test]
fn keys_are_no_addresses_of_peers() {
    let source = u128::from_be_bytes(REMOTE);
    assert_eq!(key(u32::MAX, source) >> 120, 0xff, "a multicast address");
    assert_eq!(key(7, source) >> 84 & 0xffff_ffff, 7);
    assert_ne!(key(7, source), key(7, source + 1));
    assert_ne!(key(7, source), key(7, source + (1 << 64)));
    assert_ne!(key(7, source), key(8, source));
}

proptest! {
    #[test]
    fn what_is_encapsulated_is_read(payload in 0usize..200, uplink: bool, qfi in 0u8..64, with: bool) {
        let tunnel = tunnel(with.then_some(PduSession { uplink, qfi }));
        let packet = encapsulated(&tunnel, &inner(payload));
        let message = read(&packet[40..]).unwrap();
        prop_assert_eq!((message.kind, message.teid), (255, 0xdead_beef));
        prop_assert_eq!(&packet[40 + message.offset..40 + message.end], &inner(payload)[..]);
        prop_assert_eq!(peek_teid(&packet[40..]), Some(0xdead_beef));
        let length = (packet.len() - 40) as u64;
        prop_assert!(Sum::default().octets(&packet[8..]).number(length).number(17).is_right());
    }

    #[test]
    fn no_octets_are_too_strange(octets in prop::collection::vec(any::<u8>(), 0..80), flags in 0x30u8..0x38) {
        let mut packet = udp(&octets);
        if packet.len() > 8 {
            packet[8] = flags;
        }
        if let Ok(message) = read(&packet) {
            prop_assert!(message.offset <= message.end && message.end <= packet.len());
        }
        let _ = read(&octets);
    }
}

/// As the RFCs say it, field by field.
fn slow_in_ipv4(tunnel: &GtpU, inner: &[u8], sequence: u16) -> Vec<u8> {
    let mut plain = vec![0xa5; overhead(tunnel)];
    plain.extend_from_slice(inner);
    assert!(encapsulate(&mut plain, &LOCAL, &REMOTE, 64, tunnel, sequence));
    let udp = &plain[IPV6_HEADER..];
    let length = (20 + udp.len()) as u16;
    let mut packet = vec![0x45, inner[1] >> 4 & 3];
    packet.extend(length.to_be_bytes());
    packet.extend([0, 0, 0x40, 0, 64, 17, 0, 0, 10, 1, 2, 3, 10, 4, 5, 6]);
    let checksum = Sum::default().octets(&packet).checksum();
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    packet.extend_from_slice(udp);
    packet[26..28].fill(0);
    packet
}

proptest! {
    #[test]
    fn over_ipv4_it_is_the_slow_one(
        payload in 0usize..200,
        traffic_class: u8,
        session in prop::option::of((any::<bool>(), 0u8..64)),
        sequence in prop::option::of(any::<u16>()),
    ) {
        let session = session.map(|(uplink, qfi)| PduSession { uplink, qfi });
        let (mut tunnel, mut inner) = (tunnel(session), inner(payload));
        tunnel.sequence_numbers = sequence.is_some();
        let sequence = sequence.unwrap_or_default();
        inner[1] = traffic_class;
        let mapped = |address: [u8; 4]| crate::stage::ipv4::mapped(address).to_be_bytes();
        let mut packet = vec![0xa5; overhead_in_ipv4(&tunnel)];
        packet.extend_from_slice(&inner);
        let (local, remote) = (mapped([10, 1, 2, 3]), mapped([10, 4, 5, 6]));
        let mut plain = packet.clone();
        prop_assert!(encapsulate_in_ipv4(&mut packet, &local, &remote, 64, &tunnel, sequence));
        prop_assert_eq!(&packet, &slow_in_ipv4(&tunnel, &inner, sequence));
        if is_plain(&tunnel) {
            prop_assert!(encapsulate_plain_in_ipv4(&mut plain, &local, &remote, 64, &tunnel));
            prop_assert_eq!(&plain, &packet);
        }
    }

    #[test]
    fn plain_headers_are_those_of_any_tunnel(inner in prop::collection::vec(any::<u8>(), 0..300), hop_limit: u8) {
        let tunnel = tunnel(None);
        let packet = |front: usize| [&vec![0xa5; front][..], &inner].concat();
        let (mut plain, mut any) = (packet(overhead(&tunnel)), packet(overhead(&tunnel)));
        prop_assert_eq!(
            encapsulate_plain(&mut plain, &LOCAL, &REMOTE, hop_limit, &tunnel),
            encapsulate(&mut any, &LOCAL, &REMOTE, hop_limit, &tunnel, 0)
        );
        prop_assert_eq!(plain, any);
        let (mut plain, mut any) = (packet(overhead_in_ipv4(&tunnel)), packet(overhead_in_ipv4(&tunnel)));
        prop_assert_eq!(
            encapsulate_plain_in_ipv4(&mut plain, &LOCAL, &REMOTE, hop_limit, &tunnel),
            encapsulate_in_ipv4(&mut any, &LOCAL, &REMOTE, hop_limit, &tunnel, 0)
        );
        prop_assert_eq!(plain, any);
    }
}

#[test]
fn what_is_too_short_or_too_long_has_no_plain_headers() {
    let tunnel = tunnel(None);
    for length in [0, 55, 95, 70_000] {
        assert!(!encapsulate_plain(
            &mut vec![0x60; length],
            &LOCAL,
            &REMOTE,
            64,
            &tunnel
        ));
    }
    for length in [0, 35, 75, 70_000] {
        assert!(!encapsulate_plain_in_ipv4(
            &mut vec![0x60; length],
            &LOCAL,
            &REMOTE,
            64,
            &tunnel
        ));
    }
}

/// Section 5.1: with S, E or both, all four octets are there.
#[test]
fn sequence_numbers_octet_by_octet() {
    let mut tunnel = tunnel(None);
    tunnel.sequence_numbers = true;
    let written = |tunnel: &GtpU| {
        let mut packet = vec![0xa5; overhead(tunnel)];
        packet.extend_from_slice(&inner(3));
        assert!(encapsulate(&mut packet, &LOCAL, &REMOTE, 64, tunnel, 0x1234));
        packet
    };
    let packet = written(&tunnel);
    assert_eq!(packet[48..56], [0x32, 0xff, 0, 47, 0xde, 0xad, 0xbe, 0xef]);
    assert_eq!(packet[56..60], [0x12, 0x34, 0, 0]);
    assert_eq!(packet[60..], inner(3));
    assert_eq!(read(&packet[40..]).unwrap().sequence, Some(0x1234));
    assert_eq!(peek_g_pdu(&packet[40..]).unwrap().2, 20);
    tunnel.pdu_session = Some(PduSession { uplink: true, qfi: 7 });
    let packet = written(&tunnel);
    assert_eq!(packet[48..52], [0x36, 0xff, 0, 51]);
    assert_eq!(packet[56..64], [0x12, 0x34, 0, 0x85, 1, 0x10, 7, 0]);
    assert_eq!(packet[64..], inner(3));
    assert_eq!(peek_g_pdu(&packet[40..]).unwrap().2, 24);
    let message = read(&packet[40..]).unwrap();
    assert_eq!((message.sequence, message.offset), (Some(0x1234), 24));
}
