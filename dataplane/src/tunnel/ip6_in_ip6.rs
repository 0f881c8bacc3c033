//! IPv6 in IPv6 (RFC 2473), and IPv4 in the same tunnels.

mod ecn;
mod limit;

pub use limit::{encapsulate_any_limited, encapsulate_limited, limit_of};

use super::outer::{self, Shown};
use crate::drops::DropReason;
use crate::stage::ipv4;
use crate::stage::parse::{IPV6_HEADER, Packet};

/// Octets that the outer header adds.
pub const OVERHEAD: u16 = 40;

/// Octets that the tunnel encapsulation limit adds to that.
pub const LIMIT_OVERHEAD: u16 = 8;

/// Type of the tunnel encapsulation limit option (section 4.1.1).
pub const LIMIT_OPTION: u8 = 4;

/// Next header value of an inner IPv6 packet.
pub const NEXT_HEADER: u8 = 41;

/// Next header value of an inner IPv4 packet (RFC 2003).
pub const NEXT_HEADER_IPV4: u8 = 4;

/// The outer header for one inner packet. `inner` starts with an IPv6 header; `None` if it is too long for
/// the length field.
#[must_use]
#[inline]
pub fn outer_header(local: &[u8; 16], remote: &[u8; 16], hop_limit: u8, inner: &[u8]) -> Option<[u8; 40]> {
    let length = u16::try_from(inner.len()).ok()?;
    let (ecn, flow) = (outer::ecn(inner)?, outer::flow(inner)?);
    Some(outer::ipv6(
        local,
        remote,
        hop_limit,
        NEXT_HEADER,
        ecn,
        flow,
        length,
    ))
}

/// Writes the [`outer_header`] into the first [`OVERHEAD`] octets of `packet`, which the inner packet follows. `false` if that is too
/// long for the length field, or no packet.
#[must_use]
#[inline]
pub fn encapsulate(packet: &mut [u8], local: &[u8; 16], remote: &[u8; 16], hop_limit: u8) -> bool {
    let Some((place, inner)) = packet.split_first_chunk_mut::<IPV6_HEADER>() else {
        return false;
    };
    let (Some(Shown { flow, ecn, .. }), Ok(length)) = (Shown::of_ipv6(inner), u16::try_from(inner.len()))
    else {
        return false;
    };
    outer::write_ipv6(place, local, remote, hop_limit, NEXT_HEADER, ecn, flow, length);
    true
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
    if ecn != inner_ecn {
        *second = (*second & !(ecn::MASK << 4)) | ecn << 4;
    }
    Ok(())
}

/// Writes the outer header into the first [`OVERHEAD`] octets of `packet`, which an inner IPv4 packet follows. `false` if it
/// is too long for the length field, or none.
#[must_use]
#[inline]
pub fn encapsulate_ipv4(packet: &mut [u8], local: &[u8; 16], remote: &[u8; 16], hop_limit: u8) -> bool {
    let Some((place, inner)) = packet.split_first_chunk_mut::<IPV6_HEADER>() else {
        return false;
    };
    let (Some(Shown { flow, ecn, .. }), Ok(length)) = (Shown::of_ipv4(inner), u16::try_from(inner.len()))
    else {
        return false;
    };
    *place = outer::ipv6(local, remote, hop_limit, NEXT_HEADER_IPV4, ecn, flow, length);
    true
}

/// [`accept_inner`] for an IPv4 packet; gives what its header says then.
///
/// # Errors
/// See [`accept_inner`]; or the inner header's checksum is wrong.
#[inline]
pub fn accept_inner_ipv4(inner: &mut [u8], outer_traffic_class: u8) -> Result<Packet, DropReason> {
    let mut packet = ipv4::read(inner).map_err(|reason| match reason {
        DropReason::Ipv4ChecksumWrong => reason,
        _ => DropReason::TunnelInnerMalformed,
    })?;
    let inner_ecn = packet.traffic_class & ecn::MASK;
    let ecn = ecn::at_exit(inner_ecn, outer_traffic_class & ecn::MASK)
        .ok_or(DropReason::TunnelCongestionExperienced)?;
    if ecn != inner_ecn {
        packet.traffic_class = packet.traffic_class & !ecn::MASK | ecn;
        ipv4::set_traffic_class(inner, packet.traffic_class);
    }
    Ok(packet)
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
        let octets = |text: &str| text.parse::<std::net::Ipv6Addr>().unwrap().octets();
        let (local, remote) = (octets("2001:db8:a::1"), octets("2001:db8:b::1"));
        let outer_header = |inner: &[u8]| outer_header(&local, &remote, 64, inner);
        let header = outer_header(&inner(1, 0b11)).unwrap();
        assert_eq!(header[0], 0x60);
        assert_eq!(header[1] >> 4, 0b11, "CE goes outside");
        assert_eq!(header[4..8], [0, 48, 41, 64]);
        assert_eq!(header[8..24], local);
        assert_eq!(header[24..40], remote);
        let label = |header: [u8; 40]| [header[1] & 15, header[2], header[3]];
        assert_ne!(label(header), [0; 3]);
        assert_eq!(
            label(header),
            label(outer_header(&inner(1, 0)).unwrap()),
            "same flow, same label"
        );
        assert_ne!(label(header), label(outer_header(&inner(2, 0)).unwrap()));
        // The same in its place.
        let mut packet = [&[0xa5; 40][..], &inner(1, 0b11)].concat();
        assert!(encapsulate(&mut packet, &local, &remote, 64));
        assert_eq!((&packet[..40], &packet[40..]), (&header[..], &inner(1, 0b11)[..]));
        assert!(!encapsulate(&mut packet[..79], &local, &remote, 64));
        assert!(!encapsulate(&mut vec![0x60; 70_040], &local, &remote, 64));
        assert_eq!(outer_header(&[0x60; 39]), None);
        assert_eq!(outer_header(&vec![0x60; 70_000]), None);
    }

    #[test]
    fn an_ipv4_packet_octet_by_octet() {
        let header = ipv4::header([10, 0, 0, 1], [10, 0, 0, 2], 9, 17, 0b10, 3).unwrap();
        let inner = [&header[..], &[1, 2, 3]].concat();
        let mut packet = [&[0xa5; 40][..], &inner].concat();
        assert!(encapsulate_ipv4(&mut packet, &[1; 16], &[2; 16], 64));
        let flow = outer::flow_ipv4(&inner).unwrap().to_be_bytes();
        assert_eq!(packet[..4], [0x60, 0b10 << 4 | flow[1], flow[2], flow[3]]);
        assert_eq!(packet[4..8], [0, 23, 4, 64]);
        assert_eq!((&packet[8..24], &packet[24..40]), (&[1; 16][..], &[2; 16][..]));
        assert_eq!(packet[40..], inner);
        let mut out = inner.clone();
        let read = accept_inner_ipv4(&mut out, 0b11).unwrap();
        assert_eq!((out[1], read.traffic_class), (0b11, 0b11));
        assert_eq!(ipv4::read(&out), Ok(read));
        let mut out = inner.clone();
        assert_eq!(accept_inner_ipv4(&mut out, 0).unwrap().length, 23);
        assert_eq!(out, inner);
        let unaware = ipv4::header([10, 0, 0, 1], [10, 0, 0, 2], 9, 17, 0, 0).unwrap();
        let congested = accept_inner_ipv4(&mut unaware.clone(), 0b11);
        assert_eq!(congested, Err(DropReason::TunnelCongestionExperienced));
        out[8] ^= 1;
        assert_eq!(accept_inner_ipv4(&mut out, 0), Err(DropReason::Ipv4ChecksumWrong));
        for wrong in [&[][..], &[0x60; 40], &inner[..22]] {
            assert_eq!(
                accept_inner_ipv4(&mut wrong.to_vec(), 0),
                Err(DropReason::TunnelInnerMalformed)
            );
        }
        assert!(!encapsulate_ipv4(&mut [0x45; 59], &[1; 16], &[2; 16], 0));
        assert!(!encapsulate_ipv4(&mut vec![0x45; 66_000], &[1; 16], &[2; 16], 0));
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
