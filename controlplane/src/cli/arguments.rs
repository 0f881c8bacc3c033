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
    /// Adds, deletes and shows flow filters of a MAAR.
    Filter {
        /// What to do.
        #[command(subcommand)]
        what: FilterCommand,
    },
    /// Sets, removes and shows how much mobility nodes and prefixes get; asked of the CMD.
    Policy {
        /// What to do.
        #[command(subcommand)]
        what: PolicyCommand,
    },
    /// Moves the anchor of a prefix that is in use to the MAAR that serves its node; asked of the CMD.
    Relocate {
        /// The prefix, such as 2001:db8:100:1::/64.
        prefix: String,
        /// node.address of the MAAR.
        #[arg(long, value_name = "MAAR")]
        to: String,
    },
    /// Moves every prefix off a MAAR before its maintenance; asked of the CMD.
    ///
    /// Prefixes whose nodes are elsewhere go there now, the others when their nodes do. The CMD goes on with that,
    /// whatever becomes of this command, until --stop.
    Drain {
        /// node.address of the MAAR.
        maar: String,
        /// Do not wait for the prefixes that can go now.
        #[arg(long, conflicts_with = "stop")]
        no_wait: bool,
        /// Wait for the nodes that are still served there too.
        #[arg(long, conflicts_with_all = ["stop", "no_wait"])]
        nodes: bool,
        /// It is not drained any more. What has gone stays where it is.
        #[arg(long)]
        stop: bool,
    },
    /// Counters for charging: of prefixes and filters of the data plane.
    Charging {
        /// What to do.
        #[command(subcommand)]
        what: ChargingCommand,
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

/// What can be done with filters.
#[derive(Debug, Subcommand)]
pub(super) enum FilterCommand {
    /// Adds a filter, or replaces that of the same name.
    Add(Box<AddFilter>),
    /// Deletes a filter that was added.
    Delete {
        /// Its name.
        name: String,
    },
    /// Shows filters, and what they have counted.
    Show,
}

/// The keys of `[[filter]]` in the configuration.
#[derive(Debug, Args)]
pub(super) struct AddFilter {
    /// Its name.
    pub(super) name: String,
    /// anchor, tunnel, local-breakout, drop, hold, no-mobility, meter or node-meter.
    #[arg(long)]
    pub(super) action: String,
    /// Of this node alone, such as mn1@example.net; without this and --domain, of every node.
    #[arg(long, conflicts_with = "domain")]
    pub(super) node: Option<String>,
    /// Of every packet that passes through, whoever's it is.
    #[arg(long)]
    pub(super) domain: bool,
    /// 1 to 65535; the lowest number comes first. Default 1000.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) priority: u16,
    /// from-node or to-node; without this, both.
    #[arg(long)]
    pub(super) direction: Option<String>,
    /// A prefix.
    #[arg(long, value_name = "PREFIX")]
    pub(super) source: Option<String>,
    /// A prefix.
    #[arg(long, value_name = "PREFIX")]
    pub(super) destination: Option<String>,
    /// tcp, udp, icmpv6, sctp, dccp, udplite or a number.
    #[arg(long, value_parser = kedge_config::protocol_number)]
    pub(super) protocol: Option<u8>,
    /// A port or a range such as 6000-6010.
    #[arg(long, value_name = "PORTS")]
    pub(super) source_ports: Option<String>,
    /// A port or a range such as 6000-6010.
    #[arg(long, value_name = "PORTS")]
    pub(super) destination_ports: Option<String>,
    /// 0 to 255.
    #[arg(long, value_name = "VALUE")]
    pub(super) traffic_class: Option<u8>,
    /// Which bits of the traffic class count. Default 255; 252 is the DSCP.
    #[arg(long, value_name = "MASK", default_value_t = 255, requires = "traffic_class")]
    pub(super) traffic_class_mask: u8,
    /// 0 to 1048575.
    #[arg(long, value_name = "LABEL")]
    pub(super) flow_label: Option<u32>,
    /// With --action tunnel: the MAAR that it leads to.
    #[arg(long, value_name = "ADDRESS")]
    pub(super) maar: Option<String>,
    /// With --action meter and node-meter: the name of a meter of the configuration.
    #[arg(long, value_name = "NAME")]
    pub(super) meter: Option<String>,
    /// Seconds without a packet after which it is forgotten.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub(super) idle_timeout: u32,
    /// Seconds after which it is forgotten; with --action hold 1 to 600.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub(super) lifetime: u32,
    /// With --action anchor: such a flow that has lasted for so long by a tunnel has its prefix anchored here.
    #[arg(long, value_name = "SECONDS")]
    pub(super) relocate_after: Option<u32>,
}

/// What can be done with policies.
#[derive(Debug, Subcommand)]
pub(super) enum PolicyCommand {
    /// Puts a policy, or replaces that of the same name.
    Set(Box<SetPolicy>),
    /// Removes a policy that was put.
    Remove {
        /// Its name.
        name: String,
    },
    /// Shows policies, in the order in which they are asked.
    Show,
}

/// The keys of `[[policy]]` in the configuration.
#[derive(Debug, Args)]
pub(super) struct SetPolicy {
    /// Its name.
    pub(super) name: String,
    /// none, tunnel or relocate.
    #[arg(long)]
    pub(super) mobility: String,
    /// Of these nodes, such as mn1@example.net or '*@example.net'; without this, of all.
    #[arg(long, value_name = "PATTERN")]
    pub(super) node_like: Option<String>,
    /// Of prefixes inside this one; without this, of all.
    #[arg(long, value_name = "PREFIX")]
    pub(super) prefix: Option<String>,
    /// 1 to 65535; the lowest number comes first. Default 1000.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) priority: u16,
    /// With --mobility relocate: once it has been tunnelled for so many seconds.
    #[arg(long, value_name = "SECONDS")]
    pub(super) relocate_after: Option<u32>,
    /// With --mobility relocate: once it has carried so many octets by the tunnel.
    #[arg(long, value_name = "OCTETS")]
    pub(super) relocate_after_octets: Option<u64>,
    /// With --mobility tunnel and relocate: it ends so many seconds after its node has moved on.
    #[arg(long, value_name = "SECONDS")]
    pub(super) end_after: Option<u32>,
}

/// What can be done with counters for charging.
#[derive(Debug, Subcommand)]
pub(super) enum ChargingCommand {
    /// Shows them.
    Show {
        /// Of this home network prefix; without it, of all prefixes and filters.
        prefix: Option<String>,
    },
    /// Shows them and begins anew: each packet is in exactly one such reading.
    Reset {
        /// Of this home network prefix.
        prefix: String,
    },
    /// Adds what another anchor has counted: the output of `kedge --json charging reset PREFIX` there, on the standard
    /// input.
    Import,
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
    /// The paths to the peers of tunnels: whether a GTP-U peer is there, and the largest packet that each takes.
    Paths,
    /// What is announced through a routing daemon (role maar).
    Routes,
    /// The forwarding table of the data plane, and what went to and from nodes.
    Prefixes,
    /// Meters of filters: their rates, and how much of each colour there was (role maar).
    Meters,
    /// Prefixes whose packets wait for a node that moves.
    Holds,
    /// Prefixes delegated by DHCPv6: to this node (role maar), or by it (role cmd).
    Delegations,
    /// Ports of the data plane.
    Ports,
    /// Packets dropped by the data plane, by reason.
    Drops,
    /// What the data plane did with packets, but for dropping them.
    Stages,
    /// Workers of the data plane.
    Workers,
    /// What the daemons of this node are.
    Info,
    /// Counters of the control plane.
    Counters,
}
