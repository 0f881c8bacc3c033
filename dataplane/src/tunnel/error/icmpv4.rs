//! The same of ICMPv4 (RFC 792, RFC 1191): errors about outer packets of GTP-U over IPv4.
//!
//! What such an error says is put into the words of ICMPv6: from there on there is one way for both.
//!
//! A router need quote no more than eight octets behind the IPv4 header (RFC 792), and many do that, though RFC 1812 section
//! 4.3.2.3 asks for as much as fits. So little has neither the TEID nor the inner packet: it is [`Carried::Unknown`].
//! All in it but the number of the flow can be known to anyone who knows the two ends of the path. If it were not believed,
//! nothing large would come through behind such a router, and nobody would be told why; if it were believed as the others
//! are, a stranger could have packets of 1,280 octets go in fragments, which not every peer puts together: Kedge's own have to be told
//! to, and there are networks that let none through. So it counts for the path, as one that is not proven, and what nobody makes smaller for
//! it then goes whole, and may be cut on its way (RFC 4213 section 3.2.2): by a router that said the truth it is, and else by none. A stranger
//! makes packets smaller, to what every node takes ([`TunnelError::least_mtu`]), and stops none.

use super::{
    Carried, DESTINATION_UNREACHABLE, ICMP_HEADER, PACKET_TOO_BIG, PARAMETER_PROBLEM, TIME_EXCEEDED,
    TunnelError,
};
use crate::stage::ipv4;
use crate::stage::parse::{self, ETHERTYPE_IPV4};
use crate::tunnel::{gtpu, outer};

/// Protocol of ICMPv4.
pub const PROTOCOL: u8 = 1;

const KIND_UNREACHABLE: u8 = 3;
const PROTOCOL_UNREACHABLE: u8 = 2;
const PORT_UNREACHABLE: u8 = 3;
const FRAGMENTATION_NEEDED: u8 = 4;
const KIND_TIME_EXCEEDED: u8 = 11;
const KIND_PARAMETER_PROBLEM: u8 = 12;

/// MTUs that links have, for routers that tell none (RFC 1191 section 7.1); the largest that a packet may have is no news.
const PLATEAUS: [u16; 10] = [32_000, 17_914, 8166, 4352, 2002, 1492, 1006, 508, 296, 68];

/// Reads an ICMPv4 message; `None` if it is no error, or does not quote a packet in a tunnel as we make them. What quotes
/// too little to tell is taken for one if it is about a path's MTU; else nobody could be told anything of it.
#[must_use]
pub fn read(message: &[u8]) -> Option<TunnelError> {
    let (header, behind) = message.split_first_chunk::<ICMP_HEADER>()?;
    let [kind, code, _, _, _, words, m0, m1] = *header;
    if !matches!(
        kind,
        KIND_UNREACHABLE | KIND_TIME_EXCEEDED | KIND_PARAMETER_PROBLEM
    ) {
        return None;
    }
    // Where there is a length, what is behind it are extensions (RFC 4884 section 5.1).
    let quoted = match usize::from(words) * 4 {
        0 => behind,
        length => behind.get(..length)?,
    };
    let outer = ipv4::read_quoted(quoted)?;
    // As we send them: whole and not to be cut; or what may be cut, of which nobody says that it is too large.
    let (is_fragment, is_later) = ipv4::fragment(quoted);
    let needs_fragmentation = (kind, code) == (KIND_UNREACHABLE, FRAGMENTATION_NEEDED);
    if ipv4::header_length(quoted) != ipv4::HEADER
        || outer.next_header != gtpu::UDP
        || is_later
        || (if ipv4::dont_fragment(quoted) {
            is_fragment
        } else {
            needs_fragmentation
        })
    {
        return None;
    }
    let udp = quoted.get(ipv4::HEADER..)?;
    let [s0, s1, p0, p1, l0, l1, ..] = *udp.first_chunk::<{ gtpu::UDP_HEADER }>()?;
    let whole = usize::from(u16::from_be_bytes([l0, l1])) + ipv4::HEADER;
    if u16::from_be_bytes([p0, p1]) != gtpu::PORT
        || !outer::is_source_port(u16::from_be_bytes([s0, s1]))
        || (if is_fragment {
            whole <= outer.length
        } else {
            whole != outer.length
        })
    {
        return None;
    }
    let (kind, code, parameter) = match (kind, code) {
        (KIND_UNREACHABLE, FRAGMENTATION_NEEDED) => {
            let mtu = next_hop_mtu(u16::from_be_bytes([m0, m1]), outer.length);
            (PACKET_TOO_BIG, 0, u32::from(mtu))
        }
        // The peer says so, of itself, and not of the way to the node: whether it takes G-PDUs is what Echo Requests find out. And where
        // its data plane has the packets from a packet socket, its kernel gets them too, and says this as long as its control plane,
        // whose port it is, is not there, while they are delivered.
        (KIND_UNREACHABLE, code @ (PROTOCOL_UNREACHABLE | PORT_UNREACHABLE)) => (PARAMETER_PROBLEM, code, 0),
        (KIND_UNREACHABLE, code) => (DESTINATION_UNREACHABLE, code, 0),
        (KIND_TIME_EXCEEDED, code) => (TIME_EXCEEDED, code, 0),
        // What it points to is our own doing.
        (_, code) => (PARAMETER_PROBLEM, code, 0),
    };
    let (carried, front) = match carried(udp)? {
        (Carried::Unknown, _) if kind != PACKET_TOO_BIG => return None,
        told => told,
    };
    Some(TunnelError {
        kind,
        code,
        parameter,
        ethertype: ETHERTYPE_IPV4,
        source: outer.source,
        destination: outer.destination,
        length: outer.length,
        carried,
        offset: ICMP_HEADER + ipv4::HEADER + front,
        end: ICMP_HEADER + quoted.len(),
    })
}

/// What is behind a UDP header, and where the inner packet begins, octets from that header; `None`: no G-PDU.
fn carried(udp: &[u8]) -> Option<(Carried, usize)> {
    const BEFORE_INNER: usize = gtpu::UDP_HEADER + gtpu::HEADER;
    let unknown = (Carried::Unknown, udp.len());
    if udp.len() < BEFORE_INNER {
        return Some(unknown);
    }
    let (teid, source_port, front) = gtpu::peek_g_pdu(udp)?;
    let inner = udp.get(front..).unwrap_or_default();
    // Without addresses it leads to no tunnel.
    if ipv4::read_quoted(inner).is_none() && parse::ipv6_header(inner).is_err() {
        return Some(unknown);
    }
    Some((Carried::GPdu { teid, source_port }, front))
}

/// What the next hop takes of a packet of `length` octets, by its own word; else, by that of experience.
fn next_hop_mtu(told: u16, length: usize) -> u16 {
    if told != 0 {
        return told;
    }
    let less = PLATEAUS.into_iter().find(|it| usize::from(*it) < length);
    less.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_tells_no_mtu_has_one_of_those_that_links_have() {
        assert_eq!(next_hop_mtu(1400, 1500), 1400);
        let cases = [
            (9000, 8166),
            (1500, 1492),
            (1493, 1492),
            (1492, 1006),
            (508, 296),
            (68, 0),
        ];
        for (length, expected) in cases {
            assert_eq!(next_hop_mtu(0, length), expected, "{length}");
        }
    }
}
