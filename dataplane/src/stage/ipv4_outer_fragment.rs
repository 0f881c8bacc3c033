//! Outer packets over IPv4 in fragments (RFC 791 section 2.3): those with an inner packet of up to 1,280 octets of IPv6, which nobody
//! has to make smaller, on a path that takes less (RFC 4213 section 3.2.2, RFC 2473 section 7.1 (b)).
//!
//! All others say that they are not to be fragmented. These may be cut again on their way: a path that is narrower still is learned
//! from those that may not. They always have a UDP checksum: their identification has 16 bits, so what is put together may
//! be of two packets, and this is what shows it (RFC 4963, RFC 6864 section 5.3).

use arrayvec::ArrayVec;

use crate::drops::DropReason;
use crate::frame::Frame;
use crate::stage::checksum::Sum;
use crate::stage::ipv4;
use crate::stage::ipv4_fragment::{self, MOST_FRAGMENTS};
use crate::stage::parse::ETHERNET_HEADER;
use crate::tunnel::gtpu;

/// All fragments of a packet but the first.
pub type Rest<F> = ArrayVec<F, { MOST_FRAGMENTS - 1 }>;

/// Cuts the packet in `frame`, which a tunnel over IPv4 has made, in as many of at most `size` octets as it takes. `frame` becomes the
/// first; gives the others in their order. Ethernet headers are to be written.
///
/// # Errors
/// It would take more than [`MOST_FRAGMENTS`], there are not so many other frames, or it is no UDP packet. The frame is to be dropped.
pub fn split<F: Frame>(frame: &mut F, size: usize, identification: u16) -> Result<Rest<F>, DropReason> {
    let packet = frame.bytes_mut().get_mut(ETHERNET_HEADER..).unwrap_or_default();
    // All of it goes, or nothing.
    ipv4_fragment::may_split(packet, size)?;
    make_divisible(packet, identification)?;
    let mut rest: Rest<F> = ArrayVec::new();
    let mut last = frame;
    while last.bytes().len() > ETHERNET_HEADER + size {
        let next = ipv4_fragment::split(last, size)?;
        rest.try_push(next).map_err(|_| DropReason::TunnelMtuTooSmall)?;
        let Some(pushed) = rest.last_mut() else {
            break;
        };
        last = pushed;
    }
    Ok(rest)
}

/// Makes an outer packet, as it is written for one piece, one that may come in several: with a UDP checksum, an identification, and
/// without what forbids it.
fn make_divisible(packet: &mut [u8], identification: u16) -> Result<(), DropReason> {
    const WRONG: DropReason = DropReason::Ipv4Malformed;
    if ipv4::header_length(packet) != ipv4::HEADER || packet.get(9) != Some(&gtpu::UDP) {
        return Err(WRONG);
    }
    let length = packet.len().checked_sub(ipv4::HEADER).ok_or(WRONG)?;
    let field = ipv4::HEADER + 6..ipv4::HEADER + gtpu::UDP_HEADER;
    packet.get_mut(field.clone()).ok_or(WRONG)?.fill(0);
    // The pseudo-header (RFC 768) is the addresses, which are in front of the UDP header, and two numbers.
    let sum = Sum::default()
        .octets(packet.get(12..).ok_or(WRONG)?)
        .number(length as u64 + u64::from(gtpu::UDP));
    packet
        .get_mut(field)
        .ok_or(WRONG)?
        .copy_from_slice(&sum.udp_checksum().to_be_bytes());
    ipv4::set_word(packet, 4, identification);
    ipv4::set_word(packet, 6, 0);
    Ok(())
}

/// Identifications of the packets that one worker sends in fragments over IPv4: none twice in as many as there are numbers for each
/// worker, none that another worker of the same seed uses meanwhile, and not the next number to the last one.
///
/// RFC 6864 section 4.3 asks for no repetition while a fragment may be on its way, for each pair of addresses. To remember pairs
/// would cost memory that whoever makes paths narrow could fill, so all share one sequence: with `n` workers it comes round
/// after 65,536 / n packets. At rates that this is too few for, the checksum is what tells.
#[derive(Clone, Debug)]
pub struct Identifications {
    next: u16,
    first: u16,
    step: u16,
    seed: u64,
}

impl Identifications {
    /// For worker number `worker` of `workers`; outsiders must not know `seed`.
    #[must_use]
    pub fn new(worker: usize, workers: usize, seed: u64) -> Self {
        let step = u16::try_from(workers.max(1)).unwrap_or(u16::MAX);
        let first = (worker % usize::from(step)) as u16;
        Self {
            next: first,
            first,
            step,
            seed,
        }
    }

    /// The next one.
    #[must_use]
    pub fn take(&mut self) -> u16 {
        let mut number = self.next ^ self.seed as u16;
        self.next = self.next.checked_add(self.step).unwrap_or(self.first);
        // Each step can be undone, so different numbers stay different.
        for (shift, part) in [(7, self.seed >> 16), (9, self.seed >> 32), (8, self.seed >> 48)] {
            number = (number ^ number >> shift).wrapping_mul(0x3c6d);
            number ^= part as u16;
        }
        number ^ number >> 8
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;
    use crate::frame::HeapFrame;
    use crate::stage::parse::Packet;
    use crate::tunnel::outer::Shown;
    use kedge_dataplane_api::model::GtpU;
    use std::num::NonZeroU32;

    const LOCAL: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1];
    const REMOTE: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 198, 51, 100, 2];

    /// A G-PDU as a tunnel makes it, with a code point; its payload is any octets.
    fn outer(inner: usize, pattern: u8) -> Vec<u8> {
        let tunnel = GtpU {
            local_teid: NonZeroU32::new(1).unwrap(),
            remote_teid: NonZeroU32::new(0xdead_beef).unwrap(),
            pdu_session: None,
            sequence_numbers: false,
        };
        let mut packet = vec![0; 36];
        packet.extend((0..inner).map(|at| ((at * 7) >> 2) as u8 ^ pattern));
        let shown = |_: &[u8]| {
            Some(Shown {
                flow: 0x12345,
                ecn: 1,
                ethertype: 0x86dd,
            })
        };
        assert!(gtpu::encapsulate_any_in_ipv4(
            &mut packet,
            &LOCAL,
            &REMOTE,
            61,
            &tunnel,
            0,
            shown
        ));
        crate::tunnel::outer::mark(&mut packet, 36, 46);
        packet
    }

    fn cut(packet: &[u8], size: usize, identification: u16) -> Result<Vec<Vec<u8>>, DropReason> {
        let mut first = HeapFrame::new(&[&[0; 14][..], packet].concat());
        let rest = split(&mut first, size, identification)?;
        let all = std::iter::once(first).chain(rest);
        Ok(all.map(|frame| frame.bytes()[14..].to_vec()).collect())
    }

    /// As RFC 1071 has it, octet pair by octet pair.
    fn sum(octets: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in octets.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    /// What a host makes of fragments in any order, each octet put where it belongs.
    fn joined(fragments: &[Vec<u8>]) -> Vec<u8> {
        let mut octets = vec![None; 65_536];
        let mut end = None;
        for fragment in fragments {
            assert_eq!(sum(&fragment[..20]), 0xffff, "the header's checksum");
            assert_eq!(
                usize::from(u16::from_be_bytes([fragment[2], fragment[3]])),
                fragment.len()
            );
            let word = u16::from_be_bytes([fragment[6], fragment[7]]);
            assert_eq!(word & 0xc000, 0, "it may be cut again");
            let at = usize::from(word & 0x1fff) * 8;
            for (place, octet) in octets[at..].iter_mut().zip(&fragment[20..]) {
                assert_eq!(place.replace(*octet), None, "octets come once");
            }
            if word & 0x2000 == 0 {
                assert_eq!(end.replace(at + fragment.len() - 20), None);
            } else {
                assert_eq!(fragment.len() % 8, 4, "a multiple of eight behind the header");
            }
            let same = |it: &[u8]| [&it[..2], &it[4..6], &it[8..10], &it[12..20]].concat();
            assert_eq!(same(fragment), same(&fragments[0]));
        }
        let payload: Option<Vec<u8>> = octets[..end.unwrap()].iter().copied().collect();
        payload.expect("none is missing")
    }

    #[test]
    fn fragments_octet_by_octet() {
        let fragments = cut(&outer(100, 0), 108, 0xabcd).unwrap();
        let heads: Vec<&[u8]> = fragments.iter().map(|it| &it[..20]).collect();
        // 116 octets behind the header: 88, and 28. Checksums by hand.
        let ends = [192, 0, 2, 1, 198, 51, 100, 2];
        let expected = |length: u8, flags: u8, offset: u8, sum: [u8; 2]| {
            let mut head = vec![
                0x45, 0xb9, 0, length, 0xab, 0xcd, flags, offset, 61, 17, sum[0], sum[1],
            ];
            head.extend(ends);
            head
        };
        let by_hand = |head: &[u8]| (!sum(&[&head[..10], &head[12..]].concat())).to_be_bytes();
        let sums = [by_hand(heads[0]), by_hand(heads[1])];
        assert_eq!(heads[0], expected(108, 0x20, 0, sums[0]));
        assert_eq!(heads[1], expected(48, 0, 11, sums[1]));
        // UDP: the length of the whole, and a checksum.
        assert_eq!(fragments[0][22..26], [8, 104, 0, 116]);
        assert_ne!(fragments[0][26..28], [0, 0]);
    }

    #[test]
    fn a_checksum_of_zero_is_sent_as_all_ones() {
        let mut packet = outer(200, 0);
        // Whatever the sum of the others is, these two octets make it all ones.
        packet[234..236].fill(0);
        make_divisible(&mut packet, 1).unwrap();
        let checksum = [packet[26], packet[27]];
        packet[234..236].copy_from_slice(&checksum);
        make_divisible(&mut packet, 1).unwrap();
        assert_eq!(packet[26..28], [0xff, 0xff]);
    }

    #[test]
    fn what_is_no_udp_or_has_no_room_is_refused() {
        let packet = outer(1280, 0);
        // Nine of at most 144 octets behind their headers are 1,296.
        assert_eq!(cut(&packet, 164, 1).unwrap().len(), MOST_FRAGMENTS);
        for size in [0, 19, 20, 27, 28, 68, 163] {
            assert_eq!(
                cut(&packet, size, 1),
                Err(DropReason::TunnelMtuTooSmall),
                "{size}"
            );
        }
        let mut other = packet.clone();
        other[9] = 47;
        assert_eq!(cut(&other, 1000, 1), Err(DropReason::Ipv4Malformed));
        for length in [0, 8, 19, 20, 26] {
            assert!(cut(&packet[..length], 1000, 1).is_err(), "{length}");
        }
    }

    /// A frame of which there are only so many.
    #[derive(Debug)]
    struct Rare(HeapFrame, std::rc::Rc<std::cell::Cell<usize>>);

    impl Frame for Rare {
        fn bytes(&self) -> &[u8] {
            self.0.bytes()
        }
        fn bytes_mut(&mut self) -> &mut [u8] {
            self.0.bytes_mut()
        }
        fn prepend(&mut self, count: usize) -> Result<(), crate::frame::NoRoom> {
            self.0.prepend(count)
        }
        fn strip(&mut self, count: usize) -> Result<(), crate::frame::NoRoom> {
            self.0.strip(count)
        }
        fn truncate(&mut self, length: usize) {
            self.0.truncate(length);
        }
        fn extend(&mut self, octets: &[u8]) -> Result<(), crate::frame::NoRoom> {
            self.0.extend(octets)
        }
        fn sibling(&self) -> Option<Self> {
            self.1.set(self.1.get().checked_sub(1)?);
            Some(Self(self.0.sibling()?, self.1.clone()))
        }
        fn prefetch(&self) {}
    }

    #[test]
    fn without_frames_for_all_none_goes() {
        for (left, goes) in [(0, false), (1, false), (2, true)] {
            let frame = HeapFrame::new(&[&[0; 14][..], &outer(1280, 0)].concat());
            let mut frame = Rare(frame, std::rc::Rc::new(std::cell::Cell::new(left)));
            let result = split(&mut frame, 576, 1).map(|rest| rest.len());
            let expected = if goes {
                Ok(2)
            } else {
                Err(DropReason::FragmentNoBuffer)
            };
            assert_eq!(result, expected, "{left}");
        }
    }

    #[test]
    fn identifications_come_again_only_when_all_were_used() {
        for workers in [1usize, 2, 3, 16] {
            let each = 65_536 / workers;
            let mut seen = HashSet::new();
            for worker in 0..workers {
                let mut numbers = Identifications::new(worker, workers, 0x0123_4567_89ab_cdef);
                let first = numbers.clone().take();
                assert!(
                    (0..each).all(|_| seen.insert(numbers.take())),
                    "{worker} of {workers}"
                );
                // Where they cannot be shared out evenly, some have one more.
                let next = numbers.take();
                assert!(next == first || numbers.take() == first, "{worker} of {workers}");
            }
        }
        let mut numbers = Identifications::new(0, 1, 7);
        let taken: Vec<u16> = (0..100).map(|_| numbers.take()).collect();
        let steps: HashSet<u16> = taken
            .windows(2)
            .map(|pair| pair[1].wrapping_sub(pair[0]))
            .collect();
        assert!(
            steps.len() > 60,
            "the next one cannot be told from the last: {}",
            steps.len()
        );
        // Nor do odd numbers of workers do harm.
        assert_eq!(Identifications::new(7, 0, 1).first, 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1024))]

        /// Whatever is inside, and however narrow the path: all of it comes, and is what went in, or it is refused by name.
        #[test]
        fn fragments_are_the_packet_again(
            inner in 0usize..=1280,
            size in 68usize..=1500,
            pattern in any::<u8>(),
            identification in any::<u16>(),
            turned in any::<bool>(),
        ) {
            let whole = outer(inner, pattern);
            let behind = whole.len() - 20;
            let most = (size - 20) / 8 * 8;
            let mut fragments = match cut(&whole, size, identification) {
                Ok(fragments) => fragments,
                Err(reason) => {
                    prop_assert_eq!(reason, DropReason::TunnelMtuTooSmall);
                    prop_assert!(behind.div_ceil(most) > MOST_FRAGMENTS || size < 164);
                    return Ok(());
                }
            };
            prop_assert!(fragments.len() <= MOST_FRAGMENTS);
            prop_assert!(fragments.iter().all(|it| it.len() <= size));
            prop_assert!(fragments.iter().all(|it| it[4..6] == identification.to_be_bytes()));
            prop_assert!(fragments.iter().all(|it| it[1] == 46 << 2 | 1));
            // No more than it takes: the last has what would not go into those before.
            let needed = if whole.len() <= size { 1 } else { 1 + (whole.len() - size).div_ceil(most) };
            prop_assert_eq!(fragments.len(), needed);
            if turned {
                fragments.reverse();
            }
            let mut joined = joined(&fragments);
            // Pseudo-header, header and octets: UDP's checksum is there and right.
            let pseudo = [&[0, 17][..], &(joined.len() as u16).to_be_bytes(), &whole[12..20], &joined].concat();
            prop_assert_eq!(sum(&pseudo), 0xffff);
            prop_assert!(joined[6..8] != [0, 0]);
            joined[6..8].fill(0);
            prop_assert_eq!(&joined[..], &whole[20..]);
            let Packet { length, .. } = ipv4::read(&fragments[0]).unwrap();
            prop_assert_eq!(length, fragments[0].len());
        }
    }
}
