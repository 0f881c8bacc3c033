//! ICMPv6 errors (RFC 4443), made in the frame of the packet that they are about.

use crate::frame::Frame;
use crate::stage::checksum::Sum;
use crate::stage::parse::{ETHERNET_HEADER, IPV6_HEADER, UpperLayer, is_multicast, upper_layer};

const ICMPV6: u8 = 58;
const ICMPV6_HEADER: usize = 8;
/// An error is never longer than this (RFC 4443 section 2.4 (c)).
const LARGEST: usize = 1280;
const HOP_LIMIT: u8 = 64;
const REDIRECT: u8 = 137;

/// An error to tell the source of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Icmpv6Error {
    /// Type 1 code 0.
    NoRoute,
    /// Type 1 code 1.
    AdministrativelyProhibited,
    /// Type 1 code 3.
    AddressUnreachable,
    /// Type 2, with the MTU to use.
    PacketTooBig(u16),
    /// Type 3 code 0.
    HopLimitExceeded,
    /// Type 4 code 0, with where in the packet the wrong value is, octets.
    ParameterProblem(u16),
}

impl Icmpv6Error {
    fn header(self) -> [u8; ICMPV6_HEADER] {
        let (kind, code, parameter) = match self {
            Icmpv6Error::NoRoute => (1, 0, 0),
            Icmpv6Error::AdministrativelyProhibited => (1, 1, 0),
            Icmpv6Error::AddressUnreachable => (1, 3, 0),
            Icmpv6Error::PacketTooBig(mtu) => (2, 0, u32::from(mtu)),
            Icmpv6Error::HopLimitExceeded => (3, 0, 0),
            Icmpv6Error::ParameterProblem(pointer) => (4, 0, u32::from(pointer)),
        };
        let [a, b, c, d] = parameter.to_be_bytes();
        [kind, code, 0, 0, a, b, c, d]
    }
}

/// Whether an error about the packet in `packet` may be sent at all (RFC 4443 section 2.4 (e)).
#[must_use]
pub fn permitted(
    packet: &[u8],
    source: u128,
    destination: u128,
    error: Icmpv6Error,
    next_header: u8,
) -> bool {
    let to_group = is_multicast(destination) && !matches!(error, Icmpv6Error::PacketTooBig(_));
    if source == 0 || is_multicast(source) || to_group {
        return false;
    }
    match upper_layer(packet, next_header) {
        Ok(UpperLayer {
            next_header: ICMPV6,
            offset,
            later_fragment: false,
            ..
        }) => packet
            .get(offset)
            .is_some_and(|kind| *kind >= 128 && *kind != REDIRECT),
        Ok(_) => true,
        // What cannot be read could be an error.
        Err(_) => false,
    }
}

/// Turns `frame`, an Ethernet header and an IPv6 packet, into one with an error about that packet,
/// from `from` to `to`. `false`: there is no room in front; the frame is to be dropped.
#[must_use]
pub fn build<F: Frame>(frame: &mut F, error: Icmpv6Error, from: u128, to: u128) -> bool {
    const ADDED: usize = IPV6_HEADER + ICMPV6_HEADER;
    frame.truncate(ETHERNET_HEADER + LARGEST - ADDED);
    if frame.prepend(ADDED).is_err() {
        return false;
    }
    let Some(packet) = frame.bytes_mut().get_mut(ETHERNET_HEADER..) else {
        return false;
    };
    let Some((header, message)) = packet.split_first_chunk_mut::<IPV6_HEADER>() else {
        return false;
    };
    let length = u16::try_from(message.len()).unwrap_or(0);
    *header = [0; IPV6_HEADER];
    header[0] = 0x60;
    header[4..6].copy_from_slice(&length.to_be_bytes());
    header[6] = ICMPV6;
    header[7] = HOP_LIMIT;
    header[8..24].copy_from_slice(&from.to_be_bytes());
    header[24..40].copy_from_slice(&to.to_be_bytes());
    let Some(icmpv6) = message.first_chunk_mut::<ICMPV6_HEADER>() else {
        return false;
    };
    *icmpv6 = error.header();
    // RFC 4443 section 2.3.
    let checksum = Sum::default()
        .octets(&from.to_be_bytes())
        .octets(&to.to_be_bytes())
        .number(message.len() as u64)
        .number(u64::from(ICMPV6))
        .octets(message)
        .checksum();
    if let Some(field) = message.get_mut(2..4) {
        field.copy_from_slice(&checksum.to_be_bytes());
    }
    true
}
