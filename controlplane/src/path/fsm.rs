//! The state machine.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;
use std::time::Duration;

use crate::counters::Counters;
use crate::event::Event;
use crate::time::Time;
use crate::wire::gtpu::Message;

/// Names of the counters.
pub const COUNTERS: &[&str] = &[
    "gtpu_echo_requests_sent",
    "gtpu_echo_requests_repeated",
    "gtpu_echo_responses_received",
    "gtpu_echo_responses_unexpected",
    "gtpu_error_indications_received",
    "gtpu_supported_extension_headers_notifications_received",
    "gtpu_end_markers_received",
    "gtpu_messages_malformed",
    "gtpu_messages_of_strangers",
    "gtpu_paths_lost",
];

/// What one peer says again within this time is counted, and not told again.
const TOLD: Duration = Duration::from_secs(1);

/// The timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Between two Echo Requests on one path, at least 60 s (section 7.2.1); zero: none are sent.
    pub echo_interval: Duration,
    /// T3-RESPONSE: how long an answer may take (section 11).
    pub response_timeout: Duration,
    /// N3-REQUESTS: how often a request is sent before the path is taken for down, at least once.
    pub transmissions: u32,
}

/// What can happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// These are all peers that tunnels lead to; one of IPv4 as its IPv4-mapped form, here and everywhere below.
    Peers(BTreeSet<Ipv6Addr>),
    /// A message came.
    Message {
        /// From where.
        from: Ipv6Addr,
        /// What it says.
        message: Message,
    },
    /// What came to our port could not be read.
    Malformed,
    /// It is time.
    Tick,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this.
    Send {
        /// To where, port 2152.
        to: Ipv6Addr,
        /// The message.
        message: Message,
    },
    /// Tell that.
    Event(Event),
    /// A peer has no tunnel with this TEID.
    Refused {
        /// Which peer.
        peer: Ipv6Addr,
        /// What it got.
        teid: u32,
    },
}

/// What is known of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathState {
    /// Not asked yet, or not answered.
    Unknown,
    /// The last request was answered.
    Up,
    /// It was not.
    Down,
}

/// A path to a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// Whether it is there.
    pub state: PathState,
    /// The answer to the last request came after this.
    pub round_trip: Option<Duration>,
    request: Option<Request>,
    next_request_at: Time,
    /// Something that it says of our packets was told of last then.
    told_at: Option<Time>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Request {
    sequence: u16,
    sent_at: Time,
    transmissions: u32,
    repeat_at: Time,
}

/// All paths of a gateway.
#[derive(Clone, Debug)]
pub struct Paths {
    settings: Settings,
    paths: BTreeMap<Ipv6Addr, Path>,
    sequence: u16,
    counters: Counters,
}

impl Paths {
    /// None yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            paths: BTreeMap::new(),
            sequence: 0,
            counters: Counters::new(COUNTERS),
        }
    }

    /// By peer.
    #[must_use]
    pub fn paths(&self) -> &BTreeMap<Ipv6Addr, Path> {
        &self.paths
    }

    /// What was counted.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// When to tick next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        if self.settings.echo_interval.is_zero() {
            return None;
        }
        let deadlines = self.paths.values();
        deadlines
            .map(|path| path.request.map_or(path.next_request_at, |it| it.repeat_at))
            .min()
    }

    /// One step.
    pub fn process(&mut self, input: Input, now: Time) -> Vec<Output> {
        match input {
            Input::Peers(peers) => {
                self.paths.retain(|peer, _| peers.contains(peer));
                for peer in peers {
                    self.paths.entry(peer).or_insert(Path {
                        state: PathState::Unknown,
                        round_trip: None,
                        request: None,
                        next_request_at: now,
                        told_at: None,
                    });
                }
                self.tick(now)
            }
            Input::Message { from, message } => self.message(from, message, now),
            Input::Malformed => {
                self.counters.add("gtpu_messages_malformed");
                Vec::new()
            }
            Input::Tick => self.tick(now),
        }
    }

    fn message(&mut self, from: Ipv6Addr, message: Message, now: Time) -> Vec<Output> {
        let shown = from.to_canonical();
        match message {
            // The data plane answers by itself.
            Message::EchoRequest { .. } => Vec::new(),
            Message::EchoResponse { sequence } => self.answered(from, sequence, now),
            Message::ErrorIndication { teid, peer } => {
                self.counters.add("gtpu_error_indications_received");
                // Only who has the address says what it knows of its TEIDs.
                if peer != shown {
                    return Vec::new();
                }
                let text =
                    format!("{shown} has no tunnel with TEID {teid:#010x}: packets sent there are lost");
                let event = Event::new("gtpu_tunnel_refused", text).with("teid", format!("{teid:#010x}"));
                let mut outputs = self.told(from, event, now);
                // A stranger knows nothing of our tunnels.
                if self.paths.contains_key(&from) {
                    outputs.push(Output::Refused { peer: from, teid });
                }
                outputs
            }
            Message::SupportedExtensionHeadersNotification { types } => {
                self.counters
                    .add("gtpu_supported_extension_headers_notifications_received");
                let text = format!("{shown} did not understand an extension header; it knows {types:02x?}");
                self.told(from, Event::new("gtpu_extension_headers", text), now)
            }
            Message::EndMarker { .. } => {
                self.counters.add("gtpu_end_markers_received");
                Vec::new()
            }
        }
    }

    /// The event of what a peer says, unless it has just said something, or is none: whoever reaches us could fill the log.
    fn told(&mut self, from: Ipv6Addr, event: Event, now: Time) -> Vec<Output> {
        let Some(path) = self.paths.get_mut(&from) else {
            self.counters.add("gtpu_messages_of_strangers");
            return Vec::new();
        };
        if path.told_at.is_some_and(|told| now.since(told) < TOLD) {
            return Vec::new();
        }
        path.told_at = Some(now);
        vec![Output::Event(event.with("peer", from.to_canonical()))]
    }

    fn answered(&mut self, from: Ipv6Addr, sequence: u16, now: Time) -> Vec<Output> {
        let path = self.paths.get_mut(&from);
        let Some((path, request)) = path.and_then(|path| {
            let request = path.request.filter(|it| it.sequence == sequence)?;
            Some((path, request))
        }) else {
            self.counters.add("gtpu_echo_responses_unexpected");
            return Vec::new();
        };
        self.counters.add("gtpu_echo_responses_received");
        path.request = None;
        path.round_trip = Some(now.since(request.sent_at));
        path.next_request_at = request.sent_at.after(self.settings.echo_interval);
        if std::mem::replace(&mut path.state, PathState::Up) == PathState::Up {
            return Vec::new();
        }
        let shown = from.to_canonical();
        let event = Event::new("gtpu_path_up", format!("the path to {shown} is up")).with("peer", shown);
        vec![Output::Event(event)]
    }

    fn tick(&mut self, now: Time) -> Vec<Output> {
        let mut outputs = Vec::new();
        if self.settings.echo_interval.is_zero() {
            return outputs;
        }
        for (peer, path) in &mut self.paths {
            match &mut path.request {
                None if now >= path.next_request_at => {
                    self.sequence = self.sequence.wrapping_add(1);
                    path.request = Some(Request {
                        sequence: self.sequence,
                        sent_at: now,
                        transmissions: 1,
                        repeat_at: now.after(self.settings.response_timeout),
                    });
                    self.counters.add("gtpu_echo_requests_sent");
                    outputs.push(request(*peer, self.sequence));
                }
                Some(it) if now >= it.repeat_at && it.transmissions < self.settings.transmissions => {
                    it.transmissions += 1;
                    it.repeat_at = now.after(self.settings.response_timeout);
                    self.counters.add("gtpu_echo_requests_repeated");
                    outputs.push(request(*peer, it.sequence));
                }
                Some(it) if now >= it.repeat_at => {
                    path.next_request_at = it.sent_at.after(self.settings.echo_interval).max(now);
                    path.request = None;
                    path.round_trip = None;
                    if std::mem::replace(&mut path.state, PathState::Down) != PathState::Down {
                        self.counters.add("gtpu_paths_lost");
                        let shown = peer.to_canonical();
                        let text = format!(
                            "the path to {shown} is down: {} Echo Requests were not answered",
                            self.settings.transmissions
                        );
                        outputs.push(Output::Event(
                            Event::new("gtpu_path_down", text).with("peer", shown),
                        ));
                    }
                }
                None | Some(_) => {}
            }
        }
        outputs
    }
}

fn request(to: Ipv6Addr, sequence: u16) -> Output {
    let message = Message::EchoRequest { sequence };
    Output::Send { to, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xb, 0, 0, 0, 0, 1);
    const OTHER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, 1);

    fn at(seconds: u64) -> Time {
        Time(Duration::from_secs(1_700_000_000 + seconds))
    }

    fn paths() -> Paths {
        Paths::new(Settings {
            echo_interval: Duration::from_secs(60),
            response_timeout: Duration::from_secs(3),
            transmissions: 3,
        })
    }

    fn with(peers: &[Ipv6Addr]) -> Input {
        Input::Peers(peers.iter().copied().collect())
    }

    fn said(from: Ipv6Addr, message: Message) -> Input {
        Input::Message { from, message }
    }

    fn answer(from: Ipv6Addr, sequence: u16) -> Input {
        said(from, Message::EchoResponse { sequence })
    }

    fn kinds(outputs: &[Output]) -> Vec<&str> {
        let kind = |output: &Output| match output {
            Output::Send { .. } => "send",
            Output::Event(event) => event.kind,
            Output::Refused { .. } => "refused",
        };
        outputs.iter().map(kind).collect::<Vec<_>>()
    }

    #[test]
    fn a_path_that_is_answered_is_up_and_asked_after_once_in_an_interval() {
        let mut paths = paths();
        let outputs = paths.process(with(&[PEER]), at(0));
        assert_eq!(outputs, [request(PEER, 1)]);
        assert_eq!(kinds(&paths.process(answer(PEER, 1), at(1))), ["gtpu_path_up"]);
        assert_eq!(paths.paths()[&PEER].round_trip, Some(Duration::from_secs(1)));
        assert_eq!(paths.next_deadline(), Some(at(60)));
        assert_eq!(paths.process(Input::Tick, at(59)), []);
        // Naming the same peers again asks nobody.
        assert_eq!(paths.process(with(&[PEER]), at(59)), []);
        assert_eq!(paths.process(Input::Tick, at(60)), [request(PEER, 2)]);
        assert_eq!(paths.process(answer(PEER, 2), at(60)), [], "still up");
    }

    #[test]
    fn a_path_that_is_not_answered_is_down_until_it_is() {
        let mut paths = paths();
        paths.process(with(&[PEER]), at(0));
        assert_eq!(paths.process(Input::Tick, at(2)), []);
        assert_eq!(
            paths.process(Input::Tick, at(3)),
            [request(PEER, 1)],
            "the same number"
        );
        assert_eq!(paths.process(Input::Tick, at(6)), [request(PEER, 1)]);
        assert_eq!(kinds(&paths.process(Input::Tick, at(9))), ["gtpu_path_down"]);
        assert_eq!(
            paths.next_deadline(),
            Some(at(60)),
            "no more often than one that is up"
        );
        assert_eq!(paths.process(answer(PEER, 1), at(10)), [], "too late");
        assert_eq!(paths.counters().get("gtpu_echo_responses_unexpected"), 1);
        paths.process(Input::Tick, at(60));
        for seconds in [63, 66, 69] {
            let outputs = paths.process(Input::Tick, at(seconds));
            assert!(!kinds(&outputs).contains(&"gtpu_path_down"), "it was told");
        }
        paths.process(Input::Tick, at(120));
        assert_eq!(kinds(&paths.process(answer(PEER, 3), at(120))), ["gtpu_path_up"]);
        assert_eq!(paths.counters().get("gtpu_paths_lost"), 1);
        assert_eq!(paths.counters().get("gtpu_echo_requests_repeated"), 4);
    }

    #[test]
    fn a_peer_of_ipv4_is_told_as_one() {
        let mut paths = paths();
        let peer = std::net::Ipv4Addr::new(192, 0, 2, 7).to_ipv6_mapped();
        paths.process(with(&[peer]), at(0));
        let outputs = paths.process(answer(peer, 1), at(1));
        let [Output::Event(event)] = &outputs[..] else {
            panic!("{outputs:?}")
        };
        assert_eq!(event.field("peer"), Some("192.0.2.7"));
        let indication = Message::ErrorIndication {
            teid: 7,
            peer: "192.0.2.7".parse().unwrap(),
        };
        assert_eq!(
            kinds(&paths.process(said(peer, indication), at(2))),
            ["gtpu_tunnel_refused", "refused"]
        );
    }

    #[test]
    fn peers_come_and_go() {
        let mut paths = paths();
        paths.process(with(&[PEER]), at(0));
        assert_eq!(paths.process(with(&[PEER, OTHER]), at(1)), [request(OTHER, 2)]);
        assert_eq!(
            paths.process(answer(OTHER, 1), at(1)),
            [],
            "the number of another's request"
        );
        paths.process(with(&[OTHER]), at(2));
        assert_eq!(paths.paths().len(), 1);
        assert_eq!(paths.process(answer(PEER, 1), at(2)), [], "gone");
        paths.process(with(&[]), at(3));
        assert_eq!(paths.next_deadline(), None);
    }

    #[test]
    fn what_peers_say_is_told() {
        let mut paths = paths();
        paths.process(with(&[PEER]), at(0));
        let teid = 0x0a0b_0c0d;
        let indication = |peer| said(PEER, Message::ErrorIndication { teid, peer });
        let outputs = paths.process(indication(PEER.into()), at(0));
        let [Output::Event(event), Output::Refused { .. }] = &outputs[..] else {
            panic!("{outputs:?}")
        };
        assert_eq!(
            (event.kind, event.field("teid")),
            ("gtpu_tunnel_refused", Some("0x0a0b0c0d"))
        );
        assert_eq!(
            paths.process(indication(OTHER.into()), at(0)),
            [],
            "about another's TEID"
        );
        assert_eq!(paths.counters().get("gtpu_error_indications_received"), 2);
        let types = vec![0x85];
        let outputs = paths.process(
            said(PEER, Message::SupportedExtensionHeadersNotification { types }),
            at(1),
        );
        assert_eq!(kinds(&outputs), ["gtpu_extension_headers"]);
        assert_eq!(paths.process(said(PEER, Message::EndMarker { teid }), at(0)), []);
        assert_eq!(paths.process(Input::Malformed, at(0)), []);
        assert_eq!(paths.counters().get("gtpu_messages_malformed"), 1);
    }

    #[test]
    fn nobody_fills_the_log() {
        let mut paths = paths();
        paths.process(with(&[PEER]), at(0));
        let about = |peer: Ipv6Addr| {
            let indication = Message::ErrorIndication {
                teid: 7,
                peer: peer.into(),
            };
            let types = vec![0x85];
            let notification = Message::SupportedExtensionHeadersNotification { types };
            [said(peer, indication), said(peer, notification)]
        };
        let mut outputs = Vec::new();
        for peer in [OTHER, PEER].into_iter().cycle().take(2000) {
            let [indication, notification] = about(peer);
            outputs.extend(paths.process(indication, at(5)));
            outputs.extend(paths.process(notification, at(5)));
        }
        let events = outputs.iter().filter(|it| matches!(it, Output::Event(_))).count();
        // All are counted, and what a peer refuses is acted on each time.
        assert_eq!((events, outputs.len()), (1, 1001));
        assert_eq!(paths.counters().get("gtpu_error_indications_received"), 2000);
        assert_eq!(paths.counters().get("gtpu_messages_of_strangers"), 2000);
        let [indication, _] = about(PEER);
        assert_eq!(
            kinds(&paths.process(indication, at(6))),
            ["gtpu_tunnel_refused", "refused"]
        );
    }

    #[test]
    fn an_interval_of_zero_asks_nobody() {
        let mut paths = Paths::new(Settings {
            echo_interval: Duration::ZERO,
            ..self::paths().settings
        });
        assert_eq!(paths.process(with(&[PEER]), at(0)), []);
        assert_eq!(paths.next_deadline(), None);
    }
}
