//! Octets written by hand, malformed ones, and round trips.

use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;

use super::message::write_checksum;
use super::*;

fn address(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

fn router() -> Ipv6Addr {
    address("fe80::200:5eff:fe00:5213")
}

fn node() -> Ipv6Addr {
    address("fe80::ff:fe00:a01")
}

fn all_routers() -> Ipv6Addr {
    address("ff02::2")
}

fn advertisement() -> RouterAdvertisement {
    RouterAdvertisement {
        current_hop_limit: 64,
        router_lifetime: Duration::from_secs(1800),
        reachable_time: Duration::from_millis(30_000),
        retransmit_timer: Duration::from_millis(1000),
        source_link_layer_address: Some(LinkLayerAddress([0, 0, 0x5e, 0, 0x52, 0x13])),
        mtu: Some(1460),
        prefixes: vec![
            PrefixInformation {
                prefix: "2001:db8:200:1::/64".parse().unwrap(),
                on_link: true,
                autonomous: true,
                valid_lifetime: 7200,
                preferred_lifetime: 3600,
            },
            // Anchored elsewhere: still valid, no longer preferred.
            PrefixInformation {
                prefix: "2001:db8:100:1::/64".parse().unwrap(),
                on_link: false,
                autonomous: true,
                valid_lifetime: u32::MAX,
                preferred_lifetime: 0,
            },
        ],
    }
}

/// Its octets by hand, with the checksum left zero.
fn advertisement_octets() -> Vec<u8> {
    let mut octets = vec![
        134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0x75, 0x30, 0, 0, 0x03, 0xe8,
    ];
    octets.extend([1, 1, 0, 0, 0x5e, 0, 0x52, 0x13]);
    octets.extend([5, 1, 0, 0, 0, 0, 0x05, 0xb4]);
    octets.extend([3, 4, 64, 0xc0, 0, 0, 0x1c, 0x20, 0, 0, 0x0e, 0x10, 0, 0, 0, 0]);
    octets.extend([0x20, 0x01, 0x0d, 0xb8, 0x02, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
    octets.extend([3, 4, 64, 0x40, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0]);
    octets.extend([0x20, 0x01, 0x0d, 0xb8, 0x01, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
    octets
}

/// Reads `octets` as an advertisement after writing their checksum.
fn parse_advertisement(mut octets: Vec<u8>) -> Result<RouterAdvertisement, NeighbourDiscoveryError> {
    fix_up(router(), node(), &mut octets);
    RouterAdvertisement::parse(router(), node(), 255, &octets)
}

fn parse_solicitation(mut octets: Vec<u8>) -> Result<RouterSolicitation, NeighbourDiscoveryError> {
    fix_up(node(), all_routers(), &mut octets);
    RouterSolicitation::parse(node(), all_routers(), 255, &octets)
}

fn fix_up(source: Ipv6Addr, destination: Ipv6Addr, octets: &mut [u8]) {
    if let Some(field) = octets.get_mut(2..4) {
        field.fill(0);
    }
    write_checksum(source, destination, octets);
}

#[test]
fn advertisement_both_ways() {
    let mut expected = advertisement_octets();
    write_checksum(router(), node(), &mut expected);
    assert_eq!(advertisement().emit(router(), node()).unwrap(), expected);
    assert_eq!(
        RouterAdvertisement::parse(router(), node(), 255, &expected).unwrap(),
        advertisement()
    );
}

#[test]
fn solicitation_both_ways() {
    let solicitation = RouterSolicitation {
        source_link_layer_address: Some(LinkLayerAddress([2, 0, 0, 0, 10, 1])),
    };
    let mut expected = vec![133, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 0, 0, 0, 10, 1];
    write_checksum(node(), all_routers(), &mut expected);
    assert_eq!(solicitation.emit(node(), all_routers()), expected);
    assert_eq!(
        RouterSolicitation::parse(node(), all_routers(), 255, &expected).unwrap(),
        solicitation
    );
}

#[test]
fn solicitation_from_the_unspecified_address() {
    let unspecified = Ipv6Addr::UNSPECIFIED;
    let with = RouterSolicitation {
        source_link_layer_address: Some(LinkLayerAddress([2, 0, 0, 0, 10, 1])),
    };
    let without = RouterSolicitation {
        source_link_layer_address: None,
    };
    // The sender leaves the option out; a receiver refuses it.
    let emitted = with.emit(unspecified, all_routers());
    assert_eq!(emitted.len(), 8);
    assert_eq!(
        RouterSolicitation::parse(unspecified, all_routers(), 255, &emitted),
        Ok(without)
    );
    let mut forbidden = with.emit(node(), all_routers());
    fix_up(unspecified, all_routers(), &mut forbidden);
    assert_eq!(
        RouterSolicitation::parse(unspecified, all_routers(), 255, &forbidden),
        Err(NeighbourDiscoveryError::Source(unspecified))
    );
}

#[test]
fn through_a_router() {
    let octets = advertisement().emit(router(), node()).unwrap();
    for hop_limit in 0..255 {
        assert_eq!(
            RouterAdvertisement::parse(router(), node(), hop_limit, &octets),
            Err(NeighbourDiscoveryError::HopLimit(hop_limit))
        );
        assert_eq!(
            RouterSolicitation::parse(node(), all_routers(), hop_limit, &[]),
            Err(NeighbourDiscoveryError::HopLimit(hop_limit))
        );
    }
}

#[test]
fn advertisement_from_a_global_address() {
    let global = address("2001:db8::1");
    assert_eq!(
        advertisement().emit(global, node()),
        Err(EmitError::SourceNotLinkLocal(global))
    );
    let mut octets = advertisement_octets();
    write_checksum(global, node(), &mut octets);
    assert_eq!(
        RouterAdvertisement::parse(global, node(), 255, &octets),
        Err(NeighbourDiscoveryError::SourceNotLinkLocal(global))
    );
}

#[test]
fn another_type_or_code() {
    let mut octets = advertisement_octets();
    octets[0] = 133;
    let expected = NeighbourDiscoveryError::Type {
        found: 133,
        code: 0,
        expected: 134,
    };
    assert_eq!(parse_advertisement(octets.clone()), Err(expected));
    octets[0] = 134;
    octets[1] = 1;
    let expected = NeighbourDiscoveryError::Type {
        found: 134,
        code: 1,
        expected: 134,
    };
    assert_eq!(parse_advertisement(octets), Err(expected));
}

#[test]
fn every_changed_bit_is_seen_by_the_checksum() {
    let whole = advertisement().emit(router(), node()).unwrap();
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut changed = whole.clone();
            changed[at] ^= 1 << bit;
            let result = RouterAdvertisement::parse(router(), node(), 255, &changed);
            assert!(
                matches!(result, Err(NeighbourDiscoveryError::Checksum { .. })),
                "octet {at} bit {bit}"
            );
        }
    }
}

#[test]
fn truncated_at_every_length() {
    let whole = advertisement_octets();
    // Where an option ends, the rest of the message is one with fewer options.
    let ends = [16, 24, 32, 64, 96];
    for length in 0..whole.len() {
        let result = parse_advertisement(whole[..length].to_vec());
        if length < 16 {
            assert_eq!(
                result,
                Err(NeighbourDiscoveryError::Truncated {
                    octets: length,
                    needed: 16
                })
            );
        } else if ends.contains(&length) {
            assert!(result.is_ok(), "{length}: {result:?}");
        } else {
            assert!(
                matches!(result, Err(NeighbourDiscoveryError::Option { .. })),
                "{length}: {result:?}"
            );
        }
    }
    for length in 0..8 {
        let result = parse_solicitation([133, 0, 0, 0, 0, 0, 0][..length].to_vec());
        assert_eq!(
            result,
            Err(NeighbourDiscoveryError::Truncated {
                octets: length,
                needed: 8
            })
        );
    }
}

/// With the checksum made to fit, every value of every octet is read or refused, without a panic.
#[test]
fn every_changed_octet_is_read_or_refused() {
    let (mut read, mut refused) = (0, 0);
    for at in 0..advertisement_octets().len() {
        for value in 0..=u8::MAX {
            let mut changed = advertisement_octets();
            changed[at] = value;
            match parse_advertisement(changed) {
                Ok(advertisement) => {
                    assert_survives(&advertisement);
                    read += 1;
                }
                Err(_) => refused += 1,
            }
        }
    }
    assert!(read > 10_000 && refused > 1_000, "{read} {refused}");
}

#[test]
fn options_of_no_length_or_past_the_end() {
    let fixed = [133, 0, 0, 0, 0, 0, 0, 0];
    for (options, option, length) in [
        (&[1, 0, 0, 0, 0, 0, 0, 0][..], 1, 0),
        (&[200, 0, 0, 0, 0, 0, 0, 0], 200, 0),
        (&[200, 2, 0, 0, 0, 0, 0, 0], 200, 2),
        (&[200], 200, 0),
        (&[200, 1], 200, 1),
    ] {
        let octets = [&fixed[..], options].concat();
        let expected = NeighbourDiscoveryError::Option {
            option,
            offset: 8,
            length,
        };
        assert_eq!(parse_solicitation(octets), Err(expected));
    }
}

#[test]
fn options_of_a_length_that_their_type_has_not() {
    let fixed = [134, 0, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    for (option, right) in [(1, 1), (5, 1), (3, 4)] {
        for length in 1..8_u8 {
            let mut octets = fixed.to_vec();
            octets.extend([option, length]);
            octets.resize(16 + usize::from(length) * 8, 0);
            let expected = NeighbourDiscoveryError::Option {
                option,
                offset: 16,
                length,
            };
            let result = parse_advertisement(octets);
            if length == right {
                assert!(result.is_ok());
            } else {
                assert_eq!(result, Err(expected));
            }
        }
    }
}

#[test]
fn other_options_and_flags_are_ignored() {
    let mut octets = vec![134, 0, 0, 0, 64, 0xc8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    octets.extend([25, 3, 0, 0]);
    octets.resize(octets.len() + 20, 1);
    octets.extend([5, 1, 0, 0, 0, 0, 0x05, 0xdc]);
    octets.extend([5, 1, 0, 0, 0, 0, 0, 1]);
    let advertisement = parse_advertisement(octets).unwrap();
    assert_eq!(advertisement.mtu, Some(1500), "the first counts");
    assert_eq!(advertisement.router_lifetime, Duration::ZERO);
}

#[test]
fn prefixes_that_a_host_ignores() {
    let parse_prefix = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut octets = advertisement_octets();
        octets.truncate(64);
        change(&mut octets);
        parse_advertisement(octets).unwrap().prefixes
    };
    // Preferred one second longer than valid; longer than an address.
    assert_eq!(
        parse_prefix(&|octets| octets[40..44].copy_from_slice(&7201_u32.to_be_bytes())),
        []
    );
    assert_eq!(parse_prefix(&|octets| octets[34] = 129), []);
    // Bits behind the length mean nothing.
    let prefixes = parse_prefix(&|octets| octets[63] = 7);
    assert_eq!(prefixes, advertisement().prefixes[..1]);
}

#[test]
fn what_does_not_fit_is_not_sent() {
    let emit = |change: &dyn Fn(&mut RouterAdvertisement)| {
        let mut changed = advertisement();
        change(&mut changed);
        changed.emit(router(), node()).unwrap_err().to_string()
    };
    assert_eq!(
        emit(&|advertisement| advertisement.router_lifetime = Duration::from_secs(65_536)),
        "router lifetime of 65536s is not 0..=65535 whole seconds"
    );
    assert_eq!(
        emit(&|advertisement| advertisement.router_lifetime = Duration::from_millis(1500)),
        "router lifetime of 1.5s is not 0..=65535 whole seconds"
    );
    assert_eq!(
        emit(&|advertisement| advertisement.reachable_time = Duration::from_micros(1)),
        "reachable time of 1µs is not 0..=4294967295 whole milliseconds"
    );
    assert_eq!(
        emit(&|advertisement| advertisement.retransmit_timer = Duration::from_millis(1 << 32)),
        "retransmit timer of 4294967.296s is not 0..=4294967295 whole milliseconds"
    );
    assert_eq!(
        emit(&|advertisement| advertisement.prefixes[0].preferred_lifetime = 7201),
        "2001:db8:200:1::/64: preferred lifetime 7201 exceeds valid lifetime 7200"
    );
}

fn assert_survives(advertisement: &RouterAdvertisement) {
    let emitted = advertisement.emit(router(), node()).unwrap();
    assert_eq!(emitted.len() % 8, 0);
    assert_eq!(
        &RouterAdvertisement::parse(router(), node(), 255, &emitted).unwrap(),
        advertisement
    );
}

fn any_prefix() -> impl Strategy<Value = PrefixInformation> {
    (any::<[u8; 16]>(), 0..=128_u8, any::<(bool, bool, u32, u32)>()).prop_map(|(address, length, rest)| {
        PrefixInformation {
            prefix: Ipv6Net::new(Ipv6Addr::from(address), length).unwrap().trunc(),
            on_link: rest.0,
            autonomous: rest.1,
            valid_lifetime: rest.2.max(rest.3),
            preferred_lifetime: rest.2.min(rest.3),
        }
    })
}

proptest! {
    #[test]
    fn advertisements_survive(
        current_hop_limit: u8,
        times: (u16, u32, u32),
        link_layer_address in of(any::<[u8; 6]>()),
        mtu in of(any::<u32>()),
        prefixes in vec(any_prefix(), 0..20),
    ) {
        assert_survives(&RouterAdvertisement {
            current_hop_limit,
            router_lifetime: Duration::from_secs(u64::from(times.0)),
            reachable_time: Duration::from_millis(u64::from(times.1)),
            retransmit_timer: Duration::from_millis(u64::from(times.2)),
            source_link_layer_address: link_layer_address.map(LinkLayerAddress),
            mtu,
            prefixes,
        });
    }

    #[test]
    fn solicitations_survive(link_layer_address in of(any::<[u8; 6]>())) {
        let solicitation = RouterSolicitation {
            source_link_layer_address: link_layer_address.map(LinkLayerAddress),
        };
        let emitted = solicitation.emit(node(), all_routers());
        prop_assert_eq!(RouterSolicitation::parse(node(), all_routers(), 255, &emitted), Ok(solicitation));
    }

    #[test]
    fn noise_never_panics(mut noise in vec(any::<u8>(), 0..128)) {
        if let Ok(advertisement) = parse_advertisement(noise.clone()) {
            assert_survives(&advertisement);
        }
        if let Some(octets) = noise.get_mut(..2) {
            octets.copy_from_slice(&[134, 0]);
        }
        if let Ok(advertisement) = parse_advertisement(noise.clone()) {
            assert_survives(&advertisement);
        }
        if let Some(octet) = noise.first_mut() {
            *octet = 133;
        }
        let _ = parse_solicitation(noise);
    }
}
