//! `kedge-perf instructions`: work to be counted by callgrind, see `ci/lib/instructions.py`.
//!
//! The same packets through the worker's code, as often as asked: two runs of
//! different length differ by the instructions of the packets between them, and
//! by nothing else. Under valgrind there is no AVX-512, so what is counted is the
//! scalar path, on any machine.

use arrayvec::ArrayVec;
use clap::{Args, ValueEnum};
use kedge_dataplane::pipeline::{BURST, Output};

use crate::fib::shapes::Random;
use crate::gateway::{self, Case, Gateway};
use crate::memory::Pool;

/// Prefixes installed: few, for valgrind is slow.
const PREFIXES: usize = 500;
/// Different packets.
const PACKETS: usize = 512;

/// Options of `kedge-perf instructions`.
#[derive(Args)]
pub(crate) struct Options {
    /// What is done with the packets.
    #[arg(long, value_enum)]
    case: Wish,
    /// Bursts of 64 packets.
    #[arg(long)]
    bursts: usize,
}

#[derive(Clone, Copy, ValueEnum)]
enum Wish {
    Plain,
    Encapsulate,
    Decapsulate,
    GtpuEncapsulate,
    GtpuDecapsulate,
    Gtpu4Encapsulate,
    Gtpu4Decapsulate,
    GtpuInner4Encapsulate,
    GtpuInner4Decapsulate,
    GreEncapsulate,
    GreDecapsulate,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let case = match options.case {
        Wish::Plain => Case::Plain,
        Wish::Encapsulate => Case::Encapsulate,
        Wish::Decapsulate => Case::Decapsulate,
        Wish::GtpuEncapsulate => Case::GtpuEncapsulate,
        Wish::GtpuDecapsulate => Case::GtpuDecapsulate,
        Wish::Gtpu4Encapsulate => Case::Gtpu4Encapsulate,
        Wish::Gtpu4Decapsulate => Case::Gtpu4Decapsulate,
        Wish::GtpuInner4Encapsulate => Case::GtpuInner4Encapsulate,
        Wish::GtpuInner4Decapsulate => Case::GtpuInner4Decapsulate,
        Wish::GreEncapsulate => Case::GreEncapsulate,
        Wish::GreDecapsulate => Case::GreDecapsulate,
    };
    let gateway = Gateway::new(case, PREFIXES, 1)?;
    let snapshot = gateway.compiler.snapshot();
    let mut random = Random::new(11);
    let frames: Vec<Vec<u8>> = (0..PACKETS).map(|_| gateway.frame(&mut random)).collect();
    let mut pool = Pool::new(2 * BURST);
    let mut pipeline = gateway::pipeline(0);
    let (mut burst, mut output) = (ArrayVec::new(), Output::default());
    let mut sent = 0;
    for frames in frames.chunks_exact(BURST).cycle().take(options.bursts) {
        pool.receive(frames.iter().map(Vec::as_slice), &mut burst);
        pipeline.process(&snapshot, gateway::CORE, 0, &mut burst, &mut output);
        sent += pool.sent(&mut output);
    }
    anyhow::ensure!(
        sent == options.bursts * BURST,
        "{sent} of {} packets were forwarded: what is counted is not forwarding",
        options.bursts * BURST
    );
    Ok(())
}
