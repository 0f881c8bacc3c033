//! Messages that say what others build upon: they leave when the state behind them would survive a crash.

use std::collections::VecDeque;
use std::net::Ipv6Addr;

use super::Endpoint;
use crate::wire::mobility::MobilityMessage;

/// Messages that wait for the store, in their order.
#[derive(Debug, Default)]
pub struct Durable {
    waiting: VecDeque<(u64, Ipv6Addr, MobilityMessage)>,
}

impl Durable {
    /// A message that may leave when the change of this number is saved.
    pub fn add(&mut self, change: u64, to: Ipv6Addr, message: MobilityMessage) {
        self.waiting.push_back((change, to, message));
    }

    /// Sends what may leave when `saved` changes are.
    pub fn send(&mut self, saved: u64, endpoint: &mut Endpoint) {
        while self.waiting.front().is_some_and(|(change, ..)| *change <= saved) {
            if let Some((_, to, message)) = self.waiting.pop_front() {
                endpoint.send(to, &message);
            }
        }
    }
}
