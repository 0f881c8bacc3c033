//! A gateway on the heap whose prefixes and filters change while packets come.

#![allow(dead_code, unreachable_pub, missing_docs, reason = "shared by several tests")]

use std::net::Ipv6Addr;

use arrayvec::ArrayVec;
use ipnet::Ipv6Net;
use kedge_dataplane::drops::DropReason;
use kedge_dataplane::frame::{Frame, HeapFrame};
use kedge_dataplane::hold::{Bounds, Overflow};
use kedge_dataplane::pipeline::{BURST, Output, Pipeline};
use kedge_dataplane::snapshot::{Compiler, Snapshot};
use kedge_dataplane_api::Transaction;
use kedge_dataplane_api::model::{NextHop, PrefixEntry};

use super::core_support::{
    CORE, Gateway, NODE_MAC, OWN, PEER, REMOTE, ROUTER_MAC, compiler, ethernet, ipv6, tunnelled,
};

pub const BOUNDS: Bounds = Bounds {
    packets: 64,
    packets_per_prefix: 40,
    octets_per_prefix: 40 * 60,
    age: 10_000,
    overflow: Overflow::DropNewest,
    cycles_per_release: 100,
};

pub const UNKNOWN: Bounds = Bounds {
    packets: 8,
    packets_per_prefix: 4,
    octets_per_prefix: usize::MAX,
    age: 5_000,
    ..BOUNDS
};

/// A gateway whose prefixes change.
pub struct Moving {
    pub compiler: Compiler,
    pub snapshot: Snapshot,
    pub pipeline: Pipeline,
    pub output: Output<HeapFrame>,
    pub now: u64,
    pub number: u32,
}

pub fn prefix(address: &str) -> Ipv6Net {
    let address: Ipv6Addr = address.parse().unwrap();
    Ipv6Net::new(address, 64).unwrap().trunc()
}

pub fn deliver() -> NextHop {
    NextHop::Deliver {
        port: "access".to_owned(),
        link_layer_address: NODE_MAC,
    }
}

pub const HOLD: NextHop = NextHop::Hold { maximum_ms: 0 };

impl Moving {
    pub fn new(bounds: Bounds) -> Self {
        let gateway = Gateway::new();
        let compiler = compiler();
        Self {
            snapshot: compiler.snapshot(),
            compiler,
            pipeline: gateway.pipeline,
            output: Output::holding(bounds, UNKNOWN),
            now: 1,
            number: 0,
        }
    }

    pub fn apply(&mut self, transaction: &Transaction) {
        self.snapshot = self.compiler.apply(transaction).unwrap();
    }

    /// A prefix that was there gets another next hop.
    pub fn turn(&mut self, address: &str, next_hop: NextHop) {
        let key = prefix(address);
        let before = self.compiler.tables().prefixes.get(&key).cloned();
        let entry = PrefixEntry {
            next_hop,
            source: before.and_then(|it| it.source),
        };
        self.apply(&Transaction {
            put_prefixes: vec![(key, entry)],
            ..Transaction::default()
        });
    }

    /// A packet comes in by this port.
    pub fn comes(&mut self, port: usize, from: [u8; 6], packet: &[u8]) {
        let to = self.snapshot.ports[port].link_layer_address;
        self.comes_framed(port, &ethernet(to, from, packet));
    }

    pub fn comes_framed(&mut self, port: usize, frame: &[u8]) {
        let mut burst: ArrayVec<HeapFrame, BURST> = ArrayVec::new();
        burst.push(HeapFrame::new(frame));
        let Self {
            pipeline,
            snapshot,
            output,
            ..
        } = self;
        pipeline.process(snapshot, port, self.now, &mut burst, output);
    }

    /// The payload of a UDP packet with the next number.
    pub fn numbered(&mut self) -> Vec<u8> {
        self.number += 1;
        [&[0x30, 0x39, 0, 9, 0, 12, 0, 0][..], &self.number.to_be_bytes()].concat()
    }

    /// A packet with the next number, from the core; its number.
    pub fn arrives(&mut self, to: &str) -> u32 {
        let payload = self.numbered();
        let packet = ipv6(REMOTE, to, 17, 64, &payload);
        self.comes(CORE, ROUTER_MAC, &packet);
        self.number
    }

    /// A packet with the next number, out of the peer's tunnel; its number.
    pub fn arrives_by_tunnel(&mut self, to: &str) -> u32 {
        let payload = self.numbered();
        self.tunnel_brings(&ipv6(REMOTE, to, 17, 64, &payload));
        self.number
    }

    pub fn tunnel_brings(&mut self, inner: &[u8]) {
        let packet = tunnelled(PEER, OWN, inner);
        self.comes(CORE, ROUTER_MAC, &packet);
    }

    pub fn tend(&mut self) -> bool {
        self.pipeline.tend(&self.snapshot, self.now, &mut self.output)
    }

    /// What has gone out: port, inner destination, hop limit, number.
    pub fn sent(&mut self) -> Vec<(usize, Ipv6Addr, u8, u32)> {
        let mut sent = Vec::new();
        for (port, burst) in self.output.transmit.iter_mut().enumerate() {
            for frame in burst.drain(..) {
                let packet = &frame.bytes()[14..];
                let inner = &packet[packet.len() - 52..];
                let number = u32::from_be_bytes(inner[48..].try_into().unwrap());
                let to = Ipv6Addr::from(<[u8; 16]>::try_from(&inner[24..40]).unwrap());
                sent.push((port, to, inner[7], number));
            }
        }
        sent
    }

    pub fn drops(&self, reason: DropReason) -> u64 {
        self.pipeline.counters.drops(reason)
    }

    pub fn all_drops(&self) -> u64 {
        DropReason::ALL.iter().map(|reason| self.drops(*reason)).sum()
    }

    /// Sends all that may go, in time.
    pub fn run_dry(&mut self) -> Vec<(usize, Ipv6Addr, u8, u32)> {
        let mut sent = Vec::new();
        for _ in 0..500 {
            self.now += 100;
            self.tend();
            sent.extend(self.sent());
        }
        sent
    }
}

pub fn numbers(sent: &[(usize, Ipv6Addr, u8, u32)]) -> Vec<u32> {
    sent.iter().map(|it| it.3).collect()
}
