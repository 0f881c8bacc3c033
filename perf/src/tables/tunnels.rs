//! The tunnels of a case, and what their peers send.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;

use kedge_dataplane::stage::parse::{ETHERTYPE_IPV4, ETHERTYPE_IPV6};
use kedge_dataplane::tunnel::{gre, gtpu, ip6_in_ip6};
use kedge_dataplane_api::model::{Encapsulation, Gre, GtpU, Tunnel};

use super::{GATEWAY, PEER};
use crate::forward::Case;
use crate::frames::{self, Template, TunnelNumber, tunnel_key};
use crate::gateway::MOST_TUNNELS;

/// The gateway, for tunnels over IPv4.
pub(super) const GATEWAY4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The router that leads to peers over IPv4.
pub(super) const ROUTER4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 254);
/// The other end of all of these.
const PEER4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

const HOP_LIMIT: u8 = 64;
/// Octets of an IPv6 header, and of an IPv4 header without options.
const IPV6: usize = 40;
const IPV4: usize = 20;
/// From the UDP header to the TEID, and from the GRE header to the key.
const TEID: usize = 8 + 4;
const KEY: usize = 4;
/// From an IPv6 header to the octets of its source that count prefixes.
const NUMBER_IN_SOURCE: usize = 8 + 5;

/// The tunnels of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tunnels {
    /// There are none.
    None,
    /// IPv6-in-IPv6, to so many peers.
    Ipv6InIpv6(usize),
    /// GTP-U, so many to one peer.
    GtpU(usize),
    /// The same over IPv4.
    GtpUInIpv4(usize),
    /// GRE, so many to one peer.
    Gre(usize),
}

impl Tunnels {
    /// With so many prefixes.
    pub(super) fn of(case: Case, prefixes: usize) -> Self {
        match case {
            Case::Plain => Self::None,
            Case::Encapsulate | Case::Decapsulate | Case::Filters100 | Case::Filters10000 | Case::Meter => {
                Self::Ipv6InIpv6(prefixes.min(MOST_TUNNELS))
            }
            Case::GtpuEncapsulate | Case::GtpuDecapsulate => Self::GtpU(prefixes),
            Case::Gtpu4Encapsulate | Case::Gtpu4Decapsulate => Self::GtpUInIpv4(prefixes),
            Case::GreEncapsulate | Case::GreDecapsulate => Self::Gre(prefixes),
        }
    }

    /// How many.
    pub(super) fn count(self) -> usize {
        match self {
            Self::None => 0,
            Self::Ipv6InIpv6(count) | Self::GtpU(count) | Self::GtpUInIpv4(count) | Self::Gre(count) => count,
        }
    }

    /// Number `number` of them.
    pub(super) fn tunnel(self, number: usize) -> Tunnel {
        let tunnel = Tunnel {
            encapsulation: Encapsulation::Ipv6InIpv6,
            local: GATEWAY,
            remote: PEER,
            hop_limit: HOP_LIMIT,
            mtu: 0,
            encapsulation_limit: None,
            dscp: kedge_dataplane_api::model::Dscp::default(),
        };
        match self {
            Self::None | Self::Ipv6InIpv6(_) => Tunnel {
                remote: peer(number),
                ..tunnel
            },
            Self::GtpU(_) => Tunnel {
                encapsulation: Encapsulation::GtpU(gtpu_of(number)),
                ..tunnel
            },
            Self::GtpUInIpv4(_) => Tunnel {
                encapsulation: Encapsulation::GtpU(gtpu_of(number)),
                local: GATEWAY4.to_ipv6_mapped(),
                remote: PEER4.to_ipv6_mapped(),
                ..tunnel
            },
            Self::Gre(_) => Tunnel {
                encapsulation: Encapsulation::Gre(gre_of(number)),
                ..tunnel
            },
        }
    }

    /// What the peers send with these packets in the tunnels of their prefixes.
    pub(super) fn wrap(self, template: Template) -> Template {
        let inner = template.packet().to_vec();
        let tunnel = self.tunnel(0);
        // They are the peer's: from its end to ours.
        let (from, to) = (tunnel.remote.octets(), tunnel.local.octets());
        let with_room = |octets: usize| {
            let mut packet = vec![0; octets];
            packet.extend_from_slice(&inner);
            packet
        };
        // None of them is too long to be written.
        match tunnel.encapsulation {
            _ if self.count() == 0 => template,
            Encapsulation::Ipv6InIpv6 => {
                let mut packet = Vec::new();
                let header = ip6_in_ip6::outer_header(&from, &to, HOP_LIMIT, &inner);
                packet.extend_from_slice(&header.unwrap_or([0; IPV6]));
                packet.extend_from_slice(&inner);
                let number = TunnelNumber::Peer {
                    at: NUMBER_IN_SOURCE,
                    count: u32::try_from(self.count()).unwrap_or(u32::MAX),
                };
                template.in_tunnels(&packet, ETHERTYPE_IPV6, number, None)
            }
            Encapsulation::GtpU(it) if matches!(self, Self::GtpUInIpv4(_)) => {
                let mut packet = with_room(gtpu::overhead_in_ipv4(&it));
                let _ = gtpu::encapsulate_in_ipv4(&mut packet, &from, &to, HOP_LIMIT, &it, 0);
                template.in_tunnels(
                    &packet,
                    ETHERTYPE_IPV4,
                    TunnelNumber::Key { at: IPV4 + TEID },
                    None,
                )
            }
            Encapsulation::GtpU(it) => {
                let mut packet = with_room(gtpu::overhead(&it));
                let _ = gtpu::encapsulate(&mut packet, &from, &to, HOP_LIMIT, &it, 0);
                let number = TunnelNumber::Key { at: IPV6 + TEID };
                template.in_tunnels(&packet, ETHERTYPE_IPV6, number, Some(IPV6))
            }
            Encapsulation::Gre(it) => {
                let mut packet = with_room(gre::overhead(&it));
                let _ = gre::encapsulate(&mut packet, &from, &to, HOP_LIMIT, &it);
                template.in_tunnels(
                    &packet,
                    ETHERTYPE_IPV6,
                    TunnelNumber::Key { at: IPV6 + KEY },
                    None,
                )
            }
        }
    }
}

/// Peer number `number`.
fn peer(number: usize) -> Ipv6Addr {
    let mut octets = frames::prefix(PEER, number).octets();
    octets[15] = 1;
    octets.into()
}

/// One number for both ends.
fn key(number: usize) -> u32 {
    tunnel_key(u32::try_from(number).unwrap_or(u32::MAX - 1))
}

fn gtpu_of(number: usize) -> GtpU {
    let teid = NonZeroU32::new(key(number)).unwrap_or(NonZeroU32::MAX);
    GtpU {
        local_teid: teid,
        remote_teid: teid,
        pdu_session: None,
        sequence_numbers: false,
    }
}

fn gre_of(number: usize) -> Gre {
    let key = Some(key(number));
    Gre {
        local_key: key,
        remote_key: key,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::Stamp;
    use crate::tables::template;

    /// What is sent is what the peer of the tunnel of its prefix would send, checksums and all.
    #[test]
    fn each_packet_is_in_the_tunnel_of_its_prefix() {
        const COUNT: usize = 300;
        let cases = [
            (Case::Decapsulate, IPV6),
            (Case::GtpuDecapsulate, 56),
            (Case::Gtpu4Decapsulate, 36),
            (Case::GreDecapsulate, 48),
        ];
        for (case, front) in cases {
            let tunnels = Tunnels::of(case, COUNT);
            let template = template(case, tunnels, [2; 6], COUNT);
            let mut cursor = template.cursor();
            for number in 0..COUNT as u64 {
                let mut octets = vec![0; template.len()];
                template.write(
                    &mut octets,
                    &mut cursor,
                    Stamp {
                        number,
                        cycles: number,
                    },
                );
                let inner = &octets[14 + front..];
                assert_eq!(inner[..8], [0x60, 0, 0, 0, 0, 24, 17, 64], "{case:?}");
                let prefix = usize::from(u16::from_be_bytes([inner[14], inner[15]]));
                let tunnel = tunnels.tunnel(prefix);
                let mut expected = vec![0; front];
                expected.extend_from_slice(inner);
                let (from, to) = (tunnel.remote.octets(), tunnel.local.octets());
                match &tunnel.encapsulation {
                    Encapsulation::Ipv6InIpv6 => {
                        let header = ip6_in_ip6::outer_header(&from, &to, HOP_LIMIT, inner).unwrap();
                        expected[..IPV6].copy_from_slice(&header);
                    }
                    Encapsulation::GtpU(it) if case == Case::Gtpu4Decapsulate => {
                        assert!(gtpu::encapsulate_in_ipv4(
                            &mut expected,
                            &from,
                            &to,
                            HOP_LIMIT,
                            it,
                            0
                        ));
                    }
                    Encapsulation::GtpU(it) => {
                        assert!(gtpu::encapsulate(&mut expected, &from, &to, HOP_LIMIT, it, 0));
                        let sum = |octets: &[u8]| {
                            kedge_dataplane::stage::checksum::Sum::default()
                                .octets(&octets[8..])
                                .number((octets.len() - IPV6) as u64 + 17)
                                .is_right()
                        };
                        assert!(sum(&octets[14..]) && sum(&expected));
                    }
                    Encapsulation::Gre(it) => {
                        assert!(gre::encapsulate(&mut expected, &from, &to, HOP_LIMIT, it));
                    }
                }
                // All of a tunnel are one flow outside here: flow label, source port, and the checksum with them, and
                // the hop limit's, are not compared.
                let mut sent = octets[14..].to_vec();
                for packet in [&mut sent, &mut expected] {
                    match case {
                        Case::Gtpu4Decapsulate => packet[20..22].fill(0),
                        _ => packet[1..4].fill(0),
                    }
                    if case == Case::GtpuDecapsulate {
                        packet[40..42].fill(0);
                        packet[46..48].fill(0);
                    }
                }
                assert_eq!(sent, expected, "{case:?}, prefix {prefix}");
            }
        }
    }
}
