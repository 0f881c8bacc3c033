//! Counting of what is in tunnels: each packet for its tunnel, and for the node's prefix that it is to or from.
//!
//! ```text
//!                                       tunnel_traffic   passing_traffic   common_traffic
//!                                        (by tunnel)       (by prefix)       (by tunnel)
//!  to or from the prefix of the tunnel                                            x
//!  to or from another prefix                  x                x
//!  of IPv4                                    x                x
//!  of no prefix that it may be of,
//!  an end of a path                           x
//!  from a prefix that was not known
//!  when it came                               x (then)         x (when it is)
//!
//!  a tunnel   = tunnel_traffic + common_traffic
//!  a prefix   = passing_traffic + common_traffic of the tunnel whose prefix it is, while it was
//! ```
//!
//! With a million tunnels, each for the prefix of one node, a packet's cell is in no cache, and two of them are two waits. So a
//! tunnel may have one prefix that it shares a cell with: the first of IPv6 that leads there, for as long as it does. After that it is the next that is put there, or put there
//! again. Its route
//! says so ([`Route::common`](super::Route::common)), and so no worker looks at the tunnel to know it. Which prefix that is may change
//! while workers count: the cell then stays without a prefix until nobody reads a version in which it had the former one (`compile/common.rs`).

use super::{Entry, Hop, Snapshot};
use crate::fib::prefetch;

impl Snapshot {
    /// Counts a packet to the prefix with this route that has gone into this tunnel.
    #[inline]
    pub fn count_into(&self, worker: usize, route: Entry, tunnel: u32, octets: usize) {
        if route.is_common(Hop::by_tunnel(tunnel)) {
            self.common_traffic.to(worker, tunnel, octets);
        } else {
            self.tunnel_traffic.to(worker, tunnel, octets);
            self.passing_traffic.to(worker, route.counter(), octets);
        }
    }

    /// Asks the processor for the cells that [`Snapshot::count_into`] will count in.
    #[inline]
    pub fn prefetch_into(&self, worker: usize, route: Entry, tunnel: u32) {
        if route.is_common(Hop::by_tunnel(tunnel)) {
            self.common_traffic.prefetch_to(worker, tunnel);
        } else {
            self.tunnel_traffic.prefetch_to(worker, tunnel);
            self.passing_traffic.prefetch_to(worker, route.counter());
        }
    }

    /// Counts a packet from the prefix with this route that has come out of this tunnel.
    #[inline]
    pub fn count_out_of(&self, worker: usize, from: Entry, tunnel: u32, octets: usize) {
        if from.is_common(Hop::by_tunnel(tunnel)) {
            self.common_traffic.from(worker, tunnel, octets);
        } else {
            self.tunnel_traffic.from(worker, tunnel, octets);
            self.passing_traffic.from(worker, from.counter(), octets);
        }
    }

    /// The same of [`Snapshot::count_out_of`]. Most packets whose source does not lead into a tunnel are counted for the tunnel alone.
    #[inline]
    pub fn prefetch_out_of(&self, worker: usize, from: Entry, tunnel: u32) {
        if from.is_common(Hop::by_tunnel(tunnel)) {
            self.common_traffic.prefetch_from(worker, tunnel);
        } else {
            self.tunnel_traffic.prefetch_from(worker, tunnel);
            if from.hop().tunnel().is_some() {
                self.passing_traffic.prefetch_from(worker, from.counter());
            }
        }
    }

    /// Counts a packet that has come out of this tunnel, from the prefix that shares its cell.
    #[inline]
    pub fn count_common_out_of(&self, worker: usize, tunnel: u32, octets: usize) {
        self.common_traffic.from(worker, tunnel, octets);
    }

    /// Asks the processor for the cell that [`Snapshot::count_common_out_of`] will count in.
    #[inline]
    pub fn prefetch_common_out_of(&self, worker: usize, tunnel: u32) {
        self.common_traffic.prefetch_from(worker, tunnel);
    }

    /// Asks the processor for a tunnel. Not everything that a peer's key leads to is one.
    #[inline]
    pub fn prefetch_tunnel(&self, index: u32) {
        if let Some(tunnel) = self.tunnels.at(index) {
            // It has one line.
            prefetch(tunnel);
        }
    }

    /// Asks the processor for what [`Snapshot::brings`] will say of a tunnel. What goes in does not need it.
    #[inline]
    pub fn prefetch_source_prefix(&self, index: u32) {
        if let Some(source) = self.source_prefixes.at(index) {
            prefetch(source);
        }
    }

    /// Whether a packet from this address is of the one prefix whose packets come out of this tunnel: see [`SourcePrefix`](super::SourcePrefix).
    #[inline]
    #[must_use]
    pub fn brings(&self, tunnel: u32, source: u128) -> bool {
        self.source_prefixes
            .at(tunnel)
            .is_some_and(|it| it.contains(source))
    }

    /// Packets that this worker has counted into a tunnel, ever.
    #[inline]
    #[must_use]
    pub fn counted_into(&self, worker: usize, tunnel: u32) -> u64 {
        let (alone, common) = (&self.tunnel_traffic, &self.common_traffic);
        alone
            .counted_to(worker, tunnel)
            .wrapping_add(common.counted_to(worker, tunnel))
    }
}
