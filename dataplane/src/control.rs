//! What the control thread owns: tables, snapshots to come, and all readings.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use dpdk::Mempool;
use ipnet::Ipv6Net;
use kedge_config::Side;
use kedge_dataplane_api::model::Transaction;
use kedge_dataplane_api::proto;
use parking_lot::Mutex;

use crate::assemble::{
    Clock, departed_count, entry_counts, filter_count, meter_count, path_status, prefix_count, totals,
};
use crate::counters::Counters;
use crate::drops::DropReason;
use crate::events::{EventHub, PATHS};
use crate::pipeline::PathTooBig;
use crate::port::OpenPort;
use crate::readings::Readings;
use crate::snapshot::{ApplyError, Carried, Compiler, Publisher};
use crate::worker::{WorkerCounters, WorkerShared};

/// A transaction that was not carried out; the tables are as before.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("expected_generation = {expected}: the tables are at generation {current}")]
    Generation { expected: u64, current: u64 },
    #[error("{0}")]
    Invalid(#[from] ApplyError),
}

/// What of the counters is asked for.
#[derive(Debug, Default)]
pub(crate) struct ReadCounters {
    pub(crate) all: bool,
    pub(crate) prefixes: Vec<Ipv6Net>,
    pub(crate) filters: Vec<u64>,
    pub(crate) reset: bool,
    /// Last readings after this number, if it is of this process; those up to it are had.
    pub(crate) departed: Option<u64>,
}

/// Last readings in one answer.
const DEPARTED_AT_ONCE: usize = 8192;

/// Counters that are not there; none was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CounterRefusal {
    #[error("there is no prefix {0} of a node")]
    Prefix(Ipv6Net),
    #[error("there is no filter {0}")]
    Filter(u64),
}

/// The control side of the data plane, shared by all that serve it.
pub(crate) struct Control {
    name: String,
    started: Instant,
    /// What tells this process from those before it, never 0.
    incarnation: u64,
    tables: Mutex<TableState>,
    ports: Vec<OpenPort>,
    links: Vec<AtomicBool>,
    workers: Vec<WorkerReadings>,
    events: EventHub,
    pool: Mempool,
    cycles_per_second: u64,
    applied: AtomicU64,
    refused: AtomicU64,
    /// Drops of what was on hold, as far as they were told.
    held_drops: Mutex<[u64; HELD_DROPS.len()]>,
}

/// Packets that were on hold, or should have been.
const HELD_DROPS: [DropReason; 5] = [
    DropReason::HoldPrefixFull,
    DropReason::HoldFlowFull,
    DropReason::HoldFull,
    DropReason::HoldTooOld,
    DropReason::HoldExpired,
];

struct TableState {
    compiler: Compiler,
    publisher: Publisher,
    published_at: Instant,
}

/// What is read of one worker.
pub(crate) struct WorkerReadings {
    pub(crate) shared: Arc<WorkerShared>,
    pub(crate) counters: Counters,
    load: Mutex<Load>,
}

#[derive(Debug, Default)]
struct Load {
    busy: u64,
    idle: u64,
    /// Share of the time between the last two visits.
    ratio: f64,
}

impl WorkerReadings {
    pub(crate) fn new(shared: Arc<WorkerShared>, counters: Counters) -> Self {
        Self {
            shared,
            counters,
            load: Mutex::default(),
        }
    }
}

impl Control {
    pub(crate) fn new(
        name: &str,
        compiler: Compiler,
        publisher: Publisher,
        ports: Vec<OpenPort>,
        workers: Vec<WorkerReadings>,
        pool: Mempool,
        cycles_per_second: u64,
    ) -> Self {
        let now = Instant::now();
        Self {
            name: name.to_owned(),
            started: now,
            incarnation: incarnation(),
            tables: Mutex::new(TableState {
                compiler,
                publisher,
                published_at: now,
            }),
            links: ports.iter().map(|_| AtomicBool::new(false)).collect(),
            ports,
            workers,
            events: EventHub::new(),
            pool,
            cycles_per_second,
            applied: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            held_drops: Mutex::default(),
        }
    }

    pub(crate) fn incarnation(&self) -> u64 {
        self.incarnation
    }

    pub(crate) fn events(&self) -> &EventHub {
        &self.events
    }

    pub(crate) fn ports(&self) -> &[OpenPort] {
        &self.ports
    }

    pub(crate) fn workers(&self) -> &[WorkerReadings] {
        &self.workers
    }

    /// Carries a transaction out: all of it, in one snapshot, or nothing.
    pub(crate) fn apply(&self, transaction: &Transaction) -> Result<u64, Refusal> {
        let mut guard = self.tables.lock();
        let state = &mut *guard;
        let current = state.compiler.generation();
        let expected = transaction.expected_generation;
        if expected != 0 && expected != current {
            self.count_refused();
            return Err(Refusal::Generation { expected, current });
        }
        match state.compiler.apply(transaction) {
            Ok(snapshot) => {
                let generation = snapshot.generation();
                state.publisher.publish(snapshot);
                state.published_at = Instant::now();
                self.applied.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(generation, entries = transaction.entries(), "transaction applied");
                Ok(generation)
            }
            Err(error) => {
                self.count_refused();
                Err(error.into())
            }
        }
    }

    /// A transaction was refused before it came here.
    pub(crate) fn count_refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// All tables, as they travel.
    pub(crate) fn state(&self) -> proto::State {
        let state = self.tables.lock();
        proto::State {
            carries_inner_ipv4: Some(state.compiler.limits().inner_ipv4),
            ..proto::State::encode(state.compiler.generation(), state.compiler.tables())
        }
    }

    /// Ends what need not wait any more: old ways that have brought their last, and whatever has waited for
    /// too long. Whether there are old ways still to end.
    pub(crate) fn end_holds(&self, now: Instant) -> bool {
        let mut guard = self.tables.lock();
        let state = &mut *guard;
        let (mut ended, mut newest) = (Vec::new(), None);
        let ends = self.workers.iter().flat_map(|worker| {
            let events = &worker.shared.events;
            std::iter::from_fn(|| events.next_path_ended())
        });
        if let Some((prefixes, snapshot)) = state
            .compiler
            .end_paths(ends.map(|end| (end.tunnel, end.address)))
        {
            newest = Some(snapshot);
            ended.extend(prefixes.into_iter().map(|it| (it, false)));
        }
        if let Some((prefixes, snapshot)) = state.compiler.expire_holds(now) {
            newest = Some(snapshot);
            ended.extend(prefixes.into_iter().map(|it| (it, true)));
        }
        let flows = state.compiler.expire_flow_holds(now);
        let flows = flows.map_or_else(Vec::new, |(flows, snapshot)| {
            newest = Some(snapshot);
            flows
        });
        // Of many that end together, what is between them concerns nobody.
        if let Some(snapshot) = newest {
            state.publisher.publish(snapshot);
        }
        let more = state.compiler.awaits_path_ends();
        drop(guard);
        for (filter, hold) in flows {
            let prefix = hold.scope;
            tracing::info!(filter, %prefix, "nobody has ended the hold of these flows in its time");
            self.events.hold_expired(prefix, filter);
        }
        for ((prefix, hold), by_itself) in ended {
            let Some(tunnel) = hold.after else {
                tracing::info!(%prefix, "nobody has ended the hold of this prefix in its time");
                self.events.hold_expired(prefix, 0);
                continue;
            };
            let waited = now.saturating_duration_since(hold.since).as_micros();
            tracing::debug!(%prefix, tunnel, by_itself, waited_us = waited, "an old way has ended");
            self.events.path_ended(proto::PathEnded {
                address: prefix.network().octets().to_vec(),
                length: u32::from(prefix.prefix_len()),
                tunnel,
                by_itself,
                waited_us: u64::try_from(waited).unwrap_or(u64::MAX),
            });
        }
        more
    }

    /// Tells of packets on hold that were dropped since the last time. To be called now and then.
    pub(crate) fn tell_held_drops(&self) {
        let mut told = self.held_drops.lock();
        for (reason, told) in HELD_DROPS.iter().zip(told.iter_mut()) {
            let all: u64 = self
                .workers
                .iter()
                .map(|worker| worker.counters.drops(*reason))
                .sum();
            if all > *told {
                self.events.held_dropped(reason.name(), all - *told);
                *told = all;
            }
        }
    }

    /// Takes over what routers told the workers of paths, and forgets what they told long ago.
    pub(crate) fn path_mtus(&self, now: Instant) {
        for worker in &self.workers {
            // At most one ring's content for each visit.
            for _ in 0..PATHS {
                let Some(PathTooBig { remote, mtu, proven }) = worker.shared.events.pop_too_big() else {
                    break;
                };
                let mut state = self.tables.lock();
                let learned = if proven {
                    state.compiler.learn_path_mtu(remote, mtu, now)
                } else {
                    state.compiler.learn_unproven_path_mtu(remote, mtu, now)
                };
                if let Some(snapshot) = learned {
                    state.publisher.publish(snapshot);
                    tracing::info!(remote = %remote.to_canonical(), mtu, "the path to a peer takes less than was thought");
                    self.events.path_mtu_changed(remote, mtu, true);
                }
            }
        }
        let mut state = self.tables.lock();
        if let Some((forgotten, snapshot)) = state.compiler.forget_path_mtus(now) {
            state.publisher.publish(snapshot);
            for (remote, mtu) in forgotten {
                if let Some(mtu) = mtu {
                    tracing::info!(remote = %remote.to_canonical(), mtu, "larger packets are tried again on the path to a peer");
                    self.events.path_mtu_changed(remote, mtu, false);
                }
            }
        }
    }

    /// Frees snapshots that no worker reads any more.
    pub(crate) fn collect(&self) {
        self.tables.lock().publisher.collect();
    }

    fn clock(&self) -> Clock {
        Clock::now(dpdk::cycles(), self.cycles_per_second)
    }

    /// What was counted of prefixes and filters; with `reset`, counting begins anew.
    pub(crate) fn read_counters(
        &self,
        request: &ReadCounters,
    ) -> Result<proto::CounterReading, CounterRefusal> {
        let mut state = self.tables.lock();
        let clock = self.clock();
        let compiler = &mut state.compiler;
        let now = dpdk::cycles();
        let meters = request.all.then(|| {
            compiler.meter_colours().map(|(id, colours)| proto::MeterCount {
                fill: compiler.meter_fill(id, now).map(|it| proto::MeterFill {
                    committed: it.committed,
                    other: it.other,
                    number: 0,
                }),
                ..meter_count((id, colours))
            })
        });
        let meters = meters.into_iter().flatten().collect();
        let (prefixes, filters) = if request.all {
            let prefixes = compiler.prefix_traffic().map(|(prefix, _)| prefix).collect();
            (prefixes, compiler.tables().filters.keys().copied().collect())
        } else {
            (request.prefixes.clone(), request.filters.clone())
        };
        // All or nothing: what is not there is found out before anything is reset.
        if let Some(prefix) = prefixes.iter().find(|it| compiler.prefix_total(**it).is_none()) {
            return Err(CounterRefusal::Prefix(*prefix));
        }
        if let Some(filter) = filters.iter().find(|it| compiler.filter_charge(**it).is_none()) {
            return Err(CounterRefusal::Filter(*filter));
        }
        let mut reading = proto::CounterReading {
            incarnation: self.incarnation,
            meters,
            ..proto::CounterReading::default()
        };
        if let Some(had) = request.departed {
            let mut departed = compiler.departed(had);
            let some = departed.by_ref().take(DEPARTED_AT_ONCE);
            reading.departed = some.map(|it| departed_count(it, clock)).collect();
            reading.departed_more = departed.next().is_some();
            drop(departed);
            reading.departed_lost = compiler.departed_lost();
            reading.departing = compiler.departing() as u64;
        }
        for prefix in prefixes {
            let total = if request.reset {
                compiler.reset_prefix(prefix)
            } else {
                compiler.prefix_total(prefix)
            };
            let count = total.map(|total| prefix_count(prefix, &total, clock));
            reading.prefixes.extend(count);
        }
        for id in filters {
            let counted = if request.reset {
                compiler.reset_filter(id)
            } else {
                let charge = compiler.filter_charge(id);
                charge.map(|charge| (charge, compiler.filter_colours(id)))
            };
            let count = counted.map(|(charge, colours)| filter_count(id, charge, colours, clock));
            reading.filters.extend(count);
        }
        Ok(reading)
    }

    /// Adds what another anchor has counted: all of it or nothing.
    pub(crate) fn add_counters(&self, counts: &[(Ipv6Net, Carried)]) -> Result<(), CounterRefusal> {
        let mut state = self.tables.lock();
        let compiler = &mut state.compiler;
        let unknown = |(prefix, _): &&(Ipv6Net, Carried)| compiler.prefix_total(*prefix).is_none();
        if let Some((prefix, _)) = counts.iter().find(unknown) {
            return Err(CounterRefusal::Prefix(*prefix));
        }
        for (prefix, carried) in counts {
            compiler.carry_over(*prefix, *carried);
        }
        Ok(())
    }

    /// Reports the filters whose time has passed.
    pub(crate) fn expire_filters(&self, now: Instant) {
        let expired = self.tables.lock().compiler.expired(now);
        for (id, why) in expired {
            tracing::debug!(filter = id, ?why, "a filter is no longer needed");
            self.events.filter_expired(id, why);
        }
    }

    /// Takes the links' state over; reports what has changed.
    pub(crate) fn set_links(&self, links: &[bool], report: bool) {
        for ((port, known), up) in self.ports.iter().zip(&self.links).zip(links) {
            if known.swap(*up, Ordering::Relaxed) != *up && report {
                tracing::info!(port = port.name, up, "link changed");
                self.events.link_changed(&port.name, *up);
            }
        }
    }

    /// Port names with their links.
    pub(crate) fn status_of_links(&self) -> impl Iterator<Item = (&str, bool)> {
        self.ports
            .iter()
            .zip(&self.links)
            .map(|(port, up)| (port.name.as_str(), up.load(Ordering::Relaxed)))
    }

    /// To be called every second: loads are over the time between two calls.
    pub(crate) fn measure_load(&self) {
        for worker in &self.workers {
            let busy = worker.shared.counters.busy_cycles.load(Ordering::Relaxed);
            let idle = worker.shared.counters.idle_cycles.load(Ordering::Relaxed);
            let mut load = worker.load.lock();
            let spent = busy.wrapping_sub(load.busy);
            let total = spent.saturating_add(idle.wrapping_sub(load.idle));
            let ratio = if total == 0 {
                0.0
            } else {
                spent as f64 / total as f64
            };
            *load = Load { busy, idle, ratio };
        }
    }

    /// Everything countable; with `entries`, what is counted by prefix and by tunnel too.
    pub(crate) fn readings(&self, entries: bool) -> Readings {
        let mut status = proto::Status {
            name: self.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_ms: milliseconds(self.started),
            process_id: std::process::id(),
            ports: self
                .ports
                .iter()
                .zip(&self.links)
                .map(|(port, up)| port_status(port, up))
                .collect(),
            workers: self
                .workers
                .iter()
                .enumerate()
                .map(|(index, worker)| worker_status(index, worker))
                .collect(),
            ..proto::Status::default()
        };
        let counters: Vec<&Counters> = self.workers.iter().map(|worker| &worker.counters).collect();
        totals(&counters, &mut status);
        let sum = |read: fn(&WorkerCounters) -> &AtomicU64| {
            let all = self
                .workers
                .iter()
                .map(|worker| read(&worker.shared.counters).load(Ordering::Relaxed));
            all.sum::<u64>()
        };
        status.held_packets = sum(|it| &it.held_packets);
        status.held_bytes = sum(|it| &it.held_octets);
        let state = self.tables.lock();
        status.generation = state.compiler.generation();
        status.carries_inner_ipv4 = Some(state.compiler.limits().inner_ipv4);
        status.generation_age_ms = milliseconds(state.published_at);
        let tables = state.compiler.tables();
        let sizes = vec![
            ("prefixes", tables.prefixes.len()),
            ("tunnels", tables.tunnels.len()),
            ("neighbours", tables.neighbours.len()),
            ("local_addresses", tables.local_addresses.len()),
            ("filters", tables.filters.len()),
            ("meters", tables.meters.len()),
        ];
        status.holds = hold_status(&state.compiler, Instant::now());
        if entries {
            entry_counts(&state.compiler, self.clock(), &mut status);
        }
        path_status(&state.compiler, &mut status);
        Readings {
            status,
            entries: sizes,
            limits: {
                let limits = state.compiler.limits();
                vec![
                    ("prefixes", limits.prefixes),
                    ("tunnels", limits.tunnels),
                    ("filters", limits.filters),
                    ("meters", limits.meters),
                ]
            },
            forwarding_table_octets: state.compiler.forwarding_table_octets(),
            retired_snapshots: state.publisher.retired(),
            buffers: self.pool.size(),
            buffers_in_use: self.pool.in_use(),
            transactions: vec![
                ("applied", self.applied.load(Ordering::Relaxed)),
                ("refused", self.refused.load(Ordering::Relaxed)),
            ],
            events: self.events.counts().to_vec(),
        }
    }
}

fn incarnation() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX).max(1)
}

/// Prefixes that wait, and filters whose flows do.
fn hold_status(compiler: &Compiler, now: Instant) -> Vec<proto::HoldStatus> {
    let status = |prefix: Ipv6Net, since, expired| proto::HoldStatus {
        address: prefix.network().octets().to_vec(),
        length: u32::from(prefix.prefix_len()),
        age_ms: u64::try_from(now.saturating_duration_since(since).as_millis()).unwrap_or(u64::MAX),
        expired,
        ..proto::HoldStatus::default()
    };
    let prefixes = compiler
        .holds()
        // An old way that has ended leaves nothing that waits.
        .filter(|(_, hold)| hold.after.is_none() || !hold.over)
        .map(|(prefix, hold)| proto::HoldStatus {
            after_tunnel: hold.after.unwrap_or(0),
            ..status(prefix, hold.since, hold.over)
        });
    let flows = compiler.flow_holds().map(|(filter, hold)| proto::HoldStatus {
        filter,
        ..status(hold.scope, hold.since, hold.over)
    });
    prefixes.chain(flows).collect()
}

fn milliseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

fn port_status(port: &OpenPort, up: &AtomicBool) -> proto::PortStatus {
    // A driver that has no counters is no reason to show nothing.
    let stats = port.handle.stats().unwrap_or_default();
    proto::PortStatus {
        name: port.name.clone(),
        side: match port.side {
            Side::Access => "access".to_owned(),
            Side::Core => "core".to_owned(),
        },
        device: port.device.clone(),
        exception_interface: port.exception.clone().unwrap_or_default(),
        link_layer_address: port.link_layer_address.to_vec(),
        mtu: u32::from(port.mtu),
        link_up: up.load(Ordering::Relaxed),
        queues: u32::from(port.queues),
        rx_packets: stats.rx_packets,
        rx_bytes: stats.rx_octets,
        tx_packets: stats.tx_packets,
        tx_bytes: stats.tx_octets,
        rx_missed: stats.rx_missed,
        rx_errors: stats.rx_errors,
        tx_errors: stats.tx_errors,
        rx_no_buffer: stats.rx_no_mbuf,
        vlan: u32::from(port.vlan.unwrap_or(0)),
    }
}

fn worker_status(index: usize, worker: &WorkerReadings) -> proto::WorkerStatus {
    let counters = &worker.shared.counters;
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    proto::WorkerStatus {
        index: u32::try_from(index).unwrap_or(u32::MAX),
        core: u32::try_from(worker.shared.core).unwrap_or(u32::MAX),
        rx_packets: read(&counters.rx_packets),
        tx_packets: read(&counters.tx_packets),
        bursts: read(&counters.bursts),
        empty_polls: read(&counters.empty_polls),
        busy_cycles: read(&counters.busy_cycles),
        idle_cycles: read(&counters.idle_cycles),
        load: worker.load.lock().ratio,
        sleeps: read(&counters.sleeps),
        handed_over_packets: read(&counters.handed_over),
        taken_over_packets: read(&counters.taken_over),
    }
}
