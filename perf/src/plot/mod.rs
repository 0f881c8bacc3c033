//! `kedge-perf plot`: the rows of a bench as pictures, written beside them.
//!
//! What is drawn depends on what the rows say of themselves, not on the bench:
//!
//! - `NAME.METRIC.svg`: a metric in Mpps, or any other that was measured with several numbers of prefixes,
//!   against these; where that would be too many lines, bars for all if there are peers without a table, else a picture for
//!   each case, `NAME.METRIC-CASE.svg`;
//! - `NAME.latency.svg`: metrics `p50` to `p99.9`, against the percentile; a picture for each of several numbers of
//!   prefixes, `NAME.latency-COUNT.svg`;
//! - `NAME.stages.svg`: metrics of the unit `cycles/packet`, stacked; `total` only of who has no other;
//! - `NAME.blocked.svg`: metrics that begin with `blocked`, the longest.

mod draw;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use clap::Args;

use crate::report;
use crate::rows::Row;
use draw::{Bar, Chart, Line};

/// The unit of what a stage takes.
const STAGES: &str = "cycles/packet";
/// The metric that is the sum of the stages.
const TOTAL: &str = "total";
/// What the metric of a time begins with in which someone waited.
const BLOCKED: &str = "blocked";
/// More lines than this nobody can tell apart.
const MOST_LINES: usize = 10;
const PERCENTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

/// Options of `kedge-perf plot`.
#[derive(Args)]
pub(crate) struct Options {
    /// Rows, as benches write them with --json.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    for file in &options.files {
        let rows = read(file)?;
        let charts = charts(&rows);
        ensure!(
            !charts.is_empty(),
            "{}: no row that there is a picture for",
            file.display()
        );
        for (name, chart) in charts {
            let path = file.with_extension(format!("{name}.svg"));
            let picture = chart.svg().with_context(|| path.display().to_string())?;
            std::fs::write(&path, picture)
                .with_context(|| format!("{} cannot be written", path.display()))?;
            report::print(&path.display().to_string())?;
        }
    }
    Ok(())
}

/// The rows of a file.
pub(crate) fn read(file: &Path) -> anyhow::Result<Vec<Row>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} holds no rows of a bench", file.display()))
}

/// The pictures that there can be of these rows, by name.
fn charts(rows: &[Row]) -> Vec<(String, Chart)> {
    let mut charts = Vec::new();
    let mut metrics: BTreeMap<(&str, &str), Vec<&Row>> = BTreeMap::new();
    for row in rows {
        metrics.entry((&row.metric, &row.unit)).or_default().push(row);
    }
    for ((metric, unit), rows) in &metrics {
        let stage = *unit == STAGES && *metric != TOTAL;
        let drawn_below = stage || metric.starts_with(BLOCKED);
        // Ratios show what the rates they come from show already.
        // The longest of all is where the percentiles lead.
        let percentile = *metric == "max" || PERCENTILES.iter().any(|(name, _)| name == metric);
        let drawn = drawn_below || percentile || ["ratio", "%"].contains(unit);
        if drawn {
            continue;
        }
        let name = slug(metric);
        let lines: BTreeSet<String> = rows.iter().map(|row| series(row)).collect();
        if lines.len() <= MOST_LINES {
            charts.extend(against_prefixes(rows, metric, unit).map(|chart| (name, chart)));
            continue;
        }
        // Who has no table is compared with all cases.
        if rows.iter().any(|row| row.prefixes == 0) {
            charts.push((name, side_by_side(rows, metric, unit)));
            continue;
        }
        let cases: BTreeSet<&str> = rows.iter().map(|row| row.case.as_str()).collect();
        for case in cases {
            let rows: Vec<&Row> = rows.iter().copied().filter(|row| row.case == case).collect();
            let chart = against_prefixes(&rows, metric, unit);
            charts.extend(chart.map(|chart| (format!("{name}-{}", slug(case)), chart)));
        }
    }
    charts.extend(latencies(rows));
    charts.extend(stages(rows).map(|chart| ("stages".to_owned(), chart)));
    charts.extend(blocked(rows).map(|chart| ("blocked".to_owned(), chart)));
    charts
}

/// Part of a file's name.
fn slug(text: &str) -> String {
    text.replace(['/', ' '], "-").replace(',', "")
}

/// Who did what.
fn series(row: &Row) -> String {
    format!("{}, {}", row.subject, row.case)
}

/// One metric against the size of the table; bars where there is one size only, if it is a rate.
fn against_prefixes(rows: &[&Row], metric: &str, unit: &str) -> Option<Chart> {
    let sizes: BTreeSet<u64> = rows
        .iter()
        .map(|row| row.prefixes)
        .filter(|size| *size > 0)
        .collect();
    let (least, most) = (*sizes.first()?, *sizes.last()?);
    let title = format!("{metric}, {unit}");
    if least == most {
        let bar = |row: &&Row| Bar {
            name: series(row),
            parts: vec![(metric.to_owned(), row.median)],
        };
        // One bar says no more than its number.
        return (unit == "Mpps" && metric != "offered" && rows.len() > 1).then(|| Chart::Bars {
            title: format!("{title} (prefixes: {least})"),
            unit: unit.to_owned(),
            bars: rows.iter().map(bar).collect(),
        });
    }
    let mut lines: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
    for row in rows {
        let line = lines.entry(series(row)).or_default();
        if row.prefixes == 0 {
            // One without a table: the same at any size.
            line.extend([(least as f64, row.median), (most as f64, row.median)]);
        } else {
            line.push((row.prefixes as f64, row.median));
        }
    }
    Some(Chart::Lines {
        title,
        x: "prefixes".to_owned(),
        y: unit.to_owned(),
        logarithmic_y: false,
        ticks: Vec::new(),
        lines: sorted(lines),
    })
}

/// A bar for each row, sizes of a series one below the other.
fn side_by_side(rows: &[&Row], metric: &str, unit: &str) -> Chart {
    let order: Vec<String> = rows.iter().map(|row| series(row)).collect();
    let mut rows = rows.to_vec();
    rows.sort_by_key(|row| (order.iter().position(|name| *name == series(row)), row.prefixes));
    let name = |row: &Row| match row.prefixes {
        0 => series(row),
        size => format!("{}, {size}", series(row)),
    };
    let bar = |row: &Row| Bar {
        name: name(row),
        parts: vec![(metric.to_owned(), row.median)],
    };
    Chart::Bars {
        title: format!("{metric}, {unit} (by case and prefixes)"),
        unit: unit.to_owned(),
        bars: rows.into_iter().map(bar).collect(),
    }
}

/// A picture of percentiles for each number of prefixes.
fn latencies(rows: &[Row]) -> Vec<(String, Chart)> {
    let percentile = |row: &&Row| PERCENTILES.iter().any(|(name, _)| *name == row.metric);
    let rows: Vec<&Row> = rows.iter().filter(percentile).collect();
    // One without a table is in all.
    let sizes: BTreeSet<u64> = rows.iter().map(|row| row.prefixes).filter(|it| *it > 0).collect();
    if sizes.len() < 2 {
        return latency(&rows, "")
            .map(|it| ("latency".to_owned(), it))
            .into_iter()
            .collect();
    }
    let of = |size: &u64| {
        let rows: Vec<&Row> = rows
            .iter()
            .copied()
            .filter(|row| [0, *size].contains(&row.prefixes))
            .collect();
        let chart = latency(&rows, &format!(" (prefixes: {size})"))?;
        Some((format!("latency-{size}"), chart))
    };
    sizes.iter().filter_map(of).collect()
}

/// Percentiles as HdrHistogram draws them: each nine has the same room.
fn latency(rows: &[&Row], remark: &str) -> Option<Chart> {
    let mut lines: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
    let (mut bench, mut unit) = (String::new(), String::new());
    for row in rows {
        if let Some((_, quantile)) = PERCENTILES.iter().find(|(name, _)| *name == row.metric) {
            lines
                .entry(series(row))
                .or_default()
                .push((1.0 / (1.0 - quantile), row.median));
            bench.clone_from(&row.bench);
            unit.clone_from(&row.unit);
        }
    }
    (!lines.is_empty()).then(|| Chart::Lines {
        title: format!("{bench}, {unit}{remark}"),
        x: "percentile".to_owned(),
        y: unit,
        logarithmic_y: true,
        ticks: PERCENTILES
            .map(|(name, quantile)| (1.0 / (1.0 - quantile), name.to_owned()))
            .to_vec(),
        lines: sorted(lines),
    })
}

/// Where the cycles of a packet go.
fn stages(rows: &[Row]) -> Option<Chart> {
    let mut bars: Vec<Bar> = Vec::new();
    for row in rows.iter().filter(|row| row.unit == STAGES) {
        let name = format!("{}, {}", series(row), row.prefixes);
        let part = (row.metric.clone(), row.median);
        match bars.iter_mut().find(|bar| bar.name == name) {
            Some(bar) => bar.parts.push(part),
            None => bars.push(Bar {
                name,
                parts: vec![part],
            }),
        }
    }
    for bar in &mut bars {
        if bar.parts.len() > 1 {
            bar.parts.retain(|(part, _)| part != TOTAL);
        }
    }
    (!bars.is_empty()).then(|| Chart::Bars {
        title: "cycles by stage".to_owned(),
        unit: STAGES.to_owned(),
        bars,
    })
}

/// How long someone had to wait, in the median round: the longest says how long the machine was away.
fn blocked(rows: &[Row]) -> Option<Chart> {
    let blocked: Vec<&Row> = rows
        .iter()
        .filter(|row| row.metric.starts_with(BLOCKED))
        .collect();
    let unit = blocked.first()?.unit.clone();
    let sizes: BTreeSet<u64> = blocked.iter().map(|row| row.prefixes).collect();
    let bar = |row: &&Row| Bar {
        name: if sizes.len() > 1 {
            format!("{}, {}", series(row), row.prefixes)
        } else {
            series(row)
        },
        parts: vec![("median".to_owned(), row.median)],
    };
    Some(Chart::Bars {
        title: format!("blocked time, median round, {unit}"),
        unit,
        bars: blocked.iter().map(bar).collect(),
    })
}

fn sorted(lines: BTreeMap<String, Vec<(f64, f64)>>) -> Vec<Line> {
    lines
        .into_iter()
        .map(|(name, mut points)| {
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
            Line { name, points }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::Rows;

    fn drawn(rows: &Rows) -> BTreeMap<String, String> {
        charts(&rows.0)
            .into_iter()
            .map(|(name, chart)| (name, chart.svg().unwrap()))
            .collect()
    }

    #[test]
    fn every_kind_of_row_has_its_picture() {
        let mut rows = Rows::default();
        for (prefixes, rate) in [(1, 5.0), (10_000, 4.0), (1_000_000, 3.0)] {
            rows.add("forward", "plain", "kedge", prefixes, "pdr", "Mpps", &[rate]);
        }
        rows.add("forward", "plain", "testpmd-mac", 0, "pdr", "Mpps", &[9.0]);
        for subject in ["kedge", "testpmd-mac"] {
            rows.add("forward", "plain", subject, 1, "throughput", "Mpps", &[9.0]);
        }
        rows.add("updates", "rates", "kedge", 1, "most", "Mpps", &[9.0]);
        for (metric, value) in [("p50", 1.0), ("p90", 2.0), ("p99", 30.0), ("p99.9", 400.0)] {
            rows.add("latency", "plain 50 %", "kedge", 1, metric, "us", &[value]);
        }
        for (metric, value) in [("total", 30.0), ("parse", 10.0), ("look up", 20.0)] {
            rows.add("pipeline", "plain", "kedge", 1, metric, "cycles/packet", &[value]);
        }
        let (peer, unit) = ("rte_fib6-minimal", "cycles/packet");
        rows.add("pipeline", "plain", peer, 1, "total", unit, &[25.0]);
        rows.add("publish", "one", "kedge", 1, "blocked reader", "ns", &[50.0]);
        let pictures = drawn(&rows);
        let names: Vec<&str> = pictures.keys().map(String::as_str).collect();
        assert_eq!(names, ["blocked", "latency", "pdr", "stages", "throughput"]);
        for (name, picture) in &pictures {
            assert!(picture.contains("<svg") && picture.contains("</svg>"), "{name}");
        }
        assert!(pictures["pdr"].contains("testpmd-mac, plain"));
        assert!(pictures["stages"].contains("look up") && pictures["stages"].contains(peer));
        assert!(pictures["latency"].contains("p99.9"));
    }

    #[test]
    fn more_lines_than_one_can_tell_apart_are_bars_or_a_picture_each() {
        let mut rows = Rows::default();
        for (case, prefixes) in (0..=MOST_LINES).flat_map(|it| [(it, 1_000_000), (it, 1)]) {
            rows.add(
                "forward",
                &format!("case-{case}"),
                "kedge",
                prefixes,
                "ndr",
                "Mpps",
                &[5.0],
            );
        }
        assert_eq!(drawn(&rows).len(), MOST_LINES + 1);
        rows.add("forward", "case-0", "testpmd-mac", 0, "ndr", "Mpps", &[9.0]);
        let pictures = drawn(&rows);
        assert_eq!(pictures.keys().collect::<Vec<_>>(), ["ndr"]);
        let place = |name: &str| pictures["ndr"].find(&format!("\n{name}\n")).unwrap();
        assert!(place("kedge, case-0, 1") < place("kedge, case-0, 1000000"));
        assert!(place("kedge, case-0, 1000000") < place("kedge, case-1, 1"));
        assert!(place("kedge, case-10, 1000000") < place("testpmd-mac, case-0"));
    }

    #[test]
    fn percentiles_with_several_sizes_have_a_picture_each() {
        let mut rows = Rows::default();
        for (prefixes, value) in [(1, 5.0), (1000, 4.0)] {
            rows.add(
                "handover",
                "hold 20 ms delay",
                "kedge",
                prefixes,
                "p99",
                "ms",
                &[value],
            );
        }
        let pictures = drawn(&rows);
        let names: Vec<&str> = pictures.keys().map(String::as_str).collect();
        assert_eq!(names, ["latency-1", "latency-1000"]);
        assert!(pictures["latency-1"].contains("handover, ms (prefixes: 1)"));
    }

    #[test]
    fn nothing_to_draw_is_no_picture() {
        let mut rows = Rows::default();
        rows.add("fib", "pool", "kedge", 10, "memory", "MiB", &[1.0]);
        assert!(charts(&rows.0).is_empty());
    }

    #[test]
    fn values_of_zero_can_be_drawn() {
        let mut rows = Rows::default();
        rows.add("forward", "plain", "kedge", 1, "ndr", "Mpps", &[0.0]);
        rows.add("forward", "plain", "kedge", 9, "ndr", "Mpps", &[0.0]);
        rows.add("latency", "plain", "kedge", 1, "p50", "us", &[0.0]);
        rows.add("publish", "one", "kedge", 1, "blocked", "ns", &[0.0]);
        assert_eq!(drawn(&rows).len(), 3);
    }
}
