//! Nodes that are routers: DHCPv6 on access links in and out.

use std::net::Ipv6Addr;

use super::Daemon;
use crate::access::{RouterLink, RouterMessage};
use crate::delegation::wire::Message;
use crate::event::Event;
use crate::kernel::Link;
use crate::maar::Input;

impl Daemon {
    /// Opens the DHCPv6 side of an access link, where there is one.
    pub(super) fn open_router_link(&mut self, link: &Link, port: &str) {
        let wanted = self
            .config
            .maar
            .as_ref()
            .is_some_and(|it| it.mobile_routers.is_some());
        if !wanted {
            return;
        }
        match RouterLink::open(link, port.to_owned(), self.router_messages.clone()) {
            Ok(link) => {
                self.router_links.insert(port.to_owned(), link);
            }
            Err(error) => {
                let text = format!("nodes on {port} that are routers are not heard: {error}");
                self.observer
                    .warn(&Event::new("router_link_not_opened", text).with("port", port));
            }
        }
    }

    /// A node has sent something to all DHCPv6 servers.
    pub(super) fn router_message(&mut self, received: RouterMessage) {
        let RouterMessage {
            port,
            index,
            source,
            message,
        } = received;
        let message = match message {
            Ok(Some(message)) => message,
            Ok(None) => return self.counters.add("dhcp_refused_relay"),
            Err(error) => {
                tracing::debug!(%source, port, %error, "a DHCPv6 message was refused");
                return self.counters.add("dhcp_malformed");
            }
        };
        // As of a solicitation: who it is follows from its link-layer address.
        let Some(identifier) = self.access.sender(index, source) else {
            return self.counters.add("dhcp_unknown_node");
        };
        let node = self.machine.state().nodes.get(&identifier);
        if node.is_none_or(|node| node.port != port || node.link_local_address != source) {
            return self.counters.add("dhcp_unknown_node");
        }
        if !self.router_rate.allow(&identifier, self.observer.clock().now()) {
            return self.counters.add("dhcp_rate_limited");
        }
        self.process(Input::Dhcp {
            identifier,
            message: Box::new(message),
        });
    }

    /// Sends an answer to the client of a node.
    pub(super) fn answer_router(&mut self, port: &str, to: Ipv6Addr, message: &Message) {
        let octets = match message.emit() {
            Ok(octets) => octets,
            Err(error) => {
                tracing::error!(%error, "a DHCPv6 message cannot be written");
                return self.counters.add("dhcp_not_written");
            }
        };
        let sent = self.router_links.get(port).map(|link| link.send(to, &octets));
        if let Some(Err(error)) = sent {
            self.counters.add("dhcp_send_failed");
            tracing::debug!(%to, %error, "a DHCPv6 message cannot be sent");
        }
    }
}
