//! What the control plane knows.

use serde_json::json;

use super::span;
use crate::cli::connect::{Failure, controlplane};
use crate::cli::node::Node;
use crate::cli::output::Output;
use crate::cli::table::Table;
use crate::northbound::proto;

pub(super) async fn nodes(node: &Node, output: Output) -> Result<(), Failure> {
    let list = controlplane(node)
        .await?
        .list_nodes(proto::ListNodesRequest {})
        .await?
        .into_inner();
    let mut table = Table::new(&[
        "IDENTIFIER",
        "STATE",
        "PORT",
        "LINK-LAYER ADDRESS",
        "SERVING MAAR",
        "PREFIX",
        "ANCHOR",
        "USE",
    ]);
    for found in &list.nodes {
        for (index, prefix) in found.prefixes.iter().enumerate() {
            // The node itself on its first line only.
            let once = |text: &str| {
                if index == 0 {
                    text.to_owned()
                } else {
                    " ".to_owned()
                }
            };
            table.row([
                once(&found.identifier),
                once(&found.state),
                once(&found.port),
                once(&found.link_layer_address),
                once(&found.serving_maar),
                prefix.prefix.clone(),
                prefix.anchor.clone(),
                match (prefix.network, prefix.preferred) {
                    (true, _) => "network behind it",
                    (false, true) => "preferred",
                    (false, false) => "deprecated",
                }
                .to_owned(),
            ]);
        }
    }
    let values = list.nodes.iter().map(|found| {
        json!({
            "identifier": found.identifier,
            "state": found.state,
            "port": found.port,
            "link_layer_address": found.link_layer_address,
            "link_local_address": found.link_local_address,
            "serving_maar": found.serving_maar,
            "prefixes": found.prefixes.iter().map(|prefix| json!({
                "prefix": prefix.prefix, "anchor": prefix.anchor, "preferred": prefix.preferred,
                "network": prefix.network,
            })).collect::<Vec<_>>(),
        })
    });
    output.table(&table, "no nodes", &values.collect())
}

pub(super) async fn bindings(node: &Node, output: Output) -> Result<(), Failure> {
    let list = controlplane(node)
        .await?
        .list_bindings(proto::ListBindingsRequest {})
        .await?
        .into_inner();
    let mut table = Table::new(&[
        "IDENTIFIER",
        "STATE",
        "SERVING MAAR",
        "PREFIXES",
        "PREVIOUS MAARS",
        ">SEQ",
        ">EXPIRES IN",
    ]);
    for binding in &list.bindings {
        let previous = binding.previous.iter().map(|previous| {
            format!(
                "{} {} ({}, {})",
                previous.address, previous.prefix, previous.state, previous.tunnel
            )
        });
        table.row([
            binding.identifier.clone(),
            binding.state.clone(),
            binding.serving_maar.clone(),
            binding.prefixes.join(", "),
            previous.collect::<Vec<_>>().join(", "),
            binding.sequence.to_string(),
            if binding.expires_in_ms == 0 {
                String::new()
            } else {
                span(binding.expires_in_ms)
            },
        ]);
    }
    let values = list.bindings.iter().map(|binding| {
        json!({
            "identifier": binding.identifier,
            "state": binding.state,
            "serving_maar": binding.serving_maar,
            "prefixes": binding.prefixes,
            "previous": binding.previous.iter().map(|previous| json!({
                "address": previous.address, "prefix": previous.prefix, "state": previous.state,
                "tunnel": previous.tunnel,
            })).collect::<Vec<_>>(),
            "sequence": binding.sequence,
            "expires_in_ms": binding.expires_in_ms,
            "access_technology": binding.access_technology,
        })
    });
    output.table(&table, "no bindings", &values.collect())
}

pub(super) async fn counters(node: &Node, output: Output) -> Result<(), Failure> {
    let list = controlplane(node)
        .await?
        .get_counters(proto::GetCountersRequest {})
        .await?
        .into_inner();
    let mut table = Table::new(&["COUNTER", ">VALUE"]);
    for counter in &list.counters {
        table.row([counter.name.clone(), counter.value.to_string()]);
    }
    let values: serde_json::Map<_, _> = list
        .counters
        .iter()
        .map(|counter| (counter.name.clone(), json!(counter.value)))
        .collect();
    output.table(&table, "no counters", &values.into())
}
