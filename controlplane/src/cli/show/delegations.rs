//! Prefixes delegated by DHCPv6.

use serde_json::{Value, json};

use super::span;
use crate::cli::connect::{Failure, controlplane};
use crate::cli::node::Node;
use crate::cli::output::Output;
use crate::cli::table::Table;
use crate::northbound::proto::{Delegation, ListDelegationsRequest};

pub(super) async fn delegations(node: &Node, output: Output) -> Result<(), Failure> {
    let mut client = controlplane(node).await?;
    let list = client
        .list_delegations(ListDelegationsRequest {})
        .await?
        .into_inner();
    let mut table = Table::new(&["PREFIX", "", "PEER", ">IAID", "STATE", ">VALID", "EXCLUDED"]);
    let mut values = Vec::<Value>::new();
    for it in &list.delegations {
        table.row([
            it.prefix.clone(),
            it.direction.clone(),
            it.peer.clone(),
            it.iaid.map_or_else(String::new, |iaid| iaid.to_string()),
            it.state.clone(),
            valid(it),
            it.exclude.clone(),
        ]);
        values.push(json!({
            "prefix": it.prefix, "direction": it.direction, "peer": it.peer, "iaid": it.iaid,
            "state": it.state, "valid_ms": it.valid_ms, "exclude": it.exclude, "moved": it.moved,
        }));
    }
    output.table(&table, "no delegations", &values.into())
}

fn valid(it: &Delegation) -> String {
    it.valid_ms.map_or_else(|| "for ever".to_owned(), span)
}
