//! What becomes of one packet.

use super::admit::{count_tunnel, may_become_known};
use super::encapsulate::clamp_mss;
use super::hold::{by_tables, is_behind_unknown, must_wait};
use super::limits::Punt;
use super::punt::too_big_for_kernel;
use super::{Lane, Note, Origin, Output, Pipeline, ipv4};
use crate::counters::Stage;
use crate::drops::DropReason;
use crate::flow::Verdict;
use crate::frame::Frame;
use crate::snapshot::{Entry, Hop, LinkLayerAddress, NextHop, Snapshot};
use crate::stage::icmpv6_error::{self, Icmpv6Error};
use crate::stage::parse::{self, ETHERNET_HEADER, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Packet};
use crate::tunnel::outer::ECN;
use crate::tunnel::{gtpu, ip6_in_ip6};

/// Why a packet goes no further, and what its sender is told.
pub(super) struct Refusal(pub(super) DropReason, pub(super) Option<Tell>);

/// What the sender of a packet is told of it.
pub(super) enum Tell {
    Icmpv6(Icmpv6Error),
    /// About the GTP-U message that it is.
    Gtpu(gtpu::Answer),
}

impl From<Icmpv6Error> for Tell {
    fn from(error: Icmpv6Error) -> Self {
        Self::Icmpv6(error)
    }
}

impl From<DropReason> for Refusal {
    fn from(reason: DropReason) -> Self {
        Self(reason, None)
    }
}

/// What to do with a packet that may go on. Small: one is made for every packet.
pub(super) enum Step {
    /// By this next hop.
    Forward(Hop),
    /// To the kernel.
    Punt,
    /// Put it together with the others.
    Reassemble,
    /// Take the outer headers off.
    Decapsulate { tunnel: u32, inner: Inner },
    /// The same where IPv4 is inside.
    DecapsulateIpv4 { tunnel: u32, inner: Inner },
    /// The tunnel has brought its last for the prefix of the packet's destination.
    EndPath { tunnel: u32 },
    /// Say that we are here.
    AnswerEcho,
    /// Somebody between us and the peer of a tunnel says what became of a packet in it.
    TunnelError,
}

/// Which octets of an outer packet are the inner one.
#[derive(Clone, Copy)]
pub(super) struct Inner {
    start: u32,
    end: u32,
}

impl Inner {
    /// Both are places in a frame.
    #[inline]
    pub(super) fn new(range: std::ops::Range<usize>) -> Self {
        Self {
            start: range.start as u32,
            end: range.end as u32,
        }
    }

    #[inline]
    pub(super) fn range(self) -> (usize, usize) {
        (self.start as usize, self.end as usize)
    }
}

// What is told of a packet that was refused, and what is done with one that was not, goes in registers.
const _: () = assert!(size_of::<Refusal>() <= 8 && size_of::<Step>() <= 16);

impl Pipeline {
    /// Does with a packet what the tables say of its destination and its source, of whose routes these are the
    /// indexes. Gives a frame back if the packet has become another one.
    #[inline]
    pub(super) fn decide<F: Frame>(
        &mut self,
        snapshot: &Snapshot,
        now: u64,
        mut lane: Lane<'_, F>,
        (destination, source): (u32, u32),
        verdict: Option<&Verdict>,
        output: &mut Output<F>,
    ) -> Option<F> {
        let route = snapshot.routes.get(destination);
        if output.has_unknown() && is_behind_unknown(&lane, output) {
            if let Origin::Tunnel(tunnel) = lane.origin {
                count_tunnel(snapshot, self.worker, &lane, tunnel);
            }
            if self.hold_unknown(snapshot, now, lane, output).is_some() {
                self.counters.add_drops(DropReason::UnknownFull, 1);
            }
            return None;
        }
        let step = match lane.origin {
            Origin::Wire => self.admit(snapshot, &lane, route, source),
            Origin::Tunnel(tunnel) => self.admit_inner(snapshot, &lane, route, source, tunnel),
            Origin::Own | Origin::Held | Origin::Flow(_) => {
                let hop = by_tables(snapshot, lane.origin, route, source);
                let stays = lane.ethertype == ETHERTYPE_IPV4 && !ipv4::leaves_by(snapshot, hop);
                if hop == Hop::LOCAL || stays {
                    Err(DropReason::NoRoute.into())
                } else {
                    Ok(Step::Forward(hop))
                }
            }
        };
        let refusal = match step {
            Ok(Step::Forward(hop)) => {
                // Before it waits, if it has to: what a filter sends elsewhere does not, and no packet meets
                // filters twice.
                let mut hop = match verdict.filter(|it| !it.is_nothing()) {
                    None => hop,
                    Some(verdict) => match self.obey(snapshot, &mut lane, verdict, route, hop) {
                        Ok(hop) => hop,
                        Err(reason) => return frame(self.refuse(snapshot, now, lane, reason.into())),
                    },
                };
                if hop.may_wait() || output.holds() {
                    match must_wait(snapshot, &lane, route, hop, output) {
                        Ok(then) => hop = then,
                        Err(wait) => {
                            self.hold(snapshot, now, lane, wait, output);
                            return None;
                        }
                    }
                }
                match self.forward(snapshot, &mut lane, hop, route, output) {
                    Ok(port) => {
                        self.send(lane.frame, port, snapshot, output);
                        return None;
                    }
                    Err(refusal) => refusal,
                }
            }
            Ok(step) => return frame(self.turn(snapshot, now, lane, step, output)),
            Err(refusal) => {
                if !lane.late && may_become_known(snapshot, &lane, &refusal) {
                    lane = self.hold_unknown(snapshot, now, lane, output)?;
                }
                refusal
            }
        };
        frame(self.refuse(snapshot, now, lane, refusal))
    }

    /// Does with a packet what is not forwarding. Gives a lane back if its packet has become another one.
    #[cold]
    #[inline(never)]
    fn turn<'a, F: Frame>(
        &mut self,
        snapshot: &Snapshot,
        now: u64,
        lane: Lane<'a, F>,
        step: Step,
        output: &mut Output<F>,
    ) -> Option<Lane<'a, F>> {
        match step {
            Step::Forward(_) => None,
            Step::Punt => {
                if let Some(refusal) = too_big_for_kernel(snapshot, &lane) {
                    return self.refuse(snapshot, now, lane, refusal);
                }
                self.punt(snapshot, now, lane, output);
                None
            }
            Step::EndPath { tunnel } => {
                self.counters.stage(Stage::PathEnded, 1);
                output.ended(tunnel, lane.packet.destination);
                None
            }
            Step::AnswerEcho => self.answer_echo(now, lane),
            Step::TunnelError => self.tunnel_error(snapshot, now, lane, output),
            Step::Reassemble => self.reassemble(now, lane, output),
            Step::Decapsulate { tunnel, inner } | Step::DecapsulateIpv4 { tunnel, inner } => {
                let Lane { mut frame, note } = lane;
                // What is inside may have to wait once more.
                note.late = false;
                let done = if let Step::DecapsulateIpv4 { .. } = step {
                    self.decapsulate_ipv4(snapshot, &mut frame, note, tunnel, inner)
                } else {
                    self.decapsulate_odd(snapshot, &mut frame, note, tunnel, inner)
                };
                match done {
                    Ok(()) => Some(Lane { frame, note }),
                    Err(reason) => {
                        self.counters.add_drops(reason, 1);
                        None
                    }
                }
            }
        }
    }

    /// Takes the packet inside out of a tunnel. For whom it is counted is known when it has been looked up.
    // Not left to the compiler: there is one place where it is done to nearly every packet, and others would have it a call there.
    #[inline(always)]
    pub(super) fn decapsulate<F: Frame>(
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
        let mut packet = Packet::of(parse::whole_ipv6(octets).map_err(|_| WRONG)?);
        // Without ECN bits outside, those inside stay as they are (RFC 6040 section 4.2).
        if note.packet.traffic_class & ECN != 0 {
            ip6_in_ip6::accept_inner(octets, note.packet.traffic_class)?;
            packet = Packet::of(parse::whole_ipv6(octets).map_err(|_| WRONG)?);
        }
        frame.strip(start).map_err(|_| WRONG)?;
        frame.truncate(ETHERNET_HEADER + packet.length);
        note.packet = packet;
        note.ethertype = ETHERTYPE_IPV6;
        note.origin = Origin::Tunnel(tunnel);
        note.checked = true;
        self.counters.stage(Stage::Decapsulated, 1);
        if self.clamp_mss {
            clamp_mss(snapshot, frame, note, tunnel);
        }
        Ok(())
    }

    /// [`Pipeline::decapsulate`], where few packets come.
    #[inline(never)]
    pub(super) fn decapsulate_odd<F: Frame>(
        &mut self,
        snapshot: &Snapshot,
        frame: &mut F,
        note: &mut Note,
        tunnel: u32,
        inner: Inner,
    ) -> Result<(), DropReason> {
        self.decapsulate(snapshot, frame, note, tunnel, inner)
    }

    /// Makes a packet ready to leave by its next hop, and gives the port. If it is not to leave, it is as before,
    /// but perhaps for its hop limit.
    #[inline]
    fn forward<F: Frame>(
        &mut self,
        snapshot: &Snapshot,
        lane: &mut Lane<'_, F>,
        hop: Hop,
        route: Entry,
        output: &mut Output<F>,
    ) -> Result<u8, Refusal> {
        if !hop.goes_on() {
            return Err(no_way(hop.unpack(), lane.packet.destination, output));
        }
        if lane.ethertype != ETHERTYPE_IPV6 {
            return self.forward_ipv4(snapshot, lane, hop, route.counter(), output);
        }
        if lane.origin != Origin::Own {
            let hop_limit = lane.packet.hop_limit;
            if hop_limit <= 1 {
                let error = Icmpv6Error::HopLimitExceeded;
                return Err(Refusal(DropReason::HopLimitExceeded, Some(error.into())));
            }
            lane.packet.hop_limit = hop_limit - 1;
            // With the seven octets before it: a checksum may read all of them at once, and would wait.
            let first = lane.frame.bytes_mut().get_mut(ETHERNET_HEADER..);
            if let Some(first) = first.and_then(|octets| octets.first_chunk_mut::<8>()) {
                let [rest @ .., _] = *first;
                let [a, b, c, d, e, f, g] = rest;
                *first = [a, b, c, d, e, f, g, hop_limit - 1];
            }
        }
        let length = lane.packet.length;
        let port = match hop.unpack() {
            NextHop::Deliver {
                port,
                link_layer_address,
            } => {
                let port = self.address(snapshot, lane, port, &link_layer_address, Stage::Delivered)?;
                let counter = route.counter();
                snapshot.prefix_traffic.to(self.worker, counter, length, self.now);
                port
            }
            NextHop::Tunnel(tunnel) => {
                let port = self.encapsulate(snapshot, lane, tunnel, output)?;
                snapshot.count_into(self.worker, route, tunnel, length);
                port
            }
            NextHop::Adjacency(index) => {
                return self.pass_to_neighbour(snapshot, lane, index, Stage::Routed, output);
            }
            other => return Err(no_way(other, lane.packet.destination, output)),
        };
        Ok(port)
    }

    /// The same by the neighbour with this index.
    // Not left to the compiler: as a call, of which there is one for nearly every packet, it is a third longer.
    #[inline(always)]
    pub(super) fn pass_to_neighbour<F: Frame>(
        &mut self,
        snapshot: &Snapshot,
        lane: &mut Lane<'_, F>,
        adjacency: u32,
        stage: Stage,
        output: &mut Output<F>,
    ) -> Result<u8, Refusal> {
        let Some(adjacency) = snapshot.adjacencies.at(adjacency) else {
            return Err(DropReason::NoRoute.into());
        };
        let Some(link_layer_address) = &adjacency.link_layer_address else {
            output.missing(usize::from(adjacency.port), adjacency.address, false);
            return Err(DropReason::NeighbourUnresolved.into());
        };
        self.address(snapshot, lane, adjacency.port, link_layer_address, stage)
    }

    /// Writes the Ethernet header.
    #[inline]
    fn address<F: Frame>(
        &mut self,
        snapshot: &Snapshot,
        lane: &mut Lane<'_, F>,
        port: u8,
        destination: &LinkLayerAddress,
        stage: Stage,
    ) -> Result<u8, Refusal> {
        let Some(description) = snapshot.ports.get(usize::from(port)) else {
            return Err(DropReason::NoRoute.into());
        };
        let Lane { frame, note } = lane;
        if note.packet.length > usize::from(description.mtu) {
            let error = Icmpv6Error::PacketTooBig(description.mtu);
            return Err(Refusal(DropReason::PacketTooBig, Some(error.into())));
        }
        write_ethernet(
            frame,
            destination,
            &description.link_layer_address,
            note.ethertype,
        );
        self.counters.stage(stage, 1);
        Ok(port)
    }

    /// Puts a frame that is ready into the output of a port.
    #[inline]
    pub(super) fn send<F: Frame>(&mut self, frame: F, port: u8, snapshot: &Snapshot, output: &mut Output<F>) {
        let port = usize::from(port);
        let tagged = snapshot.ports.get(port).and_then(|it| it.vlan);
        self.put_out(frame, port, tagged, output);
    }

    /// Counts a packet as dropped; gives a lane back with the error about it, where there is one to send.
    #[cold]
    #[inline(never)]
    fn refuse<'a, F: Frame>(
        &mut self,
        snapshot: &Snapshot,
        now: u64,
        lane: Lane<'a, F>,
        refusal: Refusal,
    ) -> Option<Lane<'a, F>> {
        let Refusal(reason, tell) = refusal;
        self.counters.add_drops(reason, 1);
        match tell.filter(|_| lane.origin != Origin::Own)? {
            Tell::Icmpv6(error) => self.tell_icmpv6(snapshot, now, lane, error),
            Tell::Gtpu(answer) => {
                // With those of ICMP.
                if !self.errors.take_gtpu(now) {
                    self.counters.stage(Stage::GtpuErrorSuppressed, 1);
                    return None;
                }
                self.answer_gtpu(lane, answer)
            }
        }
    }

    /// The answer to an Echo Request; as many as there may be packets of a kind to the kernel, and for the same reason.
    fn answer_echo<'a, F: Frame>(&mut self, now: u64, lane: Lane<'a, F>) -> Option<Lane<'a, F>> {
        if !self.punts.take(Punt::Echo, now) {
            self.counters.add_drops(DropReason::PuntRateLimited, 1);
            return None;
        }
        self.answer_gtpu(lane, gtpu::Answer::EchoResponse)
    }

    /// Turns a lane into the answer to the message in it.
    fn answer_gtpu<'a, F: Frame>(
        &mut self,
        mut lane: Lane<'a, F>,
        answer: gtpu::Answer,
    ) -> Option<Lane<'a, F>> {
        let (from, to) = (lane.packet.source, lane.packet.destination);
        // It was read before, or there would be nothing to answer.
        let message = gtpu_message(&lane)?;
        if !gtpu::answer(&mut lane.frame, answer, &message, from, to) {
            self.counters.add_drops(DropReason::NoHeadroom, 1);
            return None;
        }
        self.counters.stage(
            match answer {
                gtpu::Answer::EchoResponse => Stage::GtpuEchoResponseSent,
                gtpu::Answer::ErrorIndication => Stage::GtpuErrorIndicationSent,
                gtpu::Answer::SupportedExtensionHeadersNotification => {
                    Stage::GtpuSupportedExtensionHeadersNotificationSent
                }
            },
            1,
        );
        own(lane)
    }

    fn tell_icmpv6<'a, F: Frame>(
        &mut self,
        snapshot: &Snapshot,
        now: u64,
        mut lane: Lane<'a, F>,
        error: Icmpv6Error,
    ) -> Option<Lane<'a, F>> {
        if lane.ethertype == ETHERTYPE_IPV4 {
            let told = self.tell_icmpv4(snapshot, now, lane, error);
            self.counters
                .stage(Stage::Icmpv4ErrorSent, u64::from(told.is_some()));
            return told;
        }
        let octets = lane.frame.bytes().get(ETHERNET_HEADER..).unwrap_or_default();
        let (to, from) = (lane.packet.source, snapshot.node_address);
        if !icmpv6_error::permitted(
            octets,
            to,
            lane.packet.destination,
            error,
            lane.packet.next_header,
        ) {
            return None;
        }
        if !self.errors.take(error, now) {
            self.counters.stage(Stage::Icmpv6ErrorSuppressed, 1);
            return None;
        }
        if !icmpv6_error::build(&mut lane.frame, error, from, to) {
            return None;
        }
        self.counters.stage(Stage::Icmpv6ErrorSent, 1);
        own(lane)
    }
}

/// A lane whose frame holds a packet of our own now.
pub(super) fn own<F: Frame>(mut lane: Lane<'_, F>) -> Option<Lane<'_, F>> {
    let octets = lane.frame.bytes().get(ETHERNET_HEADER..).unwrap_or_default();
    let packet = if lane.ethertype == ETHERTYPE_IPV4 {
        crate::stage::ipv4::read(octets).ok()?
    } else {
        parse::ipv6(octets).ok()?
    };
    lane.packet = packet;
    lane.origin = Origin::Own;
    lane.checked = false;
    Some(lane)
}

/// Why a packet does not go by this next hop.
#[cold]
#[inline(never)]
pub(super) fn no_way<F>(next_hop: NextHop, destination: u128, output: &mut Output<F>) -> Refusal {
    let told = |reason, error: Icmpv6Error| Refusal(reason, Some(error.into()));
    match next_hop {
        NextHop::Unallocated => told(DropReason::PrefixUnallocated, Icmpv6Error::NoRoute),
        NextHop::Prohibited => told(DropReason::Prohibited, Icmpv6Error::AdministrativelyProhibited),
        NextHop::NodeAbsent => DropReason::NodeAbsent.into(),
        // What is to be held does not come here.
        NextHop::Hold | NextHop::After(_) | NextHop::HoldExpired => DropReason::HoldExpired.into(),
        NextHop::OnLink { port } => {
            output.missing(usize::from(port), destination, true);
            DropReason::NeighbourUnresolved.into()
        }
        NextHop::Local => DropReason::NoRoute.into(),
        // The last three are no reason.
        NextHop::None | NextHop::Deliver { .. } | NextHop::Tunnel(_) | NextHop::Adjacency(_) => {
            told(DropReason::NoRoute, Icmpv6Error::NoRoute)
        }
    }
}

/// What is left of a lane whose note is in its place.
#[inline]
fn frame<F>(lane: Option<Lane<'_, F>>) -> Option<F> {
    lane.map(|lane| lane.frame)
}

/// The GTP-U message of a packet, once more.
fn gtpu_message<F: Frame>(lane: &Lane<'_, F>) -> Option<gtpu::Message> {
    let octets = lane.frame.bytes().get(ETHERNET_HEADER..)?;
    let offset = if lane.ethertype == ETHERTYPE_IPV4 {
        crate::stage::ipv4::header_length(octets)
    } else {
        parse::upper_layer(octets, lane.packet.next_header).ok()?.offset
    };
    match gtpu::read(octets.get(offset..)?) {
        Ok(message) | Err(gtpu::Problem::ExtensionUnsupported(message)) => Some(message),
        Err(_) => None,
    }
}

#[inline]
pub(super) fn write_ethernet<F: Frame>(
    frame: &mut F,
    destination: &LinkLayerAddress,
    source: &LinkLayerAddress,
    ethertype: u16,
) {
    if let Some((to, rest)) = frame.bytes_mut().split_first_chunk_mut::<6>()
        && let Some((from, rest)) = rest.split_first_chunk_mut::<6>()
        && let Some(place) = rest.first_chunk_mut::<2>()
    {
        *to = *destination;
        *from = *source;
        *place = ethertype.to_be_bytes();
    }
}
