//! DPAs and DPNs (RFC 8818 sections 4.2.2 and 4.2.3) in a whole domain, in virtual time.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod domain_support;

use std::collections::BTreeMap;
use std::time::Duration;

use domain_support::dpns::{dpa, dpn_address};
use domain_support::{CMD, Domain, GRE, GTPU, PLAIN, address, maar_address, node};
use kedge_controlplane::maar::Phase;
use kedge_controlplane::{dpn, maar};
use kedge_dataplane_api::model::{Encapsulation, NextHop, Sender, SourcePath, Tables};
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

/// Node 1 at the first DPN of maar1.
fn attached() -> Domain {
    let mut domain = Domain::new();
    domain.announce();
    domain.attach_at_dpn(1, 0);
    domain.run(SECOND);
    domain
}

#[test]
fn a_node_is_served_at_a_dpn() {
    for tunnel in [PLAIN, GTPU, GRE] {
        let mut domain = Domain::with_tunnels([tunnel; 3], tunnel).with_dpn_tunnels(tunnel);
        domain.attach_at_dpn(1, 0);
        domain.attach_at_dpn(2, 0);
        domain.run(SECOND);
        for number in [1, 2] {
            domain.assert_at_dpn(number, 0);
        }
        let prefix = domain.prefix(1, 0);
        let entry = &domain.tables(0).prefixes[&prefix];
        let source = entry.source.as_ref().unwrap();
        assert!(matches!(source.sender, Sender::Tunnel(_)));
        assert_eq!(source.path, SourcePath::Native);
        // Renewals change nothing.
        let before = domain.sent;
        domain.run(1000 * SECOND);
        assert!(domain.sent > before);
        domain.assert_at_dpn(1, 0);
        domain.maar_input(
            0,
            maar::Input::Detached {
                identifier: node(1).0,
                deregister: true,
            },
        );
        domain.run(SECOND);
        assert_eq!((domain.phase(1, 0), domain.dpn_phase(1, 0)), (None, None));
    }
}

#[test]
fn gateways_with_other_tunnels_meet_at_ipv6_in_ipv6() {
    for (above, below) in [(GTPU, PLAIN), (PLAIN, GTPU), (GTPU, GRE), (GRE, GTPU)] {
        let mut domain = Domain::with_tunnels([above; 3], above).with_dpn_tunnels(below);
        domain.attach_at_dpn(1, 0);
        domain.run(SECOND);
        domain.assert_at_dpn(1, 0);
        assert_eq!(domain.dpns[0].state().nodes[&node(1).0].tunnel, None);
    }
}

/// Node, DPN, DPA, anchor: what goes down is of PDU type 0, what goes up of PDU type 1.
#[test]
fn a_qfi_goes_each_way_with_its_pdu_type() {
    let mut domain = Domain::with_tunnels([GTPU; 3], GTPU).with_dpn_tunnels(GTPU);
    for (number, config) in (1..).zip(&mut domain.configs) {
        config.maar.as_mut().unwrap().gtpu_qfi = Some(number);
    }
    domain.dpn_configs[2].dpn.as_mut().unwrap().gtpu_qfi = Some(9);
    domain.attach(1, 0);
    domain.run(SECOND);
    domain.attach_at_dpn(1, 2);
    domain.run(SECOND);
    domain.assert_at_dpn(1, 2);
    let to = |tables: &Tables, remote| {
        let mut its = tables.tunnels.values().filter(|it| it.remote == remote);
        let Encapsulation::GtpU(gtpu) = its.next().unwrap().encapsulation else {
            panic!("{:?}", tables.tunnels)
        };
        gtpu.pdu_session.map(|it| (it.qfi, it.uplink))
    };
    assert_eq!(to(&domain.tables(0), maar_address(1)), Some((1, false)));
    assert_eq!(to(&domain.tables(1), maar_address(0)), Some((2, true)));
    assert_eq!(to(&domain.tables(1), dpn_address(2)), Some((2, false)));
    assert_eq!(to(&domain.dpn_tables(2), maar_address(1)), Some((9, true)));
    // Home again: each anchors a prefix of it, and it is at the first.
    domain.detach_at_dpn(1, 2);
    domain.attach(1, 0);
    domain.run(SECOND);
    assert_eq!(to(&domain.tables(0), maar_address(1)), Some((1, true)));
    assert_eq!(to(&domain.tables(1), maar_address(0)), Some((2, false)));
}

#[test]
fn a_node_moves_between_the_dpns_of_one_dpa() {
    for announced in [true, false] {
        let mut domain = attached();
        let prefix = domain.prefix(1, 0);
        if announced {
            domain.detach_at_dpn(1, 0);
            domain.run(6 * MS);
            // Its packets wait, and what it still sends is its own.
            let entry = &domain.tables(0).prefixes[&prefix];
            assert!(matches!(entry.next_hop, NextHop::Hold { .. }), "{entry:?}");
            assert!(entry.source.is_some());
            // What is on the way is delivered.
            let below = domain.dpn_tables(0);
            assert!(matches!(
                below.prefixes[&prefix].next_hop,
                NextHop::Deliver { .. }
            ));
        }
        domain.attach_at_dpn(1, 1);
        // There and back is 10 ms: the CMD is not waited for.
        domain.run(11 * MS);
        assert_eq!(domain.dpn_phase(1, 1), Some(dpn::Phase::Attached));
        domain.run(SECOND);
        domain.assert_at_dpn(1, 1);
        assert_eq!(domain.prefix(1, 0), prefix);
    }
}

#[test]
fn a_node_moves_between_dpns_of_two_dpas_and_its_anchor_follows() {
    for tunnel in [PLAIN, GTPU] {
        let mut domain = Domain::with_tunnels([tunnel; 3], tunnel).with_dpn_tunnels(tunnel);
        domain.announce();
        domain.attach_at_dpn(1, 1);
        domain.run(SECOND);
        domain.detach_at_dpn(1, 1);
        domain.run(20 * MS);
        domain.attach_at_dpn(1, 2);
        domain.run(SECOND);
        domain.assert_at_dpn(1, 2);
        let (old, new) = (domain.prefix(1, 0), domain.prefix(1, 1));
        // From one tunnel into the other, both ways.
        let tables = domain.tables(1);
        let source = tables.prefixes[&old].source.as_ref().unwrap();
        let (Sender::Tunnel(below), SourcePath::Tunnel(above)) = (&source.sender, source.path) else {
            panic!("{source:?}")
        };
        assert_eq!(tables.tunnels[below].remote, dpn_address(2));
        assert_eq!(tables.tunnels[&above].remote, maar_address(0));
        // The anchor moves: as long as it does, the node's packets go by the old one.
        domain.relocate(old, 1).unwrap();
        domain.run(16 * MS);
        let entry = &domain.tables(1).prefixes[&old];
        assert!(
            matches!(&entry.next_hop, NextHop::After { then, .. } if matches!(**then, NextHop::Tunnel(_)))
        );
        assert!(matches!(
            entry.source.as_ref().unwrap().path,
            SourcePath::Tunnel(_)
        ));
        domain.run(4 * MS);
        assert_eq!(domain.tables(1).prefixes[&old].source, None, "they wait a moment");
        domain.run(30 * SECOND);
        domain.assert_at_dpn(1, 2);
        assert_eq!(domain.anchored(1, 1), [new, old]);
        // It goes home when it is not used, and the DPN hears of it.
        domain.maar_input(1, maar::Input::Unused(old));
        domain.run(SECOND);
        domain.assert_at_dpn(1, 2);
        assert_eq!(domain.dpns[2].state().nodes[&node(1).0].prefixes.len(), 1);
    }
}

#[test]
fn a_node_moves_between_a_dpn_and_a_link_of_its_dpa() {
    let mut domain = attached();
    domain.attach(1, 0);
    domain.run(SECOND);
    domain.assert_settled(1, 0);
    assert_eq!(domain.dpn_phase(1, 0), None, "it was told");
    domain.detach(1, 0, false);
    domain.attach_at_dpn(1, 1);
    domain.run(SECOND);
    domain.assert_at_dpn(1, 1);
}

#[test]
fn a_dpn_that_dies_for_good_loses_its_nodes() {
    let mut domain = attached();
    domain.lost = Box::new(|| true);
    domain.run(601 * SECOND);
    domain.lost = Box::new(|| false);
    assert_ne!(domain.phase(1, 0), Some(Phase::Attached));
}

#[test]
fn a_dpa_that_is_killed_as_soon_as_it_has_answered_knows_the_node() {
    let mut domain = attached();
    let before = domain.stored[&maar_address(0)].clone();
    domain.attach_at_dpn(1, 1);
    // Its answer has left; what it sent to the CMD beside it is no reason to save.
    domain.run(6 * MS);
    domain.kill(maar_address(0));
    assert_ne!(domain.stored[&maar_address(0)], before);
    domain.run(2 * SECOND);
    domain.assert_at_dpn(1, 1);
}

#[test]
fn a_dpa_that_has_lost_its_store_gets_its_nodes_back_with_their_renewals() {
    let mut domain = attached();
    domain.stored.remove(&maar_address(0));
    domain.kill(maar_address(0));
    assert_eq!(domain.phase(1, 0), None);
    domain.run(400 * SECOND);
    domain.assert_at_dpn(1, 0);
}

#[test]
fn a_dpa_that_has_lost_its_store_takes_no_node_back_that_is_elsewhere() {
    let mut domain = attached();
    domain.stored.remove(&maar_address(0));
    domain.kill(maar_address(0));
    // Nobody tells the first one.
    domain.attach_at_dpn(1, 2);
    domain.run(400 * SECOND);
    assert_eq!(
        (domain.dpn_phase(1, 0), domain.phase(1, 1)),
        (None, Some(Phase::Attached))
    );
    assert_eq!(domain.dpn_phase(1, 2), Some(dpn::Phase::Attached));
    assert_eq!(domain.cmd.state().bindings[&node(1).0].serving, maar_address(1));
}

#[test]
fn who_is_no_dpn_of_ours_is_refused() {
    let mut domain = Domain::new();
    // DPN 3 is of maar2; it asks maar1.
    domain.dpn_configs[3] = {
        let mut config = domain.dpn_configs[3].clone();
        config.dpn.as_mut().unwrap().dpa = maar_address(0);
        config
    };
    domain.kill(dpn_address(3));
    domain.attach_at_dpn(1, 3);
    domain.run(SECOND);
    assert!(matches!(
        domain.dpn_phase(1, 3),
        Some(dpn::Phase::Refused { status }) if status.0 == 154
    ));
    assert_eq!(domain.phase(1, 0), None);
    domain.run(61 * SECOND);
    assert_eq!(domain.dpn_phase(1, 3), None);
}

/// Where a node is: at a DPN, or on a link of a MAAR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Dpn(usize),
    Maar(usize),
}

fn attach(domain: &mut Domain, number: u8, at: At) {
    match at {
        At::Dpn(index) => domain.attach_at_dpn(number, index),
        At::Maar(index) => domain.attach(number, index),
    }
}

fn detach(domain: &mut Domain, number: u8, at: At) {
    match at {
        At::Dpn(index) => domain.detach_at_dpn(number, index),
        At::Maar(index) => domain.detach(number, index, false),
    }
}

fn assert_at(domain: &Domain, number: u8, at: At) {
    match at {
        At::Dpn(index) => domain.assert_at_dpn(number, index),
        At::Maar(index) => {
            domain.assert_settled(number, index);
            for other in 0..4 {
                assert_eq!(domain.dpn_phase(number, other), None);
            }
        }
    }
}

/// One thing that happens to a domain.
#[derive(Clone, Debug)]
enum Happening {
    Move(u8, At, bool),
    Relocate(u8, usize),
    Unused(u8, usize),
    KillDpn(usize),
    Kill(usize),
}

fn any_place() -> impl Strategy<Value = At> {
    prop_oneof![6 => (0usize..4).prop_map(At::Dpn), 1 => (0usize..3).prop_map(At::Maar)]
}

fn any_happening() -> impl Strategy<Value = (Happening, u64)> {
    let happening = prop_oneof![
        6 => (1u8..3, any_place(), any::<bool>()).prop_map(|(number, at, said)| Happening::Move(number, at, said)),
        3 => (1u8..3, 0usize..4).prop_map(|(number, which)| Happening::Relocate(number, which)),
        1 => (1u8..3, 0usize..4).prop_map(|(number, which)| Happening::Unused(number, which)),
        2 => (0usize..4).prop_map(Happening::KillDpn),
        2 => (0usize..4).prop_map(Happening::Kill),
    ];
    (happening, prop_oneof![3 => 1u64..40, 1 => 40u64..3000])
}

/// Carries it out; `last` is where each node is.
fn happen(domain: &mut Domain, last: &mut BTreeMap<u8, At>, happening: Happening) {
    match happening {
        Happening::Move(number, to, said) => {
            let from = last.insert(number, to).unwrap();
            // Nobody need be told that a node leaves.
            if from != to && said {
                detach(domain, number, from);
            }
            attach(domain, number, to);
            // Saves come 20 ms after a change; the bindings themselves are not this test's.
            for who in everybody() {
                domain.store(who);
            }
        }
        Happening::Relocate(number, which) => {
            let serving = match last[&number] {
                At::Dpn(index) => dpa(index),
                At::Maar(index) => index,
            };
            let binding = &domain.cmd.state().bindings[&node(number).0];
            let previous = binding.previous.get(which).map(|it| it.prefix);
            if let Some(prefix) = previous {
                let _ = domain.relocate(prefix, serving);
            }
        }
        Happening::Unused(number, which) => {
            let serving = match last[&number] {
                At::Dpn(index) => dpa(index),
                At::Maar(index) => index,
            };
            let binding = &domain.cmd.state().bindings[&node(number).0];
            let older = binding.adopted.iter().map(|it| it.prefix);
            let older = older
                .chain(binding.previous.iter().map(|it| it.prefix))
                .nth(which);
            if let Some(prefix) = older {
                domain.maar_input(serving, maar::Input::Unused(prefix));
            }
        }
        Happening::KillDpn(index) => domain.kill(dpn_address(index)),
        Happening::Kill(3) => domain.kill(address(CMD)),
        Happening::Kill(index) => domain.kill(maar_address(index)),
    }
}

fn everybody() -> Vec<std::net::Ipv6Addr> {
    let maars = (0..3).map(maar_address);
    maars
        .chain((0..4).map(dpn_address))
        .chain([address(CMD)])
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Whatever moves, is lost or is killed at whatever moment: in the end one DPN has the node, it knows what its DPA knows,
    /// each prefix has one anchor, and nothing is left over.
    #[test]
    fn one_dpn_has_the_node_in_the_end(
        happenings in prop::collection::vec(any_happening(), 1..24),
        losses in prop::collection::vec(prop::bool::weighted(0.2), 1..40),
        tunnel in prop::sample::select(&[PLAIN, GTPU][..]),
    ) {
        let mut domain = Domain::with_tunnels([tunnel; 3], tunnel).with_dpn_tunnels(tunnel);
        domain.announce();
        let mut last = BTreeMap::new();
        for number in 1..3 {
            domain.attach_at_dpn(number, 0);
            last.insert(number, At::Dpn(0));
        }
        domain.run(60 * SECOND);
        let mut losses = losses.into_iter().cycle();
        let mut budget = 9;
        domain.lost = Box::new(move || {
            let lost = budget > 0 && losses.next().unwrap_or(false);
            budget -= i32::from(lost);
            lost
        });
        for who in everybody() {
            domain.store(who);
        }
        for (happening, wait) in happenings {
            happen(&mut domain, &mut last, happening);
            domain.run(Duration::from_millis(wait));
        }
        // Who moves faster than messages travel may be taken to be where it was a moment ago.
        domain.run(SECOND);
        // Each node says once more where it is: a router that died is solicited.
        for (number, at) in &last {
            attach(&mut domain, *number, *at);
        }
        domain.run(900 * SECOND);
        for (number, at) in &last {
            assert_at(&domain, *number, *at);
        }
        for (number, at) in &last {
            let serving = match at {
                At::Dpn(index) => dpa(*index),
                At::Maar(index) => *index,
            };
            domain.detach(*number, serving, true);
        }
        domain.run(900 * SECOND);
        for index in 0..3 {
            let state = domain.maars[index].state();
            prop_assert_eq!((state.nodes.len(), state.yielded.len()), (0, 0), "maar{}", index + 1);
        }
        for index in 0..4 {
            prop_assert!(domain.dpns[index].state().nodes.is_empty(), "dpn{}", index + 1);
            prop_assert!(domain.dpn_tables(index).tunnels.is_empty());
        }
        prop_assert!(domain.cmd.state().relocations.is_empty());
    }
}
