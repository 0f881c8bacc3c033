//! What a worker needs to know of a packet that comes with a TEID or a GRE key, by that number, in one cache line.
//!
//! The table of peers knows all that a packet may come out of; but there its key leads to a tunnel by several lines, that to its
//! ends by another, and the prefix of its node is in a fourth: with a million tunnels each of them is in no cache. Most numbers have
//! one peer, though, and of such a tunnel this fits in sixteen octets: which it is, which of the few pairs of ends it has
//! ([`Ends`]), and whose packets it brings ([`SourcePrefix`]). A bucket of four is a line. What finds its bucket full, one in
//! twenty, is in a second table of the same kind. What is not there either, because several peers have its number, both buckets are full, or the number of its
//! ends or of its tunnel has no room in a slot, is found among the peers as before: nothing but time depends on it.
//!
//! ```text
//!  hash of a number (33 bits, one to one)      slot
//!  +----------------------+-----------+        +----------------+---------+-------------+-----------------+
//!  |  25                  |  8        |        |  25 of the     | 15 ends | 24 tunnel   | 64 source       |
//!  +----------------------+-----------+        |  hash          |         | 0: no slot  | prefix          |
//!     as many as are needed ◄── bucket         +----------------+---------+-------------+-----------------+
//! ```
//!
//! It grows by one bucket at a time, into which goes half of another one (linear hashing): no change costs more than another, however many
//! there are. The last eight bits of a hash are those of its bucket, of which there are never fewer than 256; so the others tell
//! numbers apart.

mod writer;

use std::hint::select_unpredictable;

use super::slab::Slab;
use super::types::SourcePrefix;
use crate::fib::prefetch;
use crate::tunnel::outer;

pub(super) use writer::ExitWriter;

/// Bits of a hash.
const HASH_BITS: u32 = 33;
/// Of these, the ones that the number of a bucket has, whatever the number of buckets.
const PLACE_BITS: u32 = 8;
/// Bits of a slot's first word: for the number of its ends, and of its tunnel.
const ENDS_BITS: u32 = 15;
const TUNNEL_BITS: u32 = 24;
const TAG_SHIFT: u32 = ENDS_BITS + TUNNEL_BITS;

const _: () = assert!(HASH_BITS - PLACE_BITS + TAG_SHIFT == u64::BITS);

/// The first number of a tunnel that has no slot.
const TUNNELS: u32 = 1 << TUNNEL_BITS;
/// The first number of ends that no slot has.
pub(super) const ENDS: u32 = 1 << ENDS_BITS;

/// Slots of a bucket.
const SLOTS: usize = 4;

/// What is known of the tunnel that a number leads to.
///
/// In two words, as it is read: what is written in parts cannot be read whole until it is in the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exit {
    /// In the upper half its ends, in the lower its tunnel.
    what: u64,
    source: SourcePrefix,
}

impl Exit {
    /// Which tunnel it is, or what else the table of peers has for a key; of that nothing else is known.
    #[inline]
    #[must_use]
    pub fn of(tunnel: u32) -> Self {
        Self {
            what: tunnel.into(),
            source: SourcePrefix::default(),
        }
    }

    /// A tunnel with the ends of this index and the prefix whose packets it brings.
    pub(super) fn new(tunnel: u32, ends: u32, source: SourcePrefix) -> Self {
        let what = u64::from(ends) << 32 | u64::from(tunnel);
        Self { what, source }
    }

    /// Index of the tunnel.
    #[inline]
    #[must_use]
    pub fn tunnel(self) -> u32 {
        self.what as u32
    }

    /// Index of its ends; 0: the tunnel has to be asked.
    #[inline]
    #[must_use]
    pub fn ends(self) -> u32 {
        (self.what >> 32) as u32
    }

    /// Whether more is known than which tunnel it is.
    #[inline]
    #[must_use]
    pub fn is_known(self) -> bool {
        self.ends() != 0
    }

    /// [`Snapshot::brings`](super::Snapshot::brings), of what is known.
    #[inline]
    #[must_use]
    pub fn brings(self, source: u128) -> bool {
        self.source.contains(source)
    }
}

/// Both ends of tunnels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// Ours, the only permitted destination of what comes in.
    pub local: u128,
    /// The peer's, the only permitted source.
    pub remote: u128,
    /// Of what comes in.
    pub ethertype: u16,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    what: u64,
    source: SourcePrefix,
}

impl Slot {
    /// `None`: a number is too large.
    fn of(hash: u64, exit: Exit) -> Option<Self> {
        let (tunnel, ends) = (exit.tunnel(), exit.ends());
        if tunnel == 0 || tunnel >= TUNNELS || ends == 0 || ends >= ENDS {
            return None;
        }
        let what = tag(hash) << TAG_SHIFT | u64::from(ends) << TUNNEL_BITS | u64::from(tunnel);
        Some(Self {
            what,
            source: exit.source,
        })
    }

    #[inline]
    fn has(self, tag: u64) -> bool {
        self.what >> TAG_SHIFT == tag
    }

    #[inline]
    fn is_empty(self) -> bool {
        self.what == 0
    }

    /// The hash that it is of, in this bucket.
    fn hash(self, bucket: u32) -> u64 {
        self.what >> TAG_SHIFT << PLACE_BITS | u64::from(bucket) & ((1 << PLACE_BITS) - 1)
    }

    /// The same by another hash.
    fn by(self, hash: u64) -> Self {
        let what = self.what & ((1 << TAG_SHIFT) - 1) | tag(hash) << TAG_SHIFT;
        Self { what, ..self }
    }

    #[inline]
    fn exit(self) -> Exit {
        let ends = self.what << (32 - TUNNEL_BITS) & u64::from(ENDS - 1) << 32;
        Exit {
            what: ends | self.what & u64::from(TUNNELS - 1),
            source: self.source,
        }
    }
}

/// Those in use come first.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(64))]
struct Bucket([Slot; SLOTS]);

// One line: a worker asks for it with the burst.
const _: () = assert!(size_of::<Bucket>() == 64);

impl Bucket {
    /// Where one with this tag is. What is empty may look like one whose bits are all 0.
    fn position(&self, tag: u64) -> Option<usize> {
        self.0.iter().position(|slot| slot.has(tag) && !slot.is_empty())
    }
}

/// Buckets, by hash.
#[derive(Clone, Debug)]
struct Buckets {
    all: Slab<Bucket>,
    count: u32,
    /// One less than the power of two that `count` is, or has on its way.
    mask: u32,
}

impl Default for Buckets {
    fn default() -> Self {
        let count = 1 << PLACE_BITS;
        Self {
            all: Slab::default(),
            count,
            mask: count - 1,
        }
    }
}

impl Buckets {
    /// Which one a hash is of.
    #[inline]
    fn number(&self, hash: u64) -> u32 {
        let at = hash as u32 & self.mask;
        if at < self.count { at } else { at & self.mask >> 1 }
    }

    /// Where a hash would be; the processor is asked for it. `None`: there has never been one.
    #[inline]
    fn place(&self, hash: u64) -> Option<Place<'_>> {
        let bucket = self.all.at(self.number(hash))?;
        prefetch(bucket);
        let tag = tag(hash);
        Some(Place { bucket, tag })
    }
}

/// Tunnels by their TEIDs and GRE keys: what workers read. By default none are known, and all is found among the peers.
#[derive(Clone, Debug, Default)]
pub struct Exits {
    first: Buckets,
    /// Those for which there was no room in the first, by the hash of their hash: by that they are not together any more.
    second: Buckets,
}

/// Where a number would be.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    bucket: &'a Bucket,
    tag: u64,
}

impl Place<'_> {
    /// What is known of it here.
    #[inline]
    #[must_use]
    pub fn find(self) -> Option<Exit> {
        let wanted = self.tag << TAG_SHIFT;
        let mut found = Slot::default();
        // The first one that has it, for what is empty may look like one whose bits are all 0. Which that is, is random: to choose
        // without a branch takes less than to guess wrong.
        for slot in self.bucket.0.iter().rev() {
            let what = slot.what ^ wanted;
            let is_it = what >> TAG_SHIFT == 0;
            found.what = select_unpredictable(is_it, what, found.what);
            found.source = select_unpredictable(is_it, slot.source, found.source);
        }
        (!found.is_empty()).then(|| found.exit())
    }
}

impl Exits {
    /// Where the number of this key of the table of peers would be, if it has one; the processor is asked for it.
    #[inline]
    #[must_use]
    pub fn place(&self, key: u128) -> Option<Place<'_>> {
        self.first.place(hash(outer::number_of(key)?))
    }

    /// Where it would be if there was no room for it there.
    #[must_use]
    pub fn second_place(&self, key: u128) -> Option<Place<'_>> {
        self.second.place(hash(hash(outer::number_of(key)?)))
    }

    /// What is known of the number of this key of the table of peers.
    #[cfg(test)]
    pub(super) fn find(&self, key: u128) -> Option<Exit> {
        let first = self.place(key).and_then(Place::find);
        first.or_else(|| self.second_place(key)?.find())
    }
}

/// One to one in 33 bits.
#[inline]
fn hash(number: u64) -> u64 {
    const ALL: u64 = (1 << HASH_BITS) - 1;
    let once = (number ^ number >> 17).wrapping_mul(0x1_9e37_79b1) & ALL;
    once ^ once >> 17
}

#[inline]
fn tag(hash: u64) -> u64 {
    hash >> PLACE_BITS
}

#[cfg(test)]
mod tests;
