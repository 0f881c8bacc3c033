//! Something for each of very many prefixes.
//!
//! A `BTreeMap<Ipv6Net, _>` of a million prefixes has eight levels, of which four are in no cache: a third of all that a
//! change of one cost was the way down there. A hash is one place or two. It is in parts, so that no change has to wait for
//! the whole of a growing map to be laid out anew. Who wants all of it gets it in order, sorted then.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt;
use std::ops::Index;

use foldhash::fast::RandomState;
use ipnet::Ipv6Net;

/// A power of two.
const PARTS: usize = if cfg!(miri) { 4 } else { 256 };

/// A prefix that is compared as numbers are: by its address, then the shorter first. That is the order of [`Ipv6Net`], which
/// compares the segments of addresses one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrefixKey(pub Ipv6Net);

impl PrefixKey {
    #[inline]
    fn number(self) -> u128 {
        u128::from_be_bytes(self.0.addr().octets())
    }
}

impl Ord for PrefixKey {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        let lengths = || self.0.prefix_len().cmp(&other.0.prefix_len());
        self.number().cmp(&other.number()).then_with(lengths)
    }
}

impl PartialOrd for PrefixKey {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A map of prefixes.
#[derive(Clone)]
pub struct PrefixMap<V> {
    /// None, or [`PARTS`].
    parts: Vec<HashMap<Ipv6Net, V, RandomState>>,
    count: usize,
}

impl<V> Default for PrefixMap<V> {
    fn default() -> Self {
        Self {
            parts: Vec::new(),
            count: 0,
        }
    }
}

impl<V: fmt::Debug> fmt::Debug for PrefixMap<V> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_map().entries(self.iter()).finish()
    }
}

impl<V: PartialEq> PartialEq for PrefixMap<V> {
    fn eq(&self, other: &Self) -> bool {
        self.count == other.count
            && self
                .unordered()
                .all(|(prefix, value)| other.get(prefix) == Some(value))
    }
}

impl<V: Eq> Eq for PrefixMap<V> {}

/// Which part, by all bits of the address: those of neighbours differ in few. The hash within a part is another one, and
/// keyed: who chooses prefixes can fill one part, and is no worse off than with one map.
fn part(prefix: &Ipv6Net) -> usize {
    let number = PrefixKey(*prefix).number();
    let mixed = ((number >> 64) as u64 ^ (number as u64).rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 56) as usize % PARTS
}

impl<V> PrefixMap<V> {
    /// How many prefixes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// What there is for exactly this prefix.
    #[must_use]
    pub fn get(&self, prefix: &Ipv6Net) -> Option<&V> {
        self.parts.get(part(prefix))?.get(prefix)
    }

    /// Whether there is something for exactly this prefix.
    #[must_use]
    pub fn contains_key(&self, prefix: &Ipv6Net) -> bool {
        self.get(prefix).is_some()
    }

    /// Gives what was there before.
    pub fn insert(&mut self, prefix: Ipv6Net, value: V) -> Option<V> {
        if self.parts.is_empty() {
            let hasher = RandomState::default();
            let part = || HashMap::with_hasher(hasher);
            self.parts = std::iter::repeat_with(part).take(PARTS).collect();
        }
        let before = self.parts.get_mut(part(&prefix))?.insert(prefix, value);
        self.count += usize::from(before.is_none());
        before
    }

    /// Gives what was there.
    pub fn remove(&mut self, prefix: &Ipv6Net) -> Option<V> {
        let before = self.parts.get_mut(part(prefix))?.remove(prefix);
        self.count -= usize::from(before.is_some());
        before
    }

    /// All, in no order: for who visits very many, and sorts few of them or none.
    pub fn unordered(&self) -> impl Iterator<Item = (&Ipv6Net, &V)> {
        self.parts.iter().flatten()
    }

    /// All, in order: sorted for it, which takes some hundred milliseconds for a million.
    #[must_use]
    pub fn iter(&self) -> std::vec::IntoIter<(&Ipv6Net, &V)> {
        // With their keys: to fetch these for each comparison would take far longer.
        let keyed = self.unordered().map(|it| (PrefixKey(*it.0), it));
        let mut all: Vec<(PrefixKey, (&Ipv6Net, &V))> = keyed.collect();
        all.sort_unstable_by_key(|(key, _)| *key);
        all.into_iter().map(|(_, it)| it).collect::<Vec<_>>().into_iter()
    }

    /// The prefixes, in order.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &Ipv6Net> + ExactSizeIterator {
        self.iter().map(|(prefix, _)| prefix)
    }

    /// What there is, in the order of the prefixes.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &V> + ExactSizeIterator {
        self.iter().map(|(_, value)| value)
    }
}

impl<V> Index<&Ipv6Net> for PrefixMap<V> {
    type Output = V;

    /// Panics where there is none, as the maps of the standard library do.
    #[allow(clippy::expect_used, reason = "that is what an index does")]
    fn index(&self, prefix: &Ipv6Net) -> &V {
        self.get(prefix).expect("no entry found for prefix")
    }
}

impl<V> Extend<(Ipv6Net, V)> for PrefixMap<V> {
    fn extend<I: IntoIterator<Item = (Ipv6Net, V)>>(&mut self, more: I) {
        for (prefix, value) in more {
            self.insert(prefix, value);
        }
    }
}

impl<V> FromIterator<(Ipv6Net, V)> for PrefixMap<V> {
    fn from_iter<I: IntoIterator<Item = (Ipv6Net, V)>>(all: I) -> Self {
        let mut map = Self::default();
        map.extend(all);
        map
    }
}

/// In no order.
impl<V> IntoIterator for PrefixMap<V> {
    type Item = (Ipv6Net, V);
    type IntoIter = std::iter::Flatten<std::vec::IntoIter<HashMap<Ipv6Net, V, RandomState>>>;

    fn into_iter(self) -> Self::IntoIter {
        self.parts.into_iter().flatten()
    }
}

/// In order.
impl<'a, V> IntoIterator for &'a PrefixMap<V> {
    type Item = (&'a Ipv6Net, &'a V);
    type IntoIter = std::vec::IntoIter<(&'a Ipv6Net, &'a V)>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn prefixes() -> Vec<Ipv6Net> {
        let texts = [
            "::/0",
            "2001:db8::/32",
            "2001:db8::/64",
            "2001:db8:0:1::/64",
            "2001:db8:100::/40",
            "ff00::/8",
            "ffff::1/128",
        ];
        texts.iter().map(|it| it.parse().unwrap()).collect()
    }

    #[test]
    fn keys_are_in_the_order_of_prefixes() {
        for one in prefixes() {
            for other in prefixes() {
                assert_eq!(
                    PrefixKey(one).cmp(&PrefixKey(other)),
                    one.cmp(&other),
                    "{one} {other}"
                );
            }
        }
    }

    #[test]
    fn it_is_an_ordered_map() {
        let prefixes = prefixes();
        let (mut map, mut reference) = (PrefixMap::default(), BTreeMap::new());
        assert_eq!(map.remove(&prefixes[0]), None::<usize>);
        for step in 0..200 {
            let prefix = prefixes[step * 5 % 7];
            if step % 3 == 0 {
                assert_eq!(map.remove(&prefix), reference.remove(&prefix));
            } else {
                assert_eq!(map.insert(prefix, step), reference.insert(prefix, step));
            }
            assert_eq!(
                (map.len(), map.is_empty()),
                (reference.len(), reference.is_empty())
            );
            assert!(
                map.iter().eq(&reference)
                    && map.keys().eq(reference.keys())
                    && map.values().eq(reference.values())
            );
            assert!(prefixes.iter().all(|it| map.get(it) == reference.get(it)));
            assert_eq!(format!("{map:?}"), format!("{reference:?}"));
            let again: PrefixMap<usize> = reference.clone().into_iter().collect();
            assert_eq!(map, again);
            assert_eq!(map.clone().into_iter().collect::<BTreeMap<_, _>>(), reference);
        }
        let other = PrefixMap::from_iter([(prefixes[0], 7)]);
        assert_ne!(map, other);
        assert_eq!(other[&prefixes[0]], 7);
    }
}
