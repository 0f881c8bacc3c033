//! `kedge-perf forward`: packets per second through one gateway on one core.

mod busy;
mod device;
mod search;

use std::path::PathBuf;

use anyhow::ensure;
use clap::Args;

pub(crate) use device::{Bed, Mode, Poll, SOCKET, Session, Subject};
pub(crate) use search::{Found, Search, Settings, Trial};

use crate::frames::MOST_PREFIXES;
use crate::gateway::Flows;
use crate::generator::Order;
use crate::report::{self, progress};
use crate::rows::Rows;

/// In the rows.
const BENCH: &str = "forward";
/// A generator that sends less than this part of what it was asked for has no more to give.
const STARVED: f64 = 0.95;
/// What each device is measured by.
const METRICS: [&str; 3] = ["throughput", "pdr", "ndr"];
/// And what its thread spends on a packet, by its own count: with the ring kept full, and at the rate without loss.
const BUSY: [&str; 2] = ["busy", "busy at ndr"];

/// Options of `kedge-perf forward`.
#[derive(Args)]
pub(crate) struct Options {
    /// Rounds; in each, every device has one turn.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    #[command(flatten)]
    trials: Trials,
    /// Prefixes in the gateway's table, several with commas.
    #[arg(long, default_value = "1", value_delimiter = ',', value_name = "COUNT")]
    prefixes: Vec<usize>,
    /// What the gateway does, several with commas; all, if not given.
    #[arg(long, value_delimiter = ',')]
    cases: Vec<Case>,
    #[command(flatten)]
    bed: Bed,
    /// One round of short trials, beside one way of testpmd: under a minute with one count of prefixes, and coarse.
    #[arg(long)]
    quick: bool,
    /// Where to write the rows.
    #[arg(long, value_name = "FILE", alias = "report")]
    json: Option<PathBuf>,
}

/// How the rate without loss is searched.
#[derive(Args, Clone, Debug)]
pub(crate) struct Trials {
    /// Seconds of each trial. On a machine with other work a long one is always disturbed.
    #[arg(long, default_value_t = 0.05)]
    pub(crate) seconds: f64,
    /// Trials at one rate; most must pass.
    #[arg(long, default_value_t = 3)]
    trials: usize,
    /// How close the rates that passed and failed must be, as a part of them.
    #[arg(long, default_value_t = 0.01)]
    precision: f64,
    /// The part of the packets whose loss the partial drop rate permits.
    #[arg(long, default_value_t = 0.0005)]
    loss: f64,
}

/// What the gateway does with each packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Case {
    /// IPv6 forwarding.
    Plain,
    /// Into IPv6-in-IPv6 tunnels, to up to 10,000 peers.
    Encapsulate,
    /// Out of these.
    Decapsulate,
    /// Into GTP-U tunnels, one for each prefix.
    GtpuEncapsulate,
    /// Out of these.
    GtpuDecapsulate,
    /// Into GTP-U tunnels over IPv4, one for each prefix.
    Gtpu4Encapsulate,
    /// Out of these.
    Gtpu4Decapsulate,
    /// Into GRE tunnels with a key, one for each prefix.
    GreEncapsulate,
    /// Out of these.
    GreDecapsulate,
    /// As `encapsulate`, past 100 filters of the domain.
    #[value(name = "filters-100")]
    Filters100,
    /// As `encapsulate`, past 10,000 filters of the domain.
    #[value(name = "filters-10000")]
    Filters10000,
    /// As `encapsulate`, with a meter for each prefix.
    Meter,
}

impl Case {
    /// All of them.
    const ALL: [Self; 12] = [
        Self::Plain,
        Self::Encapsulate,
        Self::Decapsulate,
        Self::GtpuEncapsulate,
        Self::GtpuDecapsulate,
        Self::Gtpu4Encapsulate,
        Self::Gtpu4Decapsulate,
        Self::GreEncapsulate,
        Self::GreDecapsulate,
        Self::Filters100,
        Self::Filters10000,
        Self::Meter,
    ];

    /// In the rows.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Encapsulate => "encapsulate",
            Self::Decapsulate => "decapsulate",
            Self::GtpuEncapsulate => "gtpu-encapsulate",
            Self::GtpuDecapsulate => "gtpu-decapsulate",
            Self::Gtpu4Encapsulate => "gtpu4-encapsulate",
            Self::Gtpu4Decapsulate => "gtpu4-decapsulate",
            Self::GreEncapsulate => "gre-encapsulate",
            Self::GreDecapsulate => "gre-decapsulate",
            Self::Filters100 => "filters-100",
            Self::Filters10000 => "filters-10000",
            Self::Meter => "meter",
        }
    }

    /// What filters the gateway has.
    pub(crate) fn flows(self) -> Option<Flows> {
        match self {
            Self::Filters100 => Some(Flows::Domain(100)),
            Self::Filters10000 => Some(Flows::Domain(10_000)),
            Self::Meter => Some(Flows::Meters),
            _ => None,
        }
    }
}

impl Trials {
    /// Short ones.
    pub(crate) fn quick() -> Self {
        Self {
            seconds: 0.02,
            trials: 3,
            precision: 0.03,
            loss: 0.0005,
        }
    }

    /// Enough to know how much a part of the rate is.
    pub(crate) fn coarse() -> Self {
        Self {
            seconds: 0.05,
            precision: 0.02,
            ..Self::quick()
        }
    }

    /// Whether they can be had.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        let Self {
            seconds,
            trials,
            precision,
            loss,
        } = *self;
        ensure!(
            seconds > 0.0 && seconds <= 3600.0,
            "--seconds {seconds}: above 0 and at most 3600 is needed"
        );
        ensure!(
            (1..=99).contains(&trials),
            "--trials {trials}: 1 to 99 are needed"
        );
        ensure!(
            (0.001..1.0).contains(&precision),
            "--precision {precision}: 0.001 or more, and less than 1, is needed"
        );
        ensure!(
            (0.0..1.0).contains(&loss),
            "--loss {loss}: 0 or more, and less than 1, is needed"
        );
        Ok(())
    }
}

/// What a device can do, packets per second.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rates {
    /// With the ring kept full: what comes back.
    pub(crate) throughput: f64,
    /// With the permitted loss.
    pub(crate) pdr: Found,
    /// Without any.
    pub(crate) ndr: Option<Found>,
    /// The part of the trials that others on the machine disturbed, percent.
    pub(crate) disturbed: f64,
    /// Cycles for a packet, in the order of [`BUSY`].
    busy: [Option<f64>; 2],
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let (rounds, trials, bed) = if options.quick {
        (1, Trials::quick(), options.bed.quick())
    } else {
        (options.rounds, options.trials.clone(), options.bed.clone())
    };
    ensure!(rounds > 0, "--rounds 0: at least 1 is needed");
    trials.check()?;
    bed.check()?;
    let wrong = options
        .prefixes
        .iter()
        .find(|count| !(1..=MOST_PREFIXES).contains(*count));
    ensure!(
        wrong.is_none(),
        "--prefixes {}: 1 to {MOST_PREFIXES} can be had",
        wrong.copied().unwrap_or_default()
    );
    report::check_writable(options.json.as_deref())?;
    let load_average_before = report::line_of("/proc/loadavg");
    let subjects = subjects(options);
    let mut measured: Vec<Vec<Rates>> = vec![Vec::new(); subjects.len()];
    for round in 0..rounds {
        for turn in 0..subjects.len() {
            // Nobody always has the turn after the same other one.
            let at = (turn + round) % subjects.len();
            let (Some(subject), Some(measured)) = (subjects.get(at), measured.get_mut(at)) else {
                continue;
            };
            let name = describe(subject);
            let device = format!("round {}/{rounds}, {name}", round + 1);
            progress(&device);
            let mut session = Session::start(&bed, subject)?;
            let rates = rates(&mut session, &trials, true, &device)?;
            report_rates(&device, rates);
            measured.push(rates);
        }
    }
    let rows = rows(&subjects, &measured);
    report::print(&rows.table())?;
    report::print(&table(&subjects, &rows))?;
    if let Some(path) = &options.json {
        rows.write(path, &load_average_before)?;
    }
    Ok(())
}

/// Who takes turns.
fn subjects(options: &Options) -> Vec<Subject> {
    // There is time for one of them only.
    let modes = if options.quick {
        vec![Mode::Mac]
    } else {
        Mode::ALL.to_vec()
    };
    let mut subjects: Vec<_> = modes.into_iter().map(Subject::Testpmd).collect();
    let cases: &[Case] = if options.cases.is_empty() {
        &Case::ALL
    } else {
        &options.cases
    };
    for prefixes in &options.prefixes {
        subjects.extend(cases.iter().map(|case| Subject::Kedge {
            case: *case,
            prefixes: *prefixes,
            poll: Poll::Busy,
        }));
    }
    subjects
}

fn describe(subject: &Subject) -> String {
    let name = subject.name();
    match subject {
        Subject::Testpmd(_) => name,
        Subject::Kedge { case, prefixes, .. } => format!("{name} {} {prefixes}", case.name()),
    }
}

/// What the device can do; `device` is what the progress calls it.
pub(crate) fn rates(
    session: &mut Session,
    trials: &Trials,
    without_loss: bool,
    device: &str,
) -> anyhow::Result<Rates> {
    let order = |rate| Order {
        rate,
        seconds: trials.seconds,
        latencies: false,
    };
    session.hurry();
    let mut throughputs = Vec::new();
    let before = session.spent()?;
    for _ in 0..trials.trials {
        throughputs.push(session.trial(order(None))?.received_rate());
    }
    let throughput = report::median(throughputs.into_iter());
    let busy = session.spent()?.each_since(before);
    let settings = Settings {
        precision: trials.precision,
        trials: trials.trials,
    };
    let mut search = Search::new(settings, throughput * 4.0, throughput, |rate| {
        let outcome = session.trial(order(Some(rate)))?;
        let trial = Trial {
            offered: outcome.offered_rate(),
            loss: outcome.loss(),
            starved: outcome.sent_rate() < rate * STARVED,
        };
        let (offered, lost) = (
            trial.offered / 1e6,
            outcome.offered.saturating_sub(outcome.received),
        );
        progress(&format!(
            "{device}: {offered:.3} Mpps lost {lost} of {} (asked {:.3}, refused {}, out of order {})",
            outcome.offered,
            rate / 1e6,
            outcome.refused,
            outcome.reordered
        ));
        Ok(trial)
    });
    let pdr = search.find(trials.loss)?;
    let ndr = if without_loss {
        Some(search.find(0.0)?)
    } else {
        None
    };
    drop(search);
    let mut busy_at_ndr = None;
    if let Some(ndr) = ndr.filter(|ndr| ndr.rate > 0.0) {
        let before = session.spent()?;
        session.trial(order(Some(ndr.rate)))?;
        busy_at_ndr = session.spent()?.each_since(before);
    }
    session.take_time();
    Ok(Rates {
        throughput,
        pdr,
        ndr,
        disturbed: session.disturbed(),
        busy: [busy, busy_at_ndr],
    })
}

fn report_rates(device: &str, rates: Rates) {
    let shown = |found: Found| {
        let bound = if found.limited { ">=" } else { "" };
        format!("{bound}{:.2}", found.rate / 1e6)
    };
    report::settle(&format!(
        "{device}: throughput {:.2}, PDR {}, NDR {} Mpps; {:.0} % of the trials repeated",
        rates.throughput / 1e6,
        shown(rates.pdr),
        rates.ndr.map(shown).unwrap_or_default(),
        rates.disturbed
    ));
}

impl Rates {
    fn metric(&self, metric: &str) -> f64 {
        match metric {
            "throughput" => self.throughput,
            "pdr" => self.pdr.rate,
            _ => self.ndr.map_or(0.0, |found| found.rate),
        }
    }
}

fn rows(subjects: &[Subject], measured: &[Vec<Rates>]) -> Rows {
    let mut rows = Rows::default();
    let with_rates = || subjects.iter().zip(measured);
    for (subject, rates) in with_rates() {
        let (case, name) = (subject.case().name(), subject.name());
        for metric in METRICS {
            let samples: Vec<f64> = rates.iter().map(|rates| rates.metric(metric) / 1e6).collect();
            rows.add(BENCH, case, &name, subject.prefixes(), metric, "Mpps", &samples);
        }
        for (at, metric) in BUSY.into_iter().enumerate() {
            let samples: Vec<f64> = rates
                .iter()
                .filter_map(|rates| rates.busy.get(at).copied()?)
                .collect();
            rows.add(BENCH, case, &name, subject.prefixes(), metric, "cycles", &samples);
        }
        let disturbed: Vec<f64> = rates.iter().map(|rates| rates.disturbed).collect();
        rows.add(
            BENCH,
            case,
            &name,
            subject.prefixes(),
            "disturbed trials",
            "%",
            &disturbed,
        );
    }
    for (subject, rates) in with_rates().filter(|(subject, _)| matches!(subject, Subject::Kedge { .. })) {
        for (peer, base) in with_rates().filter(|(peer, _)| matches!(peer, Subject::Testpmd(_))) {
            for metric in METRICS {
                let pairs = rates
                    .iter()
                    .zip(base)
                    .map(|(rates, base)| (rates.metric(metric), base.metric(metric)));
                let samples: Vec<f64> = pairs
                    .filter(|(_, base)| *base > 0.0)
                    .map(|(rate, base)| rate / base)
                    .collect();
                let (case, metric) = (subject.case().name(), ratio(metric, &peer.name()));
                rows.add(
                    BENCH,
                    case,
                    "kedge",
                    subject.prefixes(),
                    &metric,
                    "ratio",
                    &samples,
                );
            }
        }
    }
    rows
}

fn ratio(metric: &str, peer: &str) -> String {
    format!("{metric}/{peer}")
}

/// For people: a line for each device, medians.
fn table(subjects: &[Subject], rows: &Rows) -> String {
    let mut text = format!(
        "{:<28} {:>10} {:>8} {:>8} {:>8}   PDR as a ratio to testpmd in the same round\n",
        "Mpps, medians", "throughput", "PDR", "NDR", "cycles"
    );
    for subject in subjects {
        let of =
            |metric: &str| rows.median(subject.case().name(), &subject.name(), subject.prefixes(), metric);
        text += &format!("{:<28}", describe(subject));
        for (metric, width) in METRICS.into_iter().chain(["busy"]).zip([10, 8, 8, 8]) {
            text += &format!(" {:>width$.2}", of(metric).unwrap_or_default());
        }
        for mode in Mode::ALL {
            let peer = Subject::Testpmd(mode).name();
            if let Some(ratio) = of(&ratio("pdr", &peer)) {
                text += &format!("   {peer} {ratio:.2}");
            }
        }
        text.push('\n');
    }
    text
}
