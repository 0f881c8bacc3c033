//! The checksum over a message and its IPv6 pseudo-header (RFC 8200 section 8.1, RFC 6275 section 6.1.1).

use std::net::Ipv6Addr;

/// The ends of the packet, and what it carries: the pseudo-header without the length.
#[derive(Clone, Copy)]
pub(crate) struct PseudoHeader {
    pub(crate) source: Ipv6Addr,
    pub(crate) destination: Ipv6Addr,
    pub(crate) next_header: u8,
}

/// A checksum that does not match.
pub(crate) struct Mismatch {
    pub(crate) found: u16,
    pub(crate) expected: u16,
}

impl PseudoHeader {
    /// The checksum of `octets`, whose checksum field at `field` (even) is taken as zero.
    pub(crate) fn checksum(self, octets: &[u8], field: usize) -> u16 {
        !self.sum(octets, Some(field))
    }

    /// Checks the field at `field`. Both forms of zero pass, as in any one's complement sum.
    pub(crate) fn verify(self, octets: &[u8], field: usize) -> Result<(), Mismatch> {
        if self.sum(octets, None) == u16::MAX {
            return Ok(());
        }
        let found = match octets.get(field..) {
            Some([high, low, ..]) => u16::from_be_bytes([*high, *low]),
            _ => 0,
        };
        Err(Mismatch {
            found,
            expected: self.checksum(octets, field),
        })
    }

    fn sum(self, octets: &[u8], skip: Option<usize>) -> u16 {
        let header = words(&self.source.octets()) + words(&self.destination.octets());
        let mut sum = header + octets.len() as u64 + u64::from(self.next_header) + words(octets);
        if let Some([high, low, ..]) = skip.and_then(|field| octets.get(field..)) {
            sum -= u64::from(u16::from_be_bytes([*high, *low]));
        }
        while sum > u64::from(u16::MAX) {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }
}

fn words(octets: &[u8]) -> u64 {
    octets
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => u64::from(u16::from_be_bytes([*high, *low])),
            [high] => u64::from(*high) << 8,
            _ => 0,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pseudo_header() -> PseudoHeader {
        PseudoHeader {
            source: "2001:db8::1".parse().unwrap(),
            destination: "2001:db8::2".parse().unwrap(),
            next_header: 135,
        }
    }

    #[test]
    fn a_written_checksum_verifies_and_a_changed_octet_does_not() {
        // An odd count: the last octet is the high half of a word.
        let mut octets = vec![59, 0, 5, 0, 0, 0, 0xff, 0xff, 7];
        let checksum = pseudo_header().checksum(&octets, 4);
        octets[4..6].copy_from_slice(&checksum.to_be_bytes());
        assert!(pseudo_header().verify(&octets, 4).is_ok());
        octets[8] ^= 1;
        let mismatch = pseudo_header().verify(&octets, 4).err().unwrap();
        assert_eq!(mismatch.found, checksum);
        assert_eq!(mismatch.expected, pseudo_header().checksum(&octets, 4));
    }

    #[test]
    fn both_zeros_are_the_same_number() {
        // Everything but the checksum sums up to 0xffff, so the checksum is zero.
        let rest = pseudo_header().checksum(&[0, 0, 0, 0], 0);
        let mut octets = [0, 0, 0, 0];
        octets[2..].copy_from_slice(&rest.to_be_bytes());
        assert_eq!(pseudo_header().checksum(&octets, 0), 0);
        assert!(pseudo_header().verify(&octets, 0).is_ok());
        octets[..2].copy_from_slice(&[0xff, 0xff]);
        assert!(pseudo_header().verify(&octets, 0).is_ok());
    }
}
