//! Packets that wait while an anchor moves: what comes out, in which order, and what is lost with which name.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod core_support;
#[path = "core_support/moving.rs"]
mod moving;

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use core_support::*;
use ipnet::Ipv6Net;
use kedge_dataplane::counters::Stage;
use kedge_dataplane::drops::DropReason;
use kedge_dataplane::frame::{Frame, HeapFrame};
use kedge_dataplane::hold::{Bounds, Overflow};
use kedge_dataplane::pipeline::BURST;
use kedge_dataplane::snapshot::Maximums;
use kedge_dataplane_api::model::{NextHop, PrefixEntry, Sender, Source, SourcePath};
use kedge_dataplane_api::{Transaction, path_end};
use moving::*;
use proptest::prelude::*;

#[test]
fn what_is_held_goes_out_in_order_and_what_comes_meanwhile_behind_it() {
    let mut gateway = Moving::new(BOUNDS);
    gateway.turn(NODE, HOLD);
    let mut expected: Vec<u32> = (0..5).map(|_| gateway.arrives(NODE)).collect();
    assert_eq!(gateway.output.held(), (5, 5 * 52));
    gateway.tend();
    assert_eq!(gateway.sent(), []);
    // Others are not concerned.
    let other = gateway.arrives(ANCHORED);
    assert_eq!(numbers(&gateway.sent()), [other]);
    gateway.turn(NODE, deliver());
    expected.push(gateway.arrives(NODE));
    assert_eq!(gateway.sent(), [], "it must not overtake");
    let sent = gateway.run_dry();
    assert_eq!(numbers(&sent), expected);
    let to: Ipv6Addr = NODE.parse().unwrap();
    assert!(
        sent.iter().all(|it| (it.0, it.1, it.2) == (ACCESS, to, 63)),
        "{sent:?}"
    );
    // And then it is as if nothing had been.
    expected = vec![gateway.arrives(NODE)];
    assert_eq!(numbers(&gateway.sent()), expected);
    assert_eq!(gateway.pipeline.counters.stages(Stage::Held), 6);
    assert_eq!(gateway.pipeline.counters.stages(Stage::Released), 6);
    assert_eq!(gateway.all_drops(), 0);
}

#[test]
fn a_node_that_has_moved_gets_what_was_held_through_the_tunnel() {
    let mut gateway = Moving::new(BOUNDS);
    gateway.turn(NODE, HOLD);
    let expected: Vec<u32> = (0..3).map(|_| gateway.arrives(NODE)).collect();
    gateway.turn(NODE, NextHop::Tunnel(1));
    let sent = gateway.run_dry();
    assert_eq!(numbers(&sent), expected);
    assert!(sent.iter().all(|it| it.0 == CORE));
    assert_eq!(gateway.pipeline.counters.stages(Stage::Encapsulated), 3);
}

#[test]
fn what_came_out_of_a_tunnel_is_held_too() {
    let mut gateway = Moving::new(BOUNDS);
    gateway.turn(OLD, HOLD);
    let mut burst: ArrayVec<HeapFrame, BURST> = ArrayVec::new();
    let packet = tunnelled(PEER, OWN, &udp(REMOTE, OLD, 64));
    burst.push(HeapFrame::new(&ethernet(CORE_MAC, ROUTER_MAC, &packet)));
    gateway.pipeline.process(
        &gateway.snapshot,
        CORE,
        gateway.now,
        &mut burst,
        &mut gateway.output,
    );
    assert_eq!(gateway.output.held(), (1, 52));
    gateway.turn(OLD, deliver());
    let sent = gateway.run_dry();
    assert_eq!(
        sent.iter().map(|it| (it.0, it.2)).collect::<Vec<_>>(),
        [(ACCESS, 63)]
    );
}

#[test]
fn a_hold_survives_whatever_else_is_published() {
    let mut gateway = Moving::new(BOUNDS);
    gateway.turn(NODE, HOLD);
    let mut expected = Vec::new();
    for round in 0..20 {
        expected.push(gateway.arrives(NODE));
        gateway.turn(ANCHORED, if round % 2 == 0 { HOLD } else { NextHop::Tunnel(1) });
        gateway.now += 100;
        gateway.tend();
    }
    assert_eq!(gateway.sent(), []);
    assert_eq!(gateway.output.held().0, 20);
    gateway.turn(NODE, deliver());
    assert_eq!(numbers(&gateway.run_dry()), expected);
}

#[test]
fn a_prefix_that_goes_while_it_is_held_leaves_its_packets_to_the_covering_route() {
    let mut gateway = Moving::new(BOUNDS);
    gateway.turn(OLD, HOLD);
    let expected: Vec<u32> = (0..3).map(|_| gateway.arrives(OLD)).collect();
    let gateway_route = PrefixEntry {
        next_hop: NextHop::Gateway {
            port: "core".to_owned(),
            address: "2001:db8:ca::1".parse().unwrap(),
        },
        source: None,
    };
    gateway.apply(&Transaction {
        delete_prefixes: vec![prefix(OLD)],
        put_prefixes: vec![("2001:db8:200::/48".parse().unwrap(), gateway_route)],
        ..Transaction::default()
    });
    let sent = gateway.run_dry();
    assert_eq!(numbers(&sent), expected);
    assert!(sent.iter().all(|it| it.0 == CORE));
}

#[test]
fn bounds_are_kept_and_what_is_past_them_has_a_name() {
    let mut gateway = Moving::new(BOUNDS);
    gateway.turn(NODE, HOLD);
    gateway.turn(ANCHORED, HOLD);
    let first: Vec<u32> = (0..45).map(|_| gateway.arrives(NODE)).collect();
    assert_eq!(gateway.drops(DropReason::HoldPrefixFull), 5);
    for _ in 0..30 {
        gateway.arrives(ANCHORED);
    }
    assert_eq!(gateway.output.held().0, 64);
    assert_eq!(gateway.drops(DropReason::HoldFull), 6);
    gateway.turn(NODE, deliver());
    assert_eq!(numbers(&gateway.run_dry()), first[..40]);
}

#[test]
fn octets_are_bounded_too() {
    let mut gateway = Moving::new(Bounds {
        octets_per_prefix: 3 * 52 + 51,
        ..BOUNDS
    });
    gateway.turn(NODE, HOLD);
    for _ in 0..5 {
        gateway.arrives(NODE);
    }
    assert_eq!(gateway.output.held(), (3, 3 * 52));
    assert_eq!(gateway.drops(DropReason::HoldPrefixFull), 2);
}

#[test]
fn the_oldest_goes_where_the_operator_wants_it_so() {
    let mut gateway = Moving::new(Bounds {
        overflow: Overflow::DropOldest,
        ..BOUNDS
    });
    gateway.turn(NODE, HOLD);
    let all: Vec<u32> = (0..45).map(|_| gateway.arrives(NODE)).collect();
    assert_eq!(gateway.drops(DropReason::HoldPrefixFull), 5);
    gateway.turn(NODE, deliver());
    assert_eq!(numbers(&gateway.run_dry()), all[5..]);
}

#[test]
fn what_has_waited_too_long_is_dropped_alone() {
    let mut gateway = Moving::new(BOUNDS);
    gateway.turn(NODE, HOLD);
    gateway.arrives(NODE);
    gateway.now += BOUNDS.age / 2;
    let young = gateway.arrives(NODE);
    gateway.now += BOUNDS.age / 2 + 1;
    gateway.tend();
    assert_eq!(gateway.drops(DropReason::HoldTooOld), 1);
    gateway.turn(NODE, deliver());
    assert_eq!(numbers(&gateway.run_dry()), [young]);
}

#[test]
fn a_hold_that_nobody_ends_expires() {
    let mut gateway = Moving::new(Bounds {
        age: u64::MAX,
        ..BOUNDS
    });
    gateway.turn(NODE, HOLD);
    gateway.turn(ANCHORED, NextHop::Hold { maximum_ms: 60_000 });
    gateway.arrives(NODE);
    gateway.arrives(ANCHORED);
    assert!(gateway.compiler.expire_holds(Instant::now()).is_none());
    let generation = gateway.compiler.generation();
    let later = Instant::now() + Duration::from_secs(4);
    let (prefixes, snapshot) = gateway.compiler.expire_holds(later).unwrap();
    assert_eq!(prefixes.iter().map(|it| it.0).collect::<Vec<_>>(), [prefix(NODE)]);
    assert_eq!(
        gateway.compiler.generation(),
        generation,
        "the tables are as before"
    );
    assert!(gateway.compiler.expire_holds(later).is_none(), "once is enough");
    gateway.snapshot = snapshot;
    assert_eq!(gateway.run_dry(), []);
    assert_eq!(gateway.drops(DropReason::HoldExpired), 1);
    gateway.arrives(NODE);
    assert_eq!(gateway.drops(DropReason::HoldExpired), 2);
    assert_eq!(gateway.output.held().0, 1, "the other one goes on");
    let expired: Vec<bool> = gateway.compiler.holds().map(|(_, hold)| hold.over).collect();
    assert_eq!(expired, [true, false]);
    // The node comes back after all.
    gateway.turn(NODE, deliver());
    let number = gateway.arrives(NODE);
    assert_eq!(numbers(&gateway.sent()), [number]);
    assert_eq!(gateway.compiler.holds().count(), 1);
}

#[test]
fn a_hold_that_is_too_long_is_refused() {
    let mut gateway = Moving::new(BOUNDS);
    let entry = PrefixEntry {
        next_hop: NextHop::Hold { maximum_ms: 600_001 },
        source: Some(Source {
            sender: Sender::Node {
                port: "access".to_owned(),
                link_layer_address: NODE_MAC,
            },
            path: SourcePath::Native,
        }),
    };
    let refusal = gateway
        .compiler
        .apply(&Transaction {
            put_prefixes: vec![(prefix(NODE), entry)],
            ..Transaction::default()
        })
        .unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "prefix 2001:db8:100:1::/64: maximum_ms = 600001: must be 0 to 600000"
    );
}

#[test]
fn without_room_nothing_waits() {
    let mut gateway = Moving::new(Bounds::default());
    gateway.turn(NODE, HOLD);
    gateway.arrives(NODE);
    assert_eq!(gateway.output.held(), (0, 0));
    assert_eq!(gateway.drops(DropReason::HoldFull), 1);
}

const PLACES: [&str; 3] = [NODE, ANCHORED, OLD];

#[derive(Clone, Debug)]
enum Event {
    Arrives(usize),
    Turn(usize, u8),
    Publish,
    Round(u64),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        6 => (0..PLACES.len()).prop_map(Event::Arrives),
        2 => (0..PLACES.len(), 0u8..4).prop_map(|(place, what)| Event::Turn(place, what)),
        1 => Just(Event::Publish),
        3 => (0u64..700).prop_map(Event::Round),
    ];
    prop::collection::vec(event, 0..300)
}

proptest! {
    /// Whatever happens: each packet comes out once or is counted as dropped, and each prefix's in order.
    #[test]
    fn nothing_is_reordered_and_nothing_lost_without_a_name(events in events(), oldest in any::<bool>()) {
        let overflow = if oldest { Overflow::DropOldest } else { Overflow::DropNewest };
        let mut gateway = Moving::new(Bounds { overflow, ..BOUNDS });
        let mut out: BTreeMap<Ipv6Addr, Vec<u32>> = BTreeMap::new();
        let mut total = 0;
        let next_hop = |what| match what {
            0 => deliver(),
            2 => after(2, deliver()),
            1 => NextHop::Tunnel(1),
            _ => HOLD,
        };
        for event in events {
            match event {
                Event::Arrives(place) => {
                    gateway.arrives(PLACES[place]);
                }
                Event::Turn(place, what) => gateway.turn(PLACES[place], next_hop(what)),
                Event::Publish => gateway.turn(NARROW, NextHop::Tunnel(2)),
                Event::Round(cycles) => {
                    gateway.now += cycles;
                    gateway.tend();
                }
            }
            for (_, to, hop_limit, number) in gateway.sent() {
                prop_assert_eq!(hop_limit, 63);
                out.entry(to).or_default().push(number);
                total += 1;
            }
        }
        for place in PLACES {
            gateway.turn(place, deliver());
        }
        for (_, to, _, number) in gateway.run_dry() {
            out.entry(to).or_default().push(number);
            total += 1;
        }
        prop_assert_eq!(gateway.output.held(), (0, 0));
        for numbers in out.values() {
            prop_assert!(numbers.is_sorted_by(|a, b| a < b), "{:?}", numbers);
        }
        prop_assert_eq!(total + gateway.all_drops(), u64::from(gateway.number));
    }
}

/// `prefix` waits for what `tunnel` still brings.
fn after(tunnel: u32, then: NextHop) -> NextHop {
    NextHop::After {
        tunnel,
        maximum_ms: 0,
        then: Box::new(then),
    }
}

#[test]
fn the_new_way_waits_for_the_end_of_the_old_one() {
    let mut gateway = Moving::new(BOUNDS);
    gateway.turn(NODE, after(1, deliver()));
    let new: Vec<u32> = (0..3).map(|_| gateway.arrives(NODE)).collect();
    let old: Vec<u32> = (0..3).map(|_| gateway.arrives_by_tunnel(NODE)).collect();
    gateway.tend();
    assert_eq!(
        numbers(&gateway.sent()),
        old,
        "what comes by the old way goes at once"
    );
    assert_eq!(gateway.output.held().0, 3);
    gateway.tunnel_brings(&path_end::write("2001:db8:b::1".parse().unwrap(), prefix(NODE)));
    let end = gateway.output.ended.pop().unwrap();
    assert_eq!(gateway.sent(), [], "the end itself goes nowhere");
    let (ended, snapshot) = gateway.compiler.end_paths([(end.tunnel, end.address)]).unwrap();
    assert_eq!(
        ended.iter().map(|it| (it.0, it.1.after)).collect::<Vec<_>>(),
        [(prefix(NODE), Some(1))]
    );
    assert!(
        gateway.compiler.end_paths([(end.tunnel, end.address)]).is_none(),
        "said again, it ends nothing"
    );
    gateway.snapshot = snapshot;
    let sent = gateway.run_dry();
    assert_eq!(numbers(&sent), new);
    assert!(sent.iter().all(|it| it.0 == ACCESS));
    assert_eq!(gateway.pipeline.counters.stages(Stage::PathEnded), 1);
    assert_eq!(gateway.all_drops(), 0);
    // What is late all the same is late, and not lost, until the control plane says that nothing else comes.
    let late = gateway.arrives_by_tunnel(NODE);
    assert_eq!(numbers(&gateway.sent()), [late]);
    gateway.turn(NODE, deliver());
    gateway.arrives_by_tunnel(NODE);
    gateway.now += UNKNOWN.age + 1;
    gateway.tend();
    assert_eq!(gateway.drops(DropReason::TunnelInnerSourceInvalid), 1);
}

#[test]
fn an_end_is_that_of_the_longest_prefix_that_waits_for_it() {
    let mut gateway = Moving::new(BOUNDS);
    let [wide, narrow, one] = [
        "2001:db8:100::/44",
        "2001:db8:100:1::/64",
        "2001:db8:100:1::1/128",
    ]
    .map(|text| text.parse::<Ipv6Net>().unwrap());
    let entry = |tunnel| PrefixEntry {
        next_hop: after(tunnel, deliver()),
        source: None,
    };
    gateway.snapshot = gateway
        .compiler
        .apply(&Transaction {
            put_prefixes: vec![(wide, entry(1)), (narrow, entry(2)), (one, entry(1))],
            ..Transaction::default()
        })
        .unwrap();
    let index = |gateway: &Moving, place: u32| gateway.snapshot.afters.get(place).first;
    let (first, second) = (index(&gateway, 1), index(&gateway, 2));
    assert_ne!(first, second);
    let ended = |gateway: &mut Moving, ends: &[(u32, &str)]| {
        let ends = ends
            .iter()
            .map(|(tunnel, address)| (*tunnel, address.parse().unwrap()));
        let ended = gateway.compiler.end_paths(ends.collect::<Vec<_>>());
        ended.map_or_else(Vec::new, |(ended, _)| ended.into_iter().map(|it| it.0).collect())
    };
    assert_eq!(
        ended(&mut gateway, &[(first, "2001:db8:200::"), (9999, NODE)]),
        []
    );
    // Each once, though said twice: the address, and the prefix around it that waits for the other tunnel.
    assert_eq!(
        ended(&mut gateway, &[(first, NODE), (second, NODE), (first, NODE)]),
        [narrow, one]
    );
    assert_eq!(ended(&mut gateway, &[(first, NODE), (second, NODE)]), [wide]);
    assert_eq!(ended(&mut gateway, &[(first, NODE)]), []);
}

/// From an address of a node whose packets that tunnel brings: it is an end all the same, and no packet of that node's.
#[test]
fn an_end_is_one_whoever_it_is_from() {
    let mut gateway = Moving::new(BOUNDS);
    let from: Ipv6Addr = ANCHORED.parse().unwrap();
    let tunnel = gateway.compiler.tunnel_index(1);
    assert!(gateway.snapshot.brings(tunnel, from.into()));
    gateway.turn(NODE, after(1, deliver()));
    let counted = |gateway: &Moving| {
        gateway
            .compiler
            .tunnel_traffic()
            .find(|(id, _)| *id == 1)
            .unwrap()
            .1
    };
    let before = counted(&gateway);
    gateway.tunnel_brings(&path_end::write(from, prefix(NODE)));
    let end = gateway.output.ended.pop().unwrap();
    assert_eq!((end.tunnel, gateway.sent()), (tunnel, vec![]));
    let through = gateway.compiler.prefix_total(prefix(ANCHORED)).unwrap().through;
    assert_eq!(
        (counted(&gateway).from_packets, through.from_packets),
        (before.from_packets + 1, 0)
    );
}

#[test]
fn an_old_way_that_nobody_ends_ends_by_itself() {
    let mut gateway = Moving::new(BOUNDS);
    gateway.turn(NODE, after(1, deliver()));
    let new: Vec<u32> = (0..3).map(|_| gateway.arrives(NODE)).collect();
    let bound = Maximums::default().path_end;
    assert!(
        gateway
            .compiler
            .expire_holds(Instant::now() + bound / 2)
            .is_none()
    );
    assert!(gateway.compiler.awaits_path_ends());
    let (ended, snapshot) = gateway.compiler.expire_holds(Instant::now() + bound).unwrap();
    assert_eq!(ended.len(), 1);
    assert!(!gateway.compiler.awaits_path_ends());
    gateway.snapshot = snapshot;
    assert_eq!(numbers(&gateway.run_dry()), new, "nothing is lost for it");
}

#[test]
fn a_path_end_is_heeded_only_where_one_is_awaited_and_from_whom() {
    let from: Ipv6Addr = "2001:db8:b::1".parse().unwrap();
    let mut gateway = Moving::new(BOUNDS);
    // Of a prefix that waits for another tunnel.
    gateway.turn(NODE, after(2, deliver()));
    gateway.tunnel_brings(&path_end::write(from, prefix(NODE)));
    gateway.now += UNKNOWN.age + 1;
    gateway.tend();
    assert_eq!(gateway.drops(DropReason::PathEndUnexpected), 1);
    // Without a tunnel it is a packet like any other.
    gateway.comes(CORE, ROUTER_MAC, &path_end::write(from, prefix(NODE)));
    assert_eq!(gateway.output.held().0, 1);
    assert_eq!(gateway.output.ended.len(), 0);
}

/// The gateway that the node has left: it holds, and what it holds goes on with its end behind it.
#[test]
fn a_path_end_is_held_and_relayed_behind_what_it_ends() {
    let mut gateway = Moving::new(BOUNDS);
    gateway.turn(OLD, HOLD);
    gateway.arrives_by_tunnel(OLD);
    gateway.arrives_by_tunnel(OLD);
    gateway.tunnel_brings(&path_end::write("2001:db8:b::1".parse().unwrap(), prefix(OLD)));
    assert_eq!(gateway.output.held().0, 3);
    gateway.turn(OLD, NextHop::Tunnel(2));
    for _ in 0..10 {
        gateway.now += 100;
        gateway.tend();
    }
    let sent: Vec<Vec<u8>> = gateway.output.transmit[CORE]
        .drain(..)
        .map(|frame| frame.bytes()[54..].to_vec())
        .collect();
    let number = |packet: &Vec<u8>| (packet.len() == 52).then(|| packet[51]);
    assert_eq!(
        sent.iter().map(number).collect::<Vec<_>>(),
        [Some(1), Some(2), None]
    );
    assert_eq!(path_end::read(&sent[2]), Some(64));
}

#[test]
fn what_cannot_be_waited_for_is_refused() {
    let mut gateway = Moving::new(BOUNDS);
    let put = |next_hop| Transaction {
        put_prefixes: vec![(
            prefix(NODE),
            PrefixEntry {
                next_hop,
                source: None,
            },
        )],
        ..Transaction::default()
    };
    let refusal =
        |gateway: &mut Moving, next_hop| gateway.compiler.apply(&put(next_hop)).unwrap_err().to_string();
    assert_eq!(
        refusal(&mut gateway, after(9, deliver())),
        "prefix 2001:db8:100:1::/64: there is no tunnel 9"
    );
    assert_eq!(
        refusal(&mut gateway, after(1, HOLD)),
        "prefix 2001:db8:100:1::/64: after.then must be deliver or tunnel"
    );
    gateway.turn(NODE, after(2, deliver()));
    gateway.turn(NARROW, deliver());
    let refused = gateway.compiler.apply(&Transaction {
        delete_tunnels: vec![2],
        ..Transaction::default()
    });
    assert!(refused.is_err(), "a tunnel that is waited for stays");
}
