//! What operators ask about the anchors of prefixes.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use ipnet::Ipv6Net;
use tonic::Status;

use super::Daemon;
use crate::cmd::{Outcome, RelocationError};
use crate::northbound::{Reply, proto};

/// Calls that are answered when a relocation has ended.
#[derive(Debug, Default)]
pub(super) struct Relocations {
    waiting: BTreeMap<Ipv6Net, Vec<Reply<proto::RelocateReply>>>,
}

impl Relocations {
    fn wait(&mut self, prefix: Ipv6Net, reply: Reply<proto::RelocateReply>) {
        self.waiting.entry(prefix).or_default().push(reply);
    }

    /// Tells those who asked.
    pub(super) fn ended(&mut self, prefix: Ipv6Net, outcome: &Outcome) {
        for reply in self.waiting.remove(&prefix).into_iter().flatten() {
            // A caller that has gone does not want its answer.
            drop(reply.send(match outcome {
                Outcome::Relocated { from, to, took } => Ok(proto::RelocateReply {
                    prefix: prefix.to_string(),
                    from: from.to_string(),
                    to: to.to_string(),
                    duration_us: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
                }),
                Outcome::Failed { why, .. } => Err(Status::aborted(why.clone())),
            }));
        }
    }
}

impl Daemon {
    pub(super) fn relocate(&mut self, request: &proto::RelocateRequest, reply: Reply<proto::RelocateReply>) {
        let prefix = match request.prefix.parse::<Ipv6Net>() {
            Ok(prefix) => prefix,
            Err(_) => {
                let text = format!(
                    "prefix = {:?} is no IPv6 prefix such as 2001:db8:100::/64",
                    request.prefix
                );
                return drop(reply.send(Err(Status::invalid_argument(text))));
            }
        };
        let begun = maar(&request.to).and_then(|to| {
            let now = self.observer.clock().now();
            self.machine.relocate(prefix, to, now).map_err(refusal)
        });
        match begun {
            Ok(outputs) => {
                self.relocations.wait(prefix, reply);
                self.carry_out(outputs);
            }
            Err(status) => drop(reply.send(Err(status))),
        }
    }

    pub(super) fn drain(&mut self, request: &proto::DrainRequest) -> Result<proto::DrainReply, Status> {
        let address = maar(&request.maar)?;
        let outputs = if request.stop {
            self.machine.stop_draining(address)
        } else {
            self.machine.drain(address, self.observer.clock().now())
        };
        self.carry_out(outputs.map_err(refusal)?);
        Ok(proto::DrainReply {})
    }

    pub(super) fn drain_progress(
        &self,
        request: &proto::DrainProgressRequest,
    ) -> Result<proto::DrainProgress, Status> {
        let address = maar(&request.maar)?;
        let progress = self.machine.drain_progress(address).ok_or_else(|| {
            Status::failed_precondition(format!(
                "{address} is not being drained; kedge drain {address} begins it"
            ))
        })?;
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        Ok(proto::DrainProgress {
            to_relocate: count(progress.to_relocate),
            under_way: count(progress.under_way),
            attached: count(progress.attached),
        })
    }
}

fn maar(text: &str) -> Result<Ipv6Addr, Status> {
    text.parse().map_err(|_| {
        Status::invalid_argument(format!(
            "maar = {text:?} is no IPv6 address such as 2001:db8:a::1"
        ))
    })
}

fn refusal(error: RelocationError) -> Status {
    let text = error.to_string();
    match error {
        RelocationError::UnknownPrefix(_) | RelocationError::UnknownMaar(_) => Status::not_found(text),
        RelocationError::Anchored { .. } | RelocationError::UnderWay { .. } => Status::already_exists(text),
        RelocationError::NotServing { .. }
        | RelocationError::Ending { .. }
        | RelocationError::Unconfirmed { .. } => Status::failed_precondition(text),
    }
}
