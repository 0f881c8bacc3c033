//! A data plane that forwards nothing: it keeps its tables, and what it was sent.

use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use kedge_dataplane_api::model::NextHop;
use kedge_dataplane_api::proto::dataplane_server::{Dataplane, DataplaneServer};
use kedge_dataplane_api::{Tables, Transaction, proto};
use tokio::sync::{broadcast, oneshot};
use tokio_stream::wrappers::{BroadcastStream, UnixListenerStream};
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status};

#[derive(Default)]
pub struct Inner {
    pub generation: u64,
    pub tables: Tables,
    pub transactions: Vec<Transaction>,
    /// What it says of `dataplane.inner_ipv4`; nothing, as one of an older version, by default.
    pub carries_inner_ipv4: Option<bool>,
    /// Whether it refuses transactions with an IPv4 prefix of a node, as one that does not carry them.
    pub refuses_inner_ipv4: bool,
    /// Transactions that it refused so.
    pub refused: u64,
}

impl Inner {
    /// Of a data plane that was started with this in its file.
    pub fn with_inner_ipv4(carries: bool) -> Self {
        Self {
            carries_inner_ipv4: Some(carries),
            refuses_inner_ipv4: !carries,
            ..Self::default()
        }
    }
}

/// Serves until it goes out of scope.
pub struct FakeDataplane {
    pub inner: Arc<Mutex<Inner>>,
    events: broadcast::Sender<proto::Event>,
    stop: Option<(oneshot::Sender<()>, std::thread::JoinHandle<()>)>,
}

impl FakeDataplane {
    /// An empty one that listens at `socket`.
    pub fn start(socket: &Path) -> Self {
        Self::start_with(socket, Inner::default())
    }

    /// The same with this in it.
    pub fn start_with(socket: &Path, inner: Inner) -> Self {
        let inner = Arc::new(Mutex::new(inner));
        let events = broadcast::Sender::new(16);
        let service = Service {
            inner: Arc::clone(&inner),
            events: events.clone(),
        };
        let _ = std::fs::remove_file(socket);
        std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
        let listener = std::os::unix::net::UnixListener::bind(socket).unwrap();
        listener.set_nonblocking(true).unwrap();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = tokio::net::UnixListener::from_std(listener).unwrap();
                let server = tonic::transport::Server::builder()
                    .add_service(DataplaneServer::new(service))
                    .serve_with_incoming(UnixListenerStream::new(listener));
                tokio::select! {
                    result = server => result.unwrap(),
                    // As kill -9 does it: in the middle of whatever it was doing.
                    _ = stopped => {}
                }
            });
        });
        Self {
            inner,
            events,
            stop: Some((stop, thread)),
        }
    }

    /// A copy of its tables.
    pub fn tables(&self) -> Tables {
        self.inner.lock().unwrap().tables.clone()
    }

    /// Tells whoever watches that a neighbour is unknown.
    pub fn unknown_neighbour(&self, port: &str, address: std::net::Ipv6Addr) {
        let unknown = proto::UnknownNeighbour {
            port: port.to_owned(),
            address: address.octets().to_vec(),
        };
        let event = proto::Event {
            unix_ms: 0,
            kind: Some(proto::event::Kind::UnknownNeighbour(unknown)),
        };
        self.events.send(event).unwrap();
    }
}

impl Drop for FakeDataplane {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.stop.take() {
            let _ = stop.send(());
            let _ = thread.join();
        }
    }
}

struct Service {
    inner: Arc<Mutex<Inner>>,
    events: broadcast::Sender<proto::Event>,
}

#[tonic::async_trait]
impl Dataplane for Service {
    async fn apply(&self, request: Request<proto::Transaction>) -> Result<Response<proto::Applied>, Status> {
        let transaction = Transaction::try_from(request.get_ref())
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let mut inner = self.inner.lock().unwrap();
        if transaction.expected_generation != 0 && transaction.expected_generation != inner.generation {
            return Err(Status::failed_precondition(format!(
                "generation is {}",
                inner.generation
            )));
        }
        let of_node = transaction.put_prefixes.iter().find(|(prefix, entry)| {
            prefix.prefix_len() >= 96
                && prefix.addr().to_ipv4_mapped().is_some()
                && (entry.source.is_some() || matches!(entry.next_hop, NextHop::Tunnel(_)))
        });
        if let Some((prefix, _)) = of_node.filter(|_| inner.refuses_inner_ipv4) {
            inner.refused += 1;
            return Err(Status::invalid_argument(format!(
                "prefix {prefix}: dataplane.inner_ipv4 = \"refuse\": no IPv4 is carried in tunnels"
            )));
        }
        inner.tables.apply(&transaction);
        inner.transactions.push(transaction);
        inner.generation += 1;
        let generation = inner.generation;
        Ok(Response::new(proto::Applied { generation }))
    }

    async fn read_state(
        &self,
        _: Request<proto::ReadStateRequest>,
    ) -> Result<Response<proto::State>, Status> {
        let inner = self.inner.lock().unwrap();
        Ok(Response::new(proto::State {
            carries_inner_ipv4: inner.carries_inner_ipv4,
            ..proto::State::encode(inner.generation, &inner.tables)
        }))
    }

    async fn get_status(
        &self,
        _: Request<proto::GetStatusRequest>,
    ) -> Result<Response<proto::Status>, Status> {
        let inner = self.inner.lock().unwrap();
        Ok(Response::new(proto::Status {
            name: "fake".to_owned(),
            generation: inner.generation,
            carries_inner_ipv4: inner.carries_inner_ipv4,
            drops: vec![proto::DropCount {
                reason: "no_route".to_owned(),
                packets: 3,
            }],
            tunnels: vec![proto::TunnelCount {
                id: 1,
                encapsulated_packets: 7,
                ..proto::TunnelCount::default()
            }],
            ..proto::Status::default()
        }))
    }

    async fn read_counters(
        &self,
        _: Request<proto::ReadCountersRequest>,
    ) -> Result<Response<proto::CounterReading>, Status> {
        Ok(Response::new(proto::CounterReading::default()))
    }

    async fn add_counters(
        &self,
        _: Request<proto::AddCountersRequest>,
    ) -> Result<Response<proto::AddCountersReply>, Status> {
        Ok(Response::new(proto::AddCountersReply {}))
    }

    type WatchEventsStream = Pin<Box<dyn Stream<Item = Result<proto::Event, Status>> + Send>>;

    async fn watch_events(
        &self,
        _: Request<proto::WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        let events = BroadcastStream::new(self.events.subscribe()).filter_map(|event| event.ok().map(Ok));
        Ok(Response::new(Box::pin(events)))
    }
}
