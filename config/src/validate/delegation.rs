//! Rules of prefix delegation.

use super::Findings;
use crate::delegation::{CmdDelegation, DelegationPool, MaarDelegation, MobileRouters};
use crate::{Config, Side};

pub(super) fn check(config: &Config, findings: &mut Findings) {
    if let Some(delegation) = config.maar.as_ref().and_then(|maar| maar.delegation.as_ref()) {
        requesting(config, delegation, findings);
    }
    if let Some(routers) = config.maar.as_ref().and_then(|maar| maar.mobile_routers.as_ref()) {
        mobile_routers(routers, findings);
    }
    if let Some(delegation) = config.cmd.as_ref().and_then(|cmd| cmd.delegation.as_ref()) {
        delegating(delegation, findings);
    }
}

fn mobile_routers(it: &MobileRouters, findings: &mut Findings) {
    let at = |of: &str| format!("maar.mobile_routers.{of}");
    if it.pools.is_empty() {
        findings.add(at("pools"), "[]", "there has to be at least one");
    }
    findings.range(&at("delegated_length"), it.delegated_length, 33, 63, "");
    for (index, pool) in it.pools.iter().enumerate() {
        if pool.prefix_len() > it.delegated_length {
            let reason = format!("is longer than delegated_length = {}", it.delegated_length);
            findings.add(at(&format!("pools[{index}]")), pool, reason);
        }
    }
    findings.range(
        &at("preferred_lifetime"),
        it.preferred_lifetime,
        1,
        u32::MAX,
        "seconds",
    );
    if it.valid_lifetime < it.preferred_lifetime {
        let reason = format!(
            "must be at least maar.mobile_routers.preferred_lifetime = {}",
            it.preferred_lifetime
        );
        findings.add(at("valid_lifetime"), it.valid_lifetime, reason);
    }
    findings.range(&at("messages_per_second"), it.messages_per_second, 1, 1000, "");
}

fn requesting(config: &Config, it: &MaarDelegation, findings: &mut Findings) {
    match (&it.port, it.server) {
        (Some(name), None) => {
            let key = "maar.delegation.port";
            match config.ports.iter().find(|port| port.name == *name) {
                None => findings.add(key, format!("{name:?}"), "no port has this name"),
                Some(port) if port.side != Side::Core => {
                    findings.add(
                        key,
                        format!("{name:?}"),
                        "is an access port: servers are in the core",
                    );
                }
                Some(port) if port.exception.is_none() => {
                    findings.add(key, format!("{name:?}"), "has no exception interface to send by");
                }
                Some(_) => {}
            }
        }
        (None, Some(server)) => {
            let key = "maar.delegation.server";
            if server.is_multicast() || server.is_unspecified() || server.is_unicast_link_local() {
                findings.add(key, server, "must be a global unicast address");
            } else if server == config.node.address {
                findings.add(key, server, "is node.address: a MAAR delegates nothing");
            }
        }
        (Some(_), Some(server)) => findings.add(
            "maar.delegation.server",
            server,
            "is there beside maar.delegation.port: one of the two is needed",
        ),
        (None, None) => findings.add("maar.delegation", "", "needs a port or a server"),
    }
    findings.range("maar.delegation.pools", it.pools, 0, 64, "");
    if let Some(length) = it.length {
        findings.range("maar.delegation.length", length, 16, 64, "");
    }
}

fn delegating(it: &CmdDelegation, findings: &mut Findings) {
    for (index, name) in it.interfaces.iter().enumerate() {
        let key = format!("cmd.delegation.interfaces[{index}]");
        let value = format!("{name:?}");
        // IFNAMSIZ of Linux with the NUL that ends it.
        if !(1..=15).contains(&name.len()) || name.contains(['/', ' ', ':']) {
            findings.add(key, value, "is no name of an interface");
        } else if it.interfaces.iter().take(index).any(|other| other == name) {
            findings.add(key, value, "is there twice");
        }
    }
    for (index, relay) in it.relays.iter().enumerate() {
        let key = format!("cmd.delegation.relays[{index}]");
        if relay.is_multicast() || relay.is_unspecified() {
            findings.add(key, relay, "must be a unicast address");
        } else if it.relays.iter().take(index).any(|other| other == relay) {
            findings.add(key, relay, "is there twice");
        }
    }
    if it.pools.is_empty() {
        findings.add("cmd.delegation.pool", "", "there has to be at least one");
    }
    for (index, one) in it.pools.iter().enumerate() {
        let key = format!("cmd.delegation.pool[{index}]");
        pool(&key, one, findings);
        let meets = |other: &&DelegationPool| {
            other.prefix.contains(&one.prefix) || one.prefix.contains(&other.prefix)
        };
        if let Some(other) = it.pools.iter().take(index).find(meets) {
            let reason = format!("overlaps {}, another pool", other.prefix);
            findings.add(format!("{key}.prefix"), one.prefix, reason);
        }
    }
    findings.range(
        "cmd.delegation.preferred_lifetime",
        it.preferred_lifetime,
        1,
        u32::MAX,
        "seconds",
    );
    if it.valid_lifetime < it.preferred_lifetime {
        let reason = format!(
            "must be at least cmd.delegation.preferred_lifetime = {}",
            it.preferred_lifetime
        );
        findings.add("cmd.delegation.valid_lifetime", it.valid_lifetime, reason);
    }
    findings.range(
        "cmd.delegation.maximum_per_client",
        it.maximum_per_client,
        1,
        65_535,
        "",
    );
    findings.range(
        "cmd.delegation.maximum_delegations",
        it.maximum_delegations,
        1,
        10_000_000,
        "",
    );
}

fn pool(key: &str, pool: &DelegationPool, findings: &mut Findings) {
    if pool.prefix != pool.prefix.trunc() {
        let reason = format!(
            "has bits set behind its length: {} is meant?",
            pool.prefix.trunc()
        );
        findings.add(format!("{key}.prefix"), pool.prefix, reason);
    }
    let length = pool.delegated_length;
    findings.range(&format!("{key}.delegated_length"), length, 16, 64, "");
    let own = pool.prefix.prefix_len();
    if length < own || length - own > 63 {
        let reason = format!("must be {own} to 63 more, as the pool is {}", pool.prefix);
        findings.add(format!("{key}.delegated_length"), length, reason);
    }
    if let Some(exclude) = pool.exclude_length.filter(|it| *it <= length || *it > 128) {
        let reason = format!("must be longer than delegated_length = {length}, and at most 128");
        findings.add(format!("{key}.exclude_length"), exclude, reason);
    }
}
