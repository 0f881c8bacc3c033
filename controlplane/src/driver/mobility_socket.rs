//! The Mobility Header socket: raw IPv6, protocol 135, bound to the node's address.

use std::io;
use std::net::{Ipv6Addr, SocketAddrV6};

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::unix::AsyncFd;

use super::raw;
use crate::wire::mobility::{MAXIMUM_OCTETS, NEXT_HEADER};

/// Somewhat more than any header can claim, so that a longer message is told from a whole one.
const RECEIVE_OCTETS: usize = MAXIMUM_OCTETS + 8;

/// Space for bursts of updates while the event loop is busy.
const RECEIVE_BUFFER: usize = 4 << 20;

/// A message as it came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// IPv6 source.
    pub source: Ipv6Addr,
    /// From the IPv6 header.
    pub hop_limit: u8,
    /// From the Mobility Header on.
    pub octets: Vec<u8>,
}

/// A raw socket for the Mobility Header. The kernel writes the checksum of
/// what is sent and silently drops what comes with a wrong one.
#[derive(Debug)]
pub struct MobilitySocket {
    socket: AsyncFd<Socket>,
    /// Names the socket in the kernel's tables.
    inode: u64,
}

impl MobilitySocket {
    /// A socket bound to `address`.
    ///
    /// # Errors
    /// `AddrNotAvailable` while the address is not there (or still tentative);
    /// `PermissionDenied` without CAP_NET_RAW.
    pub fn bind(address: Ipv6Addr) -> io::Result<Self> {
        let socket = Socket::new(
            Domain::IPV6,
            Type::RAW.nonblocking().cloexec(),
            Some(Protocol::from(i32::from(NEXT_HEADER))),
        )?;
        setsockopt(&socket, sockopt::Ipv6RecvHopLimit, &true)?;
        // Best effort: the system's limit may be lower.
        let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
        socket.bind(&SocketAddrV6::new(address, 0, 0, 0).into())?;
        let inode = nix::sys::stat::fstat(&socket)?.st_ino;
        Ok(Self {
            socket: raw::register(socket)?,
            inode,
        })
    }

    /// Waits for a message.
    ///
    /// # Errors
    /// That of the operating system.
    pub async fn receive(&self) -> io::Result<Datagram> {
        let received = raw::receive(&self.socket, RECEIVE_OCTETS).await?;
        Ok(Datagram {
            source: received.source,
            hop_limit: received.hop_limit.unwrap_or(64),
            octets: received.octets,
        })
    }

    /// Sends a message; it does not wait for room.
    ///
    /// # Errors
    /// That of the operating system, such as no route to `to`.
    pub fn send(&self, to: Ipv6Addr, octets: &[u8]) -> io::Result<()> {
        let to = SocketAddrV6::new(to, 0, 0, 0).into();
        self.socket.get_ref().send_to(octets, &to).map(|_| ())
    }

    /// How many messages the kernel has dropped at this socket: their checksum
    /// was wrong, or the receive buffer was full. `None` if it does not say.
    #[must_use]
    pub fn dropped_by_kernel(&self) -> Option<u64> {
        dropped(&std::fs::read_to_string("/proc/self/net/raw6").ok()?, self.inode)
    }
}

/// The last column of the line of the socket `inode`, which is the tenth.
fn dropped(table: &str, inode: u64) -> Option<u64> {
    let inode = inode.to_string();
    let line = table
        .lines()
        .map(|line| line.split_ascii_whitespace().collect::<Vec<_>>())
        .find(|columns| columns.get(9) == Some(&inode.as_str()))?;
    line.last()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_table_of_raw_sockets() {
        let table = "  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
  135: B80D01200000000A0000000001000000:0087 00000000000000000000000000000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 31337 2 0000000000000000 4
";
        assert_eq!(dropped(table, 31337), Some(4));
        assert_eq!(dropped(table, 31338), None);
        assert_eq!(dropped("", 1), None);
    }
}
