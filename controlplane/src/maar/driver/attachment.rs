//! Who is on a link: by Router Solicitation, and by the operator's word.

use std::net::Ipv6Addr;

use kedge_config::Side;
use tonic::Status;

use super::Daemon;
use crate::access::{Identity, Solicitation};
use crate::event::Event;
use crate::identity::{LinkLayerAddress, MobileNodeIdentifier};
use crate::maar::Input;
use crate::northbound::proto;

impl Daemon {
    /// A Router Solicitation is the sign that a node has attached.
    pub(super) fn solicitation(&mut self, solicitation: Solicitation) {
        self.counters.add("solicitations");
        let Solicitation {
            port,
            index,
            source,
            message,
        } = solicitation;
        let message = match message {
            Ok(message) => message,
            Err(error) => {
                self.counters.add("solicitations_invalid");
                let text = format!("solicitation from {source} on {port} refused: {error}");
                self.tell_refusal(&Event::new("solicitation_refused", text).with("port", port));
                return;
            }
        };
        // From `::` it has no link-layer address: the node will solicit again, or be
        // solicited for, once its link-local address is its own (RFC 4861 section 6.3.7).
        if !source.is_unicast_link_local() {
            self.counters.add("solicitations_unspecified_source");
            return;
        }
        let found = message
            .source_link_layer_address
            .or_else(|| self.interfaces.access_neighbour(index, source))
            .or_else(|| from_interface_identifier(source))
            .filter(|address| address.is_unicast());
        let Some(link_layer_address) = found else {
            self.counters.add("solicitations_without_link_layer_address");
            return;
        };
        let identifier = match self.policy.identify(link_layer_address) {
            Identity::Known(identifier) | Identity::Unknown(identifier) => identifier,
            Identity::Refused => {
                self.counters.add("solicitations_unknown_node_refused");
                let text =
                    format!("{link_layer_address} on {port} is not served: the policy file does not name it");
                let event = Event::new("node_unknown", text)
                    .with("port", port)
                    .with("link_layer_address", link_layer_address);
                self.tell_refusal(&event);
                return;
            }
        };
        self.process(Input::Attached {
            identifier,
            port,
            link_layer_address,
            link_local_address: source,
        });
    }

    fn tell_refusal(&mut self, event: &Event) {
        if self.told.allow(self.observer.clock().now()) {
            self.observer.tell(event);
        }
    }

    /// The operator says that a node has attached.
    pub(super) fn attach(&mut self, request: &proto::AttachRequest) -> Result<proto::AttachReply, Status> {
        let identifier = identifier(&request.identifier)?;
        let port = self.access_port(&request.port)?;
        let link_layer_address = match request.link_layer_address.as_str() {
            "" => self.known_address(&identifier).ok_or_else(|| {
                Status::invalid_argument(format!(
                    "link_layer_address is missing, and neither the policy file nor the bindings have one for {identifier}"
                ))
            })?,
            text => text.parse().map_err(invalid)?,
        };
        if !link_layer_address.is_unicast() {
            return Err(Status::invalid_argument(format!(
                "link_layer_address = {link_layer_address}: expected a unicast address"
            )));
        }
        let link_local_address = match request.link_local_address.as_str() {
            "" => link_layer_address.link_local(),
            text => text
                .parse()
                .ok()
                .filter(Ipv6Addr::is_unicast_link_local)
                .ok_or_else(|| {
                    Status::invalid_argument(format!(
                        "link_local_address = {text}: expected an address in fe80::/64"
                    ))
                })?,
        };
        self.process(Input::Attached {
            identifier: identifier.clone(),
            port,
            link_layer_address,
            link_local_address,
        });
        let state = self.state_of(&identifier).ok_or_else(|| {
            Status::resource_exhausted(format!("{identifier} is not served; `kedge watch` tells why"))
        })?;
        Ok(proto::AttachReply {
            identifier: identifier.to_string(),
            state,
        })
    }

    /// The operator says that a node has left.
    pub(super) fn detach(&mut self, request: &proto::DetachRequest) -> Result<proto::DetachReply, Status> {
        let identifier = identifier(&request.identifier)?;
        if self.state_of(&identifier).is_none() {
            return Err(Status::not_found(format!("{identifier} is not known here")));
        }
        self.process(Input::Detached {
            identifier: identifier.clone(),
            deregister: request.deregister,
        });
        Ok(proto::DetachReply {
            state: self.state_of(&identifier).unwrap_or_else(|| "gone".to_owned()),
        })
    }

    fn known_address(&self, identifier: &MobileNodeIdentifier) -> Option<LinkLayerAddress> {
        let bound = self.machine.state().nodes.get(identifier);
        self.policy
            .link_layer_address(identifier)
            .or_else(|| bound.map(|node| node.link_layer_address))
    }

    /// The access port of that name, or the only one.
    fn access_port(&self, name: &str) -> Result<String, Status> {
        let access = || self.config.ports.iter().filter(|port| port.side == Side::Access);
        let names = || {
            access()
                .map(|port| port.name.as_str())
                .collect::<Vec<_>>()
                .join(", ")
        };
        if name.is_empty() {
            let mut ports = access();
            return match (ports.next(), ports.next()) {
                (Some(port), None) => Ok(port.name.clone()),
                _ => Err(Status::invalid_argument(format!(
                    "port is missing; the access ports are: {}",
                    names()
                ))),
            };
        }
        access()
            .find(|port| port.name == name)
            .map(|port| port.name.clone())
            .ok_or_else(|| {
                Status::invalid_argument(format!(
                    "port = {name}: no access port of that name; there are: {}",
                    names()
                ))
            })
    }
}

fn identifier(text: &str) -> Result<MobileNodeIdentifier, Status> {
    text.parse().map_err(invalid)
}

fn invalid(error: crate::identity::IdentityError) -> Status {
    Status::invalid_argument(error.to_string())
}

/// The link-layer address in a modified EUI-64 interface identifier (RFC 4291 appendix A).
fn from_interface_identifier(address: Ipv6Addr) -> Option<LinkLayerAddress> {
    match address.octets() {
        [.., a, b, c, 0xff, 0xfe, d, e, f] => Some(LinkLayerAddress([a ^ 2, b, c, d, e, f])),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_identifier_gives_its_address_back() {
        let address = LinkLayerAddress([2, 0, 0, 0, 0x0a, 1]);
        assert_eq!(from_interface_identifier(address.link_local()), Some(address));
        assert_eq!(from_interface_identifier("fe80::1".parse().unwrap()), None);
    }
}
