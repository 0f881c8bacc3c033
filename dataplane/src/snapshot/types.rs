//! What a worker reads: small, flat, resolved beforehand.

use std::sync::Arc;
use std::time::Instant;

use arrayvec::ArrayVec;
use kedge_dataplane_api::model::Encapsulation;

use super::exits::{Ends, Exits};
use super::routes::Routes;
use super::slab::Slab;
use crate::counters::{Bank, TimedBank};
use crate::fib::Fib;
use crate::flow::Flows;
use crate::stage::parse::{ETHERTYPE_IPV4, ETHERTYPE_IPV6};
use crate::versions::Token;

/// Most ports of one data plane.
pub const MAX_PORTS: usize = 16;

/// Addresses of [`Snapshot::endpoints`]: a worker compares each packet with all of them.
pub(super) const ENDPOINTS: usize = 4;

/// What a TEID, or GRE key, of ours that several peers use leads to for anyone else. No index is as large.
pub const TEID_OF_OTHERS: u32 = u32::MAX;

/// What the address of a peer leads to that has tunnels, but none that packets from it are of without more. No
/// index is as large.
pub(super) const PEER_OF_OTHERS: u32 = u32::MAX - 1;

/// EUI-48.
pub type LinkLayerAddress = [u8; 6];

/// One consistent view of all tables. Immutable; versions share what did not change.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Grows by one with every transaction; 1 is the empty one at the start, so that a client can expect it.
    pub generation: u64,
    /// Grows by one with every snapshot, whoever asked for it: what a worker tells two apart by.
    pub serial: u64,
    /// When it was made.
    pub made_at: Instant,
    /// Destination and source prefixes, neighbours and local addresses: address -> index into `routes`.
    pub fib: Fib,
    /// Outer source of a permitted peer, or a key made of it and a TEID (see `tunnel::gtpu::key`) -> index
    /// into `tunnels`. A TEID, or GRE key, that one peer uses leads there alone, one that several use to
    /// [`TEID_OF_OTHERS`].
    pub peers: Fib,
    /// What a match leads to. Index 0 is no match.
    pub routes: Routes,
    /// Tunnels; index 0 is none.
    pub tunnels: Slab<Tunnel>,
    /// Of these, whose packets come out, where it is one prefix's and nothing else need be asked.
    pub source_prefixes: Slab<SourcePrefix>,
    /// The same, and more, by TEID or GRE key, of most that have one peer: see [`Exits`].
    pub exits: Exits,
    /// Both ends of such tunnels; index 0 is none.
    pub ends: Slab<Ends>,
    /// The ways to the peers of tunnels; index 0 is none.
    pub paths: Slab<Path>,
    /// Prefixes that wait for the end of an old way; index 0 is none.
    pub afters: Slab<After>,
    /// Routers and other neighbours, resolved or not.
    pub adjacencies: Slab<Adjacency>,
    /// The ports, by index.
    pub ports: Arc<[PortDescription]>,
    /// Source of ICMPv6 errors.
    pub node_address: u128,
    /// Whether tunnels carry IPv4.
    pub carries_ipv4: bool,
    /// Source of ICMPv4 errors about that.
    pub ipv4_address: [u8; 4],
    /// Addresses of this node to which tunnelled packets are known to come without a look-up; of others they come
    /// all the same.
    pub endpoints: ArrayVec<u128, ENDPOINTS>,
    /// Traffic by prefix, where its node is: see [`Route::counter`].
    pub prefix_traffic: TimedBank,
    /// The same of what is in tunnels between the node's gateway and others, but for what is in `common_traffic`.
    pub passing_traffic: Bank,
    /// Held as long as somebody may count for what is in this version.
    pub(crate) counted: Token,
    /// Traffic by tunnel, but for what is in `common_traffic`.
    pub tunnel_traffic: Bank,
    /// By tunnel, what it has in common with one prefix: [`Snapshot::count_into`].
    pub common_traffic: Bank,
    /// Filters and meters.
    pub flows: Flows,
}

/// Largest packet that the interface to the kernel takes, octets, however large those of its port are: DPDK's TAP driver
/// takes no larger frames.
pub const EXCEPTION_MTU: u16 = 1500;

/// What a worker has to know of a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortDescription {
    /// Its name in the contract.
    pub name: String,
    /// Mobile nodes are here: sources are checked.
    pub access: bool,
    /// Its link-layer address.
    pub link_layer_address: LinkLayerAddress,
    /// Largest IPv6 packet, octets.
    pub mtu: u16,
    /// Tag of every frame, if any.
    pub vlan: Option<u16>,
    /// Whether there is an interface to the kernel.
    pub exception: bool,
}

/// What a match leads to, and what may come from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// For packets to it.
    pub next_hop: NextHop,
    /// For packets from it.
    pub source: SourceRule,
    /// Index of its counters in the bank of prefixes; the same whatever becomes of the route.
    pub counter: u32,
    /// What it and its tunnel have in common is counted once for both, in [`Snapshot::common_traffic`].
    pub common: bool,
}

impl Route {
    /// Whether more has to be known of packets from it that come out of a tunnel than where those to it go: they come out of another
    /// one, or do not go by their destination.
    pub(super) fn is_behind_another(&self) -> bool {
        match self.source {
            SourceRule::Behind { tunnel, onward } => {
                onward.is_some() || self.next_hop != NextHop::Tunnel(tunnel)
            }
            _ => false,
        }
    }
}

/// For packets to a prefix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NextHop {
    /// Nothing is known.
    #[default]
    None,
    /// To this node on this access port.
    Deliver {
        /// Port index.
        port: u8,
        /// The node's.
        link_layer_address: LinkLayerAddress,
    },
    /// Into this tunnel.
    Tunnel(u32),
    /// By this router, or to this neighbour.
    Adjacency(u32),
    /// To a neighbour on this port that is not known yet.
    OnLink {
        /// Port index.
        port: u8,
    },
    /// An address of this node.
    Local,
    /// Dropped without a word.
    NodeAbsent,
    /// Dropped with ICMPv6 no route.
    Unallocated,
    /// Dropped with ICMPv6 administratively prohibited.
    Prohibited,
    /// Kept until it is something else.
    Hold,
    /// Kept until an old way has ended, of which [`Snapshot::afters`] tells; what comes by that way goes on.
    After(u32),
    /// Kept for too long: dropped without a word.
    HoldExpired,
}

/// A wait for the end of an old way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct After {
    /// The tunnel that is the old way.
    pub first: u32,
    /// Where packets go that come by it, and later all.
    pub then: NextHop,
    /// It is later: the old way has ended. What is late on it is welcome all the same.
    pub over: bool,
}

/// For packets from a prefix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SourceRule {
    /// None may come.
    #[default]
    Refused,
    /// From this node, by their destination.
    Native {
        /// Port index.
        port: u8,
        /// The node's.
        link_layer_address: LinkLayerAddress,
    },
    /// From this node, to the anchor.
    Tunnel {
        /// Port index.
        port: u8,
        /// The node's.
        link_layer_address: LinkLayerAddress,
        /// Which tunnel.
        tunnel: u32,
    },
    /// From a node that is behind another gateway.
    Behind {
        /// The tunnel that its packets come out of.
        tunnel: u32,
        /// The one to the anchor that they go into; `None`: by their destination.
        onward: Option<u32>,
    },
}

/// The /64 of which a tunnel brings packets, where a packet from there is known to be as it has to be: the prefix shares the cell of the tunnel
/// ([`Route::common`]), what comes from it comes out of no other tunnel, and no longer prefix is within. So it is not looked up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourcePrefix(u64);

impl SourcePrefix {
    /// By the upper half of its addresses.
    #[must_use]
    pub fn of(upper_half: u64) -> Self {
        // 0, of a tunnel of which nothing is known, is of multicast addresses, from which no packet may be.
        Self(!upper_half)
    }

    /// Whether an address is within. Of a multicast address nothing is said.
    #[inline]
    #[must_use]
    pub fn contains(self, address: u128) -> bool {
        !((address >> 64) as u64) == self.0
    }
}

/// How the headers of a tunnel are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Headers {
    /// As its encapsulation says, and what is in it.
    Any,
    /// GTP-U over IPv6, with nothing optional.
    PlainGtpU,
    /// GTP-U over IPv4, with nothing optional.
    PlainGtpUInIpv4,
}

/// A tunnel: what a worker needs to fill in its headers, in one cache line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(align(64))]
pub struct Tunnel {
    /// Our end, the only permitted destination of what comes in.
    pub local: [u8; 16],
    /// The peer, the only permitted source of what comes in.
    pub remote: [u8; 16],
    /// What the packets look like outside.
    pub encapsulation: Encapsulation,
    /// Index of the way to the peer, which all tunnels to it share; 0 is none.
    pub path: u32,
    /// Largest inner packet, octets, whatever the path permits.
    pub mtu: u16,
    /// Octets in front of an inner packet that has no tunnel encapsulation limit itself, at most 64.
    pub overhead: u8,
    /// How they are written.
    pub headers: Headers,
    /// Of outer packets whose inner packet has none (RFC 2473 section 4.1.1).
    pub encapsulation_limit: Option<u8>,
    /// Of the outer header; never 0 in a tunnel that was put.
    pub hop_limit: u8,
    /// Of the outer packet: IPv6, or IPv4 where both ends are IPv4 addresses.
    pub ethertype: u16,
    /// What its counter of packets read when it was put, the lower bits: where its sequence numbers begin.
    pub first_sequence: u16,
    /// Code point of outer packets, 0..=63, or [`crate::tunnel::outer::DSCP_COPIED`].
    pub dscp: u8,
}

// One line: a worker asks for it with the burst.
const _: () = assert!(size_of::<Tunnel>() == 64);

impl Tunnel {
    /// Whether its packets are IPv4 outside.
    #[must_use]
    #[inline]
    pub fn is_over_ipv4(&self) -> bool {
        self.ethertype == ETHERTYPE_IPV4
    }
}

impl Default for Tunnel {
    fn default() -> Self {
        Self {
            local: [0; 16],
            remote: [0; 16],
            encapsulation: Encapsulation::Ipv6InIpv6,
            path: 0,
            mtu: 0,
            overhead: 0,
            headers: Headers::Any,
            encapsulation_limit: None,
            hop_limit: 0,
            ethertype: ETHERTYPE_IPV6,
            first_sequence: 0,
            dscp: 0,
        }
    }
}

/// The way to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// Where it leaves; 0 is nowhere yet.
    pub adjacency: u32,
    /// The port on which an unknown neighbour has to be found first; `u8::MAX` is none.
    pub on_link: u8,
    /// Largest outer packet, octets.
    pub mtu: u16,
    /// That it is no larger, somebody says who has not proved to have seen a packet of ours.
    pub unproven: bool,
}

impl Default for Path {
    fn default() -> Self {
        Self {
            adjacency: 0,
            on_link: u8::MAX,
            mtu: 0,
            unproven: false,
        }
    }
}

/// A neighbour on a core port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Adjacency {
    /// Port index.
    pub port: u8,
    /// Not known until the control plane says.
    pub link_layer_address: Option<LinkLayerAddress>,
    /// Its address.
    pub address: u128,
}
