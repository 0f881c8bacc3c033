//! The control plane's end of the contract.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Status, Streaming};
use tower::service_fn;

use crate::MAXIMUM_MESSAGE;
use crate::convert::ConversionError;
use crate::model::{Tables, Transaction};
use crate::proto;
use crate::proto::dataplane_client::DataplaneClient;

/// A call that has no answer by then has failed: the largest transactions take some ten seconds.
const PATIENCE: Duration = Duration::from_secs(120);

/// A connection to one data plane. Clones share it.
///
/// After the data plane has gone, every call fails with
/// [`ClientError::Lost`]; connect anew.
#[derive(Clone, Debug)]
pub struct Client {
    inner: DataplaneClient<Channel>,
    socket: PathBuf,
}

/// What a data plane has, and what it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadBack {
    /// Its generation.
    pub generation: u64,
    /// All tables, as of that.
    pub tables: Tables,
    /// Whether `dataplane.inner_ipv4` is `carry` there; if not, every transaction with an IPv4 prefix of a node is refused.
    /// `None`: it does not say.
    pub carries_inner_ipv4: Option<bool>,
}

/// Why a call on a data plane came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No socket of that name: the data plane was not started, or another run directory is meant.
    #[error("{socket}: there is no data plane socket here; is kedge-dataplane running?", socket = .0.display())]
    Absent(PathBuf),
    /// The socket is there, but nobody listens: the data plane died.
    #[error("{socket}: nobody answers on this socket; kedge-dataplane is not running", socket = .0.display())]
    Refused(PathBuf),
    /// Any other failure to connect, such as lacking permission.
    #[error("{socket}: cannot connect to the data plane: {reason}", socket = .socket.display())]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// The connection broke during the call; whether it was carried out is unknown.
    #[error("{socket}: lost the data plane: {reason}", socket = .socket.display())]
    Lost {
        /// The socket.
        socket: PathBuf,
        /// What broke.
        reason: String,
    },
    /// The tables are at another generation than the transaction expected; nothing changed.
    #[error("the data plane refused: {0}")]
    GenerationMismatch(String),
    /// The data plane refused the transaction; the text names the offending value; nothing changed.
    #[error("the data plane refused: {0}")]
    Rejected(String),
    /// The answer breaks the contract.
    #[error("the data plane's answer is not understood: {0}")]
    Answer(#[from] ConversionError),
}

impl Client {
    /// Connects to the data plane that listens on the Unix socket `path`.
    ///
    /// # Errors
    /// [`ClientError::Absent`], [`ClientError::Refused`] or [`ClientError::Connect`].
    pub async fn connect(path: &Path) -> Result<Self, ClientError> {
        let socket = path.to_owned();
        // A plain connection first: its error says what is wrong, which the
        // one that comes out of the channel does not.
        let first = UnixStream::connect(&socket)
            .await
            .map_err(|error| connect_error(&socket, &error))?;
        let mut first = Some(first);
        let to = socket.clone();
        let connector = service_fn(move |_: Uri| {
            let ready = first.take();
            let to = to.clone();
            async move {
                match ready {
                    Some(stream) => Ok::<_, std::io::Error>(TokioIo::new(stream)),
                    None => Ok(TokioIo::new(UnixStream::connect(to).await?)),
                }
            }
        });
        // The name is of no use on a Unix socket, but HTTP/2 wants one.
        let channel = Endpoint::from_static("http://dataplane.invalid")
            .timeout(PATIENCE)
            .connect_with_connector(connector)
            .await
            .map_err(|error| ClientError::Connect {
                socket: socket.clone(),
                reason: chain(&error),
            })?;
        let inner = DataplaneClient::new(channel)
            .max_decoding_message_size(MAXIMUM_MESSAGE)
            .max_encoding_message_size(MAXIMUM_MESSAGE);
        Ok(Self { inner, socket })
    }

    /// The socket that this client was connected to.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Has `transaction` carried out; gives the generation that contains it.
    ///
    /// # Errors
    /// Refused, with nothing changed; or lost.
    pub async fn apply(&self, transaction: &Transaction) -> Result<u64, ClientError> {
        let message = proto::Transaction::from(transaction);
        let answer = self
            .inner
            .clone()
            .apply(message)
            .await
            .map_err(|status| self.call_error(&status))?;
        Ok(answer.into_inner().generation)
    }

    /// All tables, as of one generation.
    ///
    /// # Errors
    /// Lost, or the answer is not understood.
    pub async fn read_state(&self) -> Result<(u64, Tables), ClientError> {
        self.read_back().await.map(|it| (it.generation, it.tables))
    }

    /// All tables, as of one generation, and what the data plane takes.
    ///
    /// # Errors
    /// Lost, or the answer is not understood.
    pub async fn read_back(&self) -> Result<ReadBack, ClientError> {
        let request = proto::ReadStateRequest {};
        let answer = self
            .inner
            .clone()
            .read_state(request)
            .await
            .map_err(|status| self.call_error(&status))?;
        let state = answer.into_inner();
        let (generation, tables) = state.decode()?;
        Ok(ReadBack {
            generation,
            tables,
            carries_inner_ipv4: state.carries_inner_ipv4,
        })
    }

    /// What the data plane is, and its counters.
    ///
    /// # Errors
    /// Lost.
    pub async fn status(&self) -> Result<proto::Status, ClientError> {
        let request = proto::GetStatusRequest {};
        let answer = self
            .inner
            .clone()
            .get_status(request)
            .await
            .map_err(|status| self.call_error(&status))?;
        Ok(answer.into_inner())
    }

    /// What was counted of prefixes and filters; with `reset` counting begins anew.
    ///
    /// # Errors
    /// Refused, for one of them is not there; or lost.
    pub async fn read_counters(
        &self,
        request: proto::ReadCountersRequest,
    ) -> Result<proto::CounterReading, ClientError> {
        let answer = self
            .inner
            .clone()
            .read_counters(request)
            .await
            .map_err(|status| self.call_error(&status))?;
        Ok(answer.into_inner())
    }

    /// Adds what another anchor has counted.
    ///
    /// # Errors
    /// Refused, with nothing added; or lost.
    pub async fn add_counters(&self, prefixes: Vec<proto::PrefixCount>) -> Result<(), ClientError> {
        let request = proto::AddCountersRequest { prefixes };
        let added = self.inner.clone().add_counters(request).await;
        added.map(|_| ()).map_err(|status| self.call_error(&status))
    }

    /// Events from now on. The stream ends, with or without an error, when the data plane goes.
    ///
    /// # Errors
    /// Lost.
    pub async fn events(&self) -> Result<Streaming<proto::Event>, ClientError> {
        let request = proto::WatchEventsRequest {};
        let answer = self
            .inner
            .clone()
            .watch_events(request)
            .await
            .map_err(|status| self.call_error(&status))?;
        Ok(answer.into_inner())
    }

    fn call_error(&self, status: &Status) -> ClientError {
        match status.code() {
            Code::FailedPrecondition => ClientError::GenerationMismatch(status.message().to_owned()),
            Code::InvalidArgument | Code::ResourceExhausted | Code::NotFound | Code::OutOfRange => {
                ClientError::Rejected(status.message().to_owned())
            }
            _ => ClientError::Lost {
                socket: self.socket.clone(),
                reason: chain(status),
            },
        }
    }
}

fn connect_error(socket: &Path, error: &std::io::Error) -> ClientError {
    match error.kind() {
        std::io::ErrorKind::NotFound => ClientError::Absent(socket.to_owned()),
        std::io::ErrorKind::ConnectionRefused => ClientError::Refused(socket.to_owned()),
        _ => ClientError::Connect {
            socket: socket.to_owned(),
            reason: error.to_string(),
        },
    }
}

/// An error with its causes, outermost first.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}
