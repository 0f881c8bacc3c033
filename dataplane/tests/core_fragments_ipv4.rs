//! Outer packets over IPv4 that come in fragments, where a gateway puts them together.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod core_support;

use arrayvec::ArrayVec;
use core_support::*;
use kedge_dataplane::counters::Stage;
use kedge_dataplane::drops::DropReason;
use kedge_dataplane::frame::{Frame, HeapFrame};
use kedge_dataplane::hold;
use kedge_dataplane::pipeline::{BURST, Ipv4Fragments, Output};
use kedge_dataplane::reassembly::Bounds;
use kedge_dataplane::stage::ipv4_fragment;

fn reassembling() -> Output<HeapFrame> {
    with_room(Output::default())
}

fn with_room(output: Output<HeapFrame>) -> Output<HeapFrame> {
    output.reassembling(Bounds {
        fragments: 100,
        cycles_per_second: CYCLES,
        seed: 1,
    })
}

/// Packets that come in by the core port one after the other; what goes out.
fn run(gateway: &mut Gateway, output: &mut Output<HeapFrame>, packets: &[Vec<u8>]) -> Vec<(usize, Vec<u8>)> {
    for packet in packets {
        let mut burst: ArrayVec<HeapFrame, BURST> = ArrayVec::new();
        burst.push(HeapFrame::new(&ethernet4(CORE_MAC, ROUTER_MAC, packet)));
        gateway
            .pipeline
            .process(&gateway.snapshot, CORE, 0, &mut burst, output);
    }
    let sent = output.transmit.iter_mut().enumerate();
    sent.flat_map(|(port, burst)| burst.drain(..).map(move |frame| (port, frame.bytes().to_vec())))
        .collect()
}

/// In fragments of so many octets at most, as a router makes them.
fn cut(packet: &[u8], size: usize) -> Vec<Vec<u8>> {
    let mut rest = HeapFrame::new(&[&[0; 14][..], packet].concat());
    let mut pieces = Vec::new();
    while rest.bytes().len() > 14 + size {
        let next = ipv4_fragment::split(&mut rest, size).unwrap();
        pieces.push(rest.bytes()[14..].to_vec());
        rest = next;
    }
    pieces.push(rest.bytes()[14..].to_vec());
    pieces
}

fn inner() -> Vec<u8> {
    let mut packet = sized(REMOTE, IPV4_OLD, 1400);
    for (at, octet) in packet.iter_mut().enumerate().skip(40) {
        *octet = ((at * 31) >> 3) as u8;
    }
    packet
}

fn with_checksum(inner: &[u8]) -> Vec<u8> {
    let plain = g_pdu4(PEER4, OWN4, IPV4_LOCAL_TEID, inner);
    gtpu4(PEER4, OWN4, &[], &plain[28..], true)
}

#[test]
fn what_a_peer_sends_in_fragments_is_put_together_where_that_is_asked_for() {
    let inner = inner();
    let delivered = (ACCESS, ethernet(NODE_MAC, ACCESS_MAC, &hop(&inner)));
    let unchecked = g_pdu4(PEER4, OWN4, IPV4_LOCAL_TEID, &inner);
    use Ipv4Fragments as How;
    let cases = [
        (How::Taken, unchecked.clone(), true),
        (How::Taken, with_checksum(&inner), true),
        (How::Checked, with_checksum(&inner), true),
        (How::Checked, unchecked.clone(), false),
    ];
    for (how, packet, goes) in cases {
        for size in [1280, 576] {
            for turned in [false, true] {
                let mut packets = cut(&packet, size);
                assert_eq!(packets.len(), if size == 576 { 3 } else { 2 });
                if turned {
                    packets.reverse();
                }
                let mut gateway = Gateway::of_fragments(how);
                let mut output = reassembling();
                let sent = run(&mut gateway, &mut output, &packets);
                let expected = if goes { vec![delivered.clone()] } else { vec![] };
                assert_eq!(sent, expected, "{how:?}");
                assert_eq!(gateway.drops(DropReason::UdpChecksumZero), u64::from(!goes));
                let stage = |stage| gateway.pipeline.counters.stages(stage);
                let received = stage(Stage::FragmentReceived);
                assert_eq!((received, stage(Stage::Reassembled)), (packets.len() as u64, 1));
                assert_eq!(output.fragments(), 0);
            }
        }
    }
    // Where it is not asked for, none is taken.
    let mut gateway = Gateway::new();
    assert!(
        run(
            &mut gateway,
            &mut reassembling(),
            &cut(&with_checksum(&inner), 1280)
        )
        .is_empty()
    );
    assert_eq!(gateway.drops(DropReason::TunnelFragment), 2);
}

#[test]
fn what_is_of_two_packets_is_found_out_by_its_checksum() {
    let (one, mut other) = (inner(), inner());
    other[1399] ^= 1;
    let mixed = [
        cut(&with_checksum(&one), 1280)[0].clone(),
        cut(&with_checksum(&other), 1280)[1].clone(),
    ];
    let mut gateway = Gateway::of_fragments(Ipv4Fragments::Checked);
    assert!(run(&mut gateway, &mut reassembling(), &mixed).is_empty());
    assert_eq!(gateway.drops(DropReason::UdpChecksumWrong), 1);
}

#[test]
fn fragments_of_strangers_and_of_other_protocols_are_not_put_together() {
    let mut gateway = Gateway::of_fragments(Ipv4Fragments::Taken);
    let mut output = reassembling();
    // Of a stranger's G-PDU the first is dropped; whose the second is nobody knows, and the kernel has but that.
    let stranger = g_pdu4("203.0.113.9", OWN4, IPV4_LOCAL_TEID, &inner());
    run(&mut gateway, &mut output, &cut(&stranger, 1280));
    assert_eq!(gateway.drops(DropReason::TunnelFragment), 1);
    assert_eq!(output.punt[CORE].len(), 1);
    // ICMP of a peer.
    let ping = ipv4(PEER4, OWN4, 1, &[], &[8; 1300]);
    run(&mut gateway, &mut output, &cut(&ping, 1280));
    assert_eq!((output.punt[CORE].len(), output.fragments()), (3, 0));
    // UDP of a peer to another port is put together first, for a later fragment does not say.
    let other = ipv4(PEER4, OWN4, 17, &[], &[7; 1400]);
    run(&mut gateway, &mut output, &cut(&other, 1280));
    assert_eq!((output.punt[CORE].len(), output.fragments()), (4, 0));
    assert_eq!(output.punt[CORE][3].bytes()[14..], other);
}

#[test]
fn a_first_fragment_does_not_wait_for_its_tunnel_to_become_known() {
    let room = hold::Bounds {
        packets: 10,
        packets_per_prefix: 10,
        octets_per_prefix: 1 << 16,
        age: CYCLES,
        ..hold::Bounds::default()
    };
    let mut gateway = Gateway::of_fragments(Ipv4Fragments::Taken);
    let mut output = with_room(Output::holding(room, room));
    let packet = g_pdu4(PEER4, OWN4, 9, &inner());
    run(&mut gateway, &mut output, std::slice::from_ref(&packet));
    assert_eq!(output.held().0, 1, "nothing is known of its tunnel");
    // Those behind it do not say which tunnel it is, and would be alone.
    run(&mut gateway, &mut output, &cut(&packet, 1280));
    assert_eq!(gateway.pipeline.counters.stages(Stage::Reassembled), 1);
    assert_eq!(
        (output.held().0, output.fragments()),
        (2, 0),
        "the whole one waits"
    );
}
