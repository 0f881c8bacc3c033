//! Filters and meters: what they say of a burst, and that it is done.

use arrayvec::ArrayVec;
use dpdk::meter::Colour;
use kedge_dataplane_api::model::Direction;

use super::{BURST, Frames, Lane, Note, Notes, Origin, Pipeline, Verdicts};
use crate::counters::Stage;
use crate::drops::DropReason;
use crate::fib::prefetch;
use crate::flow::{Asked, Flows, Hit, List, Question, Verdict, Way};
use crate::frame::Frame;
use crate::snapshot::{Entry, Hop, NextHop, Snapshot};
use crate::stage::ipv4;
use crate::stage::parse::{ETHERNET_HEADER, ETHERTYPE_ARP, ETHERTYPE_IPV4};

impl Pipeline {
    /// Asks the filters about all packets of a pass. `results` are the indexes of the destinations' routes,
    /// then those of the sources of such packets whose source counts.
    #[inline(never)]
    pub(super) fn filter<F: Frame>(
        &mut self,
        snapshot: &Snapshot,
        frames: &Frames<F>,
        notes: &Notes,
        results: &[u32],
    ) -> Verdicts {
        let flows = &snapshot.flows;
        let (destinations, sources) = results.split_at(notes.len().min(results.len()));
        let mut sources = sources.iter();
        let mut questions: ArrayVec<Question, BURST> = ArrayVec::new();
        for (note, result) in notes.iter().zip(destinations) {
            let source = if note.checked {
                sources.next().copied()
            } else {
                None
            };
            let question = question(snapshot, note, *result, source);
            flows.lists.prefetch(question.from.unwrap_or_default());
            flows.lists.prefetch(question.to.unwrap_or_default());
            questions.push(question);
        }
        let packets = frames.iter().zip(notes).map(|(frame, note)| {
            let octets = frame.bytes().get(ETHERNET_HEADER..).unwrap_or_default();
            (octets, &note.packet)
        });
        let Asked {
            verdicts,
            later_fragments,
            unreadable,
        } = flows.ask(packets, &questions);
        if later_fragments > 0 {
            self.counters.stage(Stage::FilteredLaterFragment, later_fragments);
        }
        if unreadable > 0 {
            self.counters.stage(Stage::FilteredUnreadable, unreadable);
        }
        for verdict in &verdicts {
            if let Some(by) = verdict.by {
                self.prefetch_hit(flows, by);
            }
            for (meter, hit) in verdict.meters.iter().flatten() {
                if let Some(meter) = flows.meters.at(*meter) {
                    prefetch(meter);
                }
                flows.meter_bank.prefetch(self.worker, *meter);
                self.prefetch_hit(flows, *hit);
                flows.colours.prefetch(self.worker, hit.counter);
            }
        }
        verdicts
    }

    /// Does with a packet in transit what filters say, and gives the next hop that it goes by.
    #[inline(never)]
    pub(super) fn obey<F: Frame>(
        &mut self,
        snapshot: &Snapshot,
        lane: &mut Lane<'_, F>,
        verdict: &Verdict,
        route: Entry,
        hop: Hop,
    ) -> Result<Hop, DropReason> {
        let flows = &snapshot.flows;
        let length = lane.packet.length;
        // What has waited with its flow was counted when it came.
        let anew = !matches!(lane.origin, Origin::Flow(_));
        if let Way::Drop | Way::HoldExpired = verdict.way {
            if let Some(by) = verdict.by.filter(|_| anew) {
                self.hit(flows, by, length);
            }
            return Err(match verdict.way {
                Way::Drop => DropReason::FlowFiltered,
                _ => DropReason::HoldExpired,
            });
        }
        if anew {
            for (index, hit) in verdict.meters.iter().flatten() {
                self.hit(flows, *hit, length);
                self.meter(flows, *index, hit.counter, lane)?;
            }
            if let Some(by) = verdict.by {
                self.hit(flows, by, length);
                self.counters.stage(Stage::Filtered, 1);
            }
        }
        Ok(verdict.hop(route, hop))
    }

    #[inline]
    fn prefetch_hit(&self, flows: &Flows, hit: Hit) {
        match hit.direction {
            Direction::FromNode => flows.traffic.prefetch_from(self.worker, hit.counter),
            Direction::ToNode => flows.traffic.prefetch_to(self.worker, hit.counter),
        }
    }

    #[inline]
    fn hit(&self, flows: &Flows, hit: Hit, length: usize) {
        match hit.direction {
            Direction::FromNode => flows.traffic.from(self.worker, hit.counter, length, self.now),
            Direction::ToNode => flows.traffic.to(self.worker, hit.counter, length, self.now),
        }
    }

    fn meter<F: Frame>(
        &mut self,
        flows: &Flows,
        index: u32,
        counter: u32,
        lane: &mut Lane<'_, F>,
    ) -> Result<(), DropReason> {
        let Some(meter) = flows.meters.at(index) else {
            return Ok(());
        };
        let Lane { frame, note } = lane;
        let packet = &mut note.packet;
        let bank = &flows.meter_bank;
        let colour = bank.meter(
            self.worker,
            index,
            meter,
            self.now,
            packet.length,
            packet.traffic_class,
        );
        flows.colours.count(self.worker, counter, colour, packet.length);
        match colour {
            Colour::Green => self.counters.stage(Stage::MeteredGreen, 1),
            Colour::Yellow => {
                self.counters.stage(Stage::MeteredYellow, 1);
                if let Some(dscp) = meter.yellow {
                    packet.traffic_class = dscp << 2 | packet.traffic_class & 3;
                    let octets = frame.bytes_mut().get_mut(ETHERNET_HEADER..).unwrap_or_default();
                    if note.ethertype == ETHERTYPE_IPV4 {
                        ipv4::set_traffic_class(octets, packet.traffic_class);
                    } else if let Some([first, second]) = octets.first_chunk_mut() {
                        *first = *first & 0xf0 | packet.traffic_class >> 4;
                        *second = *second & 0x0f | packet.traffic_class << 4;
                    }
                    self.counters.stage(Stage::Remarked, 1);
                }
            }
            Colour::Red => return Err(DropReason::MeteredRed),
        }
        Ok(())
    }
}

impl Verdict {
    /// By which next hop a packet goes that goes by `hop` without filters, and whose destination has this route.
    #[inline]
    pub(super) fn hop(&self, route: Entry, hop: Hop) -> Hop {
        match self.way {
            Way::Tables | Way::Drop | Way::HoldExpired => hop,
            Way::Tunnel(tunnel) => Hop::by_tunnel(tunnel),
            Way::LocalBreakout => route.hop(),
            Way::Hold => Hop::flow_hold(self.by.map_or(0, |by| by.counter)),
        }
    }
}

/// Which filters a packet meets: with the indexes of the route of its destination, and of that of its source if
/// that counts.
#[inline(always)]
pub(super) fn question(snapshot: &Snapshot, note: &Note, destination: u32, source: Option<u32>) -> Question {
    let mut question = Question::default();
    if let Some(source) = source
        && from_node(snapshot, note.origin, source)
    {
        question.from = Some(snapshot.routes.filters(source));
        question.goes_by = snapshot.routes.get(source).way_of_source();
    }
    if let Origin::Tunnel(tunnel) | Origin::Flow(tunnel) = note.origin {
        question.came_by = tunnel;
    }
    let hop = snapshot.routes.get(destination).hop();
    if is_of_node(hop) {
        question.to = Some(snapshot.routes.filters(destination));
    }
    // What is ours, or for us, meets no filter, as all of ARP is; what was held with its prefix has met them.
    question.transit = note.ethertype != ETHERTYPE_ARP
        && matches!(note.origin, Origin::Wire | Origin::Tunnel(_) | Origin::Flow(_))
        && hop != Hop::LOCAL;
    question
}

/// The same of a packet that an error quotes: where it came from is not known any more, so its source counts if it is a node's.
pub(super) fn question_of_quoted(snapshot: &Snapshot, destination: u32, source: u32) -> Question {
    let of = |index: u32| Some(snapshot.routes.filters(index));
    let routes = &snapshot.routes;
    let hop = routes.get(destination).hop();
    let is_node = !routes.source(source).is_refused() || is_of_node(routes.get(source).hop());
    Question {
        from: of(source).filter(|_| is_node),
        to: of(destination).filter(|_| is_of_node(hop)),
        transit: hop != Hop::LOCAL,
        ..Question::default()
    }
}

/// Whether this is the next hop of a node's prefix.
#[inline]
fn is_of_node(hop: Hop) -> bool {
    matches!(
        hop.unpack(),
        NextHop::Deliver { .. } | NextHop::Tunnel(_) | NextHop::Hold | NextHop::After(_)
    )
}

/// Whether a packet with this source comes from a node, so far as the tables know. Whether it may is
/// decided later; if not, no filter is asked for anything.
#[inline]
fn from_node(snapshot: &Snapshot, origin: Origin, source: u32) -> bool {
    match origin {
        Origin::Wire | Origin::Flow(0) => !snapshot.routes.source(source).is_refused(),
        Origin::Tunnel(_) | Origin::Flow(_) => is_of_node(snapshot.routes.get(source).hop()),
        Origin::Own | Origin::Held => false,
    }
}

/// Whether filters send packets to the prefix with this list into this tunnel: then what comes out of it
/// may come from that prefix, as with the tunnel of the prefix itself.
pub(super) fn leads_into(flows: &Flows, list: List, tunnel: u32) -> bool {
    flows
        .lists
        .filters(list)
        .any(|filter| filter.sends_to_node_by(tunnel))
}
