//! One packet.

use std::fmt;
use std::ptr::NonNull;

use arrayvec::ArrayVec;
use dpdk_sys::dpdk_mbuf;

use crate::live;

/// Octets free in front of a received or fresh packet.
///
/// Drivers put every packet there, as DPDK was compiled; a pool cannot ask for
/// more.
pub const HEADROOM: usize = dpdk_sys::RTE_PKTMBUF_HEADROOM as usize;

/// A packet in a DPDK buffer, owned: dropped once, transmitted once.
///
/// Always one segment, and the only reference to its buffer; [`crate::RxQueue`]
/// lets nothing else through. It stays on the thread that made it (it is neither
/// `Send` nor `Sync`): the count that keeps pools alive is per thread. Another
/// thread gets it by [`crate::handover()`].
///
/// Octets that [`Mbuf::prepend`] and [`Mbuf::append`] add hold whatever an earlier
/// packet left there. Write all of them before transmitting.
#[repr(transparent)]
pub struct Mbuf(NonNull<dpdk_mbuf>);

// Bursts hand arrays of Mbuf to C as arrays of pointers.
const _: () = {
    assert!(size_of::<Mbuf>() == size_of::<*mut dpdk_mbuf>());
    assert!(align_of::<Mbuf>() == align_of::<*mut dpdk_mbuf>());
    assert!(size_of::<Option<Mbuf>>() == size_of::<*mut dpdk_mbuf>());
    assert!(HEADROOM >= 128, "tunnel headers need 128 octets of headroom");
};

/// Less room in front of the packet than was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{asked} octets do not fit in the {available} in front of the packet")]
pub struct NoHeadroom {
    /// Octets asked for.
    pub asked: usize,
    /// Octets there were.
    pub available: usize,
}

/// Less room behind the packet than was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{asked} octets do not fit in the {available} behind the packet")]
pub struct NoTailroom {
    /// Octets asked for.
    pub asked: usize,
    /// Octets there were.
    pub available: usize,
}

/// The packet has fewer octets than were to be taken off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{asked} octets cannot be taken off a packet of {length}")]
pub struct TooShort {
    /// Octets to take off.
    pub asked: usize,
    /// Octets in the packet.
    pub length: usize,
}

impl Mbuf {
    /// Owns `mbuf`.
    ///
    /// # Safety
    /// The caller owns it, it is whole ([`is_whole`]), and [`live::add`] has counted
    /// it on this thread.
    #[inline]
    pub(crate) unsafe fn from_raw(mbuf: NonNull<dpdk_mbuf>) -> Self {
        Self(mbuf)
    }

    /// Gives the packet up; the caller owns it, and [`live::sub`] has still to be told.
    #[inline]
    pub(crate) fn into_raw(self) -> NonNull<dpdk_mbuf> {
        let mbuf = self.0;
        std::mem::forget(self);
        mbuf
    }

    #[inline]
    fn header(&self) -> &dpdk_mbuf {
        // SAFETY: the pointer is valid and this value owns what it points to; only
        // `header_mut`, which needs `&mut self`, gives out another reference.
        unsafe { self.0.as_ref() }
    }

    #[inline]
    fn header_mut(&mut self) -> &mut dpdk_mbuf {
        // SAFETY: as for `header`, and `&mut self` excludes every other reference.
        unsafe { self.0.as_mut() }
    }

    /// The packet.
    #[inline]
    #[must_use]
    pub fn data(&self) -> &[u8] {
        let header = self.header();
        // SAFETY: data_off + data_len <= buf_len, the size of the buffer at buf_addr:
        // checked at reception (`is_whole`), true of fresh mbufs, kept by the methods
        // below. The buffer is mapped memory, always initialised, and belongs to this
        // mbuf alone while `self` is borrowed.
        unsafe {
            let start = header.buf_addr.cast::<u8>().add(usize::from(header.data_off));
            std::slice::from_raw_parts(start, usize::from(header.data_len))
        }
    }

    /// The packet, to write.
    #[inline]
    #[must_use]
    pub fn data_mut(&mut self) -> &mut [u8] {
        let header = self.header();
        // SAFETY: as for `data`; the reference count is one, and `&mut self`
        // excludes every other slice of it.
        unsafe {
            let start = header.buf_addr.cast::<u8>().add(usize::from(header.data_off));
            std::slice::from_raw_parts_mut(start, usize::from(header.data_len))
        }
    }

    /// Octets in the packet.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        usize::from(self.header().data_len)
    }

    /// The packet has no octets.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.header().data_len == 0
    }

    /// Octets free in front of the packet.
    #[inline]
    #[must_use]
    pub fn headroom(&self) -> usize {
        usize::from(self.header().data_off)
    }

    /// Octets free behind the packet.
    #[inline]
    #[must_use]
    pub fn tailroom(&self) -> usize {
        let header = self.header();
        usize::from(header.buf_len)
            .saturating_sub(usize::from(header.data_off))
            .saturating_sub(usize::from(header.data_len))
    }

    /// The packet lies in one buffer. True of every `Mbuf`; for tests and asserts.
    #[inline]
    #[must_use]
    pub fn is_single_segment(&self) -> bool {
        is_whole(self.header())
    }

    /// Adds `count` octets in front, and returns them to be written.
    ///
    /// # Errors
    /// There is not that much headroom; the packet is as before.
    #[inline]
    pub fn prepend(&mut self, count: usize) -> Result<&mut [u8], NoHeadroom> {
        let available = self.headroom();
        let refused = NoHeadroom {
            asked: count,
            available,
        };
        if count > available {
            return Err(refused);
        }
        // What fits in front fits 16 bits, and so does the sum: it is within the buffer.
        let octets = u16::try_from(count).map_err(|_| refused)?;
        let header = self.header_mut();
        header.data_off -= octets;
        header.set_length(header.data_len + octets);
        self.data_mut().get_mut(..count).ok_or(refused)
    }

    /// Takes `count` octets off the front.
    ///
    /// # Errors
    /// The packet is shorter; it is as before.
    #[inline]
    pub fn strip(&mut self, count: usize) -> Result<(), TooShort> {
        let refused = TooShort {
            asked: count,
            length: self.len(),
        };
        if count > self.len() {
            return Err(refused);
        }
        let octets = u16::try_from(count).map_err(|_| refused)?;
        let header = self.header_mut();
        header.data_off += octets;
        header.set_length(header.data_len - octets);
        Ok(())
    }

    /// Adds `count` octets behind, and returns them to be written.
    ///
    /// # Errors
    /// There is not that much tailroom; the packet is as before.
    #[inline]
    pub fn append(&mut self, count: usize) -> Result<&mut [u8], NoTailroom> {
        let available = self.tailroom();
        let refused = NoTailroom {
            asked: count,
            available,
        };
        if count > available {
            return Err(refused);
        }
        let octets = u16::try_from(count).map_err(|_| refused)?;
        let length = self.len();
        let header = self.header_mut();
        header.set_length(header.data_len + octets);
        self.data_mut().get_mut(length..).ok_or(refused)
    }

    /// Takes `count` octets off the end.
    ///
    /// # Errors
    /// The packet is shorter; it is as before.
    #[inline]
    pub fn trim(&mut self, count: usize) -> Result<(), TooShort> {
        let refused = TooShort {
            asked: count,
            length: self.len(),
        };
        if count > self.len() {
            return Err(refused);
        }
        let octets = u16::try_from(count).map_err(|_| refused)?;
        let header = self.header_mut();
        header.set_length(header.data_len - octets);
        Ok(())
    }

    /// Cuts the packet to its first `length` octets; no effect if it is shorter.
    #[inline]
    pub fn truncate(&mut self, length: usize) {
        if let Ok(octets) = u16::try_from(length)
            && octets < self.header().data_len
        {
            self.header_mut().set_length(octets);
        }
    }

    /// Adds a copy of `octets` behind the packet.
    ///
    /// # Errors
    /// There is not that much tailroom; the packet is as before.
    #[inline]
    pub fn extend_from_slice(&mut self, octets: &[u8]) -> Result<(), NoTailroom> {
        self.append(octets.len())?.copy_from_slice(octets);
        Ok(())
    }

    /// An empty packet from the same pool; `None` if that has no buffer left.
    #[inline]
    #[must_use]
    pub fn sibling(&self) -> Option<Self> {
        let pool = self.header().pool;
        // SAFETY: the pool of an mbuf is written when the pool is made and never after; it is there for as
        // long as this mbuf is counted as live, which it is while `self` is borrowed. Any thread may allocate.
        let mbuf = NonNull::new(unsafe { dpdk_sys::dpdk_mbuf_alloc(pool) })?;
        live::add(1);
        // SAFETY: a fresh mbuf is one segment with one reference and lies in its buffer; it was just counted.
        Some(unsafe { Self::from_raw(mbuf) })
    }

    /// Asks the processor to fetch the packet's first cache line.
    #[inline]
    pub fn prefetch(&self) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a prefetch reads nothing and cannot fault, whatever the address.
        unsafe {
            use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(self.data().as_ptr().cast());
        }
    }

    /// The hash that the device computed over the packet's flow, if it did.
    #[inline]
    #[must_use]
    pub fn rss_hash(&self) -> Option<u32> {
        let header = self.header();
        let valid = header.ol_flags & u64::from(dpdk_sys::DPDK_MBUF_RX_RSS_HASH) != 0;
        valid.then_some(header.rss)
    }

    /// The number of the port that received it; meaningless in a fresh packet.
    #[inline]
    #[must_use]
    pub fn port(&self) -> u16 {
        self.header().port
    }

    /// Frees many packets at once, cheaper than one by one.
    #[inline]
    pub fn free_burst<const N: usize>(packets: &mut ArrayVec<Self, N>) {
        let count = packets.len();
        let Ok(number) = u32::try_from(count) else {
            return packets.clear();
        };
        // SAFETY: the first `count` are initialised, transparent pointers; with the
        // length set to zero first nobody else frees them.
        unsafe {
            packets.set_len(0);
            dpdk_sys::dpdk_mbuf_free_bulk(packets.as_mut_ptr().cast(), number);
        }
        live::sub(count);
    }
}

/// The packet is in one buffer, nobody else refers to it, and it lies within it:
/// what every `Mbuf` relies on, and drivers do not always promise. One cache line
/// tells, which the driver has just written.
#[inline]
pub(crate) fn is_whole(header: &dpdk_mbuf) -> bool {
    header.nb_segs == 1
        && header.refcnt == 1
        && u32::from(header.data_off) + u32::from(header.data_len) <= u32::from(header.buf_len)
}

/// The one place where both lengths are written.
trait SetLength {
    fn set_length(&mut self, octets: u16);
}

impl SetLength for dpdk_mbuf {
    #[inline]
    fn set_length(&mut self, octets: u16) {
        self.data_len = octets;
        self.pkt_len = u32::from(octets);
    }
}

impl Drop for Mbuf {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: this value owned the mbuf, and it is gone after this.
        unsafe { dpdk_sys::dpdk_mbuf_free(self.0.as_ptr()) }
        live::sub(1);
    }
}

impl fmt::Debug for Mbuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mbuf")
            .field("len", &self.len())
            .field("headroom", &self.headroom())
            .field("tailroom", &self.tailroom())
            .finish_non_exhaustive()
    }
}
