//! Generic Routing Encapsulation over IPv6 (RFC 2784, RFC 7676), with a key (RFC 2890) or without.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! |C| |K|S| Reserved0       | Ver |         Protocol Type         |
//! |      Checksum (if C)          |       Reserved1 (if C)        |
//! |                         Key (if K)                            |
//! |                    Sequence Number (if S)                     |
//! ```
//!
//! A key tells the tunnels between two nodes apart, as a TEID does: both ends have one of their own (RFC 5845
//! section 3.1.1). Which rules are obeyed is told in `CONFORMANCE.md`.

use kedge_dataplane_api::model::Gre;

use super::outer::{self, Shown};
use crate::stage::checksum::Sum;
use crate::stage::parse::IPV6_HEADER;

/// Next header value of GRE.
pub const NEXT_HEADER: u8 = 47;

/// Octets of the part that is always there.
const HEADER: usize = 4;
/// Octets of each field that may follow it.
const FIELD: usize = 4;
/// In the first octet.
const CHECKSUM: u8 = 0x80;
const KEY: u8 = 0x20;
const SEQUENCE: u8 = 0x10;
/// Bits 1, 4 and 5, of RFC 1701: who does not implement that discards what has them (RFC 2784 section 2.3).
const ROUTING: u8 = 0x4c;
/// In the second octet.
const VERSION: u8 = 0x07;

/// Octets in front of an inner packet.
#[must_use]
pub fn overhead(tunnel: &Gre) -> usize {
    IPV6_HEADER + HEADER + tunnel.remote_key.map_or(0, |_| FIELD)
}

/// By what the tunnel of an incoming packet is looked up, in the table of peers: its key, if it has one, and who sent it.
/// As that of GTP-U it is a multicast address, and so no peer of another kind has it.
///
/// ```text
/// 128      116             84                                20       0
///  +--------+---------------+---------------------------------+--------+
///  |  ff1   |      key      |  source, its halves added up    |   0    |
///  |  ff2   |       0       |  source, its halves added up    |   0    |   without a key
///  +--------+---------------+---------------------------------+--------+
/// ```
#[must_use]
#[inline]
pub fn peer_key(key: Option<u32>, source: u128) -> u128 {
    let (kind, key) = match key {
        Some(key) => (0xff1, key),
        None => (0xff2, 0),
    };
    kind << 116 | u128::from(key) << 84 | u128::from(outer::fold(source)) << 20
}

/// Where the IPv6 packet inside begins, octets from the GRE header that `octets` begin with, and ends where they do: where there is
/// nothing in the header but a key, if that. `None` says nothing against a packet, [`read`] has to.
#[must_use]
#[inline]
pub fn start_of_plain_inner(octets: &[u8]) -> Option<usize> {
    let start = match octets.first_chunk::<HEADER>()? {
        [KEY, 0, 0x86, 0xdd] => HEADER + FIELD,
        [0, 0, 0x86, 0xdd] => HEADER,
        _ => return None,
    };
    (octets.get(start)? >> 4 == 6).then_some(start)
}

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Which tunnel it is of.
    pub key: Option<u32>,
    /// Ethertype of what is within.
    pub protocol: [u8; 2],
    /// Where that begins, octets from the GRE header.
    pub offset: usize,
}

/// Why a packet is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// It ends before its header does.
    Malformed,
    /// A bit is set whose meaning is not known here, and which must then not be ignored.
    BitsUnsupported,
    /// Another version, such as that of PPTP (RFC 2637).
    VersionUnsupported,
    /// It has a checksum, and another one is right.
    ChecksumWrong,
}

/// Reads the header that `octets`, a GRE packet and nothing behind it, begin with.
///
/// Bits 6 to 12 mean nothing yet and are ignored (RFC 2784 section 2.3.1); so is a sequence number, see `CONFORMANCE.md`.
///
/// # Errors
/// See [`Problem`].
#[inline]
pub fn read(octets: &[u8]) -> Result<Message, Problem> {
    let message = peek(octets)?;
    if octets.first().is_some_and(|flags| flags & CHECKSUM != 0)
        // Over header and payload (RFC 2784 section 2.5).
        && !Sum::default().octets(octets).is_right()
    {
        return Err(Problem::ChecksumWrong);
    }
    Ok(message)
}

/// The same without the checksum.
///
/// # Errors
/// See [`Problem`].
#[inline]
pub fn peek(octets: &[u8]) -> Result<Message, Problem> {
    let [flags, version, p0, p1] = *octets.first_chunk::<HEADER>().ok_or(Problem::Malformed)?;
    if version & VERSION != 0 {
        return Err(Problem::VersionUnsupported);
    }
    if flags & ROUTING != 0 {
        return Err(Problem::BitsUnsupported);
    }
    let mut offset = HEADER;
    if flags & CHECKSUM != 0 {
        offset += FIELD;
    }
    let mut key = None;
    if flags & KEY != 0 {
        let field = octets
            .get(offset..)
            .and_then(|octets| octets.first_chunk::<FIELD>());
        key = Some(u32::from_be_bytes(*field.ok_or(Problem::Malformed)?));
        offset += FIELD;
    }
    if flags & SEQUENCE != 0 {
        offset += FIELD;
    }
    if offset > octets.len() {
        return Err(Problem::Malformed);
    }
    Ok(Message {
        key,
        protocol: [p0, p1],
        offset,
    })
}

/// Writes the outer headers into the first [`overhead`] octets of `packet`, which the inner packet follows.
/// `false` if it is too long for its length field.
///
/// Without a checksum (RFC 7676 section 3.2 leaves that to the ends) and without sequence numbers.
#[must_use]
#[inline]
pub fn encapsulate(
    packet: &mut [u8],
    local: &[u8; 16],
    remote: &[u8; 16],
    hop_limit: u8,
    tunnel: &Gre,
) -> bool {
    encapsulate_any(packet, local, remote, hop_limit, tunnel, Shown::of_ipv6)
}

/// [`encapsulate`] for an inner packet of either version of IP, of which `shown` tells.
#[must_use]
#[inline(always)]
pub fn encapsulate_any(
    packet: &mut [u8],
    local: &[u8; 16],
    remote: &[u8; 16],
    hop_limit: u8,
    tunnel: &Gre,
    shown: impl FnOnce(&[u8]) -> Option<Shown>,
) -> bool {
    let front = overhead(tunnel);
    let Some((header, inner)) = packet.split_at_mut_checked(front) else {
        return false;
    };
    let Some(Shown { flow, ecn, ethertype }) = shown(inner) else {
        return false;
    };
    let Ok(length) = u16::try_from(front - IPV6_HEADER + inner.len()) else {
        return false;
    };
    let Some((ipv6, gre)) = header.split_first_chunk_mut::<IPV6_HEADER>() else {
        return false;
    };
    outer::write_ipv6(ipv6, local, remote, hop_limit, NEXT_HEADER, ecn, flow, length);
    let Some((fixed, field)) = gre.split_first_chunk_mut::<HEADER>() else {
        return false;
    };
    let [p0, p1] = ethertype.to_be_bytes();
    *fixed = [0, 0, p0, p1];
    if let (Some(key), Some(field)) = (tunnel.remote_key, field.first_chunk_mut::<FIELD>()) {
        fixed[0] = KEY;
        *field = key.to_be_bytes();
    }
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::stage::parse::ETHERTYPE_IPV6;

    const LOCAL: [u8; 16] = [0x20; 16];
    const REMOTE: [u8; 16] = [0x30; 16];

    fn inner(payload: usize) -> Vec<u8> {
        let mut packet = vec![0x60, 0x30, 0, 0, 0, payload as u8, 59, 64];
        packet.extend_from_slice(&[0x77; 32]);
        packet.extend((0..payload).map(|at| at as u8));
        packet
    }

    fn encapsulated(remote_key: Option<u32>, inner: &[u8]) -> Vec<u8> {
        let tunnel = Gre {
            local_key: None,
            remote_key,
        };
        let mut packet = vec![0xa5; overhead(&tunnel)];
        packet.extend_from_slice(inner);
        assert!(encapsulate(&mut packet, &LOCAL, &REMOTE, 64, &tunnel));
        packet
    }

    #[test]
    fn a_packet_octet_by_octet() {
        let packet = encapsulated(None, &inner(3));
        let flow = outer::flow(&inner(3)).unwrap().to_be_bytes();
        assert_eq!(packet[..4], [0x60, 0x30 | flow[1], flow[2], flow[3]]);
        assert_eq!(packet[4..8], [0, 47, 47, 64]);
        assert_eq!((&packet[8..24], &packet[24..40]), (&LOCAL[..], &REMOTE[..]));
        assert_eq!(packet[40..44], [0, 0, 0x86, 0xdd]);
        assert_eq!(packet[44..], inner(3));
        let packet = encapsulated(Some(0xdead_beef), &inner(3));
        assert_eq!(packet[4..6], [0, 51]);
        assert_eq!(packet[40..48], [0x20, 0, 0x86, 0xdd, 0xde, 0xad, 0xbe, 0xef]);
        assert_eq!(packet[48..], inner(3));
    }

    #[test]
    fn each_flag_has_its_field() {
        let fields = |flags: u8| {
            let mut octets = vec![flags, 0, 0x86, 0xdd];
            if flags & CHECKSUM != 0 {
                octets.extend([0, 0, 0xff, 0xff]);
            }
            if flags & KEY != 0 {
                octets.extend([0, 0, 0, 7]);
            }
            if flags & SEQUENCE != 0 {
                octets.extend([9, 9, 9, 9]);
            }
            octets.extend(inner(1));
            if flags & CHECKSUM != 0 {
                let checksum = Sum::default().octets(&octets).checksum();
                octets[4..6].copy_from_slice(&checksum.to_be_bytes());
            }
            octets
        };
        for flags in [0, 0x80, 0x20, 0x10, 0xa0, 0x90, 0x30, 0xb0] {
            let octets = fields(flags);
            let message = read(&octets).unwrap();
            assert_eq!(message.key, (flags & KEY != 0).then_some(7), "{flags:#x}");
            assert_eq!(octets[message.offset..], inner(1), "{flags:#x}");
            // Cut anywhere within the header.
            for end in 0..message.offset {
                assert_eq!(read(&octets[..end]), Err(Problem::Malformed), "{flags:#x} {end}");
            }
        }
        let mut wrong = fields(0x80);
        *wrong.last_mut().unwrap() ^= 1;
        assert_eq!(read(&wrong), Err(Problem::ChecksumWrong));
    }

    #[test]
    fn reserved_bits_and_versions() {
        let with = |first, second| read(&[first, second, 0x86, 0xdd, 1, 2, 3, 4]).map(|_| ());
        for bit in [0x40, 0x08, 0x04] {
            assert_eq!(with(bit, 0), Err(Problem::BitsUnsupported), "{bit:#x}");
        }
        for version in 1..8 {
            assert_eq!(with(0, version), Err(Problem::VersionUnsupported));
        }
        // Bits 6 to 12 are ignored.
        for (first, second) in [(0x02, 0), (0x01, 0), (0, 0x80), (0, 0x08)] {
            assert_eq!(with(first, second), Ok(()));
        }
    }

    #[test]
    fn what_is_too_long_or_too_short_is_not_encapsulated() {
        let tunnel = Gre {
            local_key: None,
            remote_key: Some(1),
        };
        for length in [0, 39, 65_535 - 7] {
            let mut packet = vec![0x60; overhead(&tunnel) + length];
            assert!(
                !encapsulate(&mut packet, &LOCAL, &REMOTE, 64, &tunnel),
                "{length}"
            );
        }
        assert!(!encapsulate(&mut [0; 20], &LOCAL, &REMOTE, 64, &tunnel));
    }

    #[test]
    fn keys_of_peers_differ() {
        let peer = u128::from_be_bytes(REMOTE);
        let keys = [
            peer_key(None, peer),
            peer_key(Some(0), peer),
            peer_key(Some(1), peer),
        ];
        assert!(keys[0] != keys[1] && keys[1] != keys[2]);
        assert_ne!(keys[1], peer_key(Some(0), peer + 1));
        assert_ne!(keys[2], crate::tunnel::gtpu::key(1, peer));
    }

    proptest! {
        #[test]
        fn what_is_encapsulated_is_read(payload in 0usize..200, key: Option<u32>) {
            let inner = inner(payload);
            let packet = encapsulated(key, &inner);
            let message = read(&packet[40..]).unwrap();
            prop_assert_eq!((message.key, message.protocol), (key, ETHERTYPE_IPV6.to_be_bytes()));
            prop_assert_eq!(&packet[40 + message.offset..], &inner[..]);
            prop_assert_eq!(start_of_plain_inner(&packet[40..]), Some(message.offset));
        }

        #[test]
        fn anything_is_read_within_bounds(octets in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(message) = read(&octets) {
                prop_assert!(message.offset <= octets.len());
            }
        }

        #[test]
        fn what_is_plain_is_what_is_read(
            first in prop::sample::select(vec![0u8, 0x20, 0x80, 0x10, 0x30, 0x02]),
            second in prop::sample::select(vec![0u8, 1, 8]),
            protocol in prop::sample::select(vec![[0x86, 0xdd], [0x08, 0x00]]),
            rest in prop::collection::vec(prop::sample::select(vec![0x45u8, 0x60, 0]), 0..12),
        ) {
            let octets = [&[first, second][..], &protocol, &rest].concat();
            if let Some(start) = start_of_plain_inner(&octets) {
                let message = read(&octets).unwrap();
                prop_assert_eq!((message.protocol, message.offset), ([0x86, 0xdd], start));
                prop_assert_eq!(octets[start] >> 4, 6);
            }
        }
    }
}
