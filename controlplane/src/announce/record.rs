//! One prefix: what is wanted, and what the daemon has.

use super::Route;
use crate::time::Time;

/// Where a route stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RouteState {
    /// It is not announced before the data plane holds its prefix.
    AwaitingDataplane,
    /// It is for the daemon to take.
    Announcing,
    /// The daemon has it; other routers may not know yet.
    Propagating,
    /// The daemon has it, and others have had time to learn it.
    Announced,
    /// The daemon said no. It is asked again.
    Refused,
    /// It is withdrawn only later, for it was withdrawn a moment ago.
    HeldBack,
    /// It is for the daemon to forget.
    Withdrawing,
}

impl RouteState {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::AwaitingDataplane,
        Self::Announcing,
        Self::Propagating,
        Self::Announced,
        Self::Refused,
        Self::HeldBack,
        Self::Withdrawing,
    ];

    /// As operators read it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::AwaitingDataplane => "awaiting-dataplane",
            Self::Announcing => "announcing",
            Self::Propagating => "propagating",
            Self::Announced => "announced",
            Self::Refused => "refused",
            Self::HeldBack => "held-back",
            Self::Withdrawing => "withdrawing",
        }
    }
}

/// What is wanted of a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) route: Route,
    /// Of the tables with which the data plane holds the prefix.
    pub(super) revision: u64,
    pub(super) since: Time,
}

/// In which of the announcer's queues a prefix is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Queued {
    #[default]
    No,
    /// Until the data plane holds tables of this revision.
    Unconfirmed {
        revision: u64,
    },
    Announce,
    Withdraw,
    HeldBack {
        until: Time,
    },
    /// The daemon has it; it is said when others have had time to learn it.
    Report {
        at: Time,
    },
}

/// All that is known of a prefix.
#[derive(Clone, Debug, Default)]
pub(super) struct Record {
    pub(super) wanted: Option<Wanted>,
    /// What the daemon has, as far as known.
    pub(super) held: Option<Route>,
    /// When other routers have had time to learn of it.
    pub(super) propagated_at: Time,
    /// It was said that it is announced.
    pub(super) reported: bool,
    /// The daemon's reason, since it was last compared.
    pub(super) refused: Option<String>,
    /// The reason that was told last, so that it is not told at each attempt.
    pub(super) refusal_told: String,
    pub(super) queued: Queued,
    /// In the batch that the daemon has been given.
    pub(super) in_flight: bool,
    /// Since when its state is what it is.
    pub(super) since: Time,
}

impl Record {
    /// The daemon has what is wanted.
    pub(super) fn is_as_wanted(&self) -> bool {
        match (&self.wanted, &self.held) {
            (Some(wanted), Some(held)) => wanted.route == *held,
            (wanted, held) => wanted.is_none() && held.is_none(),
        }
    }

    /// `confirmed`: the revision that the data plane holds.
    pub(super) fn state(&self, confirmed: Option<u64>) -> RouteState {
        let Some(wanted) = &self.wanted else {
            return match self.queued {
                Queued::HeldBack { .. } => RouteState::HeldBack,
                _ => RouteState::Withdrawing,
            };
        };
        if self.is_as_wanted() {
            return if self.reported {
                RouteState::Announced
            } else {
                RouteState::Propagating
            };
        }
        if self.refused.is_some() {
            RouteState::Refused
        } else if confirmed.is_none_or(|confirmed| confirmed < wanted.revision) {
            RouteState::AwaitingDataplane
        } else {
            RouteState::Announcing
        }
    }
}
