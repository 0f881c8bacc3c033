//! Neighbours: what the kernel has resolved, and asking it to resolve more.

use std::net::Ipv6Addr;

use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};

use super::{Kernel, KernelError, netlink};
use crate::identity::LinkLayerAddress;

/// The newest word on a neighbour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeighbourChange {
    /// The interface.
    pub index: u32,
    /// The neighbour.
    pub address: Ipv6Addr,
    /// Where it is; `None`: not known, or not any more.
    pub link_layer_address: Option<LinkLayerAddress>,
}

/// A message of the kernel about a unicast neighbour; `None` for others. That of IPv4 is told as an IPv4-mapped one.
///
/// An entry counts while packets may be sent to it, which STALE, DELAY and
/// PROBE allow too (RFC 4861 section 7.3.2).
#[must_use]
pub fn neighbour_change(message: &NeighbourMessage, deleted: bool) -> Option<NeighbourChange> {
    if message.header.flags.contains(NeighbourFlags::Proxy) {
        return None;
    }
    let address = message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => Some(*address),
        NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => Some(address.to_ipv6_mapped()),
        _ => None,
    })?;
    if address.to_canonical().is_multicast() {
        return None;
    }
    let usable = matches!(
        message.header.state,
        NeighbourState::Reachable
            | NeighbourState::Stale
            | NeighbourState::Delay
            | NeighbourState::Probe
            | NeighbourState::Permanent
    );
    let link_layer_address = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            NeighbourAttribute::LinkLayerAddress(octets) => {
                octets.as_slice().try_into().ok().map(LinkLayerAddress)
            }
            _ => None,
        })
        .filter(|address| usable && !deleted && address.is_unicast());
    Some(NeighbourChange {
        index: message.header.ifindex,
        address,
        link_layer_address,
    })
}

impl Kernel {
    /// Has the kernel resolve a neighbour, or make sure that it still is where it was.
    ///
    /// # Errors
    /// That of the kernel.
    pub async fn resolve(&self, index: u32, address: Ipv6Addr) -> Result<(), KernelError> {
        self.handle
            .neighbours()
            .add(index, address.to_canonical())
            .state(NeighbourState::None)
            .flags(NeighbourFlags::Use)
            .replace()
            .execute()
            .await
            .map_err(netlink("resolving", address))
    }

    /// Tells the kernel where a neighbour is, so that the next packet to it need not ask.
    ///
    /// # Errors
    /// That of the kernel.
    pub async fn set_neighbour(
        &self,
        index: u32,
        address: Ipv6Addr,
        link_layer_address: LinkLayerAddress,
    ) -> Result<(), KernelError> {
        self.handle
            .neighbours()
            .add(index, address.into())
            .state(NeighbourState::Reachable)
            .link_layer_address(&link_layer_address.0)
            .replace()
            .execute()
            .await
            .map_err(netlink("setting the neighbour", address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(state: NeighbourState, octets: Option<&[u8]>) -> NeighbourMessage {
        let mut message = NeighbourMessage::default();
        message.header.ifindex = 7;
        message.header.state = state;
        message
            .attributes
            .push(NeighbourAttribute::Destination(NeighbourAddress::Inet6(
                "2001:db8::1".parse().unwrap(),
            )));
        if let Some(octets) = octets {
            message
                .attributes
                .push(NeighbourAttribute::LinkLayerAddress(octets.to_vec()));
        }
        message
    }

    #[test]
    fn a_neighbour_counts_while_packets_may_go_to_it() {
        const ADDRESS: [u8; 6] = [2, 0, 0, 0, 0, 1];
        for (state, known) in [
            (NeighbourState::Reachable, true),
            (NeighbourState::Stale, true),
            (NeighbourState::Delay, true),
            (NeighbourState::Probe, true),
            (NeighbourState::Permanent, true),
            (NeighbourState::Failed, false),
            (NeighbourState::Incomplete, false),
            (NeighbourState::None, false),
        ] {
            let change = neighbour_change(&message(state, Some(&ADDRESS)), false).unwrap();
            assert_eq!(change.index, 7);
            assert_eq!(change.link_layer_address.is_some(), known, "{state}");
        }
        let deleted = neighbour_change(&message(NeighbourState::Stale, Some(&ADDRESS)), true).unwrap();
        assert_eq!(deleted.link_layer_address, None);
    }

    #[test]
    fn odd_entries() {
        for octets in [
            None,
            Some(&[1_u8, 2][..]),
            Some(&[0; 6]),
            Some(&[1, 0, 0, 0, 0, 0]),
        ] {
            let change = neighbour_change(&message(NeighbourState::Reachable, octets), false).unwrap();
            assert_eq!(change.link_layer_address, None, "{octets:?}");
        }
        let mut ipv4 = message(NeighbourState::Reachable, None);
        ipv4.attributes = vec![NeighbourAttribute::Destination(NeighbourAddress::Inet(
            "192.0.2.1".parse().unwrap(),
        ))];
        let expected: Ipv6Addr = "::ffff:192.0.2.1".parse().unwrap();
        assert_eq!(neighbour_change(&ipv4, false).unwrap().address, expected);
        ipv4.attributes = vec![NeighbourAttribute::Destination(NeighbourAddress::Inet(
            "224.0.0.1".parse().unwrap(),
        ))];
        assert_eq!(neighbour_change(&ipv4, false), None);
        let mut proxy = message(NeighbourState::Reachable, None);
        proxy.header.flags = NeighbourFlags::Proxy;
        assert_eq!(neighbour_change(&proxy, false), None);
        let mut multicast = message(NeighbourState::Reachable, None);
        multicast.attributes = vec![NeighbourAttribute::Destination(NeighbourAddress::Inet6(
            "ff02::1".parse().unwrap(),
        ))];
        assert_eq!(neighbour_change(&multicast, false), None);
        assert_eq!(neighbour_change(&NeighbourMessage::default(), false), None);
    }
}
