//! The processor's cycle counter.

/// Cycles since some moment in the past.
///
/// The counter runs at a constant rate whatever the core's frequency, and agrees
/// between cores, on every processor that DPDK supports today. It costs a few
/// nanoseconds: once per burst, not per packet.
#[inline]
#[must_use]
pub fn cycles() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: RDTSC exists on every x86-64 processor and only reads.
    unsafe {
        core::arch::x86_64::_rdtsc()
    }
    #[cfg(not(target_arch = "x86_64"))]
    // SAFETY: reads a counter register.
    unsafe {
        dpdk_sys::dpdk_cycles()
    }
}

/// The rate of [`cycles`], in hertz.
///
/// DPDK measures it while it starts; the argument is the proof that it has.
#[must_use]
pub fn cycles_per_second(_eal: &crate::Eal) -> u64 {
    // SAFETY: reads a variable that rte_eal_init, which has returned, set.
    unsafe { dpdk_sys::rte_get_tsc_hz() }
}
