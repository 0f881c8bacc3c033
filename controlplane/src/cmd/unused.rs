//! A serving MAAR gives up a prefix that its node uses no more (RFC 8818 FM:3-3). What it says: `maar/unused.rs`.

use std::net::Ipv6Addr;

use ipnet::Ipv6Net;

use super::fsm::{Anchor, Cmd, Output};
use crate::event::Event;
use crate::identity::MobileNodeIdentifier;
use crate::proxy_binding::{acknowledge, check_timestamp, requested_prefixes};
use crate::time::Time;
use crate::wire::mobility::{MobilityMessage, ProxyBindingUpdate, Status};

/// What was given up, where it was anchored, and of whose pool it is if of another's.
struct GivenUp {
    identifier: MobileNodeIdentifier,
    prefix: Ipv6Net,
    anchor: Ipv6Addr,
    home: Option<Ipv6Addr>,
    access_technology_type: u8,
}

impl Cmd {
    /// Ends a prefix at whoever anchors it, and takes it home.
    pub(super) fn give_up_prefix(
        &mut self,
        from: Ipv6Addr,
        update: &ProxyBindingUpdate,
        now: Time,
        outputs: &mut Vec<Output>,
    ) {
        let given_up = match self.take_prefix_away(from, update, now) {
            Ok(given_up) => given_up,
            Err(status) => return self.refuse(from, update, status, now, outputs),
        };
        if let Some(it) = given_up {
            self.counters.add("prefixes_given_up");
            let text = format!("{} has no use for {} any more: it ends", it.identifier, it.prefix);
            outputs.push(Output::Event(
                Event::new("prefix_unused", text)
                    .with("identifier", &it.identifier)
                    .with("prefix", it.prefix),
            ));
            let anchor = Anchor {
                address: it.anchor,
                prefix: it.prefix,
                access_technology_type: it.access_technology_type,
                serving_endpoint: None,
            };
            self.release(&it.identifier, anchor, it.home, now, outputs);
        }
        outputs.push(Output::Send {
            to: from,
            message: MobilityMessage::ProxyBindingAcknowledgement(acknowledge(
                update,
                Status::ACCEPTED,
                0,
                now,
            )),
        });
    }

    /// Checks it, and takes the prefix out of the binding. `None`: it is none of the node's any more.
    fn take_prefix_away(
        &mut self,
        from: Ipv6Addr,
        update: &ProxyBindingUpdate,
        now: Time,
    ) -> Result<Option<GivenUp>, Status> {
        let options = &update.options;
        let identifier = options
            .mobile_node_identifier
            .clone()
            .ok_or(Status::MISSING_MN_IDENTIFIER_OPTION)?;
        if self.known_maar(from).is_none() {
            return Err(Status::MAG_NOT_AUTHORIZED_FOR_PROXY_REG);
        }
        if !update.is_distributed() || update.lifetime != 0 {
            return Err(Status::ADMINISTRATIVELY_PROHIBITED);
        }
        let &[prefix] = requested_prefixes(options) else {
            return Err(Status::MISSING_HOME_NETWORK_PREFIX_OPTION);
        };
        let before = self.state.bindings.get(&identifier).cloned();
        let before = before.ok_or(Status::NOT_LMA_FOR_THIS_MOBILE_NODE)?;
        let window = self.settings.timers.timestamp_validity_window;
        let timestamp = check_timestamp(options.timestamp, before.last_timestamp, now, window)?;
        // Only who serves the node knows what it uses, and who anchors a prefix for another whether it may; what new flows use
        // is not given up.
        let anchors = before
            .previous
            .iter()
            .any(|it| it.prefix == prefix && it.address == from);
        if (before.serving != from && !anchors) || before.prefixes.contains(&prefix) {
            return Err(Status::NOT_AUTHORIZED_FOR_HOME_NETWORK_PREFIX);
        }
        if self.state.relocations.contains_key(&prefix) {
            return Err(Status::REASON_UNSPECIFIED);
        }
        let binding = self.state.bindings.get_mut(&identifier);
        let binding = binding.ok_or(Status::NOT_LMA_FOR_THIS_MOBILE_NODE)?;
        if before.serving == from {
            binding.last_timestamp = timestamp;
        }
        let adopted = binding.adopted.iter().position(|it| it.prefix == prefix);
        let previous = binding.previous.iter().position(|it| it.prefix == prefix);
        let (anchor, home) = match (adopted, previous) {
            // The answer may be lost, so it is told like others to release it.
            (Some(at), _) => (from, Some(binding.adopted.remove(at).home)),
            (None, Some(at)) => {
                let previous = binding.previous.remove(at);
                (previous.address, previous.home)
            }
            (None, None) => return Ok(None),
        };
        binding.note_ended(prefix);
        let access_technology_type = binding.access_technology_type;
        self.reindex(&identifier, Some(&before));
        Ok(Some(GivenUp {
            identifier,
            prefix,
            anchor,
            home,
            access_technology_type,
        }))
    }
}
