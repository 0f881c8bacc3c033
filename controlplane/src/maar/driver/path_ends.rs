//! Path ends on their way: each is said when the data plane has stopped using the old way, and then again.
//!
//! A path end must be behind the last packet. So it waits until the data plane has confirmed the tables that
//! end the way. It can be lost, or come to a gateway that has not heard yet that the node has left it, and
//! delivers it on an empty link; so it is said several times. More than one does no harm.

use std::io;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::time::Duration;

use ipnet::Ipv6Net;
use socket2::{Domain, Protocol, Socket, Type};

use crate::time::Time;
use crate::wire::mobility::TunnelType;

/// Between one and the next.
const PAUSES: [Duration; 2] = [Duration::from_millis(4), Duration::from_millis(12)];
/// IPv6 in IPv6 (RFC 2473).
const IPV6: i32 = 41;
/// RFC 2784, RFC 7676.
const GRE: i32 = 47;

/// What the peer of an old way is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PathEnd {
    /// The gateway to which the prefix was tunnelled.
    pub(super) to: Ipv6Addr,
    /// The prefix.
    pub(super) prefix: Ipv6Net,
    /// By what.
    pub(super) by: TunnelType,
}

#[derive(Clone, Copy, Debug)]
enum When {
    /// When the data plane has these tables.
    Confirmed(u64),
    /// The last of them, or another one.
    At(Time),
}

/// All that are to be said.
#[derive(Debug, Default)]
pub(super) struct PathEnds {
    waiting: Vec<(PathEnd, When, usize)>,
    confirmed: u64,
}

impl PathEnds {
    /// Another one, of tables that will have this revision.
    pub(super) fn add(&mut self, end: PathEnd, revision: u64) {
        // What was not said yet of the same way is not true any more or said by this one.
        self.waiting
            .retain(|(it, ..)| (it.to, it.prefix) != (end.to, end.prefix));
        self.waiting.push((end, When::Confirmed(revision), 0));
    }

    /// The data plane has the tables of this revision.
    pub(super) fn confirmed(&mut self, revision: u64) {
        self.confirmed = revision;
    }

    /// When one is due; at the beginning of time where it is due at once.
    pub(super) fn next_deadline(&self) -> Option<Time> {
        let due = self.waiting.iter().filter_map(|(_, when, _)| match when {
            When::Confirmed(revision) => (*revision <= self.confirmed).then(Time::default),
            When::At(time) => Some(*time),
        });
        due.min()
    }

    /// What is to be said now.
    pub(super) fn due(&mut self, now: Time) -> Vec<PathEnd> {
        let confirmed = self.confirmed;
        let mut due = Vec::new();
        self.waiting.retain_mut(|(end, when, said)| {
            let ripe = match when {
                When::Confirmed(revision) => *revision <= confirmed,
                When::At(time) => *time <= now,
            };
            if !ripe {
                return true;
            }
            due.push(*end);
            let Some(pause) = PAUSES.get(*said) else {
                return false;
            };
            *said += 1;
            *when = When::At(now.after(*pause));
            true
        });
        due
    }
}

/// Send packets in tunnels without ports; they take none. Each is open from its first packet on.
#[derive(Debug, Default)]
pub(super) struct TunnelSockets {
    ipv6: Option<Socket>,
    gre: Option<Socket>,
}

impl TunnelSockets {
    /// In IPv6.
    ///
    /// # Errors
    /// `AddrNotAvailable` while `from` is not there.
    pub(super) fn send_ipv6(&mut self, from: Ipv6Addr, to: Ipv6Addr, packet: &[u8]) -> io::Result<()> {
        send(&mut self.ipv6, IPV6, from, to, packet)
    }

    /// In GRE with a key (RFC 2890).
    ///
    /// # Errors
    /// As [`TunnelSockets::send_ipv6`].
    pub(super) fn send_gre(
        &mut self,
        from: Ipv6Addr,
        to: Ipv6Addr,
        key: u32,
        packet: &[u8],
    ) -> io::Result<()> {
        // The key is there, nothing else; IPv6 follows.
        let header = [[0x20, 0, 0x86, 0xdd], key.to_be_bytes()].concat();
        send(&mut self.gre, GRE, from, to, &[&header, packet].concat())
    }
}

fn send(
    socket: &mut Option<Socket>,
    protocol: i32,
    from: Ipv6Addr,
    to: Ipv6Addr,
    octets: &[u8],
) -> io::Result<()> {
    let open = match socket.take() {
        Some(open) => open,
        None => bind(protocol, from)?,
    };
    let to = SocketAddrV6::new(to, 0, 0, 0);
    socket.insert(open).send_to(octets, &to.into()).map(|_| ())
}

fn bind(protocol: i32, address: Ipv6Addr) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::IPV6,
        Type::RAW.nonblocking().cloexec(),
        Some(Protocol::from(protocol)),
    )?;
    socket.bind(&SocketAddrV6::new(address, 0, 0, 0).into())?;
    // Nobody reads what comes in.
    socket.set_recv_buffer_size(1)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: PathEnd = PathEnd {
        to: Ipv6Addr::LOCALHOST,
        prefix: Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 64),
        by: TunnelType::Ipv6InIpv6,
    };

    fn at(milliseconds: u64) -> Time {
        Time(Duration::from_millis(milliseconds))
    }

    #[test]
    fn one_is_said_when_the_data_plane_is_there_and_twice_more() {
        let mut ends = PathEnds::default();
        ends.add(END, 7);
        ends.confirmed(6);
        assert_eq!((ends.next_deadline(), ends.due(at(1000))), (None, vec![]));
        ends.confirmed(7);
        assert_eq!(ends.next_deadline(), Some(Time::default()));
        assert_eq!(ends.due(at(1000)), [END]);
        assert_eq!(ends.due(at(1003)), []);
        assert_eq!(ends.next_deadline(), Some(at(1004)));
        assert_eq!(ends.due(at(1005)), [END]);
        assert_eq!(ends.due(at(1017)), [END]);
        assert_eq!((ends.next_deadline(), ends.due(at(9999))), (None, vec![]));
    }
}
