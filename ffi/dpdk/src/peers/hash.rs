//! `rte_hash`.

use std::ptr::NonNull;

use super::{BurstError, PeerError, burst, name, node};
use crate::eal::Eal;
use crate::errno::Errno;

/// What hash table to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HashConfig {
    /// Unique in the process; at most 21 octets.
    pub name: String,
    /// Most entries, from 8 to 2³⁰. A key may find no room already when the table
    /// is nearly full, so have some to spare.
    pub entries: u32,
    /// The NUMA node to take the memory from; `None`: any.
    pub numa_node: Option<u32>,
    /// Whether it is of the kind that may be looked up in while it changes
    /// (`RTE_HASH_EXTRA_FLAGS_RW_CONCURRENCY_LF`), which takes longer to do either.
    pub lock_free: bool,
}

impl Default for HashConfig {
    /// 65 536 entries, on any node, not lock-free.
    fn default() -> Self {
        Self {
            name: "hash".to_owned(),
            entries: 1 << 16,
            numa_node: None,
            lock_free: false,
        }
    }
}

/// DPDK's `rte_hash`: from keys of eight octets to values of a pointer's size,
/// hashed by CRC where the processor computes one.
///
/// Made for one writer and no reader at the same time, which is its fastest kind, unless told otherwise; used so
/// here in either case, so that what is deleted has no reader to wait for.
#[derive(Debug)]
pub struct HashTable {
    hash: NonNull<dpdk_sys::rte_hash>,
    lock_free: bool,
    eal: Eal,
}

// SAFETY: the table belongs to no thread (it has no per-core caches: those come with
// a flag for several writers), and this is the only pointer to it.
unsafe impl Send for HashTable {}
// SAFETY: through `&HashTable` one can only look up, which only reads the table.
unsafe impl Sync for HashTable {}

impl HashTable {
    /// Most keys in a burst.
    pub const MOST_KEYS: usize = dpdk_sys::DPDK_HASH_LOOKUP_MOST as usize;

    /// Makes an empty table.
    ///
    /// # Errors
    /// [`PeerError::Name`], [`PeerError::Exists`], [`PeerError::Size`],
    /// [`PeerError::NoMemory`] or [`PeerError::Refused`].
    pub fn new(eal: &Eal, config: &HashConfig) -> Result<Self, PeerError> {
        let name = name(&config.name)?;
        if !ENTRIES.contains(&config.entries) {
            return Err(PeerError::Size(config.entries));
        }
        let control = eal.control();
        // SAFETY: EAL is initialised (`eal`), the lock keeps other control
        // operations out, and the name is copied.
        let hash = unsafe {
            dpdk_sys::dpdk_hash_create(
                name.as_ptr(),
                config.entries,
                node(config.numa_node),
                config.lock_free.into(),
            )
        };
        let reason = Errno::last();
        drop(control);
        let hash = NonNull::new(hash).ok_or_else(|| PeerError::creating(&config.name, reason))?;
        Ok(Self {
            hash,
            lock_free: config.lock_free,
            eal: eal.clone(),
        })
    }

    /// Adds a key, or gives the one that is there another value.
    ///
    /// # Errors
    /// [`PeerError::Full`] or [`PeerError::Refused`].
    pub fn add(&mut self, key: u64, value: usize) -> Result<(), PeerError> {
        // SAFETY: the table is valid while `self` is, and nobody looks up (`&mut`).
        let status = unsafe { dpdk_sys::dpdk_hash_add(self.hash.as_ptr(), key, value) };
        Errno::check(status).map_err(PeerError::changing)?;
        Ok(())
    }

    /// Takes a key out.
    ///
    /// # Errors
    /// [`PeerError::Missing`] if it is not there, or [`PeerError::Refused`].
    pub fn delete(&mut self, key: u64) -> Result<(), PeerError> {
        // SAFETY: as in `add`; so nobody reads the place that a lock-free table uses again.
        let status = unsafe { dpdk_sys::dpdk_hash_delete(self.hash.as_ptr(), key, self.lock_free.into()) };
        Errno::check(status).map_err(PeerError::changing)?;
        Ok(())
    }

    /// Looks keys up where they lie, as DPDK does.
    ///
    /// Returns a bit for each key that is there, the lowest for the first; the value
    /// of one that is not keeps what it held.
    ///
    /// # Errors
    /// [`BurstError::Unequal`] if the slices are not equally long,
    /// [`BurstError::TooLong`] above [`Self::MOST_KEYS`].
    #[inline]
    pub fn lookup_burst(&self, keys: &[&u64], values: &mut [usize]) -> Result<u64, BurstError> {
        let count = burst(keys.len(), values.len(), dpdk_sys::DPDK_HASH_LOOKUP_MOST)?;
        let mut hits = 0;
        // SAFETY: the table is valid while `self` is and does not change while it is
        // borrowed. A reference is a pointer to a key, `count` of which can be read
        // and as many values written; `count` fits the arrays that DPDK has on its
        // stack, which it does not check. The status only counts the hits.
        let _ = unsafe {
            dpdk_sys::dpdk_hash_lookup(
                self.hash.as_ptr(),
                keys.as_ptr().cast(),
                count,
                &raw mut hits,
                values.as_mut_ptr(),
            )
        };
        Ok(hits)
    }
}

/// From a bucket's worth to DPDK's `RTE_HASH_ENTRIES_MAX`.
const ENTRIES: std::ops::RangeInclusive<u32> = 8..=1 << 30;

impl Drop for HashTable {
    fn drop(&mut self) {
        let _control = self.eal.control();
        // SAFETY: made by dpdk_hash_create and freed only here; nobody else has a
        // pointer to it. EAL runs while `self.eal` lives.
        unsafe { dpdk_sys::dpdk_hash_free(self.hash.as_ptr()) }
    }
}
