//! Fragments of IPv4 packets (RFC 791 section 2.3): cutting a carried one that may be cut, and reading those of outer ones.

use crate::drops::DropReason;
use crate::frame::Frame;
use crate::stage::checksum::Sum;
use crate::stage::fragment::Fragment;
use crate::stage::ipv4;
use crate::stage::parse::ETHERNET_HEADER;

/// In the word with the fragment offset.
const MORE: u16 = 0x2000;
const OFFSET: u16 = 0x1fff;
/// In the type of an option: it goes into every fragment (RFC 791 section 3.1).
const COPIED: u8 = 0x80;
const END: u8 = 0;
const NO_OPERATION: u8 = 1;
/// Most octets of a header.
const LONGEST: usize = 60;
/// Octets of the largest packet that comes in by a port.
const LARGEST: usize = 9600;
/// What the smallest path takes (RFC 8200 section 5), less the longest outer headers: 64 octets, those of G-PDUs over IPv6 with
/// sequence numbers and a PDU session.
const SMALLEST: usize = 1280 - 64;

/// Most fragments that one packet is cut into: as many as the largest one needs in a tunnel whose path is the smallest, with
/// the longest header. Where a tunnel is made to take less, or its path over IPv4 does, more would be needed: such a packet is not cut.
pub const MOST_FRAGMENTS: usize = needed(LARGEST, LONGEST, SMALLEST);

/// Into how many fragments of at most `size` octets a packet is cut that has `length` octets, `header` of them in its header;
/// no fewer than it takes, whatever of its options goes into each. `size` has room for eight octets behind the header.
const fn needed(length: usize, header: usize, size: usize) -> usize {
    let rest = length.saturating_sub(size);
    // All but the last have a multiple of eight octets.
    1 + rest.div_ceil((size - header) & !7)
}

/// Whether a packet of which `octets` are all, and that may be cut, needs no more than [`MOST_FRAGMENTS`] of at most `size` octets.
///
/// # Errors
/// It needs more.
pub fn may_split(octets: &[u8], size: usize) -> Result<(), DropReason> {
    let header = ipv4::header_length(octets);
    if size < header + 8 || needed(octets.len(), header, size) > MOST_FRAGMENTS {
        return Err(DropReason::TunnelMtuTooSmall);
    }
    Ok(())
}

/// What the header of a fragment, which `octets` begin with, says; `None`: it is none.
#[must_use]
pub fn read(octets: &[u8]) -> Option<Fragment> {
    let fixed = octets.first_chunk::<{ ipv4::HEADER }>()?;
    let [_, _, _, _, i0, i1, high, low, _, protocol, ..] = *fixed;
    let word = u16::from_be_bytes([high, low]);
    let more = word & MORE != 0;
    (more || word & OFFSET != 0).then_some(Fragment {
        at: 0,
        named_at: 9,
        next_header: protocol,
        offset: usize::from(word & OFFSET) * 8,
        more,
        identification: u32::from(u16::from_be_bytes([i0, i1])),
    })
}

/// Makes the header of a first fragment that of the whole packet, which has `length` octets.
pub fn make_whole(octets: &mut [u8], length: u16) {
    let flags = octets.get(6).copied().unwrap_or_default();
    ipv4::set_word(octets, 2, length);
    // May-not-be-cut stays as it is.
    ipv4::set_word(octets, 6, u16::from_be_bytes([flags, 0]) & !(MORE | OFFSET));
}

/// Cuts the IPv4 packet in `frame` in two. `frame` becomes the first, of at most `size` octets; gives the rest, which may
/// still be larger than that. Both Ethernet headers are to be written. Whether it may be cut is not asked.
///
/// # Errors
/// There is no other frame; or `size` leaves no room for a fragment, or the packet is none. The frame is to be dropped.
pub fn split<F: Frame>(frame: &mut F, size: usize) -> Result<F, DropReason> {
    const SMALL: DropReason = DropReason::TunnelMtuTooSmall;
    let packet = frame.bytes().get(ETHERNET_HEADER..).unwrap_or_default();
    let length = ipv4::header_length(packet);
    let payload = packet.get(length..).ok_or(DropReason::Ipv4Malformed)?;
    let room = size.saturating_sub(length) & !7;
    if room == 0 {
        return Err(SMALL);
    }
    let (first, second) = payload.split_at_checked(room).ok_or(SMALL)?;
    let first = first.len();
    let [high, low] = *packet
        .get(6..8)
        .and_then(|it| it.first_chunk())
        .ok_or(DropReason::Ipv4Malformed)?;
    let word = u16::from_be_bytes([high, low]);
    // What would end beyond the longest packet there is would begin anew from 0: as another packet, that no filter has seen.
    if usize::from(word & OFFSET) * 8 + payload.len() > usize::from(u16::MAX) {
        return Err(DropReason::Ipv4Malformed);
    }
    let behind = word + (first / 8) as u16;
    let mut header = [0; LONGEST];
    let octets = copied(packet.get(..length).unwrap_or_default(), &mut header);
    let header = header.get_mut(..octets).unwrap_or_default();
    finish(header, octets + second.len(), behind);
    let mut rest = frame.sibling().ok_or(DropReason::FragmentNoBuffer)?;
    let ethernet = frame.bytes().get(..ETHERNET_HEADER).unwrap_or_default();
    rest.extend(ethernet)
        .and_then(|()| rest.extend(header))
        .and_then(|()| rest.extend(second))
        .map_err(|_| DropReason::FragmentNoBuffer)?;
    frame.truncate(ETHERNET_HEADER + length + first);
    let header = frame
        .bytes_mut()
        .get_mut(ETHERNET_HEADER..ETHERNET_HEADER + length);
    finish(header.unwrap_or_default(), length + first, word | MORE);
    Ok(rest)
}

/// Writes the header of all fragments but the first, with those options of `header` that go into each; its length, octets.
fn copied(header: &[u8], to: &mut [u8; LONGEST]) -> usize {
    let (Some(fixed), Some(place)) = (header.first_chunk(), to.first_chunk_mut::<{ ipv4::HEADER }>()) else {
        return 0;
    };
    *place = *fixed;
    let mut end = ipv4::HEADER;
    let mut at = ipv4::HEADER;
    while let Some(kind) = header.get(at).copied().filter(|kind| *kind != END) {
        let length = match (kind, header.get(at + 1)) {
            (NO_OPERATION, _) => 1,
            (_, Some(length)) if *length >= 2 => usize::from(*length),
            _ => break,
        };
        let Some(option) = header.get(at..at + length) else {
            break;
        };
        // It is no longer than what it is copied from.
        if kind & COPIED != 0
            && let Some(place) = to.get_mut(end..end + length)
        {
            place.copy_from_slice(option);
            end += length;
        }
        at += length;
    }
    // What follows is zero: the end of the options.
    let octets = end.next_multiple_of(4);
    to[0] = 0x40 | (octets / 4) as u8;
    octets
}

/// Writes the packet's length, where it is in the whole one, and the checksum.
fn finish(header: &mut [u8], length: usize, word: u16) {
    if let Some(fixed) = header.first_chunk_mut::<{ ipv4::HEADER }>() {
        // It is in one frame.
        fixed[2..4].copy_from_slice(&(length as u16).to_be_bytes());
        fixed[6..8].copy_from_slice(&word.to_be_bytes());
        fixed[10..12].copy_from_slice(&[0, 0]);
    }
    let checksum = Sum::default().octets(header).checksum().to_be_bytes();
    if let Some(place) = header.get_mut(10..12) {
        place.copy_from_slice(&checksum);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::frame::HeapFrame;

    /// With an Ethernet header, `word` where a fragment's offset is.
    fn packet(options: &[u8], word: u16, payload: usize) -> Vec<u8> {
        let header = 20 + options.len();
        let mut packet = vec![
            0x40 | (header / 4) as u8,
            0x2e,
            0,
            0,
            0x12,
            0x34,
            0,
            0,
            61,
            17,
            0,
            0,
        ];
        packet.extend_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        packet.extend_from_slice(options);
        finish(&mut packet, header + payload, word);
        packet.extend((0..payload).map(|at| (at * 7 / 3) as u8));
        [&[0xee; 14][..], &packet].concat()
    }

    /// What a host makes of fragments: the payload, and the word that the whole packet had.
    fn joined(fragments: &[Vec<u8>]) -> (Vec<u8>, u16) {
        let mut payload = Vec::new();
        let word = |it: &[u8]| u16::from_be_bytes([it[20], it[21]]);
        let base = word(&fragments[0]) & OFFSET;
        for (at, fragment) in fragments.iter().enumerate() {
            let packet = &fragment[14..];
            let read = ipv4::read(packet).unwrap();
            assert_eq!(read.length, packet.len());
            assert_eq!(
                (packet[1], &packet[4..6], packet[8], packet[9]),
                (0x2e, &[0x12, 0x34][..], 61, 17)
            );
            assert_eq!(usize::from((word(fragment) & OFFSET) - base) * 8, payload.len());
            assert!(at + 1 == fragments.len() || word(fragment) & MORE != 0);
            payload.extend_from_slice(&packet[ipv4::header_length(packet)..]);
        }
        let last = word(fragments.last().unwrap());
        (payload, last & !OFFSET | base)
    }

    fn all(whole: &[u8], size: usize) -> Result<Vec<Vec<u8>>, DropReason> {
        let mut fragments = Vec::new();
        let mut frame = HeapFrame::new(whole);
        while frame.bytes().len() > ETHERNET_HEADER + size {
            let rest = split(&mut frame, size)?;
            fragments.push(frame.bytes().to_vec());
            frame = rest;
        }
        fragments.push(frame.bytes().to_vec());
        Ok(fragments)
    }

    proptest! {
        #[test]
        fn fragments_are_the_packet_again(
            payload in 1usize..1900,
            size in 68usize..1500,
            offset in 0u16..0x1e00,
            more in any::<bool>(),
            options in prop::sample::select(vec![vec![], vec![148u8, 4, 0, 0], vec![7, 7, 4, 0, 0, 0, 0, 0], vec![1; 40]]),
        ) {
            let word = offset | if more { MORE } else { 0 };
            let whole = packet(&options, word, payload);
            let fragments = all(&whole, size).unwrap();
            prop_assert!(fragments.len() <= needed(whole.len() - ETHERNET_HEADER, 20 + options.len(), size));
            prop_assert!(fragments.iter().all(|it| it.len() <= ETHERNET_HEADER + size));
            let (joined, after) = joined(&fragments);
            prop_assert_eq!(&joined, &whole[34 + options.len()..]);
            prop_assert_eq!(after, word);
        }
    }

    #[test]
    fn only_some_options_are_copied() {
        // Record route is not, router alert is.
        let whole = packet(&[7, 3, 4, 1, 148, 4, 0, 0], 0, 110);
        let fragments = all(&whole, 76).unwrap();
        assert_eq!(fragments.len(), 3);
        assert_eq!(fragments[0][14], 0x47);
        assert_eq!(fragments[1][14], 0x46);
        assert_eq!(fragments[1][34..38], [148, 4, 0, 0]);
        // What cannot be read is not copied.
        for options in [[148, 9, 0, 0], [148, 1, 0, 0], [0, 148, 4, 0]] {
            assert_eq!(
                all(&packet(&options, 0, 100), 76).unwrap()[1][14],
                0x45,
                "{options:?}"
            );
        }
    }

    #[test]
    fn there_are_no_more_fragments_than_there_is_room_for() {
        assert_eq!(MOST_FRAGMENTS, 9);
        let cut = |size| may_split(&packet(&[], 0, 1480)[ETHERNET_HEADER..], size);
        assert_eq!((cut(200), cut(160)), (Ok(()), Err(DropReason::TunnelMtuTooSmall)));
        assert_eq!((cut(28), cut(27)), (cut(160), cut(160)));
    }

    #[test]
    fn what_cannot_be_cut_is_refused() {
        assert_eq!(all(&packet(&[], 0, 100), 27), Err(DropReason::TunnelMtuTooSmall));
        assert_eq!(
            all(&packet(&[1; 40], 0, 100), 67),
            Err(DropReason::TunnelMtuTooSmall)
        );
        let mut frame = HeapFrame::new(&[0xee; 16]);
        assert!(split(&mut frame, 8).is_err());
    }
}
