//! Meters, and what is counted for charging, on octets and a snapshot.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod core_support;

use core_support::filters::*;
use core_support::*;
use ipnet::Ipv6Net;
use kedge_dataplane::drops::DropReason;
use kedge_dataplane::snapshot::Carried;
use kedge_dataplane_api::Transaction;
use kedge_dataplane_api::model::{FilterAction, Meter, MeterFill, MeterRates, NextHop, PrefixEntry, Yellow};

#[test]
fn yellow_is_remarked_and_red_is_dropped_by_name() {
    let mut gateway = gateway(vec![filter(NODE_NET, 10, any(), FilterAction::NodeMeter(1))]);
    let mut packet = sized(REMOTE, NODE, 1000);
    // Expedited forwarding, ECN-capable.
    packet[0] = 0x6b;
    packet[1] = 0xa0;
    let green = gateway.one(CORE, &packet);
    assert_eq!(green.transmit[0].1[14..], hop(&packet));
    let yellow = gateway.one(CORE, &packet);
    let mut marked = hop(&packet);
    (marked[0], marked[1]) = (0x62, 0xa0);
    assert_eq!(
        yellow.transmit[0].1[14..],
        marked,
        "AF11, the ECN field as it was"
    );
    assert_eq!(gateway.one(CORE, &packet).drops, [(DropReason::MeteredRed, 1)]);
    let (_, colours) = gateway.compiler.meter_colours().next().unwrap();
    assert_eq!((colours.packets, colours.bytes), ([1, 1, 1], [1000; 3]));
    // A second later a thousand octets more may pass; the clock of these tests has a million cycles in it.
    gateway.now = 1_000_000;
    assert_eq!(gateway.one(CORE, &packet).transmit.len(), 1);
    // Each packet is in one reading, its colour with it; the meter's own totals go on.
    let id = *gateway.compiler.tables().filters.keys().next().unwrap();
    let (charge, colours) = gateway.compiler.reset_filter(id).unwrap();
    assert_eq!((charge.traffic.to_packets, colours.packets), (4, [2, 1, 1]));
    assert_eq!(gateway.compiler.filter_colours(id), Default::default());
    gateway.now = 2_000_000;
    assert_eq!(gateway.one(CORE, &packet).transmit.len(), 1);
    let (charge, colours) = gateway.compiler.reset_filter(id).unwrap();
    assert_eq!((charge.traffic.to_packets, colours.packets), (1, [1, 0, 0]));
    let (_, colours) = gateway.compiler.meter_colours().next().unwrap();
    assert_eq!(colours.packets, [3, 1, 1]);
}

/// The mark that it got outside is in what is remarked.
#[test]
fn congestion_on_the_way_is_not_remarked_away() {
    let mut gateway = gateway(vec![filter(OLD_NET, 10, any(), FilterAction::NodeMeter(1))]);
    let mut inner = sized(REMOTE, OLD, 1000);
    inner[1] = 0x20;
    let mut outer = tunnelled(PEER, OWN, &inner);
    outer[1] |= 0b11 << 4;
    assert_eq!(gateway.one(CORE, &outer).transmit[0].1[15], 0x30, "green");
    let yellow = gateway.one(CORE, &outer);
    assert_eq!(yellow.transmit[0].1[14..16], [0x62, 0xb0], "AF11, and CE");
}

#[test]
fn nothing_but_time_fills_the_buckets() {
    let mut gateway = gateway(vec![filter(NODE_NET, 10, any(), FilterAction::Meter(2))]);
    let packet = sized(REMOTE, NODE, 1200);
    assert_eq!(gateway.one(CORE, &packet).transmit.len(), 1, "green");
    assert_eq!(gateway.one(CORE, &packet).transmit.len(), 1, "yellow");
    let red = [(DropReason::MeteredRed, 1)];
    assert_eq!(gateway.one(CORE, &packet).drops, red);
    let rates = MeterRates::Rfc4115 {
        cir: 2000,
        cbs: 5000,
        eir: 2000,
        ebs: 5000,
    };
    for (what, change) in [
        (
            "the meter itself",
            Transaction {
                put_meters: vec![(
                    2,
                    Meter {
                        rates,
                        colour_aware: true,
                        yellow: Yellow::Pass,
                        fill: None,
                    },
                )],
                ..Transaction::default()
            },
        ),
        (
            "its filter",
            Transaction {
                put_filters: vec![(1, filter(NODE_NET, 11, discard_port(), FilterAction::Meter(2)))],
                ..Transaction::default()
            },
        ),
        (
            "the prefix",
            Transaction {
                put_prefixes: vec![(
                    NODE_NET.parse().unwrap(),
                    PrefixEntry {
                        next_hop: NextHop::Tunnel(1),
                        source: None,
                    },
                )],
                put_filters: vec![(1, filter(NODE_NET, 11, any(), FilterAction::Meter(2)))],
                ..Transaction::default()
            },
        ),
    ] {
        gateway.apply(&change);
        let matching = if what == "its filter" {
            udp(REMOTE, NODE, 64).len()
        } else {
            packet.len()
        };
        let packet = if what == "its filter" {
            sized_udp(matching.max(1200))
        } else {
            packet.clone()
        };
        assert_eq!(gateway.one(CORE, &packet).drops, red, "{what}");
    }
    // Another meter at the same place begins with full buckets.
    gateway.apply(&Transaction {
        delete_filters: vec![1],
        delete_meters: vec![2],
        ..Transaction::default()
    });
    gateway.apply(&Transaction {
        put_meters: vec![(7, meter(Yellow::Pass, false))],
        put_filters: vec![(1, filter(NODE_NET, 10, any(), FilterAction::Meter(7)))],
        ..Transaction::default()
    });
    assert_eq!(gateway.one(CORE, &packet).transmit.len(), 1);
    let colours: Vec<_> = gateway.compiler.meter_colours().collect();
    assert_eq!(colours.len(), 2);
    assert_eq!(colours[1].1.packets, [1, 0, 0], "counts begin anew too");
}

#[test]
fn a_meter_goes_on_with_what_it_had_elsewhere() {
    let mut gateway = gateway(vec![filter(NODE_NET, 10, any(), FilterAction::Meter(1))]);
    let packet = sized(REMOTE, NODE, 1000);
    let red = [(DropReason::MeteredRed, 1)];
    let put = |number, committed, other| Transaction {
        put_meters: vec![(
            1,
            Meter {
                fill: Some(MeterFill {
                    number,
                    committed,
                    other,
                }),
                ..meter(Yellow::Pass, false)
            },
        )],
        ..Transaction::default()
    };
    assert_eq!(
        gateway.compiler.meter_fill(1, 0),
        None,
        "nobody has metered with it"
    );
    // Of 1,280 green octets 300 were left there, and of 2,560 in all 1,400.
    gateway.apply(&put(1, 300, 1400));
    let fill = gateway.compiler.meter_fill(1, 0).unwrap();
    assert_eq!((fill.committed, fill.other), (300, 1400));
    assert_eq!(gateway.one(CORE, &packet).transmit.len(), 1, "yellow");
    assert_eq!(gateway.one(CORE, &packet).drops, red);
    let fill = gateway.compiler.meter_fill(1, 0).unwrap();
    assert_eq!((fill.committed, fill.other), (300, 400));
    // A second brings 1,000 and 2,000; what is put again, and what is new but for its number, fills nothing and takes nothing.
    gateway.now = 1_000_000;
    gateway.apply(&put(1, 300, 1400));
    let fill = gateway.compiler.meter_fill(1, gateway.now).unwrap();
    // Tokens come in periods.
    assert_eq!((fill.committed, fill.other), (1280, 2396));
    assert_eq!(gateway.one(CORE, &packet).transmit.len(), 1, "green");
    gateway.apply(&put(2, 1280, 2560));
    let fill = gateway.compiler.meter_fill(1, gateway.now).unwrap();
    assert_eq!((fill.committed, fill.other), (280, 1396), "lowered, never filled");
    gateway.apply(&put(3, 0, 0));
    let fill = gateway.compiler.meter_fill(1, gateway.now).unwrap();
    assert_eq!((fill.committed, fill.other), (0, 0));
    assert_eq!(gateway.one(CORE, &packet).drops, red);
    let (_, colours) = gateway.compiler.meter_colours().next().unwrap();
    assert_eq!(colours.packets, [1, 1, 2]);
    // More than fits, and no number.
    for (fill, why) in [
        (
            put(4, 1281, 0),
            "meter 1: committed fill 1281: is above the burst size",
        ),
        (
            put(4, 0, 2561),
            "meter 1: peak fill 2561: is above the burst size",
        ),
        (put(0, 0, 0), "meter 1: fill number 0: is no number of a fill"),
    ] {
        assert_eq!(gateway.compiler.apply(&fill).unwrap_err().to_string(), why);
    }
}

#[test]
fn a_meter_that_is_aware_of_colours_takes_them_from_the_dscp() {
    let mut gateway = gateway(vec![filter(NODE_NET, 10, any(), FilterAction::Meter(1))]);
    gateway.apply(&Transaction {
        put_meters: vec![(1, meter(Yellow::Pass, true))],
        ..Transaction::default()
    });
    let marked = |dscp: u8| {
        let mut packet = sized(REMOTE, NODE, 100);
        packet[0] = 0x60 | dscp >> 2;
        packet[1] = dscp << 6;
        packet
    };
    // AF12 is yellow, AF13 red, AF11 and everything else green.
    for (dscp, count) in [(12, [0, 1, 0]), (14, [0, 1, 1]), (10, [1, 1, 1]), (46, [2, 1, 1])] {
        let _ = gateway.one(CORE, &marked(dscp));
        let (_, colours) = gateway.compiler.meter_colours().next().unwrap();
        assert_eq!(colours.packets, count, "DSCP {dscp}");
    }
}

#[test]
fn a_packet_is_metered_for_its_flow_and_for_both_nodes() {
    let mut gateway = gateway(vec![
        filter("", 10, any(), FilterAction::Meter(1)),
        filter(NODE_NET, 10, any(), FilterAction::NodeMeter(2)),
    ]);
    let out = gateway.one(CORE, &udp(REMOTE, NODE, 64));
    assert_eq!(out.transmit.len(), 1);
    let counts: Vec<_> = gateway
        .compiler
        .meter_colours()
        .map(|(_, it)| it.packets)
        .collect();
    assert_eq!(counts, [[1, 0, 0], [1, 0, 0]]);
    // Of the packets between two prefixes of the node, the one counts from it and the other to it.
    let out = gateway.one_from(ACCESS, NODE_MAC, &udp(NODE, NODE, 64));
    assert_eq!(out.transmit.len(), 1);
    let counts: Vec<_> = gateway
        .compiler
        .meter_colours()
        .map(|(_, it)| it.packets)
        .collect();
    assert_eq!(counts, [[2, 0, 0], [3, 0, 0]]);
}

#[test]
fn a_packet_is_charged_where_its_node_is() {
    let mut gateway = Gateway::new();
    let counts = |gateway: &Gateway, address: &str| {
        let prefix = Ipv6Net::new(address.parse().unwrap(), 64).unwrap().trunc();
        let total = gateway.compiler.prefix_total(prefix).unwrap();
        let (here, through) = (total.here.traffic, total.through);
        [
            (here.to_packets, here.from_packets),
            (through.to_packets, through.from_packets),
        ]
    };
    // We anchor the prefix; its node is at the peer.
    let _ = gateway.one(CORE, &udp(REMOTE, ANCHORED, 64));
    let _ = gateway.one(CORE, &tunnelled(PEER, OWN, &udp(ANCHORED, REMOTE, 64)));
    assert_eq!(counts(&gateway, ANCHORED), [(0, 0), (1, 1)]);
    // The peer anchors the prefix; its node is here.
    let _ = gateway.one(CORE, &tunnelled(PEER, OWN, &udp(REMOTE, OLD, 64)));
    let _ = gateway.one_from(ACCESS, NODE_MAC, &udp(OLD, REMOTE, 64));
    assert_eq!(counts(&gateway, OLD), [(1, 1), (0, 0)]);
    // What leaves through the peer comes back before it is delivered.
    let _ = gateway.one_from(ACCESS, NODE_MAC, &udp(OLD, NODE, 64));
    assert_eq!(counts(&gateway, OLD), [(1, 2), (0, 0)]);
    assert_eq!(counts(&gateway, NODE)[0], (0, 0));
}

#[test]
fn a_reading_that_resets_has_each_packet_once() {
    let mut gateway = Gateway::new();
    let net = NODE_NET.parse().unwrap();
    let packet = udp(REMOTE, NODE, 64);
    gateway.now = 1000;
    for _ in 0..3 {
        let _ = gateway.one(CORE, &packet);
        gateway.now += 1000;
    }
    let first = gateway.compiler.reset_prefix(net).unwrap().here;
    assert_eq!(
        (
            first.traffic.to_packets,
            first.traffic.to_bytes,
            first.first,
            first.last
        ),
        (3, 3 * packet.len() as u64, 1000, 3000)
    );
    assert_eq!(
        gateway.compiler.prefix_total(net).unwrap().here,
        Default::default()
    );
    let _ = gateway.one_from(ACCESS, NODE_MAC, &udp(NODE, REMOTE, 64));
    let second = gateway.compiler.reset_prefix(net).unwrap().here;
    assert_eq!(
        (
            second.traffic.to_packets,
            second.traffic.from_packets,
            second.first,
            second.last
        ),
        (0, 1, 4000, 4000)
    );
    // What the anchor before has counted is added, goes with a reset, and goes with the prefix.
    let carried = Carried {
        traffic: first.traffic,
        first_unix_ms: 5,
        last_unix_ms: 6,
    };
    assert!(gateway.compiler.carry_over(net, carried));
    assert!(gateway.compiler.carry_over(net, carried));
    let total = gateway.compiler.reset_prefix(net).unwrap();
    assert_eq!(total.carried.traffic.to_packets, 6);
    assert_eq!(
        gateway.compiler.prefix_total(net).unwrap().carried,
        Carried::default()
    );
    assert!(
        !gateway
            .compiler
            .carry_over("2001:db8:ffff::/64".parse().unwrap(), carried)
    );
}
