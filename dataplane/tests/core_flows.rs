//! Filters on octets and a snapshot: what they do with the packets of nodes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod core_support;

use std::time::{Duration, Instant};

use core_support::filters::*;
use core_support::*;
use ipnet::Ipv6Net;
use kedge_dataplane::counters::Stage;
use kedge_dataplane::drops::DropReason;
use kedge_dataplane::snapshot::Expiry;
use kedge_dataplane_api::Transaction;
use kedge_dataplane_api::model::{
    Direction, Filter, FilterAction, Meter, MeterRates, NextHop, PortRange, Selector, SourcePath,
    TrafficClass, Yellow,
};

#[test]
fn local_breakout_of_one_port_while_the_rest_goes_to_the_anchor() {
    let mut gateway = gateway(vec![filter(
        OLD_NET,
        10,
        discard_port(),
        FilterAction::LocalBreakout,
    )]);
    let packet = udp(OLD, REMOTE, 64);
    let out = gateway.one_from(ACCESS, NODE_MAC, &packet);
    assert_eq!(
        out.transmit,
        [(CORE, ethernet(ROUTER_MAC, CORE_MAC, &hop(&packet)))],
        "by its destination"
    );
    let other = ipv6(OLD, REMOTE, 17, 64, &[0x30, 0x39, 0, 10, 0, 8, 0, 0]);
    let out = gateway.one_from(ACCESS, NODE_MAC, &other);
    assert_eq!(out.transmit[0].1[20], 41, "into the tunnel");
    // It is no way around the source check.
    let out = gateway.one_from(ACCESS, ROUTER_MAC, &packet);
    assert_eq!(out.drops, [(DropReason::SourceNotBound, 1)]);
    let charge = gateway.compiler.filter_charge(1).unwrap();
    assert_eq!(
        (
            charge.traffic.from_packets,
            charge.traffic.from_bytes,
            charge.traffic.to_packets
        ),
        (1, packet.len() as u64, 0)
    );
}

#[test]
fn a_flow_to_a_node_goes_into_another_tunnel_and_answers_by_it() {
    let mut gateway = gateway(vec![filter(
        NODE_NET,
        10,
        Selector {
            direction: Some(Direction::ToNode),
            ..discard_port()
        },
        FilterAction::Tunnel(1),
    )]);
    let packet = udp(REMOTE, NODE, 64);
    let out = gateway.one(CORE, &packet);
    assert_eq!(out.transmit[0].1[20], 41);
    assert_eq!(
        &out.transmit[0].1[38..54],
        &octets(PEER),
        "to the peer of that tunnel"
    );
    // What the node says there comes back out of the same tunnel; from another it may not.
    let answer = tunnelled(PEER, OWN, &udp(NODE, REMOTE, 64));
    let out = gateway.one(CORE, &answer);
    assert_eq!(out.transmit.len(), 1);
    let wrong = tunnelled(NARROW_PEER, OWN, &udp(NODE, REMOTE, 64));
    let out = gateway.one(CORE, &wrong);
    assert_eq!(out.drops, [(DropReason::TunnelInnerSourceInvalid, 1)]);
}

#[test]
fn what_is_dropped_is_dropped_by_name_inside_of_tunnels_too() {
    let mut gateway = gateway(vec![
        filter("", 10, discard_port(), FilterAction::Drop),
        filter(ANCHORED_NET, 9, any(), FilterAction::Anchor),
    ]);
    assert_eq!(
        gateway.one(CORE, &udp(REMOTE, NODE, 64)).drops,
        [(DropReason::FlowFiltered, 1)]
    );
    assert_eq!(
        gateway.one_from(ACCESS, NODE_MAC, &udp(OLD, REMOTE, 64)).drops,
        [(DropReason::FlowFiltered, 1)]
    );
    let inner = udp(REMOTE, OLD, 64);
    assert_eq!(
        gateway.one(CORE, &tunnelled(PEER, OWN, &inner)).drops,
        [(DropReason::FlowFiltered, 1)]
    );
    // A lower number comes first.
    let inner = udp(ANCHORED, REMOTE, 64);
    assert_eq!(gateway.one(CORE, &tunnelled(PEER, OWN, &inner)).transmit.len(), 1);
    // What is for the gateway itself meets no filter.
    assert_eq!(gateway.one(CORE, &udp(REMOTE, OWN, 64)).punt.len(), 1);
    assert_eq!(gateway.compiler.filter_charge(1).unwrap().traffic.from_packets, 1);
    assert_eq!(gateway.compiler.filter_charge(1).unwrap().traffic.to_packets, 2);
}

#[test]
fn later_fragments_have_no_ports_and_are_counted() {
    let mut gateway = gateway(vec![filter(NODE_NET, 10, discard_port(), FilterAction::Drop)]);
    let fragment = |offset: u8| {
        let header = [17, 0, 0, offset << 3 | 1, 0, 0, 0, 7];
        let payload = [&header[..], &udp(REMOTE, NODE, 64)[40..]].concat();
        ipv6(REMOTE, NODE, 44, 64, &payload)
    };
    assert_eq!(
        gateway.one(CORE, &fragment(0)).drops,
        [(DropReason::FlowFiltered, 1)]
    );
    assert_eq!(gateway.one(CORE, &fragment(1)).transmit.len(), 1);
    let stage = |stage| gateway.pipeline.counters.stages(stage);
    assert_eq!(stage(Stage::FilteredLaterFragment), 1);
    assert_eq!(stage(Stage::FilteredUnreadable), 0);
    let _ = gateway.one(CORE, &bad_options(NODE));
    assert_eq!(gateway.pipeline.counters.stages(Stage::FilteredUnreadable), 1);
}

/// What comes by an old way, or goes back by it, is the other end's to count: so each packet is counted once while a prefix moves.
#[test]
fn a_filter_leaves_alone_what_another_gateway_has_asked_about() {
    let mut gateway = gateway(vec![
        Filter {
            except_tunnel: Some(1),
            ..filter(OLD_NET, 10, any(), FilterAction::Meter(2))
        },
        Filter {
            except_tunnel: Some(1),
            ..filter(OLD_NET, 10, discard_port(), FilterAction::Drop)
        },
    ]);
    let counts = |gateway: &Gateway| {
        let traffic = gateway.compiler.filter_charge(1).unwrap().traffic;
        let dropped = gateway.compiler.filter_charge(2).unwrap().traffic;
        (
            (traffic.to_packets, traffic.from_packets),
            (dropped.to_packets, dropped.from_packets),
        )
    };
    // From the node into the tunnel to its anchor, and to it out of that.
    let from = sized(OLD, REMOTE, 200);
    let to = sized(REMOTE, OLD, 200);
    let by_tunnel = tunnelled(PEER, OWN, &to);
    assert_eq!(gateway.one_from(ACCESS, NODE_MAC, &from).transmit.len(), 1);
    assert_eq!(gateway.one(CORE, &by_tunnel).transmit.len(), 1);
    assert_eq!(counts(&gateway), ((0, 0), (0, 0)));
    // Straight, it is.
    assert_eq!(gateway.one(CORE, &to).transmit.len(), 1);
    assert_eq!(gateway.one(CORE, &udp(REMOTE, OLD, 64)).transmit.len(), 0);
    assert_eq!(counts(&gateway), ((1, 0), (1, 0)));
    // When the prefix is here, what it sends is counted here, and later what comes out of that tunnel too.
    let mut entry = gateway.compiler.tables().prefixes[&OLD_NET.parse::<Ipv6Net>().unwrap()].clone();
    entry.source.as_mut().unwrap().path = SourcePath::Native;
    entry.next_hop = NextHop::After {
        tunnel: 1,
        maximum_ms: 0,
        then: Box::new(entry.next_hop),
    };
    gateway.apply(&Transaction {
        put_prefixes: vec![(OLD_NET.parse().unwrap(), entry)],
        ..Transaction::default()
    });
    assert_eq!(gateway.one_from(ACCESS, NODE_MAC, &from).transmit.len(), 1);
    assert_eq!(gateway.one(CORE, &by_tunnel).transmit.len(), 1);
    assert_eq!(counts(&gateway), ((1, 1), (1, 0)));
    let tables = gateway.compiler.tables();
    let settled = (
        1,
        Filter {
            except_tunnel: None,
            ..tables.filters[&1].clone()
        },
    );
    gateway.apply(&Transaction {
        put_filters: vec![settled.clone()],
        ..Transaction::default()
    });
    assert_eq!(gateway.one(CORE, &by_tunnel).transmit.len(), 1);
    assert_eq!(counts(&gateway), ((2, 1), (1, 0)), "the counters are the same");
    // The tunnel is there as long as a filter names it, and is named for a prefix alone.
    let refused = |gateway: &mut Gateway, id, filter: Filter| {
        let put = Transaction {
            put_filters: vec![(id, filter)],
            ..Transaction::default()
        };
        gateway.compiler.apply(&put).unwrap_err().to_string()
    };
    let it = settled.1;
    let unknown = Filter {
        except_tunnel: Some(99),
        ..it.clone()
    };
    assert_eq!(
        refused(&mut gateway, 1, unknown),
        "filter 1: there is no tunnel 99"
    );
    let of_all = Filter {
        except_tunnel: Some(1),
        scope: None,
        ..it
    };
    assert!(refused(&mut gateway, 9, of_all).contains("except_tunnel 1 without a scope"));
}

/// The times of a filter begin when it is put, and not anew when the other end has nothing more to do with it.
#[test]
fn the_times_of_a_filter_go_on_without_its_exception() {
    let limited = Filter {
        lifetime: 60,
        except_tunnel: Some(1),
        ..filter(OLD_NET, 10, any(), FilterAction::Anchor)
    };
    let mut gateway = gateway(vec![limited.clone()]);
    let later = Instant::now() + Duration::from_secs(61);
    let without = |lifetime| Transaction {
        put_filters: vec![(
            1,
            Filter {
                except_tunnel: None,
                lifetime,
                ..limited.clone()
            },
        )],
        ..Transaction::default()
    };
    gateway.apply(&without(60));
    assert_eq!(gateway.compiler.expired(later), [(1, Expiry::Lifetime)]);
    gateway.apply(&without(120));
    assert_eq!(gateway.compiler.expired(later), []);
}

#[test]
fn traffic_class_and_flow_label_are_looked_at() {
    let selector = Selector {
        traffic_class: TrafficClass {
            value: 0xb8,
            mask: 0xfc,
        },
        flow_label: Some(0x12345),
        ..Selector::default()
    };
    let mut gateway = gateway(vec![filter(NODE_NET, 1, selector, FilterAction::Drop)]);
    let mut packet = udp(REMOTE, NODE, 64);
    packet[..4].copy_from_slice(&[0x6b, 0xa1, 0x23, 0x45]);
    assert_eq!(gateway.one(CORE, &packet).drops, [(DropReason::FlowFiltered, 1)]);
    packet[3] = 0x44;
    assert_eq!(gateway.one(CORE, &packet).transmit.len(), 1);
}

#[test]
fn filters_act_on_a_prefix_that_waits_for_the_end_of_an_old_way() {
    let to_node = Selector {
        direction: Some(Direction::ToNode),
        ..discard_port()
    };
    let mut gateway = gateway(vec![filter(NODE_NET, 1, to_node, FilterAction::Drop)]);
    let net: Ipv6Net = NODE_NET.parse().unwrap();
    let mut entry = gateway.compiler.tables().prefixes[&net].clone();
    entry.next_hop = NextHop::After {
        tunnel: 1,
        maximum_ms: 1000,
        then: Box::new(entry.next_hop),
    };
    gateway.apply(&Transaction {
        put_prefixes: vec![(net, entry)],
        ..Transaction::default()
    });
    // Straight, and by the old way.
    for packet in [
        udp(REMOTE, NODE, 64),
        tunnelled(PEER, OWN, &udp(REMOTE, NODE, 64)),
    ] {
        assert_eq!(gateway.one(CORE, &packet).drops, [(DropReason::FlowFiltered, 1)]);
    }
    assert_eq!(gateway.compiler.filter_charge(1).unwrap().traffic.to_packets, 2);
}

#[test]
fn a_filter_whose_time_has_passed_is_reported_until_it_is_gone() {
    let mut gateway = Gateway::new();
    let put = |idle_timeout, lifetime| Filter {
        name: String::new(),
        idle_timeout,
        lifetime,
        except_tunnel: None,
        ..filter(NODE_NET, 1, any(), FilterAction::Anchor)
    };
    gateway.apply(&Transaction {
        put_filters: vec![(1, put(2, 0)), (2, put(0, 5)), (3, put(0, 0))],
        ..Transaction::default()
    });
    let start = Instant::now();
    let at = |gateway: &mut Gateway, seconds| gateway.compiler.expired(start + Duration::from_secs(seconds));
    assert_eq!(at(&mut gateway, 1), []);
    // A packet counts for the first of them alone.
    let _ = gateway.one(CORE, &udp(REMOTE, NODE, 64));
    assert_eq!(at(&mut gateway, 2), [], "seen now");
    assert_eq!(at(&mut gateway, 3), []);
    assert_eq!(at(&mut gateway, 4), [(1, Expiry::Idle)]);
    assert_eq!(at(&mut gateway, 6), [(2, Expiry::Lifetime)]);
    assert_eq!(at(&mut gateway, 15), [(1, Expiry::Idle)], "said again");
    gateway.apply(&Transaction {
        delete_filters: vec![1, 2],
        ..Transaction::default()
    });
    assert_eq!(at(&mut gateway, 60), []);
}

#[test]
fn what_cannot_be_is_refused_by_name_and_changes_nothing() {
    let refused = |change: &dyn Fn(&mut Transaction)| {
        let mut gateway = gateway(vec![
            filter(NODE_NET, 1, any(), FilterAction::Meter(1)),
            filter("", 1, any(), FilterAction::Tunnel(3)),
        ]);
        let mut transaction = Transaction::default();
        change(&mut transaction);
        let before = (gateway.compiler.tables().clone(), gateway.compiler.generation());
        let error = gateway.compiler.apply(&transaction).unwrap_err();
        assert_eq!(
            (gateway.compiler.tables().clone(), gateway.compiler.generation()),
            before
        );
        error.to_string()
    };
    let put = |filter: Filter| refused(&|it| it.put_filters.push((9, filter.clone())));
    let with = |selector: Selector| put(filter(NODE_NET, 1, selector, FilterAction::Drop));
    let put_meter = |rates| {
        refused(&|it| {
            let meter = Meter {
                rates,
                ..meter(Yellow::Pass, false)
            };
            it.put_meters.push((9, meter));
        })
    };
    let cases = [
        (
            put(filter(NODE_NET, 0, any(), FilterAction::Drop)),
            "filter 9: priority 0: a priority is 1 to 65535",
        ),
        (
            put(filter("2001:db8:100:1::1/64", 1, any(), FilterAction::Drop)),
            "filter 9: prefix 2001:db8:100:1::1/64: has host bits set",
        ),
        (
            put(filter("2001:db8:77::/64", 1, any(), FilterAction::Drop)),
            "filter 9: there is no prefix 2001:db8:77::/64",
        ),
        (
            put(filter(NODE_NET, 1, any(), FilterAction::Tunnel(77))),
            "filter 9: there is no tunnel 77",
        ),
        (
            put(filter(NODE_NET, 1, any(), FilterAction::Meter(77))),
            "filter 9: there is no meter 77",
        ),
        (
            put(filter("", 1, any(), FilterAction::NodeMeter(1))),
            "filter 9: a node's meter without a scope: whose meter it is has to be said",
        ),
        (
            put(filter(
                NODE_NET,
                1,
                Selector {
                    direction: Some(Direction::ToNode),
                    ..any()
                },
                FilterAction::LocalBreakout,
            )),
            "filter 9: local breakout to the node: only what comes from a node can break out",
        ),
        (
            with(Selector {
                protocol: Some(58),
                ..discard_port()
            }),
            "filter 9: protocol 58: has no ports",
        ),
        (
            with(Selector {
                source_ports: Some(PortRange { first: 2, last: 1 }),
                ..any()
            }),
            "filter 9: ports 2 to 1: the first is above the last",
        ),
        (
            with(Selector {
                flow_label: Some(1 << 20),
                ..any()
            }),
            "filter 9: flow label 1048576: is above 1048575",
        ),
        (
            with(Selector {
                traffic_class: TrafficClass { value: 3, mask: 2 },
                ..any()
            }),
            "filter 9: traffic class 0x03: has bits that its mask has not",
        ),
        (
            refused(&|it| it.delete_filters.push(77)),
            "filter 77 cannot be deleted: it is not there",
        ),
        (
            refused(&|it| it.delete_meters.push(77)),
            "meter 77 cannot be deleted: it is not there",
        ),
        (
            refused(&|it| it.delete_meters.push(1)),
            "filter 1: there is no meter 1",
        ),
        (
            refused(&|it| it.delete_prefixes.push(NODE_NET.parse().unwrap())),
            "filter 1: there is no prefix 2001:db8:100:1::/64",
        ),
        (
            refused(&|it| {
                it.delete_tunnels.push(3);
                for prefix in ["2001:db8:100:5::/64", "2001:db8:200:5::/64"] {
                    it.delete_prefixes.push(prefix.parse().unwrap());
                }
            }),
            "filter 2: there is no tunnel 3",
        ),
        (
            put_meter(MeterRates::Rfc2698 {
                cir: 2,
                cbs: 2000,
                pir: 1,
                pbs: 2000,
            }),
            "meter 9: peak information rate 1: is below the committed one",
        ),
        (
            put_meter(MeterRates::Rfc4115 {
                cir: 2,
                cbs: 1279,
                eir: 0,
                ebs: 0,
            }),
            "meter 9: committed burst size 1279: is below 1280 octets, so that not every packet can pass",
        ),
    ];
    for (found, expected) in cases {
        assert_eq!(found, expected);
    }
    let many: Vec<_> = (10..75)
        .map(|id| (id, filter(NODE_NET, 1, any(), FilterAction::Drop)))
        .collect();
    assert_eq!(
        refused(&|it| it.put_filters = many.clone()),
        "filter 73: prefix 2001:db8:100:1::/64: has 64 filters already, and may have no more"
    );
}
