//! The queues that workers poll.

use std::cell::Cell;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::Arc;

use arrayvec::ArrayVec;
use dpdk_sys::dpdk_mbuf;

use crate::live;
use crate::mbuf::{self, Mbuf};
use crate::port::Shared;

/// One receive queue, in one thread's hands at a time. Keeps its port open.
#[derive(Debug)]
pub struct RxQueue {
    // Copies for the hot path, so that it does not follow the pointer.
    port: u16,
    queue: u16,
    /// Packets that were not whole; see `mbuf::is_whole`.
    refused: u64,
    _shared: Arc<Shared>,
    // DPDK's bursts on one queue exclude each other: not Sync.
    not_sync: PhantomData<Cell<()>>,
}

/// One transmit queue, in one thread's hands at a time. Keeps its port open.
#[derive(Debug)]
pub struct TxQueue {
    port: u16,
    queue: u16,
    _shared: Arc<Shared>,
    // As in RxQueue.
    not_sync: PhantomData<Cell<()>>,
}

impl RxQueue {
    pub(super) fn new(shared: &Arc<Shared>, queue: u16) -> Self {
        Self {
            port: shared.number,
            queue,
            refused: 0,
            _shared: Arc::clone(shared),
            not_sync: PhantomData,
        }
    }

    /// Appends received packets to `packets`, as many as are there and fit.
    ///
    /// Returns how many were appended. Zero does not mean that the queue is empty
    /// if [`RxQueue::refused`] has grown. Give it room for 32 or more: vector
    /// drivers take packets in groups, and find nothing in a smaller request.
    #[inline]
    pub fn receive<const N: usize>(&mut self, packets: &mut ArrayVec<Mbuf, N>) -> usize {
        let length = packets.len();
        let room = u16::try_from(packets.remaining_capacity()).unwrap_or(u16::MAX);
        // SAFETY: `Mbuf` is a transparent non-null pointer, and past `length` there
        // is space for `room` of them, not initialised; DPDK writes the first
        // `received` of it. The port is started (`_shared` keeps it so), the queue is
        // among those set up, and `&mut self` keeps other threads out of it.
        let (spare, received) = unsafe {
            let spare = packets.as_mut_ptr().add(length).cast::<*mut dpdk_mbuf>();
            (
                spare,
                usize::from(dpdk_sys::dpdk_rx_burst(self.port, self.queue, spare, room)),
            )
        };
        if received == 0 {
            return 0;
        }
        live::add(received);
        let mut kept = 0;
        for index in 0..received {
            // SAFETY: index < received: DPDK wrote a pointer there, to an mbuf that is
            // ours now. kept <= index, so what is overwritten was read before.
            unsafe {
                let mbuf = *spare.add(index);
                if mbuf::is_whole(&*mbuf) {
                    *spare.add(kept) = mbuf;
                    kept += 1;
                } else {
                    dpdk_sys::dpdk_mbuf_free(mbuf);
                }
            }
        }
        if kept < received {
            live::sub(received - kept);
            self.refused = self.refused.saturating_add((received - kept) as u64);
        }
        // SAFETY: the first `kept` of the spare elements are initialised, each a whole
        // mbuf that this thread owns and has counted.
        unsafe { packets.set_len(length + kept) };
        kept
    }

    /// Packets dropped because they arrived in several buffers, shared theirs, or
    /// claimed more octets than it has.
    ///
    /// Zero on a port whose frames fit the pool's buffers.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Its number within the port.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.queue
    }
}

impl TxQueue {
    pub(super) fn new(shared: &Arc<Shared>, queue: u16) -> Self {
        Self {
            port: shared.number,
            queue,
            _shared: Arc::clone(shared),
            not_sync: PhantomData,
        }
    }

    /// Gives packets to the device, from the front; returns how many it took.
    ///
    /// Those it did not take are still in `packets`, in order: keep, or drop, them.
    #[inline]
    pub fn transmit<const N: usize>(&mut self, packets: &mut ArrayVec<Mbuf, N>) -> usize {
        let length = packets.len();
        let Ok(offered) = u16::try_from(length.min(usize::from(u16::MAX))) else {
            return 0;
        };
        if offered == 0 {
            return 0;
        }
        // SAFETY: the first `length` elements are transparent pointers to mbufs that
        // this thread owns. With the length at zero, nobody drops them; of those that
        // the device took, none is touched again; the rest move to the front before
        // the length is set to their number. The port is started (`_shared` keeps it
        // so), the queue is among those set up, `&mut self` keeps other threads out.
        unsafe {
            packets.set_len(0);
            let first = packets.as_mut_ptr();
            let sent = usize::from(dpdk_sys::dpdk_tx_burst(
                self.port,
                self.queue,
                first.cast::<*mut dpdk_mbuf>(),
                offered,
            ));
            let left = length - sent;
            if sent > 0 && left > 0 {
                std::ptr::copy(first.add(sent), first, left);
            }
            packets.set_len(left);
            live::sub(sent);
            sent
        }
    }

    /// Its number within the port.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.queue
    }
}

// A worker takes its queues with it; packets stay where they were received.
const _: () = {
    const fn send<T: Send>() {}
    const fn share<T: Send + Sync + Clone>() {}
    send::<RxQueue>();
    send::<TxQueue>();
    share::<crate::PortHandle>();
    share::<crate::Mempool>();
    share::<crate::Eal>();
    assert!(size_of::<NonNull<dpdk_mbuf>>() == size_of::<Mbuf>());
};
