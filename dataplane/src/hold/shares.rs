//! What several queues together may hold: all flows that one filter holds have one share.

use super::index::Index;

/// What is held of one share.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Share {
    pub(super) packets: usize,
    pub(super) octets: usize,
}

/// The shares of which something is held.
#[derive(Debug)]
pub(super) struct Shares {
    all: Box<[Share]>,
    free: Vec<u32>,
    index: Index,
    /// Of all shares together.
    packets: usize,
}

impl Shares {
    /// Room for `count`; each has at least one packet.
    pub(super) fn new(count: usize) -> Self {
        Self {
            all: vec![Share::default(); count].into(),
            free: (0..count).rev().filter_map(|at| u32::try_from(at).ok()).collect(),
            index: Index::for_entries(count),
            packets: 0,
        }
    }

    /// Packets of all of them.
    pub(super) fn packets(&self) -> usize {
        self.packets
    }

    /// By its key; one of which nothing is held is empty.
    pub(super) fn get(&self, key: u64) -> Share {
        let at = self.index.get(key).map(|at| at as usize);
        at.and_then(|at| self.all.get(at)).copied().unwrap_or_default()
    }

    /// One packet more.
    pub(super) fn add(&mut self, key: u64, octets: usize) {
        let at = self.index.get(key).or_else(|| {
            let at = self.free.pop()?;
            self.index.insert(key, at);
            Some(at)
        });
        if let Some(share) = at.and_then(|at| self.all.get_mut(at as usize)) {
            share.packets += 1;
            self.packets += 1;
            share.octets += octets;
        }
    }

    /// One less.
    pub(super) fn take(&mut self, key: u64, octets: usize) {
        let Some(at) = self.index.get(key) else { return };
        let Some(share) = self.all.get_mut(at as usize) else {
            return;
        };
        share.packets = share.packets.saturating_sub(1);
        self.packets = self.packets.saturating_sub(1);
        share.octets = share.octets.saturating_sub(octets);
        if share.packets == 0 {
            *share = Share::default();
            self.index.remove(key);
            self.free.push(at);
        }
    }
}
