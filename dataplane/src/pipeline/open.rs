//! Out of tunnels, before anything else is looked up.
//!
//! Most packets to an address of this node are tunnelled ones from peers. That they are for this node needs no
//! table; so with one look-up, of the peer, they are out of their tunnels and join the others of their burst for the
//! one pass that those take. What is not so plain is left alone here, and its own way found later: extension
//! headers, fragments, unknown peers, messages about tunnels, and what comes behind others that wait for their tunnel to
//! become known.

use arrayvec::ArrayVec;

use super::decide::{Inner, Step};
use super::hold::flow;
use super::local::is_from_peer;
use super::{BURST, Frames, Note, Notes, Output, Pipeline, View, peer_key};
use crate::drops::DropReason;
use crate::fib::NO_MATCH;
use crate::frame::Frame;
use crate::snapshot::{Entry, Snapshot};
use crate::stage::parse::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, IPV6_HEADER, UpperLayer};
use crate::tunnel::{gre, gtpu, ip6_in_ip6};

impl Pipeline {
    /// Takes packets out of their tunnels that came in by a port without mobile nodes.
    #[inline]
    pub(super) fn open<F: Frame>(
        &mut self,
        snapshot: &Snapshot,
        frames: &mut Frames<F>,
        notes: &mut Notes,
        output: &Output<F>,
    ) {
        let some_wait = output.has_unknown();
        let mut keys: ArrayVec<u128, BURST> = ArrayVec::new();
        let mut tunnelled: ArrayVec<u8, BURST> = ArrayVec::new();
        for (at, (frame, note)) in (0..).zip(frames.iter().zip(notes.iter())) {
            if snapshot.endpoints.contains(&note.packet.destination)
                && let Some(key) = peer_key(frame, note)
                && !(some_wait && output.unknown.contains(flow(note, frame)))
            {
                keys.push(key);
                tunnelled.push(at);
            }
        }
        if !keys.is_empty() {
            self.open_some(snapshot, frames, notes, &keys, &tunnelled);
        }
    }

    /// Those whose keys, and places in the burst, are these.
    #[inline(never)]
    fn open_some<F: Frame>(
        &mut self,
        snapshot: &Snapshot,
        frames: &mut Frames<F>,
        notes: &mut Notes,
        keys: &[u128],
        tunnelled: &[u8],
    ) {
        let mut results = [NO_MATCH; BURST];
        snapshot.peers.lookup_burst(keys, &mut results);
        for (at, result) in tunnelled.iter().zip(results) {
            if let Some(note) = notes.get_mut(usize::from(*at)) {
                note.peer = result;
                self.prefetch_tunnel(snapshot, result);
            }
        }
        let mut kept = 0;
        for at in 0..frames.len() {
            let (Some(frame), Some(note)) = (frames.get_mut(at), notes.get_mut(at)) else {
                break;
            };
            if note.peer != NO_MATCH
                && let Err(reason) = self.open_one(snapshot, frame, note)
            {
                self.counters.add_drops(reason, 1);
                continue;
            }
            if kept != at {
                frames.swap(kept, at);
                notes.swap(kept, at);
            }
            kept += 1;
        }
        frames.truncate(kept);
        notes.truncate(kept);
    }

    /// Makes a packet from a peer the one inside, if it is one that can be taken out here.
    #[inline]
    fn open_one<F: Frame>(
        &mut self,
        snapshot: &Snapshot,
        frame: &mut F,
        note: &mut Note,
    ) -> Result<(), DropReason> {
        let view = View::new(frame, note);
        let tunnel = note.peer;
        // Whatever is taken out below is from the peer of its tunnel, each kind is asked once. Tunnels have ends that can send and
        // receive, so then nothing can be wrong with the addresses.
        let is_from_peer = || is_from_peer(snapshot, note, tunnel);
        let next_header = note.packet.next_header;
        let upper = UpperLayer {
            next_header,
            offset: IPV6_HEADER,
            later_fragment: false,
            fragment: false,
        };
        let step = match (note.ethertype, next_header) {
            (ETHERTYPE_IPV6, ip6_in_ip6::NEXT_HEADER) if is_from_peer() => Ok(Step::Decapsulate {
                tunnel,
                inner: Inner::new(IPV6_HEADER..view.octets.len()),
            }),
            (ETHERTYPE_IPV6, ip6_in_ip6::NEXT_HEADER_IPV4) if is_from_peer() => {
                Self::carry(snapshot, tunnel, Inner::new(IPV6_HEADER..view.octets.len()))
            }
            (ETHERTYPE_IPV6, gtpu::UDP) => self.local_udp(snapshot, view, upper),
            (ETHERTYPE_IPV6, gre::NEXT_HEADER) => self.local_gre(snapshot, view, upper),
            (ETHERTYPE_IPV4, gtpu::UDP) => self.admit_ipv4(snapshot, view, Entry::LOCAL),
            _ => return Ok(()),
        };
        match step {
            Ok(Step::Decapsulate { tunnel, inner }) => self.decapsulate(snapshot, frame, note, tunnel, inner),
            Ok(Step::DecapsulateIpv4 { tunnel, inner }) => {
                self.decapsulate_ipv4(snapshot, frame, note, tunnel, inner)
            }
            _ => Ok(()),
        }
    }
}
