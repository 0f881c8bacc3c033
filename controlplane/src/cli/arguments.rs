//! What may be written on the command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Shows and steers the daemons of a Kedge node.
#[derive(Debug, Parser)]
#[command(name = "kedge", version, arg_required_else_help = true)]
pub(super) struct Arguments {
    /// The node, whose sockets are in /run/kedge/NAME. Not needed where one node runs.
    #[arg(
        long,
        short,
        global = true,
        value_name = "NAME",
        conflicts_with = "run_directory"
    )]
    pub(super) node: Option<String>,
    /// The directory of the node's sockets; also by the environment variable KEDGE_RUN_DIRECTORY.
    #[arg(long, global = true, value_name = "DIR")]
    pub(super) run_directory: Option<PathBuf>,
    /// JSON for programs instead of tables for people.
    #[arg(long, global = true)]
    pub(super) json: bool,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Shows what a daemon knows.
    Show {
        /// What to show.
        #[command(subcommand)]
        what: What,
    },
    /// Tells a MAAR that a node is on an access link.
    Attach(Attach),
    /// Tells a MAAR that a node has left its access link.
    Detach {
        /// The node, such as mn1@example.net or eui48:02-00-00-00-0a-01.
        identifier: String,
        /// End its session too; without this it lives on for its lifetime.
        #[arg(long)]
        deregister: bool,
    },
    /// Shows events as they happen, until Ctrl-C.
    Watch,
    /// Prints a completion script, e.g. for `source <(kedge completions bash)`.
    Completions {
        /// For this shell.
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Args)]
pub(super) struct Attach {
    /// The node, such as mn1@example.net or eui48:02-00-00-00-0a-01.
    pub(super) identifier: String,
    /// The access port; not needed where there is one.
    #[arg(long, value_name = "PORT")]
    pub(super) port: Option<String>,
    /// Where it is; not needed where the policy file says so.
    #[arg(long, value_name = "MAC")]
    pub(super) link_layer_address: Option<String>,
    /// Its link-local address; by default that of its link-layer address.
    #[arg(long, value_name = "ADDRESS")]
    pub(super) link_local_address: Option<String>,
}

/// What can be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Subcommand)]
pub(super) enum What {
    /// Mobile nodes attached or anchored here (role maar).
    Nodes,
    /// The binding cache.
    Bindings,
    /// Tunnels of the data plane, and what went through them.
    Tunnels,
    /// The paths to the peers of tunnels: the largest packet that each takes.
    Paths,
    /// The forwarding table of the data plane, and what went to and from nodes.
    Prefixes,
    /// Ports of the data plane.
    Ports,
    /// Packets dropped by the data plane, by reason.
    Drops,
    /// Workers of the data plane.
    Workers,
    /// What the daemons of this node are.
    Info,
    /// Counters of the control plane.
    Counters,
}
