//! What every bench puts out: one flat list of rows.
//!
//! A row names what was measured and who was measured, so that anyone can
//! compute a ratio from two rows without knowing the bench. Beside the rows
//! lies a second file, `NAME.run.json`, that says on which machine, with which
//! versions and by which command they came about.

use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::machine::Machine;
use crate::report;

/// One measurement: the least, the median and the most of its samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    /// The subcommand.
    pub(crate) bench: String,
    /// What was done: the shape of the table, the kind of packet.
    pub(crate) case: String,
    /// Who did it: `kedge`, or the name of a peer.
    pub(crate) subject: String,
    /// Prefixes in the table, or tunnels where the case is about tunnels.
    pub(crate) prefixes: u64,
    /// What was counted.
    pub(crate) metric: String,
    /// In which unit.
    pub(crate) unit: String,
    /// Least sample.
    pub(crate) min: f64,
    /// The middle one.
    pub(crate) median: f64,
    /// Most.
    pub(crate) max: f64,
}

/// The rows of one run.
#[derive(Debug, Default)]
pub(crate) struct Rows(pub(crate) Vec<Row>);

/// How the rows of a file came about.
#[derive(Debug, Serialize)]
struct Run {
    command: String,
    /// Of the working directory when the bench ended.
    commit: String,
    dpdk: String,
    /// What made this program, and with which profile.
    compiler: &'static str,
    #[serde(flatten)]
    machine: Machine,
    load_average_before: String,
    load_average_after: String,
}

impl Rows {
    /// Adds the row of some samples; none, if there are no samples.
    #[allow(clippy::too_many_arguments, reason = "they are the columns")]
    pub(crate) fn add(
        &mut self,
        bench: &str,
        case: &str,
        subject: &str,
        prefixes: usize,
        metric: &str,
        unit: &str,
        samples: &[f64],
    ) {
        let mut samples = samples.to_vec();
        samples.sort_by(f64::total_cmp);
        let (Some(min), Some(max)) = (samples.first(), samples.last()) else {
            return;
        };
        let round = |value: f64| (value * 1000.0).round() / 1000.0;
        self.0.push(Row {
            bench: bench.to_owned(),
            case: case.to_owned(),
            subject: subject.to_owned(),
            prefixes: prefixes as u64,
            metric: metric.to_owned(),
            unit: unit.to_owned(),
            min: round(*min),
            median: round(samples.get(samples.len() / 2).copied().unwrap_or(*min)),
            max: round(*max),
        });
    }

    /// The median of one row.
    pub(crate) fn median(&self, case: &str, subject: &str, prefixes: usize, metric: &str) -> Option<f64> {
        let row = self.0.iter().find(|row| {
            row.case == case
                && row.subject == subject
                && row.prefixes == prefixes as u64
                && row.metric == metric
        });
        row.map(|row| row.median)
    }

    /// For people.
    pub(crate) fn table(&self) -> String {
        let mut text = format!(
            "{:<28} {:<18} {:>9} {:<28} {:>12} {:>12} {:>12} unit\n",
            "case", "subject", "prefixes", "metric", "min", "median", "max"
        );
        for row in &self.0 {
            text += &format!(
                "{:<28} {:<18} {:>9} {:<28} {:>12.3} {:>12.3} {:>12.3} {}\n",
                row.case, row.subject, row.prefixes, row.metric, row.min, row.median, row.max, row.unit
            );
        }
        text
    }

    /// Writes the rows, and beside them how they came about.
    pub(crate) fn write(&self, path: &Path, load_average_before: &str) -> anyhow::Result<()> {
        let run = Run {
            command: command(),
            commit: commit(),
            dpdk: dpdk_version(),
            compiler: env!("KEDGE_PERF_COMPILER"),
            machine: Machine::here(),
            load_average_before: load_average_before.to_owned(),
            load_average_after: report::line_of("/proc/loadavg"),
        };
        let mut text = String::from("[\n");
        for (at, row) in self.0.iter().enumerate() {
            // A row a line, so that two files can be compared by eye.
            text += if at == 0 { "  " } else { ",\n  " };
            text += &serde_json::to_string(row)?;
        }
        text += "\n]\n";
        write(path, &text)?;
        write(
            &path.with_extension("run.json"),
            &(serde_json::to_string_pretty(&run)? + "\n"),
        )
    }
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| format!("{} cannot be written", path.display()))
}

/// As it was called, without the directories of this machine.
fn command() -> String {
    let mut words = std::env::args();
    let program = words.next().unwrap_or_default();
    let program = Path::new(&program)
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    std::iter::once(program)
        .chain(words)
        .collect::<Vec<_>>()
        .join(" ")
}

fn commit() -> String {
    let output = std::process::Command::new("git")
        .args(["describe", "--always", "--dirty"])
        .output();
    output.map_or_else(
        |_| String::new(),
        |it| String::from_utf8_lossy(&it.stdout).trim().to_owned(),
    )
}

fn dpdk_version() -> String {
    let output = std::process::Command::new("pkg-config")
        .args(["--modversion", "libdpdk"])
        .output();
    output.map_or_else(
        |_| String::new(),
        |it| String::from_utf8_lossy(&it.stdout).trim().to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_the_middle_of_its_samples() {
        let mut rows = Rows::default();
        rows.add("fib", "pool", "kedge", 10, "lookup", "cycles", &[3.0, 1.0, 2.0]);
        rows.add("fib", "pool", "kedge", 10, "nothing", "cycles", &[]);
        assert_eq!(rows.0.len(), 1);
        assert_eq!((rows.0[0].min, rows.0[0].median, rows.0[0].max), (1.0, 2.0, 3.0));
        assert_eq!(rows.median("pool", "kedge", 10, "lookup"), Some(2.0));
        let text = serde_json::to_string(&rows.0[0]).unwrap();
        assert_eq!(serde_json::from_str::<Row>(&text).unwrap(), rows.0[0]);
    }
}
