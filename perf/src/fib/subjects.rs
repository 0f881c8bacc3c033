//! Tables under test, Kedge's and DPDK's, each with the keys as it wants them.

use anyhow::Context;
use dpdk::Eal;
use dpdk::peers::{Fib6, FibLookup, HashConfig, HashTable, Lpm6, PeerError, RoutesConfig};
use kedge_dataplane::fib::{Fib, Method};

use super::BURST;
use super::shapes::{Prefix, Shape};

/// A table under test.
pub(crate) trait Subject {
    /// Its name in rows.
    fn name(&self) -> &'static str;
    /// Looks burst number `at` up; the sum of what it found.
    fn lookup(&mut self, at: usize) -> u64;
}

/// Ours. Its keys are as the worker's parser leaves them (as those of `rte_hash` are words).
pub(crate) struct Kedge {
    pub(crate) name: &'static str,
    pub(crate) fib: Fib,
    pub(crate) method: Method,
    pub(crate) keys: std::rc::Rc<Vec<u128>>,
}

impl Subject for Kedge {
    fn name(&self) -> &'static str {
        self.name
    }

    #[inline]
    fn lookup(&mut self, at: usize) -> u64 {
        let mut results = [0u32; BURST];
        let keys = self.keys.get(at * BURST..(at + 1) * BURST).unwrap_or_default();
        self.fib.lookup_burst_by(self.method, keys, &mut results);
        results.iter().map(|it| u64::from(*it)).sum()
    }
}

/// The same, and what it takes to make keys of octets in network order.
pub(crate) struct KedgeOfOctets {
    pub(crate) fib: Fib,
    pub(crate) keys: std::rc::Rc<Vec<[u8; 16]>>,
}

impl Subject for KedgeOfOctets {
    fn name(&self) -> &'static str {
        "kedge-octets"
    }

    #[inline]
    fn lookup(&mut self, at: usize) -> u64 {
        let mut keys = [0u128; BURST];
        let octets = self.keys.get(at * BURST..(at + 1) * BURST).unwrap_or_default();
        for (key, octets) in keys.iter_mut().zip(octets) {
            *key = u128::from_be_bytes(*octets);
        }
        let mut results = [0u32; BURST];
        self.fib.lookup_burst(&keys, &mut results);
        results.iter().map(|it| u64::from(*it)).sum()
    }
}

/// `rte_fib6`, TRIE, next hops of four octets.
struct Fib6Subject {
    name: &'static str,
    fib: std::rc::Rc<std::cell::RefCell<Fib6>>,
    lookup: FibLookup,
    selected: bool,
    keys: std::rc::Rc<Vec<[u8; 16]>>,
}

impl Subject for Fib6Subject {
    fn name(&self) -> &'static str {
        self.name
    }

    #[inline]
    fn lookup(&mut self, at: usize) -> u64 {
        if !self.selected || at == 0 {
            // Once a turn: two subjects share the table.
            self.selected = self.fib.borrow_mut().select(self.lookup).is_ok();
        }
        let mut results = [0u64; BURST];
        let keys = self.keys.get(at * BURST..(at + 1) * BURST).unwrap_or_default();
        // Both have one length.
        let _ = self.fib.borrow().lookup_burst(keys, &mut results);
        results.iter().sum()
    }
}

struct Lpm6Subject {
    lpm: Lpm6,
    keys: std::rc::Rc<Vec<[u8; 16]>>,
}

impl Subject for Lpm6Subject {
    fn name(&self) -> &'static str {
        "rte_lpm6"
    }

    #[inline]
    fn lookup(&mut self, at: usize) -> u64 {
        let mut results = [0i32; BURST];
        let keys = self.keys.get(at * BURST..(at + 1) * BURST).unwrap_or_default();
        let _ = self.lpm.lookup_burst(keys, &mut results);
        results.iter().map(|it| i64::from(*it) as u64).sum()
    }
}

struct HashSubject {
    hash: HashTable,
    keys: Vec<u64>,
}

impl Subject for HashSubject {
    fn name(&self) -> &'static str {
        "rte_hash"
    }

    #[inline]
    fn lookup(&mut self, at: usize) -> u64 {
        let keys = self.keys.get(at * BURST..(at + 1) * BURST).unwrap_or_default();
        let Some(first) = keys.first() else { return 0 };
        // It wants pointers to its keys.
        let mut pointers = [first; BURST];
        for (pointer, key) in pointers.iter_mut().zip(keys) {
            *pointer = key;
        }
        let mut values = [0usize; BURST];
        let _ = self.hash.lookup_burst(&pointers, &mut values);
        values.iter().map(|it| *it as u64).sum()
    }
}

/// What a peer came to.
pub(crate) struct Peer {
    pub(crate) subjects: Vec<Box<dyn Subject>>,
    pub(crate) name: &'static str,
    /// Cycles of each addition.
    pub(crate) build: f64,
}

/// Most groups of 256 entries that a peer's table may take: two GiB.
const MOST_GROUPS: u32 = 1 << 21;

/// DPDK's tables with these prefixes; those that cannot hold them say so and stay away.
pub(crate) fn peers(
    eal: &Eal,
    shape: Shape,
    prefixes: &[Prefix],
    keys: &std::rc::Rc<Vec<[u8; 16]>>,
) -> anyhow::Result<Vec<Peer>> {
    let count = u32::try_from(prefixes.len())?;
    // An octet beyond the third has a group; the table reserves one for each route and octet.
    let groups: u32 = prefixes
        .iter()
        .map(|(_, length)| u32::from(length.div_ceil(8)).saturating_sub(3))
        .sum();
    let config = RoutesConfig {
        name: "peer".to_owned(),
        max_routes: count + 1,
        tbl8s: (groups + 64).min(MOST_GROUPS),
        numa_node: None,
    };
    let mut peers = Vec::new();
    match fib6(eal, &config, prefixes, keys) {
        Ok(peer) => peers.push(peer),
        Err(error) => eprintln!("  rte_fib6 stays away: {error}"),
    }
    match lpm6(eal, &config, prefixes, keys) {
        Ok(peer) => peers.push(peer),
        Err(error) => eprintln!("  rte_lpm6 stays away: {error}"),
    }
    if shape != Shape::Transit {
        peers.push(hash(eal, prefixes, keys).context("rte_hash")?);
    }
    Ok(peers)
}

/// The most prefixes of this shape, in steps of `step` up to `most`, that `rte_fib6` takes with [`MOST_GROUPS`]; none, if it
/// does not take one step.
pub(crate) fn most_in_fib6(eal: &Eal, shape: Shape, step: usize, most: usize) -> anyhow::Result<usize> {
    let (mut fits, mut refused) = (0, most / step + 1);
    while refused - fits > 1 {
        let steps = fits.midpoint(refused);
        let prefixes = shape.prefixes(steps * step);
        let config = RoutesConfig {
            name: "peer".to_owned(),
            max_routes: u32::try_from(prefixes.len())? + 1,
            tbl8s: MOST_GROUPS,
            numa_node: None,
        };
        // That there is no memory for its tables is another thing than that they are full.
        let mut fib = Fib6::new(eal, &config).context("rte_fib6 of two GiB")?;
        let all = (1..)
            .zip(&prefixes)
            .all(|(next_hop, (bits, length))| fib.add(*bits, *length, next_hop).is_ok());
        *(if all { &mut fits } else { &mut refused }) = steps;
    }
    Ok(fits * step)
}

fn fib6(
    eal: &Eal,
    config: &RoutesConfig,
    prefixes: &[Prefix],
    keys: &std::rc::Rc<Vec<[u8; 16]>>,
) -> Result<Peer, PeerError> {
    let mut fib = Fib6::new(eal, config)?;
    let start = dpdk::cycles();
    for (next_hop, (bits, length)) in (1..).zip(prefixes) {
        fib.add(*bits, *length, next_hop)?;
    }
    let build = dpdk::cycles() - start;
    let vector = fib.select(FibLookup::Avx512).is_ok();
    let fib = std::rc::Rc::new(std::cell::RefCell::new(fib));
    let subject = |name, lookup| -> Box<dyn Subject> {
        let (fib, keys) = (fib.clone(), keys.clone());
        Box::new(Fib6Subject {
            name,
            fib,
            lookup,
            selected: false,
            keys,
        })
    };
    let mut subjects = vec![subject("rte_fib6-scalar", FibLookup::Scalar)];
    if vector {
        subjects.push(subject("rte_fib6-avx512", FibLookup::Avx512));
    }
    Ok(Peer {
        subjects,
        name: "rte_fib6",
        build: build as f64 / prefixes.len().max(1) as f64,
    })
}

fn lpm6(
    eal: &Eal,
    config: &RoutesConfig,
    prefixes: &[Prefix],
    keys: &std::rc::Rc<Vec<[u8; 16]>>,
) -> Result<Peer, PeerError> {
    let mut lpm = Lpm6::new(eal, config)?;
    let start = dpdk::cycles();
    for (next_hop, (bits, length)) in (1..).zip(prefixes) {
        lpm.add(*bits, *length, next_hop)?;
    }
    let build = dpdk::cycles() - start;
    Ok(Peer {
        subjects: vec![Box::new(Lpm6Subject {
            lpm,
            keys: keys.clone(),
        })],
        name: "rte_lpm6",
        build: build as f64 / prefixes.len().max(1) as f64,
    })
}

fn hash(eal: &Eal, prefixes: &[Prefix], keys: &std::rc::Rc<Vec<[u8; 16]>>) -> Result<Peer, PeerError> {
    let entries = u32::try_from(prefixes.len()).unwrap_or(u32::MAX).max(8);
    // Room enough that the last ones find a place.
    let config = HashConfig {
        name: "peer".to_owned(),
        entries: entries + entries / 8,
        ..HashConfig::default()
    };
    let mut hash = HashTable::new(eal, &config)?;
    let start = dpdk::cycles();
    for (value, (bits, _)) in (1..).zip(prefixes) {
        hash.add(((bits >> 64) as u64).to_be(), value)?;
    }
    let build = dpdk::cycles() - start;
    let keys = keys
        .iter()
        .map(|key| (u128::from_be_bytes(*key) >> 64) as u64)
        .map(u64::to_be)
        .collect();
    Ok(Peer {
        subjects: vec![Box::new(HashSubject { hash, keys })],
        name: "rte_hash",
        build: build as f64 / prefixes.len().max(1) as f64,
    })
}
