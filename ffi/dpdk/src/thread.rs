//! Threads that Rust started and DPDK should know.

use std::marker::PhantomData;

use crate::eal::Eal;
use crate::errno::Errno;

/// Makes DPDK know the calling thread, until the guard is dropped.
///
/// A known thread has its own cache in every [`crate::Mempool`]; an unknown one
/// goes to the shared ring for each buffer. Every worker should register before
/// its first burst. The thread that called [`Eal::init`] is registered already.
///
/// # Errors
/// [`ThreadError::AlreadyRegistered`], or [`ThreadError::Refused`] when all of
/// DPDK's places (128 in Debian's build) are taken.
pub fn register_thread(eal: &Eal) -> Result<ThreadRegistration, ThreadError> {
    // SAFETY: reads a thread-local variable.
    if unsafe { dpdk_sys::dpdk_has_lcore_id() } {
        return Err(ThreadError::AlreadyRegistered);
    }
    // SAFETY: EAL is initialised, `eal` being the proof; the thread has no place yet.
    if unsafe { dpdk_sys::rte_thread_register() } != 0 {
        return Err(ThreadError::Refused(Errno::last()));
    }
    Ok(ThreadRegistration {
        _eal: eal.clone(),
        not_send: PhantomData,
    })
}

/// The calling thread's place in DPDK; given back when dropped.
#[derive(Debug)]
#[must_use = "the registration ends when this is dropped"]
pub struct ThreadRegistration {
    _eal: Eal,
    // It speaks of the thread it was made on.
    not_send: PhantomData<*const ()>,
}

impl Drop for ThreadRegistration {
    fn drop(&mut self) {
        // SAFETY: this thread was registered by `register_thread`, this value has
        // not left it, and EAL is kept by the handle in it.
        unsafe { dpdk_sys::rte_thread_unregister() }
    }
}

/// Why a thread was not registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ThreadError {
    /// The thread is registered, or is the one that initialised DPDK.
    #[error("this thread is known to DPDK already")]
    AlreadyRegistered,
    /// DPDK has no place for it.
    #[error("DPDK does not take another thread: {0}")]
    Refused(Errno),
}
