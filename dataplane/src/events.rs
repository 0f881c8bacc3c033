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
/// What is lost, or not asked for, is told once in this time.
const TOLD: Duration = Duration::from_secs(1);
/// Neighbours remembered for that; past it, events are reported as lost.
const REMEMBERED: usize = 16_384;

/// A packet was dropped for want of this neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct MissingNeighbour {
    /// Index of the port, in the order of the configuration.
    pub(crate) port: usize,
    /// Whose link-layer address is not known.
    pub(crate) address: Ipv6Addr,
    /// A packet's destination on the link, which anybody may have made up; else a router or a peer that is configured.
    pub(crate) on_link: bool,
}

/// One worker's way to the control thread.
#[derive(Debug)]
pub(crate) struct EventRing {
    missing: ArrayQueue<MissingNeighbour>,
    /// Those on the link by themselves: a flood of them leaves the others room.
    on_link: ArrayQueue<MissingNeighbour>,
    /// Not counted where they are lost: the next packet of the same size brings the same error.
    too_big: ArrayQueue<PathTooBig>,
    ended: ArrayQueue<PathEnd>,
    lost: AtomicU64,
}

impl EventRing {
    pub(crate) fn new() -> Self {
        Self {
            missing: ArrayQueue::new(RING),
            on_link: ArrayQueue::new(RING),
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
        let ring = if event.on_link {
            &self.on_link
        } else {
            &self.missing
        };
        if ring.push(event).is_err() {
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
    neighbour_limited: AtomicU64,
    hold_expired: AtomicU64,
    held_dropped: AtomicU64,
    filter_expired: AtomicU64,
    path_ended: AtomicU64,
    /// Of those, whose end nobody told: the time had passed.
    path_ended_by_itself: AtomicU64,
    lost: AtomicU64,
    path_mtu_changed: AtomicU64,
}

impl EventHub {
    pub(crate) fn new() -> Self {
        Self {
            sender: Mutex::new(Some(broadcast::Sender::new(WATCHER_BACKLOG))),
            link_changed: AtomicU64::new(0),
            unknown_neighbour: AtomicU64::new(0),
            neighbour_limited: AtomicU64::new(0),
            hold_expired: AtomicU64::new(0),
            held_dropped: AtomicU64::new(0),
            filter_expired: AtomicU64::new(0),
            path_ended: AtomicU64::new(0),
            path_ended_by_itself: AtomicU64::new(0),
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

    /// So many were not asked for since others were.
    fn neighbour_limited(&self, limited: u64) {
        self.neighbour_limited.fetch_add(limited, Ordering::Relaxed);
        self.send(proto::event::Kind::Overflow(proto::Overflow {
            what: "neighbour_requests_per_second".to_owned(),
            lost: limited,
        }));
    }

    /// `filter`: the one that held flows of the prefix; 0: all of it was on hold.
    pub(crate) fn hold_expired(&self, prefix: Ipv6Net, filter: u64) {
        self.hold_expired.fetch_add(1, Ordering::Relaxed);
        self.send(proto::event::Kind::HoldExpired(proto::HoldExpired {
            address: prefix.network().octets().to_vec(),
            length: u32::from(prefix.prefix_len()),
            filter,
        }));
    }

    pub(crate) fn path_ended(&self, event: proto::PathEnded) {
        self.path_ended.fetch_add(1, Ordering::Relaxed);
        self.path_ended_by_itself
            .fetch_add(u64::from(event.by_itself), Ordering::Relaxed);
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
    pub(crate) fn counts(&self) -> [(&'static str, u64); 10] {
        [
            ("link_changed", self.link_changed.load(Ordering::Relaxed)),
            (
                "unknown_neighbour",
                self.unknown_neighbour.load(Ordering::Relaxed),
            ),
            (
                "neighbour_limited",
                self.neighbour_limited.load(Ordering::Relaxed),
            ),
            ("hold_expired", self.hold_expired.load(Ordering::Relaxed)),
            ("held_dropped", self.held_dropped.load(Ordering::Relaxed)),
            ("path_ended", self.path_ended.load(Ordering::Relaxed)),
            (
                "path_ended_by_itself",
                self.path_ended_by_itself.load(Ordering::Relaxed),
            ),
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
///
/// Of neighbours on a link, whose addresses a scan of its prefix makes up, only so many are asked for in a second on each
/// port: the kernel's table has room for some hundred, and a router has to find room in it (RFC 6583 section 6.2).
#[derive(Debug)]
pub(crate) struct EventCollector {
    reported: HashMap<MissingNeighbour, Instant>,
    /// By port: when the present second began, and how many were asked for in it.
    asked: Vec<(Instant, u32)>,
    /// Neighbours on a link to ask for in a second.
    per_second: u32,
    lost_before: Vec<u64>,
    /// Lost, and not asked for, since it was told last, and when that was: a scan goes on for long.
    untold: (u64, u64),
    told: Option<Instant>,
}

impl EventCollector {
    pub(crate) fn new(per_second: u32) -> Self {
        Self {
            reported: HashMap::new(),
            asked: Vec::new(),
            per_second,
            lost_before: Vec::new(),
            untold: (0, 0),
            told: None,
        }
    }

    /// Whether one more on the link of this port may be asked for.
    fn may_ask(&mut self, port: usize, now: Instant) -> bool {
        if self.asked.len() <= port {
            self.asked.resize(port + 1, (now, 0));
        }
        let Some((since, asked)) = self.asked.get_mut(port) else {
            return false;
        };
        if now.saturating_duration_since(*since) >= Duration::from_secs(1) {
            (*since, *asked) = (now, 0);
        }
        *asked += u32::from(*asked < self.per_second + 1);
        *asked <= self.per_second
    }

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
        let (mut lost, mut limited) = (0, 0);
        for (index, ring) in rings.enumerate() {
            // At most one ring's content for each visit: a worker that fills it meanwhile waits for the next.
            let configured = (0..RING).map_while(|_| ring.missing.pop());
            let on_link = (0..RING).map_while(|_| ring.on_link.pop());
            for missing in configured.chain(on_link) {
                if self.reported.contains_key(&missing) {
                    continue;
                }
                if self.reported.len() >= REMEMBERED {
                    lost += 1;
                    continue;
                }
                if missing.on_link && !self.may_ask(missing.port, now) {
                    limited += 1;
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
        self.untold = (self.untold.0 + lost, self.untold.1 + limited);
        if self
            .told
            .is_none_or(|at| now.saturating_duration_since(at) >= TOLD)
            && self.untold != (0, 0)
        {
            self.told = Some(now);
            let (lost, limited) = std::mem::take(&mut self.untold);
            if lost > 0 {
                hub.overflow("unknown_neighbour", lost);
            }
            if limited > 0 {
                hub.neighbour_limited(limited);
            }
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
            on_link: false,
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
        let (hub, ring, mut collector) = (EventHub::new(), EventRing::new(), EventCollector::new(100));
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
        let (hub, ring, mut collector) = (EventHub::new(), EventRing::new(), EventCollector::new(100));
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
    fn a_scan_of_a_link_asks_for_few_and_leaves_routers_room() {
        let (hub, ring, mut collector) = (EventHub::new(), EventRing::new(), EventCollector::new(100));
        let ports = ["core".to_owned(), "other".to_owned()];
        let start = Instant::now();
        let on_link = |port, host| MissingNeighbour {
            port,
            on_link: true,
            ..missing(host)
        };
        // More than there is room for; the router comes last, and another link is another matter.
        for host in 0..1000 {
            ring.push(on_link(0, host));
        }
        ring.push(missing(1));
        collector.collect([&ring].into_iter(), &ports, &hub, start);
        let count = |kind| hub.counts().into_iter().find(|(it, _)| *it == kind).unwrap().1;
        assert_eq!(count("unknown_neighbour"), 101);
        assert_eq!(count("neighbour_limited"), RING as u64 - 100);
        assert_eq!(count("overflow"), 1000 - RING as u64, "what did not fit");
        ring.push(on_link(1, 1));
        collector.collect(
            [&ring].into_iter(),
            &ports,
            &hub,
            start + Duration::from_millis(500),
        );
        assert_eq!(count("unknown_neighbour"), 102);
        // A second later there is room again.
        ring.push(on_link(0, 2000));
        collector.collect(
            [&ring].into_iter(),
            &ports,
            &hub,
            start + Duration::from_millis(1000),
        );
        assert_eq!(count("unknown_neighbour"), 103);
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
