//! Tells what the data plane has no room for.

use std::collections::BTreeSet;

use kedge_config::Config;

use super::Observer;
use crate::event::Event;
use crate::forwarding::{LeftOut, Limit};

/// What is left out of the tables now, and which limits an operator knows to be passed.
#[derive(Debug, Default)]
pub(crate) struct LeftOutNow {
    now: LeftOut,
    told: BTreeSet<Limit>,
}

impl LeftOutNow {
    /// What is left out from now on. Each limit is told of when the first is beyond it, and when none is any more.
    pub(crate) fn take(&mut self, now: LeftOut, config: &Config, observer: &Observer) {
        self.now = now;
        for limit in Limit::ALL {
            let count = self.now.count(limit);
            let (is, was) = (count > 0, self.told.contains(&limit));
            if is == was {
                continue;
            }
            let event = describe(limit, count, config);
            if is {
                self.told.insert(limit);
                observer.warn(&event);
            } else {
                self.told.remove(&limit);
                observer.tell(&event);
            }
        }
    }

    /// How many filters of a rule there is no room for.
    pub(crate) fn of_rule(&self, name: &str) -> usize {
        self.now.of_rule(name)
    }

    /// By the names of limits, for metrics.
    pub(crate) fn figures(&self) -> Vec<(&'static str, i64)> {
        let figure = |limit: Limit| {
            let count = i64::try_from(self.now.count(limit)).unwrap_or(i64::MAX);
            (limit.name(), count)
        };
        Limit::ALL.map(figure).to_vec()
    }
}

fn describe(limit: Limit, count: usize, config: &Config) -> Event {
    let (of, key, most) = (limit.of(), limit.key(), limit.most(config));
    let (left_out, fit) = match limit {
        Limit::Filters | Limit::DomainFilters | Limit::FiltersOfAPrefix => {
            ("filters_left_out", "filters_fit_again")
        }
        Limit::Meters => ("meters_left_out", "meters_fit_again"),
        Limit::Tunnels => ("tunnels_left_out", "tunnels_fit_again"),
        Limit::Prefixes => ("prefixes_left_out", "prefixes_fit_again"),
    };
    let event = match count {
        0 => Event::new(fit, format!("all {of} have room again: {key} = {most}")),
        _ => {
            let what = match limit {
                Limit::Tunnels => "prefixes behind them lead nowhere",
                Limit::Prefixes => "their nodes have no service by them",
                Limit::Meters => "the filters that need them are left out, too",
                _ => "what they ask for is not done",
            };
            let text = format!("{count} {of} are left out, for {key} = {most}: {what}");
            Event::new(left_out, text).with("count", count)
        }
    };
    event.with("limit", key).with("most", most)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::Clock;

    const MAAR: &str = include_str!("../../../config/examples/maar.toml");

    #[tokio::test]
    async fn a_limit_is_told_of_when_it_begins_and_when_it_ends() {
        let config = Config::parse(MAAR, "maar").unwrap();
        let observer = Observer::new("maar1", Clock::start());
        let mut watcher = observer.subscribe();
        let mut left_out = LeftOutNow::default();
        let beyond = |count| {
            let mut left_out = LeftOut::default();
            for _ in 0..count {
                left_out.filter(Limit::Filters, "web");
            }
            left_out
        };
        let mut told = || std::iter::from_fn(|| watcher.try_recv().ok()).collect::<Vec<_>>();
        left_out.take(beyond(0), &config, &observer);
        assert!(told().is_empty());
        left_out.take(beyond(3), &config, &observer);
        let events = told();
        assert_eq!(events.len(), 1);
        assert_eq!(events[0].kind, "filters_left_out");
        let text =
            "3 filters are left out, for dataplane.maximum_filters = 1048576: what they ask for is not done";
        assert_eq!(events[0].text, text);
        left_out.take(beyond(5), &config, &observer);
        assert!(told().is_empty(), "the metric says how many");
        assert_eq!(left_out.of_rule("web"), 5);
        assert!(left_out.figures().contains(&("maximum_filters", 5)));
        left_out.take(beyond(0), &config, &observer);
        assert_eq!(told()[0].kind, "filters_fit_again");
        assert!(left_out.figures().iter().all(|(_, count)| *count == 0));
    }
}
