//! Messages of ICMPv6 as the data plane reads them: what an error quotes of a packet in a tunnel.
#![no_main]

use kedge_dataplane::stage::icmpv6_error::Icmpv6Error;
use kedge_dataplane::tunnel::error::{self, MINIMUM_MTU};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|octets: &[u8]| {
    let Some(error) = error::read(octets) else { return };
    assert!(error::is_error(octets[0]), "{error:?}");
    assert!(
        error.offset >= 48 && error.offset <= octets.len() + 20,
        "{error:?}"
    );
    let inner = octets.get(error.offset..).unwrap_or_default();
    let _ = error.is_of(inner);
    for mtu in [0, MINIMUM_MTU, u16::MAX] {
        if let Some(Icmpv6Error::PacketTooBig(told)) = error.translated(octets, 1281, mtu) {
            assert!(told >= MINIMUM_MTU);
        }
    }
    assert!(!matches!(
        error.translated(octets, 1280, 1400),
        Some(Icmpv6Error::PacketTooBig(_))
    ));
});
