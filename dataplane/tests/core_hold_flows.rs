//! Flows that filters hold (RFC 8818 FM:6-1 with FM:3): what comes out, in which order, and what is lost with which name.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod core_support;
#[path = "core_support/moving.rs"]
mod moving;

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use core_support::*;
use kedge_dataplane::counters::Stage;
use kedge_dataplane::drops::DropReason;
use kedge_dataplane::frame::Frame;
use kedge_dataplane::hold::{Bounds, Overflow};
use kedge_dataplane_api::Transaction;
use kedge_dataplane_api::model::{
    Filter, FilterAction, Meter, MeterRates, NextHop, PortRange, Selector, Yellow,
};
use moving::*;
use proptest::prelude::*;

/// Of packets to a port of these, or of any.
fn to_ports(first: u16, last: u16) -> Selector {
    Selector {
        protocol: Some(17),
        destination_ports: Some(PortRange { first, last }),
        ..Selector::default()
    }
}

fn filter(of: &str, selector: Selector, action: FilterAction) -> Filter {
    Filter {
        name: String::new(),
        scope: Some(prefix(of)),
        priority: 10,
        selector,
        action,
        idle_timeout: 0,
        lifetime: if action == FilterAction::Hold { 5 } else { 0 },
        except_tunnel: None,
    }
}

/// Of one packet that has gone out: port, inner source and destination, UDP port, number.
type Sent = (usize, (Ipv6Addr, Ipv6Addr), u16, u32);

impl Moving {
    fn put(&mut self, id: u64, filter: Filter) {
        self.apply(&Transaction {
            put_filters: vec![(id, filter)],
            ..Transaction::default()
        });
    }

    fn delete(&mut self, id: u64) {
        self.apply(&Transaction {
            delete_filters: vec![id],
            ..Transaction::default()
        });
    }

    fn packet(&mut self, from: &str, to: &str, port: u16) -> Vec<u8> {
        self.number += 1;
        let [high, low] = port.to_be_bytes();
        let payload = [
            &[0x30, 0x39, high, low, 0, 12, 0, 0][..],
            &self.number.to_be_bytes(),
        ]
        .concat();
        ipv6(from, to, 17, 64, &payload)
    }

    /// A packet to this port with the next number, from the core; its number.
    fn brings(&mut self, to: &str, port: u16) -> u32 {
        let packet = self.packet(REMOTE, to, port);
        self.comes(CORE, ROUTER_MAC, &packet);
        self.number
    }

    /// The same from the node.
    fn sends(&mut self, from: &str, port: u16) -> u32 {
        let packet = self.packet(from, REMOTE, port);
        self.comes(ACCESS, NODE_MAC, &packet);
        self.number
    }

    fn gone(&mut self) -> Vec<Sent> {
        let mut sent = Vec::new();
        for (port, burst) in self.output.transmit.iter_mut().enumerate() {
            for frame in burst.drain(..) {
                let packet = &frame.bytes()[14..];
                let inner = &packet[packet.len() - 52..];
                let address = |at: usize| Ipv6Addr::from(<[u8; 16]>::try_from(&inner[at..at + 16]).unwrap());
                let to_port = u16::from_be_bytes(inner[42..44].try_into().unwrap());
                let number = u32::from_be_bytes(inner[48..].try_into().unwrap());
                sent.push((port, (address(8), address(24)), to_port, number));
            }
        }
        sent
    }

    /// Sends all that may go; what is not too old by then waits on.
    fn drain(&mut self) -> Vec<Sent> {
        let mut sent = Vec::new();
        for _ in 0..BOUNDS.age / 1000 * 4 {
            self.now += 100;
            self.tend();
            sent.extend(self.gone());
        }
        sent
    }
}

fn order(sent: &[Sent]) -> Vec<u32> {
    sent.iter().map(|it| it.3).collect()
}

#[test]
fn a_flow_waits_while_others_of_its_prefix_go_on_and_leaves_by_the_new_action() {
    let mut gateway = Moving::new(BOUNDS);
    gateway.put(1, filter(NODE, to_ports(9, 9), FilterAction::Hold));
    let mut held: Vec<u32> = (0..4).map(|_| gateway.brings(NODE, 9)).collect();
    let other = gateway.brings(NODE, 10);
    assert_eq!(order(&gateway.gone()), [other]);
    gateway.tend();
    assert_eq!((gateway.gone(), gateway.output.held().0), (vec![], 4));
    gateway.put(1, filter(NODE, to_ports(9, 9), FilterAction::Tunnel(1)));
    held.push(gateway.brings(NODE, 9));
    assert_eq!(gateway.gone(), [], "it must not overtake");
    let other = gateway.brings(NODE, 10);
    assert_eq!(order(&gateway.gone()), [other], "others need not wait");
    let sent = gateway.drain();
    assert_eq!(order(&sent), held);
    assert!(sent.iter().all(|it| it.0 == CORE), "into the tunnel");
    held = vec![gateway.brings(NODE, 9)];
    assert_eq!(
        order(&gateway.gone()),
        held,
        "and then it is as if nothing had been"
    );
    // Each was counted when it came, and once.
    assert_eq!(gateway.compiler.filter_charge(1).unwrap().traffic.to_packets, 6);
    assert_eq!(gateway.pipeline.counters.stages(Stage::Filtered), 6);
    assert_eq!(gateway.pipeline.counters.stages(Stage::Held), 5);
    assert_eq!(gateway.pipeline.counters.stages(Stage::Released), 5);
    assert_eq!(gateway.all_drops(), 0);
}

#[test]
fn what_a_node_sends_is_held_too_and_breaks_out_or_is_dropped() {
    let mut gateway = Moving::new(BOUNDS);
    gateway.put(1, filter(OLD, to_ports(9, 9), FilterAction::Hold));
    let held: Vec<u32> = (0..3).map(|_| gateway.sends(OLD, 9)).collect();
    let other = gateway.sends(OLD, 10);
    assert_eq!(order(&gateway.gone()), [other]);
    gateway.put(1, filter(OLD, to_ports(9, 9), FilterAction::LocalBreakout));
    assert_eq!(order(&gateway.drain()), held);
    assert_eq!(
        gateway.pipeline.counters.stages(Stage::Routed),
        3,
        "by their destination"
    );
    gateway.put(1, filter(OLD, to_ports(9, 9), FilterAction::Hold));
    let held: Vec<u32> = (0..3).map(|_| gateway.sends(OLD, 9)).collect();
    gateway.put(1, filter(OLD, to_ports(9, 9), FilterAction::Anchor));
    assert_eq!(order(&gateway.drain()), held);
    assert_eq!(
        gateway.pipeline.counters.stages(Stage::Encapsulated),
        4,
        "to the anchor, as that of the other flow"
    );
    gateway.put(1, filter(OLD, to_ports(9, 9), FilterAction::Hold));
    gateway.sends(OLD, 9);
    gateway.put(1, filter(OLD, to_ports(9, 9), FilterAction::Drop));
    assert_eq!(gateway.drain(), []);
    assert_eq!(gateway.drops(DropReason::FlowFiltered), 1);
    assert_eq!(gateway.all_drops(), 1);
}

#[test]
fn a_filter_that_goes_or_is_outranked_reorders_nothing() {
    let mut gateway = Moving::new(BOUNDS);
    gateway.put(1, filter(NODE, to_ports(9, 20), FilterAction::Hold));
    let mut nine = vec![gateway.brings(NODE, 9)];
    let mut ten = vec![gateway.brings(NODE, 10)];
    let first = Filter {
        name: String::new(),
        priority: 1,
        ..filter(NODE, to_ports(9, 9), FilterAction::Tunnel(1))
    };
    gateway.put(2, first);
    nine.push(gateway.brings(NODE, 9));
    ten.push(gateway.brings(NODE, 10));
    assert_eq!(order(&gateway.drain()), nine);
    gateway.delete(1);
    ten.push(gateway.brings(NODE, 10));
    let sent = gateway.drain();
    assert_eq!(order(&sent), ten);
    assert!(sent.iter().all(|it| it.0 == ACCESS));
    // The last filter of all.
    gateway.put(2, filter(NODE, to_ports(9, 9), FilterAction::Hold));
    nine = vec![gateway.brings(NODE, 9)];
    gateway.delete(2);
    nine.push(gateway.brings(NODE, 9));
    assert_eq!(order(&gateway.drain()), nine);
    assert_eq!(gateway.all_drops(), 0);
}

#[test]
fn a_flow_on_hold_and_its_prefix_on_hold() {
    let mut gateway = Moving::new(BOUNDS);
    // The prefix first: what is there is older than what the filter holds.
    gateway.turn(NODE, HOLD);
    let old = vec![gateway.brings(NODE, 9), gateway.brings(NODE, 10)];
    gateway.put(1, filter(NODE, to_ports(9, 9), FilterAction::Hold));
    let new = vec![gateway.brings(NODE, 9), gateway.brings(NODE, 9)];
    // The filter lets go, the prefix does not.
    gateway.put(1, filter(NODE, to_ports(9, 9), FilterAction::Anchor));
    assert_eq!(gateway.drain(), []);
    gateway.turn(NODE, deliver());
    assert_eq!(order(&gateway.drain()), [old, new].concat());
    // The prefix lets go, the filter does not.
    gateway.put(1, filter(NODE, to_ports(9, 9), FilterAction::Hold));
    gateway.turn(NODE, HOLD);
    let (nine, ten) = (gateway.brings(NODE, 9), gateway.brings(NODE, 10));
    gateway.turn(NODE, deliver());
    assert_eq!(order(&gateway.drain()), [ten]);
    gateway.delete(1);
    assert_eq!(order(&gateway.drain()), [nine]);
    assert_eq!(gateway.all_drops(), 0);
}

#[test]
fn the_bounds_of_a_filter_are_those_of_a_prefix_for_all_of_its_flows() {
    let mut gateway = Moving::new(BOUNDS);
    gateway.put(1, filter(NODE, to_ports(0, 99), FilterAction::Hold));
    gateway.put(2, filter(NODE, to_ports(100, 199), FilterAction::Hold));
    for number in 0..45 {
        gateway.brings(NODE, number);
    }
    assert_eq!(gateway.drops(DropReason::HoldFlowFull), 5);
    for number in 0..30 {
        gateway.brings(NODE, 100 + number);
    }
    assert_eq!(gateway.drops(DropReason::HoldFull), 6, "of all together");
    assert_eq!(gateway.output.held().0, 64);
    gateway.now += BOUNDS.age + 1;
    for _ in 0..10 {
        gateway.tend();
    }
    assert_eq!(gateway.drops(DropReason::HoldTooOld), 64);
    assert_eq!(gateway.output.held(), (0, 0));
    // And the shares are free again.
    gateway.brings(NODE, 1);
    assert_eq!(gateway.output.held().0, 1);
    // The oldest of the same flow goes, where the operator wants it so.
    let mut gateway = Moving::new(Bounds {
        overflow: Overflow::DropOldest,
        ..BOUNDS
    });
    gateway.put(1, filter(NODE, to_ports(0, 99), FilterAction::Hold));
    let all: Vec<u32> = (0..45).map(|_| gateway.brings(NODE, 9)).collect();
    assert_eq!(gateway.drops(DropReason::HoldFlowFull), 5);
    gateway.delete(1);
    assert_eq!(order(&gateway.drain()), all[5..]);
}

#[test]
fn a_hold_of_a_flow_that_nobody_ends_expires() {
    let mut gateway = Moving::new(BOUNDS);
    gateway.put(7, filter(NODE, to_ports(9, 9), FilterAction::Hold));
    gateway.brings(NODE, 9);
    let soon = Instant::now();
    assert!(gateway.compiler.expire_flow_holds(soon).is_none());
    let late = soon + Duration::from_secs(6);
    let (ended, snapshot) = gateway.compiler.expire_flow_holds(late).unwrap();
    assert_eq!(
        ended
            .iter()
            .map(|(id, hold)| (*id, hold.scope))
            .collect::<Vec<_>>(),
        [(7, prefix(NODE))]
    );
    assert!(
        gateway.compiler.expire_flow_holds(late).is_none(),
        "it is said once"
    );
    gateway.snapshot = snapshot;
    gateway.brings(NODE, 9);
    assert_eq!(gateway.drain(), []);
    assert_eq!(gateway.drops(DropReason::HoldExpired), 2);
    let other = gateway.brings(NODE, 10);
    assert_eq!(order(&gateway.gone()), [other]);
    assert!(gateway.compiler.flow_holds().all(|(_, hold)| hold.over));
    // Put again it holds again; deleted it is forgotten.
    gateway.put(7, filter(NODE, to_ports(9, 9), FilterAction::Hold));
    let nine = gateway.brings(NODE, 9);
    assert_eq!(gateway.gone(), []);
    gateway.delete(7);
    assert_eq!(order(&gateway.drain()), [nine]);
    assert_eq!(gateway.compiler.flow_holds().count(), 0);
}

#[test]
fn what_has_waited_is_not_metered_twice() {
    let mut gateway = Moving::new(BOUNDS);
    gateway.apply(&Transaction {
        put_meters: vec![(
            1,
            Meter {
                rates: MeterRates::Rfc2698 {
                    cir: 1000,
                    cbs: 1280,
                    pir: 1000,
                    pbs: 1280,
                },
                colour_aware: false,
                yellow: Yellow::Pass,
                fill: None,
            },
        )],
        put_filters: vec![
            (1, filter(NODE, Selector::default(), FilterAction::NodeMeter(1))),
            (2, filter(NODE, to_ports(9, 9), FilterAction::Hold)),
        ],
        ..Transaction::default()
    });
    for _ in 0..3 {
        gateway.brings(NODE, 9);
    }
    gateway.put(2, filter(NODE, to_ports(9, 9), FilterAction::Anchor));
    assert_eq!(gateway.drain().len(), 3);
    let (_, colours) = gateway.compiler.meter_colours().next().unwrap();
    assert_eq!(colours.packets, [3, 0, 0]);
    assert_eq!(gateway.compiler.filter_charge(1).unwrap().traffic.to_packets, 3);
}

#[test]
fn a_hold_that_would_not_end_or_is_of_everybody_is_refused() {
    let mut gateway = Moving::new(BOUNDS);
    let hold = filter(NODE, to_ports(9, 9), FilterAction::Hold);
    let mut refusal = |filter: Filter| {
        let put = Transaction {
            put_filters: vec![(3, filter)],
            ..Transaction::default()
        };
        gateway.compiler.apply(&put).unwrap_err().to_string()
    };
    for lifetime in [0, 601] {
        assert_eq!(
            refusal(Filter {
                name: String::new(),
                lifetime,
                except_tunnel: None,
                ..hold.clone()
            }),
            format!(
                "filter 3: hold with a lifetime of {lifetime} s: a hold ends by itself, after 1 to 600 s"
            )
        );
    }
    assert_eq!(
        refusal(Filter { scope: None, ..hold }),
        "filter 3: hold without a scope: flows are held of a prefix, not of the whole domain"
    );
}

#[derive(Clone, Debug)]
enum Event {
    Brings(usize, u16),
    Sends(u16),
    Filter(u64, usize, (u16, u16), u16, u8),
    Delete(u64),
    Turn(usize, u8),
    Expire,
    Publish,
    Round(u64),
}

const PLACES: [&str; 2] = [NODE, OLD];

fn events() -> impl Strategy<Value = Vec<Event>> {
    let ports = (9u16..12, 9u16..12).prop_map(|(one, other)| (one.min(other), one.max(other)));
    let event = prop_oneof![
        6 => (0..PLACES.len(), 9u16..12).prop_map(|(place, port)| Event::Brings(place, port)),
        3 => (9u16..12).prop_map(Event::Sends),
        3 => (1u64..4, 0..PLACES.len(), ports, 1u16..4, 0u8..8)
            .prop_map(|(id, place, ports, priority, what)| Event::Filter(id, place, ports, priority, what)),
        1 => (1u64..4).prop_map(Event::Delete),
        1 => (0..PLACES.len(), 0u8..3).prop_map(|(place, what)| Event::Turn(place, what)),
        1 => Just(Event::Expire),
        1 => Just(Event::Publish),
        4 => (0u64..700).prop_map(Event::Round),
    ];
    prop::collection::vec(event, 0..300)
}

proptest! {
    /// Whatever becomes of filters and prefixes: each packet comes out once or is counted as dropped, and those of
    /// each flow in order. Where prefixes are on hold, filters send nothing elsewhere: what they do then overtakes
    /// what waits for its prefix, and did before there were holds of flows.
    #[test]
    fn no_flow_is_reordered_and_nothing_lost_without_a_name(
        events in events(),
        oldest in any::<bool>(),
        prefixes in any::<bool>(),
    ) {
        let overflow = if oldest { Overflow::DropOldest } else { Overflow::DropNewest };
        let mut gateway = Moving::new(Bounds { overflow, ..BOUNDS });
        let mut out: BTreeMap<_, Vec<u32>> = BTreeMap::new();
        let mut total = 0;
        for event in events {
            match event {
                Event::Brings(place, port) => {
                    gateway.brings(PLACES[place], port);
                }
                Event::Sends(port) => {
                    gateway.sends(OLD, port);
                }
                Event::Filter(id, place, (first, last), priority, what) => {
                    let action = match what {
                        0..=3 => FilterAction::Hold,
                        4 => FilterAction::Drop,
                        5 if !prefixes => FilterAction::Tunnel(1),
                        _ => FilterAction::Anchor,
                    };
                    let it = filter(PLACES[place], to_ports(first, last), action);
                    gateway.put(id, Filter { priority, ..it });
                }
                Event::Delete(id) => {
                    if gateway.compiler.tables().filters.contains_key(&id) {
                        gateway.delete(id);
                    }
                }
                Event::Turn(place, what) => gateway.turn(PLACES[place], match what {
                    0 if prefixes => HOLD,
                    1 if place == 0 => NextHop::Tunnel(1),
                    _ => deliver(),
                }),
                Event::Expire => {
                    let late = Instant::now() + Duration::from_secs(6);
                    if let Some((_, snapshot)) = gateway.compiler.expire_flow_holds(late) {
                        gateway.snapshot = snapshot;
                    }
                }
                Event::Publish => gateway.turn(NARROW, NextHop::Tunnel(2)),
                Event::Round(cycles) => {
                    gateway.now += cycles;
                    gateway.tend();
                }
            }
            for (_, ends, port, number) in gateway.gone() {
                out.entry((ends, port)).or_default().push(number);
                total += 1;
            }
        }
        for place in PLACES {
            gateway.turn(place, deliver());
        }
        for id in 1..4 {
            if gateway.compiler.tables().filters.contains_key(&id) {
                gateway.delete(id);
            }
        }
        let last = [gateway.drain(), gateway.drain(), gateway.drain()].concat();
        for (_, ends, port, number) in last {
            out.entry((ends, port)).or_default().push(number);
            total += 1;
        }
        prop_assert_eq!(gateway.output.held(), (0, 0));
        for (flow, numbers) in &out {
            prop_assert!(numbers.is_sorted_by(|a, b| a < b), "{:?}: {:?}", flow, numbers);
        }
        prop_assert_eq!(total + gateway.all_drops(), u64::from(gateway.number));
    }
}
