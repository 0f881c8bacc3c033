//! Lookup, eight keys in a register (AVX-512).
//!
//! Each step is done for all groups of eight before the next: their gathers do
//! not depend on each other, so that the processor has up to 64 misses under way.
//!
//! # Why it is unsafe
//!
//! Gathers and vector loads take an address and check nothing, and there are no atomic ones. What stands in the way of
//! both is named at each of them:
//!
//! - *Descriptor*: a version refers only to what its writer has built: the root, and from there each descriptor, names lines
//!   that were given out, of the kind and number that it says (`descriptor`, `table`). So every address that is computed
//!   from a descriptor and an index of the bits that it takes is within the region, which `Memory` owns.
//! - *Unwritten*: lines that a version refers to are not written while anybody holds it (`arena`, `versions`). The caller
//!   holds one: [`burst`] borrows the `Memory` from it. So there is no race, though the reads are not atomic.
//! - *Instructions*: whoever calls a function here has found out by [`is_available`] that the processor has them.
//!
//! The obvious lookup, with atomic words and checked indexes (`scalar`), stands beside it, and a property test between the two.

use std::arch::x86_64::*;

use arrayvec::ArrayVec;

use super::arena::{Memory, WORDS};
use super::descriptor::FAN;
use super::fan::SHORT_BUCKET;
use super::jumps::Jumps;
use super::packed;
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
        && is_x86_feature_detected!("popcnt")
        && is_x86_feature_detected!("bmi1")
}

/// Looks up to [`LANES`] keys up; both slices have one length. `false`, and nothing done, without AVX-512.
///
/// `root` and `jumps` are those of a version of the table in `memory` that the caller holds.
#[inline]
pub(super) fn burst(memory: &Memory, root: u32, jumps: Jumps, keys: &[u128], results: &mut [u32]) -> bool {
    if !is_available() {
        return false;
    }
    // SAFETY: *instructions*, as was just found (a load and a test: std remembers). The only caller is the method of a
    // version, which gives what it has.
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
/// The processor has these features. `root` and `jumps` are of one version of the table in `memory`, which is held.
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512bw,popcnt,bmi1")]
#[allow(unsafe_code)]
unsafe fn lookup(memory: &Memory, root: u32, jumps: Jumps, keys: &[u128], results: &mut [u32]) {
    let base = memory.base();
    let zero = _mm512_setzero_si512();
    let count = keys.len().min(results.len()).min(LANES);
    let groups = count.div_ceil(EIGHT);
    // Not an array: its zeros would be written first.
    let mut state: ArrayVec<Group, GROUPS> = ArrayVec::new();
    let root_length = _mm512_set1_epi64(i64::from(ROOT_BITS));
    let upper = _mm512_set_epi64(15, 13, 11, 9, 7, 5, 3, 1);
    let lower = _mm512_set_epi64(14, 12, 10, 8, 6, 4, 2, 0);
    let [jump_bits, jump_mask, jump_slot, jump_length] = if jumps.line == 0 {
        [zero; 4]
    } else {
        // SAFETY: *descriptor*: where a version has jumps, there are four lines of them from there on. *Unwritten*.
        unsafe {
            let line = base.add(jumps.line as usize * WORDS);
            [0, 1, 2, 3].map(|at| _mm512_loadu_si512(line.add(at * WORDS).cast()))
        }
    };
    let jump_shift = _mm_cvtsi32_si128(jumps.shift as i32);
    for number in 0..groups {
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
        let low = _mm512_permutex2var_epi64(first, lower, second);
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
            // SAFETY: *descriptor*: the root has 2^10 words from line `root` on, and the index has ten bits. *Unwritten*.
            slot = unsafe {
                _mm512_mask_i64gather_epi64::<8>(slot, to_root, index, base.add(root as usize * WORDS).cast())
            };
            length = _mm512_mask_mov_epi64(length, to_root, root_length);
        }
        // There is room for as many as there are groups.
        let _ = state.try_push(Group {
            key: _mm512_sllv_epi64(high, length),
            low,
            slot,
            best: slot,
        });
    }
    let width = _mm512_set1_epi64(3);
    let kind = _mm512_set1_epi64(4);
    let width_or_kind = _mm512_set1_epi64(7);
    let halves = _mm512_set1_epi64(8);
    let word = _mm512_set1_epi64(0xffff_ffff);
    let upper_word = _mm512_set1_epi64(-1 << 32);
    let lines = _mm512_set1_epi64(i64::from(!FAN & 0xffff_fff0));
    let fan = _mm512_set1_epi64(i64::from(FAN));
    let octet = _mm512_set1_epi64(0xff);
    // Of a packed node: where its bases begin, in units of four octets.
    let bases = _mm512_set1_epi64(i64::from(packed::DATA) * 16);
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
        for group in &mut state {
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
                // SAFETY: *descriptor*: the lanes of `skips` hold those of skips, whose line has both words; other
                // lanes are not read. *Unwritten*.
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
            let index = _mm512_and_si512(place, _mm512_permutex2var_epi64(places, at, places_low));
            let start = _mm512_and_si512(at, lines);
            let mut place = _mm512_add_epi64(index, start);
            group.key = _mm512_sllv_epi64(group.key, _mm512_permutex2var_epi64(taken, at, taken_low));
            let narrow = _mm512_mask_test_epi64_mask(nodes, at, kind);
            let packed = _mm512_mask_test_epi64_mask(narrow, at, fan);
            place = _mm512_mask_add_epi64(place, packed, start, _mm512_srli_epi64::<2>(index));
            // SAFETY: *descriptor*: the lanes of `nodes` hold those of nodes, which have as many slots as an
            // index of their bits can name; a slot of 4 octets is read with the 4 behind it, which are
            // within the region: its last line is never given out. Those may be another's and be written
            // now; nothing is made of them. Other lanes are not read. *Unwritten*.
            let mut slot = unsafe { _mm512_mask_i64gather_epi64::<4>(at, nodes, place, base.cast()) };
            if packed != 0 {
                let place = _mm512_add_epi64(_mm512_add_epi64(start, bases), _mm512_srli_epi64::<5>(index));
                // SAFETY: *descriptor*: the lanes of `packed` hold those of packed nodes, of nine bits: behind eight lines of slots
                // they have one with 16 bases, one for 32 slots, and `index` has nine bits. As above otherwise.
                let base = unsafe { _mm512_mask_i64gather_epi64::<4>(zero, packed, place, base.cast()) };
                // Which octet of its unit a slot is, in bits.
                let shift = _mm512_and_si512(_mm512_slli_epi64::<3>(index), _mm512_set1_epi64(24));
                let above = _mm512_and_si512(_mm512_srlv_epi64(slot, shift), octet);
                let has = _mm512_mask_test_epi64_mask(packed, above, above);
                slot = _mm512_mask_mov_epi64(slot, packed, _mm512_mask_add_epi64(above, has, above, base));
            }
            let slot = _mm512_mask_slli_epi64::<32>(slot, narrow, slot);
            let has = _mm512_mask_test_epi64_mask(nodes, slot, upper_word);
            group.best = _mm512_mask_mov_epi64(group.best, has, slot);
            group.slot = slot;
        }
        if !any {
            break;
        }
    }
    // What is left are buckets and fans, if anything.
    let (mut buckets, mut fans, mut short) = (0u64, 0u64, 0u64);
    for (number, group) in state.iter().enumerate() {
        let from = number * EIGHT;
        let at_fan = _mm512_test_epi64_mask(group.slot, fan);
        let low = _mm512_test_epi64_mask(group.slot, halves);
        buckets |= u64::from(_mm512_test_epi64_mask(group.slot, word)) << from;
        fans |= u64::from(at_fan) << from;
        short |= u64::from(at_fan & low) << from;
        // SAFETY: `results` has `count` places, `from` is below that, and the mask has a bit for each of those that are
        // left, of eight at most; others are not written.
        unsafe {
            let best = _mm512_cvtepi64_epi32(_mm512_srli_epi64::<32>(group.best));
            _mm256_mask_storeu_epi32(results.as_mut_ptr().add(from).cast(), valid(count, from), best);
        }
    }
    if buckets == 0 {
        return;
    }
    let mut lanes = Lanes {
        base: base.cast(),
        keys: [0; LANES],
        starts: [0; LANES],
        found: [0; LANES],
    };
    let places = _mm512_set1_epi64(i64::from(!FAN & 0xffff_fff0));
    for (number, group) in state.iter().enumerate() {
        let from = number * EIGHT;
        let halfway = _mm512_test_epi64_mask(group.slot, halves) & !_mm512_test_epi64_mask(group.slot, fan);
        let best = _mm512_cvtepi64_epi32(_mm512_srli_epi64::<32>(group.best));
        let key = _mm512_mask_mov_epi64(group.key, halfway, group.low);
        let start = _mm512_slli_epi64::<2>(_mm512_and_si512(group.slot, places));
        // SAFETY: `state` has GROUPS places, so `number` is below that and there is room for eight in all three, which
        // have LANES, GROUPS times eight.
        unsafe {
            _mm256_storeu_si256(lanes.found.as_mut_ptr().add(from).cast(), best);
            _mm512_storeu_si512(lanes.keys.as_mut_ptr().add(from).cast(), key);
            _mm512_storeu_si512(lanes.starts.as_mut_ptr().add(from).cast(), start);
        }
    }
    // Not sooner: that would be by way of registers, and wait for each.
    for start in &lanes.starts[..groups * EIGHT] {
        // SAFETY: a prefetch reads nothing; the address is of a line in the region by *descriptor*, and line 0 for lanes
        // that are at neither bucket nor fan.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(base.cast::<i8>().add(*start as usize)) };
    }
    // SAFETY: *instructions*. *Descriptor*: what is left of a slot after the last node is a descriptor of a fan, a short
    // fan or a bucket, and its bits, of which the masks were made, say which. *Unwritten*.
    unsafe { lanes.search(buckets, fans, short) };
    for from in (0..count).step_by(EIGHT) {
        // SAFETY: `found` has LANES places, and `from` is a multiple of eight below `count`, which is at most that. Of
        // `results` only the places below `count` are written: the mask has a bit for each of those and for no other.
        unsafe {
            let found = _mm256_loadu_si256(lanes.found.as_ptr().add(from).cast());
            _mm256_mask_storeu_epi32(results.as_mut_ptr().add(from).cast(), valid(count, from), found);
        }
    }
}

/// Which of the eight keys from `from` on there are.
#[inline]
fn valid(count: usize, from: usize) -> u8 {
    ((1u32 << (count - from).min(EIGHT)) - 1) as u8
}

/// Where keys are after the last node.
struct Lanes {
    base: *const u8,
    keys: [u64; LANES],
    /// Octets from `base` to a line.
    starts: [u64; LANES],
    /// Results.
    found: [u32; LANES],
}

/// The lanes whose bits are set.
#[inline]
fn lanes_of(mut bits: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lane = bits.trailing_zeros() as usize;
        bits &= bits.wrapping_sub(1);
        (lane < LANES).then_some(lane)
    })
}

impl Lanes {
    /// Through fans to buckets, and through these. All are asked for before the first is searched.
    ///
    /// # Safety
    /// The processor has these features. The lanes of `fans` have the start of a fan's first line, of a short one if they
    /// are in `short` too; the other lanes of `buckets` that of a bucket. All of that is of a version that is held.
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512bw,popcnt,bmi1")]
    #[allow(unsafe_code)]
    #[inline]
    unsafe fn search(&mut self, buckets: u64, fans: u64, short: u64) {
        for lane in lanes_of(fans & !short) {
            // SAFETY: the lane is at a fan that is not short, by this function's own demand.
            unsafe { self.pass_long(lane) };
        }
        for lane in lanes_of(short) {
            // SAFETY: the lane is at a short fan, by this function's own demand.
            unsafe { self.pass_short(lane) };
        }
        for lane in lanes_of(short) {
            // SAFETY: the lane is at a bucket of the short fan that it has passed.
            unsafe { self.short_bucket(lane) };
        }
        for lane in lanes_of(buckets & !short) {
            // SAFETY: the lane is at a bucket, that of a fan that it has passed or another.
            unsafe { self.bucket(lane) };
        }
    }

    /// # Safety
    /// The processor has these features; the lane is at a fan that is not short.
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512bw,popcnt,bmi1")]
    #[allow(unsafe_code)]
    #[inline]
    unsafe fn pass_long(&mut self, lane: usize) {
        // SAFETY: the lane is at a fan, which begins with a line of cuts. *Unwritten*.
        let cuts = unsafe { _mm512_loadu_si512(self.base.add(self.starts[lane] as usize).cast()) };
        let key = _mm512_set1_epi16((self.keys[lane] >> 48) as i16);
        self.pass(lane, _mm512_cmpgt_epu16_mask(key, cuts).count_ones());
    }

    /// # Safety
    /// The processor has these features; the lane is at a short fan.
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512bw,popcnt,bmi1")]
    #[allow(unsafe_code)]
    #[inline]
    unsafe fn pass_short(&mut self, lane: usize) {
        // SAFETY: the lane is at a fan, which begins with a line of cuts. *Unwritten*.
        let cuts = unsafe { _mm512_loadu_si512(self.base.add(self.starts[lane] as usize).cast()) };
        let key = _mm512_set1_epi32((self.keys[lane] >> 32) as i32);
        self.pass(lane, u32::from(_mm512_cmpgt_epu32_mask(key, cuts)).count_ones());
    }

    // In an entry of a bucket, the lowest bit that is set is behind its prefix: that one may differ and all behind. Longest
    // first, so the first that is the same is the one. An entry that is not there is like any key; its result is 0.

    /// # Safety
    /// The processor has these features; the lane is at a bucket of short prefixes.
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512bw,popcnt,bmi1")]
    #[allow(unsafe_code)]
    #[inline]
    unsafe fn short_bucket(&mut self, lane: usize) {
        // SAFETY: the lane is at a bucket of short prefixes: a line of eight of half a word and eight results of half a word.
        // *Unwritten*.
        let (line, results) = unsafe {
            let line = self.base.add(self.starts[lane] as usize).cast::<u32>();
            (_mm256_loadu_si256(line.cast()), line.add(SHORT_BUCKET))
        };
        let key = _mm256_set1_epi32((self.keys[lane] >> 32) as i32);
        let less_one = _mm256_add_epi32(line, _mm256_set1_epi32(-1));
        let differ = _mm256_ternarylogic_epi32::<DIFFER>(key, line, less_one);
        let same = u32::from(_mm256_testn_epi32_mask(differ, differ));
        // SAFETY: `same` has eight bits, and bit 7 is set for this: the number of an entry is at most 7, of eight.
        let result = unsafe { *results.add((same | 0x80).trailing_zeros() as usize) };
        if result != 0 && same != 0 {
            self.found[lane] = result;
        }
    }

    /// # Safety
    /// The processor has these features; the lane is at a bucket.
    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512bw,popcnt,bmi1")]
    #[allow(unsafe_code)]
    #[inline]
    unsafe fn bucket(&mut self, lane: usize) {
        // SAFETY: the lane is at a bucket, which is a line: five prefixes of a word, five results of half a word, half a
        // word of zeros. *Unwritten*.
        let (line, results) = unsafe {
            let line = self.base.add(self.starts[lane] as usize).cast::<u64>();
            (
                _mm512_loadu_si512(line.cast()),
                line.add(BUCKET_RESULTS).cast::<u32>(),
            )
        };
        let key = _mm512_set1_epi64(self.keys[lane] as i64);
        let less_one = _mm512_add_epi64(line, _mm512_set1_epi64(-1));
        let differ = _mm512_ternarylogic_epi64::<DIFFER>(key, line, less_one);
        let same = u32::from(_mm512_testn_epi64_mask(differ, differ)) & 0x1f;
        // SAFETY: `same` has five bits, and bit 5 is set for this: the number of an entry is at most 4, and 5 is that of
        // the zeros.
        let result = unsafe { *results.add((same | 0x20).trailing_zeros() as usize) };
        if result != 0 {
            self.found[lane] = result;
        }
    }

    /// On to the bucket behind so many, and asks for it.
    #[inline]
    fn pass(&mut self, lane: usize, buckets: u32) {
        self.starts[lane] += u64::from(buckets + 1) * 64;
        // SAFETY: a prefetch reads nothing, wherever it is sent.
        #[allow(unsafe_code)]
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(self.base.wrapping_add(self.starts[lane] as usize).cast());
        }
    }
}

/// Of key, entry, and entry less one: the bits of the prefix in which the key differs.
const DIFFER: i32 = (0xf0 ^ 0xcc) & !(0xcc ^ 0xaa) & 0xff;

/// The word of a bucket in which its results begin.
const BUCKET_RESULTS: usize = 5;
