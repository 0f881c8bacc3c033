//! Why transactions are refused.

use std::net::Ipv6Addr;
use std::num::NonZeroU32;

use ipnet::Ipv6Net;

use super::super::family::{shown, shown_prefix};
use super::entries::MAXIMUM_HOLD_MS;

/// Why a transaction was refused; nothing of it was carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// A port that the configuration does not name.
    #[error("{entry}: there is no port {port:?}")]
    UnknownPort {
        /// Which entry.
        entry: String,
        /// The port named.
        port: String,
    },
    /// A tunnel that would not be there.
    #[error("{entry}: there is no tunnel {tunnel}")]
    UnknownTunnel {
        /// Which entry.
        entry: String,
        /// The tunnel named.
        tunnel: u32,
    },
    /// A prefix with bits set behind its length.
    #[error("prefix {0}: has host bits set")]
    HostBits(Ipv6Net),
    /// Deletion of what is not there.
    #[error("{0} cannot be deleted: it is not there")]
    Absent(String),
    /// A node on the core side, or a router on the access side.
    #[error("{entry}: port {port:?} is on the wrong side for this")]
    WrongSide {
        /// Which entry.
        entry: String,
        /// The port named.
        port: String,
    },
    /// A link-layer address that no single node can have.
    #[error("{entry}: {address:02x?} is no unicast link-layer address")]
    LinkLayerAddress {
        /// Which entry.
        entry: String,
        /// The address.
        address: [u8; 6],
    },
    /// An address that cannot be used there.
    #[error("{entry}: {} cannot be used: {why}", shown(*address))]
    Address {
        /// Which entry.
        entry: String,
        /// The address.
        address: Ipv6Addr,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Two tunnels with the same peer.
    #[error("tunnels {first} and {second} both lead to {}", shown(*remote))]
    SamePeer {
        /// The lower id.
        first: u32,
        /// The higher id.
        second: u32,
        /// The peer.
        remote: Ipv6Addr,
    },
    /// More than the data plane was told to take.
    #[error("{entry}: there would be {count} {of}, and dataplane.maximum_{of} = {most}")]
    TooMany {
        /// The first entry that there is no room for.
        entry: String,
        /// What there would be too many of.
        of: &'static str,
        /// How many there would be.
        count: usize,
        /// How many there may be.
        most: usize,
    },
    /// No memory for so many entries of this shape.
    #[error("the transaction has {changes} changes, and {full}")]
    Full {
        /// How many changes it has.
        changes: usize,
        /// What is full.
        full: crate::fib::Full,
    },
    /// The same entry twice in one transaction.
    #[error("{0} is there twice in one transaction")]
    Twice(String),
    /// Two tunnels with the same TEID from the same peer.
    #[error("tunnels {first} and {second} both have TEID {teid:#010x} from {}", shown(*remote))]
    SameTeid {
        /// The lower id.
        first: u32,
        /// The higher id.
        second: u32,
        /// Of what comes in.
        teid: NonZeroU32,
        /// The peer.
        remote: Ipv6Addr,
    },
    /// Two GRE tunnels with the same key, or none, from the same peer.
    #[error("tunnels {first} and {second} both have GRE {} from {remote}", shown_key(*key))]
    SameGreKey {
        /// The lower id.
        first: u32,
        /// The higher id.
        second: u32,
        /// Of what comes in.
        key: Option<u32>,
        /// The peer.
        remote: Ipv6Addr,
    },
    /// Sequence numbers that several workers would have to share.
    #[error("tunnel {tunnel}: sequence numbers need dataplane.workers to be one, and there are {workers}")]
    SequenceNumbers {
        /// Which tunnel.
        tunnel: u32,
        /// How many workers there are.
        workers: usize,
    },
    /// A hold that is longer than any move.
    #[error("prefix {prefix}: maximum_ms = {maximum_ms}: must be 0 to {MAXIMUM_HOLD_MS}")]
    Hold {
        /// Which entry.
        prefix: Ipv6Net,
        /// How long.
        maximum_ms: u32,
    },
    /// An IPv4 prefix of a node, where none is carried.
    #[error("prefix {}: dataplane.inner_ipv4 = \"refuse\": no IPv4 is carried in tunnels", shown_prefix(*.0))]
    Ipv4Node(Ipv6Net),
    /// An IPv4 prefix of a node on a link.
    #[error("prefix {}: IPv4 is carried in tunnels, and not on access links", shown_prefix(*.0))]
    Ipv4OnLink(Ipv6Net),
    /// A filter that cannot be.
    #[error("filter {filter}: {value}: {why}")]
    Filter {
        /// Its id.
        filter: u64,
        /// What is wrong.
        value: String,
        /// What is wrong with that.
        why: &'static str,
    },
    /// A meter that cannot be.
    #[error("meter {meter}: {value}: {why}")]
    Meter {
        /// Its id.
        meter: u64,
        /// What is wrong.
        value: String,
        /// What is wrong with that.
        why: &'static str,
    },
    /// A filter of a prefix that would not be there.
    #[error("filter {filter}: there is no prefix {prefix}")]
    UnknownPrefix {
        /// Its id.
        filter: u64,
        /// Its scope.
        prefix: Ipv6Net,
    },
    /// A meter that would not be there.
    #[error("filter {filter}: there is no meter {meter}")]
    UnknownMeter {
        /// The filter's id.
        filter: u64,
        /// The meter named.
        meter: u64,
    },
    /// No classifier can be made of the filters of the whole domain.
    #[error("{0}")]
    Classifier(#[from] crate::flow::BuildError),
    /// A wait for something else than a link or a tunnel.
    #[error("prefix {0}: after.then must be deliver or tunnel")]
    Then(Ipv6Net),
    /// Packets that would go back to where they come from.
    #[error("prefix {prefix}: its packets come out of tunnel {tunnel} and cannot go into it")]
    Back {
        /// The prefix.
        prefix: Ipv6Net,
        /// Both ways.
        tunnel: u32,
    },
    /// A tunnel id that means none.
    #[error("0 is no tunnel id")]
    TunnelZero,
}

fn shown_key(key: Option<u32>) -> String {
    key.map_or_else(|| "without a key".to_owned(), |key| format!("key {key:#010x}"))
}
