//! What the operator asks of a MAAR.

use tonic::Status;

use super::Daemon;
use crate::counters::Counters;
use crate::delegation::client::ClientHandle;
use crate::driver::{counters, info, tunnel_name};
use crate::identity::MobileNodeIdentifier;
use crate::maar::{Node, Phase};
use crate::metrics::Snapshot;
use crate::northbound::{Request, proto};
use crate::wire::mobility::is_mobile_network;

/// Every word for a phase.
const PHASES: [&str; 6] = [
    "registering",
    "attached",
    "detached",
    "anchored",
    "refused",
    "deregistering",
];

impl Daemon {
    pub(super) fn request(&mut self, request: Request) {
        // A caller that has gone does not want its answer.
        match request {
            Request::Info(reply) => {
                drop(reply.send(Ok(info(&self.config, &self.observer, Some(&self.dataplane)))))
            }
            Request::Nodes(reply) => drop(reply.send(Ok(self.nodes()))),
            Request::Bindings(reply) => drop(reply.send(Ok(self.bindings()))),
            Request::Counters(reply) => {
                let mut all = counters(self.machine.counters(), &self.endpoint);
                let routes = self.announcing.iter().map(|it| it.announcer().counters());
                let own = self.counters.iter().chain(self.access.counters().iter());
                let own = own.chain(self.dataplane.counters().iter());
                let more = own.chain(self.paths.counters());
                let more = more.chain(routes.flat_map(Counters::iter));
                let figures = self.delegation.as_ref().map(ClientHandle::figures);
                let more = more.chain(figures.iter().flat_map(|it| &it.counters).copied());
                all.counters.extend(more.map(|(name, value)| proto::Counter {
                    name: name.to_owned(),
                    value,
                }));
                drop(reply.send(Ok(all)));
            }
            Request::Delegations(reply) => {
                let Some(client) = self.delegation.clone() else {
                    return drop(reply.send(Ok(proto::DelegationList::default())));
                };
                tokio::spawn(async move {
                    let delegations = client.list().await;
                    reply.send(Ok(proto::DelegationList { delegations }))
                });
            }
            Request::Paths(reply) => drop(reply.send(Ok(self.paths.list()))),
            Request::Routes(reply) => drop(reply.send(Ok(self.routes()))),
            Request::Metrics(reply) => drop(reply.send(self.metrics())),
            Request::AddFilter(rule, reply) => {
                let answer = self.add_filter(&rule);
                drop(reply.send(answer));
            }
            Request::DeleteFilter(request, reply) => {
                let answer = self.delete_filter(&request.name);
                drop(reply.send(answer));
            }
            Request::Filters(reply) => drop(reply.send(Ok(self.filters()))),
            Request::Meters(reply) => drop(reply.send(Ok(self.list_meters()))),
            Request::Usage(request, reply) => self.read_usage(request, reply),
            Request::Attach(request, reply) => {
                let answer = self.attach(&request);
                drop(reply.send(answer));
            }
            Request::Detach(request, reply) => {
                let answer = self.detach(&request);
                drop(reply.send(answer));
            }
            Request::SetPolicy(_, reply) => drop(reply.send(Err(no_database()))),
            Request::RemovePolicy(_, reply) => drop(reply.send(Err(no_database()))),
            Request::Policies(reply) => drop(reply.send(Err(no_database()))),
            Request::Relocate(_, reply) => drop(reply.send(Err(no_database()))),
            Request::Drain(_, reply) => drop(reply.send(Err(no_database()))),
            Request::DrainProgress(_, reply) => drop(reply.send(Err(no_database()))),
        }
    }

    pub(super) fn state_of(&self, identifier: &MobileNodeIdentifier) -> Option<String> {
        let node = self.machine.state().nodes.get(identifier)?;
        Some(word(&node.phase).to_owned())
    }

    fn nodes(&self) -> proto::NodeList {
        let nodes = self
            .machine
            .state()
            .nodes
            .iter()
            .map(|(identifier, node)| proto::Node {
                identifier: identifier.to_string(),
                state: word(&node.phase).to_owned(),
                port: node.place(),
                link_layer_address: node.link_layer_address.to_string(),
                link_local_address: node.link_local_address.to_string(),
                serving_maar: self.serving(node),
                prefixes: self.prefixes(node),
            });
        proto::NodeList {
            nodes: nodes.collect(),
        }
    }

    /// Where a node is now, as far as this MAAR knows.
    fn serving(&self, node: &Node) -> String {
        match node.phase {
            Phase::Registering | Phase::Attached => self.config.node.address.to_string(),
            Phase::Anchored { serving } => serving.to_string(),
            Phase::Detached | Phase::Refused { .. } | Phase::Deregistering => String::new(),
        }
    }

    fn prefixes(&self, node: &Node) -> Vec<proto::NodePrefix> {
        let yielded = &self.machine.state().yielded;
        let own = node.own_prefixes().map(|prefix| {
            let anchor = yielded.get(&prefix).map(|it| it.to);
            proto::NodePrefix {
                prefix: prefix.to_string(),
                anchor: anchor.unwrap_or(self.config.node.address).to_string(),
                preferred: node.phase == Phase::Attached && prefix == node.home_network_prefix,
                network: is_mobile_network(prefix),
            }
        });
        let previous = node.previous.iter().map(|previous| proto::NodePrefix {
            prefix: previous.prefix.to_string(),
            anchor: previous.address.to_string(),
            preferred: false,
            network: is_mobile_network(previous.prefix),
        });
        own.chain(previous).collect()
    }

    fn bindings(&self) -> proto::BindingList {
        let now = self.observer.clock().now();
        let bindings = self
            .machine
            .state()
            .nodes
            .iter()
            .map(|(identifier, node)| proto::Binding {
                identifier: identifier.to_string(),
                serving_maar: self.serving(node),
                prefixes: self
                    .machine
                    .state()
                    .anchored(node)
                    .map(|prefix| prefix.to_string())
                    .collect(),
                previous: node
                    .previous
                    .iter()
                    .map(|previous| proto::PreviousMaar {
                        address: previous.address.to_string(),
                        prefix: previous.prefix.to_string(),
                        state: "confirmed".to_owned(),
                        tunnel: tunnel_name(node.tunnel_type(previous.address)).to_owned(),
                    })
                    .collect(),
                expires_in_ms: node.expires_at.map_or(0, |at| {
                    u64::try_from(at.since(now).as_millis()).unwrap_or(u64::MAX)
                }),
                sequence: node.sequence.into(),
                state: if node.phase == Phase::Deregistering {
                    "deregistered"
                } else {
                    "active"
                }
                .to_owned(),
                access_technology: self.config.access.access_technology_type.into(),
            });
        proto::BindingList {
            bindings: bindings.collect(),
        }
    }

    fn metrics(&self) -> Result<String, Status> {
        let mut bindings: Vec<_> = PHASES.iter().map(|name| (*name, 0)).collect();
        for node in self.machine.state().nodes.values() {
            for (name, count) in &mut bindings {
                *count += i64::from(*name == word(&node.phase));
            }
        }
        let mut all: Vec<_> = self.machine.counters().iter().collect();
        all.extend(self.endpoint.counters());
        all.extend(self.counters.iter());
        all.extend(self.dataplane.counters().iter());
        all.extend(self.access.counters().iter());
        all.extend(self.paths.counters());
        let announcer = self.announcing.as_ref().zip(self.config.announce.as_ref());
        let routes = announcer.map(|(announcing, section)| announcing.figures(section.daemon.name()));
        if let Some(announcing) = &self.announcing {
            all.extend(announcing.announcer().counters().iter());
        }
        let figures = self.delegation.as_ref().map(ClientHandle::figures);
        all.extend(figures.iter().flat_map(|it| &it.counters).copied());
        let snapshot = Snapshot {
            node: &self.config.node.name,
            role: "maar",
            counters: all,
            messages: self
                .endpoint
                .messages()
                .iter()
                .map(|(key, value)| (*key, *value))
                .collect(),
            bindings,
            delegations: figures.as_ref().map(|it| it.delegations),
            dataplane_connected: Some(self.dataplane.takes_transactions()),
            dataplane_mismatches: self.dataplane.mismatches(),
            paths: self.paths.up(),
            routes,
            left_out: self.left_out.figures(),
            meters: self.meter_figures(),
        };
        self.accumulated
            .render(&snapshot)
            .map_err(|error| Status::internal(error.to_string()))
    }
}

fn no_database() -> Status {
    Status::failed_precondition("this node has role maar: the CMD relocates anchors; ask it")
}

fn word(phase: &Phase) -> &'static str {
    match phase {
        Phase::Registering => "registering",
        Phase::Attached => "attached",
        Phase::Detached => "detached",
        Phase::Anchored { .. } => "anchored",
        Phase::Refused { .. } => "refused",
        Phase::Deregistering => "deregistering",
    }
}
