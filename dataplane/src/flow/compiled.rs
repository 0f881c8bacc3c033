//! A filter as a worker reads it: one cache line.

use kedge_dataplane_api::model::{Direction, Filter, FilterAction, Selector};

use super::fields::Fields;

/// Words of a filter.
pub(super) const LINE: usize = 8;

/// A filter's action, with what it names by index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Act {
    /// As without a filter.
    #[default]
    Anchor,
    /// Into this tunnel.
    Tunnel(u32),
    /// By the destination.
    LocalBreakout,
    /// Nowhere.
    Drop,
    /// By this meter.
    Meter(u32),
    /// By this meter, as all of the node's.
    NodeMeter(u32),
    /// Nowhere yet.
    Hold,
    /// Nowhere, since it was held for too long.
    HoldExpired,
}

/// Kinds of filters: of each, one counts for a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(super) enum Kind {
    Way,
    Meter,
    NodeMeter,
}

/// How many kinds there are.
pub(super) const KINDS: usize = 3;

impl Act {
    #[inline]
    pub(super) fn kind(self) -> Kind {
        match self {
            Self::Meter(_) => Kind::Meter,
            Self::NodeMeter(_) => Kind::NodeMeter,
            _ => Kind::Way,
        }
    }

    fn pack(self) -> (u8, u32) {
        match self {
            Self::Anchor => (0, 0),
            Self::Tunnel(index) => (1, index),
            Self::LocalBreakout => (2, 0),
            Self::Drop => (3, 0),
            Self::Meter(index) => (4, index),
            Self::NodeMeter(index) => (5, index),
            Self::Hold => (6, 0),
            Self::HoldExpired => (7, 0),
        }
    }

    #[inline]
    fn unpack(code: u8, index: u32) -> Self {
        match code {
            1 => Self::Tunnel(index),
            2 => Self::LocalBreakout,
            3 => Self::Drop,
            4 => Self::Meter(index),
            5 => Self::NodeMeter(index),
            6 => Self::Hold,
            7 => Self::HoldExpired,
            _ => Self::Anchor,
        }
    }
}

const PROTOCOL: u8 = 1;
const PORTS: u8 = 2;
const FLOW_LABEL: u8 = 4;
const FROM_NODE: u8 = 8;
const TO_NODE: u8 = 16;

/// A filter, compiled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compiled {
    source: u128,
    destination: u128,
    source_length: u8,
    destination_length: u8,
    protocol: u8,
    /// What is looked at, and in which directions.
    flags: u8,
    traffic_class: u8,
    traffic_class_mask: u8,
    source_ports: (u16, u16),
    destination_ports: (u16, u16),
    pub(super) flow_label: u32,
    /// The lowest comes first.
    pub priority: u16,
    /// Length of the prefix that it is of.
    pub scope: u8,
    /// What is done.
    pub act: Act,
    /// Index of its counters.
    pub counter: u32,
    /// Index of a tunnel whose packets are none of its, to the node or from it; 0: there is none.
    pub(super) except: u32,
}

/// Bits of a tunnel's index here: more than there is memory for tunnels.
const EXCEPT_BITS: u32 = 28;

impl Compiled {
    /// `act` is the filter's action with indexes for ids, `except` the index of its `except_tunnel`, or 0.
    #[must_use]
    pub fn new(filter: &Filter, act: Act, counter: u32, except: u32) -> Self {
        let Selector {
            direction,
            source,
            destination,
            protocol,
            source_ports,
            destination_ports,
            traffic_class,
            flow_label,
        } = &filter.selector;
        let range = |range: &Option<kedge_dataplane_api::model::PortRange>| {
            range.map_or((0, u16::MAX), |it| (it.first, it.last))
        };
        let flag = |is: bool, flag: u8| if is { flag } else { 0 };
        Self {
            source: source.network().into(),
            destination: destination.network().into(),
            source_length: source.prefix_len(),
            destination_length: destination.prefix_len(),
            protocol: protocol.unwrap_or(0),
            flags: flag(protocol.is_some(), PROTOCOL)
                | flag(source_ports.is_some() || destination_ports.is_some(), PORTS)
                | flag(flow_label.is_some(), FLOW_LABEL)
                | flag(*direction != Some(Direction::ToNode), FROM_NODE)
                | flag(*direction != Some(Direction::FromNode), TO_NODE),
            traffic_class: traffic_class.value,
            traffic_class_mask: traffic_class.mask,
            source_ports: range(source_ports),
            destination_ports: range(destination_ports),
            flow_label: flow_label.unwrap_or(0),
            priority: filter.priority,
            scope: filter.scope.map_or(0, |scope| scope.prefix_len()),
            act,
            counter,
            except,
        }
    }

    /// Whether a packet that goes this way has what it asks for.
    #[inline]
    #[must_use]
    pub fn matches(&self, fields: &Fields, direction: Direction) -> bool {
        let way = match direction {
            Direction::FromNode => FROM_NODE,
            Direction::ToNode => TO_NODE,
        };
        let within = |net: u128, length: u8, address: u128| {
            length == 0 || (net ^ address) >> (128 - u32::from(length.min(128))) == 0
        };
        if self.flags & way == 0
            || !within(self.source, self.source_length, fields.source)
            || !within(self.destination, self.destination_length, fields.destination)
            || (self.traffic_class ^ fields.traffic_class) & self.traffic_class_mask != 0
            || self.flags & FLOW_LABEL != 0 && self.flow_label != fields.flow_label
            || self.flags & PROTOCOL != 0 && fields.protocol != Some(self.protocol)
        {
            return false;
        }
        let inside = |range: (u16, u16), port: u16| range.0 <= port && port <= range.1;
        self.flags & PORTS == 0
            || fields.ports.is_some_and(|(source, destination)| {
                inside(self.source_ports, source) && inside(self.destination_ports, destination)
            })
    }

    /// Whether it is asked about packets that come out of, or go into, the tunnel with this index; 0: by none.
    #[inline]
    #[must_use]
    pub fn is_asked_by(&self, tunnel: u32) -> bool {
        self.except == 0 || self.except != tunnel
    }

    /// Whether it sends packets to a node into this tunnel.
    #[must_use]
    pub fn sends_to_node_by(&self, tunnel: u32) -> bool {
        self.flags & TO_NODE != 0 && self.act == Act::Tunnel(tunnel)
    }

    /// Whether it asks for a direction.
    #[inline]
    pub(super) fn has_direction(&self) -> bool {
        self.flags & (FROM_NODE | TO_NODE) != FROM_NODE | TO_NODE
    }

    pub(super) fn pack(&self) -> [u64; LINE] {
        let (code, index) = self.act.pack();
        let pair = |(first, last): (u16, u16)| u32::from(first) << 16 | u32::from(last);
        [
            (self.source >> 64) as u64,
            self.source as u64,
            (self.destination >> 64) as u64,
            self.destination as u64,
            u64::from_be_bytes([
                self.source_length,
                self.destination_length,
                self.protocol,
                self.flags,
                self.traffic_class,
                self.traffic_class_mask,
                code,
                self.scope,
            ]),
            u64::from(pair(self.source_ports)) << 32 | u64::from(pair(self.destination_ports)),
            u64::from(self.except) << (64 - EXCEPT_BITS)
                | u64::from(self.flow_label) << 16
                | u64::from(self.priority),
            u64::from(index) << 32 | u64::from(self.counter),
        ]
    }

    #[inline]
    pub(super) fn unpack(words: [u64; LINE]) -> Self {
        let [s0, s1, d0, d1, small, ports, label, numbers] = words;
        let [
            source_length,
            destination_length,
            protocol,
            flags,
            traffic_class,
            mask,
            code,
            scope,
        ] = small.to_be_bytes();
        let pair = |word: u32| ((word >> 16) as u16, word as u16);
        Self {
            source: u128::from(s0) << 64 | u128::from(s1),
            destination: u128::from(d0) << 64 | u128::from(d1),
            source_length,
            destination_length,
            protocol,
            flags,
            traffic_class,
            traffic_class_mask: mask,
            source_ports: pair((ports >> 32) as u32),
            destination_ports: pair(ports as u32),
            flow_label: (label >> 16) as u32 & 0xf_ffff,
            priority: label as u16,
            except: (label >> (64 - EXCEPT_BITS)) as u32,
            scope,
            act: Act::unpack(code, (numbers >> 32) as u32),
            counter: numbers as u32,
        }
    }
}

impl From<FilterAction> for Kind {
    fn from(action: FilterAction) -> Self {
        match action {
            FilterAction::Meter(_) => Self::Meter,
            FilterAction::NodeMeter(_) => Self::NodeMeter,
            _ => Self::Way,
        }
    }
}
