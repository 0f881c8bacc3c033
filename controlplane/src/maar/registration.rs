//! What the CMD is asked (RFC 5213 section 6.9.1.1, RFC 8885 section 3.1).

use super::fsm::Maar;
use super::io::Output;
use crate::identity::MobileNodeIdentifier;
use crate::proxy_binding::{Exchange, OnLink, UPDATE_FLAGS, lifetime_units};
use crate::time::Time;
use crate::wire::mobility::{MobilityMessage, is_mobile_network};

impl Maar {
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
        let mut exchange = Exchange::new(handoff_indicator, lifetime, first_timeout, node.attached_at, now);
        exchange.tells_attachment = std::mem::take(&mut node.tells_attachment);
        node.exchange = Some(exchange);
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
        let yielded = &self.state.yielded;
        let networks = node
            .adopted
            .iter()
            .filter(|it| it.asked.is_none())
            .map(|it| it.prefix);
        let delegated_prefixes = networks
            .filter(|it| is_mobile_network(*it) && !yielded.contains_key(it))
            .filter(|it| node.giving_up.iter().all(|(given_up, _)| given_up != it))
            .collect();
        let Some(exchange) = node.exchange.as_mut() else {
            return;
        };
        let Some(to) = self.settings.cmds.get(exchange.cmd).copied() else {
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
        update.options.home_network_prefixes = vec![node.home_network_prefix];
        update.options.delegated_prefixes = delegated_prefixes;
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

    /// The lifetime to ask for, in units of 4 s.
    pub(super) fn binding_lifetime_units(&self) -> u16 {
        lifetime_units(self.settings.timers.binding_lifetime)
    }
}
