//! Which of their older prefixes nodes still use: asked of the data plane, which has counted when each carried its last packet.

use std::collections::BTreeMap;
use std::time::Duration;

use ipnet::Ipv6Net;
use kedge_config::Config;
use kedge_dataplane_api::Client;
use kedge_dataplane_api::proto::{PrefixKey, ReadCountersRequest};
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::Daemon;
use crate::maar::{Input, Phase};
use crate::time::Time;

/// It is asked no oftener.
const OFTEN: Duration = Duration::from_secs(1);

/// So many are given up together.
const AT_ONCE: u32 = 64;

/// When each prefix has carried its last packet; the beginning of time where it has carried none.
pub(super) type Answer = Vec<(Ipv6Net, Time)>;

/// What is known of prefixes that may be out of use.
#[derive(Debug)]
pub(super) struct Usage {
    /// `maar.idle_prefix_s`; `None`: nobody asks.
    idle: Option<Duration>,
    /// Since when each has been an older one, as far as this process knows.
    since: BTreeMap<Ipv6Net, Time>,
    answers: mpsc::Sender<Answer>,
}

impl Usage {
    pub(super) fn new(config: &Config) -> (Self, mpsc::Receiver<Answer>, Interval) {
        let seconds = config.maar.as_ref().map_or(0, |maar| maar.idle_prefix_s);
        let idle = (seconds > 0).then(|| Duration::from_secs(seconds.into()));
        let mut often = interval(idle.map_or(Duration::MAX / 4, |idle| (idle / 4).max(OFTEN)));
        often.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (answers, receiver) = mpsc::channel(4);
        let since = BTreeMap::new();
        (Self { idle, since, answers }, receiver, often)
    }
}

impl Daemon {
    /// Asks the data plane about all older prefixes of nodes here.
    pub(super) fn ask_usage(&mut self) {
        if self.usage.idle.is_none() || self.dataplane.is_none() {
            return;
        }
        let now = self.observer.clock().now();
        let nodes = self.machine.state().nodes.values();
        let attached = nodes.filter(|node| node.phase == Phase::Attached);
        let older = attached.flat_map(|node| {
            let adopted = node.adopted.iter().map(|it| it.prefix);
            node.previous.iter().map(|it| it.prefix).chain(adopted)
        });
        let since = std::mem::take(&mut self.usage.since);
        self.usage.since = older
            .map(|prefix| (prefix, since.get(&prefix).copied().unwrap_or(now)))
            .collect();
        let prefixes: Vec<_> = self.usage.since.keys().copied().collect();
        let (socket, answers) = (self.config.dataplane_socket(), self.usage.answers.clone());
        if prefixes.is_empty() {
            return;
        }
        tokio::spawn(async move {
            let Ok(client) = Client::connect(&socket).await else {
                return;
            };
            let mut last = Vec::new();
            for prefix in prefixes {
                let key = PrefixKey {
                    address: prefix.addr().octets().to_vec(),
                    length: prefix.prefix_len().into(),
                };
                let request = ReadCountersRequest {
                    prefixes: vec![key],
                    ..ReadCountersRequest::default()
                };
                // One that has gone meanwhile is none of an answer.
                if let Ok(reading) = client.read_counters(request).await
                    && let Some(count) = reading.prefixes.first()
                {
                    last.push((prefix, Time(Duration::from_millis(count.last_unix_ms))));
                }
            }
            let _ = answers.send(last).await;
        });
    }

    /// Gives up what was not used.
    pub(super) fn take_usage(&mut self, last: Answer) {
        let Some(idle) = self.usage.idle else {
            return;
        };
        let now = self.observer.clock().now();
        let mut given_up = 0;
        for (prefix, last) in last {
            let since = self.usage.since.get(&prefix).copied().unwrap_or(now);
            if last.max(since).after(idle) <= now {
                self.process(Input::Unused(prefix));
                given_up += 1;
                // The others are as unused the next time.
                if given_up == AT_ONCE {
                    return;
                }
            }
        }
    }
}
