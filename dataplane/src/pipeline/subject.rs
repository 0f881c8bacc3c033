//! What a packet to an address of this node is about, as far as its headers tell.
//!
//! Asked only of what is for the node itself, where it is not forwarded: once where it came out of a tunnel, once where it goes to the
//! kernel.

use super::View;
use crate::drops::DropReason;
use crate::stage::parse::{self, ETHERTYPE_IPV4};
use crate::stage::{ipv4, mss};
use crate::tunnel::{error, gre, gtpu, ip6_in_ip6};

/// RFC 6275 section 6.1.
const MOBILITY_HEADER: u8 = 135;
/// The first of ICMPv6 that is neither an error nor an Echo: from here on it is about groups, neighbours and routers.
const AFTER_ECHO_REPLY: u8 = 130;
/// UDP ports of DHCPv6.
const DHCPV6_CLIENT: u16 = 546;
const DHCPV6_SERVER: u16 = 547;
/// TCP port of BGP.
const BGP: u16 = 179;

/// What it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// It is one in a tunnel.
    Tunnelled,
    /// The link: its neighbours, its routers, its groups.
    Link,
    /// Mobility Headers, GTP-U messages other than G-PDUs, DHCPv6, BGP.
    Signalling,
    /// Anything else; so are later fragments whose header does not tell.
    Other,
}

impl Subject {
    /// Of a packet of either version of IP.
    ///
    /// # Errors
    /// An extension header runs past the end, or there are too many.
    #[cold]
    pub(super) fn of(view: View<'_>) -> Result<Self, DropReason> {
        let octets = view.octets;
        let (next_header, offset, is_later) = if view.ethertype == ETHERTYPE_IPV4 {
            let (_, is_later) = ipv4::fragment(octets);
            (view.packet.next_header, ipv4::header_length(octets), is_later)
        } else {
            let upper = parse::upper_layer(octets, view.packet.next_header)?;
            (upper.next_header, upper.offset, upper.later_fragment)
        };
        let behind = octets.get(offset..).unwrap_or_default();
        Ok(match next_header {
            ip6_in_ip6::NEXT_HEADER | ip6_in_ip6::NEXT_HEADER_IPV4 | gre::NEXT_HEADER => Self::Tunnelled,
            MOBILITY_HEADER => Self::Signalling,
            _ if is_later => Self::Other,
            error::ICMPV6 => match behind.first() {
                Some(kind) if *kind < AFTER_ECHO_REPLY => Self::Other,
                _ => Self::Link,
            },
            gtpu::UDP => of_udp(behind),
            mss::TCP => match behind.first_chunk() {
                Some([s0, s1, d0, d1]) if ![[*s0, *s1], [*d0, *d1]].contains(&BGP.to_be_bytes()) => {
                    Self::Other
                }
                _ => Self::Signalling,
            },
            _ => Self::Other,
        })
    }
}

/// What is too short to say its port may be any of them: no honest first fragment is (RFC 7112).
fn of_udp(udp: &[u8]) -> Subject {
    let Some([_, _, high, low]) = udp.first_chunk() else {
        return Subject::Signalling;
    };
    match u16::from_be_bytes([*high, *low]) {
        gtpu::PORT => match udp.get(gtpu::UDP_HEADER + 1) {
            Some(&gtpu::message_type::G_PDU) | None => Subject::Tunnelled,
            Some(_) => Subject::Signalling,
        },
        DHCPV6_CLIENT | DHCPV6_SERVER => Subject::Signalling,
        _ => Subject::Other,
    }
}
