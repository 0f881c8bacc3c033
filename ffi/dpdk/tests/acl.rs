//! The classifier says what a list of rules, read from its top, says.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::net::Ipv6Addr;

use dpdk::acl::{Acl, AclError, Key, Rule};
use dpdk::{Eal, EalConfig};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

#[derive(Clone, Copy, Debug)]
struct Packet {
    source: u128,
    destination: u128,
    protocol: u8,
    ports: (u16, u16),
    word: u32,
}

fn matches(rule: &Rule, packet: &Packet) -> bool {
    let within = |(net, length): (Ipv6Addr, u8), address: u128| {
        let differ = u128::from(net) ^ address;
        differ.checked_shr(128 - u32::from(length)).unwrap_or(0) == 0
    };
    within(rule.source, packet.source)
        && within(rule.destination, packet.destination)
        && (packet.protocol ^ rule.protocol.0) & rule.protocol.1 == 0
        && rule.source_ports.contains(&packet.ports.0)
        && rule.destination_ports.contains(&packet.ports.1)
        && (packet.word ^ rule.word.0) & rule.word.1 == 0
}

/// Few distinct values, so that packets match.
fn address() -> impl Strategy<Value = u128> {
    prop_oneof![
        (0u128..4, 0u128..4).prop_map(|(high, low)| 0x2001_0db8 << 96 | high << 62 | low),
        any::<u128>()
    ]
}

fn rule() -> impl Strategy<Value = Rule> {
    let net = || (address(), 0u8..=128).prop_map(|(address, length)| (Ipv6Addr::from(address), length));
    let ports = || (0u16..6, 0u16..6).prop_map(|(one, other)| one.min(other)..=one.max(other));
    let protocol = prop_oneof![Just((6u8, 0xff)), Just((17, 0xff)), Just((0, 0))];
    let word = prop_oneof![
        Just((0u32, 0u32)),
        (any::<u32>(), any::<u32>()),
        Just((0x8000_0001, 0x8000_0001))
    ];
    (net(), net(), protocol, ports(), ports(), word).prop_map(
        |(source, destination, protocol, source_ports, destination_ports, word)| Rule {
            source,
            destination,
            protocol,
            source_ports,
            destination_ports,
            word: (word.0 & word.1, word.1),
        },
    )
}

fn packet() -> impl Strategy<Value = Packet> {
    let word = prop_oneof![any::<u32>(), Just(0x8000_0001)];
    (
        address(),
        address(),
        prop_oneof![Just(6u8), Just(17)],
        (0u16..6, 0u16..6),
        word,
    )
        .prop_map(|(source, destination, protocol, ports, word)| Packet {
            source,
            destination,
            protocol,
            ports,
            word,
        })
}

#[test]
fn the_first_rule_that_matches_counts() {
    for bits in [None, Some(512)] {
        if bits.is_some() && std::env::var_os(WIDE).is_none() {
            let status = std::process::Command::new(std::env::current_exe().unwrap())
                .env(WIDE, "1")
                .status()
                .unwrap();
            assert!(status.success(), "with the widest instructions: {status}");
            return;
        }
        if bits.is_none() && std::env::var_os(WIDE).is_some() {
            continue;
        }
        let eal = Eal::init(&EalConfig {
            max_simd_bits: bits,
            memory_mib: 256,
            ..common::config()
        })
        .unwrap();
        refusals(&eal);
        let rules = prop::collection::vec(rule(), 1..40);
        let packets = prop::collection::vec(packet(), 0..=64);
        let mut runner = TestRunner::new(Config {
            cases: 100,
            failure_persistence: None,
            ..Config::default()
        });
        runner
            .run(&(rules, packets), |(rules, packets)| {
                let acl = Acl::build(&eal, &rules).unwrap();
                let keys: Vec<Key> = packets
                    .iter()
                    .map(|it| Key::new(it.source, it.destination, it.protocol, it.ports, it.word))
                    .collect();
                let mut found = vec![u32::MAX; keys.len()];
                acl.classify(&keys, &mut found);
                for (packet, found) in packets.iter().zip(found) {
                    let expected = rules.iter().position(|rule| matches(rule, packet));
                    prop_assert_eq!(found as usize, expected.map_or(0, |at| at + 1), "{:?}", packet);
                }
                Ok(())
            })
            .unwrap();
    }
}

/// Set in the process whose EAL may use the widest instructions.
const WIDE: &str = "KEDGE_TEST_ACL_WIDE";

fn refusals(eal: &Eal) {
    assert_eq!(Acl::build(eal, &[]).unwrap_err(), AclError::Count(0));
    let any = Rule {
        source: (Ipv6Addr::UNSPECIFIED, 0),
        destination: (Ipv6Addr::UNSPECIFIED, 0),
        protocol: (0, 0),
        source_ports: 0..=u16::MAX,
        destination_ports: 0..=u16::MAX,
        word: (0, 0),
    };
    let long = Rule {
        source: (Ipv6Addr::UNSPECIFIED, 129),
        ..any.clone()
    };
    assert_eq!(
        Acl::build(eal, &[any.clone(), long]).unwrap_err(),
        AclError::Rule(1)
    );
    #[allow(clippy::reversed_empty_ranges, reason = "that is what is refused")]
    let empty = Rule {
        source_ports: 2..=1,
        ..any.clone()
    };
    assert_eq!(Acl::build(eal, &[empty]).unwrap_err(), AclError::Rule(0));
    let acl = Acl::build(eal, &[any]).unwrap();
    assert_eq!(acl.rules(), 1);
    // Of more keys than results, only as many are looked at.
    let mut found = [7; 2];
    acl.classify(&[Key::default(); 3], &mut found);
    assert_eq!(found, [1, 1]);
}
