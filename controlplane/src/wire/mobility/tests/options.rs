//! Options that a receiver has to refuse, and those that it has to put up with.

use super::*;

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

/// Vendor 32473, sub-type 1, version 0, then these.
fn endpoint_option(tunnel_type: u8, teid: u32) -> Vec<u8> {
    let mut octets = vec![19, 29, 0, 0, 0x7e, 0xd9, 1, 0, tunnel_type, 0, 0];
    octets.extend(maar_2().octets());
    octets.extend(teid.to_be_bytes());
    octets
}

#[test]
fn tunnel_endpoints_stay_in_order() {
    let mut octets = endpoint_option(2, 0xfeed_1234);
    octets.extend(endpoint_option(1, 0));
    // What is reserved says nothing.
    octets[9] = 0xaa;
    octets[10] = 0x55;
    let options = parse_update_with(&octets).unwrap();
    let teid = 0xfeed_1234.try_into().unwrap();
    let plain = TunnelEndpoint {
        address: maar_2(),
        tunnel_type: TunnelType::Ipv6InIpv6,
    };
    assert_eq!(
        options.tunnel_endpoints,
        [TunnelEndpoint::gtpu(maar_2(), teid), plain]
    );
    let endpoint = TunnelType::GtpU { teid, ipv4: None };
    assert_eq!(options.endpoint(maar_2()), Some(endpoint));
    assert_eq!(options.endpoint(maar_1()), None);
    assert_eq!(options.unknown, 0);
}

/// Version 1, octet by octet.
#[test]
fn an_endpoint_with_an_ipv4_address() {
    let mut octets = endpoint_option(2, 0xfeed_1234);
    octets[1] = 33;
    octets[7] = 1;
    octets.extend([192, 0, 2, 1]);
    let endpoint = |ipv4| TunnelEndpoint {
        address: maar_2(),
        tunnel_type: TunnelType::GtpU {
            teid: 0xfeed_1234.try_into().unwrap(),
            ipv4,
        },
    };
    let with = endpoint(Some("192.0.2.1".parse().unwrap()));
    let options = parse_update_with(&octets).unwrap();
    assert_eq!(options.tunnel_endpoints, [with]);
    assert_eq!(crate::wire::mobility::tunnel_endpoint::data(&with), octets[2..]);
    octets[31..].fill(0);
    assert_eq!(
        parse_update_with(&octets).unwrap().tunnel_endpoints,
        [endpoint(None)]
    );
    for length in (27..60_u8).filter(|length| *length != 33) {
        octets.resize(2 + usize::from(length), 0);
        octets[1] = length;
        assert_eq!(
            parse_update_with(&octets),
            Err(invalid(19, 12, "length", length.into()))
        );
    }
}

#[test]
fn tunnel_endpoints_that_are_none() {
    for (octets, what, value) in [
        (endpoint_option(2, 0), "TEID", 0),
        (endpoint_option(1, 7), "TEID", 7),
        (endpoint_option(0, 7), "tunnel type", 0),
        (endpoint_option(4, 7), "tunnel type", 4),
    ] {
        assert_eq!(parse_update_with(&octets), Err(invalid(19, 12, what, value)));
    }
    // Ours, but shorter or longer than it has to be; and too short to say whose it is.
    for length in (0..60_u8).filter(|length| *length != 29) {
        let mut octets = endpoint_option(2, 7);
        octets.resize(2 + usize::from(length), 0);
        octets[1] = length;
        assert_eq!(
            parse_update_with(&octets),
            Err(invalid(19, 12, "length", length.into())),
            "{length}"
        );
    }
}

/// Vendor 32473, sub-type 2, version 0, then these.
fn relocation_option(step: u8) -> Vec<u8> {
    let mut octets = vec![19, 24, 0, 0, 0x7e, 0xd9, 2, 0, step, 0xff];
    octets.extend(maar_2().octets());
    octets
}

#[test]
fn the_steps_of_a_relocation() {
    for (octet, step) in [
        (1, RelocationStep::Take),
        (2, RelocationStep::Yield),
        (3, RelocationStep::Prepare),
    ] {
        let anchor = maar_2();
        let mut octets = relocation_option(octet);
        // Of several the first counts.
        octets.extend(relocation_option(4 - octet));
        let options = parse_update_with(&octets).unwrap();
        let expected = AnchorRelocation { step, anchor };
        assert_eq!((options.anchor_relocation, options.unknown), (Some(expected), 0));
    }
    for step in [0, 4, 255] {
        let refused = parse_update_with(&relocation_option(step));
        assert_eq!(refused, Err(invalid(19, 12, "relocation step", step.into())));
    }
    for length in (5..60_u8).filter(|length| *length != 24 && *length != 5) {
        let mut octets = relocation_option(1);
        octets.resize(2 + usize::from(length), 0);
        octets[1] = length;
        let refused = parse_update_with(&octets);
        assert_eq!(refused, Err(invalid(19, 12, "length", length.into())), "{length}");
    }
    // A version that is not known here.
    let mut octets = relocation_option(1);
    octets[7] = 1;
    assert_eq!(parse_update_with(&octets).unwrap().unknown, 1);
}

/// Vendor 32473, sub-type 5, version 0, then these.
fn mobility_option(kind: u8, prefix_length: u8) -> Vec<u8> {
    let mut octets = vec![19, 32, 0, 0, 0x7e, 0xd9, 5, 0, kind, prefix_length];
    octets.extend(address("2001:db8:100:1::").octets());
    octets.extend(1000_u64.to_be_bytes());
    octets
}

#[test]
fn the_mobility_of_prefixes() {
    let mut octets = mobility_option(2, 64);
    octets.extend(mobility_option(1, 64));
    let options = parse_update_with(&octets).unwrap();
    let prefix = "2001:db8:100:1::/64".parse().unwrap();
    let limit = PrefixMobilityKind::DetourLimit { octets: 1000 };
    let expected = [limit, PrefixMobilityKind::Ended].map(|kind| PrefixMobility { prefix, kind });
    assert_eq!(options.prefix_mobilities, expected);
    let options = parse_update_with(&mobility_option(3, 64)).unwrap();
    let ends = PrefixMobilityKind::EndsAfter { seconds: 1000 };
    assert_eq!(options.prefix_mobilities[0].kind, ends);
    for (kind, length, what, value) in [
        (0, 64, "prefix mobility", 0),
        (4, 64, "prefix mobility", 4),
        (1, 129, "prefix length", 129),
        (1, 63, "set bits behind prefix length", 63),
    ] {
        let refused = parse_update_with(&mobility_option(kind, length));
        assert_eq!(refused, Err(invalid(19, 12, what, value)));
    }
    for length in (6..60_u8).filter(|length| *length != 32) {
        let mut octets = mobility_option(1, 64);
        octets.resize(2 + usize::from(length), 0);
        octets[1] = length;
        let refused = parse_update_with(&octets);
        assert_eq!(refused, Err(invalid(19, 12, "length", length.into())), "{length}");
    }
}

/// RFC 7148 section 4.1.
#[test]
fn delegated_mobile_network_prefixes() {
    let with = |data: &[u8]| {
        let mut octets = vec![55, u8::try_from(data.len()).unwrap()];
        octets.extend_from_slice(data);
        parse_update_with(&octets)
    };
    let prefix = address("2001:db8:f00::").octets();
    // Reserved bits count for nothing.
    let options = with(&[&[0x7f, 56], &prefix[..]].concat()).unwrap();
    let expected: Ipv6Net = "2001:db8:f00::/56".parse().unwrap();
    assert_eq!(options.delegated_prefixes, [expected]);
    // Those of IPv4 are not for us.
    let options = with(&[0x80, 24, 192, 0, 2, 0]).unwrap();
    assert_eq!((options.delegated_prefixes.len(), options.unknown), (0, 1));
    assert_eq!(
        with(&[0x80, 33, 192, 0, 2, 0]),
        Err(invalid(55, 12, "prefix length", 33))
    );
    let long = [&[0, 129], &prefix[..]].concat();
    assert_eq!(with(&long), Err(invalid(55, 12, "prefix length", 129)));
    let bits = [&[0, 32], &prefix[..]].concat();
    assert_eq!(
        with(&bits),
        Err(invalid(55, 12, "set bits behind prefix length", 32))
    );
    for (flags, length) in [
        (0, 6),
        (0x80, 18),
        (0, 17),
        (0, 19),
        (0, 1),
        (0x80, 1),
        (0x80, 5),
        (0x80, 7),
    ] {
        let mut data = vec![0; length];
        data[0] = flags;
        assert_eq!(
            with(&data),
            Err(invalid(55, 12, "length", length as u64)),
            "{flags} {length}"
        );
    }
    assert_eq!(with(&[]), Err(invalid(55, 12, "length", 0)));
}

fn context_option(sub_type: u8, kind: u8, rest: &[u8]) -> Vec<u8> {
    let mut octets = vec![19, 0, 0, 0, 0x7e, 0xd9, sub_type, 0, kind, 64];
    octets.extend([0, 0, 0, 0, 0, 0, 0, 1].repeat(2));
    octets.extend(prefix("2001:db8:100::/64").network().octets());
    octets.extend(rest);
    octets[1] = u8::try_from(octets.len() - 2).unwrap();
    octets
}

#[test]
fn what_cannot_be_of_a_context_is_named() {
    let usage = |name: &[u8]| {
        let mut rest = vec![0; 48];
        rest.push(u8::try_from(name.len()).unwrap());
        rest.extend(name);
        context_option(3, 1, &rest)
    };
    let refused = |octets: &[u8]| match parse_update_with(octets) {
        Err(MobilityError::OptionInvalid { what, value, .. }) => (what, value),
        other => panic!("{other:?}"),
    };
    let options = parse_update_with(&usage(b"web")).unwrap();
    assert!(matches!(
        options.context_transfer.unwrap().context,
        Context::Usage { filter: Some(name), .. } if name == "web"
    ));
    assert_eq!(refused(&usage(b"\xff")), ("name of octets", 1));
    assert_eq!(refused(&context_option(3, 3, &[0; 49])), ("kind of context", 3));
    assert_eq!(refused(&context_option(3, 0, &[0; 49])), ("kind of context", 0));
    // What was metered is of a filter.
    let coloured = |rest: &[u8]| context_option(3, 2, &[&[0; 95][..], &[7], rest].concat());
    assert_eq!(refused(&coloured(&[0])), ("colours of a whole prefix", 2));
    assert_eq!(refused(&coloured(&[])), ("length", 136));
    assert_eq!(refused(&context_option(3, 2, &[0; 50])), ("length", 90));
    let options = parse_update_with(&coloured(b"\x03web")).unwrap();
    assert!(matches!(
        options.context_transfer.unwrap().context,
        Context::Usage { filter: Some(name), count } if name == "web" && count.colours.bytes == [0, 0, 7]
    ));
    assert_eq!(refused(&context_option(4, 3, &[0; 49])), ("kind of context", 3));
    let mut wrong = usage(b"");
    wrong[9] = 129;
    assert_eq!(refused(&wrong), ("prefix length", 129));
    wrong[9] = 16;
    assert_eq!(refused(&wrong), ("set bits behind prefix length", 16));
    // Each length but the right one.
    let right = usage(b"web");
    for length in 7..right.len() + 5 {
        let mut octets = right.clone();
        octets.resize(length + 2, 0);
        octets[1] = u8::try_from(length).unwrap();
        if octets.len() != right.len() {
            assert_eq!(refused(&octets), ("length", length as u64));
        }
    }
    let filter = |at: usize, value: u8| {
        // Priority, action, direction, parts, times, mask, a name of one octet.
        let mut rest = vec![0, 1, 0, 0, 0, 8 + 64, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, b'f'];
        // Ports and flow label.
        rest.extend([0, 80, 0, 90, 0, 0, 0, 7]);
        rest[at] = value;
        context_option(4, 1, &rest)
    };
    assert!(
        parse_update_with(&filter(0, 0))
            .unwrap()
            .context_transfer
            .is_some()
    );
    // A meter of these bursts, with so many octets in its buckets.
    let meter = |[committed, other]: [u64; 2]| {
        let mut octets = vec![19, 0, 0, 0, 0x7e, 0xd9, 4, 0, 2, 8, 0, 1, b'm'];
        for number in [1000, 1500, 2000, 3000, committed, other] {
            octets.extend(u64::to_be_bytes(number));
        }
        octets[1] = u8::try_from(octets.len() - 2).unwrap();
        octets
    };
    let options = parse_update_with(&meter([1500, 0])).unwrap();
    let fill = options.transferred_meter.unwrap().fill.unwrap();
    assert_eq!((fill.committed, fill.other), (1500, 0));
    let above = "octets in a bucket above its burst";
    assert_eq!(refused(&meter([1501, 0])), (above, 1501));
    assert_eq!(refused(&meter([0, 3001])), (above, 3001));
    let mut short = meter([0, 0]);
    short.truncate(short.len() - 8);
    short[1] -= 8;
    assert_eq!(refused(&short), ("length", short.len() as u64 - 2));
    assert_eq!(refused(&filter(2, 7)), ("action of a filter", 7));
    assert_eq!(refused(&filter(3, 3)), ("direction of a filter", 3));
    assert_eq!(refused(&filter(20, 79)), ("last port before the first", 79));
    assert_eq!(refused(&filter(22, 16)), ("flow label", 0x0010_0007));
}

#[test]
fn options_of_other_vendors_and_newer_ones_are_skipped() {
    // Another vendor, sub-type and version, each with data that would be malformed in one of ours.
    for (at, value) in [(2, 1), (5, 0xda), (6, 0), (6, 200), (7, 2)] {
        let mut octets = endpoint_option(9, 0);
        octets[at] = value;
        let options = parse_update_with(&octets).unwrap();
        assert_eq!((options.tunnel_endpoints.len(), options.unknown), (0, 1), "{at}");
    }
    // No more than a vendor and nothing.
    let options = parse_update_with(&[19, 4, 0, 0, 0, 9]).unwrap();
    assert_eq!(options.unknown, 1);
}

/// RFC 5845 section 6.1: two octets of nothing, and a key or none.
#[test]
fn gre_keys() {
    let with = |data: &[u8]| {
        let mut octets = vec![33, u8::try_from(data.len()).unwrap()];
        octets.extend_from_slice(data);
        parse_update_with(&octets)
    };
    let key = 0x0102_0304;
    let options = with(&[0xff, 0xff, 1, 2, 3, 4]).unwrap();
    assert_eq!(options.gre_key, Some(GreKey(Some(key))));
    assert_eq!(
        options.only_endpoint(maar_1()),
        Some(TunnelType::Gre { key }),
        "whoever sent it"
    );
    assert_eq!(options.endpoint(maar_1()), None);
    let without = with(&[0, 0]).unwrap();
    assert_eq!(without.gre_key, Some(GreKey(None)));
    assert_eq!(without.only_endpoint(maar_1()), None);
    for length in [0, 1, 3, 4, 5, 7, 8] {
        let refused = with(&vec![0; length]);
        assert_eq!(refused, Err(invalid(33, 12, "length", length as u64)));
    }
    let mut told = MobilityOptions::default();
    told.tell(maar_1(), TunnelType::Gre { key });
    assert_eq!((told.gre_key, told.tunnel_endpoints.len()), (options.gre_key, 0));
    // An endpoint among those of several MAARs.
    let options = parse_update_with(&endpoint_option(3, 0)).unwrap();
    assert_eq!(options.endpoint(maar_2()), Some(TunnelType::Gre { key: 0 }));
}
