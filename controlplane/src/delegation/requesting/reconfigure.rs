//! A server says: ask again (RFC 8415 sections 16.11, 18.2.11 and 20.4).

use super::exchange::Exchange;
use super::fsm::{Output, Random, Requesting};
use super::state::Phase;
use crate::delegation::reconfigure_key;
use crate::delegation::wire::{Message, MessageType};
use crate::event::Event;
use crate::time::Time;

impl Requesting {
    pub(super) fn reconfigure(
        &mut self,
        octets: &[u8],
        message: &Message,
        now: Time,
        random: &mut Random,
        outputs: &mut Vec<Output>,
    ) {
        let Some(phase) = self.reconfigured_to(octets, message) else {
            return self.counters.add("reconfigures_refused");
        };
        self.counters.add("reconfigures_accepted");
        let text = "the server asks us to renew what it has delegated";
        outputs.push(Output::Event(Event::new("reconfigure_received", text)));
        for association in self.state.associations.values_mut() {
            // What is on its way already is not sent twice.
            if association.phase != Phase::Bound || association.server != message.server {
                continue;
            }
            association.phase = phase;
            association.renew_at = None;
            association.exchange = Some(Exchange::new(random.transaction(), now, false));
        }
    }

    /// What it asks for, if it is to be heeded.
    fn reconfigured_to(&mut self, octets: &[u8], message: &Message) -> Option<Phase> {
        let ours = message.client.as_ref() == Some(&self.settings.client);
        if !ours || message.transaction != 0 || !message.delegations.is_empty() {
            return None;
        }
        let phase = match message.reconfigure_message {
            Some(code) if code == MessageType::Renew as u8 => Phase::Renewing,
            Some(code) if code == MessageType::Rebind as u8 => Phase::Rebinding,
            // An Information-request would tell nothing that is used here.
            _ => return None,
        };
        let known = self.state.keys.get_mut(message.server.as_ref()?)?;
        let replay = reconfigure_key::verified(octets, message, &known.key)?;
        if replay <= known.replay {
            return None;
        }
        known.replay = replay;
        Some(phase)
    }
}
