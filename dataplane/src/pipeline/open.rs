//! Out of tunnels, before anything else is looked up.
//!
//! Most packets to an address of this node are tunnelled ones from peers. That they are for this node needs no
//! table; so with one look-up, of their number (`snapshot/exits.rs`) or their peer, they are out of their tunnels and join the others of their burst for the
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
use crate::snapshot::{Entry, Exit, Place, Snapshot};
use crate::stage::parse::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, IPV6_HEADER, UpperLayer};
use crate::tunnel::{gre, gtpu, ip6_in_ip6};

/// What the packets of a burst are known by that may be in tunnels: at most as many keys as it has packets.
#[derive(Default)]
struct Keys<'a> {
    /// Those with a number in them, each with where that would be, and which of all keys it is, from 1 on.
    numbered: ArrayVec<(u128, Place<'a>, u32), BURST>,
    /// Those to be looked up among the peers.
    others: ArrayVec<u128, BURST>,
    /// Which of all keys these are.
    others_at: ArrayVec<u32, BURST>,
    /// The last key, and which of all it is. Key 0 is of nothing.
    last: u128,
    count: u32,
}

impl<'a> Keys<'a> {
    /// Asks for what this key leads to, and gives its number, from 1 on.
    #[inline]
    fn add(&mut self, snapshot: &'a Snapshot, key: u128) -> u32 {
        if self.last != key {
            self.last = key;
            self.count += 1;
            match snapshot.exits.place(key) {
                Some(place) => self.numbered.push((key, place, self.count)),
                None => {
                    self.others.push(key);
                    self.others_at.push(self.count);
                }
            }
        }
        self.count
    }

    /// What they lead to, each at its number; in front of them what those lead to that have no key.
    #[inline]
    fn find(&mut self, snapshot: &Snapshot) -> [Exit; 1 + BURST] {
        let mut exits = [Exit::default(); 1 + BURST];
        for (key, place, at) in &self.numbered {
            if let Some(found) = place.find() {
                put(&mut exits, *at, found);
            } else {
                self.others.push(*key);
                self.others_at.push(*at);
            }
        }
        if self.others.is_empty() {
            return exits;
        }
        if !self.numbered.is_empty() {
            self.find_elsewhere(snapshot, &mut exits);
        }
        let mut results = [NO_MATCH; BURST];
        snapshot.peers.lookup_burst(&self.others, &mut results);
        for (at, result) in self.others_at.iter().zip(results) {
            snapshot.prefetch_tunnel(result);
            snapshot.prefetch_source_prefix(result);
            put(&mut exits, *at, Exit::of(result));
        }
        exits
    }

    /// Finds those of the others that have a number in the second table of numbers; what is not there either stays.
    #[inline(never)]
    fn find_elsewhere(&mut self, snapshot: &Snapshot, exits: &mut [Exit; 1 + BURST]) {
        let others = self.others.iter().zip(&self.others_at);
        // All are asked for before any is read.
        let places: ArrayVec<_, BURST> = others
            .map(|(key, at)| (*key, snapshot.exits.second_place(*key), *at))
            .collect();
        self.others.clear();
        self.others_at.clear();
        for (key, place, at) in places {
            if let Some(found) = place.and_then(Place::find) {
                put(exits, at, found);
            } else {
                self.others.push(key);
                self.others_at.push(at);
            }
        }
    }
}

#[inline]
fn put(exits: &mut [Exit; 1 + BURST], at: u32, exit: Exit) {
    if let Some(place) = exits.get_mut(at as usize) {
        *place = exit;
    }
}

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
        let mut keys = Keys::default();
        // Most are for the same address as those before.
        let mut ours = snapshot.endpoints.first().copied();
        for (frame, note) in frames.iter().zip(notes.iter_mut()) {
            let destination = note.packet.destination;
            if ours != Some(destination) {
                if !snapshot.endpoints.contains(&destination) {
                    continue;
                }
                ours = Some(destination);
            }
            if let Some(key) = peer_key(frame, note)
                && !(some_wait && output.unknown.contains(flow(note, frame)))
            {
                note.peer = keys.add(snapshot, key);
            }
        }
        if keys.count != 0 {
            self.open_some(snapshot, frames, notes, &mut keys);
        }
    }

    /// Puts into each note what its key leads to, instead of the number of that, and takes those out that have a tunnel.
    #[inline(never)]
    fn open_some<F: Frame>(
        &mut self,
        snapshot: &Snapshot,
        frames: &mut Frames<F>,
        notes: &mut Notes,
        keys: &mut Keys<'_>,
    ) {
        let exits = keys.find(snapshot);
        const { assert!(BURST <= u64::BITS as usize) };
        let mut gone = 0u64;
        for (at, (frame, note)) in frames.iter_mut().zip(notes.iter_mut()).enumerate() {
            let exit = exits.get(note.peer as usize).copied().unwrap_or_default();
            note.peer = exit.tunnel();
            if note.peer != NO_MATCH
                && let Err(reason) = self.open_one(snapshot, frame, note, exit)
            {
                self.counters.add_drops(reason, 1);
                gone |= 1 << at;
            }
        }
        if gone != 0 {
            remove(frames, notes, gone);
        }
    }

    /// Makes a packet from a peer the one inside, if it is one that can be taken out here.
    #[inline]
    fn open_one<F: Frame>(
        &mut self,
        snapshot: &Snapshot,
        frame: &mut F,
        note: &mut Note,
        exit: Exit,
    ) -> Result<(), DropReason> {
        let view = View::new(frame, note);
        let tunnel = exit.tunnel();
        // Whatever is taken out here is from the peer of its tunnel. Tunnels have ends that can send and receive, so then nothing can
        // be wrong with the addresses.
        if let Some(start) = start_of_inner(view)
            && is_from_peer(snapshot, note, exit)
        {
            let inner = Inner::new(start..view.octets.len());
            self.decapsulate(snapshot, frame, note, tunnel, inner)?;
            self.note_whose(snapshot, note, exit);
            return Ok(());
        }
        self.open_odd(snapshot, frame, note, exit)
    }

    /// Notes whether a packet that has come out is from whom its tunnel brings, where that is known without the tunnel.
    #[inline(always)]
    fn note_whose(&self, snapshot: &Snapshot, note: &mut Note, exit: Exit) {
        if exit.is_known() {
            let of_tunnel = exit.brings(note.packet.source);
            note.of_tunnel = Some(of_tunnel);
            // Here, and not with those of all others of the burst: of many that are asked for at once some processors forget a few.
            if of_tunnel {
                snapshot.prefetch_common_out_of(self.worker, exit.tunnel());
            }
        }
    }

    /// The same of what is not as most are: with other headers between, or without a packet of IPv6 inside.
    #[inline(never)]
    fn open_odd<F: Frame>(
        &mut self,
        snapshot: &Snapshot,
        frame: &mut F,
        note: &mut Note,
        exit: Exit,
    ) -> Result<(), DropReason> {
        let view = View::new(frame, note);
        let tunnel = exit.tunnel();
        let next_header = note.packet.next_header;
        let upper = UpperLayer {
            next_header,
            offset: IPV6_HEADER,
            later_fragment: false,
            fragment: false,
        };
        let step = match (note.ethertype, next_header) {
            (ETHERTYPE_IPV6, ip6_in_ip6::NEXT_HEADER_IPV4) if is_from_peer(snapshot, note, exit) => {
                Self::carry(snapshot, tunnel, Inner::new(IPV6_HEADER..view.octets.len()))
            }
            (ETHERTYPE_IPV6, gtpu::UDP) => self.local_udp(snapshot, view, upper, exit),
            (ETHERTYPE_IPV6, gre::NEXT_HEADER) => self.local_gre(snapshot, view, upper, exit),
            (ETHERTYPE_IPV4, gtpu::UDP) => self.admit_ipv4(snapshot, view, Entry::LOCAL, exit),
            _ => return Ok(()),
        };
        match step {
            Ok(Step::Decapsulate { tunnel, inner }) => {
                self.decapsulate_odd(snapshot, frame, note, tunnel, inner)?;
                self.note_whose(snapshot, note, exit);
                Ok(())
            }
            Ok(Step::DecapsulateIpv4 { tunnel, inner }) => {
                self.decapsulate_ipv4(snapshot, frame, note, tunnel, inner)
            }
            _ => Ok(()),
        }
    }
}

/// Takes those out of a burst whose bits are set.
#[cold]
fn remove<F: Frame>(frames: &mut Frames<F>, notes: &mut Notes, gone: u64) {
    let stay = || (0..BURST).map(move |at| gone >> at & 1 == 0);
    let (mut frame_stays, mut note_stays) = (stay(), stay());
    frames.retain(|_| frame_stays.next() == Some(true));
    notes.retain(|_| note_stays.next() == Some(true));
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
