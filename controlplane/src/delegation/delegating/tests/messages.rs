//! What comes in what shape: through relays, with options of all kinds, or not to be answered at all.

use super::*;

#[test]
fn a_client_has_a_limit_and_pools_have_an_end() {
    let mut server = Server::new();
    let mut request = message(MessageType::Request, 1, &[]);
    request.delegations = (0..5).map(IdentityAssociation::new).collect();
    let reply = server.ask(&request).unwrap();
    let codes: Vec<_> = reply.delegations.iter().map(|it| it.status_code()).collect();
    assert_eq!(codes, [0, 0, 0, 6, 6]);
    assert_eq!(server.count("delegations_refused_client_limit"), 2);
    assert_eq!(server.disk.leases.len(), 3);
    let mut solicit = message(MessageType::Solicit, 9, &[]);
    solicit.delegations = (0..5).map(IdentityAssociation::new).collect();
    let advertise = server.ask(&solicit).unwrap();
    assert_eq!(
        advertise
            .delegations
            .iter()
            .filter(|it| it.prefixes.len() == 1)
            .count(),
        3
    );
    let offered: std::collections::BTreeSet<_> = prefixes(&advertise).into_iter().collect();
    assert_eq!(offered.len(), 3, "two of one message are not offered the same");
    // 16 of /56 and 16 of /64 in all.
    let got = (10..60).filter(|client| {
        let reply = server.ask(&message(MessageType::Request, *client, &[])).unwrap();
        reply.delegations[0].status_code() == 0
    });
    assert_eq!(got.count(), 32 - 3);
    assert_eq!(server.count("delegations_refused_no_prefix"), 50 - 29);
}

#[test]
fn a_part_is_excluded_where_the_client_can_take_that() {
    let mut server = Server::new();
    let mut request = message(MessageType::Request, 1, &["2001:db8:1000:300::/56"]);
    assert_eq!(
        server.ask(&request).unwrap().delegations[0].prefixes[0].exclude,
        None
    );
    request.option_request = vec![option::PD_EXCLUDE];
    let reply = server.ask(&request).unwrap();
    assert_eq!(
        reply.delegations[0].prefixes[0].exclude,
        Some(net("2001:db8:1000:3ff::/64"))
    );
}

#[test]
fn addresses_are_refused() {
    let mut server = Server::new();
    let mut solicit = message(MessageType::Solicit, 1, &[]);
    for code in [option::IA_NA, option::IA_TA] {
        solicit.others.push(OtherAssociation {
            option: code,
            iaid: 3,
            status: None,
        });
    }
    let advertise = server.ask(&solicit).unwrap();
    let codes: Vec<_> = advertise
        .others
        .iter()
        .map(|it| (it.option, it.status.as_ref().unwrap().code))
        .collect();
    assert_eq!(codes, [(3, 2), (4, 2)]);
}

/// RFC 8415 section 16, and section 18.4 for what comes by unicast.
#[test]
fn what_is_not_to_be_answered_is_not() {
    use MessageType as M;
    let mut server = Server::new();
    for kind in M::ALL {
        let mut good = message(kind, 1, &[]);
        if kind == M::InformationRequest {
            good.delegations.clear();
            assert!(server.ask(&good).is_some());
        }
        for (client, other) in [(None, good.server.clone()), (good.client.clone(), Some(duid(9)))] {
            let bad = Message {
                client,
                server: other,
                ..good.clone()
            };
            if kind == M::InformationRequest && bad.client.is_none() {
                continue;
            }
            assert!(server.ask(&bad).is_none(), "{bad:?}");
        }
        let bad = Message {
            server: if good.server.is_some() {
                None
            } else {
                Some(duid(255))
            },
            ..good.clone()
        };
        if kind != M::InformationRequest {
            assert!(server.ask(&bad).is_none(), "{bad:?}");
        }
        server.receive(good.emit().unwrap(), false);
        let answers: Vec<_> = server
            .sent()
            .iter()
            .map(|it| Message::parse(it).unwrap().status_code())
            .collect();
        let told = matches!(kind, M::Request | M::Renew | M::Release | M::Decline);
        assert_eq!(
            answers,
            vec![status::USE_MULTICAST; usize::from(told)],
            "{kind:?}"
        );
    }
    assert!(server.disk.leases.is_empty());
    server.receive(vec![1, 2, 3], true);
    assert_eq!(server.count("dhcp_malformed"), 1);
    assert!(server.sent().is_empty());
    // A Confirm is never answered: it is about addresses.
    assert!(server.ask(&message(M::Confirm, 1, &[])).is_none());
    assert_eq!(server.count("dhcp_confirms_unanswered"), 2);
}

fn relayed(message: Vec<u8>, count: u8) -> Vec<u8> {
    let relay = Relay {
        forward: true,
        hop: Hop {
            count,
            link: "2001:db8::1".parse().unwrap(),
            peer: "fe80::2".parse().unwrap(),
            interface: Some(vec![count, 9]),
        },
        message,
    };
    relay.emit().unwrap()
}

#[test]
fn through_relays_and_back() {
    let mut server = Server::new();
    let request = message(MessageType::Request, 1, &[]).emit().unwrap();
    server.receive(relayed(relayed(request.clone(), 0), 1), false);
    let [
        Output::Commit(_),
        ..,
        Output::Send {
            port: 547, octets, ..
        },
    ] = &server.outputs[..]
    else {
        panic!("{:?}", server.outputs);
    };
    let mut octets = octets.clone();
    for count in [1, 0] {
        let Ok(Packet::Relay(relay)) = Packet::parse(&octets) else {
            panic!()
        };
        assert_eq!(
            (relay.forward, relay.hop.count, relay.hop.interface),
            (false, count, Some(vec![count, 9]))
        );
        octets = relay.message;
    }
    assert_eq!(Message::parse(&octets).unwrap().message_type, MessageType::Reply);
    // Of a stranger.
    let stranger = Input::Datagram {
        from: "fe80::2".parse().unwrap(),
        interface: "eth0".to_owned(),
        multicast: false,
        octets: relayed(request.clone(), 0),
    };
    assert!(server.machine.process(stranger, server.now).is_empty());
    assert_eq!(server.count("dhcp_refused_relay"), 1);
    // Too many of them.
    server.receive(relayed(request.clone(), 9), false);
    assert!(server.sent().is_empty());
    let nested = (0..10).fold(request, |octets, _| relayed(octets, 8));
    server.receive(nested, false);
    assert!(server.sent().is_empty());
    assert_eq!(server.count("dhcp_refused_hops"), 2);
}
