//! The anchor of a prefix moves while its node uses it (RFC 8818 section 4.2.1, figures 7 and 8).
//!
//! The CMD moves it, in two steps that each survive the death of anybody:
//!
//! ```text
//!                CMD                 new anchor (serves the node)          old anchor
//!                 │  prepare P for new                                         │
//!                 │───────────────────────────────────────────────────────────►│
//!                 │◄──── filters, what is left in meters (`handing.rs`) ───────│
//!                 │─────────────────────────►│                                 │
//!                 │  take P from old         │                                 │
//!                 │─────────────────────────►│ P waits for the old way         │
//!                 │                          │ announces P                     │ tunnels P
//!                 │        routes lead here  │ node's own packets: native      │ to the new one
//!                 │◄─────────────────────────│                                 │
//!                 │  yield P to new                                            │
//!                 │───────────────────────────────────────────────────────────►│ withdraws P
//!                 │◄───────────────────────────────────────────────────────────│
//!                 │                          │◄──── last packets, path end ────│ after `route_settle`
//!                 │                          │ P native                        │ forgets P after LINGER
//! ```
//!
//! Before the first answer P is the old anchor's, after it the new one's; until the old one has heard so both have it,
//! and both deliver. Each step is said until it is answered, so that ends with whatever kept the message away.
//!
//! **Order, to the node.** From the first step on, packets that come straight to the new anchor wait for the path
//! end of the old one (`NextHop::After`); the old one says it when its routes have been gone for
//! `timers.route_settle_ms`, in which the network follows. If it says nothing the new one goes on by itself a little later.
//! **Order, from the node.** Its packets wait for `timers.uplink_settle_ms` between the last that left through the
//! old anchor and the first that leaves here.
//!
//! When the session ends the CMD has the anchor give P up, and then the MAAR of whose pool it is: until then it is in
//! [`State::yielded`](super::State::yielded) there and nobody else's.

use std::net::Ipv6Addr;
use std::time::Duration;

use ipnet::Ipv6Net;

use super::fsm::{Maar, Output};
use super::state::{Adopted, Asked, Node, Phase, Previous, Yielded};
use crate::event::Event;
use crate::identity::MobileNodeIdentifier;
use crate::proxy_binding::{acknowledge, requested_prefixes};
use crate::time::Time;
use crate::wire::mobility::{
    AnchorRelocation, MobilityMessage, ProxyBindingUpdate, RelocationStep, Status, is_mobile_network,
};

/// How long an old anchor goes on tunnelling what comes to it nevertheless.
pub(super) const LINGER: Duration = Duration::from_secs(10);
/// A new anchor waits this much longer for the path end than the old one waits before it says it: for the CMD to
/// tell the old one, and for its routes to go. It is never waited for where the old anchor lives.
const PATH_END_GRACE: Duration = Duration::from_secs(1);
/// While a prefix is being taken nobody sends its packets here; the wait for the old way is there before the first does.
const TAKING_MS: u32 = 600_000;
/// A registration that was answered this long after a prefix was taken, and does not name it, means that
/// the CMD has forgotten about it.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(10);

/// Whether a step of a relocation is for this node. `announces`: routes can follow.
pub(super) fn check_relocation(
    node: &Node,
    prefix: Ipv6Net,
    relocation: AnchorRelocation,
    announces: bool,
) -> Result<(), Status> {
    let known = match relocation.step {
        RelocationStep::Take => {
            let known = |it: &Previous| it.prefix == prefix && it.address == relocation.anchor;
            node.previous.iter().any(known) || node.adopted.iter().any(|it| it.prefix == prefix)
        }
        RelocationStep::Yield | RelocationStep::Prepare => node.own_prefixes().any(|it| it == prefix),
    };
    if !known {
        return Err(Status::NOT_AUTHORIZED_FOR_HOME_NETWORK_PREFIX);
    }
    let right = match relocation.step {
        // Only who serves the node can anchor what others gave it.
        RelocationStep::Take => node.phase == Phase::Attached && announces,
        RelocationStep::Prepare => matches!(node.phase, Phase::Anchored { .. }),
        // Or has not become the anchor for good.
        RelocationStep::Yield => {
            matches!(node.phase, Phase::Anchored { .. }) || prefix != node.home_network_prefix
        }
    };
    if right {
        Ok(())
    } else {
        Err(Status::ADMINISTRATIVELY_PROHIBITED)
    }
}

impl Maar {
    /// A prefix that another MAAR anchors is to be anchored here.
    pub(super) fn take(
        &mut self,
        identifier: &MobileNodeIdentifier,
        cmd: Ipv6Addr,
        update: &ProxyBindingUpdate,
        from: Ipv6Addr,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        let Some(&prefix) = requested_prefixes(&update.options).first() else {
            return;
        };
        let Some(node) = self.state.nodes.get_mut(identifier) else {
            return;
        };
        let asked = Asked {
            cmd,
            update: update.clone(),
        };
        match node.adopted.iter_mut().find(|it| it.prefix == prefix) {
            // Said again: the answer is still to come, or was lost.
            Some(adopted) if adopted.asked.is_some() => adopted.asked = Some(asked),
            Some(_) => self.answer_taken(&asked, now, outputs),
            None => {
                node.previous.retain(|it| it.prefix != prefix);
                node.adopted.push(Adopted {
                    prefix,
                    given: false,
                    from,
                    since: now,
                    asked: Some(asked),
                    wait_ms: TAKING_MS,
                    arriving_until: None,
                    filtered_until: None,
                    uplink_at: None,
                });
                self.taking.insert(prefix, identifier.clone());
                // It is nobody else's now, least of all one that we gave away.
                self.put_yielded(prefix, None);
                self.prefixes_in_use.insert(prefix);
                let text = format!("{prefix} of {identifier} is being taken over from {from}");
                outputs.push(told("anchor_taking", text, identifier, prefix));
            }
        }
        self.reschedule(identifier);
    }

    /// Routes lead here: the prefix is ours.
    pub(super) fn announced(&mut self, prefix: Ipv6Net, now: Time, outputs: &mut Vec<Output>) {
        let timers = &self.settings.timers;
        let (settle, uplink) = (timers.route_settle, timers.uplink_settle);
        let Some(identifier) = self.taking.remove(&prefix) else {
            return;
        };
        let node = self.state.nodes.get_mut(&identifier);
        let adopted = node.and_then(|node| node.adopted.iter_mut().find(|it| it.prefix == prefix));
        let Some((adopted, asked)) = adopted.and_then(|it| it.asked.take().map(|asked| (it, asked))) else {
            return;
        };
        let wait = now.since(adopted.since) + settle + PATH_END_GRACE;
        adopted.wait_ms = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX);
        // What comes by the old way until then is taken, be it ever so late.
        adopted.arriving_until = Some(now.after(2 * LINGER));
        // It is asked to let it go when it hears of this, and then has it for as long.
        adopted.filtered_until = Some(now.after(LINGER));
        adopted.uplink_at = Some(now.after(uplink));
        let from = adopted.from;
        if let Some(node) = self.state.nodes.get_mut(&identifier) {
            node.tell_soon(now);
        }
        self.counters.add("prefixes_adopted");
        let text = format!("{prefix} of {identifier} is anchored here now, no more at {from}");
        outputs.push(told("anchor_taken", text, &identifier, prefix));
        self.answer_taken(&asked, now, outputs);
        self.reschedule(&identifier);
    }

    fn answer_taken(&self, asked: &Asked, now: Time, outputs: &mut Vec<Output>) {
        let answer = acknowledge(&asked.update, Status::ACCEPTED, asked.update.lifetime, now);
        outputs.push(Output::SendWhenSaved {
            to: asked.cmd,
            message: MobilityMessage::ProxyBindingAcknowledgement(answer),
        });
    }

    /// A prefix that is anchored here is another MAAR's from now on.
    pub(super) fn yield_to(
        &mut self,
        identifier: &MobileNodeIdentifier,
        update: &ProxyBindingUpdate,
        to: Ipv6Addr,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        let Some(&prefix) = requested_prefixes(&update.options).first() else {
            return;
        };
        if self.state.yielded.get(&prefix).is_some_and(|it| it.to == to) {
            return;
        }
        let node = self.state.nodes.get(identifier);
        if node.is_none_or(|node| !matches!(node.phase, Phase::Anchored { .. })) {
            return self.give_back(identifier, prefix, to, now, outputs);
        }
        let yielded = Yielded {
            identifier: identifier.clone(),
            to,
            withdrawing: true,
            path_end_at: None,
            until: Some(now.after(LINGER)),
        };
        self.put_yielded(prefix, Some(yielded));
        self.hand_over_last(identifier, prefix, to, now, outputs);
        self.counters.add("prefixes_yielded");
        let text = format!("{prefix} of {identifier} is anchored at {to} now");
        let event = Event::new("anchor_yielded", text)
            .with("identifier", identifier)
            .with("prefix", prefix);
        outputs.push(Output::Event(event.with("to", to)));
    }

    /// A prefix that was being taken stays where it was, for a node that is here.
    fn give_back(
        &mut self,
        identifier: &MobileNodeIdentifier,
        prefix: Ipv6Net,
        to: Ipv6Addr,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        let Some(node) = self.state.nodes.get_mut(identifier) else {
            return;
        };
        node.adopted.retain(|it| it.prefix != prefix);
        // What came ahead of it, and with it, stays with it.
        self.filters_stay_away(prefix);
        self.forget_filters_of(prefix);
        let Some(node) = self.state.nodes.get_mut(identifier) else {
            return;
        };
        let previous = Previous { address: to, prefix };
        if !node.previous.contains(&previous) {
            node.previous.push(previous);
        }
        let attached = node.phase == Phase::Attached;
        self.taking.remove(&prefix);
        if self.is_ours(prefix) {
            let yielded = Yielded {
                identifier: identifier.clone(),
                to,
                withdrawing: false,
                path_end_at: None,
                until: None,
            };
            self.put_yielded(prefix, Some(yielded));
        } else {
            self.prefixes_in_use.remove(&prefix);
        }
        self.counters.add("prefixes_given_back");
        let text = format!("{prefix} of {identifier} stays at {to}");
        outputs.push(told("anchor_released", text, identifier, prefix));
        if attached {
            self.advertise(identifier, false, now, outputs);
        }
        self.reschedule(identifier);
    }

    /// No route of ours leads here any more for a prefix that was yielded.
    pub(super) fn withdrawn(&mut self, prefix: Ipv6Net, now: Time) {
        let settled = now.after(self.settings.timers.route_settle);
        let yielded = self.state.yielded.get(&prefix).filter(|it| it.withdrawing);
        if let Some(mut yielded) = yielded.cloned() {
            yielded.withdrawing = false;
            yielded.path_end_at = Some(settled);
            self.put_yielded(prefix, Some(yielded));
        }
    }

    /// The CMD ends what a node has here of a prefix.
    pub(super) fn release(
        &mut self,
        identifier: &MobileNodeIdentifier,
        prefix: Ipv6Net,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        if self.is_home(identifier, prefix) {
            self.drop_unheard_network(identifier);
        }
        let Some(node) = self.state.nodes.get_mut(identifier) else {
            return;
        };
        if node.giving_up.iter().any(|(it, _)| *it == prefix) {
            // As good as the answer, which may have been lost.
            node.note_ended(prefix);
        }
        if let Some(at) = node.adopted.iter().position(|it| it.prefix == prefix) {
            node.adopted.remove(at);
            node.forget_given_up();
            if matches!(node.phase, Phase::Anchored { .. }) {
                node.network_asked = node.network_asked.filter(|it| *it != prefix);
            }
            self.taking.remove(&prefix);
            let text = format!("{prefix} of {identifier} is not anchored here any more");
            outputs.push(told("anchor_released", text, identifier, prefix));
            self.free_prefix(prefix);
            if self.has_nothing_known(identifier) {
                return self.remove(identifier);
            }
        } else if node.go_on_without_home() {
            let text = format!("{prefix} of {identifier} is free again");
            outputs.push(told("anchor_released", text, identifier, prefix));
            self.free_prefix(prefix);
        } else {
            let text = format!("{identifier} is gone: {prefix} is free again");
            outputs.push(told("anchor_released", text, identifier, prefix));
            return self.remove(identifier);
        }
        if self
            .state
            .nodes
            .get(identifier)
            .is_some_and(|it| it.phase == Phase::Attached)
        {
            self.advertise(identifier, false, now, outputs);
        }
        self.forget_tunnels(identifier);
        self.reschedule(identifier);
    }

    /// Takes the release of a prefix that was yielded: it may be given to another node again. Whether it was one.
    pub(super) fn release_yielded(
        &mut self,
        from: Ipv6Addr,
        update: &ProxyBindingUpdate,
        now: Time,
        outputs: &mut Vec<Output>,
    ) -> bool {
        let (Some(identifier), [prefix]) = (
            update.options.mobile_node_identifier.as_ref(),
            requested_prefixes(&update.options),
        ) else {
            return false;
        };
        let prefix = *prefix;
        let known = self.state.yielded.get(&prefix);
        if update.lifetime != 0
            || !update.is_distributed()
            || known.is_none_or(|it| it.identifier != *identifier)
        {
            return false;
        }
        self.put_yielded(prefix, None);
        self.drop_yielded(identifier, prefix);
        self.prefixes_in_use.remove(&prefix);
        self.counters.add("updates_accepted");
        self.counters.add("prefixes_yielded_freed");
        let text = format!("{identifier} needs {prefix} no more: it is free again");
        outputs.push(told("anchor_released", text, identifier, prefix));
        let answer = acknowledge(update, Status::ACCEPTED, 0, now);
        outputs.push(Output::SendWhenSaved {
            to: from,
            message: MobilityMessage::ProxyBindingAcknowledgement(answer),
        });
        true
    }

    /// What is due of prefixes that were yielded.
    pub(super) fn tick_yielded(&mut self, now: Time, outputs: &mut Vec<Output>) {
        while let Some(prefix) = self.yielded_deadlines.due(now) {
            let Some(mut yielded) = self.state.yielded.get(&prefix).cloned() else {
                self.yielded_deadlines.set(&prefix, None);
                continue;
            };
            let identifier = yielded.identifier.clone();
            if yielded.path_end_at.is_some_and(|at| at <= now) {
                yielded.path_end_at = None;
                let to = yielded.to;
                if let Some(node) = self.state.nodes.get(&identifier) {
                    let by = node.way_to(to);
                    outputs.push(Output::EndPath { to, prefix, by });
                }
            }
            let over = yielded.until.is_some_and(|at| at <= now);
            // What is of our pools stays somebody's until the CMD says otherwise.
            let ours = self.is_ours(prefix);
            yielded.until = yielded.until.filter(|_| !over);
            yielded.withdrawing &= !over;
            self.put_yielded(prefix, (ours || !over).then_some(yielded));
            if over {
                self.drop_yielded(&identifier, prefix);
                if !ours {
                    self.prefixes_in_use.remove(&prefix);
                }
            }
        }
    }

    /// A node that is elsewhere has nothing more to do here with a prefix that is anchored elsewhere too.
    fn drop_yielded(&mut self, identifier: &MobileNodeIdentifier, prefix: Ipv6Net) {
        let Some(node) = self.state.nodes.get_mut(identifier) else {
            return;
        };
        if !matches!(node.phase, Phase::Anchored { .. }) {
            return;
        }
        node.adopted.retain(|it| it.prefix != prefix);
        if self.is_home(identifier, prefix) {
            self.drop_unheard_network(identifier);
        }
        let Some(node) = self.state.nodes.get_mut(identifier) else {
            return;
        };
        if node.home_network_prefix == prefix && !node.go_on_without_home() {
            return self.remove(identifier);
        }
        if self.has_nothing_known(identifier) {
            return self.remove(identifier);
        }
        self.forget_tunnels(identifier);
        self.reschedule(identifier);
    }

    /// Whether a node that is elsewhere has no prefix here that the CMD knows of.
    fn has_nothing_known(&self, identifier: &MobileNodeIdentifier) -> bool {
        self.state.nodes.get(identifier).is_some_and(|node| {
            matches!(node.phase, Phase::Anchored { .. }) && node.adopted.is_empty() && node.home_unheard
        })
    }

    /// A node comes, maybe back: it needs a prefix of our pools that is anchored here. `false`: there is none.
    pub(super) fn assure_own_prefix(&mut self, identifier: &MobileNodeIdentifier, now: Time) -> bool {
        let Some(node) = self.state.nodes.get(identifier) else {
            return true;
        };
        let own = node.home_network_prefix;
        let is_yielded = |prefix: &Ipv6Net| self.state.yielded.contains_key(prefix);
        let yielded: Vec<_> = node.own_prefixes().filter(is_yielded).collect();
        // What is left of a node that was released may be a prefix of another MAAR.
        let ours = self.is_ours(own) && !is_mobile_network(own);
        let elsewhere = yielded.contains(&own);
        let fresh = if ours && !elsewhere {
            None
        } else {
            let Some(fresh) = self.allocate_prefix(now) else {
                return false;
            };
            Some(fresh)
        };
        let from = self.settings.address;
        if let Some(node) = self.state.nodes.get_mut(identifier) {
            node.adopted.retain(|it| !yielded.contains(&it.prefix));
            if let Some(fresh) = fresh {
                node.home_network_prefix = fresh;
                node.home_unheard = true;
                if elsewhere {
                    // What was tunnelled there was the other one.
                    node.last_serving = None;
                    node.registered = false;
                } else {
                    node.adopted.insert(0, Adopted::settled(own, from, now));
                }
            }
        }
        true
    }

    /// Makes what was relocated here what the CMD says in its answer to a registration.
    pub(super) fn agree_on_adopted(
        &mut self,
        identifier: &MobileNodeIdentifier,
        prefixes: &[Ipv6Net],
        now: Time,
    ) {
        let own = self.settings.address;
        let Some(node) = self.state.nodes.get_mut(identifier) else {
            return;
        };
        let told = prefixes.iter().filter(|it| **it != node.home_network_prefix);
        // What another node has is not this one's, whoever says so, nor what the file has behind a tunnel.
        let settings = &self.settings;
        let in_use = &self.prefixes_in_use;
        let yielded = &self.state.yielded;
        let its = |it: &&Ipv6Net| {
            let known = node.adopted.iter().any(|adopted| adopted.prefix == **it);
            (it.prefix_len() == 64 || is_mobile_network(**it))
                && (known
                    || yielded.contains_key(*it)
                    || !in_use.contains(*it) && !settings.is_tunnelled(**it))
        };
        let told: Vec<Ipv6Net> = told.filter(its).copied().collect();
        // While it is being taken the CMD may not have said so yet.
        let settled = |it: &Adopted| it.asked.is_none() && it.since.after(FORGOTTEN_AFTER) <= now;
        let forgotten =
            |it: &Adopted| !told.contains(&it.prefix) && settled(it) && it.arriving_until.is_none();
        let gone: Vec<_> = node.adopted.iter().filter(|it| forgotten(it)).cloned().collect();
        node.adopted.retain(|it| !forgotten(it));
        for adopted in &mut node.adopted {
            if adopted.since.after(FORGOTTEN_AFTER) <= now && !adopted.is_coming() {
                // There is no going back to the old anchor any more, and nothing comes from there.
                adopted.from = own;
            }
        }
        for prefix in told {
            let Some(node) = self.state.nodes.get_mut(identifier) else {
                return;
            };
            if node.adopted.iter().any(|it| it.prefix == prefix) {
                continue;
            }
            node.adopted.push(Adopted::settled(prefix, own, now));
            self.put_yielded(prefix, None);
            self.prefixes_in_use.insert(prefix);
            self.counters.add("prefixes_adopted_late");
        }
        for adopted in gone {
            self.counters.add("prefixes_given_back");
            self.free_prefix(adopted.prefix);
        }
    }

    /// Nothing of before a relocation is on the way any more.
    pub(super) fn forget_old_anchors(node: &mut Node, now: Time) {
        for adopted in &mut node.adopted {
            adopted.arriving_until = adopted.arriving_until.filter(|at| *at > now);
            adopted.filtered_until = adopted.filtered_until.filter(|at| *at > now);
            adopted.uplink_at = adopted.uplink_at.filter(|at| *at > now);
        }
    }

    /// The only way in which what is yielded changes.
    fn put_yielded(&mut self, prefix: Ipv6Net, yielded: Option<Yielded>) {
        let deadline = yielded.as_ref().and_then(Yielded::next_deadline);
        self.yielded_deadlines.set(&prefix, deadline);
        match yielded.as_ref().is_some_and(|it| it.withdrawing) {
            true => self.withdrawing.insert(prefix),
            false => self.withdrawing.remove(&prefix),
        };
        match yielded {
            Some(yielded) => self.state.yielded.insert(prefix, yielded),
            None => self.state.yielded.remove(&prefix),
        };
    }
}

impl Adopted {
    /// One of which nothing is on its way; nobody knows who had it before.
    pub(super) fn settled(prefix: Ipv6Net, own: Ipv6Addr, since: Time) -> Self {
        Self {
            prefix,
            given: false,
            from: own,
            since,
            asked: None,
            wait_ms: 0,
            arriving_until: None,
            filtered_until: None,
            uplink_at: None,
        }
    }
}

impl Yielded {
    pub(super) fn next_deadline(&self) -> Option<Time> {
        [self.path_end_at, self.until].into_iter().flatten().min()
    }
}

fn told(kind: &'static str, text: String, identifier: &MobileNodeIdentifier, prefix: Ipv6Net) -> Output {
    Output::Event(
        Event::new(kind, text)
            .with("identifier", identifier)
            .with("prefix", prefix),
    )
}
