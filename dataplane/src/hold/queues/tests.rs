//! The queues against a slow, obvious reference.

use std::collections::{BTreeMap, VecDeque};

use arrayvec::ArrayVec;
use proptest::prelude::*;

use super::*;

const BOUNDS: Bounds = Bounds {
    packets: 12,
    packets_per_prefix: 5,
    octets_per_prefix: 400,
    age: 100,
    overflow: Overflow::DropNewest,
    cycles_per_release: 10,
};

/// Four of six queues have a share, two each the same.
fn share(key: u64) -> Option<u64> {
    (key >= 2).then_some(key / 2)
}

/// What the queues are, said plainly.
#[derive(Default)]
struct Reference {
    queues: BTreeMap<u64, VecDeque<(u32, usize)>>,
}

impl Reference {
    fn packets(&self) -> usize {
        self.queues.values().map(VecDeque::len).sum()
    }

    fn push(&mut self, bounds: &Bounds, key: u64, item: u32, octets: usize) -> Pushed<u32> {
        let all = self.packets();
        let together = |other: u64| other == key || share(key).is_some() && share(other) == share(key);
        let same = self.queues.iter().filter(|(other, _)| together(**other));
        let counted: Vec<usize> = same.flat_map(|(_, queue)| queue.iter().map(|it| it.1)).collect();
        let octets_held: usize = counted.iter().sum();
        let queue = self.queues.entry(key).or_default();
        let full = if counted.len() >= bounds.packets_per_prefix
            || octets_held + octets > bounds.octets_per_prefix
        {
            Some(share(key).map_or(Full::Prefix, |_| Full::Flow))
        } else {
            (all >= bounds.packets).then_some(Full::All)
        };
        let result = match full {
            None => {
                queue.push_back((item, octets));
                Pushed::Held
            }
            Some(full) => {
                let fits = queue
                    .front()
                    .is_some_and(|first| octets_held - first.1 + octets <= bounds.octets_per_prefix);
                if bounds.overflow == Overflow::DropOldest && fits {
                    queue.push_back((item, octets));
                    Pushed::Instead(queue.pop_front().unwrap().0, full)
                } else {
                    Pushed::Refused(item, full)
                }
            }
        };
        self.queues.retain(|_, queue| !queue.is_empty());
        result
    }
}

fn release<T>(queues: &mut Queues<T>) -> Option<T> {
    let queue = queues.next_to_release()?;
    queues.release(queue)
}

#[derive(Clone, Debug)]
enum Step {
    Push(u64, usize),
    Release(u64),
    Hold(u64),
    TakeReleased,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0u64..6, 1usize..180).prop_map(|(key, octets)| Step::Push(key, octets)),
        1 => (0u64..6).prop_map(Step::Release),
        1 => (0u64..6).prop_map(Step::Hold),
        2 => Just(Step::TakeReleased),
    ];
    prop::collection::vec(step, 0..200)
}

proptest! {
    #[test]
    fn they_are_what_the_reference_says(steps in steps(), oldest in any::<bool>()) {
        let overflow = if oldest { Overflow::DropOldest } else { Overflow::DropNewest };
        let bounds = Bounds { overflow, ..BOUNDS };
        let (mut queues, mut reference) = (Queues::new(bounds), Reference::default());
        let mut releasing: BTreeMap<u64, bool> = BTreeMap::new();
        for (number, step) in steps.into_iter().enumerate() {
            let item = u32::try_from(number).unwrap();
            match step {
                Step::Push(key, octets) => {
                    let expected = reference.push(&bounds, key, item, octets);
                    prop_assert_eq!(queues.push(key, share(key), (key, item), octets, 0, 1), match expected {
                        Pushed::Held => Pushed::Held,
                        Pushed::Instead(it, full) => Pushed::Instead((key, it), full),
                        Pushed::Refused(it, full) => Pushed::Refused((key, it), full),
                    });
                }
                Step::Release(key) | Step::Hold(key) => {
                    let release = matches!(step, Step::Release(_));
                    if let Some(queue) = queues.index.get(key) {
                        queues.decide(queue, if release { State::Releasing } else { State::Holding }, 2);
                        releasing.insert(key, release);
                    }
                }
                Step::TakeReleased => match release(&mut queues) {
                    Some((key, item)) => {
                        prop_assert!(releasing[&key]);
                        prop_assert_eq!(reference.queues.get_mut(&key).unwrap().pop_front().unwrap().0, item);
                    }
                    None => prop_assert!(!releasing.values().any(|it| *it)),
                },
            }
            reference.queues.retain(|_, queue| !queue.is_empty());
            releasing.retain(|key, _| reference.queues.contains_key(key));
            prop_assert_eq!(queues.packets(), reference.packets());
            prop_assert_eq!(queues.queues(), reference.queues.len());
            prop_assert_eq!(queues.is_releasing(), releasing.values().any(|it| *it));
            for key in 0..6 {
                prop_assert_eq!(queues.contains(key), reference.queues.contains_key(&key));
            }
            let octets: usize = reference.queues.values().flatten().map(|it| it.1).sum();
            prop_assert_eq!(queues.octets(), octets);
        }
    }
}

#[test]
fn every_queue_has_its_turn() {
    let bounds = Bounds {
        packets: 100,
        ..BOUNDS
    };
    let mut queues = Queues::new(bounds);
    for key in 0..100 {
        assert_eq!(queues.push(key, None, key, 1, 0, 1), Pushed::Held);
    }
    let mut seen = Vec::new();
    for _ in 0..100usize.div_ceil(LOOKS) {
        let mut looks = ArrayVec::new();
        queues.looks(&mut looks);
        seen.extend(looks);
    }
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 100);
    for queue in seen {
        queues.decide(queue, State::Releasing, 2);
    }
    let mut released: Vec<u64> = std::iter::from_fn(|| release(&mut queues)).collect();
    released.sort_unstable();
    assert_eq!(released, (0..100).collect::<Vec<u64>>());
    assert!(queues.is_empty());
}

#[test]
fn a_packet_is_old_only_while_it_is_held() {
    let mut queues = Queues::new(BOUNDS);
    assert_eq!(queues.push(7, None, 'a', 1, 1000, 1), Pushed::Held);
    let queue = queues.index.get(7).unwrap();
    assert_eq!(queues.oldest(queue, 1100), Some((&'a', false)));
    assert_eq!(queues.oldest(queue, 1101), Some((&'a', true)));
    assert!(!queues.is_undecided(queue, 1) && queues.is_undecided(queue, 2));
    queues.decide(queue, State::Releasing, 2);
    assert_eq!(queues.oldest(queue, 9999), Some((&'a', false)));
}

/// However fast packets join a queue that is emptied, it gets empty.
#[test]
fn a_release_is_paced_and_ends() {
    let mut queues = Queues::new(Bounds {
        packets: 1000,
        packets_per_prefix: 1000,
        octets_per_prefix: 100_000,
        ..BOUNDS
    });
    for item in 0..200 {
        queues.push(1, None, item, 1, 0, 1);
    }
    queues.decide(queues.index.get(1).unwrap(), State::Releasing, 2);
    // Without arrivals: one in ten cycles.
    let mut out = Vec::new();
    queues.allowance(10_000, 1);
    assert!(release(&mut queues).is_some());
    for now in 10_001..=10_500 {
        for _ in 0..queues.allowance(now, 64) {
            out.extend(release(&mut queues));
        }
    }
    assert_eq!(out.len(), 50);
    // One arrives in every cycle, ten times the pace.
    for now in 10_501..10_501 + 200 {
        if queues.is_empty() {
            break;
        }
        queues.push(1, None, now, 1, now, 1);
        for _ in 0..queues.allowance(now, 64) {
            out.extend(release(&mut queues));
        }
    }
    assert!(queues.is_empty(), "{} are left", queues.packets());
}
