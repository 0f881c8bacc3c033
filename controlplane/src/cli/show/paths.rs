//! The paths to the peers of tunnels: what the data plane holds of each, and what the control plane knows of GTP-U's.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::{address, span};
use crate::cli::connect::{Failure, controlplane, dataplane};
use crate::cli::node::Node;
use crate::cli::output::Output;
use crate::cli::table::Table;
use crate::northbound::proto;

pub(super) async fn paths(node: &Node, output: Output) -> Result<(), Failure> {
    let client = dataplane(node).await?;
    let ((_, tables), status) = (client.read_state().await?, client.status().await?);
    // A data plane without its control plane forwards on, and is asked all the same.
    let known: BTreeMap<String, proto::Path> = match controlplane(node).await {
        Ok(mut client) => {
            let list = client.list_paths(proto::ListPathsRequest {}).await?.into_inner();
            list.paths
                .into_iter()
                .map(|path| (path.peer.clone(), path))
                .collect()
        }
        Err(_) => BTreeMap::new(),
    };
    let mut tunnels: BTreeMap<String, (usize, BTreeSet<&str>)> = BTreeMap::new();
    for tunnel in tables.tunnels.values() {
        let (count, types) = tunnels
            .entry(tunnel.remote.to_canonical().to_string())
            .or_default();
        *count += 1;
        types.insert(tunnel.encapsulation.name());
    }
    let mut table = Table::new(&[
        "PEER",
        "TYPE",
        ">TUNNELS",
        "STATE",
        ">ROUND TRIP",
        ">MTU",
        "FROM",
        ">FOR",
    ]);
    let mut values = Vec::new();
    for path in &status.paths {
        let (from, left) = match path.learned_for_ms {
            Some(left) => ("router", span(left)),
            None => ("port", String::new()),
        };
        let peer = address(&path.remote);
        let (count, types) = tunnels.get(&peer).cloned().unwrap_or_default();
        let known = known.get(&peer);
        let round_trip = known.and_then(|known| known.round_trip_us);
        table.row([
            peer.clone(),
            types.iter().copied().collect::<Vec<_>>().join(", "),
            count.to_string(),
            known.map_or_else(String::new, |known| known.state.clone()),
            round_trip.map_or_else(String::new, milliseconds),
            path.mtu.to_string(),
            from.to_owned(),
            left,
        ]);
        values.push(json!({
            "peer": peer,
            "types": types,
            "tunnels": count,
            "state": known.map(|known| &known.state),
            "round_trip_us": round_trip,
            "mtu": path.mtu,
            "from": from,
            "learned_for_ms": path.learned_for_ms,
        }));
    }
    output.table(&table, "no paths", &values.into())
}

fn milliseconds(microseconds: u64) -> String {
    format!("{}.{:03} ms", microseconds / 1000, microseconds % 1000)
}

#[cfg(test)]
mod tests {
    #[test]
    fn round_trips() {
        assert_eq!(super::milliseconds(7), "0.007 ms");
        assert_eq!(super::milliseconds(12_345), "12.345 ms");
    }
}
