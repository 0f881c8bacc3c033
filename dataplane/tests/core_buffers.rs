//! No packet buffer is left when a packet is to become two.

#![allow(clippy::unwrap_used, reason = "a test")]

mod core_support;

use std::time::Instant;

use arrayvec::ArrayVec;
use core_support::*;
use kedge_dataplane::drops::DropReason;
use kedge_dataplane::frame::{Frame, HeapFrame, NoRoom};
use kedge_dataplane::pipeline::{BURST, Output};

/// The last buffer that there was, and there is no room behind it.
#[derive(Debug)]
struct Last(HeapFrame);

impl Frame for Last {
    fn bytes(&self) -> &[u8] {
        self.0.bytes()
    }
    fn bytes_mut(&mut self) -> &mut [u8] {
        self.0.bytes_mut()
    }
    fn prepend(&mut self, count: usize) -> Result<(), NoRoom> {
        self.0.prepend(count)
    }
    fn strip(&mut self, count: usize) -> Result<(), NoRoom> {
        self.0.strip(count)
    }
    fn truncate(&mut self, length: usize) {
        self.0.truncate(length);
    }
    fn extend(&mut self, _: &[u8]) -> Result<(), NoRoom> {
        Err(NoRoom)
    }
    fn sibling(&self) -> Option<Self> {
        None
    }
    fn prefetch(&self) {}
}

#[test]
fn without_a_buffer_for_the_rest_nothing_of_a_packet_goes() {
    // Into a tunnel that takes less than any packet may have; carried IPv4 that is cut; what is too large for the kernel.
    let mut gateway = Gateway::carrying_ipv4();
    let peer = PEER.parse().unwrap();
    gateway.snapshot = gateway
        .compiler
        .learn_path_mtu(peer, 1280, Instant::now())
        .unwrap();
    let mut ports = ports();
    ports[CORE].mtu = 9000;
    gateway.snapshot.ports = ports.into();
    let carried = ipv4(REMOTE4, CARRIED[0], 17, &[], &[0; 1300]);
    let to_kernel = ipv4(REMOTE4, OWN4, 17, &[], &[0; 1600]);
    let frames = [
        ethernet(CORE_MAC, ROUTER_MAC, &sized(REMOTE, ANCHORED, 1280)),
        ethernet(CORE_MAC, ROUTER_MAC, &sized(REMOTE, GTPU_ANCHORED, 1280)),
        ethernet4(CORE_MAC, ROUTER_MAC, &carried),
        ethernet4(CORE_MAC, ROUTER_MAC, &to_kernel),
    ];
    for (count, frame) in (1..).zip(frames) {
        let mut output: Output<Last> = Output::default();
        let mut burst: ArrayVec<Last, BURST> = ArrayVec::new();
        burst.push(Last(HeapFrame::new(&frame)));
        gateway
            .pipeline
            .process(&gateway.snapshot, CORE, 0, &mut burst, &mut output);
        assert_eq!(gateway.drops(DropReason::FragmentNoBuffer), count);
        assert!(output.transmit.iter().chain(&output.punt).all(ArrayVec::is_empty));
    }
    let all: u64 = DropReason::ALL.iter().map(|reason| gateway.drops(*reason)).sum();
    assert_eq!(all, 4);
}
