//! Receiving from an IPv6 socket, with what its header said.

use std::io::{self, IoSliceMut};
use std::net::Ipv6Addr;
use std::os::fd::AsRawFd;

use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn6, recvmsg};
use socket2::Socket;
use tokio::io::unix::AsyncFd;

/// One message of a socket: of a raw one, what follows the IPv6 and extension headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// IPv6 source.
    pub source: Ipv6Addr,
    /// IPv6 destination, if the socket was asked to tell.
    pub destination: Option<Ipv6Addr>,
    /// Number of the interface that it came by; 0 if the socket was not asked to tell.
    pub interface: u32,
    /// Hop limit, if the socket was asked to tell.
    pub hop_limit: Option<u8>,
    /// The message; one octet more than `maximum` stands for any longer one.
    pub octets: Vec<u8>,
}

/// Registers a socket with the runtime.
///
/// # Errors
/// That of the operating system.
#[allow(
    deprecated,
    reason = "its replacement is unsafe to call, for types that may close or swap their descriptor; a Socket keeps its own for life"
)]
pub fn register(socket: Socket) -> io::Result<AsyncFd<Socket>> {
    AsyncFd::new(socket)
}

/// Waits for one message of at most `maximum` octets.
///
/// # Errors
/// That of the operating system.
pub async fn receive(socket: &AsyncFd<Socket>, maximum: usize) -> io::Result<Received> {
    loop {
        let mut guard = socket.readable().await?;
        if let Ok(result) = guard.try_io(|socket| receive_now(socket.get_ref(), maximum)) {
            return result;
        }
    }
}

fn receive_now(socket: &Socket, maximum: usize) -> io::Result<Received> {
    let mut octets = vec![0; maximum + 1];
    let mut control = nix::cmsg_space!(nix::libc::in6_pktinfo, nix::libc::c_int);
    let mut parts = [IoSliceMut::new(&mut octets)];
    let message = recvmsg::<SockaddrIn6>(
        socket.as_raw_fd(),
        &mut parts,
        Some(&mut control),
        MsgFlags::empty(),
    )?;
    let source = message
        .address
        .map_or(Ipv6Addr::UNSPECIFIED, |address| address.ip());
    let (mut destination, mut interface, mut hop_limit) = (None, 0, None);
    for item in message.cmsgs()? {
        match item {
            ControlMessageOwned::Ipv6PacketInfo(info) => {
                destination = Some(Ipv6Addr::from(info.ipi6_addr.s6_addr));
                interface = info.ipi6_ifindex;
            }
            ControlMessageOwned::Ipv6HopLimit(limit) => hop_limit = u8::try_from(limit).ok(),
            _ => {}
        }
    }
    let length = message.bytes;
    octets.truncate(length);
    Ok(Received {
        source,
        destination,
        interface,
        hop_limit,
        octets,
    })
}
