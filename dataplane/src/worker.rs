//! The loop, and nothing else.
//!
//! One round polls every queue of the worker once, and before it the rings by
//! which other workers hand tunnelled packets over. A burst goes through the
//! pipeline with one snapshot and leaves in bursts, one for each port. There is
//! no lock, no allocation and no log in here; the only system call is the sleep
//! of an idle worker in mode `adaptive`.

mod handover;
mod idle;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arrayvec::ArrayVec;
use dpdk::{Eal, Mbuf, RxQueue, TxQueue};
use kedge_config::PollMode;

use crate::drops::DropReason;
use crate::events::{EventRing, MissingNeighbour};
use crate::hold::Bounds;
use crate::pipeline::{BURST, Output, Pipeline};
use crate::port::WorkerPort;
use crate::reassembly;
use crate::snapshot::{Subscriber, SubscriberFactory};
pub(crate) use handover::Handover;
use handover::Parting;
use idle::Idle;

/// Rounds between two looks at the flag that ends the worker. A power of two.
const ROUNDS: u64 = 256;
/// How often a burst that a device did not take is offered again.
const RETRIES: usize = 2;

/// What a worker counts of itself; it alone writes, anyone reads.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct WorkerCounters {
    pub(crate) rx_packets: AtomicU64,
    pub(crate) tx_packets: AtomicU64,
    /// Received here and given to other workers; `taken_over` is the other way round.
    pub(crate) handed_over: AtomicU64,
    pub(crate) taken_over: AtomicU64,
    pub(crate) bursts: AtomicU64,
    pub(crate) empty_polls: AtomicU64,
    pub(crate) sleeps: AtomicU64,
    /// On hold now.
    pub(crate) held_packets: AtomicU64,
    pub(crate) held_octets: AtomicU64,
    pub(crate) busy_cycles: AtomicU64,
    pub(crate) idle_cycles: AtomicU64,
}

/// Adds without a locked instruction: there is one writer.
#[inline]
fn add(counter: &AtomicU64, count: u64) {
    counter.store(
        counter.load(Ordering::Relaxed).wrapping_add(count),
        Ordering::Relaxed,
    );
}

/// What the control thread and a worker share.
#[derive(Debug)]
pub(crate) struct WorkerShared {
    /// Where it runs.
    pub(crate) core: usize,
    /// Its counters.
    pub(crate) counters: WorkerCounters,
    /// What it noticed.
    pub(crate) events: EventRing,
}

/// What the packets of a round are in, on their way; empty between bursts but for those on hold.
#[derive(Default)]
struct Hands {
    burst: ArrayVec<Mbuf, BURST>,
    parting: Parting,
    output: Output<Mbuf>,
}

/// All that a worker owns.
pub(crate) struct Worker {
    pub(crate) shared: Arc<WorkerShared>,
    pub(crate) poll: PollMode,
    pub(crate) ports: Vec<WorkerPort>,
    pub(crate) pipeline: Pipeline,
    pub(crate) snapshots: SubscriberFactory,
    pub(crate) stop: Arc<AtomicBool>,
    /// How many packets may be on hold.
    pub(crate) hold: Bounds,
    /// How many fragments may wait for others.
    pub(crate) reassembly: reassembly::Bounds,
    /// And how many of which nothing is known yet.
    pub(crate) unknown: Bounds,
    /// Packets in several segments that the receive queues have refused so far.
    pub(crate) refused: u64,
}

impl Worker {
    /// Runs until told to stop; to be called on the worker's own thread.
    pub(crate) fn run(mut self, eal: &Eal) {
        let core = self.shared.core;
        if !core_affinity::set_for_current(core_affinity::CoreId { id: core }) {
            tracing::warn!(core, "the worker cannot be pinned to its core; it runs anywhere");
        }
        // A sleep of 10 microseconds would otherwise take 60.
        if let Err(error) = nix::sys::prctl::set_timerslack(1_000) {
            tracing::debug!(core, %error, "the timer slack stays as it is");
        }
        let registration = dpdk::register_thread(eal);
        if let Err(error) = &registration {
            tracing::warn!(core, %error, "the worker takes packet buffers the slow way");
        }
        tracing::info!(core, "worker running");
        let mut subscriber = self.snapshots.subscribe();
        self.rounds(&mut subscriber);
        drop(subscriber);
        tracing::info!(core, "worker ended");
        // Before the thread's place in DPDK is given back.
        drop(self);
    }

    fn rounds(&mut self, subscriber: &mut Subscriber) {
        let mut hands = Hands {
            output: Output::holding(self.hold, self.unknown).reassembling(self.reassembly),
            ..Hands::default()
        };
        if let Some(handover) = self.ports.iter().find_map(|port| port.handover.as_ref()) {
            hands.parting = handover.parting();
        }
        let mut idle = Idle::new(self.poll);
        let mut round: u64 = 0;
        let mut before = dpdk::cycles();
        loop {
            round = round.wrapping_add(1);
            // An idle worker's rounds are long: it looks every time.
            if round.is_multiple_of(ROUNDS) || idle.is_sleeping() {
                self.count_refused();
                if hands.output.fragments() > 0 {
                    self.pipeline.forget_fragments(before, &mut hands.output);
                }
                if self.stop.load(Ordering::Relaxed) {
                    return;
                }
            }
            let busy = self.round(subscriber, before, &mut hands);
            if busy {
                idle.reset();
            } else if idle.wait() {
                add(&self.shared.counters.sleeps, 1);
            }
            let now = dpdk::cycles();
            let counters = &self.shared.counters;
            let cycles = if busy {
                &counters.busy_cycles
            } else {
                &counters.idle_cycles
            };
            add(cycles, now.wrapping_sub(before));
            before = now;
        }
    }

    /// Polls every queue once; whether there was a packet.
    #[inline]
    fn round(&mut self, subscriber: &mut Subscriber, now: u64, hands: &mut Hands) -> bool {
        let mut busy = false;
        for at in 0..self.ports.len() {
            busy |= self.take_over(at, subscriber, now, hands);
            let Hands {
                burst,
                parting,
                output,
            } = hands;
            let mut queue = 0;
            while let Some(port) = self.ports.get_mut(at)
                && let Some(receive) = port.receive.get_mut(queue)
            {
                queue += 1;
                let received = receive.receive(burst);
                if received == 0 {
                    add(&self.shared.counters.empty_polls, 1);
                    continue;
                }
                busy = true;
                add(&self.shared.counters.bursts, 1);
                add(&self.shared.counters.rx_packets, received as u64);
                let index = port.index;
                let snapshot = subscriber.read();
                if let Some(handover) = &mut port.handover {
                    let given = handover.give(&snapshot, index, burst, parting, &self.pipeline.counters);
                    add(&self.shared.counters.handed_over, given);
                }
                self.pipeline.process(&snapshot, index, now, burst, output);
                self.flush(output);
            }
            let Some(port) = self.ports.get_mut(at) else {
                continue;
            };
            if let Some((from_kernel, _)) = &mut port.exception
                && from_kernel.receive(burst) > 0
            {
                busy = true;
                let index = port.index;
                self.pipeline
                    .from_kernel(&subscriber.read(), index, burst, output);
                self.flush(output);
            }
        }
        busy | self.tend(subscriber, now, hands)
    }

    /// Looks after what is on hold; whether something was released.
    #[inline]
    fn tend(&mut self, subscriber: &mut Subscriber, now: u64, hands: &mut Hands) -> bool {
        let output = &mut hands.output;
        let counters = &self.shared.counters;
        if !output.holds() && counters.held_packets.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let released = self.pipeline.tend(&subscriber.read(), now, output);
        let (packets, octets) = output.held();
        counters.held_packets.store(packets as u64, Ordering::Relaxed);
        counters.held_octets.store(octets as u64, Ordering::Relaxed);
        if released {
            self.flush(output);
        }
        released
    }

    /// Processes what other workers have received on a port and handed over; whether there was any.
    #[inline]
    fn take_over(&mut self, at: usize, subscriber: &mut Subscriber, now: u64, hands: &mut Hands) -> bool {
        let Hands { burst, output, .. } = hands;
        let mut taken = 0;
        let mut ring = 0;
        while let Some(port) = self.ports.get_mut(at)
            && let Some(handover) = &mut port.handover
            && let Some(more) = handover.take(&mut ring, burst)
        {
            if burst.is_empty() {
                continue;
            }
            taken += more;
            let index = port.index;
            self.pipeline
                .process(&subscriber.read(), index, now, burst, output);
            self.flush(output);
        }
        if taken > 0 {
            add(&self.shared.counters.taken_over, taken);
        }
        taken > 0
    }

    /// Receive queues take single buffers only, and drop the rest: counted from time to time.
    fn count_refused(&mut self) {
        let receive = self
            .ports
            .iter()
            .flat_map(|port| &port.receive)
            .map(RxQueue::refused)
            .sum::<u64>();
        if receive > self.refused {
            self.pipeline
                .counters
                .add_drops(DropReason::MultiSegment, receive - self.refused);
            self.refused = receive;
        }
    }

    /// Sends what the pipeline has put out.
    #[inline]
    fn flush(&mut self, output: &mut Output<Mbuf>) {
        for port in &mut self.ports {
            if let Some(burst) = output.transmit.get_mut(port.index)
                && !burst.is_empty()
            {
                let sent = transmit(&mut port.transmit, burst, &mut self.pipeline);
                add(&self.shared.counters.tx_packets, sent as u64);
            }
            if let Some(burst) = output.punt.get_mut(port.index)
                && !burst.is_empty()
                && let Some((_, to_kernel)) = &mut port.exception
            {
                transmit(to_kernel, burst, &mut self.pipeline);
            }
        }
        for path in output.too_big.drain(..) {
            self.shared.events.push_too_big(path);
        }
        for end in output.ended.drain(..) {
            self.shared.events.path_ended(end);
        }
        for missing in output.events.drain(..) {
            self.shared.events.push(MissingNeighbour {
                port: missing.port,
                address: missing.address,
                on_link: missing.on_link,
            });
        }
    }
}

/// Sends a burst; what the device does not take after some more tries is dropped and counted.
#[inline]
fn transmit<const N: usize>(
    queue: &mut TxQueue,
    burst: &mut ArrayVec<Mbuf, N>,
    pipeline: &mut Pipeline,
) -> usize {
    let mut sent = queue.transmit(burst);
    for _ in 0..RETRIES {
        if burst.is_empty() {
            return sent;
        }
        sent += queue.transmit(burst);
    }
    if !burst.is_empty() {
        pipeline
            .counters
            .add_drops(DropReason::TransmitQueueFull, burst.len() as u64);
        Mbuf::free_burst(burst);
    }
    sent
}
