//! Huge pages are used where there are some, and asked for in vain where there are none.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{BURST, Burst, config, pool, runtime_directory};
use dpdk::{Eal, EalConfig, HugePages, huge_pages_available};

#[test]
fn huge_pages_are_used_or_missed() {
    let config = EalConfig {
        huge_pages: HugePages::Use,
        memory_mib: 32,
        ..config()
    };
    if huge_pages_available() {
        let eal = Eal::init(&config).unwrap();
        let pool = pool(&eal, "huge", 1023);
        let mut burst = Burst::new();
        assert_eq!(pool.alloc_burst(&mut burst), BURST);
        drop((burst, pool, eal));
        assert!(huge_pages_available(), "they are given back");
    } else {
        let error = Eal::init(&config).unwrap_err();
        assert!(error.to_string().contains("--in-memory"), "{error}");
    }
    assert!(!runtime_directory().exists());
}
