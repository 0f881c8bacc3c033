//! Octets of anything as a GRE packet: what is read lies within it, and packets that are like it can be written and read.
#![no_main]

use kedge_dataplane::tunnel::gre;
use kedge_dataplane_api::model::Gre;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|octets: &[u8]| {
    let Ok(message) = gre::read(octets) else { return };
    assert!(message.offset <= octets.len());
    assert_eq!(gre::peek(octets), Ok(message));
    let tunnel = Gre { local_key: None, remote_key: message.key };
    let inner = &octets[message.offset..];
    let front = gre::overhead(&tunnel);
    let mut packet = [&vec![0; front], inner].concat();
    if gre::encapsulate(&mut packet, &[1; 16], &[2; 16], 64, &tunnel) {
        let again = gre::read(&packet[40..]).expect("our own packet can be read");
        assert_eq!((again.key, again.offset), (message.key, front - 40));
        assert_eq!(&packet[front..], inner);
    }
});
