//! UDP payloads of anything as GTP-U messages about paths: what can be read is written the same.
#![no_main]

use kedge_controlplane::wire::gtpu::Message;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|octets: &[u8]| {
    if let Ok(message) = Message::parse(octets) {
        assert_eq!(Message::parse(&message.emit()), Ok(message));
    }
});
