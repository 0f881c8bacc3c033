//! A gateway on the heap, the world around it, and packets made by hand.

#![allow(dead_code, unreachable_pub, missing_docs, reason = "shared by several tests")]

pub mod filters;
pub mod inner_ipv4;
pub mod packets;
pub mod world;

use std::net::Ipv6Addr;

use arrayvec::ArrayVec;
use kedge_dataplane::counters::Stage;
use kedge_dataplane::drops::DropReason;
use kedge_dataplane::frame::{Frame, HeapFrame};
use kedge_dataplane::pipeline::{BURST, FRAMES, Ipv4Fragments, Limits, Output, Pipeline};
use kedge_dataplane::snapshot::{Compiler, Snapshot};
use kedge_dataplane::stage::checksum::Sum;
use kedge_dataplane_api::Transaction;

pub use packets::*;
pub use world::*;

pub struct Gateway {
    /// What the snapshot is of; for those who change it.
    pub compiler: Compiler,
    pub snapshot: Snapshot,
    pub pipeline: Pipeline,
    /// The clock, for [`Gateway::frame`].
    pub now: u64,
}

fn limits(accept_zero_checksums: bool) -> Limits {
    Limits {
        icmpv6_errors_per_second: ERRORS_PER_SECOND,
        punts_per_second: PUNTS_PER_SECOND,
        accept_zero_checksums,
        ipv4_fragments: Ipv4Fragments::Refused,
        clamp_mss: false,
        workers: 1,
        identification_seed: 0x5eed,
        cycles_per_second: CYCLES,
    }
}

/// What became of one frame.
#[derive(Debug)]
pub struct Outcome {
    pub transmit: Vec<(usize, Vec<u8>)>,
    pub punt: Vec<(usize, Vec<u8>)>,
    pub drops: Vec<(DropReason, u64)>,
    pub missing: Vec<(usize, Ipv6Addr)>,
    /// Paths that take less: peer and octets.
    pub too_big: Vec<(Ipv6Addr, u16)>,
    pub errors_sent: u64,
}

impl Gateway {
    pub fn new() -> Self {
        Self::with(false)
    }

    pub fn accepting_zero_checksums() -> Self {
        Self::with(true)
    }

    /// That treats fragments of outer packets over IPv4 so.
    pub fn of_fragments(ipv4_fragments: Ipv4Fragments) -> Self {
        let limits = Limits {
            ipv4_fragments,
            ..limits(false)
        };
        Self {
            pipeline: Pipeline::new(0, limits),
            ..Self::new()
        }
    }

    pub fn clamping_mss() -> Self {
        let mut gateway = Self::new();
        gateway.pipeline = Pipeline::new(
            0,
            Limits {
                clamp_mss: true,
                ..limits(false)
            },
        );
        gateway
    }

    /// With [`tables_with_ipv4`].
    pub fn carrying_ipv4() -> Self {
        let compiler = compiler_with_ipv4();
        Self {
            snapshot: compiler.snapshot(),
            compiler,
            ..Self::new()
        }
    }

    /// The same, and TCP is told what fits.
    pub fn carrying_and_clamping() -> Self {
        Self {
            pipeline: Self::clamping_mss().pipeline,
            ..Self::carrying_ipv4()
        }
    }

    fn with(accept_zero_checksums: bool) -> Self {
        let limits = limits(accept_zero_checksums);
        let compiler = compiler();
        Self {
            snapshot: compiler.snapshot(),
            compiler,
            pipeline: Pipeline::new(0, limits),
            now: 0,
        }
    }

    /// Changes the tables.
    pub fn apply(&mut self, transaction: &Transaction) {
        self.snapshot = self.compiler.apply(transaction).unwrap();
    }

    /// A packet from the router, or from the node where the port is its own.
    pub fn one(&mut self, port: usize, packet: &[u8]) -> Outcome {
        self.one_from(port, ROUTER_MAC, packet)
    }

    pub fn one_from(&mut self, port: usize, from: [u8; 6], packet: &[u8]) -> Outcome {
        let to = self.snapshot.ports[port].link_layer_address;
        self.frame(port, &ethernet(to, from, packet))
    }

    pub fn frame(&mut self, port: usize, frame: &[u8]) -> Outcome {
        self.run(|gateway, output| {
            let mut burst: ArrayVec<HeapFrame, BURST> = ArrayVec::new();
            burst.push(HeapFrame::new(frame));
            gateway
                .pipeline
                .process(&gateway.snapshot, port, gateway.now, &mut burst, output);
            assert!(burst.is_empty());
        })
    }

    pub fn kernel_sends(&mut self, port: usize, frame: &[u8]) -> Outcome {
        self.run(|gateway, output| {
            let mut burst: ArrayVec<HeapFrame, BURST> = ArrayVec::new();
            burst.push(HeapFrame::new(frame));
            gateway
                .pipeline
                .from_kernel(&gateway.snapshot, port, &mut burst, output);
        })
    }

    /// Many frames of the kernel into one output; the drops.
    pub fn fill_from_kernel(&mut self, port: usize, frame: &[u8], count: usize) -> Vec<(DropReason, u64)> {
        let outcome = self.run(|gateway, output| {
            for _ in 0..count {
                let mut burst: ArrayVec<HeapFrame, BURST> = ArrayVec::new();
                burst.push(HeapFrame::new(frame));
                gateway
                    .pipeline
                    .from_kernel(&gateway.snapshot, port, &mut burst, output);
            }
        });
        outcome.drops
    }

    /// A frame with so little headroom.
    pub fn cramped(&mut self, port: usize, frame: &[u8], headroom: usize) -> Outcome {
        self.run(|gateway, output| {
            let mut burst: ArrayVec<HeapFrame, BURST> = ArrayVec::new();
            let mut heap = HeapFrame::new(&[&[0; 64][..], frame].concat());
            heap.strip(64).unwrap();
            // 128 and the 64 just stripped, less what is to be left.
            heap.prepend(192 - headroom).unwrap();
            let taken = heap.bytes().len() - frame.len();
            heap.bytes_mut().copy_within(taken.., 0);
            heap.truncate(frame.len());
            burst.push(heap);
            gateway
                .pipeline
                .process(&gateway.snapshot, port, 0, &mut burst, output);
        })
    }

    fn run(&mut self, act: impl FnOnce(&mut Self, &mut Output<HeapFrame>)) -> Outcome {
        let before: Vec<u64> = DropReason::ALL.iter().map(|reason| self.drops(*reason)).collect();
        let sent = self.pipeline.counters.stages(Stage::Icmpv6ErrorSent);
        let mut output = Output::default();
        act(self, &mut output);
        let frames = |bursts: &[ArrayVec<HeapFrame, FRAMES>]| {
            let each = bursts.iter().enumerate();
            each.flat_map(|(port, burst)| burst.iter().map(move |frame| (port, frame.bytes().to_vec())))
                .collect()
        };
        let drops = DropReason::ALL.iter().zip(before);
        Outcome {
            transmit: frames(&output.transmit),
            punt: frames(&output.punt),
            drops: drops
                .map(|(reason, before)| (*reason, self.drops(*reason) - before))
                .filter(|(_, count)| *count > 0)
                .collect(),
            too_big: output.too_big.iter().map(|it| (it.remote, it.mtu)).collect(),
            missing: output.events.iter().map(|it| (it.port, it.address)).collect(),
            errors_sent: self.pipeline.counters.stages(Stage::Icmpv6ErrorSent) - sent,
        }
    }

    pub fn drops(&self, reason: DropReason) -> u64 {
        self.pipeline.counters.drops(reason)
    }
}
