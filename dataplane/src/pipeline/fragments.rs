//! Outer packets that the path does not take whole, at both ends of the tunnel.

use super::decide::Refusal;
use super::{Lane, Output, Pipeline};
use crate::counters::Stage;
use crate::drops::DropReason;
use crate::fib::NO_MATCH;
use crate::frame::Frame;
use crate::snapshot::{Adjacency, Snapshot};
use crate::stage::fragment;
use crate::stage::parse::{self, ETHERNET_HEADER};
use crate::tunnel::error::MINIMUM_MTU;

impl Pipeline {
    /// Sends an outer packet in two fragments of at most `size` octets; if that is less than 1,280, which every
    /// link takes, of that.
    #[cold]
    #[inline(never)]
    pub(super) fn pass_in_fragments<F: Frame>(
        &mut self,
        snapshot: &Snapshot,
        mut lane: Lane<F>,
        adjacency: Adjacency,
        size: usize,
        output: &mut Output<F>,
    ) -> Result<(), (Lane<F>, Refusal)> {
        let identification = self.identifications.take();
        let size = size.max(usize::from(MINIMUM_MTU));
        let frame = match fragment::split(&mut lane.frame, size, identification) {
            Ok(frame) => frame,
            Err(reason) => return Err((lane, reason.into())),
        };
        let mut second = Lane {
            packet: lane.packet,
            ethertype: lane.ethertype,
            port: lane.port,
            source_link_layer: lane.source_link_layer,
            origin: lane.origin,
            late: lane.late,
            peer: lane.peer,
            frame,
        };
        for lane in [&mut lane, &mut second] {
            lane.packet.length = lane.frame.bytes().len() - ETHERNET_HEADER;
        }
        self.pass_to_neighbour(snapshot, lane, adjacency, Stage::Encapsulated, output)?;
        self.pass_to_neighbour(snapshot, second, adjacency, Stage::Fragmented, output)
    }

    /// Takes a fragment; gives the packet if it is whole now, to be looked at again as if it had come in so.
    #[cold]
    #[inline(never)]
    pub(super) fn reassemble<F: Frame>(
        &mut self,
        now: u64,
        lane: Lane<F>,
        output: &mut Output<F>,
    ) -> Option<Lane<F>> {
        self.counters.stage(Stage::FragmentReceived, 1);
        let taken = output.reassembly.take(lane.frame, now);
        for (reason, count) in taken.dropped {
            self.counters.add_drops(reason, count);
        }
        let frame = taken.whole?;
        self.counters.stage(Stage::Reassembled, 1);
        match parse::ipv6(frame.bytes().get(ETHERNET_HEADER..).unwrap_or_default()) {
            Ok(packet) => Some(Lane {
                frame,
                packet,
                ethertype: lane.ethertype,
                port: lane.port,
                source_link_layer: lane.source_link_layer,
                origin: lane.origin,
                late: false,
                peer: NO_MATCH,
            }),
            Err(reason) => {
                self.counters.add_drops(reason, 1);
                None
            }
        }
    }

    /// Drops fragments whose others have not come in time. To be called now and then.
    pub fn forget_fragments<F: Frame>(&mut self, now: u64, output: &mut Output<F>) {
        let dropped = output.reassembly.expire(now);
        if dropped > 0 {
            self.counters.add_drops(DropReason::ReassemblyTimeout, dropped);
        }
    }
}
