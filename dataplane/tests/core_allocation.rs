//! The hot path allocates nothing: an allocator that counts what this thread does watches it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test")]

mod core_support;

use arrayvec::ArrayVec;
use core_support::*;
use kedge_dataplane::frame::HeapFrame;
use kedge_dataplane::hold::{Bounds, Overflow};
use kedge_dataplane::pipeline::{BURST, Output};
use kedge_dataplane::spread::Spreader;
use kedge_dataplane_api::Transaction;
use kedge_dataplane_api::model::{Filter, FilterAction, NextHop, PrefixEntry, Selector};

/// Runs it, and says how many times it asked for memory. Other threads, as the test harness's own, are not counted.
fn allocations(work: impl FnOnce()) -> u64 {
    allocation_counter::measure(work).count_total
}

#[test]
fn allocations_are_seen() {
    assert_eq!(allocations(|| drop(std::hint::black_box(vec![0_u8; 100]))), 1);
}

#[test]
fn a_prefix_is_held_and_released_without_allocations() {
    holding_and_releasing(&prefix_on_hold);
}

#[test]
fn a_flow_is_held_and_released_without_allocations() {
    holding_and_releasing(&flow_on_hold);
}

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
    let allocations = allocations(|| {
        spreader.split(&gateway.snapshot, CORE, &mut burst, |_, frame| given.push(frame));
        burst.extend(given.drain(..));
        gateway
            .pipeline
            .process(&gateway.snapshot, CORE, 0, &mut burst, &mut output);
    });
    assert_eq!(allocations, 0);
    assert!(output.transmit.iter().map(ArrayVec::len).sum::<usize>() > 30);
}

/// On hold, or not any more.
fn prefix_on_hold(on_hold: bool) -> Transaction {
    let next_hop = if on_hold {
        NextHop::Hold { maximum_ms: 0 }
    } else {
        NextHop::Tunnel(1)
    };
    let entry = PrefixEntry {
        next_hop,
        source: None,
    };
    Transaction {
        put_prefixes: vec![("2001:db8:100:3::/64".parse().unwrap(), entry)],
        ..Transaction::default()
    }
}

/// The same of all flows of that prefix.
fn flow_on_hold(on_hold: bool) -> Transaction {
    let filter = Filter {
        name: String::new(),
        scope: Some("2001:db8:100:3::/64".parse().unwrap()),
        priority: 1,
        selector: Selector::default(),
        action: if on_hold {
            FilterAction::Hold
        } else {
            FilterAction::Anchor
        },
        idle_timeout: 0,
        lifetime: 5,
        except_tunnel: None,
    };
    Transaction {
        put_filters: vec![(1, filter)],
        ..Transaction::default()
    }
}

fn holding_and_releasing(turn: &dyn Fn(bool) -> Transaction) {
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
    let hold = compiler.apply(&turn(true)).unwrap();
    let go_on = compiler.apply(&turn(false)).unwrap();
    let mut output: Output<HeapFrame> = Output::holding(bounds, bounds);
    let mut burst: ArrayVec<HeapFrame, BURST> = ArrayVec::new();
    for _ in 0..BURST {
        burst.push(HeapFrame::new(&ethernet(
            CORE_MAC,
            ROUTER_MAC,
            &udp(REMOTE, ANCHORED, 64),
        )));
    }
    let allocations = allocations(|| {
        gateway.pipeline.process(&hold, CORE, 0, &mut burst, &mut output);
        assert_eq!(output.held().0, BURST);
        gateway.pipeline.tend(&go_on, 1_000_000, &mut output);
    });
    assert_eq!(allocations, 0);
    assert_eq!((output.held().0, output.transmit[CORE].len()), (0, BURST));
}
