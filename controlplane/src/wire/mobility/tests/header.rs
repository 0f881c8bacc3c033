//! Headers that a receiver has to refuse.

use super::*;

const UPDATE: &str = "3b0c05009c150001821000960810016d6e31406578616d706c652e6e65740104000000001612004020010db8010000010000000000000000170200011802000401001b0800006553f100800019080000020000000a011a1000000000000000000000000000000000";

fn update() -> Vec<u8> {
    octets(UPDATE)
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
