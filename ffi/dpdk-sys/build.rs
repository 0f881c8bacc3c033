//! Finds the installed DPDK, generates the bindings, compiles the shims.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// The oldest release whose names the shims use (22.11 renamed the Ethernet ones).
const OLDEST: &str = "22.11";

/// The libraries whose functions are called. The drivers are not among them: EAL
/// loads them itself, as plugins, from the directory that its distribution chose.
///
/// The last three are behind peers.h. `--as-needed`, which rustc passes, leaves them
/// out of programs that do not call it.
const LIBRARIES: [&str; 8] = [
    "rte_eal",
    "rte_mempool",
    "rte_mbuf",
    "rte_ethdev",
    "rte_acl",
    "rte_fib",
    "rte_lpm",
    "rte_hash",
];

/// All that is taken from DPDK's headers; the rest is in shims.h, flows.h and peers.h.
const FUNCTIONS: [&str; 18] = [
    "rte_dev_probe",
    "rte_eal_cleanup",
    "rte_eal_get_runtime_dir",
    "rte_eal_init",
    "rte_eth_allmulticast_enable",
    "rte_eth_dev_adjust_nb_rx_tx_desc",
    "rte_eth_dev_get_mtu",
    "rte_eth_dev_set_mtu",
    "rte_eth_dev_start",
    "rte_eth_promiscuous_enable",
    "rte_get_tsc_hz",
    "rte_mempool_free",
    "rte_mempool_in_use_count",
    "rte_pktmbuf_pool_create",
    "rte_strerror",
    "rte_thread_register",
    "rte_thread_unregister",
    "dpdk_.*",
];

const CONSTANTS: [&str; 3] = ["DPDK_.*", "RTE_MEMPOOL_CACHE_MAX_SIZE", "RTE_PKTMBUF_HEADROOM"];

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            println!("cargo::error={}", message.replace('\n', " "));
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<(), String> {
    for file in [
        "build.rs",
        "wrapper.h",
        "shims.h",
        "shims.c",
        "flows.h",
        "flows.c",
        "peers.h",
        "peers.c",
    ] {
        println!("cargo::rerun-if-changed={file}");
    }
    let dpdk = pkg_config::Config::new()
        .atleast_version(OLDEST)
        .cargo_metadata(false)
        .probe("libdpdk")
        .map_err(|error| {
            format!(
                "DPDK {OLDEST} or later with its headers is needed: install libdpdk-dev \
                 (or set PKG_CONFIG_PATH to another DPDK's libdpdk.pc). {error}"
            )
        })?;
    let flags = compiler_flags()?;

    for path in &dpdk.link_paths {
        println!("cargo::rustc-link-search=native={}", path.display());
    }
    shims(&flags);
    for library in LIBRARIES {
        println!("cargo::rustc-link-lib=dylib={library}");
    }
    bindings(&flags)?;
    println!("cargo::metadata=version={}", dpdk.version);
    Ok(())
}

/// DPDK's headers compile only with the very flags its pkg-config file gives:
/// `-include rte_config.h` and the instruction set it was built for. The crate
/// `pkg-config` keeps neither, so ask again.
fn compiler_flags() -> Result<Vec<String>, String> {
    println!("cargo::rerun-if-env-changed=PKG_CONFIG");
    let program = env::var_os("PKG_CONFIG").unwrap_or_else(|| "pkg-config".into());
    let output = Command::new(&program)
        .args(["--cflags", "libdpdk"])
        .output()
        .map_err(|error| format!("cannot run {}: install pkg-config. {error}", program.display()))?;
    if !output.status.success() {
        return Err(format!(
            "{} --cflags libdpdk: {}",
            program.display(),
            String::from_utf8_lossy(&output.stderr)
        ));
    }
    Ok(String::from_utf8_lossy(&output.stdout)
        .split_whitespace()
        .map(str::to_owned)
        .collect())
}

fn shims(flags: &[String]) {
    let mut shims = cc::Build::new();
    shims
        .file("shims.c")
        .file("flows.c")
        .file("peers.c")
        .std("gnu11")
        .warnings(true)
        .extra_warnings(true);
    // They are the hot path's door into DPDK's inline functions: never unoptimised.
    shims.opt_level(3);
    // The shims do what DPDK's headers ask; what those warn about is not ours.
    shims.flag_if_supported("-Wno-deprecated-declarations");
    let mut rest = flags.iter();
    while let Some(flag) = rest.next() {
        match flag.strip_prefix("-I") {
            Some(directory) => {
                shims.flag("-isystem").flag(directory);
            }
            None => {
                shims.flag(flag);
                if flag == "-include"
                    && let Some(header) = rest.next()
                {
                    shims.flag(header);
                }
            }
        }
    }
    shims.compile("dpdk_shims");
}

fn bindings(flags: &[String]) -> Result<(), String> {
    // Loading libclang is the first thing that fails where it is not installed,
    // and it fails by panicking.
    std::panic::catch_unwind(bindgen::clang_version)
        .map_err(|_| "bindgen needs libclang: install libclang-dev (or set LIBCLANG_PATH)".to_owned())?;
    let mut builder = bindgen::Builder::default()
        .header("wrapper.h")
        .clang_args(flags)
        .use_core()
        .rust_edition(bindgen::RustEdition::Edition2024)
        .layout_tests(true)
        .generate_comments(false)
        .derive_copy(false)
        .derive_debug(false)
        .default_macro_constant_type(bindgen::MacroTypeVariation::Unsigned)
        // src/lib.rs has it, as a type that can only be pointed to.
        .blocklist_type("rte_mempool.*")
        .blocklist_type("rte_memzone.*")
        // Pointed to, and layouts of its own releases: flows.h has what is needed.
        .opaque_type("rte_acl_ctx")
        .allowlist_recursively(true);
    builder = builder.parse_callbacks(Box::new(Values));
    for function in FUNCTIONS {
        builder = builder.allowlist_function(function);
    }
    for constant in CONSTANTS {
        builder = builder.allowlist_var(constant);
    }
    let bindings = builder.generate().map_err(|error| format!("bindgen: {error}"))?;
    let directory = env::var_os("OUT_DIR")
        .map(PathBuf::from)
        .ok_or("OUT_DIR is not set")?;
    write(&bindings, &directory.join("bindings.rs"))
}

/// Structures of flows.h, which are mere values.
#[derive(Debug)]
struct Values;

impl bindgen::callbacks::ParseCallbacks for Values {
    fn add_derives(&self, info: &bindgen::callbacks::DeriveInfo<'_>) -> Vec<String> {
        match info.name {
            "dpdk_acl_key" | "dpdk_meter" | "dpdk_meter_profile" => {
                ["Clone", "Copy", "Debug", "Default"].map(str::to_owned).to_vec()
            }
            _ => Vec::new(),
        }
    }
}

fn write(bindings: &bindgen::Bindings, path: &Path) -> Result<(), String> {
    bindings
        .write_to_file(path)
        .map_err(|error| format!("cannot write {}: {error}", path.display()))
}
