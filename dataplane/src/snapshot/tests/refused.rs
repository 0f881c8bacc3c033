//! What is refused, and that nothing has changed then.

use super::*;

#[test]
fn a_refused_transaction_names_the_value_and_changes_nothing() {
    let text = |change: &dyn Fn(&mut Transaction)| {
        let mut compiler = compiler();
        let mut base = Transaction::default();
        base.put_local_addresses.push(address(9));
        base.put_tunnels.push((
            1,
            model::Tunnel {
                encapsulation: Encapsulation::Ipv6InIpv6,
                local: address(9),
                remote: address(1),
                hop_limit: 64,
                mtu: 0,
                encapsulation_limit: None,
                dscp: kedge_dataplane_api::model::Dscp::default(),
            },
        ));
        let through = PrefixEntry {
            next_hop: model::NextHop::Tunnel(1),
            source: None,
        };
        base.put_prefixes
            .push(("2001:db8:7::/48".parse().unwrap(), through));
        compiler.apply(&base).unwrap();
        let before = (compiler.tables().clone(), compiler.generation());
        let mut transaction = Transaction::default();
        change(&mut transaction);
        let error = compiler.apply(&transaction).unwrap_err();
        assert_eq!((compiler.tables().clone(), compiler.generation()), before);
        error.to_string()
    };
    let put = |prefix: &str, next_hop| {
        (
            prefix.parse().unwrap(),
            PrefixEntry {
                next_hop,
                source: None,
            },
        )
    };
    let mac = [2, 0, 0, 0, 0, 9];
    let tunnel = |local, remote| model::Tunnel {
        encapsulation: Encapsulation::Ipv6InIpv6,
        local,
        remote,
        hop_limit: 64,
        mtu: 0,
        encapsulation_limit: None,
        dscp: kedge_dataplane_api::model::Dscp::default(),
    };
    type Case<'a> = (&'a dyn Fn(&mut Transaction), &'a str);
    let cases: [Case; 14] = [
        (
            &|it| {
                it.put_prefixes.push(put(
                    "2001:db8::/32",
                    model::NextHop::OnLink {
                        port: "cor".to_owned(),
                    },
                ))
            },
            "no port \"cor\"",
        ),
        (
            &|it| {
                it.put_prefixes
                    .push(put("2001:db8::1/32", model::NextHop::Tunnel(1)))
            },
            "2001:db8::1/32: has host bits",
        ),
        (
            &|it| {
                it.put_prefixes
                    .push(put("2001:db8::/32", model::NextHop::Tunnel(9)))
            },
            "no tunnel 9",
        ),
        (
            &|it| {
                it.put_prefixes.push(put(
                    "2001:db8::/32",
                    model::NextHop::Deliver {
                        port: "core".to_owned(),
                        link_layer_address: mac,
                    },
                ))
            },
            "wrong side",
        ),
        (
            &|it| {
                it.put_prefixes.push(put(
                    "2001:db8::/32",
                    model::NextHop::Deliver {
                        port: "access".to_owned(),
                        link_layer_address: [1; 6],
                    },
                ))
            },
            "no unicast link-layer",
        ),
        (
            &|it| {
                it.put_prefixes.push(put(
                    "2001:db8::/32",
                    model::NextHop::Gateway {
                        port: "core".to_owned(),
                        address: "ff02::1".parse().unwrap(),
                    },
                ))
            },
            "ff02::1 cannot be used",
        ),
        (
            &|it| it.put_tunnels.push((0, tunnel(address(9), address(2)))),
            "0 is no tunnel id",
        ),
        (
            &|it| it.put_tunnels.push((2, tunnel(address(9), address(9)))),
            "both ends are the same",
        ),
        (
            &|it| it.put_tunnels.push((2, tunnel(address(8), address(2)))),
            "no local address",
        ),
        (
            &|it| it.put_tunnels.push((2, tunnel(address(9), address(1)))),
            "tunnels 1 and 2 both lead to 2001:db8:1::1",
        ),
        (
            &|it| it.delete_tunnels.push(1),
            "prefix 2001:db8:7::/48: there is no tunnel 1",
        ),
        (
            &|it| it.delete_local_addresses.push(address(9)),
            "no local address",
        ),
        (
            &|it| it.delete_prefixes.push("2001:db8:8::/48".parse().unwrap()),
            "prefix 2001:db8:8::/48 cannot be deleted",
        ),
        (
            &|it| it.put_neighbours.push((("core".to_owned(), address(3)), [0; 6])),
            "no unicast link-layer",
        ),
    ];
    for (change, expected) in cases {
        let said = text(change);
        assert!(said.contains(expected), "{said:?} does not say {expected:?}");
    }
}

#[test]
fn what_there_is_no_room_for_is_refused_whole() {
    let limits = TableLimits {
        prefixes: 3,
        tunnels: 1,
        ..TableLimits::default()
    };
    let mut compiler = compiler().with_limits(limits);
    let prefix = |number: u16| {
        let entry = PrefixEntry {
            next_hop: model::NextHop::Discard(DiscardReason::Unallocated),
            source: None,
        };
        let prefix: Ipv6Net = format!("2001:db8:{number:x}::/48").parse().unwrap();
        (prefix, entry)
    };
    let put = |numbers: &[u16]| Transaction {
        put_prefixes: numbers.iter().map(|number| prefix(*number)).collect(),
        ..Transaction::default()
    };
    compiler.apply(&put(&[1, 2])).unwrap();
    let before = (compiler.tables().clone(), compiler.generation());
    let refused = compiler.apply(&put(&[2, 3, 4, 5])).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "prefix 2001:db8:4::/48: there would be 4 prefixes, and dataplane.maximum_prefixes = 3"
    );
    let refused = compiler.apply(&put(&[3, 3])).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "prefix 2001:db8:3::/48 is there twice in one transaction"
    );
    assert_eq!((compiler.tables().clone(), compiler.generation()), before);
    // What makes room in the same transaction counts; so does starting anew.
    let mut swap = put(&[3, 4]);
    swap.delete_prefixes.push(prefix(1).0);
    compiler.apply(&swap).unwrap();
    let mut anew = put(&[7, 8, 9]);
    anew.replace_all = true;
    compiler.apply(&anew).unwrap();
    assert_eq!(compiler.tables().prefixes.len(), 3);
    let tunnel = |id: u8| {
        let tunnel = model::Tunnel {
            encapsulation: Encapsulation::Ipv6InIpv6,
            local: address(9),
            remote: address(10 + id),
            hop_limit: 64,
            mtu: 0,
            encapsulation_limit: None,
            dscp: kedge_dataplane_api::model::Dscp::default(),
        };
        (u32::from(id), tunnel)
    };
    let two = Transaction {
        put_local_addresses: vec![address(9)],
        put_tunnels: vec![tunnel(1), tunnel(2)],
        ..Transaction::default()
    };
    let refused = compiler.apply(&two).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "tunnel 2: there would be 2 tunnels, and dataplane.maximum_tunnels = 1"
    );
}

#[test]
fn two_tunnels_cannot_have_one_teid_from_one_peer() {
    let mut compiler = compiler();
    let first = Transaction {
        put_local_addresses: vec![address(9)],
        put_tunnels: vec![(1, gtpu_tunnel((1, 2))), (2, gtpu_tunnel((1, 3)))],
        ..Transaction::default()
    };
    compiler.apply(&first).unwrap();
    let again = Transaction {
        put_tunnels: vec![(3, gtpu_tunnel((1, 2)))],
        ..Transaction::default()
    };
    assert_eq!(
        compiler.apply(&again).unwrap_err().to_string(),
        "tunnels 1 and 3 both have TEID 0x00000001 from 2001:db8:2::1"
    );
    // The first one's place is free in the transaction that deletes it.
    let instead = Transaction {
        delete_tunnels: vec![1],
        ..again
    };
    let snapshot = compiler.apply(&instead).unwrap();
    let lookup = |teid, number| snapshot.peers.lookup(gtpu::key(teid, address(number).into()));
    assert_eq!(lookup(1, 4), TEID_OF_OTHERS);
    // Where one peer is left, the TEID alone leads to it.
    let alone = Transaction {
        delete_tunnels: vec![2],
        ..Transaction::default()
    };
    assert_eq!(
        compiler.apply(&alone).unwrap().peers.len(),
        2,
        "the TEID, and the peer's address"
    );
    assert_eq!(lookup(2, 2), 0);
    assert_eq!(snapshot.tunnels.get(lookup(1, 2)).remote, address(2).octets());
    assert_eq!(snapshot.tunnels.get(lookup(1, 3)).remote, address(3).octets());
}
