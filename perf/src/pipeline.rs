//! `kedge-perf pipeline`: cycles per packet through the worker's code, over ports in memory.
//!
//! What is counted begins when a burst has been received and ends when it could
//! be sent: what VPP's figures of its forwarding nodes count too. Packets are
//! put into their buffers just before, as a device would; what that takes is not
//! counted. Their prefixes are chosen at random over all.
//!
//! `hold` and `release`: packets that begin to wait, and that wait no more.
//!
//! The peer in the same run, `rte_fib6-minimal`, is the least that any forwarder
//! does: read the destination, look it up in `rte_fib6`, count the hop, write the
//! link-layer addresses. It checks nothing, counts nothing, and cannot be changed
//! while it runs. Where there are many tunnels, another one, `tables-alone`, is what
//! the tables of a case take without packets: see `alone`.

mod alone;
mod holding;
mod minimal;

use std::path::PathBuf;

use anyhow::ensure;
use arrayvec::ArrayVec;
use clap::Args;
use kedge_dataplane::flow::Builder;
use kedge_dataplane::pipeline::{BURST, Output, Pipeline, Probe, Step};
use kedge_dataplane::snapshot::Snapshot;

use crate::fib::shapes::Random;
use crate::gateway::{self, Case, Flows, Gateway};
use crate::memory::{MemoryFrame, Pool};
use crate::report;
use crate::rows::Rows;

/// Different packets of a case, at most: with a million prefixes, too many for the caches of a core.
const PACKETS: usize = 1 << 18;
/// Bursts that are received together, and then processed one by one.
const BATCH: usize = 4;

/// Metric: how many times what one prefix takes, measured in the same rounds.
const TO_ONE: &str = "to one";
/// Metric: how much more than plain forwarding, with one prefix, measured in the same rounds.
const OVER_PLAIN: &str = "over plain";

/// Options of `kedge-perf pipeline`.
#[derive(Args)]
pub(crate) struct Options {
    /// Samples of each case.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Prefixes installed, several with commas.
    #[arg(
        long,
        default_value = "1,10000,100000,1000000",
        value_delimiter = ',',
        value_name = "COUNT"
    )]
    prefixes: Vec<usize>,
    /// Up to 100,000 prefixes.
    #[arg(long)]
    quick: bool,
    /// Only the case of this name.
    #[arg(long, value_name = "CASE")]
    only: Option<String>,
    /// Where to write the rows.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Packets of one length, one behind the other.
pub(crate) struct Packets {
    octets: Vec<u8>,
    length: usize,
}

impl Packets {
    /// Packets of the gateway's case.
    pub(crate) fn new(gateway: &Gateway) -> Self {
        let mut random = Random::new(11);
        let mut octets = Vec::new();
        let mut length = 0;
        for _ in 0..PACKETS {
            let frame = gateway.frame(&mut random);
            length = frame.len();
            octets.extend_from_slice(&frame);
        }
        Self { octets, length }
    }

    /// Burst number `at`, over and over.
    pub(crate) fn burst(&self, at: usize) -> impl Iterator<Item = &[u8]> {
        let first = at * BURST % PACKETS * self.length;
        let octets = self
            .octets
            .get(first..first + BURST * self.length)
            .unwrap_or_default();
        octets.chunks_exact(self.length)
    }
}

/// Cycles by step, of all packets since it was made.
#[derive(Default)]
struct Cycles {
    last: u64,
    steps: [u64; Step::ALL.len()],
}

impl Probe for Cycles {
    #[inline]
    fn reached(&mut self, step: Step) {
        let now = dpdk::cycles();
        if let Some(cycles) = self.steps.get_mut(step as usize) {
            *cycles += now - self.last;
        }
        self.last = now;
    }
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    ensure!(options.rounds > 0, "--rounds must be at least 1");
    let load = report::line_of("/proc/loadavg");
    let mut rows = Rows::default();
    let wrong = options
        .prefixes
        .iter()
        .find(|count| !(1..=1_000_000).contains(*count));
    ensure!(
        wrong.is_none(),
        "--prefixes {}: 1 to 1000000 can be had",
        wrong.copied().unwrap_or_default()
    );
    report::check_writable(options.json.as_deref())?;
    let sizes = options.prefixes.iter().copied();
    let sizes: Vec<usize> = sizes
        .filter(|count| !options.quick || *count <= 100_000)
        .collect();
    let sizes = sizes.as_slice();
    let minimal = minimal::Minimal::start();
    let wanted = |name: &str| options.only.as_ref().is_none_or(|only| only == name);
    let mut plain = Subject::new(Gateway::new(Case::Plain, 1, 1)?);
    for case in Case::ALL.into_iter().filter(|case| wanted(case.name())) {
        let mut one = Subject::new(Gateway::new(case, 1, 1)?);
        for count in sizes {
            eprintln!("{} with {count} prefixes", case.name());
            let mut subject = Subject::new(Gateway::new(case, *count, 1)?);
            let mut peer = match (case, &minimal) {
                (Case::Plain, Ok(minimal)) => minimal.table(&subject.gateway.prefixes),
                _ => None,
            };
            let beside = match (case, count) {
                (_, 2..) => Some(Beside::One(&mut one)),
                (Case::Plain, _) => None,
                _ => Some(Beside::Plain(&mut plain)),
            };
            measure(
                &mut subject,
                case.name(),
                beside,
                peer.as_mut(),
                options.rounds,
                &mut rows,
            )?;
        }
    }
    if wanted(holding::HOLD) || wanted(holding::RELEASE) {
        for count in sizes {
            eprintln!("hold and release with {count} prefixes");
            holding::measure(*count, options.rounds, &mut rows)?;
        }
    }
    match &minimal {
        Ok(minimal) => {
            for count in sizes.iter().filter(|count| **count > 1) {
                for flows in Flows::ALL.into_iter().filter(|flows| wanted(&flows.name())) {
                    eprintln!("{} with {count} prefixes", flows.name());
                    let mut gateway = Gateway::new(Case::Encapsulate, *count, 1)?;
                    // In the memory of the peer, which DPDK's classifier needs too.
                    gateway.classify_by(Builder::Acl(minimal.eal()));
                    gateway.put_flows(flows)?;
                    let mut subject = Subject::new(gateway);
                    measure(&mut subject, &flows.name(), None, None, options.rounds, &mut rows)?;
                }
            }
        }
        Err(error) => eprintln!("no filters without DPDK: {error}"),
    }
    if let Err(error) = minimal {
        eprintln!("the peer stays away: {error}");
    }
    summary(&rows, sizes);
    gateway::finish(&rows, options.json.as_deref(), &load)
}

/// A gateway with what it is measured by.
struct Subject {
    gateway: Gateway,
    snapshot: Snapshot,
    packets: Packets,
    pipeline: Pipeline,
    pool: Pool,
}

/// What is measured in the same rounds as another, to be compared with it: from one minute to the next machines change by more than
/// what is to be seen.
enum Beside<'a> {
    /// The same case with one prefix.
    One(&'a mut Subject),
    /// Plain forwarding, with one prefix.
    Plain(&'a mut Subject),
}

/// Packets of one turn.
const PROCESSED: usize = PACKETS / (BATCH * BURST) * BATCH * BURST;

impl Subject {
    fn new(gateway: Gateway) -> Self {
        Self {
            snapshot: gateway.compiler.snapshot(),
            packets: Packets::new(&gateway),
            pipeline: gateway::pipeline(0),
            pool: Pool::new(BATCH * BURST),
            gateway,
        }
    }

    /// Cycles per packet by step, of all packets once.
    fn turn(&mut self) -> anyhow::Result<[f64; Step::ALL.len()]> {
        let (cycles, forwarded) = turn(&mut self.pipeline, &self.snapshot, &self.packets, &mut self.pool);
        ensure!(
            forwarded >= PROCESSED,
            "only {forwarded} of {PROCESSED} packets were forwarded: what is measured is not forwarding"
        );
        Ok(cycles.steps.map(|cycles| cycles as f64 / PROCESSED as f64))
    }
}

fn measure(
    subject: &mut Subject,
    case: &str,
    mut beside: Option<Beside<'_>>,
    mut peer: Option<&mut minimal::Table<'_>>,
    rounds: usize,
    rows: &mut Rows,
) -> anyhow::Result<()> {
    let mut samples: [Vec<f64>; Step::ALL.len()] = std::array::from_fn(|_| Vec::new());
    let (mut totals, mut theirs, mut without) = (Vec::new(), Vec::new(), Vec::new());
    let mut compared = Vec::new();
    let alone = alone::Alone::of(&subject.gateway, &subject.snapshot);
    // One round before those that count.
    for round in 0..=rounds {
        let steps = subject.turn()?;
        let total: f64 = steps.iter().sum();
        let comparison = match &mut beside {
            Some(Beside::One(one)) => Some(total / one.turn()?.iter().sum::<f64>()),
            Some(Beside::Plain(plain)) => Some(total - plain.turn()?.iter().sum::<f64>()),
            None => None,
        };
        let peer = peer
            .as_mut()
            .map(|peer| peer.turn(&subject.packets, PACKETS / BURST));
        let alone = alone.as_ref().map(|alone| alone.turn(&subject.snapshot));
        if let Some((_, found)) = alone {
            // All but those whose bucket is full.
            ensure!(
                found > PACKETS / 100 * 90,
                "only {found} of {PACKETS} were found: what is measured is not the tables"
            );
        }
        if round == 0 {
            continue;
        }
        for (samples, cycles) in samples.iter_mut().zip(steps) {
            samples.push(cycles);
        }
        totals.push(total);
        theirs.extend(peer);
        without.extend(alone.map(|(cycles, _)| cycles));
        compared.extend(comparison);
    }
    let count = subject.gateway.prefixes.len();
    const CYCLES: &str = "cycles/packet";
    let mut add = |subject, metric, unit, samples: &[f64]| {
        rows.add("pipeline", case, subject, count, metric, unit, samples);
    };
    add("kedge", "total", CYCLES, &totals);
    for (step, samples) in Step::ALL.iter().zip(&samples) {
        add("kedge", step.name(), CYCLES, samples);
    }
    match beside {
        Some(Beside::One(_)) => add("kedge", TO_ONE, "ratio", &compared),
        Some(Beside::Plain(_)) => add("kedge", OVER_PLAIN, CYCLES, &compared),
        None => {}
    }
    add("rte_fib6-minimal", "total", CYCLES, &theirs);
    add(alone::SUBJECT, "total", CYCLES, &without);
    Ok(())
}

/// All packets once.
fn turn(pipeline: &mut Pipeline, snapshot: &Snapshot, packets: &Packets, pool: &mut Pool) -> (Cycles, usize) {
    let mut bursts: [ArrayVec<MemoryFrame, BURST>; BATCH] = std::array::from_fn(|_| ArrayVec::new());
    let mut output = Output::default();
    let mut cycles = Cycles::default();
    let mut forwarded = 0;
    for batch in 0..PACKETS / (BATCH * BURST) {
        for (at, burst) in bursts.iter_mut().enumerate() {
            pool.receive(packets.burst(batch * BATCH + at), burst);
        }
        for burst in &mut bursts {
            cycles.last = dpdk::cycles();
            let now = cycles.last;
            pipeline.process_probed(snapshot, gateway::CORE, now, burst, &mut output, &mut cycles);
            forwarded += pool.sent(&mut output);
        }
    }
    (cycles, forwarded)
}

/// The columns of [`VPP`]: routes, or tunnels.
const VPP_SIZES: [usize; 4] = [1, 10_000, 100_000, 1_000_000];
/// VPP on a machine of this kind, clocks per packet, medians.
const VPP: [(Case, [Option<f64>; 4]); 12] = [
    (Case::Plain, [Some(253.0), Some(375.0), Some(985.0), Some(1598.0)]),
    (Case::Encapsulate, [Some(323.0), Some(1458.0), None, None]),
    (Case::Decapsulate, [Some(767.0), Some(3117.0), None, None]),
    (Case::Serve, [None; 4]),
    (Case::GtpuEncapsulate, [Some(538.0), Some(2420.0), None, None]),
    (Case::GtpuDecapsulate, [Some(781.0), Some(2986.0), None, None]),
    (Case::Gtpu4Encapsulate, [Some(440.0), Some(2054.0), None, None]),
    (Case::Gtpu4Decapsulate, [Some(527.0), Some(2120.0), None, None]),
    (Case::GtpuInner4Encapsulate, [None; 4]),
    (Case::GtpuInner4Decapsulate, [None; 4]),
    (Case::GreEncapsulate, [None; 4]),
    (Case::GreDecapsulate, [None; 4]),
];

fn summary(rows: &Rows, sizes: &[usize]) {
    println!("cycles per packet, medians (VPP's as published for a machine of this kind, not of this run)");
    println!(
        "{:<23} {:>10} {:>8} {:>8} {:>10} {:>8} {:>14}",
        "case", "prefixes", "kedge", "VPP", "over plain", "to one", "tables alone"
    );
    for (case, theirs) in VPP {
        for count in sizes {
            let column = VPP_SIZES.iter().position(|size| size == count);
            let theirs = column.and_then(|at| theirs.get(at).copied().flatten());
            let Some(ours) = rows.median(case.name(), "kedge", *count, "total") else {
                continue;
            };
            let text = |value: Option<f64>, digits| {
                value.map_or_else(|| "-".to_owned(), |it| format!("{it:.digits$}"))
            };
            let of = |metric| rows.median(case.name(), "kedge", *count, metric);
            println!(
                "{:<23} {count:>10} {ours:>8.1} {:>8} {:>10} {:>8} {:>14}",
                case.name(),
                text(theirs, 0),
                text(of(OVER_PLAIN), 1),
                text(of(TO_ONE), 2),
                text(rows.median(case.name(), alone::SUBJECT, *count, "total"), 1),
            );
        }
    }
    println!();
}
