//! The state machine: its inputs and outputs, and what all its parts share.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;
use std::num::NonZeroU32;
use std::time::Duration;

use ipnet::Ipv6Net;
use kedge_config::{Access, Config, Timers, TunnelType};

use super::state::{Node, Phase, Prefix, SHARED_TUNNEL, State};
use crate::counters::Counters;
use crate::deadlines::Deadlines;
use crate::event::Event;
use crate::identity::{LinkLayerAddress, MobileNodeIdentifier};
use crate::proxy_binding::{Exchange, OnLink, RefusalLimit, lifetime_units};
use crate::time::Time;
use crate::wire::mobility::{self, MobilityMessage, PrefixLifetimes, is_mobile_network, update_flags};
use crate::wire::neighbour_discovery::PrefixInformation;

/// Flags of every update that a DPN sends: it is a gateway of RFC 5213, so without D.
const UPDATE_FLAGS: u16 = update_flags::ACKNOWLEDGE | update_flags::PROXY;

/// What happens to a DPN.
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
    Detached(MobileNodeIdentifier),
    /// A Mobility Header message, parsed and with a verified checksum.
    Message {
        /// IPv6 source.
        from: Ipv6Addr,
        /// The message.
        message: MobilityMessage,
    },
    /// The DPA has no tunnel with a TEID that packets are sent to (3GPP TS 29.281 section 7.3.1).
    TunnelRefused {
        /// Who says so.
        peer: Ipv6Addr,
        /// Of what it got.
        teid: u32,
    },
    /// It is [`Dpn::next_deadline`], or later.
    Tick,
}

/// What a DPN wants done.
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
    /// Tell whoever watches.
    Event(Event),
}

/// What a DPN is told by its configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// `node.address`.
    pub address: Ipv6Addr,
    /// `dpn.dpa`.
    pub dpa: Ipv6Addr,
    /// `dpn.tunnel`.
    pub tunnel: TunnelType,
    /// `dpn.maximum_nodes`.
    pub maximum_nodes: usize,
    /// `access`.
    pub access: Access,
    /// `timers`.
    pub timers: Timers,
}

impl Settings {
    /// The settings of a node of role `dpn`; `None` for another role.
    #[must_use]
    pub fn from_config(config: &Config) -> Option<Self> {
        let dpn = config.dpn.as_ref()?;
        Some(Self {
            address: config.node.address,
            dpa: dpn.dpa,
            tunnel: dpn.tunnel,
            maximum_nodes: usize::try_from(dpn.maximum_nodes).unwrap_or(usize::MAX),
            access: config.access.clone(),
            timers: config.timers.clone(),
        })
    }
}

/// Names of all counters of a DPN.
const COUNTERS: &[&str] = &[
    "attachments",
    "attachments_refused_full",
    "attachments_repeated",
    "detachments",
    "detachments_unknown_node",
    "registrations_again",
    "registrations_completed",
    "registrations_refused",
    "updates_sent",
    "updates_retransmitted",
    "acknowledgements_stranger",
    "acknowledgements_unmatched",
    "acknowledgements_mismatched",
    "prefixes_not_permitted",
    "prefixes_of_another",
    "notifications_received",
    "notifications_stranger",
    "notifications_unknown_node",
    "notifications_unknown_reason",
    "messages_unexpected",
    "tunnels_refused_signalled",
    "tunnels_refused_left",
    "tunnels_refused_unknown",
    "tunnels_refused_suppressed",
    "bindings_expired",
    "advertisements_sent",
];

/// The state machine of a DPN.
#[derive(Clone, Debug)]
pub struct Dpn {
    pub(super) settings: Settings,
    pub(super) state: State,
    pub(super) counters: Counters,
    /// In use; derived from the nodes.
    teids: BTreeMap<NonZeroU32, ()>,
    tunnel_ids: BTreeSet<u32>,
    /// Whose each prefix is; derived from the nodes.
    owners: BTreeMap<Ipv6Net, MobileNodeIdentifier>,
    /// Of the nodes, and derived from them.
    deadlines: Deadlines<MobileNodeIdentifier>,
    /// Of Error Indications that are looked into.
    pub(super) indication_limit: RefusalLimit,
}

impl Dpn {
    /// A DPN that goes on from `state`: the empty one, or one that was stored.
    ///
    /// `teid_key`: 64 bits from the randomness of the operating system, for a state that has no key yet.
    #[must_use]
    pub fn new(settings: Settings, mut state: State, teid_key: u64, now: Time) -> Self {
        state.teids.resume(teid_key);
        let nodes = state.nodes.values();
        let mut dpn = Self {
            teids: nodes.clone().filter_map(|node| Some((node.teid?, ()))).collect(),
            tunnel_ids: nodes.filter_map(|node| Some(node.tunnel?.id)).collect(),
            owners: state
                .nodes
                .iter()
                .flat_map(|(identifier, node)| node.prefixes.iter().map(|it| (it.prefix, identifier.clone())))
                .collect(),
            settings,
            state,
            counters: Counters::new(COUNTERS),
            deadlines: Deadlines::default(),
            indication_limit: RefusalLimit::default(),
        };
        let identifiers: Vec<_> = dpn.state.nodes.keys().cloned().collect();
        for identifier in identifiers {
            // A node that is attached hears from its router at once after a restart.
            if let Some(node) = dpn.state.nodes.get_mut(&identifier)
                && node.advertise_at.is_some()
            {
                node.advertise_at = Some(now);
            }
            dpn.reschedule(&identifier);
        }
        dpn
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
                let place = (port, link_layer_address, link_local_address);
                self.attached(&identifier, place, now, &mut outputs);
            }
            Input::Detached(identifier) => self.detached(&identifier, now, &mut outputs),
            Input::Message { from, message } => match message {
                MobilityMessage::ProxyBindingAcknowledgement(acknowledgement) => {
                    self.acknowledgement(from, &acknowledgement, now, &mut outputs);
                }
                MobilityMessage::UpdateNotification(notification) => {
                    self.notification(from, &notification, now, &mut outputs);
                }
                MobilityMessage::ProxyBindingUpdate(_)
                | MobilityMessage::UpdateNotificationAcknowledgement(_)
                | MobilityMessage::BindingError(_)
                | MobilityMessage::Other(_) => self.counters.add("messages_unexpected"),
            },
            Input::TunnelRefused { peer, teid } => self.tunnel_refused(peer, teid, now, &mut outputs),
            Input::Tick => self.tick(now, &mut outputs),
        }
        outputs
    }

    /// When [`Input::Tick`] is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        self.deadlines.next()
    }

    /// What it knows.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// What it counted.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The node whose deadline is the first of those at or before `now`.
    pub(super) fn due(&self, now: Time) -> Option<MobileNodeIdentifier> {
        self.deadlines.due(now)
    }

    /// Brings the deadline index in line with a node that was changed or removed.
    pub(super) fn reschedule(&mut self, identifier: &MobileNodeIdentifier) {
        let node = self.state.nodes.get(identifier);
        self.deadlines.set(identifier, node.and_then(Node::next_deadline));
    }

    /// Gives a node these prefixes, and takes those that it had.
    pub(super) fn set_prefixes(
        &mut self,
        identifier: &MobileNodeIdentifier,
        prefixes: Vec<Prefix>,
    ) -> Vec<Prefix> {
        let Some(node) = self.state.nodes.get_mut(identifier) else {
            return Vec::new();
        };
        for old in &node.prefixes {
            self.owners.remove(&old.prefix);
        }
        for new in &prefixes {
            self.owners.insert(new.prefix, identifier.clone());
        }
        std::mem::replace(&mut node.prefixes, prefixes)
    }

    /// The other node that has a prefix, if there is one.
    pub(super) fn other_owner(
        &self,
        prefix: &Ipv6Net,
        identifier: &MobileNodeIdentifier,
    ) -> Option<&MobileNodeIdentifier> {
        self.owners.get(prefix).filter(|owner| *owner != identifier)
    }

    /// Forgets a node.
    pub(super) fn remove(&mut self, identifier: &MobileNodeIdentifier) {
        self.set_prefixes(identifier, Vec::new());
        if let Some(node) = self.state.nodes.remove(identifier) {
            if let Some(teid) = node.teid {
                self.teids.remove(&teid);
            }
            if let Some(tunnel) = node.tunnel {
                self.tunnel_ids.remove(&tunnel.id);
            }
        }
        self.reschedule(identifier);
    }

    /// By what this DPN takes a node's packets; `None` where that is to be IPv6-in-IPv6.
    fn own_endpoint(&mut self, identifier: &MobileNodeIdentifier) -> Option<mobility::TunnelType> {
        if self.settings.tunnel == TunnelType::Ipv6InIpv6 {
            return None;
        }
        let node = self.state.nodes.get_mut(identifier)?;
        let teid = match node.teid {
            Some(teid) => teid,
            None => {
                let teid = self.state.teids.allocate(&self.teids)?;
                self.teids.insert(teid, ());
                node.teid = Some(teid);
                teid
            }
        };
        match self.settings.tunnel {
            TunnelType::Ipv6InIpv6 => None,
            TunnelType::Gre => Some(mobility::TunnelType::Gre { key: teid.get() }),
            TunnelType::GtpU => Some(mobility::TunnelType::GtpU { teid, ipv4: None }),
        }
    }

    /// Makes the node's tunnel the one to the endpoint that the DPA told, or the shared one.
    pub(super) fn arrange_tunnel(
        &mut self,
        identifier: &MobileNodeIdentifier,
        told: Option<mobility::TunnelType>,
    ) {
        let kind = self.settings.tunnel;
        let Some(node) = self.state.nodes.get_mut(identifier) else {
            return;
        };
        let remote = told.filter(|it| it.is_of(kind) && node.teid.is_some());
        let before = node.tunnel.take();
        let Some(remote) = remote else {
            if let Some(before) = before {
                self.tunnel_ids.remove(&before.id);
            }
            return;
        };
        let id = match before {
            Some(before) => before.id,
            None => {
                let mut id = self.state.last_tunnel_id;
                loop {
                    id = id.wrapping_add(1).max(SHARED_TUNNEL + 1);
                    if self.tunnel_ids.insert(id) {
                        break;
                    }
                }
                self.state.last_tunnel_id = id;
                id
            }
        };
        node.tunnel = Some(crate::maar::NodeTunnel { id, remote });
    }

    /// A TEID that the DPA does not know is not used again.
    pub(super) fn drop_teid(&mut self, identifier: &MobileNodeIdentifier) {
        let node = self.state.nodes.get_mut(identifier);
        if let Some(old) = node.and_then(|node| node.teid.take()) {
            self.teids.remove(&old);
        }
    }

    /// Starts an exchange with the DPA; `lifetime` in units of 4 s.
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
        node.again = false;
        node.reattached = false;
        node.notified = false;
        let exchange = Exchange::new(handoff_indicator, lifetime, first_timeout, node.attached_at, now);
        node.exchange = Some(exchange);
        self.transmit(identifier, now, outputs);
    }

    /// Sends the update of a node's exchange, with a number and a timestamp of its own.
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
        node.sequence = node.sequence.wrapping_add(1);
        let on_link = OnLink {
            identifier,
            link_layer_address: &node.link_layer_address,
            access_technology_type: self.settings.access.access_technology_type,
            attached_at: node.attached_at,
        };
        let mut update = exchange.update(node.sequence, UPDATE_FLAGS, on_link, now);
        // Which prefixes the node has is the DPA's to say, each time: they change while it stays.
        update.options.home_network_prefixes = vec![Ipv6Net::default()];
        if exchange.lifetime != 0 {
            let withheld = node.withheld.iter().map(|prefix| PrefixLifetimes {
                prefix: *prefix,
                preferred: 0,
                valid: 0,
            });
            update.options.prefix_lifetimes = withheld.collect();
        }
        if let Some(endpoint) = endpoint {
            update.options.tell(self.settings.address, endpoint);
        }
        self.counters.add("updates_sent");
        outputs.push(Output::Send {
            to: self.settings.dpa,
            message: MobilityMessage::ProxyBindingUpdate(update),
        });
        self.reschedule(identifier);
    }

    /// Advertises to a node what it may use now; with lifetimes of 0 what it may not use any more (RFC 5213 section 6.12).
    pub(super) fn advertise(
        &mut self,
        identifier: &MobileNodeIdentifier,
        gone: &[Ipv6Net],
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        let access = &self.settings.access;
        let Some(node) = self.state.nodes.get_mut(identifier) else {
            return;
        };
        let information = |prefix, preferred_lifetime: u32, valid_lifetime: u32| PrefixInformation {
            prefix,
            // A home network prefix belongs to one node: there is no neighbour in it.
            on_link: false,
            autonomous: true,
            valid_lifetime,
            preferred_lifetime: preferred_lifetime.min(valid_lifetime),
        };
        let left = |until: Option<Time>, most: u32| match until {
            None => most,
            Some(until) => u32::try_from(until.since(now).as_secs()).map_or(most, |left| left.min(most)),
        };
        // That of a network behind the node is its own to advertise.
        let links = node.prefixes.iter().filter(|it| !is_mobile_network(it.prefix));
        let has = links.map(|it| {
            let preferred = match it.deprecated {
                true => 0,
                false => left(it.preferred_until, access.preferred_lifetime),
            };
            information(it.prefix, preferred, left(it.valid_until, access.valid_lifetime))
        });
        let ended = node.ended.iter().filter(|it| !gone.contains(it));
        let withdrawn = gone.iter().chain(ended).filter(|it| !is_mobile_network(**it));
        let withdrawn = withdrawn.map(|prefix| information(*prefix, 0, 0));
        let prefixes: Vec<_> = has.chain(withdrawn).collect();
        outputs.push(Output::Advertise {
            port: node.port.clone(),
            link_local_address: node.link_local_address,
            link_layer_address: node.link_layer_address,
            prefixes,
        });
        let interval = Duration::from_secs(access.advertisement_interval.into());
        node.advertise_at = (node.phase == Phase::Attached).then(|| now.after(interval));
        self.counters.add("advertisements_sent");
        self.reschedule(identifier);
    }

    /// The lifetime to ask for, in units of 4 s.
    pub(super) fn binding_lifetime_units(&self) -> u16 {
        lifetime_units(self.settings.timers.binding_lifetime)
    }
}
