//! What was counted of prefixes and tunnels: read, begun anew, carried over from another anchor.

use ipnet::Ipv6Net;
use kedge_dataplane_api::model;

use super::super::types::Route;
use super::Compiler;
use crate::counters::{Charge, Traffic};

/// What another anchor counted of a prefix before it came here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// How much.
    pub traffic: Traffic,
    /// Of the first packet, milliseconds since 1970; 0: there was none.
    pub first_unix_ms: u64,
    /// Of the last one.
    pub last_unix_ms: u64,
}

/// All that was counted of a prefix, since it was put or reset.
///
/// A packet that comes from a node, or is delivered to it, is counted `here` at the gateway where the node is. The
/// anchor of the prefix, where that is another one, has the same packet in a tunnel and counts it as `through`. So
/// over all gateways what is `here` has each packet once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Total {
    /// Here.
    pub here: Charge,
    /// Before.
    pub carried: Carried,
    /// Only passed through here, between the node's gateway and others. Not part of what is reset.
    pub through: Traffic,
}

impl Compiler {
    /// Traffic of every tunnel, since it was put.
    pub fn tunnel_traffic(&self) -> impl Iterator<Item = (u32, Traffic)> + '_ {
        let all = self.tunnels.iter();
        all.map(|(id, it)| (*id, self.counted_of_tunnel(it.index).since(it.before)))
    }

    /// What the counters of a tunnel read.
    pub(super) fn counted_of_tunnel(&self, index: u32) -> Traffic {
        let (alone, common) = (&self.snapshot.tunnel_traffic, &self.snapshot.common_traffic);
        alone.read(index).plus(common.read(index))
    }

    /// Traffic of every prefix of a node, here or anchored here; in no order.
    pub fn prefix_traffic(&self) -> impl Iterator<Item = (Ipv6Net, Total)> + '_ {
        let nodes = self
            .tables
            .prefixes
            .unordered()
            .filter(|(_, entry)| is_a_nodes(entry));
        nodes.filter_map(|(prefix, _)| Some((*prefix, self.prefix_total(*prefix)?)))
    }

    /// Traffic of one prefix that is in the table, if it is a node's.
    #[must_use]
    pub fn prefix_total(&self, prefix: Ipv6Net) -> Option<Total> {
        let route = self.counted_route(prefix)?;
        let counter = route.counter;
        let before = self.counted_before.get(counter as usize).copied();
        Some(Total {
            here: self
                .snapshot
                .prefix_traffic
                .read(counter)
                .since(before.unwrap_or_default()),
            carried: self.carried.get(&prefix).copied().unwrap_or_default(),
            through: self.passed(&route),
        })
    }

    fn passed(&self, route: &Route) -> Traffic {
        let before = self.passed_before.get(route.counter as usize).copied();
        let alone = self.snapshot.passing_traffic.read(route.counter);
        alone.plus(self.common(route)).since(before.unwrap_or_default())
    }

    /// The same, and counting begins anew: what is in this total will be in no later one, and what is not will.
    pub fn reset_prefix(&mut self, prefix: Ipv6Net) -> Option<Total> {
        let route = self.counted_route(prefix)?;
        let counter = route.counter;
        let before = self.counted_before.get_mut(counter as usize)?;
        // One reading for both: workers go on counting meanwhile.
        let now = self.snapshot.prefix_traffic.read(counter);
        let here = now.since(*before);
        *before = now;
        self.snapshot.prefix_traffic.forget_first(counter);
        Some(Total {
            here,
            carried: self.carried.remove(&prefix).unwrap_or_default(),
            through: self.passed(&route),
        })
    }

    /// Adds what another anchor has counted; says whether the prefix is a node's, and so can have that.
    pub fn carry_over(&mut self, prefix: Ipv6Net, more: Carried) -> bool {
        if self.counted_route(prefix).is_none() {
            return false;
        }
        let carried = self.carried.entry(prefix).or_default();
        carried.traffic = carried.traffic.plus(more.traffic);
        carried.first_unix_ms = earlier(carried.first_unix_ms, more.first_unix_ms);
        carried.last_unix_ms = carried.last_unix_ms.max(more.last_unix_ms);
        true
    }

    fn counted_route(&self, prefix: Ipv6Net) -> Option<Route> {
        self.tables
            .prefixes
            .get(&prefix)
            .filter(|entry| is_a_nodes(entry))?;
        Some(self.routes.get(self.fib.get(prefix)?))
    }

    /// The next version has no route for this any more.
    pub(super) fn depart_prefix(&mut self, prefix: Ipv6Net, counter: u32) {
        let before = self.counted_before.get(counter as usize).copied();
        let carried = self.carried.remove(&prefix).unwrap_or_default();
        self.depart(prefix, counter, before.unwrap_or_default(), carried);
    }

    /// A counter for a new route.
    pub(super) fn take_counter(&mut self) -> u32 {
        let index = self.counter_indexes.take();
        let at = index as usize;
        if self.counted_before.len() <= at {
            self.counted_before.resize(at + 1, Charge::default());
            self.passed_before.resize(at + 1, Traffic::default());
        }
        if let Some(before) = self.passed_before.get_mut(at) {
            *before = self.snapshot.passing_traffic.read(index);
        }
        self.snapshot.prefix_traffic.forget_first(index);
        if let Some(before) = self.counted_before.get_mut(at) {
            *before = self.snapshot.prefix_traffic.read(index);
        }
        index
    }
}

/// The earlier of two times, of which 0 is none.
#[must_use]
pub fn earlier(one: u64, other: u64) -> u64 {
    match (one, other) {
        (0, time) | (time, 0) => time,
        (one, other) => one.min(other),
    }
}

fn is_a_nodes(entry: &model::PrefixEntry) -> bool {
    entry.source.is_some()
        || matches!(
            entry.next_hop,
            model::NextHop::Deliver { .. }
                | model::NextHop::Tunnel(_)
                | model::NextHop::Hold { .. }
                | model::NextHop::After { .. }
        )
}
