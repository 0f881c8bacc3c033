//! The UDP sockets of path management: the node's addresses, port 2152.
//!
//! The data plane takes user traffic before it comes here, and answers Echo Requests; what is left is
//! passed to the kernel, and so to these sockets. Peers of IPv4 are told as IPv4-mapped addresses.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;

use tokio::net::UdpSocket;

use crate::wire::gtpu::{Malformed, Message, PORT, g_pdu};

/// Longer than any message about a path.
const LONGEST: usize = 2048;

/// A message, or what is wrong with it, and who sent it.
pub type Received = (Ipv6Addr, Result<Message, Malformed>);

/// Sockets for GTP-U messages about paths.
#[derive(Debug)]
pub struct PathSocket {
    ipv6: Socket,
    ipv4: Option<Socket>,
}

#[derive(Debug)]
struct Socket {
    socket: UdpSocket,
    /// The same, to send by without waiting to be told that it can be written to.
    sender: std::net::UdpSocket,
}

impl PathSocket {
    /// Sockets bound to `address` and, where tunnels go over IPv4, to that one.
    ///
    /// # Errors
    /// `AddrNotAvailable` while an address is not there; `AddrInUse` where another program has the port.
    pub fn bind(address: Ipv6Addr, ipv4: Option<Ipv4Addr>) -> io::Result<Self> {
        Ok(Self {
            ipv6: Socket::bind(address.into())?,
            ipv4: ipv4.map(|address| Socket::bind(address.into())).transpose()?,
        })
    }

    /// Waits for a message; gives who sent it.
    ///
    /// # Errors
    /// That of the operating system.
    pub async fn receive(&self) -> io::Result<Received> {
        match &self.ipv4 {
            None => self.ipv6.receive().await,
            Some(ipv4) => tokio::select! {
                received = self.ipv6.receive() => received,
                received = ipv4.receive() => received,
            },
        }
    }

    /// Sends a packet in a G-PDU (3GPP TS 29.281 section 5.1), on the tunnel that the peer has `teid` for.
    ///
    /// # Errors
    /// As [`PathSocket::send`].
    pub fn send_packet(&self, to: Ipv6Addr, teid: NonZeroU32, packet: &[u8]) -> io::Result<()> {
        self.send_octets(to, &g_pdu(teid, packet))
    }

    /// Sends a message; it does not wait for room.
    ///
    /// # Errors
    /// That of the operating system, such as no route to `to`; and `AddrNotAvailable` for a peer of IPv4 where this
    /// node has no address for that.
    pub fn send(&self, to: Ipv6Addr, message: &Message) -> io::Result<()> {
        self.send_octets(to, &message.emit())
    }

    fn send_octets(&self, to: Ipv6Addr, octets: &[u8]) -> io::Result<()> {
        let to = to.to_canonical();
        let socket = match (to, &self.ipv4) {
            (IpAddr::V6(_), _) => &self.ipv6,
            (IpAddr::V4(_), Some(ipv4)) => ipv4,
            (IpAddr::V4(_), None) => return Err(io::ErrorKind::AddrNotAvailable.into()),
        };
        let sent = socket.sender.send_to(octets, SocketAddr::new(to, PORT));
        sent.map(|_| ())
    }
}

impl Socket {
    fn bind(address: IpAddr) -> io::Result<Self> {
        let sender = std::net::UdpSocket::bind(SocketAddr::new(address, PORT))?;
        sender.set_nonblocking(true)?;
        let socket = UdpSocket::from_std(sender.try_clone()?)?;
        Ok(Self { socket, sender })
    }

    async fn receive(&self) -> io::Result<Received> {
        let mut octets = [0; LONGEST];
        let (length, from) = self.socket.recv_from(&mut octets).await?;
        let from = match from.ip() {
            IpAddr::V6(from) => from,
            IpAddr::V4(from) => from.to_ipv6_mapped(),
        };
        let message = Message::parse(octets.get(..length).unwrap_or_default());
        Ok((from, message))
    }
}
