//! Whose counters are whose, and until when.

use super::*;

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
