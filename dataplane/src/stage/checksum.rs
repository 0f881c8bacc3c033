//! The Internet checksum (RFC 1071), by eight octets at a time, or by 64 where there is AVX-512 (`vector`).

#[cfg(all(target_arch = "x86_64", not(miri)))]
mod vector;

/// Octets that are worth a vector: of fewer the sum has to be taken apart for longer than it took to make.
#[cfg(all(target_arch = "x86_64", not(miri)))]
const WORTH: usize = 192;

/// A ones' complement sum in the making. Octets are added at even offsets.
///
/// It is kept in the machine's order of octets, and swapped once at the end (RFC 1071 section 2 (B)).
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum(u64);

impl Sum {
    /// Adds octets, a last odd one with a zero behind it.
    // Not left to the compiler: as a call it would have its caller put away, for some forty instructions, all that is in registers.
    #[must_use]
    #[inline(always)]
    pub fn octets(self, octets: &[u8]) -> Self {
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        if octets.len() >= WORTH
            && let Some(sum) = vector::sum(octets)
        {
            return Self(add(self.0, sum));
        }
        self.octets_by_eight(octets)
    }

    /// The same without vectors.
    #[inline(always)]
    fn octets_by_eight(self, octets: &[u8]) -> Self {
        let (fours, mut rest) = octets.as_chunks::<32>();
        let mut sum = (self.0, 0);
        for four in fours {
            sum = with_words::<4>(sum, four.as_chunks().0);
        }
        // Not by a copy of as many octets as are left: that is a call.
        if let Some((two, behind)) = rest.split_first_chunk::<16>() {
            sum = with_words::<2>(sum, two.as_chunks().0);
            rest = behind;
        }
        if let Some((one, behind)) = rest.split_first_chunk::<8>() {
            sum = with_words::<1>(sum, &[*one]);
            rest = behind;
        }
        // With what else is less than a word: there is room for all of it.
        let (sum, mut last) = sum;
        if let Some((four, behind)) = rest.split_first_chunk::<4>() {
            last += u64::from(u32::from_ne_bytes(*four));
            rest = behind;
        }
        if let Some((two, behind)) = rest.split_first_chunk::<2>() {
            last += u64::from(u16::from_ne_bytes(*two));
            rest = behind;
        }
        if let Some(octet) = rest.first() {
            last += u64::from(u16::from_ne_bytes([*octet, 0]));
        }
        Self(add(sum, last))
    }

    /// Adds an IPv4 header without options.
    #[must_use]
    #[inline]
    pub fn header(self, header: &[u8; 20]) -> Self {
        // Five of these are less than 2^64.
        let words = header.chunks_exact(4).filter_map(|word| word.first_chunk::<4>());
        Self(add(
            self.0,
            words.map(|word| u64::from(u32::from_ne_bytes(*word))).sum(),
        ))
    }

    /// Adds a number, as a field of 32 bits has it.
    #[must_use]
    #[inline]
    pub fn number(self, number: u64) -> Self {
        Self(add(self.0, u64::from((number as u32).to_be())))
    }

    /// Whether the sum of all octets, the checksum among them, is what it must be.
    #[must_use]
    #[inline]
    pub fn is_right(self) -> bool {
        fold(self.0) == 0xffff
    }

    /// The checksum.
    #[must_use]
    #[inline]
    pub fn checksum(self) -> u16 {
        !u16::from_be(fold(self.0))
    }

    /// The checksum in a UDP header, where zero means none (RFC 8200 section 8.1).
    #[must_use]
    #[inline]
    pub fn udp_checksum(self) -> u16 {
        match self.checksum() {
            0 => 0xffff,
            checksum => checksum,
        }
    }
}

/// The checksum of fields of 32 bits.
#[must_use]
#[inline]
pub fn of_fields<const FIELDS: usize>(fields: [u32; FIELDS]) -> u16 {
    // Of which there are fewer than 2^32. The sum is in the order of octets that the fields are in: nothing has to be swapped.
    !fold(fields.into_iter().map(u64::from).sum())
}

/// A checksum after one word that it covers has changed (RFC 1624 section 3, equation 3).
#[must_use]
#[inline]
pub fn updated(checksum: u16, before: u16, after: u16) -> u16 {
    let sum = u32::from(!checksum) + u32::from(!before) + u32::from(after);
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum & 0xffff) + (sum >> 16)) as u16
}

/// A sum and how many carries it has had, with this many words more: each addition takes the carry of the one before along, and only the
/// last one's has to be kept (RFC 1071 section 2 (C)).
#[inline(always)]
fn with_words<const WORDS: usize>((mut sum, carries): (u64, u64), words: &[[u8; 8]]) -> (u64, u64) {
    let mut carry = false;
    for word in words.iter().take(WORDS) {
        (sum, carry) = sum.carrying_add(u64::from_ne_bytes(*word), carry);
    }
    (sum, carries + u64::from(carry))
}

/// With the carry added below. There is room for it: where there was one, the rest is not all ones.
#[inline]
fn add(sum: u64, word: u64) -> u64 {
    let (sum, carry) = sum.overflowing_add(word);
    sum.wrapping_add(u64::from(carry))
}

/// Halves added up, and their halves (section 2 (C)).
#[inline]
fn fold(sum: u64) -> u16 {
    let (sum, carry) = (sum as u32).overflowing_add((sum >> 32) as u32);
    let sum = sum.wrapping_add(u32::from(carry));
    let (sum, carry) = (sum as u16).overflowing_add((sum >> 16) as u16);
    sum.wrapping_add(u16::from(carry))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As RFC 1071 section 1 says it.
    fn slow(octets: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in octets.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    proptest! {
        #[test]
        fn it_is_the_slow_one(octets in prop::collection::vec(any::<u8>(), 0..200), even in 0usize..50) {
            prop_assert_eq!(Sum::default().octets(&octets).checksum(), slow(&octets));
            prop_assert_eq!(Sum::default().octets_by_eight(&octets).checksum(), slow(&octets));
            if let Some(header) = octets.first_chunk::<20>() {
                prop_assert_eq!(Sum::default().header(header).checksum(), slow(header));
                let fields = header.as_chunks::<4>().0;
                let fields = std::array::from_fn::<u32, 5, _>(|at| u32::from_be_bytes(fields[at]));
                prop_assert_eq!(of_fields(fields), slow(header));
            }
            let (first, second) = octets.split_at((2 * even).min(octets.len()));
            prop_assert_eq!(Sum::default().octets(first).octets(second).checksum(), slow(&octets));
        }
    }

    /// The largest packet, all ones: no sum overflows on the way.
    #[test]
    fn nothing_is_too_large() {
        let octets = vec![0xff; 65_535];
        assert_eq!(Sum::default().octets(&octets).checksum(), slow_of_many(&octets));
        assert_eq!(
            Sum::default().octets_by_eight(&octets).checksum(),
            slow_of_many(&octets)
        );
    }

    /// [`slow`] without its bound on what can be added up.
    fn slow_of_many(octets: &[u8]) -> u16 {
        let sum = octets.chunks(2).fold(0u64, |sum, pair| {
            sum + u64::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]))
        });
        !(((sum - 1) % 0xffff) as u16 + 1)
    }

    #[test]
    fn the_example_of_rfc_1071_section_3() {
        let sum = Sum::default().octets(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(sum.checksum(), !0xddf2);
        assert!(sum.number(u64::from(!0xddf2u16)).is_right());
        assert_eq!(Sum::default().number(0xffff).udp_checksum(), 0xffff);
        assert_eq!(Sum::default().number(0x1_0002).checksum(), !3);
    }
}
