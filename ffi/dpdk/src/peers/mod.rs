//! DPDK's own tables, here to be measured against; the gateway does not use them.
//!
//! A lookup is one call into DPDK for a burst, on the very arrays that DPDK reads
//! and writes: what is measured is the table, not this module.
//!
//! Tables take their memory from what EAL was started with
//! ([`EalConfig::memory_mib`](crate::EalConfig::memory_mib), in huge pages if it
//! was told so), and give it back when dropped.

mod fib;
mod hash;
mod lpm;

pub use fib::{Fib6, FibLookup};
pub use hash::{HashConfig, HashTable};
pub use lpm::Lpm6;

use std::ffi::CString;

use crate::errno::Errno;

/// What routing table to make. [`Fib6`] and [`Lpm6`] mean the same by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutesConfig {
    /// Unique in the process; at most 21 octets.
    pub name: String,
    /// Most routes, up to 2²⁹.
    pub max_routes: u32,
    /// DPDK's "tbl8": groups of 256 entries, a KiB each, one for each octet that
    /// some route looks at beyond the first three. At most 2²¹ in [`Lpm6`].
    pub tbl8s: u32,
    /// The NUMA node to take the memory from; `None`: any.
    pub numa_node: Option<u32>,
}

impl Default for RoutesConfig {
    /// 65 536 routes and as many groups, on any node: 128 MiB and some more.
    fn default() -> Self {
        Self {
            name: "routes".to_owned(),
            max_routes: 1 << 16,
            tbl8s: 1 << 16,
            numa_node: None,
        }
    }
}

/// What a table does not do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// The name is longer than 21 octets, is empty, or contains a NUL.
    #[error("{0:?} cannot be the name of a table")]
    Name(String),
    /// A table of that name and kind exists.
    #[error("there is a table {0:?} already")]
    Exists(String),
    /// It would hold nothing, or more than DPDK can count.
    #[error("a table cannot be made for {0} entries")]
    Size(u32),
    /// The memory that DPDK was started with, on that node, does not suffice.
    #[error("no memory for the table {0:?}")]
    NoMemory(String),
    /// This machine has no such instructions, or EAL was not allowed to use them
    /// (see [`EalConfig::max_simd_bits`](crate::EalConfig::max_simd_bits)).
    #[error("no lookup of the kind {0:?} is to be had")]
    Lookup(FibLookup),
    /// A prefix is longer than 128 bits, or of a length that the table does not know.
    #[error("no prefix in this table has {0} bits")]
    Length(u8),
    /// The table's entries are too narrow for the next hop.
    #[error("the next hop {next_hop} is above {most}")]
    NextHop {
        /// The one asked for.
        next_hop: u32,
        /// The highest there can be.
        most: u32,
    },
    /// There is no room for another entry.
    #[error("the table is full")]
    Full,
    /// What is to be deleted is not there.
    #[error("there is no such entry")]
    Missing,
    /// DPDK refused for another reason.
    #[error("DPDK refuses: {0}")]
    Refused(Errno),
}

/// Why a burst was not looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BurstError {
    /// The results' slice is not as long as the keys'.
    #[error("there is room for {results} results of {keys} keys")]
    Unequal {
        /// The keys given.
        keys: usize,
        /// The results there is room for.
        results: usize,
    },
    /// DPDK does not take that many at once.
    #[error("a burst of {keys} keys is longer than {most}")]
    TooLong {
        /// The keys given.
        keys: usize,
        /// The most there may be.
        most: u32,
    },
}

/// The shortest of DPDK's limits, less what it adds: an LPM table names its hash
/// table's ring `HT_LRH_` and so on in 28 octets, and cuts off the rest silently.
const NAME_LENGTH: usize = 21;

/// DPDK doubles this number, as an `int`.
const MOST_ROUTES: u32 = 1 << 29;

fn name(name: &str) -> Result<CString, PeerError> {
    CString::new(name)
        .ok()
        .filter(|_| (1..=NAME_LENGTH).contains(&name.len()))
        .ok_or_else(|| PeerError::Name(name.to_owned()))
}

/// As DPDK counts nodes: -1 is any.
fn node(node: Option<u32>) -> i32 {
    node.and_then(|node| i32::try_from(node).ok()).unwrap_or(-1)
}

impl RoutesConfig {
    /// Refuses what DPDK would not check itself, or would call a lack of memory.
    fn check(&self) -> Result<CString, PeerError> {
        let name = name(&self.name)?;
        if !(1..=MOST_ROUTES).contains(&self.max_routes) {
            return Err(PeerError::Size(self.max_routes));
        }
        if self.tbl8s == 0 {
            return Err(PeerError::Size(self.tbl8s));
        }
        Ok(name)
    }
}

impl PeerError {
    /// Why the table `name` was not made.
    fn creating(name: &str, reason: Errno) -> Self {
        match reason {
            Errno::EXISTS => Self::Exists(name.to_owned()),
            // All that is invalid was refused before DPDK was asked; what it calls so
            // now is an allocation that failed, whose number its clean-up overwrote.
            Errno::NO_MEMORY | Errno::INVALID => Self::NoMemory(name.to_owned()),
            _ => Self::Refused(reason),
        }
    }

    /// Why a table was not changed.
    fn changing(reason: Errno) -> Self {
        match reason {
            // A FIB takes the nodes of its tree from a pool of fixed size.
            Errno::NO_SPACE | Errno::NO_MEMORY => Self::Full,
            Errno::NOT_FOUND => Self::Missing,
            _ => Self::Refused(reason),
        }
    }
}

/// A next hop that DPDK would store without its upper bits is refused here.
fn next_hop(next_hop: u32, most: u32) -> Result<u32, PeerError> {
    if next_hop > most {
        return Err(PeerError::NextHop { next_hop, most });
    }
    Ok(next_hop)
}

/// The length of a burst, as C takes it.
#[inline]
fn burst(keys: usize, results: usize, most: u32) -> Result<u32, BurstError> {
    if keys != results {
        return Err(BurstError::Unequal { keys, results });
    }
    match u32::try_from(keys) {
        Ok(count) if count <= most => Ok(count),
        _ => Err(BurstError::TooLong { keys, most }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_has_as_many_results_as_keys() {
        assert_eq!(burst(0, 0, 64), Ok(0));
        assert_eq!(burst(64, 64, 64), Ok(64));
        assert_eq!(burst(65, 65, 64), Err(BurstError::TooLong { keys: 65, most: 64 }));
        assert_eq!(
            burst(usize::MAX, usize::MAX, u32::MAX),
            Err(BurstError::TooLong {
                keys: usize::MAX,
                most: u32::MAX
            })
        );
        assert_eq!(burst(2, 1, 64), Err(BurstError::Unequal { keys: 2, results: 1 }));
    }
}
