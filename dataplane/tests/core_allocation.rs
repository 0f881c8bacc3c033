//! The hot path allocates nothing: a counting allocator watches it.

#![allow(
    unsafe_code,
    reason = "a global allocator is an unsafe trait; this one only counts"
)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod core_support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use arrayvec::ArrayVec;
use core_support::*;
use kedge_dataplane::frame::HeapFrame;
use kedge_dataplane::pipeline::{BURST, Output};
use kedge_dataplane::spread::Spreader;

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::SeqCst);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_burst_of_everything_allocates_nothing() {
    let mut gateway = Gateway::new();
    let packets = [
        udp(REMOTE, NODE, 64),
        udp(REMOTE, ANCHORED, 64),
        tunnelled(PEER, OWN, &udp(ANCHORED, REMOTE, 64)),
        udp(REMOTE, NODE, 1),
        udp(REMOTE, OWN, 64),
        udp(REMOTE, "2001:db8:ca::77", 64),
        udp(REMOTE, "2001:db8:ffff::1", 64),
        tunnelled(REMOTE, OWN, &udp(ANCHORED, REMOTE, 64)),
    ];
    let mut output: Output<HeapFrame> = Output::default();
    let mut burst: ArrayVec<HeapFrame, BURST> = ArrayVec::new();
    for index in 0..BURST {
        burst.push(HeapFrame::new(&ethernet(
            CORE_MAC,
            ROUTER_MAC,
            &packets[index % packets.len()],
        )));
    }
    let mut spreader = Spreader::new(0, 2, 7);
    let mut given: ArrayVec<HeapFrame, BURST> = ArrayVec::new();
    let before = ALLOCATIONS.load(Ordering::SeqCst);
    spreader.split(&gateway.snapshot, CORE, &mut burst, |_, frame| given.push(frame));
    burst.extend(given.drain(..));
    gateway
        .pipeline
        .process(&gateway.snapshot, CORE, 0, &mut burst, &mut output);
    assert_eq!(ALLOCATIONS.load(Ordering::SeqCst), before);
    assert!(output.transmit.iter().map(ArrayVec::len).sum::<usize>() > 30);
}
