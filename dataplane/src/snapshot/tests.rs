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

mod common;
mod counted;
mod exits;
mod gre;
mod ipv4;
mod neighbours;
mod refused;
mod source_prefixes;

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
        // What is known by a number alone, whoever is asked about. Nearly no bucket is full that holds as few.
        let numbers = gre::KEYS.map(|(it, _)| crate::tunnel::gre::peer_key(it, 0));
        let exits = numbers
            .into_iter()
            .chain([1, 2].map(|teid| gtpu::key(teid, 0)))
            .map(|number| {
                let exit = snapshot.exits.find(number)?;
                let brings = exit.brings(u128::from(*key));
                Some((tunnel(exit.tunnel()), snapshot.ends.get(exit.ends()), brings))
            });
        let exits: Vec<_> = exits.collect();
        format!("{key}: {next_hop} | {source} | {peer} | {gtpu:?} | {gre:?} | {exits:?}")
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
fn a_tunnel_without_a_hop_limit_has_one() {
    let mut compiler = compiler();
    for (configured, hop_limit) in [(0, 64), (1, 1), (255, 255)] {
        let tunnel = model::Tunnel {
            hop_limit: configured,
            ..gtpu_tunnel((1, 1))
        };
        let transaction = Transaction {
            put_tunnels: vec![(1, tunnel)],
            put_local_addresses: vec![address(9)],
            ..Transaction::default()
        };
        let snapshot = compiler.apply(&transaction).unwrap();
        let index = compiler.tunnel_index(1);
        assert_eq!(snapshot.tunnels.get(index).hop_limit, hop_limit);
    }
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
