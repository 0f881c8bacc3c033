//! Packets of IPv4 to be carried in tunnels of every type, and what is seen of them outside.

use std::net::Ipv4Addr;

use super::*;

/// Octets in front of an inner packet, by tunnel; the second takes 1,260 octets, whatever the path.
pub const OVERHEADS: [usize; 6] = [40, 40, 56, 36, 48, 44];

/// A UDP packet.
pub fn udp4(source: &str, destination: &str) -> Vec<u8> {
    let payload = [0x30, 0x39, 0, 9, 0, 12, 0, 0, b'k', b'e', b'd', b'g'];
    ipv4(source, destination, 17, &[], &payload)
}

/// One of so many octets, which may be cut or not.
pub fn sized4(source: &str, destination: &str, length: usize, dont_fragment: bool) -> Vec<u8> {
    let payload: Vec<u8> = (0..length - 20).map(|at| (at * 5 / 3) as u8).collect();
    let packet = ipv4(source, destination, 17, &[], &payload);
    ipv4_changed(&packet, 6, &[if dont_fragment { 0x40 } else { 0 }])
}

/// After one hop.
pub fn hop4(packet: &[u8]) -> Vec<u8> {
    ipv4_changed(packet, 8, &[packet[8] - 1])
}

/// As the peer of tunnel `tunnel` sends it, 1 to 6: a frame.
pub fn from_peer(tunnel: usize, inner: &[u8]) -> Vec<u8> {
    let gre_header = |key: Option<u32>| match key {
        Some(key) => [&[0x20, 0, 8, 0][..], &key.to_be_bytes()].concat(),
        None => vec![0, 0, 8, 0],
    };
    let packet = match tunnel {
        1 => ipv6(PEER, OWN, 4, 64, inner),
        2 => ipv6(NARROW_PEER, OWN, 4, 64, inner),
        3 => g_pdu(PEER, OWN, LOCAL_TEID, inner),
        4 => return to_core4(&g_pdu4(PEER4, OWN4, IPV4_LOCAL_TEID, inner)),
        5 => gre(PEER, OWN, &gre_header(Some(LOCAL_KEY)), inner),
        _ => gre(PEER, OWN, &gre_header(None), inner),
    };
    ethernet(CORE_MAC, ROUTER_MAC, &packet)
}

pub fn to_core4(packet: &[u8]) -> Vec<u8> {
    ethernet4(CORE_MAC, ROUTER_MAC, packet)
}

/// The frame in which a packet goes to the router.
pub fn to_router4(packet: &[u8]) -> Vec<u8> {
    ethernet4(ROUTER_MAC, CORE_MAC, packet)
}

/// What is inside of a frame that went into tunnel `tunnel`, whose outer headers are looked at; with the outer ECN bits.
pub fn inside(tunnel: usize, frame: &[u8]) -> (Vec<u8>, u8) {
    let overhead = OVERHEADS[tunnel - 1];
    let (outer, inner) = frame[14..].split_at(overhead);
    if tunnel == 4 {
        assert_eq!(frame[..14], to_router4(&[])[..]);
        assert!(Sum::default().octets(&outer[..20]).is_right());
        assert_eq!((outer[9], &outer[6..8]), (17, &[0x40, 0][..]));
        assert_eq!(outer[22..24], 2152u16.to_be_bytes());
        return (inner.to_vec(), outer[1] & 3);
    }
    assert_eq!(frame[..14], ethernet(ROUTER_MAC, CORE_MAC, &[])[..]);
    let remote = if tunnel == 2 { NARROW_PEER } else { PEER };
    assert_eq!(
        (&outer[8..24], &outer[24..40]),
        (&octets(OWN)[..], &octets(remote)[..])
    );
    let length = usize::from(u16::from_be_bytes([outer[4], outer[5]]));
    assert_eq!(length, overhead - 40 + inner.len());
    assert_ne!(u32::from_be_bytes(outer[..4].try_into().unwrap()) & 0xf_ffff, 0);
    match tunnel {
        1 | 2 => assert_eq!(outer[6], 4),
        3 => {
            assert_eq!((outer[6], &outer[48..50]), (17, &[0x30, 255][..]));
            assert_eq!(outer[52..56], REMOTE_TEID.to_be_bytes());
            let sum = Sum::default().octets(&frame[22..]).number(length as u64 + 17);
            assert!(sum.is_right());
        }
        5 => assert_eq!(
            outer[40..],
            [&[0x20, 0, 8, 0][..], &REMOTE_KEY.to_be_bytes()].concat()
        ),
        _ => assert_eq!(outer[40..], [0, 0, 8, 0]),
    }
    (inner.to_vec(), outer[1] >> 4 & 3)
}

/// An ICMPv4 error that went out plainly or into a tunnel: its type, code, MTU, and what it quotes.
pub fn told4(packet: &[u8], to: &str) -> ([u8; 2], u16, Vec<u8>) {
    assert!(packet.len() <= 576);
    assert_eq!((packet[0], packet[1], packet[9]), (0x45, 0xc0, 1));
    assert_eq!(packet[12..16], [192, 0, 2, 1], "the gateway's own IPv4 address");
    assert_eq!(packet[16..20], to.parse::<Ipv4Addr>().unwrap().octets());
    assert!(Sum::default().octets(&packet[..20]).is_right());
    assert!(Sum::default().octets(&packet[20..]).is_right());
    let mtu = u16::from_be_bytes([packet[26], packet[27]]);
    ([packet[20], packet[21]], mtu, packet[28..].to_vec())
}
