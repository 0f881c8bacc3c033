//! What of a message on the wire is refused, with the name of the field and the value.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test")]

use std::net::Ipv6Addr;

use kedge_dataplane_api::model::Transaction;
use kedge_dataplane_api::proto;

fn refusal(message: &proto::Transaction) -> String {
    Transaction::try_from(message).unwrap_err().to_string()
}

#[test]
fn errors_name_the_field_and_the_value() {
    let good = proto::Prefix {
        address: vec![0; 16],
        length: 0,
        next_hop: Some(proto::NextHop {
            kind: Some(proto::next_hop::Kind::Tunnel(1)),
        }),
        source: None,
    };
    let with = |prefix: proto::Prefix| proto::Transaction {
        put_prefixes: vec![good.clone(), prefix],
        ..Default::default()
    };
    let deliver = proto::next_hop::Kind::Deliver(proto::Deliver {
        port: "access".into(),
        link_layer_address: vec![1, 2, 3, 4, 5, 6],
    });
    assert_eq!(
        refusal(&with(proto::Prefix {
            next_hop: Some(proto::NextHop { kind: Some(deliver) }),
            ..good.clone()
        })),
        "put_prefixes[1].next_hop.deliver.link_layer_address = 0x010203040506: not the address of one interface"
    );
    assert_eq!(
        refusal(&with(proto::Prefix {
            length: 129,
            ..good.clone()
        })),
        "put_prefixes[1].length = 129: a prefix length is 0..=128"
    );
    assert_eq!(
        refusal(&with(proto::Prefix {
            address: vec![1; 5],
            ..good.clone()
        })),
        "put_prefixes[1].address = 0x0101010101: an address is 16 octets, or 4 of IPv4"
    );
    assert_eq!(
        refusal(&with(proto::Prefix {
            address: vec![0; 4],
            length: 33,
            ..good.clone()
        })),
        "put_prefixes[1].length = 33: a prefix length of IPv4 is 0..=32"
    );
    assert_eq!(
        refusal(&with(proto::Prefix {
            next_hop: None,
            ..good.clone()
        })),
        "put_prefixes[1].next_hop = absent: a prefix needs a next hop"
    );
    let host_bits = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).octets().to_vec();
    assert_eq!(
        refusal(&with(proto::Prefix {
            address: host_bits,
            length: 64,
            ..good.clone()
        })),
        "put_prefixes[1].address = 2001:db8::1/64: the prefix has host bits set"
    );
    let discard = proto::next_hop::Kind::Discard(proto::Discard { reason: 9 });
    assert_eq!(
        refusal(&with(proto::Prefix {
            next_hop: Some(proto::NextHop { kind: Some(discard) }),
            ..good.clone()
        })),
        "put_prefixes[1].next_hop.discard.reason = 9: not a reason to discard"
    );
    let tunnel = |tunnel: proto::Tunnel| proto::Transaction {
        put_tunnels: vec![tunnel],
        ..Default::default()
    };
    let whole = proto::Tunnel {
        id: 1,
        encapsulation: 1,
        local: vec![0; 16],
        remote: vec![0; 16],
        hop_limit: 0,
        mtu: 0,
        encapsulation_limit: None,
        gtpu: None,
        gre: None,
        dscp: 63,
        copy_dscp: false,
    };
    assert!(Transaction::try_from(&tunnel(whole.clone())).is_ok());
    for (dscp, copy_dscp, why) in [
        (64, false, "a code point is 0..=63"),
        (256, false, "a code point is 0..=63"),
        (1, true, "it is copied, so there is no other"),
    ] {
        let message = tunnel(proto::Tunnel {
            dscp,
            copy_dscp,
            ..whole.clone()
        });
        assert_eq!(refusal(&message), format!("put_tunnels[0].dscp = {dscp}: {why}"));
    }
    for (encapsulation, gtpu, gre, expected) in [
        (
            1,
            Some(proto::GtpU::default()),
            None,
            "gtpu = present: only a GTP-U tunnel has that",
        ),
        (
            3,
            Some(proto::GtpU::default()),
            None,
            "gtpu = present: only a GTP-U tunnel has that",
        ),
        (
            1,
            None,
            Some(proto::Gre::default()),
            "gre = present: only a GRE tunnel has that",
        ),
        (
            2,
            None,
            Some(proto::Gre::default()),
            "gre = present: only a GRE tunnel has that",
        ),
    ] {
        let message = tunnel(proto::Tunnel {
            encapsulation,
            gtpu,
            gre,
            ..whole.clone()
        });
        assert_eq!(refusal(&message), format!("put_tunnels[0].{expected}"));
    }
    assert_eq!(
        refusal(&tunnel(proto::Tunnel {
            hop_limit: 256,
            ..whole.clone()
        })),
        "put_tunnels[0].hop_limit = 256: a hop limit is 0..=255"
    );
    assert_eq!(
        refusal(&tunnel(proto::Tunnel {
            id: 0,
            ..whole.clone()
        })),
        "put_tunnels[0].id = 0: a tunnel id is 1..=4294967295"
    );
    assert_eq!(
        refusal(&tunnel(proto::Tunnel {
            encapsulation: 0,
            ..whole.clone()
        })),
        "put_tunnels[0].encapsulation = 0: not a known encapsulation"
    );
    let gtpu = |gtpu: Option<proto::GtpU>| {
        tunnel(proto::Tunnel {
            encapsulation: proto::Encapsulation::Gtpu.into(),
            gtpu,
            ..whole.clone()
        })
    };
    let teids = proto::GtpU {
        local_teid: 1,
        remote_teid: u32::MAX,
        pdu_session: None,
        sequence_numbers: false,
    };
    assert!(Transaction::try_from(&gtpu(Some(teids))).is_ok());
    assert_eq!(
        refusal(&gtpu(None)),
        "put_tunnels[0].gtpu = absent: a GTP-U tunnel has TEIDs"
    );
    assert_eq!(
        refusal(&gtpu(Some(proto::GtpU {
            remote_teid: 0,
            ..teids
        }))),
        "put_tunnels[0].gtpu.remote_teid = 0: a TEID is 1..=4294967295"
    );
    let pdu_session = Some(proto::PduSession {
        uplink: true,
        qfi: 64,
    });
    assert_eq!(
        refusal(&gtpu(Some(proto::GtpU { pdu_session, ..teids }))),
        "put_tunnels[0].gtpu.pdu_session.qfi = 64: a QFI is 0..=63"
    );
    assert_eq!(
        refusal(&tunnel(proto::Tunnel {
            gtpu: Some(teids),
            ..whole.clone()
        })),
        "put_tunnels[0].gtpu = present: only a GTP-U tunnel has that"
    );
    let limited = |encapsulation, limit| {
        tunnel(proto::Tunnel {
            encapsulation,
            gtpu: (encapsulation == 2).then_some(teids),
            encapsulation_limit: Some(limit),
            ..whole.clone()
        })
    };
    assert_eq!(
        refusal(&limited(1, 256)),
        "put_tunnels[0].encapsulation_limit = 256: a tunnel encapsulation limit is 0..=255"
    );
    assert_eq!(
        refusal(&limited(2, 4)),
        "put_tunnels[0].encapsulation_limit = 4: only an IPv6-in-IPv6 tunnel has that"
    );
    let decoded = Transaction::try_from(&limited(1, 0)).unwrap();
    assert_eq!(decoded.put_tunnels[0].1.encapsulation_limit, Some(0));
    let decoded = Transaction::try_from(&tunnel(whole)).unwrap();
    assert_eq!(decoded.put_tunnels[0].1.encapsulation_limit, None);
    assert_eq!(decoded.put_tunnels[0].1.hop_limit, 64, "0 stands for the default");
}

#[test]
fn what_is_wrong_with_a_filter_or_a_meter_is_named() {
    let whole = proto::Filter {
        id: 1,
        priority: 1,
        action: Some(proto::filter::Action::Drop(true)),
        ..Default::default()
    };
    let refused = |filter: proto::Filter| {
        refusal(&proto::Transaction {
            put_filters: vec![filter],
            ..Default::default()
        })
    };
    let with = |selector: proto::Selector| {
        refused(proto::Filter {
            selector: Some(selector),
            ..whole.clone()
        })
    };
    for (priority, shown) in [(0, "0"), (65_536, "65536")] {
        assert_eq!(
            refused(proto::Filter {
                priority,
                ..whole.clone()
            }),
            format!("put_filters[0].priority = {shown}: a priority is 1..=65535")
        );
    }
    assert_eq!(
        refused(proto::Filter {
            id: 0,
            ..whole.clone()
        }),
        "put_filters[0].id = 0: 0 is no filter id"
    );
    let name = "x".repeat(64);
    assert_eq!(
        refused(proto::Filter {
            name: name.clone(),
            ..whole.clone()
        }),
        format!("put_filters[0].name = {name}: is longer than 63 octets")
    );
    assert_eq!(
        refused(proto::Filter {
            action: Some(proto::filter::Action::Hold(false)),
            ..whole.clone()
        }),
        "put_filters[0].hold = false: it is true or another action is given"
    );
    assert_eq!(
        refused(proto::Filter {
            action: None,
            ..whole.clone()
        }),
        "put_filters[0].action = absent: a filter needs an action"
    );
    assert_eq!(
        refused(proto::Filter {
            action: Some(proto::filter::Action::LocalBreakout(false)),
            ..whole.clone()
        }),
        "put_filters[0].local_breakout = false: it is true or another action is given"
    );
    assert_eq!(
        with(proto::Selector {
            source_ports: Some(proto::PortRange { first: 2, last: 1 }),
            ..Default::default()
        }),
        "put_filters[0].selector.source_ports = 2..=1: ports are 0..=65535, the first not above the last"
    );
    assert_eq!(
        with(proto::Selector {
            traffic_class: Some(proto::TrafficClass { value: 3, mask: 2 }),
            ..Default::default()
        }),
        "put_filters[0].selector.traffic_class.value = 3: it has bits that the mask has not"
    );
    assert_eq!(
        with(proto::Selector {
            flow_label: Some(proto::FlowLabel { value: 1 << 20 }),
            ..Default::default()
        }),
        "put_filters[0].selector.flow_label.value = 1048576: a flow label is 0..=1048575"
    );
    assert_eq!(
        with(proto::Selector {
            protocol: Some(proto::Protocol { number: 256 }),
            ..Default::default()
        }),
        "put_filters[0].selector.protocol.number = 256: a protocol is 0..=255"
    );
    assert_eq!(
        refusal(&proto::Transaction {
            put_meters: vec![proto::Meter {
                id: 1,
                rates: Some(proto::meter::Rates::Rfc2698(proto::Rfc2698::default())),
                fill: Some(proto::MeterFill::default()),
                ..Default::default()
            }],
            ..Default::default()
        }),
        "put_meters[0].fill.number = 0: 0 is no number of a fill"
    );
    let meter = |yellow, rates| {
        refusal(&proto::Transaction {
            put_meters: vec![proto::Meter {
                id: 1,
                rates,
                yellow,
                ..Default::default()
            }],
            ..Default::default()
        })
    };
    assert_eq!(
        meter(None, None),
        "put_meters[0].rates = absent: a meter needs rates"
    );
    let rates = Some(proto::meter::Rates::Rfc4115(proto::Rfc4115::default()));
    assert_eq!(
        meter(Some(proto::YellowMark { dscp: 64 }), rates),
        "put_meters[0].yellow.dscp = 64: a DSCP is 0..=63"
    );
}
