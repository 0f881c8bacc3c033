//! `kedge-perf fib`: cycles per lookup, octets and cycles per change, beside DPDK's own tables.
//!
//! All subjects get the same keys, each in the form that it takes (DPDK's tries octets as they stand in
//! packets, Kedge what its parser makes of them: `kedge-octets` does that too), in bursts of the same size,
//! from huge pages where the system has them; in each round every subject has one turn. What they found is
//! compared, key by key.

pub(crate) mod shapes;
mod subjects;

use std::path::PathBuf;

use anyhow::ensure;
use clap::Args;
use dpdk::Eal;
use kedge_dataplane::fib::{Method, Table};

use crate::peer_memory::PeerMemory;
use crate::report;
use crate::rows::Rows;
use shapes::{Prefix, Random, Shape};
use subjects::{Kedge, KedgeOfOctets, Subject};

/// Keys in a burst.
const BURST: usize = 64;
/// Keys of one turn.
const KEYS: usize = 1 << 18;

/// Prefixes of a table, at most.
const MOST: usize = 1_000_000;
/// Up to how many it is looked for how many fit in a peer, and how exactly.
const SEARCHED: usize = 4_000_000;
const STEP: usize = 10_000;

/// Options of `kedge-perf fib`.
#[derive(Args)]
pub(crate) struct Options {
    /// Turns of each subject.
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// Prefixes in the table of each shape, several with commas; other numbers for each shape, if not given.
    #[arg(long, value_delimiter = ',', value_name = "COUNT")]
    prefixes: Vec<usize>,
    /// Smaller tables only, in less than a minute.
    #[arg(long)]
    quick: bool,
    /// Where to write the rows.
    #[arg(long)]
    json: Option<PathBuf>,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    ensure!(options.rounds > 0, "--rounds must be at least 1");
    let wrong = options
        .prefixes
        .iter()
        .find(|count| !(100..=MOST).contains(*count));
    ensure!(
        wrong.is_none(),
        "--prefixes {}: 100 to {MOST} can be had",
        wrong.copied().unwrap_or_default()
    );
    report::check_writable(options.json.as_deref())?;
    let load = report::line_of("/proc/loadavg");
    let mut rows = Rows::default();
    // Peers take up to two GiB for one table, and give it back before the next.
    let mib: u32 = if options.quick { 1536 } else { 3584 };
    let memory = PeerMemory::start(mib)?;
    if !memory.is_huge() {
        eprintln!("there are no huge pages for the peers: their figures are worse than they could be");
    }
    let cases = if options.prefixes.is_empty() {
        let mut cases = cases(options.quick);
        if !options.quick {
            eprintln!("how many prefixes of transit rte_fib6 takes in two GiB");
            let most = subjects::most_in_fib6(memory.eal(), Shape::Transit, STEP, SEARCHED)?;
            cases.push((Shape::Transit, most));
        }
        cases
    } else {
        let counts = options.prefixes.iter().copied();
        counts
            .flat_map(|count| Shape::ALL.map(|shape| (shape, count)))
            .collect()
    };
    for (shape, count) in cases {
        case(memory.eal(), shape, count, options.rounds, &mut rows)?;
    }
    drop(memory);
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

fn case(eal: &Eal, shape: Shape, count: usize, rounds: usize, rows: &mut Rows) -> anyhow::Result<()> {
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
    let keys = std::rc::Rc::new(keys(&prefixes));
    let parsed: Vec<u128> = keys.iter().map(|octets| u128::from_be_bytes(*octets)).collect();
    let parsed = std::rc::Rc::new(parsed);
    let ours = |name, method| -> Box<dyn Subject> {
        let (fib, keys) = (fib.clone(), parsed.clone());
        Box::new(Kedge {
            name,
            fib,
            method,
            keys,
        })
    };
    // Without AVX-512 the first two are the same: rows have the same names on every machine.
    let of_octets = KedgeOfOctets {
        fib: fib.clone(),
        keys: keys.clone(),
    };
    let mut subjects = vec![
        ours("kedge-scalar", Method::Scalar),
        ours("kedge", Method::best()),
        Box::new(of_octets),
    ];
    for peer in subjects::peers(eal, shape, &prefixes, &keys)? {
        rows.add(
            "fib",
            shape.name(),
            peer.name,
            count,
            "build",
            "cycles/prefix",
            &[peer.build],
        );
        subjects.extend(peer.subjects);
    }
    let mut found: Option<u64> = None;
    let mut samples = vec![Vec::new(); subjects.len()];
    for _ in 0..rounds {
        for (subject, samples) in subjects.iter_mut().zip(&mut samples) {
            let (cycles, sum) = turn(subject.as_mut());
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
fn turn(subject: &mut dyn Subject) -> (f64, u64) {
    let mut sum = 0u64;
    let start = dpdk::cycles();
    for at in 0..KEYS / BURST {
        sum = sum.wrapping_add(subject.lookup(at));
    }
    let cycles = dpdk::cycles() - start;
    (cycles as f64 / KEYS as f64, sum)
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
