//! The task between the announcer and a routing daemon: one request at a time, each with one answer.

use std::future::Future;

use ipnet::Ipv6Net;
use kedge_config::{Announce, RoutingDaemon};
use tokio::sync::mpsc;

use super::fsm::{Change, Input};
use super::gobgp::GobgpSpeaker;
use super::kernel::KernelSpeaker;
use super::{Output, Routes};

/// What the task is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// [`Output::Connect`].
    Connect,
    /// [`Output::List`].
    List,
    /// [`Output::Apply`].
    Apply(Vec<Change>),
}

impl Command {
    /// Takes what is for the task out of the outputs of a step.
    ///
    /// # Errors
    /// The output, if it is not for the task.
    pub fn of(output: Output) -> Result<Self, Output> {
        match output {
            Output::Connect => Ok(Self::Connect),
            Output::List => Ok(Self::List),
            Output::Apply(changes) => Ok(Self::Apply(changes)),
            other => Err(other),
        }
    }
}

/// What became of each change.
pub(super) type Results = Vec<(Ipv6Net, Result<(), String>)>;

/// What a daemon says by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// It has ended, or the connection has.
    Lost(String),
    /// A route of ours was removed, not by us.
    Gone(Ipv6Net),
    /// Whether its neighbours hear at once what it is given.
    Neighbours(bool),
}

/// A routing daemon, or what stands before it. After an error, connect anew.
pub(super) trait Speaker: Send + 'static {
    /// Connects, and forgets whatever connection there was.
    fn connect(&mut self) -> impl Future<Output = Result<(), String>> + Send;
    /// All routes of ours.
    fn list(&mut self) -> impl Future<Output = Result<Routes, String>> + Send;
    /// Carries out changes in their order. A change that was refused keeps no other from being made.
    fn apply(&mut self, changes: &[Change]) -> impl Future<Output = Result<Results, String>> + Send;
    /// Waits for what it says by itself; for ever without a connection. May be given up at any time.
    fn said(&mut self) -> impl Future<Output = Said> + Send;
}

/// Starts the task for the daemon of `[announce]`. It ends with the sender.
#[must_use]
pub fn start(announce: &Announce) -> (mpsc::Sender<Command>, mpsc::Receiver<Input>) {
    // There is one request at a time; what a kernel says by itself waits when the event loop is busy.
    let (commands, requests) = mpsc::channel(1);
    let (inputs, answers) = mpsc::channel(256);
    match announce.daemon {
        RoutingDaemon::Gobgp => {
            let speaker = GobgpSpeaker::new(announce.gobgp.clone().unwrap_or_default());
            tokio::spawn(serve(speaker, requests, inputs));
        }
        RoutingDaemon::Kernel => {
            let speaker = KernelSpeaker::new(announce.kernel.unwrap_or_default());
            tokio::spawn(serve(speaker, requests, inputs));
        }
    }
    (commands, answers)
}

pub(super) async fn serve<S: Speaker>(
    mut speaker: S,
    mut commands: mpsc::Receiver<Command>,
    inputs: mpsc::Sender<Input>,
) {
    loop {
        let input = tokio::select! {
            command = commands.recv() => match command {
                None => return,
                Some(command) => answer(&mut speaker, command).await,
            },
            said = speaker.said() => match said {
                Said::Lost(reason) => Input::Lost(reason),
                Said::Gone(prefix) => Input::Gone(prefix),
                Said::Neighbours(hear) => Input::Neighbours(hear),
            },
        };
        if inputs.send(input).await.is_err() {
            return;
        }
    }
}

async fn answer(speaker: &mut impl Speaker, command: Command) -> Input {
    let answer = match command {
        Command::Connect => speaker.connect().await.map(|()| Input::Connected),
        Command::List => speaker.list().await.map(Input::Listed),
        Command::Apply(changes) => speaker.apply(&changes).await.map(Input::Applied),
    };
    answer.unwrap_or_else(Input::Lost)
}
