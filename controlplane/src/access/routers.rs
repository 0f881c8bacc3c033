//! DHCPv6 on one access link, for nodes that are routers (RFC 8415 section 18.3).

use std::io;
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::delegation::socket::DhcpSocket;
use crate::delegation::wire::{CLIENT_PORT, Message, Packet, WireError};
use crate::kernel::Link;

/// What a node has sent to all servers.
#[derive(Debug)]
pub struct RouterMessage {
    /// The port.
    pub port: String,
    /// The interface.
    pub index: u32,
    /// Who.
    pub source: Ipv6Addr,
    /// The message; `None`: that of a relay, which no node is.
    pub message: Result<Option<Message>, WireError>,
}

/// The socket of one access link.
#[derive(Debug)]
pub struct RouterLink {
    socket: Arc<DhcpSocket>,
    index: u32,
    receiver: tokio::task::JoinHandle<()>,
}

impl RouterLink {
    /// Opens the socket of an interface that is configured already. What nodes send goes to `messages`.
    ///
    /// # Errors
    /// That of the operating system.
    pub fn open(link: &Link, port: String, messages: mpsc::Sender<RouterMessage>) -> io::Result<Self> {
        let socket = Arc::new(DhcpSocket::serve(&link.name, link.index)?);
        let (index, incoming) = (link.index, Arc::clone(&socket));
        let receiver = tokio::spawn(async move {
            loop {
                let received = match incoming.receive().await {
                    Ok(received) => received,
                    Err(error) => {
                        // The interface may be down for a moment; when it is gone, this link is replaced.
                        tracing::debug!(%error, port, "receiving DHCPv6 on an access link failed");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        continue;
                    }
                };
                // No client is told that it may send elsewhere (RFC 8415 section 18.4).
                if !received.destination.is_some_and(|it| it.is_multicast()) {
                    continue;
                }
                let message = Packet::parse(&received.octets).map(|packet| match packet {
                    Packet::Message(message) => Some(message),
                    Packet::Relay(_) => None,
                });
                let message = RouterMessage {
                    port: port.clone(),
                    index,
                    source: received.source,
                    message,
                };
                if messages.send(message).await.is_err() {
                    return;
                }
            }
        });
        Ok(Self {
            socket,
            index,
            receiver,
        })
    }

    /// Sends a message to the client of a node.
    ///
    /// # Errors
    /// That of the operating system.
    pub fn send(&self, to: Ipv6Addr, octets: &[u8]) -> io::Result<()> {
        self.socket.send(to, CLIENT_PORT, self.index, octets)
    }
}

impl Drop for RouterLink {
    fn drop(&mut self) {
        self.receiver.abort();
    }
}
