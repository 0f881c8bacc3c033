//! DPDK's own tables answer as tables of their kind do, and refuse what they cannot hold.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::process::Command;

use common::config;
use dpdk::peers::{BurstError, Fib6, FibLookup, HashConfig, HashTable, Lpm6, PeerError, RoutesConfig};
use dpdk::{Eal, EalConfig};

/// Set in the process whose EAL may not use wide instructions.
const NARROW: &str = "KEDGE_TEST_PEERS_NARROW";

const NET: u128 = 0x2001_0db8 << 96;

#[test]
fn tables_answer_and_refuse() {
    if std::env::var_os(NARROW).is_some() {
        return without_wide_instructions();
    }
    let eal = Eal::init(&EalConfig {
        max_simd_bits: Some(512),
        memory_mib: 384,
        ..config()
    })
    .unwrap();
    fib(&eal);
    lpm(&eal);
    hash(&eal, false);
    hash(&eal, true);
    what_cannot_be_made(&eal);
    memory_is_given_back(&eal);
    drop(eal);
    assert!(!common::running(), "a table that is gone keeps nothing alive");

    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "tables_answer_and_refuse", "--nocapture"])
        .env(NARROW, "1")
        .status()
        .unwrap();
    assert!(status.success(), "without wide instructions: {status}");
}

fn without_wide_instructions() {
    let eal = Eal::init(&EalConfig {
        max_simd_bits: Some(256),
        ..config()
    })
    .unwrap();
    let mut fib = Fib6::new(&eal, &routes("narrow")).unwrap();
    assert_eq!(
        fib.select(FibLookup::Avx512),
        Err(PeerError::Lookup(FibLookup::Avx512))
    );
    fib.add(NET, 32, 1).unwrap();
    assert_eq!(in_fib(&fib, &[NET]), [1]);
}

fn routes(name: &str) -> RoutesConfig {
    RoutesConfig {
        name: name.to_owned(),
        max_routes: 64,
        tbl8s: 64,
        numa_node: None,
    }
}

fn octets(addresses: &[u128]) -> Vec<[u8; 16]> {
    addresses.iter().map(|address| address.to_be_bytes()).collect()
}

fn in_fib(fib: &Fib6, addresses: &[u128]) -> Vec<u64> {
    let mut next_hops = vec![u64::MAX; addresses.len()];
    fib.lookup_burst(&octets(addresses), &mut next_hops).unwrap();
    next_hops
}

fn in_lpm(lpm: &Lpm6, addresses: &[u128]) -> Vec<i32> {
    let mut next_hops = vec![i32::MIN; addresses.len()];
    lpm.lookup_burst(&octets(addresses), &mut next_hops).unwrap();
    next_hops
}

/// One of each of the routes below, and one of none.
const ADDRESSES: [u128; 5] = [NET + 1, NET + 2, NET + (1 << 64), NET + (1 << 80), 1];

fn fib(eal: &Eal) {
    let mut fib = Fib6::new(eal, &routes("fib")).unwrap();
    assert_eq!(in_fib(&fib, &ADDRESSES), [Fib6::MISS; 5]);
    assert!(in_fib(&fib, &[]).is_empty());
    fib.add(NET + 0xffff, 32, 10).unwrap();
    fib.add(NET, 64, 20).unwrap();
    fib.add(NET + 1, 128, Fib6::MOST_NEXT_HOP).unwrap();
    fib.add(NET + (1 << 64), 64, 0).unwrap();
    let expected = [u64::from(Fib6::MOST_NEXT_HOP), 20, 0, 10, Fib6::MISS];

    // Bursts that fill sixteen lanes and leave some over.
    let many = ADDRESSES.repeat(13);
    for lookup in [FibLookup::Scalar, FibLookup::Avx512, FibLookup::Default] {
        match fib.select(lookup) {
            Ok(()) => assert_eq!(in_fib(&fib, &many), expected.repeat(13), "{lookup:?}"),
            Err(error) => {
                assert_eq!(error, PeerError::Lookup(FibLookup::Avx512));
                assert!(!wide(), "the processor could");
            }
        }
    }

    fib.add(NET, 32, 11).unwrap();
    fib.delete(NET, 64).unwrap();
    assert_eq!(in_fib(&fib, &ADDRESSES)[1..], [11, 0, 11, Fib6::MISS]);
    assert_eq!(fib.delete(NET, 64), Err(PeerError::Missing));
    fib.add(0, 0, 7).unwrap();
    assert_eq!(in_fib(&fib, &ADDRESSES)[4], 7, "a default route");
    fib.delete(0, 0).unwrap();

    assert_eq!(fib.add(NET, 129, 1), Err(PeerError::Length(129)));
    assert_eq!(fib.delete(NET, 129), Err(PeerError::Length(129)));
    let most = Fib6::MOST_NEXT_HOP;
    assert_eq!(
        fib.add(NET, 32, most + 1),
        Err(PeerError::NextHop {
            next_hop: most + 1,
            most
        })
    );
    let unequal = fib.lookup_burst(&octets(&ADDRESSES), &mut [0; 4]);
    assert_eq!(unequal, Err(BurstError::Unequal { keys: 5, results: 4 }));
    assert_eq!(in_fib(&fib, &ADDRESSES)[1..], [11, 0, 11, Fib6::MISS]);

    let full = (0..64).find_map(|n| fib.add(n << 96, 128, 1).err());
    assert_eq!(full, Some(PeerError::Full));
}

/// The processor has what DPDK's wide lookup needs.
fn wide() -> bool {
    let flags = std::fs::read_to_string("/proc/cpuinfo").unwrap();
    ["avx512f", "avx512dq", "avx512bw"]
        .iter()
        .all(|flag| flags.split_whitespace().any(|word| word == *flag))
}

fn lpm(eal: &Eal) {
    let mut lpm = Lpm6::new(eal, &routes("lpm")).unwrap();
    assert_eq!(in_lpm(&lpm, &ADDRESSES), [Lpm6::MISS; 5]);
    assert!(in_lpm(&lpm, &[]).is_empty());
    lpm.add(NET + 0xffff, 32, 10).unwrap();
    lpm.add(NET, 64, 20).unwrap();
    lpm.add(NET + 1, 128, Lpm6::MOST_NEXT_HOP).unwrap();
    lpm.add(NET + (1 << 64), 64, 0).unwrap();
    let most = i32::try_from(Lpm6::MOST_NEXT_HOP).unwrap();
    assert_eq!(in_lpm(&lpm, &ADDRESSES), [most, 20, 0, 10, Lpm6::MISS]);

    lpm.add(NET, 32, 11).unwrap();
    lpm.delete(NET, 64).unwrap();
    assert_eq!(in_lpm(&lpm, &ADDRESSES), [most, 11, 0, 11, Lpm6::MISS]);
    assert_eq!(lpm.delete(NET, 64), Err(PeerError::Missing));

    for length in [0, 129] {
        assert_eq!(lpm.add(NET, length, 1), Err(PeerError::Length(length)));
        assert_eq!(lpm.delete(NET, length), Err(PeerError::Length(length)));
    }
    let most = Lpm6::MOST_NEXT_HOP;
    assert_eq!(
        lpm.add(NET, 32, most + 1),
        Err(PeerError::NextHop {
            next_hop: most + 1,
            most
        })
    );
    let unequal = lpm.lookup_burst(&octets(&ADDRESSES), &mut [0; 6]);
    assert_eq!(unequal, Err(BurstError::Unequal { keys: 5, results: 6 }));
    assert_eq!(in_lpm(&lpm, &ADDRESSES)[1..], [11, 0, 11, Lpm6::MISS]);

    let full = (0..64).find_map(|n| lpm.add(n << 96, 128, 1).err());
    assert_eq!(full, Some(PeerError::Full));
}

fn hash(eal: &Eal, lock_free: bool) {
    let config = HashConfig {
        entries: 128,
        lock_free,
        ..HashConfig::default()
    };
    let mut hash = HashTable::new(eal, &config).unwrap();
    let keys: Vec<u64> = (0..66).map(|n| n << 40).collect();
    let pointers: Vec<&u64> = keys.iter().collect();
    let mut values = [usize::MAX; 64];
    assert_eq!(hash.lookup_burst(&[], &mut []), Ok(0));
    assert_eq!(hash.lookup_burst(&pointers[..64], &mut values), Ok(0));
    for (key, value) in keys.iter().zip(0..64) {
        hash.add(*key, value).unwrap();
    }
    for count in [1, 3, 4, 5, 32, 64] {
        let mut values = vec![usize::MAX; count];
        let hits = hash.lookup_burst(&pointers[..count], &mut values);
        assert_eq!(hits, Ok(u64::MAX >> (64 - count)));
        assert!(values.into_iter().eq(0..count));
    }

    hash.add(keys[1], usize::MAX - 1).unwrap();
    hash.delete(keys[2]).unwrap();
    assert_eq!(hash.delete(keys[2]), Err(PeerError::Missing));
    let mut values = [9; 4];
    assert_eq!(hash.lookup_burst(&pointers[..4], &mut values), Ok(0b1011));
    assert_eq!(
        values,
        [0, usize::MAX - 1, 9, 3],
        "what is not there writes nothing"
    );

    let unequal = hash.lookup_burst(&pointers[..4], &mut [0; 3]);
    assert_eq!(unequal, Err(BurstError::Unequal { keys: 4, results: 3 }));
    let long = hash.lookup_burst(&pointers[..65], &mut [0; 65]);
    assert_eq!(long, Err(BurstError::TooLong { keys: 65, most: 64 }));
    // The place of what is gone is used again, however often.
    for n in 1..1000 {
        hash.add(n, 0).unwrap();
        hash.delete(n).unwrap();
    }
    let full = (1..=128).find_map(|n| hash.add(n, 0).err());
    assert_eq!(full, Some(PeerError::Full));
}

fn what_cannot_be_made(eal: &Eal) {
    let _fib = Fib6::new(eal, &routes("taken")).unwrap();
    let taken = PeerError::Exists("taken".to_owned());
    assert_eq!(Fib6::new(eal, &routes("taken")).unwrap_err(), taken);
    {
        let _lpm = Lpm6::new(eal, &routes("taken")).unwrap();
        assert_eq!(Lpm6::new(eal, &routes("taken")).unwrap_err(), taken);
    }
    let config = HashConfig {
        name: "taken".to_owned(),
        ..HashConfig::default()
    };
    let _hash = HashTable::new(eal, &config).unwrap();
    assert_eq!(HashTable::new(eal, &config).unwrap_err(), taken);

    for name in ["", "a\0b", "0123456789012345678901"] {
        let refused = PeerError::Name(name.to_owned());
        assert_eq!(Fib6::new(eal, &routes(name)).unwrap_err(), refused);
        assert_eq!(Lpm6::new(eal, &routes(name)).unwrap_err(), refused);
        let config = HashConfig {
            name: name.to_owned(),
            ..HashConfig::default()
        };
        assert_eq!(HashTable::new(eal, &config).unwrap_err(), refused);
    }
    drop(Fib6::new(eal, &routes("012345678901234567890")).unwrap());
    drop(Lpm6::new(eal, &routes("012345678901234567890")).unwrap());

    for max_routes in [0, u32::MAX] {
        let config = RoutesConfig {
            max_routes,
            ..routes("size")
        };
        assert_eq!(Fib6::new(eal, &config).unwrap_err(), PeerError::Size(max_routes));
        assert_eq!(Lpm6::new(eal, &config).unwrap_err(), PeerError::Size(max_routes));
    }
    for tbl8s in [0, u32::MAX] {
        let config = RoutesConfig {
            tbl8s,
            ..routes("size")
        };
        assert_eq!(Fib6::new(eal, &config).unwrap_err(), PeerError::Size(tbl8s));
        assert_eq!(Lpm6::new(eal, &config).unwrap_err(), PeerError::Size(tbl8s));
    }
    for entries in [0, 7, u32::MAX] {
        let config = HashConfig {
            name: "size".to_owned(),
            entries,
            ..HashConfig::default()
        };
        assert_eq!(
            HashTable::new(eal, &config).unwrap_err(),
            PeerError::Size(entries)
        );
    }

    let large = RoutesConfig {
        tbl8s: 1 << 20,
        ..routes("large")
    };
    let none = PeerError::NoMemory("large".to_owned());
    assert_eq!(Fib6::new(eal, &large).unwrap_err(), none);
    assert_eq!(Lpm6::new(eal, &large).unwrap_err(), none);
    let large = HashConfig {
        name: "large".to_owned(),
        entries: 1 << 26,
        numa_node: None,
        lock_free: false,
    };
    assert_eq!(HashTable::new(eal, &large).unwrap_err(), none);
}

/// Each is a good part of the memory there is, so one that stayed would be missed.
fn memory_is_given_back(eal: &Eal) {
    for _ in 0..8 {
        drop(Fib6::new(eal, &routes("again")).unwrap());
        drop(Lpm6::new(eal, &routes("again")).unwrap());
        drop(HashTable::new(eal, &HashConfig::default()).unwrap());
    }
}
