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

use super::fsm::{Maar, Output};
use crate::charging::{Count, Record, Records};
use crate::event::Event;
use crate::forwarding;
use crate::identity::MobileNodeIdentifier;
use crate::proxy_binding::{UPDATE_FLAGS, acknowledge};
use crate::time::Time;
use crate::transfer::{Inbox, Patience};
use crate::wire::mobility::{
    Context, ContextTransfer, MobilityMessage, MobilityOptions, ProxyBindingAcknowledgement,
    ProxyBindingUpdate, Status,
};

/// What is known of the counters of prefixes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Charging {
    /// Of the data plane whose readings these are; 0: none yet.
    pub incarnation: u64,
    /// The number of the last of its last readings that is in here.
    pub departed: u64,
    /// What was counted, of prefixes of nodes here, and of those that were until just now.
    pub prefixes: BTreeMap<Ipv6Net, Charged>,
    /// What the CMD is to be told.
    pub outbox: Records,
    /// What CMDs have told.
    pub inboxes: BTreeMap<Ipv6Addr, Inbox>,
    /// What is to be told of what could not be kept, at the end of this step.
    #[serde(skip)]
    pub(super) lost: Vec<Lost>,
}

/// What could not be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// Too much waits for the CMD.
    Record(Record),
    /// Too many filters have counted packets of a prefix; of this one, so much.
    Filter(MobileNodeIdentifier, Ipv6Net, String, Count),
}

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
    fn read(&mut self, now: Count) {
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
    fn close(&mut self) {
        self.carried = self.total();
        self.here = Count::default();
        self.base = Count::default();
    }

    /// What the data plane has counted until now is none of it.
    fn begin_anew(&mut self) {
        *self = Self::after(self.here);
    }

    /// Of what the data plane counts, that which comes after `here`.
    fn after(here: Count) -> Self {
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

/// Filters whose counts of one prefix are kept, beside those that there are.
const MOST_NAMES: usize = 4096;

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
                    // It is the same entry of the data plane.
                    let all = Counted::after(charged.all.here);
                    let fresh = Charged::new(identifier);
                    entries.insert(prefix, Charged { all, ..fresh });
                    charging.hand_over(prefix, charged, now);
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
                    let counted = Counted::default();
                    let known = charged.filters.entry(rule.name.clone());
                    let known = known.or_insert(FilterCounted { id, counted });
                    known.id = id;
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
        same && reading.incarnation == charging.incarnation
            && reading.departed.is_empty()
            && all.all(|it| present.contains(&it))
    }

    /// Takes what a data plane says.
    pub(super) fn counted(&mut self, reading: Reading, now: Time, outputs: &mut Vec<Output>) {
        self.note_users(now);
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
            let entry = charging.prefixes.entry(prefix);
            let charged = entry.or_insert_with(|| Charged::new(&MobileNodeIdentifier::unknown()));
            charged.take_last(of, filter.map(|(_, name)| name), count);
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
            self.hand_over_unused(&present, now);
        }
        self.send_records(now, outputs);
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
            let charging = &mut self.state.charging;
            if let Some(charged) = charging.prefixes.remove(&prefix) {
                charging.hand_over(prefix, charged, now);
            }
        }
    }

    /// The CMD hands over what was counted, or used, elsewhere.
    pub(super) fn take_context(
        &mut self,
        from: Ipv6Addr,
        update: &ProxyBindingUpdate,
        transfer: &ContextTransfer,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        let Some(identifier) = &update.options.mobile_node_identifier else {
            return;
        };
        let inbox = self.state.charging.inboxes.entry(from).or_default();
        if inbox.take(transfer.id, transfer.oldest) {
            self.counters.add("contexts_taken");
            let prefix = transfer.prefix;
            match &transfer.context {
                Context::Usage { filter, count } => {
                    self.carry(identifier, prefix, filter.as_deref(), *count, now);
                }
                Context::Filter(rule) => {
                    let meter = update.options.transferred_meter.as_ref();
                    self.take_filter(identifier, prefix, rule, meter, now, outputs);
                }
            }
        }
        let mut answer = acknowledge(update, Status::ACCEPTED, 0, now);
        answer.options.context_transfer = Some(transfer.clone());
        outputs.push(Output::SendWhenSaved {
            to: from,
            message: MobilityMessage::ProxyBindingAcknowledgement(answer),
        });
        self.send_records(now, outputs);
    }

    /// Assures that there is an entry of a prefix, which ends with it.
    pub(super) fn charged(&mut self, identifier: &MobileNodeIdentifier, prefix: Ipv6Net) {
        let entry = self.state.charging.prefixes.entry(prefix);
        let charged = entry.or_insert_with(|| Charged::new(identifier));
        if !charged.is_somebodys() {
            charged.identifier = identifier.clone();
        }
    }

    /// What was counted elsewhere of a prefix. One that is of no node here goes on to where it is.
    fn carry(
        &mut self,
        identifier: &MobileNodeIdentifier,
        prefix: Ipv6Net,
        filter: Option<&str>,
        count: Count,
        now: Time,
    ) {
        self.charged(identifier, prefix);
        let charging = &mut self.state.charging;
        let known = charging.prefixes.get_mut(&prefix);
        let Some(charged) = known.filter(|it| it.identifier == *identifier) else {
            let filter = filter.map(str::to_owned);
            let record = Record {
                identifier: identifier.clone(),
                prefix,
                context: Context::Usage { filter, count },
                meter: None,
            };
            return charging.push(record, now);
        };
        let counted = match filter {
            None => &mut charged.all,
            Some(name) => {
                let known = charged.filters.entry(name.to_owned());
                let counted = Counted::default();
                &mut known.or_insert(FilterCounted { id: 0, counted }).counted
            }
        };
        counted.carried = counted.carried.plus(count);
    }

    /// The CMD has a record, or refuses it: then it is said again, for it may be another one's turn.
    pub(super) fn context_acknowledged(
        &mut self,
        acknowledgement: &ProxyBindingAcknowledgement,
        transfer: &ContextTransfer,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        if !acknowledgement.status.is_accepted() {
            self.counters.add("contexts_refused");
            return;
        }
        if self.state.charging.outbox.acknowledged(transfer.id).is_some() {
            self.counters.add("contexts_sent");
        }
        self.send_records(now, outputs);
    }

    /// Sends what was not sent yet.
    pub(super) fn send_records(&mut self, now: Time, outputs: &mut Vec<Output>) {
        self.tell_lost(outputs);
        let patience = self.patience();
        let fresh = self.state.charging.outbox.fresh(now, patience);
        self.tell_records(fresh, outputs);
    }

    /// Sends again what was not acknowledged.
    pub(super) fn tick_records(&mut self, now: Time, outputs: &mut Vec<Output>) {
        let patience = self.patience();
        let due = self.state.charging.outbox.due(now, patience);
        self.tell_records(due, outputs);
    }

    fn patience(&self) -> Patience {
        Patience {
            first: self.settings.timers.initial_bindack_timeout,
            longest: self.settings.timers.max_bindack_timeout,
        }
    }

    fn tell_records(&self, records: Vec<(u64, Record)>, outputs: &mut Vec<Output>) {
        let Some(to) = self.settings.cmds.first().copied() else {
            return;
        };
        let oldest = self.state.charging.outbox.oldest();
        for (id, record) in records {
            let message = message(id, oldest, record);
            outputs.push(Output::SendWhenSaved { to, message });
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

    /// Tells what could not be kept. Nobody has it any more but who watches.
    fn tell_lost(&mut self, outputs: &mut Vec<Output>) {
        for lost in std::mem::take(&mut self.state.charging.lost) {
            let event = match lost {
                Lost::Record(record) => {
                    self.counters.add("contexts_given_up");
                    record.given_up("the CMD")
                }
                Lost::Filter(identifier, prefix, name, count) => {
                    self.counters.add("filter_counts_given_up");
                    let text = format!(
                        "{MOST_NAMES} filters have counted packets of {prefix} of {identifier}: what {name} had is given up"
                    );
                    let event = Event::new("filter_count_given_up", text)
                        .with("identifier", identifier)
                        .with("prefix", prefix)
                        .with("filter", name);
                    count.told_by(event)
                }
            };
            outputs.push(Output::Event(event));
        }
    }
}

impl Charging {
    /// Puts a record on its way.
    pub(super) fn push(&mut self, record: Record, now: Time) {
        self.lost.extend(self.outbox.push(record, now).map(Lost::Record));
    }

    /// Puts what was counted of a prefix on its way.
    fn hand_over(&mut self, prefix: Ipv6Net, charged: Charged, now: Time) {
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

    fn counted_all(&mut self) -> impl Iterator<Item = &mut Counted> {
        self.prefixes.values_mut().flat_map(|charged| {
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
                Some((*prefix, &mut charged.filters.get_mut(name)?.counted))
            }
        }
    }
}

impl Charged {
    /// A last reading of the prefix, or of a filter of it.
    fn take_last(&mut self, of: CountOf, name: Option<String>, count: Count) {
        let counted = match (of, name) {
            (CountOf::Filter(id), Some(name)) => {
                let counted = Counted::default();
                let known = self.filters.entry(name).or_insert(FilterCounted { id, counted });
                if known.id != id {
                    // An older one of this name: the readings that are had are of another.
                    known.counted.carried = known.counted.carried.plus(count);
                    return;
                }
                &mut known.counted
            }
            _ => &mut self.all,
        };
        counted.read(count);
        counted.close();
    }

    /// Of too many filters forgets those that the data plane has no more, the one that counted nothing for longest first.
    fn forget_filters(&mut self, prefix: Ipv6Net, present: &BTreeSet<u64>, lost: &mut Vec<Lost>) {
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

    fn is_somebodys(&self) -> bool {
        !self.identifier.octets.is_empty()
    }

    fn new(identifier: &MobileNodeIdentifier) -> Self {
        Self {
            identifier: identifier.clone(),
            all: Counted::default(),
            filters: BTreeMap::new(),
            quiet: 0,
        }
    }
}

/// A record, as the CMD and MAARs tell it each other.
pub(crate) fn message(id: u64, oldest: u64, record: Record) -> MobilityMessage {
    MobilityMessage::ProxyBindingUpdate(ProxyBindingUpdate {
        sequence: (id & 0xffff) as u16,
        flags: UPDATE_FLAGS,
        lifetime: 0,
        options: MobilityOptions {
            mobile_node_identifier: Some(record.identifier),
            context_transfer: Some(ContextTransfer {
                id,
                oldest,
                prefix: record.prefix,
                context: record.context,
            }),
            transferred_meter: record.meter,
            ..MobilityOptions::default()
        },
    })
}
