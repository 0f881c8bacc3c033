//! What is known of a number is what the tables say of the one tunnel that has it, whatever comes and goes.

use super::*;
use crate::snapshot::exits::Exit;
use crate::stage::parse::{ETHERTYPE_IPV4, ETHERTYPE_IPV6};
use crate::tunnel::gre as tunnel_gre;

#[derive(Clone, Copy, Debug)]
enum Kind {
    Gtpu,
    Gre,
    GreWithoutKey,
    Ipv6InIpv6,
}

const KINDS: [Kind; 4] = [Kind::Gtpu, Kind::Gre, Kind::GreWithoutKey, Kind::Ipv6InIpv6];
const NUMBERS: std::ops::RangeInclusive<u32> = 1..=3;
const LOCALS: [&str; 3] = ["2001:db8:a::1", "2001:db8:a::2", "::ffff:192.0.2.1"];
const REMOTES: [&str; 4] = [
    "2001:db8:b::1",
    "2001:db8:b::2",
    "::ffff:198.51.100.1",
    "::ffff:198.51.100.2",
];
const TUNNELS: u32 = 4;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// This tunnel is put: of this kind, with this number, from there to there.
    Tunnel(u32, Kind, u32, usize, usize),
    RemoveTunnel(u32),
    /// This prefix leads into this tunnel, and what comes from it comes out of that.
    Prefix(u16, u32),
    RemovePrefix(u16),
}

fn step() -> impl Strategy<Value = Step> {
    let tunnel = (
        1..=TUNNELS,
        prop::sample::select(&KINDS[..]),
        NUMBERS,
        0..LOCALS.len(),
        0..REMOTES.len(),
    );
    prop_oneof![
        6 => tunnel.prop_map(|(id, kind, number, local, remote)| Step::Tunnel(id, kind, number, local, remote)),
        1 => (1..=TUNNELS).prop_map(Step::RemoveTunnel),
        4 => (0..4u16, 1..=TUNNELS).prop_map(|(prefix, tunnel)| Step::Prefix(prefix, tunnel)),
        1 => (0..4u16).prop_map(Step::RemovePrefix),
    ]
}

fn net(prefix: u16) -> Ipv6Net {
    format!("2001:db8:100:{prefix:x}::/64").parse().unwrap()
}

fn tunnel(kind: Kind, number: u32, local: usize, remote: usize) -> model::Tunnel {
    let encapsulation = match kind {
        Kind::Gtpu => Encapsulation::GtpU(gtpu_of(number)),
        Kind::Gre | Kind::GreWithoutKey => Encapsulation::Gre(model::Gre {
            local_key: matches!(kind, Kind::Gre).then_some(number),
            remote_key: Some(7),
        }),
        Kind::Ipv6InIpv6 => Encapsulation::Ipv6InIpv6,
    };
    model::Tunnel {
        encapsulation,
        local: LOCALS[local].parse().unwrap(),
        remote: REMOTES[remote].parse().unwrap(),
        ..gtpu_tunnel((1, 1))
    }
}

fn gtpu_of(teid: u32) -> model::GtpU {
    let Encapsulation::GtpU(of) = gtpu_tunnel((teid, 1)).encapsulation else {
        panic!("another kind of tunnel");
    };
    of
}

/// What the tables say of a number, whoever sends.
fn slow(compiler: &Compiler, snapshot: &Snapshot, kind: Kind, number: u32) -> Option<(u32, Ends)> {
    let mut tunnels = compiler
        .tables()
        .tunnels
        .iter()
        .filter(|(_, it)| match it.encapsulation {
            Encapsulation::GtpU(of) => matches!(kind, Kind::Gtpu) && of.local_teid.get() == number,
            Encapsulation::Gre(of) => matches!(kind, Kind::Gre) && of.local_key == Some(number),
            Encapsulation::Ipv6InIpv6 => false,
        });
    let (id, tunnel) = tunnels.next()?;
    if tunnels.next().is_some() {
        return None;
    }
    let index = compiler.tunnel_index(*id);
    let is_ipv4 = snapshot.tunnels.get(index).is_over_ipv4();
    let ends = Ends {
        local: tunnel.local.into(),
        remote: tunnel.remote.into(),
        ethertype: if is_ipv4 { ETHERTYPE_IPV4 } else { ETHERTYPE_IPV6 },
    };
    Some((index, ends))
}

fn key(kind: Kind, number: u32, source: u128) -> u128 {
    match kind {
        Kind::Gtpu => gtpu::key(number, source),
        Kind::Gre => tunnel_gre::peer_key(Some(number), source),
        Kind::GreWithoutKey => tunnel_gre::peer_key(None, source),
        Kind::Ipv6InIpv6 => source,
    }
}

proptest! {
    #[test]
    fn numbers_lead_where_the_tables_say(
        steps in prop::collection::vec(prop::collection::vec(step(), 1..3), 1..60),
    ) {
        let mut compiler = compiler();
        let locals = LOCALS.map(|it| it.parse().unwrap());
        compiler.apply(&Transaction { put_local_addresses: locals.to_vec(), ..Transaction::default() }).unwrap();
        for steps in steps {
            let mut transaction = Transaction::default();
            for step in &steps {
                match *step {
                    Step::Tunnel(id, kind, number, local, remote) => {
                        transaction.put_tunnels.push((id, tunnel(kind, number, local, remote)));
                    }
                    Step::RemoveTunnel(id) => transaction.delete_tunnels.push(id),
                    Step::Prefix(prefix, tunnel) => {
                        let source = Source { sender: Sender::Tunnel(tunnel), path: SourcePath::Native };
                        let next_hop = model::NextHop::Tunnel(tunnel);
                        transaction.put_prefixes.push((net(prefix), PrefixEntry { next_hop, source: Some(source) }));
                    }
                    Step::RemovePrefix(prefix) => transaction.delete_prefixes.push(net(prefix)),
                }
            }
            // What is refused, such as two tunnels for one number and peer, changes nothing.
            let snapshot = compiler.apply(&transaction).unwrap_or_else(|_| compiler.snapshot());
            for kind in KINDS {
                for number in NUMBERS {
                    for source in REMOTES {
                        let source: Ipv6Addr = source.parse().unwrap();
                        let found = snapshot.exits.find(key(kind, number, source.into()));
                        let known = found.map(|it| (it.tunnel(), snapshot.ends.get(it.ends())));
                        prop_assert_eq!(known, slow(&compiler, &snapshot, kind, number), "{:?} {}, {:?}", kind, number, steps);
                        let exit = found.unwrap_or_default();
                        for prefix in 0..4 {
                            let node = u128::from(net(prefix).network()) + 1;
                            prop_assert_eq!(exit.brings(node), snapshot.brings(exit.tunnel(), node), "{:?}", steps);
                        }
                        // And the way by the table of peers is to the same.
                        let by_peers = snapshot.peers.lookup(key(kind, number, source.into()));
                        prop_assert!(found.is_none() || by_peers == exit.tunnel(), "{:?}", steps);
                    }
                }
            }
        }
        // All that was taken is given back.
        compiler.apply(&Transaction { replace_all: true, ..Transaction::default() }).unwrap();
        let snapshot = compiler.snapshot();
        for index in 0..20 {
            prop_assert_eq!(snapshot.ends.get(index), Ends::default());
        }
        for kind in KINDS {
            for number in NUMBERS {
                prop_assert_eq!(snapshot.exits.find(key(kind, number, 1)), None::<Exit>);
            }
        }
    }
}

#[test]
fn more_pairs_of_ends_than_there_are_numbers_for_are_found_among_the_peers() {
    const PAIRS: u32 = (1 << 15) - 1;
    let remote = |id: u32| Ipv6Addr::from((0x2001_0db8_000b_u128 << 80) + u128::from(id));
    let with = |id: u32| {
        let of = Encapsulation::GtpU(gtpu_of(id));
        let tunnel = model::Tunnel {
            encapsulation: of,
            remote: remote(id),
            ..gtpu_tunnel((1, 1))
        };
        (id, tunnel)
    };
    let mut compiler = compiler();
    let all = Transaction {
        put_local_addresses: vec![address(9)],
        put_tunnels: (1..=PAIRS + 2).map(with).collect(),
        ..Transaction::default()
    };
    compiler.apply(&all).unwrap();
    // By its number; among the peers each is found.
    let ends = |compiler: &Compiler, id| {
        let snapshot = compiler.snapshot();
        let key = gtpu::key(id, remote(id).into());
        assert_eq!(snapshot.peers.lookup(key), compiler.tunnel_index(id));
        snapshot
            .exits
            .find(key)
            .map(|it| snapshot.ends.get(it.ends()).remote)
    };
    let last = PAIRS + 2;
    let mut known = 0;
    for id in 1..=last {
        if let Some(found) = ends(&compiler, id) {
            assert_eq!(found, remote(id).into());
            known += 1;
        }
    }
    // A full bucket is the other reason not to be known: few are.
    assert!((PAIRS - PAIRS / 50..=PAIRS).contains(&known), "{known}");
    // Two have none, and get none where the others have what there is.
    assert_eq!((ends(&compiler, last), ends(&compiler, last - 1)), (None, None));
    compiler
        .apply(&Transaction {
            put_tunnels: vec![with(last)],
            ..Transaction::default()
        })
        .unwrap();
    assert_eq!(ends(&compiler, last), None);
    // What one leaves, another takes that comes after it.
    compiler
        .apply(&Transaction {
            delete_tunnels: vec![1, last],
            ..Transaction::default()
        })
        .unwrap();
    compiler
        .apply(&Transaction {
            put_tunnels: vec![with(last)],
            ..Transaction::default()
        })
        .unwrap();
    assert_eq!(ends(&compiler, last), Some(remote(last).into()));
    assert_eq!(
        ends(&compiler, last - 1),
        None,
        "it had none before, and says nothing wrong"
    );
}
