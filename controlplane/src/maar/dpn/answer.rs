//! What a DPN is answered: all that its node has.

use std::net::Ipv6Addr;
use std::time::Duration;

use super::same;
use crate::event::Event;
use crate::identity::MobileNodeIdentifier;
use crate::maar::fsm::{Maar, Output};
use crate::maar::state::Phase;
use crate::proxy_binding::{acknowledge, fits};
use crate::time::Time;
use crate::wire::mobility::{
    MobilityMessage, PrefixLifetimes, ProxyBindingAcknowledgement, ProxyBindingUpdate, Status,
    is_mobile_network,
};

/// From the answer to a DPN until its data plane can have what it says: a message, a wake-up and a transaction. What waits for a node that
/// is on its way is held so much longer than for one at a MAAR, whose CMD has heard of it before.
const DPN_SETTLES: Duration = Duration::from_millis(25);
/// What waits for a node waits no longer than this for the answer to be saved.
const SAVED_AFTER: Duration = Duration::from_secs(1);

impl Maar {
    /// Tells a DPN what its node has.
    pub(super) fn answer_dpn(
        &mut self,
        identifier: &MobileNodeIdentifier,
        to: Ipv6Addr,
        update: &ProxyBindingUpdate,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        let lifetime = update.lifetime.min(self.binding_lifetime_units());
        let mut acknowledgement = acknowledge(update, Status::ACCEPTED, lifetime, now);
        let delay = self.settings.timers.release_delay;
        let endpoint = self.own_endpoint(identifier);
        let Some(node) = self.state.nodes.get_mut(identifier) else {
            return;
        };
        let has: Vec<_> = node.prefixes_told().collect();
        let (new, ended, ends) = (node.home_network_prefix, node.ended.clone(), node.ends.clone());
        let mut news = false;
        if let Some(dpn) = &mut node.dpn {
            if dpn.told.is_empty() && !delay.is_zero() {
                // Its packets come there no sooner than this answer, which waits itself.
                node.release_at = Some(now.after(SAVED_AFTER));
            }
            dpn.answering |= !same(&has, &dpn.told) || !same(&ended, &dpn.told_ended);
            news = dpn.answering;
            dpn.told.clone_from(&has);
            dpn.told_ended.clone_from(&ended);
        }
        let limits = self.lifetime_limits(new, now);
        let older_limits = self.older_limits(identifier, now);
        let lifetimes = has.iter().map(|prefix| {
            // What was relocated here, or is anchored elsewhere, is an older one: no new flow is to begin on it.
            let left = |end: &Time| u32::try_from(end.since(now).as_secs()).unwrap_or(u32::MAX);
            let (preferred, valid) = match ends.get(prefix).map(left) {
                _ if *prefix == new => limits,
                end => {
                    let limit = older_limits.get(prefix).copied().unwrap_or(u32::MAX);
                    (0, end.unwrap_or(u32::MAX).min(limit))
                }
            };
            PrefixLifetimes {
                prefix: *prefix,
                preferred,
                valid,
            }
        });
        let ended = ended.iter().map(|prefix| PrefixLifetimes {
            prefix: *prefix,
            preferred: 0,
            valid: 0,
        });
        acknowledgement.options.prefix_lifetimes = lifetimes.chain(ended).collect();
        let (networks, home) = has.into_iter().partition(|prefix| is_mobile_network(*prefix));
        acknowledgement.options.home_network_prefixes = home;
        // Of networks behind the node (RFC 7148): they are not advertised.
        acknowledgement.options.delegated_prefixes = networks;
        if let Some(endpoint) = endpoint {
            acknowledgement.options.tell(self.settings.address, endpoint);
        }
        self.make_fit(identifier, &mut acknowledgement, outputs);
        self.counters.add("dpn_updates_answered");
        let message = MobilityMessage::ProxyBindingAcknowledgement(acknowledgement);
        outputs.push(match news {
            // Killed before that, we would not know the node when we are back, and the DPN would not ask before its next renewal.
            true => Output::SendWhenSaved { to, message },
            false => Output::Send { to, message },
        });
        self.reschedule_only(identifier);
    }

    /// Leaves out of an answer what it has no room for: first what has ended, then prefixes that were relocated here or are
    /// anchored elsewhere, one after the other, and networks behind the node, which nothing replaces, last. The node does not
    /// have them at its DPN.
    fn make_fit(
        &mut self,
        identifier: &MobileNodeIdentifier,
        answer: &mut ProxyBindingAcknowledgement,
        outputs: &mut Vec<Output>,
    ) {
        while !fits(answer) {
            let options = &mut answer.options;
            let ended = options.prefix_lifetimes.iter().position(|it| it.valid == 0);
            // The first is the one for new flows.
            let mut older = options.prefix_lifetimes.iter().skip(1);
            let home = older.position(|it| !is_mobile_network(it.prefix));
            let at = ended.unwrap_or(home.map_or(1, |at| at + 1));
            if options.prefix_lifetimes.len() <= 1 {
                return;
            }
            let PrefixLifetimes { prefix, valid, .. } = options.prefix_lifetimes.remove(at);
            options.home_network_prefixes.retain(|it| *it != prefix);
            options.delegated_prefixes.retain(|it| *it != prefix);
            self.counters.add("dpn_prefixes_left_out");
            let text = match valid {
                0 => format!("the answer for {identifier} has no room to say that {prefix} has ended"),
                _ => format!("the answer for {identifier} has no room for {prefix}: it is not reached there"),
            };
            let event = Event::new("dpn_prefix_left_out", text).with("identifier", identifier);
            outputs.push(Output::Event(event.with("prefix", prefix)));
        }
    }

    /// What a DPN was to be told has left: the packets of the node follow when its data plane can have heard of it.
    pub(in crate::maar) fn dpn_answered(
        &mut self,
        to: Ipv6Addr,
        identifier: &MobileNodeIdentifier,
        now: Time,
    ) {
        let delay = self.settings.timers.release_delay;
        let Some(node) = self.state.nodes.get_mut(identifier) else {
            return;
        };
        let Some(dpn) = node.dpn.as_mut().filter(|dpn| dpn.address == to) else {
            return;
        };
        let waited = std::mem::take(&mut dpn.answering);
        if waited && node.phase == Phase::Attached && node.release_at.is_some() {
            node.release_at = Some(now.after(delay + DPN_SETTLES));
        }
        self.reschedule_only(identifier);
    }
}
