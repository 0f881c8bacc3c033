//! The running daemon on `net_null` ports: API, events, metrics, its end. No root needed.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "a test")]

mod shell_support;

use ipnet::Ipv6Net;
use kedge_dataplane_api::model::{
    Filter, FilterAction, Meter, MeterRates, NextHop, PortRange, PrefixEntry, Selector, Tables, Transaction,
    Yellow,
};
use kedge_dataplane_api::{Client, ClientError, proto};
use shell_support::api::{configuration, some_tables};
use shell_support::{BINARY, Daemon, block_on, eventually};

fn start(name: &str) -> Daemon {
    Daemon::start(None, |directory| configuration(directory, name, None))
}

fn number(status: &proto::Status, name: &str) -> u64 {
    status
        .drops
        .iter()
        .find(|drop| drop.reason == name)
        .unwrap_or_else(|| panic!("no drop reason {name}"))
        .packets
}

#[test]
fn tables_go_in_and_come_back() {
    let daemon = start("tables");
    block_on(async {
        let client = daemon.client().await;
        let (first, tables) = client.read_state().await.unwrap();
        assert_eq!(tables, Tables::default(), "a data plane starts empty");

        let want = some_tables();
        let generation = client.apply(&Transaction::between(&tables, &want)).await.unwrap();
        assert!(generation > first);
        assert_eq!(client.read_state().await.unwrap(), (generation, want.clone()));

        // A transaction that says which generation it is for: not the one that there is.
        let first = generation;
        let again = Transaction {
            put_neighbours: vec![(("core".into(), "2001:db8:ca::7".parse().unwrap()), [2; 6])],
            ..Transaction::default()
        };
        client.apply(&again).await.unwrap();
        let back = Transaction {
            delete_neighbours: vec![("core".into(), "2001:db8:ca::7".parse().unwrap())],
            ..Transaction::default()
        };
        let generation = client.apply(&back).await.unwrap();
        let mut less = want.clone();
        less.prefixes.remove(&"2001:db8:100::/64".parse().unwrap());
        let difference = Transaction {
            expected_generation: first,
            ..Transaction::between(&want, &less)
        };
        let error = client.apply(&difference).await.unwrap_err();
        assert!(matches!(error, ClientError::GenerationMismatch(_)), "{error:?}");
        assert!(error.to_string().contains(&first.to_string()), "{error}");
        assert_eq!(
            client.read_state().await.unwrap(),
            (generation, want.clone()),
            "nothing changed"
        );
        let difference = Transaction {
            expected_generation: generation,
            ..difference
        };
        let next = client.apply(&difference).await.unwrap();
        assert_eq!(client.read_state().await.unwrap(), (next, less));

        // All anew.
        let next = client.apply(&Transaction::replacing(&want)).await.unwrap();
        assert_eq!(client.read_state().await.unwrap(), (next, want));
    });
}

#[test]
fn a_refused_transaction_names_the_value_and_changes_nothing() {
    let daemon = start("refused");
    block_on(async {
        let client = daemon.client().await;
        let before = {
            client
                .apply(&Transaction::between(&Tables::default(), &some_tables()))
                .await
                .unwrap();
            client.read_state().await.unwrap()
        };
        let good: ipnet::Ipv6Net = "2001:db8:200::/64".parse().unwrap();
        let put = |next_hop| PrefixEntry {
            next_hop,
            source: None,
        };
        let on_link = |port: &str| {
            put(NextHop::OnLink {
                port: port.to_owned(),
            })
        };
        let cases = [
            (
                "wlan7",
                vec![
                    (good, on_link("core")),
                    ("2001:db8:300::/64".parse().unwrap(), on_link("wlan7")),
                ],
            ),
            ("99", vec![(good, put(NextHop::Tunnel(99)))]),
        ];
        for (named, put_prefixes) in cases {
            let error = client
                .apply(&Transaction {
                    put_prefixes,
                    ..Transaction::default()
                })
                .await
                .unwrap_err();
            assert!(matches!(error, ClientError::Rejected(_)), "{error:?}");
            assert!(error.to_string().contains(named), "{error} does not name {named}");
            assert_eq!(
                client.read_state().await.unwrap(),
                before,
                "{named}: nothing changed"
            );
        }
        let absent = Transaction {
            delete_prefixes: vec![good],
            ..Transaction::default()
        };
        let error = client.apply(&absent).await.unwrap_err();
        assert!(error.to_string().contains("2001:db8:200::/64"), "{error}");
        let used = Transaction {
            delete_tunnels: vec![7],
            ..Transaction::default()
        };
        let error = client.apply(&used).await.unwrap_err();
        assert!(
            matches!(error, ClientError::Rejected(_)),
            "a tunnel in use: {error:?}"
        );
        assert_eq!(client.read_state().await.unwrap(), before);
    });
}

/// What a control plane has to know before it sends anything.
#[test]
fn what_becomes_of_inner_ipv4_is_said() {
    for (setting, carries) in [("", false), ("inner_ipv4 = \"carry\"", true)] {
        let daemon = Daemon::start(None, |directory| {
            let text = configuration(directory, "ipv4", None);
            text.replacen("[dataplane]", &format!("[dataplane]\n{setting}"), 1)
        });
        block_on(async {
            let client = daemon.client().await;
            assert_eq!(
                client.read_back().await.unwrap().carries_inner_ipv4,
                Some(carries)
            );
            assert_eq!(client.status().await.unwrap().carries_inner_ipv4, Some(carries));
            let node = PrefixEntry {
                next_hop: NextHop::Hold { maximum_ms: 0 },
                source: None,
            };
            let put = Transaction {
                put_prefixes: vec![("::ffff:203.0.113.7/128".parse().unwrap(), node)],
                ..Transaction::default()
            };
            assert_eq!(client.apply(&put).await.is_ok(), carries);
        });
    }
}

#[test]
fn malformed_messages_are_refused_by_field() {
    let daemon = start("malformed");
    block_on(async {
        use proto::dataplane_client::DataplaneClient;
        let socket = daemon.socket();
        let connector = tower::service_fn(move |_: tonic::transport::Uri| {
            let socket = socket.clone();
            async move {
                tokio::net::UnixStream::connect(socket)
                    .await
                    .map(hyper_util::rt::TokioIo::new)
            }
        });
        let endpoint = tonic::transport::Endpoint::from_static("http://dataplane.invalid");
        let mut raw = DataplaneClient::new(endpoint.connect_with_connector(connector).await.unwrap());
        let message = proto::Transaction {
            put_local_addresses: vec![vec![1, 2, 3]],
            ..Default::default()
        };
        let status = raw.apply(message).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
        assert_eq!(
            status.message(),
            "put_local_addresses[0] = 0x010203: an address is 16 octets, or 4 of IPv4"
        );
    });
}

#[test]
fn status_describes_ports_workers_and_counters() {
    // Here net_null gives packets as fast as they are taken.
    let daemon = Daemon::start(None, |directory| {
        configuration(directory, "status", None).replace(",no-rx=1", "")
    });
    block_on(async {
        let client = daemon.client().await;
        client
            .apply(&Transaction::between(&Tables::default(), &some_tables()))
            .await
            .unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(1300)).await;
        let status = client.status().await.unwrap();
        assert_eq!(
            (status.name.as_str(), status.version.as_str()),
            ("status", env!("CARGO_PKG_VERSION"))
        );
        assert!(status.process_id > 0 && status.uptime_ms > 0 && status.generation > 0);
        let [access, core] = &status.ports[..] else {
            panic!("{:?}", status.ports)
        };
        assert_eq!(
            (access.name.as_str(), access.side.as_str(), access.mtu),
            ("access", "access", 1500)
        );
        assert_eq!(
            access.link_layer_address,
            [0, 0, 0x5e, 0, 0x52, 0x13],
            "the router's, on every access link"
        );
        assert_eq!(
            (core.name.as_str(), core.side.as_str(), core.mtu),
            ("core", "core", 1600)
        );
        assert_eq!(core.link_layer_address, [2, 0, 0, 0, 0, 2]);
        assert!(core.rx_packets > 0, "the device counts");
        let [worker] = &status.workers[..] else {
            panic!("{:?}", status.workers)
        };
        assert!(worker.rx_packets > 0 && worker.bursts > 0 && worker.busy_cycles > 0);
        assert!(worker.load > 0.0 && worker.load <= 1.0, "{}", worker.load);
        // net_null's packets are all zero: addressed to nobody.
        let dropped: u64 = status.drops.iter().map(|drop| drop.packets).sum();
        assert!(dropped > 0, "every one of them is dropped, with a reason");
        assert_eq!(number(&status, "no_route"), 0);
        assert_eq!(number(&status, "transmit_queue_full"), 0);
        assert_eq!(
            status.tunnels.iter().map(|tunnel| tunnel.id).collect::<Vec<_>>(),
            [7]
        );
        assert!(!status.stages.is_empty());
        assert!(status.prefixes.iter().any(|prefix| prefix.length == 64));
    });
}

#[test]
fn a_second_daemon_on_the_same_socket_is_refused() {
    let daemon = start("second");
    let configuration = daemon.directory.path().join("node.toml");
    let output = std::process::Command::new(BINARY)
        .arg("--config")
        .arg(&configuration)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        errors.contains("another data plane answers") && errors.contains("dataplane.sock"),
        "{errors}"
    );
    block_on(async { daemon.client().await.status().await.unwrap() });
}

#[test]
fn after_kill_the_next_one_starts_and_is_empty() {
    let mut daemon = start("killed");
    block_on(async {
        let client = daemon.client().await;
        client
            .apply(&Transaction::between(&Tables::default(), &some_tables()))
            .await
            .unwrap();
    });
    daemon.kill();
    assert!(daemon.socket().exists(), "nobody could remove it");
    let error = block_on(Client::connect(&daemon.socket())).unwrap_err();
    assert!(matches!(error, ClientError::Refused(_)), "{error:?}");
    daemon.restart(None);
    block_on(async {
        let client = daemon.client().await;
        let (_, tables) = client.read_state().await.unwrap();
        assert_eq!(tables, Tables::default());
        client
            .apply(&Transaction::between(&tables, &some_tables()))
            .await
            .unwrap();
    });
}

#[test]
fn filters_meters_and_counters_go_in_and_come_back() {
    let daemon = start("flows");
    block_on(async {
        let client = daemon.client().await;
        let mut want = some_tables();
        let net: Ipv6Net = "2001:db8:100::/64".parse().unwrap();
        let filter = |scope, action| Filter {
            name: String::new(),
            scope,
            priority: 10,
            selector: Selector {
                protocol: Some(6),
                destination_ports: Some(PortRange {
                    first: 443,
                    last: 443,
                }),
                ..Selector::default()
            },
            action,
            idle_timeout: 0,
            lifetime: 0,
            except_tunnel: None,
        };
        want.filters
            .insert(1, filter(Some(net), FilterAction::LocalBreakout));
        // With DPDK's classifier.
        want.filters.insert(2, filter(None, FilterAction::Meter(3)));
        let rates = MeterRates::Rfc2698 {
            cir: 1000,
            cbs: 2000,
            pir: 2000,
            pbs: 4000,
        };
        want.meters.insert(
            3,
            Meter {
                rates,
                colour_aware: false,
                yellow: Yellow::Mark(10),
                fill: None,
            },
        );
        let (_, tables) = client.read_state().await.unwrap();
        let generation = client.apply(&Transaction::between(&tables, &want)).await.unwrap();
        assert_eq!(client.read_state().await.unwrap(), (generation, want));
        let status = client.status().await.unwrap();
        assert_eq!((status.filters.len(), status.meters.len()), (2, 1));

        let key = proto::PrefixKey {
            address: net.network().octets().to_vec(),
            length: 64,
        };
        let ask = |reset| proto::ReadCountersRequest {
            prefixes: vec![key.clone()],
            filters: vec![2],
            reset,
            ..Default::default()
        };
        let carried = proto::PrefixCount {
            address: key.address.clone(),
            length: 64,
            to_packets: 5,
            to_bytes: 500,
            first_unix_ms: 7,
            last_unix_ms: 9,
            ..Default::default()
        };
        client.add_counters(vec![carried.clone()]).await.unwrap();
        let reading = client.read_counters(ask(true)).await.unwrap();
        assert_eq!(reading.prefixes, [carried]);
        assert_eq!(reading.filters.len(), 1);
        let reading = client.read_counters(ask(false)).await.unwrap();
        assert_eq!(
            (reading.prefixes[0].to_packets, reading.prefixes[0].first_unix_ms),
            (0, 0)
        );
        let all = proto::ReadCountersRequest {
            all: true,
            ..Default::default()
        };
        let reading = client.read_counters(all).await.unwrap();
        assert_eq!((reading.prefixes.len(), reading.filters.len()), (1, 2));
        let absent = proto::ReadCountersRequest {
            filters: vec![77],
            reset: true,
            ..Default::default()
        };
        let error = client.read_counters(absent).await.unwrap_err().to_string();
        assert!(error.contains("there is no filter 77"), "{error}");
        let nowhere = proto::PrefixCount {
            address: vec![0; 16],
            length: 64,
            ..Default::default()
        };
        let error = client.add_counters(vec![nowhere]).await.unwrap_err().to_string();
        assert!(error.contains("there is no prefix ::/64 of a node"), "{error}");
    });
}

#[test]
fn it_ends_cleanly_with_watchers_and_idle_clients() {
    let mut daemon = start("ends");
    block_on(async {
        let client = daemon.client().await;
        let mut events = client.events().await.unwrap();
        assert_eq!(daemon.terminate(), Some(0), "{}", daemon.log());
        assert!(!daemon.socket().exists(), "the socket goes with the daemon");
        use tokio_stream::StreamExt;
        if let Some(Ok(event)) = events.next().await {
            panic!("unexpected: {event:?}");
        }
        let error = client.status().await.unwrap_err();
        assert!(matches!(error, ClientError::Lost { .. }), "{error:?}");
    });
}

#[test]
fn what_cannot_be_started_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("node.toml");
    let run = |text: String| {
        std::fs::write(&file, text).unwrap();
        let output = std::process::Command::new(BINARY)
            .arg("--config")
            .arg(&file)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let base = configuration(directory.path(), "cannot", None);
    let errors = run(base.replace("net_null1,no-rx=1", "net_nonsense1"));
    assert!(
        errors.contains("port core") && errors.contains("net_nonsense1"),
        "{errors}"
    );
    let errors = run(base
        .replace("huge_pages = \"never\"", "huge_pages = \"require\"")
        .replace("memory_mib = 64", "memory_mib = 65536"));
    assert!(errors.contains("dataplane.huge_pages = require: "), "{errors}");
    let errors = run(base.replace("workers = [0]", "workers = [4095]"));
    assert!(errors.contains("dataplane.workers: core 4095"), "{errors}");
    let ring = base.replace("net_null1,no-rx=1", "net_ring1");
    let errors = run(ring.replace("side = \"core\"", "side = \"core\"\nqueues = 500"));
    assert!(
        errors.contains("port core: queues = 500: the device has"),
        "{errors}"
    );
    assert!(
        !directory.path().join("dataplane.sock").exists(),
        "nothing stays behind"
    );
    eventually("the directory holds the configuration only", || {
        std::fs::read_dir(directory.path())
            .unwrap()
            .all(|entry| entry.unwrap().file_name() == "node.toml")
    });
}
