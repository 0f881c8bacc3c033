//! A detour that has become too long: the CMD is asked to end it, by relocating the anchor of the prefix to here
//! (`cmd/policy.rs`).
//!
//! What has become of a prefix is seen here, where its node is and its packets are counted; what is to be done about it
//! is the CMD's to decide. It is asked by an update for this prefix alone, with step *take* and the anchor that
//! there is. An update that is lost is not repeated: the detour is as long the next time.

use std::net::Ipv6Addr;
use std::time::Duration;

use ipnet::Ipv6Net;

use super::fsm::{Maar, Output};
use super::state::{Node, Phase, Previous};
use crate::event::Event;
use crate::identity::MobileNodeIdentifier;
use crate::proxy_binding::{UPDATE_FLAGS, handoff_indicator, remember};
use crate::time::Time;
use crate::wire::mobility::{
    AnchorRelocation, MobilityMessage, MobilityOptions, PrefixMobility, PrefixMobilityKind,
    ProxyBindingAcknowledgement, ProxyBindingUpdate, RelocationStep, timestamp_from_time,
};

impl Maar {
    /// Asks to have a prefix of a node here, which another MAAR anchors, anchored here.
    pub(super) fn long_detour(&mut self, prefix: Ipv6Net, now: Time, outputs: &mut Vec<Output>) {
        let access_technology_type = self.settings.access.access_technology_type;
        let lifetime = self.binding_lifetime_units();
        let (Some(to), true) = (self.settings.cmds.first().copied(), self.settings.announces) else {
            return;
        };
        let found = self.state.nodes.iter_mut().find_map(|(identifier, node)| {
            let quiet = node.phase == Phase::Attached && node.exchange.is_none();
            let previous = node.previous.iter().find(|it| it.prefix == prefix && quiet)?;
            let anchor = previous.address;
            Some((identifier, node, anchor))
        });
        let Some((identifier, node, anchor)) = found else {
            return;
        };
        node.sequence = node.sequence.wrapping_add(1);
        remember(&mut node.asking, node.sequence);
        let mut update = ProxyBindingUpdate {
            sequence: node.sequence,
            flags: UPDATE_FLAGS,
            lifetime,
            options: MobilityOptions {
                mobile_node_identifier: Some(identifier.clone()),
                handoff_indicator: Some(handoff_indicator::UNKNOWN),
                access_technology_type: Some(access_technology_type),
                timestamp: Some(timestamp_from_time(now)),
                anchor_relocation: Some(AnchorRelocation {
                    step: RelocationStep::Take,
                    anchor,
                }),
                ..MobilityOptions::default()
            },
        };
        update.options.about(prefix);
        let text =
            format!("{prefix} of {identifier} is used much by way of {anchor}: it should be anchored here");
        outputs.push(Output::Event(told(identifier, prefix, anchor, text)));
        self.counters.add("detours_reported");
        self.counters.add("updates_sent");
        outputs.push(Output::Send {
            to,
            message: MobilityMessage::ProxyBindingUpdate(update),
        });
    }

    /// Whether this answers such an update. What follows from it comes by itself.
    pub(super) fn detour_answered(
        &mut self,
        identifier: &MobileNodeIdentifier,
        acknowledgement: &ProxyBindingAcknowledgement,
    ) -> bool {
        let Some(node) = self.state.nodes.get_mut(identifier) else {
            return false;
        };
        let before = node.asking.len();
        node.asking.retain(|it| *it != acknowledgement.sequence);
        let ours = node.asking.len() < before;
        if ours && !acknowledgement.status.is_accepted() {
            self.counters.add("detours_not_ended");
        }
        ours
    }
}

impl Node {
    /// Takes what the CMD says of its prefixes, of which `previous` are anchored elsewhere.
    pub(super) fn take_mobilities(&mut self, told: &[PrefixMobility], previous: &[Previous], now: Time) {
        self.ended.clear();
        self.ends.clear();
        // They end anew; what goes home goes on.
        self.told_in_vain
            .retain(|prefix, _| self.going_home.contains_key(prefix));
        self.detour_limits.clear();
        for mobility in told {
            let prefix = mobility.prefix;
            let there = previous.iter().any(|it| it.prefix == prefix);
            match mobility.kind {
                PrefixMobilityKind::DetourLimit { octets } if there => {
                    self.detour_limits.insert(prefix, octets);
                }
                // What it has, whoever says otherwise, has not ended; and of a link's own prefix nobody speaks here.
                PrefixMobilityKind::Ended
                    if !there
                        && prefix.prefix_len() == 64
                        && !self.ended.contains(&prefix)
                        && self.own_prefixes().all(|own| own != prefix) =>
                {
                    self.ended.push(prefix);
                }
                PrefixMobilityKind::EndsAfter { seconds }
                    if there || self.adopted.iter().any(|it| it.prefix == prefix) =>
                {
                    // A year is as good as for ever.
                    let seconds = seconds.min(31_536_000);
                    self.ends.insert(prefix, now.after(Duration::from_secs(seconds)));
                }
                PrefixMobilityKind::DetourLimit { .. }
                | PrefixMobilityKind::Ended
                | PrefixMobilityKind::EndsAfter { .. } => {}
            }
        }
    }
}

fn told(identifier: &MobileNodeIdentifier, prefix: Ipv6Net, anchor: Ipv6Addr, text: String) -> Event {
    Event::new("detour_too_long", text)
        .with("identifier", identifier)
        .with("prefix", prefix)
        .with("anchor", anchor)
}
