//! Routes to what is anchored here: announced and withdrawn through a real routing daemon (RFC 8818 section 4.2.1).
//!
//! ```text
//!  configuration, state ─► desired ─► Wanted ─┐
//!  data plane ────────────► Confirmed ────────┤
//!                                             ▼
//!                        Announcer   pure `(state, input, now) -> outputs`
//!                           │ Connect, List, Apply      ▲ Connected, Listed, Applied, Lost, Gone
//!                           ▼                           │
//!                        speaker: GoBGP by gRPC, or the kernel's table for BIRD and FRR
//! ```
//!
//! Whatever has happened before, the way is the same: read back what the daemon has of ours, send the difference to
//! what it should have, and then each later difference. Routes of others are never touched.

mod desired;
mod fsm;
mod gobgp;
mod kernel;
mod queues;
mod record;
mod speaker;
#[cfg(test)]
mod tests;

pub use desired::desired;
pub use fsm::{Announcer, COUNTERS, Change, Input, Output, Settings};
pub use record::RouteState;
pub use speaker::{Command, start};

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::sync::Arc;

use ipnet::Ipv6Net;
use kedge_config::Community;

/// What is told about a prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// The gateway that packets go to; `None` where the daemon itself knows.
    pub next_hop: Option<Ipv6Addr>,
    /// LOCAL_PREF (RFC 4271 section 5.1.5).
    pub local_preference: Option<u32>,
    /// MULTI_EXIT_DISC (RFC 4271 section 5.1.4).
    pub med: Option<u32>,
    /// In ascending order, each once.
    pub communities: Arc<[Community]>,
}

/// Routes by prefix.
pub type Routes = BTreeMap<Ipv6Net, Route>;
