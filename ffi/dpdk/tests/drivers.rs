//! The drivers that Kedge names in its documentation are there: the plugins that
//! EAL loads by itself answer to their device strings.

use dpdk::{Eal, EalConfig, Port};

#[test]
fn virtual_drivers_are_loaded() {
    let eal = Eal::init(&EalConfig::default()).unwrap();
    for (device, driver) in [
        ("net_null0", "net_null"),
        ("net_ring0", "net_ring"),
        ("net_memif0", "net_memif"),
    ] {
        let port = Port::probe(&eal, device).unwrap();
        assert_eq!(port.info().unwrap().driver, driver, "{device}");
    }
}
