//! Lists and classifier choose what the reference chooses, with DPDK's classifier and without, after any
//! sequence of transactions.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod core_support;

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv6Addr;

use core_support::ports;
use dpdk::{Eal, EalConfig};
use ipnet::Ipv6Net;
use kedge_dataplane::flow::reference::{Chosen, choose};
use kedge_dataplane::flow::{Builder, Fields, Hit, Question};
use kedge_dataplane::snapshot::{Compiler, Snapshot};
use kedge_dataplane::stage::parse;
use kedge_dataplane_api::model::{
    Direction, DiscardReason, Encapsulation, Filter, FilterAction, Meter, MeterRates, NextHop, PortRange,
    PrefixEntry, Selector, Tables, TrafficClass, Transaction, Tunnel, Yellow,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

const SCOPES: [&str; 3] = ["2001:db8:1::/64", "2001:db8:2::/64", "2001:db8:2::/48"];

/// Few distinct values, so that packets match.
fn address() -> impl Strategy<Value = Ipv6Addr> {
    (0u16..4, 0u16..3).prop_map(|(net, host)| Ipv6Addr::new(0x2001, 0xdb8, net, 0, 0, 0, 0, host))
}

fn net() -> impl Strategy<Value = Ipv6Net> {
    let length = prop_oneof![Just(0u8), Just(47), Just(64), Just(127), Just(128)];
    (address(), length).prop_map(|(address, length)| Ipv6Net::new(address, length).unwrap().trunc())
}

fn ports_range() -> impl Strategy<Value = Option<PortRange>> {
    prop::option::of((0u16..4, 0u16..4).prop_map(|(one, other)| PortRange {
        first: one.min(other),
        last: one.max(other),
    }))
}

fn filter() -> impl Strategy<Value = Filter> {
    let direction = prop_oneof![
        3 => Just(None),
        1 => Just(Some(Direction::FromNode)),
        1 => Just(Some(Direction::ToNode))
    ];
    let protocol = prop_oneof![Just(None), Just(Some(6)), Just(Some(17))];
    let traffic_class = prop_oneof![
        3 => Just(TrafficClass::default()),
        1 => Just(TrafficClass { value: 0x20, mask: 0xe0 })
    ];
    let label = prop::option::weighted(0.2, 0u32..2);
    let selector = (
        direction,
        (net(), net()),
        protocol,
        (ports_range(), ports_range()),
        (traffic_class, label),
    )
        .prop_map(
            |(direction, nets, protocol, ports, (traffic_class, flow_label))| Selector {
                direction,
                source: if nets.0.prefix_len() == 0 {
                    Ipv6Net::default()
                } else {
                    nets.0
                },
                destination: if nets.1.prefix_len() == 0 {
                    Ipv6Net::default()
                } else {
                    nets.1
                },
                protocol,
                source_ports: ports.0,
                destination_ports: ports.1,
                traffic_class,
                flow_label,
            },
        );
    let scope = prop::option::of(prop::sample::select(SCOPES.to_vec()));
    let action = prop_oneof![
        Just(FilterAction::Anchor),
        Just(FilterAction::Drop),
        Just(FilterAction::Meter(1)),
        Just(FilterAction::NodeMeter(2))
    ];
    let except = prop::option::of(1u32..=2);
    let all = (scope, 1u16..4, selector, action, except);
    all.prop_map(|(scope, priority, selector, action, except)| Filter {
        name: String::new(),
        scope: scope.map(|it| it.parse().unwrap()),
        priority,
        selector,
        action: match (action, scope) {
            (FilterAction::NodeMeter(_), None) => FilterAction::Meter(1),
            _ => action,
        },
        idle_timeout: 0,
        lifetime: 0,
        except_tunnel: except.filter(|_| scope.is_some()),
    })
}

fn packet() -> impl Strategy<Value = Vec<u8>> {
    let class = prop_oneof![Just(0u8), Just(0x20), Just(0x40)];
    let kind = prop_oneof![
        4 => Just(vec![]),
        1 => Just(vec![60u8, 0, 1, 4, 0, 0, 0, 0]),
        1 => Just(vec![44u8, 0, 0, 1, 0, 0, 0, 9]),
        1 => Just(vec![44u8, 0, 0, 9, 0, 0, 0, 9]),
        1 => Just(vec![60u8, 200, 1, 4, 0, 0, 0, 0])
    ];
    let protocol = prop_oneof![Just(6u8), Just(17), Just(58)];
    (
        address(),
        address(),
        class,
        0u32..3,
        kind,
        protocol,
        (0u8..4, 0u8..4),
    )
        .prop_map(
            |(source, destination, class, label, mut extension, protocol, ports)| {
                let first = match extension.first_mut() {
                    Some(next) => std::mem::replace(next, protocol),
                    None => protocol,
                };
                extension.extend_from_slice(&[0, ports.0, 0, ports.1, 0, 0, 0, 0]);
                let word = 6 << 28 | u32::from(class) << 20 | label;
                let mut packet = word.to_be_bytes().to_vec();
                packet.extend_from_slice(&[0, extension.len() as u8, first, 64]);
                packet.extend_from_slice(&source.octets());
                packet.extend_from_slice(&destination.octets());
                packet.extend_from_slice(&extension);
                packet
            },
        )
}

fn tables(filters: BTreeMap<u64, Filter>) -> Tables {
    let mut tables = Tables {
        filters,
        ..Tables::default()
    };
    for scope in SCOPES {
        // What it leads to is none of the filters' business.
        let next_hop = NextHop::Discard(DiscardReason::NodeAbsent);
        let entry = PrefixEntry {
            next_hop,
            source: None,
        };
        tables.prefixes.insert(scope.parse().unwrap(), entry);
    }
    let local = Ipv6Addr::new(0x2001, 0xdb8, 0xfffe, 0, 0, 0, 0, 1);
    tables.local_addresses.insert(local);
    for id in 1..=2 {
        let tunnel = Tunnel {
            encapsulation: Encapsulation::Ipv6InIpv6,
            local,
            remote: Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, id),
            hop_limit: 64,
            mtu: 0,
            encapsulation_limit: None,
            dscp: kedge_dataplane_api::model::Dscp::default(),
        };
        tables.tunnels.insert(id.into(), tunnel);
    }
    let rates = MeterRates::Rfc2698 {
        cir: 1,
        cbs: 2000,
        pir: 1,
        pbs: 2000,
    };
    for id in [1, 2] {
        let meter = Meter {
            rates,
            colour_aware: false,
            yellow: Yellow::Pass,
            fill: None,
        };
        tables.meters.insert(id, meter);
    }
    tables
}

/// The prefix of an address, if it is a node's.
fn prefix_of(address: Ipv6Addr) -> Option<Ipv6Net> {
    let nets = SCOPES.iter().map(|scope| scope.parse::<Ipv6Net>().unwrap());
    nets.filter(|net| net.contains(&address))
        .max_by_key(Ipv6Net::prefix_len)
}

fn check(compiler: &Compiler, snapshot: &Snapshot, packets: &[Vec<u8>]) {
    let headers: Vec<_> = packets
        .iter()
        .map(|packet| parse::ipv6(packet).unwrap())
        .collect();
    let list = |address: u128| {
        prefix_of(address.into()).map(|_| snapshot.routes.filters(snapshot.fib.lookup(address)))
    };
    // By no tunnel, by one that filters may except, and by any other.
    let by = |address: u128| Some(address as u32 % 3).filter(|id| *id > 0);
    let index = |id: Option<u32>| id.map_or(0, |id| compiler.tunnel_index(id));
    let questions: Vec<_> = headers
        .iter()
        .map(|header| Question {
            from: list(header.source),
            to: list(header.destination),
            transit: true,
            goes_by: index(by(header.source)),
            came_by: index(by(header.destination)),
        })
        .collect();
    let octets = packets.iter().map(Vec::as_slice).zip(&headers);
    let asked = snapshot.flows.ask(octets, &questions);
    let ids: HashMap<u32, u64> = compiler
        .tables()
        .filters
        .keys()
        .map(|id| (compiler.filter_counter(*id), *id))
        .collect();
    let id = |hit: Option<Hit>| hit.map_or(0, |hit| ids[&hit.counter]);
    let (mut later, mut unreadable) = (0, 0);
    for ((packet, header), verdict) in packets.iter().zip(&headers).zip(&asked.verdicts) {
        let fields = Fields::read(packet, header);
        let (from, to) = (
            prefix_of(header.source.into()),
            prefix_of(header.destination.into()),
        );
        let (goes_by, came_by) = (by(header.source), by(header.destination));
        let expected = choose(&compiler.tables().filters, &fields, from, to, goes_by, came_by);
        let [meter, of_from, of_to] = verdict.meters.map(|it| it.map(|(_, hit)| hit));
        let found = Chosen {
            way: id(verdict.by),
            meter: id(meter),
            node_meter_from: id(of_from),
            node_meter_to: id(of_to),
        };
        assert_eq!(
            found,
            expected,
            "{fields:?} of {from:?} to {to:?} with {:#?}",
            compiler.tables().filters
        );
        let wide = compiler.tables().filters.values().any(|it| it.scope.is_none());
        let scoped = compiler
            .tables()
            .filters
            .values()
            .any(|it| it.scope.is_some() && (it.scope == from || it.scope == to));
        if wide || scoped {
            later += u64::from(fields.later_fragment);
            unreadable += u64::from(fields.protocol.is_none());
        }
    }
    assert_eq!((asked.later_fragments, asked.unreadable), (later, unreadable));
}

#[test]
fn lists_and_classifier_choose_what_the_reference_chooses() {
    let eal = Eal::init(&EalConfig {
        file_prefix: format!("kedge-test-{}", std::process::id()),
        memory_mib: 256,
        ..EalConfig::default()
    })
    .unwrap();
    for builder in [Builder::OneByOne, Builder::Acl(eal)] {
        let states = prop::collection::vec(prop::collection::btree_map(1u64..30, filter(), 0..24), 1..4);
        let packets = prop::collection::vec(packet(), 0..=64);
        let mut runner = TestRunner::new(Config {
            cases: 60,
            failure_persistence: None,
            ..Config::default()
        });
        runner
            .run(&(states, packets), |(states, packets)| {
                let mut compiler =
                    Compiler::new(ports(), Ipv6Addr::LOCALHOST, 1).with_classifiers(builder.clone());
                for state in states {
                    let transaction = Transaction::between(compiler.tables(), &tables(state));
                    let snapshot = compiler.apply(&transaction).unwrap();
                    check(&compiler, &snapshot, &packets);
                }
                Ok(())
            })
            .unwrap();
    }
}
