//! What is asked (RFC 8415 sections 18.2.1 to 18.2.7).

use super::exchange::timing;
use super::fsm::{Output, Random, Requesting};
use super::state::{Association, Held, Phase};
use crate::delegation::wire::{DelegatedPrefix, IdentityAssociation, Message, MessageType, option};
use crate::time::Time;

impl Requesting {
    /// Sends the message of an association's phase.
    pub(super) fn transmit(&mut self, iaid: u32, now: Time, random: &mut Random, outputs: &mut Vec<Output>) {
        let Some(association) = self.state.associations.get_mut(&iaid) else {
            return;
        };
        let Some(exchange) = association.exchange.as_mut() else {
            return;
        };
        let timing = timing(association.phase, exchange.confirming, self.solicit_maximum);
        let first_solicit = association.phase == Phase::Soliciting && exchange.sent == 0;
        if exchange.sent > 0 {
            self.counters.add("dhcp_retransmitted");
        }
        exchange.transmitted(&timing, random.thousandths(), first_solicit, now);
        let (transaction, began) = (exchange.transaction, exchange.began);
        let association = association.clone();
        let mut message = self.message(iaid, &association, transaction);
        // In 1/100 s; 0 in the first transmission (RFC 8415 section 21.9).
        let elapsed = now.since(began).as_millis() / 10;
        message.elapsed = Some(u16::try_from(elapsed).unwrap_or(u16::MAX));
        match message.emit() {
            Ok(octets) => {
                self.counters.add("dhcp_sent");
                outputs.push(Output::Send(octets));
            }
            Err(error) => {
                self.counters.add("dhcp_not_written");
                tracing::error!(%error, "a DHCPv6 message cannot be written");
            }
        }
    }

    fn message(&self, iaid: u32, association: &Association, transaction: u32) -> Message {
        let message_type = match association.phase {
            Phase::Soliciting => MessageType::Solicit,
            Phase::Requesting => MessageType::Request,
            // A Bound one asks nothing.
            Phase::Renewing | Phase::Bound => MessageType::Renew,
            Phase::Rebinding => MessageType::Rebind,
            Phase::Releasing => MessageType::Release,
        };
        let mut message = Message::new(message_type, transaction);
        message.client = Some(self.settings.client.clone());
        if !matches!(message_type, MessageType::Solicit | MessageType::Rebind) {
            message.server.clone_from(&association.server);
        }
        // Where one prefix alone will do, an offer of another costs less than a delegation.
        message.rapid_commit =
            message_type == MessageType::Solicit && self.settings.rapid_commit && !association.wanted.exact;
        if message_type != MessageType::Release {
            message.option_request = vec![option::PD_EXCLUDE, option::SOL_MAX_RT];
            message.reconfigure_accept = self.settings.accept_reconfigure;
        }
        // Lifetimes and times of a client mean nothing to a server (RFC 8415 sections 21.21, 21.22).
        let asked = |prefix, exclude| DelegatedPrefix {
            preferred: 0,
            valid: 0,
            prefix,
            exclude,
            status: None,
        };
        let mut prefixes: Vec<_> = match (message_type, self.offers.get(&iaid)) {
            (MessageType::Solicit, _) => Vec::new(),
            (MessageType::Request, Some(offer)) => offer.prefixes.iter().map(|it| asked(*it, None)).collect(),
            _ => {
                let held = |held: &Held| asked(held.prefix, held.exclude);
                association.prefixes.iter().map(held).collect()
            }
        };
        if prefixes.is_empty() {
            prefixes.extend(association.wanted.hint.map(|hint| asked(hint, None)));
        }
        message.delegations = vec![IdentityAssociation {
            prefixes,
            ..IdentityAssociation::new(iaid)
        }];
        message
    }
}
