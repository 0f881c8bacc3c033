//! The Tunnel Endpoint option: a Vendor-Specific Mobility Option (RFC 5094 section 3) of Kedge's own.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//!                                 |   Type = 19   |  Length = 29  |
//! |                       Vendor ID = 32473                       |
//! | Sub-Type = 1  |  Version = 0  |  Tunnel Type  |    Reserved   :
//! :    Reserved   |       IPv6 address of the endpoint (16)       :
//! :               |                   TEID (4)                    :
//! :               |
//! ```

use std::net::Ipv6Addr;
use std::num::NonZeroU32;

use super::{TunnelEndpoint, TunnelType};

/// SMI enterprise number. This one is for documentation (RFC 5612): before a release that is to work
/// across operators, Kedge has to get one of its own from IANA, and all gateways change together.
const VENDOR: u32 = 32473;
/// Sub-type of this option among those of the vendor.
const SUB_TYPE: u8 = 1;
/// Version of the layout behind it.
const VERSION: u8 = 0;

/// Tunnel types on the wire.
const IPV6_IN_IPV6: u8 = 1;
const GTP_U: u8 = 2;

/// Octets after Type and Length.
pub(super) const OCTETS: usize = 29;

/// Why the data of an option of ours cannot be read.
pub(super) struct Malformed {
    /// Which part of it.
    pub(super) what: &'static str,
    /// The value found.
    pub(super) value: u64,
}

/// Reads the data of a Vendor-Specific Mobility Option. `None`: it is not for us, being another
/// vendor's, or of a sub-type or a version that is not known here.
pub(super) fn parse(data: &[u8]) -> Result<Option<TunnelEndpoint>, Malformed> {
    let malformed = |what, value| Err(Malformed { what, value });
    let length = data.len() as u64;
    let Some((vendor, rest)) = data.split_first_chunk::<4>() else {
        return malformed("length", length);
    };
    if u32::from_be_bytes(*vendor) != VENDOR {
        return Ok(None);
    }
    match rest {
        [] | [SUB_TYPE] => return malformed("length", length),
        [SUB_TYPE, VERSION, ..] => {}
        _ => return Ok(None),
    }
    let Ok(&[_, _, tunnel_type, _, _, ref both @ ..]) = <&[u8; OCTETS - 4]>::try_from(rest) else {
        return malformed("length", length);
    };
    let Some((address, &[a, b, c, d])) = both.split_first_chunk::<16>() else {
        return malformed("length", length);
    };
    let teid = u32::from_be_bytes([a, b, c, d]);
    let tunnel_type = match (tunnel_type, NonZeroU32::new(teid)) {
        (IPV6_IN_IPV6, None) => TunnelType::Ipv6InIpv6,
        (GTP_U, Some(teid)) => TunnelType::GtpU { teid },
        (IPV6_IN_IPV6 | GTP_U, _) => return malformed("TEID", teid.into()),
        (other, _) => return malformed("tunnel type", other.into()),
    };
    let address = Ipv6Addr::from(*address);
    Ok(Some(TunnelEndpoint { address, tunnel_type }))
}

/// The data of the option that tells `endpoint`.
pub(super) fn data(endpoint: &TunnelEndpoint) -> [u8; OCTETS] {
    let (tunnel_type, teid) = match endpoint.tunnel_type {
        TunnelType::Ipv6InIpv6 => (IPV6_IN_IPV6, 0),
        TunnelType::GtpU { teid } => (GTP_U, teid.get()),
    };
    let mut data = [0; OCTETS];
    let parts = VENDOR
        .to_be_bytes()
        .into_iter()
        .chain([SUB_TYPE, VERSION, tunnel_type, 0, 0])
        .chain(endpoint.address.octets())
        .chain(teid.to_be_bytes());
    for (octet, part) in data.iter_mut().zip(parts) {
        *octet = part;
    }
    data
}
