//! Filters that operators add and delete while the gateway runs, and those whose time has passed.

use std::collections::BTreeSet;

use ipnet::Ipv6Net;
use kedge_config::{FilterRule, Meter};

use super::fsm::{Maar, Output};
use super::state::MeterFill;
use crate::charging::Record;
use crate::event::Event;
use crate::forwarding::{filter_ids, too_many};
use crate::identity::MobileNodeIdentifier;
use crate::time::Time;
use crate::wire::mobility::{Context, TransferredMeter};

/// Filters that operators may add.
pub(crate) const MOST_FILTERS: usize = 65_536;
/// Prefixes of which it is remembered of one filter that they have taken it along.
const MOST_AWAY: usize = 64;

impl Maar {
    /// The operator wants this filter, in place of another of this name if there is one.
    pub(super) fn put_filter(&mut self, rule: FilterRule, now: Time, outputs: &mut Vec<Output>) {
        self.drop_filter(&rule.name.clone());
        if rule.lifetime > 0 {
            self.state.filter_since.insert(rule.name.clone(), now);
        }
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
        if !self.drop_filter(name) {
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
        self.drop_filter(&name);
        self.forget_expired();
        let text = format!("filter {name} is deleted: its time has passed");
        outputs.push(Output::Event(
            Event::new("filter_expired", text).with("filter", name),
        ));
    }

    /// Forgets a rule with all that there is of it. Whether there was one.
    fn drop_filter(&mut self, name: &str) -> bool {
        self.state.filter_prefixes.remove(name);
        self.state.filters_away.remove(name);
        self.state.filters_back.remove(name);
        self.state.filter_since.remove(name);
        self.state.meter_fills.remove(name);
        self.forget_handed(name);
        let known = self.state.filters.remove(name).is_some();
        let rules = self.state.filters.values();
        let named: BTreeSet<&String> = rules.filter_map(|rule| rule.meter.as_ref()).collect();
        self.state.meters.retain(|meter, _| named.contains(meter));
        known
    }

    /// Rules that came with a prefix end here with it.
    pub(super) fn forget_filters_of(&mut self, prefix: Ipv6Net) {
        self.not_moved.retain(|(of, _)| *of != prefix);
        self.forget_back(prefix);
        let mut over = Vec::new();
        for (name, prefixes) in &mut self.state.filter_prefixes {
            if prefixes.remove(&prefix) && prefixes.is_empty() {
                over.push(name.clone());
            }
        }
        for name in over {
            self.drop_filter(&name);
            self.forget_expired();
        }
    }

    /// Rules that stay here, for what else the node has here, have gone with one of its prefixes.
    pub(super) fn filters_went(&mut self, names: impl Iterator<Item = String>, prefix: Ipv6Net) {
        self.forget_back(prefix);
        for name in names {
            let away = self.state.filters_away.entry(name).or_default();
            away.insert(prefix);
            if away.len() > MOST_AWAY {
                let other = away.iter().copied().find(|it| *it != prefix);
                other.map(|it| away.remove(&it));
            }
        }
    }

    /// What has come back ahead of a prefix, or with it, stays where it was after all.
    pub(super) fn filters_stay_away(&mut self, prefix: Ipv6Net) {
        let back = self.forget_back(prefix);
        self.filters_went(back.into_iter(), prefix);
    }

    /// Gives the names of those that had come back with the prefix.
    fn forget_back(&mut self, prefix: Ipv6Net) -> Vec<String> {
        let mut names = Vec::new();
        self.state.filters_back.retain(|name, prefixes| {
            if prefixes.remove(&prefix) {
                names.push(name.clone());
            }
            !prefixes.is_empty()
        });
        names
    }

    /// Whether a rule that stayed here comes back with a prefix that had taken it along. Said again, it has come already.
    fn comes_back(&mut self, name: &str, prefix: Ipv6Net) -> bool {
        let away = self.state.filters_away.get_mut(name);
        if away.is_none_or(|it| !it.remove(&prefix)) {
            let back = self.state.filters_back.get(name);
            return back.is_some_and(|it| it.contains(&prefix));
        }
        self.state.filters_away.retain(|_, it| !it.is_empty());
        let back = self.state.filters_back.entry(name.to_owned()).or_default();
        back.insert(prefix);
        true
    }

    /// A filter has come with a prefix from the anchor before.
    pub(super) fn take_filter(
        &mut self,
        identifier: &MobileNodeIdentifier,
        prefix: Ipv6Net,
        rule: &FilterRule,
        meter: Option<&TransferredMeter>,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        let rule = FilterRule {
            node: Some(identifier.to_string()),
            ..rule.clone()
        };
        let name = rule.name.clone();
        // It comes before its prefix does, as long as that is tunnelled here.
        let coming = self.is_coming(identifier, prefix);
        let nodes = &self.state.nodes;
        let has = nodes
            .get(identifier)
            .is_some_and(|node| node.own_prefixes().any(|it| it == prefix));
        if !coming && (!has || self.state.yielded.contains_key(&prefix)) {
            // It has missed it, by however much: the CMD knows where it went, or that it went nowhere.
            let record = Record {
                identifier: identifier.clone(),
                prefix,
                context: Context::Filter(Box::new(FilterRule { node: None, ..rule })),
                meter: meter.cloned(),
            };
            self.state.charging.push(record, now);
            return;
        }
        if let Err(why) = self.check_moved(&rule, meter.map(|it| &it.meter)) {
            // Once, though it may be said once more when the prefix has come.
            if self.not_moved.insert((prefix, name.clone())) {
                self.counters.add("filters_not_moved");
                let text = format!("filter {name} did not come with {prefix} of {identifier}: {why}");
                outputs.push(about(&name, "filter_not_moved", text, prefix));
            }
            return;
        }
        // Told twice, before its prefix comes and when it has come, it has come once.
        let there = self.state.filter_prefixes.get(&name);
        if there.is_none_or(|it| !it.contains(&prefix)) {
            self.counters.add("filters_moved");
            let text = format!("filter {name} has come with {prefix} of {identifier}");
            outputs.push(about(&name, "filter_moved", text, prefix));
        }
        let rule_name = name.clone();
        let scoped = self.state.filter_prefixes.contains_key(&name);
        let known = self.state.filters.contains_key(&name);
        let back = self.comes_back(&name, prefix);
        // One that is there for all of the node's prefixes is for this one too.
        if scoped || !known {
            let prefixes = self.state.filter_prefixes.entry(name.clone()).or_default();
            prefixes.insert(prefix);
        }
        if !known {
            if rule.lifetime > 0 {
                self.state.filter_since.insert(name.clone(), now);
            }
            self.state.filters.insert(name, rule);
        }
        if let Some(TransferredMeter { meter, fill }) = meter {
            // What it has here already is lowered too: nobody gains by having it at two places.
            if let Some(fill) = fill.filter(|_| scoped || !known || back) {
                let number = u64::try_from(now.0.as_micros()).unwrap_or(u64::MAX).max(1);
                let fill = MeterFill {
                    number,
                    ..fill.into()
                };
                self.state.meter_fills.insert(rule_name, fill);
            }
            let configured = self.settings.meters.iter().any(|it| it.name == meter.name);
            if !configured {
                self.state.meters.insert(meter.name.clone(), meter.clone());
            }
        }
        // It ends with the prefix, and when that is somebody knows.
        self.charged(identifier, prefix);
    }

    /// Why a filter cannot be here what it was there.
    fn check_moved(&self, rule: &FilterRule, meter: Option<&Meter>) -> Result<(), String> {
        let state = &self.state;
        let configured = &self.settings;
        if configured.filters.iter().any(|it| it.name == rule.name) {
            return Err("the configuration has another one of this name".to_owned());
        }
        // What is left of its time differs.
        let alike = |one: &FilterRule| FilterRule {
            lifetime: 0,
            ..one.clone()
        };
        if state
            .filters
            .get(&rule.name)
            .is_some_and(|it| alike(it) != alike(rule))
        {
            return Err("there is another one of this name".to_owned());
        }
        let mut meters: Vec<Meter> = configured.meters.clone();
        meters.extend(state.meters.values().cloned());
        if let Some(meter) = meter {
            match meters.iter().find(|it| it.name == meter.name) {
                Some(known) if known != meter => {
                    return Err(format!("meter {} has other rates here", meter.name));
                }
                Some(_) => {}
                None => meters.push(meter.clone()),
            }
            meter.check_alone().map_err(|error| error.to_string())?;
        }
        rule.check_alone(&meters).map_err(|error| error.to_string())?;
        if state.filters.len() >= MOST_FILTERS {
            return Err(format!("there are {MOST_FILTERS} filters, and may be no more"));
        }
        let rules = configured.filters.iter().chain(state.filters.values());
        too_many(rules, 0, rule).map_or(Ok(()), Err)
    }

    /// Only filters of rules that are there can have expired.
    fn forget_expired(&mut self) {
        let state = &self.state;
        let rules = state.filters.values();
        let known: BTreeSet<u64> = rules.flat_map(|rule| filter_ids(rule, state)).collect();
        self.state.expired_filters.retain(|id| known.contains(id));
    }
}

pub(super) fn about(filter: &str, kind: &'static str, text: String, prefix: Ipv6Net) -> Output {
    let event = Event::new(kind, text).with("filter", filter);
    Output::Event(event.with("prefix", prefix))
}
