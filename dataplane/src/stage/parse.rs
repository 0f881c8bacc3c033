//! Octets of a frame to what the next steps decide on. Every access is checked.

use crate::drops::DropReason;

/// Octets of an Ethernet header.
pub const ETHERNET_HEADER: usize = 14;
/// Octets of an IPv6 header.
pub const IPV6_HEADER: usize = 40;
/// Octets of a VLAN tag.
pub const VLAN_TAG: usize = 4;

/// Ethertype of IPv6.
pub const ETHERTYPE_IPV6: u16 = 0x86dd;
/// Ethertype of IPv4.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// Ethertype of ARP.
pub const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_VLAN: u16 = 0x8100;
/// Extension headers that are looked past; more are no honest packet.
pub(crate) const MOST_EXTENSION_HEADERS: usize = 8;

pub(crate) const HOP_BY_HOP: u8 = 0;
pub(crate) const ROUTING: u8 = 43;
pub(crate) const FRAGMENT: u8 = 44;
pub(crate) const AUTHENTICATION: u8 = 51;
pub(crate) const DESTINATION_OPTIONS: u8 = 60;

/// What a frame's Ethernet header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ethernet {
    /// Who sent it.
    pub source: [u8; 6],
    /// Octets in front of the packet: with a tag, 18.
    pub header: usize,
    /// Of the packet.
    pub ethertype: u16,
}

/// Reads the Ethernet header of a frame for `own` or for a group, tagged with `vlan` or not at all.
///
/// # Errors
/// The frame is too short, for another, or tagged otherwise; or it is for a group, and the IP packet in it for one.
#[inline]
pub fn ethernet(frame: &[u8], own: [u8; 6], vlan: Option<u16>) -> Result<Ethernet, DropReason> {
    let Some(header) = frame.first_chunk::<ETHERNET_HEADER>() else {
        return Err(DropReason::FrameTooShort);
    };
    let [d0, d1, d2, d3, d4, d5, ..] = *header;
    if [d0, d1, d2, d3, d4, d5] == own {
        behind_destination(frame, header, vlan)
    } else {
        to_a_group(frame, header, vlan)
    }
}

/// The same of a frame that is not for this port alone.
///
/// What a link-layer broadcast or multicast brings for one address, every router on the link has got; if each forwarded it,
/// there would be as many of it. It is dropped (RFC 1812 section 5.3.4, RFC 1122 section 3.3.6), and so it is where it is
/// IPv6: neighbour discovery and DHCPv6 send to groups what they send in such frames.
#[cold]
#[inline(never)]
fn to_a_group(
    frame: &[u8],
    header: &[u8; ETHERNET_HEADER],
    vlan: Option<u16>,
) -> Result<Ethernet, DropReason> {
    if header[0] & 1 == 0 {
        return Err(DropReason::NotForUs);
    }
    let ethernet = behind_destination(frame, header, vlan)?;
    // What is too short to say is no packet, and dropped as such.
    let is_for_one = match ethernet.ethertype {
        ETHERTYPE_IPV6 => frame
            .get(ethernet.header + 24)
            .is_some_and(|first| *first != 0xff),
        ETHERTYPE_IPV4 => frame.get(ethernet.header + 16).is_some_and(|first| *first < 224),
        _ => false,
    };
    if is_for_one {
        return Err(DropReason::LinkLayerBroadcast);
    }
    Ok(ethernet)
}

/// All of an Ethernet header but for whom it is.
#[inline(always)]
fn behind_destination(
    frame: &[u8],
    header: &[u8; ETHERNET_HEADER],
    vlan: Option<u16>,
) -> Result<Ethernet, DropReason> {
    let mut source = [0; 6];
    source.copy_from_slice(&header[6..12]);
    let mut ethertype = u16::from_be_bytes([header[12], header[13]]);
    let mut length = ETHERNET_HEADER;
    let tag = if ethertype == ETHERTYPE_VLAN {
        let tag = frame
            .get(ETHERNET_HEADER..ETHERNET_HEADER + VLAN_TAG)
            .ok_or(DropReason::FrameTooShort)?;
        let [c0, c1, e0, e1] = *tag else {
            return Err(DropReason::FrameTooShort);
        };
        ethertype = u16::from_be_bytes([e0, e1]);
        length += VLAN_TAG;
        Some(u16::from_be_bytes([c0, c1]) & 0x0fff)
    } else {
        None
    };
    if tag != vlan {
        return Err(DropReason::VlanMismatch);
    }
    Ok(Ethernet {
        source,
        header: length,
        ethertype,
    })
}

/// What a packet says, as far as forwarding needs it. That of IPv4 is told in the words of IPv6, its addresses
/// as IPv4-mapped ones (see [`super::ipv4`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Source address.
    pub source: u128,
    /// Destination address.
    pub destination: u128,
    /// Octets of the whole packet, header included.
    pub length: usize,
    /// As on the wire.
    pub hop_limit: u8,
    /// As on the wire.
    pub traffic_class: u8,
    /// Of the fixed header.
    pub next_header: u8,
}

/// Reads the fixed header of the packet that `octets` begins with; more octets may follow it.
///
/// # Errors
/// It is no IPv6 packet, or shorter than it says.
#[inline]
pub fn ipv6(octets: &[u8]) -> Result<Packet, DropReason> {
    Ok(Packet::of(whole_ipv6(octets)?))
}

/// The fixed header of the packet that `octets` begins with; more octets may follow the packet.
///
/// # Errors
/// It is no IPv6 packet, or shorter than it says.
#[inline]
pub fn whole_ipv6(octets: &[u8]) -> Result<&[u8; IPV6_HEADER], DropReason> {
    let header = fixed_header(octets)?;
    if length(header) > octets.len() {
        return Err(DropReason::Ipv6Malformed);
    }
    Ok(header)
}

/// Reads the fixed header that `octets` begins with, of a packet that may have been cut short.
///
/// # Errors
/// It is no IPv6 header.
#[inline]
pub fn ipv6_header(octets: &[u8]) -> Result<Packet, DropReason> {
    Ok(Packet::of(fixed_header(octets)?))
}

#[inline]
fn fixed_header(octets: &[u8]) -> Result<&[u8; IPV6_HEADER], DropReason> {
    let header = octets
        .first_chunk::<IPV6_HEADER>()
        .ok_or(DropReason::Ipv6Malformed)?;
    if header[0] >> 4 != 6 {
        return Err(DropReason::Ipv6Malformed);
    }
    Ok(header)
}

/// Octets of the packet with this header.
#[inline]
fn length(header: &[u8; IPV6_HEADER]) -> usize {
    IPV6_HEADER + usize::from(u16::from_be_bytes([header[4], header[5]]))
}

impl Packet {
    /// What an IPv6 header says.
    #[inline]
    #[must_use]
    pub fn of(header: &[u8; IPV6_HEADER]) -> Self {
        let address = |at: usize| {
            let mut address = [0; 16];
            address.copy_from_slice(&header[at..at + 16]);
            u128::from_be_bytes(address)
        };
        Self {
            source: address(8),
            destination: address(24),
            length: length(header),
            hop_limit: header[7],
            traffic_class: header[0] << 4 | header[1] >> 4,
            next_header: header[6],
        }
    }
}

/// What follows the extension headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpperLayer {
    /// Its protocol.
    pub next_header: u8,
    /// Where it begins, octets from the IPv6 header.
    pub offset: usize,
    /// It is a fragment that is not the first, so what is there is no header.
    pub later_fragment: bool,
    /// It is a fragment, the first or another; one that is the whole packet (RFC 6946) is none.
    pub fragment: bool,
}

/// Whether a header of this type has another one behind it.
#[inline]
#[must_use]
pub fn is_extension_header(next_header: u8) -> bool {
    matches!(
        next_header,
        HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION_OPTIONS
    )
}

/// Walks the extension headers of the packet in `octets` (all of it, and nothing behind it).
///
/// # Errors
/// One runs past the end, or there are too many.
#[inline]
pub fn upper_layer(octets: &[u8], first: u8) -> Result<UpperLayer, DropReason> {
    let mut next_header = first;
    let mut offset = IPV6_HEADER;
    let mut fragment = false;
    for _ in 0..=MOST_EXTENSION_HEADERS {
        let length = |octets: &[u8]| octets.get(offset + 1).map(|length| usize::from(*length));
        let size = match next_header {
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS => {
                (length(octets).ok_or(DropReason::ExtensionHeaderMalformed)? + 1) * 8
            }
            AUTHENTICATION => (length(octets).ok_or(DropReason::ExtensionHeaderMalformed)? + 2) * 4,
            FRAGMENT => {
                let Some([next, _, high, low]) = octets.get(offset..offset + 4) else {
                    return Err(DropReason::ExtensionHeaderMalformed);
                };
                if u16::from_be_bytes([*high, *low]) >> 3 != 0 {
                    return Ok(UpperLayer {
                        next_header: *next,
                        offset: offset + 8,
                        later_fragment: true,
                        fragment: true,
                    });
                }
                fragment |= low & 1 == 1;
                8
            }
            _ => {
                return Ok(UpperLayer {
                    next_header,
                    offset,
                    later_fragment: false,
                    fragment,
                });
            }
        };
        next_header = *octets.get(offset).ok_or(DropReason::ExtensionHeaderMalformed)?;
        offset += size;
        if offset > octets.len() {
            return Err(DropReason::ExtensionHeaderMalformed);
        }
    }
    Err(DropReason::ExtensionHeadersTooMany)
}

/// 2000::/3: of the addresses that nothing is odd about, nearly all that there are.
#[inline]
#[must_use]
pub fn is_plain(address: u128) -> bool {
    address >> 125 == 1
}

/// ff00::/8.
#[inline]
#[must_use]
pub fn is_multicast(address: u128) -> bool {
    address >> 120 == 0xff
}

/// A group that no router passes on: interface-local or link-local scope.
#[inline]
#[must_use]
pub fn is_link_scope_multicast(address: u128) -> bool {
    is_multicast(address) && matches!(address >> 112 & 0xf, 1 | 2)
}

/// fe80::/10.
#[inline]
#[must_use]
pub fn is_link_local(address: u128) -> bool {
    address >> 118 == 0x3fa
}

/// `::1`, or an IPv4 address in the guise of one of IPv6 (::/96 and ::ffff:0:0/96), `::` excluded.
#[inline]
#[must_use]
pub fn is_never_on_the_wire(address: u128) -> bool {
    address != 0 && (address >> 32 == 0 || address >> 32 == 0xffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_kinds() {
        let of = |text: &str| u128::from(text.parse::<std::net::Ipv6Addr>().unwrap());
        assert!(
            is_link_local(of("fe80::1")) && is_link_local(of("febf::1")) && !is_link_local(of("fec0::1"))
        );
        assert!(is_link_scope_multicast(of("ff02::1")) && is_link_scope_multicast(of("ff01::1")));
        assert!(!is_link_scope_multicast(of("ff05::1")) && is_multicast(of("ff05::1")));
        assert!(is_plain(of("2001:db8::1")) && is_plain(of("3fff::1")));
        for odd in [
            "::",
            "::1",
            "::ffff:1.2.3.4",
            "1fff::1",
            "4000::1",
            "fd00::1",
            "fe80::1",
            "ff02::1",
        ] {
            assert!(!is_plain(of(odd)), "{odd}");
        }
        assert!(is_never_on_the_wire(of("::1")) && is_never_on_the_wire(of("::ffff:1.2.3.4")));
        assert!(!is_never_on_the_wire(of("::")) && !is_never_on_the_wire(of("64:ff9b::1")));
    }

    #[test]
    fn extension_headers_are_walked_within_bounds() {
        let mut packet = vec![0x60; IPV6_HEADER];
        // Destination options of 8 octets, then IPv6.
        packet.extend_from_slice(&[41, 0, 4, 1, 4, 1, 1, 0]);
        let walk = |packet: &[u8], first| upper_layer(packet, first);
        let expected = UpperLayer {
            next_header: 41,
            offset: 48,
            later_fragment: false,
            fragment: false,
        };
        assert_eq!(walk(&packet, 60), Ok(expected));
        assert_eq!(walk(&packet, 17).map(|it| it.offset), Ok(40));
        for end in 40..48 {
            assert_eq!(
                walk(&packet[..end], 60),
                Err(DropReason::ExtensionHeaderMalformed),
                "{end}"
            );
        }
        packet[41] = 1;
        assert_eq!(walk(&packet, 60), Err(DropReason::ExtensionHeaderMalformed));
        let mut endless = vec![0x60; IPV6_HEADER];
        for _ in 0..10 {
            endless.extend_from_slice(&[60, 0, 1, 4, 0, 0, 0, 0]);
        }
        assert_eq!(walk(&endless, 60), Err(DropReason::ExtensionHeadersTooMany));
        let mut fragment = vec![0x60; IPV6_HEADER];
        fragment.extend_from_slice(&[17, 0, 0, 8, 0, 0, 0, 1]);
        assert!(walk(&fragment, 44).unwrap().later_fragment);
    }
}
