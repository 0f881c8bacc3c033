//! The contract's gRPC service on a Unix socket.

mod socket;

use std::sync::Arc;

use kedge_dataplane_api::model::Transaction;
use kedge_dataplane_api::proto::dataplane_server::{Dataplane, DataplaneServer};
use kedge_dataplane_api::{MAXIMUM_MESSAGE, proto};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status};

use crate::control::{Control, Refusal};
use crate::events::EventStream;

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

    async fn watch_events(
        &self,
        _: Request<proto::WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        Ok(Response::new(self.control.events().watch()))
    }
}
