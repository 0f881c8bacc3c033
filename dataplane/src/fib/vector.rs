//! Lookup, eight keys in a register (AVX-512).
//!
//! Each step is done for all groups of eight before the next: their gathers do
//! not depend on each other, so that the processor has up to 64 misses under way.

use std::arch::x86_64::*;

use super::arena::{Memory, WORDS};
use super::{LANES, ROOT_BITS};

/// Keys in a register.
const EIGHT: usize = 8;
const GROUPS: usize = LANES / EIGHT;

/// Whether this processor, and this system, have what [`burst`] needs.
pub(super) fn is_available() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512bw")
}

/// Looks up to [`LANES`] keys up; both slices have one length. `false`, and nothing done, without AVX-512.
#[inline]
pub(super) fn burst(memory: &Memory, root: u32, keys: &[u128], results: &mut [u32]) -> bool {
    if !is_available() {
        return false;
    }
    // SAFETY: the processor has the instructions, as was just found (a load and a test: std remembers).
    #[allow(unsafe_code)]
    unsafe {
        lookup(memory, root, keys, results);
    }
    true
}

#[derive(Clone, Copy)]
struct Group {
    /// What is left of the present half of each address, the next bit uppermost.
    key: __m512i,
    low: __m512i,
    /// Descriptors, each in 64 bits.
    at: __m512i,
    best: __m512i,
}

/// # Safety
/// The processor has these features.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512bw")]
#[allow(unsafe_code)]
unsafe fn lookup(memory: &Memory, root: u32, keys: &[u128], results: &mut [u32]) {
    let base = memory.base();
    let zero = _mm512_setzero_si512();
    let count = keys.len().min(results.len()).min(LANES);
    let groups = count.div_ceil(EIGHT);
    let mut state = [Group {
        key: zero,
        low: zero,
        at: zero,
        best: zero,
    }; GROUPS];
    let word = _mm512_set1_epi64(0xffff_ffff);
    let upper = _mm512_set_epi64(15, 13, 11, 9, 7, 5, 3, 1);
    let lower = _mm512_set_epi64(14, 12, 10, 8, 6, 4, 2, 0);
    for (number, group) in state.iter_mut().enumerate().take(groups) {
        let from = number * EIGHT;
        let mut tail = [0u128; EIGHT];
        let source = if from + EIGHT <= count {
            keys[from..].as_ptr()
        } else {
            tail[..count - from].copy_from_slice(&keys[from..count]);
            tail.as_ptr()
        };
        // SAFETY: `source` has eight keys of 16 octets: that many are left in `keys`, or it is `tail`.
        let (first, second) = unsafe {
            (
                _mm512_loadu_si512(source.cast()),
                _mm512_loadu_si512(source.add(4).cast()),
            )
        };
        // A key is its lower half, then its upper one, in memory.
        let high = _mm512_permutex2var_epi64(first, upper, second);
        group.low = _mm512_permutex2var_epi64(first, lower, second);
        let index = _mm512_srli_epi64::<{ 64 - ROOT_BITS }>(high);
        // SAFETY: the root has 2^10 words from line `root` on, and the index has ten bits. Lines that a
        // version refers to are not written while it is held (see `arena`), so there is no race.
        let slot = unsafe { _mm512_i64gather_epi64::<8>(index, base.add(root as usize * WORDS).cast()) };
        group.best = _mm512_and_si512(slot, word);
        group.at = _mm512_srli_epi64::<32>(slot);
        group.key = _mm512_slli_epi64::<{ ROOT_BITS }>(high);
    }
    let width = _mm512_set1_epi64(3);
    let kind = _mm512_set1_epi64(4);
    let halves = _mm512_set1_epi64(8);
    let lines = _mm512_set1_epi64(0xffff_fff0);
    let all = _mm512_set1_epi64(64);
    loop {
        let mut any = false;
        for group in state.iter_mut().take(groups) {
            let at = group.at;
            let nodes = _mm512_test_epi64_mask(at, width);
            let skips = _mm512_testn_epi64_mask(at, width) & _mm512_test_epi64_mask(at, kind);
            if nodes | skips == 0 {
                continue;
            }
            any = true;
            let halfway = _mm512_test_epi64_mask(at, halves) & (nodes | skips);
            group.key = _mm512_mask_mov_epi64(group.key, halfway, group.low);
            let start = _mm512_slli_epi64::<2>(_mm512_and_si512(at, lines));
            if skips != 0 {
                // SAFETY: the lanes of `skips` hold descriptors of skips, whose line has both words;
                // others are not read.
                let (bits, behind) = unsafe {
                    (
                        _mm512_mask_i64gather_epi64::<1>(zero, skips, start, base.cast()),
                        _mm512_mask_i64gather_epi64::<1>(zero, skips, start, base.add(1).cast()),
                    )
                };
                let length = _mm512_srli_epi64::<32>(behind);
                let rest =
                    _mm512_srlv_epi64(_mm512_xor_si512(group.key, bits), _mm512_sub_epi64(all, length));
                let same = _mm512_mask_testn_epi64_mask(skips, rest, rest);
                let child = _mm512_maskz_and_epi64(same, behind, word);
                group.at = _mm512_mask_mov_epi64(group.at, skips, child);
                group.key = _mm512_mask_sllv_epi64(group.key, skips, group.key, length);
            }
            if nodes != 0 {
                let bits = _mm512_and_si512(at, width);
                let bits = _mm512_add_epi64(bits, _mm512_add_epi64(bits, bits));
                let index = _mm512_srlv_epi64(group.key, _mm512_sub_epi64(all, bits));
                let narrow = _mm512_test_epi64_mask(at, kind);
                let wide_offset = _mm512_slli_epi64::<3>(index);
                let offset = _mm512_mask_slli_epi64::<2>(wide_offset, narrow, index);
                // SAFETY: the lanes of `nodes` hold descriptors of nodes, which have as many slots as an
                // index of their bits can name; a slot of 4 octets is read with the 4 behind it, which are
                // within the region: its last line is never given out.
                let slot = unsafe {
                    _mm512_mask_i64gather_epi64::<1>(
                        zero,
                        nodes,
                        _mm512_add_epi64(start, offset),
                        base.cast(),
                    )
                };
                let slot = _mm512_mask_and_epi64(slot, narrow, slot, word);
                let has = _mm512_mask_test_epi64_mask(nodes, slot, word);
                group.best = _mm512_mask_and_epi64(group.best, has, slot, word);
                group.at = _mm512_mask_srli_epi64::<32>(group.at, nodes, slot);
                group.key = _mm512_mask_sllv_epi64(group.key, nodes, group.key, bits);
            }
        }
        if !any {
            break;
        }
    }
    // What is left are buckets. First all are asked for, then all are searched.
    let mut keys = [0u64; LANES];
    let mut starts = [0u64; LANES];
    let mut best = [0u64; LANES];
    let mut buckets = 0u64;
    for (number, group) in state.iter().enumerate().take(groups) {
        let from = number * EIGHT;
        let halfway = _mm512_test_epi64_mask(group.at, halves);
        let mine = _mm512_test_epi64_mask(group.at, group.at);
        buckets |= u64::from(mine) << from;
        // SAFETY: `number` is below GROUPS, so there is room for eight in each of the three.
        unsafe {
            let key = _mm512_mask_mov_epi64(group.key, halfway, group.low);
            _mm512_storeu_si512(keys.as_mut_ptr().add(from).cast(), key);
            let start = _mm512_slli_epi64::<2>(_mm512_and_si512(group.at, lines));
            _mm512_storeu_si512(starts.as_mut_ptr().add(from).cast(), start);
            _mm512_storeu_si512(best.as_mut_ptr().add(from).cast(), group.best);
        }
        for start in &starts[from..from + EIGHT] {
            // SAFETY: a prefetch reads nothing. (Lanes that are at no bucket ask for line 0.)
            unsafe { _mm_prefetch::<_MM_HINT_T0>(base.cast::<i8>().add(*start as usize)) };
        }
    }
    let shifts = _mm512_set_epi64(0, 0, 0, 24, 18, 12, 6, 0);
    let six = _mm512_set1_epi64(63);
    let ones = _mm512_set1_epi64(-1);
    while buckets != 0 {
        let lane = buckets.trailing_zeros() as usize % LANES;
        buckets &= buckets - 1;
        // SAFETY: the lanes of `buckets` have the start of a bucket, which is one line.
        let (line, lengths, results) = unsafe {
            let line = base.cast::<u8>().add(starts[lane] as usize).cast::<u64>();
            (
                _mm512_loadu_si512(line.cast()),
                *line.add(7) >> 32,
                line.add(BUCKET_RESULTS).cast::<u32>(),
            )
        };
        let lengths = _mm512_and_si512(_mm512_srlv_epi64(_mm512_set1_epi64(lengths as i64), shifts), six);
        let mask = _mm512_sllv_epi64(ones, _mm512_sub_epi64(six, lengths));
        let differ = _mm512_xor_si512(line, _mm512_set1_epi64(keys[lane] as i64));
        let same = u32::from(_mm512_testn_epi64_mask(differ, mask)) & 0x1f;
        // Longest first, so the first is the one. 4 where there is none: its result is not used then.
        let entry = (same | 0x10).trailing_zeros() as usize;
        // SAFETY: five results, and `entry` is at most 4.
        let result = u64::from(unsafe { *results.add(entry) });
        let taken = u64::from(same != 0 && result != 0).wrapping_neg();
        best[lane] = result & taken | best[lane] & !taken;
    }
    for (result, best) in results.iter_mut().zip(best) {
        *result = best as u32;
    }
}

/// The word of a bucket in which its results begin.
const BUCKET_RESULTS: usize = 5;
