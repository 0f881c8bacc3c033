//! The announcer and a routing daemon by themselves, for `perf/routes/bench.py`: each line of the standard input is what
//! is wanted from then on, `FIRST COUNT`, so many /64 from a first one. Its answer is the time at which that was so, in
//! microseconds since 1970.
//!
//!     announcer SECTION      # a TOML file with the keys of [announce]

use std::io::BufRead;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use ipnet::Ipv6Net;
use kedge_config::Announce;
use kedge_controlplane::announce::{Announcer, Command, Input, Output, Route, Routes, Settings, start};
use kedge_controlplane::time::Time;
use tokio::sync::mpsc;

fn now() -> Time {
    Time(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn wanted(line: &str, route: &Route) -> anyhow::Result<Routes> {
    let (first, count) = line.split_once(' ').context("FIRST COUNT")?;
    let first: Ipv6Net = first.parse()?;
    let number = u128::from(first.network()) >> 64;
    let prefix = |at: u128| Ipv6Net::new(((number + at) << 64).into(), 64);
    (0..count.parse()?)
        .map(|at| Ok((prefix(at)?, route.clone())))
        .collect()
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let path = std::env::args().nth(1).context("announcer SECTION")?;
    let section: Announce = toml::from_str(&std::fs::read_to_string(path)?)?;
    let route = Route {
        next_hop: section.next_hop,
        ..Route::default()
    };
    let settings = Settings {
        daemon: section.daemon.name(),
        minimum_withdrawal_interval: Duration::ZERO,
        propagation: Duration::ZERO,
        resync_interval: Duration::ZERO,
        batch: usize::try_from(section.batch)?,
        // The bench looks at the neighbour's kernel itself.
        tells_neighbours: false,
    };
    let (lines, mut said) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if lines.blocking_send(line).is_err() {
                return;
            }
        }
    });
    let (commands, mut answers) = start(&section);
    let mut announcer = Announcer::new(settings, Routes::new(), now());
    let mut input = Input::Confirmed(0);
    loop {
        for output in announcer.process(input, now()) {
            match Command::of(output) {
                Ok(command) => commands.send(command).await?,
                Err(Output::Warning(event)) => eprintln!("{}", event.text),
                Err(_) => {}
            }
        }
        let deadline = announcer.next_deadline().map(|at| at.since(now()));
        input = tokio::select! {
            line = said.recv() => match line {
                None => return Ok(()),
                Some(line) => {
                    let routes = wanted(&line, &route)?;
                    println!("{}", now().0.as_micros());
                    Input::Wanted { routes, moved: Default::default(), revision: 0 }
                }
            },
            Some(input) = answers.recv() => input,
            () = tokio::time::sleep(deadline.unwrap_or(Duration::MAX)), if deadline.is_some() => Input::Tick,
        };
    }
}
