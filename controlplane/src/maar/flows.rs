//! Filters that operators add and delete while the gateway runs, and those whose time has passed.

use std::collections::BTreeSet;

use kedge_config::FilterRule;

use super::fsm::{Maar, Output};
use crate::event::Event;
use crate::forwarding::filter_ids;

impl Maar {
    /// The operator wants this filter, in place of another of this name if there is one.
    pub(super) fn put_filter(&mut self, rule: FilterRule, outputs: &mut Vec<Output>) {
        self.counters.add("filters_added");
        for id in filter_ids(&rule, &self.state) {
            self.state.expired_filters.remove(&id);
        }
        let text = format!("filter {} is added: {}", rule.name, rule.action.name());
        let event = Event::new("filter_added", text).with("filter", &rule.name);
        self.state.filters.insert(rule.name.clone(), rule);
        outputs.push(Output::Event(event));
    }

    /// The operator does not want it any more.
    pub(super) fn delete_filter(&mut self, name: &str, outputs: &mut Vec<Output>) {
        if self.state.filters.remove(name).is_none() {
            return;
        }
        self.counters.add("filters_deleted");
        self.forget_expired();
        let text = format!("filter {name} is deleted");
        outputs.push(Output::Event(
            Event::new("filter_deleted", text).with("filter", name),
        ));
    }

    /// The data plane says that nobody needs this filter any more. Its rule goes when that is so of all its
    /// filters: a flow may be idle with one prefix of a node, and not with another.
    pub(super) fn filter_expired(&mut self, id: u64, outputs: &mut Vec<Output>) {
        let rules = self.state.filters.values();
        let found = rules
            .map(|rule| (rule.name.clone(), filter_ids(rule, &self.state)))
            .find(|(_, ids)| ids.contains(&id));
        // One that was deleted just now, or is the configuration's, which has no times.
        let Some((name, ids)) = found else { return };
        self.state.expired_filters.insert(id);
        if ids.iter().any(|id| !self.state.expired_filters.contains(id)) {
            return;
        }
        self.counters.add("filters_expired");
        self.state.filters.remove(&name);
        self.forget_expired();
        let text = format!("filter {name} is deleted: its time has passed");
        outputs.push(Output::Event(
            Event::new("filter_expired", text).with("filter", name),
        ));
    }

    /// Only filters of rules that are there can have expired.
    fn forget_expired(&mut self) {
        let state = &self.state;
        let rules = state.filters.values();
        let known: BTreeSet<u64> = rules.flat_map(|rule| filter_ids(rule, state)).collect();
        self.state.expired_filters.retain(|id| known.contains(id));
    }
}
