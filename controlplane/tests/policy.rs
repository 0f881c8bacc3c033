//! How much mobility nodes get by policy, in virtual time.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod domain_support;

use std::time::Duration;

use domain_support::*;
use kedge_controlplane::cmd::PolicyError;
use kedge_controlplane::maar;
use kedge_dataplane_api::model::{FilterAction, NextHop};

const SECOND: Duration = Duration::from_secs(1);

const NONE: &str = "name = \"calls\"\nnode = \"mn1@*\"\nmobility = \"none\"";

fn domain() -> Domain {
    let mut domain = Domain::new();
    domain.announce();
    domain
}

#[test]
fn a_node_without_mobility_has_a_new_prefix_only() {
    for detached in [true, false] {
        let mut domain = domain();
        domain.set_policy(NONE);
        for number in 1..3 {
            domain.attach(number, 0);
        }
        domain.run(SECOND);
        let (first, other) = (domain.prefix(1, 0), domain.prefix(2, 0));
        for number in 1..3 {
            if detached {
                domain.detach(number, 0, false);
            }
            domain.attach(number, 1);
        }
        domain.run(SECOND);
        domain.assert_settled(1, 1);
        assert_eq!(domain.phase(1, 0), None, "though its old MAAR has not seen it go");
        assert!(domain.cmd.state().bindings[&node(1).0].previous.is_empty());
        assert!(domain.cmd.state().releases.is_empty());
        // It is told so, again and again.
        assert_eq!(domain.ended[&node(1).0], [first]);
        domain.run(900 * SECOND);
        assert_eq!(domain.ended[&node(1).0], [first]);
        // The old one answers for it that there is nobody.
        let entry = domain.tables(0).prefixes.get(&first).cloned();
        assert_eq!(entry, None, "but for its pool");
        // Another node is not concerned.
        domain.assert_settled(2, 1);
        assert_eq!(domain.anchored(2, 0), [other]);
        assert!(matches!(
            domain.tables(0).prefixes[&other].next_hop,
            NextHop::Tunnel(_)
        ));
    }
}

#[test]
fn a_policy_that_changes_counts_from_the_next_move_on() {
    let mut domain = domain();
    domain.attach(1, 0);
    domain.run(SECOND);
    domain.attach(1, 1);
    domain.run(SECOND);
    let first = domain.prefix(1, 0);
    domain.set_policy(NONE);
    domain.run(10 * SECOND);
    domain.assert_settled(1, 1);
    assert_eq!(domain.anchored(1, 0), [first]);
    let second = domain.prefix(1, 1);
    domain.attach(1, 2);
    domain.run(SECOND);
    domain.assert_settled(1, 2);
    let mut ended = domain.ended[&node(1).0].clone();
    ended.sort();
    assert_eq!(ended, [first, second]);
    for index in 0..2 {
        assert_eq!(domain.phase(1, index), None);
    }
    // A prefix that it gets once more has not ended.
    let now = domain.now;
    let outputs = domain.cmd.remove_policy("calls", now).unwrap();
    domain.cmd_outputs(outputs);
    domain.attach(1, 0);
    domain.run(SECOND);
    domain.assert_settled(1, 0);
    assert_eq!(domain.anchored(1, 2).len(), 1, "tunnelled as others");
}

#[test]
fn what_was_relocated_ends_too_and_is_free_at_home() {
    let mut domain = domain();
    domain.attach(1, 0);
    domain.run(SECOND);
    domain.attach(1, 1);
    domain.run(SECOND);
    let first = domain.prefix(1, 0);
    domain.relocate(first, 1).unwrap();
    domain.run(20 * SECOND);
    assert!(domain.maars[0].state().yielded.contains_key(&first));
    domain.set_policy(NONE);
    domain.attach(1, 2);
    domain.run(SECOND);
    domain.assert_settled(1, 2);
    for index in 0..2 {
        assert!(domain.maars[index].state().nodes.is_empty());
        assert!(domain.maars[index].state().yielded.is_empty());
    }
}

#[test]
fn a_node_that_comes_back_before_its_old_maar_has_heard() {
    for wait in [1, 4, 6, 9, 11, 15, 25] {
        let mut domain = domain();
        domain.set_policy(NONE);
        domain.attach(1, 0);
        domain.run(SECOND);
        domain.attach(1, 1);
        domain.run(Duration::from_millis(wait));
        domain.attach(1, 0);
        domain.run(60 * SECOND);
        // A MAAR that was told to forget it a moment before it heard the answer hears of it again.
        domain.attach(1, 0);
        domain.run(60 * SECOND);
        domain.assert_settled(1, 0);
        assert_eq!(domain.phase(1, 1), None, "after {wait} ms");
    }
}

#[test]
fn relocations_by_policy_take_their_turn() {
    let mut domain = Domain::new();
    domain.cmd_config.cmd.as_mut().unwrap().maximum_relocations = 2;
    domain.kill(address(CMD));
    domain.announce();
    domain.set_policy("name = \"all\"\nmobility = \"relocate\"\nrelocate_after_s = 10");
    for number in 1..=6 {
        domain.attach(number, 0);
    }
    domain.run(SECOND);
    for number in 1..=6 {
        domain.attach(number, 1);
    }
    domain.run(9 * SECOND);
    assert!(domain.cmd.state().relocations.is_empty());
    let mut most = 0;
    for _ in 0..4000 {
        domain.run(Duration::from_millis(1));
        let taking = domain.cmd.state().relocations.values();
        most = most.max(
            taking
                .filter(|it| it.phase == kedge_controlplane::cmd::RelocationPhase::Taking)
                .count(),
        );
        // A restart does not lose those that wait.
        if most == 2 && domain.outcomes.is_empty() {
            domain.store(address(CMD));
            domain.kill(address(CMD));
        }
    }
    assert_eq!(most, 2);
    domain.run(20 * SECOND);
    for number in 1..=6 {
        domain.assert_settled(number, 1);
        assert_eq!(domain.anchored(number, 1).len(), 2);
    }
}

#[test]
fn a_detour_that_carries_much_is_ended_when_its_maar_says_so() {
    let mut domain = domain();
    domain.set_policy("name = \"much\"\nmobility = \"relocate\"\nrelocate_after_octets = 1000");
    domain.attach(1, 0);
    domain.run(SECOND);
    domain.attach(1, 1);
    domain.run(300 * SECOND);
    let first = domain.prefix(1, 0);
    assert_eq!(domain.anchored(1, 0), [first], "its age is not asked");
    let limits = |domain: &Domain, index: usize| {
        let node = &domain.maars[index].state().nodes[&node(1).0];
        node.detour_limits.clone().into_iter().collect::<Vec<_>>()
    };
    assert_eq!(limits(&domain, 1), [(first, 1000)]);
    domain.maar_input(1, maar::Input::LongDetour(first));
    domain.run(20 * SECOND);
    domain.assert_settled(1, 1);
    assert!(domain.anchored(1, 1).contains(&first));
    // One that a rule leaves where it is stays, whatever a MAAR says; without a rule a MAAR's filter counts.
    domain.set_policy("name = \"much\"\nmobility = \"tunnel\"");
    let second = domain.prefix(1, 1);
    domain.attach(1, 2);
    domain.run(SECOND);
    assert_eq!(limits(&domain, 2), []);
    domain.maar_input(2, maar::Input::LongDetour(second));
    domain.run(20 * SECOND);
    assert!(domain.anchored(1, 1).contains(&second));
    assert_eq!(domain.maars[2].counters().get("detours_not_ended"), 1);
    let now = domain.now;
    domain.cmd.remove_policy("much", now).unwrap();
    domain.maar_input(2, maar::Input::LongDetour(second));
    domain.run(20 * SECOND);
    domain.assert_settled(1, 2);
    assert!(domain.anchored(1, 2).contains(&second));
}

#[test]
fn policies_that_cannot_be_changed_are_refused() {
    let mut domain = Domain::new();
    domain.cmd_config.policies = vec![toml::from_str(NONE).unwrap()];
    domain.kill(address(CMD));
    let now = domain.now;
    let rule = |text: &str| toml::from_str(text).unwrap();
    let configured = PolicyError::Configured("calls".to_owned());
    assert_eq!(domain.cmd.put_policy(rule(NONE), now).unwrap_err(), configured);
    assert_eq!(domain.cmd.remove_policy("calls", now).unwrap_err(), configured);
    let unknown = PolicyError::Unknown("x".to_owned());
    assert_eq!(domain.cmd.remove_policy("x", now).unwrap_err(), unknown);
    let bad = rule("name = \"a\"\nmobility = \"tunnel\"\nrelocate_after_s = 1");
    let refused = domain.cmd.put_policy(bad, now).unwrap_err().to_string();
    assert!(refused.contains("policy.relocate_after_s = 1"), "{refused}");
    // The lowest number comes first, then the name.
    domain.set_policy("name = \"b\"\nmobility = \"tunnel\"");
    domain.set_policy("name = \"a\"\nmobility = \"tunnel\"\npriority = 2000");
    let names: Vec<_> = domain
        .cmd
        .policies()
        .map(|(rule, configured)| (rule.name.clone(), configured))
        .collect();
    let expected = [("b", false), ("calls", true), ("a", false)];
    assert_eq!(
        names,
        expected.map(|(name, configured)| (name.to_owned(), configured))
    );
}

#[test]
fn flows_that_need_no_mobility_end_at_both_ends_of_the_tunnel() {
    let mut domain = domain();
    let text = "name = \"dns\"\naction = \"no-mobility\"\nprotocol = \"udp\"\ndestination_ports = 53";
    for config in &mut domain.configs {
        config.filters = vec![toml::from_str(text).unwrap()];
    }
    domain.attach(1, 0);
    domain.run(SECOND);
    let first = domain.prefix(1, 0);
    let action = |domain: &Domain, index: usize, prefix| {
        let tables = domain.tables(index);
        let mut filters = tables.filters.values().filter(|it| it.scope == Some(prefix));
        filters.next().map(|it| it.action)
    };
    assert_eq!(action(&domain, 0, first), Some(FilterAction::Anchor));
    domain.attach(1, 1);
    domain.run(SECOND);
    assert_eq!(action(&domain, 0, first), Some(FilterAction::Drop));
    assert_eq!(action(&domain, 1, first), Some(FilterAction::Drop));
    assert_eq!(
        action(&domain, 1, domain.prefix(1, 1)),
        Some(FilterAction::Anchor)
    );
}

#[test]
fn a_prefix_that_is_replaced_ends_in_its_time() {
    for relocated in [false, true] {
        let mut domain = domain();
        domain.set_policy("name = \"graceful\"\nmobility = \"tunnel\"\nend_after_s = 500");
        domain.attach(1, 0);
        domain.run(1000 * SECOND);
        let first = domain.prefix(1, 0);
        domain.attach(1, 1);
        domain.run(SECOND);
        domain.assert_settled(1, 1);
        if relocated {
            domain.relocate(first, 1).unwrap();
        }
        domain.run(200 * SECOND);
        // The time runs from when it left it first, wherever it is now.
        let second = domain.prefix(1, 1);
        domain.attach(1, 2);
        domain.run(200 * SECOND);
        domain.assert_settled(1, 2);
        let valid = |domain: &Domain, prefix| domain.valid[&node(1).0].get(&prefix).copied();
        assert!(
            (60..=160).contains(&valid(&domain, first).unwrap()),
            "{:?}",
            domain.valid
        );
        domain.run(98 * SECOND);
        assert!(domain.ended[&node(1).0].is_empty());
        domain.run(3 * SECOND);
        domain.assert_settled(1, 2);
        assert_eq!(domain.ended[&node(1).0], [first]);
        assert!((0..3).all(|index| !domain.anchored(1, index).contains(&first)));
        assert!(domain.anchored(1, 1).contains(&second));
        // Even where the first word of it is lost.
        domain.lost = Box::new(|| true);
        domain.run(202 * SECOND);
        domain.lost = Box::new(|| false);
        domain.run(60 * SECOND);
        domain.assert_settled(1, 2);
        assert!((0..3).all(|index| !domain.anchored(1, index).contains(&second)));
    }
}
