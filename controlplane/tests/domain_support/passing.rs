//! Packets of a prefix on their way, by the tables of each gateway, and which filters they meet.

use ipnet::Ipv6Net;
use kedge_dataplane_api::model::{Filter, NextHop, SourcePath, Tables};

use super::{Domain, maar_address, node};

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It is where it was to go, or waits for that.
    Goes,
    /// It does not go on.
    Dropped,
}

impl Domain {
    /// How often packets of a prefix of a node meet a filter of this name, each way, wherever they may come in now.
    pub fn met(&self, number: u8, prefix: Ipv6Net, name: &str) -> Vec<(String, u32, End)> {
        let tables: Vec<Tables> = (0..3).map(|index| self.tables(index)).collect();
        let identifier = node(number).0;
        let mut met = Vec::new();
        for index in 0..3 {
            let state = self.maars[index].state();
            let Some(node) = state.nodes.get(&identifier) else {
                continue;
            };
            // Routes lead to who anchors it, or did so until now.
            if node.own_prefixes().any(|it| it == prefix) && tables[index].prefixes.contains_key(&prefix) {
                let (count, end) = self.to_node(&tables, index, prefix, name);
                met.push((format!("to it, into maar{}", index + 1), count, end));
            }
            let source = tables[index]
                .prefixes
                .get(&prefix)
                .and_then(|it| it.source.as_ref());
            // What it sends where it is; elsewhere nothing comes from it.
            let here = self.phase(number, index) == Some(kedge_controlplane::maar::Phase::Attached);
            if let Some(source) = source.filter(|_| here) {
                let (count, end) = self.of_node(&tables, index, prefix, name, source.path);
                met.push((format!("from it, at maar{}", index + 1), count, end));
            }
        }
        met
    }

    fn to_node(&self, tables: &[Tables], entry: usize, prefix: Ipv6Net, name: &str) -> (u32, End) {
        let (mut at, mut came_by, mut count) = (entry, None, 0);
        for _ in 0..4 {
            count += asked(&tables[at], prefix, name, came_by);
            let Some(entry) = tables[at].prefixes.get(&prefix) else {
                return (count, End::Dropped);
            };
            let next_hop = match &entry.next_hop {
                NextHop::After { tunnel, .. } if came_by != Some(*tunnel) => return (count, End::Goes),
                NextHop::After { then, .. } => then,
                other => other,
            };
            match next_hop {
                NextHop::Deliver { .. } | NextHop::Hold { .. } => return (count, End::Goes),
                NextHop::Tunnel(tunnel) => {
                    let Some((to, by)) = other_end(tables, at, *tunnel) else {
                        return (count, End::Dropped);
                    };
                    (at, came_by) = (to, Some(by));
                }
                _ => return (count, End::Dropped),
            }
        }
        (count, End::Dropped)
    }

    fn of_node(
        &self,
        tables: &[Tables],
        at: usize,
        prefix: Ipv6Net,
        name: &str,
        path: SourcePath,
    ) -> (u32, End) {
        let goes_by = match path {
            SourcePath::Native => None,
            SourcePath::Tunnel(tunnel) => Some(tunnel),
        };
        let mut count = asked(&tables[at], prefix, name, goes_by);
        if let Some(tunnel) = goes_by {
            let there = other_end(tables, at, tunnel);
            let Some((to, _)) = there.filter(|(to, _)| tables[*to].prefixes.contains_key(&prefix)) else {
                return (count, End::Dropped);
            };
            // From there by its destination.
            count += asked(&tables[to], prefix, name, None);
        }
        (count, End::Goes)
    }
}

/// How many filters of this name are asked about a packet that comes out of this tunnel, or goes into it.
fn asked(tables: &Tables, prefix: Ipv6Net, name: &str, by: Option<u32>) -> u32 {
    let is_asked = |it: &&Filter| {
        let elsewhere = by.is_some() && it.except_tunnel == by;
        it.name == name && it.scope == Some(prefix) && !elsewhere
    };
    u32::try_from(tables.filters.values().filter(is_asked).count()).unwrap()
}

/// Where a tunnel leads, and which one it is there.
fn other_end(tables: &[Tables], at: usize, tunnel: u32) -> Option<(usize, u32)> {
    let remote = tables[at].tunnels[&tunnel].remote;
    let to = (0..3).find(|index| maar_address(*index) == remote)?;
    let mut back = tables[to]
        .tunnels
        .iter()
        .filter(|(_, it)| it.remote == maar_address(at));
    let by = back.next().map(|(id, _)| *id)?;
    Some((to, by))
}
