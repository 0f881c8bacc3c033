//! What the outer headers of all tunnels have in common.

use crate::stage::parse::IPV6_HEADER;

/// The lower two bits of a traffic class.
pub(crate) const ECN: u8 = 3;

/// An outer IPv6 header. `flow` becomes the flow label, so that routers between the gateways can spread
/// flows (RFC 6438); the inner ECN bits go outside too (RFC 6040 section 4.1).
#[must_use]
#[inline]
pub fn ipv6(
    local: [u8; 16],
    remote: [u8; 16],
    hop_limit: u8,
    next_header: u8,
    ecn: u8,
    flow: u32,
    length: u16,
) -> [u8; IPV6_HEADER] {
    let mut header = [0; IPV6_HEADER];
    header[0] = 0x60;
    header[1] = (ecn & ECN) << 4 | (flow >> 16) as u8 & 0x0f;
    header[2] = (flow >> 8) as u8;
    header[3] = flow as u8;
    header[4..6].copy_from_slice(&length.to_be_bytes());
    header[6] = next_header;
    header[7] = if hop_limit == 0 { 64 } else { hop_limit };
    header[8..24].copy_from_slice(&local);
    header[24..40].copy_from_slice(&remote);
    header
}

/// The ECN bits of the packet in `inner`; `None` if it is too short to have any.
#[must_use]
#[inline]
pub fn ecn(inner: &[u8]) -> Option<u8> {
    Some((inner.get(1)? >> 4) & ECN)
}

/// A hash of source, destination, flow label and, where they follow at once, ports of an IPv6 packet:
/// 20 bits, never zero. `None` if that is too short to be one.
#[must_use]
#[inline]
pub fn flow(inner: &[u8]) -> Option<u32> {
    const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
    let (addresses, rest) = inner.get(8..)?.split_at_checked(32)?;
    let mut hash = u64::from(u32::from_be_bytes(inner.get(..4)?.try_into().ok()?) & 0x000f_ffff);
    let mut mix = |word: u64| hash = (hash ^ word).wrapping_mul(MULTIPLIER).rotate_left(29);
    for word in addresses.chunks_exact(8) {
        mix(u64::from_be_bytes(word.try_into().ok()?));
    }
    const UDP: u8 = 17;
    const TCP: u8 = 6;
    let next_header = *inner.get(6)?;
    mix(u64::from(next_header));
    if (next_header == UDP || next_header == TCP)
        && let Some(ports) = rest.get(..4)
    {
        mix(u64::from(u32::from_be_bytes(ports.try_into().ok()?)));
    }
    let label = (hash >> 44) as u32;
    Some(if label == 0 { 1 } else { label })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_has_one_port_of_those_that_nobody_serves() {
        for flow in [1, 0x3fff, 0x4000, 0xf_ffff] {
            assert!(source_port(flow) >= 49152);
        }
        assert_ne!(source_port(1), source_port(2));
    }
}
