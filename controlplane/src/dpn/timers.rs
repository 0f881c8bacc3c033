//! What happens when nothing happens: retransmission, renewal, advertisement, expiry.

use super::fsm::{Dpn, Output};
use super::state::Phase;
use crate::event::Event;
use crate::identity::MobileNodeIdentifier;
use crate::proxy_binding::handoff_indicator::{RE_REGISTRATION, UNKNOWN};
use crate::proxy_binding::lifetime_span;
use crate::time::Time;

/// Transmissions of a de-registration; the node is gone, so nobody waits for it.
const DEREGISTRATION_TRANSMISSIONS: usize = 3;

impl Dpn {
    pub(super) fn tick(&mut self, now: Time, outputs: &mut Vec<Output>) {
        while let Some(identifier) = self.due(now) {
            self.expire(&identifier, now, outputs);
            self.retransmit(&identifier, now, outputs);
            self.refresh(&identifier, now, outputs);
            self.advertise_again(&identifier, now, outputs);
            self.reschedule(&identifier);
        }
    }

    fn expire(&mut self, identifier: &MobileNodeIdentifier, now: Time, outputs: &mut Vec<Output>) {
        let lifetime = self.binding_lifetime_units();
        let Some(node) = self.state.nodes.get_mut(identifier) else {
            return;
        };
        if node.expires_at.is_none_or(|at| at > now) {
            return;
        }
        if node.phase != Phase::Attached {
            return self.remove(identifier);
        }
        // The DPA was silent for a whole lifetime. Without a binding nothing may be forwarded (RFC 5213 section 6.10.5);
        // registration goes on being tried for another one.
        node.phase = Phase::Registering;
        node.expires_at = Some(now.after(lifetime_span(lifetime)));
        node.advertise_at = None;
        let gone = self.set_prefixes(identifier, Vec::new());
        let gone: Vec<_> = gone.iter().map(|it| it.prefix).collect();
        self.counters.add("bindings_expired");
        let text = format!("{identifier}: the DPA did not renew the binding in time");
        let event = Event::new("binding_expired", text).with("identifier", identifier);
        outputs.push(Output::Event(event));
        self.advertise(identifier, &gone, now, outputs);
        self.register(identifier, UNKNOWN, lifetime, now, outputs);
    }

    fn retransmit(&mut self, identifier: &MobileNodeIdentifier, now: Time, outputs: &mut Vec<Output>) {
        let maximum = self.settings.timers.max_bindack_timeout;
        let Some(node) = self.state.nodes.get_mut(identifier) else {
            return;
        };
        let due = node.exchange.as_mut().filter(|it| it.retransmit_at <= now);
        let Some(exchange) = due else {
            return;
        };
        if exchange.lifetime == 0 && exchange.sequences.len() >= DEREGISTRATION_TRANSMISSIONS {
            return self.remove(identifier);
        }
        exchange.wait_longer(maximum, now);
        self.counters.add("updates_retransmitted");
        self.transmit(identifier, now, outputs);
    }

    pub(super) fn refresh(
        &mut self,
        identifier: &MobileNodeIdentifier,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        let Some(node) = self.state.nodes.get_mut(identifier) else {
            return;
        };
        let waits = node.refresh_at.is_none_or(|at| at > now) || node.exchange.is_some();
        if waits || node.phase != Phase::Attached {
            return;
        }
        let handoff = if node.reattached { UNKNOWN } else { RE_REGISTRATION };
        let lifetime = self.binding_lifetime_units();
        self.register(identifier, handoff, lifetime, now, outputs);
    }

    fn advertise_again(&mut self, identifier: &MobileNodeIdentifier, now: Time, outputs: &mut Vec<Output>) {
        let Some(node) = self.state.nodes.get_mut(identifier) else {
            return;
        };
        if node.advertise_at.is_none_or(|at| at > now) {
            return;
        }
        node.advertise_at = None;
        if node.phase == Phase::Attached {
            self.advertise(identifier, &[], now, outputs);
        }
    }
}
