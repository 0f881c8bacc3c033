//! The contract's gRPC service on a Unix socket.

mod socket;

use std::sync::Arc;

use kedge_dataplane_api::model::Transaction;
use kedge_dataplane_api::proto::dataplane_server::{Dataplane, DataplaneServer};
use kedge_dataplane_api::{ConversionError, MAXIMUM_MESSAGE, prefix_keys, proto};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status};

use crate::control::{Control, CounterRefusal, ReadCounters, Refusal};
use crate::counters::Traffic;
use crate::events::EventStream;
use crate::snapshot::Carried;

pub(crate) use socket::ApiSocket;
pub use socket::SocketError;

struct Service {
    control: Arc<Control>,
}

/// Serves until `stop` resolves and the calls in progress have ended.
pub(crate) async fn serve(
    control: Arc<Control>,
    listener: std::os::unix::net::UnixListener,
    stop: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let listener = tokio::net::UnixListener::from_std(listener)?;
    let service = DataplaneServer::new(Service { control })
        .max_decoding_message_size(MAXIMUM_MESSAGE)
        .max_encoding_message_size(MAXIMUM_MESSAGE);
    tonic::transport::Server::builder()
        .add_service(service)
        .serve_with_incoming_shutdown(UnixListenerStream::new(listener), stop)
        .await?;
    Ok(())
}

/// The service ended by itself.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Transport(#[from] tonic::transport::Error),
}

fn invalid(error: ConversionError) -> Status {
    Status::invalid_argument(error.to_string())
}

fn absent(refusal: CounterRefusal) -> Status {
    Status::not_found(refusal.to_string())
}

#[tonic::async_trait]
impl Dataplane for Service {
    type WatchEventsStream = EventStream;

    async fn apply(&self, request: Request<proto::Transaction>) -> Result<Response<proto::Applied>, Status> {
        let transaction = match Transaction::try_from(request.get_ref()) {
            Ok(transaction) => transaction,
            Err(error) => {
                self.control.count_refused();
                tracing::warn!(%error, "a transaction was refused");
                return Err(Status::invalid_argument(error.to_string()));
            }
        };
        match self.control.apply(&transaction) {
            Ok(generation) => Ok(Response::new(proto::Applied { generation })),
            Err(refusal) => {
                tracing::warn!(error = %refusal, "a transaction was refused");
                Err(match refusal {
                    Refusal::Generation { .. } => Status::failed_precondition(refusal.to_string()),
                    Refusal::Invalid(_) => Status::invalid_argument(refusal.to_string()),
                })
            }
        }
    }

    async fn read_state(
        &self,
        _: Request<proto::ReadStateRequest>,
    ) -> Result<Response<proto::State>, Status> {
        Ok(Response::new(self.control.state()))
    }

    async fn get_status(
        &self,
        _: Request<proto::GetStatusRequest>,
    ) -> Result<Response<proto::Status>, Status> {
        Ok(Response::new(self.control.readings(true).status))
    }

    async fn read_counters(
        &self,
        request: Request<proto::ReadCountersRequest>,
    ) -> Result<Response<proto::CounterReading>, Status> {
        let request = request.into_inner();
        let request = ReadCounters {
            all: request.all,
            prefixes: prefix_keys("prefixes", &request.prefixes).map_err(invalid)?,
            filters: request.filters,
            reset: request.reset,
            departed: request.departed.then(|| {
                let known = request.incarnation == self.control.incarnation();
                if known { request.departed_had } else { 0 }
            }),
        };
        self.control
            .read_counters(&request)
            .map(Response::new)
            .map_err(absent)
    }

    async fn add_counters(
        &self,
        request: Request<proto::AddCountersRequest>,
    ) -> Result<Response<proto::AddCountersReply>, Status> {
        let prefixes = &request.get_ref().prefixes;
        let keys: Vec<proto::PrefixKey> = prefixes
            .iter()
            .map(|it| proto::PrefixKey {
                address: it.address.clone(),
                length: it.length,
            })
            .collect();
        let keys = prefix_keys("prefixes", &keys).map_err(invalid)?;
        let carried = |it: &proto::PrefixCount| Carried {
            traffic: Traffic {
                to_packets: it.to_packets,
                to_bytes: it.to_bytes,
                from_packets: it.from_packets,
                from_bytes: it.from_bytes,
            },
            first_unix_ms: it.first_unix_ms,
            last_unix_ms: it.last_unix_ms,
        };
        let counts: Vec<_> = keys.into_iter().zip(prefixes.iter().map(carried)).collect();
        self.control.add_counters(&counts).map_err(absent)?;
        Ok(Response::new(proto::AddCountersReply {}))
    }

    async fn watch_events(
        &self,
        _: Request<proto::WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        Ok(Response::new(self.control.events().watch()))
    }
}
