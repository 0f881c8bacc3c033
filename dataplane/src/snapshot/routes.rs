//! The table of routes: entries that are written once.
//!
//! A route never changes in place. A prefix whose route changes gets another
//! index, which the forwarding table of the same version leads to; the old one is
//! used again when no version that leads to it is held any more. So one array
//! serves all versions, and a change costs one entry.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::types::{LinkLayerAddress, NextHop, Route, SourceRule};
use crate::fib::{Memory, WORDS, prefetch};
use crate::flow::List;
use crate::versions::{Token, Versions};

/// Words of a route: half a cache line.
const ROUTE: usize = 4;
/// That of its filters, which is read only where there are some.
const FILTERS: usize = 3;
/// Lines that are reserved for routes: 2 GiB of addresses, 64 million routes. Only what is used takes memory.
const LINES: usize = if cfg!(miri) { 1 << 10 } else { 1 << 25 };

/// What the indexes of one version of the forwarding table mean. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Routes {
    memory: Arc<Memory>,
    _held: Token,
}

impl Routes {
    /// The route; none at index 0, or where never one was.
    #[inline]
    #[must_use]
    pub fn get(&self, index: u32) -> Route {
        let word = |at: usize| word(&self.memory, index, at).load(Ordering::Relaxed);
        Route::unpack([word(0), word(1), word(2)])
    }

    /// The filters of the prefix whose route this is. They are in the same half line.
    #[inline]
    #[must_use]
    pub fn filters(&self, index: u32) -> List {
        List::unpack(word(&self.memory, index, FILTERS).load(Ordering::Relaxed))
    }

    /// Asks the processor for a route that [`Routes::get`] will be asked for.
    #[inline]
    pub fn prefetch(&self, index: u32) {
        prefetch(word(&self.memory, index, 0));
    }
}

#[inline]
fn word(memory: &Memory, index: u32, at: usize) -> &AtomicU64 {
    memory.word(index as usize * ROUTE + at)
}

/// The writer's end.
#[derive(Debug)]
pub(super) struct RouteWriter {
    memory: Arc<Memory>,
    free: Vec<u32>,
    /// The next index that was never used. 0 is no route.
    next: u32,
    versions: Versions<u32>,
}

impl RouteWriter {
    pub(super) fn new() -> Self {
        Self {
            memory: Arc::new(Memory::of(LINES)),
            free: Vec::new(),
            next: 1,
            versions: Versions::default(),
        }
    }

    /// Whether so many routes can be added.
    pub(super) fn room_for(&self, count: usize) -> bool {
        self.memory.lines() * WORDS / ROUTE > (self.next as usize).saturating_add(count)
    }

    /// A new entry. Whoever adds has asked for room before.
    pub(super) fn add(&mut self, route: Route, filters: List) -> u32 {
        let index = self.free.pop().unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        });
        for (at, value) in route.pack().into_iter().enumerate() {
            word(&self.memory, index, at).store(value, Ordering::Relaxed);
        }
        word(&self.memory, index, FILTERS).store(filters.pack(), Ordering::Relaxed);
        index
    }

    /// The filters of an index in use.
    pub(super) fn filters(&self, index: u32) -> List {
        List::unpack(word(&self.memory, index, FILTERS).load(Ordering::Relaxed))
    }

    /// The route of an index in use.
    pub(super) fn get(&self, index: u32) -> Route {
        let word = |at: usize| word(&self.memory, index, at).load(Ordering::Relaxed);
        Route::unpack([word(0), word(1), word(2)])
    }

    /// The next version does not lead to it any more.
    pub(super) fn retire(&mut self, index: u32) {
        self.versions.retire(index);
    }

    /// For the next version.
    pub(super) fn commit(&mut self) -> Routes {
        let free = &mut self.free;
        let held = self.versions.commit(|index| free.push(index));
        Routes {
            memory: self.memory.clone(),
            _held: held,
        }
    }
}

fn pack_address(address: LinkLayerAddress) -> u64 {
    let [a, b, c, d, e, f] = address;
    u64::from_be_bytes([a, b, c, d, e, f, 0, 0])
}

#[inline]
fn unpack_address(word: u64) -> LinkLayerAddress {
    let [a, b, c, d, e, f, _, _] = word.to_be_bytes();
    [a, b, c, d, e, f]
}

impl Route {
    fn pack(self) -> [u64; 3] {
        let place = |port: u8, address| u64::from(port) << 8 | pack_address(address);
        let next_hop = match self.next_hop {
            NextHop::None => 0,
            NextHop::Deliver {
                port,
                link_layer_address,
            } => 1 | place(port, link_layer_address),
            NextHop::Tunnel(index) => 2 | u64::from(index) << 32,
            NextHop::Adjacency(index) => 3 | u64::from(index) << 32,
            NextHop::OnLink { port } => 4 | u64::from(port) << 8,
            NextHop::Local => 5,
            NextHop::NodeAbsent => 6,
            NextHop::Unallocated => 7,
            NextHop::Prohibited => 8,
            NextHop::Hold => 9,
            NextHop::HoldExpired => 10,
            NextHop::After(index) => 11 | u64::from(index) << 32,
        };
        let (source, tunnel) = match self.source {
            SourceRule::Refused => (0, 0),
            SourceRule::Native {
                port,
                link_layer_address,
            } => (1 | place(port, link_layer_address), 0),
            SourceRule::Tunnel {
                port,
                link_layer_address,
                tunnel,
            } => (2 | place(port, link_layer_address), tunnel),
        };
        [
            next_hop,
            source,
            u64::from(self.counter) << 32 | u64::from(tunnel),
        ]
    }

    #[inline]
    fn unpack([next_hop, source, numbers]: [u64; 3]) -> Self {
        let port = |word: u64| (word >> 8) as u8;
        let index = (next_hop >> 32) as u32;
        Self {
            next_hop: match next_hop & 0xff {
                1 => NextHop::Deliver {
                    port: port(next_hop),
                    link_layer_address: unpack_address(next_hop),
                },
                2 => NextHop::Tunnel(index),
                3 => NextHop::Adjacency(index),
                4 => NextHop::OnLink { port: port(next_hop) },
                5 => NextHop::Local,
                6 => NextHop::NodeAbsent,
                7 => NextHop::Unallocated,
                8 => NextHop::Prohibited,
                9 => NextHop::Hold,
                10 => NextHop::HoldExpired,
                11 => NextHop::After(index),
                _ => NextHop::None,
            },
            source: match source & 0xff {
                1 => SourceRule::Native {
                    port: port(source),
                    link_layer_address: unpack_address(source),
                },
                2 => SourceRule::Tunnel {
                    port: port(source),
                    link_layer_address: unpack_address(source),
                    tunnel: numbers as u32,
                },
                _ => SourceRule::Refused,
            },
            counter: (numbers >> 32) as u32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_survives_packing() {
        let link_layer_address = [0xfe, 2, 3, 4, 5, 0xff];
        let next_hops = [
            NextHop::None,
            NextHop::Deliver {
                port: 15,
                link_layer_address,
            },
            NextHop::Tunnel(u32::MAX),
            NextHop::Adjacency(7),
            NextHop::OnLink { port: 3 },
            NextHop::Local,
            NextHop::NodeAbsent,
            NextHop::Unallocated,
            NextHop::Prohibited,
            NextHop::Hold,
            NextHop::HoldExpired,
            NextHop::After(9),
        ];
        let sources = [
            SourceRule::Refused,
            SourceRule::Native {
                port: 1,
                link_layer_address,
            },
            SourceRule::Tunnel {
                port: 255,
                link_layer_address,
                tunnel: u32::MAX,
            },
        ];
        for next_hop in next_hops {
            for source in sources {
                let route = Route {
                    next_hop,
                    source,
                    counter: 0x8765_4321,
                };
                assert_eq!(Route::unpack(route.pack()), route);
            }
        }
    }

    #[test]
    fn an_index_is_used_again_only_when_nobody_can_read_it() {
        let mut writer = RouteWriter::new();
        let route = |index| Route {
            next_hop: NextHop::Tunnel(index),
            ..Route::default()
        };
        let first = writer.add(route(1), List::default());
        let held = writer.commit();
        writer.retire(first);
        let mut taken = Vec::new();
        for number in 2..20 {
            taken.push(writer.add(route(number), List::default()));
            writer.commit();
        }
        assert!(!taken.contains(&first));
        assert_eq!(held.get(first), route(1));
        drop(held);
        writer.commit();
        assert_eq!(writer.add(route(99), List::default()), first);
        assert_eq!(
            writer.commit().get(if cfg!(miri) { 99 } else { 9_999_999 }),
            Route::default()
        );
    }
}
