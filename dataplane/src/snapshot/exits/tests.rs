use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::tunnel::{gre, gtpu};

/// Of a TEID or a GRE key.
fn key(number: u64) -> u128 {
    match number >> 32 {
        0 => gtpu::key(number as u32, 7),
        _ => gre::peer_key(Some(number as u32), 7),
    }
}

fn exit(tunnel: u32, source: u64) -> Exit {
    Exit::new(tunnel, tunnel % (ENDS - 1) + 1, SourcePrefix::of(source))
}

/// Those in slots are found, the others are in full buckets, twice; nothing else is there.
fn agree(writer: &ExitWriter, slow: &HashMap<u64, Exit>) {
    let exits = writer.commit();
    let mut missing = 0;
    for (number, exit) in slow {
        match exits.find(key(*number)) {
            Some(found) => assert_eq!(found, *exit, "{number:x}"),
            None => {
                missing += 1;
                let first = hash(*number);
                for (buckets, hash) in [(&exits.first, first), (&exits.second, hash(first))] {
                    let full = buckets.all.get(buckets.number(hash));
                    assert!(full.0.iter().all(|slot| !slot.is_empty()), "{number:x}");
                }
            }
        }
    }
    let [count, second, neither] = writer.counts();
    assert_eq!((count, neither), (slow.len(), missing));
    assert_eq!(in_slots(&exits.first), count - second);
    assert_eq!(in_slots(&exits.second), second - neither);
}

fn in_slots(buckets: &Buckets) -> usize {
    let slots = (0..buckets.count).flat_map(|at| buckets.all.get(at).0);
    slots.filter(|slot| !slot.is_empty()).count()
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Put(u32, u64),
    SetSource(u32, u64),
    Remove,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1u32..1000, any::<u64>()).prop_map(|(tunnel, source)| Step::Put(tunnel, source)),
        1 => (1u32..1000, any::<u64>()).prop_map(|(tunnel, source)| Step::SetSource(tunnel, source)),
        2 => Just(Step::Remove),
    ]
}

/// Numbers of TEIDs and GRE keys, and of these so many of which few buckets are full.
fn numbers(crowded: bool) -> Vec<u64> {
    let all = (0..1200u64).map(|at| (at & 1) << 32 | u64::from((at as u32).wrapping_mul(0x85eb_ca6b)));
    let crowd = (0..).filter(|number| hash(*number) & 0x1f == 0);
    if crowded {
        crowd.take(600).collect()
    } else {
        all.collect()
    }
}

proptest! {
    #[test]
    fn finds_what_a_map_has(
        crowded in any::<bool>(),
        steps in prop::collection::vec((any::<prop::sample::Index>(), step()), 0..3000),
    ) {
        let numbers = numbers(crowded);
        let (mut writer, mut slow) = (ExitWriter::default(), HashMap::new());
        let mut versions = Vec::new();
        for (at, (number, step)) in steps.into_iter().enumerate() {
            let number = *number.get(&numbers);
            match step {
                Step::Put(tunnel, source) => {
                    writer.put(number, exit(tunnel, source));
                    slow.insert(number, exit(tunnel, source));
                }
                Step::SetSource(tunnel, source) => {
                    let tunnel = slow.get(&number).map_or(tunnel, |known| known.tunnel());
                    writer.set_source(number, tunnel, SourcePrefix::of(source));
                    writer.set_source(number, tunnel + 1, SourcePrefix::of(!source));
                    slow.entry(number).and_modify(|known| *known = exit(tunnel, source));
                }
                Step::Remove => {
                    writer.remove(number);
                    slow.remove(&number);
                }
            }
            if at % 100 == 0 {
                agree(&writer, &slow);
                versions.push((writer.commit(), slow.clone()));
            }
        }
        agree(&writer, &slow);
        for (exits, then) in versions {
            let known = |number: u64| exits.find(key(number)).filter(|found| then.get(&number) != Some(found));
            for number in slow.keys().chain(then.keys()) {
                prop_assert_eq!(known(*number), None, "an older version changed");
            }
            let there = then.keys().filter(|number| exits.find(key(**number)).is_some()).count();
            let in_slots = in_slots(&exits.first) + in_slots(&exits.second);
            prop_assert_eq!(in_slots, there, "an older version changed");
        }
    }

    #[test]
    fn no_two_numbers_have_one_hash(number in 0u64..1 << 33, other in 0u64..1 << 33) {
        prop_assert!(hash(number) < 1 << HASH_BITS);
        prop_assert_eq!(hash(number) == hash(other), number == other);
    }
}

#[test]
fn few_find_their_bucket_full() {
    for step in [1, 2, 256, 0x9e37_79b9] {
        let mut writer = ExitWriter::default();
        for at in 0..50_000u32 {
            writer.put(u64::from(at.wrapping_mul(step)), exit(at + 1, 0));
        }
        let [_, full, neither] = writer.counts();
        assert!(full < 50_000 / 10, "{full} of numbers {step} apart");
        assert!(neither < 50_000 / 500, "{neither} of numbers {step} apart");
        // Those that come for what goes have a slot again.
        for at in 0..49_000u32 {
            writer.remove(u64::from(at.wrapping_mul(step)));
        }
        assert_eq!(writer.counts(), [1000, 0, 0], "{step}");
    }
}

#[test]
fn what_is_too_large_for_a_slot_is_not_there() {
    let mut writer = ExitWriter::default();
    for (tunnel, ends) in [(0, 1), (TUNNELS, 1), (1, 0), (1, ENDS)] {
        let wrong = Exit::new(tunnel, ends, SourcePrefix::default());
        writer.put(9, exit(1, 2));
        writer.put(9, wrong);
        assert_eq!(writer.commit().find(key(9)), None, "{wrong:?}");
    }
    assert_eq!(writer.counts(), [0; 3]);
    // Nor is what has no number.
    assert!(Exits::default().find(7).is_none());
    assert!(Exits::default().find(gre::peer_key(None, 7)).is_none());
}

#[test]
fn a_source_is_only_set_of_its_tunnel() {
    let mut writer = ExitWriter::default();
    writer.put(9, exit(1, 2));
    writer.set_source(9, 2, SourcePrefix::of(3));
    writer.set_source(8, 1, SourcePrefix::of(3));
    assert_eq!(writer.commit().find(key(9)), Some(exit(1, 2)));
    writer.set_source(9, 1, SourcePrefix::of(3));
    assert_eq!(writer.commit().find(key(9)), Some(exit(1, 3)));
    assert_eq!(writer.counts(), [1, 0, 0]);
}
