//! Packets of a prefix on their way, by the tables of each gateway, and which filters they meet.

use ipnet::Ipv6Net;
use kedge_controlplane::maar::Adopted;
use kedge_dataplane_api::model::{Filter, NextHop, SourcePath, Tables};

use super::{Domain, Phase, maar_address, node};

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It is where it was to go, or waits for that.
    Goes,
    /// It does not go on.
    Dropped,
}

/// What a packet has met.
#[derive(Clone, Debug)]
pub struct Met {
    /// Which packet.
    pub what: String,
    /// How often it has met the filter.
    pub count: u32,
    /// How often it may.
    pub most: u32,
    /// What has become of it.
    pub end: End,
}

impl Met {
    /// Whether that is as it should be: nothing goes by a filter, and nothing is counted more often than it may be.
    pub fn is_right(&self) -> bool {
        let least = u32::from(self.end == End::Goes);
        (least..=self.most).contains(&self.count)
    }
}

impl Domain {
    /// Whether what comes straight into a gateway that anchored a prefix before may meet its filters once more: at the gateway that
    /// had it next, which has got it from another one since, or after the time for which that one was sure of this one.
    pub fn may_meet_twice(&self, number: u8, prefix: Ipv6Net, entry: usize) -> bool {
        let state = self.maars[entry].state();
        let Some(node) = state.nodes.get(&node(number).0) else {
            return false;
        };
        let serving = match node.phase {
            Phase::Anchored { serving } => Some(serving),
            _ => None,
        };
        let next = state.passed_on(&prefix).or(serving);
        let Some(next) = (0..3).find(|it| Some(maar_address(*it)) == next) else {
            return false;
        };
        let its = self.maars[next].state().nodes.get(&super::node(number).0);
        let taken = its.and_then(|it| it.adopted.iter().find(|it| it.prefix == prefix));
        let sure = |it: &Adopted| it.is_asked_there() && it.from == maar_address(entry);
        let elsewhere = its
            .into_iter()
            .flat_map(|it| it.previous.iter().chain(&it.leaving))
            .any(|it| it.prefix == prefix && it.address != maar_address(entry));
        match taken {
            Some(taken) => !sure(taken),
            None => elsewhere && state.passed_on(&prefix).is_some(),
        }
    }

    /// How often packets of a prefix of a node meet a filter of this name, each way, wherever they may come in now.
    pub fn met(&self, number: u8, prefix: Ipv6Net, name: &str) -> Vec<Met> {
        let tables: Vec<Tables> = (0..3).map(|index| self.tables(index)).collect();
        let identifier = node(number).0;
        let mut met = Vec::new();
        for index in 0..3 {
            let state = self.maars[index].state();
            let Some(node) = state.nodes.get(&identifier) else {
                continue;
            };
            // Routes lead to who anchors it, or did so until now.
            let led = node.own_prefixes().any(|it| it == prefix) || state.passed_on(&prefix).is_some();
            if led && tables[index].prefixes.contains_key(&prefix) {
                let (count, end) = self.to_node(&tables, index, prefix, name);
                let most = 1 + u32::from(self.may_meet_twice(number, prefix, index));
                met.push(Met {
                    what: format!("to it, into maar{}", index + 1),
                    count,
                    most,
                    end,
                });
            }
            let source = tables[index]
                .prefixes
                .get(&prefix)
                .and_then(|it| it.source.as_ref());
            // What it sends where it is; elsewhere nothing comes from it.
            let here = self.phase(number, index) == Some(kedge_controlplane::maar::Phase::Attached);
            if let Some(source) = source.filter(|_| here) {
                let (count, end) = self.of_node(&tables, index, prefix, name, source.path);
                met.push(Met {
                    what: format!("from it, at maar{}", index + 1),
                    count,
                    most: 1,
                    end,
                });
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
