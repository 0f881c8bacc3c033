//! Packets, made by hand.

use std::net::{Ipv4Addr, Ipv6Addr};

use kedge_dataplane::stage::checksum::Sum;

use super::world::REMOTE;

/// An IPv4 address as the tables have it.
pub fn mapped(address: &str) -> Ipv6Addr {
    address.parse::<Ipv4Addr>().unwrap().to_ipv6_mapped()
}

/// An IPv4 packet with these options, whose length is a multiple of four.
pub fn ipv4(source: &str, destination: &str, protocol: u8, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let octets = |address: &str| address.parse::<Ipv4Addr>().unwrap().octets();
    let header = u8::try_from(20 + options.len()).unwrap();
    let length = u16::try_from(usize::from(header) + payload.len())
        .unwrap()
        .to_be_bytes();
    let fixed = [
        0x40 | (header / 4),
        0,
        length[0],
        length[1],
        0x12,
        0x34,
        0,
        0,
        61,
        protocol,
        0,
        0,
    ];
    let mut packet = [&fixed[..], &octets(source), &octets(destination), options].concat();
    let checksum = Sum::default().octets(&packet).checksum();
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    packet.extend_from_slice(payload);
    packet
}

/// An IPv4 packet after something in its header has been changed: the checksum is right again.
pub fn ipv4_changed(packet: &[u8], at: usize, to: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    packet[at..at + to.len()].copy_from_slice(to);
    packet[10..12].copy_from_slice(&[0, 0]);
    let header = usize::from(packet[0] & 15) * 4;
    let checksum = Sum::default().octets(&packet[..header]).checksum();
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    packet
}

/// A UDP packet to the GTP-U port, with a checksum or without.
pub fn gtpu4(
    source: &str,
    destination: &str,
    options: &[u8],
    message: &[u8],
    with_checksum: bool,
) -> Vec<u8> {
    let length = u16::try_from(message.len() + 8).unwrap().to_be_bytes();
    let udp = [&[0xc1, 0x23, 0x08, 0x68, length[0], length[1], 0, 0], message].concat();
    let mut packet = ipv4(source, destination, 17, options, &udp);
    if with_checksum {
        let at = 20 + options.len();
        let checksum = Sum::default()
            .octets(&packet[12..20])
            .octets(&packet[at..])
            .number(udp.len() as u64)
            .number(17)
            .udp_checksum();
        packet[at + 6..at + 8].copy_from_slice(&checksum.to_be_bytes());
    }
    packet
}

/// A G-PDU over IPv4, without a UDP checksum.
pub fn g_pdu4(source: &str, destination: &str, teid: u32, inner: &[u8]) -> Vec<u8> {
    let length = u16::try_from(inner.len()).unwrap().to_be_bytes();
    let header = [&[0x30, 255, length[0], length[1]][..], &teid.to_be_bytes()].concat();
    gtpu4(source, destination, &[], &[&header, inner].concat(), false)
}

/// A GRE packet with this header, its checksum filled in where there is one.
pub fn gre(source: &str, destination: &str, header: &[u8], inner: &[u8]) -> Vec<u8> {
    let mut octets = [header, inner].concat();
    if octets[0] & 0x80 != 0 {
        let checksum = Sum::default().octets(&octets).checksum();
        octets[4..6].copy_from_slice(&checksum.to_be_bytes());
    }
    ipv6(source, destination, 47, 64, &octets)
}

/// The same with a key and nothing else.
pub fn keyed(source: &str, destination: &str, key: u32, inner: &[u8]) -> Vec<u8> {
    let header = [&[0x20, 0, 0x86, 0xdd][..], &key.to_be_bytes()].concat();
    gre(source, destination, &header, inner)
}

/// With the ethertype of IPv4.
pub fn ethernet4(to: [u8; 6], from: [u8; 6], packet: &[u8]) -> Vec<u8> {
    [&to[..], &from[..], &[8, 0], packet].concat()
}

pub fn octets(address: &str) -> [u8; 16] {
    address.parse::<Ipv6Addr>().unwrap().octets()
}

pub fn ethernet(to: [u8; 6], from: [u8; 6], packet: &[u8]) -> Vec<u8> {
    [&to[..], &from[..], &[0x86, 0xdd], packet].concat()
}

pub fn ipv6(source: &str, destination: &str, next_header: u8, hop_limit: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
    let fixed = [0x60, 0, 0, 0, length[0], length[1], next_header, hop_limit];
    [&fixed[..], &octets(source), &octets(destination), payload].concat()
}

pub fn udp(source: &str, destination: &str, hop_limit: u8) -> Vec<u8> {
    ipv6(
        source,
        destination,
        17,
        hop_limit,
        &[0x30, 0x39, 0, 9, 0, 12, 0, 0, b'k', b'e', b'd', b'g'],
    )
}

/// A UDP packet of so many octets.
pub fn sized(source: &str, destination: &str, length: usize) -> Vec<u8> {
    ipv6(source, destination, 17, 64, &vec![0x4b; length - 40])
}

pub fn tunnelled(source: &str, destination: &str, inner: &[u8]) -> Vec<u8> {
    ipv6(source, destination, 41, 64, inner)
}

/// A UDP packet to the GTP-U port of `destination`, its checksum right.
pub fn gtpu(source: &str, destination: &str, message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len() + 8).unwrap().to_be_bytes();
    let udp = [&[0xc1, 0x23, 0x08, 0x68, length[0], length[1], 0, 0], message].concat();
    let mut packet = ipv6(source, destination, 17, 64, &udp);
    let checksum = Sum::default()
        .octets(&packet[8..])
        .number(udp.len() as u64)
        .number(17)
        .udp_checksum();
    packet[46..48].copy_from_slice(&checksum.to_be_bytes());
    packet
}

/// A G-PDU.
pub fn g_pdu(source: &str, destination: &str, teid: u32, inner: &[u8]) -> Vec<u8> {
    let length = u16::try_from(inner.len()).unwrap().to_be_bytes();
    let header = [&[0x30, 255, length[0], length[1]][..], &teid.to_be_bytes()].concat();
    gtpu(source, destination, &[&header, inner].concat())
}

/// A tunnelled packet with the tunnel encapsulation limit option in front, as Linux sends it.
pub fn with_options(tunnelled: &[u8]) -> Vec<u8> {
    let mut packet = tunnelled[..40].to_vec();
    let length = u16::from_be_bytes([packet[4], packet[5]]) + 8;
    packet[4..6].copy_from_slice(&length.to_be_bytes());
    packet[6] = 60;
    packet.extend_from_slice(&[41, 0, 4, 1, 4, 1, 1, 0]);
    packet.extend_from_slice(&tunnelled[40..]);
    packet
}

/// Destination options that run past the end.
pub fn bad_options(destination: &str) -> Vec<u8> {
    ipv6(REMOTE, destination, 60, 64, &[41, 9, 1, 4, 0, 0, 0, 0])
}

pub fn many_options(destination: &str) -> Vec<u8> {
    ipv6(REMOTE, destination, 60, 64, &[60, 0, 1, 4, 0, 0, 0, 0].repeat(12))
}

pub fn icmpv6_error(source: &str, destination: &str) -> Vec<u8> {
    ipv6(source, destination, 58, 64, &[1, 0, 0, 0, 0, 0, 0, 0])
}

/// What a router in the core says of a packet, its checksum right.
pub fn icmpv6(source: &str, destination: &str, header: [u8; 8], quoted: &[u8]) -> Vec<u8> {
    let mut packet = ipv6(source, destination, 58, 60, &[&header[..], quoted].concat());
    let sum = checksum(&packet).to_be_bytes();
    packet[42..44].copy_from_slice(&sum);
    packet
}

/// The same of ICMPv4.
pub fn icmpv4(source: &str, destination: &str, header: [u8; 8], quoted: &[u8]) -> Vec<u8> {
    let mut message = [&header[..], quoted].concat();
    let sum = Sum::default().octets(&message).checksum().to_be_bytes();
    message[2..4].copy_from_slice(&sum);
    ipv4(source, destination, 1, &[], &message)
}

pub fn echo_request(source: &str, destination: &str) -> Vec<u8> {
    ipv6(source, destination, 58, 64, &[128, 0, 0, 0, 0, 0, 0, 0])
}

/// The packet after one hop.
pub fn hop(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    packet[7] -= 1;
    packet
}

/// The sum over an ICMPv6 packet: zero if its checksum is right.
pub fn checksum(packet: &[u8]) -> u16 {
    let mut sum = u32::try_from(packet.len() - 40).unwrap() + 58;
    let mut octets = packet[8..].to_vec();
    if octets.len() % 2 == 1 {
        octets.push(0);
    }
    for pair in octets.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair[1]]));
    }
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
