//! What a server may say at any time, and what no good one says.

use super::*;

#[test]
fn a_reconfigure_counts_once_and_only_with_the_key() {
    let mut world = World::new(1);
    world.give(0, want(None));
    world.run(2);
    let known = world.clients[0].state().keys[&duid(255)].clone();
    let reconfigure = |key: &[u8; 16], replay| {
        let mut message = Message::new(MessageType::Reconfigure, 0);
        (message.client, message.server) = (Some(duid(0)), Some(duid(255)));
        message.reconfigure_message = Some(5);
        reconfigure_key::signed(message, key, replay).unwrap()
    };
    let good = reconfigure(&known.key, known.replay + 1);
    for bad in [
        reconfigure(&[0; 16], known.replay + 1),
        reconfigure(&known.key, known.replay),
    ] {
        world.give(0, Input::Datagram(bad));
    }
    assert_eq!(world.sent.len(), 1);
    world.give(0, Input::Datagram(good.clone()));
    assert_eq!(world.kinds()[1..], [MessageType::Renew]);
    world.run(1);
    world.give(0, Input::Datagram(good));
    assert_eq!(world.sent.len(), 2);
    assert_eq!(world.clients[0].counters().get("reconfigures_refused"), 3);
}

/// What a test does to an answer.
type Change<'a> = &'a dyn Fn(&mut Message);

/// Answers to a Request that was sent; what becomes of each.
#[test]
fn answers_that_no_good_server_gives() {
    let reply = |change: &dyn Fn(&mut Message)| {
        let mut world = World::new(1);
        world.server_up = false;
        world.give(0, want(None));
        world.run(2);
        let solicit = world.sent[0].1.clone();
        let mut message = advertise(&solicit, 255, "2001:db8:9::/48");
        message.message_type = MessageType::Reply;
        message.rapid_commit = true;
        change(&mut message);
        world.give(0, Input::Datagram(message.emit().unwrap()));
        world
    };
    assert_eq!(reply(&|_| {}).has(0), [net("2001:db8:9::/48")]);
    let infinite = reply(&|it| {
        it.delegations[0].prefixes[0].preferred = INFINITY;
        it.delegations[0].prefixes[0].valid = INFINITY;
    });
    assert_eq!(infinite.clients[0].next_deadline(), None, "for ever");
    let refusals: [(Change<'_>, &str); 9] = [
        (&|it| it.server = None, "dhcp_refused_identifiers"),
        (&|it| it.client = None, "dhcp_refused_identifiers"),
        (&|it| it.client = Some(duid(9)), "dhcp_refused_identifiers"),
        (&|it| it.transaction ^= 1, "dhcp_unmatched"),
        (&|it| it.rapid_commit = false, "dhcp_unmatched"),
        (&|it| it.message_type = MessageType::Renew, "dhcp_not_for_clients"),
        (
            &|it| (it.delegations[0].t1, it.delegations[0].t2) = (2, 1),
            "dhcp_refused_timers",
        ),
        (
            &|it| it.delegations[0].prefixes[0].preferred = 201,
            "dhcp_refused_lifetimes",
        ),
        (
            &|it| it.delegations[0].prefixes[0].prefix = net("::/0"),
            "dhcp_refused_lifetimes",
        ),
    ];
    for (change, counter) in refusals {
        let world = reply(change);
        assert!(world.has(0).is_empty(), "{counter}");
        assert_eq!(world.clients[0].counters().get(counter), 1, "{counter}");
    }
    // No prefix there: it asks again, but not at once.
    let mut world = reply(&|it| {
        it.delegations[0].prefixes.clear();
        it.delegations[0].status = Some(StatusCode::new(status::NO_PREFIX_AVAILABLE, "none"));
    });
    let before = world.sent.len();
    world.run(1);
    assert_eq!(world.sent.len(), before);
    world.run(2);
    assert!(world.sent.len() > before);
    // What no server says of its own is what we choose: half and four fifths.
    let world = reply(&|_| {});
    let association = &world.clients[0].state().associations[&1];
    let at = |seconds| Some(world.now.after(Duration::from_secs(seconds)));
    assert_eq!((association.renew_at, association.rebind_at), (at(50), at(80)));
}

#[test]
fn no_binding_leads_to_a_request() {
    let mut world = World::new(1);
    world.give(0, want(None));
    world.run(2);
    let prefix = world.has(0);
    world.server_up = false;
    world.run(305);
    let renew = world.sent.last().unwrap().1.clone();
    assert_eq!(renew.message_type, MessageType::Renew);
    let mut reply = Message::new(MessageType::Reply, renew.transaction);
    (reply.client, reply.server) = (renew.client, renew.server);
    reply.delegations = vec![IdentityAssociation {
        status: Some(StatusCode::new(status::NO_BINDING, "what?")),
        ..IdentityAssociation::new(1)
    }];
    world.give(0, Input::Datagram(reply.emit().unwrap()));
    let request = &world.sent.last().unwrap().1;
    assert_eq!(request.message_type, MessageType::Request);
    assert_eq!(request.delegations[0].prefixes[0].prefix, prefix[0]);
    assert_eq!(request.server, Some(duid(255)));
    world.server_up = true;
    world.run(40);
    assert_eq!(world.has(0), prefix);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// Whatever is lost and whoever is killed, everybody has a prefix in the end, and nobody the same.
    #[test]
    fn with_loss_and_restarts(seed in any::<u64>(), loss in 0..50_u64, kills in proptest::collection::vec((0..5_usize, 1..200_u64), 0..8)) {
        let mut world = World::new(4);
        (world.random, world.loss) = (seed, loss);
        for client in 0..4 {
            world.give(client, want(None));
        }
        for (who, after) in kills {
            world.run(after);
            if who < 4 {
                world.restart(who);
                world.give(who, want(None));
            } else {
                let text = serde_json::to_string(world.server.state()).unwrap();
                world.server = Delegating::new(server_settings(), serde_json::from_str(&text).unwrap());
            }
        }
        // Then the network is good again, for longer than the longest pause so far.
        world.loss = 0;
        world.run(4000);
        let all: Vec<_> = (0..4).flat_map(|client| world.has(client)).collect();
        prop_assert_eq!(all.len(), 4);
        for (client, prefix) in all.iter().enumerate() {
            let lease = &world.server.state().leases[prefix];
            prop_assert_eq!(&lease.client, &duid(u8::try_from(client).unwrap()));
        }
        prop_assert_eq!(world.server.state().leases.len(), 4);
    }
}
