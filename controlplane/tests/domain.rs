//! A whole domain in virtual time: one CMD, three MAARs, a network that delays,
//! loses and cuts, and nodes that move. No socket, no clock, no thread.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

use std::collections::{BTreeMap, BinaryHeap};
use std::net::Ipv6Addr;
use std::time::Duration;

use ipnet::Ipv6Net;
use kedge_config::Config;
use kedge_controlplane::identity::{LinkLayerAddress, MobileNodeIdentifier};
use kedge_controlplane::maar::{Maar, Phase};
use kedge_controlplane::time::Time;
use kedge_controlplane::wire::mobility::{MobilityMessage, emit, parse};
use kedge_controlplane::{cmd, forwarding, maar};
use kedge_dataplane_api::model::{NextHop, SourcePath, Tables};
use proptest::prelude::*;

const CMD: &str = "2001:db8:d::1";

fn address(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

fn maar_address(index: usize) -> Ipv6Addr {
    address(["2001:db8:a::1", "2001:db8:b::1", "2001:db8:c::1"][index])
}

fn maar_config(index: usize) -> Config {
    let text = format!(
        r#"
        [node]
        name = "maar{number}"
        role = "maar"
        address = "{address}"
        [dataplane]
        [[port]]
        name = "access"
        device = "net_null0"
        side = "access"
        exception = "kacc"
        [[port]]
        name = "core"
        device = "net_null1"
        side = "core"
        exception = "kcore"
        addresses = ["2001:db8:ca{number}::2/64"]
        [[route]]
        prefix = "::/0"
        port = "core"
        gateway = "2001:db8:ca{number}::1"
        [maar]
        cmd = ["{CMD}"]
        prefix_pools = ["2001:db8:{number}00::/48"]
        "#,
        number = index + 1,
        address = maar_address(index),
    );
    Config::parse(&text, "test").unwrap()
}

fn cmd_config() -> Config {
    let maars: String = (0..3)
        .map(|index| {
            format!(
                "[[cmd.known_maar]]\naddress = \"{}\"\nprefix_pools = [\"2001:db8:{}00::/48\"]\n",
                maar_address(index),
                index + 1
            )
        })
        .collect();
    let text = format!(
        "[node]\nname = \"cmd\"\nrole = \"cmd\"\naddress = \"{CMD}\"\n[cmd]\nmaximum_previous_maars = 2\n{maars}"
    );
    Config::parse(&text, "test").unwrap()
}

fn node(index: u8) -> (MobileNodeIdentifier, LinkLayerAddress) {
    (
        MobileNodeIdentifier::nai(&format!("mn{index}@example.net")),
        LinkLayerAddress([2, 0, 0, 0, 10, index]),
    )
}

/// A datagram in flight; the heap gives the earliest first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Flight(std::cmp::Reverse<(Time, u64)>, Ipv6Addr, Ipv6Addr, Vec<u8>);

struct Domain {
    now: Time,
    maars: Vec<Maar>,
    configs: Vec<Config>,
    cmd: cmd::Cmd,
    flights: BinaryHeap<Flight>,
    order: u64,
    /// Each datagram asks this whether it is lost.
    lost: Box<dyn FnMut() -> bool>,
    sent: usize,
    /// Prefixes of the last advertisement to each node: prefix -> preferred lifetime.
    heard: BTreeMap<MobileNodeIdentifier, BTreeMap<Ipv6Net, u32>>,
    on_link: BTreeMap<LinkLayerAddress, MobileNodeIdentifier>,
}

impl Domain {
    fn new() -> Self {
        let now = Time(Duration::from_secs(1_700_000_000));
        let configs: Vec<_> = (0..3).map(maar_config).collect();
        let maars = configs
            .iter()
            .map(|config| {
                Maar::new(
                    maar::Settings::from_config(config).unwrap(),
                    maar::State::default(),
                    now,
                )
            })
            .collect();
        let cmd = cmd::Cmd::new(
            cmd::Settings::from_config(&cmd_config()).unwrap(),
            cmd::State::default(),
            now,
        );
        Self {
            now,
            maars,
            configs,
            cmd,
            flights: BinaryHeap::new(),
            order: 0,
            lost: Box::new(|| false),
            sent: 0,
            heard: BTreeMap::new(),
            on_link: (0..=255).map(|index| (node(index).1, node(index).0)).collect(),
        }
    }

    fn send(&mut self, from: Ipv6Addr, to: Ipv6Addr, message: &MobilityMessage) {
        // Every message crosses the wire format, so the codecs are part of the test.
        let octets = emit(message, from, to).unwrap();
        self.sent += 1;
        if (self.lost)() {
            return;
        }
        self.order += 1;
        let arrival = self.now.after(Duration::from_millis(5));
        self.flights
            .push(Flight(std::cmp::Reverse((arrival, self.order)), from, to, octets));
    }

    fn maar_outputs(&mut self, index: usize, outputs: Vec<maar::Output>) {
        for output in outputs {
            match output {
                maar::Output::Send { to, message } => self.send(maar_address(index), to, &message),
                maar::Output::Advertise {
                    link_layer_address,
                    prefixes,
                    ..
                } => {
                    let heard = prefixes
                        .iter()
                        .map(|it| (it.prefix, it.preferred_lifetime))
                        .collect();
                    self.heard
                        .insert(self.on_link[&link_layer_address].clone(), heard);
                }
                maar::Output::Event(_) => {}
            }
        }
    }

    fn cmd_outputs(&mut self, outputs: Vec<cmd::Output>) {
        for output in outputs {
            if let cmd::Output::Send { to, message } = output {
                self.send(address(CMD), to, &message);
            }
        }
    }

    fn maar_input(&mut self, index: usize, input: maar::Input) {
        let outputs = self.maars[index].process(input, self.now);
        self.maar_outputs(index, outputs);
    }

    fn attach(&mut self, number: u8, index: usize) {
        let (identifier, link_layer_address) = node(number);
        let link_local_address = link_layer_address.link_local();
        let port = "access".to_owned();
        self.maar_input(
            index,
            maar::Input::Attached {
                identifier,
                port,
                link_layer_address,
                link_local_address,
            },
        );
    }

    fn detach(&mut self, number: u8, index: usize, deregister: bool) {
        self.maar_input(
            index,
            maar::Input::Detached {
                identifier: node(number).0,
                deregister,
            },
        );
    }

    /// Lets `span` pass: deliveries and timers in the order of their times.
    fn run(&mut self, span: Duration) {
        let end = self.now.after(span);
        loop {
            let flight = self.flights.peek().map(|flight| flight.0.0.0);
            let timers = self
                .maars
                .iter()
                .map(Maar::next_deadline)
                .chain([self.cmd.next_deadline()]);
            let timer = timers.flatten().min();
            let Some(next) = [flight, timer]
                .into_iter()
                .flatten()
                .min()
                .filter(|next| *next <= end)
            else {
                break;
            };
            self.now = self.now.max(next);
            if flight == Some(next) {
                let Some(Flight(_, from, to, octets)) = self.flights.pop() else {
                    break;
                };
                let message = parse(from, to, &octets).unwrap();
                if to == address(CMD) {
                    let outputs = self.cmd.process(cmd::Input::Message { from, message }, self.now);
                    self.cmd_outputs(outputs);
                } else if let Some(index) = (0..3).find(|index| maar_address(*index) == to) {
                    self.maar_input(index, maar::Input::Message { from, message });
                }
                continue;
            }
            for index in 0..3 {
                if self.maars[index].next_deadline().is_some_and(|at| at <= self.now) {
                    self.maar_input(index, maar::Input::Tick);
                }
            }
            if self.cmd.next_deadline().is_some_and(|at| at <= self.now) {
                let outputs = self.cmd.process(cmd::Input::Tick, self.now);
                self.cmd_outputs(outputs);
            }
        }
        self.now = end;
    }

    fn tables(&self, index: usize) -> Tables {
        forwarding::desired(&self.configs[index], self.maars[index].state(), &BTreeMap::new())
    }

    fn phase(&self, number: u8, index: usize) -> Option<Phase> {
        self.maars[index]
            .state()
            .nodes
            .get(&node(number).0)
            .map(|node| node.phase.clone())
    }

    fn prefix(&self, number: u8, index: usize) -> Ipv6Net {
        self.maars[index].state().nodes[&node(number).0].home_network_prefix
    }

    /// A restart of everything, from what each daemon stored as JSON.
    fn restart(&mut self) {
        for index in 0..3 {
            let stored = serde_json::to_string(self.maars[index].state()).unwrap();
            let settings = maar::Settings::from_config(&self.configs[index]).unwrap();
            self.maars[index] = Maar::new(settings, serde_json::from_str(&stored).unwrap(), self.now);
        }
        let stored = serde_json::to_string(self.cmd.state()).unwrap();
        let settings = cmd::Settings::from_config(&cmd_config()).unwrap();
        self.cmd = cmd::Cmd::new(settings, serde_json::from_str(&stored).unwrap(), self.now);
    }

    /// What must hold when nothing is on its way: the node is served at one place, every prefix it
    /// has is delivered there, and every anchor sends its prefix there and takes it back from there.
    fn assert_settled(&self, number: u8, serving: usize) {
        let (identifier, link_layer_address) = node(number);
        let binding = &self.cmd.state().bindings[&identifier];
        assert_eq!(binding.serving, maar_address(serving));
        for index in 0..3 {
            let attached = self.phase(number, index) == Some(Phase::Attached);
            assert_eq!(attached, index == serving, "{identifier} at maar{}", index + 1);
        }
        let here = self.tables(serving);
        let deliver = NextHop::Deliver {
            port: "access".to_owned(),
            link_layer_address: link_layer_address.0,
        };
        let own = &here.prefixes[&self.prefix(number, serving)];
        assert_eq!(own.next_hop, deliver);
        assert_eq!(own.source.as_ref().unwrap().path, SourcePath::Native);
        assert_eq!(binding.prefixes, [self.prefix(number, serving)]);
        let served = &self.maars[serving].state().nodes[&identifier];
        assert_eq!(served.previous.len(), binding.previous.len());
        for previous in &binding.previous {
            let anchor = (0..3)
                .find(|index| maar_address(*index) == previous.address)
                .unwrap();
            assert_eq!(self.prefix(number, anchor), previous.prefix);
            let there = self.tables(anchor);
            let NextHop::Tunnel(out) = there.prefixes[&previous.prefix].next_hop else {
                panic!(
                    "{} is not tunnelled: {:?}",
                    previous.prefix, there.prefixes[&previous.prefix]
                );
            };
            assert_eq!(there.tunnels[&out].remote, maar_address(serving));
            let entry = &here.prefixes[&previous.prefix];
            assert_eq!(entry.next_hop, deliver);
            let SourcePath::Tunnel(back) = entry.source.as_ref().unwrap().path else {
                panic!("native")
            };
            assert_eq!(here.tunnels[&back].remote, previous.address);
        }
        let heard = &self.heard[&identifier];
        let preferred: Vec<_> = heard
            .iter()
            .filter(|(_, lifetime)| **lifetime > 0)
            .map(|(prefix, _)| *prefix)
            .collect();
        assert_eq!(
            preferred,
            [self.prefix(number, serving)],
            "only the newest prefix is preferred"
        );
        assert_eq!(heard.len(), 1 + binding.previous.len());
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_node_attaches_and_moves_round() {
    let mut domain = Domain::new();
    domain.attach(1, 0);
    domain.run(SECOND);
    domain.assert_settled(1, 0);
    let first = domain.prefix(1, 0);
    assert!(
        domain.tables(0).tunnels.is_empty(),
        "no tunnel at the first anchor"
    );

    domain.attach(1, 1);
    domain.run(SECOND);
    domain.assert_settled(1, 1);
    assert_eq!(
        domain.phase(1, 0),
        Some(Phase::Anchored {
            serving: maar_address(1)
        })
    );

    domain.attach(1, 2);
    domain.run(SECOND);
    domain.assert_settled(1, 2);
    assert_eq!(domain.heard[&node(1).0].len(), 3);

    // Back where it began: the first prefix is native again, and the same (choice G8).
    domain.attach(1, 0);
    domain.run(SECOND);
    domain.assert_settled(1, 0);
    assert_eq!(domain.prefix(1, 0), first);
    // Four PBU/PBA pairs with the CMD, and one for each P-MAAR of each move: 1 + 2 + 2.
    assert_eq!(domain.sent, 2 * (4 + 5));
}

#[test]
fn the_serving_maar_is_answered_before_the_previous_ones() {
    let mut domain = Domain::new();
    domain.attach(1, 0);
    domain.run(SECOND);
    domain.attach(1, 1);
    // One round trip with the CMD: 5 ms there, 5 ms back.
    domain.run(Duration::from_millis(10));
    assert_eq!(domain.phase(1, 1), Some(Phase::Attached));
}

#[test]
fn half_of_all_datagrams_are_lost() {
    let mut domain = Domain::new();
    // A fixed pseudo-random sequence: a regular one could hit the same message for ever.
    let mut seed = 1u32;
    domain.lost = Box::new(move || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        seed >> 31 == 1
    });
    for serving in [0, 1, 2, 0] {
        domain.attach(1, serving);
        domain.run(120 * SECOND);
        domain.assert_settled(1, serving);
    }
    assert!(
        domain
            .maars
            .iter()
            .any(|maar| maar.counters().get("updates_retransmitted") > 0)
    );
}

#[test]
fn an_absent_cmd_is_asked_with_growing_patience() {
    let mut domain = Domain::new();
    domain.lost = Box::new(|| true);
    domain.attach(1, 0);
    // 1, 3, 7, 15, 31, 63, then every 32 s (RFC 6275 section 11.8).
    for (second, sent) in [
        (0, 1),
        (1, 2),
        (3, 3),
        (7, 4),
        (15, 5),
        (31, 6),
        (63, 7),
        (95, 8),
        (127, 9),
    ] {
        let elapsed = domain.now.since(Time(Duration::from_secs(1_700_000_000)));
        domain.run(second * SECOND - elapsed);
        assert_eq!(domain.sent, sent, "after {second} s");
    }
    assert!(
        domain
            .tables(0)
            .prefixes
            .keys()
            .all(|prefix| prefix.prefix_len() < 64 || prefix.to_string().contains(":ca"))
    );
    assert!(
        domain.heard.is_empty(),
        "nothing is offered before the CMD has answered"
    );
}

#[test]
fn bindings_are_renewed_and_expire() {
    let mut domain = Domain::new();
    domain.attach(1, 0);
    domain.attach(2, 0);
    domain.run(SECOND);
    domain.attach(1, 1);
    domain.run(3600 * SECOND);
    domain.assert_settled(1, 1);
    domain.assert_settled(2, 0);

    // Node 1 leaves and stays away: the binding lifetime, then MinDelayBeforeBCEDelete, then nothing is left.
    domain.detach(1, 1, false);
    domain.run(SECOND);
    assert_eq!(domain.phase(1, 1), Some(Phase::Detached));
    assert!(
        domain.cmd.state().bindings.contains_key(&node(1).0),
        "a detachment ends no session"
    );
    domain.run(700 * SECOND);
    assert!(!domain.cmd.state().bindings.contains_key(&node(1).0));
    assert!(domain.cmd.state().releases.is_empty());
    for index in 0..3 {
        assert_eq!(domain.phase(1, index), None, "maar{}", index + 1);
        assert!(domain.tables(index).tunnels.is_empty());
    }
    domain.assert_settled(2, 0);
}

#[test]
fn a_detached_node_that_returns_is_served_at_once() {
    let mut domain = Domain::new();
    domain.attach(1, 0);
    domain.run(SECOND);
    domain.detach(1, 0, false);
    domain.run(SECOND);
    domain.attach(1, 0);
    assert_eq!(domain.phase(1, 0), Some(Phase::Attached));
    domain.run(SECOND);
    domain.assert_settled(1, 0);
}

#[test]
fn a_deregistered_session_can_be_revived_within_the_delay() {
    let mut domain = Domain::new();
    domain.attach(1, 0);
    domain.run(SECOND);
    domain.attach(1, 1);
    domain.run(SECOND);
    domain.detach(1, 1, true);
    domain.run(SECOND);
    assert_eq!(
        domain.cmd.state().bindings[&node(1).0].phase,
        cmd::BindingPhase::Deregistered
    );
    domain.attach(1, 2);
    domain.run(SECOND);
    // maar2 has forgotten its prefix and says so; maar1 still anchors the first one.
    assert_eq!(
        domain.phase(1, 0),
        Some(Phase::Anchored {
            serving: maar_address(2)
        })
    );
    assert_eq!(domain.cmd.counters().get("previous_updates_refused"), 1);
    let told = domain.cmd.state().bindings[&node(1).0].previous.iter();
    assert_eq!(
        told.filter(|it| it.phase == cmd::PreviousPhase::Confirmed)
            .count(),
        1
    );
}

#[test]
fn only_the_serving_maar_ends_a_session() {
    let mut domain = Domain::new();
    domain.attach(1, 0);
    domain.run(SECOND);
    domain.attach(1, 1);
    domain.run(SECOND);
    domain.detach(1, 0, true);
    domain.run(SECOND);
    assert_eq!(
        domain.maars[0]
            .counters()
            .get("deregistrations_refused_not_serving"),
        1
    );
    domain.assert_settled(1, 1);
}

#[test]
fn a_restart_of_everything_changes_nothing() {
    let mut domain = Domain::new();
    for serving in [0, 1, 2] {
        domain.attach(1, serving);
        domain.run(SECOND);
    }
    let before: Vec<_> = (0..3).map(|index| domain.tables(index)).collect();
    domain.restart();
    domain.run(SECOND);
    for (index, before) in before.iter().enumerate() {
        assert_eq!(&domain.tables(index), before);
    }
    domain.assert_settled(1, 2);
    domain.attach(1, 0);
    domain.run(SECOND);
    domain.assert_settled(1, 0);
}

/// A crash may lose the newest state; the next registrations put it right.
#[test]
fn a_cmd_that_forgot_a_move_believes_the_serving_maar() {
    let mut domain = Domain::new();
    domain.attach(1, 0);
    domain.run(SECOND);
    let stale = domain.cmd.state().clone();
    domain.attach(1, 1);
    domain.run(SECOND);
    domain.cmd = cmd::Cmd::new(
        cmd::Settings::from_config(&cmd_config()).unwrap(),
        stale,
        domain.now,
    );
    domain.run(400 * SECOND);
    domain.assert_settled(1, 1);
}

#[test]
fn a_maar_that_forgot_that_a_node_left_is_told_again() {
    let mut domain = Domain::new();
    domain.attach(1, 0);
    domain.run(SECOND);
    let stale = domain.maars[0].state().clone();
    domain.attach(1, 1);
    domain.run(SECOND);
    domain.maars[0] = Maar::new(
        maar::Settings::from_config(&domain.configs[0]).unwrap(),
        stale,
        domain.now,
    );
    domain.run(400 * SECOND);
    assert_eq!(
        domain.phase(1, 0),
        Some(Phase::Anchored {
            serving: maar_address(1)
        })
    );
    assert_eq!(domain.phase(1, 1), Some(Phase::Attached));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the moves and whatever is lost, the domain settles where the node was last.
    #[test]
    fn the_domain_settles(
        moves in prop::collection::vec((1u8..4, 0usize..3, 1u64..3000), 1..12),
        losses in prop::collection::vec(prop::bool::weighted(0.3), 1..40),
    ) {
        let mut domain = Domain::new();
        let mut losses = losses.into_iter().cycle();
        let mut budget = 9;
        domain.lost = Box::new(move || {
            let lost = budget > 0 && losses.next().unwrap_or(false);
            budget -= i32::from(lost);
            lost
        });
        let mut last = BTreeMap::new();
        for (number, serving, wait) in moves {
            if let Some(old) = last.insert(number, serving) && old != serving {
                domain.detach(number, old, false);
            }
            domain.attach(number, serving);
            domain.run(Duration::from_millis(wait));
        }
        domain.run(400 * SECOND);
        for (number, serving) in last {
            domain.assert_settled(number, serving);
        }
    }
}
