//! Huge pages for the time of a bench, given back when it ends.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::processes::when_interrupted;

const COUNT: &str = "/proc/sys/vm/nr_hugepages";
/// Size of those that are asked for.
const MIB_EACH: usize = 2;

/// MiB lent to this run, in all.
static LENT: AtomicUsize = AtomicUsize::new(0);

/// How many MiB of huge pages this run has asked for, and got.
pub(crate) fn lent_mib() -> usize {
    LENT.load(Ordering::Relaxed)
}

/// As many huge pages as there were before, once this is dropped or we are interrupted.
pub(crate) struct Loan {
    before: usize,
}

impl Loan {
    /// Asks the kernel for `mib` MiB in huge pages beyond those that are in use; `None`, and nothing
    /// changed, if it does not have them (or this is not root).
    pub(crate) fn of(mib: usize) -> Option<Self> {
        let before = read()?;
        let loan = Self { before };
        let free = meminfo("HugePages_Free:").unwrap_or(0);
        let wanted = before + (mib / MIB_EACH).saturating_sub(free);
        if std::fs::write(COUNT, wanted.to_string()).is_err() || read()? < wanted {
            return None;
        }
        LENT.fetch_add(mib, Ordering::Relaxed);
        when_interrupted(move || give_back(before));
        Some(loan)
    }
}

/// Those that are in use still go when they are no more.
fn give_back(before: usize) {
    if let Err(error) = std::fs::write(COUNT, before.to_string()) {
        eprintln!("{COUNT} stays as it is: {error}");
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        give_back(self.before);
    }
}

fn read() -> Option<usize> {
    std::fs::read_to_string(Path::new(COUNT))
        .ok()?
        .trim()
        .parse()
        .ok()
}

fn meminfo(name: &str) -> Option<usize> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}
