//! Messages whose octets are known: made by another program, and read without a complaint by tshark.

use super::*;

fn common(home_network_prefix: &str, handoff_indicator: u8) -> MobilityOptions {
    MobilityOptions {
        mobile_node_identifier: Some(MobileNodeIdentifier::nai("mn1@example.net")),
        home_network_prefixes: vec![prefix(home_network_prefix)],
        handoff_indicator: Some(handoff_indicator),
        access_technology_type: Some(4),
        // 1 700 000 000.5 s.
        timestamp: Some(1_700_000_000 << 16 | 0x8000),
        link_layer_identifier: Some(vec![2, 0, 0, 0, 10, 1]),
        ..MobilityOptions::default()
    }
}

/// Both ways: what is sent, and what is read.
fn check(message: &MobilityMessage, source: Ipv6Addr, destination: Ipv6Addr, hexadecimal: &str) {
    let emitted = emit(message, source, destination).unwrap();
    let expected = octets(hexadecimal);
    assert_eq!(emitted, expected, "{emitted:02x?}\n{expected:02x?}");
    assert_eq!(&parse(source, destination, &expected).unwrap(), message);
}

#[test]
fn update_at_first_attachment() {
    let message = MobilityMessage::ProxyBindingUpdate(ProxyBindingUpdate {
        sequence: 1,
        flags: update_flags::ACKNOWLEDGE | update_flags::PROXY | update_flags::DISTRIBUTED,
        lifetime: 150,
        options: MobilityOptions {
            link_local_address: Some(Ipv6Addr::UNSPECIFIED),
            ..common("2001:db8:100:1::/64", 1)
        },
    });
    check(
        &message,
        maar_1(),
        cmd(),
        "3b0c05009c150001821000960810016d6e31406578616d706c652e6e65740104000000001612004020010db8010000010000000000000000170200011802000401001b0800006553f100800019080000020000000a011a1000000000000000000000000000000000",
    );
    assert_eq!(message.name(), "Proxy Binding Update");
}

#[test]
fn acknowledgement_of_first_attachment() {
    let message = MobilityMessage::ProxyBindingAcknowledgement(ProxyBindingAcknowledgement {
        status: Status::ACCEPTED,
        flags: acknowledgement_flags::PROXY | acknowledgement_flags::DISTRIBUTED,
        sequence: 1,
        lifetime: 150,
        options: MobilityOptions {
            link_local_address: Some(address("fe80::200:5eff:fe00:5213")),
            ..common("2001:db8:100:1::/64", 1)
        },
    });
    check(
        &message,
        cmd(),
        maar_1(),
        "3b0c06006d6f0022000100960810016d6e31406578616d706c652e6e65740104000000001612004020010db8010000010000000000000000170200011802000401001b0800006553f100800019080000020000000a011a10fe8000000000000002005efffe005213",
    );
    assert_eq!(message.name(), "Proxy Binding Acknowledgement");
}

/// RFC 7077 sections 4.1, 4.2.
#[test]
fn notification_and_its_acknowledgement() {
    let options = MobilityOptions {
        mobile_node_identifier: Some(MobileNodeIdentifier::nai("mn1@example.net")),
        ..MobilityOptions::default()
    };
    let message = MobilityMessage::UpdateNotification(UpdateNotification {
        sequence: 0x0102,
        reason: notification_reason::FORCE_RE_REGISTRATION,
        flags: notification_flags::RETRANSMISSION,
        options: options.clone(),
    });
    check(
        &message,
        maar_1(),
        maar_2(),
        "3b031300759b0102000140000810016d6e31406578616d706c652e6e65740100",
    );
    let message = MobilityMessage::UpdateNotificationAcknowledgement(UpdateNotificationAcknowledgement {
        sequence: 0x0102,
        status: notification_status::NODE_NOT_ATTACHED,
        options,
    });
    check(
        &message,
        maar_2(),
        maar_1(),
        "3b031400309c0102840000000810016d6e31406578616d706c652e6e65740100",
    );
}

/// RFC 6602 section 4.3: of all nodes at once.
#[test]
fn notification_about_every_node() {
    let message = MobilityMessage::UpdateNotification(UpdateNotification {
        sequence: 0x0102,
        reason: notification_reason::FORCE_RE_REGISTRATION,
        flags: 0,
        options: MobilityOptions {
            mobile_node_group_identifier: Some(ALL_SESSIONS),
            ..MobilityOptions::default()
        },
    });
    check(
        &message,
        cmd(),
        maar_1(),
        "3b02130020c8010200010000320601000000000101020000",
    );
}

/// How long each prefix may be used, as a DPA tells a DPN.
#[test]
fn acknowledgement_with_lifetimes_of_prefixes() {
    let lifetimes = |text: &str, preferred, valid| PrefixLifetimes {
        prefix: prefix(text),
        preferred,
        valid,
    };
    let message = MobilityMessage::ProxyBindingAcknowledgement(ProxyBindingAcknowledgement {
        status: Status::ACCEPTED,
        flags: acknowledgement_flags::PROXY,
        sequence: 1,
        lifetime: 150,
        options: MobilityOptions {
            home_network_prefixes: vec![prefix("2001:db8:200:1::/64"), prefix("2001:db8:100:1::/64")],
            prefix_lifetimes: vec![
                lifetimes("2001:db8:200:1::/64", 1800, u32::MAX),
                lifetimes("2001:db8:100:1::/64", 0, 7200),
            ],
            ..common("::/0", 4)
        },
    });
    check(
        &message,
        maar_1(),
        maar_2(),
        "3b160600ba190020000100960810016d6e31406578616d706c652e6e65740104000000001612004020010db8020000010000000000000000010200001612004020010db8010000010000000000000000170200041802000401001b0800006553f100800019080000020000000a01132000007ed90700400000000708ffffffff20010db80200000100000000000000000100132000007ed9070040000000000000001c2020010db801000001000000000000000001020000",
    );
}

#[test]
fn update_to_a_previous_maar() {
    let message = MobilityMessage::ProxyBindingUpdate(ProxyBindingUpdate {
        sequence: 7,
        flags: 0x8210,
        lifetime: 150,
        options: MobilityOptions {
            serving_maar: Some(maar_2()),
            ..common("2001:db8:100:1::/64", 3)
        },
    });
    check(
        &message,
        cmd(),
        maar_1(),
        "3b0c050044480007821000960810016d6e31406578616d706c652e6e65740104000000001612004020010db8010000010000000000000000170200031802000401001b0800006553f100800019080000020000000a01441020010db8000b00000000000000000001",
    );
}

#[test]
fn acknowledgement_with_a_previous_maar_and_its_logical_interface() {
    let message = MobilityMessage::ProxyBindingAcknowledgement(ProxyBindingAcknowledgement {
        status: Status::ACCEPTED,
        flags: 0x22,
        sequence: 2,
        lifetime: 150,
        options: MobilityOptions {
            previous_maars: vec![PreviousMaarOption {
                address: maar_1(),
                home_network_prefix: prefix("2001:db8:100:1::/64"),
                logical_interface: LogicalInterface {
                    link_local_address: Some(address("fe80::200:5eff:fe00:5213")),
                    link_layer_address: Some(vec![0, 0, 0x5e, 0, 0x52, 0x13]),
                },
            }],
            ..common("2001:db8:200:1::/64", 3)
        },
    });
    check(
        &message,
        cmd(),
        maar_2(),
        "3b140600a81a0022000200960810016d6e31406578616d706c652e6e65740104000000001612004020010db8020000010000000000000000170200031802000401001b0800006553f100800019080000020000000a010104000000004322004020010db8000a0000000000000000000120010db80100000100000000000000000104000000004510fe8000000000000002005efffe0052134608000000005e005213010400000000",
    );
}

/// A Heartbeat (RFC 5847) is not processed: it earns a Binding Error.
#[test]
fn heartbeat_is_another_type() {
    let heartbeat = octets("3b020d003da000010000002a01001c040000000301020000");
    let message = parse(cmd(), maar_1(), &heartbeat).unwrap();
    assert_eq!(message, MobilityMessage::Other(13));
    assert_eq!(message.name(), "Heartbeat");
    assert_eq!(emit(&message, cmd(), maar_1()), Err(EmitError::Type(13)));
}

/// An AUTH option (RFC 4285) is one more unknown one.
#[test]
fn update_with_an_authentication_option() {
    let update = octets(
        "3b0f05003f000001821000960810016d6e31406578616d706c652e6e65740104000000001612004020010db8010000010000000000000000170200011802000401001b0800006553f100800019080000020000000a011a10000000000000000000000000000000000103000000091101000001008a999dfa14d4c90ccabd78ba",
    );
    let MobilityMessage::ProxyBindingUpdate(update) = parse(maar_1(), cmd(), &update).unwrap() else {
        panic!("no update");
    };
    assert_eq!(update.options.unknown, 1);
    assert_eq!(update.options.link_local_address, Some(Ipv6Addr::UNSPECIFIED));
}

#[test]
fn binding_error() {
    let message = MobilityMessage::BindingError(BindingError {
        status: binding_error_status::UNRECOGNISED_MH_TYPE,
        home_address: Ipv6Addr::UNSPECIFIED,
    });
    let emitted = emit(&message, maar_1(), cmd()).unwrap();
    assert_eq!(emitted.len(), 24);
    assert_eq!(emitted[..4], [59, 2, 7, 0]);
    assert_eq!(emitted[6..8], [2, 0]);
    assert_eq!(parse(maar_1(), cmd(), &emitted).unwrap(), message);
    assert_eq!(message.name(), "Binding Error");
}

fn endpoint(maar: Ipv6Addr, teid: u32) -> TunnelEndpoint {
    TunnelEndpoint::gtpu(maar, teid.try_into().unwrap())
}

#[test]
fn update_to_a_previous_maar_with_a_tunnel_endpoint() {
    let message = MobilityMessage::ProxyBindingUpdate(ProxyBindingUpdate {
        sequence: 7,
        flags: 0x8210,
        lifetime: 150,
        options: MobilityOptions {
            serving_maar: Some(maar_2()),
            tunnel_endpoints: vec![endpoint(maar_2(), 0xfeed_1234)],
            ..common("2001:db8:100:1::/64", 3)
        },
    });
    check(
        &message,
        cmd(),
        maar_1(),
        "3b110500c1e40007821000960810016d6e31406578616d706c652e6e65740104000000001612004020010db8010000010000000000000000170200031802000401001b0800006553f100800019080000020000000a01441020010db8000b000000000000000000010100131d00007ed9010002000020010db8000b00000000000000000001feed123401050000000000",
    );
}

#[test]
fn acknowledgement_with_tunnel_endpoints() {
    let message = MobilityMessage::ProxyBindingAcknowledgement(ProxyBindingAcknowledgement {
        status: Status::ACCEPTED,
        flags: 0x22,
        sequence: 2,
        lifetime: 150,
        options: MobilityOptions {
            previous_maars: vec![PreviousMaarOption {
                address: maar_1(),
                home_network_prefix: prefix("2001:db8:100:1::/64"),
                logical_interface: LogicalInterface::default(),
            }],
            tunnel_endpoints: vec![
                endpoint(maar_1(), 0x0102_0304),
                endpoint(address("2001:db8:e::1"), 0xffff_fffe),
            ],
            ..common("2001:db8:200:1::/64", 3)
        },
    });
    check(
        &message,
        cmd(),
        maar_2(),
        "3b180600d3710022000200960810016d6e31406578616d706c652e6e65740104000000001612004020010db8020000010000000000000000170200031802000401001b0800006553f100800019080000020000000a010104000000004322004020010db8000a0000000000000000000120010db80100000100000000000000000100131d00007ed9010002000020010db8000a000000000000000000010102030400131d00007ed9010002000020010db8000e00000000000000000001fffffffe01050000000000",
    );
}

#[test]
fn update_with_what_was_counted() {
    let message = MobilityMessage::ProxyBindingUpdate(ProxyBindingUpdate {
        sequence: 0x0708,
        flags: 0x8210,
        lifetime: 0,
        options: MobilityOptions {
            mobile_node_identifier: Some(MobileNodeIdentifier::nai("mn1@example.net")),
            context_transfer: Some(ContextTransfer {
                id: 0x0102_0304_0506_0708,
                oldest: 0x0102_0304_0506_0707,
                prefix: prefix("2001:db8:100:1::/64"),
                context: Context::Usage {
                    filter: Some("web".to_owned()),
                    count: [1, 2, 3, 4, 5, 6].into(),
                },
            }),
            ..MobilityOptions::default()
        },
    });
    check(
        &message,
        maar_1(),
        cmd(),
        "3b0f0500ecd10708821000000810016d6e31406578616d706c652e6e6574135c00007ed9030001400102030405060708010203040506070720010db80100000100000000000000000000000000000001000000000000000200000000000000030000000000000004000000000000000500000000000000060377656201020000",
    );
}

#[test]
fn update_with_a_filter_and_its_meter() {
    let rule = FilterRule {
        name: "web".to_owned(),
        applies_to: AppliesTo::EveryNode,
        node: None,
        priority: 1000,
        direction: Some(FlowDirection::ToNode),
        source: Some(prefix("2001:db8:f::/48")),
        destination: None,
        protocol: Some(6),
        source_ports: Some(Ports { first: 80, last: 90 }),
        destination_ports: None,
        traffic_class: Some(8),
        traffic_class_mask: 252,
        flow_label: Some(7),
        action: FilterAction::Meter,
        maar: None,
        meter: Some("gold".to_owned()),
        idle_timeout: 60,
        lifetime: 3600,
        relocate_after_s: None,
    };
    let meter = Meter {
        name: "gold".to_owned(),
        cir_bits_per_second: 8000,
        cbs_bytes: 1500,
        pir_bits_per_second: None,
        pbs_bytes: None,
        eir_bits_per_second: Some(16000),
        ebs_bytes: Some(3000),
        colour_aware: true,
        yellow_dscp: Some(12),
    };
    let message = MobilityMessage::ProxyBindingUpdate(ProxyBindingUpdate {
        sequence: 1,
        flags: 0x8210,
        lifetime: 0,
        options: MobilityOptions {
            mobile_node_identifier: Some(MobileNodeIdentifier::nai("mn1@example.net")),
            context_transfer: Some(ContextTransfer {
                id: 1,
                oldest: 1,
                prefix: prefix("2001:db8:100:1::/64"),
                context: Context::Filter(Box::new(rule)),
            }),
            transferred_meter: Some(TransferredMeter { meter, fill: None }),
            ..MobilityOptions::default()
        },
    });
    check(
        &message,
        cmd(),
        maar_2(),
        "3b150500f0930001821000000810016d6e31406578616d706c652e6e6574135b00007ed9040001400000000000000001000000000000000120010db801000001000000000000000003e80402016d0000003c00000e10fc037765623020010db8000f00000000000000000000060050005a080000000704676f6c64010100132e00007ed9040002070c04676f6c640000000000001f4000000000000005dc0000000000003e800000000000000bb80100",
    );
}

#[test]
fn update_with_what_was_metered_and_what_is_left_in_a_meter() {
    let meter = Meter {
        name: "gold".to_owned(),
        cir_bits_per_second: 8000,
        cbs_bytes: 1500,
        pir_bits_per_second: Some(16000),
        pbs_bytes: Some(3000),
        eir_bits_per_second: None,
        ebs_bytes: None,
        colour_aware: false,
        yellow_dscp: None,
    };
    let fill = Some(Fill {
        committed: 0x0102,
        other: 0x0304,
    });
    let message = MobilityMessage::ProxyBindingUpdate(ProxyBindingUpdate {
        sequence: 2,
        flags: 0x8210,
        lifetime: 0,
        options: MobilityOptions {
            mobile_node_identifier: Some(MobileNodeIdentifier::nai("mn1@example.net")),
            context_transfer: Some(ContextTransfer {
                id: 2,
                oldest: 1,
                prefix: prefix("2001:db8:100:1::/64"),
                context: Context::Usage {
                    filter: Some("web".to_owned()),
                    count: Count {
                        colours: [7, 8, 9, 10, 11, 12].into(),
                        ..[1, 2, 3, 4, 5, 6].into()
                    },
                },
            }),
            transferred_meter: Some(TransferredMeter { meter, fill }),
            ..MobilityOptions::default()
        },
    });
    check(
        &message,
        maar_1(),
        cmd(),
        "3b1d050031c50002821000000810016d6e31406578616d706c652e6e6574138c00007ed9030002400000000000000002000000000000000120010db8010000010000000000000000000000000000000100000000000000020000000000000003000000000000000400000000000000050000000000000006000000000000000700000000000000080000000000000009000000000000000a000000000000000b000000000000000c037765620100133e00007ed9040002080004676f6c640000000000001f4000000000000005dc0000000000003e800000000000000bb8000000000000010200000000000003040100",
    );
}

#[test]
fn update_that_has_a_prefix_taken() {
    let message = MobilityMessage::ProxyBindingUpdate(ProxyBindingUpdate {
        sequence: 9,
        flags: 0x8210,
        lifetime: 150,
        options: MobilityOptions {
            serving_maar: Some(maar_2()),
            anchor_relocation: Some(AnchorRelocation {
                step: RelocationStep::Take,
                anchor: maar_1(),
            }),
            ..common("2001:db8:100:1::/64", 3)
        },
    });
    check(
        &message,
        cmd(),
        maar_2(),
        "3b1005007f690009821000960810016d6e31406578616d706c652e6e65740104000000001612004020010db8010000010000000000000000170200031802000401001b0800006553f100800019080000020000000a01441020010db8000b000000000000000000010100131800007ed90200010020010db8000a0000000000000000000101020000",
    );
}

#[test]
fn update_about_the_network_behind_a_router_and_the_mobility_of_prefixes() {
    let mobility = |prefix: &str, kind| PrefixMobility {
        prefix: prefix.parse().unwrap(),
        kind,
    };
    let message = MobilityMessage::ProxyBindingUpdate(ProxyBindingUpdate {
        sequence: 10,
        flags: 0x8210,
        lifetime: 150,
        options: MobilityOptions {
            delegated_prefixes: vec!["2001:db8:f100::/56".parse().unwrap()],
            prefix_mobilities: vec![
                mobility("2001:db8:100:2::/64", PrefixMobilityKind::Ended),
                mobility(
                    "2001:db8:100:3::/64",
                    PrefixMobilityKind::DetourLimit { octets: 1000 },
                ),
            ],
            ..common("2001:db8:100:1::/64", 5)
        },
    });
    check(
        &message,
        maar_2(),
        cmd(),
        "3b160500c9e2000a821000960810016d6e31406578616d706c652e6e65740104000000001612004020010db8010000010000000000000000170200051802000401001b0800006553f100800019080000020000000a01010200003712003820010db8f10000000000000000000000132000007ed90500014020010db801000002000000000000000000000000000000000100132000007ed90500024020010db801000003000000000000000000000000000003e801020000",
    );
}
