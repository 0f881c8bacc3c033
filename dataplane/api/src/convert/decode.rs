//! From what travels to the model.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;

use ipnet::Ipv6Net;

use super::{ConversionError, MAPPED_LENGTH, flow};
use crate::model::{
    DiscardReason, Dscp, Encapsulation, Gre, GtpU, LinkLayerAddress, NextHop, PduSession, PrefixEntry,
    Sender, Source, SourcePath, Tables, Transaction, Tunnel,
};
use crate::proto;

/// Outer hop limit where the message says 0.
const DEFAULT_HOP_LIMIT: u8 = 64;

impl TryFrom<&proto::Transaction> for Transaction {
    type Error = ConversionError;

    fn try_from(message: &proto::Transaction) -> Result<Self, ConversionError> {
        Ok(Self {
            expected_generation: message.expected_generation,
            replace_all: message.replace_all,
            delete_prefixes: each("delete_prefixes", &message.delete_prefixes, |key| {
                prefix_key(&key.address, key.length)
            })?,
            delete_tunnels: each("delete_tunnels", &message.delete_tunnels, |id| tunnel_id("", *id))?,
            delete_neighbours: each("delete_neighbours", &message.delete_neighbours, |key| {
                Ok((port(&key.port)?, address("address", &key.address)?))
            })?,
            delete_local_addresses: each(
                "delete_local_addresses",
                &message.delete_local_addresses,
                |octets| address("", octets),
            )?,
            put_prefixes: each("put_prefixes", &message.put_prefixes, prefix)?,
            put_tunnels: each("put_tunnels", &message.put_tunnels, tunnel)?,
            put_neighbours: each("put_neighbours", &message.put_neighbours, neighbour)?,
            put_local_addresses: each("put_local_addresses", &message.put_local_addresses, |octets| {
                address("", octets)
            })?,
            delete_filters: each("delete_filters", &message.delete_filters, |id| {
                flow::filter_id("", *id)
            })?,
            delete_meters: each("delete_meters", &message.delete_meters, |id| {
                flow::meter_id("", *id)
            })?,
            put_filters: each("put_filters", &message.put_filters, flow::filter)?,
            put_meters: each("put_meters", &message.put_meters, flow::meter)?,
        })
    }
}

impl proto::State {
    /// The tables, and the generation that they are of.
    ///
    /// # Errors
    /// A field breaks the contract.
    pub fn decode(&self) -> Result<(u64, Tables), ConversionError> {
        let tables = Tables {
            prefixes: each("prefixes", &self.prefixes, prefix)?.into_iter().collect(),
            tunnels: each("tunnels", &self.tunnels, tunnel)?.into_iter().collect(),
            neighbours: each("neighbours", &self.neighbours, neighbour)?
                .into_iter()
                .collect(),
            local_addresses: each("local_addresses", &self.local_addresses, |octets| {
                address("", octets)
            })?
            .into_iter()
            .collect(),
            filters: each("filters", &self.filters, flow::filter)?
                .into_iter()
                .collect(),
            meters: each("meters", &self.meters, flow::meter)?.into_iter().collect(),
        };
        Ok((self.generation, tables))
    }
}

/// Converts every item of the repeated field `name`; an error carries its index.
fn each<T, U>(
    name: &str,
    items: &[T],
    mut convert: impl FnMut(&T) -> Result<U, ConversionError>,
) -> Result<Vec<U>, ConversionError> {
    items
        .iter()
        .enumerate()
        .map(|(index, item)| convert(item).map_err(|error| error.inside(&format!("{name}[{index}]"))))
        .collect()
}

fn hexadecimal(octets: &[u8]) -> String {
    // Enough to recognise the value by; a message may carry megabytes here.
    const SHOWN: usize = 32;
    let mut text = String::from("0x");
    for octet in octets.iter().take(SHOWN) {
        let _ = write!(text, "{octet:02x}");
    }
    if octets.len() > SHOWN {
        let _ = write!(text, "... ({} octets)", octets.len());
    }
    text
}

fn address(field: &str, octets: &[u8]) -> Result<Ipv6Addr, ConversionError> {
    if let Ok(octets) = <[u8; 4]>::try_from(octets) {
        return Ok(Ipv4Addr::from(octets).to_ipv6_mapped());
    }
    <[u8; 16]>::try_from(octets).map(Ipv6Addr::from).map_err(|_| {
        ConversionError::new(
            field,
            hexadecimal(octets),
            "an address is 16 octets, or 4 of IPv4",
        )
    })
}

fn link_layer_address(octets: &[u8]) -> Result<LinkLayerAddress, ConversionError> {
    let field = "link_layer_address";
    let address = LinkLayerAddress::try_from(octets)
        .map_err(|_| ConversionError::new(field, hexadecimal(octets), "a link-layer address is 6 octets"))?;
    // The group bit, and the all-zero address that no interface has.
    if address[0] & 1 != 0 || address == [0; 6] {
        return Err(ConversionError::new(
            field,
            hexadecimal(octets),
            "not the address of one interface",
        ));
    }
    Ok(address)
}

fn port(name: &str) -> Result<String, ConversionError> {
    if name.is_empty() {
        return Err(ConversionError::new("port", "\"\"", "a port name is needed"));
    }
    Ok(name.to_owned())
}

pub(super) fn tunnel_id(field: &str, id: u32) -> Result<u32, ConversionError> {
    if id == 0 {
        return Err(ConversionError::new(field, "0", "a tunnel id is 1..=4294967295"));
    }
    Ok(id)
}

pub(super) fn prefix_key(octets: &[u8], length: u32) -> Result<Ipv6Net, ConversionError> {
    let address = address("address", octets)?;
    // An IPv4 prefix is one of IPv4-mapped addresses, of which the length counts the IPv4 part.
    let (front, reason) = if octets.len() == 4 {
        (MAPPED_LENGTH, "a prefix length of IPv4 is 0..=32")
    } else {
        (0, "a prefix length is 0..=128")
    };
    let prefix = u8::try_from(length)
        .ok()
        .and_then(|length| Ipv6Net::new(address, length.checked_add(front)?).ok())
        .ok_or_else(|| ConversionError::new("length", length.to_string(), reason))?;
    if prefix.trunc() != prefix {
        return Err(ConversionError::new(
            "address",
            prefix.to_string(),
            "the prefix has host bits set",
        ));
    }
    Ok(prefix)
}

/// The prefixes in the repeated field `name`.
///
/// # Errors
/// One of them breaks the contract.
pub fn prefix_keys(name: &str, keys: &[proto::PrefixKey]) -> Result<Vec<Ipv6Net>, ConversionError> {
    each(name, keys, |key| prefix_key(&key.address, key.length))
}

fn prefix(message: &proto::Prefix) -> Result<(Ipv6Net, PrefixEntry), ConversionError> {
    let key = prefix_key(&message.address, message.length)?;
    let next_hop = message
        .next_hop
        .as_ref()
        .and_then(|next_hop| next_hop.kind.as_ref())
        .ok_or_else(|| ConversionError::new("next_hop", "absent", "a prefix needs a next hop"))?;
    let next_hop = self::next_hop(next_hop).map_err(|error| error.inside("next_hop"))?;
    let source = message
        .source
        .as_ref()
        .map(source)
        .transpose()
        .map_err(|error| error.inside("source"))?;
    Ok((key, PrefixEntry { next_hop, source }))
}

fn next_hop(kind: &proto::next_hop::Kind) -> Result<NextHop, ConversionError> {
    use proto::next_hop::Kind;
    match kind {
        Kind::Deliver(deliver) => (|| {
            Ok(NextHop::Deliver {
                port: port(&deliver.port)?,
                link_layer_address: link_layer_address(&deliver.link_layer_address)?,
            })
        })()
        .map_err(|error: ConversionError| error.inside("deliver")),
        Kind::Tunnel(id) => Ok(NextHop::Tunnel(tunnel_id("tunnel", *id)?)),
        Kind::Gateway(gateway) => (|| {
            Ok(NextHop::Gateway {
                port: port(&gateway.port)?,
                address: address("address", &gateway.address)?,
            })
        })()
        .map_err(|error: ConversionError| error.inside("gateway")),
        Kind::OnLink(on_link) => Ok(NextHop::OnLink {
            port: port(&on_link.port).map_err(|error| error.inside("on_link"))?,
        }),
        Kind::After(after) => self::after(after).map_err(|error| error.inside("after")),
        Kind::Hold(hold) => Ok(NextHop::Hold {
            maximum_ms: hold.maximum_ms,
        }),
        Kind::Discard(discard) => match proto::DiscardReason::try_from(discard.reason) {
            Ok(proto::DiscardReason::NodeAbsent) => Ok(NextHop::Discard(DiscardReason::NodeAbsent)),
            Ok(proto::DiscardReason::Unallocated) => Ok(NextHop::Discard(DiscardReason::Unallocated)),
            Ok(proto::DiscardReason::Prohibited) => Ok(NextHop::Discard(DiscardReason::Prohibited)),
            Ok(proto::DiscardReason::Unspecified) | Err(_) => Err(ConversionError::new(
                "discard.reason",
                discard.reason.to_string(),
                "not a reason to discard",
            )),
        },
    }
}

fn after(after: &proto::After) -> Result<NextHop, ConversionError> {
    use proto::next_hop::Kind;
    let then = after.then.as_ref().and_then(|next_hop| next_hop.kind.as_ref());
    // One within another would be as deep as the message is long.
    let then = match then {
        Some(then @ (Kind::Deliver(_) | Kind::Tunnel(_))) => {
            next_hop(then).map_err(|error| error.inside("then"))?
        }
        _ => {
            return Err(ConversionError::new(
                "then",
                "absent or of another kind",
                "must be deliver or tunnel",
            ));
        }
    };
    Ok(NextHop::After {
        tunnel: tunnel_id("tunnel", after.tunnel)?,
        maximum_ms: after.maximum_ms,
        then: Box::new(then),
    })
}

fn source(message: &proto::Source) -> Result<Source, ConversionError> {
    let path = match message.path {
        Some(proto::source::Path::Native(true)) => SourcePath::Native,
        Some(proto::source::Path::Native(false)) => {
            return Err(ConversionError::new(
                "native",
                "false",
                "native is true or another path is given",
            ));
        }
        Some(proto::source::Path::Tunnel(id)) => SourcePath::Tunnel(tunnel_id("tunnel", id)?),
        None => {
            return Err(ConversionError::new(
                "path",
                "absent",
                "native or a tunnel is needed",
            ));
        }
    };
    let sender = match message.from_tunnel {
        0 => Sender::Node {
            port: port(&message.port)?,
            link_layer_address: link_layer_address(&message.link_layer_address)?,
        },
        id if message.port.is_empty() && message.link_layer_address.is_empty() => Sender::Tunnel(id),
        id => {
            return Err(ConversionError::new(
                "from_tunnel",
                id.to_string(),
                "goes without port and link_layer_address",
            ));
        }
    };
    Ok(Source { sender, path })
}

fn tunnel(message: &proto::Tunnel) -> Result<(u32, Tunnel), ConversionError> {
    let id = tunnel_id("id", message.id)?;
    let encapsulation = match proto::Encapsulation::try_from(message.encapsulation) {
        Ok(proto::Encapsulation::Ipv6InIpv6 | proto::Encapsulation::Gre) if message.gtpu.is_some() => {
            return Err(ConversionError::new(
                "gtpu",
                "present",
                "only a GTP-U tunnel has that",
            ));
        }
        Ok(proto::Encapsulation::Ipv6InIpv6 | proto::Encapsulation::Gtpu) if message.gre.is_some() => {
            return Err(ConversionError::new(
                "gre",
                "present",
                "only a GRE tunnel has that",
            ));
        }
        Ok(proto::Encapsulation::Ipv6InIpv6) => Encapsulation::Ipv6InIpv6,
        Ok(proto::Encapsulation::Gre) => {
            let keys = message.gre.unwrap_or_default();
            Encapsulation::Gre(Gre {
                local_key: keys.local_key,
                remote_key: keys.remote_key,
            })
        }
        Ok(proto::Encapsulation::Gtpu) => Encapsulation::GtpU(
            message
                .gtpu
                .as_ref()
                .ok_or_else(|| ConversionError::new("gtpu", "absent", "a GTP-U tunnel has TEIDs"))
                .and_then(|it| gtpu(it).map_err(|error| error.inside("gtpu")))?,
        ),
        Ok(proto::Encapsulation::Unspecified) | Err(_) => {
            let value = message.encapsulation.to_string();
            return Err(ConversionError::new(
                "encapsulation",
                value,
                "not a known encapsulation",
            ));
        }
    };
    let hop_limit = match message.hop_limit {
        0 => DEFAULT_HOP_LIMIT,
        given => u8::try_from(given)
            .map_err(|_| ConversionError::new("hop_limit", given.to_string(), "a hop limit is 0..=255"))?,
    };
    let mtu = u16::try_from(message.mtu)
        .map_err(|_| ConversionError::new("mtu", message.mtu.to_string(), "an MTU is 0..=65535"))?;
    let encapsulation_limit = message
        .encapsulation_limit
        .map(|limit| {
            let wrong = |reason| ConversionError::new("encapsulation_limit", limit.to_string(), reason);
            match encapsulation {
                Encapsulation::Ipv6InIpv6 => {
                    u8::try_from(limit).map_err(|_| wrong("a tunnel encapsulation limit is 0..=255"))
                }
                Encapsulation::GtpU(_) | Encapsulation::Gre(_) => {
                    Err(wrong("only an IPv6-in-IPv6 tunnel has that"))
                }
            }
        })
        .transpose()?;
    let local = address("local", &message.local)?;
    let remote = address("remote", &message.remote)?;
    Ok((
        id,
        Tunnel {
            encapsulation,
            local,
            remote,
            hop_limit,
            mtu,
            encapsulation_limit,
            dscp: dscp(message)?,
        },
    ))
}

fn dscp(message: &proto::Tunnel) -> Result<Dscp, ConversionError> {
    let wrong = |reason| ConversionError::new("dscp", message.dscp.to_string(), reason);
    match (u8::try_from(message.dscp), message.copy_dscp) {
        (Ok(0), true) => Ok(Dscp::Copied),
        (_, true) => Err(wrong("it is copied, so there is no other")),
        (Ok(dscp @ 0..=63), false) => Ok(Dscp::Is(dscp)),
        (_, false) => Err(wrong("a code point is 0..=63")),
    }
}

fn gtpu(message: &proto::GtpU) -> Result<GtpU, ConversionError> {
    let teid = |field, value| {
        NonZeroU32::new(value).ok_or_else(|| ConversionError::new(field, "0", "a TEID is 1..=4294967295"))
    };
    let pdu_session = message.pdu_session.as_ref().map(|it| match u8::try_from(it.qfi) {
        Ok(qfi) if qfi < 64 => Ok(PduSession {
            uplink: it.uplink,
            qfi,
        }),
        _ => {
            let value = it.qfi.to_string();
            Err(ConversionError::new("pdu_session.qfi", value, "a QFI is 0..=63"))
        }
    });
    Ok(GtpU {
        local_teid: teid("local_teid", message.local_teid)?,
        remote_teid: teid("remote_teid", message.remote_teid)?,
        pdu_session: pdu_session.transpose()?,
        sequence_numbers: message.sequence_numbers,
    })
}

fn neighbour(message: &proto::Neighbour) -> Result<((String, Ipv6Addr), LinkLayerAddress), ConversionError> {
    let key = (port(&message.port)?, address("address", &message.address)?);
    Ok((key, link_layer_address(&message.link_layer_address)?))
}
