//! What the CMD answers (RFC 5213 section 6.9.1.2, RFC 8885 section 3.4).

use std::net::Ipv6Addr;
use std::time::Duration;

use ipnet::Ipv6Net;

use super::attachment::UPDATE_PAUSE;
use super::fsm::{Maar, Output};
use super::state::{Arriving, Phase, Previous, Yielded};
use super::timers::PATH_END_MEMORY;
use crate::event::Event;
use crate::identity::MobileNodeIdentifier;
use crate::proxy_binding::{Exchange, handoff_indicator, lifetime_span, requested_prefixes};
use crate::time::Time;
use crate::wire::mobility::{ProxyBindingAcknowledgement, Status, acknowledgement_flags};

/// How long a node that was refused is remembered.
const REFUSED_MEMORY: Duration = Duration::from_secs(60);

impl Maar {
    pub(super) fn acknowledgement(
        &mut self,
        from: Ipv6Addr,
        acknowledgement: &ProxyBindingAcknowledgement,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        if !self.settings.cmds.contains(&from) {
            self.counters.add("acknowledgements_stranger");
            return;
        }
        if let Some(transfer) = &acknowledgement.options.context_transfer {
            return self.context_acknowledged(acknowledgement, transfer, now, outputs);
        }
        let known = acknowledgement
            .options
            .mobile_node_identifier
            .as_ref()
            .and_then(|identifier| self.state.nodes.get_key_value(identifier));
        let Some((identifier, _)) = known else {
            self.counters.add("acknowledgements_unmatched");
            return;
        };
        let identifier = identifier.clone();
        if self.given_up(&identifier, acknowledgement, now, outputs)
            || self.detour_answered(&identifier, acknowledgement)
        {
            return;
        }
        let Some(node) = self.state.nodes.get(&identifier) else {
            return;
        };
        let exchange = node.exchange.as_ref();
        let Some(exchange) = exchange.and_then(|it| it.answered(acknowledgement)) else {
            // One update may be answered several times when the CMD relays (RFC 8885
            // section 3.2): the later answers add previous MAARs.
            if node.phase == Phase::Attached
                && node.sequence == acknowledgement.sequence
                && acknowledgement.status.is_accepted()
            {
                self.add_previous(&identifier, acknowledgement, now, outputs);
            } else {
                self.counters.add("acknowledgements_unmatched");
            }
            return;
        };
        if acknowledgement.flags & acknowledgement_flags::DISTRIBUTED == 0 {
            // RFC 8885 section 4.2, choice G1: a peer that does not set D is no CMD.
            self.counters.add("acknowledgements_not_distributed");
            self.stop_exchange(
                &identifier,
                &format!("{from} does not set the D flag: it is no CMD"),
                outputs,
            );
        } else if !self.echoes_match(&identifier, &exchange, acknowledgement) {
            self.counters.add("acknowledgements_mismatched");
            self.stop_exchange(
                &identifier,
                &format!("the answer of {from} does not echo what was asked"),
                outputs,
            );
        } else if acknowledgement.status.is_accepted() {
            self.accepted(&identifier, &exchange, acknowledgement, now, outputs);
        } else {
            self.refused(&identifier, &exchange, acknowledgement.status, now, outputs);
        }
    }

    /// Whether an answer is one to what was sent; of one that accepts, the prefix too.
    fn echoes_match(
        &self,
        identifier: &MobileNodeIdentifier,
        exchange: &Exchange,
        acknowledgement: &ProxyBindingAcknowledgement,
    ) -> bool {
        let options = &acknowledgement.options;
        let Some(node) = self.state.nodes.get(identifier) else {
            return false;
        };
        let technology = self.settings.access.access_technology_type;
        exchange.is_echoed(options, technology, &node.link_layer_address)
            && (!acknowledgement.status.is_accepted()
                || requested_prefixes(options).contains(&node.home_network_prefix))
    }

    /// Nothing more is sent for this exchange until the node attaches again or its registration is due again.
    fn stop_exchange(&mut self, identifier: &MobileNodeIdentifier, why: &str, outputs: &mut Vec<Output>) {
        let Some(node) = self.state.nodes.get_mut(identifier) else {
            return;
        };
        node.exchange = None;
        if node.phase == Phase::Registering {
            node.phase = Phase::Refused {
                status: Status::REASON_UNSPECIFIED,
            };
        }
        let text = format!("{identifier}: registration given up: {why}");
        outputs.push(Output::Event(
            Event::new("registration_failed", text).with("identifier", identifier),
        ));
        self.reschedule(identifier);
    }

    fn accepted(
        &mut self,
        identifier: &MobileNodeIdentifier,
        exchange: &Exchange,
        acknowledgement: &ProxyBindingAcknowledgement,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        if exchange.lifetime == 0 {
            let text = format!("{identifier} de-registered");
            outputs.push(Output::Event(
                Event::new("node_deregistered", text).with("identifier", identifier),
            ));
            self.remove(identifier);
            return;
        }
        self.agree_on_adopted(identifier, &anchored_here(acknowledgement), now);
        let previous = self.permitted_previous(identifier, acknowledgement);
        // A lifetime of 0 would ask for another registration at once, and again.
        let lifetime = lifetime_span(acknowledgement.lifetime.max(1));
        let Some(node) = self.state.nodes.get_mut(identifier) else {
            return;
        };
        let first = node.phase == Phase::Registering;
        let ended_before = node.ended.clone();
        let mobilities = &acknowledgement.options.prefix_mobilities;
        node.take_mobilities(mobilities, &previous, now);
        let changed = first || node.previous != previous || node.ended != ended_before;
        node.exchange = None;
        node.registered = true;
        node.home_unheard = false;
        node.registered_at = now;
        let last_serving = node.last_serving.take();
        node.previous = previous;
        node.forget_given_up();
        node.tell_soon(now);
        node.phase = Phase::Attached;
        if first {
            // The previous MAARs are in the order in which they served the node.
            let from = last_serving.or(node.previous.last().map(|it| it.address));
            let home = last_serving.is_some();
            let until = now.after(PATH_END_MEMORY);
            node.leaving.clear();
            node.leaving_until = None;
            node.forget_end_markers();
            node.release_at = None;
            node.arriving = from.map(|from| Arriving { from, home, until });
            if let Some(to) = last_serving {
                let by = node.way_to(to);
                let ends = node.own_prefixes();
                outputs.extend(ends.map(|prefix| Output::EndPath { to, prefix, by }));
            }
        }
        node.expires_at = Some(now.after(lifetime));
        // Well before the end, so that several transmissions fit (RFC 6275 section 11.7.1).
        node.refresh_at = Some(now.after(lifetime.mul_f64(0.6)));
        if node.attached_at > exchange.attached_at {
            // It has attached again since, and may have been elsewhere meanwhile: the CMD has heard of that by now, or will.
            node.reattached = true;
            node.refresh_at = Some(now.after(UPDATE_PAUSE));
        }
        let anchors: Vec<_> = node
            .previous
            .iter()
            .map(|it| format!("{} at {}", it.prefix, it.address))
            .collect();
        let peers: Vec<_> = node.previous.iter().map(|it| it.address).collect();
        let took = now.since(exchange.started_at);
        if first {
            let mut text = format!("{identifier} served with {}", node.home_network_prefix);
            if !anchors.is_empty() {
                text += &format!(", reached through its anchors for {}", anchors.join(", "));
            }
            let event = Event::new("registration_completed", text)
                .with("identifier", identifier)
                .with("prefix", node.home_network_prefix)
                .with("previous", anchors.join(", "))
                .with("duration_us", took.as_micros());
            outputs.push(Output::Event(event));
            self.counters.add("registrations_completed");
        }
        self.arrange_tunnels(identifier, &peers, |peer| acknowledgement.options.endpoint(peer));
        self.forget_tunnels(identifier);
        if changed {
            self.advertise(identifier, false, now, outputs);
        }
        self.networks_accepted(identifier, first, acknowledgement, now, outputs);
        self.reschedule(identifier);
    }

    fn add_previous(
        &mut self,
        identifier: &MobileNodeIdentifier,
        acknowledgement: &ProxyBindingAcknowledgement,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        let told = self.permitted_previous(identifier, acknowledgement);
        // The CMD may have learnt of an endpoint since it answered first, and has told the other end.
        let peers: Vec<_> = told.iter().map(|it| it.address).collect();
        self.arrange_tunnels(identifier, &peers, |peer| acknowledgement.options.endpoint(peer));
        let Some(node) = self.state.nodes.get_mut(identifier) else {
            return;
        };
        let new: Vec<_> = told
            .into_iter()
            .filter(|it| !node.previous.contains(it))
            .collect();
        if new.is_empty() {
            return;
        }
        node.previous.extend(new);
        self.advertise(identifier, false, now, outputs);
    }

    /// The Previous MAAR options that this MAAR acts on: a permitted peer, a prefix that is not its own to give.
    fn permitted_previous(
        &mut self,
        identifier: &MobileNodeIdentifier,
        acknowledgement: &ProxyBindingAcknowledgement,
    ) -> Vec<Previous> {
        let mut previous: Vec<Previous> = Vec::new();
        for option in &acknowledgement.options.previous_maars {
            let it = Previous {
                address: option.address,
                prefix: option.home_network_prefix,
            };
            let own = self
                .all_pools()
                .any(|pool| pool.contains(&it.prefix) || it.prefix.contains(&pool));
            // One that we gave it and that is anchored elsewhere now is a previous one like others.
            let given = |known: &Yielded| known.identifier == *identifier;
            // Nor one that the file has behind a tunnel.
            let tunnelled = self.settings.is_tunnelled(it.prefix);
            let own = own && !self.state.yielded.get(&it.prefix).is_some_and(given);
            let node = self.state.nodes.get(identifier);
            if node.is_some_and(|node| node.own_prefixes().any(|own| own == it.prefix)) {
                // It is being taken over from there.
                continue;
            }
            // A prefix that another node has would lead that node's packets here.
            let taken = self.state.nodes.iter().any(|(other, node)| {
                other != identifier && node.previous.iter().any(|has| has.prefix == it.prefix)
            });
            if own || tunnelled || taken || it.prefix.prefix_len() == 0 || !self.peer_permitted(it.address) {
                self.counters.add("previous_maars_not_permitted");
            } else if !previous.iter().any(|has| has.prefix == it.prefix) {
                previous.push(it);
            }
        }
        previous
    }

    fn refused(
        &mut self,
        identifier: &MobileNodeIdentifier,
        exchange: &Exchange,
        status: Status,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        self.counters.add("registrations_refused");
        if self.networks_refused(identifier, status, now, outputs) {
            return;
        }
        let Some(node) = self.state.nodes.get_mut(identifier) else {
            return;
        };
        let text = format!("{identifier}: the CMD refused: {status}");
        let event = Event::new("registration_refused", text)
            .with("identifier", identifier)
            .with("status", status.0);
        outputs.push(Output::Event(event));
        if node.phase == Phase::Deregistering {
            self.remove(identifier);
            return;
        }
        if status == Status::TIMESTAMP_MISMATCH || status == Status::TIMESTAMP_LOWER_THAN_PREV_ACCEPTED {
            // The retransmission timer tries again with a fresh timestamp. The clock in
            // the answer is not followed: the common time source is (RFC 5213 section 6.9.1.2).
            return;
        }
        node.exchange = None;
        let here = matches!(node.phase, Phase::Registering | Phase::Attached);
        if here && node.attached_at > exchange.attached_at {
            // What was refused was of before: it has attached again since.
            let lifetime = self.binding_lifetime_units();
            return self.register(identifier, handoff_indicator::UNKNOWN, lifetime, now, outputs);
        }
        // Withdraw what was advertised, once, while it is still known what that was.
        let advertised = node.advertise_at.take().is_some();
        if node.phase != Phase::Detached {
            node.phase = Phase::Refused { status };
        }
        Self::pause_after_refusal(node, REFUSED_MEMORY, now);
        if status == Status::BCE_PBU_PREFIX_SET_DO_NOT_MATCH {
            // It is elsewhere, and may be back at any moment.
            node.refresh_at = None;
        }
        if advertised {
            self.advertise(identifier, true, now, outputs);
        }
        if let Some(node) = self.state.nodes.get_mut(identifier) {
            node.registered = false;
            node.previous.clear();
        }
        self.forget_tunnels(identifier);
        self.reschedule(identifier);
    }
}

/// The prefixes of a node that the MAAR which serves it anchors, as the CMD says: of networks behind it those that no
/// previous MAAR anchors.
fn anchored_here(acknowledgement: &ProxyBindingAcknowledgement) -> Vec<Ipv6Net> {
    let options = &acknowledgement.options;
    let elsewhere = |prefix: &Ipv6Net| {
        options
            .previous_maars
            .iter()
            .any(|it| it.home_network_prefix == *prefix)
    };
    let networks = options.delegated_prefixes.iter().filter(|it| !elsewhere(it));
    requested_prefixes(options)
        .iter()
        .chain(networks)
        .copied()
        .collect()
}
