//! EAL ends with its last user, whatever goes first, and leaves no files.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{config, frame, packet, pool, runtime_directory};
use dpdk::{Eal, EalError, Port, PortConfig};

#[test]
fn it_ends_with_its_last_user_and_leaves_no_files() {
    let eal = common::eal();
    assert!(
        runtime_directory().exists(),
        "EAL has moved its files: this test looks in vain"
    );
    let pool = pool(&eal, "last", 255);
    let (port, rx, tx) = Port::probe(&eal, "net_null0")
        .unwrap()
        .configure(&PortConfig::default(), &pool)
        .unwrap();
    let packet = packet(&pool, &frame(1));

    drop(eal);
    drop(pool);
    drop((port, rx));
    assert!(runtime_directory().exists(), "a queue and a packet are left");
    assert_eq!(packet.data(), frame(1));
    drop(packet);
    drop(tx);
    assert!(!runtime_directory().exists(), "it has not ended, or left files");

    assert_eq!(
        Eal::init(&config()).unwrap_err(),
        EalError::AlreadyInitialised,
        "once is once"
    );
}
