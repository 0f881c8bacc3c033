//! What both messages have in common: the checks of RFC 4861 section 6.1, and the options.

use std::net::Ipv6Addr;

use super::NeighbourDiscoveryError;
use crate::identity::LinkLayerAddress;
use crate::wire::checksum::PseudoHeader;

/// IPv6 next header of ICMPv6 (RFC 4443).
pub const NEXT_HEADER: u8 = 58;
/// What a message has to be sent with; less means that a router was between (RFC 4861 section 6.1).
pub const HOP_LIMIT: u8 = 255;
/// ICMPv6 type of a Router Solicitation.
pub const ROUTER_SOLICITATION: u8 = 133;
/// ICMPv6 type of a Router Advertisement.
pub const ROUTER_ADVERTISEMENT: u8 = 134;

/// Options are in units of 8 octets.
const UNIT: usize = 8;
const CHECKSUM_AT: usize = 2;

pub(super) mod option {
    pub(crate) const SOURCE_LINK_LAYER_ADDRESS: u8 = 1;
    pub(crate) const PREFIX_INFORMATION: u8 = 3;
    pub(crate) const MTU: u8 = 5;
}

/// Checks what RFC 4861 says for every message, and gives back its fixed part of `N` octets.
pub(super) fn check<const N: usize>(
    message: u8,
    source: Ipv6Addr,
    destination: Ipv6Addr,
    hop_limit: u8,
    octets: &[u8],
) -> Result<&[u8; N], NeighbourDiscoveryError> {
    if hop_limit != HOP_LIMIT {
        return Err(NeighbourDiscoveryError::HopLimit(hop_limit));
    }
    let Some((fixed, _)) = octets.split_first_chunk::<N>() else {
        return Err(NeighbourDiscoveryError::Truncated {
            octets: octets.len(),
            needed: N,
        });
    };
    PseudoHeader {
        source,
        destination,
        next_header: NEXT_HEADER,
    }
    .verify(octets, CHECKSUM_AT)
    .map_err(|mismatch| NeighbourDiscoveryError::Checksum {
        found: mismatch.found,
        expected: mismatch.expected,
    })?;
    match octets {
        [found, 0, ..] if *found == message => Ok(fixed),
        [found, code, ..] => Err(NeighbourDiscoveryError::Type {
            found: *found,
            code: *code,
            expected: message,
        }),
        _ => Err(NeighbourDiscoveryError::Truncated {
            octets: octets.len(),
            needed: N,
        }),
    }
}

/// One option as it stands in a message, of whatever type.
#[derive(Clone, Copy)]
pub(super) struct RawOption<'a> {
    pub(super) option: u8,
    /// Of its type octet, from the start of the message.
    offset: usize,
    /// In units of 8 octets, never 0.
    length: u8,
    /// What follows the length.
    data: &'a [u8],
}

/// The options from an offset to the end of the message.
pub(super) struct Options<'a> {
    octets: &'a [u8],
    offset: usize,
}

impl<'a> Options<'a> {
    pub(super) fn new(octets: &'a [u8], offset: usize) -> Self {
        Options {
            octets: octets.get(offset..).unwrap_or_default(),
            offset,
        }
    }
}

impl<'a> Iterator for Options<'a> {
    type Item = Result<RawOption<'a>, NeighbourDiscoveryError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (&option, rest) = self.octets.split_first()?;
        let (offset, size) = (
            self.offset,
            rest.first().map_or(0, |&length| usize::from(length) * UNIT),
        );
        let length = rest.first().copied().unwrap_or(0);
        let split = self
            .octets
            .split_at_checked(size)
            .filter(|(own, _)| !own.is_empty());
        let Some((own, rest)) = split else {
            // Nothing behind it can be told apart any more.
            self.octets = &[];
            return Some(Err(NeighbourDiscoveryError::Option {
                option,
                offset,
                length,
            }));
        };
        self.octets = rest;
        self.offset += size;
        Some(Ok(RawOption {
            option,
            offset,
            length,
            data: own.get(2..).unwrap_or_default(),
        }))
    }
}

impl RawOption<'_> {
    /// The data, if there are as many octets as this kind of option has.
    pub(super) fn array<const N: usize>(self) -> Result<[u8; N], NeighbourDiscoveryError> {
        self.data.try_into().map_err(|_| NeighbourDiscoveryError::Option {
            option: self.option,
            offset: self.offset,
            length: self.length,
        })
    }

    pub(super) fn link_layer_address(self) -> Result<LinkLayerAddress, NeighbourDiscoveryError> {
        self.array().map(LinkLayerAddress)
    }
}

/// Appends a source link-layer address option (RFC 4861 section 4.6.1).
pub(super) fn push_link_layer_address(octets: &mut Vec<u8>, address: Option<LinkLayerAddress>) {
    if let Some(LinkLayerAddress(address)) = address {
        octets.extend([option::SOURCE_LINK_LAYER_ADDRESS, 1]);
        octets.extend(address);
    }
}

/// Writes the checksum of a whole message, whose field is still zero.
pub(super) fn write_checksum(source: Ipv6Addr, destination: Ipv6Addr, octets: &mut [u8]) {
    let checksum = PseudoHeader {
        source,
        destination,
        next_header: NEXT_HEADER,
    }
    .checksum(octets, CHECKSUM_AT);
    if let Some(field) = octets.get_mut(CHECKSUM_AT..CHECKSUM_AT + 2) {
        field.copy_from_slice(&checksum.to_be_bytes());
    }
}
