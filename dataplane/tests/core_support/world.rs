//! Who is where around the gateway, and the tables that say so.

use std::net::Ipv6Addr;

use kedge_dataplane::snapshot::{Compiler, PortDescription, Snapshot, TableLimits};
use kedge_dataplane_api::Transaction;
use kedge_dataplane_api::model::{
    DiscardReason, Encapsulation, Gre, GtpU, NextHop, PrefixEntry, Sender, Source, SourcePath, Tables, Tunnel,
};

use super::packets::mapped;

pub const CORE: usize = 0;
pub const ACCESS: usize = 1;
pub const TAGGED: usize = 2;
/// A core port without an interface to the kernel.
pub const QUIET: usize = 3;

pub const CORE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub const ACCESS_MAC: [u8; 6] = [0, 0, 0x5e, 0, 0x52, 0x13];
pub const ROUTER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
pub const NEIGHBOUR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 3];
pub const NODE_MAC: [u8; 6] = [2, 0, 0, 0, 10, 1];

pub const OWN: &str = "2001:db8:a::1";
pub const OTHER_OWN: &str = "2001:db8:ca::2";
pub const PEER: &str = "2001:db8:b::1";
pub const NARROW_PEER: &str = "2001:db8:c::1";
pub const REMOTE: &str = "2001:db8:cc::2";
pub const NEIGHBOUR: &str = "2001:db8:ca::3";
/// Of the node here, in the prefix that we gave it.
pub const NODE: &str = "2001:db8:100:1::1";
/// Of the node here, in the prefix that the peer anchors.
pub const OLD: &str = "2001:db8:200:1::1";
/// Of a node at the peer, in the prefix that we anchor.
pub const ANCHORED: &str = "2001:db8:100:3::1";
/// Of a node at the peer that is reached by GTP-U, in a prefix that we anchor.
pub const GTPU_ANCHORED: &str = "2001:db8:100:5::1";
/// Of the node here, in a prefix that the peer anchors and sends by GTP-U.
pub const GTPU_OLD: &str = "2001:db8:200:5::1";
/// Of what comes in from the peer, and of what goes to it.
pub const LOCAL_TEID: u32 = 0x0a0b_0c0d;
pub const REMOTE_TEID: u32 = 0xdead_beef;
/// Ours, and a peer's that is reached by GTP-U over IPv4 through `ROUTER4`.
pub const OWN4: &str = "192.0.2.1";
pub const PEER4: &str = "198.51.100.2";
pub const ROUTER4: &str = "192.0.2.254";
/// Of a node at that peer, in a prefix that we anchor.
pub const IPV4_ANCHORED: &str = "2001:db8:100:6::1";
/// Of the node here, in a prefix that that peer anchors.
pub const IPV4_OLD: &str = "2001:db8:200:6::1";
pub const IPV4_LOCAL_TEID: u32 = 0x0404_0404;
/// Of a node at the peer, in prefixes that we anchor: by GRE with a key, and without one.
pub const GRE_ANCHORED: &str = "2001:db8:100:7::1";
pub const KEYLESS_ANCHORED: &str = "2001:db8:100:8::1";
/// Of the node here, in a prefix that the peer anchors and sends by GRE with a key.
pub const GRE_OLD: &str = "2001:db8:200:7::1";
pub const LOCAL_KEY: u32 = 0x0505_0505;
pub const REMOTE_KEY: u32 = 0xfeed_f00d;
/// Of a node behind a tunnel that takes 1,260 octets.
pub const NARROW: &str = "2001:db8:100:4::1";
pub const BEHIND_TAGGED: &str = "2001:db8:cd::1";

pub const ERRORS_PER_SECOND: u32 = 100;
pub const PUNTS_PER_SECOND: u32 = 200;

/// Of the clock, in a second.
pub const CYCLES: u64 = 1_000_000;

pub fn tables() -> Tables {
    let mut tables = Tables::default();
    let entry = |next_hop| PrefixEntry {
        next_hop,
        source: None,
    };
    let here = |path| PrefixEntry {
        next_hop: NextHop::Deliver {
            port: "access".to_owned(),
            link_layer_address: NODE_MAC,
        },
        source: Some(Source {
            sender: Sender::Node {
                port: "access".to_owned(),
                link_layer_address: NODE_MAC,
            },
            path,
        }),
    };
    let gateway = |port: &str, address: &str| NextHop::Gateway {
        port: port.to_owned(),
        address: address.parse().unwrap(),
    };
    for (prefix, entry) in [
        ("2001:db8:cc::/48", entry(gateway("core", "2001:db8:ca::1"))),
        ("2001:db8:a::/47", entry(gateway("core", "2001:db8:ca::1"))),
        ("2001:db8:c::/48", entry(gateway("core", "2001:db8:ca::1"))),
        ("2001:db8:dead::/48", entry(gateway("core", "2001:db8:ca::99"))),
        ("2001:db8:cd::/48", entry(gateway("tagged", "2001:db8:cb::1"))),
        (
            "2001:db8:ca::/64",
            entry(NextHop::OnLink {
                port: "core".to_owned(),
            }),
        ),
        (
            "2001:db8:100::/48",
            entry(NextHop::Discard(DiscardReason::Unallocated)),
        ),
        (
            "2001:db8:bad::/48",
            entry(NextHop::Discard(DiscardReason::Prohibited)),
        ),
        ("2001:db8:100:1::/64", here(SourcePath::Native)),
        (
            "2001:db8:100:2::/64",
            entry(NextHop::Discard(DiscardReason::NodeAbsent)),
        ),
        ("2001:db8:100:3::/64", entry(NextHop::Tunnel(1))),
        ("2001:db8:100:4::/64", entry(NextHop::Tunnel(2))),
        ("2001:db8:200:1::/64", here(SourcePath::Tunnel(1))),
        ("2001:db8:100:5::/64", entry(NextHop::Tunnel(3))),
        ("2001:db8:200:5::/64", here(SourcePath::Tunnel(3))),
        ("2001:db8:100:6::/64", entry(NextHop::Tunnel(4))),
        ("2001:db8:200:6::/64", here(SourcePath::Tunnel(4))),
        ("2001:db8:100:7::/64", entry(NextHop::Tunnel(5))),
        ("2001:db8:200:7::/64", here(SourcePath::Tunnel(5))),
        ("2001:db8:100:8::/64", entry(NextHop::Tunnel(6))),
        ("::ffff:0:0/96", entry(gateway("core", "::ffff:192.0.2.254"))),
        (
            "::ffff:192.0.2.0/120",
            entry(NextHop::OnLink {
                port: "core".to_owned(),
            }),
        ),
    ] {
        tables.prefixes.insert(prefix.parse().unwrap(), entry);
    }
    for (id, remote, mtu) in [(1, PEER, 0), (2, NARROW_PEER, 1260)] {
        let (local, remote) = (OWN.parse().unwrap(), remote.parse().unwrap());
        tables.tunnels.insert(
            id,
            Tunnel {
                encapsulation: Encapsulation::Ipv6InIpv6,
                local,
                remote,
                hop_limit: 64,
                mtu,
                encapsulation_limit: None,
                dscp: kedge_dataplane_api::model::Dscp::default(),
            },
        );
    }
    let teid = |teid| std::num::NonZeroU32::new(teid).unwrap();
    tables.tunnels.insert(
        3,
        Tunnel {
            encapsulation: Encapsulation::GtpU(GtpU {
                local_teid: teid(LOCAL_TEID),
                remote_teid: teid(REMOTE_TEID),
                pdu_session: None,
                sequence_numbers: false,
            }),
            local: OWN.parse().unwrap(),
            remote: PEER.parse().unwrap(),
            hop_limit: 64,
            mtu: 0,
            encapsulation_limit: None,
            dscp: kedge_dataplane_api::model::Dscp::default(),
        },
    );
    tables.tunnels.insert(
        4,
        Tunnel {
            encapsulation: Encapsulation::GtpU(GtpU {
                local_teid: teid(IPV4_LOCAL_TEID),
                remote_teid: teid(REMOTE_TEID),
                pdu_session: None,
                sequence_numbers: false,
            }),
            local: mapped(OWN4),
            remote: mapped(PEER4),
            hop_limit: 64,
            mtu: 0,
            encapsulation_limit: None,
            dscp: kedge_dataplane_api::model::Dscp::default(),
        },
    );
    for (id, local_key, remote_key) in [(5, Some(LOCAL_KEY), Some(REMOTE_KEY)), (6, None, None)] {
        let tunnel = Tunnel {
            encapsulation: Encapsulation::Gre(Gre {
                local_key,
                remote_key,
            }),
            local: OWN.parse().unwrap(),
            remote: PEER.parse().unwrap(),
            hop_limit: 64,
            mtu: 0,
            encapsulation_limit: None,
            dscp: kedge_dataplane_api::model::Dscp::default(),
        };
        tables.tunnels.insert(id, tunnel);
    }
    for (port, address, link_layer_address) in [
        ("core", "2001:db8:ca::1", ROUTER_MAC),
        ("core", "::ffff:192.0.2.254", ROUTER_MAC),
        ("core", NEIGHBOUR, NEIGHBOUR_MAC),
        ("tagged", "2001:db8:cb::1", ROUTER_MAC),
    ] {
        tables
            .neighbours
            .insert((port.to_owned(), address.parse().unwrap()), link_layer_address);
    }
    tables
        .local_addresses
        .extend([OWN, OTHER_OWN].map(|address| address.parse::<Ipv6Addr>().unwrap()));
    tables.local_addresses.insert(mapped(OWN4));
    tables
}

pub fn snapshot() -> Snapshot {
    compiler().snapshot()
}

/// Of the gateway of these tests.
pub fn ports() -> Vec<PortDescription> {
    let port = |name: &str, access, link_layer_address, vlan, exception| PortDescription {
        name: name.to_owned(),
        access,
        link_layer_address,
        mtu: 1500,
        vlan,
        exception,
    };
    vec![
        port("core", false, CORE_MAC, None, true),
        port("access", true, ACCESS_MAC, None, true),
        port("tagged", false, CORE_MAC, Some(100), true),
        port("quiet", false, CORE_MAC, None, false),
    ]
}

/// With [`tables`].
pub fn compiler() -> Compiler {
    let mut compiler = Compiler::new(ports(), OWN.parse().unwrap(), 1).with_meters(CYCLES, true);
    compiler
        .apply(&Transaction::between(&Tables::default(), &tables()))
        .unwrap();
    compiler
}

/// Somebody out there who has IPv4.
pub const REMOTE4: &str = "198.51.100.77";
/// Of nodes behind tunnels 1 to 6, of 203.0.113.0/24.
pub const CARRIED: [&str; 6] = [
    "203.0.113.1",
    "203.0.113.2",
    "203.0.113.3",
    "203.0.113.4",
    "203.0.113.5",
    "203.0.113.6",
];
/// Of a node behind tunnel 3 whose prefix is anchored behind tunnel 1.
pub const CARRIED_BETWEEN: &str = "203.0.113.31";
/// Of one that is not anywhere now.
pub const CARRIED_HELD: &str = "203.0.113.40";

/// An IPv4 prefix as the tables have it.
pub fn mapped_net(prefix: &str) -> ipnet::Ipv6Net {
    let net: ipnet::Ipv4Net = prefix.parse().unwrap();
    ipnet::Ipv6Net::new(net.addr().to_ipv6_mapped(), 96 + net.prefix_len()).unwrap()
}

/// [`tables`], and nodes with IPv4 behind each of the tunnels.
pub fn tables_with_ipv4() -> Tables {
    let mut tables = tables();
    let mut put = |prefix: &str, next_hop, source| {
        let entry = PrefixEntry { next_hop, source };
        tables.prefixes.insert(mapped_net(prefix), entry);
    };
    put(
        "203.0.113.0/24",
        NextHop::Discard(DiscardReason::Unallocated),
        None,
    );
    put(
        "203.0.113.41/32",
        NextHop::Discard(DiscardReason::NodeAbsent),
        None,
    );
    put(
        "203.0.113.42/32",
        NextHop::Discard(DiscardReason::Prohibited),
        None,
    );
    for (tunnel, address) in (1..).zip(CARRIED) {
        let source = Source {
            sender: Sender::Tunnel(tunnel),
            path: SourcePath::Native,
        };
        put(&format!("{address}/32"), NextHop::Tunnel(tunnel), Some(source));
    }
    let source = Source {
        sender: Sender::Tunnel(3),
        path: SourcePath::Tunnel(1),
    };
    put(&format!("{CARRIED_BETWEEN}/32"), NextHop::Tunnel(3), Some(source));
    put(
        &format!("{CARRIED_HELD}/32"),
        NextHop::Hold { maximum_ms: 0 },
        None,
    );
    tables
}

/// With [`tables_with_ipv4`].
pub fn compiler_with_ipv4() -> Compiler {
    let limits = TableLimits {
        inner_ipv4: true,
        ..TableLimits::default()
    };
    let compiler = Compiler::new(ports(), OWN.parse().unwrap(), 1).with_limits(limits);
    let mut compiler = compiler.with_meters(CYCLES, true);
    compiler
        .apply(&Transaction::between(&Tables::default(), &tables_with_ipv4()))
        .unwrap();
    compiler
}
