//! What of IPv4 may be in the tables.

use std::net::Ipv4Addr;
use std::num::NonZeroU32;

use super::*;

#[test]
fn what_of_ipv4_is_refused() {
    let mapped = |host| Ipv4Addr::new(192, 0, 2, host).to_ipv6_mapped();
    let tunnel = |encapsulation, local, remote| model::Tunnel {
        encapsulation,
        local,
        remote,
        hop_limit: 64,
        mtu: 0,
        encapsulation_limit: None,
        dscp: kedge_dataplane_api::model::Dscp::default(),
    };
    let teid = NonZeroU32::MIN;
    let gtpu = Encapsulation::GtpU(model::GtpU {
        local_teid: teid,
        remote_teid: teid,
        pdu_session: None,
        sequence_numbers: false,
    });
    let prefix = |prefix: &str, next_hop| {
        let entry = PrefixEntry {
            next_hop,
            source: None,
        };
        (prefix.parse().unwrap(), entry)
    };
    let gateway = |address| model::NextHop::Gateway {
        port: "core".to_owned(),
        address,
    };
    let with_tunnel = |tunnel| Transaction {
        put_local_addresses: vec![mapped(1), address(9)],
        put_tunnels: vec![(1, tunnel)],
        ..Transaction::default()
    };
    let with_prefix = |put| Transaction {
        put_prefixes: vec![put],
        ..Transaction::default()
    };
    for (transaction, expected) in [
        (
            with_tunnel(tunnel(gtpu, mapped(1), address(1))),
            "tunnel 1: 2001:db8:1::1 cannot be used: one end has an IPv4 address",
        ),
        (
            with_tunnel(tunnel(Encapsulation::Ipv6InIpv6, mapped(1), mapped(2))),
            "tunnel 1: 192.0.2.2 cannot be used: only GTP-U goes over IPv4",
        ),
        (
            with_tunnel(tunnel(
                gtpu,
                mapped(1),
                Ipv4Addr::new(224, 0, 0, 1).to_ipv6_mapped(),
            )),
            "tunnel 1: 224.0.0.1 cannot be used: no global unicast",
        ),
        (
            with_tunnel(tunnel(gtpu, mapped(3), mapped(2))),
            "tunnel 1: 192.0.2.3 cannot be used: no local address",
        ),
        (
            with_prefix(prefix("::ffff:c000:200/120", gateway(address(1)))),
            "prefix 192.0.2.0/24: 2001:db8:1::1 cannot be used: the prefix is of the other IP version",
        ),
        (
            with_prefix(prefix("::/0", gateway(mapped(1)))),
            "prefix ::/0: 192.0.2.1 cannot be used: the prefix is of the other IP version",
        ),
        (
            with_prefix(prefix(
                "::ffff:c000:200/120",
                model::NextHop::Deliver {
                    port: "access".to_owned(),
                    link_layer_address: [2, 0, 0, 0, 0, 9],
                },
            )),
            "prefix 192.0.2.0/24: dataplane.inner_ipv4 = \"refuse\"",
        ),
        (
            with_prefix(prefix(
                "::ffff:c000:205/128",
                model::NextHop::Hold { maximum_ms: 0 },
            )),
            "prefix 192.0.2.5/32: dataplane.inner_ipv4 = \"refuse\"",
        ),
        (
            Transaction {
                put_local_addresses: vec![Ipv4Addr::BROADCAST.to_ipv6_mapped()],
                ..Transaction::default()
            },
            "local address 255.255.255.255: 255.255.255.255 cannot be used",
        ),
    ] {
        let error = compiler().apply(&transaction).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let good = tunnel(gtpu, mapped(1), mapped(2));
    compiler().apply(&with_tunnel(good)).unwrap();
}

#[test]
fn where_it_is_carried_nodes_may_have_it_behind_tunnels_and_not_on_links() {
    let carrying = || {
        let limits = TableLimits {
            inner_ipv4: true,
            ..TableLimits::default()
        };
        compiler().with_limits(limits)
    };
    let on_link = model::NextHop::Deliver {
        port: "access".to_owned(),
        link_layer_address: [2, 0, 0, 0, 0, 9],
    };
    let hold = || model::NextHop::Hold { maximum_ms: 0 };
    let sender = |sender| {
        Some(model::Source {
            sender,
            path: model::SourcePath::Native,
        })
    };
    let node = model::Sender::Node {
        port: "access".to_owned(),
        link_layer_address: [2, 0, 0, 0, 0, 9],
    };
    let after = model::NextHop::After {
        tunnel: 1,
        maximum_ms: 0,
        then: Box::new(on_link.clone()),
    };
    let put = |next_hop, source| Transaction {
        put_prefixes: vec![(
            "::ffff:c000:205/128".parse().unwrap(),
            PrefixEntry { next_hop, source },
        )],
        ..Transaction::default()
    };
    let cases = [(on_link, None), (after, None), (hold(), sender(node))];
    for (next_hop, source) in cases {
        let error = carrying().apply(&put(next_hop, source)).unwrap_err().to_string();
        assert_eq!(
            error,
            "prefix 192.0.2.5/32: IPv4 is carried in tunnels, and not on access links"
        );
    }
    let error = carrying()
        .apply(&put(model::NextHop::Tunnel(7), None))
        .unwrap_err()
        .to_string();
    assert!(error.contains("there is no tunnel 7"), "{error}");
    carrying().apply(&put(hold(), None)).unwrap();
}
