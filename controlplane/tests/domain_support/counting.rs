//! Data planes that only count, and what must come of that.

use std::collections::BTreeMap;

use ipnet::Ipv6Net;
use kedge_controlplane::charging::{Count, Record};
use kedge_controlplane::event::Event;
use kedge_controlplane::maar::{self, CountOf, LastReading, Reading};
use kedge_controlplane::wire::mobility::Context;
use kedge_dataplane_api::model::NextHop;

use super::Domain;

/// Of what something is counted: a prefix, or a filter of it.
pub type Key = (Ipv6Net, Option<String>);

/// Counters of one MAAR.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    incarnation: u64,
    present: BTreeMap<CountOf, u64>,
    departed: Vec<(u64, CountOf, u64)>,
    sequence: u64,
    /// What filters were called.
    names: BTreeMap<u64, Key>,
}

#[derive(Debug, Default)]
pub struct Counting {
    pub maars: Vec<Counters>,
    /// All that was counted anywhere.
    pub counted: BTreeMap<Key, u64>,
    /// What went with data planes that died.
    pub lost: BTreeMap<Key, u64>,
    /// What the CMD told of sessions that ended.
    pub closed: BTreeMap<Key, u64>,
}

impl Counting {
    pub fn new() -> Self {
        let counters = |incarnation| Counters {
            incarnation,
            ..Counters::default()
        };
        Self {
            maars: (1..=3).map(counters).collect(),
            ..Self::default()
        }
    }

    pub fn closed(&mut self, event: &Event) {
        let field = |name: &str| event.field(name).unwrap();
        let filter = Some(field("filter").to_owned()).filter(|it| !it.is_empty());
        let packets: u64 = field("to_packets").parse().unwrap();
        *self
            .closed
            .entry((field("prefix").parse().unwrap(), filter))
            .or_default() += packets;
    }
}

/// Whatever a filter counts is green.
fn count_of(of: CountOf, packets: u64) -> Count {
    let green = match of {
        CountOf::Prefix(_) => 0,
        CountOf::Filter(_) => packets,
    };
    Count {
        to_packets: packets,
        colours: [green, 0, 0, 0, 0, 0].into(),
        ..Count::default()
    }
}

impl Domain {
    /// Each data plane has what it should, and each prefix that is delivered carries a packet.
    pub fn count(&mut self) {
        for index in 0..3 {
            self.maars[index].note_users(self.now);
            let tables = self.tables(index);
            let Some(counting) = &mut self.counting else {
                return;
            };
            let counters = &mut counting.maars[index];
            let gone = counters.present.extract_if(.., |of, _| match of {
                CountOf::Prefix(prefix) => !tables.prefixes.contains_key(prefix),
                CountOf::Filter(id) => !tables.filters.contains_key(id),
            });
            for (of, packets) in gone.filter(|(_, packets)| *packets > 0).collect::<Vec<_>>() {
                counters.sequence += 1;
                counters.departed.push((counters.sequence, of, packets));
            }
            for (id, filter) in &tables.filters {
                counters.present.entry(CountOf::Filter(*id)).or_default();
                let key = (filter.scope.unwrap_or_default(), Some(filter.name.clone()));
                counters.names.insert(*id, key);
            }
            for (prefix, entry) in &tables.prefixes {
                let then = match &entry.next_hop {
                    NextHop::After { then, .. } => then,
                    next_hop => next_hop,
                };
                match then {
                    NextHop::Deliver { .. } => {}
                    NextHop::Tunnel(_) | NextHop::Hold { .. } => {
                        counters.present.entry(CountOf::Prefix(*prefix)).or_default();
                        continue;
                    }
                    _ => continue,
                }
                *counters.present.entry(CountOf::Prefix(*prefix)).or_default() += 1;
                *counting.counted.entry((*prefix, None)).or_default() += 1;
                let filters = tables.filters.iter().filter(|(_, it)| it.scope == Some(*prefix));
                for (id, _) in filters {
                    *counters.present.get_mut(&CountOf::Filter(*id)).unwrap() += 1;
                    *counting.counted.entry(counters.names[id].clone()).or_default() += 1;
                }
            }
        }
    }

    /// Each MAAR reads its data plane.
    pub fn read_counters(&mut self) {
        for index in 0..3 {
            let tables = self.tables(index);
            let Some(counting) = &mut self.counting else {
                return;
            };
            let counters = &mut counting.maars[index];
            // What is on disk is had.
            let stored = self.stored.get(&super::maar_address(index));
            let stored: maar::State =
                serde_json::from_str(stored.map_or("{}", String::as_str)).unwrap_or_default();
            let had = match stored.charging.incarnation == counters.incarnation {
                true => stored.charging.departed,
                false => 0,
            };
            counters.departed.retain(|(sequence, ..)| *sequence > had);
            // No more than a few at a time.
            let departed = counters.departed.iter().take(2);
            let reading = Reading {
                incarnation: counters.incarnation,
                departed: departed
                    .map(|(sequence, of, it)| LastReading {
                        sequence: *sequence,
                        of: *of,
                        filter: match of {
                            CountOf::Prefix(_) => None,
                            CountOf::Filter(id) => {
                                let (prefix, name) = counters.names[id].clone();
                                name.map(|name| (prefix, name))
                            }
                        },
                        count: count_of(*of, *it),
                    })
                    .collect(),
                more: counters.departed.len() > 2,
                lost: 0,
                present: counters
                    .present
                    .iter()
                    .map(|(of, it)| (*of, count_of(*of, *it)))
                    .collect(),
                fills: tables
                    .meters
                    .keys()
                    .filter_map(|id| Some((*id, self.left?)))
                    .collect(),
                departing: 0,
            };
            let before = self.maars[index].state().charging.clone();
            self.maar_input(index, maar::Input::Counted(reading));
            if self.maars[index].state().charging != before {
                self.store(super::maar_address(index));
            }
        }
    }

    /// kill -9 of a data plane, and a start: it has the same tables, and has counted nothing.
    pub fn kill_dataplane(&mut self, index: usize) {
        let charging = self.maars[index].state().charging.clone();
        let Some(counting) = &mut self.counting else {
            return;
        };
        let counters = std::mem::take(&mut counting.maars[index]);
        let read = charging.incarnation == counters.incarnation;
        let key = |of: CountOf| match of {
            CountOf::Prefix(prefix) => (prefix, None),
            CountOf::Filter(id) => counters.names[&id].clone(),
        };
        let departed = counters.departed.iter();
        let departed = departed.filter(|(sequence, ..)| !read || *sequence > charging.departed);
        let departed = departed.map(|(_, of, packets)| (key(*of), *packets));
        let present = counters.present.iter().map(|(of, packets)| (key(*of), *packets));
        for (key, packets) in departed.chain(present) {
            *counting.lost.entry(key).or_default() += packets;
        }
        if read {
            for ((prefix, filter), counted) in entries(&charging) {
                let lost = counting.lost.entry((prefix, filter)).or_default();
                *lost -= counted.here.to_packets;
            }
        }
        counting.maars[index].incarnation = counters.incarnation + 10;
    }

    /// What there is of each prefix and filter, wherever it is.
    pub fn charged(&self) -> BTreeMap<Key, u64> {
        let mut sum = self.counting.as_ref().unwrap().closed.clone();
        let mut add = |key: Key, packets: u64| {
            if packets > 0 {
                *sum.entry(key).or_default() += packets;
            }
        };
        for maar in &self.maars {
            let charging = &maar.state().charging;
            for (key, counted) in entries(charging) {
                let total = counted.total();
                // What was metered has gone all the way with the rest.
                let green = total.colours.packets[0];
                assert_eq!(green, if key.1.is_some() { total.to_packets } else { 0 });
                add(key, total.to_packets);
            }
        }
        for record in self.records() {
            if let Context::Usage { filter, count } = &record.context {
                add((record.prefix, filter.clone()), count.to_packets);
            }
        }
        sum
    }

    /// Everything on its way.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        let maars = self.maars.iter().map(|it| &it.state().charging.outbox);
        let cmd = self.cmd.state().contexts.outboxes.values();
        maars.chain(cmd).flat_map(|it| it.records())
    }

    /// What was counted, without what died with data planes.
    pub fn to_be_charged(&self) -> BTreeMap<Key, u64> {
        let counting = self.counting.as_ref().unwrap();
        let mut rest = counting.counted.clone();
        for (key, packets) in &counting.lost {
            if let Some(it) = rest.get_mut(key) {
                *it -= packets;
            }
        }
        rest.retain(|_, packets| *packets > 0);
        rest
    }
}

fn entries(charging: &maar::Charging) -> Vec<(Key, maar::Counted)> {
    let of = |(prefix, charged): (&Ipv6Net, &maar::Charged)| {
        let prefix = *prefix;
        let filters = charged.filters.iter();
        let filters = filters.map(|(name, it)| ((prefix, Some(name.clone())), it.counted));
        let all = std::iter::once(((prefix, None), charged.all));
        all.chain(filters).collect::<Vec<_>>()
    };
    charging.prefixes.iter().flat_map(of).collect()
}
