//! The links of a gateway: its exception interfaces, what nodes say there, and what they are told.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::Duration;

use kedge_config::{Config, Side};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::Status;

use super::interfaces::Interfaces;
use super::{Observer, RateLimit};
use crate::access::{AccessLink, Advertiser, Identity, Policy, Solicitation, advertisement};
use crate::counters::Counters;
use crate::event::Event;
use crate::identity::{IdentityError, LinkLayerAddress, MobileNodeIdentifier};
use crate::kernel::{self, Change, Kernel};
use crate::northbound::proto;
use crate::wire::neighbour_discovery::PrefixInformation;

/// An interface that could not be configured is tried again after this.
const CONFIGURE_RETRY: Duration = Duration::from_secs(1);

/// Names of the counters.
const COUNTERS: &[&str] = &[
    "solicitations",
    "solicitations_unspecified_source",
    "solicitations_invalid",
    "solicitations_unknown_node_refused",
    "solicitations_without_link_layer_address",
    "advertisements_without_link",
    "advertisements_not_sent",
];

/// A node that is on a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attachment {
    /// Who.
    pub(crate) identifier: MobileNodeIdentifier,
    /// On which port.
    pub(crate) port: String,
    /// Its link-layer address.
    pub(crate) link_layer_address: LinkLayerAddress,
    /// Its link-local address.
    pub(crate) link_local_address: Ipv6Addr,
}

/// What a gateway has on its links.
pub(crate) struct AccessSide {
    config: Config,
    observer: Observer,
    interfaces: Interfaces,
    /// Open access links by port.
    links: BTreeMap<String, Arc<AccessLink>>,
    advertiser: Advertiser,
    solicit: mpsc::Sender<Solicitation>,
    policy: Policy,
    counters: Counters,
    /// Of refused solicitations that are told and not only counted, so that a flood does not fill the log.
    told: RateLimit,
}

/// What comes from the links.
pub(crate) struct FromAccess {
    /// Of the kernel's tables.
    pub(crate) changes: mpsc::Receiver<Change>,
    /// Of nodes.
    pub(crate) solicitations: mpsc::Receiver<Solicitation>,
}

impl AccessSide {
    /// Reads what the kernel knows already.
    ///
    /// # Errors
    /// The kernel or the policy file cannot be read.
    pub(crate) async fn start(config: &Config, observer: &Observer) -> anyhow::Result<(Self, FromAccess)> {
        let policy = Policy::load(config.access.policy_file.as_deref(), config.access.unknown_nodes)?;
        let (kernel, changes) = Kernel::open()
            .map_err(|error| anyhow::anyhow!("the kernel's netlink cannot be opened: {error}"))?;
        let (solicit, solicitations) = mpsc::channel(256);
        let mut interfaces = Interfaces::new(kernel::interface_settings(config), kernel.clone());
        interfaces.read_all().await?;
        let side = Self {
            advertiser: Advertiser::start(kernel),
            config: config.clone(),
            observer: observer.clone(),
            interfaces,
            links: BTreeMap::new(),
            solicit,
            policy,
            counters: Counters::new(COUNTERS),
            told: RateLimit::default(),
        };
        let from = FromAccess {
            changes,
            solicitations,
        };
        Ok((side, from))
    }

    /// What it counted.
    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Neighbours that the data plane has to know.
    pub(crate) fn core_neighbours(&self) -> &BTreeMap<(String, Ipv6Addr), [u8; 6]> {
        self.interfaces.core_neighbours()
    }

    /// When an interface that could not be configured is to be tried again.
    pub(crate) fn retry_at(&self) -> Option<Instant> {
        self.interfaces.retry_at()
    }

    /// Has the kernel resolve a neighbour on a core port.
    pub(crate) fn resolve(&self, port: &str, address: Ipv6Addr) {
        self.interfaces.resolve(port, address);
    }

    /// Has the kernel make sure of the gateways, and of `others` where they are on a link.
    pub(crate) fn probe_neighbours(&self, others: &BTreeSet<Ipv6Addr>) {
        self.interfaces.probe(others);
    }

    /// A Router Solicitation is the sign that a node has attached.
    pub(crate) fn solicitation(&mut self, solicitation: Solicitation) -> Option<Attachment> {
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
                return None;
            }
        };
        // From `::` it has no link-layer address: the node will solicit again, or be
        // solicited for, once its link-local address is its own (RFC 4861 section 6.3.7).
        if !source.is_unicast_link_local() {
            self.counters.add("solicitations_unspecified_source");
            return None;
        }
        let found = message
            .source_link_layer_address
            .or_else(|| self.interfaces.access_neighbour(index, source))
            .or_else(|| from_interface_identifier(source))
            .filter(|address| address.is_unicast());
        let Some(link_layer_address) = found else {
            self.counters.add("solicitations_without_link_layer_address");
            return None;
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
                return None;
            }
        };
        Some(Attachment {
            identifier,
            port,
            link_layer_address,
            link_local_address: source,
        })
    }

    /// Who has sent from an address on an access link, by its link-layer address. `None`: nobody who is served.
    pub(crate) fn sender(&self, index: u32, source: Ipv6Addr) -> Option<MobileNodeIdentifier> {
        let found = self
            .interfaces
            .access_neighbour(index, source)
            .or_else(|| from_interface_identifier(source))
            .filter(|address| source.is_unicast_link_local() && address.is_unicast())?;
        match self.policy.identify(found) {
            Identity::Known(identifier) | Identity::Unknown(identifier) => Some(identifier),
            Identity::Refused => None,
        }
    }

    fn tell_refusal(&mut self, event: &Event) {
        if self.told.allow(self.observer.clock().now()) {
            self.observer.tell(event);
        }
    }

    /// What the operator says of a node that has attached; `bound` is where it is known to be.
    ///
    /// # Errors
    /// Which of the values cannot be.
    pub(crate) fn attachment(
        &self,
        request: &proto::AttachRequest,
        bound: impl Fn(&MobileNodeIdentifier) -> Option<LinkLayerAddress>,
    ) -> Result<Attachment, Status> {
        let identifier = identifier(&request.identifier)?;
        let port = self.access_port(&request.port)?;
        let link_layer_address = match request.link_layer_address.as_str() {
            "" => {
                let known = self.policy.link_layer_address(&identifier);
                known.or_else(|| bound(&identifier)).ok_or_else(|| {
                    Status::invalid_argument(format!(
                        "link_layer_address is missing, and neither the policy file nor the bindings have one for {identifier}"
                    ))
                })?
            }
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
        Ok(Attachment {
            identifier,
            port,
            link_layer_address,
            link_local_address,
        })
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

    /// Sends a Router Advertisement to one node.
    pub(crate) fn advertise(
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

    /// Takes a change of the kernel's tables; the port of an interface that has gone comes out.
    pub(crate) fn change(&mut self, change: Change) -> Option<String> {
        let port = self.interfaces.take(change)?;
        self.links.remove(&port);
        let text = format!("the exception interface of port {port} is gone");
        self.observer
            .warn(&Event::new("interface_gone", text).with("port", &port));
        Some(port)
    }

    /// Configures the interfaces that are new or different, and opens their access links, which come out with their
    /// ports. `others`: neighbours to be made sure of then, once there is a data plane.
    pub(crate) async fn configure_pending(
        &mut self,
        others: Option<&BTreeSet<Ipv6Addr>>,
    ) -> Vec<(kernel::Link, String)> {
        let mut opened = Vec::new();
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
            if let Some(others) = others {
                self.interfaces.probe(others);
            }
            // The data plane changes its interface a few times while it starts.
            if configured.first {
                self.observer.tell(&event.with("port", &configured.port));
            }
            if configured.access {
                opened.push((configured.link.clone(), configured.port.clone()));
                self.open_access_link(configured.link, configured.port);
            }
        }
        opened
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

    /// Catches up with whatever changes were missed.
    pub(crate) async fn read_again(&mut self) {
        if let Err(error) = self.interfaces.read_all().await {
            tracing::warn!(%error, "the kernel's tables cannot be read");
        }
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
    }

    /// Reads the policy file again.
    pub(crate) fn reload(&mut self) {
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
}

/// What an operator calls a node.
///
/// # Errors
/// It is none.
pub(crate) fn identifier(text: &str) -> Result<MobileNodeIdentifier, Status> {
    text.parse().map_err(invalid)
}

fn invalid(error: IdentityError) -> Status {
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
