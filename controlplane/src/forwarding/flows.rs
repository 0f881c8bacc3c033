//! Filter rules to filters and meters of the data plane.
//!
//! A rule is about nodes; a filter is of one prefix. So a rule becomes a filter for each prefix of each node
//! that it is about, or one for the whole domain. Their ids follow from what they are of: nothing has to be
//! remembered for a data plane to find its counters and buckets after a restart of this process.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::Ipv6Addr;

use ipnet::Ipv6Net;
use kedge_config::{AppliesTo, Config, FilterAction, FilterRule, FlowDirection, SecondRate};
use kedge_dataplane_api::model::{self, Filter, MeterRates, Selector, Tables};

use super::limits::{LeftOut, Limit, MOST_OF_A_PREFIX};
use super::tunnel_of;
use crate::identity::MobileNodeIdentifier;
use crate::maar::{Node, Phase, State};

/// Ids are that small, so that programs which read JSON can have them as numbers.
const ID_BITS: u32 = 53;

/// All rules: those of the configuration, and those that operators have added.
pub(crate) fn rules<'a>(config: &'a Config, state: &'a State) -> impl Iterator<Item = &'a FilterRule> {
    config.filters.iter().chain(state.filters.values())
}

/// Puts the filters and meters of all rules into tables that have their prefixes already, as far as there is room.
pub(super) fn put(config: &Config, state: &State, tables: &mut Tables, left_out: &mut LeftOut) {
    let most = Limit::Filters.most(config);
    let most_of_domain = Limit::DomainFilters.most(config);
    let (mut of_domain, mut of_prefix) = (0, HashMap::<Ipv6Net, usize>::new());
    for rule in rules(config, state) {
        for place in places(rule, state) {
            if state.expired_filters.contains(&place.id)
                || place.prefix.is_some_and(|it| !tables.prefixes.contains_key(&it))
                || !has_way(config, state, rule, &place, tables)
            {
                continue;
            }
            let (count, room, limit) = match place.prefix {
                Some(prefix) => {
                    let count = of_prefix.entry(prefix).or_default();
                    (count, MOST_OF_A_PREFIX, Limit::FiltersOfAPrefix)
                }
                None => (&mut of_domain, most_of_domain, Limit::DomainFilters),
            };
            let beyond = if *count >= room {
                Some(limit)
            } else {
                (tables.filters.len() >= most).then_some(Limit::Filters)
            };
            if let Some(limit) = beyond {
                left_out.filter(limit, &rule.name);
                continue;
            }
            let Some(action) = action(config, state, rule, &place, tables, left_out) else {
                continue;
            };
            *count += 1;
            let filter = Filter {
                except_tunnel: except(config, state, rule, &place, tables, left_out),
                ..filter(rule, place.prefix, action)
            };
            tables.filters.insert(place.id, filter);
        }
    }
}

/// Whether the tunnel is there that a rule names, if it names one.
fn has_way(config: &Config, state: &State, rule: &FilterRule, place: &Place<'_>, tables: &Tables) -> bool {
    if rule.action != FilterAction::Tunnel {
        return true;
    }
    rule.maar.is_some_and(|maar| match place.node {
        Some((_, node)) => tunnel_of(config, state, node, maar).is_some(),
        None => shared_tunnel(state, maar, tables).is_some(),
    })
}

/// The tunnel that all nodes share, while some node has it.
fn shared_tunnel(state: &State, maar: Ipv6Addr, tables: &Tables) -> Option<u32> {
    let id = state.tunnel_ids.get(&maar)?;
    tables.tunnels.contains_key(id).then_some(*id)
}

/// The tunnel for a node's packets to and from `peer`, if there is room for it.
fn tunnel_with_room(
    config: &Config,
    state: &State,
    node: &Node,
    peer: Ipv6Addr,
    tables: &mut Tables,
    left_out: &mut LeftOut,
) -> Option<u32> {
    let (id, tunnel) = tunnel_of(config, state, node, peer)?;
    if !tables.tunnels.contains_key(&id) && tables.tunnels.len() >= Limit::Tunnels.most(config) {
        left_out.tunnel(id);
        return None;
    }
    tables.tunnels.insert(id, tunnel);
    Some(id)
}

/// The ids of the filters that a rule has come to.
pub(crate) fn ids(rule: &FilterRule, state: &State) -> Vec<u64> {
    places(rule, state).map(|place| place.id).collect()
}

/// The ids of the filters that a rule has come to, each with the prefix that it is of.
pub(crate) fn places_of(rule: &FilterRule, state: &State) -> Vec<(u64, Ipv6Net)> {
    places(rule, state)
        .filter_map(|place| Some((place.id, place.prefix?)))
        .collect()
}

/// The ids of the meters that a rule has come to, each with its node, or nothing where it is the domain's.
pub(crate) fn meters(rule: &FilterRule, state: &State) -> BTreeMap<u64, String> {
    let of = |place: Place<'_>| {
        let node = place.node.map_or_else(String::new, |(node, _)| node.to_string());
        (id("meter", &rule.name, &node, ""), node)
    };
    places(rule, state).map(of).collect()
}

/// Where a rule applies.
struct Place<'a> {
    id: u64,
    node: Option<(&'a MobileNodeIdentifier, &'a Node)>,
    prefix: Option<Ipv6Net>,
}

impl Place<'_> {
    /// Whether the prefix is tunnelled, here or from here.
    fn is_detour(&self) -> bool {
        let Some(((_, node), prefix)) = self.node.zip(self.prefix) else {
            return false;
        };
        matches!(node.phase, Phase::Anchored { .. }) || node.previous.iter().any(|it| it.prefix == prefix)
    }
}

/// The tunnel to the anchor that a prefix comes from, of a filter that came with it: what passes there has met it there, or will.
fn except(
    config: &Config,
    state: &State,
    rule: &FilterRule,
    place: &Place<'_>,
    tables: &mut Tables,
    left_out: &mut LeftOut,
) -> Option<u32> {
    let prefix = place.prefix?;
    let (_, node) = place.node?;
    [&state.filter_prefixes, &state.filters_away, &state.filters_back]
        .into_iter()
        .filter_map(|of| of.get(&rule.name))
        .find(|it| it.contains(&prefix))?;
    let before = node
        .previous
        .iter()
        .chain(&node.leaving)
        .find(|it| it.prefix == prefix);
    let taken = node
        .adopted
        .iter()
        .find(|it| it.prefix == prefix && it.is_asked_there());
    let anchor = before.map(|it| it.address).or(taken.map(|it| it.from));
    tunnel_with_room(config, state, node, anchor?, tables, left_out)
}

/// The id of the meter that a rule has for a node.
pub(crate) fn meter_of(rule: &FilterRule, node: &MobileNodeIdentifier) -> u64 {
    id("meter", &rule.name, &node.to_string(), "")
}

/// The filters of a rule on prefixes that come here by a detour: ids and prefixes.
pub(crate) fn on_detours<'a>(
    rule: &'a FilterRule,
    state: &'a State,
) -> impl Iterator<Item = (u64, Ipv6Net)> + 'a {
    places(rule, state).filter_map(|place| {
        let (_, node) = place.node?;
        let prefix = place.prefix.filter(|_| place.is_detour())?;
        (node.phase == Phase::Attached).then_some((place.id, prefix))
    })
}

fn places<'a>(rule: &'a FilterRule, state: &'a State) -> impl Iterator<Item = Place<'a>> {
    let domain = (rule.applies_to == AppliesTo::Domain).then(|| Place {
        id: id("filter", &rule.name, "", ""),
        node: None,
        prefix: None,
    });
    // What is no identifier, no node has.
    let named = rule.node.as_ref().map(|node| node.parse().ok());
    let wanted = move |identifier: &MobileNodeIdentifier| {
        named
            .as_ref()
            .is_none_or(|named: &Option<MobileNodeIdentifier>| named.as_ref() == Some(identifier))
    };
    let nodes = state
        .nodes
        .iter()
        .filter(move |(identifier, node)| {
            rule.applies_to == AppliesTo::EveryNode && node.registered && wanted(identifier)
        })
        .flat_map(move |(identifier, node)| {
            let away = state.filters_away.get(&rule.name);
            let straight = |prefix: &Ipv6Net| state.passed_on(prefix).is_some();
            let previous = node.previous.iter().map(|previous| previous.prefix);
            // Where the prefix comes from it has this filter. Who had it himself just now may still have its packets come straight.
            let previous = previous
                .filter(move |prefix| straight(prefix) || away.is_none_or(|away| !away.contains(prefix)));
            let leaving = node.leaving.iter().map(|leaving| leaving.prefix);
            let previous = previous.chain(leaving.filter(move |prefix| straight(prefix)));
            let prefixes = node.own_prefixes().chain(previous);
            // One that came with a prefix is that prefix's alone.
            let only = state.filter_prefixes.get(&rule.name);
            let prefixes = prefixes.filter(move |prefix| only.is_none_or(|only| only.contains(prefix)));
            prefixes.map(move |prefix| Place {
                id: id("filter", &rule.name, &identifier.to_string(), &prefix.to_string()),
                node: Some((identifier, node)),
                prefix: Some(prefix),
            })
        });
    domain.into_iter().chain(nodes)
}

/// What names a filter or a meter to the data plane. Another release of the standard library may number
/// anew; then every filter is replaced once.
fn id(kind: &str, rule: &str, node: &str, prefix: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (kind, rule, node, prefix).hash(&mut hasher);
    (hasher.finish() & ((1 << ID_BITS) - 1)).max(1)
}

/// The action by ids; `None` while what it names is not there.
fn action(
    config: &Config,
    state: &State,
    rule: &FilterRule,
    place: &Place<'_>,
    tables: &mut Tables,
    left_out: &mut LeftOut,
) -> Option<model::FilterAction> {
    Some(match rule.action {
        FilterAction::Anchor => model::FilterAction::Anchor,
        FilterAction::LocalBreakout => model::FilterAction::LocalBreakout,
        FilterAction::Drop => model::FilterAction::Drop,
        FilterAction::Hold => model::FilterAction::Hold,
        FilterAction::NoMobility if place.is_detour() => model::FilterAction::Drop,
        FilterAction::NoMobility => model::FilterAction::Anchor,
        FilterAction::Tunnel => {
            let maar = rule.maar?;
            let id = match place.node {
                Some((_, node)) => tunnel_with_room(config, state, node, maar, tables, left_out)?,
                None => shared_tunnel(state, maar, tables)?,
            };
            model::FilterAction::Tunnel(id)
        }
        FilterAction::Meter => {
            model::FilterAction::Meter(meter(config, state, rule, place, tables, left_out)?)
        }
        FilterAction::NodeMeter => {
            model::FilterAction::NodeMeter(meter(config, state, rule, place, tables, left_out)?)
        }
    })
}

/// The meter of a rule at one node, for all of its prefixes.
fn meter(
    config: &Config,
    state: &State,
    rule: &FilterRule,
    place: &Place<'_>,
    tables: &mut Tables,
    left_out: &mut LeftOut,
) -> Option<u64> {
    let name = rule.meter.as_ref()?;
    let configured = config.meters.iter().find(|meter| meter.name == *name);
    let meter = configured.or_else(|| state.meters.get(name))?;
    let (cir, cbs) = (meter.committed(), meter.cbs_bytes);
    let rates = match meter.second_rate()? {
        SecondRate::Peak(pir, pbs) => MeterRates::Rfc2698 { cir, cbs, pir, pbs },
        SecondRate::Excess(eir, ebs) => MeterRates::Rfc4115 { cir, cbs, eir, ebs },
    };
    let node = place.node.map_or_else(String::new, |(node, _)| node.to_string());
    let id = id("meter", &rule.name, &node, "");
    if !tables.meters.contains_key(&id) && tables.meters.len() >= Limit::Meters.most(config) {
        left_out.meter(id, &rule.name);
        return None;
    }
    tables.meters.insert(
        id,
        model::Meter {
            rates,
            colour_aware: meter.colour_aware,
            yellow: meter.yellow_dscp.map_or(model::Yellow::Pass, model::Yellow::Mark),
            fill: state.meter_fills.get(&rule.name).map(|it| {
                let ((_, committed), (_, other)) = rates.buckets();
                model::MeterFill {
                    number: it.number,
                    committed: it.committed.min(committed),
                    other: it.other.min(other),
                }
            }),
        },
    );
    Some(id)
}

fn filter(rule: &FilterRule, scope: Option<Ipv6Net>, action: model::FilterAction) -> Filter {
    let ports = |ports: Option<kedge_config::Ports>| {
        ports.map(|ports| model::PortRange {
            first: ports.first,
            last: ports.last,
        })
    };
    Filter {
        name: rule.name.clone(),
        scope,
        priority: rule.priority,
        selector: Selector {
            direction: rule.direction.map(|direction| match direction {
                FlowDirection::FromNode => model::Direction::FromNode,
                FlowDirection::ToNode => model::Direction::ToNode,
            }),
            source: rule.source.unwrap_or_default(),
            destination: rule.destination.unwrap_or_default(),
            protocol: rule.protocol,
            source_ports: ports(rule.source_ports),
            destination_ports: ports(rule.destination_ports),
            traffic_class: rule
                .traffic_class
                .map_or_else(model::TrafficClass::default, |value| model::TrafficClass {
                    value,
                    mask: rule.traffic_class_mask,
                }),
            flow_label: rule.flow_label,
        },
        action,
        idle_timeout: rule.idle_timeout,
        lifetime: rule.lifetime,
        except_tunnel: None,
    }
}

/// Whether what a rule comes to now, of the nodes that are known, is more than the data plane has room for besides `tables`; says
/// what of. Filters that the same rule has there already make room.
pub(crate) fn beyond_limits(
    config: &Config,
    state: &State,
    tables: &Tables,
    rule: &FilterRule,
) -> Option<String> {
    let is_there = |place: &Place<'_>| {
        place.prefix.is_none_or(|it| tables.prefixes.contains_key(&it))
            && has_way(config, state, rule, place, tables)
    };
    let filters: BTreeSet<u64> = places(rule, state)
        .filter(is_there)
        .map(|place| place.id)
        .collect();
    let others = |names: &str| tables.filters.values().filter(move |it| it.name != names).count();
    let beyond = |limit: Limit, more: usize, before: usize| {
        let (most, of) = (limit.most(config), limit.of());
        let count = before + more;
        (more > 0 && count > most).then(|| {
            let (name, key) = (&rule.name, limit.key());
            format!("filter {name} comes to {more} now: there would be {count} {of}, and {key} = {most}")
        })
    };
    let meters = match rule.action {
        FilterAction::Meter | FilterAction::NodeMeter => meters(rule, state),
        _ => BTreeMap::new(),
    };
    // Those that it has now stay, or go.
    let own = state.filters.get(&rule.name).map(|it| self::meters(it, state));
    let own = own.unwrap_or_default();
    let of_others = tables.meters.keys().filter(|id| !own.contains_key(id)).count();
    beyond(Limit::Filters, filters.len(), others(&rule.name))
        .or_else(|| beyond(Limit::Meters, meters.len(), of_others))
}

/// Whether one more rule would be more than the data plane takes; says what there would be too many of.
pub(crate) fn too_many<'a>(
    rules: impl Iterator<Item = &'a FilterRule> + Clone,
    most_of_domain: usize,
    more: &FilterRule,
) -> Option<String> {
    let others = || rules.clone().filter(|rule| rule.name != more.name);
    if more.applies_to == AppliesTo::Domain {
        let count = 1 + others()
            .filter(|rule| rule.applies_to == AppliesTo::Domain)
            .count();
        let most = most_of_domain;
        return (count > most).then(|| {
            format!(
                "there would be {count} filters of the domain, and dataplane.maximum_domain_filters = {most}"
            )
        });
    }
    let mut common = usize::from(more.node.is_none());
    let mut of_nodes: BTreeMap<&str, usize> = BTreeMap::new();
    if let Some(node) = &more.node {
        of_nodes.insert(node, 1);
    }
    for rule in others().filter(|rule| rule.applies_to == AppliesTo::EveryNode) {
        match &rule.node {
            None => common += 1,
            Some(node) => *of_nodes.entry(node).or_default() += 1,
        }
    }
    let count = common + of_nodes.values().max().copied().unwrap_or(0);
    (count > MOST_OF_A_PREFIX)
        .then(|| format!("a node would have {count} filters, and may have {MOST_OF_A_PREFIX}"))
}
