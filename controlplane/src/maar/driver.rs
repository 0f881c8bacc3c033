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
//! One file for each side: `attachment` (who is on a link), `answers` (what the
//! operator asks), `routes` (what the network is told).

mod answers;
mod attachment;
mod charging;
mod detours;
mod filters;
mod meters;
mod path_ends;
mod routers;
mod routes;
mod usage;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::Ipv6Addr;
use std::time::Duration;

use ipnet::Ipv6Net;
use kedge_dataplane_api::path_end;
use tokio::sync::{mpsc, watch};

use self::charging::Charging;
use self::meters::Meters;
use self::path_ends::{PathEnd, PathEnds, TunnelSockets};
use self::routes::Announcing;
use self::usage::Usage;
use super::{DelegatedPool, Input, Maar, Output, Settings, State};
use crate::access::{RateOfNodes, RouterLink, RouterMessage};
use crate::binding::{FileStore, Saver, StoreError};
use crate::counters::Counters;
use crate::dataplane_sync::{self, Desired, FromDataplane};
use crate::delegation::changed;
use crate::delegation::client::{self, ClientHandle, Delegated};
use crate::delegation::requesting::Held;
use crate::driver::{
    AccessSide, DataplaneState, Durable, Endpoint, FromSocket, GtpuPaths, Heeded, LeftOutNow, Observer,
    Parts, path_input, restore, wait_until,
};
use crate::event::Event;
use crate::identity::MobileNodeIdentifier;
use crate::kernel::Change;
use crate::metrics::Accumulated;
use crate::path;
use crate::time::Time;
use crate::wire::gtpu::Message;
use crate::wire::mobility::TunnelType;
use crate::{announce, forwarding};
use kedge_config::Config;

/// How often gateways are probed, and the kernel's tables are read as a whole.
const PROBE: Duration = Duration::from_secs(15);
/// Inputs in a row before the data plane is told: a burst of messages makes one transaction.
const BURST: u32 = 64;

/// Names of the counters.
const COUNTERS: &[&str] = &[
    "neighbour_requests",
    "path_ends_sent",
    "path_ends_not_sent",
    "dhcp_malformed",
    "dhcp_refused_relay",
    "dhcp_unknown_node",
    "dhcp_rate_limited",
    "dhcp_not_written",
    "dhcp_send_failed",
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
    let (store, state) = restore::<State>(&config.state_directory(), "maar", &observer)?;
    let (router_messages, mut from_routers) = mpsc::channel(256);
    // What the kernel knows already is known before the data plane is compared.
    let (access, mut from_access) = AccessSide::start(&config, &observer).await?;
    let (endpoint, mut from_socket) = Endpoint::new(config.node.address, observer.clone());
    let teid_key = getrandom::u64()
        .map_err(|error| anyhow::anyhow!("the operating system gives no randomness: {error}"))?;
    let machine = Maar::new(settings, state, teid_key, observer.clock().now());
    let delegation = client::start(&config, &observer)?;
    let mut delegated = delegation.as_ref().map(ClientHandle::delegated);
    let dataplane = DataplaneState::new(&config);
    let inner_ipv4 = dataplane.inner_ipv4();
    let derived = forwarding::desired(&config, machine.state(), access.core_neighbours(), inner_ipv4);
    let (desired, mut from_dataplane) = dataplane_sync::start(
        config.dataplane_socket(),
        Desired::first(derived.tables, inner_ipv4),
        observer.clone(),
    );
    let (announcing, mut from_speaker) = Announcing::start(&config, machine.state(), observer.clock().now());
    let (usage, mut last_used, mut ask_usage) = Usage::new(&config);
    let (charging, mut readings, mut ask_reading) = Charging::start(&config);
    let mut daemon = Daemon {
        charging,
        meters: Meters::default(),
        access,
        counters: Counters::new(COUNTERS),
        accumulated: Accumulated::new()?,
        saver: Saver::new(store),
        durable: Durable::default(),
        router_links: BTreeMap::new(),
        router_messages,
        router_rate: RateOfNodes::new(
            config
                .maar
                .as_ref()
                .and_then(|maar| maar.mobile_routers.as_ref())
                .map_or(1, |it| it.messages_per_second),
        ),
        dataplane,
        unsettled: 0,
        paths: GtpuPaths::new(&config, &observer),
        path_ends: PathEnds::default(),
        ends_to_come: Vec::new(),
        tunnel_sockets: TunnelSockets::default(),
        announcing,
        config,
        observer,
        machine,
        endpoint,
        desired,
        left_out: LeftOutNow::default(),
        delegation,
        usage,
    };
    // What was delegated once and is not any more is not used again.
    let held = delegated.as_mut().map(|it| pools(&it.borrow_and_update()));
    if held.is_some() || daemon.machine.state().delegated.is_some() {
        daemon.process(Input::Pools(held.unwrap_or_default()));
    }
    let held = delegated.as_ref().map(|it| it.borrow().clone());
    daemon.process(Input::DelegatedUntil(
        held.as_deref().map(ends).unwrap_or_default(),
    ));
    if let Some(held) = held {
        daemon.process(Input::DelegationsOver(held.over.clone()));
    }
    daemon.configure_pending().await;
    let mut probe = tokio::time::interval(PROBE);
    probe.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        if daemon.unsettled >= BURST {
            daemon.settle();
            // Otherwise its turn comes when nothing comes in.
            if let Some(failed) = daemon.saver.ready_at_once() {
                daemon.save(failed);
            }
        }
        let deadline = daemon
            .machine
            .next_deadline()
            .map(|time| daemon.observer.clock().instant(time));
        let ask = daemon.paths.next_deadline();
        let ask = ask.map(|time| daemon.observer.clock().instant(time));
        let end = daemon.path_ends.next_deadline();
        let end = end.map(|time| daemon.observer.clock().instant(time));
        let routes = daemon.announcing.as_ref().and_then(Announcing::next_deadline);
        let routes = routes.map(|time| daemon.observer.clock().instant(time));
        let configure = daemon.access.retry_at();
        tokio::select! {
            biased;
            heeded = signals.next() => match heeded {
                Heeded::Stop => break,
                Heeded::Reload => daemon.access.reload(),
            },
            // Each of these sets a later time for itself, so nothing that comes in, however much, keeps them waiting, nor they it.
            () = wait_until(deadline) => daemon.process(Input::Tick),
            failed = daemon.saver.ready() => daemon.save(failed),
            () = wait_until(end) => daemon.end_paths(),
            () = wait_until(ask) => daemon.ask_paths(path::Input::Tick),
            () = wait_until(routes) => {
                daemon.announce(announce::Input::Tick);
                daemon.follow_routes();
            }
            Some(item) = from_socket.recv() => daemon.message(item),
            Some(solicitation) = from_access.solicitations.recv() => {
                if let Some(attachment) = daemon.access.solicitation(solicitation) {
                    daemon.attached(attachment);
                }
            }
            Some(change) = from_access.changes.recv() => daemon.change(change).await,
            Some(request) = requests.recv() => daemon.request(request),
            Some(item) = from_dataplane.recv() => daemon.dataplane(item),
            held = changed(delegated.as_mut()) => {
                daemon.process(Input::Pools(pools(&held)));
                daemon.process(Input::DelegatedUntil(ends(&held)));
                daemon.process(Input::DelegationsOver(held.over.clone()));
            }
            Some(input) = from_speaker.recv() => {
                daemon.announce(input);
                daemon.follow_routes();
            }
            Some(last) = last_used.recv() => daemon.take_usage(last),
            _ = ask_usage.tick() => daemon.ask_usage(),
            Some(answer) = readings.recv() => daemon.take_reading(answer),
            _ = ask_reading.tick() => daemon.ask_reading(),
            received = daemon.paths.receive() => daemon.path_message(received),
            Some(message) = from_routers.recv() => daemon.router_message(message),
            () = std::future::ready(()), if daemon.unsettled > 0 => daemon.settle(),
            () = wait_until(configure) => daemon.configure_pending().await,
            _ = probe.tick() => daemon.probe().await,
        }
    }
    daemon.saver.finish(daemon.machine.state()).await?;
    Ok(())
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

/// The ends of what is delegated by name.
fn ends(delegated: &Delegated) -> BTreeMap<Ipv6Net, Time> {
    let named = delegated.named.iter();
    named
        .filter_map(|(prefix, end)| Some((*prefix, (*end)?)))
        .collect()
}

struct Daemon {
    config: Config,
    observer: Observer,
    machine: Maar,
    endpoint: Endpoint,
    access: AccessSide,
    /// The DHCPv6 side of access links by port, where there are `[maar.mobile_routers]`.
    router_links: BTreeMap<String, RouterLink>,
    router_messages: mpsc::Sender<RouterMessage>,
    /// How often one node is heard.
    router_rate: RateOfNodes,
    desired: watch::Sender<Desired>,
    dataplane: DataplaneState,
    /// What the data plane has no room for.
    left_out: LeftOutNow,
    counters: Counters,
    accumulated: Accumulated,
    saver: Saver<FileStore>,
    /// Messages that wait for it.
    durable: Durable,
    /// Changes since the desired tables were computed.
    unsettled: u32,
    /// Whether GTP-U peers are there.
    paths: GtpuPaths,
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
    /// Reads what the data plane counts.
    charging: Charging,
    /// What meters have counted, by their names.
    meters: Meters,
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
                } => self
                    .access
                    .advertise(&port, link_local_address, link_layer_address, prefixes),
                Output::Dhcp { port, to, message } => self.answer_router(&port, to, &message),
                Output::ReadCounters => self.ask_reading(),
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

    /// Derives what the data plane should hold, and passes it on if it is something new.
    fn settle(&mut self) {
        self.unsettled = 0;
        // Whose a prefix is that the data plane counts for is known before it does.
        self.machine.note_users(self.observer.clock().now());
        let inner_ipv4 = self.dataplane.inner_ipv4();
        let neighbours = self.access.core_neighbours();
        let forwarding::Derived { tables, left_out } =
            forwarding::desired(&self.config, self.machine.state(), neighbours, inner_ipv4);
        self.left_out.take(left_out, &self.config, &self.observer);
        self.ask_paths(path::Input::Peers(forwarding::gtpu_peers(&tables)));
        if let Some(delegation) = &self.delegation {
            let state = self.machine.state();
            let pools: Vec<_> = self
                .config
                .maar
                .iter()
                .flat_map(kedge_config::Maar::pools)
                .collect();
            let adopted = state
                .nodes
                .values()
                .flat_map(|node| state.relocated(node, &pools));
            delegation.keep(adopted.collect());
        }
        // Of GTP-U there are many tunnels to one peer.
        let mut peers = BTreeSet::new();
        self.desired.send_if_modified(|known| {
            if known.inner_ipv4 == inner_ipv4 && known.tables == tables {
                return false;
            }
            known.inner_ipv4 = inner_ipv4;
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
            self.access.probe_neighbours(&peers);
        }
    }

    /// One step of path management.
    fn ask_paths(&mut self, input: path::Input) {
        for (peer, teid) in self.paths.process(input) {
            self.process(Input::TunnelRefused { peer, teid });
        }
    }

    /// Tells the peers of old ways that nothing more comes.
    fn end_paths(&mut self) {
        let from = self.config.node.address;
        for end in self.path_ends.due(self.observer.clock().now()) {
            let packet = path_end::write(from, end.prefix);
            let sent = match (end.by, self.paths.socket()) {
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

    fn path_message(&mut self, received: io::Result<path::Received>) {
        let Some((input, end)) = path_input(received) else {
            return;
        };
        if let Some((from, teid)) = end {
            self.process(Input::EndMarker { from, teid });
        }
        self.ask_paths(input);
    }

    fn dataplane(&mut self, item: FromDataplane) {
        match item {
            FromDataplane::Connected { carries_inner_ipv4 } => {
                if let Some(event) = self.dataplane.connected(carries_inner_ipv4) {
                    match self.dataplane.mismatch() {
                        Some(_) => self.observer.warn(&event),
                        None => self.observer.tell(&event),
                    }
                }
                self.unsettled += 1;
            }
            FromDataplane::Refused(reason) => self.dataplane.refused(reason),
            FromDataplane::Synchronised { generation, revision } => {
                self.path_ends.confirmed(revision);
                self.announce(announce::Input::Confirmed(revision));
                // Not before: a solicitation that nobody transmits is repeated only a second later.
                if self.dataplane.synchronised(generation) {
                    self.probe_neighbours();
                }
            }
            FromDataplane::Lost => {
                self.dataplane.lost();
                self.announce(announce::Input::Unconfirmed);
            }
            FromDataplane::UnknownNeighbour { port, address } => {
                self.counters.add("neighbour_requests");
                self.access.resolve(&port, address);
            }
            FromDataplane::FilterExpired { id } => self.process(Input::FilterExpired(id)),
        }
    }

    async fn change(&mut self, change: Change) {
        let neighbours = matches!(change, Change::Neighbour(_));
        if let Some(port) = self.access.change(change) {
            self.router_links.remove(&port);
        }
        if neighbours {
            self.unsettled += 1;
        } else {
            self.configure_pending().await;
        }
    }

    /// Configures the interfaces that are new or different, and opens their access links.
    async fn configure_pending(&mut self) {
        let others = self.dataplane.generation().map(|_| self.neighbours());
        for (link, port) in self.access.configure_pending(others.as_ref()).await {
            self.open_router_link(&link, &port);
        }
        self.unsettled += 1;
    }

    /// Has the kernel make sure of the gateways and of the peers, and catches up with whatever changes were missed.
    async fn probe(&mut self) {
        self.access.read_again().await;
        self.probe_neighbours();
        self.ask_paths(path::Input::Tick);
        self.configure_pending().await;
    }

    /// Who may be on the link of a core port.
    fn neighbours(&self) -> BTreeSet<Ipv6Addr> {
        let tables = &self.desired.borrow().tables;
        let tunnels = tables.tunnels.values().map(|tunnel| tunnel.remote);
        let cmds = self.config.maar.iter().flat_map(|maar| maar.cmd.iter().copied());
        tunnels.chain(cmds).collect()
    }

    fn probe_neighbours(&self) {
        self.access.probe_neighbours(&self.neighbours());
    }

    fn save(&mut self, failed: Option<StoreError>) {
        if let Some(error) = failed {
            let text = format!("bindings would not survive a restart: {error}");
            self.observer.warn(&Event::new("state_not_saved", text));
        }
        self.answer_resets();
        for (to, identifier) in self.durable.send(self.saver.saved(), &mut self.endpoint) {
            let mut dpns = self.config.maar.iter().flat_map(|maar| &maar.dpns);
            if dpns.any(|dpn| dpn.address == to) {
                self.process(Input::Answered { to, identifier });
            }
        }
        self.withdraw_what_is_saved();
        self.read_on();
        self.saver.step(self.machine.state());
    }
}
