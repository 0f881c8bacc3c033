//! The filters of the whole domain: a classifier, built anew when one of them changes.

use arrayvec::ArrayVec;
use dpdk::Eal;
use dpdk::acl::{Acl, AclError, Key, Rule};
use kedge_dataplane_api::model::{Direction, Filter, FilterAction, Selector};

use super::compiled::{Act, Compiled, Kind};
use super::fields::Fields;
use super::verdict::Firsts;
use crate::pipeline::BURST;

/// Bits of a key's word above those of flow label and traffic class.
const PORTS: u32 = 1 << 28;
const PROTOCOL: u32 = 1 << 29;
const FROM_NODE: u32 = 1 << 30;
const TO_NODE: u32 = 1 << 31;

/// There is no classifier for these filters.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{count} filters of the whole domain: {error}")]
pub struct BuildError {
    /// How many there would be.
    pub count: usize,
    /// What DPDK says.
    pub error: AclError,
}

/// Makes classifiers.
#[derive(Clone, Debug, Default)]
pub enum Builder {
    /// `rte_acl`, with its memory from there.
    Acl(Eal),
    /// Filter by filter: for tests without DPDK's memory.
    #[default]
    OneByOne,
}

/// All filters of the whole domain.
#[derive(Debug, Default)]
pub struct Wide {
    way: Ordered,
    meter: Ordered,
}

/// Filters of one kind, the first one first.
#[derive(Debug, Default)]
struct Ordered {
    classifier: Classifier,
    entries: Vec<Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    priority: u16,
    act: Act,
    counter: u32,
}

#[derive(Debug, Default)]
enum Classifier {
    #[default]
    None,
    Acl(Acl),
    OneByOne(Vec<Compiled>),
}

/// A classifier without what its filters lead to, which is known only when the transaction is carried out.
#[derive(Debug)]
pub(crate) struct Draft {
    ids: Vec<u64>,
    classifier: Classifier,
}

impl Builder {
    /// A classifier for each kind of `filters`, in their order.
    pub(crate) fn draft<'a>(
        &self,
        filters: impl Iterator<Item = (u64, &'a Filter)>,
    ) -> Result<[Draft; 2], BuildError> {
        let mut kinds: [Vec<(u64, &Filter)>; 2] = [Vec::new(), Vec::new()];
        for (id, filter) in filters {
            let [way, meter] = &mut kinds;
            match Kind::from(filter.action) {
                Kind::Way => way.push((id, filter)),
                // A node's meter has a scope.
                Kind::Meter | Kind::NodeMeter => meter.push((id, filter)),
            }
        }
        let [mut way, mut meter] = kinds;
        Ok([self.kind(&mut way)?, self.kind(&mut meter)?])
    }

    fn kind(&self, filters: &mut [(u64, &Filter)]) -> Result<Draft, BuildError> {
        filters.sort_by_key(|(id, filter)| (filter.priority, *id));
        let failed = |error| BuildError {
            count: filters.len(),
            error,
        };
        let classifier = if filters.is_empty() {
            Classifier::None
        } else {
            match self {
                Self::Acl(eal) => {
                    let rules: Vec<Rule> = filters.iter().map(|(_, filter)| rule(&filter.selector)).collect();
                    Classifier::Acl(Acl::build(eal, &rules).map_err(failed)?)
                }
                Self::OneByOne => Classifier::OneByOne(
                    filters
                        .iter()
                        .map(|(_, filter)| Compiled::new(filter, Act::Anchor, 0, 0))
                        .collect(),
                ),
            }
        };
        Ok(Draft {
            ids: filters.iter().map(|(id, _)| *id).collect(),
            classifier,
        })
    }
}

impl Wide {
    /// Says what each filter leads to: its priority, its action by index, its counters.
    pub(crate) fn new([way, meter]: [Draft; 2], of: impl Fn(u64) -> (u16, Act, u32)) -> Self {
        let ordered = |draft: Draft| Ordered {
            entries: draft
                .ids
                .iter()
                .map(|id| {
                    let (priority, act, counter) = of(*id);
                    Entry {
                        priority,
                        act,
                        counter,
                    }
                })
                .collect(),
            classifier: draft.classifier,
        };
        Self {
            way: ordered(way),
            meter: ordered(meter),
        }
    }

    /// There are none.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.way.entries.is_empty() && self.meter.entries.is_empty()
    }

    /// Asks all filters about a burst; `from` and `to` say whether a packet is from a node or to one.
    #[inline]
    pub(super) fn ask(&self, packets: &[(Fields, bool, bool)], firsts: &mut [Firsts]) {
        self.way.ask(packets, firsts);
        self.meter.ask(packets, firsts);
    }
}

impl Ordered {
    #[inline]
    fn ask(&self, packets: &[(Fields, bool, bool)], firsts: &mut [Firsts]) {
        let mut results = [0; BURST];
        match &self.classifier {
            Classifier::None => return,
            Classifier::Acl(acl) => {
                let keys: ArrayVec<Key, BURST> = packets
                    .iter()
                    .take(BURST)
                    .map(|(fields, from, to)| key(fields, *from, *to))
                    .collect();
                acl.classify(&keys, &mut results);
            }
            Classifier::OneByOne(filters) => {
                for ((fields, from, to), result) in packets.iter().zip(&mut results) {
                    let matches = |filter: &Compiled| {
                        let either = !filter.has_direction();
                        either && filter.matches(fields, Direction::FromNode)
                            || *from && filter.matches(fields, Direction::FromNode)
                            || *to && filter.matches(fields, Direction::ToNode)
                    };
                    let found = filters.iter().position(matches);
                    *result = found.map_or(0, |at| at as u32 + 1);
                }
            }
        }
        for ((result, firsts), (_, from, _)) in results.iter().zip(firsts).zip(packets) {
            let Some(entry) = result.checked_sub(1).and_then(|at| self.entries.get(at as usize)) else {
                continue;
            };
            let direction = if *from {
                Direction::FromNode
            } else {
                Direction::ToNode
            };
            firsts.offer_wide(entry.priority, entry.act, entry.counter, direction);
        }
    }
}

#[inline]
fn key(fields: &Fields, from: bool, to: bool) -> Key {
    let flag = |is: bool, flag: u32| if is { flag } else { 0 };
    let word = fields.flow_label
        | u32::from(fields.traffic_class) << 20
        | flag(fields.ports.is_some(), PORTS)
        | flag(fields.protocol.is_some(), PROTOCOL)
        | flag(from, FROM_NODE)
        | flag(to, TO_NODE);
    Key::new(
        fields.source,
        fields.destination,
        fields.protocol.unwrap_or(0),
        fields.ports.unwrap_or((0, 0)),
        word,
    )
}

fn rule(selector: &Selector) -> Rule {
    let mut word = (
        u32::from(selector.traffic_class.value) << 20,
        u32::from(selector.traffic_class.mask) << 20,
    );
    let mut ask = |value: u32, mask: u32| word = (word.0 | value, word.1 | mask);
    if let Some(label) = selector.flow_label {
        ask(label, 0x000f_ffff);
    }
    match selector.direction {
        None => {}
        Some(Direction::FromNode) => ask(FROM_NODE, FROM_NODE),
        Some(Direction::ToNode) => ask(TO_NODE, TO_NODE),
    }
    if selector.protocol.is_some() {
        ask(PROTOCOL, PROTOCOL);
    }
    if selector.source_ports.is_some() || selector.destination_ports.is_some() {
        ask(PORTS, PORTS);
    }
    let ports = |range: Option<kedge_dataplane_api::model::PortRange>| {
        range.map_or(0..=u16::MAX, |it| it.first..=it.last)
    };
    Rule {
        source: (selector.source.network(), selector.source.prefix_len()),
        destination: (selector.destination.network(), selector.destination.prefix_len()),
        protocol: selector.protocol.map_or((0, 0), |protocol| (protocol, 0xff)),
        source_ports: ports(selector.source_ports),
        destination_ports: ports(selector.destination_ports),
        word,
    }
}

/// Whether a filter belongs to the whole domain's classifier.
pub(crate) fn is_wide(filter: &Filter) -> bool {
    debug_assert!(filter.scope.is_some() || !matches!(filter.action, FilterAction::NodeMeter(_)));
    filter.scope.is_none()
}
