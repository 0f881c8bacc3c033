//! What a requesting router must not forget.

use std::collections::BTreeMap;

use ipnet::Ipv6Net;
use serde::{Deserialize, Serialize};

use super::exchange::Exchange;
use crate::delegation::reconfigure_key::Key;
use crate::delegation::wire::Duid;
use crate::time::Time;

/// Everything that is kept across a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// What is wanted, by IAID.
    pub associations: BTreeMap<u32, Association>,
    /// With which Reconfigures of a server are verified.
    pub keys: BTreeMap<Duid, ServerKey>,
}

/// A server's Reconfigure key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerKey {
    /// The key.
    pub key: Key,
    /// The last replay counter; a Reconfigure has to have a greater one.
    pub replay: u64,
}

/// What is wanted of the servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// `::/56` is a hint for the length alone; `None`: any prefix will do.
    pub hint: Option<Ipv6Net>,
    /// Nothing else will do, and it is not asked for for ever.
    pub exact: bool,
}

/// An identity association: one wanted prefix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Association {
    /// What is wanted.
    pub wanted: Wanted,
    /// Where it stands.
    pub phase: Phase,
    /// The server that was chosen.
    pub server: Option<Duid>,
    /// What was delegated.
    pub prefixes: Vec<Held>,
    /// When to renew; `None` while that is under way, or never.
    pub renew_at: Option<Time>,
    /// When to rebind.
    pub rebind_at: Option<Time>,
    /// What was sent and is not answered.
    pub exchange: Option<Exchange>,
    /// Solicitations in a row that a server had no prefix for.
    pub refusals: u32,
    /// What was wanted by name was ours until its lifetime ended, and no server has delegated it since.
    #[serde(default)]
    pub over: bool,
}

/// Where an association stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Looking for a server.
    Soliciting,
    /// A server was chosen.
    Requesting,
    /// It has a prefix.
    Bound,
    /// It asks its server to extend the lifetimes.
    Renewing,
    /// It asks any server.
    Rebinding,
    /// It gives the prefix back.
    Releasing,
}

/// A delegated prefix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The prefix.
    pub prefix: Ipv6Net,
    /// The part of it that is not ours (RFC 6603).
    pub exclude: Option<Ipv6Net>,
    /// When it is not to be used for new nodes; `None`: never.
    pub preferred_until: Option<Time>,
    /// When it is gone; `None`: never.
    pub valid_until: Option<Time>,
}

impl Association {
    /// Nothing yet.
    #[must_use]
    pub fn new(wanted: Wanted) -> Self {
        Self {
            wanted,
            phase: Phase::Soliciting,
            server: None,
            prefixes: Vec::new(),
            renew_at: None,
            rebind_at: None,
            exchange: None,
            refusals: 0,
            over: false,
        }
    }

    /// The earliest of its timers.
    pub(super) fn next_deadline(&self) -> Option<Time> {
        let send_at = self.exchange.as_ref().map(|exchange| exchange.next_at);
        let ends = self.prefixes.iter().filter_map(|held| held.valid_until);
        [send_at, self.renew_at, self.rebind_at]
            .into_iter()
            .flatten()
            .chain(ends)
            .min()
    }
}
