//! The exception interfaces: which are there, which are configured, who is next to them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;
use std::time::Duration;

use kedge_config::Side;
use tokio::time::Instant;

use crate::identity::LinkLayerAddress;
use crate::kernel::{Change, InterfaceSettings, Kernel, KernelError, Link, NeighbourChange};

/// Neighbours of core ports by port and address, as the data plane takes them.
type Neighbours = BTreeMap<(String, Ipv6Addr), [u8; 6]>;

/// All exception interfaces of this node.
pub(crate) struct Interfaces {
    kernel: Kernel,
    all: Vec<Interface>,
    core: Neighbours,
    /// By interface and address, of access ports.
    access: BTreeMap<(u32, Ipv6Addr), LinkLayerAddress>,
}

struct Interface {
    settings: InterfaceSettings,
    /// As it is.
    link: Option<Link>,
    /// As it was when it was configured; it is done again when it is different.
    configured: Option<Link>,
    retry_at: Option<Instant>,
    /// Number of the interface that was last told to be configured.
    announced: Option<u32>,
    /// What was told last of why it cannot be configured.
    told: String,
}

/// An interface that was configured, or not.
pub(crate) struct Configured {
    pub(crate) link: Link,
    pub(crate) port: String,
    pub(crate) access: bool,
    /// The first time since it was made.
    pub(crate) first: bool,
    pub(crate) result: Result<(), KernelError>,
}

impl Interfaces {
    pub(crate) fn new(settings: Vec<InterfaceSettings>, kernel: Kernel) -> Self {
        let interface = |settings| Interface {
            settings,
            link: None,
            configured: None,
            retry_at: None,
            announced: None,
            told: String::new(),
        };
        Self {
            kernel,
            all: settings.into_iter().map(interface).collect(),
            core: BTreeMap::new(),
            access: BTreeMap::new(),
        }
    }

    /// Reads links and neighbours as a whole, for what was before and for changes that were missed.
    pub(crate) async fn read_all(&mut self) -> Result<(), KernelError> {
        let links = self.kernel.links().await?;
        for interface in &mut self.all {
            interface.link = links
                .iter()
                .find(|link| link.name == interface.settings.name)
                .cloned();
        }
        let neighbours = self.kernel.neighbours().await?;
        self.core.clear();
        self.access.clear();
        for neighbour in neighbours {
            self.neighbour(neighbour);
        }
        Ok(())
    }

    /// Takes a change; the port of an interface that has gone comes out.
    pub(crate) fn take(&mut self, change: Change) -> Option<String> {
        match change {
            Change::Link(link) => {
                let interface = self
                    .all
                    .iter_mut()
                    .find(|interface| interface.settings.name == link.name)?;
                interface.link = Some(link);
                None
            }
            Change::LinkGone(link) => {
                let same = |found: &&mut Interface| {
                    found.link.as_ref().is_some_and(|known| known.index == link.index)
                };
                let interface = self.all.iter_mut().find(same)?;
                interface.link = None;
                interface.configured = None;
                interface.retry_at = None;
                let port = interface.settings.port.clone();
                self.core.retain(|(of, _), _| *of != port);
                self.access.retain(|(index, _), _| *index != link.index);
                Some(port)
            }
            Change::Neighbour(neighbour) => {
                self.neighbour(neighbour);
                None
            }
        }
    }

    fn neighbour(&mut self, change: NeighbourChange) {
        let of = |interface: &&Interface| {
            interface
                .link
                .as_ref()
                .is_some_and(|link| link.index == change.index)
        };
        let Some(interface) = self.all.iter().find(of) else {
            return;
        };
        match (interface.settings.side, change.link_layer_address) {
            (Side::Core, Some(address)) => {
                self.core
                    .insert((interface.settings.port.clone(), change.address), address.0);
            }
            (Side::Core, None) => {
                self.core
                    .remove(&(interface.settings.port.clone(), change.address));
            }
            (Side::Access, Some(address)) => {
                self.access.insert((change.index, change.address), address);
            }
            (Side::Access, None) => {
                self.access.remove(&(change.index, change.address));
            }
        }
    }

    /// Neighbours that the data plane has to know.
    pub(crate) fn core_neighbours(&self) -> &Neighbours {
        &self.core
    }

    /// Where the kernel found a node on an access link.
    pub(crate) fn access_neighbour(&self, index: u32, address: Ipv6Addr) -> Option<LinkLayerAddress> {
        self.access.get(&(index, address)).copied()
    }

    /// When an interface that could not be configured is to be tried again.
    pub(crate) fn retry_at(&self) -> Option<Instant> {
        self.all.iter().filter_map(|interface| interface.retry_at).min()
    }

    /// Something that needs the interface of `port` did not work: do it all again.
    pub(crate) fn failed(&mut self, port: &str, retry: Duration) {
        for interface in self
            .all
            .iter_mut()
            .filter(|interface| interface.settings.port == port)
        {
            interface.configured = None;
            interface.retry_at = Some(Instant::now() + retry);
        }
    }

    /// Configures what is new, different, or due again. A failure is reported once, not at each attempt.
    pub(crate) async fn configure_pending(&mut self, retry: Duration) -> Vec<Configured> {
        let mut done = Vec::new();
        for interface in &mut self.all {
            let Some(link) = interface.link.clone() else {
                continue;
            };
            let waiting = interface.retry_at.is_some_and(|at| at > Instant::now());
            if interface.configured.as_ref() == Some(&link) || waiting {
                continue;
            }
            let result = self.kernel.configure(&link, &interface.settings).await;
            interface.retry_at = result.is_err().then(|| Instant::now() + retry);
            // It is up now, and the kernel will say so.
            let configured = Link {
                up: true,
                ..link.clone()
            };
            interface.configured = result.is_ok().then_some(configured);
            if result.as_ref().is_err_and(KernelError::is_gone) {
                continue;
            }
            let first = interface.announced != Some(link.index);
            if result.is_ok() {
                interface.announced = Some(link.index);
            }
            let reason = result.as_ref().err().map(ToString::to_string).unwrap_or_default();
            let repeated = !reason.is_empty() && reason == interface.told;
            interface.told = reason;
            if repeated {
                continue;
            }
            done.push(Configured {
                link,
                port: interface.settings.port.clone(),
                access: interface.settings.side == Side::Access,
                first,
                result,
            });
        }
        done
    }

    /// Has the kernel resolve a neighbour on a core port.
    pub(crate) fn resolve(&self, port: &str, address: Ipv6Addr) {
        for interface in self
            .all
            .iter()
            .filter(|interface| interface.settings.port == port)
        {
            if let (Some(link), Side::Core) = (&interface.link, interface.settings.side) {
                resolve(&self.kernel, link.index, address);
            }
        }
    }

    /// Has the kernel make sure that every gateway is where it was, and those of
    /// `others` that are on the link of a core port.
    pub(crate) fn probe(&self, others: &BTreeSet<Ipv6Addr>) {
        for interface in self
            .all
            .iter()
            .filter(|interface| interface.settings.side == Side::Core)
        {
            let Some(link) = &interface.link else { continue };
            let gateways = interface.settings.routes.iter().map(|(_, gateway)| gateway);
            let on_link = others.iter().filter(|other| {
                let addresses = interface.settings.addresses.iter();
                addresses
                    .filter(|address| address.prefix_len() < 128)
                    .any(|address| address.contains(*other))
            });
            for address in gateways.chain(on_link) {
                resolve(&self.kernel, link.index, *address);
            }
        }
    }
}

/// Off the event loop: nothing waits for it.
fn resolve(kernel: &Kernel, index: u32, address: Ipv6Addr) {
    let kernel = kernel.clone();
    tokio::spawn(async move {
        if let Err(error) = kernel.resolve(index, address).await {
            tracing::debug!(%error, "a neighbour cannot be resolved");
        }
    });
}
