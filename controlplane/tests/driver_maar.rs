//! The daemon of role MAAR between a kernel host that solicits, a CMD, and a
//! data plane that only keeps its tables. Needs root.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod driver_support;
#[allow(
    dead_code,
    unreachable_pub,
    reason = "shared with another test, which uses its part"
)]
#[path = "driver_support/dataplane.rs"]
mod fake;

use std::io::{BufRead, BufReader};
use std::net::SocketAddrV6;
use std::process::{Command, Stdio};

use driver_support::{Daemon, Namespace, eventually};
use fake::FakeDataplane;
use ipnet::Ipv6Net;
use kedge_dataplane_api::model::{NextHop, Sender, SourcePath};
use socket2::{Domain, Protocol, Socket, Type};

const NODE: [u8; 6] = [2, 0, 0, 0, 0x0a, 1];
const GATEWAY: &str = "2001:db8:ca::1";

/// One access link with a host, one core link with a router that is the CMD too.
struct Scene {
    maar: Daemon,
    cmd: Daemon,
    dataplane: Option<FakeDataplane>,
    gateway: Namespace,
    inside: Namespace,
    node: Namespace,
    directory: tempfile::TempDir,
}

impl Scene {
    fn new(access: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (inside, gateway, node) = (
            Namespace::new("maar"),
            Namespace::new("core"),
            Namespace::new("node"),
        );
        gateway.address("2001:db8:d::1/128", "lo");
        let known = "[cmd]\n[[cmd.known_maar]]\naddress = \"2001:db8:a::1\"\nprefix_pools = [\"2001:db8:100::/48\"]\n";
        let cmd = Daemon::start(&gateway, directory.path(), "cmd", "cmd", "2001:db8:d::1", known);
        let dataplane = FakeDataplane::start(&directory.path().join("maar1/run/dataplane.sock"));
        let text = format!(
            r#"
            [dataplane]
            [[port]]
            name = "access"
            device = "net_null0"
            side = "access"
            exception = "kacc"
            link_layer_address = "00:00:5e:00:52:13"
            [[port]]
            name = "core"
            device = "net_null1"
            side = "core"
            exception = "kcore"
            addresses = ["2001:db8:ca::2/64"]
            [[route]]
            prefix = "::/0"
            port = "core"
            gateway = "{GATEWAY}"
            [maar]
            cmd = ["2001:db8:d::1"]
            prefix_pools = ["2001:db8:100::/48"]
            {access}
            "#
        );
        let maar = Daemon::start(&inside, directory.path(), "maar1", "maar", "2001:db8:a::1", &text);
        let scene = Self {
            maar,
            cmd,
            dataplane: Some(dataplane),
            gateway,
            inside,
            node,
            directory,
        };
        // As when the data plane makes them: after the control plane has started.
        scene.core_link();
        scene.access_link();
        scene
    }

    fn core_link(&self) {
        self.inside.ip(&[
            "link",
            "add",
            "kcore",
            "type",
            "veth",
            "peer",
            "name",
            "core",
            "netns",
            &self.gateway.name,
        ]);
        self.gateway.address("2001:db8:ca::1/64", "core");
        self.gateway.ip(&["link", "set", "core", "up"]);
        self.gateway.ip(&[
            "-6",
            "route",
            "add",
            "2001:db8:a::/64",
            "via",
            "2001:db8:ca::2",
            "dev",
            "core",
        ]);
    }

    fn access_link(&self) {
        self.inside.ip(&[
            "link",
            "add",
            "kacc",
            "address",
            "00:00:5e:00:52:13",
            "type",
            "veth",
            "peer",
            "name",
            "mn0",
            "address",
            "02:00:00:00:0a:01",
            "netns",
            &self.node.name,
        ]);
    }

    /// The host comes up and does what any host does.
    fn node_appears(&self) {
        eventually("the access link", || {
            self.maar.log().contains("kacc is configured").then_some(())
        });
        eventually("signalling", || {
            self.maar.log().contains("signalling as").then_some(())
        });
        self.node.ip(&["link", "set", "mn0", "up"]);
    }

    fn dataplane(&self) -> &FakeDataplane {
        self.dataplane.as_ref().unwrap()
    }

    /// Waits for the entry that delivers to the node.
    fn wait_for_delivery(&self) -> Ipv6Net {
        let prefix: Ipv6Net = "2001:db8:100::/64".parse().unwrap();
        eventually("delivery to the node", || {
            let tables = self.dataplane().tables();
            let entry = tables.prefixes.get(&prefix)?;
            (entry.next_hop
                == NextHop::Deliver {
                    port: "access".to_owned(),
                    link_layer_address: NODE,
                })
            .then(|| {
                let source = entry.source.as_ref().unwrap();
                let sender = Sender::Node {
                    port: "access".to_owned(),
                    link_layer_address: NODE,
                };
                assert_eq!((&source.sender, source.path), (&sender, SourcePath::Native));
            })
        });
        prefix
    }
}

/// A host that was told nothing gets its prefix, its router and its delivery;
/// both daemons may be killed, and everything is as before.
#[test]
fn a_host_is_served_and_restarts_are_not_felt() {
    let mut scene = Scene::new("");
    scene.node_appears();
    scene.wait_for_delivery();
    let address = eventually("the host's address", || {
        let shown = scene
            .node
            .ip(&["-6", "address", "show", "dev", "mn0", "scope", "global"]);
        shown.contains("2001:db8:100::ff:fe00:a01/64").then_some(shown)
    });
    assert!(address.contains("preferred_lft 1"), "{address}");
    let route = scene.node.ip(&["-6", "route", "show", "default"]);
    assert!(
        route.contains("via fe80::200:5eff:fe00:5213") && route.contains("mtu 1460"),
        "{route}"
    );
    let nodes = scene.maar.json(&["show", "nodes"]);
    assert_eq!(nodes[0]["identifier"], "eui48:02-00-00-00-0a-01");
    assert_eq!(nodes[0]["state"], "attached");
    assert_eq!(nodes[0]["prefixes"][0]["preferred"], true);
    assert_eq!(
        scene.cmd.json(&["show", "bindings"])[0]["serving_maar"],
        "2001:db8:a::1"
    );
    // The gateway was resolved without a packet that needed it.
    let gateway = ("core".to_owned(), GATEWAY.parse().unwrap());
    eventually("the gateway", || {
        scene
            .dataplane()
            .tables()
            .neighbours
            .contains_key(&gateway)
            .then_some(())
    });

    // The router that the host sees is a router in its Neighbour Advertisements too.
    let neighbour = eventually("the router's entry at the host", || {
        let shown = scene.node.ip(&[
            "-6",
            "neighbour",
            "show",
            "fe80::200:5eff:fe00:5213",
            "dev",
            "mn0",
        ]);
        shown.contains("router").then_some(shown)
    });
    assert!(neighbour.contains("00:00:5e:00:52:13"), "{neighbour}");

    // kill -9 of the data plane: it comes back empty and is refilled.
    let before = scene.dataplane().tables();
    drop(scene.dataplane.take());
    eventually("the loss", || {
        (!scene.maar.json(&["show", "info"])["controlplane"]["dataplane_connected"]
            .as_bool()
            .unwrap())
        .then_some(())
    });
    scene.dataplane = Some(FakeDataplane::start(&scene.maar.run.join("dataplane.sock")));
    eventually("the refill", || {
        (scene.dataplane().tables() == before).then_some(())
    });

    // kill -9 of the control plane: what it reads back is what it wants, so it changes nothing.
    let sent = scene.dataplane().inner.lock().unwrap().transactions.len();
    let stored = scene.directory.path().join("maar1/state/maar.json");
    eventually("the save", || {
        std::fs::read_to_string(&stored)
            .ok()?
            .contains("\"attached\"")
            .then_some(())
    });
    scene.maar.kill_and_restart();
    eventually("the data plane", || {
        // Null until the daemon answers again.
        let connected = &scene.maar.json(&["show", "info"])["controlplane"]["dataplane_connected"];
        (connected.as_bool() == Some(true)).then_some(())
    });
    {
        let inner = scene.dataplane().inner.lock().unwrap();
        let deleted: Vec<_> = inner.transactions[sent..]
            .iter()
            .flat_map(|one| &one.delete_prefixes)
            .collect();
        assert!(deleted.is_empty(), "{deleted:?}");
    }
    assert_eq!(scene.dataplane().tables().prefixes, before.prefixes);
    assert_eq!(scene.maar.json(&["show", "nodes"])[0]["state"], "attached");

    // What the operator sees of the data plane.
    let drops = scene.maar.json(&["show", "drops"]);
    assert_eq!(drops["no_route"], 3);
    let prefixes = scene.maar.json(&["show", "prefixes"]);
    let entry = prefixes
        .as_array()
        .unwrap()
        .iter()
        .find(|entry| entry["prefix"] == "2001:db8:100::/64")
        .unwrap();
    assert_eq!(entry["next_hop"]["kind"], "deliver");
    assert_eq!(entry["source"]["link_layer_address"], "02:00:00:00:0a:01");
}

/// The operator's word, the kernel's neighbours, and interfaces that are made anew.
#[test]
fn detachment_neighbours_and_new_interfaces() {
    let scene = Scene::new("");
    scene.node_appears();
    let prefix = scene.wait_for_delivery();
    let gone = scene.maar.json(&["detach", "eui48:02-00-00-00-0a-01"]);
    assert_eq!(gone["state"], "detached");
    eventually("the prefix of an absent node", || {
        let entry = scene.dataplane().tables().prefixes.get(&prefix)?.next_hop.clone();
        matches!(entry, NextHop::Hold { .. }).then_some(())
    });
    let back = scene.maar.json(&["attach", "eui48:02-00-00-00-0a-01"]);
    assert!(
        back["state"] == "registering" || back["state"] == "attached",
        "{back}"
    );
    scene.wait_for_delivery();
    let output = scene
        .maar
        .kedge(&["attach", "mn9@example.net", "--port", "nonsense"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("nonsense") && text.contains("access"), "{text}");

    // A neighbour that a packet needed is resolved; when it is gone, it is forgotten.
    scene.gateway.address("2001:db8:ca::99/64", "core");
    let key = ("core".to_owned(), "2001:db8:ca::99".parse().unwrap());
    assert!(!scene.dataplane().tables().neighbours.contains_key(&key));
    scene.dataplane().unknown_neighbour("core", key.1);
    eventually("the neighbour", || {
        scene
            .dataplane()
            .tables()
            .neighbours
            .contains_key(&key)
            .then_some(())
    });
    scene
        .inside
        .ip(&["-6", "neighbour", "delete", "2001:db8:ca::99", "dev", "kcore"]);
    eventually("its end", || {
        (!scene.dataplane().tables().neighbours.contains_key(&key)).then_some(())
    });

    // The data plane starts again, so its interfaces are others: signalling and advertisements go on.
    scene.inside.ip(&["link", "delete", "kcore"]);
    scene.inside.ip(&["link", "delete", "kacc"]);
    eventually("their end", || {
        scene
            .maar
            .log()
            .contains("interface of port access is gone")
            .then_some(())
    });
    scene.core_link();
    scene.access_link();
    let solicitations = scene.maar.counter("solicitations");
    scene.node.ip(&["link", "set", "mn0", "up"]);
    eventually("another solicitation", || {
        (scene.maar.counter("solicitations") > solicitations).then_some(())
    });
    eventually("the host's address", || {
        let shown = scene
            .node
            .ip(&["-6", "address", "show", "dev", "mn0", "scope", "global"]);
        shown.contains("2001:db8:100::ff:fe00:a01/64").then_some(())
    });
    let answers = scene.maar.counter("received_pba_accepted");
    let refresh = scene.maar.json(&["detach", "eui48:02-00-00-00-0a-01"]);
    assert_eq!(refresh["state"], "detached");
    scene.maar.json(&["attach", "eui48:02-00-00-00-0a-01"]);
    eventually("an answer", || {
        (scene.maar.counter("received_pba_accepted") > answers).then_some(())
    });
}

/// A policy that refuses strangers, and learns of one by SIGHUP.
#[test]
fn a_stranger_is_not_served_until_the_policy_names_it() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let access = format!(
        "[access]\nunknown_nodes = \"refuse\"\npolicy_file = {:?}\n",
        file.path()
    );
    let scene = Scene::new(&access);
    scene.node_appears();
    eventually("the refusal", || {
        (scene.maar.counter("solicitations_unknown_node_refused") > 0).then_some(())
    });
    assert_eq!(scene.maar.json(&["show", "nodes"]), serde_json::json!([]));
    std::fs::write(file.path(), "[[node]]\nidentifer = 1\n").unwrap();
    scene.maar.hangup();
    eventually("the bad file", || {
        scene.maar.log().contains("policy unchanged").then_some(())
    });
    std::fs::write(
        file.path(),
        "[[node]]\nidentifier = \"mn1@example.net\"\nlink_layer_address = \"02:00:00:00:0a:01\"\n",
    )
    .unwrap();
    scene.maar.hangup();
    eventually("the good file", || {
        scene
            .maar
            .log()
            .contains("policy read again: 1 nodes")
            .then_some(())
    });
    let attached = scene.maar.json(&["attach", "mn1@example.net"]);
    assert_eq!(attached["identifier"], "mn1@example.net");
    scene.wait_for_delivery();
    assert_eq!(
        scene.maar.json(&["show", "nodes"])[0]["link_layer_address"],
        "02:00:00:00:0a:01"
    );
}

/// Solicitations that RFC 4861 section 6.1.1 refuses, or that name nobody, attach nobody.
#[test]
fn bad_solicitations_attach_nobody() {
    let scene = Scene::new("");
    eventually("the access link", || {
        scene.maar.log().contains("kacc is configured").then_some(())
    });
    // A host that solicits nothing itself: its address is there at once, and it takes no advertisements.
    scene
        .node
        .run(&["sysctl", "-qw", "net.ipv6.conf.mn0.accept_ra=0"]);
    scene
        .node
        .run(&["sysctl", "-qw", "net.ipv6.conf.mn0.addr_gen_mode=1"]);
    scene.node.ip(&["link", "set", "mn0", "up"]);
    scene.node.address("fe80::77/64", "mn0");
    let send = |hops: u32, message: &[u8]| {
        scene.node.inside(|| {
            let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6)).unwrap();
            socket.bind_device(Some(b"mn0")).unwrap();
            socket.set_multicast_hops_v6(hops).unwrap();
            let routers = SocketAddrV6::new("ff02::2".parse().unwrap(), 0, 0, 0);
            socket.send_to(message, &routers.into()).unwrap();
        });
    };
    let plain = [133, 0, 0, 0, 0, 0, 0, 0];
    let source_link_layer_address = |address: [u8; 6]| [&plain[..], &[1, 1], &address].concat();
    for (number, (hops, message)) in [
        (64, source_link_layer_address(NODE)),
        (255, plain[..7].to_vec()),
        (255, [&plain[..], &[1, 0, 0, 0, 0, 0, 0, 0]].concat()),
        (255, [133, 9, 0, 0, 0, 0, 0, 0].to_vec()),
    ]
    .into_iter()
    .enumerate()
    {
        send(hops, &message);
        scene
            .maar
            .wait_for_counter("solicitations_invalid", number as u64 + 1);
    }
    // A group is nobody's address; without any address, and none in the identifier, there is nobody.
    send(255, &source_link_layer_address([1, 0, 0, 0, 0, 1]));
    scene
        .maar
        .wait_for_counter("solicitations_without_link_layer_address", 1);
    assert_eq!(scene.maar.json(&["show", "nodes"]), serde_json::json!([]));
    send(255, &source_link_layer_address(NODE));
    eventually("the good one", || {
        (scene.maar.json(&["show", "nodes"])[0]["link_local_address"] == "fe80::77").then_some(())
    });
}

/// What `kedge watch` shows: the events of both daemons, one JSON object on each line.
#[test]
fn a_watcher_sees_both_daemons() {
    let scene = Scene::new("");
    scene.node_appears();
    scene.wait_for_delivery();
    let mut watch = Command::new(env!("CARGO_BIN_EXE_kedge"))
        .args(["--json", "watch", "--run-directory"])
        .arg(&scene.maar.run)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            let value: serde_json::Value = serde_json::from_str(&line).unwrap();
            if sender.send(value).is_err() {
                return;
            }
        }
    });
    let mut seen: Vec<serde_json::Value> = Vec::new();
    // It subscribes a moment after it has started: make events until the first is seen.
    let wanted = [
        "node_detached",
        "node_attached",
        "message_sent",
        "message_received",
        "advertisement_sent",
        "dataplane_unknown_neighbour",
    ];
    eventually("all kinds of events", || {
        scene.maar.json(&["detach", "eui48:02-00-00-00-0a-01"]);
        scene.maar.json(&["attach", "eui48:02-00-00-00-0a-01"]);
        scene
            .dataplane()
            .unknown_neighbour("core", "2001:db8:ca::98".parse().unwrap());
        std::thread::sleep(std::time::Duration::from_millis(100));
        seen.extend(receiver.try_iter());
        wanted
            .iter()
            .all(|kind| seen.iter().any(|event| event["kind"] == *kind))
            .then_some(())
    });
    let sent = seen.iter().find(|event| event["kind"] == "message_sent").unwrap();
    assert_eq!(sent["gateway"], "maar1");
    assert_eq!(sent["fields"]["message"], "PBU");
    assert_eq!(sent["fields"]["prefixes"], "2001:db8:100::/64");
    assert_eq!(sent["fields"]["identifier"], "eui48:02-00-00-00-0a-01");
    assert!(sent["unix_us"].as_u64().unwrap() > 1_600_000_000_000_000);
    let pid = nix::unistd::Pid::from_raw(watch.id().try_into().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    assert!(watch.wait().unwrap().success());
}
