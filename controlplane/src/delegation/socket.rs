//! UDP sockets of DHCPv6 (RFC 8415 section 7.2).

use std::io;
use std::net::{Ipv6Addr, SocketAddrV6};

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::unix::AsyncFd;

use super::wire::{ALL_RELAYS_AND_SERVERS, SERVER_PORT};
use crate::driver::{Received, receive, register};

/// The longest UDP payload.
const LONGEST: usize = 65_527;

/// A UDP socket that says by which interface a datagram came.
#[derive(Debug)]
pub(crate) struct DhcpSocket(AsyncFd<Socket>);

impl DhcpSocket {
    /// A socket at `port` of `address`, which may be unspecified.
    ///
    /// # Errors
    /// `AddrNotAvailable` while the address is not there; `AddrInUse` where another program has the port.
    pub(super) fn bind(address: Ipv6Addr, port: u16) -> io::Result<Self> {
        let socket = Socket::new(
            Domain::IPV6,
            Type::DGRAM.nonblocking().cloexec(),
            Some(Protocol::UDP),
        )?;
        socket.set_only_v6(true)?;
        setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
        socket.bind(&SocketAddrV6::new(address, port, 0, 0).into())?;
        Ok(Self(register(socket)?))
    }

    /// A socket for the server's port on one interface alone, which hears what is sent to all servers there.
    ///
    /// # Errors
    /// That of the operating system.
    pub(crate) fn serve(name: &str, interface: u32) -> io::Result<Self> {
        let socket = Socket::new(
            Domain::IPV6,
            Type::DGRAM.nonblocking().cloexec(),
            Some(Protocol::UDP),
        )?;
        socket.set_only_v6(true)?;
        socket.bind_device(Some(name.as_bytes()))?;
        setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
        socket.bind(&SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, SERVER_PORT, 0, 0).into())?;
        let socket = Self(register(socket)?);
        socket.join(interface)?;
        Ok(socket)
    }

    /// Hears what is sent to all servers on the link of that interface.
    ///
    /// # Errors
    /// That of the operating system.
    pub(super) fn join(&self, interface: u32) -> io::Result<()> {
        self.0
            .get_ref()
            .join_multicast_v6(&ALL_RELAYS_AND_SERVERS, interface)
    }

    /// Waits for a datagram.
    ///
    /// # Errors
    /// That of the operating system, such as one that a datagram sent before came to.
    pub(crate) async fn receive(&self) -> io::Result<Received> {
        receive(&self.0, LONGEST).await
    }

    /// Sends a datagram; it does not wait for room. `interface`: 0 where the routing table says it.
    ///
    /// # Errors
    /// That of the operating system.
    pub(crate) fn send(&self, to: Ipv6Addr, port: u16, interface: u32, octets: &[u8]) -> io::Result<()> {
        let to = SocketAddrV6::new(to, port, 0, interface);
        self.0.get_ref().send_to(octets, &to.into()).map(|_| ())
    }
}

/// The number of an interface; `None` while it is not there.
pub(super) fn number_of(interface: &str) -> Option<u32> {
    nix::net::if_::if_nametoindex(interface).ok()
}

/// The next datagram; never, while there is no socket.
pub(super) async fn next(socket: Option<&DhcpSocket>) -> io::Result<Received> {
    match socket {
        Some(socket) => socket.receive().await,
        None => std::future::pending().await,
    }
}
