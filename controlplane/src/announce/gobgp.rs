//! GoBGP 3 by its gRPC API.
//!
//! Our paths are local ones with a path identifier of their own (RFC 7911): GoBGP keeps paths of the same prefix apart by
//! it, so what an operator has added there stays, and what a process before this one has left behind is found.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use ipnet::Ipv6Net;
use kedge_config::{Community, Gobgp, GobgpEndpoint};
use prost::Message;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch as latest};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Status};
use tower::service_fn;

use super::fsm::Change;
use super::speaker::{Results, Said, Speaker};
use super::{Route, Routes};

/// The generated types.
#[allow(
    missing_docs,
    dead_code,
    clippy::all,
    clippy::pedantic,
    unreachable_pub,
    reason = "generated code"
)]
pub(super) mod proto {
    tonic::include_proto!("apipb");
}

use proto::gobgp_api_client::GobgpApiClient;

const CONNECT_PATIENCE: Duration = Duration::from_secs(2);
/// Of a request: a million paths take GoBGP a quarter of an hour, a batch far less than a second.
const PATIENCE: Duration = Duration::from_secs(60);
/// Of what takes it no time: to say which neighbours it has, and that it will say when that changes. It is short, because a prefix is
/// not taken before it is known that neighbours hear of it.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks whether its process lives.
const LIFE_INTERVAL: Duration = Duration::from_secs(3);
/// How long it may take to say so. Its gRPC server does, whatever its BGP has to do.
const LIFE_PATIENCE: Duration = Duration::from_secs(5);
/// So many paths fit one message many times over.
const PATHS_IN_A_MESSAGE: usize = 256;
/// IPv6, unicast (RFC 4760).
const FAMILY: proto::Family = proto::Family { afi: 2, safi: 1 };
/// Between two looks at neighbours that do not hear what it is given; how they begin to is no event.
const NEIGHBOURS_INTERVAL: Duration = Duration::from_millis(50);
/// Of the gRPC health checking protocol.
const HEALTH: &str = "/grpc.health.v1.Health/Check";
/// Why, where nobody says why.
const ENDED: &str = "the connection has ended";
/// Of the ORIGIN attribute: IGP.
const ORIGIN_IGP: u32 = 0;

/// GoBGP, or the place where it will be.
pub(super) struct GobgpSpeaker {
    settings: Gobgp,
    client: Option<GobgpApiClient<Channel>>,
    /// Hears of neighbours, and the connection end.
    watch: Option<Watch>,
}

struct Watch {
    task: JoinHandle<()>,
    says: mpsc::Receiver<Said>,
    /// Why the connection has ended, for who waits for an answer meanwhile.
    ended: latest::Receiver<Option<String>>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl GobgpSpeaker {
    pub(super) fn new(settings: Gobgp) -> Self {
        Self {
            settings,
            client: None,
            watch: None,
        }
    }

    fn client(&self) -> Result<GobgpApiClient<Channel>, String> {
        self.client
            .clone()
            .ok_or_else(|| "there is no connection".to_owned())
    }

    async fn channel(&self) -> Result<Channel, String> {
        let transport = |error: tonic::transport::Error| {
            // What is wrong is at the end of the chain.
            let mut last: &dyn std::error::Error = &error;
            while let Some(source) = last.source() {
                last = source;
            }
            format!("{}: {last}", self.settings.endpoint)
        };
        match &self.settings.endpoint {
            GobgpEndpoint::Http(uri) => {
                let endpoint = Endpoint::from_shared(uri.clone()).map_err(transport)?;
                let endpoint = endpoint
                    .tcp_nodelay(true)
                    .tcp_keepalive(Some(Duration::from_secs(10)));
                endpoint.connect().await.map_err(transport)
            }
            GobgpEndpoint::Unix(path) => {
                let path = path.clone();
                let connector = service_fn(move |_: Uri| {
                    let path = path.clone();
                    async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(path).await?)) }
                });
                // The name is not looked up.
                let endpoint = Endpoint::from_static("http://gobgp");
                endpoint
                    .connect_with_connector(connector)
                    .await
                    .map_err(transport)
            }
        }
    }

    fn path(&self, change: &Change) -> proto::Path {
        let nlri = any(
            "IPAddressPrefix",
            &proto::IpAddressPrefix {
                prefix_len: change.prefix.prefix_len().into(),
                prefix: change.prefix.network().to_string(),
            },
        );
        let mut pattrs = Vec::new();
        if let Some(route) = &change.route {
            pattrs.push(any(
                "OriginAttribute",
                &proto::OriginAttribute { origin: ORIGIN_IGP },
            ));
            // IPv6 has its next hop in MP_REACH_NLRI (RFC 2545).
            let reach = proto::MpReachNlriAttribute {
                family: Some(FAMILY),
                next_hops: vec![route.next_hop.unwrap_or(Ipv6Addr::UNSPECIFIED).to_string()],
                nlris: vec![nlri.clone()],
            };
            pattrs.push(any("MpReachNLRIAttribute", &reach));
            if let Some(med) = route.med {
                pattrs.push(any(
                    "MultiExitDiscAttribute",
                    &proto::MultiExitDiscAttribute { med },
                ));
            }
            if let Some(local_pref) = route.local_preference {
                pattrs.push(any(
                    "LocalPrefAttribute",
                    &proto::LocalPrefAttribute { local_pref },
                ));
            }
            pattrs.extend(communities(&route.communities));
        }
        proto::Path {
            nlri: Some(nlri),
            pattrs,
            is_withdraw: change.route.is_none(),
            family: Some(FAMILY),
            neighbor_ip: String::new(),
            identifier: self.settings.path_identifier,
        }
    }

    async fn stream(&self, changes: &[Change]) -> Result<(), Status> {
        let mut client = self.client().map_err(Status::unavailable)?;
        let requests: Vec<_> = changes
            .chunks(PATHS_IN_A_MESSAGE)
            .map(|chunk| proto::AddPathStreamRequest {
                table_type: proto::TableType::Global.into(),
                paths: chunk.iter().map(|change| self.path(change)).collect(),
            })
            .collect();
        let answer = client.add_path_stream(tokio_stream::iter(requests));
        self.answered(answer).await.map(|_| ())
    }

    /// What it answers, before that takes too long or the connection ends.
    async fn answered<T>(&self, answer: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
        let ended = self.watch.as_ref().map(|watch| watch.ended.clone());
        let end = async {
            let Some(mut ended) = ended else {
                return std::future::pending().await;
            };
            let reason = ended.wait_for(Option::is_some).await;
            let reason = reason.ok().and_then(|reason| reason.clone());
            reason.unwrap_or_else(|| ENDED.to_owned())
        };
        tokio::select! {
            biased;
            answer = timeout(PATIENCE, answer) => answer.unwrap_or_else(|_| Err(silent())),
            reason = end => Err(Status::unavailable(reason)),
        }
    }

    async fn paths(&self) -> Result<Routes, Status> {
        let mut client = self.client().map_err(Status::unavailable)?;
        let request = proto::ListPathRequest {
            table_type: proto::TableType::Global.into(),
            family: Some(FAMILY),
        };
        let mut answers = client.list_path(request).await?.into_inner();
        let mut routes = Routes::new();
        while let Some(answer) = answers.message().await? {
            let Some(destination) = answer.destination else {
                continue;
            };
            let Ok(prefix) = destination.prefix.parse::<Ipv6Net>() else {
                return Err(Status::internal(format!("{:?} is no prefix", destination.prefix)));
            };
            let ours = destination.paths.iter().find(|path| {
                // Of a peer's paths it is the peer's identifier.
                path.identifier == self.settings.path_identifier
                    && path.neighbor_ip.parse::<IpAddr>().is_err()
            });
            if let Some(path) = ours {
                routes.insert(prefix, route(path));
            }
        }
        Ok(routes)
    }
}

impl Speaker for GobgpSpeaker {
    async fn connect(&mut self) -> Result<(), String> {
        self.client = None;
        self.watch = None;
        let endpoint = &self.settings.endpoint;
        let connected = async {
            let channel = self.channel().await?;
            // The kernel takes connections to a process that hangs.
            let lives = lives(channel.clone()).await;
            lives.map_err(|status| format!("{endpoint}: {}", status.message()))?;
            Ok::<_, String>(channel)
        };
        let channel = timeout(CONNECT_PATIENCE, connected)
            .await
            .map_err(|_| format!("{endpoint}: nobody answers"))??;
        let client = GobgpApiClient::new(channel.clone());
        let (says, said) = mpsc::channel(1);
        let (end, ended) = latest::channel(None);
        let task = tokio::spawn(watch(client.clone(), channel, says, end));
        self.watch = Some(Watch {
            task,
            says: said,
            ended,
        });
        self.client = Some(client);
        Ok(())
    }

    async fn list(&mut self) -> Result<Routes, String> {
        let listed = self.answered(self.paths()).await;
        listed.map_err(|status| self.lost(&status))
    }

    async fn apply(&mut self, changes: &[Change]) -> Result<Results, String> {
        match self.stream(changes).await {
            Ok(()) => return Ok(changes.iter().map(|change| (change.prefix, Ok(()))).collect()),
            Err(status) if is_end(&status) => return Err(self.lost(&status)),
            Err(_) => {}
        }
        // It stops at the first that it does not like, and does not say which.
        let mut results = Results::new();
        for change in changes {
            let result = self.stream(std::slice::from_ref(change)).await;
            if let Err(status) = &result
                && is_end(status)
            {
                return Err(self.lost(status));
            }
            results.push((
                change.prefix,
                result.map_err(|status| status.message().to_owned()),
            ));
        }
        Ok(results)
    }

    async fn said(&mut self) -> Said {
        match &mut self.watch {
            Some(watch) => {
                let said = watch.says.recv().await;
                let said = said.unwrap_or_else(|| Said::Lost(ENDED.to_owned()));
                if matches!(said, Said::Lost(_)) {
                    self.client = None;
                    self.watch = None;
                }
                said
            }
            None => std::future::pending().await,
        }
    }
}

impl GobgpSpeaker {
    fn lost(&mut self, status: &Status) -> String {
        self.client = None;
        self.watch = None;
        status.message().to_owned()
    }
}

/// Whether it is the connection that failed, not what was asked.
fn is_end(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded | Code::Aborted
    ) || std::error::Error::source(status).is_some()
}

fn silent() -> Status {
    Status::deadline_exceeded("it does not answer")
}

/// Waits for the end of the daemon, and says whether its neighbours hear what it is given, whenever that changes.
async fn watch(
    mut client: GobgpApiClient<Channel>,
    channel: Channel,
    says: mpsc::Sender<Said>,
    end: latest::Sender<Option<String>>,
) {
    let followed = tokio::select! {
        followed = follow(&mut client, &says) => followed,
        status = life(channel) => Err(status),
    };
    let reason = match followed {
        Ok(()) => "it ends".to_owned(),
        Err(status) => status.message().to_owned(),
    };
    end.send_replace(Some(reason.clone()));
    // Nobody asks any more, or hears it.
    let _ = says.send(Said::Lost(reason)).await;
}

async fn follow(client: &mut GobgpApiClient<Channel>, says: &mpsc::Sender<Said>) -> Result<(), Status> {
    let peer = Some(proto::watch_event_request::Peer {});
    let events = client.watch_event(proto::WatchEventRequest { peer });
    let mut events = in_time(events).await?.into_inner();
    // At first they are thought not to.
    let mut told = false;
    loop {
        let hear = in_time(neighbours_hear(client)).await?;
        if hear != told {
            told = hear;
            let _ = says.send(Said::Neighbours(hear)).await;
        }
        // Something has become of a peer; what, the list says.
        let event = match hear {
            true => events.message().await?,
            false => match timeout(NEIGHBOURS_INTERVAL, events.message()).await {
                Ok(event) => event?,
                Err(_) => continue,
            },
        };
        if event.is_none() {
            return Ok(());
        }
    }
}

/// What it answers before it takes too long: one that hangs keeps its connections.
async fn in_time<T>(answer: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    let answer = timeout(ANSWER_PATIENCE, answer).await;
    answer.unwrap_or_else(|_| Err(silent()))
}

/// Waits until its process does not answer any more: one that hangs keeps its connections, and whoever waits for events waits for ever.
async fn life(channel: Channel) -> Status {
    loop {
        tokio::time::sleep(LIFE_INTERVAL).await;
        if let Err(status) = lives(channel.clone()).await {
            return status;
        }
    }
}

/// Whether its process answers at all. GoBGP has no health service (grpc.health.v1), and its gRPC server says so at once, which is as good.
/// The keepalive of HTTP/2 would be the plain means; but a server of grpc-go takes a PING every few seconds for an attack, unless it
/// is told otherwise: gobgpd 3.10 ended the connection at the fourth.
async fn lives(channel: Channel) -> Result<(), Status> {
    let mut client = tonic::client::Grpc::new(channel);
    let asked = async {
        let ready = client.ready().await;
        ready.map_err(|error| Status::unavailable(error.to_string()))?;
        let codec = tonic_prost::ProstCodec::<proto::Nothing, proto::Nothing>::default();
        let request = tonic::Request::new(proto::Nothing {});
        client
            .unary(request, PathAndQuery::from_static(HEALTH), codec)
            .await
    };
    match timeout(LIFE_PATIENCE, asked).await {
        Ok(Err(status)) if is_end(&status) => Err(status),
        Ok(_) => Ok(()),
        Err(_) => Err(silent()),
    }
}

/// Whether a session is up on which paths go out: a GoBGP that restarts gracefully (RFC 4724) keeps them back until it has heard all
/// that its neighbours have. Without neighbours there is nobody to wait for.
async fn neighbours_hear(client: &mut GobgpApiClient<Channel>) -> Result<bool, Status> {
    let mut answers = client.list_peer(proto::ListPeerRequest {}).await?.into_inner();
    let (mut peers, mut hearing) = (0, 0);
    while let Some(answer) = answers.message().await? {
        let peer = answer.peer.unwrap_or_default();
        let established = proto::peer_state::SessionState::Established;
        let up = peer.state.is_some_and(|it| it.session_state() == established);
        let restarting = peer.graceful_restart.is_some_and(|it| it.local_restarting);
        peers += 1;
        hearing += u32::from(up && !restarting);
    }
    Ok(peers == 0 || hearing > 0)
}

fn any(name: &str, message: &impl Message) -> proto::Attribute {
    proto::Attribute {
        type_url: format!("type.googleapis.com/apipb.{name}"),
        value: message.encode_to_vec(),
    }
}

fn communities(all: &[Community]) -> Vec<proto::Attribute> {
    let mut standard = proto::CommunitiesAttribute::default();
    let mut large = proto::LargeCommunitiesAttribute::default();
    for community in all {
        match *community {
            Community::Standard(value) => standard.communities.push(value),
            Community::Large(global_admin, local_data1, local_data2) => {
                large.communities.push(proto::LargeCommunity {
                    global_admin,
                    local_data1,
                    local_data2,
                });
            }
        }
    }
    let mut attributes = Vec::new();
    if !standard.communities.is_empty() {
        attributes.push(any("CommunitiesAttribute", &standard));
    }
    if !large.communities.is_empty() {
        attributes.push(any("LargeCommunitiesAttribute", &large));
    }
    attributes
}

/// What a path says. An attribute that is not among ours makes no difference; one that cannot be read is none.
fn route(path: &proto::Path) -> Route {
    let mut route = Route::default();
    let mut communities = BTreeSet::new();
    for attribute in &path.pattrs {
        let octets = attribute.value.as_slice();
        match attribute.type_url.rsplit('.').next().unwrap_or_default() {
            "MpReachNLRIAttribute" => {
                let reach = proto::MpReachNlriAttribute::decode(octets).unwrap_or_default();
                route.next_hop = reach.next_hops.first().and_then(|it| it.parse().ok());
            }
            "MultiExitDiscAttribute" => {
                route.med = proto::MultiExitDiscAttribute::decode(octets)
                    .ok()
                    .map(|it| it.med);
            }
            "LocalPrefAttribute" => {
                route.local_preference = proto::LocalPrefAttribute::decode(octets)
                    .ok()
                    .map(|it| it.local_pref);
            }
            "CommunitiesAttribute" => {
                let all = proto::CommunitiesAttribute::decode(octets).unwrap_or_default();
                communities.extend(all.communities.into_iter().map(Community::Standard));
            }
            "LargeCommunitiesAttribute" => {
                let all = proto::LargeCommunitiesAttribute::decode(octets).unwrap_or_default();
                let large = |it: proto::LargeCommunity| {
                    Community::Large(it.global_admin, it.local_data1, it.local_data2)
                };
                communities.extend(all.communities.into_iter().map(large));
            }
            _ => {}
        }
    }
    route.communities = communities.into_iter().collect();
    route
}
