//! A packet that is leaked on purpose keeps the memory it lies in.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use common::{frame, packet, pool, running};

#[test]
fn a_leaked_packet_keeps_its_memory() {
    let eal = common::eal();
    let pool = pool(&eal, "leaked", 63);
    let octets: &'static [u8] = Box::leak(Box::new(packet(&pool, &frame(1)))).data();
    drop(pool);
    drop(eal);
    assert!(running());
    assert_eq!(octets, frame(1));
}
