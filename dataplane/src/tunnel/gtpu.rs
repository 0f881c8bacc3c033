//! GTP-U (3GPP TS 29.281): the packets of many nodes in UDP, told apart by a Tunnel Endpoint Identifier.
//!
//! Here is what a worker does with one packet; `message` reads and `answer` writes what is not user traffic.
//! Section numbers are those of TS 29.281; which of its rules are obeyed is told in `CONFORMANCE.md`.

mod answer;
mod message;
mod plain;

use kedge_dataplane_api::model::GtpU;

pub use answer::{Answer, answer};
pub use message::{Message, Problem, message_type, peek_g_pdu, peek_teid, read};
pub use plain::{start_of_plain_inner, start_of_plain_inner_in_ipv4};

use super::outer::{self, Shown};
use crate::stage::checksum::Sum;
use crate::stage::ipv4;
use crate::stage::parse::IPV6_HEADER;

/// UDP port of GTP-U (section 4.4.2).
pub const PORT: u16 = 2152;
/// Next header value of UDP.
pub const UDP: u8 = 17;
/// Octets of a UDP header.
pub(crate) const UDP_HEADER: usize = 8;
/// Octets of the part of a GTP-U header that is always there (section 5.1).
pub(crate) const HEADER: usize = 8;
/// Octets of both.
const HEADERS: usize = UDP_HEADER + HEADER;
/// What follows that with any of the flags E, S and PN.
const OPTIONAL: usize = 4;
/// Version 1, protocol type GTP.
const VERSION: u8 = 0x30;
const EXTENSION: u8 = 0x04;
const SEQUENCE: u8 = 0x02;
/// Type of the extension header with a PDU Session Container (3GPP TS 38.415).
pub const PDU_SESSION_CONTAINER: u8 = 0x85;
/// Octets of that one as we send it: without any of its optional fields.
const CONTAINER: usize = 4;

/// Octets in front of an inner packet, at most 64.
#[must_use]
pub fn overhead(tunnel: &GtpU) -> usize {
    let optional = match (tunnel.pdu_session, tunnel.sequence_numbers) {
        (Some(_), _) => OPTIONAL + CONTAINER,
        (None, true) => OPTIONAL,
        (None, false) => 0,
    };
    IPV6_HEADER + HEADERS + optional
}

/// The most that may be over IPv4.
pub const LARGEST_OVERHEAD_IN_IPV4: u16 = (ipv4::HEADER + HEADERS + OPTIONAL + CONTAINER) as u16;

/// Whether nothing optional is in the headers of a tunnel.
#[must_use]
pub fn is_plain(tunnel: &GtpU) -> bool {
    tunnel.pdu_session.is_none() && !tunnel.sequence_numbers
}

/// The same over IPv4.
#[must_use]
pub fn overhead_in_ipv4(tunnel: &GtpU) -> usize {
    overhead(tunnel) - IPV6_HEADER + ipv4::HEADER
}

/// The key by which the peer of an incoming G-PDU is looked up, in the table of peers: its TEID and
/// who sent it. It is a multicast address, and so no peer of another kind has it.
///
/// ```text
/// 128      116             84                                20       0
///  +--------+---------------+---------------------------------+--------+
///  |  ff0   |     TEID      |  source, its halves added up    |   0    |
///  +--------+---------------+---------------------------------+--------+
/// ```
#[must_use]
#[inline]
pub fn key(teid: u32, source: u128) -> u128 {
    0xff0 << 116 | u128::from(teid) << 84 | u128::from(outer::fold(source)) << 20
}

/// Writes the outer headers of a G-PDU (section 5.2.2) into the first [`overhead`] octets of `packet`,
/// which the inner packet follows. `false` if it is too long for its length fields.
///
/// `sequence` is only sent where the tunnel has sequence numbers.
///
/// The source port says which flow it is, so that routers and receive queues can spread what one tunnel
/// carries (section 4.4.2.0); so does the flow label (RFC 6438). The checksum is computed: zero is
/// refused by receivers over IPv6 (RFC 8200 section 8.1), unless told otherwise (RFC 6936).
#[must_use]
#[inline]
pub fn encapsulate(
    packet: &mut [u8],
    local: &[u8; 16],
    remote: &[u8; 16],
    hop_limit: u8,
    tunnel: &GtpU,
    sequence: u16,
) -> bool {
    encapsulate_any(packet, local, remote, hop_limit, tunnel, sequence, Shown::of_ipv6)
}

/// [`encapsulate`] for an inner packet of either version of IP, of which `shown` tells.
#[must_use]
#[inline(always)]
pub fn encapsulate_any(
    packet: &mut [u8],
    local: &[u8; 16],
    remote: &[u8; 16],
    hop_limit: u8,
    tunnel: &GtpU,
    sequence: u16,
    shown: impl FnOnce(&[u8]) -> Option<Shown>,
) -> bool {
    let front = overhead(tunnel);
    let Some(shown) = packet.get(front..).and_then(shown) else {
        return false;
    };
    write_all(packet, front, local, remote, hop_limit, tunnel, sequence, shown)
}

/// [`encapsulate`] for a tunnel of which nothing optional is in a header, as most are: all sizes are known beforehand.
#[must_use]
#[inline(always)]
pub fn encapsulate_plain(
    packet: &mut [u8],
    local: &[u8; 16],
    remote: &[u8; 16],
    hop_limit: u8,
    tunnel: &GtpU,
) -> bool {
    const FRONT: usize = IPV6_HEADER + HEADERS;
    let Some(shown) = packet.get(FRONT..).and_then(Shown::of_ipv6) else {
        return false;
    };
    write_all(packet, FRONT, local, remote, hop_limit, tunnel, 0, shown)
}

/// [`encapsulate_in_ipv4`] for such a tunnel.
#[must_use]
#[inline(always)]
pub fn encapsulate_plain_in_ipv4(
    packet: &mut [u8],
    local: &[u8; 16],
    remote: &[u8; 16],
    hop_limit: u8,
    tunnel: &GtpU,
) -> bool {
    const FRONT: usize = ipv4::HEADER + HEADERS;
    let Some(shown) = packet.get(FRONT..).and_then(Shown::of_ipv6) else {
        return false;
    };
    write_all_ipv4(packet, FRONT, local, remote, hop_limit, tunnel, 0, shown)
}

/// [`encapsulate_any`], so many octets of headers.
#[allow(clippy::too_many_arguments, reason = "that many numbers are in the headers")]
#[inline(always)]
fn write_all(
    packet: &mut [u8],
    front: usize,
    local: &[u8; 16],
    remote: &[u8; 16],
    hop_limit: u8,
    tunnel: &GtpU,
    sequence: u16,
    Shown { flow, ecn, .. }: Shown,
) -> bool {
    let Some((header, inner)) = packet.split_at_mut_checked(front) else {
        return false;
    };
    let udp_length = front - IPV6_HEADER + inner.len();
    let Ok(length) = u16::try_from(udp_length) else {
        return false;
    };
    let Some((ipv6, rest)) = header.split_first_chunk_mut::<IPV6_HEADER>() else {
        return false;
    };
    outer::write_ipv6(ipv6, local, remote, hop_limit, UDP, ecn, flow, length);
    if !write_headers(rest, length, flow, tunnel, sequence) {
        return false;
    }
    // The pseudo-header (RFC 8200 section 8.1) is the addresses, which are in front of the UDP header, and two numbers.
    let sum = Sum::default()
        .octets(packet.get(8..).unwrap_or_default())
        .number(udp_length as u64 + u64::from(UDP));
    if let Some(field) = packet.get_mut(IPV6_HEADER + 6..IPV6_HEADER + UDP_HEADER) {
        field.copy_from_slice(&sum.udp_checksum().to_be_bytes());
    }
    true
}

/// The same over IPv4, [`overhead_in_ipv4`] octets of it. The addresses are IPv4-mapped ones.
///
/// The packet must not be fragmented. There is no UDP checksum: over IPv4 a sender may leave it out (RFC 768), every
/// receiver takes that, and the inner packet has checksums of its own. It is the one thing here that
/// would have to touch all octets. What goes in fragments gets one afterwards ([`crate::stage::ipv4_outer_fragment`]).
#[must_use]
#[inline]
pub fn encapsulate_in_ipv4(
    packet: &mut [u8],
    local: &[u8; 16],
    remote: &[u8; 16],
    hop_limit: u8,
    tunnel: &GtpU,
    sequence: u16,
) -> bool {
    encapsulate_any_in_ipv4(packet, local, remote, hop_limit, tunnel, sequence, Shown::of_ipv6)
}

/// [`encapsulate_in_ipv4`] for an inner packet of either version of IP, of which `shown` tells.
#[must_use]
#[inline(always)]
pub fn encapsulate_any_in_ipv4(
    packet: &mut [u8],
    local: &[u8; 16],
    remote: &[u8; 16],
    hop_limit: u8,
    tunnel: &GtpU,
    sequence: u16,
    shown: impl FnOnce(&[u8]) -> Option<Shown>,
) -> bool {
    let front = overhead_in_ipv4(tunnel);
    let Some(shown) = packet.get(front..).and_then(shown) else {
        return false;
    };
    write_all_ipv4(packet, front, local, remote, hop_limit, tunnel, sequence, shown)
}

/// [`encapsulate_any_in_ipv4`], so many octets of headers.
#[allow(clippy::too_many_arguments, reason = "that many numbers are in the headers")]
#[inline(always)]
fn write_all_ipv4(
    packet: &mut [u8],
    front: usize,
    local: &[u8; 16],
    remote: &[u8; 16],
    hop_limit: u8,
    tunnel: &GtpU,
    sequence: u16,
    Shown { flow, ecn, .. }: Shown,
) -> bool {
    let Some((header, inner)) = packet.split_at_mut_checked(front) else {
        return false;
    };
    let udp_length = front - ipv4::HEADER + inner.len();
    let (local, remote) = (ipv4::last_four(local), ipv4::last_four(remote));
    let Some((place, rest)) = header.split_first_chunk_mut::<{ ipv4::HEADER }>() else {
        return false;
    };
    if !ipv4::write_header(place, local, remote, hop_limit, UDP, ecn, udp_length) {
        return false;
    }
    // Shorter than the whole packet, whose length did fit.
    write_headers(rest, udp_length as u16, flow, tunnel, sequence)
}

/// Writes UDP and GTP-U headers, the checksum zero. `length` is that of the UDP packet.
#[inline(always)]
fn write_headers(octets: &mut [u8], length: u16, flow: u32, tunnel: &GtpU, sequence: u16) -> bool {
    let Some((udp, gtpu)) = octets.split_first_chunk_mut::<UDP_HEADER>() else {
        return false;
    };
    // Each in one go: what is written by halves is not there yet when the checksum reads it.
    let ports = u64::from(outer::source_port(flow)) << 48 | u64::from(PORT) << 32;
    *udp = (ports | u64::from(length) << 16).to_be_bytes();
    let Some((fixed, container)) = gtpu.split_first_chunk_mut::<HEADER>() else {
        return false;
    };
    // What is behind the fixed part counts (section 5.1).
    let behind = length.saturating_sub(HEADERS as u16);
    let mut flags = VERSION;
    // With either of the two all four octets are there (section 5.1).
    if let Some((optional, container)) = container.split_first_chunk_mut::<OPTIONAL>() {
        *optional = [0; OPTIONAL];
        if tunnel.sequence_numbers {
            flags |= SEQUENCE;
            optional[0..2].copy_from_slice(&sequence.to_be_bytes());
        }
        if let Some(session) = tunnel.pdu_session
            && let Some(octets) = container.first_chunk_mut::<CONTAINER>()
        {
            flags |= EXTENSION;
            optional[3] = PDU_SESSION_CONTAINER;
            *octets = [1, u8::from(session.uplink) << 4, session.qfi & 0x3f, 0];
        }
    }
    let kind = u64::from(flags) << 56 | u64::from(message_type::G_PDU) << 48;
    *fixed = (kind | u64::from(behind) << 32 | u64::from(tunnel.remote_teid.get())).to_be_bytes();
    true
}

#[cfg(test)]
mod tests;
