//! Where frames go.

use std::net::Ipv6Addr;

use arrayvec::ArrayVec;

use super::{BURST, Waiting};
use crate::frame::Frame;
use crate::hold::{Bounds, Queues};
use crate::reassembly::{self, Reassembly};
use crate::snapshot::MAX_PORTS;
use crate::stage::ipv4_fragment::MOST_FRAGMENTS;

/// Missing neighbours, and paths, reported for one burst; the same one is reported again with the next packet.
const EVENTS: usize = 16;

/// Frames that one burst leads to on one port at most, so that none finds it full: all that each packet is cut into. Of IPv6 there
/// are two at most.
pub const FRAMES: usize = MOST_FRAGMENTS * BURST;

/// What one burst has led to. Emptied by the worker before the next one, but for what is held, and fragments.
#[derive(Debug)]
pub struct Output<F> {
    /// By port: to the wire.
    pub transmit: [ArrayVec<F, FRAMES>; MAX_PORTS],
    /// By port: to the kernel.
    pub punt: [ArrayVec<F, FRAMES>; MAX_PORTS],
    /// Neighbours that packets were dropped for want of.
    pub events: ArrayVec<MissingNeighbour, EVENTS>,
    /// Tunnels that have brought their last for a prefix.
    pub ended: ArrayVec<PathEnd, ENDS>,
    /// Packets of prefixes that are on hold.
    pub(super) held: Queues<Waiting<F>>,
    /// Packets whose source or destination nothing is known of yet.
    pub(super) unknown: Queues<Waiting<F>>,
    /// Paths to peers that take less than was thought.
    pub too_big: ArrayVec<PathTooBig, EVENTS>,
    /// Fragments of packets in tunnels.
    pub(super) reassembly: Reassembly<F>,
}

/// Path ends noted for one burst: all that there may be. When many prefixes move at once, they come one behind the
/// other, and packets wait for each.
const ENDS: usize = BURST;

/// A tunnel has brought its last for a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathEnd {
    /// Its index.
    pub tunnel: u32,
    /// An address of the prefix.
    pub address: Ipv6Addr,
}

/// A packet was dropped for want of this neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MissingNeighbour {
    /// Port index.
    pub port: usize,
    /// Its address.
    pub address: Ipv6Addr,
    /// It is a packet's destination, and no router or peer of anybody's configuration.
    pub on_link: bool,
}

/// A router on the path to a peer said that a packet was too big for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathTooBig {
    /// The peer.
    pub remote: Ipv6Addr,
    /// The largest packet that the router takes, octets; 1280 or more, over IPv4 576 or more.
    pub mtu: u16,
    /// It has proved to have seen a packet of ours.
    pub proven: bool,
}

impl<F> Default for Output<F> {
    fn default() -> Self {
        Self {
            transmit: std::array::from_fn(|_| ArrayVec::new()),
            punt: std::array::from_fn(|_| ArrayVec::new()),
            events: ArrayVec::new(),
            ended: ArrayVec::new(),
            held: Queues::default(),
            unknown: Queues::default(),
            too_big: ArrayVec::new(),
            reassembly: Reassembly::default(),
        }
    }
}

impl<F> Output<F> {
    /// With room for packets on hold, and for those of which nothing is known yet; without it, none
    /// is held.
    #[must_use]
    pub fn holding(held: Bounds, unknown: Bounds) -> Self {
        Self {
            held: Queues::new(held),
            unknown: Queues::new(unknown),
            ..Self::default()
        }
    }

    /// The same with room for fragments; without it, none is put together.
    #[must_use]
    pub fn reassembling(mut self, bounds: reassembly::Bounds) -> Self
    where
        F: Frame,
    {
        self.reassembly = Reassembly::new(bounds);
        self
    }

    /// Fragments that wait for others.
    #[inline]
    #[must_use]
    pub fn fragments(&self) -> usize
    where
        F: Frame,
    {
        self.reassembly.fragments()
    }

    /// Whether something is on hold.
    #[inline]
    #[must_use]
    pub fn holds(&self) -> bool {
        !self.held.is_empty() || !self.unknown.is_empty()
    }

    /// Whether something waits to become known.
    #[inline]
    pub(super) fn has_unknown(&self) -> bool {
        !self.unknown.is_empty()
    }

    /// Packets and octets on hold.
    #[inline]
    #[must_use]
    pub fn held(&self) -> (usize, usize) {
        (
            self.held.packets() + self.unknown.packets(),
            self.held.octets() + self.unknown.octets(),
        )
    }

    /// Notes that a tunnel has brought its last for the prefix of this address.
    pub(super) fn ended(&mut self, tunnel: u32, address: u128) {
        let address = address.into();
        // One for which there is no room comes again.
        let _ = self.ended.try_push(PathEnd { tunnel, address });
    }

    /// Notes a missing neighbour, once for each burst. `on_link`: it is so since a packet has its address, not since
    /// somebody has configured a way by it.
    pub(super) fn missing(&mut self, port: usize, address: u128, on_link: bool) {
        let it = MissingNeighbour {
            port,
            address: address.into(),
            on_link,
        };
        if !self.events.contains(&it)
            // When many are missing at once, the rest is noted with later packets; but no addresses that
            // somebody makes up may stand in the way of a router.
            && self.events.try_push(it).is_err()
            && !on_link
            && let Some(other) = self.events.iter_mut().find(|other| other.on_link)
        {
            *other = it;
        }
    }
}
