//! What it costs to put packets on hold, and to release them.
//!
//! All prefixes are on hold, and packets for them come until as many wait as fit; then none is any more, and all
//! are released, encapsulated, as fast as the worker can. Each round of [`Pipeline::tend`] counts, those too in which
//! queues are looked at and nothing is released yet.
//!
//! [`Pipeline::tend`]: kedge_dataplane::pipeline::Pipeline::tend

use anyhow::ensure;
use arrayvec::ArrayVec;
use kedge_dataplane::hold::{Bounds, Overflow};
use kedge_dataplane::pipeline::{BURST, Output, Pipeline, Step};
use kedge_dataplane::snapshot::Snapshot;

use super::{BATCH, Cycles, PACKETS, Packets};
use crate::gateway::{self, Case, Gateway};
use crate::memory::{MemoryFrame, Pool};
use crate::report;
use crate::rows::Rows;

/// Cases in the rows.
pub(super) const HOLD: &str = "hold";
pub(super) const RELEASE: &str = "release";

/// Packets that wait at once: as many as a gateway of some size has buffers for.
const HELD: usize = 1 << 14;

/// No packet is refused, none becomes too old, and what is released is not paced.
const BOUNDS: Bounds = Bounds {
    packets: HELD,
    packets_per_prefix: HELD,
    octets_per_prefix: usize::MAX,
    age: u64::MAX,
    overflow: Overflow::DropNewest,
    cycles_per_release: 1,
};

/// Rounds in which nothing comes out, after which something is wrong: there are not as many queues to look at.
const PATIENCE: usize = HELD;

/// Both cases with so many prefixes.
pub(super) fn measure(count: usize, rounds: usize, rows: &mut Rows) -> anyhow::Result<()> {
    let mut gateway = Gateway::new(Case::Encapsulate, count, 1)?;
    let packets = Packets::new(&gateway);
    let goes = gateway.compiler.snapshot();
    let waits = gateway.hold_all()?;
    let mut bench = Bench {
        pipeline: gateway::pipeline(0),
        pool: Pool::new(HELD + BATCH * BURST),
        output: Output::holding(BOUNDS, Bounds::default()),
    };
    let mut samples: [Vec<f64>; Step::ALL.len()] = std::array::from_fn(|_| Vec::new());
    let (mut held, mut released) = (Vec::new(), Vec::new());
    // One round before those that count.
    for round in 0..=rounds {
        report::progress(&format!("round {round}/{rounds}"));
        let (mut cycles, mut release) = (Cycles::default(), 0);
        for lot in 0..PACKETS / HELD {
            bench.hold(&waits, &packets, lot, &mut cycles)?;
            release += bench.release(&goes)?;
        }
        if round == 0 {
            continue;
        }
        for (samples, cycles) in samples.iter_mut().zip(cycles.steps) {
            samples.push(cycles as f64 / PACKETS as f64);
        }
        held.push(cycles.steps.iter().sum::<u64>() as f64 / PACKETS as f64);
        released.push(release as f64 / PACKETS as f64);
    }
    report::progress("");
    let mut add = |case, metric, samples: &[f64]| {
        rows.add("pipeline", case, "kedge", count, metric, "cycles/packet", samples);
    };
    add(HOLD, "total", &held);
    for (step, samples) in Step::ALL.iter().zip(&samples) {
        add(HOLD, step.name(), samples);
    }
    add(RELEASE, "total", &released);
    Ok(())
}

/// A worker.
struct Bench {
    pipeline: Pipeline,
    pool: Pool,
    output: Output<MemoryFrame>,
}

impl Bench {
    /// Lot number `lot` of the packets is put on hold.
    fn hold(
        &mut self,
        snapshot: &Snapshot,
        packets: &Packets,
        lot: usize,
        cycles: &mut Cycles,
    ) -> anyhow::Result<()> {
        let mut bursts: [ArrayVec<MemoryFrame, BURST>; BATCH] = std::array::from_fn(|_| ArrayVec::new());
        let first = lot * (HELD / BURST);
        for batch in 0..HELD / BURST / BATCH {
            for (at, burst) in bursts.iter_mut().enumerate() {
                self.pool
                    .receive(packets.burst(first + batch * BATCH + at), burst);
            }
            for burst in &mut bursts {
                cycles.last = dpdk::cycles();
                let now = cycles.last;
                self.pipeline
                    .process_probed(snapshot, gateway::CORE, now, burst, &mut self.output, cycles);
            }
        }
        let (sent, (held, _)) = (self.pool.sent(&mut self.output), self.output.held());
        ensure!(
            held == HELD && sent == 0,
            "{held} of {HELD} packets are on hold, and {sent} were sent: what is measured is something else"
        );
        Ok(())
    }

    /// All of them are released; cycles.
    fn release(&mut self, snapshot: &Snapshot) -> anyhow::Result<u64> {
        let (mut cycles, mut sent, mut vain) = (0, 0, 0);
        while self.output.holds() && vain < PATIENCE {
            let start = dpdk::cycles();
            let some = self.pipeline.tend(snapshot, start, &mut self.output);
            cycles += dpdk::cycles() - start;
            vain = if some { 0 } else { vain + 1 };
            sent += self.pool.sent(&mut self.output);
        }
        ensure!(
            sent == HELD,
            "{sent} of {HELD} packets were released: what is measured is something else"
        );
        Ok(cycles)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_held_is_released() {
        for count in [1, 100] {
            let mut rows = Rows::default();
            measure(count, 1, &mut rows).unwrap();
            for case in [HOLD, RELEASE] {
                assert!(rows.median(case, "kedge", count, "total").is_some(), "{case}");
            }
            assert_eq!(rows.0.len(), 2 + Step::ALL.len());
        }
    }
}
