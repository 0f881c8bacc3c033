//! TCP is told what fits into a tunnel, where that is configured.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod core_support;

use std::time::Instant;

use core_support::*;
use kedge_dataplane::stage::checksum::Sum;

/// A SYN that says `mss`, its checksum right.
fn syn(source: &str, destination: &str, mss: u16) -> Vec<u8> {
    let [high, low] = mss.to_be_bytes();
    let tcp = [
        0x1f, 0x90, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x60, 2, 0xff, 0xff, 0, 0, 0, 0, 2, 4, high, low,
    ];
    let mut packet = ipv6(source, destination, 6, 64, &tcp);
    let sum = Sum::default()
        .octets(&packet[8..])
        .number(24)
        .number(6)
        .checksum();
    packet[56..58].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// What a packet says, where its TCP header is right.
fn said(packet: &[u8]) -> u16 {
    assert!(
        Sum::default()
            .octets(&packet[8..])
            .number(24)
            .number(6)
            .is_right()
    );
    u16::from_be_bytes([packet[62], packet[63]])
}

#[test]
fn a_syn_is_clamped_in_both_directions_where_that_is_configured() {
    for (anchored, old, overhead, teid) in [(ANCHORED, OLD, 40, false), (GTPU_ANCHORED, GTPU_OLD, 56, true)] {
        let most = 1500 - overhead - 60;
        let mut gateway = Gateway::clamping_mss();
        let wrap = |inner: &[u8]| match teid {
            true => g_pdu(PEER, OWN, LOCAL_TEID, inner),
            false => tunnelled(PEER, OWN, inner),
        };
        let front = 14 + usize::from(overhead);
        // Into the tunnel, at the anchor and where the node is; out of it, there and here.
        let sent = [
            gateway.one(CORE, &syn(REMOTE, anchored, 1440)).transmit[0].1[front..].to_vec(),
            gateway
                .one_from(ACCESS, NODE_MAC, &syn(old, REMOTE, 1440))
                .transmit[0]
                .1[front..]
                .to_vec(),
            gateway.one(CORE, &wrap(&syn(REMOTE, old, 1440))).transmit[0].1[14..].to_vec(),
            gateway.one(CORE, &wrap(&syn(anchored, REMOTE, 1440))).transmit[0].1[14..].to_vec(),
        ];
        for packet in sent {
            assert_eq!(said(&packet), most);
        }
        // By what is known of the path.
        let learned = gateway
            .compiler
            .learn_path_mtu(PEER.parse().unwrap(), 1400, Instant::now());
        gateway.snapshot = learned.unwrap();
        let out = gateway.one(CORE, &syn(REMOTE, anchored, 1440));
        assert_eq!(said(&out.transmit[0].1[front..]), 1400 - overhead - 60);
        let small = gateway.one(CORE, &syn(REMOTE, anchored, 1000));
        assert_eq!(said(&small.transmit[0].1[front..]), 1000);
        // Past a tunnel, and where it is not configured, nothing changes.
        assert_eq!(
            said(&gateway.one(CORE, &syn(REMOTE, NODE, 1440)).transmit[0].1[14..]),
            1440
        );
        let out = Gateway::new().one(CORE, &syn(REMOTE, anchored, 1440));
        assert_eq!(said(&out.transmit[0].1[front..]), 1440);
    }
}
