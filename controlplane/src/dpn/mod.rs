//! Role DPN: a forwarding switch below a MAAR, its DPA (RFC 8818 sections 4.2.2, 4.2.3).
//!
//! It is the mobile access gateway of RFC 5213: it registers each node that comes to a link of its own at the DPA, tells
//! the node the prefixes that it gets in answer, and tunnels the node's packets to the DPA and from there. It
//! anchors nothing and knows no CMD. [`Dpn`] is the pure state machine; `driver` holds the sockets and timers.
//!
//! ```text
//!              Attached            PBA accepted              Detached                  PBA
//!   (none) ─────────────► Registering ─────────► Attached ─────────────► Deregistering ─────► (none)
//!                          │  ▲  PBA ≥ 128         │ │  ▲                  after 0.5 s
//!                          ▼  │ Attached           │ └──┘ UPN, renewal: PBU, PBA accepted
//!                        Refused ◄─────────────────┘ PBA ≥ 128: what was advertised is withdrawn
//! ```
//!
//! While a node is being de-registered, what is still on its way to it is delivered.
//!
//! One file for each kind of input: `attachment`, `registration` (what the DPA answers and asks), `timers`.

mod attachment;
pub mod driver;
mod fsm;
mod registration;
mod state;
#[cfg(test)]
mod tests;
mod timers;

pub use fsm::{Dpn, Input, Output, Settings};
pub use state::{Node, Phase, Prefix, SHARED_TUNNEL, State};
