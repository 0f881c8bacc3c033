//! Whether packet memory comes from huge pages, and the heap.

pub mod heap;

use std::fs;
use std::path::Path;

use dpdk::HugePages;

/// Where the kernel says how many there are, by size.
const SIZES: &str = "/sys/kernel/mm/hugepages";

/// Huge pages are required, but too few are free.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "dataplane.huge_pages = require: {free_mib} MiB of huge pages are free, dataplane.memory_mib = {memory_mib} are needed"
)]
pub struct HugePagesError {
    free_mib: u64,
    memory_mib: u32,
}

/// What `wish` means on this machine for `memory_mib` MiB of packet memory.
pub(crate) fn choose(wish: kedge_config::HugePages, memory_mib: u32) -> Result<HugePages, HugePagesError> {
    let free = match wish {
        kedge_config::HugePages::Never => 0,
        kedge_config::HugePages::Auto | kedge_config::HugePages::Require => free_mib(Path::new(SIZES)),
    };
    decide(wish, memory_mib, free)
}

fn decide(
    wish: kedge_config::HugePages,
    memory_mib: u32,
    free_mib: u64,
) -> Result<HugePages, HugePagesError> {
    let enough = free_mib >= u64::from(memory_mib);
    match wish {
        kedge_config::HugePages::Never => Ok(HugePages::Never),
        kedge_config::HugePages::Auto if enough => Ok(HugePages::Use),
        kedge_config::HugePages::Auto => {
            tracing::info!(
                free_mib,
                memory_mib,
                "not enough free huge pages: packet memory is of ordinary pages"
            );
            Ok(HugePages::Never)
        }
        kedge_config::HugePages::Require if enough => Ok(HugePages::Use),
        kedge_config::HugePages::Require => Err(HugePagesError { free_mib, memory_mib }),
    }
}

/// Free huge pages of all sizes. What cannot be read is none.
fn free_mib(sizes: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(sizes) else {
        return 0;
    };
    let kib = entries.flatten().filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let size: u64 = name
            .strip_prefix("hugepages-")?
            .strip_suffix("kB")?
            .parse()
            .ok()?;
        let free: u64 = fs::read_to_string(entry.path().join("free_hugepages"))
            .ok()?
            .trim()
            .parse()
            .ok()?;
        size.checked_mul(free)
    });
    kib.fold(0, u64::saturating_add) / 1024
}

#[cfg(test)]
mod tests {
    use super::*;
    use kedge_config::HugePages as Wish;

    #[test]
    fn auto_takes_what_is_there_and_require_insists() {
        assert_eq!(decide(Wish::Never, 128, 1024), Ok(HugePages::Never));
        assert_eq!(decide(Wish::Auto, 128, 128), Ok(HugePages::Use));
        assert_eq!(decide(Wish::Auto, 128, 127), Ok(HugePages::Never));
        assert_eq!(decide(Wish::Require, 128, 128), Ok(HugePages::Use));
        let error = decide(Wish::Require, 128, 2).unwrap_err().to_string();
        assert!(
            error.contains("require: 2 MiB") && error.contains("memory_mib = 128"),
            "{error}"
        );
    }

    #[test]
    fn pages_of_all_sizes_count() {
        let directory = tempfile::tempdir().unwrap();
        for (size, free) in [
            ("hugepages-2048kB", "3\n"),
            ("hugepages-1048576kB", "1\n"),
            ("nonsense", "9\n"),
        ] {
            fs::create_dir(directory.path().join(size)).unwrap();
            fs::write(directory.path().join(size).join("free_hugepages"), free).unwrap();
        }
        assert_eq!(free_mib(directory.path()), 1024 + 6);
        assert_eq!(free_mib(&directory.path().join("absent")), 0);
    }
}
