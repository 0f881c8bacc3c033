//! What the data plane of a DPN must hold: nodes of its links, behind the tunnel to the DPA.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use kedge_config::Config;
use kedge_dataplane_api::model::{
    Encapsulation, Gre, GtpU, LinkLayerAddress, NextHop, PrefixEntry, Sender, Source, SourcePath, Tables,
};

use super::{Derived, LeftOut, infrastructure, limits, outside, pdu_session};
use crate::dpn::{Node, Phase, SHARED_TUNNEL, State};
use crate::wire::mobility::TunnelType;

/// Everything that the data plane of this DPN must hold.
#[must_use]
pub fn desired_of_dpn(
    config: &Config,
    state: &State,
    neighbours: &BTreeMap<(String, Ipv6Addr), LinkLayerAddress>,
) -> Derived {
    let mut tables = Tables {
        neighbours: neighbours.clone(),
        ..Tables::default()
    };
    infrastructure(config, &mut tables);
    let Some(dpa) = config.dpn.as_ref().map(|dpn| dpn.dpa) else {
        return Derived {
            tables,
            ..Derived::default()
        };
    };
    for node in state.nodes.values() {
        // Who attaches again goes on with what it has; who has left gets what is on its way.
        if node.prefixes.is_empty() || matches!(node.phase, Phase::Refused { .. }) {
            continue;
        }
        let id = tunnel_to(config, node, dpa, &mut tables);
        let link_layer_address = node.link_layer_address.0;
        let entry = PrefixEntry {
            next_hop: NextHop::Deliver {
                port: node.port.clone(),
                link_layer_address,
            },
            source: Some(Source {
                sender: Sender::Node {
                    port: node.port.clone(),
                    link_layer_address,
                },
                path: SourcePath::Tunnel(id),
            }),
        };
        let prefixes = node.prefixes.iter().map(|it| (it.prefix, entry.clone()));
        tables.prefixes.extend(prefixes);
    }
    let mut left_out = LeftOut::default();
    let of_no_node = || {
        let mut tables = Tables::default();
        infrastructure(config, &mut tables);
        tables
    };
    limits::fit_prefixes(config, &mut tables, of_no_node, &mut left_out);
    limits::fit_tunnels(config, &mut tables, &mut left_out);
    Derived { tables, left_out }
}

/// The id of the tunnel for a node's packets, which is put into the tables.
fn tunnel_to(config: &Config, node: &Node, dpa: Ipv6Addr, tables: &mut Tables) -> u32 {
    let (id, encapsulation) = match (node.teid, node.tunnel.map(|it| (it.id, it.remote))) {
        (Some(local), Some((id, TunnelType::Gre { key }))) => {
            let gre = Gre {
                local_key: Some(local.get()),
                remote_key: Some(key),
            };
            (id, Encapsulation::Gre(gre))
        }
        (Some(local_teid), Some((id, TunnelType::GtpU { teid, .. }))) => {
            let gtpu = GtpU {
                local_teid,
                remote_teid: teid,
                pdu_session: pdu_session(config.dpn.as_ref().and_then(|dpn| dpn.gtpu_qfi), true),
                sequence_numbers: false,
            };
            (id, Encapsulation::GtpU(gtpu))
        }
        _ => (SHARED_TUNNEL, Encapsulation::Ipv6InIpv6),
    };
    let tunnel = outside(config, encapsulation, config.node.address, dpa);
    tables.tunnels.insert(id, tunnel);
    id
}
