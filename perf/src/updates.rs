//! `kedge-perf updates`: does forwarding feel it when the tables change?
//!
//! One worker forwards, packets arriving at a fixed rate into a ring of 1,024
//! descriptors (`--ring`), as a NIC would have it: what arrives while the ring is
//! full is lost. Another core changes the tables at 100,000 entries a second. CSIT's
//! effective blocked time is what was lost, divided by the rate; beside it the
//! time of a burst, with and without changes. The rate is a part of what the
//! gateway forwards without loss when nothing changes, which is searched first:
//! so what is lost while tables change is lost for the changes, or for the
//! machine, and what is lost in the same rounds without them says which.
//!
//! The peer in the same run is the same gateway with a reader-writer lock about
//! its tables instead of versions: `rwlock`.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use arrayvec::ArrayVec;
use clap::Args;
use hdrhistogram::Histogram;
use kedge_dataplane::hold::{Bounds, Overflow};
use kedge_dataplane::pipeline::{BURST, Output, Pipeline};
use kedge_dataplane::snapshot::{Snapshot, Subscriber};
use parking_lot::RwLock;

use crate::fib::shapes::Random;
use crate::forward::{Search, Settings, Trial};
use crate::gateway::{self, Case, Gateway, Kind, Way};
use crate::memory::{MemoryFrame, Pool};
use crate::pipeline::Packets;
use crate::rows::Rows;
use crate::{processes, report};

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
    #[arg(long, default_value_t = 0.5)]
    seconds: f64,
    /// Rounds; in each, every case has one turn.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Entries to change in a second.
    #[arg(long, default_value_t = 100_000)]
    changes: u64,
    /// The rate that is offered, as a part of what the quiet gateway forwards without loss, percent.
    #[arg(long, default_value_t = 80, value_name = "PERCENT")]
    load: u32,
    /// Descriptors of the ring that packets arrive in.
    #[arg(long, default_value_t = 1024, value_name = "COUNT")]
    ring: u64,
    /// Prefixes installed.
    #[arg(long, default_value_t = 1_000_000)]
    prefixes: usize,
    /// 100,000 prefixes, one round.
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
    /// For how long the worker wanted its processor and had none, as far as the kernel knows.
    waited: Duration,
    /// How often the kernel had to find memory for what it touched.
    faults: u64,
}

/// Where a worker's snapshots come from.
enum Source<'a> {
    Published(Subscriber),
    Locked(&'a RwLock<Snapshot>),
}

impl Source<'_> {
    /// Has a burst processed by the tables of now.
    #[inline(always)]
    fn process(
        &mut self,
        pipeline: &mut Pipeline,
        pool: &mut Pool,
        burst: &mut ArrayVec<MemoryFrame, BURST>,
        output: &mut Output<MemoryFrame>,
    ) {
        let mut work = |snapshot: &Snapshot| {
            let cycles = dpdk::cycles();
            pipeline.process(snapshot, gateway::CORE, cycles, burst, output);
            if output.holds() {
                pool.sent(output);
                pipeline.tend(snapshot, cycles, output);
            }
        };
        match self {
            Self::Published(subscriber) => work(&subscriber.read()),
            Self::Locked(lock) => work(&lock.read()),
        }
    }
}

/// What changes, and how; nothing in the quiet case.
type Changing = Option<(Kind, Way)>;

const CASES: [Changing; 10] = [
    None,
    Some((Kind::Prefixes, Way::PutAgain)),
    Some((Kind::Prefixes, Way::ComeAndGo)),
    Some((Kind::Tunnels, Way::ComeAndGo)),
    Some((Kind::Neighbours, Way::PutAgain)),
    Some((Kind::Filters, Way::PutAgain)),
    Some((Kind::Filters, Way::ComeAndGo)),
    Some((Kind::Holds, Way::ComeAndGo)),
    Some((Kind::All, Way::PutAgain)),
    Some((Kind::All, Way::ComeAndGo)),
];

/// In the rows.
const QUIET: &str = "quiet";
const KEDGE: &str = "kedge";
const SUBJECTS: [&str; 2] = [KEDGE, "rwlock"];
const BLOCKED: &str = "blocked";
const QUIET_BLOCKED: &str = "quiet blocked";
const TO_QUIET: &str = "burst p99.9 to quiet";

/// How the rate without loss is searched.
const SEARCH: Settings = Settings {
    precision: 0.02,
    trials: 3,
};
/// Seconds of a trial, and of those that confirm what was found.
const TRIAL: f64 = 0.1;
const LONGER: f64 = 0.5;
/// A measurement in which the worker waited longer for its processor says more about who else was on the machine. Whether
/// anything was lost does not count.
const DISTURBANCE: Duration = Duration::from_micros(50);
/// How often such a measurement is had at most; what is had then is the least disturbed.
const ATTEMPTS: usize = 4;
/// For how long a worker processes packets before those that count.
const WARM_UP: Duration = Duration::from_millis(20);
/// How long who changes tables sleeps while nothing is due; the kernel makes some more of it.
const NAP: Duration = Duration::from_micros(20);
/// How often the rate is lowered that loses something in longer trials.
const LOWERED: usize = 8;

fn name(changing: Changing) -> String {
    changing.map_or_else(
        || QUIET.to_owned(),
        |(kind, way)| format!("{} {}", kind.name(), way.name()),
    )
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    ensure!(
        options.seconds > 0.0 && options.seconds <= 3600.0,
        "--seconds {}: above 0 and at most 3600 is needed",
        options.seconds
    );
    ensure!(
        options.rounds > 0 && options.changes > 0 && options.prefixes > 0,
        "--rounds, --changes and --prefixes must be at least 1"
    );
    ensure!(
        (1..=100).contains(&options.load),
        "--load {}: 1 to 100 is needed",
        options.load
    );
    ensure!(
        (BURST as u64..=32_768).contains(&options.ring),
        "--ring {}: {BURST} to 32768 descriptors can be had",
        options.ring
    );
    ensure!(
        core_affinity::get_core_ids().is_some_and(|cores| cores.len() > 1),
        "two cores are needed: one that forwards, one that changes tables"
    );
    report::check_writable(options.json.as_deref())?;
    let load = report::line_of("/proc/loadavg");
    let (prefixes, seconds, rounds) = if options.quick {
        (options.prefixes.min(100_000), options.seconds.min(1.0), 1)
    } else {
        (options.prefixes, options.seconds, options.rounds)
    };
    eprintln!("{prefixes} prefixes are put");
    let mut gateway = Gateway::new(Case::Encapsulate, prefixes, 1)?;
    // Before anything is measured, so that all cases find the same tables.
    gateway.ready()?;
    let packets = Packets::new(&gateway);
    let mut bench = Bench {
        gateway,
        packets,
        changes_per_second: options.changes,
        ring: options.ring,
        rows: Rows::default(),
    };
    let rate = bench.rate(f64::from(options.load) / 100.0, seconds)?;
    let mut table: Vec<Line> = Vec::new();
    for round in 1..=rounds {
        for subject in SUBJECTS {
            // Each is first, last and in between in turn.
            let order = (0..CASES.len()).filter_map(|at| CASES.get((at + round) % CASES.len()).copied());
            for changing in order {
                report::progress(&format!("round {round}/{rounds}: {subject}, {}", name(changing)));
                // Who waits for a lock waits for the processor too.
                let seen = match subject {
                    KEDGE => bench.undisturbed(rate, changing, seconds)?,
                    _ => bench.turn(rate, subject, changing, seconds)?,
                };
                let line = |it: &&mut Line| (it.subject, it.changing) == (subject, changing);
                match table.iter_mut().find(line) {
                    Some(line) => line.seen.push(seen),
                    None => table.push(Line {
                        subject,
                        changing,
                        seen: vec![seen],
                    }),
                }
            }
        }
    }
    report::progress("");
    rows_of(&table, prefixes, &mut bench.rows);
    report::print(&summary(&table, &bench.rows, prefixes))?;
    gateway::finish(&bench.rows, options.json.as_deref(), &load)
}

/// One case of one subject, over all rounds.
struct Line {
    subject: &'static str,
    changing: Changing,
    seen: Vec<Seen>,
}

impl Line {
    /// That of the same subject in which nothing changes.
    fn quiet<'a>(&self, table: &'a [Self]) -> Option<&'a Self> {
        table
            .iter()
            .find(|it| it.subject == self.subject && it.changing.is_none())
    }
}

fn rows_of(table: &[Line], prefixes: usize, rows: &mut Rows) {
    for line in table {
        let case = name(line.changing);
        let mut add = |metric: &str, unit: &str, samples: &[f64]| {
            rows.add("updates", &case, line.subject, prefixes, metric, unit, samples);
        };
        let of = |of: &dyn Fn(&Seen) -> f64| line.seen.iter().map(of).collect::<Vec<f64>>();
        add("changes", "1/s", &of(&|it| it.changes as f64 / it.seconds));
        add("offered", "Mpps", &of(&|it| it.offered as f64 / it.seconds / 1e6));
        add("lost", "packets", &of(&|it| it.lost as f64));
        add(BLOCKED, "us/s", &of(&Seen::blocked));
        let waited = |it: &Seen| it.waited.as_secs_f64() * 1e6 / it.seconds.max(1e-9);
        add("waited for a processor", "us/s", &of(&waited));
        add(
            "page faults",
            "1/s",
            &of(&|it| it.faults as f64 / it.seconds.max(1e-9)),
        );
        for (metric, quantile) in [("burst p50", 0.5), ("burst p99", 0.99), ("burst p99.9", 0.999)] {
            add(metric, "us", &of(&|it| it.burst(quantile)));
        }
        let Some(quiet) = line.quiet(table) else {
            continue;
        };
        // Of the same rounds, so that a noisy minute is noisy for both.
        let blocked: Vec<f64> = quiet.seen.iter().map(Seen::blocked).collect();
        add(QUIET_BLOCKED, "us/s", &blocked);
        let pairs = line.seen.iter().zip(&quiet.seen);
        let ratios: Vec<f64> = pairs
            .map(|(it, quiet)| it.burst(0.999) / quiet.burst(0.999))
            .collect();
        add(TO_QUIET, "ratio", &ratios);
    }
}

/// For people: what changes cost, beside no changes.
fn summary(table: &[Line], rows: &Rows, prefixes: usize) -> String {
    let mut text = format!(
        "{:<28} {:<8} {:>14} {:>14} {:>16}   medians, us/s\n",
        "changing", "subject", "blocked, quiet", "changing", "p99.9 to quiet"
    );
    for line in table {
        let case = name(line.changing);
        let of = |metric| {
            rows.median(&case, line.subject, prefixes, metric)
                .unwrap_or(f64::NAN)
        };
        text += &format!(
            "{case:<28} {:<8} {:>14.1} {:>14.1} {:>16.2}\n",
            line.subject,
            of(QUIET_BLOCKED),
            of(BLOCKED),
            of(TO_QUIET)
        );
    }
    text
}

impl Seen {
    /// Effective blocked time, microseconds for each second.
    fn blocked(&self) -> f64 {
        self.lost as f64 / self.offered.max(1) as f64 * 1e6
    }

    /// Of the bursts' times, microseconds.
    fn burst(&self, quantile: f64) -> f64 {
        self.bursts.value_at_quantile(quantile).max(1) as f64 / 1000.0
    }
}

/// A gateway, and what it has to forward.
struct Bench {
    gateway: Gateway,
    packets: Packets,
    changes_per_second: u64,
    ring: u64,
    rows: Rows,
}

impl Bench {
    /// The rate to offer: this share of what the quiet gateway forwards without loss; less where that loses something
    /// in trials as long as the measurements.
    fn rate(&mut self, share: f64, seconds: f64) -> anyhow::Result<f64> {
        let capacity = capacity(&self.gateway, &self.packets);
        report::settle(&format!("the worker can do {:.2} Mpps", capacity / 1e6));
        let found = {
            let mut search = Search::new(SEARCH, capacity * 1.5, capacity * 0.8, |rate| {
                let seen = self.undisturbed(rate, None, TRIAL.min(seconds))?;
                let loss = seen.lost as f64 / seen.offered.max(1) as f64;
                report::progress(&format!("{:.2} Mpps: {} lost", rate / 1e6, seen.lost));
                Ok(Trial {
                    offered: seen.offered as f64 / seen.seconds.max(1e-9),
                    loss,
                    starved: false,
                })
            });
            search.find(0.0)?
        };
        ensure!(
            found.rate > 0.0,
            "the quiet gateway loses packets at any rate: this machine is too busy"
        );
        report::settle(&format!(
            "without loss the quiet gateway does {:.2} Mpps",
            found.rate / 1e6
        ));
        let mut rate = found.rate * share;
        for _ in 0..LOWERED {
            let mut clean = 0;
            for _ in 0..SEARCH.trials {
                clean += usize::from(self.undisturbed(rate, None, LONGER.min(seconds))?.lost == 0);
            }
            if clean > SEARCH.trials / 2 {
                break;
            }
            rate *= 0.9;
            report::settle(&format!("it loses some in longer trials: {:.2} Mpps", rate / 1e6));
        }
        let prefixes = self.gateway.prefixes.len();
        for (metric, rate) in [
            ("most", capacity),
            ("without loss", found.rate),
            ("offered to all", rate),
        ] {
            self.rows
                .add("updates", "rates", KEDGE, prefixes, metric, "Mpps", &[rate / 1e6]);
        }
        Ok(rate)
    }

    /// Kedge for so many seconds; again, if others had the worker's processor meanwhile.
    fn undisturbed(&mut self, rate: f64, changing: Changing, seconds: f64) -> anyhow::Result<Seen> {
        let mut least: Option<Seen> = None;
        for _ in 0..ATTEMPTS {
            let seen = self.turn(rate, KEDGE, changing, seconds)?;
            if least.as_ref().is_none_or(|it| seen.waited < it.waited) {
                least = Some(seen);
            }
            if least.as_ref().is_some_and(|it| it.waited <= DISTURBANCE) {
                break;
            }
        }
        least.context("nothing was measured")
    }

    /// One case for so many seconds; prefixes are as they were afterwards.
    fn turn(&mut self, rate: f64, subject: &str, changing: Changing, seconds: f64) -> anyhow::Result<Seen> {
        let Self {
            gateway,
            packets,
            changes_per_second,
            ring,
            ..
        } = self;
        let arriving = (rate, *ring);
        let mut publisher = gateway.publisher();
        let lock = RwLock::new(gateway.compiler.snapshot());
        let source = if subject == KEDGE { None } else { Some(&lock) };
        let factory = publisher.factory();
        let (stop, is_warm) = (AtomicBool::new(false), AtomicBool::new(false));
        let mut changes = 0;
        let seen = std::thread::scope(|scope| -> anyhow::Result<Seen> {
            let worker = scope.spawn(|| {
                pin(1);
                let source = source.map_or_else(|| Source::Published(factory.subscribe()), Source::Locked);
                forward(source, packets, arriving, &is_warm, &stop)
            });
            pin(0);
            let mut random = Random::new(21);
            while !is_warm.load(Ordering::Relaxed) && !worker.is_finished() {
                std::thread::sleep(NAP);
            }
            let start = Instant::now();
            let outcome = (|| -> anyhow::Result<()> {
                while start.elapsed().as_secs_f64() < seconds {
                    let due = start.elapsed().as_secs_f64() * *changes_per_second as f64;
                    let Some((kind, way)) = changing.filter(|_| (changes as f64) < due) else {
                        // As a control thread waits. It is never away for long, or the other core would have more of what they
                        // share; and what else the machine has to do finds room here, not where packets are forwarded.
                        std::thread::sleep(NAP);
                        continue;
                    };
                    let transaction = gateway.changes(kind, way, TRANSACTION, &mut random)?;
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
        gateway.settle()?;
        Ok(Seen { changes, ..seen })
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

/// A worker whose packets arrive at `rate` a second, in a ring of so many, from when `is_warm` says so until `stop` does.
fn forward(
    mut source: Source<'_>,
    packets: &Packets,
    (rate, ring): (f64, u64),
    is_warm: &AtomicBool,
    stop: &AtomicBool,
) -> anyhow::Result<Seen> {
    let mut pool = Pool::new(2 * BURST);
    let mut pipeline = gateway::pipeline(0);
    let (mut burst, mut output) = (ArrayVec::new(), Output::holding(HELD, Bounds::default()));
    let mut seen = Seen {
        offered: 0,
        lost: 0,
        bursts: histogram()?,
        changes: 0,
        seconds: 0.0,
        waited: Duration::ZERO,
        faults: 0,
    };
    let (mut taken, mut at) = (0u64, 0);
    // A gateway that packets arrive at has run for a while: its memory is there, and what it does for each packet is known to the processor.
    let begin = Instant::now();
    while begin.elapsed() < WARM_UP {
        pool.receive(packets.burst(at), &mut burst);
        at += 1;
        source.process(&mut pipeline, &mut pool, &mut burst, &mut output);
        pool.sent(&mut output);
        pool.refill(2 * BURST);
    }
    let (waited, faults) = (processes::waited(), processes::faults());
    is_warm.store(true, Ordering::Relaxed);
    let start = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let now = start.elapsed();
        let arrived = (now.as_secs_f64() * rate) as u64;
        let mut waiting = arrived - taken - seen.lost;
        if waiting > ring {
            seen.lost += waiting - ring;
            waiting = ring;
        }
        if waiting == 0 {
            std::hint::spin_loop();
            continue;
        }
        let count = waiting.min(BURST as u64);
        pool.receive(packets.burst(at).take(count as usize), &mut burst);
        at += 1;
        source.process(&mut pipeline, &mut pool, &mut burst, &mut output);
        pool.sent(&mut output);
        pool.refill(2 * BURST);
        taken += count;
        // Full ones only, so that they can be compared.
        if count == BURST as u64 {
            seen.bursts
                .saturating_record((start.elapsed() - now).as_nanos() as u64);
        }
        seen.offered = arrived;
        seen.seconds = now.as_secs_f64();
    }
    seen.waited = processes::waited().saturating_sub(waited);
    seen.faults = processes::faults().saturating_sub(faults);
    Ok(seen)
}

/// For times of bursts, nanoseconds, up to ten seconds. All of its memory is there, so that recording one takes no time of the next.
fn histogram() -> anyhow::Result<Histogram<u64>> {
    let mut bursts = Histogram::new_with_bounds(1, 10_000_000_000, 3)?;
    bursts.clear();
    Ok(bursts)
}

/// Where cores are few, the thread that matters has one to itself.
pub(crate) fn pin(core: usize) {
    // Unpinned it runs as well, only less evenly.
    let _ = core_affinity::set_for_current(core_affinity::CoreId { id: core });
}
