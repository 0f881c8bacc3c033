//! What the tables alone take: as much of them as a packet of the case cannot do without, asked for with those of its burst, read, and
//! counted in; and nothing of a packet.
//!
//! Of many tunnels that is what memory takes, on this machine in this minute, and no forwarder with these tables takes
//! less: what it costs that there are many is to be held against this.

use arrayvec::ArrayVec;
use kedge_dataplane::snapshot::{Place, Snapshot};

use super::{BURST, PACKETS};
use crate::fib::shapes::Random;
use crate::gateway::{Gateway, Needs};

/// Name in the rows.
pub(super) const SUBJECT: &str = "tables-alone";

/// What is asked for, one after the other.
pub(super) enum Alone {
    /// Indexes of routes into tunnels.
    Into(Vec<u32>),
    /// Keys of peers.
    OutOf(Vec<u128>),
}

impl Alone {
    /// For as many packets as there are, chosen at random as theirs; `None` in cases in which tunnels are not many.
    pub(super) fn of(gateway: &Gateway, snapshot: &Snapshot) -> Option<Self> {
        let mut random = Random::new(13);
        let (mut into, mut out_of) = (Vec::new(), Vec::new());
        for _ in 0..PACKETS {
            let at = random.below(gateway.prefixes.len() as u64) as usize;
            match gateway.needs(at)? {
                Needs::Into(prefix) => into.push(snapshot.fib.lookup(prefix)),
                Needs::OutOf(key) => out_of.push(key),
            }
        }
        Some(if into.is_empty() {
            Self::OutOf(out_of)
        } else {
            Self::Into(into)
        })
    }

    /// All once; cycles per packet, and what has been found, which somebody has to ask for.
    pub(super) fn turn(&self, snapshot: &Snapshot) -> (f64, usize) {
        let (mut cycles, mut found) = (0, 0);
        match self {
            Self::Into(routes) => {
                for burst in routes.chunks_exact(BURST) {
                    let start = dpdk::cycles();
                    found += into(snapshot, burst);
                    cycles += dpdk::cycles() - start;
                }
            }
            Self::OutOf(keys) => {
                for burst in keys.chunks_exact(BURST) {
                    let start = dpdk::cycles();
                    found += out_of(snapshot, burst);
                    cycles += dpdk::cycles() - start;
                }
            }
        }
        (cycles as f64 / PACKETS as f64, found)
    }
}

/// Its route, its tunnel, and the cell of both.
#[inline(never)]
fn into(snapshot: &Snapshot, routes: &[u32]) -> usize {
    for index in routes {
        snapshot.routes.prefetch(*index);
    }
    for index in routes {
        let route = snapshot.routes.get(*index);
        if let Some(tunnel) = route.hop().tunnel() {
            snapshot.prefetch_tunnel(tunnel);
            snapshot.prefetch_into(0, route, tunnel);
        }
    }
    let mut found = 0;
    for index in routes {
        let route = snapshot.routes.get(*index);
        if let Some(tunnel) = route.hop().tunnel()
            && let Some(known) = snapshot.tunnels.at(tunnel)
        {
            snapshot.count_into(0, route, tunnel, known.overhead.into());
            found += 1;
        }
    }
    found
}

/// What is known of its number, and the cell of its tunnel.
#[inline(never)]
fn out_of(snapshot: &Snapshot, keys: &[u128]) -> usize {
    let mut places = ArrayVec::<Place<'_>, BURST>::new();
    places.extend(keys.iter().filter_map(|key| snapshot.exits.place(*key)));
    let mut tunnels = ArrayVec::<u32, BURST>::new();
    for exit in places.into_iter().filter_map(Place::find) {
        snapshot.prefetch_common_out_of(0, exit.tunnel());
        tunnels.push(exit.tunnel());
    }
    for tunnel in &tunnels {
        snapshot.count_common_out_of(0, *tunnel, 1);
    }
    tunnels.len()
}
