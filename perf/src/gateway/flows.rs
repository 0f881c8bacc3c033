//! Filters and meters for the benches.

use kedge_dataplane_api::Transaction;
use kedge_dataplane_api::model::{
    Direction, Filter, FilterAction, Meter, MeterRates, PortRange, Selector, Yellow,
};

use super::{Gateway, net};
use crate::fib::shapes::{Prefix, Random};

/// What filters a gateway has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flows {
    /// So many of the whole domain, each of the UDP packets to some ports of one prefix.
    Domain(usize),
    /// So many of each prefix, of which a packet matches one at most.
    OfNodes(usize),
    /// A meter for each prefix, which lets everything pass.
    Meters,
}

impl Flows {
    pub(crate) const ALL: [Self; 5] = [
        Self::Domain(0),
        Self::Domain(100),
        Self::Domain(10_000),
        Self::OfNodes(4),
        Self::Meters,
    ];

    pub(crate) fn name(self) -> String {
        match self {
            Self::Domain(count) => format!("filters-{count}"),
            Self::OfNodes(count) => format!("filters-of-nodes-{count}"),
            Self::Meters => "meter".to_owned(),
        }
    }
}

impl Gateway {
    /// Puts them.
    pub(crate) fn put_flows(&mut self, flows: Flows) -> anyhow::Result<()> {
        let mut random = Random::new(31);
        match flows {
            Flows::Domain(count) => {
                let put_filters = (1..=count as u64)
                    .map(|id| {
                        let at = random.below(self.prefixes.len() as u64) as usize;
                        let prefix = self.prefixes.get(at).copied().unwrap_or_default();
                        let mut filter = of_ports(&mut random, FilterAction::Anchor);
                        filter.selector.destination = net(prefix);
                        (id, filter)
                    })
                    .collect();
                self.compiler.apply(&Transaction {
                    put_filters,
                    ..Transaction::default()
                })?;
            }
            Flows::OfNodes(count) => {
                let prefixes = self.prefixes.clone();
                for (number, prefixes) in prefixes.chunks(1000).enumerate() {
                    let mut put_filters = Vec::new();
                    for (prefix, at) in prefixes.iter().zip(number * 1000..) {
                        for of in 0..count {
                            let id = (at * count + of) as u64 + 1;
                            put_filters.push((id, of_prefix(*prefix, &mut random)));
                        }
                    }
                    self.compiler.apply(&Transaction {
                        put_filters,
                        ..Transaction::default()
                    })?;
                }
            }
            Flows::Meters => {
                let prefixes = self.prefixes.clone();
                for (number, prefixes) in prefixes.chunks(1000).enumerate() {
                    let ids = (number * 1000) as u64 + 1..;
                    let meters = ids.clone().zip(prefixes).map(|(id, _)| (id, generous()));
                    let filters = ids.zip(prefixes).map(|(id, prefix)| {
                        let filter = Filter {
                            selector: Selector::default(),
                            action: FilterAction::NodeMeter(id),
                            ..of_prefix(*prefix, &mut random)
                        };
                        (id, filter)
                    });
                    let put = Transaction {
                        put_meters: meters.collect(),
                        put_filters: filters.collect(),
                        ..Transaction::default()
                    };
                    self.compiler.apply(&put)?;
                }
            }
        }
        Ok(())
    }
}

/// A filter of one prefix.
pub(super) fn of_prefix(prefix: Prefix, random: &mut Random) -> Filter {
    Filter {
        scope: Some(net(prefix)),
        ..of_ports(random, FilterAction::Anchor)
    }
}

fn of_ports(random: &mut Random, action: FilterAction) -> Filter {
    let first = random.below(60_000) as u16;
    Filter {
        scope: None,
        priority: 1 + random.below(1000) as u16,
        selector: Selector {
            direction: Some(Direction::ToNode),
            protocol: Some(17),
            destination_ports: Some(PortRange {
                first,
                last: first + random.below(1000) as u16,
            }),
            ..Selector::default()
        },
        action,
        idle_timeout: 0,
        lifetime: 0,
    }
}

fn generous() -> Meter {
    Meter {
        rates: MeterRates::Rfc2698 {
            cir: 1 << 36,
            cbs: 1 << 30,
            pir: 1 << 36,
            pbs: 1 << 30,
        },
        colour_aware: false,
        yellow: Yellow::Pass,
    }
}
