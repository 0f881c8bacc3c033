//! Role MAAR: mobility anchor and access router (RFC 8885 section 2).
//!
//! [`Maar`] is the pure state machine; `driver` holds the sockets and timers.
//! A node is in one [`Phase`] here. The serving MAAR (S-MAAR) of a node is
//! where it is `Attached`; a MAAR that has it `Anchored` is a previous one
//! (P-MAAR), which keeps the prefix it gave and tunnels it to the S-MAAR.
//!
//! ```text
//!              Attached            PBA accepted                  PBU with Serving MAAR
//!   (none) ─────────────► Registering ─────────► Attached ──────────────────────────► Anchored
//!                          │  ▲  PBA ≥ 128         │   ▲                                 │  ▲
//!                          ▼  │                    ▼   │ Attached                Attached│  │PBU
//!                        Refused                Detached                               ▼  │
//!                                                  │ lifetime over               Registering
//!                                                  ▼
//!                                             Deregistering ──► (none)
//! ```
//!
//! One file for each kind of input: `attachment`, `acknowledgement` (what the
//! CMD answers), `update` (what the CMD tells), `relocation` (prefixes whose anchor moves), `flows` (what operators want of
//! filters), `refused` (what a peer's user plane says), `delegated` (pools that come and go), `timers`. What they share:
//! `pool` (prefixes), `teid` and `tunnels`.

mod acknowledgement;
mod attachment;
mod delegated;
pub mod driver;
mod flows;
mod fsm;
mod pool;
mod refused;
mod relocation;
mod state;
mod teid;
mod timers;
mod tunnels;
mod unused;
mod update;

#[cfg(test)]
mod tests;

pub use fsm::{Counters, Input, Maar, Output, Settings};
pub use state::{
    Adopted, Arriving, Asked, DelegatedPool, Exchange, Node, NodeTunnel, Phase, Previous, State, Yielded,
};
pub use teid::TeidSequence;
