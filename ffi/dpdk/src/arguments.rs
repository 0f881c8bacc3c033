//! EAL's command line, made from an [`EalConfig`].

use std::ffi::CString;
use std::fmt::Write as _;

use crate::eal::{EalConfig, EalError, HugePages, PciDevices};

/// The arguments of `rte_eal_init`, program name first.
pub(crate) fn arguments(config: &EalConfig, allowed_cores: &str) -> Result<Vec<CString>, EalError> {
    let mut arguments = vec![config.program.clone()];
    let mut push = |argument: String| arguments.push(argument);

    push("--file-prefix".to_owned());
    push(config.file_prefix.clone());
    // One EAL thread, this one, allowed on every core it may use already: EAL's
    // own default would pin it, and every thread it starts, to a single core.
    push("--lcores".to_owned());
    push(format!("0@({})", core_list(&config.main_cores, allowed_cores)));
    push("-m".to_owned());
    push(config.memory_mib.to_string());
    match config.huge_pages {
        HugePages::Never => {
            push("--no-huge".to_owned());
            // No page is pinned, so a device can only be given virtual addresses.
            push("--iova-mode=va".to_owned());
            // No secondary process is served, so nothing needs a shared file.
            push("--no-shconf".to_owned());
        }
        // The same, and huge pages have no file either: the kernel takes them back
        // however the process ends. EAL does not know it together with --no-huge.
        HugePages::Use => push("--in-memory".to_owned()),
    }
    push("--no-telemetry".to_owned());
    match &config.pci {
        PciDevices::None => push("--no-pci".to_owned()),
        PciDevices::All => {}
        PciDevices::Only(addresses) => {
            // An empty allow-list means "all" to EAL.
            if addresses.is_empty() {
                push("--no-pci".to_owned());
            }
            for address in addresses {
                push("-a".to_owned());
                push(address.clone());
            }
        }
    }
    if let Some(bits) = config.max_simd_bits {
        push(format!("--force-max-simd-bitwidth={bits}"));
    }
    push(format!("--log-level={}", config.log_level.number()));
    arguments.extend(config.extra.iter().cloned());

    arguments
        .into_iter()
        .map(|argument| {
            if argument.is_empty() {
                return Err(EalError::Argument(argument));
            }
            CString::new(argument)
                .map_err(|error| EalError::Argument(String::from_utf8_lossy(&error.into_vec()).into_owned()))
        })
        .collect()
}

/// The cores to run on, in the kernel's and EAL's list notation.
fn core_list(cores: &[usize], allowed: &str) -> String {
    if cores.is_empty() {
        return allowed.to_owned();
    }
    let mut list = String::new();
    for core in cores {
        let comma = if list.is_empty() { "" } else { "," };
        // Writing to a String does not fail.
        let _ = write!(list, "{comma}{core}");
    }
    list
}

/// The cores this process may run on, from the text of `/proc/self/status`.
pub(crate) fn allowed_cores(status: &str) -> Option<&str> {
    status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))
        .map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eal::LogLevel;

    fn built(config: &EalConfig) -> Vec<String> {
        let arguments = arguments(config, "0-1,4").unwrap();
        arguments
            .into_iter()
            .map(|argument| argument.into_string().unwrap())
            .collect()
    }

    #[test]
    fn without_huge_pages_nothing_is_left_on_disk() {
        let config = EalConfig {
            file_prefix: "one".to_owned(),
            ..EalConfig::default()
        };
        assert_eq!(
            built(&config),
            [
                "dpdk",
                "--file-prefix",
                "one",
                "--lcores",
                "0@(0-1,4)",
                "-m",
                "256",
                "--no-huge",
                "--iova-mode=va",
                "--no-shconf",
                "--no-telemetry",
                "--no-pci",
                "--log-level=5",
            ]
        );
    }

    #[test]
    fn every_choice_has_its_argument() {
        let config = EalConfig {
            program: "x".to_owned(),
            huge_pages: HugePages::Use,
            memory_mib: 1024,
            pci: PciDevices::Only(vec!["0000:01:00.0".to_owned(), "0000:01:00.1".to_owned()]),
            main_cores: vec![2, 3],
            max_simd_bits: Some(512),
            log_level: LogLevel::Debug,
            extra: vec!["--single-file-segments".to_owned()],
            file_prefix: "p".to_owned(),
        };
        assert_eq!(
            built(&config),
            [
                "x",
                "--file-prefix",
                "p",
                "--lcores",
                "0@(2,3)",
                "-m",
                "1024",
                "--in-memory",
                "--no-telemetry",
                "-a",
                "0000:01:00.0",
                "-a",
                "0000:01:00.1",
                "--force-max-simd-bitwidth=512",
                "--log-level=8",
                "--single-file-segments",
            ]
        );
    }

    #[test]
    fn an_empty_allow_list_does_not_mean_all() {
        let config = EalConfig {
            pci: PciDevices::Only(Vec::new()),
            ..EalConfig::default()
        };
        assert!(built(&config).contains(&"--no-pci".to_owned()));
    }

    #[test]
    fn an_argument_that_c_cannot_hold_is_named() {
        let config = EalConfig {
            extra: vec!["a\0b".to_owned()],
            ..EalConfig::default()
        };
        assert_eq!(
            arguments(&config, "0"),
            Err(EalError::Argument("a\0b".to_owned()))
        );
        let config = EalConfig {
            file_prefix: String::new(),
            ..EalConfig::default()
        };
        assert_eq!(arguments(&config, "0"), Err(EalError::Argument(String::new())));
    }

    #[test]
    fn the_kernel_says_which_cores_are_allowed() {
        assert_eq!(
            allowed_cores("Name:\tx\nCpus_allowed_list:\t0-3,8\nMems:\t1\n"),
            Some("0-3,8")
        );
        assert_eq!(allowed_cores("Name:\tx\n"), None);
    }
}
