//! Nodes that are behind another gateway: their packets come out of a tunnel, and go where they would off an access link.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod core_support;

use std::net::Ipv6Addr;

use core_support::*;
use ipnet::Ipv6Net;
use kedge_dataplane::drops::DropReason;
use kedge_dataplane_api::Transaction;
use kedge_dataplane_api::model::{NextHop, PrefixEntry, Sender, Source, SourcePath};

/// The gateway that the node is behind, and its tunnel.
const SWITCH: &str = NARROW_PEER;
const TO_SWITCH: u32 = 2;
/// The tunnel to the anchor of [`OLD`].
const TO_ANCHOR: u32 = 1;

fn prefix(address: &str) -> Ipv6Net {
    Ipv6Net::new(address.parse().unwrap(), 64).unwrap().trunc()
}

fn entry(next_hop: NextHop, path: SourcePath) -> PrefixEntry {
    PrefixEntry {
        next_hop,
        source: Some(Source {
            sender: Sender::Tunnel(TO_SWITCH),
            path,
        }),
    }
}

fn put(entries: &[(&str, PrefixEntry)]) -> Transaction {
    let entries = entries.iter();
    Transaction {
        put_prefixes: entries
            .map(|(address, entry)| (prefix(address), entry.clone()))
            .collect(),
        ..Transaction::default()
    }
}

/// The node of the other tests, behind the switch, whose tunnel takes 1,300 octets.
fn gateway() -> Gateway {
    let mut gateway = Gateway::new();
    let mut tunnel = gateway.compiler.tables().tunnels[&TO_SWITCH].clone();
    tunnel.mtu = 1300;
    gateway.apply(&Transaction {
        put_tunnels: vec![(TO_SWITCH, tunnel)],
        ..Transaction::default()
    });
    gateway.apply(&put(&[
        (NODE, entry(NextHop::Tunnel(TO_SWITCH), SourcePath::Native)),
        (
            OLD,
            entry(NextHop::Tunnel(TO_SWITCH), SourcePath::Tunnel(TO_ANCHOR)),
        ),
    ]));
    gateway
}

fn plain(from: &str, to: &str) -> Vec<u8> {
    ipv6(from, to, 17, 64, &[0x30, 0x39, 0, 9, 0, 12, 0, 0, 1, 2, 3, 4])
}

fn in_tunnel(from: &str, inner: &[u8]) -> Vec<u8> {
    ipv6(from, OWN, 41, 64, inner)
}

/// The outer destination and the inner packet's source and destination of the only packet that went out; `None`: it went out as it is.
fn sent(outcome: &Outcome) -> (Option<Ipv6Addr>, Ipv6Addr, Ipv6Addr) {
    let [(port, frame)] = &outcome.transmit[..] else {
        panic!("{outcome:?}")
    };
    assert_eq!(*port, CORE);
    let address = |at: usize| Ipv6Addr::from(<[u8; 16]>::try_from(&frame[at..at + 16]).unwrap());
    match frame[14 + 6] {
        41 => (Some(address(14 + 24)), address(14 + 48), address(14 + 64)),
        _ => (None, address(14 + 8), address(14 + 24)),
    }
}

fn addresses(to: Option<&str>, from: &str, destination: &str) -> (Option<Ipv6Addr>, Ipv6Addr, Ipv6Addr) {
    let parse = |text: &str| text.parse().unwrap();
    (to.map(parse), parse(from), parse(destination))
}

#[test]
fn packets_go_up_and_down_and_from_one_tunnel_into_the_other() {
    let mut gateway = gateway();
    let down = gateway.one(CORE, &plain(REMOTE, NODE));
    assert_eq!(sent(&down), addresses(Some(SWITCH), REMOTE, NODE));
    let up = gateway.one(CORE, &in_tunnel(SWITCH, &plain(NODE, REMOTE)));
    assert_eq!(sent(&up), addresses(None, NODE, REMOTE));
    // The other prefix of the node is anchored elsewhere.
    let down = gateway.one(CORE, &in_tunnel(PEER, &plain(REMOTE, OLD)));
    assert_eq!(sent(&down), addresses(Some(SWITCH), REMOTE, OLD));
    let up = gateway.one(CORE, &in_tunnel(SWITCH, &plain(OLD, REMOTE)));
    assert_eq!(sent(&up), addresses(Some(PEER), OLD, REMOTE));
    // To itself it goes by what the destination says of packets to this gateway.
    let local = gateway.one(CORE, &in_tunnel(SWITCH, &plain(OLD, OTHER_OWN)));
    assert_eq!(local.punt.len(), 1);
}

#[test]
fn what_comes_by_another_way_is_not_the_nodes() {
    let mut gateway = gateway();
    let refused = |outcome: Outcome, reason| {
        assert_eq!(outcome.drops, [(reason, 1)]);
        assert!(outcome.transmit.is_empty());
    };
    // Out of the tunnel of somebody else, and off a link.
    let inner = DropReason::TunnelInnerSourceInvalid;
    refused(gateway.one(CORE, &in_tunnel(PEER, &plain(NODE, REMOTE))), inner);
    refused(gateway.one(CORE, &in_tunnel(PEER, &plain(OLD, REMOTE))), inner);
    for address in [NODE, OLD] {
        let packet = plain(address, REMOTE);
        let outcome = gateway.one_from(ACCESS, NODE_MAC, &packet);
        refused(outcome, DropReason::SourceNotBound);
    }
    // Nor may who is behind the switch use another node's.
    refused(
        gateway.one(CORE, &in_tunnel(SWITCH, &plain(ANCHORED, REMOTE))),
        inner,
    );
}

#[test]
fn a_node_may_send_while_what_is_sent_to_it_waits() {
    let mut gateway = gateway();
    let after = NextHop::After {
        tunnel: TO_ANCHOR,
        maximum_ms: 0,
        then: Box::new(NextHop::Tunnel(TO_SWITCH)),
    };
    for next_hop in [after, NextHop::Hold { maximum_ms: 0 }] {
        gateway.apply(&put(&[(NODE, entry(next_hop.clone(), SourcePath::Native))]));
        let up = gateway.one(CORE, &in_tunnel(SWITCH, &plain(NODE, REMOTE)));
        assert_eq!(sent(&up), addresses(None, NODE, REMOTE), "{next_hop:?}");
        // As long as the anchor moves here, by the old one.
        gateway.apply(&put(&[(
            NODE,
            entry(next_hop.clone(), SourcePath::Tunnel(TO_ANCHOR)),
        )]));
        let up = gateway.one(CORE, &in_tunnel(SWITCH, &plain(NODE, REMOTE)));
        assert_eq!(sent(&up), addresses(Some(PEER), NODE, REMOTE), "{next_hop:?}");
    }
}

#[test]
fn both_senders_are_told_what_fits_the_tunnels() {
    let mut gateway = gateway();
    // The tunnel to the anchor takes 1,460 octets.
    let large = |from: &str, to: &str, octets: usize| ipv6(from, to, 17, 64, &vec![0; octets - 40]);
    let down = gateway.one(CORE, &in_tunnel(PEER, &large(REMOTE, OLD, 1400)));
    assert_eq!(down.drops, [(DropReason::PacketTooBig, 1)]);
    assert_eq!(sent(&down), addresses(None, OWN, REMOTE));
    let up = gateway.one(CORE, &in_tunnel(SWITCH, &large(OLD, REMOTE, 1461)));
    assert_eq!(up.drops, [(DropReason::PacketTooBig, 1)]);
    assert_eq!(sent(&up), addresses(Some(SWITCH), OWN, OLD));
}

#[test]
fn what_would_go_round_is_refused() {
    let mut gateway = Gateway::new();
    let round = entry(NextHop::Tunnel(TO_SWITCH), SourcePath::Tunnel(TO_SWITCH));
    let refusal = gateway.compiler.apply(&put(&[(NODE, round)])).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "prefix 2001:db8:100:1::/64: its packets come out of tunnel 2 and cannot go into it"
    );
    let nowhere = PrefixEntry {
        next_hop: NextHop::Tunnel(TO_SWITCH),
        source: Some(Source {
            sender: Sender::Tunnel(77),
            path: SourcePath::Native,
        }),
    };
    let refusal = gateway.compiler.apply(&put(&[(NODE, nowhere)])).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "prefix 2001:db8:100:1::/64: there is no tunnel 77"
    );
}
