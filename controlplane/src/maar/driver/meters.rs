//! Meters by name: their rates, who has one, and how much of each colour there was.

use std::collections::BTreeMap;

use kedge_config::Meter;
use kedge_dataplane_api::proto::MeterCount;

use super::Daemon;
use crate::forwarding;
use crate::metrics::MeterFigures;
use crate::northbound::proto;

/// Packets, then octets: green, yellow, red.
type Colours = [u64; 6];

/// What all meters of each name have counted since this process began, as far as it was read.
#[derive(Debug, Default)]
pub(super) struct Meters {
    last: BTreeMap<u64, Colours>,
    sums: BTreeMap<String, Colours>,
}

impl Meters {
    /// Takes a reading. What a meter counted between the last one and its end is in none.
    pub(super) fn take(&mut self, counts: &[MeterCount], names: &BTreeMap<u64, String>) {
        let last = std::mem::take(&mut self.last);
        for count in counts {
            let now = colours(count);
            // One that has begun anew has counted all of it since.
            let before = last
                .get(&count.id)
                .filter(|it| it.iter().zip(now).all(|(it, now)| *it <= now));
            let before = before.copied().unwrap_or_default();
            if let Some(name) = names.get(&count.id) {
                let sum = self.sums.entry(name.clone()).or_default();
                for (sum, (now, before)) in sum.iter_mut().zip(now.into_iter().zip(before)) {
                    *sum = sum.saturating_add(now.saturating_sub(before));
                }
            }
            self.last.insert(count.id, now);
        }
    }
}

fn colours(count: &MeterCount) -> Colours {
    [
        count.green_packets,
        count.yellow_packets,
        count.red_packets,
        count.green_bytes,
        count.yellow_bytes,
        count.red_bytes,
    ]
}

impl Daemon {
    /// Whose each meter of the data plane is.
    pub(super) fn meter_names(&self) -> BTreeMap<u64, String> {
        let state = self.machine.state();
        let rules = forwarding::rules(&self.config, state);
        let named = rules.filter_map(|rule| Some((rule, rule.meter.as_ref()?)));
        let ids = named.flat_map(|(rule, name)| {
            let meters = forwarding::meters(rule, state);
            meters.into_keys().map(move |id| (id, name.clone()))
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
                there.map(|(id, node)| proto::MeterUse {
                    id,
                    filter: rule.name.clone(),
                    of_node: rule.action == kedge_config::FilterAction::NodeMeter,
                    node,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_never_goes_back() {
        let mut meters = Meters::default();
        let names = BTreeMap::from([(1, "gold".to_owned()), (2, "gold".to_owned())]);
        let count = |id, green_packets, red_bytes| MeterCount {
            id,
            green_packets,
            red_bytes,
            ..MeterCount::default()
        };
        meters.take(&[count(1, 5, 100), count(2, 1, 0), count(3, 9, 9)], &names);
        meters.take(&[count(1, 7, 100), count(2, 1, 0)], &names);
        assert_eq!(meters.sums["gold"], [8, 0, 0, 0, 0, 100]);
        // One node has gone; the data plane has begun anew.
        meters.take(&[count(1, 9, 100)], &names);
        meters.take(&[count(1, 2, 10)], &names);
        assert_eq!(meters.sums["gold"], [12, 0, 0, 0, 0, 110]);
        assert_eq!(meters.sums.len(), 1);
    }
}
