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
        Announced::Pools => {
            let delegated = state.delegated.iter().flatten().map(|pool| pool.prefix);
            maar.pools().chain(delegated).collect()
        }
        Announced::Prefixes => {
            let registered = state.nodes.values().filter(|node| node.registered);
            let of_nodes = registered.flat_map(|node| state.anchored(node));
            // Behind tunnels of the file they are anchored here for good.
            let of_the_file = maar.ipv6_bindings.iter().map(|binding| binding.prefix);
            of_nodes.chain(of_the_file).collect()
        }
    };
    let pools: Vec<_> = maar.pools().collect();
    prefixes.extend(adopted(state, &pools));
    prefixes
        .into_iter()
        .map(|prefix| (prefix, route.clone()))
        .collect()
}

/// Prefixes that were relocated here, or are being taken: each is announced by itself. For one of another MAAR's pool
/// there is no aggregate; one of our own that comes home is elsewhere by a longer prefix until its old anchor has
/// withdrawn it.
fn adopted<'a>(state: &'a State, pools: &'a [Ipv6Net]) -> impl Iterator<Item = Ipv6Net> + 'a {
    let nodes = state.nodes.values();
    nodes.flat_map(move |node| state.relocated(node, pools))
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
