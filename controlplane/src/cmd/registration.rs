//! A MAAR registers a node: new, again, moved here, or gone (RFC 8885 sections 3.1, 3.4, 3.5).

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use ipnet::Ipv6Net;
use kedge_config::TunnelType;

use super::check::Checked;
use super::fsm::{Cmd, Output};
use super::policy::step_of;
use super::relocation::when_saved;
use super::state::{AdoptedPrefix, AgreedTunnel, Binding, BindingPhase, Previous, PreviousPhase};
use crate::event::Event;
use crate::identity::MobileNodeIdentifier;
use crate::proxy_binding::{
    acknowledge, attachment_time, handoff_indicator, is_stale, lifetime_span, lifetime_units,
};
use crate::time::Time;
use crate::wire::mobility::{
    self, LogicalInterface, MobilityMessage, PreviousMaarOption, ProxyBindingUpdate, RelocationStep, Status,
    TunnelEndpoint, is_mobile_network,
};

impl Cmd {
    pub(super) fn registration(
        &mut self,
        from: Ipv6Addr,
        update: &ProxyBindingUpdate,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        if let Some(transfer) = &update.options.context_transfer {
            return self.take_context(from, update, transfer, now, outputs);
        }
        match step_of(update) {
            Some(RelocationStep::Yield) => return self.give_up_prefix(from, update, now, outputs),
            Some(RelocationStep::Take) => return self.relocation_asked(from, update, now, outputs),
            // Only a CMD has anything to prepare.
            Some(RelocationStep::Prepare) => {
                let status = Status::ADMINISTRATIVELY_PROHIBITED;
                return self.refuse(from, update, status, now, outputs);
            }
            None => {}
        }
        let checked = match self.check(from, update, now) {
            Ok(checked) => checked,
            Err(status) => return self.refuse(from, update, status, now, outputs),
        };
        if update.lifetime == 0 {
            return self.deregistration(from, update, &checked, now, outputs);
        }
        let lifetime = update
            .lifetime
            .min(lifetime_units(self.settings.timers.binding_lifetime));
        let before = self.state.bindings.get(&checked.identifier).cloned();
        // A mere renewal says nothing of when that was, unless it was asked for (`restart.rs`).
        let renews = checked.handoff_indicator == handoff_indicator::RE_REGISTRATION;
        let attached_at = match update.options.attachment_time {
            None if renews => 0,
            _ => attachment_time(&update.options),
        };
        let mut fresh = Binding {
            serving: checked.serving,
            prefixes: checked.prefixes.clone(),
            adopted: before
                .as_ref()
                .filter(|binding| binding.serving == checked.serving)
                .map(|binding| binding.adopted.clone())
                .unwrap_or_default(),
            previous: before
                .as_ref()
                .map(|binding| binding.previous.clone())
                .unwrap_or_default(),
            ended: before
                .as_ref()
                .map(|binding| binding.ended.clone())
                .unwrap_or_default(),
            phase: BindingPhase::Active,
            expires_at: now.after(lifetime_span(lifetime)),
            sequence: update.sequence,
            last_timestamp: checked.timestamp,
            access_technology_type: checked.access_technology_type,
            link_layer_identifier: update.options.link_layer_identifier.clone(),
            offered_endpoints: before
                .as_ref()
                .map(|binding| binding.offered_endpoints.clone())
                .unwrap_or_default(),
            attached_at: before
                .as_ref()
                .map_or(0, |binding| binding.attached_at)
                .max(attached_at),
            restored: false,
        };
        fresh.offer(checked.serving, update.options.only_endpoint(checked.serving));
        match &before {
            None if self.state.bindings.len() >= self.settings.maximum_bindings => {
                return self.refuse(from, update, Status::INSUFFICIENT_RESOURCES, now, outputs);
            }
            None => {
                self.counters.add("bindings_created");
                outputs.push(binding_event("binding_created", &checked, "is registered at"));
            }
            Some(binding) if binding.serving == checked.serving => {
                // RFC 5213 section 5.3.3: a re-registration names every prefix there is. A MAAR
                // that lost its memory attaches the node anew, with another prefix.
                if binding.prefixes != checked.prefixes
                    && checked.handoff_indicator == handoff_indicator::RE_REGISTRATION
                {
                    return self.refuse(
                        from,
                        update,
                        Status::BCE_PBU_PREFIX_SET_DO_NOT_MATCH,
                        now,
                        outputs,
                    );
                }
                let revived = binding.phase == BindingPhase::Deregistered;
                self.counters.add(if revived {
                    "bindings_revived"
                } else {
                    "bindings_refreshed"
                });
                outputs.push(binding_event("binding_refreshed", &checked, "stays at"));
            }
            // A renewal by a MAAR that the node has left, before it heard so, is no move back, nor is an attachment
            // of before that is told late. It is told again where the node is. Unless it is the CMD that has forgotten a move in a crash.
            Some(binding)
                if is_stale(&update.options, binding.attached_at)
                    || renews && update.options.attachment_time.is_none() && !binding.restored =>
            {
                self.refuse(
                    from,
                    update,
                    Status::BCE_PBU_PREFIX_SET_DO_NOT_MATCH,
                    now,
                    outputs,
                );
                return self.tell_again(&checked, now, outputs);
            }
            Some(_) => {
                self.counters.add("bindings_moved");
                outputs.push(binding_event("binding_moved", &checked, "moved to"));
            }
        }
        let identifier = checked.identifier.clone();
        let moved = before
            .as_ref()
            .is_some_and(|before| before.serving != checked.serving);
        if moved {
            self.stop_relocations(&identifier, "its node has moved", now, outputs);
        }
        self.state.bindings.insert(identifier.clone(), fresh);
        let mut released = before
            .as_ref()
            .map_or_else(Vec::new, |before| self.list_previous(&identifier, before, now));
        released.extend(self.take_back(&identifier, moved, &checked.networks, now, outputs));
        let took = self.take_networks(&identifier, &checked.networks, outputs);
        if let Some(binding) = self.state.bindings.get_mut(&identifier) {
            binding.forget_ended();
        }
        let ended = match moved {
            true => self.end_by_policy(&identifier),
            false => Vec::new(),
        };
        self.agree_on_tunnels(&identifier, now);
        self.reindex(&identifier, before.as_ref());
        // A prefix that is registered again is not released any more.
        self.state.releases.retain(|release| {
            let own = checked.prefixes.contains(&release.prefix);
            !(own && release.identifier == identifier && release.address == checked.serving)
        });

        for release in &mut self.state.releases {
            if release.identifier == identifier && release.address == checked.serving {
                // It is back there.
                release.moved_to = None;
            }
        }

        // RFC 8885 section 3.4, proxy: the serving MAAR is answered at once, the previous ones are
        // told in parallel. Relay would keep this answer until they have confirmed; locator would
        // leave the Previous MAAR options out and send the updates with `update`'s own numbers.
        let answer = self.answer(from, update, &identifier, lifetime, now, outputs);
        // A network that the CMD forgets after it was answered would be nobody's to release.
        outputs.push(if took { when_saved(answer) } else { answer });
        self.tell_previous(&identifier, now, outputs);
        for previous in released {
            let anchor = previous.anchor(checked.access_technology_type);
            self.release(&identifier, anchor, previous.home, now, outputs);
        }
        for previous in ended {
            let anchor = previous.anchor(checked.access_technology_type);
            self.end(&identifier, anchor, previous.home, checked.serving, now, outputs);
        }
    }

    /// Makes the P-MAAR list right for a binding that was `before`. Returns those to release for want of room.
    fn list_previous(
        &mut self,
        identifier: &MobileNodeIdentifier,
        before: &Binding,
        now: Time,
    ) -> Vec<Previous> {
        let updating = PreviousPhase::Updating(self.new_exchange(now));
        let maximum = self.settings.maximum_previous_maars;
        let Some(binding) = self.state.bindings.get_mut(identifier) else {
            return Vec::new();
        };
        let serving = binding.serving;
        if before.serving != serving {
            // Choice G8: a MAAR that the node returns to is no previous one any more. What was relocated to it
            // is still there.
            for previous in &binding.previous {
                let prefix = previous.prefix;
                // A network behind the node is one that this MAAR gave it besides.
                let own = is_mobile_network(prefix).then_some(previous.address);
                let home = previous.home.or(own);
                if let Some(home) = home.filter(|_| previous.address == binding.serving) {
                    let left_at = previous.left_at;
                    binding.adopted.push(AdoptedPrefix {
                        prefix,
                        home,
                        left_at,
                    });
                }
            }
            binding
                .previous
                .retain(|previous| previous.address != binding.serving);
            let own = before.prefixes.iter().map(|prefix| (*prefix, None, None));
            let adopted = before.adopted.iter();
            let adopted = adopted.map(|it| (it.prefix, Some(it.home), it.left_at));
            for (prefix, home, left_at) in own.chain(adopted) {
                let previous = Previous {
                    address: before.serving,
                    prefix,
                    home: home.filter(|home| *home != before.serving),
                    left_at: left_at.or(Some(now)),
                    relocate_at: None,
                    wanted: false,
                    tunnelled_since: None,
                    phase: updating.clone(),
                    tunnel: None,
                };
                binding.previous.push(previous);
            }
            // Everybody on the list has to learn where the node is now.
            for previous in &mut binding.previous {
                previous.phase = updating.clone();
                previous.relocate_at = None;
                previous.wanted = false;
                previous.tunnelled_since = None;
            }
        }
        // The serving MAAR has had its answer about those who refused; they are of no more use. At home they are free.
        let useless = |it: &mut Previous| before.serving == serving && it.phase == PreviousPhase::Refused;
        let refused = binding.previous.extract_if(.., useless);
        let at_home = refused.filter_map(|it| {
            let address = it.home?;
            Some(Previous {
                address,
                home: None,
                ..it
            })
        });
        let at_home: Vec<_> = at_home.collect();
        // The oldest; but nothing takes the place of the network behind a node.
        let mut excess = binding.previous.len().saturating_sub(maximum);
        let over = |it: &mut Previous| {
            let goes = excess > 0 && !is_mobile_network(it.prefix);
            excess -= usize::from(goes);
            goes
        };
        let mut released: Vec<_> = binding.previous.extract_if(.., over).collect();
        for _ in &released {
            self.counters.add("previous_maars_over_limit");
        }
        released.extend(at_home);
        released
    }

    /// A node is back at an anchor that has not heard yet that a prefix of it was relocated: so it is that one's
    /// again. Returns what is to be released elsewhere.
    fn take_back(
        &mut self,
        identifier: &MobileNodeIdentifier,
        moved: bool,
        networks: &[Ipv6Net],
        now: Time,
        outputs: &mut Vec<Output>,
    ) -> Vec<Previous> {
        let Some(binding) = self.state.bindings.get_mut(identifier) else {
            return Vec::new();
        };
        let (own, serving) = (binding.prefixes.clone(), binding.serving);
        let gave = |it: &Previous| moved && it.home == Some(serving) && networks.contains(&it.prefix);
        let relocated: Vec<_> = binding
            .previous
            .extract_if(.., |previous| own.contains(&previous.prefix) || gave(previous))
            .map(|previous| Previous {
                home: None,
                ..previous
            })
            .collect();
        for previous in relocated.iter().filter(|it| is_mobile_network(it.prefix)) {
            binding.adopted.push(AdoptedPrefix {
                prefix: previous.prefix,
                home: serving,
                left_at: None,
            });
        }
        for previous in &relocated {
            self.undo(previous.prefix, now, outputs);
        }
        relocated
    }

    /// Takes networks behind the node that the serving MAAR has given it. Whether there was a new one.
    fn take_networks(
        &mut self,
        identifier: &MobileNodeIdentifier,
        networks: &[Ipv6Net],
        outputs: &mut Vec<Output>,
    ) -> bool {
        let releases = &self.state.releases;
        let Some(binding) = self.state.bindings.get_mut(identifier) else {
            return false;
        };
        let home = binding.serving;
        let mut took = false;
        for prefix in networks.iter().copied() {
            // Of one that is being released the MAAR has not heard so yet.
            let ending = releases
                .iter()
                .any(|it| it.prefix == prefix && it.identifier == *identifier);
            if ending || binding.all_prefixes().any(|it| it == prefix) {
                continue;
            }
            binding.adopted.push(AdoptedPrefix {
                prefix,
                home,
                left_at: None,
            });
            took = true;
            self.counters.add("mobile_networks_taken");
            let text = format!("{prefix} is the network behind {identifier}, anchored at {home}");
            let event = Event::new("mobile_network_taken", text);
            outputs.push(Output::Event(
                event.with("identifier", identifier).with("prefix", prefix),
            ));
        }
        took
    }

    /// Decides by which tunnel each P-MAAR and the serving one reach each other, just before the serving
    /// one is answered. P-MAARs to which that is news are told: no end may go on as it did alone.
    fn agree_on_tunnels(&mut self, identifier: &MobileNodeIdentifier, now: Time) {
        let updating = PreviousPhase::Updating(self.new_exchange(now));
        let relayed = self.settings.tunnel;
        let Some(binding) = self.state.bindings.get_mut(identifier) else {
            return;
        };
        let (serving, previous) = (binding.serving, &binding.previous);
        binding
            .offered_endpoints
            .retain(|maar, _| *maar == serving || previous.iter().any(|it| it.address == *maar));
        let offered = |maar: &Ipv6Addr| {
            let endpoint = binding.offered_endpoints.get(maar).copied();
            endpoint.filter(|endpoint| is_relayed(relayed, *endpoint))
        };
        let serving_endpoint = offered(&serving);
        let agreed: Vec<_> = binding
            .previous
            .iter()
            .map(|previous| {
                let (serving, previous) = serving_endpoint.zip(offered(&previous.address))?;
                Some(AgreedTunnel { serving, previous })
            })
            .collect();
        for (previous, tunnel) in binding.previous.iter_mut().zip(agreed) {
            if previous.tunnel != tunnel {
                previous.tunnel = tunnel;
                previous.phase = updating.clone();
            }
        }
    }

    /// The answer to an accepted registration, with the P-MAAR list.
    fn answer(
        &mut self,
        from: Ipv6Addr,
        update: &ProxyBindingUpdate,
        identifier: &MobileNodeIdentifier,
        lifetime: u16,
        now: Time,
        outputs: &mut Vec<Output>,
    ) -> Output {
        let mut answer = acknowledge(update, Status::ACCEPTED, lifetime, now);
        if let Some(binding) = self.state.bindings.get(identifier) {
            let told = || {
                let all = binding.previous.iter();
                all.filter(|previous| previous.phase != PreviousPhase::Refused)
            };
            let networks = |prefix: &Ipv6Net| is_mobile_network(*prefix);
            answer.options.home_network_prefixes =
                binding.anchored_here().filter(|it| !networks(it)).collect();
            let previous = told().map(|it| it.prefix);
            answer.options.delegated_prefixes =
                binding.anchored_here().chain(previous).filter(networks).collect();
            // One for each MAAR, which may anchor several prefixes.
            let endpoints: BTreeMap<_, _> = told()
                .filter_map(|previous| Some((previous.address, previous.tunnel?.previous)))
                .collect();
            answer.options.tunnel_endpoints = endpoints
                .into_iter()
                .map(|(address, tunnel_type)| TunnelEndpoint { address, tunnel_type })
                .collect();
            answer.options.prefix_mobilities = self.prefix_mobilities(identifier, now);
            answer.options.previous_maars = told()
                .map(|previous| PreviousMaarOption {
                    address: previous.address,
                    home_network_prefix: previous.prefix,
                    logical_interface: LogicalInterface::default(),
                })
                .collect();
        }
        // RFC 5213 section 5.3.6: `::` asks for one, another address is taken over.
        answer.options.link_local_address = update.options.link_local_address.map(|address| {
            if address.is_unspecified() {
                self.settings.router_link_local_address
            } else {
                address
            }
        });
        self.make_fit(identifier, &mut answer, outputs);
        Output::Send {
            to: from,
            message: MobilityMessage::ProxyBindingAcknowledgement(answer),
        }
    }

    /// A previous MAAR believes that it serves the node: it has lost what it was told.
    fn tell_again(&mut self, checked: &Checked, now: Time, outputs: &mut Vec<Output>) {
        let updating = PreviousPhase::Updating(self.new_exchange(now));
        let Some(binding) = self.state.bindings.get_mut(&checked.identifier) else {
            return;
        };
        for previous in &mut binding.previous {
            if previous.address == checked.serving {
                previous.phase = updating.clone();
            }
        }
        self.tell_previous(&checked.identifier, now, outputs);
    }

    /// Sends the updates of all P-MAARs that have not been told yet.
    fn tell_previous(&mut self, identifier: &MobileNodeIdentifier, now: Time, outputs: &mut Vec<Output>) {
        let Some(mut binding) = self.state.bindings.get(identifier).cloned() else {
            return;
        };
        let serving = (binding.serving, binding.expires_at.since(now));
        for previous in &mut binding.previous {
            let anchor = previous.anchor(binding.access_technology_type);
            if let PreviousPhase::Updating(exchange) = &mut previous.phase
                && exchange.transmissions == 0
            {
                self.counters.add("previous_updates_sent");
                outputs.push(self.update_for(identifier, anchor, Some(serving), exchange, now));
            }
        }
        self.state.bindings.insert(identifier.clone(), binding);
        self.reindex(identifier, None);
    }

    fn deregistration(
        &mut self,
        from: Ipv6Addr,
        update: &ProxyBindingUpdate,
        checked: &Checked,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        let identifier = &checked.identifier;
        // RFC 5213 section 5.3.5: without a binding, or from a MAAR that does not serve the node
        // (any more), it is ignored; RFC 8885 section 3.5: only the S-MAAR ends a session.
        let Some(before) = self.state.bindings.get(identifier).cloned() else {
            self.counters.add("deregistrations_ignored_unknown");
            return;
        };
        if before.serving != checked.serving {
            self.counters.add("deregistrations_ignored_not_serving");
            return;
        }
        if let Some(binding) = self.state.bindings.get_mut(identifier) {
            binding.phase = BindingPhase::Deregistered;
            binding.sequence = update.sequence;
            binding.last_timestamp = checked.timestamp;
            // RFC 5213 section 5.3.5: kept for a while, in case the node appears elsewhere.
            binding.expires_at = now.after(self.settings.timers.min_delay_before_bce_delete);
        }
        self.counters.add("deregistrations");
        outputs.push(binding_event(
            "binding_deregistered",
            checked,
            "is de-registered by",
        ));
        self.reindex(identifier, Some(&before));
        let answer = acknowledge(update, Status::ACCEPTED, 0, now);
        outputs.push(Output::Send {
            to: from,
            message: MobilityMessage::ProxyBindingAcknowledgement(answer),
        });
    }

    pub(super) fn refuse(
        &mut self,
        from: Ipv6Addr,
        update: &ProxyBindingUpdate,
        status: Status,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        let stranger = self.known_maar(from).is_none();
        self.counters.add(if stranger {
            "updates_refused_stranger"
        } else {
            "updates_refused"
        });
        if stranger && !self.refusal_limit.allow(now) {
            self.counters.add("refusals_suppressed");
            return;
        }
        let text = format!("an update from {from} was refused: {status}");
        outputs.push(Output::Event(
            Event::new("update_refused", text)
                .with("from", from)
                .with("status", status.0),
        ));
        let answer = acknowledge(update, status, 0, now);
        outputs.push(Output::Send {
            to: from,
            message: MobilityMessage::ProxyBindingAcknowledgement(answer),
        });
    }
}

fn binding_event(kind: &'static str, checked: &Checked, verb: &str) -> Output {
    let prefixes: Vec<_> = checked.prefixes.iter().map(ToString::to_string).collect();
    let text = format!(
        "{} {verb} {} with {}",
        checked.identifier,
        checked.serving,
        prefixes.join(", ")
    );
    let event = Event::new(kind, text)
        .with("identifier", &checked.identifier)
        .with("serving", checked.serving);
    Output::Event(event.with("prefixes", prefixes.join(", ")))
}

/// Whether the CMD tells MAARs of such an endpoint, with `cmd.tunnel` being this.
fn is_relayed(configured: TunnelType, endpoint: mobility::TunnelType) -> bool {
    match endpoint {
        mobility::TunnelType::Ipv6InIpv6 => false,
        mobility::TunnelType::GtpU { .. } => configured == TunnelType::GtpU,
        mobility::TunnelType::Gre { .. } => configured == TunnelType::Gre,
    }
}
