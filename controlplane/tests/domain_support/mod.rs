//! The domain of `domain.rs`, `tunnels.rs` and `relocation.rs`: one CMD, three MAARs, and the network between them.

#![allow(unreachable_pub, missing_docs, dead_code, reason = "a module of three tests")]

mod config;
mod counting;
mod passing;
mod settled;

use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::net::Ipv6Addr;
use std::time::Duration;

use ipnet::Ipv6Net;
use kedge_config::Config;
use kedge_controlplane::charging::Fill;
use kedge_controlplane::delegation::wire::{
    DelegatedPrefix, Duid, IdentityAssociation, Message, MessageType, Packet,
};
use kedge_controlplane::dpn::Dpn;
use kedge_controlplane::identity::{LinkLayerAddress, MobileNodeIdentifier};
use kedge_controlplane::maar::{Maar, Phase};
use kedge_controlplane::time::Time;
use kedge_controlplane::wire::mobility::{MobilityMessage, emit, parse};
use kedge_controlplane::{cmd, dpn, forwarding, maar};
use kedge_dataplane_api::model::{Encapsulation, Tables};

#[allow(unused_imports, reason = "a module of several tests")]
pub use config::*;
#[allow(unused_imports, reason = "a module of several tests")]
pub use counting::{Counting, Key};
#[allow(unused_imports, reason = "a module of several tests")]
pub use passing::{End, Met};
#[allow(unused_imports, reason = "a module of several tests")]
pub use settled::*;
pub mod dpns;

pub const TEID_KEY: u64 = 0x0123_4567_89ab_cdef;
/// Values of `maar.tunnel` and `cmd.tunnel`.
pub const PLAIN: &str = "ipv6-in-ipv6";
pub const GTPU: &str = "gtpu";
pub const GRE: &str = "gre";
/// GTP-U, at gateways that have an IPv4 address for it.
pub const GTPU_IPV4: &str = "gtpu-ipv4";

pub const CMD: &str = "2001:db8:d::1";

pub fn address(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

pub fn maar_address(index: usize) -> Ipv6Addr {
    address(["2001:db8:a::1", "2001:db8:b::1", "2001:db8:c::1"][index])
}

/// Where a MAAR has its tunnels over IPv4, as the data plane knows that address.
pub fn maar_ipv4_address(index: usize) -> Ipv6Addr {
    address(["::ffff:192.0.2.1", "::ffff:192.0.2.2", "::ffff:192.0.2.3"][index])
}

pub fn node(index: u8) -> (MobileNodeIdentifier, LinkLayerAddress) {
    (
        MobileNodeIdentifier::nai(&format!("mn{index}@example.net")),
        LinkLayerAddress([2, 0, 0, 0, 10, index]),
    )
}

/// A datagram in flight; the heap gives the earliest first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub struct Flight(std::cmp::Reverse<(Time, u64)>, Ipv6Addr, Ipv6Addr, Vec<u8>);

pub struct Domain {
    pub now: Time,
    pub maars: Vec<Maar>,
    pub configs: Vec<Config>,
    pub cmd_config: Config,
    pub cmd: cmd::Cmd,
    /// What each daemon has on disk: a message that others build upon leaves no sooner.
    pub stored: BTreeMap<Ipv6Addr, String>,
    /// How relocations ended.
    pub outcomes: Vec<(Ipv6Net, cmd::Outcome)>,
    /// Prefixes that routes lead to, with where; when it changes.
    pub announced: Vec<(Time, usize, Ipv6Net)>,
    /// Whether MAARs wait for them.
    pub announces: bool,
    pub flights: BinaryHeap<Flight>,
    pub order: u64,
    /// Each datagram asks this whether it is lost.
    pub lost: Box<dyn FnMut() -> bool>,
    pub sent: usize,
    /// Prefixes of the last advertisement to each node: prefix -> preferred lifetime.
    pub heard: BTreeMap<MobileNodeIdentifier, BTreeMap<Ipv6Net, u32>>,
    /// Of the last advertisement to each node: prefix -> valid lifetime.
    pub valid: BTreeMap<MobileNodeIdentifier, BTreeMap<Ipv6Net, u32>>,
    /// Answers to routers.
    pub replies: Vec<(u8, Message)>,
    /// What each router has.
    pub networks: BTreeMap<u8, Ipv6Net>,
    /// Of the last advertisement to each node, the prefixes that are not valid any more.
    pub ended: BTreeMap<MobileNodeIdentifier, Vec<Ipv6Net>>,
    pub on_link: BTreeMap<LinkLayerAddress, MobileNodeIdentifier>,
    /// What data planes count, where that matters, and when they are read next.
    pub counting: Option<Counting>,
    pub read_at: Time,
    /// What they say is left in each of their meters; `None`: all are full.
    pub left: Option<Fill>,
    /// Two at maar1, two at maar2.
    pub dpns: Vec<Dpn>,
    pub dpn_configs: Vec<Config>,
}

impl Domain {
    pub fn new() -> Self {
        Self::with_tunnels([PLAIN; 3], PLAIN)
    }

    /// A domain in which the MAARs and the CMD are configured for these tunnels.
    pub fn with_tunnels(maars: [&str; 3], cmd: &str) -> Self {
        let now = Time(Duration::from_secs(1_700_000_000));
        let configs: Vec<_> = (0..3).map(|index| maar_config(index, maars[index])).collect();
        let cmd_config = cmd_config(cmd);
        let maars = configs
            .iter()
            .map(|config| {
                Maar::new(
                    maar::Settings::from_config(config).unwrap(),
                    maar::State::default(),
                    TEID_KEY ^ u64::from(config.node.name.as_bytes()[4]),
                    now,
                )
            })
            .collect();
        let cmd = cmd::Cmd::new(
            cmd::Settings::from_config(&cmd_config).unwrap(),
            cmd::State::default(),
            now,
        );
        Self {
            now,
            maars,
            configs,
            cmd_config,
            cmd,
            stored: BTreeMap::new(),
            outcomes: Vec::new(),
            announced: Vec::new(),
            announces: false,
            flights: BinaryHeap::new(),
            order: 0,
            lost: Box::new(|| false),
            sent: 0,
            heard: BTreeMap::new(),
            valid: BTreeMap::new(),
            replies: Vec::new(),
            networks: BTreeMap::new(),
            ended: BTreeMap::new(),
            counting: None,
            read_at: now,
            left: None,
            dpns: dpns::all(now),
            dpn_configs: (0..4).map(|index| dpns::dpn_config(index, PLAIN)).collect(),
            on_link: (0..=255).map(|index| (node(index).1, node(index).0)).collect(),
        }
    }

    pub fn send(&mut self, from: Ipv6Addr, to: Ipv6Addr, message: &MobilityMessage) {
        // Every message crosses the wire format, so the codecs are part of the test.
        let octets = emit(message, from, to).unwrap();
        if std::env::var("TRACE").is_ok() {
            eprintln!(
                "{:?} {}",
                self.now.0,
                kedge_controlplane::driver::describe("m", message, from, to, 0).text
            );
        }
        self.sent += 1;
        if (self.lost)() {
            return;
        }
        self.order += 1;
        let arrival = self.now.after(Duration::from_millis(5));
        self.flights
            .push(Flight(std::cmp::Reverse((arrival, self.order)), from, to, octets));
    }

    pub fn maar_outputs(&mut self, index: usize, outputs: Vec<maar::Output>) {
        for output in outputs {
            match output {
                maar::Output::Send { to, message } => {
                    // What was saved 20 ms later in truth: who dies in between is not this domain's subject, but for DPNs.
                    if dpns::index_of(to).is_none() {
                        self.store(maar_address(index));
                    }
                    self.send(maar_address(index), to, &message);
                }
                maar::Output::SendWhenSaved { to, message } => {
                    self.store(maar_address(index));
                    self.send(maar_address(index), to, &message);
                    if let MobilityMessage::ProxyBindingAcknowledgement(answer) = message
                        && let Some(identifier) = answer.options.mobile_node_identifier
                        && dpns::index_of(to).is_some()
                    {
                        self.maar_input(index, maar::Input::Answered { to, identifier });
                    }
                }
                maar::Output::Advertise {
                    link_layer_address,
                    prefixes,
                    ..
                } => {
                    let valid = prefixes.iter().map(|it| (it.prefix, it.valid_lifetime)).collect();
                    let identifier = self.on_link[&link_layer_address].clone();
                    self.valid.insert(identifier, valid);
                    let gone = prefixes.iter().filter(|it| it.valid_lifetime == 0);
                    let gone = gone.map(|it| it.prefix).collect();
                    let identifier = self.on_link[&link_layer_address].clone();
                    self.ended.insert(identifier, gone);
                    let heard = prefixes
                        .iter()
                        .map(|it| (it.prefix, it.preferred_lifetime))
                        .collect();
                    self.heard
                        .insert(self.on_link[&link_layer_address].clone(), heard);
                }
                maar::Output::Dhcp { to, message, .. } => {
                    let number = (0..=255)
                        .find(|number| node(*number).1.link_local() == to)
                        .unwrap();
                    // What crosses the wire is the same.
                    let octets = message.emit().unwrap();
                    assert_eq!(Packet::parse(&octets).unwrap(), Packet::Message(message.clone()));
                    let given = message.delegations.iter().flat_map(|it| &it.prefixes);
                    if message.message_type == MessageType::Reply {
                        for delegated in given {
                            match delegated.valid {
                                0 => self.networks.remove(&number),
                                _ => self.networks.insert(number, delegated.prefix),
                            };
                        }
                    }
                    self.replies.push((number, message));
                }
                maar::Output::ReadCounters => self.read_at = self.now,
                maar::Output::Event(_) | maar::Output::EndPath { .. } => {}
            }
        }
    }

    pub fn cmd_outputs(&mut self, outputs: Vec<cmd::Output>) {
        for output in outputs {
            match output {
                cmd::Output::Send { to, message } => {
                    self.store(address(CMD));
                    self.send(address(CMD), to, &message);
                }
                cmd::Output::SendWhenSaved { to, message } => {
                    self.store(address(CMD));
                    self.send(address(CMD), to, &message);
                }
                cmd::Output::Relocation { prefix, outcome } => self.outcomes.push((prefix, outcome)),
                cmd::Output::Event(event) => {
                    if let Some(counting) = self.counting.as_mut().filter(|_| event.kind == "usage_closed") {
                        counting.closed(&event);
                    }
                }
            }
        }
    }

    /// Puts what a daemon knows on disk.
    pub fn store(&mut self, who: Ipv6Addr) {
        if let Some(index) = dpns::index_of(who) {
            let stored = serde_json::to_string(self.dpns[index].state()).unwrap();
            self.stored.insert(who, stored);
            return;
        }
        let stored = match (0..3).find(|index| maar_address(*index) == who) {
            Some(index) => serde_json::to_string(self.maars[index].state()),
            None => serde_json::to_string(self.cmd.state()),
        };
        self.stored.insert(who, stored.unwrap());
    }

    /// kill -9, and a start from what was on disk.
    pub fn kill(&mut self, who: Ipv6Addr) {
        let stored = self.stored.get(&who).map_or("", String::as_str);
        if let Some(index) = dpns::index_of(who) {
            self.dpns[index] = dpns::dpn(&self.dpn_configs[index], stored, self.now);
            return;
        }
        if let Some(index) = (0..3).find(|index| maar_address(*index) == who) {
            let settings = self.maar_settings(index);
            let state = serde_json::from_str(stored).unwrap_or_default();
            self.maars[index] = Maar::new(settings, state, TEID_KEY, self.now);
        } else {
            self.start_cmd(serde_json::from_str(stored).unwrap_or_default());
        }
    }

    /// The CMD is started with what it remembers.
    pub fn start_cmd(&mut self, state: cmd::State) {
        let settings = cmd::Settings::from_config(&self.cmd_config).unwrap();
        self.cmd = cmd::Cmd::new(settings, state, self.now);
        let outputs = self.cmd.started(self.now);
        self.cmd_outputs(outputs);
    }

    /// Asks the CMD to relocate a prefix.
    pub fn relocate(&mut self, prefix: Ipv6Net, to: usize) -> Result<(), cmd::RelocationError> {
        let outputs = self.cmd.relocate(prefix, maar_address(to), self.now)?;
        self.cmd_outputs(outputs);
        Ok(())
    }

    /// The router of a node says something; what it has it names.
    pub fn router(&mut self, number: u8, index: usize, message_type: MessageType) {
        let mut message = Message::new(message_type, number.into());
        let (identifier, link_layer_address) = node(number);
        message.client = Some(Duid::link_layer(link_layer_address));
        message.rapid_commit = message_type == MessageType::Solicit;
        let server = self.maar_settings(index).mobile_routers.unwrap().server;
        let to_one = !matches!(message_type, MessageType::Solicit | MessageType::Rebind);
        message.server = to_one.then_some(server);
        let mut association = IdentityAssociation::new(1);
        association
            .prefixes
            .extend(self.networks.get(&number).map(|prefix| DelegatedPrefix {
                preferred: 0,
                valid: 0,
                prefix: *prefix,
                exclude: None,
                status: None,
            }));
        message.delegations = vec![association];
        if message_type == MessageType::Release {
            self.networks.remove(&number);
        }
        let message = Box::new(message);
        self.maar_input(index, maar::Input::Dhcp { identifier, message });
    }

    /// Puts a policy into the running CMD.
    pub fn set_policy(&mut self, toml: &str) {
        let rule = toml::from_str(toml).unwrap();
        let (_, outputs) = self.cmd.put_policy(rule, self.now).unwrap();
        self.store(address(CMD));
        self.cmd_outputs(outputs);
    }

    fn maar_settings(&self, index: usize) -> maar::Settings {
        maar::Settings {
            announces: self.announces,
            ..maar::Settings::from_config(&self.configs[index]).unwrap()
        }
    }

    /// Makes every MAAR wait for its routes.
    pub fn announce(&mut self) {
        self.announces = true;
        for index in 0..3 {
            let state = self.maars[index].state().clone();
            self.maars[index] = Maar::new(self.maar_settings(index), state, TEID_KEY, self.now);
        }
    }

    pub fn maar_input(&mut self, index: usize, input: maar::Input) {
        let outputs = self.maars[index].process(input, self.now);
        self.maar_outputs(index, outputs);
    }

    pub fn attach(&mut self, number: u8, index: usize) {
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

    pub fn detach(&mut self, number: u8, index: usize, deregister: bool) {
        self.maar_input(
            index,
            maar::Input::Detached {
                identifier: node(number).0,
                deregister,
            },
        );
    }

    /// Lets `span` pass: deliveries and timers in the order of their times.
    pub fn run(&mut self, span: Duration) {
        let end = self.now.after(span);
        loop {
            let flight = self.flights.peek().map(|flight| flight.0.0.0);
            self.follow_routes();
            self.count();
            let read = self.counting.as_ref().map(|_| self.read_at);
            let route = self
                .announced
                .iter()
                .map(|(at, ..)| *at)
                .filter(|at| *at > self.now);
            let timers = self.maars.iter().map(Maar::next_deadline).chain([
                self.cmd.next_deadline(),
                route.min(),
                read,
            ]);
            let timers = timers.chain(self.dpns.iter().map(Dpn::next_deadline));
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
            if read.is_some_and(|at| at <= self.now) {
                self.read_at = self.now.after(Duration::from_secs(10));
                self.read_counters();
                continue;
            }
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
                } else if let Some(index) = dpns::index_of(to) {
                    self.dpn_input(index, dpn::Input::Message { from, message });
                }
                continue;
            }
            for index in 0..3 {
                if self.maars[index].next_deadline().is_some_and(|at| at <= self.now) {
                    self.maar_input(index, maar::Input::Tick);
                }
            }
            for index in 0..self.dpns.len() {
                if self.dpns[index].next_deadline().is_some_and(|at| at <= self.now) {
                    self.dpn_input(index, dpn::Input::Tick);
                }
            }
            if self.cmd.next_deadline().is_some_and(|at| at <= self.now) {
                let outputs = self.cmd.process(cmd::Input::Tick, self.now);
                self.cmd_outputs(outputs);
            }
        }
        self.now = end;
    }

    /// Routes to what is being taken are there 3 ms later.
    fn follow_routes(&mut self) {
        let due = self.announced.extract_if(.., |(at, ..)| *at <= self.now);
        for (_, index, prefix) in due.collect::<Vec<_>>() {
            self.maar_input(index, maar::Input::Announced(prefix));
        }
        for index in 0..3 {
            let gone: Vec<_> = self.maars[index].withdrawing().collect();
            for prefix in gone {
                self.maar_input(index, maar::Input::Withdrawn(prefix));
            }
        }
        for index in (0..3).filter(|_| self.announces) {
            let nodes = self.maars[index].state().nodes.values();
            let taking = nodes.flat_map(|node| node.adopted.iter().filter(|it| it.asked.is_some()));
            for adopted in taking {
                let known =
                    |(_, at, prefix): &(Time, usize, Ipv6Net)| (*at, *prefix) == (index, adopted.prefix);
                if !self.announced.iter().any(known) {
                    let there = self.now.after(Duration::from_millis(3));
                    self.announced.push((there, index, adopted.prefix));
                }
            }
        }
    }

    pub fn tables(&self, index: usize) -> Tables {
        self.derived(index).tables
    }

    pub fn derived(&self, index: usize) -> forwarding::Derived {
        forwarding::desired(
            &self.configs[index],
            self.maars[index].state(),
            &BTreeMap::new(),
            false,
        )
    }

    /// The tunnels of one MAAR by their peer: what the data plane is told of each.
    pub fn tunnels_to(&self, index: usize, peer: usize) -> Vec<(u32, Encapsulation)> {
        let tables = self.tables(index);
        let tunnels = tables.tunnels.iter();
        tunnels
            .filter(|(_, tunnel)| [maar_address(peer), maar_ipv4_address(peer)].contains(&tunnel.remote))
            .map(|(id, tunnel)| (*id, tunnel.encapsulation))
            .collect()
    }

    pub fn phase(&self, number: u8, index: usize) -> Option<Phase> {
        self.maars[index]
            .state()
            .nodes
            .get(&node(number).0)
            .map(|node| node.phase.clone())
    }

    pub fn prefix(&self, number: u8, index: usize) -> Ipv6Net {
        self.maars[index].state().nodes[&node(number).0].home_network_prefix
    }

    /// Of what the CMD says of a node, the oldest prefix.
    pub fn prefix_of_binding(&self, number: u8) -> Ipv6Net {
        let binding = &self.cmd.state().bindings[&node(number).0];
        let previous = binding.previous.first().map(|it| it.prefix);
        previous.unwrap_or(binding.prefixes[0])
    }

    /// The prefixes of a node that one MAAR anchors.
    pub fn anchored(&self, number: u8, index: usize) -> Vec<Ipv6Net> {
        let state = self.maars[index].state();
        let node = state.nodes.get(&node(number).0);
        node.into_iter().flat_map(|node| state.anchored(node)).collect()
    }

    /// A restart of everything, from what each daemon stored as JSON.
    pub fn restart(&mut self) {
        for index in 0..3 {
            let stored = serde_json::to_string(self.maars[index].state()).unwrap();
            let settings = self.maar_settings(index);
            self.maars[index] = Maar::new(
                settings,
                serde_json::from_str(&stored).unwrap(),
                TEID_KEY,
                self.now,
            );
        }
        let stored = serde_json::to_string(self.cmd.state()).unwrap();
        let settings = cmd::Settings::from_config(&self.cmd_config).unwrap();
        self.cmd = cmd::Cmd::new(settings, serde_json::from_str(&stored).unwrap(), self.now);
    }
}
