//! Role CMD: central mobility database (RFC 8885 section 2).
//!
//! [`Cmd`] is the pure state machine; `driver` holds the sockets and timers.
//! The database is keyed by the Mobile Node Identifier alone (choice G7: the
//! update of a handover carries a new prefix, which RFC 5213 section 5.4.1
//! would take for a new session).
//!
//! ```text
//!  S-MAAR ── PBU ──► registration ──► PBA + Previous MAAR(s) ──► S-MAAR      (proxy: at once)
//!                         │
//!                         └─────────► PBU + Serving MAAR ──────► every P-MAAR
//!  P-MAAR ── PBA ──► confirmation
//! ```
//!
//! For GTP-U each MAAR offers an endpoint for a node, in its update or its answer. The CMD keeps them
//! and, where its domain is one of GTP-U, decides for each P-MAAR at each registration: both ends are
//! told of each other's, or neither is. One end alone would send what the other does not take.
//!
//! The three modes of RFC 8885 sections 3.2 to 3.4 differ in two decisions,
//! both in `registration::handover`: when the S-MAAR is answered (at once, or
//! when the P-MAARs have answered), and whose sequence number and timestamp the
//! updates to the P-MAARs carry (our own, or the S-MAAR's).

mod charging;
mod check;
mod confirmation;
mod drain;
pub mod driver;
mod fsm;
mod policy;
mod preparation;
mod registration;
mod release;
mod relocation;
mod restart;
mod room;
mod state;
mod timers;
mod unused;

#[cfg(test)]
mod tests;

pub use charging::Contexts;
pub use drain::DrainProgress;
pub use fsm::{Cmd, Counters, Input, Output, Settings};
pub use policy::PolicyError;
pub use relocation::{Outcome, RelocationError};
pub use state::{
    AdoptedPrefix, AgreedTunnel, Binding, BindingPhase, Exchange, Previous, PreviousPhase, Release,
    Relocation, RelocationPhase, State,
};
