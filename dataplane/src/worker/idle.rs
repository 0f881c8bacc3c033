//! How a worker waits for packets.

use std::time::Duration;

use kedge_config::PollMode;

/// Empty rounds before a worker sleeps.
const SPINS: u32 = 512;
/// The first sleep; each one in a row is twice as long.
const SHORTEST: Duration = Duration::from_micros(10);
/// No sleep is longer: what a packet may wait at an idle worker.
const LONGEST: Duration = Duration::from_micros(800);

/// Waiting, longer the longer nothing comes.
#[derive(Debug)]
pub(crate) struct Idle {
    mode: PollMode,
    rounds: u32,
    sleep: Duration,
}

impl Idle {
    pub(crate) fn new(mode: PollMode) -> Self {
        Self {
            mode,
            rounds: 0,
            sleep: SHORTEST,
        }
    }

    /// There were packets.
    #[inline]
    pub(crate) fn reset(&mut self) {
        self.rounds = 0;
        self.sleep = SHORTEST;
    }

    /// There were none; whether the thread slept.
    #[inline]
    pub(crate) fn wait(&mut self) -> bool {
        match self.next() {
            Some(sleep) => {
                std::thread::sleep(sleep);
                true
            }
            None => {
                std::hint::spin_loop();
                false
            }
        }
    }

    /// Whether the next round comes after a sleep.
    #[inline]
    pub(crate) fn is_sleeping(&self) -> bool {
        self.mode == PollMode::Adaptive && self.rounds >= SPINS
    }

    fn next(&mut self) -> Option<Duration> {
        if !self.is_sleeping() {
            self.rounds = self.rounds.saturating_add(1);
            return None;
        }
        let sleep = self.sleep;
        self.sleep = (sleep * 2).min(LONGEST);
        Some(sleep)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleeps_grow_to_a_bound_and_start_anew() {
        let mut idle = Idle::new(PollMode::Adaptive);
        for _ in 0..2 {
            for _ in 0..SPINS {
                assert_eq!(idle.next(), None);
            }
            let sleeps: Vec<u128> = std::iter::from_fn(|| idle.next())
                .take(8)
                .map(|sleep| sleep.as_micros())
                .collect();
            assert_eq!(sleeps, [10, 20, 40, 80, 160, 320, 640, 800]);
            idle.reset();
        }
    }

    #[test]
    fn a_busy_worker_never_sleeps() {
        let mut idle = Idle::new(PollMode::Busy);
        for _ in 0..10 * SPINS {
            assert_eq!(idle.next(), None);
        }
        assert!(!idle.is_sleeping());
    }
}
