//! Whether the generator was there when a packet came.

/// Seconds between two looks at the queue that are a round of the loop. One that takes longer was not: the
/// scheduler, the kernel or the hypervisor had the processor.
const ROUND: f64 = 10e-6;

/// Notices absences. What is found after one may have lain there for as long, so its latency is not known;
/// nor is it of what comes next, until the queue has been emptied.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Watch {
    looked: u64,
    round: u64,
    behind: bool,
    absent: u64,
}

impl Watch {
    /// Begins at cycle `now`.
    pub(crate) fn new(now: u64, hertz: u64) -> Self {
        Self {
            looked: now,
            round: (ROUND * hertz as f64) as u64,
            behind: false,
            absent: 0,
        }
    }

    /// A look at the queue at cycle `now`, which may have `more`; whether what was found came just now.
    #[inline]
    pub(crate) fn looked(&mut self, now: u64, more: bool) -> bool {
        let absent = self.is_long(self.looked, now);
        if absent {
            self.absent += now.saturating_sub(self.looked);
        }
        self.looked = now;
        let measured = !absent && !self.behind;
        self.behind = !measured && more;
        measured
    }

    /// Cycles of all absences.
    pub(crate) fn absent(&self) -> u64 {
        self.absent
    }

    /// Whether more lies between these cycles than a round of the loop takes.
    #[inline]
    pub(crate) fn is_long(&self, from: u64, to: u64) -> bool {
        to.saturating_sub(from) > self.round
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absence_lasts_until_the_queue_is_empty() {
        let mut watch = Watch::new(0, 1_000_000_000);
        assert!(watch.looked(9_000, true));
        assert!(!watch.looked(30_000, true));
        assert!(!watch.looked(31_000, true));
        assert!(!watch.looked(32_000, false));
        assert!(watch.looked(33_000, true));
        assert!(!watch.looked(50_000, false));
        assert!(watch.looked(51_000, false));
        assert_eq!(watch.absent(), 21_000 + 17_000);
    }
}
