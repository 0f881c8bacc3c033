//! The state machine that keeps a routing daemon at what it should have.
//!
//! ```text
//!            Connect            Connected: List          Listed
//!  Waiting ───────────► Connecting ───────────► Listing ─────────► Idle ◄──────────┐
//!     ▲                     │                    │ ▲ again, now and │ Apply        │ Applied
//!     │                     │                    │ │ then           ▼              │
//!     └──────── Lost ◄──────┴────────────────────┘ └─────────── Idle, Applying ────┘
//! ```
//!
//! One request at a time is with the daemon; what happens meanwhile makes the next batch, so a burst takes few. In a
//! batch announcements come before withdrawals, and a withdrawal waits for every announcement that shares an address
//! with it, so that no address which stays wanted is without a route in between.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use ipnet::Ipv6Net;
use kedge_config::{Config, RoutingDaemon};

use super::record::{Queued, Record, RouteState, Wanted};
use super::{Route, Routes};
use crate::counters::Counters;
use crate::event::Event;
use crate::time::Time;

/// Wait before the next attempt to connect, and before a daemon that has refused something is asked again: doubled
/// from the one to the other.
const FIRST_RETRY: Duration = Duration::from_millis(100);
/// Not doubled for this long after a connection was lost: a daemon that restarts gracefully (RFC 4724) ends that as soon as
/// it has its neighbours again, and these forget each route that it was not given by then.
const RESTARTING: Duration = Duration::from_secs(120);
const LAST_RETRY: Duration = Duration::from_secs(10);
const FIRST_REFUSED_RETRY: Duration = Duration::from_secs(1);
const LAST_REFUSED_RETRY: Duration = Duration::from_secs(60);
/// Of a batch with more changes one event tells, not one for each.
pub(super) const TOLD_ONE_BY_ONE: usize = 16;

/// Names of the counters.
pub const COUNTERS: &[&str] = &[
    "routes_announced",
    "routes_withdrawn",
    "routes_refused",
    "routes_gone",
    "routes_found_unwanted",
    "route_withdrawals_held_back",
    "announcer_connected",
    "announcer_lost",
    "announcer_resyncs",
];

/// What can be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Name of the daemon, for people.
    pub daemon: &'static str,
    /// Between two withdrawals of one prefix.
    pub minimum_withdrawal_interval: Duration,
    /// How long other routers may take to learn a route.
    pub propagation: Duration,
    /// Between two comparisons with the daemon; zero: none without a reason.
    pub resync_interval: Duration,
    /// Most changes at a time, at least 1.
    pub batch: usize,
    /// The daemon says whether its neighbours hear from it ([`Input::Neighbours`]); until then they do not.
    pub tells_neighbours: bool,
}

impl Settings {
    /// Those of `[announce]`, if there is one.
    #[must_use]
    pub fn from_config(config: &Config) -> Option<Self> {
        let announce = config.announce.as_ref()?;
        Some(Self {
            daemon: announce.daemon.name(),
            minimum_withdrawal_interval: announce.minimum_withdrawal_interval,
            propagation: announce.propagation,
            resync_interval: announce.resync_interval,
            batch: usize::try_from(announce.batch).unwrap_or(1).max(1),
            tells_neighbours: announce.daemon == RoutingDaemon::Gobgp,
        })
    }
}

/// One change that the daemon is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Of this prefix.
    pub prefix: Ipv6Net,
    /// Announce this, in place of what it has; `None`: withdraw.
    pub route: Option<Route>,
}

/// What can happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// These are all routes that are wanted; the data plane holds their prefixes with tables of this revision.
    Wanted {
        /// The routes.
        routes: Routes,
        /// Prefixes that another anchor announces now: their withdrawals are not held back, for nobody misses them.
        moved: BTreeSet<Ipv6Net>,
        /// The revision; it never becomes smaller.
        revision: u64,
    },
    /// The data plane holds tables of this revision.
    Confirmed(u64),
    /// The data plane is gone; what it holds next is not known.
    Unconfirmed,
    /// The daemon is there.
    Connected,
    /// It cannot be reached, or not any more; the answer to what was asked last will not come.
    Lost(String),
    /// All that it has of ours.
    Listed(Routes),
    /// What became of each change of a batch: done, or why not.
    Applied(Vec<(Ipv6Net, Result<(), String>)>),
    /// A route of ours is not there any more, and it was not this MAAR that withdrew it.
    Gone(Ipv6Net),
    /// Whether its neighbours hear at once what it is given.
    Neighbours(bool),
    /// It is time.
    Tick,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Connect to the daemon. The answer is `Connected` or `Lost`.
    Connect,
    /// Ask it for all that it has of ours. The answer is `Listed` or `Lost`.
    List,
    /// Have it change this, in this order. The answer is `Applied` or `Lost`.
    Apply(Vec<Change>),
    /// The daemon has had what is wanted of this prefix for so long that other routers know it, and the data plane
    /// holds the prefix. It may be said again after the daemon was lost.
    Announced(Ipv6Net),
    /// The daemon has nothing of ours of this prefix, and nothing is wanted of it.
    Withdrawn(Ipv6Net),
    /// The daemon has taken a route so long after it was wanted.
    Took(Duration),
    /// Tell that.
    Event(Event),
    /// Tell that to somebody who has to act on it.
    Warning(Event),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Phase {
    /// Until it is tried again.
    Waiting(Time),
    Connecting,
    Listing,
    Idle,
    Applying(Vec<Change>),
}

/// Every route of a MAAR, and where each stands.
#[derive(Clone, Debug)]
pub struct Announcer {
    pub(super) settings: Settings,
    phase: Phase,
    /// What is in `records` of the daemon was true at the last word from it.
    pub(super) synchronised: bool,
    /// Its neighbours hear at once what it is given.
    pub(super) heard: bool,
    pub(super) confirmed: Option<u64>,
    pub(super) records: BTreeMap<Ipv6Net, Record>,
    pub(super) unconfirmed: BTreeSet<(u64, Ipv6Net)>,
    pub(super) to_announce: BTreeSet<Ipv6Net>,
    pub(super) to_withdraw: BTreeSet<Ipv6Net>,
    pub(super) held_back: BTreeSet<(Time, Ipv6Net)>,
    pub(super) to_report: BTreeSet<(Time, Ipv6Net)>,
    /// Prefixes that another anchor announces.
    pub(super) moved: BTreeSet<Ipv6Net>,
    /// When prefixes were withdrawn, of those that may not be again yet; and the same in order.
    pub(super) withdrawn_at: BTreeMap<Ipv6Net, Time>,
    pub(super) withdrawn: VecDeque<(Time, Ipv6Net)>,
    resync_at: Option<Time>,
    retry: Duration,
    /// Until then the daemon may be restarting.
    restarting: Time,
    refused_retry: Duration,
    /// Why it could not be connected to, as told last.
    told: String,
    pub(super) counters: Counters,
}

impl Announcer {
    /// With what is wanted at the start, which the data plane holds with its first tables.
    #[must_use]
    pub fn new(settings: Settings, routes: Routes, now: Time) -> Self {
        let mut announcer = Self {
            settings,
            phase: Phase::Waiting(now),
            synchronised: false,
            heard: !settings.tells_neighbours,
            confirmed: None,
            records: BTreeMap::new(),
            unconfirmed: BTreeSet::new(),
            to_announce: BTreeSet::new(),
            to_withdraw: BTreeSet::new(),
            held_back: BTreeSet::new(),
            to_report: BTreeSet::new(),
            moved: BTreeSet::new(),
            withdrawn_at: BTreeMap::new(),
            withdrawn: VecDeque::new(),
            resync_at: None,
            retry: FIRST_RETRY,
            restarting: now,
            refused_retry: FIRST_REFUSED_RETRY,
            told: String::new(),
            counters: Counters::new(COUNTERS),
        };
        announcer.wanted(routes, BTreeSet::new(), 0, now, &mut Vec::new());
        announcer
    }

    /// What was counted.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Whether the daemon is there, and what it has is known.
    #[must_use]
    pub fn is_synchronised(&self) -> bool {
        self.synchronised
    }

    /// Whether [`Output::Announced`] was said of a prefix, and still holds.
    #[must_use]
    pub fn is_announced(&self, prefix: &Ipv6Net) -> bool {
        let record = self.records.get(prefix);
        record.is_some_and(|record| record.reported && record.wanted.is_some())
    }

    /// Whether the daemon is known to have nothing of ours of a prefix, and will not get it.
    #[must_use]
    pub fn is_withdrawn(&self, prefix: &Ipv6Net) -> bool {
        self.synchronised && !self.records.contains_key(prefix)
    }

    /// The prefix of every route.
    pub fn prefixes(&self) -> impl Iterator<Item = Ipv6Net> + '_ {
        self.records.keys().copied()
    }

    /// Every route: what the daemon has or should have, where it stands, since when, and what the daemon says against it.
    pub fn routes(&self) -> impl Iterator<Item = (Ipv6Net, &Route, RouteState, Time, Option<&str>)> {
        self.records.iter().filter_map(|(prefix, record)| {
            let wanted = record.wanted.as_ref().map(|wanted| &wanted.route);
            let route = wanted.or(record.held.as_ref())?;
            let refused = record.refused.as_deref();
            Some((
                *prefix,
                route,
                record.state(self.confirmed),
                record.since,
                refused,
            ))
        })
    }

    /// Where the route to a prefix stands; `None` where the daemon has none of ours, and should have none.
    #[must_use]
    pub fn state(&self, prefix: Ipv6Net) -> Option<RouteState> {
        let record = self.records.get(&prefix)?;
        let known = record.wanted.is_some() || record.held.is_some();
        known.then(|| record.state(self.confirmed))
    }

    /// When to tick next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        let phase = match self.phase {
            Phase::Waiting(until) => Some(until),
            Phase::Idle => self.resync_at,
            Phase::Connecting | Phase::Listing | Phase::Applying(_) => None,
        };
        let first = |queue: &BTreeSet<(Time, Ipv6Net)>| queue.first().map(|(time, _)| *time);
        let report = first(&self.to_report).filter(|_| self.synchronised && self.heard);
        let queues = [first(&self.held_back), report];
        phase.into_iter().chain(queues.into_iter().flatten()).min()
    }

    /// One step.
    pub fn process(&mut self, input: Input, now: Time) -> Vec<Output> {
        let mut outputs = Vec::new();
        match input {
            Input::Wanted {
                routes,
                moved,
                revision,
            } => self.wanted(routes, moved, revision, now, &mut outputs),
            Input::Confirmed(revision) => {
                self.confirmed = Some(revision);
                let later = self.unconfirmed.split_off(&(revision + 1, Ipv6Net::default()));
                for (_, prefix) in std::mem::replace(&mut self.unconfirmed, later) {
                    self.evaluate(prefix, now, &mut outputs);
                }
            }
            Input::Unconfirmed => {
                self.confirmed = None;
                let waiting = self.to_announce.iter().copied();
                let waiting: Vec<_> = waiting
                    .chain(self.to_report.iter().map(|(_, prefix)| *prefix))
                    .collect();
                for prefix in waiting {
                    self.evaluate(prefix, now, &mut outputs);
                }
            }
            Input::Connected => {
                if self.phase == Phase::Connecting {
                    self.phase = Phase::Listing;
                    self.told.clear();
                    self.counters.add("announcer_connected");
                    let text = format!("{} is connected", self.settings.daemon);
                    let event = Event::new("announcer_connected", text);
                    outputs.push(Output::Event(event.with("daemon", self.settings.daemon)));
                    outputs.push(Output::List);
                }
            }
            Input::Lost(reason) => self.lost(&reason, now, &mut outputs),
            Input::Listed(routes) => {
                if self.phase == Phase::Listing {
                    self.phase = Phase::Idle;
                    let interval = self.settings.resync_interval;
                    self.resync_at = (!interval.is_zero()).then(|| now.after(interval));
                    self.counters.add("announcer_resyncs");
                    self.listed(routes, now, &mut outputs);
                }
            }
            Input::Applied(results) => self.applied(results, now, &mut outputs),
            Input::Gone(prefix) => self.gone(prefix, now, &mut outputs),
            Input::Neighbours(hear) => self.neighbours(hear, now, &mut outputs),
            Input::Tick => {}
        }
        self.run_queues(now, &mut outputs);
        self.ask(now, &mut outputs);
        outputs
    }

    fn wanted(
        &mut self,
        routes: Routes,
        moved: BTreeSet<Ipv6Net>,
        revision: u64,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        self.moved = moved;
        let held_back = self.held_back.iter().map(|(_, prefix)| *prefix);
        let mut touched: Vec<_> = self.to_withdraw.iter().copied().chain(held_back).collect();
        for (prefix, record) in &mut self.records {
            if record.wanted.is_some() && !routes.contains_key(prefix) {
                record.wanted = None;
                record.reported = false;
                record.refused = None;
                record.since = now;
                touched.push(*prefix);
            }
        }
        for (prefix, route) in routes {
            let record = self.records.entry(prefix).or_default();
            match &mut record.wanted {
                Some(wanted) if wanted.route == route => continue,
                Some(wanted) => {
                    // The data plane holds the prefix already, or will with the revision of then.
                    wanted.route = route;
                    wanted.since = now;
                }
                None => {
                    let since = now;
                    record.wanted = Some(Wanted {
                        route,
                        revision,
                        since,
                    });
                }
            }
            record.refused = None;
            record.since = now;
            touched.push(prefix);
        }
        for prefix in touched {
            self.evaluate(prefix, now, outputs);
        }
    }

    fn lost(&mut self, reason: &str, now: Time, outputs: &mut Vec<Output>) {
        if std::mem::take(&mut self.synchronised) {
            self.retry = FIRST_RETRY;
            self.restarting = now.after(RESTARTING);
        }
        self.heard = !self.settings.tells_neighbours;
        let before = std::mem::replace(&mut self.phase, Phase::Waiting(now.after(self.retry)));
        if let Phase::Waiting(until) = before {
            // It is known already.
            self.phase = Phase::Waiting(until);
            return;
        }
        if now >= self.restarting {
            self.retry = (self.retry * 2).min(LAST_RETRY);
        }
        let daemon = self.settings.daemon;
        let event = |kind, text: String| {
            let event = Event::new(kind, text).with("daemon", daemon);
            Output::Warning(event.with("reason", reason))
        };
        if before == Phase::Connecting {
            // Once for each reason: it may take as long as the operator does.
            if self.told != reason {
                reason.clone_into(&mut self.told);
                let text = format!("waiting for {daemon}: {reason}");
                outputs.push(event("announcer_waiting", text));
            }
            return;
        }
        self.counters.add("announcer_lost");
        outputs.push(event("announcer_lost", format!("{daemon} is gone: {reason}")));
        if let Phase::Applying(batch) = before {
            for change in batch {
                if let Some(record) = self.records.get_mut(&change.prefix) {
                    record.in_flight = false;
                    // It may be there; the next list tells.
                    record.held = change.route.or(record.held.take());
                }
                self.evaluate(change.prefix, now, outputs);
            }
        }
    }

    fn applied(&mut self, results: Vec<(Ipv6Net, Result<(), String>)>, now: Time, outputs: &mut Vec<Output>) {
        if !matches!(self.phase, Phase::Applying(_)) {
            return;
        }
        let Phase::Applying(batch) = std::mem::replace(&mut self.phase, Phase::Idle) else {
            return;
        };
        let mut results: BTreeMap<_, _> = results.into_iter().collect();
        let all = batch.len();
        let mut refused = false;
        for change in batch {
            let result = results.remove(&change.prefix);
            let result = result.unwrap_or_else(|| Err("it did not say whether it has done it".to_owned()));
            refused |= result.is_err();
            self.change_done(change, result, all <= TOLD_ONE_BY_ONE, now, outputs);
        }
        if all > TOLD_ONE_BY_ONE {
            let text = format!("{} has taken {all} changes of routes", self.settings.daemon);
            let event = Event::new("routes_changed", text).with("changes", all);
            outputs.push(Output::Event(event));
        }
        if refused {
            // What it says against it may not be true any more by then, or never was.
            let retry = now.after(self.refused_retry);
            self.resync_at = Some(self.resync_at.map_or(retry, |at| at.min(retry)));
            self.refused_retry = (self.refused_retry * 2).min(LAST_REFUSED_RETRY);
        } else {
            self.refused_retry = FIRST_REFUSED_RETRY;
        }
    }

    /// What is to be asked of the daemon next, if it can be.
    fn ask(&mut self, now: Time, outputs: &mut Vec<Output>) {
        match self.phase {
            Phase::Waiting(until) if until <= now => {
                self.phase = Phase::Connecting;
                outputs.push(Output::Connect);
            }
            Phase::Idle if self.resync_at.is_some_and(|at| at <= now) => {
                self.phase = Phase::Listing;
                outputs.push(Output::List);
            }
            Phase::Idle => {
                let batch = self.next_batch();
                if !batch.is_empty() {
                    self.phase = Phase::Applying(batch.clone());
                    outputs.push(Output::Apply(batch));
                }
            }
            Phase::Waiting(_) | Phase::Connecting | Phase::Listing | Phase::Applying(_) => {}
        }
    }

    pub(super) fn enqueue(&mut self, prefix: Ipv6Net, queued: Queued) {
        match queued {
            Queued::No => false,
            Queued::Unconfirmed { revision } => self.unconfirmed.insert((revision, prefix)),
            Queued::Announce => self.to_announce.insert(prefix),
            Queued::Withdraw => self.to_withdraw.insert(prefix),
            Queued::HeldBack { until } => self.held_back.insert((until, prefix)),
            Queued::Report { at } => self.to_report.insert((at, prefix)),
        };
    }

    pub(super) fn dequeue(&mut self, prefix: Ipv6Net, queued: Queued) {
        match queued {
            Queued::No => false,
            Queued::Unconfirmed { revision } => self.unconfirmed.remove(&(revision, prefix)),
            Queued::Announce => self.to_announce.remove(&prefix),
            Queued::Withdraw => self.to_withdraw.remove(&prefix),
            Queued::HeldBack { until } => self.held_back.remove(&(until, prefix)),
            Queued::Report { at } => self.to_report.remove(&(at, prefix)),
        };
    }
}
