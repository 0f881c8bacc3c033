//! The requesting router: a pure state machine (RFC 8415 section 18.2, for IA_PD alone).
//!
//! Each prefix that is wanted is an identity association of its own, with exchanges of its own: so one that an anchor
//! needs at once does not wait for another's, and is given back alone.
//!
//! ```text
//!              Advertise, at the end of the first timeout      Reply
//!   Soliciting ─────────────────────► Requesting ──────────────────────► Bound ◄──────┐
//!     ▲  │  Reply with Rapid Commit                                       │ T1,      │ Reply
//!     │  └──────────────────────────────────────────────────────────────► │ Reconfig.│
//!     │ NoPrefixAvail, nothing left, valid lifetime over                  ▼     T2   │
//!     └────────────────────────────────────────────────────────────── Renewing ──► Rebinding
//! ```
//!
//! After a restart or a change of the link, what is held is rebound with the timing of Confirm (RFC 8415 section
//! 18.2.12: Confirm itself is never used for prefixes); if nobody answers, it is used on for its lifetimes.
//!
//! Files: `fsm` (inputs and outputs), `exchange` (retransmission, section 15), `send` (what is asked), `reply` (what is
//! answered), `reconfigure`, `wanted` (what is wanted by name, and given back), `state` (what is kept).

mod exchange;
mod fsm;
mod reconfigure;
mod reply;
mod send;
mod state;
mod wanted;

#[cfg(test)]
mod tests;

pub use exchange::Exchange;
pub use fsm::{Input, Output, Requesting, Settings};
pub use state::{Association, Held, Phase, ServerKey, State, Wanted};
