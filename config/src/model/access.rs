//! `[access]`: what nodes are told on their links.

use std::net::Ipv6Addr;
use std::path::PathBuf;

use serde::Deserialize;

/// `[access]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Access {
    /// Link-local address of the router, the same on every MAAR of the domain (RFC 6543). Default `fe80::200:5eff:fe00:5213`.
    pub router_link_local_address: Ipv6Addr,
    /// Link-layer address of the router on every access link (RFC 6543). Default `00:00:5e:00:52:13`.
    pub router_link_layer_address: String,
    /// TOML file of `[[node]]` entries: `identifier`, `link_layer_address`. Absent = none.
    pub policy_file: Option<PathBuf>,
    /// Nodes that the policy file does not name. Default `accept`: known by their link-layer address.
    pub unknown_nodes: UnknownNodes,
    /// Preferred lifetime of a node's current prefix, seconds, 1..=4294967295. Default 1800.
    pub preferred_lifetime: u32,
    /// Valid lifetime of every prefix, seconds, `preferred_lifetime`..=4294967295. Default 7200.
    pub valid_lifetime: u32,
    /// Router lifetime, seconds, 1..=9000. Default 1800.
    pub router_lifetime: u16,
    /// Seconds between unsolicited advertisements to each node, 4..=1800. Default 60.
    pub advertisement_interval: u16,
    /// Access Technology Type of a PBU, 1..=255 (RFC 5213 section 8.5). Default 4, IEEE 802.11.
    pub access_technology_type: u8,
}

/// `access.unknown_nodes`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnknownNodes {
    /// Serve them, identified by their link-layer address.
    #[default]
    Accept,
    /// Ignore them, counted.
    Refuse,
}

impl Default for Access {
    fn default() -> Self {
        Self {
            router_link_local_address: Ipv6Addr::new(0xfe80, 0, 0, 0, 0x200, 0x5eff, 0xfe00, 0x5213),
            router_link_layer_address: "00:00:5e:00:52:13".to_owned(),
            policy_file: None,
            unknown_nodes: UnknownNodes::Accept,
            preferred_lifetime: 1800,
            valid_lifetime: 7200,
            router_lifetime: 1800,
            advertisement_interval: 60,
            access_technology_type: 4,
        }
    }
}
