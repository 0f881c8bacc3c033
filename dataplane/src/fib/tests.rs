mod concurrent;

use std::sync::atomic::{AtomicBool, Ordering};

use ipnet::Ipv6Net;
use proptest::prelude::*;

use super::*;

/// Prefixes that share much, so that they nest: few different octets, any length.
fn nesting() -> impl Strategy<Value = Ipv6Net> {
    (
        prop::collection::vec(prop::sample::select(vec![0u8, 1, 0x80, 0xff]), 16),
        0u8..=128,
    )
        .prop_map(|(octets, length)| net(u128::from_be_bytes(octets.try_into().unwrap()), length))
}

/// As they are in use: /64s close together, some shorter, some hosts.
fn usual() -> impl Strategy<Value = Ipv6Net> {
    let pool = 0x2001_0db8_0100_0000_u64;
    prop_oneof![
        8 => (0u64..1500).prop_map(move |at| net(u128::from(pool + at) << 64, 64)),
        2 => (0u64..1500, 44u8..64).prop_map(move |(at, length)| net(u128::from(pool + at) << 64, length)),
        1 => (0u64..1500, 65u8..=128, any::<u64>())
            .prop_map(move |(at, length, low)| net(u128::from(pool + at) << 64 | u128::from(low), length)),
        1 => (any::<u64>(), 19u8..=64).prop_map(|(high, length)| net(u128::from(high) << 64, length)),
    ]
}

/// As registries and their members have them: a few blocks, in each some prefixes of any length, few of them close
/// together. Enough to fill fans, to split them and to bring them back.
fn sparse() -> impl Strategy<Value = Ipv6Net> {
    let block = prop::sample::select(vec![
        0x2001_0db8u64,
        0x2001_0db9,
        0x2a10_0040,
        0x2a10_7f00,
        0xffff_ffff,
    ]);
    let length =
        prop_oneof![6 => Just(48u8), 1 => 20u8..=32, 3 => 33u8..=56, 2 => Just(64u8), 1 => 57u8..=70];
    (block, 0u64..400, length).prop_map(|(block, at, length)| {
        let behind = scattered(at) as u32 >> (at % 24);
        net(u128::from(block << 32 | u64::from(behind)) << 64, length)
    })
}

fn net(bits: u128, length: u8) -> Ipv6Net {
    Ipv6Net::new(bits.into(), length).unwrap().trunc()
}

fn methods() -> Vec<Method> {
    if Method::best() == Method::Scalar {
        vec![Method::Scalar]
    } else {
        vec![Method::Scalar, Method::Avx512]
    }
}

/// Every way to look up gives what the reference gives.
fn agree(fib: &Fib, reference: &Reference, keys: &[u128]) -> Result<(), TestCaseError> {
    for method in methods() {
        let mut results = vec![7; keys.len()];
        fib.lookup_burst_by(method, keys, &mut results);
        for (key, result) in keys.iter().zip(results) {
            prop_assert_eq!(result, reference.lookup(*key), "{:?} of {:x}", method, key);
            prop_assert_eq!(fib.lookup(*key), result);
        }
    }
    Ok(())
}

/// Keys in, at the ends of, and beside a prefix.
fn keys_of(prefix: Ipv6Net) -> [u128; 4] {
    let (first, last) = (u128::from(prefix.network()), u128::from(prefix.broadcast()));
    [first, last, first.wrapping_sub(1), last.wrapping_add(1)]
}

fn transactions(
    prefix: impl Strategy<Value = Ipv6Net>,
    most: usize,
) -> impl Strategy<Value = Vec<Vec<(Ipv6Net, u32)>>> {
    // Most results are close together, so that nodes are packed; others have them unpacked, where they can be no closer.
    let result = prop_oneof![
        10 => Just(NO_MATCH),
        20 => 1u32..5,
        3 => 100u32..400,
        1 => prop::sample::select(vec![255, 256, 257, u32::MAX])
    ];
    let change = (prefix, result);
    prop::collection::vec(prop::collection::vec(change, 0..most), 1..8)
}

fn the_fast_one_is_the_slow_one(transactions: Vec<Vec<(Ipv6Net, u32)>>) -> Result<(), TestCaseError> {
    let mut table = Table::new();
    let mut reference = Reference::default();
    let mut versions = vec![(table.commit(), reference.clone())];
    let mut keys = Vec::new();
    for changes in transactions {
        for (prefix, result) in changes {
            let before = reference.get(prefix);
            prop_assert_eq!(table.set(prefix, result), Ok(before));
            reference.set(prefix, result);
            prop_assert_eq!(table.get(prefix), reference.get(prefix));
            keys.extend(keys_of(prefix));
        }
        versions.push((table.commit(), reference.clone()));
    }
    // Older versions are as they were, whatever came later.
    for (fib, reference) in &versions {
        prop_assert_eq!(fib.len(), reference.len());
        agree(fib, reference, &keys)?;
    }
    drop(versions);
    // Emptied, it takes no more room than at first.
    for (prefix, _) in reference.clone().iter() {
        table.set(prefix, NO_MATCH).unwrap();
        reference.set(prefix, NO_MATCH);
    }
    let empty = table.commit();
    agree(&empty, &reference, &keys)?;
    drop(empty);
    table.commit();
    table.commit();
    prop_assert_eq!(table.octets(), Table::new().octets());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 2 } else { 256 }, ..ProptestConfig::default() })]

    #[test]
    #[cfg_attr(miri, ignore = "too long: see versions::tests")]
    fn nested_prefixes(transactions in transactions(nesting(), if cfg!(miri) { 5 } else { 40 })) {
        the_fast_one_is_the_slow_one(transactions)?;
    }

    #[test]
    #[cfg_attr(miri, ignore = "too long: see versions::tests")]
    fn usual_prefixes(transactions in transactions(usual(), if cfg!(miri) { 5 } else { 120 })) {
        the_fast_one_is_the_slow_one(transactions)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 2 } else { 32 }, ..ProptestConfig::default() })]

    #[test]
    #[cfg_attr(miri, ignore = "too long: see versions::tests")]
    fn sparse_prefixes(transactions in transactions(sparse(), if cfg!(miri) { 5 } else { 400 })) {
        the_fast_one_is_the_slow_one(transactions)?;
    }
}

/// Numbers that look random, the same each time.
fn scattered(seed: u64) -> u64 {
    let mut x = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[test]
#[cfg_attr(miri, ignore = "too many")]
fn a_full_pool_and_scattered_prefixes_are_small_and_come_and_go() {
    let pool = |at: u64| net(u128::from(0x2001_0db8_0010_0000 + at) << 64, 64);
    let wild = |at: u64| net(u128::from(scattered(at) >> 3 | 1 << 61) << 64, 64);
    for (prefix, most) in [(&pool as &dyn Fn(u64) -> Ipv6Net, 8), (&wild, 64)] {
        let mut table = Table::new();
        let count = 60_000;
        for at in 0..count {
            table.set(prefix(at), at as u32 + 1).unwrap();
            if at % 64 == 0 {
                table.commit();
            }
        }
        let fib = table.commit();
        for method in methods() {
            let keys: Vec<u128> = (0..count)
                .map(|at| u128::from(prefix(at).network()) | 0x77)
                .collect();
            let mut results = vec![0; keys.len()];
            fib.lookup_burst_by(method, &keys, &mut results);
            assert!(
                results.iter().zip(1..).all(|(result, at)| *result == at),
                "{method:?}"
            );
        }
        drop(fib);
        let octets = table.octets() / count as usize;
        assert!(octets <= most, "{octets} octets a prefix");
        for at in 0..count {
            table.set(prefix(at), NO_MATCH).unwrap();
        }
        table.commit();
        table.commit();
        assert_eq!(table.octets(), Table::new().octets());
    }
}

#[test]
#[cfg_attr(miri, ignore = "too many")]
fn results_in_order_take_an_octet_and_others_four() {
    let pool = |at: u64| net(u128::from(0x2001_0db8_0010_0000 + at) << 64, 64);
    let count = 16_384u64;
    let octets = |results: &dyn Fn(u64) -> u32| {
        let mut table = Table::new();
        for at in 0..count {
            table.set(pool(at), results(at)).unwrap();
        }
        let fib = table.commit();
        let keys: Vec<u128> = (0..count).map(|at| u128::from(pool(at).network()) | 5).collect();
        for method in methods() {
            let mut found = vec![0; keys.len()];
            fib.lookup_burst_by(method, &keys, &mut found);
            assert!(
                (0..count).zip(found).all(|(at, found)| found == results(at)),
                "{method:?}"
            );
        }
        (table.octets() - Table::new().octets()) as f64 / count as f64
    };
    let in_order = |at: u64| at as u32 + 1;
    let scattered = |at: u64| scattered(at) as u32 | 1;
    assert!(octets(&in_order) < 1.3, "{}", octets(&in_order));
    assert!(octets(&|at| u32::MAX - at as u32) < 1.3);
    let four = octets(&scattered);
    assert!(four > 4.0 && four < 4.3, "{four}");
}

/// A result that does not fit beside its neighbours has its node unpacked; gone, the next change packs it again.
#[test]
fn one_result_far_off_unpacks_a_node_until_it_is_gone() {
    let pool = |at: u64| net(u128::from(0x2001_0db8_0010_0000 + at) << 64, 64);
    let mut table = Table::new();
    for at in 0..512 {
        table.set(pool(at), at as u32 + 1).unwrap();
    }
    let octets = |table: &mut Table| {
        drop(table.commit());
        drop(table.commit());
        table.octets()
    };
    let packed = octets(&mut table);
    table.set(pool(77), u32::MAX).unwrap();
    let unpacked = octets(&mut table);
    assert_eq!(unpacked, packed + 23 * 64);
    let key = |at: u64| u128::from(pool(at).network());
    assert_eq!((table.lookup(key(76)), table.lookup(key(77))), (77, u32::MAX));
    table.set(pool(77), 78).unwrap();
    table.commit();
    table.set(pool(3), NO_MATCH).unwrap();
    assert_eq!(octets(&mut table), packed);
    assert_eq!(
        (table.lookup(key(3)), table.lookup(key(77)), table.lookup(key(4))),
        (NO_MATCH, 78, 5)
    );
    // So does a prefix that ends before the node does.
    let covering = net(key(0), 60);
    table.set(covering, 9_999).unwrap();
    assert_eq!(octets(&mut table), unpacked);
    assert_eq!(
        (table.lookup(key(3)), table.lookup(key(4)), table.lookup(key(15))),
        (9_999, 5, 16)
    );
}

#[test]
#[cfg_attr(miri, ignore = "too long")]
fn memory_is_bounded_while_versions_come_and_go() {
    let mut table = Table::new();
    let mut touched = 0;
    for round in 0..20_000u32 {
        table
            .set(
                net(u128::from(scattered(u64::from(round % 500))) << 64, 64),
                round + 1,
            )
            .unwrap();
        table.commit();
        if round == 2_000 {
            touched = table.touched_octets();
        }
    }
    assert!(
        table.touched_octets() <= touched * 2,
        "{} after {touched}",
        table.touched_octets()
    );
    let kept = table.commit();
    for round in 0..100u32 {
        table.set(net(u128::from(round) << 100, 40), 1).unwrap();
        table.commit();
    }
    assert!(
        table.held_versions() >= 100,
        "what is held keeps all that came after"
    );
    drop(kept);
    table.commit();
    assert!(table.held_versions() <= 1, "{}", table.held_versions());
}

/// Readers of versions on other threads, while the table changes: each sees one state, whole.
#[test]
#[cfg_attr(miri, ignore = "too long: see versions::tests")]
fn concurrent_readers_see_whole_transactions() {
    const KEYS: u64 = 64;
    let versions = if cfg!(miri) { 10 } else { 3_000 };
    let key = |at: u64| scattered(at) >> 3 | 1 << 61;
    let mut table = Table::new();
    let slot = std::sync::Arc::new(parking_lot::Mutex::new(table.commit()));
    let stop = std::sync::Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let (slot, stop) = (slot.clone(), stop.clone());
            std::thread::spawn(move || {
                let keys: Vec<u128> = (0..KEYS).map(|at| u128::from(key(at)) << 64).collect();
                let mut results = vec![0; keys.len()];
                while !stop.load(Ordering::Relaxed) {
                    let fib = slot.lock().clone();
                    fib.lookup_burst(&keys, &mut results);
                    // All keys have the number of one transaction, but for those it removed.
                    let number = results.iter().copied().max().unwrap_or(0);
                    assert!(
                        results.iter().all(|it| *it == number || *it == NO_MATCH),
                        "{results:?}"
                    );
                }
            })
        })
        .collect();
    for number in 1..=versions {
        for at in 0..KEYS {
            let gone = scattered(u64::from(number) ^ at).is_multiple_of(4);
            let result = if gone { NO_MATCH } else { number };
            table.set(net(u128::from(key(at)) << 64, 64), result).unwrap();
        }
        *slot.lock() = table.commit();
    }
    stop.store(true, Ordering::Relaxed);
    for reader in readers {
        reader.join().unwrap();
    }
}

#[test]
#[cfg_attr(miri, ignore = "too long")]
fn a_burst_may_be_of_any_length() {
    let mut table = Table::new();
    table.set("2001:db8::/32".parse().unwrap(), 5).unwrap();
    let fib = table.commit();
    let key = u128::from("2001:db8::1".parse::<std::net::Ipv6Addr>().unwrap());
    for method in methods() {
        for length in 0..200 {
            let mut results = vec![0; length];
            fib.lookup_burst_by(method, &vec![key; length], &mut results);
            assert!(results.iter().all(|result| *result == 5));
        }
        // As many as the shorter one has.
        let mut results = [0; 3];
        fib.lookup_burst_by(method, &[key; 9], &mut results);
        assert_eq!(results, [5; 3]);
        fib.lookup_burst_by(method, &[0; 2], &mut results);
        assert_eq!(results, [0, 0, 5]);
    }
}

#[test]
fn what_covers_a_pool_is_as_it_was_last_set() {
    // More pools than there are jumps, of which two are in one /43, and one is dense at its end only.
    let pools: Vec<u64> = (0..11)
        .map(|at| 0x2001_0db8_0000_0000 + (at << 28))
        .chain([0x2001_0db8_0008_0000, 0x2a02_1234_5678_ff00])
        // In miri, a change near the root takes a tenth of a second.
        .step_by(if cfg!(miri) { 6 } else { 1 })
        .collect();
    let mut table = Table::new();
    let mut reference = Reference::default();
    let mut keys = Vec::new();
    for pool in &pools {
        for at in 0..if cfg!(miri) { 8 } else { 12 } {
            let prefix = net(u128::from(pool + at * 3) << 64, 64);
            table.set(prefix, at as u32 + 100).unwrap();
            reference.set(prefix, at as u32 + 100);
            keys.extend(keys_of(prefix));
        }
    }
    let mut versions = vec![(table.commit(), reference.clone())];
    let lengths: &[u8] = if cfg!(miri) {
        &[44]
    } else {
        &[0, 3, 10, 16, 31, 34, 40, 43, 44, 46, 52, 57, 60, 63]
    };
    for (round, result) in [7, 8, NO_MATCH, 9, NO_MATCH].into_iter().enumerate() {
        for (at, length) in lengths.iter().enumerate() {
            let pool = pools[(round + at) % 3 * 5 % pools.len()];
            let prefix = net(u128::from(pool) << 64, *length);
            let result = if result == NO_MATCH {
                NO_MATCH
            } else {
                result + 10 * at as u32
            };
            table.set(prefix, result).unwrap();
            reference.set(prefix, result);
            keys.extend(keys_of(prefix));
            versions.push((table.commit(), reference.clone()));
        }
    }
    for (fib, reference) in &versions {
        agree(fib, reference, &keys).unwrap();
    }
    // Something else begins where a jump passed by, then the pools go.
    for (at, pool) in pools.iter().enumerate() {
        let beside = net(u128::from(pool ^ 1 << (20 + at)) << 64, 64);
        table.set(beside, 5).unwrap();
        reference.set(beside, 5);
        keys.extend(keys_of(beside));
        agree(&table.commit(), &reference, &keys).unwrap();
    }
    for (prefix, _) in reference.clone().iter() {
        table.set(prefix, NO_MATCH).unwrap();
        reference.set(prefix, NO_MATCH);
        if reference.len().is_multiple_of(16) {
            agree(&table.commit(), &reference, &keys).unwrap();
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "too many")]
fn clusters_of_all_lengths_merge_whatever_is_below_them() {
    // More specific prefixes close together, as in the table of the Internet: nodes of all widths, and skips
    // that lead to wide ones, below nodes that merge.
    let prefix = |at: u64| {
        let behind = (scattered(at) >> 29 >> (scattered(!at) % 12)) & 0x7_ffff_ffff;
        let length = 24 + scattered(at ^ 0x5555_5555) % 25;
        let bits = 0x2a00_0000_0000_0000 | (scattered(at) & 3) << 40 | behind;
        net(u128::from(bits) << 64, length as u8)
    };
    let mut table = Table::new();
    let mut reference = Reference::default();
    let count = 20_000;
    for at in 0..count {
        table.set(prefix(at), at as u32 + 1).unwrap();
        reference.set(prefix(at), at as u32 + 1);
    }
    let keys: Vec<u128> = (0..count).step_by(7).flat_map(|at| keys_of(prefix(at))).collect();
    agree(&table.commit(), &reference, &keys).unwrap();
    for at in 0..count {
        table.set(prefix(at), NO_MATCH).unwrap();
    }
    table.commit();
    table.commit();
    assert_eq!(table.octets(), Table::new().octets());
}

#[test]
#[cfg_attr(miri, ignore = "too long: nodes of 4,096 slots")]
fn a_wide_node_behind_a_short_skip_is_not_swallowed() {
    let mut table = Table::new();
    let mut reference = Reference::default();
    let mut keys = Vec::new();
    // Below one slot of the root: nodes of six bits, and one of six bits behind three skipped ones.
    for eighth in [0u64, 3, 1, 2] {
        for at in 0..64u64 {
            let (shift, length) = if eighth == 3 { (42, 22) } else { (45, 19) };
            let prefix = net(u128::from(eighth << 51 | at << shift) << 64, length);
            let result = (eighth * 64 + at) as u32 + 1;
            table.set(prefix, result).unwrap();
            reference.set(prefix, result);
            keys.extend(keys_of(prefix));
        }
    }
    agree(&table.commit(), &reference, &keys).unwrap();
}

#[test]
#[cfg_attr(miri, ignore = "too many")]
fn blocks_near_the_root_have_wide_nodes() {
    // Every second /22 below a slot of the root, and something longer in each: twelve bits in one node.
    let mut table = Table::new();
    let mut reference = Reference::default();
    let mut keys = Vec::new();
    for at in 0..4096u64 {
        let bits = u128::from(0x2a00_0000_0000_0000 | at << 42) << 64;
        let short = net(bits, 22);
        let long = net(bits | u128::from(scattered(at) & 0x3ff) << 96, 32);
        for (prefix, result) in [
            (short, NO_MATCH.wrapping_add(at as u32 & 1)),
            (long, at as u32 + 2),
        ] {
            table.set(prefix, result).unwrap();
            reference.set(prefix, result);
            keys.extend(keys_of(prefix));
        }
    }
    agree(&table.commit(), &reference, &keys).unwrap();
    for (prefix, _) in reference.clone().iter() {
        table.set(prefix, NO_MATCH).unwrap();
    }
    table.commit();
    table.commit();
    assert_eq!(table.octets(), Table::new().octets());
}

#[test]
fn addresses_in_one_link_are_told_apart_to_the_last_bit() {
    // All 64 bits of the lower half do not fit into an entry of a bucket.
    let link = 0x2001_0db8_0000_0001u128 << 64;
    let hosts = [
        0,
        1,
        2,
        u64::MAX,
        1 << 63,
        0x8000_0000_0000_0001,
        0x0123_4567_89ab_cdef,
    ];
    for count in (1..=hosts.len()).step_by(if cfg!(miri) { 4 } else { 1 }) {
        let mut table = Table::new();
        let mut reference = Reference::default();
        let mut keys = Vec::new();
        for (result, host) in (1..).zip(&hosts[..count]) {
            for (length, result) in [(128, result), (127, 100 + result)] {
                let prefix = net(link | u128::from(*host), length);
                table.set(prefix, result).unwrap();
                reference.set(prefix, result);
                keys.extend(keys_of(prefix));
            }
        }
        agree(&table.commit(), &reference, &keys).unwrap();
        table.set(net(link, 128), NO_MATCH).unwrap();
        reference.set(net(link, 128), NO_MATCH);
        agree(&table.commit(), &reference, &keys).unwrap();
    }
}

#[test]
#[cfg_attr(miri, ignore = "its memory is smaller")]
fn twice_the_largest_table_fits_one_transaction() {
    let limits = crate::snapshot::TableLimits::default();
    // All that is there goes, and as much comes.
    assert_eq!(Table::new().room_for(2 * limits.prefixes), Ok(()));
    assert!(Table::new().room_for(1 << 27).is_err());
}

#[test]
fn all_addresses_of_a_link_come_and_go() {
    // The last node of all reaches beyond the address, and is made anew when few are left below it.
    let link = 0x2001_0db8_0000_0001u128 << 64;
    let count: u128 = if cfg!(miri) { 16 } else { 256 };
    let prefixes = |host: u128| {
        [(128, host), (127, host), (126, host)].map(|(length, host)| (net(link | host, length), length))
    };
    let mut table = Table::new();
    let mut reference = Reference::default();
    let keys: Vec<u128> = (0..count + 8).map(|host| link | host).collect();
    // Each in an order of its own.
    for host in (0..count).map(|it| it * 77 % count) {
        for (prefix, length) in prefixes(host) {
            let result = host as u32 * 3 + u32::from(length);
            table.set(prefix, result).unwrap();
            reference.set(prefix, result);
        }
    }
    agree(&table.commit(), &reference, &keys).unwrap();
    for host in (0..count).map(|it| it * 51 % count) {
        for (prefix, _) in prefixes(host) {
            table.set(prefix, NO_MATCH).unwrap();
            reference.set(prefix, NO_MATCH);
            agree(&table.commit(), &reference, &keys).unwrap();
        }
    }
    assert!(table.is_empty());
}
