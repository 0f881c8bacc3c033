//! Filters and meters: lists, the classifier, indexes, and which time has passed.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::{Duration, Instant};

use ipnet::Ipv6Net;
use kedge_dataplane_api::model::{Filter, FilterAction, MeterFill, Tables, Transaction};

use super::super::check::ApplyError;
use super::super::slab::Indexes;
use super::{Compiler, FlowHold, Touched};
use crate::counters::Charge;
use crate::flow::meter::{self, Colours};
use crate::flow::{Act, Builder, Compiled, Draft, Flows, List, ListWriter, MOST_OF_A_PREFIX, Wide, is_wide};

/// A filter whose time has passed is reported again after this, until it is deleted.
const REPORTED_AGAIN: Duration = Duration::from_secs(10);

/// Why a filter is no longer needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// No packet for its `idle_timeout`.
    Idle,
    /// Its `lifetime` has passed.
    Lifetime,
}

/// A filter that is there.
#[derive(Clone, Copy, Debug)]
struct Known {
    counter: u32,
    /// What its counters read when counting began.
    before: Charge,
    /// The same of its colours.
    colours_before: Colours,
    /// What those read when it was put: a meter's own totals go on when what is counted of a filter begins anew.
    colours_put: Colours,
    put_at: Instant,
    /// Packets so far, and when that was no less.
    packets: u64,
    moved_at: Instant,
    reported_at: Option<Instant>,
}

/// A meter that is there.
#[derive(Clone, Copy, Debug)]
struct KnownMeter {
    index: u32,
    incarnation: u64,
}

/// What is known of filters and meters besides the tables.
#[derive(Debug)]
pub(in super::super) struct Filters {
    builder: Builder,
    writer: ListWriter,
    lists: HashMap<Ipv6Net, List>,
    /// Priority and id of the filters of each prefix: their order.
    scoped: HashMap<Ipv6Net, BTreeSet<(u16, u64)>>,
    wide: BTreeSet<u64>,
    known: HashMap<u64, Known>,
    counters: Indexes,
    meters: HashMap<u64, KnownMeter>,
    meter_indexes: Indexes,
    incarnations: u64,
    /// How often each meter is named by a filter.
    meter_users: HashMap<u64, usize>,
    /// Those with a time.
    expiring: BTreeSet<u64>,
    /// Those that hold flows.
    pub(super) holding: BTreeMap<u64, FlowHold>,
    cycles_per_second: u64,
    divided: bool,
}

impl Default for Filters {
    fn default() -> Self {
        Self {
            builder: Builder::default(),
            writer: ListWriter::new(),
            lists: HashMap::new(),
            scoped: HashMap::new(),
            wide: BTreeSet::new(),
            known: HashMap::new(),
            counters: Indexes::default(),
            meters: HashMap::new(),
            meter_indexes: Indexes::default(),
            incarnations: 0,
            meter_users: HashMap::new(),
            expiring: BTreeSet::new(),
            holding: BTreeMap::new(),
            cycles_per_second: 1_000_000_000,
            divided: true,
        }
    }
}

/// The filters and meters that a transaction touches, as they were.
pub(super) struct TouchedFlows {
    filters: Vec<(u64, Option<Filter>)>,
    meters: Vec<u64>,
    /// The classifier to come, where one is to.
    draft: Option<[Draft; 2]>,
}

impl Filters {
    pub(super) fn commit(&mut self) -> crate::flow::Lists {
        self.writer.commit()
    }

    /// The filters of a prefix.
    pub(super) fn list(&self, prefix: Ipv6Net) -> List {
        self.lists.get(&prefix).copied().unwrap_or_default()
    }

    pub(in super::super) fn of_prefix(&self, prefix: Ipv6Net) -> impl Iterator<Item = u64> + '_ {
        self.scoped
            .get(&prefix)
            .into_iter()
            .flat_map(|ids| ids.iter().map(|(_, id)| *id))
    }

    /// How many filters are the whole domain's.
    pub(in super::super) fn of_domain(&self) -> usize {
        self.wide.len()
    }

    /// How often a meter is named by a filter.
    pub(in super::super) fn meter_users(&self, meter: u64) -> usize {
        self.meter_users.get(&meter).copied().unwrap_or(0)
    }

    /// A counter may be another filter's.
    pub(super) fn give_counter(&mut self, index: u32) {
        self.counters.give(index);
    }

    /// The index of a meter that nobody counts for any more.
    pub(super) fn give_meter(&mut self, index: u32) {
        self.meter_indexes.give(index);
    }

    /// Whether there is memory for what a transaction may come to.
    pub(super) fn room_for(&self, transaction: &Transaction, flows: &Flows) -> bool {
        let changes = transaction.put_filters.len() + transaction.delete_filters.len();
        let filters = self.known.len() + transaction.put_filters.len();
        let meters = self.meters.len() + transaction.put_meters.len();
        self.writer.room_for(changes, filters)
            && flows.traffic.cells() > filters
            && flows.colours.cells() > filters
            && flows.meter_bank.cells() > meters
    }
}

impl Compiler {
    /// The same with classifiers made in another way.
    #[must_use]
    pub fn with_classifiers(mut self, builder: Builder) -> Self {
        self.classify_by(builder);
        self
    }

    /// Classifiers are made in another way from now on.
    pub fn classify_by(&mut self, builder: Builder) {
        self.filters.builder = builder;
    }

    /// The same with meters for another cycle counter. `divided`: each worker gets its part of a rate, and
    /// not all of it.
    #[must_use]
    pub fn with_meters(mut self, cycles_per_second: u64, divided: bool) -> Self {
        self.filters.cycles_per_second = cycles_per_second.max(1);
        self.filters.divided = divided;
        self
    }

    /// What a transaction touches; builds the classifier that it needs, which may fail.
    pub(super) fn touch_flows(&self, transaction: &Transaction) -> Result<TouchedFlows, ApplyError> {
        let have = &self.tables;
        let mut ids: BTreeSet<u64> = transaction.delete_filters.iter().copied().collect();
        ids.extend(transaction.put_filters.iter().map(|(id, _)| *id));
        let mut meters: BTreeSet<u64> = transaction.delete_meters.iter().copied().collect();
        meters.extend(transaction.put_meters.iter().map(|(id, _)| *id));
        if transaction.replace_all {
            ids.extend(have.filters.keys());
            meters.extend(have.meters.keys());
        }
        let put = || transaction.put_filters.iter();
        let wide =
            put().any(|(_, filter)| is_wide(filter)) || ids.iter().any(|id| self.filters.wide.contains(id));
        let draft = if wide {
            let stay = self.filters.wide.iter().filter(|id| !ids.contains(id));
            let stay = stay.filter_map(|id| Some((*id, have.filters.get(id)?)));
            let come = put().map(|(id, filter)| (*id, filter));
            let all = stay.chain(come.filter(|(_, filter)| is_wide(filter)));
            Some(self.filters.builder.draft(all)?)
        } else {
            None
        };
        Ok(TouchedFlows {
            filters: ids
                .into_iter()
                .map(|id| (id, have.filters.get(&id).cloned()))
                .collect(),
            meters: meters.into_iter().collect(),
            draft,
        })
    }

    /// Compiles what was touched, when tunnels have their indexes; the prefixes whose lists are others now
    /// become touched too.
    pub(super) fn compile_flows(&mut self, flows: TouchedFlows, touched: &mut Touched) {
        for id in &flows.meters {
            self.compile_meter(*id);
        }
        if flows.filters.is_empty() {
            return;
        }
        let mut scopes: HashSet<Ipv6Net> = HashSet::new();
        for (id, before) in &flows.filters {
            if let Some(before) = before {
                self.forget_filter(*id, before);
                scopes.extend(before.scope);
            }
        }
        for (id, before) in &flows.filters {
            match self.tables.filters.get(id).cloned() {
                Some(after) => {
                    self.know_filter(*id, &after, before.as_ref());
                    scopes.extend(after.scope);
                }
                None => {
                    if let Some((known, before)) = self.filters.known.remove(id).zip(before.as_ref()) {
                        self.depart_filter(*id, before, known.counter, (known.before, known.colours_before));
                    }
                }
            }
        }
        for scope in scopes {
            self.compile_list(scope);
            touched.keys.push(scope);
        }
        if let Some(draft) = flows.draft {
            let wide = Wide::new(draft, |id| {
                let filter = self.tables.filters.get(&id);
                let priority = filter.map_or(u16::MAX, |filter| filter.priority);
                let act = filter.map_or(Act::Anchor, |filter| self.act(id, filter.action));
                (priority, act, self.filter_counter(id))
            });
            self.snapshot.flows.wide = wide.into();
        }
        self.snapshot.flows.any = !self.tables.filters.is_empty();
    }

    fn forget_filter(&mut self, id: u64, filter: &Filter) {
        let filters = &mut self.filters;
        match filter.scope {
            Some(scope) => {
                if let Some(ids) = filters.scoped.get_mut(&scope) {
                    ids.remove(&(filter.priority, id));
                    if ids.is_empty() {
                        filters.scoped.remove(&scope);
                    }
                }
            }
            None => {
                filters.wide.remove(&id);
            }
        }
        filters.expiring.remove(&id);
        filters.holding.remove(&id);
        count_down(&mut filters.meter_users, filter.action.meter());
        for tunnel in filter.tunnels() {
            count_down(&mut self.users, Some(tunnel));
        }
    }

    fn know_filter(&mut self, id: u64, filter: &Filter, before: Option<&Filter>) {
        let now = Instant::now();
        let filters = &mut self.filters;
        match filter.scope {
            Some(scope) => {
                filters
                    .scoped
                    .entry(scope)
                    .or_default()
                    .insert((filter.priority, id));
            }
            None => {
                filters.wide.insert(id);
            }
        }
        if filter.idle_timeout > 0 || filter.lifetime > 0 {
            filters.expiring.insert(id);
        }
        filters.follow_flow_hold(id, filter, now);
        if let Some(meter) = filter.action.meter() {
            *filters.meter_users.entry(meter).or_default() += 1;
        }
        for tunnel in filter.tunnels() {
            *self.users.entry(tunnel).or_default() += 1;
        }
        let flows = &self.snapshot.flows;
        let bank = &flows.traffic;
        let counters = &mut filters.counters;
        let known = filters.known.entry(id).or_insert_with(|| {
            let counter = counters.take();
            bank.forget_first(counter);
            let colours = flows.colours.read(counter);
            Known {
                counter,
                before: bank.read(counter),
                colours_before: colours,
                colours_put: colours,
                put_at: now,
                packets: 0,
                moved_at: now,
                reported_at: None,
            }
        });
        // Whose other end has nothing more to do with it is the same filter.
        let same = |before: &Filter| {
            *filter
                == Filter {
                    except_tunnel: filter.except_tunnel,
                    ..before.clone()
                }
        };
        let only_the_exception =
            before.is_some_and(|it| it.except_tunnel != filter.except_tunnel && same(it));
        if !only_the_exception {
            (known.put_at, known.moved_at, known.reported_at) = (now, now, None);
        }
    }

    /// The index of a filter's counters, which names it in a worker's verdict; 0: there is no such filter.
    #[must_use]
    pub fn filter_counter(&self, id: u64) -> u32 {
        self.filters.known.get(&id).map_or(0, |known| known.counter)
    }

    pub(super) fn compile_list(&mut self, scope: Ipv6Net) {
        let compiled: Vec<Compiled> = self
            .filters
            .of_prefix(scope)
            .filter_map(|id| {
                let filter = self.tables.filters.get(&id)?;
                Some(Compiled::new(
                    filter,
                    self.act(id, filter.action),
                    self.filter_counter(id),
                    filter.except_tunnel.map_or(0, |it| self.tunnel_index(it)),
                ))
            })
            .take(MOST_OF_A_PREFIX)
            .collect();
        let filters = &mut self.filters;
        let list = filters.writer.add(&compiled);
        let before = if list.is_empty() {
            filters.lists.remove(&scope)
        } else {
            filters.lists.insert(scope, list)
        };
        filters.writer.retire(before.unwrap_or_default());
    }

    fn act(&self, id: u64, action: FilterAction) -> Act {
        let meter = |id| self.filters.meters.get(&id).map_or(0, |known| known.index);
        match action {
            FilterAction::Anchor => Act::Anchor,
            FilterAction::Tunnel(tunnel) => Act::Tunnel(self.tunnel_index(tunnel)),
            FilterAction::LocalBreakout => Act::LocalBreakout,
            FilterAction::Drop => Act::Drop,
            FilterAction::Hold => self.filters.flow_hold(id),
            FilterAction::Meter(it) => Act::Meter(meter(it)),
            FilterAction::NodeMeter(it) => Act::NodeMeter(meter(it)),
        }
    }

    fn compile_meter(&mut self, id: u64) {
        let (filters, flows) = (&mut self.filters, &mut self.snapshot.flows);
        let Some(meter) = self.tables.meters.get(&id) else {
            if let Some(known) = filters.meters.remove(&id) {
                flows.meters.set(known.index, meter::Compiled::default());
                self.depart_meter(known.index);
            }
            return;
        };
        let (indexes, incarnations) = (&mut filters.meter_indexes, &mut filters.incarnations);
        let known = *filters.meters.entry(id).or_insert_with(|| {
            let index = indexes.take();
            *incarnations += 1;
            KnownMeter {
                index,
                incarnation: *incarnations,
            }
        });
        let parts = if filters.divided {
            flows.meter_bank.workers()
        } else {
            1
        };
        // What was put before is as old as it is, whatever else of the meter changes.
        let number = meter.fill.map_or(0, |it| it.number);
        let before = flows.meters.at(known.index).and_then(|it| it.filled_at(number));
        let compiled = meter::Compiled::new(
            meter,
            known.incarnation,
            parts as u64,
            filters.cycles_per_second,
            before.unwrap_or_else(dpdk::cycles),
        );
        flows.meters.set(known.index, compiled);
    }

    /// What every meter has counted: the sum over the filters that name it, since they were put.
    pub fn meter_colours(&self) -> impl Iterator<Item = (u64, Colours)> + use<> {
        let meters = self.tables.meters.keys().map(|id| (*id, Colours::default()));
        let mut sums: BTreeMap<u64, Colours> = meters.collect();
        for (id, filter) in &self.tables.filters {
            if let Some(sum) = filter.action.meter().and_then(|it| sums.get_mut(&it)) {
                *sum = sum.plus(self.colours_since(*id, |known| known.colours_put));
            }
        }
        sums.into_iter()
    }

    /// What a filter has metered by colour since it was put or reset.
    #[must_use]
    pub fn filter_colours(&self, id: u64) -> Colours {
        self.colours_since(id, |known| known.colours_before)
    }

    fn colours_since(&self, id: u64, before: impl Fn(&Known) -> Colours) -> Colours {
        let known = self.filters.known.get(&id);
        let colours = &self.snapshot.flows.colours;
        known.map_or_else(Colours::default, |it| colours.read(it.counter).since(before(it)))
    }

    /// What is in the buckets of a meter at `now`, by the cycle counter; `None`: they are as they were put.
    #[must_use]
    pub fn meter_fill(&self, id: u64, now: u64) -> Option<MeterFill> {
        let index = self.filters.meters.get(&id)?.index;
        let flows = &self.snapshot.flows;
        flows.meter_bank.fill(index, flows.meters.at(index)?, now)
    }

    /// What every filter has counted, since it was put or reset.
    pub fn filter_traffic(&self) -> impl Iterator<Item = (u64, Charge)> + '_ {
        let ids = self.tables.filters.keys();
        ids.filter_map(|id| Some((*id, self.filter_charge(*id)?)))
    }

    /// What one filter has counted.
    #[must_use]
    pub fn filter_charge(&self, id: u64) -> Option<Charge> {
        let known = self.filters.known.get(&id)?;
        Some(
            self.snapshot
                .flows
                .traffic
                .read(known.counter)
                .since(known.before),
        )
    }

    /// The same, and counting begins anew.
    pub fn reset_filter(&mut self, id: u64) -> Option<(Charge, Colours)> {
        let known = self.filters.known.get_mut(&id)?;
        let flows = &self.snapshot.flows;
        let now = flows.traffic.read(known.counter);
        let colours_now = flows.colours.read(known.counter);
        let (charge, colours) = (now.since(known.before), colours_now.since(known.colours_before));
        (known.before, known.colours_before) = (now, colours_now);
        flows.traffic.forget_first(known.counter);
        Some((charge, colours))
    }

    /// The filters whose time has passed and was not reported lately. To be called every second or so: a
    /// packet is noticed only then.
    pub fn expired(&mut self, now: Instant) -> Vec<(u64, Expiry)> {
        let mut expired = Vec::new();
        let filters = &mut self.filters;
        for id in &filters.expiring {
            let (Some(known), Some(filter)) = (filters.known.get_mut(id), self.tables.filters.get(id)) else {
                continue;
            };
            let traffic = self.snapshot.flows.traffic.read(known.counter).traffic;
            let packets = traffic.to_packets.wrapping_add(traffic.from_packets);
            if packets != known.packets {
                (known.packets, known.moved_at) = (packets, now);
            }
            let passed = |since: Instant, seconds: u32| {
                seconds > 0 && now.saturating_duration_since(since) >= Duration::from_secs(u64::from(seconds))
            };
            let why = if passed(known.put_at, filter.lifetime) {
                Expiry::Lifetime
            } else if passed(known.moved_at, filter.idle_timeout) {
                Expiry::Idle
            } else {
                known.reported_at = None;
                continue;
            };
            let lately = |at: Instant| now.saturating_duration_since(at) < REPORTED_AGAIN;
            if !known.reported_at.is_some_and(lately) {
                known.reported_at = Some(now);
                expired.push((*id, why));
            }
        }
        expired
    }
}

fn count_down<K: Eq + std::hash::Hash>(users: &mut HashMap<K, usize>, of: Option<K>) {
    if let Some(id) = of
        && let Some(count) = users.get_mut(&id)
    {
        *count -= 1;
        if *count == 0 {
            users.remove(&id);
        }
    }
}

/// The tunnels that filters name, of those in `ids`.
pub(in super::super) fn tunnels_named<'a>(
    ids: impl Iterator<Item = &'a u64>,
    tables: &Tables,
) -> impl Iterator<Item = u32> {
    ids.filter_map(|id| tables.filters.get(id))
        .flat_map(Filter::tunnels)
}
