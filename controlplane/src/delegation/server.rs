//! The driver of the delegating server: its socket, its timers, its journal. A task of its own in the daemon of role `cmd`.
//!
//! Whoever else in that daemon has to do with delegation has a [`ServerHandle`]:
//!
//! * [`ServerHandle::move_lease`] passes a prefix in use to another client, in one transaction that is on disk when the call
//!   returns. The client of a MAAR is [`Duid::of_node`] of its `node.address`. It may be repeated;
//!   it is done before the new anchor asks for the prefix ([`super::client::ClientHandle::request`]), and undone by a
//!   move to the client that had it, or by the new one's release.
//! * [`ServerHandle::delegated`] is what each MAAR of the domain has, whenever it changes.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::Ipv6Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ipnet::Ipv6Net;
use kedge_config::{CmdDelegation, Config};
use tokio::sync::{mpsc, oneshot, watch};

use super::delegating::{
    Change, Delegating, Input, Journal, LeasePhase, MoveError, Output, Pool, Settings, Taker,
};
use super::socket::{DhcpSocket, next, number_of};
use super::wire::{Duid, SERVER_PORT};
use crate::counters::Counters;
use crate::driver::{Observer, Received, wait_until};
use crate::event::Event;
use crate::northbound::proto;

/// A socket or an interface that is not there is looked for again after this.
const RETRY: Duration = Duration::from_secs(1);

/// Names of the counters.
const COUNTERS: &[&str] = &["dhcp_receive_failed", "dhcp_send_failed", "delegations_not_saved"];

/// What each MAAR has, by its `node.address`.
pub type ByMaar = BTreeMap<Ipv6Addr, BTreeSet<Ipv6Net>>;

/// What is counted.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// By name.
    pub counters: Vec<(&'static str, u64)>,
    /// Prefixes that are delegated now.
    pub delegations: usize,
}

/// Why a prefix was not moved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoveFailure {
    /// It cannot be.
    #[error(transparent)]
    Refused(#[from] MoveError),
    /// The move could not be written to disk. It stands, and is written with the next one.
    #[error("{0}")]
    NotSaved(String),
    /// The server is stopping.
    #[error("the delegating server is stopping")]
    Stopping,
}

enum Command {
    Move(Ipv6Net, Taker, oneshot::Sender<Result<(), MoveFailure>>),
    List(oneshot::Sender<Vec<proto::Delegation>>),
}

/// A way to the delegating server.
#[derive(Clone, Debug)]
pub struct ServerHandle {
    commands: mpsc::Sender<Command>,
    delegated: watch::Receiver<Arc<ByMaar>>,
    figures: watch::Receiver<Figures>,
}

impl ServerHandle {
    /// Passes `prefix`, which may be a lease, a part of one, or free, to `to`.
    ///
    /// # Errors
    /// A [`MoveFailure`]; but for [`MoveFailure::NotSaved`] nothing has changed then.
    pub async fn move_lease(&self, prefix: Ipv6Net, to: Taker) -> Result<(), MoveFailure> {
        let (reply, answer) = oneshot::channel();
        let sent = self.commands.send(Command::Move(prefix, to, reply)).await;
        sent.map_err(|_| MoveFailure::Stopping)?;
        answer.await.map_err(|_| MoveFailure::Stopping)?
    }

    /// What each known MAAR has, and word of each change of that.
    #[must_use]
    pub fn delegated(&self) -> watch::Receiver<Arc<ByMaar>> {
        self.delegated.clone()
    }

    /// Every lease, for people.
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

/// Starts the server of `[cmd.delegation]`; `None` where there is none.
///
/// # Errors
/// The store cannot be used, or the operating system gives no randomness.
pub fn start(config: &Config, observer: &Observer) -> anyhow::Result<Option<ServerHandle>> {
    let Some(delegation) = config.cmd.as_ref().and_then(|cmd| cmd.delegation.as_ref()) else {
        return Ok(None);
    };
    let known = config.cmd.iter().flat_map(|cmd| &cmd.known_maars);
    let relays = known
        .map(|maar| maar.address)
        .chain(delegation.relays.iter().copied());
    let settings = settings(delegation, Duid::of_node(config.node.address), relays.collect());
    let (journal, state) = open(&config.state_directory(), observer)?;
    let machine = Delegating::new(settings, state);
    let (commands, queue) = mpsc::channel(64);
    let maars: BTreeMap<_, _> = config
        .cmd
        .iter()
        .flat_map(|cmd| &cmd.known_maars)
        .map(|maar| (Duid::of_node(maar.address), maar.address))
        .collect();
    let held = maars
        .iter()
        .map(|(duid, address)| (*address, machine.prefixes_of(duid)))
        .collect();
    let (told, delegated) = watch::channel(Arc::new(held));
    let (count, figures) = watch::channel(Figures::default());
    let server = Server {
        machine,
        journal,
        observer: observer.clone(),
        interfaces: delegation.interfaces.clone(),
        joined: BTreeMap::new(),
        socket: None,
        waiting: String::new(),
        counters: Counters::new(COUNTERS),
        maars,
        told,
        count,
    };
    tokio::spawn(server.run(queue));
    Ok(Some(ServerHandle {
        commands,
        delegated,
        figures,
    }))
}

fn open(directory: &Path, observer: &Observer) -> anyhow::Result<(Journal, super::delegating::State)> {
    let (mut journal, mut state, problem) = Journal::open(directory)?;
    if state.secret == [0; 16] {
        getrandom::fill(&mut state.secret)
            .map_err(|error| anyhow::anyhow!("the operating system gives no randomness: {error}"))?;
        journal.commit(vec![Change::Secret(state.secret)], &state)?;
    }
    if let Some(error) = problem {
        let text = format!("starting without leases, but for those that clients renew: {error}");
        observer.warn(&Event::new("state_corrupt", text));
    }
    if !state.leases.is_empty() {
        let text = format!("{} delegated prefixes restored", state.leases.len());
        observer.tell(&Event::new("delegations_restored", text).with("leases", state.leases.len()));
    }
    Ok((journal, state))
}

fn settings(delegation: &CmdDelegation, server: Duid, relays: BTreeSet<Ipv6Addr>) -> Settings {
    let pool = |pool: &kedge_config::DelegationPool| Pool {
        prefix: pool.prefix,
        delegated_length: pool.delegated_length,
        exclude_length: pool.exclude_length,
        by_move_only: pool.by_move_only,
    };
    let count = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    Settings {
        server,
        pools: delegation.pools.iter().map(pool).collect(),
        preferred_lifetime: delegation.preferred_lifetime,
        valid_lifetime: delegation.valid_lifetime,
        rapid_commit: delegation.rapid_commit,
        preference: delegation.preference,
        maximum_per_client: count(delegation.maximum_per_client),
        maximum_leases: count(delegation.maximum_delegations),
        relays,
    }
}

struct Server {
    machine: Delegating,
    journal: Journal,
    observer: Observer,
    interfaces: Vec<String>,
    /// By which number each interface was joined.
    joined: BTreeMap<String, u32>,
    socket: Option<DhcpSocket>,
    /// Why there is no socket, when that was told.
    waiting: String,
    counters: Counters,
    /// The MAARs of the domain.
    maars: BTreeMap<Duid, Ipv6Addr>,
    told: watch::Sender<Arc<ByMaar>>,
    count: watch::Sender<Figures>,
}

impl Server {
    async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut retry = tokio::time::interval(RETRY);
        retry.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.count.send_replace(Figures {
                counters: self
                    .machine
                    .counters()
                    .iter()
                    .chain(self.counters.iter())
                    .collect(),
                delegations: self.machine.state().leases.len(),
            });
            let deadline = self.machine.next_deadline();
            let deadline = deadline.map(|time| self.observer.clock().instant(time));
            tokio::select! {
                biased;
                command = commands.recv() => match command {
                    Some(command) => self.command(command),
                    None => return,
                },
                received = next(self.socket.as_ref()) => self.received(received),
                () = wait_until(deadline) => {
                    let outputs = self.machine.process(Input::Tick, self.observer.clock().now());
                    // What failed to be written is told of, and written with the next change.
                    let _ = self.carry_out(outputs);
                }
                _ = retry.tick() => self.look_around(),
            }
        }
    }

    /// Opens the socket and joins the interfaces that are there.
    fn look_around(&mut self) {
        if self.socket.is_none() {
            match DhcpSocket::bind(Ipv6Addr::UNSPECIFIED, SERVER_PORT) {
                Ok(socket) => {
                    self.socket = Some(socket);
                    let text = format!("delegating prefixes at UDP port {SERVER_PORT}");
                    self.observer.tell(&Event::new("delegating_ready", text));
                }
                Err(error) => {
                    let reason = error.to_string();
                    if self.waiting != reason {
                        let text =
                            format!("waiting for UDP port {SERVER_PORT} to delegate prefixes: {reason}");
                        self.observer.warn(&Event::new("delegating_waiting", text));
                        self.waiting = reason;
                    }
                }
            }
        }
        let Some(socket) = &self.socket else { return };
        for name in &self.interfaces {
            let Some(number) = number_of(name) else {
                self.joined.remove(name);
                continue;
            };
            if self.joined.get(name) == Some(&number) {
                continue;
            }
            match socket.join(number) {
                Ok(()) => {
                    self.joined.insert(name.clone(), number);
                    let text = format!("delegating prefixes on {name}");
                    let event = Event::new("delegating_on_interface", text).with("interface", name);
                    self.observer.tell(&event);
                }
                Err(error) => tracing::debug!(%name, %error, "an interface cannot be joined"),
            }
        }
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
        let mut joined = self.joined.iter();
        let interface = joined.find(|(_, number)| **number == received.interface);
        let multicast = received.destination.is_some_and(|it| it.is_multicast());
        let input = Input::Datagram {
            from: received.source,
            // Where routing says the way back, an interface would only be in its way.
            interface: match interface {
                Some((name, _)) if received.source.is_unicast_link_local() => name.clone(),
                _ => String::new(),
            },
            multicast,
            octets: received.octets,
        };
        let outputs = self.machine.process(input, self.observer.clock().now());
        let _ = self.carry_out(outputs);
    }

    fn command(&mut self, command: Command) {
        // A caller that has gone does not want its answer.
        match command {
            Command::Move(prefix, to, reply) => {
                let moved = self.machine.move_lease(prefix, &to, self.observer.clock().now());
                let outcome = moved
                    .map_err(MoveFailure::from)
                    .and_then(|outputs| self.carry_out(outputs).map_err(MoveFailure::NotSaved));
                drop(reply.send(outcome));
            }
            Command::List(reply) => drop(reply.send(self.list())),
        }
    }

    /// What cannot be written is not answered: the client asks again.
    fn carry_out(&mut self, outputs: Vec<Output>) -> Result<(), String> {
        let mut saved = Ok(());
        for output in outputs {
            match output {
                Output::Commit(changes) => {
                    let touched = self.touched(&changes);
                    if let Err(error) = self.journal.commit(changes, self.machine.state()) {
                        self.counters.add("delegations_not_saved");
                        let text = format!(
                            "a delegation would not survive a restart, so it is not answered: {error}"
                        );
                        self.observer.warn(&Event::new("delegation_not_saved", &text));
                        saved = Err(text);
                    }
                    self.tell(&touched);
                }
                Output::Send {
                    to,
                    port,
                    interface,
                    octets,
                } if saved.is_ok() => {
                    let number = number_of(&interface).unwrap_or(0);
                    let sent = self
                        .socket
                        .as_ref()
                        .map(|socket| socket.send(to, port, number, &octets));
                    if let Some(Err(error)) = sent {
                        self.counters.add("dhcp_send_failed");
                        tracing::debug!(%to, %error, "a DHCPv6 message cannot be sent");
                    }
                }
                Output::Send { .. } => {}
                Output::Event(event) => self.observer.tell(&event),
            }
        }
        saved
    }

    /// MAARs whose prefixes may be others after these changes.
    fn touched(&self, changes: &[Change]) -> Vec<Duid> {
        let gone = changes
            .iter()
            .any(|change| matches!(change, Change::Lease(_, None)));
        let named = |duid: &Duid| {
            let of =
                |change: &Change| matches!(change, Change::Lease(_, Some(lease)) if lease.client == *duid);
            gone || changes.iter().any(of)
        };
        self.maars.keys().filter(|duid| named(duid)).cloned().collect()
    }

    fn tell(&self, touched: &[Duid]) {
        for duid in touched {
            let Some(address) = self.maars.get(duid) else {
                continue;
            };
            let held = self.machine.prefixes_of(duid);
            self.told.send_if_modified(|all| {
                let different = all.get(address) != Some(&held);
                if different {
                    Arc::make_mut(all).insert(*address, held);
                }
                different
            });
        }
    }

    fn list(&self) -> Vec<proto::Delegation> {
        let now = self.observer.clock().now();
        let leases = self.machine.state().leases.iter();
        leases
            .map(|(prefix, lease)| proto::Delegation {
                prefix: prefix.to_string(),
                direction: "to".to_owned(),
                peer: lease.client.to_string(),
                iaid: lease.iaid,
                state: match lease.phase {
                    LeasePhase::Bound => "bound",
                    LeasePhase::Moved => "moved",
                    LeasePhase::Declined => "declined",
                }
                .to_owned(),
                valid_ms: lease.valid_until.map(|end| milliseconds(end.since(now))),
                exclude: String::new(),
                moved: lease.moved,
            })
            .collect()
    }
}

pub(super) fn milliseconds(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
