//! G-PDUs as most are: an IPv6 packet behind eight octets, and nothing about them that would have to be looked at twice.
//!
//! Two words say so. What is said here of a packet has to be what [`super::read`] says, and who asks for the checksum; of
//! packets for which it is `None` nothing is said, they take the long way.

use super::{HEADER, PORT, UDP, UDP_HEADER, VERSION, message_type};
use crate::stage::checksum::Sum;
use crate::stage::ipv4;
use crate::stage::parse::IPV6_HEADER;

/// Octets of both headers.
const HEADERS: usize = UDP_HEADER + HEADER;

/// Where the inner packet of such a G-PDU begins, octets from the IPv6 header that `packet` begins with; it ends where `packet` does.
/// Its checksum is there and right.
#[must_use]
#[inline]
pub fn start_of_plain_inner(packet: &[u8]) -> Option<usize> {
    let udp = packet.get(IPV6_HEADER..)?;
    let checksum = plain(udp)?;
    // The addresses are in front of it, so that with them it is one run of octets (RFC 8200 section 8.1).
    let sum = || Sum::default().octets(packet.get(8..).unwrap_or_default());
    let is_right = || sum().number(udp.len() as u64 + u64::from(UDP)).is_right();
    (checksum != 0 && is_right()).then_some(IPV6_HEADER + HEADERS)
}

/// The same of one over IPv4, whose header has no options and says that it is no fragment. It may have no checksum (RFC 768).
#[must_use]
#[inline]
pub fn start_of_plain_inner_in_ipv4(packet: &[u8]) -> Option<usize> {
    if packet.first() != Some(&0x45) || ipv4::fragment(packet).0 {
        return None;
    }
    let udp = packet.get(ipv4::HEADER..)?;
    // Few have one: the long way is theirs.
    (plain(udp)? == 0).then_some(ipv4::HEADER + HEADERS)
}

/// The checksum field of such a message, which begins and ends with `udp`; 0: there is none.
#[inline]
fn plain(udp: &[u8]) -> Option<u16> {
    const KIND: u64 = (VERSION as u64) << 56 | (message_type::G_PDU as u64) << 48;
    let headers = udp.first_chunk::<HEADERS>()?;
    let (first, second) = headers.split_first_chunk::<UDP_HEADER>()?;
    let first = u64::from_be_bytes(*first);
    let second = u64::from_be_bytes(*second.first_chunk::<HEADER>()?);
    let length = udp.len() as u64;
    let is_plain = first >> 16 & 0xffff_ffff == u64::from(PORT) << 16 | length
        && second >> 32 == (KIND >> 32 | (length - HEADERS as u64))
        && udp.get(HEADERS).is_some_and(|first| first >> 4 == 6);
    is_plain.then_some(first as u16)
}

#[cfg(test)]
mod tests {
    use kedge_dataplane_api::model::GtpU;
    use proptest::prelude::*;

    use super::super::{encapsulate, encapsulate_in_ipv4, overhead, overhead_in_ipv4, read};
    use super::*;

    fn tunnel() -> GtpU {
        GtpU {
            local_teid: 7.try_into().unwrap(),
            remote_teid: 9.try_into().unwrap(),
            sequence_numbers: false,
            pdu_session: None,
        }
    }

    /// A G-PDU over IPv6, and one over IPv4, with so many octets of an inner packet.
    fn both(inner: &[u8]) -> [Vec<u8>; 2] {
        let address = |last: u8| {
            let mut address = [0x20; 16];
            address[15] = last;
            address
        };
        [overhead, overhead_in_ipv4].map(|overhead| {
            let mut packet = vec![0; overhead(&tunnel())];
            packet.extend_from_slice(inner);
            let made = if packet.len() - inner.len() == IPV6_HEADER + HEADERS {
                encapsulate(&mut packet, address(1), address(2), 0, &tunnel(), 0)
            } else {
                encapsulate_in_ipv4(&mut packet, address(1), address(2), 0, &tunnel(), 0)
            };
            assert!(made);
            packet
        })
    }

    fn inner() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(any::<u8>(), 40..200).prop_map(|mut octets| {
            octets[0] = 0x60;
            octets
        })
    }

    proptest! {
        #[test]
        fn what_we_send_is_plain(inner in inner()) {
            let [over_ipv6, over_ipv4] = both(&inner);
            prop_assert_eq!(start_of_plain_inner(&over_ipv6), Some(56));
            prop_assert_eq!(start_of_plain_inner_in_ipv4(&over_ipv4), Some(36));
        }

        /// Of what is plain the slow reader says the same; over IPv6 no octet may differ that the checksum covers.
        #[test]
        fn it_is_what_the_slow_reader_says(
            inner in inner(),
            at in prop_oneof![0usize..64, any::<prop::sample::Index>().prop_map(|it| it.index(256))],
            octet in any::<u8>(),
            cut in 0usize..3,
        ) {
            for (mut packet, is_ipv6) in both(&inner).into_iter().zip([true, false]) {
                let original = packet.clone();
                let at = at % packet.len();
                packet[at] = octet;
                packet.truncate(packet.len() - cut);
                let (start, udp) = if is_ipv6 {
                    (start_of_plain_inner(&packet), IPV6_HEADER)
                } else {
                    (start_of_plain_inner_in_ipv4(&packet), ipv4::HEADER)
                };
                let Some(start) = start else { continue };
                let message = read(&packet[udp..]).unwrap();
                prop_assert_eq!(message.kind, message_type::G_PDU);
                prop_assert_eq!((udp + message.offset, udp + message.end), (start, packet.len()));
                if is_ipv6 {
                    // In front of the addresses, where the checksum does not look, or nowhere.
                    prop_assert!(packet == original || at < 8);
                } else {
                    prop_assert_eq!((packet[0], ipv4::fragment(&packet)), (0x45, (false, false)));
                    prop_assert_eq!(&packet[26..28], &[0, 0]);
                }
            }
        }
    }

    #[test]
    fn what_is_not_plain_takes_the_long_way() {
        let inner = [&[0x60; 1][..], &[1; 60]].concat();
        let [over_ipv6, over_ipv4] = both(&inner);
        let changed = |packet: &[u8], at: usize, octet: u8| {
            let mut packet = packet.to_vec();
            packet[at] = octet;
            packet
        };
        // Flags, message type, both lengths, port, checksum, and IPv4 inside.
        for at in [48, 49, 51, 45, 43, 47, 56] {
            let packet = changed(&over_ipv6, at, over_ipv6[at] ^ 0x20);
            assert_eq!(start_of_plain_inner(&packet), None, "{at}");
        }
        let zero = changed(&changed(&over_ipv6, 46, 0), 47, 0);
        assert_eq!(start_of_plain_inner(&zero), None, "no checksum");
        // Options, a fragment, a checksum, and the same as above.
        for at in [0, 6, 27, 28, 29, 31, 25, 23, 36] {
            let packet = changed(&over_ipv4, at, over_ipv4[at] ^ 0x23);
            assert_eq!(start_of_plain_inner_in_ipv4(&packet), None, "{at}");
        }
    }
}
