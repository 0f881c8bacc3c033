//! What was counted of a prefix or of a filter, as values that travel and are stored.

use serde::{Deserialize, Serialize};

use crate::event::Event;
use crate::identity::MobileNodeIdentifier;
use crate::transfer::Outbox;
use crate::wire::mobility::{Context, TransferredMeter};
use ipnet::Ipv6Net;

/// Packets and octets, and when there were any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<u64>", into = "Vec<u64>")]
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
    /// Of a filter that meters: of which colour they were.
    pub colours: Colours,
}

/// What was metered: green, yellow, red.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Colours {
    /// Packets.
    pub packets: [u64; 3],
    /// Octets of those, IPv6 header included.
    pub bytes: [u64; 3],
}

impl Colours {
    /// The sum.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        self.with(other, u64::wrapping_add)
    }

    /// What came after `earlier`, which is part of it.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        self.with(earlier, u64::saturating_sub)
    }

    fn with(mut self, other: Self, both: impl Fn(u64, u64) -> u64) -> Self {
        let mine = self.packets.iter_mut().chain(&mut self.bytes);
        for (mine, its) in mine.zip(other.packets.into_iter().chain(other.bytes)) {
            *mine = both(*mine, its);
        }
        self
    }

    /// Packets and octets of each colour in turn, as they travel.
    #[must_use]
    pub fn numbers(self) -> [u64; 6] {
        let ([green, yellow, red], [of_green, of_yellow, of_red]) = (self.packets, self.bytes);
        [green, of_green, yellow, of_yellow, red, of_red]
    }
}

impl From<[u64; 6]> for Colours {
    fn from([green, of_green, yellow, of_yellow, red, of_red]: [u64; 6]) -> Self {
        Self {
            packets: [green, yellow, red],
            bytes: [of_green, of_yellow, of_red],
        }
    }
}

/// Octets that a meter has in its buckets. Neither is above its burst.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fill {
    /// In the committed bucket.
    pub committed: u64,
    /// In the peak or the excess bucket.
    pub other: u64,
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
            colours: self.colours.plus(other.colours),
        }
    }

    /// What came after `earlier`, which is part of it. Of when the first of that was nobody knows more than that it was
    /// after the last before.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        let to_packets = self.to_packets.saturating_sub(earlier.to_packets);
        let from_packets = self.from_packets.saturating_sub(earlier.from_packets);
        let colours = self.colours.since(earlier.colours);
        if to_packets == 0 && from_packets == 0 && colours == Colours::default() {
            return Self::default();
        }
        Self {
            to_packets,
            to_bytes: self.to_bytes.saturating_sub(earlier.to_bytes),
            from_packets,
            from_bytes: self.from_bytes.saturating_sub(earlier.from_bytes),
            first_unix_ms: self.first_unix_ms.max(earlier.last_unix_ms),
            last_unix_ms: self.last_unix_ms,
            colours,
        }
    }

    /// An event with it.
    pub(crate) fn told_by(self, event: Event) -> Event {
        let event = event
            .with("to_packets", self.to_packets)
            .with("to_bytes", self.to_bytes)
            .with("from_packets", self.from_packets)
            .with("from_bytes", self.from_bytes)
            .with("first_unix_ms", self.first_unix_ms)
            .with("last_unix_ms", self.last_unix_ms);
        if self.colours == Colours::default() {
            return event;
        }
        let [green, of_green, yellow, of_yellow, red, of_red] = self.colours.numbers();
        event
            .with("green_packets", green)
            .with("green_bytes", of_green)
            .with("yellow_packets", yellow)
            .with("yellow_bytes", of_yellow)
            .with("red_packets", red)
            .with("red_bytes", of_red)
    }

    /// The same, whenever it was.
    #[must_use]
    pub fn is_as_much_as(self, other: Self) -> bool {
        let much = |it: Self| (it.to_packets, it.to_bytes, it.from_packets, it.from_bytes);
        much(self) == much(other) && self.colours == other.colours
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
            colours: Colours::default(),
        }
    }
}

/// As it is stored: six numbers, and six more where something was metered.
impl From<Vec<u64>> for Count {
    fn from(numbers: Vec<u64>) -> Self {
        let six = |from: usize| -> [u64; 6] {
            std::array::from_fn(|at| numbers.get(from + at).copied().unwrap_or_default())
        };
        Self {
            colours: six(6).into(),
            ..Self::from(six(0))
        }
    }
}

impl From<Count> for Vec<u64> {
    fn from(count: Count) -> Self {
        let metered = count.colours != Colours::default();
        let colours = metered.then(|| count.colours.numbers());
        let numbers = <[u64; 6]>::from(count).into_iter();
        numbers.chain(colours.into_iter().flatten()).collect()
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
            colours: _,
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
    pub meter: Option<TransferredMeter>,
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
