//! The memory behind a table: cache lines, numbered, that never move.
//!
//! One writer gives lines out and takes them back; readers read words. A line is
//! written only while no reader can reach it: between its allocation and the
//! publication of the first version that refers to it. Words are atomic, so that
//! even a mistake in that protocol would be a wrong result, never undefined; the
//! one place that reads without atomics (the vector lookup) relies on it and
//! says so.
//!
//! It is unsafe because no safe collection can be read while it grows: the region is mapped by hand, and a word of it is
//! found from its number. That rests on one thing: `base` points to `lines` lines of a mapping that [`Memory`] made, owns, and
//! gives out by borrows of itself. Who takes an address from here (the vector lookup, the chunks of slabs) argues what is
//! done with it.
//!
//! The region is reserved whole at first and backed by the kernel as it is
//! touched, in huge pages where it grants them: nothing is ever copied to grow.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

/// Words of 64 bits in a line.
pub(crate) const WORDS: usize = 8;
/// Lines that are reserved: 8 GiB of addresses, of which only what is used has memory behind it.
/// A descriptor has 27 bits for the number of a line.
#[cfg(not(miri))]
const RESERVED: usize = 1 << 27;
#[cfg(miri)]
const RESERVED: usize = 1 << 15;
/// Where addresses are scarce (a limit on address space), less has to do.
const LEAST_RESERVED: usize = 1 << 20;

/// The words. Lives as long as any version of the table.
#[derive(Debug)]
pub(crate) struct Memory {
    base: NonNull<AtomicU64>,
    lines: usize,
}

// SAFETY: `base` points to `lines * WORDS` atomics that this value owns until it is dropped; atomics may
// be shared between threads and the value may be dropped on any.
#[allow(unsafe_code)]
unsafe impl Send for Memory {}
// SAFETY: what a shared reference gives is shared references to atomics, and addresses, with which nothing can be done but in
// unsafe blocks of their own.
#[allow(unsafe_code)]
unsafe impl Sync for Memory {}

impl Memory {
    /// Reserves the region. Ends the process where not even a small one can be had, as an allocation would.
    fn new() -> Self {
        Self::of(RESERVED)
    }

    /// Reserves up to `lines` lines.
    pub(crate) fn of(lines: usize) -> Self {
        let mut lines = lines;
        loop {
            if let Some(base) = map(lines) {
                return Self { base, lines };
            }
            if lines <= LEAST_RESERVED || cfg!(miri) {
                std::alloc::handle_alloc_error(layout(lines));
            }
            lines /= 2;
        }
    }

    /// How many lines there are.
    pub(crate) fn lines(&self) -> usize {
        self.lines
    }

    /// One word.
    #[inline]
    pub(crate) fn word(&self, at: usize) -> &AtomicU64 {
        debug_assert!(at < self.lines * WORDS, "word {at} of {} lines", self.lines);
        let at = at.min(self.lines * WORDS - 1);
        // SAFETY: `at` is below the number of words that `base` points to; zeroed memory is a valid
        // atomic; the reference lives no longer than `self`, which owns the region.
        #[allow(unsafe_code)]
        unsafe {
            self.base.add(at).as_ref()
        }
    }

    /// All of them.
    #[inline]
    pub(super) fn words(&self) -> &[AtomicU64] {
        // SAFETY: `base` points to `lines * WORDS` atomics, fewer octets than `isize::MAX` since they are mapped; zeroed memory is
        // a valid atomic; the reference lives no longer than `self`, which owns the region.
        #[allow(unsafe_code)]
        unsafe {
            std::slice::from_raw_parts(self.base.as_ptr(), self.lines * WORDS)
        }
    }

    /// Number `at` of the groups of so many words, by which a line divides.
    #[inline]
    pub(crate) fn group<const COUNT: usize>(&self, at: usize) -> &[AtomicU64; COUNT] {
        const { assert!(COUNT > 0 && WORDS.is_multiple_of(COUNT)) };
        let groups = self.lines * (WORDS / COUNT);
        debug_assert!(at < groups, "group {at} of {groups}");
        let at = at.min(groups - 1);
        // SAFETY: `at` is below the number of such groups in the words that `base` points to, and otherwise as
        // for a single word.
        #[allow(unsafe_code)]
        unsafe {
            self.base.add(at * COUNT).cast().as_ref()
        }
    }

    /// Reads one word of a line.
    #[inline]
    pub(super) fn load(&self, line: u32, word: usize) -> u64 {
        self.word(line as usize * WORDS + word).load(Ordering::Relaxed)
    }

    #[inline]
    pub(super) fn store(&self, line: u32, word: usize, value: u64) {
        self.word(line as usize * WORDS + word)
            .store(value, Ordering::Relaxed);
    }

    /// Where they begin: a page does.
    pub(crate) fn start(&self) -> NonNull<u8> {
        self.base.cast()
    }

    /// Where the words are, for vector loads.
    #[cfg(target_arch = "x86_64")]
    #[inline]
    pub(super) fn base(&self) -> *const u64 {
        self.base.as_ptr().cast_const().cast()
    }

    /// Asks the processor for a line.
    #[inline]
    pub(super) fn prefetch(&self, line: u32) {
        prefetch(self.word(line as usize * WORDS));
    }
}

/// Asks the processor to fetch what is referred to.
#[inline]
pub(crate) fn prefetch<T>(of: &T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        // SAFETY: a prefetch reads nothing and cannot fault, whatever the address.
        #[allow(unsafe_code)]
        unsafe {
            use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(of).cast());
        }
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = of;
}

fn layout(lines: usize) -> std::alloc::Layout {
    std::alloc::Layout::from_size_align(lines * WORDS * 8, 4096).unwrap_or(std::alloc::Layout::new::<u64>())
}

#[cfg(not(miri))]
fn map(lines: usize) -> Option<NonNull<AtomicU64>> {
    use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous};
    let size = std::num::NonZeroUsize::new(lines * WORDS * 8)?;
    let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE;
    // SAFETY: a new anonymous mapping at an address of the kernel's choice touches nothing that exists.
    #[allow(unsafe_code)]
    let base =
        unsafe { mmap_anonymous(None, size, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, flags) }.ok()?;
    // SAFETY: the range is the mapping just made. That there are no huge pages is no error.
    #[allow(unsafe_code)]
    let _ = unsafe { madvise(base, size.get(), MmapAdvise::MADV_HUGEPAGE) };
    Some(base.cast())
}

#[cfg(miri)]
fn map(lines: usize) -> Option<NonNull<AtomicU64>> {
    // SAFETY: the layout has a size: it is of at least one line, or of one word.
    #[allow(unsafe_code)]
    NonNull::new(unsafe { std::alloc::alloc_zeroed(layout(lines)) }.cast())
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: `base` is from `map` with as many lines; nobody refers to it, for all do by borrows of `self`.
        #[allow(unsafe_code)]
        #[cfg(not(miri))]
        unsafe {
            // It can only fail if the range were not mapped.
            let _ = nix::sys::mman::munmap(self.base.cast(), self.lines * WORDS * 8);
        }
        // SAFETY: `base` is from `alloc_zeroed` with the layout of as many lines; nobody refers to it, for all do by borrows of `self`.
        #[allow(unsafe_code)]
        #[cfg(miri)]
        unsafe {
            std::alloc::dealloc(self.base.as_ptr().cast(), layout(self.lines));
        }
    }
}

/// What is handed out in one piece: so many lines. Fans have any number up to [`ANY`].
pub(super) const SIZES: [u32; ANY as usize + 4] = {
    let mut sizes = [0; ANY as usize + 4];
    let mut at = 0;
    while at < ANY {
        sizes[at as usize] = at + 1;
        at += 1;
    }
    let mut wide = 64;
    while wide <= 512 {
        sizes[at as usize] = wide;
        (at, wide) = (at + 1, wide * 2);
    }
    sizes
};
const ANY: u32 = 34;

fn class(lines: u32) -> usize {
    let class = match lines {
        ..=ANY => lines.max(1) - 1,
        _ => ANY + lines.div_ceil(64).next_power_of_two().ilog2(),
    };
    (class as usize).min(SIZES.len() - 1)
}

/// The writer's end: which lines are free.
#[derive(Debug)]
pub(super) struct Arena {
    pub(super) memory: std::sync::Arc<Memory>,
    /// By class of size.
    free: [Vec<u32>; SIZES.len()],
    /// The first line that was never given out. Line 0 is none.
    next: u32,
    used: usize,
    /// What only the writer has to know of a line.
    notes: Vec<Note>,
}

/// Of a line, for the writer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Note {
    /// The change in which it was given out: lines of the present one may be written.
    pub(super) stamp: u64,
    /// In the first line of a node: a prefix may end within it that does not end at its end.
    pub(super) interior: bool,
    /// Bits of the prefix, from the start of the node, that each of its results belongs to.
    pub(super) lengths: [u8; 16],
}

impl Arena {
    pub(super) fn new() -> Self {
        Self {
            memory: std::sync::Arc::new(Memory::new()),
            free: std::array::from_fn(|_| Vec::new()),
            next: 1,
            used: 0,
            notes: vec![Note::default()],
        }
    }

    /// Lines, zeroed. Whoever makes changes has asked for [`Arena::room`] before; that there is none
    /// after all ends the process, as an allocation that fails would.
    pub(super) fn take(&mut self, lines: u32, stamp: u64) -> u32 {
        let line = self.take_unwritten(lines);
        for line in line..line + SIZES[class(lines)] {
            for word in 0..WORDS {
                self.memory.store(line, word, 0);
            }
            self.notes[line as usize] = Note {
                stamp,
                ..Note::default()
            };
        }
        line
    }

    /// The same with whatever was in them, for [`Arena::copy`].
    pub(super) fn take_unwritten(&mut self, lines: u32) -> u32 {
        let Some(line) = self.allocate(lines) else {
            std::alloc::handle_alloc_error(layout(lines as usize));
        };
        line
    }

    fn allocate(&mut self, lines: u32) -> Option<u32> {
        let class = class(lines);
        let size = SIZES[class];
        let line = match self.free[class].pop() {
            Some(line) => line,
            None => {
                let line = self.next;
                let end = line.checked_add(size)?;
                // The last line is never given out, so that a vector load may reach behind its word.
                if end as usize >= self.memory.lines {
                    return None;
                }
                self.next = end;
                self.notes.resize(end as usize, Note::default());
                line
            }
        };
        self.used += size as usize;
        Some(line)
    }

    /// Takes lines back that no reader can reach any more.
    pub(super) fn release(&mut self, line: u32, lines: u32) {
        let class = class(lines);
        self.used -= SIZES[class] as usize;
        self.free[class].push(line);
    }

    /// Copies lines with what is noted of them; the copy is of this change.
    pub(super) fn copy(&mut self, from: u32, to: u32, lines: u32, stamp: u64) {
        for at in 0..lines {
            for word in 0..WORDS {
                self.memory
                    .store(to + at, word, self.memory.load(from + at, word));
            }
            self.notes[(to + at) as usize] = Note {
                stamp,
                ..self.notes[(from + at) as usize]
            };
        }
    }

    pub(super) fn note(&self, line: u32) -> &Note {
        &self.notes[line as usize]
    }

    pub(super) fn note_mut(&mut self, line: u32) -> &mut Note {
        &mut self.notes[line as usize]
    }

    /// Octets of the lines that are given out.
    pub(super) fn used_octets(&self) -> usize {
        self.used * WORDS * 8
    }

    /// Octets of memory that were ever touched.
    pub(super) fn touched_octets(&self) -> usize {
        self.next as usize * WORDS * 8
    }

    /// Lines that could still be given out.
    pub(super) fn room(&self) -> usize {
        self.memory.lines - self.next as usize
    }
}
