//! What was counted of a prefix or of a filter, as values that travel and are stored.

use serde::{Deserialize, Serialize};

use crate::event::Event;
use crate::identity::MobileNodeIdentifier;
use crate::transfer::Outbox;
use crate::wire::mobility::Context;
use ipnet::Ipv6Net;
use kedge_config::Meter;

/// Packets and octets, and when there were any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "[u64; 6]", into = "[u64; 6]")]
pub struct Count {
    /// Packets to the node.
    pub to_packets: u64,
    /// Octets of those, IPv6 header included.
    pub to_bytes: u64,
    /// Packets from the node.
    pub from_packets: u64,
    /// Octets of those.
    pub from_bytes: u64,
    /// Of the first packet, milliseconds since 1970; 0: there was none.
    pub first_unix_ms: u64,
    /// Of the last one.
    pub last_unix_ms: u64,
}

impl Count {
    /// The sum.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            to_packets: self.to_packets.wrapping_add(other.to_packets),
            to_bytes: self.to_bytes.wrapping_add(other.to_bytes),
            from_packets: self.from_packets.wrapping_add(other.from_packets),
            from_bytes: self.from_bytes.wrapping_add(other.from_bytes),
            first_unix_ms: match (self.first_unix_ms, other.first_unix_ms) {
                (0, time) | (time, 0) => time,
                (one, other) => one.min(other),
            },
            last_unix_ms: self.last_unix_ms.max(other.last_unix_ms),
        }
    }

    /// What came after `earlier`, which is part of it. Of when the first of that was nobody knows more than that it was
    /// after the last before.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        let to_packets = self.to_packets.saturating_sub(earlier.to_packets);
        let from_packets = self.from_packets.saturating_sub(earlier.from_packets);
        if to_packets == 0 && from_packets == 0 {
            return Self::default();
        }
        Self {
            to_packets,
            to_bytes: self.to_bytes.saturating_sub(earlier.to_bytes),
            from_packets,
            from_bytes: self.from_bytes.saturating_sub(earlier.from_bytes),
            first_unix_ms: self.first_unix_ms.max(earlier.last_unix_ms),
            last_unix_ms: self.last_unix_ms,
        }
    }

    /// An event with it.
    pub(crate) fn told_by(self, event: Event) -> Event {
        event
            .with("to_packets", self.to_packets)
            .with("to_bytes", self.to_bytes)
            .with("from_packets", self.from_packets)
            .with("from_bytes", self.from_bytes)
            .with("first_unix_ms", self.first_unix_ms)
            .with("last_unix_ms", self.last_unix_ms)
    }

    /// The same, whenever it was.
    #[must_use]
    pub fn is_as_much_as(self, other: Self) -> bool {
        let much = |it: Self| (it.to_packets, it.to_bytes, it.from_packets, it.from_bytes);
        much(self) == much(other)
    }

    /// Nothing was counted.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self == Self::default()
    }
}

impl From<[u64; 6]> for Count {
    fn from(
        [
            to_packets,
            to_bytes,
            from_packets,
            from_bytes,
            first_unix_ms,
            last_unix_ms,
        ]: [u64; 6],
    ) -> Self {
        Self {
            to_packets,
            to_bytes,
            from_packets,
            from_bytes,
            first_unix_ms,
            last_unix_ms,
        }
    }
}

impl From<Count> for [u64; 6] {
    fn from(count: Count) -> Self {
        let Count {
            to_packets,
            to_bytes,
            from_packets,
            from_bytes,
            first_unix_ms,
            last_unix_ms,
        } = count;
        [
            to_packets,
            to_bytes,
            from_packets,
            from_bytes,
            first_unix_ms,
            last_unix_ms,
        ]
    }
}

/// Something that is on its way to the next anchor of a prefix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Whose prefix it was.
    pub identifier: MobileNodeIdentifier,
    /// The prefix.
    pub prefix: Ipv6Net,
    /// What there is of it.
    pub context: Context,
    /// The meter that a filter names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meter: Option<Meter>,
}

impl Record {
    /// It cannot be kept any longer until `to` has it: what it says is in the event, and nowhere else any more.
    pub(crate) fn given_up(&self, to: &str) -> Event {
        let Self {
            identifier, prefix, ..
        } = self;
        let (filter, count) = match &self.context {
            Context::Usage { filter, count } => (filter.clone(), Some(*count)),
            Context::Filter(rule) => (Some(rule.name.clone()), None),
        };
        let what = match (&filter, count) {
            (None, _) => "what was counted".to_owned(),
            (Some(name), Some(_)) => format!("what was counted by filter {name}"),
            (Some(name), None) => format!("filter {name}"),
        };
        let text = format!("too much waits for {to}: {what} of {prefix} of {identifier} is given up");
        let event = Event::new("context_given_up", text)
            .with("identifier", identifier)
            .with("prefix", prefix)
            .with("filter", filter.unwrap_or_default());
        match count {
            Some(count) => count.told_by(event),
            None => event,
        }
    }
}

/// What is on its way to one receiver.
pub type Records = Outbox<Record>;
