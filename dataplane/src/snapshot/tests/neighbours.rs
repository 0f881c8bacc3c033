//! Which neighbours have an entry of their own.

use super::*;

/// What packets to an address lead to: the port and the address of a neighbour.
fn adjacency(snapshot: &Snapshot, address: Ipv6Addr) -> Option<(u8, Ipv6Addr)> {
    match snapshot
        .routes
        .route(snapshot.fib.lookup(address.into()))
        .next_hop
    {
        NextHop::Adjacency(index) => {
            let it = snapshot.adjacencies.get(index);
            Some((it.port, it.address.into()))
        }
        _ => None,
    }
}

/// The same as the rule says, looked for in all that there is. `None`: it has nothing to say of the address.
fn expected(tables: &Tables, address: Ipv6Addr) -> Option<Option<(u8, Ipv6Addr)>> {
    let port = |name: &str| ports().iter().position(|port| port.name == name).unwrap() as u8;
    if tables.local_addresses.contains(&address) || tables.prefixes.contains_key(&host(address)) {
        return None;
    }
    let on_ports: Vec<&String> = ["core", "access", "core2"]
        .iter()
        .filter_map(|port| {
            let neighbours = tables.neighbours.keys();
            neighbours
                .map(|(port, it)| (port, *it))
                .find(|it| it.0 == port && it.1 == address)
        })
        .map(|(port, _)| port)
        .collect();
    let covers = |prefix: &Ipv6Net| prefix.contains(&address);
    let covering = tables.prefixes.iter().filter(|(prefix, _)| covers(prefix));
    let covering = covering.max_by_key(|(prefix, _)| prefix.prefix_len());
    let by_covering = match covering.map(|(_, entry)| &entry.next_hop) {
        Some(model::NextHop::OnLink { port: link }) if on_ports.contains(&link) => {
            return Some(Some((port(link), address)));
        }
        Some(model::NextHop::Gateway { port: by, address }) => Some((port(by), *address)),
        _ => None,
    };
    let is_named = |on: &&String| {
        let gateway = model::NextHop::Gateway {
            port: (*on).clone(),
            address,
        };
        tables.prefixes.values().any(|entry| entry.next_hop == gateway)
    };
    let mut named = on_ports.into_iter().filter(is_named);
    Some(named.next().map(|on| (port(on), address)).or(by_covering))
}

fn host(address: Ipv6Addr) -> Ipv6Net {
    Ipv6Net::from(address)
}

/// Whether each neighbour of a small world is found where the slow rule finds it.
pub(super) fn are_where_they_say(tables: &Tables, snapshot: &Snapshot) -> Result<(), TestCaseError> {
    for address in (0..10).map(address) {
        if let Some(expected) = expected(tables, address) {
            prop_assert_eq!(adjacency(snapshot, address), expected, "{}", address);
        }
    }
    Ok(())
}

fn entry(next_hop: model::NextHop) -> PrefixEntry {
    PrefixEntry {
        next_hop,
        source: None,
    }
}

fn on_link(port: &str) -> model::NextHop {
    model::NextHop::OnLink {
        port: port.to_owned(),
    }
}

fn put(compiler: &mut Compiler, prefix: &str, next_hop: model::NextHop) -> Snapshot {
    let put_prefixes = vec![(prefix.parse().unwrap(), entry(next_hop))];
    let transaction = Transaction {
        put_prefixes,
        ..Transaction::default()
    };
    compiler.apply(&transaction).unwrap()
}

fn delete(compiler: &mut Compiler, prefix: &str) -> Snapshot {
    let delete_prefixes = vec![prefix.parse().unwrap()];
    let transaction = Transaction {
        delete_prefixes,
        ..Transaction::default()
    };
    compiler.apply(&transaction).unwrap()
}

#[test]
fn a_neighbour_takes_no_address_that_is_not_on_its_link() {
    let (node, core, core2) = ("2001:db8:100::7", 0, 2);
    let node: Ipv6Addr = node.parse().unwrap();
    let mut compiler = compiler();
    let absent = model::NextHop::Discard(DiscardReason::NodeAbsent);
    let neighbours = ["core", "core2"].map(|port| ((port.to_owned(), node), [2, 0, 0, 0, 0, 9]));
    let said = compiler.apply(&Transaction {
        put_neighbours: neighbours.to_vec(),
        ..Transaction::default()
    });
    assert_eq!(
        adjacency(&said.unwrap(), node),
        None,
        "nothing says that it is on a link"
    );
    // However the routes come, go and change around it.
    let now = put(&mut compiler, "2001:db8::/32", on_link("core"));
    assert_eq!(adjacency(&now, node), Some((core, node)));
    let now = put(&mut compiler, "2001:db8:100::/64", absent.clone());
    assert_eq!(adjacency(&now, node), None, "it is a node's prefix now");
    let now = put(&mut compiler, "2001:db8:100::/64", on_link("core2"));
    assert_eq!(adjacency(&now, node), Some((core2, node)));
    let now = delete(&mut compiler, "2001:db8:100::/64");
    assert_eq!(adjacency(&now, node), Some((core, node)));
    let now = put(&mut compiler, "2001:db8:100::/64", absent);
    assert_eq!(adjacency(&now, node), None);
    // A router that a route names is where the route says, whatever covers it.
    let gateway = model::NextHop::Gateway {
        port: "core2".to_owned(),
        address: node,
    };
    let now = put(&mut compiler, "2001:db8:f::/48", gateway);
    assert_eq!(adjacency(&now, node), Some((core2, node)));
    let now = delete(&mut compiler, "2001:db8:f::/48");
    assert_eq!(adjacency(&now, node), None);
    let now = delete(&mut compiler, "2001:db8:100::/64");
    assert_eq!(adjacency(&now, node), Some((core, node)));
    let now = delete(&mut compiler, "2001:db8::/32");
    assert_eq!((adjacency(&now, node), now.fib.len()), (None, 0));
}

#[test]
fn a_neighbour_of_ipv4_is_on_a_link_of_ipv4() {
    let mapped = |last| std::net::Ipv4Addr::new(192, 0, 2, last).to_ipv6_mapped();
    for carries in [false, true] {
        let limits = TableLimits {
            inner_ipv4: carries,
            ..TableLimits::default()
        };
        let mut compiler = compiler().with_limits(limits);
        let put_neighbours = vec![(("core".to_owned(), mapped(7)), [2, 0, 0, 0, 0, 9])];
        let neighbour = Transaction {
            put_neighbours,
            ..Transaction::default()
        };
        compiler.apply(&neighbour).unwrap();
        let now = put(&mut compiler, "::/0", on_link("core"));
        assert_eq!(adjacency(&now, mapped(7)), None, "no route of IPv6 is one for it");
        let now = put(&mut compiler, "::ffff:192.0.2.0/120", on_link("core"));
        assert_eq!(adjacency(&now, mapped(7)), Some((0, mapped(7))));
        let gateway = model::NextHop::Gateway {
            port: "core".to_owned(),
            address: mapped(9),
        };
        let now = put(&mut compiler, "::ffff:192.0.2.0/124", gateway);
        assert_eq!(
            adjacency(&now, mapped(7)),
            Some((0, mapped(9))),
            "it is behind a router now"
        );
    }
}
