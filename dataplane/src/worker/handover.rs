//! What a worker has of the rings by which workers share tunnelled packets out.
//!
//! Each ordered pair of workers has a ring for each port: one worker sends, one
//! receives, neither waits. The frame goes as it came in, and its new worker
//! processes it as if it had received it on that port.
//!
//! A ring that is full means that its worker has stalled or cannot keep up: the
//! packet is dropped and counted by the one that received it, at once, with no
//! retry. An idle worker in mode `adaptive` finds its rings when it wakes, like
//! its receive queues: at most 0.8 ms and the timer's slack later, in which a
//! ring of 1,024 takes 1.2 million packets a second.
//!
//! Buffers that one worker takes from the pool and another gives back travel
//! through the pool itself, in bulk, as those received and sent by different
//! workers always do.

use arrayvec::ArrayVec;
use dpdk::{Eal, HandoverReceiver, HandoverSender, Mbuf};

use crate::counters::Counters;
use crate::drops::DropReason;
use crate::pipeline::BURST;
use crate::snapshot::Snapshot;
use crate::spread::Spreader;

/// Packets that a ring holds, if there are buffers enough.
const RING: usize = 1024;

/// One worker's ends, on one port. On cache lines of its own: it is written at every burst.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Handover {
    spreader: Spreader,
    /// By worker; none to itself.
    outlets: Vec<Option<HandoverSender>>,
    inlets: Vec<HandoverReceiver>,
}

/// What one burst has for each other worker. Empty between bursts.
///
/// The worker's thread makes it, once: a worker comes from another thread, and packets cannot.
#[derive(Debug, Default)]
pub(crate) struct Parting(Vec<ArrayVec<Mbuf, BURST>>);

impl Handover {
    /// What each of `rings` rings may hold: 1,024 packets, or less, at least a burst, so that all of
    /// them full leave three quarters of the `buffers` to everything else.
    pub(crate) fn capacity(buffers: u32, rings: usize) -> usize {
        let share = usize::try_from(buffers).unwrap_or(usize::MAX) / 4 / rings.max(1);
        // The greatest power of two that is not above it.
        let below = 1 << share.max(1).ilog2();
        below.clamp(BURST, RING)
    }

    /// Rings of that capacity from each worker to each other one: by worker, its ends.
    pub(crate) fn mesh(eal: &Eal, workers: usize, capacity: usize, seed: u64) -> Vec<Self> {
        let mut mesh: Vec<Self> = (0..workers)
            .map(|worker| Self {
                spreader: Spreader::new(worker, workers, seed),
                outlets: Vec::new(),
                inlets: Vec::new(),
            })
            .collect();
        for from in 0..workers {
            for to in 0..workers {
                let outlet = (from != to).then(|| {
                    let (sender, receiver) = dpdk::handover(eal, capacity);
                    if let Some(receiving) = mesh.get_mut(to) {
                        receiving.inlets.push(receiver);
                    }
                    sender
                });
                if let Some(sending) = mesh.get_mut(from) {
                    sending.outlets.push(outlet);
                }
            }
        }
        mesh
    }

    /// As [`Handover::give`] needs it.
    pub(crate) fn parting(&self) -> Parting {
        Parting(self.outlets.iter().map(|_| ArrayVec::new()).collect())
    }

    /// Takes other workers' frames out of `burst`, which came in by port number `port`, and sends them
    /// there; drops and counts those that a ring has no room for. How many were sent.
    #[inline]
    pub(crate) fn give(
        &mut self,
        snapshot: &Snapshot,
        port: usize,
        burst: &mut ArrayVec<Mbuf, BURST>,
        parting: &mut Parting,
        counters: &Counters,
    ) -> u64 {
        let before = burst.len();
        self.spreader.split(snapshot, port, burst, |worker, frame| {
            if let Some(packets) = parting.0.get_mut(worker) {
                // A burst has no more frames than there is room for.
                packets.push(frame);
            }
        });
        if burst.len() == before {
            return 0;
        }
        let mut sent = 0;
        for (ring, packets) in self.outlets.iter_mut().zip(&mut parting.0) {
            let Some(ring) = ring else { continue };
            sent += ring.send(packets) as u64;
            if !packets.is_empty() {
                counters.add_drops(DropReason::HandoverRingFull, packets.len() as u64);
                Mbuf::free_burst(packets);
            }
        }
        sent
    }

    /// Fills `burst` from the rings, beginning with the one numbered `ring`, which moves on past those
    /// that have been asked: each once. How many packets there were; `None` if no ring is left to ask.
    #[inline]
    pub(crate) fn take(&mut self, ring: &mut usize, burst: &mut ArrayVec<Mbuf, BURST>) -> Option<u64> {
        if *ring >= self.inlets.len() {
            return None;
        }
        let mut taken = 0;
        while let Some(inlet) = self.inlets.get_mut(*ring) {
            *ring += 1;
            taken += inlet.receive(burst) as u64;
            // Half a burst is room enough that no ring waits behind a busy one.
            if burst.len() > BURST / 2 {
                break;
            }
        }
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use dpdk::{EalConfig, Mempool, MempoolConfig};
    use kedge_dataplane_api::Transaction;
    use kedge_dataplane_api::model::Tables;

    use crate::frame::Frame;
    use crate::snapshot::{Compiler, PortDescription};

    const OWN: &str = "2001:db8:a::1";

    fn snapshot() -> Snapshot {
        let port = PortDescription {
            name: "core".to_owned(),
            access: false,
            link_layer_address: [2, 0, 0, 0, 0, 1],
            mtu: 1500,
            vlan: None,
            exception: false,
        };
        let mut compiler = Compiler::new(vec![port], OWN.parse().unwrap(), 2);
        let mut tables = Tables::default();
        tables.local_addresses.insert(OWN.parse().unwrap());
        compiler.apply(&Transaction::replacing(&tables)).unwrap()
    }

    /// A tunnelled packet to this node, of an inner flow with this label; `number` comes last.
    fn frame(label: u8, number: u8) -> Vec<u8> {
        let address = |text: &str| text.parse::<std::net::Ipv6Addr>().unwrap().octets();
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x86, 0xdd];
        frame.extend_from_slice(&[0x60, 0, 0, 0, 0, 41, 41, 64]);
        frame.extend_from_slice(&address("2001:db8:b::1"));
        frame.extend_from_slice(&address(OWN));
        frame.extend_from_slice(&[0x60, 0, 0, label, 0, 1, 59, 64]);
        frame.extend_from_slice(&address("2001:db8:100::1"));
        frame.extend_from_slice(&address("2001:db8:cc::1"));
        frame.push(number);
        frame
    }

    fn burst(pool: &Mempool, frames: impl Iterator<Item = Vec<u8>>) -> ArrayVec<Mbuf, BURST> {
        frames
            .map(|frame| {
                let mut packet = pool.alloc().unwrap();
                packet.extend_from_slice(&frame).unwrap();
                packet
            })
            .collect()
    }

    #[test]
    fn a_ring_takes_what_it_holds_and_the_rest_is_dropped_by_name() {
        // The only test of this crate's own that starts DPDK: it can be started once.
        let eal = Eal::init(&EalConfig {
            file_prefix: format!("kedge-handover-{}", std::process::id()),
            log_level: dpdk::LogLevel::Critical,
            ..EalConfig::default()
        })
        .unwrap();
        let pool = Mempool::new(
            &eal,
            &MempoolConfig {
                name: "packets".to_owned(),
                count: 1023,
                cache: 0,
                ..MempoolConfig::default()
            },
        )
        .unwrap();
        let snapshot = snapshot();
        let mut mesh = Handover::mesh(&eal, 2, 64, 7);
        let mut second = mesh.pop().unwrap();
        let mut first = mesh.pop().unwrap();
        let mut parting = first.parting();
        let counters = Counters::default();
        let theirs = (0..).find(|label| {
            let mut burst = burst(&pool, std::iter::once(frame(*label, 0)));
            let mut sent = 0;
            first.spreader.split(&snapshot, 0, &mut burst, |_, _| sent += 1);
            sent == 1
        });
        let theirs = theirs.unwrap();

        let mut give = |first: &mut Handover, numbers: std::ops::Range<u8>| {
            let mut burst = burst(&pool, numbers.map(|number| frame(theirs, number)));
            let sent = first.give(&snapshot, 0, &mut burst, &mut parting, &counters);
            assert!(burst.is_empty());
            sent
        };
        assert_eq!(give(&mut first, 0..50), 50);
        assert_eq!(counters.drops(DropReason::HandoverRingFull), 0);
        assert_eq!(give(&mut first, 50..90), 14, "the ring holds 64");
        assert_eq!(counters.drops(DropReason::HandoverRingFull), 26);
        assert_eq!(give(&mut first, 90..100), 0, "the other worker has stalled");
        assert_eq!(counters.drops(DropReason::HandoverRingFull), 36);
        assert_eq!(pool.in_use(), 64, "what was dropped is free");

        let mut taken = ArrayVec::new();
        let mut ring = 0;
        assert_eq!(second.take(&mut ring, &mut taken), Some(64));
        assert_eq!(
            second.take(&mut ring, &mut taken),
            None,
            "there is one ring to it"
        );
        for (number, packet) in (0..).zip(&taken) {
            assert_eq!(packet.bytes(), frame(theirs, number), "in order, as it came in");
        }
        taken.clear();
        assert_eq!(give(&mut first, 0..10), 10);
        assert_eq!(pool.in_use(), 10);
        drop(first);
        drop(second);
        assert_eq!(pool.in_use(), 0, "what the rings still held is free");
    }

    #[test]
    fn full_rings_leave_most_buffers_to_others() {
        assert_eq!(Handover::capacity(65_536, 2), 1024);
        assert_eq!(Handover::capacity(8192, 2), 1024);
        assert_eq!(Handover::capacity(4096, 4), 256);
        assert_eq!(Handover::capacity(5000, 4), 256);
        assert_eq!(Handover::capacity(1024, 100), BURST, "a burst fits");
        assert_eq!(Handover::capacity(1024, 0), 256);
    }
}
