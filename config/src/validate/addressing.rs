//! Pools, peers and prefixes: what must not overlap.

use std::net::Ipv6Addr;

use ipnet::Ipv6Net;

use super::node::is_global_unicast;
use super::{Findings, tunnelled};
use crate::{Config, Maar, TunnelType, shown};

pub(super) fn check(config: &Config, findings: &mut Findings) {
    for (index, route) in config.routes.iter().enumerate() {
        host_bits(&format!("route[{index}].prefix"), route.prefix, findings);
    }
    let mut pools: Vec<(String, Ipv6Net)> = Vec::new();
    if let Some(maar) = &config.maar {
        if maar.cmd.is_empty() || maar.cmd.len() > 8 {
            findings.add("maar.cmd", maar.cmd.len(), "must have 1 to 8 addresses");
        }
        for (index, address) in maar.cmd.iter().enumerate() {
            peer(
                &format!("maar.cmd[{index}]"),
                *address,
                config.node.address,
                findings,
            );
        }
        for (index, address) in maar.peers.iter().flatten().enumerate() {
            peer(
                &format!("maar.peers[{index}]"),
                *address,
                config.node.address,
                findings,
            );
        }
        for (index, dpn) in maar.dpns.iter().enumerate() {
            let key = format!("maar.dpn[{index}].address");
            peer(&key, dpn.address, config.node.address, findings);
            let mut earlier = maar.dpns.iter().take(index);
            if earlier.any(|other| other.address == dpn.address) {
                findings.add(&key, dpn.address, "another maar.dpn has this address");
            }
            if maar
                .peers
                .as_ref()
                .is_some_and(|peers| peers.contains(&dpn.address))
            {
                findings.add(&key, dpn.address, "is one of maar.peers");
            }
            if maar.cmd.contains(&dpn.address) {
                findings.add(&key, dpn.address, "is one of maar.cmd");
            }
        }
        gtpu_ipv4_address(config, maar, findings);
        tunnelled::check(config, maar, findings);
        gtpu_sequence_numbers(config, maar, findings);
        gtpu_qfi(
            ("maar.gtpu_qfi", maar.gtpu_qfi),
            ("maar.tunnel", maar.tunnel),
            findings,
        );
        if maar.prefix_pools.is_empty() && maar.delegation.is_none() {
            findings.add(
                "maar.prefix_pools",
                "[]",
                "a MAAR gives prefixes out of at least one pool, of its own or of [maar.delegation]",
            );
        }
        let named = maar.prefix_pools.iter().enumerate();
        pools.extend(named.map(|(index, pool)| (format!("maar.prefix_pools[{index}]"), *pool)));
        let networks = maar.mobile_routers.iter().flat_map(|it| &it.pools).enumerate();
        pools.extend(networks.map(|(index, pool)| (format!("maar.mobile_routers.pools[{index}]"), *pool)));
        let tunnelled = maar.ipv6_pools.iter().enumerate();
        pools.extend(tunnelled.map(|(index, pool)| (format!("maar.ipv6_pools[{index}]"), *pool)));
    }
    if let Some(dpn) = &config.dpn {
        peer("dpn.dpa", dpn.dpa, config.node.address, findings);
        gtpu_qfi(
            ("dpn.gtpu_qfi", dpn.gtpu_qfi),
            ("dpn.tunnel", dpn.tunnel),
            findings,
        );
    }
    if let Some(cmd) = &config.cmd {
        if cmd.known_maars.is_empty() {
            findings.add("cmd.known_maar", "", "a CMD needs at least one");
        }
        for (index, maar) in cmd.known_maars.iter().enumerate() {
            let key = format!("cmd.known_maar[{index}].address");
            peer(&key, maar.address, config.node.address, findings);
            if cmd
                .known_maars
                .iter()
                .take(index)
                .any(|other| other.address == maar.address)
            {
                findings.add(key, maar.address, "another known_maar has this address");
            }
            let named = maar.prefix_pools.iter().enumerate();
            pools.extend(
                named.map(|(at, pool)| (format!("cmd.known_maar[{index}].prefix_pools[{at}]"), *pool)),
            );
        }
    }
    for (index, (key, pool)) in pools.iter().enumerate() {
        host_bits(key, *pool, findings);
        if !(16..=64).contains(&pool.prefix_len()) {
            findings.add(
                key,
                pool,
                "must have a length of 16 to 64: home network prefixes are /64",
            );
        }
        for (other_key, other) in pools.iter().take(index) {
            if pool.contains(&other.addr()) || other.contains(&pool.addr()) {
                findings.add(key, pool, format!("overlaps {other_key} = {other}"));
            }
        }
        if pool.contains(&config.node.address) {
            findings.add(
                key,
                pool,
                format!("contains node.address = {}", config.node.address),
            );
        }
        for port in &config.ports {
            for address in port
                .addresses
                .iter()
                .filter(|address| pool.contains(&address.addr()))
            {
                findings.add(
                    key,
                    pool,
                    format!("contains {address}, an address of port {:?}", port.name),
                );
            }
        }
    }
}

fn gtpu_sequence_numbers(config: &Config, maar: &Maar, findings: &mut Findings) {
    let key = "maar.gtpu_sequence_numbers";
    let workers = config.dataplane.as_ref().map_or(0, |it| it.workers.len());
    if maar.gtpu_sequence_numbers && maar.tunnel != TunnelType::GtpU {
        findings.add(key, true, "is for maar.tunnel = \"gtpu\" only");
    }
    if maar.gtpu_sequence_numbers && workers > 1 {
        let reason = format!("needs one worker, and dataplane.workers names {workers}");
        findings.add(key, true, reason);
    }
}

/// A QoS Flow Identifier, and the type of the tunnels that would carry it; each with its key.
pub(super) fn gtpu_qfi(
    (key, qfi): (&str, Option<u32>),
    (tunnel_key, tunnel): (&str, TunnelType),
    findings: &mut Findings,
) {
    let Some(qfi) = qfi else {
        return;
    };
    findings.range(key, qfi, 0, 63, "");
    if tunnel != TunnelType::GtpU {
        findings.add(key, qfi, format!("is for {tunnel_key} = \"gtpu\" only"));
    }
}

fn gtpu_ipv4_address(config: &Config, maar: &Maar, findings: &mut Findings) {
    let Some(address) = maar.gtpu_ipv4_address else {
        return;
    };
    let mut refuse = |reason| findings.add("maar.gtpu_ipv4_address", address, reason);
    let first = address.octets()[0];
    if first == 0 || first >= 224 || address.is_loopback() || address.is_link_local() {
        refuse("must be a unicast address that others can reach");
    }
    if maar.tunnel != TunnelType::GtpU {
        refuse("is for maar.tunnel = \"gtpu\" only");
    }
    let gateways = config.routes.iter().map(|route| route.gateway);
    if gateways
        .into_iter()
        .any(|gateway| gateway == address.to_ipv6_mapped())
    {
        refuse("is the gateway of a route");
    }
}

fn peer(key: &str, address: Ipv6Addr, own: Ipv6Addr, findings: &mut Findings) {
    if !is_global_unicast(address) {
        findings.add(key, address, "must be a global unicast address");
    } else if address == own {
        findings.add(key, address, "is node.address");
    }
}

fn host_bits(key: &str, prefix: Ipv6Net, findings: &mut Findings) {
    if prefix.trunc() != prefix {
        let reason = format!(
            "has bits set behind its length; {} is meant?",
            shown(prefix.trunc())
        );
        findings.add(key, shown(prefix), reason);
    }
}
