//! The primitives that the protocols between threads are made of.
//!
//! [`crate::versions`] and [`crate::snapshot`]'s publication take them from here, and
//! nothing else does: `ci/model` compiles those files with another module of this
//! name, whose primitives are loom's.

pub(crate) use std::sync::Arc;

pub(crate) use crossbeam::epoch;
pub(crate) use crossbeam::queue::ArrayQueue;

/// Lets others go on, in a loop that waits for them. Sleeps: what is waited for is the end of a burst, and a
/// control thread that spins would take the processor from what else runs there.
pub(crate) fn pause() {
    std::thread::sleep(std::time::Duration::from_micros(50));
}
