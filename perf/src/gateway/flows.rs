//! Filters and meters for the benches.

use ipnet::Ipv6Net;
use kedge_dataplane_api::Transaction;
use kedge_dataplane_api::model::{
    Direction, Filter, FilterAction, Meter, MeterRates, PortRange, Selector, Yellow,
};

use super::{Gateway, net};
use crate::fib::shapes::Random;

/// Prefixes in one transaction.
const TOGETHER: usize = 1000;

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
        let nets: Vec<Ipv6Net> = self.prefixes.iter().map(|prefix| net(*prefix)).collect();
        for transaction in flows.transactions(&nets) {
            self.compiler.apply(&transaction)?;
        }
        Ok(())
    }
}

impl Flows {
    /// What puts them, for a gateway that has these prefixes.
    pub(crate) fn transactions(self, prefixes: &[Ipv6Net]) -> impl Iterator<Item = Transaction> {
        let mut random = Random::new(31);
        let together = match self {
            Self::Domain(_) => prefixes.len().max(1),
            Self::OfNodes(_) | Self::Meters => TOGETHER,
        };
        let parts = prefixes.chunks(together).enumerate();
        parts.map(move |(number, part)| self.transaction(part, number * together, &mut random))
    }

    /// That of these prefixes, of which the first has number `first`.
    fn transaction(self, prefixes: &[Ipv6Net], first: usize, random: &mut Random) -> Transaction {
        let mut put = Transaction::default();
        match self {
            Self::Domain(count) => {
                put.put_filters = (1..=count as u64)
                    .map(|id| {
                        let at = random.below(prefixes.len() as u64) as usize;
                        let mut filter = of_ports(random, FilterAction::Anchor);
                        filter.selector.destination = prefixes.get(at).copied().unwrap_or_default();
                        (id, filter)
                    })
                    .collect();
            }
            Self::OfNodes(count) => {
                for (prefix, at) in prefixes.iter().zip(first..) {
                    for of in 0..count {
                        let id = (at * count + of) as u64 + 1;
                        put.put_filters.push((id, of_prefix(*prefix, random)));
                    }
                }
            }
            Self::Meters => {
                let ids = first as u64 + 1..;
                put.put_meters = ids
                    .clone()
                    .zip(prefixes)
                    .map(|(id, _)| (id, generous()))
                    .collect();
                let filters = ids.zip(prefixes).map(|(id, prefix)| {
                    let filter = Filter {
                        name: String::new(),
                        selector: Selector::default(),
                        action: FilterAction::NodeMeter(id),
                        ..of_prefix(*prefix, random)
                    };
                    (id, filter)
                });
                put.put_filters = filters.collect();
            }
        }
        put
    }
}

/// A filter of one prefix.
pub(super) fn of_prefix(prefix: Ipv6Net, random: &mut Random) -> Filter {
    Filter {
        name: String::new(),
        scope: Some(prefix),
        ..of_ports(random, FilterAction::Anchor)
    }
}

fn of_ports(random: &mut Random, action: FilterAction) -> Filter {
    let first = random.below(60_000) as u16;
    Filter {
        name: String::new(),
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
        except_tunnel: None,
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
        fill: None,
    }
}
