//! When each of many things is due next.

use std::collections::{BTreeMap, BTreeSet};

use crate::time::Time;

/// The next deadline of every thing that has one, found by the thing and by the time.
#[derive(Clone, Debug)]
pub(crate) struct Deadlines<Key> {
    of: BTreeMap<Key, Time>,
    in_order: BTreeSet<(Time, Key)>,
}

impl<Key> Default for Deadlines<Key> {
    fn default() -> Self {
        Self {
            of: BTreeMap::new(),
            in_order: BTreeSet::new(),
        }
    }
}

impl<Key: Clone + Ord> Deadlines<Key> {
    /// The deadline of this one is `at` from now on; `None`: it has none.
    pub(crate) fn set(&mut self, key: &Key, at: Option<Time>) {
        let before = match at {
            Some(at) => self.of.insert(key.clone(), at),
            None => self.of.remove(key),
        };
        if before == at {
            return;
        }
        if let Some(before) = before {
            self.in_order.remove(&(before, key.clone()));
        }
        if let Some(at) = at {
            self.in_order.insert((at, key.clone()));
        }
    }

    /// The first of all.
    pub(crate) fn next(&self) -> Option<Time> {
        self.in_order.first().map(|(at, _)| *at)
    }

    /// The one whose deadline is the first of those at or before `now`.
    pub(crate) fn due(&self, now: Time) -> Option<Key> {
        let first = self.in_order.first().filter(|(at, _)| *at <= now);
        first.map(|(_, key)| key.clone())
    }
}

impl<Key: Clone + Ord> FromIterator<(Key, Time)> for Deadlines<Key> {
    fn from_iter<All: IntoIterator<Item = (Key, Time)>>(all: All) -> Self {
        let mut deadlines = Self::default();
        for (key, at) in all {
            deadlines.set(&key, Some(at));
        }
        deadlines
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_first_is_the_first_of_a_plain_list(
            steps in prop::collection::vec((0u8..8, prop::option::of(0u64..20)), 0..60),
            now in 0u64..20,
        ) {
            let at = |seconds| Time(Duration::from_secs(seconds));
            let mut deadlines = Deadlines::default();
            let mut plain: BTreeMap<u8, Time> = BTreeMap::new();
            for (key, seconds) in steps {
                let time = seconds.map(at);
                deadlines.set(&key, time);
                plain.remove(&key);
                plain.extend(time.map(|time| (key, time)));
                let first = plain.iter().map(|(key, time)| (*time, *key)).min();
                prop_assert_eq!(deadlines.next(), first.map(|(time, _)| time));
                let due = first.filter(|(time, _)| *time <= at(now));
                prop_assert_eq!(deadlines.due(at(now)), due.map(|(_, key)| key));
            }
            let again: Deadlines<u8> = plain.into_iter().collect();
            prop_assert_eq!(again.in_order, deadlines.in_order);
        }
    }
}
