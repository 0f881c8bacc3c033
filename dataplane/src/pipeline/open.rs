//! Out of tunnels, before anything else is looked up.
//!
//! Most packets to an address of this node are tunnelled ones from peers. That they are for this node needs no
//! table; so with one look-up, of the peer, they are out of their tunnels and join the others of their burst for the
//! one pass that those take. What is not so plain is left alone here, and its own way found later: extension
//! headers, fragments, unknown peers, messages about tunnels, and what comes behind others that wait for their tunnel to
//! become known.
//!
//! Between gateways most packets of a burst are from one peer, and from an eNB in one tunnel: a key like that of the packet
//! before is not looked up again.

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
        // Which packets those are of, and the number of the key of each.
        let mut tunnelled: ArrayVec<(u8, u8), BURST> = ArrayVec::new();
        for (at, (frame, note)) in (0..).zip(frames.iter().zip(notes.iter())) {
            if snapshot.endpoints.contains(&note.packet.destination)
                && let Some(key) = peer_key(frame, note)
                && !(some_wait && output.unknown.contains(flow(note, frame)))
            {
                if keys.last() != Some(&key) {
                    keys.push(key);
                }
                // At most as many as a burst has, so that the number is one of an octet.
                tunnelled.push((at, (keys.len() - 1) as u8));
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
        tunnelled: &[(u8, u8)],
    ) {
        let mut results = [NO_MATCH; BURST];
        snapshot.peers.lookup_burst(keys, &mut results);
        for result in results.iter().take(keys.len()) {
            self.prefetch_out_of(snapshot, *result);
        }
        for (at, number) in tunnelled {
            if let Some(note) = notes.get_mut(usize::from(*at))
                && let Some(result) = results.get(usize::from(*number))
            {
                note.peer = *result;
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
        // Whatever is taken out here is from the peer of its tunnel. Tunnels have ends that can send and receive, so then nothing can
        // be wrong with the addresses.
        if let Some(start) = start_of_inner(view)
            && is_from_peer(snapshot, note, tunnel)
        {
            let inner = Inner::new(start..view.octets.len());
            return self.decapsulate(snapshot, frame, note, tunnel, inner);
        }
        self.open_odd(snapshot, frame, note)
    }

    /// The same of what is not as most are: with other headers between, or without a packet of IPv6 inside.
    #[inline(never)]
    fn open_odd<F: Frame>(
        &mut self,
        snapshot: &Snapshot,
        frame: &mut F,
        note: &mut Note,
    ) -> Result<(), DropReason> {
        let view = View::new(frame, note);
        let tunnel = note.peer;
        let next_header = note.packet.next_header;
        let upper = UpperLayer {
            next_header,
            offset: IPV6_HEADER,
            later_fragment: false,
            fragment: false,
        };
        let step = match (note.ethertype, next_header) {
            (ETHERTYPE_IPV6, ip6_in_ip6::NEXT_HEADER_IPV4) if is_from_peer(snapshot, note, tunnel) => {
                Self::carry(snapshot, tunnel, Inner::new(IPV6_HEADER..view.octets.len()))
            }
            (ETHERTYPE_IPV6, gtpu::UDP) => self.local_udp(snapshot, view, upper),
            (ETHERTYPE_IPV6, gre::NEXT_HEADER) => self.local_gre(snapshot, view, upper),
            (ETHERTYPE_IPV4, gtpu::UDP) => self.admit_ipv4(snapshot, view, Entry::LOCAL),
            _ => return Ok(()),
        };
        match step {
            Ok(Step::Decapsulate { tunnel, inner }) => {
                self.decapsulate_odd(snapshot, frame, note, tunnel, inner)
            }
            Ok(Step::DecapsulateIpv4 { tunnel, inner }) => {
                self.decapsulate_ipv4(snapshot, frame, note, tunnel, inner)
            }
            _ => Ok(()),
        }
    }
}

/// Where the IPv6 packet inside begins, which ends where the outer one does: of IPv6 in IPv6, of a G-PDU with a PDU Session Container at most, and of
/// GRE with a key at most. `None` says nothing against a packet, but that who judges it has to look closer.
#[inline]
fn start_of_inner(view: View<'_>) -> Option<usize> {
    match (view.ethertype, view.packet.next_header) {
        (ETHERTYPE_IPV6, ip6_in_ip6::NEXT_HEADER) => Some(IPV6_HEADER),
        (ETHERTYPE_IPV6, gtpu::UDP) => gtpu::start_of_plain_inner(view.octets),
        (ETHERTYPE_IPV4, gtpu::UDP) => gtpu::start_of_plain_inner_in_ipv4(view.octets),
        (ETHERTYPE_IPV6, gre::NEXT_HEADER) => {
            let start = gre::start_of_plain_inner(view.octets.get(IPV6_HEADER..)?)?;
            Some(IPV6_HEADER + start)
        }
        _ => None,
    }
}
