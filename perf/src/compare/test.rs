//! Whether two sets of samples differ by more than chance.

use std::collections::BTreeMap;

/// How probable ranks as different as these, or more, are if both sets come from the same: the two-sided
/// Mann-Whitney test, exact, also with ties.
///
/// This one, because the figures of a shared machine have outliers on one side and no bell shape, which ranks
/// do not mind and a t-test does; and because there are few rounds, for which a normal approximation is too
/// sure of itself. It does not pair the A and B of a round: what disturbs is shorter than a turn, so that a
/// pair shares little, and a test of pairs needs six rounds where this one needs four.
pub(super) fn mann_whitney(a: &[f64], b: &[f64]) -> f64 {
    if a.is_empty() || b.is_empty() {
        return 1.0;
    }
    let ranks = ranks(a, b);
    let observed: u64 = ranks.iter().take(a.len()).sum();
    let sums = sums_of_choices(&ranks, a.len());
    // The middle of all sums: what equal sets have on average, doubled to stay whole.
    let total: u64 = ranks.iter().sum();
    let distance =
        |sum: u64| (2.0 * sum as f64 - total as f64 * 2.0 * a.len() as f64 / ranks.len() as f64).abs();
    let least = distance(observed) - 1e-9;
    let (mut extreme, mut all) = (0.0, 0.0);
    for (sum, count) in sums {
        all += count;
        if distance(sum) >= least {
            extreme += count;
        }
    }
    extreme / all
}

/// Twice the rank of each sample, first all of `a`; equal ones share the mean of their ranks.
fn ranks(a: &[f64], b: &[f64]) -> Vec<u64> {
    let all: Vec<f64> = a.iter().chain(b).copied().collect();
    all.iter()
        .map(|value| {
            let below = all.iter().filter(|other| *other < value).count() as u64;
            let equal = all.iter().filter(|other| *other == value).count() as u64;
            2 * below + equal + 1
        })
        .collect()
}

/// In how many ways `count` of these numbers have each sum.
fn sums_of_choices(numbers: &[u64], count: usize) -> BTreeMap<u64, f64> {
    // By how many have been chosen.
    let mut ways: Vec<BTreeMap<u64, f64>> = vec![BTreeMap::new(); count + 1];
    if let Some(none) = ways.first_mut() {
        none.insert(0, 1.0);
    }
    for number in numbers {
        // From the most chosen down, so that each number is chosen once.
        for chosen in (1..=count).rev() {
            let fewer: Vec<(u64, f64)> = ways
                .get(chosen - 1)
                .into_iter()
                .flatten()
                .map(|(sum, count)| (sum + number, *count))
                .collect();
            let Some(more) = ways.get_mut(chosen) else {
                continue;
            };
            for (sum, count) in fewer {
                *more.entry(sum).or_default() += count;
            }
        }
    }
    ways.pop().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9
    }

    #[test]
    fn separate_sets_are_as_improbable_as_the_choices_are_many() {
        // 2 of the 70 ways to choose 4 of 8.
        let p = mann_whitney(&[1.0, 2.0, 3.0, 4.0], &[5.0, 6.0, 7.0, 8.0]);
        assert!(close(p, 2.0 / 70.0), "{p}");
        let p = mann_whitney(&[8.0, 9.0, 10.0], &[1.0, 2.0, 3.0]);
        assert!(close(p, 2.0 / 20.0), "{p}");
    }

    #[test]
    fn mixed_and_equal_sets_do_not_differ() {
        assert!(mann_whitney(&[1.0, 4.0, 5.0, 8.0], &[2.0, 3.0, 6.0, 7.0]) > 0.9);
        assert!(close(mann_whitney(&[1.0; 6], &[1.0; 6]), 1.0));
        assert!(close(mann_whitney(&[], &[]), 1.0));
    }

    #[test]
    fn one_outlier_does_not_hide_a_difference() {
        let a = [10.0, 10.1, 10.2, 10.1, 10.0, 10.2];
        let b = [9.0, 9.1, 9.0, 9.2, 9.1, 30.0];
        let p = mann_whitney(&a, &b);
        assert!(p < 0.1 && p > 0.01, "{p}");
        assert!(mann_whitney(&a, &[9.0, 9.1, 9.0, 9.2, 9.1, 9.3]) < 0.01);
    }

    #[test]
    fn published_values_are_met() {
        // U = 5 with 5 and 5 samples: 19 of the 252 choices are as far out, on either side.
        let p = mann_whitney(&[1.0, 2.0, 3.0, 4.0, 10.0], &[5.0, 6.0, 7.0, 8.0, 9.0]);
        assert!(close(p, 38.0 / 252.0), "{p}");
    }

    #[test]
    fn many_rounds_take_no_long() {
        let a: Vec<f64> = (0..30).map(f64::from).collect();
        let b: Vec<f64> = (30..60).map(f64::from).collect();
        assert!(mann_whitney(&a, &b) < 1e-12);
    }
}
