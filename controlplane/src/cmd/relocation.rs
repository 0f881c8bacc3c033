//! The anchor of a prefix is moved to the MAAR that serves its node, and a MAAR is drained
//! (RFC 8818 section 4.2.1). The steps and their order: `maar/relocation.rs`.
//!
//! ```text
//!              asked for, or due             B has what        answered                answered
//!  (anchored ─────────────────► Preparing ────────────► Taking ──────────► Yielding ──────────────► (anchored
//!   at A)                           │      A handed over  │                   │ told until it answers   at B)
//!                                   │                     │ refused,          │
//!                                   │ the node has moved  ▼ unanswered        ▼ the session ends
//!                                   └────────► (anchored at A; B releases it)   (as a session ends)
//! ```
//!
//! `Preparing` (`preparation.rs`) is there for filters and meters: they are at B before the first packet comes straight to it. It
//! ends after a while whoever does not answer.
//! While it is `Taking` the binding says that A anchors it, from `Yielding` on that B does. The state is on disk
//! before a message leaves that others build upon. So whoever dies, the prefix has one anchor in the end.

use std::net::Ipv6Addr;
use std::time::Duration;

use ipnet::Ipv6Net;

use super::fsm::{Anchor, Cmd, Output};
use super::state::{
    AdoptedPrefix, Binding, BindingPhase, PreviousPhase, Release, Relocation, RelocationPhase,
};
use crate::event::Event;
use crate::identity::MobileNodeIdentifier;
use crate::time::Time;
use crate::wire::mobility::{
    AnchorRelocation, MobilityMessage, ProxyBindingAcknowledgement, RelocationStep, Status,
};

/// Transmissions to a new anchor before a relocation is given up. Nothing has changed then.
const TAKE_TRANSMISSIONS: u32 = 5;
/// A relocation that nobody has asked for in person and that has failed is tried again after this.
const TRY_AGAIN: Duration = Duration::from_secs(30);

/// Why the anchor of a prefix is not relocated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RelocationError {
    /// No node has it.
    #[error("{0} is no prefix of any node")]
    UnknownPrefix(Ipv6Net),
    /// `cmd.known_maar` does not have it.
    #[error("{0} is no MAAR of this domain")]
    UnknownMaar(Ipv6Addr),
    /// It is where it is wanted.
    #[error("{prefix} is anchored at {anchor} already")]
    Anchored {
        /// Which.
        prefix: Ipv6Net,
        /// Where.
        anchor: Ipv6Addr,
    },
    /// Only the MAAR that serves the node can anchor what others gave it.
    #[error("{prefix} cannot be anchored at {to}: {identifier} is served by {serving}")]
    NotServing {
        /// Which.
        prefix: Ipv6Net,
        /// Where it was to go.
        to: Ipv6Addr,
        /// Whose it is.
        identifier: MobileNodeIdentifier,
        /// Where the node is.
        serving: Ipv6Addr,
    },
    /// The session is ending.
    #[error("{prefix}: the session of {identifier} is ending")]
    Ending {
        /// Which.
        prefix: Ipv6Net,
        /// Whose it is.
        identifier: MobileNodeIdentifier,
    },
    /// The anchor does not follow, so nothing can be taken from it.
    #[error("{prefix} is not tunnelled to {to} yet: its anchor {anchor} has not confirmed it")]
    Unconfirmed {
        /// Which.
        prefix: Ipv6Net,
        /// Where it was to go.
        to: Ipv6Addr,
        /// Where it is.
        anchor: Ipv6Addr,
    },
    /// Another one is under way.
    #[error("{prefix} is being relocated to {to}")]
    UnderWay {
        /// Which.
        prefix: Ipv6Net,
        /// Where to.
        to: Ipv6Addr,
    },
}

/// How a relocation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As it should.
    Relocated {
        /// Where the prefix was anchored.
        from: Ipv6Addr,
        /// Where it is now.
        to: Ipv6Addr,
        /// From the first message to the last answer.
        took: Duration,
    },
    /// Not at all: the prefix is where it was.
    Failed {
        /// Where that is.
        from: Ipv6Addr,
        /// Why.
        why: String,
    },
}

impl Cmd {
    /// Begins to relocate the anchor of `prefix` to `to`.
    ///
    /// # Errors
    /// Why not; nothing has changed then.
    pub fn relocate(
        &mut self,
        prefix: Ipv6Net,
        to: Ipv6Addr,
        now: Time,
    ) -> Result<Vec<Output>, RelocationError> {
        if self.known_maar(to).is_none() {
            return Err(RelocationError::UnknownMaar(to));
        }
        let (identifier, from) = self.relocatable(prefix, Some(to))?;
        let mut outputs = Vec::new();
        self.begin(&identifier, prefix, from, to, now, &mut outputs);
        Ok(outputs)
    }

    /// Whose a prefix is, and its anchor, if it can be relocated; to the serving MAAR, which is `to` if given.
    pub(super) fn relocatable(
        &self,
        prefix: Ipv6Net,
        to: Option<Ipv6Addr>,
    ) -> Result<(MobileNodeIdentifier, Ipv6Addr), RelocationError> {
        let unknown = RelocationError::UnknownPrefix(prefix);
        if let Some(known) = self.state.relocations.get(&prefix) {
            return Err(RelocationError::UnderWay { prefix, to: known.to });
        }
        let identifier = self.owners.get(&prefix).ok_or(unknown.clone())?;
        let binding = self.state.bindings.get(identifier).ok_or(unknown.clone())?;
        let (serving, identifier) = (binding.serving, identifier.clone());
        let previous = binding.previous.iter().find(|it| it.prefix == prefix);
        let anchor = previous.map_or(serving, |it| it.address);
        let to = to.unwrap_or(serving);
        if anchor == to {
            return Err(RelocationError::Anchored { prefix, anchor });
        }
        if to != serving {
            return Err(RelocationError::NotServing {
                prefix,
                to,
                identifier,
                serving,
            });
        }
        if binding.phase != BindingPhase::Active {
            return Err(RelocationError::Ending { prefix, identifier });
        }
        if previous.is_none_or(|it| it.phase != PreviousPhase::Confirmed) {
            return Err(RelocationError::Unconfirmed { prefix, to, anchor });
        }
        Ok((identifier, anchor))
    }

    pub(super) fn begin(
        &mut self,
        identifier: &MobileNodeIdentifier,
        prefix: Ipv6Net,
        from: Ipv6Addr,
        to: Ipv6Addr,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        let relocation = Relocation {
            identifier: identifier.clone(),
            from,
            to,
            phase: RelocationPhase::Preparing,
            exchange: self.new_exchange(now),
            started_at: now,
            prepared: false,
        };
        // What it was told of an earlier attempt is not true any more.
        self.state
            .releases
            .retain(|it| !(it.address == to && it.prefix == prefix));
        self.counters.add("relocations_started");
        let text = format!("{prefix} of {identifier} is to be anchored at {to}, no more at {from}");
        outputs.push(Output::Event(about(
            "relocation_started",
            text,
            identifier,
            prefix,
            to,
        )));
        self.send_step(prefix, relocation, now, outputs);
    }

    /// Sends the update of the step where a relocation stands, and puts it back into the state.
    pub(super) fn send_step(
        &mut self,
        prefix: Ipv6Net,
        mut relocation: Relocation,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        let Some(binding) = self.state.bindings.get(&relocation.identifier) else {
            return;
        };
        let (address, step, anchor) = match relocation.phase {
            RelocationPhase::Preparing => (relocation.from, RelocationStep::Prepare, relocation.to),
            RelocationPhase::Taking => (relocation.to, RelocationStep::Take, relocation.from),
            RelocationPhase::Yielding => (relocation.from, RelocationStep::Yield, relocation.to),
        };
        let target = Anchor {
            address,
            prefix,
            access_technology_type: binding.access_technology_type,
            serving_endpoint: None,
        };
        let serving = (relocation.to, binding.expires_at.since(now));
        let identifier = relocation.identifier.clone();
        let update = self.update_for(&identifier, target, Some(serving), &mut relocation.exchange, now);
        let output = with_step(update, step, anchor);
        // A CMD that forgot what it has begun would leave two anchors.
        outputs.push(when_saved(output));
        self.put_relocation(prefix, Some(relocation));
    }

    /// The answer to a step, if it is one.
    pub(super) fn relocation_answered(
        &mut self,
        from: Ipv6Addr,
        acknowledgement: &ProxyBindingAcknowledgement,
        now: Time,
        outputs: &mut Vec<Output>,
    ) -> bool {
        let [prefix] = *acknowledgement.options.session_prefixes() else {
            return false;
        };
        let identifier = acknowledgement.options.mobile_node_identifier.as_ref();
        let known = self.state.relocations.get(&prefix).filter(|it| {
            let asked = match it.phase {
                RelocationPhase::Taking => it.to,
                RelocationPhase::Preparing | RelocationPhase::Yielding => it.from,
            };
            asked == from
                && Some(&it.identifier) == identifier
                && it.exchange.sequences.contains(&acknowledgement.sequence)
        });
        let Some(relocation) = known.cloned() else {
            return false;
        };
        let status = acknowledgement.status;
        if status == Status::TIMESTAMP_MISMATCH || status == Status::TIMESTAMP_LOWER_THAN_PREV_ACCEPTED {
            // The retransmission has a fresh one.
            return true;
        }
        match relocation.phase {
            // One that knows nothing of it has nothing to hand over.
            RelocationPhase::Preparing => self.prepared(prefix, relocation, now, outputs),
            RelocationPhase::Taking if status.is_accepted() => {
                self.taken(prefix, relocation, now, outputs);
            }
            RelocationPhase::Taking => {
                let why = format!("{from} refused to anchor it: {status}");
                self.give_up(prefix, &why, now, outputs);
            }
            // An old anchor that knows nothing of it has nothing to yield.
            RelocationPhase::Yielding => self.yielded(prefix, &relocation, now, outputs),
        }
        true
    }

    /// The new anchor has it.
    fn taken(&mut self, prefix: Ipv6Net, mut relocation: Relocation, now: Time, outputs: &mut Vec<Output>) {
        let before = self.state.bindings.get(&relocation.identifier).cloned();
        let binding = self.state.bindings.get_mut(&relocation.identifier);
        let Some(binding) = binding.filter(|it| it.serving == relocation.to) else {
            return self.give_up(prefix, "its node has moved", now, outputs);
        };
        let position = binding.previous.iter().position(|it| it.prefix == prefix);
        let Some(previous) = position.map(|at| binding.previous.remove(at)) else {
            return self.give_up(prefix, "it is none of its node's any more", now, outputs);
        };
        binding.adopted.push(AdoptedPrefix {
            prefix,
            home: previous.home.unwrap_or(previous.address),
            left_at: previous.left_at,
        });
        relocation.phase = RelocationPhase::Yielding;
        relocation.exchange = self.new_exchange(now);
        self.reindex(&relocation.identifier, before.as_ref());
        self.send_step(prefix, relocation, now, outputs);
    }

    /// The old anchor has let it go.
    fn yielded(&mut self, prefix: Ipv6Net, relocation: &Relocation, now: Time, outputs: &mut Vec<Output>) {
        self.put_relocation(prefix, None);
        self.counters.add("relocations_completed");
        // Its node may have moved meanwhile, and policy may want it to go on.
        self.to_relocate.insert(prefix);
        let (from, to) = (relocation.from, relocation.to);
        let took = now.since(relocation.started_at);
        let text = format!("{prefix} is anchored at {to}, no more at {from}");
        let event = about("anchor_relocated", text, &relocation.identifier, prefix, to);
        let event = event.with("from", from).with("duration_us", took.as_micros());
        outputs.push(Output::Event(event));
        let outcome = Outcome::Relocated { from, to, took };
        outputs.push(Output::Relocation { prefix, outcome });
        self.relocate_more(now, outputs);
    }

    /// Leaves a prefix whose new anchor has not said that it has it where it is.
    fn give_up(&mut self, prefix: Ipv6Net, why: &str, now: Time, outputs: &mut Vec<Output>) {
        let Some(relocation) = self.put_relocation(prefix, None) else {
            return;
        };
        self.counters.add("relocations_failed");
        let text = format!(
            "{prefix} stays at {}, is not relocated to {}: {why}",
            relocation.from, relocation.to
        );
        let event = about(
            "relocation_failed",
            text.clone(),
            &relocation.identifier,
            prefix,
            relocation.to,
        );
        outputs.push(Output::Event(event));
        let outcome = failed(&relocation, text);
        outputs.push(Output::Relocation { prefix, outcome });
        // It may have it nevertheless, its answer being lost.
        let binding = self.state.bindings.get(&relocation.identifier);
        let mut release = Release {
            identifier: relocation.identifier.clone(),
            address: relocation.to,
            prefix,
            access_technology_type: binding.map_or(0, |it| it.access_technology_type),
            home: None,
            stays_at: Some(relocation.from),
            moved_to: None,
            exchange: self.new_exchange(now),
        };
        let update = self.update_of_release(&mut release, now);
        // Not before the step that it undoes, which waits for the same.
        outputs.push(when_saved(update));
        self.state.releases.push(release);
        self.try_again(&relocation, prefix, now);
        self.relocate_more(now, outputs);
    }

    /// What is to go by policy, or because its anchor is drained, is tried again a while later.
    fn try_again(&mut self, relocation: &Relocation, prefix: Ipv6Net, now: Time) {
        let drained = self.state.draining.contains(&relocation.from);
        if let Some(binding) = self.state.bindings.get_mut(&relocation.identifier) {
            if drained || binding.wants(prefix) {
                binding.relocate_after(prefix, TRY_AGAIN, now);
            }
            self.reindex(&relocation.identifier, None);
        }
    }

    /// The old anchor goes on as one: it was not told before the node came back to it.
    pub(super) fn undo(&mut self, prefix: Ipv6Net, now: Time, outputs: &mut Vec<Output>) {
        let Some(relocation) = self.put_relocation(prefix, None) else {
            return;
        };
        self.counters.add("relocations_failed");
        let (from, to) = (relocation.from, relocation.to);
        let text = format!("{prefix} stays at {from}, is not relocated to {to}: its node is back there");
        let event = about(
            "relocation_failed",
            text.clone(),
            &relocation.identifier,
            prefix,
            to,
        );
        outputs.push(Output::Event(event));
        let outcome = failed(&relocation, text);
        outputs.push(Output::Relocation { prefix, outcome });
        self.relocate_more(now, outputs);
    }

    /// A node has moved, or its session is over: what that means for relocations under way.
    pub(super) fn stop_relocations(
        &mut self,
        identifier: &MobileNodeIdentifier,
        why: &str,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        let of_node = |(prefix, it): (&Ipv6Net, &Relocation)| {
            let taking = it.phase != RelocationPhase::Yielding && it.identifier == *identifier;
            taking.then_some(*prefix)
        };
        let prefixes: Vec<_> = self.state.relocations.iter().filter_map(of_node).collect();
        for prefix in prefixes {
            self.give_up(prefix, why, now, outputs);
        }
    }

    /// Sends again what was not answered.
    pub(super) fn retransmit_relocations(&mut self, now: Time, outputs: &mut Vec<Output>) {
        while let Some(prefix) = self.relocation_deadlines.due(now) {
            let Some(mut relocation) = self.state.relocations.get(&prefix).cloned() else {
                self.relocation_deadlines.set(&prefix, None);
                continue;
            };
            let unanswered = relocation.exchange.transmissions;
            if !self.state.bindings.contains_key(&relocation.identifier) {
                // Whoever had it has been told to release it.
                self.put_relocation(prefix, None);
                let outcome = failed(
                    &relocation,
                    format!("the session of {} is over", relocation.identifier),
                );
                outputs.push(Output::Relocation { prefix, outcome });
            } else if relocation.phase == RelocationPhase::Preparing && relocation.is_overdue() {
                self.begin_taking(prefix, relocation, now, outputs);
            } else if relocation.phase == RelocationPhase::Taking && unanswered >= TAKE_TRANSMISSIONS {
                let why = format!("{} does not answer", relocation.to);
                self.give_up(prefix, &why, now, outputs);
            } else {
                self.counters.add("relocations_retransmitted");
                if unanswered == TAKE_TRANSMISSIONS {
                    self.old_anchor_silent(prefix, &relocation, now, outputs);
                }
                self.wait_longer(&mut relocation.exchange, now);
                self.send_step(prefix, relocation, now, outputs);
            }
        }
    }

    /// The prefix is where it was to go, and whoever asked for that shall not wait for ever. The old anchor goes on being
    /// told.
    fn old_anchor_silent(
        &self,
        prefix: Ipv6Net,
        relocation: &Relocation,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        let (from, to) = (relocation.from, relocation.to);
        let text = format!(
            "{prefix} is anchored at {to}, but {from} does not answer: it may tunnel or announce it still"
        );
        let event = about("old_anchor_silent", text, &relocation.identifier, prefix, to);
        outputs.push(Output::Event(event.with("from", from)));
        let took = now.since(relocation.started_at);
        let outcome = Outcome::Relocated { from, to, took };
        outputs.push(Output::Relocation { prefix, outcome });
    }

    /// The only way in which relocations change. What there was before.
    pub(super) fn put_relocation(
        &mut self,
        prefix: Ipv6Net,
        relocation: Option<Relocation>,
    ) -> Option<Relocation> {
        let at = relocation.as_ref().map(|it| it.exchange.retransmit_at);
        self.relocation_deadlines.set(&prefix, at);
        match relocation {
            Some(relocation) => self.state.relocations.insert(prefix, relocation),
            None => self.state.relocations.remove(&prefix),
        }
    }
}

impl Binding {
    /// Has a prefix tried again.
    fn relocate_after(&mut self, prefix: Ipv6Net, after: Duration, now: Time) {
        for previous in self.previous.iter_mut().filter(|it| it.prefix == prefix) {
            previous.relocate_at = Some(now.after(after));
        }
    }
}

fn failed(relocation: &Relocation, why: String) -> Outcome {
    let from = relocation.from;
    Outcome::Failed { from, why }
}

/// A message that others build upon.
pub(super) fn when_saved(output: Output) -> Output {
    match output {
        Output::Send { to, message } => Output::SendWhenSaved { to, message },
        other => other,
    }
}

/// An update with a step of a relocation.
pub(super) fn with_step(mut update: Output, step: RelocationStep, anchor: Ipv6Addr) -> Output {
    if let Output::Send {
        message: MobilityMessage::ProxyBindingUpdate(update),
        ..
    } = &mut update
    {
        update.options.anchor_relocation = Some(AnchorRelocation { step, anchor });
    }
    update
}

fn about(
    kind: &'static str,
    text: String,
    identifier: &MobileNodeIdentifier,
    prefix: Ipv6Net,
    to: Ipv6Addr,
) -> Event {
    Event::new(kind, text)
        .with("identifier", identifier)
        .with("prefix", prefix)
        .with("to", to)
}
