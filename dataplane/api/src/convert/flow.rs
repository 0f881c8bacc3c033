//! Filters and meters, both ways.

use ipnet::Ipv6Net;

use super::ConversionError;
use super::decode::{prefix_key, tunnel_id};
use super::encode;
use crate::model::{
    Direction, FILTER_NAME_OCTETS, Filter, FilterAction, Meter, MeterFill, MeterRates, PortRange, Selector,
    TrafficClass, Yellow,
};
use crate::proto;

pub(super) fn filter_id(field: &str, id: u64) -> Result<u64, ConversionError> {
    if id == 0 {
        return Err(ConversionError::new(field, "0", "0 is no filter id"));
    }
    Ok(id)
}

pub(super) fn meter_id(field: &str, id: u64) -> Result<u64, ConversionError> {
    if id == 0 {
        return Err(ConversionError::new(field, "0", "0 is no meter id"));
    }
    Ok(id)
}

pub(super) fn filter(message: &proto::Filter) -> Result<(u64, Filter), ConversionError> {
    let id = filter_id("id", message.id)?;
    let priority = u16::try_from(message.priority)
        .ok()
        .filter(|priority| *priority > 0)
        .ok_or_else(|| {
            let value = message.priority.to_string();
            ConversionError::new("priority", value, "a priority is 1..=65535")
        })?;
    let selector = match &message.selector {
        Some(it) => selector(it).map_err(|error| error.inside("selector"))?,
        None => Selector::default(),
    };
    if message.name.len() > FILTER_NAME_OCTETS {
        let value = message.name.clone();
        return Err(ConversionError::new("name", value, "is longer than 63 octets"));
    }
    Ok((
        id,
        Filter {
            name: message.name.clone(),
            scope: key("scope", message.scope.as_ref())?,
            priority,
            selector,
            action: action(message.action.as_ref())?,
            idle_timeout: message.idle_timeout_s,
            lifetime: message.lifetime_s,
            except_tunnel: (message.except_tunnel != 0).then_some(message.except_tunnel),
        },
    ))
}

fn key(field: &str, key: Option<&proto::PrefixKey>) -> Result<Option<Ipv6Net>, ConversionError> {
    key.map(|key| prefix_key(&key.address, key.length).map_err(|error| error.inside(field)))
        .transpose()
}

fn action(action: Option<&proto::filter::Action>) -> Result<FilterAction, ConversionError> {
    use proto::filter::Action;
    let chosen = |field, it, is: bool| {
        if is {
            Ok(it)
        } else {
            let reason = "it is true or another action is given";
            Err(ConversionError::new(field, "false", reason))
        }
    };
    match action {
        Some(Action::Anchor(is)) => chosen("anchor", FilterAction::Anchor, *is),
        Some(Action::Tunnel(id)) => Ok(FilterAction::Tunnel(tunnel_id("tunnel", *id)?)),
        Some(Action::LocalBreakout(is)) => chosen("local_breakout", FilterAction::LocalBreakout, *is),
        Some(Action::Drop(is)) => chosen("drop", FilterAction::Drop, *is),
        Some(Action::Hold(is)) => chosen("hold", FilterAction::Hold, *is),
        Some(Action::Meter(id)) => Ok(FilterAction::Meter(meter_id("meter", *id)?)),
        Some(Action::NodeMeter(id)) => Ok(FilterAction::NodeMeter(meter_id("node_meter", *id)?)),
        None => Err(ConversionError::new(
            "action",
            "absent",
            "a filter needs an action",
        )),
    }
}

fn selector(message: &proto::Selector) -> Result<Selector, ConversionError> {
    let direction = match proto::FlowDirection::try_from(message.direction) {
        Ok(proto::FlowDirection::Unspecified) => None,
        Ok(proto::FlowDirection::FromNode) => Some(Direction::FromNode),
        Ok(proto::FlowDirection::ToNode) => Some(Direction::ToNode),
        Err(_) => {
            let value = message.direction.to_string();
            return Err(ConversionError::new("direction", value, "not a direction"));
        }
    };
    let octet = |field: &str, value: u32, reason| {
        u8::try_from(value).map_err(|_| ConversionError::new(field, value.to_string(), reason))
    };
    let protocol = message
        .protocol
        .as_ref()
        .map(|it| octet("protocol.number", it.number, "a protocol is 0..=255"))
        .transpose()?;
    let traffic_class = match &message.traffic_class {
        Some(it) => {
            let value = octet("traffic_class.value", it.value, "a traffic class is 0..=255")?;
            let mask = octet("traffic_class.mask", it.mask, "a mask is 0..=255")?;
            if value & !mask != 0 {
                let reason = "it has bits that the mask has not";
                return Err(ConversionError::new(
                    "traffic_class.value",
                    value.to_string(),
                    reason,
                ));
            }
            TrafficClass { value, mask }
        }
        None => TrafficClass::default(),
    };
    let flow_label = match &message.flow_label {
        Some(it) if it.value >> 20 != 0 => {
            let value = it.value.to_string();
            return Err(ConversionError::new(
                "flow_label.value",
                value,
                "a flow label is 0..=1048575",
            ));
        }
        it => it.as_ref().map(|it| it.value),
    };
    Ok(Selector {
        direction,
        source: key("source", message.source.as_ref())?.unwrap_or_default(),
        destination: key("destination", message.destination.as_ref())?.unwrap_or_default(),
        protocol,
        source_ports: ports("source_ports", message.source_ports.as_ref())?,
        destination_ports: ports("destination_ports", message.destination_ports.as_ref())?,
        traffic_class,
        flow_label,
    })
}

fn ports(field: &str, range: Option<&proto::PortRange>) -> Result<Option<PortRange>, ConversionError> {
    let Some(range) = range else { return Ok(None) };
    match (u16::try_from(range.first), u16::try_from(range.last)) {
        (Ok(first), Ok(last)) if first <= last => Ok(Some(PortRange { first, last })),
        _ => {
            let value = format!("{}..={}", range.first, range.last);
            let reason = "ports are 0..=65535, the first not above the last";
            Err(ConversionError::new(field, value, reason))
        }
    }
}

pub(super) fn meter(message: &proto::Meter) -> Result<(u64, Meter), ConversionError> {
    let id = meter_id("id", message.id)?;
    let rates = match &message.rates {
        Some(proto::meter::Rates::Rfc2698(it)) => MeterRates::Rfc2698 {
            cir: it.cir,
            cbs: it.cbs,
            pir: it.pir,
            pbs: it.pbs,
        },
        Some(proto::meter::Rates::Rfc4115(it)) => MeterRates::Rfc4115 {
            cir: it.cir,
            cbs: it.cbs,
            eir: it.eir,
            ebs: it.ebs,
        },
        None => return Err(ConversionError::new("rates", "absent", "a meter needs rates")),
    };
    let yellow = match &message.yellow {
        None => Yellow::Pass,
        Some(it) => match u8::try_from(it.dscp) {
            Ok(dscp) if dscp < 64 => Yellow::Mark(dscp),
            _ => {
                let value = it.dscp.to_string();
                return Err(ConversionError::new("yellow.dscp", value, "a DSCP is 0..=63"));
            }
        },
    };
    Ok((
        id,
        Meter {
            rates,
            colour_aware: message.colour_aware,
            yellow,
            fill: message.fill.as_ref().map(fill).transpose()?,
        },
    ))
}

fn fill(message: &proto::MeterFill) -> Result<MeterFill, ConversionError> {
    if message.number == 0 {
        return Err(ConversionError::new(
            "fill.number",
            "0",
            "0 is no number of a fill",
        ));
    }
    Ok(MeterFill {
        number: message.number,
        committed: message.committed,
        other: message.other,
    })
}

pub(super) fn encode_filter(id: u64, filter: &Filter) -> proto::Filter {
    use proto::filter::Action;
    proto::Filter {
        id,
        name: filter.name.clone(),
        scope: filter.scope.as_ref().map(encode::prefix_key),
        priority: u32::from(filter.priority),
        selector: Some(encode_selector(&filter.selector)),
        action: Some(match filter.action {
            FilterAction::Anchor => Action::Anchor(true),
            FilterAction::Tunnel(id) => Action::Tunnel(id),
            FilterAction::LocalBreakout => Action::LocalBreakout(true),
            FilterAction::Drop => Action::Drop(true),
            FilterAction::Hold => Action::Hold(true),
            FilterAction::Meter(id) => Action::Meter(id),
            FilterAction::NodeMeter(id) => Action::NodeMeter(id),
        }),
        idle_timeout_s: filter.idle_timeout,
        lifetime_s: filter.lifetime,
        except_tunnel: filter.except_tunnel.unwrap_or(0),
    }
}

fn encode_selector(selector: &Selector) -> proto::Selector {
    let key = |prefix: &Ipv6Net| (*prefix != Ipv6Net::default()).then(|| encode::prefix_key(prefix));
    let ports = |range: Option<PortRange>| {
        range.map(|range| proto::PortRange {
            first: u32::from(range.first),
            last: u32::from(range.last),
        })
    };
    let direction = match selector.direction {
        None => proto::FlowDirection::Unspecified,
        Some(Direction::FromNode) => proto::FlowDirection::FromNode,
        Some(Direction::ToNode) => proto::FlowDirection::ToNode,
    };
    proto::Selector {
        direction: direction.into(),
        source: key(&selector.source),
        destination: key(&selector.destination),
        protocol: selector.protocol.map(|number| proto::Protocol {
            number: u32::from(number),
        }),
        source_ports: ports(selector.source_ports),
        destination_ports: ports(selector.destination_ports),
        traffic_class: (selector.traffic_class != TrafficClass::default()).then(|| proto::TrafficClass {
            value: u32::from(selector.traffic_class.value),
            mask: u32::from(selector.traffic_class.mask),
        }),
        flow_label: selector.flow_label.map(|value| proto::FlowLabel { value }),
    }
}

pub(super) fn encode_meter(id: u64, meter: &Meter) -> proto::Meter {
    use proto::meter::Rates;
    proto::Meter {
        id,
        rates: Some(match meter.rates {
            MeterRates::Rfc2698 { cir, cbs, pir, pbs } => {
                Rates::Rfc2698(proto::Rfc2698 { cir, cbs, pir, pbs })
            }
            MeterRates::Rfc4115 { cir, cbs, eir, ebs } => {
                Rates::Rfc4115(proto::Rfc4115 { cir, cbs, eir, ebs })
            }
        }),
        colour_aware: meter.colour_aware,
        yellow: match meter.yellow {
            Yellow::Pass => None,
            Yellow::Mark(dscp) => Some(proto::YellowMark {
                dscp: u32::from(dscp),
            }),
        },
        fill: meter.fill.map(|it| proto::MeterFill {
            committed: it.committed,
            other: it.other,
            number: it.number,
        }),
    }
}
