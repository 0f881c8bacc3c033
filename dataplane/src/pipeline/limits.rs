//! How much a worker does that is not forwarding. Each kind of it has the whole of its limit for itself: however much comes of one,
//! the others get what they would have got.

use super::subject::Subject;
use super::{Origin, View};
use crate::snapshot::PortDescription;
use crate::stage::icmpv6_error::Icmpv6Error;
use crate::stage::ipv4;
use crate::stage::limit::Limit;
use crate::stage::parse::{ETHERTYPE_ARP, ETHERTYPE_IPV4, is_link_local, is_link_scope_multicast};

/// No router has passed on what has this hop limit (RFC 4861 section 6.1).
const FROM_THE_LINK: u8 = 255;

/// What goes to the kernel, or is answered here in its stead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Punt {
    /// From mobile nodes, what no router passes on: solicitations, neighbour discovery, DHCPv6 to a group.
    AccessLink,
    /// All else from mobile nodes.
    Access,
    /// From the links of the core, what no router passes on: ARP, neighbour discovery, what goes to their groups.
    CoreLink,
    /// Mobility Headers, GTP-U, DHCPv6 and BGP from the core.
    CoreSignalling,
    /// All else from there, and out of tunnels.
    Core,
    /// GTP-U Echo Requests, which are answered here.
    Echo,
}

impl Punt {
    const COUNT: usize = Self::Echo as usize + 1;

    /// Of a packet that goes to the kernel, in by this port.
    #[cold]
    pub(super) fn of(view: View<'_>, port: &PortDescription) -> Self {
        if view.origin != Origin::Wire {
            return Self::Core;
        }
        let subject = || Subject::of(view).unwrap_or(Subject::Other);
        match (is_of_link(view, subject), port.access) {
            (true, true) => Self::AccessLink,
            (true, false) => Self::CoreLink,
            (false, true) => Self::Access,
            (false, false) if subject() == Subject::Signalling => Self::CoreSignalling,
            (false, false) => Self::Core,
        }
    }
}

/// Whether a packet off the wire can only have been sent on its link: nobody farther away has a share in what those may be.
fn is_of_link(view: View<'_>, subject: impl Fn() -> Subject) -> bool {
    let packet = &view.packet;
    match view.ethertype {
        ETHERTYPE_ARP => true,
        ETHERTYPE_IPV4 => ipv4::is_link_scope_multicast(packet.destination),
        _ => {
            is_link_scope_multicast(packet.destination)
                || is_link_local(packet.destination)
                || is_link_local(packet.source)
                || packet.hop_limit == FROM_THE_LINK && subject() == Subject::Link
        }
    }
}

/// For all that goes to the kernel.
#[derive(Debug)]
pub(super) struct Punts([Limit; Punt::COUNT]);

impl Punts {
    /// So many of each kind in a second of a counter that grows by `cycles_per_second`.
    pub(super) fn new(per_second: u32, cycles_per_second: u64) -> Self {
        Self(std::array::from_fn(|_| Limit::new(per_second, cycles_per_second)))
    }

    /// Whether one more of this kind may go.
    pub(super) fn take(&mut self, kind: Punt, now: u64) -> bool {
        self.0.get_mut(kind as usize).is_some_and(|limit| limit.take(now))
    }
}

/// For the errors that are sent. Who is not told what a path takes has no connection any more, so that has a limit of its own:
/// what somebody makes errors of by trying many addresses or TEIDs takes nothing from it.
#[derive(Debug)]
pub(super) struct Errors {
    path_mtu: Limit,
    other: Limit,
}

impl Errors {
    /// So many of each kind in a second of a counter that grows by `cycles_per_second`.
    pub(super) fn new(per_second: u32, cycles_per_second: u64) -> Self {
        let limit = Limit::new(per_second, cycles_per_second);
        Self {
            path_mtu: limit.clone(),
            other: limit,
        }
    }

    /// Whether this one may be sent, in the words of either ICMP.
    pub(super) fn take(&mut self, error: Icmpv6Error, now: u64) -> bool {
        match error {
            Icmpv6Error::PacketTooBig(_) => self.path_mtu.take(now),
            _ => self.other.take(now),
        }
    }

    /// Whether one of GTP-U may be.
    pub(super) fn take_gtpu(&mut self, now: u64) -> bool {
        self.other.take(now)
    }
}
