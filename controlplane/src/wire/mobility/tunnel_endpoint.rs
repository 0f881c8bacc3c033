//! The Tunnel Endpoint option: a Vendor-Specific Mobility Option (RFC 5094 section 3) of Kedge's own.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//!                                 |   Type = 19   |  Length = 29  |
//! |                       Vendor ID = 32473                       |
//! | Sub-Type = 1  |  Version = 0  |  Tunnel Type  |    Reserved   :
//! :    Reserved   |       IPv6 address of the endpoint (16)       :
//! :               |             TEID, or GRE key (4)              :
//! :               |
//! ```
//!
//! Version 1 has four octets more, and a length of 33: the IPv4 address at which the endpoint takes the
//! packets, 0.0.0.0 for none. It is sent only where there is something that version 0 cannot say, so that a gateway
//! that does not know it is left with what it knows.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;

use super::vendor::{Malformed, VENDOR};
use super::{TunnelEndpoint, TunnelType};

/// Sub-type of this option among those of the vendor.
pub(super) const SUB_TYPE: u8 = 1;
/// Versions of the layout behind it.
const VERSION_0: u8 = 0;
pub(super) const VERSION_1: u8 = 1;

/// Tunnel types on the wire.
const IPV6_IN_IPV6: u8 = 1;
const GTP_U: u8 = 2;
const GRE: u8 = 3;

/// Reads what is behind sub-type and version, which is 0 or 1.
pub(super) fn parse(version: u8, data: &[u8], length: u64) -> Result<TunnelEndpoint, Malformed> {
    let malformed = |what, value| Err(Malformed { what, value });
    let Some((&[tunnel_type, _, _], rest)) = data.split_first_chunk::<3>() else {
        return malformed("length", length);
    };
    let Some((address, rest)) = rest.split_first_chunk::<16>() else {
        return malformed("length", length);
    };
    let Some((&[a, b, c, d], rest)) = rest.split_first_chunk::<4>() else {
        return malformed("length", length);
    };
    let ipv4 = match (version, <[u8; 4]>::try_from(rest)) {
        (VERSION_0, Err(_)) if rest.is_empty() => Ipv4Addr::UNSPECIFIED,
        (VERSION_1, Ok(octets)) => Ipv4Addr::from(octets),
        _ => return malformed("length", length),
    };
    let teid = u32::from_be_bytes([a, b, c, d]);
    let tunnel_type = match (tunnel_type, NonZeroU32::new(teid)) {
        (IPV6_IN_IPV6, None) => TunnelType::Ipv6InIpv6,
        (GTP_U, Some(teid)) => TunnelType::GtpU {
            teid,
            ipv4: (!ipv4.is_unspecified()).then_some(ipv4),
        },
        (GRE, _) => TunnelType::Gre { key: teid },
        (IPV6_IN_IPV6 | GTP_U, _) => return malformed("TEID", teid.into()),
        (other, _) => return malformed("tunnel type", other.into()),
    };
    let address = Ipv6Addr::from(*address);
    Ok(TunnelEndpoint { address, tunnel_type })
}

/// The data of the option that tells `endpoint`.
pub(super) fn data(endpoint: &TunnelEndpoint) -> Vec<u8> {
    let (version, tunnel_type, teid, ipv4) = match endpoint.tunnel_type {
        TunnelType::Ipv6InIpv6 => (VERSION_0, IPV6_IN_IPV6, 0, None),
        TunnelType::GtpU { teid, ipv4: None } => (VERSION_0, GTP_U, teid.get(), None),
        TunnelType::Gre { key } => (VERSION_0, GRE, key, None),
        TunnelType::GtpU { teid, ipv4 } => (VERSION_1, GTP_U, teid.get(), ipv4),
    };
    VENDOR
        .to_be_bytes()
        .into_iter()
        .chain([SUB_TYPE, version, tunnel_type, 0, 0])
        .chain(endpoint.address.octets())
        .chain(teid.to_be_bytes())
        .chain(ipv4.into_iter().flat_map(|address| address.octets()))
        .collect()
}
