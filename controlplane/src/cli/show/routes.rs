//! What is announced.

use serde_json::json;

use super::span;
use crate::cli::connect::{Failure, controlplane};
use crate::cli::node::Node;
use crate::cli::output::Output;
use crate::cli::table::Table;
use crate::northbound::proto;

pub(super) async fn routes(node: &Node, output: Output) -> Result<(), Failure> {
    let mut client = controlplane(node).await?;
    let list = client
        .list_routes(proto::ListRoutesRequest {})
        .await?
        .into_inner();
    let mut table = Table::new(&["PREFIX", "NEXT HOP", "BY", "STATE", ">SINCE", "REASON"]);
    for route in &list.routes {
        // What a daemon has that is not there is anybody's guess.
        let state = if list.connected { "" } else { " (lost)" };
        table.row([
            route.prefix.clone(),
            route.next_hop.clone(),
            list.daemon.clone(),
            format!("{}{state}", route.state),
            span(route.age_ms),
            route.reason.clone(),
        ]);
    }
    let values = list.routes.iter().map(|route| {
        json!({
            "prefix": route.prefix,
            "next_hop": route.next_hop,
            "state": route.state,
            "age_ms": route.age_ms,
            "reason": route.reason,
        })
    });
    let value = json!({
        "daemon": list.daemon,
        "connected": list.connected,
        "routes": values.collect::<Vec<_>>(),
    });
    let nothing = if list.daemon.is_empty() {
        "nothing is announced: there is no [announce] in the configuration"
    } else {
        "no routes"
    };
    output.table(&table, nothing, &value)
}
