//! The client against a server that keeps paths as GoBGP does, and against none.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kedge_config::{Community, Gobgp, GobgpEndpoint};
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use crate::announce::gobgp::proto::gobgp_api_server::{GobgpApi, GobgpApiServer};
use crate::announce::gobgp::{GobgpSpeaker, proto};
use crate::announce::speaker::{Said, Speaker};
use crate::announce::{Change, Route};

type Answers<T> = std::pin::Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Paths by prefix and identifier.
type Paths = BTreeMap<(String, u32), proto::Path>;

#[derive(Clone, Default)]
pub(super) struct Server {
    paths: Arc<Mutex<Paths>>,
    /// It does not like this one.
    refused: Option<String>,
    /// With each: whether its session is up, and whether we restart for it.
    peers: Arc<Mutex<Vec<(bool, bool)>>>,
    /// It does not answer who they are.
    hangs: bool,
}

fn text(path: &proto::Path) -> String {
    let octets = path.nlri.as_ref().unwrap().value.as_slice();
    let nlri = <proto::IpAddressPrefix as prost::Message>::decode(octets).unwrap();
    format!("{}/{}", nlri.prefix, nlri.prefix_len)
}

#[tonic::async_trait]
impl GobgpApi for Server {
    type ListPathStream = Answers<proto::ListPathResponse>;
    type ListPeerStream = Answers<proto::ListPeerResponse>;
    type WatchEventStream = Answers<proto::WatchEventResponse>;

    async fn list_peer(
        &self,
        _: Request<proto::ListPeerRequest>,
    ) -> Result<Response<Self::ListPeerStream>, Status> {
        use proto::peer_state::SessionState;
        if self.hangs {
            std::future::pending::<()>().await;
        }
        let peers = self.peers.lock().unwrap().clone();
        let answers = peers.into_iter().map(|(up, local_restarting)| {
            let mut state = proto::PeerState::default();
            state.set_session_state(if up {
                SessionState::Established
            } else {
                SessionState::Active
            });
            let peer = proto::Peer {
                state: Some(state),
                graceful_restart: Some(proto::GracefulRestart { local_restarting }),
            };
            Ok(proto::ListPeerResponse { peer: Some(peer) })
        });
        Ok(Response::new(Box::pin(tokio_stream::iter(
            answers.collect::<Vec<_>>(),
        ))))
    }

    async fn add_path_stream(
        &self,
        request: Request<Streaming<proto::AddPathStreamRequest>>,
    ) -> Result<Response<proto::Nothing>, Status> {
        let mut requests = request.into_inner();
        while let Some(request) = requests.message().await? {
            for path in request.paths {
                let prefix = text(&path);
                if Some(&prefix) == self.refused.as_ref() {
                    return Err(Status::unknown("nexthop not found"));
                }
                let key = (prefix, path.identifier);
                let mut paths = self.paths.lock().unwrap();
                if path.is_withdraw {
                    paths.remove(&key);
                } else {
                    paths.insert(key, path);
                }
            }
        }
        Ok(Response::new(proto::Nothing {}))
    }

    async fn list_path(
        &self,
        request: Request<proto::ListPathRequest>,
    ) -> Result<Response<Self::ListPathStream>, Status> {
        assert_eq!(
            request.into_inner().family,
            Some(proto::Family { afi: 2, safi: 1 })
        );
        let mut destinations: BTreeMap<String, Vec<proto::Path>> = BTreeMap::new();
        for ((prefix, _), path) in self.paths.lock().unwrap().iter() {
            destinations.entry(prefix.clone()).or_default().push(path.clone());
        }
        let answers = destinations.into_iter().map(|(prefix, paths)| {
            let destination = Some(proto::Destination { prefix, paths });
            Ok(proto::ListPathResponse { destination })
        });
        Ok(Response::new(Box::pin(tokio_stream::iter(
            answers.collect::<Vec<_>>(),
        ))))
    }

    async fn watch_event(
        &self,
        request: Request<proto::WatchEventRequest>,
    ) -> Result<Response<Self::WatchEventStream>, Status> {
        assert!(request.into_inner().peer.is_some());
        let first = tokio_stream::once(Ok(proto::WatchEventResponse {}));
        Ok(Response::new(Box::pin(first.chain(tokio_stream::pending()))))
    }
}

pub(super) fn serve(server: Server, socket: &Path) -> tokio::task::JoinHandle<()> {
    let listener = UnixListener::bind(socket).unwrap();
    let serving = tonic::transport::Server::builder()
        .add_service(GobgpApiServer::new(server))
        .serve_with_incoming(UnixListenerStream::new(listener));
    tokio::spawn(async move { serving.await.unwrap() })
}

pub(super) fn speaker(socket: &Path) -> GobgpSpeaker {
    GobgpSpeaker::new(Gobgp {
        endpoint: GobgpEndpoint::Unix(socket.to_owned()),
        path_identifier: 7,
    })
}

pub(super) fn route() -> Route {
    Route {
        next_hop: Some(Ipv6Addr::new(0x2001, 0xdb8, 0xca1, 0, 0, 0, 0, 2)),
        local_preference: Some(300),
        med: Some(0),
        communities: [Community::Standard(0xfde9_0064), Community::Large(1, 2, 3)].into(),
    }
}

pub(super) fn announce(prefix: &str) -> Change {
    Change {
        prefix: prefix.parse().unwrap(),
        route: Some(route()),
    }
}

fn withdraw(prefix: &str) -> Change {
    Change {
        route: None,
        ..announce(prefix)
    }
}

#[tokio::test]
async fn what_is_announced_is_listed_and_paths_of_others_are_not() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("gobgp.sock");
    let server = Server::default();
    let task = serve(server.clone(), &socket);
    let mut speaker = speaker(&socket);
    speaker.connect().await.unwrap();
    let changes = [announce("2001:db8:100::/48"), announce("2001:db8:200::/64")];
    let results = speaker.apply(&changes).await.unwrap();
    assert!(results.iter().all(|(_, result)| result.is_ok()), "{results:?}");
    {
        let mut paths = server.paths.lock().unwrap();
        let ours = paths.values().next().unwrap().clone();
        // An operator's, and one of a peer that happens to use our identifier.
        let foreign = proto::Path {
            identifier: 0,
            ..ours.clone()
        };
        paths.insert(("2001:db8:900::/48".to_owned(), 0), foreign);
        let of_a_peer = proto::Path {
            neighbor_ip: "2001:db8::9".to_owned(),
            ..ours
        };
        paths.insert(("2001:db8:901::/48".to_owned(), 7), of_a_peer);
    }
    let listed = speaker.list().await.unwrap();
    let expected = changes.iter().map(|change| (change.prefix, route())).collect();
    assert_eq!(listed, expected);
    speaker.apply(&[withdraw("2001:db8:100::/48")]).await.unwrap();
    let left: Vec<_> = server.paths.lock().unwrap().keys().cloned().collect();
    let left: Vec<_> = left.iter().map(|(prefix, _)| prefix.as_str()).collect();
    assert_eq!(
        left,
        ["2001:db8:200::/64", "2001:db8:900::/48", "2001:db8:901::/48"]
    );
    task.abort();
}

#[tokio::test]
async fn one_that_is_refused_keeps_no_other() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("gobgp.sock");
    let server = Server {
        refused: Some("2001:db8:200::/64".to_owned()),
        ..Server::default()
    };
    let task = serve(server.clone(), &socket);
    let mut speaker = speaker(&socket);
    speaker.connect().await.unwrap();
    let changes = ["2001:db8:100::/64", "2001:db8:200::/64", "2001:db8:300::/64"].map(announce);
    let results = speaker.apply(&changes).await.unwrap();
    let results: Vec<_> = results.into_iter().map(|(_, result)| result).collect();
    assert_eq!(results, [Ok(()), Err("nexthop not found".to_owned()), Ok(())]);
    assert_eq!(server.paths.lock().unwrap().len(), 2);
    task.abort();
}

#[tokio::test]
async fn the_end_of_the_daemon_is_heard() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("gobgp.sock");
    let mut speaker = speaker(&socket);
    let error = speaker.connect().await.unwrap_err();
    assert!(error.contains("No such file"), "{error}");
    assert_eq!(speaker.list().await.unwrap_err(), "there is no connection");
    // A runtime of its own for the server: its end closes what it had open.
    let (sender, receiver) = std::sync::mpsc::channel();
    let path = socket.clone();
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let _task = serve(Server::default(), &path);
            sender.send(()).unwrap();
            let _ = ended.await;
        });
    });
    receiver.recv().unwrap();
    speaker.connect().await.unwrap();
    speaker.list().await.unwrap();
    end.send(()).unwrap();
    // It may have said first that there is no neighbour to wait for.
    let lost = async { while !matches!(speaker.said().await, Said::Lost(_)) {} };
    tokio::time::timeout(Duration::from_secs(10), lost).await.unwrap();
    thread.join().unwrap();
    assert!(speaker.apply(&[announce("2001:db8::/64")]).await.is_err());
}

/// A session that is up is not enough while GoBGP restarts gracefully: it keeps back what it is given.
#[tokio::test]
async fn neighbours_hear_where_a_session_is_up_and_nothing_is_kept_back() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("gobgp.sock");
    let server = Server::default();
    let peers = |list: &[(bool, bool)]| *server.peers.lock().unwrap() = list.to_vec();
    peers(&[(false, false)]);
    let task = serve(server.clone(), &socket);
    let mut speaker = speaker(&socket);
    speaker.connect().await.unwrap();
    for silent in [&[(false, false)][..], &[(false, true), (true, true)]] {
        peers(silent);
        let said = tokio::time::timeout(Duration::from_millis(200), speaker.said()).await;
        assert!(said.is_err(), "{said:?}");
    }
    peers(&[(false, false), (true, false)]);
    assert_eq!(speaker.said().await, Said::Neighbours(true));
    task.abort();
    // Nobody to wait for.
    peers(&[]);
    let other = directory.path().join("other.sock");
    let _task = serve(server.clone(), &other);
    let mut speaker = self::speaker(&other);
    speaker.connect().await.unwrap();
    assert_eq!(speaker.said().await, Said::Neighbours(true));
}

/// One that hangs is given up, and another connection tried: it would keep this one, and say nothing, for ever.
#[tokio::test]
async fn a_daemon_that_hangs_is_given_up() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("gobgp.sock");
    let server = Server {
        hangs: true,
        ..Server::default()
    };
    let _task = serve(server, &socket);
    let mut speaker = speaker(&socket);
    speaker.connect().await.unwrap();
    assert_eq!(speaker.said().await, Said::Lost("it does not answer".to_owned()));
    assert_eq!(speaker.list().await.unwrap_err(), "there is no connection");
}
