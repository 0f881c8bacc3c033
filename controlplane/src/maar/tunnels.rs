//! Which tunnels lead to other MAARs, and by which ids the data plane knows them.

use std::collections::BTreeSet;
use std::net::Ipv6Addr;
use std::num::NonZeroU32;

use kedge_config::TunnelType;

use super::fsm::Maar;
use super::state::{GtpuTunnel, Node, State};
use crate::identity::MobileNodeIdentifier;
use crate::wire::mobility::{self, MobilityOptions, TunnelEndpoint};

/// What is given out and has to stay unique, derived from the state.
#[derive(Clone, Debug, Default)]
pub(super) struct InUse {
    teids: BTreeSet<NonZeroU32>,
    tunnel_ids: BTreeSet<u32>,
}

impl InUse {
    pub(super) fn new(state: &State) -> Self {
        let nodes = || state.nodes.values();
        Self {
            teids: nodes().filter_map(|node| node.teid).collect(),
            tunnel_ids: nodes()
                .flat_map(|node| node.gtpu_tunnels.values().map(|tunnel| tunnel.id))
                .chain(state.tunnel_ids.values().copied())
                .collect(),
        }
    }

    /// A node is forgotten, and with it what it had.
    pub(super) fn free(&mut self, node: &Node) {
        if let Some(teid) = node.teid {
            self.teids.remove(&teid);
        }
        for tunnel in node.gtpu_tunnels.values() {
            self.tunnel_ids.remove(&tunnel.id);
        }
    }

    /// The highest tunnel id.
    pub(super) fn last_tunnel_id(&self) -> u32 {
        self.tunnel_ids.last().copied().unwrap_or(0)
    }
}

impl Maar {
    /// Where this MAAR takes a node's packets by GTP-U, in either role; `None` where it is not to use it.
    pub(super) fn own_endpoint(&mut self, identifier: &MobileNodeIdentifier) -> Option<TunnelEndpoint> {
        if self.settings.tunnel != TunnelType::GtpU {
            return None;
        }
        let node = self.state.nodes.get_mut(identifier)?;
        let teid = match node.teid {
            Some(teid) => teid,
            None => {
                let teid = self.state.teids.allocate(&self.in_use.teids)?;
                self.in_use.teids.insert(teid);
                node.teid = Some(teid);
                teid
            }
        };
        Some(TunnelEndpoint {
            address: self.settings.address,
            tunnel_type: mobility::TunnelType::GtpU {
                teid,
                ipv4: self.settings.gtpu_ipv4_address,
            },
        })
    }

    /// The tunnel id of a peer, given out once and for all.
    pub(super) fn assure_tunnel_id(&mut self, peer: Ipv6Addr) {
        if !self.state.tunnel_ids.contains_key(&peer)
            && let Some(id) = self.new_tunnel_id()
        {
            self.state.tunnel_ids.insert(peer, id);
        }
    }

    /// Makes the tunnels of a node to `peers` those of the message: GTP-U where it tells an endpoint of
    /// the peer's, and none of the node's own where it does not. That holds too where this MAAR has been
    /// configured otherwise since it offered its endpoint: the peer was told of it and uses it.
    pub(super) fn arrange_tunnels(
        &mut self,
        identifier: &MobileNodeIdentifier,
        peers: &[Ipv6Addr],
        told: &MobilityOptions,
    ) {
        for peer in peers {
            self.assure_tunnel_id(*peer);
            let Some(node) = self.state.nodes.get(identifier) else {
                return;
            };
            // Without an endpoint of our own there is nothing that the peer could send to.
            let endpoint = node.teid.and(told.endpoint(*peer));
            let before = node.gtpu_tunnels.get(peer).map(|tunnel| tunnel.id);
            let Some(mobility::TunnelType::GtpU { teid, ipv4 }) = endpoint else {
                self.drop_tunnel(identifier, *peer);
                continue;
            };
            // The id stays with node and peer, whatever becomes of their TEIDs.
            let id = before.or_else(|| self.new_tunnel_id());
            if let (Some(id), Some(node)) = (id, self.state.nodes.get_mut(identifier)) {
                let tunnel = GtpuTunnel {
                    id,
                    remote_teid: teid,
                    remote_ipv4: ipv4,
                };
                node.gtpu_tunnels.insert(*peer, tunnel);
            }
        }
    }

    /// Forgets the tunnels of a node to MAARs that are no peers of it any more.
    pub(super) fn forget_tunnels(&mut self, identifier: &MobileNodeIdentifier) {
        let Some(node) = self.state.nodes.get(identifier) else {
            return;
        };
        let gone: Vec<_> = node
            .gtpu_tunnels
            .keys()
            .copied()
            .filter(|peer| {
                node.last_serving != Some(*peer) && node.previous.iter().all(|it| it.address != *peer)
            })
            .collect();
        for peer in gone {
            self.drop_tunnel(identifier, peer);
        }
    }

    fn drop_tunnel(&mut self, identifier: &MobileNodeIdentifier, peer: Ipv6Addr) {
        let node = self.state.nodes.get_mut(identifier);
        if let Some(tunnel) = node.and_then(|node| node.gtpu_tunnels.remove(&peer)) {
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
