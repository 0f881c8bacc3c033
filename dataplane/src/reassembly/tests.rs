#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::frame::HeapFrame;
use crate::stage::checksum::Sum;

const SECOND: u64 = 1_000_000;

fn table(fragments: usize) -> Reassembly<HeapFrame> {
    Reassembly::new(Bounds {
        fragments,
        cycles_per_second: SECOND,
        seed: 0x1234_5678_9abc_def0,
    })
}

/// A fragment with these octets at `offset`, behind options if `options`.
fn piece(identification: u32, offset: usize, more: bool, content: &[u8], options: bool) -> HeapFrame {
    let mut packet = vec![0x60, 0, 0, 0, 0, 0, if options { 60 } else { 44 }, 64];
    packet.extend_from_slice(&[0x20; 16]);
    packet.extend_from_slice(&[0x30; 16]);
    if options {
        packet.extend_from_slice(&[44, 0, 4, 1, 4, 1, 1, 0]);
    }
    packet.extend_from_slice(&[41, 0]);
    packet.extend_from_slice(&(offset as u16 | u16::from(more)).to_be_bytes());
    packet.extend_from_slice(&identification.to_be_bytes());
    packet.extend_from_slice(content);
    let length = (packet.len() - 40) as u16;
    packet[4..6].copy_from_slice(&length.to_be_bytes());
    HeapFrame::new(&[&[0xee; 14][..], &packet].concat())
}

fn fragment(identification: u32, offset: usize, more: bool, content: &[u8]) -> HeapFrame {
    piece(identification, offset, more, content, false)
}

/// The same of UDP over IPv4, behind options if `options`.
fn piece4(identification: u16, offset: usize, more: bool, content: &[u8], options: bool) -> HeapFrame {
    let mut packet = whole4(content, options);
    let [high, low] = ((offset / 8) as u16 | u16::from(more) << 13).to_be_bytes();
    packet[4..6].copy_from_slice(&identification.to_be_bytes());
    packet[6..8].copy_from_slice(&[high, low]);
    checked(&mut packet);
    HeapFrame::new(&[&[0xee; 14][..], &packet].concat())
}

/// A whole one, its number that of no packet.
fn whole4(content: &[u8], options: bool) -> Vec<u8> {
    let mut packet = vec![
        if options { 0x46 } else { 0x45 },
        0,
        0,
        0,
        0,
        7,
        0,
        0,
        64,
        17,
        0,
        0,
    ];
    packet.extend_from_slice(&[198, 51, 100, 2, 192, 0, 2, 1]);
    if options {
        packet.extend_from_slice(&[148, 4, 0, 0]);
    }
    packet.extend_from_slice(content);
    let length = (packet.len() as u16).to_be_bytes();
    packet[2..4].copy_from_slice(&length);
    checked(&mut packet);
    packet
}

fn checked(packet: &mut [u8]) {
    let header = ipv4::header_length(packet);
    packet[10..12].fill(0);
    let checksum = Sum::default().octets(&packet[..header]).checksum();
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
}

fn content(length: usize) -> Vec<u8> {
    (0..length).map(|at| ((at * 31) >> 3) as u8).collect()
}

fn whole(content: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0, 0, 0, 41, 64];
    packet[4..6].copy_from_slice(&(content.len() as u16).to_be_bytes());
    packet.extend_from_slice(&[0x20; 16]);
    packet.extend_from_slice(&[0x30; 16]);
    packet.extend_from_slice(content);
    packet
}

#[test]
fn in_any_order_they_become_what_they_were() {
    let octets = content(1300);
    let pieces = [(0, 800, true), (800, 400, true), (1200, 100, false)];
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let mut table = table(100);
        for (turn, which) in order.into_iter().enumerate() {
            let (offset, length, more) = pieces[which];
            let taken = table.take(fragment(7, offset, more, &octets[offset..offset + length]), 0);
            assert!(taken.dropped.is_empty());
            match taken.whole {
                Some(frame) => {
                    assert_eq!(turn, 2);
                    assert_eq!(frame.bytes()[14..], whole(&octets));
                }
                None => assert!(turn < 2),
            }
        }
        assert_eq!(table.fragments(), 0);
    }
}

#[test]
fn headers_in_front_stay_and_congestion_marks_are_carried_over() {
    let octets = content(1300);
    let mut table = table(100);
    table.take(piece(7, 0, true, &octets[..1200], true), 0);
    let mut marked = piece(7, 1200, false, &octets[1200..], true);
    marked.bytes_mut()[15] |= 3 << 4;
    let frame = table.take(marked, 0).whole.unwrap();
    let packet = &frame.bytes()[14..];
    assert_eq!(packet[..8], [0x60, 0x30, 0, 0, 0x05, 0x1c, 60, 64]);
    assert_eq!(packet[40..48], [41, 0, 4, 1, 4, 1, 1, 0]);
    assert_eq!(packet[48..], octets);
}

#[test]
fn over_ipv4_they_become_what_they_were_too() {
    let octets = content(1300);
    let pieces = [(0, 800, true), (800, 400, true), (1200, 100, false)];
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        for options in [false, true] {
            let mut table = table(100);
            // One of IPv6 with the same number, and one of IPv4 with another.
            table.take(fragment(7, 0, true, &octets[..800]), 0);
            table.take(piece4(8, 800, true, &octets[..400], false), 0);
            for (turn, which) in order.into_iter().enumerate() {
                let (offset, length, more) = pieces[which];
                // Those options are in the first one only that are not copied.
                let of_it = options && which == 0;
                let piece = piece4(7, offset, more, &octets[offset..offset + length], of_it);
                let taken = table.take(piece, 0);
                assert!(taken.dropped.is_empty());
                assert_eq!(taken.whole.is_some(), turn == 2);
                if let Some(frame) = taken.whole {
                    assert_eq!(frame.bytes()[14..], whole4(&octets, options));
                }
            }
            assert_eq!(table.fragments(), 2);
        }
    }
}

#[test]
fn over_ipv4_congestion_marks_are_carried_over_and_what_is_malformed_is_dropped() {
    let octets = content(1300);
    let mut table = table(100);
    table.take(piece4(7, 0, true, &octets[..1200], false), 0);
    let mut marked = piece4(7, 1200, false, &octets[1200..], false);
    ipv4::set_traffic_class(&mut marked.bytes_mut()[14..], 3);
    let frame = table.take(marked, 0).whole.unwrap();
    assert_eq!(frame.bytes()[15], 3);
    assert!(Sum::default().octets(&frame.bytes()[14..34]).is_right());
    assert_eq!(frame.bytes()[34..], octets);
    let wrong = DropReason::FragmentMalformed;
    for frame in [
        piece4(7, 0, true, &octets[..97], false),
        piece4(7, 0, true, &[], false),
        piece4(7, 65_528, false, &octets[..8], false),
        piece4(7, 65_504, false, &octets[..16], false),
        HeapFrame::new(&[&[0xee; 14][..], &whole4(&octets, false)].concat()),
    ] {
        assert_eq!(table.take(frame, 0).dropped.to_vec(), [(wrong, 1)]);
    }
    let longest = piece4(7, 65_504, false, &octets[..11], false);
    assert!(table.take(longest, 0).dropped.is_empty(), "65,535 octets");
}

#[test]
fn what_overlaps_is_dropped_with_all_that_comes_of_it() {
    let octets = content(1300);
    let take = |table: &mut Reassembly<HeapFrame>, offset: usize, more, length: usize| {
        let taken = table.take(fragment(7, offset, more, &octets[offset..offset + length]), 0);
        assert!(taken.whole.is_none());
        taken.dropped.to_vec()
    };
    // An overlap; a second last one; one behind the last; a last one before others.
    let cases: [&[(usize, bool, usize)]; 4] = [
        &[(0, true, 800), (792, true, 400)],
        &[(1200, false, 100), (1240, false, 60)],
        &[(800, false, 100), (1200, true, 80)],
        &[(1200, true, 80), (800, false, 100)],
    ];
    for case in cases {
        let mut table = table(100);
        let [(offset, more, length), (second, last, other)] = case else {
            unreachable!()
        };
        assert_eq!(take(&mut table, *offset, *more, *length), []);
        let overlap = DropReason::FragmentOverlap;
        assert_eq!(take(&mut table, *second, *last, *other), [(overlap, 2)]);
        assert_eq!(
            take(&mut table, 0, true, 640),
            [(overlap, 1)],
            "and what comes later"
        );
        assert_eq!(table.fragments(), 0);
    }
    let mut table = table(100);
    take(&mut table, 0, true, 800);
    assert_eq!(
        take(&mut table, 0, true, 800),
        [(DropReason::FragmentDuplicate, 1)]
    );
    assert!(
        table
            .take(fragment(7, 800, false, &octets[800..]), 0)
            .whole
            .is_some()
    );
}

#[test]
fn what_is_no_fragment_is_malformed() {
    let octets = content(100);
    let wrong = DropReason::FragmentMalformed;
    for frame in [
        fragment(7, 0, true, &octets[..97]),
        fragment(7, 0, true, &[]),
        fragment(7, 65_528, false, &octets),
        HeapFrame::new(&[&[0xee; 14][..], &whole(&octets)].concat()),
    ] {
        assert_eq!(table(10).take(frame, 0).dropped.to_vec(), [(wrong, 1)]);
    }
}

#[test]
fn a_flood_of_what_never_becomes_whole_costs_itself() {
    let octets = content(64);
    let mut table = table(64);
    let mut identification = 0;
    for now in (0..10_000).step_by(10) {
        for _ in 0..8 {
            identification += 1;
            for part in 0..PARTS {
                let part = fragment(identification, part * 8, true, &octets[..8]);
                assert!(table.take(part, now).whole.is_none());
            }
        }
        // In its midst.
        table.take(fragment(u32::MAX, 0, true, &octets[..8]), now + 5);
        let taken = table.take(fragment(u32::MAX, 8, false, &octets[8..16]), now + 6);
        assert!(taken.whole.is_some(), "at {now}");
        assert!(table.fragments() <= 64);
    }
}

#[test]
fn nothing_grows_without_bound() {
    let octets = content(4096);
    let mut small = table(10);
    let full = DropReason::ReassemblyFull;
    for identification in 0..10 {
        assert!(
            small
                .take(fragment(identification, 0, true, &octets[..8]), 0)
                .dropped
                .is_empty()
        );
    }
    // More fragments than may wait: an older datagram goes, with all that has come of it, and the new one comes whole.
    let taken = small.take(fragment(77, 0, true, &octets[..8]), 1);
    assert_eq!((taken.dropped.to_vec(), small.fragments()), (vec![(full, 1)], 10));
    let rest = small.take(fragment(77, 8, false, &octets[8..16]), 1);
    assert_eq!(rest.dropped.to_vec(), [(full, 1)]);
    assert_eq!((rest.whole.is_some(), small.fragments()), (true, 8));
    // There is nothing but this one.
    let mut one = table(1);
    assert!(one.take(fragment(7, 0, true, &octets[..8]), 0).dropped.is_empty());
    let dropped = one.take(fragment(7, 8, true, &octets[8..16]), 0).dropped;
    assert_eq!((dropped.to_vec(), one.fragments()), (vec![(full, 1)], 1));
    // More datagrams than there is room for: the older ones go.
    let mut flooded = table(usize::MAX);
    let (mut gone, sent) = (0, 100 * DATAGRAMS as u64);
    for identification in 0..sent {
        let taken = flooded.take(
            fragment(identification as u32, 0, true, &octets[..8]),
            identification,
        );
        gone += taken
            .dropped
            .iter()
            .map(|(reason, count)| {
                assert_eq!(*reason, full);
                *count
            })
            .sum::<u64>();
    }
    assert_eq!(gone + flooded.fragments() as u64, sent);
    assert!(flooded.fragments() <= DATAGRAMS);
    let newest = fragment(sent as u32 - 1, 8, false, &octets[8..16]);
    assert!(flooded.take(newest, sent).whole.is_some(), "the newest is there");
    // More fragments than a datagram may have.
    let mut many = table(100);
    for part in 0..PARTS {
        assert!(
            many.take(fragment(7, part * 8, true, &octets[..8]), 0)
                .dropped
                .is_empty()
        );
    }
    let dropped = many.take(fragment(7, PARTS * 8, true, &octets[..8]), 0).dropped;
    assert_eq!(
        dropped.to_vec(),
        [(DropReason::FragmentsTooMany, PARTS as u64 + 1)]
    );
    // More octets than a frame has room for.
    let mut long = table(100);
    assert!(
        long.take(fragment(7, 0, true, &octets[..1200]), 0)
            .dropped
            .is_empty()
    );
    let taken = long.take(fragment(7, 1200, false, &octets[..1200]), 0);
    assert_eq!(taken.dropped.to_vec(), [(DropReason::ReassemblyTooLong, 2)]);
    assert_eq!((many.fragments(), long.fragments()), (0, 0));
    let none = Reassembly::default().take(fragment(7, 0, true, &octets[..8]), 0);
    assert_eq!(none.dropped.to_vec(), [(full, 1)]);
}

#[test]
fn what_waits_too_long_is_forgotten() {
    let mut table = table(100);
    let octets = content(100);
    let wait = SECOND / 1000 * WAIT_MS;
    table.take(fragment(1, 0, true, &octets[..8]), 0);
    table.take(fragment(1, 8, true, &octets[..8]), wait / 2);
    table.take(fragment(2, 0, true, &octets[..8]), wait / 2);
    assert_eq!(table.expire(wait - 1), 0);
    assert_eq!(table.expire(wait), 2);
    assert_eq!(table.expire(wait), 0);
    assert_eq!(table.fragments(), 1);
    assert!(
        table
            .take(fragment(2, 8, false, &octets[8..]), wait)
            .whole
            .is_some()
    );
    assert_eq!(table.expire(10 * wait), 0);
    // Over IPv4 numbers come round sooner.
    let short = SECOND / 1000 * WAIT_IPV4_MS;
    table.take(fragment(3, 0, true, &octets[..8]), 0);
    table.take(piece4(3, 0, true, &octets[..8], false), 0);
    assert_eq!(table.expire(short - 1), 0);
    assert_eq!(table.expire(short), 1);
    assert_eq!(table.expire(wait), 1);
}

/// As the RFC says it: octets by their place, and an overlap spoils the datagram.
#[derive(Default)]
struct Slow {
    octets: BTreeMap<usize, u8>,
    seen: Vec<(usize, usize, bool)>,
    total: Option<usize>,
    spoiled: bool,
}

impl Slow {
    fn take(&mut self, offset: usize, more: bool, content: &[u8]) -> Option<Vec<u8>> {
        if self.spoiled || self.seen.contains(&(offset, content.len(), more)) {
            return None;
        }
        let end = offset + content.len();
        let largest = self.octets.keys().last().map_or(0, |last| last + 1);
        let places = offset..end;
        if self.total.is_some_and(|total| end > total || !more)
            || (!more && largest > end)
            || places.clone().any(|at| self.octets.contains_key(&at))
        {
            self.spoiled = true;
            return None;
        }
        self.seen.push((offset, content.len(), more));
        self.octets.extend(places.zip(content.iter().copied()));
        if !more {
            self.total = Some(end);
        }
        (self.total == Some(self.octets.len())).then(|| self.octets.values().copied().collect())
    }
}

proptest! {
    /// The same packets come out as of the slow one, and every fragment is waiting, in a packet, or counted.
    #[test]
    fn it_is_the_slow_one(
        fragments in prop::collection::vec((0u32..3, 0usize..6, 1usize..4, any::<bool>()), 1..20),
        over_ipv4 in any::<bool>(),
    ) {
        let header = 14 + if over_ipv4 { ipv4::HEADER } else { parse::IPV6_HEADER };
        let octets = content(200);
        let mut table = table(1000);
        let mut slow: [Slow; 3] = Default::default();
        let (mut dropped, mut used, mut taken_in) = (0, 0, 0);
        for (identification, unit, units, more) in fragments {
            let slow = &mut slow[identification as usize];
            let (offset, length) = (unit * 8, units * 8);
            let content = &octets[offset..offset + length];
            // What is its own only fragment is none over IPv4.
            if over_ipv4 && offset == 0 && !more {
                continue;
            }
            let frame = if over_ipv4 {
                piece4(identification as u16, offset, more, content, false)
            } else {
                fragment(identification, offset, more, content)
            };
            taken_in += 1;
            let taken = table.take(frame, 0);
            let expected = slow.take(offset, more, content);
            dropped += taken.dropped.iter().map(|(_, count)| *count).sum::<u64>();
            let got = taken.whole.map(|frame| frame.bytes()[header..].to_vec());
            prop_assert_eq!(&got, &expected);
            if got.is_some() {
                used += slow.seen.len() as u64;
                *slow = Slow::default();
            }
            prop_assert_eq!(taken_in, dropped + used + table.fragments() as u64);
        }
    }
}
