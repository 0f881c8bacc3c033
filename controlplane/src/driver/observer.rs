//! Tells what happens: to the log, and to everybody who watches.

use tokio::sync::broadcast;

use super::Clock;
use crate::event::Event;
use crate::northbound::proto;

/// Events that a watcher may lag behind before it is told that it missed some.
const BACKLOG: usize = 4096;

/// Hands events to the log and to every subscriber.
#[derive(Clone, Debug)]
pub struct Observer {
    gateway: String,
    clock: Clock,
    events: broadcast::Sender<proto::Event>,
}

impl Observer {
    /// An observer of the node `gateway`.
    #[must_use]
    pub fn new(gateway: &str, clock: Clock) -> Self {
        Self {
            gateway: gateway.to_owned(),
            clock,
            events: broadcast::Sender::new(BACKLOG),
        }
    }

    /// The daemon's clock.
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Every event from now on.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<proto::Event> {
        self.events.subscribe()
    }

    /// Tells an event.
    pub fn tell(&self, event: &Event) {
        tracing::info!(kind = event.kind, "{}", event.text);
        self.publish(event);
    }

    /// Tells an event that an operator has to act on.
    pub fn warn(&self, event: &Event) {
        tracing::warn!(kind = event.kind, "{}", event.text);
        self.publish(event);
    }

    fn publish(&self, event: &Event) {
        // An error means that nobody watches.
        let _ = self.events.send(self.message(event));
    }

    /// An event as it travels.
    #[must_use]
    pub fn message(&self, event: &Event) -> proto::Event {
        proto::Event {
            unix_us: u64::try_from(self.clock.now().0.as_micros()).unwrap_or(u64::MAX),
            gateway: self.gateway.clone(),
            kind: event.kind.to_owned(),
            text: event.text.clone(),
            fields: event
                .fields
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone()))
                .collect(),
        }
    }
}
