//! What benches tell people, and what they say of the machine.

use std::io::{IsTerminal, Write};
use std::path::Path;

use anyhow::Context;

/// The median of some numbers; zero of none.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Prints a result. Standard output may be gone, and a panic would leave children and files behind.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout().lock(), "{text}").context("the result cannot be printed")
}

/// Says where a long piece of work is: on one line that the next one replaces, and only to people.
pub(crate) fn progress(text: &str) {
    let mut error = std::io::stderr().lock();
    if error.is_terminal() {
        // Progress that cannot be shown is not worth an end.
        let _ = write!(error, "\r\x1b[K{text}");
        let _ = error.flush();
    }
}

/// Says what has come of it: on a line that stays.
pub(crate) fn settle(text: &str) {
    let mut error = std::io::stderr().lock();
    let clear = if error.is_terminal() { "\r\x1b[K" } else { "" };
    let _ = writeln!(error, "{clear}{text}");
}

/// Whether `file` will be able to be written: better known before a long run than after.
pub(crate) fn check_writable(file: Option<&Path>) -> anyhow::Result<()> {
    let Some(file) = file else { return Ok(()) };
    let existed = file.exists();
    std::fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(file)
        .with_context(|| format!("{} cannot be written", file.display()))?;
    if !existed {
        std::fs::remove_file(file)?;
    }
    Ok(())
}

/// What this machine calls its processor.
pub(crate) fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split(':').nth(1));
    let count = text.lines().filter(|line| line.starts_with("processor")).count();
    format!("{} x {}", count, name.unwrap_or("unknown").trim())
}

/// The first line of a file of the kernel's.
pub(crate) fn line_of(path: &str) -> String {
    std::fs::read_to_string(path)
        .unwrap_or_default()
        .trim()
        .to_owned()
}
