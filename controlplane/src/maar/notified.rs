//! The CMD asks for registrations again (RFC 7077): it has started anew, and may have forgotten the last ones.

use std::net::Ipv6Addr;
use std::time::Duration;

use super::fsm::Maar;
use super::io::Output;
use super::state::Phase;
use crate::event::Event;
use crate::identity::MobileNodeIdentifier;
use crate::time::Time;
use crate::wire::mobility::{
    ALL_SESSIONS, MobilityMessage, MobilityOptions, UpdateNotification, UpdateNotificationAcknowledgement,
    notification_flags, notification_reason, notification_status,
};

/// How many nodes are registered again per second. The CMD asks one MAAR after the other, so that it gets no more than this either.
const RENEWALS_PER_SECOND: u32 = 2000;

impl Maar {
    pub(super) fn notification(
        &mut self,
        from: Ipv6Addr,
        notification: &UpdateNotification,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        if !self.settings.cmds.contains(&from) {
            return self.counters.add("notifications_stranger");
        }
        self.counters.add("notifications_received");
        let status = self.notified(from, notification, now, outputs);
        if notification.flags & notification_flags::ACKNOWLEDGE != 0 {
            let options = &notification.options;
            let message =
                MobilityMessage::UpdateNotificationAcknowledgement(UpdateNotificationAcknowledgement {
                    sequence: notification.sequence,
                    status,
                    options: MobilityOptions {
                        mobile_node_identifier: options.mobile_node_identifier.clone(),
                        mobile_node_group_identifier: options.mobile_node_group_identifier,
                        ..MobilityOptions::default()
                    },
                });
            outputs.push(Output::Send { to: from, message });
        }
    }

    /// Does what a notification asks for; its status.
    fn notified(
        &mut self,
        from: Ipv6Addr,
        notification: &UpdateNotification,
        now: Time,
        outputs: &mut Vec<Output>,
    ) -> u8 {
        if notification.reason != notification_reason::FORCE_RE_REGISTRATION {
            self.counters.add("notifications_unknown_reason");
            return notification_status::FAILED;
        }
        let this = Some((from, notification.sequence));
        let repeated = notification.flags & notification_flags::RETRANSMISSION != 0;
        if repeated && self.last_notified == this {
            self.counters.add("notifications_repeated");
            return notification_status::SUCCESS;
        }
        let options = &notification.options;
        let status = match (
            &options.mobile_node_identifier,
            options.mobile_node_group_identifier,
        ) {
            (Some(identifier), _) => {
                if !self.renew_at(&identifier.clone(), now) {
                    self.counters.add("notifications_unknown_node");
                    return notification_status::NODE_NOT_ATTACHED;
                }
                notification_status::SUCCESS
            }
            (None, Some(ALL_SESSIONS)) => {
                self.renew_all(from, now, outputs);
                notification_status::SUCCESS
            }
            (None, _) => {
                self.counters.add("notifications_unknown_node");
                notification_status::FAILED
            }
        };
        self.last_notified = this;
        status
    }

    fn renew_all(&mut self, from: Ipv6Addr, now: Time, outputs: &mut Vec<Output>) {
        // What was forgotten came last.
        let nodes = self.state.nodes.iter();
        let mut identifiers: Vec<_> = nodes.map(|(it, node)| (node.attached_at, it.clone())).collect();
        identifiers.sort_unstable_by(|one, other| other.cmp(one));
        let mut renewed: u32 = 0;
        for (_, identifier) in identifiers {
            let wait = Duration::from_secs(1) / RENEWALS_PER_SECOND * renewed;
            renewed += u32::from(self.renew_at(&identifier, now.after(wait)));
        }
        let text = format!("{from} asks for all registrations again: {renewed} nodes");
        let event = Event::new("registrations_asked", text).with("nodes", renewed);
        outputs.push(Output::Event(event.with("cmd", from)));
    }

    /// Has a node registered again, if it is on a link here. What is on its way is sent again until it is answered.
    fn renew_at(&mut self, identifier: &MobileNodeIdentifier, at: Time) -> bool {
        let Some(node) = self.state.nodes.get_mut(identifier) else {
            return false;
        };
        match node.phase {
            Phase::Registering => true,
            Phase::Attached => {
                match &mut node.exchange {
                    Some(exchange) => exchange.tells_attachment = true,
                    None => {
                        node.refresh_at = Some(node.refresh_at.map_or(at, |before| before.min(at)));
                        node.tells_attachment = true;
                    }
                }
                self.reschedule(identifier);
                true
            }
            Phase::Detached | Phase::Anchored { .. } | Phase::Refused { .. } | Phase::Deregistering => false,
        }
    }
}
