//! What was counted elsewhere and what goes elsewhere, as records that are said until they are acknowledged.

use ipnet::Ipv6Net;
use std::net::Ipv6Addr;

use super::counted::MOST_NAMES;
use super::{Charged, FilterCounted, Lost};
use crate::charging::{Count, Record};
use crate::event::Event;
use crate::identity::MobileNodeIdentifier;
use crate::maar::{Maar, Output};
use crate::proxy_binding::{UPDATE_FLAGS, acknowledge};
use crate::time::Time;
use crate::transfer::Patience;
use crate::wire::mobility::{
    Context, ContextTransfer, MobilityMessage, MobilityOptions, ProxyBindingAcknowledgement,
    ProxyBindingUpdate, Status,
};

impl Maar {
    /// The CMD hands over what was counted, or used, elsewhere.
    pub(in crate::maar) fn take_context(
        &mut self,
        from: Ipv6Addr,
        update: &ProxyBindingUpdate,
        transfer: &ContextTransfer,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        let Some(identifier) = &update.options.mobile_node_identifier else {
            return;
        };
        if matches!(transfer.context, Context::Filter(_)) && self.is_unheard(identifier, transfer.prefix) {
            // Which prefixes a node that is coming here has is not known yet. It is said again.
            self.counters.add("updates_deferred");
            return;
        }
        let inbox = self.state.charging.inboxes.entry(from).or_default();
        if inbox.take(transfer.id, transfer.oldest) {
            self.counters.add("contexts_taken");
            let prefix = transfer.prefix;
            match &transfer.context {
                Context::Usage { filter, count } => {
                    self.carry(identifier, prefix, filter.as_deref(), *count, now);
                }
                Context::Filter(rule) => {
                    let meter = update.options.transferred_meter.as_ref();
                    self.take_filter(identifier, prefix, rule, meter, now, outputs);
                }
            }
        }
        let mut answer = acknowledge(update, Status::ACCEPTED, 0, now);
        answer.options.context_transfer = Some(transfer.clone());
        outputs.push(Output::SendWhenSaved {
            to: from,
            message: MobilityMessage::ProxyBindingAcknowledgement(answer),
        });
        self.send_records(now, outputs);
    }

    /// Assures that there is an entry of a prefix, which ends with it.
    pub(in crate::maar) fn charged(&mut self, identifier: &MobileNodeIdentifier, prefix: Ipv6Net) {
        let entry = self.state.charging.prefixes.entry(prefix);
        let charged = entry.or_insert_with(|| Charged::new(identifier));
        if !charged.is_somebodys() {
            charged.identifier = identifier.clone();
        }
    }

    /// What was counted elsewhere of a prefix. One that is of no node here goes on to where it is.
    fn carry(
        &mut self,
        identifier: &MobileNodeIdentifier,
        prefix: Ipv6Net,
        filter: Option<&str>,
        count: Count,
        now: Time,
    ) {
        self.charged(identifier, prefix);
        let charging = &mut self.state.charging;
        let known = charging.prefixes.get_mut(&prefix);
        let Some(charged) = known.filter(|it| it.identifier == *identifier) else {
            let filter = filter.map(str::to_owned);
            let record = Record {
                identifier: identifier.clone(),
                prefix,
                context: Context::Usage { filter, count },
                meter: None,
            };
            return charging.push(record, now);
        };
        let counted = match filter {
            None => &mut charged.all,
            Some(name) => {
                let known = charged.filters.entry(name.to_owned());
                &mut known.or_insert(FilterCounted::new(0)).counted
            }
        };
        counted.carried = counted.carried.plus(count);
    }

    /// The CMD has a record, or refuses it: then it is said again, for it may be another one's turn.
    pub(in crate::maar) fn context_acknowledged(
        &mut self,
        acknowledgement: &ProxyBindingAcknowledgement,
        transfer: &ContextTransfer,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        if !acknowledgement.status.is_accepted() {
            self.counters.add("contexts_refused");
            return;
        }
        if self.state.charging.outbox.acknowledged(transfer.id).is_some() {
            self.counters.add("contexts_sent");
        }
        self.handed_over(transfer.id, now, outputs);
        self.send_records(now, outputs);
    }

    /// Sends what was not sent yet.
    pub(in crate::maar) fn send_records(&mut self, now: Time, outputs: &mut Vec<Output>) {
        self.tell_lost(now, outputs);
        let patience = self.patience();
        let fresh = self.state.charging.outbox.fresh(now, patience);
        self.tell_records(fresh, outputs);
    }

    /// Sends again what was not acknowledged.
    pub(in crate::maar) fn tick_records(&mut self, now: Time, outputs: &mut Vec<Output>) {
        let patience = self.patience();
        let due = self.state.charging.outbox.due(now, patience);
        self.tell_records(due, outputs);
    }

    fn patience(&self) -> Patience {
        Patience {
            first: self.settings.timers.initial_bindack_timeout,
            longest: self.settings.timers.max_bindack_timeout,
        }
    }

    fn tell_records(&self, records: Vec<(u64, Record)>, outputs: &mut Vec<Output>) {
        let Some(to) = self.settings.cmds.first().copied() else {
            return;
        };
        let oldest = self.state.charging.outbox.oldest();
        for (id, record) in records {
            let message = message(id, oldest, record);
            outputs.push(Output::SendWhenSaved { to, message });
        }
    }

    /// Tells what could not be kept. Nobody has it any more but who watches.
    pub(super) fn tell_lost(&mut self, now: Time, outputs: &mut Vec<Output>) {
        for lost in std::mem::take(&mut self.state.charging.lost) {
            let event = match lost {
                Lost::Record(id, record) => {
                    self.counters.add("contexts_given_up");
                    self.given_up_handing(id, &record, now, outputs);
                    record.given_up("the CMD")
                }
                Lost::Filter(identifier, prefix, name, count) => {
                    self.counters.add("filter_counts_given_up");
                    let text = format!(
                        "{MOST_NAMES} filters have counted packets of {prefix} of {identifier}: what {name} had is given up"
                    );
                    let event = Event::new("filter_count_given_up", text)
                        .with("identifier", identifier)
                        .with("prefix", prefix)
                        .with("filter", name);
                    count.told_by(event)
                }
            };
            outputs.push(Output::Event(event));
        }
    }
}

/// A record, as the CMD and MAARs tell it each other.
pub(crate) fn message(id: u64, oldest: u64, record: Record) -> MobilityMessage {
    MobilityMessage::ProxyBindingUpdate(ProxyBindingUpdate {
        sequence: (id & 0xffff) as u16,
        flags: UPDATE_FLAGS,
        lifetime: 0,
        options: MobilityOptions {
            mobile_node_identifier: Some(record.identifier),
            context_transfer: Some(ContextTransfer {
                id,
                oldest,
                prefix: record.prefix,
                context: record.context,
            }),
            transferred_meter: record.meter,
            ..MobilityOptions::default()
        },
    })
}
