//! Events: from the workers' rings to whoever watches.
//!
//! A worker puts what it noticed into a ring of its own and never waits; what
//! does not fit is counted. The control thread empties the rings, drops
//! repetitions, and hands the rest to every watcher. A watcher that is too slow
//! loses the oldest events and is told how many.

use std::collections::HashMap;
use std::net::Ipv6Addr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam::queue::ArrayQueue;
use ipnet::Ipv6Net;
use kedge_dataplane_api::proto;
use parking_lot::Mutex;
use tokio::sync::broadcast;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;
use tokio_stream::{Stream, StreamExt};
use tonic::Status;

use crate::pipeline::{PathEnd, PathTooBig};
use crate::snapshot::Expiry;

/// Events that a watcher may lag behind before it loses some.
const WATCHER_BACKLOG: usize = 4096;
/// Neighbours that one worker may miss between two visits of the control thread.
const RING: usize = 256;
/// Path ends that may wait to be heeded: of so many prefixes that move together.
const ENDS: usize = 4096;
/// Paths that a router may speak of to one worker between two visits.
pub(crate) const PATHS: usize = 64;
/// A neighbour is reported once in this time, however many packets ask for it.
const REPETITION: Duration = Duration::from_millis(100);
/// Neighbours remembered for that; past it, events are reported as lost.
const REMEMBERED: usize = 16_384;

/// A packet was dropped for want of this neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct MissingNeighbour {
    /// Index of the port, in the order of the configuration.
    pub(crate) port: usize,
    /// Whose link-layer address is not known.
    pub(crate) address: Ipv6Addr,
}

/// One worker's way to the control thread.
#[derive(Debug)]
pub(crate) struct EventRing {
    missing: ArrayQueue<MissingNeighbour>,
    /// Not counted where they are lost: the next packet of the same size brings the same error.
    too_big: ArrayQueue<PathTooBig>,
    ended: ArrayQueue<PathEnd>,
    lost: AtomicU64,
}

impl EventRing {
    pub(crate) fn new() -> Self {
        Self {
            missing: ArrayQueue::new(RING),
            too_big: ArrayQueue::new(PATHS),
            ended: ArrayQueue::new(ENDS),
            lost: AtomicU64::new(0),
        }
    }

    /// As [`EventRing::push`]. One that does not fit is not counted: it is said again, and ends by itself.
    pub(crate) fn path_ended(&self, end: PathEnd) {
        let _ = self.ended.push(end);
    }

    /// The next tunnel that has brought its last; the control thread's.
    pub(crate) fn next_path_ended(&self) -> Option<PathEnd> {
        self.ended.pop()
    }

    /// Called by the worker; never waits.
    pub(crate) fn push_too_big(&self, path: PathTooBig) {
        let _ = self.too_big.push(path);
    }

    /// The next path that a router has spoken of.
    pub(crate) fn pop_too_big(&self) -> Option<PathTooBig> {
        self.too_big.pop()
    }

    /// Called by the worker; never waits.
    pub(crate) fn push(&self, event: MissingNeighbour) {
        if self.missing.push(event).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A stream of events as gRPC wants it.
pub(crate) type EventStream = Pin<Box<dyn Stream<Item = Result<proto::Event, Status>> + Send>>;

/// Where all events come together.
#[derive(Debug)]
pub(crate) struct EventHub {
    /// `None` once closed.
    sender: Mutex<Option<broadcast::Sender<proto::Event>>>,
    link_changed: AtomicU64,
    unknown_neighbour: AtomicU64,
    hold_expired: AtomicU64,
    held_dropped: AtomicU64,
    filter_expired: AtomicU64,
    path_ended: AtomicU64,
    lost: AtomicU64,
    path_mtu_changed: AtomicU64,
}

impl EventHub {
    pub(crate) fn new() -> Self {
        Self {
            sender: Mutex::new(Some(broadcast::Sender::new(WATCHER_BACKLOG))),
            link_changed: AtomicU64::new(0),
            unknown_neighbour: AtomicU64::new(0),
            hold_expired: AtomicU64::new(0),
            held_dropped: AtomicU64::new(0),
            filter_expired: AtomicU64::new(0),
            path_ended: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            path_mtu_changed: AtomicU64::new(0),
        }
    }

    /// Events from now on; ends when the hub is closed.
    pub(crate) fn watch(&self) -> EventStream {
        let Some(receiver) = self.sender.lock().as_ref().map(broadcast::Sender::subscribe) else {
            return Box::pin(tokio_stream::empty());
        };
        Box::pin(BroadcastStream::new(receiver).map(|item| {
            Ok(item.unwrap_or_else(|BroadcastStreamRecvError::Lagged(lost)| {
                event(proto::event::Kind::Overflow(proto::Overflow {
                    what: "subscriber".to_owned(),
                    lost,
                }))
            }))
        }))
    }

    pub(crate) fn link_changed(&self, port: &str, up: bool) {
        self.link_changed.fetch_add(1, Ordering::Relaxed);
        self.send(proto::event::Kind::LinkChanged(proto::LinkChanged {
            port: port.to_owned(),
            up,
        }));
    }

    fn unknown_neighbour(&self, port: &str, address: Ipv6Addr) {
        self.unknown_neighbour.fetch_add(1, Ordering::Relaxed);
        let address = address.octets().to_vec();
        self.send(proto::event::Kind::UnknownNeighbour(proto::UnknownNeighbour {
            port: port.to_owned(),
            address,
        }));
    }

    pub(crate) fn hold_expired(&self, prefix: Ipv6Net) {
        self.hold_expired.fetch_add(1, Ordering::Relaxed);
        self.send(proto::event::Kind::HoldExpired(proto::HoldExpired {
            address: prefix.network().octets().to_vec(),
            length: u32::from(prefix.prefix_len()),
        }));
    }

    pub(crate) fn path_ended(&self, event: proto::PathEnded) {
        self.path_ended.fetch_add(1, Ordering::Relaxed);
        self.send(proto::event::Kind::PathEnded(event));
    }

    pub(crate) fn held_dropped(&self, reason: &str, packets: u64) {
        self.held_dropped.fetch_add(1, Ordering::Relaxed);
        self.send(proto::event::Kind::HeldDropped(proto::HeldDropped {
            reason: reason.to_owned(),
            packets,
        }));
    }

    /// `learned`: by what a router said; else because that was long ago.
    pub(crate) fn path_mtu_changed(&self, remote: Ipv6Addr, mtu: u16, learned: bool) {
        self.path_mtu_changed.fetch_add(1, Ordering::Relaxed);
        self.send(proto::event::Kind::PathMtuChanged(proto::PathMtuChanged {
            remote: remote.octets().to_vec(),
            mtu: u32::from(mtu),
            learned,
        }));
    }

    pub(crate) fn filter_expired(&self, id: u64, why: Expiry) {
        self.filter_expired.fetch_add(1, Ordering::Relaxed);
        let why = match why {
            Expiry::Idle => proto::FilterExpiry::Idle,
            Expiry::Lifetime => proto::FilterExpiry::Lifetime,
        };
        self.send(proto::event::Kind::FilterExpired(proto::FilterExpired {
            id,
            why: why.into(),
        }));
    }

    fn overflow(&self, what: &str, lost: u64) {
        self.lost.fetch_add(lost, Ordering::Relaxed);
        self.send(proto::event::Kind::Overflow(proto::Overflow {
            what: what.to_owned(),
            lost,
        }));
    }

    /// Ends all streams.
    pub(crate) fn close(&self) {
        self.sender.lock().take();
    }

    /// Events so far by kind; `overflow` is of events lost.
    pub(crate) fn counts(&self) -> [(&'static str, u64); 8] {
        [
            ("link_changed", self.link_changed.load(Ordering::Relaxed)),
            (
                "unknown_neighbour",
                self.unknown_neighbour.load(Ordering::Relaxed),
            ),
            ("hold_expired", self.hold_expired.load(Ordering::Relaxed)),
            ("held_dropped", self.held_dropped.load(Ordering::Relaxed)),
            ("path_ended", self.path_ended.load(Ordering::Relaxed)),
            ("overflow", self.lost.load(Ordering::Relaxed)),
            ("path_mtu_changed", self.path_mtu_changed.load(Ordering::Relaxed)),
            ("filter_expired", self.filter_expired.load(Ordering::Relaxed)),
        ]
    }

    fn send(&self, kind: proto::event::Kind) {
        if let Some(sender) = self.sender.lock().as_ref() {
            // An error says that nobody watches, which is no failure.
            let _ = sender.send(event(kind));
        }
    }
}

fn event(kind: proto::event::Kind) -> proto::Event {
    let unix_ms = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis());
    proto::Event {
        unix_ms: u64::try_from(unix_ms).unwrap_or(u64::MAX),
        kind: Some(kind),
    }
}

/// Empties the rings into the hub, without repetitions. The control thread's.
#[derive(Debug, Default)]
pub(crate) struct EventCollector {
    reported: HashMap<MissingNeighbour, Instant>,
    lost_before: Vec<u64>,
}

impl EventCollector {
    /// `ports` are names by index.
    pub(crate) fn collect<'a>(
        &mut self,
        rings: impl Iterator<Item = &'a EventRing>,
        ports: &[String],
        hub: &EventHub,
        now: Instant,
    ) {
        self.reported
            .retain(|_, at| now.saturating_duration_since(*at) < REPETITION);
        let mut lost = 0;
        for (index, ring) in rings.enumerate() {
            // At most one ring's content for each visit: a worker that fills it meanwhile waits for the next.
            for _ in 0..RING {
                let Some(missing) = ring.missing.pop() else { break };
                if self.reported.contains_key(&missing) {
                    continue;
                }
                if self.reported.len() >= REMEMBERED {
                    lost += 1;
                    continue;
                }
                self.reported.insert(missing, now);
                if let Some(port) = ports.get(missing.port) {
                    hub.unknown_neighbour(port, missing.address);
                }
            }
            let total = ring.lost.load(Ordering::Relaxed);
            if self.lost_before.len() <= index {
                self.lost_before.resize(index + 1, 0);
            }
            if let Some(before) = self.lost_before.get_mut(index) {
                lost += total.saturating_sub(*before);
                *before = total;
            }
        }
        if lost > 0 {
            hub.overflow("unknown_neighbour", lost);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::event::Kind;

    fn missing(host: u16) -> MissingNeighbour {
        MissingNeighbour {
            port: 0,
            address: Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, host),
        }
    }

    fn next(stream: &mut EventStream) -> Option<Kind> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime
            .block_on(stream.next())
            .and_then(|event| event.unwrap().kind)
    }

    #[test]
    fn a_neighbour_is_reported_once_in_a_while() {
        let (hub, ring, mut collector) = (EventHub::new(), EventRing::new(), EventCollector::default());
        let ports = ["core".to_owned()];
        let mut watcher = hub.watch();
        let start = Instant::now();
        for milliseconds in [0, 50, 99, 150] {
            ring.push(missing(1));
            ring.push(missing(1));
            collector.collect(
                [&ring].into_iter(),
                &ports,
                &hub,
                start + Duration::from_millis(milliseconds),
            );
        }
        assert_eq!(hub.counts()[1], ("unknown_neighbour", 2), "at 0 ms and at 150 ms");
        let Some(Kind::UnknownNeighbour(event)) = next(&mut watcher) else {
            panic!("no event")
        };
        assert_eq!(
            (event.port.as_str(), event.address),
            ("core", missing(1).address.octets().to_vec())
        );
        assert!(matches!(next(&mut watcher), Some(Kind::UnknownNeighbour(_))));
        hub.close();
        assert_eq!(next(&mut watcher), None, "closing ends the stream");
        assert_eq!(next(&mut hub.watch()), None);
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let (hub, ring, mut collector) = (EventHub::new(), EventRing::new(), EventCollector::default());
        let mut watcher = hub.watch();
        for host in 0..300 {
            ring.push(missing(host));
        }
        collector.collect([&ring].into_iter(), &["core".to_owned()], &hub, Instant::now());
        for _ in 0..RING {
            assert!(matches!(next(&mut watcher), Some(Kind::UnknownNeighbour(_))));
        }
        let lost = Kind::Overflow(proto::Overflow {
            what: "unknown_neighbour".to_owned(),
            lost: 44,
        });
        assert_eq!(next(&mut watcher), Some(lost));
        collector.collect([&ring].into_iter(), &["core".to_owned()], &hub, Instant::now());
        assert!(
            hub.counts().contains(&("overflow", 44)),
            "a loss is reported once"
        );
    }

    #[test]
    fn a_slow_watcher_is_told_what_it_missed() {
        let hub = EventHub::new();
        let mut slow = hub.watch();
        for turn in 0..WATCHER_BACKLOG + 10 {
            hub.link_changed("core", turn % 2 == 0);
        }
        let lost = Kind::Overflow(proto::Overflow {
            what: "subscriber".to_owned(),
            lost: 10,
        });
        assert_eq!(next(&mut slow), Some(lost));
        assert!(matches!(next(&mut slow), Some(Kind::LinkChanged(_))));
    }
}
