//! What was counted of prefixes goes with them to the next anchor (RFC 8818 FM:2).
//!
//! The data plane counts a packet where its node is. From there, what was counted has to come to who anchors the prefix, be it
//! that the prefix went or that the node did: once the data plane has no entry of it any more, its last reading is taken here,
//! stored, and told to the CMD ([`crate::transfer`]), which tells the anchor. What came so is kept with what is counted here.
//!
//! ```text
//!  data plane ── readings, each period ──► counted here ──┐ the prefix is none of a node here any more
//!             ── last readings ──────────► carried ───────┴──► CMD ──► the anchor: carried
//! ```
//!
//! A data plane that dies takes with it what it counted since the last reading: that is told, and the readings before count.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;

use ipnet::Ipv6Net;
use serde::{Deserialize, Serialize};

mod counted;
mod records;

pub use counted::{Charged, CountOf, Counted, FilterCounted, LastReading, Reading};
pub(crate) use records::message;

use super::fsm::{Maar, Output};
use crate::charging::{Count, Record, Records};
use crate::event::Event;
use crate::forwarding;
use crate::identity::MobileNodeIdentifier;
use crate::time::Time;
use crate::transfer::Inbox;
use crate::wire::mobility::Context;

/// What is known of the counters of prefixes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Charging {
    /// Of the data plane whose readings these are; 0: none yet.
    pub incarnation: u64,
    /// The number of the last of its last readings that is in here.
    pub departed: u64,
    /// What was counted, of prefixes of nodes here, and of those that were until just now.
    pub prefixes: BTreeMap<Ipv6Net, Charged>,
    /// The same of who had a prefix before the node that has it now: the data plane has not said yet what it counted last for that one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub closing: BTreeMap<Ipv6Net, Charged>,
    /// What the CMD is to be told.
    pub outbox: Records,
    /// What CMDs have told.
    pub inboxes: BTreeMap<Ipv6Addr, Inbox>,
    /// Filters whose prefix was handed over, and whose last readings may be to come: whose they are, by their ids.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub former: BTreeMap<u64, Former>,
    /// What of `closing` has had its last reading, in the answers of which more are to come.
    #[serde(skip)]
    pub(super) closed: BTreeSet<(Ipv6Net, CountOf)>,
    /// What is to be told of what could not be kept, at the end of this step.
    #[serde(skip)]
    pub(super) lost: Vec<Lost>,
}

/// A filter of which the data plane may still have something to say, when what was counted of its prefix is on its way already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Former {
    /// Whose it was.
    pub identifier: MobileNodeIdentifier,
    /// Of which prefix.
    pub prefix: Ipv6Net,
    /// What of it was handed over.
    pub told: Count,
    /// How many readings had nothing of it, while nothing was to come.
    pub quiet: u8,
}

/// Filters that are remembered so; beyond that those with the lowest ids are forgotten, and what is read of them later is the
/// next holder's.
const MOST_FORMER: usize = 65_536;

/// What could not be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// Too much waits for the CMD. The record with this number.
    Record(u64, Record),
    /// Too many filters have counted packets of a prefix; of this one, so much.
    Filter(MobileNodeIdentifier, Ipv6Net, String, Count),
}

/// So many readings may have nothing of a prefix that is no node's here, and one more; a last reading stands for all of them.
const QUIET: u8 = 2;

/// What a filter's id stands for.
type Names = BTreeMap<u64, (Ipv6Net, String)>;

impl Maar {
    /// Remembers whose the prefixes are that the data plane is about to count for.
    pub fn note_users(&mut self, now: Time) {
        let mut charging = std::mem::take(&mut self.state.charging);
        for (identifier, node) in self.state.nodes.iter().filter(|(_, node)| node.registered) {
            let previous = node.previous.iter().map(|it| it.prefix);
            for prefix in self.state.anchored(node).chain(previous) {
                let entries = &mut charging.prefixes;
                let known = entries.get(&prefix);
                // Of one that was forgotten in a crash it was not known whose it is.
                let strange = known.is_some_and(|it| it.is_somebodys() && it.identifier != *identifier);
                if let Some(charged) = strange.then(|| entries.remove(&prefix)).flatten() {
                    entries.insert(prefix, charged.for_next(identifier));
                    let charged = Charged { quiet: 0, ..charged };
                    if let Some(before) = charging.closing.insert(prefix, charged) {
                        charging.hand_over(prefix, before, now);
                    }
                }
                let charged = charging.prefixes.entry(prefix);
                let charged = charged.or_insert_with(|| Charged::new(identifier));
                charged.quiet = 0;
                if !charged.is_somebodys() {
                    charged.identifier = identifier.clone();
                }
            }
        }
        let configured = self.settings.filters.iter();
        for rule in configured.chain(self.state.filters.values()) {
            for (id, prefix) in forwarding::places(rule, &self.state) {
                if let Some(charged) = charging.prefixes.get_mut(&prefix)
                    && charged.filters.get(&rule.name).is_none_or(|it| it.id != id)
                {
                    let known = charged.filters.entry(rule.name.clone());
                    let known = known.or_insert(FilterCounted::new(id));
                    (known.id, known.ended) = (id, false);
                }
            }
        }
        self.state.charging = charging;
    }

    /// Whether a reading says nothing new.
    #[must_use]
    pub fn knows(&self, reading: &Reading) -> bool {
        let charging = &self.state.charging;
        let filters = charging.prefixes.values().flat_map(|it| it.filters.values());
        let filters: BTreeMap<u64, Count> = filters.map(|it| (it.id, it.counted.here)).collect();
        let known = |of: &CountOf| match of {
            CountOf::Prefix(prefix) => charging.prefixes.get(prefix).map(|it| it.all.here),
            CountOf::Filter(id) => filters.get(id).copied(),
        };
        let mut present = BTreeSet::new();
        let same = reading.present.iter().all(|(of, count)| {
            present.insert(*of);
            known(of).is_none_or(|known| count.is_as_much_as(known))
        });
        // What is in none of the tables may be about to go.
        let all = charging.prefixes.keys();
        let mut all = all.map(|prefix| CountOf::Prefix(*prefix));
        same && !self.awaits_reading()
            && reading.incarnation == charging.incarnation
            && charging.closing.is_empty()
            && reading.departed.is_empty()
            && all.all(|it| present.contains(&it))
    }

    /// Takes what a data plane says.
    pub(super) fn counted(&mut self, reading: Reading, now: Time, outputs: &mut Vec<Output>) {
        self.note_users(now);
        self.meters_read(&reading.fills, now, outputs);
        let charging = &mut self.state.charging;
        if charging.incarnation != reading.incarnation {
            if charging.incarnation != 0 {
                self.counters.add("charging_periods_lost");
                let text =
                    "the data plane has begun anew: what it counted after the last reading is not known";
                outputs.push(Output::Event(Event::new("charging_period_lost", text)));
            }
            charging.counted_all().for_each(Counted::close);
            charging.incarnation = reading.incarnation;
            charging.departed = 0;
            charging.former.clear();
        }
        let names = charging.names();
        for LastReading {
            sequence,
            of,
            filter,
            count,
        } in reading.departed
        {
            if sequence <= charging.departed {
                continue;
            }
            let missed = sequence - charging.departed - 1;
            charging.departed = sequence;
            for _ in 0..missed.min(reading.lost) {
                self.counters.add("charging_readings_lost");
            }
            // What was forgotten in a crash is somebody's all the same: whose, the anchor knows.
            let prefix = match (of, &filter) {
                (CountOf::Prefix(prefix), _) => prefix,
                (CountOf::Filter(_), Some((prefix, _))) => *prefix,
                // Nobody is charged for a filter of the whole domain.
                (CountOf::Filter(_), None) => continue,
            };
            if let (CountOf::Filter(id), Some((prefix, name))) = (of, &filter)
                && let Some(former) = charging.former_holder(id, *prefix)
            {
                // Of what was handed over, this is the rest.
                let record = Record {
                    identifier: former.identifier,
                    prefix: *prefix,
                    context: Context::Usage {
                        filter: Some(name.clone()),
                        count: count.since(former.told),
                    },
                    meter: None,
                };
                charging.push(record, now);
                continue;
            }
            let entry = charging.prefixes.entry(prefix);
            let charged = entry.or_insert_with(|| Charged::new(&MobileNodeIdentifier::unknown()));
            let name = filter.map(|(_, name)| name);
            if let Some(before) = charging.closing.get_mut(&prefix)
                && before.has(of)
                && charging.closed.insert((prefix, of))
            {
                // The first one is of who had it first.
                if name.is_none() {
                    charged.begins_at_zero();
                }
                before.take_last(of, name, count);
                continue;
            }
            charged.take_last(of, name, count);
            // There may be more of it in what is read next; after that it has had its time.
            charged.quiet = QUIET;
        }
        let mut present = BTreeSet::new();
        let mut filters = BTreeSet::new();
        for (of, count) in reading.present {
            if let CountOf::Filter(id) = of {
                filters.insert(id);
            }
            if let Some((prefix, counted)) = charging.find(of, &names) {
                counted.read(count);
                present.insert(prefix);
            }
        }
        for (prefix, charged) in &mut charging.prefixes {
            charged.forget_filters(*prefix, &filters, &mut charging.lost);
        }
        if !reading.more {
            // While something is to come it may be of one of these.
            let still = |id: &u64| filters.contains(id);
            charging.former.retain(|id, it| {
                it.quiet = match reading.departing {
                    0 => it.quiet.saturating_add(1),
                    _ => 0,
                };
                it.quiet <= QUIET && (reading.departing > 0 || !still(id))
            });
            self.hand_over_closed(now);
            self.hand_over_unused(&present, now);
        }
        self.send_records(now, outputs);
    }

    /// What was counted for those who had prefixes before others is the anchors' to know. Where nothing departs, the
    /// entry of the data plane is still the same, and all was known.
    fn hand_over_closed(&mut self, now: Time) {
        let charging = &mut self.state.charging;
        let closed = std::mem::take(&mut charging.closed);
        let done = |prefix: &Ipv6Net, charged: &mut Charged| {
            charged.quiet = charged.quiet.saturating_add(1);
            charged.quiet > QUIET || closed.contains(&(*prefix, CountOf::Prefix(*prefix)))
        };
        let done: Vec<_> = charging.closing.extract_if(.., done).collect();
        for (prefix, charged) in done {
            charging.hand_over(prefix, charged, now);
        }
    }

    /// What was counted of prefixes that are of no node here any more is the anchor's to know.
    fn hand_over_unused(&mut self, present: &BTreeSet<Ipv6Net>, now: Time) {
        let nodes = self.state.nodes.values();
        let used: BTreeSet<Ipv6Net> = nodes
            .flat_map(|node| {
                let previous = node.previous.iter().map(|it| it.prefix);
                self.state.anchored(node).chain(previous)
            })
            .collect();
        let charging = &mut self.state.charging;
        let done = |(prefix, charged): (&Ipv6Net, &mut Charged)| {
            if used.contains(prefix) || present.contains(prefix) {
                charged.quiet = 0;
                return None;
            }
            charged.quiet = charged.quiet.saturating_add(1);
            // It may have come and gone since the tables were read.
            (charged.quiet > QUIET).then_some(*prefix)
        };
        let done: Vec<Ipv6Net> = charging.prefixes.iter_mut().filter_map(done).collect();
        for prefix in done {
            self.forget_filters_of(prefix);
            self.forget_handing(prefix);
            let charging = &mut self.state.charging;
            if let Some(charged) = charging.prefixes.remove(&prefix) {
                charging.hand_over(prefix, charged, now);
            }
        }
    }

    /// Begins anew with a prefix, after the last reading of the data plane, which counts on. What was counted until then comes
    /// out, with whose it is; `None`: nothing is counted of it.
    pub fn reset_charging(&mut self, prefix: Ipv6Net) -> Option<(MobileNodeIdentifier, Count)> {
        let charged = self.state.charging.prefixes.get_mut(&prefix)?;
        let total = charged.all.total();
        charged.all.begin_anew();
        Some((charged.identifier.clone(), total))
    }
}

impl Charging {
    /// Puts a record on its way.
    pub(super) fn push(&mut self, record: Record, now: Time) {
        let given_up = self.outbox.push(record, now);
        self.lost
            .extend(given_up.map(|(id, record)| Lost::Record(id, record)));
    }

    /// Puts what was counted of a prefix on its way.
    fn hand_over(&mut self, prefix: Ipv6Net, charged: Charged, now: Time) {
        // Another reading may follow of those that have had none that was the last.
        for counted in charged.filters.values().filter(|it| it.id != 0 && !it.ended) {
            let former = Former {
                identifier: charged.identifier.clone(),
                prefix,
                told: counted.counted.here,
                quiet: 0,
            };
            self.former.insert(counted.id, former);
            if self.former.len() > MOST_FORMER {
                self.former.pop_first();
            }
        }
        let filters = charged.filters.into_iter();
        let filters = filters.map(|(name, it)| (Some(name), it.counted.total()));
        for (filter, count) in std::iter::once((None, charged.all.total())).chain(filters) {
            if count.is_zero() {
                continue;
            }
            let record = Record {
                identifier: charged.identifier.clone(),
                prefix,
                context: Context::Usage { filter, count },
                meter: None,
            };
            self.push(record, now);
        }
    }

    /// Who had a filter of a prefix that is another's now, or nobody's.
    fn former_holder(&mut self, id: u64, prefix: Ipv6Net) -> Option<Former> {
        let holder = self.prefixes.get(&prefix).map(|it| &it.identifier);
        let former = self.former.get(&id)?;
        if former.prefix != prefix || holder == Some(&former.identifier) {
            return None;
        }
        self.former.remove(&id)
    }

    fn counted_all(&mut self) -> impl Iterator<Item = &mut Counted> {
        let all = self.prefixes.values_mut().chain(self.closing.values_mut());
        all.flat_map(|charged| {
            let filters = charged.filters.values_mut();
            filters
                .map(|it| &mut it.counted)
                .chain(std::iter::once(&mut charged.all))
        })
    }

    fn names(&self) -> Names {
        let of = |(prefix, charged): (&Ipv6Net, &Charged)| {
            let prefix = *prefix;
            let filters = charged.filters.iter();
            let filters = filters.map(move |(name, it)| (it.id, (prefix, name.clone())));
            filters.collect::<Vec<_>>()
        };
        self.prefixes.iter().flat_map(of).collect()
    }

    fn find(&mut self, of: CountOf, names: &Names) -> Option<(Ipv6Net, &mut Counted)> {
        match of {
            CountOf::Prefix(prefix) => Some((prefix, &mut self.prefixes.get_mut(&prefix)?.all)),
            CountOf::Filter(id) => {
                let (prefix, name) = names.get(&id)?;
                let charged = self.prefixes.get_mut(prefix)?;
                let known = charged.filters.get_mut(name)?;
                known.ended = false;
                Some((*prefix, &mut known.counted))
            }
        }
    }
}
