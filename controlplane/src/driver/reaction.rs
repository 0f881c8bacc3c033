//! What a node answers to a Mobility Header that it cannot process (RFC 6275 section 9.2).

use std::io;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use crate::time::Time;
use crate::wire::mobility::{
    BindingError, MobilityError, MobilityMessage, NEXT_HEADER, binding_error_status,
};

/// Answers to bad messages in each second, so that they cannot be used to flood
/// a third party: MAX_UPDATE_RATE (RFC 6275 section 12).
const ANSWERS_PER_SECOND: u32 = 3;

const IPV6_HEADER_OCTETS: usize = 40;
/// An ICMPv6 error fits the smallest link (RFC 4443 section 2.4 (c)).
const MINIMUM_MTU: usize = 1280;
const ICMPV6_HEADER_OCTETS: usize = 8;

/// An answer to a message that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// A Binding Error message.
    BindingError(BindingError),
    /// An ICMPv6 Parameter Problem, code 0 (erroneous header field).
    ParameterProblem {
        /// Offset of the bad octet in the IPv6 packet.
        pointer: u32,
    },
}

/// The answer to a message with this outcome of its parser; `None`: silence.
#[must_use]
pub fn reaction(parsed: &Result<MobilityMessage, MobilityError>) -> Option<Reaction> {
    // The socket does not show extension headers, so the pointer assumes that there are none.
    let at = |offset: u32| Reaction::ParameterProblem {
        pointer: IPV6_HEADER_OCTETS as u32 + offset,
    };
    match parsed {
        Ok(MobilityMessage::Other(_)) => Some(Reaction::BindingError(BindingError {
            status: binding_error_status::UNRECOGNISED_MH_TYPE,
            home_address: Ipv6Addr::UNSPECIFIED,
        })),
        Err(MobilityError::PayloadProto(_)) => Some(at(0)),
        Err(MobilityError::HeaderLen { .. }) => Some(at(1)),
        _ => None,
    }
}

/// At most three in each second.
#[derive(Clone, Debug, Default)]
pub struct RateLimit {
    window: Time,
    sent: u32,
}

impl RateLimit {
    /// Whether one more may be sent now.
    pub fn allow(&mut self, now: Time) -> bool {
        if now.since(self.window) >= Duration::from_secs(1) {
            self.window = now;
            self.sent = 0;
        }
        self.sent = self.sent.saturating_add(1);
        self.sent <= ANSWERS_PER_SECOND
    }
}

/// Sends a Parameter Problem about a Mobility Header that came from `to`.
///
/// The kernel has taken the IPv6 header off, so the one in the answer is made
/// again: traffic class and flow label are zero in it.
///
/// # Errors
/// That of the operating system.
pub(super) fn send_parameter_problem(
    local: Ipv6Addr,
    to: Ipv6Addr,
    hop_limit: u8,
    pointer: u32,
    message: &[u8],
) -> io::Result<()> {
    let socket = Socket::new(
        Domain::IPV6,
        Type::RAW.nonblocking().cloexec(),
        Some(Protocol::ICMPV6),
    )?;
    socket.bind(&SocketAddrV6::new(local, 0, 0, 0).into())?;
    let octets = parameter_problem(local, to, hop_limit, pointer, message);
    socket
        .send_to(&octets, &SocketAddrV6::new(to, 0, 0, 0).into())
        .map(|_| ())
}

/// The ICMPv6 message; the kernel fills in the checksum.
fn parameter_problem(local: Ipv6Addr, to: Ipv6Addr, hop_limit: u8, pointer: u32, message: &[u8]) -> Vec<u8> {
    let mut octets = vec![4, 0, 0, 0];
    octets.extend(pointer.to_be_bytes());
    octets.extend([0x60, 0, 0, 0]);
    octets.extend(u16::try_from(message.len()).unwrap_or(u16::MAX).to_be_bytes());
    octets.extend([NEXT_HEADER, hop_limit]);
    octets.extend(to.octets());
    octets.extend(local.octets());
    let room = MINIMUM_MTU - 2 * IPV6_HEADER_OCTETS - ICMPV6_HEADER_OCTETS;
    octets.extend(message.iter().take(room));
    octets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_rfc_names_is_answered() {
        assert_eq!(
            reaction(&Err(MobilityError::PayloadProto(6))),
            Some(Reaction::ParameterProblem { pointer: 40 })
        );
        let header_len = MobilityError::HeaderLen {
            header_len: 0,
            minimum: 1,
            mh_type: 5,
        };
        assert_eq!(
            reaction(&Err(header_len)),
            Some(Reaction::ParameterProblem { pointer: 41 })
        );
        assert!(matches!(
            reaction(&Ok(MobilityMessage::Other(13))),
            Some(Reaction::BindingError(BindingError { status: 2, .. }))
        ));
        for silent in [
            MobilityError::Checksum {
                found: 0,
                expected: 1,
            },
            MobilityError::NotProxy { mh_type: 5 },
            MobilityError::Truncated { octets: 1, needed: 8 },
        ] {
            assert_eq!(reaction(&Err(silent)), None);
        }
    }

    #[test]
    fn three_in_each_second() {
        let mut limit = RateLimit::default();
        let now = Time(Duration::from_secs(100));
        let allowed = (0..10).filter(|_| limit.allow(now)).count();
        assert_eq!(allowed, 3);
        assert!(limit.allow(now.after(Duration::from_secs(1))));
    }

    #[test]
    fn the_packet_in_the_answer_fits_the_smallest_link() {
        let (local, to) = ("2001:db8::1".parse().unwrap(), "2001:db8::2".parse().unwrap());
        let octets = parameter_problem(local, to, 61, 40, &[7; 2000]);
        assert_eq!(octets.len(), MINIMUM_MTU - IPV6_HEADER_OCTETS);
        assert_eq!(
            octets[..16],
            [4, 0, 0, 0, 0, 0, 0, 40, 0x60, 0, 0, 0, 7, 208, 135, 61]
        );
    }
}
