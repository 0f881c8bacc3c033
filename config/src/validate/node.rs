//! `[node]`.

use std::net::Ipv6Addr;
use std::path::Path;

use super::{Findings, is_name};
use crate::Config;

/// A Unix socket's path has 108 octets, the NUL at its end included.
const LONGEST_SOCKET_PATH: usize = 107;

pub(super) fn check(config: &Config, findings: &mut Findings) {
    let node = &config.node;
    if !is_name(&node.name, 63) {
        findings.add(
            "node.name",
            format!("{:?}", node.name),
            "must be 1 to 63 letters, digits, - or _",
        );
    }
    if !is_global_unicast(node.address) {
        findings.add("node.address", node.address, "must be a global unicast address");
    }
    for (key, directory) in [
        ("node.run_directory", &node.run_directory),
        ("node.state_directory", &node.state_directory),
    ] {
        if let Some(directory) = directory.as_ref().filter(|directory| !directory.is_absolute()) {
            findings.add(key, directory.display(), "must be an absolute path");
        }
    }
    for socket in [config.dataplane_socket(), config.controlplane_socket()] {
        let length = octets(&socket);
        if length > LONGEST_SOCKET_PATH {
            let reason =
                format!("the path of a socket may have {LONGEST_SOCKET_PATH} octets, this one has {length}");
            findings.add("node.run_directory", socket.display(), reason);
        }
    }
    let dataplane = config.dataplane.as_ref().and_then(|dataplane| dataplane.metrics);
    if let (Some(control), Some(data)) = (node.metrics, dataplane)
        && control == data
    {
        findings.add(
            "dataplane.metrics",
            data,
            "is node.metrics too; each process needs one of its own",
        );
    }
    if let Some(path) = config
        .access
        .policy_file
        .as_ref()
        .filter(|path| !path.is_absolute())
    {
        findings.add("access.policy_file", path.display(), "must be an absolute path");
    }
}

fn octets(path: &Path) -> usize {
    path.as_os_str().as_encoded_bytes().len()
}

/// Not unspecified, loopback, multicast, link-local, nor IPv4 in disguise.
pub(crate) fn is_global_unicast(address: Ipv6Addr) -> bool {
    !(address.is_unspecified()
        || address.is_loopback()
        || address.is_multicast()
        || address.is_unicast_link_local()
        || address.to_ipv4_mapped().is_some())
}
