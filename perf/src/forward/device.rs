//! A device under test on its core, and the generator that drives it from another.

use std::path::Path;
use std::process::ChildStdin;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;

use super::Case;
use super::busy::{Books, Spent};
use crate::frames::Template;
use crate::generator::{Generator, Order, Outcome, Setup};
use crate::processes::{Process, Scheduled, Scratch};
use crate::{sibling, tables};

/// Where things run, and what is between them.
#[derive(Args, Clone, Debug)]
pub(crate) struct Bed {
    /// Core of the generator.
    #[arg(long, default_value_t = 0, value_name = "CORE")]
    generator_core: usize,
    /// Core of the device under test.
    #[arg(long, default_value_t = 1, value_name = "CORE")]
    device_core: usize,
    /// Packets in each ring between the two, a power of two.
    #[arg(long, default_value_t = 1024, value_name = "PACKETS")]
    ring: u16,
    /// How often a trial is repeated that others on the machine disturb; all trials of a search together, five
    /// times as often.
    #[arg(long, default_value_t = 20, value_name = "COUNT")]
    attempts: usize,
}

impl Bed {
    /// How often what was disturbed is done again.
    pub(crate) fn attempts(&self) -> usize {
        self.attempts
    }

    /// With less patience.
    pub(crate) fn quick(&self) -> Self {
        Self {
            attempts: self.attempts.min(8),
            ..self.clone()
        }
    }

    /// Whether it can be.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        ensure!(
            self.generator_core != self.device_core,
            "--generator-core and --device-core are both {}: each polls, and needs a core of its own",
            self.device_core
        );
        ensure!(
            self.ring.is_power_of_two() && (64..=4096).contains(&self.ring),
            "--ring {}: a power of two from 64 to 4096 is needed",
            self.ring
        );
        ensure!(self.attempts > 0, "--attempts 0: at least 1 is needed");
        for (option, core) in [
            ("--generator-core", self.generator_core),
            ("--device-core", self.device_core),
        ] {
            ensure!(
                Path::new(&format!("/sys/devices/system/cpu/cpu{core}")).exists(),
                "{option} {core}: this machine has no such core"
            );
        }
        Ok(())
    }
}

/// How a worker of Kedge waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Poll {
    /// Never sleeps.
    Busy,
    /// Sleeps when there is nothing to do.
    Adaptive,
}

/// Who is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// A gateway with one worker.
    Kedge {
        /// What it does with the packets.
        case: Case,
        /// Prefixes in its table.
        prefixes: usize,
        /// How it waits.
        poll: Poll,
    },
    /// dpdk-testpmd, which looks nothing up.
    Testpmd(Mode),
}

/// What dpdk-testpmd does with the packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Sends them back as they are.
    Io,
    /// Writes link-layer addresses.
    Mac,
    /// Swaps link-layer addresses, network addresses and ports.
    FiveTupleSwap,
}

impl Mode {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Io, Self::Mac, Self::FiveTupleSwap];

    /// As testpmd calls it.
    fn argument(self) -> &'static str {
        match self {
            Self::Io => "io",
            Self::Mac => "mac",
            Self::FiveTupleSwap => "5tswap",
        }
    }
}

impl Subject {
    /// In reports.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Kedge { .. } => "kedge".to_owned(),
            Self::Testpmd(mode) => format!("testpmd-{}", mode.argument()),
        }
    }

    /// What it does, in reports.
    pub(crate) fn case(&self) -> Case {
        match self {
            Self::Kedge { case, .. } => *case,
            Self::Testpmd(_) => Case::Plain,
        }
    }

    /// What the name of its forwarding thread begins with.
    fn thread(&self) -> &'static str {
        match self {
            Self::Kedge { .. } => "worker-",
            Self::Testpmd(_) => "rte-worker-",
        }
    }

    /// Prefixes in its table.
    pub(crate) fn prefixes(&self) -> usize {
        match self {
            Self::Kedge { prefixes, .. } => *prefixes,
            Self::Testpmd(_) => 0,
        }
    }
}

/// Between the two, in their directory.
pub(crate) const SOCKET: &str = "vhost.sock";
/// A trial in which the device had to wait longer than this for its processor says more about who else was
/// on the machine than about the device: the ring holds what comes meanwhile, but no more.
const DISTURBANCE: Duration = Duration::from_micros(50);
/// So does one in which the generator was away for more than this part of the time: the device rested. A
/// virtual machine's clock interrupts alone take 1 %.
const ABSENCE: f64 = 0.03;
/// How many times as often as one trial all of a search may be repeated.
const SEARCH: usize = 5;

/// A device under test and its generator, connected.
pub(crate) struct Session {
    // In the order in which they end.
    generator: Generator,
    device: Process,
    books: Books,
    _scratch: Scratch,
    thread: &'static str,
    /// A worker that sleeps waits each time it wakes: that is its own latency, not a disturbance.
    sleeps: bool,
    attempts: usize,
    /// Trials that may still be repeated; no limit, where somebody else sees to it that there is an end.
    repeats: Option<usize>,
    /// Trials had so far.
    trials: usize,
    /// Those among them that were disturbed.
    disturbed: usize,
}

impl Session {
    /// Starts both.
    pub(crate) fn start(bed: &Bed, subject: &Subject) -> anyhow::Result<Self> {
        let scratch = Scratch::new()?;
        let directory = scratch.path();
        let (device, books, template) = match subject {
            Subject::Testpmd(mode) => {
                let (device, orders) = testpmd(bed, *mode, directory)?;
                (device, Books::Testpmd(orders), tables::plain([2, 0, 0, 0, 0, 1]))
            }
            Subject::Kedge { case, prefixes, poll } => {
                let mut device = kedge(bed, *case, *poll, *prefixes, directory)?;
                let api = directory.join("run/dataplane.sock");
                device.wait_for(&api)?;
                let template = tables::program(&api, *case, *prefixes).with_context(|| device.said())?;
                let books = Books::of_kedge(&api)?;
                (device, books, template)
            }
        };
        let mut device = device;
        device.wait_for(&directory.join(SOCKET))?;
        let mut generator = bed.generator(template, directory)?;
        generator.warm_up().with_context(|| device.said())?;
        Ok(Self {
            generator,
            device,
            books,
            _scratch: scratch,
            thread: subject.thread(),
            sleeps: matches!(
                subject,
                Subject::Kedge {
                    poll: Poll::Adaptive,
                    ..
                }
            ),
            attempts: bed.attempts,
            repeats: None,
            trials: 0,
            disturbed: 0,
        })
    }

    /// Offers packets, and counts what comes back; again, if others had the processors meanwhile. If they
    /// always have, the trial that they disturbed least is as good as it gets.
    pub(crate) fn trial(&mut self, order: Order) -> anyhow::Result<Outcome> {
        let mut best: Option<(f64, Outcome)> = None;
        for _ in 0..self.attempts {
            let (disturbance, outcome) = self.attempt(order)?;
            self.trials += 1;
            if disturbance <= 1.0 {
                return Ok(outcome);
            }
            self.disturbed += 1;
            if best.as_ref().is_none_or(|(least, _)| disturbance < *least) {
                best = Some((disturbance, outcome));
            }
            match &mut self.repeats {
                Some(0) => break,
                Some(left) => *left -= 1,
                None => {}
            }
        }
        best.map(|(_, outcome)| outcome).context("no trial")
    }

    /// From now on trials are repeated a few times only, all of them together: a search on a machine where every trial
    /// is disturbed has an end, too.
    pub(crate) fn hurry(&mut self) {
        self.repeats = Some(SEARCH * self.attempts);
    }

    /// They are repeated as often as each may be.
    pub(crate) fn take_time(&mut self) {
        self.repeats = None;
    }

    /// The part of the trials that were disturbed, percent.
    pub(crate) fn disturbed(&self) -> f64 {
        100.0 * self.disturbed as f64 / self.trials.max(1) as f64
    }

    /// A trial, and how much it was disturbed: more than 1 is too much.
    fn attempt(&mut self, order: Order) -> anyhow::Result<(f64, Outcome)> {
        let before = self.worker()?.waited;
        let outcome = self.generator.trial(order).with_context(|| self.device.said())?;
        let waited = self.worker()?.waited.saturating_sub(before).as_secs_f64();
        // Who loses nothing though it had to wait would have lost nothing without.
        let passed = order.rate.is_some() && !order.latencies && outcome.loss() == 0.0;
        let device = if self.sleeps || passed {
            0.0
        } else {
            waited / DISTURBANCE.as_secs_f64()
        };
        let generator = outcome.absent / outcome.seconds.max(1e-9) / ABSENCE;
        Ok((device.max(generator), outcome))
    }

    /// What the thread that forwards has spent on packets so far.
    pub(crate) fn spent(&mut self) -> anyhow::Result<Spent> {
        self.books.spent(&self.device)
    }

    /// What the scheduler has given to the thread that forwards.
    pub(crate) fn worker(&self) -> anyhow::Result<Scheduled> {
        self.device.scheduled(Some(self.thread))
    }
}

fn testpmd(bed: &Bed, mode: Mode, directory: &Path) -> anyhow::Result<(Process, ChildStdin)> {
    let core = bed.device_core;
    let arguments = [
        // A line at a time, or what it tells would wait for more.
        "-oL",
        "dpdk-testpmd",
        "--lcores",
        &format!("0@{core},1@{core}"),
        "--no-pci",
        "--no-huge",
        "-m",
        "128",
        "--no-shconf",
        "--no-telemetry",
        "--file-prefix",
        "testpmd",
        "--vdev",
        &format!("net_vhost0,iface={},queues=1", directory.join(SOCKET).display()),
        "--",
        "--total-num-mbufs=8192",
        &format!("--forward-mode={}", mode.argument()),
        "--burst=64",
        "--record-core-cycles",
        "--auto-start",
        // It is asked what it has counted.
        "--interactive",
    ]
    .map(str::to_owned);
    let log = directory.join("testpmd.log");
    Process::start_told("dpdk-testpmd", Path::new("stdbuf"), &arguments, &log)
}

/// The gateway: one worker.
fn kedge(bed: &Bed, case: Case, poll: Poll, prefixes: usize, directory: &Path) -> anyhow::Result<Process> {
    let poll = match poll {
        Poll::Busy => "busy",
        Poll::Adaptive => "adaptive",
    };
    // The classifier of the domain's filters is in packet memory.
    let memory = if case.flows().is_some() { 512 } else { 128 };
    bed.gateway(
        &format!("poll = \"{poll}\"\nmemory_mib = {memory}"),
        prefixes,
        directory,
    )
}

impl Bed {
    /// A gateway with one worker, and with these further keys, and tables, of `[dataplane]`.
    pub(crate) fn gateway(
        &self,
        dataplane: &str,
        prefixes: usize,
        directory: &Path,
    ) -> anyhow::Result<Process> {
        let config = directory.join("kedge.toml");
        let text = format!(
            r#"
        [node]
        name = "perf"
        role = "maar"
        address = "{address}"
        run_directory = "{run}"
        [dataplane]
        workers = [{core}]
        huge_pages = "never"
        {dataplane}
        [[port]]
        name = "{port}"
        device = "net_vhost0,iface={socket},queues=1"
        side = "core"
        [maar]
        cmd = ["2001:db8:d::1"]
        prefix_pools = ["2001:db8:100::/40"]
        maximum_nodes = {nodes}
        "#,
            address = tables::GATEWAY,
            run = directory.join("run").display(),
            core = self.device_core,
            port = tables::PORT,
            socket = directory.join(SOCKET).display(),
            nodes = prefixes.clamp(100_000, 10_000_000),
        );
        std::fs::write(&config, text)?;
        let arguments = ["--config".to_owned(), config.display().to_string()];
        let log = directory.join("kedge.log");
        Process::start("kedge-dataplane", &sibling("kedge-dataplane")?, &arguments, &log)
    }

    /// A generator for the device whose socket is in this directory.
    pub(crate) fn generator(&self, template: Template, directory: &Path) -> anyhow::Result<Generator> {
        let setup = Setup {
            socket: directory.join(SOCKET),
            core: self.generator_core,
            ring: self.ring,
            template,
        };
        Generator::start(&setup, &directory.join("generator.log"))
    }
}
