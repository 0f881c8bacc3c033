//! What the data plane has no room for, in a domain in virtual time.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod domain_support;

use std::collections::BTreeSet;
use std::time::Duration;

use domain_support::*;
use kedge_config::{Config, Dataplane};
use kedge_controlplane::forwarding::{Derived, Limit};
use kedge_controlplane::maar;
use kedge_dataplane_api::model::{DiscardReason, NextHop, Sender, SourcePath, Tables};
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);

const RULES: &str = r#"
    [[meter]]
    name = "gold"
    cir_bits_per_second = 8000
    cbs_bytes = 2000
    pir_bits_per_second = 16000
    pbs_bytes = 4000
    [[filter]]
    name = "rate"
    action = "node-meter"
    meter = "gold"
    [[filter]]
    name = "web"
    action = "drop"
    protocol = "tcp"
    [[filter]]
    name = "guard"
    applies_to = "domain"
    action = "drop"
    protocol = "udp"
"#;

fn domain(tunnel: &str) -> Domain {
    let mut domain = Domain::with_tunnels([tunnel; 3], tunnel);
    let text = format!("{}{RULES}", maar_text(0, tunnel));
    let rules = Config::parse(&text, "rules").unwrap();
    for config in &mut domain.configs {
        config.filters = rules.filters.clone();
        config.meters = rules.meters.clone();
    }
    domain
}

fn limit(domain: &mut Domain, index: usize, change: impl FnOnce(&mut Dataplane)) {
    change(domain.configs[index].dataplane.as_mut().unwrap());
}

fn tunnels_of(next_hop: &NextHop) -> Vec<u32> {
    match next_hop {
        NextHop::Tunnel(id) => vec![*id],
        NextHop::After { tunnel, then, .. } => [vec![*tunnel], tunnels_of(then)].concat(),
        _ => Vec::new(),
    }
}

/// Every tunnel and meter that the tables name.
fn named(tables: &Tables) -> (BTreeSet<u32>, BTreeSet<u64>) {
    let mut tunnels = BTreeSet::new();
    for entry in tables.prefixes.values() {
        tunnels.extend(tunnels_of(&entry.next_hop));
        if let Some(source) = &entry.source {
            tunnels.extend(match source.sender {
                Sender::Tunnel(id) => Some(id),
                Sender::Node { .. } => None,
            });
            tunnels.extend(match source.path {
                SourcePath::Tunnel(id) => Some(id),
                SourcePath::Native => None,
            });
        }
    }
    for filter in tables.filters.values() {
        tunnels.extend(filter.action.tunnel());
        tunnels.extend(filter.except_tunnel);
    }
    let meters = tables.filters.values().filter_map(|it| it.action.meter());
    (tunnels, meters.collect())
}

/// The data plane would take them: it has room, and nothing is named that is not there.
fn assert_taken(domain: &Domain, index: usize) -> Derived {
    let config = &domain.configs[index];
    let derived = domain.derived(index);
    let tables = &derived.tables;
    assert!(tables.filters.len() <= Limit::Filters.most(config));
    assert!(tables.meters.len() <= Limit::Meters.most(config));
    assert!(tables.tunnels.len() <= Limit::Tunnels.most(config));
    assert!(tables.prefixes.len() <= Limit::Prefixes.most(config));
    let (tunnels, meters) = named(tables);
    assert!(tunnels.iter().all(|id| tables.tunnels.contains_key(id)));
    assert!(meters.iter().all(|id| tables.meters.contains_key(id)));
    derived
}

#[test]
fn filters_that_there_is_no_room_for_are_counted() {
    let mut domain = domain(PLAIN);
    domain.attach(1, 0);
    domain.attach(2, 0);
    domain.run(SECOND);
    let all = assert_taken(&domain, 0);
    assert_eq!(all.tables.filters.len(), 5);
    assert!(Limit::ALL.iter().all(|limit| all.left_out.count(*limit) == 0));
    limit(&mut domain, 0, |it| it.maximum_filters = 3);
    let some = assert_taken(&domain, 0);
    assert_eq!(some.tables.filters.len(), 3);
    assert_eq!(some.left_out.count(Limit::Filters), 2);
    let of = |name| some.left_out.of_rule(name);
    assert_eq!((of("rate"), of("web"), of("guard")), (0, 1, 1));
    // It is what was there before, and one less leaves room for what was left out.
    let were = some
        .tables
        .filters
        .iter()
        .all(|(id, it)| all.tables.filters.get(id) == Some(it));
    assert!(were);
    domain.detach(2, 0, true);
    domain.run(10 * SECOND);
    let less = assert_taken(&domain, 0);
    assert_eq!(less.tables.filters.len(), 3);
    assert_eq!(less.left_out.count(Limit::Filters), 0);

    limit(&mut domain, 0, |it| it.maximum_domain_filters = 0);
    let less = assert_taken(&domain, 0);
    assert_eq!(less.tables.filters.len(), 2);
    assert_eq!(less.left_out.count(Limit::DomainFilters), 1);
}

#[test]
fn filters_of_one_prefix_are_counted() {
    let mut domain = domain(PLAIN);
    domain.attach(1, 0);
    domain.run(SECOND);
    for number in 0..64 {
        let text = format!("name = \"more{number:02}\"\naction = \"drop\"\nprotocol = {number}");
        domain.maar_input(0, maar::Input::PutFilter(toml::from_str(&text).unwrap()));
    }
    let derived = assert_taken(&domain, 0);
    assert_eq!(derived.tables.filters.len(), 65, "64, and that of the domain");
    assert_eq!(derived.left_out.count(Limit::FiltersOfAPrefix), 2);
    assert_eq!(derived.left_out.of_rule("more63"), 1);
}

#[test]
fn a_meter_that_there_is_no_room_for_takes_its_filters_along() {
    let mut domain = domain(PLAIN);
    for number in [1, 2, 3] {
        domain.attach(number, 0);
    }
    domain.run(SECOND);
    limit(&mut domain, 0, |it| it.maximum_meters = 1);
    let derived = assert_taken(&domain, 0);
    assert_eq!(derived.tables.meters.len(), 1);
    assert_eq!(derived.left_out.count(Limit::Meters), 2);
    assert_eq!(derived.left_out.of_rule("rate"), 2);
    // Only those.
    assert_eq!(derived.tables.filters.len(), 1 + 3 + 1);
}

#[test]
fn who_came_first_keeps_its_tunnel() {
    let mut domain = domain(GTPU);
    // Not in the order of their names.
    for number in [3, 1, 2] {
        domain.attach(number, 0);
        domain.run(SECOND);
        domain.attach(number, 1);
        domain.run(SECOND);
    }
    let all = domain.tables(0);
    assert_eq!(all.tunnels.len(), 3);
    limit(&mut domain, 0, |it| it.maximum_tunnels = 1);
    let derived = assert_taken(&domain, 0);
    assert_eq!(derived.left_out.count(Limit::Tunnels), 2);
    let entry = |tables: &Tables, number| tables.prefixes[&domain.prefix(number, 0)].clone();
    assert_eq!(entry(&derived.tables, 3), entry(&all, 3));
    for number in [1, 2] {
        let nowhere = NextHop::Discard(DiscardReason::NodeAbsent);
        assert_eq!(entry(&derived.tables, number).next_hop, nowhere);
        assert_eq!(entry(&derived.tables, number).source, None);
    }
}

#[test]
fn prefixes_of_nodes_that_there_is_no_room_for_are_left_out() {
    let mut domain = domain(PLAIN);
    let ground = domain.tables(0).prefixes.len();
    for number in [3, 1, 2] {
        domain.attach(number, 0);
        domain.run(SECOND);
    }
    let all = domain.derived(0);
    assert_eq!(all.tables.prefixes.len(), ground + 3);
    let most = u32::try_from(ground + 2).unwrap();
    limit(&mut domain, 0, |it| it.maximum_prefixes = most);
    let some = assert_taken(&domain, 0);
    assert_eq!(some.left_out.count(Limit::Prefixes), 1);
    // Who came last, with the filters of its prefix.
    let has = |number| some.tables.prefixes.contains_key(&domain.prefix(number, 0));
    assert_eq!([3, 1, 2].map(has), [true, true, false]);
    let last = domain.prefix(2, 0);
    assert!(some.tables.filters.values().all(|it| it.scope != Some(last)));
    assert_eq!(all.tables.filters.len() - some.tables.filters.len(), 2);
    // There is room again when another one goes.
    domain.detach(3, 0, true);
    domain.run(10 * SECOND);
    let less = assert_taken(&domain, 0);
    assert_eq!(less.left_out.count(Limit::Prefixes), 0);
    assert!(less.tables.prefixes.contains_key(&last));
    // What is no node's is there in any case.
    limit(&mut domain, 0, |it| it.maximum_prefixes = 1);
    let none = domain.derived(0);
    assert_eq!(
        (none.tables.prefixes.len(), none.left_out.count(Limit::Prefixes)),
        (ground, 2)
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever happens, and whatever the limits are: what is left out and what is there is what there would be without them.
    #[test]
    fn nothing_is_left_out_that_there_is_room_for(
        moves in prop::collection::vec((1u8..4, 0usize..3), 1..8),
        filters in 0u32..16,
        meters in 0u32..5,
        tunnels in 0u32..5,
        prefixes in 0usize..5,
    ) {
        let mut domain = domain(GTPU);
        let ground = domain.tables(0).prefixes.len();
        let rule = format!("name = \"there\"\naction = \"tunnel\"\nmaar = \"{}\"", maar_address(0));
        domain.maar_input(1, maar::Input::PutFilter(toml::from_str(&rule).unwrap()));
        for (number, index) in moves {
            domain.attach(number, index);
            domain.run(Duration::from_millis(700));
        }
        for index in 0..3 {
            let all = assert_taken(&domain, index);
            // Alone, each is just as full as it may be.
            limit(&mut domain, index, |it| it.maximum_tunnels = tunnels);
            let some = assert_taken(&domain, index);
            let most = all.tables.tunnels.len().min(tunnels as usize);
            prop_assert_eq!(some.tables.tunnels.len(), most);
            prop_assert_eq!(some.left_out.count(Limit::Tunnels), all.tables.tunnels.len() - most);
            prop_assert_eq!(some.tables.prefixes.len(), all.tables.prefixes.len());
            limit(&mut domain, index, |it| {
                (it.maximum_tunnels, it.maximum_filters) = (1 << 20, filters);
            });
            let some = assert_taken(&domain, index);
            let most = all.tables.filters.len().min(filters as usize);
            prop_assert_eq!(some.tables.filters.len(), most);
            prop_assert_eq!(some.left_out.count(Limit::Filters), all.tables.filters.len() - most);
            limit(&mut domain, index, |it| {
                (it.maximum_filters, it.maximum_meters) = (1 << 20, meters);
            });
            let some = assert_taken(&domain, index);
            let most = all.tables.meters.len().min(meters as usize);
            prop_assert_eq!(some.tables.meters.len(), most);
            prop_assert_eq!(some.left_out.count(Limit::Meters), all.tables.meters.len() - most);
            let most = ground + prefixes;
            limit(&mut domain, index, |it| {
                (it.maximum_meters, it.maximum_prefixes) = (1 << 20, u32::try_from(most).unwrap());
            });
            let some = assert_taken(&domain, index);
            let most = all.tables.prefixes.len().min(most);
            prop_assert_eq!(some.tables.prefixes.len(), most);
            prop_assert_eq!(some.left_out.count(Limit::Prefixes), all.tables.prefixes.len() - most);
            // And all at once.
            limit(&mut domain, index, |it| {
                (it.maximum_filters, it.maximum_tunnels, it.maximum_meters) = (filters, tunnels, meters);
            });
            assert_taken(&domain, index);
        }
    }
}
