//! The update of a gateway for a node on its link, from the first transmission to its answer: of a MAAR with the CMD, of a
//! DPN with its DPA.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::handoff_indicator::RE_REGISTRATION;
use super::{back_off, remember};
use crate::identity::{LinkLayerAddress, MobileNodeIdentifier};
use crate::time::Time;
use crate::wire::mobility::{
    MobilityOptions, ProxyBindingAcknowledgement, ProxyBindingUpdate, timestamp_from_time,
};

/// An update on its way, sent once or several times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchange {
    /// Sequence numbers of all its transmissions; an answer to any of them counts.
    pub sequences: Vec<u16>,
    /// Index into the configured CMD addresses; 0 at a DPN, which has one DPA.
    #[serde(default)]
    pub cmd: usize,
    /// Handoff Indicator as sent; an answer must echo it.
    pub handoff_indicator: u8,
    /// In units of 4 s as sent; 0 = de-registration.
    pub lifetime: u16,
    /// When to send again.
    pub retransmit_at: Time,
    /// How long to wait after that.
    pub next_timeout_ms: u64,
    /// When the first transmission left.
    pub started_at: Time,
    /// When the node had attached, as far as it tells, in the form of a timestamp.
    #[serde(default)]
    pub attached_at: u64,
    /// The same of each of `sequences`: a node may attach again while an update is on its way.
    #[serde(default)]
    pub told: Vec<u64>,
    /// It says when the node had attached even though it is a mere renewal: whoever asked for it may have forgotten.
    #[serde(default)]
    pub tells_attachment: bool,
}

/// What every update for a node tells of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OnLink<'a> {
    pub(crate) identifier: &'a MobileNodeIdentifier,
    pub(crate) link_layer_address: &'a LinkLayerAddress,
    pub(crate) access_technology_type: u8,
    /// When it attached, in the form of a timestamp.
    pub(crate) attached_at: u64,
}

impl Exchange {
    /// One of which nothing has been sent yet.
    pub(crate) fn new(
        handoff_indicator: u8,
        lifetime: u16,
        first_timeout: Duration,
        attached_at: u64,
        now: Time,
    ) -> Self {
        Self {
            sequences: Vec::new(),
            cmd: 0,
            handoff_indicator,
            lifetime,
            retransmit_at: now.after(first_timeout),
            next_timeout_ms: u64::try_from(first_timeout.as_millis()).unwrap_or(u64::MAX),
            started_at: now,
            attached_at,
            told: Vec::new(),
            tells_attachment: false,
        }
    }

    /// The update to send now, with a number and a timestamp of its own (RFC 5213 section 5.5: a repeated timestamp would
    /// be refused). Of prefixes it says nothing yet.
    pub(crate) fn update(
        &mut self,
        sequence: u16,
        flags: u16,
        node: OnLink<'_>,
        now: Time,
    ) -> ProxyBindingUpdate {
        remember(&mut self.sequences, sequence);
        let attaches =
            self.lifetime != 0 && (self.tells_attachment || self.handoff_indicator != RE_REGISTRATION);
        if attaches {
            self.attached_at = node.attached_at;
        }
        remember(&mut self.told, self.attached_at);
        ProxyBindingUpdate {
            sequence,
            flags,
            lifetime: self.lifetime,
            options: MobilityOptions {
                mobile_node_identifier: Some(node.identifier.clone()),
                handoff_indicator: Some(self.handoff_indicator),
                access_technology_type: Some(node.access_technology_type),
                timestamp: Some(timestamp_from_time(now)),
                link_layer_identifier: Some(node.link_layer_address.0.to_vec()),
                attachment_time: attaches.then_some(node.attached_at),
                ..MobilityOptions::default()
            },
        }
    }

    /// This exchange as that transmission of it has it which `acknowledgement` answers; `None`: it answers none.
    pub(crate) fn answered(&self, acknowledgement: &ProxyBindingAcknowledgement) -> Option<Self> {
        let sent = self.sequences.iter().rev().zip(self.told.iter().rev());
        let mut sent = sent.filter(|(sequence, _)| **sequence == acknowledgement.sequence);
        let attached_at = sent.next().map(|(_, told)| *told);
        let known = self.sequences.contains(&acknowledgement.sequence);
        known.then(|| Self {
            attached_at: attached_at.unwrap_or(self.attached_at),
            ..self.clone()
        })
    }

    /// Whether an answer says again what was sent; only then it counts (RFC 5213 section 6.9.1.2).
    pub(crate) fn is_echoed(
        &self,
        answer: &MobilityOptions,
        access_technology_type: u8,
        link_layer_address: &LinkLayerAddress,
    ) -> bool {
        let link_layer = answer.link_layer_identifier.as_deref();
        answer.handoff_indicator == Some(self.handoff_indicator)
            && answer.access_technology_type == Some(access_technology_type)
            && link_layer.is_none_or(|it| it == link_layer_address.0)
    }

    /// Nobody has answered in time: the next answer may take longer, `maximum` at most.
    pub(crate) fn wait_longer(&mut self, maximum: Duration, now: Time) {
        self.next_timeout_ms = back_off(self.next_timeout_ms, maximum);
        self.retransmit_at = now.after(Duration::from_millis(self.next_timeout_ms));
    }
}
