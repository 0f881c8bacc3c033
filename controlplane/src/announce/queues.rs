//! What each prefix waits for, and what is next.

use ipnet::Ipv6Net;

use super::Routes;
use super::fsm::{Announcer, Change, Output, TOLD_ONE_BY_ONE};
use super::record::Queued;
use crate::event::Event;
use crate::time::Time;

impl Announcer {
    /// Puts a prefix into the queue where it belongs, or forgets it.
    pub(super) fn evaluate(&mut self, prefix: Ipv6Net, now: Time, outputs: &mut Vec<Output>) {
        let Some(record) = self.records.get(&prefix) else {
            return;
        };
        let before = record.queued;
        let queued = match (&record.wanted, &record.held) {
            _ if record.in_flight || record.refused.is_some() => Queued::No,
            (Some(_), _) if record.is_as_wanted() && record.reported => Queued::No,
            (Some(wanted), _) if self.confirmed.is_none_or(|confirmed| confirmed < wanted.revision) => {
                Queued::Unconfirmed {
                    revision: wanted.revision,
                }
            }
            (Some(_), _) if record.is_as_wanted() => Queued::Report {
                at: record.propagated_at,
            },
            (Some(_), _) => Queued::Announce,
            (None, Some(_)) if self.moved.contains(&prefix) => Queued::Withdraw,
            (None, Some(_)) => {
                let earliest = self.withdrawn_at.get(&prefix);
                let earliest = earliest.map(|at| at.after(self.settings.minimum_withdrawal_interval));
                match earliest {
                    Some(until) if until > now => Queued::HeldBack { until },
                    _ => Queued::Withdraw,
                }
            }
            // As long as the daemon cannot be asked, it may have a route that was forgotten here.
            (None, None) if !self.synchronised => Queued::No,
            (None, None) => {
                self.dequeue(prefix, before);
                self.records.remove(&prefix);
                outputs.push(Output::Withdrawn(prefix));
                return;
            }
        };
        self.dequeue(prefix, before);
        self.enqueue(prefix, queued);
        if matches!(queued, Queued::HeldBack { .. }) && !matches!(before, Queued::HeldBack { .. }) {
            self.counters.add("route_withdrawals_held_back");
        }
        if let Some(record) = self.records.get_mut(&prefix) {
            record.queued = queued;
        }
    }

    /// What is due.
    pub(super) fn run_queues(&mut self, now: Time, outputs: &mut Vec<Output>) {
        while let Some((at, prefix)) = self.withdrawn.front().copied() {
            if at.after(self.settings.minimum_withdrawal_interval) > now {
                break;
            }
            self.withdrawn.pop_front();
            // Not if it was withdrawn once more since.
            if self.withdrawn_at.get(&prefix) == Some(&at) {
                self.withdrawn_at.remove(&prefix);
            }
        }
        while let Some((until, prefix)) = self.held_back.first().copied() {
            if until > now {
                break;
            }
            self.evaluate(prefix, now, outputs);
        }
        while let Some((at, prefix)) = self.to_report.first().copied() {
            // What a daemon has that is lost, the next list says; what its neighbours do not hear from it, others do not know.
            if at > now || !self.synchronised || !self.heard {
                break;
            }
            if let Some(record) = self.records.get_mut(&prefix) {
                record.reported = true;
                record.since = now;
            }
            outputs.push(Output::Announced(prefix));
            self.evaluate(prefix, now, outputs);
        }
    }

    /// Takes the next batch out of the queues.
    pub(super) fn next_batch(&mut self) -> Vec<Change> {
        let mut batch = Vec::new();
        // Those that go now count as still to be announced: the daemon may refuse one.
        let announce: Vec<_> = self
            .to_announce
            .iter()
            .copied()
            .take(self.settings.batch)
            .collect();
        if announce.len() < self.settings.batch {
            let room = self.settings.batch - announce.len();
            let free = self.to_withdraw.iter().filter(|prefix| !self.is_needed(**prefix));
            let withdraw: Vec<_> = free.copied().take(room).collect();
            for prefix in withdraw {
                self.send(prefix, &mut batch);
            }
        }
        let withdraw = std::mem::take(&mut batch);
        for prefix in announce {
            self.send(prefix, &mut batch);
        }
        batch.extend(withdraw);
        batch
    }

    fn send(&mut self, prefix: Ipv6Net, batch: &mut Vec<Change>) {
        let Some(record) = self.records.get_mut(&prefix) else {
            return;
        };
        record.in_flight = true;
        let route = record.wanted.as_ref().map(|wanted| wanted.route.clone());
        batch.push(Change { prefix, route });
        let queued = std::mem::take(&mut record.queued);
        self.dequeue(prefix, queued);
    }

    /// Whether a route that is not wanted is the only one for addresses of which another is wanted, but not there yet.
    fn is_needed(&self, prefix: Ipv6Net) -> bool {
        let to_come = |record: &super::record::Record| {
            matches!(record.queued, Queued::Announce | Queued::Unconfirmed { .. }) && record.held.is_none()
        };
        let covers = (0..prefix.prefix_len()).any(|length| {
            let wider = Ipv6Net::new(prefix.addr(), length).map(|net| net.trunc());
            wider
                .ok()
                .and_then(|wider| self.records.get(&wider))
                .is_some_and(to_come)
        });
        covers
            || self
                .records
                .range(prefix..)
                .take_while(|(other, _)| prefix.contains(*other))
                .any(|(_, record)| to_come(record))
    }

    /// All that the daemon has.
    pub(super) fn listed(&mut self, mut routes: Routes, now: Time, outputs: &mut Vec<Output>) {
        self.synchronised = true;
        let propagated_at = now.after(self.settings.propagation);
        let mut gone = Vec::new();
        for (prefix, record) in &mut self.records {
            record.refused = None;
            match routes.remove(prefix) {
                Some(route) if record.held.as_ref() == Some(&route) => {}
                Some(route) => {
                    record.held = Some(route);
                    record.propagated_at = propagated_at;
                    record.since = now;
                }
                None if record.held.take().is_some() => {
                    record.since = now;
                    gone.push((*prefix, record.wanted.is_some()));
                    record.reported = false;
                }
                None => {}
            }
        }
        for (prefix, wanted) in &gone {
            self.not_there(*prefix, *wanted, gone.len() <= TOLD_ONE_BY_ONE, now, outputs);
        }
        if !routes.is_empty() {
            let text = format!(
                "{} has {} routes of ours that nobody wants: they are withdrawn",
                self.settings.daemon,
                routes.len()
            );
            let first = routes.keys().take(TOLD_ONE_BY_ONE).map(ToString::to_string);
            let event = Event::new("routes_found_unwanted", text)
                .with("routes", routes.len())
                .with("first", first.collect::<Vec<_>>().join(","));
            outputs.push(Output::Warning(event));
        }
        for (prefix, route) in routes {
            self.counters.add("routes_found_unwanted");
            let record = self.records.entry(prefix).or_default();
            record.held = Some(route);
            record.since = now;
        }
        let all: Vec<_> = self.records.keys().copied().collect();
        for prefix in all {
            self.evaluate(prefix, now, outputs);
        }
    }

    /// A daemon that has just started has neither sessions nor, while it restarts gracefully, a word for them: what it was given
    /// meanwhile, others learn only now.
    pub(super) fn neighbours(&mut self, hear: bool, now: Time, outputs: &mut Vec<Output>) {
        if !std::mem::replace(&mut self.heard, hear) && hear {
            let propagated_at = now.after(self.settings.propagation);
            for (_, prefix) in self.to_report.clone() {
                if let Some(record) = self.records.get_mut(&prefix) {
                    record.propagated_at = propagated_at;
                }
                self.evaluate(prefix, now, outputs);
            }
        }
    }

    /// Somebody else has removed a route of ours.
    pub(super) fn gone(&mut self, prefix: Ipv6Net, now: Time, outputs: &mut Vec<Output>) {
        let Some(record) = self.records.get_mut(&prefix) else {
            return;
        };
        if record.in_flight || record.held.take().is_none() {
            return;
        }
        record.reported = false;
        record.since = now;
        let wanted = record.wanted.is_some();
        self.not_there(prefix, wanted, true, now, outputs);
        self.evaluate(prefix, now, outputs);
    }

    fn not_there(&mut self, prefix: Ipv6Net, wanted: bool, tell: bool, now: Time, outputs: &mut Vec<Output>) {
        if !wanted {
            self.note_withdrawal(prefix, now);
            return;
        }
        self.counters.add("routes_gone");
        if tell {
            let text = format!("{} does not have {prefix} any more", self.settings.daemon);
            let event = Event::new("route_gone", text).with("prefix", prefix);
            outputs.push(Output::Warning(event));
        }
    }

    fn note_withdrawal(&mut self, prefix: Ipv6Net, now: Time) {
        if !self.settings.minimum_withdrawal_interval.is_zero() {
            self.withdrawn_at.insert(prefix, now);
            self.withdrawn.push_back((now, prefix));
        }
    }

    /// The daemon has done a change, or refused it.
    pub(super) fn change_done(
        &mut self,
        change: Change,
        result: Result<(), String>,
        tell: bool,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        let Change { prefix, route } = change;
        let daemon = self.settings.daemon;
        let propagated_at = now.after(self.settings.propagation);
        let Some(record) = self.records.get_mut(&prefix) else {
            return;
        };
        record.in_flight = false;
        record.since = now;
        if result.is_ok() {
            record.refusal_told.clear();
        }
        match (result, route) {
            (Ok(()), Some(route)) => {
                let after = record.wanted.as_ref().map(|wanted| now.since(wanted.since));
                let next_hop = route.next_hop.map(|next_hop| next_hop.to_string());
                record.held = Some(route);
                record.propagated_at = propagated_at;
                self.counters.add("routes_announced");
                outputs.extend(after.map(Output::Took));
                if tell {
                    let text = format!(
                        "{prefix} is announced through {daemon}{}",
                        next_hop
                            .as_ref()
                            .map(|it| format!(", next hop {it}"))
                            .unwrap_or_default()
                    );
                    let event = Event::new("route_announced", text).with("prefix", prefix);
                    outputs.push(Output::Event(match next_hop {
                        Some(next_hop) => event.with("next_hop", next_hop),
                        None => event,
                    }));
                }
            }
            (Ok(()), None) => {
                record.held = None;
                self.counters.add("routes_withdrawn");
                self.note_withdrawal(prefix, now);
                if tell {
                    let text = format!("{prefix} is withdrawn from {daemon}");
                    outputs.push(Output::Event(
                        Event::new("route_withdrawn", text).with("prefix", prefix),
                    ));
                }
            }
            (Err(reason), _) => {
                self.counters.add("routes_refused");
                let again = std::mem::replace(&mut record.refusal_told, reason.clone()) == reason;
                if tell && !again {
                    let text = format!("{daemon} refused {prefix}: {reason}");
                    let event = Event::new("route_refused", text).with("prefix", prefix);
                    outputs.push(Output::Warning(event.with("reason", &reason)));
                }
                record.refused = Some(reason);
            }
        }
        self.evaluate(prefix, now, outputs);
    }
}
