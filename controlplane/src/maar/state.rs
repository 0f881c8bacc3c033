//! What a MAAR knows: the part that is stored, shown, and turned into forwarding state.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;

use ipnet::Ipv6Net;
use kedge_config::{FilterRule, Meter};
use serde::{Deserialize, Serialize};

use super::charging::Charging;
use super::dpn::DpnBinding;
use super::end_markers::EndedBy;
use super::teid::TeidSequence;
use crate::charging::Fill;
use crate::identity::{LinkLayerAddress, MobileNodeIdentifier};
use crate::proxy_binding::Exchange;
use crate::time::Time;
use crate::wire::mobility::{ProxyBindingUpdate, Status, TunnelType};

/// Everything a MAAR must not forget.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Every node that is attached here or anchored here.
    pub nodes: BTreeMap<MobileNodeIdentifier, Node>,
    /// Id of the IPv6-in-IPv6 tunnel to every MAAR that was ever a peer; ids start at 1 and are never reused.
    pub tunnel_ids: BTreeMap<Ipv6Addr, u32>,
    /// The tunnel id that was given out last, here or in [`Node::tunnels`].
    #[serde(default)]
    pub last_tunnel_id: u32,
    /// TEIDs to come.
    #[serde(default)]
    pub teids: TeidSequence,
    /// Filters that operators have added, by name; those of the configuration are not among them.
    #[serde(default)]
    pub filters: BTreeMap<String, FilterRule>,
    /// Ids of those of their filters that nobody needs any more.
    #[serde(default)]
    pub expired_filters: BTreeSet<u64>,
    /// Of those that came with prefixes from other anchors: for which prefixes they are. Others are for all of their nodes.
    #[serde(default)]
    pub filter_prefixes: BTreeMap<String, BTreeSet<Ipv6Net>>,
    /// Of the others, for which prefixes they have gone to another anchor: of what comes by a tunnel from there they are asked there.
    #[serde(default)]
    pub filters_away: BTreeMap<String, BTreeSet<Ipv6Net>>,
    /// The same of those that have come back, with such a prefix or ahead of it.
    #[serde(default)]
    pub filters_back: BTreeMap<String, BTreeSet<Ipv6Net>>,
    /// When filters were added that have a lifetime.
    #[serde(default)]
    pub filter_since: BTreeMap<String, Time>,
    /// Meters that came with them, and that the configuration does not have.
    #[serde(default)]
    pub meters: BTreeMap<String, Meter>,
    /// What was left in the meters of filters that came, where they come from, by the names of those.
    #[serde(default)]
    pub meter_fills: BTreeMap<String, MeterFill>,
    /// What was counted.
    #[serde(default)]
    pub charging: Charging,
    /// Prefixes that were anchored here and are anchored by another MAAR now. One of our pools stays here, given to
    /// nobody, until the CMD says that the session is over.
    #[serde(default)]
    pub yielded: BTreeMap<Ipv6Net, Yielded>,
    /// Pools that a DHCPv6 server has delegated; `None`: none ever could have.
    #[serde(default)]
    pub delegated: Option<Vec<DelegatedPool>>,
    /// Until when what was delegated by name is valid, where that has an end: what was relocated here.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub delegated_until: BTreeMap<Ipv6Net, Time>,
    /// The same of prefixes for networks behind nodes, over their pools.
    #[serde(default)]
    pub next_network: u64,
    /// Number of the /64, counted over all pools, at which the search for a free one begins.
    pub next_prefix: u64,
}

/// A pool that a DHCPv6 server has delegated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DelegatedPool {
    /// All of it.
    pub prefix: Ipv6Net,
    /// The part that is not ours (RFC 6603).
    pub exclude: Option<Ipv6Net>,
    /// When no node gets a prefix of it any more; `None`: never.
    pub preferred_until: Option<Time>,
    /// When it is gone; `None`: never.
    pub valid_until: Option<Time>,
}

/// One mobile node, as this MAAR sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// The access port it was last seen on; empty where that is a DPN's.
    pub port: String,
    /// The DPN that it is at, where it is at one.
    #[serde(default)]
    pub dpn: Option<DpnBinding>,
    /// When it attached here last, in the form of a timestamp.
    #[serde(default)]
    pub attached_at: u64,
    /// Timestamp of the newest update accepted from a DPN (RFC 5213 section 5.5).
    #[serde(default)]
    pub dpn_timestamp: u64,
    /// Its link-layer address.
    pub link_layer_address: LinkLayerAddress,
    /// Its link-local address, to which advertisements go.
    pub link_local_address: Ipv6Addr,
    /// Where it stands.
    pub phase: Phase,
    /// The prefix that this MAAR gave it and anchors.
    pub home_network_prefix: Ipv6Net,
    /// The CMD has never said a word of that prefix: it may know this MAAR for others that were relocated here, and
    /// would not release this one with them.
    #[serde(default)]
    pub home_unheard: bool,
    /// The CMD knows of that prefix. Until then the node is offered nothing, and nothing is forwarded.
    pub registered: bool,
    /// The MAAR that served it when the CMD last said so; `None` once it is served here. A registration
    /// that is given up falls back to this.
    pub last_serving: Option<Ipv6Addr>,
    /// Prefixes anchored elsewhere, while attached here; oldest first.
    pub previous: Vec<Previous>,
    /// Prefixes that it uses no more and that the CMD was told of, each with the number of the update.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub giving_up: Vec<(Ipv6Net, u16)>,
    /// Prefixes that it had and that have ended, by policy of the CMD: it is told so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ended: Vec<Ipv6Net>,
    /// When older prefixes of it end, by policy of the CMD.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ends: BTreeMap<Ipv6Net, Time>,
    /// Prefixes that were relocated here and go home, for they are not delegated to us any more: when the CMD is told, again.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub going_home: BTreeMap<Ipv6Net, Time>,
    /// Of those in `ends` and `going_home`, how often the CMD was told so in a row and has not agreed.
    #[serde(skip)]
    pub told_in_vain: BTreeMap<Ipv6Net, u32>,
    /// Of those in `previous`, how many octets each may carry before the CMD is asked to have it anchored here.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub detour_limits: BTreeMap<Ipv6Net, u64>,
    /// Numbers of the last updates that asked so.
    #[serde(skip)]
    pub asking: Vec<u16>,
    /// The prefix of the network behind it, of which the CMD has not heard yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_asked: Option<Ipv6Net>,
    /// When the prefix of the network behind it is not valid any more; `None`: there is none, or it is as long as the
    /// session.
    #[serde(default)]
    pub network_until: Option<Time>,
    /// Prefixes that other MAARs gave it and this one anchors now, besides `home_network_prefix`, and those of
    /// networks behind it; oldest first.
    #[serde(default)]
    pub adopted: Vec<Adopted>,
    /// What `previous` was when it left for another MAAR: what its anchors still have on the way here
    /// follows it.
    #[serde(default)]
    pub leaving: Vec<Previous>,
    /// When nothing of that can be on the way any more.
    #[serde(default)]
    pub leaving_until: Option<Time>,
    /// Of those in `previous` and `leaving`, the MAARs whose GTP-U tunnel to here has brought its last.
    #[serde(skip)]
    pub ended_by: Vec<EndedBy>,
    /// When that is said to the MAAR that serves it now.
    #[serde(skip)]
    pub relay_at: Option<Time>,
    /// When the MAAR that serves it now is ready for its packets; they wait until then.
    #[serde(default)]
    pub release_at: Option<Time>,
    /// It has just come from another MAAR, which may still have packets of its.
    #[serde(default)]
    pub arriving: Option<Arriving>,
    /// Number of the last Proxy Binding Update sent for it.
    pub sequence: u16,
    /// An update that waits for its acknowledgement.
    pub exchange: Option<Exchange>,
    /// When the binding ends. While anchored here and served elsewhere the CMD says that (RFC 8885 section 3.5 (a)), and this is
    /// how long it is waited for to say a word of the home network prefix; `None` when it has.
    pub expires_at: Option<Time>,
    /// When the CMD accepted it last.
    pub registered_at: Time,
    /// It attached again since: the next registration is one of an attachment, not a mere renewal.
    pub reattached: bool,
    /// The CMD may have forgotten when it attached: the next registration says so again.
    #[serde(default)]
    pub tells_attachment: bool,
    /// When to register again; `None` unless attached. For a refused node: not before this.
    pub refresh_at: Option<Time>,
    /// When to send the next unsolicited advertisement; `None` unless attached.
    pub advertise_at: Option<Time>,
    /// Timestamp of the newest update accepted from the CMD (RFC 5213 section 5.5).
    pub last_timestamp: u64,
    /// TEID, or GRE key, on which this MAAR takes the node's packets from any peer; as long as the node is known here,
    /// once it was offered.
    #[serde(default)]
    pub teid: Option<NonZeroU32>,
    /// Its own tunnels by peer: of those in `previous` and of `last_serving`. To a peer without one
    /// leads that of [`State::tunnel_ids`].
    #[serde(default, alias = "gtpu_tunnels")]
    pub tunnels: BTreeMap<Ipv6Addr, NodeTunnel>,
}

impl State {
    /// The prefixes of a node that this MAAR anchors.
    pub fn anchored<'a>(&'a self, node: &'a Node) -> impl Iterator<Item = Ipv6Net> + 'a {
        node.own_prefixes()
            .filter(|prefix| !self.yielded.contains_key(prefix))
    }

    /// The MAAR that anchors a prefix which was anchored here until just now: what still comes here goes there.
    #[must_use]
    pub fn passed_on(&self, prefix: &Ipv6Net) -> Option<Ipv6Addr> {
        let yielded = self.yielded.get(prefix).filter(|it| it.until.is_some());
        yielded.map(|it| it.to)
    }
}

impl State {
    /// The prefixes of a node that this MAAR anchors though no pool of its own is announced for them, or leads here for
    /// sure: what was relocated here. `pools` are those of the configuration.
    pub fn relocated<'a>(
        &'a self,
        node: &'a Node,
        pools: &'a [Ipv6Net],
    ) -> impl Iterator<Item = Ipv6Net> + 'a {
        let delegated = || self.delegated.iter().flatten().map(|pool| pool.prefix);
        self.anchored(node).filter(move |prefix| {
            let ours = pools
                .iter()
                .copied()
                .chain(delegated())
                .any(|pool| pool.contains(prefix));
            !ours || node.adopted.iter().any(|it| it.prefix == *prefix && !it.given)
        })
    }
}

impl Node {
    /// The prefix that it got here, and those that were relocated here.
    pub fn own_prefixes(&self) -> impl Iterator<Item = Ipv6Net> + '_ {
        let adopted = self.adopted.iter().map(|it| it.prefix);
        std::iter::once(self.home_network_prefix).chain(adopted)
    }

    /// By what `peer` takes its packets, where that was agreed on.
    #[must_use]
    pub fn tunnel_type(&self, peer: Ipv6Addr) -> Option<TunnelType> {
        Some(self.tunnels.get(&peer)?.remote)
    }

    /// By what packets go to a peer: without a tunnel of the node's own, by the one that all nodes share.
    #[must_use]
    pub fn way_to(&self, peer: Ipv6Addr) -> TunnelType {
        self.teid
            .and(self.tunnel_type(peer))
            .unwrap_or(TunnelType::Ipv6InIpv6)
    }
}

/// A prefix whose anchor was relocated to this MAAR (RFC 8818 section 4.2.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adopted {
    /// The prefix.
    pub prefix: Ipv6Net,
    /// It was given here, for the network behind the node, and no other MAAR has had it.
    #[serde(default)]
    pub given: bool,
    /// The MAAR that anchored it before; our own address where nobody knows any more.
    pub from: Ipv6Addr,
    /// When it was taken.
    pub since: Time,
    /// The CMD's update, answered as soon as routes lead here. Until then the node's own packets leave
    /// through the old anchor.
    pub asked: Option<Asked>,
    /// Packets that come straight here wait for those that still come from the old anchor, for so many milliseconds
    /// from `since` on at most.
    pub wait_ms: u32,
    /// Until when packets are taken that come from the old anchor nevertheless; unbounded while `asked`.
    pub arriving_until: Option<Time>,
    /// Until when the old anchor has the prefix's filters, for sure; unbounded while `asked`.
    #[serde(default)]
    pub filtered_until: Option<Time>,
    /// The node's own packets wait until those before them have left the old anchor.
    pub uplink_at: Option<Time>,
}

impl Adopted {
    /// Whether packets may still come from the old anchor.
    #[must_use]
    pub fn is_coming(&self) -> bool {
        self.asked.is_some() || self.arriving_until.is_some()
    }

    /// Whether filters were asked at the old anchor about all that comes from there.
    #[must_use]
    pub fn is_asked_there(&self) -> bool {
        self.asked.is_some() || self.filtered_until.is_some()
    }
}

/// An update of the CMD that waits for its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// Who gets the answer.
    pub cmd: Ipv6Addr,
    /// What is answered.
    pub update: ProxyBindingUpdate,
}

/// A prefix whose anchor was relocated to another MAAR.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Yielded {
    /// Whose it is.
    pub identifier: MobileNodeIdentifier,
    /// The MAAR that anchors it now.
    pub to: Ipv6Addr,
    /// Routes of ours may still lead here.
    pub withdrawing: bool,
    /// When that MAAR is told that nothing more comes by the old way; `None` before they are gone, and after it was.
    pub path_end_at: Option<Time>,
    /// Until when packets that come here nevertheless follow it there; `None` once that is over.
    pub until: Option<Time>,
}

/// Where a node has just come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arriving {
    /// The MAAR that served it before.
    pub from: Ipv6Addr,
    /// It has come back: the prefix of ours was tunnelled to that MAAR.
    pub home: bool,
    /// When nothing can be on the way from there any more.
    pub until: Time,
}

/// A tunnel of one node to one peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "StoredTunnel")]
pub struct NodeTunnel {
    /// Tunnel id, of the same numbers as [`State::tunnel_ids`]; it stays as long as the peer is one.
    pub id: u32,
    /// By what the peer takes the node's packets.
    pub remote: TunnelType,
}

/// As it is in a store, which may be of a time when there was GTP-U only.
#[derive(Deserialize)]
struct StoredTunnel {
    id: u32,
    remote: Option<TunnelType>,
    remote_teid: Option<NonZeroU32>,
    remote_ipv4: Option<Ipv4Addr>,
}

impl TryFrom<StoredTunnel> for NodeTunnel {
    type Error = &'static str;

    fn try_from(stored: StoredTunnel) -> Result<Self, Self::Error> {
        let ipv4 = stored.remote_ipv4;
        let gtpu = stored.remote_teid.map(|teid| TunnelType::GtpU { teid, ipv4 });
        let remote = stored.remote.or(gtpu).ok_or("a tunnel without its other end")?;
        let id = stored.id;
        Ok(Self { id, remote })
    }
}

/// Where a node stands at this MAAR.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// On the link; the CMD has not answered yet.
    Registering,
    /// On the link and served.
    Attached,
    /// Left the link; the session lives until it expires or the node appears somewhere.
    Detached,
    /// Served by another MAAR; its prefix is tunnelled there.
    Anchored {
        /// The serving MAAR.
        serving: Ipv6Addr,
    },
    /// On the link, but the CMD said no.
    Refused {
        /// What it said.
        status: Status,
    },
    /// The end of the session is being told to the CMD.
    Deregistering,
}

/// A prefix of a node served here that another MAAR anchors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Previous {
    /// The anchoring MAAR.
    pub address: Ipv6Addr,
    /// The prefix.
    pub prefix: Ipv6Net,
}

/// What was left in the buckets of a meter where it comes from, octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeterFill {
    /// What tells it from what came before: microseconds since 1970, when it came.
    pub number: u64,
    /// In the committed bucket.
    pub committed: u64,
    /// In the peak or the excess bucket.
    pub other: u64,
}

impl From<Fill> for MeterFill {
    fn from(Fill { committed, other }: Fill) -> Self {
        Self {
            number: 0,
            committed,
            other,
        }
    }
}
