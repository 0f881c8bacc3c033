//! The access side: a node comes, a node goes.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::time::Duration;

use super::dpn::Place;
use ipnet::Ipv6Net;

use super::fsm::{Maar, Output};
use super::state::{Node, Phase};
use crate::event::Event;
use crate::identity::{LinkLayerAddress, MobileNodeIdentifier};
use crate::proxy_binding::{handoff_indicator, lifetime_span};
use crate::time::Time;

/// MAX_UPDATE_RATE: 3 in each second (RFC 6275 section 12).
pub(super) const UPDATE_PAUSE: Duration = Duration::from_millis(334);

/// How long a node that the CMD refused has to wait before another attachment is taken to the CMD.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);

impl Maar {
    pub(super) fn attached(
        &mut self,
        identifier: MobileNodeIdentifier,
        place: Place,
        link_layer_address: LinkLayerAddress,
        link_local_address: Ipv6Addr,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        let binding_lifetime = lifetime_span(self.binding_lifetime_units());
        if !self.assure_own_prefix(&identifier, now) {
            return self.refuse_without_prefix(&identifier, now, outputs);
        }
        let Some(node) = self.state.nodes.get_mut(&identifier) else {
            self.attached_first(
                identifier,
                place,
                link_layer_address,
                link_local_address,
                now,
                outputs,
            );
            return;
        };
        node.attached_at = node.attached_at.max(place.since(now));
        if let Some(left) = node.move_to(place) {
            self.left.push((left, identifier.clone()));
        }
        node.link_layer_address = link_layer_address;
        node.link_local_address = link_local_address;
        match &node.phase {
            // It asks again; or it was elsewhere meanwhile, and the CMD's word of that was lost.
            // The CMD has to hear that it is here, at most MAX_UPDATE_RATE often.
            Phase::Attached => {
                self.counters.add("attachments_repeated");
                if node.exchange.is_none() {
                    node.reattached = true;
                    node.refresh_at = Some(now.max(node.registered_at.after(UPDATE_PAUSE)));
                }
                self.advertise(&identifier, false, now, outputs);
                self.refresh(&identifier, now, outputs);
                self.reschedule(&identifier);
            }
            Phase::Registering => self.counters.add("attachments_repeated"),
            Phase::Refused { .. } if node.refresh_at.is_some_and(|not_before| now < not_before) => {
                self.counters.add("attachments_repeated");
            }
            // Back on the link before anybody else served it: the binding stands, so
            // service goes on at once and the CMD is told that it does.
            Phase::Detached if node.registered => {
                node.phase = Phase::Attached;
                self.counters.add("attachments");
                outputs.push(attached_event(&identifier, node, "back on the link"));
                self.advertise(&identifier, false, now, outputs);
                let lifetime = self.binding_lifetime_units();
                self.register(&identifier, handoff_indicator::UNKNOWN, lifetime, now, outputs);
            }
            phase => {
                let handoff = if matches!(phase, Phase::Anchored { .. }) {
                    handoff_indicator::BETWEEN_GATEWAYS
                } else {
                    handoff_indicator::UNKNOWN
                };
                node.phase = Phase::Registering;
                node.expires_at = Some(now.after(binding_lifetime));
                self.counters.add("attachments");
                outputs.push(attached_event(&identifier, node, "attached"));
                let lifetime = self.binding_lifetime_units();
                self.register(&identifier, handoff, lifetime, now, outputs);
            }
        }
    }

    fn attached_first(
        &mut self,
        identifier: MobileNodeIdentifier,
        place: Place,
        link_layer_address: LinkLayerAddress,
        link_local_address: Ipv6Addr,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        if self.state.nodes.len() >= self.settings.maximum_nodes {
            self.counters.add("attachments_refused_full");
            let text = format!(
                "{identifier} not served: {} nodes are known already",
                self.settings.maximum_nodes
            );
            outputs.push(Output::Event(
                Event::new("attachment_refused", text).with("identifier", &identifier),
            ));
            return;
        }
        let Some(home_network_prefix) = self.allocate_prefix(now) else {
            return self.refuse_without_prefix(&identifier, now, outputs);
        };
        let mut node = Node {
            port: String::new(),
            dpn: None,
            attached_at: place.since(now),
            dpn_timestamp: 0,
            link_layer_address,
            link_local_address,
            phase: Phase::Registering,
            home_network_prefix,
            home_unheard: true,
            registered: false,
            last_serving: None,
            previous: Vec::new(),
            adopted: Vec::new(),
            giving_up: Vec::new(),
            ended: Vec::new(),
            ends: BTreeMap::new(),
            going_home: BTreeMap::new(),
            told_in_vain: BTreeMap::new(),
            detour_limits: BTreeMap::new(),
            asking: Vec::new(),
            network_asked: None,
            network_until: None,
            leaving: Vec::new(),
            leaving_until: None,
            ended_by: Vec::new(),
            relay_at: None,
            release_at: None,
            arriving: None,
            sequence: 0,
            exchange: None,
            expires_at: Some(now.after(lifetime_span(self.binding_lifetime_units()))),
            registered_at: Time::default(),
            reattached: false,
            tells_attachment: false,
            refresh_at: None,
            advertise_at: None,
            last_timestamp: 0,
            teid: None,
            tunnels: BTreeMap::new(),
        };
        node.move_to(place);
        self.counters.add("attachments");
        outputs.push(attached_event(&identifier, &node, "attached"));
        self.state.nodes.insert(identifier.clone(), node);
        let lifetime = self.binding_lifetime_units();
        self.register(&identifier, handoff_indicator::UNKNOWN, lifetime, now, outputs);
    }

    fn refuse_without_prefix(
        &mut self,
        identifier: &MobileNodeIdentifier,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        self.counters.add("attachments_refused_no_prefix");
        let text = format!("{identifier} not served: every prefix of the pools is in use");
        outputs.push(Output::Event(
            Event::new("attachment_refused", text).with("identifier", identifier),
        ));
        // It will ask again.
        let may_read = self.reading_limit.allow(now);
        let rests = |prefix: &Ipv6Net| !self.prefixes_in_use.contains(prefix) && self.is_ours(*prefix);
        if may_read && self.state.charging.prefixes.keys().any(rests) {
            outputs.push(Output::ReadCounters);
        }
    }

    pub(super) fn detached(
        &mut self,
        identifier: &MobileNodeIdentifier,
        deregister: bool,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        let binding_lifetime = lifetime_span(self.binding_lifetime_units());
        let Some(node) = self.state.nodes.get_mut(identifier) else {
            self.counters.add("detachments_unknown_node");
            return;
        };
        if let Phase::Anchored { serving } = node.phase {
            // RFC 8885 section 3.5: only the serving MAAR ends a session.
            if deregister {
                self.counters.add("deregistrations_refused_not_serving");
                let text = format!("{identifier} is served by {serving}: only that MAAR can de-register it");
                outputs.push(Output::Event(
                    Event::new("deregistration_refused", text)
                        .with("identifier", identifier)
                        .with("serving", serving),
                ));
            }
            return;
        }
        self.counters.add("detachments");
        // Its router asks anew where it is.
        self.networks_asked.remove(identifier);
        let Some(node) = self.state.nodes.get_mut(identifier) else {
            return;
        };
        node.refresh_at = None;
        node.advertise_at = None;
        let event = Event::new("node_detached", format!("{identifier} left {}", node.place()))
            .with("identifier", identifier)
            .with("port", node.place());
        outputs.push(Output::Event(event));
        if deregister {
            self.deregister(identifier, now, outputs);
        } else if node.phase != Phase::Deregistering {
            // RFC 5213 section 6.9.1.3: nothing is retransmitted for a node that is gone.
            node.exchange = None;
            node.reattached = false;
            node.tells_attachment = false;
            if let Some(serving) = node.last_serving {
                node.keep_unheard(binding_lifetime, now);
                node.phase = Phase::Anchored { serving };
            } else {
                node.phase = Phase::Detached;
                node.expires_at = node.expires_at.or(Some(now.after(binding_lifetime)));
            }
            self.reschedule(identifier);
        }
    }

    /// Tells the CMD that the session is over.
    pub(super) fn deregister(
        &mut self,
        identifier: &MobileNodeIdentifier,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        let Some(node) = self.state.nodes.get_mut(identifier) else {
            return;
        };
        node.phase = Phase::Deregistering;
        node.expires_at = None;
        node.advertise_at = None;
        self.register(identifier, handoff_indicator::UNKNOWN, 0, now, outputs);
    }

    /// Keeps a refused node from being taken to the CMD with every solicitation, and from being kept for ever.
    pub(super) fn pause_after_refusal(node: &mut Node, keep: Duration, now: Time) {
        node.refresh_at = Some(now.after(REFUSED_PAUSE));
        node.expires_at = Some(now.after(keep));
    }
}

fn attached_event(identifier: &MobileNodeIdentifier, node: &Node, how: &str) -> Output {
    let text = format!(
        "{identifier} {how} on {}, {}",
        node.place(),
        node.link_layer_address
    );
    Output::Event(
        Event::new("node_attached", text)
            .with("identifier", identifier)
            .with("port", node.place())
            .with("link_layer_address", node.link_layer_address)
            .with("prefix", node.home_network_prefix),
    )
}
