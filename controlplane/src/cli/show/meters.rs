//! Meters: their rates, and how much of each colour there was, for each node and flow.

use std::collections::BTreeMap;

use kedge_dataplane_api::proto::MeterCount;
use serde_json::json;

use crate::cli::connect::{Failure, controlplane, dataplane};
use crate::cli::node::Node;
use crate::cli::output::Output;
use crate::cli::table::Table;
use crate::northbound::proto::{ListMetersRequest, Meter, MeterUse};

pub(super) async fn meters(node: &Node, output: Output) -> Result<(), Failure> {
    let list = controlplane(node)
        .await?
        .list_meters(ListMetersRequest {})
        .await?;
    // Without a data plane nothing is metered, but there are meters.
    let status = match dataplane(node).await {
        Ok(client) => client.status().await.unwrap_or_default(),
        Err(_) => Default::default(),
    };
    let counts: BTreeMap<u64, MeterCount> = status.meters.into_iter().map(|it| (it.id, it)).collect();
    let mut table = Table::new(&[
        "METER",
        "RATES",
        "OF",
        ">GREEN",
        ">BYTES",
        ">YELLOW",
        ">BYTES",
        ">DROPPED (RED)",
        ">BYTES",
    ]);
    let mut values = Vec::new();
    for meter in list.into_inner().meters {
        let mut uses = Vec::new();
        for it in &meter.uses {
            let count = counts.get(&it.id).copied().unwrap_or_default();
            let numbers = [
                it.green_packets.wrapping_add(count.green_packets),
                it.green_bytes.wrapping_add(count.green_bytes),
                it.yellow_packets.wrapping_add(count.yellow_packets),
                it.yellow_bytes.wrapping_add(count.yellow_bytes),
                it.red_packets.wrapping_add(count.red_packets),
                it.red_bytes.wrapping_add(count.red_bytes),
            ];
            let [a, b, c, d, e, f] = numbers.map(|it| it.to_string());
            let [green, of_green, yellow, of_yellow, red, of_red] = numbers;
            table.row([meter.name.clone(), rates(&meter), of(it), a, b, c, d, e, f]);
            uses.push(json!({
                "id": it.id, "filter": it.filter, "node": it.node, "of_node": it.of_node,
                "green_packets": green, "green_bytes": of_green,
                "yellow_packets": yellow, "yellow_bytes": of_yellow,
                "red_packets": red, "red_bytes": of_red,
            }));
        }
        if uses.is_empty() {
            let nothing = String::new;
            let of = "nobody".to_owned();
            table.row([
                meter.name.clone(),
                rates(&meter),
                of,
                nothing(),
                nothing(),
                nothing(),
                nothing(),
                nothing(),
                nothing(),
            ]);
        }
        values.push(json!({
            "name": meter.name, "configured": meter.configured,
            "cir_bits_per_second": meter.cir_bits_per_second, "cbs_bytes": meter.cbs_bytes,
            "pir_bits_per_second": meter.pir_bits_per_second, "pbs_bytes": meter.pbs_bytes,
            "eir_bits_per_second": meter.eir_bits_per_second, "ebs_bytes": meter.ebs_bytes,
            "colour_aware": meter.colour_aware, "yellow_dscp": meter.yellow_dscp,
            "uses": uses,
        }));
    }
    output.table(&table, "no meters", &values.into())
}

fn of(it: &MeterUse) -> String {
    match (it.node.as_str(), it.of_node) {
        ("", _) => format!("filter {} of the domain", it.filter),
        (node, true) => format!("{node} (filter {})", it.filter),
        (node, false) => format!("filter {} of {node}", it.filter),
    }
}

/// In the units of the configuration.
fn rates(meter: &Meter) -> String {
    let (word, rate) = match (meter.pir_bits_per_second, meter.eir_bits_per_second) {
        (Some(rate), _) => ("peak", rate),
        (None, rate) => ("excess", rate.unwrap_or(0)),
    };
    let committed = bits(meter.cir_bits_per_second);
    format!("{committed} committed, {} {word}", bits(rate))
}

/// In the largest unit of which it is a whole number.
fn bits(rate: u64) -> String {
    let units = [(1_000_000_000, "Gbit/s"), (1_000_000, "Mbit/s"), (1000, "kbit/s")];
    let fits = |(unit, _): &&(u64, &str)| rate >= *unit && rate.is_multiple_of(*unit);
    match units.iter().find(fits) {
        Some((unit, name)) => format!("{} {name}", rate / unit),
        None => format!("{rate} bit/s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_whole_numbers() {
        let shown = [0, 999, 1000, 1500, 2_000_000, 3_000_000_000].map(bits);
        let expected = [
            "0 bit/s",
            "999 bit/s",
            "1 kbit/s",
            "1500 bit/s",
            "2 Mbit/s",
            "3 Gbit/s",
        ];
        assert_eq!(shown, expected);
        let meter = Meter {
            cir_bits_per_second: 1_000_000,
            eir_bits_per_second: Some(500),
            ..Meter::default()
        };
        assert_eq!(rates(&meter), "1 Mbit/s committed, 500 bit/s excess");
    }
}
