//! Tables to snapshots, change by change.
//!
//! The table of routes has one entry for each address or prefix that anything
//! is known of. Where several tables know of the same address, the first of
//! these counts: local address, prefix of length 128, neighbour, which has to be on the
//! link that its packets would take ([`neighbours`]). What a
//! transaction touches is compiled again ([`Compiler::compile_key`]); so is the
//! way to every peer that is in a prefix that it touches. All tunnels to a peer
//! share that: a million of them need not be looked at when it changes.

mod charging;
mod common;
mod departed;
mod exits;
mod flow_holds;
mod flows;
mod holds;
mod neighbours;
mod source_prefixes;
mod touched;
mod tunnels;
mod warm;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use ipnet::Ipv6Net;
use kedge_dataplane_api::model::{
    self, Before, DiscardReason, PrefixEntry, PrefixKey, Sender, SourcePath, Tables, Transaction,
};

use super::check::{ApplyError, Have, TableLimits, check, tunnels_of};
use super::exits::ExitWriter;
use super::family::all_of_ipv4;
use super::routes::{Place, RouteWriter};
use super::slab::{Indexes, Slab};
pub use holds::{KnownHold, Maximums};

use super::types::{ENDPOINTS, NextHop, PortDescription, Route, Snapshot, SourceRule};
use crate::counters::{Bank, Charge, TimedBank, Traffic};
use crate::fib::{NO_MATCH, Table};
use crate::flow::{self, Flows};
use crate::path_mtu::PathMtus;
use crate::stage::icmpv4_error::DUMMY_ADDRESS;
use crate::stage::ipv4;
use crate::versions::Token;

pub use charging::{Carried, Total, earlier};
pub use departed::{CountedOf, Departed, MOST_DEPARTED, Named};
pub use flow_holds::FlowHold;
pub use flows::Expiry;
pub(super) use flows::{Filters, tunnels_named};
use touched::{Touched, gateway, host, waits};

/// Keys of peers that the change of one tunnel changes at most.
const TUNNEL_KEYS: usize = 7;

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
    /// The same of what only passes through.
    passed_before: Vec<Traffic>,
    /// Which of these have a cell with a tunnel.
    sharers: common::Sharers,
    longer: source_prefixes::Longer,
    departures: departed::Departures,
    /// What came with prefixes from other anchors.
    carried: HashMap<Ipv6Net, Carried>,
    tunnels: BTreeMap<u32, Counted>,
    tunnel_indexes: Indexes,
    /// Tunnel id by the key of what comes in through it.
    peers: BTreeMap<Ipv6Net, u32>,
    /// Peer and index of every tunnel with a TEID or GRE key, by the beginning of its key: of most there is one.
    numbers: HashMap<u64, Vec<(Ipv6Addr, u32)>>,
    /// By remote address, as a number, to find those that a change of the routes concerns.
    paths: BTreeMap<u128, KnownPath>,
    path_indexes: Indexes,
    exits: ExitWriter,
    ends: exits::KnownEnds,
    /// What routers said of the paths to peers; outlives the tunnels.
    path_mtus: PathMtus,
    /// How often each tunnel is named by a prefix or a filter.
    users: HashMap<u32, usize>,
    adjacencies: BTreeMap<(String, Ipv6Addr), KnownAdjacency>,
    adjacency_indexes: Indexes,
    links: neighbours::Links,
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
        let (mut filters, exits) = (Filters::default(), ExitWriter::default());
        let snapshot = Snapshot {
            generation: 1,
            serial: 1,
            made_at: Instant::now(),
            fib: fib.commit(),
            peers: peer_table.commit(),
            routes: routes.commit(),
            tunnels: Slab::default(),
            source_prefixes: Slab::default(),
            exits: exits.commit(),
            ends: Slab::default(),
            paths: Slab::default(),
            afters: Slab::default(),
            adjacencies: Slab::default(),
            ports: ports.into(),
            node_address: node_address.into(),
            carries_ipv4: false,
            ipv4_address: DUMMY_ADDRESS,
            endpoints: ArrayVec::new(),
            prefix_traffic: TimedBank::new(workers),
            passing_traffic: Bank::new(workers),
            counted: Token::new(()),
            tunnel_traffic: Bank::new(workers),
            common_traffic: Bank::new(workers),
            flows: Flows {
                any: false,
                lists: filters.commit(),
                wide: Arc::default(),
                meters: Slab::default(),
                meter_bank: flow::meter::Bank::new(workers),
                traffic: TimedBank::new(workers),
                colours: flow::meter::ColourBank::new(workers),
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
            passed_before: Vec::new(),
            sharers: common::Sharers::default(),
            longer: source_prefixes::Longer::default(),
            departures: departed::Departures::default(),
            carried: HashMap::new(),
            tunnels: BTreeMap::new(),
            tunnel_indexes: Indexes::default(),
            peers: BTreeMap::new(),
            numbers: HashMap::new(),
            paths: BTreeMap::new(),
            exits,
            ends: exits::KnownEnds::default(),
            path_indexes: Indexes::default(),
            path_mtus: PathMtus::default(),
            users: HashMap::new(),
            adjacencies: BTreeMap::new(),
            adjacency_indexes: Indexes::default(),
            links: neighbours::Links::default(),
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
        self.snapshot.carries_ipv4 = limits.inner_ipv4;
        if limits.inner_ipv4 {
            self.compile_key(all_of_ipv4());
            self.commit();
        }
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
        self.warm(transaction);
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
        let before = self.tables.apply(transaction);
        touched
            .keys
            .extend(before.prefixes.iter().map(|(prefix, _)| *prefix));
        let holds = self.compile_users(&touched, &before);
        self.follow_links(&mut touched, &before);
        // Tunnels first: prefixes name them by index. The ways to their peers are found below, when the
        // routes are there.
        let mut unresolved: BTreeSet<Ipv6Addr> = BTreeSet::new();
        for (_, tunnel) in &before.tunnels {
            self.drop_peer(tunnel.as_ref());
        }
        // Deleted ones first, so that a peer can pass from one to another.
        let (gone, there) = before
            .tunnels
            .iter()
            .map(|(id, _)| *id)
            .partition::<Vec<_>, _>(|id| !self.tables.tunnels.contains_key(id));
        for id in gone.into_iter().chain(there) {
            unresolved.extend(self.compile_tunnel(id));
        }
        // Filters name tunnels too, and hang off the routes of prefixes.
        self.compile_flows(flows, &mut touched);
        let tunnels = || before.tunnels.iter().filter_map(|(_, tunnel)| tunnel.as_ref());
        for tunnel in tunnels() {
            self.release_path(tunnel.remote);
            self.release_ends(tunnel);
        }
        let remotes: BTreeSet<Ipv6Addr> = tunnels().map(|tunnel| tunnel.remote).collect();
        for remote in remotes.union(&unresolved) {
            self.know_peer(*remote);
        }
        let now = Instant::now();
        for prefix in holds {
            self.follow_hold(prefix, now);
        }
        touched.keys.sort_unstable_by_key(|key| PrefixKey(*key));
        touched.keys.dedup_by_key(|key| PrefixKey(*key));
        for prefix in &touched.keys {
            self.compile_key(*prefix);
        }
        for key in &touched.keys {
            let within = self
                .paths
                .range(u128::from(key.network())..=u128::from(key.broadcast()));
            unresolved.extend(within.map(|(remote, _)| Ipv6Addr::from(*remote)));
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
        self.snapshot.exits = self.exits.commit();
        let locals = self.tables.local_addresses.iter();
        self.snapshot.endpoints = locals.take(ENDPOINTS).map(|it| u128::from(*it)).collect();
        self.snapshot.ipv4_address = self.ipv4_address();
        self.snapshot.serial += 1;
        self.snapshot.flows.lists = self.filters.commit();
        self.snapshot.counted = self.commit_departures();
        self.snapshot.made_at = Instant::now();
        self.snapshot.clone()
    }

    /// The first IPv4 address of this node.
    fn ipv4_address(&self) -> [u8; 4] {
        let all = all_of_ipv4();
        let mut own = self.tables.local_addresses.range(all.network()..=all.broadcast());
        own.next()
            .map_or(DUMMY_ADDRESS, |address| ipv4::unmapped((*address).into()))
    }

    /// Whether there is memory for whatever a transaction may come to, before any of it is carried out.
    fn room_for(&self, transaction: &Transaction) -> Result<(), ApplyError> {
        let (replaced, replaced_tunnels) = match transaction.replace_all {
            true => (self.fib.len(), self.tunnels.len()),
            false => (0, 0),
        };
        let tunnels = transaction.put_tunnels.len() + transaction.delete_tunnels.len();
        // What is there may be put anew: twice a change of one entry. Neighbours come and go with the prefixes of their links.
        let changes = transaction.entries() - tunnels + replaced + self.links.neighbours();
        let full = |full| ApplyError::Full { changes, full };
        self.fib.room_for(changes).map_err(full)?;
        // As it was and as it is a GTP-U tunnel has its TEID there, that TEID with its peer, and its peer; another one's
        // TEID gets its peer with it. So has one of GRE its key.
        let peers = TUNNEL_KEYS * (tunnels + replaced_tunnels);
        self.peer_table.room_for(peers).map_err(full)?;
        let counters = self.snapshot.prefix_traffic.cells();
        let flows = self.filters.room_for(transaction, &self.snapshot.flows);
        if !flows
            || !self.routes.room_for(changes)
            || counters <= self.fib.len() + self.departures.counters() + changes
        {
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

    /// Counts who names each tunnel and each gateway, and brings touched adjacencies up to date. Gives those prefixes that
    /// wait for something, or have waited.
    fn compile_users(&mut self, touched: &Touched, before: &Before) -> Vec<Ipv6Net> {
        let mut adjacencies = touched.neighbours.clone();
        let mut holds = Vec::new();
        for (prefix, before) in &before.prefixes {
            for tunnel in before.iter().flat_map(tunnels_of) {
                if let Entry::Occupied(mut users) = self.users.entry(tunnel) {
                    *users.get_mut() -= 1;
                    if *users.get() == 0 {
                        users.remove();
                    }
                }
            }
            if let Some(key) = before.as_ref().and_then(gateway) {
                if let Some(it) = self.adjacencies.get_mut(&key) {
                    it.gateways = it.gateways.saturating_sub(1);
                }
                adjacencies.insert(key);
            }
            let after = self.tables.prefixes.get(prefix);
            for tunnel in after.into_iter().flat_map(tunnels_of) {
                *self.users.entry(tunnel).or_default() += 1;
            }
            if [before.as_ref(), after].into_iter().flatten().any(waits) {
                holds.push(*prefix);
            }
            if let Some(key) = after.and_then(gateway) {
                self.assure_adjacency(&key).gateways += 1;
                adjacencies.insert(key);
            }
        }
        self.compile_adjacencies(adjacencies);
        holds
    }

    /// Compiles what is known of one prefix or address.
    fn compile_key(&mut self, key: Ipv6Net) {
        let old = self.fib.get(key);
        let Some(mut route) = self.route(key) else {
            if let Some(old) = old {
                let before = self.routes.get(old);
                self.share_no_more(before);
                self.depart_prefix(key, before.counter);
                self.routes.retire(old);
                if self.set(key, NO_MATCH) {
                    self.source_went(key);
                }
            }
            return;
        };
        let filters = self.filters.list(key);
        let place = match old {
            Some(old) => {
                let before = self.routes.get(old);
                route.counter = before.counter;
                self.share(key, Some(before), &mut route);
                if route == before && filters == self.routes.filters(old) {
                    return;
                }
                self.routes.retire(old);
                Place::InsteadOf(old)
            }
            None => {
                route.counter = self.take_counter();
                self.share(key, None, &mut route);
                let before = u128::from(key.network()).checked_sub(1);
                Place::Beside(before.map_or(NO_MATCH, |address| self.fib.lookup(address)))
            }
        };
        let index = self.routes.add(route, filters, place);
        let is_there = self.set(key, index);
        self.name_source(key, &route);
        if old.is_none() && is_there {
            self.source_came(key);
        }
    }

    /// [`Compiler::apply`] has asked for room before it began.
    fn set(&mut self, key: Ipv6Net, index: u32) -> bool {
        let done = self.fib.set(key, index);
        if let Err(error) = &done {
            tracing::error!(%key, %error, "a change that there was room for found none");
        }
        done.is_ok()
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
                ..Route::default()
            });
        }
        // Where IPv4 is carried, no entry of IPv6 is one for it.
        if self.limits.inner_ipv4 && key == all_of_ipv4() {
            return only(NextHop::None);
        }
        if key.prefix_len() == 128 {
            return self
                .neighbour(key.addr())
                .and_then(|it| only(NextHop::Adjacency(it)));
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
        let onward = match source.path {
            SourcePath::Native => None,
            SourcePath::Tunnel(id) => Some(self.tunnel_index(id)),
        };
        let (port, link_layer_address) = match &source.sender {
            Sender::Tunnel(id) => {
                let tunnel = self.tunnel_index(*id);
                return SourceRule::Behind { tunnel, onward };
            }
            Sender::Node {
                port,
                link_layer_address,
            } => (port, *link_layer_address),
        };
        let Some(port) = self.port_index(port) else {
            return SourceRule::Refused;
        };
        match onward {
            None => SourceRule::Native {
                port,
                link_layer_address,
            },
            Some(tunnel) => SourceRule::Tunnel {
                port,
                link_layer_address,
                tunnel,
            },
        }
    }

    /// The index of a tunnel, by which workers know it; 0: there is none with this id.
    #[must_use]
    pub fn tunnel_index(&self, id: u32) -> u32 {
        self.tunnels.get(&id).map_or(0, |it| it.index)
    }
}

impl Snapshot {
    /// Which generation this is.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }
}
