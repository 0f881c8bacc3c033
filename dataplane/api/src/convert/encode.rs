//! From the model to what travels; cannot fail.

use std::net::Ipv6Addr;

use ipnet::Ipv6Net;

use super::{MAPPED_LENGTH, flow};
use crate::model::{
    DiscardReason, Dscp, Encapsulation, LinkLayerAddress, NextHop, PrefixEntry, Sender, Source, SourcePath,
    Tables, Transaction, Tunnel,
};
use crate::proto;

impl From<&Transaction> for proto::Transaction {
    fn from(transaction: &Transaction) -> Self {
        Self {
            expected_generation: transaction.expected_generation,
            replace_all: transaction.replace_all,
            delete_prefixes: transaction.delete_prefixes.iter().map(prefix_key).collect(),
            delete_tunnels: transaction.delete_tunnels.clone(),
            delete_neighbours: transaction
                .delete_neighbours
                .iter()
                .map(|(port, neighbour)| proto::NeighbourKey {
                    port: port.clone(),
                    address: address(neighbour),
                })
                .collect(),
            delete_local_addresses: transaction.delete_local_addresses.iter().map(address).collect(),
            put_prefixes: transaction
                .put_prefixes
                .iter()
                .map(|(key, entry)| prefix(key, entry))
                .collect(),
            put_tunnels: transaction
                .put_tunnels
                .iter()
                .map(|(id, entry)| tunnel(*id, entry))
                .collect(),
            put_neighbours: transaction
                .put_neighbours
                .iter()
                .map(|(key, to)| neighbour(key, to))
                .collect(),
            put_local_addresses: transaction.put_local_addresses.iter().map(address).collect(),
            delete_filters: transaction.delete_filters.clone(),
            delete_meters: transaction.delete_meters.clone(),
            put_filters: transaction
                .put_filters
                .iter()
                .map(|(id, entry)| flow::encode_filter(*id, entry))
                .collect(),
            put_meters: transaction
                .put_meters
                .iter()
                .map(|(id, entry)| flow::encode_meter(*id, entry))
                .collect(),
        }
    }
}

impl proto::State {
    /// `tables` as of `generation`. What else a data plane says of itself is left out.
    #[must_use]
    pub fn encode(generation: u64, tables: &Tables) -> Self {
        Self {
            generation,
            prefixes: tables
                .prefixes
                .iter()
                .map(|(key, entry)| prefix(key, entry))
                .collect(),
            tunnels: tables
                .tunnels
                .iter()
                .map(|(id, entry)| tunnel(*id, entry))
                .collect(),
            neighbours: tables
                .neighbours
                .iter()
                .map(|(key, to)| neighbour(key, to))
                .collect(),
            local_addresses: tables.local_addresses.iter().map(address).collect(),
            filters: tables
                .filters
                .iter()
                .map(|(id, entry)| flow::encode_filter(*id, entry))
                .collect(),
            meters: tables
                .meters
                .iter()
                .map(|(id, entry)| flow::encode_meter(*id, entry))
                .collect(),
            carries_inner_ipv4: None,
        }
    }
}

fn address(address: &Ipv6Addr) -> Vec<u8> {
    match address.to_ipv4_mapped() {
        Some(address) => address.octets().to_vec(),
        None => address.octets().to_vec(),
    }
}

pub(super) fn prefix_key(prefix: &Ipv6Net) -> proto::PrefixKey {
    let (addr, length) = (prefix.addr(), prefix.prefix_len());
    match (addr.to_ipv4_mapped(), length.checked_sub(MAPPED_LENGTH)) {
        (Some(_), Some(length)) => proto::PrefixKey {
            address: address(&addr),
            length: u32::from(length),
        },
        // ::ffff:0:0/n with n below 96 is a prefix of IPv6, whatever it covers.
        _ => proto::PrefixKey {
            address: addr.octets().to_vec(),
            length: u32::from(length),
        },
    }
}

fn prefix(key: &Ipv6Net, entry: &PrefixEntry) -> proto::Prefix {
    let proto::PrefixKey { address, length } = prefix_key(key);
    proto::Prefix {
        address,
        length,
        next_hop: Some(proto::NextHop {
            kind: Some(next_hop(&entry.next_hop)),
        }),
        source: entry.source.as_ref().map(source),
    }
}

fn next_hop(next_hop: &NextHop) -> proto::next_hop::Kind {
    use proto::next_hop::Kind;
    match next_hop {
        NextHop::Deliver {
            port,
            link_layer_address,
        } => Kind::Deliver(proto::Deliver {
            port: port.clone(),
            link_layer_address: link_layer_address.to_vec(),
        }),
        NextHop::Tunnel(id) => Kind::Tunnel(*id),
        NextHop::Gateway {
            port,
            address: gateway,
        } => Kind::Gateway(proto::Gateway {
            port: port.clone(),
            address: address(gateway),
        }),
        NextHop::OnLink { port } => Kind::OnLink(proto::OnLink { port: port.clone() }),
        NextHop::After {
            tunnel,
            maximum_ms,
            then,
        } => Kind::After(Box::new(proto::After {
            tunnel: *tunnel,
            maximum_ms: *maximum_ms,
            then: Some(Box::new(proto::NextHop {
                kind: Some(self::next_hop(then)),
            })),
        })),
        NextHop::Hold { maximum_ms } => Kind::Hold(proto::Hold {
            maximum_ms: *maximum_ms,
        }),
        NextHop::Discard(reason) => {
            let reason = match reason {
                DiscardReason::NodeAbsent => proto::DiscardReason::NodeAbsent,
                DiscardReason::Unallocated => proto::DiscardReason::Unallocated,
                DiscardReason::Prohibited => proto::DiscardReason::Prohibited,
            };
            Kind::Discard(proto::Discard {
                reason: reason.into(),
            })
        }
    }
}

fn source(source: &Source) -> proto::Source {
    let (port, link_layer_address, from_tunnel) = match &source.sender {
        Sender::Node {
            port,
            link_layer_address,
        } => (port.clone(), link_layer_address.to_vec(), 0),
        Sender::Tunnel(id) => (String::new(), Vec::new(), *id),
    };
    proto::Source {
        port,
        link_layer_address,
        from_tunnel,
        path: Some(match source.path {
            SourcePath::Native => proto::source::Path::Native(true),
            SourcePath::Tunnel(id) => proto::source::Path::Tunnel(id),
        }),
    }
}

fn tunnel(id: u32, tunnel: &Tunnel) -> proto::Tunnel {
    proto::Tunnel {
        id,
        encapsulation: match tunnel.encapsulation {
            Encapsulation::Ipv6InIpv6 => proto::Encapsulation::Ipv6InIpv6.into(),
            Encapsulation::GtpU(_) => proto::Encapsulation::Gtpu.into(),
            Encapsulation::Gre(_) => proto::Encapsulation::Gre.into(),
        },
        gtpu: match &tunnel.encapsulation {
            Encapsulation::Ipv6InIpv6 | Encapsulation::Gre(_) => None,
            Encapsulation::GtpU(it) => Some(proto::GtpU {
                local_teid: it.local_teid.get(),
                remote_teid: it.remote_teid.get(),
                sequence_numbers: it.sequence_numbers,
                pdu_session: it.pdu_session.map(|it| proto::PduSession {
                    uplink: it.uplink,
                    qfi: u32::from(it.qfi),
                }),
            }),
        },
        gre: match &tunnel.encapsulation {
            Encapsulation::Gre(it) => Some(proto::Gre {
                local_key: it.local_key,
                remote_key: it.remote_key,
            }),
            Encapsulation::Ipv6InIpv6 | Encapsulation::GtpU(_) => None,
        },
        local: address(&tunnel.local),
        remote: address(&tunnel.remote),
        hop_limit: u32::from(tunnel.hop_limit),
        mtu: u32::from(tunnel.mtu),
        encapsulation_limit: tunnel.encapsulation_limit.map(u32::from),
        dscp: match tunnel.dscp {
            Dscp::Is(dscp) => u32::from(dscp),
            Dscp::Copied => 0,
        },
        copy_dscp: tunnel.dscp == Dscp::Copied,
    }
}

fn neighbour((port, neighbour): &(String, Ipv6Addr), to: &LinkLayerAddress) -> proto::Neighbour {
    proto::Neighbour {
        port: port.clone(),
        address: address(neighbour),
        link_layer_address: to.to_vec(),
    }
}
