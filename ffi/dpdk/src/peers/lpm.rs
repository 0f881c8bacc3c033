//! `rte_lpm6`.

use std::ptr::NonNull;

use super::{BurstError, PeerError, RoutesConfig, burst, next_hop, node};
use crate::eal::Eal;
use crate::errno::Errno;

/// DPDK's `rte_lpm6`: IPv6 prefixes with next hops of 21 bits.
#[derive(Debug)]
pub struct Lpm6 {
    lpm: NonNull<dpdk_sys::rte_lpm6>,
    eal: Eal,
}

// SAFETY: the table belongs to no thread, and this is the only pointer to it.
unsafe impl Send for Lpm6 {}
// SAFETY: through `&Lpm6` one can only look up, which only reads the table.
unsafe impl Sync for Lpm6 {}

impl Lpm6 {
    /// What a lookup finds where there is no route.
    pub const MISS: i32 = -1;

    /// The highest next hop of a route.
    pub const MOST_NEXT_HOP: u32 = (1 << 21) - 1;

    /// Makes an empty table.
    ///
    /// # Errors
    /// [`PeerError::Name`], [`PeerError::Exists`], [`PeerError::Size`],
    /// [`PeerError::NoMemory`] or [`PeerError::Refused`].
    pub fn new(eal: &Eal, config: &RoutesConfig) -> Result<Self, PeerError> {
        let name = config.check()?;
        if config.tbl8s > MOST_TBL8S {
            return Err(PeerError::Size(config.tbl8s));
        }
        let control = eal.control();
        // SAFETY: EAL is initialised (`eal`), the lock keeps other control
        // operations out, the name is copied, and the numbers have been checked.
        let lpm = unsafe {
            dpdk_sys::dpdk_lpm6_create(
                name.as_ptr(),
                config.max_routes,
                config.tbl8s,
                node(config.numa_node),
            )
        };
        let reason = Errno::last();
        drop(control);
        let lpm = NonNull::new(lpm).ok_or_else(|| PeerError::creating(&config.name, reason))?;
        Ok(Self {
            lpm,
            eal: eal.clone(),
        })
    }

    /// Adds a route, or gives the one that is there another next hop. Bits of
    /// `prefix` beyond `length` do not count.
    ///
    /// # Errors
    /// [`PeerError::Length`] above 128 and, since DPDK knows no default route here,
    /// at 0; [`PeerError::NextHop`] above [`Self::MOST_NEXT_HOP`];
    /// [`PeerError::Full`] or [`PeerError::Refused`].
    pub fn add(&mut self, prefix: u128, length: u8, next_hop: u32) -> Result<(), PeerError> {
        let next_hop = self::next_hop(next_hop, Self::MOST_NEXT_HOP)?;
        check_length(length)?;
        // SAFETY: the table is valid while `self` is, and nobody looks up (`&mut`);
        // the prefix is read before the call returns.
        let status =
            unsafe { dpdk_sys::dpdk_lpm6_add(self.lpm.as_ptr(), &prefix.to_be_bytes(), length, next_hop) };
        Errno::check(status).map_err(PeerError::changing)?;
        Ok(())
    }

    /// Takes a route out.
    ///
    /// # Errors
    /// [`PeerError::Length`] as in [`Self::add`], [`PeerError::Missing`] if it is
    /// not there, or [`PeerError::Refused`].
    pub fn delete(&mut self, prefix: u128, length: u8) -> Result<(), PeerError> {
        check_length(length)?;
        // SAFETY: as in `add`.
        let status = unsafe { dpdk_sys::dpdk_lpm6_delete(self.lpm.as_ptr(), &prefix.to_be_bytes(), length) };
        Errno::check(status).map_err(PeerError::changing)?;
        Ok(())
    }

    /// Looks addresses, in network order, up; [`Self::MISS`] where there is no route.
    ///
    /// # Errors
    /// [`BurstError::Unequal`] if the slices are not equally long.
    #[inline]
    pub fn lookup_burst(&self, addresses: &[[u8; 16]], next_hops: &mut [i32]) -> Result<(), BurstError> {
        let count = burst(addresses.len(), next_hops.len(), u32::MAX)?;
        // SAFETY: the table is valid while `self` is and does not change while it is
        // borrowed; `count` addresses can be read and as many results written. The
        // status says only that no pointer was null.
        let _ = unsafe {
            dpdk_sys::dpdk_lpm6_lookup(
                self.lpm.as_ptr(),
                addresses.as_ptr(),
                next_hops.as_mut_ptr(),
                count,
            )
        };
        Ok(())
    }
}

/// An entry has 21 bits for the next group, as for the next hop.
const MOST_TBL8S: u32 = 1 << 21;

fn check_length(length: u8) -> Result<(), PeerError> {
    if !(1..=128).contains(&length) {
        return Err(PeerError::Length(length));
    }
    Ok(())
}

impl Drop for Lpm6 {
    fn drop(&mut self) {
        let _control = self.eal.control();
        // SAFETY: made by dpdk_lpm6_create and freed only here; nobody else has a
        // pointer to it. EAL runs while `self.eal` lives.
        unsafe { dpdk_sys::dpdk_lpm6_free(self.lpm.as_ptr()) }
    }
}
