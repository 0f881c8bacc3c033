//! `maar.ipv4_pools`, and the prefixes of `[[maar.ipv4]]`.

use super::{Findings, prefixes};
use crate::{Config, InnerIpv4, Maar, mapped};

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
    prefixes("maar.ipv4", &maar.ipv4_bindings, &maar.ipv4_pools, findings);
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
        super::leads_elsewhere(config, maar, &key, mapped((*pool).into()), findings);
    }
}
