//! When may what an old version refers to be used again?
//!
//! Every version of something holds a token. What the next version no longer
//! refers to waits until no copy of this one or of any older one is left.
//!
//! `ci/model` runs this very file under loom, and breaks it on purpose to see that
//! loom would notice.

use std::collections::VecDeque;

use crate::sync::Arc;

/// Held by every copy of one version.
pub(crate) type Token = Arc<()>;

/// What waits for readers to let go.
#[derive(Debug)]
pub(crate) struct Versions<T> {
    /// Of what the last version refers to and the next one will not.
    garbage: Vec<T>,
    /// The last version's.
    last: Token,
    /// Older versions that someone may still hold, with what was given up after them.
    older: VecDeque<(Token, Vec<T>)>,
}

impl<T> Default for Versions<T> {
    fn default() -> Self {
        Self {
            garbage: Vec::new(),
            last: Token::new(()),
            older: VecDeque::new(),
        }
    }
}

impl<T> Versions<T> {
    /// The next version does not refer to this any more.
    pub(crate) fn retire(&mut self, it: T) {
        self.garbage.push(it);
    }

    /// Begins the next version, and gives back through `free` what no version refers to. The oldest
    /// first, and nothing younger than one that is held: it may refer to what a later one replaced.
    pub(crate) fn commit(&mut self, free: impl FnMut(T)) -> Token {
        let last = std::mem::replace(&mut self.last, Token::new(()));
        self.older.push_back((last, std::mem::take(&mut self.garbage)));
        self.release(free);
        self.last.clone()
    }

    /// The same without a next version.
    pub(crate) fn release(&mut self, mut free: impl FnMut(T)) {
        while let Some((held, garbage)) = self.older.front_mut() {
            // Not only counts: synchronises with the reader that let go last.
            if Token::get_mut(held).is_none() {
                break;
            }
            garbage.drain(..).for_each(&mut free);
            self.older.pop_front();
        }
    }

    /// Older versions that are still held, as far as is known.
    pub(crate) fn held(&self) -> usize {
        self.older.len()
    }

    /// All that waits.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = &T> {
        self.older
            .iter()
            .flat_map(|(_, garbage)| garbage)
            .chain(&self.garbage)
    }
}

// With its path, for rustfmt to find it from `ci/model` too.
#[cfg(test)]
#[path = "versions/tests.rs"]
mod tests;
