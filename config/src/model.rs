//! The configuration as a value. Field docs are the reference of the file's keys.
//!
//! Where a key takes addresses of both IP versions, an IPv4 address is its IPv4-mapped form here
//! (RFC 4291 section 2.5.5.2), as in the tables of the data plane; [`shown`] gives it as it was written.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Deserializer};

use crate::announce::Announce;
use crate::delegation::{CmdDelegation, MaarDelegation};
use crate::flow::{FilterRule, Meter};

/// An interface address with its prefix length, such as `2001:db8::1/64` or `192.0.2.1/24`.
pub type Address = Ipv6Net;

/// One node's whole configuration.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Who this node is.
    pub node: Node,
    /// The user plane; required for role `maar`, refused for role `cmd`.
    pub dataplane: Option<Dataplane>,
    /// DPDK ports, at least one core port for role `maar`.
    #[serde(default, rename = "port")]
    pub ports: Vec<Port>,
    /// Static routes toward the core.
    #[serde(default, rename = "route")]
    pub routes: Vec<Route>,
    /// Settings of role `maar`; required for it, refused for others.
    pub maar: Option<Maar>,
    /// Settings of role `cmd`; required for it, refused for others.
    pub cmd: Option<Cmd>,
    /// What the access side offers its nodes (role `maar`).
    #[serde(default)]
    pub access: Access,
    /// Flows of nodes that are treated in another way (role `maar`).
    #[serde(default, rename = "filter")]
    pub filters: Vec<FilterRule>,
    /// Rates that filters name (role `maar`).
    #[serde(default, rename = "meter")]
    pub meters: Vec<Meter>,
    /// Routes to what is anchored here (role `maar`); absent = nothing is announced.
    pub announce: Option<Announce>,
    /// Protocol timers; the defaults are those of RFC 5213 and RFC 6275.
    #[serde(default)]
    pub timers: Timers,
}

/// `[node]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// 1..=63 of `a-z A-Z 0-9 - _`; names files, metrics and events.
    pub name: String,
    /// What this node does.
    pub role: Role,
    /// The global unicast address of signalling and, at a MAAR, of its tunnels' end.
    pub address: Ipv6Addr,
    /// Directory of the Unix sockets. Default `/run/kedge/NAME`.
    pub run_directory: Option<PathBuf>,
    /// Directory of the binding store. Default `/var/lib/kedge/NAME`.
    pub state_directory: Option<PathBuf>,
    /// Where the control plane serves `/metrics`, e.g. `[::1]:9110`; absent = nowhere.
    pub metrics: Option<SocketAddr>,
}

/// `node.role`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Mobility anchor and access router (RFC 8885 section 2).
    Maar,
    /// Central mobility database (RFC 8885 section 2).
    Cmd,
}

/// `[dataplane]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dataplane {
    /// Cores of the workers, one thread each; distinct. Default `[0]`.
    #[serde(default = "default_workers")]
    pub workers: Vec<usize>,
    /// How a worker waits. Default `adaptive`.
    #[serde(default)]
    pub poll: PollMode,
    /// Whether the workers share tunnelled packets out among them, by the flow within the tunnel. A
    /// device spreads packets over its receive queues by their outer addresses, which all packets of
    /// one tunnel have in common. Without effect where one worker runs. Default `auto`.
    #[serde(default)]
    pub redistribute: Redistribute,
    /// Default `auto`: used when there are some.
    #[serde(default)]
    pub huge_pages: HugePages,
    /// Packet memory of the process in MiB, 64..=65536. Default 128.
    #[serde(default = "default_memory_mib")]
    pub memory_mib: u32,
    /// Packet buffers, 1024..=16777215. Default 8192.
    #[serde(default = "default_packet_buffers")]
    pub packet_buffers: u32,
    /// Where the data plane serves `/metrics`, e.g. `[::1]:9111`; absent = nowhere.
    pub metrics: Option<SocketAddr>,
    /// ICMPv6 errors that one worker may send per second, 1..=100000 (RFC 4443 section 2.4 (f)). Default 100.
    #[serde(default = "default_icmpv6_errors_per_second")]
    pub icmpv6_errors_per_second: u32,
    /// Packets that one worker may hand to the kernel per second, 1..=1000000. Default 10000.
    #[serde(default = "default_punts_per_second")]
    pub punts_per_second: u32,
    /// What becomes of G-PDUs without a UDP checksum (RFC 6936; our own always have one). Default `refuse`.
    #[serde(default)]
    pub gtpu_zero_checksums: ZeroChecksums,
    /// Most prefixes that the data plane takes, 1..=16777216; a transaction that would exceed it is
    /// refused. Default 2097152.
    #[serde(default = "default_maximum_prefixes")]
    pub maximum_prefixes: u32,
    /// Most tunnels that the data plane takes, 1..=1048576. Default 1048576.
    #[serde(default = "default_maximum_tunnels")]
    pub maximum_tunnels: u32,
    /// Packets that wait while an anchor moves.
    #[serde(default)]
    pub hold: Hold,
    /// Whether the MSS that TCP tells in SYNs is lowered to what fits the tunnel, where they pass one. Default `off`:
    /// hosts learn it from Packet Too Big.
    #[serde(default)]
    pub tcp_mss_clamping: MssClamping,
    /// Seconds for which the MTU of a path to a peer counts once a router has told it, 300..=86400; after that
    /// larger packets are tried again. Default 600 (RFC 8201 section 4).
    #[serde(default = "default_path_mtu_lifetime")]
    pub path_mtu_lifetime: u32,
    /// Most flow filters that the data plane takes, 0..=16777216; of one prefix, 64. Default 1048576.
    #[serde(default = "default_maximum_filters")]
    pub maximum_filters: u32,
    /// Most filters of the whole domain, 0..=1048576; their classifier is in packet memory (`memory_mib`). Default
    /// 16384.
    #[serde(default = "default_maximum_domain_filters")]
    pub maximum_domain_filters: u32,
    /// Most meters that the data plane takes, 0..=16777215. Default 1048576.
    #[serde(default = "default_maximum_meters")]
    pub maximum_meters: u32,
    /// What a meter's rate means where several workers run, each of which has buckets of its own. Default `divide`.
    #[serde(default)]
    pub meter_rates: MeterShare,
    /// More EAL arguments, for devices that need them.
    #[serde(default)]
    pub eal_arguments: Vec<String>,
}

/// `[dataplane.hold]`: bounds of what waits while an anchor moves. Past them packets are dropped, each by name.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Hold {
    /// Packets on hold in all, which the workers share equally: at most half of `packet_buffers`. 0 is a
    /// quarter of them. Default 0.
    pub packets: u32,
    /// Packets of one prefix at one worker, 0..=16777215; 0 holds none. Default 1024.
    pub packets_per_prefix: u32,
    /// Octets of one prefix at one worker, 1280..=4294967295. Default 1500000.
    pub bytes_per_prefix: u32,
    /// How long a packet may wait, 1..=600000 ms. Default 2000.
    pub age_ms: u32,
    /// How long a prefix may be on hold where the control plane does not say, 1..=600000 ms. Default 3000.
    pub maximum_ms: u32,
    /// How long packets wait for those that are still on the way of before, where the control plane does not
    /// say, 1..=600000 ms. Default 50.
    pub path_end_ms: u32,
    /// How long a packet waits for its source on an access link, or its node at the end of a tunnel, to
    /// become known here, 0..=1000 ms; 0: it is dropped at once. At most 512 wait at one worker, 128 of those
    /// between two networks. Default 200.
    pub unknown_ms: u32,
    /// Which packet is dropped when one is too many. Default `drop-newest`.
    pub overflow: HoldOverflow,
    /// How many packets a worker releases per second, 1000..=100000000; twice as many as arrive meanwhile
    /// come on top, so that a release ends. Default 1000000.
    pub release_packets_per_second: u32,
}

impl Default for Hold {
    fn default() -> Self {
        Self {
            packets: 0,
            packets_per_prefix: 1024,
            bytes_per_prefix: 1_500_000,
            age_ms: 2000,
            maximum_ms: 3000,
            path_end_ms: 50,
            unknown_ms: 200,
            overflow: HoldOverflow::DropNewest,
            release_packets_per_second: 1_000_000,
        }
    }
}

/// `dataplane.hold.overflow`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HoldOverflow {
    /// The one that has just come: what is held has no gaps.
    #[default]
    DropNewest,
    /// The one that has waited longest: what is held is fresh.
    DropOldest,
}

/// `dataplane.poll`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PollMode {
    /// Spin: for cores of its own.
    Busy,
    /// Sleep when idle, for at most 0.8 ms: for shared cores and CI.
    #[default]
    Adaptive,
}

/// `dataplane.gtpu_zero_checksums`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ZeroChecksums {
    /// They are dropped: over IPv6 a UDP packet has a checksum (RFC 8200 section 8.1).
    #[default]
    Refuse,
    /// They are taken, from peers that leave it out.
    Accept,
}

/// `dataplane.meter_rates`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MeterShare {
    /// Each worker gets its part: together they never exceed the rate, but one flow, which is one worker's, gets
    /// no more than a part of it.
    #[default]
    Divide,
    /// Each worker gets all of it: one flow can have the whole rate, but flows on several workers have it as often.
    Each,
}

/// `dataplane.tcp_mss_clamping`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MssClamping {
    /// TCP headers stay as they are.
    #[default]
    Off,
    /// For hosts behind firewalls that drop Packet Too Big.
    On,
}

/// `dataplane.redistribute`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Redistribute {
    /// On core ports, but for those of driver `net_af_packet` that have a receive queue for each
    /// worker: to these Linux spreads by the flow within the tunnel already.
    #[default]
    Auto,
    /// On all core ports.
    Always,
    /// Not at all: each tunnel is one worker's.
    Never,
}

/// `dataplane.huge_pages`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HugePages {
    /// Use them when the machine has free ones.
    #[default]
    Auto,
    /// Do not use them.
    Never,
    /// Refuse to start without them.
    Require,
}

/// `[[port]]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// 1..=31 of `a-z A-Z 0-9 - _`; distinct.
    pub name: String,
    /// A DPDK device: `net_af_packet0,iface=eth1`, `net_tap0,...`, `net_virtio_user0,...`,
    /// `net_vhost0,...`, `net_memif0,...` or a PCI address `0000:01:00.0`.
    pub device: String,
    /// Where it leads.
    pub side: Side,
    /// Largest IPv6 packet in octets, 1280..=9600. Default 1500. Packet buffers are made for the largest of all ports, so
    /// `memory_mib` has to have room for `packet_buffers` of them. An interface of Linux has to have this MTU itself.
    #[serde(default = "default_mtu")]
    pub mtu: u16,
    /// Name of the TAP interface by which the kernel sees this port, 1..=15 characters, distinct. Absent: nothing is handed to the kernel.
    pub exception: Option<String>,
    /// Link-layer address to set; absent = the device's own.
    pub link_layer_address: Option<String>,
    /// VLAN identifier 1..=4094 of every frame on this port; absent = untagged.
    pub vlan: Option<u16>,
    /// Receive and transmit queues; absent = one for each worker, as far as the device has them.
    pub queues: Option<u16>,
    /// Addresses of the exception interface, set by the control plane; global ones are on-link prefixes too. At a core
    /// port there may be IPv4 ones, such as `192.0.2.2/24`.
    #[serde(default, deserialize_with = "addresses")]
    pub addresses: Vec<Address>,
}

/// `port.side`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// Mobile nodes are here; sources are checked.
    Access,
    /// The network of the other gateways and of the Internet is here.
    Core,
}

/// `[[route]]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Destination; no host bits. IPv4 too, such as `0.0.0.0/0`: for what this node itself sends and for its tunnels.
    #[serde(deserialize_with = "prefix")]
    pub prefix: Ipv6Net,
    /// A core port's name.
    pub port: String,
    /// Next hop on that port, of the same IP version as the prefix.
    #[serde(deserialize_with = "address")]
    pub gateway: Ipv6Addr,
}

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
    /// Addresses of MAARs to and from which tunnels are allowed; absent = any that the CMD names.
    pub peers: Option<Vec<Peer>>,
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
    /// Nodes that may be known at once, 1..=10000000. Default 100000.
    #[serde(default = "default_maximum_nodes")]
    pub maximum_nodes: u32,
    /// An older prefix of a node here that has carried no packet for so long is given up: it goes home and its tunnels and
    /// routes go (RFC 8818 FM:3-3), 1..=31536000; 0: it lives as long as the session. Default 0.
    #[serde(default)]
    pub idle_prefix_s: u32,
}

/// An address of `maar.peers`.
pub type Peer = Ipv6Addr;

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
    /// Previous MAARs that one node may have, 1..=64; past it the oldest is released. Default 8 (RFC 8885 section 6).
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
    /// only when an operator says so. Default 0 (RFC 8818 section 4.1: tunnel first, relocate what lasts).
    #[serde(default)]
    pub relocate_after_s: u32,
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

/// `[access]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Access {
    /// Link-local address of the router, the same on every MAAR of the domain (RFC 6543). Default `fe80::200:5eff:fe00:5213`.
    pub router_link_local_address: Ipv6Addr,
    /// Link-layer address of the router on every access link (RFC 6543). Default `00:00:5e:00:52:13`.
    pub router_link_layer_address: String,
    /// TOML file of `[[node]]` entries: `identifier`, `link_layer_address`. Absent = none.
    pub policy_file: Option<PathBuf>,
    /// Nodes that the policy file does not name. Default `accept`: known by their link-layer address.
    pub unknown_nodes: UnknownNodes,
    /// Preferred lifetime of a node's current prefix, seconds, 1..=4294967295. Default 1800.
    pub preferred_lifetime: u32,
    /// Valid lifetime of every prefix, seconds, `preferred_lifetime`..=4294967295. Default 7200.
    pub valid_lifetime: u32,
    /// Router lifetime, seconds, 1..=9000. Default 1800.
    pub router_lifetime: u16,
    /// Seconds between unsolicited advertisements to each node, 4..=1800. Default 60.
    pub advertisement_interval: u16,
    /// Access Technology Type of a PBU, 1..=255 (RFC 5213 section 8.5). Default 4, IEEE 802.11.
    pub access_technology_type: u8,
}

/// `access.unknown_nodes`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnknownNodes {
    /// Serve them, identified by their link-layer address.
    #[default]
    Accept,
    /// Ignore them, counted.
    Refuse,
}

/// `[timers]`. Milliseconds in the file, named so.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timers {
    /// Lifetime asked for and granted, 4000..=262140000, a multiple of 4000 (units on the wire are 4 s). Default 600000.
    #[serde(rename = "binding_lifetime_ms", deserialize_with = "milliseconds")]
    pub binding_lifetime: Duration,
    /// INITIAL_BINDACK_TIMEOUT, 10..=60000. Default 1000.
    #[serde(rename = "initial_bindack_timeout_ms", deserialize_with = "milliseconds")]
    pub initial_bindack_timeout: Duration,
    /// MAX_BINDACK_TIMEOUT, at least the initial one, ..=600000. Default 32000.
    #[serde(rename = "max_bindack_timeout_ms", deserialize_with = "milliseconds")]
    pub max_bindack_timeout: Duration,
    /// TimestampValidityWindow, 1..=60000. Default 300.
    #[serde(rename = "timestamp_validity_window_ms", deserialize_with = "milliseconds")]
    pub timestamp_validity_window: Duration,
    /// MinDelayBeforeBCEDelete, 0..=600000. Default 10000.
    #[serde(rename = "min_delay_before_bce_delete_ms", deserialize_with = "milliseconds")]
    pub min_delay_before_bce_delete: Duration,
    /// How long a MAAR that anchors or has served a node holds its packets when it hears where the node is
    /// now, so that they do not come there before its MAAR knows of them, 0..=1000. Default 3.
    #[serde(rename = "release_delay_ms", deserialize_with = "milliseconds")]
    pub release_delay: Duration,
    /// How long an anchor that has withdrawn its routes to a relocated prefix waits before it says that nothing
    /// more comes by it: at least what the routes take to follow, 1..=10000. Default 100.
    #[serde(rename = "route_settle_ms", deserialize_with = "milliseconds")]
    pub route_settle: Duration,
    /// How long a node's own packets wait between the last that leaves through the old anchor of a prefix and
    /// the first that leaves through the new one, 0..=150. Default 20.
    #[serde(rename = "uplink_settle_ms", deserialize_with = "milliseconds")]
    pub uplink_settle: Duration,
    /// Between two Echo Requests on a GTP-U path, 60000..=3600000; 0: none are sent (3GPP TS 29.281 section
    /// 7.2.1). Default 60000.
    #[serde(rename = "gtpu_echo_interval_ms", deserialize_with = "milliseconds")]
    pub gtpu_echo_interval: Duration,
    /// T3-RESPONSE: how long the answer may take, 10..=60000. Default 3000.
    #[serde(rename = "gtpu_t3_response_ms", deserialize_with = "milliseconds")]
    pub gtpu_t3_response: Duration,
    /// N3-REQUESTS: how often a request is sent before the path is taken for down, 1..=20. Default 3.
    pub gtpu_n3_requests: u32,
}

impl Default for Access {
    fn default() -> Self {
        Self {
            router_link_local_address: Ipv6Addr::new(0xfe80, 0, 0, 0, 0x200, 0x5eff, 0xfe00, 0x5213),
            router_link_layer_address: "00:00:5e:00:52:13".to_owned(),
            policy_file: None,
            unknown_nodes: UnknownNodes::Accept,
            preferred_lifetime: 1800,
            valid_lifetime: 7200,
            router_lifetime: 1800,
            advertisement_interval: 60,
            access_technology_type: 4,
        }
    }
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            binding_lifetime: Duration::from_secs(600),
            initial_bindack_timeout: Duration::from_secs(1),
            max_bindack_timeout: Duration::from_secs(32),
            timestamp_validity_window: Duration::from_millis(300),
            min_delay_before_bce_delete: Duration::from_secs(10),
            release_delay: Duration::from_millis(3),
            route_settle: Duration::from_millis(100),
            uplink_settle: Duration::from_millis(20),
            gtpu_echo_interval: Duration::from_secs(60),
            gtpu_t3_response: Duration::from_secs(3),
            gtpu_n3_requests: 3,
        }
    }
}

impl Config {
    /// Directory of the Unix sockets.
    #[must_use]
    pub fn run_directory(&self) -> PathBuf {
        self.node
            .run_directory
            .clone()
            .unwrap_or_else(|| PathBuf::from("/run/kedge").join(&self.node.name))
    }

    /// Directory of the binding store.
    #[must_use]
    pub fn state_directory(&self) -> PathBuf {
        self.node
            .state_directory
            .clone()
            .unwrap_or_else(|| PathBuf::from("/var/lib/kedge").join(&self.node.name))
    }

    /// Socket of the data plane's API.
    #[must_use]
    pub fn dataplane_socket(&self) -> PathBuf {
        self.run_directory().join("dataplane.sock")
    }

    /// Socket of the control plane's northbound API.
    #[must_use]
    pub fn controlplane_socket(&self) -> PathBuf {
        self.run_directory().join("controlplane.sock")
    }
}

fn default_workers() -> Vec<usize> {
    vec![0]
}
fn default_memory_mib() -> u32 {
    128
}
fn default_packet_buffers() -> u32 {
    8192
}
fn default_icmpv6_errors_per_second() -> u32 {
    100
}
fn default_punts_per_second() -> u32 {
    10_000
}
fn default_maximum_prefixes() -> u32 {
    1 << 21
}
fn default_maximum_tunnels() -> u32 {
    1 << 20
}
fn default_path_mtu_lifetime() -> u32 {
    600
}
fn default_maximum_filters() -> u32 {
    1 << 20
}
fn default_maximum_domain_filters() -> u32 {
    1 << 14
}
fn default_maximum_meters() -> u32 {
    1 << 20
}
fn default_mtu() -> u16 {
    1500
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

pub(crate) fn milliseconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    u64::deserialize(deserializer).map(Duration::from_millis)
}

/// Bits in front of the IPv4 address in an IPv4-mapped one.
const MAPPED_LENGTH: u8 = 96;

/// An address or a prefix as people write it: IPv4 where it is an IPv4-mapped one.
#[must_use]
pub fn shown(net: Ipv6Net) -> IpNet {
    let length = net.prefix_len().checked_sub(MAPPED_LENGTH);
    match (net.addr().to_ipv4_mapped(), length) {
        (Some(address), Some(length)) => Ipv4Net::new(address, length).map_or(IpNet::V6(net), IpNet::V4),
        _ => IpNet::V6(net),
    }
}

fn mapped<E: serde::de::Error>(net: IpNet) -> Result<Ipv6Net, E> {
    match net {
        IpNet::V6(net) => Ok(net),
        IpNet::V4(net) => {
            let length = MAPPED_LENGTH + net.prefix_len();
            Ipv6Net::new(net.addr().to_ipv6_mapped(), length).map_err(E::custom)
        }
    }
}

fn prefix<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Ipv6Net, D::Error> {
    mapped(IpNet::deserialize(deserializer)?)
}

fn addresses<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Address>, D::Error> {
    let all = Vec::<IpNet>::deserialize(deserializer)?;
    all.into_iter().map(mapped).collect()
}

fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Ipv6Addr, D::Error> {
    Ok(match IpAddr::deserialize(deserializer)? {
        IpAddr::V6(address) => address,
        IpAddr::V4(address) => address.to_ipv6_mapped(),
    })
}
