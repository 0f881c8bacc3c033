//! Whatever the order of changes, a snapshot says the same as one compiled in one go.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;

use ipnet::Ipv6Net;
use kedge_dataplane_api::model::{
    self, DiscardReason, Encapsulation, PrefixEntry, Sender, Source, SourcePath, Tables, Transaction,
};
use proptest::prelude::*;

use super::*;
use crate::tunnel::gtpu;

mod gre;
mod ipv4;
mod neighbours;

fn ports() -> Vec<PortDescription> {
    let port = |name: &str, access, mtu| PortDescription {
        name: name.to_owned(),
        access,
        link_layer_address: [2, 0, 0, 0, 0, 1],
        mtu,
        vlan: None,
        exception: true,
    };
    vec![
        port("core", false, 1500),
        port("access", true, 1500),
        port("core2", false, 9000),
    ]
}

fn compiler() -> Compiler {
    Compiler::new(ports(), "2001:db8:a::1".parse().unwrap(), 1)
}

/// What a snapshot means: indexes resolved to what they stand for.
fn meaning(snapshot: &Snapshot, keys: &[Ipv6Addr]) -> Vec<String> {
    let tunnel = |index| {
        let tunnel = snapshot.tunnels.get(index);
        let path = snapshot.paths.get(tunnel.path);
        let adjacency = snapshot.adjacencies.get(path.adjacency);
        let (on_link, mtu) = (path.on_link, path.mtu);
        let tunnel = crate::snapshot::Tunnel { path: 0, ..tunnel };
        format!("{tunnel:?} {adjacency:?} {on_link} {mtu}")
    };
    let meaning = |key: &Ipv6Addr| {
        let route = snapshot.routes.route(snapshot.fib.lookup(u128::from(*key)));
        let next_hop = match route.next_hop {
            NextHop::Adjacency(index) => format!("{:?}", snapshot.adjacencies.get(index)),
            NextHop::Tunnel(index) => tunnel(index),
            other => format!("{other:?}"),
        };
        let source = match route.source {
            SourceRule::Tunnel {
                port,
                link_layer_address,
                tunnel: index,
            } => {
                format!("{port} {link_layer_address:?} {}", tunnel(index))
            }
            SourceRule::Behind {
                tunnel: index,
                onward,
            } => format!("behind {} {:?}", tunnel(index), onward.map(tunnel)),
            other => format!("{other:?}"),
        };
        let peer = snapshot.peers.lookup(u128::from(*key));
        let peer = if peer == 0 { String::new() } else { tunnel(peer) };
        let gtpu = [1, 2].map(
            |teid| match snapshot.peers.lookup(gtpu::key(teid, u128::from(*key))) {
                0 => String::new(),
                TEID_OF_OTHERS => "other".to_owned(),
                index => tunnel(index),
            },
        );
        let gre = gre::KEYS.map(|(it, _)| {
            snapshot
                .peers
                .lookup(crate::tunnel::gre::peer_key(it, u128::from(*key)))
        });
        let gre = gre.map(|index| match index {
            0 => String::new(),
            TEID_OF_OTHERS => "other".to_owned(),
            index => tunnel(index),
        });
        format!("{key}: {next_hop} | {source} | {peer} | {gtpu:?} | {gre:?}")
    };
    keys.iter().map(meaning).collect()
}

/// A small world, so that entries meet.
fn address(number: u8) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, number.into(), 0, 0, 0, 0, 1)
}

fn prefix() -> impl Strategy<Value = Ipv6Net> {
    (0u8..5, prop::sample::select(vec![0u8, 32, 48, 64, 128]))
        .prop_map(|(number, length)| Ipv6Net::new(address(number), length).unwrap().trunc())
}

fn entry() -> impl Strategy<Value = PrefixEntry> {
    let link_layer_address = [2, 0, 0, 0, 10, 1];
    let core = prop::sample::select(vec!["core", "core2"]);
    let next_hop = prop_oneof![
        Just(model::NextHop::Deliver {
            port: "access".to_owned(),
            link_layer_address
        }),
        (1u32..4).prop_map(model::NextHop::Tunnel),
        (core.clone(), 0u8..5).prop_map(|(port, number)| model::NextHop::Gateway {
            port: port.to_owned(),
            address: address(number)
        }),
        core.prop_map(|port| model::NextHop::OnLink {
            port: port.to_owned()
        }),
        Just(model::NextHop::Discard(DiscardReason::NodeAbsent)),
    ];
    let path = prop_oneof![Just(SourcePath::Native), (1u32..4).prop_map(SourcePath::Tunnel)];
    let node = Just(Sender::Node {
        port: "access".to_owned(),
        link_layer_address,
    });
    let sender = prop_oneof![node, (1u32..4).prop_map(Sender::Tunnel)];
    let back = |it: &Source| matches!((&it.sender, it.path), (Sender::Tunnel(from), SourcePath::Tunnel(to)) if *from == to);
    let source = (sender, path).prop_map(|(sender, path)| Source { sender, path });
    let source = prop::option::of(source.prop_filter("back into its tunnel", move |it| !back(it)));
    (next_hop, source).prop_map(|(next_hop, source)| PrefixEntry { next_hop, source })
}

/// Local TEID and peer of some tunnels: a TEID may have two peers, and a peer two TEIDs.
const TEIDS: [(u32, u8); 4] = [(1, 2), (2, 2), (1, 3), (2, 4)];

fn teid(tunnel: &model::Tunnel) -> Option<u32> {
    match tunnel.encapsulation {
        Encapsulation::Ipv6InIpv6 | Encapsulation::Gre(_) => None,
        Encapsulation::GtpU(it) => Some(it.local_teid.get()),
    }
}

fn gtpu_tunnel((local, number): (u32, u8)) -> model::Tunnel {
    let teid = |teid| std::num::NonZeroU32::new(teid).unwrap();
    model::Tunnel {
        encapsulation: Encapsulation::GtpU(model::GtpU {
            local_teid: teid(local),
            remote_teid: teid(77),
            pdu_session: None,
            sequence_numbers: false,
        }),
        local: address(9),
        remote: address(number),
        hop_limit: 64,
        mtu: 0,
        encapsulation_limit: None,
        dscp: kedge_dataplane_api::model::Dscp::default(),
    }
}

fn tables() -> impl Strategy<Value = Tables> {
    let tunnel = |number| model::Tunnel {
        encapsulation: Encapsulation::Ipv6InIpv6,
        local: address(9),
        remote: address(number),
        hop_limit: 64,
        mtu: 0,
        encapsulation_limit: None,
        dscp: kedge_dataplane_api::model::Dscp::default(),
    };
    (
        prop::collection::btree_map(prefix(), entry(), 0..6),
        prop::collection::btree_map(
            (
                prop::sample::select(vec!["core", "core2"]).prop_map(str::to_owned),
                (0u8..5).prop_map(address),
            ),
            Just([2, 0, 0, 0, 0, 7]),
            0..4,
        ),
        prop::sample::subsequence(vec![0u8, 1, 2], 0..3),
        prop::sample::subsequence(vec![1u8, 2, 3], 3),
        prop::sample::subsequence(TEIDS.to_vec(), 0..5),
        prop::sample::subsequence(gre::KEYS.to_vec(), 0..5),
    )
        .prop_map(move |(prefixes, neighbours, locals, peers, teids, keys)| {
            let mut local_addresses: BTreeSet<Ipv6Addr> = locals.into_iter().map(address).collect();
            local_addresses.insert(address(9));
            let tunnels = (1u32..)
                .zip(peers)
                .map(|(id, number)| (id, tunnel(number)))
                .chain((10u32..).zip(teids).map(|(id, it)| (id, gtpu_tunnel(it))))
                .chain((20u32..).zip(keys).map(|(id, it)| (id, gre::tunnel(it))))
                .collect();
            Tables {
                prefixes: prefixes.into_iter().collect(),
                tunnels,
                neighbours,
                local_addresses,
                ..Tables::default()
            }
        })
}

proptest! {
    #[test]
    fn step_by_step_is_all_at_once(states in prop::collection::vec(tables(), 1..6)) {
        let keys: Vec<Ipv6Addr> = (0..10).map(address).chain(["2001:db8::9".parse().unwrap(), "fd00::1".parse().unwrap()]).collect();
        let mut step_by_step = compiler();
        for (generation, want) in (2u64..).zip(states) {
            let transaction = Transaction::between(step_by_step.tables(), &want);
            let snapshot = step_by_step.apply(&transaction).unwrap();
            prop_assert_eq!(snapshot.generation, generation);
            prop_assert_eq!(step_by_step.tables(), &want);
            let mut at_once = compiler();
            let fresh = at_once.apply(&Transaction::replacing(&want)).unwrap();
            prop_assert_eq!(meaning(&snapshot, &keys), meaning(&fresh, &keys));
            prop_assert_eq!(snapshot.fib.len(), fresh.fib.len());
            neighbours::are_where_they_say(&want, &snapshot)?;
            let mut of_numbers: BTreeMap<(bool, u32), usize> = BTreeMap::new();
            let key = |tunnel: &model::Tunnel| match tunnel.encapsulation {
                Encapsulation::Gre(it) => it.local_key.map(|key| (true, key)),
                _ => teid(tunnel).map(|teid| (false, teid)),
            };
            for number in want.tunnels.values().filter_map(key) {
                *of_numbers.entry(number).or_default() += 1;
            }
            // A key for each peer; for each GRE tunnel without a key; for each TEID and GRE key, and for each of its peers where
            // there are several.
            let sources = want.tunnels.values().map(|tunnel| tunnel.remote).collect::<BTreeSet<_>>().len();
            let numbers: usize = of_numbers.values().map(|count| if *count > 1 { 1 + count } else { 1 }).sum();
            let keyless = |tunnel: &&model::Tunnel| matches!(tunnel.encapsulation, Encapsulation::Gre(it) if it.local_key.is_none());
            let keyless = want.tunnels.values().filter(keyless).count();
            prop_assert_eq!(snapshot.peers.len(), sources + keyless + numbers);
        }
    }
}

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
fn peers_may_be_swapped_in_one_transaction() {
    let mut compiler = compiler();
    let tunnel = |number| model::Tunnel {
        encapsulation: Encapsulation::Ipv6InIpv6,
        local: address(9),
        remote: address(number),
        hop_limit: 64,
        mtu: 0,
        encapsulation_limit: None,
        dscp: kedge_dataplane_api::model::Dscp::default(),
    };
    let mut first = Transaction::default();
    first.put_local_addresses.push(address(9));
    first.put_tunnels = vec![(1, tunnel(1)), (2, tunnel(2))];
    compiler.apply(&first).unwrap();
    let swap = Transaction {
        put_tunnels: vec![(1, tunnel(2)), (2, tunnel(1))],
        ..Transaction::default()
    };
    let snapshot = compiler.apply(&swap).unwrap();
    for number in [1, 2] {
        let index = snapshot.peers.lookup(address(number).into());
        assert_eq!(snapshot.tunnels.get(index).remote, address(number).octets());
    }
}

#[test]
fn traffic_is_counted_from_the_moment_an_entry_is_put() {
    let mut compiler = compiler();
    let node: Ipv6Net = "2001:db8:100::/64".parse().unwrap();
    let entry = PrefixEntry {
        next_hop: model::NextHop::Deliver {
            port: "access".to_owned(),
            link_layer_address: [2; 6],
        },
        source: None,
    };
    let put = Transaction {
        put_prefixes: vec![(node, entry)],
        ..Transaction::default()
    };
    let snapshot = compiler.apply(&put).unwrap();
    let route = snapshot.routes.get(snapshot.fib.lookup(node.network().into()));
    snapshot.prefix_traffic.to(0, route.counter(), 100, 7);
    let octets = |compiler: &Compiler| compiler.prefix_total(node).unwrap().here.traffic.to_bytes;
    assert_eq!(octets(&compiler), 100);
    compiler
        .apply(&Transaction {
            delete_prefixes: vec![node],
            ..Transaction::default()
        })
        .unwrap();
    // Its place is used again; its count is not.
    compiler.apply(&put).unwrap();
    assert_eq!(octets(&compiler), 0);
}

#[test]
fn what_was_counted_of_what_goes_stays_until_it_is_had() {
    let mut compiler = compiler();
    let node: Ipv6Net = "2001:db8:100::/64".parse().unwrap();
    let entry = PrefixEntry {
        next_hop: model::NextHop::Deliver {
            port: "access".to_owned(),
            link_layer_address: [2; 6],
        },
        source: None,
    };
    let filter = model::Filter {
        name: "web".to_owned(),
        scope: Some(node),
        priority: 1,
        selector: model::Selector::default(),
        action: model::FilterAction::Anchor,
        idle_timeout: 0,
        lifetime: 0,
        except_tunnel: None,
    };
    let put = Transaction {
        put_prefixes: vec![(node, entry)],
        put_filters: vec![(9, filter)],
        ..Transaction::default()
    };
    let delete = Transaction {
        delete_prefixes: vec![node],
        delete_filters: vec![9],
        ..Transaction::default()
    };
    // Of what was never used there is nothing to tell.
    drop(compiler.apply(&put).unwrap());
    drop(compiler.apply(&delete).unwrap());
    assert_eq!(compiler.departed(0).count(), 0);

    let held = compiler.apply(&put).unwrap();
    let counter = held.routes.get(held.fib.lookup(node.network().into())).counter();
    let of_filter = compiler.filter_counter(9);
    held.prefix_traffic.to(0, counter, 100, 7);
    held.passing_traffic.to(0, counter, 1000);
    drop(compiler.apply(&delete).unwrap());
    // A worker may count still.
    assert_eq!(compiler.departed(0).count(), 0);
    held.prefix_traffic.from(0, counter, 50, 8);
    held.flows.traffic.from(0, of_filter, 50, 8);
    held.flows
        .colours
        .count(0, of_filter, dpdk::meter::Colour::Red, 50);
    assert_eq!(compiler.departing(), 2);
    // Its counter is nobody else's.
    drop(compiler.apply(&put).unwrap());
    assert_eq!(compiler.prefix_total(node).unwrap(), Total::default());
    assert_eq!(compiler.departed(0).count(), 0);
    drop(held);
    let departed: Vec<Departed> = compiler.departed(0).cloned().collect();
    let of = |at: usize| {
        (
            departed[at].sequence,
            departed[at].of,
            departed[at].total.here.traffic,
        )
    };
    let prefix = departed
        .iter()
        .position(|it| it.of == CountedOf::Prefix(node))
        .unwrap();
    assert_eq!(departed.len(), 2);
    let traffic = of(prefix).2;
    assert_eq!(
        (traffic.to_bytes, traffic.from_bytes, traffic.to_packets),
        (100, 50, 1)
    );
    assert_eq!(of(1 - prefix).1, CountedOf::Filter(9));
    let named = departed[1 - prefix].filter.as_ref().unwrap();
    assert_eq!((named.name.as_str(), named.scope), ("web", Some(node)));
    assert_eq!(of(1 - prefix).2.from_packets, 1);
    let colours = departed[1 - prefix].colours;
    assert_eq!((colours.packets, colours.bytes), ([0, 0, 1], [0, 0, 50]));
    assert_eq!(compiler.departing(), 0);
    // What was had is told no more.
    assert_eq!(
        compiler.departed(1).map(|it| it.sequence).collect::<Vec<_>>(),
        [2]
    );
    assert_eq!(compiler.departed(2).count(), 0);
    assert_eq!(compiler.departed(0).count(), 0);
    assert_eq!(compiler.departed_lost(), 0);
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

#[test]
fn the_index_of_a_tunnel_is_nobody_elses_while_anyone_may_count_for_it() {
    let mut compiler = compiler();
    let put = |id: u32, delete: &[u32]| Transaction {
        delete_tunnels: delete.to_vec(),
        put_tunnels: vec![(id, gtpu_tunnel((id, 1)))],
        put_local_addresses: vec![address(9)],
        ..Transaction::default()
    };
    let index = |snapshot: &Snapshot, id: u32| {
        let key = gtpu::key(id, address(1).into());
        snapshot.peers.lookup(key)
    };
    let reader = compiler.apply(&put(1, &[])).unwrap();
    let first = index(&reader, 1);
    let second = index(&compiler.apply(&put(2, &[1])).unwrap(), 2);
    assert_ne!(first, second, "a worker may count for the first one still");
    drop(reader);
    // What nobody reads any more is found when a version is made.
    drop(compiler.apply(&put(3, &[2])).unwrap());
    let fourth = index(&compiler.apply(&put(4, &[3])).unwrap(), 4);
    assert!([first, second].contains(&fourth), "nobody can any more");
}

#[test]
fn however_many_peers_have_one_teid_one_more_is_one_change() {
    let mut compiler = compiler();
    // The ninth is the gateway's own.
    for number in 10..=200 {
        let transaction = Transaction {
            put_tunnels: vec![(u32::from(number), gtpu_tunnel((1, number)))],
            put_local_addresses: vec![address(9)],
            ..Transaction::default()
        };
        let snapshot = compiler.apply(&transaction).unwrap();
        let of = |number: u8| snapshot.peers.lookup(gtpu::key(1, address(number).into()));
        let indexes: std::collections::BTreeSet<u32> = (10..=number).map(of).collect();
        assert_eq!(indexes.len(), usize::from(number) - 9, "each has its own");
        assert!(!indexes.contains(&crate::fib::NO_MATCH));
    }
}
