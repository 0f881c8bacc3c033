//! What relays send each other and to servers (RFC 8415 sections 9 and 19).

use std::net::Ipv6Addr;

use serde::{Deserialize, Serialize};

use super::emit::put;
use super::message::option;
use super::parse::Options;
use super::{Message, WireError};

/// Relays that a message may go through (RFC 8415 section 7.6).
pub const HOP_COUNT_LIMIT: u8 = 8;

const RELAY_FORWARD: u8 = 12;
const RELAY_REPLY: u8 = 13;
const HEADER: usize = 34;

/// What a UDP payload is.
#[allow(
    clippy::large_enum_variant,
    reason = "one at a time, taken apart at once; a box would cost more"
)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// Of a client or server.
    Message(Message),
    /// Of a relay, or to one.
    Relay(Relay),
}

/// A Relay-forward or a Relay-reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relay {
    /// Toward the server.
    pub forward: bool,
    /// What the relay says of itself, and of the one below.
    pub hop: Hop,
    /// The message in it, which may be of a relay again.
    pub message: Vec<u8>,
}

/// What a server repeats in its answer (RFC 8415 section 19.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hop {
    /// Relays before this one.
    pub count: u8,
    /// Of the link that the client is on; unspecified if the Interface-Id says it.
    pub link: Ipv6Addr,
    /// Who sent to the relay: the client, or another relay.
    pub peer: Ipv6Addr,
    /// The relay's own name for the interface.
    pub interface: Option<Vec<u8>>,
}

impl Packet {
    /// Reads what came by UDP.
    ///
    /// # Errors
    /// A [`WireError`] that names what is wrong.
    pub fn parse(octets: &[u8]) -> Result<Self, WireError> {
        match octets.first() {
            Some(&(RELAY_FORWARD | RELAY_REPLY)) => Relay::parse(octets).map(Self::Relay),
            _ => Message::parse(octets).map(Self::Message),
        }
    }
}

impl Relay {
    fn parse(octets: &[u8]) -> Result<Self, WireError> {
        let bad = || WireError::Header {
            octets: octets.len(),
            needed: HEADER,
        };
        let ([kind, count], rest) = octets.split_first_chunk().ok_or_else(bad)?;
        let (link, rest) = rest.split_first_chunk::<16>().ok_or_else(bad)?;
        let (peer, rest) = rest.split_first_chunk::<16>().ok_or_else(bad)?;
        let (mut message, mut interface) = (None, None);
        for item in Options(rest) {
            let (code, data) = item?;
            let slot = match code {
                option::RELAY_MESSAGE => &mut message,
                option::INTERFACE_ID => &mut interface,
                _ => continue,
            };
            if slot.replace(data.to_vec()).is_some() {
                return Err(WireError::Twice { option: code });
            }
        }
        Ok(Self {
            forward: *kind == RELAY_FORWARD,
            hop: Hop {
                count: *count,
                link: Ipv6Addr::from(*link),
                peer: Ipv6Addr::from(*peer),
                interface,
            },
            message: message.ok_or(WireError::Missing {
                option: option::RELAY_MESSAGE,
            })?,
        })
    }

    /// As it goes on the wire.
    ///
    /// # Errors
    /// [`WireError::TooLong`].
    pub fn emit(&self) -> Result<Vec<u8>, WireError> {
        let kind = if self.forward { RELAY_FORWARD } else { RELAY_REPLY };
        let mut octets = vec![kind, self.hop.count];
        octets.extend(self.hop.link.octets());
        octets.extend(self.hop.peer.octets());
        let plain = |octets: &mut Vec<u8>, code, from: &[u8]| {
            put(octets, code, |data| {
                data.extend(from);
                Ok(())
            })
        };
        if let Some(interface) = &self.hop.interface {
            plain(&mut octets, option::INTERFACE_ID, interface)?;
        }
        plain(&mut octets, option::RELAY_MESSAGE, &self.message)?;
        Ok(octets)
    }
}
