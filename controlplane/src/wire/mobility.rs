//! The Mobility Header (RFC 6275 section 6.1) and the messages of PMIPv6 (RFC 5213, RFC 8885).
//!
//! The values are here; [`parse()`] and [`emit()`] are in `mobility/`.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU32;

use ipnet::Ipv6Net;
use kedge_config::{FilterRule, Meter};
use serde::{Deserialize, Serialize};

use crate::charging::{Count, Fill};
use crate::identity::MobileNodeIdentifier;

mod attachment_time;
mod context;
mod emit;
mod notification;
mod options;
mod parse;
mod prefix_lifetimes;
mod prefix_mobility;
mod registry;
mod relocation;
mod status;
#[cfg(test)]
mod tests;
mod timestamp;
mod tunnel_endpoint;
mod vendor;

pub use emit::{EmitError, emit};
pub use notification::{
    ALL_SESSIONS, UpdateNotification, UpdateNotificationAcknowledgement, notification_flags,
    notification_reason, notification_status,
};
pub use parse::parse;
pub use prefix_lifetimes::PrefixLifetimes;
pub use registry::{MAXIMUM_OCTETS, NEXT_HEADER, binding_error_status, mh_type, mh_type_name};
pub use timestamp::{time_from_timestamp, timestamp_from_time};

/// A Mobility Header message. Types that Kedge does not process are `Other`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MobilityMessage {
    /// MH type 5.
    ProxyBindingUpdate(ProxyBindingUpdate),
    /// MH type 6.
    ProxyBindingAcknowledgement(ProxyBindingAcknowledgement),
    /// MH type 7.
    BindingError(BindingError),
    /// MH type 19.
    UpdateNotification(UpdateNotification),
    /// MH type 20.
    UpdateNotificationAcknowledgement(UpdateNotificationAcknowledgement),
    /// Any other type: its number. Answered with a Binding Error of status 2 (RFC 6275 section 9.2).
    Other(u8),
}

impl MobilityMessage {
    /// The MH type on the wire.
    #[must_use]
    pub fn mh_type(&self) -> u8 {
        match self {
            Self::ProxyBindingUpdate(_) => mh_type::BINDING_UPDATE,
            Self::ProxyBindingAcknowledgement(_) => mh_type::BINDING_ACKNOWLEDGEMENT,
            Self::BindingError(_) => mh_type::BINDING_ERROR,
            Self::UpdateNotification(_) => mh_type::UPDATE_NOTIFICATION,
            Self::UpdateNotificationAcknowledgement(_) => mh_type::UPDATE_NOTIFICATION_ACKNOWLEDGEMENT,
            Self::Other(mh_type) => *mh_type,
        }
    }

    /// The message's name, as the RFCs write it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::ProxyBindingUpdate(_) => "Proxy Binding Update",
            Self::ProxyBindingAcknowledgement(_) => "Proxy Binding Acknowledgement",
            Self::BindingError(_)
            | Self::UpdateNotification(_)
            | Self::UpdateNotificationAcknowledgement(_)
            | Self::Other(_) => mh_type_name(self.mh_type()),
        }
    }
}

/// Binding Update with the P flag (RFC 6275 section 6.1.7, RFC 5213 section 8.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyBindingUpdate {
    /// Correlates the acknowledgement.
    pub sequence: u16,
    /// All 16 flag bits; see [`update_flags`].
    pub flags: u16,
    /// Units of 4 seconds; 0 asks for de-registration.
    pub lifetime: u16,
    /// The options that both messages share.
    pub options: MobilityOptions,
}

/// Binding Acknowledgement with the P flag (RFC 6275 section 6.1.8, RFC 5213 section 8.2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyBindingAcknowledgement {
    /// Below 128: accepted.
    pub status: Status,
    /// All 8 flag bits; see [`acknowledgement_flags`].
    pub flags: u8,
    /// Copied from the update.
    pub sequence: u16,
    /// Units of 4 seconds granted.
    pub lifetime: u16,
    /// The options that both messages share.
    pub options: MobilityOptions,
}

/// Binding Error (RFC 6275 section 6.1.9).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindingError {
    /// 1 unknown binding for Home Address destination option, 2 unrecognised MH type.
    pub status: u8,
    /// `::` where there was no Home Address option.
    pub home_address: Ipv6Addr,
}

/// Flag bits of a Binding Update (16 bits at offset 8).
pub mod update_flags {
    /// Acknowledge.
    pub const ACKNOWLEDGE: u16 = 0x8000;
    /// Proxy registration (RFC 5213).
    pub const PROXY: u16 = 0x0200;
    /// Distributed mobility management (RFC 8885 section 4.1).
    pub const DISTRIBUTED: u16 = 0x0010;
}

/// Flag bits of a Binding Acknowledgement (8 bits at offset 7). Not those of the update.
pub mod acknowledgement_flags {
    /// Proxy registration (RFC 5213).
    pub const PROXY: u8 = 0x20;
    /// Distributed mobility management (RFC 8885 section 4.2).
    pub const DISTRIBUTED: u8 = 0x02;
}

/// Status of a Binding Acknowledgement, as the octet on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Status(pub u8);

#[allow(
    missing_docs,
    reason = "the names are those of the registry; wire/mobility/status.rs gives the text of each"
)]
impl Status {
    pub const ACCEPTED: Status = Status(0);
    pub const REASON_UNSPECIFIED: Status = Status(128);
    pub const ADMINISTRATIVELY_PROHIBITED: Status = Status(129);
    pub const INSUFFICIENT_RESOURCES: Status = Status(130);
    pub const SEQUENCE_NUMBER_OUT_OF_WINDOW: Status = Status(135);
    pub const PROXY_REG_NOT_ENABLED: Status = Status(152);
    pub const NOT_LMA_FOR_THIS_MOBILE_NODE: Status = Status(153);
    pub const MAG_NOT_AUTHORIZED_FOR_PROXY_REG: Status = Status(154);
    pub const NOT_AUTHORIZED_FOR_HOME_NETWORK_PREFIX: Status = Status(155);
    pub const TIMESTAMP_MISMATCH: Status = Status(156);
    pub const NOT_AUTHORIZED_FOR_DELEGATED_MNP: Status = Status(177);
    pub const REQUESTED_DMNP_IN_USE: Status = Status(178);
    pub const TIMESTAMP_LOWER_THAN_PREV_ACCEPTED: Status = Status(157);
    pub const MISSING_HOME_NETWORK_PREFIX_OPTION: Status = Status(158);
    pub const BCE_PBU_PREFIX_SET_DO_NOT_MATCH: Status = Status(159);
    pub const MISSING_MN_IDENTIFIER_OPTION: Status = Status(160);
    pub const MISSING_HANDOFF_INDICATOR_OPTION: Status = Status(161);
    pub const MISSING_ACCESS_TECH_TYPE_OPTION: Status = Status(162);
}

impl ProxyBindingUpdate {
    /// With the D flag: the sender is a MAAR or a CMD. Without it, a CMD refuses with a status.
    #[must_use]
    pub fn is_distributed(&self) -> bool {
        self.flags & update_flags::DISTRIBUTED != 0
    }

    /// With the A flag: the sender waits for an acknowledgement.
    #[must_use]
    pub fn asks_for_acknowledgement(&self) -> bool {
        self.flags & update_flags::ACKNOWLEDGE != 0
    }
}

impl ProxyBindingAcknowledgement {
    /// With the D flag. Without it, the peer is no CMD or MAAR of RFC 8885.
    #[must_use]
    pub fn is_distributed(&self) -> bool {
        self.flags & acknowledgement_flags::DISTRIBUTED != 0
    }
}

impl Status {
    /// Values below 128 accept.
    #[must_use]
    pub fn is_accepted(self) -> bool {
        self.0 < 128
    }
}

/// The mobility options of RFC 5213 and RFC 8885, in the order in which they are sent.
///
/// An option that may come once is an `Option` (of several, the first counts);
/// unknown ones are skipped and counted by the parser (RFC 6275 section 6.2.1).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MobilityOptions {
    /// Type 8. With no octets in an answer to an update that had none (status 160).
    pub mobile_node_identifier: Option<MobileNodeIdentifier>,
    /// Type 50 (RFC 6602 section 4.3): in place of the node, a group of them; see [`ALL_SESSIONS`].
    #[serde(default)]
    pub mobile_node_group_identifier: Option<u32>,
    /// Type 22, repeatable. `::/0` asks for an allocation.
    pub home_network_prefixes: Vec<Ipv6Net>,
    /// Type 23: 1 new interface, 2 between interfaces, 3 between MAGs, 4 unknown, 5 re-registration.
    pub handoff_indicator: Option<u8>,
    /// Type 24: 1 virtual, 3 IEEE 802.3, 4 IEEE 802.11, ...
    pub access_technology_type: Option<u8>,
    /// Type 27: 48.16 fixed-point seconds since 1970-01-01 UTC, as the 64 bits on the wire.
    pub timestamp: Option<u64>,
    /// Type 25: the octets after the reserved field.
    pub link_layer_identifier: Option<Vec<u8>>,
    /// Type 26.
    pub link_local_address: Option<Ipv6Addr>,
    /// Type 33 (RFC 5845 section 6.1): the sender takes the node's packets by GRE.
    pub gre_key: Option<GreKey>,
    /// Type 55, repeatable (RFC 7148 section 4.1): prefixes of the networks behind the node, a mobile router. Those of
    /// IPv4 are skipped. See [`MobilityOptions::session_prefixes`].
    #[serde(default)]
    pub delegated_prefixes: Vec<Ipv6Net>,
    /// Type 65, repeatable (RFC 8885 section 4.3). See [`MobilityOptions::session_prefixes`].
    pub anchored_prefixes: Vec<Ipv6Net>,
    /// Type 66, repeatable (RFC 8885 section 4.4).
    pub local_prefixes: Vec<Ipv6Net>,
    /// Type 68 (RFC 8885 section 4.6).
    pub serving_maar: Option<Ipv6Addr>,
    /// Types 69 and 70 before any Previous MAAR: the sender's own logical interface (choice G6).
    pub logical_interface: LogicalInterface,
    /// Type 67, repeatable (RFC 8885 section 4.5), each with the 69 and 70 that follow it (choice G6).
    pub previous_maars: Vec<PreviousMaarOption>,
    /// Type 19 of Kedge's own (RFC 5094), repeatable: where a MAAR takes the node's packets out of a tunnel.
    pub tunnel_endpoints: Vec<TunnelEndpoint>,
    /// Type 19 of Kedge's own (RFC 5094): the prefix of the message is to be anchored elsewhere.
    #[serde(default)]
    pub anchor_relocation: Option<AnchorRelocation>,
    /// Type 19 of Kedge's own (RFC 5094), repeatable: what more is to be known of a prefix than where it is.
    #[serde(default)]
    pub prefix_mobilities: Vec<PrefixMobility>,
    /// Type 19 of Kedge's own (RFC 5094): what goes to the next anchor with a prefix.
    #[serde(default)]
    pub context_transfer: Option<ContextTransfer>,
    /// Type 19 of Kedge's own (RFC 5094): the meter that a filter of `context_transfer` names.
    #[serde(default)]
    pub transferred_meter: Option<TransferredMeter>,
    /// Type 19 of Kedge's own (RFC 5094): when the node attached, in the form of the timestamp.
    #[serde(default)]
    pub attachment_time: Option<u64>,
    /// Type 19 of Kedge's own (RFC 5094), repeatable: how long each prefix may be used.
    #[serde(default)]
    pub prefix_lifetimes: Vec<PrefixLifetimes>,
    /// Type 3: replaces the IPv6 source as Proxy-CoA.
    pub alternate_care_of_address: Option<Ipv6Addr>,
    /// How many options of unknown type, and of other vendors, were skipped; never sent.
    pub unknown: u16,
}

impl MobilityOptions {
    /// The prefixes that the message is about: the Home Network Prefixes, and where
    /// there are none the Anchored Prefixes, and where there are none of those the delegated ones.
    ///
    /// RFC 8885 shows its flows with the former and gives the latter no part in
    /// them (choice G5): Kedge sends the former and reads both.
    #[must_use]
    pub fn session_prefixes(&self) -> &[Ipv6Net] {
        let [home, anchored, delegated] = [
            &self.home_network_prefixes,
            &self.anchored_prefixes,
            &self.delegated_prefixes,
        ];
        match (home.is_empty(), anchored.is_empty()) {
            (false, _) => home,
            (true, false) => anchored,
            (true, true) => delegated,
        }
    }

    /// Makes the message one about this prefix alone.
    pub fn about(&mut self, prefix: Ipv6Net) {
        if is_mobile_network(prefix) {
            self.delegated_prefixes = vec![prefix];
        } else {
            self.home_network_prefixes = vec![prefix];
        }
    }

    /// What the first endpoint at `maar` that the message tells takes, besides IPv6-in-IPv6, which all take.
    #[must_use]
    pub fn endpoint(&self, maar: Ipv6Addr) -> Option<TunnelType> {
        let endpoints = self.tunnel_endpoints.iter();
        endpoints
            .filter(|endpoint| endpoint.address == maar)
            .map(|endpoint| endpoint.tunnel_type)
            .find(|kind| *kind != TunnelType::Ipv6InIpv6)
    }

    /// The same of a message that tells of no other MAAR: there the GRE Key option is of that one.
    #[must_use]
    pub fn only_endpoint(&self, maar: Ipv6Addr) -> Option<TunnelType> {
        let gre = || match self.gre_key {
            Some(GreKey(Some(key))) => Some(TunnelType::Gre { key }),
            // Without a key the packets of different nodes could not be told apart.
            Some(GreKey(None)) | None => None,
        };
        self.endpoint(maar).or_else(gre)
    }

    /// Tells what `maar` takes, in a message that tells of no other MAAR.
    pub fn tell(&mut self, maar: Ipv6Addr, tunnel_type: TunnelType) {
        match tunnel_type {
            TunnelType::Gre { key } => self.gre_key = Some(GreKey(Some(key))),
            TunnelType::Ipv6InIpv6 | TunnelType::GtpU { .. } => self.tunnel_endpoints.push(TunnelEndpoint {
                address: maar,
                tunnel_type,
            }),
        }
    }
}

/// Whether a prefix is that of a network behind a mobile router, and no home network prefix: these are all of 64 bits,
/// and those are all shorter.
#[must_use]
pub fn is_mobile_network(prefix: Ipv6Net) -> bool {
    prefix.prefix_len() < 64
}

/// GRE Key option (RFC 5845 section 6.1): the key that packets to the sender have; `None`: they have none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GreKey(pub Option<u32>);

/// Tunnel Endpoint option, by which gateways of Kedge agree on another tunnel than IPv6-in-IPv6 for a
/// node: sub-type 1, version 0 of Kedge's Vendor-Specific Mobility Options (RFC 5094).
///
/// A MAAR tells its own; a CMD relays it to the MAAR at the other end. Who does not know the option
/// skips it, tells none, and is left with IPv6-in-IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TunnelEndpoint {
    /// `node.address` of the MAAR.
    pub address: Ipv6Addr,
    /// What it takes there.
    pub tunnel_type: TunnelType,
}

impl TunnelType {
    /// Its name in the configuration, and in what people read.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ipv6InIpv6 => "ipv6-in-ipv6",
            Self::GtpU { .. } => "gtpu",
            Self::Gre { .. } => "gre",
        }
    }

    /// Whether the configuration calls it so.
    #[must_use]
    pub fn is_of(self, kind: kedge_config::TunnelType) -> bool {
        match self {
            Self::Ipv6InIpv6 => kind == kedge_config::TunnelType::Ipv6InIpv6,
            Self::GtpU { .. } => kind == kedge_config::TunnelType::GtpU,
            Self::Gre { .. } => kind == kedge_config::TunnelType::Gre,
        }
    }
}

impl TunnelEndpoint {
    /// A GTP-U endpoint.
    #[must_use]
    pub fn gtpu(address: Ipv6Addr, teid: NonZeroU32) -> Self {
        Self {
            address,
            tunnel_type: TunnelType::GtpU { teid, ipv4: None },
        }
    }
}

/// What a tunnel endpoint takes, and by what it knows the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TunnelType {
    /// 1 on the wire, with a TEID of 0 (RFC 2473).
    Ipv6InIpv6,
    /// 2 on the wire (3GPP TS 29.281).
    GtpU {
        /// Tunnel Endpoint Identifier of packets to the endpoint.
        teid: NonZeroU32,
        /// Where the endpoint takes them over IPv4; over IPv6 it takes them at its `node.address`.
        #[serde(default)]
        ipv4: Option<Ipv4Addr>,
    },
    /// 3 on the wire, with the key in place of the TEID (RFC 2890).
    Gre {
        /// Key of packets to the endpoint.
        key: u32,
    },
}

/// Anchor Relocation option, by which a CMD moves the anchor of a prefix (RFC 8818 section 4.2.1):
/// sub-type 2, version 0 of Kedge's Vendor-Specific Mobility Options (RFC 5094).
///
/// Who does not know the option refuses the update that has it, for the prefix is not its own or the
/// serving MAAR is itself; so nothing is relocated to or from a gateway of another kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnchorRelocation {
    /// What the receiver is to do.
    pub step: RelocationStep,
    /// `node.address` of the MAAR that the prefix comes from, or goes to.
    pub anchor: Ipv6Addr,
}

/// What a MAAR is to do with the prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RelocationStep {
    /// 1 on the wire: anchor it from now on. The answer says that routes lead here.
    Take,
    /// 2 on the wire: anchor it no more.
    Yield,
    /// 3 on the wire: it is about to be anchored elsewhere; what has to be there before goes there now. The answer says that the
    /// CMD has it.
    Prepare,
}

/// Prefix Mobility option, by which a CMD tells a serving MAAR of the mobility that a prefix of a node has by policy:
/// sub-type 5, version 0 of Kedge's Vendor-Specific Mobility Options (RFC 5094). Who does not know it tunnels what it is
/// told to, and tells the node of no prefix that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrefixMobility {
    /// Which prefix.
    pub prefix: Ipv6Net,
    /// What is to be known of it.
    pub kind: PrefixMobilityKind,
}

/// What a Prefix Mobility option says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PrefixMobilityKind {
    /// 1 on the wire: the node had it, and has it no more.
    Ended,
    /// 2 on the wire: a detour that has carried so many octets is too long.
    DetourLimit {
        /// So many, both ways together.
        octets: u64,
    },
    /// 3 on the wire: it is the node's for so long (RFC 8653, Graceful-Replacement).
    EndsAfter {
        /// Seconds from now.
        seconds: u64,
    },
}

/// Context Transfer option (RFC 8818 FM:2): sub-types 3 and 4, version 0 of Kedge's Vendor-Specific Mobility Options
/// (RFC 5094).
///
/// Who does not know the option refuses the update that has it, for it names no prefix. An answer has what it answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContextTransfer {
    /// What tells it from every other of this sender to this receiver; of those the sender makes, each is larger than the last.
    pub id: u64,
    /// The smallest that the sender still waits for: those before it never come again.
    pub oldest: u64,
    /// What it is of.
    pub prefix: Ipv6Net,
    /// What it is.
    pub context: Context,
}

/// What goes to the next anchor with a prefix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Context {
    /// Sub-type 3: what was counted, to be added to what is counted there.
    Usage {
        /// Of this filter; `None`: of the prefix.
        filter: Option<String>,
        /// How much, and when.
        count: Count,
    },
    /// Sub-type 4: a filter that an operator added, for this prefix from now on. It names no node.
    Filter(Box<FilterRule>),
}

/// The meter that a filter in a Context Transfer option names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferredMeter {
    /// Its name and its rates.
    #[serde(flatten)]
    pub meter: Meter,
    /// What was in its buckets where it comes from, when that was read; `None`: they were full. The time since then is not told:
    /// clocks differ. Whoever takes it counts none, so that nothing is gained by being on the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fill: Option<Fill>,
}

/// Previous MAAR option (RFC 8885 section 4.5).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreviousMaarOption {
    /// The MAAR that anchors the prefix.
    pub address: Ipv6Addr,
    /// The anchored prefix.
    pub home_network_prefix: Ipv6Net,
    /// Its distributed logical interface, when told.
    pub logical_interface: LogicalInterface,
}

/// What identifies a distributed logical interface (RFC 8885 sections 3.7, 4.7, 4.8).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogicalInterface {
    /// Type 69.
    pub link_local_address: Option<Ipv6Addr>,
    /// Type 70: the octets after the reserved field.
    pub link_layer_address: Option<Vec<u8>>,
}

/// Why a Mobility Header was refused. Each has a counter of its own.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MobilityError {
    /// Shorter than its fixed part, or than its Header Len says. Dropped silently.
    #[error("truncated: {octets} octets, {needed} needed")]
    Truncated {
        /// What there was.
        octets: usize,
        /// What the header promised.
        needed: usize,
    },
    /// Octets after the end that Header Len gives.
    #[error("oversized: {octets} octets, Header Len says {header_len}")]
    Oversized {
        /// What there was.
        octets: usize,
        /// (Header Len + 1) * 8.
        header_len: usize,
    },
    /// Dropped silently (RFC 6275 section 9.2).
    #[error("checksum {found:#06x} is wrong, {expected:#06x} expected")]
    Checksum {
        /// In the message.
        found: u16,
        /// Computed.
        expected: u16,
    },
    /// Answered with ICMPv6 Parameter Problem, code 0, pointing at offset 0 of the header.
    #[error("Payload Proto is {0}, only 59 is allowed")]
    PayloadProto(u8),
    /// Answered with ICMPv6 Parameter Problem, code 0, pointing at offset 1 of the header.
    #[error("Header Len {header_len} is below the minimum {minimum} of MH type {mh_type}")]
    HeaderLen {
        /// In the message.
        header_len: u8,
        /// The least for this type.
        minimum: u8,
        /// The type.
        mh_type: u8,
    },
    /// An option runs past the end of the header. Dropped silently.
    #[error("option {option} at offset {offset} runs past the end")]
    OptionOverrun {
        /// Its type.
        option: u8,
        /// From the start of the header.
        offset: usize,
    },
    /// A known option has a length or value that it cannot have.
    #[error("option {option} at offset {offset} cannot have {what} {value}")]
    OptionInvalid {
        /// Its type.
        option: u8,
        /// From the start of the header.
        offset: usize,
        /// Which part of it: "length", "prefix length", ...
        what: &'static str,
        /// The value found.
        value: u64,
    },
    /// A Binding Update or Acknowledgement without the P flag: no proxy registration.
    #[error("MH type {mh_type} without the P flag is no proxy registration")]
    NotProxy {
        /// 5 or 6.
        mh_type: u8,
    },
}
