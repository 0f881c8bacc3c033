//! DHCPv6 messages as far as prefix delegation needs them (RFC 8415 sections 8, 9 and 21; RFC 6603).
//!
//! Options that are not named here are skipped (RFC 8415 section 16). The crate `dhcproto` was looked at: it has no
//! way to read the message that a relay forwards, it goes on at the wrong octet after an option of fixed length that
//! has another one, and what follows a bad option is lost without a word.

mod duid;
mod emit;
mod message;
mod parse;
mod relay;

pub use duid::{Duid, DuidError};
pub use message::{
    Authentication, DelegatedPrefix, IdentityAssociation, Message, MessageType, OtherAssociation, StatusCode,
    option, status,
};
pub use relay::{HOP_COUNT_LIMIT, Hop, Packet, Relay};

/// UDP port of clients (RFC 8415 section 7.2).
pub const CLIENT_PORT: u16 = 546;
/// UDP port of servers and relays (RFC 8415 section 7.2).
pub const SERVER_PORT: u16 = 547;
/// All relays and servers on the link (RFC 8415 section 7.1).
pub const ALL_RELAYS_AND_SERVERS: std::net::Ipv6Addr = std::net::Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
/// A lifetime that does not end (RFC 8415 section 7.7).
pub const INFINITY: u32 = u32::MAX;

/// Why octets are no message, or a message cannot be written as octets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// It ends within its header.
    #[error("{octets} octets: the header has {needed}")]
    Header {
        /// How many there are.
        octets: usize,
        /// How many there have to be.
        needed: usize,
    },
    /// None that is known here.
    #[error("message type {0} is not known")]
    MessageType(u8),
    /// An option ends behind the end of what it is in.
    #[error("option {option}: it says {length} octets, {left} are left")]
    Option {
        /// Its code.
        option: u16,
        /// What it says.
        length: usize,
        /// What there is.
        left: usize,
    },
    /// Fewer octets than the head of an option.
    #[error("{octets} octets are left where an option should begin")]
    Remainder {
        /// How many.
        octets: usize,
    },
    /// An option has a length that it cannot have.
    #[error("option {option}: {length} octets; it has {expected}")]
    Length {
        /// Its code.
        option: u16,
        /// The length it has.
        length: usize,
        /// What would be right.
        expected: &'static str,
    },
    /// An option that may be there once.
    #[error("option {option} is there twice")]
    Twice {
        /// Its code.
        option: u16,
    },
    /// A prefix length above 128.
    #[error("prefix length {0}: it is at most 128")]
    PrefixLength(u8),
    /// An excluded prefix is not within its prefix (RFC 6603 section 4.2).
    #[error(
        "excluded prefix length {excluded} in a prefix of length {delegated}: it has to be longer, and at most 128"
    )]
    Exclude {
        /// Its length.
        excluded: u8,
        /// Length of the prefix it is in.
        delegated: u8,
    },
    /// A DUID that cannot be one.
    #[error("option {option}: {source}")]
    Duid {
        /// Client or Server Identifier.
        option: u16,
        /// Why not.
        source: DuidError,
    },
    /// An option that the message needs is not there.
    #[error("option {option} is missing")]
    Missing {
        /// Its code.
        option: u16,
    },
    /// What is to be written does not fit into an option.
    #[error("option {option}: {length} octets do not fit into it")]
    TooLong {
        /// Its code.
        option: u16,
        /// How many there are.
        length: usize,
    },
}
