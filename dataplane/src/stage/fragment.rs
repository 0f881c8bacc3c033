//! Fragments of outer packets (RFC 8200 section 4.5): cutting one in two, and reading what came.
//!
//! A packet that a tunnel makes is cut only where RFC 2473 section 7.1 (b) has it so: the inner packet is no larger
//! than 1,280 octets, the path takes no less than that, and so two fragments are enough, always. The second is
//! copied into a frame of its own; no frame is shared, or has more than one segment.
//!
//! DPDK's `rte_ip_frag` is not used for either way. As of 22.11 (and in releases since) it writes the identification
//! zero into every fragment and expects the Fragment header right behind the fixed one, where a tunnel
//! encapsulation limit stands in between; what it gives are chains of shared buffers, which many drivers and all of our
//! stages would have to learn; and at the exit it cannot tell an overlap from a loss, keeps duplicates as errors,
//! and lets whoever sends first fragments fill the table until they are timed out.

use crate::drops::DropReason;
use crate::frame::Frame;
use crate::stage::parse::{
    DESTINATION_OPTIONS, ETHERNET_HEADER, FRAGMENT, HOP_BY_HOP, IPV6_HEADER, MOST_EXTENSION_HEADERS, ROUTING,
};

/// Octets of a Fragment header.
pub const FRAGMENT_HEADER: usize = 8;

/// A Fragment header, and where it stands; or what the header of IPv4 says of the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Octets from the IPv6 header to it.
    pub at: usize,
    /// Octets from the IPv6 header to the field that says that it follows.
    pub named_at: usize,
    /// What follows the fragments.
    pub next_header: u8,
    /// Where in the packet the fragment belongs, octets.
    pub offset: usize,
    /// Others come behind it.
    pub more: bool,
    /// The same in all fragments of a packet.
    pub identification: u32,
}

/// Reads the Fragment header of the packet in `packet`.
///
/// # Errors
/// There is none, or a header in front of it runs past the end.
pub fn read(packet: &[u8]) -> Result<Fragment, DropReason> {
    const WRONG: DropReason = DropReason::FragmentMalformed;
    let mut named_at = 6;
    let mut at = IPV6_HEADER;
    for _ in 0..=MOST_EXTENSION_HEADERS {
        let kind = *packet.get(named_at).ok_or(WRONG)?;
        let header = packet.get(at..).ok_or(WRONG)?;
        if kind == FRAGMENT {
            let [next_header, _, high, low, i0, i1, i2, i3] = *header.first_chunk().ok_or(WRONG)?;
            let field = u16::from_be_bytes([high, low]);
            return Ok(Fragment {
                at,
                named_at,
                next_header,
                offset: usize::from(field & !7),
                more: field & 1 == 1,
                identification: u32::from_be_bytes([i0, i1, i2, i3]),
            });
        }
        if !matches!(kind, HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS) {
            return Err(WRONG);
        }
        let length = usize::from(*header.get(1).ok_or(WRONG)?);
        (named_at, at) = (at, at + (length + 1) * 8);
    }
    Err(WRONG)
}

/// Cuts the packet in `frame`, which a tunnel has made, in two of at most `size` octets, 1,280 or more. `frame`
/// becomes the first; gives the second. Ethernet headers are to be written.
///
/// # Errors
/// There is no other frame, or no room in this one; it may have been changed.
pub fn split<F: Frame>(frame: &mut F, size: usize, identification: u32) -> Result<F, DropReason> {
    let packet = frame.bytes().get(ETHERNET_HEADER..).unwrap_or_default();
    // A Destination Options header in front is the tunnel encapsulation limit's: every fragment has it.
    let (named_at, front) = match packet.get(6) {
        Some(&DESTINATION_OPTIONS) => (IPV6_HEADER, IPV6_HEADER + 8),
        _ => (6, IPV6_HEADER),
    };
    let payload = packet.get(front..).ok_or(DropReason::Ipv6Malformed)?;
    let next_header = *packet.get(named_at).ok_or(DropReason::Ipv6Malformed)?;
    let most = size.saturating_sub(front + FRAGMENT_HEADER) & !7;
    let (first, second) = payload.split_at_checked(most).ok_or(DropReason::Ipv6Malformed)?;
    let (first, second_length) = (first.len(), second.len());
    let header = |offset: usize, more: bool| {
        // At most 1,280 and less than 65,536.
        let field = (offset as u16) | u16::from(more);
        let [high, low] = field.to_be_bytes();
        let [i0, i1, i2, i3] = identification.to_be_bytes();
        [next_header, 0, high, low, i0, i1, i2, i3]
    };
    let mut other = frame.sibling().ok_or(DropReason::FragmentNoBuffer)?;
    let headers = frame.bytes().get(..ETHERNET_HEADER + front).unwrap_or_default();
    other
        .extend(headers)
        .and_then(|()| other.extend(&header(first, false)))
        .and_then(|()| other.extend(second))
        .map_err(|_| DropReason::FragmentNoBuffer)?;
    finish(&mut other, named_at, front + FRAGMENT_HEADER + second_length);
    frame.truncate(ETHERNET_HEADER + front + first);
    frame
        .prepend(FRAGMENT_HEADER)
        .map_err(|_| DropReason::NoHeadroom)?;
    let octets = frame.bytes_mut();
    if octets.len() >= FRAGMENT_HEADER + ETHERNET_HEADER + front {
        octets.copy_within(FRAGMENT_HEADER..FRAGMENT_HEADER + ETHERNET_HEADER + front, 0);
    }
    if let Some(place) = octets.get_mut(ETHERNET_HEADER + front..ETHERNET_HEADER + front + FRAGMENT_HEADER) {
        place.copy_from_slice(&header(0, true));
    }
    finish(frame, named_at, front + FRAGMENT_HEADER + first);
    Ok(other)
}

/// Writes that a Fragment header follows, and how long the packet is now.
fn finish<F: Frame>(frame: &mut F, named_at: usize, length: usize) {
    set(frame, named_at, FRAGMENT, length);
}

/// Writes the type of a header and the length of the packet, octets of the fixed header included.
pub(crate) fn set<F: Frame>(frame: &mut F, named_at: usize, next_header: u8, length: usize) {
    let packet = frame.bytes_mut().get_mut(ETHERNET_HEADER..).unwrap_or_default();
    if let Some(place) = packet.get_mut(named_at) {
        *place = next_header;
    }
    if let Some(place) = packet.get_mut(4..6) {
        // It is in one frame.
        place.copy_from_slice(&((length - IPV6_HEADER) as u16).to_be_bytes());
    }
}

/// Identifications of the fragmented packets of one worker: none twice in 16 million, none that another worker of
/// the same seed uses meanwhile, and not the next number to the last one (RFC 7739).
#[derive(Clone, Debug)]
pub struct Identifications {
    counter: u32,
    seed: u64,
}

impl Identifications {
    /// For worker number `worker`; outsiders must not know `seed`.
    #[must_use]
    pub fn new(worker: usize, seed: u64) -> Self {
        Self {
            counter: worker as u32 & 0xff,
            seed,
        }
    }

    /// The next one.
    #[must_use]
    pub fn take(&mut self) -> u32 {
        self.counter = self.counter.wrapping_add(0x100);
        // Each step can be undone, so different numbers stay different.
        let mut number = self.counter ^ self.seed as u32;
        for shift in [16, 15] {
            number = (number ^ number >> shift).wrapping_mul(0x2c1b_3c6d);
            number ^= (self.seed >> 32) as u32;
        }
        number ^ number >> 16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifications_are_not_used_again() {
        let mut seen = std::collections::HashSet::new();
        for worker in 0..3 {
            let mut numbers = Identifications::new(worker, 0x0123_4567_89ab_cdef);
            assert!((0..20_000).all(|_| seen.insert(numbers.take())));
        }
        let mut numbers = Identifications::new(0, 7);
        let steps: std::collections::HashSet<u32> = (0..100)
            .map(|_| numbers.take())
            .collect::<Vec<_>>()
            .windows(2)
            .map(|pair| pair[1].wrapping_sub(pair[0]))
            .collect();
        assert!(steps.len() > 90, "the next one cannot be told from the last");
    }

    #[test]
    fn headers_are_read_within_bounds() {
        let mut packet = vec![0x60, 0, 0, 0, 0, 0, 60, 64];
        packet.extend_from_slice(&[0x20; 32]);
        packet.extend_from_slice(&[44, 0, 4, 1, 4, 1, 1, 0, 41, 0, 0x04, 0xd1, 1, 2, 3, 4]);
        let expected = Fragment {
            at: 48,
            named_at: 40,
            next_header: 41,
            offset: 0x04d0,
            more: true,
            identification: 0x0102_0304,
        };
        assert_eq!(read(&packet), Ok(expected));
        for end in 0..packet.len() {
            assert_eq!(read(&packet[..end]), Err(DropReason::FragmentMalformed), "{end}");
        }
        packet[6] = 17;
        assert_eq!(read(&packet), Err(DropReason::FragmentMalformed));
    }
}
