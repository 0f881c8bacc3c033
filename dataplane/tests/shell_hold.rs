//! The running daemon holds, releases and lets expire, between kernel hosts. Needs root.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "a test")]

mod shell_support;

use std::net::{Ipv6Addr, UdpSocket};
use std::time::Duration;

use kedge_dataplane_api::model::{NextHop, PrefixEntry, Tables, Transaction};
use kedge_dataplane_api::proto;
use shell_support::namespace::{Namespace, need_root, octets, veth};
use shell_support::{Daemon, PATIENCE, block_on, eventually, node};
use tokio_stream::StreamExt;

const HOSTS: [(char, &str, &str); 2] = [
    ('a', "02:00:00:00:0a:01", "02:00:00:00:0a:02"),
    ('b', "02:00:00:00:0b:01", "02:00:00:00:0b:02"),
];
const TO: &str = "[2001:db8:b::2]:4000";

/// Daemon first: it goes before the namespaces.
struct Scene {
    daemon: Daemon,
    _gateway: Namespace,
    from: UdpSocket,
    to: UdpSocket,
    _hosts: Vec<Namespace>,
}

impl Scene {
    fn new(hold: &str) -> Self {
        need_root();
        let gateway = Namespace::new("gw");
        let hosts: Vec<Namespace> = HOSTS
            .iter()
            .map(|(letter, port, host)| {
                let namespace = Namespace::new(&letter.to_string());
                veth(
                    (&gateway, &format!("g{letter}"), port, true),
                    (&namespace, "eth0", host, false),
                );
                namespace.ip(&format!("addr add 2001:db8:{letter}::2/64 dev eth0 nodad"));
                namespace.ip(&format!("neigh add 2001:db8:{letter}::1 lladdr {port} dev eth0"));
                namespace.ip(&format!("route add default via 2001:db8:{letter}::1 dev eth0"));
                namespace
            })
            .collect();
        let daemon = Daemon::start(Some(gateway.name()), |directory| {
            let mut text = node(directory, "hold", "2001:db8:f::1", "");
            text += &format!("[dataplane.hold]\n{hold}\n\n");
            for (letter, ..) in HOSTS {
                text += &format!(
                    "[[port]]\nname = \"{letter}\"\ndevice = \"net_af_packet_{letter},iface=g{letter}\"\n\
                     side = \"core\"\nexception = \"k{letter}\"\n\n"
                );
            }
            text
        });
        let socket = |host: &Namespace, address: &str| {
            let socket = host.enter(|| UdpSocket::bind(address).unwrap());
            socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
            socket
        };
        let scene = Self {
            from: socket(&hosts[0], "[2001:db8:a::2]:4000"),
            to: socket(&hosts[1], TO),
            daemon,
            _gateway: gateway,
            _hosts: hosts,
        };
        scene.apply(Transaction::replacing(&tables()));
        eventually("a datagram goes through", || {
            scene.from.send_to(&u32::MAX.to_be_bytes(), TO).unwrap();
            scene.read().is_some()
        });
        // Those of before that were late.
        scene
            .to
            .set_read_timeout(Some(Duration::from_millis(200)))
            .unwrap();
        while scene.read().is_some() {}
        scene.to.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        scene
    }

    fn apply(&self, transaction: Transaction) {
        block_on(async { self.daemon.client().await.apply(&transaction).await.unwrap() });
    }

    fn status(&self) -> proto::Status {
        block_on(async { self.daemon.client().await.status().await.unwrap() })
    }

    fn drops(&self, reason: &str) -> u64 {
        let status = self.status();
        status
            .drops
            .iter()
            .find(|drop| drop.reason == reason)
            .unwrap()
            .packets
    }

    fn turn(&self, next_hop: NextHop) {
        self.apply(Transaction {
            put_prefixes: vec![(
                "2001:db8:b::2/128".parse().unwrap(),
                PrefixEntry {
                    next_hop,
                    source: None,
                },
            )],
            ..Transaction::default()
        });
    }

    /// As the host next door has it.
    fn on_link(&self) {
        self.apply(Transaction {
            delete_prefixes: vec!["2001:db8:b::2/128".parse().unwrap()],
            ..Transaction::default()
        });
    }

    fn send(&self, number: u32) {
        self.from.send_to(&number.to_be_bytes(), TO).unwrap();
    }

    fn read(&self) -> Option<u32> {
        let mut octets = [0; 4];
        self.to.recv(&mut octets).ok().map(|_| u32::from_be_bytes(octets))
    }
}

fn tables() -> Tables {
    let mut tables = Tables::default();
    for (letter, _, host) in HOSTS {
        tables.prefixes.insert(
            format!("2001:db8:{letter}::/64").parse().unwrap(),
            PrefixEntry {
                next_hop: NextHop::OnLink {
                    port: letter.to_string(),
                },
                source: None,
            },
        );
        let address: Ipv6Addr = format!("2001:db8:{letter}::2").parse().unwrap();
        tables
            .neighbours
            .insert((letter.to_string(), address), octets(host));
    }
    tables.local_addresses.insert("2001:db8:f::1".parse().unwrap());
    tables
}

#[test]
fn what_waits_arrives_in_order_while_more_comes() {
    let scene = Scene::new("packets_per_prefix = 1000\nrelease_packets_per_second = 20000");
    scene.turn(NextHop::Hold { maximum_ms: 60_000 });
    (0..120).for_each(|number| scene.send(number));
    eventually("120 packets wait", || scene.status().held_packets == 120);
    let status = scene.status();
    assert_eq!(status.held_bytes, 120 * 52);
    assert!(matches!(&status.holds[..], [hold] if hold.length == 128 && !hold.expired));
    scene.on_link();
    (120..180).for_each(|number| scene.send(number));
    let arrived: Vec<u32> = std::iter::from_fn(|| scene.read()).take(180).collect();
    assert_eq!(arrived, (0..180).collect::<Vec<u32>>());
    eventually("nothing waits", || scene.status().held_packets == 0);
    assert_eq!(scene.status().holds, []);
}

#[test]
fn what_is_too_much_and_what_is_too_long_is_dropped_and_told() {
    let scene = Scene::new("packets_per_prefix = 10\nmaximum_ms = 300");
    let told = block_on(async {
        let client = scene.daemon.client().await;
        let mut events = client.events().await.unwrap();
        // On a thread of its own, where it may wait for the answer.
        std::thread::scope(|scope| {
            scope
                .spawn(|| scene.turn(NextHop::Hold { maximum_ms: 0 }))
                .join()
                .unwrap();
        });
        (0..15).for_each(|number| scene.send(number));
        let mut told = Vec::new();
        while told.len() < 3 {
            let event = tokio::time::timeout(PATIENCE, events.next()).await.unwrap();
            match event.unwrap().unwrap().kind {
                Some(proto::event::Kind::HoldExpired(hold)) => told.push(("expired".to_owned(), hold.length)),
                Some(proto::event::Kind::HeldDropped(it)) => {
                    told.push((it.reason, u32::try_from(it.packets).unwrap()));
                }
                _ => {}
            }
        }
        told.sort();
        told
    });
    let expected = [("expired", 128), ("hold_expired", 10), ("hold_prefix_full", 5)];
    assert_eq!(told, expected.map(|(what, number)| (what.to_owned(), number)));
    assert_eq!(scene.drops("hold_expired"), 10);
    assert!(scene.status().holds[0].expired);
    scene.on_link();
    scene.send(99);
    assert_eq!(scene.read(), Some(99));
}
