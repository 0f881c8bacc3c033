//! `kedge-dataplane`: reads the configuration, runs the daemon, says what went wrong.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use kedge_config::Config;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

/// The user plane of a Kedge gateway
#[derive(Debug, Parser)]
#[command(name = "kedge-dataplane", version)]
struct Arguments {
    /// Configuration of this node (TOML)
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Check the configuration and exit: 0 if it can be used, 1 if not
    #[arg(long)]
    check_config: bool,
    /// What to log: error, warn, info, debug or trace, or a filter such as kedge_dataplane=debug
    #[arg(long, value_name = "LEVEL", default_value = "info", value_parser = filter)]
    log: String,
}

/// A bare level is meant for Kedge: libraries say no more than `info`.
fn filter(text: &str) -> Result<String, String> {
    let directives = match text.parse::<LevelFilter>() {
        Ok(level) => format!("{},kedge_dataplane={level}", level.min(LevelFilter::INFO)),
        Err(_) => text.to_owned(),
    };
    EnvFilter::builder()
        .parse(&directives)
        .map(|_| directives)
        .map_err(|error| error.to_string())
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), String> {
    let config = load(&arguments.config)?;
    if arguments.check_config {
        println!("{}: ok", arguments.config.display());
        return Ok(());
    }
    let never = kedge_config::HugePages::Never;
    // Once more the file has to be there to be read.
    let again = arguments.config.is_file();
    if again && config.dataplane.as_ref().is_some_and(|it| it.huge_pages != never) {
        kedge_dataplane::huge_pages::heap::move_to_huge_pages();
    }
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(&arguments.log))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .init();
    kedge_dataplane::daemon::run(&config).map_err(|error| format!("kedge-dataplane: {error}"))
}

/// The configuration, if this daemon can use it.
fn load(path: &Path) -> Result<Config, String> {
    let config = Config::load(path).map_err(|errors| errors.to_string())?;
    kedge_dataplane::daemon::check(&config).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(config)
}
