//! Which prefix a tunnel shares its cell of counters with: see [`super::super::counting`].
//!
//! The cell is always the tunnel's. What was counted in it before a prefix came to share it, and after, is not the prefix's: so its
//! reading is added to what the prefix's own cell read at first when it comes, and taken away when it goes. What workers
//! count for it after that, who have not seen yet that it has gone, is taken away when they have; until then the cell is no other prefix's.

use ipnet::Ipv6Net;

use super::super::family::is_ipv4_prefix;
use super::super::types::{NextHop, Route};
use super::Compiler;
use crate::counters::Traffic;

/// Instead of the counter of a prefix: one has gone, and workers may still count for it.
const LEAVING: u32 = u32::MAX;

/// By index of a tunnel, the counter of the prefix that it shares its cell with; 0 is none.
#[derive(Clone, Debug, Default)]
pub(super) struct Sharers(Vec<u32>);

impl Sharers {
    fn of(&self, tunnel: u32) -> u32 {
        self.0.get(tunnel as usize).copied().unwrap_or_default()
    }

    fn set(&mut self, tunnel: u32, counter: u32) {
        let at = tunnel as usize;
        if self.0.len() <= at {
            self.0.resize(at + 1, 0);
        }
        if let Some(sharer) = self.0.get_mut(at) {
            *sharer = counter;
        }
    }
}

/// A prefix that shares the cell of a tunnel no more.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leaving {
    tunnel: u32,
    counter: u32,
    /// What the cell read when it began to leave.
    read: Traffic,
}

impl Compiler {
    /// Finds out whether a route of the next version shares the cell of its tunnel, and has that of the version before do so no more
    /// if it does not any longer. Its counter is given.
    ///
    /// Of a node with both IP versions it is the IPv6 prefix that shares: what is known of the other's packets is known later, and they are
    /// counted twice.
    pub(super) fn share(&mut self, prefix: Ipv6Net, before: Option<Route>, after: &mut Route) {
        let tunnel = tunnel_of(after).filter(|tunnel| {
            let sharer = self.sharers.of(*tunnel);
            (sharer == 0 || sharer == after.counter) && !is_ipv4_prefix(prefix)
        });
        after.common = tunnel.is_some();
        if let Some(before) = before
            && before.common
            && tunnel_of(&before) != tunnel
        {
            self.share_no_more(before);
        }
        if let Some(tunnel) = tunnel
            && self.sharers.of(tunnel) == 0
        {
            self.sharers.set(tunnel, after.counter);
            let read = self.snapshot.common_traffic.read(tunnel);
            self.passed_before(after.counter, |before| before.plus(read));
        }
    }

    /// The next version has no such route any more.
    pub(super) fn share_no_more(&mut self, before: Route) {
        let Some(tunnel) = tunnel_of(&before).filter(|_| before.common) else {
            return;
        };
        let (counter, read) = (before.counter, self.snapshot.common_traffic.read(tunnel));
        self.passed_before(counter, |before| before.since(read));
        self.sharers.set(tunnel, LEAVING);
        self.name_no_source(tunnel);
        self.depart_common(Leaving {
            tunnel,
            counter,
            read,
        });
    }

    /// Nobody can count for a prefix any more that shared the cell of a tunnel.
    pub(super) fn has_left(&mut self, leaving: Leaving) {
        let late = self
            .snapshot
            .common_traffic
            .read(leaving.tunnel)
            .since(leaving.read);
        // It has its counter still: a prefix goes no sooner than it leaves its tunnel.
        self.passed_before(leaving.counter, |before| before.since(late));
        self.sharers.set(leaving.tunnel, 0);
    }

    /// What a prefix with this route has in common with its tunnel.
    pub(super) fn common(&self, route: &Route) -> Traffic {
        let tunnel = tunnel_of(route).filter(|_| route.common);
        tunnel.map_or(Traffic::default(), |tunnel| {
            self.snapshot.common_traffic.read(tunnel)
        })
    }

    fn passed_before(&mut self, counter: u32, change: impl FnOnce(Traffic) -> Traffic) {
        if let Some(before) = self.passed_before.get_mut(counter as usize) {
            *before = change(*before);
        }
    }
}

fn tunnel_of(route: &Route) -> Option<u32> {
    match route.next_hop {
        // 0 is none.
        NextHop::Tunnel(tunnel) => Some(tunnel).filter(|tunnel| *tunnel != 0),
        _ => None,
    }
}
