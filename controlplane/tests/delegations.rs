//! A relocated prefix whose delegation to its new anchor has timed out goes home (RFC 8818 FM:3-3), in virtual time.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod domain_support;

use std::time::Duration;

use domain_support::*;
use ipnet::Ipv6Net;
use kedge_controlplane::maar;

const SECOND: Duration = Duration::from_secs(1);

/// Node 1, now at maar2, where its first prefix was relocated to.
fn relocated() -> (Domain, Ipv6Net) {
    let mut domain = Domain::new();
    domain.announce();
    for index in 0..2 {
        domain.attach(1, index);
        domain.run(SECOND);
    }
    let prefix = domain.prefix(1, 0);
    domain.relocate(prefix, 1).unwrap();
    domain.run(SECOND);
    assert!(domain.anchored(1, 1).contains(&prefix));
    (domain, prefix)
}

fn over(domain: &mut Domain, prefixes: &[Ipv6Net]) {
    over_at(domain, 1, prefixes);
}

fn over_at(domain: &mut Domain, index: usize, prefixes: &[Ipv6Net]) {
    let prefixes = prefixes.iter().copied().collect();
    domain.maar_input(index, maar::Input::DelegationsOver(prefixes));
}

fn assert_home(domain: &Domain, prefix: Ipv6Net) {
    assert_home_of(domain, prefix, 1);
}

fn assert_home_of(domain: &Domain, prefix: Ipv6Net, serving: usize) {
    domain.assert_settled(1, serving);
    assert_eq!(domain.ended[&node(1).0], [prefix]);
    for index in 0..3 {
        assert!(!domain.anchored(1, index).contains(&prefix), "at {index}");
        assert!(!domain.tables(index).prefixes.contains_key(&prefix), "at {index}");
    }
    assert_eq!(domain.maars[1].counters().get("delegations_over"), 1);
}

#[test]
fn a_prefix_whose_delegation_has_timed_out_goes_home() {
    let (mut domain, prefix) = relocated();
    over(&mut domain, &[prefix]);
    domain.run(SECOND);
    assert_home(&domain, prefix);
    // Said again, there is nothing to do; and the newest prefix was never asked for by name.
    let newest = domain.prefix(1, 1);
    over(&mut domain, &[prefix, newest]);
    domain.run(SECOND);
    assert_home(&domain, prefix);
    assert!(domain.anchored(1, 1).contains(&newest));
}

/// It goes when it can be said, though the CMD has said meanwhile that nothing else ends.
#[test]
fn it_goes_home_when_the_cmd_is_there_again() {
    let (mut domain, prefix) = relocated();
    domain.lost = Box::new(|| true);
    over(&mut domain, &[prefix]);
    domain.run(20 * SECOND);
    assert!(domain.anchored(1, 1).contains(&prefix));
    domain.lost = Box::new(|| false);
    domain.attach(1, 1);
    domain.run(20 * SECOND);
    assert_home(&domain, prefix);
}

/// As long as it is not it is asked less and less often; then at once.
#[test]
fn a_cmd_that_is_not_there_is_not_asked_without_end() {
    let (mut domain, prefix) = relocated();
    domain.lost = Box::new(|| true);
    let sent = |domain: &Domain| domain.maars[1].counters().get("updates_sent");
    let before = sent(&domain);
    over(&mut domain, &[prefix]);
    domain.run(SECOND);
    assert_eq!(sent(&domain) - before, 1);
    domain.run(14 * SECOND);
    assert_eq!(sent(&domain) - before, 4, "2, 4 and 8 s later");
    domain.run(150 * SECOND);
    assert_eq!(sent(&domain) - before, 9, "every 32 s at last");
    domain.lost = Box::new(|| false);
    domain.attach(1, 1);
    domain.run(4 * SECOND);
    assert_home(&domain, prefix);
}

/// Who is killed in between remembers it.
#[test]
fn it_goes_home_though_its_anchor_was_killed() {
    let (mut domain, prefix) = relocated();
    domain.lost = Box::new(|| true);
    over(&mut domain, &[prefix]);
    domain.run(SECOND / 2);
    let anchor = domain.configs[1].node.address;
    domain.kill(anchor);
    domain.run(SECOND);
    domain.lost = Box::new(|| false);
    domain.run(20 * SECOND);
    assert_eq!(domain.ended[&node(1).0], [prefix]);
    assert!(!domain.anchored(1, 1).contains(&prefix));
}

#[test]
fn one_that_is_delegated_again_in_time_stays() {
    let (mut domain, prefix) = relocated();
    domain.lost = Box::new(|| true);
    over(&mut domain, &[prefix]);
    domain.run(SECOND / 2);
    over(&mut domain, &[]);
    domain.run(10 * SECOND);
    domain.lost = Box::new(|| false);
    domain.run(20 * SECOND);
    domain.assert_settled(1, 1);
    assert!(domain.anchored(1, 1).contains(&prefix));
}

/// Who anchors it for a node that is elsewhere gives it up all the same, and who serves the node hears of it.
#[test]
fn it_goes_home_though_its_node_has_moved_on() {
    let (mut domain, prefix) = relocated();
    domain.attach(1, 2);
    domain.run(SECOND);
    domain.assert_settled(1, 2);
    assert!(domain.anchored(1, 1).contains(&prefix));
    domain.lost = Box::new(|| true);
    over(&mut domain, &[prefix]);
    domain.run(5 * SECOND);
    domain.lost = Box::new(|| false);
    domain.run(5 * SECOND);
    domain.attach(1, 2);
    domain.run(5 * SECOND);
    assert_home_of(&domain, prefix, 2);
}

fn until(domain: &mut Domain, index: usize, prefix: Ipv6Net, seconds: u32) {
    let end = domain.now.after(seconds * SECOND);
    domain.maar_input(index, maar::Input::DelegatedUntil([(prefix, end)].into()));
}

fn valid(domain: &Domain, prefix: Ipv6Net) -> u32 {
    domain.valid[&node(1).0][&prefix]
}

/// RFC 8415 section 18.2.10.1.
#[test]
fn a_node_is_told_no_more_than_what_is_left_of_the_lease() {
    let (mut domain, prefix) = relocated();
    let newest = domain.prefix(1, 1);
    let unlimited = valid(&domain, newest);
    assert_eq!(
        valid(&domain, prefix),
        unlimited,
        "no server has delegated it yet"
    );
    until(&mut domain, 1, prefix, 50);
    assert_eq!(valid(&domain, prefix), 50, "at once");
    assert_eq!(valid(&domain, newest), unlimited);
    // Renewed at half of its time, for long: it is always said again before what was said last is over.
    for _ in 0..10 {
        for _ in 0..25 {
            let said = valid(&domain, prefix);
            assert!((15..=50).contains(&said), "{said}");
            domain.run(SECOND);
        }
        until(&mut domain, 1, prefix, 50);
    }
    // It is shortened, and nobody renews it: what is left is said again and again.
    until(&mut domain, 1, prefix, 20);
    assert_eq!(valid(&domain, prefix), 20);
    domain.run(13 * SECOND);
    assert!((1..=8).contains(&valid(&domain, prefix)));
    domain.run(30 * SECOND);
    assert_eq!(valid(&domain, prefix), 0);
    // Who starts again remembers it.
    until(&mut domain, 1, prefix, 50);
    let anchor = domain.configs[1].node.address;
    domain.store(anchor);
    domain.kill(anchor);
    domain.attach(1, 1);
    domain.run(SECOND);
    let said = valid(&domain, prefix);
    assert!((48..=50).contains(&said), "{said}");
    // It has timed out, and nobody hears that it is to go home.
    domain.lost = Box::new(|| true);
    domain.maar_input(1, maar::Input::DelegatedUntil(Default::default()));
    over(&mut domain, &[prefix]);
    domain.run(61 * SECOND);
    assert_eq!(valid(&domain, prefix), 0);
    over(&mut domain, &[]);
    domain.lost = Box::new(|| false);
    // One that does not end.
    domain.maar_input(1, maar::Input::DelegatedUntil(Default::default()));
    domain.run(61 * SECOND);
    assert_eq!(valid(&domain, prefix), unlimited);
}

/// So is who is at a DPN of its anchor, which advertises.
#[test]
fn so_is_a_node_at_a_dpn() {
    let (mut domain, prefix) = relocated();
    until(&mut domain, 1, prefix, 50);
    let index = (0..).find(|index| dpns::dpa(*index) == 1).unwrap();
    domain.detach(1, 1, false);
    domain.attach_at_dpn(1, index);
    domain.run(SECOND);
    domain.assert_at_dpn(1, index);
    assert!((48..=50).contains(&valid(&domain, prefix)));
}

/// One that is of a pool of our own, and back, is nobody else's, whatever a server has of it.
#[test]
fn what_is_at_home_stays() {
    let (mut domain, prefix) = relocated();
    domain.attach(1, 0);
    domain.run(SECOND);
    domain.relocate(prefix, 0).unwrap();
    domain.run(SECOND);
    over_at(&mut domain, 0, &[prefix]);
    domain.run(5 * SECOND);
    domain.assert_settled(1, 0);
    assert!(domain.anchored(1, 0).contains(&prefix));
    assert_eq!(domain.maars[0].counters().get("delegations_over"), 0);
    until(&mut domain, 0, prefix, 5);
    domain.run(61 * SECOND);
    assert!(valid(&domain, prefix) > 5, "that is no lease");
}
