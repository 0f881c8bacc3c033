//! Routes that only say where a prefix is, for routing daemons to redistribute.

use std::collections::BTreeSet;
use std::io;
use std::net::Ipv6Addr;

use ipnet::Ipv6Net;
use netlink_packet_core::NetlinkPayload;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteType};
use rtnetlink::{MulticastGroup, RouteMessageBuilder, new_multicast_connection};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;

use super::{Kernel, KernelError, netlink};

/// In the kernel's table a route is known by prefix and metric: with one of our own, no route of others is replaced. FRR takes the upper
/// octet for a distance, so it is zero.
const METRIC: u32 = 5213;

/// Which routes are ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnRoutes {
    /// In this table,
    pub table: u32,
    /// with this protocol number.
    pub protocol: u8,
}

impl OwnRoutes {
    fn message(self, prefix: Ipv6Net) -> RouteMessage {
        RouteMessageBuilder::<Ipv6Addr>::new()
            .destination_prefix(prefix.network(), prefix.prefix_len())
            .table_id(self.table)
            .protocol(RouteProtocol::from(self.protocol))
            .kind(RouteType::Unreachable)
            .priority(METRIC)
            .build()
    }

    /// The prefix of a route that is ours.
    fn prefix_of(self, message: &RouteMessage) -> Option<Ipv6Net> {
        let in_attribute = message.attributes.iter().find_map(|attribute| match attribute {
            RouteAttribute::Table(table) => Some(*table),
            _ => None,
        });
        let table = in_attribute.unwrap_or(message.header.table.into());
        if table != self.table || u8::from(message.header.protocol) != self.protocol {
            return None;
        }
        let destination = message.attributes.iter().find_map(|attribute| match attribute {
            RouteAttribute::Destination(RouteAddress::Inet6(address)) => Some(*address),
            _ => None,
        });
        let length = message.header.destination_prefix_length;
        Ipv6Net::new(destination.unwrap_or(Ipv6Addr::UNSPECIFIED), length).ok()
    }
}

impl Kernel {
    /// As [`Kernel::open`]; out of the receiver come prefixes of routes of ours that were removed, by anybody.
    ///
    /// # Errors
    /// That of the operating system.
    pub fn open_routes(own: OwnRoutes) -> io::Result<(Self, mpsc::Receiver<Ipv6Net>)> {
        let (connection, handle, mut messages) = new_multicast_connection(&[MulticastGroup::Ipv6Route])?;
        tokio::spawn(connection);
        let (sender, receiver) = mpsc::channel(1024);
        tokio::spawn(async move {
            while let Some((message, _)) = messages.next().await {
                if let NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelRoute(message)) = message.payload
                    && let Some(prefix) = own.prefix_of(&message)
                    && sender.send(prefix).await.is_err()
                {
                    return;
                }
            }
        });
        Ok((Self { handle }, receiver))
    }

    /// Prefixes of all routes of ours.
    ///
    /// # Errors
    /// That of the kernel.
    pub async fn own_routes(&self, own: OwnRoutes) -> Result<BTreeSet<Ipv6Net>, KernelError> {
        let all = RouteMessageBuilder::<Ipv6Addr>::new().build();
        let mut messages = std::pin::pin!(self.handle.route().get(all).execute());
        let mut prefixes = BTreeSet::new();
        while let Some(message) = messages.next().await {
            prefixes.extend(own.prefix_of(&message.map_err(netlink("listing", "routes"))?));
        }
        Ok(prefixes)
    }

    /// Adds the route to `prefix`.
    ///
    /// # Errors
    /// That of the kernel, such as that somebody else has one with our metric.
    pub async fn add_own_route(&self, own: OwnRoutes, prefix: Ipv6Net) -> Result<(), KernelError> {
        self.handle
            .route()
            .add(own.message(prefix))
            .execute()
            .await
            .map_err(netlink("adding the route", prefix))
    }

    /// Removes the route to `prefix`.
    ///
    /// # Errors
    /// That of the kernel, such as that it is not there.
    pub async fn remove_own_route(&self, own: OwnRoutes, prefix: Ipv6Net) -> Result<(), KernelError> {
        self.handle
            .route()
            .del(own.message(prefix))
            .execute()
            .await
            .map_err(netlink("removing the route", prefix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_are_known_by_table_and_protocol() {
        let own = |table, protocol| OwnRoutes { table, protocol };
        for prefix in ["2001:db8:1::/64", "::/0", "2001:db8::1/128"] {
            let prefix: Ipv6Net = prefix.parse().unwrap();
            for table in [254, 5213] {
                let message = own(table, 213).message(prefix);
                assert_eq!(own(table, 213).prefix_of(&message), Some(prefix));
                assert_eq!(own(table, 214).prefix_of(&message), None);
                assert_eq!(own(253, 213).prefix_of(&message), None);
            }
        }
    }
}
