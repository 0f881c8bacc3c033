//! A burst's way through the stages.
//!
//! ```text
//!  burst ─► enter: Ethernet, VLAN, IP ─► open: out of tunnels ─► look_up: all keys at once ─► decide, lane by lane
//!                                                                   ▲                              │
//!                                                                   └── what is another packet now ┴─► out, punt, drop
//! ```
//!
//! What is looked up is the destination, and the source where that decides: of a packet out of a tunnel it does not if the tunnel itself says
//! whose packets it brings ([`Snapshot::brings`]). Nearly all packets are looked up once: those in tunnels are taken out before that. A packet is looked up once
//! more if it was the last of several fragments, once more if it came out of a tunnel in a way that is not the
//! usual one, and once more if it turned into an ICMPv6 error: so `process` makes at most `PASSES` passes, each
//! over what the one before left. Nothing is allocated. Frames move from one fixed array to the next, or wait in
//! the queues of [`crate::hold`], from which [`Pipeline::tend`] takes them; what is known of each, which is ten
//! times as large, is written once and stays where it is.

mod admit;
mod decide;
mod encapsulate;
mod filter;
mod fragments;
mod gre;
mod hold;
mod inner_ipv4;
mod ipv4;
mod limits;
mod local;
mod open;
mod output;
mod probe;
mod punt;
mod subject;
mod tunnel_error;

use std::ops::{Deref, DerefMut};

use arrayvec::ArrayVec;

pub use fragments::Ipv4Fragments;
use limits::{Errors, Punts};
pub use output::{FRAMES, MissingNeighbour, Output, PathEnd, PathTooBig};
pub use probe::{NoProbe, Probe, Step};

use crate::counters::{Counters, Stage};
use crate::drops::DropReason;
use crate::fib::NO_MATCH;
use crate::flow::Verdict;
use crate::frame::Frame;
use crate::snapshot::{Hop, PortDescription, Snapshot};
use crate::stage::fragment::Identifications;
use crate::stage::ipv4_outer_fragment;
use crate::stage::parse::{self, ETHERNET_HEADER, ETHERTYPE_IPV6, IPV6_HEADER, Packet, VLAN_TAG};
use crate::tunnel::{self, gtpu, ip6_in_ip6};

/// Most packets of one burst.
pub const BURST: usize = 64;

/// As it came in, put together of fragments, out of a tunnel, as an error about that.
const PASSES: usize = 4;

/// What the configuration lets a worker do, and how much of what is not forwarding.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Errors sent per second, of each kind: what a path takes, and all others.
    pub icmpv6_errors_per_second: u32,
    /// Packets to the kernel per second, of each kind.
    pub punts_per_second: u32,
    /// Whether tunnelled packets may come without a UDP checksum (RFC 6935, RFC 6936).
    pub accept_zero_checksums: bool,
    /// What becomes of fragments of outer packets over IPv4.
    pub ipv4_fragments: Ipv4Fragments,
    /// Whether TCP is told not to send more than a tunnel takes (RFC 9293 section 3.7.1).
    pub clamp_mss: bool,
    /// How many workers there are, 1 or more.
    pub workers: usize,
    /// Of the identifications of fragmented packets: the same for all workers, and known to nobody else.
    pub identification_seed: u64,
    /// Of the counter that `process` is given as `now`.
    pub cycles_per_second: u64,
}

/// What one worker needs to process packets.
#[derive(Debug)]
pub struct Pipeline {
    /// Written by this worker alone.
    pub counters: Counters,
    worker: usize,
    errors: Errors,
    punts: Punts,
    accept_zero_checksums: bool,
    ipv4_fragments: Ipv4Fragments,
    /// The cycle counter, once a burst; never 0.
    now: u64,
    clamp_mss: bool,
    identifications: Identifications,
    /// Of those over IPv4.
    identifications_of_ipv4: ipv4_outer_fragment::Identifications,
}

/// Where a packet of a lane comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// In by its port.
    Wire,
    /// Out of the tunnel with this index.
    Tunnel(u32),
    /// An error of our own.
    Own,
    /// It was on hold; whether it may go on was found out before that.
    Held,
    /// So it was with its flow; filters have counted it, and are asked for its way only. The index of the tunnel
    /// that it came out of; 0: it came in by its port.
    Flow(u32),
}

/// What is known of a packet.
#[derive(Clone, Copy, Debug)]
struct Note {
    packet: Packet,
    /// Of the packet, in the Ethernet header that it gets. Off the wire of a core port it may be IPv4 or ARP.
    ethertype: u16,
    /// Index of the port by which it came in.
    port: usize,
    source_link_layer: [u8; 6],
    origin: Origin,
    /// Its source is looked up, since it decides: what nodes send, and what is in tunnels.
    checked: bool,
    /// Whether its source is of the prefix of its tunnel, in the version that this pass reads, so that it need not be looked up; `None`: that
    /// has not been asked. Who keeps a note for longer forgets it.
    of_tunnel: Option<bool>,
    /// It has waited for what it would have been dropped for the want of, and does not wait again.
    late: bool,
    /// The tunnel whose peer sent it, where that was looked up with the burst; for a while, within [`Pipeline::open`], the number of the key
    /// that is looked up, from 1 on.
    peer: u32,
}

impl Note {
    /// Whether its source is looked up in this pass.
    #[inline]
    fn is_looked_up(&self) -> bool {
        self.checked && !self.is_of_tunnel()
    }

    /// Whether it need not be, having come out of this tunnel. Filters hang off routes: where there are any, all sources are looked up.
    #[inline]
    fn is_brought(&mut self, snapshot: &Snapshot, tunnel: u32) -> bool {
        let of_tunnel = !snapshot.flows.any
            && self
                .of_tunnel
                .unwrap_or_else(|| snapshot.brings(tunnel, self.packet.source));
        self.of_tunnel = Some(of_tunnel);
        of_tunnel
    }

    #[inline]
    fn is_of_tunnel(&self) -> bool {
        self.of_tunnel == Some(true)
    }
}

/// A packet with what is known of it. The frame is an Ethernet header without tag and the packet, no more; what the
/// header says counts only for packets as they came in.
#[derive(Debug)]
struct Lane<'a, F> {
    frame: F,
    note: &'a mut Note,
}

impl<F> Deref for Lane<'_, F> {
    type Target = Note;

    #[inline]
    fn deref(&self) -> &Note {
        self.note
    }
}

impl<F> DerefMut for Lane<'_, F> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Note {
        self.note
    }
}

/// A packet to be read, with what is known of it.
#[derive(Clone, Copy)]
struct View<'a> {
    /// From the IP header on.
    octets: &'a [u8],
    note: &'a Note,
}

impl<'a> View<'a> {
    #[inline]
    fn new<F: Frame>(frame: &'a F, note: &'a Note) -> Self {
        let octets = frame.bytes().get(ETHERNET_HEADER..).unwrap_or_default();
        Self { octets, note }
    }
}

impl Deref for View<'_> {
    type Target = Note;

    #[inline]
    fn deref(&self) -> &Note {
        self.note
    }
}

impl<F: Frame> Lane<'_, F> {
    #[inline]
    fn view(&self) -> View<'_> {
        View::new(&self.frame, self.note)
    }
}

/// A packet that waits, with what is known of it.
#[derive(Debug)]
struct Waiting<F> {
    frame: F,
    note: Note,
}

/// The frames of one pass; there are as many notes.
type Frames<F> = ArrayVec<F, BURST>;

/// What is known of each.
type Notes = ArrayVec<Note, BURST>;

/// What filters say of the lanes of one pass; nothing, where there is no filter.
type Verdicts = ArrayVec<Verdict, BURST>;

impl Pipeline {
    /// For worker number `worker`.
    #[must_use]
    pub fn new(worker: usize, limits: Limits) -> Self {
        Self {
            counters: Counters::default(),
            worker,
            errors: Errors::new(limits.icmpv6_errors_per_second, limits.cycles_per_second),
            punts: Punts::new(limits.punts_per_second, limits.cycles_per_second),
            accept_zero_checksums: limits.accept_zero_checksums,
            ipv4_fragments: limits.ipv4_fragments,
            now: 1,
            clamp_mss: limits.clamp_mss,
            identifications: Identifications::new(worker, limits.identification_seed),
            identifications_of_ipv4: ipv4_outer_fragment::Identifications::new(
                worker,
                limits.workers,
                limits.identification_seed,
            ),
        }
    }

    /// Takes every frame out of `burst`, all of which came in by port number `port`, and puts it into
    /// `output` or drops and counts it. `now` is the cycle counter.
    #[inline]
    pub fn process<F: Frame>(
        &mut self,
        snapshot: &Snapshot,
        port: usize,
        now: u64,
        burst: &mut ArrayVec<F, BURST>,
        output: &mut Output<F>,
    ) {
        self.process_probed(snapshot, port, now, burst, output, &mut NoProbe);
    }

    /// As [`Pipeline::process`]; tells `probe` after each step of the burst.
    pub fn process_probed<F: Frame, P: Probe>(
        &mut self,
        snapshot: &Snapshot,
        port: usize,
        now: u64,
        burst: &mut ArrayVec<F, BURST>,
        output: &mut Output<F>,
        probe: &mut P,
    ) {
        for frame in burst.iter() {
            frame.prefetch();
        }
        let Some(description) = snapshot.ports.get(port) else {
            self.counters.add_drops(DropReason::NotForUs, burst.len() as u64);
            burst.clear();
            return;
        };
        self.now = now.max(1);
        let (mut frames, mut notes) = (Frames::new(), Notes::new());
        for mut frame in burst.drain(..) {
            match enter(&mut frame, port, description) {
                // A burst has no more frames than there is room for.
                Ok(note) => {
                    notes.push(note);
                    frames.push(frame);
                }
                Err(reason) => self.counters.add_drops(reason, 1),
            }
        }
        self.counters.stage(Stage::Parsed, notes.len() as u64);
        probe.reached(Step::Parsed);
        if !description.access {
            self.open(snapshot, &mut frames, &mut notes, output);
        }
        probe.reached(Step::Opened);
        for _ in 0..PASSES {
            if frames.is_empty() {
                return;
            }
            self.pass(snapshot, now, &mut frames, &mut notes, output, probe);
        }
    }

    /// Takes every frame out of `burst`, all of which the kernel sent by the exception interface of
    /// port number `port`, and puts it into `output`, tagged as that port wants.
    pub fn from_kernel<F: Frame>(
        &mut self,
        snapshot: &Snapshot,
        port: usize,
        burst: &mut ArrayVec<F, BURST>,
        output: &mut Output<F>,
    ) {
        let Some(description) = snapshot.ports.get(port) else {
            return burst.clear();
        };
        self.counters.stage(Stage::FromKernel, burst.len() as u64);
        for frame in burst.drain(..) {
            self.put_out(frame, port, description.vlan, output);
        }
    }

    /// Looks all up and decides on each; leaves those that need another pass.
    fn pass<F: Frame, P: Probe>(
        &mut self,
        snapshot: &Snapshot,
        now: u64,
        frames: &mut Frames<F>,
        notes: &mut Notes,
        output: &mut Output<F>,
        probe: &mut P,
    ) {
        let (mut keys, mut sources) = (
            ArrayVec::<u128, { 2 * BURST }>::new(),
            ArrayVec::<u128, BURST>::new(),
        );
        // Filters hang off both ends; off an access link it counts what the source may be, and for whom a packet is counted.
        let filters = snapshot.flows.any;
        let mut from_nodes = false;
        for note in notes.iter_mut() {
            keys.push(note.packet.destination);
            if !note.checked {
                continue;
            }
            // What has just come out of its tunnel, and knows that, has asked for its cell.
            let is_asked_for = note.of_tunnel.is_some();
            if let Origin::Tunnel(tunnel) = note.origin
                && note.is_brought(snapshot, tunnel)
            {
                if !is_asked_for {
                    snapshot.prefetch_common_out_of(self.worker, tunnel);
                }
            } else {
                sources.push(note.packet.source);
                from_nodes |= note.origin == Origin::Wire;
            }
        }
        // There is room for both keys of every packet.
        let _ = keys.try_extend_from_slice(&sources);
        let mut results = [NO_MATCH; 2 * BURST];
        snapshot.fib.lookup_burst(&keys, &mut results);
        probe.reached(Step::LookedUp);
        // With very many prefixes neither routes nor counters are in a cache: ask for all before using any.
        let results = results.get(..keys.len()).unwrap_or_default();
        for result in results {
            snapshot.routes.prefetch(*result);
        }
        let (destinations, sources) = results.split_at(notes.len());
        for result in if filters { destinations } else { &[] } {
            snapshot.routes.prefetch_source(*result);
        }
        for result in if filters || from_nodes { sources } else { &[] } {
            snapshot.routes.prefetch_source(*result);
        }
        let mut local = false;
        for result in destinations {
            let route = snapshot.routes.get(*result);
            let hop = route.hop();
            if let Some(tunnel) = hop.tunnel() {
                snapshot.prefetch_tunnel(tunnel);
                snapshot.prefetch_into(self.worker, route, tunnel);
            } else if hop.delivers() {
                // Nearly no other is counted: with very many cells that nobody needs, all would wait for them.
                snapshot.prefix_traffic.prefetch_to(self.worker, route.counter());
            } else {
                local |= hop == Hop::LOCAL;
            }
        }
        let looked_up = if sources.is_empty() { &[][..] } else { &notes[..] };
        for (note, result) in looked_up.iter().filter(|note| note.is_looked_up()).zip(sources) {
            let route = snapshot.routes.get(*result);
            if let Origin::Tunnel(tunnel) = note.origin {
                snapshot.prefetch_out_of(self.worker, route, tunnel);
            } else if route.hop().tunnel().is_some() {
                snapshot
                    .passing_traffic
                    .prefetch_from(self.worker, route.counter());
            } else if from_nodes {
                snapshot
                    .prefix_traffic
                    .prefetch_from(self.worker, route.counter());
            }
        }
        if local {
            self.look_peers_up(snapshot, frames, notes, destinations);
        }
        probe.reached(Step::Fetched);
        let verdicts = if snapshot.flows.any {
            self.filter(snapshot, frames, notes, results)
        } else {
            Verdicts::new()
        };
        let mut verdicts = verdicts.iter();
        let mut sources = sources.iter();
        let (mut left, mut places) = (Frames::new(), ArrayVec::<usize, BURST>::new());
        let lanes = frames.drain(..).zip(notes.iter_mut()).zip(destinations);
        for (at, ((frame, note), destination)) in lanes.enumerate() {
            let source = if note.is_looked_up() {
                sources.next().copied().unwrap_or_default()
            } else {
                NO_MATCH
            };
            let lane = Lane { frame, note };
            let ways = (*destination, source);
            if let Some(frame) = self.decide(snapshot, now, lane, ways, verdicts.next(), output) {
                left.push(frame);
                places.push(at);
            }
        }
        for (to, from) in places.into_iter().enumerate() {
            notes.swap(to, from);
        }
        notes.truncate(left.len());
        for note in notes.iter_mut() {
            note.of_tunnel = None;
        }
        frames.extend(left);
        probe.reached(Step::Decided);
    }

    /// Finds the tunnels of those packets that come out of one.
    #[cold]
    #[inline(never)]
    fn look_peers_up<F: Frame>(
        &self,
        snapshot: &Snapshot,
        frames: &Frames<F>,
        notes: &mut Notes,
        destinations: &[u32],
    ) {
        let key = |frame: &F, note: &Note, result: u32| {
            let here = note.origin == Origin::Wire && snapshot.routes.get(result).hop() == Hop::LOCAL;
            if here { peer_key(frame, note) } else { None }
        };
        let mut keys: ArrayVec<u128, BURST> = ArrayVec::new();
        // Which those are of: there are no more than a burst has.
        let mut tunnelled: ArrayVec<usize, BURST> = ArrayVec::new();
        for (at, ((frame, note), result)) in frames.iter().zip(notes.iter()).zip(destinations).enumerate() {
            if let Some(key) = key(frame, note, *result) {
                keys.push(key);
                tunnelled.push(at);
            }
        }
        let mut results = [NO_MATCH; BURST];
        snapshot.peers.lookup_burst(&keys, &mut results);
        for (at, result) in tunnelled.into_iter().zip(results) {
            if let Some(note) = notes.get_mut(at) {
                note.peer = result;
                snapshot.prefetch_tunnel(result);
                snapshot.prefetch_source_prefix(result);
            }
        }
    }

    /// Puts a frame, complete but for a tag, into the output of a port.
    #[inline]
    fn put_out<F: Frame>(&mut self, mut frame: F, port: usize, vlan: Option<u16>, output: &mut Output<F>) {
        if let Some(vlan) = vlan
            && !tag(&mut frame, vlan)
        {
            return self.counters.add_drops(DropReason::NoHeadroom, 1);
        }
        if output
            .transmit
            .get_mut(port)
            .is_none_or(|burst| burst.try_push(frame).is_err())
        {
            self.counters.add_drops(DropReason::OutputFull, 1);
        }
    }
}

/// By what the tunnel is found that a packet comes by, in the table of peers.
#[inline(always)]
fn peer_key<F: Frame>(frame: &F, note: &Note) -> Option<u128> {
    match note.packet.next_header {
        ip6_in_ip6::NEXT_HEADER | ip6_in_ip6::NEXT_HEADER_IPV4 => Some(note.packet.source),
        tunnel::gre::NEXT_HEADER => {
            let octets = frame.bytes().get(ETHERNET_HEADER + IPV6_HEADER..)?;
            gre::peer_key(octets, note.packet.source)
        }
        gtpu::UDP if note.ethertype != ETHERTYPE_IPV6 => ipv4::peer_key(frame, note),
        gtpu::UDP => {
            let udp = frame.bytes().get(ETHERNET_HEADER + IPV6_HEADER..)?;
            Some(gtpu::key(gtpu::peek_teid(udp)?, note.packet.source))
        }
        _ => None,
    }
}

/// Reads a frame and cuts it to an Ethernet header and a packet.
///
/// Always in line: a note that is made elsewhere is copied, which costs as much as making it.
#[inline(always)]
fn enter<F: Frame>(frame: &mut F, port: usize, description: &PortDescription) -> Result<Note, DropReason> {
    let ethernet = parse::ethernet(frame.bytes(), description.link_layer_address, description.vlan)?;
    if ethernet.header > ETHERNET_HEADER {
        // Both addresses move over the tag; the ethertype behind it is in place.
        if let Some(addresses) = frame.bytes_mut().get_mut(..ETHERNET_HEADER - 2 + VLAN_TAG) {
            addresses.copy_within(..ETHERNET_HEADER - 2, VLAN_TAG);
        }
        frame.strip(VLAN_TAG).map_err(|_| DropReason::FrameTooShort)?;
    }
    let octets = frame.bytes().get(ETHERNET_HEADER..).unwrap_or_default();
    let packet = if ethernet.ethertype == ETHERTYPE_IPV6 {
        Packet::of(parse::whole_ipv6(octets)?)
    } else {
        ipv4::enter(octets, ethernet.ethertype, description)?
    };
    // Padding of short Ethernet frames is no part of the packet.
    frame.truncate(ETHERNET_HEADER + packet.length);
    Ok(Note {
        packet,
        ethertype: ethernet.ethertype,
        port,
        source_link_layer: ethernet.source,
        origin: Origin::Wire,
        checked: description.access,
        of_tunnel: None,
        late: false,
        peer: NO_MATCH,
    })
}

/// Inserts a VLAN tag behind the addresses.
fn tag<F: Frame>(frame: &mut F, vlan: u16) -> bool {
    if frame.bytes().len() < ETHERNET_HEADER || frame.prepend(VLAN_TAG).is_err() {
        return false;
    }
    let Some(header) = frame.bytes_mut().get_mut(..ETHERNET_HEADER - 2 + VLAN_TAG) else {
        return false;
    };
    header.copy_within(VLAN_TAG.., 0);
    let [high, low] = vlan.to_be_bytes();
    if let Some(tag) = header.last_chunk_mut::<VLAN_TAG>() {
        *tag = [0x81, 0x00, high, low];
    }
    true
}
