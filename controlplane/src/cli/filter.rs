//! `kedge filter`.

use std::collections::BTreeMap;

use kedge_dataplane_api::proto::FilterCount;
use serde_json::json;

use super::arguments::{AddFilter, FilterCommand};
use super::connect::{Failure, controlplane, dataplane};
use super::node::Node;
use super::output::Output;
use super::table::Table;
use crate::northbound::proto::{DeleteFilterRequest, FilterRule, ListFiltersRequest};

pub(super) async fn filter(node: &Node, what: FilterCommand, output: Output) -> Result<(), Failure> {
    match what {
        FilterCommand::Add(filter) => add(node, *filter, output).await,
        FilterCommand::Delete { name } => {
            let request = DeleteFilterRequest { name: name.clone() };
            controlplane(node).await?.delete_filter(request).await?;
            if output.is_json() {
                return output.value(&json!({"filter": name, "deleted": true}));
            }
            output.text(&format!("filter {name} is deleted\n"))
        }
        FilterCommand::Show => show(node, output).await,
    }
}

async fn add(node: &Node, filter: AddFilter, output: Output) -> Result<(), Failure> {
    let name = filter.name.clone();
    let request = FilterRule {
        name: filter.name,
        domain: filter.domain,
        node: filter.node.unwrap_or_default(),
        priority: u32::from(filter.priority),
        direction: filter.direction.unwrap_or_default(),
        source: filter.source.unwrap_or_default(),
        destination: filter.destination.unwrap_or_default(),
        protocol: filter.protocol.map(u32::from),
        source_ports: filter.source_ports.unwrap_or_default(),
        destination_ports: filter.destination_ports.unwrap_or_default(),
        traffic_class: filter.traffic_class.map(u32::from),
        traffic_class_mask: u32::from(filter.traffic_class_mask),
        flow_label: filter.flow_label,
        action: filter.action,
        maar: filter.maar.unwrap_or_default(),
        meter: filter.meter.unwrap_or_default(),
        idle_timeout_s: filter.idle_timeout,
        lifetime_s: filter.lifetime,
        relocate_after_s: filter.relocate_after,
        ..FilterRule::default()
    };
    let reply = controlplane(node).await?.add_filter(request).await?.into_inner();
    if output.is_json() {
        return output.value(&json!({"filter": name, "replaced": reply.replaced}));
    }
    let done = if reply.replaced { "replaced" } else { "added" };
    output.text(&format!("filter {name} is {done}\n"))
}

async fn show(node: &Node, output: Output) -> Result<(), Failure> {
    let list = controlplane(node)
        .await?
        .list_filters(ListFiltersRequest {})
        .await?;
    // Without a data plane there is nothing counted, but there are filters.
    let status = match dataplane(node).await {
        Ok(client) => client.status().await.unwrap_or_default(),
        Err(_) => Default::default(),
    };
    let counts: BTreeMap<u64, FilterCount> = status.filters.into_iter().map(|it| (it.id, it)).collect();
    let mut table = Table::new(&[
        ">PRIORITY",
        "NAME",
        "OF",
        "FLOW",
        "ACTION",
        ">IN PLACE",
        ">PACKETS FROM",
        ">BYTES FROM",
        ">PACKETS TO",
        ">BYTES TO",
    ]);
    let mut values = Vec::new();
    let mut filters = list.into_inner().filters;
    filters.sort_by(|one, other| (one.priority, &one.name).cmp(&(other.priority, &other.name)));
    for rule in filters {
        let mut sum = FilterCount::default();
        for count in rule.ids.iter().filter_map(|id| counts.get(id)) {
            sum.from_node_packets += count.from_node_packets;
            sum.from_node_bytes += count.from_node_bytes;
            sum.to_node_packets += count.to_node_packets;
            sum.to_node_bytes += count.to_node_bytes;
        }
        sum.from_node_packets += rule.carried_from_packets;
        sum.from_node_bytes += rule.carried_from_bytes;
        sum.to_node_packets += rule.carried_to_packets;
        sum.to_node_bytes += rule.carried_to_bytes;
        let of = match (rule.domain, rule.node.as_str()) {
            (true, _) => "the domain".to_owned(),
            (false, "") => "every node".to_owned(),
            (false, node) if rule.prefixes.is_empty() => node.to_owned(),
            (false, node) => format!("{} of {node}", rule.prefixes.join(", ")),
        };
        let named = [rule.maar.as_str(), rule.meter.as_str()]
            .into_iter()
            .find(|it| !it.is_empty());
        table.row([
            rule.priority.to_string(),
            rule.name.clone(),
            of,
            flow(&rule),
            action(&rule, named),
            match rule.left_out {
                0 => rule.ids.len().to_string(),
                more => format!("{} of {}", rule.ids.len(), rule.ids.len() as u64 + more),
            },
            sum.from_node_packets.to_string(),
            sum.from_node_bytes.to_string(),
            sum.to_node_packets.to_string(),
            sum.to_node_bytes.to_string(),
        ]);
        values.push(json!({
            "name": rule.name, "domain": rule.domain, "node": rule.node, "priority": rule.priority,
            "direction": rule.direction, "source": rule.source, "destination": rule.destination,
            "protocol": rule.protocol, "source_ports": rule.source_ports,
            "destination_ports": rule.destination_ports, "traffic_class": rule.traffic_class,
            "traffic_class_mask": rule.traffic_class_mask, "flow_label": rule.flow_label,
            "action": rule.action, "maar": rule.maar, "meter": rule.meter,
            "idle_timeout_s": rule.idle_timeout_s, "lifetime_s": rule.lifetime_s,
            "relocate_after_s": rule.relocate_after_s,
            "configured": rule.configured, "ids": rule.ids, "left_out": rule.left_out, "prefixes": rule.prefixes,
            "from_node_packets": sum.from_node_packets, "from_node_bytes": sum.from_node_bytes,
            "to_node_packets": sum.to_node_packets, "to_node_bytes": sum.to_node_bytes,
        }));
    }
    output.table(&table, "no filters", &values.into())
}

/// What is done with it.
fn action(rule: &FilterRule, named: Option<&str>) -> String {
    let mut text = rule.action.clone();
    if let Some(named) = named {
        text += &format!(" {named}");
    }
    if let Some(seconds) = rule.relocate_after_s {
        text += &format!(", after {seconds} s here");
    }
    text
}

/// What a filter asks for, in few words.
fn flow(rule: &FilterRule) -> String {
    let mut words = Vec::new();
    let mut add = |name: &str, value: String| {
        if !value.is_empty() {
            words.push(format!("{name}{value}"));
        }
    };
    add("", rule.direction.clone());
    add(
        "protocol ",
        rule.protocol.map(|it| it.to_string()).unwrap_or_default(),
    );
    add("source ", rule.source.clone());
    add("source ports ", rule.source_ports.clone());
    add("destination ", rule.destination.clone());
    add("destination ports ", rule.destination_ports.clone());
    let class = |class: u32| format!("{class:#04x}/{:#04x}", rule.traffic_class_mask);
    add(
        "traffic class ",
        rule.traffic_class.map(class).unwrap_or_default(),
    );
    add(
        "flow label ",
        rule.flow_label.map(|it| it.to_string()).unwrap_or_default(),
    );
    if words.is_empty() {
        return "all".to_owned();
    }
    words.join(", ")
}
