//! Filter rules in a domain in virtual time: what they come to at each MAAR while a node moves.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod domain_support;

use std::time::Duration;

use domain_support::*;
use kedge_config::{Config, FilterRule};
use kedge_controlplane::maar;
use kedge_dataplane_api::model::{FilterAction, MeterRates, Yellow};

const SECOND: Duration = Duration::from_secs(1);

const RULES: &str = r#"
    [[meter]]
    name = "gold"
    cir_bits_per_second = 8000
    cbs_bytes = 2000
    pir_bits_per_second = 16000
    pbs_bytes = 4000
    yellow_dscp = 10
    [[filter]]
    name = "rate"
    action = "node-meter"
    meter = "gold"
    [[filter]]
    name = "web"
    action = "local-breakout"
    direction = "from-node"
    protocol = "tcp"
    destination_ports = 443
    [[filter]]
    name = "guard"
    applies_to = "domain"
    action = "drop"
    protocol = "udp"
    destination_ports = "19"
"#;

/// A domain whose MAARs have these rules.
fn domain() -> Domain {
    let mut domain = Domain::new();
    let rules = format!("{}{RULES}", include_str!("../../config/examples/maar.toml"));
    let before = rules.find("[[meter]]").unwrap();
    let after = rules.find("[timers]").unwrap();
    // The example has rules of its own.
    let rules = format!("{}{}", &rules[..before], &rules[after..]);
    let rules = Config::parse(&rules, "rules").unwrap();
    for config in &mut domain.configs {
        config.filters = rules.filters.clone();
        config.meters = rules.meters.clone();
    }
    domain
}

#[test]
fn rules_follow_a_node_and_keep_their_ids() {
    let mut domain = domain();
    domain.attach(1, 0);
    domain.run(SECOND);
    let first = domain.tables(0);
    let home = domain.prefix(1, 0);
    assert_eq!(first.filters.len(), 3);
    let of_home: Vec<_> = first
        .filters
        .values()
        .filter(|it| it.scope == Some(home))
        .collect();
    assert_eq!(of_home.len(), 2);
    assert_eq!(first.meters.len(), 1);
    let (id, meter) = first.meters.first_key_value().unwrap();
    assert_eq!(meter.yellow, Yellow::Mark(10));
    assert_eq!(
        meter.rates,
        MeterRates::Rfc2698 {
            cir: 1000,
            cbs: 2000,
            pir: 2000,
            pbs: 4000
        }
    );
    assert!(of_home.iter().any(|it| it.action == FilterAction::NodeMeter(*id)));

    domain.attach(1, 1);
    domain.run(SECOND);
    let (anchor, serving) = (domain.tables(0), domain.tables(1));
    assert_eq!(
        anchor.filters, first.filters,
        "the same ids: counters and buckets go on"
    );
    // One for each of its two prefixes, and both are metered together.
    assert_eq!(serving.filters.len(), 5);
    assert_eq!(serving.meters, first.meters);

    domain.restart();
    assert_eq!(domain.tables(0).filters, anchor.filters);
    domain.detach(1, 1, true);
    domain.run(10 * SECOND);
    assert_eq!(domain.tables(1).filters.len(), 1, "that of the domain stays");
}

#[test]
fn a_flow_goes_into_a_tunnel_while_there_is_one() {
    let mut domain = domain();
    let rule: FilterRule = toml::from_str(&format!(
        "name = \"there\"\naction = \"tunnel\"\nmaar = \"{}\"\nnode = \"{}\"",
        maar_address(0),
        node(1).0
    ))
    .unwrap();
    domain.maar_input(1, maar::Input::PutFilter(rule));
    domain.attach(1, 1);
    domain.attach(2, 1);
    domain.run(SECOND);
    let tunnels = |domain: &Domain| {
        let filters = domain.tables(1).filters;
        filters
            .values()
            .filter_map(|it| it.action.tunnel())
            .collect::<Vec<_>>()
    };
    assert!(tunnels(&domain).is_empty());
    domain.attach(1, 0);
    domain.run(SECOND);
    domain.attach(1, 1);
    domain.run(SECOND);
    let found = tunnels(&domain);
    assert_eq!(found.len(), 2, "of both prefixes of node 1, and none of node 2");
    let tables = domain.tables(1);
    assert!(
        found
            .iter()
            .all(|id| tables.tunnels[id].remote == maar_address(0))
    );
    domain.maar_input(1, maar::Input::DeleteFilter("there".to_owned()));
    assert!(tunnels(&domain).is_empty());
}

#[test]
fn a_rule_goes_when_all_that_it_came_to_is_no_longer_needed() {
    let mut domain = domain();
    let text = "name = \"call\"\naction = \"local-breakout\"\nidle_timeout = 3";
    domain.maar_input(1, maar::Input::PutFilter(toml::from_str(text).unwrap()));
    domain.attach(1, 0);
    domain.run(SECOND);
    domain.attach(1, 1);
    domain.run(SECOND);
    let ids = |domain: &Domain| {
        let filters = domain.tables(1).filters.into_iter();
        let timed = filters.filter(|(_, it)| it.idle_timeout == 3);
        timed.map(|(id, _)| id).collect::<Vec<_>>()
    };
    let both = ids(&domain);
    assert_eq!(both.len(), 2);
    domain.maar_input(1, maar::Input::FilterExpired(both[0]));
    assert_eq!(ids(&domain), [both[1]], "the other prefix still has it");
    domain.maar_input(1, maar::Input::FilterExpired(77));
    domain.maar_input(1, maar::Input::FilterExpired(both[1]));
    assert!(ids(&domain).is_empty());
    let state = domain.maars[1].state();
    assert!(state.filters.is_empty() && state.expired_filters.is_empty());
}
