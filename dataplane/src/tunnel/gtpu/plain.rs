//! G-PDUs as most are: an IPv6 packet behind eight octets, or behind a PDU Session Container as gNBs and UPFs put it in front of
//! all that they send; and nothing about them that would have to be looked at twice.
//!
//! Two or three words say so. What is said here of a packet has to be what [`super::read`] says, and who asks for the checksum; of
//! packets for which it is `None` nothing is said, they take the long way.

use super::{
    CONTAINER, EXTENSION, HEADER, HEADERS, OPTIONAL, PDU_SESSION_CONTAINER, PORT, UDP, UDP_HEADER, VERSION,
    message_type,
};
use crate::stage::checksum::Sum;
use crate::stage::ipv4;
use crate::stage::parse::IPV6_HEADER;

/// Where the inner packet of such a G-PDU begins, octets from the IPv6 header that `packet` begins with; it ends where `packet` does.
/// Its checksum is there and right.
#[must_use]
#[inline]
pub fn start_of_plain_inner(packet: &[u8]) -> Option<usize> {
    let udp = packet.get(IPV6_HEADER..)?;
    let (checksum, start) = plain(udp)?;
    // The addresses are in front of it, so that with them it is one run of octets (RFC 8200 section 8.1).
    let sum = || Sum::default().octets(packet.get(8..).unwrap_or_default());
    let is_right = || sum().number(udp.len() as u64 + u64::from(UDP)).is_right();
    (checksum != 0 && is_right()).then_some(IPV6_HEADER + start)
}

/// The same of one over IPv4, whose header has no options and says that it is no fragment. It may have no checksum (RFC 768).
#[must_use]
#[inline]
pub fn start_of_plain_inner_in_ipv4(packet: &[u8]) -> Option<usize> {
    if packet.first() != Some(&0x45) || ipv4::fragment(packet).0 {
        return None;
    }
    let udp = packet.get(ipv4::HEADER..)?;
    match plain(udp)? {
        (0, start) => Some(ipv4::HEADER + start),
        // Few have one: the long way is theirs.
        _ => None,
    }
}

/// The checksum field of such a message, which begins and ends with `udp`, of which 0 says that there is none; and where in it the
/// inner packet begins.
#[inline]
fn plain(udp: &[u8]) -> Option<(u16, usize)> {
    const PLAIN: u64 = (VERSION as u64) << 24 | (message_type::G_PDU as u64) << 16;
    const WITH_CONTAINER: u64 = PLAIN | (EXTENSION as u64) << 24;
    let headers = udp.first_chunk::<HEADERS>()?;
    let (first, second) = headers.split_first_chunk::<UDP_HEADER>()?;
    let first = u64::from_be_bytes(*first);
    let second = u64::from_be_bytes(*second.first_chunk::<HEADER>()?) >> 32;
    let length = udp.len() as u64;
    if first >> 16 & 0xffff_ffff != u64::from(PORT) << 16 | length {
        return None;
    }
    // What is behind the fixed part counts (section 5.1).
    let start = match second ^ (length - HEADERS as u64) {
        PLAIN => HEADERS,
        WITH_CONTAINER if has_container(udp.get(HEADERS..)?) => HEADERS + OPTIONAL + CONTAINER,
        _ => return None,
    };
    (udp.get(start)? >> 4 == 6).then_some((first as u16, start))
}

/// Whether these octets, which follow the fixed part, are a PDU Session Container of four, and the last extension header.
#[inline]
fn has_container(octets: &[u8]) -> bool {
    // In front of it is what only counts with other flags.
    matches!(octets, [_, _, _, PDU_SESSION_CONTAINER, 1, _, _, 0, ..])
}

#[cfg(test)]
mod tests {
    use kedge_dataplane_api::model::{GtpU, PduSession};
    use proptest::prelude::*;

    use super::super::{encapsulate, encapsulate_in_ipv4, overhead, overhead_in_ipv4, read};
    use super::*;

    fn tunnel(with_container: bool) -> GtpU {
        let session = PduSession { uplink: true, qfi: 9 };
        GtpU {
            local_teid: 7.try_into().unwrap(),
            remote_teid: 9.try_into().unwrap(),
            sequence_numbers: false,
            pdu_session: with_container.then_some(session),
        }
    }

    /// A G-PDU over IPv6, and one over IPv4, with this inner packet.
    fn both(inner: &[u8], with_container: bool) -> [Vec<u8>; 2] {
        let tunnel = tunnel(with_container);
        let address = |last: u8| {
            let mut address = [0x20; 16];
            address[15] = last;
            address
        };
        let packet = |overhead: usize| [&vec![0; overhead][..], inner].concat();
        let mut over_ipv6 = packet(overhead(&tunnel));
        assert!(encapsulate(
            &mut over_ipv6,
            &address(1),
            &address(2),
            0,
            &tunnel,
            0
        ));
        let mut over_ipv4 = packet(overhead_in_ipv4(&tunnel));
        assert!(encapsulate_in_ipv4(
            &mut over_ipv4,
            &address(1),
            &address(2),
            0,
            &tunnel,
            0
        ));
        [over_ipv6, over_ipv4]
    }

    fn inner() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(any::<u8>(), 40..200).prop_map(|mut octets| {
            octets[0] = 0x60;
            octets
        })
    }

    proptest! {
        #[test]
        fn what_we_send_is_plain(inner in inner(), with_container: bool) {
            let [over_ipv6, over_ipv4] = both(&inner, with_container);
            let more = if with_container { 8 } else { 0 };
            prop_assert_eq!(start_of_plain_inner(&over_ipv6), Some(56 + more));
            prop_assert_eq!(start_of_plain_inner_in_ipv4(&over_ipv4), Some(36 + more));
        }

        /// Of what is plain the slow reader says the same; over IPv6 no octet may differ that the checksum covers.
        #[test]
        fn it_is_what_the_slow_reader_says(
            inner in inner(),
            with_container: bool,
            at in prop_oneof![0usize..64, any::<prop::sample::Index>().prop_map(|it| it.index(256))],
            octet in any::<u8>(),
            cut in 0usize..3,
        ) {
            for (mut packet, is_ipv6) in both(&inner, with_container).into_iter().zip([true, false]) {
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
        let [over_ipv6, over_ipv4] = both(&inner, false);
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
        // Of the container its type, its length, and what follows it.
        let [_, with_container] = both(&inner, true);
        assert_eq!(start_of_plain_inner_in_ipv4(&with_container), Some(44));
        for at in [39, 40, 43] {
            let packet = changed(&with_container, at, with_container[at] ^ 3);
            assert_eq!(start_of_plain_inner_in_ipv4(&packet), None, "{at}");
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
