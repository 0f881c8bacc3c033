//! Whether GTP-U peers are there: path management (3GPP TS 29.281 section 7.2).
//!
//! A pure state machine, as all are here: `(state, input, now) -> outputs`.
//!
//! ```text
//!            Echo Response                       N3-REQUESTS without an answer
//!  Unknown ─────────────────► Up ────────────────────────────────────────────► Down
//!     │                        ▲                                                 │
//!     └─ N3-REQUESTS ─► Down   └────────────── Echo Response ────────────────────┘
//! ```
//!
//! A path is asked after as soon as a tunnel leads there, and then once in each interval; a request that
//! is not answered within T3-RESPONSE is repeated with the same number. A path that is down is asked
//! after no more often than one that is up. That a path is down is told and counted; its tunnels stay:
//! what else could be done with their packets is not for this gateway to know.

mod fsm;
mod socket;

pub use fsm::{COUNTERS, Input, Output, Path, PathState, Paths, Settings};
pub use socket::{PathSocket, Received};
