//! EAL ends with its last user, whatever goes first, and leaves no files.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{config, frame, packet, pool, running, runtime_directory};
use dpdk::{Eal, EalError, Port, PortConfig};

#[test]
fn it_ends_with_its_last_user_and_leaves_no_files() {
    let eal = common::eal();
    assert!(running());
    assert!(!runtime_directory().exists(), "a killed process would leave it");
    let pool = pool(&eal, "last", 255);
    let (port, rx, tx) = Port::probe(&eal, "net_null0")
        .unwrap()
        .configure(&PortConfig::default(), &pool)
        .unwrap();
    let packet = packet(&pool, &frame(1));

    drop(eal);
    drop(pool);
    drop((port, rx));
    assert!(running(), "a queue and a packet are left");
    assert_eq!(packet.data(), frame(1));
    drop(packet);
    assert!(running(), "a queue is left");
    drop(tx);
    assert!(!running(), "nothing is left");

    assert_eq!(
        Eal::init(&config()).unwrap_err(),
        EalError::AlreadyInitialised,
        "once is once"
    );
}
