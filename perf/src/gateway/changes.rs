//! Changes of a gateway's tables: what is there is put again, or entries come and go.
//!
//! Entries that come and go are others than those that something else needs: a prefix with filters cannot be
//! deleted, nor a tunnel that a prefix goes by. As many come as go, so that tables keep their size.

use std::collections::{BTreeSet, HashSet};
use std::net::Ipv6Addr;
use std::ops::Range;

use anyhow::Context;
use ipnet::Ipv6Net;
use kedge_dataplane_api::Transaction;
use kedge_dataplane_api::model::{NextHop, PrefixEntry, Tunnel};

use super::{CORE, Gateway, PORTS, delivered, entry, flows, net};
use crate::fib::shapes::{Prefix, Random, Shape};

/// Prefixes that go on hold, at most.
const HOLDS: usize = 1024;
/// Prefixes whose hold is put again and again.
const HELD: usize = 64;
/// Prefixes with filters, at most.
const FILTERS: usize = 20_000;
/// Tunnels and neighbours that come and go; half of them are there.
const TUNNELS: usize = 2048;
const NEIGHBOURS: usize = 1000;
/// Prefixes that are not there at first, at most.
const RESERVE: usize = 125_000;
/// Entries in one transaction of those that make the tables ready, and as they were.
const TOGETHER: usize = 1000;

/// What changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// Prefixes, to a tunnel or to delivery at a node.
    Prefixes,
    /// Tunnels, in their MTU.
    Tunnels,
    /// Neighbours, in their link-layer address.
    Neighbours,
    /// Filters of prefixes, in what they ask for.
    Filters,
    /// Prefixes on hold, in how long they may be; those that come and go are on hold and off it again.
    Holds,
    /// As many prefixes as tunnels, filters and holds, in one transaction.
    All,
}

impl Kind {
    /// What [`Kind::All`] consists of.
    const PARTS: [Self; 4] = [Self::Prefixes, Self::Tunnels, Self::Filters, Self::Holds];

    /// In the rows.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Prefixes => "prefixes",
            Self::Tunnels => "tunnels",
            Self::Neighbours => "neighbours",
            Self::Filters => "filters",
            Self::Holds => "holds",
            Self::All => "all",
        }
    }
}

/// How it changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Way {
    /// Entries that are there are put with another value.
    PutAgain,
    /// Some entries are added, and as many others deleted.
    ComeAndGo,
}

impl Way {
    /// In the order of the rows.
    pub(crate) const ALL: [Self; 2] = [Self::PutAgain, Self::ComeAndGo];

    /// In the rows.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::PutAgain => "put again",
            Self::ComeAndGo => "come and go",
        }
    }
}

/// The entries of a table by their numbers: those that are there, and those that may come.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    there: Vec<usize>,
    away: Vec<usize>,
    /// Whose turn it is where one is odd.
    one_goes: bool,
}

impl Pool {
    /// The first are there, the others may come.
    pub(crate) fn new(there: Range<usize>, away: Range<usize>) -> Self {
        Self {
            there: there.collect(),
            away: away.collect(),
            one_goes: false,
        }
    }

    /// Those that are there.
    pub(crate) fn there(&self) -> &[usize] {
        &self.there
    }

    /// `count` of those that are there, all different, or as many as there are.
    pub(crate) fn some(&self, count: usize, random: &mut Random) -> Vec<usize> {
        let count = count.min(self.there.len());
        let mut seen = HashSet::with_capacity(count);
        let mut some = Vec::with_capacity(count);
        while some.len() < count {
            let at = random.below(self.there.len() as u64) as usize;
            if let Some(it) = self.there.get(at)
                && seen.insert(at)
            {
                some.push(*it);
            }
        }
        some
    }

    /// `count` together that come, and that go: half of each, and where one is odd, it comes and goes in turns.
    pub(crate) fn turn(&mut self, count: usize, random: &mut Random) -> (Vec<usize>, Vec<usize>) {
        let odd = count % 2;
        let odd_goes = odd * usize::from(self.one_goes);
        self.one_goes ^= odd == 1;
        let come = draw(&mut self.away, count / 2 + odd - odd_goes, random);
        let go = draw(&mut self.there, count / 2 + odd_goes, random);
        self.there.extend(&come);
        self.away.extend(&go);
        (come, go)
    }
}

/// Takes `count` out, or as many as there are.
fn draw(from: &mut Vec<usize>, count: usize, random: &mut Random) -> Vec<usize> {
    let count = count.min(from.len());
    (0..count)
        .map(|_| {
            let at = random.below(from.len() as u64) as usize;
            from.swap_remove(at)
        })
        .collect()
}

/// What of a gateway can change.
pub(super) struct Moving {
    /// Prefixes, those that are not there at first behind the others.
    prefixes: Vec<Prefix>,
    /// By number of a prefix.
    routes: Pool,
    /// The same, on hold.
    holds: Pool,
    /// By number of its prefix.
    filters: Pool,
    /// By number of a tunnel.
    tunnels: Pool,
    /// By number.
    neighbours: Pool,
    /// Numbers of prefixes that are not, or may not be, as they were at first.
    touched: BTreeSet<usize>,
}

impl Moving {
    fn net(&self, at: usize) -> Ipv6Net {
        net(self.prefixes.get(at).copied().unwrap_or_default())
    }
}

/// How many prefixes may come beside so many.
pub(crate) fn reserve(count: usize) -> usize {
    (count / 8).clamp(64, RESERVE)
}

/// As many prefixes, and behind them those that may come.
pub(crate) fn with_reserve(count: usize) -> Vec<Prefix> {
    Shape::Pools.prefixes(count + reserve(count))
}

impl Gateway {
    /// Makes the tables ready for changes, if they are not.
    pub(crate) fn ready(&mut self) -> anyhow::Result<()> {
        if self.moving.is_none() {
            self.put_link()?;
            let moving = self.make_ready(&mut Random::new(17))?;
            self.moving = Some(moving);
        }
        Ok(())
    }

    /// `count` changes of this kind, to entries chosen at random: fewer where there are not as many. The tables are
    /// made ready for changes first, if they are not.
    pub(crate) fn changes(
        &mut self,
        kind: Kind,
        way: Way,
        count: usize,
        random: &mut Random,
    ) -> anyhow::Result<Transaction> {
        self.ready()?;
        let Some(mut moving) = self.moving.take() else {
            return Ok(Transaction::default());
        };
        let mut transaction = Transaction::default();
        if kind == Kind::All {
            for (at, part) in Kind::PARTS.into_iter().enumerate() {
                let share = (count + at) / Kind::PARTS.len();
                self.change(&mut moving, part, way, share, random, &mut transaction);
            }
        } else {
            self.change(&mut moving, kind, way, count, random, &mut transaction);
        }
        self.moving = Some(moving);
        Ok(transaction)
    }

    /// Adds the changes of one kind.
    fn change(
        &self,
        moving: &mut Moving,
        kind: Kind,
        way: Way,
        count: usize,
        random: &mut Random,
        to: &mut Transaction,
    ) {
        match (kind, way) {
            (Kind::Prefixes, Way::PutAgain) => {
                for at in moving.routes.some(count, random) {
                    to.put_prefixes.push((moving.net(at), self.moved(random)));
                    moving.touched.insert(at);
                }
            }
            (Kind::Prefixes, Way::ComeAndGo) => {
                let (come, go) = moving.routes.turn(count, random);
                for at in &come {
                    to.put_prefixes.push((moving.net(*at), self.moved(random)));
                }
                to.delete_prefixes.extend(go.iter().map(|at| moving.net(*at)));
                moving.touched.extend(come.iter().chain(&go));
            }
            (Kind::Tunnels, Way::PutAgain) => {
                let mut seen = HashSet::with_capacity(count);
                while seen.len() < count.min(self.tunnels) {
                    seen.insert(random.below(self.tunnels as u64) as usize);
                }
                to.put_tunnels
                    .extend(seen.into_iter().map(|at| self.tunnel_again(at, random)));
            }
            (Kind::Tunnels, Way::ComeAndGo) => {
                let (come, go) = moving.tunnels.turn(count, random);
                let put = come.into_iter().map(|at| self.tunnel_again(at, random));
                to.put_tunnels.extend(put);
                to.delete_tunnels.extend(go.into_iter().map(|at| at as u32 + 1));
            }
            (Kind::Neighbours, Way::PutAgain) => {
                let some = moving.neighbours.some(count, random);
                to.put_neighbours
                    .extend(some.into_iter().map(|at| neighbour(at, random)));
            }
            (Kind::Neighbours, Way::ComeAndGo) => {
                let (come, go) = moving.neighbours.turn(count, random);
                to.put_neighbours
                    .extend(come.into_iter().map(|at| neighbour(at, random)));
                to.delete_neighbours
                    .extend(go.into_iter().map(|at| neighbour(at, random).0));
            }
            (Kind::Filters, Way::PutAgain) => {
                for at in moving.filters.some(count, random) {
                    let filter = flows::of_prefix(moving.net(at), random);
                    to.put_filters.push((at as u64 + 1, filter));
                }
            }
            (Kind::Filters, Way::ComeAndGo) => {
                let (come, go) = moving.filters.turn(count, random);
                for at in come {
                    let filter = flows::of_prefix(moving.net(at), random);
                    to.put_filters.push((at as u64 + 1, filter));
                }
                to.delete_filters.extend(go.into_iter().map(|at| at as u64 + 1));
            }
            (Kind::Holds, Way::PutAgain) => {
                // Any of them, whether it is on hold already or not: after some transactions all are.
                let held = Pool::new(
                    0..HELD.min(moving.holds.there.len() + moving.holds.away.len()),
                    0..0,
                );
                for at in held.some(count, random) {
                    let maximum_ms = 1000 + random.below(9000) as u32;
                    let hold = entry(NextHop::Hold { maximum_ms });
                    to.put_prefixes.push((moving.net(at), hold));
                    moving.touched.insert(at);
                }
            }
            (Kind::Holds, Way::ComeAndGo) => {
                let (come, go) = moving.holds.turn(count, random);
                for at in &come {
                    let hold = entry(NextHop::Hold { maximum_ms: 0 });
                    to.put_prefixes.push((moving.net(*at), hold));
                }
                for at in &go {
                    to.put_prefixes.push((moving.net(*at), self.elsewhere(random)));
                }
                moving.touched.extend(come.iter().chain(&go));
            }
            // Its parts come here.
            (Kind::All, _) => {}
        }
    }

    /// What moves of nodes come to.
    fn moved(&self, random: &mut Random) -> PrefixEntry {
        match random.below(2) {
            0 => delivered(random.next()),
            _ => self.elsewhere(random),
        }
    }

    fn elsewhere(&self, random: &mut Random) -> PrefixEntry {
        entry(NextHop::Tunnel(random.below(self.tunnels as u64) as u32 + 1))
    }

    fn tunnel_again(&self, at: usize, random: &mut Random) -> (u32, Tunnel) {
        let mtu = 1280 + random.below(180) as u16;
        let tunnel = Tunnel {
            mtu,
            ..self.case.tunnel(at)
        };
        (at as u32 + 1, tunnel)
    }

    /// Puts what comes and goes, as far as it is there at first.
    fn make_ready(&mut self, random: &mut Random) -> anyhow::Result<Moving> {
        let count = self.prefixes.len();
        let holds = HOLDS.min(count / 8);
        let filters = holds..holds + FILTERS.min(count / 4);
        let half = filters.start + filters.len() / 2;
        let others = self.tunnels..self.tunnels + TUNNELS;
        let moving = Moving {
            prefixes: with_reserve(count),
            routes: Pool::new(filters.end..count, count..count + reserve(count)),
            holds: Pool::new(0..0, 0..holds),
            filters: Pool::new(filters.start..half, half..filters.end),
            tunnels: Pool::new(
                others.start..others.start + TUNNELS / 2,
                others.start + TUNNELS / 2..others.end,
            ),
            neighbours: Pool::new(0..NEIGHBOURS / 2, NEIGHBOURS / 2..NEIGHBOURS),
            touched: BTreeSet::new(),
        };
        let filter = |at: &usize| (*at as u64 + 1, flows::of_prefix(moving.net(*at), random));
        let put_filters: Vec<_> = moving.filters.there.iter().map(filter).collect();
        for filters in put_filters.chunks(TOGETHER) {
            self.compiler.apply(&Transaction {
                put_filters: filters.to_vec(),
                ..Transaction::default()
            })?;
        }
        let put_tunnels = moving.tunnels.there.iter();
        let put_neighbours = moving.neighbours.there.iter();
        self.compiler.apply(&Transaction {
            put_tunnels: put_tunnels.map(|at| self.tunnel_again(*at, random)).collect(),
            put_neighbours: put_neighbours.map(|at| neighbour(*at, random)).collect(),
            ..Transaction::default()
        })?;
        Ok(moving)
    }

    /// Prefixes as they were at first, whatever has changed: what comes next finds the same tables.
    pub(crate) fn settle(&mut self) -> anyhow::Result<()> {
        let Some(mut moving) = self.moving.take() else {
            return Ok(());
        };
        let count = self.prefixes.len();
        let touched: Vec<usize> = std::mem::take(&mut moving.touched).into_iter().collect();
        for touched in touched.chunks(TOGETHER) {
            let (old, new): (Vec<usize>, Vec<usize>) = touched.iter().partition(|at| **at < count);
            let there = |at: &usize| self.compiler.tables().prefixes.contains_key(&moving.net(*at));
            let transaction = Transaction {
                delete_prefixes: new
                    .iter()
                    .filter(|at| there(at))
                    .map(|at| moving.net(*at))
                    .collect(),
                put_prefixes: old
                    .iter()
                    .map(|at| (moving.net(*at), entry(self.next_hop(*at))))
                    .collect(),
                ..Transaction::default()
            };
            self.compiler
                .apply(&transaction)
                .context("prefixes as they were")?;
        }
        let first = moving.holds.there.len() + moving.holds.away.len();
        let filters = moving.filters.there.len() + moving.filters.away.len();
        moving.routes = Pool::new(first + filters..count, count..count + reserve(count));
        moving.holds = Pool::new(0..0, 0..first);
        self.moving = Some(moving);
        Ok(())
    }
}

fn neighbour(at: usize, random: &mut Random) -> ((String, Ipv6Addr), [u8; 6]) {
    let address = Ipv6Addr::from(0x2001_0db8_00ca_u128 << 80 | (at + 16) as u128);
    let [a, b, ..] = random.next().to_be_bytes();
    ((PORTS[CORE].to_owned(), address), [2, 0, 0, 1, a, b])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::Case;

    const KINDS: [Kind; 6] = [
        Kind::Prefixes,
        Kind::Tunnels,
        Kind::Neighbours,
        Kind::Filters,
        Kind::Holds,
        Kind::All,
    ];

    #[test]
    fn all_that_changes_is_taken_and_prefixes_are_as_they_were_afterwards() {
        let mut gateway = Gateway::new(Case::Encapsulate, 1000, 1).unwrap();
        gateway.ready().unwrap();
        let first = gateway.compiler.tables().prefixes.clone();
        let mut random = Random::new(1);
        for kind in KINDS {
            for way in Way::ALL {
                for size in [1, 64] {
                    for round in 0..50 {
                        let transaction = gateway.changes(kind, way, size, &mut random).unwrap();
                        // The first holds have none to end.
                        let least = if kind == Kind::Holds || kind == Kind::All {
                            size / 2
                        } else {
                            size
                        };
                        assert!(
                            (least..=size).contains(&transaction.entries()),
                            "{kind:?} {way:?}, {size} in round {round}: {}",
                            transaction.entries()
                        );
                        gateway.compiler.apply(&transaction).unwrap();
                    }
                }
                gateway.settle().unwrap();
                let same = gateway.compiler.tables().prefixes == first;
                assert!(same, "{kind:?} {way:?}");
                assert_eq!(gateway.compiler.holds().count(), 0);
            }
        }
    }

    #[test]
    fn what_comes_was_not_there_and_what_goes_was() {
        let mut gateway = Gateway::new(Case::Encapsulate, 1000, 1).unwrap();
        let mut random = Random::new(1);
        for _ in 0..100 {
            let way = Way::ComeAndGo;
            let transaction = gateway.changes(Kind::All, way, 64, &mut random).unwrap();
            let tables = gateway.compiler.tables();
            let new = transaction
                .put_prefixes
                .iter()
                .filter(|(net, _)| !tables.prefixes.contains_key(net));
            assert_eq!((new.count(), transaction.delete_prefixes.len()), (8, 8));
            let new = |id: &u32| !tables.tunnels.contains_key(id);
            assert!(transaction.put_tunnels.iter().all(|(id, _)| new(id)));
            let new = |id: &u64| !tables.filters.contains_key(id);
            assert!(transaction.put_filters.iter().all(|(id, _)| new(id)));
            let lengths = (transaction.delete_tunnels.len(), transaction.delete_filters.len());
            assert_eq!(lengths, (8, 8));
            gateway.compiler.apply(&transaction).unwrap();
            let tables = gateway.compiler.tables();
            // And the two default routes, and the link of the neighbours.
            assert_eq!(tables.prefixes.len(), 1003);
            assert_eq!(tables.tunnels.len(), 1000 + TUNNELS / 2);
        }
    }

    #[test]
    fn one_comes_and_the_next_one_goes() {
        let mut pool = Pool::new(0..3, 3..6);
        let mut random = Random::new(2);
        for _ in 0..20 {
            let (come, go) = pool.turn(1, &mut random);
            assert_eq!((come.len(), go.len()), (1, 0));
            let (come, go) = pool.turn(1, &mut random);
            assert_eq!((come.len(), go.len()), (0, 1));
        }
        let (come, go) = pool.turn(100, &mut random);
        assert_eq!((come.len(), go.len()), (3, 3));
        assert_eq!(pool.some(100, &mut random).len(), 3);
    }
}
