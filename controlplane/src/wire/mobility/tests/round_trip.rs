//! Every message that can be sent is read back as it was; what cannot be sent is refused.

use std::num::NonZeroU32;

use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;

use super::super::registry::{Alignment, option};
use super::*;

/// Sends `message` and reads it back. Not for [`MobilityMessage::Other`].
pub(super) fn assert_survives(message: &MobilityMessage) {
    let mut expected = message.clone();
    match &mut expected {
        MobilityMessage::ProxyBindingUpdate(update) => update.options.unknown = 0,
        MobilityMessage::ProxyBindingAcknowledgement(acknowledgement) => acknowledgement.options.unknown = 0,
        MobilityMessage::UpdateNotification(it) => it.options.unknown = 0,
        MobilityMessage::UpdateNotificationAcknowledgement(it) => it.options.unknown = 0,
        MobilityMessage::BindingError(_) => {}
        MobilityMessage::Other(mh_type) => {
            assert_eq!(emit(message, maar_1(), cmd()), Err(EmitError::Type(*mh_type)));
            return;
        }
    }
    let emitted = emit(message, maar_1(), cmd()).unwrap();
    assert_eq!(emitted.len() % 8, 0);
    assert_eq!(parse(maar_1(), cmd(), &emitted).unwrap(), expected);
    // What is sent is a function of the message alone.
    assert_eq!(emit(&expected, maar_1(), cmd()).unwrap(), emitted);
    assert_aligned(
        &emitted,
        if message.mh_type() == mh_type::BINDING_ERROR {
            24
        } else {
            12
        },
    );
}

/// Walks the options anew, on purpose not with the parser.
fn assert_aligned(octets: &[u8], from: usize) {
    let mut at = from;
    while at < octets.len() {
        if octets[at] == option::PAD_1 {
            at += 1;
            continue;
        }
        if octets[at] != option::PAD_N {
            assert_eq!(
                Alignment::of(octets[at]).padding(at),
                0,
                "option {} at {at}",
                octets[at]
            );
        }
        at += 2 + usize::from(octets[at + 1]);
    }
    assert_eq!(at, octets.len());
}

fn any_address() -> impl Strategy<Value = Ipv6Addr> {
    any::<[u8; 16]>().prop_map(Ipv6Addr::from)
}

fn any_prefix() -> impl Strategy<Value = Ipv6Net> {
    (any_address(), 0..=128_u8).prop_map(|(address, length)| Ipv6Net::new(address, length).unwrap().trunc())
}

fn any_interface() -> impl Strategy<Value = LogicalInterface> {
    (of(any_address()), of(vec(any::<u8>(), 0..16))).prop_map(|(link_local_address, link_layer_address)| {
        LogicalInterface {
            link_local_address,
            link_layer_address,
        }
    })
}

fn any_previous_maar() -> impl Strategy<Value = PreviousMaarOption> {
    (any_address(), any_prefix(), any_interface()).prop_map(
        |(address, home_network_prefix, logical_interface)| PreviousMaarOption {
            address,
            home_network_prefix,
            logical_interface,
        },
    )
}

fn any_endpoint() -> impl Strategy<Value = TunnelEndpoint> {
    let teid = prop_oneof![4 => any::<u32>(), 1 => Just(0)];
    // 0.0.0.0 is none.
    let ipv4 = prop::option::of((1..=u32::MAX).prop_map(std::net::Ipv4Addr::from));
    (any_address(), teid, ipv4, any::<bool>()).prop_map(|(address, teid, ipv4, gre)| TunnelEndpoint {
        address,
        tunnel_type: match NonZeroU32::new(teid) {
            _ if gre => TunnelType::Gre { key: teid },
            Some(teid) => TunnelType::GtpU { teid, ipv4 },
            None => TunnelType::Ipv6InIpv6,
        },
    })
}

fn any_relocation() -> impl Strategy<Value = AnchorRelocation> {
    let step = prop_oneof![
        Just(RelocationStep::Take),
        Just(RelocationStep::Yield),
        Just(RelocationStep::Prepare)
    ];
    (any_address(), step).prop_map(|(anchor, step)| AnchorRelocation { step, anchor })
}

fn any_mobility() -> impl Strategy<Value = PrefixMobility> {
    (any_prefix(), 0..3, any::<u64>()).prop_map(|(prefix, kind, bound)| PrefixMobility {
        prefix,
        kind: match kind {
            0 => PrefixMobilityKind::Ended,
            1 => PrefixMobilityKind::DetourLimit { octets: bound },
            _ => PrefixMobilityKind::EndsAfter { seconds: bound },
        },
    })
}

fn any_name() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9_-]{1,63}"
}

fn any_ports() -> impl Strategy<Value = Ports> {
    (any::<u16>(), any::<u16>()).prop_map(|(one, other)| Ports {
        first: one.min(other),
        last: one.max(other),
    })
}

fn any_rule() -> impl Strategy<Value = FilterRule> {
    let actions = [
        FilterAction::Anchor,
        FilterAction::Tunnel,
        FilterAction::LocalBreakout,
        FilterAction::Drop,
        FilterAction::Meter,
        FilterAction::NodeMeter,
        FilterAction::NoMobility,
    ];
    let direction =
        prop::sample::select(&[None, Some(FlowDirection::FromNode), Some(FlowDirection::ToNode)][..]);
    let flow = (
        of(any_prefix()),
        of(any_prefix()),
        of(any::<u8>()),
        of(any_ports()),
        of(any_ports()),
    );
    let header = (of(any::<u8>()), any::<u8>(), of(0_u32..=0xf_ffff));
    let action = (
        prop::sample::select(actions.to_vec()),
        of(any_address()),
        of(any_name()),
    );
    let times = (any::<u32>(), any::<u32>(), of(any::<u32>()));
    (any_name(), any::<u16>(), direction, flow, header, action, times).prop_map(
        |(name, priority, direction, flow, header, action, times)| FilterRule {
            name,
            applies_to: AppliesTo::EveryNode,
            node: None,
            priority,
            direction,
            source: flow.0,
            destination: flow.1,
            protocol: flow.2,
            source_ports: flow.3,
            destination_ports: flow.4,
            traffic_class: header.0,
            traffic_class_mask: header.1,
            flow_label: header.2,
            action: action.0,
            maar: action.1,
            meter: action.2,
            idle_timeout: times.0,
            lifetime: times.1,
            relocate_after_s: times.2,
        },
    )
}

fn any_transfer() -> impl Strategy<Value = ContextTransfer> {
    let usage = (of(any_name()), any::<[u64; 6]>(), of(any::<[u64; 6]>()));
    let usage = usage.prop_map(|(filter, count, colours)| {
        // Only a filter meters.
        let colours = colours.filter(|_| filter.is_some()).map(Into::into);
        let count = Count {
            colours: colours.unwrap_or_default(),
            ..Count::from(count)
        };
        Context::Usage { filter, count }
    });
    let filter = any_rule().prop_map(|rule| Context::Filter(Box::new(rule)));
    let context = prop_oneof![usage, filter];
    (any::<u64>(), any::<u64>(), any_prefix(), context).prop_map(|(id, oldest, prefix, context)| {
        ContextTransfer {
            id,
            oldest,
            prefix,
            context,
        }
    })
}

fn any_transferred_meter() -> impl Strategy<Value = TransferredMeter> {
    (any_meter(), of(any::<(u64, u64)>())).prop_map(|(meter, fill)| {
        let burst = meter.pbs_bytes.or(meter.ebs_bytes).unwrap_or_default();
        let fill = fill.map(|(committed, other)| Fill {
            committed: committed.min(meter.cbs_bytes),
            other: other.min(burst),
        });
        TransferredMeter { meter, fill }
    })
}

fn any_meter() -> impl Strategy<Value = Meter> {
    let numbers = any::<[u64; 4]>();
    (any_name(), numbers, any::<bool>(), any::<bool>(), of(any::<u8>())).prop_map(
        |(name, [cir, cbs, rate, burst], peak, colour_aware, yellow_dscp)| Meter {
            name,
            cir_bits_per_second: cir,
            cbs_bytes: cbs,
            pir_bits_per_second: peak.then_some(rate),
            pbs_bytes: peak.then_some(burst),
            eir_bits_per_second: (!peak).then_some(rate),
            ebs_bytes: (!peak).then_some(burst),
            colour_aware,
            yellow_dscp,
        },
    )
}

fn any_lifetimes() -> impl Strategy<Value = PrefixLifetimes> {
    (any_prefix(), any::<u32>(), any::<u32>()).prop_map(|(prefix, preferred, valid)| PrefixLifetimes {
        prefix,
        preferred,
        valid,
    })
}

fn any_identifier() -> impl Strategy<Value = MobileNodeIdentifier> {
    (any::<u8>(), vec(any::<u8>(), 0..=254))
        .prop_map(|(subtype, octets)| MobileNodeIdentifier { subtype, octets })
}

fn any_options() -> impl Strategy<Value = MobilityOptions> {
    let base = (
        (of(any_identifier()), of(any::<u32>())),
        vec(any_prefix(), 0..5),
        of(any::<u8>()),
        of(any::<u8>()),
        of(any::<u64>()),
        of(vec(any::<u8>(), 0..=253)),
        of(any_address()),
        of(of(any::<u32>())),
    );
    let distributed = (
        vec(any_prefix(), 0..4),
        (vec(any_prefix(), 0..4), vec(any_prefix(), 0..3)),
        of(any_address()),
        any_interface(),
        vec(any_previous_maar(), 0..6),
        of(any_address()),
        vec(any_endpoint(), 0..4),
        (
            of(any_relocation()),
            vec(any_mobility(), 0..4),
            vec(any_lifetimes(), 0..4),
            of(any::<u64>()),
        ),
        of(any_transfer()),
        of(any_transferred_meter()),
    );
    (base, distributed).prop_map(|(base, distributed)| MobilityOptions {
        mobile_node_identifier: base.0.0,
        mobile_node_group_identifier: base.0.1,
        home_network_prefixes: base.1,
        handoff_indicator: base.2,
        access_technology_type: base.3,
        timestamp: base.4,
        link_layer_identifier: base.5,
        link_local_address: base.6,
        gre_key: base.7.map(GreKey),
        anchored_prefixes: distributed.0,
        local_prefixes: distributed.1.0,
        delegated_prefixes: distributed.1.1,
        serving_maar: distributed.2,
        logical_interface: distributed.3,
        previous_maars: distributed.4,
        alternate_care_of_address: distributed.5,
        tunnel_endpoints: distributed.6,
        anchor_relocation: distributed.7.0,
        prefix_mobilities: distributed.7.1,
        context_transfer: distributed.8,
        transferred_meter: distributed.9,
        prefix_lifetimes: distributed.7.2,
        attachment_time: distributed.7.3,
        unknown: 0,
    })
}

fn update(options: MobilityOptions) -> MobilityMessage {
    MobilityMessage::ProxyBindingUpdate(ProxyBindingUpdate {
        sequence: 1,
        flags: 0x8210,
        lifetime: 1,
        options,
    })
}

proptest! {
    #[test]
    fn updates_survive(sequence: u16, flags: u16, lifetime: u16, options in any_options()) {
        let flags = flags | update_flags::PROXY;
        let update = ProxyBindingUpdate { sequence, flags, lifetime, options };
        assert_survives(&MobilityMessage::ProxyBindingUpdate(update));
    }

    #[test]
    fn acknowledgements_survive(status: u8, flags: u8, sequence: u16, lifetime: u16, options in any_options()) {
        let flags = flags | acknowledgement_flags::PROXY;
        let status = Status(status);
        let acknowledgement = ProxyBindingAcknowledgement { status, flags, sequence, lifetime, options };
        assert_survives(&MobilityMessage::ProxyBindingAcknowledgement(acknowledgement));
    }

    #[test]
    fn binding_errors_survive(status: u8, home_address in any_address()) {
        assert_survives(&MobilityMessage::BindingError(BindingError { status, home_address }));
    }

    #[test]
    fn notifications_survive(sequence: u16, reason: u16, flags: u16, status: u8, options in any_options()) {
        let notification = UpdateNotification { sequence, reason, flags, options: options.clone() };
        assert_survives(&MobilityMessage::UpdateNotification(notification));
        let acknowledgement = UpdateNotificationAcknowledgement { sequence, status, options };
        assert_survives(&MobilityMessage::UpdateNotificationAcknowledgement(acknowledgement));
    }

    /// Noise never panics, and what of it is a message can be sent.
    #[test]
    fn noise_is_read_or_refused(mh_type in prop_oneof![4..9_u8, 18..22_u8], units in 0..32_u8, mut noise in vec(any::<u8>(), 256)) {
        noise.truncate((usize::from(units) + 1) * 8);
        noise[..3].copy_from_slice(&[59, units, mh_type]);
        if let Ok(message) = parse_fixed_up(noise) {
            assert_survives(&message);
        }
    }

    #[test]
    fn short_noise_never_panics(noise in vec(any::<u8>(), 0..64)) {
        let _ = parse(maar_1(), cmd(), &noise);
    }
}

#[test]
fn an_answer_without_identifier_has_an_empty_one() {
    let identifier = MobileNodeIdentifier {
        subtype: 1,
        octets: Vec::new(),
    };
    assert_survives(&update(MobilityOptions {
        mobile_node_identifier: Some(identifier),
        ..MobilityOptions::default()
    }));
}

#[test]
fn an_update_without_options_is_padded_to_sixteen() {
    let emitted = emit(&update(MobilityOptions::default()), maar_1(), cmd()).unwrap();
    assert_eq!(emitted.len(), 16);
    assert_eq!(emitted[1], 1);
    assert_eq!(emitted[12..], [1, 2, 0, 0]);
}

#[test]
fn what_does_not_fit_is_not_sent() {
    let too_long = |options, option, octets| {
        assert_eq!(
            emit(&update(options), maar_1(), cmd()),
            Err(EmitError::OptionTooLong { option, octets })
        );
    };
    let identifier = MobileNodeIdentifier {
        subtype: 1,
        octets: vec![b'a'; 255],
    };
    too_long(
        MobilityOptions {
            mobile_node_identifier: Some(identifier),
            ..MobilityOptions::default()
        },
        8,
        256,
    );
    too_long(
        MobilityOptions {
            link_layer_identifier: Some(vec![0; 254]),
            ..MobilityOptions::default()
        },
        25,
        256,
    );
    let interface = LogicalInterface {
        link_layer_address: Some(vec![0; 300]),
        ..LogicalInterface::default()
    };
    too_long(
        MobilityOptions {
            logical_interface: interface,
            ..MobilityOptions::default()
        },
        70,
        302,
    );

    // 20 octets each with 4 of padding between them: 12 + 85 * 24 - 4 is the whole header.
    let prefixes = |count| MobilityOptions {
        home_network_prefixes: vec![prefix("2001:db8::/32"); count],
        ..MobilityOptions::default()
    };
    assert_eq!(
        emit(&update(prefixes(85)), maar_1(), cmd()).unwrap().len(),
        MAXIMUM_OCTETS
    );
    assert_survives(&update(prefixes(85)));
    assert_eq!(
        emit(&update(prefixes(86)), maar_1(), cmd()),
        Err(EmitError::MessageTooLong { octets: 2072 })
    );
}

#[test]
fn prefixes_with_set_bits_behind_their_length_are_not_sent() {
    let wrong = prefix("2001:db8::1/64");
    let expect = |options, option| {
        assert_eq!(
            emit(&update(options), maar_1(), cmd()),
            Err(EmitError::Prefix {
                option,
                prefix: wrong
            })
        );
    };
    let none = MobilityOptions::default;
    expect(
        MobilityOptions {
            home_network_prefixes: vec![wrong],
            ..none()
        },
        22,
    );
    expect(
        MobilityOptions {
            anchored_prefixes: vec![wrong],
            ..none()
        },
        65,
    );
    expect(
        MobilityOptions {
            local_prefixes: vec![wrong],
            ..none()
        },
        66,
    );
    let previous = PreviousMaarOption {
        address: maar_1(),
        home_network_prefix: wrong,
        logical_interface: LogicalInterface::default(),
    };
    expect(
        MobilityOptions {
            previous_maars: vec![previous],
            ..none()
        },
        67,
    );
}

#[test]
fn registrations_without_the_proxy_flag_are_not_sent() {
    let message = MobilityMessage::ProxyBindingUpdate(ProxyBindingUpdate {
        sequence: 0,
        flags: 0x8010,
        lifetime: 0,
        options: MobilityOptions::default(),
    });
    assert_eq!(
        emit(&message, maar_1(), cmd()),
        Err(EmitError::NotProxy { mh_type: 5 })
    );
    // 0x0200 is the P flag of an update; the acknowledgement's is 0x20.
    let message = MobilityMessage::ProxyBindingAcknowledgement(ProxyBindingAcknowledgement {
        status: Status::ACCEPTED,
        flags: 0x02,
        sequence: 0,
        lifetime: 0,
        options: MobilityOptions::default(),
    });
    assert_eq!(
        emit(&message, maar_1(), cmd()),
        Err(EmitError::NotProxy { mh_type: 6 })
    );
}
