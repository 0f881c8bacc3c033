//! ICMP errors about packets that we put into tunnels.
//!
//! Such an error is believed if it can be about a packet of ours (RFC 8201 section 4, and what RFC 5927 says of
//! the same attack on TCP): it comes from the core side, its checksum is right, what it quotes is from our end of
//! a tunnel to the peer of that tunnel, and for GTP-U also the TEID that the peer gave us and the UDP source port
//! that the inner flow has. Whoever is not on the path would have to guess these. An MTU below 1,280, over IPv4 below 576, or not
//! below the size of the packet that it is about, is no MTU.
//!
//! An MTU counts, and somebody outside is told, only if the inner packet, as much of it as is quoted, goes into that tunnel by
//! the tables and the filters: else whoever knows the ends of a tunnel could make its path as narrow as a path may be, and have us
//! tell anyone anything, of packets that nobody sent. The exception is what routers of IPv4 quote of so little that no inner
//! packet is there: see [`icmpv4`].

use super::decide::{Refusal, Step, own};
use super::filter::question_of_quoted;
use super::{Lane, Output, PathTooBig, Pipeline, View};
use crate::counters::Stage;
use crate::drops::DropReason;
use crate::fib::NO_MATCH;
use crate::flow::Asked;
use crate::frame::Frame;
use crate::snapshot::{Hop, Snapshot, SourceRule, Tunnel};
use crate::stage::checksum::Sum;
use crate::stage::icmpv6_error;
use crate::stage::ipv4;
use crate::stage::parse::{self, ETHERNET_HEADER, ETHERTYPE_IPV4, ETHERTYPE_IPV6, IPV6_HEADER};
use crate::tunnel::error::{self, Carried, TunnelError, icmpv4};
use kedge_dataplane_api::model::Encapsulation;

impl Pipeline {
    /// A packet of either ICMP, whose header is at `offset`, to an address of this node: an error about a tunnel is ours, all else
    /// is the kernel's.
    pub(super) fn local_icmp(
        &self,
        snapshot: &Snapshot,
        view: View<'_>,
        offset: usize,
    ) -> Result<Step, Refusal> {
        match of_tunnel(snapshot, view, offset)? {
            Some(_) => Ok(Step::TunnelError),
            None => Ok(Step::Punt),
        }
    }

    /// Notes what an error says of the path, and turns it into what the source of the inner packet is told.
    pub(super) fn tunnel_error<'a, F: Frame>(
        &mut self,
        snapshot: &Snapshot,
        now: u64,
        mut lane: Lane<'a, F>,
        output: &mut Output<F>,
    ) -> Option<Lane<'a, F>> {
        // It was read before, or it would not be here.
        let octets = lane.frame.bytes().get(ETHERNET_HEADER..).unwrap_or_default();
        let offset = if lane.ethertype == ETHERTYPE_IPV4 {
            ipv4::header_length(octets)
        } else {
            parse::upper_layer(octets, lane.packet.next_header).ok()?.offset
        };
        let (index, error) = of_tunnel(snapshot, lane.view(), offset).ok().flatten()?;
        // Believed, so it is less than the length of a packet.
        let too_big = error.too_big().and_then(|mtu| u16::try_from(mtu).ok());
        if error.carried == Carried::Unknown {
            // There is nobody to tell. Which tunnel it was is not known either, so whether it is news is found out later.
            note(output, error.destination, too_big, false);
            self.counters.stage(Stage::TunnelErrorTaken, 1);
            return None;
        }
        let inner = error.inner(octets.get(offset..).unwrap_or_default());
        // Of IPv6 in IPv6 this is all that must be guessed but for the two ends, which anybody may know.
        if way_of(snapshot, inner) != Some(index) {
            self.counters.stage(Stage::TunnelErrorTaken, 1);
            return None;
        }
        let tunnel = snapshot.tunnels.get(index);
        let mut room = tunnel.mtu;
        if let Some(mtu) = too_big {
            let before = snapshot.paths.get(tunnel.path).mtu;
            note(
                output,
                error.destination,
                too_big.filter(|mtu| *mtu < before),
                true,
            );
            let front = u16::try_from(error.overhead()).unwrap_or(u16::MAX);
            room = room.min(mtu.saturating_sub(front));
        }
        // What is behind the quotation is not to be quoted.
        lane.frame.truncate(ETHERNET_HEADER + offset + error.end);
        let packet = lane.frame.bytes().get(ETHERNET_HEADER..).unwrap_or_default();
        let message = packet.get(offset..).unwrap_or_default();
        let inner = error.inner(message);
        if snapshot.carries_ipv4
            && let Some(inner_packet) = ipv4::read_quoted(inner)
        {
            let Some(tell) = error.translated_to_ipv4(message, inner, room) else {
                self.counters.stage(Stage::TunnelErrorTaken, 1);
                return None;
            };
            // It becomes the packet that the error is about, as much of it as was quoted.
            if lane.frame.strip(offset + error.offset).is_err() {
                self.counters.add_drops(DropReason::NoHeadroom, 1);
                return None;
            }
            lane.packet = inner_packet;
            let told = self.tell_icmpv4(snapshot, now, lane, tell);
            let stage = if told.is_some() {
                Stage::TunnelErrorTranslated
            } else {
                Stage::TunnelErrorTaken
            };
            self.counters.stage(stage, 1);
            return told;
        }
        let Some((inner_packet, tell)) = parse::ipv6_header(inner).ok().and_then(|packet| {
            let tell = error.translated(message, packet.length, room)?;
            let (from, to) = (packet.source, packet.destination);
            icmpv6_error::permitted(inner, from, to, tell, packet.next_header).then_some((packet, tell))
        }) else {
            self.counters.stage(Stage::TunnelErrorTaken, 1);
            return None;
        };
        if !self.errors.take(tell, now) {
            self.counters.stage(Stage::Icmpv6ErrorSuppressed, 1);
            return None;
        }
        let built = lane.frame.strip(offset + error.offset).is_ok()
            && icmpv6_error::build(&mut lane.frame, tell, snapshot.node_address, inner_packet.source);
        if !built {
            self.counters.add_drops(DropReason::NoHeadroom, 1);
            return None;
        }
        self.counters.stage(Stage::TunnelErrorTranslated, 1);
        lane.ethertype = ETHERTYPE_IPV6;
        own(lane)
    }
}

/// Leaves what a path takes for the control thread.
fn note<F>(output: &mut Output<F>, remote: u128, mtu: Option<u16>, proven: bool) {
    let remote = remote.into();
    let known = |it: &PathTooBig| it.remote == remote && Some(it.mtu) <= mtu && it.proven >= proven;
    if let Some(mtu) = mtu
        && !output.too_big.iter().any(known)
    {
        // With many at once, the rest is noted with later errors.
        let _ = output.too_big.try_push(PathTooBig { remote, mtu, proven });
    }
}

/// The tunnel that an error to this node, whose ICMP header is at `offset`, is about, and what it says; `None` if it is no such error.
/// Where too little is quoted to tell the tunnel, the number is that of none.
fn of_tunnel(
    snapshot: &Snapshot,
    view: View<'_>,
    offset: usize,
) -> Result<Option<(u32, TunnelError)>, DropReason> {
    let packet = view.octets;
    let message = packet.get(offset..).unwrap_or_default();
    let over_ipv4 = view.ethertype == ETHERTYPE_IPV4;
    let error = if over_ipv4 {
        icmpv4::read(message)
    } else {
        error::read(message)
    };
    let Some(error) = error else {
        return Ok(None);
    };
    if snapshot.ports.get(view.port).is_none_or(|port| port.access) {
        return Err(DropReason::TunnelErrorInvalid);
    }
    if over_ipv4 && !Sum::default().octets(message).is_right() {
        return Err(DropReason::Icmpv4ChecksumWrong);
    }
    let sum = || {
        Sum::default()
            .octets(packet.get(8..IPV6_HEADER).unwrap_or_default())
            .number(message.len() as u64)
            .number(u64::from(error::ICMPV6))
            .octets(message)
    };
    if !over_ipv4 && !sum().is_right() {
        return Err(DropReason::Icmpv6ChecksumWrong);
    }
    let believed = error.too_big().is_none_or(|mtu| {
        usize::try_from(mtu).is_ok_and(|mtu| usize::from(error.least_mtu()) <= mtu && mtu < error.length)
    });
    let tunnel = match error.carried {
        Carried::Unknown => may_be_ours(snapshot, view, &error).then_some(NO_MATCH),
        _ => tunnel_of(snapshot, &error, message),
    };
    match tunnel {
        Some(tunnel) if believed => Ok(Some((tunnel, error))),
        _ => Err(DropReason::TunnelErrorInvalid),
    }
}

/// Whether a packet of which little more than the addresses is quoted may be one of ours: it was from where the error has come to,
/// to somebody to whom tunnels lead, and no longer than a port lets out.
fn may_be_ours(snapshot: &Snapshot, view: View<'_>, error: &TunnelError) -> bool {
    let ports = snapshot.ports.iter().filter(|port| !port.access);
    let longest = ports.map(|port| usize::from(port.mtu)).max().unwrap_or_default();
    error.source == view.packet.destination
        && snapshot.peers.lookup(error.destination) != NO_MATCH
        && error.length <= longest
}

/// The tunnel that the packet quoted was put into.
fn tunnel_of(snapshot: &Snapshot, error: &TunnelError, message: &[u8]) -> Option<u32> {
    let is_its = |index: &u32| {
        snapshot
            .tunnels
            .at(*index)
            .is_some_and(|tunnel| fits(tunnel, error))
    };
    match error.carried {
        Carried::Ip => Some(snapshot.peers.lookup(error.destination))
            .filter(|index| *index != NO_MATCH)
            .filter(is_its),
        // TEIDs and keys of peers have no table of their own; the inner packet leads where it was sent.
        Carried::GPdu { .. } | Carried::Gre { .. } => {
            let inner = error.inner(message);
            way_of(snapshot, inner)
                .filter(is_its)
                .filter(|_| error.is_of(inner))
        }
        Carried::Unknown => None,
    }
}

/// The tunnel that tables and filters have the packet go into that `inner` begins with, as much of it as was quoted: of its
/// source's prefix, or else of its destination's.
fn way_of(snapshot: &Snapshot, inner: &[u8]) -> Option<u32> {
    let packet = match ipv4::read_quoted(inner) {
        Some(packet) => packet,
        None => parse::ipv6_header(inner).ok()?,
    };
    let (destination, source) = (
        snapshot.fib.lookup(packet.destination),
        snapshot.fib.lookup(packet.source),
    );
    let route = snapshot.routes.get(destination);
    let by_source = match snapshot.routes.source(source).rule() {
        SourceRule::Tunnel { tunnel, .. } => Some(tunnel),
        SourceRule::Behind { onward, .. } => onward,
        SourceRule::Refused | SourceRule::Native { .. } => None,
    };
    let then = |hop: Hop| match hop.after() {
        Some(index) => snapshot.afters.get(index).then.into(),
        None => hop,
    };
    let mut hop = by_source.map_or_else(|| then(route.hop()), Hop::by_tunnel);
    if snapshot.flows.any {
        let question = question_of_quoted(snapshot, destination, source);
        let Asked { verdicts, .. } = snapshot.flows.ask(std::iter::once((inner, &packet)), &[question]);
        if let Some(verdict) = verdicts.first() {
            hop = then(verdict.hop(route, hop));
        }
    }
    hop.tunnel()
}

/// Whether the outer headers of the packet quoted are those of this tunnel.
fn fits(tunnel: &Tunnel, error: &TunnelError) -> bool {
    let ends = (
        u128::from_be_bytes(tunnel.local),
        u128::from_be_bytes(tunnel.remote),
    );
    let carried = match (&tunnel.encapsulation, error.carried) {
        (Encapsulation::Ipv6InIpv6, Carried::Ip) => true,
        (Encapsulation::GtpU(it), Carried::GPdu { teid, .. }) => it.remote_teid.get() == teid,
        (Encapsulation::Gre(it), Carried::Gre { key }) => it.remote_key == key,
        _ => false,
    };
    ends == (error.source, error.destination) && tunnel.ethertype == error.ethertype && carried
}
