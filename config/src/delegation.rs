//! `[maar.delegation]` and `[cmd.delegation]`: DHCPv6 prefix delegation (RFC 8415).

use std::net::Ipv6Addr;

use ipnet::Ipv6Net;
use serde::Deserialize;

/// `[maar.delegation]`: the MAAR has its pools delegated, beside those of `maar.prefix_pools`, which may be empty then.
///
/// Exactly one of `port` and `server` is there.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaarDelegation {
    /// A core port with an exception interface: servers and relays on that link are asked.
    pub port: Option<String>,
    /// A server anywhere, such as the CMD: it is asked by Relay-forwards from `node.address`.
    pub server: Option<Ipv6Addr>,
    /// Pools that are wanted, 0..=64; 0: only single prefixes, as relocation needs them. Default 1.
    #[serde(default = "default_pools")]
    pub pools: u32,
    /// Length that a pool should have, 16..=64; a server may give another one. Absent: as the server likes.
    pub length: Option<u8>,
    /// Whether two messages may do instead of four. Default true.
    #[serde(default = "default_true")]
    pub rapid_commit: bool,
    /// Whether the server may have its prefixes renewed at any time (RFC 8415 section 20.4). Default true.
    #[serde(default = "default_true")]
    pub reconfigure: bool,
}

/// `[cmd.delegation]`: a delegating server, for MAARs and for whoever else asks.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CmdDelegation {
    /// Interfaces whose links are served; distinct. Whoever is on such a link is trusted: DHCPv6 knows nobody. Default
    /// none.
    #[serde(default)]
    pub interfaces: Vec<String>,
    /// Addresses of relays that are heard, besides the MAARs of `cmd.known_maar`; distinct, unicast. Default none.
    #[serde(default)]
    pub relays: Vec<Ipv6Addr>,
    /// What is delegated; at least one.
    #[serde(rename = "pool")]
    pub pools: Vec<DelegationPool>,
    /// Seconds for which a delegated prefix is preferred, 1..=4294967295. Default 1800.
    #[serde(default = "default_preferred_lifetime")]
    pub preferred_lifetime: u32,
    /// Seconds for which it is valid, `preferred_lifetime`..=4294967295, which is for ever. Default 3600.
    #[serde(default = "default_valid_lifetime")]
    pub valid_lifetime: u32,
    /// Whether a Solicit that allows it is answered with a Reply. Default true.
    #[serde(default = "default_true")]
    pub rapid_commit: bool,
    /// Among several servers clients take that with the highest, and 255 at once. Default 255.
    #[serde(default = "default_preference")]
    pub preference: u8,
    /// Prefixes that one client may take, 1..=65535 (RFC 8987 G-6). Moved ones are not counted. Default 8.
    #[serde(default = "default_maximum_per_client")]
    pub maximum_per_client: u32,
    /// Prefixes that may be delegated in all, 1..=10000000. Default 100000.
    #[serde(default = "default_maximum_delegations")]
    pub maximum_delegations: u32,
}

/// `[[cmd.delegation.pool]]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DelegationPool {
    /// All prefixes of the pool together; without host bits, disjoint from other pools.
    pub prefix: Ipv6Net,
    /// Length of each delegated prefix, from that of `prefix` to 63 more, 16..=64.
    pub delegated_length: u8,
    /// The last part of this length of each one stays with the server, where the client can take that (RFC 6603);
    /// `delegated_length` + 1..=128. Absent: nothing does.
    pub exclude_length: Option<u8>,
    /// Nobody gets one by asking; they are moved to clients by the control plane alone. Default false.
    #[serde(default)]
    pub by_move_only: bool,
}

/// `[maar.mobile_routers]`: nodes that are routers get a prefix for the network behind them, which moves with them (RFC 7148).
/// They ask by DHCPv6 on the access link (RFC 8415), of whichever MAAR serves them: all MAARs of a domain should have this.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MobileRouters {
    /// Pools of which these prefixes are given out; routed to this node as `maar.prefix_pools` are, disjoint from those, and
    /// known to the CMD as they are; /16..=/63.
    pub pools: Vec<Ipv6Net>,
    /// Length of each one, from those of the pools to 63, and at least 33. Default 56.
    #[serde(default = "default_delegated_length")]
    pub delegated_length: u8,
    /// Seconds for which one is preferred, 1..=4294967295. Default 1800.
    #[serde(default = "default_preferred_lifetime")]
    pub preferred_lifetime: u32,
    /// Seconds for which it is valid, `preferred_lifetime`..=4294967295, which is as long as the session. A router that
    /// does not renew it in time loses it. Default 3600.
    #[serde(default = "default_valid_lifetime")]
    pub valid_lifetime: u32,
    /// Whether two messages may do instead of four. Default true.
    #[serde(default = "default_true")]
    pub rapid_commit: bool,
    /// DHCPv6 messages of one node that are answered in each second, twice as many at once, 1..=1000; the others are not heard.
    /// Default 5.
    #[serde(default = "default_messages_per_second")]
    pub messages_per_second: u32,
}

fn default_messages_per_second() -> u32 {
    5
}

fn default_delegated_length() -> u8 {
    56
}

fn default_pools() -> u32 {
    1
}

fn default_true() -> bool {
    true
}

fn default_preferred_lifetime() -> u32 {
    1800
}

fn default_valid_lifetime() -> u32 {
    3600
}

fn default_preference() -> u8 {
    255
}

fn default_maximum_per_client() -> u32 {
    8
}

fn default_maximum_delegations() -> u32 {
    100_000
}
