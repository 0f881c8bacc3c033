//! The operator's command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    kedge_controlplane::cli::main()
}
