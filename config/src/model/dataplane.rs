//! `[dataplane]`: the user plane, and what waits in it.

use std::net::SocketAddr;

use serde::Deserialize;

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
    /// Of packets: default `auto`, used when there are some. Tables are in the kernel's transparent ones, unless `never`.
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
    /// Errors that one worker may send per second, 1..=100000 (RFC 4443 section 2.4 (f)): so many Packet Too Big, and so many of all
    /// other ICMPv6, ICMPv4 and GTP-U errors together. Default 100.
    #[serde(default = "default_icmpv6_errors_per_second")]
    pub icmpv6_errors_per_second: u32,
    /// Packets of one kind that one worker may hand to the kernel per second, 1..=1000000. The kinds, none of which takes anything
    /// from another: what the links of access ports, and those of core ports, have for themselves (neighbour discovery, ARP, DHCPv6 to a
    /// group); signalling from the core (Mobility Headers, GTP-U, DHCPv6, BGP); all else from access ports; all else from the core.
    /// As many GTP-U Echo Requests are answered. Default 10000.
    #[serde(default = "default_punts_per_second")]
    pub punts_per_second: u32,
    /// Neighbours on the link of one port that are asked for per second because packets have their addresses,
    /// 1..=100000 (RFC 6583 section 6.2); packets to others are dropped meanwhile. Routers and peers do not count. Default 100.
    #[serde(default = "default_neighbour_requests_per_second")]
    pub neighbour_requests_per_second: u32,
    /// What becomes of G-PDUs over IPv6 without a UDP checksum (RFC 6936; our own always have one there). Default `refuse`.
    #[serde(default)]
    pub gtpu_zero_checksums: ZeroChecksums,
    /// What becomes of outer packets over IPv4 from the peers of tunnels that come in fragments. Default `checked`: so that what other
    /// gateways of Kedge send where the path over IPv4 takes less than 1,324 octets gets through. By a port that is an af_packet device
    /// none comes: Linux puts them together before, whatever this says.
    #[serde(default)]
    pub gtpu_ipv4_fragments: Ipv4Fragments,
    /// What becomes of IPv4 packets in tunnels. Default `refuse`. Both processes read it when they start: until a data plane is
    /// started again, one that refuses gets no IPv4 prefixes of nodes from a control plane that has `carry`, and all else.
    #[serde(default)]
    pub inner_ipv4: InnerIpv4,
    /// Most prefixes that the data plane takes, 1..=16777216, those of its routes and pools among them. What is beyond is left out, of
    /// nodes' the ones with the highest addresses first: their nodes have no service by them (event `prefixes_left_out`). Default
    /// 2097152.
    #[serde(default = "default_maximum_prefixes")]
    pub maximum_prefixes: u32,
    /// Most tunnels that the data plane takes, 1..=1048576. What is beyond is left out, the newest first: prefixes behind it lead
    /// nowhere (event `tunnels_left_out`). Default 1048576.
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
    /// larger packets are tried again. Default 600 (RFC 8201 section 4, RFC 1191 section 6.3).
    #[serde(default = "default_path_mtu_lifetime")]
    pub path_mtu_lifetime: u32,
    /// Most flow filters that the data plane takes, 0..=16777216; of one prefix, 64. What is beyond is left out, as the rules
    /// come: those of the file, then the others by name (event `filters_left_out`). Default 1048576.
    #[serde(default = "default_maximum_filters")]
    pub maximum_filters: u32,
    /// Most filters of the whole domain, 0..=1048576; their classifier is in packet memory (`memory_mib`). Default
    /// 16384.
    #[serde(default = "default_maximum_domain_filters")]
    pub maximum_domain_filters: u32,
    /// Most meters that the data plane takes, 0..=16777215. What is beyond is left out with its filters (event
    /// `meters_left_out`). Default 1048576.
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
    /// Packets of one prefix at one worker, or of all flows that one filter holds there, 0..=16777215; 0 holds none.
    /// Default 1024.
    pub packets_per_prefix: u32,
    /// Octets of one prefix at one worker, 1280..=4294967295. Default 1500000.
    pub bytes_per_prefix: u32,
    /// How long a packet may wait, 1..=600000 ms. Default 2000.
    pub age_ms: u32,
    /// How long a prefix may be on hold where the control plane does not say, 1..=600000 ms. Default 3000.
    pub maximum_ms: u32,
    /// How long packets wait for those that are still on the way of before, where the control plane does not
    /// say, 1..=600000 ms: at least three times what a packet takes between the two gateways that are farthest apart.
    /// Past it order is given up, nothing is lost (event `path_ended`). Default 100.
    pub path_end_ms: u32,
    /// How long a packet waits for its source on an access link, or its node at the end of a tunnel, to
    /// become known here, or for the tunnel itself, 0..=1000 ms; 0: it is dropped at once. At most 512 wait at one worker, 128 of those
    /// between two networks, and 256 in tunnels. Default 200.
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
            path_end_ms: 100,
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

/// `dataplane.gtpu_ipv4_fragments`. Identifications of IPv4 have 16 bits and come round soon, so that what is put together may be of
/// two packets (RFC 4963).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ipv4Fragments {
    /// They are dropped.
    Refuse,
    /// They are put together; what has no UDP checksum then, which would show that, is dropped.
    #[default]
    Checked,
    /// They are put together, for peers that send no checksum.
    Accept,
}

/// `dataplane.inner_ipv4`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InnerIpv4 {
    /// They are dropped and counted, and nodes have no IPv4 prefixes: a transaction with one is refused.
    #[default]
    Refuse,
    /// They are carried, in G-PDUs, GRE and IPv4 in IPv6, to and from the IPv4 prefixes of nodes.
    Carry,
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
fn default_neighbour_requests_per_second() -> u32 {
    100
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
