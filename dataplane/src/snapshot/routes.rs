//! The table of routes: entries that are written once.
//!
//! A route never changes in place. A prefix whose route changes gets another
//! index, which the forwarding table of the same version leads to; the old one is
//! used again when no version that leads to it is held any more. So one array
//! serves all versions, and a change costs one entry.
//!
//! What packets *to* a prefix need is in one array, and what else is asked of those *from* it in another: with a million prefixes a
//! packet's route is in no cache, and of a table of half the size there is less that is not.

mod numbers;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use numbers::Numbers;

use super::types::{LinkLayerAddress, NextHop, Route, SourceRule};
use crate::fib::{Memory, NO_MATCH, WORDS, prefetch};
use crate::flow::List;
use crate::versions::{Token, Versions};

/// Words of each half of a route: a quarter of a cache line.
const HALF: usize = 2;
/// That of its filters, in the half of the source; it is read only where there are some.
const FILTERS: usize = 1;
/// Lines that are reserved for each half of the routes: 1 GiB of addresses, 64 million routes. Only what is used takes memory.
const LINES: usize = if cfg!(miri) { 1 << 10 } else { 1 << 24 };

/// Both halves, by the same index.
#[derive(Debug)]
struct Halves {
    to: Memory,
    from: Memory,
}

/// What the indexes of one version of the forwarding table mean. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Routes {
    halves: Arc<Halves>,
    _held: Token,
}

impl Routes {
    /// The route; none at index 0, or where never one was.
    #[inline]
    #[must_use]
    pub fn get(&self, index: u32) -> Entry {
        self.halves.entry(index)
    }

    /// What packets from the prefix have to be like, whose route this is.
    #[inline]
    #[must_use]
    pub fn source(&self, index: u32) -> SourceEntry {
        self.halves.source(index)
    }

    /// All of it.
    #[must_use]
    pub fn route(&self, index: u32) -> Route {
        route(self.get(index), self.source(index))
    }

    /// The filters of the prefix whose route this is. They are where its source is.
    #[inline]
    #[must_use]
    pub fn filters(&self, index: u32) -> List {
        self.halves.filters(index)
    }

    /// Asks the processor for a route that [`Routes::get`] will be asked for.
    #[inline]
    pub fn prefetch(&self, index: u32) {
        prefetch(self.halves.to.group::<HALF>(index as usize));
    }

    /// The same of [`Routes::source`].
    #[inline]
    pub fn prefetch_source(&self, index: u32) {
        prefetch(self.halves.from.group::<HALF>(index as usize));
    }
}

impl Halves {
    #[inline]
    fn entry(&self, index: u32) -> Entry {
        let [next_hop, numbers] = self.to.group::<HALF>(index as usize);
        Entry {
            next_hop: Hop(next_hop.load(Ordering::Relaxed)),
            numbers: numbers.load(Ordering::Relaxed),
        }
    }

    #[inline]
    fn source(&self, index: u32) -> SourceEntry {
        let [source, _] = self.from.group::<HALF>(index as usize);
        let [_, numbers] = self.to.group::<HALF>(index as usize);
        SourceEntry {
            source: source.load(Ordering::Relaxed),
            onward: numbers.load(Ordering::Relaxed) as u32,
        }
    }

    #[inline]
    fn filters(&self, index: u32) -> List {
        let word = self.from.word(index as usize * HALF + FILTERS);
        List::unpack(word.load(Ordering::Relaxed))
    }
}

/// A route as the table has it, for packets to the prefix: what a worker asks of it, it asks without taking it to pieces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// With [`FLAGS`].
    next_hop: Hop,
    /// The index of the counters, and of the tunnel that packets from the prefix go into; 0: into none.
    numbers: u64,
}

impl Entry {
    /// Of any address of this node.
    pub const LOCAL: Self = Self {
        next_hop: Hop::LOCAL,
        numbers: 0,
    };

    /// For packets to it.
    #[inline]
    #[must_use]
    pub fn hop(self) -> Hop {
        Hop(self.next_hop.0 & !FLAGS)
    }

    /// Whether the packets that it has in common with this next hop, a tunnel, are counted once for both.
    #[inline]
    #[must_use]
    pub fn is_common(self, tunnel: Hop) -> bool {
        self.next_hop.0 & !FROM_BEHIND == tunnel.0 | COMMON
    }

    /// Whether it is so of this tunnel, and packets from it come out of no other.
    #[inline]
    #[must_use]
    pub fn is_common_alone(self, tunnel: Hop) -> bool {
        self.next_hop.0 == tunnel.0 | COMMON
    }

    /// Whether packets from it come out of a tunnel that it does not lead into, or go on by another: the other half knows which.
    #[inline]
    #[must_use]
    pub fn is_behind(self) -> bool {
        self.next_hop.0 & FROM_BEHIND != 0
    }

    /// As the other half has it, which need not be asked for then.
    #[inline]
    #[must_use]
    pub fn onward(self) -> Option<Hop> {
        (self.is_behind() && self.way_of_source() != 0).then(|| Hop::by_tunnel(self.way_of_source()))
    }

    /// Whether packets from it go into this tunnel, of which 0 is none.
    #[inline]
    #[must_use]
    pub fn goes_by(self, tunnel: u32) -> bool {
        tunnel != 0 && self.way_of_source() == tunnel
    }

    /// Index of the tunnel that packets from it go into; 0: into none.
    #[inline]
    #[must_use]
    pub fn way_of_source(self) -> u32 {
        self.numbers as u32
    }

    /// Index of its counters in the bank of prefixes.
    #[inline]
    #[must_use]
    pub fn counter(self) -> u32 {
        (self.numbers >> 32) as u32
    }
}

/// The other half of a route: what packets from its prefix have to be like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SourceEntry {
    source: u64,
    /// The tunnel that they go into; 0: into none.
    onward: u32,
}

impl SourceEntry {
    /// All of it.
    #[inline]
    #[must_use]
    pub fn rule(self) -> SourceRule {
        let (port, link_layer_address) = unpack_place(self.source);
        match self.source & 0xff {
            NATIVE => SourceRule::Native {
                port,
                link_layer_address,
            },
            BY_TUNNEL => SourceRule::Tunnel {
                port,
                link_layer_address,
                tunnel: self.onward,
            },
            BEHIND => SourceRule::Behind {
                tunnel: self.behind(),
                onward: None,
            },
            BEHIND_BY_TUNNEL => SourceRule::Behind {
                tunnel: self.behind(),
                onward: Some(self.onward),
            },
            _ => SourceRule::Refused,
        }
    }

    /// Whether packets from it may come out of this tunnel, its node being behind the gateway at the other end.
    #[inline]
    #[must_use]
    pub fn comes_by(self, tunnel: u32) -> bool {
        self.source & 0xff >= BEHIND && self.behind() == tunnel
    }

    /// The tunnel to the anchor that packets from it go into, which come out of another one.
    #[inline]
    #[must_use]
    pub fn onward(self) -> Option<Hop> {
        (self.source & 0xff == BEHIND_BY_TUNNEL).then(|| Hop::by_tunnel(self.onward))
    }

    #[inline]
    fn behind(self) -> u32 {
        (self.source >> 32) as u32
    }

    /// Whether no packets may come from it on the access side.
    #[inline]
    #[must_use]
    pub fn is_refused(self) -> bool {
        self.source & 0xff == REFUSED
    }
}

/// Both halves in one.
fn route(entry: Entry, source: SourceEntry) -> Route {
    Route {
        next_hop: entry.hop().unpack(),
        source: source.rule(),
        counter: entry.counter(),
        common: entry.next_hop.0 & COMMON != 0,
    }
}

/// A next hop in one word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hop(u64);

// What is in the last octet of a next hop, in an order that `Hop::goes_on` knows; 0 is none.
const DELIVER: u64 = 1;
const TUNNEL: u64 = 2;
const ADJACENCY: u64 = 3;
const ON_LINK: u64 = 4;
const LOCAL: u64 = 5;
const NODE_ABSENT: u64 = 6;
const UNALLOCATED: u64 = 7;
const PROHIBITED: u64 = 8;
const HOLD_EXPIRED: u64 = 9;
// From here on, packets may have to wait: `Hop::may_wait`.
const HOLD: u64 = 10;
const AFTER: u64 = 11;
/// Of a packet, never of a route.
const FLOW_HOLD: u64 = 12;

/// Beside it in a table: what packets *from* the prefix may come out of, if it is not where those to it go, is said in the other half, which is in another
/// place, and of most prefixes need not be asked.
const FROM_BEHIND: u64 = 0x80;
/// Beside a tunnel in a table: it shares its counters, see [`Route::common`].
const COMMON: u64 = 0x40;
/// Both.
const FLAGS: u64 = FROM_BEHIND | COMMON;

// And in that of a source.
const REFUSED: u64 = 0;
const NATIVE: u64 = 1;
const BY_TUNNEL: u64 = 2;
// The last ones, as `Entry::comes_by` knows.
const BEHIND: u64 = 3;
const BEHIND_BY_TUNNEL: u64 = 4;

impl Hop {
    /// An address of this node.
    pub const LOCAL: Self = Self(LOCAL);
    /// See [`NextHop::Hold`].
    pub const HOLD: Self = Self(HOLD);

    /// Into this tunnel.
    #[inline]
    #[must_use]
    pub fn by_tunnel(index: u32) -> Self {
        Self(TUNNEL | u64::from(index) << 32)
    }

    /// The tunnel that it is, if any.
    #[inline]
    #[must_use]
    pub fn tunnel(self) -> Option<u32> {
        (self.0 & 0xff == TUNNEL).then_some((self.0 >> 32) as u32)
    }

    /// Whether it is to a node that is here: see [`NextHop::Deliver`].
    #[inline]
    #[must_use]
    pub fn delivers(self) -> bool {
        self.0 & 0xff == DELIVER
    }

    /// The wait that it is, if any: see [`NextHop::After`].
    #[inline]
    #[must_use]
    pub fn after(self) -> Option<u32> {
        (self.0 & 0xff == AFTER).then_some((self.0 >> 32) as u32)
    }

    /// Not yet anywhere, as the filter with these counters says.
    #[inline]
    #[must_use]
    pub fn flow_hold(counter: u32) -> Self {
        Self(FLOW_HOLD | u64::from(counter) << 32)
    }

    /// The counters of the filter that holds the packet, if one does.
    #[inline]
    #[must_use]
    pub fn held_by(self) -> Option<u32> {
        (self.0 & 0xff == FLOW_HOLD).then_some((self.0 >> 32) as u32)
    }

    /// Whether packets leave by it, at once.
    #[inline]
    #[must_use]
    pub fn goes_on(self) -> bool {
        (DELIVER..=ADJACENCY).contains(&(self.0 & 0xff))
    }

    /// Whether packets may have to wait.
    #[inline]
    #[must_use]
    pub fn may_wait(self) -> bool {
        self.0 & 0xff >= HOLD
    }

    /// What it is.
    #[inline]
    #[must_use]
    pub fn unpack(self) -> NextHop {
        let index = (self.0 >> 32) as u32;
        let (port, link_layer_address) = unpack_place(self.0);
        match self.0 & 0xff {
            DELIVER => NextHop::Deliver {
                port,
                link_layer_address,
            },
            TUNNEL => NextHop::Tunnel(index),
            ADJACENCY => NextHop::Adjacency(index),
            ON_LINK => NextHop::OnLink { port },
            LOCAL => NextHop::Local,
            NODE_ABSENT => NextHop::NodeAbsent,
            UNALLOCATED => NextHop::Unallocated,
            PROHIBITED => NextHop::Prohibited,
            HOLD => NextHop::Hold,
            HOLD_EXPIRED => NextHop::HoldExpired,
            AFTER => NextHop::After(index),
            _ => NextHop::None,
        }
    }
}

impl From<NextHop> for Hop {
    fn from(next_hop: NextHop) -> Self {
        Self(match next_hop {
            NextHop::None => 0,
            NextHop::Deliver {
                port,
                link_layer_address,
            } => DELIVER | place(port, link_layer_address),
            NextHop::Tunnel(index) => TUNNEL | u64::from(index) << 32,
            NextHop::Adjacency(index) => ADJACENCY | u64::from(index) << 32,
            NextHop::OnLink { port } => ON_LINK | u64::from(port) << 8,
            NextHop::Local => LOCAL,
            NextHop::NodeAbsent => NODE_ABSENT,
            NextHop::Unallocated => UNALLOCATED,
            NextHop::Prohibited => PROHIBITED,
            NextHop::Hold => HOLD,
            NextHop::HoldExpired => HOLD_EXPIRED,
            NextHop::After(index) => AFTER | u64::from(index) << 32,
        })
    }
}

/// In the upper seven octets of a word.
fn place(port: u8, [a, b, c, d, e, f]: LinkLayerAddress) -> u64 {
    u64::from_le_bytes([0, port, a, b, c, d, e, f])
}

#[inline]
fn unpack_place(word: u64) -> (u8, LinkLayerAddress) {
    let [_, port, a, b, c, d, e, f] = word.to_le_bytes();
    (port, [a, b, c, d, e, f])
}

/// A route in two halves.
fn halves(route: Route) -> (Entry, SourceEntry) {
    let (source, onward) = match route.source {
        SourceRule::Refused => (REFUSED, 0),
        SourceRule::Native {
            port,
            link_layer_address,
        } => (NATIVE | place(port, link_layer_address), 0),
        SourceRule::Tunnel {
            port,
            link_layer_address,
            tunnel,
        } => (BY_TUNNEL | place(port, link_layer_address), tunnel),
        SourceRule::Behind { tunnel, onward } => {
            let kind = onward.map_or(BEHIND, |_| BEHIND_BY_TUNNEL);
            (kind | u64::from(tunnel) << 32, onward.unwrap_or_default())
        }
    };
    let hop = Hop::from(route.next_hop);
    // A node of which all goes by one tunnel: its next hop says it.
    let behind = if route.is_behind_another() { FROM_BEHIND } else { 0 };
    let common = if route.common { COMMON } else { 0 };
    let entry = Entry {
        next_hop: Hop(hop.0 | behind | common),
        numbers: u64::from(route.counter) << 32 | u64::from(onward),
    };
    (entry, SourceEntry { source, onward })
}

/// Where the index of a route should be.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    /// Near that which its prefix had.
    InsteadOf(u32),
    /// Near that of the prefix before it; [`NO_MATCH`]: anywhere.
    Beside(u32),
}

/// The writer's end.
#[derive(Debug)]
pub(super) struct RouteWriter {
    halves: Arc<Halves>,
    numbers: Numbers,
    versions: Versions<u32>,
}

impl RouteWriter {
    pub(super) fn new() -> Self {
        Self {
            halves: Arc::new(Halves {
                to: Memory::of(LINES),
                from: Memory::of(LINES),
            }),
            numbers: Numbers::default(),
            versions: Versions::default(),
        }
    }

    /// Whether so many routes can be added.
    pub(super) fn room_for(&self, count: usize) -> bool {
        let lines = self.halves.to.lines().min(self.halves.from.lines());
        lines * WORDS / HALF > self.numbers.end_after(count)
    }

    /// A new entry, for a prefix with this place. Whoever adds has asked for room before.
    pub(super) fn add(&mut self, route: Route, filters: List, place: Place) -> u32 {
        let index = match place {
            Place::InsteadOf(old) => self.numbers.take_instead(old),
            Place::Beside(NO_MATCH) => self.numbers.take(),
            Place::Beside(neighbour) => self.numbers.take_beside(neighbour),
        };
        let (entry, source) = halves(route);
        let put = |memory: &Memory, words: [u64; HALF]| {
            for (word, value) in memory.group::<HALF>(index as usize).iter().zip(words) {
                word.store(value, Ordering::Relaxed);
            }
        };
        put(&self.halves.to, [entry.next_hop.0, entry.numbers]);
        put(&self.halves.from, [source.source, filters.pack()]);
        index
    }

    /// The filters of an index in use.
    pub(super) fn filters(&self, index: u32) -> List {
        self.halves.filters(index)
    }

    /// The route of an index in use.
    pub(super) fn get(&self, index: u32) -> Route {
        route(self.halves.entry(index), self.halves.source(index))
    }

    /// The next version does not lead to it any more.
    pub(super) fn retire(&mut self, index: u32) {
        self.versions.retire(index);
    }

    /// For the next version.
    pub(super) fn commit(&mut self) -> Routes {
        let numbers = &mut self.numbers;
        let held = self.versions.commit(|index| numbers.give(index));
        Routes {
            halves: self.halves.clone(),
            _held: held,
        }
    }
}

#[cfg(test)]
mod tests;
