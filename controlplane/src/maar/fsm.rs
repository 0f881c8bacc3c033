//! The state machine: its inputs and outputs, and what all its parts share.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::Ipv6Net;
use kedge_config::{Access, Config, FilterRule, Timers, TunnelType};

use super::pool;
use super::state::{DelegatedPool, Exchange, Node, Phase, State};
use super::tunnels::InUse;
pub use crate::counters::Counters;
use crate::event::Event;
use crate::identity::{LinkLayerAddress, MobileNodeIdentifier};
use crate::proxy_binding::{RefusalLimit, UPDATE_FLAGS, lifetime_units, remember};
use crate::time::Time;
use crate::wire::mobility::{MobilityMessage, MobilityOptions, ProxyBindingUpdate, timestamp_from_time};
use crate::wire::neighbour_discovery::PrefixInformation;

/// What happens to a MAAR.
#[allow(
    clippy::large_enum_variant,
    reason = "one at a time, passed by value once; a box would cost more"
)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A node is on an access link: by Router Solicitation or by the operator's word.
    Attached {
        /// Who.
        identifier: MobileNodeIdentifier,
        /// On which port.
        port: String,
        /// Its link-layer address.
        link_layer_address: LinkLayerAddress,
        /// Its link-local address.
        link_local_address: Ipv6Addr,
    },
    /// A node has left the access link.
    Detached {
        /// Who.
        identifier: MobileNodeIdentifier,
        /// End the session too (RFC 8885 section 3.5: a mere detachment must not).
        deregister: bool,
    },
    /// A Mobility Header message, parsed and with a verified checksum.
    Message {
        /// IPv6 source.
        from: Ipv6Addr,
        /// The message.
        message: MobilityMessage,
    },
    /// The operator wants this filter; it was checked.
    PutFilter(FilterRule),
    /// The operator wants the filter of this name no more.
    DeleteFilter(String),
    /// The data plane says that the filter with this id is no longer needed.
    FilterExpired(u64),
    /// A peer has no tunnel with a TEID that packets are sent to (3GPP TS 29.281 section 7.3.1).
    TunnelRefused {
        /// Its address, of IPv4 in its mapped form.
        peer: Ipv6Addr,
        /// Of what it got.
        teid: u32,
    },
    /// A GTP-U tunnel of ours has brought its last (3GPP TS 29.281 section 7.3.2).
    EndMarker {
        /// IPv6 source.
        from: Ipv6Addr,
        /// Of the tunnel, here.
        teid: u32,
    },
    /// Routes lead here for a prefix that is being taken.
    Announced(Ipv6Net),
    /// These pools are delegated to this MAAR now.
    Pools(Vec<DelegatedPool>),
    /// An older prefix of a node here has carried nothing for `maar.idle_prefix_s`.
    Unused(Ipv6Net),
    /// None of ours lead here any more for a prefix that was yielded.
    Withdrawn(Ipv6Net),
    /// It is [`Maar::next_deadline`], or later.
    Tick,
}

/// What a MAAR wants done.
#[allow(
    clippy::large_enum_variant,
    reason = "one at a time, passed by value once; a box would cost more"
)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a Mobility Header message from `node.address`.
    Send {
        /// IPv6 destination.
        to: Ipv6Addr,
        /// The message.
        message: MobilityMessage,
    },
    /// The same, when what is known now would survive a crash: another gateway builds upon it.
    SendWhenSaved {
        /// IPv6 destination.
        to: Ipv6Addr,
        /// The message.
        message: MobilityMessage,
    },
    /// Send a Router Advertisement to one node.
    Advertise {
        /// On this access port.
        port: String,
        /// IPv6 destination.
        link_local_address: Ipv6Addr,
        /// Link-layer destination.
        link_layer_address: LinkLayerAddress,
        /// Its prefixes.
        prefixes: Vec<PrefixInformation>,
    },
    /// Tell a MAAR that nothing more comes to it for a prefix that was tunnelled there, when that is so.
    EndPath {
        /// Which MAAR.
        to: Ipv6Addr,
        /// The prefix, which we anchor.
        prefix: Ipv6Net,
        /// By what.
        by: crate::wire::mobility::TunnelType,
    },
    /// Tell whoever watches.
    Event(Event),
}

/// What a MAAR is told by its configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// `node.address`.
    pub address: Ipv6Addr,
    /// `maar.cmd`.
    pub cmds: Vec<Ipv6Addr>,
    /// `maar.prefix_pools`.
    pub prefix_pools: Vec<Ipv6Net>,
    /// `maar.peers`.
    pub peers: Option<Vec<Ipv6Addr>>,
    /// `maar.tunnel`.
    pub tunnel: TunnelType,
    /// `maar.gtpu_ipv4_address`.
    pub gtpu_ipv4_address: Option<Ipv4Addr>,
    /// `maar.maximum_nodes`.
    pub maximum_nodes: usize,
    /// `access`.
    pub access: Access,
    /// `timers`.
    pub timers: Timers,
    /// Routes to prefixes are announced, and [`Input::Announced`] tells when. Without that nothing is relocated here:
    /// the routes would not follow.
    pub announces: bool,
}

impl Settings {
    /// The settings of a node of role `maar`; `None` for another role.
    #[must_use]
    pub fn from_config(config: &Config) -> Option<Self> {
        let maar = config.maar.as_ref()?;
        Some(Self {
            address: config.node.address,
            cmds: maar.cmd.clone(),
            prefix_pools: maar.prefix_pools.clone(),
            peers: maar.peers.clone(),
            tunnel: maar.tunnel,
            gtpu_ipv4_address: maar.gtpu_ipv4_address,
            maximum_nodes: usize::try_from(maar.maximum_nodes).unwrap_or(usize::MAX),
            access: config.access.clone(),
            timers: config.timers.clone(),
            announces: config.announce.is_some(),
        })
    }
}

/// Names of all counters of a MAAR.
const COUNTERS: &[&str] = &[
    "attachments",
    "attachments_refused_full",
    "attachments_refused_no_prefix",
    "attachments_repeated",
    "detachments",
    "detachments_unknown_node",
    "filters_added",
    "filters_deleted",
    "filters_expired",
    "deregistrations_refused_not_serving",
    "registrations_completed",
    "registrations_refused",
    "updates_sent",
    "updates_retransmitted",
    "updates_accepted",
    "updates_deferred",
    "updates_refused",
    "updates_refused_stranger",
    "refusals_suppressed",
    "acknowledgements_stranger",
    "acknowledgements_unmatched",
    "acknowledgements_mismatched",
    "acknowledgements_not_distributed",
    "previous_maars_not_permitted",
    "messages_unexpected",
    "tunnels_refused_signalled",
    "tunnels_refused_left",
    "tunnels_refused_unknown",
    "tunnels_refused_suppressed",
    "bindings_expired",
    "advertisements_sent",
    "pools_delegated",
    "pools_lost",
    "end_markers",
    "end_markers_unexpected",
    "prefixes_adopted",
    "prefixes_adopted_late",
    "prefixes_given_back",
    "prefixes_unused",
    "prefixes_yielded",
    "prefixes_yielded_freed",
];

/// The state machine of a MAAR.
#[derive(Clone, Debug)]
pub struct Maar {
    pub(super) settings: Settings,
    pub(super) state: State,
    pub(super) counters: Counters,
    /// Prefixes in use, derived from the nodes.
    pub(super) prefixes_in_use: BTreeSet<Ipv6Net>,
    /// TEIDs and tunnel ids in use, derived from the state.
    pub(super) in_use: InUse,
    /// Next deadline of every node that has one, both ways; derived from the nodes.
    deadline_of: BTreeMap<MobileNodeIdentifier, Time>,
    deadlines: BTreeSet<(Time, MobileNodeIdentifier)>,
    /// The same of prefixes that were yielded.
    pub(super) yielded_deadlines: BTreeSet<(Time, Ipv6Net)>,
    /// Prefixes that are being taken and whose they are; derived from the nodes.
    pub(super) taking: BTreeMap<Ipv6Net, MobileNodeIdentifier>,
    /// Prefixes that were yielded and are being withdrawn; derived from those.
    pub(super) withdrawing: BTreeSet<Ipv6Net>,
    pub(super) refusal_limit: RefusalLimit,
    /// Of Error Indications that are looked into.
    pub(super) indication_limit: RefusalLimit,
}

impl Maar {
    /// A MAAR that goes on from `state`: the empty one, or one that was stored.
    ///
    /// `teid_key`: 64 bits from the randomness of the operating system, for a state that has no key yet.
    #[must_use]
    pub fn new(settings: Settings, mut state: State, teid_key: u64, now: Time) -> Self {
        state.teids.resume(teid_key);
        let in_use = InUse::new(&state);
        // A state of before GTP-U has tunnels but no last id.
        state.last_tunnel_id = state.last_tunnel_id.max(in_use.last_tunnel_id());
        let mut maar = Self {
            settings,
            prefixes_in_use: state
                .nodes
                .values()
                .flat_map(Node::own_prefixes)
                .chain(state.yielded.keys().copied())
                .collect(),
            taking: state
                .nodes
                .iter()
                .flat_map(|(identifier, node)| {
                    let taking = node.adopted.iter().filter(|it| it.asked.is_some());
                    taking.map(move |it| (it.prefix, identifier.clone()))
                })
                .collect(),
            withdrawing: state
                .yielded
                .iter()
                .filter(|(_, yielded)| yielded.withdrawing)
                .map(|(prefix, _)| *prefix)
                .collect(),
            yielded_deadlines: state
                .yielded
                .iter()
                .filter_map(|(prefix, yielded)| Some((yielded.next_deadline()?, *prefix)))
                .collect(),
            state,
            in_use,
            counters: Counters::new(COUNTERS),
            deadline_of: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            refusal_limit: RefusalLimit::default(),
            indication_limit: RefusalLimit::default(),
        };
        let identifiers: Vec<_> = maar.state.nodes.keys().cloned().collect();
        for identifier in identifiers {
            // A node that is attached hears from its router at once after a restart.
            if let Some(node) = maar.state.nodes.get_mut(&identifier)
                && node.advertise_at.is_some()
            {
                node.advertise_at = Some(now);
            }
            maar.reschedule(&identifier);
        }
        maar
    }

    /// Takes one input and returns what is to be done, in order.
    pub fn process(&mut self, input: Input, now: Time) -> Vec<Output> {
        let mut outputs = Vec::new();
        match input {
            Input::Attached {
                identifier,
                port,
                link_layer_address,
                link_local_address,
            } => {
                self.attached(
                    identifier,
                    port,
                    link_layer_address,
                    link_local_address,
                    now,
                    &mut outputs,
                );
            }
            Input::Detached {
                identifier,
                deregister,
            } => self.detached(&identifier, deregister, now, &mut outputs),
            Input::Message { from, message } => match message {
                MobilityMessage::ProxyBindingUpdate(update) => self.update(from, &update, now, &mut outputs),
                MobilityMessage::ProxyBindingAcknowledgement(acknowledgement) => {
                    self.acknowledgement(from, &acknowledgement, now, &mut outputs);
                }
                MobilityMessage::BindingError(_) | MobilityMessage::Other(_) => {
                    self.counters.add("messages_unexpected")
                }
            },
            Input::PutFilter(rule) => self.put_filter(rule, &mut outputs),
            Input::DeleteFilter(name) => self.delete_filter(&name, &mut outputs),
            Input::FilterExpired(id) => self.filter_expired(id, &mut outputs),
            Input::TunnelRefused { peer, teid } => self.tunnel_refused(peer, teid, now, &mut outputs),
            Input::EndMarker { from, teid } => self.end_marker(from, teid),
            Input::Announced(prefix) => self.announced(prefix, now, &mut outputs),
            Input::Pools(pools) => self.pools(pools, now, &mut outputs),
            Input::Unused(prefix) => self.unused(prefix, now, &mut outputs),
            Input::Withdrawn(prefix) => self.withdrawn(prefix, now),
            Input::Tick => self.tick(now, &mut outputs),
        }
        outputs
    }

    /// When [`Input::Tick`] is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        let nodes = self.deadlines.first().map(|(time, _)| *time);
        let yielded = self.yielded_deadlines.first().map(|(time, _)| *time);
        nodes.into_iter().chain(yielded).min()
    }

    /// What it knows.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Prefixes that are being taken: they are ours when they are announced.
    pub fn taking(&self) -> impl Iterator<Item = Ipv6Net> + '_ {
        self.taking.keys().copied()
    }

    /// Prefixes that were yielded, and for which routes may still lead here.
    pub fn withdrawing(&self) -> impl Iterator<Item = Ipv6Net> + '_ {
        self.withdrawing.iter().copied()
    }

    /// What it counted.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The node whose deadline is the first of those at or before `now`.
    pub(super) fn due(&self, now: Time) -> Option<MobileNodeIdentifier> {
        self.deadlines
            .first()
            .filter(|(time, _)| *time <= now)
            .map(|(_, identifier)| identifier.clone())
    }

    /// Brings the deadline index in line with a node that was changed or removed.
    pub(super) fn reschedule(&mut self, identifier: &MobileNodeIdentifier) {
        if let Some(time) = self.deadline_of.remove(identifier) {
            self.deadlines.remove(&(time, identifier.clone()));
        }
        if let Some(time) = self.state.nodes.get(identifier).and_then(Node::next_deadline) {
            self.deadline_of.insert(identifier.clone(), time);
            self.deadlines.insert((time, identifier.clone()));
        }
    }

    /// Forgets a node and frees its prefixes.
    pub(super) fn remove(&mut self, identifier: &MobileNodeIdentifier) {
        if let Some(node) = self.state.nodes.remove(identifier) {
            for prefix in node.own_prefixes() {
                self.free_prefix(prefix);
            }
            self.in_use.free(&node);
        }
        self.reschedule(identifier);
    }

    /// A free home network prefix, taken.
    pub(super) fn allocate_prefix(&mut self, now: Time) -> Option<Ipv6Net> {
        let prefix = pool::allocate(
            &self.pools_to_give(now),
            &self.prefixes_in_use,
            &mut self.state.next_prefix,
        )?;
        self.prefixes_in_use.insert(prefix);
        Some(prefix)
    }

    /// A prefix is not its node's any more; one that was yielded is still somebody's.
    pub(super) fn free_prefix(&mut self, prefix: Ipv6Net) {
        if !self.state.yielded.contains_key(&prefix) {
            self.prefixes_in_use.remove(&prefix);
        }
    }

    /// Whether tunnels to and from `peer` are allowed.
    pub(super) fn peer_permitted(&self, peer: Ipv6Addr) -> bool {
        peer != self.settings.address
            && self
                .settings
                .peers
                .as_ref()
                .is_none_or(|peers| peers.contains(&peer))
    }

    /// Starts an exchange with the CMD; `lifetime` in units of 4 s.
    pub(super) fn register(
        &mut self,
        identifier: &MobileNodeIdentifier,
        handoff_indicator: u8,
        lifetime: u16,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        let first_timeout = self.settings.timers.initial_bindack_timeout;
        let Some(node) = self.state.nodes.get_mut(identifier) else {
            return;
        };
        node.refresh_at = None;
        node.exchange = Some(Exchange {
            sequences: Vec::new(),
            cmd: 0,
            handoff_indicator,
            lifetime,
            retransmit_at: now.after(first_timeout),
            next_timeout_ms: u64::try_from(first_timeout.as_millis()).unwrap_or(u64::MAX),
            started_at: now,
        });
        self.transmit(identifier, now, outputs);
    }

    /// Sends the update of a node's exchange, with a number and a timestamp of its own
    /// (RFC 5213 section 5.5: a repeated timestamp would be refused).
    pub(super) fn transmit(
        &mut self,
        identifier: &MobileNodeIdentifier,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        let endpoint = self.own_endpoint(identifier);
        let Some(node) = self.state.nodes.get_mut(identifier) else {
            return;
        };
        let Some(exchange) = node.exchange.as_mut() else {
            return;
        };
        let Some(to) = self.settings.cmds.get(exchange.cmd).copied() else {
            return;
        };
        node.sequence = node.sequence.wrapping_add(1);
        remember(&mut exchange.sequences, node.sequence);
        let mut update = ProxyBindingUpdate {
            sequence: node.sequence,
            flags: UPDATE_FLAGS,
            lifetime: exchange.lifetime,
            options: MobilityOptions {
                mobile_node_identifier: Some(identifier.clone()),
                home_network_prefixes: vec![node.home_network_prefix],
                handoff_indicator: Some(exchange.handoff_indicator),
                access_technology_type: Some(self.settings.access.access_technology_type),
                timestamp: Some(timestamp_from_time(now)),
                link_layer_identifier: Some(node.link_layer_address.0.to_vec()),
                ..MobilityOptions::default()
            },
        };
        if let Some(endpoint) = endpoint {
            update.options.tell(self.settings.address, endpoint);
        }
        self.counters.add("updates_sent");
        outputs.push(Output::Send {
            to,
            message: MobilityMessage::ProxyBindingUpdate(update),
        });
        self.reschedule(identifier);
    }

    /// Advertises to a node what it may use now: its own prefix preferred, older ones
    /// deprecated (RFC 8885 section 3.7). `withdrawn`: nothing any more (RFC 5213 section 6.12).
    pub(super) fn advertise(
        &mut self,
        identifier: &MobileNodeIdentifier,
        withdrawn: bool,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        let own = self
            .state
            .nodes
            .get(identifier)
            .map(|node| node.home_network_prefix);
        let limits = own.map(|prefix| self.lifetime_limits(prefix, now));
        let (preferred_limit, valid_limit) = limits.unwrap_or_default();
        let access = &self.settings.access;
        let Some(node) = self.state.nodes.get_mut(identifier) else {
            return;
        };
        // On-link is not set: a home network prefix belongs to one node, so there is
        // no neighbour in it, and everything goes by the MAAR.
        let information = |prefix, preferred_lifetime| PrefixInformation {
            prefix,
            on_link: false,
            autonomous: true,
            valid_lifetime: if withdrawn { 0 } else { access.valid_lifetime },
            preferred_lifetime: if withdrawn { 0 } else { preferred_lifetime },
        };
        let mut own = information(node.home_network_prefix, access.preferred_lifetime);
        own.preferred_lifetime = own.preferred_lifetime.min(preferred_limit);
        own.valid_lifetime = own.valid_lifetime.min(valid_limit);
        let mut prefixes = vec![own];
        // Those relocated here are still old ones: no new flow is to begin on them.
        let older = node.adopted.iter().map(|it| it.prefix);
        let older = older.chain(node.previous.iter().map(|previous| previous.prefix));
        prefixes.extend(older.map(|prefix| information(prefix, 0)));
        outputs.push(Output::Advertise {
            port: node.port.clone(),
            link_local_address: node.link_local_address,
            link_layer_address: node.link_layer_address,
            prefixes,
        });
        node.advertise_at = (node.phase == Phase::Attached).then(|| {
            now.after(std::time::Duration::from_secs(
                access.advertisement_interval.into(),
            ))
        });
        self.counters.add("advertisements_sent");
        self.reschedule(identifier);
    }

    /// The lifetime to ask for, in units of 4 s.
    pub(super) fn binding_lifetime_units(&self) -> u16 {
        lifetime_units(self.settings.timers.binding_lifetime)
    }
}

impl Node {
    /// The earliest of its timers.
    pub(super) fn next_deadline(&self) -> Option<Time> {
        let retransmit_at = self.exchange.as_ref().map(|exchange| exchange.retransmit_at);
        // While a re-registration is on its way, `refresh_at` waits for its end.
        let arriving_until = self.arriving.map(|it| it.until);
        let moves = [self.leaving_until, arriving_until, self.release_at];
        let adopted = self
            .adopted
            .iter()
            .flat_map(|it| [it.arriving_until, it.uplink_at]);
        [retransmit_at, self.refresh_at, self.advertise_at, self.expires_at]
            .into_iter()
            .chain(moves)
            .chain(adopted)
            .flatten()
            .min()
    }
}
