//! From the key of a queue to its number: open addressing in one array that never grows.

/// No queue.
const NONE: u32 = u32::MAX;

/// At most half full; a removal closes the gap that it leaves.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// Key and queue. A power of two of them, or none.
    cells: Box<[(u64, u32)]>,
}

impl Index {
    /// Room for `entries`.
    pub(super) fn for_entries(entries: usize) -> Self {
        let cells = if entries == 0 {
            0
        } else {
            (entries * 2).next_power_of_two()
        };
        Self {
            cells: vec![(0, NONE); cells].into(),
        }
    }

    fn home(&self, key: u64) -> usize {
        // Fibonacci hashing: those of prefixes are small and dense, whoever gives them out.
        let spread = key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        spread as usize & self.cells.len().wrapping_sub(1)
    }

    fn after(&self, at: usize) -> usize {
        (at + 1) & self.cells.len().wrapping_sub(1)
    }

    #[inline]
    pub(super) fn get(&self, key: u64) -> Option<u32> {
        let mut at = self.home(key);
        loop {
            match self.cells.get(at)? {
                (_, NONE) => return None,
                (its, queue) if *its == key => return Some(*queue),
                _ => at = self.after(at),
            }
        }
    }

    /// Of a key that is not there yet.
    pub(super) fn insert(&mut self, key: u64, queue: u32) {
        let mut at = self.home(key);
        while let Some(cell) = self.cells.get_mut(at) {
            if cell.1 == NONE {
                *cell = (key, queue);
                return;
            }
            at = self.after(at);
        }
    }

    pub(super) fn remove(&mut self, key: u64) {
        let mut at = self.home(key);
        loop {
            match self.cells.get(at) {
                None | Some((_, NONE)) => return,
                Some((its, _)) if *its == key => break,
                _ => at = self.after(at),
            }
        }
        // Whatever stands behind the gap and may not be found past it moves into it.
        let mask = self.cells.len().wrapping_sub(1);
        let mut gap = at;
        loop {
            at = self.after(at);
            let Some((key, queue)) = self.cells.get(at).copied() else {
                return;
            };
            if queue == NONE {
                break;
            }
            let from_home = at.wrapping_sub(self.home(key)) & mask;
            let from_gap = at.wrapping_sub(gap) & mask;
            if from_home >= from_gap {
                if let Some(cell) = self.cells.get_mut(gap) {
                    *cell = (key, queue);
                }
                gap = at;
            }
        }
        if let Some(cell) = self.cells.get_mut(gap) {
            *cell = (0, NONE);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_map(steps in prop::collection::vec((0u64..40, any::<bool>()), 0..400)) {
            let (mut index, mut reference) = (Index::for_entries(16), BTreeMap::new());
            for (number, (key, put)) in steps.into_iter().enumerate() {
                let queue = u32::try_from(number).unwrap();
                if put && reference.len() < 16 && !reference.contains_key(&key) {
                    index.insert(key, queue);
                    reference.insert(key, queue);
                } else if !put {
                    index.remove(key);
                    reference.remove(&key);
                }
                for key in 0..40 {
                    prop_assert_eq!(index.get(key), reference.get(&key).copied());
                }
            }
        }
    }

    #[test]
    fn one_without_room_has_nothing() {
        let mut index = Index::for_entries(0);
        index.insert(1, 1);
        index.remove(1);
        assert_eq!(index.get(1), None);
    }
}
