//! What the CMD tells a previous MAAR: where a node that it anchors is now (RFC 8885 sections 3.4, 3.5).

use std::net::Ipv6Addr;

use super::end_markers;
use super::fsm::{Maar, Output};
use super::relocation::check_relocation;
use super::state::{Asked, Phase};
use crate::event::Event;
use crate::identity::MobileNodeIdentifier;
use crate::proxy_binding::handoff_indicator::RE_REGISTRATION;
use crate::proxy_binding::{acknowledge, check_timestamp, lifetime_span, requested_prefixes};
use crate::time::Time;
use crate::wire::mobility::{MobilityMessage, ProxyBindingUpdate, RelocationStep, Status, update_flags};

impl Maar {
    pub(super) fn update(
        &mut self,
        from: Ipv6Addr,
        update: &ProxyBindingUpdate,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        let stranger = !self.settings.cmds.contains(&from);
        if let Some(transfer) = update.options.context_transfer.as_ref().filter(|_| !stranger) {
            return self.take_context(from, update, transfer, now, outputs);
        }
        if !stranger && self.own_attachment_pending(update) {
            // The node is here and the CMD is being told so. Which of the two is newer shows when that
            // is answered; until then no answer is true. The CMD asks again.
            self.counters.add("updates_deferred");
            return;
        }
        if !stranger && self.release_yielded(from, update, now, outputs) {
            return;
        }
        let mut durable = false;
        let status = match self.check_update(stranger, update, now) {
            Ok(identifier) => {
                self.counters.add("updates_accepted");
                match update.options.anchor_relocation {
                    None => {
                        // What is released may be another node's as soon as that is answered.
                        durable = update.lifetime == 0;
                        self.follow(&identifier, update, now, outputs);
                    }
                    // Answered when routes lead here.
                    Some(it) if it.step == RelocationStep::Take => {
                        return self.take(&identifier, from, update, it.anchor, now, outputs);
                    }
                    // Answered when what goes first has gone.
                    Some(it) if it.step == RelocationStep::Prepare => {
                        let update_of = update.clone();
                        let asked = Asked {
                            cmd: from,
                            update: update_of,
                        };
                        return self.prepare(&identifier, update, it.anchor, asked, now, outputs);
                    }
                    Some(it) => {
                        durable = true;
                        self.yield_to(&identifier, update, it.anchor, now, outputs);
                    }
                }
                Status::ACCEPTED
            }
            Err(status) => {
                self.counters.add(if stranger {
                    "updates_refused_stranger"
                } else {
                    "updates_refused"
                });
                let text = format!("an update from {from} was refused: {status}");
                outputs.push(Output::Event(
                    Event::new("update_refused", text)
                        .with("from", from)
                        .with("status", status.0),
                ));
                status
            }
        };
        if stranger && !self.refusal_limit.allow(now) {
            self.counters.add("refusals_suppressed");
            return;
        }
        let lifetime = if status.is_accepted() { update.lifetime } else { 0 };
        let mut answer = acknowledge(update, status, lifetime, now);
        if let Some(identifier) = update.options.mobile_node_identifier.as_ref()
            && status.is_accepted()
        {
            // In every answer, so that a CMD that does not know it learns it.
            if let Some(endpoint) = self.own_endpoint(identifier) {
                answer.options.tell(self.settings.address, endpoint);
            }
        }
        let (to, message) = (from, MobilityMessage::ProxyBindingAcknowledgement(answer));
        outputs.push(match durable {
            true => Output::SendWhenSaved { to, message },
            false => Output::Send { to, message },
        });
    }

    /// Whether the node of `update` is attaching here, and the CMD has not answered that yet. A mere
    /// renewal does not count: the node has left unnoticed.
    fn own_attachment_pending(&self, update: &ProxyBindingUpdate) -> bool {
        let identifier = update.options.mobile_node_identifier.as_ref();
        let Some(node) = identifier.and_then(|it| self.state.nodes.get(it)) else {
            return false;
        };
        let attaching = node.reattached
            || node
                .exchange
                .as_ref()
                .is_some_and(|it| it.handoff_indicator != RE_REGISTRATION);
        attaching && matches!(node.phase, Phase::Registering | Phase::Attached)
    }

    /// The checks of RFC 5213 section 5.3.1, in its order. Records the timestamp of what it lets pass.
    fn check_update(
        &mut self,
        stranger: bool,
        update: &ProxyBindingUpdate,
        now: Time,
    ) -> Result<MobileNodeIdentifier, Status> {
        let options = &update.options;
        let identifier = options
            .mobile_node_identifier
            .clone()
            .filter(|identifier| !identifier.octets.is_empty())
            .ok_or(Status::MISSING_MN_IDENTIFIER_OPTION)?;
        if stranger {
            return Err(Status::MAG_NOT_AUTHORIZED_FOR_PROXY_REG);
        }
        if update.flags & update_flags::DISTRIBUTED == 0 {
            return Err(Status::ADMINISTRATIVELY_PROHIBITED);
        }
        let window = self.settings.timers.timestamp_validity_window;
        let node = self
            .state
            .nodes
            .get(&identifier)
            .ok_or(Status::NOT_LMA_FOR_THIS_MOBILE_NODE)?;
        let timestamp = check_timestamp(options.timestamp, node.last_timestamp, now, window)?;
        let prefixes = requested_prefixes(options);
        if prefixes.is_empty() {
            return Err(Status::MISSING_HOME_NETWORK_PREFIX_OPTION);
        }
        if options.handoff_indicator.is_none() {
            return Err(Status::MISSING_HANDOFF_INDICATOR_OPTION);
        }
        if options.access_technology_type.is_none() {
            return Err(Status::MISSING_ACCESS_TECH_TYPE_OPTION);
        }
        let &[prefix] = prefixes else {
            return Err(Status::NOT_AUTHORIZED_FOR_HOME_NETWORK_PREFIX);
        };
        let here = matches!(node.phase, Phase::Attached | Phase::Registering);
        if let Some(relocation) = options.anchor_relocation {
            let checked = check_relocation(node, prefix, relocation, self.settings.announces);
            if checked.is_err()
                && let Some(node) = self.state.nodes.get_mut(&identifier)
            {
                // An older step that comes later must not win.
                node.last_timestamp = timestamp;
                if relocation.step == RelocationStep::Yield {
                    // It does not come: neither does what came ahead of it.
                    self.filters_stay_away(prefix);
                    self.forget_filters_of(prefix);
                }
            }
            checked?;
        } else if node.own_prefixes().all(|it| it != prefix) {
            return Err(Status::NOT_AUTHORIZED_FOR_HOME_NETWORK_PREFIX);
        } else if update.lifetime == 0 {
            // A node that is on our own link is not the CMD's to release; what was relocated here is, and so is what it
            // had before it moved on without our notice.
            let elsewhere = options.serving_maar.is_some_and(|it| it != self.settings.address);
            if here && !elsewhere && prefix == node.home_network_prefix {
                return Err(Status::ADMINISTRATIVELY_PROHIBITED);
            }
        } else {
            let serving = options.serving_maar.ok_or(Status::REASON_UNSPECIFIED)?;
            if !self.peer_permitted(serving) {
                return Err(Status::ADMINISTRATIVELY_PROHIBITED);
            }
        }
        if let Some(node) = self.state.nodes.get_mut(&identifier) {
            node.last_timestamp = timestamp;
        }
        Ok(identifier)
    }

    /// Does what an accepted update says.
    fn follow(
        &mut self,
        identifier: &MobileNodeIdentifier,
        update: &ProxyBindingUpdate,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        let lifetime = lifetime_span(self.binding_lifetime_units());
        let Some(node) = self.state.nodes.get_mut(identifier) else {
            return;
        };
        let (phase, home) = (node.phase.clone(), node.home_network_prefix);
        // It was checked that there is one.
        let prefix = requested_prefixes(&update.options).first().copied();
        let prefix = prefix.unwrap_or(home);
        let Some(serving) = update.options.serving_maar.filter(|_| update.lifetime != 0) else {
            if update.options.serving_maar.is_some() && phase == Phase::Attached {
                // It has left without our notice.
                self.detached(identifier, false, now, outputs);
            }
            return self.release(identifier, prefix, now, outputs);
        };
        self.networks_asked.remove(identifier);
        let Some(node) = self.state.nodes.get_mut(identifier) else {
            return;
        };
        // The CMD knows of this one.
        node.network_asked = node.network_asked.filter(|it| *it != prefix);
        // Of what was given up here it has not heard, and the node may use it where it is.
        node.giving_up.clear();
        node.tell_soon(now);
        match node.phase {
            Phase::Anchored { serving: before } if before == serving => {}
            Phase::Anchored { serving: to } => {
                let by = node.way_to(to);
                // What was yielded goes on as it did.
                let yielded = &self.state.yielded;
                let ends = node.own_prefixes().filter(|prefix| !yielded.contains_key(prefix));
                outputs.extend(ends.map(|prefix| Output::EndPath { to, prefix, by }));
            }
            _ if node.previous.is_empty() => {}
            // It has left this link.
            _ => {
                node.leaving = std::mem::take(&mut node.previous);
                node.leaving_until = Some(now.after(end_markers::memory(self.settings.timers.release_delay)));
            }
        }
        if node.phase != (Phase::Anchored { serving }) {
            // RFC 8818 FM:6-2, without a word for it in RFC 8885.
            let delay = self.settings.timers.release_delay;
            node.release_at = (!delay.is_zero()).then(|| now.after(delay));
            node.relay_when_it_has_left(now, !delay.is_zero());
        }
        node.home_unheard &= prefix != node.home_network_prefix;
        node.keep_unheard(lifetime, now);
        node.arriving = None;
        node.phase = Phase::Anchored { serving };
        node.last_serving = Some(serving);
        node.reattached = false;
        node.tells_attachment = false;
        node.registered = true;
        node.previous.clear();
        node.exchange = None;
        node.refresh_at = None;
        node.advertise_at = None;
        let text = format!("{identifier} is served by {serving}: {prefix} is tunnelled there");
        let event = Event::new("node_anchored", text)
            .with("identifier", identifier)
            .with("prefix", prefix)
            .with("serving", serving);
        outputs.push(Output::Event(event));
        self.arrange_tunnels(identifier, &[serving], |peer| update.options.only_endpoint(peer));
        self.forget_tunnels(identifier);
        self.reschedule(identifier);
    }
}
