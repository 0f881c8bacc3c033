//! What the tests share. EAL starts once in a process, so each file is one test
//! that runs its cases in turn; cargo gives each file a process.
#![allow(dead_code, reason = "each test file uses some of it")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use arrayvec::ArrayVec;
use dpdk::{Eal, EalConfig, Mbuf, Mempool, MempoolConfig};

/// The size of the bursts in these tests.
pub(crate) const BURST: usize = 32;

/// Packets, as a worker holds them.
pub(crate) type Burst = ArrayVec<Mbuf, BURST>;

/// EAL without huge pages, silent but for errors.
pub(crate) fn config() -> EalConfig {
    EalConfig {
        file_prefix: prefix(),
        log_level: dpdk::LogLevel::Critical,
        ..EalConfig::default()
    }
}

pub(crate) fn eal() -> Eal {
    Eal::init(&config()).unwrap()
}

fn prefix() -> String {
    format!("kedge-test-{}", std::process::id())
}

/// Where EAL would leave this process's files.
pub(crate) fn runtime_directory() -> PathBuf {
    Path::new("/var/run/dpdk").join(prefix())
}

pub(crate) fn pool(eal: &Eal, name: &str, count: u32) -> Mempool {
    let config = MempoolConfig {
        name: name.to_owned(),
        count,
        cache: 0,
        ..MempoolConfig::default()
    };
    Mempool::new(eal, &config).unwrap()
}

/// EAL's memory without huge pages is mapped: it has started and not ended.
pub(crate) fn running() -> bool {
    std::fs::read_to_string("/proc/self/maps")
        .unwrap()
        .contains("nohuge")
}

/// A packet that holds `octets`.
pub(crate) fn packet(pool: &Mempool, octets: &[u8]) -> Mbuf {
    let mut mbuf = pool.alloc().unwrap();
    mbuf.extend_from_slice(octets).unwrap();
    mbuf
}

/// An Ethernet frame of an experimental type, to everybody, that carries `mark`.
pub(crate) fn frame(mark: u8) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend_from_slice(&[0x02, 0, 0, 0, 0, 1, 0x88, 0xb5]);
    frame.resize(64, mark);
    frame
}
