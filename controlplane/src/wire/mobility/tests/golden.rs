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
