//! What routers of IPv4 between two gateways say of packets in tunnels of GTP-U over IPv4.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod core_support;

use std::time::{Duration, Instant};

use core_support::*;
use kedge_dataplane::counters::Stage;
use kedge_dataplane::drops::DropReason;
use kedge_dataplane::stage::checksum::Sum;
use proptest::prelude::*;

/// Whoever on the path it is.
const ROUTER: &str = "192.0.2.254";
/// Outer IPv4, UDP and GTP-U headers.
const OVERHEAD: usize = 36;
/// What every router quotes.
const LEAST: usize = 28;

/// The outer packet that the gateway makes of one from the correspondent, or from the node.
fn outer(gateway: &mut Gateway, inner: &[u8]) -> Vec<u8> {
    let out = if inner[0] >> 4 == 4 {
        gateway.frame(CORE, &ethernet4(CORE_MAC, ROUTER_MAC, inner))
    } else if inner[8..24] == octets(IPV4_OLD) {
        gateway.one_from(ACCESS, NODE_MAC, inner)
    } else {
        gateway.one(CORE, inner)
    };
    let [(CORE, frame)] = &out.transmit[..] else {
        panic!("{out:?}")
    };
    frame[14..].to_vec()
}

/// As much of a packet as an error of 576 octets has room for.
fn quoted(packet: &[u8]) -> &[u8] {
    &packet[..packet.len().min(548)]
}

fn error(kind: u8, code: u8, mtu: u16, quotes: &[u8]) -> Vec<u8> {
    let [high, low] = mtu.to_be_bytes();
    icmpv4(ROUTER, OWN4, [kind, code, 0, 0, 0, 0, high, low], quotes)
}

fn needed(mtu: u16, quotes: &[u8]) -> Vec<u8> {
    error(3, 4, mtu, quotes)
}

fn give(gateway: &mut Gateway, packet: &[u8]) -> Outcome {
    gateway.frame(CORE, &ethernet4(CORE_MAC, ROUTER_MAC, packet))
}

fn with(packet: &[u8], at: usize, value: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    packet[at..at + value.len()].copy_from_slice(value);
    packet
}

/// The only packet sent, an ICMPv6 error with a right checksum: where, to whom, its header, what it quotes.
fn told(out: &Outcome) -> (usize, [u8; 16], [u8; 8], Vec<u8>) {
    let [(port, frame)] = &out.transmit[..] else {
        panic!("{out:?}")
    };
    let packet = &frame[14..];
    assert_eq!(frame[12..14], [0x86, 0xdd]);
    assert_eq!((packet[6], checksum(packet)), (58, 0), "{packet:02x?}");
    assert_eq!(packet[8..24], octets(OWN));
    (
        *port,
        packet[24..40].try_into().unwrap(),
        packet[40..48].try_into().unwrap(),
        packet[48..].to_vec(),
    )
}

fn learn(gateway: &mut Gateway, mtu: u16, now: Instant) {
    gateway.snapshot = gateway.compiler.learn_path_mtu(mapped(PEER4), mtu, now).unwrap();
}

#[test]
fn a_narrow_path_is_learned_and_the_source_told_what_fits_it() {
    for (destination, source, port) in [(IPV4_ANCHORED, REMOTE, CORE), (REMOTE, IPV4_OLD, ACCESS)] {
        let mut gateway = Gateway::new();
        let inner = sized(source, destination, 1460);
        let outer = outer(&mut gateway, &inner);
        assert_eq!(outer.len(), 1460 + OVERHEAD);
        let packet = needed(1400, quoted(&outer));
        let out = give(&mut gateway, &packet);
        assert_eq!(out.too_big, [(mapped(PEER4), 1400)], "{destination}");
        let (at, to, header, quotes) = told(&out);
        assert_eq!((at, to, &header[..2]), (port, octets(source), &[2, 0][..]));
        assert_eq!(header[4..], 1364u32.to_be_bytes());
        assert_eq!(
            quotes,
            hop(&inner)[..548 - OVERHEAD],
            "what the router quoted of it"
        );
        assert_eq!(gateway.pipeline.counters.stages(Stage::TunnelErrorTranslated), 1);

        // The control thread's part: from now on the gateway itself says so.
        let now = Instant::now();
        learn(&mut gateway, 1400, now);
        let again = |gateway: &mut Gateway| match port {
            CORE => gateway.one(CORE, &inner),
            _ => gateway.one_from(ACCESS, NODE_MAC, &inner),
        };
        let out = again(&mut gateway);
        assert_eq!(out.drops, [(DropReason::PacketTooBig, 1)]);
        assert_eq!(told(&out).2[4..], 1364u32.to_be_bytes());
        // Another one for what was on the way: told, but no news.
        let out = give(&mut gateway, &packet);
        assert!(out.too_big.is_empty() && out.transmit.len() == 1);
        // And is forgotten as of IPv6.
        let later = now + Duration::from_secs(600);
        let (forgotten, snapshot) = gateway.compiler.forget_path_mtus(later).unwrap();
        assert_eq!(forgotten, [(mapped(PEER4), Some(1500))]);
        gateway.snapshot = snapshot;
        assert!(again(&mut gateway).drops.is_empty());
    }
}

#[test]
fn a_router_that_tells_no_mtu_is_taken_to_have_the_next_that_links_have() {
    let mut gateway = Gateway::new();
    let outer = outer(&mut gateway, &sized(REMOTE, IPV4_ANCHORED, 1464));
    assert_eq!(outer.len(), 1500);
    let out = give(&mut gateway, &needed(0, quoted(&outer)));
    assert_eq!(out.too_big, [(mapped(PEER4), 1492)]);
    assert_eq!(told(&out).2[4..], 1456u32.to_be_bytes());
    let out = give(&mut gateway, &needed(0, &outer[..LEAST]));
    assert_eq!(
        (out.too_big, out.transmit.len()),
        (vec![(mapped(PEER4), 1492)], 0)
    );
}

#[test]
fn extensions_of_a_router_are_not_quoted_to_the_source() {
    let mut gateway = Gateway::new();
    let inner = sized(REMOTE, IPV4_ANCHORED, 1464);
    let outer = outer(&mut gateway, &inner);
    // RFC 4884: 128 octets of the packet, 32 words, and an object behind them.
    let message = [&outer[..128], &[0x20, 0, 0, 0, 0, 8, 1, 1, 1, 2, 3, 4]].concat();
    let packet = icmpv4(ROUTER, OWN4, [3, 4, 0, 0, 0, 32, 5, 0x78], &message);
    let out = give(&mut gateway, &packet);
    assert_eq!(out.too_big, [(mapped(PEER4), 1400)]);
    assert_eq!(told(&out).3, hop(&inner)[..128 - OVERHEAD]);
    // One that says it quotes more than there is says nothing.
    let packet = icmpv4(ROUTER, OWN4, [3, 4, 0, 0, 0, 200, 5, 0x78], &message);
    assert_eq!(give(&mut gateway, &packet).punt.len(), 1);
}

#[test]
fn who_quotes_eight_octets_is_believed_and_stops_nothing() {
    let mut gateway = Gateway::new();
    let outer = outer(&mut gateway, &sized(REMOTE, IPV4_ANCHORED, 1464));
    for (length, mtu) in [(LEAST, 1400), (LEAST, 1324), (35, 1400), (36, 1400), (75, 1400)] {
        let out = give(&mut gateway, &needed(mtu, &outer[..length]));
        assert_eq!(out.too_big, [(mapped(PEER4), mtu)], "{length}");
        // There is nobody to tell.
        assert!(out.transmit.is_empty() && out.punt.is_empty() && out.drops.is_empty());
    }
    assert_eq!(gateway.pipeline.counters.stages(Stage::TunnelErrorTaken), 5);
    learn(&mut gateway, 1324, Instant::now());
    assert!(
        gateway
            .one(CORE, &sized(REMOTE, IPV4_ANCHORED, 1280))
            .drops
            .is_empty()
    );
    let out = gateway.one(CORE, &sized(REMOTE, IPV4_ANCHORED, 1300));
    assert_eq!(told(&out).2[4..], 1288u32.to_be_bytes());
    let out = give(&mut Gateway::new(), &needed(620, &outer[..LEAST]));
    assert_eq!(out.too_big, [(mapped(PEER4), 620)]);

    let short = &outer[..LEAST];
    let invalid = [
        ("less than anybody may say", needed(619, short)),
        ("the packet is not larger", needed(1500, short)),
        ("to no peer", needed(1400, &with(short, 16, &[198, 51, 100, 9]))),
        ("from another", needed(1400, &with(short, 12, &[192, 0, 2, 9]))),
        (
            "longer than we send",
            needed(1400, &with(&with(short, 2, &[5, 0xdd]), 24, &[5, 0xc9])),
        ),
        (
            "the plateau is lower",
            needed(0, &with(&with(short, 2, &[3, 0xee]), 24, &[3, 0xda])),
        ),
    ];
    for (what, packet) in invalid {
        let out = give(&mut Gateway::new(), &packet);
        assert_eq!(out.drops, [(DropReason::TunnelErrorInvalid, 1)], "{what}");
        assert!(
            out.too_big.is_empty() && out.transmit.is_empty() && out.punt.is_empty(),
            "{what}"
        );
    }
}

#[test]
fn what_is_about_no_packet_in_a_tunnel_is_the_kernels() {
    let mut gateway = Gateway::new();
    let outer = outer(&mut gateway, &sized(REMOTE, IPV4_ANCHORED, 1464));
    let (whole, short) = (quoted(&outer), &outer[..LEAST]);
    let echo = gtpu4(OWN4, PEER4, &[], &[0x32, 1, 0, 4, 0, 0, 0, 0, 0, 7, 0, 0], false);
    let fragment = ipv4_changed(&needed(1400, whole), 6, &[0x20]);
    let cases = [
        ("an Echo Reply", error(0, 0, 0, &[])),
        ("source quench", error(4, 0, 0, whole)),
        ("a redirect", error(5, 1, 0, whole)),
        (
            "of GTP-U, but no G-PDU",
            needed(1400, &ipv4_changed(&echo, 6, &[0x40])),
        ),
        ("a fragment of an error", fragment),
        ("to another port", needed(1400, &with(short, 22, &[0, 53]))),
        (
            "from the port of the kernel's",
            needed(1400, &with(short, 20, &2152u16.to_be_bytes())),
        ),
        ("lengths that do not fit", needed(1400, &with(short, 25, &[0]))),
        ("might be cut", needed(1400, &with(whole, 6, &[0]))),
        ("was cut", needed(1400, &with(whole, 6, &[0x60]))),
        ("with options", needed(1400, &with(whole, 0, &[0x46]))),
        ("TCP", needed(1400, &with(whole, 9, &[6]))),
        (
            "unreachable, and of which tunnel is not quoted",
            error(3, 1, 0, short),
        ),
        ("nothing is quoted", needed(1400, &[])),
        ("less than there must be", needed(1400, &outer[..27])),
    ];
    for (what, packet) in cases {
        let out = give(&mut gateway, &packet);
        assert_eq!(
            out.punt,
            [(CORE, ethernet4(CORE_MAC, ROUTER_MAC, &packet))],
            "{what}: {out:?}"
        );
        assert!(out.too_big.is_empty(), "{what}");
    }
}

#[test]
fn what_happens_inside_becomes_unreachable_outside() {
    let cases = [
        ((3, 0), true),
        ((3, 1), true),
        // What the peer says of its port is nothing about the way to the node.
        ((3, 2), false),
        ((3, 3), false),
        ((3, 13), true),
        ((11, 0), true),
        // Reassembly at the exit, and headers of our own, are nothing that the source could change.
        ((11, 1), false),
        ((12, 0), false),
        ((12, 1), false),
    ];
    for ((kind, code), tells) in cases {
        let mut gateway = Gateway::new();
        let inner = udp(REMOTE, IPV4_ANCHORED, 64);
        let outer = outer(&mut gateway, &inner);
        let out = give(&mut gateway, &error(kind, code, 0x2c00, &outer));
        assert!(out.drops.is_empty() && out.too_big.is_empty() && out.punt.is_empty());
        if tells {
            let (port, to, header, quotes) = told(&out);
            let expected = (CORE, octets(REMOTE), [1, 3], hop(&inner));
            assert_eq!(
                (port, to, [header[0], header[1]], quotes),
                expected,
                "{kind} {code}"
            );
        } else {
            assert!(out.transmit.is_empty(), "{kind} {code}");
            assert_eq!(gateway.pipeline.counters.stages(Stage::TunnelErrorTaken), 1);
        }
    }
}

#[test]
fn below_what_ipv6_needs_the_path_counts_and_nobody_is_told_the_impossible() {
    let mut gateway = Gateway::new();
    let outer_of_1300 = outer(&mut gateway, &sized(REMOTE, IPV4_ANCHORED, 1300));
    let outer_of_1280 = outer(&mut gateway, &sized(REMOTE, IPV4_ANCHORED, 1280));
    let out = give(&mut gateway, &needed(1300, quoted(&outer_of_1300)));
    assert_eq!(told(&out).2[4..], 1280u32.to_be_bytes());
    let out = give(&mut gateway, &needed(1300, quoted(&outer_of_1280)));
    assert!(out.transmit.is_empty(), "it may be that large");
    assert_eq!(out.too_big, [(mapped(PEER4), 1300)]);
    learn(&mut gateway, 1300, Instant::now());
    // It goes on all the same, in fragments; what is larger need not.
    let sent = |gateway: &mut Gateway, length| {
        let out = gateway.one(CORE, &sized(REMOTE, IPV4_ANCHORED, length));
        assert!(out.drops.is_empty());
        out.transmit.len()
    };
    assert_eq!((sent(&mut gateway, 1280), sent(&mut gateway, 1264)), (2, 1));
    let out = gateway.one(CORE, &sized(REMOTE, IPV4_ANCHORED, 1281));
    assert_eq!(out.drops, [(DropReason::PacketTooBig, 1)]);
    assert_eq!(told(&out).2[4..], 1280u32.to_be_bytes());
    // What is known is the path's, so it counts for the next that is learned, too.
    let narrower = needed(
        1000,
        quoted(&outer(&mut gateway, &sized(REMOTE, IPV4_ANCHORED, 1200))),
    );
    assert_eq!(give(&mut gateway, &narrower).too_big, [(mapped(PEER4), 1000)]);
    learn(&mut gateway, 1000, Instant::now());
    assert_eq!((sent(&mut gateway, 1280), sent(&mut gateway, 964)), (2, 1));
}

#[test]
fn what_happens_to_fragments_becomes_unreachable_outside() {
    let mut gateway = Gateway::new();
    learn(&mut gateway, 1000, Instant::now());
    let inner = sized(REMOTE, IPV4_ANCHORED, 1280);
    let out = gateway.one(CORE, &inner);
    let [(CORE, first), (CORE, second)] = &out.transmit[..] else {
        panic!("{out:?}")
    };
    let (first, second) = (&first[14..], &second[14..]);
    let out = give(&mut gateway, &error(3, 1, 0, quoted(first)));
    let (port, to, header, quotes) = told(&out);
    assert_eq!((port, to, [header[0], header[1]]), (CORE, octets(REMOTE), [1, 3]));
    assert_eq!(quotes, hop(&inner)[..548 - OVERHEAD]);
    // That they came in part only is the other end's to say, and nothing to tell.
    let out = give(&mut gateway, &error(11, 1, 0, quoted(first)));
    assert!(out.transmit.is_empty() && out.punt.is_empty() && out.drops.is_empty());
    // With another TEID it is none of ours; later fragments have none; and they may be cut, so they are never too large.
    let out = give(&mut gateway, &error(3, 1, 0, &with(quoted(first), 35, &[0])));
    assert_eq!(out.drops, [(DropReason::TunnelErrorInvalid, 1)]);
    let kernels = [
        error(3, 1, 0, second),
        needed(900, quoted(first)),
        needed(900, &first[..LEAST]),
        error(3, 1, 0, &with(quoted(first), 6, &[0x60])),
        error(3, 1, 0, &with(quoted(first), 6, &[0])),
        error(3, 1, 0, &with(quoted(first), 24, &[0, 100])),
    ];
    for packet in kernels {
        let out = give(&mut gateway, &packet);
        assert_eq!((out.punt.len(), out.transmit.len(), out.too_big.len()), (1, 0, 0));
    }
}

#[test]
fn what_cannot_be_about_a_packet_of_ours_is_dropped_and_counted() {
    let mut gateway = Gateway::new();
    let outer = outer(&mut gateway, &sized(REMOTE, IPV4_ANCHORED, 1440));
    let outer = quoted(&outer);
    let cases = [
        ("less than any path takes", needed(575, outer)),
        ("the packet is not larger", needed(1476, outer)),
        ("not from us", needed(1400, &with(outer, 12, &[192, 0, 2, 9]))),
        ("to no peer", needed(1400, &with(outer, 16, &[198, 51, 100, 9]))),
        ("another TEID", needed(1400, &with(outer, 35, &[0]))),
        ("another source port", needed(1400, &with(outer, 20, &[0xc0, 0]))),
        (
            "an inner packet that does not go there",
            needed(1400, &with(outer, OVERHEAD + 24, &octets(NODE))),
        ),
        (
            "unreachable, with another TEID",
            error(3, 1, 0, &with(outer, 35, &[0])),
        ),
    ];
    for (what, packet) in cases {
        let out = give(&mut Gateway::new(), &packet);
        assert_eq!(out.drops, [(DropReason::TunnelErrorInvalid, 1)], "{what}");
        assert!(
            out.too_big.is_empty() && out.transmit.is_empty() && out.punt.is_empty(),
            "{what}"
        );
    }
    for quotes in [outer, &outer[..LEAST]] {
        let out = give(&mut Gateway::new(), &with(&needed(1400, quotes), 22, &[0, 0]));
        assert_eq!(out.drops, [(DropReason::Icmpv4ChecksumWrong, 1)]);
    }
    // The addresses of a tunnel over IPv4 in an outer header of IPv6 are those of none.
    let disguised = |address: &str| mapped(address).to_string();
    let inner = sized(REMOTE, IPV4_ANCHORED, 1300);
    let quotes = g_pdu(&disguised(OWN4), &disguised(PEER4), REMOTE_TEID, &inner);
    let packet = icmpv6(
        "2001:db8:ca::1",
        OWN,
        [2, 0, 0, 0, 0, 0, 5, 0x14],
        &quotes[..1200],
    );
    let out = Gateway::new().one(CORE, &packet);
    assert_eq!(out.drops, [(DropReason::TunnelErrorInvalid, 1)]);
}

#[test]
fn carried_ipv4_is_told_in_its_own_words() {
    const TO: &str = CARRIED[3];
    let mut gateway = Gateway::carrying_ipv4();
    for (flags, mtu, tells) in [(0x40, 1300, true), (0x40, 576, true), (0, 1300, false)] {
        let packet = ipv4_changed(&ipv4(REMOTE4, TO, 17, &[], &[7; 1380]), 6, &[flags]);
        let outer = outer(&mut gateway, &packet);
        let out = give(&mut gateway, &needed(mtu, quoted(&outer)));
        assert_eq!(out.too_big, [(mapped(PEER4), mtu)]);
        if !tells {
            assert!(out.transmit.is_empty(), "we cut it ourselves");
            continue;
        }
        let frame = &out.transmit[0].1;
        assert_eq!(frame[34..36], [3, 4]);
        assert_eq!(frame[40..42], (mtu - OVERHEAD as u16).to_be_bytes());
        assert!(Sum::default().octets(&frame[34..]).is_right());
    }
    // On the narrowest path it still goes, cut or told.
    learn(&mut gateway, 576, Instant::now());
    let packet = ipv4(REMOTE4, TO, 17, &[], &[7; 1380]);
    let out = gateway.frame(CORE, &ethernet4(CORE_MAC, ROUTER_MAC, &packet));
    assert_eq!((out.drops.len(), out.transmit.len()), (0, 3));
    assert!(out.transmit.iter().all(|(_, frame)| frame.len() <= 14 + 576));
}

#[test]
fn no_error_is_told_about_an_error_and_no_more_than_may_be() {
    let mut gateway = Gateway::new();
    let quotes = outer(&mut gateway, &icmpv6_error(REMOTE, IPV4_ANCHORED));
    let out = give(&mut gateway, &error(11, 0, 0, &quotes));
    assert!(out.transmit.is_empty() && out.drops.is_empty());
    let quotes = outer(&mut gateway, &udp(REMOTE, IPV4_ANCHORED, 64));
    let packet = error(11, 0, 0, &quotes);
    let sent = (0..100)
        .filter(|_| !give(&mut gateway, &packet).transmit.is_empty())
        .count();
    assert_eq!(sent, ERRORS_PER_SECOND as usize / 10);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever is quoted: one packet in, one thing counted; no path becomes narrower than it may.
    #[test]
    fn each_error_ends_in_one_counter(
        mutations in prop::collection::vec((20usize..140, any::<u8>()), 0..4),
        length in 0usize..560,
        kind in prop::sample::select(vec![3u8, 3, 3, 11, 12, 5]),
        code in 0u8..6,
        mtu in any::<u16>(),
        right in any::<bool>(),
    ) {
        let mut gateway = Gateway::new();
        let outer = outer(&mut gateway, &sized(REMOTE, IPV4_ANCHORED, 1450));
        let mut packet = error(kind, code, mtu, &outer[..length]);
        for (at, value) in mutations {
            if let Some(octet) = packet.get_mut(at) {
                *octet = value;
            }
        }
        if right {
            packet[22..24].fill(0);
            let sum = Sum::default().octets(&packet[20..]).checksum().to_be_bytes();
            packet[22..24].copy_from_slice(&sum);
        }
        let out = give(&mut gateway, &packet);
        let stage = |stage| gateway.pipeline.counters.stages(stage);
        let told = stage(Stage::TunnelErrorTranslated);
        let taken = stage(Stage::TunnelErrorTaken) + stage(Stage::Icmpv6ErrorSuppressed);
        let dropped: u64 = out.drops.iter().map(|(_, count)| count).sum();
        prop_assert_eq!(out.transmit.len() as u64 + out.punt.len() as u64 + dropped + taken, 1);
        prop_assert!(told <= 1);
        prop_assert!(out.too_big.iter().all(|(peer, mtu)| *peer == mapped(PEER4) && *mtu >= 576));
    }
}
