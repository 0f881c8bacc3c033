//! The Attachment Time option: a Vendor-Specific Mobility Option (RFC 5094 section 3) of Kedge's own.
//!
//! In an update of a DPN or a MAAR about a node that has attached: when that was, in the form of the Timestamp option. An
//! update that is sent again, or late, has a Timestamp of its own (RFC 5213 section 5.5), which makes it newer than whatever the
//! node has done since. By this one it is known for what it is.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//!                                 |   Type = 19   |  Length = 14  |
//! |                       Vendor ID = 32473                       |
//! | Sub-Type = 8  |  Version = 0  |                               |
//! |             Time (8)                                          |
//! |                               |
//! ```

use super::vendor::{Malformed, VENDOR};

/// Sub-type of this option among those of the vendor.
pub(super) const SUB_TYPE: u8 = 8;
/// Version of the layout behind it.
pub(super) const VERSION: u8 = 0;

/// Reads what is behind sub-type and version.
pub(super) fn parse(data: &[u8], length: u64) -> Result<u64, Malformed> {
    let time = <[u8; 8]>::try_from(data).map_err(|_| Malformed::length(length))?;
    Ok(u64::from_be_bytes(time))
}

/// The data of the option.
pub(super) fn data(time: u64) -> Vec<u8> {
    let vendor = VENDOR.to_be_bytes().into_iter();
    vendor
        .chain([SUB_TYPE, VERSION])
        .chain(time.to_be_bytes())
        .collect()
}
