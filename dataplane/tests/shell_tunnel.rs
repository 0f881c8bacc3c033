//! Two daemons, a tunnel between them over a VLAN, a node behind one and its
//! correspondent behind the other. Needs root.
//!
//! ```text
//!  node ──veth── [access  visited  core] ──veth, VLAN 100── [core  anchor  internet] ──veth── correspondent
//!   2001:db8:100::2           └────────── IPv6 in IPv6 ──────────┘                 2001:db8:e::2
//! ```
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "a test")]

mod shell_support;

use std::io::{BufRead, BufReader};
use std::net::Ipv6Addr;
use std::process::Stdio;

use kedge_dataplane_api::model::{
    Encapsulation, NextHop, PrefixEntry, Sender, Source, SourcePath, Tables, Transaction, Tunnel,
};
use shell_support::namespace::{Namespace, need_root, octets, veth};
use shell_support::{Daemon, block_on, eventually, node};

const NODE: &str = "02:00:00:00:00:01";
const ROUTER: &str = "00:00:5e:00:52:13";
const VISITED: &str = "02:00:00:00:00:03";
const ANCHOR: &str = "02:00:00:00:00:04";
const INTERNET: &str = "02:00:00:00:00:05";
const CORRESPONDENT: &str = "02:00:00:00:00:06";

fn address(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

fn tunnel(local: &str, remote: &str) -> Tunnel {
    let (local, remote) = (address(local), address(remote));
    Tunnel {
        encapsulation: Encapsulation::Ipv6InIpv6,
        local,
        remote,
        hop_limit: 64,
        mtu: 0,
        encapsulation_limit: None,
        dscp: kedge_dataplane_api::model::Dscp::default(),
    }
}

fn on_link(port: &str) -> PrefixEntry {
    PrefixEntry {
        next_hop: NextHop::OnLink {
            port: port.to_owned(),
        },
        source: None,
    }
}

/// The gateway where the node is; the prefix is anchored at the other one.
fn visited() -> Tables {
    let mut tables = Tables::default();
    tables.local_addresses.insert(address("2001:db8:c::3"));
    tables
        .prefixes
        .insert("2001:db8:c::/64".parse().unwrap(), on_link("core"));
    tables
        .neighbours
        .insert(("core".into(), address("2001:db8:c::4")), octets(ANCHOR));
    tables.tunnels.insert(1, tunnel("2001:db8:c::3", "2001:db8:c::4"));
    let (port, link_layer_address) = ("access".to_owned(), octets(NODE));
    tables.prefixes.insert(
        "2001:db8:100::/64".parse().unwrap(),
        PrefixEntry {
            next_hop: NextHop::Deliver {
                port: port.clone(),
                link_layer_address,
            },
            source: Some(Source {
                sender: Sender::Node {
                    port,
                    link_layer_address,
                },
                path: SourcePath::Tunnel(1),
            }),
        },
    );
    tables
}

/// The gateway that anchors the node's prefix.
fn anchor() -> Tables {
    let mut tables = Tables::default();
    tables.local_addresses.insert(address("2001:db8:c::4"));
    tables
        .prefixes
        .insert("2001:db8:c::/64".parse().unwrap(), on_link("core"));
    tables
        .prefixes
        .insert("2001:db8:e::/64".parse().unwrap(), on_link("internet"));
    tables
        .neighbours
        .insert(("core".into(), address("2001:db8:c::3")), octets(VISITED));
    tables.neighbours.insert(
        ("internet".into(), address("2001:db8:e::2")),
        octets(CORRESPONDENT),
    );
    tables.tunnels.insert(2, tunnel("2001:db8:c::4", "2001:db8:c::3"));
    tables.prefixes.insert(
        "2001:db8:100::/64".parse().unwrap(),
        PrefixEntry {
            next_hop: NextHop::Tunnel(2),
            source: None,
        },
    );
    tables
}

fn port(name: &str, side: &str, interface: &str, more: &str) -> String {
    format!(
        "[[port]]\nname = \"{name}\"\nside = \"{side}\"\ndevice = \"net_af_packet_{name},iface={interface}\"\n{more}\n"
    )
}

#[test]
fn a_nodes_packets_go_through_the_tunnel_both_ways_and_strangers_do_not() {
    need_root();
    let spaces = ["mn", "visited", "anchor", "cn"].map(Namespace::new);
    let [mobile, visited_space, anchor_space, correspondent] = &spaces;
    veth(
        (mobile, "eth0", NODE, false),
        (visited_space, "access0", "02:00:00:00:00:02", true),
    );
    veth(
        (visited_space, "core0", VISITED, true),
        (anchor_space, "core0", ANCHOR, true),
    );
    veth(
        (anchor_space, "inet0", INTERNET, true),
        (correspondent, "eth0", CORRESPONDENT, false),
    );
    mobile.ip("addr add 2001:db8:100::2/64 dev eth0 nodad");
    mobile.ip("route add default via fe80::1 dev eth0");
    mobile.ip(&format!("neigh add fe80::1 lladdr {ROUTER} dev eth0"));
    correspondent.ip("addr add 2001:db8:e::2/64 dev eth0 nodad");
    correspondent.ip("route add default via fe80::1 dev eth0");
    correspondent.ip(&format!("neigh add fe80::1 lladdr {INTERNET} dev eth0"));

    let vlan = "vlan = 100\nmtu = 1600\n";
    for (space, name) in [(visited_space, "core0"), (anchor_space, "core0")] {
        space.ip(&format!("link set {name} mtu 1700"));
    }
    let first = Daemon::start(Some(visited_space.name()), |directory| {
        node(directory, "visited", "2001:db8:c::3", "")
            + &port("access", "access", "access0", "")
            + &port("core", "core", "core0", vlan)
    });
    let second = Daemon::start(Some(anchor_space.name()), |directory| {
        node(directory, "anchor", "2001:db8:c::4", "")
            + &port("core", "core", "core0", vlan)
            + &port("internet", "core", "inet0", "")
    });
    block_on(async {
        first
            .client()
            .await
            .apply(&Transaction::replacing(&visited()))
            .await
            .unwrap();
        second
            .client()
            .await
            .apply(&Transaction::replacing(&anchor()))
            .await
            .unwrap();
    });
    let status = |daemon: &Daemon| block_on(async { daemon.client().await.status().await.unwrap() });
    let drops = |daemon: &Daemon, reason: &str| {
        status(daemon)
            .drops
            .iter()
            .find(|drop| drop.reason == reason)
            .unwrap()
            .packets
    };

    // What is on the wire between the gateways, as another program sees it come in at both ends.
    let watch = |space: &Namespace| {
        let mut command = space.command("timeout");
        command.args(["20", "tcpdump", "-n", "-e", "-l", "-c", "4", "-i", "core0"]);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // It may take longer to start than all the pings.
        let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
        let listens = said.any(|line| line.unwrap().starts_with("listening on"));
        assert!(listens, "tcpdump did not start");
        // It says more in the end, and must not meet a closed pipe.
        std::thread::spawn(move || said.count());
        child
    };
    let watches = [watch(visited_space), watch(anchor_space)];
    eventually("the node reaches its correspondent", || {
        mobile.ping("-c 1 -W 1 2001:db8:e::2").0
    });
    let (ok, text) = mobile.ping("-c 5 -i 0.1 -W 2 2001:db8:e::2");
    assert!(ok && text.contains("5 received"), "{text}");
    assert!(text.contains("ttl=62"), "less by one at each gateway: {text}");
    let [back, forth] = watches.map(|watch| {
        let seen = watch.wait_with_output().unwrap();
        String::from_utf8_lossy(&seen.stdout).into_owned()
    });
    for (seen, outer, inner) in [
        (
            forth,
            "2001:db8:c::3 > 2001:db8:c::4",
            "2001:db8:100::2 > 2001:db8:e::2",
        ),
        (
            back,
            "2001:db8:c::4 > 2001:db8:c::3",
            "2001:db8:e::2 > 2001:db8:100::2",
        ),
    ] {
        assert!(
            seen.contains("vlan 100") && seen.contains(outer) && seen.contains(inner),
            "{seen}"
        );
    }

    let (ok, text) = mobile.ping("-c 2 -i 0.1 -W 2 -s 1452 2001:db8:e::2");
    assert!(ok, "1500 octets fit into the tunnel over the larger link: {text}");

    // Counted, at both ends.
    let here = status(&first);
    let tunnel = here.tunnels.iter().find(|tunnel| tunnel.id == 1).unwrap();
    assert!(
        tunnel.encapsulated_packets >= 6 && tunnel.decapsulated_packets >= 6,
        "{tunnel:?}"
    );
    let prefix = here
        .prefixes
        .iter()
        .find(|prefix| prefix.address[4..6] == [0x01, 0x00])
        .unwrap();
    assert!(prefix.to_packets >= 6 && prefix.from_packets >= 6, "{prefix:?}");
    let there = status(&second);
    let tunnel = there.tunnels.iter().find(|tunnel| tunnel.id == 2).unwrap();
    assert!(
        tunnel.encapsulated_packets >= 6 && tunnel.decapsulated_packets >= 6,
        "{tunnel:?}"
    );

    // A source that is not the node's.
    let before = drops(&first, "source_not_bound");
    mobile.ip("addr add 2001:db8:666::2/128 dev eth0 nodad");
    let (ok, _) = mobile.ping("-c 1 -W 1 -I 2001:db8:666::2 2001:db8:e::2");
    assert!(!ok);
    assert!(drops(&first, "source_not_bound") > before);

    // A tunnel that the anchor does not know: its peer is a stranger now.
    let before = drops(&second, "tunnel_unknown_peer");
    let mut strange = anchor();
    strange.tunnels.insert(2, tunnel_to_nobody());
    block_on(async {
        second
            .client()
            .await
            .apply(&Transaction::replacing(&strange))
            .await
            .unwrap()
    });
    let (ok, _) = mobile.ping("-c 1 -W 1 2001:db8:e::2");
    assert!(!ok);
    assert!(drops(&second, "tunnel_unknown_peer") > before);
}

fn tunnel_to_nobody() -> Tunnel {
    tunnel("2001:db8:c::4", "2001:db8:c::99")
}
