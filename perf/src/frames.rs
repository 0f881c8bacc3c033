//! The frames that the generator sends: one template, and what differs between packets.

use std::net::Ipv6Addr;

use ipnet::Ipv6Net;
use kedge_dataplane::stage::checksum::Sum;
use kedge_dataplane_api::path_end;
use serde::{Deserialize, Serialize};

/// Octets of a plain frame, without checksum: what CSIT uses for IPv6.
pub(crate) const PLAIN_FRAME: usize = 78;
/// Flows that the last two octets of the destination tell apart.
const FLOWS: u16 = 256;
/// Octets of [`Stamp`], the last ones of every frame.
pub(crate) const STAMP: usize = 16;
/// Most prefixes that the three octets of a frame can count.
pub(crate) const MOST_PREFIXES: usize = 1 << 24;

const ETHERNET: usize = 14;
const IPV6: usize = 40;
const UDP: usize = 8;
/// The three octets of an address that count /64 prefixes.
const PREFIX_IN_ADDRESS: usize = 5;
/// The two octets of an address that count flows.
const FLOW_IN_ADDRESS: usize = 14;
const SOURCE_IN_IPV6: usize = 8;
const DESTINATION_IN_IPV6: usize = 24;
/// In the upper bits of a stamp's number: a frame without it is not ours.
const MARK: u64 = 0x4b45 << 48;
const MARK_MASK: u64 = 0xffff << 48;

/// Which address of a packet goes through the prefixes of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Varied {
    /// The destination.
    Destination,
    /// The source: what a gateway looks up on the way out of a tunnel.
    Source,
}

/// What the addresses of a run are. The gateway sees all of them on one port.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// The port of the gateway.
    pub(crate) gateway: [u8; 6],
    /// Where packets go.
    pub(crate) destination: Ipv6Addr,
    /// Where packets come from.
    pub(crate) source: Ipv6Addr,
    /// Outer source and destination, where there is a tunnel.
    pub(crate) outer: Option<(Ipv6Addr, Ipv6Addr)>,
    /// The address that is spread over the prefixes.
    pub(crate) varied: Varied,
    /// How many prefixes, at least one.
    pub(crate) prefixes: usize,
}

/// A frame, and where it is to be changed for each packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Template {
    frame: Vec<u8>,
    prefix_at: usize,
    flow_at: usize,
    prefixes: u32,
    /// Where each prefix has a tunnel of its own: what it is told by.
    tunnel: Option<TunnelNumber>,
    /// Where the UDP header of the tunnel begins, if it has a checksum.
    checksum_of: Option<usize>,
}

/// By what the tunnels of prefixes are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum TunnelNumber {
    /// The address of the peer, in the octets that count prefixes, of which there are so many.
    Peer {
        /// Of these octets.
        at: usize,
        /// Of peers.
        count: u32,
    },
    /// TEID or key: a [`tunnel_key`].
    Key {
        /// Of the four octets.
        at: usize,
    },
}

/// The TEID, or key, of the tunnel of a prefix: scattered as an owner gives them out, all different, and never 0.
#[inline]
pub(crate) fn tunnel_key(number: u32) -> u32 {
    // An odd multiplier.
    (number + 1).wrapping_mul(0x9e37_79b1)
}

/// When a packet was sent, and as which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Counts the packets of a trial.
    pub(crate) number: u64,
    /// Of the processor.
    pub(crate) cycles: u64,
}

/// Goes through the prefixes in an order that no prefetcher foresees, each as often as any other.
#[derive(Clone, Debug)]
pub(crate) struct Cursor {
    prefix: u32,
    stride: u32,
    flow: u16,
}

impl Plan {
    /// The frame of this plan.
    pub(crate) fn template(&self) -> Template {
        let mut packet = Vec::new();
        let payload = vec![0x4b; PLAIN_FRAME - ETHERNET - IPV6 - UDP];
        let udp_length = u16::try_from(UDP + payload.len()).unwrap_or(u16::MAX);
        packet.extend_from_slice(&ipv6(17, udp_length, self.source, self.destination));
        for word in [10_000, 9, udp_length, 0] {
            packet.extend_from_slice(&word.to_be_bytes());
        }
        packet.extend_from_slice(&payload);
        let mut inner_at = ETHERNET;
        if let Some((source, destination)) = self.outer {
            inner_at += IPV6;
            let length = u16::try_from(packet.len()).unwrap_or(u16::MAX);
            let mut outer = ipv6(41, length, source, destination).to_vec();
            outer.append(&mut packet);
            packet = outer;
        }
        let mut frame = self.gateway.to_vec();
        frame.extend_from_slice(&[2, 0, 0, 0, 0, 0x99, 0x86, 0xdd]);
        frame.append(&mut packet);
        let varied = match self.varied {
            Varied::Destination => DESTINATION_IN_IPV6,
            Varied::Source => SOURCE_IN_IPV6,
        };
        Template {
            frame,
            prefix_at: inner_at + varied + PREFIX_IN_ADDRESS,
            flow_at: inner_at + DESTINATION_IN_IPV6 + FLOW_IN_ADDRESS,
            prefixes: u32::try_from(self.prefixes.clamp(1, MOST_PREFIXES)).unwrap_or(1),
            tunnel: None,
            checksum_of: None,
        }
    }
}

impl Plan {
    /// The path end that `anchor` sends for each prefix, in the tunnel of this plan.
    pub(crate) fn path_end(&self, anchor: Ipv6Addr) -> Template {
        let inner = Ipv6Net::new(prefix(self.destination, 0), 64).unwrap_or_default();
        let packet = path_end::write(anchor, inner);
        let Template { frame, .. } = self.template();
        let headers = if self.outer.is_some() {
            ETHERNET + IPV6
        } else {
            ETHERNET
        };
        let mut frame = frame.get(..headers).unwrap_or_default().to_vec();
        frame.extend_from_slice(&packet);
        if let Some(length) = frame.get_mut(ETHERNET + 4..ETHERNET + 6)
            && self.outer.is_some()
        {
            length.copy_from_slice(&(packet.len() as u16).to_be_bytes());
        }
        let prefix_at = headers + DESTINATION_IN_IPV6 + PREFIX_IN_ADDRESS;
        Template {
            frame,
            prefix_at,
            flow_at: prefix_at,
            prefixes: u32::try_from(self.prefixes.clamp(1, MOST_PREFIXES)).unwrap_or(1),
            tunnel: None,
            checksum_of: None,
        }
    }
}

/// Prefix number `index` of those that [`Plan::template`] spreads `base` over.
pub(crate) fn prefix(base: Ipv6Addr, index: usize) -> Ipv6Addr {
    let mut octets = base.octets();
    let number = (index as u64).to_be_bytes();
    octets[PREFIX_IN_ADDRESS..PREFIX_IN_ADDRESS + 3].copy_from_slice(&number[5..]);
    octets[8..].fill(0);
    octets.into()
}

impl Template {
    /// Octets of the frame.
    pub(crate) fn len(&self) -> usize {
        self.frame.len()
    }

    /// The packet within, of the first prefix.
    pub(crate) fn packet(&self) -> &[u8] {
        self.frame.get(ETHERNET..).unwrap_or_default()
    }

    /// The same packets in tunnels: `packet` is that of the first prefix in its tunnel, `tunnel` what differs between
    /// tunnels, octets from the start of the packet, as `checksum_of`, where the UDP header is whose checksum is written.
    pub(crate) fn in_tunnels(
        self,
        packet: &[u8],
        ethertype: u16,
        tunnel: TunnelNumber,
        checksum_of: Option<usize>,
    ) -> Self {
        let front = packet.len().saturating_sub(self.packet().len());
        let mut frame = self.frame.get(..ETHERNET - 2).unwrap_or_default().to_vec();
        frame.extend_from_slice(&ethertype.to_be_bytes());
        frame.extend_from_slice(packet);
        let tunnel = match tunnel {
            TunnelNumber::Peer { at, count } => TunnelNumber::Peer {
                at: ETHERNET + at,
                count,
            },
            TunnelNumber::Key { at } => TunnelNumber::Key { at: ETHERNET + at },
        };
        Self {
            frame,
            prefix_at: self.prefix_at + front,
            flow_at: self.flow_at + front,
            prefixes: self.prefixes,
            tunnel: Some(tunnel),
            checksum_of: checksum_of.map(|at| ETHERNET + at),
        }
    }

    /// How many prefixes there are.
    pub(crate) fn prefixes(&self) -> u32 {
        self.prefixes
    }

    /// Writes the frame for one prefix as it is, without stamp or flow; `octets` has the length of the frame.
    pub(crate) fn write_unstamped(&self, octets: &mut [u8], number: u32) {
        if octets.len() == self.frame.len() {
            octets.copy_from_slice(&self.frame);
            let [_, prefix @ ..] = number.to_be_bytes();
            put(octets, self.prefix_at, prefix);
        }
    }

    /// Where to begin.
    pub(crate) fn cursor(&self) -> Cursor {
        let mut stride = ((f64::from(self.prefixes) * 0.618_034) as u32).max(1);
        while greatest_common_divisor(stride, self.prefixes) != 1 {
            stride += 1;
        }
        Cursor {
            prefix: 0,
            stride,
            flow: 0,
        }
    }

    /// Writes the next packet; `octets` has the length of the frame.
    #[inline]
    pub(crate) fn write(&self, octets: &mut [u8], cursor: &mut Cursor, stamp: Stamp) {
        if octets.len() != self.frame.len() {
            return;
        }
        octets.copy_from_slice(&self.frame);
        let [_, prefix @ ..] = cursor.prefix.to_be_bytes();
        put(octets, self.prefix_at, prefix);
        put(octets, self.flow_at, cursor.flow.to_be_bytes());
        let stamp_at = octets.len().saturating_sub(STAMP);
        put(
            octets,
            stamp_at,
            ((stamp.number & !MARK_MASK) | MARK).to_be_bytes(),
        );
        put(octets, stamp_at + 8, stamp.cycles.to_be_bytes());
        match self.tunnel {
            None => {}
            Some(TunnelNumber::Peer { at, count }) => {
                let [_, peer @ ..] = (cursor.prefix % count.max(1)).to_be_bytes();
                put(octets, at, peer);
            }
            Some(TunnelNumber::Key { at }) => put(octets, at, tunnel_key(cursor.prefix).to_be_bytes()),
        }
        if let Some(at) = self.checksum_of {
            write_checksum(octets, at);
        }
        cursor.prefix += cursor.stride;
        if cursor.prefix >= self.prefixes {
            cursor.prefix -= self.prefixes;
        }
        cursor.flow = (cursor.flow + 1) % FLOWS;
    }
}

/// What [`Template::write`] wrote; `None` of a frame that is not ours. Headers may have come and gone.
#[inline]
pub(crate) fn stamp(octets: &[u8]) -> Option<Stamp> {
    let (rest, cycles) = octets.split_last_chunk::<8>()?;
    let (_, number) = rest.split_last_chunk::<8>()?;
    let number = u64::from_be_bytes(*number);
    (number & MARK_MASK == MARK).then_some(Stamp {
        number: number & !MARK_MASK,
        cycles: u64::from_be_bytes(*cycles),
    })
}

#[inline]
fn put<const N: usize>(octets: &mut [u8], at: usize, value: [u8; N]) {
    if let Some(place) = octets.get_mut(at..at + N) {
        place.copy_from_slice(&value);
    }
}

/// Writes the checksum of the UDP packet that begins here and ends with the frame, in IPv6.
#[inline]
fn write_checksum(octets: &mut [u8], at: usize) {
    put(octets, at + 6, [0; 2]);
    let covered = octets.len().saturating_sub(at);
    // The addresses are in front of it, and belong to the pseudo-header (RFC 8200 section 8.1).
    let from = at.saturating_sub(IPV6 - SOURCE_IN_IPV6);
    let sum = Sum::default()
        .octets(octets.get(from..).unwrap_or_default())
        .number(covered as u64 + 17);
    put(octets, at + 6, sum.udp_checksum().to_be_bytes());
}

fn greatest_common_divisor(mut a: u32, mut b: u32) -> u32 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

fn ipv6(next_header: u8, length: u16, source: Ipv6Addr, destination: Ipv6Addr) -> [u8; IPV6] {
    let mut header = [0; IPV6];
    header[0] = 0x60;
    header[4..6].copy_from_slice(&length.to_be_bytes());
    header[6] = next_header;
    header[7] = 64;
    header[SOURCE_IN_IPV6..DESTINATION_IN_IPV6].copy_from_slice(&source.octets());
    header[DESTINATION_IN_IPV6..].copy_from_slice(&destination.octets());
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(prefixes: usize) -> Plan {
        Plan {
            gateway: [2; 6],
            destination: "2001:db8:f00::1".parse().unwrap(),
            source: "2001:db8:e00::1".parse().unwrap(),
            outer: None,
            varied: Varied::Destination,
            prefixes,
        }
    }

    fn written(template: &Template, cursor: &mut Cursor, number: u64) -> Vec<u8> {
        let mut octets = vec![0; template.len()];
        template.write(&mut octets, cursor, Stamp { number, cycles: 7 });
        octets
    }

    #[test]
    fn frames_have_the_stated_size_and_differ_by_flow() {
        let template = plan(1).template();
        let mut cursor = template.cursor();
        let plain = written(&template, &mut cursor, 1);
        assert_eq!(plain.len(), PLAIN_FRAME);
        assert_ne!(plain[..62], written(&template, &mut cursor, 1)[..62]);
        let outer = Some(("2001:db8:b::1".parse().unwrap(), "2001:db8:a::1".parse().unwrap()));
        let template = Plan { outer, ..plan(1) }.template();
        let tunnelled = written(&template, &mut template.cursor(), 1);
        assert_eq!(tunnelled.len(), PLAIN_FRAME + 40);
        assert_eq!(tunnelled[54..], plain[14..]);
    }

    #[test]
    fn every_prefix_has_its_turn() {
        for (varied, at) in [(Varied::Destination, 38), (Varied::Source, 22)] {
            for count in [1, 2, 10, 256, 10_000] {
                let plan = Plan {
                    varied,
                    ..plan(count)
                };
                let template = plan.template();
                let mut cursor = template.cursor();
                let base = if varied == Varied::Source {
                    plan.source
                } else {
                    plan.destination
                };
                let mut expected: Vec<[u8; 8]> = (0..count)
                    .map(|index| prefix(base, index).octets()[..8].try_into().unwrap())
                    .collect();
                let mut seen: Vec<[u8; 8]> = (0..count)
                    .map(|_| written(&template, &mut cursor, 0)[at..at + 8].try_into().unwrap())
                    .collect();
                expected.sort_unstable();
                seen.sort_unstable();
                assert_eq!(seen, expected);
            }
        }
    }

    #[test]
    fn each_prefix_has_its_path_end() {
        let [outside, inside] = ["2001:db8:b::1", "2001:db8:a::1"].map(|it| it.parse().unwrap());
        let plan = Plan {
            outer: Some((outside, inside)),
            ..plan(300)
        };
        let template = plan.path_end(inside);
        let mut octets = vec![0; template.len()];
        template.write_unstamped(&mut octets, 299);
        assert_eq!(octets[18..20], 48u16.to_be_bytes());
        let net = Ipv6Net::new(prefix(plan.destination, 299), 64).unwrap();
        assert_eq!(octets[54..], path_end::write(inside, net));
    }

    #[test]
    fn a_stamp_survives_headers_and_nothing_else_looks_like_one() {
        let template = plan(1).template();
        let octets = written(&template, &mut template.cursor(), 1 << 40);
        let expected = Some(Stamp {
            number: 1 << 40,
            cycles: 7,
        });
        assert_eq!(stamp(&octets), expected);
        assert_eq!(stamp(&octets[40..]), expected);
        assert_eq!(stamp(&octets[..60]), None);
        assert_eq!(stamp(&octets[70..]), None);
    }
}
