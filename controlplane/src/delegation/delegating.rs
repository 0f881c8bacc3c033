//! The delegating server: a pure state machine (RFC 8415 section 18.3).
//!
//! ```text
//!              Request, Rapid Commit          Release, lifetime over
//!   (free) ──────────────────────────► Bound ───────────────────────► (free)
//!     │                                 │  ▲                             ▲
//!     │ move                       move │  │ asked for by the new one    │ lifetime over
//!     └───────────────────────────► Moved ┴─────────────────────────────┘
//! ```
//!
//! A Solicit leaves nothing behind: the prefix that it is offered follows from who asks, so an attacker who sends
//! many fills no table, and a client that lost its binding is offered what it had.
//!
//! **Move** is what a standard server lacks: [`Delegating::move_lease`] passes the lease of a prefix in use to another
//! client in one step. From then on the old holder's Renew is answered with lifetimes of 0, which a Reconfigure hastens; the
//! new one gets the prefix when it asks for it. A prefix *within* a lease can be moved as well: the lease stays
//! with its holder, the more specific one is the other client's until it is released or over, and then it is at home again.
//!
//! What changes is told as [`Output::Commit`], one for each input, before anything that depends on it is sent: the driver
//! writes it first. Files: `fsm` (inputs, checks of section 16), `answer` (what the messages lead to), `assign` (which
//! prefix), `moving`, `reconfigure`, `leases` (the table and its indexes), `state` (what is kept), `store`.

mod answer;
mod assign;
mod fsm;
mod leases;
mod moving;
mod reconfigure;
mod state;
mod store;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

pub use fsm::{Delegating, Input, Output, Pool, Settings};
pub use moving::{MoveError, Taker};
pub use state::{Change, Client, Lease, LeasePhase, Reach, Reconfiguring, State};
pub use store::Journal;
