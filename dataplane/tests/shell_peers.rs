//! Tunnels to implementations that are not ours, both ways: Open vSwitch's user-space data path, and the kernel's
//! `ip6gre` where the kernel has it. Needs root.
//!
//! Open vSwitch has GTP-U too, but version 3.1 computes its UDP checksum before it fills in the length, and takes
//! no IPv6 packet out of it.
//!
//! ```text
//!  correspondent ──veth── [internet  kedge  core] ──veth── [Open vSwitch or kernel: tunnel ── node]
//!   2001:db8:e::2              2001:db8:c::3                2001:db8:c::4              2001:db8:100::2
//! ```
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "a test")]

mod shell_support;

use std::net::Ipv6Addr;
use std::process::Command;

use kedge_dataplane_api::model::{Encapsulation, Gre, NextHop, PrefixEntry, Tables, Transaction, Tunnel};
use shell_support::namespace::{Namespace, need_root, octets, veth};
use shell_support::{Daemon, block_on, node};

const CORE: &str = "02:00:00:00:00:03";
const PEER: &str = "02:00:00:00:00:04";
const INTERNET: &str = "02:00:00:00:00:05";
const CORRESPONDENT: &str = "02:00:00:00:00:06";
/// Where the node is within Open vSwitch.
const INSIDE: &str = "02:00:00:00:00:aa";
/// What we take, and what the peer takes.
const OURS: u32 = 0x0102_0304;
const THEIRS: u32 = 0xf00d_0007;

const ENDS: (&str, &str) = ("2001:db8:c::3", "2001:db8:c::4");

fn address(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

fn gre(local_key: Option<u32>, remote_key: Option<u32>) -> Encapsulation {
    Encapsulation::Gre(Gre {
        local_key,
        remote_key,
    })
}

fn tables(encapsulation: Encapsulation, (local, remote): (&str, &str)) -> Tables {
    let on_link = |port: &str| PrefixEntry {
        next_hop: NextHop::OnLink {
            port: port.to_owned(),
        },
        source: None,
    };
    let mut tables = Tables::default();
    tables.local_addresses.insert(address(local));
    for (prefix, entry) in [
        ("2001:db8:c::/64", on_link("core")),
        ("2001:db8:e::/64", on_link("internet")),
        (
            "2001:db8:100::/64",
            PrefixEntry {
                next_hop: NextHop::Tunnel(1),
                source: None,
            },
        ),
    ] {
        tables.prefixes.insert(prefix.parse().unwrap(), entry);
    }
    for (port, neighbour, link_layer_address) in [
        ("core", remote, PEER),
        ("internet", "2001:db8:e::2", CORRESPONDENT),
    ] {
        tables
            .neighbours
            .insert((port.to_owned(), address(neighbour)), octets(link_layer_address));
    }
    tables.tunnels.insert(
        1,
        Tunnel {
            encapsulation,
            local: address(local),
            remote: address(remote),
            hop_limit: 64,
            mtu: 0,
            encapsulation_limit: None,
            dscp: kedge_dataplane_api::model::Dscp::default(),
        },
    );
    tables
}

/// The gateway, the host behind it, and the namespace of the peer.
struct Scene {
    daemon: Daemon,
    correspondent: Namespace,
    peer: Namespace,
    _gateway: Namespace,
}

impl Scene {
    fn new(purpose: &str) -> Self {
        need_root();
        let gateway = Namespace::new(&format!("{purpose}-gw"));
        let correspondent = Namespace::new(&format!("{purpose}-cn"));
        let peer = Namespace::new(&format!("{purpose}-peer"));
        veth((&gateway, "core0", CORE, true), (&peer, "core1", PEER, false));
        veth(
            (&gateway, "inet0", INTERNET, true),
            (&correspondent, "eth0", CORRESPONDENT, false),
        );
        correspondent.ip("addr add 2001:db8:e::2/64 dev eth0 nodad");
        correspondent.ip("route add default via fe80::1 dev eth0");
        correspondent.ip(&format!("neigh add fe80::1 lladdr {INTERNET} dev eth0"));
        let port = |name: &str, interface: &str| {
            format!(
                "[[port]]\nname = \"{name}\"\nside = \"core\"\ndevice = \"net_af_packet_{name},iface={interface}\"\n"
            )
        };
        let daemon = Daemon::start(Some(gateway.name()), |directory| {
            node(directory, "gateway", "2001:db8:c::3", "")
                + &port("core", "core0")
                + &port("internet", "inet0")
        });
        Self {
            daemon,
            correspondent,
            peer,
            _gateway: gateway,
        }
    }

    fn program(&self, tables: &Tables) {
        let replacing = Transaction::replacing(tables);
        block_on(async { self.daemon.client().await.apply(&replacing).await.unwrap() });
    }

    /// Packets into the tunnel and out of it.
    fn counts(&self) -> (u64, u64) {
        let status = block_on(async { self.daemon.client().await.status().await.unwrap() });
        let tunnel = status.tunnels.iter().find(|tunnel| tunnel.id == 1).unwrap();
        (tunnel.encapsulated_packets, tunnel.decapsulated_packets)
    }

    fn drops(&self) -> Vec<(String, u64)> {
        let status = block_on(async { self.daemon.client().await.status().await.unwrap() });
        let some = status.drops.into_iter().filter(|drop| drop.packets > 0);
        some.map(|drop| (drop.reason, drop.packets)).collect()
    }

    /// Pings from both ends; five packets of each go both ways.
    fn assert_works(&self, what: &str) {
        let mut attempts = 0;
        while !self.peer.ping("-c 1 -W 1 2001:db8:e::2").0 {
            attempts += 1;
            assert!(
                attempts < 10,
                "{what}: the node does not reach the correspondent; drops: {:?}, tunnel {:?}",
                self.drops(),
                self.counts()
            );
        }
        let before = self.counts();
        for (space, target) in [
            (&self.peer, "2001:db8:e::2"),
            (&self.correspondent, "2001:db8:100::2"),
        ] {
            let (ok, text) = space.ping(&format!("-c 5 -i 0.1 -W 2 {target}"));
            assert!(
                ok && text.contains("5 received"),
                "{what}: {text} {:?} {:?}",
                self.drops(),
                self.counts()
            );
        }
        let (ok, text) = self.peer.ping("-c 2 -i 0.1 -W 2 -s 1200 2001:db8:e::2");
        assert!(ok, "{what}, long: {text}");
        let after = self.counts();
        assert!(
            after.0 >= before.0 + 12 && after.1 >= before.1 + 12,
            "{what}: {before:?} {after:?}"
        );
    }
}

/// Open vSwitch with its user-space data path in a namespace; ended when dropped.
struct OpenVSwitch {
    directory: tempfile::TempDir,
}

impl OpenVSwitch {
    fn start(space: &Namespace) -> Self {
        let it = Self {
            directory: tempfile::Builder::new().prefix("kedge-ovs-").tempdir().unwrap(),
        };
        let database = it.path("conf.db");
        run(Command::new("ovsdb-tool").args([
            "create",
            &database,
            "/usr/share/openvswitch/vswitch.ovsschema",
        ]));
        let socket = format!("--remote=punix:{}", it.path("db.sock"));
        run(it
            .inside(space, "ovsdb-server")
            .args([&database, &socket, "--detach"]));
        it.configure("--no-wait init");
        let control = format!("--unixctl={}", it.path("switch.ctl"));
        let connection = format!("unix:{}", it.path("db.sock"));
        run(it
            .inside(space, "ovs-vswitchd")
            .args([&connection, &control, "--detach"]));
        // One bridge is the peer's link, the other one its inside.
        it.configure(&format!(
            "add-br outer -- set bridge outer datapath_type=netdev other-config:hwaddr={PEER} -- add-port outer core1"
        ));
        it.configure(&format!(
            "add-br inner -- set bridge inner datapath_type=netdev other-config:hwaddr={INSIDE}"
        ));
        for (device, address) in [("outer", ENDS.1), ("inner", "2001:db8:100::2")] {
            space.ip(&format!("addr add {address}/64 dev {device} nodad"));
            space.ip(&format!("link set {device} up"));
        }
        space.ip("neigh add fe80::1 lladdr 02:00:00:00:00:bb dev inner");
        space.ip("route add 2001:db8:e::/64 via fe80::1 dev inner");
        it
    }

    /// Its one tunnel, to the gateway; what was there before goes.
    fn tunnel(&self, kind: &str, remote: &str, options: &str) {
        self.configure("--if-exists del-port inner tunnel0");
        self.configure(&format!(
            "add-port inner tunnel0 -- set interface tunnel0 type={kind} ofport_request=10 \
             options:remote_ip={remote} {options}"
        ));
        let bridge = format!("unix:{}", self.path("inner.mgmt"));
        for flow in [
            "in_port=LOCAL,ipv6,actions=output:10".to_owned(),
            format!("in_port=10,actions=set_field:{INSIDE}->eth_dst,LOCAL"),
        ] {
            run(Command::new("ovs-ofctl").args(["-O", "OpenFlow13", "add-flow", &bridge, &flow]));
        }
        run(Command::new("ovs-appctl").args([
            "-t",
            &self.path("switch.ctl"),
            "tnl/neigh/set",
            "outer",
            remote,
            CORE,
        ]));
    }

    fn configure(&self, words: &str) {
        let connection = format!("--db=unix:{}", self.path("db.sock"));
        run(Command::new("ovs-vsctl")
            .arg(connection)
            .arg("--timeout=20")
            .args(words.split_whitespace()));
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    fn inside(&self, space: &Namespace, program: &str) -> Command {
        let mut command = space.command(program);
        let directory = self.directory.path();
        for name in ["OVS_RUNDIR", "OVS_DBDIR", "OVS_LOGDIR", "OVS_SYSCONFDIR"] {
            command.env(name, directory);
        }
        command.arg(format!("--pidfile={}", self.path(&format!("{program}.pid"))));
        command.arg(format!("--log-file={}", self.path(&format!("{program}.log"))));
        command
    }
}

impl Drop for OpenVSwitch {
    fn drop(&mut self) {
        for program in ["ovs-vswitchd", "ovsdb-server"] {
            let id = std::fs::read_to_string(self.path(&format!("{program}.pid")));
            if let Some(id) = id.ok().and_then(|id| id.trim().parse().ok()) {
                let process = nix::unistd::Pid::from_raw(id);
                let _ = nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGKILL);
            }
        }
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| {
        panic!("{command:?}: {error} (ci/setup installs Open vSwitch)");
    });
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {text}");
}

#[test]
fn open_vswitch_is_a_peer_for_gre() {
    let scene = Scene::new("ovs");
    let switch = OpenVSwitch::start(&scene.peer);
    let keys = format!("options:in_key={THEIRS} options:out_key={OURS}");
    let l3 = "options:packet_type=legacy_l3";
    for (what, encapsulation, ends, kind, options) in [
        (
            "GRE with keys",
            gre(Some(OURS), Some(THEIRS)),
            ENDS,
            "gre",
            format!("{keys} {l3}"),
        ),
        // Not together: version 3.1 computes the checksum before it fills in the number.
        (
            "GRE with keys and checksums",
            gre(Some(OURS), Some(THEIRS)),
            ENDS,
            "gre",
            format!("{keys} {l3} options:csum=true"),
        ),
        (
            "GRE with keys and sequence numbers",
            gre(Some(OURS), Some(THEIRS)),
            ENDS,
            "gre",
            format!("{keys} {l3} options:seq=true"),
        ),
        ("GRE without a key", gre(None, None), ENDS, "gre", l3.to_owned()),
    ] {
        scene.program(&tables(encapsulation, ends));
        switch.tunnel(kind, ends.0, &options);
        scene.assert_works(what);
    }
}

#[test]
fn the_kernel_is_a_peer_for_gre() {
    let scene = Scene::new("kernel");
    let (ours, peers) = ENDS;
    scene.peer.ip(&format!("addr add {peers}/64 dev core1 nodad"));
    scene
        .peer
        .ip(&format!("neigh add {ours} lladdr {CORE} dev core1"));
    let keys = format!("ikey {THEIRS} okey {OURS}");
    for (what, encapsulation, options) in [
        ("with keys", gre(Some(OURS), Some(THEIRS)), keys.clone()),
        (
            "with keys, checksums and sequence numbers",
            gre(Some(OURS), Some(THEIRS)),
            // Ours have neither, so the kernel must not insist.
            format!("{keys} ocsum oseq"),
        ),
        ("without a key", gre(None, None), String::new()),
    ] {
        let add = format!(
            "ip link add gre1 type ip6gre local {peers} remote {ours} hoplimit 64 encaplimit none {options}"
        );
        let added = scene.peer.run(&add);
        if !added.status.success() {
            let text = String::from_utf8_lossy(&added.stderr);
            assert!(text.contains("Unknown device type"), "{add}: {text}");
            eprintln!("left out: this kernel has no ip6gre");
            return;
        }
        scene.peer.ip("addr add 2001:db8:100::2/64 dev gre1 nodad");
        scene.peer.ip("link set gre1 up");
        scene.peer.ip("route add 2001:db8:e::/64 dev gre1");
        scene.program(&tables(encapsulation, ENDS));
        scene.assert_works(&format!("ip6gre {what}"));
        scene.peer.ip("link del gre1");
    }
}
