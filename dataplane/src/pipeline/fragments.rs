//! Outer packets that the path does not take whole, at both ends of the tunnel.

use super::decide::Refusal;
use super::{Lane, Output, Pipeline};
use crate::counters::Stage;
use crate::drops::DropReason;
use crate::fib::NO_MATCH;
use crate::frame::Frame;
use crate::snapshot::Snapshot;
use crate::stage::fragment;
use crate::stage::parse::{self, ETHERNET_HEADER};
use crate::tunnel::error::MINIMUM_MTU;

impl Pipeline {
    /// Sends an outer packet in two fragments of at most `size` octets; if that is less than 1,280, which every
    /// link takes, of that. The first is sent here; the second is left, ready to go by the port that is given.
    #[cold]
    #[inline(never)]
    pub(super) fn pass_in_fragments<F: Frame>(
        &mut self,
        snapshot: &Snapshot,
        lane: &mut Lane<'_, F>,
        adjacency: u32,
        size: usize,
        output: &mut Output<F>,
    ) -> Result<u8, Refusal> {
        let identification = self.identifications.take();
        let size = size.max(usize::from(MINIMUM_MTU));
        let second = fragment::split(&mut lane.frame, size, identification)?;
        lane.packet.length = lane.frame.bytes().len() - ETHERNET_HEADER;
        let port = self.pass_to_neighbour(snapshot, lane, adjacency, Stage::Encapsulated, output)?;
        let first = std::mem::replace(&mut lane.frame, second);
        self.send(first, port, snapshot, output);
        lane.packet.length = lane.frame.bytes().len() - ETHERNET_HEADER;
        self.pass_to_neighbour(snapshot, lane, adjacency, Stage::Fragmented, output)
    }

    /// Takes a fragment; gives the packet if it is whole now, to be looked at again as if it had come in so.
    #[cold]
    #[inline(never)]
    pub(super) fn reassemble<'a, F: Frame>(
        &mut self,
        now: u64,
        lane: Lane<'a, F>,
        output: &mut Output<F>,
    ) -> Option<Lane<'a, F>> {
        self.counters.stage(Stage::FragmentReceived, 1);
        let Lane { frame, note } = lane;
        let taken = output.reassembly.take(frame, now);
        for (reason, count) in taken.dropped {
            self.counters.add_drops(reason, count);
        }
        let frame = taken.whole?;
        self.counters.stage(Stage::Reassembled, 1);
        match parse::ipv6(frame.bytes().get(ETHERNET_HEADER..).unwrap_or_default()) {
            Ok(packet) => {
                note.packet = packet;
                note.late = false;
                note.peer = NO_MATCH;
                Some(Lane { frame, note })
            }
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
