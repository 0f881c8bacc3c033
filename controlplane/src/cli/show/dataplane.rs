//! What the data plane holds and counts.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use ipnet::Ipv6Net;
use kedge_dataplane_api::model::{
    DiscardReason, Encapsulation, NextHop, PduSession, PrefixEntry, Sender, SourcePath,
};
use serde_json::{Value, json};

use super::{address, hexadecimal};
use crate::cli::connect::{Failure, dataplane};
use crate::cli::node::Node;
use crate::cli::output::Output;
use crate::cli::table::Table;

pub(super) async fn tunnels(node: &Node, output: Output) -> Result<(), Failure> {
    let client = dataplane(node).await?;
    let ((_, tables), status) = (client.read_state().await?, client.status().await?);
    let counts: BTreeMap<_, _> = status.tunnels.iter().map(|count| (count.id, count)).collect();
    let mut table = Table::new(&[
        ">ID",
        "TYPE",
        "LOCAL",
        ">TEID/KEY",
        "REMOTE",
        ">TEID/KEY",
        "QFI",
        ">HOP LIMIT",
        ">MTU",
        ">IN FORCE",
        ">ENCAPSULATED",
        ">BYTES",
        ">DECAPSULATED",
        ">BYTES",
    ]);
    let mut values = Vec::new();
    for (id, tunnel) in &tables.tunnels {
        let count = counts.get(id).copied().copied().unwrap_or_default();
        let (gtpu, gre) = match tunnel.encapsulation {
            Encapsulation::Ipv6InIpv6 => (None, None),
            Encapsulation::GtpU(it) => (Some(it), None),
            Encapsulation::Gre(it) => (None, Some(it)),
        };
        let key = |teid: Option<NonZeroU32>, key: Option<Option<u32>>| {
            let number = teid.map(NonZeroU32::get).or(key.flatten());
            number.map_or_else(String::new, |number| format!("{number:#010x}"))
        };
        table.row([
            id.to_string(),
            tunnel.encapsulation.name().to_owned(),
            tunnel.local.to_canonical().to_string(),
            key(gtpu.map(|it| it.local_teid), gre.map(|it| it.local_key)),
            tunnel.remote.to_canonical().to_string(),
            key(gtpu.map(|it| it.remote_teid), gre.map(|it| it.remote_key)),
            gtpu.and_then(|it| it.pdu_session)
                .map_or_else(String::new, |it| format!("{} {}", it.qfi, pdu_type(it))),
            tunnel.hop_limit.to_string(),
            if tunnel.mtu == 0 {
                "port's".to_owned()
            } else {
                tunnel.mtu.to_string()
            },
            count.mtu.to_string(),
            count.encapsulated_packets.to_string(),
            count.encapsulated_bytes.to_string(),
            count.decapsulated_packets.to_string(),
            count.decapsulated_bytes.to_string(),
        ]);
        values.push(json!({
            "id": id,
            "type": tunnel.encapsulation.name(),
            "local": tunnel.local.to_canonical(),
            "local_teid": gtpu.map(|it| it.local_teid),
            "remote": tunnel.remote.to_canonical(),
            "remote_teid": gtpu.map(|it| it.remote_teid),
            "qfi": gtpu.map(|it| it.pdu_session.map(|session| session.qfi)),
            "pdu_type": gtpu.map(|it| it.pdu_session.map(pdu_type)),
            "sequence_numbers": gtpu.map(|it| it.sequence_numbers),
            "local_key": gre.map(|it| it.local_key),
            "remote_key": gre.map(|it| it.remote_key),
            "hop_limit": tunnel.hop_limit,
            "mtu": tunnel.mtu,
            "mtu_in_force": count.mtu,
            "encapsulated_packets": count.encapsulated_packets,
            "encapsulated_bytes": count.encapsulated_bytes,
            "decapsulated_packets": count.decapsulated_packets,
            "decapsulated_bytes": count.decapsulated_bytes,
        }));
    }
    output.table(&table, "no tunnels", &values.into())
}

/// As in the file.
fn pdu_type(session: PduSession) -> &'static str {
    if session.uplink { "uplink" } else { "downlink" }
}

pub(super) async fn prefixes(node: &Node, output: Output) -> Result<(), Failure> {
    let client = dataplane(node).await?;
    let ((_, tables), status) = (client.read_state().await?, client.status().await?);
    let counts: BTreeMap<_, _> = status
        .prefixes
        .iter()
        .map(|count| (prefix_text(&count.address, count.length), count))
        .collect();
    let mut table = Table::new(&[
        "PREFIX",
        "NEXT HOP",
        "SOURCE",
        ">PACKETS TO",
        ">BYTES TO",
        ">PACKETS FROM",
        ">BYTES FROM",
    ]);
    let mut values = Vec::new();
    for (prefix, entry) in &tables.prefixes {
        let count = counts.get(&kedge_config::shown(*prefix).to_string());
        let shown = |value: Option<u64>| value.map_or_else(String::new, |value| value.to_string());
        table.row([
            kedge_config::shown(*prefix).to_string(),
            next_hop_text(&entry.next_hop),
            source_text(entry),
            shown(count.map(|count| count.to_packets)),
            shown(count.map(|count| count.to_bytes)),
            shown(count.map(|count| count.from_packets)),
            shown(count.map(|count| count.from_bytes)),
        ]);
        let source = entry.source.as_ref().map(|source| {
            let (port, link_layer_address, from_tunnel) = match &source.sender {
                Sender::Node {
                    port,
                    link_layer_address,
                } => (
                    json!(port),
                    json!(hexadecimal(link_layer_address, ":")),
                    Value::Null,
                ),
                Sender::Tunnel(id) => (Value::Null, Value::Null, json!(id)),
            };
            json!({
                "port": port,
                "link_layer_address": link_layer_address,
                "from_tunnel": from_tunnel,
                "tunnel": match source.path { SourcePath::Native => Value::Null, SourcePath::Tunnel(id) => json!(id) },
            })
        });
        values.push(json!({
            "prefix": kedge_config::shown(*prefix),
            "next_hop": next_hop_value(&entry.next_hop),
            "source": source,
            "to_packets": count.map_or(0, |count| count.to_packets),
            "to_bytes": count.map_or(0, |count| count.to_bytes),
            "from_packets": count.map_or(0, |count| count.from_packets),
            "from_bytes": count.map_or(0, |count| count.from_bytes),
        }));
    }
    output.table(&table, "no prefixes", &values.into())
}

/// A prefix as people write it; one of IPv4 may come in its IPv4-mapped form.
fn prefix_text(octets: &[u8], length: u32) -> String {
    let octets_and_length = <[u8; 16]>::try_from(octets).ok().zip(u8::try_from(length).ok());
    let net = octets_and_length.and_then(|(octets, length)| Ipv6Net::new(octets.into(), length).ok());
    net.map_or_else(
        || format!("{}/{length}", address(octets)),
        |net| kedge_config::shown(net).to_string(),
    )
}

fn discard(reason: DiscardReason) -> &'static str {
    match reason {
        DiscardReason::NodeAbsent => "node_absent",
        DiscardReason::Unallocated => "unallocated",
        DiscardReason::Prohibited => "prohibited",
    }
}

fn next_hop_text(next_hop: &NextHop) -> String {
    match next_hop {
        NextHop::Deliver {
            port,
            link_layer_address,
        } => format!("deliver on {port} to {}", hexadecimal(link_layer_address, ":")),
        NextHop::Tunnel(id) => format!("tunnel {id}"),
        NextHop::Gateway { port, address } => format!("gateway {} on {port}", address.to_canonical()),
        NextHop::OnLink { port } => format!("on-link {port}"),
        NextHop::After { tunnel, then, .. } => format!("{}, after tunnel {tunnel}", next_hop_text(then)),
        NextHop::Hold { maximum_ms: 0 } => "hold".to_owned(),
        NextHop::Hold { maximum_ms } => format!("hold for {maximum_ms} ms"),
        NextHop::Discard(reason) => format!("discard {}", discard(*reason)),
    }
}

/// Always the same keys; those that do not apply are null.
fn next_hop_value(next_hop: &NextHop) -> Value {
    let value = |kind: &str,
                 port: Option<&str>,
                 address: Option<String>,
                 tunnel: Option<u32>,
                 reason: Option<&str>| {
        json!({"kind": kind, "port": port, "address": address, "tunnel": tunnel, "reason": reason})
    };
    match next_hop {
        NextHop::Deliver {
            port,
            link_layer_address,
        } => value(
            "deliver",
            Some(port),
            Some(hexadecimal(link_layer_address, ":")),
            None,
            None,
        ),
        NextHop::Tunnel(id) => value("tunnel", None, None, Some(*id), None),
        NextHop::Gateway { port, address } => value(
            "gateway",
            Some(port),
            Some(address.to_canonical().to_string()),
            None,
            None,
        ),
        NextHop::OnLink { port } => value("on_link", Some(port), None, None, None),
        NextHop::After { then, .. } => next_hop_value(then),
        NextHop::Hold { .. } => value("hold", None, None, None, None),
        NextHop::Discard(reason) => value("discard", None, None, None, Some(discard(*reason))),
    }
}

fn source_text(entry: &PrefixEntry) -> String {
    entry.source.as_ref().map_or_else(String::new, |source| {
        let path = match source.path {
            SourcePath::Native => "native".to_owned(),
            SourcePath::Tunnel(id) => format!("tunnel {id}"),
        };
        match &source.sender {
            Sender::Node { port, .. } => format!("{path} from {port}"),
            Sender::Tunnel(id) => format!("{path} from tunnel {id}"),
        }
    })
}

pub(super) async fn ports(node: &Node, output: Output) -> Result<(), Failure> {
    let status = dataplane(node).await?.status().await?;
    let mut table = Table::new(&[
        "PORT",
        "SIDE",
        "LINK",
        "DEVICE",
        "EXCEPTION",
        "LINK-LAYER ADDRESS",
        ">MTU",
        ">VLAN",
        ">QUEUES",
        ">RX PACKETS",
        ">TX PACKETS",
        ">RX MISSED",
        ">RX ERRORS",
        ">TX ERRORS",
    ]);
    let mut values = Vec::new();
    for port in &status.ports {
        table.row([
            port.name.clone(),
            port.side.clone(),
            if port.link_up { "up" } else { "down" }.to_owned(),
            port.device.clone(),
            port.exception_interface.clone(),
            hexadecimal(&port.link_layer_address, ":"),
            port.mtu.to_string(),
            if port.vlan == 0 {
                String::new()
            } else {
                port.vlan.to_string()
            },
            port.queues.to_string(),
            port.rx_packets.to_string(),
            port.tx_packets.to_string(),
            port.rx_missed.to_string(),
            port.rx_errors.to_string(),
            port.tx_errors.to_string(),
        ]);
        values.push(json!({
            "name": port.name,
            "side": port.side,
            "device": port.device,
            "exception_interface": port.exception_interface,
            "link_layer_address": hexadecimal(&port.link_layer_address, ":"),
            "mtu": port.mtu,
            "vlan": port.vlan,
            "link_up": port.link_up,
            "queues": port.queues,
            "rx_packets": port.rx_packets,
            "rx_bytes": port.rx_bytes,
            "tx_packets": port.tx_packets,
            "tx_bytes": port.tx_bytes,
            "rx_missed": port.rx_missed,
            "rx_errors": port.rx_errors,
            "tx_errors": port.tx_errors,
            "rx_no_buffer": port.rx_no_buffer,
        }));
    }
    output.table(&table, "no ports", &values.into())
}

pub(super) async fn drops(node: &Node, output: Output) -> Result<(), Failure> {
    let status = dataplane(node).await?.status().await?;
    let mut table = Table::new(&["REASON", ">PACKETS"]);
    // People look for what does happen; programs get every reason.
    for drop in status.drops.iter().filter(|drop| drop.packets > 0) {
        table.row([drop.reason.clone(), drop.packets.to_string()]);
    }
    let values: serde_json::Map<_, _> = status
        .drops
        .iter()
        .map(|drop| (drop.reason.clone(), json!(drop.packets)))
        .collect();
    output.table(&table, "nothing was dropped", &values.into())
}

pub(super) async fn stages(node: &Node, output: Output) -> Result<(), Failure> {
    let status = dataplane(node).await?.status().await?;
    let mut table = Table::new(&["STAGE", ">PACKETS"]);
    for stage in status.stages.iter().filter(|stage| stage.packets > 0) {
        table.row([stage.stage.clone(), stage.packets.to_string()]);
    }
    let values: serde_json::Map<_, _> = status
        .stages
        .iter()
        .map(|stage| (stage.stage.clone(), json!(stage.packets)))
        .collect();
    output.table(&table, "no packets yet", &values.into())
}

pub(super) async fn workers(node: &Node, output: Output) -> Result<(), Failure> {
    let status = dataplane(node).await?.status().await?;
    let mut table = Table::new(&[
        ">WORKER",
        ">CORE",
        ">LOAD",
        ">RX PACKETS",
        ">TX PACKETS",
        ">HANDED OVER",
        ">TAKEN OVER",
        ">BURSTS",
        ">EMPTY POLLS",
        ">SLEEPS",
    ]);
    let mut values = Vec::new();
    for worker in &status.workers {
        table.row([
            worker.index.to_string(),
            worker.core.to_string(),
            format!("{:.1} %", worker.load * 100.0),
            worker.rx_packets.to_string(),
            worker.tx_packets.to_string(),
            worker.handed_over_packets.to_string(),
            worker.taken_over_packets.to_string(),
            worker.bursts.to_string(),
            worker.empty_polls.to_string(),
            worker.sleeps.to_string(),
        ]);
        values.push(json!({
            "index": worker.index,
            "core": worker.core,
            "load": worker.load,
            "rx_packets": worker.rx_packets,
            "tx_packets": worker.tx_packets,
            "handed_over_packets": worker.handed_over_packets,
            "taken_over_packets": worker.taken_over_packets,
            "bursts": worker.bursts,
            "empty_polls": worker.empty_polls,
            "busy_cycles": worker.busy_cycles,
            "idle_cycles": worker.idle_cycles,
            "sleeps": worker.sleeps,
        }));
    }
    output.table(&table, "no workers", &values.into())
}
