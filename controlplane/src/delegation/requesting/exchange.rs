//! When a message is sent again (RFC 8415 section 15, with the constants of section 7.6).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::state::Phase;
use crate::time::Time;

/// A message on its way, sent once or several times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchange {
    /// 24 bits, the same in each transmission.
    pub transaction: u32,
    /// When it was sent first; before that, when it will be.
    pub began: Time,
    /// How often it was sent.
    pub sent: u32,
    /// When to send it again.
    pub next_at: Time,
    /// The pause before that, milliseconds.
    pub timeout_ms: u64,
    /// It is a Rebind with the timing of a Confirm (RFC 8415 section 18.2.12).
    pub confirming: bool,
}

/// How a message is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Timing {
    first: Duration,
    longest: Option<Duration>,
    transmissions: Option<u32>,
    lasts: Option<Duration>,
}

/// How the message of a phase is repeated. Renew and Rebind end by their own timers, T2 and the last valid lifetime.
pub(super) fn timing(phase: Phase, confirming: bool, solicit_maximum: Duration) -> Timing {
    let seconds = Duration::from_secs;
    let (first, longest, transmissions, lasts) = match phase {
        Phase::Rebinding if confirming => (1, Some(seconds(4)), None, Some(seconds(10))),
        Phase::Soliciting => (1, Some(solicit_maximum), None, None),
        Phase::Requesting => (1, Some(seconds(30)), Some(10), None),
        Phase::Bound | Phase::Renewing | Phase::Rebinding => (10, Some(seconds(600)), None, None),
        Phase::Releasing => (1, None, Some(4), None),
    };
    Timing {
        first: seconds(first),
        longest,
        transmissions,
        lasts,
    }
}

impl Exchange {
    /// One whose first message leaves at `at`.
    pub(super) fn new(transaction: u32, at: Time, confirming: bool) -> Self {
        Self {
            transaction,
            began: at,
            sent: 0,
            next_at: at,
            timeout_ms: 0,
            confirming,
        }
    }

    /// Whether it has been tried often or long enough.
    pub(super) fn is_over(&self, timing: &Timing, now: Time) -> bool {
        timing.transmissions.is_some_and(|most| self.sent >= most)
            || (self.sent > 0 && timing.lasts.is_some_and(|span| now.since(self.began) >= span))
    }

    /// It is sent at `now`; `random`: uniform over -1000..=1000, thousandths of the RFC's greatest RAND of 0.1.
    /// `positive`: of a first Solicit, whose RAND is greater than 0.
    pub(super) fn transmitted(&mut self, timing: &Timing, random: i64, positive: bool, now: Time) {
        let milliseconds = |span: Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        let rand = |base: i64, random: i64| base.saturating_mul(random) / 10_000;
        let random = if positive { random.abs().max(10) } else { random };
        let timeout = if self.sent == 0 {
            self.began = now;
            let first = milliseconds(timing.first);
            first + rand(first, random)
        } else {
            let before = i64::try_from(self.timeout_ms).unwrap_or(i64::MAX);
            before.saturating_mul(2).saturating_add(rand(before, random))
        };
        let timeout = match timing.longest.map(milliseconds) {
            Some(longest) if timeout > longest => longest + rand(longest, random),
            _ => timeout,
        };
        self.timeout_ms = u64::try_from(timeout).unwrap_or(1);
        self.sent = self.sent.saturating_add(1);
        self.next_at = now.after(Duration::from_millis(self.timeout_ms));
        // An exchange of limited length ends then, not at the timeout after it.
        if let Some(span) = timing.lasts {
            self.next_at = self.next_at.min(self.began.after(span));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeouts(phase: Phase, confirming: bool, random: i64) -> Vec<u64> {
        let timing = timing(phase, confirming, Duration::from_secs(3600));
        let mut now = Time(Duration::from_secs(1000));
        let mut exchange = Exchange::new(1, now, confirming);
        let mut all = Vec::new();
        while !exchange.is_over(&timing, now) && all.len() < 20 {
            exchange.transmitted(&timing, random, false, now);
            all.push(u64::try_from(exchange.next_at.since(now).as_millis()).unwrap());
            now = exchange.next_at;
        }
        all
    }

    /// The tables of RFC 8415 sections 7.6 and 15, with RAND = 0.
    #[test]
    fn timeouts_are_those_of_the_rfc() {
        let solicit = timeouts(Phase::Soliciting, false, 0);
        assert_eq!(solicit[..4], [1000, 2000, 4000, 8000]);
        assert_eq!(solicit[12..15], [3_600_000; 3]);
        assert_eq!(
            timeouts(Phase::Requesting, false, 0),
            [
                1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000, 30_000, 30_000
            ]
        );
        assert_eq!(timeouts(Phase::Releasing, false, 0), [1000, 2000, 4000, 8000]);
        let renew = timeouts(Phase::Renewing, false, 0);
        assert_eq!(
            renew[..8],
            [10_000, 20_000, 40_000, 80_000, 160_000, 320_000, 600_000, 600_000]
        );
        // 1 + 2 + 4 + what is left of 10.
        assert_eq!(timeouts(Phase::Rebinding, true, 0), [1000, 2000, 4000, 3000]);
    }

    #[test]
    fn they_vary_by_a_tenth() {
        assert_eq!(timeouts(Phase::Requesting, false, 1000)[..3], [1100, 2310, 4851]);
        assert_eq!(timeouts(Phase::Requesting, false, -1000)[..3], [900, 1710, 3249]);
        let timing = timing(Phase::Soliciting, false, Duration::from_secs(3600));
        for random in [-1000, -1, 0, 1, 1000] {
            let mut exchange = Exchange::new(1, Time::default(), false);
            exchange.transmitted(&timing, random, true, Time::default());
            assert!(exchange.timeout_ms > 1000, "{random}: {}", exchange.timeout_ms);
        }
    }
}
