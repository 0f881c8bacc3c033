//! The user plane of Kedge.
//!
//! ```text
//!  port rx ──► parse ──► classify ──► decapsulate ──► source check ──► lookup (whole burst) ──► filters ──► act
//!                │           │             │               │                                  │
//!                │           └─ punt       └─ peer check   └─ BCP 38      deliver · encapsulate · route
//!                └───────────────────── drop, with a name ───────────────────────────────────┘
//! ```
//!
//! A worker is one pinned thread that owns one receive queue of every port it
//! serves. Per burst it reads the snapshot pointer once; nothing else is
//! shared with it but, where there are several, rings by which tunnelled packets
//! come from other workers (see [`spread`]). It allocates nothing, takes no lock, logs nothing, and makes
//! no system call of its own (crossbeam-epoch frees and makes a few blocks of its own on whatever thread pins, never one
//! of our versions: see snapshot/publish.rs); each packet ends in exactly one counter.
//!
//! The control thread owns [`kedge_dataplane_api::model::Tables`], compiles each
//! transaction into the next snapshot (sharing all that did not change),
//! publishes it, and frees the old one when every worker has moved on.

mod assemble;
mod control;
mod events;
mod frame_mbuf;
pub mod huge_pages;
mod metrics;
mod path_mtu;
mod port;
mod readings;
mod server;
mod sync;
mod versions;
mod worker;

pub mod counters;
pub mod daemon;
pub mod drops;
pub mod fib;
pub mod flow;
pub mod frame;
pub mod hold;
pub mod pipeline;
pub mod reassembly;
pub mod snapshot;
pub mod spread;
pub mod stage;
pub mod tunnel;
