//! gRPC calls to requests of the event loop.

use std::pin::Pin;

use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;
use tokio_stream::wrappers::{BroadcastStream, UnixListenerStream};
use tokio_stream::{Stream, StreamExt};
use tonic::{Response, Status};

use super::proto::control_plane_server::{ControlPlane, ControlPlaneServer};
use super::{Reply, Request, proto};
use crate::driver::Observer;
use crate::event::Event;

/// Serves the API on `listener` until the returned task is aborted.
///
/// # Errors
/// None at the start; the task ends with that of the transport.
pub fn serve(
    listener: UnixListener,
    requests: mpsc::Sender<Request>,
    observer: Observer,
) -> tokio::task::JoinHandle<Result<(), tonic::transport::Error>> {
    let service = ControlPlaneServer::new(Service { requests, observer });
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(UnixListenerStream::new(listener)),
    )
}

struct Service {
    requests: mpsc::Sender<Request>,
    observer: Observer,
}

impl Service {
    async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<Response<T>, Status> {
        let (reply, answer) = oneshot::channel();
        let stopping = || Status::unavailable("the control plane is stopping");
        self.requests.send(request(reply)).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())?.map(Response::new)
    }
}

#[tonic::async_trait]
impl ControlPlane for Service {
    async fn get_info(
        &self,
        _: tonic::Request<proto::GetInfoRequest>,
    ) -> Result<Response<proto::Info>, Status> {
        self.ask(Request::Info).await
    }

    async fn list_nodes(
        &self,
        _: tonic::Request<proto::ListNodesRequest>,
    ) -> Result<Response<proto::NodeList>, Status> {
        self.ask(Request::Nodes).await
    }

    async fn list_bindings(
        &self,
        _: tonic::Request<proto::ListBindingsRequest>,
    ) -> Result<Response<proto::BindingList>, Status> {
        self.ask(Request::Bindings).await
    }

    async fn attach(
        &self,
        request: tonic::Request<proto::AttachRequest>,
    ) -> Result<Response<proto::AttachReply>, Status> {
        self.ask(|reply| Request::Attach(request.into_inner(), reply))
            .await
    }

    async fn detach(
        &self,
        request: tonic::Request<proto::DetachRequest>,
    ) -> Result<Response<proto::DetachReply>, Status> {
        self.ask(|reply| Request::Detach(request.into_inner(), reply))
            .await
    }

    async fn add_filter(
        &self,
        request: tonic::Request<proto::FilterRule>,
    ) -> Result<Response<proto::AddFilterReply>, Status> {
        self.ask(|reply| Request::AddFilter(Box::new(request.into_inner()), reply))
            .await
    }

    async fn delete_filter(
        &self,
        request: tonic::Request<proto::DeleteFilterRequest>,
    ) -> Result<Response<proto::DeleteFilterReply>, Status> {
        self.ask(|reply| Request::DeleteFilter(request.into_inner(), reply))
            .await
    }

    async fn list_filters(
        &self,
        _: tonic::Request<proto::ListFiltersRequest>,
    ) -> Result<Response<proto::FilterList>, Status> {
        self.ask(Request::Filters).await
    }

    async fn list_meters(
        &self,
        _: tonic::Request<proto::ListMetersRequest>,
    ) -> Result<Response<proto::MeterList>, Status> {
        self.ask(Request::Meters).await
    }

    async fn read_usage(
        &self,
        request: tonic::Request<proto::ReadUsageRequest>,
    ) -> Result<Response<proto::UsageList>, Status> {
        self.ask(|reply| Request::Usage(request.into_inner(), reply))
            .await
    }

    async fn list_paths(
        &self,
        _: tonic::Request<proto::ListPathsRequest>,
    ) -> Result<Response<proto::PathList>, Status> {
        self.ask(Request::Paths).await
    }

    async fn relocate(
        &self,
        request: tonic::Request<proto::RelocateRequest>,
    ) -> Result<Response<proto::RelocateReply>, Status> {
        self.ask(|reply| Request::Relocate(request.into_inner(), reply))
            .await
    }

    async fn drain(
        &self,
        request: tonic::Request<proto::DrainRequest>,
    ) -> Result<Response<proto::DrainReply>, Status> {
        self.ask(|reply| Request::Drain(request.into_inner(), reply))
            .await
    }

    async fn get_drain_progress(
        &self,
        request: tonic::Request<proto::DrainProgressRequest>,
    ) -> Result<Response<proto::DrainProgress>, Status> {
        self.ask(|reply| Request::DrainProgress(request.into_inner(), reply))
            .await
    }

    async fn set_policy(
        &self,
        request: tonic::Request<proto::PolicyRule>,
    ) -> Result<Response<proto::SetPolicyReply>, Status> {
        self.ask(|reply| Request::SetPolicy(request.into_inner(), reply))
            .await
    }

    async fn remove_policy(
        &self,
        request: tonic::Request<proto::RemovePolicyRequest>,
    ) -> Result<Response<proto::RemovePolicyReply>, Status> {
        self.ask(|reply| Request::RemovePolicy(request.into_inner(), reply))
            .await
    }

    async fn list_policies(
        &self,
        _: tonic::Request<proto::ListPoliciesRequest>,
    ) -> Result<Response<proto::PolicyList>, Status> {
        self.ask(Request::Policies).await
    }

    async fn list_routes(
        &self,
        _: tonic::Request<proto::ListRoutesRequest>,
    ) -> Result<Response<proto::RouteList>, Status> {
        self.ask(Request::Routes).await
    }

    async fn list_delegations(
        &self,
        _: tonic::Request<proto::ListDelegationsRequest>,
    ) -> Result<Response<proto::DelegationList>, Status> {
        self.ask(Request::Delegations).await
    }

    async fn get_counters(
        &self,
        _: tonic::Request<proto::GetCountersRequest>,
    ) -> Result<Response<proto::Counters>, Status> {
        self.ask(Request::Counters).await
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<proto::Event, Status>> + Send>>;

    async fn watch(
        &self,
        _: tonic::Request<proto::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let observer = self.observer.clone();
        let events = BroadcastStream::new(self.observer.subscribe()).map(move |event| {
            Ok(event.unwrap_or_else(|BroadcastStreamRecvError::Lagged(lost)| {
                let text = format!("{lost} events were not shown: this watcher is too slow");
                observer.message(&Event::new("events_lost", text).with("lost", lost))
            }))
        });
        Ok(Response::new(Box::pin(events)))
    }
}
