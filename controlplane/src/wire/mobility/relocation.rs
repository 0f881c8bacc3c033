//! The Anchor Relocation option: a Vendor-Specific Mobility Option (RFC 5094 section 3) of Kedge's own.
//!
//! In an update of the CMD to a MAAR, about the one Home Network Prefix of the update.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//!                                 |   Type = 19   |  Length = 24  |
//! |                       Vendor ID = 32473                       |
//! | Sub-Type = 2  |  Version = 0  |     Step      |    Reserved   |
//! |               IPv6 address of the other anchor (16)           |
//! ```

use std::net::Ipv6Addr;

use super::vendor::{Malformed, VENDOR};
use super::{AnchorRelocation, RelocationStep};

/// Sub-type of this option among those of the vendor.
pub(super) const SUB_TYPE: u8 = 2;
/// Version of the layout behind it.
pub(super) const VERSION: u8 = 0;

const TAKE: u8 = 1;
const YIELD: u8 = 2;
const PREPARE: u8 = 3;

/// Reads what is behind sub-type and version.
pub(super) fn parse(data: &[u8], length: u64) -> Result<AnchorRelocation, Malformed> {
    let Some(([step, _], address)) = data.split_first_chunk::<2>() else {
        return Err(Malformed::length(length));
    };
    let anchor = <[u8; 16]>::try_from(address).map_err(|_| Malformed::length(length))?;
    let step = match *step {
        TAKE => RelocationStep::Take,
        YIELD => RelocationStep::Yield,
        PREPARE => RelocationStep::Prepare,
        other => {
            return Err(Malformed {
                what: "relocation step",
                value: other.into(),
            });
        }
    };
    let anchor = Ipv6Addr::from(anchor);
    Ok(AnchorRelocation { step, anchor })
}

/// The data of the option.
pub(super) fn data(relocation: &AnchorRelocation) -> Vec<u8> {
    let step = match relocation.step {
        RelocationStep::Take => TAKE,
        RelocationStep::Yield => YIELD,
        RelocationStep::Prepare => PREPARE,
    };
    VENDOR
        .to_be_bytes()
        .into_iter()
        .chain([SUB_TYPE, VERSION, step, 0])
        .chain(relocation.anchor.octets())
        .collect()
}
