//! Packets from one thread to another, in order: a bounded ring with one sender and one receiver.
//!
//! An [`Mbuf`] stays on its thread because the counts that keep pools alive are
//! per thread (see `live`). Here it leaves one count and enters another, and in
//! between no thread counts it; so, as with a port, no pool is freed while a ring
//! is there.
//!
//! The sender writes one index, the receiver the other, each on cache lines of its
//! own, and each side keeps a copy of the other's index that it reads again only
//! when the copy says full, or empty. A slot is written by the sender alone.

use std::cell::Cell;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use arrayvec::ArrayVec;
use dpdk_sys::dpdk_mbuf;

use crate::eal::Eal;
use crate::live;
use crate::mbuf::Mbuf;

/// The most packets that a ring may hold.
const MOST: usize = 1 << 16;

/// Alone on its cache line, and on the one beside it, which processors fetch along with it.
#[derive(Debug)]
#[repr(align(128))]
struct Alone<T>(T);

#[derive(Debug)]
struct Ring {
    /// A power of two.
    slots: Alone<Box<[AtomicPtr<dpdk_mbuf>]>>,
    /// Packets ever put in, modulo the width of the type. Written by the sender alone.
    tail: Alone<AtomicUsize>,
    /// Packets ever taken out. Written by the receiver alone.
    head: Alone<AtomicUsize>,
    eal: Eal,
}

/// The sending end of a ring, in one thread's hands at a time.
///
/// It is written at every burst, and whole cache lines of it: what is beside it in
/// memory, often an end of another thread's, is not disturbed.
#[derive(Debug)]
#[repr(align(128))]
pub struct HandoverSender {
    ring: Arc<Ring>,
    /// What `ring.tail` is.
    tail: usize,
    /// What `ring.head` was; it is that or further on.
    head: usize,
    // Two senders at once would write the same slot: not Sync.
    not_sync: PhantomData<Cell<()>>,
}

/// The receiving end of a ring, in one thread's hands at a time; on cache lines of
/// its own, like the other.
#[derive(Debug)]
#[repr(align(128))]
pub struct HandoverReceiver {
    ring: Arc<Ring>,
    /// What `ring.head` is.
    head: usize,
    /// What `ring.tail` was; it is that or further on.
    tail: usize,
    // As in HandoverSender.
    not_sync: PhantomData<Cell<()>>,
}

/// A ring for `capacity` packets, made the next power of two in 1..=65536.
///
/// What is in it when both ends are gone is freed.
#[must_use]
pub fn handover(eal: &Eal, capacity: usize) -> (HandoverSender, HandoverReceiver) {
    let capacity = capacity.clamp(1, MOST).next_power_of_two();
    eal.control().handovers += 1;
    let ring = Arc::new(Ring {
        slots: Alone((0..capacity).map(|_| AtomicPtr::new(ptr::null_mut())).collect()),
        tail: Alone(AtomicUsize::new(0)),
        head: Alone(AtomicUsize::new(0)),
        eal: eal.clone(),
    });
    let sender = HandoverSender {
        ring: Arc::clone(&ring),
        tail: 0,
        head: 0,
        not_sync: PhantomData,
    };
    let receiver = HandoverReceiver {
        ring,
        head: 0,
        tail: 0,
        not_sync: PhantomData,
    };
    (sender, receiver)
}

impl HandoverSender {
    /// Gives packets to the other side, from the front; returns how many the ring took.
    ///
    /// Those it did not take are still in `packets`, in order: keep, or drop, them.
    /// Nothing waits for the other side.
    #[inline]
    pub fn send<const N: usize>(&mut self, packets: &mut ArrayVec<Mbuf, N>) -> usize {
        let ring = &*self.ring;
        let slots = &*ring.slots.0;
        let mut free = slots.len() - self.tail.wrapping_sub(self.head);
        if free < packets.len() {
            // Acquire: the receiver has read the slots that it counts as taken.
            self.head = ring.head.0.load(Ordering::Acquire);
            free = slots.len() - self.tail.wrapping_sub(self.head);
        }
        let count = free.min(packets.len());
        if count == 0 {
            return 0;
        }
        for packet in packets.drain(..count) {
            slots[self.tail & (slots.len() - 1)].store(packet.into_raw().as_ptr(), Ordering::Relaxed);
            self.tail = self.tail.wrapping_add(1);
        }
        // Release: whoever reads this index sees the slots and what the packets hold.
        ring.tail.0.store(self.tail, Ordering::Release);
        live::sub(count);
        count
    }

    /// The most packets that the ring holds.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.ring.slots.0.len()
    }
}

impl HandoverReceiver {
    /// Appends packets of the other side to `packets`, as many as are there and fit.
    ///
    /// Returns how many were appended. They come in the order in which they were sent.
    #[inline]
    pub fn receive<const N: usize>(&mut self, packets: &mut ArrayVec<Mbuf, N>) -> usize {
        let ring = &*self.ring;
        let slots = &*ring.slots.0;
        let room = packets.remaining_capacity();
        let mut there = self.tail.wrapping_sub(self.head);
        if there < room {
            // Acquire: the sender has written the slots that it counts, and the packets.
            self.tail = ring.tail.0.load(Ordering::Acquire);
            there = self.tail.wrapping_sub(self.head);
        }
        let count = there.min(room);
        if count == 0 {
            return 0;
        }
        live::add(count);
        for _ in 0..count {
            let packet = slots[self.head & (slots.len() - 1)].load(Ordering::Relaxed);
            self.head = self.head.wrapping_add(1);
            // SAFETY: head was before tail, so `send` has put there what
            // `Mbuf::into_raw` gave: a valid pointer to a whole mbuf that its thread
            // no longer owns. Both indexes only grow, and the sender writes the slot
            // anew only when it has read a head past it, stored below; so each
            // pointer is taken once. This thread has just counted it.
            packets.push(unsafe { Mbuf::from_raw(NonNull::new_unchecked(packet)) });
        }
        // Release: the slots have been read; the sender may write them.
        ring.head.0.store(self.head, Ordering::Release);
        count
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        let (mut head, tail) = (*self.head.0.get_mut(), *self.tail.0.get_mut());
        while head != tail {
            let slot = head & (self.slots.0.len() - 1);
            let packet = *self.slots.0[slot].get_mut();
            head = head.wrapping_add(1);
            // SAFETY: between head and tail lie pointers that were sent and not
            // received; both ends are gone, so this is the only one to each. Their
            // pool is there: none is freed while a ring is counted.
            unsafe { dpdk_sys::dpdk_mbuf_free(packet) }
        }
        let mut control = self.eal.control();
        control.handovers -= 1;
        control.free_retired();
    }
}

// A worker takes its ends with it, and the packets change their threads within.
const _: () = {
    const fn send<T: Send>() {}
    send::<HandoverSender>();
    send::<HandoverReceiver>();
};
