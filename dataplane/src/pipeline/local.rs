//! What becomes of a packet to an address of this node: out of a tunnel, to the kernel, or nowhere.

use super::decide::{Inner, Refusal, Step, Tell};
use super::{Note, Pipeline, View};
use crate::drops::DropReason;
use crate::fib::NO_MATCH;
use crate::snapshot::{Exit, Snapshot, TEID_OF_OTHERS, Tunnel};
use crate::stage::checksum::Sum;
use crate::stage::parse::{self, DESTINATION_OPTIONS, IPV6_HEADER, UpperLayer};
use crate::tunnel::{error, gre, gtpu, ip6_in_ip6};

impl Pipeline {
    /// A packet to an address of this node.
    pub(super) fn local(&self, snapshot: &Snapshot, view: View<'_>) -> Result<Step, Refusal> {
        let octets = view.octets;
        let upper = parse::upper_layer(octets, view.packet.next_header)?;
        if upper.fragment {
            return self.local_fragment(snapshot, view, upper);
        }
        match upper.next_header {
            ip6_in_ip6::NEXT_HEADER | ip6_in_ip6::NEXT_HEADER_IPV4 => {}
            gtpu::UDP => return self.local_udp(snapshot, view, upper, Exit::of(view.peer)),
            gre::NEXT_HEADER => return self.local_gre(snapshot, view, upper, Exit::of(view.peer)),
            error::ICMPV6 => return self.local_icmp(snapshot, view, upper.offset),
            _ => return Ok(Step::Punt),
        }
        // A node has no business to bring tunnelled packets, whatever its source.
        let access = snapshot.ports.get(view.port).is_none_or(|port| port.access);
        // Those behind extension headers were not looked up with the burst.
        let tunnel = match view.peer {
            NO_MATCH => snapshot.peers.lookup(view.packet.source),
            tunnel => tunnel,
        };
        if access || !is_from_peer(snapshot, view.note, Exit::of(tunnel)) {
            return Err(DropReason::TunnelUnknownPeer.into());
        }
        let inner = Inner::new(upper.offset..octets.len());
        if upper.next_header == ip6_in_ip6::NEXT_HEADER_IPV4 {
            return Self::carry(snapshot, tunnel, inner);
        }
        Ok(Step::Decapsulate { tunnel, inner })
    }

    /// A fragment to an address of this node: what may be of a tunnel is put together here, all else in the kernel.
    fn local_fragment(
        &self,
        snapshot: &Snapshot,
        view: View<'_>,
        upper: UpperLayer,
    ) -> Result<Step, Refusal> {
        let access = snapshot.ports.get(view.port).is_none_or(|port| port.access);
        let from_peer = || !access && snapshot.peers.lookup(view.packet.source) != NO_MATCH;
        match upper.next_header {
            ip6_in_ip6::NEXT_HEADER | ip6_in_ip6::NEXT_HEADER_IPV4 | gre::NEXT_HEADER | gtpu::UDP
                if from_peer() =>
            {
                Ok(Step::Reassemble)
            }
            ip6_in_ip6::NEXT_HEADER | ip6_in_ip6::NEXT_HEADER_IPV4 | gre::NEXT_HEADER => {
                Err(DropReason::TunnelUnknownPeer.into())
            }
            // What it is of is said behind these, in the first fragment: from a peer, a tunnel's.
            DESTINATION_OPTIONS if from_peer() => Ok(Step::Reassemble),
            // Later fragments do not say for which port they are.
            gtpu::UDP if access => Err(DropReason::TunnelUnknownPeer.into()),
            _ => Ok(Step::Punt),
        }
    }

    /// A UDP packet to an address of this node: its GTP-U port is ours, all others are the kernel's. `exit` is what was found by its
    /// number and peer, if that was looked up.
    pub(super) fn local_udp(
        &self,
        snapshot: &Snapshot,
        view: View<'_>,
        upper: UpperLayer,
        exit: Exit,
    ) -> Result<Step, Refusal> {
        let packet = view.octets;
        let udp = packet.get(upper.offset..).unwrap_or_default();
        let to_gtpu = |udp: &[u8]| udp.get(2..4) == Some(&gtpu::PORT.to_be_bytes());
        if !to_gtpu(udp) {
            return Ok(Step::Punt);
        }
        // A node has no business to bring tunnelled packets, nor to ask about paths.
        if snapshot.ports.get(view.port).is_none_or(|port| port.access) {
            return Err(DropReason::TunnelUnknownPeer.into());
        }
        self.check_udp(view, udp)?;
        self.local_gtpu(snapshot, view, upper.offset, udp, exit)
    }

    /// A message to our GTP-U port, whose UDP header is at `offset` of the packet and whose checksum is right.
    #[inline]
    pub(super) fn local_gtpu(
        &self,
        snapshot: &Snapshot,
        view: View<'_>,
        offset: usize,
        udp: &[u8],
        exit: Exit,
    ) -> Result<Step, Refusal> {
        let message = match gtpu::read(udp) {
            Ok(message) => message,
            Err(gtpu::Problem::UdpMalformed) => return Err(DropReason::UdpMalformed.into()),
            Err(gtpu::Problem::Malformed) => return Err(DropReason::GtpuMalformed.into()),
            Err(gtpu::Problem::VersionUnsupported) => {
                return Err(DropReason::GtpuVersionUnsupported.into());
            }
            Err(gtpu::Problem::ExtensionUnsupported(_)) => {
                let tell = Tell::Gtpu(gtpu::Answer::SupportedExtensionHeadersNotification);
                return Err(Refusal(DropReason::GtpuExtensionUnsupported, Some(tell)));
            }
        };
        use gtpu::message_type as kind;
        match message.kind {
            kind::G_PDU => {}
            kind::ECHO_REQUEST => return Ok(Step::AnswerEcho),
            // What is about paths and tunnels is the control plane's.
            kind::ECHO_RESPONSE
            | kind::ERROR_INDICATION
            | kind::SUPPORTED_EXTENSION_HEADERS_NOTIFICATION
            | kind::TUNNEL_STATUS
            | kind::END_MARKER => return Ok(Step::Punt),
            _ => return Err(DropReason::GtpuMessageUnknown.into()),
        }
        let exit = match exit.tunnel() {
            // Behind extension headers it was not looked up with the burst.
            NO_MATCH => Exit::of(snapshot.peers.lookup(gtpu::key(message.teid, view.packet.source))),
            _ => exit,
        };
        let tunnel = exit.tunnel();
        if tunnel == NO_MATCH {
            // TEID 0 is of no tunnel, and nothing is said of it (section 7.3.1).
            let tell = (message.teid != 0).then_some(Tell::Gtpu(gtpu::Answer::ErrorIndication));
            return Err(Refusal(DropReason::GtpuTeidUnknown, tell));
        }
        if tunnel == TEID_OF_OTHERS || !is_from_peer(snapshot, view.note, exit) {
            return Err(DropReason::GtpuPeerMismatch.into());
        }
        let inner = Inner::new(offset + message.offset..offset + message.end);
        // A G-PDU does not say which version of IP is inside (section 5.1): the packet does.
        if udp.get(message.offset).is_some_and(|first| first >> 4 == 4) {
            return Self::carry(snapshot, tunnel, inner);
        }
        Ok(Step::Decapsulate { tunnel, inner })
    }

    /// The checksum of a UDP packet (RFC 8200 section 8.1).
    #[inline]
    fn check_udp(&self, view: View<'_>, udp: &[u8]) -> Result<(), DropReason> {
        let Some([_, _, _, _, l0, l1, c0, c1]) = udp.first_chunk() else {
            return Err(DropReason::UdpMalformed);
        };
        if [*c0, *c1] == [0, 0] {
            return if self.accept_zero_checksums {
                Ok(())
            } else {
                Err(DropReason::UdpChecksumZero)
            };
        }
        let length = u16::from_be_bytes([*l0, *l1]);
        let covered = udp.get(..usize::from(length)).ok_or(DropReason::UdpMalformed)?;
        let packet = view.octets;
        let sum = if view.packet.next_header == gtpu::UDP {
            // The addresses are in front of it: one run of octets.
            let run = packet.get(8..IPV6_HEADER + covered.len()).unwrap_or_default();
            Sum::default().octets(run)
        } else {
            let addresses = packet.get(8..IPV6_HEADER).unwrap_or_default();
            Sum::default().octets(addresses).octets(covered)
        };
        // With the other two numbers of the pseudo-header.
        let numbers = u64::from(length) + u64::from(gtpu::UDP);
        if sum.number(numbers).is_right() {
            Ok(())
        } else {
            Err(DropReason::UdpChecksumWrong)
        }
    }
}

/// Whether a packet that came in is from the peer of the tunnel that it may come out of, and for our end of it. One of IPv6 that names
/// IPv4 addresses is from nobody.
#[inline]
pub(super) fn is_from_peer(snapshot: &Snapshot, note: &Note, exit: Exit) -> bool {
    let packet = &note.packet;
    if exit.is_known() {
        return snapshot.ends.at(exit.ends()).is_some_and(|it| {
            it.local == packet.destination && it.remote == packet.source && it.ethertype == note.ethertype
        });
    }
    let ends = |it: &Tunnel| {
        u128::from_be_bytes(it.local) == packet.destination
            && u128::from_be_bytes(it.remote) == packet.source
            && it.ethertype == note.ethertype
    };
    let tunnel = exit.tunnel();
    tunnel != NO_MATCH && snapshot.tunnels.at(tunnel).is_some_and(ends)
}
