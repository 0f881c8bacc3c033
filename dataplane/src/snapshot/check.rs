//! Which transactions are refused, and with which words.

mod flows;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::Ipv6Addr;
use std::num::NonZeroU32;

use ipnet::Ipv6Net;
use kedge_dataplane_api::model::{
    Encapsulation, NextHop, PrefixEntry, PrefixKey, Sender, Source, SourcePath, Tables, Transaction, Tunnel,
};

use super::PortDescription;
use super::compile::{Filters, tunnels_named};
use super::family::{is_global_unicast, is_ipv4, is_ipv4_prefix, is_unicast, shown, shown_prefix};
use crate::tunnel::{gre, gtpu};

/// No prefix is held for longer: ten minutes.
const MAXIMUM_HOLD_MS: u32 = 600_000;

/// Why a transaction was refused; nothing of it was carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// A port that the configuration does not name.
    #[error("{entry}: there is no port {port:?}")]
    UnknownPort {
        /// Which entry.
        entry: String,
        /// The port named.
        port: String,
    },
    /// A tunnel that would not be there.
    #[error("{entry}: there is no tunnel {tunnel}")]
    UnknownTunnel {
        /// Which entry.
        entry: String,
        /// The tunnel named.
        tunnel: u32,
    },
    /// A prefix with bits set behind its length.
    #[error("prefix {0}: has host bits set")]
    HostBits(Ipv6Net),
    /// Deletion of what is not there.
    #[error("{0} cannot be deleted: it is not there")]
    Absent(String),
    /// A node on the core side, or a router on the access side.
    #[error("{entry}: port {port:?} is on the wrong side for this")]
    WrongSide {
        /// Which entry.
        entry: String,
        /// The port named.
        port: String,
    },
    /// A link-layer address that no single node can have.
    #[error("{entry}: {address:02x?} is no unicast link-layer address")]
    LinkLayerAddress {
        /// Which entry.
        entry: String,
        /// The address.
        address: [u8; 6],
    },
    /// An address that cannot be used there.
    #[error("{entry}: {} cannot be used: {why}", shown(*address))]
    Address {
        /// Which entry.
        entry: String,
        /// The address.
        address: Ipv6Addr,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Two tunnels with the same peer.
    #[error("tunnels {first} and {second} both lead to {}", shown(*remote))]
    SamePeer {
        /// The lower id.
        first: u32,
        /// The higher id.
        second: u32,
        /// The peer.
        remote: Ipv6Addr,
    },
    /// More than the data plane was told to take.
    #[error("{entry}: there would be {count} {of}, and dataplane.maximum_{of} = {most}")]
    TooMany {
        /// The first entry that there is no room for.
        entry: String,
        /// What there would be too many of.
        of: &'static str,
        /// How many there would be.
        count: usize,
        /// How many there may be.
        most: usize,
    },
    /// No memory for so many entries of this shape.
    #[error("the transaction has {changes} changes, and {full}")]
    Full {
        /// How many changes it has.
        changes: usize,
        /// What is full.
        full: crate::fib::Full,
    },
    /// The same entry twice in one transaction.
    #[error("{0} is there twice in one transaction")]
    Twice(String),
    /// Two tunnels with the same TEID from the same peer.
    #[error("tunnels {first} and {second} both have TEID {teid:#010x} from {}", shown(*remote))]
    SameTeid {
        /// The lower id.
        first: u32,
        /// The higher id.
        second: u32,
        /// Of what comes in.
        teid: NonZeroU32,
        /// The peer.
        remote: Ipv6Addr,
    },
    /// Two GRE tunnels with the same key, or none, from the same peer.
    #[error("tunnels {first} and {second} both have GRE {} from {remote}", shown_key(*key))]
    SameGreKey {
        /// The lower id.
        first: u32,
        /// The higher id.
        second: u32,
        /// Of what comes in.
        key: Option<u32>,
        /// The peer.
        remote: Ipv6Addr,
    },
    /// Sequence numbers that several workers would have to share.
    #[error("tunnel {tunnel}: sequence numbers need dataplane.workers to be one, and there are {workers}")]
    SequenceNumbers {
        /// Which tunnel.
        tunnel: u32,
        /// How many workers there are.
        workers: usize,
    },
    /// A hold that is longer than any move.
    #[error("prefix {prefix}: maximum_ms = {maximum_ms}: must be 0 to {MAXIMUM_HOLD_MS}")]
    Hold {
        /// Which entry.
        prefix: Ipv6Net,
        /// How long.
        maximum_ms: u32,
    },
    /// An IPv4 prefix of a node, where none is carried.
    #[error("prefix {}: dataplane.inner_ipv4 = \"refuse\": no IPv4 is carried in tunnels", shown_prefix(*.0))]
    Ipv4Node(Ipv6Net),
    /// An IPv4 prefix of a node on a link.
    #[error("prefix {}: IPv4 is carried in tunnels, and not on access links", shown_prefix(*.0))]
    Ipv4OnLink(Ipv6Net),
    /// A filter that cannot be.
    #[error("filter {filter}: {value}: {why}")]
    Filter {
        /// Its id.
        filter: u64,
        /// What is wrong.
        value: String,
        /// What is wrong with that.
        why: &'static str,
    },
    /// A meter that cannot be.
    #[error("meter {meter}: {value}: {why}")]
    Meter {
        /// Its id.
        meter: u64,
        /// What is wrong.
        value: String,
        /// What is wrong with that.
        why: &'static str,
    },
    /// A filter of a prefix that would not be there.
    #[error("filter {filter}: there is no prefix {prefix}")]
    UnknownPrefix {
        /// Its id.
        filter: u64,
        /// Its scope.
        prefix: Ipv6Net,
    },
    /// A meter that would not be there.
    #[error("filter {filter}: there is no meter {meter}")]
    UnknownMeter {
        /// The filter's id.
        filter: u64,
        /// The meter named.
        meter: u64,
    },
    /// No classifier can be made of the filters of the whole domain.
    #[error("{0}")]
    Classifier(#[from] crate::flow::BuildError),
    /// A wait for something else than a link or a tunnel.
    #[error("prefix {0}: after.then must be deliver or tunnel")]
    Then(Ipv6Net),
    /// Packets that would go back to where they come from.
    #[error("prefix {prefix}: its packets come out of tunnel {tunnel} and cannot go into it")]
    Back {
        /// The prefix.
        prefix: Ipv6Net,
        /// Both ways.
        tunnel: u32,
    },
    /// A tunnel id that means none.
    #[error("0 is no tunnel id")]
    TunnelZero,
}

fn shown_key(key: Option<u32>) -> String {
    key.map_or_else(|| "without a key".to_owned(), |key| format!("key {key:#010x}"))
}

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
        self::tunnel(*id, tunnel)?;
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

fn prefix_entry(
    prefix: Ipv6Net,
    entry: &PrefixEntry,
    ports: &[PortDescription],
    inner_ipv4: bool,
) -> Result<(), ApplyError> {
    let name = || format!("prefix {}", shown_prefix(prefix));
    if is_ipv4_prefix(prefix) {
        ipv4_entry(prefix, entry, inner_ipv4)?;
    }
    if prefix.trunc() != prefix {
        return Err(ApplyError::HostBits(prefix));
    }
    next_hop(prefix, &entry.next_hop, ports)?;
    match &entry.source {
        Some(Source {
            sender: Sender::Node {
                port,
                link_layer_address,
            },
            ..
        }) => {
            side(port, true, ports, name)?;
            unicast(*link_layer_address, name)
        }
        Some(Source {
            sender: Sender::Tunnel(tunnel),
            path: SourcePath::Tunnel(onward),
        }) if tunnel == onward => Err(ApplyError::Back {
            prefix,
            tunnel: *tunnel,
        }),
        _ => Ok(()),
    }
}

/// What an IPv4 prefix may be, beside one that routers lead to.
fn ipv4_entry(prefix: Ipv6Net, entry: &PrefixEntry, inner_ipv4: bool) -> Result<(), ApplyError> {
    let next_hop = match &entry.next_hop {
        NextHop::After { then, .. } => then,
        next_hop => next_hop,
    };
    let of_node = entry.source.is_some()
        || matches!(
            entry.next_hop,
            NextHop::Deliver { .. } | NextHop::Tunnel(_) | NextHop::Hold { .. } | NextHop::After { .. }
        );
    let on_link = matches!(next_hop, NextHop::Deliver { .. })
        || matches!(
            &entry.source,
            Some(Source {
                sender: Sender::Node { .. },
                ..
            })
        );
    if of_node && !inner_ipv4 {
        Err(ApplyError::Ipv4Node(prefix))
    } else if on_link {
        Err(ApplyError::Ipv4OnLink(prefix))
    } else {
        Ok(())
    }
}

fn tunnel(id: u32, tunnel: &Tunnel) -> Result<(), ApplyError> {
    let entry = || format!("tunnel {id}");
    if id == 0 {
        return Err(ApplyError::TunnelZero);
    }
    for address in [tunnel.local, tunnel.remote] {
        if !is_global_unicast(address) {
            return Err(ApplyError::Address {
                entry: entry(),
                address,
                why: "no global unicast address",
            });
        }
    }
    // RFC 2473 section 4.1.2.
    if tunnel.local == tunnel.remote {
        return Err(ApplyError::Address {
            entry: entry(),
            address: tunnel.remote,
            why: "both ends are the same",
        });
    }
    let over_ipv4 = is_ipv4(tunnel.local);
    if is_ipv4(tunnel.remote) != over_ipv4 {
        return Err(ApplyError::Address {
            entry: entry(),
            address: tunnel.remote,
            why: "one end has an IPv4 address and the other an IPv6 one",
        });
    }
    if over_ipv4 && !matches!(tunnel.encapsulation, Encapsulation::GtpU(_)) {
        return Err(ApplyError::Address {
            entry: entry(),
            address: tunnel.remote,
            why: "only GTP-U goes over IPv4",
        });
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

fn next_hop(prefix: Ipv6Net, it: &NextHop, ports: &[PortDescription]) -> Result<(), ApplyError> {
    let name = || format!("prefix {}", shown_prefix(prefix));
    match it {
        NextHop::Deliver {
            port,
            link_layer_address,
        } => {
            side(port, true, ports, name)?;
            unicast(*link_layer_address, name)
        }
        NextHop::Gateway { port, address } => {
            side(port, false, ports, name)?;
            let why = if !is_unicast(*address) {
                "no unicast address"
            } else if is_ipv4(*address) != is_ipv4(prefix.addr()) {
                "the prefix is of the other IP version"
            } else {
                return Ok(());
            };
            Err(ApplyError::Address {
                entry: name(),
                address: *address,
                why,
            })
        }
        NextHop::OnLink { port } => known_port(port, ports, name),
        NextHop::Hold { maximum_ms } | NextHop::After { maximum_ms, .. } if *maximum_ms > MAXIMUM_HOLD_MS => {
            Err(ApplyError::Hold {
                prefix,
                maximum_ms: *maximum_ms,
            })
        }
        NextHop::After { then, .. } => match **then {
            NextHop::Deliver { .. } | NextHop::Tunnel(_) => next_hop(prefix, then, ports),
            _ => Err(ApplyError::Then(prefix)),
        },
        NextHop::Tunnel(_) | NextHop::Discard(_) | NextHop::Hold { .. } => Ok(()),
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

fn known_port(port: &str, ports: &[PortDescription], entry: impl Fn() -> String) -> Result<(), ApplyError> {
    if ports.iter().any(|it| it.name == port) {
        return Ok(());
    }
    Err(ApplyError::UnknownPort {
        entry: entry(),
        port: port.to_owned(),
    })
}

fn side(
    port: &str,
    access: bool,
    ports: &[PortDescription],
    entry: impl Fn() -> String,
) -> Result<(), ApplyError> {
    known_port(port, ports, &entry)?;
    if ports.iter().any(|it| it.name == port && it.access == access) {
        return Ok(());
    }
    Err(ApplyError::WrongSide {
        entry: entry(),
        port: port.to_owned(),
    })
}

fn unicast(address: [u8; 6], entry: impl Fn() -> String) -> Result<(), ApplyError> {
    if address[0] & 1 == 0 && address != [0; 6] {
        return Ok(());
    }
    Err(ApplyError::LinkLayerAddress {
        entry: entry(),
        address,
    })
}
