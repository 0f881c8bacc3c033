//! What goes with a prefix that moves, packet by packet: filters (RFC 8818 FM:2, FM:3) and what is left in meters.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod domain_support;

use std::time::Duration;

use domain_support::*;
use ipnet::Ipv6Net;
use kedge_config::{FilterRule, Meter};
use kedge_controlplane::charging::Fill;
use kedge_controlplane::maar;
use kedge_dataplane_api::model::{self, MeterRates};
use proptest::prelude::*;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

type Step<'a> = &'a dyn Fn(&mut Domain);

/// Two filters of node 1, of which one meters.
fn rules() -> [FilterRule; 2] {
    [
        "name = \"web\"\naction = \"meter\"\nmeter = \"gold\"\nnode = \"mn1@example.net\"",
        "name = \"guard\"\naction = \"drop\"\nnode = \"mn1@example.net\"",
    ]
    .map(|text| toml::from_str(text).unwrap())
}

fn gold() -> Meter {
    toml::from_str(
        "name = \"gold\"\ncir_bits_per_second = 80000\ncbs_bytes = 20000\npir_bits_per_second = 800000\npbs_bytes = 30000",
    )
    .unwrap()
}

/// The node is at the second MAAR, its first prefix at the first, which has the filters.
fn domain(tunnel: &str) -> (Domain, Ipv6Net) {
    let mut domain = Domain::with_tunnels([tunnel; 3], tunnel);
    domain.configs[0].meters.push(gold());
    domain.announce();
    domain.counting = Some(Counting::new());
    for rule in rules() {
        domain.maar_input(0, maar::Input::PutFilter(rule));
    }
    domain.attach(1, 0);
    domain.run(SECOND);
    let prefix = domain.prefix(1, 0);
    domain.attach(1, 1);
    domain.run(SECOND);
    (domain, prefix)
}

/// Runs, and looks at each moment what packets of the prefix meet. How many of them there were; `None`: see below.
fn watch(domain: &mut Domain, prefix: Ipv6Net, milliseconds: u32) -> Result<Option<u32>, TestCaseError> {
    let (mut seen, mut passed) = (0, 0);
    while passed < milliseconds {
        // Each step of a move at first, and what is left of it later.
        let step = if passed < 300 { 1 } else { 23 };
        passed += step;
        domain.run(step * MS);
        if domain.cmd.counters().get("relocations_unprepared") > 0 {
            // Too much was lost: nobody had a chance.
            return Ok(None);
        }
        for name in ["web", "guard"] {
            for met in domain.met(1, prefix, name) {
                prop_assert!(met.is_right(), "{name} at {:?}: {met:?}", domain.now);
                seen += 1;
            }
        }
    }
    Ok(Some(seen))
}

/// A way of node 1 through the domain. It begins at the second MAAR, with its first prefix anchored at the first.
#[derive(Clone, Debug)]
struct Journey {
    tunnel: &'static str,
    /// Milliseconds until the prefix is to be anchored where the node is, milliseconds from then until it goes on, and whether that is to the
    /// next MAAR or the one after.
    hops: Vec<(u32, u32, usize)>,
    losses: Vec<bool>,
    /// Milliseconds from then until the CMD is killed, and a MAAR: always the first one, or that where the node was before.
    kill: u32,
    kills_the_first: bool,
}

impl Journey {
    /// One on which nobody is killed before the node goes on, and of all messages these are lost.
    fn quiet(hops: &[(u32, u32, usize)], lost: &[usize], of: usize) -> Self {
        Self {
            tunnel: PLAIN,
            hops: hops.to_vec(),
            losses: (0..of).map(|at| lost.contains(&at)).collect(),
            kill: u32::MAX,
            kills_the_first: true,
        }
    }

    fn go(self) -> Result<(), TestCaseError> {
        let (mut domain, prefix) = domain(self.tunnel);
        let mut losses = self.losses.into_iter().cycle();
        let mut budget = 4;
        domain.lost = Box::new(move || {
            let lost = budget > 0 && losses.next().unwrap_or(false);
            budget -= i32::from(lost);
            lost
        });
        let (mut before, mut at) = (0, 1);
        let mut seen = 0;
        for (until_asked, until_gone, step) in self.hops {
            // One that the CMD does not want now is tried no more.
            let relocate = |domain: &mut Domain| drop(domain.relocate(prefix, at));
            let kill_both = |domain: &mut Domain| {
                domain.kill(address(CMD));
                domain.kill(maar_address(if self.kills_the_first { 0 } else { before }));
            };
            let steps: [(u32, Step<'_>); 3] = [
                (until_asked, &relocate),
                (self.kill.min(until_gone), &kill_both),
                (until_gone, &|_| {}),
            ];
            for (milliseconds, then) in steps {
                let Some(more) = watch(&mut domain, prefix, milliseconds)? else {
                    return Ok(());
                };
                seen += more;
                then(&mut domain);
            }
            before = at;
            at = (at + step) % 3;
            domain.attach(1, at);
        }
        prop_assert!(seen > 100);
        // And all that was counted is somewhere, once.
        domain.run(120 * SECOND);
        domain.read_counters();
        prop_assert_eq!(domain.records().count(), 0);
        prop_assert_eq!(domain.charged(), domain.to_be_charged());
        Ok(())
    }
}

fn journeys() -> impl Strategy<Value = Journey> {
    (
        prop::sample::select(vec![PLAIN, GTPU, GRE]),
        prop::collection::vec((1_u32..1000, 500_u32..30_000, 1_usize..3), 1..5),
        prop::collection::vec(prop::bool::weighted(0.1), 1..60),
        0_u32..4000,
        any::<bool>(),
    )
        .prop_map(|(tunnel, hops, losses, kill, kills_the_first)| Journey {
            tunnel,
            hops,
            losses,
            kill,
            kills_the_first,
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    /// Whatever is late or lost, whoever is killed, and wherever and however often the prefix moves on: no packet passes a filter that
    /// moves, and none meets it twice, but those of which `Domain::may_meet_twice` says so.
    #[test]
    fn each_packet_meets_a_filter_that_moves_once(journey in journeys()) {
        journey.go()?;
    }
}

/// What still came to the anchor before went straight to where the node was by then, by a tunnel of which that did not know that
/// filters had been asked; and a rule that had been handed on forgot at home which tunnel its prefix had come by.
#[test]
fn what_comes_to_an_anchor_of_before_goes_by_the_one_after() {
    Journey::quiet(&[(1, 1681, 2), (968, 500, 2), (15, 500, 1)], &[], 1)
        .go()
        .unwrap();
    Journey::quiet(&[(1, 1267, 2), (15, 500, 2), (15, 500, 1)], &[9, 11], 18)
        .go()
        .unwrap();
    Journey::quiet(&[(1, 500, 1), (15, 623, 1), (15, 500, 1), (15, 500, 1)], &[], 1)
        .go()
        .unwrap();
    for tunnel in [PLAIN, GTPU, GRE] {
        let (mut domain, prefix) = domain(tunnel);
        for at in [1, 0] {
            domain.attach(1, at);
            domain.run(SECOND);
            domain.relocate(prefix, at).unwrap();
            domain.run(SECOND);
        }
        // The second one is told where the node is, for another prefix, and sends this one to who has it now.
        domain.attach(1, 2);
        domain.run(SECOND);
        let leads_to = |domain: &Domain| {
            let tables = domain.tables(1);
            let model::NextHop::Tunnel(tunnel) = tables.prefixes[&prefix].next_hop else {
                panic!("{:?}", tables.prefixes[&prefix])
            };
            tables.tunnels[&tunnel].remote
        };
        assert_eq!(leads_to(&domain), maar_address(0));
        domain.relocate(prefix, 2).unwrap();
        assert!(watch(&mut domain, prefix, 2_000).unwrap().unwrap() > 100);
        assert_eq!(leads_to(&domain), maar_address(0));
        assert!(!domain.may_meet_twice(1, prefix, 1));
        // And then it is over.
        domain.run(15 * SECOND);
        assert!(domain.maars[1].state().passed_on(&prefix).is_none());
        assert!(!domain.tables(1).prefixes.contains_key(&prefix));
    }
}

/// Where the node is back at an anchor of before, and when it has gone on from there, packets that still came straight to that met no filter.
#[test]
fn what_comes_straight_to_where_the_node_is_back_meets_the_filters() {
    let mut journey = Journey::quiet(&[(1, 945, 2), (29, 500, 1), (1, 500, 1)], &[10, 11, 21, 41], 44);
    (journey.kill, journey.kills_the_first) = (337, false);
    journey.go().unwrap();
    for tunnel in [PLAIN, GTPU, GRE] {
        let (mut domain, prefix) = domain(tunnel);
        domain.relocate(prefix, 1).unwrap();
        domain.run(SECOND);
        domain.attach(1, 0);
        for elsewhere in [1, 0] {
            domain.run(300 * MS);
            let met = domain.met(1, prefix, "guard");
            let straight = met
                .iter()
                .find(|it| it.what.ends_with("maar1") && it.what.starts_with("to"));
            let straight = straight.unwrap();
            assert_eq!((straight.count, straight.most, straight.end), (1, 1, End::Goes));
            domain.attach(1, elsewhere);
        }
    }
}

/// Twice is for what comes to an anchor of before, when the one after has the prefix from another one: as long as that
/// is passed on, and by both filters; and never not at all.
#[test]
fn what_meets_a_filter_twice_is_what_is_passed_on_to_who_has_it_from_another_one() {
    let (mut domain, prefix) = domain(PLAIN);
    // The tunnel between the first two is there for others too.
    domain.attach(2, 0);
    domain.run(100 * MS);
    domain.attach(2, 1);
    for at in [1, 2, 1] {
        domain.attach(1, at);
        domain.run(500 * MS);
        domain.relocate(prefix, at).unwrap();
        domain.run(500 * MS);
    }
    let met = |domain: &Domain| {
        let mut met = domain.met(1, prefix, "web").into_iter();
        met.find(|it| it.what == "to it, into maar1")
            .map(|it| (it.count, it.most, it.end))
    };
    assert_eq!(met(&domain), Some((2, 2, End::Goes)));
    domain.run(10 * SECOND);
    assert_eq!(met(&domain), None);
}

/// An old anchor that hears late that the prefix has gone asks its filters as long, and for a while the new one does too; the
/// other error would be a gap.
#[test]
fn an_old_anchor_that_hears_late_counts_twice_rather_than_not_at_all() {
    let (mut domain, prefix) = domain(PLAIN);
    domain.relocate(prefix, 1).unwrap();
    // It is ready, and from then on nobody hears anything.
    while domain.anchored(1, 1).len() < 2 {
        domain.run(MS);
    }
    domain.lost = Box::new(|| true);
    let counts = |domain: &Domain| -> Vec<u32> {
        let met = domain.met(1, prefix, "guard");
        assert!(met.iter().all(Met::is_right), "{met:?}");
        let straight = met.iter().find(|it| it.what == "to it, into maar1");
        straight.map(|it| it.count).into_iter().collect()
    };
    domain.run(9 * SECOND);
    assert_eq!(counts(&domain), [1]);
    domain.run(5 * SECOND);
    assert_eq!(counts(&domain), [2]);
    domain.lost = Box::new(|| false);
    while domain.maars[0].state().passed_on(&prefix).is_none() {
        domain.run(MS);
    }
    domain.run(9 * SECOND);
    assert_eq!(counts(&domain).len(), 1);
    domain.run(2 * SECOND);
    assert!(counts(&domain).is_empty());
}

/// Rules stay at home for what else the node has there; of a prefix that has taken them along they are asked where it is, until it is home again.
#[test]
fn rules_that_stayed_are_not_asked_twice_when_the_node_comes_home() {
    let (mut domain, prefix) = domain(PLAIN);
    domain.relocate(prefix, 1).unwrap();
    domain.run(20 * SECOND);
    domain.left = Some(Fill {
        committed: 300,
        other: 400,
    });
    domain.attach(1, 0);
    domain.run(SECOND);
    assert!(domain.anchored(1, 1).contains(&prefix));
    for name in ["web", "guard"] {
        let met = domain.met(1, prefix, name);
        assert!(met.iter().all(|it| it.count == 1), "{met:?}");
    }
    domain.relocate(prefix, 0).unwrap();
    let seen = watch(&mut domain, prefix, 60_000).unwrap().unwrap();
    assert!(seen > 100);
    assert!(domain.anchored(1, 0).contains(&prefix));
    // No burst anew for coming home.
    let fills: Vec<_> = domain
        .tables(0)
        .meters
        .into_values()
        .map(|it| it.fill.unwrap())
        .collect();
    assert_eq!(
        fills
            .iter()
            .map(|it| (it.committed, it.other))
            .collect::<Vec<_>>(),
        [(300, 400)]
    );
    assert!(domain.maars[0].state().filters_away.is_empty());
    domain.run(60 * SECOND);
    domain.read_counters();
    assert_eq!(domain.charged(), domain.to_be_charged());
}

/// One that was to take the prefix did not; who takes it then gets the filters all the same, though they had been handed over.
#[test]
fn who_takes_it_in_the_end_has_its_filters() {
    let (mut domain, prefix) = domain(PLAIN);
    domain.announces = false;
    domain.relocate(prefix, 1).unwrap();
    domain.run(50 * MS);
    assert_eq!(domain.maars[1].state().filters.len(), 2);
    domain.announces = true;
    domain.attach(1, 2);
    domain.run(40 * SECOND);
    assert!(domain.maars[1].state().filters.is_empty());
    domain.relocate(prefix, 2).unwrap();
    domain.run(40 * SECOND);
    assert!(domain.anchored(1, 2).contains(&prefix));
    assert_eq!(domain.maars[2].state().filters.len(), 2);
}

/// What is left in a meter comes with its filter, and once more when the prefix has gone; what comes fills nothing.
#[test]
fn what_is_left_in_a_meter_comes_with_its_filter() {
    let (mut domain, prefix) = domain(PLAIN);
    let left = |committed, other| Some(Fill { committed, other });
    domain.left = left(700, 29_000);
    domain.relocate(prefix, 1).unwrap();
    domain.run(16 * MS);
    // It is there before the prefix is.
    let fill = |domain: &Domain, index: usize| {
        let meters: Vec<model::Meter> = domain.tables(index).meters.into_values().collect();
        let [meter] = meters[..] else { panic!("{meters:?}") };
        assert_eq!(
            meter.rates,
            MeterRates::Rfc2698 {
                cir: 10_000,
                cbs: 20_000,
                pir: 100_000,
                pbs: 30_000
            }
        );
        meter.fill
    };
    assert_eq!(domain.anchored(1, 0), [prefix]);
    let first = fill(&domain, 1).unwrap();
    assert_eq!((first.committed, first.other), (700, 29_000));
    assert_eq!(fill(&domain, 0), None, "where it came from nothing has changed");
    // Some of that is used while the prefix moves.
    domain.left = left(0, 28_000);
    domain.run(SECOND);
    let second = fill(&domain, 1).unwrap();
    assert_eq!((second.committed, second.other), (0, 28_000));
    assert_ne!(first.number, second.number);
    // It survives, and goes when the filter does.
    domain.store(maar_address(1));
    domain.kill(maar_address(1));
    assert_eq!(fill(&domain, 1), Some(second));
    domain.run(30 * SECOND);
    assert_eq!(fill(&domain, 1), Some(second));
    domain.maar_input(1, maar::Input::DeleteFilter("web".to_owned()));
    assert!(domain.maars[1].state().meter_fills.is_empty());
}

/// An anchor that does not answer keeps nobody waiting for ever; its filters come when it is back.
#[test]
fn an_anchor_that_is_dead_is_not_waited_for() {
    let (mut domain, prefix) = domain(PLAIN);
    domain.relocate(prefix, 1).unwrap();
    domain.lost = Box::new(|| true);
    domain.run(4 * SECOND);
    assert_eq!(domain.anchored(1, 1).len(), 1);
    domain.lost = Box::new(|| false);
    // What it has to hand over waits, whoever asks.
    domain.run(60 * SECOND);
    assert!(domain.anchored(1, 1).contains(&prefix));
    assert_eq!(domain.maars[1].state().filters.len(), 2);
}

/// What came ahead of a prefix that does not come after all goes when the CMD says so.
#[test]
fn what_came_ahead_of_a_prefix_that_stays_goes_again() {
    let (mut domain, prefix) = domain(PLAIN);
    domain.announces = false;
    domain.relocate(prefix, 1).unwrap();
    domain.run(16 * MS);
    assert_eq!(domain.maars[1].state().filters.len(), 2);
    domain.run(90 * SECOND);
    assert_eq!(domain.anchored(1, 0), [prefix]);
    assert!(domain.maars[1].state().filters.is_empty());
    assert!(domain.maars[1].state().meters.is_empty());
}

/// An anchor that yields without having prepared, and dies before it has read what is left in a meter, has handed its filters over.
#[test]
fn filters_that_meter_are_not_lost_with_an_anchor_that_has_not_prepared() {
    let (mut domain, prefix) = domain(PLAIN);
    // Nobody reads anything from now on.
    domain.counting = None;
    domain.relocate(prefix, 1).unwrap();
    domain.lost = Box::new(|| true);
    domain.run(6 * SECOND);
    assert!(domain.maars[1].state().filters.is_empty());
    domain.lost = Box::new(|| false);
    while domain.maars[0].state().passed_on(&prefix).is_none() {
        domain.run(MS);
    }
    domain.kill(maar_address(0));
    domain.run(40 * SECOND);
    assert!(domain.anchored(1, 1).contains(&prefix));
    assert_eq!(domain.maars[1].state().filters.len(), 2);
}
