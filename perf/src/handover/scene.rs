//! A gateway with prefixes that move, and who moves them.

use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use ipnet::Ipv6Net;
use kedge_dataplane_api::model::{Encapsulation, NextHop, Tunnel};
use kedge_dataplane_api::{Client, Tables, Transaction};
use tokio::runtime::Runtime;

use super::{Sample, Subject};
use crate::forward::{Bed, SOCKET};
use crate::frames::{self, Plan, Varied};
use crate::generator::{Generator, OldWay, Order, Switch};
use crate::processes::{Process, Scratch};
use crate::tables::{ANCHORED, ELSEWHERE, GATEWAY, PEER, PORT, PREFIXES_TOGETHER, ROUTER, by_router, route};

/// The gateway where the nodes come to be.
const OTHER_PEER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xb, 0, 0, 0, 0, 2);
/// The tunnels to the two.
const OLD: u32 = 1;
const NEW: u32 = 2;
/// Packet buffers of the gateway, and packets that it may hold.
const BUFFERS: u32 = 1 << 15;
pub(super) const MOST_HELD: u32 = BUFFERS / 2;
/// Octets of a packet buffer with what belongs to it: the pool's own header, DPDK's, headroom and room.
pub(super) const BUFFER: u64 = 64 + 128 + 128 + 2048;
/// Seconds of packets before a switch and behind it, so that there is something to compare with, and all that
/// was held has come.
const BEFORE: f64 = 0.15;
const BEHIND: f64 = 0.25;
/// Of one measurement of the line rate.
const LINE: f64 = 0.1;

/// A gateway, its generator, and the contract's other end.
pub(super) struct Scene {
    // In the order in which they end.
    generator: Generator,
    gateway: Process,
    client: Client,
    runtime: Runtime,
    _scratch: Scratch,
    nets: Vec<Ipv6Net>,
    plan: Plan,
    /// Where packets go now.
    now: u32,
}

impl Scene {
    /// Starts it, with all prefixes at the old gateway.
    pub(super) fn start(bed: &Bed, subject: Subject, prefixes: usize) -> anyhow::Result<Self> {
        let scratch = Scratch::new()?;
        let directory = scratch.path();
        let per_prefix = match subject {
            Subject::Kedge => MOST_HELD,
            Subject::WithoutHold => 0,
        };
        let keys = format!(
            r#"poll = "busy"
        packet_buffers = {BUFFERS}
        memory_mib = 256
        [dataplane.hold]
        packets = {MOST_HELD}
        packets_per_prefix = {per_prefix}
        bytes_per_prefix = 4294967295
        maximum_ms = 10000
        path_end_ms = 10000"#
        );
        let mut gateway = bed.gateway(&keys, prefixes, directory)?;
        let api = directory.join("run/dataplane.sock");
        gateway.wait_for(&api)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (client, status) = runtime
            .block_on(async {
                let client = Client::connect(&api).await?;
                let status = client.status().await?;
                anyhow::Ok((client, status))
            })
            .with_context(|| gateway.said())?;
        let port = status.ports.first().context("the gateway has no port")?;
        let plan = Plan {
            gateway: port
                .link_layer_address
                .as_slice()
                .try_into()
                .context("a link-layer address has 6 octets")?,
            destination: ANCHORED,
            source: ELSEWHERE,
            outer: None,
            varied: Varied::Destination,
            prefixes,
        };
        let nets = (0..prefixes)
            .map(|number| Ok(Ipv6Net::new(frames::prefix(ANCHORED, number), 64)?))
            .collect::<anyhow::Result<_>>()?;
        gateway.wait_for(&directory.join(SOCKET))?;
        let mut scene = Self {
            generator: bed.generator(plan.template(), directory)?,
            gateway,
            client,
            runtime,
            _scratch: scratch,
            nets,
            plan,
            now: OLD,
        };
        scene.apply(&Transaction::between(&Tables::default(), &tables()?))?;
        scene.lead(&NextHop::Tunnel(OLD))?;
        scene.generator.warm_up().with_context(|| scene.gateway.said())?;
        Ok(scene)
    }

    /// What the gateway forwards when the ring is kept full, packets a second.
    pub(super) fn line_rate(&mut self) -> anyhow::Result<f64> {
        let order = Order {
            rate: None,
            seconds: LINE,
            latencies: false,
        };
        Ok(self.generator.trial(order)?.received_rate())
    }

    /// The nodes leave one gateway and are nowhere for `gap` milliseconds; then they are at the other.
    pub(super) fn hold(&mut self, rate: f64, gap: u32) -> anyhow::Result<Sample> {
        let before = self.drops()?;
        let then = if self.now == OLD { NEW } else { OLD };
        let gap = Duration::from_millis(gap.into());
        let switch = Switch {
            packets_per_second: rate,
            for_seconds: BEFORE + gap.as_secs_f64() + BEHIND,
            old_way: None,
        };
        let (runtime, client, nets) = (&self.runtime, &self.client, &self.nets);
        let (felt, gap) = self.generator.switch(&switch, || {
            std::thread::sleep(Duration::from_secs_f64(BEFORE));
            lead(runtime, client, nets, &NextHop::Hold { maximum_ms: 0 })?;
            let held = Instant::now();
            std::thread::sleep(gap);
            lead(runtime, client, nets, &NextHop::Tunnel(then))?;
            Ok(held.elapsed().as_secs_f64())
        })?;
        self.now = then;
        self.sample(felt, gap, before)
    }

    /// Packets come by a tunnel that is `longer` milliseconds longer than the way that they come by then.
    pub(super) fn path_end(&mut self, rate: f64, longer: u32) -> anyhow::Result<Sample> {
        // What was before has nothing to do with it.
        self.lead(&NextHop::Tunnel(NEW))?;
        self.lead(&NextHop::After {
            tunnel: OLD,
            maximum_ms: 0,
            then: Box::new(NextHop::Tunnel(NEW)),
        })?;
        let before = self.drops()?;
        let longer = f64::from(longer) / 1e3;
        let tunnelled = Plan {
            outer: Some((PEER, GATEWAY)),
            ..self.plan
        };
        let switch = Switch {
            packets_per_second: rate,
            for_seconds: BEFORE + longer + BEHIND,
            old_way: Some(OldWay {
                template: tunnelled.template(),
                end: tunnelled.path_end(PEER),
                until: BEFORE,
                longer,
            }),
        };
        // The gateway sees to it by itself; the control plane is told of it later.
        let (felt, ()) = self.generator.switch(&switch, || Ok(()))?;
        self.lead(&NextHop::Tunnel(NEW))?;
        self.now = NEW;
        self.sample(felt, longer, before)
    }

    fn sample(&self, felt: crate::generator::Felt, gap: f64, before: u64) -> anyhow::Result<Sample> {
        let status = self.runtime.block_on(self.client.status())?;
        ensure!(
            status.held_packets == 0,
            "{} packets are held when none should be; {}",
            status.held_packets,
            self.gateway.said()
        );
        let dropped = self.drops()?.saturating_sub(before);
        Ok(Sample { felt, gap, dropped })
    }

    /// Packets that the gateway has dropped so far, for whatever reason.
    fn drops(&self) -> anyhow::Result<u64> {
        let status = self.runtime.block_on(self.client.status())?;
        Ok(status.drops.iter().map(|it| it.packets).sum())
    }

    fn apply(&self, transaction: &Transaction) -> anyhow::Result<()> {
        self.runtime.block_on(self.client.apply(transaction))?;
        Ok(())
    }

    fn lead(&self, next_hop: &NextHop) -> anyhow::Result<()> {
        lead(&self.runtime, &self.client, &self.nets, next_hop)
    }
}

/// Puts this next hop for all prefixes.
fn lead(runtime: &Runtime, client: &Client, nets: &[Ipv6Net], next_hop: &NextHop) -> anyhow::Result<()> {
    for nets in nets.chunks(PREFIXES_TOGETHER) {
        let put_prefixes = nets.iter().map(|net| (*net, route(next_hop.clone()))).collect();
        runtime.block_on(client.apply(&Transaction {
            put_prefixes,
            ..Transaction::default()
        }))?;
    }
    Ok(())
}

/// What there is besides the prefixes.
fn tables() -> anyhow::Result<Tables> {
    let mut tables = Tables::default();
    tables.local_addresses.insert(GATEWAY);
    tables
        .neighbours
        .insert((PORT.to_owned(), ROUTER), [2, 0, 0, 0, 0, 0x99]);
    tables.prefixes.insert("::/0".parse()?, route(by_router()));
    for (id, remote) in [(OLD, PEER), (NEW, OTHER_PEER)] {
        let tunnel = Tunnel {
            encapsulation: Encapsulation::Ipv6InIpv6,
            local: GATEWAY,
            remote,
            hop_limit: 64,
            mtu: 0,
            encapsulation_limit: None,
            dscp: kedge_dataplane_api::model::Dscp::default(),
        };
        tables.tunnels.insert(id, tunnel);
    }
    Ok(tables)
}
