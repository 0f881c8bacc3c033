//! Tables of three shapes, the same every time.

use std::collections::HashSet;

/// A prefix: its bits, host bits zero, and its length.
pub(crate) type Prefix = (u128, u8);

/// Which prefixes a table has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// /64 home network prefixes, handed out one after the other from four pools.
    Pools,
    /// The same, a random quarter of pools four times as large.
    SparsePools,
    /// /64s anywhere in 2000::/3.
    Scattered,
    /// Shaped like the IPv6 table of the Internet, with a tenth as many /64s from two pools on top.
    Transit,
}

impl Shape {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [Self::Pools, Self::SparsePools, Self::Scattered, Self::Transit];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pools => "pools",
            Self::SparsePools => "sparse-pools",
            Self::Scattered => "scattered",
            Self::Transit => "transit",
        }
    }

    /// `count` different prefixes.
    pub(crate) fn prefixes(self, count: usize) -> Vec<Prefix> {
        let mut random = Random::new(7);
        match self {
            Self::Pools => (0..count as u64).map(|at| pooled(at % 4, at / 4)).collect(),
            Self::SparsePools => {
                let span = (count as u64).next_power_of_two();
                distinct(count, || pooled(random.below(4), random.below(span)))
            }
            Self::Scattered => distinct(count, || (u128::from(random.next() >> 3 | 1 << 61) << 64, 64)),
            Self::Transit => transit(count, &mut random),
        }
    }
}

fn pooled(pool: u64, at: u64) -> Prefix {
    (u128::from(0x2001_0db8_0000_0000 | pool << 28 | at) << 64, 64)
}

fn distinct(count: usize, mut next: impl FnMut() -> Prefix) -> Vec<Prefix> {
    let mut seen = HashSet::with_capacity(count);
    let mut prefixes = Vec::with_capacity(count);
    while prefixes.len() < count {
        let prefix = next();
        if seen.insert(prefix) {
            prefixes.push(prefix);
        }
    }
    prefixes
}

/// How many of 1,000 prefixes of the IPv6 table have which length, to the nearest (as route collectors
/// show it: nearly half are /48s).
const LENGTHS: [(u8, u64); 18] = [
    (20, 1),
    (24, 2),
    (28, 4),
    (29, 24),
    (30, 4),
    (31, 3),
    (32, 118),
    (33, 30),
    (34, 24),
    (35, 15),
    (36, 50),
    (38, 16),
    (40, 100),
    (42, 22),
    (44, 75),
    (45, 14),
    (46, 28),
    (47, 20),
];

/// Allocations by registries, few of which announce many more specific prefixes.
fn transit(count: usize, random: &mut Random) -> Vec<Prefix> {
    let nodes = count / 11;
    let routes = count - nodes;
    let allocations: Vec<u64> = (0..routes / 9 + 1)
        .map(|_| {
            // The registries' blocks.
            const REGISTRIES: [u64; 7] = [0x2001, 0x2400, 0x2600, 0x2800, 0x2a00, 0x2a10, 0x2c00];
            let registry = REGISTRIES[random.below(7) as usize];
            (registry << 48 | random.below(1 << 13) << 35) & !0x7_ffff_ffff
        })
        .collect();
    let mut prefixes = distinct(routes, || {
        let mut share = random.below(1000);
        let mut length = 48;
        for (of, many) in LENGTHS {
            if share < many {
                length = of;
                break;
            }
            share -= many;
        }
        // The smaller of two: some have many, most have few.
        let most = allocations.len() as u64;
        let allocation = allocations[random.below(most).min(random.below(most)) as usize];
        // More specific ones lie together: of the bits behind the allocation, the upper ones are mostly zero.
        let behind = random.next() >> 29 >> random.below(12) & 0x7_ffff_ffff;
        let bits = (allocation | behind) & !(u64::MAX >> length);
        (u128::from(bits) << 64, length)
    });
    prefixes.extend((0..nodes as u64).map(|at| pooled(at % 2, at / 2)));
    prefixes
}

/// Numbers that look random, the same each time.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(end)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_have_as_many_different_prefixes_as_asked_for() {
        for shape in Shape::ALL {
            let prefixes = shape.prefixes(5_000);
            let different: HashSet<Prefix> = prefixes.iter().copied().collect();
            assert_eq!((prefixes.len(), different.len()), (5_000, 5_000), "{shape:?}");
            for (bits, length) in prefixes {
                assert_eq!(bits << length, 0, "{shape:?}: {bits:x}/{length}");
            }
        }
    }
}
