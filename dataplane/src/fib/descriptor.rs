//! What a slot says of what is below it: 32 bits, of which 0 is nothing.
//!
//! ```text
//!   31    30                            4   3     2      1 0
//! +-----+-------------------------------+-----+------+-------+
//! | FAN |       number of a line        | LOW | KIND | WIDTH |
//! +-----+-------------------------------+-----+------+-------+
//!  WIDTH 1, 2, 3: a node of 3, 6, 9 bits, 12 with WIDTH 3 and LOW;
//!                 KIND set: its slots have 4 octets, results only; else 8
//!                 KIND and FAN set: 1 octet (`packed`); of 9 bits only
//!  WIDTH 0:       KIND set: skipped bits; else, with FAN, a fan, without, a bucket;
//!                 LOW set: bits 64 to 127 of the address begin here; a fan is of short prefixes
//! ```
//!
//! So that the step through a node, by far the most frequent, need not ask for
//! LOW, a node where the lower half begins stands behind a skip of no bits.
//!
//! The upper bits, as they are, are the place of the line counted in units of four
//! octets: what a vector load takes. A slot has a descriptor in its lower 32 bits,
//! a result in its upper ones.

use super::packed;

/// Most entries of a bucket.
pub(super) const BUCKET: usize = 5;

/// Set where the upper half of the address ends, and in nodes of 12 bits.
pub(super) const LOW: u32 = 8;
const KIND: u32 = 4;
const WIDTH: u32 = 3;
/// Set in a fan, and in a packed node. With KIND alone it is a bucket of short prefixes within a fan, said by a lookup on its way only.
pub(super) const FAN: u32 = 1 << 31;

/// Bits of a node, by the lower four bits of its descriptor.
const BITS: [u8; 16] = [0, 3, 6, 9, 0, 3, 6, 9, 0, 0, 0, 12, 0, 0, 0, 12];

/// A reference to lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Descriptor(pub(super) u32);

/// What a descriptor is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing.
    None,
    /// 2^bits slots.
    Node {
        /// 3, 6, 9 or 12.
        bits: u32,
        /// Slots without children, of 4 octets or 1.
        narrow: bool,
        /// Of 1.
        packed: bool,
    },
    /// Bits that everything below has in common.
    Skip,
    /// Up to [`BUCKET`] prefixes.
    Bucket,
    /// Buckets in order (see `fan`).
    Fan {
        /// Of short prefixes.
        short: bool,
    },
    /// A bucket of prefixes of up to 31 bits, in a fan.
    ShortBucket,
}

impl Descriptor {
    pub(super) const NONE: Self = Self(0);

    pub(super) fn node(line: u32, bits: u32, narrow: bool) -> Self {
        let width = if bits == 12 { LOW | WIDTH } else { bits / 3 };
        Self(line << 4 | if narrow { KIND } else { 0 } | width)
    }

    /// A node of [`packed::BITS`] with slots of one octet.
    pub(super) fn packed(line: u32) -> Self {
        Self(FAN | Self::node(line, packed::BITS, true).0)
    }

    pub(super) fn skip(line: u32) -> Self {
        Self(line << 4 | KIND)
    }

    pub(super) fn bucket(line: u32) -> Self {
        Self(line << 4)
    }

    pub(super) fn fan(line: u32, short: bool) -> Self {
        Self(FAN | line << 4 | if short { LOW } else { 0 })
    }

    pub(super) fn short_bucket(line: u32) -> Self {
        Self(FAN | line << 4 | KIND)
    }

    /// Marked as where the lower half of the address begins: a skip or a bucket.
    pub(super) fn low(self) -> Self {
        debug_assert!(self.0 & WIDTH == 0, "{self:?}");
        Self(self.0 | LOW)
    }

    pub(super) fn with_line(self, line: u32) -> Self {
        Self(line << 4 | self.0 & (FAN | 15))
    }

    #[inline]
    pub(super) fn is_none(self) -> bool {
        self.0 == 0
    }

    #[inline]
    pub(super) fn is_low(self) -> bool {
        self.0 & (FAN | LOW | WIDTH) == LOW
    }

    #[inline]
    pub(super) fn line(self) -> u32 {
        (self.0 & !FAN) >> 4
    }

    /// The same in units of four octets.
    #[inline]
    pub(super) fn start(self) -> u32 {
        self.0 & !(FAN | 15)
    }

    #[inline]
    pub(super) fn is_node(self) -> bool {
        self.0 & WIDTH != 0
    }

    /// Bits of the node that it is; `None`: it is none.
    #[inline]
    pub(super) fn node_bits(self) -> Option<u32> {
        (self.0 & WIDTH != 0).then(|| u32::from(BITS[(self.0 & 15) as usize]))
    }

    /// Of a node: whether its slots have no children.
    #[inline]
    pub(super) fn is_narrow(self) -> bool {
        self.0 & KIND != 0
    }

    /// Of a narrow node: whether its slots have one octet.
    #[inline]
    pub(super) fn is_packed(self) -> bool {
        self.0 & FAN != 0
    }

    #[inline]
    pub(super) fn kind(self) -> Kind {
        if let Some(bits) = self.node_bits() {
            return Kind::Node {
                bits,
                narrow: self.is_narrow(),
                packed: self.is_narrow() && self.is_packed(),
            };
        }
        match (self.0, self.0 & FAN != 0, self.0 & KIND != 0) {
            (0, ..) => Kind::None,
            (_, false, true) => Kind::Skip,
            (_, false, false) => Kind::Bucket,
            (_, true, true) => Kind::ShortBucket,
            (_, true, false) => Kind::Fan {
                short: self.0 & LOW != 0,
            },
        }
    }

    /// Lines that it has; of a fan the first only.
    pub(super) fn lines(self) -> u32 {
        match self.kind() {
            Kind::None => 0,
            Kind::Skip | Kind::Bucket | Kind::Fan { .. } | Kind::ShortBucket => 1,
            Kind::Node { packed: true, .. } => packed::LINES,
            Kind::Node { bits, narrow, .. } => ((1 << bits) / if narrow { 16 } else { 8 }).max(1),
        }
    }
}
