//! Whatever is relocated, lost or killed at whatever moment: in the end each prefix has one anchor. Cases that the
//! property found stand beside it by name.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod domain_support;

use std::collections::BTreeMap;
use std::time::Duration;

use domain_support::*;
use kedge_config::Mobility;
use kedge_controlplane::delegation::wire::MessageType;
use kedge_controlplane::maar::{self, Phase};
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);

/// One thing that happens to a domain.
#[derive(Clone, Debug)]
enum Happening {
    KillDataplane(usize),
    Move(u8, usize),
    Relocate(u8, usize),
    Kill(usize),
    Unused(u8, usize),
    Drain(usize, bool),
    LongDetour(u8, usize),
    Policy(u8, usize),
    Router(u8, MessageType),
}

/// What a router may say.
const ROUTER: [MessageType; 6] = [
    MessageType::Solicit,
    MessageType::Solicit,
    MessageType::Request,
    MessageType::Renew,
    MessageType::Rebind,
    MessageType::Release,
];

/// What a policy may say.
const MOBILITIES: [&str; 6] = [
    "\"tunnel\"\nend_after_s = 2",
    "\"none\"",
    "\"tunnel\"",
    "\"relocate\"",
    "\"relocate\"\nrelocate_after_s = 1",
    "\"relocate\"\nrelocate_after_octets = 1000",
];

fn any_happening() -> impl Strategy<Value = (Happening, u64)> {
    let happening = prop_oneof![
        3 => (1u8..3, 0usize..3).prop_map(|(number, index)| Happening::Move(number, index)),
        6 => (1u8..3, 0usize..4).prop_map(|(number, which)| Happening::Relocate(number, which)),
        3 => (0usize..4).prop_map(Happening::Kill),
        1 => (0usize..3).prop_map(Happening::KillDataplane),
        1 => (1u8..3, 0usize..4).prop_map(|(number, which)| Happening::Unused(number, which)),
        1 => (0usize..3, any::<bool>()).prop_map(|(index, on)| Happening::Drain(index, on)),
        1 => (1u8..3, 0usize..4).prop_map(|(number, which)| Happening::LongDetour(number, which)),
        2 => (1u8..3, prop::sample::select(&ROUTER[..])).prop_map(|(number, what)| Happening::Router(number, what)),
        2 => (1u8..3, 0..MOBILITIES.len()).prop_map(|(number, which)| Happening::Policy(number, which)),
    ];
    (happening, prop_oneof![3 => 1u64..40, 1 => 40u64..3000])
}

/// What is left when nothing happens any more is as the policy of the node has it.
fn assert_policy(domain: &Domain, number: u8) {
    let state = domain.cmd.state();
    let binding = &state.bindings[&node(number).0];
    let Some(rule) = state.policies.get(&format!("p{number}")) else {
        return;
    };
    let at_once = rule.mobility == Mobility::Relocate
        && (rule.relocate_after_s.is_some() || rule.relocate_after_octets.is_none());
    if at_once {
        assert_eq!(binding.previous, [], "what is tunnelled is relocated");
    }
}

/// In the end each prefix has one anchor, the node is served, and what is left over ends with the session. `losses`: which
/// messages are lost, over and over.
fn check(happenings: Vec<(Happening, u64)>, losses: Vec<bool>, tunnel: &'static str) {
    let mut domain = Domain::with_tunnels([tunnel; 3], tunnel);
    domain.announce();
    domain.counting = Some(Counting::new());
    domain.configs[0].meters.push(gold(1_000_000));
    domain.announce();
    domain.maar_input(0, maar::Input::PutFilter(filter(WEB)));
    let mut last = BTreeMap::new();
    for number in 1..3 {
        domain.attach(number, 0);
        last.insert(number, 0);
    }
    domain.run(60 * SECOND);
    let mut losses = losses.into_iter().cycle();
    let mut budget = 9;
    domain.lost = Box::new(move || {
        let lost = budget > 0 && losses.next().unwrap_or(false);
        budget -= i32::from(lost);
        lost
    });
    for index in 0..3 {
        domain.store(maar_address(index));
    }
    domain.store(address(CMD));
    for (happening, wait) in happenings {
        match happening {
            Happening::Move(number, to) => {
                let old = last.insert(number, to).unwrap();
                if old != to {
                    domain.detach(number, old, false);
                }
                domain.attach(number, to);
                // Saves come 20 ms after a change; the bindings themselves are not this test's.
                for index in 0..3 {
                    domain.store(maar_address(index));
                }
                domain.store(address(CMD));
            }
            Happening::Relocate(number, which) => {
                let binding = &domain.cmd.state().bindings[&node(number).0];
                let previous = binding.previous.get(which).map(|it| it.prefix);
                if let Some(prefix) = previous {
                    let _ = domain.relocate(prefix, last[&number]);
                }
            }
            Happening::Unused(number, which) => {
                let binding = &domain.cmd.state().bindings[&node(number).0];
                let older = binding.adopted.iter().map(|it| it.prefix);
                let older = older
                    .chain(binding.previous.iter().map(|it| it.prefix))
                    .nth(which);
                if let Some(prefix) = older {
                    domain.maar_input(last[&number], maar::Input::Unused(prefix));
                }
            }
            Happening::Router(number, what) => domain.router(number, last[&number], what),
            Happening::LongDetour(number, which) => {
                let binding = &domain.cmd.state().bindings[&node(number).0];
                if let Some(prefix) = binding.previous.get(which).map(|it| it.prefix) {
                    domain.maar_input(last[&number], maar::Input::LongDetour(prefix));
                }
            }
            Happening::Policy(number, which) => {
                let mobility = MOBILITIES[which];
                domain.set_policy(&format!(
                    "name = \"p{number}\"\nnode = \"mn{number}@*\"\nmobility = {mobility}"
                ));
            }
            Happening::KillDataplane(index) => domain.kill_dataplane(index),
            Happening::Kill(3) => domain.kill(address(CMD)),
            Happening::Kill(index) => domain.kill(maar_address(index)),
            Happening::Drain(index, on) => {
                let now = domain.now;
                let outputs = match on {
                    true => domain.cmd.drain(maar_address(index), now),
                    false => domain.cmd.stop_draining(maar_address(index)),
                };
                domain.cmd_outputs(outputs.unwrap());
                domain.store(address(CMD));
            }
        }
        domain.run(Duration::from_millis(wait));
    }
    // Each node says once more where it is: a router that died is solicited.
    for (number, at) in &last {
        domain.attach(*number, *at);
    }
    // Routers go on renewing what they have.
    for _ in 0..3 {
        domain.run(300 * SECOND);
        for (number, at) in &last {
            domain.router(*number, *at, MessageType::Rebind);
        }
    }
    domain.run(SECOND);
    for (number, at) in &last {
        domain.assert_settled(*number, *at);
        domain.assert_network(*number);
        domain.assert_nothing_left_over(*number);
        assert_policy(&domain, *number);
    }
    // What was counted is there once, and nothing of it on its way.
    domain.count();
    domain.read_counters();
    assert_eq!(domain.records().count(), 0);
    assert_eq!(domain.charged(), domain.to_be_charged());
    for (number, at) in &last {
        domain.detach(*number, *at, true);
    }
    domain.run(900 * SECOND);
    for index in 0..3 {
        let state = domain.maars[index].state();
        assert_eq!(
            (state.nodes.len(), state.yielded.len()),
            (0, 0),
            "maar{}",
            index + 1
        );
        assert!(domain.phase(1, index) != Some(Phase::Attached));
    }
    assert!(domain.cmd.state().relocations.is_empty());
    assert_eq!(domain.charged(), domain.to_be_charged());
    let counting = domain.counting.as_ref().unwrap();
    assert_eq!(&counting.closed, &domain.to_be_charged());
    // The operator's, of the node that is gone.
    for maar in &domain.maars[1..] {
        assert!(maar.state().filters.is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn each_prefix_has_one_anchor_in_the_end(
        happenings in prop::collection::vec(any_happening(), 1..24),
        losses in prop::collection::vec(prop::bool::weighted(0.2), 1..40),
        tunnel in prop::sample::select(&[PLAIN, GTPU][..]),
    ) {
        check(happenings, losses, tunnel);
    }
}

/// The first and the last message of each `length` are lost.
fn ends_of(length: usize) -> Vec<bool> {
    (1..=length).map(|at| at == 1 || at == length).collect()
}

#[test]
fn a_prefix_given_to_a_node_in_passing_is_not_left_over() {
    use Happening::{Move, Router};
    let happenings = vec![
        (Router(2, MessageType::Solicit), 1),
        (Move(1, 1), 1),
        (Move(2, 0), 1003),
        (Move(2, 2), 2001),
        (Move(2, 1), 10),
        (Move(2, 0), 1),
        (Move(2, 1), 1),
    ];
    check(happenings, ends_of(22), PLAIN);
}
