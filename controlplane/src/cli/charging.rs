//! `kedge charging`.

use std::collections::BTreeSet;
use std::io::Read;
use std::net::Ipv6Addr;

use ipnet::Ipv6Net;
use kedge_dataplane_api::proto::{Colours, CounterReading, PrefixCount, PrefixKey, ReadCountersRequest};
use serde::Deserialize;
use serde_json::{Value, json};

use super::arguments::ChargingCommand;
use super::connect::{Failure, controlplane, dataplane};
use super::node::Node;
use super::output::Output;
use super::show::address;
use super::table::Table;
use crate::northbound::proto::{ReadUsageRequest, Usage, UsageList};

pub(super) async fn charging(node: &Node, what: ChargingCommand, output: Output) -> Result<(), Failure> {
    let (prefix, reset) = match what {
        ChargingCommand::Import => return import(node, output).await,
        ChargingCommand::Show { prefix } => (prefix, false),
        ChargingCommand::Reset { prefix } => (Some(prefix), true),
    };
    let request = ReadUsageRequest {
        prefix: prefix.clone().unwrap_or_default(),
        reset,
    };
    match controlplane(node).await {
        Ok(mut client) => {
            let mut rows = rows(client.read_usage(request).await?.into_inner());
            if prefix.is_none() {
                rows.extend(of_the_domain(node, &rows).await);
            }
            show(&rows, output)
        }
        // The data plane goes on alone: it knows what it has counted itself.
        Err(_) => {
            let reading = dataplane(node).await?.read_counters(only(prefix, reset)?).await?;
            show(&rows_of_dataplane(&reading), output)
        }
    }
}

/// Filters that are of no prefix: only the data plane counts for them.
async fn of_the_domain(node: &Node, known: &[Row]) -> Vec<Row> {
    let Ok(client) = dataplane(node).await else {
        return Vec::new();
    };
    let request = ReadCountersRequest {
        all: true,
        ..ReadCountersRequest::default()
    };
    let reading = client.read_counters(request).await.unwrap_or_default();
    let known: BTreeSet<u64> = known.iter().map(|it| it.usage.filter_id).collect();
    let rows = rows_of_dataplane(&reading).into_iter();
    rows.filter(|it| it.is_filter && !known.contains(&it.usage.filter_id))
        .collect()
}

fn only(prefix: Option<String>, reset: bool) -> Result<ReadCountersRequest, Failure> {
    Ok(match prefix {
        None => ReadCountersRequest {
            all: true,
            ..ReadCountersRequest::default()
        },
        Some(prefix) => ReadCountersRequest {
            prefixes: vec![key(&prefix)?],
            reset,
            ..ReadCountersRequest::default()
        },
    })
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

/// Of a prefix, or of a filter.
struct Row {
    usage: Usage,
    is_filter: bool,
}

fn rows(list: UsageList) -> Vec<Row> {
    let row = |usage: Usage| Row {
        is_filter: !usage.filter.is_empty(),
        usage,
    };
    list.usage.into_iter().map(row).collect()
}

fn rows_of_dataplane(reading: &CounterReading) -> Vec<Row> {
    let prefixes = reading.prefixes.iter().map(|it| Row {
        is_filter: false,
        usage: Usage {
            prefix: format!("{}/{}", address(&it.address), it.length),
            to_packets: it.to_packets,
            to_bytes: it.to_bytes,
            from_packets: it.from_packets,
            from_bytes: it.from_bytes,
            first_unix_ms: it.first_unix_ms,
            last_unix_ms: it.last_unix_ms,
            ..Usage::default()
        },
    });
    let filters = reading.filters.iter().map(|it| Row {
        is_filter: true,
        usage: Usage {
            filter_id: it.id,
            to_packets: it.to_node_packets,
            to_bytes: it.to_node_bytes,
            from_packets: it.from_node_packets,
            from_bytes: it.from_node_bytes,
            first_unix_ms: it.first_unix_ms,
            last_unix_ms: it.last_unix_ms,
            ..of_colours(it.colours.unwrap_or_default())
        },
    });
    prefixes.chain(filters).collect()
}

fn of_colours(it: Colours) -> Usage {
    Usage {
        green_packets: it.green_packets,
        green_bytes: it.green_bytes,
        yellow_packets: it.yellow_packets,
        yellow_bytes: it.yellow_bytes,
        red_packets: it.red_packets,
        red_bytes: it.red_bytes,
        ..Usage::default()
    }
}

fn show(rows: &[Row], output: Output) -> Result<(), Failure> {
    let mut table = Table::new(&[
        "OF",
        ">PACKETS TO",
        ">BYTES TO",
        ">PACKETS FROM",
        ">BYTES FROM",
        ">GREEN",
        ">YELLOW",
        ">RED",
        "FIRST",
        "LAST",
    ]);
    let (mut prefixes, mut filters) = (Vec::<Value>::new(), Vec::<Value>::new());
    for Row { usage: it, is_filter } in rows {
        let of = match (is_filter, it.filter.as_str()) {
            (false, _) => it.prefix.clone(),
            (true, "") => format!("filter {}", it.filter_id),
            (true, name) => format!("{}, filter {name}", it.prefix),
        };
        let [first, last] = [it.first_unix_ms, it.last_unix_ms].map(time);
        let numbers = [it.to_packets, it.to_bytes, it.from_packets, it.from_bytes];
        let [to_packets, to_bytes, from_packets, from_bytes] = numbers.map(|it| it.to_string());
        let colours = [it.green_packets, it.yellow_packets, it.red_packets];
        // What is no meter's has no colour.
        let metered = colours.iter().any(|it| *it > 0);
        let [green, yellow, red] = colours.map(|it| if metered { it.to_string() } else { String::new() });
        table.row([
            of,
            to_packets,
            to_bytes,
            from_packets,
            from_bytes,
            green,
            yellow,
            red,
            first,
            last,
        ]);
        if *is_filter {
            filters.push(json!({
                "id": it.filter_id, "name": it.filter, "prefix": it.prefix,
                "to_node_packets": it.to_packets, "to_node_bytes": it.to_bytes,
                "from_node_packets": it.from_packets, "from_node_bytes": it.from_bytes,
                "first_unix_ms": it.first_unix_ms, "last_unix_ms": it.last_unix_ms,
                "green_packets": it.green_packets, "green_bytes": it.green_bytes,
                "yellow_packets": it.yellow_packets, "yellow_bytes": it.yellow_bytes,
                "red_packets": it.red_packets, "red_bytes": it.red_bytes,
            }));
        } else {
            prefixes.push(json!({
                "prefix": it.prefix, "identifier": it.identifier,
                "to_packets": it.to_packets, "to_bytes": it.to_bytes,
                "from_packets": it.from_packets, "from_bytes": it.from_bytes,
                "first_unix_ms": it.first_unix_ms, "last_unix_ms": it.last_unix_ms,
            }));
        }
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
