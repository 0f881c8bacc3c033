//! The difference between two states of the tables.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use ipnet::Ipv6Net;

use super::{Filter, LinkLayerAddress, Meter, PrefixEntry, PrefixKey, PrefixMap, Tables, Tunnel};

/// Changes that a data plane carries out together or not at all.
///
/// Deletions come before additions; an addition replaces the entry with the
/// same key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transaction {
    /// Refused unless the data plane is at this generation; 0 = whatever is there.
    pub expected_generation: u64,
    /// Empty all tables first.
    pub replace_all: bool,
    /// Prefixes to forget.
    pub delete_prefixes: Vec<Ipv6Net>,
    /// Ids of tunnels to forget.
    pub delete_tunnels: Vec<u32>,
    /// Neighbours to forget, by port and address.
    pub delete_neighbours: Vec<(String, Ipv6Addr)>,
    /// Local addresses to forget.
    pub delete_local_addresses: Vec<Ipv6Addr>,
    /// Prefixes to add or replace.
    pub put_prefixes: Vec<(Ipv6Net, PrefixEntry)>,
    /// Tunnels to add or replace, by id.
    pub put_tunnels: Vec<(u32, Tunnel)>,
    /// Neighbours to add or replace, by port and address.
    pub put_neighbours: Vec<((String, Ipv6Addr), LinkLayerAddress)>,
    /// Local addresses to add.
    pub put_local_addresses: Vec<Ipv6Addr>,
    /// Ids of filters to forget.
    pub delete_filters: Vec<u64>,
    /// Ids of meters to forget.
    pub delete_meters: Vec<u64>,
    /// Filters to add or replace, by id.
    pub put_filters: Vec<(u64, Filter)>,
    /// Meters to add or replace, by id.
    pub put_meters: Vec<(u64, Meter)>,
}

impl Transaction {
    /// What turns `have` into `want`, for a data plane at any generation.
    #[must_use]
    pub fn between(have: &Tables, want: &Tables) -> Self {
        let (delete_prefixes, put_prefixes) = difference_of_prefixes(&have.prefixes, &want.prefixes);
        let (delete_tunnels, put_tunnels) = difference(&have.tunnels, &want.tunnels);
        let (delete_neighbours, put_neighbours) = difference(&have.neighbours, &want.neighbours);
        let (delete_filters, put_filters) = difference(&have.filters, &want.filters);
        let (delete_meters, put_meters) = difference(&have.meters, &want.meters);
        Self {
            expected_generation: 0,
            replace_all: false,
            delete_prefixes,
            delete_tunnels,
            delete_neighbours,
            delete_local_addresses: have
                .local_addresses
                .difference(&want.local_addresses)
                .copied()
                .collect(),
            put_prefixes,
            put_tunnels,
            put_neighbours,
            put_local_addresses: want
                .local_addresses
                .difference(&have.local_addresses)
                .copied()
                .collect(),
            delete_filters,
            delete_meters,
            put_filters,
            put_meters,
        }
    }

    /// What makes a data plane have `want` and nothing else, whatever it has now.
    #[must_use]
    pub fn replacing(want: &Tables) -> Self {
        Self {
            replace_all: true,
            ..Self::between(&Tables::default(), want)
        }
    }

    /// Whether this changes nothing. A transaction that empties the tables changes something.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.replace_all && self.entries() == 0
    }

    /// Deletions and additions together.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.delete_prefixes.len()
            + self.delete_tunnels.len()
            + self.delete_neighbours.len()
            + self.delete_local_addresses.len()
            + self.put_prefixes.len()
            + self.put_tunnels.len()
            + self.put_neighbours.len()
            + self.put_local_addresses.len()
            + self.delete_filters.len()
            + self.delete_meters.len()
            + self.put_filters.len()
            + self.put_meters.len()
    }
}

/// What a transaction has touched of the largest tables, with what was there before: by key, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Before {
    /// Of prefixes.
    pub prefixes: Vec<(Ipv6Net, Option<PrefixEntry>)>,
    /// Of tunnels.
    pub tunnels: Vec<(u32, Option<Tunnel>)>,
}

/// A table of the two largest.
trait Map<K, V>: Default + IntoIterator<Item = (K, V)> {
    fn put(&mut self, key: K, value: V) -> Option<V>;
    fn take(&mut self, key: &K) -> Option<V>;
}

impl<V> Map<Ipv6Net, V> for PrefixMap<V> {
    fn put(&mut self, key: Ipv6Net, value: V) -> Option<V> {
        self.insert(key, value)
    }

    fn take(&mut self, key: &Ipv6Net) -> Option<V> {
        self.remove(key)
    }
}

impl<V> Map<u32, V> for BTreeMap<u32, V> {
    fn put(&mut self, key: u32, value: V) -> Option<V> {
        self.insert(key, value)
    }

    fn take(&mut self, key: &u32) -> Option<V> {
        self.remove(key)
    }
}

/// Deletes and puts, and says what was there, ordered by `order`.
fn change<K: Copy, V: Clone, O: Ord>(
    table: &mut impl Map<K, V>,
    replace: bool,
    delete: &[K],
    put: &[(K, V)],
    order: impl Fn(K) -> O,
) -> Vec<(K, Option<V>)> {
    let mut before = Vec::with_capacity(delete.len() + put.len());
    if replace {
        let all = std::mem::take(table).into_iter();
        before.extend(all.map(|(key, was)| (key, Some(was))));
    }
    before.extend(delete.iter().map(|key| (*key, table.take(key))));
    for (key, value) in put {
        before.push((*key, table.put(*key, value.clone())));
    }
    // What was there first counts: it is the first of its key.
    before.sort_by_key(|(key, _)| order(*key));
    before.dedup_by_key(|(key, _)| order(*key));
    before
}

impl Tables {
    /// Carries `transaction` out, and gives what was there before. Checks nothing: deleting what is absent has no
    /// effect here, and `expected_generation` is the data plane's to compare.
    pub fn apply(&mut self, transaction: &Transaction) -> Before {
        let replace = transaction.replace_all;
        let before = Before {
            prefixes: change(
                &mut self.prefixes,
                replace,
                &transaction.delete_prefixes,
                &transaction.put_prefixes,
                PrefixKey,
            ),
            tunnels: change(
                &mut self.tunnels,
                replace,
                &transaction.delete_tunnels,
                &transaction.put_tunnels,
                |id| id,
            ),
        };
        if replace {
            let Self {
                prefixes, tunnels, ..
            } = std::mem::take(self);
            (self.prefixes, self.tunnels) = (prefixes, tunnels);
        }
        for key in &transaction.delete_neighbours {
            self.neighbours.remove(key);
        }
        for key in &transaction.delete_local_addresses {
            self.local_addresses.remove(key);
        }
        for key in &transaction.delete_filters {
            self.filters.remove(key);
        }
        for key in &transaction.delete_meters {
            self.meters.remove(key);
        }
        self.filters.extend(transaction.put_filters.iter().cloned());
        self.meters.extend(transaction.put_meters.iter().copied());
        self.neighbours.extend(transaction.put_neighbours.iter().cloned());
        self.local_addresses
            .extend(transaction.put_local_addresses.iter().copied());
        before
    }
}

fn difference<K: Ord + Clone, V: PartialEq + Clone>(
    have: &BTreeMap<K, V>,
    want: &BTreeMap<K, V>,
) -> (Vec<K>, Vec<(K, V)>) {
    let delete = have
        .keys()
        .filter(|key| !want.contains_key(*key))
        .cloned()
        .collect();
    let put = want
        .iter()
        .filter(|(key, value)| have.get(*key) != Some(*value))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    (delete, put)
}

/// The same of prefixes. Only what differs is put in order.
fn difference_of_prefixes(
    have: &PrefixMap<PrefixEntry>,
    want: &PrefixMap<PrefixEntry>,
) -> (Vec<Ipv6Net>, Vec<(Ipv6Net, PrefixEntry)>) {
    let gone = have.unordered().filter(|(prefix, _)| !want.contains_key(prefix));
    let mut delete: Vec<Ipv6Net> = gone.map(|(prefix, _)| *prefix).collect();
    delete.sort_unstable_by_key(|prefix| PrefixKey(*prefix));
    let come = want
        .unordered()
        .filter(|(prefix, entry)| have.get(prefix) != Some(*entry));
    let mut put: Vec<(Ipv6Net, PrefixEntry)> = come.map(|(prefix, entry)| (*prefix, entry.clone())).collect();
    put.sort_unstable_by_key(|(prefix, _)| PrefixKey(*prefix));
    (delete, put)
}
