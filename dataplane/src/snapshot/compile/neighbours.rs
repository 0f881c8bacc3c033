//! Gateways and neighbours, and which neighbours are on the link that they say they are on.
//!
//! Whoever is on a link can say that any address is his, by ARP or neighbour discovery. So that he gets no packets but those that
//! go to that link anyway, a neighbour has an entry in the table of routes only where its address is on the link of its port (RFC
//! 4861 section 5.2): the longest prefix that covers it says so ([`model::NextHop::OnLink`]), or a route names it as its gateway by
//! that port. A prefix that goes into a tunnel, or to a node, does not lose single addresses to a neighbour.
//!
//! Prefixes and neighbours come and go in any order. What one that comes, goes, or changes its link may change is the
//! neighbours within it; they are found by their addresses, and compiled again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;

use ipnet::Ipv6Net;
use kedge_dataplane_api::model::{self, Before, PrefixEntry};

use super::super::family::{MAPPED_LENGTH, is_ipv4};
use super::super::types::Adjacency;
use super::{Compiler, KnownAdjacency, Touched, gateway, host};

/// What is needed to know which neighbours are on which link.
#[derive(Debug, Default)]
pub(super) struct Links {
    /// All neighbours with addresses that mean something without their port; address and port.
    neighbours: BTreeSet<(Ipv6Addr, String)>,
    /// How many prefixes there are of each length.
    lengths: BTreeMap<u8, usize>,
}

impl Links {
    /// How many neighbours there are.
    pub(super) fn neighbours(&self) -> usize {
        self.neighbours.len()
    }

    /// Addresses of those within a prefix.
    fn within(&self, prefix: Ipv6Net) -> impl Iterator<Item = Ipv6Addr> + '_ {
        let first = (prefix.network(), String::new());
        let addresses = self.neighbours.range(first..).map(|(address, _)| *address);
        addresses.take_while(move |address| *address <= prefix.broadcast())
    }

    /// Ports on which somebody has this address, in the order of their names.
    fn ports(&self, address: Ipv6Addr) -> impl Iterator<Item = &String> {
        let all = self.neighbours.range((address, String::new())..);
        all.take_while(move |(it, _)| *it == address)
            .map(|(_, port)| port)
    }

    fn count(&mut self, prefix: Ipv6Net, before: bool, after: bool) {
        if before == after {
            return;
        }
        let count = self.lengths.entry(prefix.prefix_len()).or_default();
        *count = if after {
            *count + 1
        } else {
            count.saturating_sub(1)
        };
        if *count == 0 {
            self.lengths.remove(&prefix.prefix_len());
        }
    }
}

impl Compiler {
    pub(super) fn compile_adjacencies(&mut self, keys: BTreeSet<(String, Ipv6Addr)>) {
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

    pub(super) fn assure_adjacency(&mut self, key: &(String, Ipv6Addr)) -> &mut KnownAdjacency {
        let indexes = &mut self.adjacency_indexes;
        let new = || KnownAdjacency {
            index: indexes.take(),
            gateways: 0,
        };
        self.adjacencies.entry(key.clone()).or_insert_with(new)
    }

    /// Keeps [`Links`] up to date, and has those neighbours compiled again that a changed prefix may put on a link, or take off one.
    pub(super) fn follow_links(&mut self, touched: &mut Touched, before: &Before) {
        for (port, address) in &touched.neighbours {
            // Known by their adjacencies alone.
            if address.is_unicast_link_local() {
                continue;
            }
            let (there, key) = ((port.clone(), *address), (*address, port.clone()));
            if self.tables.neighbours.contains_key(&there) {
                self.links.neighbours.insert(key);
            } else {
                self.links.neighbours.remove(&key);
            }
        }
        let mut gateways: BTreeSet<Ipv6Addr> = BTreeSet::new();
        for (prefix, before) in &before.prefixes {
            let (before, after) = (before.as_ref(), self.tables.prefixes.get(prefix));
            self.links.count(*prefix, before.is_some(), after.is_some());
            if before.map(link) != after.map(link) {
                touched.keys.extend(self.links.within(*prefix).map(host));
            }
            let named = [before, after].map(|entry| entry.and_then(gateway));
            if named[0] != named[1] {
                gateways.extend(named.into_iter().flatten().map(|(_, address)| address));
            }
        }
        touched.keys.extend(gateways.into_iter().map(host));
    }

    /// Index of the adjacency by which packets to this address go, as a neighbour that is where it says.
    pub(super) fn neighbour(&self, address: Ipv6Addr) -> Option<u32> {
        self.links.ports(address).next()?;
        let known = |port: &String| self.adjacencies.get(&(port.clone(), address));
        let on_link = self.covering(address).and_then(link);
        let mut ports = self.links.ports(address);
        if let Some(port) = on_link.and_then(|link| ports.find(|port| *port == link)) {
            return known(port).map(|it| it.index);
        }
        let mut named = self.links.ports(address).filter_map(known);
        named.find(|it| it.gateways > 0).map(|it| it.index)
    }

    /// The entry of the longest prefix that covers an address, shorter than the address itself. No prefix of IPv6 is one for an address of
    /// IPv4.
    fn covering(&self, address: Ipv6Addr) -> Option<&PrefixEntry> {
        let shortest = if is_ipv4(address) { MAPPED_LENGTH } else { 0 };
        let lengths = self.links.lengths.range(shortest..128).rev();
        lengths.into_iter().find_map(|(length, _)| {
            let prefix = Ipv6Net::new(address, *length).ok()?.trunc();
            self.tables.prefixes.get(&prefix)
        })
    }
}

/// The port on whose link all addresses of an entry are.
fn link(entry: &PrefixEntry) -> Option<&String> {
    match &entry.next_hop {
        model::NextHop::OnLink { port } => Some(port),
        _ => None,
    }
}
