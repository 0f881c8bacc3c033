//! A whole domain in virtual time: one CMD, three MAARs, a network that delays,
//! loses and cuts, and nodes that move. No socket, no clock, no thread.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod domain_support;

use std::collections::BTreeMap;
use std::time::Duration;

use domain_support::*;
use kedge_controlplane::maar::{Maar, Phase};
use kedge_controlplane::time::Time;
use kedge_controlplane::{cmd, maar};
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_node_attaches_and_moves_round() {
    let mut domain = Domain::new();
    domain.attach(1, 0);
    domain.run(SECOND);
    domain.assert_settled(1, 0);
    let first = domain.prefix(1, 0);
    assert!(
        domain.tables(0).tunnels.is_empty(),
        "no tunnel at the first anchor"
    );

    domain.attach(1, 1);
    domain.run(SECOND);
    domain.assert_settled(1, 1);
    assert_eq!(
        domain.phase(1, 0),
        Some(Phase::Anchored {
            serving: maar_address(1)
        })
    );

    domain.attach(1, 2);
    domain.run(SECOND);
    domain.assert_settled(1, 2);
    assert_eq!(domain.heard[&node(1).0].len(), 3);

    // Back where it began: the first prefix is native again, and the same (choice G8).
    domain.attach(1, 0);
    domain.run(SECOND);
    domain.assert_settled(1, 0);
    assert_eq!(domain.prefix(1, 0), first);
    // Four PBU/PBA pairs with the CMD, and one for each P-MAAR of each move: 1 + 2 + 2.
    assert_eq!(domain.sent, 2 * (4 + 5));
}

#[test]
fn the_serving_maar_is_answered_before_the_previous_ones() {
    let mut domain = Domain::new();
    domain.attach(1, 0);
    domain.run(SECOND);
    domain.attach(1, 1);
    // One round trip with the CMD: 5 ms there, 5 ms back.
    domain.run(Duration::from_millis(10));
    assert_eq!(domain.phase(1, 1), Some(Phase::Attached));
}

#[test]
fn half_of_all_datagrams_are_lost() {
    let mut domain = Domain::new();
    // A fixed pseudo-random sequence: a regular one could hit the same message for ever.
    let mut seed = 1u32;
    domain.lost = Box::new(move || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        seed >> 31 == 1
    });
    for serving in [0, 1, 2, 0] {
        domain.attach(1, serving);
        domain.run(120 * SECOND);
        domain.assert_settled(1, serving);
    }
    assert!(
        domain
            .maars
            .iter()
            .any(|maar| maar.counters().get("updates_retransmitted") > 0)
    );
}

#[test]
fn an_absent_cmd_is_asked_with_growing_patience() {
    let mut domain = Domain::new();
    domain.lost = Box::new(|| true);
    domain.attach(1, 0);
    // 1, 3, 7, 15, 31, 63, then every 32 s (RFC 6275 section 11.8).
    for (second, sent) in [
        (0, 1),
        (1, 2),
        (3, 3),
        (7, 4),
        (15, 5),
        (31, 6),
        (63, 7),
        (95, 8),
        (127, 9),
    ] {
        let elapsed = domain.now.since(Time(Duration::from_secs(1_700_000_000)));
        domain.run(second * SECOND - elapsed);
        assert_eq!(domain.sent, sent, "after {second} s");
    }
    assert!(
        domain
            .tables(0)
            .prefixes
            .keys()
            .all(|prefix| prefix.prefix_len() < 64 || prefix.to_string().contains(":ca"))
    );
    assert!(
        domain.heard.is_empty(),
        "nothing is offered before the CMD has answered"
    );
}

#[test]
fn bindings_are_renewed_and_expire() {
    let mut domain = Domain::new();
    domain.attach(1, 0);
    domain.attach(2, 0);
    domain.run(SECOND);
    domain.attach(1, 1);
    domain.run(3600 * SECOND);
    domain.assert_settled(1, 1);
    domain.assert_settled(2, 0);

    // Node 1 leaves and stays away: the binding lifetime, then MinDelayBeforeBCEDelete, then nothing is left.
    domain.detach(1, 1, false);
    domain.run(SECOND);
    assert_eq!(domain.phase(1, 1), Some(Phase::Detached));
    assert!(
        domain.cmd.state().bindings.contains_key(&node(1).0),
        "a detachment ends no session"
    );
    domain.run(700 * SECOND);
    assert!(!domain.cmd.state().bindings.contains_key(&node(1).0));
    assert!(domain.cmd.state().releases.is_empty());
    for index in 0..3 {
        assert_eq!(domain.phase(1, index), None, "maar{}", index + 1);
        assert!(domain.tables(index).tunnels.is_empty());
    }
    domain.assert_settled(2, 0);
}

#[test]
fn a_detached_node_that_returns_is_served_at_once() {
    let mut domain = Domain::new();
    domain.attach(1, 0);
    domain.run(SECOND);
    domain.detach(1, 0, false);
    domain.run(SECOND);
    domain.attach(1, 0);
    assert_eq!(domain.phase(1, 0), Some(Phase::Attached));
    domain.run(SECOND);
    domain.assert_settled(1, 0);
}

#[test]
fn a_deregistered_session_can_be_revived_within_the_delay() {
    let mut domain = Domain::new();
    domain.attach(1, 0);
    domain.run(SECOND);
    domain.attach(1, 1);
    domain.run(SECOND);
    domain.detach(1, 1, true);
    domain.run(SECOND);
    assert_eq!(
        domain.cmd.state().bindings[&node(1).0].phase,
        cmd::BindingPhase::Deregistered
    );
    domain.attach(1, 2);
    domain.run(SECOND);
    // maar2 has forgotten its prefix and says so; maar1 still anchors the first one.
    assert_eq!(
        domain.phase(1, 0),
        Some(Phase::Anchored {
            serving: maar_address(2)
        })
    );
    assert_eq!(domain.cmd.counters().get("previous_updates_refused"), 1);
    let told = domain.cmd.state().bindings[&node(1).0].previous.iter();
    assert_eq!(
        told.filter(|it| it.phase == cmd::PreviousPhase::Confirmed)
            .count(),
        1
    );
}

#[test]
fn only_the_serving_maar_ends_a_session() {
    let mut domain = Domain::new();
    domain.attach(1, 0);
    domain.run(SECOND);
    domain.attach(1, 1);
    domain.run(SECOND);
    domain.detach(1, 0, true);
    domain.run(SECOND);
    assert_eq!(
        domain.maars[0]
            .counters()
            .get("deregistrations_refused_not_serving"),
        1
    );
    domain.assert_settled(1, 1);
}

#[test]
fn a_restart_of_everything_changes_nothing() {
    let mut domain = Domain::new();
    for serving in [0, 1, 2] {
        domain.attach(1, serving);
        domain.run(SECOND);
    }
    let before: Vec<_> = (0..3).map(|index| domain.tables(index)).collect();
    domain.restart();
    domain.run(SECOND);
    for (index, before) in before.iter().enumerate() {
        assert_eq!(&domain.tables(index), before);
    }
    domain.assert_settled(1, 2);
    domain.attach(1, 0);
    domain.run(SECOND);
    domain.assert_settled(1, 0);
}

/// A crash may lose the newest state; the next registrations put it right.
#[test]
fn a_cmd_that_forgot_a_move_believes_the_serving_maar() {
    let mut domain = Domain::new();
    domain.attach(1, 0);
    domain.run(SECOND);
    let stale = domain.cmd.state().clone();
    domain.attach(1, 1);
    domain.run(SECOND);
    domain.cmd = cmd::Cmd::new(
        cmd::Settings::from_config(&domain.cmd_config).unwrap(),
        stale,
        domain.now,
    );
    domain.run(400 * SECOND);
    domain.assert_settled(1, 1);
}

/// It need not wait for the next renewal: it asks, three times if it is not heard.
#[test]
fn a_cmd_that_has_started_asks_for_what_it_forgot() {
    for lost in [0, 1, 2] {
        let mut domain = Domain::new();
        for number in 1..=3 {
            domain.attach(number, 0);
        }
        domain.run(SECOND);
        let (of_maar_1, of_cmd) = (domain.maars[0].state().clone(), domain.cmd.state().clone());
        domain.attach(1, 1);
        domain.attach(2, 2);
        domain.run(SECOND);
        // MAAR 1 has forgotten it too, and says of all three that they are there, and so does another of one.
        let settings = maar::Settings::from_config(&domain.configs[0]).unwrap();
        domain.maars[0] = Maar::new(settings, of_maar_1, TEID_KEY, domain.now);
        domain.lost = Box::new(move || lost > 0);
        domain.start_cmd(of_cmd);
        domain.run(SECOND / 2);
        domain.lost = Box::new(move || lost > 1);
        domain.run(SECOND);
        domain.lost = Box::new(|| false);
        domain.run(5 * SECOND);
        for (number, serving) in [(1, 1), (2, 2), (3, 0)] {
            let binding = &domain.cmd.state().bindings[&node(number).0];
            assert_eq!(binding.serving, maar_address(serving));
            for index in 0..3 {
                let attached = domain.phase(number, index) == Some(Phase::Attached);
                assert_eq!(attached, index == serving, "{number} at maar{}", index + 1);
            }
        }
        assert_eq!(domain.maars[1].counters().get("notifications_received"), 3 - lost);
        assert_eq!(domain.maars[1].counters().get("notifications_repeated"), 2 - lost);
        assert_eq!(domain.cmd.counters().get("registrations_asked"), 9);
        // Until the nodes have heard from their routers again, too.
        domain.run(600 * SECOND);
        for (number, serving) in [(1, 1), (2, 2), (3, 0)] {
            domain.assert_settled(number, serving);
        }
    }
}

#[test]
fn a_maar_that_forgot_that_a_node_left_is_told_again() {
    let mut domain = Domain::new();
    domain.attach(1, 0);
    domain.run(SECOND);
    let stale = domain.maars[0].state().clone();
    domain.attach(1, 1);
    domain.run(SECOND);
    domain.maars[0] = Maar::new(
        maar::Settings::from_config(&domain.configs[0]).unwrap(),
        stale,
        TEID_KEY,
        domain.now,
    );
    domain.run(400 * SECOND);
    assert_eq!(
        domain.phase(1, 0),
        Some(Phase::Anchored {
            serving: maar_address(1)
        })
    );
    assert_eq!(domain.phase(1, 1), Some(Phase::Attached));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the moves and whatever is lost, the domain settles where the node was last.
    #[test]
    fn the_domain_settles(
        moves in prop::collection::vec((1u8..4, 0usize..3, 1u64..3000), 1..12),
        losses in prop::collection::vec(prop::bool::weighted(0.3), 1..40),
        tunnels in prop::array::uniform4(prop::sample::select(&[PLAIN, GTPU][..])),
    ) {
        let [a, b, c, cmd] = tunnels;
        let mut domain = Domain::with_tunnels([a, b, c], cmd);
        let mut losses = losses.into_iter().cycle();
        let mut budget = 9;
        domain.lost = Box::new(move || {
            let lost = budget > 0 && losses.next().unwrap_or(false);
            budget -= i32::from(lost);
            lost
        });
        let mut last = BTreeMap::new();
        for (number, serving, wait) in moves {
            if let Some(old) = last.insert(number, serving) && old != serving {
                domain.detach(number, old, false);
            }
            domain.attach(number, serving);
            domain.run(Duration::from_millis(wait));
        }
        domain.run(400 * SECOND);
        for (number, serving) in last {
            domain.assert_settled(number, serving);
        }
    }
}
