use std::sync::Mutex;

use super::*;
use crate::fib::{NO_MATCH, Reference, Table};

/// What a reader holds is not used again, and what nobody holds is, the oldest first.
#[test]
fn garbage_waits_for_its_own_version_and_all_older_ones() {
    let mut versions = Versions::default();
    let mut freed = Vec::new();
    let first = versions.commit(|it| freed.push(it));
    versions.retire(1);
    let second = versions.commit(|it| freed.push(it));
    versions.retire(2);
    drop(second);
    let copy = first.clone();
    drop(first);
    drop(versions.commit(|it| freed.push(it)));
    // Nobody holds the second any more; but the first may refer to 2 as well.
    assert!(freed.is_empty());
    assert_eq!((versions.held(), versions.waiting().count()), (2, 2));
    drop(copy);
    drop(versions.commit(|it| freed.push(it)));
    assert_eq!(freed, [1, 2]);
    assert_eq!((versions.held(), versions.waiting().count()), (0, 0));
}

/// The forwarding table's lines, used again while others read: few enough for miri.
#[test]
fn lines_are_used_again_beside_readers() {
    let (rounds, reads) = if cfg!(miri) { (3, 2) } else { (500, 500) };
    let prefixes: Vec<ipnet::Ipv6Net> = (1..=3u128)
        .map(|at| ipnet::Ipv6Net::new_assert((0x2001 << 112 | at << 64).into(), 64))
        .collect();
    let keys: Vec<u128> = prefixes.iter().map(|prefix| prefix.network().into()).collect();
    let mut table = Table::new();
    let slot = Mutex::new(table.commit());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut results = vec![NO_MATCH; keys.len()];
            for _ in 0..reads {
                let version = slot.lock().unwrap().clone();
                version.lookup_burst(&keys, &mut results);
                // One transaction's, whole.
                assert!(results.iter().all(|it| *it == results[0]), "{results:?}");
            }
        });
        for round in 1..=rounds {
            for prefix in &prefixes {
                table.set(*prefix, round).unwrap();
            }
            *slot.lock().unwrap() = table.commit();
        }
    });
}

/// Changes of the table's shape, one version each, against the slow table: for miri, which takes too long for more.
#[test]
fn versions_stay_as_they_were() {
    let prefixes = [
        "::/0",
        "2001:db8::/32",
        "2001:db8:0:1::/64",
        "2001:db8:0:2::/64",
        "2001:db8:0:2::1/128",
        "2001:db8:0:8::/61",
        "2001:db8:0:9::/64",
        "2001:db8:0:a::/64",
        "fe80::/10",
    ];
    let prefixes: Vec<ipnet::Ipv6Net> = prefixes.iter().map(|prefix| prefix.parse().unwrap()).collect();
    let keys: Vec<u128> = prefixes
        .iter()
        .flat_map(|prefix| [prefix.network().into(), prefix.broadcast().into()])
        .collect();
    let (mut table, mut reference) = (Table::new(), Reference::default());
    let mut versions = Vec::new();
    for (result, prefix) in (1..).zip(&prefixes) {
        table.set(*prefix, result).unwrap();
        reference.set(*prefix, result);
        versions.push((table.commit(), reference.clone()));
    }
    for prefix in prefixes.iter().step_by(2) {
        table.set(*prefix, NO_MATCH).unwrap();
        reference.set(*prefix, NO_MATCH);
    }
    versions.push((table.commit(), reference));
    for (version, reference) in &versions {
        let mut results = vec![NO_MATCH; keys.len()];
        version.lookup_burst(&keys, &mut results);
        for (key, result) in keys.iter().zip(results) {
            assert_eq!(result, reference.lookup(*key), "{key:x}");
        }
    }
}
