//! What a delegating server must not forget.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use ipnet::Ipv6Net;
use serde::{Deserialize, Serialize};

use crate::delegation::reconfigure_key::Key;
use crate::delegation::wire::{Duid, Hop};
use crate::time::Time;

/// Everything that is kept across a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Every prefix that is somebody's.
    pub leases: BTreeMap<Ipv6Net, Lease>,
    /// Every client that has one.
    pub clients: BTreeMap<Duid, Client>,
    /// From the operating system's randomness: Reconfigure keys are made of it, and where the search for a free prefix
    /// begins, so that a client is offered the same one each time. All zero: none was drawn yet.
    #[serde(default)]
    pub secret: Key,
    /// The last value of the replay counter (RFC 8415 section 20.4): it never goes back.
    pub replay: u64,
}

/// A prefix that is somebody's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Whose.
    pub client: Duid,
    /// In which of its identity associations. `None`: in the first one that asks for the prefix.
    pub iaid: Option<u32>,
    /// When it is free again; `None`: never.
    pub valid_until: Option<Time>,
    /// How it stands.
    pub phase: LeasePhase,
    /// It was moved to this client, which does not count as one that it took.
    pub moved: bool,
}

/// How a lease stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeasePhase {
    /// The client has it.
    Bound,
    /// It was moved to the client, which has not asked for it yet.
    Moved,
    /// The client said that something is wrong with it; nobody gets it for a while.
    Declined,
}

/// What is known of a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// With which Reconfigures to it are signed; `None`: it does not accept any.
    pub key: Option<Key>,
    /// Where it was heard of last.
    pub reach: Reach,
    /// A Reconfigure on its way.
    pub reconfiguring: Option<Reconfiguring>,
}

/// The way to a client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reach {
    /// Its address, or the last relay's.
    pub address: Option<Ipv6Addr>,
    /// The interface that it is behind; empty where routing says it.
    pub interface: String,
    /// The relays between, that nearest to us first.
    pub hops: Vec<Hop>,
}

/// A Reconfigure that is repeated until the client renews.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reconfiguring {
    /// How often it was sent.
    pub sent: u32,
    /// When to send it again.
    pub next_at: Time,
    /// How long to wait after that, milliseconds.
    pub timeout_ms: u64,
}

/// A step from one state to the next; several of one input are one transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// A prefix has another lease, or none.
    Lease(Ipv6Net, Option<Lease>),
    /// A client is known by something else, or not any more.
    Client(Duid, Option<Client>),
    /// The replay counter.
    Replay(u64),
    /// The secret.
    Secret(Key),
}

impl State {
    /// Takes one step.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Lease(prefix, Some(lease)) => drop(self.leases.insert(prefix, lease)),
            Change::Lease(prefix, None) => drop(self.leases.remove(&prefix)),
            Change::Client(duid, Some(client)) => drop(self.clients.insert(duid, client)),
            Change::Client(duid, None) => drop(self.clients.remove(&duid)),
            Change::Secret(secret) => self.secret = secret,
            Change::Replay(replay) => self.replay = self.replay.max(replay),
        }
    }
}
