//! What came back.

use hdrhistogram::Histogram;

use crate::frames;

/// Counts the packets of one trial.
pub(crate) struct Tally {
    start: u64,
    next: u64,
    /// Packets of this trial.
    pub(crate) received: u64,
    /// Those that came after one that was sent later.
    pub(crate) reordered: u64,
    /// Frames that are not of this trial.
    pub(crate) foreign: u64,
    /// In cycles, if wanted.
    latencies: Option<Histogram<u64>>,
}

impl Tally {
    /// Of a trial that begins at cycle `start`.
    pub(crate) fn new(start: u64, latencies: bool) -> anyhow::Result<Self> {
        let latencies = if latencies { Some(Histogram::new(3)?) } else { None };
        Ok(Self {
            start,
            next: 0,
            received: 0,
            reordered: 0,
            foreign: 0,
            latencies,
        })
    }

    /// A frame that came at cycle `now`.
    #[inline]
    pub(crate) fn frame(&mut self, octets: &[u8], now: u64) {
        // One that was sent before is a straggler of an earlier trial.
        let Some(stamp) = frames::stamp(octets).filter(|stamp| stamp.cycles >= self.start) else {
            self.foreign += 1;
            return;
        };
        self.received += 1;
        if stamp.number < self.next {
            self.reordered += 1;
        } else {
            self.next = stamp.number + 1;
        }
        if let Some(latencies) = &mut self.latencies {
            latencies.saturating_record(now.saturating_sub(stamp.cycles));
        }
    }

    /// Latencies in nanoseconds, with how often each was seen.
    pub(crate) fn latencies(&self, hertz: u64) -> Vec<(u64, u64)> {
        let Some(latencies) = &self.latencies else {
            return Vec::new();
        };
        let nanoseconds = |cycles: u64| (cycles as f64 * 1e9 / hertz.max(1) as f64) as u64;
        latencies
            .iter_recorded()
            .map(|value| (nanoseconds(value.value_iterated_to()), value.count_at_value()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::{Plan, Stamp, Varied};

    #[test]
    fn stragglers_strangers_and_the_late_are_told_apart() {
        let elsewhere = "2001:db8:f00::1".parse().unwrap();
        let template = Plan {
            gateway: [2; 6],
            destination: elsewhere,
            source: elsewhere,
            outer: None,
            varied: Varied::Destination,
            prefixes: 1,
        }
        .template();
        let mut cursor = template.cursor();
        let mut tally = Tally::new(1_000, true).unwrap();
        let mut octets = vec![0; template.len()];
        for (number, cycles) in [(0, 1_000), (2, 1_000), (1, 1_500), (3, 1_000), (4, 999)] {
            template.write(&mut octets, &mut cursor, Stamp { number, cycles });
            tally.frame(&octets, 2_000);
        }
        tally.frame(&[0; 60], 2_000);
        assert_eq!((tally.received, tally.reordered, tally.foreign), (4, 1, 2));
        assert_eq!(tally.latencies(1_000_000_000), [(500, 1), (1000, 3)]);
    }
}
