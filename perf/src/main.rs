//! Benches of Kedge beside its peers, in one run.
//!
//! `kedge-perf forward` needs no NIC: a generator (this program again, with a
//! DPDK of its own) drives the device under test over a vhost-user/virtio-user
//! pair. The devices take turns, round by round, so that a noisy machine is
//! noisy for all of them; what counts is the ratio within a round.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

mod compare;
mod fib;
mod forward;
mod frames;
mod gateway;
mod generator;
mod handover;
mod huge_pages;
mod instructions;
mod latency;
mod machine;
mod memory;
mod peer_memory;
mod pipeline;
mod plot;
mod processes;
mod publish;
mod report;
mod rows;
mod scale;
mod session;
mod tables;
mod updates;

/// Benches of Kedge beside its peers, in one run.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Cycles per lookup, beside rte_fib6, rte_lpm6 and rte_hash.
    Fib(fib::Options),
    /// Cycles per packet through a worker's code, by step.
    Pipeline(pipeline::Options),
    /// What a change costs, from the transaction to the pointer that workers read.
    Publish(publish::Options),
    /// Whether forwarding feels it when the tables change.
    Updates(updates::Options),
    /// What several workers on one set of tables do together.
    Scale(scale::Options),
    /// Packets per second through one gateway on one core, beside dpdk-testpmd on the same pair.
    Forward(forward::Options),
    /// How long packets take at parts of that rate and at a trickle, beside dpdk-testpmd.
    Latency(latency::Options),
    /// What a receiver feels when a prefix moves to another anchor, with packets held meanwhile and without.
    Handover(handover::Options),
    /// Rows as pictures (SVG), written beside them.
    Plot(plot::Options),
    /// Two commits on this machine, in turns: whether they differ by more than the noise.
    Compare(compare::Options),
    /// Work for callgrind to count.
    #[command(hide = true)]
    Instructions(instructions::Options),
    /// Sends packets; what other subcommands start to have them sent.
    #[command(name = generator::SUBCOMMAND, hide = true)]
    Generate,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    // As the daemon has it. Whoever counts instructions counts those of the program that was started.
    if !matches!(arguments.command, Command::Instructions(_) | Command::Generate) {
        kedge_dataplane::huge_pages::heap::move_to_huge_pages();
    }
    session::enter();
    match arguments.command {
        Command::Fib(options) => fib::run(&options),
        Command::Pipeline(options) => pipeline::run(&options),
        Command::Publish(options) => publish::run(&options),
        Command::Updates(options) => updates::run(&options),
        Command::Scale(options) => scale::run(&options),
        Command::Forward(options) => forward::run(&options),
        Command::Latency(options) => latency::run(&options),
        Command::Handover(options) => handover::run(&options),
        Command::Plot(options) => plot::run(&options),
        Command::Compare(options) => compare::run(&options),
        Command::Instructions(options) => instructions::run(&options),
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
