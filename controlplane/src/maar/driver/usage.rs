//! What nodes do with their older prefixes: asked of the data plane, which counts it.
//!
//! What goes on to a DPN passes through here: the data plane counts that too, beside what it charges, without times. So of
//! such a prefix two looks are compared.
//!
//! Those that are used no more are given up (`maar.idle_prefix_s`), and the CMD is asked to end detours that have become too
//! long ([`Detours`]).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ipnet::Ipv6Net;
use kedge_config::Config;
use kedge_dataplane_api::Client;
use kedge_dataplane_api::proto::{FilterCount, PrefixCount, PrefixKey, ReadCountersRequest};
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::Daemon;
use super::detours::{Detours, Lasting, Look};
use crate::forwarding;
use crate::maar::{Input, Phase};
use crate::time::Time;
use crate::wire::mobility::is_mobile_network;

/// It is asked no oftener whether prefixes are in use.
const OFTEN: Duration = Duration::from_secs(1);
/// How often it is asked about detours.
const DETOURS: Duration = Duration::from_secs(5);

/// So many are given up, and so many detours reported, together.
const AT_ONCE: usize = 64;

/// What the data plane has counted.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// When each prefix has carried its last packet; the beginning of time where it has carried none.
    last: Vec<(Ipv6Net, Time)>,
    /// How many packets each prefix of a node at a DPN has carried.
    passed: Vec<(Ipv6Net, u64)>,
    look: Look,
}

/// What is known of older prefixes.
#[derive(Debug)]
pub(super) struct Usage {
    /// `maar.idle_prefix_s`; `None`: nobody asks.
    idle: Option<Duration>,
    /// When it is to be asked again which prefixes are in use.
    ask_idle_at: Time,
    /// Since when each has been an older one, as far as this process knows; or was seen in use by way of a DPN.
    since: BTreeMap<Ipv6Net, Time>,
    /// Of nodes at DPNs, how many packets each prefix had carried at the last look.
    passed: BTreeMap<Ipv6Net, u64>,
    detours: Detours,
    answers: mpsc::Sender<Answer>,
}

impl Usage {
    pub(super) fn new(config: &Config) -> (Self, mpsc::Receiver<Answer>, Interval) {
        let seconds = config.maar.as_ref().map_or(0, |maar| maar.idle_prefix_s);
        let idle = (seconds > 0).then(|| Duration::from_secs(seconds.into()));
        let mut often = interval(idle.map_or(DETOURS, idle_interval).min(DETOURS));
        often.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (answers, receiver) = mpsc::channel(4);
        let usage = Self {
            idle,
            ask_idle_at: Time::default(),
            since: BTreeMap::new(),
            passed: BTreeMap::new(),
            detours: Detours::default(),
            answers,
        };
        (usage, receiver, often)
    }

    /// Notes what the older prefixes are, and of which nodes at DPNs.
    fn follow(&mut self, older: impl Iterator<Item = (Ipv6Net, bool)>, now: Time) -> Vec<(Ipv6Net, bool)> {
        let older: Vec<_> = older.collect();
        let since = std::mem::take(&mut self.since);
        let known = |prefix: &Ipv6Net| since.get(prefix).copied().unwrap_or(now);
        self.since = older.iter().map(|(prefix, _)| (*prefix, known(prefix))).collect();
        let at_dpn: BTreeSet<_> = older.iter().filter(|(_, at_dpn)| *at_dpn).collect();
        self.passed.retain(|prefix, _| at_dpn.contains(&(*prefix, true)));
        older
    }

    /// The prefixes that have not been used for so long that they are given up.
    fn unused(&mut self, answer: &Answer, now: Time) -> Vec<Ipv6Net> {
        let Some(idle) = self.idle else {
            return Vec::new();
        };
        for (prefix, packets) in &answer.passed {
            // Before the first look there may have been any.
            if self.passed.insert(*prefix, *packets) != Some(*packets)
                && let Some(since) = self.since.get_mut(prefix)
            {
                *since = now;
            }
        }
        let passed = answer.passed.iter().map(|(prefix, _)| (*prefix, Time::default()));
        let all = answer.last.iter().copied().chain(passed);
        let unused = all.filter(|(prefix, last)| {
            let since = self.since.get(prefix).copied().unwrap_or(now);
            last.max(&since).after(idle) <= now
        });
        unused.map(|(prefix, _)| prefix).take(AT_ONCE).collect()
    }
}

fn idle_interval(idle: Duration) -> Duration {
    (idle / 4).max(OFTEN)
}

impl Daemon {
    /// Asks the data plane about older prefixes of nodes here.
    pub(super) fn ask_usage(&mut self) {
        if self.dataplane.generation().is_none() {
            return;
        }
        let now = self.observer.clock().now();
        let used = self.perhaps_unused(now);
        let state = self.machine.state();
        let attached = || state.nodes.values().filter(|node| node.phase == Phase::Attached);
        let limited: Vec<_> = attached()
            .flat_map(|node| {
                let limits = node.detour_limits.iter();
                let limits =
                    limits.filter(|(prefix, _)| node.previous.iter().any(|it| it.prefix == **prefix));
                limits.map(|(prefix, limit)| (*prefix, *limit, node.dpn.is_some()))
            })
            .collect();
        let rules = forwarding::rules(&self.config, state);
        let lasting: Vec<_> = rules
            .filter_map(|rule| Some((rule, rule.relocate_after_s?)))
            .flat_map(|(rule, seconds)| {
                let after = Duration::from_secs(seconds.into());
                let filters = forwarding::on_detours(rule, state);
                filters.map(move |(id, prefix)| Lasting { id, prefix, after })
            })
            .collect();
        if used.is_empty() && limited.is_empty() && lasting.is_empty() {
            return;
        }
        let (socket, answers) = (self.config.dataplane_socket(), self.usage.answers.clone());
        tokio::spawn(async move {
            let Ok(client) = Client::connect(&socket).await else {
                return;
            };
            let mut answer = Answer::default();
            let at_dpn = used.iter().any(|(_, it)| *it) || limited.iter().any(|(_, _, it)| *it);
            let passing = if at_dpn {
                passing(&client).await
            } else {
                BTreeMap::new()
            };
            // One that has gone meanwhile is none of an answer.
            for (prefix, at_dpn) in used {
                if at_dpn {
                    let count = passing.get(&prefix);
                    let packets = count.map(|it| it.to_packets.saturating_add(it.from_packets));
                    answer.passed.extend(packets.map(|packets| (prefix, packets)));
                } else if let Some(count) = prefix_count(&client, prefix).await {
                    let last = Time(Duration::from_millis(count.last_unix_ms));
                    answer.last.push((prefix, last));
                }
            }
            for (prefix, limit, at_dpn) in limited {
                let count = match at_dpn {
                    true => passing.get(&prefix).cloned(),
                    false => prefix_count(&client, prefix).await,
                };
                if let Some(count) = count {
                    let octets = count.to_bytes.saturating_add(count.from_bytes);
                    answer.look.prefixes.push((prefix, octets, limit));
                }
            }
            for lasting in lasting {
                if let Some(count) = filter_count(&client, lasting.id).await {
                    let packets = count.to_node_packets.saturating_add(count.from_node_packets);
                    answer.look.filters.push((lasting, packets));
                }
            }
            let _ = answers.send(answer).await;
        });
    }

    /// The older prefixes of nodes here, if it is time to see whether they are in use.
    fn perhaps_unused(&mut self, now: Time) -> Vec<(Ipv6Net, bool)> {
        let Some(idle) = self.usage.idle.filter(|_| self.usage.ask_idle_at <= now) else {
            return Vec::new();
        };
        self.usage.ask_idle_at = now.after(idle_interval(idle));
        let nodes = self.machine.state().nodes.values();
        let attached = nodes.filter(|node| node.phase == Phase::Attached);
        let older = attached.flat_map(|node| {
            let adopted = node.adopted.iter().map(|it| it.prefix);
            let all = node.previous.iter().map(|it| it.prefix).chain(adopted);
            let all = all.filter(|prefix| !is_mobile_network(*prefix));
            all.map(|prefix| (prefix, node.dpn.is_some()))
        });
        self.usage.follow(older, now)
    }

    /// Gives up what was not used, and reports detours that are too long.
    pub(super) fn take_usage(&mut self, answer: Answer) {
        let now = self.observer.clock().now();
        let long = self.usage.detours.take(&answer.look, now);
        // The others are as long, or as unused, the next time.
        for prefix in long.into_iter().take(AT_ONCE) {
            self.process(Input::LongDetour(prefix));
        }
        for prefix in self.usage.unused(&answer, now) {
            self.process(Input::Unused(prefix));
        }
    }
}

/// What each prefix has carried, be it that it only passed through here.
async fn passing(client: &Client) -> BTreeMap<Ipv6Net, PrefixCount> {
    let Ok(status) = client.status().await else {
        return BTreeMap::new();
    };
    let of = |count: PrefixCount| {
        let address = <[u8; 16]>::try_from(count.address.as_slice()).ok()?;
        let prefix = Ipv6Net::new(address.into(), u8::try_from(count.length).ok()?).ok()?;
        Some((prefix, count))
    };
    status.prefixes.into_iter().filter_map(of).collect()
}

async fn prefix_count(client: &Client, prefix: Ipv6Net) -> Option<PrefixCount> {
    let key = PrefixKey {
        address: prefix.addr().octets().to_vec(),
        length: prefix.prefix_len().into(),
    };
    let request = ReadCountersRequest {
        prefixes: vec![key],
        ..ReadCountersRequest::default()
    };
    let reading = client.read_counters(request).await.ok()?;
    reading.prefixes.into_iter().next()
}

async fn filter_count(client: &Client, id: u64) -> Option<FilterCount> {
    let request = ReadCountersRequest {
        filters: vec![id],
        ..ReadCountersRequest::default()
    };
    let reading = client.read_counters(request).await.ok()?;
    reading.filters.into_iter().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time(Duration::from_secs(1_700_000_000 + seconds))
    }

    fn usage() -> Usage {
        Usage {
            idle: Some(Duration::from_secs(60)),
            ask_idle_at: Time::default(),
            since: BTreeMap::new(),
            passed: BTreeMap::new(),
            detours: Detours::default(),
            answers: mpsc::channel(1).0,
        }
    }

    #[test]
    fn what_is_used_by_way_of_a_dpn_is_in_use() {
        let mut usage = usage();
        let [busy, idle] = [1, 2].map(|it| format!("2001:db8:100:{it}::/64").parse::<Ipv6Net>().unwrap());
        let mut look = |at_dpn: bool, packets: u64, now: Time| {
            usage.follow([(busy, at_dpn), (idle, at_dpn)].into_iter(), now);
            let answer = match at_dpn {
                true => Answer {
                    passed: vec![(busy, packets), (idle, 7)],
                    ..Answer::default()
                },
                // Here it has carried nothing yet.
                false => Answer {
                    last: vec![(busy, Time::default()), (idle, Time::default())],
                    ..Answer::default()
                },
            };
            usage.unused(&answer, now)
        };
        assert_eq!(look(true, 100, at(0)), []);
        for second in 1..4 {
            assert_eq!(look(true, 100 + second, at(15 * second)), []);
        }
        assert_eq!(look(true, 104, at(60)), [idle]);
        // It comes to a link of ours: what it carried a moment ago it did not carry here.
        assert_eq!(look(false, 0, at(65)), [idle]);
        assert_eq!(look(false, 0, at(119)), [idle]);
        assert_eq!(look(false, 0, at(120)), [busy, idle]);
        // And back: nobody knows what it carried meanwhile.
        assert_eq!(look(true, 104, at(121)), []);
    }
}
