//! The UDP socket of path management: the node's address, port 2152.
//!
//! The data plane takes user traffic before it comes here, and answers Echo Requests; what is left is
//! passed to the kernel, and so to this socket.

use std::io;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};

use tokio::net::UdpSocket;

use crate::wire::gtpu::{Malformed, Message, PORT};

/// Longer than any message about a path.
const LONGEST: usize = 2048;

/// A socket for GTP-U messages about paths.
#[derive(Debug)]
pub struct PathSocket {
    socket: UdpSocket,
    /// The same, to send by without waiting to be told that it can be written to.
    sender: std::net::UdpSocket,
}

impl PathSocket {
    /// A socket bound to `address`.
    ///
    /// # Errors
    /// `AddrNotAvailable` while the address is not there; `AddrInUse` where another program has the port.
    pub fn bind(address: Ipv6Addr) -> io::Result<Self> {
        let sender = std::net::UdpSocket::bind(SocketAddrV6::new(address, PORT, 0, 0))?;
        sender.set_nonblocking(true)?;
        let socket = UdpSocket::from_std(sender.try_clone()?)?;
        Ok(Self { socket, sender })
    }

    /// Waits for a message; gives who sent it.
    ///
    /// # Errors
    /// That of the operating system.
    pub async fn receive(&self) -> io::Result<(Ipv6Addr, Result<Message, Malformed>)> {
        let mut octets = [0; LONGEST];
        loop {
            let (length, from) = self.socket.recv_from(&mut octets).await?;
            // An IPv6 socket that is bound to an address gets nothing else.
            let SocketAddr::V6(from) = from else { continue };
            let message = Message::parse(octets.get(..length).unwrap_or_default());
            return Ok((*from.ip(), message));
        }
    }

    /// Sends a message; it does not wait for room.
    ///
    /// # Errors
    /// That of the operating system, such as no route to `to`.
    pub fn send(&self, to: Ipv6Addr, message: &Message) -> io::Result<()> {
        let to = SocketAddrV6::new(to, PORT, 0, 0);
        self.sender.send_to(&message.emit(), to).map(|_| ())
    }
}
