//! A GTP-U tunnel that has brought its last: End Markers (3GPP TS 29.281 section 7.3.2).
//!
//! Who waits for one takes it: the node has just come, and packets that come straight here let those before them go first.
//! Who has the node no more relays it: what the peer sent here for a prefix that it anchors goes on to where the node is,
//! and that nothing follows is said there, behind the last packet. What is said is a path end for each such prefix
//! with an End Marker behind it, in whatever type of tunnel leads there.
//!
//! ```text
//!  anchor ──── last packet, End Marker ────► MAAR that the node has left ──── last packet, path end, End Marker ────► MAAR
//!     └──────────────────────── packets that wait for that ────────────────────────────────────────────────────────► of the node
//! ```
//!
//! The End Marker may come before this MAAR knows where the node is. Then it is kept with what waits for the node.

use std::net::Ipv6Addr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::fsm::{Maar, Output};
use super::state::{Node, Phase};
use super::timers::PATH_END_MEMORY;
use crate::time::Time;
use crate::wire::mobility::TunnelType;

/// After what was on hold has begun to go on: by then it has gone, at a pace of the data plane's own. Peers of our kind say a path
/// end too, which goes with the packets and is there before; so this may be long, and has to be shorter than others wait.
const BEHIND_RELEASE: Duration = Duration::from_millis(200);

/// An End Marker may come before the CMD's word of where the node is, which may have to be sent again, and not longer before.
const BEFORE_NEWS: Duration = Duration::from_secs(5);

impl Maar {
    /// `from`, by the address that its tunnels have, sends nothing more on this TEID of ours.
    pub(super) fn end_marker(&mut self, from: Ipv6Addr, teid: u32, now: Time) {
        let identifier = self.in_use.node_of(teid).cloned();
        let found = identifier.and_then(|it| Some((self.state.nodes.get_mut(&it)?, it)));
        let Some((node, identifier)) = found else {
            return self.counters.add("end_markers_unexpected");
        };
        let peer = peer_at(node, from);
        if node.arriving.is_some_and(|it| it.from == peer) {
            // Its deadline stays, which then finds nothing to do.
            node.arriving = None;
            return self.counters.add("end_markers");
        }
        let comes = node.previous.iter().chain(&node.leaving);
        let known = comes.map(|it| it.address).any(|address| address == peer);
        node.ended_by.retain(|it| !it.is_old(now));
        if !known || node.ended_by.iter().any(|it| it.peer == peer) {
            return self.counters.add("end_markers_unexpected");
        }
        node.ended_by.push(EndedBy {
            peer,
            at: now,
            relayed: false,
        });
        let waits = !self.settings.timers.release_delay.is_zero();
        node.relay_when_it_has_left(now, waits);
        self.reschedule(&identifier);
    }
}

/// A peer that sends nothing more to a node by the tunnel that it had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedBy {
    /// Which.
    pub peer: Ipv6Addr,
    /// When it said so.
    pub at: Time,
    /// It was relayed.
    pub relayed: bool,
}

impl EndedBy {
    /// Whether it was no word of the move that followed: the peer may have sent by that tunnel since.
    fn is_old(&self, now: Time) -> bool {
        !self.relayed && self.at.after(BEFORE_NEWS) <= now
    }
}

/// For how long it is remembered where a node had been that has left: until what waits for it has gone on, and what is
/// relayed behind that.
pub(super) fn memory(release_delay: Duration) -> Duration {
    PATH_END_MEMORY.max(release_delay + 2 * BEHIND_RELEASE)
}

impl Node {
    /// Where the node has left, what has ended is relayed as soon as nothing of it waits here any more; `waits`: something may.
    pub(super) fn relay_when_it_has_left(&mut self, now: Time, waits: bool) {
        self.ended_by.retain(|it| !it.is_old(now));
        if self.leaving.is_empty() || self.ended_by.iter().all(|it| it.relayed) {
            return;
        }
        let begun = self.release_at.map_or(now, |at| at.max(now));
        let gone = if waits { begun.after(BEHIND_RELEASE) } else { now };
        // Then it is forgotten.
        self.relay_at = Some(self.leaving_until.map_or(gone, |at| at.min(gone)));
    }

    /// Relays what is due to where the node is now; how many End Markers that were.
    pub(super) fn relay_end_markers(&mut self, now: Time, outputs: &mut Vec<Output>) -> usize {
        if self.relay_at.is_none_or(|at| at > now) {
            return 0;
        }
        self.relay_at = None;
        let Phase::Anchored { serving: to } = self.phase else {
            return 0;
        };
        let by = self.way_to(to);
        // They are remembered: what is said several times is relayed once.
        let mut relayed = 0;
        for ended in self.ended_by.iter_mut().filter(|it| !it.relayed) {
            ended.relayed = true;
            relayed += 1;
            let prefixes = self.leaving.iter().filter(|it| it.address == ended.peer);
            outputs.extend(prefixes.map(|it| Output::EndPath {
                to,
                prefix: it.prefix,
                by,
            }));
        }
        relayed
    }

    /// What has ended is over.
    pub(super) fn forget_end_markers(&mut self) {
        self.ended_by.clear();
        self.relay_at = None;
    }
}

/// The peer whose tunnels with this node have this address: its own, or that which it has for GTP-U over IPv4.
fn peer_at(node: &Node, from: Ipv6Addr) -> Ipv6Addr {
    let has = |remote: TunnelType| match remote {
        TunnelType::GtpU { ipv4: Some(its), .. } => its.to_ipv6_mapped() == from,
        _ => false,
    };
    let mut tunnels = node.tunnels.iter();
    let peer = tunnels.find(|(_, tunnel)| has(tunnel.remote));
    peer.map_or(from, |(peer, _)| *peer)
}
