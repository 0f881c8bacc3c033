//! Keeps one data plane at what it should hold.
//!
//! Whatever happened before (first start, restart of either side, a lost
//! connection), the way is the same: read back what the data plane has, send
//! the difference to what it should have, and then each later difference.
//!
//! What the data plane would refuse as a whole is not sent: where it says that
//! it carries no IPv4 of nodes, the event loop is told so, and what it should
//! have is awaited without.

use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kedge_dataplane_api::{Client, ClientError, ReadBack, Tables, Transaction, proto};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};

use crate::driver::Observer;
use crate::event::Event;

/// Wait before the next attempt to connect: doubled from the one to the other.
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LAST_RETRY: Duration = Duration::from_secs(1);
/// A refused transaction is tried again after this, in case the reason has gone.
const REFUSED_RETRY: Duration = Duration::from_secs(1);

/// What the data plane tells the event loop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromDataplane {
    /// It is there, and was read back.
    Connected {
        /// Whether it takes IPv4 prefixes of nodes; `None`: it does not say.
        carries_inner_ipv4: Option<bool>,
    },
    /// It refused a transaction, for this reason; that is tried again.
    Refused(String),
    /// It holds what it should, as of this generation.
    Synchronised {
        /// Its generation.
        generation: u64,
        /// That of [`Desired`] which it holds.
        revision: u64,
    },
    /// The connection is gone.
    Lost,
    /// A packet was dropped for want of this neighbour.
    UnknownNeighbour {
        /// Port name.
        port: String,
        /// Its address.
        address: Ipv6Addr,
    },
    /// A filter's time has passed.
    FilterExpired {
        /// Its id.
        id: u64,
    },
}

/// What a data plane should hold.
#[derive(Clone, Debug, Default)]
pub struct Desired {
    /// Grows with every change.
    pub revision: u64,
    /// The tables.
    pub tables: Tables,
    /// Whether IPv4 prefixes of nodes may be in them.
    pub inner_ipv4: bool,
}

impl Desired {
    /// What it should hold to begin with.
    #[must_use]
    pub fn first(tables: Tables, inner_ipv4: bool) -> Self {
        let revision = 0;
        Self {
            revision,
            tables,
            inner_ipv4,
        }
    }
}

/// Starts the task. It sends to the data plane at `socket` whatever is put
/// into the sender that comes back, and goes on for ever.
#[must_use]
pub fn start(
    socket: PathBuf,
    first: Desired,
    observer: Observer,
) -> (watch::Sender<Desired>, mpsc::Receiver<FromDataplane>) {
    let (desired, wanted) = watch::channel(first);
    let (sender, receiver) = mpsc::channel(256);
    let task = Task {
        wanted,
        sender,
        observer,
    };
    tokio::spawn(task.run(socket));
    (desired, receiver)
}

struct Task {
    wanted: watch::Receiver<Desired>,
    sender: mpsc::Sender<FromDataplane>,
    observer: Observer,
}

/// The event loop has gone, so the process is ending.
struct Stopped;

/// What was done to make the data plane hold what it should.
enum Sent {
    /// It does.
    All,
    /// Nothing: it would not take that, and what it should hold is about to be another.
    Awaited,
}

/// What is known of the other side.
struct Mirror {
    generation: u64,
    /// Of what it was last made the same as.
    revision: u64,
    tables: Tables,
    /// Whether it takes IPv4 prefixes of nodes; `None`: it does not say.
    carries_inner_ipv4: Option<bool>,
}

impl Mirror {
    fn read(read: ReadBack) -> Self {
        Self {
            generation: read.generation,
            revision: 0,
            tables: read.tables,
            carries_inner_ipv4: read.carries_inner_ipv4,
        }
    }
}

impl Task {
    async fn run(mut self, socket: PathBuf) {
        let mut retry = FIRST_RETRY;
        let mut told = false;
        loop {
            match Client::connect(&socket).await {
                Ok(client) => {
                    told = true;
                    let begin = Instant::now();
                    match self.session(&client).await {
                        Err(Stopped) => return,
                        Ok(Some(error)) => self.lost(&error),
                        Ok(None) => {}
                    }
                    // One that fails at once may go on doing so.
                    if begin.elapsed() > LAST_RETRY {
                        retry = FIRST_RETRY;
                    }
                    if self.sender.send(FromDataplane::Lost).await.is_err() {
                        return;
                    }
                }
                Err(error) if !told => {
                    told = true;
                    self.waiting(&socket, &error);
                }
                Err(_) => {}
            }
            tokio::time::sleep(retry).await;
            retry = (retry * 2).min(LAST_RETRY);
        }
    }

    fn waiting(&self, socket: &Path, error: &ClientError) {
        let event = Event::new(
            "dataplane_waiting",
            format!("waiting for the data plane: {error}"),
        );
        self.observer.warn(&event.with("socket", socket.display()));
    }

    fn lost(&self, error: &ClientError) {
        let event = Event::new("dataplane_lost", format!("the data plane is gone: {error}"));
        self.observer.warn(&event);
    }

    /// One connection, from its first read-back to the error that ends it; no
    /// error where it did not get so far.
    async fn session(&mut self, client: &Client) -> Result<Option<ClientError>, Stopped> {
        let begun = async {
            let events = client.events().await?;
            Ok::<_, ClientError>((events, Mirror::read(client.read_back().await?)))
        };
        let (mut events, mut mirror) = match begun.await {
            Ok(begun) => begun,
            Err(error) => {
                tracing::debug!(%error, "the data plane does not answer");
                return Ok(None);
            }
        };
        let text = format!(
            "the data plane is connected at generation {} with {} prefixes",
            mirror.generation,
            mirror.tables.prefixes.len()
        );
        let event = Event::new("dataplane_connected", text).with("generation", mirror.generation);
        self.observer.tell(&event);
        let carries_inner_ipv4 = mirror.carries_inner_ipv4;
        self.tell_loop(FromDataplane::Connected { carries_inner_ipv4 })
            .await?;
        let mut refused = false;
        loop {
            match self.synchronise(client, &mut mirror).await {
                // The event loop has been told, and will have something else.
                Ok(Sent::Awaited) => {}
                Ok(Sent::All) => {
                    refused = false;
                    let (generation, revision) = (mirror.generation, mirror.revision);
                    self.tell_loop(FromDataplane::Synchronised { generation, revision })
                        .await?;
                }
                Err(ClientError::GenerationMismatch(_)) => {
                    // Somebody else has written there; their change is undone by the next difference.
                    match client.read_back().await {
                        Ok(read) => mirror = Mirror::read(read),
                        Err(error) => return Ok(Some(error)),
                    }
                    continue;
                }
                Err(ClientError::Rejected(reason)) => {
                    if !std::mem::replace(&mut refused, true) {
                        let text = format!("the data plane refused a transaction: {reason}");
                        self.observer
                            .warn(&Event::new("dataplane_refused", text).with("reason", &reason));
                    }
                    self.tell_loop(FromDataplane::Refused(reason)).await?;
                }
                Err(error) => return Ok(Some(error)),
            }
            let wait = if refused { REFUSED_RETRY } else { Duration::MAX };
            // What happens first: something to send, an event, or the time to try again.
            let happened = timeout(wait, async {
                tokio::select! {
                    changed = self.wanted.changed() => changed.map(|()| None).map_err(|_| Stopped),
                    event = events.message() => Ok(Some(event)),
                }
            });
            match happened.await {
                Err(_) | Ok(Ok(None)) => {}
                Ok(Err(Stopped)) => return Err(Stopped),
                Ok(Ok(Some(Ok(Some(event))))) => self.event(event).await?,
                Ok(Ok(Some(end))) => {
                    let reason = match end {
                        Err(status) => status.message().to_owned(),
                        Ok(_) => "the data plane ended its events".to_owned(),
                    };
                    let socket = client.socket().to_owned();
                    return Ok(Some(ClientError::Lost { socket, reason }));
                }
            }
        }
    }

    /// Sends the difference, if there is one.
    async fn synchronise(&mut self, client: &Client, mirror: &mut Mirror) -> Result<Sent, ClientError> {
        let Desired {
            revision,
            tables: wanted,
            inner_ipv4,
        } = self.wanted.borrow_and_update().clone();
        if inner_ipv4 && mirror.carries_inner_ipv4 == Some(false) {
            return Ok(Sent::Awaited);
        }
        let mut transaction = Transaction::between(&mirror.tables, &wanted);
        if transaction.is_empty() {
            mirror.revision = revision;
            return Ok(Sent::All);
        }
        transaction.expected_generation = mirror.generation;
        mirror.generation = client.apply(&transaction).await?;
        mirror.tables = wanted;
        mirror.revision = revision;
        tracing::debug!(
            generation = mirror.generation,
            entries = transaction.entries(),
            "applied"
        );
        Ok(Sent::All)
    }

    async fn event(&self, event: proto::Event) -> Result<(), Stopped> {
        match event.kind {
            Some(proto::event::Kind::UnknownNeighbour(unknown)) => {
                let Ok(address) = <[u8; 16]>::try_from(unknown.address.as_slice()) else {
                    tracing::warn!(address = ?unknown.address, "an unknown neighbour's address is not 16 octets");
                    return Ok(());
                };
                let (port, address) = (unknown.port, Ipv6Addr::from(address));
                self.tell_loop(FromDataplane::UnknownNeighbour { port, address })
                    .await
            }
            Some(proto::event::Kind::LinkChanged(link)) => {
                let text = format!("port {} is {}", link.port, if link.up { "up" } else { "down" });
                let event = Event::new("link_changed", text)
                    .with("port", link.port)
                    .with("up", link.up);
                self.observer.tell(&event);
                Ok(())
            }
            Some(proto::event::Kind::HoldExpired(hold)) => {
                let prefix = prefix_text(&hold.address, hold.length);
                let what = match hold.filter {
                    0 => format!("packets to {prefix}"),
                    filter => format!("the flows of {prefix} that filter {filter} holds"),
                };
                let text = format!("{what} waited for too long: they are dropped from now on");
                let mut event = Event::new("hold_expired", text).with("prefix", prefix);
                if hold.filter != 0 {
                    event = event.with("filter", hold.filter);
                }
                self.observer.tell(&event);
                Ok(())
            }
            Some(proto::event::Kind::PathEnded(end)) => {
                let prefix = prefix_text(&end.address, end.length);
                let why = if end.by_itself {
                    "in time nobody said so"
                } else {
                    "its end has come"
                };
                let text = format!(
                    "packets to {prefix} that were still on their old way are here after {} us: {why}",
                    end.waited_us
                );
                let event = Event::new("path_ended", text)
                    .with("prefix", prefix)
                    .with("by_itself", end.by_itself)
                    .with("waited_us", end.waited_us);
                self.observer.tell(&event);
                Ok(())
            }
            Some(proto::event::Kind::HeldDropped(dropped)) => {
                let text = format!(
                    "{} packets that were to wait were dropped: {}",
                    dropped.packets, dropped.reason
                );
                let event = Event::new("held_dropped", text)
                    .with("reason", dropped.reason)
                    .with("packets", dropped.packets);
                self.observer.tell(&event);
                Ok(())
            }
            Some(proto::event::Kind::FilterExpired(expired)) => {
                self.tell_loop(FromDataplane::FilterExpired { id: expired.id })
                    .await
            }
            Some(proto::event::Kind::Overflow(overflow)) => {
                tracing::warn!(
                    what = overflow.what,
                    lost = overflow.lost,
                    "the data plane did not report all events"
                );
                Ok(())
            }
            // The data plane's own affair: it tells sources, and `kedge watch`.
            Some(proto::event::Kind::PathMtuChanged(_)) | None => Ok(()),
        }
    }

    async fn tell_loop(&self, what: FromDataplane) -> Result<(), Stopped> {
        self.sender.send(what).await.map_err(|_| Stopped)
    }
}

/// A prefix of an event, as people read it.
pub(crate) fn prefix_text(address: &[u8], length: u32) -> String {
    <[u8; 16]>::try_from(address).map_or_else(
        |_| format!("{address:02x?}/{length}"),
        |address| format!("{}/{length}", Ipv6Addr::from(address)),
    )
}
