//! DPDK's error numbers, as values with a text.

use std::ffi::{CStr, c_int};
use std::fmt;

/// An error number of DPDK or the operating system.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(c_int);

impl Errno {
    /// Not permitted; also what a driver says that gives no reason.
    pub const NOT_PERMITTED: Self = Self(1);
    /// No such entry.
    pub const NOT_FOUND: Self = Self(2);
    /// Out of memory.
    pub const NO_MEMORY: Self = Self(12);
    /// In use, or to be stopped first.
    pub const BUSY: Self = Self(16);
    /// The name is taken.
    pub const EXISTS: Self = Self(17);
    /// No such device.
    pub const NO_DEVICE: Self = Self(19);
    /// Invalid argument.
    pub const INVALID: Self = Self(22);
    /// No room left.
    pub const NO_SPACE: Self = Self(28);
    /// The driver does not implement the operation.
    pub const NOT_IMPLEMENTED: Self = Self(38);
    /// The driver does not support the operation.
    pub const NOT_SUPPORTED: Self = Self(95);

    /// What the last failed call on this thread left in `rte_errno`.
    pub(crate) fn last() -> Self {
        // SAFETY: reads a thread-local integer.
        Self(unsafe { dpdk_sys::dpdk_errno() })
    }

    /// A status as DPDK's control functions return it: zero or above is success,
    /// below is an error number, negated.
    pub(crate) fn check(status: c_int) -> Result<c_int, Self> {
        match status {
            0.. => Ok(status),
            _ => Err(Self(status.saturating_neg())),
        }
    }

    /// The number, positive.
    #[must_use]
    pub fn number(self) -> i32 {
        self.0
    }

    /// The driver does not offer the operation at all.
    #[must_use]
    pub fn is_unsupported(self) -> bool {
        self == Self::NOT_SUPPORTED || self == Self::NOT_IMPLEMENTED
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // SAFETY: rte_strerror answers any number with a NUL-terminated string in
        // memory that is static or this thread's own, unchanged until this
        // thread's next call of it; it is read before this function returns.
        let text = unsafe { CStr::from_ptr(dpdk_sys::rte_strerror(self.0)) };
        write!(f, "{} (errno {})", text.to_string_lossy(), self.0)
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Errno {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_a_count_or_a_negated_number() {
        assert_eq!(Errno::check(0), Ok(0));
        assert_eq!(Errno::check(3), Ok(3));
        assert_eq!(Errno::check(-22), Err(Errno::INVALID));
        assert_eq!(Errno::check(-1), Err(Errno::NOT_PERMITTED));
        assert!(Errno::check(c_int::MIN).is_err());
    }

    #[test]
    fn the_text_says_what_the_number_means() {
        assert_eq!(Errno::INVALID.to_string(), "Invalid argument (errno 22)");
        assert!(Errno::NOT_SUPPORTED.is_unsupported());
        assert!(!Errno::NO_MEMORY.is_unsupported());
    }
}
