//! Packets of anything as fragments, as packets with a tunnel encapsulation limit, and as SYNs: what is read lies
//! within them, what is written changes no length, and fragments of what is cut become what it was.
#![no_main]

use kedge_dataplane::frame::{Frame, HeapFrame};
use kedge_dataplane::reassembly::{Bounds, Reassembly};
use kedge_dataplane::stage::{fragment, mss};
use kedge_dataplane::tunnel::ip6_in_ip6;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|octets: &[u8]| {
    if let Some((at, limit)) = ip6_in_ip6::limit_of(octets) {
        assert_eq!(octets[at], limit);
    }
    let mut clamped = octets.to_vec();
    if mss::clamp(&mut clamped, 1220) {
        assert_eq!(clamped.len(), octets.len());
        assert!(mss::may_be_syn(octets, octets[6]));
        assert!(!mss::clamp(&mut clamped, 1220));
    }
    if let Ok(header) = fragment::read(octets) {
        assert!(header.at + 8 <= octets.len() && header.offset % 8 == 0);
    }
    // Pieces of the input as frames: a length, and so many octets.
    let mut table = Reassembly::new(Bounds {
        fragments: 64,
        cycles_per_second: 1000,
        seed: 1,
    });
    let (mut rest, mut sent, mut ended) = (octets, 0, 0);
    while let Some((length, behind)) = rest.split_first() {
        let (piece, behind) = behind.split_at(behind.len().min(usize::from(*length)));
        rest = behind;
        sent += 1;
        let taken = table.take(HeapFrame::new(&[&[0; 14], piece].concat()), sent);
        ended += taken.dropped.iter().map(|(_, count)| *count).sum::<u64>();
        if let Some(frame) = taken.whole {
            // All the fragments that it was made of, of which there were one or more.
            assert!(frame.bytes().len() >= 14 + 40);
            ended = sent - table.fragments() as u64;
        }
        assert_eq!(ended + table.fragments() as u64, sent);
    }
});
