//! Messages of ICMPv6, and of ICMPv4, as the data plane reads them: what an error quotes of a packet in a tunnel.
#![no_main]

use kedge_dataplane::stage::icmpv6_error::Icmpv6Error;
use kedge_dataplane::tunnel::error::{self, Carried, MINIMUM_MTU, TunnelError, icmpv4};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|octets: &[u8]| {
    if let Some(error) = icmpv4::read(octets) {
        assert!(matches!(octets[0], 3 | 11 | 12), "{error:?}");
        // Room for the headers of an error of ours, whose place they take.
        assert!(error.offset >= 36 && error.offset <= error.end && error.end <= octets.len(), "{error:?}");
        assert!(error.carried != Carried::Unknown || error.too_big().is_some(), "{error:?}");
        translated(&error, octets);
    }
    let Some(error) = error::read(octets) else { return };
    assert!((1..=4).contains(&octets[0]), "{error:?}");
    assert!(
        error.offset >= 48 && error.offset <= octets.len() + 20,
        "{error:?}"
    );
    translated(&error, octets);
});

fn translated(error: &TunnelError, octets: &[u8]) {
    let _ = error.is_of(error.inner(octets));
    for mtu in [0, MINIMUM_MTU, u16::MAX] {
        if let Some(Icmpv6Error::PacketTooBig(told)) = error.translated(octets, 1281, mtu) {
            assert!(told >= MINIMUM_MTU);
        }
    }
    assert!(!matches!(
        error.translated(octets, 1280, 1400),
        Some(Icmpv6Error::PacketTooBig(_))
    ));
}
