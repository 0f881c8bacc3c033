//! What the new anchor of a prefix is to have before it takes it: the filters of its node, and what is left in their meters.
//!
//! ```text
//!   old anchor ── filters, one record each ──► CMD ──► new anchor
//!              ── prepared ──────────────────► CMD     (each acknowledged)
//!                                              CMD ── take ──► new anchor
//! ```
//!
//! The old anchor answers when the CMD has all that it hands over, and the new one is asked to take the prefix when it has all of
//! that. So no packet comes straight to the new anchor that has not met the filters. Whoever does not answer keeps nobody waiting
//! for long: then what is missing comes when the prefix is yielded.

use ipnet::Ipv6Net;

use super::fsm::{Cmd, Output};
use super::state::{Relocation, RelocationPhase};
use crate::charging::Record;
use crate::time::Time;
use crate::wire::mobility::Context;

/// Transmissions to an old anchor before the new one is asked all the same: 7 seconds.
const PREPARE_TRANSMISSIONS: u32 = 3;

impl Relocation {
    /// Whether what is to be there before has been waited for long enough.
    pub(super) fn is_overdue(&self) -> bool {
        self.prepared || self.exchange.transmissions >= PREPARE_TRANSMISSIONS
    }
}

impl Cmd {
    /// The old anchor has handed over what it has, or has nothing.
    pub(super) fn prepared(
        &mut self,
        prefix: Ipv6Net,
        mut relocation: Relocation,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        if !self.has_filters_for(prefix, &relocation) {
            return self.begin_taking(prefix, relocation, now, outputs);
        }
        // As long as a record needs that is lost twice.
        let patience = 7 * self.settings.timers.initial_bindack_timeout;
        relocation.prepared = true;
        relocation.exchange.retransmit_at = now.after(patience);
        self.put_relocation(prefix, Some(relocation));
    }

    /// The new anchor has a record: maybe the last one of those that it is to have first.
    pub(super) fn perhaps_ready(&mut self, record: &Record, now: Time, outputs: &mut Vec<Output>) {
        if let Context::Filter(_) = record.context
            && let Some(relocation) = self.state.relocations.get(&record.prefix)
            && relocation.phase == RelocationPhase::Preparing
            && relocation.prepared
            && !self.has_filters_for(record.prefix, relocation)
        {
            let relocation = relocation.clone();
            self.begin_taking(record.prefix, relocation, now, outputs);
        }
    }

    /// Whether filters are on their way to the new anchor.
    fn has_filters_for(&self, prefix: Ipv6Net, relocation: &Relocation) -> bool {
        let outbox = self.state.contexts.outboxes.get(&relocation.to);
        let is_filter = |it: &Record| it.prefix == prefix && matches!(it.context, Context::Filter(_));
        outbox.is_some_and(|it| it.records().any(is_filter))
    }

    /// It is the new anchor's turn.
    pub(super) fn begin_taking(
        &mut self,
        prefix: Ipv6Net,
        mut relocation: Relocation,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        let silent = !relocation.prepared && relocation.exchange.transmissions >= PREPARE_TRANSMISSIONS;
        if silent || self.has_filters_for(prefix, &relocation) {
            self.counters.add("relocations_unprepared");
        }
        relocation.phase = RelocationPhase::Taking;
        relocation.exchange = self.new_exchange(now);
        self.send_step(prefix, relocation, now, outputs);
    }
}
