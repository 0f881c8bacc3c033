//! What the running daemon serves to Prometheus. No root needed.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "a test")]

mod shell_support;

use std::collections::BTreeMap;
use std::path::Path;

use kedge_dataplane_api::model::{Tables, Transaction};
use shell_support::api::{configuration, some_tables};
use shell_support::{Daemon, block_on, free_address, http_get};

/// Prometheus' text format, strictly: name, labels, value.
fn parse(text: &str) -> BTreeMap<String, f64> {
    let mut kinds = BTreeMap::new();
    let mut values = BTreeMap::new();
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.split(' ');
            if words.next() == Some("TYPE") {
                kinds.insert(words.next().unwrap().to_owned(), words.next().unwrap().to_owned());
            }
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        let name = series.split('{').next().unwrap();
        assert!(
            name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_'),
            "{line}"
        );
        assert!(name.starts_with("kedge_dataplane_"), "{line}");
        let kind = kinds
            .get(name)
            .unwrap_or_else(|| panic!("{name} has no TYPE before it"));
        assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
        if let Some((_, labels)) = series.split_once('{') {
            let labels = labels.strip_suffix('}').unwrap();
            for label in labels.split(',') {
                let (_, quoted) = label.split_once('=').unwrap();
                assert!(quoted.starts_with('"') && quoted.ends_with('"'), "{line}");
            }
        }
        let before = values.insert(series.to_owned(), value.parse::<f64>().unwrap());
        assert_eq!(before, None, "{series} twice");
    }
    values
}

#[test]
fn metrics_are_prometheus_text() {
    let address = free_address();
    let text = |directory: &Path| configuration(directory, "metrics", Some(address)).replace(",no-rx=1", "");
    let daemon = Daemon::start(None, text);
    block_on(async {
        let client = daemon.client().await;
        let nothing = Transaction {
            delete_tunnels: vec![5],
            ..Transaction::default()
        };
        client.apply(&nothing).await.unwrap_err();
        client
            .apply(&Transaction::between(&Tables::default(), &some_tables()))
            .await
            .unwrap();
    });
    let (head, body) = http_get(address, "/metrics");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(
        head.to_lowercase()
            .contains("content-type: text/plain; version=0.0.4"),
        "{head}"
    );
    let values = parse(&body);
    let value = |series: &str| {
        *values
            .get(series)
            .unwrap_or_else(|| panic!("no {series} in:\n{body}"))
    };
    assert_eq!(value("kedge_dataplane_table_entries{table=\"prefixes\"}"), 3.0);
    assert_eq!(value("kedge_dataplane_table_entries{table=\"tunnels\"}"), 1.0);
    assert_eq!(
        value("kedge_dataplane_transactions_total{result=\"applied\"}"),
        1.0
    );
    assert_eq!(
        value("kedge_dataplane_transactions_total{result=\"refused\"}"),
        1.0
    );
    assert_eq!(value("kedge_dataplane_held_packets"), 0.0);
    assert_eq!(value("kedge_dataplane_drops_total{reason=\"no_route\"}"), 0.0);
    assert_eq!(value("kedge_dataplane_mempool_size"), 4096.0);
    assert!(value("kedge_dataplane_worker_bursts_total{core=\"0\",worker=\"0\"}") > 0.0);
    assert!(value("kedge_dataplane_port_receive_packets_total{port=\"core\"}") > 0.0);
    assert!(
        values
            .keys()
            .any(|series| series.starts_with("kedge_dataplane_stage_packets_total{stage="))
    );
    let (head, _) = http_get(address, "/");
    assert!(head.starts_with("HTTP/1.1 404"), "{head}");
    drop(daemon);
}
