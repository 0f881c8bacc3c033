//! What the operator asks of a DPN.

use tonic::Status;

use super::Daemon;
use crate::dpn::{Input, Node, Phase};
use crate::driver::{counters, identifier, info, tunnel_name};
use crate::identity::MobileNodeIdentifier;
use crate::metrics::Snapshot;
use crate::northbound::{Request, proto};
use crate::wire::mobility::is_mobile_network;

/// Every word for a phase.
const PHASES: [&str; 4] = ["registering", "attached", "refused", "deregistering"];

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
                let more = self.access.counters().iter().chain(self.paths.counters());
                let more = more.chain(self.dataplane.counters().iter());
                all.counters.extend(more.map(|(name, value)| proto::Counter {
                    name: name.to_owned(),
                    value,
                }));
                drop(reply.send(Ok(all)));
            }
            Request::Paths(reply) => drop(reply.send(Ok(self.paths.list()))),
            Request::Metrics(reply) => drop(reply.send(self.metrics())),
            Request::Attach(request, reply) => {
                let answer = self.attach(&request);
                drop(reply.send(answer));
            }
            Request::Detach(request, reply) => {
                let answer = self.detach(&request);
                drop(reply.send(answer));
            }
            Request::Delegations(reply) => drop(reply.send(Ok(proto::DelegationList::default()))),
            Request::Routes(reply) => drop(reply.send(Ok(proto::RouteList::default()))),
            Request::Filters(reply) => drop(reply.send(Ok(proto::FilterList::default()))),
            Request::AddFilter(_, reply) => drop(reply.send(Err(its_dpa("has filters")))),
            Request::DeleteFilter(_, reply) => drop(reply.send(Err(its_dpa("has filters")))),
            Request::Meters(reply) => drop(reply.send(Err(its_dpa("has meters")))),
            Request::Usage(_, reply) => drop(reply.send(Err(its_dpa("has what is counted for charging")))),
            Request::SetPolicy(_, reply) => drop(reply.send(Err(no_database()))),
            Request::RemovePolicy(_, reply) => drop(reply.send(Err(no_database()))),
            Request::Policies(reply) => drop(reply.send(Err(no_database()))),
            Request::Relocate(_, reply) => drop(reply.send(Err(no_database()))),
            Request::Drain(_, reply) => drop(reply.send(Err(no_database()))),
            Request::DrainProgress(_, reply) => drop(reply.send(Err(no_database()))),
        }
    }

    fn state_of(&self, identifier: &MobileNodeIdentifier) -> Option<String> {
        let node = self.machine.state().nodes.get(identifier)?;
        Some(word(&node.phase).to_owned())
    }

    fn attach(&mut self, request: &proto::AttachRequest) -> Result<proto::AttachReply, Status> {
        let nodes = &self.machine.state().nodes;
        let attachment = self.access.attachment(request, |identifier| {
            nodes.get(identifier).map(|node| node.link_layer_address)
        })?;
        let identifier = attachment.identifier.clone();
        self.attached(attachment);
        let state = self.state_of(&identifier).ok_or_else(|| {
            Status::resource_exhausted(format!("{identifier} is not served; `kedge watch` tells why"))
        })?;
        Ok(proto::AttachReply {
            identifier: identifier.to_string(),
            state,
        })
    }

    fn detach(&mut self, request: &proto::DetachRequest) -> Result<proto::DetachReply, Status> {
        let identifier = identifier(&request.identifier)?;
        if self.state_of(&identifier).is_none() {
            return Err(Status::not_found(format!("{identifier} is not known here")));
        }
        if request.deregister {
            return Err(its_dpa("ends sessions"));
        }
        self.process(Input::Detached(identifier.clone()));
        Ok(proto::DetachReply {
            state: self.state_of(&identifier).unwrap_or_else(|| "gone".to_owned()),
        })
    }

    fn dpa(&self) -> String {
        let dpn = self.config.dpn.as_ref();
        dpn.map_or_else(String::new, |dpn| dpn.dpa.to_string())
    }

    fn prefixes(&self, node: &Node) -> Vec<proto::NodePrefix> {
        let prefixes = node.prefixes.iter().map(|it| proto::NodePrefix {
            prefix: it.prefix.to_string(),
            // Who anchors it is the DPA's to know; it is where its packets go.
            anchor: self.dpa(),
            preferred: node.phase == Phase::Attached && !it.deprecated && !is_mobile_network(it.prefix),
            network: is_mobile_network(it.prefix),
        });
        prefixes.collect()
    }

    fn nodes(&self) -> proto::NodeList {
        let nodes = self.machine.state().nodes.iter();
        let nodes = nodes.map(|(identifier, node)| proto::Node {
            identifier: identifier.to_string(),
            state: word(&node.phase).to_owned(),
            port: node.port.clone(),
            link_layer_address: node.link_layer_address.to_string(),
            link_local_address: node.link_local_address.to_string(),
            serving_maar: self.dpa(),
            prefixes: self.prefixes(node),
        });
        proto::NodeList {
            nodes: nodes.collect(),
        }
    }

    fn bindings(&self) -> proto::BindingList {
        let now = self.observer.clock().now();
        let nodes = self.machine.state().nodes.iter();
        let bindings = nodes.map(|(identifier, node)| proto::Binding {
            identifier: identifier.to_string(),
            serving_maar: self.dpa(),
            // Nothing is anchored here: all of it leads to the DPA.
            prefixes: Vec::new(),
            previous: node
                .prefixes
                .iter()
                .map(|it| proto::PreviousMaar {
                    address: self.dpa(),
                    prefix: it.prefix.to_string(),
                    state: "confirmed".to_owned(),
                    tunnel: tunnel_name(node.tunnel.map(|tunnel| tunnel.remote)).to_owned(),
                })
                .collect(),
            expires_in_ms: node.expires_at.map_or(0, |at| {
                u64::try_from(at.since(now).as_millis()).unwrap_or(u64::MAX)
            }),
            sequence: node.sequence.into(),
            state: match node.phase {
                Phase::Deregistering => "deregistered",
                _ => "active",
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
        all.extend(self.access.counters().iter());
        all.extend(self.dataplane.counters().iter());
        all.extend(self.paths.counters());
        let messages = self.endpoint.messages().iter();
        let snapshot = Snapshot {
            node: &self.config.node.name,
            role: "dpn",
            counters: all,
            messages: messages.map(|(key, value)| (*key, *value)).collect(),
            bindings,
            dataplane_connected: Some(self.dataplane.takes_transactions()),
            dataplane_mismatches: self.dataplane.mismatches(),
            paths: self.paths.up(),
            left_out: self.left_out.figures(),
            ..Snapshot::default()
        };
        self.accumulated
            .render(&snapshot)
            .map_err(|error| Status::internal(error.to_string()))
    }
}

fn its_dpa(does: &str) -> Status {
    Status::failed_precondition(format!("this node has role dpn: its DPA {does}; ask it"))
}

fn no_database() -> Status {
    Status::failed_precondition("this node has role dpn: the CMD relocates anchors and has policies; ask it")
}

fn word(phase: &Phase) -> &'static str {
    match phase {
        Phase::Registering => "registering",
        Phase::Attached => "attached",
        Phase::Refused { .. } => "refused",
        Phase::Deregistering => "deregistering",
    }
}
