//! Where the DPDK-free core and the daemon around it are joined.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use dpdk::{Eal, Mempool};
use ipnet::Ipv6Net;
use kedge_config::{
    Config, Dataplane, HoldOverflow, InnerIpv4, Ipv4Fragments, MeterShare, MssClamping, Redistribute, Side,
    ZeroChecksums,
};
use kedge_dataplane_api::proto;

use crate::control::{Control, WorkerReadings};
use crate::counters::{Charge, Counters, Stage};
use crate::drops::DropReason;
use crate::events::EventRing;
use crate::flow::Builder;
use crate::flow::meter::Colours;
use crate::hold::{Bounds, Overflow};
use crate::pipeline::{self, Limits, Pipeline};
use crate::port::{OpenPort, Opened};
use crate::reassembly;
use crate::snapshot::{
    Compiler, CountedOf, Departed, Maximums, PortDescription, Publisher, TableLimits, Total, earlier,
};
use crate::worker::{Handover, Worker, WorkerCounters, WorkerShared};

/// Packets of which nothing is known yet that one worker holds.
const UNKNOWN: usize = 512;

/// The control thread's part, and the workers, not started yet.
pub(crate) fn assemble(
    config: &Config,
    dataplane: &Dataplane,
    eal: &Eal,
    pool: Mempool,
    mut opened: Opened,
    stop: &Arc<AtomicBool>,
) -> (Arc<Control>, Vec<Worker>) {
    let ports = opened.ports.iter().map(|port| PortDescription {
        name: port.name.clone(),
        access: port.side == Side::Access,
        link_layer_address: port.link_layer_address,
        mtu: port.mtu,
        vlan: port.vlan,
        exception: port.exception.is_some(),
    });
    let limits = TableLimits {
        prefixes: dataplane.maximum_prefixes as usize,
        tunnels: dataplane.maximum_tunnels as usize,
        filters: dataplane.maximum_filters as usize,
        domain_filters: dataplane.maximum_domain_filters as usize,
        meters: dataplane.maximum_meters as usize,
        inner_ipv4: dataplane.inner_ipv4 == InnerIpv4::Carry,
    };
    let divided = dataplane.meter_rates == MeterShare::Divide;
    let compiler = Compiler::new(ports.collect(), config.node.address, opened.workers.len())
        .with_limits(limits)
        .with_classifiers(Builder::Acl(eal.clone()))
        .with_meters(dpdk::cycles_per_second(eal), divided)
        .with_path_mtu_lifetime(Duration::from_secs(u64::from(dataplane.path_mtu_lifetime)))
        .with_maximums(Maximums {
            hold: Duration::from_millis(u64::from(dataplane.hold.maximum_ms)),
            path_end: Duration::from_millis(u64::from(dataplane.hold.path_end_ms)),
        });
    let publisher = Publisher::new(compiler.snapshot());
    let limits = Limits {
        icmpv6_errors_per_second: dataplane.icmpv6_errors_per_second,
        punts_per_second: dataplane.punts_per_second,
        accept_zero_checksums: dataplane.gtpu_zero_checksums == ZeroChecksums::Accept,
        ipv4_fragments: match dataplane.gtpu_ipv4_fragments {
            Ipv4Fragments::Refuse => pipeline::Ipv4Fragments::Refused,
            Ipv4Fragments::Checked => pipeline::Ipv4Fragments::Checked,
            Ipv4Fragments::Accept => pipeline::Ipv4Fragments::Taken,
        },
        clamp_mss: dataplane.tcp_mss_clamping == MssClamping::On,
        workers: opened.workers.len(),
        identification_seed: unknown(),
        cycles_per_second: dpdk::cycles_per_second(eal),
    };
    let reassembly = reassembly::Bounds {
        // An eighth of all buffers, at least what a few datagrams need, and no more than there are places.
        fragments: (dataplane.packet_buffers as usize / 8 / dataplane.workers.len().max(1))
            .clamp(reassembly::PARTS, 2 * reassembly::DATAGRAMS),
        cycles_per_second: limits.cycles_per_second,
        seed: unknown(),
    };
    let bounds = bounds(dataplane, limits.cycles_per_second);
    connect(dataplane, eal, &mut opened);
    let mut readings = Vec::new();
    let mut workers = Vec::new();
    for (index, (ports, core)) in opened.workers.into_iter().zip(&dataplane.workers).enumerate() {
        let shared = Arc::new(WorkerShared {
            core: *core,
            counters: WorkerCounters::default(),
            events: EventRing::new(),
        });
        let pipeline = Pipeline::new(index, limits);
        readings.push(WorkerReadings::new(
            Arc::clone(&shared),
            pipeline.counters.clone(),
        ));
        workers.push(Worker {
            shared,
            poll: dataplane.poll,
            ports,
            pipeline,
            snapshots: publisher.factory(),
            stop: Arc::clone(stop),
            hold: bounds,
            reassembly,
            unknown: unknown_bounds(dataplane, bounds, limits.cycles_per_second),
            refused: 0,
        });
    }
    (
        Arc::new(Control::new(
            &config.node.name,
            compiler,
            publisher,
            opened.ports,
            readings,
            pool,
            dpdk::cycles_per_second(eal),
        )),
        workers,
    )
}

/// A number that outsiders do not know.
fn unknown() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// What one worker may hold.
fn bounds(dataplane: &Dataplane, cycles_per_second: u64) -> Bounds {
    let hold = &dataplane.hold;
    let packets = match hold.packets {
        0 => dataplane.packet_buffers / 4,
        some => some,
    };
    Bounds {
        packets: packets as usize / dataplane.workers.len().max(1),
        packets_per_prefix: hold.packets_per_prefix as usize,
        octets_per_prefix: hold.bytes_per_prefix as usize,
        age: cycles_per_second / 1000 * u64::from(hold.age_ms),
        overflow: match hold.overflow {
            HoldOverflow::DropNewest => Overflow::DropNewest,
            HoldOverflow::DropOldest => Overflow::DropOldest,
        },
        cycles_per_release: cycles_per_second / u64::from(hold.release_packets_per_second.max(1)),
    }
}

/// What one worker may hold of which nothing is known yet: little, since anybody on a link can send.
fn unknown_bounds(dataplane: &Dataplane, hold: Bounds, cycles_per_second: u64) -> Bounds {
    let milliseconds = dataplane.hold.unknown_ms;
    let packets = if milliseconds == 0 { 0 } else { UNKNOWN };
    Bounds {
        packets,
        packets_per_prefix: UNKNOWN / 4,
        octets_per_prefix: usize::MAX,
        age: cycles_per_second / 1000 * u64::from(milliseconds),
        overflow: Overflow::DropNewest,
        ..hold
    }
}

/// Lays the rings between the workers, on each port where they share tunnelled packets out.
fn connect(dataplane: &Dataplane, eal: &Eal, opened: &mut Opened) {
    let workers = opened.workers.len();
    let ports: Vec<bool> = opened
        .ports
        .iter()
        .map(|port| shares_out(dataplane.redistribute, port, workers))
        .collect();
    let rings = ports.iter().filter(|shares| **shares).count() * workers * workers.saturating_sub(1);
    let capacity = Handover::capacity(dataplane.packet_buffers, rings);
    let seed = unknown();
    for (index, port) in opened.ports.iter().enumerate() {
        if ports.get(index) != Some(&true) {
            continue;
        }
        let mut mesh = Handover::mesh(eal, workers, capacity, seed).into_iter();
        for ports in &mut opened.workers {
            if let Some(mine) = ports.iter_mut().find(|port| port.index == index) {
                mine.handover = mesh.next();
            }
        }
        tracing::info!(
            port = port.name,
            workers,
            ring = capacity,
            "tunnelled packets are shared out by the flow within"
        );
    }
}

/// Whether the workers share out the tunnelled packets that come in by a port.
fn shares_out(mode: Redistribute, port: &OpenPort, workers: usize) -> bool {
    // What is tunnelled and comes from the access side is dropped, whoever does it.
    if workers < 2 || port.side == Side::Access {
        return false;
    }
    match mode {
        Redistribute::Always => true,
        Redistribute::Never => false,
        Redistribute::Auto => port.driver != "net_af_packet" || usize::from(port.queues) < workers,
    }
}

/// Drops and stages, over all workers.
pub(crate) fn totals(workers: &[&Counters], status: &mut proto::Status) {
    status.drops = DropReason::ALL
        .iter()
        .map(|reason| proto::DropCount {
            reason: reason.name().to_owned(),
            packets: workers.iter().map(|counters| counters.drops(*reason)).sum(),
        })
        .collect();
    status.stages = Stage::ALL
        .iter()
        .map(|stage| proto::StageCount {
            stage: stage.name().to_owned(),
            packets: workers.iter().map(|counters| counters.stages(*stage)).sum(),
        })
        .collect();
}

/// The path to every peer.
pub(crate) fn path_status(compiler: &Compiler, status: &mut proto::Status) {
    let now = Instant::now();
    status.paths = compiler
        .paths()
        .map(|(remote, mtu, until)| proto::PathStatus {
            remote: remote.octets().to_vec(),
            mtu: u32::from(mtu),
            learned_for_ms: until.map(|until| {
                let left = until.saturating_duration_since(now).as_millis();
                u64::try_from(left).unwrap_or(u64::MAX)
            }),
        })
        .collect();
}

/// Traffic of every tunnel, of every node's prefix, of every filter and meter.
pub(crate) fn entry_counts(compiler: &Compiler, clock: Clock, status: &mut proto::Status) {
    status.tunnels = compiler
        .tunnel_traffic()
        .map(|(id, traffic)| proto::TunnelCount {
            id,
            encapsulated_packets: traffic.to_packets,
            encapsulated_bytes: traffic.to_bytes,
            decapsulated_packets: traffic.from_packets,
            decapsulated_bytes: traffic.from_bytes,
            mtu: u32::from(compiler.tunnel_mtu(id)),
        })
        .collect();
    status.prefixes = compiler
        .prefix_traffic()
        .map(|(prefix, total)| {
            let count = prefix_count(prefix, &total, clock);
            // Charged where the node is; shown wherever it goes through.
            let through = total.through;
            proto::PrefixCount {
                to_packets: count.to_packets.wrapping_add(through.to_packets),
                to_bytes: count.to_bytes.wrapping_add(through.to_bytes),
                from_packets: count.from_packets.wrapping_add(through.from_packets),
                from_bytes: count.from_bytes.wrapping_add(through.from_bytes),
                ..count
            }
        })
        .collect();
    status.filters = compiler
        .filter_traffic()
        .map(|(id, charge)| filter_count(id, charge, compiler.filter_colours(id), clock))
        .collect();
    status.meters = compiler.meter_colours().map(meter_count).collect();
}

/// What a meter counted.
pub(crate) fn meter_count((id, colours): (u64, Colours)) -> proto::MeterCount {
    let ([green_packets, yellow_packets, red_packets], [green_bytes, yellow_bytes, red_bytes]) =
        (colours.packets, colours.bytes);
    proto::MeterCount {
        id,
        green_packets,
        green_bytes,
        yellow_packets,
        yellow_bytes,
        red_packets,
        red_bytes,
        fill: None,
    }
}

/// What filters metered.
fn colour_count(colours: Colours) -> proto::Colours {
    let ([green_packets, yellow_packets, red_packets], [green_bytes, yellow_bytes, red_bytes]) =
        (colours.packets, colours.bytes);
    proto::Colours {
        green_packets,
        green_bytes,
        yellow_packets,
        yellow_bytes,
        red_packets,
        red_bytes,
    }
}

/// What is charged of a prefix, as it travels.
pub(crate) fn prefix_count(prefix: Ipv6Net, total: &Total, clock: Clock) -> proto::PrefixCount {
    let traffic = total.here.traffic.plus(total.carried.traffic);
    proto::PrefixCount {
        address: prefix.network().octets().to_vec(),
        length: u32::from(prefix.prefix_len()),
        to_packets: traffic.to_packets,
        to_bytes: traffic.to_bytes,
        from_packets: traffic.from_packets,
        from_bytes: traffic.from_bytes,
        first_unix_ms: earlier(clock.unix_ms(total.here.first), total.carried.first_unix_ms),
        last_unix_ms: clock.unix_ms(total.here.last).max(total.carried.last_unix_ms),
    }
}

/// A last reading.
pub(crate) fn departed_count(departed: &Departed, clock: Clock) -> proto::DepartedCount {
    let (prefix, filter) = match departed.of {
        CountedOf::Prefix(prefix) => (Some(prefix_count(prefix, &departed.total, clock)), None),
        CountedOf::Filter(id) => {
            let count = filter_count(id, departed.total.here, departed.colours, clock);
            (None, Some(count))
        }
    };
    proto::DepartedCount {
        sequence: departed.sequence,
        prefix,
        filter,
        filter_name: departed
            .filter
            .as_ref()
            .map_or_else(String::new, |it| it.name.clone()),
        filter_scope: departed
            .filter
            .as_ref()
            .and_then(|it| it.scope)
            .map(|scope| proto::PrefixKey {
                address: scope.network().octets().to_vec(),
                length: u32::from(scope.prefix_len()),
            }),
    }
}

/// What was counted of a filter.
pub(crate) fn filter_count(id: u64, charge: Charge, colours: Colours, clock: Clock) -> proto::FilterCount {
    let Charge { traffic, first, last } = charge;
    proto::FilterCount {
        id,
        from_node_packets: traffic.from_packets,
        from_node_bytes: traffic.from_bytes,
        to_node_packets: traffic.to_packets,
        to_node_bytes: traffic.to_bytes,
        first_unix_ms: clock.unix_ms(first),
        last_unix_ms: clock.unix_ms(last),
        colours: (colours != Colours::default()).then(|| colour_count(colours)),
    }
}

/// The cycle counter as time of day.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    /// A moment by the one
    cycles: u64,
    /// and by the other.
    unix_ms: u64,
    per_second: u64,
}

impl Clock {
    /// Now, of a counter that runs at this rate.
    pub(crate) fn now(cycles: u64, per_second: u64) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            cycles,
            unix_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
            per_second: per_second.max(1),
        }
    }

    /// The time of day when the counter was there; 0, which is never, stays 0.
    fn unix_ms(self, cycles: u64) -> u64 {
        if cycles == 0 {
            return 0;
        }
        let ago = u128::from(self.cycles.saturating_sub(cycles)) * 1000 / u128::from(self.per_second);
        self.unix_ms
            .saturating_sub(u64::try_from(ago).unwrap_or(u64::MAX))
    }
}
