//! A gateway on the heap, and packets made by hand.

#![allow(dead_code, unreachable_pub, missing_docs, reason = "shared by several tests")]

pub mod filters;
pub mod inner_ipv4;

use std::net::{Ipv4Addr, Ipv6Addr};

use arrayvec::ArrayVec;
use kedge_dataplane::counters::Stage;
use kedge_dataplane::drops::DropReason;
use kedge_dataplane::frame::{Frame, HeapFrame};
use kedge_dataplane::pipeline::{BURST, FRAMES, Ipv4Fragments, Limits, Output, Pipeline};
use kedge_dataplane::snapshot::{Compiler, PortDescription, Snapshot, TableLimits};
use kedge_dataplane::stage::checksum::Sum;
use kedge_dataplane_api::Transaction;
use kedge_dataplane_api::model::{
    DiscardReason, Encapsulation, Gre, GtpU, NextHop, PrefixEntry, Sender, Source, SourcePath, Tables, Tunnel,
};

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

pub struct Gateway {
    /// What the snapshot is of; for those who change it.
    pub compiler: Compiler,
    pub snapshot: Snapshot,
    pub pipeline: Pipeline,
    /// The clock, for [`Gateway::frame`].
    pub now: u64,
}

fn limits(accept_zero_checksums: bool) -> Limits {
    Limits {
        icmpv6_errors_per_second: ERRORS_PER_SECOND,
        punts_per_second: PUNTS_PER_SECOND,
        accept_zero_checksums,
        ipv4_fragments: Ipv4Fragments::Refused,
        clamp_mss: false,
        workers: 1,
        identification_seed: 0x5eed,
        cycles_per_second: CYCLES,
    }
}

/// What became of one frame.
#[derive(Debug)]
pub struct Outcome {
    pub transmit: Vec<(usize, Vec<u8>)>,
    pub punt: Vec<(usize, Vec<u8>)>,
    pub drops: Vec<(DropReason, u64)>,
    pub missing: Vec<(usize, Ipv6Addr)>,
    /// Paths that take less: peer and octets.
    pub too_big: Vec<(Ipv6Addr, u16)>,
    pub errors_sent: u64,
}

impl Gateway {
    pub fn new() -> Self {
        Self::with(false)
    }

    pub fn accepting_zero_checksums() -> Self {
        Self::with(true)
    }

    /// That treats fragments of outer packets over IPv4 so.
    pub fn of_fragments(ipv4_fragments: Ipv4Fragments) -> Self {
        let limits = Limits {
            ipv4_fragments,
            ..limits(false)
        };
        Self {
            pipeline: Pipeline::new(0, limits),
            ..Self::new()
        }
    }

    pub fn clamping_mss() -> Self {
        let mut gateway = Self::new();
        gateway.pipeline = Pipeline::new(
            0,
            Limits {
                clamp_mss: true,
                ..limits(false)
            },
        );
        gateway
    }

    /// With [`tables_with_ipv4`].
    pub fn carrying_ipv4() -> Self {
        let compiler = compiler_with_ipv4();
        Self {
            snapshot: compiler.snapshot(),
            compiler,
            ..Self::new()
        }
    }

    /// The same, and TCP is told what fits.
    pub fn carrying_and_clamping() -> Self {
        Self {
            pipeline: Self::clamping_mss().pipeline,
            ..Self::carrying_ipv4()
        }
    }

    fn with(accept_zero_checksums: bool) -> Self {
        let limits = limits(accept_zero_checksums);
        let compiler = compiler();
        Self {
            snapshot: compiler.snapshot(),
            compiler,
            pipeline: Pipeline::new(0, limits),
            now: 0,
        }
    }

    /// Changes the tables.
    pub fn apply(&mut self, transaction: &Transaction) {
        self.snapshot = self.compiler.apply(transaction).unwrap();
    }

    /// A packet from the router, or from the node where the port is its own.
    pub fn one(&mut self, port: usize, packet: &[u8]) -> Outcome {
        self.one_from(port, ROUTER_MAC, packet)
    }

    pub fn one_from(&mut self, port: usize, from: [u8; 6], packet: &[u8]) -> Outcome {
        let to = self.snapshot.ports[port].link_layer_address;
        self.frame(port, &ethernet(to, from, packet))
    }

    pub fn frame(&mut self, port: usize, frame: &[u8]) -> Outcome {
        self.run(|gateway, output| {
            let mut burst: ArrayVec<HeapFrame, BURST> = ArrayVec::new();
            burst.push(HeapFrame::new(frame));
            gateway
                .pipeline
                .process(&gateway.snapshot, port, gateway.now, &mut burst, output);
            assert!(burst.is_empty());
        })
    }

    pub fn kernel_sends(&mut self, port: usize, frame: &[u8]) -> Outcome {
        self.run(|gateway, output| {
            let mut burst: ArrayVec<HeapFrame, BURST> = ArrayVec::new();
            burst.push(HeapFrame::new(frame));
            gateway
                .pipeline
                .from_kernel(&gateway.snapshot, port, &mut burst, output);
        })
    }

    /// Many frames of the kernel into one output; the drops.
    pub fn fill_from_kernel(&mut self, port: usize, frame: &[u8], count: usize) -> Vec<(DropReason, u64)> {
        let outcome = self.run(|gateway, output| {
            for _ in 0..count {
                let mut burst: ArrayVec<HeapFrame, BURST> = ArrayVec::new();
                burst.push(HeapFrame::new(frame));
                gateway
                    .pipeline
                    .from_kernel(&gateway.snapshot, port, &mut burst, output);
            }
        });
        outcome.drops
    }

    /// A frame with so little headroom.
    pub fn cramped(&mut self, port: usize, frame: &[u8], headroom: usize) -> Outcome {
        self.run(|gateway, output| {
            let mut burst: ArrayVec<HeapFrame, BURST> = ArrayVec::new();
            let mut heap = HeapFrame::new(&[&[0; 64][..], frame].concat());
            heap.strip(64).unwrap();
            // 128 and the 64 just stripped, less what is to be left.
            heap.prepend(192 - headroom).unwrap();
            let taken = heap.bytes().len() - frame.len();
            heap.bytes_mut().copy_within(taken.., 0);
            heap.truncate(frame.len());
            burst.push(heap);
            gateway
                .pipeline
                .process(&gateway.snapshot, port, 0, &mut burst, output);
        })
    }

    fn run(&mut self, act: impl FnOnce(&mut Self, &mut Output<HeapFrame>)) -> Outcome {
        let before: Vec<u64> = DropReason::ALL.iter().map(|reason| self.drops(*reason)).collect();
        let sent = self.pipeline.counters.stages(Stage::Icmpv6ErrorSent);
        let mut output = Output::default();
        act(self, &mut output);
        let frames = |bursts: &[ArrayVec<HeapFrame, FRAMES>]| {
            let each = bursts.iter().enumerate();
            each.flat_map(|(port, burst)| burst.iter().map(move |frame| (port, frame.bytes().to_vec())))
                .collect()
        };
        let drops = DropReason::ALL.iter().zip(before);
        Outcome {
            transmit: frames(&output.transmit),
            punt: frames(&output.punt),
            drops: drops
                .map(|(reason, before)| (*reason, self.drops(*reason) - before))
                .filter(|(_, count)| *count > 0)
                .collect(),
            too_big: output.too_big.iter().map(|it| (it.remote, it.mtu)).collect(),
            missing: output.events.iter().map(|it| (it.port, it.address)).collect(),
            errors_sent: self.pipeline.counters.stages(Stage::Icmpv6ErrorSent) - sent,
        }
    }

    pub fn drops(&self, reason: DropReason) -> u64 {
        self.pipeline.counters.drops(reason)
    }
}

/// An IPv4 address as the tables have it.
pub fn mapped(address: &str) -> Ipv6Addr {
    address.parse::<Ipv4Addr>().unwrap().to_ipv6_mapped()
}

/// An IPv4 packet with these options, whose length is a multiple of four.
pub fn ipv4(source: &str, destination: &str, protocol: u8, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let octets = |address: &str| address.parse::<Ipv4Addr>().unwrap().octets();
    let header = u8::try_from(20 + options.len()).unwrap();
    let length = u16::try_from(usize::from(header) + payload.len())
        .unwrap()
        .to_be_bytes();
    let fixed = [
        0x40 | (header / 4),
        0,
        length[0],
        length[1],
        0x12,
        0x34,
        0,
        0,
        61,
        protocol,
        0,
        0,
    ];
    let mut packet = [&fixed[..], &octets(source), &octets(destination), options].concat();
    let checksum = Sum::default().octets(&packet).checksum();
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    packet.extend_from_slice(payload);
    packet
}

/// An IPv4 packet after something in its header has been changed: the checksum is right again.
pub fn ipv4_changed(packet: &[u8], at: usize, to: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    packet[at..at + to.len()].copy_from_slice(to);
    packet[10..12].copy_from_slice(&[0, 0]);
    let header = usize::from(packet[0] & 15) * 4;
    let checksum = Sum::default().octets(&packet[..header]).checksum();
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    packet
}

/// A UDP packet to the GTP-U port, with a checksum or without.
pub fn gtpu4(
    source: &str,
    destination: &str,
    options: &[u8],
    message: &[u8],
    with_checksum: bool,
) -> Vec<u8> {
    let length = u16::try_from(message.len() + 8).unwrap().to_be_bytes();
    let udp = [&[0xc1, 0x23, 0x08, 0x68, length[0], length[1], 0, 0], message].concat();
    let mut packet = ipv4(source, destination, 17, options, &udp);
    if with_checksum {
        let at = 20 + options.len();
        let checksum = Sum::default()
            .octets(&packet[12..20])
            .octets(&packet[at..])
            .number(udp.len() as u64)
            .number(17)
            .udp_checksum();
        packet[at + 6..at + 8].copy_from_slice(&checksum.to_be_bytes());
    }
    packet
}

/// A G-PDU over IPv4, without a UDP checksum.
pub fn g_pdu4(source: &str, destination: &str, teid: u32, inner: &[u8]) -> Vec<u8> {
    let length = u16::try_from(inner.len()).unwrap().to_be_bytes();
    let header = [&[0x30, 255, length[0], length[1]][..], &teid.to_be_bytes()].concat();
    gtpu4(source, destination, &[], &[&header, inner].concat(), false)
}

/// A GRE packet with this header, its checksum filled in where there is one.
pub fn gre(source: &str, destination: &str, header: &[u8], inner: &[u8]) -> Vec<u8> {
    let mut octets = [header, inner].concat();
    if octets[0] & 0x80 != 0 {
        let checksum = Sum::default().octets(&octets).checksum();
        octets[4..6].copy_from_slice(&checksum.to_be_bytes());
    }
    ipv6(source, destination, 47, 64, &octets)
}

/// The same with a key and nothing else.
pub fn keyed(source: &str, destination: &str, key: u32, inner: &[u8]) -> Vec<u8> {
    let header = [&[0x20, 0, 0x86, 0xdd][..], &key.to_be_bytes()].concat();
    gre(source, destination, &header, inner)
}

/// With the ethertype of IPv4.
pub fn ethernet4(to: [u8; 6], from: [u8; 6], packet: &[u8]) -> Vec<u8> {
    [&to[..], &from[..], &[8, 0], packet].concat()
}

pub fn octets(address: &str) -> [u8; 16] {
    address.parse::<Ipv6Addr>().unwrap().octets()
}

pub fn ethernet(to: [u8; 6], from: [u8; 6], packet: &[u8]) -> Vec<u8> {
    [&to[..], &from[..], &[0x86, 0xdd], packet].concat()
}

pub fn ipv6(source: &str, destination: &str, next_header: u8, hop_limit: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
    let fixed = [0x60, 0, 0, 0, length[0], length[1], next_header, hop_limit];
    [&fixed[..], &octets(source), &octets(destination), payload].concat()
}

pub fn udp(source: &str, destination: &str, hop_limit: u8) -> Vec<u8> {
    ipv6(
        source,
        destination,
        17,
        hop_limit,
        &[0x30, 0x39, 0, 9, 0, 12, 0, 0, b'k', b'e', b'd', b'g'],
    )
}

/// A UDP packet of so many octets.
pub fn sized(source: &str, destination: &str, length: usize) -> Vec<u8> {
    ipv6(source, destination, 17, 64, &vec![0x4b; length - 40])
}

pub fn tunnelled(source: &str, destination: &str, inner: &[u8]) -> Vec<u8> {
    ipv6(source, destination, 41, 64, inner)
}

/// A UDP packet to the GTP-U port of `destination`, its checksum right.
pub fn gtpu(source: &str, destination: &str, message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len() + 8).unwrap().to_be_bytes();
    let udp = [&[0xc1, 0x23, 0x08, 0x68, length[0], length[1], 0, 0], message].concat();
    let mut packet = ipv6(source, destination, 17, 64, &udp);
    let checksum = Sum::default()
        .octets(&packet[8..])
        .number(udp.len() as u64)
        .number(17)
        .udp_checksum();
    packet[46..48].copy_from_slice(&checksum.to_be_bytes());
    packet
}

/// A G-PDU.
pub fn g_pdu(source: &str, destination: &str, teid: u32, inner: &[u8]) -> Vec<u8> {
    let length = u16::try_from(inner.len()).unwrap().to_be_bytes();
    let header = [&[0x30, 255, length[0], length[1]][..], &teid.to_be_bytes()].concat();
    gtpu(source, destination, &[&header, inner].concat())
}

/// A tunnelled packet with the tunnel encapsulation limit option in front, as Linux sends it.
pub fn with_options(tunnelled: &[u8]) -> Vec<u8> {
    let mut packet = tunnelled[..40].to_vec();
    let length = u16::from_be_bytes([packet[4], packet[5]]) + 8;
    packet[4..6].copy_from_slice(&length.to_be_bytes());
    packet[6] = 60;
    packet.extend_from_slice(&[41, 0, 4, 1, 4, 1, 1, 0]);
    packet.extend_from_slice(&tunnelled[40..]);
    packet
}

/// Destination options that run past the end.
pub fn bad_options(destination: &str) -> Vec<u8> {
    ipv6(REMOTE, destination, 60, 64, &[41, 9, 1, 4, 0, 0, 0, 0])
}

pub fn many_options(destination: &str) -> Vec<u8> {
    ipv6(REMOTE, destination, 60, 64, &[60, 0, 1, 4, 0, 0, 0, 0].repeat(12))
}

pub fn icmpv6_error(source: &str, destination: &str) -> Vec<u8> {
    ipv6(source, destination, 58, 64, &[1, 0, 0, 0, 0, 0, 0, 0])
}

/// What a router in the core says of a packet, its checksum right.
pub fn icmpv6(source: &str, destination: &str, header: [u8; 8], quoted: &[u8]) -> Vec<u8> {
    let mut packet = ipv6(source, destination, 58, 60, &[&header[..], quoted].concat());
    let sum = checksum(&packet).to_be_bytes();
    packet[42..44].copy_from_slice(&sum);
    packet
}

/// The same of ICMPv4.
pub fn icmpv4(source: &str, destination: &str, header: [u8; 8], quoted: &[u8]) -> Vec<u8> {
    let mut message = [&header[..], quoted].concat();
    let sum = Sum::default().octets(&message).checksum().to_be_bytes();
    message[2..4].copy_from_slice(&sum);
    ipv4(source, destination, 1, &[], &message)
}

pub fn echo_request(source: &str, destination: &str) -> Vec<u8> {
    ipv6(source, destination, 58, 64, &[128, 0, 0, 0, 0, 0, 0, 0])
}

/// The packet after one hop.
pub fn hop(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    packet[7] -= 1;
    packet
}

/// The sum over an ICMPv6 packet: zero if its checksum is right.
pub fn checksum(packet: &[u8]) -> u16 {
    let mut sum = u32::try_from(packet.len() - 40).unwrap() + 58;
    let mut octets = packet[8..].to_vec();
    if octets.len() % 2 == 1 {
        octets.push(0);
    }
    for pair in octets.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair[1]]));
    }
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
