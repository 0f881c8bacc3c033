//! Which tunnels lead to other MAARs, and by which ids the data plane knows them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;
use std::num::NonZeroU32;

use super::fsm::Maar;
use super::state::{Node, NodeTunnel, State};
use crate::identity::MobileNodeIdentifier;
use crate::wire::mobility::TunnelType;

/// What is given out and has to stay unique, derived from the state.
#[derive(Clone, Debug, Default)]
pub(super) struct InUse {
    /// With whose each is; `None`: nobody's, and not to be given out.
    teids: BTreeMap<NonZeroU32, Option<MobileNodeIdentifier>>,
    tunnel_ids: BTreeSet<u32>,
}

impl InUse {
    /// `reserved` are nobody's.
    pub(super) fn new(state: &State, reserved: &[NonZeroU32]) -> Self {
        let nodes = || state.nodes.values();
        Self {
            teids: reserved
                .iter()
                .map(|teid| (*teid, None))
                .chain(state.nodes.iter().filter_map(|(identifier, node)| {
                    let identifier = identifier.clone();
                    Some((node.teid?, Some(identifier)))
                }))
                .collect(),
            tunnel_ids: nodes()
                .flat_map(|node| node.tunnels.values().map(|tunnel| tunnel.id))
                .chain(state.tunnel_ids.values().copied())
                .collect(),
        }
    }

    /// The node that has this TEID.
    pub(super) fn node_of(&self, teid: u32) -> Option<&MobileNodeIdentifier> {
        self.teids.get(&NonZeroU32::new(teid)?)?.as_ref()
    }

    /// A node has another one from now on.
    pub(super) fn free_teid(&mut self, teid: NonZeroU32) {
        self.teids.remove(&teid);
    }

    /// A node is forgotten, and with it what it had.
    pub(super) fn free(&mut self, node: &Node) {
        if let Some(teid) = node.teid {
            self.teids.remove(&teid);
        }
        for tunnel in node.tunnels.values() {
            self.tunnel_ids.remove(&tunnel.id);
        }
    }

    /// The highest tunnel id.
    pub(super) fn last_tunnel_id(&self) -> u32 {
        self.tunnel_ids.last().copied().unwrap_or(0)
    }
}

impl Maar {
    /// By what this MAAR takes a node's packets, in either role; `None` where that is to be IPv6-in-IPv6.
    pub(super) fn own_endpoint(&mut self, identifier: &MobileNodeIdentifier) -> Option<TunnelType> {
        let kind = self.settings.tunnel;
        if kind == kedge_config::TunnelType::Ipv6InIpv6 {
            return None;
        }
        let node = self.state.nodes.get_mut(identifier)?;
        let teid = match node.teid {
            Some(teid) => teid,
            None => {
                let teid = self.state.teids.allocate(&self.in_use.teids)?;
                self.in_use.teids.insert(teid, Some(identifier.clone()));
                node.teid = Some(teid);
                teid
            }
        };
        match kind {
            kedge_config::TunnelType::Ipv6InIpv6 => None,
            // A number that nobody guesses is as good for the one as for the other.
            kedge_config::TunnelType::Gre => Some(TunnelType::Gre { key: teid.get() }),
            kedge_config::TunnelType::GtpU => Some(TunnelType::GtpU {
                teid,
                ipv4: self.settings.gtpu_ipv4_address,
            }),
        }
    }

    /// The tunnel id of a peer, given out once and for all.
    pub(super) fn assure_tunnel_id(&mut self, peer: Ipv6Addr) {
        if !self.state.tunnel_ids.contains_key(&peer)
            && let Some(id) = self.new_tunnel_id()
        {
            self.state.tunnel_ids.insert(peer, id);
        }
    }

    /// Makes the tunnels of a node to `peers` those of a message: of the type of the endpoint that it tells of the
    /// peer's, and none of the node's own where it tells none. That holds too where this MAAR has been
    /// configured otherwise since it offered its endpoint: the peer was told of it and uses it.
    pub(super) fn arrange_tunnels(
        &mut self,
        identifier: &MobileNodeIdentifier,
        peers: &[Ipv6Addr],
        told: impl Fn(Ipv6Addr) -> Option<TunnelType>,
    ) {
        for peer in peers {
            self.assure_tunnel_id(*peer);
            let Some(node) = self.state.nodes.get(identifier) else {
                return;
            };
            // Without an endpoint of our own there is nothing that the peer could send to.
            let endpoint = node.teid.and_then(|_| told(*peer));
            let before = node.tunnels.get(peer).map(|tunnel| tunnel.id);
            let Some(remote) = endpoint else {
                self.drop_tunnel(identifier, *peer);
                continue;
            };
            // The id stays with node and peer, whatever becomes of the rest.
            let id = before.or_else(|| self.new_tunnel_id());
            if let (Some(id), Some(node)) = (id, self.state.nodes.get_mut(identifier)) {
                node.tunnels.insert(*peer, NodeTunnel { id, remote });
            }
        }
    }

    /// Forgets the tunnels of a node to MAARs that are no peers of it any more.
    pub(super) fn forget_tunnels(&mut self, identifier: &MobileNodeIdentifier) {
        let Some(node) = self.state.nodes.get(identifier) else {
            return;
        };
        let gone: Vec<_> = node
            .tunnels
            .keys()
            .copied()
            .filter(|peer| {
                let prefixes = node.previous.iter().chain(&node.leaving);
                let passed_on = |prefix| self.state.passed_on(&prefix) == Some(*peer);
                node.last_serving != Some(*peer)
                    && !node.own_prefixes().any(passed_on)
                    && node.dpn.as_ref().is_none_or(|it| it.address != *peer)
                    && node.arriving.is_none_or(|it| it.from != *peer)
                    && node.adopted.iter().all(|it| it.from != *peer)
                    && prefixes.map(|it| it.address).all(|it| it != *peer)
            })
            .collect();
        for peer in gone {
            self.drop_tunnel(identifier, peer);
        }
    }

    pub(super) fn drop_tunnel(&mut self, identifier: &MobileNodeIdentifier, peer: Ipv6Addr) {
        let node = self.state.nodes.get_mut(identifier);
        if let Some(tunnel) = node.and_then(|node| node.tunnels.remove(&peer)) {
            self.in_use.tunnel_ids.remove(&tunnel.id);
        }
    }

    /// An id that no tunnel has had since all others have been given out.
    fn new_tunnel_id(&mut self) -> Option<u32> {
        let used = &mut self.in_use.tunnel_ids;
        // Besides those in use only 0 is left out: it is no id.
        for _ in 0..used.len().saturating_add(2) {
            let id = self.state.last_tunnel_id.wrapping_add(1);
            self.state.last_tunnel_id = id;
            if id != 0 && used.insert(id) {
                return Some(id);
            }
        }
        None
    }
}
