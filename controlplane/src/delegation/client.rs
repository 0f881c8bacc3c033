//! The driver of the requesting router: its socket, its timers, its store. A task of its own in the daemon of role `maar`.
//!
//! Pools are wanted from the start, as `[maar.delegation]` says, and told by [`ClientHandle::delegated`]. The prefixes whose
//! anchors have moved here are named by [`ClientHandle::keep`]: delegation is the persistence of a relocation, and its
//! steps do not wait for it. The order is: the control plane moves the lease at the server
//! ([`super::server::ServerHandle::move_lease`]) when it tells the new anchor to take the prefix, and the new anchor
//! asks for it; the old one's pool stays its own without that prefix, which comes home when it is kept here no more.
//! Whoever wants to wait for the outcome has [`ClientHandle::request`] and [`ClientHandle::release`]. What was
//! requested is renewed until it is released, also over a restart; if it is lost all the same, it is no longer in
//! [`Delegated::named`], and if that is because its lifetime has ended it is in [`Delegated::over`] until a server delegates it again.
//!
//! Two ways lead to a server: multicast on the link of a port, or Relay-forwards from `node.address`, as a relay on the
//! same machine would send them, for a server that is somewhere else (RFC 8415 section 19.1.1).

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::Ipv6Net;
use kedge_config::{Config, MaarDelegation};
use tokio::sync::{mpsc, oneshot, watch};

use super::requesting::{Held, Input, Output, Phase, Requesting, Settings, State, Wanted};
use super::server::{Figures, milliseconds};
use super::socket::{DhcpSocket, next, number_of};
use super::wire::{ALL_RELAYS_AND_SERVERS, CLIENT_PORT, Duid, Hop, Packet, Relay, SERVER_PORT};
use crate::binding::{FileStore, Saver, StoreError};
use crate::counters::Counters;
use crate::driver::{Observer, Received, restore, wait_until};
use crate::event::Event;
use crate::northbound::proto;
use crate::time::Time;

/// A socket that cannot be had, or a link that is not there, is looked for again after this.
const RETRY: Duration = Duration::from_secs(1);

/// Names of the counters.
const COUNTERS: &[&str] = &[
    "dhcp_receive_failed",
    "dhcp_send_failed",
    "dhcp_refused_stranger",
    "requests_for_prefixes",
];

/// What servers have delegated to this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delegated {
    /// Pools, with their lifetimes.
    pub pools: Vec<Held>,
    /// Prefixes that were requested by name, each with the end of its valid lifetime; `None`: it has none.
    pub named: BTreeMap<Ipv6Net, Option<Time>>,
    /// Those that were delegated by name until their lifetime ended, and are still wanted.
    pub over: BTreeSet<Ipv6Net>,
}

/// Why a prefix was not delegated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// No server does it.
    #[error("{prefix} is not delegated to this node: {reason}")]
    Refused {
        /// The prefix.
        prefix: Ipv6Net,
        /// Why not.
        reason: String,
    },
    /// The requesting router is stopping.
    #[error("the requesting router is stopping")]
    Stopping,
}

/// Of [`ClientHandle::keep`]; `None`: that was not said yet.
type Kept = Option<Arc<BTreeSet<Ipv6Net>>>;

enum Command {
    Request(Ipv6Net, oneshot::Sender<Result<(), RequestError>>),
    Release(Ipv6Net, oneshot::Sender<()>),
    List(oneshot::Sender<Vec<proto::Delegation>>),
}

/// A way to the requesting router.
#[derive(Clone, Debug)]
pub struct ClientHandle {
    commands: mpsc::Sender<Command>,
    delegated: watch::Receiver<Arc<Delegated>>,
    figures: watch::Receiver<Figures>,
    kept: Arc<watch::Sender<Kept>>,
}

impl ClientHandle {
    /// These very prefixes are wanted from now on, and no others by name. What is missing is requested, until it is there;
    /// what is too much is released. Can be said as often as one likes.
    pub fn keep(&self, prefixes: BTreeSet<Ipv6Net>) {
        self.kept.send_if_modified(|before| {
            let different = before.as_deref() != Some(&prefixes);
            if different {
                *before = Some(Arc::new(prefixes));
            }
            different
        });
    }

    /// Requests this very prefix. Answered when a server has delegated it, or has not: at most after some 15 s without
    /// an answer from any.
    ///
    /// # Errors
    /// A [`RequestError`].
    pub async fn request(&self, prefix: Ipv6Net) -> Result<(), RequestError> {
        let (reply, answer) = oneshot::channel();
        let sent = self.commands.send(Command::Request(prefix, reply)).await;
        sent.map_err(|_| RequestError::Stopping)?;
        answer.await.map_err(|_| RequestError::Stopping)?
    }

    /// Gives a prefix back; it must not be used any more. Answered when the server knows, or does not answer.
    pub async fn release(&self, prefix: Ipv6Net) {
        let (reply, answer) = oneshot::channel();
        let _ = self.commands.send(Command::Release(prefix, reply)).await;
        let _ = answer.await;
    }

    /// What is delegated to this node, and word of each change of that.
    #[must_use]
    pub fn delegated(&self) -> watch::Receiver<Arc<Delegated>> {
        self.delegated.clone()
    }

    /// Every prefix, and everything that is wanted, for people.
    pub async fn list(&self) -> Vec<proto::Delegation> {
        let (reply, answer) = oneshot::channel();
        let _ = self.commands.send(Command::List(reply)).await;
        answer.await.unwrap_or_default()
    }

    /// What was counted.
    #[must_use]
    pub fn figures(&self) -> Figures {
        self.figures.borrow().clone()
    }
}

/// How servers are reached.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Way {
    /// By multicast on the link of this interface.
    Link(String),
    /// As a relay of ours would, at this server.
    Relay(Ipv6Addr),
}

/// Starts the requesting router of `[maar.delegation]`; `None` where there is none.
///
/// # Errors
/// The store cannot be used.
pub fn start(config: &Config, observer: &Observer) -> anyhow::Result<Option<ClientHandle>> {
    let Some(delegation) = config.maar.as_ref().and_then(|maar| maar.delegation.as_ref()) else {
        return Ok(None);
    };
    let Some(way) = way(config, delegation) else {
        anyhow::bail!("maar.delegation names neither a server nor a port with an exception interface");
    };
    let settings = Settings {
        client: Duid::of_node(config.node.address),
        rapid_commit: delegation.rapid_commit,
        accept_reconfigure: delegation.reconfigure,
        one_server: matches!(way, Way::Relay(_)),
    };
    let (store, state) = restore::<State>(&config.state_directory(), "requesting", observer)?;
    let now = observer.clock().now();
    let random = getrandom::u64()
        .map_err(|error| anyhow::anyhow!("the operating system gives no randomness: {error}"))?;
    let machine = Requesting::new(settings, state, now, random);
    let (commands, queue) = mpsc::channel(64);
    let (told, delegated) = watch::channel(Arc::default());
    let (count, figures) = watch::channel(Figures::default());
    let mut client = Client {
        machine,
        way,
        address: config.node.address,
        observer: observer.clone(),
        socket: None,
        interface: None,
        waiting: String::new(),
        counters: Counters::new(COUNTERS),
        saver: Saver::new(store),
        requests: BTreeMap::new(),
        releases: BTreeMap::new(),
        told,
        count,
    };
    let hint = delegation
        .length
        .and_then(|length| Ipv6Net::new(Ipv6Addr::UNSPECIFIED, length).ok());
    for iaid in 1..=delegation.pools {
        let wanted = Wanted { hint, exact: false };
        client.process(Input::Want { iaid, wanted });
    }
    // Whoever asks is told what was stored from the beginning.
    client.process(Input::Tick);
    let (kept, keep) = watch::channel(None);
    tokio::spawn(client.run(queue, keep));
    Ok(Some(ClientHandle {
        commands,
        delegated,
        figures,
        kept: Arc::new(kept),
    }))
}

fn way(config: &Config, delegation: &MaarDelegation) -> Option<Way> {
    if let Some(server) = delegation.server {
        return Some(Way::Relay(server));
    }
    let name = delegation.port.as_ref()?;
    let port = config.ports.iter().find(|port| port.name == *name)?;
    port.exception.clone().map(Way::Link)
}

struct Client {
    machine: Requesting,
    way: Way,
    /// `node.address`.
    address: Ipv6Addr,
    observer: Observer,
    socket: Option<DhcpSocket>,
    /// The number of the link's interface.
    interface: Option<u32>,
    /// Why there is no socket, when that was told.
    waiting: String,
    counters: Counters,
    saver: Saver<FileStore>,
    requests: BTreeMap<Ipv6Net, Vec<oneshot::Sender<Result<(), RequestError>>>>,
    releases: BTreeMap<Ipv6Net, Vec<oneshot::Sender<()>>>,
    told: watch::Sender<Arc<Delegated>>,
    count: watch::Sender<Figures>,
}

impl Client {
    async fn run(mut self, mut commands: mpsc::Receiver<Command>, mut keep: watch::Receiver<Kept>) {
        let mut retry = tokio::time::interval(RETRY);
        retry.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        self.look_around();
        loop {
            let delegated = self.told.borrow().pools.len() + self.told.borrow().named.len();
            self.count.send_replace(Figures {
                counters: self
                    .machine
                    .counters()
                    .iter()
                    .chain(self.counters.iter())
                    .collect(),
                delegations: delegated,
            });
            let deadline = self.machine.next_deadline();
            let deadline = deadline.map(|time| self.observer.clock().instant(time));
            tokio::select! {
                biased;
                command = commands.recv() => match command {
                    Some(command) => self.command(command),
                    None => break,
                },
                Ok(()) = keep.changed() => {
                    let prefixes = keep.borrow_and_update().as_deref().cloned();
                    self.process(Input::Keep(prefixes.unwrap_or_default()));
                }
                received = next(self.socket.as_ref()) => self.received(received),
                () = wait_until(deadline) => self.process(Input::Tick),
                failed = self.saver.ready() => self.save(failed),
                _ = retry.tick() => self.look_around(),
            }
        }
        // The daemon stops; what it holds it goes on with after the next start.
        if let Err(error) = self.saver.finish(self.machine.state()).await {
            tracing::warn!(%error, "what was delegated cannot be saved");
        }
    }

    fn save(&mut self, failed: Option<StoreError>) {
        if let Some(error) = failed {
            let text = format!("delegated prefixes would not survive a restart: {error}");
            self.observer.warn(&Event::new("state_not_saved", text));
        }
        self.saver.step(self.machine.state());
    }

    /// Opens the socket as soon as that is possible, and sees whether the link is another one.
    fn look_around(&mut self) {
        if self.socket.is_none() {
            let (address, port) = match self.way {
                Way::Link(_) => (Ipv6Addr::UNSPECIFIED, CLIENT_PORT),
                Way::Relay(_) => (self.address, SERVER_PORT),
            };
            match DhcpSocket::bind(address, port) {
                Ok(socket) => self.socket = Some(socket),
                Err(error) => {
                    let reason = error.to_string();
                    if self.waiting != reason {
                        let text =
                            format!("waiting for UDP port {port} of {address} to request prefixes: {reason}");
                        self.observer.warn(&Event::new("requesting_waiting", text));
                        self.waiting = reason;
                    }
                }
            }
        }
        if let Way::Link(name) = &self.way {
            let number = number_of(name);
            let before = self.interface;
            self.interface = number.or(before);
            if number.is_some() && before.is_some() && number != before {
                self.process(Input::LinkChanged);
            }
        }
    }

    fn process(&mut self, input: Input) {
        // Without randomness messages would still be right, only easier to guess.
        let random = getrandom::u64().unwrap_or(0);
        let outputs = self.machine.process(input, self.observer.clock().now(), random);
        for output in outputs {
            match output {
                Output::Send(octets) => self.send(octets),
                Output::Delegated(prefix) => {
                    for reply in self.requests.remove(&prefix).unwrap_or_default() {
                        drop(reply.send(Ok(())));
                    }
                }
                Output::Refused(prefix, reason) => {
                    for reply in self.requests.remove(&prefix).unwrap_or_default() {
                        let reason = reason.clone();
                        drop(reply.send(Err(RequestError::Refused { prefix, reason })));
                    }
                }
                Output::Released(prefix) => {
                    for reply in self.releases.remove(&prefix).unwrap_or_default() {
                        let _ = reply.send(());
                    }
                }
                Output::Event(event) => self.observer.tell(&event),
            }
        }
        self.saver.changed();
        let delegated = self.delegated();
        self.told.send_if_modified(|before| {
            let different = **before != delegated;
            if different {
                *before = Arc::new(delegated);
            }
            different
        });
    }

    fn delegated(&self) -> Delegated {
        let associations = self.machine.state().associations.values();
        let exact = associations.filter(|it| it.wanted.exact && it.phase != Phase::Releasing);
        let named = exact.clone().flat_map(|it| &it.prefixes);
        Delegated {
            pools: self.machine.pools(self.observer.clock().now()).cloned().collect(),
            named: named.map(|held| (held.prefix, held.valid_until)).collect(),
            over: exact
                .filter(|it| it.over)
                .filter_map(|it| it.wanted.hint)
                .collect(),
        }
    }

    fn send(&mut self, octets: Vec<u8>) {
        let Some(socket) = &self.socket else { return };
        let sent = match &self.way {
            Way::Link(name) => match number_of(name) {
                Some(number) => socket.send(ALL_RELAYS_AND_SERVERS, SERVER_PORT, number, &octets),
                None => Err(io::ErrorKind::NotConnected.into()),
            },
            Way::Relay(server) => match self.relayed(octets) {
                Some(octets) => socket.send(*server, SERVER_PORT, 0, &octets),
                None => return,
            },
        };
        // It is sent again.
        if let Err(error) = sent {
            self.counters.add("dhcp_send_failed");
            tracing::debug!(%error, "a DHCPv6 message cannot be sent");
        }
    }

    /// Client and relay are one: the link is that of `node.address`, and so is the client.
    fn relayed(&self, message: Vec<u8>) -> Option<Vec<u8>> {
        let relay = Relay {
            forward: true,
            hop: Hop {
                count: 0,
                link: self.address,
                peer: self.address,
                interface: None,
            },
            message,
        };
        relay.emit().ok()
    }

    fn received(&mut self, received: io::Result<Received>) {
        let received = match received {
            Ok(received) => received,
            Err(error) => {
                self.counters.add("dhcp_receive_failed");
                tracing::debug!(%error, "the DHCPv6 socket");
                return;
            }
        };
        let octets = match &self.way {
            Way::Link(name) => {
                let of_link = number_of(name) == Some(received.interface);
                // A client hears only what is sent to it alone (RFC 8415 section 16.11).
                let unicast = received.destination.is_some_and(|it| !it.is_multicast());
                (of_link && unicast).then_some(received.octets)
            }
            Way::Relay(server) => match Packet::parse(&received.octets) {
                Ok(Packet::Relay(relay)) if received.source == *server && !relay.forward => {
                    Some(relay.message)
                }
                _ => None,
            },
        };
        match octets {
            Some(octets) => self.process(Input::Datagram(octets)),
            None => self.counters.add("dhcp_refused_stranger"),
        }
    }

    fn command(&mut self, command: Command) {
        // A caller that has gone does not want its answer.
        match command {
            Command::Request(prefix, reply) => {
                let prefix = prefix.trunc();
                self.counters.add("requests_for_prefixes");
                self.requests.entry(prefix).or_default().push(reply);
                self.process(Input::WantExactly(prefix));
            }
            Command::Release(prefix, reply) => {
                let prefix = prefix.trunc();
                self.releases.entry(prefix).or_default().push(reply);
                self.process(Input::Release(prefix));
            }
            Command::List(reply) => drop(reply.send(self.list())),
        }
    }

    fn list(&self) -> Vec<proto::Delegation> {
        let now = self.observer.clock().now();
        let mut all = Vec::new();
        for (iaid, association) in &self.machine.state().associations {
            let state = match association.phase {
                Phase::Soliciting => "soliciting",
                Phase::Requesting => "requesting",
                Phase::Bound => "bound",
                Phase::Renewing => "renewing",
                Phase::Rebinding => "rebinding",
                Phase::Releasing => "releasing",
            };
            let one = proto::Delegation {
                prefix: association
                    .wanted
                    .hint
                    .map(|it| it.to_string())
                    .unwrap_or_default(),
                direction: "from".to_owned(),
                peer: association
                    .server
                    .as_ref()
                    .map(ToString::to_string)
                    .unwrap_or_default(),
                iaid: Some(*iaid),
                state: state.to_owned(),
                valid_ms: Some(0),
                exclude: String::new(),
                moved: association.wanted.exact,
            };
            let held = |held: &Held| proto::Delegation {
                prefix: held.prefix.to_string(),
                valid_ms: held.valid_until.map(|end| milliseconds(end.since(now))),
                exclude: held.exclude.map(|it| it.to_string()).unwrap_or_default(),
                ..one.clone()
            };
            all.extend(association.prefixes.iter().map(held));
            if association.prefixes.is_empty() {
                all.push(one);
            }
        }
        all
    }
}
