//! Messages for the tests that let other programs read what Kedge writes.

use std::net::Ipv6Addr;
use std::time::Duration;

use kedge_controlplane::identity::{LinkLayerAddress, MobileNodeIdentifier};
use kedge_controlplane::wire::mobility::{
    self, BindingError, LogicalInterface, MobilityMessage, MobilityOptions, PreviousMaarOption,
    ProxyBindingAcknowledgement, ProxyBindingUpdate, Status, TunnelEndpoint,
};
use kedge_controlplane::wire::neighbour_discovery::{
    self, PrefixInformation, RouterAdvertisement, RouterSolicitation,
};

pub(crate) fn address(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

pub(crate) fn maar_1() -> Ipv6Addr {
    address("2001:db8:a::1")
}

pub(crate) fn maar_2() -> Ipv6Addr {
    address("2001:db8:b::1")
}

pub(crate) fn cmd() -> Ipv6Addr {
    address("2001:db8:c::1")
}

pub(crate) fn router() -> Ipv6Addr {
    address("fe80::200:5eff:fe00:5213")
}

pub(crate) fn node() -> Ipv6Addr {
    address("fe80::ff:fe00:a01")
}

pub(crate) fn all_routers() -> Ipv6Addr {
    address("ff02::2")
}

/// The options of a registration; 1 700 000 000.5 s.
pub(crate) fn options(home_network_prefix: &str, handoff_indicator: u8) -> MobilityOptions {
    MobilityOptions {
        mobile_node_identifier: Some(MobileNodeIdentifier::nai("mn1@example.net")),
        home_network_prefixes: vec![home_network_prefix.parse().unwrap()],
        handoff_indicator: Some(handoff_indicator),
        access_technology_type: Some(4),
        timestamp: Some(1_700_000_000 << 16 | 0x8000),
        link_layer_identifier: Some(vec![2, 0, 0, 0, 10, 1]),
        ..MobilityOptions::default()
    }
}

/// At first attachment, with two prefixes and an alternate care-of address.
pub(crate) fn update() -> ProxyBindingUpdate {
    let mut options = options("2001:db8:100:1::/64", 1);
    options
        .home_network_prefixes
        .push("2001:db8:100:8000::/56".parse().unwrap());
    options.link_local_address = Some(Ipv6Addr::UNSPECIFIED);
    options.alternate_care_of_address = Some(address("2001:db8:a::2"));
    ProxyBindingUpdate {
        sequence: 0xfffe,
        flags: 0x8210,
        lifetime: 150,
        options,
    }
}

/// After a handover, with two earlier MAARs and their logical interfaces.
pub(crate) fn acknowledgement() -> ProxyBindingAcknowledgement {
    let mut options = options("2001:db8:200:1::/64", 3);
    options.link_local_address = Some(router());
    options.local_prefixes = vec!["2001:db8:aa::/48".parse().unwrap()];
    options.anchored_prefixes = vec!["2001:db8:200:1::/64".parse().unwrap()];
    for (maar, prefix, last) in [(1, "2001:db8:100:1::/64", 1), (3, "2001:db8:300:1::/64", 3)] {
        options.previous_maars.push(PreviousMaarOption {
            address: Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0, 0, 0, 0, maar),
            home_network_prefix: prefix.parse().unwrap(),
            logical_interface: LogicalInterface {
                link_local_address: Some(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, last)),
                link_layer_address: Some(vec![2, 0, 0, 0, 0, last as u8]),
            },
        });
    }
    ProxyBindingAcknowledgement {
        status: Status::ACCEPTED,
        flags: 0x22,
        sequence: 2,
        lifetime: 100,
        options,
    }
}

/// To an earlier MAAR: ends nothing, tells where the node is, and where it is taken by GTP-U.
pub(crate) fn update_to_previous() -> ProxyBindingUpdate {
    let options = MobilityOptions {
        serving_maar: Some(maar_2()),
        tunnel_endpoints: vec![TunnelEndpoint::gtpu(maar_2(), 0xfeed_1234.try_into().unwrap())],
        ..options("2001:db8:100:1::/64", 3)
    };
    ProxyBindingUpdate {
        sequence: 7,
        flags: 0x8210,
        lifetime: 150,
        options,
    }
}

/// To an update that came without identifier.
pub(crate) fn refusal() -> ProxyBindingAcknowledgement {
    let mut options = options("::/0", 4);
    options.mobile_node_identifier = Some(MobileNodeIdentifier {
        subtype: 1,
        octets: Vec::new(),
    });
    ProxyBindingAcknowledgement {
        status: Status::MISSING_MN_IDENTIFIER_OPTION,
        flags: 0x22,
        sequence: 3,
        lifetime: 0,
        options,
    }
}

pub(crate) fn advertisement() -> RouterAdvertisement {
    let prefix = |prefix: &str, valid_lifetime, preferred_lifetime| PrefixInformation {
        prefix: prefix.parse().unwrap(),
        on_link: preferred_lifetime > 0,
        autonomous: true,
        valid_lifetime,
        preferred_lifetime,
    };
    RouterAdvertisement {
        current_hop_limit: 64,
        router_lifetime: Duration::from_secs(1800),
        reachable_time: Duration::from_millis(30_000),
        retransmit_timer: Duration::from_millis(1000),
        source_link_layer_address: Some(LinkLayerAddress([0, 0, 0x5e, 0, 0x52, 0x13])),
        mtu: Some(1460),
        prefixes: vec![
            prefix("2001:db8:200:1::/64", 7200, 3600),
            prefix("2001:db8:100:1::/64", u32::MAX, 0),
        ],
    }
}

pub(crate) fn solicitation() -> RouterSolicitation {
    RouterSolicitation {
        source_link_layer_address: Some(LinkLayerAddress([2, 0, 0, 0, 10, 1])),
    }
}

/// One IPv6 packet each, in this order: update, acknowledgement, update to an earlier
/// MAAR, refusal, Binding Error, advertisement, solicitation.
pub(crate) fn packets() -> Vec<Vec<u8>> {
    let mobility = |message: MobilityMessage, source, destination| {
        let octets = mobility::emit(&message, source, destination).unwrap();
        packet(source, destination, mobility::NEXT_HEADER, 64, &octets)
    };
    let discovery = |source, destination, octets: &[u8]| {
        let hop_limit = neighbour_discovery::HOP_LIMIT;
        packet(
            source,
            destination,
            neighbour_discovery::NEXT_HEADER,
            hop_limit,
            octets,
        )
    };
    let error = BindingError {
        status: mobility::binding_error_status::UNRECOGNISED_MH_TYPE,
        home_address: Ipv6Addr::UNSPECIFIED,
    };
    vec![
        mobility(MobilityMessage::ProxyBindingUpdate(update()), maar_1(), cmd()),
        mobility(
            MobilityMessage::ProxyBindingAcknowledgement(acknowledgement()),
            cmd(),
            maar_2(),
        ),
        mobility(
            MobilityMessage::ProxyBindingUpdate(update_to_previous()),
            cmd(),
            maar_1(),
        ),
        mobility(
            MobilityMessage::ProxyBindingAcknowledgement(refusal()),
            cmd(),
            maar_1(),
        ),
        mobility(MobilityMessage::BindingError(error), cmd(), maar_1()),
        discovery(router(), node(), &advertisement().emit(router(), node()).unwrap()),
        discovery(node(), all_routers(), &solicitation().emit(node(), all_routers())),
    ]
}

fn packet(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    next_header: u8,
    hop_limit: u8,
    payload: &[u8],
) -> Vec<u8> {
    let mut octets = vec![0x60, 0, 0, 0];
    octets.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
    octets.extend([next_header, hop_limit]);
    octets.extend(source.octets());
    octets.extend(destination.octets());
    octets.extend_from_slice(payload);
    octets
}
