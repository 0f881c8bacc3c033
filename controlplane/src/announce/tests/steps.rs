//! One thing at a time, by hand.

use std::time::Duration;

use ipnet::Ipv6Net;

use super::{SETTINGS, route};
use crate::announce::{Announcer, Change, Input, Output, RouteState, Routes, Settings};
use crate::event::Event;
use crate::time::Time;

const A: &str = "2001:db8:100::/64";
const B: &str = "2001:db8:200::/64";

fn prefix(text: &str) -> Ipv6Net {
    text.parse().unwrap()
}

fn routes(prefixes: &[&str]) -> Routes {
    prefixes.iter().map(|text| (prefix(text), route(1))).collect()
}

fn announce(text: &str) -> Change {
    Change {
        prefix: prefix(text),
        route: Some(route(1)),
    }
}

fn withdraw(text: &str) -> Change {
    Change {
        prefix: prefix(text),
        route: None,
    }
}

struct Run {
    announcer: Announcer,
    now: Time,
}

impl Run {
    /// Connected to a daemon that has this already.
    fn new(settings: Settings, wanted: &[&str], has: &[&str]) -> (Self, Vec<Output>) {
        let now = Time(Duration::from_secs(1000));
        let announcer = Announcer::new(settings, routes(wanted), now);
        let mut run = Self { announcer, now };
        assert_eq!(run.tell(Input::Tick), [Output::Connect]);
        assert_eq!(run.tell(Input::Connected), [Output::List]);
        let outputs = run.tell(Input::Listed(routes(has)));
        (run, outputs)
    }

    /// What comes out, without events.
    fn tell(&mut self, input: Input) -> Vec<Output> {
        let all = self.announcer.process(input, self.now);
        all.into_iter()
            .filter(|output| !matches!(output, Output::Event(_) | Output::Warning(_) | Output::Took(_)))
            .collect()
    }

    fn events(&mut self, input: Input) -> Vec<Event> {
        let all = self.announcer.process(input, self.now);
        all.into_iter()
            .filter_map(|output| match output {
                Output::Event(event) | Output::Warning(event) => Some(event),
                _ => None,
            })
            .collect()
    }

    fn want(&mut self, wanted: &[&str], revision: u64) -> Vec<Output> {
        self.want_moved(wanted, &[], revision)
    }

    fn want_moved(&mut self, wanted: &[&str], moved: &[&str], revision: u64) -> Vec<Output> {
        self.tell(Input::Wanted {
            routes: routes(wanted),
            moved: moved.iter().map(|text| prefix(text)).collect(),
            revision,
        })
    }

    fn done(&mut self, prefixes: &[&str]) -> Vec<Output> {
        let results = prefixes.iter().map(|text| (prefix(text), Ok(())));
        self.tell(Input::Applied(results.collect()))
    }

    fn advance(&mut self, milliseconds: u64) -> Vec<Output> {
        self.now = self.now.after(Duration::from_millis(milliseconds));
        self.tell(Input::Tick)
    }

    fn state(&self, text: &str) -> Option<RouteState> {
        let mut routes = self.announcer.routes();
        routes.find_map(|(found, _, state, ..)| (found == prefix(text)).then_some(state))
    }
}

#[test]
fn nothing_is_announced_before_the_data_plane_has_it() {
    let (mut run, outputs) = Run::new(SETTINGS, &[A], &[]);
    assert_eq!(
        (outputs, run.state(A)),
        (vec![], Some(RouteState::AwaitingDataplane))
    );
    assert_eq!(run.tell(Input::Confirmed(0)), [Output::Apply(vec![announce(A)])]);
    assert_eq!(run.want(&[A, B], 7), []);
    assert_eq!(run.done(&[A]), []);
    assert_eq!(run.tell(Input::Confirmed(6)), []);
    assert_eq!(run.state(B), Some(RouteState::AwaitingDataplane));
    // A data plane that begins anew holds nothing until it says so.
    assert_eq!(run.tell(Input::Unconfirmed), []);
    assert_eq!(run.tell(Input::Confirmed(7)), [Output::Apply(vec![announce(B)])]);
}

#[test]
fn others_have_time_to_learn_a_route_before_it_counts() {
    let (mut run, _) = Run::new(SETTINGS, &[A], &[]);
    run.tell(Input::Confirmed(0));
    assert_eq!(run.done(&[A]), []);
    assert_eq!(run.state(A), Some(RouteState::Propagating));
    assert_eq!(run.advance(19), []);
    assert!(!run.announcer.is_announced(&prefix(A)));
    assert_eq!(run.advance(1), [Output::Announced(prefix(A))]);
    assert!(run.announcer.is_announced(&prefix(A)));
}

#[test]
fn what_a_process_before_has_left_is_withdrawn_and_what_is_wanted_stays() {
    let (mut run, outputs) = Run::new(SETTINGS, &[A], &[A, B]);
    assert_eq!(outputs, [Output::Apply(vec![withdraw(B)])]);
    assert_eq!(run.done(&[B]), [Output::Withdrawn(prefix(B))]);
    assert_eq!(run.announcer.counters().get("routes_found_unwanted"), 1);
    // It counts when the data plane holds it.
    assert_eq!(run.advance(1000), []);
    assert_eq!(run.tell(Input::Confirmed(0)), [Output::Announced(prefix(A))]);
}

#[test]
fn announcements_come_before_withdrawals_and_an_aggregate_goes_last() {
    let (mut run, _) = Run::new(SETTINGS, &["2001:db8:100::/48", B], &["2001:db8:100::/48", B]);
    run.tell(Input::Confirmed(0));
    // The aggregate is needed until its part is there; the other has nothing to do with it.
    assert_eq!(run.want(&[A], 1), [Output::Apply(vec![withdraw(B)])]);
    assert_eq!(run.done(&[B]), [Output::Withdrawn(prefix(B))]);
    assert_eq!(run.tell(Input::Confirmed(1)), [Output::Apply(vec![announce(A)])]);
    assert_eq!(
        run.done(&[A]),
        [Output::Apply(vec![withdraw("2001:db8:100::/48")])]
    );
}

#[test]
fn a_prefix_that_flaps_is_withdrawn_once_in_each_interval_and_announced_at_once() {
    let (mut run, _) = Run::new(SETTINGS, &[A], &[]);
    assert_eq!(run.tell(Input::Confirmed(9)), [Output::Apply(vec![announce(A)])]);
    run.done(&[A]);
    // The first time at once.
    assert_eq!(run.want(&[], 1), [Output::Apply(vec![withdraw(A)])]);
    run.done(&[A]);
    assert_eq!(run.want(&[A], 2), [Output::Apply(vec![announce(A)])]);
    run.done(&[A]);
    run.advance(100);
    assert_eq!(run.want(&[], 3), []);
    assert_eq!(run.state(A), Some(RouteState::HeldBack));
    // It comes back meanwhile: the network hears of nothing.
    run.advance(100);
    assert_eq!(run.want(&[A], 4), [Output::Announced(prefix(A))]);
    assert_eq!(run.want(&[], 5), []);
    assert_eq!(run.advance(299), []);
    assert_eq!(run.advance(1), [Output::Apply(vec![withdraw(A)])]);
    assert_eq!(run.done(&[A]), [Output::Withdrawn(prefix(A))]);
    assert_eq!(run.announcer.counters().get("route_withdrawals_held_back"), 2);
}

#[test]
fn what_another_anchor_announces_is_withdrawn_at_once_however_often() {
    let (mut run, _) = Run::new(SETTINGS, &[A], &[A]);
    run.tell(Input::Confirmed(9));
    for revision in [1, 3, 5] {
        let outputs = run.want_moved(&[], &[A], revision);
        assert_eq!(outputs, [Output::Apply(vec![withdraw(A)])]);
        assert_eq!(run.done(&[A]), [Output::Withdrawn(prefix(A))]);
        run.want(&[A], revision + 1);
        run.done(&[A]);
    }
    // It is held back as soon as nobody else has it, and not a moment longer than that.
    assert_eq!(run.want(&[], 7), []);
    assert_eq!(run.want_moved(&[], &[A], 8), [Output::Apply(vec![withdraw(A)])]);
}

#[test]
fn a_daemon_that_is_gone_is_tried_again_after_longer_and_longer() {
    let now = Time(Duration::from_secs(1000));
    let mut run = Run {
        announcer: Announcer::new(SETTINGS, routes(&[A]), now),
        now,
    };
    let mut waits = Vec::new();
    run.tell(Input::Tick);
    for _ in 0..9 {
        run.tell(Input::Lost("refused".to_owned()));
        let next = run.announcer.next_deadline().unwrap();
        waits.push(next.since(run.now).as_millis());
        run.now = next;
        assert_eq!(run.tell(Input::Tick), [Output::Connect]);
    }
    assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
    // Told once, however often.
    assert_eq!(run.events(Input::Lost("refused".to_owned())), []);
    run.advance(10_000);
    assert_eq!(run.events(Input::Lost("no route".to_owned())).len(), 1);
    run.advance(10_000);
    run.tell(Input::Connected);
    run.tell(Input::Listed(Routes::new()));
    run.tell(Input::Lost("killed".to_owned()));
    assert_eq!(
        run.announcer.next_deadline().unwrap().since(run.now).as_millis(),
        100
    );
}

#[test]
fn a_daemon_that_begins_anew_gets_everything_again() {
    let (mut run, _) = Run::new(SETTINGS, &[A, B], &[A, B]);
    run.tell(Input::Confirmed(0));
    run.advance(20);
    assert_eq!(run.tell(Input::Lost("killed".to_owned())), []);
    assert_eq!(run.advance(100), [Output::Connect]);
    run.tell(Input::Connected);
    let outputs = run.tell(Input::Listed(Routes::new()));
    assert_eq!(outputs, [Output::Apply(vec![announce(A), announce(B)])]);
    assert_eq!(run.announcer.counters().get("routes_gone"), 2);
}

#[test]
fn what_is_refused_keeps_nothing_else_and_is_tried_again() {
    let (mut run, _) = Run::new(SETTINGS, &[A, B], &[]);
    run.tell(Input::Confirmed(0));
    let results = vec![(prefix(A), Err("no".to_owned())), (prefix(B), Ok(()))];
    let events = run.events(Input::Applied(results.clone()));
    let refused = events.iter().find(|event| event.kind == "route_refused").unwrap();
    assert_eq!(refused.text, format!("gobgp refused {A}: no"));
    assert_eq!(run.state(A), Some(RouteState::Refused));
    assert_eq!(run.advance(20), [Output::Announced(prefix(B))]);
    assert_eq!(run.advance(980), [Output::List]);
    assert_eq!(
        run.tell(Input::Listed(routes(&[B]))),
        [Output::Apply(vec![announce(A)])]
    );
    // The same once more is not told once more.
    assert_eq!(run.events(Input::Applied(results)), []);
    assert_eq!(run.advance(1999), []);
    assert_eq!(run.advance(1), [Output::List]);
    run.tell(Input::Listed(routes(&[B])));
    run.done(&[A]);
    assert_eq!(run.advance(20), [Output::Announced(prefix(A))]);
}

#[test]
fn what_somebody_else_removes_comes_back() {
    let (mut run, _) = Run::new(SETTINGS, &[A], &[A]);
    run.tell(Input::Confirmed(0));
    run.advance(20);
    assert_eq!(
        run.tell(Input::Gone(prefix(A))),
        [Output::Apply(vec![announce(A)])]
    );
    assert_eq!(run.tell(Input::Gone(prefix(B))), []);
}

#[test]
fn it_compares_from_time_to_time() {
    let settings = Settings {
        resync_interval: Duration::from_secs(5),
        ..SETTINGS
    };
    let (mut run, _) = Run::new(settings, &[A], &[A]);
    assert_eq!(run.advance(4999), []);
    assert_eq!(run.advance(1), [Output::List]);
    run.tell(Input::Confirmed(0));
    assert_eq!(
        run.tell(Input::Listed(Routes::new())),
        [Output::Apply(vec![announce(A)])]
    );
}

#[test]
fn a_long_batch_is_told_in_one_sentence() {
    let settings = Settings {
        batch: 100,
        ..SETTINGS
    };
    let many: Vec<_> = (0..20).map(|n| format!("2001:db8:{n:x}::/64")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    let (mut run, _) = Run::new(settings, &many, &[]);
    run.tell(Input::Confirmed(0));
    let results = many.iter().map(|text| (prefix(text), Ok(()))).collect();
    let events = run.events(Input::Applied(results));
    let told: Vec<_> = events.iter().map(|event| event.kind).collect();
    assert_eq!(told, ["routes_changed"]);
}

/// A daemon that restarts gracefully has moments for being given its routes: however long it was away, it is found soon.
#[test]
fn a_daemon_that_restarts_is_looked_for_often_and_one_that_stays_away_is_not() {
    let (mut run, _) = Run::new(SETTINGS, &[], &[]);
    let mut waits = Vec::new();
    run.tell(Input::Lost("it has ended".into()));
    for _ in 0..1300 {
        let at = run.announcer.next_deadline().unwrap();
        waits.push(at.since(run.now));
        run.now = at;
        assert_eq!(run.tell(Input::Tick), [Output::Connect]);
        run.tell(Input::Lost("refused".into()));
    }
    let often = waits
        .iter()
        .take_while(|wait| **wait == Duration::from_millis(100))
        .count();
    assert!((1200..1210).contains(&often), "{often}");
    assert!(waits[often..].is_sorted());
    assert_eq!(waits.last(), Some(&Duration::from_secs(10)));
    // And once it is back, often again.
    run.now = run.announcer.next_deadline().unwrap();
    run.tell(Input::Tick);
    run.tell(Input::Connected);
    run.tell(Input::Listed(Routes::new()));
    run.tell(Input::Lost("it has ended".into()));
    assert_eq!(
        run.announcer.next_deadline(),
        Some(run.now.after(Duration::from_millis(100)))
    );
}

/// Another anchor withdraws when this one has announced: not before anybody can have heard it.
#[test]
fn what_a_daemon_was_given_counts_as_announced_when_its_neighbours_hear_it() {
    let settings = Settings {
        tells_neighbours: true,
        ..SETTINGS
    };
    let (mut run, _) = Run::new(settings, &[A], &[A]);
    run.tell(Input::Confirmed(9));
    assert_eq!(run.advance(1000), []);
    assert!(!run.announcer.is_announced(&prefix(A)));
    // From when they do it takes as long as ever.
    assert_eq!(run.tell(Input::Neighbours(true)), []);
    assert_eq!(run.advance(19), []);
    assert_eq!(run.advance(1), [Output::Announced(prefix(A))]);
    // A daemon that has ended says it anew.
    run.tell(Input::Lost("it has ended".into()));
    run.advance(100);
    run.tell(Input::Connected);
    run.tell(Input::Listed(Routes::new()));
    run.done(&[A]);
    assert_eq!(run.advance(1000), []);
    run.tell(Input::Neighbours(true));
    assert_eq!(run.advance(20), [Output::Announced(prefix(A))]);
}
