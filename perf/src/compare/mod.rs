//! `kedge-perf compare`: two commits on this machine, in turns, and whether they differ by more than the noise.

mod build;
mod test;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, ensure};
use clap::Args;

use crate::plot;
use crate::processes::{Scratch, ends_with_us};
use crate::report::{self, progress, settle};
use crate::rows::{Row, Rows};
use build::{Built, Repository};

/// In the rows.
const BENCH: &str = "compare";
/// A difference is larger than the noise if chance alone would show one as large more rarely than this.
const SIGNIFICANT: f64 = 0.05;
/// With fewer rounds even a perfect separation could be chance.
const FEWEST_ROUNDS: usize = 4;

/// Options of `kedge-perf compare`.
#[derive(Args)]
pub(crate) struct Options {
    /// The commit to compare with.
    #[arg(value_name = "COMMIT_A")]
    before: String,
    /// The commit to judge.
    #[arg(value_name = "COMMIT_B")]
    after: String,
    /// The subcommand to run.
    #[arg(long, default_value = "pipeline")]
    bench: String,
    /// Rounds; in each, both commits have one turn.
    #[arg(long, default_value_t = 6)]
    rounds: usize,
    /// Where to write the rows: the medians of each commit, and how large the difference is.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// What the bench is given besides --json.
    #[arg(last = true, default_value = "--quick")]
    arguments: Vec<String>,
}

/// What a row is about, all but its values.
type Key = (String, String, u64, String, String);

/// The medians of all rounds: of A, of B.
type Samples = BTreeMap<Key, [Vec<f64>; 2]>;

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    ensure!(
        options.rounds >= FEWEST_ROUNDS,
        "--rounds {}: at least {FEWEST_ROUNDS} are needed to tell a difference from noise",
        options.rounds
    );
    report::check_writable(options.json.as_deref())?;
    let load_average_before = report::line_of("/proc/loadavg");
    let repository = Repository::here()?;
    let commits = [
        repository.resolve(&options.before)?,
        repository.resolve(&options.after)?,
    ];
    let [before, after] = &commits;
    ensure!(
        before != after,
        "{} and {} are the same commit",
        options.before,
        options.after
    );
    let scratch = Scratch::new()?;
    let built = [
        repository.build(before, scratch.path())?,
        repository.build(after, scratch.path())?,
    ];
    let mut samples = Samples::new();
    for round in 0..options.rounds {
        // A B, B A, A B: a machine that gets slower all the time does so for both.
        let turns = if round % 2 == 0 { [0, 1] } else { [1, 0] };
        for side in turns {
            let Some(built) = built.get(side) else { continue };
            progress(&format!(
                "round {}/{}: {} of {}",
                round + 1,
                options.rounds,
                options.bench,
                built.short()
            ));
            for row in bench(options, built, scratch.path())? {
                let key = (row.case, row.subject, row.prefixes, row.metric, row.unit);
                if let Some(values) = samples.entry(key).or_default().get_mut(side) {
                    values.push(row.median);
                }
            }
        }
        settle(&format!("round {}/{} done", round + 1, options.rounds));
    }
    report::print(&table(&samples, &built))?;
    if let Some(path) = &options.json {
        rows(&samples).write(path, &load_average_before)?;
    }
    Ok(())
}

/// One run of the bench.
fn bench(options: &Options, built: &Built, scratch: &Path) -> anyhow::Result<Vec<Row>> {
    let json = scratch.join("rows.json");
    let output = ends_with_us(built.program())
        .arg(&options.bench)
        .args(&options.arguments)
        .arg("--json")
        .arg(&json)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{} cannot be started", built.program().display()))?;
    ensure!(
        output.status.success(),
        "{} of {} failed ({}):\n{}",
        options.bench,
        built.short(),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    let rows = plot::read(&json)?;
    std::fs::remove_file(&json)?;
    Ok(rows)
}

/// For people: a line for each row.
fn table(samples: &Samples, built: &[Built; 2]) -> String {
    let [before, after] = built;
    let mut text = format!(
        "A = {}, B = {}\n{:<20} {:<16} {:>9} {:<24} {:>12} {:>12} {:>9} {:>7}\n",
        before.short(),
        after.short(),
        "case",
        "subject",
        "prefixes",
        "metric",
        "A, median",
        "B, median",
        "B to A",
        "p"
    );
    let mut compared = 0;
    for ((case, subject, prefixes, metric, unit), [a, b]) in samples {
        text += &format!("{case:<20} {subject:<16} {prefixes:>9} {metric:<24} ");
        if a.is_empty() || b.is_empty() {
            let who = if a.is_empty() { "B" } else { "A" };
            text += &format!("only {who} has it\n");
            continue;
        }
        compared += 1;
        let (median_a, median_b) = (
            report::median(a.iter().copied()),
            report::median(b.iter().copied()),
        );
        let p = test::mann_whitney(a, b);
        let verdict = if p < SIGNIFICANT {
            "LARGER than the noise"
        } else {
            "within the noise"
        };
        text += &format!(
            "{median_a:>12.3} {median_b:>12.3} {:>9} {p:>7.3} {unit}: {verdict}\n",
            percent(median_a, median_b)
        );
    }
    text + &format!(
        "{compared} rows: about {:.1} of them would be called larger than the noise by chance alone\n",
        f64::from(compared) * SIGNIFICANT
    )
}

fn percent(a: f64, b: f64) -> String {
    if a == 0.0 {
        return "-".to_owned();
    }
    format!("{:+.1} %", 100.0 * (b / a - 1.0))
}

fn rows(samples: &Samples) -> Rows {
    let mut rows = Rows::default();
    for ((case, subject, prefixes, metric, unit), [a, b]) in samples {
        let prefixes = usize::try_from(*prefixes).unwrap_or(usize::MAX);
        for (side, values) in [("A", a), ("B", b)] {
            let case = format!("{case} {side}");
            rows.add(BENCH, &case, subject, prefixes, metric, unit, values);
        }
        if !a.is_empty() && !b.is_empty() {
            let p = test::mann_whitney(a, b);
            rows.add(
                BENCH,
                case,
                subject,
                prefixes,
                &format!("{metric} p"),
                "probability",
                &[p],
            );
        }
    }
    rows
}
