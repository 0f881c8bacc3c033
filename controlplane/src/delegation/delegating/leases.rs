//! The lease table: who has what, what is free, what ends next.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;

use ipnet::Ipv6Net;

use super::fsm::Pool;
use super::state::{Change, Client, Lease, State};
use crate::delegation::wire::Duid;
use crate::time::Time;

/// The state, and what is derived from it. Changes go through here, so that the indexes follow and nothing is
/// forgotten in the transaction.
#[derive(Clone, Debug)]
pub(super) struct Leases {
    state: State,
    pools: Vec<Pool>,
    of_client: BTreeMap<Duid, BTreeSet<Ipv6Net>>,
    ends: BTreeSet<(Time, Ipv6Net)>,
    /// Clients to which a Reconfigure is on its way, by when it is sent again.
    reconfigures: BTreeSet<(Time, Duid)>,
    /// For each pool, by number of the delegated prefix: how many leases are in it.
    taken: Vec<BTreeMap<u64, u32>>,
    changes: Vec<Change>,
}

impl Leases {
    pub(super) fn new(state: State, pools: Vec<Pool>) -> Self {
        let mut it = Self {
            taken: vec![BTreeMap::new(); pools.len()],
            state,
            pools,
            of_client: BTreeMap::new(),
            ends: BTreeSet::new(),
            reconfigures: BTreeSet::new(),
            changes: Vec::new(),
        };
        for (duid, client) in &it.state.clients {
            let next = client.reconfiguring.map(|step| (step.next_at, duid.clone()));
            it.reconfigures.extend(next);
        }
        let leases: Vec<_> = it
            .state
            .leases
            .iter()
            .map(|(prefix, lease)| (*prefix, lease.clone()))
            .collect();
        for (prefix, lease) in leases {
            it.index(prefix, &lease);
        }
        it
    }

    pub(super) fn state(&self) -> &State {
        &self.state
    }

    pub(super) fn pools(&self) -> &[Pool] {
        &self.pools
    }

    /// What has changed since this was called last.
    pub(super) fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    pub(super) fn get(&self, prefix: Ipv6Net) -> Option<&Lease> {
        self.state.leases.get(&prefix)
    }

    pub(super) fn client(&self, duid: &Duid) -> Option<&Client> {
        self.state.clients.get(duid)
    }

    pub(super) fn of_client(&self, duid: &Duid) -> impl Iterator<Item = (Ipv6Net, &Lease)> {
        let prefixes = self.of_client.get(duid).into_iter().flatten();
        prefixes.filter_map(|prefix| Some((*prefix, self.state.leases.get(prefix)?)))
    }

    /// The leases of one identity association.
    pub(super) fn of_association(&self, duid: &Duid, iaid: u32) -> Vec<(Ipv6Net, Lease)> {
        self.of_client(duid)
            .filter(|(_, lease)| lease.iaid == Some(iaid))
            .map(|(prefix, lease)| (prefix, lease.clone()))
            .collect()
    }

    /// The first prefix whose time is over at `now`.
    pub(super) fn over(&self, now: Time) -> Option<Ipv6Net> {
        let (time, prefix) = self.ends.first()?;
        (*time <= now).then_some(*prefix)
    }

    pub(super) fn next_end(&self) -> Option<Time> {
        self.ends.first().map(|(time, _)| *time)
    }

    pub(super) fn next_reconfigure(&self) -> Option<Time> {
        self.reconfigures.first().map(|(time, _)| *time)
    }

    /// A client to which a Reconfigure is to be sent again at `now`, or given up.
    pub(super) fn reconfigure_due(&self, now: Time) -> Option<Duid> {
        let (time, duid) = self.reconfigures.first()?;
        (*time <= now).then(|| duid.clone())
    }

    pub(super) fn put(&mut self, prefix: Ipv6Net, lease: Lease) {
        self.unindex(prefix);
        self.index(prefix, &lease);
        self.change(Change::Lease(prefix, Some(lease)));
    }

    pub(super) fn remove(&mut self, prefix: Ipv6Net) -> Option<Lease> {
        let lease = self.state.leases.get(&prefix)?.clone();
        self.unindex(prefix);
        self.change(Change::Lease(prefix, None));
        self.forget_without_leases(&lease.client);
        Some(lease)
    }

    /// Of a client that has nothing nothing is kept.
    pub(super) fn forget_without_leases(&mut self, duid: &Duid) {
        if self.of_client(duid).next().is_none() && self.client(duid).is_some() {
            self.change(Change::Client(duid.clone(), None));
        }
    }

    pub(super) fn put_client(&mut self, duid: &Duid, client: Client) {
        if self.state.clients.get(duid) != Some(&client) {
            self.change(Change::Client(duid.clone(), Some(client)));
        }
    }

    pub(super) fn put_replay(&mut self, replay: u64) {
        self.change(Change::Replay(replay));
    }

    fn change(&mut self, change: Change) {
        if let Change::Client(duid, client) = &change {
            let before = self.client(duid).and_then(|client| client.reconfiguring);
            if let Some(step) = before {
                self.reconfigures.remove(&(step.next_at, duid.clone()));
            }
            let after = client.as_ref().and_then(|client| client.reconfiguring);
            self.reconfigures
                .extend(after.map(|step| (step.next_at, duid.clone())));
        }
        self.state.apply(change.clone());
        self.changes.push(change);
    }

    fn index(&mut self, prefix: Ipv6Net, lease: &Lease) {
        self.of_client
            .entry(lease.client.clone())
            .or_default()
            .insert(prefix);
        if let Some(end) = lease.valid_until {
            self.ends.insert((end, prefix));
        }
        for (pool, taken) in self.pools.iter().zip(&mut self.taken) {
            if let Some(number) = pool.number(prefix) {
                *taken.entry(number).or_default() += 1;
            }
        }
    }

    fn unindex(&mut self, prefix: Ipv6Net) {
        let Some(lease) = self.state.leases.get(&prefix) else {
            return;
        };
        if let Some(prefixes) = self.of_client.get_mut(&lease.client) {
            prefixes.remove(&prefix);
            if prefixes.is_empty() {
                self.of_client.remove(&lease.client);
            }
        }
        if let Some(end) = lease.valid_until {
            self.ends.remove(&(end, prefix));
        }
        for (pool, taken) in self.pools.iter().zip(&mut self.taken) {
            let Some(number) = pool.number(prefix) else {
                continue;
            };
            if let Some(count) = taken.get_mut(&number) {
                *count -= 1;
                if *count == 0 {
                    taken.remove(&number);
                }
            }
        }
    }

    /// The longest lease that contains `prefix` and is not itself.
    pub(super) fn around(&self, prefix: Ipv6Net) -> Option<(Ipv6Net, &Lease)> {
        (0..prefix.prefix_len()).rev().find_map(|length| {
            let wider = Ipv6Net::new(prefix.network(), length).ok()?.trunc();
            Some((wider, self.state.leases.get(&wider)?))
        })
    }

    /// Leases within `prefix`, but for itself.
    pub(super) fn within(&self, prefix: Ipv6Net) -> impl Iterator<Item = (Ipv6Net, &Lease)> {
        let first = Ipv6Net::from(prefix.network()).with_length(0);
        let last = Ipv6Net::from(prefix.broadcast()).with_length(128);
        self.state
            .leases
            .range(first..=last)
            .filter(move |(other, _)| prefix.contains(*other) && **other != prefix)
            .map(|(other, lease)| (*other, lease))
    }

    /// Whether nobody has `prefix`, a part of it, or what it is a part of.
    pub(super) fn is_free(&self, prefix: Ipv6Net) -> bool {
        self.get(prefix).is_none() && self.around(prefix).is_none() && self.within(prefix).next().is_none()
    }

    /// A free prefix of the pool with that index, from number `start` on, round once.
    pub(super) fn find_free(&self, index: usize, start: u64) -> Option<Ipv6Net> {
        let pool = self.pools.get(index)?;
        let taken = self.taken.get(index)?;
        let capacity = pool.capacity();
        if u64::try_from(taken.len()).is_ok_and(|count| count >= capacity) {
            return None;
        }
        let start = start % capacity;
        self.free_in(pool, taken, start, capacity)
            .or_else(|| self.free_in(pool, taken, 0, start))
    }

    /// The first free one with a number from `from` to below `to`.
    fn free_in(&self, pool: &Pool, taken: &BTreeMap<u64, u32>, from: u64, to: u64) -> Option<Ipv6Net> {
        let mut number = from;
        let mut occupied = taken.range(from..to).map(|(number, _)| *number).peekable();
        while number < to {
            if occupied.next_if_eq(&number).is_some() {
                number += 1;
                continue;
            }
            let prefix = pool.nth(number)?;
            // Wider than what is delegated from here: of another configuration.
            let Some((wider, _)) = self.around(prefix) else {
                return Some(prefix);
            };
            let last = Ipv6Net::new(wider.broadcast(), pool.delegated_length)
                .ok()?
                .trunc();
            number = pool.number(last)? + 1;
            while occupied.next_if(|it| *it < number).is_some() {}
        }
        None
    }
}

/// A prefix with another length, for ranges over the table: it is ordered by address, then length.
trait WithLength {
    fn with_length(self, length: u8) -> Ipv6Net;
}

impl WithLength for Ipv6Net {
    fn with_length(self, length: u8) -> Ipv6Net {
        Ipv6Net::new(self.addr(), length).unwrap_or(self)
    }
}

impl Pool {
    /// How many prefixes it has.
    pub(super) fn capacity(&self) -> u64 {
        let bits = self.delegated_length.saturating_sub(self.prefix.prefix_len());
        1_u64.checked_shl(bits.into()).unwrap_or(u64::MAX)
    }

    /// The prefix of that number.
    pub(super) fn nth(&self, number: u64) -> Option<Ipv6Net> {
        let shift = 128_u32.checked_sub(self.delegated_length.into())?;
        let offset = u128::from(number).checked_shl(shift).unwrap_or(0);
        let address: Ipv6Addr = (u128::from(self.prefix.network()) | offset).into();
        Ipv6Net::new(address, self.delegated_length).ok()
    }

    /// The number of the delegated prefix that `prefix` is, or is a part of.
    pub(super) fn number(&self, prefix: Ipv6Net) -> Option<u64> {
        if !self.prefix.contains(&prefix) || prefix.prefix_len() < self.delegated_length {
            return None;
        }
        let shift = 128_u32.checked_sub(self.delegated_length.into())?;
        let offset = u128::from(prefix.network()) - u128::from(self.prefix.network());
        u64::try_from(offset.checked_shr(shift).unwrap_or(0)).ok()
    }

    /// What of a delegated prefix stays here: its last part (RFC 6603).
    pub(super) fn excluded(&self, prefix: Ipv6Net) -> Option<Ipv6Net> {
        let length = self
            .exclude_length
            .filter(|length| *length > prefix.prefix_len())?;
        Ipv6Net::new(prefix.broadcast(), length).ok().map(|it| it.trunc())
    }
}
