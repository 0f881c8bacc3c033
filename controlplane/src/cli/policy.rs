//! `kedge policy`.

use serde_json::json;

use super::arguments::{PolicyCommand, SetPolicy};
use super::connect::{Failure, controlplane};
use super::node::Node;
use super::output::Output;
use super::table::Table;
use crate::northbound::proto::{ListPoliciesRequest, PolicyRule, RemovePolicyRequest};

pub(super) async fn policy(node: &Node, what: PolicyCommand, output: Output) -> Result<(), Failure> {
    match what {
        PolicyCommand::Set(policy) => set(node, *policy, output).await,
        PolicyCommand::Remove { name } => {
            let request = RemovePolicyRequest { name: name.clone() };
            controlplane(node).await?.remove_policy(request).await?;
            if output.is_json() {
                return output.value(&json!({"policy": name, "removed": true}));
            }
            output.text(&format!("policy {name} is removed\n"))
        }
        PolicyCommand::Show => show(node, output).await,
    }
}

async fn set(node: &Node, policy: SetPolicy, output: Output) -> Result<(), Failure> {
    let name = policy.name.clone();
    let request = PolicyRule {
        name: policy.name,
        node: policy.node_like.unwrap_or_default(),
        prefix: policy.prefix.unwrap_or_default(),
        priority: u32::from(policy.priority),
        mobility: policy.mobility,
        relocate_after_s: policy.relocate_after,
        relocate_after_octets: policy.relocate_after_octets,
        end_after_s: policy.end_after,
        configured: false,
    };
    let reply = controlplane(node).await?.set_policy(request).await?.into_inner();
    if output.is_json() {
        return output.value(&json!({"policy": name, "replaced": reply.replaced}));
    }
    let done = if reply.replaced { "replaced" } else { "set" };
    output.text(&format!("policy {name} is {done}\n"))
}

async fn show(node: &Node, output: Output) -> Result<(), Failure> {
    let list = controlplane(node)
        .await?
        .list_policies(ListPoliciesRequest {})
        .await?;
    let mut table = Table::new(&[">PRIORITY", "NAME", "NODES", "PREFIXES", "MOBILITY", "FROM"]);
    let mut values = Vec::new();
    for policy in list.into_inner().policies {
        let or = |text: &str, other: &str| if text.is_empty() { other } else { text }.to_owned();
        let from = if policy.configured {
            "configuration"
        } else {
            "operator"
        };
        table.row([
            policy.priority.to_string(),
            policy.name.clone(),
            or(&policy.node, "all"),
            or(&policy.prefix, "all"),
            mobility(&policy),
            from.to_owned(),
        ]);
        values.push(json!({
            "name": policy.name, "node": policy.node, "prefix": policy.prefix, "priority": policy.priority,
            "mobility": policy.mobility, "relocate_after_s": policy.relocate_after_s,
            "relocate_after_octets": policy.relocate_after_octets, "end_after_s": policy.end_after_s,
            "configured": policy.configured,
        }));
    }
    output.table(&table, "no policies", &values.into())
}

/// How much, and when.
fn mobility(policy: &PolicyRule) -> String {
    let after = policy.relocate_after_s.map(|seconds| format!("{seconds} s"));
    let octets = policy
        .relocate_after_octets
        .map(|octets| format!("{octets} octets"));
    let bounds: Vec<_> = after.into_iter().chain(octets).collect();
    let mut text = policy.mobility.clone();
    if !bounds.is_empty() {
        text += &format!(" after {}", bounds.join(" or "));
    }
    if let Some(seconds) = policy.end_after_s {
        text += &format!(", ends after {seconds} s");
    }
    text
}
