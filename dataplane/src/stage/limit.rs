//! So many in a second, for things that cost more than forwarding.

/// A token bucket over a cycle counter. Full at the start; holds a tenth of a second's worth, at least one.
#[derive(Clone, Debug)]
pub struct Limit {
    cycles_per_token: u64,
    capacity: u64,
    tokens: u64,
    /// Up to here tokens were given.
    filled_at: u64,
}

impl Limit {
    /// `per_second` of a counter that grows by `cycles_per_second`.
    #[must_use]
    pub fn new(per_second: u32, cycles_per_second: u64) -> Self {
        let per_second = u64::from(per_second.max(1));
        let capacity = (per_second / 10).max(1);
        Self {
            cycles_per_token: (cycles_per_second / per_second).max(1),
            capacity,
            tokens: capacity,
            filled_at: 0,
        }
    }

    /// Takes one, if there is one.
    #[inline]
    pub fn take(&mut self, now: u64) -> bool {
        let earned = now.saturating_sub(self.filled_at) / self.cycles_per_token;
        if earned > 0 {
            self.tokens = self.tokens.saturating_add(earned).min(self.capacity);
            self.filled_at = self
                .filled_at
                .saturating_add(earned.saturating_mul(self.cycles_per_token));
        }
        let some = self.tokens > 0;
        self.tokens -= u64::from(some);
        some
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_kept() {
        let mut limit = Limit::new(100, 1_000_000);
        let taken = (0..10_000_000u64)
            .step_by(100)
            .filter(|now| limit.take(*now))
            .count();
        assert!((1000..=1010).contains(&taken), "{taken} in ten seconds");
    }

    #[test]
    fn a_burst_is_bounded_after_silence() {
        let mut limit = Limit::new(100, 1_000_000);
        limit.take(0);
        let taken = (0..1000).filter(|_| limit.take(1_000_000_000)).count();
        assert_eq!(taken, 10);
    }
}
