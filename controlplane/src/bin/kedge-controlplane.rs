//! The control plane's daemon.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use kedge_config::Config;
use kedge_controlplane::access::Policy;
use tracing_subscriber::EnvFilter;

/// Speaks PMIPv6 (RFC 5213) with distributed anchoring (RFC 8885) and drives the data plane of its node.
#[derive(Debug, Parser)]
#[command(name = "kedge-controlplane", version)]
struct Arguments {
    /// The node's configuration.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Check the configuration and the policy file, and exit.
    #[arg(long)]
    check_config: bool,
    /// What is logged: error, warn, info, debug, trace, or filters such as `info,kedge_controlplane=debug`.
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log: String,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kedge-controlplane: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let config = Config::load(&arguments.config)?;
    Policy::load(config.access.policy_file.as_deref(), config.access.unknown_nodes)?;
    if arguments.check_config {
        println!("{}: good", arguments.config.display());
        return Ok(());
    }
    let filter = EnvFilter::try_new(&arguments.log)
        .map_err(|error| anyhow::anyhow!("--log {}: {error}", arguments.log))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(kedge_controlplane::driver::run(config))
}
