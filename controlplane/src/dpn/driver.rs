//! The daemon of role DPN: everything that the state machine touches. As that of a MAAR, with less on the side of the network.

mod answers;

use std::collections::BTreeSet;
use std::net::Ipv6Addr;
use std::time::Duration;

use kedge_config::Config;
use tokio::sync::watch;

use super::{Dpn, Input, Output, Settings, State};
use crate::binding::{FileStore, Saver, StoreError};
use crate::dataplane_sync::{self, Desired, FromDataplane};
use crate::driver::{
    AccessSide, Attachment, DataplaneState, Endpoint, FromSocket, GtpuPaths, Heeded, LeftOutNow, Observer,
    Parts, path_input, restore, wait_until,
};
use crate::event::Event;
use crate::forwarding;
use crate::metrics::Accumulated;

/// How often gateways are probed, and the kernel's tables are read as a whole.
const PROBE: Duration = Duration::from_secs(15);
/// Inputs in a row before the data plane is told: a burst of messages makes one transaction.
const BURST: u32 = 64;

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
    let settings = Settings::from_config(&config).ok_or_else(|| anyhow::anyhow!("[dpn] is missing"))?;
    let (store, state) = restore::<State>(&config.state_directory(), "dpn", &observer)?;
    let (endpoint, mut from_socket) = Endpoint::new(config.node.address, observer.clone());
    // What the kernel knows already is known before the data plane is compared.
    let (access, mut from_access) = AccessSide::start(&config, &observer).await?;
    let teid_key = getrandom::u64()
        .map_err(|error| anyhow::anyhow!("the operating system gives no randomness: {error}"))?;
    let machine = Dpn::new(settings, state, teid_key, observer.clock().now());
    let derived = forwarding::desired_of_dpn(&config, machine.state(), access.core_neighbours());
    // Nothing of a DPN is IPv4.
    let (desired, mut from_dataplane) = dataplane_sync::start(
        config.dataplane_socket(),
        Desired::first(derived.tables, false),
        observer.clone(),
    );
    let mut daemon = Daemon {
        accumulated: Accumulated::new()?,
        saver: Saver::new(store),
        dataplane: DataplaneState::new(&config),
        unsettled: 0,
        paths: GtpuPaths::new(&config, &observer),
        config,
        observer,
        machine,
        endpoint,
        access,
        desired,
        left_out: LeftOutNow::default(),
    };
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
        let clock = daemon.observer.clock();
        let deadline = daemon.machine.next_deadline().map(|time| clock.instant(time));
        let ask = daemon.paths.next_deadline().map(|time| clock.instant(time));
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
            () = wait_until(ask) => daemon.ask_paths(crate::path::Input::Tick),
            Some(item) = from_socket.recv() => daemon.message(item),
            Some(solicitation) = from_access.solicitations.recv() => {
                if let Some(attachment) = daemon.access.solicitation(solicitation) {
                    daemon.attached(attachment);
                }
            }
            Some(change) = from_access.changes.recv() => {
                // There is nothing more on its links than nodes.
                let _ = daemon.access.change(change);
                daemon.configure_pending().await;
            }
            Some(request) = requests.recv() => daemon.request(request),
            Some(item) = from_dataplane.recv() => daemon.dataplane(item),
            () = std::future::ready(()), if daemon.unsettled > 0 => daemon.settle(),
            received = daemon.paths.receive() => {
                if let Some((input, _)) = path_input(received) {
                    daemon.ask_paths(input);
                }
            }
            () = wait_until(configure) => daemon.configure_pending().await,
            _ = probe.tick() => daemon.probe().await,
        }
    }
    daemon.saver.finish(daemon.machine.state()).await?;
    Ok(())
}

struct Daemon {
    config: Config,
    observer: Observer,
    machine: Dpn,
    endpoint: Endpoint,
    access: AccessSide,
    desired: watch::Sender<Desired>,
    dataplane: DataplaneState,
    /// What the data plane has no room for.
    left_out: LeftOutNow,
    accumulated: Accumulated,
    saver: Saver<FileStore>,
    /// Changes since the desired tables were computed.
    unsettled: u32,
    /// Whether the DPA is there, by GTP-U.
    paths: GtpuPaths,
}

impl Daemon {
    fn message(&mut self, item: FromSocket) {
        if let Some((from, message)) = self.endpoint.take(item) {
            self.process(Input::Message { from, message });
        }
    }

    fn attached(&mut self, attachment: Attachment) {
        let Attachment {
            identifier,
            port,
            link_layer_address,
            link_local_address,
        } = attachment;
        self.process(Input::Attached {
            identifier,
            port,
            link_layer_address,
            link_local_address,
        });
    }

    /// One step of the state machine, and everything that follows from it.
    fn process(&mut self, input: Input) {
        let outputs = self.machine.process(input, self.observer.clock().now());
        self.saver.changed();
        for output in outputs {
            match output {
                Output::Send { to, message } => self.endpoint.send(to, &message),
                Output::Advertise {
                    port,
                    link_local_address,
                    link_layer_address,
                    prefixes,
                } => self
                    .access
                    .advertise(&port, link_local_address, link_layer_address, prefixes),
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
        let neighbours = self.access.core_neighbours();
        let forwarding::Derived { tables, left_out } =
            forwarding::desired_of_dpn(&self.config, self.machine.state(), neighbours);
        self.left_out.take(left_out, &self.config, &self.observer);
        self.ask_paths(crate::path::Input::Peers(forwarding::gtpu_peers(&tables)));
        let mut first = false;
        self.desired.send_if_modified(|known| {
            if known.tables == tables {
                return false;
            }
            first = known.tables.tunnels.is_empty() && !tables.tunnels.is_empty();
            known.tables = tables;
            known.revision += 1;
            true
        });
        if first {
            self.access.probe_neighbours(&self.neighbours());
        }
    }

    fn ask_paths(&mut self, input: crate::path::Input) {
        for (peer, teid) in self.paths.process(input) {
            self.process(Input::TunnelRefused { peer, teid });
        }
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
            }
            FromDataplane::Refused(reason) => self.dataplane.refused(reason),
            FromDataplane::Synchronised { generation, .. } => {
                // Not before: a solicitation that nobody transmits is repeated only a second later.
                if self.dataplane.synchronised(generation) {
                    self.access.probe_neighbours(&self.neighbours());
                }
            }
            FromDataplane::Lost => self.dataplane.lost(),
            FromDataplane::UnknownNeighbour { port, address } => self.access.resolve(&port, address),
            // There are none here.
            FromDataplane::FilterExpired { .. } => {}
        }
    }

    async fn configure_pending(&mut self) {
        let others = self.dataplane.generation().map(|_| self.neighbours());
        self.access.configure_pending(others.as_ref()).await;
        self.unsettled += 1;
    }

    /// Has the kernel make sure of gateways and DPA, and catches up with whatever changes were missed.
    async fn probe(&mut self) {
        self.access.read_again().await;
        self.access.probe_neighbours(&self.neighbours());
        self.ask_paths(crate::path::Input::Tick);
        self.configure_pending().await;
    }

    /// Who may be on the link of a core port.
    fn neighbours(&self) -> BTreeSet<Ipv6Addr> {
        self.config.dpn.iter().map(|dpn| dpn.dpa).collect()
    }

    fn save(&mut self, failed: Option<StoreError>) {
        if let Some(error) = failed {
            let text = format!("bindings would not survive a restart: {error}");
            self.observer.warn(&Event::new("state_not_saved", text));
        }
        self.saver.step(self.machine.state());
    }
}
