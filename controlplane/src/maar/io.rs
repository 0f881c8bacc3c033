//! What goes into the state machine of a MAAR, and what comes out.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;

use ipnet::Ipv6Net;
use kedge_config::FilterRule;

use super::charging::Reading;
use super::state::DelegatedPool;
use crate::delegation::wire::Message;
use crate::event::Event;
use crate::identity::{LinkLayerAddress, MobileNodeIdentifier};
use crate::time::Time;
use crate::wire::mobility::{MobilityMessage, TunnelType};
use crate::wire::neighbour_discovery::PrefixInformation;

/// What happens to a MAAR.
#[allow(
    clippy::large_enum_variant,
    reason = "one at a time, passed by value once; a box would cost more"
)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A node is on an access link: by Router Solicitation or by the operator's word.
    Attached {
        /// Who.
        identifier: MobileNodeIdentifier,
        /// On which port.
        port: String,
        /// Its link-layer address.
        link_layer_address: LinkLayerAddress,
        /// Its link-local address.
        link_local_address: Ipv6Addr,
    },
    /// A node has left the access link.
    Detached {
        /// Who.
        identifier: MobileNodeIdentifier,
        /// End the session too (RFC 8885 section 3.5: a mere detachment must not).
        deregister: bool,
    },
    /// A Mobility Header message, parsed and with a verified checksum.
    Message {
        /// IPv6 source.
        from: Ipv6Addr,
        /// The message.
        message: MobilityMessage,
    },
    /// The operator wants this filter; it was checked.
    PutFilter(FilterRule),
    /// The operator wants the filter of this name no more.
    DeleteFilter(String),
    /// The data plane says that the filter with this id is no longer needed.
    FilterExpired(u64),
    /// A peer has no tunnel with a TEID that packets are sent to (3GPP TS 29.281 section 7.3.1).
    TunnelRefused {
        /// Its address, of IPv4 in its mapped form.
        peer: Ipv6Addr,
        /// Of what it got.
        teid: u32,
    },
    /// A GTP-U tunnel of ours has brought its last (3GPP TS 29.281 section 7.3.2).
    EndMarker {
        /// IPv6 source.
        from: Ipv6Addr,
        /// Of the tunnel, here.
        teid: u32,
    },
    /// An answer to a DPN that waited until it was saved has left.
    Answered {
        /// The DPN.
        to: Ipv6Addr,
        /// Of this node.
        identifier: MobileNodeIdentifier,
    },
    /// Routes lead here for a prefix that is being taken.
    Announced(Ipv6Net),
    /// These pools are delegated to this MAAR now.
    Pools(Vec<DelegatedPool>),
    /// Of prefixes that were relocated here these were delegated to this MAAR, and no server has extended their lifetimes: all
    /// of which that is so.
    DelegationsOver(BTreeSet<Ipv6Net>),
    /// Until then what was delegated to this MAAR by name is valid, in each case; what is missing is not delegated, or has no end.
    DelegatedUntil(BTreeMap<Ipv6Net, Time>),
    /// An older prefix of a node here has carried nothing for `maar.idle_prefix_s`.
    Unused(Ipv6Net),
    /// What the data plane has counted.
    Counted(Reading),
    /// None of ours lead here any more for a prefix that was yielded.
    Withdrawn(Ipv6Net),
    /// A node on an access link has sent this DHCPv6 message to all servers.
    Dhcp {
        /// Who.
        identifier: MobileNodeIdentifier,
        /// What.
        message: Box<Message>,
    },
    /// The detour of an older prefix of a node here is worth ending: it has carried much, or a flow lasts.
    LongDetour(Ipv6Net),
    /// It is [`Maar::next_deadline`](super::Maar::next_deadline), or later.
    Tick,
}

/// What a MAAR wants done.
#[allow(
    clippy::large_enum_variant,
    reason = "one at a time, passed by value once; a box would cost more"
)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a Mobility Header message from `node.address`.
    Send {
        /// IPv6 destination.
        to: Ipv6Addr,
        /// The message.
        message: MobilityMessage,
    },
    /// The same, when what is known now would survive a crash: another gateway builds upon it.
    SendWhenSaved {
        /// IPv6 destination.
        to: Ipv6Addr,
        /// The message.
        message: MobilityMessage,
    },
    /// Send a Router Advertisement to one node.
    Advertise {
        /// On this access port.
        port: String,
        /// IPv6 destination.
        link_local_address: Ipv6Addr,
        /// Link-layer destination.
        link_layer_address: LinkLayerAddress,
        /// Its prefixes.
        prefixes: Vec<PrefixInformation>,
    },
    /// Send a DHCPv6 message to the client of a node.
    Dhcp {
        /// On this access port.
        port: String,
        /// IPv6 destination.
        to: Ipv6Addr,
        /// What.
        message: Message,
    },
    /// Tell a MAAR that nothing more comes to it for a prefix that was tunnelled there, when that is so.
    EndPath {
        /// Which MAAR.
        to: Ipv6Addr,
        /// The prefix, which we anchor.
        prefix: Ipv6Net,
        /// By what.
        by: TunnelType,
    },
    /// Read now what the data plane has counted: prefixes rest until that is known, and all others are in use.
    ReadCounters,
    /// Tell whoever watches.
    Event(Event),
}
