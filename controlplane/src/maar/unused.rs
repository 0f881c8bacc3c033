//! An older prefix that a node uses no more is given up before its session ends (RFC 8818 FM:3-3: what was changed for a
//! flow reverts when it is no longer needed).
//!
//! The serving MAAR sees that it carries nothing and tells the CMD, in an update of lifetime 0 for this prefix alone, with
//! step *yield* and itself as the anchor. The CMD has whoever anchors it release it, and the MAAR of whose pool it is;
//! its answer ends it here. An update that is lost is not repeated: the prefix is as unused the next time.

use std::net::Ipv6Addr;
use std::time::Duration;

use ipnet::Ipv6Net;

use super::fsm::{Maar, Output};
use super::state::{Node, Phase};
use crate::event::Event;
use crate::identity::MobileNodeIdentifier;
use crate::proxy_binding::{UPDATE_FLAGS, handoff_indicator};
use crate::time::Time;
use crate::wire::mobility::{
    AnchorRelocation, MobilityMessage, MobilityOptions, ProxyBindingAcknowledgement, ProxyBindingUpdate,
    RelocationStep, is_mobile_network, timestamp_from_time,
};

/// What is to end, and was not answered or is refused, is tried again after this; each time after twice as long.
pub(super) const TRY_AGAIN: Duration = Duration::from_secs(2);
/// The longest such pause is so many times as long: 32 s, the longest that updates wait for their answers.
const LONGEST_TRY_AGAIN: u32 = 16;

impl Maar {
    /// A prefix of a node here has carried nothing for `maar.idle_prefix_s`.
    pub(super) fn unused(&mut self, prefix: Ipv6Net, now: Time, outputs: &mut Vec<Output>) {
        let own = self.settings.address;
        let found = self.state.nodes.iter().find(|(_, node)| {
            node.phase == Phase::Attached && node.exchange.is_none() && node.older(own).any(|it| it == prefix)
        });
        let Some(identifier) = found.map(|(identifier, _)| identifier.clone()) else {
            return;
        };
        let text = format!("{identifier} has not used {prefix} for long: it is given up");
        outputs.push(told(&identifier, prefix, "prefix_unused", text));
        self.counters.add("prefixes_unused");
        self.give_up(&identifier, prefix, now, outputs);
    }

    /// Gives up what ends by policy.
    pub(super) fn end_due(
        &mut self,
        identifier: &MobileNodeIdentifier,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        let own = self.settings.address;
        let Some(node) = self.state.nodes.get_mut(identifier) else {
            return;
        };
        if node.phase != Phase::Attached {
            return;
        }
        let due = |(_, at): &(&Ipv6Net, &Time)| **at <= now;
        let due: Vec<_> = node.ends.iter().filter(due).map(|(prefix, _)| *prefix).collect();
        for prefix in due {
            let Some(node) = self.state.nodes.get_mut(identifier) else {
                return;
            };
            let has = node.older(own).any(|it| it == prefix);
            if !has && !node.has_besides(prefix) {
                node.ends.remove(&prefix);
                continue;
            }
            let asks = has && node.exchange.is_none();
            // Until it is answered; or, while its anchor moves, until it is settled where that is.
            let pause = match asks {
                true => node.pause_after_telling(prefix),
                false => TRY_AGAIN,
            };
            node.ends.insert(prefix, now.after(pause));
            if asks {
                let text = format!("{prefix} of {identifier} ends: it is time");
                outputs.push(told(identifier, prefix, "prefix_end_due", text));
                self.counters.add("prefixes_end_due");
                self.give_up(identifier, prefix, now, outputs);
            }
        }
    }

    /// Tells the CMD that a node here does not need a prefix any more.
    pub(super) fn give_up(
        &mut self,
        identifier: &MobileNodeIdentifier,
        prefix: Ipv6Net,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        let own = self.settings.address;
        let access_technology_type = self.settings.access.access_technology_type;
        let Some(to) = self.settings.cmds.first().copied() else {
            return;
        };
        let Some(node) = self.state.nodes.get_mut(identifier) else {
            return;
        };
        node.sequence = node.sequence.wrapping_add(1);
        node.giving_up.retain(|(it, _)| *it != prefix);
        node.giving_up.push((prefix, node.sequence));
        let mut update = ProxyBindingUpdate {
            sequence: node.sequence,
            flags: UPDATE_FLAGS,
            lifetime: 0,
            options: MobilityOptions {
                mobile_node_identifier: Some(identifier.clone()),
                handoff_indicator: Some(handoff_indicator::UNKNOWN),
                access_technology_type: Some(access_technology_type),
                timestamp: Some(timestamp_from_time(now)),
                anchor_relocation: Some(AnchorRelocation {
                    step: RelocationStep::Yield,
                    anchor: own,
                }),
                ..MobilityOptions::default()
            },
        };
        update.options.about(prefix);
        self.counters.add("updates_sent");
        outputs.push(Output::Send {
            to,
            message: MobilityMessage::ProxyBindingUpdate(update),
        });
    }

    /// Whether this answers such an update; then it is done.
    pub(super) fn given_up(
        &mut self,
        identifier: &MobileNodeIdentifier,
        acknowledgement: &ProxyBindingAcknowledgement,
        now: Time,
        outputs: &mut Vec<Output>,
    ) -> bool {
        let Some(node) = self.state.nodes.get_mut(identifier) else {
            return false;
        };
        let answered = |(_, sequence): &(Ipv6Net, u16)| *sequence == acknowledgement.sequence;
        let Some(at) = node.giving_up.iter().position(answered) else {
            return false;
        };
        let (prefix, _) = node.giving_up.remove(at);
        if matches!(node.phase, Phase::Anchored { .. }) {
            // The CMD has it released, here as at others.
            return true;
        }
        if !acknowledgement.status.is_accepted() {
            // It is tried again as long as nobody uses it.
            return true;
        }
        node.previous.retain(|it| it.prefix != prefix);
        let before = node.adopted.len();
        node.adopted.retain(|it| it.prefix != prefix);
        if node.adopted.len() < before {
            self.free_prefix(prefix);
        }
        let text = format!("{prefix} of {identifier} has ended");
        outputs.push(told(identifier, prefix, "prefix_ended", text));
        let Some(node) = self.state.nodes.get_mut(identifier) else {
            return true;
        };
        node.note_ended(prefix);
        self.forget_tunnels(identifier);
        self.advertise(identifier, false, now, outputs);
        true
    }
}

impl Node {
    /// The CMD is told that a prefix is to end: how long it is given to agree.
    pub(super) fn pause_after_telling(&mut self, prefix: Ipv6Net) -> Duration {
        let told = self.told_in_vain.entry(prefix).or_default();
        let times = 1_u32.checked_shl(*told).unwrap_or(u32::MAX);
        *told = told.saturating_add(1);
        TRY_AGAIN.saturating_mul(times.min(LONGEST_TRY_AGAIN))
    }

    /// The CMD is there, or something has become of the node's prefixes: what it did not agree to it may agree to now.
    pub(super) fn tell_soon(&mut self, now: Time) {
        let soon = now.after(TRY_AGAIN);
        for prefix in std::mem::take(&mut self.told_in_vain).into_keys() {
            let due = [self.ends.get_mut(&prefix), self.going_home.get_mut(&prefix)];
            for at in due.into_iter().flatten() {
                *at = soon.min(*at);
            }
        }
    }

    /// It is told that a prefix has ended.
    pub(super) fn note_ended(&mut self, prefix: Ipv6Net) {
        self.ends.remove(&prefix);
        self.told_in_vain.remove(&prefix);
        if !is_mobile_network(prefix) && !self.ended.contains(&prefix) {
            self.ended.push(prefix);
        }
    }

    /// What it has not any more needs no answer: that may have been lost, with the CMD having ended the prefix all the same.
    pub(super) fn forget_given_up(&mut self) {
        let mut giving_up = std::mem::take(&mut self.giving_up);
        giving_up.retain(|(prefix, _)| self.has_besides(*prefix));
        self.giving_up = giving_up;
    }

    /// Whether a prefix is one of its besides the newest, wherever it is anchored.
    fn has_besides(&self, prefix: Ipv6Net) -> bool {
        let previous = self.previous.iter().map(|it| it.prefix);
        let mut all = previous.chain(self.adopted.iter().map(|it| it.prefix));
        all.any(|it| it == prefix)
    }

    /// Its prefixes besides the newest, which new flows use: of those that are anchored by `own`, what was relocated there for good.
    fn older(&self, own: Ipv6Addr) -> impl Iterator<Item = Ipv6Net> + '_ {
        let previous = self.previous.iter().filter(move |it| it.address != own);
        let adopted = self.adopted.iter().filter(|it| it.asked.is_none());
        let all = previous.map(|it| it.prefix).chain(adopted.map(|it| it.prefix));
        // That of a network behind it is no older one, used or not.
        all.filter(|prefix| !is_mobile_network(*prefix))
    }
}

fn told(identifier: &MobileNodeIdentifier, prefix: Ipv6Net, kind: &'static str, text: String) -> Output {
    Output::Event(
        Event::new(kind, text)
            .with("identifier", identifier)
            .with("prefix", prefix),
    )
}
