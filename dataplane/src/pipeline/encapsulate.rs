//! Into a tunnel (RFC 2473 section 3.1).
//!
//! Most packets fit, have no extension headers, and go into tunnels of which nothing more is asked. What is not
//! so is found out by one question, and takes the long way: the tunnel encapsulation limit, what is too large, and
//! TCP's maximum segment size.

use kedge_dataplane_api::model::{Encapsulation, GtpU};

use super::decide::Refusal;
use super::inner_ipv4::unresolved;
use super::{Lane, Note, Output, Pipeline};
use crate::counters::Stage;
use crate::drops::DropReason;
use crate::frame::Frame;
use crate::snapshot::{Headers, Path, Snapshot, Tunnel};
use crate::stage::icmpv6_error::Icmpv6Error;
use crate::stage::mss;
use crate::stage::parse::{self, ETHERNET_HEADER};
use crate::tunnel::error::MINIMUM_MTU;
use crate::tunnel::{gre, gtpu, ip6_in_ip6, outer};

impl Pipeline {
    /// Puts a packet into a tunnel, and gives the port. Whoever has it done counts it.
    #[inline]
    pub(super) fn encapsulate<F: Frame>(
        &mut self,
        snapshot: &Snapshot,
        lane: &mut Lane<'_, F>,
        index: u32,
        output: &mut Output<F>,
    ) -> Result<u8, Refusal> {
        let Some(tunnel) = snapshot.tunnels.at(index) else {
            return Err(DropReason::NoRoute.into());
        };
        let Some(path) = snapshot.paths.at(tunnel.path) else {
            return Err(DropReason::NoRoute.into());
        };
        if path.adjacency == 0 {
            return Err(unresolved(tunnel, path, output).into());
        }
        let inner_length = lane.packet.length;
        let front = usize::from(tunnel.overhead);
        // As `room`, in fewer instructions.
        if inner_length > usize::from(tunnel.mtu)
            || inner_length + front > usize::from(path.mtu)
            || tunnel.encapsulation_limit.is_some()
            || parse::is_extension_header(lane.packet.next_header)
            || self.clamp_mss
        {
            return self.encapsulate_with_care(snapshot, lane, index, output);
        }
        if lane.frame.prepend(front).is_err() {
            return Err(DropReason::NoHeadroom.into());
        }
        // The old Ethernet header is overwritten by the end of the new headers; the new one is written on
        // the way out.
        if !write_outer(&mut lane.frame, tunnel, || self.sequence(snapshot, index)) {
            return Err(DropReason::Ipv6Malformed.into());
        }
        mark(&mut lane.frame, tunnel, front);
        lane.packet.length += front;
        lane.ethertype = tunnel.ethertype;
        self.pass_to_neighbour(snapshot, lane, path.adjacency, Stage::Encapsulated, output)
    }

    /// Number of the next packet into this tunnel; of the first one 0. It is asked for only where packets are numbered,
    /// and there this worker counts all of them.
    #[inline]
    pub(super) fn sequence(&self, snapshot: &Snapshot, index: u32) -> u16 {
        let counted = snapshot.counted_into(self.worker, index) as u16;
        counted.wrapping_sub(snapshot.tunnels.get(index).first_sequence)
    }

    /// [`Pipeline::encapsulate`] for any packet and any tunnel.
    #[cold]
    #[inline(never)]
    fn encapsulate_with_care<F: Frame>(
        &mut self,
        snapshot: &Snapshot,
        lane: &mut Lane<'_, F>,
        index: u32,
        output: &mut Output<F>,
    ) -> Result<u8, Refusal> {
        let tunnel = snapshot.tunnels.get(index);
        let path = snapshot.paths.get(tunnel.path);
        let (mut front, mut limit) = (u16::from(tunnel.overhead), tunnel.encapsulation_limit);
        match inner_limit(lane) {
            Some((pointer, 0)) => {
                let error = Icmpv6Error::ParameterProblem(pointer);
                let refusal = Refusal(DropReason::TunnelEncapsulationLimit, Some(error.into()));
                return Err(refusal);
            }
            // RFC 2473 section 4.1.1: in GTP-U there is no place for it, in GRE none that RFC 2784 knows of.
            Some((_, more)) if tunnel.encapsulation == Encapsulation::Ipv6InIpv6 => {
                (front, limit) = (ip6_in_ip6::OVERHEAD + ip6_in_ip6::LIMIT_OVERHEAD, Some(more - 1));
            }
            _ => {}
        }
        if self.clamp_mss {
            clamp_mss(snapshot, &mut lane.frame, lane.note, index);
        }
        let mtu = room(&tunnel, &path, front);
        let inner_length = lane.packet.length;
        let too_large = inner_length > usize::from(mtu);
        if too_large && inner_length > usize::from(MINIMUM_MTU) {
            // RFC 2473 section 7.1: what is larger than 1,280 octets is its sender's to make smaller.
            let error = Icmpv6Error::PacketTooBig(mtu.max(MINIMUM_MTU));
            return Err(Refusal(DropReason::PacketTooBig, Some(error.into())));
        }
        let front = usize::from(front);
        if lane.frame.prepend(front).is_err() {
            return Err(DropReason::NoHeadroom.into());
        }
        let written = match limit {
            Some(limit) => write_limited(&mut lane.frame, &tunnel, limit),
            None => write_outer(&mut lane.frame, &tunnel, || self.sequence(snapshot, index)),
        };
        if !written {
            return Err(DropReason::Ipv6Malformed.into());
        }
        mark(&mut lane.frame, &tunnel, front);
        lane.packet.length += front;
        lane.ethertype = tunnel.ethertype;
        if too_large {
            let size = usize::from(mtu) + front;
            self.pass_in_fragments(snapshot, lane, &path, size, output)
        } else {
            self.pass_to_neighbour(snapshot, lane, path.adjacency, Stage::Encapsulated, output)
        }
    }
}

/// Largest inner packet that goes in whole with so many octets of headers in front, octets.
#[inline]
pub(super) fn room(tunnel: &Tunnel, path: &Path, front: u16) -> u16 {
    tunnel.mtu.min(path.mtu.saturating_sub(front))
}

/// The tunnel encapsulation limit of an inner packet: where it is, octets, and its value.
fn inner_limit<F: Frame>(lane: &Lane<'_, F>) -> Option<(u16, u8)> {
    let packet = lane.frame.bytes().get(ETHERNET_HEADER..).unwrap_or_default();
    let (at, limit) = ip6_in_ip6::limit_of(packet)?;
    Some((u16::try_from(at).ok()?, limit))
}

/// Lowers what a SYN that goes into a tunnel, or has come out of it, says of segments to what fits the tunnel.
#[inline(never)]
pub(super) fn clamp_mss<F: Frame>(snapshot: &Snapshot, frame: &mut F, note: &Note, index: u32) {
    let next_header = note.packet.next_header;
    let packet = frame.bytes_mut().get_mut(ETHERNET_HEADER..);
    let packet = packet.unwrap_or_default();
    if mss::may_be_syn(packet, next_header) {
        let tunnel = snapshot.tunnels.get(index);
        let path = snapshot.paths.get(tunnel.path);
        let most = room(&tunnel, &path, tunnel.overhead.into()).max(MINIMUM_MTU) - mss::HEADERS;
        mss::clamp(packet, most);
    }
}

/// Gives the outer headers, so many octets in front of a packet, the code point of this tunnel.
#[inline]
pub(super) fn mark<F: Frame>(frame: &mut F, tunnel: &Tunnel, front: usize) {
    if tunnel.dscp != 0
        && let Some(packet) = frame.bytes_mut().get_mut(ETHERNET_HEADER..)
    {
        outer::mark(packet, front, tunnel.dscp);
    }
}

/// Writes the outer headers into the room in front of an inner packet.
#[inline]
fn write_outer<F: Frame>(frame: &mut F, tunnel: &Tunnel, sequence: impl Fn() -> u16) -> bool {
    let Some(packet) = frame.bytes_mut().get_mut(ETHERNET_HEADER..) else {
        return false;
    };
    let (local, remote, hops) = (&tunnel.local, &tunnel.remote, tunnel.hop_limit);
    match (tunnel.headers, &tunnel.encapsulation) {
        (Headers::PlainGtpU, Encapsulation::GtpU(it)) => {
            gtpu::encapsulate_plain(packet, local, remote, hops, it)
        }
        (Headers::PlainGtpUInIpv4, Encapsulation::GtpU(it)) => {
            gtpu::encapsulate_plain_in_ipv4(packet, local, remote, hops, it)
        }
        (_, Encapsulation::Ipv6InIpv6) => ip6_in_ip6::encapsulate(packet, local, remote, hops),
        (_, Encapsulation::Gre(it)) => gre::encapsulate(packet, local, remote, hops, it),
        (_, Encapsulation::GtpU(it)) => write_more(packet, tunnel, it, sequence),
    }
}

/// The same of GTP-U with something optional: fewer tunnels have that, and its instructions are not to lie between those of others.
#[inline(never)]
fn write_more(packet: &mut [u8], tunnel: &Tunnel, it: &GtpU, sequence: impl Fn() -> u16) -> bool {
    let number = if it.sequence_numbers { sequence() } else { 0 };
    let (local, remote, hops) = (&tunnel.local, &tunnel.remote, tunnel.hop_limit);
    if tunnel.is_over_ipv4() {
        gtpu::encapsulate_in_ipv4(packet, local, remote, hops, it, number)
    } else {
        gtpu::encapsulate(packet, local, remote, hops, it, number)
    }
}

/// The same of IPv6 in IPv6 with a tunnel encapsulation limit.
fn write_limited<F: Frame>(frame: &mut F, tunnel: &Tunnel, limit: u8) -> bool {
    let packet = frame.bytes_mut().get_mut(ETHERNET_HEADER..);
    packet.is_some_and(|packet| {
        ip6_in_ip6::encapsulate_limited(packet, &tunnel.local, &tunnel.remote, tunnel.hop_limit, limit)
    })
}
