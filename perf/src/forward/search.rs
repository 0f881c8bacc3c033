//! The highest rate at which a device loses nothing, or no more than a stated part.
//!
//! The binary search of RFC 2544 with the multiple-trial rule: a rate is offered
//! several times, and passes if most of the trials do, because on a virtual
//! machine any single trial may meet a moment in which the processor was lent to
//! someone else. As in MLRsearch, the goals share their trials, and the search
//! starts where overload has shown the device's own rate to be.

use anyhow::ensure;

/// How to search.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// The search ends when the rates that passed and failed are this close, as a ratio less one.
    pub(crate) precision: f64,
    /// Trials at one rate, at most; a decided rate gets no more.
    pub(crate) trials: usize,
}

/// One trial.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Trial {
    /// Packets that were in fact offered each second.
    pub(crate) offered: f64,
    /// The part of them that was lost.
    pub(crate) loss: f64,
    /// The generator could not offer what it was asked for.
    pub(crate) starved: bool,
}

/// What was found for a goal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Found {
    /// Packets offered each second in a trial that passed; zero, if none did.
    pub(crate) rate: f64,
    /// It passed all the generator could offer: the device may be faster.
    pub(crate) limited: bool,
}

/// A search, with all its trials so far.
pub(crate) struct Search<F> {
    settings: Settings,
    ceiling: f64,
    guess: f64,
    /// In the order of their rates.
    rates: Vec<Rate>,
    measure: F,
}

#[derive(Debug)]
struct Rate {
    asked: f64,
    trials: Vec<Trial>,
}

/// Below this part of the ceiling nothing is looked for.
const FLOOR: f64 = 1e-3;

impl<F: FnMut(f64) -> anyhow::Result<Trial>> Search<F> {
    /// Looks below `ceiling`, first near `guess`; `measure` has one trial at a rate.
    pub(crate) fn new(settings: Settings, ceiling: f64, guess: f64, measure: F) -> Self {
        Self {
            settings,
            ceiling,
            guess: guess.clamp(ceiling * FLOOR, ceiling),
            rates: Vec::new(),
            measure,
        }
    }

    /// The highest rate with a loss of at most `loss`.
    pub(crate) fn find(&mut self, loss: f64) -> anyhow::Result<Found> {
        ensure!(
            self.ceiling.is_finite() && self.ceiling > 0.0,
            "nothing comes back from the device: there is no rate to search below"
        );
        let mut step = self.settings.precision;
        loop {
            let failed = self.lowest_failed(loss);
            let passed = self.highest_passed(loss, failed);
            let next = match (passed, failed) {
                (None, None) => self.guess,
                (Some(passed), None) if passed >= self.ceiling || self.starved(passed) => {
                    return Ok(self.found(passed, loss, true));
                }
                (Some(passed), None) => {
                    step = (step * 2.0).min(1.0);
                    (passed * (1.0 + step)).min(self.ceiling)
                }
                (None, Some(failed)) if failed <= self.ceiling * FLOOR => {
                    return Ok(Found {
                        rate: 0.0,
                        limited: false,
                    });
                }
                (None, Some(failed)) => {
                    let below = failed * (1.0 - step);
                    step = (step * 2.0).min(0.5);
                    below
                }
                (Some(passed), Some(failed)) if failed / passed - 1.0 <= self.settings.precision => {
                    return Ok(self.found(passed, loss, false));
                }
                // In the middle, counted in factors: the precision is a ratio, too.
                (Some(passed), Some(failed)) => (passed * failed).sqrt(),
            };
            self.decide(next, loss)?;
        }
    }

    /// Has trials at a rate until it is known whether it passes.
    fn decide(&mut self, asked: f64, loss: f64) -> anyhow::Result<()> {
        let at = match self.rates.binary_search_by(|rate| rate.asked.total_cmp(&asked)) {
            Ok(at) => at,
            Err(at) => {
                let trials = Vec::new();
                self.rates.insert(at, Rate { asked, trials });
                at
            }
        };
        let most = self.settings.trials;
        while let Some(rate) = self.rates.get_mut(at)
            && rate.passes(loss, most).is_none()
        {
            rate.trials.push((self.measure)(asked)?);
        }
        Ok(())
    }

    fn lowest_failed(&self, loss: f64) -> Option<f64> {
        let most = self.settings.trials;
        let failed = self
            .rates
            .iter()
            .find(|rate| rate.passes(loss, most) == Some(false));
        failed.map(|rate| rate.asked)
    }

    /// Below `failed`: what passes above a rate that did not, was luck.
    fn highest_passed(&self, loss: f64, failed: Option<f64>) -> Option<f64> {
        let most = self.settings.trials;
        self.rates
            .iter()
            .rev()
            .find(|rate| {
                failed.is_none_or(|failed| rate.asked < failed) && rate.passes(loss, most) == Some(true)
            })
            .map(|rate| rate.asked)
    }

    /// The generator did not offer what it was asked for.
    fn starved(&self, asked: f64) -> bool {
        let mut trials = self
            .rates
            .iter()
            .filter(|rate| rate.asked == asked)
            .flat_map(|rate| &rate.trials);
        trials.all(|trial| trial.starved)
    }

    fn found(&self, asked: f64, loss: f64, limited: bool) -> Found {
        let trials = self.rates.iter().filter(|rate| rate.asked == asked);
        let offered = trials
            .flat_map(|rate| &rate.trials)
            .filter(|trial| trial.loss <= loss)
            .map(|trial| trial.offered);
        Found {
            rate: crate::report::median(offered),
            limited,
        }
    }
}

impl Rate {
    /// Whether most of its trials pass, whatever the ones still to come say.
    fn passes(&self, loss: f64, most: usize) -> Option<bool> {
        let needed = most / 2 + 1;
        let passed = self.trials.iter().filter(|trial| trial.loss <= loss).count();
        if passed >= needed {
            Some(true)
        } else if self.trials.len() - passed > most - needed {
            Some(false)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: Settings = Settings {
        precision: 0.01,
        trials: 3,
    };

    /// A device that forwards `capacity`, and loses `unlucky` of every n-th trial besides.
    fn device(
        capacity: f64,
        unlucky: f64,
        every: usize,
        count: &mut usize,
    ) -> impl FnMut(f64) -> anyhow::Result<Trial> {
        move |offered| {
            *count += 1;
            let overload = (1.0 - capacity / offered).max(0.0);
            let luck = if count.is_multiple_of(every) { unlucky } else { 0.0 };
            Ok(Trial {
                offered,
                loss: overload.max(luck),
                starved: false,
            })
        }
    }

    #[test]
    fn a_steady_device_is_found_from_any_guess() {
        for guess in [0.1e6, 5.0e6, 7.0e6, 12.0e6, 99e6] {
            let mut count = 0;
            let mut search = Search::new(SETTINGS, 12e6, guess, device(7e6, 0.0, 1, &mut count));
            let found = search.find(0.0).unwrap();
            drop(search);
            assert!(
                !found.limited && found.rate <= 7e6 && found.rate >= 7e6 / 1.011,
                "{guess}: {found:?}"
            );
            assert!(count < 40, "{guess}: {count} trials");
        }
    }

    #[test]
    fn a_larger_permitted_loss_finds_a_higher_rate_and_shares_the_trials() {
        let mut count = 0;
        let mut search = Search::new(SETTINGS, 12e6, 7e6, device(7e6, 0.0, 1, &mut count));
        let partial = search.find(0.05).unwrap().rate;
        let none = search.find(0.0).unwrap().rate;
        assert!(partial > 7.2e6 && partial <= 7e6 / 0.95 + 1.0, "{partial}");
        assert!(none <= 7e6 && none > 6.9e6, "{none}");
        let again = search.rates.iter().map(|rate| rate.trials.len()).sum::<usize>();
        search.find(0.05).unwrap();
        assert_eq!(
            again,
            search.rates.iter().map(|rate| rate.trials.len()).sum::<usize>()
        );
    }

    #[test]
    fn one_unlucky_trial_of_three_does_not_decide() {
        let mut count = 0;
        let mut search = Search::new(SETTINGS, 12e6, 7e6, device(7e6, 0.001, 3, &mut count));
        assert!(search.find(0.0).unwrap().rate > 6.9e6);
    }

    #[test]
    fn a_device_that_always_loses_has_no_rate() {
        let mut count = 0;
        let mut search = Search::new(SETTINGS, 12e6, 7e6, device(7e6, 0.001, 1, &mut count));
        assert_eq!(search.find(0.0).unwrap().rate, 0.0);
        assert!(search.find(0.001).unwrap().rate > 6.9e6);
        drop(search);
        assert!(count < 100, "{count} trials");
    }

    #[test]
    fn a_device_faster_than_the_generator_is_said_to_be() {
        let measure = |asked: f64| {
            Ok(Trial {
                offered: asked.min(9e6),
                loss: 0.0,
                starved: asked > 9e6,
            })
        };
        let mut search = Search::new(SETTINGS, 12e6, 8e6, measure);
        let found = search.find(0.0).unwrap();
        assert!(found.limited && (8e6..=9.1e6).contains(&found.rate), "{found:?}");
    }

    #[test]
    fn no_ceiling_is_an_error_and_so_is_a_trial_that_fails() {
        assert!(
            Search::new(SETTINGS, 0.0, 0.0, |_| unreachable!())
                .find(0.0)
                .is_err()
        );
        let mut search = Search::new(SETTINGS, 1e6, 1e6, |_| Err(anyhow::anyhow!("gone")));
        assert_eq!(search.find(0.0).unwrap_err().to_string(), "gone");
    }
}
