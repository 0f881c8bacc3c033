//! What operators and programs ask of a running control plane: gRPC on a Unix socket.
//!
//! A call becomes a [`Request`] to the event loop, which owns all state, and
//! comes back with the answer; so a reader sees one consistent moment.

mod service;
mod socket;

pub use service::serve;
pub use socket::{Socket, SocketError};

use tokio::sync::oneshot;

/// The generated protobuf and gRPC types.
#[allow(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    unreachable_pub,
    reason = "generated code"
)]
pub mod proto {
    tonic::include_proto!("kedge.controlplane.v1");
}

/// Where an answer goes: the value, or why there is none.
pub type Reply<T> = oneshot::Sender<Result<T, tonic::Status>>;

/// A call, as the event loop sees it.
#[derive(Debug)]
pub enum Request {
    /// GetInfo.
    Info(Reply<proto::Info>),
    /// ListNodes.
    Nodes(Reply<proto::NodeList>),
    /// ListBindings.
    Bindings(Reply<proto::BindingList>),
    /// Attach.
    Attach(proto::AttachRequest, Reply<proto::AttachReply>),
    /// Detach.
    Detach(proto::DetachRequest, Reply<proto::DetachReply>),
    /// AddFilter.
    AddFilter(Box<proto::FilterRule>, Reply<proto::AddFilterReply>),
    /// DeleteFilter.
    DeleteFilter(proto::DeleteFilterRequest, Reply<proto::DeleteFilterReply>),
    /// ListFilters.
    Filters(Reply<proto::FilterList>),
    /// ListMeters.
    Meters(Reply<proto::MeterList>),
    /// ReadUsage.
    Usage(proto::ReadUsageRequest, Reply<proto::UsageList>),
    /// ListPaths.
    Paths(Reply<proto::PathList>),
    /// Relocate.
    Relocate(proto::RelocateRequest, Reply<proto::RelocateReply>),
    /// Drain.
    Drain(proto::DrainRequest, Reply<proto::DrainReply>),
    /// GetDrainProgress.
    DrainProgress(proto::DrainProgressRequest, Reply<proto::DrainProgress>),
    /// SetPolicy.
    SetPolicy(proto::PolicyRule, Reply<proto::SetPolicyReply>),
    /// RemovePolicy.
    RemovePolicy(proto::RemovePolicyRequest, Reply<proto::RemovePolicyReply>),
    /// ListPolicies.
    Policies(Reply<proto::PolicyList>),
    /// ListRoutes.
    Routes(Reply<proto::RouteList>),
    /// ListDelegations.
    Delegations(Reply<proto::DelegationList>),
    /// GetCounters.
    Counters(Reply<proto::Counters>),
    /// A scrape of `/metrics`: the text.
    Metrics(Reply<String>),
}
