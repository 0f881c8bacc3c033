//! Messages that say what others build upon: they leave when the state behind them would survive a crash.

use std::collections::VecDeque;
use std::net::Ipv6Addr;

use super::Endpoint;
use crate::identity::MobileNodeIdentifier;
use crate::wire::mobility::{MobilityMessage, MobilityOptions};

/// Messages that wait for the store, in their order.
#[derive(Debug, Default)]
pub struct Durable {
    waiting: VecDeque<(u64, Ipv6Addr, MobilityMessage)>,
}

impl Durable {
    /// A message that may leave when the change of this number is saved. It takes the place of an older one about the same
    /// prefixes: a store that is slow, or full, makes no queue of repetitions.
    pub fn add(&mut self, change: u64, to: Ipv6Addr, message: MobilityMessage) {
        self.waiting
            .retain(|(_, other, older)| *other != to || !is_about_the_same(older, &message));
        self.waiting.push_back((change, to, message));
    }

    /// Sends what may leave when `saved` changes are. Of answers comes out to whom they went, and of which node.
    pub fn send(&mut self, saved: u64, endpoint: &mut Endpoint) -> Vec<(Ipv6Addr, MobileNodeIdentifier)> {
        let mut sent = Vec::new();
        for (to, message) in self.take(saved) {
            endpoint.send(to, &message);
            sent.extend(answered(message).map(|identifier| (to, identifier)));
        }
        sent
    }

    /// What may leave when `saved` changes are; it is to be sent, in this order.
    pub fn take(&mut self, saved: u64) -> impl Iterator<Item = (Ipv6Addr, MobilityMessage)> + use<> {
        let ready = self
            .waiting
            .iter()
            .take_while(|(change, ..)| *change <= saved)
            .count();
        let ready: Vec<_> = self.waiting.drain(..ready).collect();
        ready.into_iter().map(|(_, to, message)| (to, message))
    }
}

/// The node of an answer.
fn answered(message: MobilityMessage) -> Option<MobileNodeIdentifier> {
    match message {
        MobilityMessage::ProxyBindingAcknowledgement(answer) => answer.options.mobile_node_identifier,
        _ => None,
    }
}

/// Whether both are updates, or both answers, about the same prefixes of the same node.
fn is_about_the_same(one: &MobilityMessage, other: &MobilityMessage) -> bool {
    let (one, other) = match (one, other) {
        (MobilityMessage::ProxyBindingUpdate(one), MobilityMessage::ProxyBindingUpdate(other)) => {
            (&one.options, &other.options)
        }
        (
            MobilityMessage::ProxyBindingAcknowledgement(one),
            MobilityMessage::ProxyBindingAcknowledgement(other),
        ) => (&one.options, &other.options),
        _ => return false,
    };
    let same = one.mobile_node_identifier == other.mobile_node_identifier;
    let id = |it: &MobilityOptions| it.context_transfer.as_ref().map(|it| it.id);
    same && one.session_prefixes() == other.session_prefixes() && id(one) == id(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy_binding::UPDATE_FLAGS;
    use crate::wire::mobility::ProxyBindingUpdate;

    fn update(sequence: u16, prefix: &str) -> MobilityMessage {
        MobilityMessage::ProxyBindingUpdate(ProxyBindingUpdate {
            sequence,
            flags: UPDATE_FLAGS,
            lifetime: 1,
            options: MobilityOptions {
                mobile_node_identifier: Some(MobileNodeIdentifier::nai("mn1@example.net")),
                home_network_prefixes: vec![prefix.parse().unwrap()],
                ..MobilityOptions::default()
            },
        })
    }

    #[test]
    fn of_messages_about_the_same_the_last_one_waits() {
        let [a, b] = ["2001:db8:a::1", "2001:db8:b::1"].map(|it| it.parse::<Ipv6Addr>().unwrap());
        let (one, other) = ("2001:db8:100::/64", "2001:db8:200::/64");
        let mut durable = Durable::default();
        for (change, to, message) in [
            (1, a, update(1, one)),
            (2, a, update(2, other)),
            (3, b, update(1, one)),
            (4, a, update(3, one)),
        ] {
            durable.add(change, to, message);
        }
        let waiting: Vec<_> = durable.waiting.into_iter().collect();
        assert_eq!(
            waiting,
            [
                (2, a, update(2, other)),
                (3, b, update(1, one)),
                (4, a, update(3, one))
            ]
        );
    }
}
