//! The user plane of Kedge.
//!
//! ```text
//!  port rx ──► parse ──► classify ──► decapsulate ──► source check ──► lookup (whole burst) ──► act
//!                │           │             │               │                                  │
//!                │           └─ punt       └─ peer check   └─ BCP 38      deliver · encapsulate · route
//!                └───────────────────── drop, with a name ───────────────────────────────────┘
//! ```
//!
//! A worker is one pinned thread that owns one receive queue of every port it
//! serves. Per burst it reads the snapshot pointer once; nothing else is
//! shared with it. It allocates nothing, takes no lock, logs nothing, and makes
//! no system call of its own; each packet ends in exactly one counter.
//!
//! The control thread owns [`kedge_dataplane_api::model::Tables`], compiles each
//! transaction into the next snapshot (sharing all that did not change),
//! publishes it, and frees the old one when every worker has moved on.

mod assemble;
mod control;
mod events;
mod frame_mbuf;
mod huge_pages;
mod metrics;
mod port;
mod readings;
mod server;
mod versions;
mod worker;

pub mod counters;
pub mod daemon;
pub mod drops;
pub mod fib;
pub mod frame;
pub mod pipeline;
pub mod snapshot;
pub mod stage;
pub mod tunnel;
