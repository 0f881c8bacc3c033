//! IPv6 in IPv6 (RFC 2473).

mod ecn;
mod limit;

pub use limit::{encapsulate_limited, limit_of};

use super::outer;
use crate::drops::DropReason;

/// Octets that the outer header adds.
pub const OVERHEAD: u16 = 40;

/// Octets that the tunnel encapsulation limit adds to that.
pub const LIMIT_OVERHEAD: u16 = 8;

/// Type of the tunnel encapsulation limit option (section 4.1.1).
pub const LIMIT_OPTION: u8 = 4;

/// Next header value of an inner IPv6 packet.
pub const NEXT_HEADER: u8 = 41;

/// The outer header for one inner packet. `inner` starts with an IPv6 header; `None` if it is too long for
/// the length field.
#[must_use]
#[inline]
pub fn outer_header(local: [u8; 16], remote: [u8; 16], hop_limit: u8, inner: &[u8]) -> Option<[u8; 40]> {
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
        let outer_header = |inner: &[u8]| outer_header(local, remote, 0, inner);
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
        assert_eq!(outer_header(&[0x60; 39]), None);
        assert_eq!(outer_header(&vec![0x60; 70_000]), None);
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
