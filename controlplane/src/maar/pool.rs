//! Which home network prefix a node gets.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::Ipv6Net;

use crate::overlap;

/// Length of every home network prefix: what SLAAC needs (RFC 4862 section 5.5.3).
pub(super) const HOME_NETWORK_PREFIX: u8 = 64;

/// The first prefix of this length of `pools` at or after number `next` that is not in use, round
/// and round; so a prefix that was given up rests as long as there are others. No part of it is in use, nor what it is a
/// part of: the length may have been another once. The same of what was counted in `charged`: packets of its last node may be
/// counted that nobody has read yet, and would be charged to the next.
pub(super) fn allocate<T>(
    pools: &[Ipv6Net],
    in_use: &BTreeSet<Ipv6Net>,
    charged: &BTreeMap<Ipv6Net, T>,
    next: &mut u64,
    length: u8,
) -> Option<Ipv6Net> {
    let total = pools
        .iter()
        .map(|pool| capacity(*pool, length))
        .fold(0, u64::saturating_add);
    if total == 0 {
        return None;
    }
    // Each that is not free is not because of another one in use, but for the one in the middle of which this may begin.
    let tries = u64::try_from(in_use.len().saturating_add(charged.len()))
        .unwrap_or(u64::MAX)
        .saturating_add(2)
        .min(total);
    for _ in 0..tries {
        let number = *next % total;
        let (prefix, left) = nth(pools, number, length)?;
        let mut steps = 1;
        let inside = overlap::inside(prefix);
        let mut free =
            in_use.range(inside.clone()).next().is_none() && charged.range(inside).next().is_none();
        let wider = || {
            let used = overlap::containing(prefix, |it| in_use.range(..it).next_back().copied());
            let counted = || overlap::containing(prefix, |it| Some(*charged.range(..it).next_back()?.0));
            used.or_else(counted)
        };
        if free && let Some(wider) = wider() {
            free = false;
            steps = until_end(prefix, wider).min(left);
        }
        *next = u64::try_from((u128::from(number) + u128::from(steps)) % u128::from(total)).ok()?;
        if free {
            return Some(prefix);
        }
    }
    None
}

/// How many of this length are in `pool`.
fn capacity(pool: Ipv6Net, length: u8) -> u64 {
    length
        .checked_sub(pool.prefix_len())
        .map_or(0, |bits| 1u64.checked_shl(bits.into()).unwrap_or(u64::MAX))
}

/// How many of the length of `prefix` there are from it on to the end of `wider`, of which it is a part.
fn until_end(prefix: Ipv6Net, wider: Ipv6Net) -> u64 {
    let rest = u128::from(wider.broadcast()) - u128::from(prefix.network());
    let rest = rest
        .checked_shr(128 - u32::from(prefix.prefix_len()))
        .unwrap_or(0);
    u64::try_from(rest).unwrap_or(u64::MAX).saturating_add(1)
}

/// Number `number`, and how many there are in its pool from it on.
fn nth(pools: &[Ipv6Net], mut number: u64, length: u8) -> Option<(Ipv6Net, u64)> {
    for pool in pools {
        let here = capacity(*pool, length);
        if number < here {
            let offset = u128::from(number).checked_shl(128_u32.checked_sub(length.into())?)?;
            let address = u128::from(pool.network()) | offset;
            return Some((Ipv6Net::new(address.into(), length).ok()?, here - number));
        }
        number -= here;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none() -> BTreeMap<Ipv6Net, ()> {
        BTreeMap::new()
    }

    #[test]
    fn what_is_being_charged_rests() {
        let pools = ["2001:db8:100::/62".parse().unwrap()];
        let nothing = BTreeSet::new();
        let mut charged = none();
        // The second; and a part of the fourth, of when the length was another.
        for prefix in ["2001:db8:100:1::/64", "2001:db8:100:3:8000::/65"] {
            charged.insert(prefix.parse().unwrap(), ());
        }
        let found: Vec<_> = (0..4)
            .map(|number| {
                let mut next = number;
                allocate(&pools, &nothing, &charged, &mut next, 64)
                    .unwrap()
                    .to_string()
            })
            .collect();
        let [first, third] = ["2001:db8:100::/64", "2001:db8:100:2::/64"];
        assert_eq!(found, [first, third, third, first]);
        let wider = BTreeMap::from([("2001:db8:100::/63".parse().unwrap(), ())]);
        assert_eq!(
            allocate(&pools, &nothing, &wider, &mut 0, 64)
                .unwrap()
                .to_string(),
            third
        );
    }

    #[test]
    fn gives_no_part_of_what_is_in_use_and_nothing_around_it() {
        let prefix = |text: &str| text.parse::<Ipv6Net>().unwrap();
        let pools = [prefix("2001:db8:f000::/54"), prefix("2001:db8:f800::/56")];
        let wide = prefix("2001:db8:f000:100::/56");
        let others = ["2001:db8:f000:200::/60", "2001:db8:f800:7::/64"];
        let mut in_use: BTreeSet<_> = others.map(prefix).into_iter().chain([wide]).collect();
        // From the middle of the wide one.
        let mut next = 20;
        let mut found = 0;
        while let Some(it) = allocate(&pools, &in_use, &none(), &mut next, 60) {
            let mut others = in_use.iter();
            assert!(
                others.all(|other| !other.contains(&it) && !it.contains(other)),
                "{it}"
            );
            in_use.insert(it);
            found += 1;
        }
        assert_eq!(found, 64 - 16 - 1 + 16 - 1);
        assert_eq!(allocate(&pools, &in_use, &none(), &mut 0, 56), None);
        let free = prefix("2001:db8:f000::/56");
        in_use.retain(|it| !free.contains(it));
        assert_eq!(allocate(&pools, &in_use, &none(), &mut 9, 56), Some(free));
    }

    #[test]
    fn goes_round_all_pools_and_skips_what_is_in_use() {
        let pools = [
            "2001:db8:100::/63".parse().unwrap(),
            "2001:db8:200::/64".parse().unwrap(),
        ];
        let mut in_use = BTreeSet::new();
        let mut next = 0;
        for expected in ["2001:db8:100::/64", "2001:db8:100:1::/64", "2001:db8:200::/64"] {
            let prefix = allocate(&pools, &in_use, &none(), &mut next, 64).unwrap();
            assert_eq!(prefix.to_string(), expected);
            in_use.insert(prefix);
        }
        assert_eq!(allocate(&pools, &in_use, &none(), &mut next, 64), None);
        in_use.remove(&"2001:db8:100:1::/64".parse().unwrap());
        assert_eq!(
            allocate(&pools, &in_use, &none(), &mut next, 64)
                .unwrap()
                .to_string(),
            "2001:db8:100:1::/64"
        );
        assert_eq!(allocate(&[], &BTreeSet::new(), &none(), &mut 0, 64), None);
        // Shorter ones, for networks behind routers.
        let wide = ["2001:db8:f00::/47".parse().unwrap()];
        let found: Vec<_> = (0..2)
            .map(|_| {
                allocate(&wide, &in_use, &none(), &mut next, 48)
                    .unwrap()
                    .to_string()
            })
            .collect();
        assert_eq!(found, ["2001:db8:f00::/48", "2001:db8:f01::/48"]);
        assert_eq!(allocate(&wide, &in_use, &none(), &mut 0, 46), None);
        // The widest pool that the configuration allows.
        assert!(
            allocate(
                &["2000::/16".parse().unwrap()],
                &BTreeSet::new(),
                &none(),
                &mut u64::MAX.clone(),
                64
            )
            .is_some()
        );
    }
}
