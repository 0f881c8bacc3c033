//! The end of a path, said in band: what closes the old way to a prefix when a node has moved.
//!
//! When the anchor of a prefix stops sending its packets by one gateway and sends them by another, packets
//! are still on the old way. The gateway that serves the node now must deliver those first. The anchor
//! therefore sends a *path end* down the old way, behind the last packet; whoever is on it sends the path
//! end where it sends the packets, and the serving gateway lets the new way through when it comes. This is
//! what an End Marker does in a handover of 3GPP TS 23.401 section 5.5.1.1.2; but one End Marker ends all
//! of a GTP-U tunnel, a path end one prefix, in any type of tunnel.
//!
//! A path end is an IPv6 packet inside the tunnel, from the anchor to the Subnet-Router anycast address of
//! the prefix (RFC 4291 section 2.6.1), with no next header (59, RFC 8200 section 4.7), and these octets:
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |                 0x4b 0x44 0x50 0x45 ("KDPE")                  |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! |   Version 1   | Prefix Length |           Reserved            |
//! +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```
//!
//! So it is looked up, held and forwarded with the packets that it follows and like any of them, by gateways
//! that know nothing of it; and a host that gets one ignores it. It is heeded only where a prefix waits for
//! it, and only out of the tunnel for which it waits, whose peer is a permitted one.

use ipnet::Ipv6Net;

/// Octets of an IPv6 header.
const IPV6_HEADER: usize = 40;

/// No next header.
pub const NO_NEXT_HEADER: u8 = 59;
/// Octets of a path end.
pub const LENGTH: usize = IPV6_HEADER + PAYLOAD;

const PAYLOAD: usize = 8;
const MAGIC: [u8; 4] = *b"KDPE";
const VERSION: u8 = 1;

/// Whether a packet, from its IPv6 header on, is a path end; for a prefix of which length.
#[must_use]
pub fn read(packet: &[u8]) -> Option<u8> {
    let (header, payload) = packet.split_at_checked(IPV6_HEADER)?;
    let [a, b, c, d, VERSION, length @ 0..=128, _, _] = payload.first_chunk::<PAYLOAD>()? else {
        return None;
    };
    (header.get(6) == Some(&NO_NEXT_HEADER) && [*a, *b, *c, *d] == MAGIC).then_some(*length)
}

/// The path end of a prefix, from its anchor.
#[must_use]
pub fn write(anchor: std::net::Ipv6Addr, prefix: Ipv6Net) -> [u8; LENGTH] {
    let mut packet = [0; LENGTH];
    let fixed = [0x60, 0, 0, 0, 0, PAYLOAD as u8, NO_NEXT_HEADER, 64];
    let payload = [
        MAGIC[0],
        MAGIC[1],
        MAGIC[2],
        MAGIC[3],
        VERSION,
        prefix.prefix_len(),
        0,
        0,
    ];
    let (from, to) = (anchor.octets(), prefix.network().octets());
    let octets = fixed.iter().chain(&from).chain(&to).chain(&payload);
    for (place, octet) in packet.iter_mut().zip(octets) {
        *place = *octet;
    }
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    fn golden() -> [u8; LENGTH] {
        write(
            "2001:db8:a::1".parse().unwrap(),
            "2001:db8:100:1::/64".parse().unwrap(),
        )
    }

    #[test]
    fn octet_by_octet() {
        let mut expected = vec![0x60, 0, 0, 0, 0, 8, 59, 64];
        expected.extend([0x20, 1, 0xd, 0xb8, 0, 0xa, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        expected.extend([0x20, 1, 0xd, 0xb8, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
        expected.extend([0x4b, 0x44, 0x50, 0x45, 1, 64, 0, 0]);
        assert_eq!(golden()[..], expected[..]);
        assert_eq!(read(&golden()), Some(64));
    }

    #[test]
    fn what_is_none_is_none() {
        for (at, octet) in [(6, 17), (40, 0), (43, 0), (44, 2), (45, 129)] {
            let mut packet = golden();
            packet[at] = octet;
            assert_eq!(read(&packet), None, "octet {at}");
        }
        for length in 0..LENGTH {
            assert_eq!(read(&golden()[..length]), None);
        }
    }
}
