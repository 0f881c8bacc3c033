//! What becomes of one packet.

use super::admit::may_become_known;
use super::encapsulate::clamp_mss;
use super::hold::{is_behind_unknown, must_wait};
use super::{Lane, Origin, Output, Pipeline, ipv4};
use crate::counters::Stage;
use crate::drops::DropReason;
use crate::flow::Verdict;
use crate::frame::Frame;
use crate::snapshot::{Adjacency, LinkLayerAddress, NextHop, Route, Snapshot};
use crate::stage::icmpv6_error::{self, Icmpv6Error};
use crate::stage::parse::{self, ETHERNET_HEADER, ETHERTYPE_IPV4, ETHERTYPE_IPV6};
use crate::tunnel::error::TunnelError;
use crate::tunnel::{gtpu, ip6_in_ip6};

/// Why a packet goes no further, and what its sender is told.
pub(super) struct Refusal(pub(super) DropReason, pub(super) Option<Tell>);

/// What the sender of a packet is told of it.
pub(super) enum Tell {
    Icmpv6(Icmpv6Error),
    Gtpu(gtpu::Answer, gtpu::Message),
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

/// What to do with a packet that may go on.
pub(super) enum Step {
    /// By this next hop.
    Forward(NextHop),
    /// To the kernel.
    Punt,
    /// Put it together with the others.
    Reassemble,
    /// Take the outer headers off; these octets of the outer packet are the inner one.
    Decapsulate {
        tunnel: u32,
        inner: std::ops::Range<usize>,
    },
    /// The tunnel has brought its last for the prefix of the packet's destination.
    EndPath { tunnel: u32 },
    /// Say that we are here.
    AnswerEcho(gtpu::Message),
    /// Somebody between us and the peer of this tunnel says what became of a packet in it.
    TunnelError {
        tunnel: u32,
        error: TunnelError,
        /// Octets in front of the ICMPv6 header.
        offset: usize,
    },
}

impl Pipeline {
    /// Does with a lane what the tables say of its destination and its source.
    /// Gives a lane back if its packet has become another one.
    #[inline]
    pub(super) fn decide<F: Frame>(
        &mut self,
        snapshot: &Snapshot,
        now: u64,
        mut lane: Lane<F>,
        (route, source): (Route, Route),
        verdict: Option<&Verdict>,
        output: &mut Output<F>,
    ) -> Option<Lane<F>> {
        if output.has_unknown() && is_behind_unknown(&lane, output) {
            if self.hold_unknown(snapshot, now, lane, output).is_some() {
                self.counters.add_drops(DropReason::HoldPrefixFull, 1);
            }
            return None;
        }
        let step = match lane.origin {
            Origin::Wire => self.admit(snapshot, &lane, route, source),
            Origin::Tunnel(tunnel) => self.admit_inner(snapshot, &lane, route, source, tunnel),
            Origin::Own | Origin::Held => match route.next_hop {
                NextHop::Local => Err(DropReason::NoRoute.into()),
                _ if lane.ethertype == ETHERTYPE_IPV4 && !ipv4::leaves_by(snapshot, route.next_hop) => {
                    Err(DropReason::NoRoute.into())
                }
                next_hop => Ok(Step::Forward(next_hop)),
            },
        };
        let refusal = match step {
            Ok(Step::Punt) => {
                self.punt(snapshot, now, lane, output);
                return None;
            }
            Ok(Step::EndPath { tunnel }) => {
                self.counters.stage(Stage::PathEnded, 1);
                output.ended(tunnel, lane.packet.destination);
                return None;
            }
            Ok(Step::AnswerEcho(message)) => return self.answer_echo(now, lane, &message),
            Ok(Step::TunnelError {
                tunnel,
                error,
                offset,
            }) => return self.tunnel_error(snapshot, now, lane, (tunnel, &error, offset), output),
            Ok(Step::Reassemble) => return self.reassemble(now, lane, output),
            Ok(Step::Decapsulate { tunnel, inner }) => {
                return match decapsulate(snapshot, &mut lane, tunnel, inner) {
                    Ok(()) => {
                        self.counters.stage(Stage::Decapsulated, 1);
                        if self.clamp_mss {
                            clamp_mss(snapshot, &mut lane, tunnel);
                        }
                        snapshot
                            .tunnel_traffic
                            .from(self.worker, tunnel, lane.packet.length);
                        Some(lane)
                    }
                    Err(reason) => {
                        self.counters.add_drops(reason, 1);
                        None
                    }
                };
            }
            Ok(Step::Forward(next_hop)) => {
                // Before it waits, if it has to: what a filter sends elsewhere does not, and no packet meets
                // filters twice.
                let mut next_hop = match verdict.filter(|it| !it.is_nothing()) {
                    None => next_hop,
                    Some(verdict) => match self.obey(snapshot, &mut lane, verdict, route, next_hop) {
                        Ok(next_hop) => next_hop,
                        Err(reason) => return self.refuse(snapshot, now, lane, reason.into()),
                    },
                };
                if matches!(next_hop, NextHop::Hold | NextHop::After(_)) || output.holds() {
                    match must_wait(snapshot, &lane, route, next_hop, output) {
                        Some(then) => next_hop = then,
                        None => {
                            self.hold(snapshot, now, lane, route.counter, output);
                            return None;
                        }
                    }
                }
                match self.forward(snapshot, lane, next_hop, route.counter, output) {
                    Ok(()) => return None,
                    Err((back, refusal)) => {
                        lane = back;
                        refusal
                    }
                }
            }
            Err(refusal) => {
                if may_become_known(refusal.0) && !lane.late {
                    lane = self.hold_unknown(snapshot, now, lane, output)?;
                }
                refusal
            }
        };
        self.refuse(snapshot, now, lane, refusal)
    }

    /// Sends a packet by its next hop, or gives it back with the reason why not.
    #[inline]
    fn forward<F: Frame>(
        &mut self,
        snapshot: &Snapshot,
        mut lane: Lane<F>,
        next_hop: NextHop,
        counter: u32,
        output: &mut Output<F>,
    ) -> Result<(), (Lane<F>, Refusal)> {
        let refusal = match next_hop {
            NextHop::None => Some(Refusal(DropReason::NoRoute, Some(Icmpv6Error::NoRoute.into()))),
            NextHop::Unallocated => Some(Refusal(
                DropReason::PrefixUnallocated,
                Some(Icmpv6Error::NoRoute.into()),
            )),
            NextHop::Prohibited => Some(Refusal(
                DropReason::Prohibited,
                Some(Icmpv6Error::AdministrativelyProhibited.into()),
            )),
            NextHop::NodeAbsent => Some(DropReason::NodeAbsent.into()),
            // What is to be held does not come here.
            NextHop::Hold | NextHop::After(_) | NextHop::HoldExpired => Some(DropReason::HoldExpired.into()),
            NextHop::OnLink { port } => {
                output.missing(usize::from(port), lane.packet.destination);
                Some(DropReason::NeighbourUnresolved.into())
            }
            NextHop::Local => Some(DropReason::NoRoute.into()),
            NextHop::Deliver { .. } | NextHop::Tunnel(_) | NextHop::Adjacency(_) => None,
        };
        if let Some(refusal) = refusal {
            return Err((lane, refusal));
        }
        if lane.origin != Origin::Own {
            if lane.packet.hop_limit <= 1 {
                return Err((
                    lane,
                    Refusal(
                        DropReason::HopLimitExceeded,
                        Some(Icmpv6Error::HopLimitExceeded.into()),
                    ),
                ));
            }
            lane.packet.hop_limit -= 1;
            if let Some(hop_limit) = lane.frame.bytes_mut().get_mut(ETHERNET_HEADER + 7) {
                *hop_limit = lane.packet.hop_limit;
            }
        }
        let length = lane.packet.length;
        let result = match next_hop {
            NextHop::Deliver {
                port,
                link_layer_address,
            } => self.transmit(snapshot, lane, port, link_layer_address, Stage::Delivered, output),
            NextHop::Tunnel(tunnel) => self.encapsulate(snapshot, lane, tunnel, output),
            NextHop::Adjacency(adjacency) => {
                let adjacency = snapshot.adjacencies.get(adjacency);
                self.pass_to_neighbour(snapshot, lane, adjacency, Stage::Routed, output)
            }
            _ => Ok(()),
        };
        if result.is_ok() && !matches!(next_hop, NextHop::Adjacency(_)) {
            snapshot.prefix_traffic.to(self.worker, counter, length, self.now);
        }
        result
    }

    #[inline]
    pub(super) fn pass_to_neighbour<F: Frame>(
        &mut self,
        snapshot: &Snapshot,
        lane: Lane<F>,
        adjacency: Adjacency,
        stage: Stage,
        output: &mut Output<F>,
    ) -> Result<(), (Lane<F>, Refusal)> {
        let Some(link_layer_address) = adjacency.link_layer_address else {
            output.missing(usize::from(adjacency.port), adjacency.address);
            return Err((lane, DropReason::NeighbourUnresolved.into()));
        };
        self.transmit(snapshot, lane, adjacency.port, link_layer_address, stage, output)
    }

    /// Writes the Ethernet header and sends.
    #[inline]
    fn transmit<F: Frame>(
        &mut self,
        snapshot: &Snapshot,
        mut lane: Lane<F>,
        port: u8,
        destination: LinkLayerAddress,
        stage: Stage,
        output: &mut Output<F>,
    ) -> Result<(), (Lane<F>, Refusal)> {
        let port = usize::from(port);
        let Some(description) = snapshot.ports.get(port) else {
            return Err((lane, DropReason::NoRoute.into()));
        };
        if lane.packet.length > usize::from(description.mtu) {
            let error = Icmpv6Error::PacketTooBig(description.mtu);
            return Err((lane, Refusal(DropReason::PacketTooBig, Some(error.into()))));
        }
        write_ethernet(
            &mut lane.frame,
            destination,
            description.link_layer_address,
            lane.ethertype,
        );
        self.counters.stage(stage, 1);
        self.send(lane.frame, port, description, output);
        Ok(())
    }

    fn punt<F: Frame>(&mut self, snapshot: &Snapshot, now: u64, lane: Lane<F>, output: &mut Output<F>) {
        if !snapshot.ports.get(lane.port).is_some_and(|port| port.exception) {
            return self.counters.add_drops(DropReason::NoExceptionInterface, 1);
        }
        if !self.punts.take(now) {
            return self.counters.add_drops(DropReason::PuntRateLimited, 1);
        }
        if output
            .punt
            .get_mut(lane.port)
            .is_some_and(|burst| burst.try_push(lane.frame).is_ok())
        {
            self.counters.stage(Stage::Punted, 1);
        } else {
            self.counters.add_drops(DropReason::OutputFull, 1);
        }
    }

    /// Counts a packet as dropped; gives a lane back with the error about it, where there is one to send.
    fn refuse<F: Frame>(
        &mut self,
        snapshot: &Snapshot,
        now: u64,
        lane: Lane<F>,
        refusal: Refusal,
    ) -> Option<Lane<F>> {
        let Refusal(reason, tell) = refusal;
        self.counters.add_drops(reason, 1);
        match tell.filter(|_| lane.origin != Origin::Own)? {
            Tell::Icmpv6(error) => self.tell_icmpv6(snapshot, now, lane, error),
            Tell::Gtpu(answer, message) => {
                // Errors of all kinds together have one limit.
                if !self.icmpv6_errors.take(now) {
                    self.counters.stage(Stage::GtpuErrorSuppressed, 1);
                    return None;
                }
                self.answer_gtpu(lane, answer, &message)
            }
        }
    }

    /// The answer to an Echo Request; as many as there may be packets to the kernel, and for the same reason.
    fn answer_echo<F: Frame>(&mut self, now: u64, lane: Lane<F>, message: &gtpu::Message) -> Option<Lane<F>> {
        if !self.punts.take(now) {
            self.counters.add_drops(DropReason::PuntRateLimited, 1);
            return None;
        }
        self.answer_gtpu(lane, gtpu::Answer::EchoResponse, message)
    }

    /// Turns a lane into the answer to the message in it.
    fn answer_gtpu<F: Frame>(
        &mut self,
        mut lane: Lane<F>,
        answer: gtpu::Answer,
        message: &gtpu::Message,
    ) -> Option<Lane<F>> {
        let (from, to) = (lane.packet.source, lane.packet.destination);
        if !gtpu::answer(&mut lane.frame, answer, message, from, to) {
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

    fn tell_icmpv6<F: Frame>(
        &mut self,
        snapshot: &Snapshot,
        now: u64,
        mut lane: Lane<F>,
        error: Icmpv6Error,
    ) -> Option<Lane<F>> {
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
        if !self.icmpv6_errors.take(now) {
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
pub(super) fn own<F: Frame>(mut lane: Lane<F>) -> Option<Lane<F>> {
    let octets = lane.frame.bytes().get(ETHERNET_HEADER..).unwrap_or_default();
    lane.packet = if lane.ethertype == ETHERTYPE_IPV4 {
        crate::stage::ipv4::read(octets).ok()?
    } else {
        parse::ipv6(octets).ok()?
    };
    lane.origin = Origin::Own;
    Some(lane)
}

/// Takes the outer headers off. The frame gets an Ethernet header as if the inner packet had come in with it.
#[inline]
fn decapsulate<F: Frame>(
    snapshot: &Snapshot,
    lane: &mut Lane<F>,
    tunnel: u32,
    inner: std::ops::Range<usize>,
) -> Result<(), DropReason> {
    let outer = lane.packet;
    let own = snapshot
        .ports
        .get(lane.port)
        .map_or([0; 6], |port| port.link_layer_address);
    lane.frame.truncate(ETHERNET_HEADER + inner.end);
    lane.frame
        .strip(inner.start)
        .map_err(|_| DropReason::TunnelInnerMalformed)?;
    lane.ethertype = ETHERTYPE_IPV6;
    write_ethernet(&mut lane.frame, own, lane.source_link_layer, ETHERTYPE_IPV6);
    let inner = lane
        .frame
        .bytes_mut()
        .get_mut(ETHERNET_HEADER..)
        .unwrap_or_default();
    ip6_in_ip6::accept_inner(inner, outer.traffic_class)?;
    lane.packet = parse::ipv6(inner).map_err(|_| DropReason::TunnelInnerMalformed)?;
    lane.frame.truncate(ETHERNET_HEADER + lane.packet.length);
    // What is inside may have to wait once more.
    lane.late = false;
    lane.origin = Origin::Tunnel(tunnel);
    Ok(())
}

#[inline]
fn write_ethernet<F: Frame>(
    frame: &mut F,
    destination: LinkLayerAddress,
    source: LinkLayerAddress,
    ethertype: u16,
) {
    if let Some((to, rest)) = frame.bytes_mut().split_first_chunk_mut::<6>()
        && let Some((from, rest)) = rest.split_first_chunk_mut::<6>()
        && let Some(place) = rest.first_chunk_mut::<2>()
    {
        *to = destination;
        *from = source;
        *place = ethertype.to_be_bytes();
    }
}
