//! `kedge-perf publish`: what a change costs from the transaction to the pointer that workers read.
//!
//! Entries that are there are put again with another value, or some come and as
//! many others go, of each kind and of all together. Beside it, in the same
//! rounds: the same changes of prefixes in `rte_fib6` and in `rte_hash`, with
//! lock-free readers (`rte_hash-lf`) and without, in place and without versions.

mod peers;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use anyhow::ensure;
use clap::Args;
use hdrhistogram::Histogram;

use crate::fib::shapes::Random;
use crate::gateway::{self, Case, Gateway, Kind, Way};
use crate::peer_memory::PeerMemory;
use crate::pipeline::Packets;
use crate::report;
use crate::rows::Rows;
use peers::Peers;

/// What changes.
const KINDS: [Kind; 5] = [
    Kind::Prefixes,
    Kind::Tunnels,
    Kind::Holds,
    Kind::Filters,
    Kind::All,
];
/// Changes in one transaction.
const SIZES: [usize; 2] = [1, 64];
const QUANTILES: [(&str, f64); 3] = [("median", 0.5), ("p99", 0.99), ("p99.9", 0.999)];

/// Options of `kedge-perf publish`.
#[derive(Args)]
pub(crate) struct Options {
    /// Changes of each measurement.
    #[arg(long, default_value_t = 20_000)]
    changes: usize,
    /// Seconds of changes as fast as they go.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Rounds; in each, everything that changes has one turn.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Prefixes installed, several with commas.
    #[arg(
        long,
        default_value = "1000,10000,100000,1000000",
        value_delimiter = ',',
        value_name = "COUNT"
    )]
    prefixes: Vec<usize>,
    /// One round of fewer changes, up to 100,000 prefixes.
    #[arg(long)]
    quick: bool,
    /// Where to write the rows.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Whose time it is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Row {
    case: String,
    subject: &'static str,
}

/// Quantiles in microseconds, of each round.
#[derive(Debug, Default)]
struct Timings(Vec<(Row, Vec<[f64; QUANTILES.len()]>)>);

impl Timings {
    /// Adds those of a round, nanoseconds.
    fn add(&mut self, row: Row, histogram: &Histogram<u64>) {
        let quantiles = QUANTILES.map(|(_, quantile)| histogram.value_at_quantile(quantile) as f64 / 1000.0);
        match self.0.iter_mut().find(|(it, _)| *it == row) {
            Some((_, rounds)) => rounds.push(quantiles),
            None => self.0.push((row, vec![quantiles])),
        }
    }

    fn rows(&self, prefixes: usize, rows: &mut Rows) {
        for (row, rounds) in &self.0 {
            for (at, (metric, _)) in QUANTILES.iter().enumerate() {
                let samples: Vec<f64> = rounds.iter().filter_map(|it| it.get(at).copied()).collect();
                rows.add(
                    "publish",
                    &row.case,
                    row.subject,
                    prefixes,
                    metric,
                    "us",
                    &samples,
                );
            }
        }
    }
}

/// So many of this size are measured; of large ones fewer changes' worth would be too few.
fn transactions(changes: usize, size: usize) -> usize {
    (changes / size.min(8)).max(1)
}

/// What a row says was changed, and how.
fn case(kind: Kind, way: Way, size: usize) -> String {
    format!("{} {}, transactions of {size}", kind.name(), way.name())
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    ensure!(
        options.changes > 0 && options.seconds > 0 && options.rounds > 0,
        "--changes, --seconds and --rounds must be at least 1"
    );
    let wrong = options
        .prefixes
        .iter()
        .find(|count| !(100..=1_000_000).contains(*count));
    ensure!(
        wrong.is_none(),
        "--prefixes {}: 100 to 1000000 can be had",
        wrong.copied().unwrap_or_default()
    );
    report::check_writable(options.json.as_deref())?;
    let load = report::line_of("/proc/loadavg");
    let mut rows = Rows::default();
    let (changes, seconds, rounds) = if options.quick {
        (options.changes.min(5_000), options.seconds.min(1), 1)
    } else {
        (options.changes, options.seconds, options.rounds)
    };
    let memory = PeerMemory::start(peers::MEMORY_MIB);
    if let Err(error) = &memory {
        eprintln!("the peers stay away: {error}");
    }
    let small = |count: &&usize| !options.quick || **count <= 100_000;
    for count in options.prefixes.iter().filter(small) {
        eprintln!("{count} prefixes");
        let start = Instant::now();
        let mut gateway = Gateway::new(Case::Encapsulate, *count, 1)?;
        let fill = start.elapsed().as_secs_f64() * 1e6 / *count as f64;
        rows.add(
            "publish",
            "fill by 1,000",
            "kedge",
            *count,
            "time",
            "us/prefix",
            &[fill],
        );
        gateway.ready()?;
        let mut peers = match &memory {
            Ok(memory) => Some(Peers::with(memory.eal(), *count, &mut rows)?),
            Err(_) => None,
        };
        let mut timings = Timings::default();
        for round in 1..=rounds {
            for (kind, way) in KINDS.into_iter().flat_map(|kind| Way::ALL.map(|way| (kind, way))) {
                report::progress(&format!("round {round}/{rounds}: {} {}", kind.name(), way.name()));
                // All of them are more than one.
                for size in SIZES.into_iter().filter(|size| kind != Kind::All || *size > 1) {
                    one_by_one(&mut gateway, (kind, way), size, changes, &mut timings)?;
                }
                gateway.settle()?;
                if let (Kind::Prefixes, Some(peers)) = (kind, &mut peers) {
                    peers.measure(way, changes, &mut timings)?;
                }
            }
        }
        timings.rows(*count, &mut rows);
        drop(peers);
        for way in Way::ALL {
            sustained(&mut gateway, way, seconds, &mut rows)?;
            gateway.settle()?;
        }
    }
    report::progress("");
    gateway::finish(&rows, options.json.as_deref(), &load)
}

/// Transactions of `size` changes, each timed alone.
fn one_by_one(
    gateway: &mut Gateway,
    (kind, way): (Kind, Way),
    size: usize,
    changes: usize,
    timings: &mut Timings,
) -> anyhow::Result<()> {
    let mut publisher = gateway.publisher();
    let mut random = Random::new(3);
    let mut histogram = Histogram::<u64>::new(3)?;
    for _ in 0..transactions(changes, size) {
        let transaction = gateway.changes(kind, way, size, &mut random)?;
        let start = Instant::now();
        let snapshot = gateway.compiler.apply(&transaction)?;
        publisher.publish(snapshot);
        histogram.record(u64::try_from(start.elapsed().as_nanos())?)?;
    }
    let row = Row {
        case: case(kind, way, size),
        subject: "kedge",
    };
    timings.add(row, &histogram);
    Ok(())
}

/// Transactions of 64 as fast as they go, beside a worker that forwards.
fn sustained(gateway: &mut Gateway, way: Way, seconds: u64, rows: &mut Rows) -> anyhow::Result<()> {
    let mut publisher = gateway.publisher();
    let factory = publisher.factory();
    let traffic = Packets::new(gateway);
    let (stop, packets) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut rates = Vec::new();
    let mut held = 0;
    std::thread::scope(|scope| -> anyhow::Result<()> {
        scope.spawn(|| crate::memory::forward(factory.subscribe(), 0, &traffic, &stop, &packets));
        let mut random = Random::new(5);
        let mut rate = || -> anyhow::Result<()> {
            for _ in 0..seconds {
                let start = Instant::now();
                let mut changes = 0;
                while start.elapsed().as_secs_f64() < 1.0 {
                    let transaction = gateway.changes(Kind::Prefixes, way, 64, &mut random)?;
                    let snapshot = gateway.compiler.apply(&transaction)?;
                    publisher.publish(snapshot);
                    changes += 64;
                    held = held.max(publisher.retired());
                }
                rates.push(f64::from(changes) / start.elapsed().as_secs_f64());
            }
            Ok(())
        };
        let outcome = rate();
        stop.store(true, Ordering::Relaxed);
        outcome
    })?;
    let count = gateway.prefixes.len();
    let case = format!("{}, beside a worker", case(Kind::Prefixes, way, 64));
    let case = case.as_str();
    rows.add("publish", case, "kedge", count, "sustained", "changes/s", &rates);
    rows.add(
        "publish",
        case,
        "kedge",
        count,
        "versions waiting, most",
        "versions",
        &[held as f64],
    );
    let forwarded = packets.load(Ordering::Relaxed) as f64 / seconds as f64 / 1e6;
    rows.add(
        "publish",
        case,
        "kedge",
        count,
        "forwarded meanwhile",
        "Mpps",
        &[forwarded],
    );
    Ok(())
}
