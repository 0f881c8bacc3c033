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
const NUMBERS: std::ops::RangeInclusive<u32> = 1..=2;
const LOCALS: [&str; 3] = ["2001:db8:a::1", "2001:db8:a::2", "::ffff:192.0.2.1"];
const REMOTES: [&str; 4] = [
    "2001:db8:b::1",
    "2001:db8:b::2",
    "::ffff:198.51.100.1",
    "::ffff:198.51.100.2",
];
/// Our end and the peer's, as numbers among those; from the fourth on over IPv4, where only GTP-U goes.
const ENDS: [(usize, usize); 5] = [(0, 0), (0, 1), (1, 0), (2, 2), (2, 3)];
const OVER_IPV6: usize = 3;
const TUNNELS: u32 = 4;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// This tunnel is put: of this kind, with this number, between these ends.
    Tunnel(u32, Kind, u32, usize),
    RemoveTunnel(u32),
    /// This prefix leads into this tunnel, and what comes from it comes out of that.
    Prefix(u16, Way, u32),
    RemovePrefix(u16),
    /// An address of this node within one of them comes or goes.
    Own(u16, bool),
    /// All prefixes go, two tunnels change places, and the whole of the tables is put at once.
    All,
}

/// How packets to a prefix go that come out of a tunnel.
#[derive(Clone, Copy, Debug)]
enum Way {
    There,
    /// What comes from it goes on by the next tunnel.
    Onward,
    Hold,
    /// There, when the next tunnel has brought its last.
    After,
    Nowhere,
}

const WAYS: [Way; 5] = [Way::There, Way::Onward, Way::Hold, Way::After, Way::Nowhere];
/// Four nodes' prefixes, and within the first two what is of others.
const PREFIXES: [&str; 7] = [
    "2001:db8:100::/64",
    "2001:db8:100:1::/64",
    "2001:db8:100:2::/64",
    "2001:db8:100:3::/64",
    "2001:db8:100::/65",
    "2001:db8:100:1::1/128",
    "2001:db8:100::/48",
];
/// Of each of these nodes two, one of which is in what is of others.
const NODES: [&str; 8] = [
    "2001:db8:100::1",
    "2001:db8:100:0:8000::1",
    "2001:db8:100:1::1",
    "2001:db8:100:1::2",
    "2001:db8:100:2::1",
    "2001:db8:100:2::9",
    "2001:db8:100:3::1",
    "2001:db8:100:4::1",
];

fn step() -> impl Strategy<Value = Step> {
    let tunnel = (
        1..=TUNNELS,
        prop::sample::select(&KINDS[..]),
        NUMBERS,
        0..ENDS.len(),
    );
    let prefix = (
        0..PREFIXES.len() as u16,
        prop::sample::select(&WAYS[..]),
        1..=TUNNELS,
    );
    prop_oneof![
        4 => tunnel.prop_map(|(id, kind, number, ends)| Step::Tunnel(id, kind, number, ends)),
        1 => (1..=TUNNELS).prop_map(Step::RemoveTunnel),
        1 => prefix.prop_map(|(prefix, way, tunnel)| Step::Prefix(prefix, way, tunnel)),
        3 => (0..4u16, 1..=TUNNELS).prop_map(|(prefix, tunnel)| Step::Prefix(prefix, Way::There, tunnel)),
        1 => (0..PREFIXES.len() as u16).prop_map(Step::RemovePrefix),
        1 => (0..2u16, any::<bool>()).prop_map(|(prefix, comes)| Step::Own(prefix, comes)),
        1 => Just(Step::All),
    ]
}

fn net(prefix: u16) -> Ipv6Net {
    PREFIXES[usize::from(prefix)].parse().unwrap()
}

fn entry(way: Way, tunnel: u32) -> PrefixEntry {
    let there = model::NextHop::Tunnel(tunnel);
    let next = tunnel % TUNNELS + 1;
    let next_hop = match way {
        Way::There | Way::Onward => there,
        Way::Hold => model::NextHop::Hold { maximum_ms: 0 },
        Way::After => model::NextHop::After {
            tunnel: next,
            maximum_ms: 0,
            then: Box::new(there),
        },
        Way::Nowhere => model::NextHop::Discard(DiscardReason::NodeAbsent),
    };
    let path = match way {
        Way::Onward => SourcePath::Tunnel(next),
        _ => SourcePath::Native,
    };
    let sender = Sender::Tunnel(tunnel);
    PrefixEntry {
        next_hop,
        source: Some(Source { sender, path }),
    }
}

fn tunnel(kind: Kind, number: u32, (local, remote): (usize, usize)) -> model::Tunnel {
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

/// The tunnels that it names: what is there after an old way has ended is also where its packets come from.
fn needs(entry: &PrefixEntry) -> BTreeSet<u32> {
    let of_hop = match &entry.next_hop {
        model::NextHop::Tunnel(id) => vec![*id],
        model::NextHop::After { tunnel, .. } => vec![*tunnel],
        _ => Vec::new(),
    };
    let of_source = entry.source.iter().flat_map(|it| {
        let sender = match it.sender {
            Sender::Tunnel(id) => Some(id),
            Sender::Node { .. } => None,
        };
        let path = match it.path {
            SourcePath::Tunnel(id) => Some(id),
            SourcePath::Native => None,
        };
        [sender, path].into_iter().flatten()
    });
    of_hop.into_iter().chain(of_source).collect()
}

/// Changes what is wanted by a step, where that is possible.
fn take(want: &mut Tables, step: Step) {
    match step {
        Step::Tunnel(id, kind, number, ends) => {
            let ends = if matches!(kind, Kind::Gtpu) {
                ends
            } else {
                ends % OVER_IPV6
            };
            want.tunnels.insert(id, tunnel(kind, number, ENDS[ends]));
        }
        Step::RemoveTunnel(id) => {
            want.tunnels.remove(&id);
            for prefix in PREFIXES.map(|it| it.parse().unwrap()) {
                if want
                    .prefixes
                    .get(&prefix)
                    .is_some_and(|it| needs(it).contains(&id))
                {
                    want.prefixes.remove(&prefix);
                }
            }
        }
        Step::Prefix(prefix, way, tunnel) => {
            let entry = entry(way, tunnel);
            if needs(&entry).iter().all(|id| want.tunnels.contains_key(id)) {
                want.prefixes.insert(net(prefix), entry);
            }
        }
        Step::RemovePrefix(prefix) => drop(want.prefixes.remove(&net(prefix))),
        Step::Own(prefix, comes) => {
            let address = Ipv6Addr::from(u128::from(net(prefix).network()) + 99);
            if comes {
                want.local_addresses.insert(address);
            } else {
                want.local_addresses.remove(&address);
            }
        }
        Step::All => {
            want.prefixes = Default::default();
            if let (Some(first), Some(second)) = (want.tunnels.remove(&1), want.tunnels.remove(&2)) {
                want.tunnels.extend([(1, second), (2, first)]);
            }
        }
    }
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

/// What is said of a number: which tunnel it leads to, its ends, and which nodes' packets that brings.
type Said = Option<(u32, Ends, [bool; NODES.len()])>;

fn said(snapshot: &Snapshot, key: u128) -> Said {
    let exit = snapshot.exits.find(key)?;
    let brings = NODES.map(|it| exit.brings(it.parse::<Ipv6Addr>().unwrap().into()));
    Some((exit.tunnel(), snapshot.ends.get(exit.ends()), brings))
}

/// All that may be asked about.
fn keys() -> impl Iterator<Item = (Kind, u32, u128)> {
    let of = |kind, number| {
        REMOTES.map(|it| {
            (
                kind,
                number,
                key(kind, number, it.parse::<Ipv6Addr>().unwrap().into()),
            )
        })
    };
    KINDS
        .into_iter()
        .flat_map(move |kind| NUMBERS.flat_map(move |number| of(kind, number)))
}

proptest! {
    #[test]
    fn numbers_lead_where_the_tables_say(
        steps in prop::collection::vec(prop::collection::vec(step(), 1..5), 1..60),
    ) {
        let mut compiler = compiler();
        let locals = LOCALS.map(|it| it.parse().unwrap());
        compiler.apply(&Transaction { put_local_addresses: locals.to_vec(), ..Transaction::default() }).unwrap();
        let mut versions: Vec<(Snapshot, Vec<Said>)> = Vec::new();
        for steps in steps {
            let mut want = compiler.tables().clone();
            for step in &steps {
                take(&mut want, *step);
            }
            let transaction = if steps.iter().any(|step| matches!(step, Step::All)) {
                Transaction::replacing(&want)
            } else {
                Transaction::between(compiler.tables(), &want)
            };
            // What is refused, two tunnels for one number and peer, changes nothing.
            let snapshot = compiler.apply(&transaction).unwrap_or_else(|_| compiler.snapshot());
            let mut all = Vec::new();
            for (kind, number, key) in keys() {
                let said = said(&snapshot, key);
                let known = said.map(|(tunnel, ends, _)| (tunnel, ends));
                prop_assert_eq!(known, slow(&compiler, &snapshot, kind, number), "{:?} {}, {:?}", kind, number, steps);
                if let Some((tunnel, _, brings)) = said {
                    let of_tunnel = NODES.map(|it| snapshot.brings(tunnel, it.parse::<Ipv6Addr>().unwrap().into()));
                    prop_assert_eq!(brings, of_tunnel, "{:?}", steps);
                    // And the way by the table of peers is to the same.
                    prop_assert_eq!(snapshot.peers.lookup(key), tunnel, "{:?}", steps);
                }
                all.push(said);
            }
            versions.push((snapshot, all));
        }
        // Versions do not see each other, whichever numbers are used again.
        for (snapshot, all) in &versions {
            for ((_, _, key), before) in keys().zip(all) {
                prop_assert_eq!(&said(snapshot, key), before, "an older version changed");
            }
        }
        // All that was taken is given back.
        compiler.apply(&Transaction { replace_all: true, ..Transaction::default() }).unwrap();
        let snapshot = compiler.snapshot();
        for index in 0..20 {
            prop_assert_eq!(snapshot.ends.get(index), Ends::default());
        }
        for (_, _, key) in keys() {
            prop_assert_eq!(snapshot.exits.find(key), None::<Exit>);
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
    // Nor need one go to have what has been left.
    compiler
        .apply(&Transaction {
            delete_tunnels: vec![2],
            ..Transaction::default()
        })
        .unwrap();
    compiler
        .apply(&Transaction {
            put_tunnels: vec![with(last - 1)],
            ..Transaction::default()
        })
        .unwrap();
    assert_eq!(ends(&compiler, last - 1), Some(remote(last - 1).into()));
}
