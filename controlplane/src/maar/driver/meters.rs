//! Meters by name: their rates, who has one, and how much of each colour there was.

use std::collections::BTreeMap;

use kedge_config::Meter;
use kedge_dataplane_api::proto::{CounterReading, FilterCount};

use super::{Daemon, State};
use crate::charging::Colours;
use crate::forwarding;
use crate::metrics::MeterFigures;
use crate::northbound::proto;

/// Packets, then octets: green, yellow, red.
type Figures = [u64; 6];

/// What all meters of each name have counted since this process began, as far as it was read.
#[derive(Debug, Default)]
pub(super) struct Meters {
    /// Of each filter that meters: the name of its meter, and what was read last.
    last: BTreeMap<u64, (String, Figures)>,
    /// Of which data plane, and up to which of its last readings.
    departed: (u64, u64),
    sums: BTreeMap<String, Figures>,
}

impl Meters {
    /// Takes a reading, with the last ones of filters that are no more. `names`: of the meters, by filter.
    pub(super) fn take(&mut self, reading: &CounterReading, names: &BTreeMap<u64, String>) {
        if self.departed.0 != reading.incarnation {
            self.departed = (reading.incarnation, 0);
            self.last.clear();
        }
        for departed in &reading.departed {
            if departed.sequence <= self.departed.1 {
                continue;
            }
            self.departed.1 = departed.sequence;
            if let Some(count) = &departed.filter {
                let known = self.last.remove(&count.id);
                let (name, before) = known.unwrap_or_else(|| {
                    let name = names.get(&count.id).cloned();
                    (name.unwrap_or_default(), Figures::default())
                });
                self.add(&name, figures(count), before);
            }
        }
        for count in &reading.filters {
            let now = figures(count);
            let known = self.last.remove(&count.id);
            let before = known.as_ref().map_or(Figures::default(), |(_, it)| *it);
            let name = names.get(&count.id).cloned().or(known.map(|(name, _)| name));
            let Some(name) = name else { continue };
            self.add(&name, now, before);
            self.last.insert(count.id, (name, now));
        }
    }

    fn add(&mut self, name: &str, now: Figures, before: Figures) {
        if name.is_empty() || now == before {
            return;
        }
        // One that has begun anew has counted all of it since.
        let goes_on = before.iter().zip(now).all(|(before, now)| *before <= now);
        let before = if goes_on { before } else { Figures::default() };
        let sum = self.sums.entry(name.to_owned()).or_default();
        for (sum, (now, before)) in sum.iter_mut().zip(now.into_iter().zip(before)) {
            *sum = sum.saturating_add(now.saturating_sub(before));
        }
    }
}

fn figures(count: &FilterCount) -> Figures {
    let it = count.colours.unwrap_or_default();
    [
        it.green_packets,
        it.yellow_packets,
        it.red_packets,
        it.green_bytes,
        it.yellow_bytes,
        it.red_bytes,
    ]
}

impl Daemon {
    /// The names of the meters of filters in the data plane.
    pub(super) fn meter_names(&self) -> BTreeMap<u64, String> {
        let state = self.machine.state();
        let rules = forwarding::rules(&self.config, state);
        let named = rules.filter_map(|rule| Some((rule, rule.meter.as_ref()?)));
        let ids = named.flat_map(|(rule, name)| {
            let filters = forwarding::filter_ids(rule, state).into_iter();
            filters.map(move |id| (id, name.clone()))
        });
        ids.collect()
    }

    /// For metrics: one of each name that there is, whatever it has counted.
    pub(super) fn meter_figures(&self) -> Vec<MeterFigures> {
        let figure = |meter: &Meter| MeterFigures {
            name: meter.name.clone(),
            colours: self.meters.sums.get(&meter.name).copied().unwrap_or_default(),
        };
        self.all_meters().map(figure).collect()
    }

    fn all_meters(&self) -> impl Iterator<Item = &Meter> {
        self.config
            .meters
            .iter()
            .chain(self.machine.state().meters.values())
    }

    pub(super) fn list_meters(&self) -> proto::MeterList {
        let state = self.machine.state();
        let there = &self.desired.borrow().tables.meters;
        let uses = |meter: &Meter| {
            let rules = forwarding::rules(&self.config, state);
            let rules = rules.filter(|rule| rule.meter.as_ref() == Some(&meter.name));
            let uses = rules.flat_map(|rule| {
                let meters = forwarding::meters(rule, state).into_iter();
                let there = meters.filter(|(id, _)| there.contains_key(id));
                there.map(|(id, node)| {
                    let [
                        green_packets,
                        green_bytes,
                        yellow_packets,
                        yellow_bytes,
                        red_packets,
                        red_bytes,
                    ] = carried(state, &rule.name, &node).numbers();
                    proto::MeterUse {
                        id,
                        filter: rule.name.clone(),
                        of_node: rule.action == kedge_config::FilterAction::NodeMeter,
                        node,
                        green_packets,
                        green_bytes,
                        yellow_packets,
                        yellow_bytes,
                        red_packets,
                        red_bytes,
                    }
                })
            });
            uses.collect()
        };
        let one = |meter: &Meter| proto::Meter {
            name: meter.name.clone(),
            configured: self.config.meters.iter().any(|it| it.name == meter.name),
            cir_bits_per_second: meter.cir_bits_per_second,
            cbs_bytes: meter.cbs_bytes,
            pir_bits_per_second: meter.pir_bits_per_second,
            pbs_bytes: meter.pbs_bytes,
            eir_bits_per_second: meter.eir_bits_per_second,
            ebs_bytes: meter.ebs_bytes,
            colour_aware: meter.colour_aware,
            yellow_dscp: meter.yellow_dscp.map(u32::from),
            uses: uses(meter),
        };
        proto::MeterList {
            meters: self.all_meters().map(one).collect(),
        }
    }
}

/// What the filters of a rule have metered of a node, but for those that the data plane has.
fn carried(state: &State, rule: &str, node: &str) -> Colours {
    let its = state.charging.prefixes.values();
    let its = its.filter(|it| it.identifier.to_string() == node);
    let filters = its.filter_map(|it| it.filters.get(rule));
    filters.fold(Colours::default(), |sum, it| sum.plus(it.counted.carried.colours))
}

#[cfg(test)]
mod tests {
    use kedge_dataplane_api::proto;

    use super::*;

    fn count(id: u64, green_packets: u64, red_bytes: u64) -> FilterCount {
        let colours = proto::Colours {
            green_packets,
            red_bytes,
            ..proto::Colours::default()
        };
        FilterCount {
            id,
            colours: Some(colours),
            ..FilterCount::default()
        }
    }

    #[test]
    fn a_sum_never_goes_back_and_misses_nothing() {
        let mut meters = Meters::default();
        let names = BTreeMap::from([(1, "gold".to_owned()), (2, "gold".to_owned())]);
        let mut take = |incarnation, filters: Vec<FilterCount>, departed: Vec<(u64, FilterCount)>| {
            let departed = departed
                .into_iter()
                .map(|(sequence, filter)| proto::DepartedCount {
                    sequence,
                    filter: Some(filter),
                    ..proto::DepartedCount::default()
                });
            let reading = CounterReading {
                incarnation,
                filters,
                departed: departed.collect(),
                ..CounterReading::default()
            };
            meters.take(&reading, &names);
            assert_eq!(meters.sums.len(), 1);
            meters.sums["gold"]
        };
        take(1, vec![count(1, 5, 100), count(2, 1, 0), count(3, 9, 9)], vec![]);
        let sum = take(1, vec![count(1, 7, 100), count(2, 1, 0)], vec![]);
        assert_eq!(sum, [8, 0, 0, 0, 0, 100]);
        // One has gone, and is told of until that is acknowledged; one that comes back begins at zero.
        let last = || vec![(1, count(2, 4, 0))];
        let sum = take(1, vec![count(1, 9, 100)], last());
        assert_eq!(sum, [13, 0, 0, 0, 0, 100]);
        let sum = take(1, vec![count(1, 9, 100), count(2, 3, 0)], last());
        assert_eq!(sum, [16, 0, 0, 0, 0, 100]);
        // The data plane has begun anew.
        let sum = take(2, vec![count(1, 2, 10)], vec![]);
        assert_eq!(sum, [18, 0, 0, 0, 0, 110]);
    }
}
