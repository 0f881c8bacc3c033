//! A previous MAAR answers (RFC 8885 section 3.4).

use std::net::Ipv6Addr;

use super::fsm::{Cmd, Output};
use super::state::PreviousPhase;
use crate::event::Event;
use crate::time::Time;
use crate::wire::mobility::{ProxyBindingAcknowledgement, Status, acknowledgement_flags};

impl Cmd {
    pub(super) fn confirmation(
        &mut self,
        from: Ipv6Addr,
        acknowledgement: &ProxyBindingAcknowledgement,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        if self.known_maar(from).is_none() {
            self.counters.add("acknowledgements_stranger");
            return;
        }
        let Some(identifier) = acknowledgement.options.mobile_node_identifier.clone() else {
            self.counters.add("acknowledgements_unmatched");
            return;
        };
        if acknowledgement.flags & acknowledgement_flags::DISTRIBUTED == 0 {
            self.counters.add("acknowledgements_not_distributed");
            return;
        }
        if let Some(transfer) = &acknowledgement.options.context_transfer {
            return self.context_acknowledged(from, acknowledgement, transfer, now, outputs);
        }
        if self.relocation_answered(from, acknowledgement, now, outputs) {
            return;
        }
        let sequence = acknowledgement.sequence;
        let release = self.state.releases.iter().position(|release| {
            release.identifier == identifier
                && release.address == from
                && release.exchange.sequences.contains(&sequence)
        });
        if let Some(position) = release {
            // Whatever it says, there is nothing more to tell it; unless our clocks differ.
            if !is_about_time(acknowledgement.status) {
                let release = self.state.releases.remove(position);
                self.release_at_home(release, now, outputs);
            }
            return;
        }
        let status = acknowledgement.status;
        let found = self.state.bindings.get_mut(&identifier).and_then(|binding| {
            let position = binding.previous.iter().position(|previous| {
                previous.address == from
                    && matches!(&previous.phase, PreviousPhase::Updating(it) if it.sequences.contains(&sequence))
            })?;
            if status.is_accepted() {
                // For the next registration: the serving MAAR has been answered.
                binding.offer(from, acknowledgement.options.only_endpoint(from));
            }
            binding.previous.get_mut(position)
        });
        let Some(previous) = found else {
            self.counters.add("acknowledgements_unmatched");
            return;
        };
        let prefix = previous.prefix;
        let event = if status.is_accepted() {
            previous.phase = PreviousPhase::Confirmed;
            self.counters.add("previous_updates_confirmed");
            Event::new(
                "previous_confirmed",
                format!("{from} tunnels {prefix} of {identifier} to its serving MAAR"),
            )
        } else {
            self.counters.add("previous_updates_refused");
            // The retransmission timer tries again with a fresh timestamp.
            if !is_about_time(status) {
                previous.phase = PreviousPhase::Refused;
            }
            Event::new(
                "previous_refused",
                format!("{from} refused to tunnel {prefix} of {identifier}: {status}"),
            )
        };
        let event = event
            .with("identifier", &identifier)
            .with("prefix", prefix)
            .with("maar", from);
        outputs.push(Output::Event(event.with("status", status.0)));
        if status.is_accepted() {
            self.tunnelled(&identifier, prefix, now);
            self.confirmed_by(&identifier, from, prefix, now, outputs);
        }
        self.reindex(&identifier, None);
    }
}

fn is_about_time(status: Status) -> bool {
    status == Status::TIMESTAMP_MISMATCH || status == Status::TIMESTAMP_LOWER_THAN_PREV_ACCEPTED
}
