//! `rte_fib6`.

use std::ptr::NonNull;

use super::{BurstError, PeerError, RoutesConfig, burst, next_hop, node};
use crate::eal::Eal;
use crate::errno::Errno;

/// Which code looks addresses up in a [`Fib6`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FibLookup {
    /// The fastest that the processor has and EAL was allowed.
    Default,
    /// One address at a time.
    Scalar,
    /// Sixteen at a time. Only with [`EalConfig::max_simd_bits`](crate::EalConfig::max_simd_bits) at 512.
    Avx512,
}

impl FibLookup {
    fn number(self) -> u32 {
        match self {
            Self::Default => dpdk_sys::DPDK_FIB6_LOOKUP_DEFAULT,
            Self::Scalar => dpdk_sys::DPDK_FIB6_LOOKUP_SCALAR,
            Self::Avx512 => dpdk_sys::DPDK_FIB6_LOOKUP_AVX512,
        }
    }
}

/// DPDK's `rte_fib6`: a trie of IPv6 prefixes with next hops of four octets.
#[derive(Debug)]
pub struct Fib6 {
    fib: NonNull<dpdk_sys::rte_fib6>,
    eal: Eal,
}

// SAFETY: the table belongs to no thread, and this is the only pointer to it.
unsafe impl Send for Fib6 {}
// SAFETY: through `&Fib6` one can only look up, which only reads the table.
unsafe impl Sync for Fib6 {}

impl Fib6 {
    /// What a lookup finds where there is no route.
    pub const MISS: u64 = MISS as u64;

    /// The highest next hop of a route.
    pub const MOST_NEXT_HOP: u32 = MISS - 1;

    /// Makes an empty table, looked up in by [`FibLookup::Default`].
    ///
    /// # Errors
    /// [`PeerError::Name`], [`PeerError::Exists`], [`PeerError::Size`],
    /// [`PeerError::NoMemory`] or [`PeerError::Refused`].
    pub fn new(eal: &Eal, config: &RoutesConfig) -> Result<Self, PeerError> {
        let name = config.check()?;
        if config.tbl8s > MISS {
            return Err(PeerError::Size(config.tbl8s));
        }
        let control = eal.control();
        // SAFETY: EAL is initialised (`eal`), the lock keeps other control
        // operations out, the name is copied, and the numbers have been checked.
        let fib = unsafe {
            dpdk_sys::dpdk_fib6_create(
                name.as_ptr(),
                config.max_routes,
                config.tbl8s,
                MISS,
                node(config.numa_node),
            )
        };
        let reason = Errno::last();
        drop(control);
        let fib = NonNull::new(fib).ok_or_else(|| PeerError::creating(&config.name, reason))?;
        Ok(Self {
            fib,
            eal: eal.clone(),
        })
    }

    /// Chooses the code that looks up. The routes stay.
    ///
    /// # Errors
    /// [`PeerError::Lookup`] if it cannot be had; the former choice stays then.
    pub fn select(&mut self, lookup: FibLookup) -> Result<(), PeerError> {
        // SAFETY: the table is valid while `self` is, and nobody looks up (`&mut`).
        let status = unsafe { dpdk_sys::dpdk_fib6_select(self.fib.as_ptr(), lookup.number()) };
        Errno::check(status).map_err(|_| PeerError::Lookup(lookup))?;
        Ok(())
    }

    /// Adds a route, or gives the one that is there another next hop. Bits of
    /// `prefix` beyond `length` do not count.
    ///
    /// # Errors
    /// [`PeerError::Length`] above 128, [`PeerError::NextHop`] above
    /// [`Self::MOST_NEXT_HOP`], [`PeerError::Full`] or [`PeerError::Refused`].
    pub fn add(&mut self, prefix: u128, length: u8, next_hop: u32) -> Result<(), PeerError> {
        let next_hop = self::next_hop(next_hop, Self::MOST_NEXT_HOP)?;
        check_length(length)?;
        // SAFETY: the table is valid while `self` is, and nobody looks up (`&mut`);
        // the prefix is read before the call returns.
        let status =
            unsafe { dpdk_sys::dpdk_fib6_add(self.fib.as_ptr(), &prefix.to_be_bytes(), length, next_hop) };
        Errno::check(status).map_err(PeerError::changing)?;
        Ok(())
    }

    /// Takes a route out.
    ///
    /// # Errors
    /// [`PeerError::Length`] above 128, [`PeerError::Missing`] if it is not there,
    /// [`PeerError::Full`] if what it covered needs room that is not there, or
    /// [`PeerError::Refused`].
    pub fn delete(&mut self, prefix: u128, length: u8) -> Result<(), PeerError> {
        check_length(length)?;
        // SAFETY: as in `add`.
        let status = unsafe { dpdk_sys::dpdk_fib6_delete(self.fib.as_ptr(), &prefix.to_be_bytes(), length) };
        Errno::check(status).map_err(PeerError::changing)?;
        Ok(())
    }

    /// Looks addresses, in network order, up; [`Self::MISS`] where there is no route.
    ///
    /// # Errors
    /// [`BurstError::Unequal`] if the slices are not equally long.
    #[inline]
    pub fn lookup_burst(&self, addresses: &[[u8; 16]], next_hops: &mut [u64]) -> Result<(), BurstError> {
        let count = burst(addresses.len(), next_hops.len(), i32::MAX.unsigned_abs())?;
        // SAFETY: the table is valid while `self` is and does not change while it is
        // borrowed; `count` addresses can be read and as many results written. The
        // status says only that no pointer was null.
        let _ = unsafe {
            dpdk_sys::dpdk_fib6_lookup(
                self.fib.as_ptr(),
                addresses.as_ptr(),
                next_hops.as_mut_ptr(),
                count,
            )
        };
        Ok(())
    }
}

/// The largest number that an entry of four octets holds: one bit is DPDK's own.
const MISS: u32 = u32::MAX >> 1;

fn check_length(length: u8) -> Result<(), PeerError> {
    if length > 128 {
        return Err(PeerError::Length(length));
    }
    Ok(())
}

impl Drop for Fib6 {
    fn drop(&mut self) {
        let _control = self.eal.control();
        // SAFETY: made by dpdk_fib6_create and freed only here; nobody else has a
        // pointer to it. EAL runs while `self.eal` lives.
        unsafe { dpdk_sys::dpdk_fib6_free(self.fib.as_ptr()) }
    }
}
