//! `kedge-perf fib`: cycles per lookup, octets and cycles per change, beside DPDK's own tables.
//!
//! All subjects get the same keys (as they stand in packets), in bursts of the
//! same size, from huge pages where the system has them; in each round every
//! subject has one turn. What they found is compared, key by key.

pub(crate) mod shapes;

use std::path::PathBuf;

use anyhow::ensure;
use clap::Args;
use kedge_dataplane::fib::{Fib, Method, Table};

use crate::report;
use crate::rows::Rows;
use shapes::{Prefix, Random, Shape};

/// Keys in a burst.
const BURST: usize = 64;
/// Keys of one turn.
const KEYS: usize = 1 << 18;

/// Options of `kedge-perf fib`.
#[derive(Args)]
pub(crate) struct Options {
    /// Turns of each subject.
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// Smaller tables only, in less than a minute.
    #[arg(long)]
    quick: bool,
    /// Where to write the rows.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// A table under test.
pub(crate) trait Subject {
    /// Its name in rows.
    fn name(&self) -> &'static str;
    /// Looks a burst up.
    fn lookup(&mut self, keys: &[[u8; 16]], results: &mut [u32]);
}

struct Kedge {
    fib: Fib,
    method: Method,
    name: &'static str,
}

impl Subject for Kedge {
    fn name(&self) -> &'static str {
        self.name
    }

    #[inline]
    fn lookup(&mut self, keys: &[[u8; 16]], results: &mut [u32]) {
        // As the parser does it.
        let mut numbers = [0u128; BURST];
        for (number, key) in numbers.iter_mut().zip(keys) {
            *number = u128::from_be_bytes(*key);
        }
        let count = keys.len().min(BURST);
        self.fib
            .lookup_burst_by(self.method, numbers.get(..count).unwrap_or_default(), results);
    }
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    ensure!(options.rounds > 0, "--rounds must be at least 1");
    let load = report::line_of("/proc/loadavg");
    let mut rows = Rows::default();
    for (shape, count) in cases(options.quick) {
        case(shape, count, options.rounds, &mut rows)?;
    }
    println!("{}", rows.table());
    match &options.json {
        Some(path) => rows.write(path, &load),
        None => Ok(()),
    }
}

fn cases(quick: bool) -> Vec<(Shape, usize)> {
    let mut cases = vec![
        (Shape::Pools, 10_000),
        (Shape::Pools, 100_000),
        (Shape::SparsePools, 100_000),
        (Shape::Scattered, 40_000),
    ];
    if quick {
        cases.push((Shape::Transit, 50_000));
    } else {
        cases.extend([
            (Shape::Pools, 1_000_000),
            (Shape::SparsePools, 1_000_000),
            (Shape::Scattered, 1_000_000),
            (Shape::Transit, 100_000),
            (Shape::Transit, 253_000),
        ]);
    }
    cases
}

fn case(shape: Shape, count: usize, rounds: usize, rows: &mut Rows) -> anyhow::Result<()> {
    eprintln!("{} with {count} prefixes", shape.name());
    let prefixes = shape.prefixes(count);
    let (mut table, build) = fill(&prefixes)?;
    let fib = table.commit();
    rows.add(
        "fib",
        shape.name(),
        "kedge",
        count,
        "build",
        "cycles/prefix",
        &[build],
    );
    rows.add(
        "fib",
        shape.name(),
        "kedge",
        count,
        "memory",
        "octets/prefix",
        &[table.octets() as f64 / count as f64],
    );
    let keys = keys(&prefixes);
    let mut subjects: Vec<Box<dyn Subject>> = vec![Box::new(Kedge {
        fib: fib.clone(),
        method: Method::Scalar,
        name: "kedge-scalar",
    })];
    if Method::best() != Method::Scalar {
        subjects.push(Box::new(Kedge {
            fib,
            method: Method::best(),
            name: "kedge",
        }));
    }
    let mut found: Option<u64> = None;
    let mut samples = vec![Vec::new(); subjects.len()];
    for _ in 0..rounds {
        for (subject, samples) in subjects.iter_mut().zip(&mut samples) {
            let (cycles, sum) = turn(subject.as_mut(), &keys);
            ensure!(
                *found.get_or_insert(sum) == sum,
                "{} found something else than the others in {} of {count}",
                subject.name(),
                shape.name()
            );
            samples.push(cycles);
        }
    }
    for (subject, samples) in subjects.iter().zip(&samples) {
        rows.add(
            "fib",
            shape.name(),
            subject.name(),
            count,
            "lookup",
            "cycles",
            samples,
        );
    }
    Ok(())
}

/// Cycles per lookup, and a sum over all results.
fn turn(subject: &mut dyn Subject, keys: &[[u8; 16]]) -> (f64, u64) {
    let mut results = [0u32; BURST];
    let mut sum = 0u64;
    let start = dpdk::cycles();
    for burst in keys.chunks_exact(BURST) {
        subject.lookup(burst, &mut results);
        sum = results
            .iter()
            .fold(sum, |sum, it| sum.wrapping_mul(3).wrapping_add(u64::from(*it)));
    }
    let cycles = dpdk::cycles() - start;
    (cycles as f64 / keys.len() as f64, sum)
}

/// A table with these prefixes, and the cycles that each took.
pub(crate) fn fill(prefixes: &[Prefix]) -> anyhow::Result<(Table, f64)> {
    let mut table = Table::new();
    let start = dpdk::cycles();
    for (result, (bits, length)) in (1..).zip(prefixes) {
        table.set(ipnet::Ipv6Net::new((*bits).into(), *length)?, result)?;
    }
    Ok((
        table,
        (dpdk::cycles() - start) as f64 / prefixes.len().max(1) as f64,
    ))
}

/// Addresses in prefixes chosen at random.
pub(crate) fn keys(prefixes: &[Prefix]) -> Vec<[u8; 16]> {
    let mut random = Random::new(99);
    (0..KEYS)
        .map(|_| {
            let (bits, length) = prefixes[random.below(prefixes.len() as u64) as usize];
            let host = u128::from(random.next()) << 64 | u128::from(random.next());
            (bits | host.checked_shr(u32::from(length)).unwrap_or(0)).to_be_bytes()
        })
        .collect()
}
