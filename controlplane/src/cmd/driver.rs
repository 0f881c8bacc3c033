//! The daemon of role CMD: the Mobility Header socket, the store and the northbound API.

mod delegation;
mod policy;
mod relocation;

use std::time::Duration;

use kedge_config::Config;
use tokio::sync::mpsc;
use tonic::Status;

use self::relocation::Relocations;
use super::{BindingPhase, Cmd, Input, Outcome, Output, PreviousPhase, Settings, State};
use crate::binding::{FileStore, Saver, StoreError};
use crate::delegation::changed;
use crate::delegation::server::{self, ServerHandle};
use crate::driver::{
    Durable, Endpoint, FromSocket, Heeded, Observer, Parts, restore, tunnel_name, wait_until,
};
use crate::event::Event;
use crate::metrics::{Accumulated, Snapshot};
use crate::northbound::{Request, proto};

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
    let settings = Settings::from_config(&config).ok_or_else(|| anyhow::anyhow!("[cmd] is missing"))?;
    let (store, state) = restore::<State>(&config.state_directory(), "cmd", &observer)?;
    let delegation = server::start(&config, &observer)?;
    let mut delegated = delegation.as_ref().map(ServerHandle::delegated);
    let (endpoint, mut from_socket) = Endpoint::new(config.node.address, observer.clone());
    let mut daemon = Daemon {
        machine: Cmd::new(settings, state, observer.clock().now()),
        endpoint,
        accumulated: Accumulated::new()?,
        saver: Saver::new(store),
        durable: Durable::default(),
        relocations: Relocations::default(),
        delegation,
        observer,
        config,
    };
    if let Some(delegated) = &mut delegated {
        let held = delegated.borrow_and_update().as_ref().clone();
        daemon.process(Input::Delegated(held));
    }
    let outputs = daemon.machine.started(daemon.observer.clock().now());
    daemon.carry_out(outputs);
    loop {
        let deadline = daemon
            .machine
            .next_deadline()
            .map(|time| daemon.observer.clock().instant(time));
        tokio::select! {
            biased;
            heeded = signals.next() => if heeded == Heeded::Stop { break },
            // Each of these sets a later time for itself, so nothing that comes in, however much, keeps them waiting, nor they it.
            () = wait_until(deadline) => daemon.process(Input::Tick),
            failed = daemon.saver.ready() => daemon.save(failed),
            Some(item) = from_socket.recv() => daemon.message(item, &mut from_socket),
            Some(request) = requests.recv() => daemon.request(request),
            held = changed(delegated.as_mut()) => daemon.process(Input::Delegated(held.as_ref().clone())),
        }
    }
    daemon.saver.finish(daemon.machine.state()).await?;
    Ok(())
}

struct Daemon {
    config: Config,
    observer: Observer,
    machine: Cmd,
    endpoint: Endpoint,
    accumulated: Accumulated,
    saver: Saver<FileStore>,
    /// Messages that wait for it.
    durable: Durable,
    /// Callers that wait for the end of a relocation.
    relocations: Relocations,
    /// The delegating server, where there is one.
    delegation: Option<ServerHandle>,
}

impl Daemon {
    /// One message, and those that wait behind it.
    fn message(&mut self, first: FromSocket, more: &mut mpsc::Receiver<FromSocket>) {
        let mut next = Some(first);
        for _ in 0..64 {
            let Some(item) = next.take() else { return };
            if let Some((from, message)) = self.endpoint.take(item) {
                self.process(Input::Message { from, message });
            }
            next = more.try_recv().ok();
        }
        if let Some((from, message)) = next.and_then(|item| self.endpoint.take(item)) {
            self.process(Input::Message { from, message });
        }
    }

    fn process(&mut self, input: Input) {
        let outputs = self.machine.process(input, self.observer.clock().now());
        self.carry_out(outputs);
    }

    /// Does what a step of the state machine asks for.
    fn carry_out(&mut self, outputs: Vec<Output>) {
        let change = self.saver.changed();
        for output in outputs {
            match output {
                Output::Send { to, message } => self.endpoint.send(to, &message),
                Output::SendWhenSaved { to, message } => {
                    self.durable.add(change, to, message);
                    self.saver.urgent();
                }
                Output::Relocation { prefix, outcome } => {
                    if let Outcome::Failed { from, .. } = outcome {
                        self.delegate(prefix, from);
                    }
                    self.relocations.ended(prefix, &outcome);
                }
                Output::Event(event) => self.observer.tell(&event),
            }
        }
    }

    fn save(&mut self, failed: Option<StoreError>) {
        if let Some(error) = failed {
            let text = format!("bindings would not survive a restart: {error}");
            self.observer.warn(&Event::new("state_not_saved", text));
        }
        for (to, message) in self.durable.take(self.saver.saved()) {
            // Not before: who is killed in between knows what was delegated, and has it undone where it comes to that.
            self.delegate_relocated(to, &message);
            self.endpoint.send(to, &message);
        }
        self.saver.step(self.machine.state());
    }

    fn request(&mut self, request: Request) {
        // A caller that has gone does not want its answer.
        match request {
            Request::Info(reply) => {
                drop(reply.send(Ok(crate::driver::info(&self.config, &self.observer, None))))
            }
            Request::Bindings(reply) => drop(reply.send(Ok(self.bindings()))),
            Request::Counters(reply) => {
                let mut all = crate::driver::counters(self.machine.counters(), &self.endpoint);
                let more = self.delegation.iter().flat_map(|it| it.figures().counters);
                all.counters.extend(more.map(|(name, value)| proto::Counter {
                    name: name.to_owned(),
                    value,
                }));
                drop(reply.send(Ok(all)));
            }
            Request::Delegations(reply) => {
                let Some(server) = self.delegation.clone() else {
                    return drop(reply.send(Ok(proto::DelegationList::default())));
                };
                tokio::spawn(async move {
                    let delegations = server.list().await;
                    reply.send(Ok(proto::DelegationList { delegations }))
                });
            }
            Request::Metrics(reply) => drop(reply.send(self.metrics())),
            // The CMD has no tunnels.
            Request::Paths(reply) => drop(reply.send(Ok(proto::PathList::default()))),
            Request::Routes(reply) => drop(reply.send(Ok(proto::RouteList::default()))),
            Request::Nodes(reply) => drop(reply.send(Err(no_access_side()))),
            Request::AddFilter(_, reply) => drop(reply.send(Err(no_access_side()))),
            Request::DeleteFilter(_, reply) => drop(reply.send(Err(no_access_side()))),
            Request::Filters(reply) => drop(reply.send(Err(no_access_side()))),
            Request::Meters(reply) => drop(reply.send(Err(no_access_side()))),
            Request::Usage(_, reply) => drop(reply.send(Err(no_access_side()))),
            Request::Attach(_, reply) => drop(reply.send(Err(no_access_side()))),
            Request::Detach(_, reply) => drop(reply.send(Err(no_access_side()))),
            Request::Relocate(request, reply) => self.relocate(&request, reply),
            Request::SetPolicy(rule, reply) => drop(reply.send(self.set_policy(&rule))),
            Request::RemovePolicy(request, reply) => drop(reply.send(self.remove_policy(&request.name))),
            Request::Policies(reply) => drop(reply.send(Ok(self.policies()))),
            Request::Drain(request, reply) => drop(reply.send(self.drain(&request))),
            Request::DrainProgress(request, reply) => drop(reply.send(self.drain_progress(&request))),
        }
    }

    fn bindings(&self) -> proto::BindingList {
        let now = self.observer.clock().now();
        let bindings = self
            .machine
            .state()
            .bindings
            .iter()
            .map(|(identifier, binding)| proto::Binding {
                identifier: identifier.to_string(),
                serving_maar: binding.serving.to_string(),
                prefixes: binding.anchored_here().map(|it| it.to_string()).collect(),
                previous: binding
                    .previous
                    .iter()
                    .map(|previous| proto::PreviousMaar {
                        address: previous.address.to_string(),
                        prefix: previous.prefix.to_string(),
                        state: match previous.phase {
                            PreviousPhase::Updating(_) => "updating",
                            PreviousPhase::Confirmed => "confirmed",
                            PreviousPhase::Refused => "refused",
                        }
                        .to_owned(),
                        tunnel: tunnel_name(previous.tunnel.map(|it| it.serving)).to_owned(),
                    })
                    .collect(),
                expires_in_ms: milliseconds(binding.expires_at.since(now)),
                sequence: binding.sequence.into(),
                state: phase(binding.phase).to_owned(),
                access_technology: binding.access_technology_type.into(),
            });
        proto::BindingList {
            bindings: bindings.collect(),
        }
    }

    fn metrics(&self) -> Result<String, Status> {
        let mut bindings = vec![
            (phase(BindingPhase::Active), 0),
            (phase(BindingPhase::Deregistered), 0),
        ];
        for binding in self.machine.state().bindings.values() {
            for (name, count) in &mut bindings {
                *count += i64::from(*name == phase(binding.phase));
            }
        }
        let mut counters: Vec<_> = self.machine.counters().iter().collect();
        counters.extend(self.endpoint.counters());
        let figures = self.delegation.as_ref().map(ServerHandle::figures);
        counters.extend(figures.iter().flat_map(|it| &it.counters).copied());
        let snapshot = Snapshot {
            node: &self.config.node.name,
            role: "cmd",
            counters,
            messages: self
                .endpoint
                .messages()
                .iter()
                .map(|(key, value)| (*key, *value))
                .collect(),
            bindings,
            dataplane_connected: None,
            dataplane_mismatches: Vec::new(),
            delegations: figures.as_ref().map(|it| it.delegations),
            paths: Vec::new(),
            routes: None,
            left_out: Vec::new(),
            meters: Vec::new(),
        };
        self.accumulated
            .render(&snapshot)
            .map_err(|error| Status::internal(error.to_string()))
    }
}

fn phase(phase: BindingPhase) -> &'static str {
    match phase {
        BindingPhase::Active => "active",
        BindingPhase::Deregistered => "deregistered",
    }
}

fn milliseconds(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn no_access_side() -> Status {
    Status::failed_precondition("this node has role cmd: no mobile node attaches here; ask for its bindings")
}
