//! What the outer headers of all tunnels have in common.

use crate::stage::parse::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, IPV6_HEADER};
use crate::stage::{checksum, ipv4};

/// The lower two bits of a traffic class.
pub(crate) const ECN: u8 = 3;

/// The hop limit, or time to live, of outer packets: as configured, where 0 says nothing.
#[must_use]
pub fn hop_limit(configured: u8) -> u8 {
    if configured == 0 { 64 } else { configured }
}

/// An outer IPv6 header. `flow` becomes the flow label, so that routers between the gateways can spread
/// flows (RFC 6438); the inner ECN bits go outside too (RFC 6040 section 4.1).
#[must_use]
#[inline]
pub fn ipv6(
    local: &[u8; 16],
    remote: &[u8; 16],
    hop_limit: u8,
    next_header: u8,
    ecn: u8,
    flow: u32,
    length: u16,
) -> [u8; IPV6_HEADER] {
    let mut header = [0; IPV6_HEADER];
    write_ipv6(
        &mut header,
        local,
        remote,
        hop_limit,
        next_header,
        ecn,
        flow,
        length,
    );
    header
}

/// Writes an [`ipv6`] header in its place.
// Not left to the compiler: addresses would go there by way of the stack.
#[allow(clippy::too_many_arguments, reason = "that many fields are in the header")]
#[inline(always)]
pub fn write_ipv6(
    header: &mut [u8; IPV6_HEADER],
    local: &[u8; 16],
    remote: &[u8; 16],
    hop_limit: u8,
    next_header: u8,
    ecn: u8,
    flow: u32,
    length: u16,
) {
    let first = 6 << 60
        | u64::from(ecn & ECN) << 52
        | u64::from(flow & 0x000f_ffff) << 32
        | u64::from(length) << 16
        | u64::from(next_header) << 8
        | u64::from(hop_limit);
    header[..8].copy_from_slice(&first.to_be_bytes());
    header[8..24].copy_from_slice(local);
    header[24..40].copy_from_slice(remote);
}

/// Bits of the key of a tunnel with a TEID or GRE key, in the table of peers, up to the end of that number
/// ([`crate::tunnel::gtpu::key`], [`crate::tunnel::gre::peer_key`]).
pub const NUMBER_BITS: u8 = 44;

/// Which TEID or GRE key such a key begins with: the former are below 2^32, the latter from there on, below 2^33. `None`: with neither.
#[must_use]
#[inline]
pub fn number_of(key: u128) -> Option<u64> {
    const BITS: u32 = 33;
    // What all of these begin with, and nothing that is a peer's address.
    const BEGINNING: u128 = 0xff0 >> 1;
    let beginning = key >> (u128::BITS - 11);
    let number = (key >> (u128::BITS - NUMBER_BITS as u32)) as u64 & ((1 << BITS) - 1);
    (beginning == BEGINNING).then_some(number)
}

/// Instead of a code point: that of the packet within.
pub const DSCP_COPIED: u8 = 64;

/// Gives the outer header at the beginning of `packet`, which was written without, a code point (RFC 2474): `dscp`, or that of the
/// packet that begins behind `front` octets. Its ECN bits stay. In IPv6 no checksum covers it.
// Few tunnels have one, so it is no part of writing the header.
#[cold]
pub fn mark(packet: &mut [u8], front: usize, dscp: u8) {
    let dscp = match dscp {
        DSCP_COPIED => packet.get(front..).and_then(dscp_of).unwrap_or_default(),
        dscp => dscp,
    };
    let Some(words) = packet.first_chunk_mut::<2>() else {
        return;
    };
    let [first, second] = *words;
    if first >> 4 == 6 {
        *words = [first & 0xf0 | dscp >> 2, second & 0x3f | dscp << 6];
        return;
    }
    *words = [first, second & ECN | dscp << 2];
    let before = u16::from_be_bytes([first, second]);
    let after = u16::from_be_bytes(*words);
    if let Some(sum) = packet.get_mut(10..12).and_then(<[u8]>::first_chunk_mut::<2>) {
        *sum = checksum::updated(u16::from_be_bytes(*sum), before, after).to_be_bytes();
    }
}

/// The code point of a packet of either version of IP; `None` if it is too short to have one.
fn dscp_of(packet: &[u8]) -> Option<u8> {
    let [first, second] = *packet.first_chunk::<2>()?;
    Some(if first >> 4 == 6 {
        (first & 0x0f) << 2 | second >> 6
    } else {
        second >> 2
    })
}

/// The ECN bits of the packet in `inner`; `None` if it is too short to have any.
#[must_use]
#[inline]
pub fn ecn(inner: &[u8]) -> Option<u8> {
    Some((inner.get(1)? >> 4) & ECN)
}

/// What of an inner packet shows outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// As [`flow`].
    pub flow: u32,
    /// As [`ecn`].
    pub ecn: u8,
    /// Which version of IP it is.
    pub ethertype: u16,
}

impl Shown {
    /// Of the IPv6 packet in `inner`; `None` if that is too short to be one.
    #[must_use]
    #[inline(always)]
    pub fn of_ipv6(inner: &[u8]) -> Option<Self> {
        let (flow, ecn) = (flow(inner)?, ecn(inner)?);
        Some(Self {
            flow,
            ecn,
            ethertype: ETHERTYPE_IPV6,
        })
    }

    /// Of the IPv4 packet in `inner`; `None` if that is too short to be one.
    #[must_use]
    #[inline]
    pub fn of_ipv4(inner: &[u8]) -> Option<Self> {
        Some(Self {
            flow: flow_ipv4(inner)?,
            ecn: inner.get(1)? & ECN,
            ethertype: ETHERTYPE_IPV4,
        })
    }
}

/// [`flow`] for an IPv4 packet: of source, destination, protocol and, in what is no fragment, ports. So all fragments of a
/// datagram have one.
#[must_use]
#[inline]
pub fn flow_ipv4(inner: &[u8]) -> Option<u32> {
    const FACTORS: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xa076_1d64_78bd_642f];
    const UDP: u8 = 17;
    const TCP: u8 = 6;
    let addresses = u64::from_be_bytes(inner.get(12..20)?.try_into().ok()?);
    let protocol = *inner.get(9)?;
    let (is_fragment, _) = ipv4::fragment(inner);
    let behind = inner.get(ipv4::header_length(inner)..).unwrap_or_default();
    let ports = match behind.first_chunk::<4>() {
        Some(ports) if !is_fragment && (protocol == UDP || protocol == TCP) => u32::from_be_bytes(*ports),
        _ => 0,
    };
    let last = u64::from(ports) << 8 | u64::from(protocol);
    let hash = addresses.wrapping_mul(FACTORS[0]) ^ last.wrapping_mul(FACTORS[1]).rotate_left(32);
    let hash = (hash ^ hash >> 32).wrapping_mul(FACTORS[1]);
    let label = (hash >> 44) as u32;
    Some(if label == 0 { 1 } else { label })
}

/// A hash of source, destination, flow label and, where they follow at once, ports of an IPv6 packet:
/// 20 bits, never zero. `None` if that is too short to be one.
#[must_use]
#[inline]
pub fn flow(inner: &[u8]) -> Option<u32> {
    // Arbitrary.
    const FACTORS: [u64; 6] = [
        0x9e37_79b9_7f4a_7c15,
        0xbf58_476d_1ce4_e5b9,
        0x94d0_49bb_1331_11eb,
        0xd6e8_feb8_6659_fd93,
        0xa076_1d64_78bd_642f,
        0xe703_7ed1_a0b4_28db,
    ];
    const UDP: u8 = 17;
    const TCP: u8 = 6;
    let (header, rest) = inner.split_first_chunk::<IPV6_HEADER>()?;
    let ports = match rest.first_chunk::<4>() {
        Some(ports) if header[6] == UDP || header[6] == TCP => u32::from_ne_bytes(*ports),
        _ => 0,
    };
    let (words, _) = header.as_chunks::<8>();
    let [first, source, node, destination, other] =
        [0, 1, 2, 3, 4].map(|at| words.get(at).copied().unwrap_or_default());
    // Which order octets are in is all the same to a hash. Next header and flow label are left of the first word; the former shares its bits with one octet of
    // the ports, so that flows of two protocols may meet that would not, and that is all.
    let first = u64::from_ne_bytes(first) & u64::from_ne_bytes([0, 0x0f, 0xff, 0xff, 0, 0, 0xff, 0]);
    let word = u64::from_ne_bytes;
    let addresses = product(word(source) ^ FACTORS[0], word(node) ^ FACTORS[1])
        ^ product(word(destination) ^ FACTORS[2], word(other) ^ FACTORS[3]).rotate_left(32);
    let hash = product(
        addresses ^ FACTORS[4],
        (first ^ u64::from(ports) << 32) ^ FACTORS[5],
    );
    let label = (hash >> 44) as u32;
    Some(if label == 0 { 1 } else { label })
}

/// All of a product, its halves added up: each bit of it hangs on nearly all of both factors.
#[inline(always)]
fn product(one: u64, other: u64) -> u64 {
    let product = u128::from(one) * u128::from(other);
    product as u64 ^ (product >> 64) as u64
}

/// An address in the bits that a key of the table of peers has for it. Two addresses may have the same: who finds a tunnel
/// by such a key compares its ends.
#[must_use]
#[inline]
pub(crate) fn fold(address: u128) -> u64 {
    ((address >> 64) as u64).wrapping_add((address as u64).rotate_left(23))
}

/// The UDP source port of a [`flow`]: one of 49152 to 65535 (RFC 6335 section 6).
#[must_use]
#[inline]
pub fn source_port(flow: u32) -> u16 {
    0xc000 | (flow & 0x3fff) as u16
}

/// Whether a [`source_port`] may be this one.
#[must_use]
pub fn is_source_port(port: u16) -> bool {
    port >= 0xc000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_of_a_flow_counts_and_flows_spread() {
        let mut packet = [0u8; 60];
        packet[0] = 0x60;
        packet[6] = 17;
        packet[8..12].copy_from_slice(&[0x20, 1, 0xd, 0xb8]);
        packet[24..28].copy_from_slice(&[0x20, 1, 0xd, 0xb8]);
        let before = flow(&packet).unwrap();
        // Flow label, addresses and ports.
        let bits = (12..32).chain(8 * 8..44 * 8);
        for bit in bits {
            packet[bit / 8] ^= 0x80 >> (bit % 8);
            assert_ne!(flow(&packet).unwrap(), before, "bit {bit}");
            packet[bit / 8] ^= 0x80 >> (bit % 8);
        }
        // Nor by what differs among packets of a flow: marks, lengths, hops.
        for bit in (4..12).chain(4 * 8..6 * 8).chain(7 * 8..8 * 8) {
            packet[bit / 8] ^= 0x80 >> (bit % 8);
            let changed = flow(&packet);
            packet[bit / 8] ^= 0x80 >> (bit % 8);
            assert_eq!(changed, Some(before), "bit {bit}");
        }
        // Neighbouring addresses, prefixes and ports: in sixteen parts, each within a fifth of its share.
        for at in [14, 22, 30, 38, 40, 42] {
            let mut parts = [0u32; 16];
            for number in 0..=u16::MAX {
                packet[at..at + 2].copy_from_slice(&number.to_be_bytes());
                parts[flow(&packet).unwrap() as usize >> 16] += 1;
            }
            packet[at..at + 2].fill(0);
            for part in parts {
                assert!((3277..=4915).contains(&part), "octets {at}: {parts:?}");
            }
        }
    }

    #[test]
    fn so_does_every_bit_of_one_of_ipv4() {
        let mut packet = [0u8; 40];
        packet[0] = 0x45;
        packet[9] = 17;
        packet[12] = 192;
        packet[16] = 203;
        let before = flow_ipv4(&packet).unwrap();
        for bit in 12 * 8..24 * 8 {
            packet[bit / 8] ^= 0x80 >> (bit % 8);
            assert_ne!(flow_ipv4(&packet).unwrap(), before, "bit {bit}");
            packet[bit / 8] ^= 0x80 >> (bit % 8);
        }
        for at in [14, 18, 20, 22] {
            let mut parts = [0u32; 16];
            for number in 0..=u16::MAX {
                packet[at..at + 2].copy_from_slice(&number.to_be_bytes());
                parts[flow_ipv4(&packet).unwrap() as usize >> 16] += 1;
            }
            packet[at..at + 2].fill(0);
            for part in parts {
                assert!((3277..=4915).contains(&part), "octets {at}: {parts:?}");
            }
        }
        // Nor by what differs among packets of a flow: marks, lengths, DF, hops; nor among fragments of one: the rest of the word.
        for bit in (8..50).chain(64..72).chain(80..96) {
            packet[bit / 8] ^= 0x80 >> (bit % 8);
            let changed = flow_ipv4(&packet);
            packet[bit / 8] ^= 0x80 >> (bit % 8);
            assert_eq!(changed, flow_ipv4(&packet), "bit {bit}");
        }
        // A fragment has no ports, the first one neither.
        packet[6] = 0x20;
        let fragment = flow_ipv4(&packet);
        packet[20] ^= 0xff;
        assert_eq!(flow_ipv4(&packet), fragment);
        assert_eq!(flow_ipv4(&packet[..19]), None);
    }

    #[test]
    fn a_flow_has_one_port_of_those_that_nobody_serves() {
        for flow in [1, 0x3fff, 0x4000, 0xf_ffff] {
            assert!(source_port(flow) >= 49152 && is_source_port(source_port(flow)));
        }
        assert_ne!(source_port(1), source_port(2));
        assert!(!is_source_port(49151));
    }
}
