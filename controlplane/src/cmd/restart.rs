//! After its start a CMD has every MAAR register its nodes again (RFC 7077).
//!
//! What changed in the last moments before a crash was not stored, and a busy disk makes long moments. Then a CMD knows a node
//! where it was before its last move, until its MAAR renews the registration, which may take most of a lifetime; were the
//! node to move meanwhile, the anchor that was forgotten would never be told. So each MAAR is asked, by one Update
//! Notification about all its nodes. Registrations that were known all along change nothing; of two MAARs that both
//! believe in a node, the one has it to which it attached last. Each is sent three times, for nobody acknowledges it; should all be
//! lost, the renewals come in their own time. MAARs are asked one after the other, as their nodes take time to be heard.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::time::Duration;

use super::fsm::{Cmd, Output};
use crate::event::Event;
use crate::proxy_binding::back_off;
use crate::time::Time;
use crate::wire::mobility::{
    ALL_SESSIONS, MobilityMessage, MobilityOptions, UpdateNotification, notification_flags,
    notification_reason, timestamp_from_time,
};

/// How often each MAAR is asked; RFC 7077 section 7 permits six times.
const TRANSMISSIONS: u32 = 3;
/// MIN_DELAY_BEFORE_RETRANSMISSION (RFC 7077 section 7), ms.
const FIRST_WAIT_MS: u64 = 1000;

/// So many registrations a second are asked for, as far as it is known how many there are.
const REGISTRATIONS_PER_SECOND: u32 = 2000;

/// What a MAAR is being asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asking {
    maar: Ipv6Addr,
    sent: u32,
    pub(super) again_at: Time,
    wait_ms: u64,
}

impl Cmd {
    /// To be called once when it starts, whatever it remembers: returns what is to be done.
    pub fn started(&mut self, now: Time) -> Vec<Output> {
        let mut outputs = Vec::new();
        let mut nodes: BTreeMap<Ipv6Addr, u32> = BTreeMap::new();
        for binding in self.state.bindings.values() {
            *nodes.entry(binding.serving).or_default() += 1;
        }
        let mut again_at = now;
        for maar in &self.settings.known_maars {
            self.asking.push(Asking {
                maar: maar.address,
                sent: 0,
                again_at,
                wait_ms: FIRST_WAIT_MS,
            });
            let nodes = nodes.get(&maar.address).copied().unwrap_or_default();
            again_at = again_at.after(Duration::from_secs(1) / REGISTRATIONS_PER_SECOND * nodes);
        }
        self.asking_sequence = timestamp_from_time(now) as u16;
        let maars = self.settings.known_maars.len();
        let text = format!("started: {maars} MAARs are asked to register their nodes again");
        outputs.push(Output::Event(
            Event::new("registrations_asked", text).with("maars", maars),
        ));
        self.ask_again(now, &mut outputs);
        outputs
    }

    pub(super) fn ask_again(&mut self, now: Time, outputs: &mut Vec<Output>) {
        for asking in self.asking.iter_mut().filter(|it| it.again_at <= now) {
            let flags = match asking.sent {
                0 => 0,
                _ => notification_flags::RETRANSMISSION,
            };
            let notification = UpdateNotification {
                sequence: self.asking_sequence,
                reason: notification_reason::FORCE_RE_REGISTRATION,
                flags,
                options: MobilityOptions {
                    mobile_node_group_identifier: Some(ALL_SESSIONS),
                    timestamp: Some(timestamp_from_time(now)),
                    ..MobilityOptions::default()
                },
            };
            asking.sent += 1;
            asking.again_at = now.after(Duration::from_millis(asking.wait_ms));
            asking.wait_ms = back_off(asking.wait_ms, Duration::MAX);
            self.counters.add("registrations_asked");
            outputs.push(Output::Send {
                to: asking.maar,
                message: MobilityMessage::UpdateNotification(notification),
            });
        }
        self.asking.retain(|it| it.sent < TRANSMISSIONS);
    }
}
