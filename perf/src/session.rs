//! A bench runs in a session of its own, at a raised priority.
//!
//! Where the kernel groups processes by session, `nice` means nothing between
//! sessions: a build in the next terminal would take half of every core from a
//! bench, and milliseconds at a time. The group's own priority does help.

use std::os::unix::process::CommandExt;
use std::process::Command;

/// Set for the process that already is in its own session.
const MARK: &str = "KEDGE_PERF_SESSION";
const GROUP: &str = "/proc/self/autogroup";

/// Starts this program again in a session of its own and gives its exit status to the caller of the
/// first; returns in the second, or where that cannot be done or is of no use.
pub(crate) fn enter() {
    if std::env::var_os(MARK).is_some() {
        // Without root it stays as it is.
        let _ = std::fs::write(GROUP, "-15");
        return;
    }
    if !std::path::Path::new(GROUP).exists() {
        return;
    }
    let Ok(program) = std::env::current_exe() else {
        return;
    };
    let error = Command::new("setsid")
        // Where a terminal interrupts the first, the second has to end too.
        .args(["--wait", "setpriv", "--pdeathsig", "TERM"])
        .arg(program)
        .args(std::env::args_os().skip(1))
        .env(MARK, "1")
        .exec();
    // Only if there is no setsid.
    eprintln!(
        "a session of its own cannot be had ({error}): other work on this machine will disturb the bench"
    );
}
