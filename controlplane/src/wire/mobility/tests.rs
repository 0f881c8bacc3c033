//! Golden octets, malformed ones, and round trips.

mod golden;
mod header;
mod options;
mod round_trip;

use std::net::Ipv6Addr;

use ipnet::Ipv6Net;
use kedge_config::{AppliesTo, FilterAction, FlowDirection, Ports};

use super::registry::{CHECKSUM_AT, NEXT_HEADER};
use super::*;
use crate::wire::checksum::PseudoHeader;

fn address(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

fn prefix(text: &str) -> Ipv6Net {
    text.parse().unwrap()
}

/// The MAAR where the node was first.
fn maar_1() -> Ipv6Addr {
    address("2001:db8:a::1")
}

fn maar_2() -> Ipv6Addr {
    address("2001:db8:b::1")
}

fn cmd() -> Ipv6Addr {
    address("2001:db8:c::1")
}

fn octets(hexadecimal: &str) -> Vec<u8> {
    assert_eq!(hexadecimal.len() % 2, 0);
    (0..hexadecimal.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hexadecimal[at..at + 2], 16).unwrap())
        .collect()
}

/// Writes the checksum that `octets` from MAAR 1 to the CMD need.
fn with_checksum(mut octets: Vec<u8>) -> Vec<u8> {
    let checksum = PseudoHeader {
        source: maar_1(),
        destination: cmd(),
        next_header: NEXT_HEADER,
    }
    .checksum(&octets, CHECKSUM_AT);
    octets[CHECKSUM_AT..CHECKSUM_AT + 2].copy_from_slice(&checksum.to_be_bytes());
    octets
}

/// Parses `octets` from MAAR 1 to the CMD after writing their checksum.
fn parse_fixed_up(octets: Vec<u8>) -> Result<MobilityMessage, MobilityError> {
    parse(maar_1(), cmd(), &with_checksum(octets))
}

/// A header of `mh_type` with the octets after its checksum, Header Len fitting.
fn header(mh_type: u8, rest: &[u8]) -> Vec<u8> {
    let mut octets = vec![59, 0, mh_type, 0, 0, 0];
    octets.extend_from_slice(rest);
    assert_eq!(octets.len() % 8, 0, "a test writes whole units of 8 octets");
    octets[1] = u8::try_from(octets.len() / 8 - 1).unwrap();
    octets
}

/// An update with P and D and these octets as options, padded at the end.
fn update_with(options: &[u8]) -> Vec<u8> {
    let mut rest = vec![0, 1, 0x82, 0x10, 0, 150];
    rest.extend_from_slice(options);
    while (rest.len() + 6) % 8 != 0 {
        rest.push(0);
    }
    header(5, &rest)
}

fn parse_update_with(options: &[u8]) -> Result<MobilityOptions, MobilityError> {
    match parse_fixed_up(update_with(options))? {
        MobilityMessage::ProxyBindingUpdate(update) => Ok(update.options),
        other => panic!("{other:?} is no update"),
    }
}
