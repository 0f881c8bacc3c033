//! The loop: sends what is due, takes what comes.

use arrayvec::ArrayVec;
use dpdk::{Eal, Mbuf, Mempool, RxQueue, TxQueue, cycles, cycles_per_second};

use super::pace::Pace;
use super::tally::Tally;
use super::watch::Watch;
use super::{Order, Outcome};
use crate::frames::{Cursor, Stamp, Template};

/// Packets sent at once.
pub(super) const BURST: usize = 32;
/// Packets taken at once: more than are sent, so that receiving never falls behind.
pub(super) const TAKEN: usize = 64;
/// After so many seconds without a packet nothing more will come.
const SILENCE: f64 = 0.05;

/// The two ends of the wire, and what goes over it.
pub(crate) struct Stream<'a> {
    pub(crate) eal: &'a Eal,
    pub(crate) pool: &'a Mempool,
    pub(crate) receive: RxQueue,
    pub(crate) transmit: TxQueue,
    pub(crate) template: Template,
    pub(crate) watch: Watch,
}

/// What has been sent so far.
#[derive(Default)]
struct Sent {
    offered: u64,
    refused: u64,
}

impl Stream<'_> {
    /// One trial.
    pub(crate) fn trial(&mut self, order: Order) -> anyhow::Result<Outcome> {
        let hertz = cycles_per_second(self.eal);
        let start = cycles();
        self.watch = Watch::new(start, hertz);
        let end = start.saturating_add((order.seconds * hertz as f64) as u64);
        let mut tally = Tally::new(start, order.latencies)?;
        let mut sent = Sent::default();
        let last = match order.rate {
            Some(rate) => {
                let pace = Pace::new(rate, start, hertz, BURST);
                self.paced(pace, end, &mut tally, &mut sent)
            }
            None => self.unpaced(end, &mut tally, &mut sent),
        };
        let seconds = |cycles: u64| cycles as f64 / hertz.max(1) as f64;
        let absent = seconds(self.watch.absent());
        self.stragglers((SILENCE * hertz as f64) as u64, &mut tally, &sent);
        Ok(Outcome {
            seconds: seconds(last.saturating_sub(start)),
            absent,
            offered: sent.offered,
            refused: sent.refused,
            received: tally.received,
            reordered: tally.reordered,
            foreign: tally.foreign,
            unmeasured: tally.unmeasured,
            latencies: tally.latencies(hertz),
        })
    }

    /// What is due goes out, and is lost if the ring is full, as on a wire.
    fn paced(&mut self, mut pace: Pace, end: u64, tally: &mut Tally, sent: &mut Sent) -> u64 {
        let mut cursor = self.template.cursor();
        let mut fresh: ArrayVec<Mbuf, BURST> = ArrayVec::new();
        let mut burst: ArrayVec<Mbuf, BURST> = ArrayVec::new();
        let mut number = 0;
        loop {
            let now = cycles();
            if now >= end {
                return now;
            }
            let due = pace.due(now).min(BURST);
            while burst.len() < due {
                let Some(packet) = self.fresh(&mut fresh) else {
                    break;
                };
                burst.push(packet);
            }
            if !burst.is_empty() {
                pace.offered(burst.len());
                sent.offered += burst.len() as u64;
                let first = number;
                let stamped = self.write(&mut burst, &mut cursor, &mut number);
                self.transmit.transmit(&mut burst);
                if self.watch.is_long(stamped, cycles()) {
                    tally.hold(first..number);
                }
                sent.refused += burst.len() as u64;
                Mbuf::free_burst(&mut burst);
            }
            self.take(tally);
        }
    }

    /// The ring is kept full; what it does not take waits for the next round.
    fn unpaced(&mut self, end: u64, tally: &mut Tally, sent: &mut Sent) -> u64 {
        let mut cursor = self.template.cursor();
        let mut burst: ArrayVec<Mbuf, BURST> = ArrayVec::new();
        let mut number = 0;
        loop {
            let now = cycles();
            if now >= end {
                return now;
            }
            if burst.is_empty() && self.pool.alloc_burst(&mut burst) > 0 {
                self.write(&mut burst, &mut cursor, &mut number);
            }
            sent.offered += self.transmit.transmit(&mut burst) as u64;
            self.take(tally);
        }
    }

    fn stragglers(&mut self, silence: u64, tally: &mut Tally, sent: &Sent) {
        let mut heard = cycles();
        let expected = sent.offered - sent.refused;
        while tally.received < expected && cycles().saturating_sub(heard) < silence {
            if self.take(tally) > 0 {
                heard = cycles();
            }
        }
    }

    #[inline]
    pub(super) fn fresh(&self, fresh: &mut ArrayVec<Mbuf, BURST>) -> Option<Mbuf> {
        if fresh.is_empty() {
            self.pool.alloc_burst(fresh);
        }
        fresh.pop()
    }

    /// Makes packets of empty ones, as close before they leave as can be; gives the time on their stamps.
    #[inline]
    fn write(&self, burst: &mut ArrayVec<Mbuf, BURST>, cursor: &mut Cursor, number: &mut u64) -> u64 {
        let length = self.template.len();
        let cycles = cycles();
        for packet in burst {
            if let Ok(octets) = packet.append(length) {
                let stamp = Stamp {
                    number: *number,
                    cycles,
                };
                self.template.write(octets, cursor, stamp);
            }
            *number += 1;
        }
        cycles
    }

    #[inline]
    fn take(&mut self, tally: &mut Tally) -> usize {
        let mut taken: ArrayVec<Mbuf, TAKEN> = ArrayVec::new();
        let count = self.receive.receive(&mut taken);
        let now = cycles();
        let measured = self.watch.looked(now, count == TAKEN);
        if count > 0 {
            for packet in &taken {
                tally.frame(packet.data(), now, measured);
            }
            Mbuf::free_burst(&mut taken);
        }
        count
    }
}
