//! What a DPN knows: the part that is stored, shown, and turned into forwarding state.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::num::NonZeroU32;

use ipnet::Ipv6Net;
use serde::{Deserialize, Serialize};

use crate::identity::{LinkLayerAddress, MobileNodeIdentifier};
use crate::maar::{NodeTunnel, TeidSequence};
use crate::proxy_binding::Exchange;
use crate::time::Time;
use crate::wire::mobility::Status;

/// Id of the IPv6-in-IPv6 tunnel to the DPA, which all nodes share.
pub const SHARED_TUNNEL: u32 = 1;

/// Everything that a DPN must not forget.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Every node on a link of it, and those that have just left.
    pub nodes: BTreeMap<MobileNodeIdentifier, Node>,
    /// The id that a tunnel of a node's own got last.
    pub last_tunnel_id: u32,
    /// TEIDs to come.
    pub teids: TeidSequence,
}

/// One mobile node, as this DPN sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// The access port it was last seen on.
    pub port: String,
    /// Its link-layer address.
    pub link_layer_address: LinkLayerAddress,
    /// Its link-local address, to which advertisements go.
    pub link_local_address: Ipv6Addr,
    /// When it attached here last, in the form of a timestamp.
    pub attached_at: u64,
    /// Where it stands.
    pub phase: Phase,
    /// What the DPA said that it may use, the prefix for new flows first.
    pub prefixes: Vec<Prefix>,
    /// What it said that the node has to give up, which it may have from elsewhere.
    #[serde(default)]
    pub ended: Vec<Ipv6Net>,
    /// What it said that the node may use, and what another node has here: the DPA is told with each registration.
    #[serde(default)]
    pub withheld: Vec<Ipv6Net>,
    /// Number of the last Proxy Binding Update sent for it.
    pub sequence: u16,
    /// An update that waits for its acknowledgement.
    pub exchange: Option<Exchange>,
    /// The DPA has asked for a registration meanwhile: another one follows this exchange.
    pub again: bool,
    /// It has asked for this one: it knows the node, so what it refuses is over.
    #[serde(default)]
    pub notified: bool,
    /// It attached again meanwhile: the next registration is one of an attachment, not a mere renewal.
    pub reattached: bool,
    /// When the DPA accepted it last.
    pub registered_at: Time,
    /// When the binding ends; of one that is no more, when it is forgotten.
    pub expires_at: Option<Time>,
    /// When to register again; of a refused node: not before this.
    pub refresh_at: Option<Time>,
    /// When to send the next unsolicited advertisement; `None` unless attached.
    pub advertise_at: Option<Time>,
    /// TEID, or GRE key, on which this DPN takes its packets, once it was offered.
    pub teid: Option<NonZeroU32>,
    /// Its own tunnel to the DPA; without one it uses [`SHARED_TUNNEL`].
    pub tunnel: Option<NodeTunnel>,
}

/// A prefix of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prefix {
    /// The prefix.
    pub prefix: Ipv6Net,
    /// An older one: no new flow is to begin on it.
    pub deprecated: bool,
    /// When that begins; `None`: the DPA does not say.
    pub preferred_until: Option<Time>,
    /// When it is not the node's any more; `None`: the DPA does not say.
    pub valid_until: Option<Time>,
}

/// Where a node stands at this DPN.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// On the link; the DPA has not answered yet.
    Registering,
    /// On the link and served.
    Attached,
    /// On the link, but the DPA said no.
    Refused {
        /// What it said.
        status: Status,
    },
    /// Left the link; the DPA is being told, or has been a moment ago.
    Deregistering,
}

impl Node {
    /// The earliest of its timers.
    pub(super) fn next_deadline(&self) -> Option<Time> {
        let retransmit_at = self.exchange.as_ref().map(|exchange| exchange.retransmit_at);
        // While an exchange is under way, a registration that is due waits for its end.
        let refresh_at = self.refresh_at.filter(|_| self.exchange.is_none());
        let refused = matches!(self.phase, Phase::Refused { .. });
        [
            retransmit_at,
            refresh_at.filter(|_| !refused),
            self.advertise_at,
            self.expires_at,
        ]
        .into_iter()
        .flatten()
        .min()
    }
}
