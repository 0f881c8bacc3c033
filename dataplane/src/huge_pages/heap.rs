//! The tables of the control thread in huge pages too.
//!
//! They are on the heap: a million prefixes are some hundred megabytes of it, and a change of one reads a dozen places that
//! no cache has. Most of the time of such a change the processor waited for the translation of their addresses. The
//! C library's heap can ask the kernel for huge pages (glibc 2.35 and later), but only if it is told so when a program
//! starts: so the program starts itself once more, in the same process, with that in its environment.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Where glibc looks.
const TUNABLES: &str = "GLIBC_TUNABLES";
/// What it has to find there.
const TUNABLE: &str = "glibc.malloc.hugetlb";
/// Says that this has been done: with privileges of its file a program finds no tunables in its environment.
const DONE: &str = "KEDGE_HEAP_ASKED";
/// Where the kernel says for whom it has huge pages.
const ENABLED: &str = "/sys/kernel/mm/transparent_hugepage/enabled";

/// Starts this program again, with the same arguments, as the same process, if its heap is not in huge pages and could be:
/// where the kernel has them for those who ask. Returns where nothing is to be done, or nothing can be. To be called before
/// anything is open and while there is one thread.
pub fn move_to_huge_pages() {
    let enabled = fs::read_to_string(ENABLED).unwrap_or_default();
    let done = std::env::var_os(DONE).is_some();
    let Some(tunables) = wanted(&enabled, std::env::var_os(TUNABLES).as_deref()).filter(|_| !done) else {
        return;
    };
    let Ok(program) = std::env::current_exe() else {
        return;
    };
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_else(|| program.clone().into());
    let mut again = Command::new(program);
    again
        .arg0(name)
        .args(arguments)
        .env(TUNABLES, tunables)
        .env(DONE, "1");
    // It returns only if it fails; ordinary pages are slower, and nothing else.
    let _ = again.exec();
}

/// The tunables to start with, if that changes anything.
fn wanted(enabled: &str, tunables: Option<&OsStr>) -> Option<OsString> {
    // Where they are for all, the heap has them as it is.
    if !enabled.contains("[madvise]") {
        return None;
    }
    let mut wanted = tunables.unwrap_or_default().to_owned();
    // Whoever set it, to whatever, has decided.
    if wanted.to_string_lossy().contains(TUNABLE) {
        return None;
    }
    if !wanted.is_empty() {
        wanted.push(":");
    }
    wanted.push(TUNABLE);
    wanted.push("=1");
    Some(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heap_asks_where_asking_helps_and_once() {
        let asking = "always [madvise] never\n";
        let wanted = |enabled, tunables: Option<&str>| wanted(enabled, tunables.map(OsStr::new));
        assert_eq!(wanted(asking, None).unwrap(), "glibc.malloc.hugetlb=1");
        assert_eq!(wanted(asking, Some("")).unwrap(), "glibc.malloc.hugetlb=1");
        assert_eq!(
            wanted(asking, Some("glibc.malloc.check=1")).unwrap(),
            "glibc.malloc.check=1:glibc.malloc.hugetlb=1"
        );
        assert_eq!(wanted(asking, Some("glibc.malloc.hugetlb=0")), None);
        assert_eq!(wanted("[always] madvise never\n", None), None);
        assert_eq!(wanted("always madvise [never]\n", None), None);
        assert_eq!(wanted("", None), None);
    }
}
