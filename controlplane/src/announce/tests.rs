//! The announcer against a slow reference, whatever happens to it, its daemon and its data plane.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod gobgp;
mod life;
mod steps;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ipnet::Ipv6Net;
use proptest::prelude::*;

use super::fsm::{Announcer, Change, Input, Output, Settings};
use super::{Route, RouteState, Routes};
use crate::time::Time;

pub(super) const SETTINGS: Settings = Settings {
    daemon: "gobgp",
    minimum_withdrawal_interval: Duration::from_millis(500),
    propagation: Duration::from_millis(20),
    resync_interval: Duration::ZERO,
    batch: 3,
    tells_neighbours: false,
};

/// Aggregates and what is in them.
const PREFIXES: [&str; 9] = [
    "2001:db8::/32",
    "2001:db8:100::/40",
    "2001:db8:100::/48",
    "2001:db8:100::/64",
    "2001:db8:100:1::/64",
    "2001:db8:101::/48",
    "2001:db8:200::/40",
    "2001:db8:200:1::/64",
    "2001:db9::/48",
];

fn prefix(index: usize) -> Ipv6Net {
    PREFIXES[index].parse().unwrap()
}

pub(super) fn route(variant: u32) -> Route {
    Route {
        med: Some(variant),
        ..Route::default()
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// Bit by bit, whether each prefix is wanted; how; and whether it is somebody else's where it is not.
    Wanted(u16, u32, u16),
    Confirm,
    LoseDataplane,
    /// The daemon does what it was asked for.
    Answer,
    /// All but this.
    Refuse(usize),
    /// Its connection ends, before or after it has done what it was asked for.
    Disconnect {
        done: bool,
    },
    /// It begins anew with nothing, but for what somebody has left there.
    Restart(u16),
    Remove(usize),
    Advance(u16),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..512_u16, 0..2_u32, 0..512_u16).prop_map(|(wanted, route, moved)| Step::Wanted(wanted, route, moved)),
        5 => Just(Step::Confirm),
        1 => Just(Step::LoseDataplane),
        12 => Just(Step::Answer),
        1 => (0..9_usize).prop_map(Step::Refuse),
        1 => any::<bool>().prop_map(|done| Step::Disconnect { done }),
        1 => (0..512_u16).prop_map(Step::Restart),
        1 => (0..9_usize).prop_map(Step::Remove),
        8 => (1..400_u16).prop_map(Step::Advance),
    ]
}

/// The world, and all that the announcer ought to know of it, in the plainest terms.
struct World {
    announcer: Announcer,
    now: Time,
    /// Routes, and since which revision their prefix has been wanted.
    wanted: BTreeMap<Ipv6Net, (Route, u64)>,
    revision: u64,
    confirmed: Option<u64>,
    /// What the daemon has.
    table: Routes,
    /// What it has as far as it has said.
    known: Routes,
    synchronised: bool,
    refused: BTreeSet<Ipv6Net>,
    moved: BTreeSet<Ipv6Net>,
    withdrawn_at: BTreeMap<Ipv6Net, Time>,
    asked: Option<Output>,
}

impl World {
    fn new() -> Self {
        let now = Time(Duration::from_secs(1000));
        let mut world = Self {
            announcer: Announcer::new(SETTINGS, Routes::new(), now),
            now,
            wanted: BTreeMap::new(),
            revision: 0,
            confirmed: None,
            table: Routes::new(),
            known: Routes::new(),
            synchronised: false,
            refused: BTreeSet::new(),
            moved: BTreeSet::new(),
            withdrawn_at: BTreeMap::new(),
            asked: None,
        };
        world.tell(Input::Tick);
        world
    }

    fn is_confirmed(&self, prefix: &Ipv6Net) -> bool {
        let needed = self.wanted.get(prefix).map(|(_, revision)| *revision);
        needed.is_some_and(|needed| self.confirmed.is_some_and(|confirmed| confirmed >= needed))
    }

    /// What has to be done next, by going over everything.
    fn batch(&self) -> Vec<Change> {
        let missing = |prefix: &Ipv6Net| !self.known.contains_key(prefix) && !self.refused.contains(prefix);
        let different = self.wanted.iter().filter(|(prefix, (route, _))| {
            self.known.get(prefix) != Some(route)
                && !self.refused.contains(prefix)
                && self.is_confirmed(prefix)
        });
        let mut batch: Vec<_> = different
            .map(|(prefix, (route, _))| Change {
                prefix: *prefix,
                route: Some(route.clone()),
            })
            .collect();
        let unwanted = self.known.keys().filter(|prefix| {
            let last = self.withdrawn_at.get(prefix);
            let due = self.moved.contains(prefix)
                || last.is_none_or(|at| self.now.since(*at) >= SETTINGS.minimum_withdrawal_interval);
            let needed = self
                .wanted
                .keys()
                .any(|it| missing(it) && (it.contains(*prefix) || prefix.contains(it)));
            !self.wanted.contains_key(prefix) && !self.refused.contains(prefix) && due && !needed
        });
        batch.extend(unwanted.map(|prefix| Change {
            prefix: *prefix,
            route: None,
        }));
        batch.truncate(SETTINGS.batch);
        batch
    }

    fn tell(&mut self, input: Input) {
        for output in self.announcer.process(input, self.now) {
            match output {
                Output::Connect | Output::List => {
                    assert_eq!(self.asked, None, "one thing at a time");
                    self.asked = Some(output);
                }
                Output::Apply(changes) => {
                    assert_eq!(self.asked, None, "one thing at a time");
                    assert_eq!(changes, self.batch());
                    self.asked = Some(Output::Apply(changes));
                }
                Output::Announced(prefix) => {
                    assert!(self.is_confirmed(&prefix), "{prefix} is not in the data plane");
                    assert_eq!(
                        self.table.get(&prefix),
                        self.wanted.get(&prefix).map(|(it, _)| it)
                    );
                    assert!(self.announcer.is_announced(&prefix));
                }
                Output::Withdrawn(prefix) => {
                    assert!(!self.table.contains_key(&prefix) && !self.wanted.contains_key(&prefix));
                    assert!(self.announcer.is_withdrawn(&prefix));
                }
                Output::Took(_) | Output::Event(_) | Output::Warning(_) => {}
            }
        }
        if self.asked.is_none() && self.synchronised {
            assert_eq!(self.batch(), [], "it was forgotten");
        }
        assert_eq!(self.announcer.is_synchronised(), self.synchronised);
    }

    /// One change in the daemon. No address that is wanted before and after loses its last route by it.
    fn change(&mut self, change: &Change) {
        match &change.route {
            Some(route) => drop(self.table.insert(change.prefix, route.clone())),
            None => drop(self.table.remove(&change.prefix)),
        }
        if change.route.is_none() {
            let overlaps = |it: &&Ipv6Net| it.contains(&change.prefix) || change.prefix.contains(*it);
            for wanted in self.wanted.keys().filter(overlaps) {
                let covered = self.table.keys().any(|it| it.contains(wanted));
                // What was wanted only while the withdrawal was on its way could not be known.
                let late = !self.is_confirmed(wanted) || self.asked.is_none();
                assert!(
                    covered || self.refused.contains(wanted) || late,
                    "{wanted} lost its last route, {}",
                    change.prefix
                );
            }
        }
    }

    fn answer(&mut self, refuse: Option<Ipv6Net>) {
        let Some(asked) = self.asked.take() else {
            return;
        };
        match asked {
            Output::Connect => self.tell(Input::Connected),
            Output::List => {
                for prefix in self.known.keys() {
                    if !self.table.contains_key(prefix) && !self.wanted.contains_key(prefix) {
                        self.withdrawn_at.insert(*prefix, self.now);
                    }
                }
                self.known = self.table.clone();
                self.refused.clear();
                self.synchronised = true;
                self.tell(Input::Listed(self.table.clone()));
            }
            Output::Apply(changes) => {
                let mut results = Vec::new();
                for change in changes {
                    if refuse == Some(change.prefix) {
                        self.refused.insert(change.prefix);
                        results.push((change.prefix, Err("no".to_owned())));
                        continue;
                    }
                    self.change(&change);
                    match change.route {
                        Some(route) => drop(self.known.insert(change.prefix, route)),
                        None => {
                            self.known.remove(&change.prefix);
                            self.withdrawn_at.insert(change.prefix, self.now);
                        }
                    }
                    results.push((change.prefix, Ok(())));
                }
                self.tell(Input::Applied(results));
            }
            other => panic!("{other:?}"),
        }
    }

    fn disconnect(&mut self, done: bool) {
        if let Some(Output::Apply(changes)) = self.asked.take() {
            for change in changes {
                if done {
                    self.change(&change);
                }
                // It may have been done.
                if let Some(route) = change.route {
                    self.known.insert(change.prefix, route);
                }
            }
        }
        self.synchronised = false;
        self.tell(Input::Lost("it is gone".to_owned()));
    }

    fn carry_out(&mut self, step: Step) {
        match step {
            Step::Wanted(bits, variant, moved) => {
                self.revision += 1;
                let wanted = (0..PREFIXES.len())
                    .filter(|index| bits >> index & 1 == 1)
                    .map(prefix);
                let routes: Routes = wanted.map(|prefix| (prefix, route(variant))).collect();
                let before = std::mem::take(&mut self.wanted);
                for (prefix, route) in &routes {
                    let revision = before
                        .get(prefix)
                        .map_or(self.revision, |(_, revision)| *revision);
                    self.wanted.insert(*prefix, (route.clone(), revision));
                }
                // What a daemon says against one route says nothing of another.
                self.refused.retain(|prefix| {
                    before.get(prefix).map(|(it, _)| it) == self.wanted.get(prefix).map(|(it, _)| it)
                });
                let moved = (0..PREFIXES.len()).filter(|index| (moved & !bits) >> index & 1 == 1);
                self.moved = moved.map(prefix).collect();
                self.tell(Input::Wanted {
                    routes,
                    moved: self.moved.clone(),
                    revision: self.revision,
                });
            }
            Step::Confirm => {
                self.confirmed = Some(self.revision);
                self.tell(Input::Confirmed(self.revision));
            }
            Step::LoseDataplane => {
                self.confirmed = None;
                self.tell(Input::Unconfirmed);
            }
            Step::Answer => self.answer(None),
            Step::Refuse(index) => self.answer(Some(prefix(index))),
            Step::Disconnect { done } => self.disconnect(done),
            Step::Restart(bits) => {
                self.table.clear();
                let left = (0..PREFIXES.len()).filter(|index| bits >> index & 1 == 1);
                self.table.extend(left.map(|index| (prefix(index), route(7))));
                self.disconnect(false);
            }
            Step::Remove(index) => {
                let prefix = prefix(index);
                // What happens to a batch on its way is seen by the next comparison only.
                if self.asked.is_none() && self.table.remove(&prefix).is_some() {
                    let known = self.known.remove(&prefix).is_some();
                    if known && !self.wanted.contains_key(&prefix) {
                        self.withdrawn_at.insert(prefix, self.now);
                    }
                    self.tell(Input::Gone(prefix));
                }
            }
            Step::Advance(milliseconds) => {
                let until = self.now.after(Duration::from_millis(milliseconds.into()));
                while let Some(next) = self.announcer.next_deadline().filter(|next| *next <= until) {
                    self.now = self.now.max(next);
                    self.tell(Input::Tick);
                }
                self.now = until;
                self.tell(Input::Tick);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn in_the_end_the_daemon_has_exactly_what_is_wanted(steps in prop::collection::vec(step(), 1..120)) {
        let mut world = World::new();
        for step in steps {
            world.carry_out(step);
        }
        // From here on nothing goes wrong.
        world.carry_out(Step::Confirm);
        for _ in 0..200 {
            world.answer(None);
            world.carry_out(Step::Advance(399));
        }
        let wanted: Routes = world.wanted.iter().map(|(prefix, (route, _))| (*prefix, route.clone())).collect();
        prop_assert_eq!(&world.table, &wanted);
        let states: Vec<_> = world.announcer.routes().map(|(prefix, _, state, ..)| (prefix, state)).collect();
        let announced: Vec<_> = wanted.keys().map(|prefix| (*prefix, RouteState::Announced)).collect();
        prop_assert_eq!(states, announced);
        prop_assert_eq!(world.announcer.next_deadline(), None);
    }
}
