//! `[maar]`, `[dpn]` and `[cmd]`: what a node of each role is told.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};
use serde::Deserialize;

use super::address::address;
use crate::delegation::{CmdDelegation, MaarDelegation, MobileRouters};

/// `[maar]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Maar {
    /// Addresses of the central mobility database, first one preferred; 1..=8.
    pub cmd: Vec<Ipv6Addr>,
    /// Pools of which home network prefixes (/64) are given out; disjoint, /16../64. May be absent where pools are
    /// delegated.
    #[serde(default)]
    pub prefix_pools: Vec<Ipv6Net>,
    /// Pools that a DHCPv6 server delegates (RFC 8415). Absent: none.
    pub delegation: Option<MaarDelegation>,
    /// Prefixes for the networks behind nodes that are routers. Absent: none.
    pub mobile_routers: Option<MobileRouters>,
    /// Addresses of MAARs to and from which tunnels are allowed; absent = any that the CMD names.
    pub peers: Option<Vec<Peer>>,
    /// DPNs: gateways of role `dpn` that may register nodes of theirs here (RFC 8818 section 4.2.2). Absent: none.
    #[serde(default, rename = "dpn")]
    pub dpns: Vec<KnownDpn>,
    /// Pools of which the IPv4 prefixes of `[[maar.ipv4]]` are: what of them nobody has leads nowhere. Needs
    /// `dataplane.inner_ipv4 = "carry"`.
    #[serde(default)]
    pub ipv4_pools: Vec<Ipv4Net>,
    /// Nodes with IPv4, by configuration: PMIPv6 here is of IPv6. Absent: none.
    #[serde(default, rename = "ipv4")]
    pub ipv4_bindings: Vec<Ipv4Binding>,
    /// Pools of which the prefixes of `[[maar.ipv6]]` are: what of them nobody has leads nowhere, and no node gets a prefix out
    /// of them. Disjoint, from other pools too, /16../64; routed to this node as `prefix_pools` are.
    #[serde(default)]
    pub ipv6_pools: Vec<Ipv6Net>,
    /// Home network prefixes that are reached by tunnels which nobody signals. Absent: none.
    #[serde(default, rename = "ipv6")]
    pub ipv6_bindings: Vec<Ipv6Binding>,
    /// The tunnels that this MAAR would have to and from others. Default `ipv6-in-ipv6`.
    #[serde(default)]
    pub tunnel: TunnelType,
    /// With `tunnel = "gtpu"`: the address of this MAAR's tunnels over IPv4. Two MAARs that both have one use IPv4
    /// between them, others IPv6. It is this node's as `node.address` is, and routed to it. Absent = IPv6 only.
    pub gtpu_ipv4_address: Option<Ipv4Addr>,
    /// Tunnel encapsulation limit of what this MAAR sends by IPv6-in-IPv6, 0..=255: how many more tunnels it may be
    /// put into on its way (RFC 2473 section 4.1.1). Costs 8 octets in each packet. Absent: the option is sent only
    /// where a packet in the tunnel has it itself.
    pub tunnel_encapsulation_limit: Option<u16>,
    /// Whether G-PDUs go out with sequence numbers (3GPP TS 29.281 section 5.1), for peers that put them in order. It
    /// costs four octets a packet and asks for one worker: several would have to share the count of a tunnel, so
    /// `dataplane.workers` must name one core. Default false.
    #[serde(default)]
    pub gtpu_sequence_numbers: bool,
    /// With `tunnel = "gtpu"`: the QoS Flow Identifier of G-PDUs to other gateways, 0..=63. They go out with a PDU Session
    /// Container (3GPP TS 38.415): of PDU type 0 (downlink) to where the node is, of PDU type 1 (uplink) to who anchors its
    /// prefix. It costs 8 octets a packet. Absent: there is no container.
    pub gtpu_qfi: Option<u32>,
    /// Nodes that may be known at once, 1..=10000000. Default 100000.
    #[serde(default = "default_maximum_nodes")]
    pub maximum_nodes: u32,
    /// An older prefix of a node here that has carried no packet for so long is given up: it goes home and its tunnels and
    /// routes go (RFC 8818 FM:3-3), 1..=31536000; 0: it lives as long as the session. Default 0.
    #[serde(default)]
    pub idle_prefix_s: u32,
    /// How often what the data plane counts for charging is read and stored, 1..=3600 seconds: so much of it is lost at most
    /// when the data plane dies. Default 10.
    #[serde(default = "default_charging_interval")]
    pub charging_interval_s: u32,
}

impl Maar {
    /// Its pools of the file: of home network prefixes, of networks behind nodes, and of what is behind tunnels of the file.
    pub fn pools(&self) -> impl Iterator<Item = Ipv6Net> + '_ {
        let networks = self.mobile_routers.iter().flat_map(|it| &it.pools);
        let all = self.prefix_pools.iter().chain(networks).chain(&self.ipv6_pools);
        all.copied()
    }

    /// The tunnels of `[[maar.ipv4]]` and `[[maar.ipv6]]`, each as often as it is there.
    pub fn tunnel_ends(&self) -> impl Iterator<Item = TunnelEnd> + '_ {
        let ipv4 = self.ipv4_bindings.iter().map(TunnelBinding::end);
        ipv4.chain(self.ipv6_bindings.iter().map(TunnelBinding::end))
    }
}

/// An address of `maar.peers`.
pub type Peer = Ipv6Addr;

/// `[[maar.dpn]]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownDpn {
    /// The DPN's `node.address`.
    pub address: Ipv6Addr,
}

/// `[[maar.ipv4]]`: an IPv4 prefix of a node, such as `203.0.113.7/32`; of `maar.ipv4_pools`.
pub type Ipv4Binding = TunnelBinding<Ipv4Net>;

/// `[[maar.ipv6]]`: a home network prefix, such as `2001:db8:7::/64`; of `maar.ipv6_pools`.
pub type Ipv6Binding = TunnelBinding<Ipv6Net>;

/// `[[maar.ipv4]]` and `[[maar.ipv6]]`: a prefix that is reached by a tunnel which nobody signals. Several, of both IP versions,
/// may share one tunnel: they have the same peer, type and identifiers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TunnelBinding<Prefix> {
    /// The node's, or that of the network behind it; without host bits, of one of the pools, disjoint.
    pub prefix: Prefix,
    /// The other end of the tunnel: the only one that its packets may come from. This end is `node.address`, or for
    /// an IPv4 address, which only GTP-U may have, `maar.gtpu_ipv4_address`.
    #[serde(deserialize_with = "address")]
    pub peer: Ipv6Addr,
    /// What its packets look like between the two. Default `ipv6-in-ipv6`: then those of an IPv4 prefix are IPv4 in IPv6
    /// (RFC 2473).
    #[serde(default)]
    pub tunnel: TunnelType,
    /// With `gtpu`: the TEID of what comes in, 1..=4294967295. With `gre`: its key, if it has one, 0..=4294967295.
    pub local_id: Option<u32>,
    /// The same of what goes out.
    pub remote_id: Option<u32>,
    /// With `gtpu`: the QoS Flow Identifier of what goes out, 0..=63, in a PDU Session Container (3GPP TS 38.415), which a
    /// gNB or UPF of 5G asks for. It costs 8 octets a packet. Those that share a tunnel have the same. Absent: there is no
    /// container.
    pub qfi: Option<u32>,
    /// With `qfi`: which way that container says that packets go. Default `downlink`: they go to the node, as from a UPF to
    /// its gNB.
    pub pdu_type: Option<PduType>,
}

impl<Prefix> TunnelBinding<Prefix> {
    /// The tunnel that its prefix is reached by.
    pub fn end(&self) -> TunnelEnd {
        TunnelEnd {
            peer: self.peer,
            tunnel: self.tunnel,
            local_id: self.local_id,
            remote_id: self.remote_id,
            qfi: self.qfi,
            pdu_type: self.pdu_type,
        }
    }
}

/// What a [`TunnelBinding`] says of its tunnel; fields as there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TunnelEnd {
    /// The other end.
    pub peer: Ipv6Addr,
    /// Its type.
    pub tunnel: TunnelType,
    /// TEID or key of what comes in.
    pub local_id: Option<u32>,
    /// TEID or key of what goes out.
    pub remote_id: Option<u32>,
    /// QoS Flow Identifier of what goes out.
    pub qfi: Option<u32>,
    /// Which way the PDU Session Container says that packets go.
    pub pdu_type: Option<PduType>,
}

/// `pdu_type` in `[[maar.ipv4]]` and `[[maar.ipv6]]`: the PDU type of a PDU Session Container (3GPP TS 38.415 section 5.5.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PduType {
    /// PDU type 0, DL PDU SESSION INFORMATION: toward a gNB.
    #[default]
    Downlink,
    /// PDU type 1, UL PDU SESSION INFORMATION: toward a UPF.
    Uplink,
}

/// `[dpn]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dpn {
    /// `node.address` of the MAAR that is its DPA, whose `[[maar.dpn]]` has this node's.
    pub dpa: Ipv6Addr,
    /// The tunnels that this DPN would have to and from its DPA, as `maar.tunnel` there; with another one there it is
    /// IPv6-in-IPv6. GTP-U goes over IPv6. Default `ipv6-in-ipv6`.
    #[serde(default)]
    pub tunnel: TunnelType,
    /// With `tunnel = "gtpu"`: as `maar.gtpu_qfi`, of what goes to the DPA, 0..=63; the PDU type is 1 (uplink). Absent: there is
    /// no PDU Session Container.
    pub gtpu_qfi: Option<u32>,
    /// Nodes that may be known at once, 1..=10000000. Default 100000.
    #[serde(default = "default_maximum_nodes")]
    pub maximum_nodes: u32,
}

/// `maar.tunnel` and `cmd.tunnel`: by what MAARs send each other the packets of a node.
///
/// Two MAARs use GTP-U for a node where both and the CMD say `gtpu`, GRE where all three say `gre`, and
/// IPv6-in-IPv6 otherwise; so
/// a domain may change from one to the other gateway by gateway. What a node has already stays until
/// its next registration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TunnelType {
    /// RFC 2473: one tunnel to each MAAR, shared by all nodes.
    #[default]
    #[serde(rename = "ipv6-in-ipv6")]
    Ipv6InIpv6,
    /// RFC 2784 over IPv6 with a key (RFC 2890) for each node, told in the GRE Key option (RFC 5845). A tunnel for
    /// each node and MAAR, as with `gtpu`.
    Gre,
    /// 3GPP TS 29.281: a tunnel for each node and MAAR. `dataplane.maximum_tunnels` has to have room
    /// for them: at most one for each node and each of its previous MAARs.
    GtpU,
}

/// `[cmd]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cmd {
    /// How updates reach previous MAARs. Only `proxy` is built.
    #[serde(default)]
    pub mode: CmdMode,
    /// The MAARs of the domain, each with the pools it may register from; pools disjoint.
    #[serde(rename = "known_maar")]
    pub known_maars: Vec<KnownMaar>,
    /// Previous MAARs that one node may have, 1..=22; past it the oldest is released. Fewer where more is said of each, so that
    /// an answer has room for all ([`crate::previous_maars_that_fit`]). Default 8 (RFC 8885 section 6).
    #[serde(default = "default_maximum_previous_maars")]
    pub maximum_previous_maars: u16,
    /// The tunnels of the domain: with `gtpu` or `gre` the CMD lets those MAARs use it that offer it; with
    /// `ipv6-in-ipv6` none. Default `ipv6-in-ipv6`.
    #[serde(default)]
    pub tunnel: TunnelType,
    /// A DHCPv6 server that delegates prefixes (RFC 8415). Absent: none.
    pub delegation: Option<CmdDelegation>,
    /// Bindings that may exist at once, 1..=100000000. Default 1000000.
    #[serde(default = "default_maximum_bindings")]
    pub maximum_bindings: u32,
    /// A prefix that has been tunnelled to another MAAR for so long is anchored there from then on, 1..=31536000; 0:
    /// only when an operator says so. Default 0 (RFC 8818 section 4.1: tunnel first, relocate what lasts). Of what no
    /// `[[policy]]` is about.
    #[serde(default)]
    pub relocate_after_s: u32,
    /// Relocations that nobody asked for by name, by policy or because a MAAR is drained, that may be under way together,
    /// 1..=65536; the others wait their turn. Default 64.
    #[serde(default = "default_maximum_relocations")]
    pub maximum_relocations: u32,
}

/// `cmd.mode` (RFC 8885 sections 3.2 to 3.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CmdMode {
    /// The CMD answers at once and updates the previous MAARs itself.
    #[default]
    Proxy,
    /// The CMD answers when the previous MAARs have answered it.
    Relay,
    /// The previous MAARs answer the serving one directly.
    Locator,
}

/// `[[cmd.known_maar]]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KnownMaar {
    /// The MAAR's `node.address`.
    pub address: Ipv6Addr,
    /// Prefixes inside which it may register.
    pub prefix_pools: Vec<Ipv6Net>,
}
fn default_charging_interval() -> u32 {
    10
}
fn default_maximum_nodes() -> u32 {
    100_000
}
fn default_maximum_previous_maars() -> u16 {
    8
}
fn default_maximum_bindings() -> u32 {
    1_000_000
}
fn default_maximum_relocations() -> u32 {
    64
}
