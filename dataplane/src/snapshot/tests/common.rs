//! Tunnels that share a cell of counters with a prefix: whatever comes and goes meanwhile, each packet is counted for its tunnel and
//! for its prefix, once.

use super::*;
use crate::counters::Traffic;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// The prefix leads into this tunnel; 0: to a node that is here.
    Lead(u8, u32),
    Remove(u8),
    /// The tunnel goes, if nothing leads into it, and comes again.
    Renew(u32),
    /// The worker counts packets, as the version says that it reads: to the prefix, or from it.
    Count(usize, u8, bool),
    /// The worker reads the newest version.
    MoveOn(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..PREFIXES, 0..=TUNNELS).prop_map(|(prefix, tunnel)| Step::Lead(prefix, tunnel)),
        1 => (0..PREFIXES).prop_map(Step::Remove),
        1 => (1..=TUNNELS).prop_map(Step::Renew),
        6 => (0..WORKERS, 0..PREFIXES, any::<bool>()).prop_map(|(worker, prefix, to)| Step::Count(worker, prefix, to)),
        2 => (0..WORKERS).prop_map(Step::MoveOn),
    ]
}

const PREFIXES: u8 = 4;
const TUNNELS: u32 = 3;
const WORKERS: usize = 2;
const OCTETS: usize = 100;

fn net(prefix: u8) -> Ipv6Net {
    Ipv6Net::new(Ipv6Addr::new(0x2001, 0xdb8, 0x100, prefix.into(), 0, 0, 0, 0), 64).unwrap()
}

fn entry_to(tunnel: u32) -> PrefixEntry {
    let next_hop = match tunnel {
        0 => model::NextHop::Deliver {
            port: "access".to_owned(),
            link_layer_address: [2; 6],
        },
        tunnel => model::NextHop::Tunnel(tunnel),
    };
    PrefixEntry {
        next_hop,
        source: None,
    }
}

/// What comes in tests: a packet of 100 octets each time.
fn more(before: Traffic, to: bool) -> Traffic {
    let (to_packets, from_packets) = if to { (1, 0) } else { (0, 1) };
    before.plus(Traffic {
        to_packets,
        to_bytes: to_packets * OCTETS as u64,
        from_packets,
        from_bytes: from_packets * OCTETS as u64,
    })
}

/// Lives of tunnels, of which each has an index while workers may know it, and of prefixes.
#[derive(Default)]
struct Slow {
    of_tunnel: BTreeMap<u32, Traffic>,
    of_prefix: BTreeMap<u8, Traffic>,
    /// How often each came to be.
    life: BTreeMap<u8, u32>,
    tunnel_life: BTreeMap<u32, u32>,
}

/// A version, and which lives its prefixes and tunnels have in it.
struct Reader {
    snapshot: Snapshot,
    life: BTreeMap<u8, u32>,
    tunnel_life: BTreeMap<u32, u32>,
    /// Id of the tunnel with each index.
    ids: BTreeMap<u32, u32>,
}

fn reader(compiler: &Compiler, slow: &Slow) -> Reader {
    Reader {
        snapshot: compiler.snapshot(),
        life: slow.life.clone(),
        tunnel_life: slow.tunnel_life.clone(),
        ids: (1..=TUNNELS).map(|id| (compiler.tunnel_index(id), id)).collect(),
    }
}

/// What a worker does with a packet: gives the tunnel.
fn count(reader: &Reader, worker: usize, prefix: u8, to: bool) -> Option<u32> {
    let snapshot = &reader.snapshot;
    let route = snapshot
        .routes
        .get(snapshot.fib.lookup(net(prefix).network().into()));
    let tunnel = route.hop().tunnel()?;
    if to {
        snapshot.count_into(worker, route, tunnel, OCTETS);
    } else {
        snapshot.count_out_of(worker, route, tunnel, OCTETS);
    }
    Some(reader.ids[&tunnel])
}

proptest! {
    #[test]
    fn each_packet_is_counted_once_for_both(steps in prop::collection::vec(step(), 1..120)) {
        let mut compiler = Compiler::new(ports(), "2001:db8:a::1".parse().unwrap(), WORKERS);
        let mut slow = Slow::default();
        let tunnels = |ids: &[u32]| Transaction {
            put_tunnels: ids.iter().map(|id| (*id, gtpu_tunnel((*id, 1)))).collect(),
            put_local_addresses: vec![address(9)],
            ..Transaction::default()
        };
        drop(compiler.apply(&tunnels(&[1, 2, 3])).unwrap());
        let mut readers = [reader(&compiler, &slow), reader(&compiler, &slow)];
        for step in steps {
            match step {
                Step::Lead(prefix, tunnel) => {
                    let put = Transaction { put_prefixes: vec![(net(prefix), entry_to(tunnel))], ..Transaction::default() };
                    if !compiler.tables().prefixes.contains_key(&net(prefix)) {
                        *slow.life.entry(prefix).or_default() += 1;
                        slow.of_prefix.insert(prefix, Traffic::default());
                    }
                    drop(compiler.apply(&put).unwrap());
                }
                Step::Remove(prefix) => {
                    drop(compiler.apply(&Transaction { delete_prefixes: vec![net(prefix)], ..Transaction::default() }));
                    slow.of_prefix.remove(&prefix);
                }
                Step::Renew(id) => {
                    if compiler.apply(&Transaction { delete_tunnels: vec![id], ..Transaction::default() }).is_ok() {
                        drop(compiler.apply(&tunnels(&[id])).unwrap());
                        slow.of_tunnel.remove(&id);
                        *slow.tunnel_life.entry(id).or_default() += 1;
                    }
                }
                Step::Count(worker, prefix, to) => {
                    let reader = &readers[worker];
                    if let Some(id) = count(reader, worker, prefix, to) {
                        if reader.tunnel_life.get(&id) == slow.tunnel_life.get(&id) {
                            let of = slow.of_tunnel.entry(id).or_default();
                            *of = more(*of, to);
                        }
                        if reader.life.get(&prefix) == slow.life.get(&prefix) && let Some(of) = slow.of_prefix.get_mut(&prefix) {
                            *of = more(*of, to);
                        }
                    }
                }
                Step::MoveOn(worker) => readers[worker] = reader(&compiler, &slow),
            }
            // Of a tunnel all is known at once.
            for (id, traffic) in compiler.tunnel_traffic() {
                prop_assert_eq!(traffic, slow.of_tunnel.get(&id).copied().unwrap_or_default(), "tunnel {}", id);
            }
            for (prefix, traffic) in &slow.of_prefix {
                let through = compiler.prefix_total(net(*prefix)).unwrap().through;
                prop_assert!(through.to_packets <= traffic.to_packets && through.from_bytes <= traffic.from_bytes, "{prefix}: {through:?}, {traffic:?}");
            }
        }
        // When nobody reads an old version any more, of a prefix too.
        drop(readers);
        prop_assert_eq!(compiler.departed(u64::MAX).count(), 0);
        for (prefix, traffic) in &slow.of_prefix {
            prop_assert_eq!(compiler.prefix_total(net(*prefix)).unwrap().through, *traffic, "prefix {}", prefix);
        }
    }
}

#[test]
fn a_tunnel_shares_its_cell_with_the_first_of_its_prefixes_until_that_leaves() {
    let mut compiler = compiler();
    let common = |snapshot: &Snapshot, prefix: u8| {
        let route = snapshot
            .routes
            .route(snapshot.fib.lookup(net(prefix).network().into()));
        (route.next_hop != NextHop::None).then_some(route.common)
    };
    let put = |entries: &[(u8, u32)]| Transaction {
        put_prefixes: entries
            .iter()
            .map(|(prefix, tunnel)| (net(*prefix), entry_to(*tunnel)))
            .collect(),
        ..Transaction::default()
    };
    let mut first = put(&[(1, 1), (2, 1), (3, 0)]);
    first.put_tunnels = vec![(1, gtpu_tunnel((1, 1))), (2, gtpu_tunnel((2, 1)))];
    first.put_local_addresses = vec![address(9)];
    let held = compiler.apply(&first).unwrap();
    assert_eq!(
        [1, 2, 3, 0].map(|it| common(&held, it)),
        [Some(true), Some(false), Some(false), None]
    );
    // It goes over to the other tunnel. While a worker may count for it by the first, nobody else has that one's cell.
    let snapshot = compiler.apply(&put(&[(1, 2), (2, 1)])).unwrap();
    assert_eq!([1, 2].map(|it| common(&snapshot, it)), [Some(true), Some(false)]);
    drop((held, snapshot));
    assert_eq!(compiler.departed(0).count(), 0);
    let snapshot = compiler.apply(&put(&[(2, 1)])).unwrap();
    assert_eq!([1, 2].map(|it| common(&snapshot, it)), [Some(true), Some(true)]);
}

/// Of a node with both IP versions, though the other one comes first.
#[test]
fn of_two_ip_versions_it_is_ipv6_that_shares() {
    let limits = TableLimits {
        inner_ipv4: true,
        ..TableLimits::default()
    };
    let mut compiler = compiler().with_limits(limits);
    let ipv4: Ipv6Net = "::ffff:203.0.113.1/128".parse().unwrap();
    let behind = PrefixEntry {
        source: Some(Source {
            sender: Sender::Tunnel(1),
            path: SourcePath::Native,
        }),
        ..entry_to(1)
    };
    let put = Transaction {
        put_prefixes: vec![(ipv4, behind.clone()), (net(1), behind)],
        put_tunnels: vec![(1, gtpu_tunnel((1, 1)))],
        put_local_addresses: vec![address(9)],
        ..Transaction::default()
    };
    let snapshot = compiler.apply(&put).unwrap();
    let is_common = |prefix: Ipv6Net| {
        let index = snapshot.fib.lookup(prefix.network().into());
        snapshot.routes.route(index).common
    };
    assert_eq!((is_common(ipv4), is_common(net(1))), (false, true));
    assert!(snapshot.brings(compiler.tunnel_index(1), net(1).network().into()));
}
