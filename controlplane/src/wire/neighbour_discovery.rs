//! Router Solicitation and Router Advertisement (RFC 4861 section 4, RFC 4862).
//!
//! [`RouterSolicitation`] and [`RouterAdvertisement`] each have a `parse` that
//! makes the checks of RFC 4861 section 6.1, and an `emit` with the checksum.

use std::net::Ipv6Addr;
use std::time::Duration;

use ipnet::Ipv6Net;

use crate::identity::LinkLayerAddress;

mod advertisement;
mod message;
mod solicitation;
#[cfg(test)]
mod tests;

pub use advertisement::EmitError;
pub use message::{HOP_LIMIT, NEXT_HEADER, ROUTER_ADVERTISEMENT, ROUTER_SOLICITATION};

/// A valid Router Solicitation (RFC 4861 section 6.1.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouterSolicitation {
    /// Source link-layer address option, absent where the source is `::`.
    pub source_link_layer_address: Option<LinkLayerAddress>,
}

/// A Router Advertisement (RFC 4861 section 4.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouterAdvertisement {
    /// 0 = unspecified.
    pub current_hop_limit: u8,
    /// How long this is a default router (0 = not one); whole seconds, 0..=65535
    /// (RFC 8319, which raised the 9000 of RFC 4861 section 6.2.1).
    pub router_lifetime: Duration,
    /// Whole milliseconds, 0 = unspecified.
    pub reachable_time: Duration,
    /// Whole milliseconds, 0 = unspecified.
    pub retransmit_timer: Duration,
    /// Option 1.
    pub source_link_layer_address: Option<LinkLayerAddress>,
    /// Option 5, octets.
    pub mtu: Option<u32>,
    /// Option 3, repeatable.
    pub prefixes: Vec<PrefixInformation>,
}

/// Prefix Information option (RFC 4861 section 4.6.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrefixInformation {
    /// The prefix.
    pub prefix: Ipv6Net,
    /// L flag.
    pub on_link: bool,
    /// A flag.
    pub autonomous: bool,
    /// Whole seconds; `u32::MAX` = infinite.
    pub valid_lifetime: u32,
    /// Whole seconds, at most `valid_lifetime`. 0 deprecates.
    pub preferred_lifetime: u32,
}

/// Why a Router Solicitation or Advertisement was refused (RFC 4861 sections 6.1.1, 6.1.2).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NeighbourDiscoveryError {
    /// Shorter than the fixed part.
    #[error("truncated: {octets} octets, {needed} needed")]
    Truncated {
        /// What there was.
        octets: usize,
        /// What is needed.
        needed: usize,
    },
    /// Came from another link, or may have.
    #[error("hop limit {0}, must be 255")]
    HopLimit(u8),
    /// Not the ICMPv6 type that was to be read.
    #[error("ICMPv6 type {found}, code {code} is not type {expected}, code 0")]
    Type {
        /// In the message.
        found: u8,
        /// In the message.
        code: u8,
        /// 133 or 134.
        expected: u8,
    },
    /// The checksum does not match.
    #[error("checksum {found:#06x} is wrong, {expected:#06x} expected")]
    Checksum {
        /// In the message.
        found: u16,
        /// Computed.
        expected: u16,
    },
    /// An option of length zero, or one that runs past the end.
    #[error("option {option} at offset {offset} has length {length}")]
    Option {
        /// Its type.
        option: u8,
        /// From the start of the message.
        offset: usize,
        /// Its length field, units of 8 octets.
        length: u8,
    },
    /// A solicitation from `::` with a source link-layer address option.
    #[error("the source {0} does not go with a source link-layer address option")]
    Source(Ipv6Addr),
    /// An advertisement from an address that is not link-local.
    #[error("the source {0} of an advertisement is not link-local")]
    SourceNotLinkLocal(Ipv6Addr),
}
