//! ICMP errors about outer packets of ours: what routers between two gateways say of what is in a tunnel. Here are those of
//! ICMPv6; what is said of outer packets of IPv4 is put into the same words by [`icmpv4`].
//!
//! Such an error comes to this node, for the outer packet is from it. What it quotes begins with our outer
//! headers; behind them is the packet of somebody who knows nothing of a tunnel. Here the quotation is read,
//! and [`TunnelError::translated`] says what that somebody is told (RFC 2473 section 8). Which tunnel it is of,
//! and whether to believe it, is for the pipeline, which has the tables.
//!
//! A quotation is cut where the error would become longer than 1,280 octets, so what it says of lengths is
//! not held against it.

pub mod icmpv4;

use crate::stage::icmpv6_error::Icmpv6Error;
use crate::stage::ipv4;
use crate::stage::parse::{self, ETHERTYPE_IPV4, ETHERTYPE_IPV6, IPV6_HEADER};
use crate::tunnel::{gre, gtpu, ip6_in_ip6, outer};

/// Next header value of ICMPv6.
pub const ICMPV6: u8 = 58;
/// Octets in front of what an error quotes, in both versions of ICMP.
pub const ICMP_HEADER: usize = 8;

const DESTINATION_UNREACHABLE: u8 = 1;
const PACKET_TOO_BIG: u8 = 2;
const TIME_EXCEEDED: u8 = 3;
const PARAMETER_PROBLEM: u8 = 4;

/// Nobody has to carry less, so no path does (RFC 8200 section 5, RFC 8201 section 4).
pub const MINIMUM_MTU: u16 = 1280;
/// The same of IPv4: every host takes so much (RFC 791 section 3.1), and what links took less, of 508 and 296 octets (RFC 1191
/// section 7.1), were to single hosts.
pub const MINIMUM_MTU_OF_IPV4: u16 = 576;

/// An error that quotes a packet of a tunnel, whosever it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TunnelError {
    /// Type of the message, 1..=4 (RFC 4443).
    pub kind: u8,
    /// Its code.
    pub code: u8,
    /// The 32 bits behind the checksum: an MTU, a pointer, or nothing.
    pub parameter: u32,
    /// Of the packet quoted: IPv6 or IPv4, whose addresses are IPv4-mapped ones here.
    pub ethertype: u16,
    /// Outer source of the packet quoted.
    pub source: u128,
    /// Outer destination of the packet quoted.
    pub destination: u128,
    /// Octets of the whole outer packet, as its header says.
    pub length: usize,
    /// What kind of tunnel it was in.
    pub carried: Carried,
    /// Where the inner packet begins, octets from the ICMP header.
    pub offset: usize,
    /// Where what is quoted of it ends.
    pub end: usize,
}

/// What an outer packet carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carried {
    /// A packet of either version of IP, right behind the outer headers.
    Ip,
    /// A G-PDU.
    GPdu {
        /// Of the receiver.
        teid: u32,
        /// Of the UDP header.
        source_port: u16,
    },
    /// A GRE packet.
    Gre {
        /// Of the receiver, if it has one.
        key: Option<u32>,
    },
    /// A UDP packet to the port of GTP-U, of which too little is quoted.
    Unknown,
}

/// Reads an ICMPv6 message; `None` if it is no error, or does not quote the first fragment, or the whole, of a
/// packet of a tunnel as we make them.
#[must_use]
pub fn read(message: &[u8]) -> Option<TunnelError> {
    let (header, quoted) = message.split_first_chunk::<ICMP_HEADER>()?;
    let [kind, code, _, _, p0, p1, p2, p3] = *header;
    if !(DESTINATION_UNREACHABLE..=PARAMETER_PROBLEM).contains(&kind) {
        return None;
    }
    let outer = parse::ipv6_header(quoted).ok()?;
    let upper = parse::upper_layer(quoted, outer.next_header).ok()?;
    if upper.later_fragment {
        return None;
    }
    let behind = quoted.get(upper.offset..)?;
    let (carried, front) = match upper.next_header {
        ip6_in_ip6::NEXT_HEADER | ip6_in_ip6::NEXT_HEADER_IPV4 => (Carried::Ip, 0),
        gtpu::UDP => {
            let (teid, source_port, front) = gtpu::peek_g_pdu(behind)?;
            (Carried::GPdu { teid, source_port }, front)
        }
        gre::NEXT_HEADER => {
            let gre::Message { key, offset, .. } = gre::peek(behind).ok()?;
            (Carried::Gre { key }, offset)
        }
        _ => return None,
    };
    Some(TunnelError {
        kind,
        code,
        parameter: u32::from_be_bytes([p0, p1, p2, p3]),
        ethertype: ETHERTYPE_IPV6,
        source: outer.source,
        destination: outer.destination,
        length: outer.length,
        carried,
        offset: ICMP_HEADER + upper.offset + front,
        end: message.len(),
    })
}

impl TunnelError {
    /// The MTU that a Packet Too Big tells.
    #[must_use]
    pub fn too_big(&self) -> Option<u32> {
        (self.kind == PACKET_TOO_BIG).then_some(self.parameter)
    }

    /// The least MTU that is believed, octets. Of one that anybody could have made up it is what goes with an IPv4 packet of 576
    /// octets inside: there are hosts that make no smaller ones.
    #[must_use]
    pub fn least_mtu(&self) -> u16 {
        match self.carried {
            Carried::Unknown => MINIMUM_MTU_OF_IPV4 + gtpu::LARGEST_OVERHEAD_IN_IPV4,
            _ if self.ethertype == ETHERTYPE_IPV4 => MINIMUM_MTU_OF_IPV4,
            _ => MINIMUM_MTU,
        }
    }

    /// As much of the inner packet as is quoted.
    #[must_use]
    pub fn inner<'a>(&self, message: &'a [u8]) -> &'a [u8] {
        message.get(self.offset..self.end).unwrap_or_default()
    }

    /// Octets of outer headers in front of the inner packet, a Fragment header among them.
    #[must_use]
    pub fn overhead(&self) -> usize {
        self.offset - ICMP_HEADER
    }

    /// Whether the packet quoted could have been made from the inner packet that it quotes: the outer source
    /// port of a G-PDU is that of the inner flow. Where too little is quoted to tell, it could.
    #[must_use]
    pub fn is_of(&self, inner: &[u8]) -> bool {
        match self.carried {
            Carried::Ip | Carried::Gre { .. } | Carried::Unknown => true,
            Carried::GPdu { .. } if inner.len() < IPV6_HEADER + 4 => true,
            Carried::GPdu { source_port, .. } => {
                let flow = match inner.first().map(|first| first >> 4) {
                    Some(4) => outer::flow_ipv4(inner),
                    _ => outer::flow(inner),
                };
                flow.is_none_or(|flow| outer::source_port(flow) == source_port)
            }
        }
    }

    /// What the source of the inner packet, which has `inner_length` octets, is told (RFC 2473 section 8.2);
    /// `None`: nothing. `mtu` is the largest inner packet that the tunnel takes after this, octets.
    ///
    /// Hop limits, addresses and codes in the tunnel mean nothing outside: that it does not get through is
    /// all that there is to say. A Parameter Problem is the source's only where it points to the tunnel
    /// encapsulation limit: anything else is our own doing.
    #[must_use]
    pub fn translated(&self, message: &[u8], inner_length: usize, mtu: u16) -> Option<Icmpv6Error> {
        match (self.kind, self.code) {
            (DESTINATION_UNREACHABLE, _) | (TIME_EXCEEDED, 0) => Some(Icmpv6Error::AddressUnreachable),
            (PARAMETER_PROBLEM, 0) if self.points_to_limit(message) => Some(Icmpv6Error::AddressUnreachable),
            (PACKET_TOO_BIG, _) if inner_length > usize::from(MINIMUM_MTU) => {
                Some(Icmpv6Error::PacketTooBig(mtu.max(MINIMUM_MTU)))
            }
            _ => None,
        }
    }

    /// The same where the inner packet is IPv4, as much of it as is quoted (RFC 2473 section 8.3). It is told an MTU only if
    /// it may not be cut: else we cut it ourselves.
    #[must_use]
    pub fn translated_to_ipv4(&self, message: &[u8], inner: &[u8], mtu: u16) -> Option<Icmpv6Error> {
        if self.kind == PACKET_TOO_BIG {
            return ipv4::dont_fragment(inner).then_some(Icmpv6Error::PacketTooBig(mtu));
        }
        self.translated(message, 0, mtu)
    }

    /// Whether the pointer is to the value of a tunnel encapsulation limit option, where we put it: first in
    /// a Destination Options header behind the outer header.
    fn points_to_limit(&self, message: &[u8]) -> bool {
        const VALUE: usize = IPV6_HEADER + 4;
        let quoted = message.get(ICMP_HEADER..).unwrap_or_default();
        usize::try_from(self.parameter) == Ok(VALUE)
            && quoted.get(6) == Some(&parse::DESTINATION_OPTIONS)
            && quoted.get(IPV6_HEADER + 2..VALUE) == Some(&[ip6_in_ip6::LIMIT_OPTION, 1])
    }
}
