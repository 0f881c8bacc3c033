//! Longest-prefix match over IPv6.
//!
//! [`Fib`] is a persistent trie of stride 8: a change copies the nodes on one
//! path and shares all others with the version before, so a version costs the
//! same to make whether there are ten prefixes or a million, and a reader of
//! an older version is never disturbed.
//!
//! A node covers eight bits of the address. It holds the prefixes that end
//! within them, and its children, each as a bitmap with a dense array behind
//! it: absent ones take no room, and a rank (a population count) finds the
//! place. A prefix whose length is a multiple of eight is held by the child, as
//! its prefix of length zero.
//!
//! The interface is made for bursts: [`Fib::lookup_burst`] steps all keys down
//! one level at a time, so that their cache misses overlap. Results are 32 bits;
//! 0 means that nothing matches.
//!
//! [`Reference`] is the slow, obvious one that judges this one in tests.

mod bitmap;
mod reference;

use std::sync::Arc;

use bitmap::Bitmap;
use ipnet::Ipv6Net;

pub use reference::Reference;

/// What a lookup gives when no prefix matches.
pub const NO_MATCH: u32 = 0;

/// Most keys that one [`Fib::lookup_burst`] takes at a time internally; longer bursts are cut.
const LANES: usize = 32;

/// One version of the table. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Fib {
    root: Arc<Node>,
    prefixes: usize,
}

#[derive(Clone, Debug, Default)]
struct Node {
    /// Which prefixes of length 0 to 7 within this node exist, by [`position`].
    ends: Bitmap,
    /// Their results, in the order of their positions.
    results: Vec<u32>,
    /// Which of the 256 children exist.
    branches: Bitmap,
    /// They, in order.
    children: Vec<Arc<Node>>,
}

impl Default for Fib {
    fn default() -> Self {
        Self {
            root: Arc::new(Node::default()),
            prefixes: 0,
        }
    }
}

impl Fib {
    /// How many prefixes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.prefixes
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.prefixes == 0
    }

    /// A version in which `prefix` (host bits ignored) gives `result`; [`NO_MATCH`] removes it.
    #[must_use]
    pub fn with(&self, prefix: Ipv6Net, result: u32) -> Self {
        let key = u128::from(prefix.network());
        let length = prefix.prefix_len();
        if result == NO_MATCH {
            let (root, removed) = remove(&self.root, key, length, 0);
            let root = root.unwrap_or_default();
            return Self {
                root,
                prefixes: self.prefixes - usize::from(removed),
            };
        }
        let (root, added) = insert(&self.root, key, length, 0, result);
        Self {
            root: Arc::new(root),
            prefixes: self.prefixes + usize::from(added),
        }
    }

    /// The result of the longest prefix that `key` is in, or [`NO_MATCH`].
    #[must_use]
    pub fn lookup(&self, key: u128) -> u32 {
        let mut node = &*self.root;
        let mut best = NO_MATCH;
        for depth in 0..=16 {
            let octet = octet(key, depth);
            best = node.result_of(octet).unwrap_or(best);
            match node.child(octet) {
                Some(child) => node = child,
                None => break,
            }
        }
        best
    }

    /// [`Fib::lookup`] of each of `keys`, into `results`; as many as the shorter of the two has.
    pub fn lookup_burst(&self, keys: &[u128], results: &mut [u32]) {
        for (keys, results) in keys.chunks(LANES).zip(results.chunks_mut(LANES)) {
            let mut nodes: [Option<&Node>; LANES] = [None; LANES];
            for (node, _) in nodes.iter_mut().zip(keys) {
                *node = Some(&self.root);
            }
            results.fill(NO_MATCH);
            for depth in 0..=16 {
                let mut left = false;
                for ((node, key), result) in nodes.iter_mut().zip(keys).zip(results.iter_mut()) {
                    let Some(here) = *node else { continue };
                    let octet = octet(*key, depth);
                    *result = here.result_of(octet).unwrap_or(*result);
                    *node = here.child(octet);
                    left |= node.is_some();
                }
                if !left {
                    break;
                }
            }
        }
    }
}

impl Node {
    /// The result of the longest prefix within this node that `octet` is in.
    #[inline]
    fn result_of(&self, octet: u8) -> Option<u32> {
        let at = self.ends.last_common(&bitmap::COVERING[usize::from(octet)])?;
        self.results.get(self.ends.rank(at)).copied()
    }

    #[inline]
    fn child(&self, octet: u8) -> Option<&Self> {
        if !self.branches.has(octet) {
            return None;
        }
        self.children.get(self.branches.rank(octet)).map(|child| &**child)
    }

    fn is_empty(&self) -> bool {
        self.results.is_empty() && self.children.is_empty()
    }
}

/// The octet of `key` that the node at `depth` branches on. Below the last octet there is none:
/// only a prefix of length zero can be there, which every octet is in.
#[inline]
fn octet(key: u128, depth: u32) -> u8 {
    if depth > 15 {
        0
    } else {
        (key >> (120 - 8 * depth)) as u8
    }
}

fn insert(node: &Node, key: u128, length: u8, depth: u32, result: u32) -> (Node, bool) {
    let mut copy = node.clone();
    let octet = octet(key, depth);
    if u32::from(length) < 8 * depth + 8 {
        let at = position(octet, length % 8);
        let rank = copy.ends.rank(at);
        if copy.ends.has(at) {
            if let Some(slot) = copy.results.get_mut(rank) {
                *slot = result;
            }
            return (copy, false);
        }
        copy.ends.set(at);
        copy.results.insert(rank, result);
        return (copy, true);
    }
    let rank = copy.branches.rank(octet);
    if copy.branches.has(octet) {
        let mut added = false;
        if let Some(slot) = copy.children.get_mut(rank) {
            let (child, new) = insert(slot, key, length, depth + 1, result);
            *slot = Arc::new(child);
            added = new;
        }
        return (copy, added);
    }
    let (child, added) = insert(&Node::default(), key, length, depth + 1, result);
    copy.branches.set(octet);
    copy.children.insert(rank, Arc::new(child));
    (copy, added)
}

/// The node without the prefix, `None` if nothing is left of it; and whether there was such a prefix.
fn remove(node: &Arc<Node>, key: u128, length: u8, depth: u32) -> (Option<Arc<Node>>, bool) {
    let octet = octet(key, depth);
    let mut copy;
    if u32::from(length) < 8 * depth + 8 {
        let at = position(octet, length % 8);
        if !node.ends.has(at) {
            return (Some(node.clone()), false);
        }
        copy = (**node).clone();
        let rank = copy.ends.rank(at);
        copy.ends.clear(at);
        copy.results.remove(rank);
    } else {
        let rank = node.branches.rank(octet);
        let Some(child) = node.children.get(rank).filter(|_| node.branches.has(octet)) else {
            return (Some(node.clone()), false);
        };
        let (child, removed) = remove(child, key, length, depth + 1);
        if !removed {
            return (Some(node.clone()), false);
        }
        copy = (**node).clone();
        match (child, copy.children.get_mut(rank)) {
            (Some(child), Some(slot)) => *slot = child,
            _ => {
                copy.branches.clear(octet);
                copy.children.remove(rank);
            }
        }
    }
    (
        if copy.is_empty() {
            None
        } else {
            Some(Arc::new(copy))
        },
        true,
    )
}

/// Where the prefix of `length` 0 to 7 of `octet` stands among the 255 of a node: the longer, the later.
fn position(octet: u8, length: u8) -> u8 {
    let value = if length == 0 { 0 } else { octet >> (8 - length) };
    ((1u8 << length) - 1) + value
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Prefixes that share much, so that they nest: few different octets, any length.
    fn prefix() -> impl Strategy<Value = Ipv6Net> {
        (
            prop::collection::vec(prop::sample::select(vec![0u8, 1, 0x80, 0xff]), 16),
            0u8..=128,
        )
            .prop_map(|(octets, length)| {
                let mut address = [0; 16];
                address.copy_from_slice(&octets);
                Ipv6Net::new(address.into(), length).unwrap().trunc()
            })
    }

    proptest! {
        #[test]
        fn the_fast_one_is_the_slow_one(
            updates in prop::collection::vec((prefix(), 0u32..5), 0..60),
            keys in prop::collection::vec(prefix(), 0..40),
        ) {
            let mut fib = Fib::default();
            let mut reference = Reference::default();
            let mut versions = Vec::new();
            for (prefix, result) in updates {
                versions.push((fib.clone(), reference.clone()));
                fib = fib.with(prefix, result);
                reference.set(prefix, result);
                prop_assert_eq!(fib.len(), reference.len());
            }
            versions.push((fib, reference));
            let keys: Vec<u128> = keys.iter().map(|it| it.addr().into()).collect();
            // Older versions are as they were.
            for (fib, reference) in versions {
                let mut results = vec![7; keys.len()];
                fib.lookup_burst(&keys, &mut results);
                for (key, result) in keys.iter().zip(results) {
                    prop_assert_eq!(result, reference.lookup(*key));
                    prop_assert_eq!(fib.lookup(*key), result);
                }
            }
        }
    }

    #[test]
    fn an_emptied_table_is_empty() {
        let prefixes = [
            "::/0",
            "2001:db8::/32",
            "2001:db8::/33",
            "2001:db8::1/128",
            "ff00::/8",
        ];
        let mut fib = Fib::default();
        for prefix in prefixes {
            fib = fib.with(prefix.parse().unwrap(), 1);
        }
        assert_eq!(fib.len(), 5);
        for prefix in prefixes {
            fib = fib.with(prefix.parse().unwrap(), NO_MATCH);
        }
        assert!(fib.is_empty() && fib.root.is_empty());
    }

    #[test]
    fn untouched_nodes_are_shared() {
        let fib = Fib::default()
            .with("2001:db8:1::/64".parse().unwrap(), 1)
            .with("fd00::/64".parse().unwrap(), 2);
        let next = fib.with("2001:db8:1::/64".parse().unwrap(), 3);
        let child = |fib: &Fib, octet: u8| fib.root.children[fib.root.branches.rank(octet)].clone();
        assert!(Arc::ptr_eq(&child(&fib, 0xfd), &child(&next, 0xfd)));
        assert!(!Arc::ptr_eq(&child(&fib, 0x20), &child(&next, 0x20)));
    }
}
