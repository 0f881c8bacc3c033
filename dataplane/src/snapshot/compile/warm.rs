//! What a transaction will read, asked for before any of it is read.
//!
//! With a million prefixes hardly anything that a change of one needs is in a cache, and each place is known only when the one
//! before has been read: so a change waits a dozen times, one after the other. Here all changes of a transaction take each of
//! these steps together, as workers do with the packets of a burst: the waits overlap.

use std::hint::black_box;

use arrayvec::ArrayVec;
use kedge_dataplane_api::model::Transaction;

use super::Compiler;
use crate::fib::{NO_MATCH, prefetch};

/// Changes that go together.
const TOGETHER: usize = 64;
/// Of more than so many, what was asked for first would be gone from the caches before its turn comes.
const MOST: usize = 4096;

impl Compiler {
    /// Changes nothing.
    pub(super) fn warm(&self, transaction: &Transaction) {
        let put = transaction.put_prefixes.iter().map(|(prefix, _)| prefix);
        let mut prefixes = transaction.delete_prefixes.iter().chain(put);
        if transaction.delete_prefixes.len() + transaction.put_prefixes.len() > MOST {
            return;
        }
        loop {
            let some: ArrayVec<_, TOGETHER> = prefixes.by_ref().take(TOGETHER).collect();
            if some.is_empty() {
                return;
            }
            // The lines of the forwarding table that lead there, and with what they say the route.
            let keys: ArrayVec<u128, TOGETHER> = some.iter().map(|it| it.network().into()).collect();
            let mut results = [NO_MATCH; TOGETHER];
            self.snapshot.fib.lookup_burst(&keys, &mut results);
            let results = results.get(..some.len()).unwrap_or_default();
            for result in results {
                self.snapshot.routes.prefetch(*result);
            }
            // One such read does not wait for the other.
            for prefix in &some {
                black_box(self.tables.prefixes.contains_key(prefix));
            }
            for prefix in &some {
                black_box(self.fib.get(**prefix));
            }
            for result in results {
                let counter = self.routes.get(*result).counter;
                if let Some(before) = self.counted_before.get(counter as usize) {
                    prefetch(before);
                }
            }
        }
    }
}
