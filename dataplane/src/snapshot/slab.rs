//! An array of which a new version costs little: chunks are shared until one changes.

use std::sync::Arc;

/// Entries in one chunk.
const CHUNK: usize = 128;

/// Entries by index. Cheap to clone; a change copies one chunk and the list of chunks.
#[derive(Clone, Debug)]
pub struct Slab<T> {
    chunks: Arc<Vec<Arc<[T; CHUNK]>>>,
}

impl<T: Copy + Default> Default for Slab<T> {
    fn default() -> Self {
        Self {
            chunks: Arc::new(Vec::new()),
        }
    }
}

impl<T: Copy + Default> Slab<T> {
    /// The entry; a default one where nothing was ever put.
    #[inline]
    #[must_use]
    pub fn get(&self, index: u32) -> T {
        let index = index as usize;
        self.chunks.get(index / CHUNK).map_or_else(T::default, |chunk| {
            chunk.get(index % CHUNK).copied().unwrap_or_default()
        })
    }

    /// Puts an entry, in this version only.
    pub fn set(&mut self, index: u32, value: T) {
        let index = index as usize;
        let chunks = Arc::make_mut(&mut self.chunks);
        while chunks.len() <= index / CHUNK {
            chunks.push(Arc::new([T::default(); CHUNK]));
        }
        if let Some(chunk) = chunks.get_mut(index / CHUNK)
            && let Some(slot) = Arc::make_mut(chunk).get_mut(index % CHUNK)
        {
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
        first.set(300, 30);
        let mut second = first.clone();
        second.set(1, 11);
        assert_eq!((first.get(1), first.get(300), first.get(9_999)), (10, 30, 0));
        assert_eq!((second.get(1), second.get(300)), (11, 30));
        assert!(
            Arc::ptr_eq(&first.chunks[2], &second.chunks[2]),
            "what did not change is shared"
        );
    }
}
