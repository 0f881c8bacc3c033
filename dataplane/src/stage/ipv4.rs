//! IPv4 headers (RFC 791): what tunnels may go over, besides IPv6, and what they may carry.
//!
//! In all tables, and in [`Packet`], an IPv4 address is its IPv4-mapped IPv6 form (RFC 4291 section 2.5.5.2). No
//! IPv6 packet with such an address comes past the first checks, so the two never meet.

use super::checksum::{self, Sum, updated};
use super::parse::Packet;
use crate::drops::DropReason;

/// Octets of a header without options.
pub const HEADER: usize = 20;

/// ::ffff:0:0/96.
const MAPPED: u128 = 0xffff << 32;
const DONT_FRAGMENT: u8 = 0x40;

/// What is the same in all addresses.
#[must_use]
#[inline]
pub fn is_mapped(address: u128) -> bool {
    address >> 32 == MAPPED >> 32
}

/// The mapped form.
#[must_use]
#[inline]
pub fn mapped(address: [u8; 4]) -> u128 {
    MAPPED | u128::from(u32::from_be_bytes(address))
}

/// The four octets of the mapped form.
#[must_use]
#[inline]
pub fn unmapped(address: u128) -> [u8; 4] {
    (address as u32).to_be_bytes()
}

/// The four octets of the mapped form.
#[must_use]
#[inline]
pub fn last_four(address: &[u8; 16]) -> [u8; 4] {
    let [.., a, b, c, d] = *address;
    [a, b, c, d]
}

/// Reads the header of the packet that `octets` begins with, its options included; more octets may follow it.
///
/// # Errors
/// It is no IPv4 packet, or shorter than it says, or its header's checksum is wrong.
#[inline(always)]
pub fn read(octets: &[u8]) -> Result<Packet, DropReason> {
    let fixed = octets.first_chunk::<HEADER>().ok_or(DropReason::Ipv4Malformed)?;
    if fixed[0] != 0x45 {
        return read_with_options(octets, fixed);
    }
    let packet = told(fixed);
    if packet.length < HEADER || packet.length > octets.len() {
        return Err(DropReason::Ipv4Malformed);
    }
    if !Sum::default().header(fixed).is_right() {
        return Err(DropReason::Ipv4ChecksumWrong);
    }
    Ok(packet)
}

/// [`read`], where there are options, or something else is odd about the first octet.
#[cold]
fn read_with_options(octets: &[u8], fixed: &[u8; HEADER]) -> Result<Packet, DropReason> {
    let packet = told(fixed);
    let header = header_length(octets);
    if fixed[0] >> 4 != 4 || header < HEADER || packet.length < header || packet.length > octets.len() {
        return Err(DropReason::Ipv4Malformed);
    }
    let sum = Sum::default().octets(octets.get(..header).unwrap_or_default());
    if !sum.is_right() {
        return Err(DropReason::Ipv4ChecksumWrong);
    }
    Ok(packet)
}

#[inline]
fn told(fixed: &[u8; HEADER]) -> Packet {
    let [.., s0, s1, s2, s3, d0, d1, d2, d3] = *fixed;
    Packet {
        source: mapped([s0, s1, s2, s3]),
        destination: mapped([d0, d1, d2, d3]),
        length: usize::from(u16::from_be_bytes([fixed[2], fixed[3]])),
        hop_limit: fixed[8],
        traffic_class: fixed[1],
        next_header: fixed[9],
    }
}

/// What the header says that `octets` begin with, as an error quotes it: what follows may be cut short, and its checksum was
/// verified before the packet was sent on. `None`: it is none.
#[must_use]
pub fn read_quoted(octets: &[u8]) -> Option<Packet> {
    let fixed = octets.first_chunk::<HEADER>()?;
    if fixed[0] >> 4 != 4 || header_length(octets) < HEADER || octets.len() < header_length(octets) {
        return None;
    }
    Some(told(fixed))
}

/// Octets of the header with its options, by its own word; 0 of nothing.
#[must_use]
#[inline]
pub fn header_length(octets: &[u8]) -> usize {
    octets.first().map_or(0, |first| usize::from(first & 0x0f) * 4)
}

/// Whether the packet is a fragment, and whether it is one behind the first.
#[must_use]
#[inline]
pub fn fragment(octets: &[u8]) -> (bool, bool) {
    let Some([high, low]) = octets.get(6..8) else {
        return (false, false);
    };
    let bits = u16::from_be_bytes([*high, *low]) & 0x3fff;
    (bits != 0, bits & 0x1fff != 0)
}

/// Whether no router may cut the packet into fragments.
#[must_use]
#[inline]
pub fn dont_fragment(octets: &[u8]) -> bool {
    octets.get(6).is_some_and(|flags| flags & DONT_FRAGMENT != 0)
}

/// Writes the 16 bits that begin at octet `at`, an even number below 20, of the header that `octets` begins with, and
/// changes its checksum by as much (RFC 1624): a header that was damaged before stays so.
#[inline]
pub fn set_word(octets: &mut [u8], at: usize, word: u16) {
    let Some(header) = octets.first_chunk_mut::<HEADER>() else {
        return;
    };
    let Some(place) = header.get_mut(at..at + 2) else {
        return;
    };
    let mut before = [0; 2];
    before.copy_from_slice(place);
    place.copy_from_slice(&word.to_be_bytes());
    let checksum = u16::from_be_bytes([header[10], header[11]]);
    let checksum = updated(checksum, u16::from_be_bytes(before), word);
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
}

/// Writes the time to live, in the same way.
#[inline]
pub fn set_time_to_live(octets: &mut [u8], time_to_live: u8) {
    let protocol = octets.get(9).copied().unwrap_or_default();
    set_word(octets, 8, u16::from_be_bytes([time_to_live, protocol]));
}

/// Writes what of IPv6 is the traffic class, in the same way.
#[inline]
pub fn set_traffic_class(octets: &mut [u8], traffic_class: u8) {
    let first = octets.first().copied().unwrap_or_default();
    set_word(octets, 0, u16::from_be_bytes([first, traffic_class]));
}

/// A header without options, never to be fragmented: so its identification may be any (RFC 6864 section 4.1).
/// `length` is that of what follows it; `None` if both together are too long.
#[must_use]
#[inline]
pub fn header(
    source: [u8; 4],
    destination: [u8; 4],
    time_to_live: u8,
    protocol: u8,
    ecn: u8,
    length: usize,
) -> Option<[u8; HEADER]> {
    let mut header = [0; HEADER];
    write_header(
        &mut header,
        source,
        destination,
        time_to_live,
        protocol,
        ecn,
        length,
    )
    .then_some(header)
}

/// Writes a [`header`] in its place; `false`, and nothing written, if it is too long.
// Not left to the compiler: as a call it is half as long again, and it is one for each packet that goes into a tunnel.
#[must_use]
#[inline(always)]
pub fn write_header(
    place: &mut [u8; HEADER],
    source: [u8; 4],
    destination: [u8; 4],
    time_to_live: u8,
    protocol: u8,
    ecn: u8,
    length: usize,
) -> bool {
    let Ok(length) = u16::try_from(HEADER + length) else {
        return false;
    };
    let first = 0x4500_0000 | u32::from(ecn & 3) << 16 | u32::from(length);
    let second = u32::from(DONT_FRAGMENT) << 8;
    let third = u32::from(time_to_live) << 24 | u32::from(protocol) << 16;
    let addresses = [source, destination].map(u32::from_be_bytes);
    let checksum = checksum::of_fields([first, second, third, addresses[0], addresses[1]]);
    place[..8].copy_from_slice(&(u64::from(first) << 32 | u64::from(second)).to_be_bytes());
    place[8..12].copy_from_slice(&(third | u32::from(checksum)).to_be_bytes());
    place[12..16].copy_from_slice(&source);
    place[16..].copy_from_slice(&destination);
    true
}

/// 224.0.0.0/4.
#[must_use]
#[inline]
pub fn is_multicast(address: u128) -> bool {
    is_mapped(address) && address as u32 >> 28 == 0xe
}

/// 224.0.0.0/24: no router passes it on (RFC 5771 section 4).
#[must_use]
#[inline]
pub fn is_link_scope_multicast(address: u128) -> bool {
    is_mapped(address) && address as u32 >> 8 == 0xe0_0000
}

/// What no packet between nodes has as its source: 0.0.0.0/8, 127.0.0.0/8, and 224.0.0.0 and above (RFC 6890).
#[must_use]
#[inline]
pub fn is_invalid_source(address: u128) -> bool {
    let first = address as u32 >> 24;
    first == 0 || first == 127 || first >= 224
}

/// 169.254.0.0/16: no router passes on what is from there, or to there (RFC 3927 section 7).
#[must_use]
#[inline]
pub fn is_link_local(address: u128) -> bool {
    is_mapped(address) && address as u32 >> 16 == 0xa9fe
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn of(text: &str) -> u128 {
        mapped(text.parse::<Ipv4Addr>().unwrap().octets())
    }

    /// The example that everybody checks a header's checksum with.
    const KNOWN: [u8; 20] = [
        0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0xb8, 0x61, 0xc0, 0xa8, 0, 1, 0xc0, 0xa8, 0, 0xc7,
    ];

    #[test]
    fn a_header_both_ways() {
        let written = header([192, 168, 0, 1], [192, 168, 0, 199], 64, 17, 0, 0x73 - HEADER);
        assert_eq!(written, Some(KNOWN));
        let mut packet = KNOWN.to_vec();
        packet.resize(0x80, 0);
        let read = read(&packet).unwrap();
        assert_eq!(
            (read.source, read.destination),
            (of("192.168.0.1"), of("192.168.0.199"))
        );
        assert_eq!((read.length, read.hop_limit, read.next_header), (0x73, 64, 17));
        assert_eq!(header([0; 4], [0; 4], 1, 17, 0, 65_516), None);
        let longest = header([0; 4], [0; 4], 1, 17, 0, 65_515).unwrap();
        assert_eq!(longest[2..4], [0xff, 0xff]);
        assert_eq!(header([0; 4], [0; 4], 1, 17, 0xff, 0).unwrap()[1], 3);
    }

    #[test]
    fn what_is_no_header_is_refused() {
        let mut packet = KNOWN.to_vec();
        packet.resize(0x73, 0);
        for end in 0..0x73 {
            assert_eq!(read(&packet[..end]), Err(DropReason::Ipv4Malformed), "{end}");
        }
        for (at, value, reason) in [
            (0, 0x65, DropReason::Ipv4Malformed),
            (0, 0x44, DropReason::Ipv4Malformed),
            (3, 19, DropReason::Ipv4Malformed),
            (8, 63, DropReason::Ipv4ChecksumWrong),
        ] {
            let mut packet = packet.clone();
            packet[at] = value;
            assert_eq!(read(&packet), Err(reason), "{at}");
        }
        // With options, the checksum is over them too.
        let mut packet = packet.clone();
        packet[0] = 0x46;
        assert_eq!(read(&packet), Err(DropReason::Ipv4ChecksumWrong));
        packet[10..12].copy_from_slice(&[0, 0]);
        let checksum = Sum::default().octets(&packet[..24]).checksum();
        packet[10..12].copy_from_slice(&checksum.to_be_bytes());
        assert!(read(&packet).is_ok());
        assert_eq!(header_length(&packet), 24);
    }

    #[test]
    fn what_is_written_into_a_header_is_in_its_checksum() {
        for value in 0..=255 {
            let mut packet = KNOWN;
            set_time_to_live(&mut packet, value);
            assert!(Sum::default().octets(&packet).is_right(), "{value}");
            set_traffic_class(&mut packet, value);
            assert!(Sum::default().octets(&packet).is_right(), "{value}");
            assert_eq!(
                (packet[8], packet[1], packet[9], packet[0]),
                (value, value, 17, 0x45)
            );
            // And what was damaged stays so.
            packet[4] ^= 1;
            set_time_to_live(&mut packet, 9);
            assert!(!Sum::default().octets(&packet).is_right(), "{value}");
        }
        set_word(&mut [1; 19], 0, 0);
        set_word(&mut [1; 20], 20, 0);
    }

    #[test]
    fn kinds_of_addresses_and_fragments() {
        assert!(is_mapped(of("1.2.3.4")) && !is_mapped(1) && !is_mapped(u128::MAX));
        assert_eq!(unmapped(of("1.2.3.4")), [1, 2, 3, 4]);
        assert!(is_multicast(of("239.1.2.3")) && !is_multicast(of("223.1.2.3")));
        assert!(is_link_scope_multicast(of("224.0.0.5")) && !is_link_scope_multicast(of("224.0.1.1")));
        for invalid in ["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255"] {
            assert!(is_invalid_source(of(invalid)), "{invalid}");
        }
        assert!(!is_invalid_source(of("192.0.2.1")));
        assert!(is_link_local(of("169.254.9.9")) && !is_link_local(of("169.253.9.9")) && !is_link_local(0));
        assert!(dont_fragment(&[0, 0, 0, 0, 0, 0, 0x40]) && !dont_fragment(&[0, 0, 0, 0, 0, 0, 0x20]));
        let with = |high, low| fragment(&[0, 0, 0, 0, 0, 0, high, low]);
        assert_eq!(with(0x40, 0), (false, false));
        assert_eq!(with(0x20, 0), (true, false));
        assert_eq!(with(0x20, 1), (true, true));
        assert_eq!(with(0, 1), (true, true));
        assert_eq!(fragment(&[]), (false, false));
    }
}
