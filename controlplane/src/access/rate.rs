//! How often one node is heard.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::identity::MobileNodeIdentifier;
use crate::time::Time;

/// A token bucket for each node: so many messages in each second, twice as many at once.
///
/// It is known of no more nodes than have sent something just now: a bucket that is full again is as good as none.
#[derive(Clone, Debug)]
pub struct RateOfNodes {
    interval: Duration,
    burst: u32,
    /// When a bucket that is filled at this rate is full.
    full_at: BTreeMap<MobileNodeIdentifier, Time>,
    /// Full ones are forgotten when there are so many.
    forget_at: usize,
}

/// Buckets that there may be before anybody looks for full ones.
const FEW: usize = 64;

impl RateOfNodes {
    /// `per_second`: how many; 0 counts as 1.
    #[must_use]
    pub fn new(per_second: u32) -> Self {
        let per_second = per_second.max(1);
        Self {
            interval: Duration::from_secs(1) / per_second,
            burst: per_second.saturating_mul(2),
            full_at: BTreeMap::new(),
            forget_at: FEW,
        }
    }

    /// Whether one more message of this node is heard.
    pub fn allow(&mut self, node: &MobileNodeIdentifier, now: Time) -> bool {
        let full_at = self.full_at.get(node).copied().unwrap_or(now).max(now);
        let next = full_at.after(self.interval);
        // Of a bucket that is full only then, so many are missing now.
        if next.since(now) > self.interval * self.burst {
            return false;
        }
        self.full_at.insert(node.clone(), next);
        if self.full_at.len() > self.forget_at {
            self.full_at.retain(|_, at| *at > now);
            self.forget_at = self.full_at.len().saturating_mul(2).max(FEW);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Time = Time(Duration::from_secs(1_700_000_000));

    fn node(number: usize) -> MobileNodeIdentifier {
        MobileNodeIdentifier::nai(&format!("mn{number}@example.net"))
    }

    #[test]
    fn twice_the_rate_at_once_and_then_the_rate() {
        let mut rate = RateOfNodes::new(5);
        let mut heard = |node: &_, now| (0..100).filter(|_| rate.allow(node, now)).count();
        assert_eq!(heard(&node(1), NOW), 10);
        assert_eq!(heard(&node(2), NOW), 10, "each has its own");
        assert_eq!(heard(&node(1), NOW.after(Duration::from_millis(199))), 0);
        assert_eq!(heard(&node(1), NOW.after(Duration::from_millis(1000))), 5);
        assert_eq!(heard(&node(1), NOW.after(Duration::from_secs(60))), 10);
    }

    #[test]
    fn who_is_silent_is_forgotten() {
        let mut rate = RateOfNodes::new(5);
        for number in 0..10_000 {
            let now = NOW.after(Duration::from_millis(10 * u64::try_from(number).unwrap()));
            assert!(rate.allow(&node(number), now));
            assert!(rate.full_at.len() <= FEW + 1);
        }
    }

    proptest! {
        /// Beside a bucket as it is usually written, with tokens.
        #[test]
        fn it_is_a_token_bucket(per_second in 1u32..20, waits in prop::collection::vec(0u64..400, 1..200)) {
            let mut rate = RateOfNodes::new(per_second);
            let interval = u64::try_from(rate.interval.as_nanos()).unwrap();
            let (mut now, mut nanos) = (NOW, u64::from(per_second) * 2 * interval);
            let most = nanos;
            for wait in waits {
                now = now.after(Duration::from_millis(wait));
                nanos = (nanos + wait * 1_000_000).min(most);
                let allowed = nanos >= interval;
                nanos -= if allowed { interval } else { 0 };
                prop_assert_eq!(rate.allow(&node(1), now), allowed);
            }
        }
    }
}
