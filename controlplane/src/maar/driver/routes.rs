//! Routes to what is anchored here: the announcer, and what follows from its steps.

use std::collections::BTreeMap;

use ipnet::Ipv6Net;
use kedge_config::Config;
use tokio::sync::mpsc;

use super::Daemon;
use crate::announce::{self, Announcer, Command, Input, Output, RouteState, Routes, Settings};
use crate::maar::State;
use crate::metrics::RouteFigures;
use crate::northbound::proto;
use crate::time::Time;

/// The announcer, and the way to the task that speaks with its routing daemon.
pub(super) struct Announcing {
    announcer: Announcer,
    unsaved: Unsaved,
    commands: mpsc::Sender<Command>,
}

/// Routes to prefixes that another anchor has now, as long as a process that is killed would not know that when it is back: it would announce
/// them again, and the network would go back to it.
#[derive(Default)]
struct Unsaved {
    /// With each the change that has to be saved; 0: it is.
    changes: BTreeMap<Ipv6Net, u64>,
    /// Of the tables at the last look.
    revision: u64,
}

impl Unsaved {
    /// Puts what may not be withdrawn yet back to what is wanted. `moved`: the known routes to what another anchor has; `change`: the last
    /// there was; `saved`: the last on disk.
    fn keep(&mut self, moved: &Routes, routes: &mut Routes, change: u64, saved: u64) {
        self.changes.retain(|prefix, _| moved.contains_key(prefix));
        for (prefix, route) in moved {
            let needed = self.changes.entry(*prefix).or_insert(change);
            if saved >= *needed {
                *needed = 0;
            } else if !routes.contains_key(prefix) {
                routes.insert(*prefix, route.clone());
            }
        }
    }

    /// Whether one of them may be withdrawn by now.
    fn has_ended(&self, saved: u64) -> bool {
        self.changes.values().any(|change| (1..=saved).contains(change))
    }
}

impl Announcing {
    /// As `[announce]` says; what the task answers comes out of the receiver. Without such a section nothing is
    /// announced, and nothing comes.
    pub(super) fn start(config: &Config, state: &State, now: Time) -> (Option<Self>, mpsc::Receiver<Input>) {
        let (Some(section), Some(settings)) = (&config.announce, Settings::from_config(config)) else {
            return (None, mpsc::channel(1).1);
        };
        let (commands, answers) = announce::start(section);
        let announcer = Announcer::new(settings, announce::desired(config, state), now);
        let announcing = Self {
            announcer,
            unsaved: Unsaved::default(),
            commands,
        };
        (Some(announcing), answers)
    }

    pub(super) fn announcer(&self) -> &Announcer {
        &self.announcer
    }

    pub(super) fn next_deadline(&self) -> Option<Time> {
        self.announcer.next_deadline()
    }

    pub(super) fn figures(&self, daemon: &'static str) -> RouteFigures {
        let mut states: Vec<_> = RouteState::ALL.iter().map(|state| (state.name(), 0)).collect();
        for (_, _, state, ..) in self.announcer.routes() {
            for (name, count) in &mut states {
                *count += i64::from(*name == state.name());
            }
        }
        RouteFigures {
            daemon,
            connected: self.announcer.is_synchronised(),
            states,
        }
    }
}

impl Daemon {
    /// What should be announced has changed, as of the tables of this revision.
    pub(super) fn settle_routes(&mut self, revision: u64) {
        if let Some(announcing) = &mut self.announcing {
            let state = self.machine.state();
            let mut routes = announce::desired(&self.config, state);
            let known = announcing.announcer.routes();
            let moved: BTreeMap<_, _> = known
                .filter(|(prefix, ..)| state.yielded.contains_key(prefix))
                .map(|(prefix, route, ..)| (prefix, route.clone()))
                .collect();
            let (change, saved) = (self.saver.changes(), self.saver.saved());
            announcing.unsaved.revision = revision;
            announcing.unsaved.keep(&moved, &mut routes, change, saved);
            let moved = moved.into_keys().collect();
            self.announce(Input::Wanted {
                routes,
                moved,
                revision,
            });
        }
    }

    /// What has waited to be withdrawn until more was saved.
    pub(super) fn withdraw_what_is_saved(&mut self) {
        if let Some(announcing) = &self.announcing
            && announcing.unsaved.has_ended(self.saver.saved())
        {
            self.settle_routes(announcing.unsaved.revision);
        }
    }

    /// One step of the announcer.
    pub(super) fn announce(&mut self, input: Input) {
        let Some(announcing) = &mut self.announcing else {
            return;
        };
        let outputs = announcing.announcer.process(input, self.observer.clock().now());
        for output in outputs {
            let other = match Command::of(output) {
                Ok(command) => {
                    // There is room for one, and never more than one without its answer.
                    if let Err(error) = announcing.commands.try_send(command) {
                        tracing::error!(%error, "the task of the routing daemon takes nothing");
                    }
                    continue;
                }
                Err(other) => other,
            };
            match other {
                Output::Event(event) => self.observer.tell(&event),
                Output::Warning(event) => self.observer.warn(&event),
                Output::Took(after) => self.accumulated.route_announced(after),
                Output::Announced(prefix) => tracing::debug!(%prefix, "other routers know the route"),
                Output::Withdrawn(prefix) => tracing::debug!(%prefix, "no route is left"),
                Output::Connect | Output::List | Output::Apply(_) => {}
            }
        }
    }

    /// Tells the state machine which of the routes that it waits for are there, and which are gone. By what is, not
    /// by what has happened: so nothing is missed that was so before it waited.
    pub(super) fn follow_routes(&mut self) {
        let Some(announcing) = &self.announcing else {
            return;
        };
        let announcer = announcing.announcer();
        let mut inputs = Vec::new();
        for prefix in self.machine.taking() {
            if announcer.state(prefix) == Some(RouteState::Announced) {
                inputs.push(crate::maar::Input::Announced(prefix));
            }
        }
        for prefix in self.machine.withdrawing() {
            if announcer.state(prefix).is_none() {
                inputs.push(crate::maar::Input::Withdrawn(prefix));
            }
        }
        for input in inputs {
            self.process(input);
        }
    }

    pub(super) fn routes(&self) -> proto::RouteList {
        let (Some(announcing), Some(section)) = (&self.announcing, &self.config.announce) else {
            return proto::RouteList::default();
        };
        let now = self.observer.clock().now();
        let routes = announcing
            .announcer
            .routes()
            .map(|(prefix, route, state, since, refused)| proto::Route {
                prefix: prefix.to_string(),
                next_hop: route.next_hop.map(|it| it.to_string()).unwrap_or_default(),
                state: state.name().to_owned(),
                age_ms: u64::try_from(now.since(since).as_millis()).unwrap_or(u64::MAX),
                reason: refused.unwrap_or_default().to_owned(),
            });
        proto::RouteList {
            daemon: section.daemon.name().to_owned(),
            connected: announcing.announcer.is_synchronised(),
            routes: routes.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_withdrawn_when_a_restart_would_not_bring_it_back() {
        let prefix: Ipv6Net = "2001:db8:100::/64".parse().unwrap();
        let moved = Routes::from([(prefix, announce::Route::default())]);
        let mut unsaved = Unsaved::default();
        let mut look = |change, saved| {
            let mut routes = Routes::new();
            unsaved.keep(&moved, &mut routes, change, saved);
            (routes.contains_key(&prefix), unsaved.has_ended(saved))
        };
        assert_eq!(look(7, 5), (true, false));
        // Later changes are of others.
        assert_eq!(look(9, 6), (true, false));
        assert!(unsaved.has_ended(7));
        let mut look = |change, saved| {
            let mut routes = Routes::new();
            unsaved.keep(&moved, &mut routes, change, saved);
            (routes.contains_key(&prefix), unsaved.has_ended(saved))
        };
        assert_eq!(look(9, 7), (false, false));
        // It is withdrawn, and forgotten; the next time it waits anew.
        let none = Routes::new();
        unsaved.keep(&none, &mut Routes::new(), 9, 7);
        assert!(unsaved.changes.is_empty() && !unsaved.has_ended(9));
    }
}
