//! What a CMD knows: the part that is stored and shown.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;

use ipnet::Ipv6Net;
use kedge_config::PolicyRule;
use serde::{Deserialize, Serialize};

use super::charging::Contexts;
use crate::identity::MobileNodeIdentifier;
use crate::time::Time;
use crate::wire::mobility::TunnelType;

/// The binding cache of the domain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// One binding for each node.
    pub bindings: BTreeMap<MobileNodeIdentifier, Binding>,
    /// Number of the last Proxy Binding Update sent to each MAAR.
    pub sequences: BTreeMap<Ipv6Addr, u16>,
    /// Anchors that are being moved, by prefix.
    #[serde(default)]
    pub relocations: BTreeMap<Ipv6Net, Relocation>,
    /// MAARs whose prefixes are to go to where the nodes are.
    #[serde(default)]
    pub draining: BTreeSet<Ipv6Addr>,
    /// Policies that operators have put, by name; those of the configuration are not among them.
    #[serde(default)]
    pub policies: BTreeMap<String, PolicyRule>,
    /// Prefixes that MAARs are being told to release, because the session is over or has too many anchors.
    pub releases: Vec<Release>,
    /// What is on its way between anchors.
    #[serde(default)]
    pub contexts: Contexts,
}

/// A MAAR that is being told to release a prefix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Whose prefix it was.
    pub identifier: MobileNodeIdentifier,
    /// The MAAR that anchors it.
    pub address: Ipv6Addr,
    /// The prefix.
    pub prefix: Ipv6Net,
    /// As the serving MAAR told it; the update has to carry one.
    pub access_technology_type: u8,
    /// The MAAR of whose pool the prefix is, where that is another one: it may give the prefix to others when
    /// this one has let it go.
    #[serde(default)]
    pub home: Option<Ipv6Addr>,
    /// The MAAR that goes on anchoring the prefix: a relocation to this one was given up. `None`: nobody does.
    #[serde(default)]
    pub stays_at: Option<Ipv6Addr>,
    /// Where the node is, which the MAAR may not know: the prefix ends because it has moved on.
    #[serde(default)]
    pub moved_to: Option<Ipv6Addr>,
    /// The update on its way.
    pub exchange: Exchange,
}

/// The anchor of a prefix on its way from one MAAR to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relocation {
    /// Whose prefix it is.
    pub identifier: MobileNodeIdentifier,
    /// The old anchor.
    pub from: Ipv6Addr,
    /// The new one, which serves the node.
    pub to: Ipv6Addr,
    /// Where it stands.
    pub phase: RelocationPhase,
    /// The update on its way.
    pub exchange: Exchange,
    /// When it was begun.
    pub started_at: Time,
    /// The old anchor has answered while it is `Preparing`: what it has handed over is on its way to the new one.
    #[serde(default)]
    pub prepared: bool,
}

/// Where a relocation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RelocationPhase {
    /// The old anchor is asked for what the new one is to have before: filters, and what is left in meters.
    Preparing,
    /// The new anchor is asked to take the prefix, which is still the old one's.
    Taking,
    /// The new one has it; the old one is told.
    Yielding,
}

/// A prefix that the serving MAAR anchors though it is of another's pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdoptedPrefix {
    /// The prefix.
    pub prefix: Ipv6Net,
    /// The MAAR of whose pool it is.
    pub home: Ipv6Addr,
    /// When the node first moved on from where it got it; `None`: it has not, or nobody knows.
    #[serde(default)]
    pub left_at: Option<Time>,
}

/// Where a node is and which MAARs anchor its prefixes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// The serving MAAR (Proxy-CoA).
    pub serving: Ipv6Addr,
    /// Prefixes that the serving MAAR gave it and anchors.
    pub prefixes: Vec<Ipv6Net>,
    /// Prefixes that were relocated to the serving MAAR, oldest first.
    #[serde(default)]
    pub adopted: Vec<AdoptedPrefix>,
    /// The P-MAAR list, oldest first; at most one entry for each (MAAR, prefix).
    pub previous: Vec<Previous>,
    /// Prefixes that ended when the node moved on, by policy; of those that it had last.
    #[serde(default)]
    pub ended: Vec<Ipv6Net>,
    /// Where it stands.
    pub phase: BindingPhase,
    /// When it ends unless renewed.
    pub expires_at: Time,
    /// Sequence number of the last update accepted.
    pub sequence: u16,
    /// Timestamp of the last update accepted (RFC 5213 section 5.5).
    pub last_timestamp: u64,
    /// When the node attached where it is, as its MAAR tells: in the form of a timestamp.
    #[serde(default)]
    pub attached_at: u64,
    /// As the serving MAAR told it.
    pub access_technology_type: u8,
    /// As the serving MAAR told it.
    pub link_layer_identifier: Option<Vec<u8>>,
    /// The endpoint that each MAAR offered last for this node: the serving one, and those in `previous`.
    #[serde(default)]
    pub offered_endpoints: BTreeMap<Ipv6Addr, TunnelType>,
    /// It came out of the store and no MAAR has renewed it since: a move may have been forgotten.
    #[serde(skip)]
    pub restored: bool,
}

/// Where a binding stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BindingPhase {
    /// In use.
    Active,
    /// De-registered; revived by an update before MinDelayBeforeBCEDelete is over.
    Deregistered,
}

/// An entry of the P-MAAR list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Previous {
    /// The MAAR.
    pub address: Ipv6Addr,
    /// The prefix it anchors.
    pub prefix: Ipv6Net,
    /// The MAAR of whose pool the prefix is, where that is another one.
    #[serde(default)]
    pub home: Option<Ipv6Addr>,
    /// When the node first moved on from where it got it; `None`: nobody knows.
    #[serde(default)]
    pub left_at: Option<Time>,
    /// When policy wants it relocated for its age.
    #[serde(default)]
    pub relocate_at: Option<Time>,
    /// It is to be relocated, and waits for its turn.
    #[serde(default)]
    pub wanted: bool,
    /// When its anchor confirmed where the node is now.
    #[serde(default)]
    pub tunnelled_since: Option<Time>,
    /// Whether it knows where the node is.
    pub phase: PreviousPhase,
    /// What is between it and the serving MAAR; `None`: IPv6-in-IPv6. What both ends are told, until the
    /// serving one registers again.
    #[serde(default)]
    pub tunnel: Option<AgreedTunnel>,
}

/// Both ends of a tunnel for one node, of one type, each to be told of the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgreedTunnel {
    /// By what the serving MAAR takes the node's packets.
    pub serving: TunnelType,
    /// By what the previous MAAR takes them.
    pub previous: TunnelType,
}

/// Whether a P-MAAR knows where the node is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PreviousPhase {
    /// An update is on its way.
    Updating(Exchange),
    /// It has said yes.
    Confirmed,
    /// It has said no: the prefix is lost there.
    Refused,
}

/// An update on its way to a P-MAAR.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchange {
    /// Sequence numbers of its last transmissions; an answer to any of them counts.
    pub sequences: Vec<u16>,
    /// How often it was sent.
    pub transmissions: u32,
    /// When to send again.
    pub retransmit_at: Time,
    /// How long to wait after that.
    pub next_timeout_ms: u64,
}
