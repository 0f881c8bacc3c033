//! Packets that come a moment before their gateway knows what they are: of a node that has just come, or by a tunnel that its
//! peer was told of sooner.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod core_support;
#[path = "core_support/moving.rs"]
mod moving;

use std::net::Ipv6Addr;
use std::num::NonZeroU32;

use core_support::*;
use kedge_dataplane::counters::Stage;
use kedge_dataplane::drops::DropReason;
use kedge_dataplane_api::Transaction;
use kedge_dataplane_api::model::{
    Encapsulation, Gre, GtpU, NextHop, PrefixEntry, Sender, Source, SourcePath, Tunnel,
};
use moving::*;

impl Moving {
    /// A packet of the node with the next number, from `source`; its number.
    fn node_sends(&mut self, source: &str, from: [u8; 6]) -> u32 {
        let payload = self.numbered();
        let packet = ipv6(source, REMOTE, 17, 64, &payload);
        self.comes(ACCESS, from, &packet);
        self.number
    }

    /// Packets counted out of a tunnel.
    fn out_of_tunnel(&self, id: u32) -> u64 {
        let mut all = self.compiler.tunnel_traffic();
        all.find(|(it, _)| *it == id).unwrap().1.from_packets
    }

    fn bind(&mut self, address: &str, to: [u8; 6]) {
        let entry = PrefixEntry {
            next_hop: deliver(),
            source: Some(Source {
                sender: Sender::Node {
                    port: "access".to_owned(),
                    link_layer_address: to,
                },
                path: SourcePath::Native,
            }),
        };
        self.apply(&Transaction {
            put_prefixes: vec![(prefix(address), entry)],
            ..Transaction::default()
        });
    }
}

const NEW: &str = "2001:db8:100:77::1";
const OTHER_MAC: [u8; 6] = [2, 0, 0, 0, 10, 2];

#[test]
fn a_node_may_send_a_moment_before_its_gateway_knows_it() {
    let mut gateway = Moving::new(BOUNDS);
    let mut expected: Vec<u32> = (0..3).map(|_| gateway.node_sends(NEW, OTHER_MAC)).collect();
    gateway.tend();
    assert_eq!((gateway.sent(), gateway.all_drops()), (vec![], 0));
    gateway.bind(NEW, OTHER_MAC);
    expected.push(gateway.node_sends(NEW, OTHER_MAC));
    assert_eq!(gateway.sent(), [], "it must not overtake");
    let sent = gateway.run_dry();
    assert_eq!(numbers(&sent), expected);
    assert!(sent.iter().all(|it| (it.0, it.2) == (CORE, 63)));
    assert_eq!(gateway.all_drops(), 0);
    expected = vec![gateway.node_sends(NEW, OTHER_MAC)];
    assert_eq!(numbers(&gateway.sent()), expected);
}

#[test]
fn what_stays_unbound_is_dropped_as_such() {
    let mut gateway = Moving::new(BOUNDS);
    for _ in 0..6 {
        gateway.node_sends(NEW, OTHER_MAC);
    }
    assert_eq!(gateway.drops(DropReason::UnknownFull), 2, "four of one node wait");
    // It is bound to another node: that does not help this one.
    gateway.bind(NEW, NODE_MAC);
    gateway.now += UNKNOWN.age / 2;
    gateway.tend();
    assert_eq!(gateway.output.held().0, 4);
    gateway.now += UNKNOWN.age;
    gateway.tend();
    assert_eq!(gateway.output.held().0, 0);
    assert_eq!(gateway.drops(DropReason::SourceNotBound), 4);
    assert_eq!(gateway.sent(), []);
}

/// A source that only some packets of a node may use: each is checked when it goes on.
#[test]
fn what_was_unbound_is_checked_again() {
    let mut gateway = Moving::new(BOUNDS);
    let good = gateway.node_sends(NEW, OTHER_MAC);
    gateway.node_sends("2001:db8:100:78::1", OTHER_MAC);
    gateway.bind(NEW, OTHER_MAC);
    assert_eq!(numbers(&gateway.run_dry()), [good]);
    assert_eq!(gateway.drops(DropReason::SourceNotBound), 1);
}

/// Its anchor has heard of a node sooner than the gateway that serves it.
#[test]
fn what_comes_out_of_a_tunnel_may_come_too_early() {
    let mut gateway = Moving::new(BOUNDS);
    let early: Vec<u32> = (0..3).map(|_| gateway.arrives_by_tunnel(NEW)).collect();
    assert_eq!((gateway.sent(), gateway.all_drops()), (vec![], 0));
    assert_eq!(gateway.out_of_tunnel(1), 3);
    let entry = PrefixEntry {
        next_hop: deliver(),
        source: Some(Source {
            sender: Sender::Node {
                port: "access".to_owned(),
                link_layer_address: NODE_MAC,
            },
            path: SourcePath::Tunnel(1),
        }),
    };
    gateway.apply(&Transaction {
        put_prefixes: vec![(prefix(NEW), entry)],
        ..Transaction::default()
    });
    let next = gateway.arrives_by_tunnel(NEW);
    let sent = gateway.run_dry();
    assert_eq!(numbers(&sent), [&early[..], &[next]].concat());
    assert_eq!(gateway.all_drops(), 0);
    assert_eq!(gateway.out_of_tunnel(1), 4, "each once, when it came");
}

/// The gateway that serves a node has heard of it sooner than its anchor.
#[test]
fn what_waits_for_its_anchor_is_counted_once_for_its_tunnel_and_once_for_its_prefix() {
    let mut gateway = Moving::new(BOUNDS);
    let send = |gateway: &mut Moving| {
        let payload = gateway.numbered();
        gateway.tunnel_brings(&ipv6(NEW, REMOTE, 17, 64, &payload));
    };
    (0..3).for_each(|_| send(&mut gateway));
    assert_eq!((gateway.sent(), gateway.all_drops()), (vec![], 0));
    assert_eq!(gateway.out_of_tunnel(1), 3);
    let entry = PrefixEntry {
        next_hop: NextHop::Tunnel(1),
        source: None,
    };
    gateway.apply(&Transaction {
        put_prefixes: vec![(prefix(NEW), entry)],
        ..Transaction::default()
    });
    assert_eq!(gateway.run_dry().len(), 3);
    send(&mut gateway);
    assert_eq!(gateway.sent().len(), 1);
    let through = gateway.compiler.prefix_total(prefix(NEW)).unwrap().through;
    assert_eq!((gateway.out_of_tunnel(1), through.from_packets), (4, 4));
    assert_eq!((gateway.all_drops(), through.to_packets), (0, 0));
}

/// The same where it is the one prefix of the tunnel, which both count in one cell from then on.
#[test]
fn so_is_what_waits_for_the_only_prefix_of_its_tunnel() {
    let mut gateway = Moving::new(BOUNDS);
    gateway.apply(&Transaction {
        delete_prefixes: vec![prefix(ANCHORED)],
        ..Transaction::default()
    });
    let _ = gateway.compiler.departed(u64::MAX).count();
    let before = gateway.out_of_tunnel(1);
    let packet = |gateway: &mut Moving| ipv6(NEW, REMOTE, 17, 64, &gateway.numbered());
    for _ in 0..3 {
        let packet = packet(&mut gateway);
        gateway.tunnel_brings(&packet);
    }
    assert_eq!((gateway.sent(), gateway.all_drops()), (vec![], 0));
    gateway.turn(NEW, NextHop::Tunnel(1));
    let tunnel = gateway.compiler.tunnel_index(1);
    let new: Ipv6Addr = NEW.parse().unwrap();
    assert!(gateway.snapshot.brings(tunnel, new.into()));
    assert_eq!(gateway.run_dry().len(), 3);
    let next = packet(&mut gateway);
    gateway.tunnel_brings(&next);
    assert_eq!(gateway.sent().len(), 1);
    let through = gateway.compiler.prefix_total(prefix(NEW)).unwrap().through;
    assert_eq!(
        (
            gateway.out_of_tunnel(1) - before,
            through.from_packets,
            gateway.all_drops()
        ),
        (4, 4, 0)
    );
}

/// A TEID of ours, from a peer that has been told of it sooner than we of the peer.
#[test]
fn what_comes_with_a_teid_may_come_too_early() {
    let mut gateway = Moving::new(BOUNDS);
    let inner = udp(GTPU_ANCHORED, REMOTE, 64);
    let from: Ipv6Addr = "2001:db8:c::9".parse().unwrap();
    let packet = g_pdu(&from.to_string(), OWN, LOCAL_TEID, &inner);
    gateway.comes(CORE, ROUTER_MAC, &packet);
    assert_eq!((gateway.output.held().0, gateway.all_drops()), (1, 0));
    // The node is there now.
    let mut tunnel = gateway.compiler.tables().tunnels[&3].clone();
    tunnel.remote = from;
    let tunnels = vec![(9, tunnel)];
    gateway.apply(&Transaction {
        put_tunnels: tunnels,
        ..Transaction::default()
    });
    gateway.turn(GTPU_ANCHORED, NextHop::Tunnel(9));
    let out = gateway.run_dry();
    assert_eq!(out.iter().map(|it| it.0).collect::<Vec<_>>(), [CORE]);
    assert_eq!(gateway.all_drops(), 0);
}

/// Where the node was before, and its TEID or key here.
const STRANGER: &str = "2001:db8:c::9";
const STRANGER4: &str = "198.51.100.77";
const NEW_NUMBER: u32 = 0x7777_0001;

/// A tunnel that nobody knows of yet.
struct NewTunnel {
    name: &'static str,
    reason: DropReason,
    tunnel: Tunnel,
    /// A packet by it.
    outer: fn(u32, &[u8]) -> Vec<u8>,
    ipv4: bool,
}

fn new_tunnels() -> Vec<NewTunnel> {
    let tunnel = |local: Ipv6Addr, remote: Ipv6Addr, encapsulation| Tunnel {
        encapsulation,
        local,
        remote,
        hop_limit: 64,
        mtu: 0,
        encapsulation_limit: None,
        dscp: kedge_dataplane_api::model::Dscp::default(),
    };
    let gtpu = || {
        Encapsulation::GtpU(GtpU {
            local_teid: NonZeroU32::new(NEW_NUMBER).unwrap(),
            remote_teid: NonZeroU32::new(1).unwrap(),
            pdu_session: None,
            sequence_numbers: false,
        })
    };
    let (own, stranger) = (OWN.parse().unwrap(), STRANGER.parse().unwrap());
    let gre = |key| {
        Encapsulation::Gre(Gre {
            local_key: Some(key),
            remote_key: Some(key),
        })
    };
    vec![
        NewTunnel {
            name: "IPv6-in-IPv6",
            reason: DropReason::TunnelUnknownPeer,
            tunnel: tunnel(own, stranger, Encapsulation::Ipv6InIpv6),
            outer: |_, inner| tunnelled(STRANGER, OWN, inner),
            ipv4: false,
        },
        NewTunnel {
            name: "GTP-U",
            reason: DropReason::GtpuTeidUnknown,
            tunnel: tunnel(own, stranger, gtpu()),
            outer: |teid, inner| g_pdu(STRANGER, OWN, teid, inner),
            ipv4: false,
        },
        NewTunnel {
            name: "GTP-U over IPv4",
            reason: DropReason::GtpuTeidUnknown,
            tunnel: tunnel(mapped(OWN4), mapped(STRANGER4), gtpu()),
            outer: |teid, inner| g_pdu4(STRANGER4, OWN4, teid, inner),
            ipv4: true,
        },
        NewTunnel {
            name: "GRE",
            reason: DropReason::GreTunnelUnknown,
            tunnel: tunnel(own, stranger, gre(NEW_NUMBER)),
            outer: |key, inner| keyed(STRANGER, OWN, key, inner),
            ipv4: false,
        },
    ]
}

impl Moving {
    /// A packet with the next number by a new tunnel with this TEID or key; its number.
    fn arrives_by(&mut self, new: &NewTunnel, number: u32, to: &str) -> u32 {
        let payload = self.numbered();
        let packet = (new.outer)(number, &ipv6(REMOTE, to, 17, 64, &payload));
        let to = self.snapshot.ports[CORE].link_layer_address;
        let frame = match new.ipv4 {
            true => ethernet4(to, ROUTER_MAC, &packet),
            false => ethernet(to, ROUTER_MAC, &packet),
        };
        self.comes_framed(CORE, &frame);
        self.number
    }

    /// The gateway learns of a tunnel, and that a prefix of a node here comes by it.
    fn learns(&mut self, new: &NewTunnel) {
        let entry = PrefixEntry {
            next_hop: deliver(),
            source: Some(Source {
                sender: Sender::Node {
                    port: "access".to_owned(),
                    link_layer_address: NODE_MAC,
                },
                path: SourcePath::Tunnel(9),
            }),
        };
        self.apply(&Transaction {
            put_tunnels: vec![(9, new.tunnel.clone())],
            put_prefixes: vec![(prefix(NEW), entry)],
            ..Transaction::default()
        });
    }
}

/// The anchors of a node are told of its new tunnel together with its gateway, and may be faster.
#[test]
fn what_comes_by_a_tunnel_that_nobody_knows_of_yet_is_delivered_in_order() {
    for new in new_tunnels() {
        let mut gateway = Moving::new(BOUNDS);
        let early: Vec<u32> = (0..3)
            .map(|_| gateway.arrives_by(&new, NEW_NUMBER, NEW))
            .collect();
        gateway.tend();
        assert_eq!((gateway.sent(), gateway.all_drops()), (vec![], 0), "{}", new.name);
        gateway.learns(&new);
        let next = gateway.arrives_by(&new, NEW_NUMBER, NEW);
        assert_eq!(gateway.sent(), [], "{}: it must not overtake", new.name);
        let sent = gateway.run_dry();
        assert_eq!(numbers(&sent), [&early[..], &[next]].concat(), "{}", new.name);
        assert_eq!(gateway.all_drops(), 0, "{}", new.name);
        // And from then on without a detour.
        let last = gateway.arrives_by(&new, NEW_NUMBER, NEW);
        assert_eq!(numbers(&gateway.sent()), [last], "{}", new.name);
    }
}

#[test]
fn what_is_never_known_is_refused_by_name_when_its_time_is_over() {
    for new in new_tunnels() {
        let mut gateway = Moving::new(BOUNDS);
        gateway.arrives_by(&new, NEW_NUMBER, NEW);
        gateway.now += UNKNOWN.age / 2;
        gateway.tend();
        assert_eq!(gateway.all_drops(), 0, "{}", new.name);
        gateway.now += UNKNOWN.age;
        gateway.tend();
        assert_eq!(
            (gateway.drops(new.reason), gateway.all_drops()),
            (1, 1),
            "{}",
            new.name
        );
        // Whoever sends to a TEID that nobody has is told so, once that is certain.
        let told = gateway.pipeline.counters.stages(Stage::GtpuErrorIndicationSent);
        assert_eq!(
            told,
            u64::from(new.reason == DropReason::GtpuTeidUnknown),
            "{}",
            new.name
        );
    }
}

/// One tunnel that is gone, and to which its peer still sends, is no trouble to the others of this peer.
#[test]
fn nobody_waits_behind_a_tunnel_that_is_never_known() {
    for new in new_tunnels().into_iter().skip(1) {
        let mut gateway = Moving::new(BOUNDS);
        gateway.learns(&new);
        for _ in 0..10 {
            gateway.arrives_by(&new, NEW_NUMBER + 1, NEW);
        }
        let goes = gateway.arrives_by(&new, NEW_NUMBER, NEW);
        assert_eq!(numbers(&gateway.sent()), [goes], "{}", new.name);
        assert_eq!(
            gateway.drops(DropReason::UnknownFull),
            6,
            "{}: four wait",
            new.name
        );
    }
}

/// However many tunnels a peer invents, nodes that come have room.
#[test]
fn strangers_take_no_room_from_nodes_that_come() {
    for new in new_tunnels().into_iter().skip(1) {
        let mut gateway = Moving::new(BOUNDS);
        for number in 0..20 {
            gateway.arrives_by(&new, NEW_NUMBER + number, NEW);
        }
        assert_eq!(gateway.output.held().0, UNKNOWN.packets / 2, "{}", new.name);
        let refused = 20 - UNKNOWN.packets as u64 / 2;
        assert_eq!(gateway.drops(new.reason), refused, "{}: at once", new.name);
        let expected: Vec<u32> = (0..4).map(|_| gateway.node_sends(NEW, OTHER_MAC)).collect();
        gateway.bind(NEW, OTHER_MAC);
        // Beside what the strangers are told.
        let sent = gateway.run_dry().into_iter();
        let of_node: Vec<_> = sent.filter(|it| it.1.to_string() == REMOTE).collect();
        assert_eq!(numbers(&of_node), expected, "{}", new.name);
    }
}

/// A fragment does not say which tunnel it is of: it does not wait, to be overtaken by what does say so.
#[test]
fn fragments_of_strangers_do_not_wait() {
    let mut gateway = Moving::new(BOUNDS);
    let whole = tunnelled(STRANGER, OWN, &udp(NODE, REMOTE, 64));
    let header = [41, 0, 0, 1, 0, 0, 0, 7];
    let payload = [&header[..], &whole[40..]].concat();
    gateway.comes(CORE, ROUTER_MAC, &ipv6(STRANGER, OWN, 44, 64, &payload));
    assert_eq!(gateway.output.held().0, 0);
    assert_eq!(gateway.drops(DropReason::TunnelUnknownPeer), 1);
}

#[test]
fn what_can_never_be_known_does_not_wait() {
    let mut gateway = Moving::new(BOUNDS);
    let inner = udp(GTPU_ANCHORED, REMOTE, 64);
    gateway.comes(CORE, ROUTER_MAC, &g_pdu(STRANGER, OWN, 0, &inner));
    assert_eq!(
        gateway.drops(DropReason::GtpuTeidUnknown),
        1,
        "TEID 0 is of no tunnel"
    );
    for packet in [
        tunnelled(NODE, OWN, &inner),
        keyed(NODE, OWN, NEW_NUMBER, &inner),
        g_pdu(NODE, OWN, NEW_NUMBER, &inner),
    ] {
        gateway.comes(ACCESS, NODE_MAC, &packet);
    }
    assert_eq!(
        gateway.drops(DropReason::TunnelUnknownPeer),
        3,
        "nodes bring no tunnelled packets"
    );
    assert_eq!(gateway.output.held().0, 0);
}
