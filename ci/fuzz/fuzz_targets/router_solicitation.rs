//! A Router Solicitation as a node may send it: it never panics, and what is read survives being sent.
#![no_main]

use std::net::Ipv6Addr;

use kedge_controlplane::wire::neighbour_discovery::{HOP_LIMIT, NeighbourDiscoveryError, RouterSolicitation};
use libfuzzer_sys::fuzz_target;

const NODE: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, 0xa01);
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

fuzz_target!(|octets: &[u8]| {
    for source in [NODE, Ipv6Addr::UNSPECIFIED] {
        check(source, octets.to_vec());
    }
});

fn check(source: Ipv6Addr, mut octets: Vec<u8>) {
    let parse = |octets: &[u8]| RouterSolicitation::parse(source, ALL_ROUTERS, HOP_LIMIT, octets);
    if let Err(NeighbourDiscoveryError::Checksum { expected, .. }) = parse(&octets) {
        octets[2..4].copy_from_slice(&expected.to_be_bytes());
    }
    match parse(&octets) {
        Ok(message) => assert_eq!(parse(&message.emit(source, ALL_ROUTERS)), Ok(message)),
        Err(error) => {
            assert!(
                !matches!(error, NeighbourDiscoveryError::Checksum { .. }),
                "the expected checksum is not: {error}"
            );
        }
    }
}
