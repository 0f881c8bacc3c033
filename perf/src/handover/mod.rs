//! `kedge-perf handover`: what a receiver feels when a prefix moves to another anchor.
//!
//! A real gateway forwards packets to many prefixes at a steady rate, each numbered and stamped; then their way is
//! switched by the contract, as the control plane does it, and what comes back says what a receiver feels:
//!
//! ```text
//!  hold       tunnel A ─► hold, the node has left ─► (gap) ─► tunnel B: what was held goes first, paced
//!  path end   by tunnel A, a longer way ─► the route moves: packets come directly, and wait until the
//!             path end says that the longer way has brought its last
//! ```
//!
//! Beside it the same switch with nothing held: what comes meanwhile is lost, and counted.

mod scene;

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use clap::Args;
use hdrhistogram::Histogram;

use crate::forward::Bed;
use crate::frames::MOST_PREFIXES;
use crate::generator::Felt;
use crate::latency::hgrm;
use crate::report::{self, progress, settle};
use crate::rows::Rows;
use scene::{BUFFER, MOST_HELD, Scene};

/// Packets that come out together whatever the pace is: of so few there is no rate.
const FEW: u64 = 1000;
/// In the rows.
const BENCH: &str = "handover";
/// Seconds. A switch in which the generator was away for longer says more about who else was on the machine: what
/// the ring does not hold meanwhile is lost.
const DISTURBANCE: f64 = 0.0005;
const QUANTILES: [(&str, f64); 5] = [
    ("p50", 0.5),
    ("p90", 0.9),
    ("p99", 0.99),
    ("p99.9", 0.999),
    ("max", 1.0),
];

/// Options of `kedge-perf handover`.
#[derive(Args)]
pub(crate) struct Options {
    /// Switches of each kind; the gateways take turns.
    #[arg(long, default_value_t = 20, value_name = "COUNT")]
    switches: usize,
    /// Prefixes that move at once, several with commas.
    #[arg(long, default_value = "1,1000", value_delimiter = ',', value_name = "COUNT")]
    prefixes: Vec<usize>,
    /// Packets a second, to all prefixes together.
    #[arg(long, default_value_t = 100_000.0)]
    rate: f64,
    /// Milliseconds for which there is no way, or by which the old way is longer; several with commas.
    #[arg(long, default_value = "20,50", value_delimiter = ',', value_name = "MS")]
    gaps: Vec<u32>,
    #[command(flatten)]
    bed: Bed,
    /// Two switches of each kind: half a minute, and coarse.
    #[arg(long)]
    quick: bool,
    /// Where to write the rows; the histograms (.hgrm) are put beside them.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// How the way is switched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// There is none for a while.
    Hold,
    /// There are two for a while, and the old one is the longer.
    PathEnd,
}

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    /// As it is.
    Kedge,
    /// With nothing held.
    WithoutHold,
}

impl Kind {
    const ALL: [Self; 2] = [Self::Hold, Self::PathEnd];

    fn name(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::PathEnd => "path end",
        }
    }
}

impl Subject {
    const ALL: [Self; 2] = [Self::Kedge, Self::WithoutHold];

    fn name(self) -> &'static str {
        match self {
            Self::Kedge => "kedge",
            Self::WithoutHold => "kedge-without-hold",
        }
    }
}

/// What of a switch is in a row.
type Value = fn(&Sample) -> f64;

/// One switch.
struct Sample {
    felt: Felt,
    /// How long it took by the contract: from one transaction's answer to the next one's, seconds.
    gap: f64,
    /// Packets that the gateway says it has dropped.
    dropped: u64,
}

/// All switches of one kind at one gateway.
struct Measurement {
    kind: Kind,
    gap: u32,
    subject: Subject,
    prefixes: usize,
    silences: Histogram<u64>,
    delays: Histogram<u64>,
    samples: Vec<Sample>,
    /// Of each switch, in milliseconds.
    silence: Vec<[f64; QUANTILES.len()]>,
    delay: Vec<[f64; QUANTILES.len()]>,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let bed = &options.bed;
    let (switches, attempts) = if options.quick {
        (2, bed.attempts().min(2))
    } else {
        (options.switches, bed.attempts())
    };
    check(options, switches)?;
    bed.check()?;
    report::check_writable(options.json.as_deref())?;
    let load_average_before = report::line_of("/proc/loadavg");
    let mut measurements = Vec::new();
    for prefixes in &options.prefixes {
        for gap in &options.gaps {
            for kind in Kind::ALL {
                for subject in Subject::ALL {
                    measurements.push(Measurement::new(kind, *gap, subject, *prefixes)?);
                }
            }
        }
    }
    let mut lines = Vec::new();
    // A third of the switches, or one, in each turn: a noisy minute is noisy for both. To start takes a moment, too.
    let together = if options.quick {
        switches
    } else {
        switches.div_ceil(3)
    };
    let turns = switches.div_ceil(together);
    for turn in 0..turns {
        let count = together.min(switches - turn * together);
        for prefixes in &options.prefixes {
            for subject in Subject::ALL {
                let name = format!("turn {}/{turns}, {} {prefixes}", turn + 1, subject.name());
                progress(&name);
                let mut scene = Scene::start(bed, subject, *prefixes)?;
                lines.push((subject, *prefixes, scene.line_rate()?));
                let its = |it: &&mut Measurement| it.subject == subject && it.prefixes == *prefixes;
                for measurement in measurements.iter_mut().filter(its) {
                    for number in 0..count {
                        progress(&format!(
                            "{name}: {}, switch {}/{count}",
                            measurement.case(),
                            number + 1
                        ));
                        measurement.add(switch(&mut scene, measurement, options.rate, attempts)?)?;
                    }
                    measurement.settle(&name);
                }
            }
        }
    }
    let mut rows = Rows::default();
    for measurement in &measurements {
        measurement.rows(&lines, &mut rows);
    }
    report::print(&rows.table())?;
    if let Some(path) = &options.json {
        rows.write(path, &load_average_before)?;
        for measurement in &measurements {
            measurement.write(path)?;
        }
    }
    Ok(())
}

/// One switch; again, if others had the generator's processor meanwhile. If they always have, the one that they
/// disturbed least is as good as it gets.
fn switch(scene: &mut Scene, of: &Measurement, rate: f64, attempts: usize) -> anyhow::Result<Sample> {
    let mut best: Option<Sample> = None;
    for _ in 0..attempts {
        let sample = match of.kind {
            Kind::Hold => scene.hold(rate, of.gap)?,
            Kind::PathEnd => scene.path_end(rate, of.gap)?,
        };
        let absence = sample.felt.longest_absence;
        if best.as_ref().is_none_or(|it| absence < it.felt.longest_absence) {
            best = Some(sample);
        }
        if absence < DISTURBANCE {
            break;
        }
    }
    best.context("no switch")
}

fn check(options: &Options, switches: usize) -> anyhow::Result<()> {
    ensure!(switches > 0, "--switches 0: at least 1 is needed");
    let wrong = options
        .prefixes
        .iter()
        .find(|count| !(1..=MOST_PREFIXES.min(100_000)).contains(*count));
    ensure!(
        wrong.is_none(),
        "--prefixes {}: 1 to 100000 can be moved at once",
        wrong.copied().unwrap_or_default()
    );
    ensure!(
        (1.0..=10e6).contains(&options.rate),
        "--rate {}: 1 to 10000000 is needed",
        options.rate
    );
    let wrong = options.gaps.iter().find(|gap| !(1..=1000).contains(*gap));
    ensure!(
        wrong.is_none(),
        "--gaps {}: 1 to 1000 ms are needed",
        wrong.copied().unwrap_or_default()
    );
    for gap in &options.gaps {
        let held = options.rate * f64::from(*gap) / 1e3;
        ensure!(
            held <= f64::from(MOST_HELD) / 2.0,
            "--rate {} for --gaps {gap} ms: {held:.0} packets would wait, at most {} can be had",
            options.rate,
            MOST_HELD / 2
        );
    }
    Ok(())
}

impl Measurement {
    fn new(kind: Kind, gap: u32, subject: Subject, prefixes: usize) -> anyhow::Result<Self> {
        Ok(Self {
            kind,
            gap,
            subject,
            prefixes,
            silences: Histogram::new(3)?,
            delays: Histogram::new(3)?,
            samples: Vec::new(),
            silence: Vec::new(),
            delay: Vec::new(),
        })
    }

    fn case(&self) -> String {
        format!("{} {} ms", self.kind.name(), self.gap)
    }

    fn add(&mut self, sample: Sample) -> anyhow::Result<()> {
        for (all, values, quantiles) in [
            (&mut self.silences, &sample.felt.silences, &mut self.silence),
            (&mut self.delays, &sample.felt.delays, &mut self.delay),
        ] {
            let mut one = Histogram::<u64>::new(3)?;
            for (value, count) in values {
                one.record_n(*value, *count)?;
            }
            all.add(&one)?;
            if !one.is_empty() {
                quantiles.push(QUANTILES.map(|(_, quantile)| one.value_at_quantile(quantile) as f64 / 1e6));
            }
        }
        self.samples.push(sample);
        Ok(())
    }

    fn settle(&self, name: &str) {
        let sum = |of: fn(&Sample) -> u64| self.samples.iter().map(of).sum::<u64>();
        settle(&format!(
            "{name}: {}: {} switches, lost {} (dropped by name {}, refused {}) of {}, reordered {}, duplicated {}, \
             silence p50 {:.1} ms, at most {:.1} ms",
            self.case(),
            self.samples.len(),
            sum(Sample::lost),
            sum(|it| it.dropped),
            sum(|it| it.felt.refused),
            sum(|it| it.felt.offered),
            sum(|it| it.felt.reordered),
            sum(|it| it.felt.duplicated),
            self.silences.value_at_quantile(0.5) as f64 / 1e6,
            self.silences.max() as f64 / 1e6,
        ));
    }

    fn rows(&self, lines: &[(Subject, usize, f64)], rows: &mut Rows) {
        let (case, subject) = (self.case(), self.subject.name());
        let mut add = |case: &str, metric: &str, unit: &str, samples: &[f64]| {
            rows.add(BENCH, case, subject, self.prefixes, metric, unit, samples);
        };
        for (what, values) in [("silence", &self.silence), ("delay", &self.delay)] {
            for (at, (name, _)) in QUANTILES.iter().enumerate() {
                let samples: Vec<f64> = values.iter().filter_map(|it| it.get(at).copied()).collect();
                add(&format!("{case} {what}"), name, "ms", &samples);
            }
        }
        let of = |value: Value| -> Vec<f64> { self.samples.iter().map(value).collect() };
        let packets: [(&str, Value); 6] = [
            ("lost", |it| it.lost() as f64),
            ("dropped by name", |it| it.dropped as f64),
            ("refused by the ring", |it| it.felt.refused as f64),
            ("reordered", |it| it.felt.reordered as f64),
            ("duplicated", |it| it.felt.duplicated as f64),
            ("held at peak", |it| it.felt.waited as f64),
        ];
        for (metric, value) in packets {
            add(&case, metric, "packets", &of(value));
        }
        let mebibytes: Vec<f64> = self
            .samples
            .iter()
            .map(|it| (it.felt.waited * BUFFER) as f64 / f64::from(1 << 20))
            .collect();
        add(&case, "buffers at peak", "MiB", &mebibytes);
        let some: Vec<&Sample> = self.samples.iter().filter(|it| it.felt.waited > FEW).collect();
        let released: Vec<f64> = some.iter().map(|it| it.felt.released_rate / 1e6).collect();
        add(&case, "release", "Mpps", &released);
        let its = lines
            .iter()
            .filter(|(subject, prefixes, _)| *subject == self.subject && *prefixes == self.prefixes);
        let line: Vec<f64> = its.map(|(_, _, rate)| rate / 1e6).collect();
        add(&case, "line rate", "Mpps", &line);
        add(&case, "gap as it was", "ms", &of(|it| it.gap * 1e3));
        add(
            &case,
            "generator away",
            "ms",
            &of(|it| it.felt.longest_absence * 1e3),
        );
    }

    /// Puts the histograms beside the rows.
    fn write(&self, json: &Path) -> anyhow::Result<()> {
        let part = |text: &str| text.replace(" ms", "").replace(' ', "-");
        for (what, histogram) in [("silence", &self.silences), ("delay", &self.delays)] {
            if histogram.is_empty() {
                continue;
            }
            let extension = format!(
                "{}-{}-{}-{what}.hgrm",
                self.subject.name(),
                part(&self.case()),
                self.prefixes
            );
            let path = json.with_extension(extension);
            std::fs::write(&path, hgrm(histogram))
                .with_context(|| format!("{} cannot be written", path.display()))?;
        }
        Ok(())
    }
}

impl Sample {
    /// Packets that did not come back.
    fn lost(&self) -> u64 {
        self.felt.offered.saturating_sub(self.felt.received)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_tell_what_was_felt() {
        let mut measurement = Measurement::new(Kind::PathEnd, 20, Subject::Kedge, 10).unwrap();
        let felt = Felt {
            offered: 100,
            received: 97,
            silences: vec![(20_000_000, 10)],
            delays: vec![(1_000_000, 1), (19_000_000, 9)],
            waited: 2000,
            released_rate: 1e6,
            ..Felt::default()
        };
        let sample = Sample {
            felt,
            gap: 0.021,
            dropped: 3,
        };
        measurement.add(sample).unwrap();
        let mut rows = Rows::default();
        measurement.rows(&[(Subject::Kedge, 10, 5e6), (Subject::Kedge, 9, 7e6)], &mut rows);
        let of = |case: &str, metric: &str| rows.median(case, "kedge", 10, metric).unwrap();
        assert_eq!(of("path end 20 ms", "lost"), 3.0);
        assert_eq!(of("path end 20 ms", "release"), 1.0);
        assert_eq!(of("path end 20 ms", "line rate"), 5.0);
        assert_eq!(of("path end 20 ms", "buffers at peak"), 4.517);
        assert_eq!(of("path end 20 ms silence", "p50").round(), 20.0);
        assert_eq!(of("path end 20 ms delay", "max").round(), 19.0);
    }
}
