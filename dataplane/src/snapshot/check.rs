//! Which transactions are refused, and with which words.

mod entries;
mod error;
mod flows;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::Ipv6Addr;
use std::num::NonZeroU32;

use ipnet::Ipv6Net;
use kedge_dataplane_api::model::{
    Encapsulation, NextHop, PrefixEntry, PrefixKey, Sender, SourcePath, Tables, Transaction, Tunnel,
};

use self::entries::{known_port, prefix_entry, unicast};
pub use self::error::ApplyError;
use super::PortDescription;
use super::compile::{Filters, tunnels_named};
use super::family::{is_unicast, shown};
use crate::tunnel::{gre, gtpu};

/// How much a data plane takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableLimits {
    /// Most prefixes.
    pub prefixes: usize,
    /// Most tunnels.
    pub tunnels: usize,
    /// Most filters.
    pub filters: usize,
    /// Most of them that have no scope.
    pub domain_filters: usize,
    /// Most meters.
    pub meters: usize,
    /// Whether tunnels carry IPv4, and so nodes may have IPv4 prefixes.
    pub inner_ipv4: bool,
}

impl Default for TableLimits {
    /// As the configuration has it if it says nothing.
    fn default() -> Self {
        Self {
            prefixes: 1 << 21,
            tunnels: 1 << 20,
            filters: 1 << 20,
            domain_filters: 1 << 14,
            meters: 1 << 20,
            inner_ipv4: false,
        }
    }
}

/// By what a packet that comes in is one of a tunnel: no two tunnels may have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Arrival {
    /// Its source.
    Source(Ipv6Addr),
    /// Its source and its TEID.
    Gtpu(Ipv6Addr, NonZeroU32),
    /// Its source and its key, if it has one.
    Gre(Ipv6Addr, Option<u32>),
}

impl Arrival {
    pub(super) fn of(tunnel: &Tunnel) -> Self {
        match tunnel.encapsulation {
            Encapsulation::Ipv6InIpv6 => Self::Source(tunnel.remote),
            Encapsulation::GtpU(it) => Self::Gtpu(tunnel.remote, it.local_teid),
            Encapsulation::Gre(it) => Self::Gre(tunnel.remote, it.local_key),
        }
    }

    /// In the table of peers.
    pub(super) fn key(self) -> Ipv6Net {
        match self {
            Self::Source(remote) => remote.into(),
            Self::Gtpu(remote, teid) => Ipv6Addr::from(gtpu::key(teid.get(), remote.into())).into(),
            Self::Gre(remote, key) => Ipv6Addr::from(gre::peer_key(key, remote.into())).into(),
        }
    }
}

/// What is there, and what is known of it.
#[derive(Clone, Copy)]
pub(super) struct Have<'a> {
    /// How many there are.
    pub(super) workers: usize,
    pub(super) tables: &'a Tables,
    /// Tunnels by the keys of what comes in through them.
    pub(super) peers: &'a BTreeMap<Ipv6Net, u32>,
    /// How often each tunnel is named by a prefix or a filter.
    pub(super) users: &'a HashMap<u32, usize>,
    /// What is known of filters.
    pub(super) filters: &'a Filters,
}

/// Checks `transaction` against what is there. The work grows with the transaction, not with the
/// tables; but with the number of tunnels if it deletes local addresses.
pub(super) fn check(
    transaction: &Transaction,
    known: Have<'_>,
    ports: &[PortDescription],
    limits: TableLimits,
) -> Result<(), ApplyError> {
    let have = known.tables;
    deletions(transaction, have)?;
    sizes(transaction, have, limits)?;
    flows::entries(transaction, known, limits)?;
    for (prefix, entry) in &transaction.put_prefixes {
        prefix_entry(*prefix, entry, ports, limits.inner_ipv4)?;
    }
    for (id, tunnel) in &transaction.put_tunnels {
        entries::tunnel(*id, tunnel)?;
        if let Encapsulation::GtpU(it) = &tunnel.encapsulation
            && it.sequence_numbers
            && known.workers > 1
        {
            let (tunnel, workers) = (*id, known.workers);
            return Err(ApplyError::SequenceNumbers { tunnel, workers });
        }
    }
    for ((port, address), link_layer_address) in &transaction.put_neighbours {
        let entry = || format!("neighbour {address} on {port}");
        known_port(port, ports, entry)?;
        unicast(*link_layer_address, entry)?;
        if !is_unicast(*address) {
            return Err(ApplyError::Address {
                entry: entry(),
                address: *address,
                why: "no unicast address",
            });
        }
    }
    for address in &transaction.put_local_addresses {
        if !is_unicast(*address) {
            let entry = format!("local address {}", shown(*address));
            return Err(ApplyError::Address {
                entry,
                address: *address,
                why: "no unicast address",
            });
        }
    }
    references(transaction, known)?;
    flows::references(transaction, known)
}

/// No entry twice, and no more than there is room for.
fn sizes(transaction: &Transaction, have: &Tables, limits: TableLimits) -> Result<(), ApplyError> {
    let gone = transaction.replace_all;
    let prefixes = transaction.put_prefixes.iter().map(|(prefix, _)| prefix);
    size(
        prefixes,
        &transaction.delete_prefixes,
        |prefix| !gone && have.prefixes.contains_key(prefix),
        if gone { 0 } else { have.prefixes.len() },
        |prefix| format!("prefix {prefix}"),
        ("prefixes", limits.prefixes),
    )?;
    let tunnels = transaction.put_tunnels.iter().map(|(id, _)| id);
    size(
        tunnels,
        &transaction.delete_tunnels,
        |id| !gone && have.tunnels.contains_key(id),
        if gone { 0 } else { have.tunnels.len() },
        |id| format!("tunnel {id}"),
        ("tunnels", limits.tunnels),
    )
}

fn size<'a, K: Copy + Ord + std::hash::Hash + 'a>(
    put: impl ExactSizeIterator<Item = &'a K>,
    delete: &[K],
    has: impl Fn(&K) -> bool,
    before: usize,
    name: impl Fn(&K) -> String,
    (of, most): (&'static str, usize),
) -> Result<(), ApplyError> {
    let mut deleted: HashSet<K> = HashSet::with_capacity(delete.len());
    for key in delete {
        if !deleted.insert(*key) {
            return Err(ApplyError::Twice(name(key)));
        }
    }
    let mut seen = HashSet::with_capacity(put.len());
    let mut count = before.saturating_sub(deleted.len());
    for key in put {
        if !seen.insert(*key) {
            return Err(ApplyError::Twice(name(key)));
        }
        if !has(key) || deleted.contains(key) {
            count += 1;
            if count > most {
                return Err(ApplyError::TooMany {
                    entry: name(key),
                    of,
                    count,
                    most,
                });
            }
        }
    }
    Ok(())
}

fn deletions(transaction: &Transaction, have: &Tables) -> Result<(), ApplyError> {
    let absent = |what: String| Err(ApplyError::Absent(what));
    let gone = transaction.replace_all;
    for prefix in &transaction.delete_prefixes {
        if gone || !have.prefixes.contains_key(prefix) {
            return absent(format!("prefix {prefix}"));
        }
    }
    for id in &transaction.delete_tunnels {
        if gone || !have.tunnels.contains_key(id) {
            return absent(format!("tunnel {id}"));
        }
    }
    for key in &transaction.delete_neighbours {
        if gone || !have.neighbours.contains_key(key) {
            return absent(format!("neighbour {} on {}", key.1, key.0));
        }
    }
    for address in &transaction.delete_local_addresses {
        if gone || !have.local_addresses.contains(address) {
            return absent(format!("local address {address}"));
        }
    }
    Ok(())
}

/// What may break by a deletion as much as by an addition.
fn references(transaction: &Transaction, have: Have<'_>) -> Result<(), ApplyError> {
    let tables = have.tables;
    let anew = transaction.replace_all;
    let put: HashSet<u32> = transaction.put_tunnels.iter().map(|(id, _)| *id).collect();
    let deleted: HashSet<u32> = transaction.delete_tunnels.iter().copied().collect();
    // As it was, and still there afterwards.
    let stays = |id: u32| !anew && !deleted.contains(&id) && !put.contains(&id);
    let is_local = |address: &Ipv6Addr| {
        transaction.put_local_addresses.contains(address)
            || !anew
                && tables.local_addresses.contains(address)
                && !transaction.delete_local_addresses.contains(address)
    };
    let no_local = |id: u32, tunnel: &Tunnel| ApplyError::Address {
        entry: format!("tunnel {id}"),
        address: tunnel.local,
        why: "no local address",
    };
    let mut arrivals: HashMap<Ipv6Net, u32> = HashMap::with_capacity(put.len());
    for (id, tunnel) in &transaction.put_tunnels {
        if !is_local(&tunnel.local) {
            return Err(no_local(*id, tunnel));
        }
        let arrival = Arrival::of(tunnel);
        let before = have.peers.get(&arrival.key()).copied();
        let before = before.filter(|other| stays(*other));
        if let Some(other) = arrivals.insert(arrival.key(), *id).or(before) {
            let (first, second, remote) = (other.min(*id), other.max(*id), tunnel.remote);
            return Err(match arrival {
                Arrival::Source(_) => ApplyError::SamePeer {
                    first,
                    second,
                    remote,
                },
                Arrival::Gtpu(_, teid) => ApplyError::SameTeid {
                    first,
                    second,
                    teid,
                    remote,
                },
                Arrival::Gre(_, key) => ApplyError::SameGreKey {
                    first,
                    second,
                    key,
                    remote,
                },
            });
        }
    }
    if !anew && !transaction.delete_local_addresses.is_empty() {
        let mut others = tables.tunnels.iter().filter(|(id, _)| stays(**id));
        if let Some((id, tunnel)) = others.find(|(_, tunnel)| !is_local(&tunnel.local)) {
            return Err(no_local(*id, tunnel));
        }
    }
    let there = |id: u32| put.contains(&id) || stays(id) && tables.tunnels.contains_key(&id);
    for (prefix, entry) in &transaction.put_prefixes {
        if let Some(tunnel) = tunnels_of(entry).find(|id| !there(*id)) {
            return Err(unknown_tunnel(prefix, tunnel));
        }
    }
    for (id, filter) in &transaction.put_filters {
        if let Some(tunnel) = filter.tunnels().find(|id| !there(*id)) {
            return Err(ApplyError::UnknownTunnel {
                entry: format!("filter {id}"),
                tunnel,
            });
        }
    }
    let lost = deleted.iter().copied().filter(|id| !put.contains(id));
    if anew {
        Ok(())
    } else {
        users(transaction, have, lost)
    }
}

/// That no prefix or filter which stays names a tunnel that goes.
fn users(
    transaction: &Transaction,
    have: Have<'_>,
    lost: impl Iterator<Item = u32>,
) -> Result<(), ApplyError> {
    let mut left: HashMap<u32, usize> = lost
        .map(|id| (id, have.users.get(&id).copied().unwrap_or(0)))
        .collect();
    if left.is_empty() {
        return Ok(());
    }
    let prefixes = &have.tables.prefixes;
    let put = transaction.put_prefixes.iter().map(|(prefix, _)| *prefix);
    let replaced: HashSet<Ipv6Net> = put.chain(transaction.delete_prefixes.iter().copied()).collect();
    for entry in replaced.iter().filter_map(|prefix| prefixes.get(prefix)) {
        for tunnel in tunnels_of(entry) {
            if let Some(left) = left.get_mut(&tunnel) {
                *left = left.saturating_sub(1);
            }
        }
    }
    let changed: HashSet<u64> = transaction
        .delete_filters
        .iter()
        .chain(transaction.put_filters.iter().map(|(id, _)| id))
        .copied()
        .collect();
    for tunnel in tunnels_named(changed.iter(), have.tables) {
        if let Some(left) = left.get_mut(&tunnel) {
            *left = left.saturating_sub(1);
        }
    }
    let Some(tunnel) = left.into_iter().find(|(_, left)| *left > 0).map(|(id, _)| id) else {
        return Ok(());
    };
    // Only to name it.
    let others = prefixes
        .unordered()
        .filter(|(prefix, _)| !replaced.contains(*prefix));
    let users = others.filter(|(_, entry)| tunnels_of(entry).any(|it| it == tunnel));
    let user = users.min_by_key(|(prefix, _)| PrefixKey(**prefix));
    if let Some((prefix, _)) = user {
        return Err(unknown_tunnel(prefix, tunnel));
    }
    let mut filters = have
        .tables
        .filters
        .iter()
        .filter(|(id, _)| !changed.contains(*id));
    let user = filters.find(|(_, filter)| filter.tunnels().any(|it| it == tunnel));
    user.map_or(Ok(()), |(id, _)| {
        Err(ApplyError::UnknownTunnel {
            entry: format!("filter {id}"),
            tunnel,
        })
    })
}

fn unknown_tunnel(prefix: &Ipv6Net, tunnel: u32) -> ApplyError {
    ApplyError::UnknownTunnel {
        entry: format!("prefix {prefix}"),
        tunnel,
    }
}

/// The tunnels that an entry names.
pub(super) fn tunnels_of(entry: &PrefixEntry) -> impl Iterator<Item = u32> + use<> {
    let (next_hop, first) = match &entry.next_hop {
        NextHop::Tunnel(id) => (Some(*id), None),
        NextHop::After { tunnel, then, .. } => match **then {
            NextHop::Tunnel(id) => (Some(id), Some(*tunnel)),
            _ => (None, Some(*tunnel)),
        },
        _ => (None, None),
    };
    let source = match entry.source.as_ref().map(|it| it.path) {
        Some(SourcePath::Tunnel(id)) => Some(id),
        _ => None,
    };
    let sender = match entry.source.as_ref().map(|it| &it.sender) {
        Some(Sender::Tunnel(id)) => Some(*id),
        _ => None,
    };
    next_hop.into_iter().chain(first).chain(source).chain(sender)
}
