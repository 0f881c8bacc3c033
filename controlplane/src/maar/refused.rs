//! A peer that has no tunnel where we send a node's packets: its Error Indication (3GPP TS 29.281 section 7.3.1).
//!
//! What has to be done depends on who we are to the node:
//!
//! * Its serving MAAR, and the peer one of its anchors: the anchor has lost what the CMD told it. The tunnel is taken down,
//!   and the node is registered again, with a TEID of ours that is new. So the CMD has something to tell all anchors
//!   of the node, and tells them; the one that knows the node makes the tunnel anew, the one that does not
//!   refuses, and the CMD takes its prefix off the list.
//! * Its anchor, and the peer its serving MAAR: only the CMD says where a node is. It is told and counted; when
//!   the node solicits there again, its registration repairs what is here too.
//!
//! * Its DPA, and the peer its DPN: the DPN is asked to register the node again.
//!
//! At the begin of a tunnel one end may have it a moment before the other. So what comes within
//! [`SETTLED_AFTER`] of a registration means nothing; packets that still find no tunnel are told of again.

use std::net::Ipv6Addr;
use std::time::Duration;

use super::fsm::{Maar, Output};
use super::state::Phase;
use crate::event::Event;
use crate::time::Time;
use crate::wire::mobility::TunnelType;

/// By then both ends of a tunnel have it.
const SETTLED_AFTER: Duration = Duration::from_secs(5);

impl Maar {
    /// `peer`, by the address that its tunnels have, knows nothing of `teid`.
    pub(super) fn tunnel_refused(&mut self, peer: Ipv6Addr, teid: u32, now: Time, outputs: &mut Vec<Output>) {
        // Looking for a TEID means looking at all nodes.
        if !self.indication_limit.allow(now) {
            self.counters.add("tunnels_refused_suppressed");
            return;
        }
        let is_it = |address: Ipv6Addr, remote: TunnelType| match remote {
            TunnelType::GtpU { teid: its, ipv4 } => {
                its.get() == teid && (address == peer || ipv4.map(|ipv4| ipv4.to_ipv6_mapped()) == Some(peer))
            }
            TunnelType::Ipv6InIpv6 | TunnelType::Gre { .. } => false,
        };
        let found = self.state.nodes.iter().find_map(|(identifier, node)| {
            let mut tunnels = node.tunnels.iter();
            let (address, _) = tunnels.find(|(address, tunnel)| is_it(**address, tunnel.remote))?;
            Some((identifier.clone(), *address))
        });
        let Some((identifier, maar)) = found else {
            self.counters.add("tunnels_refused_unknown");
            return;
        };
        let Some(node) = self.state.nodes.get_mut(&identifier) else {
            return;
        };
        if node.dpn.as_ref().is_some_and(|dpn| dpn.address == maar) {
            // It has the tunnel again when it has registered the node again.
            self.counters.add("tunnels_refused_signalled");
            return self.notify(maar, &identifier, now, outputs);
        }
        let unsettled = node.exchange.is_some() || now < node.registered_at.after(SETTLED_AFTER);
        if node.phase != Phase::Attached || unsettled {
            self.counters.add("tunnels_refused_left");
            return;
        }
        if let Some(old) = node.teid.take() {
            // The sequence does not come back to it before all others have been given out.
            self.in_use.free_teid(old);
        }
        node.refresh_at = Some(now);
        self.drop_tunnel(&identifier, maar);
        self.counters.add("tunnels_refused_signalled");
        let text = format!("{identifier} is registered again: {maar} has lost its tunnel {teid:#010x}");
        let event = Event::new("tunnel_signalled_again", text)
            .with("identifier", &identifier)
            .with("peer", maar);
        outputs.push(Output::Event(event));
        self.refresh(&identifier, now, outputs);
        self.reschedule(&identifier);
    }
}
