//! What a transaction touches, and what of it has to be followed.

use std::collections::BTreeSet;
use std::net::Ipv6Addr;

use ipnet::Ipv6Net;
use kedge_dataplane_api::model::{self, PrefixEntry, Tables, Transaction};

/// That, but for prefixes and tunnels.
pub(super) struct Touched {
    /// Keys of the forwarding table, each once or more.
    pub(super) keys: Vec<Ipv6Net>,
    pub(super) neighbours: BTreeSet<(String, Ipv6Addr)>,
}

impl Touched {
    pub(super) fn by(transaction: &Transaction, have: &Tables) -> Self {
        let mut neighbours: BTreeSet<_> = transaction.delete_neighbours.iter().cloned().collect();
        neighbours.extend(transaction.put_neighbours.iter().map(|(key, _)| key.clone()));
        let locals = transaction.delete_local_addresses.iter();
        let locals = locals.chain(&transaction.put_local_addresses);
        let mut keys: Vec<Ipv6Net> = locals.map(|it| host(*it)).collect();
        if transaction.replace_all {
            neighbours.extend(have.neighbours.keys().cloned());
            keys.extend(have.local_addresses.iter().map(|it| host(*it)));
        }
        keys.extend(neighbours.iter().map(|(_, address)| host(*address)));
        Self { keys, neighbours }
    }
}

/// The adjacency that an entry names.
pub(super) fn gateway(entry: &PrefixEntry) -> Option<(String, Ipv6Addr)> {
    match &entry.next_hop {
        model::NextHop::Gateway { port, address } => Some((port.clone(), *address)),
        _ => None,
    }
}

/// Whether packets of an entry wait for something.
pub(super) fn waits(entry: &PrefixEntry) -> bool {
    let next_hop = &entry.next_hop;
    matches!(
        next_hop,
        model::NextHop::Hold { .. } | model::NextHop::After { .. }
    )
}

pub(super) fn host(address: Ipv6Addr) -> Ipv6Net {
    Ipv6Net::from(address)
}
