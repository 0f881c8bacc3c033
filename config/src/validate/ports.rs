//! `[[port]]` and `[[route]]`.

use std::collections::BTreeSet;

use super::{Findings, is_link_layer_address, is_name};
use crate::{Config, Port, Role, Side, shown};

/// What a data plane has room for.
const MOST_PORTS: usize = 16;

pub(super) fn check(config: &Config, findings: &mut Findings) {
    if config.ports.len() > MOST_PORTS {
        findings.add(
            "port",
            config.ports.len(),
            format!("there may be {MOST_PORTS} ports"),
        );
    }
    if config.node.role != Role::Cmd && !config.ports.iter().any(|port| port.side == Side::Core) {
        findings.add("port", "", "a gateway needs a port with side = \"core\"");
    }
    let mut names = BTreeSet::new();
    let mut exceptions = BTreeSet::new();
    let mut devices = BTreeSet::new();
    for (index, port) in config.ports.iter().enumerate() {
        let key = |name: &str| format!("port[{index}].{name}");
        one(port, &key, findings);
        if !names.insert(&port.name) {
            findings.add(
                key("name"),
                format!("{:?}", port.name),
                "another port has this name",
            );
        }
        if let Some(exception) = port.exception.as_ref()
            && !exceptions.insert(exception)
        {
            findings.add(
                key("exception"),
                format!("{exception:?}"),
                "another port has this interface",
            );
        }
        if !devices.insert(port.device.split(',').next()) {
            findings.add(
                key("device"),
                format!("{:?}", port.device),
                "another port has this device",
            );
        }
    }
    for (index, route) in config.routes.iter().enumerate() {
        let key = |name: &str| format!("route[{index}].{name}");
        match config.ports.iter().find(|port| port.name == route.port) {
            None => findings.add(
                key("port"),
                format!("{:?}", route.port),
                "there is no port of this name",
            ),
            Some(port) if port.side != Side::Core => {
                findings.add(
                    key("port"),
                    format!("{:?}", route.port),
                    "is an access port; routes go by core ports",
                );
            }
            Some(port) => {
                let on_link = route.gateway.is_unicast_link_local()
                    || port
                        .addresses
                        .iter()
                        .any(|address| address.contains(&route.gateway));
                let gateway = route.gateway.to_canonical();
                if gateway.is_ipv4() != shown(route.prefix).addr().is_ipv4() {
                    let reason = format!("is of another IP version than {}", shown(route.prefix));
                    findings.add(key("gateway"), gateway, reason);
                } else if !on_link {
                    let reason = format!(
                        "is not in a prefix of port.addresses of {:?}, nor link-local",
                        route.port
                    );
                    findings.add(key("gateway"), gateway, reason);
                } else if port
                    .addresses
                    .iter()
                    .any(|address| address.addr() == route.gateway)
                {
                    findings.add(key("gateway"), gateway, "is this node's own address");
                }
            }
        }
        if config
            .routes
            .iter()
            .take(index)
            .any(|other| other.prefix == route.prefix)
        {
            findings.add(
                key("prefix"),
                shown(route.prefix),
                "another route has this prefix",
            );
        }
    }
}

fn one(port: &Port, key: &impl Fn(&str) -> String, findings: &mut Findings) {
    if !is_name(&port.name, 31) {
        findings.add(
            key("name"),
            format!("{:?}", port.name),
            "must be 1 to 31 letters, digits, - or _",
        );
    }
    if port.device.is_empty() || port.device.contains(['\0', ' ']) {
        findings.add(
            key("device"),
            format!("{:?}", port.device),
            "must be a DPDK device string without spaces",
        );
    }
    findings.range(&key("mtu"), port.mtu, 1280, 9600, "octets");
    if let Some(exception) = &port.exception {
        let fits = (1..=15).contains(&exception.len())
            && exception
                .chars()
                .all(|c| c.is_ascii_graphic() && c != '/' && c != ':' && c != ',')
            && exception != "."
            && exception != "..";
        if !fits {
            findings.add(
                key("exception"),
                format!("{exception:?}"),
                "must be an interface name: 1 to 15 characters without / : ,",
            );
        }
    }
    if let Some(address) = port
        .link_layer_address
        .as_ref()
        .filter(|address| !is_link_layer_address(address))
    {
        findings.add(
            key("link_layer_address"),
            format!("{address:?}"),
            "must be a unicast address such as 02:00:00:00:0a:01",
        );
    }
    if let Some(vlan) = port.vlan {
        findings.range(&key("vlan"), vlan, 1, 4094, "");
    }
    if let Some(queues) = port.queues {
        findings.range(&key("queues"), queues, 1, 1024, "");
    }
    for address in &port.addresses {
        let shown = shown(*address);
        if shown.addr().is_multicast() || shown.addr().is_unspecified() || shown.prefix_len() == 0 {
            findings.add(
                key("addresses"),
                shown,
                "must be unicast addresses with the length of their prefix",
            );
        }
        if port.side == Side::Access && shown.addr().is_ipv4() {
            findings.add(key("addresses"), shown, "is IPv4; nodes have IPv6 only");
        }
    }
    if !port.addresses.is_empty() && port.exception.is_none() {
        findings.add(
            key("addresses"),
            "",
            "the kernel has them on the exception interface: name one",
        );
    }
}
