//! Stands in for the data plane's module of this name.

use std::collections::VecDeque;

pub(crate) use crossbeam_epoch as epoch;
pub(crate) use loom::sync::Arc;
use loom::sync::Mutex;

/// crossbeam's queue has no loom in it. This one behaves alike: whoever pops has seen all that the one who
/// pushed had done. That crossbeam's does so too is taken from its documentation.
#[derive(Debug)]
pub(crate) struct ArrayQueue<T> {
    items: Mutex<VecDeque<T>>,
    capacity: usize,
}

impl<T> ArrayQueue<T> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            items: Mutex::new(VecDeque::new()),
            capacity,
        }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(crate) fn push(&self, item: T) -> Result<(), T> {
        let mut items = self.items.lock().unwrap();
        assert!(
            items.len() < self.capacity,
            "the queue of retired versions is full"
        );
        items.push_back(item);
        Ok(())
    }

    pub(crate) fn pop(&self) -> Option<T> {
        self.items.lock().unwrap().pop_front()
    }
}

/// A loop that waits lets the model run the others.
pub(crate) fn pause() {
    loom::thread::yield_now();
}
