//! One access link: Router Solicitations in, Router Advertisements out.

use std::io;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::sync::Arc;
use std::time::Duration;

use kedge_config::{Config, Side};
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::mpsc;

use crate::driver::{Received, receive, register};
use crate::identity::LinkLayerAddress;
use crate::kernel::{Kernel, Link};
use crate::wire::neighbour_discovery::{
    HOP_LIMIT, NeighbourDiscoveryError, PrefixInformation, ROUTER_SOLICITATION, RouterAdvertisement,
    RouterSolicitation,
};

const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// A solicitation has a few options; what is longer is none.
const MAXIMUM_OCTETS: usize = 1500;
/// Octets of an IPv6-in-IPv6 header.
const TUNNEL_OCTETS: u16 = 40;

/// What came in on an access link.
#[derive(Debug)]
pub struct Solicitation {
    /// The port.
    pub port: String,
    /// The interface.
    pub index: u32,
    /// Who solicits.
    pub source: Ipv6Addr,
    /// The message, or what is wrong with it.
    pub message: Result<RouterSolicitation, NeighbourDiscoveryError>,
}

/// The sockets of one access link.
#[derive(Debug)]
pub struct AccessLink {
    /// The interface.
    pub link: Link,
    sender: Socket,
    receiver: tokio::task::JoinHandle<()>,
}

impl AccessLink {
    /// Opens the sockets of an interface that is configured already. What the
    /// nodes solicit goes to `solicitations`.
    ///
    /// # Errors
    /// That of the operating system.
    pub fn open(
        link: Link,
        port: String,
        router: Ipv6Addr,
        solicitations: mpsc::Sender<Solicitation>,
    ) -> io::Result<Self> {
        let incoming = raw_socket(&link)?;
        setsockopt(&incoming, sockopt::Ipv6RecvHopLimit, &true)?;
        setsockopt(&incoming, sockopt::Ipv6RecvPacketInfo, &true)?;
        incoming.join_multicast_v6(&ALL_ROUTERS, link.index)?;
        let incoming = register(incoming)?;
        let sender = raw_socket(&link)?;
        // It never reads; what the kernel puts into its queue must not take memory.
        sender.set_recv_buffer_size(0)?;
        sender.set_unicast_hops_v6(HOP_LIMIT.into())?;
        sender.bind(&SocketAddrV6::new(router, 0, 0, link.index).into())?;
        let index = link.index;
        let receiver = tokio::spawn(async move {
            loop {
                match receive(&incoming, MAXIMUM_OCTETS).await {
                    Ok(received) => {
                        let Some(solicitation) = solicitation(&port, index, &received) else {
                            continue;
                        };
                        if solicitations.send(solicitation).await.is_err() {
                            return;
                        }
                    }
                    Err(error) => {
                        // The interface may be down for a moment; when it is gone, this link is replaced.
                        tracing::debug!(%error, port, "receiving on an access link failed");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
            }
        });
        Ok(Self {
            link,
            sender,
            receiver,
        })
    }

    fn send(&self, to: Ipv6Addr, octets: &[u8]) -> io::Result<()> {
        let to = SocketAddrV6::new(to, 0, 0, self.link.index).into();
        self.sender.send_to(octets, &to).map(|_| ())
    }
}

impl Drop for AccessLink {
    fn drop(&mut self) {
        self.receiver.abort();
    }
}

fn raw_socket(link: &Link) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::IPV6,
        Type::RAW.nonblocking().cloexec(),
        Some(Protocol::ICMPV6),
    )?;
    socket.bind_device(Some(link.name.as_bytes()))?;
    Ok(socket)
}

/// A received ICMPv6 message, if it means to be a Router Solicitation.
fn solicitation(port: &str, index: u32, received: &Received) -> Option<Solicitation> {
    if received.octets.first() != Some(&ROUTER_SOLICITATION) {
        return None;
    }
    let message = RouterSolicitation::parse(
        received.source,
        received.destination.unwrap_or(ALL_ROUTERS),
        received.hop_limit.unwrap_or(0),
        &received.octets,
    );
    Some(Solicitation {
        port: port.to_owned(),
        index,
        source: received.source,
        message,
    })
}

/// The advertisement that a node on access port `port` is sent.
#[must_use]
pub fn advertisement(config: &Config, port: &str, prefixes: Vec<PrefixInformation>) -> RouterAdvertisement {
    let access_mtu = config
        .ports
        .iter()
        .find(|found| found.name == port)
        .map(|found| found.mtu);
    let core_mtu = config
        .ports
        .iter()
        .filter(|found| found.side == Side::Core)
        .map(|found| found.mtu)
        .min();
    // What a node sends from an older prefix goes through a tunnel: it must fit with the header around it.
    let through_tunnel = core_mtu.map(|mtu| mtu.saturating_sub(TUNNEL_OCTETS).max(1280));
    RouterAdvertisement {
        current_hop_limit: 64,
        router_lifetime: Duration::from_secs(config.access.router_lifetime.into()),
        reachable_time: Duration::ZERO,
        retransmit_timer: Duration::ZERO,
        source_link_layer_address: config.access.router_link_layer_address.parse().ok(),
        mtu: [access_mtu, through_tunnel]
            .into_iter()
            .flatten()
            .min()
            .map(u32::from),
        prefixes,
    }
}

struct Job {
    link: Arc<AccessLink>,
    to: Ipv6Addr,
    link_layer_address: LinkLayerAddress,
    octets: Vec<u8>,
}

/// Sends advertisements, in order, off the event loop.
#[derive(Clone, Debug)]
pub struct Advertiser {
    jobs: mpsc::Sender<Job>,
}

impl Advertiser {
    /// Starts the task.
    #[must_use]
    pub fn start(kernel: Kernel) -> Self {
        let (jobs, mut queue) = mpsc::channel::<Job>(4096);
        tokio::spawn(async move {
            while let Some(job) = queue.recv().await {
                let index = job.link.link.index;
                // Known beforehand, so that the kernel need not ask the node where it is.
                if let Err(error) = kernel.set_neighbour(index, job.to, job.link_layer_address).await {
                    tracing::debug!(%error, "a node's neighbour entry");
                }
                if let Err(error) = job.link.send(job.to, &job.octets) {
                    tracing::warn!(%error, to = %job.to, "an advertisement was not sent");
                }
            }
        });
        Self { jobs }
    }

    /// Queues an advertisement; `false` if there is no room for it.
    #[must_use]
    pub fn send(
        &self,
        link: Arc<AccessLink>,
        to: Ipv6Addr,
        link_layer_address: LinkLayerAddress,
        octets: Vec<u8>,
    ) -> bool {
        let job = Job {
            link,
            to,
            link_layer_address,
            octets,
        };
        self.jobs.try_send(job).is_ok()
    }
}
