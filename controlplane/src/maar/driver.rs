//! The daemon of role MAAR: everything that the state machine touches.
//!
//! ```text
//!  Mobility Header ─┐                       ┌─► Mobility Header
//!  solicitations ───┤                       ├─► advertisements
//!  operator ────────┼─► Input ─► Maar ─► Output ─► events
//!  timers ──────────┘              │ state
//!  kernel's neighbours ────────────┴─► forwarding::desired ─► data plane
//! ```
//!
//! One file for each side: `interfaces` (the kernel), `attachment` (who is on
//! a link), `answers` (what the operator asks), `routes` (what the network is told).

mod answers;
mod attachment;
mod filters;
mod interfaces;
mod path_ends;
mod routes;
mod usage;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::Duration;

use kedge_dataplane_api::model::{Encapsulation, Tunnel};
use kedge_dataplane_api::{Tables, path_end};
use tokio::sync::{mpsc, watch};

use self::interfaces::Interfaces;
use self::path_ends::{PathEnd, PathEnds, TunnelSockets};
use self::routes::Announcing;
use self::usage::Usage;
use super::{DelegatedPool, Input, Maar, Output, Settings, State};
use crate::access::{AccessLink, Advertiser, Policy, Solicitation, advertisement};
use crate::binding::{FileStore, Saver, StoreError};
use crate::counters::Counters;
use crate::dataplane_sync::{self, Desired, FromDataplane};
use crate::delegation::changed;
use crate::delegation::client::{self, ClientHandle, Delegated};
use crate::delegation::requesting::Held;
use crate::driver::{Durable, Endpoint, FromSocket, Heeded, Observer, Parts, RateLimit, restore, wait_until};
use crate::event::Event;
use crate::identity::{LinkLayerAddress, MobileNodeIdentifier};
use crate::kernel::{Change, Kernel};
use crate::metrics::Accumulated;
use crate::path::{self, PathSocket, Paths};
use crate::wire::gtpu::Message;
use crate::wire::mobility::TunnelType;
use crate::wire::neighbour_discovery::PrefixInformation;
use crate::{announce, forwarding, kernel};
use kedge_config::Config;

/// How often gateways are probed, and the kernel's tables are read as a whole.
const PROBE: Duration = Duration::from_secs(15);
/// An interface that could not be configured is tried again after this.
const CONFIGURE_RETRY: Duration = Duration::from_secs(1);
/// Inputs in a row before the data plane is told: a burst of messages makes one transaction.
const BURST: u32 = 64;

/// Names of the counters.
const COUNTERS: &[&str] = &[
    "solicitations",
    "solicitations_unspecified_source",
    "solicitations_invalid",
    "solicitations_unknown_node_refused",
    "solicitations_without_link_layer_address",
    "advertisements_without_link",
    "advertisements_not_sent",
    "neighbour_requests",
    "gtpu_messages_not_sent",
    "path_ends_sent",
    "path_ends_not_sent",
];

/// Runs until a signal says to stop.
///
/// # Errors
/// What keeps it from starting, or from saving its state at the end.
pub async fn run(parts: Parts) -> anyhow::Result<()> {
    let Parts {
        config,
        observer,
        mut requests,
        mut signals,
    } = parts;
    let settings = Settings::from_config(&config).ok_or_else(|| anyhow::anyhow!("[maar] is missing"))?;
    for rule in &config.filters {
        if let Some(Err(error)) = rule
            .node
            .as_ref()
            .map(|node| node.parse::<MobileNodeIdentifier>())
        {
            anyhow::bail!("filter {}: {error}", rule.name);
        }
    }
    let policy = Policy::load(config.access.policy_file.as_deref(), config.access.unknown_nodes)?;
    let (store, state) = restore::<State>(&config.state_directory(), "maar", &observer)?;
    let (kernel, mut changes) =
        Kernel::open().map_err(|error| anyhow::anyhow!("the kernel's netlink cannot be opened: {error}"))?;
    let (solicit, mut solicitations) = mpsc::channel(256);
    let (endpoint, mut from_socket) = Endpoint::new(config.node.address, observer.clone());
    let mut interfaces = Interfaces::new(kernel::interface_settings(&config), kernel.clone());
    // What the kernel knows already is known before the data plane is compared.
    interfaces.read_all().await?;
    let teid_key = getrandom::u64()
        .map_err(|error| anyhow::anyhow!("the operating system gives no randomness: {error}"))?;
    let machine = Maar::new(settings, state, teid_key, observer.clock().now());
    let delegation = client::start(&config, &observer)?;
    let mut delegated = delegation.as_ref().map(ClientHandle::delegated);
    let tables = forwarding::desired(&config, machine.state(), interfaces.core_neighbours());
    let (desired, mut from_dataplane) =
        dataplane_sync::start(config.dataplane_socket(), tables, observer.clone());
    let (announcing, mut from_speaker) = Announcing::start(&config, machine.state(), observer.clock().now());
    let (usage, mut last_used, mut ask_usage) = Usage::new(&config);
    let mut daemon = Daemon {
        advertiser: Advertiser::start(kernel),
        counters: Counters::new(COUNTERS),
        accumulated: Accumulated::new()?,
        saver: Saver::new(store),
        durable: Durable::default(),
        links: BTreeMap::new(),
        dataplane: None,
        unsettled: 0,
        paths: Paths::new(path_settings(&config)),
        path_socket: None,
        path_ends: PathEnds::default(),
        ends_to_come: Vec::new(),
        tunnel_sockets: TunnelSockets::default(),
        told: RateLimit::default(),
        announcing,
        solicit,
        config,
        observer,
        machine,
        endpoint,
        policy,
        interfaces,
        desired,
        delegation,
        usage,
    };
    // What was delegated once and is not any more is not used again.
    let held = delegated.as_mut().map(|it| pools(&it.borrow_and_update()));
    if held.is_some() || daemon.machine.state().delegated.is_some() {
        daemon.process(Input::Pools(held.unwrap_or_default()));
    }
    daemon.configure_pending().await;
    let mut probe = tokio::time::interval(PROBE);
    probe.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        if daemon.unsettled >= BURST {
            daemon.settle();
        }
        let deadline = daemon
            .machine
            .next_deadline()
            .map(|time| daemon.observer.clock().instant(time));
        let ask = daemon
            .paths
            .next_deadline()
            .filter(|_| daemon.path_socket.is_some())
            .map(|time| daemon.observer.clock().instant(time));
        let end = daemon.path_ends.next_deadline();
        let end = end.map(|time| daemon.observer.clock().instant(time));
        let routes = daemon.announcing.as_ref().and_then(Announcing::next_deadline);
        let routes = routes.map(|time| daemon.observer.clock().instant(time));
        let configure = daemon.interfaces.retry_at();
        tokio::select! {
            biased;
            heeded = signals.next() => match heeded {
                Heeded::Stop => break,
                Heeded::Reload => daemon.reload(),
            },
            Some(item) = from_socket.recv() => daemon.message(item),
            Some(solicitation) = solicitations.recv() => daemon.solicitation(solicitation),
            Some(change) = changes.recv() => daemon.change(change).await,
            Some(request) = requests.recv() => daemon.request(request),
            Some(item) = from_dataplane.recv() => daemon.dataplane(item),
            held = changed(delegated.as_mut()) => daemon.process(Input::Pools(pools(&held))),
            Some(input) = from_speaker.recv() => {
                daemon.announce(input);
                daemon.follow_routes();
            }
            Some(last) = last_used.recv() => daemon.take_usage(last),
            _ = ask_usage.tick() => daemon.ask_usage(),
            () = wait_until(deadline) => daemon.process(Input::Tick),
            () = std::future::ready(()), if daemon.unsettled > 0 => daemon.settle(),
            received = from_path(daemon.path_socket.as_ref()) => daemon.path_message(received),
            () = wait_until(ask) => daemon.ask_paths(path::Input::Tick),
            () = wait_until(end) => daemon.end_paths(),
            () = wait_until(routes) => {
                daemon.announce(announce::Input::Tick);
                daemon.follow_routes();
            }
            () = wait_until(configure) => daemon.configure_pending().await,
            _ = probe.tick() => daemon.probe().await,
            failed = daemon.saver.ready() => daemon.save(failed),
        }
    }
    daemon.saver.finish(daemon.machine.state()).await?;
    Ok(())
}

fn path_settings(config: &Config) -> path::Settings {
    let timers = &config.timers;
    path::Settings {
        echo_interval: timers.gtpu_echo_interval,
        response_timeout: timers.gtpu_t3_response,
        transmissions: timers.gtpu_n3_requests,
    }
}

/// The pools of what is delegated.
fn pools(delegated: &Delegated) -> Vec<DelegatedPool> {
    let pool = |held: &Held| DelegatedPool {
        prefix: held.prefix,
        exclude: held.exclude,
        preferred_until: held.preferred_until,
        valid_until: held.valid_until,
    };
    delegated.pools.iter().map(pool).collect()
}

/// Every address that a GTP-U tunnel leads to.
fn gtpu_peers(tables: &Tables) -> BTreeSet<Ipv6Addr> {
    let gtpu = |tunnel: &&Tunnel| matches!(tunnel.encapsulation, Encapsulation::GtpU(_));
    tables
        .tunnels
        .values()
        .filter(gtpu)
        .map(|tunnel| tunnel.remote)
        .collect()
}

/// The next message about a path; never, while there is no socket.
async fn from_path(socket: Option<&PathSocket>) -> io::Result<path::Received> {
    match socket {
        Some(socket) => socket.receive().await,
        None => std::future::pending().await,
    }
}

struct Daemon {
    config: Config,
    observer: Observer,
    machine: Maar,
    endpoint: Endpoint,
    policy: Policy,
    interfaces: Interfaces,
    /// Open access links by port.
    links: BTreeMap<String, Arc<AccessLink>>,
    advertiser: Advertiser,
    solicit: mpsc::Sender<Solicitation>,
    desired: watch::Sender<Desired>,
    /// The generation of a data plane that holds what it should.
    dataplane: Option<u64>,
    counters: Counters,
    accumulated: Accumulated,
    saver: Saver<FileStore>,
    /// Messages that wait for it.
    durable: Durable,
    /// Of refused solicitations that are told and not only counted, so that a flood does not fill the log.
    told: RateLimit,
    /// Changes since the desired tables were computed.
    unsettled: u32,
    /// Whether GTP-U peers are there.
    paths: Paths,
    /// Open from the first GTP-U tunnel on.
    path_socket: Option<PathSocket>,
    /// What the peers of old ways are to be told.
    path_ends: PathEnds,
    /// Those of tables that were not computed yet.
    ends_to_come: Vec<PathEnd>,
    tunnel_sockets: TunnelSockets,
    /// Tells the network what is anchored here, where `[announce]` says so.
    announcing: Option<Announcing>,
    /// What asks for delegated prefixes, where that is configured.
    delegation: Option<ClientHandle>,
    /// Which older prefixes are in use.
    usage: Usage,
}

impl Daemon {
    fn message(&mut self, item: FromSocket) {
        if let Some((from, message)) = self.endpoint.take(item) {
            self.process(Input::Message { from, message });
        }
    }

    /// One step of the state machine, and everything that follows from it.
    fn process(&mut self, input: Input) {
        let outputs = self.machine.process(input, self.observer.clock().now());
        let change = self.saver.changed();
        for output in outputs {
            match output {
                Output::Send { to, message } => self.endpoint.send(to, &message),
                Output::SendWhenSaved { to, message } => {
                    self.durable.add(change, to, message);
                    self.saver.urgent();
                }
                Output::Advertise {
                    port,
                    link_local_address,
                    link_layer_address,
                    prefixes,
                } => self.advertise(&port, link_local_address, link_layer_address, prefixes),
                Output::EndPath { to, prefix, by } => self.ends_to_come.push(PathEnd { to, prefix, by }),
                Output::Event(event) => {
                    if let Some(micros) = event.field("duration_us").and_then(|value| value.parse().ok()) {
                        self.accumulated.registration(micros);
                    }
                    self.observer.tell(&event);
                }
            }
        }
        self.unsettled += 1;
    }

    fn advertise(
        &mut self,
        port: &str,
        to: Ipv6Addr,
        link_layer_address: LinkLayerAddress,
        prefixes: Vec<PrefixInformation>,
    ) {
        let Some(link) = self.links.get(port) else {
            self.counters.add("advertisements_without_link");
            return;
        };
        let router = self.config.access.router_link_local_address;
        let shown = |prefix: &PrefixInformation| {
            format!(
                "{} preferred {} s valid {} s",
                prefix.prefix, prefix.preferred_lifetime, prefix.valid_lifetime
            )
        };
        let text = prefixes.iter().map(shown).collect::<Vec<_>>().join(", ");
        let listed = prefixes
            .iter()
            .map(|prefix| prefix.prefix.to_string())
            .collect::<Vec<_>>()
            .join(",");
        let octets = match advertisement(&self.config, port, prefixes).emit(router, to) {
            Ok(octets) => octets,
            Err(error) => {
                self.counters.add("advertisements_not_sent");
                tracing::error!(%error, port, "an advertisement cannot be written");
                return;
            }
        };
        if !self
            .advertiser
            .send(Arc::clone(link), to, link_layer_address, octets)
        {
            self.counters.add("advertisements_not_sent");
            return;
        }
        let event = Event::new("advertisement_sent", format!("RA to {to} on {port}: {text}"))
            .with("port", port)
            .with("to", to)
            .with("prefixes", listed);
        self.observer.tell(&event);
    }

    /// Derives what the data plane should hold, and passes it on if it is something new.
    fn settle(&mut self) {
        self.unsettled = 0;
        let tables = forwarding::desired(
            &self.config,
            self.machine.state(),
            self.interfaces.core_neighbours(),
        );
        self.ask_paths(path::Input::Peers(gtpu_peers(&tables)));
        if let Some(delegation) = &self.delegation {
            let state = self.machine.state();
            let pools = self
                .config
                .maar
                .as_ref()
                .map_or(&[][..], |maar| &maar.prefix_pools);
            let adopted = state.nodes.values().flat_map(|node| state.relocated(node, pools));
            delegation.keep(adopted.collect());
        }
        // Of GTP-U there are many tunnels to one peer.
        let mut peers = BTreeSet::new();
        self.desired.send_if_modified(|known| {
            if known.tables == tables {
                return false;
            }
            let new = tables
                .tunnels
                .iter()
                .filter(|(id, _)| !known.tables.tunnels.contains_key(id));
            peers.extend(new.map(|(_, tunnel)| tunnel.remote));
            known.tables = tables;
            known.revision += 1;
            true
        });
        let revision = self.desired.borrow().revision;
        for end in self.ends_to_come.drain(..) {
            self.path_ends.add(end, revision);
        }
        self.settle_routes(revision);
        self.follow_routes();
        if !peers.is_empty() {
            self.interfaces.probe(&peers);
        }
    }

    /// One step of path management.
    fn ask_paths(&mut self, input: path::Input) {
        let outputs = self.paths.process(input, self.observer.clock().now());
        if self.path_socket.is_none() && !self.paths.paths().is_empty() {
            self.open_path_socket();
        }
        for output in outputs {
            match output {
                path::Output::Send { to, message } => {
                    let sent = self.path_socket.as_ref().map(|socket| socket.send(to, &message));
                    // What is not sent is not answered, and so sent again.
                    if let Some(Err(error)) = sent {
                        self.counters.add("gtpu_messages_not_sent");
                        tracing::debug!(%to, %error, "a GTP-U message cannot be sent");
                    }
                }
                path::Output::Event(event) if event.kind == "gtpu_path_up" => self.observer.tell(&event),
                path::Output::Event(event) => self.observer.warn(&event),
                path::Output::Refused { peer, teid } => self.process(Input::TunnelRefused { peer, teid }),
            }
        }
    }

    /// Tells the peers of old ways that nothing more comes.
    fn end_paths(&mut self) {
        let from = self.config.node.address;
        for end in self.path_ends.due(self.observer.clock().now()) {
            let packet = path_end::write(from, end.prefix);
            let sent = match (end.by, &self.path_socket) {
                (TunnelType::GtpU { teid, ipv4 }, Some(socket)) => {
                    let own = self.config.maar.as_ref().and_then(|maar| maar.gtpu_ipv4_address);
                    let to = own.and(ipv4).map_or(end.to, |its| its.to_ipv6_mapped());
                    let sent = socket.send_packet(to, teid, &packet);
                    // A peer that is not of our kind knows this one.
                    sent.and_then(|()| socket.send(to, &Message::EndMarker { teid: teid.get() }))
                }
                (TunnelType::GtpU { .. }, None) => Err(io::ErrorKind::NotConnected.into()),
                (TunnelType::Gre { key }, _) => self.tunnel_sockets.send_gre(from, end.to, key, &packet),
                (TunnelType::Ipv6InIpv6, _) => self.tunnel_sockets.send_ipv6(from, end.to, &packet),
            };
            // The gateway that waits for it goes on by itself.
            if let Err(error) = sent {
                self.counters.add("path_ends_not_sent");
                tracing::debug!(to = %end.to, prefix = %end.prefix, %error, "a path end cannot be sent");
            } else {
                self.counters.add("path_ends_sent");
            }
        }
    }

    /// It fails while the node's address is not there yet: then it is tried again with the next probe.
    fn open_path_socket(&mut self) {
        let ipv4 = self.config.maar.as_ref().and_then(|maar| maar.gtpu_ipv4_address);
        match PathSocket::bind(self.config.node.address, ipv4) {
            Ok(socket) => self.path_socket = Some(socket),
            Err(error) => {
                let text = format!(
                    "UDP port {} of {} cannot be had, so nobody asks whether GTP-U peers are there: {error}",
                    crate::wire::gtpu::PORT,
                    self.config.node.address
                );
                self.observer.warn(&Event::new("gtpu_socket", text));
            }
        }
    }

    fn path_message(&mut self, received: io::Result<path::Received>) {
        match received {
            Ok((from, Ok(message))) => {
                if let Message::EndMarker { teid } = message {
                    self.process(Input::EndMarker { from, teid });
                }
                self.ask_paths(path::Input::Message { from, message });
            }
            Ok((from, Err(error))) => {
                tracing::debug!(%from, %error, "a GTP-U message was refused");
                self.ask_paths(path::Input::Malformed);
            }
            // The kernel tells here that a peer's port is closed: its request will be unanswered.
            Err(error) => tracing::debug!(%error, "the GTP-U socket"),
        }
    }

    fn dataplane(&mut self, item: FromDataplane) {
        match item {
            FromDataplane::Synchronised { generation, revision } => {
                self.path_ends.confirmed(revision);
                self.announce(announce::Input::Confirmed(revision));
                // Not before: a solicitation that nobody transmits is repeated only a second later.
                if self.dataplane.replace(generation).is_none() {
                    self.probe_neighbours();
                }
            }
            FromDataplane::Lost => {
                self.dataplane = None;
                self.announce(announce::Input::Unconfirmed);
            }
            FromDataplane::UnknownNeighbour { port, address } => {
                self.counters.add("neighbour_requests");
                self.interfaces.resolve(&port, address);
            }
            FromDataplane::FilterExpired { id } => self.process(Input::FilterExpired(id)),
        }
    }

    async fn change(&mut self, change: Change) {
        let neighbours = matches!(change, Change::Neighbour(_));
        let gone = self.interfaces.take(change);
        if let Some(port) = gone {
            self.links.remove(&port);
            let text = format!("the exception interface of port {port} is gone");
            self.observer
                .warn(&Event::new("interface_gone", text).with("port", port));
        }
        if neighbours {
            self.unsettled += 1;
        } else {
            self.configure_pending().await;
        }
    }

    /// Configures the interfaces that are new or different, and opens their access links.
    async fn configure_pending(&mut self) {
        for configured in self.interfaces.configure_pending(CONFIGURE_RETRY).await {
            let event = match configured.result {
                Ok(()) => {
                    let text = format!(
                        "{} is configured for port {}",
                        configured.link.name, configured.port
                    );
                    Event::new("interface_configured", text)
                }
                Err(error) => {
                    let text = format!("{} cannot be configured: {error}", configured.link.name);
                    let event = Event::new("interface_not_configured", text).with("port", &configured.port);
                    self.observer.warn(&event);
                    continue;
                }
            };
            if self.dataplane.is_some() {
                self.probe_neighbours();
            }
            // The data plane changes its interface a few times while it starts.
            if configured.first {
                self.observer.tell(&event.with("port", &configured.port));
            }
            if configured.access {
                self.open_access_link(configured.link, configured.port);
            }
        }
        self.unsettled += 1;
    }

    fn open_access_link(&mut self, link: kernel::Link, port: String) {
        let router = self.config.access.router_link_local_address;
        match AccessLink::open(link, port.clone(), router, self.solicit.clone()) {
            Ok(link) => {
                self.links.insert(port, Arc::new(link));
            }
            Err(error) => {
                self.interfaces.failed(&port, CONFIGURE_RETRY);
                let text = format!("the access link of port {port} cannot be opened: {error}");
                self.observer
                    .warn(&Event::new("interface_not_configured", text).with("port", port));
            }
        }
    }

    /// Has the kernel make sure of the gateways and of the peers, and catches up with whatever changes were missed.
    async fn probe(&mut self) {
        if let Err(error) = self.interfaces.read_all().await {
            tracing::warn!(%error, "the kernel's tables cannot be read");
        }
        self.probe_neighbours();
        self.ask_paths(path::Input::Tick);
        // Not when it opens: the data plane sets the address a moment after it made the interface.
        let wanted = self.config.access.router_link_layer_address.parse().ok();
        for (port, link) in &self.links {
            if link.link.link_layer_address != wanted {
                tracing::warn!(
                    port,
                    "its link-layer address is not access.router_link_layer_address: nodes will see their router change"
                );
            }
        }
        self.configure_pending().await;
    }

    fn probe_neighbours(&self) {
        let mut others: BTreeSet<Ipv6Addr> = self
            .desired
            .borrow()
            .tables
            .tunnels
            .values()
            .map(|tunnel| tunnel.remote)
            .collect();
        others.extend(self.config.maar.iter().flat_map(|maar| &maar.cmd));
        self.interfaces.probe(&others);
    }

    fn reload(&mut self) {
        let access = &self.config.access;
        let event = match Policy::load(access.policy_file.as_deref(), access.unknown_nodes) {
            Ok(policy) => {
                self.policy = policy;
                let text = format!("policy read again: {} nodes", self.policy.len());
                Event::new("policy_reloaded", text).with("nodes", self.policy.len())
            }
            Err(error) => {
                let text = format!("policy unchanged, the file was refused: {error}");
                Event::new("policy_refused", text)
            }
        };
        self.observer.tell(&event);
    }

    fn save(&mut self, failed: Option<StoreError>) {
        if let Some(error) = failed {
            let text = format!("bindings would not survive a restart: {error}");
            self.observer.warn(&Event::new("state_not_saved", text));
        }
        self.durable.send(self.saver.saved(), &mut self.endpoint);
        self.saver.step(self.machine.state());
    }
}
