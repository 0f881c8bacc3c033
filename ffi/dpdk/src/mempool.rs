//! Pools of packet buffers.

use std::ffi::CString;
use std::ptr::NonNull;
use std::sync::Arc;

use arrayvec::ArrayVec;

use crate::eal::Eal;
use crate::errno::Errno;
use crate::live;
use crate::mbuf::{HEADROOM, Mbuf};

/// What pool to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MempoolConfig {
    /// Unique in the process; at most 25 octets.
    pub name: String,
    /// How many buffers. One less than a power of two wastes no memory.
    pub count: u32,
    /// Buffers kept per registered thread, at most 512 and at most two thirds of
    /// `count`; zero: none.
    pub cache: u32,
    /// Octets of packet that a buffer holds, besides [`HEADROOM`].
    pub data_room: u16,
    /// The NUMA node to take the memory from; `None`: any.
    pub numa_node: Option<u32>,
}

impl Default for MempoolConfig {
    /// 8191 buffers of 2048 octets, 256 of them cached per thread, on any node.
    fn default() -> Self {
        Self {
            name: "packets".to_owned(),
            count: 8191,
            cache: 256,
            data_room: 2048,
            numa_node: None,
        }
    }
}

/// A pool of packet buffers. Clones are the same pool.
///
/// A pool may be dropped while buffers of it are about: they stay valid, and its
/// memory is given back later (see the crate's documentation).
#[derive(Clone, Debug)]
pub struct Mempool {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    pool: NonNull<dpdk_sys::rte_mempool>,
    data_room: u16,
    eal: Eal,
}

// SAFETY: a packet pool's ring takes many producers and consumers (DPDK's default
// `ring_mp_mc`), and its caches are per registered thread, so every thread may
// allocate and free at any time. The pointer is never written.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

/// Why there is no pool.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MempoolError {
    /// The name is longer than 25 octets, is empty, or contains a NUL.
    #[error("{0:?} cannot be the name of a buffer pool")]
    Name(String),
    /// A pool of that name exists.
    #[error("there is a buffer pool {0:?} already")]
    Exists(String),
    /// Headroom and data together must fit 65 535 octets.
    #[error("a buffer cannot hold {0} octets besides its headroom")]
    DataRoom(u16),
    /// The cache is larger than DPDK allows for that many buffers.
    #[error("a pool of {count} buffers cannot cache {cache} per thread")]
    Cache {
        /// The buffers asked for.
        count: u32,
        /// The cache asked for.
        cache: u32,
    },
    /// The memory that DPDK was started with does not suffice.
    #[error("no memory for {count} buffers of {octets} octets (pool {name:?})")]
    NoMemory {
        /// The pool's name.
        name: String,
        /// The buffers asked for.
        count: u32,
        /// The octets of each, headroom included.
        octets: u16,
    },
    /// DPDK refused for another reason.
    #[error("DPDK does not make the buffer pool {name:?}: {reason}")]
    Refused {
        /// The pool's name.
        name: String,
        /// What DPDK answered.
        reason: Errno,
    },
}

/// `RTE_MEMPOOL_NAMESIZE` less the NUL and the prefix that DPDK adds.
const NAME_LENGTH: usize = 25;

impl Mempool {
    /// Makes a pool.
    ///
    /// # Errors
    /// See [`MempoolError`].
    pub fn new(eal: &Eal, config: &MempoolConfig) -> Result<Self, MempoolError> {
        let MempoolConfig {
            name,
            count,
            cache,
            data_room,
            numa_node,
        } = config;
        let (count, cache, data_room) = (*count, *cache, *data_room);
        let c_name = CString::new(name.as_str())
            .ok()
            .filter(|_| (1..=NAME_LENGTH).contains(&name.len()))
            .ok_or_else(|| MempoolError::Name(name.clone()))?;
        let octets = u16::try_from(HEADROOM)
            .ok()
            .and_then(|headroom| headroom.checked_add(data_room))
            .ok_or(MempoolError::DataRoom(data_room))?;
        if cache > dpdk_sys::RTE_MEMPOOL_CACHE_MAX_SIZE
            || u64::from(cache).saturating_mul(3) > u64::from(count).saturating_mul(2)
        {
            return Err(MempoolError::Cache { count, cache });
        }
        let node = numa_node.and_then(|node| i32::try_from(node).ok()).unwrap_or(-1);
        let control = eal.control();
        // SAFETY: EAL is initialised (`eal`), the lock keeps other control
        // operations out, and the name is copied.
        let pool =
            unsafe { dpdk_sys::rte_pktmbuf_pool_create(c_name.as_ptr(), count, cache, 0, octets, node) };
        let reason = Errno::last();
        drop(control);
        let pool = NonNull::new(pool).ok_or_else(|| match reason {
            Errno::NO_MEMORY => MempoolError::NoMemory {
                name: name.clone(),
                count,
                octets,
            },
            Errno::EXISTS => MempoolError::Exists(name.clone()),
            _ => MempoolError::Refused {
                name: name.clone(),
                reason,
            },
        })?;
        Ok(Self {
            shared: Arc::new(Shared {
                pool,
                data_room,
                eal: eal.clone(),
            }),
        })
    }

    /// An empty packet in a fresh buffer, or `None` if the pool has none left.
    #[inline]
    #[must_use]
    pub fn alloc(&self) -> Option<Mbuf> {
        // SAFETY: the pool is valid while `self` is.
        let mbuf = NonNull::new(unsafe { dpdk_sys::dpdk_mbuf_alloc(self.as_ptr()) })?;
        live::add(1);
        // SAFETY: a fresh mbuf has one segment and one owner, which is the caller
        // now; it has just been counted.
        Some(unsafe { Mbuf::from_raw(mbuf) })
    }

    /// Fills `packets` with empty packets in fresh buffers.
    ///
    /// All or nothing: returns how many were added, which is the room there was,
    /// or zero if the pool has not that many left.
    #[inline]
    pub fn alloc_burst<const N: usize>(&self, packets: &mut ArrayVec<Mbuf, N>) -> usize {
        let length = packets.len();
        let room = packets.remaining_capacity();
        let Ok(count) = u32::try_from(room) else { return 0 };
        if count == 0 {
            return 0;
        }
        // SAFETY: the pool is valid while `self` is. `Mbuf` is a transparent
        // non-null pointer, and past `length` there is space for `room` of them;
        // on success DPDK has written all of them, each a fresh mbuf with one
        // segment and one owner.
        unsafe {
            let spare = packets
                .as_mut_ptr()
                .add(length)
                .cast::<*mut dpdk_sys::dpdk_mbuf>();
            if dpdk_sys::dpdk_mbuf_alloc_bulk(self.as_ptr(), spare, count) != 0 {
                return 0;
            }
            live::add(room);
            packets.set_len(length.saturating_add(room));
        }
        room
    }

    /// Buffers that are not in the pool: in packets, or in drivers' rings.
    ///
    /// Walks all threads' caches; exact only while nobody allocates or frees.
    #[must_use]
    pub fn in_use(&self) -> u32 {
        // SAFETY: the pool is valid while `self` is; reads counters.
        unsafe { dpdk_sys::rte_mempool_in_use_count(self.as_ptr()) }
    }

    /// Buffers that the pool was made with.
    #[must_use]
    pub fn size(&self) -> u32 {
        // SAFETY: the pool is valid while `self` is; the field never changes.
        unsafe { dpdk_sys::dpdk_mempool_size(self.as_ptr()) }
    }

    /// Octets of packet that a buffer holds, besides [`HEADROOM`].
    #[must_use]
    pub fn data_room(&self) -> u16 {
        self.shared.data_room
    }

    pub(crate) fn as_ptr(&self) -> *mut dpdk_sys::rte_mempool {
        self.shared.pool.as_ptr()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.eal.retire_pool(self.pool);
    }
}
