//! TCP's maximum segment size, lowered to what a tunnel takes (RFC 9293 section 3.7.1).
//!
//! A SYN says how large the segments may be that its sender gets. Where it passes a tunnel, an operator may have the
//! gateway lower that, so that neither side ever sends what has to be answered with Packet Too Big: for hosts behind
//! firewalls that drop those. Off unless configured, as it changes what others wrote.

use crate::stage::checksum::updated;
use crate::stage::ipv4;
use crate::stage::parse::{self, IPV6_HEADER};

/// Next header value of TCP.
pub const TCP: u8 = 6;
/// Octets of headers in a segment without options: IPv6 and TCP.
pub const HEADERS: u16 = IPV6_HEADER as u16 + TCP_HEADER as u16;
/// The same with IPv4.
pub const HEADERS_IPV4: u16 = ipv4::HEADER as u16 + TCP_HEADER as u16;
const TCP_HEADER: usize = 20;
const FLAGS: usize = 13;
const SYN: u8 = 2;
const END: u8 = 0;
const NO_OPERATION: u8 = 1;
const MAXIMUM_SEGMENT_SIZE: u8 = 2;

/// Whether the packet in `packet` may be a SYN: cheap, and wrong only toward yes.
#[inline]
#[must_use]
pub fn may_be_syn(packet: &[u8], next_header: u8) -> bool {
    match next_header {
        TCP => packet
            .get(IPV6_HEADER + FLAGS)
            .is_some_and(|flags| flags & SYN != 0),
        other => parse::is_extension_header(other),
    }
}

/// Lowers the MSS option of a SYN to `most`, where it says more; whether it did. All other packets stay as they
/// are, and so does a SYN without the option, which permits no more than 1,220 octets.
pub fn clamp(packet: &mut [u8], most: u16) -> bool {
    let Some(next_header) = packet.get(6).copied() else {
        return false;
    };
    let Ok(upper) = parse::upper_layer(packet, next_header) else {
        return false;
    };
    if upper.next_header != TCP || upper.fragment {
        return false;
    }
    packet
        .get_mut(upper.offset..)
        .is_some_and(|segment| clamp_segment(segment, most))
}

/// [`clamp`] for the IPv4 packet in `packet`; one without the option permits no more than 536 octets.
pub fn clamp_ipv4(packet: &mut [u8], most: u16) -> bool {
    let (is_fragment, _) = ipv4::fragment(packet);
    if packet.get(9) != Some(&TCP) || is_fragment {
        return false;
    }
    let header = ipv4::header_length(packet);
    packet
        .get_mut(header..)
        .is_some_and(|segment| clamp_segment(segment, most))
}

/// The same of the TCP segment in `segment`.
fn clamp_segment(segment: &mut [u8], most: u16) -> bool {
    let Some((at, said)) = maximum(segment) else {
        return false;
    };
    if said <= most {
        return false;
    }
    if let Some(place) = segment.get_mut(at..at + 2) {
        place.copy_from_slice(&most.to_be_bytes());
    }
    if let Some(place) = segment.get_mut(16..18)
        && let Ok(checksum) = <[u8; 2]>::try_from(&*place)
    {
        // The sum is of 16-bit words: at an odd place the two octets are of different words, as if swapped.
        let word = |value: u16| if at % 2 == 0 { value } else { value.swap_bytes() };
        let checksum = updated(u16::from_be_bytes(checksum), word(said), word(most));
        place.copy_from_slice(&checksum.to_be_bytes());
    }
    true
}

/// Where the value of the MSS option of a SYN is, octets from the TCP header, and the value.
fn maximum(segment: &[u8]) -> Option<(usize, u16)> {
    if segment.get(FLAGS)? & SYN == 0 {
        return None;
    }
    let options = segment.get(..usize::from(segment.get(12)? >> 4) * 4)?;
    let mut at = TCP_HEADER;
    loop {
        match *options.get(at)? {
            END => return None,
            NO_OPERATION => at += 1,
            MAXIMUM_SEGMENT_SIZE if options.get(at + 1) == Some(&4) => {
                let [high, low] = *options.get(at + 2..)?.first_chunk()?;
                return Some((at + 2, u16::from_be_bytes([high, low])));
            }
            _ => {
                let length = usize::from(*options.get(at + 1)?);
                if length < 2 {
                    return None;
                }
                at += length;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::stage::checksum::Sum;

    fn checksum(packet: &[u8], tcp: usize) -> u16 {
        Sum::default()
            .octets(&packet[8..40])
            .number((packet.len() - tcp) as u64)
            .number(u64::from(TCP))
            .octets(&packet[tcp..])
            .checksum()
    }

    /// A SYN with these options, its checksum right, behind `headers`.
    fn syn(flags: u8, options: &[u8], headers: &[u8]) -> Vec<u8> {
        let mut tcp = vec![
            0x1f, 0x90, 0, 80, 1, 2, 3, 4, 0, 0, 0, 0, 0, flags, 0xff, 0xff, 0, 0, 0, 0,
        ];
        tcp.extend_from_slice(options);
        while tcp.len() % 4 != 0 {
            tcp.push(END);
        }
        tcp[12] = ((tcp.len() / 4) as u8) << 4;
        let length = (tcp.len() + headers.len()) as u8;
        let first = if headers.is_empty() { TCP } else { 60 };
        let mut packet = vec![0x60, 0, 0, 0, 0, length, first, 64];
        packet.extend((0..32).map(|at| at * 7));
        packet.extend_from_slice(headers);
        let at = packet.len();
        packet.extend_from_slice(&tcp);
        let sum = checksum(&packet, at).to_be_bytes();
        packet[at + 16..at + 18].copy_from_slice(&sum);
        packet
    }

    #[test]
    fn a_syn_and_its_answer_are_lowered() {
        let options = [6u8, 0, 1, 4, 0, 0, 0, 0];
        for flags in [SYN, SYN | 0x10, SYN | 0xc0] {
            for headers in [&[][..], &options] {
                let at = 40 + headers.len();
                let mut packet = syn(
                    flags,
                    &[2, 4, 0x05, 0xa0, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0],
                    headers,
                );
                assert!(may_be_syn(&packet, packet[6]));
                assert!(clamp(&mut packet, 1400));
                assert_eq!(packet[at + 22..at + 24], 1400u16.to_be_bytes());
                assert_eq!(checksum(&packet, at), 0);
                let before = packet.clone();
                assert!(!clamp(&mut packet, 1400) && !clamp(&mut packet, 1401));
                assert_eq!(packet, before);
            }
        }
    }

    #[test]
    fn so_it_is_of_ipv4() {
        let tcp = syn(SYN, &[2, 4, 0x05, 0xb4], &[])[40..].to_vec();
        let header = [
            0x46, 0, 0, 48, 0, 1, 0, 0, 64, TCP, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 148, 4, 0, 0,
        ];
        let before = [&header[..], &tcp].concat();
        let mut packet = before.clone();
        assert!(clamp_ipv4(&mut packet, 1400) && !clamp_ipv4(&mut packet, 1400));
        assert_eq!(packet[46..48], 1400u16.to_be_bytes());
        assert_eq!(packet[..40], before[..40]);
        // Sums differ by the same as before: by what the other pseudo-header says.
        let sum = |packet: &[u8]| Sum::default().octets(&packet[24..]).checksum();
        assert_eq!(sum(&packet), sum(&before));
        for (at, value) in [(9, 17), (6, 0x20), (7, 1)] {
            let mut other = before.clone();
            other[at] = value;
            assert!(!clamp_ipv4(&mut other, 1400), "{at}");
        }
        assert!(!clamp_ipv4(&mut [], 1400) && !clamp_ipv4(&mut before[..30].to_vec(), 1400));
    }

    #[test]
    fn all_else_stays_as_it_is() {
        let mss = [2, 4, 0x05, 0xa0];
        let first_fragment = [6, 0, 0, 1, 0, 0, 0, 1];
        let mut fragmented = syn(SYN, &mss, &first_fragment);
        fragmented[6] = 44;
        let mut udp = syn(SYN, &mss, &[]);
        udp[6] = 17;
        for packet in [
            syn(0x10, &mss, &[]),
            syn(SYN, &[], &[]),
            syn(SYN, &[0, 2, 4, 0x05, 0xa0], &[]),
            syn(SYN, &[3, 0, 2, 4, 0x05, 0xa0], &[]),
            syn(SYN, &[2, 3, 0x05, 0xa0], &[]),
            syn(SYN, &[1, 1, 1, 2], &[]),
            fragmented,
            udp,
            vec![],
        ] {
            let mut after = packet.clone();
            assert!(!clamp(&mut after, 1000), "{packet:02x?}");
            assert_eq!(after, packet);
        }
        let udp = syn(SYN, &mss, &[]);
        assert!(!may_be_syn(&udp, 17) && !may_be_syn(&syn(0x18, &mss, &[]), TCP));
    }

    proptest! {
        /// Wherever the option stands, and whatever else there is, the checksum is right after as it was before.
        #[test]
        fn the_checksum_stays_right(padding in 0usize..9, said in any::<u16>(), most in any::<u16>(), more in any::<[u8; 4]>()) {
            let [high, low] = said.to_be_bytes();
            let options = [&vec![NO_OPERATION; padding][..], &[2, 4, high, low], &[254, 6], &more].concat();
            let mut packet = syn(SYN, &options, &[]);
            prop_assert_eq!(clamp(&mut packet, most), said > most);
            let at = 40 + 20 + padding + 2;
            prop_assert_eq!(&packet[at..at + 2], &said.min(most).to_be_bytes()[..]);
            let right = Sum::default().octets(&packet[8..40]).number((packet.len() - 40) as u64)
                .number(u64::from(TCP)).octets(&packet[40..]).is_right();
            prop_assert!(right);
        }
    }
}
