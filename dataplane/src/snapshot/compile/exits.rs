//! What is known of tunnels by their numbers ([`Exits`](crate::snapshot::Exits)): derived here from the tunnel, its ends, and
//! the prefix whose packets it brings, whenever one of these changes.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::Ipv6Addr;

use kedge_dataplane_api::model;

use super::super::check::Arrival;
use super::super::exits::{ENDS, Ends, Exit};
use super::super::family::ethertype;
use super::super::slab::Indexes;
use super::super::types::SourcePrefix;
use super::Compiler;
use crate::fib::NO_MATCH;
use crate::tunnel::{gre, gtpu, outer};

/// The ends of all tunnels with numbers: there are few, for many tunnels have the same.
#[derive(Clone, Debug, Default)]
pub(super) struct KnownEnds {
    /// By our address and the peer's: their index, and how many tunnels have them.
    pairs: HashMap<(Ipv6Addr, Ipv6Addr), (u32, u32)>,
    indexes: Indexes,
}

impl KnownEnds {
    /// Index 0: there is none left for them.
    fn index(&self, local: Ipv6Addr, remote: Ipv6Addr) -> u32 {
        self.pairs.get(&(local, remote)).map_or(0, |(index, _)| *index)
    }
}

impl Compiler {
    /// A tunnel has its ends. Before what is known of its number.
    pub(super) fn take_ends(&mut self, tunnel: &model::Tunnel) {
        if number(Arrival::of(tunnel)).is_none() {
            return;
        }
        let KnownEnds { pairs, indexes } = &mut self.ends;
        let (known, tunnels) = pairs.entry((tunnel.local, tunnel.remote)).or_insert((0, 0));
        *tunnels += 1;
        if *known != 0 {
            return;
        }
        // Those that came when there was none left have one as soon as there is one and a tunnel of theirs is put.
        let index = indexes.take();
        if index >= ENDS {
            return indexes.give(index);
        }
        *known = index;
        let ends = Ends {
            local: tunnel.local.into(),
            remote: tunnel.remote.into(),
            ethertype: ethertype(tunnel.remote),
        };
        self.snapshot.ends.set(index, ends);
    }

    /// A tunnel that was this has not these ends any more, or has taken them again.
    pub(super) fn release_ends(&mut self, tunnel: &model::Tunnel) {
        if number(Arrival::of(tunnel)).is_none() {
            return;
        }
        let KnownEnds { pairs, indexes } = &mut self.ends;
        let Entry::Occupied(mut known) = pairs.entry((tunnel.local, tunnel.remote)) else {
            return;
        };
        known.get_mut().1 -= 1;
        if let (index, 0) = *known.get() {
            known.remove();
            if index != 0 {
                self.snapshot.ends.set(index, Ends::default());
                indexes.give(index);
            }
        }
    }

    /// The number of this key leads to the tunnel with this index and to no other; [`NO_MATCH`]: nothing is to be known by that
    /// number, since no peer has it, or several.
    pub(super) fn set_exit(&mut self, key: u128, tunnel: u32) {
        let Some(number) = outer::number_of(key) else {
            return;
        };
        if tunnel == NO_MATCH {
            return self.exits.remove(number);
        }
        let known = self.snapshot.tunnels.get(tunnel);
        let ends = self.ends.index(known.local.into(), known.remote.into());
        let source = self.snapshot.source_prefixes.get(tunnel);
        self.exits.put(number, Exit::new(tunnel, ends, source));
    }

    /// This is whose packets come out of the tunnel with this index.
    pub(super) fn exit_brings(&mut self, tunnel: u32, source: SourcePrefix) {
        let known = self.snapshot.tunnels.get(tunnel);
        let key = match known.encapsulation {
            model::Encapsulation::Ipv6InIpv6 => None,
            model::Encapsulation::GtpU(it) => Some(gtpu::key(it.local_teid.get(), 0)),
            model::Encapsulation::Gre(it) => Some(gre::peer_key(it.local_key, 0)),
        };
        if let Some(number) = key.and_then(outer::number_of) {
            self.exits.set_source(number, tunnel, source);
        }
    }
}

/// Of what a tunnel's packets come with.
fn number(arrival: Arrival) -> Option<u64> {
    outer::number_of(u128::from(arrival.key().addr()))
}
