//! Networks behind nodes that are routers, in virtual time.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod domain_support;

use std::time::Duration;

use domain_support::*;
use kedge_controlplane::delegation::wire::{MessageType, status};
use kedge_dataplane_api::model::{NextHop, SourcePath};

const SECOND: Duration = Duration::from_secs(1);

/// Node 1 at maar1, with a network behind it.
fn with_network(tunnel: &str) -> Domain {
    let mut domain = Domain::with_tunnels([tunnel; 3], tunnel);
    domain.announce();
    domain.attach(1, 0);
    domain.run(SECOND);
    domain.router(1, 0, MessageType::Solicit);
    domain.run(SECOND);
    domain
}

#[test]
fn a_router_gets_a_prefix_when_the_cmd_knows_of_it() {
    let mut domain = Domain::new();
    domain.attach(1, 0);
    domain.run(SECOND);
    domain.router(1, 0, MessageType::Solicit);
    assert!(domain.replies.is_empty());
    domain.run(SECOND);
    let [(1, reply)] = &domain.replies[..] else {
        panic!("{:?}", domain.replies)
    };
    assert_eq!(
        (reply.message_type, reply.rapid_commit),
        (MessageType::Reply, true)
    );
    let association = &reply.delegations[0];
    let delegated = &association.prefixes[0];
    assert_eq!((association.iaid, association.t1, association.t2), (1, 900, 1440));
    assert_eq!((delegated.preferred, delegated.valid), (1800, 3600));
    let network = delegated.prefix;
    assert_eq!(network.to_string(), "2001:db8:f100::/56");
    let home = domain.prefix(1, 0);
    assert_eq!(domain.anchored(1, 0), [home, network]);
    // To the node itself, and from it.
    let entry = &domain.tables(0).prefixes[&network];
    assert!(matches!(entry.next_hop, NextHop::Deliver { .. }));
    assert_eq!(entry.source.as_ref().unwrap().path, SourcePath::Native);
    // It is no link of its.
    assert_eq!(domain.heard[&node(1).0].keys().collect::<Vec<_>>(), [&home]);
    domain.assert_settled(1, 0);
    // Asked again it has the same.
    domain.router(1, 0, MessageType::Request);
    domain.router(1, 0, MessageType::Renew);
    assert_eq!(domain.replies.len(), 3);
    let has = |at: usize| domain.replies[at].1.delegations[0].prefixes[0].prefix;
    assert_eq!((has(1), has(2)), (network, network));
}

#[test]
fn a_network_moves_with_its_router() {
    for tunnel in [PLAIN, GTPU, GRE] {
        let mut domain = with_network(tunnel);
        let (home, network) = (domain.prefix(1, 0), domain.networks[&1]);
        domain.attach(1, 1);
        domain.run(SECOND);
        domain.assert_settled(1, 1);
        assert!(matches!(
            domain.tables(0).prefixes[&network].next_hop,
            NextHop::Tunnel(_)
        ));
        let entry = &domain.tables(1).prefixes[&network];
        assert!(matches!(
            entry.source.as_ref().unwrap().path,
            SourcePath::Tunnel(_)
        ));
        // Whoever serves the router renews it.
        domain.router(1, 1, MessageType::Rebind);
        assert_eq!(domain.networks[&1], network);
        // It goes where it is, by itself, and on to where the router goes next.
        domain.relocate(network, 1).unwrap();
        domain.run(20 * SECOND);
        domain.assert_settled(1, 1);
        assert!(domain.anchored(1, 1).contains(&network));
        assert_eq!(domain.anchored(1, 0), [home]);
        domain.attach(1, 2);
        domain.run(SECOND);
        domain.assert_settled(1, 2);
        domain.router(1, 2, MessageType::Renew);
        assert_eq!(domain.networks[&1], network);
        // Home again.
        domain.attach(1, 0);
        domain.run(SECOND);
        domain.assert_settled(1, 0);
        domain.relocate(network, 0).unwrap();
        domain.run(30 * SECOND);
        domain.assert_settled(1, 0);
        assert!(domain.anchored(1, 0).contains(&network));
        domain.detach(1, 0, true);
        domain.run(60 * SECOND);
        for maar in &domain.maars {
            assert_eq!((maar.state().nodes.len(), maar.state().yielded.len()), (0, 0));
        }
    }
}

#[test]
fn a_network_ends_when_its_router_wants_it_no_more() {
    for at in 0..2 {
        let mut domain = with_network(PLAIN);
        let network = domain.networks[&1];
        if at == 1 {
            domain.attach(1, 1);
            domain.run(SECOND);
        }
        domain.router(1, at, MessageType::Release);
        domain.run(SECOND);
        domain.assert_settled(1, at);
        assert!((0..3).all(|index| !domain.anchored(1, index).contains(&network)));
        // And when it is not renewed.
        domain.router(1, at, MessageType::Solicit);
        domain.run(SECOND);
        let network = domain.networks[&1];
        domain.run(1800 * SECOND);
        domain.router(1, at, MessageType::Renew);
        domain.run(3590 * SECOND);
        assert!(domain.anchored(1, at).contains(&network));
        domain.run(20 * SECOND);
        assert!(!domain.anchored(1, at).contains(&network));
        domain.assert_settled(1, at);
        // A router that thinks it has it is told otherwise.
        domain.router(1, at, MessageType::Rebind);
        assert_eq!(domain.networks.get(&1), None);
    }
}

#[test]
fn a_cmd_that_does_not_take_networks_takes_their_node() {
    let mut domain = Domain::new();
    for known in &mut domain.cmd_config.cmd.as_mut().unwrap().known_maars {
        known.prefix_pools.truncate(1);
    }
    domain.kill(address(CMD));
    domain.attach(1, 0);
    domain.run(SECOND);
    domain.router(1, 0, MessageType::Solicit);
    domain.run(SECOND);
    let (_, reply) = domain.replies.last().unwrap();
    let code = reply.delegations[0].status.as_ref().unwrap().code;
    assert_eq!(code, status::NO_PREFIX_AVAILABLE);
    domain.assert_settled(1, 0);
    assert_eq!(domain.anchored(1, 0).len(), 1);
    assert_eq!(domain.maars[0].counters().get("mobile_networks_refused"), 1);
}

#[test]
fn a_router_asks_in_vain_while_nobody_knows_what_it_has() {
    let mut domain = with_network(PLAIN);
    let replies = domain.replies.len();
    // Not before the CMD has said what the node has.
    domain.attach(1, 1);
    domain.router(1, 1, MessageType::Rebind);
    assert_eq!(domain.replies.len(), replies);
    domain.run(SECOND);
    domain.router(1, 1, MessageType::Rebind);
    assert_eq!(domain.replies.len(), replies + 1);
    // The CMD is silent: the router repeats itself, and is answered once.
    domain.attach(2, 1);
    domain.run(SECOND);
    let replies = domain.replies.len();
    domain.lost = Box::new(|| true);
    domain.router(2, 1, MessageType::Solicit);
    domain.run(SECOND);
    domain.router(2, 1, MessageType::Solicit);
    domain.run(SECOND);
    assert_eq!(domain.replies.len(), replies);
    domain.lost = Box::new(|| false);
    domain.run(60 * SECOND);
    assert_eq!(domain.replies.len(), replies + 1);
    domain.assert_settled(2, 1);
    domain.assert_network(2);
}

#[test]
fn a_network_without_mobility_ends_with_the_move() {
    let mut domain = with_network(PLAIN);
    let network = domain.networks[&1];
    domain.set_policy("name = \"n\"\nprefix = \"2001:db8:f000::/36\"\nmobility = \"none\"");
    domain.attach(1, 1);
    domain.run(SECOND);
    domain.assert_settled(1, 1);
    // The link of the router is another matter.
    assert!(!domain.anchored(1, 0).contains(&network));
    assert_eq!(domain.anchored(1, 0).len(), 1);
    assert!(domain.ended[&node(1).0].is_empty());
    domain.router(1, 1, MessageType::Rebind);
    assert_eq!(domain.networks.get(&1), None);
    domain.router(1, 1, MessageType::Solicit);
    domain.run(SECOND);
    assert_eq!(domain.networks[&1].to_string(), "2001:db8:f200::/56");
}

/// The datagram of this number from now on is lost, and no other.
fn lose(domain: &mut Domain, number: usize) {
    let mut sent = 0;
    domain.lost = Box::new(move || {
        sent += 1;
        sent == number
    });
}

#[test]
fn a_router_that_gave_its_network_back_gets_one_again_whatever_was_lost() {
    for number in 1..=6 {
        let mut domain = with_network(PLAIN);
        lose(&mut domain, number);
        domain.router(1, 0, MessageType::Release);
        domain.run(40 * SECOND);
        assert_eq!(domain.networks.get(&1), None);
        domain.router(1, 0, MessageType::Solicit);
        domain.run(5 * SECOND);
        assert!(domain.networks.contains_key(&1), "datagram {number} was lost");
        domain.assert_settled(1, 0);
        domain.assert_network(1);
        domain.assert_nothing_left_over(1);
    }
}

#[test]
fn a_network_whose_answer_was_lost_is_where_the_cmd_says() {
    for number in 1..=6 {
        let mut domain = Domain::new();
        domain.announce();
        domain.attach(1, 0);
        domain.run(SECOND);
        lose(&mut domain, number);
        domain.router(1, 0, MessageType::Solicit);
        domain.run(Duration::from_millis(20));
        // The router goes on before anything is said again, and asks where it is.
        domain.attach(1, 1);
        domain.run(5 * SECOND);
        domain.router(1, 1, MessageType::Solicit);
        domain.run(SECOND);
        assert!(domain.networks.contains_key(&1), "datagram {number} was lost");
        // At the end of what may still be said.
        domain.run(70 * SECOND);
        domain.assert_settled(1, 1);
        domain.assert_network(1);
        domain.assert_nothing_left_over(1);
    }
}
