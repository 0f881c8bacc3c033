//! `maar.ipv6_pools`, and the prefixes of `[[maar.ipv6]]`. That a pool has the length of one, is disjoint from others, and has no
//! address of this node is asked of all pools together.

use std::net::Ipv6Addr;

use super::{Findings, is_global_unicast, leads_elsewhere, prefixes};
use crate::{Config, Maar};

pub(super) fn check(config: &Config, maar: &Maar, findings: &mut Findings) {
    for (index, pool) in maar.ipv6_pools.iter().enumerate() {
        let key = format!("maar.ipv6_pools[{index}]");
        if !is_global_unicast(pool.addr()) {
            findings.add(&key, pool, "must be of addresses that nodes can have");
        }
        // What signals with this node is reached by routes.
        let mut signalling = signalling(maar);
        if let Some((name, address)) = signalling.find(|(_, address)| pool.contains(address)) {
            findings.add(&key, pool, format!("contains {address}, which is {name}"));
        }
        leads_elsewhere(config, maar, &key, *pool, findings);
    }
    prefixes("maar.ipv6", &maar.ipv6_bindings, &maar.ipv6_pools, findings);
}

/// Who signals with a MAAR, each with its key.
fn signalling(maar: &Maar) -> impl Iterator<Item = (String, Ipv6Addr)> + '_ {
    let cmds = maar.cmd.iter().enumerate();
    let cmds = cmds.map(|(at, address)| (format!("maar.cmd[{at}]"), *address));
    let peers = maar.peers.iter().flatten().enumerate();
    let peers = peers.map(|(at, address)| (format!("maar.peers[{at}]"), *address));
    let dpns = maar.dpns.iter().enumerate();
    let dpns = dpns.map(|(at, dpn)| (format!("maar.dpn[{at}].address"), dpn.address));
    cmds.chain(peers).chain(dpns)
}
