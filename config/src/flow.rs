//! `[[filter]]` and `[[meter]]`: what is done with the flows of nodes.

use std::net::Ipv6Addr;
use std::ops::RangeInclusive;

use ipnet::Ipv6Net;
use serde::{Deserialize, Deserializer, Serialize};

use crate::model::some_prefix;
use crate::validate::{Findings, is_name};
use crate::{ConfigError, shown};

/// `[[filter]]`: a flow, and what is done with it (RFC 8818 FM:3). Of several that match, the one with the
/// lowest priority number counts; of those with the same, one of a node's before one of the domain's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilterRule {
    /// 1..=63 of `a-z A-Z 0-9 - _`; distinct.
    pub name: String,
    /// Whose packets it is asked about. Default `every-node`.
    #[serde(default)]
    pub applies_to: AppliesTo,
    /// With `applies_to = "every-node"`: that of this node alone, such as `mn1@example.net`.
    #[serde(default)]
    pub node: Option<String>,
    /// 1..=65535; the lowest number comes first. Default 1000.
    #[serde(default = "default_priority")]
    pub priority: u16,
    /// Which way its packets go; absent = both.
    #[serde(default)]
    pub direction: Option<FlowDirection>,
    /// A prefix of the source, of IPv6 or IPv4; absent = any.
    #[serde(default, deserialize_with = "some_prefix")]
    pub source: Option<Ipv6Net>,
    /// A prefix of the destination; absent = any.
    #[serde(default, deserialize_with = "some_prefix")]
    pub destination: Option<Ipv6Net>,
    /// `"tcp"`, `"udp"`, `"icmpv6"`, `"sctp"`, `"dccp"`, `"udplite"` or a number 0..=255; absent = any.
    #[serde(default, deserialize_with = "protocol")]
    pub protocol: Option<u8>,
    /// A port or a range such as `"6000-6010"`; absent = any.
    #[serde(default, deserialize_with = "ports")]
    pub source_ports: Option<Ports>,
    /// As `source_ports`.
    #[serde(default, deserialize_with = "ports")]
    pub destination_ports: Option<Ports>,
    /// 0..=255; absent = any.
    #[serde(default)]
    pub traffic_class: Option<u8>,
    /// Which bits of `traffic_class` count. Default 255; 252 is the DSCP.
    #[serde(default = "default_mask")]
    pub traffic_class_mask: u8,
    /// 0..=1048575; absent = any.
    #[serde(default)]
    pub flow_label: Option<u32>,
    /// What is done.
    pub action: FilterAction,
    /// With `action = "tunnel"`: the MAAR that it leads to.
    #[serde(default)]
    pub maar: Option<Ipv6Addr>,
    /// With `action = "meter"` and `"node-meter"`: the name of a `[[meter]]`.
    #[serde(default)]
    pub meter: Option<String>,
    /// Seconds without a packet after which it is forgotten; 0 = never. Only of filters that an operator adds.
    #[serde(default)]
    pub idle_timeout: u32,
    /// Seconds after which it is forgotten; 0 = never. Only of filters that an operator adds.
    #[serde(default)]
    pub lifetime: u32,
    /// With `action = "anchor"`: once such a flow of a prefix that is anchored elsewhere has lasted for so many seconds
    /// at the MAAR that serves its node, that MAAR asks the CMD to have it anchored there, 0..=31536000; it is looked at
    /// every few seconds, and a flow of which nothing was seen for 15 s has ended. Absent: however long.
    #[serde(default)]
    pub relocate_after_s: Option<u32>,
}

/// `filter.applies_to`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AppliesTo {
    /// To every prefix of each node here, or anchored here.
    #[default]
    EveryNode,
    /// To every packet that passes through.
    Domain,
}

/// `filter.direction`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FlowDirection {
    /// Uplink.
    FromNode,
    /// Downlink.
    ToNode,
}

/// `filter.action`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FilterAction {
    /// As without a filter: the flow stays with its anchor, whatever filters come after this one.
    Anchor,
    /// Into the tunnel to `maar`, while there is one.
    Tunnel,
    /// By its destination from here, though its anchor is elsewhere (SIPTO, LIPA).
    LocalBreakout,
    /// Nowhere.
    Drop,
    /// It waits at the data plane, in the bounds of `[dataplane.hold]`, until the filter is replaced or deleted, or until
    /// `lifetime`, 1..=600, has passed: then it is dropped. Of nodes, and only of filters that an operator adds.
    Hold,
    /// As without a filter, but not by a tunnel: the flow ends when its node moves on from the anchor of its prefix.
    NoMobility,
    /// By a meter of its own, for each node; of the domain, by one.
    Meter,
    /// By the node's meter, together with all others that such a filter of this name applies to.
    NodeMeter,
}

impl FilterAction {
    /// As in the file.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Anchor => "anchor",
            Self::Tunnel => "tunnel",
            Self::LocalBreakout => "local-breakout",
            Self::Drop => "drop",
            Self::Hold => "hold",
            Self::NoMobility => "no-mobility",
            Self::Meter => "meter",
            Self::NodeMeter => "node-meter",
        }
    }
}

/// Ports, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// The lowest.
    pub first: u16,
    /// The highest.
    pub last: u16,
}

/// `[[meter]]`: rates, and what is done above them. Each flow or node that is metered has one of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Meter {
    /// 1..=63 of `a-z A-Z 0-9 - _`; distinct.
    pub name: String,
    /// Committed information rate, bits per second, 0..=8000000000000.
    pub cir_bits_per_second: u64,
    /// Committed burst size, octets, 1280..=1099511627776.
    pub cbs_bytes: u64,
    /// Peak information rate (RFC 2698), not below the committed one; or
    pub pir_bits_per_second: Option<u64>,
    /// peak burst size,
    pub pbs_bytes: Option<u64>,
    /// excess information rate (RFC 4115),
    pub eir_bits_per_second: Option<u64>,
    /// excess burst size.
    pub ebs_bytes: Option<u64>,
    /// Whether packets come coloured, by the drop precedence of their DSCP (RFC 2597). Default false.
    #[serde(default)]
    pub colour_aware: bool,
    /// DSCP that yellow packets get, 0..=63; absent = they pass as they are. Red ones are dropped.
    pub yellow_dscp: Option<u8>,
}

/// The second rate of a meter, in octets per second, with its burst in octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecondRate {
    /// RFC 2698.
    Peak(u64, u64),
    /// RFC 4115.
    Excess(u64, u64),
}

impl Meter {
    /// The committed rate, octets per second.
    #[must_use]
    pub fn committed(&self) -> u64 {
        self.cir_bits_per_second / 8
    }

    /// `None` where the file says neither or both; such a file is refused.
    #[must_use]
    pub fn second_rate(&self) -> Option<SecondRate> {
        match (
            (self.pir_bits_per_second, self.pbs_bytes),
            (self.eir_bits_per_second, self.ebs_bytes),
        ) {
            ((Some(rate), Some(burst)), (None, None)) => Some(SecondRate::Peak(rate / 8, burst)),
            ((None, None), (Some(rate), Some(burst))) => Some(SecondRate::Excess(rate / 8, burst)),
            _ => None,
        }
    }

    /// Whether a running gateway can have it.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn check_alone(&self) -> Result<(), ConfigError> {
        let mut findings = Findings::default();
        self.check("meter", &mut findings);
        findings.first().map_or(Ok(()), Err)
    }

    pub(crate) fn check(&self, key: &str, findings: &mut Findings) {
        const RATES: RangeInclusive<u64> = 0..=8_000_000_000_000;
        const BURSTS: RangeInclusive<u64> = 1280..=1 << 40;
        name(&format!("{key}.name"), &self.name, findings);
        let mut range = |of: &str, value: Option<u64>, range: RangeInclusive<u64>, unit| {
            if let Some(value) = value {
                findings.range(&format!("{key}.{of}"), value, *range.start(), *range.end(), unit);
            }
        };
        range(
            "cir_bits_per_second",
            Some(self.cir_bits_per_second),
            RATES,
            "bits per second",
        );
        range(
            "pir_bits_per_second",
            self.pir_bits_per_second,
            RATES,
            "bits per second",
        );
        range(
            "eir_bits_per_second",
            self.eir_bits_per_second,
            RATES,
            "bits per second",
        );
        range("cbs_bytes", Some(self.cbs_bytes), BURSTS, "octets");
        range("pbs_bytes", self.pbs_bytes, BURSTS, "octets");
        range("ebs_bytes", self.ebs_bytes, BURSTS, "octets");
        range("yellow_dscp", self.yellow_dscp.map(u64::from), 0..=63, "");
        match self.second_rate() {
            None => findings.add(
                key,
                &self.name,
                "needs either pir_bits_per_second and pbs_bytes (RFC 2698) or eir_bits_per_second and ebs_bytes \
                 (RFC 4115)",
            ),
            Some(SecondRate::Peak(rate, _)) if rate < self.committed() => findings.add(
                format!("{key}.pir_bits_per_second"),
                self.pir_bits_per_second.unwrap_or(0),
                "must be at least cir_bits_per_second",
            ),
            Some(_) => {}
        }
    }
}

impl FilterRule {
    /// Whether a filter can be added to a running gateway with these meters.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn check_alone(&self, meters: &[Meter]) -> Result<(), ConfigError> {
        let mut findings = Findings::default();
        self.check("filter", meters, &mut findings);
        findings.first().map_or(Ok(()), Err)
    }

    pub(crate) fn check(&self, key: &str, meters: &[Meter], findings: &mut Findings) {
        let at = |of: &str| format!("{key}.{of}");
        name(&at("name"), &self.name, findings);
        findings.range(&at("priority"), self.priority, 1, u16::MAX, "");
        for (of, prefix) in [("source", self.source), ("destination", self.destination)] {
            if let Some(prefix) = prefix.filter(|prefix| prefix.trunc() != *prefix) {
                findings.add(at(of), shown(prefix), "has bits set behind its length");
            }
        }
        if let Some(node) = &self.node {
            if self.applies_to == AppliesTo::Domain {
                findings.add(
                    at("node"),
                    node,
                    "is not of a filter with applies_to = \"domain\"",
                );
            }
            if node.is_empty() {
                findings.add(at("node"), "\"\"", "is no node's identifier");
            }
        }
        for (of, range) in [
            ("source_ports", self.source_ports),
            ("destination_ports", self.destination_ports),
        ] {
            if let (Some(range), Some(protocol)) = (range, self.protocol)
                && !matches!(protocol, 6 | 17 | 33 | 132 | 136)
            {
                let value = format!("{}-{}", range.first, range.last);
                findings.add(at(of), value, format!("protocol {protocol} has no ports"));
            }
        }
        if let Some(class) = self.traffic_class
            && class & !self.traffic_class_mask != 0
        {
            findings.add(
                at("traffic_class"),
                class,
                "has bits that traffic_class_mask has not",
            );
        }
        if let Some(label) = self.flow_label {
            findings.range(&at("flow_label"), label, 0, 0x000f_ffff, "");
        }
        self.check_action(key, meters, findings);
    }

    fn check_action(&self, key: &str, meters: &[Meter], findings: &mut Findings) {
        let at = |of: &str| format!("{key}.{of}");
        let action = self.action.name();
        match (self.action == FilterAction::Tunnel, self.maar) {
            (true, None) => findings.add(at("maar"), "", "a filter with action = \"tunnel\" needs a MAAR"),
            (false, Some(maar)) => {
                findings.add(
                    at("maar"),
                    maar,
                    format!("is not of a filter with action = {action:?}"),
                );
            }
            _ => {}
        }
        if let Some(seconds) = self.relocate_after_s {
            findings.range(&at("relocate_after_s"), seconds, 0, 31_536_000, "seconds");
            if self.action != FilterAction::Anchor || self.applies_to == AppliesTo::Domain {
                let reason = "goes with action = \"anchor\", of nodes and not of the domain";
                findings.add(at("relocate_after_s"), seconds, reason);
            }
        }
        let metered = matches!(self.action, FilterAction::Meter | FilterAction::NodeMeter);
        match (metered, &self.meter) {
            (true, None) => {
                findings.add(
                    at("meter"),
                    "",
                    format!("a filter with action = {action:?} needs a meter"),
                );
            }
            (true, Some(meter)) if !meters.iter().any(|it| it.name == *meter) => {
                findings.add(
                    at("meter"),
                    format!("{meter:?}"),
                    "there is no meter of this name",
                );
            }
            (false, Some(meter)) => {
                let value = format!("{meter:?}");
                findings.add(
                    at("meter"),
                    value,
                    format!("is not of a filter with action = {action:?}"),
                );
            }
            _ => {}
        }
        if self.action == FilterAction::Hold && !(1..=600).contains(&self.lifetime) {
            let reason = "a filter with action = \"hold\" needs 1 to 600 seconds";
            findings.add(at("lifetime"), self.lifetime, reason);
        }
        let of_nodes = matches!(
            self.action,
            FilterAction::NodeMeter | FilterAction::NoMobility | FilterAction::Hold
        );
        if of_nodes && self.applies_to == AppliesTo::Domain {
            findings.add(at("action"), action, "is of nodes, not of the domain");
        }
        if self.action == FilterAction::LocalBreakout && self.direction == Some(FlowDirection::ToNode) {
            findings.add(
                at("direction"),
                "to-node",
                "only what comes from a node can break out",
            );
        }
    }
}

/// What a file says of flows.
pub(crate) fn check(rules: &[FilterRule], meters: &[Meter], maar: bool, findings: &mut Findings) {
    let none = rules.is_empty() && meters.is_empty();
    if !(maar || none) {
        findings.add("filter", "", "filters and meters are of node.role = \"maar\"");
    }
    for (index, meter) in meters.iter().enumerate() {
        let key = format!("meter[{index}]");
        meter.check(&key, findings);
        if meters.iter().take(index).any(|other| other.name == meter.name) {
            findings.add(
                format!("{key}.name"),
                format!("{:?}", meter.name),
                "another meter has this name",
            );
        }
    }
    for (index, rule) in rules.iter().enumerate() {
        let key = format!("filter[{index}]");
        rule.check(&key, meters, findings);
        if rules.iter().take(index).any(|other| other.name == rule.name) {
            findings.add(
                format!("{key}.name"),
                format!("{:?}", rule.name),
                "another filter has this name",
            );
        }
        for (of, time) in [("idle_timeout", rule.idle_timeout), ("lifetime", rule.lifetime)] {
            if time > 0 {
                let reason = "only a filter that an operator adds can end by itself";
                findings.add(format!("{key}.{of}"), time, reason);
            }
        }
        if rule.action == FilterAction::Hold {
            let reason = "is of a filter that an operator adds, for a while: kedge filter add";
            findings.add(format!("{key}.action"), rule.action.name(), reason);
        }
    }
}

fn name(key: &str, name: &str, findings: &mut Findings) {
    if !is_name(name, 63) {
        let reason = "must be 1 to 63 letters, digits, - or _";
        findings.add(key, format!("{name:?}"), reason);
    }
}

fn default_priority() -> u16 {
    1000
}

fn default_mask() -> u8 {
    255
}

/// The number of a protocol that is named or numbered.
///
/// # Errors
/// It is neither.
pub fn protocol_number(text: &str) -> Result<u8, String> {
    match text {
        "tcp" => Ok(6),
        "udp" => Ok(17),
        "dccp" => Ok(33),
        "icmpv6" => Ok(58),
        "sctp" => Ok(132),
        "udplite" => Ok(136),
        _ => text.parse().map_err(|_| {
            format!("{text:?} is no protocol: tcp, udp, icmpv6, sctp, dccp, udplite or 0 to 255")
        }),
    }
}

impl std::str::FromStr for Ports {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (first.parse(), last.parse()) {
            (Ok(first), Ok(last)) if first <= last => Ok(Self { first, last }),
            _ => Err(format!(
                "{text:?} is no port and no range of ports such as 6000-6010"
            )),
        }
    }
}

impl std::fmt::Display for Ports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.first == self.last {
            return write!(f, "{}", self.first);
        }
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl Serialize for Ports {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A number, or a text that means one.
#[derive(Deserialize)]
#[serde(untagged)]
enum Either {
    Number(u16),
    Text(String),
}

impl Either {
    fn text(self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text,
        }
    }
}

fn protocol<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u8>, D::Error> {
    let given = Option::<Either>::deserialize(deserializer)?;
    given
        .map(|it| protocol_number(&it.text()).map_err(serde::de::Error::custom))
        .transpose()
}

fn ports<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Ports>, D::Error> {
    let given = Option::<Either>::deserialize(deserializer)?;
    given
        .map(|it| it.text().parse().map_err(serde::de::Error::custom))
        .transpose()
}
