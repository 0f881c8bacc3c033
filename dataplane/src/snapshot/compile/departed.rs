//! What was counted of prefixes and filters that are not in the tables any more.
//!
//! A worker may count for an entry until it reads the version without it. So the last reading is taken when no
//! version that has the entry is held by anybody; it stays here, numbered, until the control plane says that it
//! has it. So nothing is missed between a reading and a deletion.

use std::collections::VecDeque;

use ipnet::Ipv6Net;
use kedge_dataplane_api::model::Filter;

use super::charging::{Carried, Total};
use super::common::Leaving;
use super::{Compiler, Token};
use crate::counters::{Charge, Traffic};
use crate::flow::meter::Colours;
use crate::versions::Versions;

/// Most readings that wait to be fetched; beyond that the oldest are given up, and counted.
pub const MOST_DEPARTED: usize = 1 << 16;

/// Of what something was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CountedOf {
    /// A prefix of a node.
    Prefix(Ipv6Net),
    /// A filter.
    Filter(u64),
}

/// A last reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Departed {
    /// 1, 2, 3... as they come to be known.
    pub sequence: u64,
    /// Of what.
    pub of: CountedOf,
    /// All that was counted of it.
    pub total: Total,
    /// Of a filter, what of that was metered, by colour.
    pub colours: Colours,
    /// Of a filter, what else was known of it.
    pub filter: Option<Box<Named>>,
}

/// What a filter was called, and whose it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Its owner's name for it.
    pub name: String,
    /// The prefix that it was of.
    pub scope: Option<Ipv6Net>,
}

/// What a worker may still count for.
#[derive(Clone, Debug)]
enum Going {
    Entry(Entry),
    /// The index of a tunnel.
    Tunnel(u32),
    /// The index of a meter.
    Meter(u32),
    /// A prefix that has counted together with a tunnel.
    Common(Leaving),
}

/// A prefix or a filter.
#[derive(Clone, Debug)]
struct Entry {
    of: CountedOf,
    filter: Option<Box<Named>>,
    counter: u32,
    before: Charge,
    colours_before: Colours,
    carried: Carried,
}

/// Entries that go, and last readings of those that have gone.
#[derive(Debug, Default)]
pub(super) struct Departures {
    going: Versions<Going>,
    /// How many those are.
    waiting: usize,
    gone: VecDeque<Departed>,
    last: u64,
    lost: u64,
}

impl Departures {
    /// Begins the next version.
    fn commit(&mut self) -> (Token, Vec<Going>) {
        let mut ripe = Vec::new();
        let token = self.going.commit(|going| ripe.push(going));
        (token, ripe)
    }

    /// Counters of entries that are in the tables no more.
    pub(super) fn counters(&self) -> usize {
        self.waiting
    }
}

impl Compiler {
    /// Last readings after the one with this number, the oldest first; those up to it are had and forgotten. A worker
    /// that has not moved on holds back what it may still count for.
    pub fn departed(&mut self, had: u64) -> impl Iterator<Item = &Departed> + '_ {
        let mut ripe = Vec::new();
        self.departures.going.release(|going| ripe.push(going));
        self.read_last(ripe);
        let gone = &mut self.departures.gone;
        while gone.front().is_some_and(|it| it.sequence <= had) {
            gone.pop_front();
        }
        gone.iter()
    }

    /// Last readings that nobody fetched in time.
    #[must_use]
    pub fn departed_lost(&self) -> u64 {
        self.departures.lost
    }

    /// How many entries have gone of which a worker may still count something: their last readings are to come.
    #[must_use]
    pub fn departing(&self) -> usize {
        self.departures.waiting
    }

    /// The counter of an entry that the next version does not have.
    pub(super) fn depart(&mut self, prefix: Ipv6Net, counter: u32, before: Charge, carried: Carried) {
        self.departures.waiting += 1;
        self.departures.going.retire(Going::Entry(Entry {
            of: CountedOf::Prefix(prefix),
            filter: None,
            counter,
            before,
            colours_before: Colours::default(),
            carried,
        }));
    }

    /// The index of a tunnel that the next version does not have, and with it its counters: another's when nobody can count
    /// for this one any more.
    pub(super) fn depart_tunnel(&mut self, index: u32) {
        self.departures.going.retire(Going::Tunnel(index));
    }

    /// The same of the prefix that a tunnel had a cell with.
    pub(super) fn depart_common(&mut self, leaving: Leaving) {
        self.departures.going.retire(Going::Common(leaving));
    }

    /// The same of a meter.
    pub(super) fn depart_meter(&mut self, index: u32) {
        self.departures.going.retire(Going::Meter(index));
    }

    /// The same of a filter.
    pub(super) fn depart_filter(
        &mut self,
        id: u64,
        filter: &Filter,
        counter: u32,
        (before, colours_before): (Charge, Colours),
    ) {
        self.departures.waiting += 1;
        self.departures.going.retire(Going::Entry(Entry {
            of: CountedOf::Filter(id),
            filter: Some(Box::new(Named {
                name: filter.name.clone(),
                scope: filter.scope,
            })),
            counter,
            before,
            colours_before,
            carried: Carried::default(),
        }));
    }

    /// The next version is made: the token that its readers hold.
    pub(super) fn commit_departures(&mut self) -> Token {
        let (token, ripe) = self.departures.commit();
        self.read_last(ripe);
        token
    }

    fn read_last(&mut self, ripe: Vec<Going>) {
        for it in ripe {
            let it = match it {
                Going::Entry(it) => it,
                Going::Tunnel(index) => {
                    self.tunnel_indexes.give(index);
                    continue;
                }
                Going::Common(leaving) => {
                    self.has_left(leaving);
                    continue;
                }
                Going::Meter(index) => {
                    self.filters.give_meter(index);
                    continue;
                }
            };
            self.departures.waiting -= 1;
            let (now, colours) = match it.of {
                CountedOf::Prefix(_) => {
                    self.counter_indexes.give(it.counter);
                    let traffic = self.snapshot.prefix_traffic.read(it.counter);
                    (traffic, Colours::default())
                }
                CountedOf::Filter(_) => {
                    self.filters.give_counter(it.counter);
                    let flows = &self.snapshot.flows;
                    let colours = flows.colours.read(it.counter).since(it.colours_before);
                    (flows.traffic.read(it.counter), colours)
                }
            };
            let total = Total {
                here: now.since(it.before),
                carried: it.carried,
                through: Traffic::default(),
            };
            if total == Total::default() {
                continue;
            }
            let departures = &mut self.departures;
            departures.last += 1;
            departures.gone.push_back(Departed {
                sequence: departures.last,
                of: it.of,
                total,
                colours,
                filter: it.filter,
            });
            if departures.gone.len() > MOST_DEPARTED {
                departures.gone.pop_front();
                departures.lost += 1;
            }
        }
    }
}
