//! Flow filters (RFC 8818 FM:3) and meters (RFC 2698, RFC 4115) as values.

use ipnet::Ipv6Net;

/// Longest name of a filter, in octets.
pub const FILTER_NAME_OCTETS: usize = 63;

/// A flow of packets, and what is done with it. Which of several filters counts for a packet is said at
/// `Filter` in the contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// What its owner calls it, at most [`FILTER_NAME_OCTETS`]: it comes back with what was counted of it, be it long deleted.
    pub name: String,
    /// The home network prefix whose packets it is asked about; `None`: those of every node.
    pub scope: Option<Ipv6Net>,
    /// 1..=65535; the lowest number comes first (as in RFC 6089 section 4.2).
    pub priority: u16,
    /// What a packet has to be like.
    pub selector: Selector,
    /// What is done with it.
    pub action: FilterAction,
    /// Seconds without a packet after which it is reported as no longer needed; 0 = never.
    pub idle_timeout: u32,
    /// Seconds after which it is reported in any case; 0 = never.
    pub lifetime: u32,
    /// Packets to the node that come out of this tunnel, and those from it that the tables send into it, are none of this
    /// filter's: it is asked about at the other end. With a scope only.
    pub except_tunnel: Option<u32>,
}

impl Filter {
    /// The tunnels that it names.
    pub fn tunnels(&self) -> impl Iterator<Item = u32> {
        self.action.tunnel().into_iter().chain(self.except_tunnel)
    }
}

/// What a packet has to be like. The default matches every packet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// From a node or to one; `None`: both.
    pub direction: Option<Direction>,
    /// Of the packet's source address; `::/0`: any.
    pub source: Ipv6Net,
    /// Of its destination address; `::/0`: any.
    pub destination: Ipv6Net,
    /// Behind all extension headers; `None`: any.
    pub protocol: Option<u8>,
    /// Of TCP, UDP, UDP-Lite, DCCP and SCTP; `None`: any, or none at all.
    pub source_ports: Option<PortRange>,
    /// As `source_ports`.
    pub destination_ports: Option<PortRange>,
    /// Some bits of the traffic class.
    pub traffic_class: TrafficClass,
    /// 0..=1048575; `None`: any.
    pub flow_label: Option<u32>,
}

/// Which way a packet of a node goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Uplink.
    FromNode,
    /// Downlink.
    ToNode,
}

/// Ports, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    /// The lowest.
    pub first: u16,
    /// The highest, not below `first`.
    pub last: u16,
}

/// Bits of a traffic class. The default is any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrafficClass {
    /// What they must be; 0 where `mask` is 0.
    pub value: u8,
    /// Which are looked at.
    pub mask: u8,
}

/// What is done with the packets of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilterAction {
    /// What the tables say without any filter: they stay with this anchor.
    Anchor,
    /// They go into this tunnel.
    Tunnel(u32),
    /// From a node, they go by their destination from here, though the source's tunnel leads elsewhere.
    LocalBreakout,
    /// They are dropped.
    Drop,
    /// They wait, in bounds, until the filter says something else, is gone, or its `lifetime` has passed
    /// (RFC 8818 FM:6-1). With a scope only, and a lifetime of 1..=600.
    Hold,
    /// They are metered by this meter.
    Meter(u64),
    /// All packets of the node are metered by this meter.
    NodeMeter(u64),
}

impl FilterAction {
    /// The tunnel that it names.
    #[must_use]
    pub fn tunnel(self) -> Option<u32> {
        match self {
            Self::Tunnel(id) => Some(id),
            _ => None,
        }
    }

    /// The meter that it names.
    #[must_use]
    pub fn meter(self) -> Option<u64> {
        match self {
            Self::Meter(id) | Self::NodeMeter(id) => Some(id),
            _ => None,
        }
    }

    /// Its name in what people read.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Anchor => "anchor",
            Self::Tunnel(_) => "tunnel",
            Self::LocalBreakout => "local-breakout",
            Self::Drop => "drop",
            Self::Hold => "hold",
            Self::Meter(_) => "meter",
            Self::NodeMeter(_) => "node-meter",
        }
    }
}

/// A two-rate three-colour marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meter {
    /// How much of what is green, yellow and red.
    pub rates: MeterRates,
    /// Packets come coloured by the drop precedence of their DSCP (RFC 2597).
    pub colour_aware: bool,
    /// What becomes of yellow packets. Red ones are dropped.
    pub yellow: Yellow,
    /// What its buckets are lowered to, once for each number; `None`: a new meter begins with full ones.
    pub fill: Option<MeterFill>,
}

/// Octets in the buckets of a meter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MeterFill {
    /// What tells it from the one before, never 0.
    pub number: u64,
    /// In the committed bucket, at most its burst.
    pub committed: u64,
    /// In the peak or the excess bucket, at most its burst.
    pub other: u64,
}

/// Rates in octets of IPv6 packets per second, bursts in octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MeterRates {
    /// RFC 2698: all traffic counts toward the peak, green also toward the committed rate.
    Rfc2698 {
        /// Committed information rate.
        cir: u64,
        /// Committed burst size.
        cbs: u64,
        /// Peak information rate, not below the committed one.
        pir: u64,
        /// Peak burst size.
        pbs: u64,
    },
    /// RFC 4115: green counts toward the committed rate, yellow toward the excess.
    Rfc4115 {
        /// Committed information rate.
        cir: u64,
        /// Committed burst size.
        cbs: u64,
        /// Excess information rate.
        eir: u64,
        /// Excess burst size.
        ebs: u64,
    },
}

impl MeterRates {
    /// Rate and burst of the committed bucket, and of the peak or the excess bucket.
    #[must_use]
    pub fn buckets(self) -> ((u64, u64), (u64, u64)) {
        match self {
            Self::Rfc2698 { cir, cbs, pir, pbs } => ((cir, cbs), (pir, pbs)),
            Self::Rfc4115 { cir, cbs, eir, ebs } => ((cir, cbs), (eir, ebs)),
        }
    }
}

/// What becomes of yellow packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Yellow {
    /// They pass as they are.
    Pass,
    /// They get this DSCP, 0..=63.
    Mark(u8),
}
