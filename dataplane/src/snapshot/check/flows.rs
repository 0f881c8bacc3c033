//! Filters and meters: which are refused.

use std::collections::{HashMap, HashSet};

use ipnet::Ipv6Net;
use kedge_dataplane_api::model::{
    Direction, FILTER_NAME_OCTETS, Filter, FilterAction, Meter, MeterRates, Tables, Transaction, Yellow,
};

use super::{ApplyError, Have, TableLimits, size};
use crate::flow::{MOST_OF_A_PREFIX, has_ports};

/// Octets of a packet that every link takes: a bucket with less room would never let one through.
const LEAST_BURST: u64 = 1280;
/// Octets per second, well above any link's.
const MOST_RATE: u64 = 1 << 40;
/// Octets.
const MOST_BURST: u64 = 1 << 40;

/// Seconds for which a filter may hold.
const HOLD_LIFETIMES: std::ops::RangeInclusive<u32> = 1..=600;

/// What is wrong with entries by themselves, and with how many they are.
pub(super) fn entries(
    transaction: &Transaction,
    known: Have<'_>,
    limits: TableLimits,
) -> Result<(), ApplyError> {
    let have = known.tables;
    let gone = transaction.replace_all;
    for id in &transaction.delete_filters {
        if gone || !have.filters.contains_key(id) {
            return Err(ApplyError::Absent(format!("filter {id}")));
        }
    }
    for id in &transaction.delete_meters {
        if gone || !have.meters.contains_key(id) {
            return Err(ApplyError::Absent(format!("meter {id}")));
        }
    }
    size(
        transaction.put_filters.iter().map(|(id, _)| id),
        &transaction.delete_filters,
        |id| !gone && have.filters.contains_key(id),
        if gone { 0 } else { have.filters.len() },
        |id| format!("filter {id}"),
        ("filters", limits.filters),
    )?;
    size(
        transaction.put_meters.iter().map(|(id, _)| id),
        &transaction.delete_meters,
        |id| !gone && have.meters.contains_key(id),
        if gone { 0 } else { have.meters.len() },
        |id| format!("meter {id}"),
        ("meters", limits.meters),
    )?;
    for (id, meter) in &transaction.put_meters {
        self::meter(*id, meter)?;
    }
    for (id, filter) in &transaction.put_filters {
        self::filter(*id, filter)?;
    }
    scopes(transaction, known, limits)
}

fn filter(id: u64, filter: &Filter) -> Result<(), ApplyError> {
    let wrong = |value: String, why| {
        Err(ApplyError::Filter {
            filter: id,
            value,
            why,
        })
    };
    let selector = &filter.selector;
    if id == 0 {
        return wrong("0".to_owned(), "is no filter id");
    }
    if filter.name.len() > FILTER_NAME_OCTETS {
        return wrong(format!("name {:?}", filter.name), "is longer than 63 octets");
    }
    if filter.priority == 0 {
        return wrong("priority 0".to_owned(), "a priority is 1 to 65535");
    }
    for prefix in filter
        .scope
        .iter()
        .chain([&selector.source, &selector.destination])
    {
        if prefix.trunc() != *prefix {
            return wrong(format!("prefix {prefix}"), "has host bits set");
        }
    }
    if let Some(tunnel) = filter.except_tunnel.filter(|_| filter.scope.is_none()) {
        return wrong(
            format!("except_tunnel {tunnel} without a scope"),
            "there is another end for the packets of a prefix, not for those of the whole domain",
        );
    }
    if filter.action == FilterAction::LocalBreakout && selector.direction == Some(Direction::ToNode) {
        return wrong(
            "local breakout to the node".to_owned(),
            "only what comes from a node can break out",
        );
    }
    if matches!(filter.action, FilterAction::NodeMeter(_)) && filter.scope.is_none() {
        return wrong(
            "a node's meter without a scope".to_owned(),
            "whose meter it is has to be said",
        );
    }
    if filter.action == FilterAction::Hold {
        if filter.scope.is_none() {
            return wrong(
                "hold without a scope".to_owned(),
                "flows are held of a prefix, not of the whole domain",
            );
        }
        if !HOLD_LIFETIMES.contains(&filter.lifetime) {
            let value = format!("hold with a lifetime of {} s", filter.lifetime);
            return wrong(value, "a hold ends by itself, after 1 to 600 s");
        }
    }
    for range in [selector.source_ports, selector.destination_ports]
        .into_iter()
        .flatten()
    {
        if range.first > range.last {
            let value = format!("ports {} to {}", range.first, range.last);
            return wrong(value, "the first is above the last");
        }
        if let Some(protocol) = selector.protocol.filter(|protocol| !has_ports(*protocol)) {
            return wrong(format!("protocol {protocol}"), "has no ports");
        }
    }
    let traffic_class = selector.traffic_class;
    if traffic_class.value & !traffic_class.mask != 0 {
        let value = format!("traffic class {:#04x}", traffic_class.value);
        return wrong(value, "has bits that its mask has not");
    }
    if let Some(label) = selector.flow_label.filter(|label| label >> 20 != 0) {
        return wrong(format!("flow label {label}"), "is above 1048575");
    }
    Ok(())
}

fn meter(id: u64, meter: &Meter) -> Result<(), ApplyError> {
    let wrong = |value: String, why| {
        Err(ApplyError::Meter {
            meter: id,
            value,
            why,
        })
    };
    if id == 0 {
        return wrong("0".to_owned(), "is no meter id");
    }
    let (committed, other) = match meter.rates {
        MeterRates::Rfc2698 { cir, cbs, pir, pbs } => {
            if pir < cir {
                let value = format!("peak information rate {pir}");
                return wrong(value, "is below the committed one");
            }
            (("committed", cir, cbs), ("peak", pir, pbs))
        }
        MeterRates::Rfc4115 { cir, cbs, eir, ebs } => (("committed", cir, cbs), ("excess", eir, ebs)),
    };
    for (name, rate, burst) in [committed, other] {
        if rate > MOST_RATE {
            let value = format!("{name} information rate {rate}");
            return wrong(value, "is above 1099511627776 octets per second");
        }
        if burst > MOST_BURST {
            return wrong(
                format!("{name} burst size {burst}"),
                "is above 1099511627776 octets",
            );
        }
        if rate > 0 && burst < LEAST_BURST {
            let value = format!("{name} burst size {burst}");
            return wrong(value, "is below 1280 octets, so that not every packet can pass");
        }
    }
    if let Some(fill) = meter.fill {
        if fill.number == 0 {
            return wrong("fill number 0".to_owned(), "is no number of a fill");
        }
        for ((name, _, burst), octets) in [committed, other].into_iter().zip([fill.committed, fill.other]) {
            if octets > burst {
                return wrong(format!("{name} fill {octets}"), "is above the burst size");
            }
        }
    }
    if let Yellow::Mark(dscp) = meter.yellow
        && dscp > 63
    {
        return wrong(format!("DSCP {dscp}"), "is above 63");
    }
    Ok(())
}

/// How many filters the whole domain and each prefix have, and that each prefix is there.
fn scopes(transaction: &Transaction, known: Have<'_>, limits: TableLimits) -> Result<(), ApplyError> {
    let (tables, filters) = (known.tables, known.filters);
    let anew = transaction.replace_all;
    let put: HashMap<u64, &Filter> = transaction.put_filters.iter().map(|(id, it)| (*id, it)).collect();
    let deleted: HashSet<u64> = transaction.delete_filters.iter().copied().collect();
    // As it was, and still there afterwards.
    let stays = |id: &u64| !anew && !deleted.contains(id) && !put.contains_key(id);

    let mut of_domain = 0;
    if !anew {
        let changed: HashSet<u64> = put.keys().chain(&deleted).copied().collect();
        let gone = changed.iter().filter_map(|id| tables.filters.get(id));
        of_domain = filters.of_domain() - gone.filter(|it| it.scope.is_none()).count();
    }
    let mut of_prefix: HashMap<Ipv6Net, usize> = HashMap::new();
    for (id, filter) in &transaction.put_filters {
        let Some(scope) = filter.scope else {
            of_domain += 1;
            if of_domain > limits.domain_filters {
                return Err(ApplyError::TooMany {
                    entry: format!("filter {id}"),
                    of: "domain_filters",
                    count: of_domain,
                    most: limits.domain_filters,
                });
            }
            continue;
        };
        let count = of_prefix
            .entry(scope)
            .or_insert_with(|| filters.of_prefix(scope).filter(stays).count());
        *count += 1;
        if *count > MOST_OF_A_PREFIX {
            return Err(ApplyError::Filter {
                filter: *id,
                value: format!("prefix {scope}"),
                why: "has 64 filters already, and may have no more",
            });
        }
    }
    Ok(())
}

/// What may break by a deletion as much as by an addition: filters name prefixes, tunnels and meters.
pub(super) fn references(transaction: &Transaction, known: Have<'_>) -> Result<(), ApplyError> {
    let tables = known.tables;
    let anew = transaction.replace_all;
    let put_prefixes: HashSet<Ipv6Net> = transaction
        .put_prefixes
        .iter()
        .map(|(prefix, _)| *prefix)
        .collect();
    let lost_prefixes: HashSet<Ipv6Net> = transaction.delete_prefixes.iter().copied().collect();
    let put_meters: HashSet<u64> = transaction.put_meters.iter().map(|(id, _)| *id).collect();
    let lost_meters: HashSet<u64> = transaction.delete_meters.iter().copied().collect();
    for (id, filter) in &transaction.put_filters {
        if let Some(prefix) = filter.scope
            && !put_prefixes.contains(&prefix)
            && (anew || !tables.prefixes.contains_key(&prefix) || lost_prefixes.contains(&prefix))
        {
            return Err(ApplyError::UnknownPrefix { filter: *id, prefix });
        }
        if let Some(meter) = filter.action.meter()
            && !put_meters.contains(&meter)
            && (anew || !tables.meters.contains_key(&meter) || lost_meters.contains(&meter))
        {
            return Err(ApplyError::UnknownMeter { filter: *id, meter });
        }
    }
    if anew {
        return Ok(());
    }
    let changed: HashSet<u64> = transaction
        .delete_filters
        .iter()
        .chain(transaction.put_filters.iter().map(|(id, _)| id))
        .copied()
        .collect();
    for prefix in &transaction.delete_prefixes {
        let mut left = known
            .filters
            .of_prefix(*prefix)
            .filter(|id| !changed.contains(id));
        if let Some(filter) = left.next().filter(|_| !put_prefixes.contains(prefix)) {
            return Err(ApplyError::UnknownPrefix {
                filter,
                prefix: *prefix,
            });
        }
    }
    let meter_of = |id: &u64| tables.filters.get(id)?.action.meter();
    for meter in lost_meters.difference(&put_meters) {
        let gone = changed.iter().filter(|id| meter_of(id) == Some(*meter)).count();
        if known.filters.meter_users(*meter) > gone {
            return Err(unknown_meter(*meter, &changed, tables));
        }
    }
    Ok(())
}

/// Only to name a filter that stays.
fn unknown_meter(meter: u64, changed: &HashSet<u64>, tables: &Tables) -> ApplyError {
    let mut stay = tables.filters.iter().filter(|(id, _)| !changed.contains(*id));
    let user = stay.find(|(_, filter)| filter.action.meter() == Some(meter));
    ApplyError::UnknownMeter {
        filter: user.map_or(0, |(id, _)| *id),
        meter,
    }
}
