//! `kedge-perf updates`: does forwarding feel it when the tables change?
//!
//! One worker forwards, packets arriving at a fixed rate into a ring of 1,024
//! descriptors, as a NIC would have it: what arrives while the ring is full is
//! lost. Another core changes the tables at 100,000 entries a second. CSIT's
//! effective blocked time is what was lost, divided by the rate; beside it the
//! time of a burst, with and without changes.
//!
//! The peer in the same run is the same gateway with a reader-writer lock about
//! its tables instead of versions: `rwlock`.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use arrayvec::ArrayVec;
use clap::Args;
use hdrhistogram::Histogram;
use kedge_dataplane::hold::{Bounds, Overflow};
use kedge_dataplane::pipeline::{BURST, Output};
use kedge_dataplane::snapshot::{Snapshot, Subscriber};
use parking_lot::RwLock;

use crate::fib::shapes::Random;
use crate::gateway::{self, Case, Gateway, Kind};
use crate::memory::Pool;
use crate::pipeline::Packets;
use crate::report;
use crate::rows::Rows;

/// Descriptors of the ring.
const RING: u64 = 1024;
/// Entries changed in one transaction.
const TRANSACTION: usize = 64;

/// What the worker may hold.
const HELD: Bounds = Bounds {
    packets: 2048,
    packets_per_prefix: 1024,
    octets_per_prefix: 1 << 20,
    age: u64::MAX,
    overflow: Overflow::DropNewest,
    cycles_per_release: 1000,
};

/// Options of `kedge-perf updates`.
#[derive(Args)]
pub(crate) struct Options {
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Rounds; in each, every case has one turn.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Entries to change in a second.
    #[arg(long, default_value_t = 100_000)]
    changes: u64,
    /// Prefixes installed.
    #[arg(long, default_value_t = 1_000_000)]
    prefixes: usize,
    /// 100,000 prefixes, one second, two rounds.
    #[arg(long)]
    quick: bool,
    /// Where to write the rows.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// What a worker saw.
struct Seen {
    offered: u64,
    lost: u64,
    /// Of each burst, nanoseconds.
    bursts: Histogram<u64>,
    changes: u64,
    seconds: f64,
}

/// Where a worker's snapshots come from.
enum Source<'a> {
    Published(Subscriber),
    Locked(&'a RwLock<Snapshot>),
}

const CASES: [(&str, Option<Kind>); 7] = [
    ("quiet", None),
    ("prefixes", Some(Kind::Prefixes)),
    ("tunnels", Some(Kind::Tunnels)),
    ("neighbours", Some(Kind::Neighbours)),
    ("filters", Some(Kind::Filters)),
    ("holds", Some(Kind::Holds)),
    ("all of them", Some(Kind::All)),
];

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    ensure!(
        options.seconds > 0 && options.rounds > 0 && options.changes > 0 && options.prefixes > 0,
        "--seconds, --rounds, --changes and --prefixes must be at least 1"
    );
    ensure!(
        core_affinity::get_core_ids().is_some_and(|cores| cores.len() > 1),
        "two cores are needed: one that forwards, one that changes tables"
    );
    let load = report::line_of("/proc/loadavg");
    let (prefixes, seconds, rounds) = if options.quick {
        (options.prefixes.min(100_000), 1, options.rounds.min(2))
    } else {
        (options.prefixes, options.seconds, options.rounds)
    };
    eprintln!("{prefixes} prefixes are put");
    let mut gateway = Gateway::new(Case::Encapsulate, prefixes, 1)?;
    gateway.put_link()?;
    let packets = Packets::new(&gateway);
    let capacity = capacity(&gateway, &packets);
    eprintln!("the worker can do {:.2} Mpps", capacity / 1e6);
    let mut rows = Rows::default();
    rows.add(
        "updates",
        "as fast as it can",
        "kedge",
        prefixes,
        "rate",
        "Mpps",
        &[capacity / 1e6],
    );
    for share in [0.5, 0.9] {
        let mut table: Vec<(&str, &str, Vec<Seen>)> = Vec::new();
        for round in 1..=rounds {
            for subject in ["kedge", "rwlock"] {
                for (name, kind) in CASES {
                    eprintln!(
                        "{:.0} % of the rate, round {round}/{rounds}: {subject}, {name}",
                        share * 100.0
                    );
                    let seen = turn(
                        &mut gateway,
                        &packets,
                        capacity * share,
                        subject,
                        kind,
                        options.changes,
                        seconds,
                    )?;
                    match table.iter_mut().find(|row| (row.0, row.1) == (subject, name)) {
                        Some(row) => row.2.push(seen),
                        None => table.push((subject, name, vec![seen])),
                    }
                }
            }
        }
        rows_of(&table, share, prefixes, &mut rows);
    }
    gateway::finish(&rows, options.json.as_deref(), &load)
}

fn rows_of(table: &[(&str, &str, Vec<Seen>)], share: f64, prefixes: usize, rows: &mut Rows) {
    for (subject, name, seen) in table {
        let case = format!("{name}, at {:.0} %", share * 100.0);
        let mut add = |metric: &str, unit: &str, of: &dyn Fn(&Seen) -> f64| {
            let samples: Vec<f64> = seen.iter().map(of).collect();
            rows.add("updates", &case, subject, prefixes, metric, unit, &samples);
        };
        add("changes", "1/s", &|it| it.changes as f64 / it.seconds);
        add("offered", "Mpps", &|it| it.offered as f64 / it.seconds / 1e6);
        add("lost", "packets", &|it| it.lost as f64);
        add("blocked", "us/s", &|it| {
            it.lost as f64 / it.offered.max(1) as f64 * 1e6
        });
        for (metric, quantile) in [("burst p50", 0.5), ("burst p99", 0.99), ("burst p99.9", 0.999)] {
            add(metric, "us", &|it| {
                it.bursts.value_at_quantile(quantile) as f64 / 1000.0
            });
        }
        if let Some((_, _, quiet)) = table.iter().find(|row| (row.0, row.1) == (*subject, "quiet")) {
            // Within a round, so that a noisy minute is noisy for both.
            let p = |it: &Seen| it.bursts.value_at_quantile(0.999).max(1) as f64;
            let ratios: Vec<f64> = seen
                .iter()
                .zip(quiet)
                .map(|(it, quiet)| p(it) / p(quiet))
                .collect();
            rows.add(
                "updates",
                &case,
                subject,
                prefixes,
                "burst p99.9 to quiet",
                "ratio",
                &ratios,
            );
        }
    }
}

/// Packets per second of one worker with nothing else to do.
fn capacity(gateway: &Gateway, packets: &Packets) -> f64 {
    pin(1);
    let snapshot = gateway.compiler.snapshot();
    let mut pool = Pool::new(2 * BURST);
    let mut pipeline = gateway::pipeline(0);
    let (mut burst, mut output) = (ArrayVec::new(), Output::default());
    let (start, mut count, mut at) = (Instant::now(), 0usize, 0);
    while start.elapsed() < Duration::from_secs(1) {
        for _ in 0..64 {
            pool.receive(packets.burst(at), &mut burst);
            at += 1;
            pipeline.process(&snapshot, gateway::CORE, dpdk::cycles(), &mut burst, &mut output);
            count += pool.sent(&mut output);
            pool.refill(2 * BURST);
        }
    }
    count as f64 / start.elapsed().as_secs_f64()
}

fn turn(
    gateway: &mut Gateway,
    packets: &Packets,
    rate: f64,
    subject: &str,
    kind: Option<Kind>,
    changes_per_second: u64,
    seconds: u64,
) -> anyhow::Result<Seen> {
    let mut publisher = gateway.publisher();
    let lock = RwLock::new(gateway.compiler.snapshot());
    let source = if subject == "kedge" { None } else { Some(&lock) };
    let factory = publisher.factory();
    let stop = AtomicBool::new(false);
    let mut changes = 0;
    let seen = std::thread::scope(|scope| -> anyhow::Result<Seen> {
        let worker = scope.spawn(|| {
            pin(1);
            let source = source.map_or_else(|| Source::Published(factory.subscribe()), Source::Locked);
            forward(source, packets, rate, &stop)
        });
        pin(0);
        let mut random = Random::new(21);
        let start = Instant::now();
        let outcome = (|| -> anyhow::Result<()> {
            while start.elapsed() < Duration::from_secs(seconds) {
                let due = start.elapsed().as_secs_f64() * changes_per_second as f64;
                let Some(kind) = kind.filter(|_| (changes as f64) < due) else {
                    std::thread::sleep(Duration::from_micros(50));
                    continue;
                };
                let transaction = gateway.changes(kind, TRANSACTION, &mut random);
                changes += transaction.entries() as u64;
                let mut guard = source.map(RwLock::write);
                let snapshot = gateway.compiler.apply(&transaction)?;
                match &mut guard {
                    Some(guard) => **guard = snapshot,
                    None => publisher.publish(snapshot),
                }
            }
            Ok(())
        })();
        stop.store(true, Ordering::Relaxed);
        let seen = worker
            .join()
            .map_err(|_| anyhow::anyhow!("the worker has failed"))?;
        outcome.and(seen)
    })?;
    Ok(Seen { changes, ..seen })
}

/// A worker whose packets arrive at `rate` a second.
fn forward(mut source: Source<'_>, packets: &Packets, rate: f64, stop: &AtomicBool) -> anyhow::Result<Seen> {
    let mut pool = Pool::new(2 * BURST);
    let mut pipeline = gateway::pipeline(0);
    let (mut burst, mut output) = (ArrayVec::new(), Output::holding(HELD, Bounds::default()));
    let mut seen = Seen {
        offered: 0,
        lost: 0,
        bursts: Histogram::new(3)?,
        changes: 0,
        seconds: 0.0,
    };
    let (mut taken, mut at) = (0u64, 0);
    let start = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let now = start.elapsed();
        let arrived = (now.as_secs_f64() * rate) as u64;
        let mut waiting = arrived - taken - seen.lost;
        if waiting > RING {
            seen.lost += waiting - RING;
            waiting = RING;
        }
        if waiting == 0 {
            std::hint::spin_loop();
            continue;
        }
        let count = waiting.min(BURST as u64);
        pool.receive(packets.burst(at).take(count as usize), &mut burst);
        at += 1;
        match &mut source {
            Source::Published(subscriber) => {
                let reading = subscriber.read();
                let cycles = dpdk::cycles();
                pipeline.process(&reading, gateway::CORE, cycles, &mut burst, &mut output);
                if output.holds() {
                    pool.sent(&mut output);
                    pipeline.tend(&reading, cycles, &mut output);
                }
            }
            Source::Locked(lock) => {
                let reading = lock.read();
                let cycles = dpdk::cycles();
                pipeline.process(&reading, gateway::CORE, cycles, &mut burst, &mut output);
                if output.holds() {
                    pool.sent(&mut output);
                    pipeline.tend(&reading, cycles, &mut output);
                }
            }
        }
        pool.sent(&mut output);
        pool.refill(2 * BURST);
        taken += count;
        // Full ones only, so that they can be compared.
        if count == BURST as u64 {
            seen.bursts.record((start.elapsed() - now).as_nanos() as u64)?;
        }
        seen.offered = arrived;
        seen.seconds = now.as_secs_f64();
    }
    Ok(seen)
}

/// Where cores are few, the thread that matters has one to itself.
pub(crate) fn pin(core: usize) {
    // Unpinned it runs as well, only less evenly.
    let _ = core_affinity::set_for_current(core_affinity::CoreId { id: core });
}
