//! The Timestamp option's clock: 48-bit seconds since 1970, then 1/65536 s (RFC 5213 section 8.8).

use std::time::Duration;

use crate::time::Time;

const NANOSECONDS: u64 = 1_000_000_000;
const LAST_SECOND: u64 = (1 << 48) - 1;

/// The 64 bits of a Timestamp option for `time`, rounded down to 1/65536 s.
/// A time after the last one that fits (in some nine million years) gives that one.
#[must_use]
pub fn timestamp_from_time(time: Time) -> u64 {
    if time.0.as_secs() > LAST_SECOND {
        return u64::MAX;
    }
    let fraction = (u64::from(time.0.subsec_nanos()) << 16) / NANOSECONDS;
    time.0.as_secs() << 16 | fraction
}

/// The time that a Timestamp option tells, rounded up to a nanosecond,
/// so that [`timestamp_from_time`] gives back the same 64 bits.
#[must_use]
pub fn time_from_timestamp(timestamp: u64) -> Time {
    let nanoseconds = ((timestamp & 0xffff) * NANOSECONDS).div_ceil(1 << 16);
    Time(Duration::from_secs(timestamp >> 16).saturating_add(Duration::from_nanos(nanoseconds)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn half_a_second() {
        let time = Time(Duration::from_millis(1_700_000_000_500));
        assert_eq!(timestamp_from_time(time), 0x6553_f100_8000);
        assert_eq!(time_from_timestamp(0x6553_f100_8000), time);
    }

    #[test]
    fn the_end_of_time() {
        assert_eq!(timestamp_from_time(Time(Duration::MAX)), u64::MAX);
        assert_eq!(
            timestamp_from_time(Time(Duration::from_secs(LAST_SECOND + 1))),
            u64::MAX
        );
        assert_eq!(timestamp_from_time(time_from_timestamp(u64::MAX)), u64::MAX);
    }

    proptest! {
        #[test]
        fn every_timestamp_survives(timestamp: u64) {
            prop_assert_eq!(timestamp_from_time(time_from_timestamp(timestamp)), timestamp);
        }

        #[test]
        fn a_time_loses_less_than_a_unit(seconds in 0..=LAST_SECOND, nanoseconds in 0..1_000_000_000_u32) {
            let time = Time(Duration::new(seconds, nanoseconds));
            let back = time_from_timestamp(timestamp_from_time(time));
            prop_assert!(back <= time);
            prop_assert!(time.since(back) < Duration::from_nanos(15_260));
        }

        #[test]
        fn order_is_kept(a: u64, b: u64) {
            prop_assert_eq!(a.cmp(&b), time_from_timestamp(a).cmp(&time_from_timestamp(b)));
        }
    }
}
