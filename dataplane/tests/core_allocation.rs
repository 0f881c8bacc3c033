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
use kedge_dataplane::hold::{Bounds, Overflow};
use kedge_dataplane::pipeline::{BURST, Output};
use kedge_dataplane::snapshot::Compiler;
use kedge_dataplane::spread::Spreader;
use kedge_dataplane_api::Transaction;
use kedge_dataplane_api::model::{NextHop, PrefixEntry};

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

/// One after the other: the count is of the whole process.
#[test]
fn the_hot_path_allocates_nothing() {
    a_burst_of_everything();
    holding_and_releasing();
}

fn a_burst_of_everything() {
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

fn holding_and_releasing() {
    let mut gateway = Gateway::new();
    let mut compiler = compiler();
    let bounds = Bounds {
        packets: 256,
        packets_per_prefix: 256,
        octets_per_prefix: 1 << 20,
        age: u64::MAX,
        overflow: Overflow::DropNewest,
        cycles_per_release: 1,
    };
    let turn = |compiler: &mut Compiler, next_hop| {
        let entry = PrefixEntry {
            next_hop,
            source: None,
        };
        let transaction = Transaction {
            put_prefixes: vec![("2001:db8:100:3::/64".parse().unwrap(), entry)],
            ..Transaction::default()
        };
        compiler.apply(&transaction).unwrap()
    };
    let hold = turn(&mut compiler, NextHop::Hold { maximum_ms: 0 });
    let go_on = turn(&mut compiler, NextHop::Tunnel(1));
    let mut output: Output<HeapFrame> = Output::holding(bounds, bounds);
    let mut burst: ArrayVec<HeapFrame, BURST> = ArrayVec::new();
    for _ in 0..BURST {
        burst.push(HeapFrame::new(&ethernet(
            CORE_MAC,
            ROUTER_MAC,
            &udp(REMOTE, ANCHORED, 64),
        )));
    }
    let before = ALLOCATIONS.load(Ordering::SeqCst);
    gateway.pipeline.process(&hold, CORE, 0, &mut burst, &mut output);
    assert_eq!(output.held().0, BURST);
    gateway.pipeline.tend(&go_on, 1_000_000, &mut output);
    assert_eq!(ALLOCATIONS.load(Ordering::SeqCst), before);
    assert_eq!((output.held().0, output.transmit[CORE].len()), (0, BURST));
}
