//! What workers read, how it is made, and how it reaches them.
//!
//! [`Compiler`] owns the tables (names, addresses, options: the contract's
//! terms) and compiles each transaction into the next [`Snapshot`] (indexes,
//! flat entries: a worker's terms). [`Publisher`] makes it the one that workers
//! read; [`Subscriber`] is a worker's end.

mod check;
mod compile;
mod counting;
mod exits;
mod family;
mod publish;
mod routes;
mod slab;
mod types;

#[cfg(test)]
mod tests;

pub use check::{ApplyError, TableLimits};
pub use compile::{
    Carried, Compiler, CountedOf, Departed, Expiry, FlowHold, KnownHold, MOST_DEPARTED, Maximums, Named,
    Total, earlier,
};
pub use exits::{Ends, Exit, Exits, Place};
pub use routes::{Entry, Hop, Routes};
pub use slab::Slab;
pub use types::{
    Adjacency, After, EXCEPTION_MTU, Headers, LinkLayerAddress, MAX_PORTS, NextHop, Path, PortDescription,
    Route, Snapshot, SourcePrefix, SourceRule, TEID_OF_OTHERS, Tunnel,
};

/// The writing end of publication.
pub type Publisher = publish::Publisher<Snapshot>;
/// Makes readers.
pub type SubscriberFactory = publish::SubscriberFactory<Snapshot>;
/// A worker's end.
pub type Subscriber = publish::Subscriber<Snapshot>;
