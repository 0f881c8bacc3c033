//! Pools that a DHCPv6 server delegates to this MAAR (RFC 8415 section 6.3): they come, and they go.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::Ipv6Net;

use super::fsm::{Maar, Output};
use super::state::{DelegatedPool, Node, Phase};
use super::unused::TRY_AGAIN;
use crate::event::Event;
use crate::identity::MobileNodeIdentifier;
use crate::time::Time;
use crate::wire::mobility::is_mobile_network;

/// Home network prefixes have this length, and no part of a pool that is longer is one.
const HOME_NETWORK_PREFIX: u8 = 64;

impl Maar {
    /// These are the pools that are delegated now, and no others. Nodes of one that is lost are told at once that their
    /// prefix is not valid any more; when such a node attaches again it gets another one.
    pub(super) fn pools(&mut self, pools: Vec<DelegatedPool>, now: Time, outputs: &mut Vec<Output>) {
        let before = self.state.delegated.replace(pools).unwrap_or_default();
        let now_held = self.state.delegated.iter().flatten();
        let now_held: Vec<Ipv6Net> = now_held.map(|pool| pool.prefix).collect();
        for pool in &before {
            if now_held.contains(&pool.prefix) {
                continue;
            }
            self.counters.add("pools_lost");
            let text = format!("pool {} is not ours any more", pool.prefix);
            outputs.push(Output::Event(
                Event::new("pool_lost", text).with("prefix", pool.prefix),
            ));
            let nodes = self.state.nodes.iter();
            let told: Vec<_> = nodes
                .filter(|(_, node)| {
                    node.phase == Phase::Attached && pool.prefix.contains(&node.home_network_prefix)
                })
                .filter(|(_, node)| !self.is_ours(node.home_network_prefix))
                .map(|(identifier, _)| identifier.clone())
                .collect();
            for identifier in told {
                self.advertise(&identifier, false, now, outputs);
            }
        }
        for prefix in now_held {
            if !before.iter().any(|pool| pool.prefix == prefix) {
                self.counters.add("pools_delegated");
                let text = format!("prefixes are given out of {prefix}, which is delegated to us");
                outputs.push(Output::Event(
                    Event::new("pool_delegated", text).with("prefix", prefix),
                ));
                if let Some(pool) = self.settings.tunnelled_pool(prefix) {
                    self.counters.add("pools_overlapping");
                    let text = format!(
                        "{prefix} is delegated to us, and overlaps maar.ipv6_pools: no node gets a prefix of {pool}"
                    );
                    let event = Event::new("pool_overlaps", text).with("prefix", prefix);
                    outputs.push(Output::Event(event.with("pool", pool)));
                }
            }
        }
    }

    /// Of what was relocated here these are not delegated to us any more, for their lifetimes have ended, and no others. The
    /// server may give such a prefix to another router: it goes home, as one does that nobody uses (RFC 8818 FM:3-3). That of a network
    /// behind a node stays until the session ends, for its router has it by DHCPv6 of its own; what is of a configured pool of ours is
    /// at home.
    pub(super) fn delegations_over(
        &mut self,
        over: &BTreeSet<Ipv6Net>,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        let own = &self.settings.prefix_pools;
        let at_home = |prefix: &Ipv6Net| own.iter().any(|pool| pool.contains(prefix));
        let mut changed = Vec::new();
        for (identifier, node) in &mut self.state.nodes {
            let adopted = node.adopted.iter().map(|it| it.prefix);
            for prefix in adopted.filter(|it| !is_mobile_network(*it) && !at_home(it)) {
                let is_over = over.contains(&prefix);
                if node.going_home.contains_key(&prefix) == is_over {
                    continue;
                }
                changed.push(identifier.clone());
                if !is_over {
                    // A server has delegated it again before it was given up.
                    node.going_home.remove(&prefix);
                    node.told_in_vain.remove(&prefix);
                    continue;
                }
                node.going_home.insert(prefix, now);
                self.counters.add("delegations_over");
                let text = format!("{prefix} of {identifier} goes home: its delegation has timed out");
                let event = Event::new("delegation_over", text).with("identifier", identifier);
                outputs.push(Output::Event(event.with("prefix", prefix)));
            }
        }
        for identifier in changed {
            self.reschedule(&identifier);
        }
    }

    /// What was relocated here is delegated to us until then, by its prefix. Nodes are told at once of an end that they could not know;
    /// one that is put off is in the next advertisement, which comes before the end that was told.
    pub(super) fn delegated_until(
        &mut self,
        ends: BTreeMap<Ipv6Net, Time>,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        let before = std::mem::replace(&mut self.state.delegated_until, ends);
        let ends = &self.state.delegated_until;
        let sooner = |prefix: &Ipv6Net| {
            let end = ends.get(prefix);
            end.is_some_and(|end| before.get(prefix).is_none_or(|was| end < was || *was <= now))
        };
        let told =
            |node: &Node| node.phase == Phase::Attached && node.adopted.iter().any(|it| sooner(&it.prefix));
        let nodes = self.state.nodes.iter().filter(|(_, node)| told(node));
        let told: Vec<_> = nodes.map(|(identifier, _)| identifier.clone()).collect();
        for identifier in told {
            self.advertise(&identifier, false, now, outputs);
        }
    }

    /// Gives up what goes home, wherever its node is, until that is done.
    pub(super) fn go_home(
        &mut self,
        identifier: &MobileNodeIdentifier,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        let Some(node) = self.state.nodes.get_mut(identifier) else {
            return;
        };
        if !node.may_send_home() {
            return;
        }
        let due = |(_, at): &(&Ipv6Net, &mut Time)| **at <= now;
        let mut due: Vec<Ipv6Net> = node
            .going_home
            .iter_mut()
            .filter(due)
            .map(|(prefix, at)| {
                // Until it is answered; or, while its anchor moves, until it is settled where that is.
                *at = now.after(TRY_AGAIN);
                *prefix
            })
            .collect();
        node.going_home
            .retain(|prefix, _| node.adopted.iter().any(|it| it.prefix == *prefix));
        let settled = |prefix: &Ipv6Net| {
            node.adopted
                .iter()
                .any(|it| it.prefix == *prefix && it.asked.is_none())
        };
        due.retain(settled);
        if node.exchange.is_some() {
            return;
        }
        for prefix in due {
            if let Some(node) = self.state.nodes.get_mut(identifier) {
                let pause = node.pause_after_telling(prefix);
                node.going_home.insert(prefix, now.after(pause));
            }
            self.give_up(identifier, prefix, now, outputs);
        }
    }

    /// Whether a prefix is of a pool of this MAAR, of its own or delegated, out of which nodes may have it.
    pub(super) fn is_ours(&self, prefix: Ipv6Net) -> bool {
        self.all_pools().any(|pool| pool.contains(&prefix)) && !self.settings.is_tunnelled(prefix)
    }

    /// Every pool.
    pub(super) fn all_pools(&self) -> impl Iterator<Item = Ipv6Net> + '_ {
        let delegated = self.state.delegated.iter().flatten();
        let own = self.settings.prefix_pools.iter().copied();
        let networks = self.settings.mobile_routers.iter();
        let networks = networks.flat_map(|it| it.pools.iter().copied());
        own.chain(delegated.map(|pool| pool.prefix)).chain(networks)
    }

    /// Those of which nodes get prefixes at `now`: not what is deprecated, nor what stays with the server, nor what of a delegated
    /// pool is behind tunnels of the file.
    pub(super) fn pools_to_give(&self, now: Time) -> Vec<Ipv6Net> {
        let mut pools = self.settings.prefix_pools.clone();
        for pool in self.state.delegated.iter().flatten() {
            if pool.preferred_until.is_some_and(|end| end <= now) {
                continue;
            }
            let parts = pool.exclude.iter().chain(&self.settings.tunnelled_pools);
            pools.extend(parts.fold(vec![pool.prefix], |left, part| {
                left.into_iter().flat_map(|it| without(it, *part)).collect()
            }));
        }
        pools
    }

    /// The longest lifetimes, preferred and valid, in seconds, that `prefix` may be advertised with at `now` (RFC 8415
    /// section 18.2.10.1).
    pub(super) fn lifetime_limits(&self, prefix: Ipv6Net, now: Time) -> (u32, u32) {
        const NONE: (u32, u32) = (u32::MAX, u32::MAX);
        let Some(delegated) = &self.state.delegated else {
            return NONE;
        };
        if self
            .settings
            .prefix_pools
            .iter()
            .any(|pool| pool.contains(&prefix))
        {
            return NONE;
        }
        let left = |until| left(until, now);
        match delegated.iter().find(|pool| pool.prefix.contains(&prefix)) {
            Some(pool) => (left(pool.preferred_until), left(pool.valid_until)),
            None => (0, 0),
        }
    }

    /// The longest valid lifetimes, in seconds, that older prefixes of a node that are anchored here may be advertised with at `now`
    /// (RFC 8415 section 18.2.10.1): what is left of the lease of each, or of that of the pool that it is of; nothing, where that has
    /// timed out. One that no server has delegated yet is limited by none: its delegation follows.
    pub(super) fn older_limits(
        &self,
        identifier: &MobileNodeIdentifier,
        now: Time,
    ) -> BTreeMap<Ipv6Net, u32> {
        let own = &self.settings.prefix_pools;
        let node = self.state.nodes.get(identifier);
        let adopted = node.iter().flat_map(|node| &node.adopted).map(|it| it.prefix);
        // The network behind a node is not advertised.
        let leased = adopted
            .filter(|prefix| !is_mobile_network(*prefix) && !own.iter().any(|pool| pool.contains(prefix)));
        let goes_home = |prefix: &Ipv6Net| node.is_some_and(|node| node.going_home.contains_key(prefix));
        let limits = leased.filter_map(|prefix| {
            if goes_home(&prefix) {
                return Some((prefix, 0));
            }
            let mut pools = self.state.delegated.iter().flatten();
            let end = match pools.find(|pool| pool.prefix.contains(&prefix)) {
                Some(pool) => pool.valid_until,
                None => self.state.delegated_until.get(&prefix).copied(),
            };
            end.map(|end| (prefix, left(Some(end), now)))
        });
        limits.collect()
    }
}

/// The seconds that are left of a lifetime; all ones if it does not end.
fn left(until: Option<Time>, now: Time) -> u32 {
    until.map_or(u32::MAX, |end| {
        // An advertised lifetime of all ones would not end.
        let seconds = end.since(now).as_secs().min(u64::from(u32::MAX - 1));
        u32::try_from(seconds).unwrap_or(u32::MAX - 1)
    })
}

impl Node {
    /// Whether the CMD can be told that a prefix of it goes home: by who serves it, or anchors it for another.
    pub(super) fn may_send_home(&self) -> bool {
        matches!(self.phase, Phase::Attached | Phase::Anchored { .. })
    }
}

/// A pool without a part of it, as several pools. Of a part that is longer than a home network prefix the whole of that is
/// left out. What is no part of it changes nothing, and of what it is a part itself it leaves nothing.
fn without(pool: Ipv6Net, exclude: Ipv6Net) -> Vec<Ipv6Net> {
    if !pool.contains(&exclude) && !exclude.contains(&pool) {
        return vec![pool];
    }
    let longest = exclude.prefix_len().min(HOME_NETWORK_PREFIX);
    let halves = (pool.prefix_len() + 1..=longest).filter_map(|length| {
        // The other half at each length on the way down to the part.
        let bit = 1_u128.checked_shl(128 - u32::from(length))?;
        let address = u128::from(exclude.network()) ^ bit;
        Some(Ipv6Net::new(address.into(), length).ok()?.trunc())
    });
    halves.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> Ipv6Net {
        text.parse().unwrap()
    }

    #[test]
    fn a_pool_without_a_part() {
        let pools = without(net("2001:db8:100::/62"), net("2001:db8:100:3::/64"));
        assert_eq!(pools, [net("2001:db8:100::/63"), net("2001:db8:100:2::/64")]);
        // A part of one home network prefix takes all of it.
        let pools = without(net("2001:db8:100::/63"), net("2001:db8:100:1::/72"));
        assert_eq!(pools, [net("2001:db8:100::/64")]);
        assert!(without(net("2001:db8::/64"), net("2001:db8::/72")).is_empty());
        assert!(without(net("2001:db8:100::/64"), net("2001:db8:100::/56")).is_empty());
        assert!(without(net("2001:db8:100::/64"), net("2001:db8:100::/64")).is_empty());
        let pool = net("2001:db8:100::/56");
        assert_eq!(without(pool, net("2001:db8:200::/56")), [pool]);
    }
}
