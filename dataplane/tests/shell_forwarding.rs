//! The running daemon on real interfaces, in network namespaces. Needs root.
//!
//! ```text
//!  host a ──veth── [port a  gateway  port b] ──veth── host b
//!                     ka │            │ kb
//!                        └── kernel ──┘
//! ```
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "a test")]

mod shell_support;

use std::net::{Ipv6Addr, UdpSocket};
use std::time::Duration;

use kedge_dataplane_api::model::{NextHop, PrefixEntry, Tables, Transaction};
use kedge_dataplane_api::proto;
use shell_support::namespace::{Namespace, need_root, octets, veth};
use shell_support::{Daemon, PATIENCE, block_on, eventually, node};
use tokio_stream::StreamExt;

const PORT_A: &str = "02:00:00:00:0a:01";
const HOST_A: &str = "02:00:00:00:0a:02";
const PORT_B: &str = "02:00:00:00:0b:01";
const HOST_B: &str = "02:00:00:00:0b:02";

/// Hosts, gateway and daemon. The daemon goes first, then the namespaces.
struct Scene {
    daemon: Daemon,
    gateway: Namespace,
    a: Namespace,
    b: Namespace,
}

impl Scene {
    fn new() -> Self {
        Self::with("[0]", "")
    }

    /// `workers` by core; `options` are added to both device strings.
    fn with(workers: &str, options: &str) -> Self {
        Self::with_mtu(workers, options, 1500)
    }

    /// The same on links that take packets of `mtu` octets.
    fn with_mtu(workers: &str, options: &str, mtu: u16) -> Self {
        need_root();
        let (gateway, a, b) = (Namespace::new("gw"), Namespace::new("a"), Namespace::new("b"));
        veth((&gateway, "ga", PORT_A, true), (&a, "eth0", HOST_A, false));
        veth((&gateway, "gb", PORT_B, true), (&b, "eth0", HOST_B, false));
        for (host, letter) in [(&a, 'a'), (&b, 'b')] {
            host.ip(&format!("link set eth0 mtu {mtu}"));
            gateway.ip(&format!("link set g{letter} mtu {mtu}"));
            host.ip(&format!("addr add 2001:db8:{letter}::2/64 dev eth0 nodad"));
            host.ip(&format!("route add default via 2001:db8:{letter}::1 dev eth0"));
        }
        let daemon = Daemon::start(Some(gateway.name()), |directory| {
            let mut text = node(directory, "forwarding", "2001:db8:f::1", "");
            text = text.replace("workers = [0]", &format!("workers = {workers}"));
            for letter in ['a', 'b'] {
                text += &format!(
                    "[[port]]\nname = \"{letter}\"\ndevice = \"net_af_packet_{letter},iface=g{letter}{options}\"\n\
                     side = \"core\"\nexception = \"k{letter}\"\nmtu = {mtu}\n\n"
                );
            }
            text
        });
        for letter in ['a', 'b'] {
            gateway.ip(&format!("addr add 2001:db8:{letter}::1/64 dev k{letter} nodad"));
        }
        Self {
            daemon,
            gateway,
            a,
            b,
        }
    }

    fn apply(&self, transaction: &Transaction) {
        block_on(async { self.daemon.client().await.apply(transaction).await.unwrap() });
    }

    fn drops(&self, reason: &str) -> u64 {
        let status = block_on(async { self.daemon.client().await.status().await.unwrap() });
        status
            .drops
            .iter()
            .find(|drop| drop.reason == reason)
            .unwrap()
            .packets
    }
}

fn address(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

/// Both links, both hosts, and the gateway's own addresses.
fn tables() -> Tables {
    let mut tables = Tables::default();
    for (letter, host) in [("a", HOST_A), ("b", HOST_B)] {
        tables.prefixes.insert(
            format!("2001:db8:{letter}::/64").parse().unwrap(),
            PrefixEntry {
                next_hop: NextHop::OnLink {
                    port: letter.to_owned(),
                },
                source: None,
            },
        );
        tables.neighbours.insert(
            (letter.to_owned(), address(&format!("2001:db8:{letter}::2"))),
            octets(host),
        );
        tables
            .local_addresses
            .insert(address(&format!("2001:db8:{letter}::1")));
    }
    tables.local_addresses.insert(address("2001:db8:f::1"));
    tables
}

#[test]
fn hosts_reach_each_other_through_the_gateway() {
    let scene = Scene::new();
    scene.apply(&Transaction::replacing(&tables()));

    // The first packets wait for neighbour discovery, which the gateway's kernel answers.
    eventually(
        "a reaches the gateway's own address by the exception interface",
        || scene.a.ping("-c 1 -W 1 2001:db8:a::1").0,
    );
    eventually("b reaches the gateway", || {
        scene.b.ping("-c 1 -W 1 2001:db8:b::1").0
    });
    let (ok, text) = scene.a.ping("-c 5 -i 0.1 -W 2 2001:db8:b::2");
    assert!(ok && text.contains("5 received"), "{text}");
    assert!(text.contains("ttl=63"), "the hop limit is less by one: {text}");
    let (ok, text) = scene.a.ping("-c 3 -i 0.1 -W 2 -s 1452 2001:db8:b::2");
    assert!(
        ok && text.contains("3 received"),
        "packets of 1500 octets: {text}"
    );

    // UDP, both ways.
    let (left, right) = (
        flow(&scene.a, "[2001:db8:a::2]:4000"),
        flow(&scene.b, "[2001:db8:b::2]:4000"),
    );
    let mut buffer = [0; 2000];
    for number in 0..200u32 {
        left.send_to(&number.to_be_bytes(), "[2001:db8:b::2]:4000")
            .unwrap();
        let (length, from) = right.recv_from(&mut buffer).unwrap();
        assert_eq!(
            (&buffer[..length], from.to_string().as_str()),
            (&number.to_be_bytes()[..], "[2001:db8:a::2]:4000")
        );
        right.send_to(&buffer[..length], from).unwrap();
        assert_eq!(left.recv_from(&mut buffer).unwrap().0, 4);
    }

    let status = block_on(async { scene.daemon.client().await.status().await.unwrap() });
    assert!(status.workers[0].tx_packets >= 400, "{:?}", status.workers);
    let port = |name: &str| {
        status
            .ports
            .iter()
            .find(|port| port.name == name)
            .unwrap()
            .clone()
    };
    assert!(
        port("a").link_up && port("a").rx_packets >= 200 && port("b").tx_packets >= 200,
        "{:?}",
        status.ports
    );
    assert_eq!(port("a").link_layer_address, octets(PORT_A));
    assert!(
        status.workers[0].sleeps > 0,
        "an idle worker in mode adaptive sleeps"
    );
}

/// Links of 9,000 octets: forwarded whole, and told where it is too many.
#[test]
fn jumbo_frames_go_through() {
    let scene = Scene::with_mtu("[0]", "", 9000);
    scene.apply(&Transaction::replacing(&tables()));
    eventually("b reaches the gateway", || {
        scene.b.ping("-c 1 -W 1 2001:db8:b::1").0
    });
    for octets in [1453, 2000, 8952] {
        eventually("a jumbo frame goes there and back", || {
            let (ok, text) = scene
                .a
                .ping(&format!("-c 3 -i 0.1 -W 2 -M do -s {octets} 2001:db8:b::2"));
            ok && text.contains("3 received")
        });
    }
    // The gateway's kernel is behind an interface of 1,500 octets.
    eventually("the gateway's own kernel answers", || {
        let (ok, text) = scene.a.ping("-c 1 -W 2 -M do -s 1452 2001:db8:a::1");
        ok && text.contains("1 received")
    });
    // A host whose link takes more than the gateway's.
    scene.gateway.ip("link set ga mtu 9600");
    scene.a.ip("link set eth0 mtu 9600");
    let (_, text) = scene.a.ping("-c 1 -W 2 -M do -s 9100 2001:db8:b::2");
    assert!(text.contains("mtu=9000") || text.contains("mtu: 9000"), "{text}");
    assert_eq!(scene.drops("multi_segment"), 0);
}

#[test]
fn errors_come_back_and_drops_have_names() {
    let scene = Scene::new();
    scene.apply(&Transaction::replacing(&tables()));
    eventually("a reaches the gateway", || {
        scene.a.ping("-c 1 -W 1 2001:db8:a::1").0
    });
    eventually("b reaches the gateway", || {
        scene.b.ping("-c 1 -W 1 2001:db8:b::1").0
    });

    let before = scene.drops("hop_limit_exceeded");
    let (ok, text) = scene.a.ping("-c 1 -W 2 -t 1 2001:db8:b::2");
    assert!(
        !ok && text.contains("2001:db8:f::1") && text.contains("Time exceeded"),
        "{text}"
    );
    assert_eq!(scene.drops("hop_limit_exceeded"), before + 1);

    let before = scene.drops("no_route");
    let (ok, text) = scene.a.ping("-c 1 -W 2 2001:db8:dead::1");
    assert!(
        !ok && text.contains("2001:db8:f::1") && text.contains("No route"),
        "{text}"
    );
    assert_eq!(scene.drops("no_route"), before + 1);

    // An IPv4 packet: not for this data plane, but counted.
    let before = scene.drops("ipv4_not_for_us");
    scene.a.ip("addr add 192.0.2.2/24 dev eth0");
    scene
        .a
        .ip(&format!("neigh add 192.0.2.1 lladdr {PORT_A} dev eth0"));
    scene.a.run("ping -c 1 -W 1 192.0.2.1");
    eventually("it is counted", || scene.drops("ipv4_not_for_us") > before);
}

#[test]
fn an_unknown_neighbour_is_reported_and_then_served() {
    let scene = Scene::new();
    let mut without = tables();
    let key = ("b".to_owned(), address("2001:db8:b::2"));
    let there = without.neighbours.remove(&key).unwrap();
    scene.apply(&Transaction::replacing(&without));
    eventually("a reaches the gateway", || {
        scene.a.ping("-c 1 -W 1 2001:db8:a::1").0
    });
    block_on(async {
        let client = scene.daemon.client().await;
        let mut events = client.events().await.unwrap();
        let before = scene_drops(&client, "neighbour_unresolved").await;
        let mut ping = scene
            .a
            .command("ping")
            .args(["-6", "-q", "-c", "1", "-W", "1", "2001:db8:b::2"])
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let event = tokio::time::timeout(PATIENCE, events.next())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        let Some(proto::event::Kind::UnknownNeighbour(unknown)) = event.kind else {
            panic!("{event:?}")
        };
        assert_eq!(
            (unknown.port.as_str(), unknown.address),
            ("b", key.1.octets().to_vec())
        );
        ping.wait().unwrap();
        assert!(scene_drops(&client, "neighbour_unresolved").await > before);
        client
            .apply(&Transaction {
                put_neighbours: vec![(key, there)],
                ..Transaction::default()
            })
            .await
            .unwrap();
    });
    eventually("b is reached once its link-layer address is known", || {
        scene.a.ping("-c 1 -W 1 2001:db8:b::2").0
    });
}

async fn scene_drops(client: &kedge_dataplane_api::Client, reason: &str) -> u64 {
    let status = client.status().await.unwrap();
    status
        .drops
        .iter()
        .find(|drop| drop.reason == reason)
        .unwrap()
        .packets
}

#[test]
fn a_link_that_goes_down_is_reported() {
    let scene = Scene::new();
    block_on(async {
        let client = scene.daemon.client().await;
        let mut events = client.events().await.unwrap();
        let mut next = async || {
            let event = tokio::time::timeout(PATIENCE, events.next())
                .await
                .unwrap()
                .unwrap()
                .unwrap();
            let Some(proto::event::Kind::LinkChanged(changed)) = event.kind else {
                panic!("{event:?}")
            };
            (changed.port, changed.up)
        };
        scene.b.ip("link set eth0 down");
        assert_eq!(next().await, ("b".to_owned(), false));
        scene.b.ip("link set eth0 up");
        assert_eq!(next().await, ("b".to_owned(), true));
    });
}

#[test]
fn forwarding_goes_on_without_clients_and_the_kernel_is_left_clean() {
    let mut scene = Scene::new();
    scene.apply(&Transaction::replacing(&tables()));
    eventually("a reaches b with no client connected", || {
        scene.a.ping("-c 1 -W 1 2001:db8:b::2").0
    });
    assert_eq!(scene.daemon.terminate(), Some(0), "{}", scene.daemon.log());
    let links = String::from_utf8_lossy(&scene.gateway.run("ip -o link").stdout).into_owned();
    assert!(
        !links.contains("ka") && !links.contains("kb"),
        "the exception interfaces go with the daemon: {links}"
    );
    let _ = &scene.b;
}

#[test]
fn after_kill_it_takes_its_devices_again_and_is_refilled() {
    let mut scene = Scene::new();
    let reaches = |scene: &Scene| {
        scene.apply(&Transaction::replacing(&tables()));
        eventually("a reaches b", || scene.a.ping("-c 1 -W 1 2001:db8:b::2").0);
    };
    reaches(&scene);
    scene.daemon.kill();
    assert!(!scene.a.ping("-c 1 -W 1 2001:db8:b::2").0, "nobody forwards");
    scene.daemon.restart(Some(scene.gateway.name()));
    for letter in ['a', 'b'] {
        scene
            .gateway
            .ip(&format!("addr add 2001:db8:{letter}::1/64 dev k{letter} nodad"));
    }
    reaches(&scene);
}

/// A socket with its own flow, and so its own queue.
fn flow(host: &Namespace, at: &str) -> UdpSocket {
    host.enter(|| {
        let socket = UdpSocket::bind(at).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket
    })
}

#[test]
fn two_workers_share_the_queues() {
    let scene = Scene::with("[0, 1]", ",qpairs=2");
    scene.apply(&Transaction::replacing(&tables()));
    eventually("a reaches the gateway", || {
        scene.a.ping("-c 1 -W 1 2001:db8:a::1").0
    });
    eventually("b reaches the gateway", || {
        scene.b.ping("-c 1 -W 1 2001:db8:b::1").0
    });
    let right = flow(&scene.b, "[2001:db8:b::2]:4000");
    let lefts: Vec<UdpSocket> = (0..32).map(|_| flow(&scene.a, "[2001:db8:a::2]:0")).collect();
    let mut buffer = [0; 100];
    for number in 0..10u32 {
        for left in &lefts {
            left.send_to(&number.to_be_bytes(), "[2001:db8:b::2]:4000")
                .unwrap();
            let (length, from) = right.recv_from(&mut buffer).unwrap();
            assert_eq!(buffer[..length], number.to_be_bytes());
            right.send_to(&buffer[..length], from).unwrap();
            assert_eq!(
                left.recv_from(&mut buffer).unwrap().0,
                4,
                "to the flow that asked"
            );
        }
    }
    // The kernel spreads what it sends over the exception interface's queues; all are polled.
    let kernel = flow(&scene.gateway, "[2001:db8:a::1]:5000");
    for left in &lefts {
        left.send_to(&[1], "[2001:db8:a::1]:5000").unwrap();
        let (_, from) = kernel.recv_from(&mut buffer).unwrap();
        kernel.send_to(&[2], from).unwrap();
        assert_eq!(
            left.recv_from(&mut buffer).unwrap().0,
            1,
            "the kernel's answer comes back"
        );
    }
    let status = block_on(async { scene.daemon.client().await.status().await.unwrap() });
    assert_eq!(
        status
            .workers
            .iter()
            .map(|worker| worker.core)
            .collect::<Vec<_>>(),
        [0, 1]
    );
    for worker in &status.workers {
        assert!(
            worker.rx_packets > 0 && worker.tx_packets > 0,
            "{:?}",
            status.workers
        );
    }
    assert_eq!(
        status.ports.iter().map(|port| port.queues).collect::<Vec<_>>(),
        [2, 2]
    );
}

#[test]
fn too_few_transmit_queues_limit_the_workers_with_a_warning() {
    let mut scene = Scene::with("[0, 1]", "");
    scene.apply(&Transaction::replacing(&tables()));
    eventually("a reaches b", || scene.a.ping("-c 1 -W 1 2001:db8:b::2").0);
    let status = block_on(async { scene.daemon.client().await.status().await.unwrap() });
    assert_eq!(status.workers.len(), 1);
    let log = scene.daemon.log();
    assert!(
        log.contains("WARN") && log.contains("port a: the device has 1 transmit queues for 2 workers"),
        "{log}"
    );
    assert_eq!(scene.daemon.terminate(), Some(0));
}
