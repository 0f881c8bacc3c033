//! The packet generator: a process of its own, because a process has one DPDK, on a core of its own.
//!
//! It is told what to do line by line on standard input, and answers line by line on standard output. Its
//! connection to the device under test stays between trials, so that a search pays for the start once.

mod pace;
mod serve;
mod stream;
mod switch;
mod tally;
mod watch;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::ChildStdin;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::frames::Template;
use crate::processes::Process;

pub(crate) use serve::serve;

/// The subcommand that starts one.
pub(crate) const SUBCOMMAND: &str = "generate";
/// What a trial may take beyond its own time before the generator counts as stuck: it waits for stragglers.
const PATIENCE: Duration = Duration::from_secs(20);

/// The first line that a generator is given.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Setup {
    /// The vhost-user socket of the device under test.
    pub(crate) socket: PathBuf,
    /// Where to run.
    pub(crate) core: usize,
    /// Packets in each ring between the two.
    pub(crate) ring: u16,
    /// What to send.
    pub(crate) template: Template,
}

/// Every further line: one trial.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Order {
    /// Packets to offer each second; `None`: what the device takes.
    pub(crate) rate: Option<f64>,
    /// For how long.
    pub(crate) seconds: f64,
    /// Whether to keep the latencies, too.
    pub(crate) latencies: bool,
}

/// The answer to an [`Order`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// For how long packets were sent.
    pub(crate) seconds: f64,
    /// For how much of that the generator was kept from its processor, and sent nothing.
    pub(crate) absent: f64,
    /// Packets that were due and offered. Less than asked for where the generator cannot do more.
    pub(crate) offered: u64,
    /// Packets among these that found the ring full: the device was too slow to take them.
    pub(crate) refused: u64,
    /// Packets that came back.
    pub(crate) received: u64,
    /// Packets that came back after one that was sent later.
    pub(crate) reordered: u64,
    /// Frames that came, but are not of this trial.
    pub(crate) foreign: u64,
    /// Packets whose latency nobody knows: they came while the generator was kept from its processor.
    pub(crate) unmeasured: u64,
    /// Latencies in nanoseconds, with how often each was seen.
    pub(crate) latencies: Vec<(u64, u64)>,
}

/// Another kind of line: packets at a steady rate while somebody else switches their way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Switch {
    /// Packets to offer each second.
    pub(crate) packets_per_second: f64,
    /// For how long.
    pub(crate) for_seconds: f64,
    /// Where packets come from at first.
    pub(crate) old_way: Option<OldWay>,
}

/// A longer way to the same gateway, which is left at some time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct OldWay {
    /// What packets are in on it.
    pub(crate) template: Template,
    /// What closes it for each prefix, behind the last packet.
    pub(crate) end: Template,
    /// When it is left, seconds from the start.
    pub(crate) until: f64,
    /// How much longer it is, seconds.
    pub(crate) longer: f64,
}

/// The answer to a [`Switch`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Felt {
    /// Packets that were due and offered.
    pub(crate) offered: u64,
    /// Packets among these that found the ring full.
    pub(crate) refused: u64,
    /// Packets that came back, each counted once.
    pub(crate) received: u64,
    /// Packets that came back once more.
    pub(crate) duplicated: u64,
    /// Packets that came back after one of their prefix that was sent later.
    pub(crate) reordered: u64,
    /// Of each prefix the longest time without a packet, nanoseconds, with how often it was seen.
    pub(crate) silences: Vec<(u64, u64)>,
    /// How long packets were under way that had to wait, nanoseconds, with how often it was seen.
    pub(crate) delays: Vec<(u64, u64)>,
    /// Packets that waited at once, at most.
    pub(crate) waited: u64,
    /// Packets each second from the first of these to the last.
    pub(crate) released_rate: f64,
    /// For how long at most the generator was kept from its processor, seconds.
    pub(crate) longest_absence: f64,
}

impl Outcome {
    /// Packets offered each second.
    pub(crate) fn offered_rate(&self) -> f64 {
        self.offered as f64 / self.seconds.max(1e-9)
    }

    /// Packets offered in each second in which the generator was there to offer them.
    pub(crate) fn sent_rate(&self) -> f64 {
        self.offered as f64 / (self.seconds - self.absent).max(1e-9)
    }

    /// Packets that came back each second.
    pub(crate) fn received_rate(&self) -> f64 {
        self.received as f64 / self.seconds.max(1e-9)
    }

    /// The part of the packets that did not come back.
    pub(crate) fn loss(&self) -> f64 {
        if self.offered == 0 {
            return 1.0;
        }
        self.offered.saturating_sub(self.received) as f64 / self.offered as f64
    }
}

/// What a generator says when it is ready, and after each order.
#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    Ready,
    Trial(Outcome),
    Switch(Felt),
}

/// What a line may be.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Line {
    Trial(Order),
    Switch(Box<Switch>),
}

/// A generator, connected to a device under test.
pub(crate) struct Generator {
    process: Process,
    orders: ChildStdin,
    answers: Receiver<String>,
}

impl Generator {
    /// Starts one; its messages go to `log`.
    pub(crate) fn start(setup: &Setup, log: &Path) -> anyhow::Result<Self> {
        let own = std::env::current_exe().context("the path of this program")?;
        let (process, orders, output) =
            Process::start_talking("the generator", &own, &[SUBCOMMAND.to_owned()], log)?;
        let (sender, answers) = channel();
        // So that a generator that is stuck does not have us stuck, too. The thread ends with its output.
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines() {
                let Ok(line) = line else { return };
                if line.starts_with(['{', '"']) && sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut generator = Self {
            process,
            orders,
            answers,
        };
        match generator.exchange(setup, Duration::ZERO)? {
            Answer::Ready => Ok(generator),
            _ => bail!("the generator answered what it was not asked"),
        }
    }

    /// Offers packets, and counts what comes back.
    pub(crate) fn trial(&mut self, order: Order) -> anyhow::Result<Outcome> {
        match self.exchange(&order, Duration::from_secs_f64(order.seconds))? {
            Answer::Trial(outcome) => Ok(outcome),
            _ => bail!("the generator did not answer the trial"),
        }
    }

    /// Offers packets while `act` switches their way; says what became of them, and gives what `act` gave.
    pub(crate) fn switch<T>(
        &mut self,
        switch: &Switch,
        act: impl FnOnce() -> anyhow::Result<T>,
    ) -> anyhow::Result<(Felt, T)> {
        let told = self.tell(switch);
        let done = act()?;
        match self.hear(told, Duration::from_secs_f64(switch.for_seconds))? {
            Answer::Switch(felt) => Ok((felt, done)),
            _ => bail!("the generator did not answer the switch"),
        }
    }

    /// A connection takes a moment; returns when packets go through.
    pub(crate) fn warm_up(&mut self) -> anyhow::Result<()> {
        for _ in 0..20 {
            let outcome = self.trial(Order {
                rate: Some(100_000.0),
                seconds: 0.1,
                latencies: false,
            })?;
            if outcome.loss() < 0.5 {
                return Ok(());
            }
        }
        bail!("no packet comes back from the device under test")
    }

    fn exchange(&mut self, line: &impl Serialize, duration: Duration) -> anyhow::Result<Answer> {
        let told = self.tell(line);
        self.hear(told, duration)
    }

    /// Whether it could be told.
    fn tell(&mut self, line: &impl Serialize) -> anyhow::Result<bool> {
        let text = serde_json::to_string(line)? + "\n";
        Ok(self.orders.write_all(text.as_bytes()).is_ok())
    }

    fn hear(&mut self, told: anyhow::Result<bool>, duration: Duration) -> anyhow::Result<Answer> {
        let answer = if told? {
            self.answers.recv_timeout(duration + PATIENCE)
        } else {
            Err(RecvTimeoutError::Disconnected)
        };
        let stuck = answer == Err(RecvTimeoutError::Timeout);
        ensure!(!stuck, "the generator is stuck; {}", self.process.said());
        let answer = answer.with_context(|| format!("the generator ended; {}", self.process.said()))?;
        serde_json::from_str(&answer).context("the generator's answer")
    }
}
