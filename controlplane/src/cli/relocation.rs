//! `kedge relocate` and `kedge drain`.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use serde_json::json;

use super::connect::{Failure, controlplane};
use super::node::Node;
use super::output::Output;
use crate::northbound::proto;

/// Between two looks at how far a drain is.
const LOOK: Duration = Duration::from_millis(200);
/// Width of the bar.
const BAR: u64 = 40;

pub(super) async fn relocate(node: &Node, prefix: String, to: String, output: Output) -> Result<(), Failure> {
    let request = proto::RelocateRequest { prefix, to };
    let reply = controlplane(node).await?.relocate(request).await?.into_inner();
    if output.is_json() {
        return output.value(&json!({
            "prefix": reply.prefix,
            "from": reply.from,
            "to": reply.to,
            "duration_us": reply.duration_us,
        }));
    }
    output.text(&format!(
        "{}: anchored at {}, no more at {}; {} ms\n",
        reply.prefix,
        reply.to,
        reply.from,
        reply.duration_us.div_ceil(1000)
    ))
}

/// When `kedge drain` has nothing more to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    /// The CMD has begun.
    Begun,
    /// What could go has gone.
    PrefixesGone,
    /// No node is served there.
    NodesGone,
}

pub(super) async fn drain(node: &Node, maar: String, until: Until, output: Output) -> Result<(), Failure> {
    let mut client = controlplane(node).await?;
    let request = |stop| proto::DrainRequest {
        maar: maar.clone(),
        stop,
    };
    client.drain(request(false)).await?;
    let mut bar = Bar::new(output);
    loop {
        let ask = proto::DrainProgressRequest { maar: maar.clone() };
        let progress = client.get_drain_progress(ask).await?.into_inner();
        bar.show(&maar, progress)?;
        let over = match until {
            Until::Begun => true,
            Until::PrefixesGone => progress.to_relocate + progress.under_way == 0,
            Until::NodesGone => progress.to_relocate + progress.under_way + progress.attached == 0,
        };
        if over {
            bar.end()?;
            return tell(&maar, progress, output);
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn tell(maar: &str, progress: proto::DrainProgress, output: Output) -> Result<(), Failure> {
    let left = progress.to_relocate;
    let attached = progress.attached;
    if output.is_json() {
        return output.value(&json!({
            "maar": maar,
            "to_relocate": left,
            "under_way": progress.under_way,
            "attached": attached,
        }));
    }
    let mut text = match left {
        0 => format!("{maar}: it anchors no prefix whose node is elsewhere\n"),
        left => format!("{maar}: {left} prefixes are still to go\n"),
    };
    if attached > 0 {
        text += &format!("{attached} prefixes of nodes that are served there go when their nodes do\n");
    }
    output.text(&text)
}

pub(super) async fn stop(node: &Node, maar: String, output: Output) -> Result<(), Failure> {
    let request = proto::DrainRequest {
        maar: maar.clone(),
        stop: true,
    };
    controlplane(node).await?.drain(request).await?;
    if output.is_json() {
        return output.value(&json!({"maar": maar, "draining": false}));
    }
    output.text(&format!("{maar}: not drained any more\n"))
}

/// How far it is, on a terminal.
struct Bar {
    shown: bool,
    /// The most that there was to do.
    whole: u64,
}

impl Bar {
    fn new(output: Output) -> Self {
        Self {
            shown: !output.is_json() && std::io::stderr().is_terminal(),
            whole: 0,
        }
    }

    fn show(&mut self, maar: &str, progress: proto::DrainProgress) -> Result<(), Failure> {
        if !self.shown {
            return Ok(());
        }
        self.whole = self.whole.max(progress.to_relocate);
        let done = self.whole - progress.to_relocate;
        let filled = (done * BAR).checked_div(self.whole).unwrap_or(BAR);
        let bar: String = (0..BAR).map(|at| if at < filled { '#' } else { '.' }).collect();
        let mut err = std::io::stderr().lock();
        write!(
            err,
            "\r{maar} [{bar}] {done}/{} relocated, {} under way, {} nodes there \x1b[K",
            self.whole, progress.under_way, progress.attached
        )?;
        err.flush()?;
        Ok(())
    }

    fn end(&self) -> Result<(), Failure> {
        if self.shown {
            writeln!(std::io::stderr())?;
        }
        Ok(())
    }
}
