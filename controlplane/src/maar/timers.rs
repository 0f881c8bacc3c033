//! What happens when nothing happens: retransmission, re-registration, advertisement, expiry.

use std::time::Duration;

use super::fsm::Maar;
use super::io::Output;
use super::state::{Node, Phase};
use crate::event::Event;
use crate::identity::MobileNodeIdentifier;
use crate::proxy_binding::handoff_indicator;
use crate::time::Time;

/// Transmissions to one CMD before the next one is tried.
const TRANSMISSIONS_TO_ONE_CMD: usize = 3;
/// Transmissions of a de-registration; the node is gone, so nobody waits for it.
const DEREGISTRATION_TRANSMISSIONS: usize = 3;

/// How long packets may be on the way of before a move. Far more than any are: what is late is delivered,
/// and what is early has not waited for so long.
pub(super) const PATH_END_MEMORY: Duration = Duration::from_millis(500);

impl Maar {
    pub(super) fn tick(&mut self, now: Time, outputs: &mut Vec<Output>) {
        while let Some(identifier) = self.due(now) {
            self.expire(&identifier, now, outputs);
            self.expire_dpn(&identifier, now, outputs);
            self.retransmit(&identifier, now, outputs);
            self.refresh(&identifier, now, outputs);
            self.advertise_again(&identifier, now, outputs);
            self.forget_old_ways(&identifier, now, outputs);
            self.expire_network(&identifier, now, outputs);
            self.end_due(&identifier, now, outputs);
            self.go_home(&identifier, now, outputs);
            self.reschedule(&identifier);
        }
        self.tick_yielded(now, outputs);
        self.tick_records(now, outputs);
        self.tick_notifications(now, outputs);
    }

    fn expire(&mut self, identifier: &MobileNodeIdentifier, now: Time, outputs: &mut Vec<Output>) {
        let Some(node) = self.state.nodes.get_mut(identifier) else {
            return;
        };
        if node.expires_at.is_none_or(|at| at > now) {
            return;
        }
        node.expires_at = None;
        match node.phase {
            // The CMD was silent for a whole lifetime. Without a binding nothing may be
            // forwarded (RFC 5213 section 6.10.5); registration goes on being tried.
            Phase::Attached => {
                node.phase = Phase::Registering;
                node.registered = false;
                node.previous.clear();
                node.advertise_at = None;
                let unasked = node.exchange.is_none();
                self.forget_tunnels(identifier);
                self.counters.add("bindings_expired");
                let text = format!("{identifier}: the CMD did not renew the binding in time");
                outputs.push(Output::Event(
                    Event::new("binding_expired", text).with("identifier", identifier),
                ));
                if unasked {
                    let lifetime = self.binding_lifetime_units();
                    self.register(identifier, handoff_indicator::UNKNOWN, lifetime, now, outputs);
                }
            }
            Phase::Detached if node.registered => {
                self.counters.add("bindings_expired");
                let text = format!("{identifier} did not come back: its session is over");
                outputs.push(Output::Event(
                    Event::new("binding_expired", text).with("identifier", identifier),
                ));
                self.deregister(identifier, now, outputs);
            }
            // Nobody answered for a whole lifetime: if the node is still there it will solicit again.
            Phase::Registering if !node.registered => self.remove(identifier),
            Phase::Detached | Phase::Refused { .. } => self.remove(identifier),
            Phase::Anchored { .. } => self.drop_unheard_home(identifier, outputs),
            Phase::Registering | Phase::Deregistering => {}
        }
    }

    fn retransmit(&mut self, identifier: &MobileNodeIdentifier, now: Time, outputs: &mut Vec<Output>) {
        let maximum = self.settings.timers.max_bindack_timeout;
        let cmds = self.settings.cmds.len().max(1);
        let Some(node) = self.state.nodes.get_mut(identifier) else {
            return;
        };
        let Some(exchange) = node
            .exchange
            .as_mut()
            .filter(|exchange| exchange.retransmit_at <= now)
        else {
            return;
        };
        if node.phase == Phase::Deregistering && exchange.sequences.len() >= DEREGISTRATION_TRANSMISSIONS {
            let text = format!("{identifier} forgotten: the CMD did not answer its de-registration");
            outputs.push(Output::Event(
                Event::new("node_deregistered", text).with("identifier", identifier),
            ));
            self.remove(identifier);
            return;
        }
        if exchange.sequences.len() % TRANSMISSIONS_TO_ONE_CMD == 0 {
            exchange.cmd = (exchange.cmd + 1) % cmds;
        }
        exchange.wait_longer(maximum, now);
        self.counters.add("updates_retransmitted");
        self.transmit(identifier, now, outputs);
    }

    pub(super) fn refresh(
        &mut self,
        identifier: &MobileNodeIdentifier,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        let Some(node) = self.state.nodes.get_mut(identifier) else {
            return;
        };
        if node.refresh_at.is_none_or(|at| at > now) {
            return;
        }
        node.refresh_at = None;
        if node.phase == Phase::Attached {
            let reattached = std::mem::take(&mut node.reattached);
            let handoff = if reattached {
                handoff_indicator::UNKNOWN
            } else {
                handoff_indicator::RE_REGISTRATION
            };
            let lifetime = self.binding_lifetime_units();
            self.register(identifier, handoff, lifetime, now, outputs);
        }
    }

    /// Nothing of a node is on the way of before its move any more.
    fn forget_old_ways(&mut self, identifier: &MobileNodeIdentifier, now: Time, outputs: &mut Vec<Output>) {
        let Some(node) = self.state.nodes.get_mut(identifier) else {
            return;
        };
        for _ in 0..node.relay_end_markers(now, outputs) {
            self.counters.add("end_markers_relayed");
        }
        node.release_at = node.release_at.filter(|at| *at > now);
        Self::forget_old_anchors(node, now);
        if node.arriving.is_some_and(|it| it.until <= now) {
            node.arriving = None;
        }
        if node.leaving_until.is_some_and(|at| at <= now) {
            node.leaving_until = None;
            node.leaving.clear();
            node.forget_end_markers();
        }
        self.forget_tunnels(identifier);
    }

    fn advertise_again(&mut self, identifier: &MobileNodeIdentifier, now: Time, outputs: &mut Vec<Output>) {
        let Some(node) = self.state.nodes.get_mut(identifier) else {
            return;
        };
        if node.advertise_at.is_none_or(|at| at > now) {
            return;
        }
        node.advertise_at = None;
        if node.phase == Phase::Attached {
            self.advertise(identifier, false, now, outputs);
        }
    }
}

impl Node {
    /// The earliest of its timers.
    pub(super) fn next_deadline(&self) -> Option<Time> {
        let retransmit_at = self.exchange.as_ref().map(|exchange| exchange.retransmit_at);
        // While a re-registration is on its way, `refresh_at` waits for its end.
        let arriving_until = self.arriving.map(|it| it.until);
        let unheard = matches!(self.phase, Phase::Anchored { .. }) && self.network_asked.is_some();
        let network = self.network_until;
        let network = network.filter(|_| unheard || self.phase == Phase::Attached);
        let ends = self.ends.values().min().copied();
        let ends = ends.filter(|_| self.phase == Phase::Attached);
        let home = self.going_home.values().min().copied();
        let home = home.filter(|_| self.may_send_home());
        let dpn = self.dpn.as_ref().and_then(|dpn| dpn.expires_at);
        let moves = [
            self.leaving_until,
            arriving_until,
            self.release_at,
            self.relay_at,
            network,
            ends,
            home,
            dpn,
        ];
        let adopted = self
            .adopted
            .iter()
            .flat_map(|it| [it.arriving_until, it.filtered_until, it.uplink_at]);
        [retransmit_at, self.refresh_at, self.advertise_at, self.expires_at]
            .into_iter()
            .chain(moves)
            .chain(adopted)
            .flatten()
            .min()
    }
}
