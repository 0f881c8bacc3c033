//! The state machine, and what all its parts share.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;

use ipnet::Ipv6Net;

use super::dpn::{Notification, Place};
use super::handing::Handing;
pub use super::io::{Input, Output};
use super::pool;
use super::settings::Settings;
use super::state::{Node, State};
use super::tunnels::InUse;
pub use crate::counters::Counters;
use crate::deadlines::Deadlines;
use crate::delegation::wire::Message;
use crate::identity::MobileNodeIdentifier;
use crate::proxy_binding::RefusalLimit;
use crate::time::Time;
use crate::wire::mobility::{MobilityMessage, timestamp_from_time};

/// Names of all counters of a MAAR.
const COUNTERS: &[&str] = &[
    "attachments",
    "attachments_refused_full",
    "attachments_refused_no_prefix",
    "attachments_repeated",
    "detachments",
    "detachments_unknown_node",
    "filters_added",
    "filters_deleted",
    "filters_expired",
    "deregistrations_refused_not_serving",
    "dpn_bindings_expired",
    "dpn_notifications_retransmitted",
    "dpn_notifications_sent",
    "dpn_notifications_unanswered",
    "dpn_prefixes_left_out",
    "dpn_prefixes_withheld",
    "dpn_updates_accepted",
    "dpn_updates_answered",
    "dpn_updates_late",
    "dpn_updates_refused",
    "registrations_completed",
    "registrations_refused",
    "updates_sent",
    "updates_retransmitted",
    "updates_accepted",
    "updates_deferred",
    "updates_refused",
    "updates_refused_stranger",
    "refusals_suppressed",
    "acknowledgements_stranger",
    "acknowledgements_unmatched",
    "acknowledgements_mismatched",
    "acknowledgements_not_distributed",
    "previous_maars_not_permitted",
    "messages_unexpected",
    "notifications_received",
    "notifications_repeated",
    "notifications_stranger",
    "notifications_unknown_node",
    "notifications_unknown_reason",
    "tunnels_refused_signalled",
    "tunnels_refused_left",
    "tunnels_refused_unknown",
    "tunnels_refused_suppressed",
    "bindings_expired",
    "advertisements_sent",
    "pools_delegated",
    "pools_lost",
    "pools_overlapping",
    "delegations_over",
    "end_markers",
    "end_markers_relayed",
    "end_markers_unexpected",
    "dhcp_messages",
    "dhcp_refused_identifiers",
    "dhcp_unanswered",
    "mobile_networks_given",
    "mobile_networks_refused",
    "mobile_networks_released",
    "prefixes_end_due",
    "detours_reported",
    "detours_not_ended",
    "prefixes_adopted",
    "prefixes_adopted_late",
    "prefixes_given_back",
    "prefixes_unused",
    "prefixes_yielded",
    "prefixes_yielded_freed",
    "charging_periods_lost",
    "charging_readings_lost",
    "contexts_taken",
    "contexts_sent",
    "contexts_refused",
    "contexts_given_up",
    "filter_counts_given_up",
    "filters_given_up",
    "filters_moved",
    "filters_not_moved",
];

/// The state machine of a MAAR.
#[derive(Clone, Debug)]
pub struct Maar {
    pub(super) settings: Settings,
    pub(super) state: State,
    pub(super) counters: Counters,
    /// Prefixes in use, derived from the nodes.
    pub(super) prefixes_in_use: BTreeSet<Ipv6Net>,
    /// TEIDs and tunnel ids in use, derived from the state.
    pub(super) in_use: InUse,
    /// Of the nodes, and derived from them.
    deadlines: Deadlines<MobileNodeIdentifier>,
    /// The same of prefixes that were yielded.
    pub(super) yielded_deadlines: Deadlines<Ipv6Net>,
    /// Prefixes that are being taken and whose they are; derived from the nodes.
    pub(super) taking: BTreeMap<Ipv6Net, MobileNodeIdentifier>,
    /// Prefixes that were yielded and are being withdrawn; derived from those.
    pub(super) withdrawing: BTreeSet<Ipv6Net>,
    /// Filters that go with prefixes.
    pub(super) handing: BTreeMap<Ipv6Net, Handing>,
    /// Those of which a reading is waited for.
    pub(super) awaiting: BTreeSet<Ipv6Net>,
    /// Of which prefix the records are that the CMD has not got yet.
    pub(super) handed_records: BTreeMap<u64, Ipv6Net>,
    /// Filters that did not come with prefixes, and of which that was told.
    pub(super) not_moved: BTreeSet<(Ipv6Net, String)>,
    /// Routers that are answered when the CMD has answered.
    pub(super) networks_asked: BTreeMap<MobileNodeIdentifier, Message>,
    /// Nodes whose state has changed in this step.
    pub(super) touched: BTreeSet<MobileNodeIdentifier>,
    /// Where nodes were that are not there any more, in this step.
    pub(super) left: Vec<(Ipv6Addr, MobileNodeIdentifier)>,
    /// What DPNs were asked to do and have not done, and when they are asked again. Not stored: who is not asked any more
    /// finds out with its next renewal.
    pub(super) notifications: BTreeMap<(Ipv6Addr, MobileNodeIdentifier), Notification>,
    pub(super) notification_deadlines: Deadlines<(Ipv6Addr, MobileNodeIdentifier)>,
    pub(super) last_notification: u16,
    /// The last notification that a CMD sent, which may come again.
    pub(super) last_notified: Option<(Ipv6Addr, u16)>,
    pub(super) refusal_limit: RefusalLimit,
    /// Of Error Indications that are looked into.
    pub(super) indication_limit: RefusalLimit,
    /// Of readings for want of a free prefix.
    pub(super) reading_limit: RefusalLimit,
}

impl Maar {
    /// A MAAR that goes on from `state`: the empty one, or one that was stored.
    ///
    /// `teid_key`: 64 bits from the randomness of the operating system, for a state that has no key yet.
    #[must_use]
    pub fn new(settings: Settings, mut state: State, teid_key: u64, now: Time) -> Self {
        state.teids.resume(teid_key);
        let in_use = InUse::new(&state, &settings.reserved_teids);
        // A state of before GTP-U has tunnels but no last id.
        state.last_tunnel_id = state.last_tunnel_id.max(in_use.last_tunnel_id());
        let mut maar = Self {
            settings,
            prefixes_in_use: state
                .nodes
                .values()
                .flat_map(Node::own_prefixes)
                .chain(state.yielded.keys().copied())
                .collect(),
            taking: state
                .nodes
                .iter()
                .flat_map(|(identifier, node)| {
                    let taking = node.adopted.iter().filter(|it| it.asked.is_some());
                    taking.map(move |it| (it.prefix, identifier.clone()))
                })
                .collect(),
            withdrawing: state
                .yielded
                .iter()
                .filter(|(_, yielded)| yielded.withdrawing)
                .map(|(prefix, _)| *prefix)
                .collect(),
            yielded_deadlines: state
                .yielded
                .iter()
                .filter_map(|(prefix, yielded)| Some((*prefix, yielded.next_deadline()?)))
                .collect(),
            state,
            in_use,
            counters: Counters::new(COUNTERS),
            deadlines: Deadlines::default(),
            handing: BTreeMap::new(),
            awaiting: BTreeSet::new(),
            handed_records: BTreeMap::new(),
            not_moved: BTreeSet::new(),
            networks_asked: BTreeMap::new(),
            touched: BTreeSet::new(),
            left: Vec::new(),
            notifications: BTreeMap::new(),
            notification_deadlines: Deadlines::default(),
            last_notification: timestamp_from_time(now) as u16,
            last_notified: None,
            refusal_limit: RefusalLimit::default(),
            indication_limit: RefusalLimit::default(),
            reading_limit: RefusalLimit::default(),
        };
        let identifiers: Vec<_> = maar.state.nodes.keys().cloned().collect();
        for identifier in identifiers {
            // A node that is attached hears from its router at once after a restart.
            if let Some(node) = maar.state.nodes.get_mut(&identifier)
                && node.advertise_at.is_some()
            {
                node.advertise_at = Some(now);
            }
            maar.reschedule(&identifier);
        }
        maar
    }

    /// Takes one input and returns what is to be done, in order.
    pub fn process(&mut self, input: Input, now: Time) -> Vec<Output> {
        let mut outputs = Vec::new();
        match input {
            Input::Attached {
                identifier,
                port,
                link_layer_address,
                link_local_address,
            } => {
                self.attached(
                    identifier,
                    Place::Port(port),
                    link_layer_address,
                    link_local_address,
                    now,
                    &mut outputs,
                );
            }
            Input::Detached {
                identifier,
                deregister,
            } => self.detached(&identifier, deregister, now, &mut outputs),
            Input::Message { from, message } => match message {
                MobilityMessage::ProxyBindingUpdate(update) if self.is_of_dpn(from, &update) => {
                    self.dpn_update(from, &update, now, &mut outputs);
                }
                MobilityMessage::ProxyBindingUpdate(update) => self.update(from, &update, now, &mut outputs),
                MobilityMessage::ProxyBindingAcknowledgement(acknowledgement) => {
                    self.acknowledgement(from, &acknowledgement, now, &mut outputs);
                }
                MobilityMessage::UpdateNotification(notification) => {
                    self.notification(from, &notification, now, &mut outputs);
                }
                MobilityMessage::BindingError(_)
                | MobilityMessage::UpdateNotificationAcknowledgement(_)
                | MobilityMessage::Other(_) => self.counters.add("messages_unexpected"),
            },
            Input::PutFilter(rule) => self.put_filter(rule, now, &mut outputs),
            Input::DeleteFilter(name) => self.delete_filter(&name, &mut outputs),
            Input::FilterExpired(id) => self.filter_expired(id, &mut outputs),
            Input::TunnelRefused { peer, teid } => self.tunnel_refused(peer, teid, now, &mut outputs),
            Input::EndMarker { from, teid } => self.end_marker(from, teid, now),
            Input::Answered { to, identifier } => self.dpn_answered(to, &identifier, now),
            Input::Announced(prefix) => self.announced(prefix, now, &mut outputs),
            Input::Pools(pools) => self.pools(pools, now, &mut outputs),
            Input::DelegationsOver(over) => self.delegations_over(&over, now, &mut outputs),
            Input::DelegatedUntil(ends) => self.delegated_until(ends, now, &mut outputs),
            Input::Unused(prefix) => self.unused(prefix, now, &mut outputs),
            Input::Dhcp { identifier, message } => {
                self.network_asked(&identifier, *message, now, &mut outputs);
            }
            Input::LongDetour(prefix) => self.long_detour(prefix, now, &mut outputs),
            Input::Counted(reading) => self.counted(reading, now, &mut outputs),
            Input::Withdrawn(prefix) => self.withdrawn(prefix, now),
            Input::Tick => self.tick(now, &mut outputs),
        }
        self.settle_dpns(now, &mut outputs);
        outputs
    }

    /// When [`Input::Tick`] is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        let all = [
            self.deadlines.next(),
            self.yielded_deadlines.next(),
            self.state.charging.outbox.next_deadline(),
            self.notification_deadlines.next(),
        ];
        all.into_iter().flatten().min()
    }

    /// What it knows.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Prefixes that are being taken: they are ours when they are announced.
    pub fn taking(&self) -> impl Iterator<Item = Ipv6Net> + '_ {
        self.taking.keys().copied()
    }

    /// Prefixes that were yielded, and for which routes may still lead here.
    pub fn withdrawing(&self) -> impl Iterator<Item = Ipv6Net> + '_ {
        self.withdrawing.iter().copied()
    }

    /// What it counted.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The node whose deadline is the first of those at or before `now`.
    pub(super) fn due(&self, now: Time) -> Option<MobileNodeIdentifier> {
        self.deadlines.due(now)
    }

    /// Brings the deadline index in line with a node that was changed or removed, and what its DPN knows.
    pub(super) fn reschedule(&mut self, identifier: &MobileNodeIdentifier) {
        let node = self.state.nodes.get(identifier);
        if node.is_some_and(|node| node.dpn.is_some()) {
            self.touched.insert(identifier.clone());
        }
        self.reschedule_only(identifier);
    }

    /// The same where its DPN knows.
    pub(super) fn reschedule_only(&mut self, identifier: &MobileNodeIdentifier) {
        let node = self.state.nodes.get(identifier);
        self.deadlines.set(identifier, node.and_then(Node::next_deadline));
    }

    /// Forgets a node and frees its prefixes.
    pub(super) fn remove(&mut self, identifier: &MobileNodeIdentifier) {
        if let Some(node) = self.state.nodes.remove(identifier) {
            if let Some(dpn) = node.dpn.as_ref().filter(|dpn| !dpn.told.is_empty()) {
                self.left.push((dpn.address, identifier.clone()));
            }
            for prefix in node.own_prefixes() {
                self.free_prefix(prefix);
            }
            self.in_use.free(&node);
        }
        self.networks_asked.remove(identifier);
        self.reschedule(identifier);
    }

    /// A free home network prefix, taken.
    pub(super) fn allocate_prefix(&mut self, now: Time) -> Option<Ipv6Net> {
        let prefix = pool::allocate(
            &self.pools_to_give(now),
            &self.prefixes_in_use,
            &self.state.charging.prefixes,
            &mut self.state.next_prefix,
            pool::HOME_NETWORK_PREFIX,
        )?;
        self.prefixes_in_use.insert(prefix);
        Some(prefix)
    }

    /// A prefix is not its node's any more; one that was yielded is still somebody's.
    pub(super) fn free_prefix(&mut self, prefix: Ipv6Net) {
        if !self.state.yielded.contains_key(&prefix) {
            self.prefixes_in_use.remove(&prefix);
        }
    }

    /// Whether tunnels to and from `peer` are allowed.
    pub(super) fn peer_permitted(&self, peer: Ipv6Addr) -> bool {
        peer != self.settings.address
            && !self.settings.dpns.contains(&peer)
            && self
                .settings
                .peers
                .as_ref()
                .is_none_or(|peers| peers.contains(&peer))
    }
}
