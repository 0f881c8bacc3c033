//! What a tunnel says of whose packets it brings is what the table of routes says of them, whatever comes and goes.

use super::*;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// This prefix leads into this tunnel, 0: to a node that is here; packets from it come out of that tunnel, 0: of none in particular.
    Put(usize, u32, u32),
    Remove(usize),
    /// An address of this node comes or goes.
    Own(usize, bool),
}

/// Around two nodes, of them, and within.
const PREFIXES: [&str; 8] = [
    "2001:db8:100::/56",
    "2001:db8:100:1::/64",
    "2001:db8:100:1::1/128",
    "2001:db8:100:1:8000::/65",
    "2001:db8:100:2::/64",
    "2001:db8:100:2::/127",
    "2001:db8:100:2::/80",
    "::/64",
];
const OWN: [&str; 2] = ["2001:db8:100:1::9", "2001:db8:100:2::9"];
const TUNNELS: u32 = 3;

/// In each of these, and in none.
const SOURCES: [&str; 10] = [
    "2001:db8:100:1::1",
    "2001:db8:100:1::2",
    "2001:db8:100:1::9",
    "2001:db8:100:1:8000::1",
    "2001:db8:100:2::1",
    "2001:db8:100:2::5",
    "2001:db8:100:2:1::",
    "2001:db8:100:3::1",
    "::ffff:10.0.0.1",
    "fe80::1",
];

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (0..PREFIXES.len(), 0..=TUNNELS, 0..=TUNNELS).prop_map(|(prefix, to, from)| Step::Put(prefix, to, from)),
        2 => (0..PREFIXES.len()).prop_map(Step::Remove),
        1 => (0..OWN.len(), any::<bool>()).prop_map(|(own, comes)| Step::Own(own, comes)),
    ]
}

fn net(prefix: usize) -> Ipv6Net {
    PREFIXES[prefix].parse().unwrap()
}

fn entry(to: u32, from: u32) -> PrefixEntry {
    let next_hop = match to {
        0 => model::NextHop::Discard(DiscardReason::NodeAbsent),
        tunnel => model::NextHop::Tunnel(tunnel),
    };
    let source = (from != 0).then_some(Source {
        sender: Sender::Tunnel(from),
        path: SourcePath::Native,
    });
    PrefixEntry { next_hop, source }
}

/// What the routes say of a packet from there out of this tunnel.
fn slow(compiler: &Compiler, snapshot: &Snapshot, tunnel: u32, source: Ipv6Addr) -> bool {
    let tables = compiler.tables();
    let hosts = tables.local_addresses.iter().map(|it| Ipv6Net::from(*it));
    let all: Vec<Ipv6Net> = tables.prefixes.keys().copied().chain(hosts).collect();
    let upper = Ipv6Net::new(source, 64).unwrap().trunc();
    let alone = !all.iter().any(|it| upper.contains(it) && it.prefix_len() > 64);
    let found = all
        .iter()
        .filter(|it| it.contains(&source))
        .max_by_key(|it| it.prefix_len());
    let route = snapshot.routes.get(snapshot.fib.lookup(source.into()));
    alone && found == Some(&upper) && route.is_common_alone(Hop::by_tunnel(tunnel))
}

proptest! {
    #[test]
    fn tunnels_bring_what_routes_say(steps in prop::collection::vec(step(), 1..60)) {
        let mut compiler = compiler();
        let mut world = Transaction {
            put_tunnels: (1..=TUNNELS).map(|id| (id, gtpu_tunnel((id, 1)))).collect(),
            put_local_addresses: vec![address(9)],
            ..Transaction::default()
        };
        for step in steps {
            match step {
                Step::Put(prefix, to, from) => world.put_prefixes.push((net(prefix), entry(to, from))),
                Step::Remove(prefix) => world.delete_prefixes.push(net(prefix)),
                Step::Own(own, true) => world.put_local_addresses.push(OWN[own].parse().unwrap()),
                Step::Own(own, false) => world.delete_local_addresses.push(OWN[own].parse().unwrap()),
            }
            // What is refused, such as to remove what is not there, changes nothing.
            let snapshot = compiler.apply(&std::mem::take(&mut world)).unwrap_or_else(|_| compiler.snapshot());
            for tunnel in 0..=TUNNELS + 1 {
                for source in SOURCES {
                    let source: Ipv6Addr = source.parse().unwrap();
                    prop_assert_eq!(
                        snapshot.brings(tunnel, source.into()),
                        slow(&compiler, &snapshot, tunnel, source),
                        "{} by {}, {:?}", source, tunnel, step
                    );
                }
            }
        }
    }
}

/// The usual life of one.
#[test]
fn a_tunnel_brings_the_packets_of_its_first_64_until_something_is_within() {
    let mut compiler = compiler();
    let brings = |compiler: &Compiler| {
        let node: Ipv6Addr = "2001:db8:100:1::5".parse().unwrap();
        compiler.snapshot().brings(compiler.tunnel_index(1), node.into())
    };
    let mut apply = |transaction: Transaction| {
        drop(compiler.apply(&transaction).unwrap());
        brings(&compiler)
    };
    let put = |prefix: usize, to, from| Transaction {
        put_prefixes: vec![(net(prefix), entry(to, from))],
        ..Transaction::default()
    };
    let mut first = put(1, 1, 0);
    first.put_tunnels = vec![(1, gtpu_tunnel((1, 1))), (2, gtpu_tunnel((2, 1)))];
    first.put_local_addresses = vec![address(9)];
    assert!(apply(first));
    assert!(apply(put(0, 2, 0)), "what is around changes nothing");
    assert!(!apply(put(2, 2, 0)), "an address of it is elsewhere");
    let remove = |prefix| Transaction {
        delete_prefixes: vec![net(prefix)],
        ..Transaction::default()
    };
    assert!(apply(remove(2)));
    assert!(
        !apply(put(1, 1, 2)),
        "packets from it come out of another one too"
    );
    assert!(apply(put(1, 1, 0)));
    assert!(apply(put(1, 1, 1)), "or, which is the same, of that one");
    let mut onward = put(1, 1, 1);
    for (_, entry) in &mut onward.put_prefixes {
        entry.source.as_mut().unwrap().path = SourcePath::Tunnel(2);
    }
    assert!(!apply(onward), "they go on by another one");
    assert!(apply(put(1, 1, 1)));
    assert!(!apply(put(1, 0, 0)), "the node has gone");
}
