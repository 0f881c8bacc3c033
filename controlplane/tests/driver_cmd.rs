//! The daemon of role CMD in a network namespace: bad messages, kill -9, corrupt stores. Needs root.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod driver_support;

use std::io::{Read, Write};
use std::net::{Ipv6Addr, SocketAddrV6};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use driver_support::{Daemon, Namespace, eventually, mobility_packet, packet};
use kedge_controlplane::identity::MobileNodeIdentifier;
use kedge_controlplane::time::Time;
use kedge_controlplane::wire::mobility::{
    MobilityMessage, MobilityOptions, ProxyBindingUpdate, emit, timestamp_from_time, update_flags,
};
use socket2::{Domain, Protocol, Socket, Type};

const CMD: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xd, 0, 0, 0, 0, 1);
const MAAR: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0, 0, 0, 0, 1);
const CONFIG: &str = r#"
[cmd]
[[cmd.known_maar]]
address = "2001:db8:a::1"
prefix_pools = ["2001:db8:100::/48"]
"#;

/// A CMD, and a peer that can send it anything.
struct Scene {
    cmd: Daemon,
    sender: Socket,
    /// What the peer receives of the Mobility Header, and of ICMPv6.
    mobility: Socket,
    icmp: Socket,
    directory: tempfile::TempDir,
    namespace: Namespace,
}

impl Scene {
    fn new() -> Self {
        Self::with("")
    }

    /// With more keys of `[node]`.
    fn with(node: &str) -> Self {
        let namespace = Namespace::new("cmd");
        namespace.address("2001:db8:d::1/128", "lo");
        namespace.address("2001:db8:a::1/128", "lo");
        let directory = tempfile::tempdir().unwrap();
        let cmd = Daemon::start(
            &namespace,
            directory.path(),
            "cmd",
            "cmd",
            &CMD.to_string(),
            &format!("{node}{CONFIG}"),
        );
        eventually("the Mobility Header socket", || {
            cmd.log().contains("signalling as").then_some(())
        });
        let (sender, mobility, icmp) = namespace.inside(|| {
            let sender = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::from(255))).unwrap();
            sender.set_header_included_v6(true).unwrap();
            let receiver = |protocol| {
                let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::from(protocol))).unwrap();
                socket.bind(&SocketAddrV6::new(MAAR, 0, 0, 0).into()).unwrap();
                socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
                socket
            };
            (sender, receiver(135), receiver(58))
        });
        Self {
            cmd,
            sender,
            mobility,
            icmp,
            directory,
            namespace,
        }
    }

    fn send(&self, packet: &[u8]) {
        self.sender
            .send_to(packet, &SocketAddrV6::new(CMD, 0, 0, 0).into())
            .unwrap();
    }

    fn send_message(&self, message: Vec<u8>) {
        self.send(&mobility_packet(MAAR, CMD, message));
    }

    /// Registers a node as a good MAAR would, and waits for the answer.
    fn register(&mut self, identifier: &str, number: u16) {
        self.send_message(update(identifier, number));
        let mut answer = [0; 2048];
        let length = self.mobility.read(&mut answer).unwrap();
        assert_eq!((answer[2], answer[6]), (6, 0), "{:?}", &answer[..length]);
    }
}

/// A good Proxy Binding Update.
fn update(identifier: &str, number: u16) -> Vec<u8> {
    let now = Time(SystemTime::now().duration_since(UNIX_EPOCH).unwrap());
    let update = ProxyBindingUpdate {
        sequence: number,
        flags: update_flags::ACKNOWLEDGE | update_flags::PROXY | update_flags::DISTRIBUTED,
        lifetime: 100,
        options: MobilityOptions {
            mobile_node_identifier: Some(MobileNodeIdentifier::nai(identifier)),
            home_network_prefixes: vec![format!("2001:db8:100:{number:x}::/64").parse().unwrap()],
            handoff_indicator: Some(4),
            access_technology_type: Some(4),
            timestamp: Some(timestamp_from_time(now)),
            ..MobilityOptions::default()
        },
    };
    emit(&MobilityMessage::ProxyBindingUpdate(update), MAAR, CMD).unwrap()
}

/// Every kind of bad message has a counter of its own, leaves no binding, and
/// harms nobody: the daemon goes on to serve a good one.
#[test]
fn bad_messages_are_counted_and_change_nothing() {
    let mut scene = Scene::new();
    let good = update("mn1@example.net", 1);
    let with = |offset: usize, value: u8| {
        let mut message = good.clone();
        message[offset] = value;
        message
    };
    let mut no_end = good.clone();
    *no_end.last_mut().unwrap() = 1;
    let length = good.len();
    // The Mobile Node Identifier option is first: at 12, its length at 13.
    for (counter, message) in [
        ("mobility_error_truncated", vec![59, 0, 5, 0, 0, 0, 0]),
        ("mobility_error_truncated", good[..length - 8].to_vec()),
        ("mobility_error_oversized", [good.as_slice(), &[0; 8]].concat()),
        (
            "mobility_error_oversized",
            [good.as_slice(), &vec![0; 4000]].concat(),
        ),
        ("mobility_error_payload_proto", with(0, 6)),
        ("mobility_error_header_len", vec![59, 0, 5, 0, 0, 0, 0, 1]),
        ("mobility_error_option_overrun", with(13, 255)),
        ("mobility_error_option_invalid", with(13, 0)),
        ("mobility_error_not_proxy", with(8, 0x80)),
    ] {
        let before = scene.cmd.counter(counter);
        let message = if counter == "mobility_error_not_proxy" {
            let mut message = message;
            message[8..10].copy_from_slice(&[0x80, 0]);
            message
        } else {
            message
        };
        let octets = message.len();
        scene.send_message(message);
        eventually(&format!("{counter} of {octets} octets"), || {
            (scene.cmd.counter(counter) == before + 1).then_some(())
        });
    }
    // The kernel drops what has a wrong checksum, and says so.
    let mut wrong = mobility_packet(MAAR, CMD, good.clone());
    wrong[44] ^= 0x55;
    scene.send(&wrong);
    scene.cmd.wait_for_counter("mobility_dropped_by_kernel", 1);
    assert_eq!(scene.cmd.json(&["show", "bindings"]), serde_json::json!([]));
    assert!(scene.cmd.lives());
    scene.register("mn1@example.net", 2);
    assert_eq!(
        scene.cmd.json(&["show", "bindings"])[0]["identifier"],
        "mn1@example.net"
    );
}

/// RFC 6275 section 9.2: an unknown type is answered with a Binding Error, a
/// wrong Payload Proto with a Parameter Problem that points at it.
#[test]
fn what_has_an_answer_is_answered_but_not_without_end() {
    let mut scene = Scene::new();
    let mut answer = [0; 2048];
    scene.send_message(vec![59, 1, 200, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let length = scene.mobility.read(&mut answer).unwrap();
    assert_eq!(length, 24);
    assert_eq!((answer[0], answer[1], answer[2], answer[6]), (59, 2, 7, 2));
    scene.cmd.wait_for_counter("binding_errors_sent", 1);

    let mut message = update("mn1@example.net", 1);
    message[0] = 17;
    scene.send_message(message.clone());
    // Other ICMPv6 of the namespace may come before it.
    let problem = eventually("the Parameter Problem", || {
        let length = scene.icmp.read(&mut answer).unwrap();
        (answer[0] == 4).then(|| answer[..length].to_vec())
    });
    assert_eq!(problem[1], 0);
    assert_eq!(problem[4..8], [0, 0, 0, 40]);
    let invoking = packet(MAAR, CMD, 135, &[]);
    assert_eq!(problem[8 + 8..8 + 40], invoking[8..40]);
    assert_eq!(problem[8 + 40], 17);

    std::thread::sleep(Duration::from_secs(1));
    for _ in 0..20 {
        scene.send_message(message.clone());
    }
    scene.cmd.wait_for_counter("mobility_error_payload_proto", 21);
    let answered = scene.cmd.counter("parameter_problems_sent");
    let suppressed = scene.cmd.counter("answers_suppressed");
    assert_eq!(answered + suppressed, 21);
    // The burst may fall into two seconds.
    assert!((4..=7).contains(&answered), "{answered} of 21 answered");
}

/// A binding survives kill -9, and a clean end too.
#[test]
fn bindings_survive() {
    let mut scene = Scene::new();
    for number in 1..=3 {
        scene.register(&format!("mn{number}@example.net"), number);
    }
    let identifiers = |scene: &Scene| {
        let bindings = scene.cmd.json(&["show", "bindings"]);
        let mut all: Vec<_> = bindings
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["identifier"].to_string())
            .collect();
        all.sort();
        all.len()
    };
    let file = scene.directory.path().join("cmd/state/cmd.json");
    eventually("the save", || {
        std::fs::read_to_string(&file)
            .ok()
            .filter(|text| text.contains("mn3@example.net"))
    });
    scene.cmd.kill_and_restart();
    assert_eq!(identifiers(&scene), 3);
    let binding = &scene.cmd.json(&["show", "bindings"])[1];
    assert_eq!(binding["prefixes"], serde_json::json!(["2001:db8:100:2::/64"]));
    let left = binding["expires_in_ms"].as_u64().unwrap();
    assert!(left > 300_000 && left <= 400_000, "{left}");

    scene.cmd.terminate();
    assert!(!scene.cmd.run.join("controlplane.sock").exists());
    // Torn as a disk may tear it: it starts all the same, and keeps the evidence.
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, &text[..text.len() / 2]).unwrap();
    scene.cmd.start_again();
    assert_eq!(identifiers(&scene), 0);
    assert!(
        scene.cmd.log().contains("starting without bindings"),
        "{}",
        scene.cmd.log()
    );
    let aside = std::fs::read_to_string(file.with_extension("json.corrupt")).unwrap();
    assert_eq!(aside, text[..text.len() / 2]);
}

/// What Prometheus scrapes.
#[test]
fn metrics() {
    let mut scene = Scene::with("metrics = \"[::1]:9110\"\n");
    scene.register("mn1@example.net", 1);
    let ask = |request: &str| {
        scene.namespace.inside(|| {
            let mut stream = std::net::TcpStream::connect("[::1]:9110").unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        })
    };
    let answer = ask("GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    for line in [
        "kedge_controlplane_bindings{state=\"active\"} 1",
        "kedge_controlplane_bindings{state=\"deregistered\"} 0",
        "kedge_controlplane_events_total{event=\"bindings_created\"} 1",
        "kedge_controlplane_events_total{event=\"mobility_error_truncated\"} 0",
        "kedge_controlplane_mobility_messages_total{direction=\"received\",message=\"PBU\",result=\"\"} 1",
        "kedge_controlplane_mobility_messages_total{direction=\"sent\",message=\"PBA\",result=\"accepted\"} 1",
    ] {
        assert!(
            answer.lines().any(|found| found == line),
            "{line} is not in\n{answer}"
        );
    }
    let other = ask("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert!(other.starts_with("HTTP/1.1 404"), "{other}");
    let post = ask("POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    assert!(post.starts_with("HTTP/1.1 405"), "{post}");
    let nonsense = ask("\u{1}\u{2}nonsense\r\n\r\n");
    assert!(nonsense.starts_with("HTTP/1.1 400"), "{nonsense}");
    assert!(scene.cmd.lives());
}
