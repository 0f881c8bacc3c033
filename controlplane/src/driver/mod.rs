//! What both roles' daemons share: the clock, the Mobility Header socket, the
//! reactions to bad messages, and the telling of what happens.
//!
//! A daemon is one event loop that owns one state machine. Sockets, timers and
//! the operator's requests become inputs; outputs are carried out. All state is
//! owned by that loop, so nothing here takes a lock.

mod access_side;
mod answers;
mod clock;
mod dataplane_state;
mod description;
mod durable;
mod endpoint;
mod gtpu_paths;
mod interfaces;
mod left_out;
mod mobility_socket;
mod observer;
mod raw;
mod reaction;
mod start;

pub(crate) use access_side::{AccessSide, Attachment, identifier};
pub use answers::{counters, info, restore, tunnel_name};
pub use clock::Clock;
pub use dataplane_state::DataplaneState;
pub use description::describe;
pub use durable::Durable;
pub use endpoint::{Endpoint, FromSocket, MessageCount};
pub(crate) use gtpu_paths::{GtpuPaths, path_input};
pub(crate) use left_out::LeftOutNow;
pub use mobility_socket::{Datagram, MobilitySocket};
pub use observer::Observer;
pub use raw::{Received, receive, register};
pub use reaction::{RateLimit, Reaction, reaction};
pub use start::{Heeded, Parts, Signals, run, wait_until};
