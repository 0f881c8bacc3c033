//! What a MAAR is told.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;

use ipnet::Ipv6Net;
use kedge_config::{Access, Config, FilterRule, Meter, Timers, TunnelType};

use super::network::MobileRouters;
use crate::delegation::wire::Duid;

/// What a MAAR is told by its configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// `node.address`.
    pub address: Ipv6Addr,
    /// `maar.cmd`.
    pub cmds: Vec<Ipv6Addr>,
    /// `maar.prefix_pools`.
    pub prefix_pools: Vec<Ipv6Net>,
    /// `maar.mobile_routers`.
    pub mobile_routers: Option<MobileRouters>,
    /// `maar.peers`.
    pub peers: Option<Vec<Ipv6Addr>>,
    /// `maar.tunnel`.
    pub tunnel: TunnelType,
    /// `maar.gtpu_ipv4_address`.
    pub gtpu_ipv4_address: Option<Ipv4Addr>,
    /// `maar.ipv6_pools`, of which no node gets a prefix, nor tells of one from elsewhere.
    pub tunnelled_pools: Vec<Ipv6Net>,
    /// TEIDs and keys of `[[maar.ipv4]]` and `[[maar.ipv6]]`, which no node gets.
    pub reserved_teids: Vec<NonZeroU32>,
    /// `maar.dpn`: who may register nodes of theirs here.
    pub dpns: Vec<Ipv6Addr>,
    /// `maar.maximum_nodes`.
    pub maximum_nodes: usize,
    /// `access`.
    pub access: Access,
    /// `timers`.
    pub timers: Timers,
    /// `filter`.
    pub filters: Vec<FilterRule>,
    /// `meter`.
    pub meters: Vec<Meter>,
    /// Routes to prefixes are announced, and [`super::Input::Announced`] tells when. Without that nothing is relocated here:
    /// the routes would not follow.
    pub announces: bool,
}

impl Settings {
    /// The settings of a node of role `maar`; `None` for another role.
    #[must_use]
    pub fn from_config(config: &Config) -> Option<Self> {
        let maar = config.maar.as_ref()?;
        Some(Self {
            address: config.node.address,
            cmds: maar.cmd.clone(),
            prefix_pools: maar.prefix_pools.clone(),
            mobile_routers: mobile_routers(config),
            peers: maar.peers.clone(),
            tunnel: maar.tunnel,
            gtpu_ipv4_address: maar.gtpu_ipv4_address,
            tunnelled_pools: maar.ipv6_pools.clone(),
            reserved_teids: maar
                .tunnel_ends()
                .filter_map(|it| NonZeroU32::new(it.local_id?))
                .collect(),
            dpns: maar.dpns.iter().map(|dpn| dpn.address).collect(),
            maximum_nodes: usize::try_from(maar.maximum_nodes).unwrap_or(usize::MAX),
            access: config.access.clone(),
            timers: config.timers.clone(),
            filters: config.filters.clone(),
            meters: config.meters.clone(),
            announces: config.announce.is_some(),
        })
    }

    /// The first of `maar.ipv6_pools` that a prefix has to do with: what is of them is behind tunnels of the file, or nowhere.
    pub(super) fn tunnelled_pool(&self, prefix: Ipv6Net) -> Option<Ipv6Net> {
        let meets = |pool: &&Ipv6Net| pool.contains(&prefix) || prefix.contains(*pool);
        self.tunnelled_pools.iter().find(meets).copied()
    }

    /// Whether there is one.
    pub(super) fn is_tunnelled(&self, prefix: Ipv6Net) -> bool {
        self.tunnelled_pool(prefix).is_some()
    }
}

fn mobile_routers(config: &Config) -> Option<MobileRouters> {
    let routers = config.maar.as_ref()?.mobile_routers.as_ref()?;
    let router = config.access.router_link_layer_address.parse().ok()?;
    Some(MobileRouters {
        server: Duid::link_layer(router),
        pools: routers.pools.clone(),
        delegated_length: routers.delegated_length,
        preferred_lifetime: routers.preferred_lifetime,
        valid_lifetime: routers.valid_lifetime,
        rapid_commit: routers.rapid_commit,
    })
}
