//! What a bench ran on: kernel, processor, memory pages.

use std::path::Path;

use serde::Serialize;

use crate::report;

/// Features of a processor that code here, or a peer, chooses its way by, or that say what a cycle is.
const FLAGS: [&str; 18] = [
    "sse4_2",
    "avx",
    "avx2",
    "bmi1",
    "bmi2",
    "avx512f",
    "avx512bw",
    "avx512cd",
    "avx512dq",
    "avx512vl",
    "avx512_vbmi2",
    "avx512_vpopcntdq",
    "gfni",
    "vpclmulqdq",
    "pdpe1gb",
    "constant_tsc",
    "nonstop_tsc",
    "hypervisor",
];

/// A machine, as it is now.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    processor: String,
    processor_flags: Vec<String>,
    kernel: String,
    /// Those that the kernel lent to this run, for DPDK's own tables.
    huge_pages_lent_mib: usize,
    /// Of each size, when the bench ended.
    huge_pages: Vec<HugePages>,
    transparent_huge_pages: String,
}

/// Huge pages of one size.
#[derive(Debug, Serialize)]
struct HugePages {
    kib: u64,
    total: u64,
    free: u64,
}

impl Machine {
    /// This one.
    pub(crate) fn here() -> Self {
        let information = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let pages = "/sys/kernel/mm/transparent_hugepage/enabled";
        Self {
            processor: report::processor(),
            processor_flags: flags(&information),
            kernel: report::line_of("/proc/sys/kernel/osrelease"),
            huge_pages_lent_mib: crate::huge_pages::lent_mib(),
            huge_pages: huge_pages(Path::new("/sys/kernel/mm/hugepages")),
            transparent_huge_pages: chosen(&report::line_of(pages)),
        }
    }
}

/// Those of [`FLAGS`] that the first processor has.
fn flags(information: &str) -> Vec<String> {
    let line = information.lines().find(|line| line.starts_with("flags"));
    let all: Vec<&str> = line.unwrap_or_default().split_whitespace().collect();
    let has = FLAGS.into_iter().filter(|flag| all.contains(flag));
    has.map(str::to_owned).collect()
}

fn huge_pages(directory: &Path) -> Vec<HugePages> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut pages: Vec<HugePages> = entries
        .filter_map(|entry| {
            let name = entry.file_name();
            let kib = name.to_str()?.strip_prefix("hugepages-")?.strip_suffix("kB")?;
            let number = |file: &str| {
                let text = std::fs::read_to_string(entry.path().join(file)).ok()?;
                text.trim().parse().ok()
            };
            Some(HugePages {
                kib: kib.parse().ok()?,
                total: number("nr_hugepages")?,
                free: number("free_hugepages")?,
            })
        })
        .collect();
    pages.sort_by_key(|it| it.kib);
    pages
}

/// The word in brackets: what the kernel does of what it offers.
fn chosen(line: &str) -> String {
    let word = line.split_whitespace().find(|word| word.starts_with('['));
    word.unwrap_or_default().trim_matches(['[', ']']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_matters_of_a_processor_is_picked_out() {
        let text =
            "processor\t: 0\nflags\t\t: fpu tsc avx2 avx512f smap\nprocessor\t: 1\nflags\t\t: sse4_2\n";
        assert_eq!(flags(text), ["avx2", "avx512f"]);
        assert!(flags("").is_empty());
    }

    #[test]
    fn huge_pages_are_those_of_each_size() {
        let directory = tempfile::tempdir().unwrap();
        for (name, total) in [("hugepages-2048kB", "12\n"), ("hugepages-1048576kB", "1\n")] {
            let at = directory.path().join(name);
            std::fs::create_dir(&at).unwrap();
            std::fs::write(at.join("nr_hugepages"), total).unwrap();
            std::fs::write(at.join("free_hugepages"), "1\n").unwrap();
        }
        std::fs::create_dir(directory.path().join("hugepages-odd")).unwrap();
        let pages = huge_pages(directory.path());
        let found: Vec<_> = pages.iter().map(|it| (it.kib, it.total, it.free)).collect();
        assert_eq!(found, [(2048, 12, 1), (1_048_576, 1, 1)]);
        assert!(huge_pages(&directory.path().join("none")).is_empty());
    }

    #[test]
    fn the_kernels_choice_is_in_brackets() {
        assert_eq!(chosen("always [madvise] never"), "madvise");
        assert_eq!(chosen(""), "");
    }
}
