//! Addresses of both IP versions in one table: an IPv4 address is there as its IPv4-mapped form.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::Ipv6Net;

use crate::stage::parse::{ETHERTYPE_IPV4, ETHERTYPE_IPV6};

/// Bits in front of the IPv4 address in an IPv4-mapped one (RFC 4291 section 2.5.5.2).
pub(super) const MAPPED_LENGTH: u8 = 96;

/// ::ffff:0:0/96, in which all IPv4 addresses are.
pub(super) fn all_of_ipv4() -> Ipv6Net {
    // No mask is longer than 128 bits.
    Ipv6Net::new(Ipv4Addr::UNSPECIFIED.to_ipv6_mapped(), MAPPED_LENGTH).unwrap_or_default()
}

/// Whether all of a prefix is IPv4.
pub(super) fn is_ipv4_prefix(prefix: Ipv6Net) -> bool {
    prefix.prefix_len() >= MAPPED_LENGTH && is_ipv4(prefix.addr())
}

/// Whether this is an IPv4 address, which in the tables is its IPv4-mapped form.
pub(super) fn is_ipv4(address: Ipv6Addr) -> bool {
    address.to_ipv4_mapped().is_some()
}

/// Of the outer packets between this address and another of its version.
pub(super) fn ethertype(address: Ipv6Addr) -> u16 {
    if is_ipv4(address) {
        ETHERTYPE_IPV4
    } else {
        ETHERTYPE_IPV6
    }
}

pub(super) fn is_unicast(address: Ipv6Addr) -> bool {
    let address = address.to_canonical();
    !(address.is_multicast() || address.is_unspecified() || address == IpAddr::V4(Ipv4Addr::BROADCAST))
}

pub(super) fn is_global_unicast(address: Ipv6Addr) -> bool {
    let link_local = match address.to_canonical() {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    is_unicast(address) && !address.to_canonical().is_loopback() && !link_local
}

/// As people write it.
pub(super) fn shown(address: Ipv6Addr) -> IpAddr {
    address.to_canonical()
}

pub(super) fn shown_prefix(prefix: Ipv6Net) -> String {
    match (
        prefix.addr().to_ipv4_mapped(),
        prefix.prefix_len().checked_sub(MAPPED_LENGTH),
    ) {
        (Some(address), Some(length)) => format!("{address}/{length}"),
        _ => prefix.to_string(),
    }
}
