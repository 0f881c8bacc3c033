//! Prefixes on hold: since when, and until when.
//!
//! That a hold has expired is the data plane's own finding, of which the tables of the contract say
//! nothing: what they hold is what the control plane has put there. It shows in the snapshot, in the
//! status and in an event.

use std::time::{Duration, Instant};

use ipnet::Ipv6Net;
use kedge_dataplane_api::model;

use super::Compiler;
use crate::snapshot::types::{NextHop, Snapshot};

/// A prefix on hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownHold {
    /// When it began.
    pub since: Instant,
    /// When it ends by itself.
    pub until: Instant,
    /// It has.
    pub expired: bool,
}

impl Compiler {
    /// How long a prefix is held at most where the control plane does not say.
    #[must_use]
    pub fn with_hold_maximum(mut self, maximum: Duration) -> Self {
        self.hold_maximum = maximum;
        self
    }

    /// All prefixes on hold, in their order.
    pub fn holds(&self) -> impl Iterator<Item = (Ipv6Net, KnownHold)> + '_ {
        self.holds.iter().map(|(prefix, hold)| (*prefix, *hold))
    }

    /// Ends what has been on hold for too long. The prefixes concerned and the snapshot in which they are
    /// not held any more; nothing if there are none.
    pub fn expire_holds(&mut self, now: Instant) -> Option<(Vec<Ipv6Net>, Snapshot)> {
        let over = |it: &KnownHold| !it.expired && it.until <= now;
        let mut prefixes = Vec::new();
        for (prefix, hold) in &mut self.holds {
            if over(hold) {
                hold.expired = true;
                prefixes.push(*prefix);
            }
        }
        if prefixes.is_empty() {
            return None;
        }
        for prefix in &prefixes {
            self.compile_key(*prefix);
        }
        Some((prefixes, self.commit()))
    }

    /// Begins, goes on with or ends the hold of a prefix that a transaction has touched.
    ///
    /// A hold that is put again goes on: its end is counted from its beginning, by what was said last.
    pub(super) fn follow_hold(&mut self, prefix: Ipv6Net, now: Instant) {
        let entry = self.tables.prefixes.get(&prefix);
        let Some(model::NextHop::Hold { maximum_ms }) = entry.map(|entry| &entry.next_hop) else {
            self.holds.remove(&prefix);
            return;
        };
        let maximum = match maximum_ms {
            0 => self.hold_maximum,
            some => Duration::from_millis(u64::from(*some)),
        };
        let hold = self.holds.entry(prefix).or_insert(KnownHold {
            since: now,
            until: now,
            expired: false,
        });
        hold.until = hold.since + maximum;
        hold.expired = hold.until <= now;
    }

    /// What a hold means for packets.
    pub(super) fn hold(&self, prefix: Ipv6Net) -> NextHop {
        match self.holds.get(&prefix) {
            Some(hold) if hold.expired => NextHop::HoldExpired,
            _ => NextHop::Hold,
        }
    }
}
