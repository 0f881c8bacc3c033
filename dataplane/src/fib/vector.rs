//! Lookup, eight keys in a register (AVX-512).
//!
//! Each step is done for all groups of eight before the next: their gathers do
//! not depend on each other, so that the processor has up to 64 misses under way.

use std::arch::x86_64::*;

use super::arena::{Memory, WORDS};
use super::jumps::Jumps;
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
pub(super) fn burst(memory: &Memory, root: u32, jumps: Jumps, keys: &[u128], results: &mut [u32]) -> bool {
    if !is_available() {
        return false;
    }
    // SAFETY: the processor has the instructions, as was just found (a load and a test: std remembers).
    #[allow(unsafe_code)]
    unsafe {
        lookup(memory, root, jumps, keys, results);
    }
    true
}

#[derive(Clone, Copy)]
struct Group {
    /// What is left of the present half of each address, the next bit uppermost.
    key: __m512i,
    low: __m512i,
    /// The last slot of each, of which the descriptor says where it goes from there.
    slot: __m512i,
    /// The last slot of each that had a result.
    best: __m512i,
}

/// # Safety
/// The processor has these features.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512bw")]
#[allow(unsafe_code)]
unsafe fn lookup(memory: &Memory, root: u32, jumps: Jumps, keys: &[u128], results: &mut [u32]) {
    let base = memory.base();
    let zero = _mm512_setzero_si512();
    let count = keys.len().min(results.len()).min(LANES);
    let groups = count.div_ceil(EIGHT);
    let mut state = [Group {
        key: zero,
        low: zero,
        slot: zero,
        best: zero,
    }; GROUPS];
    let root_length = _mm512_set1_epi64(i64::from(ROOT_BITS));
    let upper = _mm512_set_epi64(15, 13, 11, 9, 7, 5, 3, 1);
    let lower = _mm512_set_epi64(14, 12, 10, 8, 6, 4, 2, 0);
    let [jump_bits, jump_mask, jump_slot, jump_length] = if jumps.line == 0 {
        [zero; 4]
    } else {
        // SAFETY: there are four lines of jumps from there on; they are not written while a version has them.
        unsafe {
            let line = base.add(jumps.line as usize * WORDS);
            [0, 1, 2, 3].map(|at| _mm512_loadu_si512(line.add(at * WORDS).cast()))
        }
    };
    let jump_shift = _mm_cvtsi32_si128(jumps.shift as i32);
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
        let mut to_root = 0xff;
        let (mut slot, mut length) = (zero, root_length);
        if jumps.line != 0 {
            let which = _mm512_srl_epi64(high, jump_shift);
            let differ = _mm512_xor_si512(high, _mm512_permutexvar_epi64(which, jump_bits));
            to_root = _mm512_test_epi64_mask(differ, _mm512_permutexvar_epi64(which, jump_mask));
            slot = _mm512_permutexvar_epi64(which, jump_slot);
            length = _mm512_permutexvar_epi64(which, jump_length);
        }
        if to_root != 0 {
            let index = _mm512_srli_epi64::<{ 64 - ROOT_BITS }>(high);
            // SAFETY: the root has 2^10 words from line `root` on, and the index has ten bits. Lines that a
            // version refers to are not written while it is held (see `arena`), so there is no race.
            slot = unsafe {
                _mm512_mask_i64gather_epi64::<8>(slot, to_root, index, base.add(root as usize * WORDS).cast())
            };
            length = _mm512_mask_mov_epi64(length, to_root, root_length);
        }
        group.best = slot;
        group.slot = slot;
        group.key = _mm512_sllv_epi64(high, length);
    }
    let width = _mm512_set1_epi64(3);
    let kind = _mm512_set1_epi64(4);
    let width_or_kind = _mm512_set1_epi64(7);
    let halves = _mm512_set1_epi64(8);
    let word = _mm512_set1_epi64(0xffff_ffff);
    let upper_word = _mm512_set1_epi64(-1 << 32);
    let lines = _mm512_set1_epi64(0xffff_fff0);
    let all = _mm512_set1_epi64(64);
    // By WIDTH and KIND, which are the lower three bits of a descriptor: the bits that a node takes; how far
    // the key has to go right to give the place of a slot, in units of four octets; and the bits of that.
    let taken = _mm512_set_epi64(9, 6, 3, 0, 9, 6, 3, 0);
    let right = _mm512_set_epi64(55, 58, 61, 64, 54, 57, 60, 64);
    let places = _mm512_set_epi64(511, 63, 7, 0, 1022, 126, 14, 0);
    // The same with LOW set, which is bit 3.
    let taken_low = _mm512_set_epi64(12, 0, 0, 0, 12, 0, 0, 0);
    let right_low = _mm512_set_epi64(52, 64, 64, 64, 51, 64, 64, 64);
    let places_low = _mm512_set_epi64(4095, 0, 0, 0, 8190, 0, 0, 0);
    loop {
        let mut any = false;
        for group in state.iter_mut().take(groups) {
            let mut at = group.slot;
            let live = _mm512_test_epi64_mask(at, width_or_kind);
            if live == 0 {
                continue;
            }
            any = true;
            let mut nodes = _mm512_test_epi64_mask(at, width);
            if nodes != live {
                let skips = live & !nodes;
                let halfway = _mm512_mask_test_epi64_mask(skips, at, halves);
                group.key = _mm512_mask_mov_epi64(group.key, halfway, group.low);
                let start = _mm512_and_si512(at, lines);
                // SAFETY: the lanes of `skips` hold descriptors of skips, whose line has both words;
                // others are not read.
                let (bits, behind) = unsafe {
                    (
                        _mm512_mask_i64gather_epi64::<4>(zero, skips, start, base.cast()),
                        _mm512_mask_i64gather_epi64::<4>(at, skips, start, base.add(1).cast()),
                    )
                };
                let length = _mm512_srli_epi64::<32>(behind);
                let differ = _mm512_xor_si512(group.key, bits);
                let rest = _mm512_srlv_epi64(differ, _mm512_sub_epi64(all, length));
                let other = _mm512_mask_test_epi64_mask(skips, rest, rest);
                at = _mm512_mask_mov_epi64(behind, other, zero);
                group.key = _mm512_mask_sllv_epi64(group.key, skips, group.key, length);
                // On to the node behind, if it is one.
                nodes = _mm512_test_epi64_mask(at, width);
            }
            let place = _mm512_srlv_epi64(group.key, _mm512_permutex2var_epi64(right, at, right_low));
            let place = _mm512_and_si512(place, _mm512_permutex2var_epi64(places, at, places_low));
            let place = _mm512_add_epi64(place, _mm512_and_si512(at, lines));
            group.key = _mm512_sllv_epi64(group.key, _mm512_permutex2var_epi64(taken, at, taken_low));
            let narrow = _mm512_mask_test_epi64_mask(nodes, at, kind);
            // SAFETY: the lanes of `nodes` hold descriptors of nodes, which have as many slots as an
            // index of their bits can name; a slot of 4 octets is read with the 4 behind it, which are
            // within the region: its last line is never given out. Other lanes are not read.
            let slot = unsafe { _mm512_mask_i64gather_epi64::<4>(at, nodes, place, base.cast()) };
            let slot = _mm512_mask_slli_epi64::<32>(slot, narrow, slot);
            let has = _mm512_mask_test_epi64_mask(nodes, slot, upper_word);
            group.best = _mm512_mask_mov_epi64(group.best, has, slot);
            group.slot = slot;
        }
        if !any {
            break;
        }
    }
    // What is left are buckets. First all are asked for, then all are searched.
    let mut buckets = 0u64;
    for (number, group) in state.iter().enumerate().take(groups) {
        let from = number * EIGHT;
        buckets |= u64::from(_mm512_test_epi64_mask(group.slot, word)) << from;
        let found = _mm512_cvtepi64_epi32(_mm512_srli_epi64::<32>(group.best));
        let valid = ((1u32 << (count - from).min(EIGHT)) - 1) as u8;
        // SAFETY: as many results are left as `valid` has bits; others are not written.
        unsafe { _mm256_mask_storeu_epi32(results.as_mut_ptr().add(from).cast(), valid, found) };
    }
    if count < LANES {
        buckets &= (1 << count) - 1;
    }
    if buckets == 0 {
        return;
    }
    let mut keys = [0u64; LANES];
    let mut starts = [0u64; LANES];
    for (number, group) in state.iter().enumerate().take(groups) {
        let from = number * EIGHT;
        let halfway = _mm512_test_epi64_mask(group.slot, halves);
        // SAFETY: `number` is below GROUPS, so there is room for eight in both.
        unsafe {
            let key = _mm512_mask_mov_epi64(group.key, halfway, group.low);
            _mm512_storeu_si512(keys.as_mut_ptr().add(from).cast(), key);
            let start = _mm512_slli_epi64::<2>(_mm512_and_si512(group.slot, lines));
            _mm512_storeu_si512(starts.as_mut_ptr().add(from).cast(), start);
        }
        for start in &starts[from..from + EIGHT] {
            // SAFETY: a prefetch reads nothing. (Lanes that are at no bucket ask for line 0.)
            unsafe { _mm_prefetch::<_MM_HINT_T0>(base.cast::<i8>().add(*start as usize)) };
        }
    }
    let ones = _mm512_set1_epi64(-1);
    while buckets != 0 {
        let lane = buckets.trailing_zeros() as usize % LANES;
        buckets &= buckets - 1;
        // SAFETY: the lanes of `buckets` have the start of a bucket, which is one line.
        let (line, entries) = unsafe {
            let line = base.cast::<u8>().add(starts[lane] as usize).cast::<u64>();
            (
                _mm512_loadu_si512(line.cast()),
                line.add(BUCKET_RESULTS).cast::<u32>(),
            )
        };
        // In an entry, the lowest bit that is set is behind its prefix: that one may differ and all behind.
        let differ = _mm512_xor_si512(line, _mm512_set1_epi64(keys[lane] as i64));
        let may = _mm512_xor_si512(line, _mm512_add_epi64(line, ones));
        let same = u32::from(_mm512_cmple_epu64_mask(differ, may)) & 0x1f;
        // Longest first, so the first is the one. An entry that is not there is like any key; its result
        // is 0. So is what is behind the fifth.
        let entry = (same | 0x20).trailing_zeros() as usize;
        // SAFETY: five results and a zero, and `entry` is at most 5.
        let found = unsafe { *entries.add(entry) };
        if let Some(result) = results.get_mut(lane) {
            *result = if found != 0 { found } else { *result };
        }
    }
}

/// The word of a bucket in which its results begin.
const BUCKET_RESULTS: usize = 5;
