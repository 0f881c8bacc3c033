//! A domain in virtual time in which gateways agree on GTP-U, or do not.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod domain_support;

use std::collections::BTreeSet;
use std::time::Duration;

use domain_support::*;
use kedge_controlplane::identity::MobileNodeIdentifier;
use kedge_controlplane::maar::{Maar, NodeTunnel};
use kedge_controlplane::wire::mobility::TunnelType;
use kedge_controlplane::{cmd, maar};
use kedge_dataplane_api::model::{Dscp, Encapsulation, Gre, GtpU};

const SECOND: Duration = Duration::from_secs(1);

fn identifier(number: u8) -> MobileNodeIdentifier {
    node(number).0
}

fn is_gtpu(tunnels: &[(u32, Encapsulation)]) -> bool {
    assert_eq!(tunnels.len(), 1, "{tunnels:?}");
    matches!(tunnels[0].1, Encapsulation::GtpU(_))
}

/// One tunnel for one node at each end, and the TEIDs of one end are those of the other, swapped.
fn gtpu(domain: &Domain, index: usize, peer: usize) -> (u32, GtpU) {
    match domain.tunnels_to(index, peer)[..] {
        [(id, Encapsulation::GtpU(gtpu))] => (id, gtpu),
        ref other => panic!("maar{} to maar{}: {other:?}", index + 1, peer + 1),
    }
}

#[test]
fn both_ends_and_the_cmd_have_gtpu() {
    let mut domain = Domain::with_tunnels([GTPU; 3], GTPU);
    domain.attach(1, 0);
    domain.run(SECOND);
    assert!(domain.tables(0).tunnels.is_empty());
    domain.attach(1, 1);
    domain.run(SECOND);
    domain.assert_settled(1, 1);
    let (_, anchor) = gtpu(&domain, 0, 1);
    let (_, serving) = gtpu(&domain, 1, 0);
    assert_eq!(anchor.local_teid, serving.remote_teid);
    assert_eq!(anchor.remote_teid, serving.local_teid);
    assert_eq!(anchor.pdu_session, None);
    // No message more than without GTP-U.
    assert_eq!(domain.sent, 2 * (2 + 1));
}

#[test]
fn outer_packets_are_as_each_gateway_is_configured() {
    for tunnel in [PLAIN, GTPU] {
        let mut domain = Domain::with_tunnels([tunnel; 3], tunnel);
        domain.attach(1, 0);
        domain.run(SECOND);
        domain.attach(1, 1);
        domain.run(SECOND);
        let outside = |domain: &Domain, index| {
            let tables = domain.tables(index);
            let all = tables.tunnels.values().map(|it| (it.dscp, it.hop_limit, it.mtu));
            all.collect::<Vec<_>>()
        };
        assert_eq!(outside(&domain, 0), [(Dscp::Is(0), 64, 0)]);
        domain.configs[0].tunnel = kedge_config::Tunnel {
            dscp: 46,
            hop_limit: 255,
            mtu: Some(65_535),
            ..kedge_config::Tunnel::default()
        };
        assert_eq!(outside(&domain, 0), [(Dscp::Is(46), 255, 65_535)]);
        domain.configs[1].tunnel.copy_dscp = true;
        assert_eq!(outside(&domain, 1), [(Dscp::Copied, 64, 0)]);
    }
}

#[test]
fn two_previous_anchors_have_a_tunnel_each() {
    let mut domain = Domain::with_tunnels([GTPU; 3], GTPU);
    for serving in [0, 1, 2] {
        domain.attach(1, serving);
        domain.run(SECOND);
        domain.assert_settled(1, serving);
    }
    let (first, to_first) = gtpu(&domain, 2, 0);
    let (second, to_second) = gtpu(&domain, 2, 1);
    assert_ne!(first, second);
    // The serving MAAR takes the node's packets on one TEID, whoever sends them.
    assert_eq!(to_first.local_teid, to_second.local_teid);
    assert_ne!(to_first.remote_teid, to_second.remote_teid);
    assert!(
        domain.tunnels_to(0, 1).is_empty(),
        "maar1 has nothing at maar2 any more"
    );
    assert!(domain.tunnels_to(1, 0).is_empty());

    // And back: the first anchor serves again, and keeps its TEID.
    let teid = domain.maars[0].state().nodes[&identifier(1)].teid;
    domain.attach(1, 0);
    domain.run(SECOND);
    domain.assert_settled(1, 0);
    assert_eq!(domain.maars[0].state().nodes[&identifier(1)].teid, teid);
    assert_eq!(Some(gtpu(&domain, 0, 1).1.local_teid), teid);
    assert_eq!(Some(gtpu(&domain, 1, 0).1.remote_teid), teid);
    assert_eq!(gtpu(&domain, 0, 2).1.remote_teid, to_first.local_teid);
}

#[test]
fn each_node_has_a_tunnel_of_its_own() {
    let mut domain = Domain::with_tunnels([GTPU; 3], GTPU);
    for number in 1..=5 {
        domain.attach(number, 0);
        domain.run(SECOND);
        domain.attach(number, 1);
        domain.run(SECOND);
    }
    let tunnels = domain.tunnels_to(0, 1);
    assert_eq!(tunnels.len(), 5);
    let teids: BTreeSet<_> = tunnels
        .iter()
        .map(|(_, encapsulation)| match encapsulation {
            Encapsulation::GtpU(gtpu) => gtpu.local_teid,
            Encapsulation::Ipv6InIpv6 | Encapsulation::Gre(_) => panic!("{tunnels:?}"),
        })
        .collect();
    assert_eq!(teids.len(), 5);
    for number in 1..=5 {
        domain.assert_settled(number, 1);
    }
    // The end of a session is the end of its tunnel, and of no other.
    let gone = domain.tunnels_to(0, 1)[0].0;
    domain.detach(1, 1, true);
    domain.run(60 * SECOND);
    let left: Vec<_> = domain.tunnels_to(0, 1).iter().map(|(id, _)| *id).collect();
    assert_eq!(left.len(), 4);
    // Its id is not given to the next one.
    domain.attach(6, 0);
    domain.run(SECOND);
    domain.attach(6, 1);
    domain.run(SECOND);
    let ids: Vec<_> = domain.tunnels_to(0, 1).iter().map(|(id, _)| *id).collect();
    assert_eq!(ids.len(), 5);
    assert!(
        !ids.contains(&gone) && left.iter().all(|id| ids.contains(id)),
        "{ids:?}"
    );
}

/// Whoever has no GTP-U, the others go on with IPv6-in-IPv6 to and from it.
#[test]
fn mixed_domains() {
    for (maars, cmd, expected) in [
        ([GTPU, GTPU, GTPU], GTPU, [true, true]),
        ([GTPU, GTPU, GTPU], PLAIN, [false, false]),
        ([PLAIN, GTPU, GTPU], GTPU, [false, true]),
        ([GTPU, PLAIN, GTPU], GTPU, [true, false]),
        ([GTPU, GTPU, PLAIN], GTPU, [false, false]),
        ([PLAIN, PLAIN, PLAIN], GTPU, [false, false]),
    ] {
        let mut domain = Domain::with_tunnels(maars, cmd);
        for serving in [0, 1, 2] {
            domain.attach(1, serving);
            domain.run(SECOND);
        }
        // In all that follows too: renewals change nothing.
        for _ in 0..3 {
            domain.assert_settled(1, 2);
            for (previous, expected) in expected.iter().enumerate() {
                let what = format!("{maars:?} {cmd}: maar3 and maar{}", previous + 1);
                assert_eq!(is_gtpu(&domain.tunnels_to(2, previous)), *expected, "{what}");
                assert_eq!(is_gtpu(&domain.tunnels_to(previous, 2)), *expected, "{what}");
            }
            domain.run(400 * SECOND);
        }
    }
}

#[test]
fn renewals_and_restarts_keep_teids_and_ids() {
    let mut domain = Domain::with_tunnels([GTPU; 3], GTPU);
    for serving in [0, 1, 2] {
        domain.attach(1, serving);
        domain.run(SECOND);
    }
    let tables = |domain: &Domain| [0, 1, 2].map(|index| domain.tables(index));
    let before = tables(&domain);
    let told = domain.cmd.counters().get("previous_updates_sent");
    domain.run(4000 * SECOND);
    assert_eq!(tables(&domain), before);
    assert_eq!(
        domain.cmd.counters().get("previous_updates_sent"),
        told,
        "a renewal is no news to previous MAARs"
    );
    domain.restart();
    assert_eq!(tables(&domain), before);
    domain.run(400 * SECOND);
    assert_eq!(tables(&domain), before);
    // Nodes that come after it get others.
    let teids = |domain: &Domain| -> Vec<_> {
        let nodes = domain.maars[0].state().nodes.values();
        nodes.filter_map(|node| node.teid).collect()
    };
    domain.attach(2, 0);
    domain.run(SECOND);
    let teids = teids(&domain);
    assert_eq!(teids.len(), 2);
    assert_ne!(teids[0], teids[1]);
}

/// Reads the state of a MAAR or a CMD as a program before GTP-U wrote it.
fn before_gtpu(state: &impl serde::Serialize) -> serde_json::Value {
    fn strip(value: &mut serde_json::Value) {
        const NEW: [&str; 6] = [
            "last_tunnel_id",
            "teids",
            "teid",
            "tunnels",
            "offered_endpoints",
            "tunnel",
        ];
        match value {
            serde_json::Value::Object(fields) => {
                fields.retain(|name, _| !NEW.contains(&name.as_str()));
                fields.values_mut().for_each(strip);
            }
            serde_json::Value::Array(values) => values.iter_mut().for_each(strip),
            _ => {}
        }
    }
    let mut value = serde_json::to_value(state).unwrap();
    strip(&mut value);
    value
}

/// A domain that is upgraded, with sessions in it: at first as it was, then by GTP-U.
#[test]
fn states_of_before_gtpu_are_taken_over() {
    let mut domain = Domain::with_tunnels([PLAIN; 3], PLAIN);
    for serving in [0, 1] {
        domain.attach(1, serving);
        domain.run(SECOND);
    }
    let before = domain.tables(0);
    let upgraded = Domain::with_tunnels([GTPU; 3], GTPU);
    domain.configs = upgraded.configs;
    domain.cmd_config = upgraded.cmd_config;
    for index in 0..3 {
        let stored = before_gtpu(domain.maars[index].state());
        assert!(!stored.to_string().contains("teid"), "{stored}");
        let settings = maar::Settings::from_config(&domain.configs[index]).unwrap();
        let state = serde_json::from_value(stored).unwrap();
        domain.maars[index] = Maar::new(settings, state, TEID_KEY, domain.now);
    }
    let stored = before_gtpu(domain.cmd.state());
    assert!(!stored.to_string().contains("teid"), "{stored}");
    let settings = cmd::Settings::from_config(&domain.cmd_config).unwrap();
    domain.cmd = cmd::Cmd::new(settings, serde_json::from_value(stored).unwrap(), domain.now);
    assert_eq!(domain.tables(0), before);

    // The CMD hears of endpoints as MAARs register and answer; the next move uses them.
    domain.attach(1, 2);
    domain.run(SECOND);
    domain.assert_settled(1, 2);
    domain.run(400 * SECOND);
    domain.assert_settled(1, 2);
    for previous in [0, 1] {
        assert!(is_gtpu(&domain.tunnels_to(2, previous)));
        let (id, _) = gtpu(&domain, previous, 2);
        // Numbers that IPv6-in-IPv6 tunnels had are not given to others.
        assert!(
            !domain.maars[previous]
                .state()
                .tunnel_ids
                .values()
                .any(|it| *it == id)
        );
    }
}

/// IPv4 is between those two that both have it; the rest of GTP-U is as over IPv6.
#[test]
fn ipv4_between_those_that_have_it() {
    for (maars, over_ipv4) in [
        ([GTPU_IPV4; 3], [true, true]),
        ([GTPU_IPV4, GTPU, GTPU_IPV4], [true, false]),
        ([GTPU, GTPU, GTPU_IPV4], [false, false]),
    ] {
        let mut domain = Domain::with_tunnels(maars, GTPU);
        for serving in [0, 1, 2] {
            domain.attach(1, serving);
            domain.run(SECOND);
            domain.assert_settled(1, serving);
        }
        for _ in 0..2 {
            for (previous, expected) in over_ipv4.iter().enumerate() {
                let (id, _) = gtpu(&domain, 2, previous);
                let tunnel = &domain.tables(2).tunnels[&id];
                let ends = if *expected {
                    (maar_ipv4_address(2), maar_ipv4_address(previous))
                } else {
                    (maar_address(2), maar_address(previous))
                };
                assert_eq!((tunnel.local, tunnel.remote), ends, "{maars:?}");
            }
            let locals = domain.tables(2).local_addresses;
            assert!(locals.contains(&maar_ipv4_address(2)));
            domain.run(400 * SECOND);
            domain.assert_settled(1, 2);
        }
    }
}

/// An anchor that has lost its tunnels: they are signalled again, and the node's traffic goes on.
#[test]
fn a_tunnel_that_a_peer_refuses_is_signalled_again() {
    for (kind, peer) in [(GTPU, maar_address(0)), (GTPU_IPV4, maar_ipv4_address(0))] {
        let mut domain = Domain::with_tunnels([kind; 3], GTPU);
        for serving in [0, 1] {
            domain.attach(1, serving);
            domain.run(SECOND);
        }
        let (_, before) = gtpu(&domain, 1, 0);
        let teid = before.remote_teid.get();
        let refused = |domain: &mut Domain, peer, teid| {
            domain.maar_input(1, maar::Input::TunnelRefused { peer, teid });
            domain.run(SECOND);
        };
        let count = |domain: &Domain, name: &str| domain.maars[1].counters().get(name);
        // The other end may not have had it yet.
        refused(&mut domain, peer, teid);
        assert_eq!(gtpu(&domain, 1, 0).1, before);
        assert_eq!(count(&domain, "tunnels_refused_left"), 1);
        domain.run(5 * SECOND);
        // Another's TEID, and another peer's.
        refused(&mut domain, peer, teid ^ 1);
        refused(&mut domain, maar_address(2), teid);
        assert_eq!(count(&domain, "tunnels_refused_unknown"), 2);
        refused(&mut domain, peer, teid);
        assert_eq!(count(&domain, "tunnels_refused_signalled"), 1);
        domain.assert_settled(1, 1);
        let (_, after) = gtpu(&domain, 1, 0);
        assert_ne!(
            after.local_teid, before.local_teid,
            "a new one, which the anchor was told"
        );
        assert_eq!(gtpu(&domain, 0, 1).1.remote_teid, after.local_teid);
        // The anchor itself waits for the CMD.
        let teid = gtpu(&domain, 0, 1).1.remote_teid.get();
        domain.run(5 * SECOND);
        let peer = if kind == GTPU {
            maar_address(1)
        } else {
            maar_ipv4_address(1)
        };
        domain.maar_input(0, maar::Input::TunnelRefused { peer, teid });
        assert_eq!(domain.maars[0].counters().get("tunnels_refused_left"), 1);
        assert_eq!(gtpu(&domain, 0, 1).1.remote_teid.get(), teid);
        // No more than a few are looked into in a second.
        for _ in 0..10 {
            domain.maar_input(0, maar::Input::TunnelRefused { peer, teid });
        }
        assert!(domain.maars[0].counters().get("tunnels_refused_suppressed") >= 7);
    }
}

fn gre(domain: &Domain, index: usize, peer: usize) -> Gre {
    match domain.tunnels_to(index, peer)[..] {
        [(_, Encapsulation::Gre(gre))] => gre,
        ref other => panic!("maar{} to maar{}: {other:?}", index + 1, peer + 1),
    }
}

#[test]
fn gre_where_all_three_have_it() {
    let mut domain = Domain::with_tunnels([GRE; 3], GRE);
    for serving in [0, 1, 2] {
        domain.attach(1, serving);
        domain.run(SECOND);
        domain.assert_settled(1, serving);
    }
    for _ in 0..2 {
        let (first, second) = (gre(&domain, 2, 0), gre(&domain, 2, 1));
        // One key for the node at the serving MAAR, whoever sends, and one of each anchor's.
        assert!(first.local_key.is_some() && first.local_key == second.local_key);
        assert!(first.remote_key.is_some() && first.remote_key != second.remote_key);
        domain.run(400 * SECOND);
        domain.assert_settled(1, 2);
    }
    // Where one says something else, IPv6-in-IPv6 is what all have.
    for (maars, cmd) in [([GRE, GTPU, GRE], GRE), ([GRE; 3], GTPU), ([GRE; 3], PLAIN)] {
        let mut domain = Domain::with_tunnels(maars, cmd);
        for serving in [0, 1] {
            domain.attach(1, serving);
            domain.run(SECOND);
        }
        domain.assert_settled(1, 1);
        let tunnels = domain.tunnels_to(1, 0);
        assert!(
            matches!(tunnels[..], [(_, Encapsulation::Ipv6InIpv6)]),
            "{maars:?} {cmd}: {tunnels:?}"
        );
    }
}

/// As the version before GRE stored it.
#[test]
fn a_stored_gtpu_tunnel_is_read() {
    let read = |text: &str| serde_json::from_str::<NodeTunnel>(text);
    let teid = 7.try_into().unwrap();
    let ipv4 = Some("192.0.2.1".parse().unwrap());
    for (text, ipv4) in [
        (r#"{"id": 3, "remote_teid": 7}"#, None),
        (r#"{"id": 3, "remote_teid": 7, "remote_ipv4": "192.0.2.1"}"#, ipv4),
    ] {
        let remote = TunnelType::GtpU { teid, ipv4 };
        assert_eq!(read(text).unwrap(), NodeTunnel { id: 3, remote });
    }
    let remote = TunnelType::Gre { key: 0 };
    let tunnel = NodeTunnel { id: 1, remote };
    assert_eq!(read(&serde_json::to_string(&tunnel).unwrap()).unwrap(), tunnel);
    assert!(
        read(r#"{"id": 3}"#)
            .unwrap_err()
            .to_string()
            .contains("without its other end")
    );
}

/// A MAAR that is told to use GTP-U no more goes on with what it has, until all have heard so.
#[test]
fn a_domain_that_is_set_back() {
    let mut domain = Domain::with_tunnels([GTPU; 3], GTPU);
    for serving in [0, 1] {
        domain.attach(1, serving);
        domain.run(SECOND);
    }
    domain.configs[1] = maar_config(1, PLAIN);
    domain.restart();
    domain.assert_settled(1, 1);
    assert!(is_gtpu(&domain.tunnels_to(1, 0)));
    domain.run(400 * SECOND);
    domain.assert_settled(1, 1);
    assert!(!is_gtpu(&domain.tunnels_to(1, 0)));
    // And again, by the CMD's word alone.
    domain.configs[1] = maar_config(1, GTPU);
    domain.restart();
    domain.run(400 * SECOND);
    assert!(is_gtpu(&domain.tunnels_to(1, 0)));
    domain.cmd_config = cmd_config(PLAIN);
    domain.restart();
    domain.run(400 * SECOND);
    domain.assert_settled(1, 1);
    assert!(!is_gtpu(&domain.tunnels_to(1, 0)));
}

/// A CMD that knows of no endpoints learns those of anchors from their answers.
#[test]
fn a_cmd_without_the_endpoints_learns_them() {
    let mut domain = Domain::with_tunnels([GTPU; 3], GTPU);
    for serving in [0, 1] {
        domain.attach(1, serving);
        domain.run(SECOND);
    }
    let mut state = domain.cmd.state().clone();
    for binding in state.bindings.values_mut() {
        binding.offered_endpoints.clear();
    }
    let settings = cmd::Settings::from_config(&domain.cmd_config).unwrap();
    domain.cmd = cmd::Cmd::new(settings, state, domain.now);
    // Two renewals: at the first the anchor is told of IPv6-in-IPv6, and answers with its endpoint.
    domain.run(400 * SECOND);
    domain.assert_settled(1, 1);
    assert!(!is_gtpu(&domain.tunnels_to(1, 0)));
    domain.run(400 * SECOND);
    domain.assert_settled(1, 1);
    assert!(is_gtpu(&domain.tunnels_to(1, 0)));
}

#[test]
fn a_tunnel_of_a_state_is_one_of_the_tables() {
    let mut domain = Domain::with_tunnels([GTPU; 3], GTPU);
    domain.attach(1, 0);
    domain.run(SECOND);
    domain.attach(1, 1);
    domain.run(SECOND);
    let stored = &domain.maars[1].state().nodes[&identifier(1)];
    let NodeTunnel { id, remote } = stored.tunnels[&maar_address(0)];
    let (shown, gtpu) = gtpu(&domain, 1, 0);
    let teid = gtpu.remote_teid;
    assert_eq!((shown, TunnelType::GtpU { teid, ipv4: None }), (id, remote));
    assert_eq!(Some(gtpu.local_teid), stored.teid);
}

/// A tunnel is a node's own with GTP-U: one that is left over after a relocation would stay as long as its node.
#[test]
fn when_an_anchor_has_moved_and_its_old_way_has_ended_the_tunnel_is_gone_at_both_ends() {
    let mut domain = Domain::with_tunnels([GTPU; 3], GTPU);
    domain.announce();
    domain.attach(1, 0);
    domain.run(SECOND);
    domain.attach(1, 1);
    domain.run(SECOND);
    domain.relocate(domain.prefix(1, 0), 1).unwrap();
    domain.run(SECOND);
    // What is still on the old way comes by it.
    gtpu(&domain, 0, 1);
    gtpu(&domain, 1, 0);
    domain.run(30 * SECOND);
    domain.assert_settled(1, 1);
    assert_eq!(domain.anchored(1, 1).len(), 2);
    for index in [0, 1] {
        let tables = domain.tables(index);
        assert!(
            tables.tunnels.is_empty(),
            "maar{}: {:?}",
            index + 1,
            tables.tunnels
        );
    }
}
