//! Which detours have become too long, told from what the data plane counts: prefixes that carry much by a tunnel, and
//! flows of them that last (`policy.relocate_after_octets` at the CMD, `filter.relocate_after_s` here).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ipnet::Ipv6Net;

use crate::time::Time;

/// A flow of which nothing was seen for so long has ended.
const FLOW_ENDS: Duration = Duration::from_secs(15);
/// The CMD is not asked again about a prefix sooner.
const PAUSE: Duration = Duration::from_secs(30);

/// What is known of detours. A new process begins anew: a detour is as long as it has seen.
#[derive(Debug, Default)]
pub(super) struct Detours {
    /// Octets of each prefix when it was first looked at.
    bases: BTreeMap<Ipv6Net, u64>,
    /// Flows by the id of their filter.
    flows: BTreeMap<u64, Flow>,
    /// When the CMD was asked.
    asked: BTreeMap<Ipv6Net, Time>,
}

/// A flow, or several that one filter does not tell apart.
#[derive(Clone, Copy, Debug)]
struct Flow {
    packets: u64,
    since: Time,
    /// When there were more packets than before.
    active: Option<Time>,
}

/// A filter whose flows shall not last long by a detour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lasting {
    pub(super) id: u64,
    pub(super) prefix: Ipv6Net,
    pub(super) after: Duration,
}

/// One look at the counters.
#[derive(Debug, Default)]
pub(super) struct Look {
    /// Octets of each prefix, both ways, and how many are too many.
    pub(super) prefixes: Vec<(Ipv6Net, u64, u64)>,
    /// Packets of each filter, both ways.
    pub(super) filters: Vec<(Lasting, u64)>,
}

impl Detours {
    /// Takes a look; returns the prefixes that the CMD is to be asked about.
    pub(super) fn take(&mut self, look: &Look, now: Time) -> BTreeSet<Ipv6Net> {
        let mut long = BTreeSet::new();
        let bases = std::mem::take(&mut self.bases);
        for (prefix, octets, limit) in &look.prefixes {
            // Counters begin anew when they are read for charging.
            let base = bases.get(prefix).copied().filter(|base| base <= octets);
            let base = base.unwrap_or(if bases.contains_key(prefix) { 0 } else { *octets });
            self.bases.insert(*prefix, base);
            if octets - base >= *limit {
                long.insert(*prefix);
            }
        }
        let flows = std::mem::take(&mut self.flows);
        for (lasting, packets) in &look.filters {
            let mut flow = flows.get(&lasting.id).copied().unwrap_or(Flow {
                packets: *packets,
                since: now,
                active: None,
            });
            if flow.packets != *packets {
                if flow.active.is_none_or(|active| now.since(active) > FLOW_ENDS) {
                    flow.since = now;
                }
                flow.packets = *packets;
                flow.active = Some(now);
                if now.since(flow.since) >= lasting.after {
                    long.insert(lasting.prefix);
                }
            }
            self.flows.insert(lasting.id, flow);
        }
        self.asked.retain(|_, asked| now.since(*asked) < PAUSE);
        long.retain(|prefix| !self.asked.contains_key(prefix));
        self.asked.extend(long.iter().map(|prefix| (*prefix, now)));
        long
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time(Duration::from_secs(1_700_000_000 + seconds))
    }

    fn prefix() -> Ipv6Net {
        "2001:db8:100::/64".parse().unwrap()
    }

    #[test]
    fn what_carries_much() {
        let mut detours = Detours::default();
        let look = |octets| Look {
            prefixes: vec![(prefix(), octets, 1000)],
            ..Look::default()
        };
        // What was carried before it was a detour is none of it.
        assert!(detours.take(&look(5000), at(0)).is_empty());
        assert!(detours.take(&look(5999), at(5)).is_empty());
        assert!(detours.take(&look(6000), at(10)).contains(&prefix()));
        // The CMD has been asked; later it is asked again.
        assert!(detours.take(&look(7000), at(15)).is_empty());
        assert!(detours.take(&look(7000), at(40)).contains(&prefix()));
        // Counters that began anew.
        assert!(detours.take(&look(10), at(80)).is_empty());
        assert!(detours.take(&look(1010), at(85)).contains(&prefix()));
        // It came home, and left again.
        assert!(detours.take(&Look::default(), at(130)).is_empty());
        assert!(detours.take(&look(9000), at(200)).is_empty());
    }

    #[test]
    fn what_lasts() {
        let mut detours = Detours::default();
        let lasting = Lasting {
            id: 7,
            prefix: prefix(),
            after: Duration::from_secs(20),
        };
        let look = |packets| Look {
            filters: vec![(lasting, packets)],
            ..Look::default()
        };
        // Old packets are no flow; one begins at 5.
        assert!(detours.take(&look(100), at(0)).is_empty());
        for (seconds, packets) in [(5, 101), (10, 102), (15, 102), (20, 103)] {
            assert!(detours.take(&look(packets), at(seconds)).is_empty(), "{seconds}");
        }
        // Nothing for longer than 15 s: the next one is another flow.
        for (seconds, packets) in [(25, 103), (40, 104), (45, 105), (55, 106)] {
            assert!(detours.take(&look(packets), at(seconds)).is_empty(), "{seconds}");
        }
        assert!(detours.take(&look(106), at(60)).is_empty(), "silent just now");
        assert!(detours.take(&look(107), at(61)).contains(&prefix()));
    }
}
