//! A gateway's tables and packets, without a gateway: what the benches in this process share.

mod changes;
mod flows;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;

use anyhow::Context;
use ipnet::Ipv6Net;
use kedge_dataplane::flow::Builder;
use kedge_dataplane::pipeline::{Ipv4Fragments, Limits, Pipeline};
use kedge_dataplane::snapshot::{Compiler, PortDescription, Publisher, Snapshot, TableLimits};
use kedge_dataplane::stage::ipv4;
use kedge_dataplane::tunnel::outer::Shown;
use kedge_dataplane::tunnel::{gre, gtpu};
use kedge_dataplane_api::Transaction;
use kedge_dataplane_api::model::{
    Encapsulation, Gre, GtpU, NextHop, PrefixEntry, Sender, Source, SourcePath, Tunnel,
};

pub(crate) use changes::{Kind, Pool, Way, with_reserve};
pub(crate) use flows::Flows;

use crate::fib::shapes::{Prefix, Random, Shape};

/// Index of the port toward routers and other gateways.
pub(crate) const CORE: usize = 0;
/// Names of the ports, by index.
const PORTS: [&str; 2] = ["core", "access"];
/// Link-layer address of each port.
pub(crate) const OWN: [u8; 6] = [2, 0, 0, 0, 0, 1];
const ROUTER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xca, 0, 0, 0, 0, 1);
const ROUTER_LINK_LAYER: [u8; 6] = [2, 0, 0, 0, 0, 0x99];
/// The gateway's address, and its end of every tunnel.
const LOCAL: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0, 0, 0, 0, 1);
/// Both for tunnels over IPv4.
const LOCAL4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const ROUTER4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 254);
/// In no prefix but `::/0`.
const ELSEWHERE: Ipv6Addr = Ipv6Addr::new(0x2a00, 0x77, 0, 0, 0, 0, 0, 1);
/// The same of IPv4.
const ELSEWHERE4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 200);
/// Octets of an Ethernet frame without checksum, as CSIT has it for IPv6.
const FRAME: usize = 78;
/// Most tunnels of IPv6 in IPv6: no domain of this kind has more gateways.
pub(crate) const MOST_TUNNELS: usize = 10_000;

/// What is done with the packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Case {
    /// From the core, by a router.
    Plain,
    /// From the core, into the tunnel to where the node is.
    Encapsulate,
    /// From a tunnel, on to the core: what a node elsewhere sends through its anchor.
    Decapsulate,
    /// From a tunnel, on to a node that is here: what is sent to it from as many prefixes elsewhere, by the anchor of its own.
    Serve,
    /// As [`Case::Encapsulate`], each prefix by a GTP-U tunnel of its own.
    GtpuEncapsulate,
    /// As [`Case::Decapsulate`], each prefix by a GTP-U tunnel of its own.
    GtpuDecapsulate,
    /// As [`Case::GtpuEncapsulate`], over IPv4.
    Gtpu4Encapsulate,
    /// As [`Case::GtpuDecapsulate`], over IPv4.
    Gtpu4Decapsulate,
    /// As [`Case::GtpuEncapsulate`], with nodes that have IPv4.
    GtpuInner4Encapsulate,
    /// As [`Case::GtpuDecapsulate`], with nodes that have IPv4.
    GtpuInner4Decapsulate,
    /// As [`Case::Encapsulate`], each prefix by a GRE tunnel with a key of its own.
    GreEncapsulate,
    /// As [`Case::Decapsulate`], each prefix by a GRE tunnel with a key of its own.
    GreDecapsulate,
}

impl Case {
    pub(crate) const ALL: [Self; 12] = [
        Self::Plain,
        Self::Encapsulate,
        Self::Decapsulate,
        Self::Serve,
        Self::GtpuEncapsulate,
        Self::GtpuDecapsulate,
        Self::Gtpu4Encapsulate,
        Self::Gtpu4Decapsulate,
        Self::GtpuInner4Encapsulate,
        Self::GtpuInner4Decapsulate,
        Self::GreEncapsulate,
        Self::GreDecapsulate,
    ];

    /// Whether its nodes have IPv4.
    fn is_of_ipv4(self) -> bool {
        matches!(self, Self::GtpuInner4Encapsulate | Self::GtpuInner4Decapsulate)
    }

    /// Tunnels with so many prefixes.
    fn tunnels(self, count: usize) -> usize {
        match self {
            Self::Plain => 1,
            Self::Encapsulate | Self::Decapsulate | Self::Serve => count.min(MOST_TUNNELS),
            Self::GtpuEncapsulate
            | Self::GtpuDecapsulate
            | Self::Gtpu4Encapsulate
            | Self::Gtpu4Decapsulate
            | Self::GtpuInner4Encapsulate
            | Self::GtpuInner4Decapsulate
            | Self::GreEncapsulate
            | Self::GreDecapsulate => count,
        }
    }

    /// Tunnel number `at`.
    fn tunnel(self, at: usize) -> Tunnel {
        match self {
            Self::Plain | Self::Encapsulate | Self::Decapsulate | Self::Serve => tunnel(at),
            Self::GtpuEncapsulate
            | Self::GtpuDecapsulate
            | Self::GtpuInner4Encapsulate
            | Self::GtpuInner4Decapsulate => gtpu_tunnel(at),
            Self::Gtpu4Encapsulate | Self::Gtpu4Decapsulate => gtpu4_tunnel(at),
            Self::GreEncapsulate | Self::GreDecapsulate => gre_tunnel(at),
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Encapsulate => "encapsulate",
            Self::Decapsulate => "decapsulate",
            Self::Serve => "serve",
            Self::GtpuEncapsulate => "gtpu-encapsulate",
            Self::GtpuDecapsulate => "gtpu-decapsulate",
            Self::Gtpu4Encapsulate => "gtpu4-encapsulate",
            Self::Gtpu4Decapsulate => "gtpu4-decapsulate",
            Self::GtpuInner4Encapsulate => "gtpu-inner4-encapsulate",
            Self::GtpuInner4Decapsulate => "gtpu-inner4-decapsulate",
            Self::GreEncapsulate => "gre-encapsulate",
            Self::GreDecapsulate => "gre-decapsulate",
        }
    }
}

/// What of the tables a packet to or from one prefix cannot do without, where each has a tunnel with a number.
pub(crate) enum Needs {
    /// The route of this address, and the tunnel that it leads into.
    Into(u128),
    /// What is known by this key of the peer's.
    OutOf(u128),
}

/// Tables with so many prefixes, and a way to change them.
pub(crate) struct Gateway {
    pub(crate) compiler: Compiler,
    pub(crate) prefixes: Vec<Prefix>,
    pub(crate) tunnels: usize,
    case: Case,
    /// What of it can change, once something has.
    moving: Option<changes::Moving>,
}

impl Gateway {
    /// Prefixes from pools, which `case` says what is done with, and a default route.
    pub(crate) fn new(case: Case, count: usize, workers: usize) -> anyhow::Result<Self> {
        let port = |name: &str| PortDescription {
            name: name.to_owned(),
            access: name == PORTS[1],
            link_layer_address: OWN,
            mtu: 1500,
            vlan: None,
            exception: false,
        };
        let limits = TableLimits {
            prefixes: 1 << 21,
            tunnels: 1 << 20,
            filters: 1 << 23,
            inner_ipv4: case.is_of_ipv4(),
            ..TableLimits::default()
        };
        let compiler = Compiler::new(PORTS.map(port).to_vec(), LOCAL, workers).with_limits(limits);
        let prefixes = if case.is_of_ipv4() {
            hosts(count)
        } else {
            Shape::Pools.prefixes(count)
        };
        let tunnels = case.tunnels(count);
        let mut gateway = Self {
            compiler,
            prefixes,
            tunnels,
            case,
            moving: None,
        };
        gateway.fill()?;
        Ok(gateway)
    }

    fn fill(&mut self) -> anyhow::Result<()> {
        let mut first = Transaction {
            put_local_addresses: vec![LOCAL, LOCAL4.to_ipv6_mapped()],
            put_neighbours: [ROUTER, ROUTER4.to_ipv6_mapped()]
                .map(|router| ((PORTS[CORE].to_owned(), router), ROUTER_LINK_LAYER))
                .to_vec(),
            put_prefixes: vec![
                ("::/0".parse()?, entry(by_router(ROUTER))),
                (
                    "::ffff:0:0/96".parse()?,
                    entry(by_router(ROUTER4.to_ipv6_mapped())),
                ),
            ],
            ..Transaction::default()
        };
        first.put_tunnels = (0..self.tunnels)
            .map(|at| (at as u32 + 1, self.case.tunnel(at)))
            .collect();
        self.compiler.apply(&first)?;
        if self.case == Case::Serve {
            let nodes =
                (0..self.tunnels).map(|at| Ok((Ipv6Net::new(served(at), 64)?.trunc(), served_by(at))));
            self.compiler.apply(&Transaction {
                put_prefixes: nodes.collect::<anyhow::Result<_>>()?,
                ..Transaction::default()
            })?;
        }
        for (number, prefixes) in self.prefixes.chunks(1000).enumerate() {
            let put = prefixes.iter().zip(number * 1000..);
            let put_prefixes = put
                .map(|(prefix, at)| (net(*prefix), entry(self.next_hop(at))))
                .collect();
            self.compiler.apply(&Transaction {
                put_prefixes,
                ..Transaction::default()
            })?;
        }
        Ok(())
    }

    /// Puts the prefix of the core link, on which the neighbours are that changes are made.
    pub(crate) fn put_link(&mut self) -> anyhow::Result<()> {
        let port = PORTS[CORE].to_owned();
        self.compiler.apply(&Transaction {
            put_prefixes: vec![("2001:db8:ca::/64".parse()?, entry(NextHop::OnLink { port }))],
            ..Transaction::default()
        })?;
        Ok(())
    }

    /// For prefix number `at`; `None` in cases of another kind.
    pub(crate) fn needs(&self, at: usize) -> Option<Needs> {
        let tunnel = || self.case.tunnel(at % self.tunnels);
        match self.case {
            Case::GtpuEncapsulate | Case::Gtpu4Encapsulate | Case::GreEncapsulate => {
                self.prefixes.get(at).map(|(bits, _)| Needs::Into(*bits))
            }
            Case::GtpuDecapsulate | Case::Gtpu4Decapsulate | Case::GreDecapsulate => {
                let tunnel = tunnel();
                let key = match tunnel.encapsulation {
                    Encapsulation::GtpU(it) => gtpu::key(it.local_teid.get(), tunnel.remote.into()),
                    Encapsulation::Gre(it) => gre::peer_key(it.local_key, tunnel.remote.into()),
                    Encapsulation::Ipv6InIpv6 => return None,
                };
                Some(Needs::OutOf(key))
            }
            _ => None,
        }
    }

    fn next_hop(&self, at: usize) -> NextHop {
        match self.case {
            Case::Plain | Case::Serve => by_router(ROUTER),
            _ => NextHop::Tunnel((at % self.tunnels) as u32 + 1),
        }
    }

    /// Another way for a prefix chosen at random; nothing else has to be there for it to change.
    pub(crate) fn another_way(&self, random: &mut Random) -> Transaction {
        let at = random.below(self.prefixes.len() as u64) as usize;
        let way = entry(self.next_hop(random.below(self.tunnels as u64) as usize));
        Transaction {
            put_prefixes: self
                .prefixes
                .get(at)
                .map(|it| (net(*it), way))
                .into_iter()
                .collect(),
            ..Transaction::default()
        }
    }

    /// From now on.
    pub(crate) fn classify_by(&mut self, builder: Builder) {
        self.compiler.classify_by(builder);
    }

    /// The first version, published.
    pub(crate) fn publisher(&self) -> Publisher {
        Publisher::new(self.compiler.snapshot())
    }

    /// Puts all prefixes on hold; a version in which they are.
    pub(crate) fn hold_all(&mut self) -> anyhow::Result<Snapshot> {
        for prefixes in self.prefixes.chunks(1000) {
            let hold = |prefix: &Prefix| (net(*prefix), entry(NextHop::Hold { maximum_ms: 0 }));
            self.compiler.apply(&Transaction {
                put_prefixes: prefixes.iter().map(hold).collect(),
                ..Transaction::default()
            })?;
        }
        Ok(self.compiler.snapshot())
    }

    /// A frame of this case for a prefix chosen at random.
    pub(crate) fn frame(&self, random: &mut Random) -> Vec<u8> {
        let at = random.below(self.prefixes.len() as u64) as usize;
        let (bits, _) = self.prefixes.get(at).copied().unwrap_or_default();
        let node = Ipv6Addr::from(bits | u128::from(random.next()));
        let ports = random.next().to_be_bytes();
        let host = Ipv4Addr::from(bits as u32);
        let mut packet = match self.case {
            Case::GtpuInner4Encapsulate => inner4(ELSEWHERE4, host, ports),
            Case::GtpuInner4Decapsulate => inner4(host, ELSEWHERE4, ports),
            Case::Plain
            | Case::Encapsulate
            | Case::GtpuEncapsulate
            | Case::Gtpu4Encapsulate
            | Case::GreEncapsulate => inner(ELSEWHERE, node, ports),
            Case::Decapsulate | Case::GtpuDecapsulate | Case::Gtpu4Decapsulate | Case::GreDecapsulate => {
                inner(node, ELSEWHERE, ports)
            }
            Case::Serve => inner(node, served(at % self.tunnels), ports),
        };
        let mut ethertype = [0x86, 0xdd];
        match self.case {
            Case::Plain
            | Case::Encapsulate
            | Case::GtpuEncapsulate
            | Case::Gtpu4Encapsulate
            | Case::GreEncapsulate => {}
            Case::GtpuInner4Encapsulate => ethertype = [0x08, 0x00],
            Case::Decapsulate | Case::Serve => {
                let mut outer = header(41, packet.len(), peer(at % self.tunnels), LOCAL).to_vec();
                outer.append(&mut packet);
                packet = outer;
            }
            Case::GtpuDecapsulate => packet = g_pdu(at, &packet, Shown::of_ipv6),
            Case::GtpuInner4Decapsulate => packet = g_pdu(at, &packet, Shown::of_ipv4),
            Case::GreDecapsulate => packet = gre_packet(at, &packet),
            Case::Gtpu4Decapsulate => {
                packet = g_pdu4(at, &packet);
                ethertype = [0x08, 0x00];
            }
        }
        let mut frame = OWN.to_vec();
        frame.extend_from_slice(&ROUTER_LINK_LAYER);
        frame.extend_from_slice(&ethertype);
        frame.append(&mut packet);
        frame
    }
}

/// A worker's pipeline, with the limits of the gateway's defaults.
pub(crate) fn pipeline(worker: usize) -> Pipeline {
    let limits = Limits {
        icmpv6_errors_per_second: 1000,
        punts_per_second: 10_000,
        accept_zero_checksums: false,
        ipv4_fragments: Ipv4Fragments::Refused,
        clamp_mss: false,
        workers: 1,
        identification_seed: 0,
        cycles_per_second: 2_000_000_000,
    };
    Pipeline::new(worker, limits)
}

fn entry(next_hop: NextHop) -> PrefixEntry {
    PrefixEntry {
        next_hop,
        source: None,
    }
}

fn delivered(seed: u64) -> PrefixEntry {
    let [a, b, c, d, ..] = seed.to_be_bytes();
    let link_layer_address = [2, 0, a, b, c, d];
    PrefixEntry {
        next_hop: NextHop::Deliver {
            port: PORTS[1].to_owned(),
            link_layer_address,
        },
        source: Some(Source {
            sender: Sender::Node {
                port: PORTS[1].to_owned(),
                link_layer_address,
            },
            path: SourcePath::Native,
        }),
    }
}

/// Address of a node that is here and anchored at the other end of tunnel number `at`.
fn served(at: usize) -> Ipv6Addr {
    Ipv6Addr::from(0x2001_0db8_5e00_u128 << 80 | (at as u128) << 64 | 2)
}

/// The way to it, and back.
fn served_by(at: usize) -> PrefixEntry {
    let here = delivered((at as u64) << 32);
    let path = SourcePath::Tunnel(at as u32 + 1);
    PrefixEntry {
        source: here.source.map(|source| Source { path, ..source }),
        ..here
    }
}

fn by_router(address: Ipv6Addr) -> NextHop {
    NextHop::Gateway {
        port: PORTS[CORE].to_owned(),
        address,
    }
}

fn peer(at: usize) -> Ipv6Addr {
    Ipv6Addr::from(0x2001_0db8_000b_u128 << 80 | (at as u128) << 64 | 1)
}

/// GTP-U tunnel number `at`: many nodes, a hundred gateways that serve them.
fn gtpu_tunnel(at: usize) -> Tunnel {
    // As an owner gives them out, so that they cannot be guessed: an odd multiplier makes them all different.
    let teid =
        |at: usize| NonZeroU32::new((at as u32 + 1).wrapping_mul(0x9e37_79b1)).unwrap_or(NonZeroU32::MAX);
    Tunnel {
        encapsulation: Encapsulation::GtpU(GtpU {
            local_teid: teid(at),
            remote_teid: teid(at),
            pdu_session: None,
            sequence_numbers: false,
        }),
        ..tunnel(at % 100)
    }
}

/// What the peer of GTP-U tunnel number `at` sends.
fn g_pdu(at: usize, inner: &[u8], shown: impl FnOnce(&[u8]) -> Option<Shown>) -> Vec<u8> {
    let tunnel = gtpu_tunnel(at);
    let Encapsulation::GtpU(gtpu) = tunnel.encapsulation else {
        return Vec::new();
    };
    let mut packet = vec![0; gtpu::overhead(&gtpu)];
    packet.extend_from_slice(inner);
    // Too long it is not: the frame has 78 octets.
    let (from, to) = (tunnel.remote.octets(), LOCAL.octets());
    let _ = gtpu::encapsulate_any(&mut packet, &from, &to, 64, &gtpu, 0, shown);
    packet
}

/// The same over IPv4.
fn gtpu4_tunnel(at: usize) -> Tunnel {
    let [.., peer] = (at as u32 % 100).to_be_bytes();
    Tunnel {
        local: LOCAL4.to_ipv6_mapped(),
        remote: Ipv4Addr::new(198, 51, 100, peer).to_ipv6_mapped(),
        ..gtpu_tunnel(at)
    }
}

/// What the peer of such a tunnel sends.
fn g_pdu4(at: usize, inner: &[u8]) -> Vec<u8> {
    let tunnel = gtpu4_tunnel(at);
    let Encapsulation::GtpU(gtpu) = tunnel.encapsulation else {
        return Vec::new();
    };
    let mut packet = vec![0; gtpu::overhead_in_ipv4(&gtpu)];
    packet.extend_from_slice(inner);
    let (from, to) = (tunnel.remote.octets(), tunnel.local.octets());
    let _ = gtpu::encapsulate_in_ipv4(&mut packet, &from, &to, 64, &gtpu, 0);
    packet
}

/// GRE tunnel number `at`, with the same number at both ends.
fn gre_tunnel(at: usize) -> Tunnel {
    let key = Some((at as u32 + 1).wrapping_mul(0x9e37_79b1));
    Tunnel {
        encapsulation: Encapsulation::Gre(Gre {
            local_key: key,
            remote_key: key,
        }),
        ..tunnel(at % 100)
    }
}

/// What the peer of such a tunnel sends.
fn gre_packet(at: usize, inner: &[u8]) -> Vec<u8> {
    let tunnel = gre_tunnel(at);
    let Encapsulation::Gre(gre) = tunnel.encapsulation else {
        return Vec::new();
    };
    let mut packet = vec![0; gre::overhead(&gre)];
    packet.extend_from_slice(inner);
    let _ = gre::encapsulate(&mut packet, &tunnel.remote.octets(), &LOCAL.octets(), 64, &gre);
    packet
}

/// Tunnel number `at`.
pub(crate) fn tunnel(at: usize) -> Tunnel {
    Tunnel {
        encapsulation: Encapsulation::Ipv6InIpv6,
        local: LOCAL,
        remote: peer(at),
        hop_limit: 64,
        mtu: 0,
        encapsulation_limit: None,
        dscp: kedge_dataplane_api::model::Dscp::default(),
    }
}

fn net((bits, length): Prefix) -> Ipv6Net {
    // Shapes give lengths up to 128.
    Ipv6Net::new(bits.into(), length).unwrap_or_default()
}

fn inner(source: Ipv6Addr, destination: Ipv6Addr, [a, b, c, d, ..]: [u8; 8]) -> Vec<u8> {
    let length = FRAME - 14 - 40;
    let mut packet = header(17, length, source, destination).to_vec();
    let [high, low] = (length as u16).to_be_bytes();
    packet.extend_from_slice(&[a, b, c, d, high, low, 0, 0]);
    packet.resize(FRAME - 14, 0x4b);
    packet
}

/// As many nodes of 10.0.0.0/8, each with an address.
fn hosts(count: usize) -> Vec<Prefix> {
    let first = u32::from(Ipv4Addr::new(10, 0, 0, 0));
    let hosts = (first..).map(|host| (u128::from(Ipv4Addr::from(host).to_ipv6_mapped()), 128));
    hosts.take(count).collect()
}

/// As large as [`inner`].
fn inner4(source: Ipv4Addr, destination: Ipv4Addr, [a, b, c, d, ..]: [u8; 8]) -> Vec<u8> {
    let length = FRAME - 14 - ipv4::HEADER;
    let header = ipv4::header(source.octets(), destination.octets(), 64, 17, 0, length);
    let mut packet = header.unwrap_or_default().to_vec();
    let [high, low] = (length as u16).to_be_bytes();
    packet.extend_from_slice(&[a, b, c, d, high, low, 0, 0]);
    packet.resize(FRAME - 14, 0x4b);
    packet
}

fn header(next_header: u8, length: usize, source: Ipv6Addr, destination: Ipv6Addr) -> [u8; 40] {
    let mut header = [0; 40];
    header[0] = 0x60;
    header[4..6].copy_from_slice(&(length as u16).to_be_bytes());
    header[6] = next_header;
    header[7] = 64;
    header[8..24].copy_from_slice(&source.octets());
    header[24..40].copy_from_slice(&destination.octets());
    header
}

/// The file that a bench was asked to write, if any, and the table on the terminal.
pub(crate) fn finish(
    rows: &crate::rows::Rows,
    json: Option<&std::path::Path>,
    load: &str,
) -> anyhow::Result<()> {
    println!("{}", rows.table());
    json.map_or(Ok(()), |path| rows.write(path, load))
        .context("the rows are lost")
}
