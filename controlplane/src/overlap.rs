//! Prefixes that have addresses in common with others, in ordered tables of many.

use std::net::Ipv6Addr;

use ipnet::Ipv6Net;

/// The prefixes of a table that are inside `prefix`, or begin where it does, are those of this range.
pub(crate) fn inside(prefix: Ipv6Net) -> std::ops::RangeInclusive<Ipv6Net> {
    let last = |address: Ipv6Addr, length| Ipv6Net::new(address, length).unwrap_or(prefix);
    last(prefix.network(), 0)..=last(prefix.broadcast(), 128)
}

/// The longest prefix of a table that contains `prefix` and begins before it. `below`: the last one of the table
/// before another.
pub(crate) fn containing(prefix: Ipv6Net, below: impl Fn(Ipv6Net) -> Option<Ipv6Net>) -> Option<Ipv6Net> {
    let mut before = *inside(prefix).start();
    loop {
        let candidate = below(before)?;
        if candidate.contains(&prefix) {
            return Some(candidate);
        }
        // Whatever contains `prefix` and is before the candidate contains that too, so it is no longer than what both
        // have in common.
        let difference = u128::from(candidate.network()) ^ u128::from(prefix.network());
        let common = u8::try_from(difference.leading_zeros()).ok()?;
        let start = Ipv6Net::new(prefix.network(), common).ok()?.network();
        before = Ipv6Net::new(start, common.checked_add(1)?).ok()?;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn prefix() -> impl Strategy<Value = Ipv6Net> {
        (any::<u8>(), 120u8..=128)
            .prop_map(|(last, length)| Ipv6Net::new(u128::from(last).into(), length).unwrap().trunc())
    }

    proptest! {
        /// As if each were looked at.
        #[test]
        fn finds_what_overlaps(known in proptest::collection::btree_set(prefix(), 0..12), it in prefix()) {
            let known: BTreeSet<Ipv6Net> = known;
            let is_before = |other: &Ipv6Net| other.contains(&it) && other.network() < it.network();
            let longest = known.iter().copied().filter(is_before).max_by_key(Ipv6Net::prefix_len);
            let below = |before| known.range(..before).next_back().copied();
            prop_assert_eq!(containing(it, below), longest);
            let within = known.range(inside(it)).next().is_some();
            let overlaps = known.iter().any(|other| other.contains(&it) || it.contains(other));
            prop_assert_eq!(within || longest.is_some(), overlaps);
        }
    }
}
