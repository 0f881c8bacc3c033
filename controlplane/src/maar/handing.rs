//! Filters go with a prefix to its next anchor, before it does (RFC 8818 FM:2).
//!
//! The CMD says that the prefix is about to go (`Prepare`): the filters go to it, one record each, with what is left in their
//! meters, and it is answered when it has them. When the prefix goes (`Yield`), all are said once more, for some may have been
//! added, and some forgotten by who gave the prefix up in between; with what is left in meters by then, of which some was
//! used meanwhile.
//!
//! # Why each packet meets them once
//!
//! Of one prefix and one filter that moves, at any time:
//!
//! 1. *Every gateway where packets of the prefix can come straight to, or leave straight from, has the filter*: the anchor; the one
//!    that takes the prefix, which has it before its first route; and who yielded it, as long as he passes on what still
//!    comes to him (`State::passed_on`), wherever the node is meanwhile.
//! 2. *What comes straight to one of them is asked there, and goes on along a chain*: who yielded the prefix passes it to whom he
//!    yielded it to, not to where the node is by then; that one, if he has yielded too, to the next; the last is the anchor, and
//!    he tunnels to the node. What the node sends goes to the anchor, and leaves straight from there.
//! 3. *Each of them leaves alone what comes out of the tunnel from the one before, or goes back into it*
//!    (`Filter::except_tunnel`, `forwarding::flows`): from whom it took the prefix, as long as that one has the filter for sure
//!    (`Adopted::filtered_until`); the node's gateway, from the anchor.
//!
//! So a packet is asked at the first of the chain, by 1 and 2, and at no other, by 3: as long as each of them has one before him. The CMD
//! relocates a prefix anew only when the last one has yielded, so there are two in one case alone: who had the prefix has it again, or the node again, and it
//! comes from another one (A, B, C, B) while the first still passes on to him. Of the two the exception is for the
//! nearer one, by which all packets came just now; what still comes straight to A is counted at A and B, for the rest of A's `LINGER`.
//! And who yielded later than the next one was sure of, because he was told late, has the filter for longer: what
//! comes straight to him is counted twice from `LINGER` after the next one had it until `LINGER` after he has heard. The other way round a packet would meet
//! no filter, which for one that drops is worse: packets of other nodes come by the same tunnel.

use std::collections::BTreeSet;
use std::net::Ipv6Addr;

use ipnet::Ipv6Net;
use kedge_config::{FilterAction, FilterRule};

use super::flows::about;
use super::fsm::{Maar, Output};
use super::state::{Asked, Phase};
use crate::charging::{Fill, Record};
use crate::forwarding::{meter_of, places};
use crate::identity::MobileNodeIdentifier;
use crate::proxy_binding::{acknowledge, requested_prefixes};
use crate::time::Time;
use crate::wire::mobility::{Context, MobilityMessage, ProxyBindingUpdate, Status, TransferredMeter};

/// Filters that are handed over. Not stored: who is killed is asked again, and who has them already takes them once.
#[derive(Clone, Debug)]
pub(super) struct Handing {
    identifier: MobileNodeIdentifier,
    /// Who gets the prefix.
    to: Ipv6Addr,
    /// Who is to be answered when the CMD has them.
    asked: Option<Asked>,
    /// What is left in meters is to be read first.
    awaits_reading: bool,
    /// The prefix goes: this is the last time.
    last: bool,
    /// Numbers of the records that the CMD has not got yet.
    on_their_way: BTreeSet<u64>,
    /// Filters that are there, or on their way.
    handed: BTreeSet<String>,
}

impl Maar {
    /// The prefix is about to be anchored elsewhere.
    pub(super) fn prepare(
        &mut self,
        identifier: &MobileNodeIdentifier,
        update: &ProxyBindingUpdate,
        to: Ipv6Addr,
        asked: Asked,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        let Some(&prefix) = requested_prefixes(&update.options).first() else {
            return;
        };
        match self.handing.get_mut(&prefix) {
            // Said again.
            Some(handing)
                if handing.asked.is_some() && handing.identifier == *identifier && handing.to == to =>
            {
                handing.asked = Some(asked);
                if handing.awaits_reading {
                    outputs.push(Output::ReadCounters);
                }
            }
            _ => {
                // Another one knows nothing of what the one before has got.
                self.forget_handing(prefix);
                let handing = Handing {
                    identifier: identifier.clone(),
                    to,
                    asked: Some(asked),
                    awaits_reading: false,
                    last: false,
                    on_their_way: BTreeSet::new(),
                    handed: BTreeSet::new(),
                };
                self.handing.insert(prefix, handing);
                self.hand_over_filters(prefix, now, outputs);
            }
        }
        self.answer_prepared(prefix, now, outputs);
    }

    /// The prefix goes.
    pub(super) fn hand_over_last(
        &mut self,
        identifier: &MobileNodeIdentifier,
        prefix: Ipv6Net,
        to: Ipv6Addr,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        let known = self.handing.remove(&prefix);
        let handed = known.filter(|it| it.identifier == *identifier && it.to == to);
        let handing = Handing {
            identifier: identifier.clone(),
            to,
            asked: None,
            awaits_reading: false,
            last: true,
            on_their_way: BTreeSet::new(),
            handed: handed.map(|it| it.handed).unwrap_or_default(),
        };
        self.handing.insert(prefix, handing);
        let stay = self.rules_of(prefix);
        let stay = stay.iter().map(|rule| rule.name.clone());
        let stay: Vec<String> = stay
            .filter(|name| !self.state.filter_prefixes.contains_key(name))
            .collect();
        self.filters_went(stay.into_iter(), prefix);
        self.hand_over_filters(prefix, now, outputs);
        self.forget_if_done(prefix);
    }

    /// The filters that operators added for a node go with its prefix. Those for every node and for the domain are this
    /// gateway's and stay. So does the rule, for what else the node has here. So does one that holds flows: who holds
    /// releases here, and would not elsewhere. Those that meter go when it is known what is left in their meters.
    fn hand_over_filters(&mut self, prefix: Ipv6Net, now: Time, outputs: &mut Vec<Output>) {
        let mut awaits_reading = false;
        for rule in self.rules_to_go(prefix) {
            let metered = rule.meter.is_some();
            awaits_reading |= metered;
            // Who goes without having prepared may be dead before a reading comes: what is left in the meter follows then.
            let handing = self.handing.get(&prefix);
            let only_now = handing.is_some_and(|it| it.last && !it.handed.contains(&rule.name));
            if !metered || only_now {
                self.hand_over(prefix, rule, None, now, outputs);
            }
        }
        if let Some(handing) = self.handing.get_mut(&prefix).filter(|_| awaits_reading) {
            handing.awaits_reading = true;
            self.awaiting.insert(prefix);
            outputs.push(Output::ReadCounters);
        }
        self.send_records(now, outputs);
    }

    /// Whether a reading is waited for, though it may say nothing new of what was counted.
    #[must_use]
    pub fn awaits_reading(&self) -> bool {
        !self.awaiting.is_empty()
    }

    /// The data plane says what is left in meters, by their ids; what it does not name is full.
    pub(super) fn meters_read(
        &mut self,
        fills: &std::collections::BTreeMap<u64, Fill>,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        for prefix in std::mem::take(&mut self.awaiting) {
            let Some(handing) = self.handing.get_mut(&prefix) else {
                continue;
            };
            handing.awaits_reading = false;
            let identifier = handing.identifier.clone();
            for rule in self.rules_to_go(prefix) {
                if rule.meter.is_some() {
                    let fill = fills.get(&meter_of(&rule, &identifier)).copied();
                    self.hand_over(prefix, rule, fill, now, outputs);
                }
            }
            self.answer_prepared(prefix, now, outputs);
            self.forget_if_done(prefix);
        }
    }

    /// What of a node's rules is to go with a prefix, and is not there. What is left in a meter is another the next time.
    fn rules_to_go(&self, prefix: Ipv6Net) -> Vec<FilterRule> {
        let handing = self.handing.get(&prefix);
        let there = |name: &String| handing.is_some_and(|it| !it.last && it.handed.contains(name));
        let mut rules = self.rules_of(prefix);
        rules.retain(|rule| rule.meter.is_some() || !there(&rule.name));
        rules
    }

    /// What of a node's rules goes with a prefix of its that is handed over.
    fn rules_of(&self, prefix: Ipv6Net) -> Vec<FilterRule> {
        let Some(handing) = self.handing.get(&prefix) else {
            return Vec::new();
        };
        let state = &self.state;
        let its = |rule: &&FilterRule| {
            let node = rule.node.as_ref().and_then(|it| it.parse().ok());
            let only = state.filter_prefixes.get(&rule.name);
            node.as_ref() == Some(&handing.identifier) && only.is_none_or(|it| it.contains(&prefix))
        };
        // One that nobody needs any more stays.
        let needed = |rule: &&FilterRule| {
            let of_it = places(rule, state).into_iter().find(|(_, it)| *it == prefix);
            of_it.is_none_or(|(id, _)| !state.expired_filters.contains(&id))
        };
        let rules = state.filters.values().filter(its);
        let rules = rules.filter(|rule| rule.action != FilterAction::Hold);
        rules.filter(needed).cloned().collect()
    }

    fn hand_over(
        &mut self,
        prefix: Ipv6Net,
        rule: FilterRule,
        fill: Option<Fill>,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        let Some(handing) = self.handing.get_mut(&prefix) else {
            return;
        };
        let identifier = handing.identifier.clone();
        if handing.handed.insert(rule.name.clone()) {
            let text = format!("filter {} goes with {prefix} of {identifier}", rule.name);
            outputs.push(about(&rule.name, "filter_moves", text, prefix));
        }
        let meter = rule.meter.as_ref().and_then(|name| {
            let configured = self.settings.meters.iter().find(|it| it.name == *name);
            configured.or_else(|| self.state.meters.get(name)).cloned()
        });
        let since = self.state.filter_since.get(&rule.name);
        let passed = since.map_or(0, |since| now.since(*since).as_secs());
        let left = u64::from(rule.lifetime).saturating_sub(passed).max(1);
        let lifetime = match rule.lifetime {
            0 => 0,
            _ => u32::try_from(left).unwrap_or(u32::MAX),
        };
        let record = Record {
            identifier,
            prefix,
            context: Context::Filter(Box::new(FilterRule {
                node: None,
                lifetime,
                ..rule
            })),
            meter: meter.map(|meter| TransferredMeter { meter, fill }),
        };
        self.state.charging.push(record, now);
        let id = self.state.charging.outbox.last();
        if let Some(handing) = self.handing.get_mut(&prefix).filter(|it| !it.last) {
            handing.on_their_way.insert(id);
            self.handed_records.insert(id, prefix);
        }
    }

    /// The CMD has the record with this number.
    pub(super) fn handed_over(&mut self, id: u64, now: Time, outputs: &mut Vec<Output>) {
        let Some(prefix) = self.handed_records.remove(&id) else {
            return;
        };
        if let Some(handing) = self.handing.get_mut(&prefix) {
            handing.on_their_way.remove(&id);
        }
        self.answer_prepared(prefix, now, outputs);
    }

    /// The record with this number is given up, because too much waits for the CMD: it is not waited for, and what it said is said again
    /// when the prefix goes.
    pub(super) fn given_up_handing(
        &mut self,
        id: u64,
        record: &Record,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        let Some(prefix) = self.handed_records.remove(&id) else {
            return;
        };
        self.counters.add("filters_given_up");
        if let Some(handing) = self.handing.get_mut(&prefix) {
            handing.on_their_way.remove(&id);
            if let Context::Filter(rule) = &record.context {
                handing.handed.remove(&rule.name);
            }
        }
        self.answer_prepared(prefix, now, outputs);
    }

    fn answer_prepared(&mut self, prefix: Ipv6Net, now: Time, outputs: &mut Vec<Output>) {
        let Some(handing) = self.handing.get_mut(&prefix) else {
            return;
        };
        if handing.awaits_reading || !handing.on_their_way.is_empty() {
            return;
        }
        let Some(asked) = handing.asked.take() else {
            return;
        };
        let answer = acknowledge(&asked.update, Status::ACCEPTED, asked.update.lifetime, now);
        outputs.push(Output::Send {
            to: asked.cmd,
            message: MobilityMessage::ProxyBindingAcknowledgement(answer),
        });
    }

    fn forget_if_done(&mut self, prefix: Ipv6Net) {
        let done = |it: &Handing| it.last && !it.awaits_reading;
        if self.handing.get(&prefix).is_some_and(done) {
            self.handing.remove(&prefix);
        }
    }

    /// A rule of this name is another one from now on.
    pub(super) fn forget_handed(&mut self, name: &str) {
        for handing in self.handing.values_mut() {
            handing.handed.remove(name);
        }
    }

    /// The prefix is of no node here any more.
    pub(super) fn forget_handing(&mut self, prefix: Ipv6Net) {
        self.awaiting.remove(&prefix);
        if let Some(handing) = self.handing.remove(&prefix) {
            for id in handing.on_their_way {
                self.handed_records.remove(&id);
            }
        }
    }

    /// Whether a node is here of which the CMD has not said yet that it has this prefix, and may do so.
    pub(super) fn is_unheard(&self, identifier: &MobileNodeIdentifier, prefix: Ipv6Net) -> bool {
        self.state.nodes.get(identifier).is_some_and(|node| {
            let here = matches!(node.phase, Phase::Attached | Phase::Registering);
            let known = node.own_prefixes().any(|it| it == prefix)
                || node.previous.iter().any(|it| it.prefix == prefix);
            here && node.exchange.is_some() && !known
        })
    }

    /// Whether a prefix of a node here is tunnelled here, from where filters may come ahead of it.
    pub(super) fn is_coming(&self, identifier: &MobileNodeIdentifier, prefix: Ipv6Net) -> bool {
        self.state.nodes.get(identifier).is_some_and(|node| {
            node.phase == Phase::Attached && node.previous.iter().any(|it| it.prefix == prefix)
        })
    }
}
