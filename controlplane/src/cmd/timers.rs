//! What happens when nothing happens: retransmission and expiry.

use std::time::Duration;

use super::fsm::{Anchor, Cmd, Output};
use super::state::{BindingPhase, Exchange, PreviousPhase};
use crate::event::Event;
use crate::identity::MobileNodeIdentifier;
use crate::proxy_binding::back_off;
use crate::time::Time;

impl Cmd {
    pub(super) fn tick(&mut self, now: Time, outputs: &mut Vec<Output>) {
        while let Some(identifier) = self.due(now) {
            self.retransmit(&identifier, now, outputs);
            self.relocate_by_policy(&identifier, now, outputs);
            self.reindex(&identifier, None);
            self.expire(&identifier, now, outputs);
        }
        self.retransmit_relocations(now, outputs);
        self.retransmit_releases(now, outputs);
        self.retransmit_contexts(now, outputs);
        self.ask_again(now, outputs);
    }

    fn retransmit(&mut self, identifier: &MobileNodeIdentifier, now: Time, outputs: &mut Vec<Output>) {
        let Some(mut binding) = self.state.bindings.get(identifier).cloned() else {
            return;
        };
        let serving = (binding.serving, binding.expires_at.since(now));
        for previous in &mut binding.previous {
            let anchor = previous.anchor(binding.access_technology_type);
            let PreviousPhase::Updating(exchange) = &mut previous.phase else {
                continue;
            };
            if exchange.retransmit_at > now {
                continue;
            }
            self.wait_longer(exchange, now);
            self.counters.add("previous_updates_retransmitted");
            outputs.push(self.update_for(identifier, anchor, Some(serving), exchange, now));
        }
        self.state.bindings.insert(identifier.clone(), binding);
        self.reindex(identifier, None);
    }

    fn expire(&mut self, identifier: &MobileNodeIdentifier, now: Time, outputs: &mut Vec<Output>) {
        if self
            .state
            .bindings
            .get(identifier)
            .is_none_or(|binding| binding.expires_at > now)
        {
            return;
        }
        let Some(binding) = self.state.bindings.remove(identifier) else {
            return;
        };
        self.reindex(identifier, Some(&binding));
        self.counters.add("bindings_expired");
        let text = format!("{identifier}: the session is over");
        outputs.push(Output::Event(
            Event::new("binding_deleted", text).with("identifier", identifier),
        ));
        self.stop_relocations(identifier, "its session is over", now, outputs);
        // RFC 8885 section 3.5 (a): the P-MAARs stopped their timers; they end when told. So is the
        // serving one where it did not end the session itself: it may have missed that it serves.
        let serving = (binding.phase == BindingPhase::Active).then_some(binding.serving);
        let own = binding.prefixes.iter().map(|prefix| (serving, *prefix, None));
        let adopted = binding.adopted.iter();
        let adopted = adopted.map(|it| (serving, it.prefix, Some(it.home)));
        let previous = binding.previous.iter();
        let previous = previous.map(|it| (Some(it.address), it.prefix, it.home));
        for (address, prefix, home) in own.chain(adopted).chain(previous) {
            let anchor = |address| Anchor {
                address,
                prefix,
                access_technology_type: binding.access_technology_type,
                serving_endpoint: None,
            };
            match (address, home) {
                (Some(address), home) => self.release(identifier, anchor(address), home, now, outputs),
                // Its anchor let it go by itself.
                (None, Some(home)) => self.release(identifier, anchor(home), None, now, outputs),
                (None, None) => {}
            }
        }
    }

    pub(super) fn wait_longer(&self, exchange: &mut Exchange, now: Time) {
        exchange.next_timeout_ms =
            back_off(exchange.next_timeout_ms, self.settings.timers.max_bindack_timeout);
        exchange.retransmit_at = now.after(Duration::from_millis(exchange.next_timeout_ms));
    }
}
