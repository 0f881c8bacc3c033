//! Fragments of tunnels' packets, put together again (RFC 8200 section 4.5, RFC 791 section 3.2) at the exit.
//!
//! Each worker has a table of its own. Only fragments from a peer of a tunnel come here, and all fragments of one
//! flow in the tunnel come to one worker (see [`crate::spread`]); in what order they come does not matter. What comes out
//! is one frame, as if it had come in whole: the first fragment's, with the others copied behind it. Those are few
//! and short, for a gateway fragments only what is just too large.
//!
//! What is bounded: datagrams in the making ([`DATAGRAMS`]), fragments of each ([`PARTS`]), fragments of all, and
//! the time that one waits. Where there is no place the oldest of four datagrams goes, and where there are as many fragments
//! as may wait the oldest of some; so that a flood of fragments that never become whole, which takes a peer's address, costs itself and
//! the datagrams of that moment, and no later ones. A datagram whose
//! fragments overlap is no honest one (RFC 5722): all of it is dropped, and what comes of it later.

use arrayvec::ArrayVec;

use crate::drops::DropReason;
use crate::frame::Frame;
use crate::stage::fragment::{self, FRAGMENT_HEADER, Fragment};
use crate::stage::parse::{self, ETHERNET_HEADER};
use crate::stage::{ipv4, ipv4_fragment};
use crate::tunnel::outer;

/// Datagrams that one worker puts together at a time.
pub const DATAGRAMS: usize = BUCKETS * WAYS;
/// Fragments that one datagram may have.
pub const PARTS: usize = 8;
/// Milliseconds that a datagram waits for its last fragment. RFC 8200 permits 60,000; what is on its way through
/// a tunnel for so long is lost, and identifications come round.
pub const WAIT_MS: u64 = 2_000;
/// The same over IPv4, whose identifications have 16 bits: in so long they come round only of a peer that cuts 300,000 packets a
/// second (RFC 4963). Fragments of one packet come closer together than that.
pub const WAIT_IPV4_MS: u64 = 200;

const BUCKETS: usize = 64;
const WAYS: usize = 4;
/// Places that are looked at for one that has to go: more are a flood's work for the worker.
const LOOKED_AT: usize = 16;

/// How much a worker keeps, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Fragments that wait, of all datagrams together.
    pub fragments: usize,
    /// Of the counter that is given as `now`.
    pub cycles_per_second: u64,
    /// What outsiders do not know, so that they cannot fill one place of the table.
    pub seed: u64,
}

/// The datagrams that one worker has parts of.
#[derive(Debug)]
pub struct Reassembly<F> {
    /// Made at the start, or empty: then nothing is put together.
    datagrams: Vec<Option<Datagram<F>>>,
    /// Fragments that wait.
    fragments: usize,
    bounds: Bounds,
    wait: u64,
    wait_ipv4: u64,
    /// Nothing is too old before this.
    due: u64,
    /// Where it is looked next for one that has to go.
    hand: usize,
}

#[derive(Debug)]
struct Datagram<F> {
    source: u128,
    destination: u128,
    identification: u32,
    born: u64,
    /// It is given up then.
    until: u64,
    /// In the order in which they came.
    parts: ArrayVec<Part<F>, PARTS>,
    /// Octets of all fragments together, once the last has come.
    total: Option<usize>,
    /// There was an overlap: nothing of it is kept.
    refused: bool,
    /// The congestion marks of all parts.
    congestion_experienced: bool,
}

#[derive(Debug)]
struct Part<F> {
    frame: F,
    header: Fragment,
    /// Where its content begins, octets from the start of the frame.
    content: usize,
    /// Octets.
    length: usize,
}

impl<F> Part<F> {
    fn overlaps(&self, offset: usize, length: usize) -> bool {
        self.header.offset < offset + length && offset < self.header.offset + self.length
    }
}

/// Fragments that are dropped: why, and how many.
pub type Dropped = (DropReason, u64);

/// What has come of a fragment.
#[derive(Debug, Default)]
pub struct Taken<F> {
    /// The whole packet, if that was the last fragment to come.
    pub whole: Option<F>,
    /// What had to go for this one, and this one itself if it has.
    pub dropped: ArrayVec<Dropped, 3>,
}

impl<F> Default for Reassembly<F> {
    /// Puts nothing together.
    fn default() -> Self {
        Self {
            datagrams: Vec::new(),
            fragments: 0,
            bounds: Bounds {
                fragments: 0,
                cycles_per_second: 1,
                seed: 0,
            },
            wait: 0,
            wait_ipv4: 0,
            due: u64::MAX,
            hand: 0,
        }
    }
}

impl<F: Frame> Reassembly<F> {
    /// An empty table.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self {
            datagrams: (0..DATAGRAMS).map(|_| None).collect(),
            wait: (bounds.cycles_per_second / 1000).saturating_mul(WAIT_MS),
            wait_ipv4: (bounds.cycles_per_second / 1000).saturating_mul(WAIT_IPV4_MS),
            bounds,
            ..Self::default()
        }
    }

    /// Fragments that wait for others.
    #[must_use]
    #[inline]
    pub fn fragments(&self) -> usize {
        self.fragments
    }

    /// Takes a fragment: an Ethernet header without a tag and the packet, no more. `now` never goes back.
    pub fn take(&mut self, frame: F, now: u64) -> Taken<F> {
        let mut taken = Taken {
            whole: None,
            dropped: ArrayVec::new(),
        };
        let mut drop = |reason, count: u64| {
            if count == 0 {
                return;
            }
            // There is never a fourth.
            let _ = taken.dropped.try_push((reason, count));
        };
        let (part, source, destination, ecn) = match read(frame) {
            Ok(it) => it,
            Err(reason) => {
                drop(reason, 1);
                return taken;
            }
        };
        let found = self.find(source, destination, part.header.identification, now);
        let Some((slot, evicted)) = found else {
            drop(DropReason::ReassemblyFull, 1);
            return taken;
        };
        self.fragments = self.fragments.saturating_sub(evicted);
        drop(DropReason::ReassemblyFull, evicted as u64);
        if self.fragments >= self.bounds.fragments {
            let evicted = self.make_room(slot, now);
            drop(DropReason::ReassemblyFull, evicted);
        }
        let Some(place) = self.datagrams.get_mut(slot) else {
            drop(DropReason::ReassemblyFull, 1);
            return taken;
        };
        let wait = if ipv4::is_mapped(source) {
            self.wait_ipv4
        } else {
            self.wait
        };
        let datagram = place.get_or_insert_with(|| Datagram {
            source,
            destination,
            identification: part.header.identification,
            born: now,
            until: now.saturating_add(wait),
            parts: ArrayVec::new(),
            total: None,
            refused: false,
            congestion_experienced: false,
        });
        self.due = self.due.min(datagram.until);
        match datagram.add(part, self.fragments < self.bounds.fragments) {
            Added::Kept => {
                self.fragments += 1;
                datagram.congestion_experienced |= ecn == CONGESTION_EXPERIENCED;
                if datagram.is_complete()
                    && let Some(datagram) = place.take()
                {
                    let parts = datagram.parts.len();
                    self.fragments = self.fragments.saturating_sub(parts);
                    match datagram.join() {
                        Ok(whole) => taken.whole = Some(whole),
                        Err(reason) => drop(reason, parts as u64),
                    }
                }
            }
            Added::Refused(reason) => drop(reason, 1),
            Added::Spoiled(reason, parts) => {
                self.fragments = self.fragments.saturating_sub(parts);
                drop(reason, parts as u64 + 1);
            }
        }
        taken
    }

    /// Forgets datagrams that have waited too long; how many fragments of them are dropped.
    pub fn expire(&mut self, now: u64) -> u64 {
        if now < self.due {
            return 0;
        }
        let mut dropped = 0;
        self.due = u64::MAX;
        for place in &mut self.datagrams {
            let Some(datagram) = place else { continue };
            let until = datagram.until;
            if until <= now {
                dropped += datagram.parts.len();
                *place = None;
            } else {
                self.due = self.due.min(until);
            }
        }
        self.fragments = self.fragments.saturating_sub(dropped);
        dropped as u64
    }

    /// The place of a datagram, or one for it: with how many fragments of an older one are gone for it.
    fn find(
        &mut self,
        source: u128,
        destination: u128,
        identification: u32,
        now: u64,
    ) -> Option<(usize, usize)> {
        let first = self.bucket(source, destination, identification) * WAYS;
        let bucket = self.datagrams.get_mut(first..first + WAYS)?;
        let is_it = |datagram: &Datagram<F>| {
            (datagram.source, datagram.destination, datagram.identification)
                == (source, destination, identification)
        };
        if let Some(at) = bucket.iter().position(|place| place.as_ref().is_some_and(is_it)) {
            return Some((first + at, 0));
        }
        let at = match bucket.iter().position(Option::is_none) {
            Some(free) => free,
            None => {
                let age =
                    |place: &Option<Datagram<F>>| place.as_ref().map_or(0, |it| now.saturating_sub(it.born));
                let oldest = bucket.iter().enumerate().max_by_key(|(_, place)| age(place));
                oldest.map_or(0, |(at, _)| at)
            }
        };
        let evicted = bucket.get_mut(at)?.take().map_or(0, |it| it.parts.len());
        Some((first + at, evicted))
    }

    /// The oldest of some datagrams goes, but not that at `kept`; how many fragments of it are dropped.
    fn make_room(&mut self, kept: usize, now: u64) -> u64 {
        let mut oldest: Option<(u64, usize)> = None;
        for step in 0..DATAGRAMS {
            // What is found far away is better than nothing.
            if step >= LOOKED_AT && oldest.is_some() {
                break;
            }
            let at = self.hand;
            self.hand = (at + 1) % DATAGRAMS;
            let waits = self
                .datagrams
                .get(at)
                .and_then(Option::as_ref)
                .filter(|it| !it.parts.is_empty());
            if let Some(datagram) = waits.filter(|_| at != kept) {
                oldest = oldest.max(Some((now.saturating_sub(datagram.born), at)));
            }
        }
        let place = oldest.and_then(|(_, at)| self.datagrams.get_mut(at));
        let parts = place.and_then(Option::take).map_or(0, |it| it.parts.len());
        self.fragments = self.fragments.saturating_sub(parts);
        parts as u64
    }

    fn bucket(&self, source: u128, destination: u128, identification: u32) -> usize {
        const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut hash = self.bounds.seed ^ u64::from(identification);
        for address in [source, destination] {
            for half in [address as u64, (address >> 64) as u64] {
                hash = (hash ^ half).wrapping_mul(MULTIPLIER).rotate_left(29);
            }
        }
        (hash.wrapping_mul(MULTIPLIER) >> 58) as usize
    }
}

const CONGESTION_EXPERIENCED: u8 = 3;

/// Reads a fragment: with source, destination and congestion marks of its packet.
fn read<F: Frame>(frame: F) -> Result<(Part<F>, u128, u128, u8), DropReason> {
    let packet = frame.bytes().get(ETHERNET_HEADER..).unwrap_or_default();
    // Of what the length field counts, so much is in front of the content when it is whole.
    let (packet, header, content, front) = if is_ipv4(packet) {
        let header = ipv4_fragment::read(packet).ok_or(DropReason::FragmentMalformed)?;
        let content = ipv4::header_length(packet);
        (ipv4::read(packet)?, header, content, content)
    } else {
        let header = fragment::read(packet)?;
        let front = header.at.saturating_sub(parse::IPV6_HEADER);
        (parse::ipv6(packet)?, header, header.at + FRAGMENT_HEADER, front)
    };
    let length = packet.length.saturating_sub(content);
    // All but the last are of whole units of eight octets, and none goes past what a length field holds.
    let whole = front + header.offset + length;
    if length == 0 || (header.more && length % 8 != 0) || whole > usize::from(u16::MAX) {
        return Err(DropReason::FragmentMalformed);
    }
    let part = Part {
        frame,
        header,
        content: ETHERNET_HEADER + content,
        length,
    };
    Ok((
        part,
        packet.source,
        packet.destination,
        packet.traffic_class & outer::ECN,
    ))
}

fn is_ipv4(packet: &[u8]) -> bool {
    packet.first().is_some_and(|first| first >> 4 == 4)
}

enum Added {
    Kept,
    /// This one is dropped.
    Refused(DropReason),
    /// So many that were there are dropped with it.
    Spoiled(DropReason, usize),
}

impl<F: Frame> Datagram<F> {
    fn add(&mut self, part: Part<F>, room: bool) -> Added {
        if self.refused {
            return Added::Refused(DropReason::FragmentOverlap);
        }
        let (offset, length, more) = (part.header.offset, part.length, part.header.more);
        let same = |it: &Part<F>| (it.header.offset, it.length, it.header.more) == (offset, length, more);
        if self.parts.iter().any(same) {
            // Networks do that; one is as good as the other.
            return Added::Refused(DropReason::FragmentDuplicate);
        }
        let end = offset + length;
        let beyond = self.total.is_some_and(|total| end > total || !more)
            || (!more && self.parts.iter().any(|it| it.header.offset + it.length > end));
        if beyond || self.parts.iter().any(|it| it.overlaps(offset, length)) {
            return self.spoil(DropReason::FragmentOverlap);
        }
        if !room {
            return Added::Refused(DropReason::ReassemblyFull);
        }
        if !more {
            self.total = Some(end);
        }
        if self.parts.try_push(part).is_err() {
            return self.spoil(DropReason::FragmentsTooMany);
        }
        Added::Kept
    }

    fn spoil(&mut self, reason: DropReason) -> Added {
        let parts = self.parts.len();
        self.parts.clear();
        self.refused = true;
        Added::Spoiled(reason, parts)
    }

    fn is_complete(&self) -> bool {
        // Without overlaps they are all there when they are as long together.
        let have: usize = self.parts.iter().map(|part| part.length).sum();
        self.total == Some(have)
    }

    /// One frame of all.
    fn join(mut self) -> Result<F, DropReason> {
        self.parts.sort_unstable_by_key(|part| part.header.offset);
        let mut parts = self.parts.into_iter();
        let first = parts.next().ok_or(DropReason::FragmentMalformed)?;
        let Part {
            mut frame,
            header,
            content,
            length,
        } = first;
        let over_ipv4 = is_ipv4(frame.bytes().get(ETHERNET_HEADER..).unwrap_or_default());
        frame.truncate(content + length);
        if !over_ipv4 {
            // The Fragment header goes: what is in front of it moves over it.
            let front = content - FRAGMENT_HEADER;
            if let Some(octets) = frame.bytes_mut().get_mut(..content) {
                octets.copy_within(..front, FRAGMENT_HEADER);
            }
            frame
                .strip(FRAGMENT_HEADER)
                .map_err(|_| DropReason::FragmentMalformed)?;
        }
        for part in parts {
            let octets = part.frame.bytes().get(part.content..part.content + part.length);
            frame
                .extend(octets.unwrap_or_default())
                .map_err(|_| DropReason::ReassemblyTooLong)?;
        }
        let length = frame.bytes().len() - ETHERNET_HEADER;
        if over_ipv4 {
            let packet = frame.bytes_mut().get_mut(ETHERNET_HEADER..).unwrap_or_default();
            // It was found to fit.
            ipv4_fragment::make_whole(packet, length as u16);
            if self.congestion_experienced {
                let before = packet.get(1).copied().unwrap_or_default();
                ipv4::set_traffic_class(packet, before | CONGESTION_EXPERIENCED);
            }
            return Ok(frame);
        }
        fragment::set(&mut frame, header.named_at, header.next_header, length);
        if self.congestion_experienced
            && let Some(octet) = frame.bytes_mut().get_mut(ETHERNET_HEADER + 1)
        {
            // RFC 3168 section 5.3.
            *octet |= CONGESTION_EXPERIENCED << 4;
        }
        Ok(frame)
    }
}

#[cfg(test)]
mod tests;
