//! Whether the peers of GTP-U tunnels are there: path management with its sockets, which open with the first tunnel.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};

use kedge_config::Config;

use super::Observer;
use crate::counters::Counters;
use crate::event::Event;
use crate::northbound::proto;
use crate::path::{Input, Output, Path, PathSocket, PathState, Paths, Received, Settings};
use crate::time::Time;
use crate::wire::gtpu::{Message, PORT};

/// Names of the counters.
const COUNTERS: &[&str] = &["gtpu_messages_not_sent"];

/// Path management of one gateway.
pub(crate) struct GtpuPaths {
    address: Ipv6Addr,
    ipv4: Option<Ipv4Addr>,
    observer: Observer,
    paths: Paths,
    /// Open from the first GTP-U tunnel on.
    socket: Option<PathSocket>,
    counters: Counters,
}

impl GtpuPaths {
    pub(crate) fn new(config: &Config, observer: &Observer) -> Self {
        let timers = &config.timers;
        Self {
            address: config.node.address,
            ipv4: config.maar.as_ref().and_then(|maar| maar.gtpu_ipv4_address),
            observer: observer.clone(),
            paths: Paths::new(Settings {
                echo_interval: timers.gtpu_echo_interval,
                response_timeout: timers.gtpu_t3_response,
                transmissions: timers.gtpu_n3_requests,
            }),
            socket: None,
            counters: Counters::new(COUNTERS),
        }
    }

    /// What sends to peers.
    pub(crate) fn socket(&self) -> Option<&PathSocket> {
        self.socket.as_ref()
    }

    /// The paths by peer.
    pub(crate) fn paths(&self) -> &BTreeMap<Ipv6Addr, Path> {
        self.paths.paths()
    }

    /// The same for operators.
    pub(crate) fn list(&self) -> proto::PathList {
        let paths = self.paths().iter().map(|(peer, path)| proto::Path {
            peer: peer.to_canonical().to_string(),
            state: match path.state {
                PathState::Unknown => "unknown",
                PathState::Up => "up",
                PathState::Down => "down",
            }
            .to_owned(),
            round_trip_us: path
                .round_trip
                .map(|it| u64::try_from(it.as_micros()).unwrap_or(u64::MAX)),
        });
        proto::PathList {
            paths: paths.collect(),
        }
    }

    /// By peer, whether the last Echo Request was answered.
    pub(crate) fn up(&self) -> Vec<(Ipv6Addr, bool)> {
        let paths = self.paths().iter();
        paths
            .map(|(peer, path)| (*peer, path.state == PathState::Up))
            .collect()
    }

    /// What was counted.
    pub(crate) fn counters(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.counters.iter().chain(self.paths.counters().iter())
    }

    /// When the next request is due.
    pub(crate) fn next_deadline(&self) -> Option<Time> {
        self.paths.next_deadline().filter(|_| self.socket.is_some())
    }

    /// One step; gives the tunnels that peers know nothing of, with who says so.
    pub(crate) fn process(&mut self, input: Input) -> Vec<(Ipv6Addr, u32)> {
        let outputs = self.paths.process(input, self.observer.clock().now());
        if self.socket.is_none() && !self.paths.paths().is_empty() {
            self.open();
        }
        let mut refused = Vec::new();
        for output in outputs {
            match output {
                Output::Send { to, message } => {
                    let sent = self.socket.as_ref().map(|socket| socket.send(to, &message));
                    // What is not sent is not answered, and so sent again.
                    if let Some(Err(error)) = sent {
                        self.counters.add("gtpu_messages_not_sent");
                        tracing::debug!(%to, %error, "a GTP-U message cannot be sent");
                    }
                }
                Output::Event(event) if event.kind == "gtpu_path_up" => self.observer.tell(&event),
                Output::Event(event) => self.observer.warn(&event),
                Output::Refused { peer, teid } => refused.push((peer, teid)),
            }
        }
        refused
    }

    /// It fails while the node's address is not there yet: then it is tried again with the next probe.
    fn open(&mut self) {
        match PathSocket::bind(self.address, self.ipv4) {
            Ok(socket) => self.socket = Some(socket),
            Err(error) => {
                let text = format!(
                    "UDP port {PORT} of {} cannot be had, so nobody asks whether GTP-U peers are there: {error}",
                    self.address
                );
                self.observer.warn(&Event::new("gtpu_socket", text));
            }
        }
    }

    /// The next message; never, while there is no socket.
    pub(crate) async fn receive(&self) -> io::Result<Received> {
        match &self.socket {
            Some(socket) => socket.receive().await,
            None => std::future::pending().await,
        }
    }
}

/// A message as an input, and the End Marker that it is: who sent it, and of which TEID. `None`: it is none.
pub(crate) fn path_input(received: io::Result<Received>) -> Option<(Input, Option<(Ipv6Addr, u32)>)> {
    match received {
        Ok((from, Ok(message))) => {
            let end = match message {
                Message::EndMarker { teid } => Some((from, teid)),
                _ => None,
            };
            Some((Input::Message { from, message }, end))
        }
        Ok((from, Err(error))) => {
            tracing::debug!(%from, %error, "a GTP-U message was refused");
            Some((Input::Malformed, None))
        }
        // The kernel tells here that a peer's port is closed: its request will be unanswered.
        Err(error) => {
            tracing::debug!(%error, "the GTP-U socket");
            None
        }
    }
}
