//! Leases that move from one client to another.

use super::*;

/// The prefix of one client becomes another's: the old one is told, and the new one gets it by asking.
#[test]
fn a_lease_moves() {
    let mut server = Server::new();
    let prefix = "2001:db8:2000:5::/64";
    let reply = server
        .ask(&accepting(MessageType::Request, 1, &[prefix]))
        .unwrap();
    let key = reconfigure_key::given(&reply).unwrap();
    server.moved(prefix, 2).unwrap();
    assert_eq!(server.holder(prefix), Some(duid(2)));
    // The old one is asked to renew, with a digest that it can verify, and again after 2 s and 4 s.
    let octets = server.sent().remove(0);
    let reconfigure = Message::parse(&octets).unwrap();
    assert_eq!(
        (reconfigure.message_type, reconfigure.transaction),
        (MessageType::Reconfigure, 0)
    );
    assert_eq!(reconfigure.reconfigure_message, Some(5));
    let first = reconfigure_key::verified(&octets, &reconfigure, &key).unwrap();
    let Some(Authentication { replay, .. }) = reply.authentication else {
        panic!()
    };
    assert!(first > replay);
    server.tick(2);
    let octets = server.sent().remove(0);
    let again = reconfigure_key::verified(&octets, &Message::parse(&octets).unwrap(), &key).unwrap();
    assert!(again > first);
    server.tick(3);
    assert!(server.sent().is_empty());
    // A third one cannot have it; the old one loses it; the new one gets it, and keeps it.
    let other = delegated(&server.ask(&message(MessageType::Request, 3, &[prefix])).unwrap());
    assert_ne!(other, prefix);
    let reply = server.ask(&accepting(MessageType::Renew, 1, &[prefix])).unwrap();
    assert_eq!(prefixes(&reply), [(prefix.to_owned(), 0)]);
    server.tick(100);
    assert!(server.sent().is_empty(), "it knows now");
    let advertise = server.ask(&message(MessageType::Solicit, 2, &[prefix])).unwrap();
    assert_eq!(delegated(&advertise), prefix);
    let reply = server.ask(&message(MessageType::Request, 2, &[prefix])).unwrap();
    assert_eq!(delegated(&reply), prefix);
    assert_eq!(server.count("delegations_claimed"), 1);
    // A move that is repeated changes nothing.
    server.moved(prefix, 2).unwrap();
    assert_eq!(
        server.machine.state().leases[&net(prefix)].phase,
        LeasePhase::Bound
    );
}

/// The prefix of one node, within the pool of its anchor: it goes, and it comes home.
#[test]
fn a_part_of_a_lease_moves_and_comes_home() {
    let mut server = Server::new();
    let (pool, part) = ("2001:db8:1000:300::/56", "2001:db8:1000:301::/64");
    server.ask(&message(MessageType::Request, 1, &[pool])).unwrap();
    for back in ["release", "move", "expiry"] {
        server.moved(part, 2).unwrap();
        assert_eq!(
            delegated(&server.ask(&message(MessageType::Request, 2, &[part])).unwrap()),
            part
        );
        // Both go on.
        assert_eq!(
            delegated(&server.ask(&message(MessageType::Renew, 1, &[pool])).unwrap()),
            pool
        );
        assert_eq!(
            delegated(&server.ask(&message(MessageType::Renew, 2, &[part])).unwrap()),
            part
        );
        match back {
            "release" => drop(server.ask(&message(MessageType::Release, 2, &[part]))),
            "move" => server.moved(part, 1).unwrap(),
            _ => {
                server.tick(600);
                server.ask(&message(MessageType::Renew, 1, &[pool])).unwrap();
                server.tick(400);
            }
        }
        assert_eq!(
            (server.holder(part), server.holder(pool)),
            (None, Some(duid(1))),
            "{back}"
        );
        // It is the old anchor's again: the new one is told so, whenever it asks.
        let reply = server.ask(&message(MessageType::Rebind, 2, &[part])).unwrap();
        assert_eq!(prefixes(&reply), [(part.to_owned(), 0)]);
    }
    // While a part is away, the rest is not given to anybody else.
    server.moved(part, 2).unwrap();
    server.ask(&message(MessageType::Release, 1, &[pool]));
    assert_ne!(
        delegated(&server.ask(&message(MessageType::Request, 3, &[pool])).unwrap()),
        pool
    );
    assert!(matches!(
        server.moved(pool, 3),
        Err(MoveError::PartDelegated { .. })
    ));
}
