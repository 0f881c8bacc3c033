//! A start that fails says with what, and leaves no files.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{config, runtime_directory};
use dpdk::{Eal, EalConfig, EalError};

#[test]
fn a_refused_start_says_with_what_and_leaves_no_files() {
    let bad = EalConfig {
        extra: vec!["--proc-type=nosuch".to_owned()],
        ..config()
    };
    let error = Eal::init(&bad).unwrap_err();
    assert!(matches!(error, EalError::Refused { .. }), "{error:?}");
    assert!(error.to_string().contains("--proc-type=nosuch"), "{error}");
    assert!(!runtime_directory().exists());
    assert_eq!(Eal::init(&config()).unwrap_err(), EalError::AlreadyInitialised);
}
