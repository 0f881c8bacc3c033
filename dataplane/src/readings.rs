//! Everything countable, at one moment: what both status and metrics show.

use kedge_dataplane_api::proto;

/// Read on demand from counters that the workers write; no worker is asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Readings {
    /// Ports, workers, drops, stages; tunnels and prefixes only where asked for.
    pub(crate) status: proto::Status,
    /// Entries by table.
    pub(crate) entries: Vec<(&'static str, usize)>,
    /// Most entries by table, for those that have a limit.
    pub(crate) limits: Vec<(&'static str, usize)>,
    /// Octets of the forwarding table.
    pub(crate) forwarding_table_octets: usize,
    /// Snapshots that some worker may still read.
    pub(crate) retired_snapshots: usize,
    /// Packet buffers.
    pub(crate) buffers: u32,
    /// Those in use: in device rings, in hand, in caches of workers excluded.
    pub(crate) buffers_in_use: u32,
    /// Transactions by result.
    pub(crate) transactions: Vec<(&'static str, u64)>,
    /// Events by kind.
    pub(crate) events: Vec<(&'static str, u64)>,
}
