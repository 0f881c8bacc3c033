//! IPv4 inside of tunnels: carried, where `dataplane.inner_ipv4` says so.
//!
//! ```text
//!  G-PDU, GRE 0x0800, IPv4 in IPv6 ─► out of the tunnel ─► BCP 38 ─┐
//!                                                                 ├─► look-up ─► into a tunnel, or by an IPv4 router
//!  plain IPv4 from the core, to a prefix that is carried ─────────┘
//! ```
//!
//! An IPv4 prefix of a node is an entry of the one forwarding table, as ::ffff:a.b.c.d/96+n: so it changes with the same
//! transactions, is published in the same snapshot, has the same next hops, source rules, holds, filters, meters and
//! counters, and costs nothing where there is none. A table of its own would be 64 bits less deep, and would need a
//! second look-up of every burst, a second publication, and a second kind of everything that hangs off a route.
//! No IPv6 packet meets such an entry: one with an IPv4-mapped address is dropped before. No IPv4 packet
//! meets one of IPv6: ::ffff:0:0/96 always has an entry of its own here, that of no route if nobody has given another, so
//! that neither the default route of IPv6 nor a tunnel for ::/0 is one for IPv4.
//!
//! To packets that are IPv6 all of this costs one branch, where they are forwarded: what is here is reached by kinds of
//! packet that were refused before, or past that branch.
//!
//! Nodes with IPv4 are behind tunnels. On access links there is no IPv4: nodes would need DHCPv4, and
//! ARP from a router. So Deliver, and sources on links, are refused by name for IPv4 prefixes.
//!
//! What does not fit into a tunnel, or out of a port, and may be cut is cut before it goes in: each fragment is a packet of
//! its own in the tunnel. RFC 2473 section 7.2 (b) would cut the outer packet instead. This is what a router
//! does before any link (RFC 791), the other end need not put anything together, the node does that anyway, and it is the same for
//! GTP-U over IPv4: the narrowest path that is believed, 576 octets, has room for any packet that may be cut, so fragments of outer packets
//! are for IPv6 alone there. What may not be cut is answered with Fragmentation Needed and what fits (RFC 1191).

use super::decide::{Inner, Refusal, Step, no_way, own};
use super::encapsulate::{mark, room};
use super::fragments::port_mtu;
use super::{Lane, Note, Origin, Output, Pipeline};
use crate::counters::Stage;
use crate::drops::DropReason;
use crate::frame::Frame;
use crate::snapshot::{Hop, NextHop, Path, Snapshot, Tunnel};
use crate::stage::icmpv6_error::Icmpv6Error;
use crate::stage::parse::{ETHERNET_HEADER, ETHERTYPE_IPV4, Packet};
use crate::stage::{icmpv4_error, ipv4, ipv4_fragment, mss};
use crate::tunnel::error::MINIMUM_MTU;
use crate::tunnel::outer::Shown;
use crate::tunnel::{gre, gtpu, ip6_in_ip6};
use kedge_dataplane_api::model::{Encapsulation, GtpU};

impl Pipeline {
    /// A packet from the peer of this tunnel that says that IPv4 is inside.
    pub(super) fn carry(snapshot: &Snapshot, tunnel: u32, inner: Inner) -> Result<Step, Refusal> {
        if snapshot.carries_ipv4 {
            Ok(Step::DecapsulateIpv4 { tunnel, inner })
        } else {
            Err(DropReason::TunnelInnerIpv4.into())
        }
    }

    /// Takes the IPv4 packet inside out of a tunnel.
    #[inline(never)]
    pub(super) fn decapsulate_ipv4<F: Frame>(
        &mut self,
        snapshot: &Snapshot,
        frame: &mut F,
        note: &mut Note,
        tunnel: u32,
        inner: Inner,
    ) -> Result<(), DropReason> {
        const WRONG: DropReason = DropReason::TunnelInnerMalformed;
        let (start, end) = inner.range();
        let octets = frame
            .bytes_mut()
            .get_mut(ETHERNET_HEADER + start..ETHERNET_HEADER + end);
        let octets = octets.ok_or(WRONG)?;
        let packet = ip6_in_ip6::accept_inner_ipv4(octets, note.packet.traffic_class)?;
        frame.strip(start).map_err(|_| WRONG)?;
        frame.truncate(ETHERNET_HEADER + packet.length);
        note.packet = packet;
        note.ethertype = ETHERTYPE_IPV4;
        note.origin = Origin::Tunnel(tunnel);
        note.checked = true;
        self.counters.stage(Stage::Decapsulated, 1);
        if self.clamp_mss {
            clamp(snapshot, frame, tunnel);
        }
        Ok(())
    }

    /// [`Pipeline::forward`] for IPv4: what is carried, and answers of our own.
    #[inline(never)]
    pub(super) fn forward_ipv4<F: Frame>(
        &mut self,
        snapshot: &Snapshot,
        lane: &mut Lane<'_, F>,
        hop: Hop,
        counter: u32,
        output: &mut Output<F>,
    ) -> Result<u8, Refusal> {
        if lane.origin != Origin::Own {
            let time_to_live = lane.packet.hop_limit;
            if time_to_live <= 1 {
                let error = Icmpv6Error::HopLimitExceeded;
                return Err(Refusal(DropReason::HopLimitExceeded, Some(error.into())));
            }
            lane.packet.hop_limit = time_to_live - 1;
            let octets = lane.frame.bytes_mut().get_mut(ETHERNET_HEADER..);
            ipv4::set_time_to_live(octets.unwrap_or_default(), time_to_live - 1);
        }
        match hop.unpack() {
            NextHop::Tunnel(index) => {
                let length = lane.packet.length;
                let port = self.encapsulate_ipv4(snapshot, lane, index, output)?;
                snapshot.passing_traffic.to(self.worker, counter, length);
                Ok(port)
            }
            NextHop::Adjacency(index) => {
                let adjacency = snapshot.adjacencies.get(index);
                if !ipv4::is_mapped(adjacency.address) {
                    return Err(no_way(NextHop::None, lane.packet.destination, output));
                }
                let port = snapshot.ports.get(usize::from(adjacency.port));
                let mtu = port.map_or(0, |port| port.mtu);
                self.cut(snapshot, lane, mtu, output, |pipeline, lane, output| {
                    pipeline.pass_to_neighbour(snapshot, lane, index, Stage::Routed, output)
                })
            }
            other => Err(no_way(other, lane.packet.destination, output)),
        }
    }

    /// [`Pipeline::encapsulate`] for IPv4.
    fn encapsulate_ipv4<F: Frame>(
        &mut self,
        snapshot: &Snapshot,
        lane: &mut Lane<'_, F>,
        index: u32,
        output: &mut Output<F>,
    ) -> Result<u8, Refusal> {
        let Some(tunnel) = snapshot.tunnels.at(index) else {
            return Err(DropReason::NoRoute.into());
        };
        let path = snapshot.paths.get(tunnel.path);
        if path.adjacency == 0 {
            return Err(unresolved(tunnel, &path, output).into());
        }
        if self.clamp_mss {
            clamp(snapshot, &mut lane.frame, index);
        }
        let mut mtu = room(tunnel, &path, tunnel.overhead.into());
        if path.unproven && lane.packet.length > usize::from(mtu) {
            mtu = room_for_all(snapshot, lane, tunnel, path, mtu);
        }
        self.cut(snapshot, lane, mtu, output, |pipeline, lane, output| {
            let inner_length = lane.packet.length;
            let front = usize::from(tunnel.overhead);
            if lane.frame.prepend(front).is_err() {
                return Err(DropReason::NoHeadroom.into());
            }
            if !write_outer(&mut lane.frame, tunnel, || pipeline.sequence(snapshot, index)) {
                return Err(DropReason::Ipv4Malformed.into());
            }
            mark(&mut lane.frame, tunnel, front);
            lane.packet.length += front;
            lane.ethertype = tunnel.ethertype;
            let adjacency = path.adjacency;
            let port = pipeline.pass_to_neighbour(snapshot, lane, adjacency, Stage::Encapsulated, output)?;
            snapshot.tunnel_traffic.to(pipeline.worker, index, inner_length);
            Ok(port)
        })
    }

    /// Has a packet pass that has no more than `mtu` octets, or, if it may be cut, in fragments that have. All but the last are
    /// sent here; that is left, ready to go by the port that is given.
    #[inline]
    fn cut<'a, F: Frame>(
        &mut self,
        snapshot: &Snapshot,
        lane: &mut Lane<'a, F>,
        mtu: u16,
        output: &mut Output<F>,
        pass: impl Fn(&mut Self, &mut Lane<'a, F>, &mut Output<F>) -> Result<u8, Refusal>,
    ) -> Result<u8, Refusal> {
        if lane.packet.length > usize::from(mtu) {
            let octets = lane.frame.bytes().get(ETHERNET_HEADER..).unwrap_or_default();
            if ipv4::dont_fragment(octets) {
                let error = Icmpv6Error::PacketTooBig(mtu);
                return Err(Refusal(DropReason::PacketTooBig, Some(error.into())));
            }
            // All of it goes, or nothing.
            ipv4_fragment::may_split(octets, usize::from(mtu))?;
        }
        while lane.packet.length > usize::from(mtu) {
            let rest = ipv4_fragment::split(&mut lane.frame, usize::from(mtu))?;
            lane.packet.length = lane.frame.bytes().len() - ETHERNET_HEADER;
            let port = pass(self, lane, output)?;
            let first = std::mem::replace(&mut lane.frame, rest);
            self.send(first, port, snapshot, output);
            self.counters.stage(Stage::Fragmented, 1);
            lane.packet.length = lane.frame.bytes().len() - ETHERNET_HEADER;
            lane.ethertype = ETHERTYPE_IPV4;
        }
        pass(self, lane, output)
    }

    /// [`Pipeline::tell_icmpv6`] about a carried packet.
    #[cold]
    #[inline(never)]
    pub(super) fn tell_icmpv4<'a, F: Frame>(
        &mut self,
        snapshot: &Snapshot,
        now: u64,
        mut lane: Lane<'a, F>,
        error: Icmpv6Error,
    ) -> Option<Lane<'a, F>> {
        let octets = lane.frame.bytes().get(ETHERNET_HEADER..).unwrap_or_default();
        if !icmpv4_error::permitted(octets) {
            return None;
        }
        // With those in other words.
        if !self.errors.take(error, now) {
            self.counters.stage(Stage::Icmpv4ErrorSuppressed, 1);
            return None;
        }
        let to = ipv4::unmapped(lane.packet.source);
        if !icmpv4_error::build(&mut lane.frame, error, snapshot.ipv4_address, to) {
            return None;
        }
        lane.ethertype = ETHERTYPE_IPV4;
        own(lane)
    }
}

/// How large the fragments of a packet are, octets, on a path that somebody says is so narrow: `mtu`, or, if it needs too many of these, what
/// goes with a packet of 1,280 octets. Who makes up an MTU stops none, not the largest either.
#[cold]
#[inline(never)]
fn room_for_all<F: Frame>(
    snapshot: &Snapshot,
    lane: &Lane<'_, F>,
    tunnel: &Tunnel,
    mut path: Path,
    mtu: u16,
) -> u16 {
    let octets = lane.frame.bytes().get(ETHERNET_HEADER..).unwrap_or_default();
    if ipv4_fragment::may_split(octets, usize::from(mtu)).is_ok() {
        return mtu;
    }
    let enough = MINIMUM_MTU + gtpu::LARGEST_OVERHEAD_IN_IPV4;
    path.mtu = path.mtu.max(enough.min(port_mtu(snapshot, path.adjacency)));
    room(tunnel, &path, tunnel.overhead.into())
}

/// Whether a carried packet may have this source and this destination.
pub(super) fn has_addresses_of_nodes(packet: &Packet) -> bool {
    let may_be = |address| !ipv4::is_invalid_source(address) && !ipv4::is_link_local(address);
    may_be(packet.source) && may_be(packet.destination)
}

/// Whether a packet off the core with a destination that has this next hop is for a prefix that is carried: this
/// is no other IPv4 router.
#[inline]
pub(super) fn is_carried(hop: Hop) -> bool {
    matches!(
        hop.unpack(),
        NextHop::Tunnel(_)
            | NextHop::Hold
            | NextHop::After(_)
            | NextHop::HoldExpired
            | NextHop::NodeAbsent
            | NextHop::Unallocated
            | NextHop::Prohibited
    )
}

/// Why nothing goes to the peer of a tunnel.
#[cold]
pub(super) fn unresolved<F>(tunnel: &Tunnel, path: &Path, output: &mut Output<F>) -> DropReason {
    if path.on_link == u8::MAX {
        return DropReason::NoRoute;
    }
    let remote = u128::from_be_bytes(tunnel.remote);
    output.missing(usize::from(path.on_link), remote, false);
    DropReason::NeighbourUnresolved
}

/// Lowers what a SYN says of segments, as [`super::encapsulate::clamp_mss`] does.
#[cold]
#[inline(never)]
fn clamp<F: Frame>(snapshot: &Snapshot, frame: &mut F, index: u32) {
    let tunnel = snapshot.tunnels.get(index);
    let path = snapshot.paths.get(tunnel.path);
    let most = room(&tunnel, &path, tunnel.overhead.into()).saturating_sub(mss::HEADERS_IPV4);
    let packet = frame.bytes_mut().get_mut(ETHERNET_HEADER..);
    // A tunnel whose peer is not reached has no room, and takes nothing.
    if most > 0 {
        mss::clamp_ipv4(packet.unwrap_or_default(), most);
    }
}

/// Writes the outer headers into the room in front of an IPv4 packet.
fn write_outer<F: Frame>(frame: &mut F, tunnel: &Tunnel, sequence: impl Fn() -> u16) -> bool {
    let Some(packet) = frame.bytes_mut().get_mut(ETHERNET_HEADER..) else {
        return false;
    };
    let number = |it: &GtpU| if it.sequence_numbers { sequence() } else { 0 };
    let (local, remote, hops) = (&tunnel.local, &tunnel.remote, tunnel.hop_limit);
    let shown = Shown::of_ipv4;
    match (&tunnel.encapsulation, tunnel.encapsulation_limit) {
        (Encapsulation::Ipv6InIpv6, None) => ip6_in_ip6::encapsulate_ipv4(packet, local, remote, hops),
        (Encapsulation::Ipv6InIpv6, Some(limit)) => {
            ip6_in_ip6::encapsulate_any_limited(packet, local, remote, hops, limit, shown)
        }
        (Encapsulation::Gre(it), _) => gre::encapsulate_any(packet, local, remote, hops, it, shown),
        (Encapsulation::GtpU(it), _) if tunnel.is_over_ipv4() => {
            gtpu::encapsulate_any_in_ipv4(packet, local, remote, hops, it, number(it), shown)
        }
        (Encapsulation::GtpU(it), _) => {
            gtpu::encapsulate_any(packet, local, remote, hops, it, number(it), shown)
        }
    }
}
