//! 256 bits, and the rank of one among those that are set.

/// A set of octets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bitmap([u64; 4]);

impl Bitmap {
    #[inline]
    pub(super) const fn has(&self, bit: u8) -> bool {
        self.0[(bit >> 6) as usize] >> (bit & 63) & 1 == 1
    }

    pub(super) const fn set(&mut self, bit: u8) {
        self.0[(bit >> 6) as usize] |= 1 << (bit & 63);
    }

    pub(super) const fn clear(&mut self, bit: u8) {
        self.0[(bit >> 6) as usize] &= !(1 << (bit & 63));
    }

    /// How many bits below `bit` are set.
    #[inline]
    pub(super) fn rank(&self, bit: u8) -> usize {
        let word = usize::from(bit >> 6);
        let below = self.0[word] & ((1 << (bit & 63)) - 1);
        let before: u32 = self.0.iter().take(word).map(|word| word.count_ones()).sum();
        (before + below.count_ones()) as usize
    }

    /// The highest bit that is set in both.
    #[inline]
    pub(super) fn last_common(&self, other: &Self) -> Option<u8> {
        for word in (0..4).rev() {
            let common = self.0[word] & other.0[word];
            if common != 0 {
                return Some((word as u8) << 6 | (63 - common.leading_zeros()) as u8);
            }
        }
        None
    }
}

/// For each octet, the positions of the eight prefixes within a node that it is in.
pub(super) static COVERING: [Bitmap; 256] = {
    let mut all = [Bitmap([0; 4]); 256];
    let mut octet = 0;
    while octet < 256 {
        let mut length = 0;
        while length < 8 {
            all[octet].set(((1 << length) - 1 + (octet >> (8 - length))) as u8);
            length += 1;
        }
        octet += 1;
    }
    all
};
