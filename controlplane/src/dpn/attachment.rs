//! The access side: a node comes, a node goes.

use std::net::Ipv6Addr;
use std::time::Duration;

use super::fsm::{Dpn, Output};
use super::state::{Node, Phase};
use crate::event::Event;
use crate::identity::{LinkLayerAddress, MobileNodeIdentifier};
use crate::proxy_binding::handoff_indicator::UNKNOWN;
use crate::proxy_binding::lifetime_span;
use crate::time::Time;
use crate::wire::mobility::timestamp_from_time;

/// MAX_UPDATE_RATE: 3 in each second (RFC 6275 section 12).
pub(super) const UPDATE_PAUSE: Duration = Duration::from_millis(334);

impl Dpn {
    pub(super) fn attached(
        &mut self,
        identifier: &MobileNodeIdentifier,
        (port, link_layer_address, link_local_address): (String, LinkLayerAddress, Ipv6Addr),
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        let lifetime = self.binding_lifetime_units();
        if !self.state.nodes.contains_key(identifier) {
            if self.state.nodes.len() >= self.settings.maximum_nodes {
                self.counters.add("attachments_refused_full");
                let text = format!(
                    "{identifier} not served: {} nodes are known already",
                    self.settings.maximum_nodes
                );
                let event = Event::new("attachment_refused", text).with("identifier", identifier);
                return outputs.push(Output::Event(event));
            }
            let node = Node::new(port.clone(), link_layer_address, link_local_address);
            self.state.nodes.insert(identifier.clone(), node);
        }
        let Some(node) = self.state.nodes.get_mut(identifier) else {
            return;
        };
        node.attached_at = timestamp_from_time(now);
        node.port = port;
        node.link_layer_address = link_layer_address;
        node.link_local_address = link_local_address;
        let first = match node.phase {
            // It asks again; or it was elsewhere meanwhile. The DPA has to hear that it is here, at most
            // MAX_UPDATE_RATE often.
            Phase::Attached => {
                node.reattached = true;
                node.refresh_at = Some(now.max(node.registered_at.after(UPDATE_PAUSE)));
                self.counters.add("attachments_repeated");
                self.advertise(identifier, &[], now, outputs);
                self.refresh(identifier, now, outputs);
                return self.reschedule(identifier);
            }
            Phase::Registering => node.exchange.is_none(),
            Phase::Refused { .. } => node.refresh_at.is_none_or(|not_before| now >= not_before),
            Phase::Deregistering => true,
        };
        if !first {
            return self.counters.add("attachments_repeated");
        }
        node.phase = Phase::Registering;
        node.expires_at = Some(now.after(lifetime_span(lifetime)));
        let text = format!(
            "{identifier} attached on {}, {}",
            node.port, node.link_layer_address
        );
        let event = Event::new("node_attached", text)
            .with("identifier", identifier)
            .with("port", &node.port)
            .with("link_layer_address", node.link_layer_address);
        outputs.push(Output::Event(event));
        self.counters.add("attachments");
        self.register(identifier, UNKNOWN, lifetime, now, outputs);
    }

    /// The DPA is told; what is on its way to the node until then is still delivered.
    pub(super) fn detached(
        &mut self,
        identifier: &MobileNodeIdentifier,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        let Some(node) = self.state.nodes.get_mut(identifier) else {
            return self.counters.add("detachments_unknown_node");
        };
        if node.phase == Phase::Deregistering {
            return;
        }
        self.counters.add("detachments");
        let event = Event::new("node_detached", format!("{identifier} left {}", node.port))
            .with("identifier", identifier)
            .with("port", &node.port);
        outputs.push(Output::Event(event));
        node.phase = Phase::Deregistering;
        node.expires_at = None;
        node.advertise_at = None;
        self.register(identifier, UNKNOWN, 0, now, outputs);
    }
}

impl Node {
    fn new(port: String, link_layer_address: LinkLayerAddress, link_local_address: Ipv6Addr) -> Self {
        Self {
            port,
            link_layer_address,
            link_local_address,
            attached_at: 0,
            phase: Phase::Registering,
            prefixes: Vec::new(),
            ended: Vec::new(),
            withheld: Vec::new(),
            sequence: 0,
            exchange: None,
            again: false,
            notified: false,
            reattached: false,
            registered_at: Time::default(),
            expires_at: None,
            refresh_at: None,
            advertise_at: None,
            teid: None,
            tunnel: None,
        }
    }
}
