//! From the configuration to a running daemon, and its end.

use kedge_config::{Config, Role};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Clock, Observer};
use crate::northbound::{self, Request};
use crate::{cmd, dpn, maar, metrics};

/// Runs the daemon of `config` until SIGTERM or SIGINT.
///
/// # Errors
/// What keeps it from starting, or from saving its state at the end.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let clock = Clock::start();
    let observer = Observer::new(&config.node.name, clock);
    let (requests, queue) = mpsc::channel(256);
    // The socket is removed when this goes out of scope, on failure too.
    let (_socket, listener) = northbound::Socket::listen(&config.controlplane_socket())?;
    let scrapes = match config.node.metrics {
        Some(address) => Some(
            metrics::serve(address, requests.clone())
                .await
                .map_err(|error| anyhow::anyhow!("node.metrics = {address}: {error}"))?,
        ),
        None => None,
    };
    let service = northbound::serve(listener, requests, observer.clone());
    let parts = Parts {
        config,
        observer,
        requests: queue,
        signals: Signals::new()?,
    };
    let outcome = match parts.config.node.role {
        Role::Maar => maar::driver::run(parts).await,
        Role::Cmd => cmd::driver::run(parts).await,
        Role::Dpn => dpn::driver::run(parts).await,
    };
    service.abort();
    if let Some(scrapes) = scrapes {
        scrapes.abort();
    }
    outcome
}

/// What a role's event loop is given.
#[derive(Debug)]
pub struct Parts {
    /// The node's.
    pub config: Config,
    /// To tell events.
    pub observer: Observer,
    /// What operators ask.
    pub requests: mpsc::Receiver<Request>,
    /// What the system asks.
    pub signals: Signals,
}

/// The signals that a daemon heeds.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

/// What a signal means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heeded {
    /// End.
    Stop,
    /// Read the policy file again.
    Reload,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for one.
    pub async fn next(&mut self) -> Heeded {
        tokio::select! {
            _ = self.terminate.recv() => Heeded::Stop,
            _ = self.interrupt.recv() => Heeded::Stop,
            _ = self.hangup.recv() => Heeded::Reload,
        }
    }
}

/// Waits until a deadline; for ever if there is none.
pub async fn wait_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
