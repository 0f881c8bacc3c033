//! After its start a CMD has every MAAR register its nodes again (RFC 7077).
//!
//! What changed in the last moments before a crash was not stored, and a busy disk makes long moments. Then a CMD knows a node
//! where it was before its last move, until its MAAR renews the registration, which may take most of a lifetime; were the
//! node to move meanwhile, the anchor that was forgotten would never be told. So each MAAR is asked at once, by one Update
//! Notification about all its nodes. Registrations that were known all along change nothing; of two MAARs that both
//! believe in a node, the one has it to which it attached last. A notification that is lost is sent twice more; after
//! that the renewals come in their own time.

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

/// What every MAAR is being asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asking {
    /// The same in each transmission.
    sequence: u16,
    sent: u32,
    pub(super) again_at: Time,
    wait_ms: u64,
}

impl Cmd {
    /// To be called once when it starts, whatever it remembers: returns what is to be done.
    pub fn started(&mut self, now: Time) -> Vec<Output> {
        let mut outputs = Vec::new();
        self.asking = Some(Asking {
            sequence: timestamp_from_time(now) as u16,
            sent: 0,
            again_at: now,
            wait_ms: FIRST_WAIT_MS,
        });
        let maars = self.settings.known_maars.len();
        let text = format!("started: {maars} MAARs are asked to register their nodes again");
        outputs.push(Output::Event(
            Event::new("registrations_asked", text).with("maars", maars),
        ));
        self.ask_again(now, &mut outputs);
        outputs
    }

    pub(super) fn ask_again(&mut self, now: Time, outputs: &mut Vec<Output>) {
        let Some(asking) = self.asking.as_mut().filter(|it| it.again_at <= now) else {
            return;
        };
        let flags = match asking.sent {
            0 => 0,
            _ => notification_flags::RETRANSMISSION,
        };
        let notification = UpdateNotification {
            sequence: asking.sequence,
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
        if asking.sent >= TRANSMISSIONS {
            self.asking = None;
        }
        for maar in &self.settings.known_maars {
            self.counters.add("registrations_asked");
            let message = MobilityMessage::UpdateNotification(notification.clone());
            outputs.push(Output::Send {
                to: maar.address,
                message,
            });
        }
    }
}
