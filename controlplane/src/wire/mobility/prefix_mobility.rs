//! The Prefix Mobility option: a Vendor-Specific Mobility Option (RFC 5094 section 3) of Kedge's own.
//!
//! In the answer of a CMD to the registration of a node, once for each of its prefixes of which the CMD has more to say
//! than a Previous MAAR option can.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//!                                 |   Type = 19   |  Length = 32  |
//! |                       Vendor ID = 32473                       |
//! | Sub-Type = 5  |  Version = 0  |     Kind      | Prefix Length |
//! |                          Prefix (16)                          |
//! |                           Bound (8)                           |
//! ```
//!
//! Kind 1: the prefix has ended, and Bound is 0. Kind 2: it is tunnelled, and when it has carried so many octets the MAAR
//! shall ask to anchor it. Kind 3: in so many seconds the MAAR shall give it up.

use std::net::Ipv6Addr;

use ipnet::Ipv6Net;

use super::vendor::{Malformed, VENDOR};
use super::{PrefixMobility, PrefixMobilityKind};

/// Sub-type of this option among those of the vendor.
pub(super) const SUB_TYPE: u8 = 5;
/// Version of the layout behind it.
pub(super) const VERSION: u8 = 0;

const ENDED: u8 = 1;
const DETOUR_LIMIT: u8 = 2;
const ENDS_AFTER: u8 = 3;

/// Reads what is behind sub-type and version.
pub(super) fn parse(data: &[u8], length: u64) -> Result<PrefixMobility, Malformed> {
    let data = <[u8; 26]>::try_from(data).map_err(|_| Malformed::length(length))?;
    let [kind, prefix_length, rest @ ..] = data;
    let (address, octets) = rest.split_at(16);
    let (Ok(address), Ok(octets)) = (<[u8; 16]>::try_from(address), <[u8; 8]>::try_from(octets)) else {
        return Err(Malformed::length(length));
    };
    let malformed = |what| Malformed {
        what,
        value: prefix_length.into(),
    };
    let prefix = Ipv6Net::new(Ipv6Addr::from(address), prefix_length);
    let prefix = prefix.map_err(|_| malformed("prefix length"))?;
    if prefix.network() != prefix.addr() {
        return Err(malformed("set bits behind prefix length"));
    }
    let bound = u64::from_be_bytes(octets);
    let kind = match kind {
        ENDED => PrefixMobilityKind::Ended,
        DETOUR_LIMIT => PrefixMobilityKind::DetourLimit { octets: bound },
        ENDS_AFTER => PrefixMobilityKind::EndsAfter { seconds: bound },
        other => {
            return Err(Malformed {
                what: "prefix mobility",
                value: other.into(),
            });
        }
    };
    Ok(PrefixMobility { prefix, kind })
}

/// The data of the option; `prefix` has no bits set behind its length.
pub(super) fn data(mobility: &PrefixMobility) -> Vec<u8> {
    let (kind, bound) = match mobility.kind {
        PrefixMobilityKind::Ended => (ENDED, 0),
        PrefixMobilityKind::DetourLimit { octets } => (DETOUR_LIMIT, octets),
        PrefixMobilityKind::EndsAfter { seconds } => (ENDS_AFTER, seconds),
    };
    let prefix = mobility.prefix;
    VENDOR
        .to_be_bytes()
        .into_iter()
        .chain([SUB_TYPE, VERSION, kind, prefix.prefix_len()])
        .chain(prefix.network().octets())
        .chain(bound.to_be_bytes())
        .collect()
}
