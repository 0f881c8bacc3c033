//! Prefixes of nodes behind tunnels that nobody signals: `[[maar.ipv4]]` and `[[maar.ipv6]]`, and the pools that they are of.

mod ipv4;
mod ipv6;

use std::fmt::Display;
use std::net::Ipv6Addr;

use ipnet::Ipv6Net;

use super::Findings;
use super::addressing::gtpu_qfi;
use super::node::is_global_unicast;
use crate::{Config, Maar, PduType, Route, TunnelBinding, TunnelEnd, TunnelType};

pub(super) fn check(config: &Config, maar: &Maar, findings: &mut Findings) {
    ipv4::check(config, maar, findings);
    ipv6::check(config, maar, findings);
    tunnels(config, maar, findings);
}

/// What a prefix of either IP version can be asked.
trait Prefix: Copy + Display + PartialEq {
    fn trunc(&self) -> Self;
    fn contains(&self, other: &Self) -> bool;
}

impl Prefix for ipnet::Ipv4Net {
    fn trunc(&self) -> Self {
        Self::trunc(self)
    }
    fn contains(&self, other: &Self) -> bool {
        Self::contains(self, other)
    }
}

impl Prefix for ipnet::Ipv6Net {
    fn trunc(&self) -> Self {
        Self::trunc(self)
    }
    fn contains(&self, other: &Self) -> bool {
        Self::contains(self, other)
    }
}

/// Each prefix is of a pool, and of no other entry. `table` is that of the entries.
fn prefixes<P: Prefix>(table: &str, bindings: &[TunnelBinding<P>], pools: &[P], findings: &mut Findings) {
    for (index, binding) in bindings.iter().enumerate() {
        let key = format!("{table}[{index}].prefix");
        let prefix = binding.prefix;
        if prefix.trunc() != prefix {
            let reason = format!("has bits set behind its length; {} is meant?", prefix.trunc());
            findings.add(&key, prefix, reason);
        } else if !pools.iter().any(|pool| pool.contains(&prefix)) {
            findings.add(&key, prefix, format!("is in none of {table}_pools"));
        }
        let mut earlier = bindings.iter().enumerate().take(index);
        let overlaps =
            |other: &TunnelBinding<P>| other.prefix.contains(&prefix) || prefix.contains(&other.prefix);
        if let Some((at, other)) = earlier.find(|(_, other)| overlaps(other)) {
            let reason = format!("overlaps {table}[{at}].prefix = {}", other.prefix);
            findings.add(&key, prefix, reason);
        }
    }
}

/// The tunnels of all entries, each with its key: one tunnel may have prefixes of both IP versions behind it.
fn tunnels(config: &Config, maar: &Maar, findings: &mut Findings) {
    let mut known: Vec<(String, TunnelEnd)> = Vec::new();
    for (entry, end) in entries(maar).zip(maar.tunnel_ends()) {
        let key = |field: &str| format!("{entry}.{field}");
        peer(config, maar, &end, &key("peer"), findings);
        identifiers(&end, key, findings);
        pdu_session(&end, key, findings);
        // What comes in tells its tunnel by the peer and the identifier.
        let comes_in_as = |other: &TunnelEnd| {
            (other.peer, other.tunnel, other.local_id) == (end.peer, end.tunnel, end.local_id)
        };
        let meets = |other: &TunnelEnd| comes_in_as(other) && other.remote_id != end.remote_id;
        if let Some((other, _)) = known.iter().find(|(_, other)| meets(other)) {
            let reason = format!("{other} has the same peer and local_id, and another one");
            findings.add(key("remote_id"), shown(end.remote_id), reason);
        }
        let container = |it: &TunnelEnd| it.qfi.map(|qfi| (qfi, it.pdu_type.unwrap_or_default()));
        let shares = |other: &TunnelEnd| comes_in_as(other) && container(other) != container(&end);
        if let Some((other, _)) = known.iter().find(|(_, other)| shares(other)) {
            let reason = format!("{other} has the same tunnel, and another qfi or pdu_type");
            findings.add(key("qfi"), shown(end.qfi), reason);
        }
        known.push((entry, end));
    }
}

fn peer(config: &Config, maar: &Maar, end: &TunnelEnd, key: &str, findings: &mut Findings) {
    let peer = end.peer;
    match peer.to_ipv4_mapped() {
        Some(ipv4) if end.tunnel != TunnelType::GtpU => {
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

/// What is in a pool leads to nodes, or nowhere: no end of a tunnel is in it, no gateway of a route, and no route within it.
fn leads_elsewhere(config: &Config, maar: &Maar, key: &str, pool: Ipv6Net, findings: &mut Findings) {
    let written = crate::shown(pool);
    let mut ends = entries(maar).zip(maar.tunnel_ends());
    if let Some((entry, end)) = ends.find(|(_, end)| pool.contains(&end.peer)) {
        let peer = end.peer.to_canonical();
        findings.add(key, written, format!("contains {peer}, which is {entry}.peer"));
    }
    let mut routes = config.routes.iter().enumerate();
    let within = |it: &Route| pool.contains(&it.prefix) || pool.contains(&it.gateway);
    if let Some((at, route)) = routes.find(|(_, it)| within(it)) {
        let what = match pool.contains(&route.gateway) {
            true => "the gateway",
            false => "all",
        };
        let gateway = route.gateway.to_canonical();
        findings.add(
            key,
            written,
            format!("contains {what} of route[{at}] (by {gateway})"),
        );
    }
}

/// The keys of all entries, in the order of [`Maar::tunnel_ends`].
fn entries(maar: &Maar) -> impl Iterator<Item = String> + use<> {
    let ipv4 = (0..maar.ipv4_bindings.len()).map(|index| format!("maar.ipv4[{index}]"));
    let ipv6 = (0..maar.ipv6_bindings.len()).map(|index| format!("maar.ipv6[{index}]"));
    ipv4.chain(ipv6)
}

fn is_own(config: &Config, address: Ipv6Addr) -> bool {
    let mut on_ports = config.ports.iter().flat_map(|port| &port.addresses);
    address == config.node.address || on_ports.any(|it| it.addr() == address)
}

fn is_reachable(address: std::net::Ipv4Addr) -> bool {
    let first = address.octets()[0];
    first != 0 && first < 224 && !address.is_loopback() && !address.is_link_local()
}

fn identifiers(end: &TunnelEnd, key: impl Fn(&str) -> String, findings: &mut Findings) {
    for (field, id) in [("local_id", end.local_id), ("remote_id", end.remote_id)] {
        let reason = match (end.tunnel, id) {
            (TunnelType::GtpU, None | Some(0)) => "must be a TEID, 1 to 4294967295",
            (TunnelType::Ipv6InIpv6, Some(_)) => "is for tunnel = \"gtpu\" or \"gre\" only",
            _ => continue,
        };
        findings.add(key(field), shown(id), reason);
    }
}

fn pdu_session(end: &TunnelEnd, key: impl Fn(&str) -> String, findings: &mut Findings) {
    gtpu_qfi((&key("qfi"), end.qfi), (&key("tunnel"), end.tunnel), findings);
    if let (Some(pdu_type), None) = (end.pdu_type, end.qfi) {
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
