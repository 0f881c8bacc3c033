//! What a device's forwarding thread spends on packets, as it counts that itself.

use std::io::Write;
use std::path::Path;
use std::process::ChildStdin;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use kedge_dataplane_api::Client;
use tokio::runtime::Runtime;

use crate::processes::Process;

/// How long dpdk-testpmd may take to answer.
const ANSWER: Duration = Duration::from_secs(5);
/// What its answer begins with.
const CYCLES: &str = "CPU cycles/packet=";

/// Processor cycles and packets since the start. Polls that give no packet do not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spent {
    /// Cycles of the time stamp counter.
    pub(crate) cycles: u64,
    /// Packets received.
    pub(crate) packets: u64,
}

impl Spent {
    /// Cycles for each packet since `before`; nothing, if there was none.
    pub(crate) fn each_since(self, before: Self) -> Option<f64> {
        let packets = self.packets.saturating_sub(before.packets);
        let cycles = self.cycles.saturating_sub(before.cycles);
        (packets > 0).then(|| cycles as f64 / packets as f64)
    }
}

/// Whom to ask.
pub(super) enum Books {
    /// A gateway tells by the contract.
    Kedge(Box<(Runtime, Client)>),
    /// dpdk-testpmd tells who writes to it.
    Testpmd(ChildStdin),
}

impl Books {
    /// Those of the gateway that listens here.
    pub(super) fn of_kedge(api: &Path) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let client = runtime.block_on(Client::connect(api))?;
        Ok(Self::Kedge(Box::new((runtime, client))))
    }

    /// So much so far.
    pub(super) fn spent(&mut self, device: &Process) -> anyhow::Result<Spent> {
        match self {
            Self::Kedge(it) => {
                let (runtime, client) = it.as_ref();
                let status = runtime.block_on(client.status())?;
                let worker = status.workers.first().context("the gateway has no worker")?;
                Ok(Spent {
                    cycles: worker.busy_cycles,
                    packets: worker.rx_packets,
                })
            }
            Self::Testpmd(orders) => {
                let before = device.printed().matches(CYCLES).count();
                writeln!(orders, "show fwd stats all").with_context(|| device.said())?;
                let start = Instant::now();
                loop {
                    let text = device.printed();
                    // The line is there as a whole once something is behind it.
                    if text.matches(CYCLES).count() > before
                        && text.trim_end_matches("testpmd> ").ends_with('\n')
                    {
                        return last(&text).with_context(|| device.said());
                    }
                    ensure!(
                        start.elapsed() < ANSWER,
                        "dpdk-testpmd does not tell its cycles; {}",
                        device.said()
                    );
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        }
    }
}

/// What dpdk-testpmd has told last.
fn last(text: &str) -> Option<Spent> {
    let line = text.get(text.rfind(CYCLES)?..)?;
    let number = |name: &str| -> Option<u64> {
        let rest = line.get(line.find(name)? + name.len()..)?;
        let end = rest.find(|it: char| !it.is_ascii_digit())?;
        rest.get(..end)?.parse().ok()
    };
    Some(Spent {
        cycles: number("total cycles=")?,
        packets: number(" packets=")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn testpmds_last_word_counts() {
        let text = "  CPU cycles/packet=44.33 (total cycles=1000 / total io packets=10) at 2600 MHz Clock\n\
                    testpmd> show fwd stats all\n\
                    \x20 CPU cycles/packet=30.00 (total cycles=3000 / total RX packets=100) at 2600 MHz Clock\n";
        let spent = last(text).unwrap();
        assert_eq!(
            spent,
            Spent {
                cycles: 3000,
                packets: 100
            }
        );
        let before = Spent {
            cycles: 1000,
            packets: 10,
        };
        assert_eq!(spent.each_since(before), Some(2000.0 / 90.0));
        assert_eq!(spent.each_since(spent), None);
        assert_eq!(last("testpmd> "), None);
        assert_eq!(last("CPU cycles/packet=1"), None);
    }
}
