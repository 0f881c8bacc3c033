//! Benches of Kedge beside its peers, in one run.
//!
//! `kedge-perf forward` needs no NIC: a generator (this program again, with a
//! DPDK of its own) drives the device under test over a vhost-user/virtio-user
//! pair. The devices take turns, round by round, so that a noisy machine is
//! noisy for all of them; what counts is the ratio within a round.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

mod compare;
mod forward;
mod frames;
mod generator;
mod latency;
mod plot;
mod processes;
mod report;
#[allow(dead_code, reason = "the benches that use it follow")]
mod rows;
mod tables;

/// Benches of Kedge beside its peers, in one run.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Packets per second through one gateway on one core, beside dpdk-testpmd on the same pair.
    Forward(forward::Options),
    /// How long packets take at parts of that rate and at a trickle, beside dpdk-testpmd.
    Latency(latency::Options),
    /// Rows as pictures (SVG), written beside them.
    Plot(plot::Options),
    /// Two commits on this machine, in turns: whether they differ by more than the noise.
    Compare(compare::Options),
    /// Sends packets; what other subcommands start to have them sent.
    #[command(name = generator::SUBCOMMAND, hide = true)]
    Generate,
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Forward(options) => forward::run(&options),
        Command::Latency(options) => latency::run(&options),
        Command::Plot(options) => plot::run(&options),
        Command::Compare(options) => compare::run(&options),
        Command::Generate => generator::serve(),
    }
}

/// A program of this build: beside this one.
fn sibling(name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe()?;
    let path = own.with_file_name(name);
    anyhow::ensure!(
        path.exists(),
        "{} is not there: build it first (cargo build --release)",
        path.display()
    );
    Ok(path)
}
