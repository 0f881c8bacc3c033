//! What the DPA answers (RFC 5213 section 6.9.1.2), and what it asks (RFC 7077).

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::time::Duration;

use ipnet::Ipv6Net;

use super::fsm::{Dpn, Output};
use super::state::{Phase, Prefix};
use crate::event::Event;
use crate::identity::MobileNodeIdentifier;
use crate::proxy_binding::handoff_indicator::{RE_REGISTRATION, UNKNOWN};
use crate::proxy_binding::{Exchange, lifetime_span};
use crate::time::Time;
use crate::wire::mobility::{
    MobilityMessage, MobilityOptions, ProxyBindingAcknowledgement, Status, TunnelType, UpdateNotification,
    UpdateNotificationAcknowledgement, notification_flags, notification_reason, notification_status,
};

/// How long a node that was refused has to wait before another attachment is taken to the DPA.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);
/// How long a node that was refused is remembered.
const REFUSED_MEMORY: Duration = Duration::from_secs(60);
/// How long after its end packets may come that were on their way to the node.
const LINGER: Duration = Duration::from_millis(500);
/// A renewal is no more frequent than this, however short the lifetimes are.
const SHORTEST_RENEWAL: Duration = Duration::from_secs(2);
/// How often the DPA is asked for what another node has here.
const WITHHELD_RENEWAL: Duration = Duration::from_secs(10);
/// By then both ends of a tunnel have it.
const SETTLED_AFTER: Duration = Duration::from_secs(5);

impl Dpn {
    pub(super) fn acknowledgement(
        &mut self,
        from: Ipv6Addr,
        acknowledgement: &ProxyBindingAcknowledgement,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        if from != self.settings.dpa {
            return self.counters.add("acknowledgements_stranger");
        }
        let options = &acknowledgement.options;
        let identifier = options.mobile_node_identifier.as_ref();
        let node = identifier.and_then(|it| Some((it, self.state.nodes.get(it)?)));
        let asked = node.and_then(|(identifier, node)| {
            let exchange = node.exchange.as_ref()?.answered(acknowledgement)?;
            Some((identifier.clone(), node, exchange))
        });
        let Some((identifier, node, exchange)) = asked else {
            return self.counters.add("acknowledgements_unmatched");
        };
        let status = acknowledgement.status;
        let technology = self.settings.access.access_technology_type;
        if !exchange.is_echoed(options, technology, &node.link_layer_address) {
            return self.counters.add("acknowledgements_mismatched");
        }
        if status == Status::TIMESTAMP_MISMATCH || status == Status::TIMESTAMP_LOWER_THAN_PREV_ACCEPTED {
            // The retransmission timer tries again with a fresh timestamp.
            return;
        }
        if exchange.lifetime == 0 {
            return self.deregistered(&identifier, now);
        }
        if status.is_accepted() {
            self.accepted(&identifier, &exchange, acknowledgement, now, outputs);
        } else {
            self.refused(&identifier, &exchange, status, now, outputs);
        }
    }

    /// The DPA knows that the node has left.
    fn deregistered(&mut self, identifier: &MobileNodeIdentifier, now: Time) {
        if let Some(node) = self.state.nodes.get_mut(identifier) {
            node.exchange = None;
            node.expires_at = Some(now.after(LINGER));
        }
        self.reschedule(identifier);
    }

    fn accepted(
        &mut self,
        identifier: &MobileNodeIdentifier,
        exchange: &Exchange,
        acknowledgement: &ProxyBindingAcknowledgement,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        let prefixes = self.permitted(identifier, &acknowledgement.options, now);
        let news = self.withhold(identifier, &acknowledgement.options, now, outputs);
        let withheld = self.state.nodes.get(identifier);
        let withheld = withheld.is_some_and(|node| !node.withheld.is_empty());
        if prefixes.is_empty() && withheld {
            // The retransmission timer asks again.
            return;
        }
        if prefixes.is_empty() {
            return self.refused(identifier, exchange, Status::REASON_UNSPECIFIED, now, outputs);
        }
        let told = acknowledgement.options.only_endpoint(self.settings.dpa);
        self.arrange_tunnel(identifier, told);
        let lifetime = lifetime_span(acknowledgement.lifetime.max(1));
        let Some(node) = self.state.nodes.get_mut(identifier) else {
            return;
        };
        let told = acknowledgement.options.prefix_lifetimes.iter();
        let ended = told.filter(|it| it.valid == 0).map(|it| it.prefix);
        let ended = ended.filter(|ended| prefixes.iter().all(|it| it.prefix != *ended));
        let ended: Vec<_> = ended.collect();
        let kept = |prefix: &Ipv6Net| prefixes.iter().any(|it| it.prefix == *prefix);
        let before: Vec<_> = node.prefixes.iter().map(|it| it.prefix).collect();
        let gone: Vec<_> = before.iter().copied().filter(|it| !kept(it)).collect();
        let first = node.phase != Phase::Attached;
        let changed = first || node.ended != ended || before.len() != prefixes.len() || !gone.is_empty() || {
            let order = prefixes.iter().zip(&node.prefixes);
            order.clone().any(|(new, old)| new.prefix != old.prefix)
                || order.clone().any(|(new, old)| new.deprecated != old.deprecated)
        };
        // What is told of lifetimes has to be renewed before they end.
        let ends = prefixes.iter().flat_map(|it| {
            let preferred = it.preferred_until.filter(|_| !it.deprecated);
            [preferred, it.valid_until]
        });
        let ends = ends.flatten().filter(|at| *at > now).map(|at| at.since(now));
        let shortest = ends.chain([lifetime]).min().unwrap_or(lifetime);
        // Well before the end, so that several transmissions fit (RFC 6275 section 11.7.1).
        let renewal = shortest.mul_f64(0.6).max(SHORTEST_RENEWAL);
        let renewal = match (withheld, news) {
            (false, _) => renewal,
            (true, false) => renewal.min(WITHHELD_RENEWAL),
            (true, true) => SHORTEST_RENEWAL,
        };
        node.exchange = None;
        node.phase = Phase::Attached;
        node.ended = ended;
        node.registered_at = now;
        node.expires_at = Some(now.after(lifetime));
        node.refresh_at = Some(now.after(renewal));
        let again = node.again;
        // It may have been elsewhere meanwhile, of which the DPA has heard since.
        let reattached = node.reattached || node.attached_at > exchange.attached_at;
        let all: Vec<_> = prefixes.iter().map(|it| it.prefix.to_string()).collect();
        self.set_prefixes(identifier, prefixes);
        if first {
            let text = format!("{identifier} served with {}", all.join(", "));
            let took = now.since(exchange.started_at);
            let event = Event::new("registration_completed", text)
                .with("identifier", identifier)
                .with("prefixes", all.join(","))
                .with("duration_us", took.as_micros());
            outputs.push(Output::Event(event));
            self.counters.add("registrations_completed");
        }
        if changed {
            self.advertise(identifier, &gone, now, outputs);
        }
        if reattached {
            let lifetime = self.binding_lifetime_units();
            self.register(identifier, UNKNOWN, lifetime, now, outputs);
        } else if again {
            self.renew_as_notified(identifier, now, outputs);
        }
        self.reschedule(identifier);
    }

    /// Notes what of an answer another node has here; whether that is something new. That node is asked for, for it may be
    /// that it has lost the prefix and we have not heard.
    fn withhold(
        &mut self,
        identifier: &MobileNodeIdentifier,
        options: &MobilityOptions,
        now: Time,
        outputs: &mut Vec<Output>,
    ) -> bool {
        let told = options.home_network_prefixes.iter();
        let told = told.chain(&options.delegated_prefixes);
        let owners: BTreeMap<_, _> = told
            .filter_map(|prefix| Some((*prefix, self.other_owner(prefix, identifier)?.clone())))
            .collect();
        let withheld: Vec<_> = owners.keys().copied().collect();
        let Some(node) = self.state.nodes.get_mut(identifier) else {
            return false;
        };
        let before = std::mem::replace(&mut node.withheld, withheld);
        let mut news = false;
        for (prefix, owner) in owners {
            if !before.contains(&prefix) {
                news = true;
                self.counters.add("prefixes_of_another");
                let text = format!("{identifier} does not get {prefix}, which {owner} has here");
                let event = Event::new("prefix_of_another", text)
                    .with("identifier", identifier)
                    .with("prefix", prefix)
                    .with("owner", &owner);
                outputs.push(Output::Event(event));
            }
            let node = self.state.nodes.get(&owner);
            if node.is_some_and(|node| node.phase == Phase::Attached && node.exchange.is_none()) {
                let lifetime = self.binding_lifetime_units();
                self.register(&owner, RE_REGISTRATION, lifetime, now, outputs);
            }
        }
        news
    }

    /// Asks the DPA what a node has, as it wants us to: what it refuses is over.
    fn renew_as_notified(&mut self, identifier: &MobileNodeIdentifier, now: Time, outputs: &mut Vec<Output>) {
        let lifetime = self.binding_lifetime_units();
        self.register(identifier, RE_REGISTRATION, lifetime, now, outputs);
        if let Some(node) = self.state.nodes.get_mut(identifier) {
            node.notified = true;
        }
    }

    /// The prefixes of an answer that a node may have here.
    fn permitted(
        &mut self,
        identifier: &MobileNodeIdentifier,
        options: &MobilityOptions,
        now: Time,
    ) -> Vec<Prefix> {
        let mut prefixes: Vec<Prefix> = Vec::new();
        let networks = options.delegated_prefixes.iter();
        for prefix in options.home_network_prefixes.iter().chain(networks) {
            // A prefix that another node has would lead that node's packets here.
            let taken = self.other_owner(prefix, identifier).is_some();
            let odd = prefix.prefix_len() == 0
                || prefix.addr().is_multicast()
                || prefix.addr().is_unicast_link_local()
                || prefix.contains(&self.settings.address);
            if odd || taken || prefixes.iter().any(|it| it.prefix == *prefix) {
                self.counters.add("prefixes_not_permitted");
                continue;
            }
            let told = options.prefix_lifetimes.iter().find(|it| it.prefix == *prefix);
            let until = |seconds: u32| {
                let ends = seconds != u32::MAX;
                ends.then(|| now.after(Duration::from_secs(seconds.into())))
            };
            prefixes.push(Prefix {
                prefix: *prefix,
                deprecated: told.is_some_and(|it| it.preferred == 0),
                preferred_until: told.and_then(|it| until(it.preferred)),
                valid_until: told.and_then(|it| until(it.valid)),
            });
        }
        prefixes
    }

    fn refused(
        &mut self,
        identifier: &MobileNodeIdentifier,
        exchange: &Exchange,
        status: Status,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        let Some(node) = self.state.nodes.get_mut(identifier) else {
            return;
        };
        node.exchange = None;
        let news = node.attached_at > exchange.attached_at;
        if std::mem::take(&mut node.reattached) || news {
            // What was refused was of before.
            let lifetime = self.binding_lifetime_units();
            return self.register(identifier, UNKNOWN, lifetime, now, outputs);
        }
        let renewal = exchange.handoff_indicator == RE_REGISTRATION && !node.notified && !node.again;
        if status == Status::NOT_LMA_FOR_THIS_MOBILE_NODE && renewal {
            // It may have lost its store, or have heard nothing from us for too long. When the node came tells it whether
            // that is so, or the node has gone.
            self.counters.add("registrations_again");
            let text = format!("{identifier}: the DPA does not know it, so it is registered again");
            let event = Event::new("registered_again", text).with("identifier", identifier);
            outputs.push(Output::Event(event));
            let lifetime = self.binding_lifetime_units();
            return self.register(identifier, UNKNOWN, lifetime, now, outputs);
        }
        self.counters.add("registrations_refused");
        let text = format!("{identifier}: the DPA refused: {status}");
        let event = Event::new("registration_refused", text)
            .with("identifier", identifier)
            .with("status", status.0);
        outputs.push(Output::Event(event));
        node.phase = Phase::Refused { status };
        node.again = false;
        node.refresh_at = Some(now.after(REFUSED_PAUSE));
        node.expires_at = Some(now.after(REFUSED_MEMORY));
        let gone = self.set_prefixes(identifier, Vec::new());
        let gone: Vec<_> = gone.iter().map(|it| it.prefix).collect();
        if !gone.is_empty() {
            self.advertise(identifier, &gone, now, outputs);
        }
        if [
            Status::NOT_LMA_FOR_THIS_MOBILE_NODE,
            Status::BCE_PBU_PREFIX_SET_DO_NOT_MATCH,
        ]
        .contains(&status)
        {
            // It is somewhere else, and may be back at any moment; or its session is over.
            self.remove(identifier);
        }
        self.reschedule(identifier);
    }

    /// The DPA asks for something.
    pub(super) fn notification(
        &mut self,
        from: Ipv6Addr,
        notification: &UpdateNotification,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        if from != self.settings.dpa {
            return self.counters.add("notifications_stranger");
        }
        self.counters.add("notifications_received");
        let identifier = notification.options.mobile_node_identifier.as_ref();
        let node = identifier.and_then(|it| Some((it, self.state.nodes.get_mut(it)?)));
        let here = |phase: &Phase| matches!(phase, Phase::Attached | Phase::Registering);
        let status = match node.filter(|(_, node)| here(&node.phase)) {
            None => {
                self.counters.add("notifications_unknown_node");
                notification_status::NODE_NOT_ATTACHED
            }
            Some(_) if notification.reason != notification_reason::FORCE_RE_REGISTRATION => {
                self.counters.add("notifications_unknown_reason");
                notification_status::FAILED
            }
            // What is on its way may have been answered before.
            Some((_, node)) if node.exchange.is_some() => {
                node.again = true;
                notification_status::SUCCESS
            }
            Some((identifier, _)) => {
                self.renew_as_notified(identifier, now, outputs);
                notification_status::SUCCESS
            }
        };
        if notification.flags & notification_flags::ACKNOWLEDGE != 0 {
            let message =
                MobilityMessage::UpdateNotificationAcknowledgement(UpdateNotificationAcknowledgement {
                    sequence: notification.sequence,
                    status,
                    options: MobilityOptions {
                        mobile_node_identifier: identifier.cloned(),
                        ..MobilityOptions::default()
                    },
                });
            outputs.push(Output::Send { to: from, message });
        }
    }

    /// The DPA knows nothing of `teid`: the node is registered again, with a TEID of ours that is new, and the DPA tells
    /// one of its own.
    pub(super) fn tunnel_refused(&mut self, peer: Ipv6Addr, teid: u32, now: Time, outputs: &mut Vec<Output>) {
        // Looking for a TEID means looking at all nodes.
        if !self.indication_limit.allow(now) {
            return self.counters.add("tunnels_refused_suppressed");
        }
        let is_it = |remote| matches!(remote, TunnelType::GtpU { teid: its, .. } if its.get() == teid);
        let mut nodes = self.state.nodes.iter();
        let found = nodes.find(|(_, node)| node.tunnel.is_some_and(|it| is_it(it.remote)));
        let Some((identifier, node)) = found.filter(|_| peer == self.settings.dpa) else {
            return self.counters.add("tunnels_refused_unknown");
        };
        let unsettled = node.exchange.is_some() || now < node.registered_at.after(SETTLED_AFTER);
        if node.phase != Phase::Attached || unsettled {
            return self.counters.add("tunnels_refused_left");
        }
        let identifier = identifier.clone();
        self.counters.add("tunnels_refused_signalled");
        let text = format!("{identifier} is registered again: {peer} has lost its tunnel {teid:#010x}");
        let event = Event::new("tunnel_signalled_again", text)
            .with("identifier", &identifier)
            .with("peer", peer);
        outputs.push(Output::Event(event));
        self.drop_teid(&identifier);
        self.arrange_tunnel(&identifier, None);
        let lifetime = self.binding_lifetime_units();
        self.register(&identifier, RE_REGISTRATION, lifetime, now, outputs);
    }
}
