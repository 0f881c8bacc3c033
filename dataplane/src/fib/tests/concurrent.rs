//! Readers on other threads while the table changes: random tables and random changes, against the slow reference.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::*;

const READERS: usize = 2;
/// How often the transactions are carried out, each time with other results.
const ROUNDS: u32 = 3;
/// Keys that readers look up, at most: the slow reference takes its time for each, in each version.
const KEYS: usize = 128;
/// Passes for which a reader keeps a version, while the writer goes on.
const KEPT: usize = 8;

type Changes = Vec<(Ipv6Net, u32)>;

/// A number for each version, and what is to be found in it.
struct Expected {
    keys: Vec<u128>,
    results: Vec<Vec<u32>>,
}

impl Expected {
    /// Whether every way to look up finds that.
    fn check(&self, number: usize, fib: &Fib) -> Result<(), String> {
        let expected = &self.results[number];
        for method in methods() {
            let mut results = vec![7; self.keys.len()];
            fib.lookup_burst_by(method, &self.keys, &mut results);
            if let Some(at) = (0..results.len()).find(|at| results[*at] != expected[*at]) {
                return Err(format!(
                    "version {number}, {method:?} of {:x}: {} instead of {}",
                    self.keys[at], results[at], expected[at]
                ));
            }
        }
        Ok(())
    }
}

/// All transactions of all rounds.
fn rounds(transactions: &[Changes]) -> Vec<Changes> {
    let of = |round: u32| {
        transactions.iter().map(move |changes| {
            let anew = |(prefix, result): &(Ipv6Net, u32)| match *result {
                NO_MATCH => (*prefix, NO_MATCH),
                result => (*prefix, result + 10 * round),
            };
            changes.iter().map(anew).collect()
        })
    };
    (0..ROUNDS).flat_map(of).collect()
}

/// Lets readers end, however the writer does.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// A version on its way to readers, as a publication would have it.
type Slot = Mutex<(usize, Fib)>;

fn read(slot: &Slot, written: &AtomicBool, expected: &Expected) -> Result<(), String> {
    let mut kept: Option<(usize, Fib)> = None;
    for pass in 0.. {
        // Asked first, so that the last version is read by every reader.
        let last = written.load(Ordering::Acquire);
        let (number, fib) = slot.lock().clone();
        expected.check(number, &fib)?;
        if let Some((number, fib)) = &kept {
            expected.check(*number, fib)?;
        }
        if pass % KEPT == 0 {
            kept = Some((number, fib));
        }
        if last {
            break;
        }
    }
    Ok(())
}

fn readers_find_what_the_slow_one_finds(transactions: Vec<Changes>) -> Result<(), TestCaseError> {
    let transactions = rounds(&transactions);
    let all: Vec<u128> = transactions
        .iter()
        .flatten()
        .flat_map(|(prefix, _)| keys_of(*prefix))
        .collect();
    let keys: Vec<u128> = all
        .iter()
        .step_by(all.len().div_ceil(KEYS).max(1))
        .copied()
        .collect();
    let mut reference = Reference::default();
    let mut results = Vec::new();
    // The first version is empty.
    for changes in std::iter::once(&Changes::new()).chain(&transactions) {
        for (prefix, result) in changes {
            reference.set(*prefix, *result);
        }
        results.push(keys.iter().map(|key| reference.lookup(*key)).collect());
    }
    let expected = Expected { keys, results };

    let mut table = Table::new();
    let slot = Slot::new((0, table.commit()));
    let written = AtomicBool::new(false);
    let begin = Barrier::new(READERS + 1);
    let outcomes: Vec<Result<(), String>> = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..READERS)
            .map(|_| {
                scope.spawn(|| {
                    begin.wait();
                    read(&slot, &written, &expected)
                })
            })
            .collect();
        begin.wait();
        let done = Done(&written);
        for (number, changes) in (1..).zip(&transactions) {
            for (prefix, result) in changes {
                table.set(*prefix, *result).unwrap();
            }
            *slot.lock() = (number, table.commit());
        }
        drop(done);
        readers.into_iter().map(|reader| reader.join().unwrap()).collect()
    });
    for outcome in outcomes {
        prop_assert_eq!(outcome, Ok(()));
    }
    Ok(())
}

fn many(prefix: impl Strategy<Value = Ipv6Net>) -> impl Strategy<Value = Vec<Changes>> {
    let change = (prefix, prop_oneof![1 => Just(NO_MATCH), 2 => 1u32..5]);
    prop::collection::vec(prop::collection::vec(change, 0..40), 1..20)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    #[cfg_attr(miri, ignore = "too long: see versions::tests")]
    fn nested_prefixes_beside_readers(transactions in many(nesting())) {
        readers_find_what_the_slow_one_finds(transactions)?;
    }

    #[test]
    #[cfg_attr(miri, ignore = "too long: see versions::tests")]
    fn usual_prefixes_beside_readers(transactions in many(usual())) {
        readers_find_what_the_slow_one_finds(transactions)?;
    }

    #[test]
    #[cfg_attr(miri, ignore = "too long: see versions::tests")]
    fn sparse_prefixes_beside_readers(transactions in many(sparse())) {
        readers_find_what_the_slow_one_finds(transactions)?;
    }
}
