//! Prefixes as the table takes them apart.

use ipnet::Ipv6Net;

/// A prefix, host bits zero. Ordered by address, then the shorter first: what is in a prefix follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Prefix {
    pub(super) high: u64,
    pub(super) low: u64,
    pub(super) length: u8,
}

impl Prefix {
    pub(super) fn of(net: Ipv6Net) -> Self {
        Self::new(u128::from(net.network()), u32::from(net.prefix_len()))
    }

    fn new(bits: u128, length: u32) -> Self {
        let bits = bits & mask(length);
        Self {
            high: (bits >> 64) as u64,
            low: bits as u64,
            length: length as u8,
        }
    }

    fn bits(self) -> u128 {
        u128::from(self.high) << 64 | u128::from(self.low)
    }

    /// The bits from `depth` on, to the end of their half of the address, the first one uppermost.
    #[inline]
    pub(super) fn key(self, depth: u32) -> u64 {
        key(self.bits(), depth)
    }

    /// Its bits behind `depth`.
    #[inline]
    pub(super) fn rest(self, depth: u32) -> u32 {
        u32::from(self.length) - depth
    }

    /// Its first `length` bits.
    pub(super) fn cut(self, length: u32) -> Self {
        Self::new(self.bits(), length)
    }

    /// The prefix that has its first `depth` bits and then `length` bits of `key`.
    pub(super) fn extend(self, depth: u32, key: u64, length: u32) -> Self {
        let behind = if depth < 64 {
            u128::from(key) << 64 >> depth
        } else {
            u128::from(key) >> (depth - 64)
        };
        Self::new(self.bits() & mask(depth) | behind, depth + length)
    }
}

/// The bits of an address from `depth` on, to the end of their half.
#[inline]
pub(super) fn key(bits: u128, depth: u32) -> u64 {
    if depth < 64 {
        ((bits >> 64) as u64) << depth
    } else {
        (bits as u64) << (depth - 64)
    }
}

fn mask(length: u32) -> u128 {
    if length == 0 {
        0
    } else {
        u128::MAX << (128 - length)
    }
}
