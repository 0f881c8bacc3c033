//! What goes with a prefix to its next anchor passes through here (RFC 8818 FM:2): this is who knows where that is.
//!
//! A record that a MAAR hands over is stored, acknowledged, and handed to the anchor of the prefix. Whom it was told once it is
//! told until it is acknowledged, though the anchor may be another one by then: that one hands it over in turn. So nothing is
//! counted twice, and nothing is lost.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use ipnet::Ipv6Net;
use serde::{Deserialize, Serialize};

use super::fsm::{Cmd, Output};
use crate::charging::{Record, Records};
use crate::event::Event;
use crate::identity::MobileNodeIdentifier;
use crate::maar;
use crate::proxy_binding::acknowledge;
use crate::time::Time;
use crate::transfer::{Inbox, Patience};
use crate::wire::mobility::{
    Context, ContextTransfer, MobilityMessage, ProxyBindingAcknowledgement, ProxyBindingUpdate, Status,
};

/// What is on its way between anchors.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contexts {
    /// What each MAAR has handed over.
    pub inboxes: BTreeMap<Ipv6Addr, Inbox>,
    /// What each MAAR is to be told.
    pub outboxes: BTreeMap<Ipv6Addr, Records>,
}

impl Cmd {
    /// A MAAR hands over what the anchor of a prefix is to have.
    pub(super) fn take_context(
        &mut self,
        from: Ipv6Addr,
        update: &ProxyBindingUpdate,
        transfer: &ContextTransfer,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        let refusal = match &update.options.mobile_node_identifier {
            _ if self.known_maar(from).is_none() => Status::MAG_NOT_AUTHORIZED_FOR_PROXY_REG,
            None => Status::MISSING_MN_IDENTIFIER_OPTION,
            Some(_) if !update.is_distributed() => Status::ADMINISTRATIVELY_PROHIBITED,
            Some(identifier) => {
                let inbox = self.state.contexts.inboxes.entry(from).or_default();
                if inbox.take(transfer.id, transfer.oldest) {
                    let record = Record {
                        identifier: identifier.clone(),
                        prefix: transfer.prefix,
                        context: transfer.context.clone(),
                        meter: update.options.transferred_meter.clone(),
                    };
                    self.pass_on(from, transfer.id, record, now, outputs);
                }
                let mut answer = acknowledge(update, Status::ACCEPTED, 0, now);
                answer.options.context_transfer = Some(transfer.clone());
                return outputs.push(Output::SendWhenSaved {
                    to: from,
                    message: MobilityMessage::ProxyBindingAcknowledgement(answer),
                });
            }
        };
        self.refuse(from, update, refusal, now, outputs);
    }

    fn pass_on(&mut self, from: Ipv6Addr, id: u64, mut record: Record, now: Time, outputs: &mut Vec<Output>) {
        // One that has forgotten in a crash whose prefix it was.
        if record.identifier.octets.is_empty()
            && let Some(owner) = self.owners.get(&record.prefix)
        {
            record.identifier = owner.clone();
        }
        let to = self
            .next_anchor(from, &record)
            .or_else(|| self.anchor_of(&record.identifier, record.prefix));
        let Some(to) = to else {
            return self.end_of(from, id, &record, outputs);
        };
        // Nobody is told what he said: he has the filter, or has not got the prefix and would not take it the next time either.
        if let Context::Filter(rule) = &record.context
            && to == from
        {
            return self.filter_stays(from, &record, &rule.name, outputs);
        }
        self.counters.add("contexts_passed_on");
        let outbox = self.state.contexts.outboxes.entry(to).or_default();
        if let Some((_, oldest)) = outbox.push(record, now) {
            self.counters.add("contexts_given_up");
            let event = oldest.given_up(&to.to_string()).with("maar", to);
            outputs.push(Output::Event(event));
        }
        self.send_contexts(to, now, outputs);
    }

    /// The session is over, or the prefix was given up: what was counted last is told to whoever watches. A CMD that is killed
    /// before it has stored that tells it again: `maar` and `record` together name it, and are the same then.
    fn end_of(&mut self, from: Ipv6Addr, id: u64, record: &Record, outputs: &mut Vec<Output>) {
        let Record {
            identifier, prefix, ..
        } = record;
        let (filter, count) = match &record.context {
            Context::Usage { filter, count } => (filter, count),
            Context::Filter(rule) => {
                self.counters.add("contexts_without_anchor");
                let text = format!(
                    "filter {} of {prefix} of {identifier} has come to its end: nobody anchors that",
                    rule.name
                );
                let event = Event::new("filter_without_anchor", text)
                    .with("identifier", identifier)
                    .with("prefix", prefix)
                    .with("filter", &rule.name);
                return outputs.push(Output::Event(event));
            }
        };
        self.counters.add("usage_closed");
        let of = filter
            .as_ref()
            .map_or(String::new(), |it| format!(" by filter {it}"));
        let text = format!(
            "{identifier} has {prefix} no more: {} packets to it and {} from it were counted at {from}{of}",
            count.to_packets, count.from_packets
        );
        let event = Event::new("usage_closed", text)
            .with("identifier", identifier)
            .with("prefix", prefix)
            .with("maar", from)
            .with("record", id)
            .with("filter", filter.as_deref().unwrap_or_default());
        outputs.push(Output::Event(count.told_by(event)));
    }

    /// A filter that was to go ahead of its prefix, which stays where it was: so does the filter, which is there still.
    fn filter_stays(&mut self, at: Ipv6Addr, record: &Record, name: &str, outputs: &mut Vec<Output>) {
        self.counters.add("contexts_stay");
        let Record {
            identifier, prefix, ..
        } = record;
        let text = format!(
            "filter {name} of {prefix} of {identifier} goes nowhere from {at}: that is to anchor the prefix itself"
        );
        let event = Event::new("filter_stays", text)
            .with("identifier", identifier)
            .with("prefix", prefix)
            .with("filter", name);
        outputs.push(Output::Event(event.with("maar", at)));
    }

    /// Where a filter goes before its prefix does.
    fn next_anchor(&self, from: Ipv6Addr, record: &Record) -> Option<Ipv6Addr> {
        let relocation = self.state.relocations.get(&record.prefix)?;
        let is_filter = matches!(record.context, Context::Filter(_));
        let its = relocation.from == from && relocation.identifier == record.identifier;
        (is_filter && its).then_some(relocation.to)
    }

    fn anchor_of(&self, identifier: &MobileNodeIdentifier, prefix: Ipv6Net) -> Option<Ipv6Addr> {
        let binding = self.state.bindings.get(identifier)?;
        if binding.anchored_here().any(|it| it == prefix) {
            return Some(binding.serving);
        }
        let previous = binding.previous.iter().find(|it| it.prefix == prefix);
        previous.map(|it| it.address)
    }

    /// A MAAR has a record.
    pub(super) fn context_acknowledged(
        &mut self,
        from: Ipv6Addr,
        acknowledgement: &ProxyBindingAcknowledgement,
        transfer: &ContextTransfer,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        if !acknowledgement.status.is_accepted() {
            self.counters.add("contexts_refused");
            return;
        }
        let outbox = self.state.contexts.outboxes.get_mut(&from);
        if let Some(record) = outbox.and_then(|it| it.acknowledged(transfer.id)) {
            self.counters.add("contexts_transferred");
            let Record {
                identifier, prefix, ..
            } = &record;
            let what = match &record.context {
                Context::Usage { .. } => "what was counted",
                Context::Filter(_) => "a filter",
            };
            let text = format!("{what} of {prefix} of {identifier} is at {from} now");
            let event = Event::new("context_transferred", text).with("identifier", identifier);
            outputs.push(Output::Event(event.with("prefix", prefix).with("to", from)));
            self.perhaps_ready(&record, now, outputs);
        }
        self.send_contexts(from, now, outputs);
    }

    fn send_contexts(&mut self, to: Ipv6Addr, now: Time, outputs: &mut Vec<Output>) {
        let patience = self.patience();
        if let Some(outbox) = self.state.contexts.outboxes.get_mut(&to) {
            let fresh = outbox.fresh(now, patience);
            tell(to, outbox, fresh, outputs);
        }
    }

    /// Sends again what was not acknowledged.
    pub(super) fn retransmit_contexts(&mut self, now: Time, outputs: &mut Vec<Output>) {
        let patience = self.patience();
        for (to, outbox) in &mut self.state.contexts.outboxes {
            let due = outbox.due(now, patience);
            tell(*to, outbox, due, outputs);
        }
    }

    /// When that is due.
    pub(super) fn contexts_deadline(&self) -> Option<Time> {
        let outboxes = self.state.contexts.outboxes.values();
        outboxes.filter_map(Records::next_deadline).min()
    }

    fn patience(&self) -> Patience {
        Patience {
            first: self.settings.timers.initial_bindack_timeout,
            longest: self.settings.timers.max_bindack_timeout,
        }
    }
}

fn tell(to: Ipv6Addr, outbox: &Records, records: Vec<(u64, Record)>, outputs: &mut Vec<Output>) {
    let oldest = outbox.oldest();
    for (id, record) in records {
        let message = maar::record_message(id, oldest, record);
        outputs.push(Output::SendWhenSaved { to, message });
    }
}
