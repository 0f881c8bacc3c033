//! GRE packets to an address of this node.

use super::decide::{Inner, Refusal, Step};
use super::local::is_from_peer;
use super::{Pipeline, View};
use crate::drops::DropReason;
use crate::fib::NO_MATCH;
use crate::snapshot::{Exit, Snapshot};
use crate::stage::parse::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, UpperLayer};
use crate::tunnel::gre;

/// By what the tunnel of a GRE packet to us is looked up, with the others of its burst; `octets` begin with its header.
pub(super) fn peer_key(octets: &[u8], source: u128) -> Option<u128> {
    let message = gre::peek(octets).ok()?;
    Some(gre::peer_key(message.key, source))
}

impl Pipeline {
    /// Whether such a packet comes out of a tunnel: that of `exit`, if it was looked up.
    #[inline(never)]
    pub(super) fn local_gre(
        &self,
        snapshot: &Snapshot,
        view: View<'_>,
        upper: UpperLayer,
        exit: Exit,
    ) -> Result<Step, Refusal> {
        // A node has no business to bring tunnelled packets.
        if snapshot.ports.get(view.port).is_none_or(|port| port.access) {
            return Err(DropReason::TunnelUnknownPeer.into());
        }
        if upper.later_fragment {
            return Err(DropReason::TunnelFragment.into());
        }
        let packet = view.octets;
        let message = match gre::read(packet.get(upper.offset..).unwrap_or_default()) {
            Ok(message) => message,
            Err(gre::Problem::Malformed) => return Err(DropReason::GreMalformed.into()),
            Err(gre::Problem::BitsUnsupported) => return Err(DropReason::GreBitsUnsupported.into()),
            Err(gre::Problem::VersionUnsupported) => return Err(DropReason::GreVersionUnsupported.into()),
            Err(gre::Problem::ChecksumWrong) => return Err(DropReason::GreChecksumWrong.into()),
        };
        let exit = match exit.tunnel() {
            // Behind extension headers it was not looked up with the burst.
            NO_MATCH => {
                let key = gre::peer_key(message.key, view.packet.source);
                Exit::of(snapshot.peers.lookup(key))
            }
            _ => exit,
        };
        // No tunnel with this key, or with none; or not from its peer; or not to its end.
        if !is_from_peer(snapshot, view.note, exit) {
            return Err(DropReason::GreTunnelUnknown.into());
        }
        let tunnel = exit.tunnel();
        let inner = Inner::new(upper.offset + message.offset..packet.len());
        match u16::from_be_bytes(message.protocol) {
            ETHERTYPE_IPV6 => Ok(Step::Decapsulate { tunnel, inner }),
            ETHERTYPE_IPV4 => Self::carry(snapshot, tunnel, inner),
            _ => Err(DropReason::GreProtocolUnsupported.into()),
        }
    }
}
