//! `kedge-perf publish`: what a change costs from the transaction to the pointer that workers read.
//!
//! Entries that are there are put again with another value, or some come and as
//! many others go, of each kind and of all together.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use anyhow::ensure;
use clap::Args;
use hdrhistogram::Histogram;

use crate::fib::shapes::Random;
use crate::gateway::{self, Case, Gateway, Kind, Way};
use crate::pipeline::Packets;
use crate::report;
use crate::rows::Rows;

/// What changes.
const KINDS: [Kind; 5] = [
    Kind::Prefixes,
    Kind::Tunnels,
    Kind::Holds,
    Kind::Filters,
    Kind::All,
];

/// Options of `kedge-perf publish`.
#[derive(Args)]
pub(crate) struct Options {
    /// Changes of each measurement.
    #[arg(long, default_value_t = 20_000)]
    changes: usize,
    /// Seconds of changes as fast as they go.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Fewer changes, up to 100,000 prefixes.
    #[arg(long)]
    quick: bool,
    /// Where to write the rows.
    #[arg(long)]
    json: Option<PathBuf>,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    ensure!(
        options.changes > 0 && options.seconds > 0,
        "--changes and --seconds must be at least 1"
    );
    let load = report::line_of("/proc/loadavg");
    let mut rows = Rows::default();
    let sizes: &[usize] = if options.quick {
        &[1_000, 100_000]
    } else {
        &[1_000, 10_000, 100_000, 1_000_000]
    };
    let (changes, seconds) = if options.quick {
        (options.changes.min(5_000), 2)
    } else {
        (options.changes, options.seconds)
    };
    for count in sizes {
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
        for kind in KINDS {
            for way in Way::ALL {
                // All of them are more than one.
                let sizes: &[usize] = if kind == Kind::All { &[64] } else { &[1, 64] };
                for size in sizes.iter().copied() {
                    one_by_one(&mut gateway, (kind, way), size, changes / size.min(8), &mut rows)?;
                }
                if kind == Kind::Prefixes {
                    sustained(&mut gateway, way, seconds, &mut rows)?;
                }
                gateway.settle()?;
            }
        }
    }
    gateway::finish(&rows, options.json.as_deref(), &load)
}

/// What a row says was changed, and how.
fn case(kind: Kind, way: Way, size: usize) -> String {
    format!("{} {}, transactions of {size}", kind.name(), way.name())
}

/// Transactions of `size` changes, each timed alone.
fn one_by_one(
    gateway: &mut Gateway,
    (kind, way): (Kind, Way),
    size: usize,
    count: usize,
    rows: &mut Rows,
) -> anyhow::Result<()> {
    let mut publisher = gateway.publisher();
    let mut random = Random::new(3);
    let mut histogram = Histogram::<u64>::new(3)?;
    for _ in 0..count {
        let transaction = gateway.changes(kind, way, size, &mut random)?;
        let start = Instant::now();
        let snapshot = gateway.compiler.apply(&transaction)?;
        publisher.publish(snapshot);
        histogram.record(u64::try_from(start.elapsed().as_nanos())?)?;
    }
    let of = |quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
    let case = case(kind, way, size);
    for (metric, quantile) in [("median", 0.5), ("p99", 0.99), ("p99.9", 0.999)] {
        rows.add(
            "publish",
            &case,
            "kedge",
            gateway.prefixes.len(),
            metric,
            "us",
            &[of(quantile)],
        );
    }
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
