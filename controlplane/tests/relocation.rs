//! Anchors that move, in virtual time: with loss, with deaths at every step, with nodes that move meanwhile.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod domain_support;

use std::time::Duration;

use domain_support::*;
use kedge_config::{Config, Meter};
use kedge_controlplane::announce;
use kedge_controlplane::cmd::{self, Outcome, RelocationError};
use kedge_controlplane::maar;
use kedge_dataplane_api::model::{NextHop, SourcePath};

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

/// Node 1, first at maar1, then at maar2.
fn moved() -> Domain {
    let mut domain = Domain::new();
    domain.announce();
    domain.attach(1, 0);
    domain.run(SECOND);
    domain.attach(1, 1);
    domain.run(SECOND);
    domain
}

#[test]
fn an_anchor_moves_to_where_the_node_is() {
    let mut domain = moved();
    let prefix = domain.prefix(1, 0);
    domain.relocate(prefix, 1).unwrap();
    // Two messages are there, the routes are not: the old way is still the only one, but the new one waits for its end.
    domain.run(16 * MS);
    let entry = &domain.tables(1).prefixes[&prefix];
    assert!(matches!(entry.next_hop, NextHop::After { .. }), "{entry:?}");
    assert!(matches!(
        entry.source.as_ref().unwrap().path,
        SourcePath::Tunnel(_)
    ));
    assert_eq!(domain.anchored(1, 0), [prefix]);
    // The routes lead here: what the node sends waits a moment.
    domain.run(4 * MS);
    let entry = &domain.tables(1).prefixes[&prefix];
    assert!(matches!(entry.next_hop, NextHop::After { .. }));
    assert_eq!(entry.source, None);
    domain.run(25 * MS);
    let entry = &domain.tables(1).prefixes[&prefix];
    assert_eq!(entry.source.as_ref().unwrap().path, SourcePath::Native);
    assert_eq!(domain.outcomes.len(), 1);
    assert!(matches!(domain.outcomes[0].1, Outcome::Relocated { .. }));
    // The old anchor goes on with what comes to it.
    let there = domain.tables(0);
    assert!(matches!(there.prefixes[&prefix].next_hop, NextHop::Tunnel(_)));
    domain.run(2 * SECOND);
    domain.assert_settled(1, 1);
    assert_eq!(domain.anchored(1, 1), [domain.prefix(1, 1), prefix]);
    // And then forgets the node, but not that the prefix is somebody's.
    domain.run(10 * SECOND);
    assert_eq!(domain.phase(1, 0), None);
    assert!(domain.maars[0].state().yielded.contains_key(&prefix));
    domain.assert_settled(1, 1);
}

#[test]
fn a_relocated_prefix_follows_its_node_and_ends_with_the_session() {
    let mut domain = moved();
    let prefix = domain.prefix(1, 0);
    domain.relocate(prefix, 1).unwrap();
    domain.run(20 * SECOND);
    domain.attach(1, 2);
    domain.run(SECOND);
    domain.assert_settled(1, 2);
    assert!(domain.anchored(1, 1).contains(&prefix));
    // Once more, and both at once.
    let second = domain.prefix(1, 1);
    domain.relocate(second, 2).unwrap();
    domain.relocate(prefix, 2).unwrap();
    domain.run(20 * SECOND);
    domain.assert_settled(1, 2);
    assert_eq!(domain.anchored(1, 2).len(), 3);
    assert_eq!(domain.phase(1, 1), None, "what it had is elsewhere");
    // Home again: there it gets another prefix, and has the first one from where it is.
    domain.attach(1, 0);
    domain.run(SECOND);
    domain.assert_settled(1, 0);
    assert_ne!(domain.prefix(1, 0), prefix);
    domain.relocate(prefix, 0).unwrap();
    domain.run(20 * SECOND);
    domain.assert_settled(1, 0);
    assert!(domain.anchored(1, 0).contains(&prefix));
    assert!(!domain.maars[0].state().yielded.contains_key(&prefix));

    domain.detach(1, 0, true);
    domain.run(60 * SECOND);
    for index in 0..3 {
        let state = domain.maars[index].state();
        assert_eq!(
            (state.nodes.len(), state.yielded.len()),
            (0, 0),
            "maar{}",
            index + 1
        );
    }
    assert!(domain.cmd.state().releases.is_empty());
    assert!(domain.cmd.state().bindings.is_empty());
}

#[test]
fn what_cannot_be_relocated_is_refused_with_the_reason() {
    let mut domain = moved();
    let prefix = domain.prefix(1, 0);
    let unknown = "2001:db8:777::/64".parse().unwrap();
    assert_eq!(
        domain.relocate(unknown, 1),
        Err(RelocationError::UnknownPrefix(unknown))
    );
    let anchor = maar_address(0);
    assert_eq!(
        domain.relocate(prefix, 0),
        Err(RelocationError::Anchored { prefix, anchor })
    );
    let refused = domain.relocate(prefix, 2).unwrap_err().to_string();
    assert!(refused.contains("is served by 2001:db8:b::1"), "{refused}");
    domain.relocate(prefix, 1).unwrap();
    let to = maar_address(1);
    assert_eq!(
        domain.relocate(prefix, 1),
        Err(RelocationError::UnderWay { prefix, to })
    );
    domain.detach(1, 1, true);
    domain.run(SECOND);
    let second = domain.prefix_of_binding(1);
    assert!(domain.relocate(second, 1).is_err());
}

#[test]
fn a_maar_that_announces_nothing_takes_nothing() {
    let mut domain = Domain::new();
    domain.attach(1, 0);
    domain.run(SECOND);
    domain.attach(1, 1);
    domain.run(SECOND);
    let prefix = domain.prefix(1, 0);
    domain.relocate(prefix, 1).unwrap();
    domain.run(SECOND);
    assert!(matches!(&domain.outcomes[0].1, Outcome::Failed { why, .. } if why.contains("129")));
    domain.assert_settled(1, 1);
}

#[test]
fn a_new_anchor_that_is_silent_changes_nothing() {
    let mut domain = moved();
    let prefix = domain.prefix(1, 0);
    domain.lost = Box::new(|| true);
    domain.relocate(prefix, 1).unwrap();
    domain.run(60 * SECOND);
    assert!(matches!(&domain.outcomes[0].1, Outcome::Failed { why, .. } if why.contains("does not answer")));
    domain.lost = Box::new(|| false);
    domain.run(60 * SECOND);
    domain.assert_settled(1, 1);
    assert_eq!(domain.anchored(1, 0), [prefix]);
}

#[test]
fn a_node_that_moves_meanwhile_leaves_the_prefix_where_it_was() {
    for wait in [1, 5, 7, 10, 14, 20, 40] {
        let mut domain = moved();
        let prefix = domain.prefix(1, 0);
        domain.relocate(prefix, 1).unwrap();
        domain.run(wait * MS);
        domain.attach(1, 2);
        domain.run(60 * SECOND);
        domain.assert_settled(1, 2);
        let there = (0..2).filter(|index| domain.anchored(1, *index).contains(&prefix));
        assert_eq!(there.count(), 1, "after {wait} ms");
    }
}

#[test]
fn what_lasts_is_relocated_by_policy() {
    let mut domain = Domain::new();
    domain.announce();
    let cmd = domain.cmd_config.cmd.as_mut().unwrap();
    cmd.relocate_after_s = 30;
    domain.kill(address(CMD));
    domain.attach(1, 0);
    domain.run(SECOND);
    domain.attach(1, 1);
    domain.run(29 * SECOND);
    let prefix = domain.prefix(1, 0);
    assert_eq!(domain.anchored(1, 0), [prefix]);
    domain.run(4 * SECOND);
    domain.assert_settled(1, 1);
    assert_eq!(domain.anchored(1, 1), [domain.prefix(1, 1), prefix]);
}

#[test]
fn a_maar_is_drained_as_its_nodes_go() {
    let mut domain = Domain::new();
    domain.announce();
    for number in 1..=4 {
        domain.attach(number, 0);
        domain.run(SECOND);
    }
    for number in 1..=3 {
        domain.attach(number, 1);
        domain.run(SECOND);
    }
    let now = domain.now;
    let outputs = domain.cmd.drain(maar_address(0), now).unwrap();
    let progress = domain.cmd.drain_progress(maar_address(0)).unwrap();
    assert_eq!(
        (progress.to_relocate, progress.under_way, progress.attached),
        (3, 3, 1)
    );
    domain.cmd_outputs(outputs);
    domain.run(SECOND);
    let progress = domain.cmd.drain_progress(maar_address(0)).unwrap();
    assert_eq!(
        (progress.to_relocate, progress.under_way, progress.attached),
        (0, 0, 1)
    );
    // A restart does not stop it; the last node takes its prefix along when it goes.
    domain.store(address(CMD));
    domain.kill(address(CMD));
    domain.attach(4, 2);
    domain.run(20 * SECOND);
    let progress = domain.cmd.drain_progress(maar_address(0)).unwrap();
    assert_eq!(progress, cmd::DrainProgress::default());
    for number in 1..=4 {
        domain.assert_settled(number, if number == 4 { 2 } else { 1 });
        assert_eq!(domain.phase(number, 0), None);
    }
    let stopped = domain.cmd.stop_draining(maar_address(0)).unwrap();
    domain.cmd_outputs(stopped);
    assert_eq!(domain.cmd.drain_progress(maar_address(0)), None);
    assert!(domain.cmd.drain(address("2001:db8:777::1"), now).is_err());
}

#[test]
fn what_a_node_uses_no_more_goes_home() {
    let mut domain = moved();
    let prefix = domain.prefix(1, 0);
    domain.relocate(prefix, 1).unwrap();
    domain.run(30 * SECOND);
    // While it is used it stays; the newest is not an older one.
    let newest = domain.prefix(1, 1);
    domain.maar_input(1, maar::Input::Unused(newest));
    domain.run(SECOND);
    assert_eq!(domain.anchored(1, 1), [newest, prefix]);
    assert!(domain.maars[0].state().yielded.contains_key(&prefix));

    domain.maar_input(1, maar::Input::Unused(prefix));
    domain.run(SECOND);
    domain.assert_settled(1, 1);
    assert_eq!(domain.anchored(1, 1), [newest]);
    assert!(
        domain.maars[0].state().yielded.is_empty(),
        "it is at home again, and free"
    );
    assert!(domain.cmd.state().releases.is_empty());

    // One that is only tunnelled ends at its anchor.
    domain.attach(1, 2);
    domain.run(SECOND);
    domain.assert_settled(1, 2);
    domain.maar_input(2, maar::Input::Unused(newest));
    domain.run(SECOND);
    domain.assert_settled(1, 2);
    assert_eq!(domain.phase(1, 1), None);
    // The node is told that they have ended.
    let (heard, mut ended) = (&domain.heard[&node(1).0], domain.ended[&node(1).0].clone());
    ended.sort();
    assert_eq!((heard.len(), ended), (3, vec![prefix, newest]));
}

#[test]
fn a_relocated_prefix_is_announced_though_the_anchor_s_own_has_gone_on() {
    let mut domain = moved();
    let (first, second) = (domain.prefix(1, 0), domain.prefix(1, 1));
    domain.relocate(first, 1).unwrap();
    domain.run(30 * SECOND);
    domain.attach(1, 2);
    domain.run(SECOND);
    // What maar2 gave the node goes on, what was relocated there stays.
    domain.relocate(second, 2).unwrap();
    domain.run(30 * SECOND);
    domain.assert_settled(1, 2);
    assert_eq!(domain.anchored(1, 1), [first]);
    let announcing = maar_config(1, PLAIN);
    let text = "[announce]\ndaemon = \"gobgp\"\nwhat = \"pools\"\n";
    let announce = Config::parse(&format!("{}\n{text}", maar_text(1, PLAIN)), "test")
        .unwrap()
        .announce;
    let config = Config {
        announce,
        ..announcing
    };
    let routes = announce::desired(&config, domain.maars[1].state());
    assert!(routes.contains_key(&first), "{routes:?}");
    assert!(!routes.contains_key(&second));
}

/// The same with data planes that count.
fn counting() -> Domain {
    let mut domain = Domain::new();
    domain.announce();
    domain.counting = Some(Counting::new());
    domain.attach(1, 0);
    domain.run(20 * SECOND);
    domain.attach(1, 1);
    domain.run(20 * SECOND);
    domain
}

fn carried(domain: &Domain, index: usize, key: &Key) -> u64 {
    let charging = &domain.maars[index].state().charging;
    charging.prefixes.get(&key.0).map_or(0, |charged| match &key.1 {
        None => charged.all.carried.to_packets,
        Some(name) => charged.filters[name].counted.carried.to_packets,
    })
}

#[test]
fn what_was_counted_goes_with_the_prefix() {
    let mut domain = counting();
    let prefix = domain.prefix(1, 0);
    let key = (prefix, None);
    // Counted where the node is, as long as it is anchored elsewhere.
    let before = domain.maars[0].state().charging.prefixes[&prefix].all.total();
    assert!(before.to_packets > 0);
    assert!(
        domain.maars[1].state().charging.prefixes[&prefix]
            .all
            .here
            .to_packets
            > 0
    );
    domain.relocate(prefix, 1).unwrap();
    domain.run(30 * SECOND);
    domain.assert_settled(1, 1);
    assert!(!domain.maars[0].state().charging.prefixes.contains_key(&prefix));
    assert_eq!(carried(&domain, 1, &key), before.to_packets);
    assert_eq!(domain.records().count(), 0);
    domain.read_counters();
    assert_eq!(domain.charged(), domain.to_be_charged());
    // The node goes on: what was counted where it was is the anchor's to know.
    domain.attach(1, 2);
    domain.run(30 * SECOND);
    domain.attach(1, 0);
    domain.run(30 * SECOND);
    assert!(!domain.maars[2].state().charging.prefixes.contains_key(&prefix));
    domain.read_counters();
    assert_eq!(domain.charged(), domain.to_be_charged());
    assert!(carried(&domain, 1, &key) > before.to_packets);
    // And what is left at the end is told.
    domain.detach(1, 0, true);
    domain.run(60 * SECOND);
    let counting = domain.counting.as_ref().unwrap();
    assert_eq!(counting.closed, domain.to_be_charged());
    for maar in &domain.maars {
        assert!(maar.state().charging.prefixes.is_empty());
    }
}

#[test]
fn what_a_dead_data_plane_had_told_is_not_lost() {
    let mut domain = counting();
    let prefix = domain.prefix(1, 0);
    domain.run(3 * SECOND);
    domain.kill_dataplane(0);
    domain.kill_dataplane(1);
    domain.relocate(prefix, 1).unwrap();
    domain.run(30 * SECOND);
    domain.read_counters();
    assert_eq!(domain.charged(), domain.to_be_charged());
    assert!(domain.counting.as_ref().unwrap().lost.values().sum::<u64>() > 0);
    assert_eq!(domain.maars[1].counters().get("charging_periods_lost"), 1);
}

/// A domain in which the first MAAR has a meter and a filter of node 1, and others may have meters.
fn with_filter(meters: [Option<Meter>; 3]) -> (Domain, ipnet::Ipv6Net) {
    let mut domain = counting();
    for (index, meter) in meters.into_iter().enumerate() {
        domain.configs[index].meters.extend(meter);
    }
    domain.announce();
    domain.maar_input(0, maar::Input::PutFilter(filter(WEB)));
    // What is held is held where it is: it goes nowhere.
    let hold =
        "name = \"call\"\naction = \"hold\"\nnode = \"mn1@example.net\"\nprotocol = \"udp\"\nlifetime = 600";
    domain.maar_input(0, maar::Input::PutFilter(filter(hold)));
    domain.run(20 * SECOND);
    let prefix = domain.prefix(1, 0);
    domain.relocate(prefix, 1).unwrap();
    domain.run(30 * SECOND);
    domain.assert_settled(1, 1);
    assert_eq!(domain.records().count(), 0);
    (domain, prefix)
}

#[test]
fn a_filter_goes_with_the_prefix_and_takes_its_meter_along() {
    let (mut domain, prefix) = with_filter([Some(gold(1_000_000)), None, None]);
    let filters: Vec<_> = domain.tables(1).filters.into_values().collect();
    let [filter] = &filters[..] else {
        panic!("{filters:?}")
    };
    assert_eq!((filter.scope, filter.idle_timeout), (Some(prefix), 600));
    assert!((970..1000).contains(&filter.lifetime), "{}", filter.lifetime);
    let meters = domain.tables(1).meters;
    assert_eq!(meters.len(), 1);
    assert!(domain.tables(0).filters.is_empty());
    // Its rule is for that prefix alone, and goes on with it.
    domain.attach(1, 2);
    domain.run(20 * SECOND);
    domain.relocate(prefix, 2).unwrap();
    domain.run(30 * SECOND);
    assert!(domain.maars[1].state().filters.is_empty());
    assert!(domain.maars[1].state().meters.is_empty());
    assert_eq!(domain.tables(2).filters.len(), 1);
    domain.read_counters();
    assert_eq!(domain.charged(), domain.to_be_charged());
    assert!(carried(&domain, 2, &(prefix, Some("web".to_owned()))) > 0);
    // A prefix that ends has no filter.
    domain.maar_input(2, maar::Input::Unused(prefix));
    domain.run(30 * SECOND);
    assert!(domain.maars[2].state().filters.is_empty());
    assert!(domain.maars[2].state().meters.is_empty());
}

#[test]
fn a_filter_that_would_be_another_one_does_not_come() {
    let (domain, _) = with_filter([Some(gold(1_000_000)), Some(gold(500_000)), None]);
    assert_eq!(domain.maars[1].counters().get("filters_not_moved"), 1);
    assert!(domain.tables(1).filters.is_empty());
    assert!(domain.maars[1].state().meters.is_empty());
    let (domain, _) = with_filter([Some(gold(1_000_000)), Some(gold(1_000_000)), None]);
    assert_eq!(domain.tables(1).filters.len(), 1);
    assert!(
        domain.maars[1].state().meters.is_empty(),
        "the configuration has it"
    );
}
