//! The slow, obvious table.

use std::collections::BTreeMap;

use ipnet::Ipv6Net;

use super::NO_MATCH;

/// Every prefix, looked at one after the other.
#[derive(Clone, Debug, Default)]
pub struct Reference {
    prefixes: BTreeMap<Ipv6Net, u32>,
}

impl Reference {
    /// As [`super::Table::set`].
    pub fn set(&mut self, prefix: Ipv6Net, result: u32) {
        if result == NO_MATCH {
            self.prefixes.remove(&prefix.trunc());
        } else {
            self.prefixes.insert(prefix.trunc(), result);
        }
    }

    /// As [`super::Table::get`].
    #[must_use]
    pub fn get(&self, prefix: Ipv6Net) -> Option<u32> {
        self.prefixes.get(&prefix.trunc()).copied()
    }

    /// All prefixes, in order.
    pub fn iter(&self) -> impl Iterator<Item = (Ipv6Net, u32)> + '_ {
        self.prefixes.iter().map(|(prefix, result)| (*prefix, *result))
    }

    /// As [`super::Fib::len`].
    #[must_use]
    pub fn len(&self) -> usize {
        self.prefixes.len()
    }

    /// As [`super::Fib::is_empty`].
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.prefixes.is_empty()
    }

    /// As [`super::Fib::lookup`].
    #[must_use]
    pub fn lookup(&self, key: u128) -> u32 {
        let covering = self
            .prefixes
            .iter()
            .filter(|(prefix, _)| prefix.contains(&std::net::Ipv6Addr::from(key)));
        covering
            .max_by_key(|(prefix, _)| prefix.prefix_len())
            .map_or(NO_MATCH, |(_, result)| *result)
    }
}
