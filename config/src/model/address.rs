//! Addresses of both IP versions as one type, from the file and back.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Deserializer};

/// Bits in front of the IPv4 address in an IPv4-mapped one.
const MAPPED_LENGTH: u8 = 96;

/// An address or a prefix as people write it: IPv4 where it is an IPv4-mapped one.
#[must_use]
pub fn shown(net: Ipv6Net) -> IpNet {
    let length = net.prefix_len().checked_sub(MAPPED_LENGTH);
    match (net.addr().to_ipv4_mapped(), length) {
        (Some(address), Some(length)) => Ipv4Net::new(address, length).map_or(IpNet::V6(net), IpNet::V4),
        _ => IpNet::V6(net),
    }
}

/// The other way round.
#[must_use]
pub fn mapped(net: IpNet) -> Ipv6Net {
    match net {
        IpNet::V6(net) => net,
        IpNet::V4(net) => {
            let length = MAPPED_LENGTH + net.prefix_len();
            // No IPv4 prefix is longer than 32 bits.
            Ipv6Net::new(net.addr().to_ipv6_mapped(), length).unwrap_or_default()
        }
    }
}

pub(super) fn prefix<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Ipv6Net, D::Error> {
    Ok(mapped(IpNet::deserialize(deserializer)?))
}

pub(crate) fn some_prefix<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Ipv6Net>, D::Error> {
    Ok(Option::<IpNet>::deserialize(deserializer)?.map(mapped))
}

pub(super) fn addresses<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<super::Address>, D::Error> {
    let all = Vec::<IpNet>::deserialize(deserializer)?;
    Ok(all.into_iter().map(mapped).collect())
}

pub(super) fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Ipv6Addr, D::Error> {
    Ok(match IpAddr::deserialize(deserializer)? {
        IpAddr::V6(address) => address,
        IpAddr::V4(address) => address.to_ipv6_mapped(),
    })
}
