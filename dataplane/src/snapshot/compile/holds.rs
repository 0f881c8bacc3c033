//! Prefixes whose packets wait: since when, until when, and for what.
//!
//! That a wait is over is the data plane's own finding, of which the tables of the contract say nothing:
//! what they hold is what the control plane has put there. It shows in the snapshot, in the status and in
//! an event.

use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use ipnet::Ipv6Net;
use kedge_dataplane_api::model;

use super::Compiler;
use crate::snapshot::types::{After, NextHop, Snapshot};

/// A prefix whose packets wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownHold {
    /// When it began.
    pub since: Instant,
    /// When it ends by itself.
    pub until: Instant,
    /// It is over: nobody has ended it in time, or the old way has ended.
    pub over: bool,
    /// Id of the tunnel that is the old way; `None`: it waits for another next hop.
    pub after: Option<u32>,
    /// Its place in `Snapshot::afters`; 0 is none.
    place: u32,
}

/// How long packets wait at most where the control plane does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Maximums {
    /// On hold. Three seconds unless told otherwise.
    pub hold: Duration,
    /// For the end of an old way. 50 ms unless told otherwise.
    pub path_end: Duration,
}

impl Default for Maximums {
    fn default() -> Self {
        Self {
            hold: Duration::from_secs(3),
            path_end: Duration::from_millis(50),
        }
    }
}

impl Compiler {
    /// How long packets wait at most where the control plane does not say.
    #[must_use]
    pub fn with_maximums(mut self, maximums: Maximums) -> Self {
        self.maximums = maximums;
        self
    }

    /// All prefixes whose packets wait, or did until they had waited for too long; in their order.
    pub fn holds(&self) -> impl Iterator<Item = (Ipv6Net, KnownHold)> + '_ {
        self.holds.iter().map(|(prefix, hold)| (*prefix, *hold))
    }

    /// Whether packets of some prefix wait for the end of an old way.
    #[must_use]
    pub fn awaits_path_ends(&self) -> bool {
        self.holds.values().any(|hold| hold.after.is_some() && !hold.over)
    }

    /// Ends what has waited for too long. The prefixes concerned and the snapshot in which they do not wait
    /// any more; nothing if there are none.
    pub fn expire_holds(&mut self, now: Instant) -> Option<(Vec<(Ipv6Net, KnownHold)>, Snapshot)> {
        let late = self.holds.iter().filter(|(_, it)| !it.over && it.until <= now);
        let prefixes: Vec<_> = late.map(|(prefix, hold)| (*prefix, *hold)).collect();
        self.end_holds(prefixes)
    }

    /// The tunnel with this index has brought its last for the prefix that waits for it and has this
    /// address. As [`Compiler::expire_holds`].
    pub fn end_path(
        &mut self,
        tunnel: u32,
        address: Ipv6Addr,
    ) -> Option<(Vec<(Ipv6Net, KnownHold)>, Snapshot)> {
        let waits = |(prefix, hold): &(&Ipv6Net, &KnownHold)| {
            let its = hold.after.map(|id| self.tunnel_index(id));
            !hold.over && its == Some(tunnel) && prefix.contains(&address)
        };
        let ended = self.holds.iter().filter(waits);
        let ended = ended.max_by_key(|(prefix, _)| prefix.prefix_len());
        let prefixes = ended.map(|(prefix, hold)| (*prefix, *hold)).into_iter().collect();
        self.end_holds(prefixes)
    }

    fn end_holds(
        &mut self,
        prefixes: Vec<(Ipv6Net, KnownHold)>,
    ) -> Option<(Vec<(Ipv6Net, KnownHold)>, Snapshot)> {
        if prefixes.is_empty() {
            return None;
        }
        for (prefix, _) in &prefixes {
            if let Some(hold) = self.holds.get_mut(prefix) {
                hold.over = true;
                if hold.place != 0 {
                    let after = self.snapshot.afters.get(hold.place);
                    self.snapshot
                        .afters
                        .set(hold.place, After { over: true, ..after });
                }
            }
            self.compile_key(*prefix);
        }
        Some((prefixes, self.commit()))
    }

    /// Begins, goes on with or ends the wait of a prefix that a transaction has touched. Tunnels are
    /// compiled already.
    ///
    /// One that is put again goes on: its end is counted from its beginning, by what was said last.
    pub(super) fn follow_hold(&mut self, prefix: Ipv6Net, now: Instant) {
        let next_hop = self
            .tables
            .prefixes
            .get(&prefix)
            .map(|entry| entry.next_hop.clone());
        let (said, own, after) = match &next_hop {
            Some(model::NextHop::Hold { maximum_ms }) => (*maximum_ms, self.maximums.hold, None),
            Some(model::NextHop::After {
                tunnel, maximum_ms, ..
            }) => (*maximum_ms, self.maximums.path_end, Some(*tunnel)),
            _ => return self.forget_hold(prefix),
        };
        if self.holds.get(&prefix).is_some_and(|hold| hold.after != after) {
            self.forget_hold(prefix);
        }
        let maximum = match said {
            0 => own,
            some => Duration::from_millis(u64::from(some)),
        };
        let indexes = &mut self.after_indexes;
        let hold = self.holds.entry(prefix).or_insert_with(|| KnownHold {
            since: now,
            until: now,
            over: false,
            after,
            place: if after.is_some() { indexes.take() } else { 0 },
        });
        hold.until = hold.since + maximum;
        hold.over |= hold.until <= now;
        let (place, over) = (hold.place, hold.over);
        if let Some(model::NextHop::After { tunnel, then, .. }) = next_hop {
            let after = After {
                first: self.tunnel_index(tunnel),
                then: self.next_hop(prefix, &then),
                over,
            };
            self.snapshot.afters.set(place, after);
        }
    }

    fn forget_hold(&mut self, prefix: Ipv6Net) {
        if let Some(hold) = self.holds.remove(&prefix)
            && hold.place != 0
        {
            self.snapshot.afters.set(hold.place, After::default());
            self.after_indexes.give(hold.place);
        }
    }

    /// What waiting means for packets.
    pub(super) fn hold(&self, prefix: Ipv6Net) -> NextHop {
        match self.holds.get(&prefix) {
            Some(hold) if hold.after.is_some() => NextHop::After(hold.place),
            Some(hold) if hold.over => NextHop::HoldExpired,
            _ => NextHop::Hold,
        }
    }
}
