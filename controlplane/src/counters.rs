//! Named counters of a state machine.

use std::collections::BTreeMap;

/// Counts by name. Every name exists from the start, so that a counter that
/// never moved shows as zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counters {
    values: BTreeMap<&'static str, u64>,
}

impl Counters {
    /// All `names`, at zero.
    #[must_use]
    pub fn new(names: &[&'static str]) -> Self {
        Self {
            values: names.iter().map(|name| (*name, 0)).collect(),
        }
    }

    /// One more of `name`.
    pub fn add(&mut self, name: &'static str) {
        *self.values.entry(name).or_default() += 1;
    }

    /// The count of `name`; zero if there is none of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> u64 {
        self.values.get(name).copied().unwrap_or_default()
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.values.iter().map(|(name, value)| (*name, *value))
    }
}
