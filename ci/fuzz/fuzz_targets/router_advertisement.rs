//! A Router Advertisement as anyone may send it: it never panics, and what is read survives being sent.
#![no_main]

use std::net::Ipv6Addr;

use kedge_controlplane::wire::neighbour_discovery::{
    HOP_LIMIT, NeighbourDiscoveryError, RouterAdvertisement,
};
use libfuzzer_sys::fuzz_target;

const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0x200, 0x5eff, 0xfe00, 0x5213);
const NODE: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, 0xa01);

fuzz_target!(|octets: &[u8]| {
    let parse = |octets: &[u8]| RouterAdvertisement::parse(ROUTER, NODE, HOP_LIMIT, octets);
    let mut octets = octets.to_vec();
    if let Err(NeighbourDiscoveryError::Checksum { expected, .. }) = parse(&octets) {
        octets[2..4].copy_from_slice(&expected.to_be_bytes());
    }
    match parse(&octets) {
        Ok(message) => match message.emit(ROUTER, NODE) {
            Ok(emitted) => assert_eq!(parse(&emitted), Ok(message)),
            Err(error) => panic!("{message:?} was read but cannot be sent: {error}"),
        },
        Err(error) => {
            assert!(
                !matches!(error, NeighbourDiscoveryError::Checksum { .. }),
                "the expected checksum is not: {error}"
            );
        }
    }
});
