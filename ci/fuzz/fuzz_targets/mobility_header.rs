//! A Mobility Header as a peer may send it: it never panics, and what is read survives being sent.
#![no_main]

use std::net::Ipv6Addr;

use kedge_controlplane::wire::mobility::{
    EmitError, MAXIMUM_OCTETS, MobilityError, MobilityMessage, emit, parse,
};
use libfuzzer_sys::fuzz_target;

const SOURCE: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0, 0, 0, 0, 1);
const DESTINATION: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, 1);

fuzz_target!(|octets: &[u8]| {
    // As it came, with the checksum made to fit, and with Header Len made to fit too.
    let _ = parse(SOURCE, DESTINATION, octets);
    let mut octets = octets.to_vec();
    check(&mut octets);
    octets.truncate(octets.len().min(MAXIMUM_OCTETS) / 8 * 8);
    if octets.len() >= 8 {
        octets[0] = 59;
        octets[1] = (octets.len() / 8 - 1) as u8;
        check(&mut octets);
    }
});

fn check(octets: &mut [u8]) {
    if let Err(MobilityError::Checksum { expected, .. }) = parse(SOURCE, DESTINATION, octets) {
        octets[4..6].copy_from_slice(&expected.to_be_bytes());
    }
    let mut message = match parse(SOURCE, DESTINATION, octets) {
        Ok(message) => message,
        Err(error) => {
            assert!(
                !matches!(error, MobilityError::Checksum { .. }),
                "the expected checksum is not: {error}"
            );
            return;
        }
    };
    match &mut message {
        MobilityMessage::ProxyBindingUpdate(update) => update.options.unknown = 0,
        MobilityMessage::ProxyBindingAcknowledgement(acknowledgement) => acknowledgement.options.unknown = 0,
        MobilityMessage::UpdateNotification(it) => it.options.unknown = 0,
        MobilityMessage::UpdateNotificationAcknowledgement(it) => it.options.unknown = 0,
        MobilityMessage::BindingError(_) | MobilityMessage::Other(_) => {}
    }
    match emit(&message, SOURCE, DESTINATION) {
        Ok(emitted) => assert_eq!(parse(SOURCE, DESTINATION, &emitted).as_ref(), Ok(&message)),
        Err(EmitError::Type(mh_type)) => assert_eq!(message, MobilityMessage::Other(mh_type)),
        // A sender pads where a peer may not have: options that repeat grow by less than half.
        Err(EmitError::MessageTooLong { .. }) => assert!(octets.len() * 3 / 2 + 64 > MAXIMUM_OCTETS),
        Err(error) => panic!("{message:?} was read but cannot be sent: {error}"),
    }
}
