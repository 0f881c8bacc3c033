//! What came back.

use std::collections::VecDeque;
use std::ops::Range;

use hdrhistogram::Histogram;

use crate::frames;

/// Cycles, some seconds: what takes longer has taken that long.
const LONGEST: u64 = 1 << 34;

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
    /// Packets whose latency is not known.
    pub(crate) unmeasured: u64,
    /// Numbers of packets that left later than their stamps say.
    held: VecDeque<Range<u64>>,
    /// In cycles, if wanted.
    latencies: Option<Histogram<u64>>,
}

impl Tally {
    /// Of a trial that begins at cycle `start`.
    pub(crate) fn new(start: u64, latencies: bool) -> anyhow::Result<Self> {
        // One that grows would take its time for that while packets wait.
        let histogram = || Histogram::new_with_bounds(1, LONGEST, 3);
        let latencies = latencies.then(histogram).transpose()?;
        Ok(Self {
            start,
            next: 0,
            received: 0,
            reordered: 0,
            foreign: 0,
            unmeasured: 0,
            held: VecDeque::new(),
            latencies,
        })
    }

    /// A frame that came at cycle `now`, or, if not `measured`, at some time before.
    #[inline]
    pub(crate) fn frame(&mut self, octets: &[u8], now: u64, measured: bool) {
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
        if !measured || self.is_held(stamp.number) {
            self.unmeasured += 1;
        } else if let Some(latencies) = &mut self.latencies {
            latencies.saturating_record(now.saturating_sub(stamp.cycles));
        }
    }

    /// The generator was kept from its processor between stamping these packets and sending them.
    pub(crate) fn hold(&mut self, numbers: Range<u64>) {
        self.held.push_back(numbers);
    }

    #[inline]
    fn is_held(&mut self, number: u64) -> bool {
        while let Some(first) = self.held.front() {
            if number < first.end {
                return first.contains(&number);
            }
            self.held.pop_front();
        }
        false
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
            tally.frame(&octets, 2_000, true);
        }
        tally.frame(&[0; 60], 2_000, true);
        assert_eq!((tally.received, tally.reordered, tally.foreign), (4, 1, 2));
        let (number, cycles) = (5, 1_000);
        template.write(&mut octets, &mut cursor, Stamp { number, cycles });
        tally.frame(&octets, 9_000, false);
        assert_eq!((tally.received, tally.unmeasured), (5, 1));
        tally.hold(7..9);
        for number in 6..10 {
            let cycles = 1_000;
            template.write(&mut octets, &mut cursor, Stamp { number, cycles });
            tally.frame(&octets, 2_000, true);
        }
        assert_eq!((tally.received, tally.unmeasured), (9, 3));
        assert_eq!(tally.latencies(1_000_000_000), [(500, 1), (1000, 5)]);
    }
}
