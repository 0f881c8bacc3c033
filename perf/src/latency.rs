//! `kedge-perf latency`: how long a packet is under way, at parts of the rate that a device can do, and at
//! a trickle, where a worker that sleeps adds to it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Args;
use hdrhistogram::Histogram;

use crate::forward::{Bed, Case, Mode, Poll, Session, Subject, Trials, rates};
use crate::generator::Order;
use crate::report::{self, progress, settle};
use crate::rows::Rows;

/// In the rows.
const BENCH: &str = "latency";
/// Seconds of one trial; of a measurement there are as many as fit, so that one that others on the machine
/// disturb can be had again.
const TRIAL: f64 = 0.02;
/// How long a worker is watched that has nothing to do.
const IDLE: Duration = Duration::from_secs(1);
/// How many times as long as it is meant to a measurement may take because of repeated trials.
const PATIENCE: f64 = 3.0;
const QUANTILES: [(&str, f64); 5] = [
    ("p50", 0.5),
    ("p90", 0.9),
    ("p99", 0.99),
    ("p99.9", 0.999),
    ("max", 1.0),
];

/// Options of `kedge-perf latency`.
#[derive(Args)]
pub(crate) struct Options {
    /// Rounds; in each, every device has one turn.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Parts of the rate with the permitted loss, percent, several with commas.
    #[arg(
        long,
        default_value = "10,50,90",
        value_delimiter = ',',
        value_name = "PERCENT"
    )]
    loads: Vec<u32>,
    /// Packets a second of the trickle.
    #[arg(long, default_value_t = 1000.0, value_name = "RATE")]
    trickle: f64,
    /// What the gateway does, several with commas.
    #[arg(long, default_value = "plain", value_delimiter = ',')]
    cases: Vec<Case>,
    #[command(flatten)]
    bed: Bed,
    /// One round of short measurements: under a minute, and coarse.
    #[arg(long)]
    quick: bool,
    /// Where to write the rows; the histograms (.hgrm) are put beside them.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// One load on one device, over all rounds.
struct Measurement {
    case: String,
    subject: String,
    prefixes: usize,
    all: Histogram<u64>,
    /// Of each round: the quantiles in microseconds.
    quantiles: Vec<[f64; QUANTILES.len()]>,
    offered: Vec<f64>,
    lost: Vec<f64>,
    unmeasured: Vec<f64>,
}

/// What a forwarding thread took of its processor, percent of the time.
struct Use {
    case: &'static str,
    subject: String,
    prefixes: usize,
    percent: Vec<f64>,
}

#[derive(Default)]
struct Results {
    measurements: Vec<Measurement>,
    uses: Vec<Use>,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let (rounds, seconds, trials, bed) = if options.quick {
        (1, 0.5, Trials::quick(), options.bed.quick())
    } else {
        (
            options.rounds,
            options.seconds,
            Trials::coarse(),
            options.bed.clone(),
        )
    };
    ensure!(rounds > 0, "--rounds 0: at least 1 is needed");
    ensure!(
        (TRIAL..=3600.0).contains(&seconds),
        "--seconds {seconds}: {TRIAL} to 3600 are needed"
    );
    ensure!(
        (1.0..=1e6).contains(&options.trickle),
        "--trickle {}: 1 to 1000000 is needed",
        options.trickle
    );
    let wrong = options.loads.iter().find(|load| !(1..=100).contains(*load));
    ensure!(
        wrong.is_none(),
        "--loads {}: 1 to 100 are needed",
        wrong.copied().unwrap_or_default()
    );
    bed.check()?;
    report::check_writable(options.json.as_deref())?;
    let load_average_before = report::line_of("/proc/loadavg");
    let mut results = Results::default();
    for round in 1..=rounds {
        for subject in subjects(options, round) {
            let device = format!("round {round}/{rounds}, {}", subject.name());
            progress(&device);
            turn(options, &bed, &trials, seconds, &subject, &device, &mut results)?;
        }
    }
    let rows = results.rows();
    report::print(&rows.table())?;
    if let Some(path) = &options.json {
        rows.write(path, &load_average_before)?;
        for measurement in &results.measurements {
            measurement.write(path)?;
        }
    }
    Ok(())
}

/// Who takes turns: not always in the same order.
fn subjects(options: &Options, round: usize) -> Vec<Subject> {
    let kedge = |case, poll| Subject::Kedge {
        case,
        prefixes: 1,
        poll,
    };
    let mut subjects = vec![Subject::Testpmd(Mode::Mac)];
    subjects.extend(options.cases.iter().map(|case| kedge(*case, Poll::Busy)));
    subjects.push(kedge(Case::Plain, Poll::Adaptive));
    let first = round % subjects.len();
    subjects.rotate_left(first);
    subjects
}

/// One device's turn.
fn turn(
    options: &Options,
    bed: &Bed,
    trials: &Trials,
    seconds: f64,
    subject: &Subject,
    device: &str,
    results: &mut Results,
) -> anyhow::Result<()> {
    let mut session = Session::start(bed, subject)?;
    let adaptive = matches!(
        subject,
        Subject::Kedge {
            poll: Poll::Adaptive,
            ..
        }
    );
    if !adaptive {
        let rate = rates(&mut session, trials, false, device)?.pdr.rate;
        ensure!(rate > 0.0, "{device}: there is no rate that loses little enough");
        for load in &options.loads {
            let order = Order {
                rate: Some(rate * f64::from(*load) / 100.0),
                seconds: TRIAL,
                latencies: true,
            };
            let case = format!("{} {load} %", subject.case().name());
            measure(&mut session, subject, case, order, seconds, device, results)?;
        }
    }
    if subject.case() == Case::Plain {
        let poll = if adaptive { "adaptive" } else { "busy" };
        let percent = processor_use(&session, || {
            std::thread::sleep(IDLE);
            Ok(())
        })?;
        let idle = if adaptive { "idle adaptive" } else { "idle busy" };
        results.use_of(idle, subject).push(percent);
        let order = Order {
            rate: Some(options.trickle),
            seconds: TRIAL,
            latencies: true,
        };
        let case = format!("trickle {poll}");
        measure(&mut session, subject, case, order, seconds, device, results)?;
    }
    Ok(())
}

/// The part of the time, percent, that the forwarding thread ran while `work` was done.
fn processor_use(session: &Session, work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<f64> {
    let (start, before) = (Instant::now(), session.worker()?.ran);
    work()?;
    let ran = session.worker()?.ran.saturating_sub(before);
    Ok(100.0 * ran.as_secs_f64() / start.elapsed().as_secs_f64())
}

/// One load on one device in one round.
fn measure(
    session: &mut Session,
    subject: &Subject,
    case: String,
    order: Order,
    seconds: f64,
    device: &str,
    results: &mut Results,
) -> anyhow::Result<()> {
    let mut histogram = Histogram::<u64>::new(3)?;
    let (mut sent, mut offered, mut received, mut unmeasured) = (0.0, 0, 0, 0);
    // Where others disturb all the time, less must do.
    let end = Instant::now() + Duration::from_secs_f64(seconds * PATIENCE);
    while sent + TRIAL / 2.0 < seconds && (sent == 0.0 || Instant::now() < end) {
        progress(&format!("{device}: {case}, {sent:.1} of {seconds} s"));
        let outcome = session.trial(order)?;
        sent += outcome.seconds;
        offered += outcome.offered;
        received += outcome.received;
        unmeasured += outcome.unmeasured;
        for (value, count) in outcome.latencies {
            histogram.record_n(value, count)?;
        }
    }
    ensure!(
        !histogram.is_empty(),
        "{device}: {case}: no packet could be timed"
    );
    let quantiles = QUANTILES.map(|(_, quantile)| histogram.value_at_quantile(quantile) as f64 / 1e3);
    settle(&format!(
        "{device}: {case}: {:.3} Mpps, p50 {:.1}, p99 {:.1}, p99.9 {:.1} us",
        offered as f64 / sent / 1e6,
        quantiles[0],
        quantiles[2],
        quantiles[3]
    ));
    let measurement = results.measurement(&case, subject)?;
    measurement.all.add(&histogram)?;
    measurement.quantiles.push(quantiles);
    measurement.offered.push(offered as f64 / sent / 1e6);
    let part = |count: u64, of: u64| 100.0 * count as f64 / of.max(1) as f64;
    measurement
        .lost
        .push(part(offered.saturating_sub(received), offered));
    measurement.unmeasured.push(part(unmeasured, received));
    Ok(())
}

impl Results {
    fn measurement(&mut self, case: &str, subject: &Subject) -> anyhow::Result<&mut Measurement> {
        let name = subject.name();
        let found = self
            .measurements
            .iter()
            .position(|it| it.case == case && it.subject == name);
        if found.is_none() {
            self.measurements.push(Measurement {
                case: case.to_owned(),
                subject: name,
                prefixes: subject.prefixes(),
                all: Histogram::new(3)?,
                quantiles: Vec::new(),
                offered: Vec::new(),
                lost: Vec::new(),
                unmeasured: Vec::new(),
            });
        }
        let at = found.unwrap_or(self.measurements.len() - 1);
        self.measurements.get_mut(at).context("no measurement")
    }

    fn use_of(&mut self, case: &'static str, subject: &Subject) -> &mut Vec<f64> {
        let name = subject.name();
        let found = self
            .uses
            .iter()
            .position(|it| it.case == case && it.subject == name);
        let at = found.unwrap_or(self.uses.len());
        if found.is_none() {
            self.uses.push(Use {
                case,
                subject: name,
                prefixes: subject.prefixes(),
                percent: Vec::new(),
            });
        }
        &mut self.uses[at].percent
    }

    fn rows(&self) -> Rows {
        let mut rows = Rows::default();
        for it in &self.measurements {
            let mut add = |metric: &str, unit: &str, samples: &[f64]| {
                rows.add(BENCH, &it.case, &it.subject, it.prefixes, metric, unit, samples);
            };
            for (at, (name, _)) in QUANTILES.iter().enumerate() {
                let samples: Vec<f64> = it.quantiles.iter().map(|values| values[at]).collect();
                add(name, "us", &samples);
            }
            add("offered", "Mpps", &it.offered);
            add("lost", "%", &it.lost);
            add("not timed", "%", &it.unmeasured);
        }
        for it in &self.uses {
            rows.add(
                BENCH,
                it.case,
                &it.subject,
                it.prefixes,
                "processor use",
                "%",
                &it.percent,
            );
        }
        rows
    }
}

impl Measurement {
    /// Puts the histogram beside the rows.
    fn write(&self, json: &Path) -> anyhow::Result<()> {
        let part = |text: &str| text.replace(" %", "").replace(' ', "-");
        let extension = format!("{}-{}.hgrm", part(&self.subject), part(&self.case));
        let path = json.with_extension(extension);
        std::fs::write(&path, hgrm(&self.all))
            .with_context(|| format!("{} cannot be written", path.display()))
    }
}

/// The percentile distribution as HdrHistogram's own tools print and draw it, in microseconds.
pub(crate) fn hgrm(histogram: &Histogram<u64>) -> String {
    let microseconds = |value: f64| value / 1e3;
    let mut text = format!(
        "{:>12} {:>14} {:>10} {:>14}\n\n",
        "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
    );
    let mut count = 0;
    for point in histogram.iter_quantiles(5) {
        let quantile = point.quantile_iterated_to();
        let value = microseconds(point.value_iterated_to() as f64);
        count += point.count_since_last_iteration();
        text += &format!("{value:>12.3} {quantile:>14.12} {count:>10}");
        if quantile < 1.0 {
            text += &format!(" {:>14.2}", 1.0 / (1.0 - quantile));
        }
        text.push('\n');
    }
    text += &format!(
        "#[Mean    = {:>12.3}, StdDeviation   = {:>12.3}]\n",
        microseconds(histogram.mean()),
        microseconds(histogram.stdev())
    );
    text += &format!(
        "#[Max     = {:>12.3}, Total count    = {:>12}]\n",
        microseconds(histogram.max() as f64),
        histogram.len()
    );
    let buckets = usize::from(histogram.buckets());
    text + &format!(
        "#[Buckets = {buckets:>12}, SubBuckets     = {:>12}]\n",
        // The first bucket has as many values as all others have twice.
        2 * histogram.distinct_values() / (buckets + 1)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_is_printed_as_its_tools_read_it() {
        let mut histogram = Histogram::<u64>::new(3).unwrap();
        for value in [1_000, 2_000, 3_000, 10_000] {
            histogram.record(value).unwrap();
        }
        let text = hgrm(&histogram);
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[0]
                .trim_start()
                .starts_with("Value     Percentile TotalCount")
        );
        assert_eq!(lines[2].split_whitespace().next(), Some("1.000"));
        let last: Vec<&str> = lines
            .iter()
            .rfind(|line| !line.starts_with('#'))
            .unwrap()
            .split_whitespace()
            .collect();
        assert_eq!(last[1..], ["1.000000000000", "4"]);
        assert!(text.contains("Total count    =            4]"));
        assert!(text.contains("SubBuckets     =         2048]"));
    }
}
