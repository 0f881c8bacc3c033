//! When packets are due.

/// Microseconds of packets that may be made up for in one go.
///
/// Whoever was kept from the processor for longer must not make up for it: the
/// device would see a burst at a rate that nobody asked for.
const CATCH_UP: f64 = 20e-6;
/// Microseconds of packets that are sent together, at most a burst: a gateway
/// at high rates sees bursts on a real link, too, and one at low rates does not.
const TOGETHER: f64 = 3e-6;

/// An open-loop schedule: what is due depends on the clock, never on what came back.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    start: u64,
    per_cycle: f64,
    most: u64,
    least: u64,
    done: u64,
    skipped: u64,
}

impl Pace {
    /// `rate` packets each second from cycle `start` on, in bursts of at most `burst`.
    pub(crate) fn new(rate: f64, start: u64, hertz: u64, burst: usize) -> Self {
        let burst = burst.max(1) as u64;
        Self {
            start,
            per_cycle: rate / (hertz.max(1) as f64),
            most: ((rate * CATCH_UP) as u64).max(2 * burst),
            least: ((rate * TOGETHER) as u64).clamp(1, burst),
            done: 0,
            skipped: 0,
        }
    }

    /// How many packets to send at cycle `now`.
    #[inline]
    pub(crate) fn due(&mut self, now: u64) -> usize {
        let elapsed = now.saturating_sub(self.start) as f64;
        let mut due = ((elapsed * self.per_cycle) as u64).saturating_sub(self.done + self.skipped);
        if due > self.most {
            self.skipped += due - self.most;
            due = self.most;
        }
        if due < self.least { 0 } else { due as usize }
    }

    /// So many of those that were due have been offered.
    #[inline]
    pub(crate) fn offered(&mut self, count: usize) {
        self.done += count as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERTZ: u64 = 1_000_000_000;

    #[test]
    fn the_rate_is_kept_whatever_the_steps() {
        for rate in [1_000.0, 123_456.0, 9_999_999.0] {
            let mut pace = Pace::new(rate, 500, HERTZ, 32);
            let (mut now, mut sent) = (500, 0);
            while now < 500 + HERTZ / 10 {
                now += 300 + now % 700;
                let count = pace.due(now).min(32);
                pace.offered(count);
                sent += count;
            }
            let expected = rate / 10.0;
            assert!((sent as f64 - expected).abs() <= 65.0, "{rate}: {sent}");
        }
    }

    #[test]
    fn an_absence_is_not_made_up_for() {
        let mut pace = Pace::new(1e6, 0, HERTZ, 32);
        assert_eq!(pace.due(HERTZ), 64);
        pace.offered(64);
        assert_eq!(pace.due(HERTZ + 2_000), 0);
        assert_eq!(pace.due(HERTZ + 10_000), 10);
    }

    #[test]
    fn a_trickle_is_sent_one_by_one() {
        let mut pace = Pace::new(1e3, 0, HERTZ, 32);
        assert_eq!(pace.due(999_000), 0);
        assert_eq!(pace.due(1_000_001), 1);
    }
}
