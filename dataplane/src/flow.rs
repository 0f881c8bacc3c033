//! Flow filters (RFC 8818 FM:3): which packets of which node go another way, are dropped, or are metered.
//!
//! ```text
//!            route of the source ──► list of its prefix ──┐
//!  packet ─► fields ─────────────────────────────────────►├─► verdict ─► decide
//!            route of the destination ─► list of its prefix ┘
//!                     └─► filters of the whole domain, the burst at once
//! ```
//!
//! A home network prefix has a short list of filters of its own, in order, which hangs off its route
//! ([`Lists`]): one that changes costs what a prefix that changes costs, however many there are. Filters of the
//! whole domain are in one classifier ([`Wide`]), which is built anew when one of them changes. Which of
//! several filters counts is written at `Filter` in the contract, and again, slowly and obviously, in [`mod@reference`].
//!
//! Where there is no filter at all, a burst costs one look at a flag more.

mod compiled;
mod fields;
mod lists;
pub mod meter;
pub mod reference;
mod verdict;
mod wide;

pub use compiled::{Act, Compiled};
pub use fields::Fields;
pub(crate) use fields::has_ports;
pub(crate) use lists::ListWriter;
pub use lists::{List, Lists};
pub use verdict::{Hit, Verdict, Way};
pub use wide::{BuildError, Builder, Wide};
pub(crate) use wide::{Draft, is_wide};

use std::sync::Arc;

use arrayvec::ArrayVec;

use kedge_dataplane_api::model::Direction;

use crate::counters::TimedBank;
use crate::pipeline::BURST;
use crate::snapshot::Slab;
use crate::stage::parse::Packet;
use verdict::Firsts;

/// Most filters of one home network prefix.
pub const MOST_OF_A_PREFIX: usize = 64;

/// What a worker reads of filters and meters.
#[derive(Clone, Debug)]
pub struct Flows {
    /// There is a filter somewhere.
    pub any: bool,
    /// Those of prefixes.
    pub lists: Lists,
    /// Those of the whole domain.
    pub wide: Arc<Wide>,
    /// Meters; index 0 is none.
    pub meters: Slab<meter::Compiled>,
    /// Their buckets.
    pub meter_bank: meter::Bank,
    /// Traffic by filter: `from` is from a node, `to` is to one.
    pub traffic: TimedBank,
    /// The colours of what was metered, by filter: an index as of `traffic`.
    pub colours: meter::ColourBank,
}

/// Which filters a packet meets.
#[derive(Clone, Copy, Debug, Default)]
pub struct Question {
    /// It is from a node, with these filters of its prefix.
    pub from: Option<List>,
    /// It is to a node.
    pub to: Option<List>,
    /// It passes through; else it meets none.
    pub transit: bool,
    /// Index of the tunnel that the tables send it into for its source, or 0.
    pub goes_by: u32,
    /// Index of the tunnel that it has come out of, or 0.
    pub came_by: u32,
}

/// What filters say of a burst.
#[derive(Debug, Default)]
pub struct Asked {
    /// One for each packet.
    pub verdicts: ArrayVec<Verdict, BURST>,
    /// Packets that met filters and have no ports for them, being fragments but the first.
    pub later_fragments: u64,
    /// Packets that met filters and whose extension headers cannot be read.
    pub unreadable: u64,
}

impl Flows {
    /// Asks about a burst: for each packet its octets, its fixed header, and which filters it meets.
    #[inline]
    pub fn ask<'a>(
        &self,
        packets: impl Iterator<Item = (&'a [u8], &'a Packet)>,
        questions: &[Question],
    ) -> Asked {
        let mut asked = Asked::default();
        let wide = !self.wide.is_empty();
        // Those that meet filters, and which packets of the burst they are.
        let mut known: ArrayVec<(Fields, bool, bool), BURST> = ArrayVec::new();
        let mut firsts: ArrayVec<Firsts, BURST> = ArrayVec::new();
        let mut met = 0u64;
        for (at, ((octets, packet), question)) in packets.zip(questions).take(BURST).enumerate() {
            let (from, to) = (question.from.unwrap_or_default(), question.to.unwrap_or_default());
            if !question.transit || !wide && from.is_empty() && to.is_empty() {
                continue;
            }
            let fields = Fields::read(octets, packet);
            asked.later_fragments += u64::from(fields.later_fragment);
            asked.unreadable += u64::from(fields.protocol.is_none());
            let mut first = Firsts::default();
            first.ask_list(&self.lists, from, &fields, Direction::FromNode, question.goes_by);
            first.ask_list(&self.lists, to, &fields, Direction::ToNode, question.came_by);
            met |= 1 << at;
            known.push((fields, question.from.is_some(), question.to.is_some()));
            firsts.push(first);
        }
        if wide {
            self.wide.ask(&known, &mut firsts);
        }
        let mut firsts = firsts.iter();
        for at in 0..questions.len().min(BURST) {
            let first = if met >> at & 1 == 1 { firsts.next() } else { None };
            asked
                .verdicts
                .push(first.map(Firsts::verdict).unwrap_or_default());
        }
        asked
    }
}
