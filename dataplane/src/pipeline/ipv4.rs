//! IPv4 off the wire: tunnelled packets for us, what the kernel needs to be a neighbour, and what is for a prefix that is
//! carried in tunnels ([`super::inner_ipv4`]). Nothing else is taken.
//!
//! ```text
//!  ARP about us ─────────────► kernel          IPv4 to us ─► UDP port 2152 ─► GTP-U, as over IPv6
//!  ARP about others ─► dropped                            ├► ICMP about that ─► what it says of the path, or of the inner packet
//!                                                         └► the rest ──────► kernel
//!                                              IPv4 to a carried prefix ─► by its next hop
//!                                              IPv4 to others ─► dropped: this is no other IPv4 router
//! ```

use super::decide::{Refusal, Step};
use super::inner_ipv4::{has_addresses_of_nodes, is_carried};
use super::{Ipv4Fragments, Note, Pipeline, View};
use crate::drops::DropReason;
use crate::fib::NO_MATCH;
use crate::frame::Frame;
use crate::snapshot::{Entry, Exit, Hop, NextHop, PortDescription, Snapshot};
use crate::stage::checksum::Sum;
use crate::stage::ipv4;
use crate::stage::parse::{ETHERNET_HEADER, ETHERTYPE_ARP, ETHERTYPE_IPV4, Packet};
use crate::tunnel::error::icmpv4;
use crate::tunnel::gtpu;

/// Hardware type Ethernet, protocol type IPv4, and the lengths of their addresses.
const ARP_FOR_IPV4: [u8; 6] = [0, 1, 8, 0, 6, 4];
/// Octets of such a packet.
const ARP: usize = 28;

/// Reads what is no IPv6 packet. Mobile nodes have IPv6 only, so from the access side nothing is taken.
// Not left to the compiler: what a call gives is copied once more, and most of what comes here is tunnelled.
#[inline(always)]
pub(super) fn enter(
    octets: &[u8],
    ethertype: u16,
    description: &PortDescription,
) -> Result<Packet, DropReason> {
    if ethertype == ETHERTYPE_IPV4 && !description.access {
        return ipv4::read(octets);
    }
    enter_odd(octets, ethertype, description)
}

#[inline(never)]
fn enter_odd(octets: &[u8], ethertype: u16, description: &PortDescription) -> Result<Packet, DropReason> {
    match ethertype {
        ETHERTYPE_ARP if !description.access => arp(octets),
        _ => Err(DropReason::EthertypeUnsupported),
    }
}

/// Who asks, and about whom.
fn arp(octets: &[u8]) -> Result<Packet, DropReason> {
    let octets = octets.first_chunk::<ARP>().ok_or(DropReason::FrameTooShort)?;
    let [.., s0, s1, s2, s3, _, _, _, _, _, _, t0, t1, t2, t3] = *octets;
    if !octets.starts_with(&ARP_FOR_IPV4) {
        return Err(DropReason::EthertypeUnsupported);
    }
    Ok(Packet {
        source: ipv4::mapped([s0, s1, s2, s3]),
        destination: ipv4::mapped([t0, t1, t2, t3]),
        length: ARP,
        hop_limit: 0,
        traffic_class: 0,
        next_header: 0,
    })
}

/// Questions about us, answers to us, and what our neighbours announce of themselves.
fn admit_arp(view: View<'_>, route: Entry) -> Result<Step, Refusal> {
    let packet = &view.packet;
    if route.hop() == Hop::LOCAL || packet.source == packet.destination {
        Ok(Step::Punt)
    } else {
        Err(DropReason::ArpNotForUs.into())
    }
}

/// By what the tunnel of a UDP packet to us is looked up, with the others of its burst. A fragment has none: the first would wait for
/// its tunnel to become known, and those behind it, which name no tunnel, would not.
#[inline]
pub(super) fn peer_key<F: Frame>(frame: &F, note: &Note) -> Option<u128> {
    let octets = frame.bytes().get(ETHERNET_HEADER..)?;
    let (is_fragment, _) = ipv4::fragment(octets);
    if is_fragment {
        return None;
    }
    let udp = octets.get(ipv4::header_length(octets)..)?;
    Some(gtpu::key(gtpu::peek_teid(udp)?, note.packet.source))
}

/// Whether an IPv4 packet can go there: the default route of IPv6 is none for it.
#[inline(never)]
pub(super) fn leaves_by(snapshot: &Snapshot, hop: Hop) -> bool {
    match hop.unpack() {
        NextHop::Adjacency(index) => ipv4::is_mapped(snapshot.adjacencies.get(index).address),
        NextHop::OnLink { .. } => true,
        _ => snapshot.carries_ipv4 && is_carried(hop),
    }
}

impl Pipeline {
    /// Whether a packet off the wire that is not IPv6 may go on, and how. `exit` is what was found by its number and peer, if that was
    /// looked up.
    #[inline(never)]
    pub(super) fn admit_ipv4(
        &self,
        snapshot: &Snapshot,
        view: View<'_>,
        route: Entry,
        exit: Exit,
    ) -> Result<Step, Refusal> {
        if view.ethertype == ETHERTYPE_ARP {
            return admit_arp(view, route);
        }
        let packet = &view.packet;
        if ipv4::is_invalid_source(packet.source) {
            return Err(DropReason::SourceInvalid.into());
        }
        if ipv4::is_multicast(packet.destination) {
            return if ipv4::is_link_scope_multicast(packet.destination) {
                Ok(Step::Punt)
            } else {
                Err(DropReason::MulticastUnsupported.into())
            };
        }
        let hop = route.hop();
        if hop != Hop::LOCAL {
            return if !(snapshot.carries_ipv4 && is_carried(hop)) {
                Err(DropReason::Ipv4NotForUs.into())
            } else if has_addresses_of_nodes(packet) {
                Ok(Step::Forward(hop))
            } else {
                Err(DropReason::SourceInvalid.into())
            };
        }
        let octets = view.octets;
        let (is_fragment, is_later) = ipv4::fragment(octets);
        let header = ipv4::header_length(octets);
        let udp = octets.get(header..).unwrap_or_default();
        let is_fragment_of_peer = || {
            is_fragment && packet.next_header == gtpu::UDP && snapshot.peers.lookup(packet.source) != NO_MATCH
        };
        if self.ipv4_fragments != Ipv4Fragments::Refused && is_fragment_of_peer() {
            return Ok(Step::Reassemble);
        }
        // A later one does not say for which port it is; from who has a tunnel here it is one of that, and the kernel would wait for its
        // first fragment in vain.
        if is_later && is_fragment_of_peer() {
            return Err(DropReason::TunnelFragment.into());
        }
        if packet.next_header == icmpv4::PROTOCOL && !is_fragment {
            return self.local_icmp(snapshot, view, header);
        }
        let to_gtpu =
            packet.next_header == gtpu::UDP && !is_later && udp.get(2..4) == Some(&gtpu::PORT.to_be_bytes());
        if !to_gtpu {
            return Ok(Step::Punt);
        }
        if is_fragment {
            return Err(DropReason::TunnelFragment.into());
        }
        check_udp(octets, udp)?;
        self.local_gtpu(snapshot, view, header, udp, exit)
    }
}

/// The checksum of a UDP packet, where it has one (RFC 768).
#[inline]
fn check_udp(octets: &[u8], udp: &[u8]) -> Result<(), DropReason> {
    let Some([_, _, _, _, l0, l1, c0, c1]) = udp.first_chunk() else {
        return Err(DropReason::UdpMalformed);
    };
    if [*c0, *c1] == [0, 0] {
        return Ok(());
    }
    let length = u16::from_be_bytes([*l0, *l1]);
    let covered = udp.get(..usize::from(length)).ok_or(DropReason::UdpMalformed)?;
    let sum = Sum::default()
        .octets(octets.get(12..ipv4::HEADER).unwrap_or_default())
        .octets(covered)
        .number(u64::from(length) + u64::from(gtpu::UDP));
    if sum.is_right() {
        Ok(())
    } else {
        Err(DropReason::UdpChecksumWrong)
    }
}
