//! The daemon: everything put together, and taken apart again at the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use dpdk::{Eal, EalConfig, EalError, LogLevel, Mempool, MempoolConfig, MempoolError, PciDevices};
use kedge_config::{Config, Dataplane};
use prometheus::Registry;
use tokio::signal::unix::{SignalKind, signal};

use crate::assemble::assemble;
use crate::control::Control;
use crate::events::EventCollector;
use crate::huge_pages;
use crate::metrics::{self, ReadingsCollector};
use crate::port::{self, LinkWatch};
use crate::server::{self, ApiSocket};

pub use crate::huge_pages::HugePagesError;
pub use crate::metrics::MetricsError;
pub use crate::port::{DeviceError, PortsError, QueueError};
pub use crate::server::SocketError;

/// How often the control thread visits the workers' rings and frees snapshots.
const VISIT: Duration = Duration::from_millis(5);
/// The same while packets wait for what is still on its way.
const SOON: Duration = Duration::from_millis(1);
/// How often links are looked at.
const LINKS: Duration = Duration::from_millis(100);
/// Over which time loads are measured.
const LOAD: Duration = Duration::from_secs(1);
/// What calls in progress at the end may take.
const GRACE: Duration = Duration::from_millis(500);
/// Octets of frame that every buffer holds at least.
const BUFFER: u16 = 2048;
/// An Ethernet header with two tags, and some room for a device's alignment.
const FRAME_OVERHEAD: u16 = 64;

/// Why the daemon does not run.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The configuration is of a node without a data plane.
    #[error("dataplane: absent: this node has no data plane to run")]
    NoDataplane,
    /// A worker's core does not exist, or may not be used.
    #[error("dataplane.workers: core {core} is not among those that this process may run on: {available:?}")]
    Core {
        /// The one configured.
        core: usize,
        /// Those there are.
        available: Vec<usize>,
    },
    /// A configured address is none.
    #[error("{0}")]
    Device(#[from] DeviceError),
    /// Huge pages are required, and there are too few.
    #[error("{0}")]
    HugePages(#[from] HugePagesError),
    /// The API cannot be served.
    #[error("{0}")]
    Socket(#[from] SocketError),
    /// `/metrics` cannot be served.
    #[error("{0}")]
    Metrics(#[from] MetricsError),
    /// DPDK does not start.
    #[error("{0}")]
    Eal(#[from] EalError),
    /// There is no memory for packets.
    #[error("dataplane.memory_mib = {memory_mib}, dataplane.packet_buffers = {packet_buffers}: {error}")]
    Mempool {
        /// As configured.
        memory_mib: u32,
        /// As configured.
        packet_buffers: u32,
        /// What DPDK said.
        error: MempoolError,
    },
    /// A port cannot be opened.
    #[error("{0}")]
    Ports(#[from] PortsError),
    /// A thread, a signal or the runtime could not be had.
    #[error("{what}: {error}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        error: std::io::Error,
    },
    /// A worker has ended though nobody told it to.
    #[error("worker {0} has ended by itself")]
    WorkerEnded(usize),
    /// The API's server has ended though nobody told it to.
    #[error("the API is no longer served: {0}")]
    ServerEnded(String),
}

/// Whether this daemon can use `config`, as far as can be told without devices.
///
/// # Errors
/// The key and the value that it cannot use.
pub fn check(config: &Config) -> Result<(), DaemonError> {
    if config.dataplane.is_none() {
        return Err(DaemonError::NoDataplane);
    }
    port::check(config)?;
    Ok(())
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// It cannot start, or a part of it has failed.
pub fn run(config: &Config) -> Result<(), DaemonError> {
    check(config)?;
    let dataplane = config.dataplane.as_ref().ok_or(DaemonError::NoDataplane)?;
    let others = other_cores(&dataplane.workers)?;
    // Both endpoints first: a second daemon must not get as far as the devices.
    let mut socket = ApiSocket::bind(&config.dataplane_socket())?;
    let metrics = dataplane.metrics.map(metrics::bind).transpose()?;

    let eal = Eal::init(&eal_config(config, dataplane, others)?)?;
    tracing::info!(version = dpdk::version(), "DPDK started");
    let pool = mempool(&eal, config, dataplane)?;
    let opened = port::open(&eal, &pool, config, dataplane.workers.len())?;
    let watches: Vec<LinkWatch> = opened
        .ports
        .iter()
        .map(|port| LinkWatch::new(port.handle.clone()))
        .collect();

    let stop = Arc::new(AtomicBool::new(false));
    let (control, workers) = assemble(config, dataplane, &eal, pool, opened, &stop);
    let mut threads = Threads {
        stop,
        handles: Vec::new(),
    };
    for worker in workers {
        let eal = eal.clone();
        let thread = std::thread::Builder::new()
            .name(format!("worker-{}", worker.shared.core))
            .spawn(move || worker.run(&eal))
            .map_err(|error| DaemonError::System {
                what: "a worker's thread cannot be started",
                error,
            })?;
        threads.handles.push(thread);
    }

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| DaemonError::System {
            what: "the control thread's runtime cannot be made",
            error,
        })?;
    let result = runtime.block_on(serve(
        Arc::clone(&control),
        &mut socket,
        metrics,
        &watches,
        &threads,
        EventCollector::new(dataplane.neighbour_requests_per_second),
    ));
    drop(runtime);
    drop(threads);
    tracing::info!("ended");
    result
}

/// The workers' threads; told to stop and waited for when dropped.
struct Threads {
    stop: Arc<AtomicBool>,
    handles: Vec<JoinHandle<()>>,
}

impl Threads {
    /// The first worker whose thread has ended.
    fn ended(&self) -> Option<usize> {
        self.handles.iter().position(JoinHandle::is_finished)
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for handle in self.handles.drain(..) {
            if handle.join().is_err() {
                tracing::error!("a worker has panicked");
            }
        }
    }
}

/// The control thread's part: the API, `/metrics`, and what is to be done now and then.
async fn serve(
    control: Arc<Control>,
    socket: &mut ApiSocket,
    metrics: Option<std::net::TcpListener>,
    watches: &[LinkWatch],
    threads: &Threads,
    collector: EventCollector,
) -> Result<(), DaemonError> {
    let system = |what| move |error| DaemonError::System { what, error };
    let mut terminate = signal(SignalKind::terminate()).map_err(system("SIGTERM cannot be waited for"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(system("SIGINT cannot be waited for"))?;

    if let Some(listener) = metrics {
        let readings = Arc::clone(&control);
        let registry = Registry::new();
        let collector = ReadingsCollector::new(move || readings.readings(false));
        collector
            .and_then(|collector| registry.register(Box::new(collector)))
            .map_err(|error| DaemonError::ServerEnded(error.to_string()))?;
        tokio::spawn(async move {
            if let Err(error) = metrics::serve(listener, registry).await {
                tracing::error!(%error, "/metrics is no longer served");
            }
        });
    }

    control.set_links(&port::links(watches), false);
    for port in control
        .status_of_links()
        .filter(|(_, up)| !up)
        .map(|(port, _)| port)
    {
        tracing::warn!(port, "the link is down");
    }
    let listener = socket
        .take_listener()
        .ok_or_else(|| DaemonError::ServerEnded("no listener".to_owned()))?;
    let (stop_server, stopped) = tokio::sync::oneshot::channel::<()>();
    let stopped = async move {
        // An error says that the sender is gone, which means the same.
        let _ = stopped.await;
    };
    let mut server = tokio::spawn(server::serve(Arc::clone(&control), listener, stopped));
    tracing::info!("serving");

    let chores = chores(&control, watches, threads, collector);
    let result = tokio::select! {
        _ = terminate.recv() => { tracing::info!("SIGTERM"); Ok(()) }
        _ = interrupt.recv() => { tracing::info!("SIGINT"); Ok(()) }
        ended = chores => Err(DaemonError::WorkerEnded(ended)),
        ended = &mut server => Err(DaemonError::ServerEnded(match ended {
            Ok(Ok(())) => "stopped".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        })),
    };
    if result.is_ok() {
        control.events().close();
        drop(stop_server);
        if tokio::time::timeout(GRACE, server).await.is_err() {
            tracing::debug!("some clients were cut off");
        }
    }
    result
}

/// What is to be done now and then; ends when a worker has ended.
async fn chores(
    control: &Control,
    watches: &[LinkWatch],
    threads: &Threads,
    mut collector: EventCollector,
) -> usize {
    let ports: Vec<String> = control.ports().iter().map(|port| port.name.clone()).collect();
    let mut ticks = tokio::time::interval(VISIT);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut soon = false;
    let (mut links_at, mut load_at) = (Instant::now(), Instant::now());
    loop {
        if soon {
            tokio::time::sleep(SOON).await;
        } else {
            ticks.tick().await;
        }
        let now = Instant::now();
        let rings = control.workers().iter().map(|worker| &worker.shared.events);
        collector.collect(rings, &ports, control.events(), now);
        soon = control.end_holds(now);
        control.tell_held_drops();
        control.path_mtus(now);
        control.collect();
        if now.duration_since(links_at) >= LINKS {
            links_at = now;
            control.set_links(&port::links(watches), true);
        }
        if now.duration_since(load_at) >= LOAD {
            load_at = now;
            control.measure_load();
            control.expire_filters(now);
        }
        if let Some(ended) = threads.ended() {
            return ended;
        }
    }
}

/// The cores that are left for everything but workers; all, if none is.
fn other_cores(workers: &[usize]) -> Result<Vec<usize>, DaemonError> {
    let available: Vec<usize> = core_affinity::get_core_ids()
        .unwrap_or_default()
        .into_iter()
        .map(|core| core.id)
        .collect();
    if let Some(core) = workers.iter().find(|core| !available.contains(core)) {
        return Err(DaemonError::Core {
            core: *core,
            available,
        });
    }
    Ok(available
        .into_iter()
        .filter(|core| !workers.contains(core))
        .collect())
}

fn eal_config(
    config: &Config,
    dataplane: &Dataplane,
    main_cores: Vec<usize>,
) -> Result<EalConfig, DaemonError> {
    let huge_pages = huge_pages::choose(dataplane.huge_pages, dataplane.memory_mib)?;
    let pci = port::pci_devices(config);
    Ok(EalConfig {
        program: "kedge-dataplane".to_owned(),
        file_prefix: format!("kedge-{}", config.node.name),
        huge_pages,
        memory_mib: dataplane.memory_mib,
        pci: if pci.is_empty() {
            PciDevices::None
        } else {
            PciDevices::Only(pci)
        },
        main_cores,
        // For the classifier of filters, which would make do with 256 otherwise.
        max_simd_bits: Some(512),
        log_level: LogLevel::Warning,
        extra: dataplane.eal_arguments.clone(),
    })
}

fn mempool(eal: &Eal, config: &Config, dataplane: &Dataplane) -> Result<Mempool, DaemonError> {
    let largest = config.ports.iter().map(|port| port.mtu).max().unwrap_or(0);
    let rings = config.ports.iter().map(|port| port::room(&port.device, port.mtu));
    let rings = rings.max().unwrap_or(0);
    let settings = MempoolConfig {
        name: "packets".to_owned(),
        count: dataplane.packet_buffers,
        cache: 256,
        data_room: largest.saturating_add(FRAME_OVERHEAD).max(BUFFER).max(rings),
        numa_node: None,
    };
    Mempool::new(eal, &settings).map_err(|error| DaemonError::Mempool {
        memory_mib: dataplane.memory_mib,
        packet_buffers: dataplane.packet_buffers,
        error,
    })
}
