//! The Context Transfer options: Vendor-Specific Mobility Options (RFC 5094 section 3) of Kedge's own.
//!
//! In an update of a MAAR to the CMD, or of the CMD to a MAAR, and in its answer, with a Mobile Node Identifier and without a
//! Home Network Prefix: a gateway of another kind refuses that (RFC 5213 section 5.3.1, status 158), and nothing has changed.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//!                                 |   Type = 19   |     Length    |
//! |                       Vendor ID = 32473                       |
//! | Sub-Type      |  Version = 0  |      Kind     | Prefix Length |
//! |                            Id (8)                             |
//! |                    oldest Id on its way (8)                   |
//! |                      IPv6 prefix (16)                         |
//! |                          content ...                          |
//! ```
//!
//! Sub-Type 3, Kind 1, what was counted: packets to the node, octets of those, packets from it, octets of those, time of the
//! first and of the last one in milliseconds since 1970 (6 * 8), length and octets of the filter's name, of length 0 where it
//! is the whole prefix's. Kind 2, the same of a filter that meters: between the times and the name, green packets, octets of those,
//! yellow packets, octets of those, red packets, octets of those (6 * 8).
//!
//! Sub-Type 4, Kind 1, a filter rule: priority (2), action (1: as in `ACTIONS`, from 0), direction (1: both, from the node, to
//! it), which of the following are there (2), idle timeout (4), lifetime (4), traffic class mask (1), length (1) and octets
//! of its name; then, of what is there: source and destination (1 + 16 each), protocol (1), source and destination ports (2 + 2
//! each), traffic class (1), flow label (4), address of a MAAR (16), length and octets of a meter's name, seconds after which
//! its flows have an anchor relocated (4).
//!
//! Sub-Type 4, Kind 2, the meter that the rule before it names; Prefix Length, ids and prefix are not there: flags (1), DSCP of
//! yellow packets (1), length and octets of its name, committed rate and burst, second rate and burst (4 * 8); where a flag says
//! so, the octets in both buckets, neither above its burst (2 * 8).

use ipnet::Ipv6Net;
use kedge_config::{AppliesTo, FilterAction, FilterRule, FlowDirection, Meter, Ports};

use super::vendor::{Malformed, VENDOR};
use super::{Context, ContextTransfer, TransferredMeter};
use crate::charging::{Colours, Count, Fill};

/// Sub-type of what was counted.
pub(super) const USAGE: u8 = 3;
/// Sub-type of a filter and of its meter.
pub(super) const FILTER: u8 = 4;
/// Version of the layout behind both.
pub(super) const VERSION: u8 = 0;

const KIND: u8 = 1;
const KIND_METER: u8 = 2;
const KIND_COLOURED: u8 = 2;

/// By their numbers on the wire.
const ACTIONS: [FilterAction; 7] = [
    FilterAction::Anchor,
    FilterAction::Tunnel,
    FilterAction::LocalBreakout,
    FilterAction::Drop,
    FilterAction::Meter,
    FilterAction::NodeMeter,
    FilterAction::NoMobility,
];

fn number(action: FilterAction) -> u8 {
    match action {
        // A hold stays where it is, and is not sent: see `Maar::hand_over_filters`.
        FilterAction::Anchor | FilterAction::Hold => 0,
        FilterAction::Tunnel => 1,
        FilterAction::LocalBreakout => 2,
        FilterAction::Drop => 3,
        FilterAction::Meter => 4,
        FilterAction::NodeMeter => 5,
        FilterAction::NoMobility => 6,
    }
}

// Which parts of a filter rule are there.
const SOURCE: u16 = 1;
const DESTINATION: u16 = 2;
const PROTOCOL: u16 = 4;
const SOURCE_PORTS: u16 = 8;
const DESTINATION_PORTS: u16 = 16;
const TRAFFIC_CLASS: u16 = 32;
const FLOW_LABEL: u16 = 64;
const MAAR: u16 = 128;
const METER: u16 = 256;
const RELOCATE_AFTER: u16 = 512;

// Flags of a meter.
const COLOUR_AWARE: u8 = 1;
const MARKS_YELLOW: u8 = 2;
const EXCESS: u8 = 4;
const FILLED: u8 = 8;

/// What such an option says.
pub(super) enum Parsed {
    Transfer(Box<ContextTransfer>),
    Meter(TransferredMeter),
}

/// Reads what is behind sub-type and version.
pub(super) fn parse(sub_type: u8, data: &[u8], length: u64) -> Result<Parsed, Malformed> {
    let mut reader = Reader { data, length };
    let kind = reader.octet()?;
    if (sub_type, kind) == (FILTER, KIND_METER) {
        let meter = meter(&mut reader)?;
        return reader.end(Parsed::Meter(meter));
    }
    let coloured = (sub_type, kind) == (USAGE, KIND_COLOURED);
    if kind != KIND && !coloured {
        return Err(invalid("kind of context", kind));
    }
    let prefix_length = reader.octet()?;
    let (id, oldest) = (reader.number()?, reader.number()?);
    let prefix = reader.prefix(prefix_length)?;
    let context = if sub_type == USAGE {
        let count = Count::from(reader.six()?);
        let colours = match coloured {
            true => Colours::from(reader.six()?),
            false => Colours::default(),
        };
        let filter = reader.text()?;
        if coloured && filter.is_empty() {
            return Err(invalid("colours of a whole prefix", kind));
        }
        Context::Usage {
            filter: (!filter.is_empty()).then_some(filter),
            count: Count { colours, ..count },
        }
    } else {
        Context::Filter(Box::new(rule(&mut reader)?))
    };
    reader.end(Parsed::Transfer(Box::new(ContextTransfer {
        id,
        oldest,
        prefix,
        context,
    })))
}

/// The data of the option.
pub(super) fn data(transfer: &ContextTransfer) -> Vec<u8> {
    let sub_type = match transfer.context {
        Context::Usage { .. } => USAGE,
        Context::Filter(_) => FILTER,
    };
    let coloured = match &transfer.context {
        Context::Usage {
            filter: Some(_),
            count,
        } => count.colours != Colours::default(),
        _ => false,
    };
    let mut octets = header(sub_type, if coloured { KIND_COLOURED } else { KIND });
    octets.push(transfer.prefix.prefix_len());
    octets.extend(transfer.id.to_be_bytes());
    octets.extend(transfer.oldest.to_be_bytes());
    octets.extend(transfer.prefix.network().octets());
    match &transfer.context {
        Context::Usage { filter, count } => {
            let colours = coloured.then(|| count.colours.numbers());
            let numbers = <[u64; 6]>::from(*count).into_iter();
            for number in numbers.chain(colours.into_iter().flatten()) {
                octets.extend(number.to_be_bytes());
            }
            text(&mut octets, filter.as_deref().unwrap_or_default());
        }
        Context::Filter(rule) => rule_data(&mut octets, rule),
    }
    octets
}

/// The data of the option with a meter.
pub(super) fn meter_data(TransferredMeter { meter, fill }: &TransferredMeter) -> Vec<u8> {
    let mut octets = header(FILTER, KIND_METER);
    let (excess, rate, burst) = match (meter.pir_bits_per_second, meter.pbs_bytes) {
        (Some(rate), Some(burst)) => (0, rate, burst),
        _ => (
            EXCESS,
            meter.eir_bits_per_second.unwrap_or(0),
            meter.ebs_bytes.unwrap_or(0),
        ),
    };
    let aware = if meter.colour_aware { COLOUR_AWARE } else { 0 };
    let marks = meter.yellow_dscp.map_or(0, |_| MARKS_YELLOW);
    let filled = fill.map_or(0, |_| FILLED);
    octets.extend([excess | aware | marks | filled, meter.yellow_dscp.unwrap_or(0)]);
    text(&mut octets, &meter.name);
    let rates = [meter.cir_bits_per_second, meter.cbs_bytes, rate, burst];
    let fill = fill.map(|it| [it.committed, it.other]);
    for number in rates.into_iter().chain(fill.into_iter().flatten()) {
        octets.extend(number.to_be_bytes());
    }
    octets
}

fn header(sub_type: u8, kind: u8) -> Vec<u8> {
    let rest = [sub_type, VERSION, kind];
    VENDOR.to_be_bytes().into_iter().chain(rest).collect()
}

/// One that is too long makes the option too long to be sent.
fn text(octets: &mut Vec<u8>, text: &str) {
    octets.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
    octets.extend(text.as_bytes());
}

fn meter(reader: &mut Reader<'_>) -> Result<TransferredMeter, Malformed> {
    let [flags, yellow] = reader.take()?;
    let name = reader.text()?;
    let [cir, cbs, rate, burst] = [
        reader.number()?,
        reader.number()?,
        reader.number()?,
        reader.number()?,
    ];
    let fill = match flags & FILLED {
        0 => None,
        _ => Some(Fill {
            committed: reader.number()?,
            other: reader.number()?,
        }),
    };
    let above = |octets: Option<u64>, burst: u64| octets.filter(|octets| *octets > burst);
    if let Some(octets) = above(fill.map(|it| it.committed), cbs).or(above(fill.map(|it| it.other), burst)) {
        return Err(invalid("octets in a bucket above its burst", octets));
    }
    let peak = flags & EXCESS == 0;
    let meter = Meter {
        name,
        cir_bits_per_second: cir,
        cbs_bytes: cbs,
        pir_bits_per_second: peak.then_some(rate),
        pbs_bytes: peak.then_some(burst),
        eir_bits_per_second: (!peak).then_some(rate),
        ebs_bytes: (!peak).then_some(burst),
        colour_aware: flags & COLOUR_AWARE != 0,
        yellow_dscp: (flags & MARKS_YELLOW != 0).then_some(yellow),
    };
    Ok(TransferredMeter { meter, fill })
}

fn rule(reader: &mut Reader<'_>) -> Result<FilterRule, Malformed> {
    let priority = u16::from_be_bytes(reader.take()?);
    let [number, direction] = reader.take()?;
    let action = ACTIONS.get(usize::from(number)).copied();
    let action = action.ok_or_else(|| invalid("action of a filter", number))?;
    let direction = match direction {
        0 => None,
        1 => Some(FlowDirection::FromNode),
        2 => Some(FlowDirection::ToNode),
        other => return Err(invalid("direction of a filter", other)),
    };
    let there = u16::from_be_bytes(reader.take()?);
    let idle_timeout = u32::from_be_bytes(reader.take()?);
    let lifetime = u32::from_be_bytes(reader.take()?);
    let traffic_class_mask = reader.octet()?;
    let name = reader.text()?;
    let has = |part: u16| there & part != 0;
    let mut net = |part| -> Result<Option<Ipv6Net>, Malformed> {
        if !has(part) {
            return Ok(None);
        }
        let length = reader.octet()?;
        reader.prefix(length).map(Some)
    };
    let (source, destination) = (net(SOURCE)?, net(DESTINATION)?);
    let protocol = has(PROTOCOL).then(|| reader.octet()).transpose()?;
    let source_ports = has(SOURCE_PORTS).then(|| reader.ports()).transpose()?;
    let destination_ports = has(DESTINATION_PORTS).then(|| reader.ports()).transpose()?;
    let traffic_class = has(TRAFFIC_CLASS).then(|| reader.octet()).transpose()?;
    let flow_label = has(FLOW_LABEL).then(|| reader.flow_label()).transpose()?;
    let maar = has(MAAR).then(|| reader.take::<16>()).transpose()?;
    let meter = has(METER).then(|| reader.text()).transpose()?;
    let relocate_after = has(RELOCATE_AFTER).then(|| reader.take::<4>()).transpose()?;
    Ok(FilterRule {
        name,
        applies_to: AppliesTo::EveryNode,
        node: None,
        priority,
        direction,
        source,
        destination,
        protocol,
        source_ports,
        destination_ports,
        traffic_class,
        traffic_class_mask,
        flow_label,
        action,
        maar: maar.map(Into::into),
        meter,
        idle_timeout,
        lifetime,
        relocate_after_s: relocate_after.map(u32::from_be_bytes),
    })
}

fn rule_data(octets: &mut Vec<u8>, rule: &FilterRule) {
    octets.extend(rule.priority.to_be_bytes());
    octets.push(number(rule.action));
    octets.push(match rule.direction {
        None => 0,
        Some(FlowDirection::FromNode) => 1,
        Some(FlowDirection::ToNode) => 2,
    });
    let parts = [
        (SOURCE, rule.source.is_some()),
        (DESTINATION, rule.destination.is_some()),
        (PROTOCOL, rule.protocol.is_some()),
        (SOURCE_PORTS, rule.source_ports.is_some()),
        (DESTINATION_PORTS, rule.destination_ports.is_some()),
        (TRAFFIC_CLASS, rule.traffic_class.is_some()),
        (FLOW_LABEL, rule.flow_label.is_some()),
        (MAAR, rule.maar.is_some()),
        (METER, rule.meter.is_some()),
        (RELOCATE_AFTER, rule.relocate_after_s.is_some()),
    ];
    let there = parts.iter().filter(|(_, there)| *there);
    let there = there.fold(0_u16, |sum, (part, _)| sum | part);
    octets.extend(there.to_be_bytes());
    octets.extend(rule.idle_timeout.to_be_bytes());
    octets.extend(rule.lifetime.to_be_bytes());
    octets.push(rule.traffic_class_mask);
    text(octets, &rule.name);
    for prefix in [rule.source, rule.destination].into_iter().flatten() {
        octets.push(prefix.prefix_len());
        octets.extend(prefix.network().octets());
    }
    octets.extend(rule.protocol);
    for ports in [rule.source_ports, rule.destination_ports].into_iter().flatten() {
        octets.extend(ports.first.to_be_bytes());
        octets.extend(ports.last.to_be_bytes());
    }
    octets.extend(rule.traffic_class);
    octets.extend(rule.flow_label.map(u32::to_be_bytes).into_iter().flatten());
    octets.extend(rule.maar.map(|it| it.octets()).into_iter().flatten());
    if let Some(meter) = &rule.meter {
        text(octets, meter);
    }
    let relocate_after = rule.relocate_after_s.map(u32::to_be_bytes);
    octets.extend(relocate_after.into_iter().flatten());
}

fn invalid(what: &'static str, value: impl Into<u64>) -> Malformed {
    let value = value.into();
    Malformed { what, value }
}

/// What is not read yet.
struct Reader<'a> {
    data: &'a [u8],
    /// Of the whole option.
    length: u64,
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let split = self.data.split_first_chunk::<N>();
        let (taken, rest) = split.ok_or(Malformed::length(self.length))?;
        self.data = rest;
        Ok(*taken)
    }

    fn octet(&mut self) -> Result<u8, Malformed> {
        self.take::<1>().map(|[octet]| octet)
    }

    fn number(&mut self) -> Result<u64, Malformed> {
        self.take().map(u64::from_be_bytes)
    }

    fn six(&mut self) -> Result<[u64; 6], Malformed> {
        let mut numbers = [0; 6];
        for number in &mut numbers {
            *number = self.number()?;
        }
        Ok(numbers)
    }

    fn prefix(&mut self, length: u8) -> Result<Ipv6Net, Malformed> {
        let octets: [u8; 16] = self.take()?;
        let prefix = Ipv6Net::new(octets.into(), length);
        let prefix = prefix.map_err(|_| invalid("prefix length", length))?;
        if prefix.network() == prefix.addr() {
            Ok(prefix)
        } else {
            Err(invalid("set bits behind prefix length", length))
        }
    }

    fn ports(&mut self) -> Result<Ports, Malformed> {
        let [first, last] = [u16::from_be_bytes(self.take()?), u16::from_be_bytes(self.take()?)];
        if first <= last {
            Ok(Ports { first, last })
        } else {
            Err(invalid("last port before the first", last))
        }
    }

    fn flow_label(&mut self) -> Result<u32, Malformed> {
        let label = u32::from_be_bytes(self.take()?);
        if label <= 0x000f_ffff {
            Ok(label)
        } else {
            Err(invalid("flow label", label))
        }
    }

    /// Names have 63 octets at most, of which the receiver knows more.
    fn text(&mut self) -> Result<String, Malformed> {
        let length = self.octet()?;
        let split = self.data.split_at_checked(usize::from(length));
        let (text, rest) = split.ok_or(Malformed::length(self.length))?;
        self.data = rest;
        let text = std::str::from_utf8(text).map_err(|_| invalid("name of octets", length))?;
        Ok(text.to_owned())
    }

    fn end<T>(self, value: T) -> Result<T, Malformed> {
        if self.data.is_empty() {
            Ok(value)
        } else {
            Err(Malformed::length(self.length))
        }
    }
}
