//! Links and neighbours, as they change.

use std::io;

use netlink_packet_core::NetlinkPayload;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::{MulticastGroup, new_multicast_connection};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;

use super::neighbour::neighbour_change;
use super::{Kernel, KernelError, NeighbourChange, netlink};
use crate::identity::LinkLayerAddress;

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The kernel's number; an interface that is made again has another.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Administratively up.
    pub up: bool,
    /// Its link-layer address, if it is Ethernet.
    pub link_layer_address: Option<LinkLayerAddress>,
}

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// An interface is there, or is different.
    Link(Link),
    /// An interface has gone.
    LinkGone(Link),
    /// A neighbour.
    Neighbour(NeighbourChange),
}

impl Kernel {
    /// Connects; changes come out of the receiver. A change may be lost when
    /// the kernel makes them faster than they are read: read the whole anew
    /// from time to time with [`Kernel::links`] and [`Kernel::neighbours`].
    ///
    /// # Errors
    /// That of the operating system.
    pub fn open() -> io::Result<(Self, mpsc::Receiver<Change>)> {
        let (connection, handle, mut messages) =
            new_multicast_connection(&[MulticastGroup::Link, MulticastGroup::Neigh])?;
        tokio::spawn(connection);
        let (sender, receiver) = mpsc::channel(1024);
        tokio::spawn(async move {
            while let Some((message, _)) = messages.next().await {
                if let Some(change) = change(message.payload)
                    && sender.send(change).await.is_err()
                {
                    return;
                }
            }
        });
        Ok((Self { handle }, receiver))
    }

    /// Every interface.
    ///
    /// # Errors
    /// That of the kernel.
    pub async fn links(&self) -> Result<Vec<Link>, KernelError> {
        let mut links = Vec::new();
        let mut messages = std::pin::pin!(self.handle.link().get().execute());
        while let Some(message) = messages.next().await {
            links.extend(link(&message.map_err(netlink("listing", "interfaces"))?));
        }
        Ok(links)
    }

    /// Every neighbour, of both IP versions.
    ///
    /// # Errors
    /// That of the kernel.
    pub async fn neighbours(&self) -> Result<Vec<NeighbourChange>, KernelError> {
        let mut neighbours = Vec::new();
        for family in [AddressFamily::Inet6, AddressFamily::Inet] {
            let request = self.handle.neighbours().get().set_address_family(family);
            let mut messages = std::pin::pin!(request.execute());
            while let Some(message) = messages.next().await {
                let message = message.map_err(netlink("listing", "neighbours"))?;
                neighbours.extend(neighbour_change(&message, false));
            }
        }
        Ok(neighbours)
    }
}

fn change(payload: NetlinkPayload<RouteNetlinkMessage>) -> Option<Change> {
    let NetlinkPayload::InnerMessage(message) = payload else {
        return None;
    };
    match message {
        // Other families tell of their own settings, not of the interface.
        RouteNetlinkMessage::NewLink(message) if message.header.interface_family == AddressFamily::Unspec => {
            link(&message).map(Change::Link)
        }
        RouteNetlinkMessage::DelLink(message) if message.header.interface_family == AddressFamily::Unspec => {
            link(&message).map(Change::LinkGone)
        }
        RouteNetlinkMessage::NewNeighbour(message) => {
            neighbour_change(&message, false).map(Change::Neighbour)
        }
        RouteNetlinkMessage::DelNeighbour(message) => neighbour_change(&message, true).map(Change::Neighbour),
        _ => None,
    }
}

fn link(message: &LinkMessage) -> Option<Link> {
    let name = message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    })?;
    let link_layer_address = message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Address(octets) => octets.as_slice().try_into().ok().map(LinkLayerAddress),
        _ => None,
    });
    Some(Link {
        index: message.header.index,
        name,
        up: message.header.flags.contains(LinkFlags::Up),
        link_layer_address,
    })
}
