//! Tunnels: what comes in through each, and the ways to their peers.

use std::net::Ipv6Addr;
use std::time::Instant;

use ipnet::Ipv6Net;
use kedge_dataplane_api::model::{self, Dscp, Encapsulation};

use super::super::check::Arrival;
use super::super::family::{ethertype, is_ipv4};
use super::super::types::{Headers, NextHop, PEER_OF_OTHERS, Path, Snapshot, TEID_OF_OTHERS, Tunnel};
use super::{Compiler, Counted, KnownPath, host};
use crate::fib::NO_MATCH;
use crate::tunnel::{gre, gtpu, ip6_in_ip6, outer};

impl Compiler {
    /// Forgets what came in through a tunnel as it was. Of all that change, before any is compiled: two may
    /// swap their peers in one transaction.
    pub(super) fn drop_peer(&mut self, before: Option<&model::Tunnel>) {
        if let Some(before) = before {
            let arrival = Arrival::of(before);
            self.set_peer(arrival, NO_MATCH);
            self.peers.remove(&arrival.key());
        }
    }

    /// Compiles a tunnel that was put or deleted; gives its peer if there is one to be found.
    pub(super) fn compile_tunnel(&mut self, id: u32) -> Option<Ipv6Addr> {
        let Some(tunnel) = self.tables.tunnels.get(&id).cloned() else {
            if let Some(counted) = self.tunnels.remove(&id) {
                self.snapshot.tunnels.set(counted.index, Tunnel::default());
                self.depart_tunnel(counted.index);
            }
            return None;
        };
        let Counted { index, before } = match self.tunnels.get(&id) {
            Some(counted) => *counted,
            None => {
                let index = self.tunnel_indexes.take();
                let before = self.counted_of_tunnel(index);
                let counted = Counted { index, before };
                self.tunnels.insert(id, counted);
                counted
            }
        };
        let compiled = Tunnel {
            local: tunnel.local.octets(),
            remote: tunnel.remote.octets(),
            encapsulation: tunnel.encapsulation,
            path: self.take_path(tunnel.remote),
            mtu: if tunnel.mtu == 0 { u16::MAX } else { tunnel.mtu },
            ethertype: ethertype(tunnel.remote),
            overhead: overhead(&tunnel),
            headers: match &tunnel.encapsulation {
                Encapsulation::GtpU(it) if !gtpu::is_plain(it) => Headers::Any,
                Encapsulation::GtpU(_) if is_ipv4(tunnel.remote) => Headers::PlainGtpUInIpv4,
                Encapsulation::GtpU(_) => Headers::PlainGtpU,
                Encapsulation::Ipv6InIpv6 | Encapsulation::Gre(_) => Headers::Any,
            },
            encapsulation_limit: match tunnel.encapsulation {
                Encapsulation::Ipv6InIpv6 => tunnel.encapsulation_limit,
                Encapsulation::GtpU(_) | Encapsulation::Gre(_) => None,
            },
            hop_limit: outer::hop_limit(tunnel.hop_limit),
            // There is one worker where this is used.
            first_sequence: before.to_packets as u16,
            dscp: match tunnel.dscp {
                Dscp::Is(dscp) => dscp,
                Dscp::Copied => outer::DSCP_COPIED,
            },
        };
        self.snapshot.tunnels.set(index, compiled);
        self.take_ends(&tunnel);
        let arrival = Arrival::of(&tunnel);
        self.set_peer(arrival, index);
        self.peers.insert(arrival.key(), id);
        Some(tunnel.remote)
    }

    fn set_peer(&mut self, arrival: Arrival, index: u32) {
        match arrival {
            Arrival::Source(_) | Arrival::Gre(_, None) => self.set_peer_key(arrival.key(), index),
            Arrival::Gtpu(remote, teid) => {
                self.set_numbered(remote, index, |remote| gtpu::key(teid.get(), remote.into()));
            }
            Arrival::Gre(remote, key) => {
                self.set_numbered(remote, index, |remote| gre::peer_key(key, remote.into()));
            }
        }
    }

    /// The address of a peer leads to its IPv6-in-IPv6 tunnel; without one, but with others, it is known at least:
    /// to have fragments put together, which have no TEID.
    pub(super) fn know_peer(&mut self, remote: Ipv6Addr) {
        let key = Arrival::Source(remote).key();
        let tunnel = self.peers.get(&key).and_then(|id| self.tunnels.get(id));
        let index = match tunnel {
            Some(tunnel) => tunnel.index,
            None if self.paths.contains_key(&remote.into()) => PEER_OF_OTHERS,
            None => NO_MATCH,
        };
        self.set_peer_key(key, index);
    }

    /// What comes in with a TEID, or a GRE key, is, most often, of one tunnel: its number alone leads there, whose peer is
    /// compared afterwards anyway. Only where several peers use one number do they have keys of their own, which `key` makes of them:
    /// however many, those of one or two of them change.
    fn set_numbered(&mut self, remote: Ipv6Addr, index: u32, key: impl Fn(Ipv6Addr) -> u128) {
        let whole = key(remote);
        let number = (whole >> (u128::BITS - u32::from(outer::NUMBER_BITS))) as u64;
        let peers = self.numbers.entry(number).or_default();
        let before = peers.len();
        let at = peers.iter().position(|(other, _)| *other == remote);
        match at.and_then(|at| Some((at, peers.get_mut(at)?))) {
            Some((at, _)) if index == NO_MATCH => drop(peers.swap_remove(at)),
            Some((_, known)) => known.1 = index,
            None if index == NO_MATCH => {}
            None => peers.push((remote, index)),
        }
        let after = peers.len();
        let other = peers.iter().copied().find(|(other, _)| *other != remote);
        let any = match peers.as_slice() {
            [] => NO_MATCH,
            [(_, index)] => *index,
            _ => TEID_OF_OTHERS,
        };
        if after == 0 {
            self.numbers.remove(&number);
        }
        let key = |remote: Ipv6Addr| host(Ipv6Addr::from(key(remote)));
        match (before, after, other) {
            (1, 2, Some((other, index))) => self.set_peer_key(key(other), index),
            (2, 1, Some((other, _))) => self.set_peer_key(key(other), NO_MATCH),
            _ => {}
        }
        if before.max(after) > 1 {
            self.set_peer_key(key(remote), if after > 1 { index } else { NO_MATCH });
        }
        self.set_peer_key(numbered(whole), any);
        // Whose key is alone has no other to be told from.
        self.set_exit(whole, if after == 1 { any } else { NO_MATCH });
    }

    fn set_peer_key(&mut self, key: Ipv6Net, index: u32) {
        if let Err(error) = self.peer_table.set(key, index) {
            tracing::error!(%key, %error, "a tunnel that there was room for found none");
        }
    }

    fn take_path(&mut self, remote: Ipv6Addr) -> u32 {
        let indexes = &mut self.path_indexes;
        let new = || KnownPath {
            index: indexes.take(),
            tunnels: 0,
        };
        let path = self.paths.entry(remote.into()).or_insert_with(new);
        path.tunnels += 1;
        path.index
    }

    pub(super) fn release_path(&mut self, remote: Ipv6Addr) {
        let Some(path) = self.paths.get_mut(&remote.into()) else {
            return;
        };
        path.tunnels = path.tunnels.saturating_sub(1);
        if path.tunnels == 0 {
            self.snapshot.paths.set(path.index, Path::default());
            self.path_indexes.give(path.index);
            self.paths.remove(&remote.into());
        }
    }

    /// Finds the way to a peer.
    pub(super) fn resolve_path(&mut self, remote: Ipv6Addr) {
        let Some(known) = self.paths.get(&remote.into()) else {
            return;
        };
        let route = self.routes.get(self.fib.lookup(remote.into()));
        let (adjacency, on_link) = match route.next_hop {
            // The default route of IPv6 covers the mapped addresses too, and is none for them.
            NextHop::Adjacency(adjacency)
                if is_ipv4(self.snapshot.adjacencies.get(adjacency).address.into()) == is_ipv4(remote) =>
            {
                (adjacency, u8::MAX)
            }
            NextHop::OnLink { port } => (0, port),
            // A tunnel in a tunnel, or to nowhere.
            _ => (0, u8::MAX),
        };
        let port = if adjacency == 0 {
            on_link
        } else {
            self.snapshot.adjacencies.get(adjacency).port
        };
        let egress = self.snapshot.ports.get(usize::from(port));
        let learned = self.path_mtus.get(remote);
        let path = Path {
            adjacency,
            on_link,
            mtu: egress
                .map_or(1500, |port| port.mtu)
                .min(learned.map_or(u16::MAX, |learned| learned.mtu)),
            unproven: learned.is_some_and(|learned| !learned.proven),
        };
        self.snapshot.paths.set(known.index, path);
    }
}

/// A peer, and the MTU of the path to it now; none where no tunnel leads there.
type Forgotten = (Ipv6Addr, Option<u16>);

/// Paths to peers, for who asks and who learns of them.
impl Compiler {
    /// A router says that the path to `remote` takes packets of `mtu` octets. The snapshot that says so too, of
    /// the same generation; `None` if that is no news, or no tunnel leads there.
    pub fn learn_path_mtu(&mut self, remote: Ipv6Addr, mtu: u16, now: Instant) -> Option<Snapshot> {
        self.learn(remote, mtu, true, now)
    }

    /// The same by somebody who has not proved to have seen a packet of ours.
    pub fn learn_unproven_path_mtu(&mut self, remote: Ipv6Addr, mtu: u16, now: Instant) -> Option<Snapshot> {
        self.learn(remote, mtu, false, now)
    }

    fn learn(&mut self, remote: Ipv6Addr, mtu: u16, proven: bool, now: Instant) -> Option<Snapshot> {
        let in_force = self.snapshot.paths.get(self.paths.get(&remote.into())?.index).mtu;
        if mtu >= in_force || !self.path_mtus.learn(remote, mtu, proven, now) {
            return None;
        }
        self.resolve_path(remote);
        Some(self.commit())
    }

    /// Forgets what was learned of paths too long ago, so that larger packets are tried again. The peers
    /// concerned, with the MTU in force now where a tunnel leads there, and the snapshot that says so.
    pub fn forget_path_mtus(&mut self, now: Instant) -> Option<(Vec<Forgotten>, Snapshot)> {
        let forgotten = self.path_mtus.expire(now);
        if forgotten.is_empty() {
            return None;
        }
        for remote in &forgotten {
            self.resolve_path(*remote);
        }
        let snapshot = self.commit();
        let in_force = |remote: Ipv6Addr| {
            let index = self.paths.get(&remote.into())?.index;
            Some(self.snapshot.paths.get(index).mtu)
        };
        let forgotten = forgotten.into_iter().map(|remote| (remote, in_force(remote)));
        Some((forgotten.collect(), snapshot))
    }

    /// The path to every peer: its MTU in force, octets, and until when that counts if a router has said so.
    pub fn paths(&self) -> impl Iterator<Item = (Ipv6Addr, u16, Option<Instant>)> + '_ {
        self.paths.iter().map(|(remote, path)| {
            let remote = Ipv6Addr::from(*remote);
            let mtu = self.snapshot.paths.get(path.index).mtu;
            let learned = self.path_mtus.get(remote).filter(|learned| learned.mtu == mtu);
            (remote, mtu, learned.map(|learned| learned.until))
        })
    }

    /// Largest inner packet of a tunnel, octets: that is in force now, whole.
    #[must_use]
    pub fn tunnel_mtu(&self, id: u32) -> u16 {
        let Some(known) = self.tunnels.get(&id) else {
            return 0;
        };
        let tunnel = self.snapshot.tunnels.get(known.index);
        tunnel.mtu.min(
            self.snapshot
                .paths
                .get(tunnel.path)
                .mtu
                .saturating_sub(tunnel.overhead.into()),
        )
    }
}

/// Octets in front of what goes into a tunnel: there are at most 64.
fn overhead(tunnel: &model::Tunnel) -> u8 {
    let octets = match &tunnel.encapsulation {
        Encapsulation::Ipv6InIpv6 => {
            let limit = tunnel
                .encapsulation_limit
                .map_or(0, |_| ip6_in_ip6::LIMIT_OVERHEAD);
            usize::from(ip6_in_ip6::OVERHEAD + limit)
        }
        Encapsulation::GtpU(it) if is_ipv4(tunnel.remote) => gtpu::overhead_in_ipv4(it),
        Encapsulation::GtpU(it) => gtpu::overhead(it),
        Encapsulation::Gre(it) => gre::overhead(it),
    };
    octets as u8
}

/// All that comes in with the TEID or GRE key of this one, from anyone.
fn numbered(key: u128) -> Ipv6Net {
    let key = Ipv6Addr::from(key);
    Ipv6Net::new(key, outer::NUMBER_BITS).map_or_else(|_| host(key), |prefix| prefix.trunc())
}
