//! What a receiver has to refuse, and what it has to put up with.

use super::*;

const UPDATE: &str = "3b0c05009c150001821000960810016d6e31406578616d706c652e6e65740104000000001612004020010db8010000010000000000000000170200011802000401001b0800006553f100800019080000020000000a011a1000000000000000000000000000000000";

fn update() -> Vec<u8> {
    octets(UPDATE)
}

fn invalid(option: u8, offset: usize, what: &'static str, value: u64) -> MobilityError {
    MobilityError::OptionInvalid {
        option,
        offset,
        what,
        value,
    }
}

/// A prefix option of type `option` with this prefix length and first octet.
fn prefix_option(option: u8, length: u8, first: u8) -> Vec<u8> {
    let mut octets = vec![option, 18, 0, length, first];
    octets.resize(20, 0);
    octets
}

#[test]
fn truncated_at_every_length() {
    let whole = update();
    for length in 0..whole.len() {
        let cut = whole[..length].to_vec();
        let needed = if length < 8 { 8 } else { whole.len() };
        let expected = MobilityError::Truncated {
            octets: length,
            needed,
        };
        let result = if length < 8 {
            parse(maar_1(), cmd(), &cut)
        } else {
            parse_fixed_up(cut)
        };
        assert_eq!(result, Err(expected));
    }
}

#[test]
fn truncated_without_a_new_checksum_is_a_wrong_checksum() {
    let whole = update();
    // The last octets are zeros: only the length in the pseudo-header tells.
    assert!(matches!(
        parse(maar_1(), cmd(), &whole[..whole.len() - 8]),
        Err(MobilityError::Checksum { .. })
    ));
}

#[test]
fn every_changed_octet_is_seen_by_the_checksum() {
    for at in 0..update().len() {
        for bit in 0..8 {
            let mut changed = update();
            changed[at] ^= 1 << bit;
            assert!(
                matches!(
                    parse(maar_1(), cmd(), &changed),
                    Err(MobilityError::Checksum { .. })
                ),
                "{at}"
            );
        }
    }
}

/// With the checksum made to fit again, every value of every octet either is
/// refused or reads as a message that survives being sent.
#[test]
fn every_changed_octet_is_read_or_refused() {
    let (mut read, mut refused) = (0, 0);
    for at in 0..update().len() {
        for value in 0..=u8::MAX {
            let mut changed = update();
            changed[at] = value;
            match parse_fixed_up(changed) {
                Ok(message) => {
                    round_trip::assert_survives(&message);
                    read += 1;
                }
                Err(_) => refused += 1,
            }
        }
    }
    // Both happen a lot, so neither half of the test is empty.
    assert!(read > 10_000 && refused > 2_000, "{read} {refused}");
}

#[test]
fn other_ends_mean_another_checksum() {
    let result = parse(maar_2(), cmd(), &update());
    assert!(
        matches!(result, Err(MobilityError::Checksum { found: 0x9c15, .. })),
        "{result:?}"
    );
}

#[test]
fn checks_come_in_the_order_of_the_rfc() {
    // Everything is wrong at once; each repaired fault uncovers the next.
    let mut octets = update_with(&[8, 200]);
    octets[0] = 6;
    octets[1] = 0;
    octets[2] = 13;
    octets[4] ^= 1;
    assert!(matches!(
        parse(maar_1(), cmd(), &octets),
        Err(MobilityError::Checksum { .. })
    ));
    assert_eq!(parse_fixed_up(octets.clone()), Ok(MobilityMessage::Other(13)));
    octets[2] = 5;
    assert_eq!(
        parse_fixed_up(octets.clone()),
        Err(MobilityError::PayloadProto(6))
    );
    octets[0] = 59;
    let header_len = MobilityError::HeaderLen {
        header_len: 0,
        minimum: 1,
        mh_type: 5,
    };
    assert_eq!(parse_fixed_up(octets.clone()), Err(header_len));
    octets[1] = 1;
    assert_eq!(
        parse_fixed_up(octets),
        Err(MobilityError::OptionOverrun {
            option: 8,
            offset: 12
        })
    );
}

#[test]
fn header_len_below_the_minimum_of_its_type() {
    for (mh_type, minimum) in [(5, 1), (6, 1), (7, 2)] {
        for header_len in 0..minimum {
            let octets = header(mh_type, &vec![0; 2 + 8 * usize::from(header_len)]);
            let expected = MobilityError::HeaderLen {
                header_len,
                minimum,
                mh_type,
            };
            assert_eq!(parse_fixed_up(octets), Err(expected));
        }
    }
}

#[test]
fn more_octets_than_header_len_says() {
    let mut octets = update();
    octets.extend([0; 8]);
    assert_eq!(
        parse_fixed_up(octets),
        Err(MobilityError::Oversized {
            octets: 112,
            header_len: 104
        })
    );
}

#[test]
fn without_the_proxy_flag() {
    let mut octets = update();
    octets[8] &= !0x02;
    assert_eq!(
        parse_fixed_up(octets),
        Err(MobilityError::NotProxy { mh_type: 5 })
    );
    // The bit of the update is not that of the acknowledgement (0x42: what MAD-PMIPv6 sends).
    let acknowledgement = header(6, &[0, 0x42, 0, 1, 0, 0, 1, 2, 0, 0]);
    assert_eq!(
        parse_fixed_up(acknowledgement),
        Err(MobilityError::NotProxy { mh_type: 6 })
    );
}

/// RFC 8885 wants an error to go back, so the update has to be readable.
#[test]
fn without_the_distributed_flag() {
    let mut octets = update();
    octets[9] &= !0x10;
    let MobilityMessage::ProxyBindingUpdate(update) = parse_fixed_up(octets).unwrap() else {
        panic!("no update")
    };
    assert!(!update.is_distributed() && update.asks_for_acknowledgement());
    assert_eq!(update.sequence, 1);
    assert_eq!(
        update.options.mobile_node_identifier,
        Some(MobileNodeIdentifier::nai("mn1@example.net"))
    );
}

#[test]
fn option_past_the_end() {
    // The type alone, with no length.
    assert_eq!(
        parse_update_with(&[0, 0, 0, 22]),
        Err(MobilityError::OptionOverrun {
            option: 22,
            offset: 15
        })
    );
    // One octet too many; of an unknown type too, and of padding.
    for option in [22, 200, 1] {
        assert_eq!(
            parse_update_with(&[0, option, 2, 0]),
            Err(MobilityError::OptionOverrun { option, offset: 13 })
        );
    }
}

#[test]
fn wrong_lengths() {
    let lengths: [(u8, &[u8]); 12] = [
        (3, &[16]),
        (22, &[18]),
        (23, &[2]),
        (24, &[2]),
        (26, &[16]),
        (27, &[8]),
        (65, &[18]),
        (66, &[18]),
        (67, &[34]),
        (68, &[16]),
        (69, &[16]),
        (8, &[]),
    ];
    for (option, right) in lengths {
        for length in 0..=60_u8 {
            let mut octets = vec![option, length];
            octets.resize(2 + usize::from(length), 0);
            let result = parse_update_with(&octets);
            let valid = if right.is_empty() {
                length > 0
            } else {
                right.contains(&length)
            };
            if valid {
                assert!(result.is_ok(), "option {option} length {length}: {result:?}");
            } else {
                assert_eq!(result, Err(invalid(option, 12, "length", u64::from(length))));
            }
        }
    }
    for option in [25, 70] {
        for length in [0, 1] {
            let octets = [option, length, 0, 0];
            assert_eq!(
                parse_update_with(&octets),
                Err(invalid(option, 12, "length", u64::from(length)))
            );
        }
    }
}

#[test]
fn prefixes_that_are_none() {
    for option in [22, 65, 66] {
        assert_eq!(
            parse_update_with(&prefix_option(option, 129, 0)),
            Err(invalid(option, 12, "prefix length", 129))
        );
        let error = parse_update_with(&prefix_option(option, 3, 0x30)).unwrap_err();
        assert_eq!(error, invalid(option, 12, "set bits behind prefix length", 3));
        assert_eq!(
            error.to_string(),
            format!("option {option} at offset 12 cannot have set bits behind prefix length 3")
        );
        assert!(parse_update_with(&prefix_option(option, 3, 0x20)).is_ok());
        assert!(parse_update_with(&prefix_option(option, 0, 0)).is_ok());
        assert!(parse_update_with(&prefix_option(option, 128, 0x20)).is_ok());
    }
    let mut previous = vec![67, 34, 0, 129];
    previous.resize(36, 0);
    assert_eq!(
        parse_update_with(&previous),
        Err(invalid(67, 12, "prefix length", 129))
    );
    previous[3] = 64;
    previous[35] = 1;
    assert_eq!(
        parse_update_with(&previous),
        Err(invalid(67, 12, "set bits behind prefix length", 64))
    );
}

#[test]
fn options_anywhere() {
    // The same option at every offset modulo 8, which a sender may not do.
    for padding in 0..8 {
        let mut options = vec![0; padding];
        options.extend(prefix_option(22, 3, 0x20));
        assert_eq!(
            parse_update_with(&options).unwrap().home_network_prefixes,
            [prefix("2000::/3")]
        );
    }
    // Any order: the identifier last.
    let options = parse_update_with(&[24, 2, 0, 4, 23, 2, 9, 1, 8, 2, 1, b'a']).unwrap();
    assert_eq!(options.access_technology_type, Some(4));
    assert_eq!(
        options.handoff_indicator,
        Some(1),
        "the reserved octet says nothing"
    );
    assert_eq!(
        options.mobile_node_identifier,
        Some(MobileNodeIdentifier::nai("a"))
    );
}

#[test]
fn padding_of_any_length_and_content() {
    let options = parse_update_with(&[1, 0, 1, 3, 9, 9, 9, 0, 0, 23, 2, 0, 5]).unwrap();
    assert_eq!(
        options,
        MobilityOptions {
            handoff_indicator: Some(5),
            ..MobilityOptions::default()
        }
    );
}

#[test]
fn unknown_options_are_skipped_and_counted() {
    // One of length zero, one that holds what would be an option, then a known one.
    let options = parse_update_with(&[200, 0, 201, 4, 23, 2, 0, 1, 23, 2, 0, 5]).unwrap();
    assert_eq!(options.unknown, 2);
    assert_eq!(options.handoff_indicator, Some(5));
}

#[test]
fn the_first_of_several_counts_and_the_rest_is_checked() {
    let options = parse_update_with(&[23, 2, 0, 5, 23, 2, 0, 1, 8, 2, 1, b'a', 8, 2, 1, b'b']).unwrap();
    assert_eq!(options.handoff_indicator, Some(5));
    assert_eq!(
        options.mobile_node_identifier,
        Some(MobileNodeIdentifier::nai("a"))
    );
    assert_eq!(
        parse_update_with(&[23, 2, 0, 5, 23, 1, 0]),
        Err(invalid(23, 16, "length", 1))
    );
}

#[test]
fn repeated_prefixes_stay_in_order() {
    let mut octets = prefix_option(22, 3, 0x20);
    octets.extend(prefix_option(22, 8, 0x30));
    octets.extend(prefix_option(65, 8, 0x31));
    octets.extend(prefix_option(66, 8, 0x32));
    let options = parse_update_with(&octets).unwrap();
    assert_eq!(
        options.home_network_prefixes,
        [prefix("2000::/3"), prefix("3000::/8")]
    );
    assert_eq!(options.anchored_prefixes, [prefix("3100::/8")]);
    assert_eq!(options.local_prefixes, [prefix("3200::/8")]);
    assert_eq!(options.session_prefixes(), options.home_network_prefixes);
    let options = parse_update_with(&prefix_option(65, 8, 0x31)).unwrap();
    assert_eq!(options.session_prefixes(), [prefix("3100::/8")]);
}

/// Options 69 and 70 describe the Previous MAAR before them, or the sender.
#[test]
fn logical_interfaces_belong_to_what_is_before_them() {
    let link_local = |last: u8| {
        let mut octets = vec![69, 16, 0xfe, 0x80];
        octets.resize(17, 0);
        octets.push(last);
        octets
    };
    let mut previous = vec![67, 34, 0, 0];
    previous.resize(36, 0);
    let mut octets = link_local(1);
    octets.extend([70, 3, 0, 0, 9]);
    octets.extend(&previous);
    octets.extend(&previous);
    octets.extend(link_local(2));
    octets.extend(link_local(3));
    let options = parse_update_with(&octets).unwrap();
    assert_eq!(
        options.logical_interface.link_local_address,
        Some(address("fe80::1"))
    );
    assert_eq!(options.logical_interface.link_layer_address, Some(vec![9]));
    assert_eq!(options.previous_maars.len(), 2);
    assert_eq!(
        options.previous_maars[0].logical_interface,
        LogicalInterface::default()
    );
    let second = &options.previous_maars[1].logical_interface;
    assert_eq!(
        second.link_local_address,
        Some(address("fe80::2")),
        "the first counts"
    );
}

/// The form of MAD-PMIPv6: no alignment, no padding, a length that is no
/// multiple of 8 and a Header Len that is rounded down.
#[test]
fn header_that_is_no_multiple_of_eight() {
    let mut octets = vec![59, 2, 5, 0, 0, 0, 0, 1, 0x82, 0, 0, 15];
    octets.extend([8, 9, 2, 0, 0, 0, 0, 0, 0, 0, 1, 23, 2, 0, 1]);
    assert_eq!(octets.len(), 27);
    assert_eq!(
        parse_fixed_up(octets.clone()),
        Err(MobilityError::Oversized {
            octets: 27,
            header_len: 24
        })
    );
    octets[1] = 3;
    assert_eq!(
        parse_fixed_up(octets),
        Err(MobilityError::Truncated {
            octets: 27,
            needed: 32
        })
    );
}

#[test]
fn binding_error_with_options() {
    let mut rest = vec![1, 0];
    rest.extend(maar_2().octets());
    rest.extend([200, 2, 0, 0, 0, 0, 0, 0]);
    let expected = BindingError {
        status: binding_error_status::UNKNOWN_BINDING,
        home_address: maar_2(),
    };
    assert_eq!(
        parse_fixed_up(header(7, &rest)),
        Ok(MobilityMessage::BindingError(expected))
    );
    rest[19] = 7;
    assert_eq!(
        parse_fixed_up(header(7, &rest)),
        Err(MobilityError::OptionOverrun {
            option: 200,
            offset: 24
        })
    );
}

/// The largest header there is, all prefixes: no more of them than fit.
#[test]
fn the_size_of_a_header_bounds_repetition() {
    let octets: Vec<u8> = std::iter::repeat_n(prefix_option(22, 3, 0x20), 101)
        .flatten()
        .collect();
    assert_eq!(update_with(&octets).len(), 2032);
    assert_eq!(
        parse_update_with(&octets).unwrap().home_network_prefixes.len(),
        101
    );
}
