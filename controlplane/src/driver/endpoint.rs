//! The signalling end of a daemon: messages in and out, each one parsed or
//! written, counted, told, and answered where it is bad.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::description::{describe, short_name};
use super::{Datagram, MobilitySocket, Observer, RateLimit, Reaction, reaction};
use crate::counters::Counters;
use crate::event::Event;
use crate::wire::mobility::{MAXIMUM_OCTETS, MobilityError, MobilityMessage, emit, parse};

/// How long to wait before an address that is not there is tried again.
const BIND_RETRY: Duration = Duration::from_millis(200);

/// Names of the counters.
const COUNTERS: &[&str] = &[
    "mobility_error_truncated",
    "mobility_error_oversized",
    "mobility_error_checksum",
    "mobility_error_payload_proto",
    "mobility_error_header_len",
    "mobility_error_option_overrun",
    "mobility_error_option_invalid",
    "mobility_error_not_proxy",
    "mobility_receive_failed",
    "mobility_send_failed",
    "mobility_send_without_socket",
    "binding_errors_sent",
    "parameter_problems_sent",
    "answers_suppressed",
];

/// What distinguishes messages that are counted together: direction, name, result.
pub type MessageCount = (&'static str, &'static str, &'static str);

/// The signalling end of a daemon.
#[derive(Debug)]
pub struct Endpoint {
    address: Ipv6Addr,
    observer: Observer,
    socket: Option<Arc<MobilitySocket>>,
    answers: RateLimit,
    /// Of refused messages that are told and not only counted, so that a flood does not fill the log.
    told: RateLimit,
    counters: Counters,
    messages: BTreeMap<MessageCount, u64>,
}

/// What the receiving task hands to the event loop.
#[derive(Debug)]
pub enum FromSocket {
    /// The socket is there.
    Open(Arc<MobilitySocket>),
    /// A message.
    Datagram(Datagram),
    /// Receiving failed.
    Failed(io::Error),
}

impl Endpoint {
    /// An endpoint at `address` whose socket opens as soon as the address is there.
    #[must_use]
    pub fn new(address: Ipv6Addr, observer: Observer) -> (Self, mpsc::Receiver<FromSocket>) {
        // Past this many unread messages they wait, and are lost, in the socket's buffer.
        let (sender, receiver) = mpsc::channel(256);
        tokio::spawn(open_and_receive(address, observer.clone(), sender));
        let endpoint = Self {
            address,
            observer,
            socket: None,
            answers: RateLimit::default(),
            told: RateLimit::default(),
            counters: Counters::new(COUNTERS),
            messages: BTreeMap::new(),
        };
        (endpoint, receiver)
    }

    /// Takes what the socket had; a message that a state machine can have comes out.
    pub fn take(&mut self, from_socket: FromSocket) -> Option<(Ipv6Addr, MobilityMessage)> {
        match from_socket {
            FromSocket::Open(socket) => {
                self.socket = Some(socket);
                None
            }
            FromSocket::Failed(error) => {
                self.counters.add("mobility_receive_failed");
                tracing::warn!(%error, "receiving a Mobility Header failed");
                None
            }
            FromSocket::Datagram(datagram) => self.receive(&datagram),
        }
    }

    fn receive(&mut self, datagram: &Datagram) -> Option<(Ipv6Addr, MobilityMessage)> {
        let from = datagram.source;
        let parsed = if datagram.octets.len() > MAXIMUM_OCTETS + 8 {
            // The socket cut it off, so its checksum says nothing.
            let header_len = datagram
                .octets
                .get(1)
                .map_or(0, |units| (usize::from(*units) + 1) * 8);
            let octets = datagram.octets.len();
            Err(MobilityError::Oversized { octets, header_len })
        } else {
            parse(from, self.address, &datagram.octets)
        };
        if let Some(reaction) = reaction(&parsed) {
            self.react(from, datagram, &reaction);
        }
        match parsed {
            Ok(message) => {
                self.count("received", &message);
                let event = describe(
                    "message_received",
                    &message,
                    from,
                    self.address,
                    datagram.octets.len(),
                );
                self.observer.tell(&event);
                Some((from, message))
            }
            Err(error) => {
                self.counters.add(counter_of(&error));
                if !self.told.allow(self.observer.clock().now()) {
                    return None;
                }
                let text = format!("message from {from} refused: {error}");
                let event = Event::new("message_refused", text)
                    .with("from", from)
                    .with("error", counter_of(&error));
                self.observer.tell(&event);
                None
            }
        }
    }

    fn react(&mut self, from: Ipv6Addr, datagram: &Datagram, reaction: &Reaction) {
        if from.is_unspecified() || from.is_multicast() || !self.answers.allow(self.observer.clock().now()) {
            self.counters.add("answers_suppressed");
            return;
        }
        match reaction {
            Reaction::BindingError(error) => {
                self.counters.add("binding_errors_sent");
                self.send(from, &MobilityMessage::BindingError(error.clone()));
            }
            Reaction::ParameterProblem { pointer } => {
                let sent = super::reaction::send_parameter_problem(
                    self.address,
                    from,
                    datagram.hop_limit,
                    *pointer,
                    &datagram.octets,
                );
                match sent {
                    Ok(()) => self.counters.add("parameter_problems_sent"),
                    Err(error) => self.send_failed(from, &error),
                }
            }
        }
    }

    /// Sends a message of a state machine. What cannot be sent now is counted;
    /// the state machine's retransmission is the remedy.
    pub fn send(&mut self, to: Ipv6Addr, message: &MobilityMessage) {
        let octets = match emit(message, self.address, to) {
            Ok(octets) => octets,
            Err(error) => {
                self.counters.add("mobility_send_failed");
                tracing::error!(%error, %to, "a {} cannot be written", message.name());
                return;
            }
        };
        let Some(socket) = &self.socket else {
            self.counters.add("mobility_send_without_socket");
            return;
        };
        if let Err(error) = socket.send(to, &octets) {
            self.send_failed(to, &error);
            return;
        }
        self.count("sent", message);
        let event = describe("message_sent", message, self.address, to, octets.len());
        self.observer.tell(&event);
    }

    fn send_failed(&mut self, to: Ipv6Addr, error: &io::Error) {
        self.counters.add("mobility_send_failed");
        let text = format!("nothing can be sent to {to}: {error}");
        let event = Event::new("message_not_sent", text)
            .with("to", to)
            .with("error", error);
        self.observer.warn(&event);
    }

    fn count(&mut self, direction: &'static str, message: &MobilityMessage) {
        let result = match message {
            MobilityMessage::ProxyBindingAcknowledgement(acknowledgement) => {
                if acknowledgement.status.is_accepted() {
                    "accepted"
                } else {
                    "refused"
                }
            }
            MobilityMessage::ProxyBindingUpdate(_) | MobilityMessage::UpdateNotification(_) => "",
            MobilityMessage::UpdateNotificationAcknowledgement(acknowledgement) => {
                match acknowledgement.status {
                    ..128 => "accepted",
                    _ => "refused",
                }
            }
            MobilityMessage::BindingError(_) | MobilityMessage::Other(_) => "error",
        };
        *self
            .messages
            .entry((direction, short_name(message), result))
            .or_default() += 1;
    }

    /// What went wrong, by name.
    pub fn counters(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let kernel = self.socket.as_ref().and_then(|socket| socket.dropped_by_kernel());
        // A wrong checksum never gets past the kernel, so it is counted there.
        self.counters.iter().chain(std::iter::once((
            "mobility_dropped_by_kernel",
            kernel.unwrap_or_default(),
        )))
    }

    /// How many messages went which way.
    #[must_use]
    pub fn messages(&self) -> &BTreeMap<MessageCount, u64> {
        &self.messages
    }
}

fn counter_of(error: &MobilityError) -> &'static str {
    match error {
        MobilityError::Truncated { .. } => "mobility_error_truncated",
        MobilityError::Oversized { .. } => "mobility_error_oversized",
        MobilityError::Checksum { .. } => "mobility_error_checksum",
        MobilityError::PayloadProto(_) => "mobility_error_payload_proto",
        MobilityError::HeaderLen { .. } => "mobility_error_header_len",
        MobilityError::OptionOverrun { .. } => "mobility_error_option_overrun",
        MobilityError::OptionInvalid { .. } => "mobility_error_option_invalid",
        MobilityError::NotProxy { .. } => "mobility_error_not_proxy",
    }
}

/// Binds as soon as the address is there, then hands over every message.
async fn open_and_receive(address: Ipv6Addr, observer: Observer, sender: mpsc::Sender<FromSocket>) {
    let mut told = String::new();
    let socket = loop {
        match MobilitySocket::bind(address) {
            Ok(socket) => break Arc::new(socket),
            Err(error) => {
                let reason = match error.kind() {
                    io::ErrorKind::AddrNotAvailable => {
                        "it is on no interface yet, or still tentative".to_owned()
                    }
                    io::ErrorKind::PermissionDenied => "CAP_NET_RAW is needed".to_owned(),
                    _ => error.to_string(),
                };
                // Once for each reason: it may take as long as the operator does.
                if told != reason {
                    let text = format!(
                        "waiting for node.address {address} to open the Mobility Header socket: {reason}"
                    );
                    observer.warn(&Event::new("signalling_waiting", text).with("address", address));
                    told = reason;
                }
                tokio::time::sleep(BIND_RETRY).await;
            }
        }
    };
    let text = format!("signalling as {address}");
    observer.tell(&Event::new("signalling_ready", text).with("address", address));
    if sender.send(FromSocket::Open(Arc::clone(&socket))).await.is_err() {
        return;
    }
    loop {
        let item = match socket.receive().await {
            Ok(datagram) => FromSocket::Datagram(datagram),
            Err(error) => {
                tokio::time::sleep(BIND_RETRY).await;
                FromSocket::Failed(error)
            }
        };
        if sender.send(item).await.is_err() {
            return;
        }
    }
}
