//! Prefixes whose packets wait: since when, until when, and for what.
//!
//! That a wait is over is the data plane's own finding, of which the tables of the contract say nothing:
//! what they hold is what the control plane has put there. It shows in the snapshot, in the status and in
//! an event.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
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
    /// For the end of an old way. 100 ms unless told otherwise.
    pub path_end: Duration,
}

impl Default for Maximums {
    fn default() -> Self {
        Self {
            hold: Duration::from_secs(3),
            path_end: Duration::from_millis(100),
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

    /// Tunnels with these indexes have brought their last for the prefixes that wait for them and have these
    /// addresses. As [`Compiler::expire_holds`]; one that nobody waits for ends nothing.
    pub fn end_paths(
        &mut self,
        ends: impl IntoIterator<Item = (u32, Ipv6Addr)>,
    ) -> Option<(Vec<(Ipv6Net, KnownHold)>, Snapshot)> {
        let ended: BTreeMap<Ipv6Net, KnownHold> = ends
            .into_iter()
            .filter_map(|(tunnel, address)| self.waiting_for(tunnel, address))
            .collect();
        self.end_holds(ended.into_iter().collect())
    }

    /// The longest prefix with this address that waits for the tunnel with this index. A look-up for each length
    /// that there is: when many prefixes move together, each has its end.
    fn waiting_for(&self, tunnel: u32, address: Ipv6Addr) -> Option<(Ipv6Net, KnownHold)> {
        self.hold_lengths.keys().rev().find_map(|length| {
            let prefix = Ipv6Net::new(address, *length).ok()?.trunc();
            let hold = self.holds.get(&prefix).filter(|hold| !hold.over)?;
            (self.tunnel_index(hold.after?) == tunnel).then_some((prefix, *hold))
        })
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
        let lengths = &mut self.hold_lengths;
        let hold = self.holds.entry(prefix).or_insert_with(|| {
            *lengths.entry(prefix.prefix_len()).or_default() += 1;
            KnownHold {
                since: now,
                until: now,
                over: false,
                after,
                place: if after.is_some() { indexes.take() } else { 0 },
            }
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
        let Some(hold) = self.holds.remove(&prefix) else {
            return;
        };
        if let Entry::Occupied(mut count) = self.hold_lengths.entry(prefix.prefix_len()) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
        if hold.place != 0 {
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
