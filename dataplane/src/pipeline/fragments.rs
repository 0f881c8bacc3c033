//! Outer packets that the path does not take whole, at both ends of the tunnel.

use super::decide::Refusal;
use super::{Lane, Output, Pipeline};
use crate::counters::Stage;
use crate::drops::DropReason;
use crate::fib::NO_MATCH;
use crate::frame::Frame;
use crate::snapshot::{Path, Snapshot};
use crate::stage::parse::{self, ETHERNET_HEADER, ETHERTYPE_IPV4, Packet};
use crate::stage::{fragment, ipv4, ipv4_outer_fragment};
use crate::tunnel::error::MINIMUM_MTU;
use crate::tunnel::gtpu;

/// What becomes of fragments of outer packets over IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ipv4Fragments {
    /// They are dropped: with 16 bits of identification, what is put together at a gateway's rates may be of two packets (RFC 4963).
    Refused,
    /// Put together, and dropped where there is no checksum that would show it.
    Checked,
    /// Put together.
    Taken,
}

impl Pipeline {
    /// Sends an outer packet in two fragments of at most `size` octets; if that is less than 1,280, which every
    /// link takes, of that. Over IPv4, where links take less, in as many as it needs, of no more octets than the path takes.
    /// All but the last are sent here; that is left, ready to go by the port that is given.
    ///
    /// On a path over IPv4 that is not proven to be so narrow it goes whole, if the port takes it, and may be cut on its way.
    #[cold]
    #[inline(never)]
    pub(super) fn pass_in_fragments<F: Frame>(
        &mut self,
        snapshot: &Snapshot,
        lane: &mut Lane<'_, F>,
        path: &Path,
        size: usize,
        output: &mut Output<F>,
    ) -> Result<u8, Refusal> {
        let adjacency = path.adjacency;
        if lane.ethertype == ETHERTYPE_IPV4 {
            // What is not proven is left to the router that said it: if it was none, nothing is cut.
            let size = if path.unproven {
                usize::from(port_mtu(snapshot, adjacency))
            } else {
                size
            };
            return self.pass_in_ipv4_fragments(snapshot, lane, adjacency, size, output);
        }
        let size = size.max(usize::from(MINIMUM_MTU));
        if lane.packet.length <= size {
            return self.pass_to_neighbour(snapshot, lane, adjacency, Stage::Encapsulated, output);
        }
        let identification = self.identifications.take();
        let second = fragment::split(&mut lane.frame, size, identification)?;
        lane.packet.length = lane.frame.bytes().len() - ETHERNET_HEADER;
        let port = self.pass_to_neighbour(snapshot, lane, adjacency, Stage::Encapsulated, output)?;
        let first = std::mem::replace(&mut lane.frame, second);
        self.send(first, port, snapshot, output);
        lane.packet.length = lane.frame.bytes().len() - ETHERNET_HEADER;
        self.pass_to_neighbour(snapshot, lane, adjacency, Stage::Fragmented, output)
    }

    /// [`Pipeline::pass_in_fragments`] over IPv4.
    fn pass_in_ipv4_fragments<F: Frame>(
        &mut self,
        snapshot: &Snapshot,
        lane: &mut Lane<'_, F>,
        adjacency: u32,
        size: usize,
        output: &mut Output<F>,
    ) -> Result<u8, Refusal> {
        let identification = self.identifications_of_ipv4.take();
        let rest = ipv4_outer_fragment::split(&mut lane.frame, size, identification)?;
        let mut stage = Stage::Encapsulated;
        for next in rest {
            lane.packet.length = lane.frame.bytes().len() - ETHERNET_HEADER;
            let port = self.pass_to_neighbour(snapshot, lane, adjacency, stage, output)?;
            let fragment = std::mem::replace(&mut lane.frame, next);
            self.send(fragment, port, snapshot, output);
            stage = Stage::Fragmented;
        }
        lane.packet.length = lane.frame.bytes().len() - ETHERNET_HEADER;
        self.pass_to_neighbour(snapshot, lane, adjacency, stage, output)
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
        let octets = frame.bytes().get(ETHERNET_HEADER..).unwrap_or_default();
        let packet = if note.ethertype == ETHERTYPE_IPV4 {
            self.whole_ipv4(octets)
        } else {
            parse::ipv6(octets)
        };
        match packet {
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

    /// An outer packet over IPv4 that came in fragments.
    fn whole_ipv4(&self, octets: &[u8]) -> Result<Packet, DropReason> {
        let packet = ipv4::read(octets)?;
        let udp = octets.get(ipv4::header_length(octets)..).unwrap_or_default();
        let unchecked =
            matches!(udp, [_, _, p0, p1, _, _, 0, 0, ..] if [*p0, *p1] == gtpu::PORT.to_be_bytes());
        if unchecked && self.ipv4_fragments == Ipv4Fragments::Checked {
            return Err(DropReason::UdpChecksumZero);
        }
        Ok(packet)
    }

    /// Drops fragments whose others have not come in time. To be called now and then.
    pub fn forget_fragments<F: Frame>(&mut self, now: u64, output: &mut Output<F>) {
        let dropped = output.reassembly.expire(now);
        if dropped > 0 {
            self.counters.add_drops(DropReason::ReassemblyTimeout, dropped);
        }
    }
}

/// What the port takes that leads to a neighbour, octets.
pub(super) fn port_mtu(snapshot: &Snapshot, adjacency: u32) -> u16 {
    let port = snapshot.adjacencies.get(adjacency).port;
    let port = snapshot.ports.get(usize::from(port));
    port.map_or(0, |port| port.mtu)
}
