//! Which tunnels say themselves whose packets come out of them: see [`SourcePrefix`].
//!
//! One does if it shares its cell of counters with a prefix (`common`), that is a /64, and the forwarding table has no longer one within:
//! then a packet from there would be looked up only to find that it is as it has to be. It is derived here from the route of that /64, whenever
//! that changes, and when the first longer prefix within comes or the last one goes.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use ipnet::Ipv6Net;

use super::super::types::{NextHop, Route, SourcePrefix};
use super::Compiler;

/// Bits of a prefix that is told by half of an address.
const HALF: u8 = 64;

/// How many prefixes of more than 64 bits there are, by their upper half.
#[derive(Clone, Debug, Default)]
pub(super) struct Longer(HashMap<u64, u32>);

impl Longer {
    fn is_in(&self, prefix: Ipv6Net) -> bool {
        self.0.contains_key(&upper_half(prefix))
    }

    /// Whether it is the first within its /64.
    fn came(&mut self, prefix: Ipv6Net) -> bool {
        let count = self.0.entry(upper_half(prefix)).or_default();
        *count += 1;
        *count == 1
    }

    /// Whether it was the last one.
    fn went(&mut self, prefix: Ipv6Net) -> bool {
        let Entry::Occupied(mut count) = self.0.entry(upper_half(prefix)) else {
            return false;
        };
        *count.get_mut() -= 1;
        *count.get() == 0 && count.remove() == 0
    }
}

impl Compiler {
    /// Says of a tunnel whose packets come out of it, as the prefix with this route has it.
    pub(super) fn name_source(&mut self, prefix: Ipv6Net, route: &Route) {
        let NextHop::Tunnel(tunnel) = route.next_hop else {
            return;
        };
        if !route.common {
            return;
        }
        let plain = !route.is_behind_another() && prefix.prefix_len() == HALF && !self.longer.is_in(prefix);
        let source = if plain {
            SourcePrefix::of(upper_half(prefix))
        } else {
            SourcePrefix::default()
        };
        self.set_source(tunnel, source);
    }

    /// The prefix that shared the cell of this tunnel does so no more.
    pub(super) fn name_no_source(&mut self, tunnel: u32) {
        self.set_source(tunnel, SourcePrefix::default());
    }

    /// The forwarding table has this prefix now, and had it not before.
    pub(super) fn source_came(&mut self, prefix: Ipv6Net) {
        if prefix.prefix_len() > HALF && self.longer.came(prefix) {
            self.name_source_around(prefix);
        }
    }

    /// It has it no more.
    pub(super) fn source_went(&mut self, prefix: Ipv6Net) {
        if prefix.prefix_len() > HALF && self.longer.went(prefix) {
            self.name_source_around(prefix);
        }
    }

    fn name_source_around(&mut self, longer: Ipv6Net) {
        let around = Ipv6Net::new(longer.network(), HALF).map(|it| it.trunc());
        if let Ok(around) = around
            && let Some(index) = self.fib.get(around)
        {
            let route = self.routes.get(index);
            self.name_source(around, &route);
        }
    }

    fn set_source(&mut self, tunnel: u32, source: SourcePrefix) {
        // What is as it was is not copied.
        if self.snapshot.source_prefixes.get(tunnel) != source {
            self.snapshot.source_prefixes.set(tunnel, source);
            self.exit_brings(tunnel, source);
        }
    }
}

fn upper_half(prefix: Ipv6Net) -> u64 {
    (u128::from(prefix.network()) >> HALF) as u64
}
