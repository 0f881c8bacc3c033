//! Filters that hold flows: since when, and until when.
//!
//! As with prefixes, that a hold is over is the data plane's own finding: the filter stays as it was put, and what
//! waits is dropped by name.

use std::time::{Duration, Instant};

use ipnet::Ipv6Net;
use kedge_dataplane_api::model::{Filter, FilterAction};

use super::Compiler;
use super::flows::Filters;
use crate::flow::Act;
use crate::snapshot::types::Snapshot;

/// A filter that holds flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowHold {
    /// The prefix whose flows they are.
    pub scope: Ipv6Net,
    /// When it was put.
    pub since: Instant,
    /// When it ends by itself.
    pub until: Instant,
    /// Nobody has ended it in time.
    pub over: bool,
}

impl Filters {
    /// A filter that is put anew; one that holds begins to, also where it did before.
    pub(super) fn follow_flow_hold(&mut self, id: u64, filter: &Filter, now: Instant) {
        let scope = filter.scope.filter(|_| filter.action == FilterAction::Hold);
        if let Some(scope) = scope {
            let hold = FlowHold {
                scope,
                since: now,
                until: now + Duration::from_secs(u64::from(filter.lifetime)),
                over: false,
            };
            self.holding.insert(id, hold);
        }
    }

    /// What holding means for packets.
    pub(super) fn flow_hold(&self, id: u64) -> Act {
        match self.holding.get(&id) {
            Some(hold) if hold.over => Act::HoldExpired,
            _ => Act::Hold,
        }
    }
}

impl Compiler {
    /// All filters that hold flows, or did until that had lasted for too long; by their ids.
    pub fn flow_holds(&self) -> impl Iterator<Item = (u64, FlowHold)> + '_ {
        self.filters.holding.iter().map(|(id, hold)| (*id, *hold))
    }

    /// Ends what flows have waited for too long. The filters concerned and the snapshot in which nothing waits for
    /// them any more; nothing if there are none.
    pub fn expire_flow_holds(&mut self, now: Instant) -> Option<(Vec<(u64, FlowHold)>, Snapshot)> {
        let late = |(_, hold): &(u64, FlowHold)| !hold.over && hold.until <= now;
        let ended: Vec<_> = self.flow_holds().filter(late).collect();
        if ended.is_empty() {
            return None;
        }
        for (id, hold) in &ended {
            if let Some(hold) = self.filters.holding.get_mut(id) {
                hold.over = true;
            }
            self.compile_list(hold.scope);
            self.compile_key(hold.scope);
        }
        Some((ended, self.commit()))
    }
}
