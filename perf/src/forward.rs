//! `kedge-perf forward`: packets per second through one gateway on one core.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use clap::Args;

use crate::frames::{self, PLAIN_FRAME};
use crate::processes::{Process, Rate, generate};
use crate::report::{self, Report};
use crate::{sibling, tables};

/// Name of the peer in reports.
const PEER: &str = "testpmd-macswap";

/// Options of `kedge-perf forward`.
#[derive(Args)]
pub(crate) struct Options {
    /// Seconds that count in each measurement.
    #[arg(long, default_value_t = 5)]
    seconds: usize,
    /// Rounds; in each, every device has one turn.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Where to write the JSON report.
    #[arg(long)]
    report: Option<PathBuf>,
}

/// What the gateway does with each packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Case {
    /// IPv6 forwarding.
    Plain,
    /// Into an IPv6-in-IPv6 tunnel.
    Encapsulate,
    /// Out of one.
    Decapsulate,
}

const CASES: [(Case, &str); 3] = [
    (Case::Plain, "kedge-plain"),
    (Case::Encapsulate, "kedge-encapsulate"),
    (Case::Decapsulate, "kedge-decapsulate"),
];

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    ensure!(
        options.seconds > 0 && options.rounds > 0,
        "--seconds and --rounds must be at least 1"
    );
    let directory = tempfile::Builder::new().prefix("kedge-perf-").tempdir()?;
    let directory = directory.path();
    let mut report = Report {
        bench: "forward",
        command: format!(
            "kedge-perf forward --seconds {} --rounds {}",
            options.seconds, options.rounds
        ),
        processor: report::processor(),
        kernel: report::line_of("/proc/sys/kernel/osrelease"),
        load_average_before: report::line_of("/proc/loadavg"),
        frame_octets: PLAIN_FRAME,
        seconds: options.seconds,
        rounds: options.rounds,
        received: BTreeMap::new(),
        ratio_to_testpmd: BTreeMap::new(),
    };
    for round in 1..=options.rounds {
        let rate = testpmd(directory, options.seconds)?;
        progress(round, options.rounds, PEER, rate);
        report
            .received
            .entry(PEER.to_owned())
            .or_default()
            .push(rate.received);
        for (case, name) in CASES {
            let rate = gateway(directory, case, options.seconds)?;
            progress(round, options.rounds, name, rate);
            report
                .received
                .entry(name.to_owned())
                .or_default()
                .push(rate.received);
        }
    }
    report.compare(PEER)?;
    println!("{}", report.table());
    if let Some(path) = &options.report {
        let text = serde_json::to_string_pretty(&report)? + "\n";
        std::fs::write(path, text).with_context(|| format!("{} cannot be written", path.display()))?;
    }
    Ok(())
}

fn progress(round: usize, rounds: usize, device: &str, rate: Rate) {
    let (sent, received) = (rate.sent / 1e6, rate.received / 1e6);
    eprintln!("round {round}/{rounds}: {device:<20} offered {sent:.2} Mpps, came back {received:.2} Mpps");
}

/// The peer: dpdk-testpmd swaps the addresses and sends back, on core 1.
fn testpmd(directory: &Path, seconds: usize) -> anyhow::Result<Rate> {
    let socket = directory.join("testpmd.sock");
    let pcap = directory.join("testpmd.pcap");
    let elsewhere = std::net::Ipv6Addr::new(0x2001, 0xdb8, 0xf00, 0, 0, 0, 0, 1);
    let plan = frames::Plan {
        gateway: [2, 0, 0, 0, 0, 1],
        destination: elsewhere,
        source: elsewhere,
        outer: None,
    };
    frames::write(&pcap, &plan)?;
    let arguments = [
        "--lcores",
        "0@1,1@1",
        "--no-pci",
        "--no-huge",
        "-m",
        "128",
        "--no-shconf",
        "--no-telemetry",
        "--file-prefix",
        "kedge-perf-testpmd",
        "--vdev",
        &format!("net_vhost0,iface={},queues=1", socket.display()),
        "--",
        "--total-num-mbufs=8192",
        "--forward-mode=macswap",
        "--burst=64",
        "--stats-period",
        "10",
    ]
    .map(str::to_owned);
    let log = directory.join("testpmd.log");
    let mut device = Process::start("dpdk-testpmd", Path::new("dpdk-testpmd"), &arguments, &log)?;
    device.wait_for(&socket)?;
    let rate = generate(&pcap, &socket, seconds, &directory.join("generator.log"));
    device.stop();
    let _ = std::fs::remove_file(&socket);
    rate
}

/// The gateway: one worker on core 1, busy.
fn gateway(directory: &Path, case: Case, seconds: usize) -> anyhow::Result<Rate> {
    let socket = directory.join("kedge.sock");
    let run = directory.join("run");
    let api = run.join("dataplane.sock");
    let config = directory.join("kedge.toml");
    let text = format!(
        r#"
        [node]
        name = "perf"
        role = "maar"
        address = "{address}"
        run_directory = "{run}"
        [dataplane]
        workers = [1]
        poll = "busy"
        huge_pages = "never"
        [[port]]
        name = "{port}"
        device = "net_vhost0,iface={socket},queues=1"
        side = "core"
        [maar]
        cmd = ["2001:db8:d::1"]
        prefix_pools = ["2001:db8:100::/48"]
        "#,
        address = tables::GATEWAY,
        run = run.display(),
        port = tables::PORT,
        socket = socket.display(),
    );
    std::fs::write(&config, text)?;
    let arguments = ["--config".to_owned(), config.display().to_string()];
    let log = directory.join("kedge.log");
    let mut device = Process::start("kedge-dataplane", &sibling("kedge-dataplane")?, &arguments, &log)?;
    device.wait_for(&api)?;
    device.wait_for(&socket)?;
    let pcap = directory.join("kedge.pcap");
    let plan = tables::program(&api, case).with_context(|| device.log())?;
    frames::write(&pcap, &plan)?;
    let rate = generate(&pcap, &socket, seconds, &directory.join("generator.log"));
    device.stop();
    let _ = std::fs::remove_file(&socket);
    rate
}
