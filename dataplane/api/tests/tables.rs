//! Tables, their differences and their form on the wire.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeSet;
use std::net::Ipv6Addr;

use ipnet::Ipv6Net;
use kedge_dataplane_api::model::{
    Direction, DiscardReason, Dscp, Encapsulation, Filter, FilterAction, Gre, GtpU, LinkLayerAddress, Meter,
    MeterFill, MeterRates, NextHop, PduSession, PortRange, PrefixEntry, PrefixMap, Selector, Sender, Source,
    SourcePath, Tables, TrafficClass, Transaction, Tunnel, Yellow,
};
use kedge_dataplane_api::proto;
use proptest::prelude::*;

fn port() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("access".to_owned()),
        Just("core".to_owned()),
        Just("core-2".to_owned())
    ]
}

/// Few distinct values, so that two random states overlap.
fn address() -> impl Strategy<Value = Ipv6Addr> {
    prop_oneof![
        (0u16..6).prop_map(|host| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, host)),
        any::<u128>().prop_map(Ipv6Addr::from),
        (0u8..4).prop_map(|host| std::net::Ipv4Addr::new(192, 0, 2, host).to_ipv6_mapped())
    ]
}

fn link_layer_address() -> impl Strategy<Value = LinkLayerAddress> {
    any::<[u8; 5]>().prop_map(|low| [2, low[0], low[1], low[2], low[3], low[4]])
}

fn prefix() -> impl Strategy<Value = Ipv6Net> {
    (address(), 0u8..=128).prop_map(|(address, length)| Ipv6Net::new(address, length).unwrap().trunc())
}

fn next_hop() -> impl Strategy<Value = NextHop> {
    prop_oneof![
        (port(), link_layer_address()).prop_map(|(port, link_layer_address)| NextHop::Deliver {
            port,
            link_layer_address
        }),
        (1..=u32::MAX).prop_map(NextHop::Tunnel),
        (port(), address()).prop_map(|(port, address)| NextHop::Gateway { port, address }),
        port().prop_map(|port| NextHop::OnLink { port }),
        prop_oneof![
            Just(DiscardReason::NodeAbsent),
            Just(DiscardReason::Unallocated),
            Just(DiscardReason::Prohibited)
        ]
        .prop_map(NextHop::Discard),
    ]
}

fn source() -> impl Strategy<Value = Source> {
    let path = prop_oneof![
        Just(SourcePath::Native),
        (1..=u32::MAX).prop_map(SourcePath::Tunnel)
    ];
    let node = (port(), link_layer_address()).prop_map(|(port, link_layer_address)| Sender::Node {
        port,
        link_layer_address,
    });
    let sender = prop_oneof![node, (1..=u32::MAX).prop_map(Sender::Tunnel)];
    (sender, path).prop_map(|(sender, path)| Source { sender, path })
}

fn entry() -> impl Strategy<Value = PrefixEntry> {
    (next_hop(), prop::option::of(source())).prop_map(|(next_hop, source)| PrefixEntry { next_hop, source })
}

fn tunnel() -> impl Strategy<Value = Tunnel> {
    let addresses = (address(), address());
    (encapsulation(), addresses, 1u8..=255, any::<u16>()).prop_map(
        |(encapsulation, (local, remote), hop_limit, mtu)| Tunnel {
            encapsulation,
            local,
            remote,
            hop_limit,
            mtu,
            // Only one kind of tunnel has it; another number will do.
            encapsulation_limit: match encapsulation {
                Encapsulation::Ipv6InIpv6 if hop_limit > 9 => Some(hop_limit),
                _ => None,
            },
            dscp: match (mtu % 65) as u8 {
                64 => Dscp::Copied,
                dscp => Dscp::Is(dscp),
            },
        },
    )
}

fn encapsulation() -> impl Strategy<Value = Encapsulation> {
    let teid = || any::<std::num::NonZeroU32>();
    let pdu_session = (any::<bool>(), 0u8..64).prop_map(|(uplink, qfi)| PduSession { uplink, qfi });
    let gtpu = (teid(), teid(), prop::option::of(pdu_session), any::<bool>()).prop_map(
        |(local_teid, remote_teid, pdu_session, sequence_numbers)| GtpU {
            local_teid,
            remote_teid,
            pdu_session,
            sequence_numbers,
        },
    );
    prop_oneof![
        Just(Encapsulation::Ipv6InIpv6),
        gtpu.prop_map(Encapsulation::GtpU),
        (any::<Option<u32>>(), any::<Option<u32>>()).prop_map(|(local_key, remote_key)| {
            Encapsulation::Gre(Gre {
                local_key,
                remote_key,
            })
        })
    ]
}

fn selector() -> impl Strategy<Value = Selector> {
    let direction = prop_oneof![
        Just(None),
        Just(Some(Direction::FromNode)),
        Just(Some(Direction::ToNode))
    ];
    let ports = || {
        prop::option::of(any::<(u16, u16)>().prop_map(|(one, other)| PortRange {
            first: one.min(other),
            last: one.max(other),
        }))
    };
    let traffic_class = any::<(u8, u8)>().prop_map(|(value, mask)| TrafficClass {
        value: value & mask,
        mask,
    });
    (
        direction,
        (prefix(), prefix()),
        any::<Option<u8>>(),
        (ports(), ports()),
        traffic_class,
        prop::option::of(0u32..1 << 20),
    )
        .prop_map(
            |(direction, addresses, protocol, ports, traffic_class, flow_label)| {
                let any = |prefix: Ipv6Net| {
                    if prefix.prefix_len() == 0 {
                        Ipv6Net::default()
                    } else {
                        prefix
                    }
                };
                Selector {
                    direction,
                    source: any(addresses.0),
                    destination: any(addresses.1),
                    protocol,
                    source_ports: ports.0,
                    destination_ports: ports.1,
                    traffic_class,
                    flow_label,
                }
            },
        )
}

fn filter() -> impl Strategy<Value = Filter> {
    let action = prop_oneof![
        Just(FilterAction::Anchor),
        (1..=u32::MAX).prop_map(FilterAction::Tunnel),
        Just(FilterAction::LocalBreakout),
        Just(FilterAction::Drop),
        Just(FilterAction::Hold),
        (1..=u64::MAX).prop_map(FilterAction::Meter),
        (1..=u64::MAX).prop_map(FilterAction::NodeMeter),
    ];
    let rest = (
        any::<u32>(),
        any::<u32>(),
        "[a-z0-9-]{0,63}",
        prop::option::of(1..=u32::MAX),
    );
    (prop::option::of(prefix()), 1u16.., selector(), action, rest).prop_map(
        |(scope, priority, selector, action, (idle_timeout, lifetime, name, except_tunnel))| Filter {
            name,
            scope,
            priority,
            selector,
            action,
            idle_timeout,
            lifetime,
            except_tunnel,
        },
    )
}

fn meter() -> impl Strategy<Value = Meter> {
    let rates = any::<(bool, [u64; 4])>().prop_map(|(one, [cir, cbs, other, burst])| {
        if one {
            MeterRates::Rfc2698 {
                cir,
                cbs,
                pir: other,
                pbs: burst,
            }
        } else {
            MeterRates::Rfc4115 {
                cir,
                cbs,
                eir: other,
                ebs: burst,
            }
        }
    });
    let yellow = prop_oneof![Just(Yellow::Pass), (0u8..64).prop_map(Yellow::Mark)];
    let fill = (1..=u64::MAX, any::<u64>(), any::<u64>());
    let fill = prop::option::of(fill.prop_map(|(number, committed, other)| MeterFill {
        number,
        committed,
        other,
    }));
    (rates, any::<bool>(), yellow, fill).prop_map(|(rates, colour_aware, yellow, fill)| Meter {
        rates,
        colour_aware,
        yellow,
        fill,
    })
}

fn tables() -> impl Strategy<Value = Tables> {
    (
        prop::collection::btree_map(prefix(), entry(), 0..12),
        prop::collection::btree_map(1u32..8, tunnel(), 0..6),
        prop::collection::btree_map((port(), address()), link_layer_address(), 0..8),
        prop::collection::btree_set(address(), 0..6),
        prop::collection::btree_map(1u64..8, filter(), 0..6),
        prop::collection::btree_map(1u64..8, meter(), 0..6),
    )
        .prop_map(
            |(prefixes, tunnels, neighbours, local_addresses, filters, meters)| Tables {
                prefixes: prefixes.into_iter().collect(),
                tunnels,
                neighbours,
                local_addresses,
                filters,
                meters,
            },
        )
}

proptest! {
    #[test]
    fn difference_turns_one_state_into_another(have in tables(), want in tables()) {
        let mut tables = have.clone();
        let transaction = Transaction::between(&have, &want);
        prop_assert_eq!(transaction.is_empty(), have == want);
        tables.apply(&transaction);
        prop_assert_eq!(&tables, &want);
        prop_assert!(Transaction::between(&tables, &want).is_empty());
    }

    #[test]
    fn replacement_needs_not_know_what_is_there(have in tables(), want in tables()) {
        let mut tables = have;
        tables.apply(&Transaction::replacing(&want));
        prop_assert_eq!(&tables, &want);
    }

    #[test]
    fn transaction_survives_the_wire(have in tables(), want in tables(), generation: u64, replace_all: bool) {
        let transaction = Transaction { expected_generation: generation, replace_all, ..Transaction::between(&have, &want) };
        let message = proto::Transaction::from(&transaction);
        prop_assert_eq!(Transaction::try_from(&message), Ok(transaction));
    }

    #[test]
    fn state_survives_the_wire(tables in tables(), generation: u64) {
        prop_assert_eq!(proto::State::encode(generation, &tables).decode(), Ok((generation, tables)));
    }

    #[test]
    fn octet_strings_of_any_length_do_not_panic(octets in prop::collection::vec(any::<u8>(), 0..40), number: u32) {
        let message = proto::Transaction {
            delete_prefixes: vec![proto::PrefixKey { address: octets.clone(), length: number }],
            put_local_addresses: vec![octets.clone()],
            ..Default::default()
        };
        let valid = match octets.len() {
            16 => number <= 128
                && Ipv6Net::new(Ipv6Addr::from(<[u8; 16]>::try_from(&octets[..]).unwrap()), number as u8)
                    .is_ok_and(|net| net.trunc() == net),
            4 => number <= 32 && {
                let word = u32::from_be_bytes(<[u8; 4]>::try_from(&octets[..]).unwrap());
                u64::from(word) << number & 0xffff_ffff == 0
            },
            _ => false,
        };
        prop_assert_eq!(Transaction::try_from(&message).is_ok(), valid);
    }
}

#[test]
fn an_empty_replacement_is_not_nothing() {
    let nothing = Tables {
        prefixes: PrefixMap::default(),
        local_addresses: BTreeSet::new(),
        ..Tables::default()
    };
    assert!(!Transaction::replacing(&nothing).is_empty());
    assert!(Transaction::default().is_empty());
}
