//! IPv6 in IPv6 (RFC 2473).

mod ecn;

use std::net::Ipv6Addr;

use crate::drops::DropReason;
use crate::stage::parse::IPV6_HEADER;

/// Octets that the outer header adds.
pub const OVERHEAD: u16 = 40;

/// Next header value of an inner IPv6 packet.
pub const NEXT_HEADER: u8 = 41;

/// The outer header of a tunnel, with length, traffic class and flow label zero.
#[must_use]
pub fn template(local: Ipv6Addr, remote: Ipv6Addr, hop_limit: u8) -> [u8; 40] {
    let mut header = [0; IPV6_HEADER];
    header[0] = 0x60;
    header[6] = NEXT_HEADER;
    header[7] = if hop_limit == 0 { 64 } else { hop_limit };
    header[8..24].copy_from_slice(&local.octets());
    header[24..40].copy_from_slice(&remote.octets());
    header
}

/// The outer header for one inner packet: its ECN bits go outside too (RFC 6040 section 4.1), and a
/// hash of its flow becomes the flow label, so that routers between the gateways can spread flows
/// (RFC 6438). `inner` starts with an IPv6 header; `None` if it is too long for the length field.
#[must_use]
#[inline]
pub fn outer_header(template: &[u8; 40], inner: &[u8]) -> Option<[u8; 40]> {
    let length = u16::try_from(inner.len()).ok()?;
    let traffic_class = (inner.first()? << 4) | (inner.get(1)? >> 4);
    let ecn = traffic_class & ecn::MASK;
    let label = flow_label(inner)?;
    let mut header = *template;
    header[1] = ecn << 4 | (label >> 16) as u8;
    header[2] = (label >> 8) as u8;
    header[3] = label as u8;
    header[4..6].copy_from_slice(&length.to_be_bytes());
    Some(header)
}

/// A hash of source, destination, flow label and, where they follow at once, ports: 20 bits, never zero.
fn flow_label(inner: &[u8]) -> Option<u32> {
    const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
    let (addresses, rest) = inner.get(8..)?.split_at_checked(32)?;
    let mut hash = u64::from(u32::from_be_bytes(inner.get(..4)?.try_into().ok()?) & 0x000f_ffff);
    let mut mix = |word: u64| hash = (hash ^ word).wrapping_mul(MULTIPLIER).rotate_left(29);
    for word in addresses.chunks_exact(8) {
        mix(u64::from_be_bytes(word.try_into().ok()?));
    }
    const UDP: u8 = 17;
    const TCP: u8 = 6;
    let next_header = *inner.get(6)?;
    mix(u64::from(next_header));
    if (next_header == UDP || next_header == TCP)
        && let Some(ports) = rest.get(..4)
    {
        mix(u64::from(u32::from_be_bytes(ports.try_into().ok()?)));
    }
    let label = (hash >> 44) as u32;
    Some(if label == 0 { 1 } else { label })
}

/// What decapsulation has to know of the outer header.
#[derive(Clone, Copy, Debug)]
pub struct Outer {
    /// Where the inner packet starts, octets from the outer header.
    pub inner_offset: usize,
    /// The outer traffic class.
    pub traffic_class: u8,
}

/// Carries outer congestion marks over to the inner packet (RFC 6040 section 4.2).
///
/// # Errors
/// The inner packet is no IPv6 packet, or its sender does not understand the mark it would get.
#[inline]
pub fn accept_inner(inner: &mut [u8], outer_traffic_class: u8) -> Result<(), DropReason> {
    let [first, second, ..] = inner else {
        return Err(DropReason::TunnelInnerMalformed);
    };
    if *first >> 4 != 6 {
        return Err(DropReason::TunnelInnerMalformed);
    }
    let inner_ecn = (*second >> 4) & ecn::MASK;
    let ecn = ecn::at_exit(inner_ecn, outer_traffic_class & ecn::MASK)
        .ok_or(DropReason::TunnelCongestionExperienced)?;
    *second = (*second & !(ecn::MASK << 4)) | ecn << 4;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inner(port: u8, traffic_class: u8) -> Vec<u8> {
        let mut inner = vec![0x60 | traffic_class >> 4, traffic_class << 4, 0, 0, 0, 8, 17, 64];
        inner.extend_from_slice(&[0x20; 32]);
        inner.extend_from_slice(&[0, port, 0, 9, 0, 8, 0, 0]);
        inner
    }

    #[test]
    fn the_outer_header_tells_length_flow_and_congestion() {
        let (local, remote) = ("2001:db8:a::1".parse().unwrap(), "2001:db8:b::1".parse().unwrap());
        let template = template(local, remote, 0);
        let header = outer_header(&template, &inner(1, 0b11)).unwrap();
        assert_eq!(header[0], 0x60);
        assert_eq!(header[1] >> 4, 0b11, "CE goes outside");
        assert_eq!(header[4..8], [0, 48, 41, 64]);
        assert_eq!(header[8..24], local.octets());
        assert_eq!(header[24..40], remote.octets());
        let label = |header: [u8; 40]| [header[1] & 15, header[2], header[3]];
        assert_ne!(label(header), [0; 3]);
        assert_eq!(
            label(header),
            label(outer_header(&template, &inner(1, 0)).unwrap()),
            "same flow, same label"
        );
        assert_ne!(
            label(header),
            label(outer_header(&template, &inner(2, 0)).unwrap())
        );
        assert_eq!(outer_header(&template, &[0x60; 39]), None);
        assert_eq!(outer_header(&template, &vec![0x60; 70_000]), None);
    }

    #[test]
    fn marks_come_in() {
        let mut packet = inner(1, 0b10);
        accept_inner(&mut packet, 0b11).unwrap();
        assert_eq!(packet[1] >> 4, 0b11);
        let mut packet = inner(1, 0);
        assert_eq!(
            accept_inner(&mut packet, 0b11),
            Err(DropReason::TunnelCongestionExperienced)
        );
        assert_eq!(
            accept_inner(&mut [0x45, 0], 0),
            Err(DropReason::TunnelInnerMalformed)
        );
        assert_eq!(
            accept_inner(&mut [0x60], 0),
            Err(DropReason::TunnelInnerMalformed)
        );
    }
}
