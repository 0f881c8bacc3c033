//! `kedge show`: one file for each daemon that is asked.

mod controlplane;
mod dataplane;
mod delegations;
mod holds;
mod info;
mod meters;
mod paths;
mod routes;

use std::net::{Ipv4Addr, Ipv6Addr};

use super::arguments::What;
use super::connect::Failure;
use super::node::Node;
use super::output::Output;

/// Shows one thing.
pub(super) async fn show(node: &Node, what: What, output: Output) -> Result<(), Failure> {
    match what {
        What::Nodes => controlplane::nodes(node, output).await,
        What::Bindings => controlplane::bindings(node, output).await,
        What::Counters => controlplane::counters(node, output).await,
        What::Tunnels => dataplane::tunnels(node, output).await,
        What::Paths => paths::paths(node, output).await,
        What::Routes => routes::routes(node, output).await,
        What::Prefixes => dataplane::prefixes(node, output).await,
        What::Meters => meters::meters(node, output).await,
        What::Holds => holds::holds(node, output).await,
        What::Delegations => delegations::delegations(node, output).await,
        What::Ports => dataplane::ports(node, output).await,
        What::Drops => dataplane::drops(node, output).await,
        What::Stages => dataplane::stages(node, output).await,
        What::Workers => dataplane::workers(node, output).await,
        What::Info => info::info(node, output).await,
    }
}

/// An address of 16 octets or, of IPv4, 4; others as hexadecimal, for they are a daemon's mistake.
pub(super) fn address(octets: &[u8]) -> String {
    if let Ok(octets) = <[u8; 4]>::try_from(octets) {
        return Ipv4Addr::from(octets).to_string();
    }
    match <[u8; 16]>::try_from(octets) {
        Ok(octets) => Ipv6Addr::from(octets).to_canonical().to_string(),
        Err(_) => hexadecimal(octets, ""),
    }
}

fn hexadecimal(octets: &[u8], separator: &str) -> String {
    octets
        .iter()
        .map(|octet| format!("{octet:02x}"))
        .collect::<Vec<_>>()
        .join(separator)
}

/// A span in the largest units that keep it exact enough to read.
fn span(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    match seconds {
        0 => format!("{milliseconds} ms"),
        1..=119 => format!("{}.{} s", seconds, milliseconds % 1000 / 100),
        120..=7199 => format!("{} min {} s", seconds / 60, seconds % 60),
        7200..=172_799 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans() {
        let shown = [5, 1500, 125_000, 7_260_000, 200_000_000].map(span);
        assert_eq!(shown, ["5 ms", "1.5 s", "2 min 5 s", "2 h 1 min", "2 d 7 h"]);
    }
}
