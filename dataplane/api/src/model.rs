//! The tables of a data plane as values.
//!
//! An IPv4 address is its IPv4-mapped form, ::ffff:a.b.c.d (RFC 4291 section 2.5.5.2), and an IPv4 prefix
//! one of such addresses: so both IP versions are in the same tables. No IPv6 packet with such an address is
//! forwarded.

mod flow;
mod prefix_map;
mod transaction;

pub use flow::{
    Direction, FILTER_NAME_OCTETS, Filter, FilterAction, Meter, MeterFill, MeterRates, PortRange, Selector,
    TrafficClass, Yellow,
};
pub use prefix_map::{PrefixKey, PrefixMap};
pub use transaction::{Before, Transaction};

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;
use std::num::NonZeroU32;

/// EUI-48.
pub type LinkLayerAddress = [u8; 6];

/// Everything that a data plane is told: what it must forward, and how.
///
/// The control plane derives one of these; the difference between it and what
/// a data plane has is a [`Transaction`]. Ordered, so that equal states are
/// equal and show alike.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// The forwarding table.
    pub prefixes: PrefixMap<PrefixEntry>,
    /// Tunnels by id; 0 is none.
    pub tunnels: BTreeMap<u32, Tunnel>,
    /// Resolved neighbours by port and address.
    pub neighbours: BTreeMap<(String, Ipv6Addr), LinkLayerAddress>,
    /// Addresses of this node; packets to them go to the kernel or are decapsulated.
    pub local_addresses: BTreeSet<Ipv6Addr>,
    /// Flow filters by id; 0 is none.
    pub filters: BTreeMap<u64, Filter>,
    /// Meters by id; 0 is none.
    pub meters: BTreeMap<u64, Meter>,
}

/// What a prefix leads to, and what may come from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrefixEntry {
    /// For packets to it.
    pub next_hop: NextHop,
    /// For packets from it, off an access link or out of a tunnel to who serves the node; `None`: refused on access links,
    /// and out of tunnels only what comes by the next hop is taken.
    pub source: Option<Source>,
}

/// Where packets to a prefix go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextHop {
    /// A point-to-point link to one node.
    Deliver {
        /// Port name.
        port: String,
        /// The node's.
        link_layer_address: LinkLayerAddress,
    },
    /// Into this tunnel.
    Tunnel(u32),
    /// By this router.
    Gateway {
        /// Port name.
        port: String,
        /// The router's address.
        address: Ipv6Addr,
    },
    /// Each destination is itself a neighbour on this port.
    OnLink {
        /// Port name.
        port: String,
    },
    /// Nowhere.
    Discard(DiscardReason),
    /// Nowhere yet: packets wait, in bounds, for another next hop (RFC 8818 FM:6).
    Hold {
        /// How long at most, 1..=600000 milliseconds; 0 is the data plane's own.
        maximum_ms: u32,
    },
    /// As `then`, when a tunnel has brought its last: until then packets wait, but for those that come out
    /// of this tunnel.
    After {
        /// The old way.
        tunnel: u32,
        /// How long at most, 1..=600000 milliseconds; 0 is the data plane's own.
        maximum_ms: u32,
        /// [`NextHop::Deliver`] or [`NextHop::Tunnel`].
        then: Box<NextHop>,
    },
}

/// Why packets to a prefix are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiscardReason {
    /// Bound here, but attached nowhere.
    NodeAbsent,
    /// In a pool, given to nobody.
    Unallocated,
    /// By policy.
    Prohibited,
}

/// Who may send from a prefix, and where that goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Where its packets come from.
    pub sender: Sender,
    /// Where they go.
    pub path: SourcePath,
}

/// Where packets from a prefix come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sender {
    /// From this node on an access link.
    Node {
        /// Port name.
        port: String,
        /// The node's.
        link_layer_address: LinkLayerAddress,
    },
    /// Out of this tunnel: the node is behind the gateway at its other end.
    Tunnel(u32),
}

/// Where packets from a prefix go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourcePath {
    /// By their destination.
    Native,
    /// To the anchor of the prefix, whatever the destination.
    Tunnel(u32),
}

/// A tunnel to one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// What the packets look like outside.
    pub encapsulation: Encapsulation,
    /// Our end, of the same IP version as the peer's. Over IPv4 there is GTP-U only.
    pub local: Ipv6Addr,
    /// The peer's end, the only permitted outer source.
    pub remote: Ipv6Addr,
    /// Outer hop limit, 1..=255.
    pub hop_limit: u8,
    /// Largest inner packet in octets; 0 = what the egress port leaves. An IPv4 packet that it would take more than nine fragments
    /// to send is not sent.
    pub mtu: u16,
    /// Tunnels that what is in this one may be put into on its way, told in each outer packet (RFC 2473 section
    /// 4.1.1); `None`: only where the inner packet tells. Of IPv6-in-IPv6 only.
    pub encapsulation_limit: Option<u8>,
    /// Of outer packets.
    pub dscp: Dscp,
}

/// Which differentiated services code point (RFC 2474) outer packets have. What comes out of a tunnel keeps its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dscp {
    /// This, 0..=63.
    Is(u8),
    /// That of the packet within (RFC 2473 section 6.4; the uniform model of RFC 2983 section 3.1).
    Copied,
}

impl Default for Dscp {
    /// Best effort: nodes say what they like within.
    fn default() -> Self {
        Self::Is(0)
    }
}

/// Tunnel types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encapsulation {
    /// RFC 2473. One tunnel to one remote address.
    Ipv6InIpv6,
    /// 3GPP TS 29.281. Several tunnels may lead to one remote address.
    GtpU(GtpU),
    /// RFC 2784 and RFC 2890 over IPv6 (RFC 7676). Several tunnels with different keys may lead to one remote address.
    Gre(Gre),
}

impl Encapsulation {
    /// Its name in what people read.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ipv6InIpv6 => "ipv6-in-ipv6",
            Self::GtpU(_) => "gtpu",
            Self::Gre(_) => "gre",
        }
    }
}

/// What a GTP-U tunnel has besides its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GtpU {
    /// Tunnel Endpoint Identifier of what comes in, which together with the remote address names the tunnel.
    pub local_teid: NonZeroU32,
    /// Of what goes out.
    pub remote_teid: NonZeroU32,
    /// G-PDUs go out with a PDU Session Container (3GPP TS 38.415 section 5.5).
    pub pdu_session: Option<PduSession>,
    /// G-PDUs go out with sequence numbers (3GPP TS 29.281 section 5.1). Taken by a data plane with one worker only:
    /// several would have to share the count of each tunnel.
    pub sequence_numbers: bool,
}

/// What a GRE tunnel has besides its addresses (RFC 2890).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gre {
    /// Key of what comes in; `None`: what comes in has none.
    pub local_key: Option<u32>,
    /// Of what goes out.
    pub remote_key: Option<u32>,
}

/// A PDU Session Container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PduSession {
    /// PDU type 1, toward a UPF; else type 0, toward a gNB.
    pub uplink: bool,
    /// QoS Flow Identifier, 0..=63.
    pub qfi: u8,
}
