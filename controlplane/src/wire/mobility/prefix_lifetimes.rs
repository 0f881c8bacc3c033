//! The Prefix Lifetimes option: a Vendor-Specific Mobility Option (RFC 5094 section 3) of Kedge's own.
//!
//! In an acknowledgement of a DPA to a DPN, one for each Home Network Prefix of the message.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//!                                 |   Type = 19   |  Length = 32  |
//! |                       Vendor ID = 32473                       |
//! | Sub-Type = 7  |  Version = 0  | Prefix Length |    Reserved   |
//! |                       Preferred lifetime                      |
//! |                         Valid lifetime                        |
//! |                          Prefix (16)                          |
//! ```

use std::net::Ipv6Addr;

use ipnet::Ipv6Net;
use serde::{Deserialize, Serialize};

use super::vendor::{Malformed, VENDOR};

/// Sub-type of this option among those of the vendor.
pub(super) const SUB_TYPE: u8 = 7;
/// Version of the layout behind it.
pub(super) const VERSION: u8 = 0;

/// How long at most a node may use one of its prefixes, counted from the message on: sub-type 7, version 0 of Kedge's
/// Vendor-Specific Mobility Options (RFC 5094).
///
/// RFC 5213 has no word for a prefix that is still the node's but begins no new flow: its gateway advertises all
/// alike. Who does not know this option does that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrefixLifetimes {
    /// A Home Network Prefix of the message.
    pub prefix: Ipv6Net,
    /// Seconds for new flows; 0: it is an older one. `u32::MAX`: as the gateway likes.
    pub preferred: u32,
    /// Seconds in all; `u32::MAX`: as the gateway likes.
    pub valid: u32,
}

/// Reads what is behind sub-type and version.
pub(super) fn parse(data: &[u8], length: u64) -> Result<PrefixLifetimes, Malformed> {
    let wrong_length = || Malformed::length(length);
    let (&[bits, _, p0, p1, p2, p3, v0, v1, v2, v3], prefix) =
        data.split_first_chunk::<10>().ok_or_else(wrong_length)?;
    let address = <[u8; 16]>::try_from(prefix).map_err(|_| wrong_length())?;
    let malformed = |what| Malformed {
        what,
        value: bits.into(),
    };
    let prefix = Ipv6Net::new(Ipv6Addr::from(address), bits).map_err(|_| malformed("length of a prefix"))?;
    if prefix.trunc() != prefix {
        return Err(malformed("set bits behind length of a prefix"));
    }
    Ok(PrefixLifetimes {
        prefix,
        preferred: u32::from_be_bytes([p0, p1, p2, p3]),
        valid: u32::from_be_bytes([v0, v1, v2, v3]),
    })
}

/// The data of the option.
pub(super) fn data(lifetimes: &PrefixLifetimes) -> Vec<u8> {
    let PrefixLifetimes {
        prefix,
        preferred,
        valid,
    } = lifetimes;
    VENDOR
        .to_be_bytes()
        .into_iter()
        .chain([SUB_TYPE, VERSION, prefix.prefix_len(), 0])
        .chain(preferred.to_be_bytes())
        .chain(valid.to_be_bytes())
        .chain(prefix.network().octets())
        .collect()
}
