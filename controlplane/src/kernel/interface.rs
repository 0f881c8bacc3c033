//! The exception interfaces: made by the data plane, configured here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};
use kedge_config::{Config, Side};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use rtnetlink::{LinkUnspec, RouteMessageBuilder};
use tokio_stream::StreamExt;

use super::{Kernel, KernelError, Link, ipv6, netlink};

/// What one exception interface should be like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceSettings {
    /// Its name.
    pub name: String,
    /// The port that it belongs to.
    pub port: String,
    /// Its side.
    pub side: Side,
    /// All its addresses; at a core port without a link-local one, that of its link-layer address joins them.
    pub addresses: Vec<Ipv6Net>,
    /// Routes by it: destination and gateway.
    pub routes: Vec<(Ipv6Net, Ipv6Addr)>,
    /// Source address of what this node sends by those routes that are IPv6.
    pub source: Ipv6Addr,
    /// Of what it sends by those that are IPv4, if that is to be another than the interface's.
    pub ipv4_source: Option<Ipv4Addr>,
}

/// What the exception interfaces of a node should be like, in the order of its ports.
#[must_use]
pub fn interface_settings(config: &Config) -> Vec<InterfaceSettings> {
    let ipv4_source = config.maar.as_ref().and_then(|maar| maar.gtpu_ipv4_address);
    // What is the node's own and not the link's is on the first core port that the kernel sees.
    let mut ipv4_address = ipv4_source.map(|address| Ipv6Net::from(address.to_ipv6_mapped()));
    let is_on_port = |own: Ipv6Net| {
        let ports = config.ports.iter().filter(|port| port.exception.is_some());
        ports
            .flat_map(|port| &port.addresses)
            .any(|address| address.addr() == own.addr())
    };
    if ipv4_address.is_some_and(is_on_port) {
        ipv4_address = None;
    }
    let mut node_address = Some(Ipv6Net::from(config.node.address));
    if node_address.is_some_and(is_on_port) {
        node_address = None;
    }
    let mut all = Vec::new();
    for port in &config.ports {
        let Some(name) = port.exception.clone() else {
            continue;
        };
        let mut addresses = port.addresses.clone();
        match port.side {
            Side::Access => {
                let router = config.access.router_link_local_address;
                if !addresses.iter().any(|address| address.addr() == router)
                    && let Ok(router) = Ipv6Net::new(router, 64)
                {
                    addresses.push(router);
                }
            }
            Side::Core => {
                addresses.extend(node_address.take());
                addresses.extend(ipv4_address.take());
            }
        }
        all.push(InterfaceSettings {
            name,
            port: port.name.clone(),
            side: port.side,
            addresses,
            routes: config
                .routes
                .iter()
                .filter(|route| route.port == port.name)
                .map(|route| (route.prefix, route.gateway))
                .collect(),
            source: config.node.address,
            ipv4_source,
        });
    }
    all
}

impl Kernel {
    /// Makes an interface what it should be. Doing it again does no harm.
    ///
    /// # Errors
    /// The first thing that the kernel refused; what came before it is done.
    pub async fn configure(&self, link: &Link, settings: &InterfaceSettings) -> Result<(), KernelError> {
        // Addresses are given, never made up: no interface identifier of the kernel's own, no router heard.
        set(&settings.name, "disable_ipv6", "0")?;
        set(&settings.name, "addr_gen_mode", "1")?;
        set(&settings.name, "autoconf", "0")?;
        set(&settings.name, "accept_ra", "0")?;
        set(&settings.name, "accept_redirects", "0")?;
        if settings.side == Side::Access {
            // Only here: it makes the kernel's Neighbour Advertisements carry the Router
            // flag. It forwards nothing as long as `conf/all/forwarding` is 0.
            set(&settings.name, "forwarding", "1")?;
        }
        let mut addresses = settings.addresses.clone();
        if settings.side == Side::Core
            && !addresses
                .iter()
                .any(|address| address.addr().is_unicast_link_local())
            && let Some(link_layer_address) = link.link_layer_address
            && let Ok(address) = Ipv6Net::new(link_layer_address.link_local(), 64)
        {
            // Without one the kernel has no source for its own Neighbour Solicitations.
            addresses.push(address);
        }
        self.remove_link_local_addresses(link, &addresses).await?;
        for address in &addresses {
            self.add_address(link, *address).await?;
        }
        if !link.up {
            let message = LinkUnspec::new_with_index(link.index).up().build();
            self.handle
                .link()
                .set(message)
                .execute()
                .await
                .map_err(netlink("setting up", &settings.name))?;
        }
        for (prefix, gateway) in &settings.routes {
            self.add_route(link, *prefix, *gateway, settings).await?;
        }
        Ok(())
    }

    /// Nodes must see one router address, the same at every MAAR.
    async fn remove_link_local_addresses(&self, link: &Link, keep: &[Ipv6Net]) -> Result<(), KernelError> {
        let request = self.handle.address().get().set_link_index_filter(link.index);
        let mut messages = std::pin::pin!(request.execute());
        let mut unwanted: Vec<AddressMessage> = Vec::new();
        while let Some(message) = messages.next().await {
            let message = message.map_err(netlink("listing the addresses of", &link.name))?;
            let address = message.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Address(address) => ipv6(*address),
                _ => None,
            });
            if let Some(address) = address
                && address.is_unicast_link_local()
                && !keep.iter().any(|kept| kept.addr() == address)
            {
                unwanted.push(message);
            }
        }
        for message in unwanted {
            self.handle
                .address()
                .del(message)
                .execute()
                .await
                .map_err(netlink("removing a link-local address of", &link.name))?;
        }
        Ok(())
    }

    /// Without duplicate address detection: the link to each node is its own,
    /// and at the core an address is this node's by configuration.
    async fn add_address(&self, link: &Link, address: Ipv6Net) -> Result<(), KernelError> {
        let shown = kedge_config::shown(address);
        let mut request = self
            .handle
            .address()
            .add(link.index, shown.addr(), shown.prefix_len())
            .replace();
        if shown.addr().is_ipv6() {
            request
                .message_mut()
                .attributes
                .push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        request
            .execute()
            .await
            .map_err(netlink("adding the address", format!("{shown} to {}", link.name)))
    }

    async fn add_route(
        &self,
        link: &Link,
        prefix: Ipv6Net,
        gateway: Ipv6Addr,
        settings: &InterfaceSettings,
    ) -> Result<(), KernelError> {
        let prefix = kedge_config::shown(prefix);
        let message = match (prefix, gateway.to_canonical()) {
            (IpNet::V4(prefix), IpAddr::V4(gateway)) => {
                let route = RouteMessageBuilder::<Ipv4Addr>::new()
                    .destination_prefix(prefix.addr(), prefix.prefix_len())
                    .gateway(gateway)
                    .output_interface(link.index)
                    .onlink();
                match settings.ipv4_source {
                    Some(source) => route.pref_source(source).build(),
                    None => route.build(),
                }
            }
            // The configuration has no gateway of another version than its prefix.
            (prefix, gateway) => RouteMessageBuilder::<Ipv6Addr>::new()
                .destination_prefix(in_ipv6(prefix.addr()), prefix.prefix_len())
                .gateway(in_ipv6(gateway))
                .output_interface(link.index)
                .pref_source(settings.source)
                .onlink()
                .build(),
        };
        self.handle
            .route()
            .add(message)
            .replace()
            .execute()
            .await
            .map_err(netlink(
                "adding the route",
                format!("{prefix} via {gateway} dev {}", link.name),
            ))
    }
}

fn in_ipv6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V6(address) => address,
        IpAddr::V4(address) => address.to_ipv6_mapped(),
    }
}

/// Writes one setting of an interface.
fn set(interface: &str, key: &str, value: &'static str) -> Result<(), KernelError> {
    let path = format!("/proc/sys/net/ipv6/conf/{interface}/{key}");
    std::fs::write(&path, value).map_err(|source| KernelError::Sysctl { path, value, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_interfaces_of_a_maar_should_be_like() {
        let config = Config::parse(
            r#"
            [node]
            name = "maar1"
            role = "maar"
            address = "2001:db8:a::1"
            [dataplane]
            [[port]]
            name = "access"
            device = "net_null0"
            side = "access"
            exception = "kacc"
            [[port]]
            name = "core"
            device = "net_null1"
            side = "core"
            exception = "kcore"
            addresses = ["2001:db8:ca::2/64", "192.0.2.2/24"]
            [[route]]
            prefix = "::/0"
            port = "core"
            gateway = "2001:db8:ca::1"
            [[route]]
            prefix = "0.0.0.0/0"
            port = "core"
            gateway = "192.0.2.254"
            [maar]
            tunnel = "gtpu"
            gtpu_ipv4_address = "198.51.100.1"
            cmd = ["2001:db8:c::1"]
            prefix_pools = ["2001:db8:100::/48"]
            "#,
            "test",
        )
        .unwrap();
        let all = interface_settings(&config);
        let [access, core] = all.as_slice() else {
            panic!("{all:?}")
        };
        assert_eq!(access.addresses, ["fe80::200:5eff:fe00:5213/64".parse().unwrap()]);
        assert_eq!((access.name.as_str(), access.routes.len()), ("kacc", 0));
        assert_eq!(
            core.addresses,
            [
                "2001:db8:ca::2/64".parse().unwrap(),
                "::ffff:192.0.2.2/120".parse().unwrap(),
                "2001:db8:a::1/128".parse().unwrap(),
                "::ffff:198.51.100.1/128".parse().unwrap(),
            ]
        );
        assert_eq!(
            core.routes,
            [
                ("::/0".parse().unwrap(), "2001:db8:ca::1".parse().unwrap()),
                (
                    "::ffff:0:0/96".parse().unwrap(),
                    "::ffff:192.0.2.254".parse().unwrap()
                )
            ]
        );
        assert_eq!(core.ipv4_source, Some(Ipv4Addr::new(198, 51, 100, 1)));
        assert_eq!(core.source, "2001:db8:a::1".parse::<Ipv6Addr>().unwrap());
    }
}
