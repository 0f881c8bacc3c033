//! Readings in Prometheus' text form.
//!
//! Nothing in a worker knows of this: a scrape reads the workers' counters.

mod http;

use std::net::Ipv6Addr;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

use crate::readings::Readings;

pub use http::MetricsError;
pub(crate) use http::{bind, serve};

/// Asks `read` at every scrape.
pub(crate) struct ReadingsCollector<R> {
    read: R,
    descriptions: Vec<Desc>,
}

impl<R: Fn() -> Readings> ReadingsCollector<R> {
    pub(crate) fn new(read: R) -> prometheus::Result<Self> {
        // What an empty reading has are the names that this collector claims.
        let descriptions = all_families(&Readings::default())
            .into_iter()
            .map(|family| {
                Desc::new(
                    family.name().to_owned(),
                    family.help().to_owned(),
                    vec![],
                    Default::default(),
                )
            })
            .collect::<prometheus::Result<_>>()?;
        Ok(Self { read, descriptions })
    }
}

impl<R: Fn() -> Readings + Send + Sync> Collector for ReadingsCollector<R> {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        all_families(&(self.read)())
    }
}

fn all_families(readings: &Readings) -> Vec<MetricFamily> {
    let mut families = ports(readings);
    families.extend(workers(readings));
    families.extend(tables(readings));
    families
}

fn ports(readings: &Readings) -> Vec<MetricFamily> {
    type Value = fn(&kedge_dataplane_api::proto::PortStatus) -> u64;
    const COUNTERS: [(&str, &str, Value); 8] = [
        (
            "port_receive_packets_total",
            "Packets that the device has received.",
            |port| port.rx_packets,
        ),
        (
            "port_receive_bytes_total",
            "Octets that the device has received.",
            |port| port.rx_bytes,
        ),
        (
            "port_transmit_packets_total",
            "Packets that the device has sent.",
            |port| port.tx_packets,
        ),
        (
            "port_transmit_bytes_total",
            "Octets that the device has sent.",
            |port| port.tx_bytes,
        ),
        (
            "port_receive_missed_total",
            "Packets that found no free receive descriptor.",
            |port| port.rx_missed,
        ),
        (
            "port_receive_errors_total",
            "Packets received with errors.",
            |port| port.rx_errors,
        ),
        (
            "port_transmit_errors_total",
            "Packets that could not be sent.",
            |port| port.tx_errors,
        ),
        (
            "port_receive_no_buffer_total",
            "Packets that found no free buffer.",
            |port| port.rx_no_buffer,
        ),
    ];
    let status = &readings.status;
    let mut families: Vec<MetricFamily> = COUNTERS
        .iter()
        .map(|(name, help, value)| {
            let metrics = status
                .ports
                .iter()
                .map(|port| counter(&[("port", &port.name)], value(port)));
            family(name, help, MetricType::COUNTER, metrics.collect())
        })
        .collect();
    let up = status
        .ports
        .iter()
        .map(|port| gauge(&[("port", &port.name)], f64::from(u8::from(port.link_up))));
    families.push(family(
        "port_link_up",
        "Whether the port's link is up.",
        MetricType::GAUGE,
        up.collect(),
    ));
    families
}

fn workers(readings: &Readings) -> Vec<MetricFamily> {
    type Value = fn(&kedge_dataplane_api::proto::WorkerStatus) -> u64;
    const COUNTERS: [(&str, &str, Value); 9] = [
        (
            "worker_receive_packets_total",
            "Packets that the worker has received.",
            |worker| worker.rx_packets,
        ),
        (
            "worker_transmit_packets_total",
            "Packets that the worker has sent.",
            |worker| worker.tx_packets,
        ),
        (
            "worker_handed_over_packets_total",
            "Tunnelled packets that the worker has received and given to another worker.",
            |worker| worker.handed_over_packets,
        ),
        (
            "worker_taken_over_packets_total",
            "Tunnelled packets that the worker has been given by another worker.",
            |worker| worker.taken_over_packets,
        ),
        (
            "worker_bursts_total",
            "Polls of a queue that gave packets.",
            |worker| worker.bursts,
        ),
        (
            "worker_empty_polls_total",
            "Polls of a queue that gave none.",
            |worker| worker.empty_polls,
        ),
        (
            "worker_sleeps_total",
            "Times that the worker slept for want of packets.",
            |worker| worker.sleeps,
        ),
        (
            "worker_busy_cycles_total",
            "Processor cycles spent on packets.",
            |worker| worker.busy_cycles,
        ),
        (
            "worker_idle_cycles_total",
            "Processor cycles spent waiting for packets.",
            |worker| worker.idle_cycles,
        ),
    ];
    let status = &readings.status;
    let labels: Vec<(String, String)> = status
        .workers
        .iter()
        .map(|worker| (worker.index.to_string(), worker.core.to_string()))
        .collect();
    let named = || {
        status
            .workers
            .iter()
            .zip(&labels)
            .map(|(status, (worker, core))| (status, [("worker", worker.as_str()), ("core", core.as_str())]))
    };
    let mut families: Vec<MetricFamily> = COUNTERS
        .iter()
        .map(|(name, help, value)| {
            let metrics = named().map(|(worker, labels)| counter(&labels, value(worker)));
            family(name, help, MetricType::COUNTER, metrics.collect())
        })
        .collect();
    let load = named()
        .map(|(worker, labels)| gauge(&labels, worker.load))
        .collect();
    families.push(family(
        "worker_load_ratio",
        "Share of the last second spent on packets.",
        MetricType::GAUGE,
        load,
    ));
    families
}

fn tables(readings: &Readings) -> Vec<MetricFamily> {
    use MetricType::{COUNTER, GAUGE};
    let status = &readings.status;
    let drops = status
        .drops
        .iter()
        .map(|drop| counter(&[("reason", &drop.reason)], drop.packets))
        .collect();
    let stages = status
        .stages
        .iter()
        .map(|stage| counter(&[("stage", &stage.stage)], stage.packets))
        .collect();
    let entries = readings
        .entries
        .iter()
        .map(|(table, count)| gauge(&[("table", table)], *count as f64))
        .collect();
    let limits = readings
        .limits
        .iter()
        .map(|(table, count)| gauge(&[("table", table)], *count as f64))
        .collect();
    let transactions = readings
        .transactions
        .iter()
        .map(|(result, count)| counter(&[("result", result)], *count))
        .collect();
    let events = readings
        .events
        .iter()
        .map(|(kind, count)| counter(&[("kind", kind)], *count))
        .collect();
    let paths = status
        .paths
        .iter()
        .filter(|path| path.learned_for_ms.is_some())
        .filter_map(|path| {
            let remote = Ipv6Addr::from(<[u8; 16]>::try_from(path.remote.as_slice()).ok()?);
            Some(gauge(
                &[("peer", &remote.to_canonical().to_string())],
                f64::from(path.mtu),
            ))
        })
        .collect();
    let one = |value: f64| vec![gauge(&[], value)];
    let on_hold = |which: fn(&kedge_dataplane_api::proto::HoldStatus) -> bool| {
        let holds = status.holds.iter();
        holds.filter(|hold| !hold.expired && which(hold)).count() as f64
    };
    let build = vec![gauge(&[("version", &status.version)], 1.0)];
    vec![
        family("drops_total", "Packets dropped, by reason.", COUNTER, drops),
        family(
            "stage_packets_total",
            "Packets that a stage has finished with.",
            COUNTER,
            stages,
        ),
        family(
            "path_mtu_bytes",
            "Largest packet on the path to a peer, where a router said that it is less than the port's.",
            GAUGE,
            paths,
        ),
        family("table_entries", "Entries in each table.", GAUGE, entries),
        family(
            "transactions_total",
            "Transactions, by result.",
            COUNTER,
            transactions,
        ),
        family(
            "events_total",
            "Events, by kind; overflow counts the events lost.",
            COUNTER,
            events,
        ),
        family(
            "snapshot_generation",
            "Generation that the workers read.",
            GAUGE,
            one(status.generation as f64),
        ),
        family(
            "snapshot_age_seconds",
            "Time since that generation was published.",
            GAUGE,
            one(status.generation_age_ms as f64 / 1000.0),
        ),
        family(
            "forwarding_table_bytes",
            "Memory of the forwarding table that workers read.",
            GAUGE,
            one(readings.forwarding_table_octets as f64),
        ),
        family(
            "table_limit",
            "Most entries that a table takes; a transaction beyond it is refused.",
            GAUGE,
            limits,
        ),
        family(
            "retired_snapshots",
            "Snapshots replaced but not freed, as a worker may still read them.",
            GAUGE,
            one(readings.retired_snapshots as f64),
        ),
        family(
            "held_packets",
            "Packets held for a node that moves.",
            GAUGE,
            one(status.held_packets as f64),
        ),
        family(
            "held_bytes",
            "Their octets.",
            GAUGE,
            one(status.held_bytes as f64),
        ),
        family(
            "prefixes_on_hold",
            "Prefixes whose packets wait for a node that moves.",
            GAUGE,
            one(on_hold(|hold| hold.filter == 0)),
        ),
        family(
            "filters_on_hold",
            "Filters whose flows wait.",
            GAUGE,
            one(on_hold(|hold| hold.filter != 0)),
        ),
        family(
            "mempool_size",
            "Packet buffers.",
            GAUGE,
            one(f64::from(readings.buffers)),
        ),
        family(
            "mempool_in_use",
            "Packet buffers in use.",
            GAUGE,
            one(f64::from(readings.buffers_in_use)),
        ),
        family(
            "uptime_seconds",
            "Time since the start.",
            GAUGE,
            one(status.uptime_ms as f64 / 1000.0),
        ),
        family("build_info", "Always 1; the version is a label.", GAUGE, build),
    ]
}

fn family(name: &str, help: &str, kind: MetricType, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(format!("kedge_dataplane_{name}"));
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}

fn labels(pairs: &[(&str, &str)]) -> Vec<LabelPair> {
    let mut labels: Vec<LabelPair> = pairs
        .iter()
        .map(|(name, value)| {
            let mut label = LabelPair::default();
            label.set_name((*name).to_owned());
            label.set_value((*value).to_owned());
            label
        })
        .collect();
    labels.sort_by(|left, right| left.name().cmp(right.name()));
    labels
}

fn counter(pairs: &[(&str, &str)], value: u64) -> Metric {
    let mut counter = Counter::default();
    counter.set_value(value as f64);
    let mut metric = Metric::from_label(labels(pairs));
    metric.set_counter(counter);
    metric
}

fn gauge(pairs: &[(&str, &str)], value: f64) -> Metric {
    let mut gauge = Gauge::default();
    gauge.set_value(value);
    let mut metric = Metric::from_label(labels(pairs));
    metric.set_gauge(gauge);
    metric
}

#[cfg(test)]
mod tests {
    use super::*;
    use kedge_dataplane_api::proto;
    use prometheus::{Encoder, Registry, TextEncoder};

    fn scrape(readings: &Readings) -> String {
        let registry = Registry::new();
        let readings = readings.clone();
        registry
            .register(Box::new(
                ReadingsCollector::new(move || readings.clone()).unwrap(),
            ))
            .unwrap();
        let mut text = Vec::new();
        TextEncoder::new().encode(&registry.gather(), &mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn values_come_out_with_their_labels() {
        let status = proto::Status {
            version: "1.2.3".into(),
            generation: 7,
            generation_age_ms: 2500,
            ports: vec![proto::PortStatus {
                name: "core".into(),
                rx_packets: 11,
                tx_errors: 3,
                link_up: true,
                ..Default::default()
            }],
            workers: vec![proto::WorkerStatus {
                index: 1,
                core: 5,
                busy_cycles: 99,
                handed_over_packets: 12,
                taken_over_packets: 13,
                load: 0.25,
                ..Default::default()
            }],
            drops: vec![proto::DropCount {
                reason: "no_route".into(),
                packets: 4,
            }],
            paths: [None, Some(5000)]
                .into_iter()
                .map(|learned_for_ms| proto::PathStatus {
                    remote: Ipv6Addr::LOCALHOST.octets().to_vec(),
                    mtu: 1400,
                    learned_for_ms,
                })
                .collect(),
            stages: vec![proto::StageCount {
                stage: "lookup".into(),
                packets: 8,
            }],
            ..Default::default()
        };
        let readings = Readings {
            status,
            entries: vec![("prefixes", 6)],
            transactions: vec![("refused", 1)],
            events: vec![("overflow", 2)],
            buffers: 8192,
            buffers_in_use: 512,
            retired_snapshots: 1,
            limits: vec![("prefixes", 100)],
            forwarding_table_octets: 8192,
        };
        let text = scrape(&readings);
        for line in [
            "kedge_dataplane_port_receive_packets_total{port=\"core\"} 11",
            "kedge_dataplane_port_transmit_errors_total{port=\"core\"} 3",
            "kedge_dataplane_port_link_up{port=\"core\"} 1",
            "kedge_dataplane_worker_busy_cycles_total{core=\"5\",worker=\"1\"} 99",
            "kedge_dataplane_worker_handed_over_packets_total{core=\"5\",worker=\"1\"} 12",
            "kedge_dataplane_worker_taken_over_packets_total{core=\"5\",worker=\"1\"} 13",
            "kedge_dataplane_worker_load_ratio{core=\"5\",worker=\"1\"} 0.25",
            "kedge_dataplane_drops_total{reason=\"no_route\"} 4",
            "kedge_dataplane_stage_packets_total{stage=\"lookup\"} 8",
            "kedge_dataplane_path_mtu_bytes{peer=\"::1\"} 1400",
            "kedge_dataplane_table_entries{table=\"prefixes\"} 6",
            "kedge_dataplane_table_limit{table=\"prefixes\"} 100",
            "kedge_dataplane_forwarding_table_bytes 8192",
            "kedge_dataplane_transactions_total{result=\"refused\"} 1",
            "kedge_dataplane_events_total{kind=\"overflow\"} 2",
            "kedge_dataplane_snapshot_generation 7",
            "kedge_dataplane_snapshot_age_seconds 2.5",
            "kedge_dataplane_retired_snapshots 1",
            "kedge_dataplane_held_packets 0",
            "kedge_dataplane_mempool_size 8192",
            "kedge_dataplane_mempool_in_use 512",
            "kedge_dataplane_build_info{version=\"1.2.3\"} 1",
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "no line {line:?} in:\n{text}"
            );
        }
    }
}
