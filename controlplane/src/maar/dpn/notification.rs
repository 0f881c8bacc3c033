//! A DPN is asked to register a node again (RFC 7077).

use std::net::Ipv6Addr;
use std::time::Duration;

use crate::identity::MobileNodeIdentifier;
use crate::maar::fsm::{Maar, Output};
use crate::time::Time;
use crate::wire::mobility::{
    MobilityMessage, MobilityOptions, UpdateNotification, notification_flags, notification_reason,
    timestamp_from_time,
};

/// MIN_DELAY_BEFORE_RETRANSMISSION (RFC 7077 section 7): how long an answer to a notification may take, the first time.
const NOTIFICATION_TIMEOUT: Duration = Duration::from_secs(1);
/// MAX_RETRANSMIT_COUNT, the most that RFC 7077 section 7 permits, and the first one.
const NOTIFICATIONS: u32 = 6;

/// A notification that a DPN has not answered.
#[derive(Clone, Copy, Debug)]
pub(in crate::maar) struct Notification {
    sequence: u16,
    sent: u32,
    again_at: Time,
}

impl Maar {
    /// A DPN may have what is not so any more, and is to ask.
    pub(in crate::maar) fn notify(
        &mut self,
        to: Ipv6Addr,
        identifier: &MobileNodeIdentifier,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        let key = (to, identifier.clone());
        self.last_notification = self.last_notification.wrapping_add(1);
        let notification = Notification {
            sequence: self.last_notification,
            sent: 1,
            again_at: now.after(NOTIFICATION_TIMEOUT),
        };
        if self.notifications.contains_key(&key) {
            // It was asked to already, and has not done so.
            return;
        }
        self.counters.add("dpn_notifications_sent");
        outputs.push(notification.output(to, identifier, now));
        self.notification_deadlines.set(&key, Some(notification.again_at));
        self.notifications.insert(key, notification);
    }

    pub(super) fn forget_notification(&mut self, to: Ipv6Addr, identifier: &MobileNodeIdentifier) {
        let key = (to, identifier.clone());
        self.notifications.remove(&key);
        self.notification_deadlines.set(&key, None);
    }

    /// Sends again what was not answered, and forgets what nobody answers.
    pub(in crate::maar) fn tick_notifications(&mut self, now: Time, outputs: &mut Vec<Output>) {
        while let Some(key) = self.notification_deadlines.due(now) {
            let Some(known) = self.notifications.get_mut(&key) else {
                self.notification_deadlines.set(&key, None);
                continue;
            };
            if known.sent >= NOTIFICATIONS {
                self.notifications.remove(&key);
                self.notification_deadlines.set(&key, None);
                self.counters.add("dpn_notifications_unanswered");
                continue;
            }
            known.again_at = now.after(NOTIFICATION_TIMEOUT * (1 << known.sent));
            known.sent += 1;
            self.counters.add("dpn_notifications_retransmitted");
            outputs.push(known.output(key.0, &key.1, now));
            self.notification_deadlines.set(&key, Some(known.again_at));
        }
    }
}

impl Notification {
    fn output(self, to: Ipv6Addr, identifier: &MobileNodeIdentifier, now: Time) -> Output {
        let flags = match self.sent {
            1 => 0,
            _ => notification_flags::RETRANSMISSION,
        };
        let message = MobilityMessage::UpdateNotification(UpdateNotification {
            sequence: self.sequence,
            reason: notification_reason::FORCE_RE_REGISTRATION,
            flags,
            options: MobilityOptions {
                mobile_node_identifier: Some(identifier.clone()),
                timestamp: Some(timestamp_from_time(now)),
                ..MobilityOptions::default()
            },
        });
        Output::Send { to, message }
    }
}
