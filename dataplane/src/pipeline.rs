//! A burst's way through the stages.
//!
//! ```text
//!  burst ─► enter: Ethernet, VLAN, IP   ─► lanes ─► look_up: all keys at once ─► decide, lane by lane
//!                                            ▲                                      │
//!                                            └── decapsulated packets, own errors ──┴─► out, punt, drop
//! ```
//!
//! A packet is looked up once as it came in, once more if it was the last of several
//! fragments, once more if it came out of a
//! tunnel, and once more if it turned into an ICMPv6 error: so `process` makes
//! at most `PASSES` passes, each over what the one before left. Nothing is
//! allocated; frames move from one fixed array to the next, or wait in the
//! queues of [`crate::hold`], from which [`Pipeline::tend`] takes them.

mod admit;
mod decide;
mod encapsulate;
mod filter;
mod fragments;
mod gre;
mod hold;
mod ipv4;
mod local;
mod output;
mod probe;
mod tunnel_error;

use arrayvec::ArrayVec;

pub use output::{FRAMES, MissingNeighbour, Output, PathEnd, PathTooBig};
pub use probe::{NoProbe, Probe, Step};

use crate::counters::{Counters, Stage};
use crate::drops::DropReason;
use crate::fib::{NO_MATCH, prefetch};
use crate::flow::Verdict;
use crate::frame::Frame;
use crate::snapshot::{NextHop, PortDescription, Route, Snapshot};
use crate::stage::fragment::Identifications;
use crate::stage::limit::Limit;
use crate::stage::parse::{self, ETHERNET_HEADER, ETHERTYPE_IPV6, IPV6_HEADER, Packet, VLAN_TAG};
use crate::tunnel::{self, gtpu, ip6_in_ip6};

/// Most packets of one burst.
pub const BURST: usize = 64;

/// As it came in, put together of fragments, out of a tunnel, as an error about that.
const PASSES: usize = 4;

/// What the configuration lets a worker do, and how much of what is not forwarding.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// ICMPv6 errors sent per second.
    pub icmpv6_errors_per_second: u32,
    /// Packets to the kernel per second.
    pub punts_per_second: u32,
    /// Whether tunnelled packets may come without a UDP checksum (RFC 6935, RFC 6936).
    pub accept_zero_checksums: bool,
    /// Whether TCP is told not to send more than a tunnel takes (RFC 9293 section 3.7.1).
    pub clamp_mss: bool,
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
    icmpv6_errors: Limit,
    punts: Limit,
    accept_zero_checksums: bool,
    /// The cycle counter, once a burst; never 0.
    now: u64,
    clamp_mss: bool,
    identifications: Identifications,
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
}

/// A packet with what is known of it. The frame is an Ethernet header without tag and the packet, no more.
#[derive(Debug)]
struct Lane<F> {
    frame: F,
    packet: Packet,
    /// Of the packet, in the Ethernet header that it gets. Off the wire of a core port it may be IPv4 or ARP.
    ethertype: u16,
    /// Index of the port by which it came in.
    port: usize,
    source_link_layer: [u8; 6],
    origin: Origin,
    /// It has waited for what it would have been dropped for the want of, and does not wait again.
    late: bool,
    /// The tunnel whose peer sent it, where that was looked up with the burst.
    peer: u32,
}

/// Lanes of one pass.
type Lanes<F> = ArrayVec<Lane<F>, BURST>;

/// What filters say of the lanes of one pass; nothing, where there is no filter.
type Verdicts = ArrayVec<Verdict, BURST>;

impl Pipeline {
    /// For worker number `worker`.
    #[must_use]
    pub fn new(worker: usize, limits: Limits) -> Self {
        Self {
            counters: Counters::default(),
            worker,
            icmpv6_errors: Limit::new(limits.icmpv6_errors_per_second, limits.cycles_per_second),
            punts: Limit::new(limits.punts_per_second, limits.cycles_per_second),
            accept_zero_checksums: limits.accept_zero_checksums,
            now: 1,
            clamp_mss: limits.clamp_mss,
            identifications: Identifications::new(worker, limits.identification_seed),
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
        let mut lanes = Lanes::new();
        for frame in burst.drain(..) {
            match enter(frame, port, description) {
                // A burst has no more frames than there are lanes.
                Ok(lane) => lanes.push(lane),
                Err(reason) => self.counters.add_drops(reason, 1),
            }
        }
        self.counters.stage(Stage::Parsed, lanes.len() as u64);
        probe.reached(Step::Parsed);
        for _ in 0..PASSES {
            if lanes.is_empty() {
                return;
            }
            lanes = self.pass(snapshot, now, lanes, output, probe);
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
            self.send(frame, port, description, output);
        }
    }

    /// Looks all lanes up and decides on each; gives those that need another pass.
    fn pass<F: Frame, P: Probe>(
        &mut self,
        snapshot: &Snapshot,
        now: u64,
        mut lanes: Lanes<F>,
        output: &mut Output<F>,
        probe: &mut P,
    ) -> Lanes<F> {
        let mut keys: ArrayVec<u128, { 2 * BURST }> =
            lanes.iter().map(|lane| lane.packet.destination).collect();
        // There is room for both keys of every lane.
        let checked = |lane: &Lane<F>| source_counts(snapshot, lane);
        keys.extend(
            lanes
                .iter()
                .filter(|lane| checked(lane))
                .map(|lane| lane.packet.source),
        );
        let mut results = [NO_MATCH; 2 * BURST];
        snapshot.fib.lookup_burst(&keys, &mut results);
        probe.reached(Step::LookedUp);
        // With very many prefixes neither routes nor counters are in a cache: ask for all before using any.
        let results = results.get(..keys.len()).unwrap_or_default();
        for result in results {
            snapshot.routes.prefetch(*result);
        }
        let mut routes: ArrayVec<Route, { 2 * BURST }> = ArrayVec::new();
        for result in results {
            routes.push(snapshot.routes.get(*result));
        }
        for route in &routes {
            snapshot.prefix_traffic.prefetch(self.worker, route.counter);
        }
        let (destinations, sources) = routes.split_at(lanes.len());
        for route in destinations {
            if let NextHop::Tunnel(tunnel) = route.next_hop {
                self.prefetch_tunnel(snapshot, tunnel);
            }
        }
        self.look_peers_up(snapshot, &mut lanes, destinations);
        probe.reached(Step::Fetched);
        let verdicts = if snapshot.flows.any {
            self.filter(snapshot, &lanes, results, &routes)
        } else {
            Verdicts::new()
        };
        let mut verdicts = verdicts.iter();
        let mut sources = sources.iter();
        let mut again = Lanes::new();
        for (lane, destination) in lanes.into_iter().zip(destinations) {
            let source = if checked(&lane) {
                sources.next().copied().unwrap_or_default()
            } else {
                Route::default()
            };
            // A lane leaves at most one lane behind, so there is always room.
            if let Some(lane) = self.decide(
                snapshot,
                now,
                lane,
                (*destination, source),
                verdicts.next(),
                output,
            ) {
                again.push(lane);
            }
        }
        probe.reached(Step::Decided);
        again
    }

    /// Finds the tunnels of those packets that come out of one.
    #[inline]
    fn look_peers_up<F: Frame>(&self, snapshot: &Snapshot, lanes: &mut Lanes<F>, destinations: &[Route]) {
        let key = |lane: &Lane<F>, route: &Route| {
            let here = route.next_hop == NextHop::Local && lane.origin == Origin::Wire;
            if here { peer_key(lane) } else { None }
        };
        let mut keys: ArrayVec<u128, BURST> = ArrayVec::new();
        // Which lanes those are of: there are no more than a burst has.
        let mut tunnelled = 0u64;
        for (at, (lane, route)) in lanes.iter().zip(destinations).enumerate() {
            if let Some(key) = key(lane, route) {
                keys.push(key);
                tunnelled |= 1 << (at % BURST);
            }
        }
        if keys.is_empty() {
            return;
        }
        let mut results = [NO_MATCH; BURST];
        snapshot.peers.lookup_burst(&keys, &mut results);
        let mut results = results.iter();
        for (at, lane) in lanes.iter_mut().enumerate() {
            if tunnelled >> (at % BURST) & 1 == 1 {
                lane.peer = results.next().copied().unwrap_or(NO_MATCH);
                self.prefetch_tunnel(snapshot, lane.peer);
            }
        }
    }

    #[inline]
    fn prefetch_tunnel(&self, snapshot: &Snapshot, index: u32) {
        if let Some(tunnel) = snapshot.tunnels.at(index) {
            // It has one line.
            prefetch(tunnel);
            snapshot.tunnel_traffic.prefetch(self.worker, index);
        }
    }

    /// Puts a frame, complete but for a tag, into the output of a port.
    #[inline]
    fn send<F: Frame>(
        &mut self,
        mut frame: F,
        port: usize,
        description: &PortDescription,
        output: &mut Output<F>,
    ) {
        if let Some(vlan) = description.vlan
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

/// Whether a packet's source is looked up: it decides only where it is checked.
#[inline]
fn source_counts<F>(snapshot: &Snapshot, lane: &Lane<F>) -> bool {
    match lane.origin {
        Origin::Wire => snapshot.ports.get(lane.port).is_some_and(|port| port.access),
        Origin::Tunnel(_) => true,
        Origin::Own | Origin::Held => false,
    }
}

/// By what the tunnel is found that a packet comes by, in the table of peers.
#[inline]
fn peer_key<F: Frame>(lane: &Lane<F>) -> Option<u128> {
    match lane.packet.next_header {
        ip6_in_ip6::NEXT_HEADER => Some(lane.packet.source),
        tunnel::gre::NEXT_HEADER => {
            let octets = lane.frame.bytes().get(ETHERNET_HEADER + IPV6_HEADER..)?;
            gre::peer_key(octets, lane.packet.source)
        }
        gtpu::UDP if lane.ethertype != ETHERTYPE_IPV6 => ipv4::peer_key(lane),
        gtpu::UDP => {
            let udp = lane.frame.bytes().get(ETHERNET_HEADER + IPV6_HEADER..)?;
            Some(gtpu::key(gtpu::peek_teid(udp)?, lane.packet.source))
        }
        _ => None,
    }
}

/// Reads a frame and cuts it to an Ethernet header and a packet.
#[inline]
fn enter<F: Frame>(mut frame: F, port: usize, description: &PortDescription) -> Result<Lane<F>, DropReason> {
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
        parse::ipv6(octets)?
    } else {
        ipv4::enter(octets, ethernet.ethertype, description)?
    };
    // Padding of short Ethernet frames is no part of the packet.
    frame.truncate(ETHERNET_HEADER + packet.length);
    Ok(Lane {
        frame,
        packet,
        ethertype: ethernet.ethertype,
        port,
        source_link_layer: ethernet.source,
        origin: Origin::Wire,
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
