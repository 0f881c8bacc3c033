//! DPDK's environment: started once, ended when the last user of it is gone.

use std::ffi::{CStr, CString, c_char, c_int};
use std::fs;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::arguments::{allowed_cores, arguments};
use crate::errno::Errno;
use crate::live;

/// How to start DPDK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EalConfig {
    /// The name DPDK's messages begin with.
    pub program: String,
    /// Tells this process from others on the machine. Two processes must not share one.
    pub file_prefix: String,
    /// Where packet memory comes from.
    pub huge_pages: HugePages,
    /// MiB of memory taken at the start. Without huge pages it is all there will be.
    pub memory_mib: u32,
    /// The PCI devices that DPDK may take.
    pub pci: PciDevices,
    /// Cores that the calling thread and DPDK's own threads may run on; empty:
    /// those the calling process may run on now.
    pub main_cores: Vec<usize>,
    /// The widest vector instructions drivers may use, in bits; `None`: DPDK's own choice.
    pub max_simd_bits: Option<u16>,
    /// What DPDK writes to standard error.
    pub log_level: LogLevel,
    /// Arguments passed on as they are, after all others.
    pub extra: Vec<String>,
}

impl Default for EalConfig {
    /// Starts on any machine: no huge pages, no PCI device, 256 MiB, warnings logged.
    fn default() -> Self {
        Self {
            program: "dpdk".to_owned(),
            file_prefix: format!("dpdk-{}", std::process::id()),
            huge_pages: HugePages::Never,
            memory_mib: 256,
            pci: PciDevices::None,
            main_cores: Vec::new(),
            max_simd_bits: None,
            log_level: LogLevel::Warning,
            extra: Vec::new(),
        }
    }
}

/// Where packet memory comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HugePages {
    /// Ordinary pages. Enough for virtual devices; a hardware device that needs
    /// physical addresses cannot use them.
    Never,
    /// Huge pages, of which the machine must have enough free ones.
    Use,
}

/// The PCI devices that DPDK may take from the kernel's hands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PciDevices {
    /// None; the PCI bus is not looked at.
    None,
    /// The named ones (`0000:01:00.0`, with driver arguments after a comma).
    Only(Vec<String>),
    /// Every one that is bound to a driver DPDK can use.
    All,
}

/// The least severe message that DPDK writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Action must be taken at once.
    Alert,
    /// Critical conditions.
    Critical,
    /// Errors.
    Error,
    /// Warnings.
    Warning,
    /// Normal but notable.
    Notice,
    /// Progress.
    Info,
    /// Everything.
    Debug,
}

impl LogLevel {
    /// As `rte_log.h` numbers them.
    pub(crate) fn number(self) -> u32 {
        match self {
            Self::Alert => 2,
            Self::Critical => 3,
            Self::Error => 4,
            Self::Warning => 5,
            Self::Notice => 6,
            Self::Info => 7,
            Self::Debug => 8,
        }
    }
}

/// Why DPDK did not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EalError {
    /// DPDK starts once in the life of a process, and did, or tried to.
    #[error("DPDK was initialised in this process before")]
    AlreadyInitialised,
    /// An argument is empty or contains a NUL.
    #[error("{0:?} cannot be an argument of DPDK")]
    Argument(String),
    /// The cores this process may run on could not be learnt.
    #[error("cannot learn from /proc/self/status which cores to run on")]
    Cores,
    /// DPDK refused; its messages on standard error say more.
    #[error("DPDK does not start with {arguments:?}: {reason}")]
    Refused {
        /// What it was given.
        arguments: Vec<String>,
        /// What it answered.
        reason: Errno,
    },
}

/// DPDK, running. Clones share it; the last user ends it.
///
/// Pools and ports keep one too, so the order in which values are dropped does
/// not matter.
#[derive(Clone, Debug)]
pub struct Eal {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    control: Mutex<Control>,
}

/// What control operations change; DPDK's own are not safe against each other.
#[derive(Debug, Default)]
pub(crate) struct Control {
    /// Ports in somebody's hands.
    pub(crate) open_ports: Vec<u16>,
    /// Rings between threads, each of which may hold packets.
    pub(crate) handovers: usize,
    /// Pools without a handle, not freed yet.
    retired: Vec<RetiredPool>,
}

#[derive(Debug)]
struct RetiredPool(NonNull<dpdk_sys::rte_mempool>);

// SAFETY: a mempool belongs to no thread; the one entry in `Control` is the only
// pointer left to it.
unsafe impl Send for RetiredPool {}

static INITIALISED: AtomicBool = AtomicBool::new(false);

impl Eal {
    /// Starts DPDK in this process.
    ///
    /// Takes half a second or so: DPDK loads all its drivers. The calling thread's
    /// affinity becomes `main_cores`.
    ///
    /// # Errors
    /// See [`EalError`]. After [`EalError::Refused`] this process cannot try again.
    pub fn init(config: &EalConfig) -> Result<Self, EalError> {
        let status = fs::read_to_string("/proc/self/status").map_err(|_| EalError::Cores)?;
        let allowed = allowed_cores(&status).ok_or(EalError::Cores)?;
        let arguments = arguments(config, allowed)?;
        let count = c_int::try_from(arguments.len())
            .map_err(|_| EalError::Argument(format!("{} arguments", arguments.len())))?;
        if INITIALISED.swap(true, Ordering::AcqRel) {
            return Err(EalError::AlreadyInitialised);
        }
        let readable = arguments
            .iter()
            .map(|a| a.to_string_lossy().into_owned())
            .collect();
        // EAL reorders the array and keeps pointers into it for as long as it
        // runs, so both the array and the strings are given to it for good.
        let mut pointers: Vec<*mut c_char> = arguments.into_iter().map(CString::into_raw).collect();
        pointers.push(std::ptr::null_mut());
        let pointers = Box::leak(pointers.into_boxed_slice());
        // SAFETY: called once in this process (`INITIALISED`), with `count`
        // NUL-terminated strings and a null pointer after them, never freed.
        if unsafe { dpdk_sys::rte_eal_init(count, pointers.as_mut_ptr()) } < 0 {
            let reason = Errno::last();
            remove_runtime_directory();
            remove_parent_directory();
            return Err(EalError::Refused {
                arguments: readable,
                reason,
            });
        }
        // EAL puts nothing into it (see `arguments`). Gone now, it is not left
        // behind by a process that is killed.
        remove_runtime_directory();
        let shared = Shared {
            control: Mutex::default(),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// The lock under which control operations happen.
    pub(crate) fn control(&self) -> MutexGuard<'_, Control> {
        self.shared.control()
    }

    /// Takes over a pool that has no handle any more; frees it when that is safe.
    pub(crate) fn retire_pool(&self, pool: NonNull<dpdk_sys::rte_mempool>) {
        let mut control = self.control();
        control.retired.push(RetiredPool(pool));
        control.free_retired();
    }
}

impl Control {
    /// Frees the retired pools if no driver, no ring and no thread can hold a buffer
    /// of theirs. The caller's `&mut` is the lock that keeps ports and rings from
    /// appearing.
    pub(crate) fn free_retired(&mut self) -> bool {
        if !self.open_ports.is_empty() || self.handovers > 0 || !live::none() {
            return self.retired.is_empty();
        }
        for pool in self.retired.drain(..) {
            // SAFETY: made by rte_pktmbuf_pool_create, and freed nowhere else:
            // it left the list just now. No handle to it is left, so nobody can
            // take a buffer from it; no port is open, so no driver holds one, and
            // neither does a ring, of which there is none; no thread owns one (see
            // `live`).
            unsafe { dpdk_sys::rte_mempool_free(pool.0.as_ptr()) }
        }
        true
    }
}

impl Shared {
    fn control(&self) -> MutexGuard<'_, Control> {
        // A panic under the lock leaves no half-made state: each list operation is one step.
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Ending EAL unmaps all buffers. While somebody owns one, leave it all to
        // the end of the process.
        let idle = self.control().free_retired() && live::none();
        if !idle {
            return;
        }
        // SAFETY: EAL is initialised; every pool, port and thread registration
        // holds an `Eal`, and this was the last; no mbuf is left.
        unsafe { dpdk_sys::rte_eal_cleanup() };
        remove_parent_directory();
    }
}

/// Where EAL puts its files; it makes the directory even when it puts none.
fn runtime_directory() -> Option<PathBuf> {
    // SAFETY: reads a static buffer, NUL-terminated, empty until EAL fills it in.
    let directory = unsafe {
        let text = dpdk_sys::rte_eal_get_runtime_dir();
        if text.is_null() {
            return None;
        }
        CStr::from_ptr(text)
    };
    let directory = directory.to_str().ok()?;
    (!directory.is_empty()).then(|| PathBuf::from(directory))
}

fn remove_runtime_directory() {
    if let Some(directory) = runtime_directory() {
        // It goes only if it is empty. Whatever is in it is not ours to delete.
        let _ = fs::remove_dir(directory);
    }
}

/// The directory that all of the machine's DPDK processes share; it goes only if
/// it is empty. Not when starting: others that start may be about to use it.
fn remove_parent_directory() {
    if let Some(parent) = runtime_directory().as_deref().and_then(Path::parent) {
        let _ = fs::remove_dir(parent);
    }
}

/// The machine has free huge pages of some size.
///
/// How many are needed depends on `memory_mib` and the pools; this says only
/// whether [`HugePages::Use`] can work at all.
#[must_use]
pub fn huge_pages_available() -> bool {
    free_huge_pages(Path::new("/sys/kernel/mm/hugepages")) > 0
}

fn free_huge_pages(directory: &Path) -> u64 {
    let Ok(sizes) = fs::read_dir(directory) else {
        return 0;
    };
    sizes
        .filter_map(|size| fs::read_to_string(size.ok()?.path().join("free_hugepages")).ok())
        .filter_map(|text| text.trim().parse::<u64>().ok())
        .fold(0, u64::saturating_add)
}

/// The name and version of the DPDK that this program was compiled against.
#[must_use]
pub fn version() -> String {
    // SAFETY: the string is static and NUL-terminated.
    unsafe { CStr::from_ptr(dpdk_sys::dpdk_version()) }
        .to_string_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_the_directory_has_no_huge_pages() {
        assert_eq!(free_huge_pages(Path::new("/nonexistent")), 0);
    }

    #[test]
    fn the_version_names_dpdk() {
        assert!(version().starts_with("DPDK "), "{}", version());
    }
}
