//! What the data plane has no room for.
//!
//! It refuses a transaction that would pass one of its limits, with everything that is in it. So what is beyond them does not come
//! to be desired at all, and the rest goes on. How much that is goes with the tables, for it would be missed without a word:
//! of filters that drop, too.
//!
//! Who gets the room: of prefixes what is no node's, pools and routes and what the file has behind tunnels, then those of nodes in
//! the order of their addresses, which are given out one by one; of tunnels those of the file, then who came first, for their ids
//! are given out one by one; of filters and meters those of the configuration, then the others by name, each by the identifiers of nodes.

use std::collections::{BTreeMap, BTreeSet};

use kedge_config::{Config, Dataplane};
use kedge_dataplane_api::model::{
    DiscardReason, NextHop, PrefixEntry, PrefixKey, Sender, Source, SourcePath, Tables,
};

use super::tunnelled;

/// Most filters that the data plane takes of one prefix.
pub const MOST_OF_A_PREFIX: usize = 64;

/// A limit of the data plane's that something is beyond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Limit {
    /// `dataplane.maximum_filters`.
    Filters,
    /// `dataplane.maximum_domain_filters`.
    DomainFilters,
    /// [`MOST_OF_A_PREFIX`].
    FiltersOfAPrefix,
    /// `dataplane.maximum_meters`.
    Meters,
    /// `dataplane.maximum_tunnels`.
    Tunnels,
    /// `dataplane.maximum_prefixes`.
    Prefixes,
}

impl Limit {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Filters,
        Self::DomainFilters,
        Self::FiltersOfAPrefix,
        Self::Meters,
        Self::Tunnels,
        Self::Prefixes,
    ];

    /// The key in the file; of the limit that none sets, what it is.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Filters => "dataplane.maximum_filters",
            Self::DomainFilters => "dataplane.maximum_domain_filters",
            Self::FiltersOfAPrefix => "filters of a prefix",
            Self::Meters => "dataplane.maximum_meters",
            Self::Tunnels => "dataplane.maximum_tunnels",
            Self::Prefixes => "dataplane.maximum_prefixes",
        }
    }

    /// Its name in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Filters => "maximum_filters",
            Self::DomainFilters => "maximum_domain_filters",
            Self::FiltersOfAPrefix => "filters_of_a_prefix",
            Self::Meters => "maximum_meters",
            Self::Tunnels => "maximum_tunnels",
            Self::Prefixes => "maximum_prefixes",
        }
    }

    /// What it counts.
    #[must_use]
    pub fn of(self) -> &'static str {
        match self {
            Self::Filters | Self::DomainFilters | Self::FiltersOfAPrefix => "filters",
            Self::Meters => "meters",
            Self::Tunnels => "tunnels",
            Self::Prefixes => "prefixes",
        }
    }

    /// Its value.
    #[must_use]
    pub fn most(self, config: &Config) -> usize {
        let of = |value: fn(&Dataplane) -> u32| config.dataplane.as_ref().map_or(0, |it| value(it) as usize);
        match self {
            Self::Filters => of(|it| it.maximum_filters),
            Self::DomainFilters => of(|it| it.maximum_domain_filters),
            Self::FiltersOfAPrefix => MOST_OF_A_PREFIX,
            Self::Meters => of(|it| it.maximum_meters),
            Self::Tunnels => of(|it| it.maximum_tunnels),
            Self::Prefixes => of(|it| it.maximum_prefixes),
        }
    }
}

/// What is not in the tables, for they would be more than the data plane takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    filters: BTreeMap<Limit, usize>,
    rules: BTreeMap<String, usize>,
    meters: BTreeSet<u64>,
    tunnels: BTreeSet<u32>,
    prefixes: usize,
}

impl LeftOut {
    /// How many are beyond this limit.
    #[must_use]
    pub fn count(&self, limit: Limit) -> usize {
        match limit {
            Limit::Meters => self.meters.len(),
            Limit::Tunnels => self.tunnels.len(),
            Limit::Prefixes => self.prefixes,
            _ => self.filters.get(&limit).copied().unwrap_or(0),
        }
    }

    /// How many filters of a rule are left out, for there is no room for them or for their meter.
    #[must_use]
    pub fn of_rule(&self, name: &str) -> usize {
        self.rules.get(name).copied().unwrap_or(0)
    }

    pub(crate) fn filter(&mut self, limit: Limit, rule: &str) {
        *self.filters.entry(limit).or_default() += 1;
        self.of(rule);
    }

    /// With the filter that needs it.
    pub(super) fn meter(&mut self, id: u64, rule: &str) {
        self.meters.insert(id);
        self.of(rule);
    }

    pub(super) fn tunnel(&mut self, id: u32) {
        self.tunnels.insert(id);
    }

    fn of(&mut self, rule: &str) {
        *self.rules.entry(rule.to_owned()).or_default() += 1;
    }
}

/// Takes out the prefixes that there is no room for. What is to one goes where the pool goes that it is in, which is nowhere; its node
/// has no service by it. `of_no_node`: what the tables have without nodes.
pub(super) fn fit_prefixes(
    config: &Config,
    tables: &mut Tables,
    of_no_node: impl FnOnce() -> Tables,
    left_out: &mut LeftOut,
) {
    let most = Limit::Prefixes.most(config);
    let Some(more @ 1..) = tables.prefixes.len().checked_sub(most) else {
        return;
    };
    let kept = of_no_node().prefixes;
    let of_nodes = tables.prefixes.unordered().map(|(prefix, _)| *prefix);
    let mut of_nodes: Vec<_> = of_nodes.filter(|prefix| !kept.contains_key(prefix)).collect();
    of_nodes.sort_by_key(|prefix| std::cmp::Reverse(PrefixKey(*prefix)));
    for prefix in of_nodes.into_iter().take(more) {
        tables.prefixes.remove(&prefix);
        left_out.prefixes += 1;
    }
}

/// Takes out the tunnels that there is no room for. Prefixes behind them lead nowhere, and nothing is taken from nodes that
/// would go into one.
pub(super) fn fit_tunnels(config: &Config, tables: &mut Tables, left_out: &mut LeftOut) {
    let most = Limit::Tunnels.most(config);
    let Some(more @ 1..) = tables.tunnels.len().checked_sub(most) else {
        return;
    };
    let mut ids: Vec<u32> = tables.tunnels.keys().rev().copied().collect();
    ids.sort_by_key(|id| tunnelled::is_of_the_file(*id));
    let gone: BTreeSet<u32> = ids.into_iter().take(more).collect();
    tables.tunnels.retain(|id, _| !gone.contains(id));
    let fitted = |entry: &PrefixEntry| PrefixEntry {
        next_hop: without(&entry.next_hop, &gone),
        source: entry.source.clone().filter(|source| !goes_by(source, &gone)),
    };
    let changed: Vec<_> = tables
        .prefixes
        .unordered()
        .map(|(prefix, entry)| (*prefix, entry, fitted(entry)))
        .filter(|(_, before, after)| *before != after)
        .map(|(prefix, _, after)| (prefix, after))
        .collect();
    for (prefix, entry) in changed {
        tables.prefixes.insert(prefix, entry);
    }
    left_out.tunnels.extend(gone);
}

fn without(next_hop: &NextHop, gone: &BTreeSet<u32>) -> NextHop {
    let nowhere = NextHop::Discard(DiscardReason::NodeAbsent);
    match next_hop {
        NextHop::Tunnel(id) if gone.contains(id) => nowhere,
        // Nothing comes from there.
        NextHop::After { tunnel, then, .. } if gone.contains(tunnel) => without(then, gone),
        NextHop::After { then, .. } if without(then, gone) != **then => nowhere,
        other => other.clone(),
    }
}

fn goes_by(source: &Source, gone: &BTreeSet<u32>) -> bool {
    matches!(source.sender, Sender::Tunnel(id) if gone.contains(&id))
        || matches!(source.path, SourcePath::Tunnel(id) if gone.contains(&id))
}
