//! Whether a packet may go on: what comes in by a port, and what comes out of a tunnel.

use kedge_dataplane_api::path_end;

use super::decide::{Refusal, Step};
use super::filter::leads_into;
use super::inner_ipv4::has_addresses_of_nodes;
use super::subject::Subject;
use super::{Lane, Pipeline, peer_key};
use crate::counters::Stage;
use crate::drops::DropReason;
use crate::frame::Frame;
use crate::snapshot::{Entry, Exit, Hop, LinkLayerAddress, Snapshot, SourceRule};
use crate::stage::parse::{
    ETHERNET_HEADER, ETHERTYPE_IPV4, ETHERTYPE_IPV6, is_link_local, is_link_scope_multicast, is_multicast,
    is_never_on_the_wire, is_plain,
};

impl Pipeline {
    /// Whether a packet off the wire may go on, and how.
    #[inline(always)]
    pub(super) fn admit<F: Frame>(
        &mut self,
        snapshot: &Snapshot,
        lane: &Lane<'_, F>,
        route: Entry,
        source: u32,
    ) -> Result<Step, Refusal> {
        if lane.ethertype != ETHERTYPE_IPV6 {
            return self.admit_ipv4(snapshot, lane.view(), route, Exit::of(lane.peer));
        }
        let packet = &lane.packet;
        if !(is_plain(packet.source) && is_plain(packet.destination))
            && let Some(step) = self.admit_odd(snapshot, lane, route)
        {
            return step;
        }
        let access = snapshot.ports.get(lane.port).is_some_and(|port| port.access);
        let mut hop = route.hop();
        if access {
            // BCP 38: only what the binding allows, from the node that has it.
            let rule = snapshot.routes.source(source).rule();
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
                    if hop != Hop::LOCAL {
                        hop = Hop::by_tunnel(tunnel);
                    }
                }
                _ => return Err(DropReason::SourceNotBound.into()),
            }
            self.counters.stage(Stage::SourceChecked, 1);
            snapshot.prefix_traffic.from(
                self.worker,
                snapshot.routes.get(source).counter(),
                packet.length,
                self.now,
            );
        }
        if hop == Hop::LOCAL {
            self.local(snapshot, lane.view())
        } else {
            Ok(Step::Forward(hop))
        }
    }

    /// What becomes of a packet off the wire for the kind of its addresses; `None`: it may go on, as far as they
    /// are concerned.
    #[inline(never)]
    fn admit_odd<F: Frame>(
        &self,
        snapshot: &Snapshot,
        lane: &Lane<'_, F>,
        route: Entry,
    ) -> Option<Result<Step, Refusal>> {
        let packet = &lane.packet;
        if is_multicast(packet.source) || is_never_on_the_wire(packet.source) {
            return Some(Err(DropReason::SourceInvalid.into()));
        }
        if is_multicast(packet.destination) {
            let stays = is_link_scope_multicast(packet.destination);
            return Some(if stays {
                Ok(Step::Punt)
            } else {
                Err(DropReason::MulticastUnsupported.into())
            });
        }
        if is_link_local(packet.destination) {
            return Some(Ok(Step::Punt));
        }
        if is_link_local(packet.source) {
            // Neighbour discovery and DHCPv6 may come to a global address of ours.
            return Some(if route.hop() == Hop::LOCAL {
                self.local(snapshot, lane.view())
            } else {
                Err(DropReason::SourceLinkLocal.into())
            });
        }
        if packet.source == 0 || is_never_on_the_wire(packet.destination) {
            return Some(Err(DropReason::SourceInvalid.into()));
        }
        None
    }

    /// Whether a packet out of a tunnel may go on, and how.
    ///
    /// Either we serve the node that it is for, and the peer anchors its prefix; or we anchor the
    /// prefix that it is from, and the peer serves the node (RFC 6275 section 10.4.5, RFC 6705 section 13).
    #[inline]
    pub(super) fn admit_inner<F: Frame>(
        &mut self,
        snapshot: &Snapshot,
        lane: &Lane<'_, F>,
        route: Entry,
        source: u32,
        tunnel: u32,
    ) -> Result<Step, Refusal> {
        let packet = &lane.packet;
        let invalid = |address| {
            is_multicast(address) || is_link_local(address) || is_never_on_the_wire(address) || address == 0
        };
        let plain = is_plain(packet.source) && is_plain(packet.destination);
        if !plain {
            let valid = if lane.ethertype == ETHERTYPE_IPV4 {
                has_addresses_of_nodes(packet)
            } else {
                !invalid(packet.source) && !invalid(packet.destination)
            };
            if !valid {
                count_tunnel(snapshot, self.worker, lane, tunnel);
                return Err(DropReason::TunnelInnerSourceInvalid.into());
            }
        }
        // As most are, and what is below says of them too: from the node whose tunnel this is, to somewhere else.
        if (lane.is_of_tunnel()
            || snapshot
                .routes
                .get(source)
                .is_common_alone(Hop::by_tunnel(tunnel)))
            && route.hop() != Hop::LOCAL
            && packet.next_header != path_end::NO_NEXT_HEADER
            && !lane.late
        {
            snapshot.count_common_out_of(self.worker, tunnel, packet.length);
            return Ok(Step::Forward(route.hop()));
        }
        // What was not known to be needed with the others of the burst.
        let source = if lane.is_of_tunnel() {
            snapshot.fib.lookup(packet.source)
        } else {
            source
        };
        let from = snapshot.routes.get(source);
        let InnerPacket {
            for_served,
            for_arrived,
            from_anchored,
        } = InnerPacket::of(snapshot, route, source, tunnel);
        if for_arrived
            && packet.next_header == path_end::NO_NEXT_HEADER
            && lane.ethertype == ETHERTYPE_IPV6
            && path_end::read(lane.frame.bytes().get(ETHERNET_HEADER..).unwrap_or_default()).is_some()
        {
            count_tunnel(snapshot, self.worker, lane, tunnel);
            return Ok(Step::EndPath { tunnel });
        }
        if !for_served && !from_anchored && !for_arrived && !filtered_into(snapshot, packet.source, tunnel) {
            count_tunnel(snapshot, self.worker, lane, tunnel);
            // Said several times, it comes when nothing waits for it any more.
            let end = path_end::read(lane.frame.bytes().get(ETHERNET_HEADER..).unwrap_or_default());
            if end.is_some() {
                return Err(DropReason::PathEndUnexpected.into());
            }
            return Err(DropReason::TunnelInnerSourceInvalid.into());
        }
        let mut hop = route.hop();
        if from_anchored {
            // Where the node is it was counted for it.
            if lane.late {
                let traffic = &snapshot.passing_traffic;
                traffic.from(self.worker, from.counter(), packet.length);
            } else {
                snapshot.count_out_of(self.worker, from, tunnel, packet.length);
            }
            // We serve the node, which is behind the peer, and another gateway anchors the prefix.
            if let Some(onward) = from.onward()
                && hop != Hop::LOCAL
            {
                hop = onward;
            }
        } else {
            count_tunnel(snapshot, self.worker, lane, tunnel);
        }
        if hop != Hop::LOCAL {
            return Ok(Step::Forward(hop));
        }
        match Subject::of(lane.view())? {
            Subject::Tunnelled => Err(DropReason::TunnelNested.into()),
            // A tunnel brings what nodes send, and they are neither on our links nor gateways, servers, or neighbours of ours.
            Subject::Link | Subject::Signalling => Err(DropReason::TunnelInnerControl.into()),
            // An Echo, an error about what we have sent, a connection of the node to its gateway.
            Subject::Other => Ok(Step::Punt),
        }
    }
}

/// Counts a packet that has come out of a tunnel for that alone; if it has waited since, it was counted before.
#[inline]
pub(super) fn count_tunnel<F: Frame>(snapshot: &Snapshot, worker: usize, lane: &Lane<'_, F>, tunnel: u32) {
    if !lane.late {
        let traffic = &snapshot.tunnel_traffic;
        traffic.from(worker, tunnel, lane.packet.length);
    }
}

/// Whether filters of this source's prefix send packets into this tunnel: the node may answer by the same way.
#[cold]
pub(super) fn filtered_into(snapshot: &Snapshot, source: u128, tunnel: u32) -> bool {
    let filters = snapshot.routes.filters(snapshot.fib.lookup(source));
    leads_into(&snapshot.flows, filters, tunnel)
}

/// Whether what is not known now, so that a packet is refused, may be known in a moment.
pub(super) fn may_become_known<F: Frame>(
    snapshot: &Snapshot,
    lane: &Lane<'_, F>,
    Refusal(reason, tell): &Refusal,
) -> bool {
    // Of a fragment, or behind extension headers, it is not seen which tunnel it is.
    let in_tunnel = || peer_key(&lane.frame, lane.note).is_some();
    match reason {
        DropReason::SourceNotBound
        | DropReason::TunnelInnerSourceInvalid
        | DropReason::PathEndUnexpected
        // Who has the TEID has been told of it.
        | DropReason::GtpuPeerMismatch => true,
        // The peer of a new tunnel may use it before we know that it does. TEID 0, of which nothing is told, is of none.
        DropReason::GtpuTeidUnknown => tell.is_some() && in_tunnel(),
        // From mobile nodes none comes, ever.
        DropReason::GreTunnelUnknown | DropReason::TunnelUnknownPeer => {
            snapshot.ports.get(lane.port).is_some_and(|port| !port.access) && in_tunnel()
        }
        _ => false,
    }
}

/// Why a packet may have come out of a tunnel.
#[derive(Clone, Copy)]
pub(super) struct InnerPacket {
    /// Its peer anchors the destination, of a node that we serve.
    for_served: bool,
    /// Its peer served the node of the destination before us, and still has packets of its.
    for_arrived: bool,
    /// Its peer serves the node that sent it, from a prefix that we anchor; or the node is behind its peer, and we serve it.
    pub(super) from_anchored: bool,
}

impl InnerPacket {
    #[inline(always)]
    pub(super) fn of(snapshot: &Snapshot, route: Entry, source: u32, tunnel: u32) -> Self {
        let is_old_way = |hop: Hop| {
            hop.after()
                .is_some_and(|index| snapshot.afters.get(index).first == tunnel)
        };
        let from = snapshot.routes.get(source);
        let hop = from.hop();
        // In another place, for which nobody has asked ahead: of most packets it need not be known.
        let half = || snapshot.routes.source(source);
        Self {
            for_served: route.goes_by(tunnel),
            for_arrived: is_old_way(route.hop()),
            from_anchored: hop == Hop::by_tunnel(tunnel)
                // The node is between two gateways: what it sent by the old one is on its way.
                || hop == Hop::HOLD && half().is_refused()
                // Or has come home.
                || is_old_way(hop)
                // Or what is sent to it waits, or goes another way meanwhile.
                || from.is_behind() && half().comes_by(tunnel),
        }
    }

    /// Whether it may be.
    #[inline]
    pub(super) fn is_expected(self) -> bool {
        self.for_served || self.for_arrived || self.from_anchored
    }
}
