//! Numbers to tables and JSON.

use std::collections::BTreeMap;
use std::fmt::Write;

use hdrhistogram::Histogram;
use serde::Serialize;

/// The median of some numbers; zero of none.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// A bench, as committed under `perf/results`.
#[derive(Serialize)]
pub(crate) struct Report {
    pub(crate) bench: &'static str,
    pub(crate) command: String,
    pub(crate) processor: String,
    pub(crate) kernel: String,
    pub(crate) load_average_before: String,
    pub(crate) frame_octets: usize,
    pub(crate) seconds: usize,
    pub(crate) rounds: usize,
    /// Packets per second by device, one for each round.
    pub(crate) received: BTreeMap<String, Vec<f64>>,
    /// To the peer in the same round: median, least, most.
    pub(crate) ratio_to_testpmd: BTreeMap<String, [f64; 3]>,
}

impl Report {
    /// Fills in the ratios.
    pub(crate) fn compare(&mut self, peer: &str) -> anyhow::Result<()> {
        let Some(base) = self.received.get(peer).cloned() else {
            return Ok(());
        };
        for (device, rates) in &self.received {
            // In thousandths, three digits: more would pretend.
            let mut histogram = Histogram::<u64>::new(3)?;
            for (rate, base) in rates.iter().zip(&base).filter(|(_, base)| **base > 0.0) {
                histogram.record((rate / base * 1000.0) as u64)?;
            }
            let of = |value: u64| value as f64 / 1000.0;
            let ratio = [
                of(histogram.value_at_quantile(0.5)),
                of(histogram.min()),
                of(histogram.max()),
            ];
            self.ratio_to_testpmd.insert(device.clone(), ratio);
        }
        Ok(())
    }

    /// For people.
    pub(crate) fn table(&self) -> String {
        let mut text = format!(
            "{:<22} {:>12} {:>24}\n",
            "device", "Mpps, median", "ratio to testpmd (range)"
        );
        for (device, rates) in &self.received {
            let [middle, least, most] = self.ratio_to_testpmd.get(device).copied().unwrap_or_default();
            let rate = median(rates.iter().copied()) / 1e6;
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "{device:<22} {rate:>12.2} {:>24}",
                format!("{middle:.2} ({least:.2}-{most:.2})")
            );
        }
        text
    }
}

/// What this machine calls its processor.
pub(crate) fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split(':').nth(1));
    let count = text.lines().filter(|line| line.starts_with("processor")).count();
    format!("{} x {}", count, name.unwrap_or("unknown").trim())
}

/// The first line of a file of the kernel's.
pub(crate) fn line_of(path: &str) -> String {
    std::fs::read_to_string(path)
        .unwrap_or_default()
        .trim()
        .to_owned()
}
