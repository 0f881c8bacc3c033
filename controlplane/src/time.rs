//! The one notion of time of the state machines.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A point in time: the span since 1970-01-01 00:00:00 UTC.
///
/// The drivers read the wall clock once at start and add the monotonic clock
/// from there, so within a process it never steps; across a restart it is
/// wall-clock time again, which is what stored lifetimes and the Timestamp
/// option (RFC 5213 section 8.8) need.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Time(pub Duration);

impl Time {
    /// This time and `span` more, at most the end of time.
    #[must_use]
    pub fn after(self, span: Duration) -> Time {
        Time(self.0.saturating_add(span))
    }

    /// How long it is from `earlier` to here; zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Time) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}
