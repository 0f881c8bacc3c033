//! What is given back and wanted again, and what is asked for when nobody answers.

use super::*;

/// Client 0 has a pool, and client 1 a part of it that was moved there.
fn part_of_a_pool() -> (World, Ipv6Net) {
    let mut world = World::new(2);
    world.give(0, want(None));
    world.run(2);
    let part = Ipv6Net::new(world.has(0)[0].network(), 64).unwrap();
    move_to(&mut world, part, 1);
    world.give(1, keep(&[part]));
    world.run(2);
    assert_eq!(world.has(1), [part]);
    world.sent.clear();
    world.outputs.clear();
    (world, part)
}

fn move_to(world: &mut World, prefix: Ipv6Net, client: u8) {
    let taker = Taker {
        client: duid(client),
        iaid: None,
    };
    let outputs = world.server.move_lease(prefix, &taker, world.now).unwrap();
    world.server_says(outputs);
}

fn keep(prefixes: &[Ipv6Net]) -> Input {
    Input::Keep(prefixes.iter().copied().collect())
}

/// The lease was moved here again while the Release was lost: sent again it would take that away.
#[test]
fn what_comes_back_before_its_release_is_answered_is_asked_for_at_once() {
    use MessageType as M;
    let (mut world, part) = part_of_a_pool();
    let iaid = *world.clients[1].state().associations.keys().next().unwrap();
    world.loss = 100;
    world.give(1, keep(&[]));
    world.run(2);
    assert_eq!(world.kinds(), [M::Release, M::Release]);
    world.loss = 0;
    move_to(&mut world, part, 1);
    world.give(1, keep(&[part]));
    assert_eq!(
        world.outcomes(1),
        [&Output::Released(part)],
        "whoever waits for that"
    );
    world.run(1);
    assert_eq!(world.kinds()[2..], [M::Request]);
    assert_eq!(world.outcomes(1)[1..], [&Output::Delegated(part)]);
    world.run(2000);
    assert_eq!(world.has(1), [part]);
    assert_eq!(world.server.state().leases[&part].iaid, Some(iaid));
    assert!(!world.kinds()[2..].contains(&M::Release));
    assert_eq!(world.clients[1].counters().get("delegations_lost"), 0);
    world.give(1, keep(&[]));
    world.run(1);
    assert!(!world.server.state().leases.contains_key(&part));
}

/// The server has heard the Release, only the answer was lost; that comes late, and a copy of the Release later still.
#[test]
fn what_comes_back_after_its_release_was_heard_is_delegated_anew() {
    let mut world = World::new(1);
    let prefix = net("2001:db8:2000:7::/64");
    world.give(0, keep(&[prefix]));
    world.run(2);
    world.sent.clear();
    world.give(0, keep(&[]));
    let (at, to_server, client, release) = world.flying.pop().unwrap();
    world.now = at;
    world.deliver(to_server, client, release.clone());
    assert!(world.server.state().leases.is_empty());
    let (.., answer) = world.flying.pop().unwrap();
    world.give(0, keep(&[prefix]));
    world.run(1);
    assert_eq!(world.has(0), [prefix]);
    world.give(0, Input::Datagram(answer));
    assert_eq!(world.clients[0].counters().get("dhcp_unmatched"), 1);
    assert_eq!(world.has(0), [prefix]);
    world.deliver(true, 0, release);
    assert!(world.server.state().leases.is_empty());
    world.run(600);
    assert_eq!(world.has(0), [prefix]);
    assert!(
        world.server.state().leases.contains_key(&prefix),
        "the next Renew has it again"
    );
}

/// A server that is away: any is asked at last, also over a restart, and it is known when the lifetime is over.
#[test]
fn what_comes_back_and_is_not_answered_ends_with_its_lifetime() {
    use MessageType as M;
    for restart in [false, true] {
        let (mut world, part) = part_of_a_pool();
        world.server_up = false;
        world.give(1, keep(&[]));
        world.run(2);
        world.give(1, keep(&[part]));
        world.run(1);
        if restart {
            world.restart(1);
            world.give(1, keep(&[part]));
        }
        world.run(400);
        world.sent.retain(|(_, message)| message.client == Some(duid(1)));
        assert_eq!(world.kinds().last(), Some(&M::Rebind));
        assert_eq!(world.clients[1].state().associations.len(), 1);
        world.run(1000);
        assert!(world.has(1).is_empty());
        let associations = world.clients[1].state().associations.values();
        assert_eq!(associations.map(|it| it.over).collect::<Vec<_>>(), [true]);
        assert_eq!(world.clients[1].counters().get("delegations_lost"), 1);
    }
}

/// The answer to a Request says what there is: not that, and another is not kept.
#[test]
fn what_comes_back_may_be_refused() {
    let mut world = World::new(1);
    let (prefix, other) = (net("2001:db8:2000:7::/64"), net("2001:db8:2000:8::/64"));
    world.give(0, keep(&[prefix]));
    world.run(2);
    world.server_up = false;
    world.give(0, keep(&[]));
    world.outputs.clear();
    world.give(0, keep(&[prefix]));
    let request = world.sent.last().unwrap().1.clone();
    let mut reply = advertise(&request, 255, &other.to_string());
    reply.message_type = MessageType::Reply;
    world.give(0, Input::Datagram(reply.emit().unwrap()));
    assert!(matches!(world.outcomes(0).last(), Some(Output::Refused(it, _)) if *it == prefix));
    let release = world.sent.last().unwrap().1.clone();
    assert_eq!(release.message_type, MessageType::Release);
    assert_eq!(release.delegations[0].prefixes[0].prefix, other);
    // It is to be kept all the same: it is asked for again.
    world.server_up = true;
    world.run(100);
    assert_eq!(world.has(0), [prefix]);
    assert_eq!(world.server.state().leases.len(), 1);
}

/// Who was killed after T2 had no timer any more that would have had it asked for again.
#[test]
fn who_starts_again_after_t2_goes_on_rebinding() {
    let mut world = World::new(1);
    world.give(0, want(None));
    world.run(2);
    let before = world.has(0);
    world.server_up = false;
    world.run(500);
    world.restart(0);
    world.run(60);
    assert_eq!(world.clients[0].state().associations[&1].phase, Phase::Rebinding);
    world.server_up = true;
    world.run(200);
    assert_eq!(world.clients[0].state().associations[&1].phase, Phase::Bound);
    world.run(2000);
    assert_eq!(world.has(0), before);
    assert_eq!(world.clients[0].counters().get("delegations_lost"), 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, ..ProptestConfig::default() })]

    /// Whatever comes and goes, is lost or killed: in the end what is kept is there, once, and nothing else, at either end.
    #[test]
    fn what_is_kept_in_the_end_is_there(
        seed in any::<u64>(),
        loss in 0..70_u64,
        steps in proptest::collection::vec((0..8_u8, 0..5_u64, 0..6_u8), 1..25),
    ) {
        let mut world = World::new(1);
        (world.random, world.loss) = (seed, loss);
        let prefixes = ["2001:db8:2000:7::/64", "2001:db8:2000:8::/64"].map(net);
        let mut kept = Vec::new();
        for (set, wait, what) in steps {
            kept = prefixes.iter().enumerate().filter(|(bit, _)| set >> bit & 1 == 1).map(|(_, it)| *it).collect();
            match what {
                0 => world.restart(0),
                1 => world.server_up = !world.server_up,
                _ => {}
            }
            world.give(0, keep(&kept));
            world.run(wait * wait * wait);
            let wanted = |it: &&Association| it.phase != Phase::Releasing;
            let named = world.clients[0].state().associations.values().filter(wanted);
            prop_assert_eq!(named.filter_map(|it| it.wanted.hint).collect::<Vec<_>>().len(), kept.len());
        }
        (world.loss, world.server_up) = (0, true);
        // What was delegated and not heard of is the server's again when its lifetime is over.
        world.run(6000);
        let mut has = world.has(0);
        has.sort();
        prop_assert_eq!(&has, &kept);
        let leases: Vec<_> = world.server.state().leases.keys().copied().collect();
        prop_assert_eq!(leases, kept);
    }
}
