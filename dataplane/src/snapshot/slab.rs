//! An array of which a new version costs little: parts are shared until one changes.
//!
//! A million entries lie in huge pages, where the kernel grants them (`chunks`): a worker that reads entries at random does
//! not wait for the translation of their addresses.

mod chunks;

use std::sync::Arc;

use chunks::{Chunks, Pool, WIDTH};

/// Entries by index. Cheap to clone; a change copies one chunk, one block and the list of blocks, of
/// which a million entries make 245.
#[derive(Clone, Debug)]
pub struct Slab<T> {
    blocks: Arc<[Arc<Chunks<T>>]>,
    /// As every block is until one of its entries is put.
    empty: Arc<Chunks<T>>,
}

impl<T: Copy + Default> Default for Slab<T> {
    fn default() -> Self {
        Self {
            blocks: Arc::default(),
            empty: Arc::new(Chunks::new(&Pool::new(), T::default())),
        }
    }
}

impl<T: Copy + Default> Slab<T> {
    /// The entry, if its place was ever made.
    #[inline]
    #[must_use]
    pub fn at(&self, index: u32) -> Option<&T> {
        let index = index as usize;
        let block = self.blocks.get(index / (WIDTH * WIDTH))?;
        block.chunk(index / WIDTH % WIDTH).get(index % WIDTH)
    }

    /// The entry; a default one where nothing was ever put.
    #[inline]
    #[must_use]
    pub fn get(&self, index: u32) -> T {
        self.at(index).copied().unwrap_or_default()
    }

    /// The place of an entry, in this version only, if it was ever made.
    pub(super) fn at_mut(&mut self, index: u32) -> Option<&mut T> {
        let index = index as usize;
        let block = Arc::make_mut(&mut self.blocks).get_mut(index / (WIDTH * WIDTH))?;
        Arc::make_mut(block)
            .chunk_mut(index / WIDTH % WIDTH)
            .get_mut(index % WIDTH)
    }

    /// Puts an entry, in this version only.
    pub fn set(&mut self, index: u32, value: T) {
        let needed = index as usize / (WIDTH * WIDTH) + 1;
        if self.blocks.len() < needed {
            let mut blocks = self.blocks.to_vec();
            blocks.resize(needed, self.empty.clone());
            self.blocks = blocks.into();
        }
        if let Some(slot) = self.at_mut(index) {
            *slot = value;
        }
    }
}

/// Indexes given out and taken back; 0 is never given.
#[derive(Clone, Debug, Default)]
pub(super) struct Indexes {
    last: u32,
    free: Vec<u32>,
}

impl Indexes {
    pub(super) fn take(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.last += 1;
            self.last
        })
    }

    pub(super) fn give(&mut self, index: u32) {
        self.free.push(index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_do_not_see_each_other() {
        let mut first = Slab::default();
        first.set(1, 10);
        first.set(30_000, 30);
        let mut second = first.clone();
        second.set(1, 11);
        assert_eq!((first.get(1), first.get(30_000), first.get(99_999)), (10, 30, 0));
        assert_eq!((second.get(1), second.get(30_000), second.get(2)), (11, 30, 0));
        assert!(
            Arc::ptr_eq(&first.blocks[7], &second.blocks[7]),
            "what did not change is shared"
        );
        let chunk = |slab: &Slab<i32>, at| std::ptr::from_ref(slab.blocks[0].chunk(at));
        assert_eq!(chunk(&first, 1), chunk(&second, 1));
        assert_ne!(chunk(&first, 0), chunk(&second, 0));
        assert_eq!(chunk(&first, 1), chunk(&first, 63), "what was never put is one");
    }
}
