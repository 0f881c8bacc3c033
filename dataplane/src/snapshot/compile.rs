//! Tables to snapshots, change by change.
//!
//! The table of routes has one entry for each address or prefix that anything
//! is known of. Where several tables know of the same address, the first of
//! these counts: local address, prefix of length 128, neighbour. What a
//! transaction touches is compiled again ([`Compiler::compile_key`]); so is the
//! way to every peer that is in a prefix that it touches. All tunnels to a peer
//! share that: a million of them need not be looked at when it changes.

mod charging;
mod flows;
mod holds;
mod tunnels;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use ipnet::Ipv6Net;
use kedge_dataplane_api::model::{self, DiscardReason, PrefixEntry, SourcePath, Tables, Transaction};

use super::check::{ApplyError, Have, TableLimits, check, tunnels_of};
use super::routes::RouteWriter;
use super::slab::{Indexes, Slab};
pub use holds::{KnownHold, Maximums};

use super::types::{Adjacency, ENDPOINTS, NextHop, PortDescription, Route, Snapshot, SourceRule};
use crate::counters::{Bank, Charge, TimedBank, Traffic};
use crate::fib::{NO_MATCH, Table};
use crate::flow::{self, Flows};
use crate::path_mtu::PathMtus;

pub use charging::{Carried, Total, earlier};
pub use flows::Expiry;
pub(super) use flows::{Filters, tunnels_named};

/// An index, and what its counters read when it was given out.
#[derive(Clone, Copy, Debug)]
struct Counted {
    index: u32,
    before: Traffic,
}

/// The way to a peer.
#[derive(Clone, Copy, Debug)]
struct KnownPath {
    index: u32,
    /// Tunnels that lead there.
    tunnels: u32,
}

/// A gateway or a neighbour.
#[derive(Clone, Copy, Debug)]
struct KnownAdjacency {
    index: u32,
    /// Prefixes that name it as their gateway.
    gateways: u32,
}

/// Owns the tables and makes snapshots of them. Lives on the control thread.
#[derive(Debug)]
pub struct Compiler {
    tables: Tables,
    limits: TableLimits,
    workers: usize,
    snapshot: Snapshot,
    /// Forwarding table and peers, where they are made.
    fib: Table,
    peer_table: Table,
    routes: RouteWriter,
    counter_indexes: Indexes,
    /// By index of a counter: what it read when it was given out.
    counted_before: Vec<Charge>,
    /// What came with prefixes from other anchors.
    carried: HashMap<Ipv6Net, Carried>,
    tunnels: BTreeMap<u32, Counted>,
    tunnel_indexes: Indexes,
    /// Tunnel id by the key of what comes in through it.
    peers: BTreeMap<Ipv6Net, u32>,
    /// Peer and index of every tunnel with a TEID: of most there is one.
    teids: HashMap<u32, Vec<(Ipv6Addr, u32)>>,
    /// By remote address, to find those that a change of the routes concerns.
    paths: BTreeMap<Ipv6Addr, KnownPath>,
    path_indexes: Indexes,
    /// What routers said of the paths to peers; outlives the tunnels.
    path_mtus: PathMtus,
    /// How often each tunnel is named by a prefix or a filter.
    users: HashMap<u32, usize>,
    adjacencies: BTreeMap<(String, Ipv6Addr), KnownAdjacency>,
    adjacency_indexes: Indexes,
    filters: Filters,
    holds: BTreeMap<Ipv6Net, KnownHold>,
    /// How many of these have each length.
    hold_lengths: BTreeMap<u8, usize>,
    maximums: Maximums,
    after_indexes: Indexes,
}

impl Compiler {
    /// Empty tables for these ports; `node_address` is the source of ICMPv6 errors.
    #[must_use]
    pub fn new(ports: Vec<PortDescription>, node_address: Ipv6Addr, workers: usize) -> Self {
        let (mut fib, mut peer_table, mut routes) = (Table::new(), Table::new(), RouteWriter::new());
        let mut filters = Filters::default();
        let snapshot = Snapshot {
            generation: 1,
            serial: 1,
            made_at: Instant::now(),
            fib: fib.commit(),
            peers: peer_table.commit(),
            routes: routes.commit(),
            tunnels: Slab::default(),
            paths: Slab::default(),
            afters: Slab::default(),
            adjacencies: Slab::default(),
            ports: ports.into(),
            node_address: node_address.into(),
            endpoints: ArrayVec::new(),
            prefix_traffic: TimedBank::new(workers),
            tunnel_traffic: Bank::new(workers),
            flows: Flows {
                any: false,
                lists: filters.commit(),
                wide: Arc::default(),
                meters: Slab::default(),
                meter_bank: flow::meter::Bank::new(workers),
                traffic: TimedBank::new(workers),
            },
        };
        Self {
            tables: Tables::default(),
            limits: TableLimits::default(),
            workers,
            snapshot,
            fib,
            peer_table,
            routes,
            counter_indexes: Indexes::default(),
            counted_before: Vec::new(),
            carried: HashMap::new(),
            tunnels: BTreeMap::new(),
            tunnel_indexes: Indexes::default(),
            peers: BTreeMap::new(),
            teids: HashMap::new(),
            paths: BTreeMap::new(),
            path_indexes: Indexes::default(),
            path_mtus: PathMtus::default(),
            users: HashMap::new(),
            adjacencies: BTreeMap::new(),
            adjacency_indexes: Indexes::default(),
            holds: BTreeMap::new(),
            hold_lengths: BTreeMap::new(),
            filters,
            maximums: Maximums::default(),
            after_indexes: Indexes::default(),
        }
    }

    /// The same with other limits.
    #[must_use]
    pub fn with_limits(mut self, limits: TableLimits) -> Self {
        self.limits = limits;
        self
    }

    /// The same with another time for which a path's MTU counts once it was found.
    #[must_use]
    pub fn with_path_mtu_lifetime(mut self, lifetime: Duration) -> Self {
        self.path_mtus = PathMtus::new(lifetime);
        self
    }

    /// How much it takes.
    #[must_use]
    pub fn limits(&self) -> TableLimits {
        self.limits
    }

    /// Octets of the forwarding table that workers read.
    #[must_use]
    pub fn forwarding_table_octets(&self) -> usize {
        self.fib.octets()
    }

    /// What is in the tables.
    #[must_use]
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// The newest generation.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.snapshot.generation
    }

    /// The newest snapshot.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.snapshot.clone()
    }

    /// Carries `transaction` out and gives the snapshot that contains it.
    ///
    /// # Errors
    /// The transaction is refused as a whole. (`expected_generation` is for the caller to compare.)
    pub fn apply(&mut self, transaction: &Transaction) -> Result<Snapshot, ApplyError> {
        let have = Have {
            workers: self.workers,
            tables: &self.tables,
            peers: &self.peers,
            users: &self.users,
            filters: &self.filters,
        };
        check(transaction, have, &self.snapshot.ports, self.limits)?;
        self.room_for(transaction)?;
        let flows = self.touch_flows(transaction)?;
        let mut touched = Touched::by(transaction, &self.tables);
        let before = touched.entries(&self.tables);
        self.tables.apply(transaction);
        self.count_users(&touched, &before);
        self.compile_adjacencies(&touched, &before);
        // Tunnels first: prefixes name them by index. The ways to their peers are found below, when the
        // routes are there.
        let mut unresolved: BTreeSet<Ipv6Addr> = BTreeSet::new();
        for id in &touched.tunnels {
            self.drop_peer(before.tunnels.get(id));
        }
        for id in &touched.tunnels {
            unresolved.extend(self.compile_tunnel(*id));
        }
        // Filters name tunnels too, and hang off the routes of prefixes.
        self.compile_flows(flows, &mut touched);
        for tunnel in before.tunnels.values() {
            self.release_path(tunnel.remote);
        }
        let remotes: BTreeSet<Ipv6Addr> = before.tunnels.values().map(|tunnel| tunnel.remote).collect();
        for remote in remotes.union(&unresolved) {
            self.know_peer(*remote);
        }
        let now = Instant::now();
        for prefix in &touched.prefixes {
            self.follow_hold(*prefix, now);
        }
        for prefix in &touched.keys {
            self.compile_key(*prefix);
        }
        for key in &touched.keys {
            let within = self.paths.range(key.network()..=key.broadcast());
            unresolved.extend(within.map(|(remote, _)| *remote));
        }
        for remote in unresolved {
            self.resolve_path(remote);
        }
        self.snapshot.generation += 1;
        Ok(self.commit())
    }

    /// The next snapshot, of what has been compiled.
    fn commit(&mut self) -> Snapshot {
        self.snapshot.fib = self.fib.commit();
        self.snapshot.peers = self.peer_table.commit();
        self.snapshot.routes = self.routes.commit();
        let locals = self.tables.local_addresses.iter();
        self.snapshot.endpoints = locals.take(ENDPOINTS).map(|it| u128::from(*it)).collect();
        self.snapshot.serial += 1;
        self.snapshot.flows.lists = self.filters.commit();
        self.snapshot.made_at = Instant::now();
        self.snapshot.clone()
    }

    /// Whether there is memory for whatever a transaction may come to, before any of it is carried out.
    fn room_for(&self, transaction: &Transaction) -> Result<(), ApplyError> {
        let replaced = if transaction.replace_all {
            self.fib.len()
        } else {
            0
        };
        let changes = transaction.entries() + replaced;
        let full = |full| ApplyError::Full { changes, full };
        self.fib.room_for(changes).map_err(full)?;
        // A GTP-U tunnel has its TEID there, and its peer.
        self.peer_table.room_for(2 * changes).map_err(full)?;
        let counters = self.snapshot.prefix_traffic.cells();
        let flows = self.filters.room_for(transaction, &self.snapshot.flows);
        if !flows || !self.routes.room_for(changes) || counters <= self.fib.len() + changes {
            let octets = self.fib.octets();
            return Err(full(crate::fib::Full {
                prefixes: self.fib.len(),
                octets,
            }));
        }
        Ok(())
    }

    fn port_index(&self, name: &str) -> Option<u8> {
        let index = self.snapshot.ports.iter().position(|port| port.name == name)?;
        u8::try_from(index).ok()
    }

    /// Counts who names each tunnel.
    fn count_users(&mut self, touched: &Touched, before: &Tables) {
        for prefix in &touched.prefixes {
            for tunnel in before.prefixes.get(prefix).into_iter().flat_map(tunnels_of) {
                if let Entry::Occupied(mut users) = self.users.entry(tunnel) {
                    *users.get_mut() -= 1;
                    if *users.get() == 0 {
                        users.remove();
                    }
                }
            }
            for tunnel in self.tables.prefixes.get(prefix).into_iter().flat_map(tunnels_of) {
                *self.users.entry(tunnel).or_default() += 1;
            }
        }
    }

    /// Counts who names each gateway, and brings each touched adjacency up to date.
    fn compile_adjacencies(&mut self, touched: &Touched, have: &Tables) {
        let gateway = |entry: Option<&PrefixEntry>| match entry.map(|entry| &entry.next_hop) {
            Some(model::NextHop::Gateway { port, address }) => Some((port.clone(), *address)),
            _ => None,
        };
        let mut keys: BTreeSet<(String, Ipv6Addr)> = touched.neighbours.clone();
        for prefix in &touched.prefixes {
            let (before, after) = (
                gateway(have.prefixes.get(prefix)),
                gateway(self.tables.prefixes.get(prefix)),
            );
            if let Some(it) = before.as_ref().and_then(|key| self.adjacencies.get_mut(key)) {
                it.gateways = it.gateways.saturating_sub(1);
            }
            if let Some(key) = &after {
                self.assure_adjacency(key).gateways += 1;
            }
            keys.extend(before.into_iter().chain(after));
        }
        for key in keys {
            let neighbour = self.tables.neighbours.get(&key).copied();
            let named = self.adjacencies.get(&key).is_some_and(|it| it.gateways > 0);
            if neighbour.is_none() && !named {
                if let Some(it) = self.adjacencies.remove(&key) {
                    self.snapshot.adjacencies.set(it.index, Adjacency::default());
                    self.adjacency_indexes.give(it.index);
                }
                continue;
            }
            let Some(port) = self.port_index(&key.0) else {
                continue;
            };
            let index = self.assure_adjacency(&key).index;
            let adjacency = Adjacency {
                port,
                link_layer_address: neighbour,
                address: key.1.into(),
            };
            self.snapshot.adjacencies.set(index, adjacency);
        }
    }

    fn assure_adjacency(&mut self, key: &(String, Ipv6Addr)) -> &mut KnownAdjacency {
        let indexes = &mut self.adjacency_indexes;
        let new = || KnownAdjacency {
            index: indexes.take(),
            gateways: 0,
        };
        self.adjacencies.entry(key.clone()).or_insert_with(new)
    }

    /// Compiles what is known of one prefix or address.
    fn compile_key(&mut self, key: Ipv6Net) {
        let old = self.fib.get(key);
        let Some(mut route) = self.route(key) else {
            if let Some(old) = old {
                self.counter_indexes.give(self.routes.get(old).counter);
                self.routes.retire(old);
                self.carried.remove(&key);
                self.set(key, NO_MATCH);
            }
            return;
        };
        let filters = self.filters.list(key);
        match old {
            Some(old) => {
                let before = self.routes.get(old);
                route.counter = before.counter;
                if route == before && filters == self.routes.filters(old) {
                    return;
                }
                self.routes.retire(old);
            }
            None => route.counter = self.take_counter(),
        }
        let index = self.routes.add(route, filters);
        self.set(key, index);
    }

    /// [`Compiler::apply`] has asked for room before it began.
    fn set(&mut self, key: Ipv6Net, index: u32) {
        if let Err(error) = self.fib.set(key, index) {
            tracing::error!(%key, %error, "a change that there was room for found none");
        }
    }

    fn route(&self, key: Ipv6Net) -> Option<Route> {
        let only = |next_hop| {
            Some(Route {
                next_hop,
                ..Route::default()
            })
        };
        if key.prefix_len() == 128 && self.tables.local_addresses.contains(&key.addr()) {
            return only(NextHop::Local);
        }
        if let Some(entry) = self.tables.prefixes.get(&key) {
            return Some(Route {
                next_hop: self.next_hop(key, &entry.next_hop),
                source: self.source(entry),
                counter: 0,
            });
        }
        // Link-local addresses mean nothing without their port.
        if key.prefix_len() == 128 && !key.addr().is_unicast_link_local() {
            let mut on_ports = self
                .snapshot
                .ports
                .iter()
                .map(|port| (port.name.clone(), key.addr()));
            let known = on_ports.find(|key| self.tables.neighbours.contains_key(key));
            let adjacency = known.and_then(|key| self.adjacencies.get(&key))?;
            return only(NextHop::Adjacency(adjacency.index));
        }
        None
    }

    fn next_hop(&self, prefix: Ipv6Net, next_hop: &model::NextHop) -> NextHop {
        match next_hop {
            model::NextHop::Deliver {
                port,
                link_layer_address,
            } => self
                .port_index(port)
                .map_or(NextHop::None, |port| NextHop::Deliver {
                    port,
                    link_layer_address: *link_layer_address,
                }),
            model::NextHop::Tunnel(id) => NextHop::Tunnel(self.tunnel_index(*id)),
            model::NextHop::Gateway { port, address } => {
                let adjacency = self.adjacencies.get(&(port.clone(), *address));
                adjacency.map_or(NextHop::None, |it| NextHop::Adjacency(it.index))
            }
            model::NextHop::OnLink { port } => self
                .port_index(port)
                .map_or(NextHop::None, |port| NextHop::OnLink { port }),
            model::NextHop::Hold { .. } | model::NextHop::After { .. } => self.hold(prefix),
            model::NextHop::Discard(DiscardReason::NodeAbsent) => NextHop::NodeAbsent,
            model::NextHop::Discard(DiscardReason::Unallocated) => NextHop::Unallocated,
            model::NextHop::Discard(DiscardReason::Prohibited) => NextHop::Prohibited,
        }
    }

    fn source(&self, entry: &PrefixEntry) -> SourceRule {
        let Some(source) = &entry.source else {
            return SourceRule::Refused;
        };
        let Some(port) = self.port_index(&source.port) else {
            return SourceRule::Refused;
        };
        let link_layer_address = source.link_layer_address;
        match source.path {
            SourcePath::Native => SourceRule::Native {
                port,
                link_layer_address,
            },
            SourcePath::Tunnel(id) => SourceRule::Tunnel {
                port,
                link_layer_address,
                tunnel: self.tunnel_index(id),
            },
        }
    }

    fn tunnel_index(&self, id: u32) -> u32 {
        self.tunnels.get(&id).map_or(0, |it| it.index)
    }
}

/// What a transaction touches.
struct Touched {
    /// Prefixes of the table of prefixes.
    prefixes: BTreeSet<Ipv6Net>,
    /// All keys of the forwarding table: those, neighbours and local addresses.
    keys: BTreeSet<Ipv6Net>,
    /// Deleted ones first, so that a peer can pass from one to another.
    tunnels: Vec<u32>,
    neighbours: BTreeSet<(String, Ipv6Addr)>,
}

impl Touched {
    fn by(transaction: &Transaction, have: &Tables) -> Self {
        let mut prefixes: BTreeSet<Ipv6Net> = transaction.delete_prefixes.iter().copied().collect();
        prefixes.extend(transaction.put_prefixes.iter().map(|(prefix, _)| *prefix));
        let mut neighbours: BTreeSet<_> = transaction.delete_neighbours.iter().cloned().collect();
        neighbours.extend(transaction.put_neighbours.iter().map(|(key, _)| key.clone()));
        let mut locals: BTreeSet<Ipv6Addr> = transaction.delete_local_addresses.iter().copied().collect();
        locals.extend(transaction.put_local_addresses.iter().copied());
        let mut tunnels = transaction.delete_tunnels.clone();
        if transaction.replace_all {
            prefixes.extend(have.prefixes.keys());
            neighbours.extend(have.neighbours.keys().cloned());
            locals.extend(&have.local_addresses);
            tunnels.extend(have.tunnels.keys());
        }
        let deleted: HashSet<u32> = tunnels.iter().copied().collect();
        tunnels.extend(
            transaction
                .put_tunnels
                .iter()
                .map(|(id, _)| *id)
                .filter(|id| !deleted.contains(id)),
        );
        let mut keys = prefixes.clone();
        keys.extend(neighbours.iter().map(|(_, address)| host(*address)));
        keys.extend(locals.into_iter().map(host));
        Self {
            prefixes,
            keys,
            tunnels,
            neighbours,
        }
    }

    /// The touched prefixes and tunnels, as they are in `tables`.
    fn entries(&self, tables: &Tables) -> Tables {
        let prefixes = self
            .prefixes
            .iter()
            .filter_map(|it| tables.prefixes.get_key_value(it));
        let tunnels = self
            .tunnels
            .iter()
            .filter_map(|it| tables.tunnels.get_key_value(it));
        Tables {
            prefixes: prefixes.map(|(key, entry)| (*key, entry.clone())).collect(),
            tunnels: tunnels.map(|(key, entry)| (*key, entry.clone())).collect(),
            ..Tables::default()
        }
    }
}

fn host(address: Ipv6Addr) -> Ipv6Net {
    Ipv6Net::from(address)
}

impl Snapshot {
    /// Which generation this is.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }
}
