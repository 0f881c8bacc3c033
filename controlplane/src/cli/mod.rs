//! `kedge`, the operator's command line for both daemons of a node.
//!
//! Exit codes: 0 done, 1 a daemon is not there or said no, 2 usage.

mod arguments;
mod change;
mod charging;
mod connect;
mod filter;
mod node;
mod output;
mod policy;
mod relocation;
mod show;
mod table;
mod watch;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use self::arguments::{Arguments, Command};
use self::connect::Failure;
use self::node::Node;
use self::output::Output;

/// Parses the arguments of this process and carries them out.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("kedge: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read has read enough: that is no failure of ours.
        Err(Failure::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kedge: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<(), Failure> {
    let output = Output::new(arguments.json);
    if let Command::Completions { shell } = arguments.command {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut Arguments::command(), "kedge", &mut text);
        return output.text(&String::from_utf8_lossy(&text));
    }
    let node = Node::find(arguments.node.as_deref(), arguments.run_directory)?;
    match arguments.command {
        Command::Show { what } => show::show(&node, what, output).await,
        Command::Attach(attach) => change::attach(&node, attach, output).await,
        Command::Detach {
            identifier,
            deregister,
        } => change::detach(&node, identifier, deregister, output).await,
        Command::Filter { what } => filter::filter(&node, what, output).await,
        Command::Policy { what } => policy::policy(&node, what, output).await,
        Command::Relocate { prefix, to } => relocation::relocate(&node, prefix, to, output).await,
        Command::Drain {
            maar,
            no_wait,
            nodes,
            stop,
        } => {
            let until = match (stop, no_wait, nodes) {
                (true, ..) => return relocation::stop(&node, maar, output).await,
                (_, true, _) => relocation::Until::Begun,
                (_, _, true) => relocation::Until::NodesGone,
                _ => relocation::Until::PrefixesGone,
            };
            relocation::drain(&node, maar, until, output).await
        }
        Command::Charging { what } => charging::charging(&node, what, output).await,
        Command::Watch => watch::watch(&node, output).await,
        Command::Completions { .. } => Ok(()),
    }
}
