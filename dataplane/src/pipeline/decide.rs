//! What becomes of one packet.

use kedge_dataplane_api::model::Encapsulation;

use super::{Lane, Origin, Output, Pipeline};
use crate::counters::Stage;
use crate::drops::DropReason;
use crate::fib::NO_MATCH;
use crate::frame::Frame;
use crate::snapshot::{
    Adjacency, LinkLayerAddress, NextHop, Route, Snapshot, SourceRule, TEID_OF_OTHERS, Tunnel,
};
use crate::stage::checksum::Sum;
use crate::stage::icmpv6_error::{self, Icmpv6Error};
use crate::stage::parse::{
    self, ETHERNET_HEADER, IPV6_HEADER, UpperLayer, is_link_local, is_link_scope_multicast, is_multicast,
    is_never_on_the_wire,
};
use crate::tunnel::{gtpu, ip6_in_ip6};

const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];
/// No inner packet is refused for being larger than a tunnel's MTU below this (RFC 2473 section 7.1).
const MINIMUM_MTU: u16 = 1280;

/// Why a packet goes no further, and what its sender is told.
struct Refusal(DropReason, Option<Tell>);

/// What the sender of a packet is told of it.
enum Tell {
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
enum Step {
    /// By this next hop.
    Forward(NextHop),
    /// To the kernel.
    Punt,
    /// Take the outer headers off; these octets of the outer packet are the inner one.
    Decapsulate {
        tunnel: u32,
        inner: std::ops::Range<usize>,
    },
    /// Say that we are here.
    AnswerEcho(gtpu::Message),
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
        route: Route,
        source: Route,
        output: &mut Output<F>,
    ) -> Option<Lane<F>> {
        let step = match lane.origin {
            Origin::Wire => self.admit(snapshot, &lane, route, source),
            Origin::Tunnel(tunnel) => self.admit_inner(snapshot, &lane, route, source, tunnel),
            Origin::Own => match route.next_hop {
                NextHop::Local => Err(DropReason::NoRoute.into()),
                next_hop => Ok(Step::Forward(next_hop)),
            },
        };
        let refusal = match step {
            Ok(Step::Punt) => {
                self.punt(snapshot, now, lane, output);
                return None;
            }
            Ok(Step::AnswerEcho(message)) => return self.answer_echo(now, lane, &message),
            Ok(Step::Decapsulate { tunnel, inner }) => {
                return match decapsulate(snapshot, &mut lane, tunnel, inner) {
                    Ok(()) => {
                        self.counters.stage(Stage::Decapsulated, 1);
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
                match self.forward(snapshot, lane, next_hop, route.counter, output) {
                    Ok(()) => return None,
                    Err((back, refusal)) => {
                        lane = back;
                        refusal
                    }
                }
            }
            Err(refusal) => refusal,
        };
        self.refuse(snapshot, now, lane, refusal)
    }

    /// Whether a packet off the wire may go on, and how.
    #[inline]
    fn admit<F: Frame>(
        &mut self,
        snapshot: &Snapshot,
        lane: &Lane<F>,
        route: Route,
        source: Route,
    ) -> Result<Step, Refusal> {
        let packet = &lane.packet;
        if is_multicast(packet.source) || is_never_on_the_wire(packet.source) {
            return Err(DropReason::SourceInvalid.into());
        }
        if is_multicast(packet.destination) {
            let stays = is_link_scope_multicast(packet.destination);
            return if stays {
                Ok(Step::Punt)
            } else {
                Err(DropReason::MulticastUnsupported.into())
            };
        }
        if is_link_local(packet.destination) {
            return Ok(Step::Punt);
        }
        if is_link_local(packet.source) {
            // Neighbour discovery and DHCPv6 may come to a global address of ours.
            return if route.next_hop == NextHop::Local {
                self.local(snapshot, lane)
            } else {
                Err(DropReason::SourceLinkLocal.into())
            };
        }
        if packet.source == 0 || is_never_on_the_wire(packet.destination) {
            return Err(DropReason::SourceInvalid.into());
        }
        let access = snapshot.ports.get(lane.port).is_some_and(|port| port.access);
        let mut next_hop = route.next_hop;
        if access {
            // BCP 38: only what the binding allows, from the node that has it.
            let rule = source.source;
            let from = |port: u8, address: LinkLayerAddress| {
                usize::from(port) == lane.port && address == lane.source_link_layer
            };
            match rule {
                SourceRule::Native {
                    port,
                    link_layer_address,
                } if from(port, link_layer_address) => {}
                SourceRule::Tunnel {
                    port,
                    link_layer_address,
                    tunnel,
                } if from(port, link_layer_address) => {
                    if next_hop != NextHop::Local {
                        next_hop = NextHop::Tunnel(tunnel);
                    }
                }
                _ => return Err(DropReason::SourceNotBound.into()),
            }
            self.counters.stage(Stage::SourceChecked, 1);
            snapshot
                .prefix_traffic
                .from(self.worker, source.counter, packet.length);
        }
        if next_hop == NextHop::Local {
            self.local(snapshot, lane)
        } else {
            Ok(Step::Forward(next_hop))
        }
    }

    /// A packet to an address of this node.
    fn local<F: Frame>(&self, snapshot: &Snapshot, lane: &Lane<F>) -> Result<Step, Refusal> {
        let octets = lane.frame.bytes().get(ETHERNET_HEADER..).unwrap_or_default();
        let upper = parse::upper_layer(octets, lane.packet.next_header)?;
        match upper.next_header {
            ip6_in_ip6::NEXT_HEADER => {}
            gtpu::UDP => return self.local_udp(snapshot, lane, upper),
            _ => return Ok(Step::Punt),
        }
        // A node has no business to bring tunnelled packets, whatever its source.
        let access = snapshot.ports.get(lane.port).is_none_or(|port| port.access);
        // Those behind extension headers were not looked up with the burst.
        let tunnel = match lane.peer {
            NO_MATCH => snapshot.peers.lookup(lane.packet.source),
            tunnel => tunnel,
        };
        if access || !is_from_peer(snapshot, lane, tunnel) || upper.later_fragment {
            return Err(DropReason::TunnelUnknownPeer.into());
        }
        Ok(Step::Decapsulate {
            tunnel,
            inner: upper.offset..octets.len(),
        })
    }

    /// A UDP packet to an address of this node: its GTP-U port is ours, all others are the kernel's.
    fn local_udp<F: Frame>(
        &self,
        snapshot: &Snapshot,
        lane: &Lane<F>,
        upper: UpperLayer,
    ) -> Result<Step, Refusal> {
        let packet = lane.frame.bytes().get(ETHERNET_HEADER..).unwrap_or_default();
        let udp = packet.get(upper.offset..).unwrap_or_default();
        let to_gtpu = |udp: &[u8]| udp.get(2..4) == Some(&gtpu::PORT.to_be_bytes());
        if upper.later_fragment || !to_gtpu(udp) {
            return Ok(Step::Punt);
        }
        // A node has no business to bring tunnelled packets, nor to ask about paths.
        if snapshot.ports.get(lane.port).is_none_or(|port| port.access) {
            return Err(DropReason::TunnelUnknownPeer.into());
        }
        self.check_udp(lane, udp)?;
        let message = match gtpu::read(udp) {
            Ok(message) => message,
            Err(gtpu::Problem::UdpMalformed) => return Err(DropReason::UdpMalformed.into()),
            Err(gtpu::Problem::Malformed) => return Err(DropReason::GtpuMalformed.into()),
            Err(gtpu::Problem::VersionUnsupported) => {
                return Err(DropReason::GtpuVersionUnsupported.into());
            }
            Err(gtpu::Problem::ExtensionUnsupported(message)) => {
                let answer = gtpu::Answer::SupportedExtensionHeadersNotification;
                let tell = Tell::Gtpu(answer, message);
                return Err(Refusal(DropReason::GtpuExtensionUnsupported, Some(tell)));
            }
        };
        use gtpu::message_type as kind;
        match message.kind {
            kind::G_PDU => {}
            kind::ECHO_REQUEST => return Ok(Step::AnswerEcho(message)),
            // What is about paths and tunnels is the control plane's.
            kind::ECHO_RESPONSE
            | kind::ERROR_INDICATION
            | kind::SUPPORTED_EXTENSION_HEADERS_NOTIFICATION
            | kind::TUNNEL_STATUS
            | kind::END_MARKER => return Ok(Step::Punt),
            _ => return Err(DropReason::GtpuMessageUnknown.into()),
        }
        let tunnel = match lane.peer {
            // Behind extension headers it was not looked up with the burst.
            NO_MATCH => snapshot.peers.lookup(gtpu::key(message.teid, lane.packet.source)),
            tunnel => tunnel,
        };
        if tunnel == NO_MATCH {
            // TEID 0 is of no tunnel, and nothing is said of it (section 7.3.1).
            let tell = (message.teid != 0).then_some(Tell::Gtpu(gtpu::Answer::ErrorIndication, message));
            return Err(Refusal(DropReason::GtpuTeidUnknown, tell));
        }
        if tunnel == TEID_OF_OTHERS || !is_from_peer(snapshot, lane, tunnel) {
            return Err(DropReason::GtpuPeerMismatch.into());
        }
        if udp.get(message.offset).is_some_and(|first| first >> 4 == 4) {
            return Err(DropReason::GtpuInnerIpv4.into());
        }
        Ok(Step::Decapsulate {
            tunnel,
            inner: upper.offset + message.offset..upper.offset + message.end,
        })
    }

    /// The checksum of a UDP packet (RFC 8200 section 8.1).
    #[inline]
    fn check_udp<F: Frame>(&self, lane: &Lane<F>, udp: &[u8]) -> Result<(), DropReason> {
        let Some([_, _, _, _, l0, l1, c0, c1]) = udp.first_chunk() else {
            return Err(DropReason::UdpMalformed);
        };
        if [*c0, *c1] == [0, 0] {
            return if self.accept_zero_checksums {
                Ok(())
            } else {
                Err(DropReason::UdpChecksumZero)
            };
        }
        let length = u16::from_be_bytes([*l0, *l1]);
        let covered = udp.get(..usize::from(length)).ok_or(DropReason::UdpMalformed)?;
        let packet = lane.frame.bytes().get(ETHERNET_HEADER..).unwrap_or_default();
        let sum = if lane.packet.next_header == gtpu::UDP {
            // The addresses are in front of it: one run of octets.
            let run = packet.get(8..IPV6_HEADER + covered.len()).unwrap_or_default();
            Sum::default().octets(run)
        } else {
            let addresses = packet.get(8..IPV6_HEADER).unwrap_or_default();
            Sum::default().octets(addresses).octets(covered)
        };
        // With the other two numbers of the pseudo-header.
        let numbers = u64::from(length) + u64::from(gtpu::UDP);
        if sum.number(numbers).is_right() {
            Ok(())
        } else {
            Err(DropReason::UdpChecksumWrong)
        }
    }

    /// Whether a packet out of a tunnel may go on, and how.
    ///
    /// Either we serve the node that it is for, and the peer anchors its prefix; or we anchor the
    /// prefix that it is from, and the peer serves the node (RFC 6275 section 10.4.5, RFC 6705 section 13).
    #[inline]
    fn admit_inner<F: Frame>(
        &mut self,
        snapshot: &Snapshot,
        lane: &Lane<F>,
        route: Route,
        source: Route,
        tunnel: u32,
    ) -> Result<Step, Refusal> {
        let packet = &lane.packet;
        let invalid = |address| {
            is_multicast(address) || is_link_local(address) || is_never_on_the_wire(address) || address == 0
        };
        if invalid(packet.source) || invalid(packet.destination) {
            return Err(DropReason::TunnelInnerSourceInvalid.into());
        }
        let for_served = matches!(route.source, SourceRule::Tunnel { tunnel: its, .. } if its == tunnel);
        let from_anchored = source.next_hop == NextHop::Tunnel(tunnel);
        if !for_served && !from_anchored {
            return Err(DropReason::TunnelInnerSourceInvalid.into());
        }
        if from_anchored {
            snapshot
                .prefix_traffic
                .from(self.worker, source.counter, packet.length);
        }
        if route.next_hop != NextHop::Local {
            return Ok(Step::Forward(route.next_hop));
        }
        let octets = lane.frame.bytes().get(ETHERNET_HEADER..).unwrap_or_default();
        let upper = parse::upper_layer(octets, packet.next_header)?;
        let inner = octets.get(upper.offset..).unwrap_or_default();
        let nested = match upper.next_header {
            ip6_in_ip6::NEXT_HEADER => true,
            gtpu::UDP => inner.get(2..4) == Some(&gtpu::PORT.to_be_bytes()),
            _ => false,
        };
        if nested {
            Err(DropReason::TunnelNested.into())
        } else {
            Ok(Step::Punt)
        }
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
            snapshot.prefix_traffic.to(self.worker, counter, length);
        }
        result
    }

    #[inline]
    fn encapsulate<F: Frame>(
        &mut self,
        snapshot: &Snapshot,
        mut lane: Lane<F>,
        index: u32,
        output: &mut Output<F>,
    ) -> Result<(), (Lane<F>, Refusal)> {
        let Some(tunnel) = snapshot.tunnels.at(index) else {
            return Err((lane, DropReason::NoRoute.into()));
        };
        let path = snapshot.paths.get(tunnel.path);
        if path.adjacency == 0 {
            if path.on_link == u8::MAX {
                return Err((lane, DropReason::NoRoute.into()));
            }
            output.missing(usize::from(path.on_link), u128::from_be_bytes(tunnel.remote));
            return Err((lane, DropReason::NeighbourUnresolved.into()));
        }
        let mtu = tunnel.mtu.min(path.mtu.saturating_sub(tunnel.overhead));
        let inner_length = lane.packet.length;
        if inner_length > usize::from(mtu) {
            // RFC 2473 section 7.1: what is larger than 1,280 octets is its sender's to make smaller.
            let refusal = if inner_length > usize::from(MINIMUM_MTU) {
                Refusal(
                    DropReason::PacketTooBig,
                    Some(Icmpv6Error::PacketTooBig(mtu.max(MINIMUM_MTU)).into()),
                )
            } else {
                DropReason::TunnelMtuTooSmall.into()
            };
            return Err((lane, refusal));
        }
        let front = usize::from(tunnel.overhead);
        if lane.frame.prepend(front).is_err() {
            return Err((lane, DropReason::NoHeadroom.into()));
        }
        // The old Ethernet header is overwritten by the end of the new headers; the new one is written on
        // the way out.
        if !write_outer(&mut lane.frame, tunnel) {
            return Err((lane, DropReason::Ipv6Malformed.into()));
        }
        lane.packet.length += front;
        let adjacency = snapshot.adjacencies.get(path.adjacency);
        self.pass_to_neighbour(snapshot, lane, adjacency, Stage::Encapsulated, output)?;
        snapshot.tunnel_traffic.to(self.worker, index, inner_length);
        Ok(())
    }

    #[inline]
    fn pass_to_neighbour<F: Frame>(
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
        write_ethernet(&mut lane.frame, destination, description.link_layer_address);
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
fn own<F: Frame>(mut lane: Lane<F>) -> Option<Lane<F>> {
    lane.packet = parse::ipv6(lane.frame.bytes().get(ETHERNET_HEADER..).unwrap_or_default()).ok()?;
    lane.origin = Origin::Own;
    Some(lane)
}

/// Whether a packet that came in is from the peer of this tunnel, and for our end of it.
#[inline]
fn is_from_peer<F>(snapshot: &Snapshot, lane: &Lane<F>, tunnel: u32) -> bool {
    let ends = |it: &Tunnel| {
        u128::from_be_bytes(it.local) == lane.packet.destination
            && u128::from_be_bytes(it.remote) == lane.packet.source
    };
    tunnel != NO_MATCH && snapshot.tunnels.at(tunnel).is_some_and(ends)
}

/// Writes the outer headers into the room in front of an inner packet.
#[inline]
fn write_outer<F: Frame>(frame: &mut F, tunnel: &Tunnel) -> bool {
    let Some(packet) = frame.bytes_mut().get_mut(ETHERNET_HEADER..) else {
        return false;
    };
    match &tunnel.encapsulation {
        Encapsulation::Ipv6InIpv6 => {
            let Some((place, inner)) = packet.split_first_chunk_mut::<IPV6_HEADER>() else {
                return false;
            };
            let header = ip6_in_ip6::outer_header(tunnel.local, tunnel.remote, tunnel.hop_limit, inner);
            header.is_some_and(|header| {
                *place = header;
                true
            })
        }
        Encapsulation::GtpU(it) => {
            gtpu::encapsulate(packet, tunnel.local, tunnel.remote, tunnel.hop_limit, it)
        }
    }
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
    write_ethernet(&mut lane.frame, own, lane.source_link_layer);
    let inner = lane
        .frame
        .bytes_mut()
        .get_mut(ETHERNET_HEADER..)
        .unwrap_or_default();
    ip6_in_ip6::accept_inner(inner, outer.traffic_class)?;
    lane.packet = parse::ipv6(inner).map_err(|_| DropReason::TunnelInnerMalformed)?;
    lane.frame.truncate(ETHERNET_HEADER + lane.packet.length);
    lane.origin = Origin::Tunnel(tunnel);
    Ok(())
}

#[inline]
fn write_ethernet<F: Frame>(frame: &mut F, destination: LinkLayerAddress, source: LinkLayerAddress) {
    if let Some((to, rest)) = frame.bytes_mut().split_first_chunk_mut::<6>()
        && let Some((from, rest)) = rest.split_first_chunk_mut::<6>()
        && let Some(ethertype) = rest.first_chunk_mut::<2>()
    {
        *to = destination;
        *from = source;
        *ethertype = ETHERTYPE_IPV6;
    }
}
