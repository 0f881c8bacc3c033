//! GRE packets in and out of a gateway: what RFC 2784, RFC 2890 and RFC 7676 ask of it, on octets and a snapshot.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod core_support;

use core_support::*;
use kedge_dataplane::counters::Stage;
use kedge_dataplane::drops::DropReason;

#[test]
fn packets_go_out_with_the_key_of_the_peer_or_none() {
    for (destination, header) in [
        (
            GRE_ANCHORED,
            [&[0x20, 0, 0x86, 0xdd][..], &REMOTE_KEY.to_be_bytes()].concat(),
        ),
        (KEYLESS_ANCHORED, vec![0, 0, 0x86, 0xdd]),
    ] {
        let mut packet = udp(REMOTE, destination, 64);
        packet[1] = 0b11 << 4;
        let out = Gateway::new().one(CORE, &packet);
        let [(CORE, frame)] = &out.transmit[..] else {
            panic!("{out:?}")
        };
        assert_eq!(frame[..14], ethernet(ROUTER_MAC, CORE_MAC, &[])[..]);
        assert_eq!(
            (frame[14], frame[15] >> 4, frame[20], frame[21]),
            (0x60, 0b11, 47, 64)
        );
        assert_ne!(
            frame[15] & 15 | frame[16] | frame[17],
            0,
            "a flow label (RFC 6438)"
        );
        assert_eq!(
            (&frame[22..38], &frame[38..54]),
            (&octets(OWN)[..], &octets(PEER)[..])
        );
        assert_eq!(frame[54..], [&header[..], &hop(&packet)].concat());
    }
    let out = Gateway::new().one_from(ACCESS, NODE_MAC, &udp(GRE_OLD, REMOTE, 64));
    assert_eq!(out.transmit[0].1[58..62], REMOTE_KEY.to_be_bytes());
}

#[test]
fn what_comes_in_is_delivered_or_routed() {
    let mut gateway = Gateway::new();
    let inner = udp(REMOTE, GRE_OLD, 64);
    let key = LOCAL_KEY.to_be_bytes();
    let protocol = [0x86, 0xdd];
    let with = |flags: u8, fields: &[&[u8]]| {
        let header = [&[flags, 0], &protocol[..], &fields.concat()].concat();
        gre(PEER, OWN, &header, &inner)
    };
    let packets = [
        keyed(PEER, OWN, LOCAL_KEY, &inner),
        // A checksum, a sequence number, both.
        with(0xa0, &[&[0; 4], &key]),
        with(0x30, &[&key, &[0, 0, 0, 9]]),
        with(0xb0, &[&[0; 4], &key, &[0, 0, 0, 1]]),
        with_options_of(&keyed(PEER, OWN, LOCAL_KEY, &inner)),
    ];
    for packet in &packets {
        let out = gateway.one(CORE, packet);
        let expected = ethernet(NODE_MAC, ACCESS_MAC, &hop(&inner));
        assert_eq!(out.transmit, [(ACCESS, expected)], "{out:?}");
    }
    for (inner, packet) in [
        (udp(GRE_ANCHORED, REMOTE, 64), true),
        (udp(KEYLESS_ANCHORED, REMOTE, 64), false),
    ]
    .map(|(inner, has_key)| {
        let plain = gre(PEER, OWN, &[0, 0, 0x86, 0xdd], &inner);
        let packet = if has_key {
            keyed(PEER, OWN, LOCAL_KEY, &inner)
        } else {
            plain
        };
        (inner, packet)
    }) {
        let out = gateway.one(CORE, &packet);
        assert_eq!(
            out.transmit,
            [(CORE, ethernet(ROUTER_MAC, CORE_MAC, &hop(&inner)))],
            "{out:?}"
        );
    }
    assert_eq!(gateway.pipeline.counters.stages(Stage::Decapsulated), 7);
}

/// Destination options in front of what an IPv6 packet carries.
fn with_options_of(packet: &[u8]) -> Vec<u8> {
    let mut with = packet[..40].to_vec();
    let length = u16::from_be_bytes([with[4], with[5]]) + 8;
    with[4..6].copy_from_slice(&length.to_be_bytes());
    with.extend_from_slice(&[with[6], 0, 1, 4, 0, 0, 0, 0]);
    with[6] = 60;
    with.extend_from_slice(&packet[40..]);
    with
}

#[test]
fn each_drop_has_its_name() {
    let inner = udp(REMOTE, GRE_OLD, 64);
    let good = keyed(PEER, OWN, LOCAL_KEY, &inner);
    let changed = |at: usize, to: u8| {
        let mut packet = good.clone();
        packet[at] = to;
        packet
    };
    let with = |header: &[u8], inner: &[u8]| gre(PEER, OWN, header, inner);
    let key = LOCAL_KEY.to_be_bytes();
    let mut wrong = with(&[&[0xa0, 0, 0x86, 0xdd, 0, 0, 0, 0][..], &key].concat(), &inner);
    *wrong.last_mut().unwrap() ^= 1;
    let mut later = ipv6(REMOTE, OWN, 44, 64, &[47, 0, 0, 8, 0, 0, 0, 1]);
    later.extend_from_slice(&[0; 8]);
    later[5] += 8;
    use DropReason as D;
    let cases: [(&str, usize, Vec<u8>, DropReason); 16] = [
        ("half a header", CORE, with(&[0, 0], &[]), D::GreMalformed),
        (
            "a key that is cut",
            CORE,
            with(&[0x20, 0, 0x86, 0xdd, 1], &[]),
            D::GreMalformed,
        ),
        ("routing", CORE, changed(40, 0x60), D::GreBitsUnsupported),
        (
            "strict source route",
            CORE,
            changed(40, 0x28),
            D::GreBitsUnsupported,
        ),
        ("recursion", CORE, changed(40, 0x24), D::GreBitsUnsupported),
        ("PPTP", CORE, changed(41, 1), D::GreVersionUnsupported),
        ("a wrong checksum", CORE, wrong, D::GreChecksumWrong),
        (
            "another key",
            CORE,
            keyed(PEER, OWN, 9, &inner),
            D::GreTunnelUnknown,
        ),
        (
            "a stranger",
            CORE,
            keyed(REMOTE, OWN, LOCAL_KEY, &inner),
            D::GreTunnelUnknown,
        ),
        (
            "another address of ours",
            CORE,
            keyed(PEER, OTHER_OWN, LOCAL_KEY, &inner),
            D::GreTunnelUnknown,
        ),
        (
            "Ethernet within",
            CORE,
            changed(42, 0x65),
            D::GreProtocolUnsupported,
        ),
        (
            "from a node",
            ACCESS,
            keyed(NODE, OWN, LOCAL_KEY, &inner),
            D::TunnelUnknownPeer,
        ),
        ("a fragment of a stranger's", CORE, later, D::TunnelUnknownPeer),
        (
            "nothing within",
            CORE,
            keyed(PEER, OWN, LOCAL_KEY, &[]),
            D::TunnelInnerMalformed,
        ),
        (
            "a prefix of another tunnel",
            CORE,
            keyed(PEER, OWN, LOCAL_KEY, &udp(KEYLESS_ANCHORED, REMOTE, 64)),
            D::TunnelInnerSourceInvalid,
        ),
        (
            "GRE in GRE",
            CORE,
            keyed(PEER, OWN, LOCAL_KEY, &keyed(GRE_ANCHORED, OWN, LOCAL_KEY, &inner)),
            D::TunnelNested,
        ),
    ];
    let mut seen = Vec::new();
    for (what, port, packet, reason) in cases {
        seen.push(reason);
        let from = if port == ACCESS { NODE_MAC } else { ROUTER_MAC };
        let out = Gateway::new().one_from(port, from, &packet);
        assert_eq!(out.drops, [(reason, 1)], "{what}");
        assert!(out.transmit.is_empty() && out.punt.is_empty(), "{what}: {out:?}");
    }
    assert_eq!(Gateway::new().one(CORE, &good).drops, []);
    for reason in DropReason::ALL {
        let ours = reason.name().starts_with("gre_");
        assert!(!ours || seen.contains(&reason), "{reason:?} has no test");
    }
}

#[test]
fn what_does_not_fit_is_told_the_room_that_is_left() {
    // 1500 less IPv6 and GRE headers: 40 + 8, and 40 + 4 without a key.
    for (destination, room) in [(GRE_ANCHORED, 1452), (KEYLESS_ANCHORED, 1456)] {
        let mut gateway = Gateway::new();
        assert_eq!(gateway.one(CORE, &sized(REMOTE, destination, room)).drops, []);
        let out = gateway.one(CORE, &sized(REMOTE, destination, room + 1));
        assert_eq!(out.drops, [(DropReason::PacketTooBig, 1)]);
        assert_eq!(
            out.transmit[0].1[58..62],
            u32::try_from(room).unwrap().to_be_bytes()
        );
    }
}

#[test]
fn an_error_from_inside_the_tunnel_is_told_to_the_source_of_the_inner_packet() {
    let mut gateway = Gateway::new();
    let quoted = gateway.one(CORE, &udp(REMOTE, GRE_ANCHORED, 64)).transmit[0].1[14..].to_vec();
    let mut message = [&[1, 0, 0, 0, 0, 0, 0, 0][..], &quoted].concat();
    let checksum = {
        let packet = ipv6("2001:db8:ca::5", OWN, 58, 64, &message);
        checksum(&packet)
    };
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    let out = gateway.one(CORE, &ipv6("2001:db8:ca::5", OWN, 58, 64, &message));
    let [(CORE, frame)] = &out.transmit[..] else {
        panic!("{out:?}")
    };
    assert_eq!(frame[38..54], octets(REMOTE), "to the source of the inner packet");
    assert_eq!(frame[54], 1, "unreachable");
    // The same about a packet that we cannot have sent: another key.
    let at = message.len() - quoted.len() + 44;
    message[at] ^= 1;
    message[2..4].copy_from_slice(&[0, 0]);
    let right = checksum_of(&message);
    message[2..4].copy_from_slice(&right);
    let out = gateway.one(CORE, &ipv6("2001:db8:ca::5", OWN, 58, 64, &message));
    assert_eq!(out.drops, [(DropReason::TunnelErrorInvalid, 1)]);
}

fn checksum_of(message: &[u8]) -> [u8; 2] {
    checksum(&ipv6("2001:db8:ca::5", OWN, 58, 64, message)).to_be_bytes()
}
