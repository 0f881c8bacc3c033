//! `rte_meter`: the two-rate three-colour markers of RFC 2698 and RFC 4115.
//!
//! Its algorithms need nothing of EAL. Time is of any counter that does not run
//! backwards; how fast it runs, a [`Profile`] is told.

/// Which marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// RFC 2698: committed and peak.
    Rfc2698,
    /// RFC 4115: committed and excess.
    Rfc4115,
}

/// What a packet is marked as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum Colour {
    /// Within the committed rate.
    Green = 0,
    /// Above it, within the peak or the excess rate.
    Yellow = 1,
    /// Above all.
    Red = 2,
}

/// A rate in octets per second, and the octets that may come at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Octets per second.
    pub rate: u64,
    /// Octets.
    pub burst: u64,
}

/// Parameters of a marker, worked out.
#[derive(Clone, Copy, Debug)]
pub struct Profile {
    algorithm: Algorithm,
    profile: dpdk_sys::dpdk_meter_profile,
}

/// Cycles that a token period has at least, so that rounding it to whole cycles changes the rate by
/// less than one in two thousand. (DPDK's own configuration has 100, which may be off by one percent.)
const SHORTEST_PERIOD: u128 = 2000;

impl Profile {
    /// `other` is the peak or the excess bucket. Time passes at `cycles_per_second`.
    #[must_use]
    pub fn new(algorithm: Algorithm, committed: Bucket, other: Bucket, cycles_per_second: u64) -> Self {
        let (committed_period, committed_octets) = period(committed.rate, cycles_per_second);
        let (other_period, other_octets) = period(other.rate, cycles_per_second);
        Self {
            algorithm,
            profile: dpdk_sys::dpdk_meter_profile {
                committed_burst: committed.burst,
                other_burst: other.burst,
                committed_period,
                committed_octets_per_period: committed_octets,
                other_period,
                other_octets_per_period: other_octets,
            },
        }
    }

    /// Full buckets at this time.
    #[inline]
    #[must_use]
    pub fn full(&self, now: u64) -> Buckets {
        Buckets(dpdk_sys::dpdk_meter {
            committed_time: now,
            other_time: now,
            committed_tokens: self.profile.committed_burst,
            other_tokens: self.profile.other_burst,
        })
    }

    /// Buckets with so many octets in them at this time, at most their bursts: the committed one, and the other.
    #[inline]
    #[must_use]
    pub fn with(&self, [committed, other]: [u64; 2], now: u64) -> Buckets {
        Buckets(dpdk_sys::dpdk_meter {
            committed_time: now,
            other_time: now,
            committed_tokens: committed.min(self.profile.committed_burst),
            other_tokens: other.min(self.profile.other_burst),
        })
    }

    /// The octets that both buckets have in them at this time.
    #[must_use]
    pub fn tokens(&self, buckets: Buckets, now: u64) -> [u64; 2] {
        let (it, profile) = (buckets.0, &self.profile);
        [
            tokens(
                (it.committed_tokens, it.committed_time),
                (profile.committed_period, profile.committed_octets_per_period),
                profile.committed_burst,
                now,
            ),
            tokens(
                (it.other_tokens, it.other_time),
                (profile.other_period, profile.other_octets_per_period),
                profile.other_burst,
                now,
            ),
        ]
    }

    /// Of two pairs of buckets, in each place the one with less in it at this time.
    #[must_use]
    pub fn lower(&self, one: Buckets, other: Buckets, now: u64) -> Buckets {
        let ([committed, second], [its_committed, its_second]) =
            (self.tokens(one, now), self.tokens(other, now));
        let (mut lower, other) = (one, other.0);
        if its_committed < committed {
            (lower.0.committed_tokens, lower.0.committed_time) =
                (other.committed_tokens, other.committed_time);
        }
        if its_second < second {
            (lower.0.other_tokens, lower.0.other_time) = (other.other_tokens, other.other_time);
        }
        lower
    }

    /// The colour of a packet that came as `colour`, and takes its tokens.
    #[inline]
    #[must_use]
    pub fn check(&self, buckets: &mut Buckets, now: u64, octets: u32, colour: Colour) -> Colour {
        let kind = match self.algorithm {
            Algorithm::Rfc2698 => dpdk_sys::DPDK_METER_RFC2698,
            Algorithm::Rfc4115 => dpdk_sys::DPDK_METER_RFC4115,
        };
        // SAFETY: both structures are valid and of the layout that flows.c proves equal to DPDK's; no
        // period is 0 (`period`), by which it divides.
        let colour = unsafe {
            dpdk_sys::dpdk_meter_check(
                kind,
                &raw mut buckets.0,
                &raw const self.profile,
                now,
                octets,
                colour as u32,
            )
        };
        match colour {
            0 => Colour::Green,
            1 => Colour::Yellow,
            _ => Colour::Red,
        }
    }
}

/// What is in a bucket, with what has come since `at`: only whole periods bring anything.
fn tokens((tokens, at): (u64, u64), (period, octets): (u64, u64), burst: u64, now: u64) -> u64 {
    let periods = now.saturating_sub(at) / period.max(1);
    tokens.saturating_add(periods.saturating_mul(octets)).min(burst)
}

/// The period of a bucket and the octets that it brings.
fn period(rate: u64, cycles_per_second: u64) -> (u64, u64) {
    if rate == 0 {
        return (u64::MAX, 0);
    }
    let (rate, cycles) = (u128::from(rate), u128::from(cycles_per_second.max(1)));
    let octets = (SHORTEST_PERIOD * rate).div_ceil(cycles).max(1);
    let period = (octets * cycles / rate).max(1);
    let fit = |number: u128| u64::try_from(number).unwrap_or(u64::MAX);
    (fit(period), fit(octets))
}

/// Two token buckets.
#[derive(Clone, Copy, Debug, Default)]
pub struct Buckets(dpdk_sys::dpdk_meter);

impl Buckets {
    /// Both times and both counts of tokens, to be kept somewhere.
    #[inline]
    #[must_use]
    pub fn words(self) -> [u64; 4] {
        let it = self.0;
        [
            it.committed_time,
            it.other_time,
            it.committed_tokens,
            it.other_tokens,
        ]
    }

    /// What [`Buckets::words`] gave.
    #[inline]
    #[must_use]
    pub fn from_words([committed_time, other_time, committed_tokens, other_tokens]: [u64; 4]) -> Self {
        Self(dpdk_sys::dpdk_meter {
            committed_time,
            other_time,
            committed_tokens,
            other_tokens,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HZ: u64 = 1_000_000_000;

    fn bucket(rate: u64, burst: u64) -> Bucket {
        Bucket { rate, burst }
    }

    /// Octets of each colour in ten seconds of packets of 1,000 octets, one every millisecond.
    fn ten_seconds(profile: &Profile, colour: Colour) -> [u64; 3] {
        let mut buckets = profile.full(5);
        let mut octets = [0; 3];
        for packet in 0..10_000u64 {
            let now = 5 + packet * HZ / 1000;
            octets[profile.check(&mut buckets, now, 1000, colour) as usize] += 1000;
        }
        octets
    }

    fn near(found: u64, expected: u64) -> bool {
        found.abs_diff(expected) <= expected / 1000 + 3000
    }

    #[test]
    fn rfc_2698_has_a_peak_above_the_committed_rate() {
        let profile = Profile::new(
            Algorithm::Rfc2698,
            bucket(200_000, 2000),
            bucket(700_000, 2000),
            HZ,
        );
        let [green, yellow, red] = ten_seconds(&profile, Colour::Green);
        assert!(near(green, 2_000_000) && near(yellow, 5_000_000) && near(red, 3_000_000));
        // Aware of colours: what comes yellow never becomes green, what comes red stays red.
        let [green, yellow, red] = ten_seconds(&profile, Colour::Yellow);
        assert!(green == 0 && near(yellow, 7_000_000) && near(red, 3_000_000));
        assert_eq!(ten_seconds(&profile, Colour::Red), [0, 0, 10_000_000]);
    }

    #[test]
    fn rfc_4115_has_an_excess_beside_the_committed_rate() {
        let profile = Profile::new(
            Algorithm::Rfc4115,
            bucket(200_000, 2000),
            bucket(700_000, 2000),
            HZ,
        );
        let [green, yellow, red] = ten_seconds(&profile, Colour::Green);
        assert!(near(green, 2_000_000) && near(yellow, 7_000_000) && near(red, 1_000_000));
    }

    #[test]
    fn a_rate_is_kept_within_a_thousandth_whatever_it_is() {
        for rate in [1, 999, 8_000, 123_456_789, 12_500_000_000, u64::MAX] {
            let (period, octets) = period(rate, 2_100_000_000);
            let kept = octets as f64 / period as f64 * 2.1e9;
            assert!((kept / rate as f64 - 1.0).abs() < 0.001, "{rate}: {kept}");
        }
        assert_eq!(period(0, HZ), (u64::MAX, 0));
    }
}
