//! The control plane of Kedge: it speaks PMIPv6 (RFC 5213) with the
//! distributed-anchoring extensions of RFC 8885, owns the binding cache, and
//! derives from it what a data plane has to forward.
//!
//! ```text
//!            sockets, netlink, timers, gRPC              (drivers: the only I/O)
//!                 │ Input            ▲ Output
//!                 ▼                  │
//!        maar::fsm / cmd::fsm   pure `(state, input, now) -> outputs`
//!                 │ state
//!                 ▼
//!        forwarding::desired(state) -> what the data plane must hold
//!                 │ difference to what it does hold
//!                 ▼
//!        kedge-dataplane-api  (transactions over a Unix socket)
//! ```
//!
//! A gateway of role `dpn` ([`dpn`]) is made the same way; its [`forwarding::desired_of_dpn`] is a smaller one.
//!
//! A state machine never reads a clock, a socket or a random number: [`time::Time`]
//! goes in as a value. So a recorded run replays as a test.

pub mod access;
pub mod announce;
pub mod binding;
pub mod charging;
pub mod cli;
pub mod cmd;
pub mod counters;
pub mod dataplane_sync;
mod deadlines;
pub mod delegation;
pub mod dpn;
pub mod driver;
pub mod event;
pub mod forwarding;
pub mod identity;
pub mod kernel;
pub mod maar;
pub mod metrics;
pub mod northbound;
mod overlap;
pub mod path;
pub mod proxy_binding;
pub mod time;
pub mod transfer;
pub mod wire;
