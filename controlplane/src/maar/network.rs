//! A node that is a router asks for a prefix for the network behind it (RFC 7148), by DHCPv6 on its access link (RFC 8415).
//!
//! ```text
//!  router              MAAR                          CMD
//!    │  Solicit          │                            │
//!    │──────────────────►│                            │
//!    │◄─ Advertise ──────│  (nothing is kept of it)   │
//!    │  Request          │                            │
//!    │──────────────────►│  update, with the prefix   │
//!    │                   │───────────────────────────►│
//!    │                   │◄───────────────────────────│
//!    │◄─ Reply ──────────│                            │
//! ```
//!
//! From then on the prefix is one of the node's, as those are that were relocated here: tunnelled when the node moves, relocated
//! and released like them. But it is not advertised, there is no newer one that takes its place, and it is shorter than a
//! home network prefix, which tells one from the other wherever a prefix is named.
//!
//! Every MAAR of a domain is the same server to the router, by an identifier that follows from the link-layer address that all
//! have on their access links. So whoever serves the node renews its prefix: what it is, the CMD says. A node has one.
//! It ends when the router releases it or does not renew it in time, and with the session.

use std::time::Duration;

use ipnet::Ipv6Net;

use super::fsm::{Maar, Output};
use super::pool;
use super::state::{Adopted, Node, Phase};
use crate::delegation::wire::{
    DelegatedPrefix, Duid, INFINITY, IdentityAssociation, Message, MessageType, OtherAssociation, StatusCode,
    status,
};
use crate::event::Event;
use crate::identity::MobileNodeIdentifier;
use crate::proxy_binding::handoff_indicator;
use crate::time::Time;
use crate::wire::mobility::{ProxyBindingAcknowledgement, Status, is_mobile_network};

/// What is to be given up, and was not answered, is tried again after this.
const TRY_AGAIN: Duration = Duration::from_secs(2);
/// What a MAAR is told of `[maar.mobile_routers]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MobileRouters {
    /// Who it is to them.
    pub server: Duid,
    /// Of which pools their prefixes are.
    pub pools: Vec<Ipv6Net>,
    /// Length of each.
    pub delegated_length: u8,
    /// Seconds.
    pub preferred_lifetime: u32,
    /// Seconds; all ones: as long as the session.
    pub valid_lifetime: u32,
    /// Whether two messages may do instead of four.
    pub rapid_commit: bool,
}

impl Maar {
    /// A DHCPv6 message of a node on an access link, which was sent to all servers.
    pub(super) fn network_asked(
        &mut self,
        identifier: &MobileNodeIdentifier,
        message: Message,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        let Some(routers) = self.settings.mobile_routers.clone() else {
            return;
        };
        let ready = |node: &&Node| node.phase == Phase::Attached && node.registered;
        let Some(node) = self.state.nodes.get(identifier).filter(ready) else {
            // What it has is not known yet. It asks again.
            return self.counters.add("dhcp_unanswered");
        };
        if !is_for(&message, &routers.server) {
            return self.counters.add("dhcp_refused_identifiers");
        }
        self.counters.add("dhcp_messages");
        let has = node.network(&message);
        let busy = node.exchange.is_some() || node.giving_up.iter().any(|(it, _)| is_mobile_network(*it));
        match message.message_type {
            MessageType::Solicit if !(message.rapid_commit && routers.rapid_commit) => {
                let offer = has.or_else(|| self.free_network().map(|(prefix, _)| prefix));
                self.answer(identifier, &message, MessageType::Advertise, offer, now, outputs);
            }
            MessageType::Solicit | MessageType::Request => match has {
                Some(prefix) if node.network_asked == Some(prefix) => {
                    self.ask_again(identifier, message, now, outputs);
                }
                Some(_) => self.answer(identifier, &message, MessageType::Reply, has, now, outputs),
                None if busy => self.counters.add("dhcp_unanswered"),
                None => self.give_network(identifier, message, now, outputs),
            },
            MessageType::Renew | MessageType::Rebind => {
                self.answer(identifier, &message, MessageType::Reply, has, now, outputs);
                self.keep_one_network(identifier, has, now, outputs);
            }
            MessageType::Release => {
                self.answer(identifier, &message, MessageType::Reply, None, now, outputs);
                let named = message.delegations.iter().flat_map(|it| &it.prefixes);
                if named.into_iter().any(|it| Some(it.prefix) == has) {
                    if let Some(node) = self.state.nodes.get_mut(identifier) {
                        node.network_until = Some(now);
                    }
                    self.expire_network(identifier, now, outputs);
                    self.reschedule(identifier);
                }
            }
            MessageType::InformationRequest | MessageType::Decline => {
                self.answer(identifier, &message, MessageType::Reply, None, now, outputs);
            }
            // The prefix of a router is not of its link (RFC 8415 section 18.2.12), so Confirm says nothing about it.
            _ => self.counters.add("dhcp_unanswered"),
        }
    }

    /// A node was given another prefix while the CMD could not say that it had one: of two it keeps what its router uses.
    fn keep_one_network(
        &mut self,
        identifier: &MobileNodeIdentifier,
        kept: Option<Ipv6Net>,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        let node = self
            .state
            .nodes
            .get(identifier)
            .filter(|node| node.exchange.is_none());
        let other = node.and_then(|node| {
            // Also one that was given up, which has not been answered.
            node.all_networks().find(|it| Some(*it) != kept)
        });
        if let Some(prefix) = other.filter(|_| kept.is_some()) {
            self.counters.add("mobile_networks_released");
            let text =
                format!("{identifier} uses another prefix behind it than {prefix}: that one is given up");
            outputs.push(told("mobile_network_released", text, identifier, prefix));
            self.give_up(identifier, prefix, now, outputs);
        }
    }

    /// It asks again before the CMD has answered.
    fn ask_again(
        &mut self,
        identifier: &MobileNodeIdentifier,
        message: Message,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        self.networks_asked.insert(identifier.clone(), message);
        let node = self.state.nodes.get(identifier);
        if node.is_some_and(|node| node.exchange.is_none()) {
            let lifetime = self.binding_lifetime_units();
            let handoff = handoff_indicator::RE_REGISTRATION;
            self.register(identifier, handoff, lifetime, now, outputs);
        }
    }

    /// A prefix that no router has, and where the search for the next one goes on.
    fn free_network(&self) -> Option<(Ipv6Net, u64)> {
        let routers = self.settings.mobile_routers.as_ref()?;
        let mut next = self.state.next_network;
        let length = routers.delegated_length;
        let charged = &self.state.charging.prefixes;
        let prefix = pool::allocate(&routers.pools, &self.prefixes_in_use, charged, &mut next, length)?;
        Some((prefix, next))
    }

    /// Takes a prefix for a node that has none, and has the CMD know of it.
    fn give_network(
        &mut self,
        identifier: &MobileNodeIdentifier,
        message: Message,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        let wanted = !message.delegations.is_empty();
        let Some((prefix, next)) = self.free_network().filter(|_| wanted) else {
            self.counters.add("mobile_networks_refused");
            return self.answer(identifier, &message, MessageType::Reply, None, now, outputs);
        };
        let own = self.settings.address;
        let Some(node) = self.state.nodes.get_mut(identifier) else {
            return;
        };
        node.adopted.push(Adopted {
            given: true,
            ..Adopted::settled(prefix, own, now)
        });
        node.network_asked = Some(prefix);
        self.state.next_network = next;
        self.prefixes_in_use.insert(prefix);
        self.networks_asked.insert(identifier.clone(), message);
        let lifetime = self.binding_lifetime_units();
        let handoff = handoff_indicator::RE_REGISTRATION;
        self.register(identifier, handoff, lifetime, now, outputs);
    }

    /// The CMD has accepted a registration: whoever waits for a prefix gets it, if the CMD knows of it now.
    pub(super) fn networks_accepted(
        &mut self,
        identifier: &MobileNodeIdentifier,
        first: bool,
        acknowledgement: &ProxyBindingAcknowledgement,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        let valid = self.settings.mobile_routers.as_ref().map(|it| it.valid_lifetime);
        if let Some(node) = self.state.nodes.get_mut(identifier)
            && (first || node.network_until.is_none())
        {
            // Who gave it, or renewed it last, knows better; it cannot be valid for longer.
            let until = valid.filter(|valid| *valid != INFINITY);
            let until = until.map(|valid| now.after(Duration::from_secs(valid.into())));
            node.network_until = until.filter(|_| node.all_networks().next().is_some());
            let given_up = node.all_networks().all(|it| node.is_given_up(it));
            if given_up && node.all_networks().next().is_some() {
                // That was not answered.
                node.network_until = Some(now);
            }
        }
        let node = self.state.nodes.get_mut(identifier);
        let Some(prefix) = node.and_then(|node| node.network_asked.take()) else {
            return;
        };
        let known = acknowledgement.options.delegated_prefixes.contains(&prefix);
        if known {
            self.counters.add("mobile_networks_given");
            let text = format!("{prefix} is delegated to {identifier}, for the network behind it");
            outputs.push(told("mobile_network_delegated", text, identifier, prefix));
        } else {
            self.drop_network(identifier, prefix, outputs);
        }
        let given = Some(prefix).filter(|_| known);
        self.answer_asked(identifier, given, now, outputs);
    }

    /// Answers the router that waited for the CMD.
    fn answer_asked(
        &mut self,
        identifier: &MobileNodeIdentifier,
        prefix: Option<Ipv6Net>,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        if let Some(message) = self.networks_asked.remove(identifier) {
            self.answer(identifier, &message, MessageType::Reply, prefix, now, outputs);
        }
    }

    /// Whether a prefix is the home network prefix of a node.
    pub(super) fn is_home(&self, identifier: &MobileNodeIdentifier, prefix: Ipv6Net) -> bool {
        let node = self.state.nodes.get(identifier);
        node.is_some_and(|node| node.home_network_prefix == prefix)
    }

    /// Frees a network behind a node that it has from here.
    pub(super) fn forget_network(&mut self, identifier: &MobileNodeIdentifier, prefix: Ipv6Net) {
        let Some(node) = self.state.nodes.get_mut(identifier) else {
            return;
        };
        let before = node.adopted.len();
        node.adopted.retain(|it| it.prefix != prefix);
        node.forget_given_up();
        if node.adopted.len() < before {
            self.taking.remove(&prefix);
            self.free_prefix(prefix);
        }
    }

    /// The CMD refuses networks behind a node (RFC 7148 section 5.1.2): it goes on without. Whether that was it.
    pub(super) fn networks_refused(
        &mut self,
        identifier: &MobileNodeIdentifier,
        status: Status,
        now: Time,
        outputs: &mut Vec<Output>,
    ) -> bool {
        if status != Status::NOT_AUTHORIZED_FOR_DELEGATED_MNP && status != Status::REQUESTED_DMNP_IN_USE {
            return false;
        }
        let Some(node) = self.state.nodes.get(identifier) else {
            return false;
        };
        let (networks, handoff) = (
            node.own_prefixes()
                .filter(|it| is_mobile_network(*it))
                .collect::<Vec<_>>(),
            node.exchange
                .as_ref()
                .map(|it| (it.handoff_indicator, it.lifetime)),
        );
        let Some((handoff, lifetime)) = handoff.filter(|_| !networks.is_empty()) else {
            return false;
        };
        for prefix in networks {
            self.drop_network(identifier, prefix, outputs);
        }
        self.answer_asked(identifier, None, now, outputs);
        self.register(identifier, handoff, lifetime, now, outputs);
        true
    }

    fn drop_network(
        &mut self,
        identifier: &MobileNodeIdentifier,
        prefix: Ipv6Net,
        outputs: &mut Vec<Output>,
    ) {
        if let Some(node) = self.state.nodes.get_mut(identifier) {
            node.network_asked = node.network_asked.filter(|it| *it != prefix);
        }
        self.forget_network(identifier, prefix);
        self.counters.add("mobile_networks_refused");
        let text = format!("the CMD does not take {prefix} for the network behind {identifier}");
        outputs.push(told("mobile_network_refused", text, identifier, prefix));
    }

    /// Gives up the prefix of a router that has released it, or has not renewed it in time.
    pub(super) fn expire_network(
        &mut self,
        identifier: &MobileNodeIdentifier,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        let Some(node) = self.state.nodes.get_mut(identifier) else {
            return;
        };
        if node.network_until.is_none_or(|until| until > now) {
            return;
        }
        if matches!(node.phase, Phase::Anchored { .. }) {
            node.network_until = None;
            return self.drop_unheard_network(identifier);
        }
        let here = node.phase == Phase::Attached;
        let prefix = node.all_networks().next().filter(|_| here);
        node.network_until = prefix.map(|_| now.after(TRY_AGAIN));
        let Some(prefix) = prefix.filter(|_| node.exchange.is_none()) else {
            return;
        };
        let text = format!("{identifier} has no use for {prefix} behind it any more: it is given up");
        outputs.push(told("mobile_network_released", text, identifier, prefix));
        self.counters.add("mobile_networks_released");
        self.give_up(identifier, prefix, now, outputs);
    }

    /// Answers a router that has `prefix`, or gets it, or is offered it.
    fn answer(
        &mut self,
        identifier: &MobileNodeIdentifier,
        message: &Message,
        message_type: MessageType,
        prefix: Option<Ipv6Net>,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        let Some(routers) = &self.settings.mobile_routers else {
            return;
        };
        let Some(node) = self.state.nodes.get_mut(identifier) else {
            return;
        };
        let mut reply = Message::new(message_type, message.transaction);
        reply.client.clone_from(&message.client);
        reply.server = Some(routers.server.clone());
        let asks = message.message_type;
        let first = matches!(asks, MessageType::Solicit | MessageType::Request);
        reply.rapid_commit = asks == MessageType::Solicit && message_type == MessageType::Reply;
        if message_type == MessageType::Advertise {
            // There is no other server on the link of a node.
            reply.preference = Some(255);
        }
        let over = matches!(asks, MessageType::Release | MessageType::Decline);
        if over {
            reply.status = Some(StatusCode::new(status::SUCCESS, "done"));
        } else {
            let mut left = prefix;
            for association in &message.delegations {
                reply.delegations.push(match first {
                    true => routers.first(association, left.take()),
                    false => routers.extended(association, &mut left),
                });
            }
        }
        let code = if first {
            status::NO_ADDRESSES_AVAILABLE
        } else {
            status::NO_BINDING
        };
        let other = |it: &OtherAssociation| OtherAssociation {
            status: Some(StatusCode::new(code, "there are prefixes only")),
            ..it.clone()
        };
        reply.others = message.others.iter().filter(|_| !over).map(other).collect();
        let held = reply
            .delegations
            .iter()
            .flat_map(|it| &it.prefixes)
            .any(|it| it.valid > 0);
        if message_type == MessageType::Reply && held {
            let valid = Some(routers.valid_lifetime).filter(|it| *it != INFINITY);
            node.network_until = valid.map(|it| now.after(Duration::from_secs(it.into())));
        }
        outputs.push(Output::Dhcp {
            port: node.port.clone(),
            to: node.link_local_address,
            message: reply,
        });
        self.reschedule(identifier);
    }
}

impl MobileRouters {
    fn association(&self, iaid: u32, prefix: Option<Ipv6Net>) -> IdentityAssociation {
        let preferred = self.preferred_lifetime;
        // RFC 8415 section 21.21: half and four fifths of the preferred lifetime.
        let part = |tenths: u64| match preferred {
            INFINITY => INFINITY,
            _ => u32::try_from(u64::from(preferred) * tenths / 10).unwrap_or(INFINITY),
        };
        let delegated = |prefix| DelegatedPrefix {
            preferred,
            valid: self.valid_lifetime,
            prefix,
            exclude: None,
            status: None,
        };
        IdentityAssociation {
            iaid,
            t1: part(5),
            t2: part(8),
            prefixes: prefix.map(delegated).into_iter().collect(),
            status: None,
        }
    }

    /// What one that asks for the first time gets.
    fn first(&self, asked: &IdentityAssociation, prefix: Option<Ipv6Net>) -> IdentityAssociation {
        match prefix {
            Some(_) => self.association(asked.iaid, prefix),
            None => {
                let text = "there is no prefix for this IA";
                IdentityAssociation {
                    status: Some(StatusCode::new(status::NO_PREFIX_AVAILABLE, text)),
                    ..IdentityAssociation::new(asked.iaid)
                }
            }
        }
    }

    /// What one that has something keeps, and what of that is gone. `has`: what its node has, until an association
    /// names it.
    fn extended(&self, asked: &IdentityAssociation, has: &mut Option<Ipv6Net>) -> IdentityAssociation {
        if asked.prefixes.is_empty() {
            return IdentityAssociation {
                status: Some(StatusCode::new(status::NO_BINDING, "no binding for this IA")),
                ..IdentityAssociation::new(asked.iaid)
            };
        }
        let named = |prefix: &Ipv6Net| asked.prefixes.iter().any(|it| it.prefix == *prefix);
        let kept = has.take_if(|prefix| named(prefix));
        let mut answer = self.association(asked.iaid, kept);
        let gone = asked.prefixes.iter().filter(|it| Some(it.prefix) != kept);
        // Whatever else it names is not to be used any more: it is nobody's, or another's (RFC 8415 section 18.3.5).
        answer.prefixes.extend(gone.map(|it| DelegatedPrefix {
            preferred: 0,
            valid: 0,
            prefix: it.prefix,
            exclude: None,
            status: None,
        }));
        answer
    }
}

/// RFC 8415 section 16: whether a server with this identifier answers such a message.
fn is_for(message: &Message, own: &Duid) -> bool {
    let ours = message.server.as_ref().map(|server| server == own);
    match message.message_type {
        MessageType::Solicit | MessageType::Confirm | MessageType::Rebind => {
            message.client.is_some() && ours.is_none()
        }
        MessageType::Request | MessageType::Renew | MessageType::Release | MessageType::Decline => {
            message.client.is_some() && ours == Some(true)
        }
        MessageType::InformationRequest => ours != Some(false) && message.delegations.is_empty(),
        MessageType::Advertise | MessageType::Reply | MessageType::Reconfigure => false,
    }
}

impl Node {
    /// The prefixes of networks behind it.
    pub(super) fn all_networks(&self) -> impl Iterator<Item = Ipv6Net> + '_ {
        let previous = self.previous.iter().map(|it| it.prefix);
        let adopted = self.adopted.iter().map(|it| it.prefix);
        adopted.chain(previous).filter(|it| is_mobile_network(*it))
    }

    /// The one that its router is told of: that which it names, if it has that.
    fn network(&self, message: &Message) -> Option<Ipv6Net> {
        let named = |prefix: &Ipv6Net| {
            let mut all = message.delegations.iter().flat_map(|it| &it.prefixes);
            all.any(|it| it.prefix == *prefix)
        };
        let has = || self.all_networks().filter(|prefix| !self.is_given_up(*prefix));
        has().find(named).or_else(|| has().next())
    }

    fn is_given_up(&self, prefix: Ipv6Net) -> bool {
        self.giving_up.iter().any(|(it, _)| *it == prefix)
    }
}

fn told(kind: &'static str, text: String, identifier: &MobileNodeIdentifier, prefix: Ipv6Net) -> Output {
    Output::Event(
        Event::new(kind, text)
            .with("identifier", identifier)
            .with("prefix", prefix),
    )
}
