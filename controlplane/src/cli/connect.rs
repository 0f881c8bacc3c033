//! Reaching the daemons, and saying clearly why one cannot be reached.

use std::path::{Path, PathBuf};

use hyper_util::rt::TokioIo;
use kedge_dataplane_api::{Client, ClientError};
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};

use super::node::Node;
use crate::northbound::proto::control_plane_client::ControlPlaneClient;

/// Why a command came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// What was given makes no sense.
    #[error("{0}")]
    Usage(String),
    /// Which node is meant is not clear.
    #[error("{0}")]
    Node(String),
    /// The control plane cannot be reached.
    #[error("{}: {reason}", socket.display())]
    ControlPlane { socket: PathBuf, reason: String },
    /// The control plane said no.
    #[error("the control plane refused: {}", .0.message())]
    Refused(#[from] tonic::Status),
    /// The data plane cannot be reached, or said no.
    #[error("{0}")]
    Dataplane(#[from] ClientError),
    /// What is shown cannot be written.
    #[error("the output cannot be written: {0}")]
    Output(#[from] std::io::Error),
    /// A daemon ended while its events were shown.
    #[error("{0}")]
    Ended(String),
}

/// A client of the node's control plane.
pub(super) async fn controlplane(node: &Node) -> Result<ControlPlaneClient<Channel>, Failure> {
    let socket = node.controlplane();
    let failure = |reason: String| Failure::ControlPlane {
        socket: socket.clone(),
        reason,
    };
    // A plain connection first: its error says what is wrong.
    let first = UnixStream::connect(&socket)
        .await
        .map_err(|error| failure(reason(&error)))?;
    let mut first = Some(first);
    let path: &Path = &socket;
    let path = path.to_owned();
    let connector = tower::service_fn(move |_: Uri| {
        let (ready, path) = (first.take(), path.clone());
        async move {
            match ready {
                Some(stream) => Ok::<_, std::io::Error>(TokioIo::new(stream)),
                None => Ok(TokioIo::new(UnixStream::connect(path).await?)),
            }
        }
    });
    let channel = Endpoint::from_static("http://controlplane.invalid")
        .connect_with_connector(connector)
        .await
        .map_err(|error| failure(format!("the control plane does not answer: {error}")))?;
    Ok(ControlPlaneClient::new(channel).max_decoding_message_size(kedge_dataplane_api::MAXIMUM_MESSAGE))
}

fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => {
            "there is no control plane socket here; is kedge-controlplane running?".to_owned()
        }
        std::io::ErrorKind::ConnectionRefused => {
            "nobody answers on this socket; kedge-controlplane is not running".to_owned()
        }
        _ => format!("cannot connect to the control plane: {error}"),
    }
}

/// A client of the node's data plane.
pub(super) async fn dataplane(node: &Node) -> Result<Client, Failure> {
    Ok(Client::connect(&node.dataplane()).await?)
}
