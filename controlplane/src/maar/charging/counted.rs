//! What was counted of a prefix, reading by reading.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::Ipv6Net;
use serde::{Deserialize, Serialize};

use super::Lost;
use crate::charging::{Count, Fill};
use crate::identity::MobileNodeIdentifier;

/// Filters whose counts of one prefix are kept, beside those that there are.
pub(super) const MOST_NAMES: usize = 4096;

/// What was counted of a prefix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Charged {
    /// Whose it is.
    pub identifier: MobileNodeIdentifier,
    /// Of all its packets.
    pub all: Counted,
    /// Of those that filters were for, by their names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub filters: BTreeMap<String, FilterCounted>,
    /// How many readings had nothing of it since it is no node's here.
    #[serde(default)]
    pub quiet: u8,
}

/// Of one filter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilterCounted {
    /// Its id in the data plane.
    pub id: u64,
    /// How much.
    pub counted: Counted,
    /// Its last reading is in there, and the data plane has not had it since.
    #[serde(default)]
    pub ended: bool,
}

impl FilterCounted {
    /// Of one that has counted nothing yet.
    pub(super) fn new(id: u64) -> Self {
        Self {
            id,
            counted: Counted::default(),
            ended: false,
        }
    }
}

/// What was counted, as far as it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// At other gateways, and here before `here`.
    pub carried: Count,
    /// By the data plane since it has the entry, at the last reading.
    pub here: Count,
    /// How much of that is none of it: it was another node's, or what was counted began anew then.
    #[serde(default)]
    pub base: Count,
}

impl Counted {
    /// All of it.
    #[must_use]
    pub fn total(&self) -> Count {
        self.carried.plus(self.here.since(self.base))
    }

    /// Takes a reading. Times are of another clock, and come out a moment apart each time: the first one stays.
    pub(super) fn read(&mut self, now: Count) {
        if now.is_as_much_as(self.here) {
            return;
        }
        let goes_on = now.to_packets >= self.here.to_packets && now.from_packets >= self.here.from_packets;
        let first_unix_ms = match self.here.first_unix_ms {
            first if first > 0 && goes_on => first,
            _ => now.first_unix_ms,
        };
        if !goes_on {
            self.base = Count::default();
        }
        self.here = Count { first_unix_ms, ..now };
    }

    /// No reading follows the one that is had.
    pub(super) fn close(&mut self) {
        self.carried = self.total();
        self.here = Count::default();
        self.base = Count::default();
    }

    /// What the data plane has counted until now is none of it.
    pub(super) fn begin_anew(&mut self) {
        *self = Self::after(self.here);
    }

    /// Of what the data plane counts, that which comes after `here`.
    pub(super) fn after(here: Count) -> Self {
        Self {
            carried: Count::default(),
            here,
            base: here,
        }
    }
}

/// What a data plane says of its counters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Which one it is, never 0.
    pub incarnation: u64,
    /// Last readings of what it has no more, in the order of their numbers.
    pub departed: Vec<LastReading>,
    /// There are more than these.
    pub more: bool,
    /// How many of those nobody fetched in time.
    pub lost: u64,
    /// Of everything that it has.
    pub present: Vec<(CountOf, Count)>,
    /// What is left in meters, by their ids; those that are not here are full.
    pub fills: BTreeMap<u64, Fill>,
    /// How many entries it has no more of which last readings are to come.
    pub departing: u64,
}

/// What was counted of something that the data plane has no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastReading {
    /// 1, 2, 3...
    pub sequence: u64,
    /// Of what.
    pub of: CountOf,
    /// Of a filter: the prefix that it was of, and its name. Who was killed may have forgotten its id.
    pub filter: Option<(Ipv6Net, String)>,
    /// All of it.
    pub count: Count,
}

/// Of what there is a reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CountOf {
    /// A prefix.
    Prefix(Ipv6Net),
    /// The filter with this id.
    Filter(u64),
}

impl Charged {
    /// Of the same entry of the data plane, what it counts from now on, for another node. The filters of that are others.
    pub(super) fn for_next(&self, identifier: &MobileNodeIdentifier) -> Self {
        Self {
            all: Counted::after(self.all.here),
            ..Self::new(identifier)
        }
    }

    /// The entry of the data plane that counts the prefix is a new one.
    pub(super) fn begins_at_zero(&mut self) {
        (self.all.here, self.all.base) = (Count::default(), Count::default());
    }

    /// A last reading of the prefix, or of a filter of it.
    pub(super) fn take_last(&mut self, of: CountOf, name: Option<String>, count: Count) {
        let counted = match (of, name) {
            (CountOf::Filter(id), Some(name)) => {
                let known = self.filters.entry(name).or_insert(FilterCounted::new(id));
                if known.id != id {
                    // An older one of this name: the readings that are had are of another.
                    known.counted.carried = known.counted.carried.plus(count);
                    return;
                }
                known.ended = true;
                &mut known.counted
            }
            _ => &mut self.all,
        };
        counted.read(count);
        counted.close();
    }

    /// Of too many filters forgets those that the data plane has no more, the one that counted nothing for longest first.
    pub(super) fn forget_filters(&mut self, prefix: Ipv6Net, present: &BTreeSet<u64>, lost: &mut Vec<Lost>) {
        let excess = self.filters.len().saturating_sub(MOST_NAMES);
        if excess == 0 {
            return;
        }
        let over = self.filters.iter().filter(|(_, it)| !present.contains(&it.id));
        let mut over: Vec<_> = over
            .map(|(name, it)| (it.counted.total().last_unix_ms, name.clone()))
            .collect();
        over.sort_unstable();
        for (_, name) in over.into_iter().take(excess) {
            let forgotten = self.filters.remove(&name);
            let count = forgotten.map(|it| it.counted.total()).unwrap_or_default();
            if !count.is_zero() {
                lost.push(Lost::Filter(self.identifier.clone(), prefix, name, count));
            }
        }
    }

    /// Whether it has this filter.
    pub(super) fn has(&self, of: CountOf) -> bool {
        match of {
            CountOf::Prefix(_) => true,
            CountOf::Filter(id) => self.filters.values().any(|it| it.id == id),
        }
    }

    pub(super) fn is_somebodys(&self) -> bool {
        !self.identifier.octets.is_empty()
    }

    pub(super) fn new(identifier: &MobileNodeIdentifier) -> Self {
        Self {
            identifier: identifier.clone(),
            all: Counted::default(),
            filters: BTreeMap::new(),
            quiet: 0,
        }
    }
}
