//! What the same changes cost in DPDK's own tables, in place: without versions, checks, or what a next hop is.

use anyhow::Context;
use dpdk::Eal;
use dpdk::peers::{Fib6, HashConfig, HashTable, PeerError, RoutesConfig};

use super::{Histogram, Kind, Row, Rows, SIZES, Timings};
use crate::fib::shapes::{Prefix, Random};
use crate::gateway::{Pool, Way, with_reserve};

/// MiB for the tables: 100,000 /64s take 512 in `rte_fib6`, a million 5,000.
pub(super) const MEMORY_MIB: u32 = 1024;
/// Groups of 256 entries for `rte_fib6`: as many as fit in that.
const GROUPS: u32 = 600_000;
/// So many it reserves for a /64.
const GROUPS_EACH: u32 = 5;
/// Routes that may be there for the time of a transaction.
const SPARE: u32 = 128;

/// A table of a peer's.
trait Peer {
    /// In the rows.
    fn name(&self) -> &'static str;
    /// Adds a prefix, or gives the one that is there another value.
    fn put(&mut self, prefix: Prefix, value: u32) -> Result<(), PeerError>;
    /// Takes one out.
    fn delete(&mut self, prefix: Prefix) -> Result<(), PeerError>;

    /// How many may come in the place of others, once it has been made anew.
    fn additions(&self) -> usize {
        usize::MAX
    }

    /// Makes it anew, empty; whether that is of use.
    fn renew(&mut self) -> Result<bool, PeerError> {
        Ok(false)
    }
}

/// DPDK 22.11 does not give back what it has reserved for a route when that is deleted: after some thousand additions
/// the table is full, whatever is in it.
struct Routes {
    eal: Eal,
    config: RoutesConfig,
    fib: Option<Fib6>,
}

impl Routes {
    fn fib(&mut self) -> Result<&mut Fib6, PeerError> {
        self.fib.as_mut().ok_or(PeerError::Missing)
    }
}

impl Peer for Routes {
    fn name(&self) -> &'static str {
        "rte_fib6"
    }

    fn put(&mut self, (bits, length): Prefix, value: u32) -> Result<(), PeerError> {
        self.fib()?.add(bits, length, value)
    }

    fn delete(&mut self, (bits, length): Prefix) -> Result<(), PeerError> {
        self.fib()?.delete(bits, length)
    }

    fn additions(&self) -> usize {
        let routes = self.config.tbl8s / GROUPS_EACH;
        routes.saturating_sub(self.config.max_routes) as usize
    }

    fn renew(&mut self) -> Result<bool, PeerError> {
        // There is no room for two.
        self.fib = None;
        self.fib = Some(Fib6::new(&self.eal, &self.config)?);
        Ok(true)
    }
}

/// Exact /64s.
struct Exact(&'static str, HashTable);

impl Peer for Exact {
    fn name(&self) -> &'static str {
        self.0
    }

    fn put(&mut self, (bits, _): Prefix, value: u32) -> Result<(), PeerError> {
        self.1.add(key(bits), value as usize)
    }

    fn delete(&mut self, (bits, _): Prefix) -> Result<(), PeerError> {
        self.1.delete(key(bits))
    }
}

fn key(bits: u128) -> u64 {
    ((bits >> 64) as u64).to_be()
}

/// A peer with prefixes in its table.
struct Subject {
    peer: Box<dyn Peer>,
    pool: Pool,
}

/// Those that can hold so many prefixes.
pub(super) struct Peers {
    prefixes: Vec<Prefix>,
    subjects: Vec<Subject>,
}

impl Peers {
    /// DPDK's tables with so many prefixes; those that cannot hold them say so and stay away.
    pub(super) fn with(eal: &Eal, count: usize, rows: &mut Rows) -> anyhow::Result<Self> {
        let mut peers = Self {
            prefixes: with_reserve(count),
            subjects: Vec::new(),
        };
        let entries = u32::try_from(count)?;
        let hash = |name, lock_free| -> Result<Box<dyn Peer>, PeerError> {
            let config = HashConfig {
                name: name_of(name, count),
                // So many that each finds a place.
                entries: entries + entries / 2 + SPARE,
                lock_free,
                ..HashConfig::default()
            };
            Ok(Box::new(Exact(name, HashTable::new(eal, &config)?)))
        };
        let fib = || -> Result<Box<dyn Peer>, PeerError> {
            let config = RoutesConfig {
                name: name_of("fib6", count),
                max_routes: entries + SPARE,
                tbl8s: GROUPS,
                numa_node: None,
            };
            let mut routes = Routes {
                eal: eal.clone(),
                config,
                fib: None,
            };
            routes.renew()?;
            Ok(Box::new(routes))
        };
        let made = [
            ("rte_hash", hash("rte_hash", false)),
            ("rte_hash-lf", hash("rte_hash-lf", true)),
            ("rte_fib6", fib()),
        ];
        for (name, peer) in made {
            let filled = peer.and_then(|peer| peers.fill(peer, count, rows));
            match filled {
                Ok(subject) => peers.subjects.push(subject),
                Err(error) => eprintln!("  {name} stays away with {count} prefixes: {error}"),
            }
        }
        Ok(peers)
    }

    fn fill(&self, mut peer: Box<dyn Peer>, count: usize, rows: &mut Rows) -> Result<Subject, PeerError> {
        let start = std::time::Instant::now();
        for (prefix, value) in self.prefixes.iter().take(count).zip(1..) {
            peer.put(*prefix, value)?;
        }
        let each = start.elapsed().as_secs_f64() * 1e6 / count.max(1) as f64;
        rows.add(
            "publish",
            "fill",
            peer.name(),
            count,
            "time",
            "us/prefix",
            &[each],
        );
        Ok(Subject {
            peer,
            pool: Pool::new(0..count, count..self.prefixes.len()),
        })
    }

    /// The same changes of prefixes as the gateway's, each lot timed alone.
    pub(super) fn measure(&mut self, way: Way, changes: usize, timings: &mut Timings) -> anyhow::Result<()> {
        for subject in &mut self.subjects {
            for size in SIZES {
                let row = Row {
                    case: super::case(Kind::Prefixes, way, size),
                    subject: subject.peer.name(),
                };
                let histogram = subject
                    .changed(&self.prefixes, way, size, super::transactions(changes, size))
                    .with_context(|| format!("{}, {}", row.subject, row.case))?;
                timings.add(row, &histogram);
            }
        }
        Ok(())
    }
}

impl Subject {
    /// How long so many lots of changes took each, nanoseconds.
    fn changed(
        &mut self,
        prefixes: &[Prefix],
        way: Way,
        size: usize,
        lots: usize,
    ) -> anyhow::Result<Histogram<u64>> {
        let mut random = Random::new(3);
        let mut histogram = Histogram::new(3)?;
        let mut lots = lots;
        if way == Way::ComeAndGo {
            // Of a lot of one, every second is an addition.
            lots = lots.min(self.peer.additions() / size.div_ceil(2));
            if self.peer.renew()? {
                for at in self.pool.there() {
                    self.peer.put(prefixes.get(*at).copied().unwrap_or_default(), 1)?;
                }
            }
        }
        for _ in 0..lots {
            let (come, go) = match way {
                Way::PutAgain => (self.pool.some(size, &mut random), Vec::new()),
                Way::ComeAndGo => self.pool.turn(size, &mut random),
            };
            let of = |at: &usize| prefixes.get(*at).copied().unwrap_or_default();
            let come: Vec<Prefix> = come.iter().map(of).collect();
            let go: Vec<Prefix> = go.iter().map(of).collect();
            let value = random.below(1 << 20) as u32 + 1;
            let start = std::time::Instant::now();
            for prefix in go {
                self.peer.delete(prefix)?;
            }
            for prefix in come {
                self.peer.put(prefix, value)?;
            }
            histogram.record(u64::try_from(start.elapsed().as_nanos())?)?;
        }
        Ok(histogram)
    }
}

/// Unique in the process, and short.
fn name_of(kind: &str, count: usize) -> String {
    format!("{kind}-{count}")
}
