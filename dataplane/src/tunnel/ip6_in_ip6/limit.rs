//! The tunnel encapsulation limit (RFC 2473 section 4.1.1): how many more tunnels a packet may be put into.
//!
//! It is for the entry points of tunnels within tunnels, which look for it from left to right; what takes a packet
//! out again takes no notice. It stands in front of a Fragment header, so that every fragment has it.

use super::{LIMIT_OPTION, LIMIT_OVERHEAD, NEXT_HEADER, NEXT_HEADER_IPV4};
use crate::stage::parse::{
    AUTHENTICATION, DESTINATION_OPTIONS, ETHERTYPE_IPV4, FRAGMENT, HOP_BY_HOP, IPV6_HEADER,
    MOST_EXTENSION_HEADERS, ROUTING,
};
use crate::tunnel::outer::{self, Shown};

const PAD1: u8 = 0;
const PADN: u8 = 1;
/// Octets of the outer header and the option.
const FRONT: usize = IPV6_HEADER + LIMIT_OVERHEAD as usize;

/// The tunnel encapsulation limit of the IPv6 packet in `packet`, if it is a packet in a tunnel that has one:
/// where its value is, octets from the IPv6 header, and the value.
#[must_use]
pub fn limit_of(packet: &[u8]) -> Option<(usize, u8)> {
    let mut next_header = *packet.get(6)?;
    let mut at = IPV6_HEADER;
    for _ in 0..MOST_EXTENSION_HEADERS {
        let header = packet.get(at..)?;
        let [next, length] = *header.first_chunk()?;
        let octets = match next_header {
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS => (usize::from(length) + 1) * 8,
            AUTHENTICATION => (usize::from(length) + 2) * 4,
            // Behind the header of a later fragment there are no headers.
            FRAGMENT if header.get(2) == Some(&0) && header.get(3)? >> 3 == 0 => 8,
            _ => return None,
        };
        let header = header.get(..octets)?;
        if next_header == DESTINATION_OPTIONS
            && let Some(value) = option(header)
        {
            return Some((at + value, *header.get(value)?));
        }
        next_header = next;
        at += octets;
    }
    None
}

/// Where in a Destination Options header the value of the option is.
fn option(header: &[u8]) -> Option<usize> {
    let mut at = 2;
    loop {
        match *header.get(at)? {
            PAD1 => at += 1,
            LIMIT_OPTION if header.get(at + 1) == Some(&1) => return Some(at + 2),
            _ => at += 2 + usize::from(*header.get(at + 1)?),
        }
    }
}

/// Writes an outer header and the option into the first 48 octets of `packet`, which the inner packet follows.
/// `false` if it is too long for the length field, or no packet.
#[must_use]
pub fn encapsulate_limited(
    packet: &mut [u8],
    local: &[u8; 16],
    remote: &[u8; 16],
    hop_limit: u8,
    limit: u8,
) -> bool {
    encapsulate_any_limited(packet, local, remote, hop_limit, limit, Shown::of_ipv6)
}

/// The same for an inner packet of either version of IP, of which `shown` tells.
#[must_use]
pub fn encapsulate_any_limited(
    packet: &mut [u8],
    local: &[u8; 16],
    remote: &[u8; 16],
    hop_limit: u8,
    limit: u8,
    shown: impl FnOnce(&[u8]) -> Option<Shown>,
) -> bool {
    let Some((front, inner)) = packet.split_first_chunk_mut::<FRONT>() else {
        return false;
    };
    let Some(Shown { flow, ecn, ethertype }) = shown(inner) else {
        return false;
    };
    let inner_kind = if ethertype == ETHERTYPE_IPV4 {
        NEXT_HEADER_IPV4
    } else {
        NEXT_HEADER
    };
    let Ok(length) = u16::try_from(inner.len() + usize::from(LIMIT_OVERHEAD)) else {
        return false;
    };
    let header = outer::ipv6(local, remote, hop_limit, DESTINATION_OPTIONS, ecn, flow, length);
    front[..IPV6_HEADER].copy_from_slice(&header);
    front[IPV6_HEADER..].copy_from_slice(&[inner_kind, 0, LIMIT_OPTION, 1, limit, PADN, 1, 0]);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(first: u8, headers: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x60, 0, 0, 0, 0, 0, first, 64];
        packet.extend_from_slice(&[0x20; 32]);
        packet.extend_from_slice(headers);
        packet
    }

    #[test]
    fn it_is_found_where_it_may_be_and_nowhere_else() {
        let ours = [41, 0, 4, 1, 7, 1, 1, 0];
        assert_eq!(limit_of(&with(60, &ours)), Some((44, 7)));
        // As the second option, behind padding; in the second header; behind the header of a first fragment.
        assert_eq!(limit_of(&with(60, &[41, 0, 1, 0, 0, 4, 1, 9])), Some((47, 9)));
        let behind = |first: u8, header: [u8; 8]| with(first, &[header, ours].concat());
        assert_eq!(limit_of(&behind(0, [60, 0, 1, 4, 0, 0, 0, 0])), Some((52, 7)));
        assert_eq!(limit_of(&behind(43, [60, 0, 4, 0, 0, 0, 0, 0])), Some((52, 7)));
        assert_eq!(limit_of(&behind(44, [60, 0, 0, 1, 0, 0, 0, 9])), Some((52, 7)));
        assert_eq!(
            limit_of(&behind(44, [60, 0, 0, 9, 0, 0, 0, 9])),
            None,
            "a later fragment"
        );
        assert_eq!(
            limit_of(&behind(41, [60, 0, 1, 4, 0, 0, 0, 0])),
            None,
            "inside another packet"
        );
        assert_eq!(
            limit_of(&with(60, &[41, 0, 4, 2, 7, 1, 1, 0])),
            None,
            "of another length"
        );
        assert_eq!(
            limit_of(&with(0, &[59, 0, 4, 1, 7, 1, 1, 0])),
            None,
            "no destination option"
        );
        let whole = with(60, &ours);
        for end in 0..whole.len() {
            assert_eq!(limit_of(&whole[..end]), None, "{end}");
        }
        assert_eq!(
            limit_of(&with(60, &[41, 0, 1, 9, 0, 0, 0, 0])),
            None,
            "an option past the end"
        );
    }

    #[test]
    fn octet_by_octet() {
        let inner = with(59, &[]);
        let mut packet = [&[0xa5; 48][..], &inner].concat();
        assert!(encapsulate_limited(&mut packet, &[1; 16], &[2; 16], 64, 4));
        assert_eq!(packet[4..8], [0, 48, 60, 64]);
        assert_eq!(packet[8..40], [[1; 16], [2; 16]].concat());
        assert_eq!(packet[40..48], [41, 0, 4, 1, 4, 1, 1, 0]);
        assert_eq!(packet[48..], inner);
        assert_eq!(limit_of(&packet), Some((44, 4)));
        assert!(
            !encapsulate_limited(&mut [0x60; 60], &[1; 16], &[2; 16], 0, 4),
            "no packet inside"
        );
        assert!(!encapsulate_limited(
            &mut vec![0x60; 65_600],
            &[1; 16],
            &[2; 16],
            0,
            4
        ));
    }
}
