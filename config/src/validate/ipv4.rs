//! IPv4 prefixes of nodes behind tunnels: `maar.ipv4_pools` and `[[maar.ipv4]]`.

use std::net::Ipv6Addr;

use super::Findings;
use super::addressing::gtpu_qfi;
use super::node::is_global_unicast;
use crate::{Config, InnerIpv4, Ipv4Binding, Maar, PduType, TunnelType, mapped};

pub(super) fn check(config: &Config, maar: &Maar, findings: &mut Findings) {
    let carried = config.dataplane.as_ref().map(|it| it.inner_ipv4) == Some(InnerIpv4::Carry);
    let some = !maar.ipv4_pools.is_empty() || !maar.ipv4_bindings.is_empty();
    if some && !carried {
        let key = if maar.ipv4_pools.is_empty() {
            "maar.ipv4"
        } else {
            "maar.ipv4_pools"
        };
        let count = maar.ipv4_pools.len().max(maar.ipv4_bindings.len());
        findings.add(key, count, "needs dataplane.inner_ipv4 = \"carry\"");
    }
    pools(config, maar, findings);
    for (index, binding) in maar.ipv4_bindings.iter().enumerate() {
        let key = |field: &str| format!("maar.ipv4[{index}].{field}");
        let earlier = || maar.ipv4_bindings.iter().enumerate().take(index);
        let prefix = binding.prefix;
        if prefix.trunc() != prefix {
            let reason = format!("has bits set behind its length; {} is meant?", prefix.trunc());
            findings.add(key("prefix"), prefix, reason);
        } else if !maar.ipv4_pools.iter().any(|pool| pool.contains(&prefix)) {
            findings.add(key("prefix"), prefix, "is in none of maar.ipv4_pools");
        }
        let overlaps = |other: &Ipv4Binding| other.prefix.contains(&prefix) || prefix.contains(&other.prefix);
        if let Some((at, other)) = earlier().find(|(_, other)| overlaps(other)) {
            let reason = format!("overlaps maar.ipv4[{at}].prefix = {}", other.prefix);
            findings.add(key("prefix"), prefix, reason);
        }
        peer(config, maar, binding, &key("peer"), findings);
        identifiers(binding, key, findings);
        pdu_session(binding, key, findings);
        // What comes in tells its tunnel by the peer and the identifier.
        let meets = |other: &Ipv4Binding| {
            (other.peer, other.tunnel, other.local_id) == (binding.peer, binding.tunnel, binding.local_id)
                && other.remote_id != binding.remote_id
        };
        if let Some((at, _)) = earlier().find(|(_, other)| meets(other)) {
            let reason = format!("maar.ipv4[{at}] has the same peer and local_id, and another one");
            findings.add(key("remote_id"), shown(binding.remote_id), reason);
        }
        let container = |it: &Ipv4Binding| it.qfi.map(|qfi| (qfi, it.pdu_type.unwrap_or_default()));
        let shares = |other: &Ipv4Binding| {
            (other.peer, other.tunnel, other.local_id) == (binding.peer, binding.tunnel, binding.local_id)
                && container(other) != container(binding)
        };
        if let Some((at, _)) = earlier().find(|(_, other)| shares(other)) {
            let reason = format!("maar.ipv4[{at}] has the same tunnel, and another qfi or pdu_type");
            findings.add(key("qfi"), shown(binding.qfi), reason);
        }
    }
}

fn pools(config: &Config, maar: &Maar, findings: &mut Findings) {
    for (index, pool) in maar.ipv4_pools.iter().enumerate() {
        let key = format!("maar.ipv4_pools[{index}]");
        let first = pool.addr().octets()[0];
        if pool.trunc() != *pool {
            let reason = format!("has bits set behind its length; {} is meant?", pool.trunc());
            findings.add(&key, pool, reason);
        }
        if pool.prefix_len() < 8 || first == 0 || first == 127 || first >= 224 || pool.addr().is_link_local()
        {
            findings.add(
                &key,
                pool,
                "must be of addresses that nodes can have, with a length of 8 to 32",
            );
        }
        let mut earlier = maar.ipv4_pools.iter().take(index).enumerate();
        if let Some((at, other)) = earlier.find(|(_, it)| it.contains(pool) || pool.contains(*it)) {
            findings.add(&key, pool, format!("overlaps maar.ipv4_pools[{at}] = {other}"));
        }
        let own = config.ports.iter().flat_map(|port| &port.addresses);
        let own = own
            .map(|address| address.addr())
            .filter_map(|it| it.to_ipv4_mapped());
        if let Some(own) = own.chain(maar.gtpu_ipv4_address).find(|it| pool.contains(it)) {
            findings.add(&key, pool, format!("contains {own}, an address of this node"));
        }
        // What is in the pool leads to nodes, or nowhere.
        let peers = maar.ipv4_bindings.iter().enumerate();
        let mut peers = peers.filter_map(|(at, it)| Some((at, it.peer.to_ipv4_mapped()?)));
        if let Some((at, peer)) = peers.find(|(_, peer)| pool.contains(peer)) {
            findings.add(
                &key,
                pool,
                format!("contains {peer}, which is maar.ipv4[{at}].peer"),
            );
        }
        let mut routes = config.routes.iter().enumerate();
        let within = mapped((*pool).into());
        if let Some((at, route)) =
            routes.find(|(_, it)| within.contains(&it.prefix) || within.contains(&it.gateway))
        {
            let reason = match within.contains(&route.gateway) {
                true => "the gateway",
                false => "all",
            };
            let shown = route
                .gateway
                .to_ipv4_mapped()
                .map_or_else(String::new, |it| format!(" (by {it})"));
            findings.add(&key, pool, format!("contains {reason} of route[{at}]{shown}"));
        }
    }
}

fn peer(config: &Config, maar: &Maar, binding: &Ipv4Binding, key: &str, findings: &mut Findings) {
    let peer = binding.peer;
    match peer.to_ipv4_mapped() {
        Some(ipv4) if binding.tunnel != TunnelType::GtpU => {
            findings.add(key, ipv4, "must be an IPv6 address: only GTP-U goes over IPv4");
        }
        Some(ipv4) if maar.gtpu_ipv4_address.is_none() => {
            findings.add(key, ipv4, "needs maar.gtpu_ipv4_address, the other end");
        }
        Some(ipv4) if maar.gtpu_ipv4_address == Some(ipv4) => {
            findings.add(key, ipv4, "is maar.gtpu_ipv4_address");
        }
        Some(ipv4) if !is_reachable(ipv4) => {
            findings.add(key, ipv4, "must be a unicast address that others can have");
        }
        Some(_) => {}
        None if !is_global_unicast(peer) => findings.add(key, peer, "must be a global unicast address"),
        None if is_own(config, peer) => findings.add(key, peer, "is an address of this node"),
        None => {}
    }
}

fn is_own(config: &Config, address: Ipv6Addr) -> bool {
    let mut on_ports = config.ports.iter().flat_map(|port| &port.addresses);
    address == config.node.address || on_ports.any(|it| it.addr() == address)
}

fn is_reachable(address: std::net::Ipv4Addr) -> bool {
    let first = address.octets()[0];
    first != 0 && first < 224 && !address.is_loopback() && !address.is_link_local()
}

fn identifiers(binding: &Ipv4Binding, key: impl Fn(&str) -> String, findings: &mut Findings) {
    for (field, id) in [("local_id", binding.local_id), ("remote_id", binding.remote_id)] {
        let reason = match (binding.tunnel, id) {
            (TunnelType::GtpU, None | Some(0)) => "must be a TEID, 1 to 4294967295",
            (TunnelType::Ipv6InIpv6, Some(_)) => "is for tunnel = \"gtpu\" or \"gre\" only",
            _ => continue,
        };
        findings.add(key(field), shown(id), reason);
    }
}

fn pdu_session(binding: &Ipv4Binding, key: impl Fn(&str) -> String, findings: &mut Findings) {
    gtpu_qfi(
        (&key("qfi"), binding.qfi),
        (&key("tunnel"), binding.tunnel),
        findings,
    );
    if let (Some(pdu_type), None) = (binding.pdu_type, binding.qfi) {
        let pdu_type = match pdu_type {
            PduType::Downlink => "downlink",
            PduType::Uplink => "uplink",
        };
        findings.add(key("pdu_type"), pdu_type, "needs qfi");
    }
}

fn shown(id: Option<u32>) -> String {
    id.map_or_else(|| "none".to_owned(), |id| id.to_string())
}
