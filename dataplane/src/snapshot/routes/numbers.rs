//! Which index a route gets: one near that of its neighbour, or near the one it had.
//!
//! The forwarding table keeps results that are close together in an octet each (`fib::packed`), and with a million prefixes that is
//! a quarter of what is otherwise in no cache. A route that changes gets another index; were that any free one, a gateway whose
//! nodes come, move and go would have its indexes in no order before long. So indexes are given out by groups of 64, of which each
//! keeps a few for routes in it that change: those have their own back in a moment, when no version leads to it any more.

/// Indexes of a group: the bits of a word.
const GROUP: u32 = u64::BITS;
/// Of each, for routes that change. What they take, 6 %, is memory between routes.
const SPARE: u32 = 4;

/// Free indexes; 0 is never given.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    /// Of each group, a bit for each that is free.
    free: Vec<u64>,
    /// Groups with more than their spare ones free, at least; some may have fewer by now.
    open: Vec<u32>,
    /// Whether a group is among those.
    is_open: Vec<bool>,
}

impl Numbers {
    /// The first index behind all groups.
    pub(super) fn end(&self) -> usize {
        self.free.len() * GROUP as usize
    }

    /// An upper bound of [`Numbers::end`] after so many more.
    pub(super) fn end_after(&self, count: usize) -> usize {
        let kept = (GROUP - SPARE) as usize;
        self.end()
            .saturating_add((count / kept + 1).saturating_mul(GROUP as usize))
    }

    /// One for a route that had `old`: near it, if that can be.
    pub(super) fn take_instead(&mut self, old: u32) -> u32 {
        let own = old / GROUP;
        let near = [Some(own), own.checked_add(1), own.checked_sub(1)];
        let found = near
            .into_iter()
            .flatten()
            .find_map(|group| self.take_of(group, 0));
        found.unwrap_or_else(|| self.take())
    }

    /// One for a new route beside the one with `neighbour`: near it, if there are more than those kept for changes.
    pub(super) fn take_beside(&mut self, neighbour: u32) -> u32 {
        let own = neighbour / GROUP;
        let near = [Some(own), own.checked_add(1)];
        let found = near
            .into_iter()
            .flatten()
            .find_map(|group| self.take_of(group, SPARE));
        found.unwrap_or_else(|| self.take())
    }

    /// Any.
    pub(super) fn take(&mut self) -> u32 {
        while let Some(group) = self.open.last().copied() {
            if let Some(index) = self.take_of(group, SPARE) {
                return index;
            }
            self.open.pop();
            self.mark(group, false);
        }
        let group = self.free.len() as u32;
        // There is no index 0.
        self.free.push(if group == 0 { !1 } else { u64::MAX });
        self.is_open.push(true);
        self.open.push(group);
        // A group that is new has more than its spare ones.
        self.take_of(group, SPARE).unwrap_or_default()
    }

    /// Takes one back.
    pub(super) fn give(&mut self, index: u32) {
        let group = index / GROUP;
        let Some(free) = self.free.get_mut(group as usize) else {
            return;
        };
        *free |= 1 << (index % GROUP);
        if free.count_ones() > SPARE && self.is_open.get(group as usize) == Some(&false) {
            self.mark(group, true);
            self.open.push(group);
        }
    }

    /// The lowest of a group in which more than `kept` are free.
    fn take_of(&mut self, group: u32, kept: u32) -> Option<u32> {
        let free = self.free.get_mut(group as usize)?;
        if free.count_ones() <= kept {
            return None;
        }
        let bit = free.trailing_zeros();
        *free &= *free - 1;
        Some(group * GROUP + bit)
    }

    fn mark(&mut self, group: u32, open: bool) {
        if let Some(is_open) = self.is_open.get_mut(group as usize) {
            *is_open = open;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        New(usize),
        Change(usize),
        Remove(usize),
        Commit,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => any::<usize>().prop_map(Step::New),
            4 => any::<usize>().prop_map(Step::Change),
            2 => any::<usize>().prop_map(Step::Remove),
            2 => Just(Step::Commit),
        ]
    }

    proptest! {
        /// No index is given twice, none is lost, and there are no more than twice as many as are in use.
        #[test]
        fn each_is_given_once(steps in prop::collection::vec(step(), 0..2_000)) {
            let mut numbers = Numbers::default();
            let mut used: Vec<u32> = Vec::new();
            let mut retired: Vec<u32> = Vec::new();
            let mut all = BTreeSet::new();
            let mut most = 0;
            for step in steps {
                let of = |at: usize| (!used.is_empty()).then(|| at % used.len().max(1));
                match step {
                    Step::New(at) => {
                        let index = match of(at) {
                            Some(at) => numbers.take_beside(used[at]),
                            None => numbers.take(),
                        };
                        prop_assert!(index != 0 && all.insert(index), "{index}");
                        used.push(index);
                    }
                    Step::Change(at) => {
                        let Some(at) = of(at) else { continue };
                        let index = numbers.take_instead(used[at]);
                        prop_assert!(index != 0 && all.insert(index), "{index}");
                        retired.push(std::mem::replace(&mut used[at], index));
                    }
                    Step::Remove(at) => {
                        let Some(at) = of(at) else { continue };
                        retired.push(used.swap_remove(at));
                    }
                    Step::Commit => {
                        for index in retired.drain(..) {
                            all.remove(&index);
                            numbers.give(index);
                        }
                    }
                }
                most = most.max(all.len());
                prop_assert!(numbers.end() <= 2 * most + 2 * GROUP as usize, "{} for {most}", numbers.end());
                prop_assert!(all.last().is_none_or(|last| (*last as usize) < numbers.end()));
            }
        }
    }

    #[test]
    fn those_in_order_stay_near_through_changes() {
        let mut numbers = Numbers::default();
        let mut routes = vec![numbers.take()];
        for at in 1..100_000 {
            let index = numbers.take_beside(routes[at - 1]);
            routes.push(index);
        }
        assert!(routes.is_sorted() && numbers.end() < 107_000, "{}", numbers.end());
        let mut at = 7usize;
        for _ in 0..500_000 {
            // Versions are held for some changes.
            let mut retired = Vec::new();
            for _ in 0..8 {
                at = at
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                let route = &mut routes[(at >> 33) % 100_000];
                retired.push(std::mem::replace(route, numbers.take_instead(*route)));
            }
            retired.into_iter().for_each(|index| numbers.give(index));
        }
        let near = routes.windows(32).filter(|near| {
            let (least, most) = (near.iter().min().unwrap(), near.iter().max().unwrap());
            most - least < 255
        });
        let share = near.count() as f64 / routes.len() as f64;
        assert!(share > 0.99, "{share}");
        assert!(numbers.end() < 108_000, "{}", numbers.end());
    }
}
