//! What filters look at in a packet.

use crate::stage::ipv4;
use crate::stage::parse::{IPV6_HEADER, Packet, upper_layer};

/// Protocols whose headers begin with two ports: TCP, UDP, DCCP, SCTP, UDP-Lite.
const WITH_PORTS: [u8; 5] = [6, 17, 33, 132, 136];

/// Of one packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    /// Source address.
    pub source: u128,
    /// Destination address.
    pub destination: u128,
    /// Traffic class.
    pub traffic_class: u8,
    /// 20 bits; 0 in IPv4.
    pub flow_label: u32,
    /// Behind all extension headers; `None` where they cannot be read.
    pub protocol: Option<u8>,
    /// Source and destination port; `None` where the protocol has none, and in fragments but the first.
    pub ports: Option<(u16, u16)>,
    /// A fragment that is not the first: it has no ports, whatever its protocol.
    pub later_fragment: bool,
}

impl Fields {
    /// Reads what follows the fixed header, which is in `packet` already.
    #[inline]
    #[must_use]
    pub fn read(octets: &[u8], packet: &Packet) -> Self {
        let first = octets.first_chunk::<4>().copied().unwrap_or_default();
        let mut fields = Self {
            source: packet.source,
            destination: packet.destination,
            traffic_class: packet.traffic_class,
            flow_label: u32::from_be_bytes(first) & 0x000f_ffff,
            ..Self::default()
        };
        if first[0] >> 4 == 4 {
            fields.read_ipv4(octets, packet.next_header);
            return fields;
        }
        // Most packets have no extension header.
        let (protocol, offset) = if WITH_PORTS.contains(&packet.next_header) {
            (packet.next_header, IPV6_HEADER)
        } else {
            let Ok(upper) = upper_layer(octets, packet.next_header) else {
                return fields;
            };
            fields.later_fragment = upper.later_fragment;
            (upper.next_header, upper.offset)
        };
        fields.upper_layer(octets, protocol, offset);
        fields
    }

    /// The same of IPv4, which has no flow label.
    #[inline(never)]
    fn read_ipv4(&mut self, octets: &[u8], protocol: u8) {
        self.flow_label = 0;
        self.later_fragment = ipv4::fragment(octets).1;
        self.upper_layer(octets, protocol, ipv4::header_length(octets));
    }

    #[inline]
    fn upper_layer(&mut self, octets: &[u8], protocol: u8, offset: usize) {
        self.protocol = Some(protocol);
        if !self.later_fragment
            && WITH_PORTS.contains(&protocol)
            && let Some([s0, s1, d0, d1]) = octets.get(offset..offset + 4)
        {
            self.ports = Some((u16::from_be_bytes([*s0, *s1]), u16::from_be_bytes([*d0, *d1])));
        }
    }
}

/// Whether packets of a protocol have ports.
pub(crate) fn has_ports(protocol: u8) -> bool {
    WITH_PORTS.contains(&protocol)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stage::parse::ipv6;

    fn packet(next_header: u8, rest: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x6a, 0xb1, 0x23, 0x45, 0, rest.len() as u8, next_header, 64];
        packet.extend_from_slice(&[0x20; 16]);
        packet.extend_from_slice(&[0x30; 16]);
        packet.extend_from_slice(rest);
        packet
    }

    fn fields(next_header: u8, rest: &[u8]) -> Fields {
        let packet = packet(next_header, rest);
        Fields::read(&packet, &ipv6(&packet).unwrap())
    }

    #[test]
    fn ports_are_found_behind_extension_headers() {
        let tcp = [0x12, 0x34, 0x56, 0x78, 0, 0, 0, 0];
        let plain = fields(6, &tcp);
        assert_eq!(
            (plain.traffic_class, plain.flow_label, plain.protocol, plain.ports),
            (0xab, 0x12345, Some(6), Some((0x1234, 0x5678)))
        );
        let options = [[6, 0, 1, 4, 0, 0, 0, 0], tcp].concat();
        assert_eq!(fields(60, &options), plain);
        let first_fragment = [[6, 0, 0, 1, 0, 0, 0, 9], tcp].concat();
        assert_eq!(fields(44, &first_fragment), plain);
    }

    #[test]
    fn ports_are_found_behind_options_of_ipv4() {
        let mut packet = vec![
            0x46, 0xab, 0, 28, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 148, 4, 0, 0,
        ];
        packet.extend_from_slice(&[0x12, 0x34, 0x56, 0x78]);
        let sum = crate::stage::checksum::Sum::default()
            .octets(&packet[..24])
            .checksum();
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        let read = |packet: &[u8]| Fields::read(packet, &ipv4::read(packet).unwrap());
        let fields = read(&packet);
        assert_eq!(
            (
                fields.traffic_class,
                fields.flow_label,
                fields.protocol,
                fields.ports
            ),
            (0xab, 0, Some(6), Some((0x1234, 0x5678)))
        );
        assert_eq!(fields.source, ipv4::mapped([10, 0, 0, 1]));
        ipv4::set_word(&mut packet, 6, 1);
        let later = read(&packet);
        assert!(later.later_fragment && later.protocol == Some(6) && later.ports.is_none());
    }

    #[test]
    fn what_is_not_there_is_not_made_up() {
        let later = fields(44, &[17, 0, 0, 8, 0, 0, 0, 9, 0, 1, 0, 2]);
        assert!(later.later_fragment && later.protocol == Some(17) && later.ports.is_none());
        let icmpv6 = fields(58, &[128, 0, 1, 2]);
        assert!(icmpv6.protocol == Some(58) && icmpv6.ports.is_none());
        let cut = fields(17, &[0, 1, 0]);
        assert!(cut.protocol == Some(17) && cut.ports.is_none());
        let malformed = fields(60, &[6, 9, 0, 0]);
        assert!(malformed.protocol.is_none() && malformed.ports.is_none());
    }
}
