//! ICMPv4 errors (RFC 792, RFC 1191), made in the frame of the carried packet that they are about.
//!
//! What a packet is refused for has one name in both versions of IP, [`Icmpv6Error`]; here is what it is in the words
//! of ICMPv4.

use crate::frame::Frame;
use crate::stage::checksum::Sum;
use crate::stage::icmpv6_error::Icmpv6Error;
use crate::stage::ipv4;
use crate::stage::parse::ETHERNET_HEADER;

const ICMP: u8 = 1;
const ICMP_HEADER: usize = 8;
/// An error is never longer than this (RFC 1812 section 4.3.2.3).
const LARGEST: usize = 576;
/// Precedence of internetwork control (RFC 1812 section 4.3.2.5).
const TYPE_OF_SERVICE: u8 = 0xc0;
const TIME_TO_LIVE: u8 = 64;

const DESTINATION_UNREACHABLE: u8 = 3;
const SOURCE_QUENCH: u8 = 4;
const REDIRECT: u8 = 5;
const TIME_EXCEEDED: u8 = 11;
const PARAMETER_PROBLEM: u8 = 12;

/// 192.0.0.8, of a node that has no IPv4 address and yet has to tell errors (RFC 7600).
pub const DUMMY_ADDRESS: [u8; 4] = [192, 0, 0, 8];

/// The header of the message that says the same; `None`: IPv4 has nothing to say of that.
fn header(error: Icmpv6Error) -> Option<[u8; ICMP_HEADER]> {
    let (kind, code, mtu) = match error {
        Icmpv6Error::NoRoute => (DESTINATION_UNREACHABLE, 0, 0),
        Icmpv6Error::AddressUnreachable => (DESTINATION_UNREACHABLE, 1, 0),
        // Fragmentation needed and DF set, with the MTU of the next hop (RFC 1191 section 4).
        Icmpv6Error::PacketTooBig(mtu) => (DESTINATION_UNREACHABLE, 4, mtu),
        Icmpv6Error::AdministrativelyProhibited => (DESTINATION_UNREACHABLE, 13, 0),
        Icmpv6Error::HopLimitExceeded => (TIME_EXCEEDED, 0, 0),
        // Of a tunnel encapsulation limit, which it has not.
        Icmpv6Error::ParameterProblem(_) => return None,
    };
    let [high, low] = mtu.to_be_bytes();
    Some([kind, code, 0, 0, 0, 0, high, low])
}

/// Whether an error about the packet whose header `octets` begins with may be sent at all (RFC 1812 section 4.3.2.7). As much
/// of it as there is, the header whole.
#[must_use]
pub fn permitted(octets: &[u8]) -> bool {
    let Some(fixed) = octets.first_chunk::<{ ipv4::HEADER }>() else {
        return false;
    };
    let [.., s0, s1, s2, s3, d0, d1, d2, d3] = *fixed;
    let (source, destination) = (ipv4::mapped([s0, s1, s2, s3]), ipv4::mapped([d0, d1, d2, d3]));
    let to_one = !ipv4::is_multicast(destination) && destination as u32 != u32::MAX;
    let (_, is_later) = ipv4::fragment(octets);
    if ipv4::is_invalid_source(source) || ipv4::is_link_local(source) || !to_one || is_later {
        return false;
    }
    let is_error = |kind: u8| {
        matches!(
            kind,
            DESTINATION_UNREACHABLE | SOURCE_QUENCH | REDIRECT | TIME_EXCEEDED | PARAMETER_PROBLEM
        )
    };
    // What cannot be read could be an error.
    fixed[9] != ICMP
        || octets
            .get(ipv4::header_length(octets))
            .is_some_and(|kind| !is_error(*kind))
}

/// Turns `frame`, an Ethernet header and an IPv4 packet, into one with an error about that packet, from `from` to
/// `to`. `false`: there is none, or no room in front; the frame is to be dropped.
#[must_use]
pub fn build<F: Frame>(frame: &mut F, error: Icmpv6Error, from: [u8; 4], to: [u8; 4]) -> bool {
    const ADDED: usize = ipv4::HEADER + ICMP_HEADER;
    let Some(icmp) = header(error) else {
        return false;
    };
    frame.truncate(ETHERNET_HEADER + LARGEST - ADDED);
    if frame.prepend(ADDED).is_err() {
        return false;
    }
    let Some(packet) = frame.bytes_mut().get_mut(ETHERNET_HEADER..) else {
        return false;
    };
    let Some((place, message)) = packet.split_first_chunk_mut::<{ ipv4::HEADER }>() else {
        return false;
    };
    let Some(mut outer) = ipv4::header(from, to, TIME_TO_LIVE, ICMP, 0, message.len()) else {
        return false;
    };
    ipv4::set_traffic_class(&mut outer, TYPE_OF_SERVICE);
    *place = outer;
    let Some(fixed) = message.first_chunk_mut::<ICMP_HEADER>() else {
        return false;
    };
    *fixed = icmp;
    let checksum = Sum::default().octets(message).checksum().to_be_bytes();
    if let Some(field) = message.get_mut(2..4) {
        field.copy_from_slice(&checksum);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::HeapFrame;

    fn packet(protocol: u8, source: [u8; 4], destination: [u8; 4], payload: &[u8]) -> Vec<u8> {
        let header = ipv4::header(source, destination, 1, protocol, 0, payload.len()).unwrap();
        [&header[..], payload].concat()
    }

    const NODE: [u8; 4] = [203, 0, 113, 7];
    const REMOTE: [u8; 4] = [198, 51, 100, 9];

    #[test]
    fn octet_by_octet() {
        let about = packet(17, NODE, REMOTE, &[0xab; 700]);
        let cases = [
            (Icmpv6Error::NoRoute, [3, 0, 0, 0]),
            (Icmpv6Error::AddressUnreachable, [3, 1, 0, 0]),
            (Icmpv6Error::PacketTooBig(1444), [3, 4, 5, 164]),
            (Icmpv6Error::AdministrativelyProhibited, [3, 13, 0, 0]),
            (Icmpv6Error::HopLimitExceeded, [11, 0, 0, 0]),
        ];
        for (error, [kind, code, high, low]) in cases {
            let mut frame = HeapFrame::new(&[&[0xee; 14][..], &about].concat());
            assert!(build(&mut frame, error, DUMMY_ADDRESS, NODE));
            let built = &frame.bytes()[14..];
            assert_eq!(built.len(), 576);
            assert_eq!(
                built[..12],
                [0x45, 0xc0, 2, 64, 0, 0, 0x40, 0, 64, 1, built[10], built[11]]
            );
            assert_eq!((&built[12..16], &built[16..20]), (&DUMMY_ADDRESS[..], &NODE[..]));
            assert!(Sum::default().octets(&built[..20]).is_right());
            assert_eq!(
                (&built[20..22], &built[24..28]),
                (&[kind, code][..], &[0, 0, high, low][..])
            );
            assert!(Sum::default().octets(&built[20..]).is_right());
            assert_eq!(built[28..], about[..548]);
        }
        let mut frame = HeapFrame::new(&[&[0xee; 14][..], &about].concat());
        assert!(!build(
            &mut frame,
            Icmpv6Error::ParameterProblem(40),
            DUMMY_ADDRESS,
            NODE
        ));
    }

    #[test]
    fn not_about_errors_groups_fragments_and_nobodys_packets() {
        assert!(permitted(&packet(17, NODE, REMOTE, &[])));
        for (kind, expected) in [
            (8, true),
            (0, true),
            (13, true),
            (3, false),
            (11, false),
            (5, false),
        ] {
            assert_eq!(permitted(&packet(1, NODE, REMOTE, &[kind])), expected, "{kind}");
        }
        assert!(!permitted(&packet(1, NODE, REMOTE, &[])), "it cannot be read");
        for (source, destination) in [
            ([0; 4], REMOTE),
            ([127, 0, 0, 1], REMOTE),
            ([224, 0, 0, 1], REMOTE),
            ([169, 254, 0, 1], REMOTE),
            (NODE, [239, 0, 0, 1]),
            (NODE, [255; 4]),
        ] {
            assert!(
                !permitted(&packet(17, source, destination, &[])),
                "{source:?} {destination:?}"
            );
        }
        let mut first = packet(17, NODE, REMOTE, &[]);
        first[6] = 0x20;
        assert!(permitted(&first));
        first[7] = 1;
        assert!(!permitted(&first));
        assert!(!permitted(&[0x45; 19]));
    }
}
