//! `kedge charging`.

use std::io::Read;
use std::net::Ipv6Addr;

use ipnet::Ipv6Net;
use kedge_dataplane_api::proto::{CounterReading, PrefixCount, PrefixKey, ReadCountersRequest};
use serde::Deserialize;
use serde_json::{Value, json};

use super::arguments::ChargingCommand;
use super::connect::{Failure, dataplane};
use super::node::Node;
use super::output::Output;
use super::show::address;
use super::table::Table;

pub(super) async fn charging(node: &Node, what: ChargingCommand, output: Output) -> Result<(), Failure> {
    let (prefix, reset) = match what {
        ChargingCommand::Import => return import(node, output).await,
        ChargingCommand::Show { prefix } => (prefix, false),
        ChargingCommand::Reset { prefix } => (Some(prefix), true),
    };
    let request = match prefix {
        None => ReadCountersRequest {
            all: true,
            ..ReadCountersRequest::default()
        },
        Some(prefix) => ReadCountersRequest {
            prefixes: vec![key(&prefix)?],
            reset,
            ..ReadCountersRequest::default()
        },
    };
    let reading = dataplane(node).await?.read_counters(request).await?;
    show(&reading, output)
}

fn key(text: &str) -> Result<PrefixKey, Failure> {
    let prefix: Ipv6Net = text
        .parse()
        .map_err(|_| Failure::Usage(format!("{text}: is no IPv6 prefix")))?;
    Ok(PrefixKey {
        address: prefix.addr().octets().to_vec(),
        length: u32::from(prefix.prefix_len()),
    })
}

fn show(reading: &CounterReading, output: Output) -> Result<(), Failure> {
    let mut table = Table::new(&[
        "OF",
        ">PACKETS TO",
        ">BYTES TO",
        ">PACKETS FROM",
        ">BYTES FROM",
        "FIRST",
        "LAST",
    ]);
    let mut row = |of: String, numbers: [u64; 4], times: [u64; 2]| {
        let [first, last] = times.map(time);
        let [to_packets, to_bytes, from_packets, from_bytes] = numbers.map(|it| it.to_string());
        table.row([of, to_packets, to_bytes, from_packets, from_bytes, first, last]);
    };
    let (mut prefixes, mut filters) = (Vec::<Value>::new(), Vec::<Value>::new());
    for it in &reading.prefixes {
        let prefix = format!("{}/{}", address(&it.address), it.length);
        row(
            prefix.clone(),
            [it.to_packets, it.to_bytes, it.from_packets, it.from_bytes],
            [it.first_unix_ms, it.last_unix_ms],
        );
        prefixes.push(json!({
            "prefix": prefix, "to_packets": it.to_packets, "to_bytes": it.to_bytes,
            "from_packets": it.from_packets, "from_bytes": it.from_bytes,
            "first_unix_ms": it.first_unix_ms, "last_unix_ms": it.last_unix_ms,
        }));
    }
    for it in &reading.filters {
        row(
            format!("filter {}", it.id),
            [
                it.to_node_packets,
                it.to_node_bytes,
                it.from_node_packets,
                it.from_node_bytes,
            ],
            [it.first_unix_ms, it.last_unix_ms],
        );
        filters.push(json!({
            "id": it.id, "to_node_packets": it.to_node_packets, "to_node_bytes": it.to_node_bytes,
            "from_node_packets": it.from_node_packets, "from_node_bytes": it.from_node_bytes,
            "first_unix_ms": it.first_unix_ms, "last_unix_ms": it.last_unix_ms,
        }));
    }
    output.table(
        &table,
        "nothing is counted",
        &json!({"prefixes": prefixes, "filters": filters}),
    )
}

/// UTC, to the second.
fn time(unix_ms: u64) -> String {
    if unix_ms == 0 {
        return String::new();
    }
    let (days, seconds) = (unix_ms / 86_400_000, unix_ms / 1000 % 86_400);
    // Days to a date, as Howard Hinnant's civil_from_days has it: years begin in March.
    let shifted = days + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let date = of_year - (153 * month + 2) / 5 + 1;
    let calendar = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + u64::from(calendar <= 2);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{calendar:02}-{date:02} {hours:02}:{minutes:02}:{seconds:02}Z")
}

/// What `kedge --json charging` prints.
#[derive(Deserialize)]
struct Exported {
    prefixes: Vec<ExportedPrefix>,
}

#[derive(Deserialize)]
struct ExportedPrefix {
    prefix: Ipv6Net,
    to_packets: u64,
    to_bytes: u64,
    from_packets: u64,
    from_bytes: u64,
    first_unix_ms: u64,
    last_unix_ms: u64,
}

async fn import(node: &Node, output: Output) -> Result<(), Failure> {
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .map_err(|error| Failure::Usage(format!("the standard input cannot be read: {error}")))?;
    let exported: Exported = serde_json::from_str(&text)
        .map_err(|error| Failure::Usage(format!("the standard input is no such reading: {error}")))?;
    let counts: Vec<PrefixCount> = exported
        .prefixes
        .into_iter()
        .map(|it| PrefixCount {
            address: Ipv6Addr::octets(&it.prefix.addr()).to_vec(),
            length: u32::from(it.prefix.prefix_len()),
            to_packets: it.to_packets,
            to_bytes: it.to_bytes,
            from_packets: it.from_packets,
            from_bytes: it.from_bytes,
            first_unix_ms: it.first_unix_ms,
            last_unix_ms: it.last_unix_ms,
        })
        .collect();
    let count = counts.len();
    dataplane(node).await?.add_counters(counts).await?;
    if output.is_json() {
        return output.value(&json!({"prefixes": count}));
    }
    output.text(&format!("counters of {count} prefixes are added\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_of_the_calendar() {
        assert_eq!(time(0), "");
        assert_eq!(time(1000), "1970-01-01 00:00:01Z");
        assert_eq!(time(951_782_400_000), "2000-02-29 00:00:00Z");
        assert_eq!(time(1_767_225_599_000), "2025-12-31 23:59:59Z");
    }
}
