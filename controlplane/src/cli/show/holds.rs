//! The prefixes whose packets wait for a node that moves, and the flows that filters hold.

use serde_json::json;

use super::span;
use crate::cli::connect::{Failure, dataplane};
use crate::cli::node::Node;
use crate::cli::output::Output;
use crate::cli::table::Table;
use crate::dataplane_sync::prefix_text;

pub(super) async fn holds(node: &Node, output: Output) -> Result<(), Failure> {
    let status = dataplane(node).await?.status().await?;
    let mut table = Table::new(&["PREFIX", "FLOWS", "STATE", ">AGE"]);
    let mut values = Vec::new();
    for hold in &status.holds {
        let prefix = prefix_text(&hold.address, hold.length);
        let after = (hold.after_tunnel != 0).then_some(hold.after_tunnel);
        let (word, text) = match (hold.expired, after) {
            (true, _) => ("expired", "expired: packets are dropped".to_owned()),
            (false, Some(tunnel)) => ("after", format!("waits for what tunnel {tunnel} still brings")),
            (false, None) => ("hold", "on hold".to_owned()),
        };
        let filter = (hold.filter != 0).then_some(hold.filter);
        let flows = filter.map_or("all".to_owned(), |id| format!("of filter {id}"));
        table.row([prefix.clone(), flows, text, span(hold.age_ms)]);
        values.push(json!({
            "prefix": prefix,
            "filter": filter,
            "state": word,
            "after_tunnel": after,
            "age_ms": hold.age_ms,
        }));
    }
    let values = json!({
        "held_packets": status.held_packets,
        "held_bytes": status.held_bytes,
        "prefixes": values,
    });
    let none = format!("no prefix and no flow waits; {} packets do", status.held_packets);
    output.table(&table, &none, &values)
}
