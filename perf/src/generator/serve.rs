//! The generator's side of the conversation.

use std::io::{BufRead, Write};

use anyhow::Context;
use dpdk::{Eal, EalConfig, Mempool, MempoolConfig, Port, PortConfig};

use super::stream::Stream;
use super::watch::Watch;
use super::{Answer, Line, Setup};

/// Buffers: what fits both rings, and bursts and caches besides.
const BUFFERS: u32 = 16_383;
const MEMORY_MIB: u32 = 128;

/// Does as it is told on standard input until that ends.
pub(crate) fn serve() -> anyhow::Result<()> {
    let mut lines = std::io::stdin().lock().lines();
    let Some(setup) = lines.next() else { return Ok(()) };
    let setup: Setup = serde_json::from_str(&setup?).context("the first line is no setup")?;
    let eal = Eal::init(&EalConfig {
        program: "kedge-perf".to_owned(),
        file_prefix: format!("kedge-perf-{}", std::process::id()),
        memory_mib: MEMORY_MIB,
        main_cores: vec![setup.core],
        ..EalConfig::default()
    })?;
    let pool = Mempool::new(
        &eal,
        &MempoolConfig {
            count: BUFFERS,
            ..MempoolConfig::default()
        },
    )?;
    // The largest ring that the other end may be given is the one that we take what comes back from;
    // half of it to send from: whatever is under way when we are kept from the processor has a place.
    let device = format!(
        "net_virtio_user0,path={},queues=1,queue_size={}",
        setup.socket.display(),
        setup.ring
    );
    let config = PortConfig {
        rx_descriptors: setup.ring,
        tx_descriptors: setup.ring / 2,
        ..PortConfig::default()
    };
    let (_port, receive, transmit) = Port::probe(&eal, &device)?.configure(&config, &pool)?;
    let mut stream = Stream {
        eal: &eal,
        pool: &pool,
        receive: receive.into_iter().next().context("no receive queue")?,
        transmit: transmit.into_iter().next().context("no transmit queue")?,
        template: setup.template,
        watch: Watch::new(0, 0),
    };
    answer(&Answer::Ready)?;
    for line in lines {
        let line = serde_json::from_str(&line?).context("a line is no order")?;
        answer(&match line {
            Line::Trial(order) => Answer::Trial(stream.trial(order)?),
            Line::Switch(switch) => Answer::Switch(stream.switch(&switch)?),
        })?;
    }
    Ok(())
}

fn answer(answer: &Answer) -> anyhow::Result<()> {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{}", serde_json::to_string(answer)?)?;
    Ok(output.flush()?)
}
