//! What is known of the paths to the peers of tunnels (RFC 8201, over IPv4 RFC 1191).
//!
//! ```text
//!  router: Packet Too Big ─► worker: is it of a tunnel of ours? ─► ring ─► control thread: PathMtus ─► snapshot
//!                               │                                              │
//!                               └─► the source of the inner packet             └─► event, status, metrics
//! ```
//!
//! A worker that gets a Packet Too Big, or ICMPv4's Fragmentation Needed, about an outer packet recognises it (see `pipeline/tunnel_error.rs`), tells the
//! source of the inner packet at once, and leaves the number in a ring, without waiting. All state is the control
//! thread's: it keeps the number for each peer, in a [`PathMtus`] beside the tables, and publishes a snapshot in
//! which that path, and so every tunnel on it, takes less. From then on the data plane itself tells sources what is
//! too big. The control plane has no part in this: it works headless, and a transaction, even one
//! that replaces all tables, does not forget it. The generation of the tables stays as it is, for the tables do.
//!
//! An MTU only ever goes down, to 1,280 at the least, over IPv4 to 576, and is forgotten when it is older than `path_mtu_lifetime`: the
//! port's own is tried again, and if the path is still narrow the next large packet brings the next Packet Too
//! Big. What routers say is remembered for at most [`MOST`] peers, and only for those that a tunnel leads to.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use crate::tunnel::error::{MINIMUM_MTU, MINIMUM_MTU_OF_IPV4};

/// As RFC 8201 section 4 recommends.
const LIFETIME: Duration = Duration::from_secs(600);
/// Paths that are remembered; on others, sources learn from each error, and the gateway does not.
const MOST: usize = 65_536;

/// The MTU of a path, found to be less than the port's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Learned {
    /// Octets.
    pub(crate) mtu: u16,
    /// When larger packets are tried again.
    pub(crate) until: Instant,
    /// Who said so has proved to have seen a packet of ours.
    pub(crate) proven: bool,
}

/// MTUs by peer.
#[derive(Debug)]
pub(crate) struct PathMtus {
    lifetime: Duration,
    learned: BTreeMap<Ipv6Addr, Learned>,
    /// Nothing is due before this.
    next: Option<Instant>,
}

impl Default for PathMtus {
    fn default() -> Self {
        Self::new(LIFETIME)
    }
}

impl PathMtus {
    pub(crate) fn new(lifetime: Duration) -> Self {
        Self {
            lifetime,
            learned: BTreeMap::new(),
            next: None,
        }
    }

    /// What is known of the path to a peer.
    pub(crate) fn get(&self, remote: Ipv6Addr) -> Option<Learned> {
        self.learned.get(&remote).copied()
    }

    /// A router says that the path takes packets of `mtu` octets, or somebody who has not proved to be one. Whether it takes less than
    /// was known.
    pub(crate) fn learn(&mut self, remote: Ipv6Addr, mtu: u16, proven: bool, now: Instant) -> bool {
        let before = self.get(remote);
        let least = match remote.to_ipv4_mapped() {
            Some(_) => MINIMUM_MTU_OF_IPV4,
            None => MINIMUM_MTU,
        };
        let less = mtu >= least && before.is_none_or(|before| mtu < before.mtu);
        if !less || (before.is_none() && self.learned.len() >= MOST) {
            return false;
        }
        let until = now + self.lifetime;
        self.learned.insert(remote, Learned { mtu, until, proven });
        self.next = Some(self.next.map_or(until, |next| next.min(until)));
        true
    }

    /// Forgets what is too old; of whom.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<Ipv6Addr> {
        if self.next.is_none_or(|next| now < next) {
            return Vec::new();
        }
        let due = self.learned.iter().filter(|(_, learned)| learned.until <= now);
        let due: Vec<Ipv6Addr> = due.map(|(remote, _)| *remote).collect();
        for remote in &due {
            self.learned.remove(remote);
        }
        self.next = self.learned.values().map(|learned| learned.until).min();
        due
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const PEER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
    const OTHER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);

    #[test]
    fn an_mtu_goes_down_and_is_forgotten_when_it_is_old() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut paths = PathMtus::default();
        assert!(paths.learn(PEER, 1400, true, at(0)));
        assert!(!paths.learn(PEER, 1400, true, at(1)), "known");
        assert!(
            !paths.learn(PEER, 1450, true, at(1)),
            "no error makes a path wider"
        );
        assert!(
            !paths.learn(PEER, 1279, true, at(1)),
            "every path takes 1,280 octets"
        );
        assert!(paths.learn(OTHER, 1280, true, at(2)));
        assert!(paths.learn(PEER, 1300, true, at(100)));
        assert_eq!(paths.get(PEER).map(|it| it.mtu), Some(1300));
        assert!(paths.expire(at(601)).is_empty());
        assert_eq!(paths.expire(at(602)), [OTHER]);
        assert_eq!(paths.get(OTHER), None);
        assert!(paths.expire(at(699)).is_empty());
        assert_eq!(paths.expire(at(700)), [PEER]);
        assert!(paths.expire(at(10_000)).is_empty());
        assert!(
            paths.learn(PEER, 1450, true, at(701)),
            "a path may have become wider"
        );
    }

    #[test]
    fn over_ipv4_every_path_takes_576_octets() {
        let (now, mut paths) = (Instant::now(), PathMtus::default());
        let peer = Ipv4Addr::new(198, 51, 100, 2).to_ipv6_mapped();
        assert!(paths.learn(peer, 1279, true, now));
        assert!(!paths.learn(peer, 575, true, now));
        assert!(paths.learn(peer, 576, true, now));
    }

    #[test]
    fn so_many_paths_are_remembered() {
        let now = Instant::now();
        let mut paths = PathMtus::default();
        let peer = |number: usize| Ipv6Addr::from(number as u128);
        assert!((0..MOST).all(|number| paths.learn(peer(number), 1400, true, now)));
        assert!(!paths.learn(peer(MOST), 1400, true, now));
        assert!(paths.learn(peer(0), 1300, true, now), "known ones still go down");
    }
}
