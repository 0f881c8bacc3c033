//! The same sum, 64 octets in a register (AVX-512).
//!
//! Fields of 32 bits are added up in lanes of 64: a packet's never overflow one, so there is no carry to wait for.
//!
//! It is unsafe for two things only: instructions that a processor may not have, and loads that take an address; both are
//! of the slice that is given.

use std::arch::x86_64::*;

/// Octets in a register.
const WIDTH: usize = 64;

/// Whether this processor, and this system, have what [`sum`] needs.
#[inline]
pub(super) fn is_available() -> bool {
    is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw")
}

/// The sum of up to 2^32 octets; `None`, and nothing done, without AVX-512.
#[inline(never)]
pub(super) fn sum(octets: &[u8]) -> Option<u64> {
    if !is_available() {
        return None;
    }
    // SAFETY: the processor has the instructions, as was just found (loads and tests: std remembers).
    #[allow(unsafe_code)]
    Some(unsafe { add_up(octets) })
}

/// # Safety
/// The processor has these features.
#[target_feature(enable = "avx512f,avx512bw")]
#[allow(unsafe_code)]
unsafe fn add_up(octets: &[u8]) -> u64 {
    let word = _mm512_set1_epi64(0xffff_ffff);
    let mut low = _mm512_setzero_si512();
    let mut high = low;
    let mut chunks = octets.chunks_exact(WIDTH);
    for chunk in chunks.by_ref() {
        // SAFETY: a chunk has WIDTH octets, and the load is of as many, at any alignment.
        let these = unsafe { _mm512_loadu_si512(chunk.as_ptr().cast()) };
        low = _mm512_add_epi64(low, _mm512_and_si512(these, word));
        high = _mm512_add_epi64(high, _mm512_srli_epi64::<32>(these));
    }
    let rest = chunks.remainder();
    if !rest.is_empty() {
        // There are fewer than 64.
        let mask = (1u64 << rest.len()) - 1;
        // SAFETY: octets whose bit is not set are not read and count as 0; of `rest` there are as many as bits that are
        // set, the lower ones.
        let these = unsafe { _mm512_maskz_loadu_epi8(mask, rest.as_ptr().cast()) };
        low = _mm512_add_epi64(low, _mm512_and_si512(these, word));
        high = _mm512_add_epi64(high, _mm512_srli_epi64::<32>(these));
    }
    _mm512_reduce_add_epi64(_mm512_add_epi64(low, high)) as u64
}
