//! Bindings to forwarding state, derived one way, in this one place.
//!
//! [`desired`] is a function of the configuration, of what the MAAR's state
//! machine knows, of the neighbours the kernel has resolved, and of whether the
//! data plane takes IPv4 of nodes. What a data
//! plane lacks of it is a difference of two values, so a restart of either
//! process needs no procedure of its own.

mod dpn;
mod flows;
mod limits;
mod tunnelled;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;

use ipnet::Ipv6Net;
use kedge_config::{Config, Side};
use kedge_dataplane_api::model::{
    DiscardReason, Dscp, Encapsulation, Gre, GtpU, LinkLayerAddress, NextHop, PduSession, PrefixEntry,
    Sender, Source, SourcePath, Tables, Tunnel,
};

use crate::maar::{Adopted, Arriving, Node, NodeTunnel, Phase, State};
use crate::wire::mobility::TunnelType;

pub use dpn::desired_of_dpn;
pub(crate) use flows::{
    beyond_limits, ids as filter_ids, meter_of, meters, on_detours, places_of as places, rules, too_many,
};
pub use limits::{LeftOut, Limit, MOST_OF_A_PREFIX};

/// How long packets wait for a node is the data plane's to say (`dataplane.hold.maximum_ms`).
const HOLD: NextHop = NextHop::Hold { maximum_ms: 0 };

/// What a data plane must hold, and what it has no room for.
#[derive(Clone, Debug, Default)]
pub struct Derived {
    /// No more than its limits allow.
    pub tables: Tables,
    /// What would be in them, too.
    pub left_out: LeftOut,
}

/// Everything that the data plane of this MAAR must hold. `inner_ipv4`: whether it takes IPv4 prefixes of nodes; where it does
/// not, nothing that is there for them alone is in the tables.
#[must_use]
pub fn desired(
    config: &Config,
    state: &State,
    neighbours: &BTreeMap<(String, Ipv6Addr), LinkLayerAddress>,
    inner_ipv4: bool,
) -> Derived {
    let mut tables = Tables {
        neighbours: neighbours.clone(),
        ..Tables::default()
    };
    infrastructure(config, &mut tables);
    pools(config, state, &mut tables);
    for node in state.nodes.values().filter(|node| node.registered) {
        node_prefixes(config, state, node, &mut tables);
    }
    // After those of nodes: of two with the same prefix, which cannot be but for a changed file, that of the file is the newer word.
    tunnelled::put(config, state, inner_ipv4, &mut tables);
    let mut left_out = LeftOut::default();
    let of_no_node = || {
        let mut tables = Tables::default();
        infrastructure(config, &mut tables);
        pools(config, state, &mut tables);
        tunnelled::put(config, state, inner_ipv4, &mut tables);
        tables
    };
    limits::fit_prefixes(config, &mut tables, of_no_node, &mut left_out);
    limits::fit_tunnels(config, &mut tables, &mut left_out);
    flows::put(config, state, &mut tables, &mut left_out);
    Derived { tables, left_out }
}

/// Every address that a GTP-U tunnel leads to.
#[must_use]
pub(crate) fn gtpu_peers(tables: &Tables) -> BTreeSet<Ipv6Addr> {
    let gtpu = |tunnel: &&Tunnel| matches!(tunnel.encapsulation, Encapsulation::GtpU(_));
    let tunnels = tables.tunnels.values().filter(gtpu);
    tunnels.map(|tunnel| tunnel.remote).collect()
}

/// What does not depend on any node: own addresses, connected prefixes, routes.
fn infrastructure(config: &Config, tables: &mut Tables) {
    tables.local_addresses.insert(config.node.address);
    let ipv4 = config.maar.as_ref().and_then(|maar| maar.gtpu_ipv4_address);
    tables
        .local_addresses
        .extend(ipv4.map(|address| address.to_ipv6_mapped()));
    for port in &config.ports {
        for address in port
            .addresses
            .iter()
            .filter(|address| !address.addr().is_unicast_link_local())
        {
            tables.local_addresses.insert(address.addr());
            if port.side == Side::Core && address.prefix_len() < 128 {
                put(
                    tables,
                    address.trunc(),
                    NextHop::OnLink {
                        port: port.name.clone(),
                    },
                );
            }
        }
    }
    for route in &config.routes {
        put(
            tables,
            route.prefix,
            NextHop::Gateway {
                port: route.port.clone(),
                address: route.gateway,
            },
        );
    }
}

/// The pools as a whole: what of them is no node's leads nowhere.
fn pools(config: &Config, state: &State, tables: &mut Tables) {
    let of_the_file: Vec<Ipv6Net> = tunnelled::prefixes(config).collect();
    let delegated = state.delegated.iter().flatten().map(|pool| pool.prefix);
    // Servers do not know of prefixes of the file: it would be longer than one that it is in.
    let delegated = delegated.filter(|pool| !of_the_file.iter().any(|prefix| prefix.contains(pool)));
    for pool in config
        .maar
        .iter()
        .flat_map(kedge_config::Maar::pools)
        .chain(delegated)
    {
        put(tables, pool, NextHop::Discard(DiscardReason::Unallocated));
    }
}

/// The prefixes of one registered node.
fn node_prefixes(config: &Config, state: &State, node: &Node, tables: &mut Tables) {
    match node.phase {
        Phase::Attached => {
            // Packets that went to where it was before, and come from there, are older than any other.
            let before = node
                .arriving
                .and_then(|it| Some((it, tunnel_to(config, state, node, it.from, tables)?)));
            let Some(reach) = Reach::of(config, state, node, tables) else {
                return;
            };
            let after = |waits: &dyn Fn(&Arriving) -> bool| match &before {
                Some((arriving, tunnel)) if waits(arriving) => NextHop::After {
                    tunnel: *tunnel,
                    maximum_ms: 0,
                    then: Box::new(reach.next_hop.clone()),
                },
                // They wait for its DPN to know of them.
                _ if node.dpn.is_some() && node.release_at.is_some() && holds(config) => HOLD,
                _ => reach.next_hop.clone(),
            };
            let entry = |path, next_hop| PrefixEntry {
                next_hop,
                source: reach.source(path),
            };
            tables.prefixes.insert(
                node.home_network_prefix,
                entry(SourcePath::Native, after(&|it| it.home)),
            );
            for adopted in &node.adopted {
                // Nothing comes from there any more in the end: a tunnel of the node's own has gone by then.
                let old = match adopted.is_coming() {
                    true => tunnel_to(config, state, node, adopted.from, tables),
                    false => None,
                };
                let entry = relocated(config, &reach, adopted, old, after(&|it| it.home));
                tables.prefixes.insert(adopted.prefix, entry);
            }
            // RFC 8885 section 3.3: what comes from an older prefix leaves through its anchor.
            for previous in &node.previous {
                if let Some(tunnel) = tunnel_to(config, state, node, previous.address, tables) {
                    let next_hop = after(&|it| it.from != previous.address);
                    tables
                        .prefixes
                        .insert(previous.prefix, entry(SourcePath::Tunnel(tunnel), next_hop));
                }
            }
        }
        Phase::Anchored { serving } => {
            if let Some(tunnel) = tunnel_to(config, state, node, serving, tables) {
                // They wait for the serving MAAR to know of them.
                let next_hop = match node.release_at {
                    // Where nothing is held, to wait is to lose.
                    Some(_) if holds(config) => HOLD,
                    _ => NextHop::Tunnel(tunnel),
                };
                for prefix in node.own_prefixes() {
                    // One that was yielded goes by way of who has it now, wherever the node is: that one waits for nobody.
                    let passed_on = state
                        .passed_on(&prefix)
                        .and_then(|to| tunnel_to(config, state, node, to, tables));
                    let next_hop = passed_on.map_or(next_hop.clone(), NextHop::Tunnel);
                    put(tables, prefix, next_hop);
                }
                for adopted in node.adopted.iter().filter(|it| it.is_coming()) {
                    // What is late there goes on from here.
                    tunnel_to(config, state, node, adopted.from, tables);
                }
                let reach = Reach::past(node, tunnel);
                for previous in &node.leaving {
                    if let Some(anchor) = tunnel_to(config, state, node, previous.address, tables) {
                        let entry = reach.of_anchor(anchor, next_hop.clone());
                        tables.prefixes.insert(previous.prefix, entry);
                    }
                }
            }
        }
        // RFC 8818 FM:6-1: the node is between two links, or not yet announced on this one.
        Phase::Detached | Phase::Registering => {
            let Some(reach) = Reach::of(config, state, node, tables) else {
                return;
            };
            // It comes home: what was tunnelled to where it was before comes back from there, ahead of the rest.
            let before = node.last_serving.filter(|_| node.phase == Phase::Registering);
            let next_hop = match before.and_then(|it| tunnel_to(config, state, node, it, tables)) {
                Some(tunnel) => NextHop::After {
                    tunnel,
                    maximum_ms: 0,
                    then: Box::new(reach.next_hop.clone()),
                },
                None => HOLD,
            };
            // What it sends until its link is really down is still its own.
            let detached = node.phase == Phase::Detached;
            let source = reach.source(SourcePath::Native).filter(|_| detached);
            for prefix in node.own_prefixes() {
                let (next_hop, source) = (next_hop.clone(), source.clone());
                tables.prefixes.insert(prefix, PrefixEntry { next_hop, source });
            }
            // What their anchors go on sending here waits too.
            for previous in &node.previous {
                if let Some(tunnel) = tunnel_to(config, state, node, previous.address, tables) {
                    tables
                        .prefixes
                        .insert(previous.prefix, reach.of_anchor(tunnel, HOLD));
                }
            }
        }
        Phase::Refused { .. } | Phase::Deregistering => {
            for prefix in node.own_prefixes() {
                put(tables, prefix, NextHop::Discard(DiscardReason::NodeAbsent));
            }
        }
    }
}

/// Where a node is, for its packets both ways: on a link, or behind the tunnel to its DPN.
struct Reach {
    next_hop: NextHop,
    sender: Sender,
}

impl Reach {
    /// Of a node that is here, or was until now. `None`: its DPN has no tunnel, which cannot be for long.
    fn of(config: &Config, state: &State, node: &Node, tables: &mut Tables) -> Option<Self> {
        let Some(dpn) = &node.dpn else {
            let (port, link_layer_address) = (node.port.clone(), node.link_layer_address.0);
            return Some(Self {
                next_hop: NextHop::Deliver {
                    port: port.clone(),
                    link_layer_address,
                },
                sender: Sender::Node {
                    port,
                    link_layer_address,
                },
            });
        };
        let tunnel = tunnel_to(config, state, node, dpn.address, tables)?;
        Some(Self {
            next_hop: NextHop::Tunnel(tunnel),
            sender: Sender::Tunnel(tunnel),
        })
    }

    /// Of a node that is elsewhere now, to which `tunnel` leads.
    fn past(node: &Node, tunnel: u32) -> Self {
        let sender = match node.port.as_str() {
            "" => Sender::Tunnel(tunnel),
            port => Sender::Node {
                port: port.to_owned(),
                link_layer_address: node.link_layer_address.0,
            },
        };
        let next_hop = NextHop::Tunnel(tunnel);
        Self { next_hop, sender }
    }

    /// For packets from the node. Nothing goes back to where it comes from.
    fn source(&self, path: SourcePath) -> Option<Source> {
        let sender = self.sender.clone();
        let back = matches!((&sender, path), (Sender::Tunnel(from), SourcePath::Tunnel(to)) if *from == to);
        (!back).then_some(Source { sender, path })
    }

    /// A prefix whose anchor sends its packets here, for a node that is not here.
    fn of_anchor(&self, anchor: u32, next_hop: NextHop) -> PrefixEntry {
        PrefixEntry {
            next_hop,
            source: self.source(SourcePath::Tunnel(anchor)),
        }
    }
}

/// A prefix that was relocated here, for a node that is here; `old` is the tunnel to where it was anchored
/// before, `settled` what becomes of its packets when nothing comes from there any more.
fn relocated(
    config: &Config,
    reach: &Reach,
    adopted: &Adopted,
    old: Option<u32>,
    settled: NextHop,
) -> PrefixEntry {
    let (asked, held) = (
        adopted.asked.is_some(),
        adopted.uplink_at.is_some() && holds(config),
    );
    let waits = adopted.is_coming() && settled == reach.next_hop;
    let next_hop = match old.filter(|_| waits) {
        Some(tunnel) => NextHop::After {
            tunnel,
            maximum_ms: adopted.wait_ms,
            then: Box::new(settled),
        },
        None => settled,
    };
    let path = match old.filter(|_| asked) {
        Some(tunnel) => SourcePath::Tunnel(tunnel),
        None => SourcePath::Native,
    };
    PrefixEntry {
        next_hop,
        // A packet whose source is not bound yet waits for that.
        source: reach.source(path).filter(|_| asked || !held),
    }
}

/// Whether the data plane of this configuration holds any packet.
fn holds(config: &Config) -> bool {
    let hold = config.dataplane.as_ref().map(|dataplane| &dataplane.hold);
    hold.is_none_or(|hold| hold.packets_per_prefix > 0)
}

/// The id of the tunnel for a node's packets to and from `peer`, which is put into the tables: the one
/// of the node's own where GTP-U was agreed on, else the one that all nodes share.
fn tunnel_to(
    config: &Config,
    state: &State,
    node: &Node,
    peer: Ipv6Addr,
    tables: &mut Tables,
) -> Option<u32> {
    let (id, tunnel) = tunnel_of(config, state, node, peer)?;
    tables.tunnels.insert(id, tunnel);
    Some(id)
}

/// The same with its id, put nowhere.
fn tunnel_of(config: &Config, state: &State, node: &Node, peer: Ipv6Addr) -> Option<(u32, Tunnel)> {
    let (mut local, mut remote) = (config.node.address, peer);
    let (id, encapsulation) = match (node.teid, node.tunnels.get(&peer)) {
        (
            Some(local_key),
            Some(NodeTunnel {
                id,
                remote: TunnelType::Gre { key },
            }),
        ) => {
            let gre = Gre {
                local_key: Some(local_key.get()),
                remote_key: Some(*key),
            };
            (*id, Encapsulation::Gre(gre))
        }
        (
            Some(local_teid),
            Some(NodeTunnel {
                id,
                remote: TunnelType::GtpU { teid, ipv4 },
            }),
        ) => {
            let gtpu = GtpU {
                local_teid,
                remote_teid: *teid,
                pdu_session: pdu_session(
                    config.maar.as_ref().and_then(|maar| maar.gtpu_qfi),
                    is_uplink(node, peer),
                ),
                sequence_numbers: config
                    .maar
                    .as_ref()
                    .is_some_and(|maar| maar.gtpu_sequence_numbers),
            };
            // Over IPv4 where both ends have an address for that: each has been told the other's.
            let own = config.maar.as_ref().and_then(|maar| maar.gtpu_ipv4_address);
            if let Some((own, its)) = own.zip(*ipv4) {
                (local, remote) = (own.to_ipv6_mapped(), its.to_ipv6_mapped());
            }
            (*id, Encapsulation::GtpU(gtpu))
        }
        _ => (*state.tunnel_ids.get(&peer)?, Encapsulation::Ipv6InIpv6),
    };
    Some((id, outside(config, encapsulation, local, remote)))
}

/// Whether what goes to `peer` comes from the node, for the peer anchors a prefix of its; else it goes to where the node is.
fn is_uplink(node: &Node, peer: Ipv6Addr) -> bool {
    let anchors = node
        .previous
        .iter()
        .chain(&node.leaving)
        .map(|previous| previous.address);
    let mut anchors = anchors.chain(node.adopted.iter().map(|adopted| adopted.from));
    node.phase != (Phase::Anchored { serving: peer }) && anchors.any(|anchor| anchor == peer)
}

/// Of a tunnel whose packets are of this QoS flow. Validation lets no QFI pass that is too large.
fn pdu_session(qfi: Option<u32>, uplink: bool) -> Option<PduSession> {
    let qfi = u8::try_from(qfi?).ok()?;
    Some(PduSession { uplink, qfi })
}

/// A tunnel, with what is configured of the outer packets of this gateway. All are in their ranges.
fn outside(config: &Config, encapsulation: Encapsulation, local: Ipv6Addr, remote: Ipv6Addr) -> Tunnel {
    let encapsulation_limit = match encapsulation {
        Encapsulation::Ipv6InIpv6 => config
            .maar
            .as_ref()
            .and_then(|maar| u8::try_from(maar.tunnel_encapsulation_limit?).ok()),
        Encapsulation::GtpU(_) | Encapsulation::Gre(_) => None,
    };
    let it = &config.tunnel;
    Tunnel {
        encapsulation,
        local,
        remote,
        hop_limit: u8::try_from(it.hop_limit).unwrap_or(u8::MAX),
        mtu: it.mtu.map_or(0, |mtu| u16::try_from(mtu).unwrap_or(u16::MAX)),
        encapsulation_limit,
        dscp: match u8::try_from(it.dscp) {
            Ok(dscp) if !it.copy_dscp => Dscp::Is(dscp),
            _ => Dscp::Copied,
        },
    }
}

fn put(tables: &mut Tables, prefix: Ipv6Net, next_hop: NextHop) {
    tables.prefixes.insert(
        prefix,
        PrefixEntry {
            next_hop,
            source: None,
        },
    );
}
