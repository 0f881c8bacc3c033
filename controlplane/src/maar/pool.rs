//! Which home network prefix a node gets.

use std::collections::BTreeSet;

use ipnet::Ipv6Net;

/// Length of every home network prefix: what SLAAC needs (RFC 4862 section 5.5.3).
const LENGTH: u8 = 64;

/// The first /64 of `pools` at or after number `next` that is not in use, round
/// and round; so a prefix that was given up rests as long as there are others.
pub(super) fn allocate(pools: &[Ipv6Net], in_use: &BTreeSet<Ipv6Net>, next: &mut u64) -> Option<Ipv6Net> {
    let total = pools
        .iter()
        .map(|pool| capacity(*pool))
        .fold(0, u64::saturating_add);
    if total == 0 {
        return None;
    }
    // Among `in_use.len() + 1` candidates one is free, or all are in use.
    let tries = u64::try_from(in_use.len())
        .unwrap_or(u64::MAX)
        .saturating_add(1)
        .min(total);
    for _ in 0..tries {
        let number = *next % total;
        *next = (number + 1) % total;
        if let Some(prefix) = nth(pools, number)
            && !in_use.contains(&prefix)
        {
            return Some(prefix);
        }
    }
    None
}

/// How many /64 are in `pool`.
fn capacity(pool: Ipv6Net) -> u64 {
    LENGTH
        .checked_sub(pool.prefix_len())
        .map_or(0, |bits| 1u64.checked_shl(bits.into()).unwrap_or(u64::MAX))
}

fn nth(pools: &[Ipv6Net], mut number: u64) -> Option<Ipv6Net> {
    for pool in pools {
        let here = capacity(*pool);
        if number < here {
            let address = u128::from(pool.network()) | u128::from(number) << (128 - LENGTH);
            return Ipv6Net::new(address.into(), LENGTH).ok();
        }
        number -= here;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_round_all_pools_and_skips_what_is_in_use() {
        let pools = [
            "2001:db8:100::/63".parse().unwrap(),
            "2001:db8:200::/64".parse().unwrap(),
        ];
        let mut in_use = BTreeSet::new();
        let mut next = 0;
        for expected in ["2001:db8:100::/64", "2001:db8:100:1::/64", "2001:db8:200::/64"] {
            let prefix = allocate(&pools, &in_use, &mut next).unwrap();
            assert_eq!(prefix.to_string(), expected);
            in_use.insert(prefix);
        }
        assert_eq!(allocate(&pools, &in_use, &mut next), None);
        in_use.remove(&"2001:db8:100:1::/64".parse().unwrap());
        assert_eq!(
            allocate(&pools, &in_use, &mut next).unwrap().to_string(),
            "2001:db8:100:1::/64"
        );
        assert_eq!(allocate(&[], &BTreeSet::new(), &mut 0), None);
        // The widest pool that the configuration allows.
        assert!(
            allocate(
                &["2000::/16".parse().unwrap()],
                &BTreeSet::new(),
                &mut u64::MAX.clone()
            )
            .is_some()
        );
    }
}
