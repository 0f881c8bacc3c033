//! UDP packets of anything as GTP-U: what is read lies within them, and an answer to it can be read again.
#![no_main]

use kedge_dataplane::frame::{Frame, HeapFrame};
use kedge_dataplane::tunnel::gtpu::{self, Answer, Problem};
use libfuzzer_sys::fuzz_target;

const HEADERS: usize = 14 + 40;

fuzz_target!(|octets: &[u8]| {
    let message = match gtpu::read(octets) {
        Ok(message) => {
            assert!(16 <= message.offset && message.offset <= message.end && message.end <= octets.len());
            message
        }
        Err(Problem::ExtensionUnsupported(message)) => message,
        Err(_) => return,
    };
    let answers = [
        (Answer::EchoResponse, gtpu::message_type::ECHO_RESPONSE),
        (Answer::ErrorIndication, gtpu::message_type::ERROR_INDICATION),
        (
            Answer::SupportedExtensionHeadersNotification,
            gtpu::message_type::SUPPORTED_EXTENSION_HEADERS_NOTIFICATION,
        ),
    ];
    for (answer, kind) in answers {
        let mut frame = HeapFrame::new(&[&[0; HEADERS], octets].concat());
        assert!(gtpu::answer(&mut frame, answer, &message, 1, 2));
        let said = gtpu::read(&frame.bytes()[HEADERS..]).expect("our own message can be read");
        assert_eq!((said.kind, said.teid), (kind, 0));
        if answer == Answer::EchoResponse {
            assert_eq!(said.sequence, Some(message.sequence.unwrap_or(0)));
        }
    }
});
