//! Nodes at a DPN: this MAAR is their DPA (RFC 8818 sections 4.2.2, 4.2.3).
//!
//! A DPN registers a node here like a mobile access gateway at its local mobility anchor (RFC 5213). For everything else, the
//! CMD and other MAARs included, the node is then on a link of ours whose end is the tunnel to the DPN:
//!
//! ```text
//!       DPN                              DPA (this)                          CMD
//!        │ PBU, asks for prefixes         │                                   │
//!        │───────────────────────────────►│ as of a node on a link: PBU       │
//!        │                                │──────────────────────────────────►│
//!        │  PBA: the prefix it got here,  │◄──────────────────────────────────│
//!        │       and its older ones       │                                   │
//!        │◄───────────────────────────────│                                   │
//!        │                                │  ... other prefixes than it was told:
//!        │  UPN, force re-registration    │                                   │
//!        │◄───────────────────────────────│                                   │
//!        │ PBU, re-registration           │                                   │
//!        │───────────────────────────────►│                                   │
//!        │ PBA: what it has now, or a refusal: the node is somewhere else     │
//!        │◄───────────────────────────────│                                   │
//! ```
//!
//! What a DPN has to know follows from the node's state: after each input [`Maar::settle_dpns`] compares it with what
//! the DPN was told. A notification that is lost is sent again a few times; after that the DPN's next renewal
//! has the same effect. A renewal never moves a node: only an attachment does.

mod answer;
mod notification;

use std::net::Ipv6Addr;

use ipnet::Ipv6Net;
use serde::{Deserialize, Serialize};

pub(super) use notification::Notification;

use super::fsm::{Maar, Output};
use super::state::{Node, Phase};
use crate::event::Event;
use crate::identity::{LinkLayerAddress, MobileNodeIdentifier};
use crate::proxy_binding::handoff_indicator::RE_REGISTRATION;
use crate::proxy_binding::{
    acknowledge, attachment_time, check_timestamp, is_late, is_stale, lifetime_span, requested_prefixes,
};
use crate::time::Time;
use crate::wire::mobility::{MobilityMessage, ProxyBindingUpdate, Status, timestamp_from_time};

/// The DPN that has registered a node here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DpnBinding {
    /// The DPN.
    pub address: Ipv6Addr,
    /// Its update, while that waits for its answer.
    pub asked: Option<ProxyBindingUpdate>,
    /// The prefixes that it was told last, the one for new flows first.
    pub told: Vec<Ipv6Net>,
    /// Those of which it was told that they are not the node's any more.
    #[serde(default)]
    pub told_ended: Vec<Ipv6Net>,
    /// When the binding ends unless the DPN renews it; `None` once the node has left it.
    pub expires_at: Option<Time>,
    /// An answer that says something new waits until it is saved.
    #[serde(default)]
    pub answering: bool,
}

/// Where a node attaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// On this access port.
    Port(String),
    /// At this DPN; of one that tells late of it also since when, in the form of a timestamp.
    Dpn(Ipv6Addr, Option<u64>),
}

impl Place {
    /// When a node that is told of now came there, in the form of a timestamp.
    pub(super) fn since(&self, now: Time) -> u64 {
        match self {
            Self::Port(_) | Self::Dpn(_, None) => timestamp_from_time(now),
            Self::Dpn(_, Some(since)) => *since,
        }
    }
}

impl Node {
    /// The node is there now; the DPN that it was at and does not know so comes out.
    pub(super) fn move_to(&mut self, place: Place) -> Option<Ipv6Addr> {
        let before = self.dpn.take();
        match place {
            Place::Port(port) => self.port = port,
            Place::Dpn(address, _) => {
                self.port.clear();
                let same = before.clone().filter(|dpn| dpn.address == address);
                // One that asks again knows what it was told.
                self.dpn = Some(same.unwrap_or(DpnBinding {
                    address,
                    asked: None,
                    told: Vec::new(),
                    told_ended: Vec::new(),
                    expires_at: None,
                    answering: false,
                }));
            }
        }
        let before = before.filter(|dpn| !dpn.told.is_empty() || dpn.asked.is_some());
        let before = before.map(|dpn| dpn.address);
        before.filter(|address| self.dpn.as_ref().is_none_or(|dpn| dpn.address != *address))
    }

    /// The port or the DPN, in words.
    pub(super) fn place(&self) -> String {
        match &self.dpn {
            Some(dpn) => format!("DPN {}", dpn.address),
            None => self.port.clone(),
        }
    }
}

impl Maar {
    /// Whether a Proxy Binding Update is one of a DPN's.
    pub(super) fn is_of_dpn(&self, from: Ipv6Addr, update: &ProxyBindingUpdate) -> bool {
        self.settings.dpns.contains(&from) && !update.is_distributed()
    }

    /// Takes an update of a DPN of ours.
    pub(super) fn dpn_update(
        &mut self,
        from: Ipv6Addr,
        update: &ProxyBindingUpdate,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        self.hear_of_withheld(from, update, outputs);
        // Whatever this DPN was to do, it is doing it.
        if let Some(identifier) = &update.options.mobile_node_identifier {
            self.forget_notification(from, identifier);
        }
        let done = self.check_dpn_update(from, update, now).and_then(|identifier| {
            if update.lifetime == 0 {
                self.left_dpn(from, &identifier, now, outputs);
                return Ok(Some(0));
            }
            if update.options.handoff_indicator != Some(RE_REGISTRATION) {
                self.attached_at_dpn(from, &identifier, update, now, outputs)?;
            }
            self.renew_dpn(from, &identifier, update, now)?;
            // Answered when it is known what the node has here.
            Ok(None)
        });
        let (status, lifetime) = match done {
            Ok(None) => return self.counters.add("dpn_updates_accepted"),
            Ok(Some(lifetime)) => {
                self.counters.add("dpn_updates_accepted");
                (Status::ACCEPTED, lifetime)
            }
            Err(status) => {
                self.counters.add("dpn_updates_refused");
                (status, 0)
            }
        };
        outputs.push(answer(from, acknowledge(update, status, lifetime, now)));
    }

    /// A DPN says which prefixes of ours it does not let a node have.
    fn hear_of_withheld(&mut self, from: Ipv6Addr, update: &ProxyBindingUpdate, outputs: &mut Vec<Output>) {
        let Some(identifier) = &update.options.mobile_node_identifier else {
            return;
        };
        for withheld in update.options.prefix_lifetimes.iter().filter(|it| it.valid == 0) {
            self.counters.add("dpn_prefixes_withheld");
            let prefix = withheld.prefix;
            let text =
                format!("DPN {from} does not let {identifier} have {prefix}: another node has it there");
            let event = Event::new("dpn_prefix_withheld", text)
                .with("identifier", identifier)
                .with("prefix", prefix)
                .with("dpn", from);
            outputs.push(Output::Event(event));
        }
    }

    /// The checks of RFC 5213 section 5.3.1. Records the timestamp of what it lets pass.
    fn check_dpn_update(
        &mut self,
        from: Ipv6Addr,
        update: &ProxyBindingUpdate,
        now: Time,
    ) -> Result<MobileNodeIdentifier, Status> {
        let options = &update.options;
        let identifier = options
            .mobile_node_identifier
            .clone()
            .filter(|identifier| !identifier.octets.is_empty())
            .ok_or(Status::MISSING_MN_IDENTIFIER_OPTION)?;
        let node = self.state.nodes.get(&identifier);
        let window = self.settings.timers.timestamp_validity_window;
        let last = node.map_or(0, |node| node.dpn_timestamp);
        let timestamp = check_timestamp(options.timestamp, last, now, window)?;
        let elsewhere = |node: &&Node| node.dpn.as_ref().is_none_or(|dpn| dpn.address != from);
        let newest = node.filter(elsewhere).map_or(0, |node| node.attached_at);
        // Of one that has gone on, or whose session ends, what is known to be over is over, wherever it was.
        let over = |node: &&Node| matches!(node.phase, Phase::Anchored { .. } | Phase::Deregistering);
        let newest = node
            .filter(over)
            .map_or(newest, |node| node.attached_at.saturating_add(1));
        if update.lifetime != 0 && is_stale(options, newest) {
            // It is at another of our places by now.
            return Err(Status::NOT_LMA_FOR_THIS_MOBILE_NODE);
        }
        let prefixes = requested_prefixes(options);
        if prefixes.is_empty() {
            return Err(Status::MISSING_HOME_NETWORK_PREFIX_OPTION);
        }
        let handoff = options
            .handoff_indicator
            .ok_or(Status::MISSING_HANDOFF_INDICATOR_OPTION)?;
        if options.access_technology_type.is_none() {
            return Err(Status::MISSING_ACCESS_TECH_TYPE_OPTION);
        }
        // `::/0` asks for whatever the node has.
        let unknown = |prefix: &&Ipv6Net| {
            prefix.prefix_len() != 0
                && !node.is_some_and(|node| node.prefixes_told().any(|its| its == **prefix))
        };
        if handoff == RE_REGISTRATION && update.lifetime != 0 {
            let at = |node: &Node| node.dpn.as_ref().is_some_and(|dpn| dpn.address == from);
            let here = |node: &&Node| matches!(node.phase, Phase::Attached | Phase::Registering);
            if !node.filter(here).is_some_and(at) {
                return Err(Status::NOT_LMA_FOR_THIS_MOBILE_NODE);
            }
            if prefixes.iter().any(|prefix| unknown(&prefix)) {
                return Err(Status::BCE_PBU_PREFIX_SET_DO_NOT_MATCH);
            }
        } else if update.lifetime != 0 && prefixes.iter().any(|prefix| unknown(&prefix)) {
            return Err(Status::NOT_AUTHORIZED_FOR_HOME_NETWORK_PREFIX);
        }
        if let Some(node) = self.state.nodes.get_mut(&identifier) {
            node.dpn_timestamp = timestamp;
        }
        Ok(identifier)
    }

    /// The node has left the link of a DPN. What comes from one that it had left before changes nothing (RFC 5213
    /// section 5.3.5).
    fn left_dpn(
        &mut self,
        from: Ipv6Addr,
        identifier: &MobileNodeIdentifier,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        let Some(node) = self.state.nodes.get_mut(identifier) else {
            return;
        };
        let Some(dpn) = node.dpn.as_mut().filter(|dpn| dpn.address == from) else {
            return self.counters.add("dpn_updates_late");
        };
        dpn.told.clear();
        dpn.asked = None;
        dpn.expires_at = None;
        if node.phase == Phase::Detached {
            return;
        }
        self.detached(identifier, false, now, outputs);
    }

    fn attached_at_dpn(
        &mut self,
        from: Ipv6Addr,
        identifier: &MobileNodeIdentifier,
        update: &ProxyBindingUpdate,
        now: Time,
        outputs: &mut Vec<Output>,
    ) -> Result<(), Status> {
        let options = &update.options;
        let told = options.link_layer_identifier.as_deref();
        let link_layer_address = told.and_then(|octets| octets.try_into().ok());
        let link_layer_address = link_layer_address.map(LinkLayerAddress).unwrap_or_default();
        let link_local_address = link_layer_address.link_local();
        self.attached(
            identifier.clone(),
            Place::Dpn(from, is_late(options).then(|| attachment_time(options))),
            link_layer_address,
            link_local_address,
            now,
            outputs,
        );
        let node = self.state.nodes.get_mut(identifier);
        let Some(node) = node.filter(|node| node.dpn.as_ref().is_some_and(|dpn| dpn.address == from)) else {
            return Err(Status::INSUFFICIENT_RESOURCES);
        };
        node.dpn_timestamp = options.timestamp.unwrap_or_default();
        // Before it is answered, for the tunnel is agreed on in both directions at once.
        self.own_endpoint(identifier);
        self.forget_tunnels(identifier);
        Ok(())
    }

    /// The binding of a DPN lives on; its update is answered when the node is served.
    fn renew_dpn(
        &mut self,
        from: Ipv6Addr,
        identifier: &MobileNodeIdentifier,
        update: &ProxyBindingUpdate,
        now: Time,
    ) -> Result<(), Status> {
        let kind = self.settings.tunnel;
        let told = update.options.only_endpoint(from);
        let told = told.filter(|endpoint| endpoint.is_of(kind));
        self.arrange_tunnels(identifier, &[from], |_| told);
        let lifetime = update.lifetime.min(self.binding_lifetime_units());
        let node = self.state.nodes.get_mut(identifier);
        let dpn = node.and_then(|node| node.dpn.as_mut());
        let dpn = dpn.ok_or(Status::NOT_LMA_FOR_THIS_MOBILE_NODE)?;
        dpn.expires_at = Some(now.after(lifetime_span(lifetime)));
        dpn.asked = Some(update.clone());
        self.reschedule(identifier);
        Ok(())
    }

    /// Tells DPNs what has changed for them.
    pub(super) fn settle_dpns(&mut self, now: Time, outputs: &mut Vec<Output>) {
        for identifier in std::mem::take(&mut self.touched) {
            self.settle_dpn(&identifier, now, outputs);
        }
        for (address, identifier) in std::mem::take(&mut self.left) {
            self.notify(address, &identifier, now, outputs);
        }
    }

    fn settle_dpn(&mut self, identifier: &MobileNodeIdentifier, now: Time, outputs: &mut Vec<Output>) {
        let Some(node) = self.state.nodes.get_mut(identifier) else {
            return;
        };
        let phase = node.phase.clone();
        let has: Vec<_> = node.prefixes_told().collect();
        let ended = node.ended.clone();
        let Some(dpn) = node.dpn.as_mut() else {
            return;
        };
        let address = dpn.address;
        let refusal = match phase {
            // The CMD has to answer first.
            Phase::Registering => return,
            Phase::Attached => match dpn.asked.take() {
                Some(update) => return self.answer_dpn(identifier, address, &update, now, outputs),
                // By themselves: a prefix may pass from those to these at once.
                None if same(&has, &dpn.told) && same(&ended, &dpn.told_ended) => return,
                None => return self.notify(address, identifier, now, outputs),
            },
            Phase::Refused { status } => status,
            Phase::Detached | Phase::Anchored { .. } | Phase::Deregistering => {
                Status::NOT_LMA_FOR_THIS_MOBILE_NODE
            }
        };
        let asked = dpn.asked.take();
        let knew = !std::mem::take(&mut dpn.told).is_empty();
        dpn.expires_at = None;
        // What the node sends until its link is really down is still its own.
        if phase != Phase::Detached {
            node.dpn = None;
        }
        match asked {
            Some(update) => outputs.push(answer(address, acknowledge(&update, refusal, 0, now))),
            None if knew => self.notify(address, identifier, now, outputs),
            None => {}
        }
        self.forget_tunnels(identifier);
        self.reschedule_only(identifier);
    }

    /// A DPN that does not renew its binding is gone, and the node with it.
    pub(super) fn expire_dpn(
        &mut self,
        identifier: &MobileNodeIdentifier,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        let Some(node) = self.state.nodes.get_mut(identifier) else {
            return;
        };
        let due = |dpn: &&mut DpnBinding| dpn.expires_at.is_some_and(|at| at <= now);
        let Some(dpn) = node.dpn.as_mut().filter(due) else {
            return;
        };
        dpn.expires_at = None;
        dpn.asked = None;
        dpn.told.clear();
        self.counters.add("dpn_bindings_expired");
        let text = format!(
            "{identifier}: DPN {} did not renew the binding in time",
            dpn.address
        );
        let event = Event::new("dpn_binding_expired", text).with("identifier", identifier);
        outputs.push(Output::Event(event));
        self.detached(identifier, false, now, outputs);
    }
}

impl Node {
    /// What its DPN has to advertise, the prefix for new flows first.
    fn prefixes_told(&self) -> impl Iterator<Item = Ipv6Net> + '_ {
        self.own_prefixes()
            .chain(self.previous.iter().map(|it| it.prefix))
    }
}

fn same(one: &[Ipv6Net], other: &[Ipv6Net]) -> bool {
    one.len() == other.len()
        && one.first() == other.first()
        && one.iter().all(|prefix| other.contains(prefix))
}

fn answer(to: Ipv6Addr, acknowledgement: crate::wire::mobility::ProxyBindingAcknowledgement) -> Output {
    let message = MobilityMessage::ProxyBindingAcknowledgement(acknowledgement);
    Output::Send { to, message }
}
