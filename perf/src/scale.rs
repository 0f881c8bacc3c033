//! `kedge-perf scale`: what several workers on one set of tables do together.
//!
//! Each worker forwards on a core of its own, all from the same versions, while
//! the tables change. The peer in the same run is as many gateways that share
//! nothing, `apart`: were a cache line written by two workers, or read by one and
//! written by another for each packet, the ratio would show it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use clap::Args;
use kedge_dataplane::snapshot::Publisher;

use crate::fib::shapes::Random;
use crate::gateway::{self, Case, Gateway};
use crate::pipeline::Packets;
use crate::report;
use crate::rows::Rows;
use crate::updates::pin;

/// Options of `kedge-perf scale`.
#[derive(Args)]
pub(crate) struct Options {
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 2)]
    seconds: u64,
    /// Rounds; in each, every number of workers has one turn.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Prefixes installed.
    #[arg(long, default_value_t = 100_000)]
    prefixes: usize,
    /// One second, two rounds.
    #[arg(long)]
    quick: bool,
    /// Where to write the rows.
    #[arg(long)]
    json: Option<PathBuf>,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    ensure!(
        options.seconds > 0 && options.rounds > 0 && options.prefixes > 0,
        "--seconds, --rounds and --prefixes must be at least 1"
    );
    let load = report::line_of("/proc/loadavg");
    let (seconds, rounds) = if options.quick {
        (1, options.rounds.min(2))
    } else {
        (options.seconds, options.rounds)
    };
    let cores = core_affinity::get_core_ids().map_or(1, |cores| cores.len());
    let mut gateways = Vec::new();
    for number in 1..=cores {
        eprintln!("tables of gateway {number}/{cores}");
        gateways.push(Gateway::new(Case::Encapsulate, options.prefixes, cores)?);
    }
    let Some(first) = gateways.first() else {
        return Ok(());
    };
    let packets = Packets::new(first);
    let mut samples: Vec<(usize, &str, Vec<f64>)> = Vec::new();
    for round in 1..=rounds {
        for workers in 1..=cores {
            for subject in ["kedge", "apart"] {
                let shared = subject == "kedge";
                let rate = turn(&mut gateways, &packets, workers, shared, seconds)?;
                eprintln!(
                    "round {round}/{rounds}: {workers} workers, {subject}: {:.2} Mpps",
                    rate / 1e6
                );
                match samples.iter_mut().find(|it| (it.0, it.1) == (workers, subject)) {
                    Some(it) => it.2.push(rate / 1e6),
                    None => samples.push((workers, subject, vec![rate / 1e6])),
                }
            }
        }
    }
    let mut rows = Rows::default();
    for (workers, subject, rates) in &samples {
        let case = format!("{workers} workers");
        rows.add("scale", &case, subject, options.prefixes, "rate", "Mpps", rates);
    }
    gateway::finish(&rows, options.json.as_deref(), &load)
}

/// Packets per second of `workers` together; of one gateway, which changes meanwhile, or of as many.
fn turn(
    gateways: &mut [Gateway],
    packets: &Packets,
    workers: usize,
    shared: bool,
    seconds: u64,
) -> anyhow::Result<f64> {
    let mut publishers: Vec<Publisher> = gateways.iter().map(Gateway::publisher).collect();
    let stop = AtomicBool::new(false);
    let counts: Vec<AtomicU64> = (0..workers).map(|_| AtomicU64::new(0)).collect();
    let start = Instant::now();
    std::thread::scope(|scope| -> anyhow::Result<()> {
        for (worker, count) in counts.iter().enumerate() {
            let factory = publishers
                .get(if shared { 0 } else { worker })
                .map(Publisher::factory);
            let (stop, packets) = (&stop, packets);
            scope.spawn(move || {
                pin(worker);
                if let Some(factory) = factory {
                    crate::memory::forward(factory.subscribe(), worker, packets, stop, count);
                }
            });
        }
        // A few changes, so that versions come and go. They are the same for both.
        let mut random = Random::new(31);
        let mut outcome = Ok(());
        while start.elapsed() < Duration::from_secs(seconds) && outcome.is_ok() {
            std::thread::sleep(Duration::from_millis(5));
            if let (Some(gateway), Some(publisher)) = (gateways.first_mut(), publishers.first_mut()) {
                let transaction = gateway.another_way(&mut random);
                outcome = gateway
                    .compiler
                    .apply(&transaction)
                    .map(|snapshot| publisher.publish(snapshot));
            }
        }
        stop.store(true, Ordering::Relaxed);
        Ok(outcome?)
    })?;
    let packets: u64 = counts.iter().map(|count| count.load(Ordering::Relaxed)).sum();
    Ok(packets as f64 / start.elapsed().as_secs_f64())
}
