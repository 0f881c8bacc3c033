//! What a MAAR announces: derived in this one place.

use std::collections::BTreeSet;

use ipnet::Ipv6Net;
use kedge_config::{Announce, Announced, Config, RoutingDaemon};

use super::{Route, Routes};
use crate::maar::State;

/// Every route that this MAAR should have in its routing daemon; none without `[announce]`.
#[must_use]
pub fn desired(config: &Config, state: &State) -> Routes {
    let (Some(announce), Some(maar)) = (&config.announce, &config.maar) else {
        return Routes::new();
    };
    let route = route(config, announce);
    let mut prefixes: BTreeSet<Ipv6Net> = match announce.what {
        Announced::Pools => maar.prefix_pools.iter().copied().collect(),
        Announced::Prefixes => {
            let registered = state.nodes.values().filter(|node| node.registered);
            registered.map(|node| node.home_network_prefix).collect()
        }
    };
    prefixes.extend(adopted(state));
    prefixes
        .into_iter()
        .map(|prefix| (prefix, route.clone()))
        .collect()
}

/// Prefixes of other MAARs' pools that are anchored here: each is announced by itself, for no aggregate of
/// this MAAR's covers it.
///
/// The one place to name them: nothing moves a prefix to another anchor yet.
fn adopted(_: &State) -> impl Iterator<Item = Ipv6Net> {
    std::iter::empty()
}

fn route(config: &Config, announce: &Announce) -> Route {
    match announce.daemon {
        RoutingDaemon::Gobgp => {
            let communities: BTreeSet<_> = announce.communities.iter().copied().collect();
            Route {
                next_hop: config.announced_next_hop(),
                local_preference: announce.local_preference,
                med: announce.med,
                communities: communities.into_iter().collect(),
            }
        }
        // A route of the kernel's says nothing but that it is there.
        RoutingDaemon::Kernel => Route::default(),
    }
}
