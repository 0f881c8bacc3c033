//! The generator and the devices under test, as child processes.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

/// Seconds that a generator runs before its first sample counts.
const WARM_UP: usize = 2;

/// A child that ends with this value.
pub(crate) struct Process {
    child: Child,
    name: &'static str,
    log: PathBuf,
}

impl Process {
    /// Starts `program` at a raised priority: with autogroup scheduling, `nice` would do nothing
    /// between sessions, so that a build beside a bench would halve its figures.
    pub(crate) fn start(
        name: &'static str,
        program: &Path,
        arguments: &[String],
        log: &Path,
    ) -> anyhow::Result<Self> {
        let file = File::create(log).with_context(|| format!("{} cannot be written", log.display()))?;
        // And it ends with us, even if we are killed.
        let script = "echo -15 > /proc/self/autogroup 2> /dev/null; exec setpriv --pdeathsig KILL \"$@\"";
        // A child of ours leads no process group, so setsid does not fork: the process stays ours to end.
        let child = Command::new("setsid")
            .args(["sh", "-c", script, "sh"])
            .arg(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("{} cannot be started", program.display()))?;
        Ok(Self {
            child,
            name,
            log: log.to_owned(),
        })
    }

    /// Waits until `path` is there.
    pub(crate) fn wait_for(&mut self, path: &Path) -> anyhow::Result<()> {
        let start = Instant::now();
        while !path.exists() {
            ensure!(
                self.child.try_wait()?.is_none() && start.elapsed() < Duration::from_secs(20),
                "{} did not make {}; it said:\n{}",
                self.name,
                path.display(),
                self.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// What it printed.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Ends it as its user would, and waits.
    pub(crate) fn stop(&mut self) {
        let process = self.child.id().to_string();
        for signal in ["-INT", "-KILL"] {
            // One that has ended by itself meanwhile is as good.
            let _ = Command::new("kill")
                .args([signal, &process])
                .stderr(Stdio::null())
                .status();
            let start = Instant::now();
            while start.elapsed() < Duration::from_secs(5) {
                if matches!(self.child.try_wait(), Ok(Some(_))) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What a generator measured in each second, packets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    /// Sent to the device under test.
    pub(crate) sent: f64,
    /// Come back from it.
    pub(crate) received: f64,
}

/// Replays `pcap` into the vhost-user socket for `seconds`, on core 0, and gives the medians.
pub(crate) fn generate(pcap: &Path, socket: &Path, seconds: usize, log: &Path) -> anyhow::Result<Rate> {
    let arguments = [
        "--lcores",
        "0@0,1@0",
        "--no-pci",
        "--no-huge",
        "-m",
        "256",
        "--no-shconf",
        "--no-telemetry",
        "--file-prefix",
        "kedge-perf-generator",
        "--vdev",
        &format!("net_pcap0,rx_pcap={},infinite_rx=1", pcap.display()),
        "--vdev",
        &format!("net_virtio_user0,path={},queues=1", socket.display()),
        "--",
        "--total-num-mbufs=8192",
        "--forward-mode=io",
        "--no-flush-rx",
        "--burst=64",
        "--stats-period",
        "1",
    ]
    .map(str::to_owned);
    let mut generator = Process::start("the generator", Path::new("dpdk-testpmd"), &arguments, log)?;
    std::thread::sleep(Duration::from_secs((seconds + WARM_UP) as u64));
    generator.stop();
    let text = generator.log();
    let samples = samples(&text);
    ensure!(
        samples.len() > WARM_UP,
        "the generator measured nothing; it said:\n{text}"
    );
    let counted = samples.get(WARM_UP..).unwrap_or_default();
    Ok(Rate {
        sent: crate::report::median(counted.iter().map(|rate| rate.sent)),
        received: crate::report::median(counted.iter().map(|rate| rate.received)),
    })
}

/// The rates of port 1, the virtio-user one, for each second.
fn samples(text: &str) -> Vec<Rate> {
    let mut port = None;
    let mut received = None;
    let mut samples = Vec::new();
    for line in text.lines() {
        if let Some(rest) = line.split("NIC statistics for port").nth(1) {
            port = rest.trim().chars().next();
        }
        let value = |name: &str| {
            let rest = line.trim_start().strip_prefix(name)?;
            rest.split_whitespace().next()?.parse::<f64>().ok()
        };
        if port == Some('1') {
            if let Some(value) = value("Rx-pps:") {
                received = Some(value);
            }
            if let (Some(sent), Some(received)) = (value("Tx-pps:"), received) {
                samples.push(Rate { sent, received });
            }
        }
    }
    samples
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statistics_of_testpmd_are_read() {
        let text = "  ######################## NIC statistics for port 0  ########################\n  \
             Rx-pps:      9000000          Rx-bps:   0\n  Tx-pps:            0          Tx-bps:            0\n  \
             ######################## NIC statistics for port 1  ########################\n  \
             Rx-pps:      3000000          Rx-bps:   0\n  Tx-pps:      4000000          Tx-bps:            0\n";
        let samples = samples(text);
        assert_eq!(samples.len(), 1);
        assert!((samples[0].received - 3e6).abs() < 1.0 && (samples[0].sent - 4e6).abs() < 1.0);
    }
}
