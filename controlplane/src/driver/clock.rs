//! The one place that reads clocks.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::time::Time;

/// The wall clock at start, and the monotonic clock from there: it never steps.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    wall: Time,
    start: Instant,
}

impl Clock {
    /// A clock that starts now.
    #[must_use]
    pub fn start() -> Self {
        Self {
            // Before 1970 there is no PMIPv6 timestamp to be had anyway.
            wall: Time(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()),
            start: Instant::now(),
        }
    }

    /// Now.
    #[must_use]
    pub fn now(&self) -> Time {
        self.wall.after(self.start.elapsed())
    }

    /// The instant of a time on this clock; a time before the start is the start.
    #[must_use]
    pub fn instant(&self, time: Time) -> tokio::time::Instant {
        let start = tokio::time::Instant::from_std(self.start);
        start.checked_add(time.since(self.wall)).unwrap_or(start)
    }

    /// How long it has been running.
    #[must_use]
    pub fn uptime(&self) -> std::time::Duration {
        self.start.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_deadline_is_as_far_away_as_its_time() {
        let clock = Clock::start();
        let now = clock.now();
        let deadline = clock.instant(now.after(Duration::from_secs(5)));
        let away = deadline.duration_since(tokio::time::Instant::now());
        assert!(
            away > Duration::from_millis(4500) && away <= Duration::from_secs(5),
            "{away:?}"
        );
        assert!(clock.instant(Time::default()) <= tokio::time::Instant::now());
    }
}
